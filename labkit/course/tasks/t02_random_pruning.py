"""The tasks of notebook 02."""

from typing import Any

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, Evidence, follows_the_start, looks_random
from labkit.course.given import own_copy, tensor
from labkit.course.task import LAYER, Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import VERMILION

RANDOM = f"if prune_at_random is written by now, run its cell and the one that makes CNN_MNIST_RND again; {LAYER}"


def _random_mask(task: Task, mask: Any, evidence: Evidence) -> Verdict:
    """02: exactly a quarter of conv1, chosen by dice."""
    before = evidence.before
    zero = judging.zeros_of(mask, "conv1", "mask_by_hand")
    if not zero.any():
        return Verdict(task)
    count = int(zero.sum())
    hint = "a coin for each weight gives about a quarter; draw exactly 72, such as the 72 of largest random number"
    if count in (288, 216):
        hint = "all weights are masked" if count == 288 else "a 1 keeps a weight, a 0 drops it: draw exactly 72 zeros"
    elif judging.off_by(count, 72):
        hint = f"draw exactly a quarter{judging.off_by(count, 72)}"
    exact = Finding(count == 72, f"{count} of 288 weights are masked", hint, 1)
    why = looks_random(before, {"conv1": zero}, ["conv1"]) if count < 288 else "nothing was chosen"
    text = "chosen without preference"
    if 0 < count < 288 and follows_the_start(before, {"conv1": zero}):
        text += "; but it follows the signs of the weights: dice with the training's own seed? Take SEED + 1"
    return Verdict(task, [exact, Finding(not why, text, f"{why}; throw dice", 1)])


def _random_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """02: 25 % of each convolution, chosen by dice."""
    found, flags = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    amounts = judging.quarters(found, 1, judging.TIES)
    why = looks_random(found.before, found.zero, CONVOLUTIONS)
    shares = [found.share(name) for name in CONVOLUTIONS]
    random: bool | None = max(shares) < 1 and any(share > 0.01 for share in shares) and not why
    if follows_the_start(found.before, found.zero) and not why:
        flags.append(
            "CNN_MNIST_RND: the zeros of conv1 follow its weights; was the mask drawn with the training's seed?"
        )
    hint = (
        f"{why}; dice look neither at the weight nor at its place" if why else "there is no choice in so few or so many"
    )
    if random and found.before is None:
        random = None if amounts.holds else False
    chosen = Finding(random, "chosen without preference", hint, 2)
    return Verdict(task, [amounts, chosen, judging.rest_untouched(found, 1)], flags)


TASKS = (
    judging.prediction_task(
        "02", "accuracy after 25 % at random", judging.SHARE, 0, 1, 3, judging.accuracy_of("CNN_MNIST_RND")
    ),
    Task("02-mask", "a random mask by hand", 2, _random_mask, tensor),
    Task(
        "02-network",
        "25 % of conv1, conv2, conv3 at random",
        4,
        _random_network,
        own_copy,
        "CNN_MNIST_RND",
        again=RANDOM,
        style=Style("v", VERMILION, "RND: 25 % at random"),
        untrained=True,
    ),
)
