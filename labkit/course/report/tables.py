"""The tables of grading: the instructor's, the learning platform's, and who is behind each pseudonym."""

import csv
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from labkit import runtime
from labkit.course.packing import without_homes
from labkit.course.report import marking, pages, platforms
from labkit.course.result import Result
from labkit.course.roster import Entry, Person
from labkit.course.submission.foreign import shown
from labkit.course.task import TASKS, TOTAL

FORMULA = ("=", "+", "-", "@", "\t", "|", "%", "＝", "＋", "－", "＠")
OWN_COLUMNS = ("instructor_points", "instructor_comment")  # what the instructor fills
Row = dict[str, object]
Own = Mapping[str, str]  # what the instructor wrote into these columns
Marks = Mapping[str, Own]  # by pseudonym


def harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ").replace("\0", "")
    try:
        float(text.replace(",", "."))
        return text
    except ValueError:
        # Also behind what some spreadsheets take for the end of a cell.
        text = re.sub(r"([;\t\n]\s*)(?=[=+\-@|%])", r"\1'", text)
        return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def read_marks(path: Path) -> dict[str, dict[str, str]]:
    """Pseudonym -> what the instructor wrote into an earlier ``grades.csv``.

    Raises:
        ValueError: the file is there and can not be read; nothing is overwritten then.
    """
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as CSV UTF-8, so that your marks are kept") from None
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    usual = csv.field_size_limit(2**31 - 1)  # of the whole process
    try:
        rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        if not {"pseudonym", *OWN_COLUMNS} <= set(rows.fieldnames or []):
            lacks = f"lacks one of the columns pseudonym, {', '.join(OWN_COLUMNS)}"
            raise ValueError(f"{path} {lacks}; move it away to start afresh")
        return {row["pseudonym"]: {name: _as_written(row[name] or "") for name in OWN_COLUMNS} for row in rows}
    finally:
        csv.field_size_limit(usual)


def _as_written(text: str) -> str:
    """Text without the mark that ``harmless`` sets."""
    return text[1:] if text.startswith("'") and text[1:].lstrip().startswith(FORMULA) else text


