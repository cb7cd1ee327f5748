"""Whose a submission says that it is."""

import json
from typing import Any

from labkit.course.students import checked_id
from labkit.course.submission.archive import Files


def id_or_nothing(text: object) -> str:
    """A student's ID as ``checked_id`` writes it, or "" if it is none."""
    try:
        return checked_id(text)
    except ValueError:
        return ""


def student_of(files: Files) -> str:
    """The ID that a submission gives itself, or ""."""
    told = (id_or_nothing(_json(files, name).get("student")) for name in ("manifest.json", "student.json"))
    return next(filter(None, told), "")


def packed_of(files: Files) -> str:
    """When ``labkit pack`` made it, by the student's clock, as it is written there; "" if it is not said."""
    return str(_json(files, "manifest.json").get("packed", ""))


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        found = json.loads(files.content.get(name, b"{}").decode("utf-8-sig"))
        return found if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        return {}
