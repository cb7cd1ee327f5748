"""What ``torch.save`` wrote, read without torch's unpickler: every claim is compared with what the file holds.

The pickle is walked through with a few opcodes of Python's own unpickler, none of which can run code; tensors are built
here, from the stored bytes. A pickle is short (``MOST_PICKLED``) and each of its steps is small, so that none takes
longer than a fraction of a second.
"""

import io
import math
import pickle
import sys
import zipfile
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from labkit.course.submission.archive import BOUNDED, LIMITS
from labkit.course.submission.foreign import MEGABYTE, Refused, shown, unreadable

MOST_PICKLED = 100_000  # bytes, so opcodes too, that describe the tensors of one file; a network needs 5,000
MOST_NUMBERS = 1_000_000  # in one tensor; the whole network has 125,130
MOST_ARGUMENTS = 8  # of a call: a tensor has seven
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DICT, TENSOR = ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2")
PARAMETER = ("torch._utils", "_rebuild_parameter")
KNOWN = {DICT, TENSOR, PARAMETER, *(("torch", name) for name in DTYPES)}
OPCODES = {
    pickle.PROTO, pickle.STOP, pickle.MARK, pickle.POP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE,
    pickle.SHORT_BINUNICODE, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.APPEND,
    pickle.APPENDS, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.BINGET,
    pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.FRAME, pickle.GLOBAL,
    pickle.STACK_GLOBAL, pickle.BINPERSID,
}  # fmt: skip


@dataclass(frozen=True)
class _Global:
    """A name that a pickle speaks of; nothing is imported for it."""

    module: str
    name: str


@dataclass(frozen=True, eq=False)
class _Storage:
    numbers: torch.Tensor


class _Reader(pickle._Unpickler):  # the one in Python: no huge tables on request
    """Reads dicts, lists, numbers, text and tensors, and refuses what no network needs."""

    stack: list[Any]
    pop_mark: Any
    dispatch: ClassVar[dict[int, Any]] = {
        code: handler for code, handler in pickle._Unpickler.dispatch.items() if bytes([code]) in OPCODES
    }

    def __init__(self, content: bytes, stored: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self.stored, self.storages = stored, dict[str, _Storage]()

    def find_class(self, module: str, name: str) -> _Global:
        if (module, name) not in KNOWN:
            raise Refused(f"holds Python objects ({shown(module, 40)}.{shown(name, 40)}), not only tensors")
        return _Global(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, numbers = pid
        plain = isinstance(storage, _Global) and type(key) is str and type(numbers) is int
        if kind != "storage" or not plain or storage.name not in DTYPES:
            raise Refused("has a storage of an unknown kind")
        dtype, content = DTYPES[storage.name], self.stored.get(f"data/{key}")
        if content is None or len(content) != numbers * dtype.itemsize:
            raise Refused(f"claims {numbers:,} numbers in a storage of {len(content or b''):,} bytes")
        if key not in self.storages:
            whole = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.storages[key] = _Storage(whole)
        if self.storages[key].numbers.dtype != dtype:
            raise Refused("has a storage of two kinds")
        return self.storages[key]

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Global) or type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
            raise Refused("calls what cannot be called")
        called = function.module, function.name
        if called == DICT and not arguments:
            self.stack.append({})
        elif called == TENSOR:
            self.stack.append(_tensor(*arguments))
        elif called == PARAMETER and isinstance(arguments[0], torch.Tensor):
            self.stack.append(arguments[0])
        else:
            raise Refused(f"calls {function.module}.{function.name}")

    def load_build(self) -> None:
        # torch would let a tensor get another size.
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
        if type(self.stack[-1]) is not dict:  # an item of a tensor would be its numbers
            raise Refused(f"sets an item of a {type(self.stack[-1]).__name__}")
        self.stack[-1][key] = value

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """A tensor of no more than its storage holds."""
    plain = isinstance(storage, _Storage) and type(size) is type(stride) is tuple and len(size) == len(stride) <= 4
    if not plain or any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise Refused("has a tensor of an unknown kind")
    numbers, stored = math.prod(size), len(storage.numbers)
    if math.prod(length or 1 for length in size) > MOST_NUMBERS:
        raise Refused(f"has a tensor of {numbers:,} numbers; the largest of the series has 73,728")
    reach = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) + 1
    if numbers > stored or (numbers and reach > stored):
        raise Refused(f"has a tensor that claims {numbers:,} numbers where {stored:,} are stored")
    if not numbers:
        return torch.empty(size, dtype=storage.numbers.dtype)
    return storage.numbers.as_strided(size, stride, offset)


def read_tensors(content: bytes) -> dict[Any, Any]:
    """What ``torch.save`` wrote.

    Raises:
        Refused: with the reason.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            described, stored = _members(archive)
        found = _Reader(described, stored).load()
    except Refused:
        raise
    except zipfile.BadZipFile as error:
        raise Refused(f"was not written by labkit.save_network, or before torch 1.6 ({shown(str(error))})") from None
    except Exception as error:  # a broken pickle raises nearly anything
        raise Refused(unreadable(error)) from None
    if not isinstance(found, dict):
        raise Refused(f"holds a {type(found).__name__}, not a network")
    return found


def _members(archive: zipfile.ZipFile) -> tuple[bytes, dict[str, bytes]]:
    """The pickle, and the other members by their names beside it."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len({name.casefold() for name in names}) < len(names):  # torch does not distinguish upper and lower case
        raise Refused("has two entries of one name")
    if sum(entry.file_size for entry in entries) > LIMITS[".pth"]:
        raise Refused(f"unpacks to more than {LIMITS['.pth'] // MEGABYTE} MB")
    pickles = [entry for entry in entries if entry.filename.casefold().endswith("/data.pkl")]
    # Bit 4 says that it is a folder: torch would leave its numbers uninitialised.
    odd = [entry for entry in entries if entry.compress_type not in BOUNDED or entry.external_attr & 0x10]
    if len(pickles) != 1 or odd:
        raise Refused("was not written by torch.save")
    if pickles[0].file_size > MOST_PICKLED:
        raise Refused(f"describes its tensors in more than {MOST_PICKLED:,} bytes")
    prefix = pickles[0].filename[: -len("data.pkl")]
    try:
        stored = {entry.filename.removeprefix(prefix): _read(archive, entry) for entry in entries}
    except zipfile.BadZipFile:
        raise Refused("fails its checksums") from None
    if stored.get("byteorder", sys.byteorder.encode()) != sys.byteorder.encode():
        raise Refused("was written on a machine of another byte order")
    return stored.pop(pickles[0].filename.removeprefix(prefix)), stored


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A member as long as it claims; without a number, zipfile would unpack whatever there is at once."""
    with archive.open(entry) as file:
        return file.read(entry.file_size + 1)
