"""What students get holds no solution, and what they hand in holds no home folder."""

import ast
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import course_work
import nbformat
import pytest
from course_secrets import collapsed, leaks, secrets_of, texts
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from labkit import cli, runtime
from labkit.course import course_file, grading, packing, release, students
from labkit.course.submission import read_submission
from labkit.course.task import NOTEBOOKS, TASKS, TOTAL

FOLDER = runtime.PROJECT / "notebooks"
PNG = b"\x89PNG\r\n\x1a\n"
GRADE_ID = re.compile(r"^[a-zA-Z0-9_\-]+$")  # nbgrader's
PIXEL = base64.b64encode(PNG + b"pixel").decode()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A whole release."""
    out = tmp_path_factory.mktemp("release") / "labs"
    assert release.write_release(FOLDER, out) == list(NOTEBOOKS)
    return out


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def notebook_pairs(released: Path) -> Iterator[tuple[str, NotebookNode, NotebookNode]]:
    for name in NOTEBOOKS:
        yield name, read(FOLDER / f"{name}.ipynb"), read(released / "notebooks" / f"{name}.ipynb")


def wish(cell: NotebookNode) -> str:
    return cell.metadata.get("labkit", {}).get("release", "")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# No solution is in it


def readable(path: Path) -> str:
    if path.suffix in (".gz", ".pth", ".lks"):
        return ""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return collapsed("\n".join(texts(nbformat.reads(text, as_version=4))))
    return collapsed("\n".join(texts(json.loads(text))) if path.suffix == ".json" else text)


@pytest.fixture(scope="module")
def released_texts(released):
    return {path.relative_to(released).as_posix(): readable(path) for path in released.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_solution_of_a_notebook_is_anywhere_in_the_release(name, released_texts):
    lines, prose = secrets_of(read(FOLDER / f"{name}.ipynb"))
    assert len(lines) >= 3
    assert len(prose) >= 300
    assert leaks(read(FOLDER / f"{name}.ipynb"), released_texts) == []


def test_the_search_for_solutions_finds_one_that_was_left():
    secret = "mask.view(-1)[lottery.topk(72).indices] = 0"
    prose = "Each 3 × 3 square is one kernel of the first layer, and a cross marks a zero."
    cells = [
        new_code_cell(f"x = 1\n### BEGIN SOLUTION\n{secret}\n### END SOLUTION"),
        new_markdown_cell(f"**What?**\n\n<!-- ### BEGIN SOLUTION -->\n{prose}\n<!-- ### END SOLUTION -->"),
    ]
    notebook = new_notebook(cells=cells)
    assert leaks(notebook, {"a": "x = 1", "b": "**What?** is one kernel"}) == []
    assert leaks(notebook, {"a": f"if x: {secret}  # so"}) == [f"a: {secret}"]
    left = new_notebook(cells=[new_markdown_cell("it is one kernel of\nthe   first layer, and a cut")])
    found = leaks(notebook, {"a": collapsed("\n".join(texts(left)))})
    assert "a: is one kernel of the first layer, and a " in found


def test_no_marker_is_left_in_the_release(released_texts):
    texts_of_notebooks = [text for name, text in released_texts.items() if name.endswith((".ipynb", "course.json"))]
    assert len(texts_of_notebooks) == len(NOTEBOOKS) + 1
    assert not any(re.search(r"\b(BEGIN|END)\b.{0,3}\bSOLUTION", text) for text in texts_of_notebooks)


def test_every_region_became_one_invitation(released):
    for name, solution, student in notebook_pairs(released):
        for kind, stub in (("code", release.CODE_STUB), ("markdown", release.PROSE_STUB)):
            marked = "\n".join(cell.source for cell in solution.cells if cell.cell_type == kind)
            made = "\n".join(cell.source for cell in student.cells if cell.cell_type == kind)
            assert made.count(stub) == marked.count(release.BEGIN), name


# What the notebooks are


def test_outputs_and_execution_counts_are_cleared(released):
    for _, _, student in notebook_pairs(released):
        code = [cell for cell in student.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_predictions_are_none(released):
    count = 0
    for name, _, student in notebook_pairs(released):
        code = "\n".join(cell.source for cell in student.cells if cell.cell_type == "code")
        assert set(re.findall(r"^prediction = (\S+)", code, re.MULTILINE)) == {"None"}, name
        count += 1
    assert count == len(NOTEBOOKS)


def test_every_released_code_cell_is_plain_python(released):
    for _, _, student in notebook_pairs(released):
        for cell in student.cells:
            if cell.cell_type == "code":
                ast.parse(cell.source)


def test_released_cells_are_the_authors_cells_and_pictures(released):
    for _, solution, student in notebook_pairs(released):
        ids = [cell.id for cell in student.cells]
        assert len(set(ids)) == len(ids)
        kept = [cell.id for cell in solution.cells if wish(cell) != "drop"]
        assert [id for id in ids if not id.endswith("-picture")] == kept


def test_cells_without_a_solution_are_as_the_authors_wrote_them(released):
    for _, solution, student in notebook_pairs(released):
        made = {cell.id: cell.source for cell in student.cells}
        for cell in solution.cells:
            if "SOLUTION" not in cell.source and not wish(cell):
                assert made[cell.id] == cell.source


def test_released_notebooks_are_valid_utf8_with_unix_line_ends(released):
    for name in NOTEBOOKS:
        path = released / "notebooks" / f"{name}.ipynb"
        nbformat.validate(read(path))
        content = path.read_bytes()
        assert b"\r" not in content
        assert content.decode().endswith("}\n")


def test_metadata_tells_only_of_nbgrader_and_the_version(released):
    version = course_file.read_course(released / "course.json")["version"]
    for _, _, student in notebook_pairs(released):
        assert set(student.metadata) == {"kernelspec", "labkit_course"}
        assert student.metadata["labkit_course"] == {"version": version}
        assert all(set(cell.metadata) <= {"nbgrader"} for cell in student.cells)


def test_pictures_are_the_authors_png_where_the_metadata_asks_for_them(released):
    for name, solution, student in notebook_pairs(released):
        wanted = {c.id: c for c in solution.cells if c.metadata.get("labkit", {}).get("expected_picture")}
        found = {cell.id: cell.attachments for cell in student.cells if cell.get("attachments")}
        assert set(found) == {f"{id}-picture" for id in wanted}, name
        for id, cell in wanted.items():
            assert [(key, list(kinds)) for key, kinds in found[f"{id}-picture"].items()] == [
                ("expected.png", ["image/png"])
            ]
            content = base64.b64decode(found[f"{id}-picture"]["expected.png"]["image/png"], validate=True)
            stored = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
            assert content.startswith(PNG)
            assert content == base64.b64decode(stored[0])


def test_picture_stands_right_after_its_cell(released):
    for _, _, student in notebook_pairs(released):
        for before, cell in zip(student.cells, student.cells[1:], strict=False):
            if cell.id.endswith("-picture"):
                assert cell.id == f"{before.id}-picture"
                assert before.cell_type == "code"


def test_links_of_released_notebooks_lead_somewhere(released):
    for name, _, student in notebook_pairs(released):
        prose = "\n".join(cell.source for cell in student.cells if cell.cell_type == "markdown")
        for target in re.findall(r"\]\((?!https?:|#|attachment:)([^)#]+)", prose):
            assert (released / "notebooks" / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_nbgrader_metadata_is_valid(name, released):
    cells = read(released / "notebooks" / f"{name}.ipynb").cells
    marked = [cell for cell in cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata["nbgrader"]["grade_id"] for cell in marked]
    assert len(set(ids)) == len(ids)
    for cell in marked:
        marks = cell.metadata["nbgrader"]
        assert set(marks) - {"points", "cell_type"} == {
            "grade", "grade_id", "locked", "schema_version", "solution", "task"
        }  # fmt: skip
        assert marks["schema_version"] == 3
        assert GRADE_ID.fullmatch(marks["grade_id"])
        assert [type(marks[key]) for key in ("grade", "locked", "solution", "task")] == [bool] * 4
        assert ("points" in marks) == marks["grade"]
        assert marks.get("points", 0) >= 0
        if cell.cell_type == "markdown":
            assert marks["solution"] == marks["grade"]
        if marks["grade"] and not marks["solution"]:
            assert marks["locked"]


def test_each_task_has_one_check_cell_with_its_points(released):
    checks = {}
    for name, _, student in notebook_pairs(released):
        for cell in student.cells:
            if release.role_of(cell) == "check":
                marks = cell.metadata["nbgrader"]
                assert cell.cell_type == "code"
                assert marks["grade_id"] not in checks
                checks[marks["grade_id"]] = (name, marks["points"])
    assert checks == {name: (task.notebook, task.points) for name, task in TASKS.items()}


def test_course_json_describes_the_released_cells(released):
    course = course_file.read_course(released / "course.json")
    assert list(course["notebooks"]) == list(NOTEBOOKS)
    for name, _, student in notebook_pairs(released):
        told = course["notebooks"][name]
        assert [row["id"] for row in told] == [cell.id for cell in student.cells]
        assert [row["hash"] for row in told] == [release.source_hash(cell.source) for cell in student.cells]
        assert [row["role"] for row in told] == [release.role_of(cell) for cell in student.cells]
        assert [row["source"] for row in told] == [cell.source for cell in student.cells]
        assert [row["marks"] for row in told] == [cell.metadata.get("nbgrader", {}) for cell in student.cells]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_answer_cell_says_its_points(name, released):
    count = 0
    for cell in read(released / "notebooks" / f"{name}.ipynb").cells:
        if release.role_of(cell) == "answer":
            points = cell.metadata["nbgrader"]["points"]
            head = cell.source.partition(release.PROSE_STUB)[0]
            said = re.findall(r"\(for you\)|\([\d.]+ points?\)", head)
            assert said == [f"({points:g} point{'s' * (points != 1)})" if points else "(for you)"], cell.id
            count += 1
    assert count


@pytest.mark.parametrize(("name", "following"), list(itertools.pairwise(NOTEBOOKS)))
def test_last_words_of_a_notebook_link_the_next_one(name, following, released):
    prose = [c for c in read(released / "notebooks" / f"{name}.ipynb").cells if c.cell_type == "markdown"]
    assert f"]({following}.ipynb)" in prose[-1].source


# The folder


def test_two_releases_are_equal_byte_for_byte(released, tmp_path):
    release.write_release(FOLDER, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(released)


@pytest.mark.slow
def test_release_by_another_process_is_equal_byte_for_byte(released, tmp_path):
    command = [sys.executable, "-m", "labkit.cli", "release", str(FOLDER), "--notebooks-only", "--out", "few"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    whole = contents(released)
    names = {"course.json", *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS)}
    assert contents(tmp_path / "few") == {name: whole[name] for name in names}


def test_release_holds_what_is_needed_and_nothing_else(released):
    here = set(contents(released))
    records = {name for name in here if name.startswith("models/reference/records/")}
    assert records == {f"models/reference/records/{name}.json" for name in ("05_iterative_pruning", "seconds")}
    networks = {name for name in here if name.startswith("models/") and name.endswith(".pth")}
    seeds = ("", "_seed1", "_seed2", "_seed3", "_seed4")
    names = {f"CNN_MNIST{seed}" for seed in seeds} | {path.stem for path in runtime.reference_dir().glob("ROWS_MNIST*")}
    assert networks == {f"models/reference/{name}.pth" for name in names | {"optimizer"}}
    assert "models/reference/ROWS_MNIST.pth" in networks
    assert {name.partition("/")[0] for name in here} == {
        "labkit", "data", "models", "notebooks",
        "README.md", "Makefile", "course.json", ".gitignore", "LICENSE",
        "pyproject.toml", "requirements.lock", "environment.yml",
    }  # fmt: skip
    assert {name for name in here if name.startswith("notebooks/")} == {
        "notebooks/GLOSSARY.md", *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS)
    }  # fmt: skip
    assert not any("test" in Path(name).name for name in here)


def test_command_that_the_students_page_gives_for_a_page_to_print_works_in_a_release(released, tmp_path):
    text = " ".join((released / "README.md").read_text(encoding="utf-8").split())
    arguments = re.search(r"`\.venv/bin/python (-m nbconvert [^`]+)`", text)[1].split()
    command = [sys.executable, *arguments, "--output-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=released, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "03_l1_pruning.html").read_text(encoding="utf-8")
    assert "L1 pruning" in page
    assert "<script src" not in page  # our template: nothing is fetched


def test_release_holds_the_networks_and_records_that_notebook_08_looks_at(released):
    """And the ones that a board of pruning golf starts with."""
    wanted = [*(runtime.reference_dir() / "frontier").glob("*_s0.lks")]
    wanted += [runtime.PROJECT / "data/results" / name for name in ("frontier.csv", "many_runs.csv")]
    assert len(wanted) > 1
    for path in wanted:
        copied = released / path.relative_to(runtime.PROJECT)
        assert copied.is_file(), copied.name
        assert copied.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("ending", ["py", "j2", "mk"])
def test_release_holds_all_of_labkit(ending, released):
    paths = list((runtime.PROJECT / "labkit").rglob(f"*.{ending}"))
    assert paths
    for path in paths:
        assert (released / path.relative_to(runtime.PROJECT)).read_bytes() == path.read_bytes()


def test_notebooks_only_leaves_out_all_else(tmp_path):
    release.write_release(FOLDER, tmp_path / "few", notebooks_only=True)
    names = {"course.json", *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS)}
    assert set(contents(tmp_path / "few")) == names


def test_another_salt_is_another_version(released, tmp_path):
    release.write_release(FOLDER, tmp_path / "few", "autumn", notebooks_only=True)
    course = course_file.read_course(tmp_path / "few" / "course.json")
    assert course["salt"] == "autumn"
    assert course["version"] != course_file.read_course(released / "course.json")["version"]


def test_release_into_an_empty_folder_is_made(tmp_path):
    (tmp_path / "few").mkdir()
    release.write_release(FOLDER, tmp_path / "few", notebooks_only=True)
    assert (tmp_path / "few" / "course.json").is_file()


@pytest.mark.parametrize("name", ["work.txt", ".hidden", "notebooks/01_training.ipynb"])
def test_release_into_a_folder_that_holds_something_is_refused_and_changes_nothing(name, tmp_path):
    file = tmp_path / "labs" / name
    file.parent.mkdir(parents=True)
    file.write_text("a student's work")
    with pytest.raises(FileExistsError, match="is not empty"):
        release.write_release(FOLDER, tmp_path / "labs")
    assert contents(tmp_path) == {f"labs/{name}": b"a student's work"}


def test_release_over_a_file_is_refused_and_changes_nothing(tmp_path):
    (tmp_path / "labs").write_text("mine")
    with pytest.raises(FileExistsError):
        release.write_release(FOLDER, tmp_path / "labs", notebooks_only=True)
    assert contents(tmp_path) == {"labs": b"mine"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left on device")], ids=["interrupt", "full"])
def test_release_that_ends_half_way_leaves_nothing_behind(error, tmp_path, monkeypatch):
    copy, count = shutil.copyfile, []

    def copy_ten(source, target):
        count.append(source)
        if len(count) == 10:
            raise error
        return copy(source, target)

    monkeypatch.setattr(release.shutil, "copyfile", copy_ten)
    with pytest.raises(type(error)):
        release.write_release(FOLDER, tmp_path / "labs")
    assert list(tmp_path.iterdir()) == []


def test_release_that_fails_leaves_an_empty_folder_empty(tmp_path):
    (tmp_path / "solutions").mkdir()
    broken = new_notebook(cells=[new_code_cell(f"{release.BEGIN}\nx = 1")])
    nbformat.write(broken, tmp_path / "solutions" / "01_training.ipynb")
    (tmp_path / "labs").mkdir()
    with pytest.raises(ValueError, match=r"01_training\.ipynb: cell 1: "):
        release.write_release(tmp_path / "solutions", tmp_path / "labs", notebooks_only=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labs", "solutions"]
    assert list((tmp_path / "labs").iterdir()) == []


def test_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of the notebooks"):
        release.write_release(tmp_path, tmp_path / "labs")
    assert list(tmp_path.iterdir()) == []


def test_readme_of_a_release_speaks_to_the_student_who_has_it(released):
    told = (released / "README.md").read_text(encoding="utf-8")
    ours = (runtime.PROJECT / "STUDENTS.md").read_text(encoding="utf-8")
    sentence = ours.partition("<!-- only in the project -->\n")[2].partition("\n<!-- end -->")[0]
    assert "`labkit release`" in sentence
    assert sentence not in told
    assert not re.search(r"<!--|In the project itself|labkit release|handed out\.\)", told)
    assert ours.replace(f"<!-- only in the project -->\n{sentence}\n<!-- end -->\n\n", "") == told


@pytest.mark.slow
def test_start_and_repair_of_a_release_work_in_it(released, tmp_path):
    labs = shutil.copytree(released, tmp_path / "my labs")
    path = labs / "notebooks" / "02_random_pruning.ipynb"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace('course.check(\\"02-mask\\", ', "print("), encoding="utf-8")
    outside = {name: value for name, value in os.environ.items() if name != "LABKIT_MODELS"}
    for arguments, words in ((["repair", "02"], "1 cell put back"), (["start"], "START.ipynb shows your points")):
        command = [sys.executable, "-m", "labkit.cli", *arguments]
        done = subprocess.run(command, cwd=labs, env=outside | {"PYTHONPATH": str(labs)}, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert words in done.stdout.decode()
    assert read(path) == nbformat.reads(whole, as_version=4)
    page = read(labs / "notebooks" / "START.ipynb").cells[1].outputs[0].data["text/markdown"]
    assert "make pack STUDENT=ab1234" in page
    assert "| not begun |" in page


# The Makefile


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What a make around these tests hands down is not for this one.
    handed_down = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "ARGS")
    outside = {name: value for name, value in os.environ.items() if name not in handed_down}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=outside)


@pytest.fixture
def workplace(released, tmp_path):
    """A student's copy of the release, in a folder with a space in its name."""
    return shutil.copytree(released, tmp_path / "my labs")


