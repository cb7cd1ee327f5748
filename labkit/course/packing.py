"""What a student hands in: one zip of notebooks, answers and networks, and the points that it will get."""

import datetime
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from labkit import runtime
from labkit.course import intake
from labkit.course.answers import answer_path
from labkit.course.release import make_course, read_course
from labkit.course.students import checked_id, course_files, salt, who
from labkit.course.tasks import NETWORKS, NOTEBOOKS, TASKS

FORMAT = "labkit submission 1"
MOST_BYTES = 20 * intake.MEGABYTE
# The name of a home folder says who somebody is.
# On Windows it may have blanks, and each step from repr() to JSON doubles the backslashes.
HOME = re.compile(
    r"""/(?:home|Users)/[^/\\\s"':,;<>]+|\b[A-Za-z]:\\+Users\\+(?:[^\\/:*?"'<>|\n]+(?=\\)|[^/\\\s"':,;<>]+)|/root\b"""
)


def without_homes(text: str) -> str:
    """Text in which home folders are called ``~``."""
    return HOME.sub("~", text)


def this_course() -> dict[str, Any]:
    """The course that this folder is: its ``course.json``, or else made from the solution notebooks."""
    path = next((path for path in course_files() if path.is_file()), None)
    return read_course(path) if path else make_course(runtime.PROJECT / "notebooks", salt())[1]


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
        raise ValueError(
            "nobody has signed in; say who you are: make pack STUDENT=ab1234, labkit pack --student ab1234"
        )
    student = checked_id(student)
    if who() and who() != student:
        raise ValueError(f"student is {student!r}, but {who()!r} has signed in here; whose work is it?")
    files = {f"notebooks/{name}.ipynb": notebooks / f"{name}.ipynb" for name in NOTEBOOKS}
    files |= {f"models/{name}.pth": runtime.models_dir() / f"{name}.pth" for name in NETWORKS}
    files |= {f"models/answers/{name}.pth": answer_path(name) for name, task in TASKS.items() if not task.network}
    there = {name: path for name, path in files.items() if path.is_file()}
    if not there:
        raise FileNotFoundError(f"neither {notebooks} nor {runtime.models_dir()} holds anything to hand in")
    manifest = {
        "format": FORMAT,
        "student": student,
        "course": this_course()["version"],
        "packed": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    path = out / f"labs_{student}.zip"
    with runtime.written_whole(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", json.dumps(manifest, indent=1))
            for name, source in there.items():
                archive.writestr(name, _content(source))
        size = temporary.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"the zip has {size / intake.MEGABYTE:.1f} MB; it may have 20. Clear large outputs")
    return path


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return without_homes(content.decode("utf-8", "replace")).encode() if path.suffix == ".ipynb" else content


def missing(result: dict[str, Any]) -> list[str]:
    """What a submission lacks, in words."""
    lines = [f"{name}.ipynb is {state}" for name, state in result["notebooks"].items() if state != "read"]
    for name, task in result["tasks"].items():
        if not task["attempted"]:
            kind = f"{TASKS[name].network}.pth" if TASKS[name].network else "its check cell was not run with an answer"
            lines.append(f"{name}, {TASKS[name].title}: not attempted ({kind})")
    return lines
