"""``course.json``: the cells that a course has handed out, its version and its salt; read and checked here only.

Every notebook imports this module, so it does without nbformat, whose import takes long.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit import runtime

FORMAT = "labkit course 1"
Json = dict[str, Any]  # an object of JSON: a course, a notebook, a cell, its metadata
Spec = Mapping[str, Any]  # a cell, as course.json describes it


def course_files() -> list[Path]:
    """Where ``course.json`` of a released course may lie: in labkit's project, or beside or above the notebooks."""
    return [folder / "course.json" for folder in (runtime.PROJECT, Path.cwd(), Path.cwd().parent)]


def handed_out() -> Json | None:
    """``course.json`` of the release that this folder is, or nothing in the project itself.

    Raises:
        ValueError: there is one, and it cannot be read.
    """
    path = next((path for path in course_files() if path.is_file()), None)
    return read_course(path) if path else None


def read_course(path: Path) -> Json:
    """``course.json`` of a release.

    Raises:
        ValueError: it is not one.
    """
    try:
        course = json.loads(path.read_text(encoding="utf-8-sig"))
        if course["format"] != FORMAT or not isinstance(course["notebooks"], dict):
            raise ValueError(f"its format is {course['format']!r:.80}")
        if not isinstance(course["version"], str) or not all(map(_are_cells, course["notebooks"].values())):
            raise ValueError("its version is no text, or its notebooks are no lists of cells")
        return {**course, "salt": checked_salt(course["salt"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no course.json of a release ({error}); get the course's folder again") from None


def _are_cells(cells: Any) -> bool:
    words = ("id", "role", "type", "hash", "name", "head")
    rows = isinstance(cells, list) and all(isinstance(cell, dict) and "points" in cell for cell in cells)
    return rows and all(isinstance(cell.get(word), str) for cell in cells for word in words)


def checked_salt(course_salt: object) -> str:
    """A course's salt, as it is.

    Raises:
        ValueError: it is no string, or half of a pair of characters, which has no bytes to follow from.
    """
    if not isinstance(course_salt, str) or course_salt.encode(errors="ignore").decode() != course_salt:
        kind = type(course_salt).__name__
        raise ValueError(f"salt is {course_salt!r:.80} of type {kind}; it must be a string of whole characters")
    return course_salt
