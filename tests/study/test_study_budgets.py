import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.study import choose_masks, kept_weights, layer_budgets
from labkit.study.budgets import two_of_four
from labkit.study.points import SHAPES, WEIGHTS, Point

SCOPES = ("global", "local", "erk")
CONVOLUTIONS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3))
LINEAR = st.tuples(st.integers(1, 40), st.integers(1, 40))
NETWORKS = st.lists(CONVOLUTIONS | LINEAR, min_size=1, max_size=6).map(
    lambda shapes: {f"layer{number}": shape for number, shape in enumerate(shapes)}
)


def sizes_of(shapes):
    return {name: math.prod(shape) for name, shape in shapes.items()}


def exact_local(shapes, kept):
    sizes = sizes_of(shapes)
    return {name: Fraction(kept * size, sum(sizes.values())) for name, size in sizes.items()}


def exact_erk(shapes, kept):
    """Evci et al.'s loop over epsilon (``get_mask_init ... erdos_renyi_kernel`` of their code), in fractions."""
    sizes = sizes_of(shapes)
    density = Fraction(kept, sum(sizes.values()))
    dense = set()
    while True:
        divisor, right, raw = Fraction(0), Fraction(0), {}
        for name, shape in shapes.items():
            if name in dense:
                right -= sizes[name] * (1 - density)
            else:
                right += sizes[name] * density
                raw[name] = Fraction(sum(shape), sizes[name])
                divisor += raw[name] * sizes[name]
        if not raw:
            break
        epsilon = right / divisor
        highest = max(raw.values())
        if highest * epsilon <= 1:
            break
        dense |= {name for name, value in raw.items() if value == highest}
    return {name: sizes[name] * (Fraction(1) if name in dense else epsilon * raw[name]) for name in shapes}


EXACT = {"local": exact_local, "erk": exact_erk}


def ones(shapes):
    return {name: torch.ones(shape) for name, shape in shapes.items()}


