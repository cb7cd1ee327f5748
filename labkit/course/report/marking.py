"""The written answers: a page to mark them on in a browser, and the marks that come back from it.

The page holds all answers and saves ``marks.csv``. The sum of a submission's marks goes into ``instructor_points``.
"""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from labkit.course.packing import without_homes
from labkit.course.report import pages
from labkit.course.result import Result, WrittenAnswer
from labkit.course.task import PROSE_STUB

COLUMNS = ("pseudonym", "question", "points", "comment")
MARKED = re.compile(r"^'(?=\s*[=+\-@\t|%＝＋－＠])")  # before what a spreadsheet would take for a formula
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


class Card(NamedTuple):
    """A question on a student's page: its text, the most points, what was written ("" for nothing), and the mark."""

    text: str
    most: float
    answer: str
    mark: Mark


@dataclass(frozen=True)
class Marking:
    """The questions of a course and the marks of the answers.

    Attributes:
        questions: name of the answer cell -> question.
        marks: (pseudonym, name of the answer cell) -> mark.
        taken: pseudonym -> the sum that an earlier run put into ``instructor_points``.
        course: what tells this course from others in one browser.
    """

    questions: Mapping[str, Question] = field(default_factory=dict)
    marks: Mapping[tuple[str, str], Mark] = field(default_factory=dict)
    taken: Mapping[str, float] = field(default_factory=dict)
    course: str = ""

    def sums(self) -> dict[str, float]:
        """Pseudonym -> all points for its answers."""
        given: dict[str, list[float]] = {}
        for (key, _), mark in self.marks.items():
            if mark.points is not None:
                given.setdefault(key, []).append(mark.points)
        return {key: round(math.fsum(points), 6) for key, points in given.items()}

    def summed(self, table: Table) -> dict[str, dict[str, str]]:
        """The instructor's own columns, with the sums in ``instructor_points``.

        Raises:
            ValueError: somebody has marks, and other points in ``grades.csv``.
        """
        sums, rows = self.sums(), {key: dict(row) for key, row in table.items()}
        for key in {*sums, *self.taken}:
            row = rows.setdefault(key, {"instructor_points": "", "instructor_comment": ""})
            own = row["instructor_points"]
            if own and key in self.taken and same(own, self.taken[key]):
                own = ""  # not written by the instructor, but by the run before
            if own and key in sums and not same(own, sums[key]):
                raise ValueError(
                    f"grades.csv, row {key}: instructor_points is {own}, but the marks of the answers make "
                    f"{sums[key]:g}; empty that cell, or make the two agree"
                )
            row["instructor_points"] = own or (f"{sums[key]:g}" if key in sums else "")
        return rows

    def rows(self) -> list[dict[str, object]]:
        """The rows of ``marks.csv``."""
        marks = sorted(self.marks.items())
        return [dict(zip(COLUMNS, (*place, mark.points, mark.comment), strict=True)) for place, mark in marks]

    def cards(self, key: str, answers: Mapping[str, WrittenAnswer]) -> list[Card]:
        """All questions as one student's page shows them; also answers to what is no question of this course."""
        unknown = {name: Question(plain(answer.question), 0) for name, answer in answers.items()}
        return [
            Card(
                question.text,
                question.points,
                answers[name].text if name in answers else "",
                self.marks.get((key, name), Mark(None, "")),
            )
            for name, question in {**unknown, **self.questions}.items()
        ]

    def page(self, results: Mapping[str, Result], labels: Mapping[str, str], *, anonymous: bool) -> str:
        """The page to mark on.

        Args:
            results: pseudonym -> result.
            labels: pseudonym -> what the student is called on this page.
            anonymous: the page is without names, in an order that tells nothing.
        """
        students = [
            {
                "key": key,
                "label": labels[key],
                "answers": {name: without_homes(answer.text) for name, answer in results[key].answers.items()},
            }
            for key in (sorted(results) if anonymous else results)
        ]
        marks: dict[str, dict[str, tuple[str, str]]] = {}
        for (key, name), (points, comment) in self.marks.items():
            marks.setdefault(key, {})[name] = ("" if points is None else f"{points:g}", comment)
        questions = [{"name": name, **question._asdict()} for name, question in self.questions.items()]
        data = {"course": self.course, "questions": questions, "students": students, "marks": marks}
        return pages.rendered("marking.html.j2", data=data, anonymous=anonymous)


