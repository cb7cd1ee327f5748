import copy
import dataclasses
import itertools
import multiprocessing
import os
import random
import resource
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import few_images
import numpy as np
import psutil
import pytest
import torch

from labkit import runtime
from labkit.data import Loader
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import effective_weight, prunable_layers
from labkit.study import run
from labkit.study.plans import plan
from labkit.study.points import SHAPES, WEIGHTS, Point
from labkit.study.records import PROTOCOL
from labkit.study.run import forget, run_point
from labkit.study.schedules import cycles, kept_weights

# One point of each schedule, with two of the criteria that look at images, and all rewound ones alike.
REWOUND = {"schedule": "rewind", "epochs": 6, "rewind": 2, "target": 2_000}
POINTS = {
    "dense": Point(criterion="none", scope="none", schedule="none", target=WEIGHTS, epochs=4, augmented=3),
    "before": Point(criterion="snip", schedule="before", target=2_000, epochs=4, augmented=2),
    "gradual": Point(criterion="lamp", schedule="gradual", target=1_000, epochs=5),
    "iterative": Point(criterion="gradient", schedule="iterative", scope="erk", target=2_000, epochs=5, augmented=1),
    "oneshot": Point(scope="local", schedule="oneshot", target=2_000, epochs=5),
    "rewind": Point(**REWOUND),
    "shuffled": Point(**REWOUND, control="shuffled"),
    "reinitialised": Point(**REWOUND, control="reinitialised"),
    "taught": Point(criterion="lamp", target=1_000, epochs=4, start="16-32-48", teacher="dense", shift=1),
}
pytestmark = pytest.mark.slow  # everything trains, if only a little
KILLED = [name for name in POINTS if name != "dense"]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    with few_images.in_this_process(monkeypatch):
        yield


class Watched:
    """Copies of what there is at the start and at the end of every epoch, by its number (from 0)."""

    def __init__(self):
        self.starts, self.ends, self.epoch = {}, {}, 0
        self.train = run.train_one_epoch

    def __call__(self, model, loader, loss_fn, metric, optimizer, period, device, scheduler, title):
        epoch = int(title.split()[1].partition("/")[0]) - 1
        self.starts[epoch] = self.state(model, loader, optimizer, scheduler)
        result = self.train(model, loader, loss_fn, metric, optimizer, period, device, scheduler, title)
        self.ends[epoch] = self.state(model, loader, optimizer, scheduler)
        return result

    @staticmethod
    def state(model, loader, optimizer, scheduler):
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        states = copy.deepcopy({name: part.state_dict() for name, part in parts.items()})
        return {**states, "loader_epoch": loader.epoch}


def watched(point, scratch=None, networks=None):
    """The record, and what there was in the epochs that were trained now."""
    seen = Watched()
    run.train_one_epoch = seen
    try:
        return run_point(point, scratch=scratch, networks=networks), seen
    finally:
        run.train_one_epoch = seen.train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs a point from beginning to end, once for all tests: (record, what was seen, bytes of the network)."""
    known = {}

    def give(point):
        if point not in known:
            folder = tmp_path_factory.mktemp("whole")
            record, seen = watched(point, networks=folder)
            known[point] = (record, seen, (folder / f"{point.name}.lks").read_bytes())
        return known[point]

    return give


def equal(one, other):
    """Whether two states are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other, strict=True))
    return one == other


def but_seconds(record):
    return dataclasses.replace(record, seconds=0.0)


def kept_state(point, scratch):
    """What the state file has of the state after its last epoch, and the number of epochs."""
    kept = torch.load(scratch / f"{point.name}.run", weights_only=True)
    states = {name: kept["states"][name] for name in ("model", "optimizer", "scheduler")}
    return {**states, "loader_epoch": kept["states"]["loader"]["epoch"]}, kept["epoch"]


def part(state, ending):
    """The tensors of a network by name, those with such an ending."""
    return {key: value for key, value in state["model"].items() if key.endswith(ending)}


