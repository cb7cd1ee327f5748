"""What probably went wrong: the usual mistakes in numbers and masks by hand, told from what they lead to.

Knows no points and no files. A hint names the cause or the next step; the judges say whether something is right.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from labkit.course.methods import ALL_LAYERS, SIZES, Weights
from labkit.study.budgets import choose_masks
from labkit.study.criteria import lamp_scores

REACH = 'In code a layer is network.{0} or getattr(network, "{0}"), not its name alone'
PIXELS = {"conv1": 28 * 28, "conv2": 14 * 14, "conv3": 5 * 5, "fc": 1}  # that each layer of CNN() makes
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


def off_by(count: int, right: int, head: str = "; ", most: int = 3) -> str:
    """A remark on a count that is nearly right, which costs nothing; "" if it is right or clearly wrong."""
    distance = abs(count - right)
    if not 0 < distance <= most:
        return ""
    words = {1: "one", 2: "two", 3: "three"}.get(distance, str(distance))
    more = "more" if count > right else "fewer"
    why = "perhaps > instead of >= (or the other way), a coin, or rounding"
    return f"{head}{count:,}, {words} {more} than the library's {right:,}: {why}"


def of_work(name: str, given: Any) -> str:
    """01: what is wrong with a number of multiply-adds."""
    linear = "how often is a weight of a linear layer used for one image? Once"
    general = (
        linear if name == "fc" else "once for each output pixel that it makes: how many are there, before pooling?"
    )
    if not isinstance(given, (int, float)):
        return f"there is no plain number for {name}; {general}"
    if given == SIZES[name]:
        return f"that is the number of weights of {name}; each is used once for each output pixel that it makes"
    if given == 2 * SIZES[name] * PIXELS[name]:
        return "a multiplication and the addition that follows it count as one"
    if given == (SIZES[name] + OUTPUTS[name]) * PIXELS[name]:
        return "only weights multiply; the biases are not counted"
    if given == 9 * PIXELS[name]:
        return f"a kernel of 3 × 3 stands between each input and each output channel: all {SIZES[name]:,} weights count"
    if given == PIXELS[name]:
        return f"that is the number of pixels; each of the {SIZES[name]:,} weights of {name} is used once for each"
    mistaken = MISTAKEN_PIXELS[name].items()
    return next((said for pixels, said in mistaken if given == SIZES[name] * pixels), general)


def of_work_after_cutting(name: str, given: Any) -> str:
    """07: what is wrong with a number of multiply-adds of a network with half of the channels."""
    general = "who reads fewer channels, and who writes fewer?"
    if not isinstance(given, (int, float)):
        return f"there is no plain number for {name}; {general}"
    before = SIZES[name] * PIXELS[name]
    if given == before:
        return f"that is {name} before cutting; {general}"
    if name == "conv1":
        return f"{general} conv1 writes half as many; the image that it reads keeps its one channel"
    if name == "fc":
        return f"{general} fc reads half as many inputs of its linear layer; the ten classes stay"
    forgotten = "half is not enough: " if 2 * given == before else ""
    return f"{general} {forgotten}{name} reads half as many, and writes half as many"


Score = Callable[[torch.Tensor], torch.Tensor]


def _sums_downwards(values: torch.Tensor) -> torch.Tensor:
    falling, order = values.sort(descending=True)
    return torch.empty_like(values).scatter(0, order, falling.cumsum(0))


def _sums_upwards(values: torch.Tensor) -> torch.Tensor:
    rising, order = values.sort()
    return torch.empty_like(values).scatter(0, order, rising.cumsum(0))


def _gathered(values: torch.Tensor) -> torch.Tensor:
    falling, order = values.square().sort(descending=True)
    return (falling / falling.cumsum(0))[order]


# Scores of a layer's |w|, flat, that are often taken for LAMP scores -> what to look at.
MISTAKEN_LAMP: Mapping[str, Score] = {
    "these are the largest |w| of all layers: divide each w² by the sum of all w² >= it, in its layer": torch.abs,
    "|w| was taken: it is w² over the sum of w²": lambda size: size / _sums_downwards(size),
    "the sum runs over the smaller weights: w² over the sum of all w² >= it": lambda size: (
        size**2 / _sums_upwards(size**2)
    ),
    "each w² was divided by the same sum: w² over the sum of those w² only that are >= it": lambda size: (
        size**2 / (size**2).sum()
    ),
    "each score was read from another weight's place: scores[order] = sorted_scores, not sorted_scores[order]": (
        _gathered
    ),
}


def of_lamp(weights: Weights | None, zero: Weights) -> str:
    """08: why these are not the highest LAMP scores."""
    hint = "a weight that went has a higher score than one that stayed: w² over the sum of all w² >= it, in its layer"
    kept = sum(int((~gone).sum()) for gone in zero.values())
    if all(_kept_in_a_row(zero[name]) for name in ALL_LAYERS):
        return (
            "in every layer the first or last weights stay: put each sorted score back in its place, scores[order] = …"
        )
    if weights is None:
        return hint
    shares = [float(zero[name].float().mean()) for name in ALL_LAYERS]
    if max(shares) - min(shares) < 0.005:
        return f"every layer gave the same share: one threshold for all four layers together; {hint}"
    stayed = {name: ~gone for name, gone in zero.items()}
    for said, score in MISTAKEN_LAMP.items():
        flat = {name: score(weights[name].double().abs().flatten()).view_as(weights[name]) for name in ALL_LAYERS}
        if _are_the_highest(stayed, flat, kept):
            return said
    lamp = {name: lamp_scores(weights[name]) for name in ALL_LAYERS}
    if _are_the_highest(zero, lamp, sum(SIZES.values()) - kept):
        return f"the highest scores went: a 1 keeps a weight, a 0 drops it; {hint}"
    return hint


def _are_the_highest(chosen: Weights, scores: Weights, count: int) -> bool:
    """Whether so many positions were chosen by the highest scores, but for a hundredth of them."""
    finite = {name: score.nan_to_num() for name, score in scores.items()}
    everything = {name: torch.ones_like(score) for name, score in scores.items()}
    highest = choose_masks(finite, everything, count, "global")
    return sum(int(((highest[name] != 0) != chosen[name]).sum()) for name in ALL_LAYERS) <= count // 100


def _kept_in_a_row(gone: torch.Tensor) -> bool:
    """Whether the weights that stay are the first or the last ones of their layer."""
    return int((gone.flatten().int().diff() != 0).sum()) == 1