def write_all(
    out: Path,
    results: Mapping[str, Result],
    entries: Mapping[str, Entry],
    people: Sequence[Person],
    names: Mapping[str, str],
    due: datetime | None,
    *,
    anonymous: bool,
    written: marking.Marking = marking.NO_MARKS,
) -> None:
    """Write all tables and pages.

    Args:
        out: folder of the grades.
        results: pseudonym -> result.
        entries: pseudonym -> submission.
        people: the roster; empty if there is none.
        names: student -> pseudonym, also for those who handed in nothing.
        due: the deadline, or None.
        anonymous: leave IDs and names out of everything but ``pseudonyms.csv``, ``gradebook.csv`` and the
            zips for the platforms.
        written: the questions that are answered in words, and the marks for them.

    Raises:
        ValueError: ``grades.csv`` can not be read, or contradicts the marks; nothing is overwritten then.
    """
    marks = written.summed(read_marks(out / "grades.csv"))
    if (out / "grades.csv").exists():
        shutil.copyfile(out / "grades.csv", out / "grades.csv.before")
    covered = _covered_by_group(results, entries, people)
    rows: list[Mapping[str, object]] = [
        _row(key, result, entries[key], people, marks.get(key, {}), due, anonymous=anonymous)
        for key, result in results.items()
    ]
    missing = {names[person.student]: person for person in people if names[person.student] not in results}
    rows += _rows_without_work(missing, covered, marks, set(results), anonymous=anonymous)
    write_csv(out / "grades.csv", _columns(results), rows)
    write_csv(out / "gradebook.csv", *_gradebook(results, entries, people, marks, covered, names))
    pairs = [{"pseudonym": key, "student": name} for name, key in names.items()]
    write_csv(out / "pseudonyms.csv", ["pseudonym", "student"], pairs)
    if written.marks or (out / "marks.csv").exists():
        rows = [
            dict(zip(marking.COLUMNS, (*place, *mark), strict=True)) for place, mark in sorted(written.marks.items())
        ]
        write_csv(out / "marks.csv", marking.COLUMNS, rows)
    write(out / "results" / marking.TAKEN, json.dumps(written.sums()))
    absent = {key: person for key, person in missing.items() if person.student not in covered}
    shown_results = _anonymous(results, entries, people) if anonymous else results
    labels = {key: key for key in {**results, **absent}} if anonymous else _labels(results, entries, absent)
    nobodys = [key for key in results if not entries[key].student]
    page = pages.class_page(shown_results, labels, list(absent), nobodys=nobodys, questions=len(written.questions))
    write(out / "index.html", page)
    write(out / "marking.html", pages.marking_page(results, labels, written, anonymous=anonymous))
    some = [result.networks for result in results.values()][:: len(results) // 30 + 1]  # a page need not hold all
    for key, result in results.items():
        name = "" if anonymous else labels[key]
        text = pages.feedback_page(key, result, marks.get(key, {}), some, written, name)
        write(out / "feedback" / f"{key}.html", text)
    platforms.write_feedback(out, {key: entry.path for key, entry in entries.items()})


def _labels(
    results: Mapping[str, Result], entries: Mapping[str, Entry], absent: Mapping[str, Person]
) -> dict[str, str]:
    """Pseudonym -> the student's name, with the ID where several have it; the ID or the file if there is none."""
    ids = {key: results[key].student or shown(entries[key].path.name) for key in results}
    ids |= {key: person.student for key, person in absent.items()}
    names = {key: entries[key].name for key in results} | {key: shown(person.name) for key, person in absent.items()}
    several = Counter(names.values())
    return {
        key: f"{name} ({ids[key]})" if name and several[name] > 1 else name or ids[key] for key, name in names.items()
    }


def _rows_without_work(
    missing: Mapping[str, Person], covered: Mapping[str, str], marks: Marks, graded: set[str], *, anonymous: bool
) -> Iterator[Mapping[str, object]]:
    """Who handed in nothing, and whose work is no longer there but has marks."""
    for key, person in missing.items():
        partner = covered.get(person.student)
        why = f"handed in by the group: {partner}" if partner else "nothing handed in"
        blank = {"pseudonym": key, "flags": why} | {name: marks.get(key, {}).get(name, "") for name in OWN_COLUMNS}
        yield blank if anonymous else {"student": person.student, "name": person.name} | blank
    for key, own in marks.items():
        if key not in graded and key not in missing and any(own.values()):
            yield {"pseudonym": key, "flags": "no longer among the submissions", **own}


def _anonymous(
    results: Mapping[str, Result], entries: Mapping[str, Entry], people: Sequence[Person]
) -> dict[str, Result]:
    hidden = _hidden(results, entries, people)
    return {
        key: replace(
            result,
            flags=tuple(_without(flag, hidden) for flag in result.flags),
            refused={_without(name, hidden): why for name, why in result.refused.items()},
        )
        for key, result in results.items()
    }


def _row(
    key: str, result: Result, entry: Entry, people: Sequence[Person], own: Own, due: datetime | None, *, anonymous: bool
) -> Row:
    allowed = next((person.late_days for person in people if person.student == entry.student), 0)
    row: Row = {} if anonymous else {"student": result.student, "name": entry.name}
    row |= {"pseudonym": key, "points": result.points, "of": TOTAL, "bonus": result.bonus}
    row |= {name: task.points for name, task in result.tasks.items()}
    row |= {name: own.get(name, "") for name in OWN_COLUMNS}
    row |= {"days_late": entry.days_late(due), "late_days_allowed": allowed, "attempts": len(entry.older) + 1}
    flags = "; ".join([*result.flags, *(f"{name or 'all'}: {why}" for name, why in result.refused.items())])
    row["flags"] = _without(flags, _hidden({key: result}, {key: entry}, people)) if anonymous else flags
    row |= {f"answer {name}": without_homes(answer.text) for name, answer in result.answers.items()}
    return row


def _without(text: str, students: Sequence[str]) -> str:
    for student in sorted({student for student in students if student}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(student)}(?!\w)", "…", text, flags=re.IGNORECASE)
    return text


def _hidden(results: Mapping[str, Result], entries: Mapping[str, Entry], people: Sequence[Person]) -> list[str]:
    """All that says who somebody is: IDs, names, and the names of files, which hold one or the other."""
    words = [person.student for person in people] + [person.name for person in people]
    for key, entry in entries.items():
        words += [results[key].student, results[key].worked, entry.student, entry.name]
        words += [shown(entry.path.name), *entry.older]
    return words


def _columns(results: Mapping[str, Result]) -> list[str]:
    answers = sorted({f"answer {name}" for result in results.values() for name in result.answers})
    first = ["student", "name", "pseudonym", "points", "of", "bonus", *TASKS, *OWN_COLUMNS]
    return [*first, "days_late", "late_days_allowed", "attempts", "flags", *answers]


def _covered_by_group(
    results: Mapping[str, Result], entries: Mapping[str, Entry], people: Sequence[Person]
) -> dict[str, str]:
    """Student without a submission -> pseudonym of the one that the group handed in."""
    group_of = {person.student: person.group for person in people if person.group}
    handed_in = {group_of[entries[key].student]: key for key in results if entries[key].student in group_of}
    own = {entries[key].student for key in results}
    return {s: handed_in[group] for s, group in group_of.items() if s not in own and group in handed_in}


def _gradebook(
    results: Mapping[str, Result],
    entries: Mapping[str, Entry],
    people: Sequence[Person],
    marks: Marks,
    covered: Mapping[str, str],
    names: Mapping[str, str],
) -> tuple[list[str], list[Row]]:
    """Canvas's form of a gradebook, which Moodle's import takes as well: one column of points."""
    columns = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Pruning labs"]
    rows: list[Row] = [{"Student": "    Points Possible", "Pruning labs": TOTAL}]
    by_student = {entries[key].student: key for key in results if entries[key].student} | dict(covered)
    known = {person.student: person for person in people}
    for student in sorted({*by_student, *known}):
        person, key = known.get(student), by_student.get(student)
        number = next(iter(sorted(person.platform_ids)), "") if person else ""
        own = marks.get(names.get(student, ""), {})
        mine = own if own.get("instructor_points") else marks.get(key or "", {})
        points = results[key].points + results[key].bonus if key else 0.0
        total = points + _number(mine) if key or mine.get("instructor_points") else ""
        name = (person.name if person else "") or student
        rows.append({"Student": name, "ID": number, "SIS Login ID": student, "Pruning labs": total})
    return columns, rows


def _number(marks: Mapping[str, str]) -> float:
    try:
        return float(marks.get("instructor_points", "").replace(",", ".") or 0)
    except ValueError:
        return 0.0


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table whole, as UTF-8 that Excel knows, its cells harmless; columns that are not named are left out."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    # The mark at the start tells Excel that it is UTF-8.
    write(path, "\ufeff" + stream.getvalue())


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with runtime.written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
