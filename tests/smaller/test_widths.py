import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

import labkit
from labkit.smaller import widths as shares
from labkit.smaller.cost import multiply_adds_of
from labkit.smaller.widths import CONVOLUTIONS

CHOICES = [labkit.choose_uniform, labkit.choose_by_norm]


def cost(model):
    return sum(layer.multiply_adds for layer in labkit.multiply_adds(model))


def shrunk(model, channels):
    return labkit.remove_dead_channels(labkit.with_channels(model, channels))


def seeded(channels=(4, 6, 8), shape=(1, 28, 28), classes=10, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return labkit.CNN(shape, classes, channels)


def toy_curves(*losses):
    """Curves with a point for every number of channels; losses from the fewest channels to all."""
    return {
        name: [{"channels": i + 1, "loss": row[i], "accuracy": 0.5} for i in reversed(range(len(row)))]
        for name, row in zip(CONVOLUTIONS, losses, strict=True)
    }


def linear_curves(model, slope=(1.0, 1.0, 1.0)):
    return toy_curves(*([s * (n - i) for i in range(n)] for s, n in zip(slope, model.channels, strict=True)))


def left(model):
    """Convolution -> channels with weights."""
    return {
        name: len(layer.weight) - len(labkit.zero_channels(layer))
        for name, layer in labkit.prunable_layers(model).items()
        if name != "fc"
    }


# With so many channels


def test_channels_of_largest_norm_stay(tiny):
    model = tiny()
    pruned = labkit.with_channels(model, {"conv1": 1, "conv2": 4, "conv3": 8})
    assert left(pruned) == {"conv1": 1, "conv2": 4, "conv3": 8}
    for name, count in (("conv1", 1), ("conv2", 4)):
        norms = getattr(model, name).weight.detach().flatten(1).norm(dim=1)
        gone = set(norms.argsort()[: len(norms) - count].tolist())
        assert set(labkit.zero_channels(getattr(pruned, name)).tolist()) == gone


def test_l2_norm_decides_and_not_l1():
    model = seeded((2, 1, 1))
    with torch.no_grad():
        model.conv1.weight[0] = 0.3  # L1 2.7, L2 0.9
        model.conv1.weight[1] = 0
        model.conv1.weight[1, 0, 0, 0] = 1.0  # L1 1, L2 1
    assert labkit.zero_channels(labkit.with_channels(model, {"conv1": 1}).conv1).tolist() == [0]


def test_other_channels_are_silent_and_can_be_cut_out(tiny):
    channels = {"conv1": 2, "conv2": 5, "conv3": 1}
    pruned = labkit.with_channels(tiny(), channels)
    assert {name: len(dead) for name, dead in labkit.dead_channels(pruned).items()} == {
        "conv1": 2,
        "conv2": 1,
        "conv3": 7,
    }
    small = labkit.remove_dead_channels(pruned)
    assert small.channels == (2, 5, 1)
    X = torch.rand(4, 1, 28, 28)
    assert torch.allclose(small.eval()(X), pruned.eval()(X), atol=1e-5)


def test_layers_that_are_not_named_are_not_touched(tiny):
    model = tiny()
    pruned = labkit.with_channels(model, {"conv2": 3})
    for name in ("conv1", "conv3", "fc"):
        assert torch.equal(labkit.effective_weight(getattr(pruned, name)), getattr(model, name).weight)
    same = labkit.with_channels(model, {})
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in same.state_dict().items())


def test_all_channels_may_stay(tiny):
    model = tiny()
    whole = labkit.with_channels(model, {"conv1": 4, "conv2": 6, "conv3": 8})
    X = torch.rand(4, 1, 28, 28)
    assert torch.equal(whole.eval()(X), model.eval()(X))


def test_model_is_not_changed_by_with_channels(tiny):
    model = tiny().train()
    prune.l1_unstructured(model.fc, "weight", 0.5)
    before = labkit.clone(model).state_dict()
    labkit.with_channels(model, {"conv1": 1, "conv2": 1, "conv3": 1})
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_channels_that_were_pruned_before_are_among_those_that_go(count):
    model = seeded((4, 6, 8))
    prune.ln_structured(model.conv1, "weight", 2, n=2, dim=0)
    assert left(labkit.with_channels(model, {"conv1": count}))["conv1"] == min(count, 2)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_networks_with_single_weights_pruned_keep_as_many_channels_as_asked(count):
    model = seeded()
    prune.l1_unstructured(model.conv2, "weight", 0.5)
    effective = labkit.effective_weight(model.conv2)
    pruned = labkit.with_channels(model, {"conv2": count})
    assert left(pruned)["conv2"] == count
    keep = effective.flatten(1).norm(dim=1).argsort()[-count:]
    assert torch.equal(labkit.effective_weight(pruned.conv2)[keep], effective[keep])