def total(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def dice(shapes, seed=0, different=None):
    """Scores; with ``different``, so few different ones that there are many ties."""
    generator = torch.Generator().manual_seed(seed)
    if different is None:
        return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {name: torch.randint(different, shape, generator=generator).float() for name, shape in shapes.items()}


def some_masks(shapes, share, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {name: (torch.rand(shape, generator=generator) < share).float() for name, shape in shapes.items()}


def highest_alive(scores, masks, count):
    """Places of the ``count`` highest scores among unmasked weights of flat lists, earlier places first in ties."""
    alive = [place for place in range(len(scores)) if masks[place] > 0]
    return set(sorted(alive, key=lambda place: (-scores[place], place))[:count])


# Budgets of layers


@pytest.mark.parametrize("scope", EXACT)
@given(shapes=NETWORKS, data=st.data())
@settings(max_examples=150)
def test_budgets_sum_to_what_is_kept_and_are_the_exact_shares_rounded(scope, shapes, data):
    sizes = sizes_of(shapes)
    kept = data.draw(st.integers(len(shapes), sum(sizes.values())))
    exact = EXACT[scope](shapes, kept)
    assert sum(exact.values()) == kept
    try:
        budgets = layer_budgets(shapes, kept, scope)
    except ValueError as error:
        # Some layer's share is below one weight, and each that is named has such a share.
        named = str(error).partition("leave ")[2].partition(" without")[0].split(", ")
        assert named[0] and all(exact[name] < 1 for name in named)
        return
    assert list(budgets) == list(shapes)
    assert sum(budgets.values()) == kept
    for name, budget in budgets.items():
        assert type(budget) is int
        assert 1 <= budget <= sizes[name]
        assert abs(budget - exact[name]) < 1


@pytest.mark.parametrize("scope", EXACT)
@pytest.mark.parametrize("kept", [622, 1_244, 2_000, 6_000, 12_445, 62_224, 100_000, 124_000, WEIGHTS - 1, WEIGHTS])
def test_budgets_of_the_real_network(scope, kept):
    budgets, exact = layer_budgets(SHAPES, kept, scope), EXACT[scope](SHAPES, kept)
    assert sum(budgets.values()) == kept
    assert all(abs(budgets[name] - exact[name]) < 1 for name in SHAPES)


def test_erk_gives_small_layers_a_larger_share():
    budgets = layer_budgets(SHAPES, 12_445, "erk")
    shares = {name: budgets[name] / size for name, size in sizes_of(SHAPES).items()}
    assert shares["conv1"] > shares["fc"] > shares["conv2"] > shares["conv3"]
    # By hand: 39 : 102 : 198 : 3,210 of 3,549.
    assert layer_budgets(SHAPES, 3_549, "erk") == {"conv1": 39, "conv2": 102, "conv3": 198, "fc": 3_210}


def test_what_a_full_layer_can_not_take_goes_to_the_others():
    shapes = {"tiny": (2, 1), "wide": (100, 10), "deep": (50, 20)}
    # By their sums 3 : 110 : 70 of 366, tiny would get 6 of its 2 weights: 364 are left for 110 : 70.
    assert layer_budgets(shapes, 366, "erk") == {"tiny": 2, "wide": 222, "deep": 142}


def test_full_layers_are_found_one_after_the_other():
    shapes = {"a": (1, 1), "b": (4, 2), "c": (50, 50)}
    # At first only a is full (2 of 108 parts for 1 weight); what it leaves fills b too.
    for kept in range(3, 2_510):
        exact = exact_erk(shapes, kept)
        try:
            budgets = layer_budgets(shapes, kept, "erk")
        except ValueError:
            assert min(exact.values()) < 1
            continue
        assert sum(budgets.values()) == kept
        assert all(abs(budgets[name] - exact[name]) < 1 for name in shapes)


@pytest.mark.parametrize("scope", EXACT)
def test_everything_is_kept_of_everything(scope):
    assert layer_budgets(SHAPES, WEIGHTS, scope) == sizes_of(SHAPES)


@pytest.mark.parametrize(
    ("shapes", "kept", "scope", "empty"),
    [
        (SHAPES, 100, "local", "conv1"),
        (SHAPES, 4, "local", "conv1"),
        (SHAPES, 10, "erk", "conv1, conv2"),
        (SHAPES, 4, "erk", "conv1, conv2, conv3"),
        ({"a": (1, 1), "b": (1, 9_000)}, 2, "local", "a"),
        (SHAPES, 0, "local", "conv1, conv2, conv3, fc"),
    ],
)
def test_layer_that_would_be_emptied_is_named(shapes, kept, scope, empty):
    message = f"{kept} weights with the scope '{scope}' leave {empty} without any; keep more"
    with pytest.raises(ValueError, match=message):
        layer_budgets(shapes, kept, scope)
    if kept:
        with pytest.raises(ValueError, match=message):
            choose_masks(dice(shapes), ones(shapes), kept, scope)


@pytest.mark.parametrize("scope", EXACT)
@pytest.mark.parametrize("kept", [6, 1_000])
def test_budgets_of_more_weights_than_there_are_are_refused(scope, kept):
    with pytest.raises(ValueError, match=f"{kept}.* 5"):
        layer_budgets({"a": (2, 1), "b": (3, 1)}, kept, scope)


@pytest.mark.parametrize("scope", ["none", "layer", "", None, "Local"])
def test_scope_that_is_not_known_is_refused(scope):
    message = f"scope is {scope!r}; it must be one of local, global, erk, row, 2:4"
    with pytest.raises(ValueError, match=message):
        choose_masks(dice(SHAPES), ones(SHAPES), 2_000, scope)


def test_layers_have_no_budgets_if_all_weights_compete():
    with pytest.raises(ValueError, match=r"scope is 'global'; it must be 'local' or 'erk'"):
        layer_budgets(SHAPES, 2_000, "global")


# Masks


@pytest.mark.parametrize("different", [None, 3, 1])
@pytest.mark.parametrize("share", [1.0, 0.5])
@given(shapes=NETWORKS, data=st.data())
@settings(max_examples=40)
def test_global_masks_keep_the_highest_scores_of_all(different, share, shapes, data):
    scores, masks = dice(shapes, different=different), some_masks(shapes, share)
    kept = data.draw(st.integers(len(shapes), sum(sizes_of(shapes).values())))
    chosen = choose_masks(scores, masks, kept, "global")
    flat = [torch.cat([part[name].flatten() for name in shapes]).tolist() for part in (scores, masks, chosen)]
    assert {place for place, bit in enumerate(flat[2]) if bit} == highest_alive(flat[0], flat[1], kept)
    assert total(chosen) == min(kept, total(masks))


@pytest.mark.parametrize("scope", EXACT)
@pytest.mark.parametrize("different", [None, 3, 1])
@given(shapes=NETWORKS, data=st.data())
@settings(max_examples=40)
def test_masks_of_a_scope_keep_the_highest_scores_of_each_layer(scope, different, shapes, data):
    scores = dice(shapes, different=different)
    kept = data.draw(st.integers(len(shapes), sum(sizes_of(shapes).values())))
    try:
        budgets = layer_budgets(shapes, kept, scope)
    except ValueError:
        return
    chosen = choose_masks(scores, ones(shapes), kept, scope)
    for name, budget in budgets.items():
        places = {place for place, bit in enumerate(chosen[name].flatten().tolist()) if bit}
        size = math.prod(shapes[name])
        assert places == highest_alive(scores[name].flatten().tolist(), [1] * size, budget)


@pytest.mark.parametrize("scope", SCOPES)
@given(shapes=NETWORKS, share=st.sampled_from([0.2, 0.7, 1.0]), different=st.sampled_from([None, 2]), data=st.data())
@settings(max_examples=60)
def test_masks_are_zeros_and_ones_and_nothing_comes_back(scope, shapes, share, different, data):
    scores, masks = dice(shapes, different=different), some_masks(shapes, share)
    kept = data.draw(st.integers(len(shapes), sum(sizes_of(shapes).values())))
    before = {name: (scores[name].clone(), masks[name].clone()) for name in shapes}
    try:
        chosen = choose_masks(scores, masks, kept, scope)
    except ValueError as error:
        assert "leave" in str(error) and scope != "global"
        return
    assert list(chosen) == list(shapes)
    for name in shapes:
        assert chosen[name].shape == masks[name].shape and chosen[name].dtype == masks[name].dtype
        assert set(chosen[name].unique().tolist()) <= {0.0, 1.0}
        assert (chosen[name] <= masks[name]).all()
        assert torch.equal(scores[name], before[name][0]) and torch.equal(masks[name], before[name][1])
    assert total(chosen) <= kept


@pytest.mark.parametrize("scope", SCOPES)
@given(shapes=NETWORKS, share=st.sampled_from([0.3, 0.8]), data=st.data())
@settings(max_examples=40)
def test_masks_keep_so_many_weights_or_what_there_is(scope, shapes, share, data):
    masks = some_masks(shapes, share)
    kept = data.draw(st.integers(len(shapes), sum(sizes_of(shapes).values())))
    try:
        chosen = choose_masks(dice(shapes), masks, kept, scope)
    except ValueError:
        return
    assert total(chosen) == min(kept, total(masks))


@pytest.mark.parametrize("scope", ["local", "erk"])
@given(shapes=NETWORKS, data=st.data())
@settings(max_examples=60)
def test_pruning_in_steps_ends_at_what_is_kept(scope, shapes, data):
    weights = sum(sizes_of(shapes).values())
    steps = data.draw(st.lists(st.integers(len(shapes), weights), min_size=2, max_size=6))
    masks = ones(shapes)
    for kept in sorted(steps, reverse=True):
        try:
            masks = choose_masks(dice(shapes), masks, kept, scope)
        except ValueError:
            return
        assert total(masks) == kept


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("epochs", [4, 12, 20])
def test_gradual_pruning_of_the_real_network_ends_at_the_target(scope, epochs):
    point, masks = Point(scope=scope, target=2_000, epochs=epochs), ones(SHAPES)
    for epoch in range(epochs):
        kept = kept_weights(point, epoch)
        if kept < total(masks):
            masks = choose_masks(dice(SHAPES, seed=epoch), masks, kept, scope)
        assert total(masks) == kept
    assert total(masks) == 2_000


@pytest.mark.parametrize("scope", ["local", "erk"])
def test_layer_whose_rounded_share_grows_while_the_network_shrinks_costs_no_weight(scope):
    # Shares of 11 are 4.71, 4.71, 1.57, rounded 5, 5, 1; of 10 they are 4.29, 4.29, 1.43, rounded 4, 4, 2.
    local, erk = {"a": (6, 1), "b": (6, 1), "c": (2, 1)}, {"a": (6, 6), "b": (6, 6), "c": (2, 2)}
    shapes = local if scope == "local" else erk
    masks = choose_masks(dice(shapes), ones(shapes), 11, scope)
    assert [int(mask.sum()) for mask in masks.values()] == [5, 5, 1]
    assert total(choose_masks(dice(shapes), masks, 10, scope)) == 10


@pytest.mark.parametrize("scope", SCOPES)
def test_ties_are_broken_by_place(scope):
    shapes = {"a": (3, 2), "b": (3, 2)}
    chosen = choose_masks(ones(shapes), ones(shapes), 6, scope)
    wanted = {"global": ([1] * 6, [0] * 6)}.get(scope, ([1, 1, 1, 0, 0, 0],) * 2)
    assert (chosen["a"].flatten().tolist(), chosen["b"].flatten().tolist()) == wanted
    many = choose_masks(ones(SHAPES), ones(SHAPES), 6_000, scope)
    for name, mask in many.items():
        flat = mask.flatten()
        assert flat[: int(flat.sum())].all(), name


@pytest.mark.parametrize("scope", SCOPES)
def test_same_scores_give_the_same_masks(scope):
    one, other = (choose_masks(dice(SHAPES, different=5), ones(SHAPES), 2_000, scope) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in SHAPES)


def test_high_scores_of_masked_weights_do_not_count():
    shapes = {"a": (2, 2), "b": (2, 2)}
    masks = {"a": torch.tensor([[0.0, 1.0], [0.0, 1.0]]), "b": torch.ones(2, 2)}
    scores = {"a": torch.tensor([[9.0, 0.1], [9.0, 0.2]]), "b": torch.tensor([[0.3, 0.4], [0.5, 0.6]])}
    chosen = choose_masks(scores, masks, 5, "global")
    assert chosen["a"].tolist() == [[0, 0], [0, 1]]
    assert chosen["b"].tolist() == [[1, 1], [1, 1]]
    assert choose_masks(scores, masks, 4, "local")["a"].tolist() == [[0, 1], [0, 1]]
    assert list(chosen) == list(shapes)


def test_scores_that_differ_in_the_last_bit_of_float64_are_told_apart():
    scores = {"a": torch.tensor([[1.0, 1.0 + 2**-52, 1.0]], dtype=torch.float64)}
    assert choose_masks(scores, ones({"a": (1, 3)}), 1, "global")["a"].tolist() == [[0, 1, 0]]


def test_infinite_scores_are_the_highest():
    scores = {"a": torch.tensor([[1.0, math.inf, 3.0]])}
    assert choose_masks(scores, ones({"a": (1, 3)}), 2, "global")["a"].tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("scope", SCOPES)
def test_scores_of_minus_infinity_are_low_and_still_kept_where_there_is_nothing_better(scope):
    shapes = {"a": (2, 2), "b": (2, 2)}
    low = {name: torch.full(shape, -math.inf) for name, shape in shapes.items()}
    assert total(choose_masks(low, ones(shapes), 6, scope)) == 6
    # Those of masked weights, with any score, come after them.
    masks = {"a": torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "b": torch.ones(2, 2)}
    low["a"][0, 0], low["a"][1, 1] = math.inf, -9
    chosen = choose_masks(low, masks, 4, scope)
    assert total(chosen) == 4
    assert chosen["a"].tolist() == [[0, 1], [int(scope == "global"), 1]]


def test_weights_with_the_logarithm_of_zero_as_score_go_first():
    scores = {"a": torch.tensor([[0.0, 2.0, 0.0, 1.0]]).log()}
    assert choose_masks(scores, ones({"a": (1, 4)}), 2, "global")["a"].tolist() == [[0, 1, 0, 1]]
    assert choose_masks(scores, ones({"a": (1, 4)}), 3, "global")["a"].tolist() == [[1, 1, 0, 1]]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4, 1), ()])
