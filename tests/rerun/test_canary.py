"""Whether the check of stored outputs notices what it should: real ``pytest --nbval`` on altered notebooks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from labkit import runtime

pytestmark = pytest.mark.slow  # starts pytest, and kernels

# Kind of cell -> (source, stored output as it was printed, the alteration, whether the check must notice it).
CELLS = {
    "exact digit": ("print('zeros 31,112')", "zeros 31,112\n", "zeros 31,113\n", True),
    "dropped output": ("print('zeros 31,112')", "zeros 31,112\n", None, True),
    "≈ within tolerance": ("print('accuracy ≈0.985')", "accuracy ≈0.985\n", "accuracy ≈0.982\n", False),
    "≈ beyond tolerance": ("print('accuracy ≈0.985')", "accuracy ≈0.985\n", "accuracy ≈0.981\n", True),
    "† other number": ("print('took †3.2 s')", "took †3.2 s\n", "took †71 s\n", False),
    "† other precision": ("print('in †float32')", "in †float32\n", "in †bfloat16\n", False),
    "† no precision": ("print('in †float32')", "in †float32\n", "in †float33\n", True),
    "† no number": ("print('took †3.2 s')", "took †3.2 s\n", "took †long s\n", True),
    "verdict": ("print('✓ it holds')", "✓ it holds\n", "✗ it holds\n", True),
    "last character": ("print('a b ')", "a b \n", "a b\n", True),
    "one line less": ("print('a\\nb')", "a\nb\n", "a\n", True),
    "one line more": ("print('a')", "a\n", "a\nb\n", True),
    "expression": ("40 + 2", "42", "43", True),
    "line of progress": ("print('a')", "a\n", "a\n", False),  # the altered notebook holds what is left of one
    "isolation": (
        "import os\nprint(os.environ['LABKIT_BARS'], os.environ['OMP_NUM_THREADS'],"
        " os.listdir(os.environ['LABKIT_MODELS']))",
        "0 1 []\n",
        "0 1 ['CNN_MNIST.pth']\n",
        True,
    ),
}


def write(path: Path, stored: list[str | None]) -> None:
    """An executed notebook with these stored outputs."""
    made = []
    for count, (kind, text) in enumerate(zip(CELLS, stored, strict=True), start=1):
        if text is None:
            outputs = []
        elif kind == "expression":
            outputs = [new_output("execute_result", data={"text/plain": text}, execution_count=count)]
        else:
            outputs = [new_output("stream", name="stdout", text=text)]
        if kind == "line of progress" and path.stem == "altered":
            line = {"text/plain": "done: round 4 of 4 in 0:01", "text/html": "<div>done</div>"}
            outputs.append(new_output("display_data", data=line, metadata={"labkit": "progress"}))
        made.append(new_code_cell(CELLS[kind][0], outputs=outputs, execution_count=count))
    # The last one has never been run; nbval skips such a cell, which is why a static test forbids it.
    made.append(new_code_cell("print('never compared')"))
    nbformat.write(new_notebook(cells=made), path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """(notebook, number of the cell) -> PASSED, FAILED or SKIPPED, beside a copy of the project's settings."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml", "tests/nbval.cfg"):
        shutil.copy(runtime.PROJECT / name, folder / name)
    write(folder / "unchanged.ipynb", [printed for _, printed, _, _ in CELLS.values()])
    write(folder / "altered.ipynb", [altered for _, _, altered, _ in CELLS.values()])
    command = [sys.executable, "-m", "pytest", "--nbval", "-v", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LABKIT_")}
    done = subprocess.run(
        [*command, "unchanged.ipynb", "altered.ipynb"],
        cwd=folder,
        env=environment | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    found = re.findall(r"^(\w+)::ipynb::Cell (\d+) (\w+)", done.stdout, flags=re.MULTILINE)
    assert len(found) == 2 * (len(CELLS) + 1), done.stdout[-2_000:] + done.stderr[-2_000:]
    return {(name, int(number)): result for name, number, result in found}


@pytest.mark.parametrize("kind", CELLS)
def test_unchanged_output_passes(results, kind):
    assert results["unchanged", list(CELLS).index(kind)] == "PASSED"


@pytest.mark.parametrize("kind", CELLS)
def test_altered_output_is_noticed_unless_its_mark_allows_it(results, kind):
    noticed = CELLS[kind][-1]
    assert results["altered", list(CELLS).index(kind)] == ("FAILED" if noticed else "PASSED")