@pytest.mark.parametrize("count", [0, -1, 5, 2.0, True, None, "2"])
def test_impossible_numbers_of_channels_are_refused(tiny, count):
    with pytest.raises(ValueError, match=rf"channels of conv1 are {count!r}; they must be a whole number, 1 to 4"):
        labkit.with_channels(tiny(), {"conv1": count})


@pytest.mark.parametrize("name", ["fc", "batch1", "conv4", ""])
def test_other_layers_are_refused(tiny, name):
    with pytest.raises(ValueError, match=f"layer is '{name}'; it must be one of conv1, conv2, conv3"):
        labkit.with_channels(tiny(), {name: 1})


# Scan


def test_scan_begins_with_the_whole_layer_and_measures_one_layer_at_a_time(tiny, small):
    model = tiny().eval()
    loader = small(64)
    curves = labkit.scan_sensitivity(model, loader, amounts=(0.25, 0.5, 0.9))
    assert list(curves) == ["conv1", "conv2", "conv3"]
    assert {name: [point["channels"] for point in points] for name, points in curves.items()} == {
        "conv1": [4, 3, 2, 1],
        "conv2": [6, 4, 3, 1],  # 4.5 -> 4, 3, 0.6 -> 1
        "conv3": [8, 6, 4, 1],
    }
    whole = labkit.test_one_epoch(
        model, loader, torch.nn.functional.cross_entropy, labkit.AccuracyMetric(), torch.device("cpu")
    )
    for name, points in curves.items():
        assert (points[0]["loss"], points[0]["accuracy"]) == pytest.approx(whole, abs=1e-6)
        alone = labkit.with_channels(model, {name: points[1]["channels"]})
        loss, score = labkit.test_one_epoch(
            alone, loader, torch.nn.functional.cross_entropy, labkit.AccuracyMetric(), torch.device("cpu")
        )
        assert (points[1]["loss"], points[1]["accuracy"]) == (loss, score)


def test_scan_touches_one_layer_at_a_time(tiny, small, monkeypatch):
    asked = []
    real = shares.with_channels
    monkeypatch.setattr(
        shares, "with_channels", lambda model, channels: asked.append(dict(channels)) or real(model, channels)
    )
    labkit.scan_sensitivity(tiny(), small(32), amounts=(0.5,))
    assert asked == [
        {"conv1": 4},
        {"conv1": 2},
        {"conv2": 6},
        {"conv2": 3},
        {"conv3": 8},
        {"conv3": 4},
    ]


@pytest.mark.parametrize("tuned", [False, True])
def test_scan_changes_nothing(tiny, small, tuned):
    model = tiny().train()
    model.batch2.eval()
    prune.l1_unstructured(model.fc, "weight", 0.5)
    before = labkit.clone(model).state_dict()
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    labkit.scan_sensitivity(model, small(32), small(64) if tuned else None, (0.5,))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(random, torch.get_rng_state())


def test_tuning_images_re_estimate_batchnorm_before_each_measurement(tiny, small):
    plain = labkit.scan_sensitivity(tiny(), small(64), None, (0.5,))
    tuned = labkit.scan_sensitivity(tiny(), small(64), small(64), (0.5,))
    assert all(plain[name][i]["loss"] != tuned[name][i]["loss"] for name in plain for i in range(2))
    assert len({tuned[name][0]["loss"] for name in tuned}) == 1


def test_scan_is_the_same_every_time(tiny, small):
    scans = [labkit.scan_sensitivity(tiny(), small(32), small(32), (0.5,)) for _ in range(2)]
    assert scans[0] == scans[1]


