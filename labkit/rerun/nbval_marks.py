"""A plug-in of pytest: nbval compares up to labkit's marks, and each kernel sees what ``labkit run`` shows it."""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, IPyNbFile

from labkit.rerun.execution import kernel_environment
from labkit.rerun.marks import equal_up_to_marks

_sanitize, _compare = IPyNbCell.sanitize, IPyNbCell.compare_outputs
_setup, _teardown = IPyNbFile.setup, IPyNbFile.teardown


class Marked(str):
    """An output that equals another one up to the marks ≈ and †."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and equal_up_to_marks(str(self), str(other))

    def __ne__(self, other: object) -> bool:
        return not self == other


def _sanitize_marked(cell: IPyNbCell, text: object) -> object:
    return Marked(clean) if isinstance(clean := _sanitize(cell, text), str) else clean


def _compare_without_progress(
    cell: IPyNbCell, fresh: list[NotebookNode], stored: list[NotebookNode], skip: object = None
) -> bool:
    """A notebook that somebody worked in holds what is left of its lines of progress; re-executed, there are none."""
    stored = [output for output in stored if output.get("metadata", {}).get("labkit") != "progress"]
    return bool(_compare(cell, fresh, stored, skip))


def _setup_isolated(file: IPyNbFile) -> None:
    """Start the kernel as ``labkit run`` does, with its own empty folder of networks."""
    file.labkit_models = tempfile.TemporaryDirectory()
    threads = int(os.environ.get("LABKIT_TEST_THREADS", "1"))
    with patch.dict(os.environ, kernel_environment(Path(file.labkit_models.name), threads)):
        _setup(file)


def _teardown_isolated(file: IPyNbFile) -> None:
    _teardown(file)
    file.labkit_models.cleanup()


def pytest_configure() -> None:
    """Put labkit's comparison and environment in the place of nbval's."""
    IPyNbCell.sanitize, IPyNbCell.compare_outputs = _sanitize_marked, _compare_without_progress
    IPyNbFile.setup, IPyNbFile.teardown = _setup_isolated, _teardown_isolated