def test_released_makefile_would_set_up_and_open_jupyterlab(workplace):
    done = make(workplace, "-n", "lab")
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout
    assert done.stdout.rstrip().endswith("-m jupyterlab $(ls START.ipynb 2>/dev/null)")
    assert ".venv/bin/python -m labkit.cli start || true\n" in done.stdout


def test_released_makefile_lists_the_students_targets(workplace):
    done = make(workplace)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^  ([a-z-]+) ", done.stdout, re.MULTILINE) == ["help", "lab", "pack", "clean"]


def test_students_targets_do_what_the_projects_own_do(workplace):
    """Block by block, but for the first lines, the list of targets, and what only tests need."""
    students, authors = ((folder / "Makefile").read_text().split("\n\n") for folder in (workplace, runtime.PROJECT))
    differ = [block.strip() for block in students if block.strip() not in map(str.strip, authors)]
    assert [block.split()[0] for block in differ] == ["#", "BIN", ".PHONY:", "help:"]


@pytest.mark.parametrize("name", ["Makefile", "README.md"])
def test_release_speaks_of_no_target_that_its_makefile_lacks(name, workplace):
    text = (workplace / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    told = set(re.findall(r"(?:^|`|: )make ([a-z-]+)", (workplace / name).read_text(), re.MULTILINE)) - {"the"}
    assert told
    assert told <= targets


def test_released_makefile_declares_no_target_that_it_lacks(workplace):
    text = (workplace / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)", text, re.MULTILINE)).split())
    assert phony - {"FORCE"} <= targets


@pytest.mark.parametrize("target", ["test", "run", "lint", "lock", "bench"])
def test_target_for_authors_is_no_target_of_the_released_makefile(target, workplace):
    assert make(workplace, "-n", target).returncode == 2


def test_make_clean_works_in_a_release(workplace):
    (workplace / "labkit" / "__pycache__").mkdir()
    done = make(workplace, "clean")
    assert done.returncode == 0, done.stderr
    assert not (workplace / "labkit" / "__pycache__").exists()


# Marks of solutions that are not as they should be

CODE = {"nbgrader": {"grade": False, "solution": True, "grade_id": "a", "locked": False, "schema_version": 3}}
BEGIN, END = release.BEGIN, release.END


@pytest.mark.parametrize(
    ("source", "metadata", "words"),
    [
        (f"{BEGIN}\nx = 1", CODE, "without ### END"),
        (f"x = 1\n{END}", CODE, "without ### BEGIN"),
        (f"{BEGIN}\nx = 1\n{END}\n{END}", CODE, "without ### BEGIN"),
        (f"{BEGIN}\nx = 1\n{BEGIN}\ny = 2\n{END}\n{END}", CODE, "inside a solution"),
        (f"{BEGIN} x = 1 {END}", CODE, "without ### END"),
        (f"{END}\nx = 1\n{BEGIN}", CODE, "without ### BEGIN"),
        (f"{BEGIN}\nx = 1\n{END}", {}, "1 solution regions"),
        (f"{BEGIN}\nx = 1\n{END}", {"nbgrader": CODE["nbgrader"] | {"solution": False}}, "1 solution regions"),
        ("x = 1", CODE, "0 solution regions"),
        (f"{BEGIN}\nx = 1\n{END}\n### Begin solution\ny = 2\n### End solution", CODE, "cell 2"),
        (f"{BEGIN}\nx = 1\n{END}\n###BEGIN SOLUTION\ny = 2\n###END SOLUTION", CODE, "cell 2"),
        (f"{BEGIN}\nx = 1\n{END}\n### BEGIN HIDDEN TESTS\ny = 2\n### END HIDDEN TESTS", CODE, "cell 2"),
    ],
)
@pytest.mark.parametrize("new_cell", [new_code_cell, new_markdown_cell], ids=["code", "prose"])
def test_wrong_marker_is_refused_and_the_cell_named(new_cell, source, metadata, words):
    notebook = new_notebook(cells=[new_code_cell("import labkit"), new_cell(source, metadata=metadata)])
    with pytest.raises(ValueError, match=words) as refused:
        release.student_version(notebook)
    assert str(refused.value).startswith("cell 2: ")


def test_stub_stands_where_the_marker_stood():
    source = f"def f(x):\n    {BEGIN}\n    return 2 * x\n    {END}\n    # end"
    made = release.student_version(new_notebook(cells=[new_code_cell(source, metadata=CODE)]))
    assert made.cells[0].source == f"def f(x):\n    {release.CODE_STUB}\n    # end"


def test_two_regions_of_a_cell_become_two_stubs():
    source = f"{BEGIN}\nx = 1\n{END}\nprint(x)\n{BEGIN}\ny = 2\n{END}"
    made = release.student_version(new_notebook(cells=[new_code_cell(source, metadata=CODE)]))
    assert made.cells[0].source == f"{release.CODE_STUB}\nprint(x)\n{release.CODE_STUB}"


def test_solution_notebook_is_not_changed_by_its_release():
    output = new_output("display_data", data={"image/png": PIXEL})
    metadata = CODE | {"labkit": {"expected_picture": True}, "tags": ["mine"]}
    cells = [new_code_cell(f"{BEGIN}\nx = 1\n{END}", metadata=metadata, outputs=[output], execution_count=3)]
    notebook = new_notebook(cells=cells, metadata={"authors": [{"name": "we"}]})
    before = nbformat.writes(notebook)
    made = release.student_version(notebook)
    assert nbformat.writes(notebook) == before
    assert [cell.id for cell in made.cells] == [cells[0].id, f"{cells[0].id}-picture"]
    assert "authors" not in made.metadata


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [({}, "image/png"), ({"labkit": {"expected_picture": False}}, "image/png")],
)
def test_only_a_png_that_was_asked_for_becomes_a_picture(metadata, kind):
    cell = new_code_cell("draw()", metadata=metadata, outputs=[new_output("display_data", data={kind: PIXEL})])
    assert len(release.student_version(new_notebook(cells=[cell])).cells) == 1


