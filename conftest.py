"""nbval with labkit's marks: how stored outputs are compared, and what each notebook's kernel may see."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

from labkit.rerun.execution import kernel_environment
from labkit.rerun.marks import equal_up_to_marks

ROOT = Path(__file__).parent
collect_ignore = ["notebooks/START.ipynb"]  # its output is of the folder as it is
THREADS = int(os.environ.get("LABKIT_TEST_THREADS", "1"))


class Marked(str):
    """An output that equals another one up to the marks ≈ and †."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and equal_up_to_marks(str(self), str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other


_sanitize, _setup, _teardown = IPyNbCell.sanitize, IPyNbFile.setup, IPyNbFile.teardown
_compare = IPyNbCell.compare_outputs


def _sanitize_marked(cell: IPyNbCell, text: object) -> object:
    text = _sanitize(cell, text)
    return Marked(text) if isinstance(text, str) else text


def _compare_without_progress(cell: IPyNbCell, fresh: list[Any], stored: list[Any], skip: object = None) -> bool:
    """A notebook that somebody worked in holds what is left of its lines of progress; re-executed, there are none."""
    stored = [output for output in stored if output.get("metadata", {}).get("labkit") != "progress"]
    return bool(_compare(cell, fresh, stored, skip))


def _setup_isolated(file: IPyNbFile) -> None:
    """Start the kernel as ``labkit run`` does, with its own empty folder of networks."""
    file.labkit_models = tempfile.TemporaryDirectory()
    before = dict(os.environ)
    os.environ.update(kernel_environment(Path(file.labkit_models.name), THREADS))
    try:
        _setup(file)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _teardown_isolated(file: IPyNbFile) -> None:
    _teardown(file)
    file.labkit_models.cleanup()


IPyNbCell.sanitize = _sanitize_marked
IPyNbCell.compare_outputs = _compare_without_progress
IPyNbFile.setup = _setup_isolated
IPyNbFile.teardown = _teardown_isolated


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest notebooks first, so that two workers end together."""
    seconds_file = ROOT / "models" / "reference" / "records" / "seconds.json"
    seconds = json.loads(seconds_file.read_text(encoding="utf-8")) if seconds_file.exists() else {}
    for item in items:
        if isinstance(item, IPyNbCell):
            item.output_timeout = 60  # on a busy machine a large output takes longer than nbval's 5 s
    items.sort(key=lambda item: -sum(seconds.get(item.path.stem, [])))


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests of labkit save their networks where nobody else looks."""
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LABKIT_BARS", "0")
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    yield
