"""The written answers: a page to mark them on in a browser, and the marks that come back from it.

The page holds all answers and saves ``marks.csv``. The sum of a submission's marks goes into ``instructor_points``.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from labkit import runtime
from labkit.course.csv_file import rows_of_csv, write_csv
from labkit.course.report.marks import OWN_COLUMNS, mark_of
from labkit.course.task import PROSE_STUB

Course = Mapping[str, Any]  # course.json
COLUMNS = ("pseudonym", "question", "points", "comment")
TAKEN = "marked.json"  # beside the results: pseudonym -> the sum that the run before put into grades.csv
Table = Mapping[str, Mapping[str, str]]  # pseudonym -> what the instructor wrote into grades.csv


class Question(NamedTuple):
    """A question that is answered in words, and the most points for it."""

    text: str
    points: float


class Mark(NamedTuple):
    """Points for an answer, None if it has none yet, and a comment."""

    points: float | None
    comment: str


Marks = dict[tuple[str, str], Mark]  # by pseudonym and name of the answer cell


@dataclass(frozen=True)
class Marking:
    """The questions of a course and the marks of the answers.

    Attributes:
        questions: name of the answer cell -> question.
        marks: (pseudonym, name of the answer cell) -> mark.
        taken: pseudonym -> the sum that an earlier run put into ``instructor_points``.
        course: what distinguishes this course from others in one browser.
    """

    questions: Mapping[str, Question]
    marks: Marks
    taken: Mapping[str, float]
    course: str

    def sums(self) -> dict[str, float]:
        """Pseudonym -> all points for its answers."""
        sums: dict[str, float] = {}
        for (key, _), mark in self.marks.items():
            if mark.points is not None:
                sums[key] = round(sums.get(key, 0) + mark.points, 6)
        return sums

    def summed(self, table: Table) -> dict[str, dict[str, str]]:
        """The instructor's own columns, with the sums in ``instructor_points``.

        Raises:
            ValueError: somebody has marks, and other points in ``grades.csv``.
        """
        sums, rows = self.sums(), {key: dict(row) for key, row in table.items()}
        for key in {*sums, *self.taken}:
            row = rows.setdefault(key, dict.fromkeys(OWN_COLUMNS, ""))
            where = f"grades.csv, row {key}"
            own = mark_of(row["instructor_points"], where)
            if own in (None, self.taken.get(key)):  # not the instructor's, but of the run before
                row["instructor_points"] = f"{sums[key]:.10g}" if key in sums else ""
            elif own != sums.get(key, own):
                made = f"the marks of the answers make {sums[key]:g}; empty that cell, or make the two agree"
                raise ValueError(f"{where}: instructor_points is {own:g}, but {made}")
        return rows

    def write(self, out: Path) -> None:
        """Write ``marks.csv``, from which the next run takes them, and what was put into ``grades.csv``."""
        rows = [dict(zip(COLUMNS, (*place, *mark), strict=True)) for place, mark in sorted(self.marks.items())]
        write_csv(out / "marks.csv", COLUMNS, rows)
        runtime.write_file(out / "results" / TAKEN, json.dumps(self.sums()))


def _questions(course: Course) -> dict[str, Question]:
    """The questions of ``course.json`` that have points, by the names of their cells, without Markdown's signs."""
    notebooks = course["notebooks"].items()
    cells = [(name[:2], cell) for name, cells in notebooks for cell in cells if cell["role"] == "answer"]
    texts = {cell["name"]: cell.get("source", cell["head"]).partition(PROSE_STUB)[0].strip() for _, cell in cells}
    plain = {name: re.sub(r"^#+ +|\*\*", "", text, flags=re.MULTILINE) for name, text in texts.items()}
    return {x["name"]: Question(f"{number} · {plain[x['name']]}", x["points"]) for number, x in cells if x["points"]}


def read_marking(out: Path, course: Course, saved: Path | None, keys: Collection[str], table: Table) -> Marking:
    """The marks of earlier runs in ``out/marks.csv``, and over them those of a file that the page has saved.

    A mark without points and comment takes an earlier one away; what the file does not speak of stays.

    Args:
        out: folder of the grades.
        course: ``course.json`` of the release that was handed out.
        saved: the file; None if there is none.
        keys: the pseudonyms of the class; the file may also speak of those in earlier tables.
        table: what the instructor wrote into ``grades.csv``.

    Raises:
        ValueError: a file has a wrong pseudonym, question or number of points (the message names row and value), or
            contradicts the table.
    """
    questions, path, taken = _questions(course), out / "marks.csv", out / "results" / TAKEN
    marks = _read(path, questions, None) if path.exists() else {}
    if saved:
        marks |= _read(saved, questions, {*keys, *table, *(key for key, _ in marks)})
    sums = json.loads(taken.read_text(encoding="utf-8")) if taken.exists() else {}
    marks = {place: mark for place, mark in marks.items() if mark != (None, "")}
    marking = Marking(questions, marks, sums, f"{course['salt']} {course['version']}")
    marking.summed(table)
    return marking


def _read(path: Path, questions: Mapping[str, Question], keys: Collection[str] | None) -> Marks:
    marks: Marks = {}
    for number, row in rows_of_csv(path, COLUMNS)[1]:
        where, (key, name, text) = f"{path}, row {number}", (row[column].strip() for column in COLUMNS[:3])
        if keys is not None and key not in keys:
            raise ValueError(f"{where}: pseudonym is {key!r:.80}, and nobody in this class has it")
        if name not in questions:
            raise ValueError(f"{where}: question is {name!r:.80}; the course has {', '.join(questions) or 'none'}")
        points, most = mark_of(text, where), questions[name].points
        if points is not None and not 0 <= points <= most:
            raise ValueError(f"{where}: points are {text!r:.80}; they must be a number from 0 to {most:g}, or empty")
        mark = Mark(points, row["comment"])
        if marks.setdefault((key, name), mark) != mark:
            raise ValueError(f"{where}: {key}, {name} has another mark further up; leave one of the two")
    return marks
