"""The totals of a class, in the forms in which Canvas and Moodle take grades."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from labkit.course.report.marks import Marks, Own, mark_of
from labkit.course.result import Result, Results
from labkit.course.roster import Person

CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Pruning labs")
MOODLE = ("Identifier", "moodle_id", "Full name", "ID number", "Email address", "Grade", "Feedback comments")
Rows = list[Mapping[str, object]]


def total_of(result: Result | None, own: Own) -> float:
    """All points of a student: of the tasks, with the bonus, and the instructor's."""
    points = mark_of(own.get("instructor_points", ""), "instructor_points") or 0
    return round(points + (result.points + result.bonus if result else 0), 6)


def checked(result: Result, own: Own, possible: float) -> Result:
    """The result, with a flag if the instructor's points make more than can be reached."""
    total = total_of(result, own)
    flag = f"{total:g} points with instructor_points, more than the {possible:g} that can be reached"
    return replace(result, flags=(*result.flags, flag)) if total > possible else result


def gradebooks(
    results: Results,
    keys: Mapping[str, str],
    people: Sequence[Person],
    marks: Marks,
    names: Mapping[str, str],
    possible: float,
) -> tuple[Rows, Rows]:
    """The rows for Canvas and those for Moodle, in which there is nobody without points.

    Args:
        results: pseudonym -> result.
        keys: student -> pseudonym of the submission that counts, the student's own or the group's.
        people: the roster.
        marks: pseudonym -> the instructor's columns.
        names: student -> pseudonym.
        possible: all points that can be reached.
    """
    known = {person.student: person for person in people}
    canvas: Rows = [{"Student": "    Points Possible", CANVAS[-1]: possible}]
    moodle: Rows = []
    for student in sorted({*keys, *known}):
        person, key = known.get(student, Person(student)), keys.get(student, "")
        alone = {name: text for name, text in marks.get(names.get(student, ""), {}).items() if text}
        own = {**marks.get(key, {}), **alone}  # a partner has the marks of the group's work, but for what is set apart
        points = total_of(results.get(key), own) if key or own.get("instructor_points") else ""
        name, number = person.name or student, person.moodle_id
        canvas.append({"Student": name, "ID": person.canvas_id, "SIS Login ID": student, CANVAS[-1]: points})
        if points != "":
            ids = ("", person.email or student) if "@" in student else (student, person.email)
            cells = (number and f"Participant {number}", number, name, *ids, points, own.get("instructor_comment"))
            moodle.append(dict(zip(MOODLE, cells, strict=True)))
    return canvas, moodle