def test_picture_that_was_asked_for_and_is_not_there_stops_the_release():
    output = new_output("display_data", data={"image/jpeg": PIXEL})
    cell = new_code_cell("draw()", metadata={"labkit": {"expected_picture": True}}, outputs=[output])
    with pytest.raises(ValueError, match="cell 1 has no picture to show"):
        release.student_version(new_notebook(cells=[cell]))


# Cells that are dropped or folded


def marked(source: str, wish: str, new_cell: Any = new_markdown_cell, **metadata: Any) -> NotebookNode:
    return new_cell(source, metadata={"labkit": {"release": wish}} | metadata)


@pytest.mark.parametrize("new_cell", [new_code_cell, new_markdown_cell], ids=["code", "prose"])
def test_dropped_cell_is_left_out(new_cell):
    cells = [new_markdown_cell("a"), marked("secret", "drop", new_cell), new_markdown_cell("b")]
    made = release.student_version(new_notebook(cells=cells))
    assert [cell.source for cell in made.cells] == ["a", "b"]
    assert release.course_of({"x": made}, "salt")["notebooks"]["x"][1]["source"] == "b"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "**What the figure shows.**\n\nTwo *lines*.\n\n- one\n",
            "<details><summary>What the figure shows: look first, then open</summary>\n\n"
            "Two *lines*.\n\n- one\n\n</details>",
        ),
        (
            "**What it shows.** Two lines.",
            "<details><summary>What it shows: look first, then open</summary>\n\nTwo lines.\n\n</details>",
        ),
        (
            "**Why these three?**\nSo.",
            "<details><summary>Why these three? Look first, then open</summary>\n\nSo.\n\n</details>",
        ),
        (
            "## Seen\n\n**`conv1` < `fc`**\n\nYes, **indeed**.",
            "## Seen\n\n<details><summary><code>conv1</code> &lt; <code>fc</code>: look first, then open</summary>"
            "\n\nYes, **indeed**.\n\n</details>",
        ),
    ],
)
def test_folded_prose_is_a_box_named_by_its_first_bold_words(source, expected):
    made = release.student_version(new_notebook(cells=[marked(source, "fold")])).cells[0]
    assert made.source == expected
    assert made.metadata == {}
    assert release.role_of(made) == "given"