def test_amounts_that_leave_the_same_channels_are_measured_once(small):
    curves = labkit.scan_sensitivity(seeded((1, 2, 3)), small(32), amounts=(0.1, 0.5, 0.9, 0.99))
    assert [[point["channels"] for point in points] for points in curves.values()] == [[1], [2, 1], [3, 2, 1]]


@pytest.mark.parametrize("count", [1, 2])
def test_scan_of_a_network_with_pruned_channels_measures_as_many_as_it_says(small, count):
    model = seeded()
    prune.ln_structured(model.conv1, "weight", 2, n=2, dim=0)
    labkit.silence_channels(model)
    amount = 1 - count / 4
    whole, point = labkit.scan_sensitivity(model, small(32), amounts=(amount,))["conv1"]
    assert point["channels"] == count
    if count == 2:  # those that are left already
        assert point["loss"] == whole["loss"]


@pytest.mark.parametrize(
    "amounts",
    [
        (),
        (0.0, 0.5),
        (0.5, 1.0),
        (0.5, 0.25),
        (0.5, 0.5),
        (-0.1,),
        (1.5,),
        (math.nan,),
        (0.25, math.nan),
        (0.2, math.inf),
    ],
)
def test_amounts_out_of_range_or_order_are_refused(tiny, small, amounts):
    with pytest.raises(ValueError, match=r"amounts are .*; they must rise and lie between 0 and 1"):
        labkit.scan_sensitivity(tiny(), small(32), amounts=amounts)


def test_scan_without_images_is_refused(tiny, small):
    with pytest.raises(ValueError, match="the loader has 0 batches"):
        labkit.scan_sensitivity(tiny(), [])
    with pytest.raises(ValueError, match="the loader has 0 batches"):
        labkit.scan_sensitivity(tiny(), small(32), [])


# Choices

WIDTHS = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
SHAPES = st.sampled_from([(1, 28, 28), (3, 12, 15), (2, 20, 13)])


@settings(max_examples=20)
@given(WIDTHS, SHAPES, st.integers(1, 10), st.data())
def test_formula_is_the_cost_of_the_network_that_is_really_shrunk(widths, shape, classes, data):
    model = seeded(widths, shape, classes)
    chosen = [data.draw(st.integers(1, width)) for width in widths]
    small = shrunk(model, dict(zip(CONVOLUTIONS, chosen, strict=True)))
    assert small.channels == tuple(chosen)
    assert multiply_adds_of(chosen, shape, classes) == cost(small) == cost(labkit.CNN(shape, classes, chosen))


def assert_usable(model, chosen, target):
    assert list(chosen) == list(CONVOLUTIONS)
    assert all(type(count) is int for count in chosen.values())
    assert all(1 <= count <= width for count, width in zip(chosen.values(), model.channels, strict=True))
    small = shrunk(model, chosen)
    assert small.channels == tuple(chosen.values())
    assert cost(small) <= target


@settings(max_examples=20)
@given(WIDTHS, SHAPES, st.integers(1, 10), st.floats(0, 1, allow_subnormal=False), st.integers(0, 99))
def test_no_choice_is_above_the_target(widths, shape, classes, share, seed):
    model = seeded(widths, shape, classes, seed)
    least = cost(labkit.CNN(shape, classes, (1, 1, 1)))
    target = round(least + share * (cost(model) - least))
    for choose in CHOICES:
        assert_usable(model, choose(model, target), target)
    slope = torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist()
    assert_usable(model, labkit.choose_by_sensitivity(model, linear_curves(model, slope), target), target)


def choices(model, target):
    return [
        *(choose(model, target) for choose in CHOICES),
        labkit.choose_by_sensitivity(model, linear_curves(model), target),
    ]


@pytest.mark.parametrize("more", [0, 1, 10**9])
def test_target_of_the_dense_cost_or_more_gives_all_channels(tiny, more):
    model = tiny()
    assert choices(model, cost(model) + more) == [{"conv1": 4, "conv2": 6, "conv3": 8}] * 3


def test_target_just_below_the_dense_cost_takes_something_away(tiny):
    model = tiny()
    for chosen in choices(model, cost(model) - 1):
        assert chosen != {"conv1": 4, "conv2": 6, "conv3": 8}


def test_least_target_gives_one_channel_each(tiny):
    model = tiny()
    least = cost(labkit.CNN(channels=(1, 1, 1)))
    assert choices(model, least) == [{"conv1": 1, "conv2": 1, "conv3": 1}] * 3


