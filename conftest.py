"""What all tests need, those of nbval too: labkit's marks, the longest notebooks first, folders of their own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

ROOT = Path(__file__).parent
pytest_plugins = ["labkit.rerun.nbval_marks"]
collect_ignore = ["notebooks/START.ipynb"]  # its output is of the folder as it is


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
