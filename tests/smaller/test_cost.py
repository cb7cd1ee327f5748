import dataclasses
import gzip
import io
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

import labkit
from labkit import runtime
from labkit.rerun.marks import difference, equal_up_to_marks
from labkit.smaller import cost

FAST = 1e-9  # seconds: five calls of each network
WAYS = [f"batch of {batch}, {way}" for batch in (1, 64) for way in ("1 thread", "all threads")]


def flops(model, images):
    counter = FlopCounterMode(display=False)
    mode = model.training
    with counter, torch.no_grad():
        model.eval()(images)
    model.train(mode)
    return counter.get_total_flops()


def total(model, images=None):
    return sum(layer.multiply_adds for layer in labkit.multiply_adds(model, images))


def by_name(model, images=None):
    return {layer.name: layer for layer in labkit.multiply_adds(model, images)}


def one_step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()


def state_of(model):
    """All that measuring must leave alone."""
    return (
        {key: value.clone() for key, value in model.state_dict().items()},
        [module.training for module in model.modules()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        [(id(p), p.requires_grad, p.dtype) for p in model.parameters()],
    )


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())
    assert before[1] == after[1]
    assert before[2] == after[2]
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))
    assert before[4] == after[4]


# Multiply-adds


def test_multiply_adds_of_the_network_of_the_labs_by_hand():
    found = by_name(labkit.CNN())
    assert list(found) == ["conv1", "conv2", "conv3", "fc"]
    assert {name: layer.multiply_adds for name, layer in found.items()} == {
        "conv1": 3 * 3 * 1 * 32 * 28 * 28,
        "conv2": 3 * 3 * 32 * 64 * 14 * 14,
        "conv3": 3 * 3 * 64 * 128 * 5 * 5,
        "fc": 5 * 5 * 128 * 10,
    }
    assert [layer.multiply_adds for layer in found.values()] == [225_792, 3_612_672, 1_843_200, 32_000]
    assert [layer.weights for layer in found.values()] == [288, 18_432, 73_728, 32_000]


def test_dense_network_has_no_zeros_to_skip(tiny):
    for layer in labkit.multiply_adds(tiny()):
        assert (layer.nonzero, layer.effective) == (layer.weights, layer.multiply_adds)
        assert all(type(value) is int for value in (layer.weights, layer.nonzero, layer.multiply_adds, layer.effective))


WIDTHS = st.integers(1, 9)


@settings(max_examples=15)
@given(
    st.tuples(WIDTHS, WIDTHS, WIDTHS),
    st.tuples(st.integers(1, 3), st.integers(12, 31), st.integers(12, 31)),
    st.integers(1, 12),
    st.integers(1, 3),
)
def test_multiply_adds_are_half_of_the_operations_that_torch_counts(channels, shape, classes, batch):
    model = labkit.CNN(shape, classes, channels)
    images = torch.rand(batch, *shape)
    assert 2 * total(model) * batch == flops(model, images)
    assert labkit.multiply_adds(model, images) == labkit.multiply_adds(model)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (nn.Conv2d(4, 6, 3), (4, 10, 10), 6 * 4 * 9 * 64),
        (nn.Conv2d(4, 6, 3, stride=2), (4, 11, 11), 6 * 4 * 9 * 25),
        (nn.Conv2d(4, 6, 3, dilation=3), (4, 11, 11), 6 * 4 * 9 * 25),
        (nn.Conv2d(4, 6, 3, groups=2), (4, 10, 10), 6 * 2 * 9 * 64),
        (nn.Conv2d(4, 8, 3, groups=4, padding=1, stride=3, dilation=2), (4, 17, 13), None),
        (nn.Conv2d(4, 6, (1, 5), padding="same", bias=False), (4, 7, 9), 6 * 4 * 5 * 63),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 6), 3 * 2 * 9 * 36),
        (nn.Conv1d(4, 6, 3, stride=2), (4, 11), 6 * 4 * 3 * 5),
        (nn.Conv1d(4, 4, 3, groups=4), (4, 11), 4 * 3 * 9),
        (nn.Conv3d(2, 3, 3), (2, 5, 6, 7), 3 * 2 * 27 * 3 * 4 * 5),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (11, 7), 11 * 35),
        (nn.Linear(7, 5, bias=False), (3, 11, 7), 33 * 35),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_kind_of_layer_is_counted_at_each_place_of_its_output(layer, shape, expected, batch):
    images = torch.rand(batch, *shape)
    (row,) = labkit.multiply_adds(layer, images)
    assert row.weights == layer.weight.numel()
    assert 2 * row.multiply_adds * batch == flops(layer, images)
    if expected is not None:
        assert row.multiply_adds == expected


