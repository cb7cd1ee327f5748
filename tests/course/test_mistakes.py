"""What students do wrong, and the sentence that they read: it names the cause or the next step."""

import importlib
from functools import cache

import course_work
import pytest
import torch
from course_work import CONVOLUTIONS, pruned
from torch.nn.utils import prune
from torch.optim.lr_scheduler import LinearLR

import labkit
from labkit import course, data
from labkit.course import answers
from labkit.course.cases import references, truth
from labkit.course.evidence import ALL_LAYERS, SIZES, channel_norms, dense_weights
from labkit.course.task import TASKS
from labkit.course.tasks.t01_training import WORK
from labkit.course.tasks.t07_smaller_and_faster import WORK_CUT
from labkit.training import accuracy

pytestmark = pytest.mark.slow


CHECK_MODULE = importlib.import_module("labkit.course.check")  # labkit.course.check is the function


@cache
def start():
    return course_work.base(0)


@cache
def weights():
    return dense_weights(start())


@pytest.fixture(autouse=True, scope="module")
def _few_images():
    """Accuracy on 200 images in place of 2,000; the references read once."""
    images, labels = data.load_images("MNIST", train=True)
    few, known = data.Loader(images[-200:], labels[-200:], 200), references()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CHECK_MODULE, "references", lambda: known)
        patch.setattr(CHECK_MODULE, "_validation", lambda network: accuracy(network, few))
        yield


# Networks


def broken_rate():
    """The learning rate is zero after as many steps as there are epochs."""
    labkit.set_seed(0)
    images, labels = data.load_images("MNIST", train=True)
    network = labkit.CNN()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    falls = LinearLR(optimizer, 1.0, 0.0, total_iters=5)
    loader = data.Loader(images[:860], labels[:860], 2)
    loss, metric = torch.nn.CrossEntropyLoss(), labkit.AccuracyMetric()
    labkit.train_one_epoch(network, loader, loss, metric, optimizer, 1, torch.device("cpu"), falls)
    return network


def stopped_early():
    labkit.set_seed(0)
    network = labkit.CNN()
    course_work.train_a_little(network, 0, steps=3)
    return network


def twice(method, **arguments):
    return pruned(pruned(start(), method, **arguments), method, **arguments)


def rounds(mode="local", count=10, *, keep=True, layers=CONVOLUTIONS):
    network = labkit.clone(start())
    for _ in range(count):
        if mode == "global":
            pairs = [(getattr(network, name), "weight") for name in layers]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.1)
        else:
            network = pruned(network, prune.l1_unstructured, layers, amount=0.1)
    network = network if keep else labkit.bake_masks(network)
    course_work.train_a_little(network, 0, steps=2)
    return network


def with_masks(masks):
    network = labkit.clone(start())
    for name, mask in masks.items():
        prune.custom_from_mask(getattr(network, name), "weight", mask)
    return network


def cut(widths):
    return labkit.remove_dead_channels(labkit.with_channels(start(), widths))


def pruned_in_place(task, method=prune.l1_unstructured, layers=CONVOLUTIONS, **arguments):
    """CNN_MNIST itself is pruned, then cloned and pruned once more, as after the correction."""
    base = pruned(start(), method, layers, **arguments)
    return course.check(task, pruned(base, method, layers, **arguments), base)


# Masks


def lowest(score, share=0.25, layers=CONVOLUTIONS):
    """In each layer the share of lowest score is masked."""
    masks = {}
    for name in layers:
        scores = score(weights()[name])
        masks[name] = torch.ones_like(scores)
        masks[name].view(-1)[scores.flatten().argsort()[: round(share * scores.numel())]] = 0
    return masks


def channels(score, share=1 / 8):
    masks = {}
    for name in CONVOLUTIONS:
        masks[name] = torch.ones_like(weights()[name])
        masks[name][score(weights()[name]).argsort()[: round(share * len(weights()[name]))]] = 0
    return masks


