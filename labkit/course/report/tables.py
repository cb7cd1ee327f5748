"""The tables of grading: the instructor's, the learning platform's, and who is behind each pseudonym."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from labkit.course.csv_file import write_csv
from labkit.course.packing import without_homes
from labkit.course.report import gradebook, pages, platforms
from labkit.course.report.marking import Marking
from labkit.course.report.marks import FIRST_COLUMNS, LAST_COLUMNS, OWN_COLUMNS, Marks, Own, read_marks, read_table
from labkit.course.result import Result, Results
from labkit.course.roster import Entry, Person
from labkit.course.submission.foreign import shown
from labkit.course.task import TASKS, TOTAL

Row = dict[str, object]
WHO = ("student", "name")  # columns that are empty in an anonymous table


def write_all(
    out: Path,
    results: Results,
    entries: Mapping[str, Entry],
    people: Sequence[Person],
    names: Mapping[str, str],
    due: datetime | None,
    *,
    anonymous: bool,
    written: Marking,
) -> None:
    """Write all tables and pages.

    Args:
        out: folder of the grades.
        results: pseudonym -> result.
        entries: pseudonym -> submission.
        people: the roster; empty if there is none.
        names: student -> pseudonym, also for those who handed in nothing.
        due: the deadline, or None.
        anonymous: leave IDs and names out of everything but ``pseudonyms.csv``, the gradebooks and the zips for the
            platforms.
        written: the questions that are answered in words, and the marks for them.

    Raises:
        ValueError: ``grades.csv`` cannot be read, or contradicts the marks; nothing is overwritten then.
    """
    marks = written.summed(read_marks(out / "grades.csv"))
    columns = _columns(results, read_table(out / "grades.csv")[0], marks)
    if (out / "grades.csv").exists():
        shutil.copyfile(out / "grades.csv", out / "grades.csv.before")
    possible = sum(task.points for task in TASKS.values()) + sum(most for _, most in written.questions.values())
    order = sorted if anonymous else list  # the order of IDs shows who is who
    results = {key: gradebook.checked(results[key], marks.get(key, {}), possible) for key in order(results)}
    shown_results = _anonymous(results, entries, people) if anonymous else results
    keys = {entry.student: key for key, entry in entries.items() if entry.student}
    covered = _covered_by_group(keys, people)
    rows = [_row(key, result, entries[key], people, marks.get(key, {}), due) for key, result in shown_results.items()]
    absentees = {names[person.student]: person for person in people if person.student not in keys}
    missing = {key: absentees[key] for key in order(absentees)}
    rows += _rows_without_work(missing, covered, marks, set(results))
    write_csv(out / "grades.csv", columns, [row | dict.fromkeys(WHO, "") for row in rows] if anonymous else rows)
    canvas, moodle = gradebook.gradebooks(results, keys | covered, people, marks, names, possible)
    write_csv(out / "gradebook.csv", gradebook.CANVAS, canvas)
    write_csv(out / "gradebook-moodle.csv", gradebook.MOODLE, moodle)
    pairs = [{"pseudonym": key, "student": name} for name, key in names.items()]
    write_csv(out / "pseudonyms.csv", ["pseudonym", "student"], pairs)
    written.write(out)
    absent = {key: person for key, person in missing.items() if person.student not in covered}
    labels = {key: key for key in (*results, *absent)} if anonymous else _labels(results, entries, absent)
    pages.write_pages(out, shown_results, labels, list(absent), marks, written)
    platforms.write_feedback(out, {key: entry.path for key, entry in entries.items()})


def _labels(results: Results, entries: Mapping[str, Entry], absent: Mapping[str, Person]) -> dict[str, str]:
    """Pseudonym -> the student's name, with the ID where several have it; the ID or the file if there is none."""
    people = {key: (entries[key].name, results[key].student or shown(entries[key].path.name)) for key in results}
    people |= {key: (shown(person.name), person.student) for key, person in absent.items()}
    several = Counter(name for name, _ in people.values() if name)
    return {
        key: f"{name} ({student})" if several[name] > 1 else name or student for key, (name, student) in people.items()
    }


def _rows_without_work(
    missing: Mapping[str, Person], covered: Mapping[str, str], marks: Marks, graded: set[str]
) -> Iterator[Row]:
    """Who handed in nothing, and whose work is no longer there but has marks."""
    for key, person in missing.items():
        partner = covered.get(person.student)
        why = f"handed in by the group: {partner}" if partner else "nothing handed in"
        yield {"student": person.student, "name": person.name, "pseudonym": key, "flags": why, **marks.get(key, {})}
    for key, own in marks.items():
        if key not in graded and key not in missing and any(own.values()):
            yield {"pseudonym": key, "flags": "no longer among the submissions", **own}


def _anonymous(results: Results, entries: Mapping[str, Entry], people: Sequence[Person]) -> dict[str, Result]:
    """Results without what says who somebody is: IDs, names, and the names of files, which hold one or the other."""
    words = {word for person in people for word in (person.student, person.name)}
    for key, entry in entries.items():
        words |= {results[key].student, results[key].worked, entry.student, entry.name, entry.named}
        words |= {shown(entry.path.name), *entry.older}
    longest_first = "|".join(map(re.escape, sorted(words - {""}, key=len, reverse=True)))
    hidden = re.compile(rf"(?<![^\W_])(?:{longest_first})(?![^\W_])", re.IGNORECASE)
    hidden_results = {}
    for key, result in results.items():
        refused = {hidden.sub("…", name): hidden.sub("…", why) for name, why in result.refused.items()}
        flags = tuple(hidden.sub("…", flag) for flag in result.flags)
        hidden_results[key] = replace(result, flags=flags, refused=refused)
    return hidden_results


def _row(key: str, result: Result, entry: Entry, people: Sequence[Person], own: Own, due: datetime | None) -> Row:
    allowed = next((person.late_days for person in people if person.student == entry.student), 0)
    row: Row = {"student": result.student, "name": entry.name, "pseudonym": key}
    row |= {"points": result.points, "of": TOTAL, "bonus": result.bonus}
    row |= {name: task.points for name, task in result.tasks.items()}
    row |= {**own, "days_late": entry.days_late(due), "late_days_allowed": allowed, "attempts": len(entry.older) + 1}
    row["flags"] = "; ".join([*result.flags, *(f"{name or 'all'}: {why}" for name, why in result.refused.items())])
    row |= {f"answer {name}": without_homes(answer.text) for name, answer in result.answers.items()}
    return row


def _columns(results: Results, earlier: Sequence[str], marks: Marks) -> list[str]:
    """All columns; those of an earlier table stay where the instructor has put them."""
    answers = sorted({f"answer {name}" for result in results.values() for name in result.answers})
    usual = [*FIRST_COLUMNS, *TASKS, *OWN_COLUMNS, *LAST_COLUMNS, *answers]
    own = next(iter(marks.values()), {})
    return list(dict.fromkeys([*(name for name in earlier if name in usual or name in own), *usual]))


def _covered_by_group(keys: Mapping[str, str], people: Sequence[Person]) -> dict[str, str]:
    """Student without a submission -> pseudonym of the one that the group handed in; ``keys`` are those of students."""
    group_of = {person.student: person.group for person in people if person.group}
    handed_in = {group_of[student]: key for student, key in keys.items() if student in group_of}
    return {s: handed_in[group] for s, group in group_of.items() if s not in keys and group in handed_in}