class Odd(nn.Module):
    """A layer that is used twice, one that is not used, and a way around both."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 3, padding=1)
        self.never = nn.Linear(5, 5)
        self.norm = nn.BatchNorm2d(3)
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        self.short = nn.Conv2d(3, 8, 1, stride=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = x + self.norm(self.twice(x).relu())
        x = x + self.twice(x)
        x = self.down(x) + self.short(x[:, :, 1:-1, 1:-1])
        return self.head(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_residual_network_with_layers_used_twice_and_never(batch):
    images = torch.rand(batch, 3, 9, 9)
    model = Odd()
    found = {name: layer.multiply_adds for name, layer in by_name(model, images).items()}
    assert found == {
        "twice": 2 * 9 * 9 * 81,
        "never": 0,
        "down.0": 9 * 3 * 8 * 16,
        "short": 3 * 8 * 16,
        "head": 16,
    }
    assert 2 * batch * sum(found.values()) == flops(model, images)


def test_unused_layer_still_has_its_weights():
    row = by_name(Odd(), torch.rand(1, 3, 9, 9))["never"]
    assert (row.weights, row.nonzero, row.multiply_adds, row.effective) == (25, 25, 0, 0)


def test_layer_under_two_names_is_counted_once_with_both_uses():
    shared = nn.Linear(4, 4)
    rows = labkit.multiply_adds(nn.Sequential(shared, nn.ReLU(), shared), torch.rand(2, 4))
    assert [(row.weights, row.multiply_adds) for row in rows] == [(16, 32)]


def test_effective_multiply_adds_by_hand(tiny):
    model = tiny()
    mask = torch.zeros(4, 1, 3, 3)
    mask[0, 0, 1, 1] = mask[3, 0, 0, 2] = 1
    prune.custom_from_mask(model.conv1, "weight", mask)
    prune.ln_structured(model.conv3, "weight", 3, n=2, dim=0)
    prune.l1_unstructured(model.fc, "weight", 1.0)
    found = by_name(model)
    assert (found["conv1"].nonzero, found["conv1"].effective) == (2, 2 * 784)
    assert (found["conv2"].nonzero, found["conv2"].effective) == (216, 216 * 196)
    assert (found["conv3"].nonzero, found["conv3"].effective) == (5 * 6 * 9, 5 * 6 * 9 * 25)
    assert (found["fc"].nonzero, found["fc"].effective) == (0, 0)
    assert [found[name].multiply_adds for name in found] == [row.multiply_adds for row in labkit.multiply_adds(tiny())]


def test_plain_zeros_count_as_those_of_a_mask(tiny):
    model = tiny()
    prune.l1_unstructured(model.conv2, "weight", 100)
    assert labkit.multiply_adds(model) == labkit.multiply_adds(labkit.bake_masks(model))
    assert by_name(model)["conv2"].nonzero == 116


def test_masks_are_read_after_training_and_loading_too(tiny):
    model = tiny()
    prune.l1_unstructured(model.conv2, "weight", 100)
    one_step(model)
    assert by_name(model)["conv2"].nonzero == 116
    with torch.no_grad():
        model.conv2.weight_mask.zero_()  # layer.weight is stale now
    assert by_name(model)["conv2"].nonzero == 0


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_numbers_are_for_one_image_whatever_the_batch(tiny, batch):
    assert labkit.multiply_adds(tiny(), torch.rand(batch, 1, 28, 28)) == labkit.multiply_adds(tiny())


@pytest.mark.parametrize("change", ["dense", "pruned", "trained", "float64", "half", "frozen", "channels last"])
def test_counting_changes_nothing(tiny, change):
    model = tiny().train()
    model.batch2.eval()
    model.register_forward_hook(lambda *_: None)
    if change in ("pruned", "trained"):
        prune.l1_unstructured(model.conv2, "weight", 0.5)
    if change == "trained":
        one_step(model)
        model.batch2.eval()
    if change == "float64":
        model.double()
    if change == "half":
        model.bfloat16()
    if change == "frozen":
        model.requires_grad_(False)
    if change == "channels last":
        model.to(memory_format=torch.channels_last)
    before, random = state_of(model), torch.get_rng_state()
    found = labkit.multiply_adds(model)
    assert_same(before, state_of(model))
    assert torch.equal(random, torch.get_rng_state())
    assert [row.multiply_adds for row in found] == [row.multiply_adds for row in labkit.multiply_adds(tiny())]


def test_failed_count_leaves_no_hook_and_no_other_mode(tiny):
    model = tiny().train()
    model.batch1.eval()
    before = state_of(model)
    with pytest.raises(ValueError, match=r"this CNN takes \(batch, 1, 28, 28\)"):
        labkit.multiply_adds(model, torch.rand(1, 1, 20, 20))
    assert_same(before, state_of(model))


def test_counting_builds_no_graph(tiny):
    model = tiny()
    seen = []
    model.fc.register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
    labkit.multiply_adds(model)
    assert seen == [False]


@pytest.mark.parametrize(
    ("model", "images", "words"),
    [
        (nn.Sequential(nn.Linear(3, 3)), None, "images are missing; a Sequential does not tell"),
        (nn.Linear(3, 3), torch.rand(0, 3), r"images have shape \(0, 3\); they must be \(batch, ...\) with at least"),
        (nn.Linear(3, 3), torch.rand(3), r"images have shape \(3,\)"),
        (nn.Linear(3, 3), torch.tensor(1.0), r"images have shape \(\)"),
        (nn.Sequential(nn.ReLU()), torch.rand(1, 3), "no layer to count"),
        (labkit.CNN(channels=(1, 1, 1)), torch.rand(0, 1, 28, 28), "with at least one image"),
    ],
    ids=["no images", "empty", "no batch", "a number", "no layer", "empty CNN"],
)
def test_nothing_to_count_is_refused(model, images, words):
    with pytest.raises(ValueError, match=words):
        labkit.multiply_adds(model, images)


# Latency


class Recorder:
    """A network that notes its calls."""

    def __init__(self, name, calls, fail_at=None):
        self.name, self.calls, self.fail_at = name, calls, fail_at

    def __call__(self, images):
        self.calls.append((self.name, torch.get_num_threads(), tuple(images.shape), torch.is_inference_mode_enabled()))
        if len(self.calls) == self.fail_at:
            raise RuntimeError("out of order")


def test_networks_take_turns_of_six_calls_in_a_new_order_each_round_after_one_call_to_warm_up():
    calls = []
    networks = {name: Recorder(name, calls) for name in "abc"}
    found = labkit.measure_latency(networks, torch.rand(2, 3), seconds=0.02)
    order = "".join(call[0] for call in calls)
    assert list(found) == ["a", "b", "c"]
    assert order[:3] == "abc"
    turns = [order[start : start + 6] for start in range(3, len(order), 6)]
    assert all(turn == 6 * turn[0] for turn in turns)
    rounds = ["".join(turn[0] for turn in turns[start : start + 3]) for start in range(0, len(turns), 3)]
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) > 1
    assert {call[1:] for call in calls} == {(1, (2, 3), True)}


def test_each_is_timed_at_least_five_times():
    calls = []
    labkit.measure_latency({"a": Recorder("a", calls)}, torch.rand(1, 3), seconds=FAST)
    assert len(calls) == 1 + 6


def test_calls_go_on_until_the_seconds_of_all_networks_are_spent(monkeypatch):
    clock = iter(itertools.count())
    monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(clock)))  # each call takes one second
    calls = []
    networks = {name: Recorder(name, calls) for name in "ab"}
    found = labkit.measure_latency(networks, torch.rand(1, 3), seconds=9.5)
    assert len(calls) == 2 * (1 + 2 * 6)  # two rounds: ten timed calls each
    assert found["a"] == labkit.Latency("cpu", 1, 1, 1000.0, 1000.0, 1000.0)


def test_warm_up_is_not_measured_and_percentiles_are_milliseconds(monkeypatch):
    took = iter([100, 200, 1, 2, 3, 4, 5])
    clock = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])

    def network(_):
        clock[0] += next(took)

    found = labkit.measure_latency({"a": network}, torch.rand(4, 3), seconds=1)["a"]
    assert (found.low, found.median, found.high) == pytest.approx((1400, 3000, 4600))
    assert (found.device, found.threads, found.batch) == ("cpu", 1, 4)


def test_only_the_network_itself_is_measured(monkeypatch):
    events = []
    monkeypatch.setattr(cost.time, "perf_counter", lambda: events.append("clock") or float(len(events)))
    labkit.measure_latency({"a": lambda _: events.append("call")}, torch.rand(1, 3), seconds=FAST)
    assert events == ["clock", "call", "clock"] * 7


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_set_while_measuring_and_restored_after(threads):
    calls, before = [], torch.get_num_threads()
    found = labkit.measure_latency({"a": Recorder("a", calls)}, torch.rand(1, 3), threads, FAST)
    assert {call[1] for call in calls} == {threads}
    assert found["a"].threads == threads
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("fail_at", [1, 2, 3, 7])
def test_threads_and_modes_are_restored_after_an_error(tiny, fail_at):
    before, model = torch.get_num_threads(), tiny().train()
    model.batch3.eval()
    modes = [module.training for module in model.modules()]
    networks = {"model": model, "broken": Recorder("b", [], fail_at)}
    with pytest.raises(RuntimeError, match="out of order"):
        labkit.measure_latency(networks, torch.rand(1, 1, 28, 28), before + 1, FAST)
    assert torch.get_num_threads() == before
    assert [module.training for module in model.modules()] == modes
    assert not torch.is_inference_mode_enabled()


def test_modules_compute_in_evaluation_mode_and_are_not_changed(tiny):
    model = tiny().train()
    model.batch2.eval()
    one_step(model)
    seen = []
    model.batch1.register_forward_hook(lambda module, *_: seen.append(module.training))
    images = torch.rand(3, 1, 28, 28)
    before, random = state_of(model), torch.get_rng_state()
    found = labkit.measure_latency({"a": model, "b": model}, images, seconds=FAST)
    assert seen == [False] * 14
    assert_same(before, state_of(model))
    assert torch.equal(random, torch.get_rng_state())
    assert {latency.batch for latency in found.values()} == {3}


def test_latencies_are_positive_and_in_order(tiny):
    found = labkit.measure_latency({"net": tiny(), "function": torch.sin}, torch.rand(8, 1, 28, 28), seconds=0.01)
    for latency in found.values():
        assert 0 < latency.low <= latency.median <= latency.high


@pytest.mark.parametrize(
    ("networks", "count", "threads", "seconds", "words"),
    [
        ({}, 1, 1, 0.1, "0 networks and 1 images"),
        ({"a": torch.sin}, 0, 1, 0.1, "1 networks and 0 images"),
        ({"a": torch.sin}, 1, 0, 0.1, "threads is 0; it must be a whole number >= 1"),
        ({"a": torch.sin}, 1, -1, 0.1, "threads is -1"),
        ({"a": torch.sin}, 1, 1.0, 0.1, r"threads is 1\.0"),
        ({"a": torch.sin}, 1, True, 0.1, "threads is True"),
        ({"a": torch.sin}, 1, None, 0.1, "threads is None"),
        ({"a": torch.sin}, 1, 1, 0, "seconds is 0; it must be a finite number > 0"),
        ({"a": torch.sin}, 1, 1, -1.0, r"seconds is -1\.0"),
        ({"a": torch.sin}, 1, 1, math.nan, "seconds is nan"),
        ({"a": torch.sin}, 1, 1, -math.inf, "seconds is -inf"),
    ],
)
def test_nothing_to_measure_and_numbers_out_of_range_are_refused(networks, count, threads, seconds, words):
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match=words):
        labkit.measure_latency(networks, torch.rand(count, 3), threads, seconds)
    assert torch.get_num_threads() == before


def test_endless_seconds_are_refused():
    with pytest.raises(ValueError, match="seconds is inf"):  # and not measured for ever
        labkit.measure_latency({"a": Recorder("a", [], fail_at=1000)}, torch.rand(1, 3), seconds=math.inf)


# Ledger


@pytest.fixture(scope="module")
def dense():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = labkit.CNN(channels=(8, 16, 32))
    return model, labkit.ledger(model, seconds=FAST)


@pytest.fixture(scope="module")
def masked(dense):
    model = labkit.clone(dense[0])
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", 0.9)
    return model, labkit.ledger(model, seconds=FAST)


def test_ledger_adds_up_the_layers(dense, masked):
    for model, ledger in (dense, masked):
        assert list(ledger.layers) == labkit.multiply_adds(model)
        assert ledger.multiply_adds == sum(layer.multiply_adds for layer in ledger.layers) == total(model)
        assert ledger.effective == sum(layer.effective for layer in ledger.layers)
        assert ledger.nonzero == sum(layer.nonzero for layer in ledger.layers)
        assert ledger.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_ledger_of_the_network_of_the_labs():
    ledger = labkit.ledger(labkit.CNN(), seconds=FAST)
    assert ledger.parameters == 125_130
    assert ledger.nonzero == 124_448
    assert ledger.multiply_adds == ledger.effective == 5_713_664
    assert 4 * 125_130 < ledger.raw_bytes < 4 * 125_130 + 15_000


def test_masks_take_away_nonzero_weights_and_nothing_else(dense, masked):
    assert masked[1].parameters == dense[1].parameters
    assert masked[1].multiply_adds == dense[1].multiply_adds
    assert masked[1].nonzero == labkit.bake_masks(masked[0]).fc.weight.count_nonzero() + sum(
        int(labkit.effective_weight(layer).count_nonzero())
        for name, layer in labkit.prunable_layers(masked[0]).items()
        if name != "fc"
    )
    assert masked[1].nonzero < 0.11 * dense[1].nonzero


def test_raw_bytes_are_those_of_a_real_file(dense, masked, tmp_path):
    for model, ledger in (dense, masked):
        path = tmp_path / "archive.pth"
        torch.save(model.state_dict(), path)
        assert ledger.raw_bytes == pytest.approx(path.stat().st_size, abs=1000)


def test_gzip_bytes_are_those_of_the_compressed_file(dense, masked):
    for model, ledger in (dense, masked):
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        assert ledger.gzip_bytes == pytest.approx(len(gzip.compress(file.getvalue())), abs=500)
        assert ledger.gzip_bytes < ledger.raw_bytes


@pytest.mark.slow
def test_masks_double_the_file_and_baked_zeros_do_not_shrink_it(dense, masked):
    weights = sum(layer.weights for layer in dense[1].layers)
    assert masked[1].raw_bytes - dense[1].raw_bytes == pytest.approx(4 * weights, rel=0.05)
    assert 1.8 < masked[1].raw_bytes / dense[1].raw_bytes < 2.1
    baked = labkit.ledger(labkit.bake_masks(masked[0]), seconds=FAST)
    assert baked.raw_bytes == dense[1].raw_bytes
    assert baked.gzip_bytes < 0.4 * dense[1].gzip_bytes
    assert baked.sparse_bytes == masked[1].sparse_bytes < 0.3 * dense[1].sparse_bytes


def test_sparse_bytes_are_those_of_the_sparse_file(dense, masked, tmp_path):
    for model, ledger in (dense, masked):
        assert ledger.sparse_bytes == labkit.save_sparse(model, tmp_path / "net.lks").stat().st_size


@pytest.mark.slow
def test_sizes_are_the_same_every_time(dense):
    again = labkit.ledger(dense[0], seconds=FAST)
    for key in ("layers", "parameters", "raw_bytes", "gzip_bytes", "sparse_bytes"):
        assert getattr(again, key) == getattr(dense[1], key)


def test_latencies_are_of_one_and_64_images_on_one_and_all_threads(dense):
    latencies = dense[1].latencies
    assert list(latencies) == WAYS
    assert [latencies[way].batch for way in WAYS] == [1, 1, 64, 64]
    assert [latencies[way].threads for way in WAYS] == [1, runtime.cores()] * 2
    assert {latency.device for latency in latencies.values()} == {"cpu"}
    assert all(0 < latency.low <= latency.median <= latency.high for latency in latencies.values())


@pytest.mark.slow
@pytest.mark.parametrize("change", ["dense", "pruned", "trained", "float64", "bfloat16"])
def test_ledger_changes_nothing(tiny, change):
    model = tiny().train()
    model.batch2.eval()
    if change in ("pruned", "trained"):
        prune.ln_structured(model.conv2, "weight", 2, n=2, dim=0)
    if change == "trained":
        one_step(model)
        model.batch2.eval()
    if change in ("float64", "bfloat16"):
        model.to(getattr(torch, change))
    before, random, threads = state_of(model), torch.get_rng_state(), torch.get_num_threads()
    ledger = labkit.ledger(model, seconds=FAST)
    assert_same(before, state_of(model))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert ledger.parameters == 4 * 10 + 6 * 37 + 8 * 55 + 2 * (4 + 6 + 8) + 10 * 201
    assert ledger.multiply_adds == total(tiny())


def test_bytes_follow_the_precision(tiny):
    found = labkit.ledgers({"float": tiny(), "double": tiny().double(), "half": tiny().half()}, seconds=FAST)
    count = found["float"].parameters
    assert found["double"].raw_bytes - found["float"].raw_bytes == pytest.approx(4 * count, rel=0.1)
    assert found["float"].raw_bytes - found["half"].raw_bytes == pytest.approx(2 * count, rel=0.1)
    assert found["float"].sparse_bytes == found["double"].sparse_bytes


def test_failed_ledger_restores_the_threads(tiny):
    threads = torch.get_num_threads()
    model = tiny()
    model.fc = nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        labkit.ledger(model, seconds=FAST)
    assert torch.get_num_threads() == threads


def test_weights_that_are_not_finite_are_refused(tiny):
    model = tiny()
    with torch.no_grad():
        model.conv2.bias[1] = math.nan
    with pytest.raises(ValueError, match=r"conv2\.bias has 1 values that are NaN or infinite"):
        labkit.ledger(model, seconds=FAST)


def test_networks_of_several_kinds_share_one_table(tiny):
    other = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    conv = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 169, 10))
    found = labkit.ledgers({"a": tiny(), "mlp": other, "conv": conv}, torch.rand(3, 1, 28, 28), FAST)
    assert found["mlp"].multiply_adds == 784 * 20 + 200
    assert found["conv"].multiply_adds == 36 * 169 + 40 * 169
    assert found["mlp"].parameters == 785 * 20 + 210
    assert found["a"].multiply_adds == total(tiny())
    assert [layer.name for layer in found["mlp"].layers] == ["1", "3"]
    assert all(one.sparse_bytes < one.raw_bytes / 2 for one in found.values())
    table = labkit.ledger_table(found)
    assert "| 15,880 |" in table.replace("  ", " ").replace("  ", " ").replace("  ", " ")


def test_first_model_without_a_known_shape_needs_images(tiny):
    with pytest.raises(ValueError, match="images are missing; a Linear does not tell"):
        labkit.ledgers({"a": nn.Linear(3, 3), "b": tiny()})
    with pytest.raises(ValueError, match="images are missing"):
        labkit.ledger(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="no model to measure"):
        labkit.ledgers({})
    with pytest.raises(ValueError, match="no layer to count"):
        labkit.ledger(nn.Sequential(nn.ReLU()), torch.rand(1, 3), FAST)


@pytest.mark.parametrize("count", [1, 3, 64, 100])
def test_images_are_repeated_or_cut_to_the_batch(count):
    shapes = set()

    class Noting(nn.Linear):
        def forward(self, x):
            shapes.add(tuple(x.shape))
            return super().forward(x)

    ledger = labkit.ledger(Noting(6, 2), torch.rand(count, 6), FAST)
    assert shapes == {(1, 6), (64, 6), (count, 6)}
    assert ledger.multiply_adds == 12


def test_latencies_of_several_networks_are_measured_taking_turns(monkeypatch):
    calls = []

    def noted(networks, images, threads, seconds):
        calls.append((list(networks), len(images), threads, seconds))
        return {name: labkit.Latency("cpu", threads, len(images), 1.0, 1.0, 1.0) for name in networks}

    monkeypatch.setattr(cost, "measure_latency", noted)
    found = labkit.ledgers({"a": nn.Linear(3, 3), "b": nn.Linear(3, 4)}, torch.rand(1, 3), 0.5)
    names = ["a", "b"]
    cores = runtime.cores()
    assert calls == [(names, 1, 1, 0.5), (names, 1, cores, 0.5), (names, 64, 1, 0.5), (names, 64, cores, 0.5)]
    assert list(found["b"].latencies) == WAYS


# Table

ROWS = [
    "parameters",
    "nonzero weights",
    "multiply-adds",
    "… zeros skipped",
    "file [KB]",
    "file, gzip [KB]",
    "sparse file [KB]",
    *(f"{way} [ms]" for way in WAYS if "all threads" not in way),
]


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]


def test_table_has_fixed_rows_of_one_width(dense, masked):
    table = labkit.ledger_table({"dense": dense[1], "90 % pruned": masked[1]})
    assert len({len(line) for line in table.splitlines()}) == 1
    header, *rows = cells(table)
    assert header == ["", "dense", "90 % pruned"]
    assert [row[0] for row in rows] == ROWS


def test_table_shows_the_numbers_of_the_ledger(dense, masked):
    _, *rows = cells(labkit.ledger_table({"a": dense[1], "b": masked[1]}))
    for column, one in ((1, dense[1]), (2, masked[1])):
        shown = [row[column] for row in rows]
        exact = (one.parameters, one.nonzero, one.multiply_adds, one.effective)
        assert shown[:4] == [f"{number:,}" for number in exact]
        for cell, number in zip(shown[4:7], (one.raw_bytes, one.gzip_bytes, one.sparse_bytes), strict=True):
            assert cell[0] == "≈"
            assert cell[1:].strip() == f"{number / 1000:.1f}"
        for cell, way in zip(shown[7:], WAYS[::2], strict=True):
            assert cell[0] == "†"
            assert float(cell[1:]) == pytest.approx(one.latencies[way].median, rel=0.06)


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0.3368, "0.34"),
        (0.0996, "0.10"),
        (0.05441, "0.054"),
        (9.449, "9.4"),
        (9.96, "10"),
        (12.6, "13"),
        (123.4, "123"),
    ],
)
def test_times_have_two_significant_digits(dense, milliseconds, shown):
    ledger = dataclasses.replace(
        dense[1], latencies={"batch of 1, 1 thread": labkit.Latency("cpu", 1, 1, milliseconds, 0.0, 1.0)}
    )
    assert cells(labkit.ledger_table({"a": ledger}))[-1] == ["batch of 1, 1 thread [ms]", f"†{shown:>8}"]


def with_times(ledger, factor):
    latencies = {
        way: labkit.Latency(t.device, t.threads, t.batch, factor * t.median, factor * t.low, factor * t.high)
        for way, t in ledger.latencies.items()
    }
    return dataclasses.replace(ledger, latencies=latencies)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 10.0, 5000.0])
def test_table_of_a_slower_machine_is_equal_up_to_marks(dense, masked, factor):
    unit = 1 / dense[1].latencies[WAYS[0]].median
    same = dict.fromkeys(WAYS, dense[1].latencies[WAYS[0]])
    a, b = (with_times(dataclasses.replace(one, latencies=same), unit) for one in (dense[1], masked[1]))  # 1 ms
    table = labkit.ledger_table({"a": a, "b": b})
    other = labkit.ledger_table({"a": with_times(a, factor), "b": with_times(b, 1 / factor)})
    assert table != other
    assert difference(table, other) is None


def test_table_measured_again_is_equal_up_to_marks(dense):
    again = labkit.ledger(dense[0], seconds=FAST)
    assert equal_up_to_marks(labkit.ledger_table({"a": dense[1]}), labkit.ledger_table({"a": again}))


def test_table_of_another_network_is_not_equal_up_to_marks(dense, masked):
    assert not equal_up_to_marks(labkit.ledger_table({"a": dense[1]}), labkit.ledger_table({"a": masked[1]}))


def test_table_of_five_networks_has_five_columns(dense):
    table = labkit.ledger_table({f"network {i}": dense[1] for i in range(5)})
    assert {len(row) for row in cells(table)} == {6}
    assert len({len(line) for line in table.splitlines()}) == 1


def test_table_of_nothing_is_refused():
    with pytest.raises(ValueError):
        labkit.ledger_table({})
