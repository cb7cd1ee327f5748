"""Whose submissions these are: zips or folders as packed, or as Canvas and Moodle hand out a whole class.

Knows names and files; what is in them, only as far as they say whose they are.
"""

import math
import re
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from labkit.course.csv_file import plain_heading, rows_of_csv
from labkit.course.students import checked_id
from labkit.course.submission.archive import BOUNDED, MOST_BYTES, read_files
from labkit.course.submission.foreign import shown, visible
from labkit.course.submission.identity import packed_of, student_of

CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_.*?(?:-(?P<attempt>\d+))?\.zip", re.DOTALL)
MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)_assignsubmission_file(?:_.*)?", re.DOTALL)
OURS = re.compile(r"(?:labs_)?(?P<id>[^/]+?)(?: ?\((?P<attempt>\d+)\))?\.zip")


CANVAS_IDS = ("sisloginid", "sisuserid")  # columns only of Canvas's export, whose "Student" is a name
MOODLE_IDS = ("idnumber", "username", "emailaddress", "email")
NOBODY = ("", "Points Possible", "Student, Test", "Test Student")  # rows of Canvas's export


@dataclass(frozen=True)
class Person:
    """A row of the roster.

    Attributes:
        student: the ID.
        name: as the platform writes it.
        group: students of one group hand in together; "" for nobody else.
        late_days: days that this student may be late.
        canvas_id: the number that Canvas knows the student by, "" if unknown.
        moodle_id: the number that Moodle puts into the names of folders and into "Identifier", "" if unknown.
        email: the address, "" if unknown.
    """

    student: str
    name: str = ""
    group: str = ""
    late_days: int = 0
    canvas_id: str = ""
    moodle_id: str = ""
    email: str = ""

    @property
    def platform_ids(self) -> frozenset[str]:
        """All numbers that platforms know the student by."""
        return frozenset({self.canvas_id, self.moodle_id} - {""})


@dataclass
class Entry:
    """One submission, and what is known of it before it is graded.

    Attributes:
        path: zip or folder.
        student: whose it is; "" if nobody can tell.
        name: of the student, as far as known.
        attempt: the platform's number, 0 for the first.
        late: the platform called it late.
        packed: when the student's machine packed it; None if unknown.
        platform_id: the number that Canvas or Moodle knows the student by, "" elsewhere.
        older: names of earlier submissions of the same student.
    """

    path: Path
    student: str
    name: str
    attempt: int
    late: bool
    packed: datetime | None
    platform_id: str = ""
    older: Sequence[str] = ()

    def days_late(self, due: datetime | None) -> int:
        """Begun days after the deadline, 0 if in time or if one of the two is unknown."""
        if due is None or self.packed is None:
            return 0
        return max(0, math.ceil((self.packed - due).total_seconds() / 86_400))


def read_roster(path: Path) -> list[Person]:
    """A CSV with a column ``student`` and, if wanted, ``name``, ``group``, ``late_days``, ``canvas_id``, ``moodle_id``.

    What Canvas exports as its gradebook and Moodle as its participants or grading worksheet is a roster, too.

    Raises:
        ValueError: no column says who the students are, or a row is wrong; the message names its line.
    """
    columns, rows = rows_of_csv(path)
    there = {plain_heading(name) for name in columns}
    ids = next((ids for ids in (CANVAS_IDS, ("student",), MOODLE_IDS) if not there.isdisjoint(ids)), None)
    if ids is None:
        headings = shown(", ".join(columns), 300)
        platforms = 'Canvas has "SIS Login ID" in its place, Moodle "ID number", "Username" or "Email address"'
        raise ValueError(f"{path} has the columns {headings}; one must be called student ({platforms})")
    people: list[Person] = []
    taken: set[str] = set()
    for line, cells in rows:
        try:
            person = _person_of({plain_heading(name): text for name, text in cells.items()}, ids)
            if person is None:
                continue
            for value in (person.student, f"canvas_id {person.canvas_id}", f"moodle_id {person.moodle_id}"):
                if value in taken:
                    raise ValueError(f"{value} is there twice")
                if not value.endswith(" "):
                    taken.add(value)
            people.append(person)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    if not people:
        raise ValueError(f"{path} has no students below its headings")
    return people


def _person_of(cells: Mapping[str, str], ids: Sequence[str]) -> Person | None:
    """The person of a row, None if it is nobody; ``ids`` are the columns of the ID, the first that is filled counts."""

    def value(*names: str) -> str:
        texts = (" ".join(visible(cells.get(name, "")).split()) for name in names)
        text = re.sub(r"^(\d+)[.,]0+$", r"\1", next(filter(None, texts), ""))  # a number as a spreadsheet writes it
        if re.fullmatch(r"\d([.,]\d+)?E\+\d+", text, re.IGNORECASE):
            raise ValueError(f"{names[0]} is {text}, a number that a spreadsheet has shortened; format it as text")
        return text

    canvas = ids == CANVAS_IDS
    name = value("student" if canvas else "name", "fullname")
    name = name or " ".join(filter(None, (value("firstname"), value("lastname", "surname"))))
    student, number = value(*ids), value("canvasid", "id" if canvas else "canvasid")
    if canvas and name in NOBODY and (name or not student):
        return None
    late_days = value("latedays")
    if not re.fullmatch(r"\d{,4}", late_days):
        raise ValueError(f"late_days is {shown(late_days)!r}; it must be a whole number of days, 0 or more")
    moodle_id = re.sub(r"^\D+(?=\d+$)", "", value("moodleid", "identifier"))  # "Participant 123"
    email = value("email", "emailaddress")
    return Person(checked_id(student), name, value("group"), int(late_days or 0), number, moodle_id, email)


