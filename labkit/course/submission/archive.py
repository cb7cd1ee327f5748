"""A zip, a tar or a folder as bytes: nothing is unpacked to disk, no link is followed, and every size is bounded."""

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from labkit.course.submission.foreign import MEGABYTE, Refused, shown, unreadable
from labkit.course.task import NOTEBOOKS, TASKS

MOST_LISTED = 20_000  # a zipped project folder may have its .venv in it
MOST_NAMED, MOST_OPENED = 20, 4  # things of one kind in flags; archives in a folder or an archive
DEEPEST, LONGEST = 12, 300  # folders, and characters of a file's name
# Of machines and tools, and the networks that every student was given; in lower case.
SKIPPED = {"__macosx", "venv", "node_modules", "site-packages", "__pycache__", "reference"}
JUNK = re.compile(
    r"\.[^.].*|~\$.*|desktop\.ini|thumbs\.db|.*\.before-repair.*|.*-checkpoint\.ipynb", re.IGNORECASE | re.DOTALL
)
MOST_BYTES = 80 * MEGABYTE  # of a submission, unpacked
LIMITS = {".ipynb": 12 * MEGABYTE, ".pth": 4 * MEGABYTE, ".json": MEGABYTE}
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # with the others, zipfile unpacks all at once, whatever the size
# Canvas and browsers write the number of a copy before the last ending only: labs.tar-1.gz.
ARCHIVE = re.compile(r"\.(?:zip|tar(?:(?:-\d+|[ _]?\(\d+\))?\.\w{1,4})?|tgz|tbz2?|txz|7z|rar)$", re.IGNORECASE)
WORK = re.compile(r"(\.ipynb|\.pth|\.json)(?:(?<=\.ipynb)\.(?:txt|json))?$", re.IGNORECASE)
BROKEN_OFF = " (an upload or a download may have broken off)"
CLOSED = {b"7z\xbc\xaf\x27\x1c": "a 7z", b"Rar!": "a rar"}
COMPRESSED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ": lzma}
# What browsers, editors and platforms add to the name of a copy. Canvas also writes its number before a loose file.
COPY = re.compile(r"(?:[ _]*\((\d+|copy|kopie)\)|[ _-]+(?:copy|kopie|copia)[ _-]?(\d*)|-(\d+))$")
BEFORE = re.compile(r"^(?:(\d{3,})_(?=.)|(?:copy of|kopie von|copia de) )", re.IGNORECASE)


def wanted_files() -> frozenset[str]:
    """Base names of the files that a submission may have."""
    networks = (task.network or name for name, task in TASKS.items())
    notebooks = (f"{name}.ipynb" for name in NOTEBOOKS)
    return frozenset({"manifest.json", "student.json", *notebooks, *(f"{name}.pth" for name in networks)})


def usual_name(base: str, wanted: Collection[str] | None = None) -> str:
    """The wanted name that a file goes by, such as ``01_training.ipynb`` for ``01_Training (1).IPYNB``, or ""."""
    if len(base) > LONGEST or not WORK.search(base):
        return ""
    wanted = wanted_files() if wanted is None else wanted
    plain = BEFORE.sub("", unicodedata.normalize("NFKC", base).casefold().strip(), count=1)
    stem, ending = WORK.sub("", plain), WORK.findall(plain)[0]
    folded = {name.casefold(): name for name in wanted}
    while f"{stem}{ending}" not in folded and COPY.search(stem):
        stem = COPY.sub("", stem)
    words = re.sub(r"[^a-z0-9]+", "_", stem)
    within = (name for name in wanted if name.endswith(".ipynb") and name.removesuffix(".ipynb") in words)
    return folded.get(f"{stem}{ending}") or (next(within, "") if ending == ".ipynb" else "")


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
    """One file of a zip, a tar or a folder.

    Attributes:
        name: its path.
        size: in bytes, as it claims.
        open: opens it.
        flag: why it is not looked at, whatever it is.
        refusal: why it is not read, if it is wanted.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]
    flag: str = ""
    refusal: str = ""

    @property
    def base(self) -> str:
        return PurePosixPath(self.name).name

    def order(self, usual: str) -> tuple[int, bool, int, int]:
        """Of several files of one name the first counts: Canvas's newest, the exact name, the highest copy."""
        base = self.base[-LONGEST:]  # a name may have 65,000 characters
        before, copy = BEFORE.match(base), COPY.search(PurePosixPath(base).stem.casefold())
        exact = (base[before.end() :] if before else base) == usual
        number = next((int(digits) for digits in copy.groups() if digits and digits.isdigit()), 0) if copy else 0
        return -int((before and before[1]) or 0), not exact, -number, self.name.count("/")


def is_junk(name: str) -> bool:
    """Whether a file's name is that of a machine's or a tool's own file, which nobody hands in."""
    return bool(JUNK.fullmatch(name)) or name.casefold() in SKIPPED


