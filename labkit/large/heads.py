"""Whole heads of attention and whole channels of an MLP: silenced by a mask, then cut out.

What ``out`` does not read of a head, and ``down`` of a channel, changes nothing. So both can go, exactly: no batch norm
stands between, as it does in the CNN.
"""

import torch
from torch.nn.utils import prune

from labkit.large.row_transformer import HEAD, RowTransformer
from labkit.smaller.shrink import check_chain
from labkit.sparsity import bake_masks, clone, effective_weight

READERS = {"heads": ("out", HEAD), "channels": ("down", 1)}  # what reads them, and how many of its inputs are one


def unit_norms(model: RowTransformer, kind: str) -> list[torch.Tensor]:
    """L2 norm of what reads each head or channel: for each block (heads,) or (channels,).

    Args:
        model: the network.
        kind: ``"heads"`` or ``"channels"``.

    Raises:
        ValueError: another kind or network.
    """
    check_chain(model, RowTransformer)
    reader, size = _reader(kind)
    weights = (effective_weight(block.get_submodule(reader)) for block in model.blocks)
    return [weight.unflatten(1, (-1, size)).norm(dim=(0, 2)) for weight in weights]


def without_units(model: RowTransformer, kind: str, chosen: list[list[int]]) -> RowTransformer:
    """A clone in which nothing reads the chosen heads or channels of each block: masks on ``out`` or ``down``.

    Raises:
        ValueError: another kind or network, numbers that there are not, or all of a block.
    """
    check_chain(model, RowTransformer)
    reader, size = _reader(kind)
    if len(chosen) != len(model.blocks):
        raise ValueError(f"chosen are {chosen}; there must be a list for each of {len(model.blocks)} blocks")
    pruned = clone(model)
    for block, numbers, count in zip(pruned.blocks, chosen, getattr(model, kind), strict=True):
        if not set(numbers) < set(range(count)):
            raise ValueError(f"chosen are {numbers} of {count} {kind}; some must stay, and those that go must exist")
        layer = block.get_submodule(reader)
        mask = torch.ones_like(effective_weight(layer)).unflatten(1, (count, size))
        mask[:, list(numbers)] = 0
        prune.custom_from_mask(layer, "weight", mask.flatten(1))
    return pruned


@torch.no_grad()
def cut_units(model: RowTransformer) -> RowTransformer:
    """A smaller copy without the heads and channels that nothing reads: logits agree up to rounding.

    Masks are baked in: the copy is a plain ``RowTransformer``, of the same precision, on the same device, in the same
    mode. A head goes with its rows of ``query``, ``key`` and ``value`` and its columns of ``out``; a channel with its
    row of ``up`` and its column of ``down``.

    Raises:
        ValueError: another network, or a block of which no head or no channel would be left.
    """
    stay = {kind: [(norms > 0) for norms in unit_norms(model, kind)] for kind in READERS}
    sizes = {kind: tuple(int(block.sum()) for block in blocks) for kind, blocks in stay.items()}
    for kind, counts in sizes.items():
        if 0 in counts:
            raise ValueError(f"block {counts.index(0)} has no {kind} that are read; each must keep at least one")
    baked = bake_masks(model)
    state = baked.state_dict()
    for number in range(len(model.blocks)):
        heads, channels = stay["heads"][number].repeat_interleave(HEAD), stay["channels"][number]
        for key in [key for key in state if key.startswith(f"blocks.{number}.")]:
            layer, what = key.split(".")[2:]
            if layer in ("query", "key", "value"):
                state[key] = state[key][heads]
            elif layer == "up":
                state[key] = state[key][channels]
            elif layer in ("out", "down") and what == "weight":
                state[key] = state[key][:, heads if layer == "out" else channels]
    with torch.device("meta"):
        small = RowTransformer(model.width, **sizes)
    small.load_state_dict(state, assign=True)
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(baked.get_parameter(name).requires_grad)
    return small.train(model.training)


def _reader(kind: str) -> tuple[str, int]:
    if kind not in READERS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(READERS)}")
    return READERS[kind]
