"""What the judges and the check cells say of right, wrong, blank and broken work."""

import copy
import importlib
import itertools
import math
from functools import cache

import course_work
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import course, data, study
from labkit.course import answers, students
from labkit.course.cases import RUNS, seed_of_check, truth
from labkit.course.cases import references as read_references
from labkit.course.check import BASE_HAS_ZEROS, Points
from labkit.course.evidence import (
    ALL_LAYERS,
    CONVOLUTIONS,
    METHODS,
    SHAPES,
    SIZES,
    Evidence,
    channel_norms,
    dense_weights,
    name_method,
    read_pruning,
)
from labkit.course.submission.foreign import Refused
from labkit.course.submission.network import read_answer, read_network
from labkit.course.task import TASKS
from labkit.course.tasks.t01_training import WORK
from labkit.course.tasks.t07_smaller_and_faster import WORK_CUT
from labkit.course.tasks.t09_mask_detective import judge_answers
from labkit.course.verdict import Unfit, lines_of
from labkit.training import accuracy

CHECK_MODULE = importlib.import_module("labkit.course.check")  # labkit.course.check is the function
pytestmark = pytest.mark.slow

L1, RANDOM = prune.L1Unstructured, prune.RandomUnstructured


@cache
def start() -> labkit.CNN:
    return course_work.base(0)


@cache
def references():
    return read_references()


@cache
def candidates():
    return {"CNN_MNIST": dense_weights(start())} | references()


def layers_of(network, names=CONVOLUTIONS):
    return [(getattr(network, name), "weight") for name in names]


# Ways to keep a pruned network


def masks_of(network):
    return {name: labkit.effective_weight(getattr(network, name)) != 0 for name in ALL_LAYERS}


def with_masks(masks, dtype=torch.float32):
    network = labkit.clone(start())
    for name, mask in masks.items():
        prune.custom_from_mask(getattr(network, name), "weight", mask.to(dtype))
    return network


def permanent(network):
    network = labkit.clone(network)
    for layer, _ in layers_of(network, ALL_LAYERS):
        if prune.is_pruned(layer):
            prune.remove(layer, "weight")
    return network


def multiplied(network):
    made = labkit.clone(start())
    with torch.no_grad():
        for name, mask in masks_of(network).items():
            getattr(made, name).weight.mul_(mask)
    return made


def trained(network, steps=2):
    network = labkit.clone(network)
    course_work.train_a_little(network, 3, steps=steps)
    return network


def revived(network):
    return trained(permanent(network))


def reloaded(network):
    return labkit.load_network(labkit.save_network(network, "again"))


def in_train_mode(network):
    return labkit.clone(network).train()


WAYS = {
    "by the library": lambda network: network,
    "in train mode": in_train_mode,
    "reloaded": reloaded,
    "made permanent": permanent,
    "made permanent and reloaded": lambda network: reloaded(permanent(network)),
    "multiplied": multiplied,
    "float64 mask": lambda network: with_masks(masks_of(network), torch.float64),
    "int mask": lambda network: with_masks(masks_of(network), torch.int64),
    "bool mask": lambda network: with_masks(masks_of(network), torch.bool),
    "fine-tuned": trained,
    "fine-tuned and made permanent": lambda network: permanent(trained(network)),
}
ITERATED_WAYS = ("by the library", "in train mode", "reloaded", "made permanent", "made permanent and reloaded")


# Ways to make one


def quick_rounds(mode, count=10, amount=0.1, layers=CONVOLUTIONS, method=L1, steps=2):
    """Rounds of pruning with one short training after the last."""
    network = labkit.clone(start())
    for _ in range(count):
        if mode == "global":
            prune.global_unstructured(layers_of(network, layers), pruning_method=method, amount=amount)
        else:
            for layer, name in layers_of(network, layers):
                share = amount if isinstance(amount, float) else amount(layer.weight)
                method.apply(layer, name, amount=share)
    return trained(network, steps) if steps else network


def by_score(score, share=0.25, layers=CONVOLUTIONS):
    """In each layer the share of smallest score is masked."""
    masks = {}
    for name in layers:
        scores = score(getattr(start(), name).weight.detach())
        mask = torch.ones_like(scores)
        mask.view(-1)[scores.flatten().argsort()[: round(share * scores.numel())]] = 0
        masks[name] = mask
    return masks


def by_global_score(score, share=0.25):
    scores = {name: score(weight) for name, weight in dense_weights(start()).items()}
    limit = torch.cat([s.flatten() for s in scores.values()]).kthvalue(round(share * 124_448)).values
    return {name: (s > limit).float() for name, s in scores.items()}


def by_norm(score, share=1 / 8):
    masks = {}
    for name in CONVOLUTIONS:
        weight = getattr(start(), name).weight.detach()
        masks[name] = torch.ones_like(weight)
        masks[name][score(weight).argsort()[: round(share * len(weight))]] = 0
    return masks


def first(weight):
    return torch.arange(weight.numel()).view(weight.shape).float()


def largest(weight):
    return -weight.abs()


def signed(weight):
    return weight


def dice(weight):
    return torch.rand(weight.shape, generator=torch.Generator().manual_seed(5))


def inverted(masks):
    return {name: 1 - mask.float() for name, mask in masks.items()}


