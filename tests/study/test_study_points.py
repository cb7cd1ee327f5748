import dataclasses
import itertools
import math
import pickle
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from study_examples import AFTER, DENSE, NOTHING, SMALL, TICKET, points

import labkit
from labkit.study import cycles, plan
from labkit.study.budgets import two_of_four
from labkit.study.criteria import CRITERIA
from labkit.study.plans import MOST_POINTS, TARGETS
from labkit.study.points import (
    CONTROLS,
    FIELDS,
    LEAST_EPOCHS,
    SCHEDULES,
    SCOPES,
    SHAPES,
    WEIGHTS,
    WIDTHS,
    Point,
    point_of,
    row_of,
    small_widths,
)


def weights_of(widths):
    return sum(layer.weight.numel() for layer in labkit.prunable_layers(labkit.CNN(channels=widths)).values())


# What a point is


def test_point_can_not_be_changed():
    for name in FIELDS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(Point(), name, 1)


@given(points())
def test_equal_points_are_the_same_key_and_survive_pickling(point):
    again = pickle.loads(pickle.dumps(point))
    assert again == point and hash(again) == hash(point)
    assert len({point, again, dataclasses.replace(point)}) == 1


def test_shapes_and_weights_are_those_of_the_network():
    layers = labkit.prunable_layers(labkit.CNN())
    assert {name: tuple(layer.weight.shape) for name, layer in layers.items()} == SHAPES
    assert WEIGHTS == 124_448 == sum(math.prod(shape) for shape in SHAPES.values())
    assert labkit.CNN().channels == WIDTHS