def weights_in_effect(state):
    """Layer -> weights through the mask."""
    masks = part(state, "weight_mask")
    return {key: state["model"][key.replace("_mask", "_orig")] * mask for key, mask in masks.items()}


# One point


def test_same_point_gives_the_same_record_and_the_same_file(whole, tmp_path):
    record, _, network = whole(POINTS["gradual"])
    again = run_point(POINTS["gradual"], networks=tmp_path)
    assert but_seconds(again) == but_seconds(record)
    assert (tmp_path / f"{POINTS['gradual'].name}.lks").read_bytes() == network
    assert record.point == POINTS["gradual"]
    assert record.seconds > 0


def test_another_seed_gives_another_network(whole):
    record, seen, network = whole(POINTS["gradual"])
    other, others, others_network = whole(dataclasses.replace(POINTS["gradual"], seed=1))
    assert network != others_network
    assert not equal(part(seen.starts[0], "conv1.weight_orig"), part(others.starts[0], "conv1.weight_orig"))
    assert other.nonzero <= other.point.target and record.nonzero <= record.point.target


def test_nothing_global_moves(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(2)  # another number than that of the other tests

    def around():
        data = sorted((str(path), path.stat().st_mtime_ns) for path in runtime.data_dir().rglob("*"))
        generators = [torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())]  # noqa: NPY002
        settings = [torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()]
        return [data, *generators, *settings, dict(os.environ), Path.cwd(), list(tmp_path.iterdir())]

    few_images.few_loaders()  # the first call reads files
    before = around()
    run_point(Point(criterion="random", schedule="before", target=500, epochs=1))
    assert around() == before


def test_record_tells_what_its_network_file_has(whole, tmp_path):
    record, _, content = whole(POINTS["oneshot"])
    (tmp_path / "n.lks").write_bytes(content)
    model = load_sparse(tmp_path / "n.lks")
    _, validation, test = few_images.few_loaders()
    right = {"val_accuracy": validation, "test_accuracy": test}
    for name, loader in right.items():
        hits = sum(int((model(X).argmax(1) == y).sum()) for X, y in loader)
        assert getattr(record, name) == pytest.approx(hits / len(loader.labels), abs=1e-12)
    assert record.nonzero == sum(int((effective_weight(layer) != 0).sum()) for layer in prunable_layers(model).values())
    assert record.bytes == len(content)
    assert record.dead_layers == ""
    assert record.torch == torch.__version__
    assert "1 thread(s), float32 training" in record.hardware


def test_network_is_thrown_away_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_point(Point(epochs=2))
    assert list(tmp_path.iterdir()) == []


def test_quick_mode_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_QUICK", "1")
    with pytest.raises(ValueError, match="LABKIT_QUICK is 1; the study trains on all images"):
        run_point(Point(epochs=2), scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_device_that_is_not_there_is_refused(device, tmp_path):
    with pytest.raises(ValueError, match=f"device is '{device}'"):
        run_point(Point(epochs=2), device, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_networks_that_are_made_at_the_same_time_in_threads_are_their_own():
    points = [Point(seed=seed) for seed in range(4)]
    alone = [run.new_network(point, start=0).conv3.weight_orig.detach() for point in points]
    jobs = points * 50
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda point: run.new_network(point, start=0).conv3.weight_orig.detach(), jobs))
    assert all(torch.equal(weight, alone[point.seed]) for weight, point in zip(made, jobs, strict=True))


# Masks and budgets


@pytest.mark.parametrize(
    "name", [name if name == "rewind" else pytest.param(name, marks=pytest.mark.full) for name in KILLED]
)
def test_network_has_no_more_weights_than_the_target(whole, name):
    record, seen, _ = whole(POINTS[name])
    assert 0 < record.nonzero <= POINTS[name].target
    masks = part(seen.ends[POINTS[name].epochs - 1], "weight_mask")
    assert sum(int(mask.sum()) for mask in masks.values()) == POINTS[name].target