def first_inputs():
    masks = {name: torch.ones_like(weights()[name]) for name in CONVOLUTIONS}
    for name in ("conv2", "conv3"):
        masks[name][:, : masks[name].shape[1] // 8] = 0
    return masks | {"conv1": channels(channel_norms)["conv1"]}


def conv1_mask(count=72, places=None):
    mask = torch.ones(288)
    dice = torch.randperm(288, generator=torch.Generator().manual_seed(0))
    mask[dice[:count] if places is None else places] = 0
    return mask.view(32, 1, 3, 3)


def conv2_after(count, amount=0.1):
    network = labkit.clone(start())
    for _ in range(count):
        prune.l1_unstructured(network.conv2, "weight", amount)
    return network.conv2.weight_mask


def inverted(masks):
    return {name: 1 - mask for name, mask in masks.items()}


def ones(layers=ALL_LAYERS):
    return {name: torch.ones_like(weights()[name]) for name in layers}


def highest(score, kept=10_000):
    """Masks of the highest scores of all layers together, from |w| of each layer, flat."""
    scores = {name: score(weight.double().abs().flatten()) for name, weight in weights().items()}
    limit = torch.cat(list(scores.values())).topk(kept).values[-1]
    return {name: (scores[name] >= limit).float().view_as(weights()[name]) for name in scores}


def sorted_scores(size):
    falling, order = size.square().sort(descending=True)
    return falling / falling.cumsum(0), order


def sums_upwards(values):
    rising, order = values.sort()
    return torch.empty_like(values).scatter(0, order, rising.cumsum(0))


def sums_downwards(values):
    falling, order = values.sort(descending=True)
    return torch.empty_like(values).scatter(0, order, falling.cumsum(0))


def gathered(size):
    scores, order = sorted_scores(size)
    return scores[order]


# Other answers

CUT = WORK_CUT


def pixels(name, count):
    return WORK | {name: SIZES[name] * count}


def cut_by_hand(**changes):
    return course_work.cut_weights(start()) | changes


def conv2_outputs_only():
    norms = channel_norms(weights()["conv2"])
    return weights()["conv2"][norms.argsort()[32:].sort().values]


def fc_by_channel_first():
    kept = channel_norms(weights()["conv3"]).argsort()[64:].sort().values
    return weights()["fc"].view(10, 128, 25)[:, kept].flatten(1)


def solved(case):
    return truth([case])[0]


def only_if(*methods):
    """A function that knows these methods and says that all else is random."""
    return lambda case: solved(case) if solved(case) in methods else "random"


def breaks(case):
    return {"local L1": "local L1"}[solved(case)]


def says_nothing_of_global(case):
    return None if solved(case) == "global L1" else solved(case)


WITHOUT_BASE = ("01-work", "01-training", "07-work", "07-network", "07-sums", "08-golf", "09-detective")
WITHOUT_BASE += tuple(task for task in TASKS if task.startswith("10-"))


def check(task, work):
    return course.check(task, work, None if task in WITHOUT_BASE or task.endswith("-prediction") else start())


RANDOM, L1, LN = prune.random_unstructured, prune.l1_unstructured, prune.ln_structured
BASE = "CNN_MNIST itself has zeros: run the cell that loads it again"

# (task, what the student did, the work, what the student reads)
MISTAKES = [
    ("01-prediction", "negative loss", lambda: -1.0, "a loss, 0 or more, was asked for"),
    ("01-prediction", "text", lambda: "0.5", "write a plain number"),
    ("02-prediction", "percent", lambda: 75, "a share between 0 and 1 was asked for: 0.75 for 75 %"),
    ("03-prediction", "percent", lambda: 95.0, "a share between 0 and 1 was asked for: 0.75 for 75 %"),
    ("04-prediction", "percent", lambda: 98, "a share between 0 and 1 was asked for: 0.75 for 75 %"),
    ("05-prediction", "over 100 %", lambda: 651.3, "a number of percent, from 0 to 100"),
    ("06-prediction", "number of weights", lambda: 288, "a number of percent, from 0 to 100"),
    ("07-prediction", "percent", lambda: 60, "0.5 would be half as large"),
    ("08-prediction", "share", lambda: 0.95, "a number of weights, from 1 to 124,448"),
    ("10-prediction", "percent", lambda: 85, "a share between 0 and 1 was asked for: 0.75 for 75 %"),
    ("01-work", "number of weights", lambda: dict(SIZES), "that is the number of weights of conv1"),
    ("01-work", "conv1 pooled", lambda: pixels("conv1", 14 * 14), "the pooling comes after it"),
    ("01-work", "conv1 without padding", lambda: pixels("conv1", 26 * 26), "conv1 has padding"),
    ("01-work", "conv2 not pooled", lambda: pixels("conv2", 28 * 28), "the pooling before conv2 leaves 14 × 14"),
    ("01-work", "conv2 pooled", lambda: pixels("conv2", 7 * 7), "the second pooling comes after it"),
    ("01-work", "conv3 with padding", lambda: pixels("conv3", 7 * 7), "conv3 has no padding: of the 7 × 7"),
    ("01-work", "conv3 pooled once", lambda: pixels("conv3", 14 * 14), "the second pooling halves 14 × 14 to 7 × 7"),
    ("01-work", "conv3 not pooled", lambda: pixels("conv3", 28 * 28), "two poolings come before conv3"),
    ("01-work", "fc for each pixel", lambda: pixels("fc", 25), "128 channels × 25 pixels already"),
    ("01-work", "biases", lambda: WORK | {"conv1": 320 * 784}, "the biases are not counted"),
    ("01-work", "additions", lambda: WORK | {"conv2": 2 * WORK["conv2"]}, "count as one"),
    ("01-work", "pixels alone", lambda: WORK | {"conv3": 25}, "that is the number of pixels"),
    ("01-work", "text", lambda: WORK | {"fc": "32,000"}, "there is no plain number for fc"),
    ("01-training", "total_iters=EPOCHS", broken_rate, "total_iters=EPOCHS * len(train_loader)"),
    ("01-training", "interrupted", stopped_early, "3 batches only: did the training run through all epochs"),
    ("01-training", "not trained", labkit.CNN, "if you have written the training, run its cell again"),
    ("01-training", "pruned", lambda: pruned(start(), L1, amount=0.25), "pruning comes later"),
    ("02-mask", "a coin", lambda: conv1_mask(66), "a coin for each weight gives about a quarter"),
    ("02-mask", "off by one", lambda: conv1_mask(73), "73, one more than the library's 72: perhaps > instead of >="),
    ("02-mask", "inverted", lambda: 1 - conv1_mask(), "a 1 keeps a weight, a 0 drops it"),
    ("02-mask", "the first quarter", lambda: conv1_mask(places=slice(72)), "one end of the layer was preferred"),
    ("02-mask", "turned round", lambda: conv1_mask().transpose(0, 2), "a mask has the shape of its weights"),
    ("02-mask", "weights", lambda: weights()["conv1"] * conv1_mask(), "values other than 0 and 1"),
    ("02-network", "amount=25", lambda: pruned(start(), RANDOM, amount=25), "25 zeros in each layer: a whole number"),
    ("02-network", "amount=0.75", lambda: pruned(start(), RANDOM, amount=0.75), "the share that goes"),
    ("02-network", "twice", lambda: twice(RANDOM, amount=0.25), "start from a clone"),
    ("02-network", "conv1 only", lambda: pruned(start(), RANDOM, ["conv1"], amount=0.25), 'getattr(network, "conv2")'),
    ("02-network", "fc, too", lambda: pruned(start(), RANDOM, ALL_LAYERS, amount=0.25), "fc has zeros: which layers"),
    ("02-network", "L1", lambda: pruned(start(), L1, amount=0.25), "small weights were preferred"),
    ("02-network", "a name for a layer", start, 'a layer is network.conv1 or getattr(network, "conv1"), not its name'),
    ("02-network", "function not called again", start, "run its cell and the cell that makes CNN_MNIST_RND again"),
    ("03-masks", "signed", lambda: lowest(lambda w: w), "compare |w|, not w"),
    ("03-masks", "the largest", lambda: lowest(lambda w: -w.abs()), "the largest |w| are masked"),
    ("03-masks", "inverted", lambda: inverted(lowest(torch.abs)), "a 1 keeps a weight, a 0 drops it"),
    ("03-masks", "twice", lambda: lowest(torch.abs, 0.4375), "a quarter of the remaining weights"),
    ("03-masks", "conv1 only", lambda: ones(CONVOLUTIONS) | lowest(torch.abs, layers=["conv1"]), "still all ones"),
    ("03-masks", "two masks", lambda: {"conv1": conv1_mask()}, "there is no mask for conv2, conv3"),
    ("03-network", "amount=25", lambda: pruned(start(), L1, amount=25), "0.25 is a quarter"),
    ("03-network", "at random", lambda: course_work.at_random(start()), "is |w| compared"),
    ("03-network", "channels", lambda: pruned(start(), LN, amount=0.25, n=1, dim=0), "whole channels are zero"),
    ("03-network", "signed", lambda: with_masks(lowest(lambda w: w)), "compare |w|, not w"),
    ("03-network", "made permanent, trained", lambda: rounds(keep=False), "does it still have its mask"),
    ("04-masks", "a quarter", lambda: channels(channel_norms, 0.25), "8 are masked; an eighth of 32 channels"),
    ("04-masks", "L1 norm", lambda: channels(lambda w: channel_norms(w, 1)), "these have the smallest L1 norms"),
    ("04-masks", "inputs", first_inputs, "which index numbers the output channels"),
    ("04-masks", "the largest", lambda: channels(lambda w: -channel_norms(w)), "mask those with the smallest"),
    ("04-masks", "inverted", lambda: inverted(channels(channel_norms)), "the channels that go get the zeros"),
    ("04-network", "n=1", lambda: pruned(start(), LN, amount=1 / 8, n=1, dim=0), "n=2 is the L2 norm"),
    ("04-network", "dim=1", lambda: pruned(start(), LN, amount=1 / 8, n=2, dim=1), "which dim numbers the output"),
    ("04-network", "amount=8", lambda: pruned(start(), LN, amount=8, n=2, dim=0), "a whole number as amount counts"),
    ("04-network", "twice", lambda: twice(LN, amount=1 / 8, n=2, dim=0), "start from a clone"),
    ("05-mask", "one round", lambda: conv2_after(1), "that is only one round"),
    (
        "05-mask",
        "second alone",
        lambda: 1 - (conv2_after(1) - conv2_after(2)),
        "multiply it with the mask",
    ),
    ("05-mask", "20 % at once", lambda: conv2_after(1, 0.2), "among the survivors"),
    ("05-mask", "inverted", lambda: 1 - conv2_after(2), "a 1 keeps a weight"),
    ("05-mask", "signed", lambda: lowest(lambda w: w, 0.19, ["conv2"])["conv2"], "compare |w|, not w"),
    ("05-network", "Run All first, solved later", start, "run the cell that makes CNN_MNIST_FNC and the loop again"),
    ("05-network", "nine rounds", lambda: rounds(count=9), "about 9.0 rounds"),
    ("05-network", "wrong, loop still full", lambda: rounds(count=9), "run the cell that makes CNN_MNIST_FNC and the"),
    ("05-network", "masks removed", lambda: rounds(keep=False), "were the masks removed before training"),
    (
        "05-network",
        "nothing trained",
        lambda: course_work.rounds(start(), "local", train=False),
        "whose parameters did",
    ),
    ("06-masks", "a threshold each", lambda: lowest(torch.abs, layers=ALL_LAYERS), "make one threshold for all"),
    ("06-masks", "without fc", lambda: ones() | lowest(torch.abs), "put fc into the row, too"),
    ("06-masks", "inverted", lambda: inverted(course_work.global_masks(start())), "A 1 keeps a weight"),
    (
        "06-network",
        "local",
        lambda: pruned(start(), L1, ALL_LAYERS, amount=0.25),
        "that is one threshold for each layer",
    ),
    ("06-network", "without fc", lambda: course_work.globally(start(), 0.25, CONVOLUTIONS), "fc is not in the ranking"),
    ("06-network", "amount=25", lambda: course_work.globally(start(), 25), "a whole number as amount counts weights"),
    ("06-network", "function not called again", start, "the cell that makes CNN_MNIST_GLOBAL again"),
    ("06-rounds", "local", rounds, "that is one threshold for each layer"),
    ("06-rounds", "Run All first, solved later", start, "the cell that makes CNN_MNIST_GLOBAL_2 and the loop again"),
    ("06-rounds", "fc, too", lambda: rounds("global", layers=ALL_LAYERS), "fc has zeros: which layers"),
    ("07-work", "as before", lambda: dict(WORK), "that is conv2 before cutting"),
    ("07-work", "a half", lambda: CUT | {"conv2": WORK["conv2"] // 2}, "conv2 reads half as many, and writes half"),
    ("07-work", "conv1 a quarter", lambda: CUT | {"conv1": WORK["conv1"] // 4}, "keeps its one channel"),
    ("07-work", "fc a quarter", lambda: CUT | {"fc": WORK["fc"] // 4}, "the ten classes stay"),
    ("07-cut", "inputs forgotten", lambda: cut_by_hand(conv2=conv2_outputs_only()), "are its inputs"),
    ("07-cut", "fc by channel first", lambda: cut_by_hand(fc=fc_by_channel_first()), "view it as (10, 25, 128) first"),
    ("07-cut", "fc not cut", lambda: cut_by_hand(fc=weights()["fc"]), "fc is still whole"),
    ("07-network", "masked", lambda: pruned(start(), LN, amount=0.75, n=2, dim=0), "cut what the mask hides"),
    ("07-network", "an eighth", lambda: cut({"conv1": 8, "conv2": 16, "conv3": 80}), "times as many: fewer channels"),
    ("07-network", "not trained", lambda: cut(course_work.SMALL_WIDTHS), "it must be trained again after cutting"),
    ("07-network", "clone", start, "cut its channels, train, and run the cell again"),
    ("07-sums", "+= forgotten", lambda: course_work.shifted_sums({(1, 1, 0): 3}), "add with +="),
    ("07-sums", "the padding kept", lambda: torch.ones(8, 8, 16), "they must be a tensor or array of shape (6, 6, 16)"),
    ("08-masks", "left sorted", lambda: highest(lambda s: sorted_scores(s)[0]), "put each sorted score back"),
    ("08-masks", "read from the wrong place", lambda: highest(gathered), "not sorted_scores[order]"),
    ("08-masks", "|w|", lambda: highest(torch.abs), "these are the largest |w| of all layers"),
    ("08-masks", "|w| over sum", lambda: highest(lambda s: s / sums_downwards(s)), "you used |w|"),
    ("08-masks", "sum upwards", lambda: highest(lambda s: s**2 / sums_upwards(s**2)), "runs over the smaller weights"),
    ("08-masks", "sum of all", lambda: highest(lambda s: s**2 / (s**2).sum()), "divided by the same sum"),
    ("08-masks", "10,000 go", lambda: course_work.lamp_masks(start(), 114_448), "10,000 must stay, not go"),
    (
        "08-masks",
        "each layer",
        lambda: lowest(torch.abs, 1 - 10_000 / 124_448, ALL_LAYERS),
        "one threshold for all four",
    ),
    ("08-masks", "inverted", lambda: inverted(course_work.lamp_masks(start())), "a 1 keeps a weight, a 0 drops it"),
    ("08-golf", "one step", lambda: course_work.golf(start(), train=False), "use steps such as"),
    ("08-golf", "6,000", lambda: course_work.golf(start(), kept=6_000, train=False), "prune one more step, then train"),
    ("08-golf", "clone", start, "prune it, train it"),
    ("08-golf", "no conv1", lambda: with_masks({"conv1": torch.zeros(32, 1, 3, 3)}), "conv1 has no weight left"),
    (
        "09-detective",
        "six names",
        lambda: ["random"] * 6,
        'give the function itself: course.check("09-detective", method_of)',
    ),
    ("09-detective", "called", lambda: "local L1", "give the function itself"),
    ("09-detective", "the stub", lambda: only_if(), 'method_of returns nothing yet, or "random" for every'),
    (
        "09-detective",
        "thresholds only",
        lambda: only_if("local L1", "global L1"),
        "which of their norms",
    ),
    (
        "09-detective",
        "no norm of L1",
        lambda: lambda c: solved(c).replace("L1", "L2") if "str" in solved(c) else solved(c),
        "which one explains all layers",
    ),
    ("09-detective", "an error", lambda: breaks, "method_of failed on network"),
    (
        "09-detective",
        "a path without return",
        lambda: says_nothing_of_global,
        "does every path through it end in return",
    ),
    (
        "09-detective",
        "another word",
        lambda: lambda case: solved(case).replace("global", "all"),
        "the methods are: random",
    ),
    ("10-wanda", "no root", lambda: course_work.scaled_sizes(lambda x: sum(a * a for a in x)), "a norm is the root of"),
    (
        "10-wanda",
        "norms for all rows",
        lambda: course_work.scaled_sizes()[0] / 4,
        "must be a tensor or array of shape (3,",
    ),
    ("10-wanda", "the stub", lambda: abs(course_work.WEIGHT), "– not attempted"),
    (
        "10-solve",
        "kept on both sides",
        lambda: course_work.WEIGHT * (course_work.solved_rows().numpy() != 0),
        "is the right side H[kept] @ weight",
    ),
    ("10-solve", "for all weights", lambda: course_work.WEIGHT, "solve for the kept ones only"),
    ("10-solve", "nothing returned", lambda: None, "it is a NoneType; it must be a tensor or array of shape (3, 8)"),
    ("10-solve", "divided by zero", lambda: course_work.solved_rows() / 0, "all must be plain finite numbers"),
    ("10-fours", "the lowest stay", lambda: 1 - course_work.two_of_four(), "turned round: the two highest"),
    ("10-fours", "not put back into rows", lambda: course_work.two_of_four().view(3, 2, 4), "of shape (3, 8)"),
    ("10-fours", "the function itself", lambda: course_work.two_of_four, "it is a function; it must be a tensor"),
    ("10-bytes", "values alone", lambda: 64_000, "their places need room, too"),
    (
        "10-bytes",
        "values and places",
        lambda: (64_000, 4_000),
        "the size is a tuple; it must be a plain number of bytes",
    ),
    (
        "10-work",
        "heads and channels",
        lambda: {"heads": 2, "channels": 64},
        "work has no 'query'; its keys are 'heads'",
    ),
    ("10-work", "both sides", lambda: {"query": 28_672}, "it still reads 64"),
]


def test_there_are_enough_mistakes_and_of_every_task():
    assert len(MISTAKES) >= 60
    assert {task for task, *_ in MISTAKES} == set(TASKS)


@pytest.mark.parametrize(("task", "work", "words"), [pytest.param(t, w, s, id=f"{t}: {n}") for t, n, w, s in MISTAKES])
def test_mistake_is_told(task, work, words, capsys):
    labkit.set_seed(7)
    points = check(task, work())
    printed = capsys.readouterr().out
    assert words in printed
    assert points < TASKS[task].points
    assert "could not be looked at" not in printed
    assert answers.points_so_far()[task].points == points


IN_PLACE = {
    "02-network": lambda: pruned_in_place("02-network", RANDOM, amount=0.25),
    "03-network": lambda: pruned_in_place("03-network", amount=0.25),
    "04-network": lambda: pruned_in_place("04-network", LN, amount=1 / 8, n=2, dim=0),
    "05-network": lambda: pruned_in_place("05-network", amount=0.1),
    "06-network": lambda: pruned_in_place("06-network", layers=ALL_LAYERS, amount=0.25),
    "06-rounds": lambda: pruned_in_place("06-rounds", amount=0.1),
    "03-masks": lambda: course.check("03-masks", ones(CONVOLUTIONS), pruned(start(), L1, amount=0.25)),
    "04-masks": lambda: course.check(
        "04-masks", ones(CONVOLUTIONS), labkit.bake_masks(pruned(start(), L1, amount=0.25))
    ),
    "08-masks": lambda: course.check("08-masks", highest(torch.abs), pruned(start(), L1, ["fc"], amount=0.25)),
}


@pytest.mark.parametrize("task", IN_PLACE)
def test_pruning_of_cnn_mnist_itself_is_told_and_no_other_advice(task, capsys):
    points = IN_PLACE[task]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"✗ {BASE}, then the steps below it")
    assert points < TASKS[task].points
    assert not any(line.startswith("  ") for line in lines)


def test_blank_clone_of_a_cnn_mnist_that_was_pruned_itself_is_told(capsys):
    """``prune.l1_unstructured(CNN_MNIST.conv1, …)`` where CNN_MNIST_L1 was meant."""
    course.check("03-network", start(), pruned(start(), L1, amount=0.25))
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"✗ {BASE}, then the steps below it; if it happens again, your code prunes CNN_MNIST where"
    )
    assert "not attempted" not in printed


def test_right_work_is_not_spoilt_by_a_base_that_was_pruned_later(capsys):
    network = pruned(start(), L1, amount=0.25)
    assert course.check("03-network", network, network) == 4
    assert BASE not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "work", "words"),
    [
        ("03-masks", lambda: lowest(torch.abs, 73 / 288), "conv1: 73 of 288 weights are masked; 73, one more than"),
        ("05-mask", lambda: lowest(torch.abs, 3_501 / 18_432, ["conv2"])["conv2"], "3,501, one fewer than"),
        ("08-masks", lambda: course_work.lamp_masks(start(), 9_999), "9,999, one fewer than the library's 10,000"),
    ],
)
def test_off_by_one_is_told_and_costs_nothing(task, work, words, capsys):
    masks = work()
    if task == "03-masks":
        masks |= lowest(torch.abs, layers=["conv2", "conv3"])
    assert check(task, masks) == TASKS[task].points
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (1234567, 'write the ID in quotes: course.sign_in("1234567")'),
        (None, "write the ID in quotes"),
        ("Anna Meier", "without blanks; your name is not needed"),
        ("a/b", 'such as course.sign_in("ab1234")'),
    ],
)
def test_what_is_no_id_is_told(told, words, capsys):
    course.sign_in(told)
    printed = capsys.readouterr().out
    assert printed.startswith("✗ student is ")
    assert words in printed
    assert course.seed() == 0
