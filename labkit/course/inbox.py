"""Whose submissions these are: archives, folders or loose files, as packed, or as Canvas and Moodle hand out a class.

Knows names and files; what is in them, only as far as they say whose they are.
"""

import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from labkit.course.roster import Entry, Person
from labkit.course.submission.archive import ARCHIVE, BOUNDED, MOST_BYTES, is_junk, read_files, usual_name, walk
from labkit.course.submission.foreign import Refused, shown
from labkit.course.submission.reading import id_or_nothing, packed_of, student_of

# Name, late, number, or no name; number of the file; file. Moodle: name, number, plugin, file.
CANVAS = re.compile(
    r"(?:(.+?)_(late_)?(\d{1,20})|(late_)?anon_([^_]{1,20}))_(\d{1,20})_(.+)", re.IGNORECASE | re.DOTALL
)
MOODLE = re.compile(r"(.+)_(\d{1,20})_assign(submission_[a-z]{1,20}|feedback_.{,20}?)(?:_(.*))?", re.DOTALL)
OURS = re.compile(r"labs_(.+?)(?:[ _]?\(\d+\))?", re.IGNORECASE)
ATTEMPT = re.compile(r"(?:-|[ _]?\()(\d+)\)?$")
NOTES = re.compile(r".*\.(csv|html?|md)|(?!.*\.ipynb\.).*\.txt|readme", re.IGNORECASE | re.DOTALL)
# In a name longer than most file systems take, so many characters are left of each of its parts.
MOST_OF_A_NAME, LEFT, MOST_PARTS = 200, 16, 12


@dataclass(frozen=True)
class _Label:
    """What a name says of a submission.

    Attributes:
        text: the whole name.
        file: what the student called it.
        name: the student's, as the platform writes it.
        number: that the platform knows the student by; "" where no platform wrote the name.
        serial: Canvas's number of the file, which grows from upload to upload.
        late: the platform says so.
        shared: how the names of all files of this hand-in begin.
    """

    text: str
    file: str
    name: str = ""
    number: str = ""
    serial: int = 0
    late: bool = False
    shared: str = ""


def _label(text: str) -> _Label:
    if match := MOODLE.fullmatch(text):
        name, number, _, file = match.groups("")
        return _Label(text, file, name, number, shared=text.removesuffix(file))
    match = CANVAS.fullmatch(text)
    if match is None or text.casefold().startswith("labs_"):
        return _Label(text, text)
    name, late, number, late_too, anonymous, serial, file = match.groups("")
    return _Label(text, file, name, number or anonymous, int(serial), bool(late or late_too), text[: match.start(6)])


def class_folder(path: Path, scratch: Path) -> Path:
    """The folder of all submissions: what a platform's bulk zip holds, also if such zips are all that is in ``path``.

    Raises:
        ValueError: ``path`` is a file, and no bulk zip.
    """
    if not path.is_dir():
        return unpack_bulk(path, scratch)
    files = [file for file in path.iterdir() if not is_junk(file.name) and not NOTES.fullmatch(file.name)]
    if not files or not all(map(_is_bulk, files)):
        return path
    for file in files:
        unpack_bulk(file, scratch / file.stem)
    return scratch


def _is_bulk(path: Path) -> bool:
    """Whether a platform has named everything in a zip, but not the zip, so that it is no student's."""
    if _label(path.name).number or path.is_symlink() or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    places = list(filter(None, map(_harmless, names)))
    return bool(places) and all(any(_label(part).number for part in parts) for parts in places)


def unpack_bulk(path: Path, folder: Path) -> Path:
    """Put the files of a platform's bulk zip into a folder, under harmless names.

    What cannot be read, or is no archive and no part of the labs, is left empty: whose it is, is known then.

    Raises:
        ValueError: it is no bulk zip.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a folder nor a zip")
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(entry.filename == "manifest.json" for entry in entries):
            raise ValueError(f"{path} is one submission; give the folder that it lies in")
        places = [(parts, entry) for entry in entries if (parts := _harmless(entry.filename))]
        times = Counter[Path]()
        # Deep ones first: where a file has the name of a folder, the folder keeps it.
        for parts, entry in sorted(places, key=lambda place: -len(place[0])):
            target = folder.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            place, ending = target, ARCHIVE.search(target.name)
            stem = target.name[: ending.start()] if ending else target.name
            while target.exists():
                times[place] += 1
                target = place.with_name(f"{stem} ({times[place] + 1}){ending[0] if ending else ''}")
            content = b""
            if entry.file_size <= MOST_BYTES and entry.compress_type in BOUNDED and not entry.flag_bits & 1:
                # What a broken entry raises depends on where it is broken.
                with suppress(Exception), archive.open(entry) as file:
                    content = file.read(MOST_BYTES)
            if len(parts) == 1 or ending or usual_name(target.name):
                target.write_bytes(content)
    return folder


def _harmless(name: str) -> list[str]:
    """The parts of a path, for any file system; none if nobody handed it in."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..")]
    if any(is_junk(part) for part in parts):
        return []
    plain = [re.sub(r"[^\w. @+()-]", "_", unicodedata.normalize("NFC", part)) for part in parts]
    short = [_shortened(part.lstrip(".").rstrip(". ") or "_") for part in plain]
    return short[:2] + short[2:][2 - MOST_PARTS :]


