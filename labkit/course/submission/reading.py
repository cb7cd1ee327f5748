"""Submissions, read once and as data: nothing in them is run, and every size is bounded.

A file that is not what it should be is refused with a reason; the rest of the submission is still read.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from labkit.cnn import CNN
from labkit.course.submission.archive import Files, read_files
from labkit.course.submission.foreign import Refused
from labkit.course.submission.identity import student_of
from labkit.course.submission.network import Answer, read_answer, read_network
from labkit.course.submission.notebook import read_notebook
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
    return Submission(
        student_of(files),
        {name: network for name, (network, _, _) in networks.items()},
        answers,
        notebooks,
        networks["CNN_MNIST"].seed if "CNN_MNIST" in networks else None,
        {**files.refused, **refused_networks, **refused_answers, **refused_notebooks},
        (*(flag for _, flags, _ in networks.values() for flag in flags), *files.flags),
    )


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