@pytest.mark.parametrize(
    ("name", "changed", "value", "rule"),
    [
        ("dataset", {"dataset": "CIFAR10"}, "'CIFAR10'", "one of MNIST, FashionMNIST"),
        ("dataset", {"dataset": "mnist"}, "'mnist'", "one of MNIST"),
        ("dataset", {"dataset": None}, "None", "one of MNIST"),
        (
            "criterion",
            {"criterion": "coin"},
            "'coin'",
            f"one of none, {', '.join(CRITERIA)}",
        ),
        ("criterion", {"criterion": ["magnitude"]}, r"\['magnitude'\]", "one of none, random"),
        ("scope", {"scope": "layer"}, "'layer'", "one of none, local, global, erk"),
        ("schedule", {"schedule": "late"}, "'late'", "one of none, before, oneshot, iterative, gradual, rewind"),
        ("control", {"control": ""}, "''", "one of none, shuffled, reinitialised, small"),
        ("seed", {"seed": -1}, "-1", "from 0 to 4,294,967,295"),
        ("seed", {"seed": 2**32}, "4294967296", "from 0 to 4,294,967,295"),
        ("seed", {"seed": 1.0}, r"1\.0", "a whole number"),
        ("seed", {"seed": True}, "True", "a whole number"),
        ("seed", {"seed": "0"}, "'0'", "a whole number"),
        ("seed", {"seed": None}, "None", "a whole number"),
        ("target", {"target": 3}, "3", "from 4 to 124,448"),
        ("target", {"target": 124_449}, "124449", "from 4 to 124,448"),
        ("target", {"target": 6e3}, r"6000\.0", "a whole number"),
        ("target", {"target": math.nan}, "nan", "a whole number"),
        ("epochs", {"epochs": 0}, "0", "from 2 to 10,000 for the schedule 'gradual'"),
        ("epochs", {"epochs": 1}, "1", "from 2 to 10,000"),
        ("epochs", {"epochs": 10_001}, "10001", "from 2 to 10,000"),
        ("epochs", {"epochs": 12.0}, r"12\.0", "a whole number"),
        ("epochs", {"epochs": "12"}, "'12'", "a whole number"),
        ("augmented", {"augmented": -1}, "-1", "from 0 to 12"),
        ("augmented", {"augmented": 13}, "13", "from 0 to 12"),
        ("augmented", {"augmented": False}, "False", "a whole number"),
        ("start", {"start": "16-32"}, "'16-32'", "three numbers of channels, such as 32-64-128"),
        ("start", {"start": "16-032-48"}, "'16-032-48'", "three numbers"),
        ("start", {"start": "32-64-129"}, "'32-64-129'", "with at most 124,448 weights"),
        ("start", {"start": None}, "None", "three numbers"),
        ("target", {"start": "4-8-35", "target": 11_595}, "11595", "from 4 to 11,594"),
        ("teacher", {"teacher": "school"}, "'school'", "one of none, dense"),
        ("shift", {"shift": 5}, "5", "from 0 to 4 pixels"),
        ("shift", {"shift": -1}, "-1", "from 0 to 4 pixels"),
        ("shift", {"shift": True}, "True", "a whole number"),
        ("rewind", {"rewind": 1}, "1", "from 0 to 0 .*where nothing is rewound"),
        ("rewind", {"schedule": "rewind", "rewind": 6}, "6", "from 0 to 5 .within the first half"),
        ("rewind", {"schedule": "rewind", "rewind": -1}, "-1", "from 0 to 5"),
        ("rewind", {"schedule": "rewind", "rewind": 1, "epochs": 3}, "1", "from 0 to 0"),
        ("rewind", {"schedule": "rewind", "rewind": 1.0}, r"1\.0", "a whole number"),
        ("epochs", {"schedule": "rewind", "epochs": "12"}, "'12'", "from 2 to 10,000 for the schedule 'rewind'"),
        ("epochs", {"schedule": "rewind", "epochs": None}, "None", "from 2 to 10,000 for the schedule 'rewind'"),
        ("epochs", {"schedule": "rewind", "epochs": math.nan}, "nan", "from 2 to 10,000 for the schedule 'rewind'"),
    ],
)
def test_value_that_is_not_allowed_is_named_with_the_rule(name, changed, value, rule):
    with pytest.raises(ValueError, match=f"^{name} is {value}; it must be .*{rule}"):
        Point(**changed)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({**SMALL, "start": "16-32-48"}, "start is '16-32-48'; its target gives the widths of a control 'small'"),
        ({"dataset": "FashionMNIST", "teacher": "dense"}, "dataset is 'FashionMNIST'; .* know MNIST only"),
        ({**AFTER, "dataset": "FashionMNIST"}, "dataset is 'FashionMNIST'; committed networks know MNIST only"),
        ({**AFTER, "start": "16-32-48"}, "start is '16-32-48'; it must be one of dense, rows"),
        ({**AFTER, "start": "rows", "target": 100_737}, "target is 100737; it must be .* 100,736"),
        ({"scope": "2:4"}, "scope is '2:4'; only the schedule 'after' prunes two of four"),
        ({**AFTER, "start": "rows", "target": 13}, "target is 13; it must be a whole number from 14"),
        ({"start": "dense"}, "start is 'dense'; it must be three numbers of channels"),
        ({"repair": "solve"}, "repair is 'solve'; only the schedule 'after' repairs"),
        ({**AFTER, "repair": "epoch"}, "repair is 'epoch'; it must be one of none, solve, batchnorm, solve-batchnorm"),
        ({"shift": 1, "augmented": 2}, "augmented is 2; images that are shifted or taught"),
        ({"teacher": "dense", "augmented": 2}, "augmented is 2; images that are shifted or taught"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Point(**parts)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_fewest_epochs_of_each_schedule_are_allowed_and_no_fewer(schedule):
    rest = {"none": DENSE, "after": AFTER}.get(schedule, {"schedule": schedule})
    rest = {name: value for name, value in rest.items() if name != "epochs"}
    assert Point(**rest, epochs=LEAST_EPOCHS[schedule]).epochs == LEAST_EPOCHS[schedule]
    with pytest.raises(ValueError, match=f"epochs is {LEAST_EPOCHS[schedule] - 1}; .*for the schedule '{schedule}'"):
        Point(**rest, epochs=LEAST_EPOCHS[schedule] - 1)


@pytest.mark.parametrize("odd", [which for r in (1, 2) for which in itertools.combinations(NOTHING, r)])
def test_criterion_scope_and_schedule_go_together(odd):
    parts = dict.fromkeys(odd, "none")
    whole = {"criterion": "magnitude", "scope": "global", "schedule": "gradual", **parts}
    with pytest.raises(ValueError, match=f"are {', '.join(whole.values())}; either all are 'none' or none is"):
        Point(**parts, target=WEIGHTS)


@pytest.mark.parametrize("target", [4, 6_000, WEIGHTS - 1])
def test_network_that_is_not_pruned_keeps_all_weights(target):
    with pytest.raises(ValueError, match=f"target is {target}; a network that is not pruned keeps all 124,448"):
        Point(**NOTHING, target=target)
    assert Point(**DENSE).target == WEIGHTS


@pytest.mark.parametrize(
    ("control", "parts", "given", "needed"),
    [
        ("shuffled", {}, "gradual", "rewind"),
        ("shuffled", {"schedule": "before"}, "before", "rewind"),
        ("reinitialised", {"schedule": "oneshot"}, "oneshot", "rewind"),
        ("reinitialised", DENSE, "none", "rewind"),
        ("small", {}, "gradual", "none"),
        ("small", TICKET, "rewind", "none"),
    ],
)
def test_control_needs_its_schedule(control, parts, given, needed):
    message = f"schedule is '{given}'; the control '{control}' needs '{needed}'"
    with pytest.raises(ValueError, match=message):
        Point(**parts, control=control)


@pytest.mark.parametrize("target", [4, 294])
def test_small_network_that_is_impossible_is_refused(target):
    with pytest.raises(ValueError, match=f"target is {target}; .*widths 1, 2, 1 has 295 weights"):
        Point(**{**SMALL, "target": target})
    with pytest.raises(ValueError, match=f"target is {target}; "):
        small_widths(target)


# Names


@given(points())
def test_name_is_safe_for_files(point):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}", point.name)


