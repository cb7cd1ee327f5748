"""A notebook run in quick mode by a real kernel, on one thread, with networks of its own."""

import os
from contextlib import suppress
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode


def executed(notebook: NotebookNode, folder: Path, models: Path) -> NotebookNode:
    """The notebook with all its outputs; a cell that raises keeps its error, and the ones below it are not run."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    switches = {"LABKIT_MODELS": str(models), "LABKIT_QUICK": "1", "LABKIT_BARS": "0", "LABKIT_DEVICE": "cpu"}
    outside = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=CRITICAL"],
        resources={"metadata": {"path": str(folder)}},
    )
    with suppress(CellExecutionError):  # it stands among the outputs
        client.execute(env=outside | threads | switches)
    return notebook
