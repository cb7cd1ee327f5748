"""The tasks of notebook 01."""

import math

import torch

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, SHAPES, SIZES, Evidence, dense_weights, read_pruning
from labkit.course.given import numbers
from labkit.course.judging import PIXELS, WORK
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict, first_hint
from labkit.plots import GREY

TRAIN = "the network has not seen any batch: if you have written the training, run its cell again"
LEVELS = (0.5, judging.USEFUL, judging.TRAINED)
LINEAR = "how often is a weight of a linear layer used for one image? Once"
CONVOLUTION = "once for each output pixel that it makes: how many are there, before pooling?"
GENERAL = {**dict.fromkeys(CONVOLUTIONS, CONVOLUTION), "fc": LINEAR}
# Number of pixels taken instead -> what was overlooked.
MISTAKEN_PIXELS = {
    "conv1": {
        14 * 14: "conv1 makes 28 × 28 pixels; the pooling comes after it",
        26 * 26: "conv1 has padding: 28 × 28 pixels stay 28 × 28",
    },
    "conv2": {
        28 * 28: "the pooling before conv2 leaves 14 × 14 of the 28 × 28 pixels",
        7 * 7: "conv2 makes 14 × 14 pixels; the second pooling comes after it",
        12 * 12: "conv2 has padding: 14 × 14 pixels stay 14 × 14",
    },
    "conv3": {
        7 * 7: "conv3 has no padding: of the 7 × 7 pixels behind the second pooling it makes 5 × 5",
        14 * 14: "the second pooling halves 14 × 14 to 7 × 7 before conv3, and without padding it makes 5 × 5",
        28 * 28: "two poolings come before conv3: 28, 14, 7; without padding it makes 5 × 5 pixels",
        12 * 12: "the second pooling comes before conv3: 7 × 7 pixels, of which it makes 5 × 5",
        3 * 3: "conv3 makes 5 × 5 pixels of 7 × 7: without padding one is lost on every side, once",
    },
    "fc": {5 * 5: "the 3,200 inputs of a linear layer are 128 channels × 25 pixels already: each weight is used once"},
}


def _hint_for_work(name: str, given: float) -> str:
    """01: what is wrong with a number of multiply-adds."""
    size, pixels = SIZES[name], PIXELS[name]
    weights, one_input = given == size, given == 9 * pixels
    hints = {
        f"that is the number of weights of {name}; each is used once for each output pixel that it makes": weights,
        "a multiplication and the addition that follows it count as one": given == 2 * size * pixels,
        "only weights multiply; the biases are not counted": given == (size + SHAPES[name][0]) * pixels,
        f"there is a kernel of 3 × 3 between each input and each output channel: all {size:,} weights count": one_input,
        f"that is the number of pixels; each of the {size:,} weights of {name} is used once for each": given == pixels,
    }
    mistaken = {hint: given == size * count for count, hint in MISTAKEN_PIXELS[name].items()}
    return first_hint(hints | mistaken, GENERAL[name])


def _trained(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """01: CNN_MNIST, dense and trained. One that equals a reference network is a question: is it a copy?"""
    judging.check_shapes(network)
    weights = dense_weights(network)
    batches = int(network.batch1.num_batches_tracked or 0)
    if network.batch1.num_batches_tracked == 0:  # it has never seen a batch
        return Verdict(task)
    reached = evidence.accuracy(network)
    zeros = read_pruning(network, {}).zeros()
    hint = _hint_for_training(batches, reached)
    findings = [judging.accurate(reached, level, hint) for level in LEVELS]
    pruned = f"{zeros:,} weights are zero; pruning comes later"
    findings.append(Finding(zeros <= judging.TIES, "no weight is zero yet", pruned))
    copies = [n for n, other in evidence.references.items() if all(torch.equal(weights[x], other[x]) for x in weights)]
    return Verdict(task, findings, [f"CNN_MNIST is {name}: trained with its seed, or copied?" for name in copies[:1]])


def _hint_for_training(batches: int, reached: float) -> str:
    """Only the network is known; the number of batches that it has seen shows how far the training ran."""
    optimizer = "did the optimizer get the parameters of this network"
    steps = "LinearLR counts steps, not epochs: total_iters=EPOCHS * len(train_loader)"
    if batches < 400:  # five epochs of quick mode have 430
        again = "If the training was stopped, run its cell again: it goes on"
        hint = f"did the training run through all epochs, and {optimizer}? {again}"
        return f"it has seen {batches:,} batches only: {hint}"
    if reached < judging.USEFUL:
        return f"it has seen {batches:,} batches and hardly learned: did the rate fall too soon? {steps}; {optimizer}?"
    return f"it has seen {batches:,} batches and could learn more: is the rate as given, and zero at the end? {steps}"


LOSS = "a loss, 0 or more, was asked for, such as 0.5"
BY_HAND = judging.multiply_adds_by_hand(WORK, GENERAL, _hint_for_work)
TITLE, STYLE = "CNN_MNIST, trained", Style("o", GREY, "CNN_MNIST: dense")
ATTRIBUTES = {"layers": ALL_LAYERS, "levels": LEVELS, "dense": True}
TASKS = (
    judging.prediction_task("01", "the smallest loss with softmax twice", LOSS, 0, math.inf, 3, 1.461, "nats"),
    Task("01-work", "multiply-adds of each layer", 2, BY_HAND, numbers),
    judging.network_task("01-training", TITLE, 4, _trained, "CNN_MNIST", TRAIN, STYLE, **ATTRIBUTES),
)