@given(points(most_epochs=12), st.data())
def test_points_that_differ_have_different_names(point, data):
    other = data.draw(points(most_epochs=12))
    names = data.draw(st.sets(st.sampled_from(FIELDS), min_size=1))
    try:
        near = dataclasses.replace(point, **{name: getattr(other, name) for name in names})
    except ValueError:
        assume(False)
    for one in (other, near):
        assert (one.name == point.name) == (one == point)


def test_names_of_all_methods_are_different_even_where_case_does_not_count():
    found = []
    choices = (("none", *CRITERIA), SCOPES, SCHEDULES, CONTROLS, (622, WEIGHTS), (4, 12), (0, 3, 9), (0, 1))
    for criterion, scope, schedule, control, target, epochs, augmented, rewind in itertools.product(*choices):
        if len({part == "none" for part in (criterion, scope, schedule)}) > 1:
            continue
        try:
            found.append(Point("MNIST", 0, criterion, scope, schedule, target, epochs, augmented, rewind, control))
        except ValueError:
            continue
    assert len(found) > 1_000
    assert len({point.name.lower() for point in found}) == len(found)


@given(points(), st.sampled_from(["MNIST", "FashionMNIST"]), st.integers(0, 9), st.integers(295, WEIGHTS))
def test_method_is_the_same_along_a_curve_and_for_every_seed(point, dataset, seed, target):
    target = point.target if point.schedule == "none" and point.control == "none" else min(target, point.weights)
    dataset = "MNIST" if point.teacher != "none" or point.schedule == "after" else dataset
    target = max(target, 295) if point.control == "small" else target
    assert dataclasses.replace(point, dataset=dataset, seed=seed, target=target).method == point.method


@pytest.mark.parametrize(
    ("parts", "method"),
    [
        ({}, "magnitude-global-gradual"),
        ({"augmented": 3}, "magnitude-global-gradual-augmented-3"),
        ({**DENSE, "augmented": 9}, "dense"),
        (DENSE, "dense-augmented-0"),
        (SMALL, "small"),
        (TICKET, "magnitude-global-rewind-to-1"),
        ({"schedule": "rewind"}, "magnitude-global-rewind-to-0"),
        ({**TICKET, "control": "shuffled"}, "magnitude-global-rewind-to-1-shuffled"),
        (
            {"start": "16-32-48", "teacher": "dense", "shift": 1},
            "magnitude-global-gradual-from-16-32-48-taught-shifted-1",
        ),
        ({**NOTHING, "start": "4-8-35", "target": 11_594}, "narrow-from-4-8-35"),
        (AFTER, "wanda-row-after"),
        ({**AFTER, "start": "rows", "repair": "solve"}, "wanda-row-after-from-rows-solve"),
        ({**DENSE, "shift": 2}, "dense-shifted-2"),
        ({"criterion": "synflow", "scope": "erk", "schedule": "before"}, "synflow-erk-before"),
    ],
)
def test_method_says_what_is_done(parts, method):
    assert Point(**parts).method == method


