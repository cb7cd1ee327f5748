"""Copies: of the project's own networks, of one's own, and between submissions; trained is a few steps only."""

import re

import course_work
import pytest
import torch
from torch.nn.utils import prune

import labkit
from labkit import runtime
from labkit.course import copies
from labkit.course.cases import committed_files
from labkit.course.evidence import CONVOLUTIONS, dense_weights, name_method, read_pruning
from labkit.course.result import MeasuredNetwork, Result
from labkit.course.task import NETWORKS


def reference(seed=0):
    return labkit.load_network(runtime.reference_dir() / f"CNN_MNIST{f'_seed{seed}' if seed else ''}.pth")


def sparse(pattern):
    return labkit.load_sparse(next(path for path in committed_files() if path.match(pattern)))


def noisy(network, size, seed=0):
    """A copy whose parameters are moved by this share of their size; zeros stay."""
    copied, dice = labkit.clone(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in copied.parameters():
            tensor *= 1 + size * torch.randn(tensor.shape, generator=dice)
    return copied


def moved(network, size):
    """A copy with noise of this size on every parameter, and BatchNorm's means and variances as they were."""
    copied, dice = labkit.clone(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in copied.parameters():
            tensor += size * torch.randn(tensor.shape, generator=dice)
    return copied


def through(network, precision):
    return labkit.clone(network).to(precision).float()


def scaled(network):
    """Each channel times a number of its own, which BatchNorm takes back: the same function."""
    copied = labkit.clone(network)
    with torch.no_grad():
        for number in (1, 2, 3):
            conv, batch = getattr(copied, f"conv{number}"), getattr(copied, f"batch{number}")
            factor = torch.rand(len(conv.weight), generator=torch.Generator().manual_seed(number)) + 0.5
            for tensor in (conv.weight, conv.bias, batch.running_mean):
                tensor *= factor.view(-1, *[1] * (tensor.ndim - 1))
            batch.running_var *= factor**2
    return copied


def exchanged(network):
    """The channels in another order: the same function."""
    copied = labkit.clone(network)
    with torch.no_grad():
        before = torch.arange(1)
        for number in (1, 2, 3):
            conv, batch = getattr(copied, f"conv{number}"), getattr(copied, f"batch{number}")
            order = torch.randperm(len(conv.weight), generator=torch.Generator().manual_seed(number))
            conv.weight.copy_(conv.weight[order][:, before])
            for tensor in (conv.bias, batch.weight, batch.bias, batch.running_mean, batch.running_var):
                tensor.copy_(tensor[order])
            before = order
        copied.fc.weight.copy_(copied.fc.weight.unflatten(1, (25, -1))[:, :, before].flatten(1))
    return copied


WAYS = {
    **{f"noise of {size:g}": lambda network, size=size: noisy(network, size) for size in (1e-7, 1e-5, 1e-3)},
    "noise on all parameters": lambda network: moved(network, 1e-3),
    "float16": lambda network: through(network, torch.float16),
    "bfloat16": lambda network: through(network, torch.bfloat16),
    "other scales": scaled,
    "other order": exchanged,
    "other order and noise": lambda network: noisy(exchanged(network), 1e-4),
}


def flags(**networks):
    return copies.copied(copies.origins(networks))


@pytest.mark.parametrize("way", WAYS)
def test_changed_reference_is_told_of_as_a_copy(way):
    (flag,) = flags(CNN_MNIST=WAYS[way](reference()))
    assert flag.startswith(
        "CNN_MNIST: its weights are those of the reference CNN_MNIST, the project's own, but for about"
    )


@pytest.mark.parametrize("way", ["other scales", "other order"])
def test_the_changed_network_computes_the_same(way):
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        changed = WAYS[way](reference()).eval()(images)
        torch.testing.assert_close(changed, reference().eval()(images), atol=0.01, rtol=0)  # of up to 20


def test_nine_networks_of_a_noisy_reference_are_one_flag():
    start = noisy(reference(), 1e-6)
    (flag,) = flags(
        CNN_MNIST=start,
        CNN_MNIST_RND=course_work.at_random(start),
        CNN_MNIST_L1=course_work.pruned(start, prune.l1_unstructured, amount=0.25),
        CNN_MNIST_FNC=noisy(course_work.rounds(start, "local", train=False), 1e-6),
    )
    assert flag.startswith("CNN_MNIST, CNN_MNIST_RND, CNN_MNIST_L1, CNN_MNIST_FNC: their weights are those of the ref")


def test_prunings_of_a_reference_itself_are_allowed():
    start = reference(2)
    networks = {"CNN_MNIST_RND": course_work.at_random(start), "CNN_MNIST_GLOBAL": course_work.globally(start)}
    networks["CNN_MNIST_STRUCT"] = course_work.pruned(start, prune.ln_structured, amount=1 / 8, n=2, dim=0)
    assert flags(CNN_MNIST=start, **networks) == []


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("CNN_MNIST_SMALL", "small/least_1.lks"),
        ("CNN_MNIST_GOLF", "frontier/MNIST_lamp-global-gradual_622_e4_s0.lks"),
        ("CNN_MNIST", "frontier/MNIST_dense_124448_e12_s3.lks"),
    ],
)
@pytest.mark.parametrize("way", ["noise of 0.001", "bfloat16", "other order and noise"])
def test_every_committed_network_is_known(name, pattern, way):
    (flag,) = flags(**{name: WAYS[way](sparse(pattern))})
    assert pattern.partition("/")[2] in flag