def one_dim(masks):
    """As with dim=1: whole input channels."""
    masks = {name: mask.clone() for name, mask in masks.items()}
    for name in ("conv2", "conv3"):
        masks[name] = torch.ones_like(masks[name])
        masks[name][:, : masks[name].shape[1] // 8] = 0
    return masks


def pruned(method, layers=CONVOLUTIONS, **arguments):
    return course_work.pruned(start(), method, layers, **arguments)


def again(network, method, **arguments):
    return course_work.pruned(network, method, **arguments)


@cache
def right(task):
    """A network that is right, made as the notebook makes it."""
    return {
        "01-training": lambda: start(),
        "02-network": lambda: course_work.at_random(start()),
        "03-network": lambda: pruned(prune.l1_unstructured, amount=0.25),
        "04-network": lambda: pruned(prune.ln_structured, amount=1 / 8, n=2, dim=0),
        "05-network": lambda: course_work.rounds(start(), "local"),
        "06-network": lambda: course_work.globally(start()),
        "06-rounds": lambda: course_work.rounds(start(), "global"),
        "07-network": lambda: course_work.small(start()),
        "08-golf": lambda: course_work.golf(start()),
    }[task]()


def judge(task, network, score=0.99):
    return TASKS[task].judge(network, Evidence(candidates(), None, references(), lambda _: score))


def measured_judge(task, network):
    return TASKS[task].judge(network, Evidence({}, None, references(), lambda some: accuracy(some, few(200))))


def lost(verdict):
    """Numbers of the findings that do not hold."""
    return [number for number, finding in enumerate(verdict.findings) if finding.holds is False]


def hints(verdict):
    return " | ".join(finding.hint for finding in verdict.findings if finding.holds is False)


def assert_lost(verdict, which, words):
    assert lost(verdict) == which
    assert verdict.points < verdict.task.points
    assert all(finding.hint for finding in verdict.findings if finding.holds is False)
    assert words in hints(verdict)


def table(cases_of):
    """(task, wrong answer, findings that it loses, words of the hint) from a dict of dicts."""
    return [
        pytest.param(task, *case, id=f"{task}: {name}")
        for task, some in cases_of.items()
        for name, case in some.items()
    ]


# Networks

ONE_SHOT = ("02-network", "03-network", "04-network", "06-network")
ITERATED = ("05-network", "06-rounds")
NETWORK_TASKS = (*ONE_SHOT, *ITERATED)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", ONE_SHOT)
def test_right_network_gets_full_points_however_it_is_kept(task, way):
    verdict = judge(task, WAYS[way](right(task)))
    assert lost(verdict) == []
    assert verdict.points == TASKS[task].points
    assert list(verdict.flags) == [] or way == "fine-tuned and made permanent"


@pytest.mark.parametrize("way", ITERATED_WAYS)
@pytest.mark.parametrize("task", ITERATED)
def test_right_rounds_get_full_points_however_they_are_kept(task, way):
    verdict = judge(task, WAYS[way](right(task)))
    assert lost(verdict) == []
    assert verdict.points == TASKS[task].points


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("task", ONE_SHOT)
def test_network_made_from_a_reference_is_right_too(task, seed):
    reference = labkit.load_network(labkit.runtime.reference_dir() / f"CNN_MNIST_seed{seed}.pth")
    network = with_masks_of_reference(task, reference)
    verdict = judge(task, network)
    assert lost(verdict) == []
    assert list(verdict.flags) == []


def with_masks_of_reference(task, reference):
    if task == "02-network":
        return course_work.at_random(reference, seed=9)
    if task == "03-network":
        return course_work.pruned(reference, prune.l1_unstructured, amount=0.25)
    if task == "04-network":
        return course_work.pruned(reference, prune.ln_structured, amount=1 / 8, n=2, dim=0)
    return course_work.globally(reference)


def test_network_from_an_unknown_base_keeps_its_points_and_carries_a_flag():
    other = course_work.base(1)
    for network in (
        course_work.pruned(other, prune.l1_unstructured, amount=0.25),
        permanent(course_work.pruned(other, prune.l1_unstructured, amount=0.25)),
    ):
        verdict = judge("03-network", network)
        assert verdict.points == 4
        assert "was not made from the CNN_MNIST" in verdict.flags[0]


@pytest.mark.parametrize("task", NETWORK_TASKS)
def test_clone_that_nothing_was_done_to_is_not_attempted(task):
    ones = {name: torch.ones_like(weight) for name, weight in dense_weights(start()).items()}
    reference = labkit.load_network(labkit.runtime.reference_dir() / "CNN_MNIST_seed2.pth")
    for network in (labkit.clone(start()), with_masks(ones), reference):
        verdict = judge(task, network)
        assert not verdict.attempted
        assert verdict.points == 0


@pytest.mark.parametrize("task", ["01-training", *NETWORK_TASKS])
def test_fresh_untrained_network_gets_nothing(task):
    labkit.set_seed(0)
    assert judge(task, labkit.CNN(), score=0.1).points == 0


@pytest.mark.parametrize("task", NETWORK_TASKS)
def test_clone_that_was_only_trained_on_gets_no_points_for_pruning(task):
    verdict = judge(task, trained(start()))
    assert 0 in lost(verdict)
    assert "zero" in hints(verdict) or "no channel is empty" in hints(verdict)


WRONG_NETWORKS = {
    "02-network": {
        "pruned twice": (
            lambda: again(right("02-network"), prune.random_unstructured, amount=0.25),
            [0],
            "pruning twice",
        ),
        "fc, too": (lambda: pruned(prune.random_unstructured, ALL_LAYERS, amount=0.25), [2], "fc has zeros"),
        "conv1 only": (lambda: pruned(prune.random_unstructured, ["conv1"], amount=0.25), [0], "conv2 has no zero"),
        "amount=1": (lambda: pruned(prune.random_unstructured, amount=1), [0, 1], "a whole number as amount"),
        "amount=25": (lambda: pruned(prune.random_unstructured, amount=25), [0], "0.25 is a quarter"),
        "amount=1.0": (lambda: pruned(prune.random_unstructured, amount=1.0), [0, 1], "1.0 is all of it"),
        "L1": (lambda: right("03-network"), [1], "small weights were preferred"),
        "the largest": (lambda: with_masks(by_score(largest)), [1], "large weights were preferred"),
        "the first quarter": (lambda: with_masks(by_score(first)), [1], "one end of the layer"),
        "channels": (lambda: pruned(prune.random_structured, amount=0.25, dim=0), [1], "whole channels"),
        "global": (
            lambda: course_work.globally(start(), 0.25, CONVOLUTIONS),
            [0, 1],
            "small weights were preferred",
        ),
        "inverted": (lambda: with_masks(inverted(by_score(dice))), [0], "75.00% zeros"),
        "masks removed, then trained": (lambda: revived(right("02-network")), [0, 1, 2], "does it still have its mask"),
    },
    "03-network": {
        "pruned twice": (lambda: again(right("03-network"), prune.l1_unstructured, amount=0.25), [0], "pruning twice"),
        "fc, too": (lambda: pruned(prune.l1_unstructured, ALL_LAYERS, amount=0.25), [2], "fc has zeros"),
        "conv1 only": (lambda: pruned(prune.l1_unstructured, ["conv1"], amount=0.25), [0, 1], "conv2 has no zero"),
        "amount=1": (lambda: pruned(prune.l1_unstructured, amount=1), [0], "a whole number as amount"),
        "amount=1.0": (lambda: pruned(prune.l1_unstructured, amount=1.0), [0, 1], "1.0 is all of it"),
        "at random": (lambda: right("02-network"), [1], "is |w| compared"),
        "channels by L1": (
            lambda: pruned(prune.ln_structured, amount=0.25, n=1, dim=0),
            [1],
            "whole channels are zero",
        ),
        "global": (lambda: course_work.globally(start(), 0.25, CONVOLUTIONS), [0], "did you use the amount"),
        "the largest": (lambda: with_masks(by_score(largest)), [1], "the largest |w| were pruned"),
        "signed": (lambda: with_masks(by_score(signed)), [1], "the most negative weights were pruned"),
        "inverted": (lambda: with_masks(inverted(by_score(torch.abs))), [0, 1], "75.00% zeros"),
        "masks removed, then trained": (lambda: revived(right("03-network")), [0, 1, 2], "does it still have its mask"),
    },
    "04-network": {
        "pruned twice": (
            lambda: again(right("04-network"), prune.ln_structured, amount=1 / 8, n=2, dim=0),
            [0],
            "pruning twice",
        ),
        "fc, too": (
            lambda: pruned(prune.ln_structured, ALL_LAYERS, amount=1 / 8, n=2, dim=0),
            [3],
            "fc has zeros",
        ),
        "conv1 only": (
            lambda: pruned(prune.ln_structured, ["conv1"], amount=1 / 8, n=2, dim=0),
            [0, 2],
            "conv2: no channel is empty",
        ),
        "L1 norm": (
            lambda: pruned(prune.ln_structured, amount=1 / 8, n=1, dim=0),
            [2],
            "which norm does the task",
        ),
        "dim=1": (lambda: pruned(prune.ln_structured, amount=1 / 8, n=2, dim=1), [0, 1, 2], "which dim"),
        "single weights": (lambda: pruned(prune.l1_unstructured, amount=1 / 8), [0, 1, 2], "which dim"),
        "random channels": (lambda: pruned(prune.random_structured, amount=1 / 8, dim=0), [2], "larger norm went"),
        "the largest": (
            lambda: with_masks(by_norm(lambda weight: -channel_norms(weight))),
            [2],
            "with the largest norms went",
        ),
        "a quarter": (lambda: pruned(prune.ln_structured, amount=0.25, n=2, dim=0), [0], "an eighth of 32 channels"),
        "amount=1": (lambda: pruned(prune.ln_structured, amount=1, n=2, dim=0), [0], "a whole number as amount"),
        "amount=1.0": (lambda: pruned(prune.ln_structured, amount=1.0, n=2, dim=0), [0], "1.0 is all of it"),
        "masks removed, then trained": (lambda: revived(right("04-network")), [0, 2], "an eighth of 32"),
    },
    "05-network": {
        "nine rounds": (lambda: quick_rounds("local", 9), [0], "9.0 rounds"),
        "eleven rounds": (lambda: quick_rounds("local", 11), [0], "11.0 rounds"),
        "one round": (lambda: quick_rounds("local", 1), [0], "1.0 rounds"),
        "nothing trained": (
            lambda: course_work.rounds(start(), "local", train=False),
            [2],
            "whose parameters did the optimizer get",
        ),
        "nothing trained, made permanent": (
            lambda: permanent(course_work.rounds(start(), "local", train=False)),
            [2],
            "whose parameters did the optimizer get",
        ),
        "at random": (lambda: quick_rounds("local", method=RANDOM), [1], "did you use L1"),
        "the largest": (lambda: trained(with_masks(by_score(largest, 1 - 0.9**10))), [1], "did you use L1"),
        "global": (lambda: quick_rounds("global"), [0], "10.0 rounds"),
        "10 % of all": (
            lambda: quick_rounds("local", 10, lambda weight: min(round(weight.numel() / 10), weight.numel() // 10)),
            [0, 1, 2],
            "almost nothing is left",
        ),
        "fc, too": (lambda: quick_rounds("local", layers=ALL_LAYERS), [0], "fc"),
        "masks removed, then trained": (
            lambda: revived(quick_rounds("local")),
            [0, 1],
            "were the masks removed before training",
        ),
    },
    "06-network": {
        "pruned twice": (lambda: prune_globally(right("06-network")), [0], "25 % once"),
        "local": (lambda: pruned(prune.l1_unstructured, ALL_LAYERS, amount=0.25), [1], "one threshold for each layer"),
        "convolutions only": (
            lambda: course_work.globally(start(), 0.25, CONVOLUTIONS),
            [0, 1, 2],
            "which layers does the task rank",
        ),
        "at random": (lambda: prune_globally(start(), RANDOM), [1], "rank all layers together"),
        "the largest": (lambda: with_masks(by_global_score(largest)), [1], "rank all layers together"),
        "signed": (lambda: with_masks(by_global_score(signed)), [1], "rank all layers together"),
        "inverted": (lambda: with_masks(inverted(by_global_score(torch.abs))), [0, 1], "75.00%"),
        "amount=1": (lambda: prune_globally(start(), amount=1), [0, 2], "25 % of how many"),
        "amount=1.0": (lambda: prune_globally(start(), amount=1.0), [0, 1], "100.00%"),
        "masks removed, then trained": (lambda: revived(right("06-network")), [0, 1, 2], "0.00%"),
    },
    "06-rounds": {
        "nine rounds": (lambda: quick_rounds("global", 9), [0], "9.0 rounds"),
        "eleven rounds": (lambda: quick_rounds("global", 11), [0], "11.0 rounds"),
        "nothing trained": (
            lambda: course_work.rounds(start(), "global", train=False),
            [2],
            "whose parameters did the optimizer get",
        ),
        "local": (lambda: quick_rounds("local"), [1], "one threshold for each layer"),
        "at random": (lambda: quick_rounds("local", method=RANDOM), [1], "one threshold for each layer"),
        "fc, too": (lambda: quick_rounds("global", layers=ALL_LAYERS), [0], "fc has zeros"),
        "masks removed, then trained": (
            lambda: revived(quick_rounds("global")),
            [0, 1],
            "were the masks removed before training",
        ),
    },
    "07-network": {
        "masked, not cut": (lambda: masked_channels(), [0, 1], "multiplies with zeros"),
        "silenced, not cut": (lambda: labkit.with_channels(start(), SMALL_WIDTHS), [0, 1], "then cut them out"),
        "too wide": (
            lambda: labkit.remove_dead_channels(labkit.with_channels(start(), {"conv1": 16})),
            [0],
            "most of the work",
        ),
        "cut, and masked again": (lambda: pruned_again(right("07-network")), [1], "cut what the mask hides"),
    },
    "08-golf": {
        "one too many": (
            lambda: course_work.golf(start(), kept=801, train=False),
            [0],
            "1 too many: prune one more step",
        ),
        "a tenth": (lambda: with_masks(lamp_to(12_445)), [0], "do not prune in one step"),
        "L1 of 03": (lambda: right("03-network"), [0], "do not prune in one step"),
        "all but a hundred": (lambda: with_masks(lamp_to(124_348)), [0], "do not prune in one step"),
        "convolutions only": (
            lambda: with_masks({name: mask for name, mask in lamp_to(800).items() if name != "fc"}),
            [0],
            "do not prune in one step",
        ),
        "masks removed, then trained": (lambda: revived(right("08-golf")), [0], "did it train again"),
        "nothing left": (lambda: with_masks(zeros(ALL_LAYERS)), [0], "conv1, conv2, conv3, fc has no weight left"),
    },
}


def lamp_to(kept):
    return course_work.lamp_masks(start(), kept)


SMALL_WIDTHS = course_work.SMALL_WIDTHS


def masked_channels():
    return pruned(prune.ln_structured, amount=0.5, n=2, dim=0)


def pruned_again(network):
    network = labkit.clone(network)
    prune.l1_unstructured(network.fc, "weight", 0.5)
    return network


def test_small_network_may_carry_a_mask_that_hides_nothing():
    network = labkit.clone(right("07-network"))
    prune.identity(network.fc, "weight")
    assert judge("07-network", network).points == 4


def test_small_network_must_get_nine_of_ten_images_right():
    verdict = judge("07-network", right("07-network"), score=0.85)
    assert (lost(verdict), verdict.points) == ([2], 2)


def test_small_network_that_has_never_been_trained_is_not_attempted():
    assert not judge("07-network", labkit.CNN(channels=(8, 16, 64)), score=0.1).attempted


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: labkit.CNN(channels=(4, 8, 140)), "some were to be cut"),
        (lambda: labkit.CNN(num_of_cls=11, channels=(4, 8, 14)), "have 10 classes"),
        (lambda: labkit.CNN((3, 28, 28), channels=(4, 8, 14)), "must take images"),
        (lambda: exchanged_layers(), "copy its weights into CNN"),
    ],
)
def test_small_network_that_the_grader_would_refuse_is_refused_by_the_check_too(make, words):
    with pytest.raises(Unfit, match=words):
        judge("07-network", make())


def exchanged_layers():
    """Cut by hand, layer by layer, in a network that still says it has the old widths."""
    network, small = labkit.clone(start()), labkit.CNN(channels=(8, 16, 64))
    for name, layer in small.named_children():
        setattr(network, name, layer)
    return network


@pytest.mark.parametrize("plain", [True, False], ids=["state_dict", "labkit's own file"])
def test_small_network_is_read_by_the_grader_from_either_kind_of_file(plain, tmp_path):
    network, path = right("07-network"), tmp_path / "CNN_MNIST_SMALL.pth"
    if plain:
        torch.save(network.state_dict(), path)
    else:
        labkit.save_network(network, path)
    read, flags, _ = read_network(path.read_bytes(), "CNN_MNIST_SMALL")
    assert (read.channels, flags) == (network.channels, [])
    with pytest.raises(Refused, match="another architecture"):
        read_network(path.read_bytes(), "CNN_MNIST")


@pytest.mark.usefixtures("_few_images")
def test_check_takes_a_network_in_data_parallel():
    assert check("03-network", nn.DataParallel(right("03-network")), nn.DataParallel(start())) == 4
    assert labkit.sparsity(labkit.load_network("CNN_MNIST_L1"), CONVOLUTIONS) == 0.25


def with_names(state, before):
    return {f"{before}{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda state: {"epoch": 5, "model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 0.1},
        lambda state: {"state_dict": with_names(state, "model."), "loops": {}, "epoch": 1},
        lambda state: with_names(state, "module."),
        lambda state: with_names(state, "_orig_mod."),
        lambda state: {"model": with_names(state, "module."), "metadata": {"seed": 3}},
    ],
    ids=["checkpoint", "Lightning", "DataParallel", "torch.compile", "both"],
)
def test_checkpoint_of_any_form_is_read_by_the_grader(form, tmp_path):
    network, path = right("07-network"), tmp_path / "CNN_MNIST_SMALL.pth"
    torch.save(form(network.state_dict()), path)
    read, flags, _ = read_network(path.read_bytes(), "CNN_MNIST_SMALL")
    assert (read.channels, flags) == (network.channels, [])
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in read.state_dict().items())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model": labkit.CNN().state_dict(), "ema": labkit.CNN().state_dict()}, "holds 2 networks; it must hold one"),
        ({"epoch": 5, "optimizer": {"state": {}}}, "holds no network, but epoch, optimizer"),
    ],
)
def test_checkpoint_of_no_or_two_networks_is_named_by_the_grader(content, words, tmp_path):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(Refused, match=words):
        read_network((tmp_path / "net.pth").read_bytes(), "CNN_MNIST")


