"""The series as a course: exercises, checks with reasons, handing in, grading. The core of labkit does not know it."""

from labkit.course.cases import Case, cases
from labkit.course.checks import (
    check_channel_masks,
    check_cut,
    check_detective,
    check_global_masks,
    check_global_network,
    check_global_rounds,
    check_iterative_network,
    check_l1_masks,
    check_l1_network,
    check_prediction,
    check_random_mask,
    check_random_network,
    check_second_round,
    check_small_network,
    check_structured_network,
    check_training,
    check_work,
    check_work_after_cutting,
)
from labkit.course.students import seed, sign_in

__all__ = [
    "Case",
    "cases",
    "check_channel_masks",
    "check_cut",
    "check_detective",
    "check_global_masks",
    "check_global_network",
    "check_global_rounds",
    "check_iterative_network",
    "check_l1_masks",
    "check_l1_network",
    "check_prediction",
    "check_random_mask",
    "check_random_network",
    "check_second_round",
    "check_small_network",
    "check_structured_network",
    "check_training",
    "check_work",
    "check_work_after_cutting",
    "seed",
    "sign_in",
]
