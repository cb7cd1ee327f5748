"""Answers that are no network (masks, numbers, names) in small files under ``models/answers/``, one a task.

They are written by the check cells and read as data by the grader.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit import runtime
from labkit.course.methods import Weights

FORMAT = "labkit answer 1"


def answer_path(task: str) -> Path:
    """Where the answer to a task is kept."""
    return runtime.models_dir() / "answers" / f"{task}.pth"


def fingerprint(weights: Weights) -> str:
    """SHA-256 over the weights of all layers, to tell later which network an answer belongs to."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_answer(task: str, value: Any, before: Weights | None = None) -> None:
    """Keep an answer, whole or not at all; whatever is neither tensor, number nor text is kept as None.

    Raises:
        OSError: the folder can not be written.
    """
    with runtime.written_whole(answer_path(task)) as temporary:
        torch.save(content_of(task, value, before), temporary)


def content_of(task: str, value: Any, before: Weights | None = None) -> dict[str, Any]:
    """What an answer's file holds."""
    base = fingerprint(before) if before is not None else ""
    return {"format": FORMAT, "task": task, "value": _plain(value), "base": base}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        # Masks of ones and zeros fit into a byte a weight; any other value is kept as it is, to be told of.
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


def points_so_far() -> dict[str, dict[str, Any]]:
    """Task -> ``points``, ``of`` and ``attempted``, as its check cell last said; a damaged file counts as empty."""
    try:
        found = json.loads((runtime.models_dir() / "answers" / "points.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {task: row for task, row in found.items() if isinstance(row, dict)} if isinstance(found, dict) else {}