def _shortened(name: str) -> str:
    if len(name.encode()) <= MOST_OF_A_NAME:
        return name
    label = _label(name)
    file = label.file if len(label.file) <= 2 * LEFT else label.file[:LEFT] + label.file[-LEFT:]
    return name.removesuffix(label.file).replace(label.name, label.name[:LEFT], 1) + file


def find_entries(folder: Path, people: Sequence[Person]) -> list[Entry]:
    """All submissions in a folder, one for each student: the newest, with the others' names in ``older``.

    Raises:
        ValueError: the folder is itself a submission.
    """
    if (folder / "manifest.json").is_file() or all((folder / name).is_dir() for name in ("notebooks", "models")):
        raise ValueError(f"{folder} is one submission; give the folder that it lies in")
    ids = {person.student for person in people}
    entries = [_entry(path, label, people, ids) for path, label in _pieces(folder, ids)]
    own = {entry.student for entry in entries if entry.named in ("", entry.student)}
    several: dict[str, list[Entry]] = {}
    for entry in entries:
        key = entry.platform_id or entry.student or f"? {entry.path}"
        if entry.named not in ("", entry.student) and entry.student in own and not entry.platform_id:
            # Two say that they are by one; the other name keeps them apart.
            key, entry.student = f"{entry.named} {entry.student}", entry.named
        several.setdefault(key, []).append(entry)
    # Where two claim one ID, the last counts in the tables: the student's own, and preferably a platform's.
    newest = [_newest(several[key]) for key in sorted(several, key=lambda key: " " not in key)]
    return sorted(newest, key=lambda entry: (entry.student, bool(entry.platform_id)))


def _newest(attempts: list[Entry]) -> Entry:
    """The one packed last; where one does not say when it was packed, the platform's number or the file's decides."""
    start = datetime.min.replace(tzinfo=UTC)
    sure = all(entry.packed for entry in attempts)
    attempts.sort(key=lambda e: (e.packed if sure and e.packed else start, e.attempt, e.packed or start, e.path.name))
    *older, newest = attempts
    newest.older = [shown(entry.path.name) for entry in older]
    return newest


def owners_of(entries: Sequence[Entry], folder: Path) -> list[str]:
    """A name for each submission: its student's ID; if that is unknown, or two claim one ID, also its place.

    A blank, which is in no ID, distinguishes such names from IDs.
    """
    students = [entry.student for entry in entries]
    places = [shown(str(entry.path.relative_to(folder)), 300) for entry in entries]
    pairs = zip(students, places, strict=True)
    return [one if one and students.count(one) == 1 else f"{one or '?'} {place}" for one, place in pairs]


