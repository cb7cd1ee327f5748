"""Whose a network is: copies of the project's own networks, and networks that two submissions share.

Networks are compared by distance: a copy with a little noise, or one that was saved in half precision, is still a copy.
Each output channel is brought to norm 1 first, since BatchNorm undoes what a channel is multiplied with, and the order
of the channels does not count. The distance of two networks is the second-smallest of those of their four layers, as a
share of the weights' norm, so that other biases and two new layers do not hide a copy.
"""

import base64
import math
from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
import torch
from torch.nn.functional import normalize

from labkit.cnn import CNN
from labkit.course.cases import committed_files, reference_networks
from labkit.course.evidence import CONVOLUTIONS, Pruned, Weights, dense_weights
from labkit.course.result import Results
from labkit.course.task import NETWORKS
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import effective_weight, prunable_layers

# Measured (pairs): copies lie 1e-7 to 1.8e-3 apart (noise up to 1e-3, float16, bfloat16; 385), honest networks of one
# reference after a single short round with seeds of their own 1.0e-2 to 2.0e-2 (528), and from scratch 0.16 and more
# (528). One seed on two processors: 1.5e-2 and more from scratch, but 2e-7 to 4e-3 after a round from a reference.
NEAR = 0.0025
RELATED = 0.1  # is near enough if BatchNorm's numbers are near, too: every training moves those by 1e-2 (528)
PARTS, NUMBERS = 6, 32  # of a sketch (four layers, and what BatchNorm knows), and in each part
OURS, OWN = ", the project's own", "CNN_MNIST, the student's own"
BEFORE, DICE = " before pruning", "the random mask of "


Origin = tuple[str, float, bool]  # what a network is a copy of, how far it is from it, whether it is so bit for bit


@cache
def _committed() -> dict[str, tuple[Weights, torch.Tensor]]:
    """All networks that are committed with the project."""
    networks = reference_networks() | {path.name: load_sparse(path) for path in committed_files()}
    return _sources({f"{name}{OURS}": network for name, network in networks.items()})


def _sources(networks: Mapping[str, CNN]) -> dict[str, tuple[Weights, torch.Tensor]]:
    """Name -> weights and sketch."""
    return {name: (dense_weights(x), _sketch(dense_weights(x), x)) for name, x in networks.items()}


def effective_weights(network: CNN) -> dict[str, torch.Tensor]:
    """Layer -> weights through the masks."""
    return {name: effective_weight(layer).detach() for name, layer in prunable_layers(network).items()}


def origins(networks: Mapping[str, CNN]) -> dict[str, Origin]:
    """Network -> what it is a copy of: a network of the project, or, though it was to be trained, the student's own."""
    own = _sources({OWN: networks["CNN_MNIST"]} if "CNN_MNIST" in networks else {})
    known = {}
    for name, network in networks.items():
        weights, trained = effective_weights(network), not (NETWORKS[name].untrained or NETWORKS[name].dense)
        sketch = _sketch(weights, network)
        for source, (whole, of_whole) in (_committed() | (own if trained else {})).items():
            part = _part(weights, whole)
            possible = [of_whole, torch.cat([_of_weights(part), of_whole[4:]])] if part else [of_whole]
            distance = float(_distances(sketch[None], torch.stack(possible)).min())
            if distance < math.inf:
                known[name] = source, distance, bool(part) and all(torch.equal(part[x], weights[x]) for x in part)
                break
    return known


def _part(weights: Weights, whole: Weights) -> dict[str, torch.Tensor]:
    """What another network has where these weights are not zero; nothing if that is zero somewhere."""
    kept = {name: weight != 0 for name, weight in weights.items()}
    fits = all(whole[x].shape == kept[x].shape and bool(whole[x][kept[x]].all()) for x in kept)
    return {name: whole[name] * kept[name] for name in kept} if fits else {}


def copied(known: Mapping[str, Origin]) -> list[str]:
    """A flag for each network that was copied from; the course itself lets prune its references."""
    flags = []
    for source in dict.fromkeys(source for source, *_ in known.values()):
        copies = {name: origin for name, origin in known.items() if origin[0] == source}
        if source.endswith(f".lks{OURS}") or not all(exact for *_, exact in copies.values()):
            whose = "its" if len(copies) == 1 else "their"
            noise = _noise(distance for _, distance, _ in copies.values())
            flags.append(f"{', '.join(copies)}: {whose} weights are those of {source}{noise}")
    return flags


def _noise(distances: Iterable[float]) -> str:
    largest = max(distances)
    return f", but for about {largest:.0e} of their size" if largest > 0 else ""


# Sketches: a few numbers, between which the distances are nearly those between all numbers of the networks


