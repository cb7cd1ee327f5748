"""Who works here, and the seed that follows from it.

Graded work starts from the student's own training: the seed comes from the student's ID and the course's salt, so that
networks of two students differ unless one is a copy of the other.
"""

import hashlib
import json
import re
import unicodedata

from labkit import runtime
from labkit.checkpoints import load_metadata
from labkit.course.course_file import handed_out

DEFAULT_SALT = "pruning labs"
_ID = re.compile(r"[\w.@+-]{1,64}")


def checked_id(student: object) -> str:
    """A student's ID in its one way of writing: without spaces around it, in lower case.

    Raises:
        ValueError: it is no ID.
    """
    text = unicodedata.normalize("NFKC", student).strip().casefold() if isinstance(student, str) else ""
    if not _ID.fullmatch(text) or text.startswith((".", "-", "+", "@")):
        raise ValueError(f"student is {student!r:.80}; an ID is 1 to 64 letters, digits or any of . _ @ + -")
    return text


def salt() -> str:
    """The course's salt, from its ``course.json``; without one, the salt of a course that nobody named.

    Raises:
        ValueError: the file cannot be read.
    """
    course = handed_out()
    return str(course["salt"]) if course else DEFAULT_SALT


def seed_of(student: str, course_salt: str) -> int:
    """A student's seed: a whole number from 1 to 2**31 - 1. Seed 0 is the authors'."""
    digest = hashlib.sha256(f"{course_salt}\n{checked_id(student)}".encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % (2**31 - 1)


def sign_in(student: str = "") -> None:
    """Say who works here; it is kept in ``models/student.json``, and ``seed()`` follows from it.

    Args:
        student: the ID that the course knows you by, a string. Without one, what was said before stays.
    """
    path = runtime.models_dir() / "student.json"
    if student != "":
        try:
            student = checked_id(student)
        except ValueError as error:
            print(f"✗ {error}\n  {_hint_for_id(student)}")
            return
        runtime.write_file(path, json.dumps({"student": student}) + "\n")
    name = who()
    print(f"{name}: your seed is {seed()}" if name else "no ID: seed 0 is used, the authors' seed")
    trained_with = _seed_of_the_training()
    if trained_with not in (None, seed()):
        print(f"– your CNN_MNIST was trained with seed {trained_with}: run the cell of SEED and train it again")


def _seed_of_the_training() -> int | None:
    """The seed that the student's own CNN_MNIST says it was trained with; None if there is none, or it does not say."""
    path = runtime.models_dir() / "CNN_MNIST.pth"
    try:
        found = load_metadata(path).get("seed") if path.is_file() else None
    except (OSError, ValueError):
        return None
    return found if type(found) is int else None


def _hint_for_id(student: object) -> str:
    if not isinstance(student, str):
        said = str(student) if type(student) in (int, float) else "ab1234"
        return f'write the ID in quotes: course.sign_in("{said[:64]}")'
    if len(student.split()) > 1:
        return "the ID that your course gave you, without blanks; your name is not needed"
    return 'such as course.sign_in("ab1234")'


def who() -> str:
    """The ID of the student who works here, or "" if nobody has signed in."""
    path = runtime.models_dir() / "student.json"
    try:
        return checked_id(json.loads(path.read_text(encoding="utf-8"))["student"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def seed() -> int:
    """The seed for the student who is signed in; 0 if nobody is."""
    student = who()
    return seed_of(student, salt()) if student else 0