def test_text_in_a_folded_box_is_shown_as_markdown():
    made = release.student_version(new_notebook(cells=[marked("**So.**\n\nTwo *lines*.\n\n- one\n", "fold")]))
    html, _ = HTMLExporter().from_notebook_node(made)
    box = html.partition("<details>")[2].partition("</details>")[0]
    assert "<em>lines</em>" in box
    assert "<li>one</li>" in box


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (marked("x", "hide"), "release: 'hide'; it must be 'drop' or 'fold'"),
        (marked("x", 5), "release: 5; it must be"),
        (marked("x", "drop", nbgrader=CODE["nbgrader"]), "neither a solution nor nbgrader's metadata"),
        (marked(f"**a**\n{BEGIN}\nx\n{END}", "fold"), "neither a solution nor nbgrader's metadata"),
        (marked(f"{BEGIN}\nx\n{END}", "drop", new_code_cell), "neither a solution nor nbgrader's metadata"),
        (marked("**a**", "fold", new_code_cell), "a code cell cannot be folded"),
        (marked("no bold line, **or** one inside", "fold"), "begins with a bold line"),
    ],
)
def test_cell_that_can_not_be_dropped_or_folded_is_refused(cell, words):
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        release.student_version(new_notebook(cells=[new_markdown_cell("a"), cell]))
    assert str(refused.value).startswith("cell 2: ")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a", "## Act", "b"], ["", "Act", "Act"]),
        (["# 02 · Random pruning (10 min reading, 1 min computing)", "x"], ["02 · Random pruning"] * 2),
        (["## Questions (2 points)", "## One (1 point)", "## See (for you)"], ["Questions", "One", "See"]),
        (["## BatchNorm (again)"], ["BatchNorm (again)"]),
        (["## One\n\ntext\n\n### Two"], ["Two"]),
        (["## One\n\n```\n# a comment\n```"], ["One"]),
        (["#tag", "####### seven"], ["", "seven"]),
    ],
)
def test_place_of_a_cell_is_the_last_heading_above_it(sources, expected):
    notebook = new_notebook(cells=[new_markdown_cell(source) for source in sources])
    given = release.course_of({"x": notebook}, "salt")["notebooks"]["x"]
    assert list(release.places(given).values()) == expected