def test_every_committed_network_is_far_from_every_other():
    sketches = torch.stack([sketch for _, sketch in copies._committed().values()])
    near = copies._distances(sketches, sketches).isfinite()
    assert near.equal(torch.eye(len(sketches), dtype=torch.bool))


def test_little_training_is_no_copy_and_noise_is_no_training():
    own = course_work.base(1)
    pruned = course_work.rounds(own, "local", train=False)
    assert flags(CNN_MNIST=own, CNN_MNIST_FNC=pruned) == []  # its check tells that it was not trained
    assert flags(CNN_MNIST=own, CNN_MNIST_FNC=course_work.rounds(own, "local", count=1, steps=5)) == []
    (flag,) = flags(CNN_MNIST=own, CNN_MNIST_FNC=noisy(pruned, 1e-6))
    assert flag.startswith("CNN_MNIST_FNC: its weights are those of CNN_MNIST, the student's own, but for about")


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 3e38, 1e-45])
def test_networks_of_odd_numbers_are_copies_of_nothing(value):
    network = labkit.CNN()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.fill_(value)
    assert flags(CNN_MNIST=network) == []


def result(**networks):
    """What grading keeps of networks."""
    rows, known = {}, copies.origins(networks)
    candidates = {name: dense_weights(network) for name, network in networks.items() if NETWORKS[name].dense}
    for name, network in networks.items():
        pruned = read_pruning(network, candidates)
        method = name_method(pruned) if NETWORKS[name].untrained else ""
        sketches = copies.sketches_of(name, network, pruned, method, known=name in known)
        rows[name] = MeasuredNetwork(0.0, 0.0, 0, None, None, method, {}, sketches)
    return Result(networks=rows)


def shared(*results, groups="abcdef"):
    keys = [f"p{number}" for number in range(len(results))]
    return copies.equal_networks(dict(zip(keys, results, strict=True)), dict(zip(keys, groups, strict=False)))


@pytest.mark.parametrize("way", WAYS)
def test_copy_of_a_friends_network_is_told_of_at_both(way):
    own = course_work.base(1)
    told = shared(result(CNN_MNIST=own), result(CNN_MNIST=WAYS[way](own)), result(CNN_MNIST=course_work.base(2)))
    assert set(told) == {"p0", "p1"}
    for key, other in (("p0", "p1"), ("p1", "p0")):
        (flag,) = told[key]
        assert flag.startswith(f"CNN_MNIST equals that of {other}, but for about")


def test_a_friends_networks_are_one_flag_and_none_within_a_group():
    def derived(start):
        masks = {"CNN_MNIST_RND": course_work.at_random(start), "CNN_MNIST_GLOBAL": course_work.globally(start)}
        return result(
            CNN_MNIST=start, CNN_MNIST_L1=course_work.pruned(start, prune.l1_unstructured, amount=0.25), **masks
        )

    own = course_work.base(1)
    both = derived(own), derived(noisy(own, 1e-7))
    (flag,) = shared(*both)["p0"]
    names = "CNN_MNIST_GLOBAL, CNN_MNIST_L1, CNN_MNIST_RND, the random mask of CNN_MNIST_RND"
    assert re.match(r"CNN_MNIST equals that of p1, but for about \de-0[78] of their size", flag)
    assert flag.endswith(f", and so do {names}: one seed, or a copy?")
    assert shared(*both, groups="aa") == {}


def test_other_masks_on_a_friends_weights_are_told_of():
    own = course_work.base(1)
    told = shared(
        result(CNN_MNIST_RND=course_work.at_random(own, 1)), result(CNN_MNIST_RND=course_work.at_random(own, 2))
    )
    assert told["p0"] == ["CNN_MNIST_RND before pruning equals that of p1: one seed, or a copy?"]


def redrawn(network, share):
    """Some of the zeros of the random mask moved elsewhere."""
    dice = torch.Generator().manual_seed(5)
    for name in CONVOLUTIONS:
        mask = getattr(network, name).weight_mask.view(-1)
        zeros, ones = (mask == 0).nonzero().flatten(), (mask == 1).nonzero().flatten()
        count = round(share * len(zeros))
        mask[zeros[torch.randperm(len(zeros), generator=dice)[:count]]] = 1
        mask[ones[torch.randperm(len(ones), generator=dice)[:count]]] = 0
    return network


@pytest.mark.parametrize(("share", "equal"), [(0.05, True), (1, False)])
def test_random_masks_are_compared_though_the_networks_differ(share, equal):
    first, second = (course_work.at_random(course_work.base(seed), 7) for seed in (1, 2))
    told = shared(
        result(CNN_MNIST=course_work.base(1), CNN_MNIST_RND=first),
        result(CNN_MNIST=course_work.base(2), CNN_MNIST_RND=redrawn(second, share)),
    )
    assert set(told) == ({"p0", "p1"} if equal else set())
    assert all(flag.startswith("the random mask of CNN_MNIST_RND equals") for some in told.values() for flag in some)


def test_prunings_of_one_reference_are_not_told_of_but_their_random_masks_are():
    def derived(seed):
        start = reference(1)
        l1 = course_work.pruned(start, prune.l1_unstructured, amount=0.25)
        return result(CNN_MNIST=start, CNN_MNIST_L1=l1, CNN_MNIST_RND=course_work.at_random(start, seed))

    assert shared(derived(1), derived(2)) == {}
    assert [len(some) for some in shared(derived(1), derived(1)).values()] == [1, 1]


def test_sketches_are_short():
    rows = result(CNN_MNIST=course_work.base(1), CNN_MNIST_RND=course_work.at_random(course_work.base(1))).networks
    assert sum(len(text) for row in rows.values() for text in row.sketches.values()) <= 5_000