@pytest.mark.parametrize("name", list(POINTS))
def test_each_epoch_trains_with_as_many_weights_as_its_schedule_says(whole, name):
    _, seen, _ = whole(POINTS[name])
    for epoch in range(POINTS[name].epochs):
        masks = part(seen.starts[epoch], "weight_mask")
        assert masks.keys() == {f"{layer}.weight_mask" for layer in SHAPES}
        assert sum(int(mask.sum()) for mask in masks.values()) == kept_weights(POINTS[name], epoch)
        assert equal(masks, part(seen.ends[epoch], "weight_mask"))


@pytest.mark.parametrize("name", [name for name in KILLED if name != "shuffled"])
def test_masked_weight_never_comes_back(whole, name):
    _, seen, _ = whole(POINTS[name])
    masks = [part(seen.ends[epoch], "weight_mask") for epoch in range(POINTS[name].epochs)]
    for older, newer in itertools.pairwise(masks):
        assert all(bool((newer[key] <= older[key]).all()) for key in newer)


@pytest.mark.parametrize("name", list(POINTS))
def test_every_schedule_trains_for_equally_many_passes(name, monkeypatch):
    passes, images, given = 0, 0, Loader.__iter__

    def counting(loader):
        nonlocal passes, images
        for X, y in given(loader):
            images += len(X) * loader.shuffle
            yield X, y
        passes += loader.shuffle

    monkeypatch.setattr(Loader, "__iter__", counting)
    point = dataclasses.replace(POINTS[name], epochs=4, augmented=0, rewind=min(POINTS[name].rewind, 1))
    _, seen = watched(point)
    assert (passes, images) == (4, 4 * few_images.TRAINING)
    assert [seen.starts[epoch]["loader_epoch"] for epoch in range(4)] == [0, 1, 2, 3]  # no order twice