def unpack_bulk(path: Path, folder: Path) -> Path:
    """Put the files of a platform's bulk zip into a folder, under harmless names.

    Raises:
        ValueError: it is no bulk zip.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a folder nor a zip")
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if any(entry.filename == "manifest.json" for entry in entries):
            raise ValueError(f"{path} is one submission; give the folder that it lies in")
        for entry in entries:
            parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
            safe = [re.sub(r"[^\w. @+()-]", "_", part).lstrip(".") or "_" for part in parts if part not in ("/", "..")]
            bounded = entry.file_size <= MOST_BYTES and entry.compress_type in BOUNDED
            if not safe:
                continue
            target = folder.joinpath(*safe[-3:])
            while target.exists():
                target = target.with_name(f"again_{target.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not bounded or entry.flag_bits & 1:
                target.write_bytes(b"")  # so that somebody asks for it
                continue
            with archive.open(entry) as file:
                target.write_bytes(file.read(MOST_BYTES))
    return folder


def find_entries(folder: Path, people: Sequence[Person]) -> list[Entry]:
    """All submissions in a folder, one a student: the newest, with the others' names in ``older``."""
    found = [_entry(path, label, people) for path, label in _candidates(folder)]
    newest: dict[str, list[Entry]] = {}
    for entry in found:
        newest.setdefault(entry.platform_id or entry.student or f"? {entry.path}", []).append(entry)
    start = datetime.min.replace(tzinfo=UTC)
    entries = []
    for several in newest.values():
        several.sort(key=lambda entry: (entry.attempt, entry.packed or start, entry.path.name))
        several[-1].older = [shown(entry.path.name) for entry in several[:-1]]
        entries.append(several[-1])
    return sorted(entries, key=lambda entry: (entry.student, entry.path.name))


def owners_of(entries: Sequence[Entry], folder: Path) -> list[str]:
    """A name for each submission: its student's ID; where nobody can tell, or two claim one ID, also its place.

    A blank, which is in no ID, tells such names from IDs.
    """
    claimed = [entry.student for entry in entries]
    return [
        entry.student
        if entry.student and claimed.count(entry.student) == 1
        else f"{entry.student or '?'} {shown(str(entry.path.relative_to(folder)), 300)}"
        for entry in entries
    ]


def _candidates(folder: Path) -> list[tuple[Path, str]]:
    """Zips and folders that are submissions, each with the name that the platform gave it."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in (".csv", ".txt", ".html", ".md"):
            continue
        if path.is_dir() and not path.is_symlink() and MOODLE.fullmatch(path.name):
            zips = sorted(path.glob("*.zip"))
            found += [(inner, path.name) for inner in zips] or [(path, path.name)]
        else:
            found.append((path, path.name))
    return found


def _entry(path: Path, label: str, people: Sequence[Person]) -> Entry:
    told, packed = _what_it_says(path)
    canvas, moodle = CANVAS.fullmatch(label), MOODLE.fullmatch(label)
    match = canvas or moodle
    name = match["name"] if match else ""
    person = _person(people, match["id"] if match else "", name)
    if match is None and not told:
        ours = OURS.fullmatch(label)
        told = _id_or_nothing(ours["id"] if ours else path.stem if path.is_dir() else "")
    student = person.student if person else told
    known = next((one for one in people if one.student == student), None)
    attempt = int(canvas["attempt"] or 0) if canvas else 0
    late = bool(canvas and canvas["late"])
    name = known.name if known and known.name else shown(name)
    return Entry(path, student, name, attempt, late, packed, match["id"] if match else "")


def _what_it_says(path: Path) -> tuple[str, datetime | None]:
    """The ID and the time of packing that a submission gives itself."""
    files = read_files(path, ("manifest.json", "student.json"))
    try:
        packed = datetime.fromisoformat(packed_of(files))
    except ValueError:
        return student_of(files), None
    return student_of(files), packed if packed.tzinfo else packed.replace(tzinfo=UTC)


def _id_or_nothing(text: str) -> str:
    try:
        return checked_id(text)
    except ValueError:
        return ""


def _person(people: Sequence[Person], number: str, name: str) -> Person | None:
    """Whom the platform means: by its number, or else by the name, if only one has it."""
    by_number = [person for person in people if number and number in person.platform_ids]
    plain = _letters(name)
    by_name = [person for person in people if plain and plain in (_letters(person.name), _turned(person.name))]
    found = by_number or by_name
    return found[0] if len(found) == 1 else None


def _letters(name: str) -> str:
    """A name as Canvas writes it: letters only."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(character for character in plain if character.isalnum())


def _turned(name: str) -> str:
    """Given name and family name the other way round."""
    parts = name.replace(",", " ").split()
    return _letters("".join([*parts[-1:], *parts[:-1]]))


def groups_of(entries: Mapping[str, Entry], people: Sequence[Person]) -> dict[str, str]:
    """Submission -> its group; a student of no group is a group of one."""
    known = {person.student: person.group for person in people}
    return {key: known.get(entry.student) or f"alone: {key}" for key, entry in entries.items()}
