"""Submissions, read as data: nothing is unpacked to disk, nothing in them is run, and every size is bounded.

A file that is not what it should be is refused with a reason; the rest of the submission is still read.
"""

import io
import json
import pickle
import stat
import unicodedata
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import torch

from labkit.checkpoints import FORMAT as NETWORK_FORMAT
from labkit.checkpoints import build_network
from labkit.cnn import CNN
from labkit.course.answers import FORMAT as ANSWER_FORMAT
from labkit.course.students import checked_id
from labkit.course.tasks import NOTEBOOKS, TASKS

MEGABYTE = 2**20
MOST_LISTED = 20_000  # a zipped project folder may have its .venv in it
MOST_ENTRIES = 400
SKIPPED = {"__MACOSX", ".ipynb_checkpoints", ".venv"}
MOST_BYTES = 80 * MEGABYTE  # of a submission, unpacked
LIMITS = {".ipynb": 12 * MEGABYTE, ".pth": 4 * MEGABYTE, ".json": MEGABYTE}
MOST_PICKLED = 100_000  # bytes that describe the tensors of one file; a network needs 5,000
MOST_BRACKETS = 200_000  # lists and dicts of a notebook, before it is parsed
MOST_CELLS = 1_000
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # with the others, zipfile unpacks all at once, whatever the size
MOST_NUMBERS = 1_000_000  # in one tensor; the whole network has 125,130


def wanted_files() -> frozenset[str]:
    """Base names of the files that a submission may have."""
    networks = (task.network or name for name, task in TASKS.items())
    notebooks = (f"{name}.ipynb" for name in NOTEBOOKS)
    return frozenset({"manifest.json", "student.json", *notebooks, *(f"{name}.pth" for name in networks)})


class Refused(ValueError):
    """A file that is not read, with the reason."""


@dataclass
class Files:
    """What a submission holds, by base name, and what was noticed on the way.

    Attributes:
        content: base name -> bytes, of the files that a submission may have.
        wanted: base names that are read.
        refused: base name (or "" for the whole submission) -> why it was not read.
        flags: what else is worth a look.
    """

    wanted: Collection[str] = field(default_factory=wanted_files)
    content: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def shown(text: str, most: int = 80) -> str:
    """Text of a stranger, on one line, with control and direction characters spelt out."""
    spelt = []
    for character in text[:most]:
        plain = character == " " or not unicodedata.category(character).startswith(("C", "Z"))
        spelt.append(character if plain else f"<U+{ord(character):04X}>")
    return "".join(spelt) + ("…" if len(text) > most else "")


def read_submission(path: Path, only: Collection[str] | None = None) -> Files:
    """Everything of interest in a zip or a folder, or some files of it. Never raises because of what is in it."""
    files = Files(wanted_files() if only is None else only)
    try:
        if path.is_symlink():
            raise Refused("is a symbolic link; links are not followed")
        if path.is_dir():
            _read_folder(path, files)
        elif path.is_file() and zipfile.is_zipfile(path):  # to look into a pipe would be to wait for ever
            if path.stat().st_size > MOST_BYTES:
                raise Refused(f"is larger than {MOST_BYTES // MEGABYTE} MB")
            with zipfile.ZipFile(path) as archive:
                _read_zip(archive, files)
        else:
            raise Refused("is neither a zip nor a folder")
    except Refused as error:
        files.refused[""] = str(error)
    except Exception as error:  # what a broken archive raises depends on where it is broken
        files.refused[""] = f"can not be read ({type(error).__name__}: {shown(str(error))})"
    if not files.content and not files.refused:
        files.refused[""] = "holds no notebook and no network of the series"
    return files


def _read_folder(folder: Path, files: Files) -> None:
    total = 0
    for count, path in enumerate(_walk(folder)):
        if count >= MOST_ENTRIES:
            raise Refused(f"has more than {MOST_ENTRIES} files")
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            files.flags.append(f"symbolic link, not followed: {shown(name)}")
        elif not stat.S_ISREG(mode):
            files.flags.append(f"neither file nor folder: {shown(name)}")
        elif _is_wanted(name, files):
            size = path.stat().st_size
            total += size
            if total > MOST_BYTES:
                raise Refused(f"is larger than {MOST_BYTES // MEGABYTE} MB")
            with path.open("rb") as file:
                _keep(name, file, size, files)


