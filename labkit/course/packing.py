"""What a student hands in: one zip of notebooks, answers and networks, and the points that it will get."""

import datetime
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from labkit import runtime
from labkit.course.answers import answer_path
from labkit.course.course_file import Json, Spec, handed_out
from labkit.course.release import make_course, places
from labkit.course.result import Result
from labkit.course.students import checked_id, salt, who
from labkit.course.submission.archive import is_junk, usual_name
from labkit.course.submission.foreign import MEGABYTE, shown
from labkit.course.submission.notebook import decoded
from labkit.course.task import NETWORKS, NOTEBOOKS, TASKS
from labkit.course.written import is_asked

FORMAT = "labkit submission 1"
MOST_BYTES = 20 * MEGABYTE
# The name of a home folder says who somebody is.
# On Windows it may have blanks, and each step from repr() to JSON doubles the backslashes.
HOME = re.compile(
    r"""/(?:home|Users)/[^/\\\s"':,;<>]+|\b[A-Za-z]:\\+Users\\+(?:[^\\/:*?"'<>|\n]+(?=\\)|[^/\\\s"':,;<>]+)|(?<![\w.])/root\b"""
)
# The grader's words about one cell; the name of the cell, and what is odd about it.
A_CELL = re.compile(
    r"cells? (\S+?(?:, \S+?)*)(?:, a (?:check|given cell),)? (was changed|(?:is|are) missing|is there \d+ times)"
)
IN_ANOTHER_ORDER = "the given cells are in another order"


def without_homes(text: str) -> str:
    """Text in which home folders are called ``~``."""
    return HOME.sub("~", text)


def this_course() -> Json:
    """The course that this folder is: its ``course.json``, or else made from the solution notebooks."""
    return handed_out() or make_course(runtime.PROJECT / "notebooks", salt())[1]


def pack(student: str, notebooks: Path, out: Path) -> Path:
    """Write ``out/labs_STUDENT.zip``, whole or not at all.

    Args:
        student: the ID that the course knows.
        notebooks: folder of the worked notebooks.
        out: folder of the zip.

    Raises:
        ValueError: no ID, somebody else's work, or more than 20 MB.
        FileNotFoundError: there is nothing to hand in.
    """
    if not student:
        how = "make pack STUDENT=ab1234, labkit pack --student ab1234"
        raise ValueError(f"nobody has signed in; say who you are: {how}")
    student = checked_id(student)
    if who() and who() != student:
        raise ValueError(f"student is {student!r}, but {who()!r} has signed in here; whose work is it?")
    files = {f"notebooks/{name}.ipynb": notebooks / f"{name}.ipynb" for name in NOTEBOOKS}
    files |= {f"models/{name}.pth": runtime.models_dir() / f"{name}.pth" for name in NETWORKS}
    files |= {f"models/answers/{name}.pth": answer_path(name) for name, task in TASKS.items() if not task.network}
    there = {name: path for name, path in files.items() if path.is_file()}
    if not there:
        nothing = f"neither {notebooks} nor {runtime.models_dir()} has anything to hand in"
        raise FileNotFoundError("; ".join([nothing, *copies(notebooks)]))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    manifest = {"format": FORMAT, "student": student, "course": this_course()["version"], "packed": now}
    path = out / f"labs_{student}.zip"
    with runtime.written_whole(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest, indent=1))
            for name, source in there.items():
                content = source.read_bytes()
                archive.writestr(name, without_homes(decoded(content)) if name.endswith(".ipynb") else content)
        size = temporary.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"the zip has {size / MEGABYTE:.1f} MB; it may have 20. Clear large outputs")
    return path


def copies(notebooks: Path) -> list[str]:
    """Files that may be a student's notebook under another name, such as a browser or an editor gives, in words."""
    lines = []
    for path in sorted(notebooks.iterdir()) if notebooks.is_dir() else []:
        right = notebooks / usual_name(path.name, [f"{name}.ipynb" for name in NOTEBOOKS])
        if right in (notebooks, path) or is_junk(path.name) or not path.is_file():
            continue
        line = f"{shown(path.name)} found: is this your {right.name[:2]}? pack takes {right.name}"
        if not right.is_file():
            line += "; rename the file to that"
        elif path.stat().st_mtime > right.stat().st_mtime:
            times = [datetime.datetime.fromtimestamp(one.stat().st_mtime) for one in (path, right)]
            line += "; the first one is newer ({:%Y-%m-%d %H:%M}, the second {:%Y-%m-%d %H:%M})".format(*times)
        lines.append(line)
    return lines


