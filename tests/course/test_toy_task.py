"""Adding a task touches its notebook and one file: a toy notebook is seen by check, pack, grader, figures and pages."""

import re
import subprocess
import sys

import nbformat
import pytest

import labkit
from labkit import course, runtime
from labkit.course import grading, packing, submission, task, tasks
from labkit.course.report import figures, pages
from labkit.course.task import NOTEBOOKS, TASKS

TOY = """
from labkit.course.given import own_copy, tensor
from labkit.course.judging import prediction_task
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict


def _toy(task, network, evidence):
    return Verdict(task, [Finding(bool(network.fc.weight.any()), "fc has weights", "none", 2)])


def _ones(task, answer, evidence):
    return Verdict(task, [Finding(bool(answer.all()), "only ones", "there are zeros", 3)])


def measured(rows):
    return rows["CNN_MNIST_TOY"].accuracy if "CNN_MNIST_TOY" in rows else None


TASKS = (
    prediction_task("11", "accuracy of the toy", "a share", 0, 1, 1, measured),
    Task("11-network", "a toy network", 2, _toy, own_copy, "CNN_MNIST_TOY", style=Style("h", "#123456", "TOY: a toy")),
    Task("11-ones", "ones by hand", 3, _ones, tensor),
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "t11_toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "models"))
    task.all_tasks.cache_clear()
    yield tmp_path
    task.all_tasks.cache_clear()
    sys.modules.pop("labkit.course.tasks.t11_toy", None)


def test_toy_task_is_checked_packed_graded_drawn_and_shown(toy, capsys):
    assert NOTEBOOKS[-1] == TASKS["11-network"].notebook == "11_toy"
    network = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    course.sign_in("ab12")
    assert course.check("11-network", network) == 2
    assert course.check("11-ones", [1, 0, 1]) == 0
    assert course.check("11-prediction", 0.5) == 1
    assert "✓ fc has weights\n" in capsys.readouterr().out
    notebooks = toy / "notebooks"
    notebooks.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), notebooks / "11_toy.ipynb")
    given = {"version": "1", "salt": "s", "notebooks": {"11_toy": []}}
    result = grading.grade(submission.read_submission(packing.pack("ab12", notebooks, toy)), given)
    assert {name: task.points for name, task in result.tasks.items() if name.startswith("11")} == {
        "11-prediction": 1,
        "11-network": 2,
        "11-ones": 0,
    }
    assert result.notebooks == {"11_toy": "read"}
    drawn = figures.accuracy_sparsity([result.networks])
    assert "TOY: a toy" in drawn
    page = pages.class_page({"key": result}, {"key": "ab12"}, [])
    assert "11-ones" in page
    assert "11: accuracy of the toy" in page


def test_tasks_are_as_before_without_the_toy():
    assert NOTEBOOKS[-1] == "10_without_retraining"
    assert "11-network" not in TASKS


def test_every_network_is_drawn_and_every_notebook_but_one_asks_for_a_prediction():
    styles = figures.network_styles()
    assert list(styles) == list(task.NETWORKS)
    assert len({(style.marker, style.colour) for style in styles.values()}) == len(styles)
    assert [name for name in NOTEBOOKS if TASKS.get(f"{name[:2]}-prediction") is None] == ["09_mask_detective"]


def test_texts_tell_the_totals_of_the_tasks():
    text = (runtime.PROJECT / "INSTRUCTORS.md").read_text(encoding="utf-8")
    (points, bonus) = re.search(r"(\d+) points in all, (\d+) bonus points", text).groups()
    assert (int(points), int(bonus)) == (task.total(), sum(one.points for one in TASKS.values() if one.bonus))
    for name in ("README.md", "STUDENTS.md"):
        text = (runtime.PROJECT / name).read_text(encoding="utf-8")
        assert {int(n) for n in re.findall(r"(\d+) points in all", text)} <= {task.total()}


def test_importing_the_course_brings_no_nbformat():
    code = "import sys, labkit.course; sys.exit('nbformat' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