@pytest.mark.parametrize("name", ["before", "iterative", "rewind", "oneshot"])
def test_learning_rate_rises_and_comes_to_rest_in_each_cycle(whole, name):
    _, seen, _ = whole(POINTS[name])
    steps = -(-few_images.TRAINING // run.BATCH)
    for cycle in cycles(POINTS[name]):
        first, last = seen.starts[cycle.start], seen.ends[cycle.stop - 1]
        assert first["scheduler"]["last_epoch"] == 0
        assert last["scheduler"]["last_epoch"] == len(cycle) * steps
        assert last["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.0, abs=1e-12)
        assert first["optimizer"]["state"] == {}  # no momentum from the cycle before
        assert last["optimizer"]["state"]


def test_layers_without_weights_are_named_in_the_record(tmp_path):
    point = Point(schedule="before", target=40, epochs=1)
    record = run_point(point, networks=tmp_path)
    assert record.dead_layers.split()[-2:] == ["conv3", "fc"]
    assert record.nonzero <= 40
    assert record.dead_channels >= 128 + 10
    model = load_sparse(tmp_path / f"{point.name}.lks")
    assert not model.fc.weight.any()
    assert 0 <= record.test_accuracy <= 0.35


@pytest.mark.parametrize("criterion", ["gradient", "snip", "synflow", "lamp", "random"])
def test_every_criterion_gives_a_record_at_the_smallest_targets(criterion):
    record = run_point(Point(criterion=criterion, schedule="before", target=4, epochs=1))
    assert record.nonzero <= 4


@pytest.mark.parametrize(("scope", "target", "empty"), [("local", 100, "conv1"), ("erk", 4, "conv1")])
def test_budget_that_empties_a_layer_is_an_error_with_its_name(scope, target, empty):
    point = Point(criterion="random", scope=scope, schedule="before", target=target, epochs=1)
    with pytest.raises(ValueError, match=rf"{target} weights with the scope '{scope}' leave .*{empty}.* without any"):
        run_point(point)


# Lottery tickets


def stopped_before(point, epoch):
    """The state of a network just before an epoch, from a run that never gets further."""
    seen, train = Watched(), run.train_one_epoch

    class Stop(Exception):
        pass

    def stopping(*parts):
        if len(seen.starts) == epoch:
            seen.starts[epoch] = seen.state(parts[0], parts[1], parts[4], parts[7])
            raise Stop
        return seen(*parts)

    run.train_one_epoch = stopping
    try:
        with pytest.raises(Stop):
            run_point(point)
    finally:
        run.train_one_epoch = train
    return seen.starts[epoch]


@pytest.mark.parametrize("k", [0, 1, 2])
def test_ticket_goes_back_to_the_weights_of_epoch_k_bit_for_bit(whole, k):
    point = dataclasses.replace(POINTS["rewind"], rewind=k)
    _, seen, _ = whole(point)
    then, ticket, before = stopped_before(point, k), seen.starts[3], seen.ends[2]
    masks = part(ticket, "weight_mask")
    assert sum(int(mask.sum()) for mask in masks.values()) == point.target
    for key, mask in masks.items():
        old, new = (state["model"][key.replace("_mask", "_orig")] for state in (then, ticket))
        assert torch.equal(new[mask > 0], old[mask > 0])
        assert not weights_in_effect(ticket)[key][mask == 0].any()
    others = ("bias", "batch1.weight", "batch2.weight", "batch3.weight", "running_mean", "running_var", "tracked")
    for ending in others:
        assert part(ticket, ending)
        assert equal(part(ticket, ending), part(then, ending)), ending
        assert not equal(part(before, ending), part(then, ending)), ending


def test_ticket_of_epoch_0_is_the_network_before_training(whole):
    point = dataclasses.replace(POINTS["rewind"], rewind=0)
    _, seen, _ = whole(point)
    fresh = run.new_network(point, start=0).state_dict()
    for key, value in seen.starts[3]["model"].items():
        assert key.endswith("_mask") or torch.equal(value, fresh[key]), key


def test_ticket_keeps_the_largest_weights_of_the_trained_network(whole):
    _, seen, _ = whole(POINTS["rewind"])
    trained, ticket = weights_in_effect(seen.ends[2]), part(seen.starts[3], "weight_mask")
    smallest = min(float(trained[key][mask > 0].abs().min()) for key, mask in ticket.items() if mask.any())
    largest = max(float(trained[key][mask == 0].abs().max()) for key, mask in ticket.items())
    assert largest <= smallest


def test_shuffled_control_has_as_many_weights_in_each_layer_at_other_places(whole):
    _, seen, _ = whole(POINTS["rewind"])
    _, control, _ = whole(POINTS["shuffled"])
    masks, shuffled = part(seen.starts[3], "weight_mask"), part(control.starts[3], "weight_mask")
    for key, mask in masks.items():
        assert int(shuffled[key].sum()) == int(mask.sum())
        assert not mask.any() or mask.all() or not torch.equal(shuffled[key], mask)
        assert set(shuffled[key].unique().tolist()) <= {0.0, 1.0}
    # It is given the weights of epoch k too.
    for key in masks:
        name = key.replace("_mask", "_orig")
        assert torch.equal(control.starts[3]["model"][name], control.starts[2]["model"][name])
    assert all(equal(part(control.ends[epoch], "weight_mask"), shuffled) for epoch in (3, 4, 5))


def test_shuffled_control_is_shuffled_otherwise_for_another_seed(whole):
    _, control, _ = whole(POINTS["shuffled"])
    _, other, _ = whole(dataclasses.replace(POINTS["shuffled"], seed=1))
    one, two = (part(seen.starts[3], "fc.weight_mask")["fc.weight_mask"].flatten() for seen in (control, other))
    assert not torch.equal(one, two)


def test_reinitialised_control_has_the_same_mask_and_other_weights(whole):
    _, seen, _ = whole(POINTS["rewind"])
    _, control, _ = whole(POINTS["reinitialised"])
    assert equal(part(seen.starts[3], "weight_mask"), part(control.starts[3], "weight_mask"))
    first = seen.starts[0]["model"]
    for key, value in part(control.starts[3], "weight_orig").items():
        assert abs(float(torch.corrcoef(torch.stack([value.flatten(), first[key].flatten()]))[0, 1])) < 0.3
        assert not torch.equal(value, seen.starts[3]["model"][key])
        # From the same distribution as the first ones: uniform within the same bounds.
        assert float(value.abs().max()) == pytest.approx(float(first[key].abs().max()), rel=0.05)
    for ending in ("running_mean", "tracked"):
        assert not any(value.any() for value in part(control.starts[3], ending).values())


def test_oneshot_goes_on_with_its_trained_weights(whole):
    _, seen, _ = whole(POINTS["oneshot"])
    before, after = seen.ends[1], seen.starts[2]
    for key in before["model"]:
        assert key.endswith("_mask") or torch.equal(before["model"][key], after["model"][key]), key
    assert not equal(part(before, "weight_mask"), part(after, "weight_mask"))


@pytest.mark.parametrize("control", ["shuffled", "reinitialised"])
def test_controls_are_the_ticket_until_it_is_rewound(whole, control):
    _, seen, _ = whole(POINTS["rewind"])
    _, other, _ = whole(POINTS[control])
    assert all(equal(seen.ends[epoch], other.ends[epoch]) for epoch in range(3))
    assert not equal(seen.ends[3], other.ends[3])


# States that are kept


def goes_on_as_if_it_had_never_stopped(point, scratch, networks, whole, at_least):
    """Check a scratch folder whose run was stopped after some epoch; returns the number of its epochs."""
    record, seen, network = whole(point)
    state, epochs = kept_state(point, scratch)
    assert at_least <= epochs
    assert equal(state, seen.ends[epochs - 1])
    again, resumed = watched(point, scratch, networks)
    assert list(resumed.ends) == list(range(epochs, point.epochs))
    for epoch in resumed.ends:
        assert equal(resumed.starts[epoch], seen.starts[epoch]), epoch
        assert equal(resumed.ends[epoch], seen.ends[epoch]), epoch
    assert but_seconds(again) == but_seconds(record)
    assert (networks / f"{point.name}.lks").read_bytes() == network
    assert equal(kept_state(point, scratch), (seen.ends[point.epochs - 1], point.epochs))
    return epochs


class Stopped(BaseException):
    pass


def stop_after(point, scratch, epochs, batches=2):
    """Run a point until so many epochs are kept, and a few batches more."""
    given = Loader.__iter__

    def breaking(loader):
        for number, batch in enumerate(given(loader)):
            if number == batches and loader.shuffle and loader.epoch == epochs:
                raise Stopped
            yield batch

    Loader.__iter__ = breaking
    try:
        with pytest.raises(Stopped):
            run_point(point, scratch=scratch)
    finally:
        Loader.__iter__ = given


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        pytest.param(name, epochs, marks=() if name == "rewind" or epochs == 2 else pytest.mark.full)
        for name in KILLED
        for epochs in range(1, POINTS[name].epochs)
    ],
)
def test_run_that_broke_in_any_epoch_goes_on_as_if_it_had_not(name, epochs, tmp_path, whole):
    stop_after(POINTS[name], tmp_path / "unfinished", epochs)
    folders = (tmp_path / "unfinished", tmp_path / "networks")
    assert goes_on_as_if_it_had_never_stopped(POINTS[name], *folders, whole, epochs) == epochs


