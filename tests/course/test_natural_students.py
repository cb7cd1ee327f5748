"""A right answer never breaks a given cell: natural students work through what is handed out, in quick mode."""

import re
from functools import cache
from pathlib import Path
from textwrap import dedent, indent

import nbformat
import pytest
import quick_run
from natural import WORK
from nbformat import NotebookNode

from labkit import runtime
from labkit.course import release
from labkit.course.answers import answer_path
from labkit.course.task import TASKS
from labkit.rerun.comparison import PICTURES

# The students who ask most of the given cells; all others take part in make test-full.
IN_MAKE_TEST = {
    "01_training": "loops",
    "02_random_pruning": "cautious",
    "03_l1_pruning": "terse",
    "04_structured_pruning": "tensors",
    "05_iterative_pruning": "loops",
    "06_global_pruning": "permanent",
    "07_smaller_and_faster": "tensors",
    "08_pruning_frontier": "loops",
    "09_mask_detective": "permanent",
    "10_without_retraining": "loops",
}


@cache
def students_notebook(name: str) -> NotebookNode:
    return release.student_version(nbformat.read(runtime.PROJECT / "notebooks" / f"{name}.ipynb", as_version=4))


def worked(name: str, work: dict[str, str]) -> NotebookNode:
    """The student's notebook with a student's code in it."""
    notebook = nbformat.v4.new_notebook(metadata=students_notebook(name).metadata)
    used = set()
    for given in students_notebook(name).cells:
        cell = nbformat.from_dict(given)
        if cell.id in work:
            stub = next(line for line in cell.source.splitlines() if line.strip() == release.CODE_STUB)
            code = indent(dedent(work[cell.id]).strip("\n"), stub.removesuffix(release.CODE_STUB))
            cell.source = cell.source.replace(stub, code)
        if f"{cell.id}=" in work:
            cell.source = dedent(work[f"{cell.id}="]).strip("\n")
        used |= {cell.id, f"{cell.id}="}
        notebook.cells.append(cell)
        if f"{cell.id}+" in work:
            own = nbformat.v4.new_code_cell(dedent(work[f"{cell.id}+"]).strip("\n"), id=f"{cell.id}-own")
            notebook.cells.append(own)
            used.add(f"{cell.id}+")
    assert set(work) <= used, f"no such cells in {name}: {set(work) - used}"
    return notebook


def said(cell: NotebookNode) -> str:
    """All that a cell put out, in words."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.output_type == "error":
            texts.append(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback)))
        else:
            texts += [str(content) for kind, content in output.data.items() if kind not in (*PICTURES, "text/html")]
    return re.sub(r"\x1b\[[0-9;]*m", "", "".join(text.rstrip("\n") + "\n" for text in texts))


def complaints(notebook: NotebookNode) -> list[str]:
    """What a right answer broke, each with the cell's source and output."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        marks = cell.metadata.get("nbgrader", {})
        for what in wrong_with(cell, marks):
            found.append(f"{cell.id}: {what}\n{indent(cell.source, '    ')}\n  said\n{indent(said(cell), '    ')}")
        if any(output.output_type == "error" for output in cell.outputs):
            break  # nothing below was run
    return found


def wrong_with(cell: NotebookNode, marks: NotebookNode) -> list[str]:
    text, found = said(cell), []
    found += [f"{output.ename}: {output.evalue}" for output in cell.outputs if output.output_type == "error"]
    if marks.get("grade") and not marks.get("solution"):
        returned = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
        if returned != [f"{float(marks.points)}"]:
            found.append(f"{returned} of {marks.points} points")
        if "✗" in text or "could not be saved" in text:
            found.append("the check complains")
    elif "not saved" in text:
        found.append("it was not saved")
    return found


def handed_in(name: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``labkit pack`` would miss of this notebook."""
    monkeypatch.setenv("LABKIT_MODELS", str(models))
    mine = {task: kind for task, kind in TASKS.items() if task[:2] == name[:2]}
    files = {task: models / f"{kind.network}.pth" if kind.network else answer_path(task) for task, kind in mine.items()}
    return [f"{task}: {path.name} is missing" for task, path in files.items() if not path.is_file()]


def students() -> list[object]:
    return [
        pytest.param(name, who, marks=pytest.mark.slow if IN_MAKE_TEST[name] == who else pytest.mark.full)
        for name, people in WORK.items()
        for who in people
    ]


@pytest.mark.parametrize(("name", "who"), students())
def test_a_right_answer_never_breaks_a_given_cell(name, who, tmp_path, monkeypatch):
    notebook = quick_run.executed(worked(name, WORK[name][who]), tmp_path, tmp_path / "models")
    found = complaints(notebook)
    found += handed_in(name, tmp_path / "models", monkeypatch)
    assert not found, f"{who} in {name}:\n" + "\n".join(found)


@pytest.mark.parametrize("name", release.NOTEBOOKS)
def test_at_least_six_students_work_through_a_notebook(name):
    assert len(WORK[name]) >= 6
    # All but the tasks that give no points, which some leave out.
    graded, open_tasks = [], []
    for cell in students_notebook(name).cells:
        open_tasks += [cell.id] if release.role_of(cell) == "task" else []
        if release.role_of(cell) == "check":
            graded, open_tasks = [*graded, *open_tasks[-1:]], []
    assert {who: set(graded) - set(work) for who, work in WORK[name].items()} == {who: set() for who in WORK[name]}


def test_what_a_right_answer_broke_is_told_with_source_and_output():
    def cell(source, marks, *outputs):
        made = nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output(**output) for output in outputs])
        made.id, made.metadata = source[:5], nbformat.from_dict({"nbgrader": marks} if marks else {})
        return made

    check = {"grade": True, "solution": False, "points": 2}
    points = {"output_type": "execute_result", "data": {"text/plain": "2.0"}}
    good = cell("right", check, {"output_type": "stream", "text": "✓ it holds\n"}, points)
    few = cell("fewer", check, {"output_type": "stream", "text": "✗ no\n"}, points | {"data": {"text/plain": "1.0"}})
    below = cell("below", check, points | {"data": {"text/plain": "1.0"}})
    unsaved = cell("saves", None, {"output_type": "stream", "text": "CNN_MNIST, not saved\n"})
    broken = cell("fails", None, {"output_type": "error", "ename": "KeyError", "evalue": "x", "traceback": ["line 3"]})
    found = complaints(nbformat.v4.new_notebook(cells=[good, few, unsaved, broken, below]))
    assert found == [
        "fewer: ['1.0'] of 2 points\n    fewer\n  said\n    ✗ no\n    1.0\n",
        "fewer: the check complains\n    fewer\n  said\n    ✗ no\n    1.0\n",
        "saves: it was not saved\n    saves\n  said\n    CNN_MNIST, not saved\n",
        "fails: KeyError: x\n    fails\n  said\n    line 3\n",
    ]
