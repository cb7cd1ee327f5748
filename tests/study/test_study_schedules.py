import dataclasses
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_examples import DENSE, SMALL, points

from labkit.study import cycles, kept_weights
from labkit.study.points import LEAST_EPOCHS, ROUNDS, SCHEDULES, WEIGHTS, Point
from labkit.study.schedules import rate_factor

PRUNING = [schedule for schedule in SCHEDULES if schedule != "none"]


def with_schedule(schedule, epochs, target=2_000):
    start = {"start": "dense"} if schedule == "after" else {}
    parts = DENSE if schedule == "none" else {"schedule": schedule, "target": target, **start}
    return Point(**parts, epochs=epochs)


def all_kept(point):
    return [kept_weights(point, epoch) for epoch in range(max(1, point.epochs))]


# Cycles


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_cycles_are_all_epochs_once_and_none_is_empty(schedule):
    for epochs in range(LEAST_EPOCHS[schedule], 130):
        found = cycles(with_schedule(schedule, epochs))
        assert [epoch for cycle in found for epoch in cycle] == list(range(epochs))
        assert all(cycle.step == 1 and len(cycle) >= min(1, epochs) for cycle in found)


@pytest.mark.parametrize(
    ("schedule", "count"),
    [("none", 1), ("before", 1), ("gradual", 1), ("oneshot", 2), ("rewind", 2), ("iterative", ROUNDS + 1)],
)
def test_number_of_cycles_is_that_of_the_schedule_and_they_are_equally_long(schedule, count):
    for epochs in range(LEAST_EPOCHS[schedule], 60):
        lengths = [len(cycle) for cycle in cycles(with_schedule(schedule, epochs))]
        assert len(lengths) == count
        assert max(lengths) - min(lengths) <= 1


def test_small_network_learns_in_one_cycle():
    assert cycles(Point(**SMALL, epochs=7)) == [range(7)]


# Weights that stay


@given(points(schedules=PRUNING))
def test_weights_that_stay_never_rise_and_end_at_the_target(point):
    kept = all_kept(point)
    assert all(type(count) is int and point.target <= count <= point.weights for count in kept)
    assert all(later <= earlier for earlier, later in itertools.pairwise(kept))
    assert kept[-1] == point.target


@pytest.mark.parametrize("schedule", PRUNING)
@pytest.mark.parametrize("target", [4, 373, 2_000, 12_445, WEIGHTS - 1, WEIGHTS])
def test_last_epoch_has_the_target_for_all_epochs(schedule, target):
    for epochs in range(LEAST_EPOCHS[schedule], 40):
        assert kept_weights(with_schedule(schedule, epochs, target), epochs - 1) == target


@given(points(schedules=["none"]))
def test_nothing_is_pruned_without_a_schedule(point):
    assert set(all_kept(point)) == {point.weights}


@given(points(schedules=["before"]))
def test_before_prunes_before_the_first_epoch(point):
    assert set(all_kept(point)) == {point.target}


@given(points(schedules=["oneshot", "rewind"]))
def test_oneshot_and_rewind_prune_once_after_half_of_the_epochs(point):
    half = point.epochs // 2
    assert all_kept(point) == [point.weights] * half + [point.target] * (point.epochs - half)


@given(points(schedules=["oneshot", "rewind", "iterative"]))
def test_weights_go_only_where_a_cycle_begins(point):
    starts = {cycle.start for cycle in cycles(point)}
    kept = all_kept(point)
    assert {epoch for epoch in range(1, point.epochs) if kept[epoch] != kept[epoch - 1]} <= starts
    assert kept[0] == point.weights


@given(points(schedules=["iterative"]))
def test_iterative_cuts_the_same_share_of_what_is_left_three_times(point):
    kept = [kept_weights(point, cycle.start) for cycle in cycles(point)]
    for number, count in enumerate(kept):
        # count³ = all^(3 - number) · target^number, up to the rounding of the count
        exact = point.weights ** (ROUNDS - number) * point.target**number
        assert (count - Fraction(51, 100)) ** ROUNDS <= exact <= (count + Fraction(51, 100)) ** ROUNDS
    assert len(kept) == 4


@given(points(schedules=["gradual"]))
def test_gradual_is_the_cubic_of_zhu_and_gupta(point):
    final = 1 - Fraction(point.target, point.weights)
    begin, end = Fraction(point.epochs, 12), Fraction(2 * point.epochs, 3)
    for epoch in range(point.epochs - 1):
        if epoch <= begin:
            zeros = 0
        elif epoch >= end:
            zeros = final
        else:
            zeros = final + (0 - final) * (1 - (epoch - begin) / (end - begin)) ** 3
        assert abs(kept_weights(point, epoch) - point.weights * (1 - zeros)) <= Fraction(1, 2) + Fraction(1, 10**6)


def test_gradual_on_twelve_epochs_by_hand():
    kept = all_kept(Point(target=6_000, epochs=12))
    assert kept[:2] == [WEIGHTS, WEIGHTS]
    assert kept[2] == round(6_000 + 118_448 * (6 / 7) ** 3)
    assert kept[7] == round(6_000 + 118_448 / 343)
    assert kept[8:] == [6_000] * 4


def test_gradual_has_the_target_in_the_last_epoch_even_of_two():
    assert all_kept(Point(target=2_000, epochs=2)) == [WEIGHTS, 2_000]


@pytest.mark.parametrize("schedule", PRUNING)
def test_weights_that_stay_depend_on_target_and_epochs_only(schedule):
    point = with_schedule(schedule, 12)
    dataset = "MNIST" if schedule == "after" else "FashionMNIST"
    other = dataclasses.replace(point, dataset=dataset, seed=7, criterion="lamp", scope="erk", augmented=3)
    assert all_kept(other) == all_kept(point)


# The learning rate


@given(st.integers(1, 20_000), st.data())
def test_rate_is_above_zero_and_at_most_one(steps, data):
    step = data.draw(st.integers(0, steps - 1))
    assert 0 < rate_factor(step, steps) <= 1


@pytest.mark.parametrize("steps", [*range(1, 45), 430, 859, 860, 5_160])
def test_rate_rises_to_one_in_the_first_tenth_and_then_falls(steps):
    rates = [rate_factor(step, steps) for step in range(steps)]
    top = max(1, steps // 10)
    assert max(rates) == 1 == rates[top - 1]
    assert all(a < b for a, b in itertools.pairwise(rates[:top]))
    assert all(a > b for a, b in itertools.pairwise(rates[top:]))
    assert rates[:top] == pytest.approx([(step + 1) / top for step in range(top)])


@pytest.mark.parametrize("steps", [430, 860, 1_720, 5_160])
def test_rate_is_half_way_down_in_the_middle_and_ends_near_zero(steps):
    warm = steps // 10
    assert rate_factor(warm + (steps - warm) // 2, steps) == pytest.approx(0.5, abs=0.01)
    assert rate_factor(steps - 1, steps) < 1e-4
    # The scheduler asks once more, after the last step.
    assert rate_factor(steps, steps) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(rate_factor(steps, steps))