# Rows


@given(points())
def test_row_gives_the_point_back(point):
    row = row_of(point)
    assert tuple(row) == FIELDS
    assert point_of(row) == point
    assert point_of({name: str(value) for name, value in row.items()}) == point
    assert point_of({**row, "nonzero": 5, "torch": "2.11"}) == point


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("how", ["missing", "None"])
def test_missing_column_is_named(name, how):
    row = row_of(Point())
    row[name] = None
    if how == "missing":
        del row[name]
    with pytest.raises(ValueError, match=f"the column {name} is missing"):
        point_of(row)


@pytest.mark.parametrize("value", ["", "x", "1.5", 1.5, math.inf, math.nan, [1]], ids=repr)
def test_number_of_a_row_that_is_no_whole_number_is_refused_with_its_column(value):
    for name in ("seed", "target", "epochs", "augmented", "rewind"):
        with pytest.raises(ValueError, match=rf"{name} is {re.escape(repr(value))}; it must be a whole number"):
            point_of({**row_of(Point()), name: value})


def test_row_with_a_point_that_is_not_allowed_is_refused():
    with pytest.raises(ValueError, match="criterion is 'coin'"):
        point_of({**row_of(Point()), "criterion": "coin"})
    with pytest.raises(ValueError, match="target is 3"):
        point_of({**row_of(Point()), "target": "3"})


# Small dense networks


@given(st.integers(295, 2 * WEIGHTS), st.integers(0, 5_000))
def test_small_networks_have_at_most_so_many_weights_and_the_most_channels_first(weights, more):
    def size(first, second, last):
        return 9 * (first + first * second + second * last) + 250 * last

    first, second, last = small_widths(weights)
    assert second == 2 * first and last >= first
    assert size(first, second, last) <= weights < size(first, second, last + 1)
    assert size(first + 1, second + 2, first + 1) > weights
    assert small_widths(weights + more)[0] >= first


@pytest.mark.parametrize("weights", [295, 296, 622, 1_244, 2_000, 6_000, 12_445, 50_000, WEIGHTS])
def test_small_networks_have_the_weights_of_the_real_network(weights):
    first, second, last = small_widths(weights)
    assert weights_of((first, second, last)) <= weights < weights_of((first, second, last + 1))


def test_small_networks_of_the_plan():
    assert small_widths(295) == (1, 2, 1)
    assert weights_of((1, 2, 1)) == 295
    widths = [small_widths(weights) for weights in (622, 1_244, 2_000, 6_000)]
    assert widths == [(1, 2, 2), (3, 6, 3), (4, 8, 5), (9, 18, 10)]


def test_only_the_small_control_is_narrow():
    assert Point(**SMALL).widths == small_widths(2_000) != WIDTHS
    for parts in ({}, DENSE, TICKET, {**TICKET, "control": "shuffled"}):
        assert Point(**parts).widths == WIDTHS


# Plans


@pytest.mark.parametrize("name", ["small", "full"])
def test_plan_has_every_point_once(name):
    found = plan(name)
    assert found == plan(name)
    assert 0 < len(found) <= MOST_POINTS == 200
    assert len(set(found)) == len(found) == len({point.name for point in found})