@pytest.mark.parametrize("channels", [(0, 16, 64), (8, 16, 65), (33, 64, 128), (8, 16), (True, 16, 64), "8", None, 8])
def test_widths_that_are_not_those_of_the_weights_are_refused(channels, tmp_path):
    state = {"channels": channels, "input_shape": (1, 28, 28), "num_of_cls": 10}
    content = {"format": "labkit network 1", "architecture": state, "state": right("07-network").state_dict()}
    torch.save(content | {"metadata": {}}, tmp_path / "x.pth")
    with pytest.raises(Refused):
        read_network((tmp_path / "x.pth").read_bytes(), "CNN_MNIST_SMALL")


# Golf


def from_scratch():
    """Never dense: a new network, 200 weights of each layer chosen by dice."""
    labkit.set_seed(11)
    network = labkit.CNN()
    for layer, name in layers_of(network, ALL_LAYERS):
        prune.random_unstructured(layer, name, layer.weight.numel() - 200)
    course_work.train_a_little(network, 1, steps=2)
    return network


GOLFERS = {
    "magnitude": lambda: with_masks(masks_of(course_work.globally(start(), 1 - 800 / 124_448))),
    "at random": lambda: with_masks(by_score(dice, 0.994, ALL_LAYERS)),
    "each layer alike": lambda: with_masks(by_score(torch.abs, 0.994, ALL_LAYERS)),
    "from scratch": from_scratch,
    "exactly 800": lambda: with_masks(lamp_to(800)),
    "few": lambda: with_masks(lamp_to(300)),
    "of another network": lambda: course_work.golf(course_work.base(1), train=False),
}


@pytest.mark.parametrize("way", WAYS)
def test_golf_network_gets_full_points_however_it_is_kept(way):
    verdict = judge("08-golf", WAYS[way](right("08-golf")))
    assert (lost(verdict), verdict.points, list(verdict.flags)) == ([], 4, [])


@pytest.mark.parametrize("kind", GOLFERS)
def test_any_way_to_few_weights_is_fair_play(kind):
    verdict = judge("08-golf", GOLFERS[kind](), score=0.95)
    assert (lost(verdict), verdict.points) == ([], 4)


@pytest.mark.parametrize("weights", [2_000, 6_000])
def test_committed_networks_of_more_weights_get_the_points_of_their_accuracy(weights):
    folder = labkit.runtime.reference_dir() / "frontier"
    (path,) = folder.glob(f"MNIST_lamp-global-gradual_{weights}_e12_s0.lks")
    assert course.check("08-golf", labkit.load_sparse(path)) == 2


@pytest.mark.parametrize("score", [0.9499, 0.5, 0.0, math.nan])
def test_golf_network_must_get_nineteen_of_twenty_images_right(score):
    verdict = judge("08-golf", right("08-golf"), score)
    assert (lost(verdict), verdict.points) == ([1], 2)


def test_golf_network_that_was_not_trained_again_keeps_the_points_of_its_budget():
    measured = measured_judge("08-golf", course_work.golf(start(), train=False))
    assert (lost(measured), measured.points) == ([1], 2)
    assert "did it train again" in hints(measured)


@pytest.mark.parametrize("name", ALL_LAYERS)
def test_golf_hint_names_an_empty_layer(name):
    network = course_work.golf(start(), train=False)
    getattr(network, name).weight_mask.zero_()
    verdict = measured_judge("08-golf", network)
    assert (lost(verdict), verdict.points) == ([1], 2)
    assert hints(verdict) == f"{name} has no weight left"


@pytest.mark.usefixtures("_few_images")
def test_golf_network_of_nan_gets_no_points_for_its_accuracy(capsys):
    network = permanent(right("08-golf"))
    with torch.no_grad():
        for weight in network.parameters():
            weight[weight != 0] = math.nan
    assert course.check("08-golf", network) == course.check("08-golf", nan_network()) == 0
    assert "are all weights and images finite numbers" in capsys.readouterr().out
    assert judge("08-golf", network, score=0.098).points <= 2  # the grader measures otherwise


def test_dense_network_is_no_attempt_at_golf():
    ones_of_all = {name: torch.ones_like(weight) for name, weight in dense_weights(start()).items()}
    for network in (labkit.clone(start()), with_masks(ones_of_all), trained(start()), labkit.CNN()):
        assert not judge("08-golf", network).attempted


def test_dense_network_in_which_a_weight_happens_to_be_zero_is_no_attempt_at_golf():
    network = labkit.clone(start())
    with torch.no_grad():
        network.conv3.weight[0, 0, 0, 0] = 0
    assert judge("08-golf", network).points == 0


def test_golf_network_of_other_widths_can_not_be_judged():
    for network in (labkit.CNN(channels=(4, 6, 8)), labkit.CNN((3, 28, 28)), labkit.CNN(num_of_cls=5)):
        with pytest.raises(Unfit, match="the layers must be those of"):
            judge("08-golf", network)


def test_clone_of_the_dense_network_is_no_attempt_at_a_small_one():
    assert not judge("07-network", labkit.clone(start())).attempted


def prune_globally(network, method=L1, amount=0.25):
    network = labkit.clone(network)
    prune.global_unstructured(layers_of(network, ALL_LAYERS), pruning_method=method, amount=amount)
    return network


@pytest.mark.parametrize(("task", "make", "which", "words"), table(WRONG_NETWORKS))
def test_wrong_network_loses_the_right_finding(task, make, which, words):
    labkit.set_seed(7)
    assert_lost(judge(task, make()), which, words)


REVIVED = {
    "02-network": [0, 1, 2],
    "03-network": [0, 1, 2],
    "04-network": [0, 2],
    "05-network": [0, 1],
    "06-network": [0, 1, 2],
    "06-rounds": [0, 1],
}


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize("task", REVIVED)
def test_a_weight_that_is_still_exactly_zero_after_training_decides_nothing(task, left):
    """Where training goes on without a mask, how many exact zeros stay depends on the precision of the processor."""
    labkit.set_seed(7)
    rounds = {"05-network": "local", "06-rounds": "global"}
    network = revived(quick_rounds(rounds[task]) if task in rounds else right(task))
    with torch.no_grad():
        for layer in (network.conv2, network.conv3, network.fc):
            weight = layer.weight.view(-1)
            weight[weight == 0] = 1e-3 if task != "04-network" else 0
            weight[:left] = 0
    assert lost(judge(task, network)) == REVIVED[task]


def test_norms_of_l1_and_l2_disagree_in_the_base_of_these_tests():
    assert not all(
        torch.equal(a, b)
        for a, b in zip(by_norm(channel_norms).values(), by_norm(lambda w: channel_norms(w, 1)).values(), strict=True)
    )


@pytest.mark.parametrize("task", ITERATED)
def test_rounds_that_ruined_the_network_lose_one_point(task):
    assert_lost(judge(task, right(task), score=0.5), [3], "does every round train after pruning")


def test_network_of_other_widths_can_not_be_judged():
    for task in NETWORK_TASKS:
        with pytest.raises(Unfit, match="the layers must be those of"):
            judge(task, labkit.CNN(channels=(4, 6, 8)))


def test_training_with_the_masks_loses_no_point_if_the_optimizer_has_momentum():
    network = labkit.clone(right("03-network"))
    images, labels = next(iter(few()))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert judge("03-network", network).points == 4


# CNN_MNIST


def test_own_training_gets_full_points():
    for network in (start(), in_train_mode(start()), reloaded(start())):
        assert judge("01-training", network).points == 4


@pytest.mark.parametrize("name", ["CNN_MNIST", *(f"CNN_MNIST_seed{seed}" for seed in range(1, 5))])
def test_network_that_equals_a_reference_keeps_its_points_and_carries_a_flag(name):
    reference = labkit.load_network(labkit.runtime.reference_dir() / f"{name}.pth")
    masked = course_work.pruned(reference, prune.l1_unstructured, amount=0.25)
    verdict = judge("01-training", reference)
    assert verdict.points == 4
    assert verdict.flags == [f"CNN_MNIST is the reference {name}: trained with its seed, or copied?"]
    assert judge("01-training", masked).points == 3


def test_network_that_never_saw_a_batch_is_no_training():
    assert not judge("01-training", labkit.CNN()).attempted


@pytest.mark.parametrize(
    ("score", "which", "points"),
    [(0.1, [0, 1, 2], 1), (0.6, [1, 2], 2), (0.92, [2], 3), (0.93, [], 4)],
)
def test_training_is_paid_by_its_accuracy(score, which, points):
    verdict = judge("01-training", start(), score)
    assert lost(verdict) == which
    assert verdict.points == points


def test_accuracy_that_is_not_a_number_earns_nothing():
    assert lost(judge("01-training", start(), math.nan)) == [0, 1, 2]


def test_pruned_network_is_no_dense_training():
    assert_lost(judge("01-training", right("03-network")), [3], "pruning comes later")
    assert_lost(judge("01-training", permanent(right("03-network"))), [3], "23,112 weights are zero")


def test_network_that_was_shown_images_and_not_trained_gets_no_point_for_accuracy():
    labkit.set_seed(0)
    network = labkit.CNN().train()
    network(next(iter(few()))[0])
    verdict = measured_judge("01-training", network)
    assert_lost(verdict, [0, 1, 2], "did the optimizer get the parameters")


def test_training_of_another_architecture_gets_nothing():
    network = labkit.CNN(channels=(4, 6, 8))
    course_work.train_a_little(network, 0, steps=1)
    with pytest.raises(Unfit, match="the layers must be those of"):
        judge("01-training", network)


# Answers


def before():
    return dense_weights(start())


def judge_answer(task, answer, weights="own"):
    if task == "09-detective":
        return judge_answers(TASKS[task], answer, TRUTH)
    return TASKS[task].judge(answer, Evidence(before=before() if weights == "own" else weights))


TRUTH = [*METHODS, *METHODS, "random", "random", *METHODS]  # of twenty networks
MASK_TASKS = ("02-mask", "03-masks", "04-masks", "05-mask", "06-masks", "08-masks")


@cache
def right_answer(task):
    return TRUTH if task == "09-detective" else course_work.answers_of(start(), "anyone")[task][0]


def mapped(answer, change):
    return {name: change(mask) for name, mask in answer.items()} if isinstance(answer, dict) else change(answer)


