"""Whose a network is: copies of the project's own networks, and networks that two submissions share.

Networks are compared by distance, since a copy with a little noise, or one that was saved in half precision, is still a
copy. Each output channel is brought to norm 1 first: BatchNorm undoes what a channel is multiplied with. The distance
of two networks is the second-smallest of those of their four layers, as a share of the weights' norm, so that other
biases, other BatchNorm numbers and two layers of one's own do not hide a copy.
"""

import base64
import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from labkit.cnn import CNN
from labkit.course.cases import committed_files, references
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, Pruned, Weights, dense_weights
from labkit.course.result import Result
from labkit.course.task import NETWORKS
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import effective_weight, prunable_layers

NEAR = 0.0025
SAME_DICE = 0.5
NUMBERS = 32  # in the sketch of a layer
OURS, OWN = ", the project's own", "CNN_MNIST, the student's own"
BEFORE, DICE = " before pruning", "the random mask of "


class Origin(NamedTuple):
    """A network that another one is a copy of, or of which it is a part.

    Attributes:
        distance: of the two, as a share of the weights' norm.
        source: its name, in words.
        allowed: whether a flag is not called for: the course lets prune its references, and tells of one as it is.
    """

    distance: float
    source: str
    allowed: bool


@cache
def reference_weights() -> dict[str, Weights]:
    """Name -> weights of the reference networks, read once."""
    return references()


@cache
def _committed() -> dict[str, Weights]:
    """Name -> weights of every network that is committed with the project."""
    files = {path.name: dense_weights(load_sparse(path)) for path in committed_files()}
    return {f"{name}{OURS}": weights for name, weights in (reference_weights() | files).items()}


@cache
def _committed_sketches() -> torch.Tensor:
    return torch.stack([_sketch(weights) for weights in _committed().values()])


def effective_weights(network: CNN) -> dict[str, torch.Tensor]:
    """Layer -> weights through the masks."""
    return {name: effective_weight(layer).detach() for name, layer in prunable_layers(network).items()}


def origins(networks: Mapping[str, CNN]) -> dict[str, Origin]:
    """Network -> what it is a copy of: a network of the project, or, though it was to be trained, the student's own."""
    known = {}
    base = dense_weights(networks["CNN_MNIST"]) if "CNN_MNIST" in networks else None
    for name, network in networks.items():
        weights = effective_weights(network)
        sketched = _distances(_sketch(weights)[None], _committed_sketches())[0].tolist()
        nearest = min(_origin(weights, source, apart) for source, apart in zip(_committed(), sketched, strict=True))
        if nearest.distance >= NEAR and base and not (NETWORKS[name].untrained or NETWORKS[name].dense):
            nearest = Origin(_part_distance(weights, base), OWN, _is_part_of(weights, base))
        if nearest.distance < NEAR:
            known[name] = nearest
    return known


def _origin(weights: Weights, source: str, sketched: float) -> Origin:
    whole = _committed()[source]
    distance = min(_part_distance(weights, whole), math.inf if math.isnan(sketched) else sketched)
    return Origin(distance, source, source.startswith("the reference") and _is_part_of(weights, whole))


def copied(known: Mapping[str, Origin]) -> list[str]:
    """A flag for each network that was copied from, with all its copies in a submission."""
    flags = []
    for source in dict.fromkeys(origin.source for origin in known.values() if not origin.allowed):
        names = [name for name, origin in known.items() if origin.source == source and not origin.allowed]
        whose = "its" if len(names) == 1 else "their"
        noise = _in_words(max(known[name].distance for name in names))
        flags.append(f"{', '.join(names)}: {whose} weights are those of {source}{noise}")
    return flags


def _in_words(distance: float) -> str:
    return f", but for about {distance:.0e} of their size" if distance > 0 else ""


def _is_part_of(part: Weights, whole: Weights) -> bool:
    """Whether all nonzero weights of one network stand in another one, bit for bit."""
    alike = all(part[name].shape == whole[name].shape for name in part)
    return alike and all(torch.equal(part[name], whole[name] * (part[name] != 0)) for name in part)


def _part_distance(part: Weights, whole: Weights) -> float:
    """How far the nonzero weights of one network are from those that stand in their places in another one."""
    distances: list[float] = []
    for name in ("conv1", "conv2", "fc", "conv3"):
        if part[name].shape != whole[name].shape or (len(distances) == 3 and min(distances) >= NEAR):
            return math.inf
        own = _unit_rows(part[name])
        apart = float((own - _unit_rows(whole[name] * (part[name] != 0))).norm() / own.norm())
        distances.append(math.inf if math.isnan(apart) else apart)  # an empty layer, or one of odd numbers
    return sorted(distances)[1]


