"""Submissions, read once and as data: nothing in them is run, and every size is bounded.

A file that is not what it should be is refused with a reason; the rest of the submission is still read.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from labkit.cnn import CNN
from labkit.course.students import checked_id
from labkit.course.submission.archive import Files, read_files
from labkit.course.submission.foreign import Refused
from labkit.course.submission.network import Answer, read_answer, read_network
from labkit.course.submission.notebook import dict_of, read_notebook
from labkit.course.task import NETWORKS, NOTEBOOKS, TASKS

Read = TypeVar("Read")


@dataclass(frozen=True)
class Submission:
    """What somebody handed in.

    Attributes:
        student: the ID that it gives itself, or "".
        networks: name -> network, float32.
        answers: task -> answer that is no network.
        notebooks: name -> its cells and metadata.
        seed: what CNN_MNIST says that it was trained with, of whatever kind; None if it does not say.
        refused: base name (or "" for the whole submission) -> why it was not read.
        flags: what else is worth a look.
    """

    student: str = ""
    networks: Mapping[str, CNN] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    notebooks: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seed: Any = None
    refused: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def read_submission(path: Path) -> Submission:
    """Everything of interest in a zip or a folder. Never raises because of what is in it."""
    return submission_of(read_files(path))


def submission_of(files: Files) -> Submission:
    """What the files of a submission hold; each of them is read once."""
    networks, refused_networks = _read_all(files, NETWORKS, "pth", read_network)
    answers, refused_answers = _read_all(files, (x for x in TASKS if not TASKS[x].network), "pth", read_answer)
    notebooks, refused_notebooks = _read_all(files, NOTEBOOKS, "ipynb", lambda content, _: read_notebook(content))
    seed = networks["CNN_MNIST"].seed if "CNN_MNIST" in networks else None
    refused = {**files.refused, **refused_networks, **refused_answers, **refused_notebooks}
    flags = (*(flag for network in networks.values() for flag in network.flags), *files.flags)
    alone = {name: read.network for name, read in networks.items()}
    return Submission(student_of(files), alone, answers, notebooks, seed, refused, flags)


def _read_all(
    files: Files, names: Iterable[str], ending: str, reader: Callable[[bytes, str], Read]
) -> tuple[dict[str, Read], dict[str, str]]:
    """Name -> content of the files that are there and can be read, and base name -> reason for those that cannot."""
    found, refused = {}, {}
    for name in names:
        base = f"{name}.{ending}"
        if base in files.content:
            try:
                found[name] = reader(files.content[base], name)
            except Refused as error:
                refused[base] = str(error)
    return found, refused


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


def packed_of(files: Files) -> datetime | None:
    """When ``labkit pack`` made it, by the student's clock; None if it is not said."""
    try:
        packed = datetime.fromisoformat(str(_json(files, "manifest.json").get("packed", "")))
    except ValueError:
        return None
    return packed if packed.tzinfo else packed.replace(tzinfo=UTC)


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        return dict_of(json.loads(files.content.get(name, b"{}").decode("utf-8-sig")))
    except (ValueError, RecursionError):
        return {}
