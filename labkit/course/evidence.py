"""What a judge gets in addition to the work, and how a network was pruned, read from its weights.

A network that was pruned and not trained holds the proof of what was done to it: an L1 mask zeroes exactly the
smallest |w| of a layer, a global one the smallest over all layers, a structured one whole channels of least norm, and a
random one shows no preference. Knows nothing of tasks, points or files.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import torch
from torch import nn

from labkit.cnn import CNN
from labkit.sparsity import effective_weight, prunable_layers

CONVOLUTIONS = ("conv1", "conv2", "conv3")
ALL_LAYERS = (*CONVOLUTIONS, "fc")
SHAPES = {"conv1": (32, 1, 3, 3), "conv2": (64, 32, 3, 3), "conv3": (128, 64, 3, 3), "fc": (10, 3200)}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}  # weights of CNN()
# A random mask is wrongly called "not random" at most this often (all tests together).
WRONG_REJECTIONS = 1e-6
# Norms of channels are sums of squares: their last digits depend on the order of summation.
NORM_TOLERANCE = 1e-5

METHODS = ("random", "local L1", "global L1", "structured L2", "structured L1", "random structured")
Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Evidence:
    """What a judge gets in addition to the work.

    Attributes:
        candidates: name -> weights of the networks that a network may have been made from.
        before: weights of the network that an answer belongs to; None if they are not known.
        references: name -> weights of the networks that are committed with the project.
        accuracy: share of images that a network gets right, in [0, 1].
        seed: the student's.
    """

    candidates: Mapping[str, Weights] = field(default_factory=dict)
    before: Weights | None = None
    references: Mapping[str, Weights] = field(default_factory=dict)
    accuracy: Callable[[CNN], float] = lambda _: math.nan
    seed: int = 0


@dataclass(frozen=True)
class Pruned:
    """What the files say about the pruning of a network, or masks about what they would prune.

    Attributes:
        zero: layer -> bool tensor of the weight's shape, True where the network computes with zero.
        before: layer -> the weights before pruning, or None where they cannot be known.
        origin: name of the network that it was made from; "" if it was none of the candidates. Then the weights before
            are those that the masks kept, and may have been trained since.
    """

    zero: Weights
    before: Weights | None = None
    origin: str = ""

    def zeros(self, layers: Iterable[str] = ALL_LAYERS) -> int:
        """Number of zero weights in these layers."""
        return sum(int(self.zero[name].sum()) for name in layers)

    def weights(self, layers: Iterable[str] = ALL_LAYERS) -> int:
        """Number of weights in these layers."""
        return sum(self.zero[name].numel() for name in layers)

    def share(self, layers: Sequence[str]) -> float:
        """Fraction of the weights of these layers that are zero, in [0, 1]."""
        return self.zeros(layers) / self.weights(layers)

    def spread(self, layers: Sequence[str]) -> float:
        """How far the shares of zeros in these layers lie apart."""
        shares = [self.share([name]) for name in layers]
        return max(shares) - min(shares)

    def lean(self, layers: Sequence[str]) -> float:
        """The ``preference`` by |w| of all these layers together; NaN where the weights before are not known."""
        return math.nan if self.before is None else preference(*_pooled(self.before, self.zero, layers))

    def relative_lean(self, layer: str) -> float:
        """The ``lean`` of a layer as a share of that of exactly the smallest (or largest) weights."""
        k, N = self.zeros([layer]), self.weights([layer])
        return self.lean([layer]) / (math.sqrt(3 * k * (N - k) / (N + 1)) or 1.0)

    def smallest_went(self, layers: Sequence[str]) -> bool | None:
        """Whether no zeroed weight was larger than a kept one, over all these layers together; None: unknown."""
        return None if self.before is None else lowest_went(*_pooled(self.before, self.zero, layers)) is not False

    def least_channels_went(self, layers: Sequence[str], n: int = 2) -> bool | None:
        """Whether in each of these layers no empty channel had a larger norm than one that is left; None: unknown."""
        if self.before is None:
            return None
        norms = {name: channel_norms(self.before[name], n) for name in layers}
        return all(lowest_went(norms[x], empty_channels(self.zero[x]), NORM_TOLERANCE) is not False for x in layers)

    def empty(self, layer: str) -> int:
        """Number of output channels whose weights are all zero."""
        return int(empty_channels(self.zero[layer]).sum())

    def scattered(self, layer: str) -> int:
        """Number of zeros outside the channels whose weights are all zero."""
        return int(self.zero[layer][~empty_channels(self.zero[layer])].sum())


def _pooled(before: Weights, zero: Weights, layers: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """|w| and the zeros of all these layers, in a row."""
    sizes = torch.cat([before[name].abs().flatten() for name in layers])
    return sizes, torch.cat([zero[name].flatten() for name in layers])


def lowest_went(scores: torch.Tensor, zero: torch.Tensor, tolerance: float = 0.0) -> bool | None:
    """Whether no zeroed position had a higher score than a kept one; None where none or all were zeroed: no choice."""
    if zero.all() or not zero.any():
        return None
    return bool(scores[zero].max() <= scores[~zero].min() * (1 + tolerance))


def masked_layers(model: nn.Module) -> list[str]:
    """Names of the layers with a mask that hides something."""
    masks = {name: dict(layer.named_buffers()).get("weight_mask") for name, layer in prunable_layers(model).items()}
    return [name for name, mask in masks.items() if mask is not None and not bool(mask.all())]


def has_zeros(model: nn.Module) -> bool:
    """Whether a network that should be dense was pruned: a mask with zeros, or over 1 % exact zeros in a layer."""
    weights = map(effective_weight, prunable_layers(model).values())
    return bool(masked_layers(model)) or any(float((weight == 0).float().mean()) > 0.01 for weight in weights)


@torch.no_grad()
def dense_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Layer -> weights without the masks."""
    layers = prunable_layers(model).items()
    return {x: getattr(y, "weight_orig" if hasattr(y, "weight_mask") else "weight").detach() for x, y in layers}