def _unit_rows(weight: torch.Tensor) -> torch.Tensor:
    """(out, in): the weights of each output channel, at norm 1 unless all are zero."""
    return torch.nn.functional.normalize(weight.flatten(1), eps=1e-30)


# Sketches: a few numbers in which networks have nearly the distances that they have in all their weights


@cache
def _directions(length: int) -> torch.Tensor:
    """Random directions (Johnson and Lindenstrauss, 1984): projections onto them keep distances."""
    dice = torch.Generator().manual_seed(length)
    return torch.randn(NUMBERS, length, generator=dice) / math.sqrt(NUMBERS)


def _projected(values: torch.Tensor) -> torch.Tensor:
    """(NUMBERS,) for values of any shape, brought to norm 1; NaN where all are zero, which is near to nothing."""
    values = values.flatten()
    return _directions(len(values)) @ (values / values.norm())


def _sketch(weights: Weights) -> torch.Tensor:
    """(4, NUMBERS): for each layer the sums over its input channels, in an order that does not depend on theirs."""
    sums = [_unit_rows(weights[name]).unflatten(1, (-1, 9)).sum(1).sort(dim=0).values for name in CONVOLUTIONS]
    return torch.stack(
        [_projected(values) for values in (*sums, _unit_rows(weights["fc"]).unflatten(1, (25, -1)).sum(2))]
    )


def _sketch_of_dice(zero: Weights) -> torch.Tensor:
    """(4, NUMBERS): for each quarter of a random mask of the convolutions."""
    places = torch.cat([zero[name].flatten() for name in CONVOLUTIONS]).float()
    return torch.stack([_projected(quarter) for quarter in (places - places.mean()).chunk(4)])


def _distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n, m): of n and m sketches (n, 4, NUMBERS), in the two layers that are nearest to each other."""
    exact = "donot_use_mm_for_euclid_dist"
    layers = [torch.cdist(first[:, x], second[:, x], compute_mode=exact) for x in range(len(ALL_LAYERS))]
    return torch.stack(layers).sort(dim=0).values[1]  # NaN comes last


def sketches_of(name: str, network: CNN, pruned: Pruned, method: str, *, known: bool) -> dict[str, str]:
    """What is to be compared with other submissions -> its sketch, as text.

    Args:
        name: of the network.
        network: with its masks, if it has some.
        pruned: how it was pruned.
        method: by which method; "" if it was trained since.
        known: whether it is known whose it is. Prunings of one reference are equal but for the dice.
    """
    made = {} if known else {name: _sketch(effective_weights(network))}
    if method and pruned.before is not None and not known:
        made[f"{name}{BEFORE}"] = _sketch(pruned.before)
    if method == "random":
        made[f"{DICE}{name}"] = _sketch_of_dice(pruned.zero)
    return {label: base64.b64encode(sketch.numpy().tobytes()).decode() for label, sketch in made.items()}


def equal_networks(results: Mapping[str, Result], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Submission -> flags, for networks that two of different groups share though their seeds differ.

    Args:
        results: submission -> what ``grade`` found.
        groups: submission -> its group; those of one group may share everything.
    """
    rows = [(key, *item) for key in results for row in results[key].networks.values() for item in row.sketches.items()]
    numbers = [np.frombuffer(base64.b64decode(text), np.float32) for *_, text in rows]
    sketches = torch.from_numpy(np.array(numbers, np.float32)).view(-1, len(ALL_LAYERS), NUMBERS)
    limits = torch.tensor([SAME_DICE if label.startswith(DICE) else NEAR for _, label, _ in rows])
    flags: dict[str, list[str]] = {}
    for key in results:
        own = [place for place, row in enumerate(rows) if row[0] == key]
        distances = _distances(sketches[own], sketches)
        shared: dict[str, dict[str, float]] = {}
        for first, second in (distances < limits[own, None]).nonzero().tolist():
            other, label = rows[second][0], rows[own[first]][1]
            if groups[other] != groups[key]:
                shared.setdefault(other, {})[label] = float(distances[first, second])
        if shared:
            flags[key] = _about_the_shared(shared)
    return flags


def _about_the_shared(shared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One flag for all submissions that share the same networks."""
    others: dict[tuple[str, ...], list[str]] = {}
    for other, distances in sorted(shared.items()):
        labels = (label for label in sorted(distances) if label.removesuffix(BEFORE) not in {*distances} - {label})
        others.setdefault(tuple(labels), []).append(other)
    flags = []
    for (first, *rest), keys in others.items():
        noise = _in_words(max(max(shared[key].values()) for key in keys))
        more = f", and so do {', '.join(rest)}" if rest else ""
        flags.append(f"{first} equals that of {', '.join(keys[:5])}{noise}{more}")
    return flags
