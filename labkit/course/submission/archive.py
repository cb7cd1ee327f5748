"""A zip or a folder as bytes: nothing is unpacked to disk, no link is followed, and every size is bounded."""

import stat
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from labkit.course.submission.foreign import MEGABYTE, Refused, shown, unreadable
from labkit.course.task import NOTEBOOKS, TASKS

MOST_LISTED = 20_000  # a zipped project folder may have its .venv in it
MOST_ENTRIES = 400
SKIPPED = {"__MACOSX", ".ipynb_checkpoints", ".venv"}
MOST_BYTES = 80 * MEGABYTE  # of a submission, unpacked
LIMITS = {".ipynb": 12 * MEGABYTE, ".pth": 4 * MEGABYTE, ".json": MEGABYTE}
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # with the others, zipfile unpacks all at once, whatever the size
ARCHIVES = (".zip", ".tar", ".gz", ".7z", ".rar")


def wanted_files() -> frozenset[str]:
    """Base names of the files that a submission may have."""
    networks = (task.network or name for name, task in TASKS.items())
    notebooks = (f"{name}.ipynb" for name in NOTEBOOKS)
    return frozenset({"manifest.json", "student.json", *notebooks, *(f"{name}.pth" for name in networks)})


@dataclass
class Files:
    """What a submission holds, by base name, and what was noticed on the way.

    Attributes:
        content: base name -> bytes, of the files that a submission may have.
        refused: base name (or "" for the whole submission) -> why it was not read.
        flags: what else is worth a look.
    """

    content: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Item:
    """One file of a zip or a folder.

    Attributes:
        name: its path.
        size: in bytes, as it claims.
        open: opens it.
        flag: why it is not looked at, whatever it is.
        refusal: why it is not read, if it is wanted.
    """

    name: str
    size: int
    open: Callable[[], IO[Any]]
    flag: str = ""
    refusal: str = ""

    @property
    def base(self) -> str:
        return PurePosixPath(self.name).name


def read_files(path: Path, wanted: Collection[str] | None = None) -> Files:
    """The wanted files of a zip or a folder. Never raises because of what is in it."""
    files = Files()
    wanted = wanted_files() if wanted is None else wanted
    try:
        if path.is_symlink():
            raise Refused("is a symbolic link; links are not followed")
        if path.is_dir():
            _read(_items_of_folder(path), wanted, files)
        elif path.is_file() and zipfile.is_zipfile(path):  # to look into a pipe would be to wait for ever
            if path.stat().st_size > MOST_BYTES:
                raise Refused(f"is larger than {MOST_BYTES // MEGABYTE} MB")
            with zipfile.ZipFile(path) as archive:
                _read(_items_of_zip(archive), wanted, files)
        else:
            raise Refused("is neither a zip nor a folder")
    except Refused as error:
        files.refused[""] = str(error)
    except Exception as error:  # what a broken archive raises depends on where it is broken
        files.refused[""] = unreadable(error)
    if not files.content and not files.refused:
        files.refused[""] = "holds no notebook and no network of the series"
    return files


def _items_of_folder(folder: Path) -> Iterator[_Item]:
    for count, path in enumerate(_walk(folder)):
        if count >= MOST_ENTRIES:
            raise Refused(f"has more than {MOST_ENTRIES} files")
        status, flag = path.lstat(), ""
        if stat.S_ISLNK(status.st_mode):
            flag = "symbolic link, not followed"
        elif not stat.S_ISREG(status.st_mode):
            flag = "neither file nor folder"
        yield _Item(path.relative_to(folder).as_posix(), status.st_size, partial(path.open, "rb"), flag)


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


def _items_of_zip(archive: zipfile.ZipFile) -> Iterator[_Item]:
    entries = archive.infolist()
    if len(entries) > MOST_LISTED:
        raise Refused(f"has {len(entries):,} entries, more than {MOST_LISTED:,}")
    claimed = sum(entry.file_size for entry in entries if not SKIPPED & set(PurePosixPath(entry.filename).parts))
    if claimed > MOST_BYTES:
        raise Refused(f"unpacks to {claimed / MEGABYTE:,.0f} MB, more than {MOST_BYTES // MEGABYTE}")
    for entry in sorted(entries, key=lambda entry: entry.filename.count("/")):
        name = entry.filename.replace("\\", "/")  # as older Windows zips are written
        parts = PurePosixPath(name).parts
        if entry.is_dir() or SKIPPED & set(parts):
            continue
        flag = refusal = ""
        if stat.S_ISLNK(entry.external_attr >> 16):
            flag = "symbolic link, not followed"
        elif name.startswith("/") or ".." in parts or ":" in name[:3]:
            flag = "a path that leads out of the submission, not read"
        elif name.lower().endswith(ARCHIVES):
            flag = "an archive inside the submission, not opened"
        elif entry.flag_bits & 1:
            refusal = "is encrypted"
        elif entry.compress_type not in BOUNDED:
            refusal = "is compressed in a way that is not read"
        yield _Item(name, entry.file_size, partial(archive.open, entry), flag, refusal)


def _read(items: Iterator[_Item], wanted: Collection[str], files: Files) -> None:
    total = 0
    for item in items:
        if item.flag:
            files.flags.append(f"{item.flag}: {shown(item.name)}")
            continue
        if item.refusal == "is encrypted":
            files.refused[shown(item.base)] = item.refusal
            continue
        if item.base != shown(item.base, 200):
            files.flags.append(f"a file name with control or direction characters: {shown(item.name)}")
        if item.base not in wanted:
            continue
        total += item.size
        if total > MOST_BYTES:
            raise Refused(f"is larger than {MOST_BYTES // MEGABYTE} MB")
        if item.base in files.content or item.base in files.refused:
            files.flags.append(f"{item.base} is there more than once; the first one counts, not {shown(item.name)}")
            continue
        try:
            files.content[item.base] = _content(item)
        except Refused as error:
            files.refused[item.base] = str(error)
        except Exception as error:  # what a broken entry raises depends on where it is broken
            files.refused[item.base] = unreadable(error)


def _content(item: _Item) -> bytes:
    """The bytes of one file; what is wrong with it is no harm to the others."""
    if item.refusal:
        raise Refused(item.refusal)
    limit = LIMITS[PurePosixPath(item.base).suffix]
    if item.size <= limit:
        with item.open() as file:
            content: bytes = file.read(limit + 1)
        if len(content) <= limit:
            return content
    raise Refused(f"is larger than {limit // MEGABYTE} MB")
