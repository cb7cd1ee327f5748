"""START: the page tells what there is and how far it is, and overwrites nothing but itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import course_work
import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from permissions import folder_that_closes
from typer.testing import CliRunner

from labkit import cli, runtime
from labkit.course import students
from labkit.course.start_page import page, rows, write_start
from labkit.course.task import NOTEBOOKS, TASKS, TOTAL

COURSE = json.dumps(course_work.course())


@pytest.fixture
def labs(tmp_path, monkeypatch) -> Path:
    """A student's folder of blank notebooks; ``course.json`` is found from the working folder."""
    folder = tmp_path / "labs" / "notebooks"
    folder.mkdir(parents=True)
    for name, notebook in course_work.student_notebooks().items():
        (folder / f"{name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    (tmp_path / "labs" / "course.json").write_text(COURSE, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def keep(told: Any) -> None:
    """What the check cells would have kept."""
    path = runtime.models_dir() / "answers" / "points.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(told if isinstance(told, str) else json.dumps(told), encoding="utf-8")


def full(*names: str) -> dict[str, dict[str, Any]]:
    return {
        task.name: {"points": task.points, "of": task.points, "attempted": True}
        for task in TASKS.values()
        if task.name in names or task.name[:2] in names
    }


def table(text: str) -> dict[str, list[str]]:
    """Notebook -> minutes, points, state."""
    found = re.findall(r"^\| (?:\[.*?\]\()?(\d\d_\w+)(?:\.ipynb\))? \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    return {name: rest for name, *rest in found}


# The page


def test_blank_course_is_not_begun_and_starts_with_the_first_notebook(labs):
    text = page(labs)
    assert list(table(text)) == list(NOTEBOOKS)
    assert table(text)["01_training"] == ["15 min reading, 3 min computing", "0 of 7", "not begun"]
    assert table(text)["09_mask_detective"][1] == "0 of 6 (bonus)"
    assert f"**0 of {TOTAL:g} points**, 0 of 6 bonus" in text
    assert "**Next:** [01 · Training](01_training.ipynb). " in text
    assert "Nobody has signed in yet" in text


def test_points_of_the_checks_are_added_and_the_first_notebook_with_a_gap_is_next(labs):
    runtime.models_dir().mkdir()
    for name in ("CNN_MNIST", "CNN_MNIST_L1"):
        (runtime.models_dir() / f"{name}.pth").touch()
    half = {"02-mask": {"points": 1.5, "of": 2, "attempted": True}}
    seen = {"04-prediction": {"points": 0, "of": 1, "attempted": True}}
    blank = {"05-mask": {"points": 0, "of": 3, "attempted": False}}
    keep(full("01", "03", "09") | half | seen | blank)
    text = page(labs)
    assert {name[:2]: row[1:] for name, row in table(text).items()} == {
        "01": ["7 of 7", "done, but for 1 answer in words"],
        "02": ["1.5 of 7", "begun"],
        "03": ["8 of 8", "done, but for 1 answer in words"],
        "04": ["0 of 8", "begun"],
        "05": ["0 of 9", "not begun"],
        "06": ["0 of 13", "not begun"],
        "07": ["0 of 13", "not begun"],
        "08": ["0 of 8", "not begun"],
        "09": ["6 of 6 (bonus)", "done, but for 1 answer in words"],
        "10": ["0 of 11", "not begun"],
    }
    assert f"**16.5 of {TOTAL:g} points**, 6 of 6 bonus" in text
    left = "a prediction, before the measurement; a random mask by hand; 25 % of conv1, conv2, conv3 at random"
    assert f"**Next:** [02 · Random pruning](02_random_pruning.ipynb). Points to get: {left}." in text
    assert "Not saved yet" not in text


def test_network_with_points_that_is_not_saved_is_told(labs):
    keep(full("02-network", "03-masks"))
    assert [row.unsaved for row in rows(labs) if row.unsaved] == [("CNN_MNIST_RND",)]
    assert "Not saved yet: `CNN_MNIST_RND`." in page(labs)


def test_whole_course_done_leaves_handing_in(labs):
    keep(full(*(name[:2] for name in NOTEBOOKS)))
    text = page(labs)
    assert f"**{TOTAL:g} of {TOTAL:g} points**" in text
    assert "**Next:** every check has its points" in text


def test_who_has_signed_in_is_named_and_packs_without_an_id(labs):
    students.sign_in("ab1234")
    assert "**You are ab1234.**" in page(labs)
    assert "`make pack`" in page(labs)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{",
        "[]",
        "5",
        "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"),
        "[" * 100_000,
        {"01-work": 5},
        {"01-work": []},
        {"01-work": {}},
        {"01-work": {"points": "2"}},
        {"01-work": {"points": None, "attempted": "yes"}},
        {"01-work": {"points": True}},
        '{"01-work": {"points": NaN}}',
        '{"01-work": {"points": -Infinity}}',
        {"01-work": {"points": -3}},
        {"unknown": {"points": 3, "of": 3, "attempted": True}},
    ],
)
def test_damaged_points_count_as_none(told, labs):
    keep(told)
    assert {row[1] for row in table(page(labs)).values() if row[1].startswith("0 ")} == {
        row[1] for row in table(page(labs)).values()
    }