NO_MARKS = Marking()


def plain(question: str) -> str:
    """A question without the signs of Markdown that make it large or bold."""
    return re.sub(r"^#+ +|\*\*", "", question, flags=re.MULTILINE).strip()


def same(text: str, number: float) -> bool:
    """Whether a cell holds this number."""
    try:
        return math.isclose(float(text.replace(",", ".")), number, abs_tol=1e-6)
    except ValueError:
        return False


def questions_of(course: Mapping[str, Any]) -> dict[str, Question]:
    """The questions of ``course.json`` that have points, by the names of their cells."""
    return {
        cell["name"]: Question(plain(cell.get("source", cell["head"]).partition(PROSE_STUB)[0]), cell["points"])
        for cells in course["notebooks"].values()
        for cell in cells
        if cell["role"] == "answer" and cell["points"]
    }


def read_marking(out: Path, course: Mapping[str, Any], saved: Path | None, keys: Collection[str]) -> Marking:
    """The marks of earlier runs in ``out/marks.csv``, and over them those of a file that the page has saved.

    A mark without points and comment takes an earlier one away; what the file does not speak of stays.

    Args:
        out: folder of the grades.
        course: ``course.json`` of the release that was handed out.
        saved: the file; None if there is none.
        keys: the pseudonyms that it may speak of, beside those with earlier marks.

    Raises:
        ValueError: a file has a wrong pseudonym, question or number of points; the message names line and value.
    """
    questions, path = questions_of(course), out / "marks.csv"
    marks = _read(path, questions, None) if path.exists() else {}
    if saved:
        marks |= _read(saved, questions, {*keys, *(key for key, _ in marks)})
    try:
        taken = json.loads((out / "results" / TAKEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        taken = {}
    marks = {place: mark for place, mark in marks.items() if mark != (None, "")}
    return Marking(questions, marks, taken, f"{course['salt']} {course['version']}")


def _read(path: Path, questions: Mapping[str, Question], keys: Collection[str] | None) -> dict[tuple[str, str], Mark]:
    marks: dict[tuple[str, str], Mark] = {}
    for where, row in _rows(path):
        key, name, points, comment = (row[column] for column in COLUMNS)
        if keys is not None and key not in keys:
            raise ValueError(f"{where}: pseudonym is {key!r:.80}, and nobody in this class has it")
        if name not in questions:
            raise ValueError(f"{where}: question is {name!r:.80}; the course has {', '.join(questions) or 'none'}")
        mark = Mark(_points(points, questions[name].points, where), comment)
        if marks.setdefault((key, name), mark) != mark:
            raise ValueError(f"{where}: {key}, {name} has another mark further up; leave one of the two")
    return marks


def _points(text: str, most: float, where: str) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"\d+([.,]\d*)?", text, re.ASCII) or float(text.replace(",", ".")) > most:
        raise ValueError(f"{where}: points is {text!r:.80}; it must be a number from 0 to {most:g}, or empty")
    return float(text.replace(",", "."))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows that hold something, each with where it stands."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as CSV UTF-8") from None
    rows = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=text.partition("\n")[0].count))
    if not {*COLUMNS} <= {*(rows.fieldnames or [])}:
        raise ValueError(f"{path} has the columns {rows.fieldnames}; it must have {', '.join(COLUMNS)}")
    for row in rows:
        cells = {column: re.sub(MARKED, "", (row[column] or "").strip()) for column in COLUMNS}
        if any(cells.values()):
            yield f"{path}, line {rows.line_num}", cells