def test_run_that_broke_before_it_rewinds_goes_on_as_if_it_had_not(tmp_path, whole):
    stop_after(POINTS["rewind"], tmp_path / "unfinished", 3)
    folders = (tmp_path / "unfinished", tmp_path / "networks")
    assert goes_on_as_if_it_had_never_stopped(POINTS["rewind"], *folders, whole, 3) == 3


def children():
    """Processes that start at once, since what they need is imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["few_images"])
    return context


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    "name", [name if name == "rewind" else pytest.param(name, marks=pytest.mark.full) for name in KILLED]
)
def test_run_of_a_killed_process_goes_on_as_if_it_had_never_stopped(name, tmp_path, whole):
    point, scratch = POINTS[name], tmp_path / "unfinished"
    whole(point)
    dice = random.Random(name)
    least = dice.randint(1, point.epochs - 2)
    process = children().Process(target=few_images.do_point, args=(point, scratch))
    process.start()
    file, end = scratch / f"{point.name}.run", time.monotonic() + 60
    while not file.exists() or kept_state(point, scratch)[1] < least:
        assert process.is_alive() and time.monotonic() < end
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.15))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = goes_on_as_if_it_had_never_stopped(point, scratch, tmp_path / "networks", whole, least)
    assert kept < point.epochs


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.full), 3])
def test_process_that_is_killed_while_it_writes_the_state_leaves_the_older_one(epoch, tmp_path, whole):
    point, scratch = POINTS["rewind"], tmp_path / "unfinished"
    process = children().Process(target=few_images.die_in_writing, args=(point, scratch, epoch))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    if epoch == 1:
        assert not (scratch / f"{point.name}.run").exists()
        record, _ = watched(point, scratch, tmp_path)
        assert but_seconds(record) == but_seconds(whole(point)[0])
        assert (tmp_path / f"{point.name}.lks").read_bytes() == whole(point)[2]
    else:
        assert goes_on_as_if_it_had_never_stopped(point, scratch, tmp_path, whole, epoch - 1) == epoch - 1
    forget(point, scratch)
    assert list(scratch.iterdir()) == []


def test_state_after_the_last_epoch_trains_nothing_again(tmp_path, whole):
    point = POINTS["oneshot"]
    stop_after(point, tmp_path, 4)
    first, seen = watched(point, tmp_path)
    assert list(seen.ends) == [4]
    before = (tmp_path / f"{point.name}.run").read_bytes()
    again, seen = watched(point, tmp_path)
    assert seen.ends == {}
    assert again == first  # the seconds too: they are those of training
    assert but_seconds(again) == but_seconds(whole(point)[0])
    assert (tmp_path / f"{point.name}.run").read_bytes() == before


def test_forget_removes_the_state_of_its_point_only(tmp_path):
    points = [Point(epochs=2, target=500), Point(epochs=2, target=501)]
    for point in points:
        run_point(point, scratch=tmp_path)
    forget(points[0], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{points[1].name}.run"]
    forget(points[0], tmp_path)
    forget(points[0], tmp_path / "nowhere")
    forget(points[1], None)
    assert len(list(tmp_path.iterdir())) == 1


def garbage(path, _state):
    path.write_bytes(b"garbage" * 100)


def nothing(path, _state):
    path.write_bytes(b"")


def a_list(path, _state):
    torch.save([1, 2], path)


def only_settings(path, state):
    torch.save({"settings": state["settings"]}, path)


def no_optimizer(path, state):
    states = {key: value for key, value in state["states"].items() if key != "optimizer"}
    torch.save({**state, "states": states}, path)


def an_older_form(path, state):
    torch.save({**state["states"], "epoch": state["epoch"], "settings": state["settings"]}, path)


def weights_of_other_shapes(path, state):
    model = {key: value[:1] if value.ndim else value for key, value in state["states"]["model"].items()}
    torch.save({**state, "states": {**state["states"], "model": model}}, path)


def half(path, _state):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_flipped_bit(path, _state):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def an_object(path, _state):
    torch.save(Point, path)


def other_protocol(path, state):
    torch.save({**state, "settings": state["settings"].replace(f'}}, {PROTOCOL}, "', '}, 0, "')}, path)


def other_torch(path, state):
    torch.save({**state, "settings": state["settings"].replace(torch.__version__, "1.0")}, path)


def other_precision(path, state):
    assert "float32" in state["settings"]
    torch.save({**state, "settings": state["settings"].replace("float32", "bfloat16")}, path)


def other_point(path, state):
    torch.save({**state, "settings": state["settings"].replace('"seed": 0', '"seed": 1')}, path)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A state of two epochs, as a file."""
    folder = tmp_path_factory.mktemp("started")

    def give(point):
        path = folder / f"{point.name}.run"
        if not path.exists():
            stop_after(point, folder, 2, batches=0)
        return path

    return give


