"""The student's notebooks, run as they are handed out: nothing is attempted, and nothing fails.

Takes minutes, so that it is collected only when it is asked for.
"""

import re
from pathlib import Path

import nbformat
import pytest
import quick_run
from nbformat import NotebookNode

from labkit import runtime
from labkit.course import grading, packing, release
from labkit.course.submission import read_submission
from labkit.course.task import NOTEBOOKS, TASKS
from labkit.rerun.comparison import PICTURES

NOT_ATTEMPTED = re.compile(r"– not attempted: .*\n(  .*\n)?")  # and what to do


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    out = tmp_path_factory.mktemp("release") / "labs"
    release.write_release(runtime.PROJECT / "notebooks", out)
    return out


def executed(path: Path, models: Path) -> NotebookNode:
    return quick_run.executed(nbformat.read(path, as_version=4), path.parent, models)


def complaints(notebook: NotebookNode) -> list[str]:
    """What should not be in an untouched notebook that was run, in words."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            found.append(f"{cell.id}: not run")
        for output in cell.outputs:
            text = said(output)
            if output.output_type == "error":
                found.append(f"{cell.id}: {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                found.append(f"{cell.id}: on stderr: {text}")
            found += [f"{cell.id}: {mark} in {text}" for mark in "✓✗" if mark in text]
        if release.role_of(cell) == "check":
            found += [f"{cell.id}: {what}" for what in about_a_check(cell)]
    return found


def said(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return output.evalue
    return "\n".join(str(content) for kind, content in output.data.items() if kind not in PICTURES)


def about_a_check(cell: NotebookNode) -> list[str]:
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    printed = re.sub(r"\x1b\[[0-9;]*m", "", printed)  # the colour of the mark
    returned = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    found = [] if NOT_ATTEMPTED.fullmatch(printed) else [f"printed {printed!r}"]
    return found if returned == ["0.0"] else [*found, f"returned {returned}"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_untouched_notebook_runs_by_itself_and_attempts_nothing(name, released, tmp_path):
    assert complaints(executed(released / "notebooks" / f"{name}.ipynb", tmp_path / "models")) == []


@pytest.fixture(scope="module")
def in_order(released, tmp_path_factory):
    """All notebooks, run one after the other by one student, and the folder of networks that they left."""
    models = tmp_path_factory.mktemp("student") / "models"
    return {name: executed(released / "notebooks" / f"{name}.ipynb", models) for name in NOTEBOOKS}, models


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_untouched_notebook_runs_after_the_ones_before_it_and_attempts_nothing(name, in_order):
    assert complaints(in_order[0][name]) == []


def test_nothing_done_is_packed_as_nothing_attempted(in_order, tmp_path, monkeypatch):
    notebooks, models = in_order
    (tmp_path / "notebooks").mkdir()
    for name, notebook in notebooks.items():
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setenv("LABKIT_MODELS", str(models))
    path = packing.pack("ab12", tmp_path / "notebooks", tmp_path)
    result = grading.grade(read_submission(path), packing.this_course())
    assert (result.points, result.bonus) == (0, 0)
    assert {name: task.attempted for name, task in result.tasks.items()} == dict.fromkeys(TASKS, False)
    assert not list((models / "answers").glob("*.pth"))
    assert result.flags == ()


def test_complaints_name_what_is_wrong():
    cell = nbformat.v4.new_code_cell('course.check("01-work", work)', execution_count=1, id="check")
    cell.metadata = nbformat.from_dict({"nbgrader": {"grade": True, "solution": False}})
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="✗ work is {}\n0 of 2 points\n")]
    other = nbformat.v4.new_code_cell("x", id="other")
    other.outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="careful"),
        nbformat.v4.new_output("error", ename="NameError", evalue="x"),
    ]
    assert complaints(nbformat.v4.new_notebook(cells=[cell, other])) == [
        "check: ✗ in ✗ work is {}\n0 of 2 points\n",
        "check: printed '✗ work is {}\\n0 of 2 points\\n'",
        "check: returned []",
        "other: not run",
        "other: on stderr: careful",
        "other: NameError: x",
    ]
