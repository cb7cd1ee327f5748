"""Answers that are no network (masks, numbers, names) in small files under ``models/answers/``, one a task.

They are written by the check cells and read as data by the grader.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from labkit import runtime
from labkit.course.evidence import Weights
from labkit.course.task import TASKS
from labkit.training import digest_of_tensors

FORMAT = "labkit answer 1"


def answer_path(task: str) -> Path:
    """Where the answer to a task is kept."""
    return runtime.models_dir() / "answers" / f"{task}.pth"


def fingerprint(weights: Weights) -> str:
    """SHA-256 over the weights of all layers, to know later which network an answer belongs to."""
    return digest_of_tensors({name: weights[name] for name in sorted(weights)})


def save_answer(task: str, value: Any, before: Weights | None = None) -> None:
    """Keep an answer, whole or not at all; whatever is neither tensor, number nor text is kept as None.

    Raises:
        OSError: the folder cannot be written.
    """
    runtime.save_tensors(answer_path(task), content_of(task, value, before))


def kept_answer(task: str) -> Any:
    """The value of an answer that is kept; None if there is none, or none that can be read."""
    try:
        return runtime.load_tensors(answer_path(task))["value"]
    except Exception:  # what a broken file raises depends on where it is broken
        return None


@dataclass(frozen=True)
class Reached:
    """What the last check of a task said.

    Attributes:
        points: the points that it gave.
        of: the most that the task gives.
        attempted: whether there was anything to judge.
    """

    points: float
    of: float
    attempted: bool


def points_path() -> Path:
    """Where the points that the checks gave are kept."""
    return runtime.models_dir() / "answers" / "points.json"


def points_so_far() -> dict[str, Reached]:
    """Task -> what its last check said, in the order of the tasks; a file that is missing or damaged holds none."""
    try:
        kept = json.loads(points_path().read_text(encoding="utf-8"))
        return {name: Reached(**kept[name]) for name in TASKS if name in kept and _is_reached(kept[name])}
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _is_reached(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"points", "of", "attempted"} or type(row["attempted"]) is not bool:
        return False
    return all(type(row[x]) in (int, float) and 0 <= row[x] < 1e3 for x in ("points", "of"))


def keep_points(task: str, reached: Reached) -> None:
    """Keep what a check said. One that saw nothing leaves what an earlier one saw, as it leaves the work that it kept.

    Raises:
        OSError: the folder cannot be written.
    """
    runtime.check_writable(points_path())
    with FileLock(points_path().with_suffix(".lock"), timeout=10):  # two notebooks may check at once
        kept = points_so_far()
        if not reached.attempted and task in kept and kept[task].attempted:
            return
        rows = {name: asdict(row) for name, row in (kept | {task: reached}).items()}
        runtime.write_file(points_path(), json.dumps(rows, indent=1) + "\n")


def content_of(task: str, value: Any, before: Weights | None = None) -> dict[str, Any]:
    """What an answer's file holds."""
    base = fingerprint(before) if before is not None else ""
    return {"format": FORMAT, "task": task, "value": _plain(value), "base": base}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        # Masks of ones and zeros fit into a byte a weight; any other value is kept as it is, and reported.
        value = value.detach().cpu().as_subclass(torch.Tensor).contiguous()
        # Copies: a slice would take the whole tensor that it was cut from along.
        return value.to(torch.uint8, copy=True) if bool(((value == 0) | (value == 1)).all()) else value.clone()
    if isinstance(value, Mapping):
        return {str(key)[:40]: _plain(item) for key, item in list(value.items())[:100]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in list(value)[:100]]
    if isinstance(value, str):
        return value[:200]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)) and abs(value) < 1e15:
        return int(value) if isinstance(value, int) else float(value)
    plain = value.item() if isinstance(value, np.generic) else None
    return None if isinstance(plain, np.generic) else _plain(plain)