@contextmanager
def _refused(files: Files, name: str) -> Iterator[None]:
    """An error inside is the reason why a file, or the whole submission, is not read."""
    try:
        yield
    except Refused as error:
        files.refused[name] = str(error)
    except EOFError:
        files.refused[name] = f"ends too early{BROKEN_OFF}"
    except Exception as error:  # what a broken file raises depends on where it is broken
        files.refused[name] = unreadable(error)


def read_files(path: Path, wanted: Collection[str] | None = None) -> Files:
    """The wanted files of a zip, a tar or a folder. Never raises because of what is in it.

    Args:
        path: where they are; with ``*`` at its end, the files in one folder whose names begin so.
        wanted: their base names; all that a submission may have, if None.
    """
    files = Files()
    with _refused(files, ""), ExitStack() as stack:
        _read(_items(path, stack), wanted_files() if wanted is None else wanted, files, int(path.is_file()))
    if not files.content and not files.refused:
        files.refused[""] = "holds no notebook and no network of the series"
    return files


def _items(path: Path, stack: ExitStack) -> Iterator[_Item]:
    if path.name.endswith("*") and not path.exists():
        beside = (file for file in sorted(path.parent.iterdir()) if file.name.startswith(path.name[:-1]))
        return (_item_of_file(file, file.name.removeprefix(path.name[:-1])) for file in beside)
    if path.is_symlink():
        raise Refused("is a symbolic link; links are not followed")
    if path.is_dir():
        return (_item_of_file(file, file.relative_to(path).as_posix()) for file in walk(path))
    if not path.is_file():  # to look into a pipe would be to wait for ever
        raise Refused("is neither a zip nor a folder")
    if path.stat().st_size > MOST_BYTES:
        raise Refused(f"is larger than {MOST_BYTES // MEGABYTE} MB")
    if WORK.search(path.name):
        return iter([_item_of_file(path, path.name)])
    return _items_of_archive(stack.enter_context(path.open("rb")), stack)


def _item_of_file(path: Path, name: str) -> _Item:
    status, flag = path.lstat(), ""
    if stat.S_ISLNK(status.st_mode):
        flag = "symbolic link, not followed"
    elif not stat.S_ISREG(status.st_mode):
        flag = "neither file nor folder"
    return _Item(name, status.st_size, lambda: path.open("rb"), flag)


def walk(folder: Path) -> Iterator[Path]:
    """Files of a folder and its subfolders, shallow ones first, links not followed, without what machines add.

    Raises:
        Refused: there are too many.
    """
    waiting, count = [(folder, 0)], 0
    while waiting:
        here, depth = waiting.pop(0)
        for path in sorted(here.iterdir()):
            count += 1
            if count > MOST_LISTED:
                raise Refused(f"has more than {MOST_LISTED:,} files")
            if is_junk(path.name):
                continue
            if not path.is_dir() or path.is_symlink():
                yield path
            elif depth < DEEPEST:
                waiting.append((path, depth + 1))


def _items_of_archive(file: IO[bytes], stack: ExitStack) -> Iterator[_Item]:
    start = file.read(512)
    file.seek(0)
    if kind := next((kind for magic, kind in CLOSED.items() if start.startswith(magic)), ""):
        raise Refused(f"is {kind} archive, which is not opened here; please ask for the same files as a zip")
    kind_of_tar = next((module for magic, module in COMPRESSED.items() if start.startswith(magic)), None)
    # A tar first: its last file may be a network, and then it ends as a zip does.
    if kind_of_tar or start[257:262] == b"ustar":
        content = (kind_of_tar.open(file) if kind_of_tar else file).read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Refused(f"unpacks to more than {MOST_BYTES // MEGABYTE} MB")
        return _items_of_tar(stack.enter_context(tarfile.TarFile(fileobj=io.BytesIO(content), tarinfo=_Member)))
    if zipfile.is_zipfile(file):
        return _items_of_zip(stack.enter_context(zipfile.ZipFile(file)))
    raise Refused("is neither a zip nor a folder" + BROKEN_OFF * (start.startswith(b"PK") or not start))


class _Member(tarfile.TarInfo):
    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # Older Pythons take hours to look for a number in a header of nothing but digits.
        place = archive.fileobj.tell()
        if re.search(rb"\d{100}", archive.fileobj.read(max(self.size, 0))):
            raise Refused("has a header that no program writes")
        archive.fileobj.seek(place)
        return super()._proc_pax(archive)  # type: ignore[misc]


def _items_of_tar(archive: tarfile.TarFile) -> Iterator[_Item]:
    for count, member in enumerate(archive):
        if count >= MOST_LISTED:
            raise Refused(f"has more than {MOST_LISTED:,} entries")
        if not member.isdir():
            flag = "a link, not followed" if member.issym() or member.islnk() else "neither file nor folder"
            opened = partial(archive.extractfile, member)
            yield _Item(member.name, member.size, opened, "" if member.isreg() else flag)