def test_scores_of_another_shape_than_their_mask_are_refused_by_layer(scope, shape):
    shapes = {"a": (4, 4), "b": (4, 4)}
    scores = {"a": torch.ones(4, 4), "b": torch.ones(shape)}
    message = f"b has scores {shape} and mask (4, 4); they must have the same layers and shapes"
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_masks(scores, ones(shapes), 6, scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_layer_without_scores_or_without_mask_is_refused(scope):
    shapes = {"a": (4, 4), "b": (2, 2)}
    with pytest.raises(ValueError, match=r"b has scores none and mask \(2, 2\)"):
        choose_masks(ones({"a": (4, 4)}), ones(shapes), 6, scope)
    with pytest.raises(ValueError, match=r"b has scores \(2, 2\) and mask none"):
        choose_masks(ones(shapes), ones({"a": (4, 4)}), 6, scope)


@pytest.mark.parametrize("scope", SCOPES)
def test_order_of_the_masks_does_not_count(scope):
    scores, masks = dice(SHAPES, different=5), some_masks(SHAPES, 0.8)
    wanted = choose_masks(scores, masks, 2_000, scope)
    found = choose_masks(scores, dict(reversed(masks.items())), 2_000, scope)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in SHAPES)


def test_global_masks_may_empty_a_layer():
    shapes = {"a": (2, 2), "b": (2, 2)}
    scores = {"a": torch.zeros(2, 2), "b": torch.ones(2, 2)}
    assert total({"a": choose_masks(scores, ones(shapes), 4, "global")["a"]}) == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_scores_that_are_nan_are_refused_by_layer(scope):
    scores = dice(SHAPES)
    scores["conv2"][0, 0, 0, :2] = math.nan
    with pytest.raises(ValueError, match="conv2 has 2 scores that are NaN; all must be numbers"):
        choose_masks(scores, ones(SHAPES), 2_000, scope)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kept", [-1, 0, 3, WEIGHTS + 1])