def test_more_points_than_a_task_has_count_as_its_own(labs):
    keep({"01-work": {"points": 50, "of": 50, "attempted": True}})
    assert table(page(labs))["01_training"][1:] == ["2 of 7", "begun"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"cells": [5]}'])
def test_damaged_notebook_is_said_to_be(content, labs):
    (labs / "02_random_pruning.ipynb").write_bytes(content)
    assert table(page(labs))["02_random_pruning"] == ["", "0 of 7", "damaged"]


def test_missing_notebook_has_no_link(labs):
    (labs / "01_training.ipynb").unlink()
    text = page(labs)
    assert table(text)["01_training"] == ["", "0 of 7", "missing"]
    assert "](01_training.ipynb)" not in text
    assert "**Next:** [02 · " in text


def test_notebook_without_a_title_goes_by_its_name(labs):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("no title (3 min)")])
    nbformat.write(notebook, labs / "01_training.ipynb")
    assert "| [01_training](01_training.ipynb) |  |" in page(labs)


def test_course_of_few_notebooks_lists_those(labs):
    course = course_work.course()
    few = course | {"notebooks": {"02_random_pruning": course["notebooks"]["02_random_pruning"]}}
    (labs.parent / "course.json").write_text(json.dumps(few), encoding="utf-8")
    assert list(table(page(labs))) == ["02_random_pruning"]
    assert "**0 of 7 points**, by your check cells" in page(labs)


def test_project_itself_says_that_its_notebooks_are_solved(labs):
    (labs.parent / "course.json").unlink()
    text = page(labs)
    assert "In this folder the notebooks are solved" in text
    assert "make pack" not in text


# The file


def test_start_is_a_notebook_that_shows_the_page_without_being_run(labs):
    path = write_start(labs)
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    assert [cell.cell_type for cell in made.cells] == ["markdown", "code"]
    assert made.cells[1].outputs[0].data["text/markdown"] == page(labs)
    plain = made.cells[1].outputs[0].data["text/plain"]
    assert "01 · Training" in plain
    assert not re.search(r"\*\*|\]\(|`", plain)
    html, _ = HTMLExporter().from_notebook_node(made)
    assert '<a href="01_training.ipynb">01 · Training</a></td>' in html
    assert 'href="/' not in html


def test_links_of_the_page_lead_to_the_notebooks_beside_it(labs):
    links = re.findall(r"\]\((.*?)\)", page(labs))
    assert len(links) == len(NOTEBOOKS) + 1
    assert all((labs / link).is_file() for link in links)


@pytest.mark.slow
def test_cell_of_the_page_shows_what_is_so_now(labs, monkeypatch):
    monkeypatch.setenv("LABKIT_MODELS", str(runtime.models_dir()))
    made = nbformat.read(write_start(labs), as_version=4)
    keep(full("02-mask"))
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(labs)}}).execute()
    outputs = made.cells[1].outputs
    assert [output.output_type for output in outputs] == ["display_data"]
    assert outputs[0].data["text/markdown"] == page(labs)
    assert table(page(labs))["02_random_pruning"][1:] == ["2 of 7", "begun"]


