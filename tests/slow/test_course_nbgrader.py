"""The solution notebooks as a course of nbgrader's: its own release, and its own grading of two submissions.

Takes minutes and needs nbgrader, so that it is collected only when it is asked for.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from course_secrets import collapsed, leaks, texts

from labkit import runtime
from labkit.course.task import TASKS

api = pytest.importorskip("nbgrader.api", reason="nbgrader is not installed; make test-full does that")

CHEAP = ["02_random_pruning", "03_l1_pruning", "04_structured_pruning", "09_mask_detective"]  # they train nothing
STUBS = {"recommended": "# YOUR CODE HERE", "nbgrader's own": "# YOUR CODE HERE\nraise NotImplementedError()"}
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "labs"
c.ClearSolutions.code_stub = {{"python": {stub!r}}}
c.ExecutePreprocessor.timeout = 1800
"""


@pytest.fixture(scope="module", autouse=True)
def _alembic_is_found():
    """nbgrader calls the command alembic, which lies beside Python in an environment that is not activated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


def make_course(folder, names, stub):
    """A course with one assignment a notebook, and its student version in ``release/``."""
    folder.mkdir()
    (folder / "nbgrader_config.py").write_text(CONFIG.format(stub=stub))
    for name in names:
        (folder / "source" / name).mkdir(parents=True)
        shutil.copy(runtime.PROJECT / "notebooks" / f"{name}.ipynb", folder / "source" / name)
        nbgrader(folder, "generate_assignment", name)
    return folder


def nbgrader(folder, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MPL")}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment |= {"LABKIT_MODELS": str(folder / "models" / "-".join(arguments)), "LABKIT_QUICK": "1"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def grades(folder, name, student, notebook):
    """Autograde one submission: name of a graded cell -> its score, and the most that it can be."""
    submitted = folder / "submitted" / student / name
    submitted.mkdir(parents=True)
    shutil.copy(notebook, submitted / f"{name}.ipynb")
    nbgrader(folder, "autograde", name, "--student", student)
    with api.Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        found = gradebook.find_submission_notebook(name, name, student).grades
        return {grade.name: (grade.auto_score, grade.max_score) for grade in found}


@pytest.fixture(scope="module", params=STUBS)
def stub(request):
    return request.param


@pytest.fixture(scope="module")
def course(stub, tmp_path_factory):
    return make_course(tmp_path_factory.mktemp("nbgrader") / "course", CHEAP, STUBS[stub])


@pytest.mark.parametrize("name", CHEAP)
def test_nbgraders_student_version_holds_no_solution(name, course):
    made = nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)
    solution = nbformat.read(runtime.PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert leaks(solution, {name: collapsed("\n".join(texts(made)))}) == []
    assert "YOUR CODE HERE" in "".join(cell.source for cell in made.cells)
    assert all(not cell.get("outputs") for cell in made.cells)


@pytest.mark.parametrize("name", CHEAP)
def test_untouched_notebook_gets_no_point_from_nbgrader(name, course):
    found = grades(course, name, "nobody", course / "release" / name / f"{name}.ipynb")
    tasks = {task.name: (0, task.points) for task in TASKS.values() if task.notebook == name}
    assert tasks.items() <= found.items()
    assert not any(score for score, _ in found.values())


@pytest.mark.parametrize("name", CHEAP)
def test_solution_gets_all_points_of_its_checks_from_nbgrader(name, course, stub):
    if stub != "recommended":
        pytest.skip("the stub does not stand in a solution")
    found = grades(course, name, "authors", runtime.PROJECT / "notebooks" / f"{name}.ipynb")
    tasks = {task.name: (task.points, task.points) for task in TASKS.values() if task.notebook == name}
    assert tasks.items() <= found.items()