def test_number_of_weights_out_of_range_is_refused(scope, kept):
    with pytest.raises(ValueError, match=rf"kept is {kept}; it must be from 4 \(one weight per layer\) to 124,448"):
        choose_masks(dice(SHAPES), ones(SHAPES), kept, scope)


@pytest.mark.parametrize("kept", [True, 2_000.0, 2_000.5, np.float64(2_000), math.nan, "2000", None])
def test_number_of_weights_that_is_not_whole_is_refused(kept):
    message = re.escape(f"kept is {kept!r}; it must be a whole number")
    for scope in SCOPES:
        with pytest.raises(ValueError, match=message):
            choose_masks(dice(SHAPES), ones(SHAPES), kept, scope)
    for scope in EXACT:
        with pytest.raises(ValueError, match=message):
            layer_budgets(SHAPES, kept, scope)


@pytest.mark.parametrize("kind", [np.int64, np.int16, np.uint16])
def test_whole_number_of_numpy_is_one_of_python(kind):
    for scope in EXACT:
        budgets = layer_budgets(SHAPES, kind(2_000), scope)
        assert budgets == layer_budgets(SHAPES, 2_000, scope)
        assert all(type(budget) is int for budget in budgets.values())
    for scope in SCOPES:
        assert total(choose_masks(dice(SHAPES), ones(SHAPES), kind(2_000), scope)) == 2_000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scope", SCOPES)