@pytest.mark.parametrize(
    "write",
    [
        garbage,
        nothing,
        half,
        a_flipped_bit,
        a_list,
        an_object,
        only_settings,
        no_optimizer,
        an_older_form,
        weights_of_other_shapes,
        other_protocol,
        other_torch,
        other_precision,
        other_point,
    ],
)
def test_damaged_or_foreign_state_starts_afresh(write, tmp_path, started):
    point = Point(epochs=3, target=3_000)
    file = tmp_path / f"{point.name}.run"
    file.write_bytes(started(point).read_bytes())
    before = file.read_bytes()
    write(file, torch.load(file, weights_only=True))
    assert file.read_bytes() != before
    run_here = run._Run(point, torch.device("cpu"), tmp_path)
    assert (run_here.epoch, run_here.seconds, run_here.train_loader.epoch) == (0, 0.0, 0)
    assert equal(dict(run_here.model.state_dict()), dict(run.new_network(point, start=0).state_dict()))


def test_state_that_fits_is_taken_up(tmp_path, started):
    point = Point(epochs=3, target=3_000)
    (tmp_path / f"{point.name}.run").write_bytes(started(point).read_bytes())
    assert run._Run(point, torch.device("cpu"), tmp_path).epoch == 2


def test_damaged_state_gives_the_same_record_in_the_end(tmp_path, whole):
    (tmp_path / f"{POINTS['gradual'].name}.run").write_bytes(b"PK\x03\x04 garbage")
    assert but_seconds(run_point(POINTS["gradual"], scratch=tmp_path)) == but_seconds(whole(POINTS["gradual"])[0])


