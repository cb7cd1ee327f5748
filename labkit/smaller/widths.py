"""How many channels each layer can give: measured layer by layer, then chosen for a budget of multiply-adds.

Knows how channels of a CNN are masked and what they cost; nothing of training.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils import prune

from labkit.cnn import CNN
from labkit.smaller.cost import multiply_adds_of
from labkit.smaller.shrink import PAIRS, silence_channels
from labkit.sparsity import clone, effective_weight
from labkit.training import Batches, device_of, evaluate, reestimate_batchnorm

CONVOLUTIONS = tuple(conv for conv, _ in PAIRS)
Curves = dict[str, list[dict[str, float]]]


def scan_sensitivity(
    model: CNN, loader: Batches, tuning: Batches | None = None, amounts: Sequence[float] = (0.25, 0.5, 0.75, 0.9)
) -> Curves:
    """Prune one convolution at a time, by ever more channels, and measure what is lost (after Li et al. 2017).

    The channels of least L2 norm go, and are silenced. The model is not changed.

    Args:
        model: the network.
        loader: validation images; a choice must not be made on test images.
        tuning: training images on which BatchNorm is re-estimated before each measurement; none if left out.
        amounts: shares of a layer's channels, each in (0, 1), rising. At least one channel stays.

    Returns:
        Convolution -> points with ``channels`` (how many stay), ``accuracy`` in [0, 1] and ``loss`` [nats]; the first
        is the whole layer.

    Raises:
        ValueError: amounts that are out of range or do not rise, or an empty loader.
    """
    if not amounts or sorted(set(amounts)) != list(amounts) or not 0 < amounts[0] <= amounts[-1] < 1:
        raise ValueError(f"amounts are {amounts}; they must rise and lie between 0 and 1")
    curves: Curves = {}
    for name in CONVOLUTIONS:
        count = len(effective_weight(getattr(model, name)))
        curves[name] = []
        for channels in sorted({count, *(max(1, round((1 - amount) * count)) for amount in amounts)}, reverse=True):
            pruned = with_channels(model, {name: channels})
            if tuning is not None:
                reestimate_batchnorm(pruned, tuning, device_of(pruned))
            loss, score = evaluate(pruned, loader)
            curves[name].append({"channels": channels, "accuracy": score, "loss": loss})
    return curves


def with_channels(model: CNN, channels: Mapping[str, int]) -> CNN:
    """A copy in which only so many channels of each named convolution are left: those of largest L2 norm.

    The others are masked and silenced; ``remove_dead_channels`` cuts them out.

    Raises:
        ValueError: an unknown layer, or a number that is not in 1 .. channels of the layer.
    """
    pruned = clone(model)
    for name, count in channels.items():
        if name not in CONVOLUTIONS:
            raise ValueError(f"layer is {name!r}; it must be one of {', '.join(CONVOLUTIONS)}")
        layer = getattr(pruned, name)
        if type(count) is not int or not 1 <= count <= len(layer.weight):
            raise ValueError(f"channels of {name} are {count!r}; they must be a whole number, 1 to {len(layer.weight)}")
        norms = effective_weight(layer).flatten(1).norm(dim=1)
        mask = torch.zeros_like(layer.weight)
        mask[norms.argsort(descending=True, stable=True)[:count]] = 1
        prune.custom_from_mask(layer, "weight", mask)
    silence_channels(pruned)
    return pruned


def choose_by_sensitivity(model: CNN, curves: Curves, target: int) -> dict[str, int]:
    """The channels that lose least, if the losses of the layers add up, for at most ``target`` multiply-adds.

    All combinations are tried; between the measured points the loss is taken to be linear, and never to fall.

    Args:
        model: the network that was scanned.
        curves: from ``scan_sensitivity``.
        target: multiply-adds for one image.

    Returns:
        Convolution -> number of channels that stay.

    Raises:
        ValueError: no choice is that small.
    """
    costs = []
    for name, width in zip(CONVOLUTIONS, model.channels, strict=True):
        points = curves[name][::-1]  # fewest channels first
        if points[-1]["channels"] != width:
            told = f"{points[-1]['channels']:.0f} channels of {name}, the model has {width}"
            raise ValueError(f"curves are of {told}; give those of a scan of this model")
        if not np.isfinite([p["loss"] for p in points]).all():
            raise ValueError(f"losses of {name} are {[p['loss'] for p in points]}; they must be finite numbers")
        count = np.arange(1, int(points[-1]["channels"]) + 1)
        losses = np.interp(count, [p["channels"] for p in points], [p["loss"] for p in points])
        # Fewer channels than were measured cost, each, as much again as all those that were: taken as a last resort.
        few = count < points[0]["channels"]
        losses[few] += (points[0]["channels"] - count[few]) * max(0.0, losses[~few].max() - losses[~few].min())
        costs.append(np.maximum.accumulate(losses[::-1])[::-1])
    work = _work(model, np.ix_(*(np.arange(1, len(cost) + 1) for cost in costs)))
    total = costs[0][:, None, None] + costs[1][None, :, None] + costs[2][None, None, :]
    if not work.min() <= target:
        raise ValueError(f"target is {target:,} multiply-adds; one channel in each layer already needs {work.min():,}")
    best = np.where(work <= target, total, np.inf)
    # Of equal losses the one that uses the budget best.
    best_place = np.lexsort((-work.ravel(), best.ravel()))[0]
    return dict(zip(CONVOLUTIONS, (int(i) + 1 for i in np.unravel_index(best_place, work.shape)), strict=True))


def choose_uniform(model: CNN, target: int) -> dict[str, int]:
    """The largest common share of channels for at most ``target`` multiply-adds; returns as ``choose_by_sensitivity``.

    Raises:
        ValueError: no choice is that small.
    """
    for share in np.linspace(1, 0, 1001):
        chosen = [max(1, round(share * width)) for width in model.channels]
        if _work(model, chosen) <= target:
            return dict(zip(CONVOLUTIONS, chosen, strict=True))
    raise ValueError(f"target is {target:,} multiply-adds; one channel in each layer already needs more")


@torch.no_grad()
def choose_by_norm(model: CNN, target: int) -> dict[str, int]:
    """One threshold for the channels of all layers, for at most ``target`` multiply-adds; as ``choose_by_sensitivity``.

    Channels are compared by their L2 norm in units of the layer's mean norm: the plain norm depends on how many weights
    a channel has and how they were initialised, and would empty a whole layer before it touches another.

    Raises:
        ValueError: no choice is that small.
    """
    ranked = []
    for name in CONVOLUTIONS:
        norms = effective_weight(getattr(model, name)).flatten(1).norm(dim=1)
        ranked += [(float(norm), name) for norm in (norms / norms.mean()).sort().values[:-1]]  # the largest stays
    left = dict(zip(CONVOLUTIONS, model.channels, strict=True))
    for _, name in sorted(ranked):
        if _work(model, left.values()) <= target:
            break
        left[name] -= 1
    if not _work(model, left.values()) <= target:
        raise ValueError(f"target is {target:,} multiply-adds; one channel in each layer already needs more")
    return left


def _work(model: CNN, channels: Iterable[Any]) -> Any:
    """Multiply-adds of the model with so many channels, whole numbers or arrays that are broadcast."""
    return multiply_adds_of(tuple(channels), model.input_shape, model.num_of_cls)