def test_scores_and_masks_on_a_gpu_give_the_masks_of_the_processor(scope):
    scores, masks = dice(SHAPES, different=9), some_masks(SHAPES, 0.8)
    wanted = choose_masks(scores, masks, 2_000, scope)
    for place in ("cpu", "cuda"):  # dice are thrown on the processor always
        there = {name: score.to(place) for name, score in scores.items()}
        chosen = choose_masks(there, {name: mask.cuda() for name, mask in masks.items()}, 2_000, scope)
        assert all(torch.equal(chosen[name].cpu(), wanted[name]) for name in SHAPES)


# Each output on its own, and two of four


def test_each_output_keeps_the_same_share_of_its_best():
    scores = {"a": torch.tensor([[1.0, 2, 3, 4], [50, 60, 70, 80]]), "b": torch.tensor([[5.0, 1], [2, 9], [1, 3]])}
    masks = choose_masks(scores, {name: torch.ones_like(score) for name, score in scores.items()}, 7, "row")
    assert masks["a"].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert masks["b"].tolist() == [[1, 0], [0, 1], [0, 1]]


@given(st.integers(0, 2**32 - 1), st.integers(40, 300))
def test_rows_of_a_layer_differ_by_one_at_most(seed, kept):
    generator = torch.Generator().manual_seed(seed)
    scores = {"a": torch.rand(7, 3, 3, 3, generator=generator), "b": torch.rand(10, 21, generator=generator)}
    masks = choose_masks(scores, {name: torch.ones_like(score) for name, score in scores.items()}, kept, "row")
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    for mask in masks.values():
        counts = mask.flatten(1).sum(dim=1)
        assert counts.max() - counts.min() <= 1


def test_two_of_four_stay_where_four_divides_an_output():
    shapes = {"conv1": (4, 1, 3, 3), "fc": (2, 8)}
    assert two_of_four(shapes) == 36 + 8
    masks = choose_masks(dice(shapes), ones(shapes), 44, "2:4")
    assert masks["conv1"].all()
    assert (masks["fc"].view(4, 4).sum(dim=1) == 2).all()
    with pytest.raises(ValueError, match="kept is 43; 2:4 keeps 44 of these weights"):
        choose_masks(dice(shapes), ones(shapes), 43, "2:4")


def test_two_of_four_takes_nothing_back():
    old = torch.tensor([[1.0, 0, 0, 0]])
    assert torch.equal(choose_masks({"a": torch.ones(1, 4)}, {"a": old}, 2, "2:4")["a"], old)
