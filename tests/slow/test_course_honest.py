"""No wrong deduction: 500 varied honest submissions, every one with full points."""

import os
import random

import course_work as work
import pytest
import torch
from honest import Pool, quick_base
from joblib import Parallel, delayed

from labkit.course import copies, grading
from labkit.course.answers import fingerprint
from labkit.course.submission import submission_of

SUBMISSIONS, QUICK_BASES, OTHER_BASES = 504, 4, 10


def _measure_once():
    """The same network in another way of writing computes the same: its accuracy is measured once."""
    known, measure = {}, grading._accuracy

    def remembered(network, images):
        numbers = {key: tensor for key, tensor in network.state_dict().items() if key.startswith("batch")}
        key = fingerprint(numbers | copies.effective_weights(network)), images
        if key not in known:
            known[key] = measure(network, images)
        return known[key]

    grading._accuracy = remembered


def lost_and_flags(numbers, kind, seed):
    """For some submissions from one base: tasks that lost points, and flags."""
    os.environ["LABKIT_BARS"] = "0"
    torch.set_num_threads(1)
    _measure_once()
    pool = Pool(quick_base(seed) if kind == "quick" else work.base(seed), seed)
    found = []
    for number in numbers:
        student = f"student{number}"
        files, again = pool.submission(student, random.Random(number))
        result = grading.grade(submission_of(files), work.course(), student)
        lost = {name: task.findings for name, task in result.tasks.items() if task.points < task.of}
        found.append((student, lost, result.flags, again))
    return found


@pytest.fixture(scope="module")
def outcomes():
    bases = [("quick", 100 + n) for n in range(QUICK_BASES)] + [("other", n) for n in range(OTHER_BASES)]
    jobs = (
        delayed(lost_and_flags)(range(n, SUBMISSIONS, len(bases)), kind, seed) for n, (kind, seed) in enumerate(bases)
    )
    return [outcome for some in Parallel(n_jobs=2, verbose=5)(jobs) for outcome in some]


def test_no_honest_submission_loses_a_point(outcomes):
    assert len(outcomes) == SUBMISSIONS >= 500
    assert {student: lost for student, lost, _, _ in outcomes if lost} == {}


def test_honest_submissions_are_not_flagged(outcomes):
    assert {
        student: flags for student, _, flags, again in outcomes if flags and not again and not _expected(flags)
    } == {}


def test_work_whose_base_was_trained_again_is_flagged_not_punished(outcomes):
    again = [flags for _, _, flags, again in outcomes if again]
    assert len(again) > 20
    assert all(any("not made from" in flag or "not handed in" in flag for flag in flags) for flags in again)


def _expected(flags):
    """A fine-tuned network reaches another accuracy than the one that was printed before: a fair question."""
    return all("CNN_MNIST_L1" in flag and "test accuracy" in flag for flag in flags)