@pytest.mark.parametrize("target", [-1, 0, 8_000])
def test_impossible_target_is_refused_by_its_number(tiny, target):
    model = tiny()
    assert target < cost(labkit.CNN(channels=(1, 1, 1)))
    for choose in CHOICES:
        with pytest.raises(ValueError, match=f"target is {target:,} multiply-adds; one channel in each layer"):
            choose(model, target)
    with pytest.raises(ValueError, match=f"target is {target:,} multiply-adds; one channel in each .* needs 9,2"):
        labkit.choose_by_sensitivity(model, linear_curves(model), target)


def brute_force(model, losses, target):
    """Least sum of losses; among equals the most work."""
    best = None
    for channels in itertools.product(*(range(1, len(row) + 1) for row in losses)):
        work = cost(labkit.CNN(model.input_shape, model.num_of_cls, channels))
        key = (sum(row[i - 1] for row, i in zip(losses, channels, strict=True)), -work)
        if work <= target and (best is None or key < best[0]):
            best = (key, channels)
    return dict(zip(CONVOLUTIONS, best[1], strict=True))


LOSSES = ((8.0, 2.0, 0.0), (4.0, 3.0, 1.0, 0.0), (2.0, 0.5, 0.25, 0.125, 0.0))


@pytest.mark.parametrize("share", [0.25, 0.3, 0.45, 0.6, 0.75, 0.9, 0.99])
def test_choice_by_sensitivity_is_the_best_of_all(share):
    model = seeded((3, 4, 5), (1, 14, 14))
    target = round(share * cost(model))
    assert labkit.choose_by_sensitivity(model, toy_curves(*LOSSES), target) == brute_force(model, LOSSES, target)


def test_layer_that_loses_nothing_gives_first():
    model = seeded((4, 4, 4))
    flat, steep = [0.5] * 4, [9.0, 6.0, 3.0, 0.5]
    work = {n: cost(labkit.CNN(channels=(4, 4, n))) for n in (1, 2, 3, 4)}
    for count, target in work.items():
        chosen = labkit.choose_by_sensitivity(model, toy_curves(steep, steep, flat), target)
        assert chosen == {"conv1": 4, "conv2": 4, "conv3": count}  # of equal losses the one that uses the budget best


def test_loss_between_measured_points_is_linear():
    model = seeded((5, 2, 2))
    curves = toy_curves([0.0] * 5, [9.0, 0.0], [9.0, 0.0])
    curves["conv1"] = [{"channels": 5, "loss": 0.0}, {"channels": 1, "loss": 4.0}]
    by_hand = toy_curves([4.0, 3.0, 2.0, 1.0, 0.0], [9.0, 0.0], [9.0, 0.0])
    for count in range(1, 6):
        target = cost(labkit.CNN(channels=(count, 2, 2)))
        found = labkit.choose_by_sensitivity(model, curves, target)
        assert found == labkit.choose_by_sensitivity(model, by_hand, target)


def test_loss_that_falls_with_fewer_channels_is_taken_as_the_worst_of_more():
    model = seeded((3, 1, 1))
    curves = toy_curves([0.5, 2.0, 1.0], [0.0], [0.0])
    assert labkit.choose_by_sensitivity(model, curves, cost(model))["conv1"] == 3
    # 1 and 2 channels are equally bad (2.0): the one that uses more of the budget.
    assert labkit.choose_by_sensitivity(model, curves, cost(labkit.CNN(channels=(2, 1, 1))))["conv1"] == 2


@pytest.mark.parametrize(("loss", "expected"), [(1.5, (1, 1, 4)), (2.5, (2, 1, 2))])
def test_loss_of_fewer_channels_than_were_measured_goes_on_as_steeply(loss, expected):
    curves = toy_curves([loss, 0.0], [0.0], [9.0] * 4)
    curves["conv3"] = [{"channels": 4, "loss": 0.0}, {"channels": 3, "loss": 1.0}]  # so 2 channels lose 2.0
    target = cost(labkit.CNN(channels=(2, 1, 2)))
    assert tuple(labkit.choose_by_sensitivity(seeded((2, 1, 4)), curves, target).values()) == expected


