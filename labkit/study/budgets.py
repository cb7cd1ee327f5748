"""Budgets: how many weights each layer keeps, and the masks that follow from scores.

A weight that is masked never comes back.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral

import torch

from labkit.large.two_four import in_fours, mask_2_4, two_of_four
from labkit.study.points import SCOPES, require

Masks = dict[str, torch.Tensor]


def choose_masks(scores: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor], kept: int, scope: str) -> Masks:
    """New masks that keep the weights with the highest scores, among those that the old masks keep.

    Args:
        scores: layer -> number for each weight; infinite ones are the highest or the lowest.
        masks: layer -> 0 or 1 for each weight, of the same layers and in the same shapes.
        kept: weights to keep in all layers together, a whole number, at least one per layer.
        scope: ``"global"``: wherever the highest scores are. ``"local"``: the same share of each layer. ``"erk"``: a
            larger share of small layers (``layer_budgets``). ``"row"``: the same share of each output of each layer;
            a remainder goes to the first ones, and what an output has not got, no other keeps. ``"2:4"``: two of each
            four neighbours; of layers whose outputs have a number of weights that four does not divide, all.

    Returns:
        Layer -> mask; together they keep ``kept`` weights, or what there is if the old masks keep fewer.

    Raises:
        ValueError: scores and masks that do not fit, scores that are NaN, no whole number of weights to keep, more or
            fewer than there can be, or an unknown scope.
    """
    # Scores of another shape would be spread over the mask, and a layer without scores would lose its mask.
    for name in {**masks, **scores}:
        score, mask = (tuple(part[name].shape) if name in part else "none" for part in (scores, masks))
        if score != mask:
            raise ValueError(f"{name} has scores {score} and mask {mask}; they must have the same layers and shapes")
    kept = _whole(kept)
    for name, numbers in scores.items():
        if numbers.isnan().any():
            raise ValueError(f"{name} has {int(numbers.isnan().sum())} scores that are NaN; all must be numbers")
    weights = sum(mask.numel() for mask in masks.values())
    rule = f"it must be from {len(masks)} (one weight per layer) to {weights:,} (all)"
    require("kept", kept, len(masks) <= kept <= weights, rule)
    require("scope", scope, scope in SCOPES[1:], f"it must be one of {', '.join(SCOPES[1:])}")
    # On the processor, where random numbers come from, too: a tie must not be resolved differently on a GPU.
    ranked = {name: score.cpu().double().flatten() for name, score in scores.items()}
    alive = {name: masks[name].cpu().flatten() > 0 for name in ranked}
    if scope == "global":
        together = _highest(torch.cat(list(ranked.values())), torch.cat(list(alive.values())), kept)
        parts = together.split([score.numel() for score in ranked.values()])
        return {name: part.view_as(masks[name]) for name, part in zip(ranked, parts, strict=True)}
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    if scope == "2:4":
        require("kept", kept, kept == two_of_four(shapes), f"2:4 keeps {two_of_four(shapes):,} of these weights")
        fours = {name: torch.where(alive[name], ranked[name], -torch.inf).view(shapes[name]) for name in masks}
        chosen = {name: mask_2_4(fours[name]) if in_fours(shapes[name]) else masks[name] for name in masks}
        return {name: mask.cpu().float() * (masks[name].cpu() > 0) for name, mask in chosen.items()}
    left = {name: int(alive[name].sum()) for name in masks}
    wishes = layer_budgets(shapes, kept, "erk" if scope == "erk" else "local")
    budgets = {name: min(wish, left[name]) for name, wish in wishes.items()}
    # A rounded share may grow while the network shrinks; what a layer has not got, the others keep.
    for _ in range(min(kept, sum(left.values())) - sum(budgets.values())):
        budgets[max(left, key=lambda name: left[name] - budgets[name])] += 1
    rows = {name: shapes[name][0] if scope == "row" else 1 for name in masks}
    return {n: _highest(ranked[n], alive[n], budgets[n], rows[n]).view_as(masks[n]) for n in ranked}


def layer_budgets(shapes: Mapping[str, Sequence[int]], kept: int, scope: str) -> dict[str, int]:
    """How many weights each layer keeps; the sum is ``kept``.

    Args:
        shapes: layer -> shape of its weight.
        kept: of all layers together, a whole number.
        scope: ``"local"``: every layer keeps the same share. ``"erk"``: a convolution's share follows
            (in + out + height + width) / (in · out · height · width), a linear layer's (in + out) / (in · out), and is
            at most 1 (Evci et al. 2020, "Rigging the lottery", after Mocanu et al. 2018).

    Raises:
        ValueError: an unknown scope, no whole number of weights to keep, more than there are, or a layer of which
            nothing would be left.
    """
    kept = _whole(kept)
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    require("scope", scope, scope in ("local", "erk"), "it must be 'local' or 'erk'")
    wishes = {name: float(sum(shapes[name]) if scope == "erk" else size) for name, size in sizes.items()}
    require("kept", kept, kept <= sum(sizes.values()), f"it must be at most {sum(sizes.values()):,} (all)")
    exact, rest = dict[str, float](), float(kept)
    # What a full layer cannot take goes to the others, which may fill a further one.
    while full := [name for name, wish in wishes.items() if rest * wish / sum(wishes.values()) >= sizes[name]]:
        exact |= {name: float(sizes[name]) for name in full}
        wishes = {name: wish for name, wish in wishes.items() if name not in full}
        rest = kept - sum(exact.values())
    exact |= {name: rest * wish / sum(wishes.values()) for name, wish in wishes.items()}
    budgets = {name: int(exact[name]) for name in sizes}
    # Whole numbers with the same sum: the largest remainders are rounded up.
    by_remainder = sorted(sizes, key=lambda name: budgets[name] - exact[name])
    for name in by_remainder[: round(sum(exact.values())) - sum(budgets.values())]:
        budgets[name] += 1
    if empty := [name for name, budget in budgets.items() if budget < 1]:
        raise ValueError(f"{kept} weights with the scope {scope!r} leave {', '.join(empty)} without any; keep more")
    return budgets


def _highest(scores: torch.Tensor, alive: torch.Tensor, count: int, rows: int = 1) -> torch.Tensor:
    """1 for the ``count`` highest of (N,) scores among those that are alive, (N,) bool, or for these all; else 0.

    With more rows than one the same number in each; a remainder goes to the first ones.
    """
    chosen = torch.zeros(len(scores))
    for row, part in enumerate(torch.arange(len(scores)).chunk(rows)):
        # Masked places are left out, not ranked low: whatever its score, one that is alive goes before them.
        places = part[alive[part]]
        # A stable sort breaks ties by place, on every machine alike.
        order = scores[places].argsort(descending=True, stable=True)
        chosen[places[order[: count // rows + (row < count % rows)]]] = 1
    return chosen


def _whole(kept: int) -> int:
    require("kept", kept, isinstance(kept, Integral) and not isinstance(kept, bool), "it must be a whole number")
    return int(kept)  # of numpy, too
