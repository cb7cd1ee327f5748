"""The instructor's marks, read back from an earlier ``grades.csv``."""

import re
from pathlib import Path

from labkit.course.csv_file import rows_of_csv
from labkit.course.submission.foreign import shown, visible
from labkit.course.task import TASKS

OWN_COLUMNS = ("instructor_points", "instructor_comment")  # what the instructor fills
FIRST_COLUMNS = ("student", "name", "pseudonym", "points", "of", "bonus")
LAST_COLUMNS = ("days_late", "late_days_allowed", "attempts", "flags")
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
        raise ValueError(f"{where}: {shown(text)!r} can not be counted; {rule}")
    return float(plain)


def read_marks(path: Path) -> dict[str, dict[str, str]]:
    """Pseudonym -> what the instructor wrote into an earlier ``grades.csv``, also into columns of the instructor's own.

    Raises:
        ValueError: the file is there and can not be read, or has a mark that is no number, a row of nobody, or two of
            one pseudonym; nothing is overwritten then.
    """
    marks: dict[str, dict[str, str]] = {}
    for number, cells in _table(path)[1]:
        key = cells["pseudonym"].strip()
        person = ", ".join(shown(word, 40) for word in (cells.get("student", ""), key) if word)
        where = f"{path}, row {number} ({person or 'of nobody'})"
        if not key or key in marks:
            fault = "its pseudonym is in another row, too" if key else "it has no pseudonym"
            raise ValueError(f"{where}: {fault}; leave one row for each person")
        mark_of(cells["instructor_points"], where)
        marks[key] = {name: text for name, text in cells.items() if not _is_computed(name)}
    return marks


def read_columns(path: Path) -> list[str]:
    """The columns of an earlier ``grades.csv``, in its order; none if there is no such file.

    Raises:
        ValueError: the file is there and can not be read.
    """
    return _table(path)[0]


def _table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    if not path.exists():
        return [], []
    return rows_of_csv(path, ("pseudonym", *OWN_COLUMNS), (*FIRST_COLUMNS, *TASKS, *LAST_COLUMNS))


def _is_computed(name: str) -> bool:
    return name in (*FIRST_COLUMNS, *TASKS, *LAST_COLUMNS) or bool(re.match(r"answer nb\d", name))