def _items_of_zip(archive: zipfile.ZipFile) -> Iterator[_Item]:
    entries = archive.infolist()
    if len(entries) > MOST_LISTED:
        raise Refused(f"has {len(entries):,} entries, more than {MOST_LISTED:,}")
    for entry in entries:
        flag = refusal = ""
        if stat.S_ISLNK(entry.external_attr >> 16):
            flag = "symbolic link, not followed"
        elif entry.flag_bits & 1:
            refusal = "is encrypted"
        elif entry.compress_type not in BOUNDED:
            refusal = "is compressed in a way that is not read"
        if not entry.is_dir():
            # Older programs of Windows write backslashes.
            yield _Item(entry.filename.replace("\\", "/"), entry.file_size, partial(archive.open, entry), flag, refusal)


def _sorted_out(items: Iterator[_Item], wanted: Collection[str], notes: dict[str, list[str]]) -> dict[str, list[_Item]]:
    """Wanted base name, or "" for archives -> the files that go by it, the one that counts first."""
    pieces: dict[str, list[_Item]] = {}
    for item in (item for item in items if not any(map(is_junk, PurePosixPath(item.name).parts))):
        usual, note = usual_name(item.base, wanted), item.flag
        if not note and (item.name.startswith("/") or ".." in item.name.split("/") or ":" in item.name[:3]):
            note = "a path that leads out of the submission, not read"
        elif not note and item.refusal == "is encrypted" and not usual:
            note = "a file that is encrypted, not read"
        elif not note and (usual or ARCHIVE.search(item.base)):
            pieces.setdefault(usual, []).append(item)
        if not note and "<U+" in shown(item.base, 200):
            note = "a file name with control or direction characters"
        if note:
            notes.setdefault(note, []).append(item.name)
    for base, several in pieces.items():
        several.sort(key=lambda item: item.order(base))
    return pieces


def _read(items: Iterator[_Item], wanted: Collection[str], files: Files, level: int) -> None:
    """Read what is wanted; what is not there is looked for in archives inside, down to a zip in a zip.

    Args:
        items: of a folder or an archive.
        wanted: base names.
        files: where what is read goes.
        level: 0 for a folder, 1 for an archive, 2 for an archive in an archive.
    """
    notes: dict[str, list[str]] = {}
    pieces = _sorted_out(items, wanted, notes)
    archives = pieces.pop("", [])
    claimed = sum(item.size for several in pieces.values() for item in several)
    if claimed > MOST_BYTES:
        raise Refused(f"unpacks to {claimed / MEGABYTE:,.0f} MB, more than {MOST_BYTES // MEGABYTE}")
    for base, several in pieces.items():
        if base not in files.content and base not in files.refused:
            _read_one(several.pop(0), base, files)
        others = [item.name for item in several if not _is_equal(item, base, files)]
        notes |= {f"{base} is there more than once; not counted": others}
    opened = MOST_OPENED if level < 2 else 0
    for item in archives[:opened]:
        _read_archive(item, wanted, files, level)
    notes |= {"an archive inside the submission, not opened": [item.name for item in archives[opened:]]}
    for note, names in notes.items():
        files.flags += [f"{note}: {shown(name)}" for name in names[:MOST_NAMED]]
        if len(names) > MOST_NAMED:
            files.flags.append(f"{note}: {len(names) - MOST_NAMED:,} more")


def _read_archive(item: _Item, wanted: Collection[str], files: Files, level: int) -> None:
    before = len(files.content)
    with _refused(files, shown(item.name)), ExitStack() as stack:
        inner = io.BytesIO(_content(item, MOST_BYTES))
        _read(_items_of_archive(inner, stack), wanted, files, level + 1)
    if level and len(files.content) > before:
        files.flags.append(f"an archive inside the submission, not opened deeper than one level: {shown(item.name)}")


def _read_one(item: _Item, base: str, files: Files) -> None:
    with _refused(files, base):  # what is wrong with it is no harm to the others
        files.content[base] = _content(item, LIMITS[PurePosixPath(base).suffix])


def _is_equal(item: _Item, base: str, files: Files) -> bool:
    """Whether a second file of a name holds the same as the first."""
    second = Files()
    if item.size == len(files.content.get(base, b"")):
        _read_one(item, base, second)
    return second.content == {base: files.content.get(base)}


def _content(item: _Item, limit: int) -> bytes:
    if item.refusal:
        raise Refused(item.refusal)
    with item.open() or io.BytesIO() as file:
        content: bytes = file.read(limit + 1) if item.size <= limit else b""
    if item.size > limit or len(content) > limit:
        raise Refused(f"is larger than {limit // MEGABYTE} MB")
    return content
