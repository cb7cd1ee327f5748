"""What a notebook found out, as a small JSON file, for ``labkit run``'s summary and for notebooks that compare.

Knows no network: numbers and names only.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

from labkit import runtime


def save_record(
    notebook: str, networks: dict[str, dict[str, float]], curves: dict[str, list[dict[str, float]]] | None = None
) -> Path:
    """Write ``models/records/NOTEBOOK.json``.

    Args:
        notebook: the notebook's name, such as ``"02_random_pruning"``.
        networks: name -> ``sparsity`` and ``test_accuracy``, both in [0, 1], and ``trained``: 1 if the notebook trained
            it, 0 if it only pruned and evaluated. A trained accuracy may differ by 0.003 elsewhere, an evaluated one
            by 0.0003.
        curves: name -> one dict of numbers a step, for a notebook that compares.

    Raises:
        ValueError: a number is missing or out of range.
        OSError: the folder cannot be written.
    """
    if not re.fullmatch(r"\w[\w.-]*", str(notebook)):
        raise ValueError(f"notebook is {notebook!r}; it must be a plain name such as '02_random_pruning'")
    _check_networks(networks)
    path = runtime.models_dir() / "records" / f"{notebook}.json"
    content = {"notebook": notebook, "networks": networks, "curves": curves or {}}
    content |= {"hardware": runtime.hardware(runtime.pick_device()), "versions": runtime.versions()}
    return runtime.write_file(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _check_networks(networks: Any) -> None:
    for name, row in networks.items():
        for key in ("sparsity", "test_accuracy", "trained"):
            value = row.get(key) if isinstance(row, dict) else None
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{key} of {name} is {value}; it must be a number in [0, 1]")


def load_record(notebook: str) -> dict[str, Any]:
    """The record of a notebook: your own, or else the committed one in ``models/reference/records/``.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: the file is not a record.
    """
    for folder in (runtime.models_dir(), runtime.reference_dir()):
        path = folder / "records" / f"{notebook}.json"
        if path.exists():
            return read_record(path)
    raise FileNotFoundError(f"no record of {notebook}; run notebooks/{notebook}.ipynb first")


def read_record(path: Path) -> dict[str, Any]:
    """A record from its file.

    Raises:
        ValueError: the file is not a record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["networks"], dict) or not isinstance(record["curves"], dict):
            raise TypeError("networks and curves must be objects")
        _check_networks(record["networks"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a labkit record ({error})") from None
    return dict(record)


def load_results(name: str) -> list[dict[str, str]]:
    """Rows of ``data/results/NAME.csv``: what was measured once and is committed, all seeds of a run in one file.

    Raises:
        FileNotFoundError: no such results.
    """
    path = runtime.PROJECT / "data" / "results" / f"{name}.csv"
    if not path.exists():
        raise FileNotFoundError(f"results are {name!r}; there are {sorted(p.stem for p in path.parent.glob('*.csv'))}")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
