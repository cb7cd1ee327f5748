"""What an executed notebook printed and found, compared with what is stored; and how new outputs are stored."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from labkit import files, runtime
from labkit.rerun.execution import Execution, expected_seconds, write_notebook
from labkit.rerun.marks import difference

PICTURES = ("image/png", "image/jpeg")
# Beyond these a test accuracy is reported as differing: by whether the notebook trained the network.
TOLERANCES = {True: 0.0030, False: 0.0003}


def comparable(outputs: list[NotebookNode]) -> dict[str, list[object]]:
    """Kind -> contents in order: streams joined by name, data by MIME type. Pictures count, but are not compared."""
    contents: dict[str, list[object]] = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream":
            contents[output.name] = ["".join(map(str, [*contents[output.name], output.text]))]
        elif output.output_type == "error":
            contents["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for kind, content in output.data.items():
                contents[kind].append("" if kind in PICTURES else content)
    return dict(contents)


def outputs_differ(stored: list[NotebookNode], fresh: list[NotebookNode]) -> str | None:
    """What differs beyond the marks between two cells' outputs, in words, or None."""
    old, new = comparable(stored), comparable(fresh)
    if {kind: len(items) for kind, items in old.items()} != {kind: len(items) for kind, items in new.items()}:
        return f"outputs were {sorted(old)} and are {sorted(new)}"
    for kind, items in old.items():
        for before, after in zip(items, new[kind], strict=True):
            if isinstance(before, str) and isinstance(after, str):
                change = difference(before, after)
            else:
                change = None if before == after else "the content"
            if change is not None:
                return f"{kind}: {change}"
    return None


def store(execution: Execution, path: Path, out: Path, *, fresh: bool) -> list[str]:
    """Put new outputs into the notebook itself, all of them, if one differs beyond its marks (or if ``fresh``).

    All of them, since a figure is not compared, and must not be older than the table beside it. The record and the
    cells' seconds go to ``models/reference/records/``.

    Returns:
        A line for each cell that changed.
    """
    stored = nbformat.read(path, as_version=4)
    pairs = [
        (old, new) for old, new in zip(stored.cells, execution.notebook.cells, strict=True) if old.cell_type == "code"
    ]
    changes = []
    for count, (old, new) in enumerate(pairs, start=1):
        change = "not run before" if old.execution_count is None else outputs_differ(old.outputs, new.outputs)
        if change is not None or fresh:
            changes.append(f"{path.stem} cell {count}: {change or 'stored anew'}")
        old.execution_count = count
    for old, new in pairs if changes else ():
        old.outputs = new.outputs
    write_notebook(stored, path)
    folder = runtime.reference_dir() / "records"
    record = out / "models" / path.stem / "records" / f"{path.stem}.json"
    if record.exists() and (changes or not (folder / record.name).exists()):
        runtime.write_file(folder / record.name, record.read_bytes())
    if changes or not expected_seconds(path.stem):
        target = folder / "seconds.json"
        seconds = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
        seconds[path.stem] = execution.taken
        rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in sorted(seconds.items()))
        runtime.write_file(target, f"{{\n{rows}\n}}\n")
    return changes


@dataclass(frozen=True)
class Comparison:
    """One network of one notebook: what this run found, compared with what is stored."""

    notebook: str
    network: str
    sparsity: float
    accuracy: float
    stored: float | None
    same: bool
    words: str


def compare_records(names: list[str], out: Path) -> list[Comparison]:
    """Compare the records under ``out`` with the committed ones. A notebook without a record gives nothing."""
    rows = []
    for name in names:
        path = out / "models" / name / "records" / f"{name}.json"
        reference = runtime.reference_dir() / "records" / path.name
        if not path.exists():
            continue
        try:
            stored = files.read_record(reference)["networks"] if reference.exists() else {}
            networks = files.read_record(path)["networks"]
            rows += [_compare(name, network, row, stored.get(network)) for network, row in networks.items()]
        except ValueError as error:
            rows.append(Comparison(name, "–", float("nan"), float("nan"), None, False, str(error)))
    return rows


def _compare(notebook: str, network: str, row: dict[str, float], old: dict[str, float] | None) -> Comparison:
    sparsity, accuracy = row["sparsity"], row["test_accuracy"]
    if old is None:
        return Comparison(notebook, network, sparsity, accuracy, None, True, "new")
    tolerance, moved = TOLERANCES[bool(row["trained"])], abs(accuracy - old["test_accuracy"])
    same = sparsity == old["sparsity"] and moved <= tolerance
    words = f"same (±{tolerance:.4f})" if same else f"moved by {moved:.4f}"
    if sparsity != old["sparsity"]:
        words = f"sparsity was {old['sparsity']:.4f}"
    return Comparison(notebook, network, sparsity, accuracy, old["test_accuracy"], same, words)