def _walk(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders, shallow ones first, links not followed."""
    waiting = [(folder, 0)]
    while waiting:
        here, depth = waiting.pop(0)
        for path in sorted(here.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if depth < 6 and path.name not in SKIPPED and len(waiting) < MOST_ENTRIES:
                    waiting.append((path, depth + 1))
            else:
                yield path


def _read_zip(archive: zipfile.ZipFile, files: Files) -> None:
    entries = archive.infolist()
    if len(entries) > MOST_LISTED:
        raise Refused(f"has {len(entries):,} entries, more than {MOST_LISTED:,}")
    claimed = sum(entry.file_size for entry in entries if not SKIPPED & set(PurePosixPath(entry.filename).parts))
    if claimed > MOST_BYTES:
        raise Refused(f"unpacks to {claimed / MEGABYTE:,.0f} MB, more than {MOST_BYTES // MEGABYTE}")
    for entry in sorted(entries, key=lambda entry: entry.filename.count("/")):
        name = entry.filename.replace("\\", "/")  # as older Windows zips are written
        if entry.is_dir() or SKIPPED & set(PurePosixPath(name).parts):
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            files.flags.append(f"symbolic link, not followed: {shown(name)}")
        elif name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name[:3]:
            files.flags.append(f"a path that leads out of the submission, not read: {shown(name)}")
        elif name.lower().endswith((".zip", ".tar", ".gz", ".7z", ".rar")):
            files.flags.append(f"an archive inside the submission, not opened: {shown(name)}")
        elif entry.flag_bits & 1:
            files.refused[shown(PurePosixPath(name).name)] = "is encrypted"
        elif _is_wanted(name, files):
            _keep_entry(archive, entry, files)


def _keep_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, files: Files) -> None:
    """Keep one file; what is wrong with it is no harm to the others."""
    name = entry.filename.replace("\\", "/")
    base = PurePosixPath(name).name
    if entry.compress_type not in BOUNDED:
        files.refused[base] = "is compressed in a way that is not read"
        return
    try:
        with archive.open(entry) as file:
            _keep(name, file, entry.file_size, files)
    except Exception as error:  # what a broken entry raises depends on where it is broken
        files.refused[base] = f"can not be read ({type(error).__name__}: {shown(str(error))})"


def _is_wanted(name: str, files: Files) -> bool:
    path = PurePosixPath(name)
    if path.name != shown(path.name, 200):
        files.flags.append(f"a file name with control or direction characters: {shown(name)}")
    return path.name in files.wanted


def _keep(name: str, file: Any, size: int, files: Files) -> None:
    base = PurePosixPath(name).name
    if base in files.content or base in files.refused:
        files.flags.append(f"{base} is there more than once; the first one counts, not {shown(name)}")
        return
    limit = LIMITS[PurePosixPath(base).suffix]
    content = b"" if size > limit else file.read(limit + 1)
    if size > limit or len(content) > limit:
        files.refused[base] = f"is larger than {limit // MEGABYTE} MB"
    else:
        files.content[base] = content


# Tensors

_STORAGES = {
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ByteStorage": 1,
    "BoolStorage": 1,
}


@dataclass(frozen=True)
class _Storage:
    numbers: int


@dataclass(frozen=True)
class _Global:
    module: str
    name: str

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "OrderedDict" and not arguments:
            return {}
        if self.name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return _checked_tensor(*arguments) if self.name == "_rebuild_tensor_v2" else arguments[0]
        raise Refused(f"calls {self.module}.{self.name}")


def _checked_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> str:
    """Refuse a tensor that claims more than its storage holds."""
    whole = all(type(number) is int and number >= 0 for number in (offset, *size, *stride))
    if not isinstance(storage, _Storage) or not whole or len(size) != len(stride) or len(size) > 4:
        raise Refused("has a tensor of an unknown kind")
    numbers = 1
    for length in size:
        numbers *= length
    if numbers > MOST_NUMBERS:
        raise Refused(f"has a tensor of {numbers:,} numbers; the largest of the series has 73,728")
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    if numbers > storage.numbers or (numbers and reach > storage.numbers):
        raise Refused(f"has a tensor that claims {numbers:,} numbers where {storage.numbers:,} are stored")
    return "tensor"


class _Inspector(pickle._Unpickler):  # the one in Python: no huge tables on request
    """Walks through a file as torch.load would, building nothing, and refuses what no network needs."""

    stack: list[Any]
    pop_mark: Any
    dispatch: ClassVar[dict[int, Any]] = {
        code: handler
        for code, handler in pickle._Unpickler.dispatch.items()
        if bytes([code])
        in {
            pickle.PROTO, pickle.STOP, pickle.MARK, pickle.POP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
            pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE,
            pickle.SHORT_BINUNICODE, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.APPEND,
            pickle.APPENDS, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.BINGET,
            pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.FRAME, pickle.GLOBAL,
            pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BINPERSID, pickle.BUILD, pickle.SETITEM, pickle.SETITEMS,
        }
    }  # fmt: skip

    def __init__(self, content: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> _Global:
        known = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")}
        known |= {("torch._utils", "_rebuild_parameter")} | {("torch", storage) for storage in _STORAGES}
        if (module, name) not in known:
            raise Refused(f"holds Python objects ({shown(module, 40)}.{shown(name, 40)}), not only tensors")
        return _Global(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, numbers = pid
        if kind != "storage" or not isinstance(storage, _Global) or type(numbers) is not int:
            raise Refused("has a storage of an unknown kind")
        width = _STORAGES[storage.name]
        if self.sizes.get(f"data/{key}") != numbers * width:
            raise Refused(f"claims {numbers:,} numbers in a storage of {self.sizes.get(f'data/{key}', 0):,} bytes")
        return _Storage(numbers)

    def load_build(self) -> None:
        # torch would let a tensor be told another size.
        if type(self.stack[-2]) is not dict:
            raise Refused("tells an object what it is")
        self.stack.pop()

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        # The hash of nested tuples can take for ever.
        if not isinstance(key, (str, int)):
            raise Refused(f"has a key that is a {type(key).__name__}")
        self.stack[-1][key] = value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def read_tensors(content: bytes) -> dict[str, Any]:
    """What ``torch.save`` wrote, after every claim in the file has been compared with what the file holds.

    ``torch.load(weights_only=True)`` runs no code; but a file can still claim a tensor of a billion numbers over one
    stored number, or unpack to any size.

    Raises:
        Refused: with the reason.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len({name.casefold() for name in names}) < len(names):  # torch does not tell upper from lower case
                raise Refused("has two entries of one name")
            if sum(entry.file_size for entry in entries) > LIMITS[".pth"]:
                raise Refused(f"unpacks to more than {LIMITS['.pth'] // MEGABYTE} MB")
            if any(entry.compress_type not in BOUNDED for entry in entries):
                raise Refused("was not written by torch.save")
            if archive.testzip():
                raise Refused("fails its checksums")
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise Refused("was not written by torch.save")
            if archive.getinfo(pickles[0]).file_size > MOST_PICKLED:
                raise Refused(f"describes its tensors in more than {MOST_PICKLED:,} bytes")
            prefix = pickles[0].removesuffix("data.pkl")
            sizes = {entry.filename.removeprefix(prefix): entry.file_size for entry in entries}
            found = _Inspector(archive.read(pickles[0]), sizes).load()
        if not isinstance(found, dict):
            raise Refused(f"holds a {type(found).__name__}, not a network")
        return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except Refused:
        raise
    except zipfile.BadZipFile as error:
        raise Refused(f"was not written by labkit.save_network ({shown(str(error))})") from None
    except Exception as error:  # a broken pickle raises nearly anything
        raise Refused(f"can not be read ({type(error).__name__}: {shown(str(error))})") from None


def read_network(content: bytes, name: str) -> tuple[CNN, list[str]]:
    """A submitted network, float32, and what is odd about it.

    Raises:
        Refused: with the reason.
    """
    try:
        return _network_of(read_tensors(content), name)
    except Refused:
        raise
    except Exception as error:  # of strange types, whatever is done with them may raise
        raise Refused(f"holds no network ({type(error).__name__}: {shown(str(error))})") from None


def _network_of(found: dict[str, Any], name: str) -> tuple[CNN, list[str]]:
    state = found.get("state") if found.get("format") == NETWORK_FORMAT else found
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise Refused("holds no network")
    sizes: dict[str, Any] = {"input_shape": (1, 28, 28), "num_of_cls": 10, "channels": _channels_of(found, name)}
    with torch.device("meta"):
        wanted = {key: tuple(tensor.shape) for key, tensor in CNN(**sizes).state_dict().items()}
    for key, tensor in state.items():
        plain = key.removesuffix("_orig").removesuffix("_mask")
        if wanted.get(plain) != tuple(tensor.shape):
            shape = "×".join(str(length) for length in tensor.shape)
            raise Refused(f"is of another architecture: {shown(str(key), 40)} has shape {shape or 'of one number'}")
        if key.endswith("_mask") and not bool(((tensor == 0) | (tensor == 1)).all()):
            raise Refused(f"has a mask with values other than 0 and 1: {key}")
    told = found.get("architecture", sizes)
    same = isinstance(told, dict) and all(_as_tuple(told.get(key)) == _as_tuple(right) for key, right in sizes.items())
    if not same:
        raise Refused("is of another architecture")
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    integers = [key for key, tensor in state.items() if not tensor.is_floating_point() and "num_batches" not in key]
    flags = [f"{name} holds {', '.join(sorted(kinds - {'float32'}))} numbers"] if kinds - {"float32"} else []
    flags += [f"{name} holds whole numbers in {integers[0]}"] if integers else []
    try:
        network = build_network({"format": NETWORK_FORMAT, "architecture": sizes, "state": state}, Path(name))
    except ValueError as error:
        raise Refused(shown(str(error), 200)) from None
    return network.float().eval(), flags


def _channels_of(found: dict[str, Any], name: str) -> tuple[int, ...]:
    """The widths that a network may have: fewer than those of CNN() for the one that was to be shrunk."""
    most = CNN().channels
    if found.get("format") != NETWORK_FORMAT:  # a plain state_dict tells its widths by its shapes
        names = [f"{name}.weight" for name in ("conv1", "conv2", "conv3")]
        tensors = [found.get(key, found.get(f"{key}_orig")) for key in names]
        widths = tuple(len(one) if isinstance(one, torch.Tensor) and one.ndim == 4 else 0 for one in tensors)
        found = {"architecture": {"channels": widths}}
    sizes = found.get("architecture")
    told: Any = _as_tuple(sizes.get("channels")) if isinstance(sizes, dict) else None
    whole = isinstance(told, tuple) and len(told) == 3 and all(type(width) is int for width in told)
    if name == "CNN_MNIST_SMALL" and whole and all(1 <= told[i] <= most[i] for i in range(3)):
        return (told[0], told[1], told[2])
    return most


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def read_answer(content: bytes, task: str) -> tuple[Any, str]:
    """A submitted answer, and the fingerprint of the network that it belongs to.

    Raises:
        Refused: with the reason.
    """
    found = read_tensors(content)
    if found.get("format") != ANSWER_FORMAT or found.get("task") != task:
        raise Refused("is no answer to this task")
    base = found.get("base", "")
    # Small nested tuples can be endless when spelt out.
    if not isinstance(base, str):
        raise Refused(f"names the network that it belongs to by a {type(base).__name__}")
    return found.get("value"), base


# Who


def manifest_of(files: Files) -> dict[str, Any]:
    """What ``labkit pack`` wrote beside the work; empty if it is not there."""
    return _json(files, "manifest.json")


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        found = json.loads(files.content.get(name, b"{}").decode("utf-8"))
        return found if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        return {}


def student_of(files: Files) -> str:
    """The ID that a submission gives itself, or ""."""
    for name in ("manifest.json", "student.json"):
        try:
            return checked_id(_json(files, name).get("student"))
        except ValueError:
            continue
    return ""


# Notebooks


def read_notebook(content: bytes) -> dict[str, Any]:
    """A notebook as plain data, with the parts that grading looks at made sure of.

    Raises:
        Refused: with the reason.
    """
    if content.count(b"{") + content.count(b"[") > MOST_BRACKETS:
        raise Refused(f"has more than {MOST_BRACKETS:,} lists and dicts")
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("is not UTF-8") from None
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"is not JSON ({shown(str(error))})") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("is not a notebook (it has no list of cells)")
    if len(cells) > MOST_CELLS:
        raise Refused(f"has {len(cells):,} cells, more than {MOST_CELLS:,}")
    metadata = found.get("metadata")
    return {"cells": [_cell(cell) for cell in cells], "metadata": metadata if isinstance(metadata, dict) else {}}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    outputs = cell.get("outputs")
    return {
        "id": str(cell.get("id", ""))[:80],
        "type": str(cell.get("cell_type", ""))[:20],
        "source": text_of(cell.get("source")),
        "output": "".join(_said(output) for output in outputs if isinstance(output, dict))[:20_000]
        if isinstance(outputs, list)
        else "",
        "ran": cell.get("execution_count") is not None,
    }


def text_of(source: Any) -> str:
    """Text that a notebook stores as a string or as a list of lines."""
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    # JSON can hold half a character, which no file can.
    return source.encode("utf-8", "replace").decode("utf-8") if isinstance(source, str) else ""


def _said(output: dict[str, Any]) -> str:
    data = output.get("data")
    if isinstance(data, dict):
        return text_of(data.get("text/plain")) + "\n"
    return text_of(output.get("text"))