def test_larger_target_never_loses_more():
    model = seeded((3, 4, 5), (1, 14, 14))
    curves, sums = toy_curves(*LOSSES), []
    least, most = cost(labkit.CNN((1, 14, 14), 10, (1, 1, 1))), cost(model)
    for target in range(least, most + 1, (most - least) // 60):
        chosen = labkit.choose_by_sensitivity(model, curves, target)
        sums.append(sum(row[i - 1] for row, i in zip(LOSSES, chosen.values(), strict=True)))
    assert sums == sorted(sums, reverse=True)
    assert sums[0] > sums[-1]


@pytest.mark.parametrize("choose", CHOICES)
def test_larger_target_never_leaves_fewer_channels(choose):
    model = seeded((5, 8, 9), seed=3)
    least, most = cost(labkit.CNN(channels=(1, 1, 1))), cost(model)
    found = [tuple(choose(model, target).values()) for target in range(least, most, (most - least) // 12)]
    assert all(a <= b for few, many in itertools.pairwise(found) for a, b in zip(few, many, strict=True))


def test_uniform_choice_takes_the_same_share_of_each_layer():
    model = seeded((8, 16, 32))
    assert labkit.choose_uniform(model, cost(labkit.CNN(channels=(4, 8, 16)))) == {"conv1": 4, "conv2": 8, "conv3": 16}


def test_choice_by_norm_takes_the_smallest_norms_in_units_of_the_layer():
    model = seeded((3, 3, 3))
    with torch.no_grad():
        for name, sizes in (("conv1", (100, 90, 20)), ("conv2", (1, 0.9, 0.8)), ("conv3", (5, 0.5, 4))):
            weight = getattr(model, name).weight
            weight.copy_(torch.tensor(sizes).view(3, 1, 1, 1).expand_as(weight))
    # in units of the mean: conv1 1.43 1.29 0.29, conv2 1.11 1.00 0.89, conv3 1.58 0.16 1.26
    steps = [(3, 3, 2), (2, 3, 2), (2, 2, 2), (2, 1, 2), (2, 1, 1), (1, 1, 1)]
    for step in steps:
        chosen = labkit.choose_by_norm(model, cost(labkit.CNN(channels=step)))
        assert tuple(chosen.values()) == step


def test_choice_by_norm_does_not_depend_on_the_scale_of_a_layer():
    model = seeded((5, 6, 7))
    target = cost(model) // 2
    before = labkit.choose_by_norm(model, target)
    with torch.no_grad():
        model.conv2.weight.mul_(1024)
    assert labkit.choose_by_norm(model, target) == before


def test_choices_change_nothing_and_draw_nothing(tiny):
    model = tiny().train()
    prune.l1_unstructured(model.conv2, "weight", 0.5)
    before, random = labkit.clone(model).state_dict(), torch.get_rng_state()
    first, second = choices(model, cost(model) // 2), choices(model, cost(model) // 2)
    assert first == second
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


@pytest.mark.parametrize("places", [[0], [0, 1], [3], [0, 1, 2, 3]])
def test_losses_that_are_nan_are_refused(places):
    model = seeded((4, 4, 4))
    rows = [[3.0, 2.0, 1.0, 0.0] for _ in range(3)]
    for place in places:
        rows[2][place] = math.nan
    target = cost(labkit.CNN(channels=(1, 1, 1)))
    with pytest.raises(ValueError, match="they must be finite numbers"):
        labkit.choose_by_sensitivity(model, toy_curves(*rows), target)


def test_curves_of_another_network_are_refused(tiny, small):
    curves = labkit.scan_sensitivity(tiny(channels=(3, 6, 8)), small(32))
    with pytest.raises(ValueError, match="curves are of 3 channels of conv1, the model has 4"):
        labkit.choose_by_sensitivity(tiny(), curves, 10**8)


@pytest.mark.parametrize("choose", [labkit.choose_uniform, labkit.choose_by_norm])
def test_target_that_is_no_number_is_refused(choose, tiny):
    with pytest.raises(ValueError, match="target is nan"):
        choose(tiny(), math.nan)


def test_scanned_curves_lead_to_a_network_within_the_budget(tiny, small):
    model = tiny()
    curves = labkit.scan_sensitivity(model, small(64))
    target = cost(model) // 2
    assert_usable(model, labkit.choose_by_sensitivity(model, curves, target), target)