def test_page_is_written_anew_and_nothing_else_changes(labs):
    before = {path.name: path.read_bytes() for path in labs.iterdir()}
    first = write_start(labs).read_bytes()
    keep(full("01"))
    assert write_start(labs).read_bytes() != first
    assert {path.name: path.read_bytes() for path in labs.iterdir() if path.name != "START.ipynb"} == before


@pytest.mark.parametrize(
    "content", ["", "my notes", "[]", "{}", '{"metadata": {}}', '{"metadata": {"labkit_start": 1}}']
)
def test_file_of_this_name_that_is_no_such_page_is_not_overwritten(content, labs):
    (labs / "START.ipynb").write_text(content, encoding="utf-8")
    with pytest.raises(FileExistsError, match="was not made by labkit start"):
        write_start(labs)
    assert (labs / "START.ipynb").read_text(encoding="utf-8") == content


def test_link_and_folder_of_this_name_are_not_overwritten(labs, tmp_path):
    made = write_start(labs).rename(tmp_path / "mine.ipynb")
    (labs / "START.ipynb").symlink_to(made)
    with pytest.raises(FileExistsError):
        write_start(labs)
    (labs / "START.ipynb").unlink()
    (labs / "START.ipynb").mkdir()
    with pytest.raises(FileExistsError):
        write_start(labs)


def labkit(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "400"}).invoke(cli.app, arguments)


def test_labkit_start_says_in_one_line_what_kept_it_from_writing():
    with folder_that_closes() as (folder, close):
        close()
        done = [labkit("start", "--notebooks", str(one)) for one in (folder, folder / "none")]
    for one in done:
        assert one.exit_code == 2
        assert one.output.startswith("no START page (")
        assert one.output.count("\n") == 1


def test_labkit_start_with_a_damaged_course_says_so_in_one_line(labs):
    for content in (
        "{",
        '{"format": "labkit course 1", "salt": "a", "notebooks": {"02_random_pruning": 5}, "version": 1}',
    ):
        (labs.parent / "course.json").write_text(content, encoding="utf-8")
        done = labkit("start", "--notebooks", str(labs))
        assert done.output.count("\n") == 1
        assert "Traceback" not in done.output


# make lab, with a JupyterLab that only says what it was asked to open


@pytest.fixture
def made(labs) -> Path:
    """The student's folder with the Makefile, and a .venv whose JupyterLab opens nothing."""
    folder = labs.parent
    shutil.copyfile(runtime.PROJECT / "Makefile", folder / "Makefile")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copyfile(runtime.PROJECT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    run = f'exec env PYTHONPATH="{runtime.PROJECT}" "{sys.executable}" "$@"'
    opened = 'if [ "$2" = jupyterlab ]; then shift 2; echo "opened in $(basename "$PWD"): $*"; exit 0; fi'
    python.write_text(f"#!/bin/sh\n{opened}\n{run}\n", encoding="utf-8")
    python.chmod(0o755)
    (folder / ".venv" / "uv").touch()
    (folder / ".venv" / "installed").write_text(f"{folder}\n", encoding="utf-8")
    return folder


def make_lab(folder: Path) -> subprocess.CompletedProcess[str]:
    handed_down = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "ARGS")
    outside = {name: value for name, value in os.environ.items() if name not in handed_down}
    return subprocess.run(["make", "lab"], cwd=folder, capture_output=True, text=True, env=outside)


@pytest.mark.slow
def test_make_lab_opens_jupyterlab_whether_or_not_there_is_a_page(made):
    shutil.copytree(runtime.PROJECT / "labkit", made / "labkit")
    done = make_lab(made)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("opened in notebooks: START.ipynb\n")
    (made / "notebooks" / "START.ipynb").unlink()
    (made / "course.json").write_text("{", encoding="utf-8")
    done = make_lab(made)
    assert done.returncode == 0, done.stderr
    assert "no START page (ValueError: " in done.stdout
    assert done.stdout.endswith("opened in notebooks: \n")
