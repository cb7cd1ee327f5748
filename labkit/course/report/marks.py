"""The instructor's marks, read back from an earlier ``grades.csv``."""

import re
from collections.abc import Mapping
from pathlib import Path

from labkit.course.csv_file import Table, rows_of_csv
from labkit.course.submission.foreign import shown, visible
from labkit.course.task import TASKS

OWN_COLUMNS = ("instructor_points", "instructor_comment")  # what the instructor fills
FIRST_COLUMNS = ("student", "name", "pseudonym", "points", "of", "bonus")
LAST_COLUMNS = ("days_late", "late_days_allowed", "attempts", "flags")
Own = Mapping[str, str]  # what the instructor wrote into these columns, and into others of the instructor's own
Marks = Mapping[str, Own]  # by pseudonym
MOST = 1000  # points; more is a slip of the hand


def mark_of(text: str, where: str) -> float | None:
    """A number that a person wrote as points, with a point or a comma; None for blanks.

    Args:
        text: what was written.
        where: file, row and person, for the message.

    Raises:
        ValueError: it is no plain number, or beyond all that can be meant.
    """
    plain = visible(text).strip().replace("−", "-").replace(",", ".")
    if not plain:
        return None
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", plain) or abs(float(plain)) > MOST:
        rule = f"points are a plain number such as 7.5 or 7,5, at most {MOST:,}, or blank"
        raise ValueError(f"{where}: {shown(text)!r} cannot be counted; {rule}")
    return float(plain)


def read_marks(path: Path) -> dict[str, dict[str, str]]:
    """Pseudonym -> what the instructor wrote into an earlier ``grades.csv``, also into columns of the instructor's own.

    Raises:
        ValueError: the file is there and cannot be read, or has a mark that is no number, a row of nobody, or two of
            one pseudonym; nothing is overwritten then.
    """
    marks: dict[str, dict[str, str]] = {}
    columns, rows = read_table(path)
    computed = (*FIRST_COLUMNS, *TASKS, *LAST_COLUMNS)
    own = [name for name in columns if name not in computed and not name.startswith("answer nb")]
    for number, cells in rows:
        key = cells["pseudonym"].strip()
        person = [word for word in (cells.get("student"), key) if word] or filter(None, cells.values())
        where = f"{path}, row {number} ({shown(', '.join(person))})"
        if not key or key in marks:
            fault = "its pseudonym is that of an earlier row" if key else "it has no pseudonym"
            raise ValueError(f"{where}: {fault}; each row must be one person's")
        mark_of(cells["instructor_points"], where)
        marks[key] = {name: cells[name] for name in own}
    return marks


def read_table(path: Path) -> Table:
    """The columns and rows of an earlier ``grades.csv``; none if there is no such file.

    Raises:
        ValueError: the file is there and cannot be read.
    """
    ours = (*FIRST_COLUMNS, *LAST_COLUMNS)
    return rows_of_csv(path, ("pseudonym", *OWN_COLUMNS), ours) if path.exists() else ([], [])