def remarks(result: Result, course: Json, notebooks: Path) -> list[str]:
    """What a student should know about a graded submission in addition to the points, each thing once.

    Args:
        result: what ``grading.grade`` found.
        course: what it was graded by.
        notebooks: the folder that was packed.
    """
    lines = copies(notebooks) + [f"your instructor may ask: {line}" for line in _flags(result, course)]
    lines += [f"missing: {line}" for line in missing(result, course)]
    lines += [f"not answered: {line}" for line in unanswered(result, course)]
    return list(dict.fromkeys(lines))


def missing(result: Result, course: Json) -> list[str]:
    """What a submission lacks, in words, and what to run for it."""
    lines = []
    for name, state in result.notebooks.items():
        tasks = [task for task in TASKS if TASKS[task].notebook == name and not result.tasks[task].attempted]
        if state == "read":
            lines += [_not_attempted(task, course["notebooks"][name]) for task in tasks]
        else:
            refused = f"cannot be read: it {result.refused.get(f'{name}.ipynb', '')}"
            why = refused if state == "refused" else "is missing"
            lines.append(f"{name}.ipynb {why}" + (f"; not attempted: {', '.join(tasks)}" if tasks else ""))
    others = {name: why for name, why in result.refused.items() if name.removesuffix(".ipynb") not in NOTEBOOKS}
    return lines + [f"{name} was not read: it {why}" for name, why in others.items()]


def _not_attempted(task: str, given: Sequence[Spec]) -> str:
    check = next((spec for spec in given if spec["name"] == task and spec["role"] == "check"), None)
    run = f"run {_words(check, given)}" if check else "run its check cell"
    return f"{task}, {TASKS[task].title}: not attempted; do it, and {run}, which saves it"


def _words(spec: Spec, given: Sequence[Spec]) -> str:
    """A cell as a reader of the notebook finds it, such as "the second check below 'Act, by hand'"."""
    place = places(given)
    kind = {"given": "given cell", "open": "cell"}.get(spec["role"], spec["role"])
    sort = spec["role"], spec["type"], place[spec["id"]]
    alike = [one["id"] for one in given if (one["role"], one["type"], place[one["id"]]) == sort]
    number = alike.index(spec["id"]) if len(alike) > 1 and place[spec["id"]] else -1
    nth = ("first ", "second ", "third ")[number] if 0 <= number < 3 else "" if number < 0 else f"{number + 1}th "
    named = f"below {place[spec['id']]!r}" if place[spec["id"]] else spec["name"] or spec["id"]
    return f"the {nth}{kind} {named}"


def answers_read(result: Result, course: Json) -> list[tuple[str, str, str]]:
    """Each question with points: its name, how the answer begins, and how many words it has."""
    rows = []
    for spec in (spec for given in course["notebooks"].values() for spec in given if is_asked(spec)):
        text = " ".join(result.answers[spec["name"]].text.split()) if spec["name"] in result.answers else ""
        rows.append((spec["name"], shown(text, 50), f"{len(text.split()):,}" if text else "not answered"))
    return rows


def unanswered(result: Result, course: Json) -> list[str]:
    """Questions with points whose answer is not written, in words: notebook, heading, question."""
    lines = []
    for name, given in course["notebooks"].items():
        place = places(given)
        for spec in given if result.notebooks.get(name) == "read" else []:
            if is_asked(spec) and spec["name"] not in result.answers:
                text = spec["head"].replace("**", "")
                asked = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
                lines.append(f"{name}, {place[spec['id']]!r}: {shown(asked[0]) if asked else spec['name']}")
    return lines


def _flags(result: Result, course: Json) -> list[str]:
    """The grader's flags, those about cells in words that lead there; what was refused is said elsewhere."""
    lines = []
    cells: dict[str, dict[str, list[str]]] = {}
    for flag in result.flags:
        name, _, said = flag.partition(": ")
        found = A_CELL.fullmatch(said) if name in course["notebooks"] else None
        if found:
            given = course["notebooks"][name]
            names = found[1].split(", ")
            named = [_words(spec, given) for spec in given if spec["name"] in names or spec["id"] in names]
            cells.setdefault(name, {}).setdefault(found[2].replace("are ", "is "), []).extend(named)
        elif name in course["notebooks"] and said == IN_ANOTHER_ORDER:
            cells.setdefault(name, {})["in another order"] = ["the given cells are"]
        elif name in course["notebooks"] and said.startswith("of another course version"):
            lines.append(f"{flag}; to repair that: labkit repair {name[:2]}")
        elif not any(flag.startswith(f"{file} was refused: ") for file in result.refused):
            lines.append(flag)
    for name, found_cells in cells.items():
        said = "; ".join(f"{', '.join(words)} {_plural(what, len(words))}" for what, words in found_cells.items())
        lines.append(f"{name}: {said}; to restore what was handed out: labkit repair {name[:2]}")
    return lines


def _plural(verb: str, count: int) -> str:
    return verb if count == 1 else verb.replace("was ", "were ", 1).replace("is ", "are ", 1)
