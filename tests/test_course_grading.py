"""Honest work: everything right is full points and no flag."""

import course_work
import pytest

from labkit.course import grading, intake
from labkit.course.tasks import TASKS, TOTAL


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return course_work.honest_zip(tmp_path_factory.mktemp("honest"), "ab12", 3, patch)


def test_honest_work_gets_full_points_and_no_flag(honest):
    result = grading.grade(intake.read_submission(honest), course_work.course())
    lost = {name: task for name, task in result["tasks"].items() if task["points"] < task["of"]}
    assert lost == {}
    assert result["points"] == TOTAL == sum(task.points for task in TASKS.values() if not task.bonus)
    assert result["flags"] == []
    assert result["student"] == "ab12"
