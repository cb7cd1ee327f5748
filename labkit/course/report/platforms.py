"""The feedback pages under the names by which Canvas and Moodle take feedback back for a whole class.

Canvas reads the two numbers in the name of a file, the student's and that of the file that was handed in, and shows
the feedback under the name of the latter. Moodle reads the number in the name of a folder.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from labkit import runtime
from labkit.course.inbox import CANVAS, MOODLE

PAGE = "feedback.html"


def write_feedback(out: Path, paths: Mapping[str, Path]) -> None:
    """Write ``feedback-canvas.zip`` and ``feedback-moodle.zip``, each if there is work in that platform's form.

    Args:
        out: folder of the grades, with the pages in ``feedback/``.
        paths: pseudonym -> the submission, where the platform's download has put it.
    """
    for platform, name_of in (("canvas", _canvas_name), ("moodle", _moodle_name)):
        target, names = out / f"feedback-{platform}.zip", {key: name_of(path) for key, path in paths.items()}
        target.unlink(missing_ok=True)
        if any(names.values()):
            with runtime.written_whole(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
                for key in filter(names.get, names):
                    page = (out / "feedback" / f"{key}.html").read_bytes()
                    archive.writestr(names[key], _content(page, names[key]), zipfile.ZIP_DEFLATED)


def _canvas_name(path: Path) -> str:
    """The name that Canvas gave to a submission, "" if none; what was no zip is named as the page that it gets."""
    if path.name.endswith("*"):  # loose files of one student
        path = max(path.parent.glob(path.name), default=path)
    ending = "" if path.suffix.lower() == ".zip" else ".zip" if path.is_dir() else ".html"  # a folder was a zip
    return f"{path.name}{ending}" if CANVAS.fullmatch(path.name) and not path.name.startswith("labs_") else ""


def _moodle_name(path: Path) -> str:
    """The page's place in the folder that Moodle made for the student, "" if it made none."""
    match = next(filter(None, map(MOODLE.fullmatch, path.parts)), None)
    # Moodle counts underscores: there is none in a name but where a character was not safe for a file.
    return f"{match[1].replace('_', ' ')}_{match[2]}_assignsubmission_file_/{PAGE}" if match else ""


def _content(page: bytes, name: str) -> bytes:
    """The page, in a zip where Canvas will show it under the name of a zip: so it can be opened."""
    if name.endswith(".html"):
        return page
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(PAGE, page)
    return stream.getvalue()
