"""Whose a network is: copies of the project's own networks, and networks that two submissions share."""

import hashlib
from collections.abc import Mapping
from functools import cache

import torch

from labkit.cnn import CNN
from labkit.course.cases import committed_files, references
from labkit.course.evidence import Weights, dense_weights
from labkit.course.result import Result
from labkit.course.task import NETWORKS
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import effective_weight, prunable_layers


@cache
def reference_weights() -> dict[str, Weights]:
    """Name -> weights of the reference networks, read once."""
    return references()


def copied(networks: Mapping[str, CNN]) -> list[str]:
    """Small networks whose weights are those of a network that is committed with the project."""
    return [
        f"{name}: its weights are those of {file}, the project's own"
        for name in networks
        if NETWORKS[name].committed
        for file, weights in _committed().items()
        if _is_part_of({x: effective_weight(y) for x, y in prunable_layers(networks[name]).items()}, weights)
    ]


@cache
def _committed() -> dict[str, Weights]:
    return {path.name: dense_weights(load_sparse(path)) for path in committed_files()}


def _is_part_of(part: Weights, whole: Weights) -> bool:
    """Whether all nonzero weights of one network stand in another one."""
    alike = all(part[name].shape == whole[name].shape for name in part)
    return alike and all(torch.equal(part[name], whole[name] * (part[name] != 0)) for name in part)


def same(first: Weights, second: Weights) -> bool:
    """Whether all weights are equal, bit for bit."""
    return all(torch.equal(first[name], second[name]) for name in first)


def digest_of(network: CNN) -> str:
    """SHA-256 of what a network computes with: its weights through the masks, and all other numbers."""
    digest = hashlib.sha256()
    for layer in prunable_layers(network).values():
        digest.update(effective_weight(layer).contiguous().numpy().tobytes())
    for key, tensor in sorted(network.state_dict().items()):
        if key.startswith("batch"):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def equal_networks(results: Mapping[str, Result], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Submission -> flags, for networks that two of different groups share though their seeds differ.

    Args:
        results: submission -> what ``grade`` found.
        groups: submission -> its group; those of one group may share everything.
    """
    owners: dict[tuple[str, str], set[str]] = {}
    for key, result in results.items():
        for name, row in result.networks.items():
            # Prunings of the same base are equal for honest students, where no dice are thrown.
            if not row.from_reference:
                owners.setdefault((name, row.digest), set()).add(key)
                owners.setdefault((f"{name} before pruning", row.dense), set()).add(key)
    found: dict[str, list[str]] = {}
    for (name, _), keys in owners.items():
        for key in keys:
            others = sorted(other for other in keys if groups[other] != groups[key])
            if others:
                found.setdefault(key, []).append(f"{name} equals that of {', '.join(others[:5])}")
    return found