def test_untrained_plan_prunes_five_networks_of_both_kinds_in_every_way():
    found = plan("untrained")
    assert len({point.name for point in found}) == len(found) == len(set(found))
    assert {point.schedule for point in found} == {"after"}
    of_seed = [{dataclasses.replace(point, seed=0) for point in found if point.seed == seed} for seed in range(5)]
    assert sum(map(len, of_seed)) == len(found) and all(points == of_seed[0] for points in of_seed)
    for start, network in (("dense", labkit.CNN()), ("rows", labkit.RowTransformer())):
        shapes = {name: layer.weight.shape for name, layer in labkit.prunable_layers(network).items()}
        of_start = {point for point in of_seed[0] if point.start == start}
        weights = sum(map(math.prod, shapes.values()))
        assert {point.target for point in of_start if point.scope == "2:4"} == {two_of_four(shapes)}
        ways = {(p.criterion, p.scope, p.target) for p in of_start if p.repair == "none" and not p.epochs}
        shares = [weights * (100 - zeros) // 100 for zeros in (50, 60, 70, 80)]
        assert ways >= set(itertools.product(("random", "magnitude", "wanda"), ("row", "local"), shares))
        assert Point(scope="row", schedule="after", start=start, target=weights, epochs=0) in of_start


def test_small_plan_is_small():
    found = plan("small")
    assert len(found) <= 10
    assert {point.epochs for point in found} == {2}
    assert {point.seed for point in found if point.method == "dense"} == {point.seed for point in found}


@pytest.mark.parametrize("name", ["", "FULL", "medium", None])
def test_plan_that_is_not_known_is_refused(name):
    with pytest.raises(ValueError, match=f"plan is {name!r}; it must be one of small, full"):
        plan(name)


def test_headline_has_ten_seeds_of_all_its_networks_and_comes_first():
    found = plan("full")
    seeds = {}
    for point in found[:30]:
        seeds.setdefault((point.method, point.target, point.epochs), []).append(point.seed)
    assert seeds == {
        ("dense", WEIGHTS, 12): list(range(10)),
        ("lamp-global-gradual", 6_000, 12): list(range(10)),
        ("lamp-global-gradual-augmented-8", 2_000, 24): list(range(10)),
    }
    # With 2,000 weights there is a network of equal cost to the dense one, too.
    equal = [point.seed for point in found if (point.target, point.epochs) == (2_000, 12)]
    assert equal == list(range(5))


def test_main_curve_has_six_targets_from_90_percent_zeros_to_99_7():
    curve = {point.target for point in plan("full") if point.method == "lamp-global-gradual" and point.epochs == 4}
    assert curve == set(TARGETS)
    shares = sorted(1 - target / WEIGHTS for target in curve)
    assert len(shares) >= 6
    assert shares[0] == pytest.approx(0.9, abs=1e-4)
    assert shares[-1] == pytest.approx(0.997, abs=1e-4)


def test_full_plan_has_every_control_and_method_at_the_same_target():
    methods = {point.method for point in plan("full") if point.target == 2_000 and point.epochs == 4}
    assert methods >= {
        "random-global-before",
        "small",
        "snip-global-before",
        "synflow-global-before",
        "magnitude-global-oneshot",
        "magnitude-global-iterative",
        "magnitude-global-gradual",
        "magnitude-local-gradual",
        "magnitude-erk-gradual",
        "gradient-global-gradual",
        "lamp-global-gradual",
        "magnitude-global-rewind-to-1",
        "magnitude-global-rewind-to-1-shuffled",
        "magnitude-global-rewind-to-1-reinitialised",
    }


def test_methods_that_are_compared_have_the_same_epochs_and_seeds():
    groups = {}
    for point in plan("full"):
        key = (point.dataset, point.epochs)
        groups.setdefault(key, {}).setdefault((point.method, point.target), set()).add(point.seed)
    assert set(groups) == {("MNIST", 24), ("MNIST", 12), ("MNIST", 4), ("FashionMNIST", 4)}
    for (_, epochs), group in groups.items():
        few = epochs == 4
        for (method, target), seeds in group.items():
            control = (method, target) in {("lamp-global-gradual", 2_000), ("small-augmented-8", 2_000)}
            assert seeds == set(range(5 if few or control else 10))
        # The network of 24 epochs is compared with the dense one of 12.
        assert any(method.startswith("dense") for method, _ in group) == (epochs < 24)


def test_all_epochs_of_each_point_are_trained():
    for point in plan("full"):
        assert sum(len(cycle) for cycle in cycles(point)) == point.epochs


def test_only_dense_networks_and_the_long_ones_are_augmented():
    augmented = {point.method for point in plan("full") if point.augmented}
    assert augmented == {"dense", "lamp-global-gradual-augmented-8", "small-augmented-8"}


def test_small_dense_network_of_the_headline_has_the_recipe_of_the_pruned_one():
    (small,) = (point for point in plan("full") if point.method == "small-augmented-8" and point.seed == 0)
    (lamp,) = (point for point in plan("full") if point.method == "lamp-global-gradual-augmented-8" and point.seed == 0)
    assert (small.target, small.epochs, small.augmented) == (lamp.target, lamp.epochs, lamp.augmented)
