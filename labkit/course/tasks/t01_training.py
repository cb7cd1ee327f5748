"""The tasks of notebook 01."""

from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, SIZES, Evidence, dense_weights
from labkit.course.given import numbers, own_copy
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import GREY
from labkit.sparsity import effective_weight, prunable_layers

TRAIN = "the network has never seen a batch: if the training is written by now, run its cell again"
LEVELS = (0.5, judging.USEFUL, judging.TRAINED)
WORK = {"conv1": 225_792, "conv2": 3_612_672, "conv3": 1_843_200, "fc": 32_000}
OUTPUTS = {"conv1": 32, "conv2": 64, "conv3": 128, "fc": 10}
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


def _work(task: Task, answers: Any, _: Evidence) -> Verdict:
    return judging.counted(task, answers, WORK, _hint_for_work)


def _hint_for_work(name: str, given: Any) -> str:
    """01: what is wrong with a number of multiply-adds."""
    linear = "how often is a weight of a linear layer used for one image? Once"
    general = (
        linear if name == "fc" else "once for each output pixel that it makes: how many are there, before pooling?"
    )
    if not isinstance(given, (int, float)):
        return f"there is no plain number for {name}; {general}"
    if given == SIZES[name]:
        return f"that is the number of weights of {name}; each is used once for each output pixel that it makes"
    if given == 2 * SIZES[name] * judging.PIXELS[name]:
        return "a multiplication and the addition that follows it count as one"
    if given == (SIZES[name] + OUTPUTS[name]) * judging.PIXELS[name]:
        return "only weights multiply; the biases are not counted"
    if given == 9 * judging.PIXELS[name]:
        return f"a kernel of 3 × 3 stands between each input and each output channel: all {SIZES[name]:,} weights count"
    if given == judging.PIXELS[name]:
        return f"that is the number of pixels; each of the {SIZES[name]:,} weights of {name} is used once for each"
    mistaken = MISTAKEN_PIXELS[name].items()
    return next((said for pixels, said in mistaken if given == SIZES[name] * pixels), general)


def _trained_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """01: CNN_MNIST, dense and trained. One that equals a reference network is a question: is it a copy?"""
    judging.check_shapes(network)
    weights = dense_weights(network)
    equal = [
        name for name, other in evidence.references.items() if all(torch.equal(weights[x], other[x]) for x in weights)
    ]
    if network.batch1.num_batches_tracked == 0:  # it has never seen a batch
        return Verdict(task)
    reached = evidence.accuracy(network)
    zeros = sum(int((effective_weight(layer) == 0).sum()) for layer in prunable_layers(network).values())
    hint = _hint_for_training(int(network.batch1.num_batches_tracked or 0), reached)
    findings = [Finding(reached >= level, f"at least {level:.0%} of the images right", hint, 1) for level in LEVELS]
    findings.append(
        Finding(zeros <= judging.TIES, "no weight is zero yet", f"{zeros:,} weights are zero; pruning comes later", 1)
    )
    return Verdict(task, findings, [f"CNN_MNIST is {equal[0]}: trained with its seed, or copied?"] if equal else [])


def _hint_for_training(batches: int, reached: float) -> str:
    """Only the network is known; the number of batches that it has seen tells how far the training ran."""
    optimizer = "did the optimizer get the parameters of this network"
    if batches < 400:  # five epochs of quick mode have 430
        again = "One that was stopped goes on if its cell is run again"
        return (
            f"it has seen {batches:,} batches only: did the training run through all epochs, and {optimizer}? {again}"
        )
    steps = "LinearLR counts steps, not epochs: total_iters=EPOCHS * len(train_loader)"
    if reached < judging.USEFUL:
        return f"it has seen {batches:,} batches and hardly learned: was the rate soon zero? {steps}; {optimizer}?"
    return f"it has seen {batches:,} batches and could learn more: is the rate as given, and zero at the end? {steps}"


TASKS = (
    judging.prediction_task(
        "01",
        "the smallest loss with softmax twice",
        "a loss, 0 or more, was asked for, such as 0.5",
        0,
        float("inf"),
        3,
        1.461,
        "nats",
    ),
    Task("01-work", "multiply-adds of each layer", 2, _work, numbers),
    Task(
        "01-training",
        "CNN_MNIST, trained",
        4,
        _trained_network,
        own_copy,
        "CNN_MNIST",
        layers=ALL_LAYERS,
        again=TRAIN,
        levels=LEVELS,
        style=Style("o", GREY, "CNN_MNIST: dense"),
        dense=True,
    ),
)