def test_attachments_of_the_authors_prose_stay_behind():
    cell = new_markdown_cell(f"{BEGIN}\n![](attachment:a.png)\n{END}", attachments={"a.png": {"image/png": PIXEL}})
    cell.metadata = nbformat.from_dict({"nbgrader": CODE["nbgrader"] | {"grade": True, "points": 1}})
    assert "attachments" not in release.student_version(new_notebook(cells=[cell])).cells[0]


# labkit release


def test_labkit_release_ends_with_0_and_says_where_it_is(tmp_path):
    out = tmp_path / "labs"
    done = CliRunner().invoke(cli.app, ["release", str(FOLDER), "--out", str(out), "--notebooks-only"])
    assert done.exit_code == 0, done.output
    assert f"{len(NOTEBOOKS)} notebooks" in done.output
    assert (out / "course.json").is_file()


def test_labkit_release_ends_with_2_where_nothing_can_be_made(tmp_path):
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "mine.txt").write_text("mine")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "02_random_pruning.ipynb").write_text("no notebook")
    for arguments, words in (
        ([str(FOLDER), "--out", str(tmp_path / "labs")], "not empty"),
        ([str(tmp_path), "--out", str(tmp_path / "new")], "none of the notebooks"),
        ([str(tmp_path / "bad"), "--out", str(tmp_path / "new")], "02_random_pruning.ipynb"),
    ):
        done = CliRunner(env={"COLUMNS": "400"}).invoke(cli.app, ["release", *arguments])
        assert done.exit_code == 2
        assert words in done.output
        assert "Traceback" not in done.output
    assert not (tmp_path / "new").exists()


