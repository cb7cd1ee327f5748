"""The class: who is in it, and what is known of a submission before it is graded."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labkit.course.csv_file import plain_heading, rows_of_csv
from labkit.course.students import checked_id
from labkit.course.submission.foreign import shown, visible

CANVAS_IDS = ("sisloginid", "sisuserid")  # columns only of Canvas's export, whose "Student" is a name
OUR_IDS = ("studentid", "student")
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


@dataclass
class Entry:
    """One submission, and what is known of it before it is graded.

    Attributes:
        path: zip or folder.
        student: whose it is; "" if that is unknown.
        name: of the student, as far as known.
        attempt: a number that grows from one to the next: the platform's, or that of a copy; 0 for the first.
        late: the platform called it late.
        packed: when the student's machine packed it; None if unknown.
        platform_id: the number that Canvas or Moodle knows the student by, "" elsewhere.
        older: names of earlier submissions of the same student.
        named: the ID in the file's name, "" if there is none.
    """

    path: Path
    student: str
    name: str
    attempt: int
    late: bool
    packed: datetime | None
    platform_id: str = ""
    older: Sequence[str] = ()
    named: str = ""

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
    ids = next((ids for ids in (CANVAS_IDS, OUR_IDS, MOODLE_IDS) if not there.isdisjoint(ids)), None)
    if ids is None:
        headings = shown(", ".join(columns), 300)
        platforms = 'Canvas has "SIS Login ID" in its place, Moodle "ID number", "Username" or "Email address"'
        raise ValueError(f"{path} has the columns {headings}; one must be called student ({platforms})")
    people: list[Person] = []
    taken: set[str] = set()
    for line, cells in rows:
        try:
            if person := _person_of({plain_heading(name): text for name, text in cells.items()}, ids):
                own = {person.student, f"canvas_id {person.canvas_id}", f"moodle_id {person.moodle_id}"}
                own -= {"canvas_id ", "moodle_id "}
                if own & taken:
                    raise ValueError(f"{max(own & taken)} is there twice")
                taken |= own
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


def groups_of(entries: Mapping[str, Entry], people: Sequence[Person]) -> dict[str, str]:
    """Submission -> its group; a student of no group is a group of one."""
    known = {person.student: person.group for person in people}
    return {key: known.get(entry.student) or f"alone: {key}" for key, entry in entries.items()}