@cache
def _directions(length: int) -> torch.Tensor:
    """Random directions (Johnson and Lindenstrauss, 1984): projections onto them keep distances."""
    return torch.randn(NUMBERS, length, generator=torch.Generator().manual_seed(length)) / math.sqrt(NUMBERS)


def _projected(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """(parts, NUMBERS): each part, brought to norm 1; NaN where all is zero, which is near to nothing."""
    return torch.stack([_directions(part.numel()) @ (part.flatten() / part.norm()) for part in parts])


def _of_weights(weights: Weights) -> torch.Tensor:
    """(4, NUMBERS): for each layer the sums over its input channels, in an order that does not depend on theirs."""
    rows = {name: normalize(weight.flatten(1), eps=1e-30) for name, weight in weights.items()}
    sums = [rows[name].unflatten(1, (-1, 9)).sum(1).sort(dim=0).values for name in CONVOLUTIONS]
    return _projected([*sums, rows["fc"].unflatten(1, (25, -1)).sum(2)])


def _sketch(weights: Weights, network: CNN) -> torch.Tensor:
    """(PARTS, NUMBERS): of these weights, and of what BatchNorm knows of the images."""
    batches = (network.batch1, network.batch2, network.batch3)
    moments = [torch.cat([getattr(x, name).sort().values for x in batches]) for name in ("running_mean", "running_var")]
    return torch.cat([_of_weights(weights), _projected(moments)])


def _distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n, m): between n and m sketches (n, PARTS, NUMBERS); infinite for those that are not copies."""
    exact = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(first[:, x], second[:, x], compute_mode=exact) for x in range(PARTS)]
    weights = torch.stack(parts[:4]).sort(dim=0).values[1]  # NaN comes last
    near = (weights < NEAR) | ((weights < RELATED) & (parts[4] < NEAR) & (parts[5] < NEAR))
    return weights.where(near, math.inf)


def sketches_of(name: str, network: CNN, pruned: Pruned, method: str, *, known: bool) -> dict[str, str]:
    """What is to be compared with other submissions -> its sketch, as text.

    Args:
        name: of the network.
        network: with its masks, if it has some.
        pruned: how it was pruned.
        method: by which method; "" if it was trained since.
        known: whether it is known whose it is. Prunings of one reference differ only in the random choice.
    """
    made = {} if known else {name: _sketch(effective_weights(network), network)}
    if method and pruned.before is not None and not known:
        made[f"{name}{BEFORE}"] = _sketch(pruned.before, network)
    if method == "random":
        places = torch.cat([pruned.zero[x].flatten() for x in CONVOLUTIONS]).float()
        # A mask that was changed a little is near, too: independent ones lie 1.4 apart.
        made[f"{DICE}{name}"] = torch.cat([_projected((places - places.mean()).chunk(4)) / 5, torch.zeros(2, NUMBERS)])
    return {label: base64.b64encode(sketch.numpy().tobytes()).decode() for label, sketch in made.items()}


def equal_networks(results: Results, groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Submission -> flags, for networks and random masks that two of different groups share.

    Args:
        results: submission -> what ``grade`` found.
        groups: submission -> its group; those of one group may share everything.
    """
    rows = [(key, *item) for key in results for row in results[key].networks.values() for item in row.sketches.items()]
    numbers = np.frombuffer(base64.b64decode("".join(text for *_, text in rows)), np.float32)
    sketches = torch.tensor(numbers).view(-1, PARTS, NUMBERS)
    flags: dict[str, list[str]] = {}
    for key in results:
        own = [place for place, row in enumerate(rows) if row[0] == key]
        distances = _distances(sketches[own], sketches)
        shared: dict[str, dict[str, float]] = {}
        for first, second in distances.isfinite().nonzero().tolist():
            other, label = rows[second][0], rows[own[first]][1]
            if groups[other] != groups[key]:
                nearest = shared.setdefault(other, {})
                nearest[label] = min(float(distances[first, second]), nearest.get(label, math.inf))
        if shared:
            flags[key] = _about_the_shared(shared)
    return flags


def _about_the_shared(shared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One flag for all submissions that share the same networks."""
    others: dict[tuple[str, ...], list[str]] = {}
    for other, distances in sorted(shared.items()):
        labels = [x for x in sorted(distances) if not (x.endswith(BEFORE) and x.removesuffix(BEFORE) in distances)]
        others.setdefault(tuple(labels), []).append(other)
    flags = []
    for (first, *rest), keys in others.items():
        more = f", and so do {', '.join(rest)}" if rest else ""
        noise = _noise(distance for key in keys for distance in shared[key].values())
        flags.append(f"{first} equals that of {', '.join(keys[:5])}{noise}{more}: one seed, or a copy?")
    return flags