# Home folders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/labs/x.pth", "~/labs/x.pth"),
        ("'/Users/ada.l/labs'", "'~/labs'"),
        ("File /root/labs/x.py:3", "File ~/labs/x.py:3"),
        ("/home/ada", "~"),
        ("/home/ada:/home/bob", "~:~"),
        ("C:\\Users\\Ada\\labs", "~\\labs"),
        ("c:\\Users\\Ada\\labs", "~\\labs"),
        ("C:/Users/Ada/labs", "C:~/labs"),
    ],
)
def test_home_folders_are_called_tilde(text, expected):
    assert packing.without_homes(text) == expected


@pytest.mark.parametrize("text", ["/rooted", "homework/ada", "see /homes/ada", "C:\\Windows\\x", "at home", "~/labs"])
def test_what_is_no_home_folder_is_kept(text):
    assert packing.without_homes(text) == text


# On its way into a notebook's file a path is escaped once, and once more where it was shown by repr(), as errors do.
@pytest.mark.parametrize("said", [str, repr, lambda path: repr(repr(path))], ids=["str", "repr", "twice"])
@pytest.mark.parametrize("path", ["/home/ada/labs", "/Users/ada/labs", "C:\\Users\\ada\\labs", "d:\\Users\\ada\\labs"])
def test_home_folder_in_a_notebooks_file_is_removed_and_the_file_stays_json(path, said):
    text = json.dumps({"text": f"saved to {said(path)}\nand more"})
    cleaned = packing.without_homes(text)
    assert "ada" not in cleaned
    assert json.loads(cleaned)["text"].endswith("\nand more")
    assert "labs" in cleaned


def test_home_folder_with_a_space_in_its_name_is_removed_whole():
    cleaned = packing.without_homes(json.dumps("C:\\Users\\Ada Lovelace\\labs\\x.pth"))
    assert "Lovelace" not in cleaned
    assert json.loads(cleaned).endswith("\\labs\\x.pth")


# labkit pack