KINDS = {
    "as it is": lambda mask: mask,
    "bool": lambda mask: mask.bool(),
    "uint8": lambda mask: mask.to(torch.uint8),
    "int64": lambda mask: mask.long(),
    "float64": lambda mask: mask.double(),
    "float16": lambda mask: mask.half(),
    "parameter": lambda mask: nn.Parameter(mask.clone()),
    "strided": lambda mask: mask.transpose(0, 1).contiguous().transpose(0, 1),
    "negative zero": lambda mask: torch.where(mask == 0, -0.0, 1.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", MASK_TASKS)
def test_right_mask_gets_full_points_in_any_kind_of_numbers(task, kind):
    assert judge_answer(task, mapped(right_answer(task), KINDS[kind])).points == TASKS[task].points


@pytest.mark.parametrize("task", ["03-masks", "04-masks", "06-masks", "08-masks"])
def test_order_of_the_masks_and_further_keys_do_not_matter(task):
    turned = dict(reversed(right_answer(task).items())) | {"conv9": "mine"}
    assert judge_answer(task, turned).points == TASKS[task].points


@pytest.mark.parametrize("task", ["03-masks", "04-masks", "05-mask", "06-masks", "08-masks"])
def test_mask_whose_network_is_unknown_costs_nothing(task):
    verdict = judge_answer(task, right_answer(task), None)
    assert verdict.points == TASKS[task].points
    assert any(finding.holds is None for finding in verdict.findings)


@pytest.mark.parametrize("task", ["03-masks", "05-mask", "06-masks"])
def test_threshold_itself_may_stay(task):
    """``>=`` instead of ``>`` keeps the weight at the threshold."""
    answer = copy.deepcopy(right_answer(task))
    masks = answer if isinstance(answer, dict) else {"conv2": answer}
    sizes = {name: before()[name].abs().masked_fill(mask == 1, 0) for name, mask in masks.items()}
    highest = max(float(size.max()) for size in sizes.values())
    for name, mask in masks.items():
        mask[sizes[name] == (highest if task == "06-masks" else sizes[name].max())] = 1
    assert judge_answer(task, answer).points == 3


# Of one layer's weights, LAMP scores as a student may compute them.


def sort_and_cumsum(weight):
    squares, order = weight.flatten().square().sort(descending=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0)
    return scores.view_as(weight)


def argsort_and_flip(weight):
    squares = (weight**2).flatten()
    order = squares.argsort()
    sums = squares[order].flip(0).cumsum(0).flip(0)
    scores = torch.zeros(len(squares), dtype=weight.dtype)
    scores[order] = squares[order] / sums
    return scores.reshape(weight.shape)


def the_authors_own(weight):
    """As in the code of Lee et al.: the sum of all, less the running sum of what is smaller."""
    rising, order = weight.flatten().square().sort()
    smaller = torch.cat([torch.zeros(1, dtype=rising.dtype), rising.cumsum(0)[:-1]])
    scores = rising / (rising.sum() - smaller)
    return scores[order.argsort()].view_as(weight)


def without_itself(weight):
    """Over the sum of what is strictly larger: another number, the same order."""
    squares, order = weight.flatten().square().sort(descending=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / (squares.cumsum(0) - squares)
    return scores.view_as(weight).nan_to_num(posinf=1e30)


def root(weight):
    return sort_and_cumsum(weight).sqrt()


def logarithm(weight):
    return argsort_and_flip(weight).log()


def at_the_threshold(scores):
    together = torch.cat([score.flatten() for score in scores.values()])
    limit = together.sort(descending=True).values[9_999]
    return {name: (score >= limit).float() for name, score in scores.items()}


def above_the_next(scores):
    limit = torch.cat([score.flatten() for score in scores.values()]).sort(descending=True).values[10_000]
    return {name: score > limit for name, score in scores.items()}


def above_the_threshold(scores):
    """``>`` where ``>=`` was meant: one weight less."""
    limit = torch.cat([score.flatten() for score in scores.values()]).kthvalue(124_448 - 9_999).values
    return {name: (score > limit).float() for name, score in scores.items()}


def by_topk(scores):
    together = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.zeros(len(together), dtype=torch.int64)
    mask[together.topk(10_000).indices] = 1
    parts = mask.split([score.numel() for score in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def by_argsort(scores):
    together = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.ones(len(together))
    mask[together.argsort()[:-10_000]] = 0
    parts = mask.split([score.numel() for score in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def by_quantile(scores):
    together = torch.cat([score.flatten() for score in scores.values()])
    limit = together.quantile(1 - 10_000 / 124_448)
    return {name: (score >= limit).float() for name, score in scores.items()}


LAMP_SCORES = (sort_and_cumsum, argsort_and_flip, the_authors_own, without_itself, root, logarithm)
LAMP_CHOICES = (at_the_threshold, above_the_next, above_the_threshold, by_topk, by_argsort, by_quantile)


@pytest.mark.parametrize("choice", LAMP_CHOICES)
@pytest.mark.parametrize("score", LAMP_SCORES)
def test_lamp_masks_are_right_in_either_precision_however_they_are_computed(score, choice):
    for base in (start(), course_work.base(1), labkit.load_network(labkit.runtime.reference_dir() / "CNN_MNIST.pth")):
        weights = dense_weights(base)
        for kind in (torch.float32, torch.float64):
            masks = choice({name: score(weight.to(kind)) for name, weight in weights.items()})
            verdict = judge_answer("08-masks", masks, weights)
            assert (lost(verdict), verdict.points) == ([], 3)


def test_lamp_masks_of_a_network_that_was_never_trained_are_right():
    labkit.set_seed(0)
    weights = dense_weights(labkit.CNN())
    for score in LAMP_SCORES:
        masks = by_topk({name: score(weight) for name, weight in weights.items()})
        assert judge_answer("08-masks", masks, weights).points == 3


def changed_weights(change):
    return {name: change(weight.clone()) for name, weight in before().items()}


ODD_BASES = {
    "NaN": lambda: changed_weights(lambda weight: weight.fill_(math.nan)),
    "one NaN": lambda: changed_weights(lambda weight: weight.index_fill_(0, torch.tensor([0]), math.nan)),
    "infinite": lambda: changed_weights(lambda weight: weight.fill_(math.inf)),
    "one infinite": lambda: changed_weights(lambda weight: weight.index_fill_(0, torch.tensor([0]), -math.inf)),
    "huge": lambda: changed_weights(lambda weight: weight * 1e37),
    "denormal": lambda: changed_weights(lambda weight: weight * 1e-41),
    "zero": lambda: changed_weights(torch.zeros_like),
    "all alike": lambda: changed_weights(torch.ones_like),
    "other widths": lambda: dense_weights(labkit.CNN(channels=(4, 6, 8))),
}


@pytest.mark.parametrize("kind", ODD_BASES)
def test_lamp_masks_of_an_odd_network_are_judged_without_an_error(kind):
    weights = ODD_BASES[kind]()
    for masks in (right_answer("08-masks"), zeros(ALL_LAYERS), inverted(right_answer("08-masks"))):
        verdict = judge_answer("08-masks", masks, weights)
        assert 0 <= verdict.points <= 3
        assert verdict.attempted


@pytest.mark.parametrize("kept", range(5))
def test_lamp_masks_that_keep_next_to_nothing_are_judged_without_an_error(kept):
    masks = zeros(ALL_LAYERS)
    masks["fc"].view(-1)[:kept] = 1
    for weights in (before(), None):
        verdict = judge_answer("08-masks", masks, weights)
        assert verdict.findings[0].holds is False
        assert verdict.points <= (0 if weights is not None or kept < 4 else 2)


@pytest.mark.parametrize("kept", [4, 20, 124_428])
def test_lamp_masks_of_next_to_no_choice_get_no_points_for_it(kept):
    """What may differ at the threshold is no excuse where hardly anything was chosen."""
    order = torch.randperm(124_448, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(124_448)
    mask[order[:kept]] = 1
    parts = mask.split([SIZES[name] for name in ALL_LAYERS])
    masks = {name: part.view(SHAPES[name]) for name, part in zip(ALL_LAYERS, parts, strict=True)}
    assert judge_answer("08-masks", masks).points == 0


def test_lamp_masks_may_be_few_weights_off():
    """Sums in float32 exchange neighbours at the threshold."""
    scores = {name: torch.from_numpy(course_work.lamp_scores(weight.numpy())) for name, weight in before().items()}
    together = torch.cat([score.flatten() for score in scores.values()])
    order = together.argsort(descending=True)
    sizes = [score.numel() for score in scores.values()]
    for exchanged, points in ((0, 3), (25, 3), (100, 1)):
        mask = torch.zeros(len(together))
        mask[order[: 10_000 - exchanged]] = 1
        mask[order[10_000 : 10_000 + exchanged]] = 1
        masks = {name: part.view(SHAPES[name]) for name, part in zip(scores, mask.split(sizes), strict=True)}
        assert judge_answer("08-masks", masks).points == points


def test_masks_by_the_library_are_right():
    for task, network in (("03-masks", "03-network"), ("04-masks", "04-network"), ("06-masks", "06-network")):
        masks = {name: mask.float() for name, mask in masks_of(right(network)).items()}
        assert judge_answer(task, masks).points == 3
    scores = study.CRITERIA["lamp"](start(), None, None, None)
    everything = {name: torch.ones_like(score) for name, score in scores.items()}
    assert judge_answer("08-masks", study.choose_masks(scores, everything, 10_000, "global")).points == 3


def ones(names):
    return {name: torch.ones(SHAPES[name]) for name in names}


# Of notebook 10: what comes of a student's function, each from the numbers that the check gives to it.


def scored_by(factor, weight=course_work.WEIGHT):
    """|w| times something of each input."""
    return torch.from_numpy(np.abs(weight) * factor).float()


def solved_by(step, kept=course_work.KEPT):
    """New weights, by a step from the damped H, an output's weights, and the places of those that stay."""
    X = course_work.INPUTS
    H = X.T @ X
    H += 0.01 * H.diagonal().mean() * np.eye(8)
    new = np.zeros((3, 8))
    for row, (w, places) in enumerate(zip(course_work.WEIGHT, map(list, kept), strict=True)):
        new[row, places] = step(H, w, places)
    return torch.from_numpy(new).float()


def dampened(H, w, kept):
    return np.linalg.solve(H[np.ix_(kept, kept)], H[kept] @ w)


def dropped():
    return [sorted({*range(8)} - {*places}) for places in course_work.KEPT]


def highest_scores(groups):
    """A mask of the higher half of the scores of each group of places in a row; of equal ones the last."""
    mask = torch.zeros(3, 8)
    for row, group in itertools.product(range(3), groups):
        best = sorted(group, key=lambda place: abs(course_work.WEIGHT[row, place]))[len(group) // 2 :]
        mask[row, best] = 1
    return mask


BLANKS = {
    "01-work": {},
    "02-mask": torch.ones(32, 1, 3, 3),
    "03-masks": ones(CONVOLUTIONS),
    "04-masks": ones(CONVOLUTIONS),
    "05-mask": torch.ones(64, 32, 3, 3),
    "06-masks": ones(ALL_LAYERS),
    "07-work": {},
    "07-cut": {"conv2": torch.ones(64, 32, 3, 3), "fc": torch.ones(10, 3200)},
    "07-sums": torch.zeros(6, 6, 16),
    "08-masks": ones(ALL_LAYERS),
    "09-detective": [None] * 20,
    "10-wanda": scored_by(1),
    "10-solve": solved_by(lambda _, w, kept: w[kept]),
    "10-fours": torch.ones(3, 8),
    "10-bytes": None,
    "10-work": {},
} | {task: None for task in TASKS if task.endswith("-prediction")}


@pytest.mark.parametrize("task", BLANKS)
def test_what_stands_in_the_notebook_from_the_start_is_not_attempted(task):
    verdict = judge_answer(task, BLANKS[task])
    assert not verdict.attempted
    assert verdict.points == 0
    assert lines_of(verdict)[0].startswith("– not attempted")


def zeros(names):
    return {name: torch.zeros(SHAPES[name]) for name in names}


def sums_downwards(values):
    """For each value the sum of those that are not smaller."""
    falling, order = values.sort(descending=True)
    return torch.empty_like(values).scatter(0, order, falling.cumsum(0))


def sums_upwards(values):
    """For each value the sum of those that are not larger."""
    rising, order = values.sort()
    return torch.empty_like(values).scatter(0, order, rising.cumsum(0))


def highest(scores, kept=10_000):
    limit = torch.cat([score.flatten() for score in scores.values()]).topk(kept).values[-1]
    return {name: (score >= limit).float() for name, score in scores.items()}


def by_lamp(score):
    """The 10,000 highest of scores that are computed from |w| of each layer, flat and in float64."""
    return highest(
        {
            name: score(weight.double().abs().flatten()).view_as(weight)
            for name, weight in dense_weights(start()).items()
        }
    )


def by_lamp_of_all():
    sizes = {name: weight.double().flatten().square() for name, weight in dense_weights(start()).items()}
    together = torch.cat(list(sizes.values()))
    scores = (together / sums_downwards(together)).split([len(one) for one in sizes.values()])
    return highest({name: score.view(SHAPES[name]) for name, score in zip(sizes, scores, strict=True)})


def signed_lamp():
    weights = dense_weights(start())
    scores = {name: torch.from_numpy(course_work.lamp_scores(weight.numpy())) for name, weight in weights.items()}
    return highest({name: score * weights[name].sign() for name, score in scores.items()})


def ten_thousand_each():
    scores = {name: course_work.lamp_scores(weight.numpy()) for name, weight in dense_weights(start()).items()}
    return {
        name: highest({name: torch.from_numpy(score)}, min(score.size, 10_000))[name] for name, score in scores.items()
    }


def conv2_rounds(count, amount=0.1):
    network = labkit.clone(start())
    for _ in range(count):
        prune.l1_unstructured(network.conv2, "weight", amount)
    return network.conv2.weight_mask


def second_alone():
    """The second round's tenth without the first's."""
    return 1 - (conv2_rounds(1) - conv2_rounds(2))


def coin():
    mask = torch.ones(288)
    mask[torch.randperm(288, generator=torch.Generator().manual_seed(0))[:66]] = 0
    return mask.view(32, 1, 3, 3)


def conv1_mask(chosen):
    mask = torch.ones(288)
    mask[chosen] = 0
    return mask.view(32, 1, 3, 3)


def some_channels():
    mask = torch.ones(32, 1, 3, 3)
    mask[torch.randperm(32, generator=torch.Generator().manual_seed(1))[:8]] = 0
    return mask


def changed_cut(name, change):
    return right_answer("07-cut") | {name: change(right_answer("07-cut")[name])}


def keep_inputs(_):
    norms = channel_norms(start().conv2.weight.detach())
    return start().conv2.weight.detach()[norms.argsort()[32:].sort().values]


def by_channel(_):
    kept = channel_norms(start().conv3.weight.detach()).argsort()[64:].sort().values
    return start().fc.weight.detach().view(10, 128, 25)[:, kept].flatten(1)


def other_half():
    weights = {name: getattr(start(), name).weight.detach() for name in ALL_LAYERS}
    kept = {
        name: channel_norms(weights[name]).argsort()[: len(weights[name]) // 2].sort().values for name in CONVOLUTIONS
    }
    fc = weights["fc"].view(10, 25, 128)[:, :, kept["conv3"]].flatten(1)
    return {"conv2": weights["conv2"][kept["conv2"]][:, kept["conv1"]], "fc": fc}


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_cut_weights_are_judged_by_value_in_any_precision(kind):
    answer = {name: weight.to(kind) for name, weight in right_answer("07-cut").items()}
    assert judge_answer("07-cut", answer).points == 3


def test_cut_weights_of_an_unknown_network_are_judged_by_their_shapes():
    verdict = judge_answer("07-cut", right_answer("07-cut"), weights=None)
    assert [finding.holds for finding in verdict.findings] == [None, None]
    assert verdict.points == 3
    assert judge_answer("07-cut", changed_cut("conv2", keep_inputs), weights=None).points == 2


WRONG_ANSWERS = {
    "01-work": {
        "weights": (lambda: {name: SIZES[name] for name in WORK}, [0, 1, 2], "output pixel"),
        "before pooling": (lambda: WORK | {"conv2": 18_432 * 28 * 28, "conv3": 73_728 * 14 * 14}, [1, 2], "pooling"),
        "padded conv3": (lambda: WORK | {"conv3": 73_728 * 49}, [2], "pooling"),
        "pixels of fc": (lambda: WORK | {"fc": 32_000 * 25}, [3], "linear layer"),
        "a layer left out": (lambda: {name: WORK[name] for name in CONVOLUTIONS}, [3], "linear layer"),
        "None": (lambda: dict.fromkeys(WORK), [0, 1, 2, 3], "output pixel"),
        "text": (lambda: {name: str(number) for name, number in WORK.items()}, [0, 1, 2, 3], "output pixel"),
        "not finite": (lambda: dict.fromkeys(WORK, math.inf) | {"fc": math.nan}, [0, 1, 2, 3], "output pixel"),
    },
    "02-mask": {
        "a coin": (coin, [0], "a coin for each weight"),
        "one too many": (lambda: conv1_mask(torch.randperm(288)[:73]), [0], "draw exactly"),
        "first quarter": (lambda: conv1_mask(slice(72)), [1], "choose at random"),
        "last quarter": (lambda: conv1_mask(slice(216, None)), [1], "choose at random"),
        "every fourth": (lambda: conv1_mask(slice(0, None, 4)), [1], "choose at random"),
        "random channels": (some_channels, [1], "choose at random"),
        "inverted": (lambda: 1 - right_answer("02-mask"), [0], "choose exactly"),
        "everything": (lambda: torch.zeros(32, 1, 3, 3), [0, 1], "all weights are masked"),
    },
    "03-masks": {
        "inverted": (lambda: inverted(right_answer("03-masks")), [0, 1, 2], "a 1 keeps a weight"),
        "signed": (lambda: by_score(signed), [0, 1, 2], "|w|"),
        "the largest": (lambda: by_score(largest), [0, 1, 2], "|w|"),
        "at random": (lambda: by_score(dice), [0, 1, 2], "|w|"),
        "one threshold": (lambda: by_global_score(torch.abs), [0, 1, 2], "a quarter is"),
        "twice": (lambda: by_score(torch.abs, 0.4375), [0, 1, 2], "a quarter is 72"),
        "conv1 only": (lambda: ones(CONVOLUTIONS) | by_score(torch.abs, layers=["conv1"]), [1, 2], "4,608"),
        "another network's": (lambda: course_work.l1_masks(course_work.base(1)), [0, 1, 2], "|w|"),
    },
    "04-masks": {
        "L1 norm": (lambda: by_norm(lambda weight: channel_norms(weight, 1)), None, "L2 norm"),
        "dim=1": (lambda: one_dim(right_answer("04-masks")), [1, 2], "which index"),
        "the largest": (
            lambda: by_norm(lambda weight: -channel_norms(weight)),
            [0, 1, 2],
            "mask those with the smallest",
        ),
        "sum of w": (lambda: by_norm(lambda weight: weight.flatten(1).sum(1)), [0, 1, 2], "squares"),
        "first channels": (lambda: by_norm(lambda weight: torch.arange(len(weight))), [0, 1, 2], "larger L2 norm"),
        "a quarter": (lambda: by_norm(channel_norms, 0.25), [0, 1, 2], "an eighth of 32"),
        "single weights": (lambda: by_score(torch.abs, 1 / 8), [0, 1, 2], "channels that still have other weights"),
        "inverted": (lambda: inverted(right_answer("04-masks")), [0, 1, 2], "an eighth of"),
        "everything": (lambda: mapped(right_answer("04-masks"), torch.zeros_like), [0, 1, 2], "an eighth of"),
    },
    "05-mask": {
        "one round": (lambda: conv2_rounds(1), [0], "a tenth of the survivors"),
        "three rounds": (lambda: conv2_rounds(3), [0], "a tenth of the survivors"),
        "20 % at once": (lambda: conv2_rounds(1, 0.2), [0], "a tenth of the survivors"),
        "10 % of all, twice": (lambda: conv2_rounds(2, 1843), [0], "a tenth of the survivors"),
        "first mask forgotten": (second_alone, [0, 1], "keeps the first mask"),
        "signed": (lambda: by_score(signed, 0.19, ["conv2"])["conv2"], [1], "|w|"),
        "at random": (lambda: by_score(dice, 0.19, ["conv2"])["conv2"], [1], "|w|"),
        "inverted": (lambda: 1 - conv2_rounds(2), [0, 1], "14,930 are masked"),
    },
    "06-masks": {
        "local": (lambda: by_score(torch.abs, layers=ALL_LAYERS), [1], "one threshold for all"),
        "convolutions only": (
            lambda: ones(ALL_LAYERS) | masks_of(course_work.globally(start(), 0.25, CONVOLUTIONS)),
            [0, 1],
            "count them together",
        ),
        "the largest": (lambda: by_global_score(largest), [1], "one threshold for all"),
        "signed": (lambda: by_global_score(signed), [1], "one threshold for all"),
        "inverted": (lambda: inverted(right_answer("06-masks")), [0, 1], "75.00%"),
        "a tenth": (lambda: by_global_score(torch.abs, 0.1), [0], "10.00%"),
    },
    "07-work": {
        "halves": (lambda: {name: n // 2 for name, n in WORK.items()}, [1, 2], "who reads fewer channels"),
        "as before": (lambda: dict(WORK), [0, 1, 2, 3], "who reads fewer channels"),
        "not all": (lambda: {"conv1": 112_896}, [1, 2, 3], "who writes fewer"),
    },
    "07-cut": {
        "inputs of conv2 forgotten": (lambda: changed_cut("conv2", keep_inputs), [0], "are its inputs"),
        "fc by channel first": (lambda: changed_cut("fc", by_channel), [1], "view it as"),
        "the other half": (lambda: other_half(), [0, 1], "that stay"),
        "of another layer": (lambda: changed_cut("fc", lambda w: w.flip(1)), [1], "view it as"),
    },
    "07-sums": {
        "= instead of +=": (lambda: course_work.shifted_sums({(1, 1, 0): 3}), [0], "add with +="),
        "weights forgotten": (
            lambda: course_work.shifted_sums({(0, 0, 1): 1, (0, 2, 2): 1, (1, 1, 0): 1}),
            [0],
            "its weight is missing",
        ),
        "x and y changed places": (
            lambda: course_work.shifted_sums({(0, 1, 0): 2, (0, 2, 2): -1, (1, 0, 1): 3}),
            [0],
            "y shifts rows",
        ),
        "turned round": (
            lambda: course_work.shifted_sums({(0, 2, 1): 2, (0, 0, 0): -1, (1, 1, 2): 3}),
            [0],
            "the wrong way",
        ),
        "one channel": (
            lambda: course_work.shifted_sums({(0, 0, 1): 2, (0, 2, 2): -1, (0, 1, 0): 3}),
            [0],
            "only one input channel",
        ),
        "something else": (lambda: course_work.shifted_sums() + 1, [0], "for each nonzero weight"),
    },
    "08-masks": {
        "smaller instead of larger": (
            lambda: by_lamp(lambda w: w**2 / sums_upwards(w**2)),
            [1],
            "runs over the smaller",
        ),
        "|w| instead of w²": (lambda: by_lamp(lambda w: w / sums_downwards(w)), [1], "you used |w|"),
        "w² over the layer's sum": (lambda: by_lamp(lambda w: w**2 / (w**2).sum()), [1], "w² over the sum"),
        "w² over the layer's largest": (lambda: by_lamp(lambda w: w**2 / (w**2).max()), [1], "w² over the sum"),
        "sums through all layers": (lambda: by_lamp_of_all(), [1], "in its layer"),
        "|w|, one threshold": (lambda: by_lamp(lambda w: w), [1], "the largest |w| of all layers"),
        "a threshold for each layer": (lambda: by_score(torch.abs, 1 - 10_000 / 124_448, ALL_LAYERS), [1], "a higher"),
        "sign kept": (lambda: signed_lamp(), [1], "a higher score"),
        "the lowest stay": (lambda: inverted(lamp_to(114_448)), [1], "a higher score"),
        "at random": (lambda: by_score(dice, 1 - 10_000 / 124_448, ALL_LAYERS), [1], "a higher score"),
        "inverted": (lambda: inverted(lamp_to(10_000)), [0, 1], "114,448 weights stay"),
        "10,000 go": (lambda: lamp_to(114_448), [0], "count them in all four layers together"),
        "a tenth stays": (lambda: lamp_to(12_445), [0], "12,445 weights stay"),
        "four too many": (lambda: lamp_to(10_004), [0], "10,004 weights stay"),
        "10,000 of each layer": (lambda: ten_thousand_each(), [0, 1], "together"),
        "fc left out": (lambda: lamp_to(10_000) | ones(["fc"]), [0, 1], "together"),
        "one weight": (lambda: zeros(ALL_LAYERS) | {"conv1": conv1_mask(slice(1, None))}, [0, 1], "1 weights stay"),
        "everything": (lambda: zeros(ALL_LAYERS), [0, 1], "0 weights stay"),
        "another network's": (lambda: course_work.lamp_masks(course_work.base(1)), [1], "a higher score"),
    },
    "09-detective": {
        "all the same": (lambda: ["local L1"] * 20, [0, 2, 3, 4, 5], "is there a threshold"),
        "one wrong": (lambda: [*TRUTH[:4], "structured L2", *TRUTH[5:]], [4], "which one explains all layers"),
        "misspelled": (lambda: ["randm", *TRUTH[1:]], [0], "returned 'randm'; the methods are: random, local L1"),
        "not all": (lambda: [*TRUTH[:19], None], [5], "does every path through it end in return"),
        "numbers": (lambda: [1, 2.0, True, [], {}, object(), *[3] * 14], [0, 1, 2, 3, 4, 5], "the methods are"),
        "tensors": (lambda: [torch.zeros(3)] * 20, [0, 1, 2, 3, 4, 5], "returned a Tensor; the methods are"),
    },
    "10-wanda": {
        "signed": (
            lambda: course_work.scaled_sizes() * torch.tensor(course_work.WEIGHT).sign(),
            [0],
            "a score has no sign",
        ),
        "no root": (lambda: scored_by((course_work.INPUTS**2).sum(axis=0)), [0], "the root of the sum of squares"),
        "sum of |x|": (lambda: scored_by(np.abs(course_work.INPUTS).sum(axis=0)), [0], "that is the sum of |x|"),
        "mean of |x|": (lambda: scored_by(np.abs(course_work.INPUTS).mean(axis=0)), [0], "that is the mean of |x|"),
        "norms alone": (
            lambda: scored_by(np.linalg.norm(course_work.INPUTS, axis=0), np.ones((3, 8))),
            [0],
            "these are the norms alone",
        ),
        "one norm of all": (lambda: scored_by(np.linalg.norm(course_work.INPUTS)), [0], "one norm for each input"),
        "the largest |x|": (lambda: course_work.scaled_sizes(max), [0], "one norm for each input"),
        "mean, signed": (lambda: scored_by(course_work.INPUTS.mean(axis=0)), [0], "one norm for each input"),
        "w²": (lambda: course_work.scaled_sizes() * scored_by(1), [0], "one norm for each input"),
    },
    "10-solve": {
        "for all weights": (
            lambda: solved_by(lambda H, w, _: np.linalg.solve(H, H @ w), [range(8)] * 3),
            [0],
            "weights came back that the mask had dropped",
        ),
        "for those that go": (
            lambda: solved_by(dampened, dropped()) + solved_by(lambda _, w, kept: w[kept]),
            [0],
            "the mask is turned round",
        ),
        "H left out": (
            lambda: solved_by(lambda H, w, kept: np.linalg.solve(H[np.ix_(kept, kept)], w[kept])),
            [0],
            "H[kept] @ weight[row] (all weights) on the right",
        ),
        "only what went": (
            lambda: solved_by(
                lambda H, w, kept: np.linalg.solve(H[np.ix_(kept, kept)], H[kept] @ w - H[np.ix_(kept, kept)] @ w[kept])
            ),
            [0],
            "for each row: H[kept][:, kept] on the left",
        ),
        "the first row's mask": (lambda: course_work.solved_rows(course_work.KEPT[:1] * 3), [0], "for each row"),
        "zeros": (lambda: torch.zeros(3, 8), [0], "for each row"),
    },
    "10-fours": {
        "the lowest stay": (lambda: 1 - course_work.two_of_four(), [0], "the two highest scores stay, with a 1"),
        "half of each row": (lambda: highest_scores([range(8)]), [0], "that is half of each row"),
        "half of each row, by a threshold": (
            lambda: scored_by(1).ge(scored_by(1).sort(dim=1).values[:, 4:5]).float(),
            [0],
            "that is half of each row",
        ),
        "every other place": (lambda: highest_scores([range(0, 8, 2), range(1, 8, 2)]), [0], "view the scores as"),
        "one of each two": (
            lambda: highest_scores([(place, place + 1) for place in (0, 2, 4, 6)]),
            [0],
            "as (rows",
        ),
        "one of four": (lambda: scored_by(1).view(-1, 4).argsort(1).argsort(1).eq(3).view(3, 8), [0], "let the two"),
        "scores": (lambda: scored_by(1) * course_work.two_of_four(), [0], "those are the scores that stay"),
        "nothing": (lambda: torch.zeros(3, 8), [0], "view the scores as (rows, fours, 4)"),
    },
    "10-bytes": {
        "dense": (lambda: 10 * 3200 * 4, [0], "that is the dense layer"),
        "values alone": (lambda: 10 * 3200 // 2 * 4, [0], "their places need room, too"),
        "one place of each four": (lambda: 64_000 + 8_000 * 2 // 8, [0], "two places are kept of each four"),
        "a byte for each four": (lambda: 64_000 + 8_000, [0], "four bits, half a byte"),
        "bits": (lambda: 16_000 * 34, [0], "bytes were asked for"),
        "a byte for each place": (lambda: 16_000 * 5, [0], "four bits, half a byte"),
        "bits of the places as bytes": (lambda: 64_000 + 32_000, [0], "two places of two bits"),
        "the negative": (lambda: -68_000, [0], "two places of two bits"),
        "not finite": (lambda: math.inf, [0], "two places of two bits"),
        "NaN": (lambda: math.nan, [0], "two places of two bits"),
    },
    "10-work": {
        "as before": (lambda: {"query": 114_688, "out": 114_688, "up": 458_752, "down": 458_752}, [0, 1, 2, 3], "befo"),
        "cut on both sides": (
            lambda: dict.fromkeys(("query", "out", "up", "down"), 28_672),
            [0, 1, 2, 3],
            "that would be cut on both sides: a head is 16 of the 64 numbers",
        ),
        "all halved": (
            lambda: {"query": 57_344, "out": 57_344, "up": 229_376, "down": 229_376},
            [2, 3],
            "numbers written: up writes the channels that stay",
        ),
        "a quarter of the heads": (lambda: right_answer("10-work") | {"out": 28 * 16 * 64}, [1], "on both sides: out"),
        "for a row": (lambda: {"query": 2048, "out": 2048, "up": 4096, "down": 4096}, [0, 1, 2, 3], "28 tokens × num"),
        "not all": (lambda: {"query": 57_344, "up": 114_688}, [1, 3], "work has no 'down'; its keys are 'query', 'up'"),
        "text": (
            lambda: right_answer("10-work") | {"up": "114,688"},
            [2],
            "there is no plain number for up, but a str",
        ),
        "not finite": (lambda: dict.fromkeys(("query", "out", "up", "down"), math.nan), [0, 1, 2, 3], "28 tokens ×"),
    },
}


@pytest.mark.parametrize(("task", "make", "which", "words"), table(WRONG_ANSWERS))
def test_wrong_answer_loses_the_right_finding(task, make, which, words):
    verdict = judge_answer(task, make())
    assert_lost(verdict, lost(verdict) if which is None else which, words)


@pytest.mark.parametrize("task", MASK_TASKS)
def test_what_is_no_mask_is_told_so(task):
    answer = right_answer(task)
    for change, words in (
        (lambda mask: mask.flatten(), "a mask has the shape of its weights"),
        (lambda mask: mask[:, :, :1] if mask.ndim == 4 else mask[:1], "has shape"),
        (lambda mask: mask * 0.5, "values other than 0 and 1"),
        (lambda mask: torch.full_like(mask, math.nan), "values other than 0 and 1"),
        (lambda mask: mask.tolist(), "is a list; it must be a tensor"),
        (lambda mask: mask.numpy(), "is a ndarray; it must be a tensor"),
        (lambda mask: (mask,), "is a tuple; it must be a tensor"),
    ):
        with pytest.raises(Unfit, match=words):
            judge_answer(task, mapped(answer, change))


@pytest.mark.parametrize("task", ["03-masks", "04-masks", "06-masks", "08-masks"])
def test_missing_masks_are_named(task):
    with pytest.raises(Unfit, match=r"there is no mask for conv1, conv2"):
        judge_answer(task, {"conv3": torch.ones(128, 64, 3, 3)})
    with pytest.raises(Unfit, match="must be a dict from layer to tensor"):
        judge_answer(task, list(right_answer(task).values()))
    with pytest.raises(Unfit, match="there is no mask for conv1"):
        judge_answer(task, {})


@pytest.mark.parametrize("answer", [None, "text", TRUTH[:6], [*TRUTH, "random"], dict.fromkeys(TRUTH), 6])
def test_detective_needs_twenty_names(answer):
    with pytest.raises(Unfit, match="names of methods for 20 networks"):
        judge_answer("09-detective", answer)


def test_detective_takes_names_up_to_case_and_blanks():
    assert judge_answer("09-detective", tuple(np.array(TRUTH))).points == 6
    assert judge_answer("09-detective", [f" {name.upper().replace(' ', '  ')}" for name in TRUTH]).points == 6


def test_detective_who_always_says_random_has_not_begun():
    assert not judge_answer("09-detective", ["random"] * 20).attempted
    verdict = judge_answer("09-detective", ["random"] * 19 + [TRUTH[19]])
    assert verdict.attempted
    assert verdict.findings[0].text == "random: 5 of 5 named"


def test_either_name_is_right_where_two_norms_agree():
    right = [*TRUTH[:3], "structured L2 or structured L1", *TRUTH[4:]]
    for said in ("structured L1", "structured L2"):
        assert judge_answers(TASKS["09-detective"], [*TRUTH[:3], said, *TRUTH[4:]], right).points == 6


# Check cells

WITH_BASE = {*NETWORK_TASKS, "03-masks", "04-masks", "05-mask", "06-masks", "07-cut", "08-masks"}


def check(task, answer, base="own"):
    if task not in WITH_BASE:
        return course.check(task, answer)
    return course.check(task, answer, start() if isinstance(base, str) and base == "own" else base)


@cache
def few(count=50):
    images, labels = data.load_images("MNIST", train=True)
    return data.Loader(images[-count:], labels[-count:], batch_size=count)


@pytest.fixture
def _few_images(monkeypatch):
    """Accuracy on 50 images in place of 2,000; the references read once."""
    known = references()
    monkeypatch.setattr(CHECK_MODULE, "references", lambda: known)
    monkeypatch.setattr(CHECK_MODULE, "_validation", lambda network: accuracy(network, few()))


def student_answer(task):
    if TASKS[task].network:
        return right(task)
    return method_of if task == "09-detective" else right_answer(task)


def method_of(case):
    """As a student finds it."""
    return truth([case])[0]


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("task", TASKS)
def test_check_of_right_work_gives_and_prints_full_points_and_keeps_the_answer(task, capsys):
    most = TASKS[task].points
    points = check(task, student_answer(task))
    assert points == most
    assert repr(points) == f"{most:.1f}"  # what nbgrader reads
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(points) == f"{most:g} of {most:g} points"
    assert all(line.startswith(("✓ ", "– ")) for line in lines[:-1])
    assert answers.answer_path(task).exists() == (not TASKS[task].network)
    assert answers.points_so_far() == {task: answers.Reached(most, most, attempted=True)}


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("task", TASKS)
def test_check_of_a_blank_gives_nothing_and_keeps_no_answer(task, capsys):
    blank = labkit.clone(start()) if task in NETWORK_TASKS else BLANKS.get(task, labkit.CNN())
    assert check(task, (lambda _: "random") if task == "09-detective" else blank) == 0.0
    again = [f"  {TASKS[task].again}"] if TASKS[task].again else []
    printed = [f"– not attempted: {TASKS[task].title}", *again, f"0 of {TASKS[task].points:g} points"]
    assert capsys.readouterr().out.splitlines() == printed
    assert not answers.answer_path(task).exists()
    assert list(labkit.runtime.models_dir().glob("*.pth")) == []
    assert answers.points_so_far() == {task: answers.Reached(0, TASKS[task].points, attempted=False)}


def again_from_the_file(task):
    value, base = read_answer(answers.answer_path(task).read_bytes(), task)
    known = before() if base == answers.fingerprint(before()) else None
    if task == "09-detective":
        return TASKS[task].judge(value, Evidence())
    return judge_answer(task, value, known)


@pytest.mark.parametrize("task", [task for task in TASKS if not TASKS[task].network])
def test_answer_file_is_worth_what_the_check_said(task):
    check(task, student_answer(task))
    assert again_from_the_file(task).points == TASKS[task].points


@pytest.mark.parametrize(("task", "make", "which", "words"), table(WRONG_ANSWERS | {"09-detective": {}}))
def test_file_of_a_wrong_answer_is_worth_what_the_check_said(task, make, which, words, capsys):
    answer = make()
    points = check(task, answer)
    assert points == judge_answer(task, answer).points
    assert words in capsys.readouterr().out
    assert again_from_the_file(task).points == points
    assert 0 <= points < TASKS[task].points or which == []


NUMBERS = {
    "int": 1,
    "zero": 0,
    "float": 0.5,
    "numpy float64": np.float64(0.5),
    "numpy float32": np.float32(0.5),
    "numpy int64": np.int64(1),
    "half": torch.tensor(0.5, dtype=torch.half, requires_grad=True),
    "torch scalar": torch.tensor(0.5),
    "torch of one": torch.tensor([0.5]),
    "numpy array of nothing": np.array(0.5),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_prediction_may_be_any_kind_of_number(kind):
    assert course.check("02-prediction", NUMBERS[kind]) == 1.0
    assert again_from_the_file("02-prediction").points == 1.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e20, 10**30], ids=str)
def test_prediction_out_of_range_is_judged_alike_by_check_and_grader(value):
    points = course.check("02-prediction", value)
    assert again_from_the_file("02-prediction").points == points


@pytest.mark.parametrize(
    "value", ["0.5", "", True, np.True_, math.nan, np.float64("nan"), [0.5, 1], {}, 1j, np.ones(2), torch.ones(2)]
)
def test_prediction_that_is_no_number_gets_nothing(value, capsys):
    assert course.check("02-prediction", value) == 0.0
    assert capsys.readouterr().out.startswith("✗ there is no number\n  write a plain number: a share between 0 and 1")


@pytest.mark.parametrize("task", ["09-prediction", "02", "", "text", None, 3, [1]])
def test_unknown_task_is_refused(task, capsys):
    assert course.check(task, 0.5) == 0.0
    assert capsys.readouterr().out.startswith("✗ task is ")


@pytest.mark.parametrize("kind", [float, np.int64, np.float64, torch.tensor], ids=lambda kind: kind.__name__)
def test_work_may_be_any_kind_of_number(kind):
    assert course.check("01-work", {name: kind(number) for name, number in reversed(WORK.items())}) == 2.0
    assert again_from_the_file("01-work").points == 2.0


def nan_network():
    network = labkit.clone(start())
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(math.nan)
    return network


def without_fc():
    network = labkit.clone(start())
    del network.fc
    return network


def with_extra_layer():
    network = labkit.clone(start())
    network.extra = nn.Linear(2, 2)
    return network


def with_odd_mask():
    network = labkit.clone(right("03-network"))
    network.conv1.weight_mask = torch.ones(2, 2)
    return network


GARBAGE = {
    "text": lambda: "text",
    "three": lambda: 3,
    "object": object,
    "list": lambda: [],
    "a class": lambda: labkit.CNN,
    "wrong shape": lambda: torch.ones(2, 3),
    "empty tensor": lambda: torch.ones(0),
    "NaN tensor": lambda: torch.full((32, 1, 3, 3), math.nan),
    "linear layer": lambda: nn.Linear(3, 4),
    "other widths": lambda: labkit.CNN(channels=(4, 6, 8)),
    "colours": lambda: labkit.CNN(input_shape=(3, 28, 28)),
    "without fc": without_fc,
    "extra layer": with_extra_layer,
    "odd mask": with_odd_mask,
    "wrong keys": lambda: {"conv4": torch.ones(2), 5: None},
    "masks of text": lambda: dict.fromkeys(ALL_LAYERS, "text"),
    "array": lambda: np.ones((32, 1, 3, 3)),
    "nested": lambda: {"conv1": {"conv1": [[[]]]}},
}


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("task", [task for task in TASKS if task[3:] != "prediction" or task[:2] == "01"])
def test_garbage_gets_nothing_and_raises_nothing(task, kind, capsys):
    points = check(task, GARBAGE[kind]())
    printed = capsys.readouterr().out
    assert isinstance(points, float)
    assert f"{points:g} of {TASKS[task].points:g} points" in printed.splitlines()[-1]
    may_be_right = {("three", "01-prediction"), ("other widths", "07-network")}
    if kind == "extra layer" or (kind, task) in may_be_right:
        return  # a number is a prediction; the network with a further layer may be a right one otherwise
    assert points == 0.0
    assert printed.startswith(("✗ ", "– "))


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("task", [task for task in TASKS if task not in BLANKS or task[3:] != "prediction"])
def test_none_gets_nothing(task, capsys):
    assert check(task, None) == 0.0
    assert capsys.readouterr().out.startswith(("✗ ", "– "))
    assert not answers.answer_path(task).exists()


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("task", ["01-training", *NETWORK_TASKS])
def test_network_of_nan_gets_no_points_for_what_it_can_not_do(task, capsys):
    points = check(task, nan_network())
    assert 0.0 <= points <= 1.0
    assert "✗" in capsys.readouterr().out


BASES = {
    "None": lambda: None,
    "text": lambda: "x",
    "linear layer": lambda: nn.Linear(3, 4),
    "other widths": lambda: labkit.CNN(channels=(4, 6, 8)),
    "NaN": nan_network,
    "without fc": without_fc,
    "the pruned network itself": lambda: right("03-network"),
}


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("task", sorted(WITH_BASE))
def test_check_never_raises_whatever_the_base(task, kind, capsys):
    points = check(task, student_answer(task), BASES[kind]())
    lines = capsys.readouterr().out.splitlines()
    assert 0.0 <= points <= TASKS[task].points
    assert points == TASKS[task].points or kind != "the pruned network itself" or BASE_HAS_ZEROS in lines[0]
    assert lines[-1] == f"{points:g} of {TASKS[task].points:g} points"
    assert any(line[0] in "✓✗–" for line in lines)
    if kind in ("None", "text", "linear layer"):
        assert points == TASKS[task].points  # what cannot be decided costs nothing


def test_check_says_what_kind_of_thing_it_got(capsys):
    course.check("03-network", 3, start())
    course.check("03-masks", [], start())
    printed = capsys.readouterr().out
    assert "  the network is a int; it must be a labkit.CNN\n" in printed
    assert "  masks are a list; they must be a dict from layer to tensor\n" in printed


def test_check_changes_no_network():
    network = in_train_mode(right("03-network"))
    state = copy.deepcopy(network.state_dict())
    course.check("03-network", network, start())
    assert network.training
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_check_of_training_measures_real_images(capsys):
    assert course.check("01-training", start()) == 4.0
    untrained = labkit.clone(start())
    with torch.no_grad():
        untrained.fc.weight.copy_(untrained.fc.weight.flip(0))
    assert course.check("01-training", untrained) == 1.0
    assert capsys.readouterr().out.count("✗ at least 93% of the images right") == 1


def test_answer_that_can_not_be_kept_is_told_and_costs_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "file"))
    assert course.check("01-work", WORK) == 2.0
    assert "the answer could not be saved" in capsys.readouterr().out


def test_a_later_answer_takes_the_place_of_an_earlier_one():
    course.check("01-prediction", 1)
    course.check("01-prediction", 2)
    assert read_answer(answers.answer_path("01-prediction").read_bytes(), "01-prediction") == (2, "")


def test_detective_of_a_student_is_judged_by_the_students_own_cases(capsys):
    course.sign_in("ab12")
    mine = students.seed_of("ab12", students.salt())
    seen = []
    for run in range(2):
        assert course.check("09-detective", lambda case: seen.append(case) or method_of(case)) == 6.0
        assert capsys.readouterr().out.endswith("6 of 6 points\n")
        kept = answers.kept_answer("09-detective")
        assert kept["seed"] == mine * RUNS + run == seed_of_check(mine, kept["seed"] - 1 if run else None)
        assert set(kept["answers"]) == set(METHODS)
    first, second = seen[:20], seen[20:]
    assert len(second) == 20
    assert not all(torch.equal(a.after.conv2.weight, b.after.conv2.weight) for a, b in zip(first, second, strict=True))


# What a check keeps


def kept(name):
    return labkit.load_network(labkit.runtime.models_dir() / f"{name}.pth")


@pytest.mark.usefixtures("_few_images")
@pytest.mark.parametrize("task", [task for task in TASKS if TASKS[task].network])
def test_check_keeps_the_network_that_it_judged(task):
    network = right(task)
    assert check(task, network) == TASKS[task].points
    found = kept(TASKS[task].network)
    assert judge(task, found).points == TASKS[task].points
    for name, layer in labkit.prunable_layers(found).items():
        assert torch.equal(labkit.effective_weight(layer), labkit.effective_weight(getattr(network, name)))


@pytest.mark.usefixtures("_few_images")
def test_network_of_01_is_kept_with_the_seed_of_whoever_is_signed_in():
    check("01-training", start())
    assert labkit.load_metadata("CNN_MNIST") == {"seed": 0}
    course.sign_in("ab12")
    check("01-training", start())
    assert labkit.load_metadata("CNN_MNIST") == {"seed": students.seed_of("ab12", students.salt())}


@pytest.mark.usefixtures("_few_images")
def test_wrong_network_is_kept_and_one_that_is_none_is_not():
    check("03-network", right("02-network"))
    before_garbage = kept("CNN_MNIST_L1")
    for nothing in (3, labkit.clone(start()), labkit.CNN(channels=(4, 6, 8))):
        check("03-network", nothing)
    assert torch.equal(kept("CNN_MNIST_L1").conv2.weight_mask, before_garbage.conv2.weight_mask)
    assert answers.points_so_far()["03-network"].points == 2  # of the network that stays


def test_worse_work_does_not_replace_better_work(capsys):
    check("03-network", right("03-network"))
    better = kept("CNN_MNIST_L1")
    check("03-network", right("02-network"))
    assert "your earlier work with 4 points stays in models/CNN_MNIST_L1.pth" in capsys.readouterr().out
    assert torch.equal(kept("CNN_MNIST_L1").conv2.weight_mask, better.conv2.weight_mask)
    assert answers.points_so_far()["03-network"].points == 4


def test_worse_run_of_the_detective_counts_and_the_next_one_draws_others():
    seeds, solved = [], lambda case: name_method(read_pruning(case.after, {"base": dense_weights(case.before)}))
    for method_of in (lambda case: solved(case).partition(" or ")[0], lambda _: "local L1", lambda _: "local L1"):
        course.check("09-detective", method_of)
        seeds.append(answers.kept_answer("09-detective")["seed"])
    assert len(set(seeds)) == 3
    assert answers.points_so_far()["09-detective"].points == 1


def test_blank_check_leaves_the_points_of_the_work_that_is_kept():
    assert check("03-network", right("03-network")) == 4
    assert check("03-network", labkit.clone(start())) == 0
    assert answers.points_so_far() == {"03-network": answers.Reached(4, 4, attempted=True)}


@pytest.mark.usefixtures("_few_images")
def test_network_that_can_not_be_kept_is_told_and_costs_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "file"))
    assert check("03-network", right("03-network")) == 4
    assert "the network could not be saved for labkit pack" in capsys.readouterr().out


def test_network_with_a_layer_too_many_is_told_that_it_can_not_be_loaded_again(capsys):
    network = labkit.clone(right("03-network"))
    network.bonus = nn.BatchNorm2d(3)
    assert check("03-network", network) == 4
    assert "could not be saved for labkit pack (ValueError" in capsys.readouterr().out


# Kinds of answers

ANSWER_KINDS = {name: change for name, change in KINDS.items() if name != "parameter"} | {
    "parameter of halves": lambda mask: nn.Parameter(mask.half()),
    "bfloat16": lambda mask: mask.bfloat16(),
    "sparse": lambda mask: mask.to_sparse(),
    "array": lambda mask: mask.numpy(),
    "array of bool": lambda mask: mask.bool().numpy(),
    "array of halves": lambda mask: mask.half().numpy(),
    "array of objects": lambda mask: mask.numpy().astype(object),
    "nested lists": lambda mask: mask.tolist(),
    "lists of bool": lambda mask: mask.bool().tolist(),
    "list of tensors": lambda mask: list(mask),
    "tuple of arrays": lambda mask: tuple(mask.numpy()),
    "flat": lambda mask: mask.flatten(),
    "flat list": lambda mask: mask.flatten().tolist(),
    "a row for each output channel": lambda mask: mask.flatten(1),
    "without the ones among its lengths": lambda mask: mask.squeeze(),
    "array of another byte order": lambda mask: mask.numpy().astype(">f4"),
}


@pytest.mark.parametrize("kind", ANSWER_KINDS)
@pytest.mark.parametrize("task", MASK_TASKS)
def test_check_takes_masks_of_any_kind(task, kind):
    assert check(task, mapped(right_answer(task), ANSWER_KINDS[kind])) == TASKS[task].points
    assert again_from_the_file(task).points == TASKS[task].points


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("task", ["03-masks", "04-masks", "06-masks", "08-masks", "07-cut", "01-work", "07-work"])
def test_check_takes_one_for_each_layer_in_their_order(task, kind):
    assert check(task, kind(right_answer(task).values())) == TASKS[task].points
    assert again_from_the_file(task).points == TASKS[task].points


@pytest.mark.parametrize(
    "keys",
    [
        lambda _: range(3),
        lambda names: [getattr(start(), name) for name in names],
        lambda names: [f"{name}.weight_mask" for name in names],
        lambda names: [name.title() for name in names],
    ],
    ids=["numbers", "layers", "of a state_dict", "capitals"],
)
def test_check_takes_masks_by_any_plain_key(keys):
    masks = right_answer("03-masks")
    assert check("03-masks", dict(zip(keys(masks), masks.values(), strict=True))) == 3
    assert again_from_the_file("03-masks").points == 3


@pytest.mark.parametrize("lengths", [(-1,), (-1, 1), (-1, 1, 1, 1)], ids=str)
def test_check_takes_one_number_for_each_channel(lengths):
    masks = {name: mask[:, 0, 0, 0].reshape(lengths) for name, mask in right_answer("04-masks").items()}
    assert check("04-masks", masks) == 3
    assert again_from_the_file("04-masks").points == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: mask.transpose(0, 1), "the mask of conv2 has shape (32, 64, 3, 3); a mask has the shape of its"),
        (lambda mask: mask[:, 0, 0, 0][:-1], "the mask of conv1 has shape (31,); a mask has the shape of its weights"),
        (lambda mask: mask[0, 0, 0], "the mask of conv1 has shape (3,); a mask has the shape of its weights"),
        (lambda mask: 255 * mask, "the mask of conv1 has values other than 0 and 1, such as 255"),
        (lambda _: "ones", "the mask of conv1 is a str; it must be a tensor"),
    ],
)
def test_check_says_what_it_got_where_the_meaning_is_not_plain(change, words, capsys):
    assert check("03-masks", mapped(right_answer("03-masks"), change)) == 0
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["float64", "array", "nested lists", "array of halves", "bfloat16", "parameter"])
def test_check_takes_cut_weights_of_any_kind(kind):
    change = (KINDS | ANSWER_KINDS)[kind]
    assert check("07-cut", mapped(right_answer("07-cut"), change)) == 3
    assert again_from_the_file("07-cut").points == 3


ONLY_OF_MASKS = ("bool", "uint8", "int64", "negative zero", "bfloat16", "array of bool", "lists of bool")
NOT_OF_TEN = ("flat", "flat list", "without the ones among its lengths", "a row for each output channel")


@pytest.mark.parametrize("kind", [kind for kind in KINDS | ANSWER_KINDS if kind not in NOT_OF_TEN])
@pytest.mark.parametrize("task", ["10-wanda", "10-solve", "10-fours"])
def test_check_takes_tensors_of_any_kind(task, kind):
    if kind in ONLY_OF_MASKS and task != "10-fours":
        return  # their numbers would be others
    assert check(task, (KINDS | ANSWER_KINDS)[kind](right_answer(task))) == TASKS[task].points
    assert again_from_the_file(task).points == TASKS[task].points


NO_SHAPE, NO_NUMBERS = "it must be a tensor or array of shape (3, 8)", "complex, NaN or infinite; all must be plain"
ODD_TENSORS = {
    "NaN": (lambda right: right * math.nan, NO_NUMBERS),
    "one NaN": (lambda right: right.where(torch.arange(8) != 2, math.nan), NO_NUMBERS),
    "infinite": (lambda right: right / 0 + 1, NO_NUMBERS),
    "one infinite": (lambda right: right.where(torch.arange(8) != 2, -math.inf), NO_NUMBERS),
    "complex": (lambda right: right + 1j, NO_NUMBERS),
    "array of None": (lambda right: np.full(right.shape, None), NO_NUMBERS),
    "huge numbers": (lambda right: right.double() * 1e300, "  "),
    "long numbers": (lambda right: torch.full(right.shape, 2**63 - 1), "  "),
    "False": (lambda right: torch.zeros(right.shape, dtype=torch.bool), "  "),
    "turned": (lambda right: right.T, NO_SHAPE),
    "flat": (lambda right: right.flatten(), NO_SHAPE),
    "one of three": (lambda right: right[0].tolist(), NO_SHAPE),
    "large": (lambda _: torch.ones(1_000, 4_000), NO_SHAPE),
    "no number": (lambda right: right[:, :0], NO_SHAPE),
    "rows of other lengths": (lambda _: [[1.0, 2.0], [3.0]], NO_SHAPE),
    "array of words": (lambda right: np.full(right.shape, "one"), NO_SHAPE),
    "dict": (lambda right: {"mask": right}, NO_SHAPE),
    "text": (str, NO_SHAPE),
    "one number": (lambda _: 5, NO_SHAPE),
    "function": (lambda right: right.add, NO_SHAPE),
    "None": (lambda _: None, NO_SHAPE),
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
@pytest.mark.parametrize("task", ["10-wanda", "10-solve", "10-fours"])
def test_odd_tensor_gets_a_sentence_and_no_points(task, kind, capsys):
    change, words = ODD_TENSORS[kind]
    assert check(task, change(right_answer(task))) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("✗ ")
    assert words in printed
    assert "could not be" not in printed


@pytest.mark.parametrize("task", ["10-bytes", "10-work"])
@pytest.mark.parametrize(
    "value",
    [
        True,
        1j,
        "68,000",
        [],
        [1, 2],
        set(),
        np.ones(3),
        torch.ones(3),
        torch.ones(0),
        object(),
        len,
        10**400,
        -math.inf,
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_number_gets_a_sentence_and_no_points(task, value, capsys):
    for given in [value] if task == "10-bytes" else [value, dict.fromkeys(("query", "out", "up", "down"), value)]:
        assert check(task, given) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(("✗ ", "– not attempted: "))
        assert "could not be looked at" not in printed


@pytest.mark.parametrize(
    "kind",
    [np.int64, np.float32, np.array, lambda n: torch.tensor(n, dtype=torch.int32), lambda n: torch.tensor([float(n)])],
)
def test_check_takes_numbers_of_any_kind(kind):
    assert check("07-work", {name: kind(number) for name, number in WORK_CUT.items()}) == 2
    assert check("01-work", np.array(list(WORK.values()))) == 2


# Points as a notebook shows them


def test_points_are_a_number_that_shows_itself_in_words():
    points = Points(0.5, 2)
    assert (repr(points), str(points), points) == ("0.5", "0.5 of 2 points", 0.5)
    assert points._repr_html_() == "<b>0.5 of 2 points</b>"


def test_kernel_shows_points_as_html_and_findings_in_colour(tmp_path):
    """In a real kernel, as nbgrader and a reader of the notebook find them."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("from labkit import course\ncourse.check('01-work', {'conv1': 225792, 'conv2': 1})"),
        nbformat.v4.new_code_cell("course.check('02-prediction', None)"),
    ]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (said, shown), (blank, nothing) = (cell.outputs for cell in notebook.cells)
    assert shown.data == {"text/plain": "0.5", "text/html": "<b>0.5 of 2 points</b>"}
    assert nothing.data == {"text/plain": "0.0", "text/html": "<b>0 of 1 points</b>"}
    assert "\x1b[38;2;0;158;115m✓\x1b[0m conv1: 225,792\n" in said.text
    assert "\x1b[38;2;213;94;0m✗\x1b[0m conv2: 1\n" in said.text
    assert "of 2 points" not in said.text
    assert blank.text == f"\x1b[38;2;127;127;127m–\x1b[0m not attempted: {TASKS['02-prediction'].title}\n"


# The detective's function


def test_error_of_a_students_function_is_told_with_its_network_and_is_no_answer(capsys):
    calls = []

    def fails_sometimes(case):
        calls.append(case)
        if len(calls) in (3, 5):
            raise KeyError("fc")
        return method_of(case)

    points = course.check("09-detective", fails_sometimes)
    printed = capsys.readouterr().out
    assert "method_of failed on network 3: KeyError: 'fc' (and on 1 more)\n" in printed
    assert 4 <= points <= 5
    assert [number for number, said in enumerate(answers.kept_answer("09-detective")["answers"], 1) if not said] == [
        3,
        5,
    ]
    assert again_from_the_file("09-detective").points == points


def test_function_that_changes_the_networks_is_judged_by_what_they_were():
    def spoils(case):
        said = method_of(case)
        with torch.no_grad():
            for layer in labkit.prunable_layers(case.after).values():
                layer.bias.zero_()
                if hasattr(layer, "weight_mask"):
                    layer.weight_mask.fill_(1)
        return said

    assert course.check("09-detective", spoils) == 6


def test_first_check_in_an_empty_folder_always_shows_the_same_networks(tmp_path, monkeypatch):
    seeds = []
    for folder in ("one", "two"):
        monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / folder))
        course.check("09-detective", method_of)
        seeds.append(answers.kept_answer("09-detective"))
    assert seeds[0] == seeds[1]


@pytest.mark.parametrize("last", [None, "text", True, 5.0, -1, 7 * RUNS - 1, 8 * RUNS, 10**400])
def test_checks_are_counted_from_the_first_where_no_earlier_one_of_the_student_is_kept(last):
    assert seed_of_check(7, last) == 7 * RUNS


def test_checks_are_counted_and_begin_again_after_a_thousand():
    seeds = [7 * RUNS]
    for _ in range(RUNS):
        seeds.append(seed_of_check(7, seeds[-1]))
    assert len(set(seeds)) == RUNS
    assert seeds[-1] == seeds[0]