@torch.no_grad()
def read_pruning(model: nn.Module, candidates: Mapping[str, Weights]) -> Pruned:
    """What was zeroed, and the weights before, found among the candidates or kept by the masks themselves.

    Args:
        model: the pruned network, with its masks, or with the masks made permanent.
        candidates: name -> weights of the networks that it may have been made from.
    """
    layers, dense = prunable_layers(model), dense_weights(model)
    zero = {name: effective_weight(layer) == 0 for name, layer in layers.items()}
    pruned = [name for name in layers if zero[name].any()]
    hidden = [name for name in pruned if hasattr(layers[name], "weight_mask")]
    for origin, weights in candidates.items():
        if any(dense[name].shape != weights[name].shape for name in layers):
            continue
        same = {name: dense[name] == weights[name] for name in layers}
        untrained = all(bool(same[name][~zero[name]].all()) for name in layers)
        # Trained since: what a mask hides has no gradient, and is as it was.
        if untrained or (hidden and all(bool(same[name][zero[name]].all()) for name in hidden)):
            # What was zero before is no deed.
            return Pruned({name: zero[name] & (weights[name] != 0) for name in layers}, dict(weights), origin)
    # A mask keeps what it hides. A layer without a mask and without zeros hides nothing.
    return Pruned(zero, dense if hidden == pruned else None)


def channel_norms(weight: torch.Tensor, n: int = 2) -> torch.Tensor:
    """The L1 or L2 norm of each output channel: (out,) float64."""
    return torch.linalg.vector_norm(weight.double().flatten(1), ord=n, dim=1)


def empty_channels(zero: torch.Tensor) -> torch.Tensor:
    """(out,) bool: channels whose weights are all zero."""
    return zero.flatten(1).all(dim=1)


