"""The class: who is in it, and what is known of a submission before it is graded."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from labkit.course.students import checked_id


@dataclass(frozen=True)
class Person:
    """A row of the roster.

    Attributes:
        student: the ID.
        name: as the platform writes it.
        group: students of one group hand in together; "" for nobody else.
        late_days: days that this student may be late.
        platform_ids: the numbers that Canvas or Moodle knows the student by.
    """

    student: str
    name: str = ""
    group: str = ""
    late_days: int = 0
    platform_ids: frozenset[str] = frozenset()


@dataclass
class Entry:
    """One submission, and what is known of it before it is graded.

    Attributes:
        path: zip or folder.
        student: whose it is; "" if nobody can tell.
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

    Raises:
        ValueError: the column is missing, or a row is wrong; the message names its line.
    """
    text = path.read_text(encoding="utf-8-sig")
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    if "student" not in (rows.fieldnames or []):
        raise ValueError(f"{path} has the columns {rows.fieldnames}; one must be called student")
    people: dict[str, Person] = {}
    for row in rows:
        try:
            student = checked_id(row["student"])
            if student in people:
                raise ValueError(f"{student} is there twice")
            numbers = frozenset(v.strip() for k in ("canvas_id", "moodle_id") if (v := row.get(k) or "").strip())
            late_days = int(row.get("late_days") or 0)
            group = (row.get("group") or "").strip()
            people[student] = Person(student, (row.get("name") or "").strip(), group, late_days, numbers)
        except ValueError as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error}") from None
    return list(people.values())


def groups_of(entries: Mapping[str, Entry], people: Sequence[Person]) -> dict[str, str]:
    """Submission -> its group; a student of no group is a group of one."""
    known = {person.student: person.group for person in people}
    return {key: known.get(entry.student) or f"alone: {key}" for key, entry in entries.items()}