@pytest.mark.parametrize("where", ["scratch", "networks"])
def test_folder_that_is_a_file_is_an_error(where, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        run_point(Point(epochs=2), **{where: tmp_path / "file"})


@pytest.mark.parametrize("most", [0, 100_000, 1_000_000])
def test_full_disk_is_an_os_error_and_the_older_state_stays(most, tmp_path, whole):
    point = POINTS["oneshot"]
    stop_after(point, tmp_path, 3, batches=0)
    before = (tmp_path / f"{point.name}.run").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))  # no file may become larger
    try:
        with pytest.raises(OSError):
            run_point(point, scratch=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [f"{point.name}.run"]
    assert (tmp_path / f"{point.name}.run").read_bytes() == before
    assert but_seconds(run_point(point, scratch=tmp_path)) == but_seconds(whole(point)[0])


# The machine


def test_what_has_no_epochs_takes_none():
    assert run.seconds_of_an_epoch(Point(schedule="after", start="dense", epochs=0)) == 0


@pytest.mark.parametrize("point", [Point(), plan("fewer")[0]], ids=["usual", "taught"])
def test_seconds_of_an_epoch_leaves_the_threads_as_they_were(point):
    torch.set_num_threads(2)
    assert run.seconds_of_an_epoch(point, batches=2) > 0
    assert torch.get_num_threads() == 2


@pytest.mark.full
def test_memory_stays_flat_over_many_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(few_images, "TRAINING", 128)
    process, sizes = psutil.Process(), []
    names = ("gradual", "rewind", "before", "iterative")
    for number in range(50):
        point = POINTS[names[number % 4]]
        point = dataclasses.replace(point, epochs=4, augmented=0, seed=number, rewind=min(point.rewind, 1))
        run_point(point, scratch=tmp_path)
        forget(point, tmp_path)
        sizes.append(process.memory_info().rss / 2**20)
    assert max(sizes[-10:]) - max(sizes[5:15]) < 8, sizes