@pytest.fixture
def notebooks(tmp_path):
    """A student's notebooks: two of them, one with a home folder in an output."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("02_random_pruning", "03_l1_pruning"):
        notebook = course_work.student_notebooks()[name]
        (folder / f"{name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    cell = new_code_cell("x", outputs=[new_output("stream", text="saved to /home/ada_l/models/x.pth\n")])
    nbformat.write(new_notebook(cells=[cell]), folder / "04_structured_pruning.ipynb")
    (folder / "private.ipynb").write_text("{}")
    return folder


def test_zip_holds_the_notebooks_of_the_series_and_a_manifest(notebooks, tmp_path):
    path = packing.pack(" AB12 ", notebooks, tmp_path / "out")
    assert path == tmp_path / "out" / "labs_ab12.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "manifest.json",
            "notebooks/02_random_pruning.ipynb",
            "notebooks/03_l1_pruning.ipynb",
            "notebooks/04_structured_pruning.ipynb",
        ]
        manifest = json.loads(archive.read("manifest.json"))
        assert b"ada_l" not in archive.read("notebooks/04_structured_pruning.ipynb")
    assert manifest["format"] == packing.FORMAT
    assert manifest["student"] == "ab12"
    assert manifest["course"] == packing.this_course()["version"]


def test_packing_changes_none_of_the_students_files(notebooks, tmp_path):
    before = contents(notebooks)
    packing.pack("ab12", notebooks, tmp_path / "out")
    assert contents(notebooks) == before


def test_work_of_somebody_else_is_not_packed(notebooks, tmp_path):
    students.sign_in("cd34")
    with pytest.raises(ValueError, match="'ab12', but 'cd34' has signed in"):
        packing.pack("ab12", notebooks, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert packing.pack("CD34", notebooks, tmp_path / "out").name == "labs_cd34.zip"


def test_there_must_be_something_to_hand_in(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="anything to hand in"):
        packing.pack("ab12", tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pack_of_nobody_says_how_to_say_who_it_is(notebooks, tmp_path):
    with pytest.raises(ValueError, match="nobody has signed in; say who you are: make pack STUDENT=ab1234"):
        packing.pack("", notebooks, tmp_path)


@pytest.mark.parametrize("student", ["../ab12", "a b", "x" * 65])
def test_pack_wants_an_id(student, notebooks, tmp_path):
    with pytest.raises(ValueError, match="an ID is"):
        packing.pack(student, notebooks, tmp_path)
    assert list(tmp_path.glob("*.zip")) == []


def test_zip_of_more_than_20_mb_is_refused_and_the_last_one_kept(notebooks, tmp_path):
    before = packing.pack("ab12", notebooks, tmp_path / "out").read_bytes()
    runtime.models_dir().mkdir()
    (runtime.models_dir() / "CNN_MNIST.pth").write_bytes(os.urandom(21 * 2**20))
    with pytest.raises(ValueError, match=r"the zip has 21\.\d MB; it may have 20"):
        packing.pack("ab12", notebooks, tmp_path / "out")
    assert contents(tmp_path / "out") == {"labs_ab12.zip": before}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left on device")], ids=["interrupt", "full"])
def test_zip_is_written_whole_or_not_at_all(error, notebooks, tmp_path, monkeypatch):
    before = packing.pack("ab12", notebooks, tmp_path / "out").read_bytes()
    read_bytes = Path.read_bytes

    def read_two(path):
        if path.name.startswith("03"):
            raise error
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_two)
        with pytest.raises(type(error)):
            packing.pack("ab12", notebooks, tmp_path / "out")
    assert contents(tmp_path / "out") == {"labs_ab12.zip": before}


@pytest.fixture(scope="module")
def half_right():
    """Networks and answers, some right, some wrong, some not there."""
    start = course_work.base(1)
    networks = {
        "CNN_MNIST": start,
        "CNN_MNIST_L1": course_work.pruned(start, course_work.prune.l1_unstructured, amount=0.25),
        "CNN_MNIST_STRUCT": course_work.pruned(start, course_work.prune.l1_unstructured, amount=0.125),
    }
    given = course_work.answers_of(start, "ab12", 1)
    given["02-mask"] = (course_work.random_mask().fill_(1), None)
    given["01-work"] = ({"conv1": 225_792, "conv2": 1, "conv3": 1_843_200, "fc": 32_000}, None)
    return networks, {task: given[task] for task in ("01-work", "02-prediction", "02-mask", "03-masks", "04-masks")}


def test_labkit_pack_shows_the_points_that_grading_gives(half_right, tmp_path, monkeypatch):
    course_work.write_work(tmp_path / "work", "ab12", *half_right, {}, monkeypatch)
    shutil.copytree(tmp_path / "work" / "models", tmp_path / "models")
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "models"))
    arguments = ["--student", "ab12", "--notebooks", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["pack", *arguments])
    assert done.exit_code == 0, done.output
    graded = grading.grade(read_submission(tmp_path / "out" / "labs_ab12.zip"), packing.this_course())
    shown = {
        name: (float(points), float(of), dash == "")
        for name, dash, points, of in re.findall(r"(\d\d-[a-z]+) +│.*│ +(– |)([\d.]+) of ([\d.]+)", done.output)
    }
    assert shown == {name: (task.points, task.of, task.attempted) for name, task in graded.tasks.items()}
    assert f"{graded.points:g} of {TOTAL:g} points, {graded.bonus:g} bonus" in done.output
    assert 0 < graded.points < TOTAL
    for line in packing.missing(graded, packing.this_course()):
        assert f"missing: {line}" in done.output


# What pack says beside the points


def packed(folder: Path, notebooks: Path) -> list[str]:
    """The remarks on what is packed, by this course."""
    path = packing.pack("ab12", notebooks, folder / "out")
    course = course_work.course()
    return packing.remarks(grading.grade(read_submission(path), course), course, notebooks)


@pytest.fixture
def whole(tmp_path):
    """The blank notebooks of the course, as a student has them."""
    folder = tmp_path / "whole"
    folder.mkdir()
    for name, notebook in course_work.student_notebooks().items():
        (folder / f"{name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    return folder


def change(folder: Path, name: str, edit: Any) -> None:
    notebook = read(folder / f"{name}.ipynb")
    edit({cell.id: cell for cell in notebook.cells}, notebook.cells)
    (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "02_random_pruning (1).ipynb",
        "02_random_pruning-Copy1.ipynb",
        "02_random_pruning - Kopie.ipynb",
        "Copy of 02_random_pruning.ipynb",
        "Kopie von 02_random_pruning.ipynb",
        "02 Random Pruning final.ipynb",
        "02_random_pruning.ipynb.txt",
        "02_random_pruning.IPYNB",
    ],
)
@pytest.mark.parametrize("newer", [True, False])
def test_copy_of_a_notebook_is_asked_about(name, newer, whole):
    right = whole / "02_random_pruning.ipynb"
    shutil.copyfile(right, whole / name)
    os.utime(right, (1_790_000_000, 1_790_000_000))
    os.utime(whole / name, (1_790_000_000 + (3_600 if newer else -3_600),) * 2)
    found = packing.copies(whole)
    assert len(found) == 1
    assert found[0].startswith(f"{name} found: is this your 02? pack takes 02_random_pruning.ipynb")
    assert ("; the first one is newer (2026-" in found[0]) == newer
    right.unlink()
    line = f"{name} found: is this your 02? pack takes 02_random_pruning.ipynb; rename the file to that"
    assert packing.copies(whole) == [line]


def test_other_files_are_no_copies(whole):
    others = ("START.ipynb", "02_random_pruning.before-repair.ipynb", "02_random_pruning.before-repair-2.ipynb")
    for name in (*others, "notes.ipynb", "02_random_pruning.html", "GLOSSARY.md", "02_l1.ipynb"):
        (whole / name).write_text("{}", encoding="utf-8")
    (whole / "02_random_pruning (1).ipynb").mkdir()
    assert packing.copies(whole) == []
    assert packing.copies(whole / "none") == []


def test_copy_is_asked_about_where_there_is_nothing_else(tmp_path):
    (tmp_path / "02_random_pruning (1).ipynb").write_text("{}", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"anything to hand in; 02_random_pruning \(1\)\.ipynb found: is this"):
        packing.pack("ab12", tmp_path, tmp_path / "out")


def test_changed_cells_are_named_by_their_headings_with_the_way_back(whole, tmp_path):
    def spoil(by_id, cells):
        by_id["nb02-check-mask"].source = "2"
        by_id["nb02-004"].source = "print()"
        cells.append(new_code_cell("x", id="nb02-010"))
        cells.remove(by_id["nb02-014"])

    change(whole, "02_random_pruning", spoil)
    change(whole, "03_l1_pruning", lambda _, cells: cells.reverse())
    notebook = read(whole / "04_structured_pruning.ipynb")
    notebook.metadata.labkit_course.version = "0123456789ab"
    (whole / "04_structured_pruning.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    said = [line.removeprefix("your instructor may ask: ") for line in packed(tmp_path, whole) if "may ask" in line]
    version = course_work.course()["version"]
    assert said == [
        f"04_structured_pruning: of another course version (0123456789ab instead of {version}), so its cells are not "
        "compared; to repair that: labkit repair 04",
        "02_random_pruning: the given cell below 'Look: the network before', the check below 'Act, by hand: one mask' "
        "were changed; the first given cell below 'Look again: are some weights zero?' is there 2 times; the task "
        "below 'Predict' is missing; the given cells are in another order; to restore what was handed out: "
        "labkit repair 02",
        "03_l1_pruning: the given cells are in another order; to restore what was handed out: labkit repair 03",
    ]


def test_unanswered_questions_with_points_are_listed_once(whole, tmp_path):
    def answer(by_id, _):
        by_id["nb02-questions"].source = by_id["nb02-questions"].source.replace(release.PROSE_STUB, "Yes.")

    asked = {
        (name, spec["name"])
        for name, given in course_work.course()["notebooks"].items()
        for spec in given
        if spec["role"] == "answer" and spec["points"]
    }
    before = [line for line in packed(tmp_path, whole) if line.startswith("not answered: ")]
    assert len(set(before)) == len(asked)
    here = [line for line in before if line.startswith("not answered: 02_random_pruning, 'Questions': Did it work: ")]
    assert len(here) == 1
    change(whole, "02_random_pruning", answer)
    after = [line for line in packed(tmp_path, whole) if line.startswith("not answered: ")]
    assert after == [line for line in before if line not in here]


def test_what_was_not_attempted_comes_with_the_cells_to_run(whole, tmp_path):
    said = packed(tmp_path, whole)
    mask = "02-mask, a random mask by hand: not attempted; do it, and run the check below 'Act, by hand: one mask'"
    network = "02-network, 25 % of conv1, conv2, conv3 at random: not attempted; do it, and run the check below"
    assert f"missing: {mask}, which saves it" in said
    assert f"missing: {network} 'Act, with the library', which saves it" in said
    assert sum(line.startswith("missing: ") for line in said) == len(TASKS)


def test_pack_says_nothing_twice(whole, tmp_path):
    (whole / "02_random_pruning.ipynb").write_text("{", encoding="utf-8")
    (whole / "03_l1_pruning.ipynb").unlink()
    runtime.models_dir().mkdir()
    (runtime.models_dir() / "CNN_MNIST_L1.pth").write_bytes(b"no network")
    said = packed(tmp_path, whole)
    assert len(set(said)) == len(said)
    assert len([line for line in said if "02_random_pruning" in line]) == 1
    assert len([line for line in said if "CNN_MNIST_L1.pth" in line]) == 1
    assert "missing: 03_l1_pruning.ipynb is missing; not attempted: 03-prediction, 03-masks" in said
    line = "missing: 02_random_pruning.ipynb cannot be read: it is not JSON (Expecting property name enclosed in "
    assert any(one.startswith(line) for one in said)


def test_pack_by_a_course_of_before_there_was_a_repair_still_says_what_is_missing(whole, tmp_path):
    path, course = packing.pack("ab12", whole, tmp_path / "out"), json.loads(json.dumps(course_work.course()))
    for given in course["notebooks"].values():
        for spec in given:
            del spec["source"], spec["marks"]
    said = packing.remarks(grading.grade(read_submission(path), course), course, whole)
    assert (
        "missing: 01-work, multiply-adds of each layer: not attempted; do it, and run the check 01-work, which saves it"
        in said
    )


def test_labkit_pack_ends_with_2_where_nothing_can_be_packed(notebooks, tmp_path):
    students.sign_in("cd34")
    for student, folder, words in (
        ("ab12", notebooks, "whose work is it?"),
        ("a b", notebooks, "an ID is"),
        ("cd34", tmp_path / "none", "anything to hand in"),
    ):
        arguments = ["--student", student, "--notebooks", str(folder), "--out", str(tmp_path / "out")]
        done = CliRunner(env={"COLUMNS": "400"}).invoke(cli.app, ["pack", *arguments])
        assert done.exit_code == 2
        assert words in done.output
        assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("salt", ["5", '["a"]', "null", "[" * 100_000 + "]" * 100_000, '"\\ud800"'], ids=len)
def test_salt_that_is_no_string_is_told_with_the_file(salt, tmp_path, monkeypatch):
    path = tmp_path / "course.json"
    path.write_text(f'{{"format": "labkit course 1", "version": "1", "notebooks": {{}}, "salt": {salt}}}')
    monkeypatch.setattr(course_file, "course_files", lambda: [path])
    for read in (lambda: course_file.read_course(path), students.salt):
        with pytest.raises(ValueError, match=r"course\.json is ") as caught:
            read()
        assert str(caught.value).isprintable()