def _pieces(folder: Path, ids: Collection[str]) -> Iterator[tuple[Path, _Label]]:
    """Submissions in a folder, each with the name that says whose it is; loose files of one hand-in are one."""
    together: dict[str, list[tuple[Path, _Label]]] = {}
    for path in sorted(folder.iterdir()):
        label, moodle = _label(path.name), MOODLE.fullmatch(path.name)
        if is_junk(path.name) or (moodle and not moodle[3].startswith("submission_file")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _pieces_within(path, label, ids)
        elif not NOTES.fullmatch(path.name):
            together.setdefault(label.shared or path.name, []).append((path, label))
    for shared, files in together.items():
        newest = max((label for _, label in files), key=lambda label: label.serial)
        archives = [(path, label) for path, label in files if ARCHIVE.search(path.name)]
        loose = any(usual_name(label.file) for _, label in files) or _are_parts([path for path, _ in archives])
        if newest.shared and (loose or not archives):
            yield folder / f"{shared}*", replace(newest, file="")
        else:
            yield from archives or files


def _are_parts(archives: Sequence[Path]) -> bool:
    """Whether archives have no file in common, as ``notebooks.zip`` and ``models.zip``; else they are attempts."""
    if len(archives) < 2:
        return False
    contents = [read_files(path).content.keys() - {"manifest.json", "student.json"} for path in archives]
    return all(contents) and sum(map(len, contents)) == len(set().union(*contents))


def _pieces_within(folder: Path, label: _Label, ids: Collection[str]) -> Iterator[tuple[Path, _Label]]:
    """The submission that a folder is, or those that lie in it."""
    try:
        files = list(walk(folder))
    except (Refused, OSError):
        files = []  # the reader will say why
    archives, loose = [path for path in files if ARCHIVE.search(path.name)], any(usual_name(x.name) for x in files)
    facts = [path.parent for path in files if path.name in ("manifest.json", "student.json")]
    roots = {place.parent if place.name == "models" and place != folder else place for place in facts}
    if not label.number and not _id_in(folder.name, ids) and _holds_a_class(folder, files, ids):
        yield from _pieces(folder, ids)
    elif len(roots) > 1 and folder not in roots:
        yield from ((root, label if label.number else _label(root.name)) for root in sorted(roots))
    elif archives and not loose and not (label.number and _are_parts(archives)):
        for path in archives:
            # One of several in a folder has its own name; to a single one that of the folder says more.
            whose = label if label.number or len(archives) == 1 else _label(path.name)
            yield path, replace(whose, file=path.name)
    else:
        yield folder, label


def _holds_a_class(folder: Path, files: Sequence[Path], ids: Collection[str]) -> bool:
    """Whether names in a folder, not its own, say whose the files are."""
    places = [path.relative_to(folder).parts for path in files]
    if {"notebooks", "models"} & {parts[0] for parts in places if len(parts) > 1}:
        return False
    names = {part for parts in places for part in parts[:-1]}
    names |= {parts[-1] for parts in places if ARCHIVE.search(parts[-1]) or usual_name(parts[-1])}
    return any(_label(name).number or _id_in(name, ids) for name in names)


def _entry(path: Path, label: _Label, people: Sequence[Person], ids: Collection[str]) -> Entry:
    files = read_files(path, ("manifest.json", "student.json"))
    told, packed = student_of(files), packed_of(files)
    person = _person(people, label) if label.number else None
    # A platform knows whose a file is; of the student's own name for it only an ID of the class counts then.
    names = [ARCHIVE.sub("", name) for name in (label.file, label.text)][: 1 if label.number else 2]
    if not label.number and not path.is_dir() and not ARCHIVE.search(path.name):
        names = [""]  # a stray file
    ours = next(filter(None, map(OURS.fullmatch, names)), None)
    named = next(filter(None, (_id_in(name, {*ids, told} - {""}) for name in names)), "")
    named = named or (id_or_nothing(ours[1]) if ours and not label.number else "")
    student = next((one for one in (told, named) if one in ids), told or named)
    if not student and not label.number:
        plain = [re.sub(r"[ _]?\(\d+\)$", "", name) for name in reversed(names)]
        student = next(filter(None, map(id_or_nothing, plain)), "")
    student = person.student if person else student
    known = next((one for one in people if one.student == student), None)
    name = known.name if known and known.name else shown(label.name)
    number = ATTEMPT.search(names[0])
    if number and names[0].casefold().endswith(tuple(filter(None, (told, named, student)))):
        number = None  # the ID itself ends so
    attempt = label.serial or (int(number[1]) if number else 0)
    return Entry(path, student, name, attempt, label.late, packed, label.number, named=named)


def _id_in(name: str, ids: Collection[str]) -> str:
    """The ID in a name, between signs that are not letters or digits; "" if there is none, or more than one."""
    text = unicodedata.normalize("NFKC", ARCHIVE.sub("", name)).casefold()
    words = list(re.finditer(r"[^\W_]+", text))
    parts = {text[a.start() : b.end()] for at, a in enumerate(words) for b in words[at : at + 5]}
    parts = {part for part in parts if len(part) > 2 or part == text}  # (7) may be the number of a copy
    longest, *others = sorted(parts & set(ids), key=len, reverse=True) or [""]
    return longest if all(other in longest for other in others) else ""


def _person(people: Sequence[Person], label: _Label) -> Person | None:
    """Whom the platform means: by its number, or else by the name, if only one has it."""
    # Only Canvas has serial numbers; a number of the other platform may be somebody else's.
    by_number = [p for p in people if label.number == (p.canvas_id if label.serial else p.moodle_id)]
    by_name = [person for person in people if _letters(label.name) in _spellings(person.name) - {""}]
    fitting = by_number or by_name
    return fitting[0] if len(fitting) == 1 else None


def _letters(name: str) -> str:
    """A name as Canvas writes it: letters only."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", name).casefold()))


def _spellings(name: str) -> set[str]:
    """A name as Canvas may write it: any of its parts first, then those that follow, then the rest."""
    parts = name.replace(",", " ").split()
    return {_letters("".join(parts[first:] + parts[:first])) for first in range(len(parts))}