def preference(scores: torch.Tensor, zero: torch.Tensor) -> float:
    """How far the zeroed positions lie from a random choice, by their scores, in standard deviations.

    The rank-sum statistic of Wilcoxon (1945): for a random choice of k of N positions the ranks of the chosen sum up to
    k(N + 1)/2 on average, with variance k(N − k)(N + 1)/12. Negative: small scores were preferred. Its tails are
    lighter than the normal distribution's, so the normal bound holds.

    Args:
        scores: (N,) or any shape, such as |w|.
        zero: bool, the same shape.
    """
    ranks = torch.empty(scores.numel(), dtype=torch.float64)
    ranks[scores.flatten().argsort(stable=True)] = torch.arange(1, scores.numel() + 1, dtype=torch.float64)
    chosen = zero.flatten()
    k, N = int(chosen.sum()), chosen.numel()
    variance = k * (N - k) * (N + 1) / 12
    return 0.0 if variance == 0 else float(ranks[chosen].sum() - k * (N + 1) / 2) / math.sqrt(variance)


def limit_of_chance(tests: int) -> float:
    """Standard deviations that none of so many tests exceeds by chance, but once in a million at most (Bonferroni)."""
    return -NormalDist().inv_cdf(WRONG_REJECTIONS / (2 * tests))


def looks_random(before: Weights | None, zero: Weights, layers: Sequence[str]) -> str:
    """Why the zeros of these layers are no random choice of single weights, or nothing.

    Looks at |w| and at the position; an honest random mask fails at most once in a million. The |w| of ``conv1`` is not
    looked at where its mask follows the signs: one drawn with the seed of the training draws again the very numbers
    that ``conv1`` was initialised from, although the choice was random (see ``follows_the_start``).
    """
    limit = limit_of_chance(tests=2 * len(layers))
    for name in layers:
        gone = zero[name]
        excused = name == "conv1" and follows_the_start(before, zero)
        size = preference(before[name].abs(), gone) if before is not None and not excused else 0.0
        if abs(size) > limit:
            return f"{name}: {'small' if size < 0 else 'large'} weights were preferred"
        at_one_end = int((gone.flatten().int().diff() != 0).sum()) <= 1
        if _too_many_empty_channels(gone) and not at_one_end:
            return f"{name}: whole channels are zero"
        if abs(preference(torch.arange(gone.numel()), gone)) > limit:
            return f"{name}: one end of the layer was preferred"
        gaps = gone.flatten().nonzero().flatten().diff()
        if len(gaps) > 20 and not gone.all() and len(gaps.unique()) == 1:
            return f"{name}: the zeros are at equal distances"
    return ""


def _too_many_empty_channels(gone: torch.Tensor) -> bool:
    """Whether a random choice leaves so many channels empty less than once in a million (at most: a union bound)."""
    empty, share = int(empty_channels(gone).sum()), float(gone.float().mean())
    chance = math.comb(len(gone), empty) * share ** (empty * gone[0].numel())
    return empty > 0 and share < 1 and chance < WRONG_REJECTIONS


def follows_the_start(before: Weights | None, zero: Weights) -> bool:
    """Whether the mask of ``conv1`` prefers weights of one sign, as one drawn with the seed of the training does."""
    return before is not None and abs(preference(before["conv1"], zero["conv1"])) > 3


def name_method(pruned: Pruned) -> str:
    """The method that made these zeros, as far as the weights show, "not pruned" or "undecided".

    "A or B" for whole channels that have the least norm by L1 and by L2.
    """
    layers = [name for name in ALL_LAYERS if pruned.zero[name].any()]
    if not layers or pruned.before is None:
        return "undecided" if layers else "not pruned"
    if not any(pruned.scattered(name) for name in layers):
        norms = [f"structured L{n}" for n in (2, 1) if pruned.least_channels_went(layers, n)]
        return " or ".join(norms) or "random structured"
    if pruned.smallest_went(ALL_LAYERS):
        return "global L1"
    if all(pruned.smallest_went([name]) for name in layers):
        return "local L1"
    return "undecided" if looks_random(pruned.before, pruned.zero, layers) else "random"
