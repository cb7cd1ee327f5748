"""The tasks of notebook 08."""

from collections.abc import Callable, Mapping

import torch

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, SIZES, Evidence, Pruned, Weights, read_pruning
from labkit.course.given import tensors
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict, first_hint
from labkit.study.budgets import choose_masks
from labkit.study.criteria import lamp_scores

AGAIN = "it is still the dense clone: prune it, train it, and run the cell again"
IN_PLACE = "put each sorted score back in its place, scores[order] = …"
LAMP = "w² over the sum of all w² >= it"
Score = Callable[[torch.Tensor], torch.Tensor]  # of a layer's |w|, flat
ALL, SPARSE, LAMP_KEPT = sum(SIZES.values()), 800, 10_000  # weights that there are, and that stay


def _lamp_masks(masks: Pruned) -> list[Finding]:
    """08: the 10,000 weights of highest LAMP score of all four layers stay."""
    gone = masks.zeros()
    kept = ALL - gone
    hint = f"{kept:,} weights stay; count them in all four layers together"
    if abs(gone - LAMP_KEPT) <= judging.TIES:
        hint += f". {LAMP_KEPT:,} must stay, not go: a 1 keeps a weight"
    total = judging.counted(kept, LAMP_KEPT, ALL, "stay", hint)
    before = masks.before if judging.is_whole(masks.before) else None
    holds: bool | None = min(kept, gone) >= 1_000  # else there is next to nothing to compare
    if holds:
        stayed = {name: ~masks.zero[name] for name in ALL_LAYERS}
        # Sums in float32 move scores in their last digits, and with them the order of neighbours.
        holds = None if before is None else _misplaced(stayed, before, lamp_scores, kept) <= 2 * 10 * judging.TIES
    hint = _hint_for_lamp(before, masks, kept) if holds is False else ""
    return [total, Finding(holds, "the highest scores of all layers stayed", hint, 2)]


def _misplaced(chosen: Weights, before: Weights, score: Score, count: int) -> int:
    """Number of positions in which a choice differs from that of so many highest scores of all layers."""
    flat = {name: before[name].double().abs().flatten() for name in ALL_LAYERS}
    # Any network may come in, one with NaN too.
    scores = {name: score(flat[name]).nan_to_num().view_as(before[name]) for name in ALL_LAYERS}
    everything = {name: torch.ones_like(scores[name]) for name in ALL_LAYERS}
    highest = choose_masks(scores, everything, count, "global")
    return sum(int(((highest[name] != 0) != chosen[name]).sum()) for name in ALL_LAYERS)


def _hint_for_lamp(before: Weights | None, masks: Pruned, kept: int) -> str:
    """08: why these are not the highest LAMP scores."""
    hint = f"a dropped weight has a higher score than a kept one: {LAMP}, in its layer"
    if all(_kept_in_a_row(masks.zero[name]) for name in ALL_LAYERS):
        return f"in every layer the first or last weights stay: {IN_PLACE}"
    if before is None:
        return hint
    if masks.spread(ALL_LAYERS) < 0.005:
        return f"{judging.EQUAL_SHARES}: one threshold for all four layers together; {hint}"
    stayed = {name: ~masks.zero[name] for name in ALL_LAYERS}
    for mistake, score in MISTAKEN_LAMP.items():
        if _misplaced(stayed, before, score, kept) <= kept // 100:
            return mistake
    if _misplaced(masks.zero, before, lamp_scores, ALL - kept) <= (ALL - kept) // 100:
        return f"the highest scores were dropped: a 1 keeps a weight, a 0 drops it; {hint}"
    return hint


def _sums(values: torch.Tensor, *, descending: bool) -> torch.Tensor:
    """For each value the sum of those that are not smaller, or not larger."""
    ordered, order = values.sort(descending=descending)
    return torch.empty_like(values).scatter(0, order, ordered.cumsum(0))


def _gathered(values: torch.Tensor) -> torch.Tensor:
    falling, order = values.square().sort(descending=True)
    return (falling / falling.cumsum(0))[order]


# Scores that are often taken for LAMP scores -> what to look at.
MISTAKEN_LAMP: Mapping[str, Score] = {
    "these are the largest |w| of all layers: divide each w² by the sum of all w² >= it, in its layer": torch.abs,
    "you used |w|: the score is w² over the sum of w²": lambda size: size / _sums(size, descending=True),
    f"the sum runs over the smaller weights: {LAMP}": lambda size: size**2 / _sums(size**2, descending=False),
    "each w² was divided by the same sum: w² over the sum of those w² only that are >= it": lambda size: (
        size**2 / (size**2).sum()
    ),
    "each score comes from the place of another weight: scores[order] = sorted_scores, not sorted_scores[order]": (
        _gathered
    ),
}


def _kept_in_a_row(gone: torch.Tensor) -> bool:
    """Whether the weights that stay are the first or the last ones of their layer."""
    return int((gone.flatten().int().diff() != 0).sum()) == 1


def _golf(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """08: at most 800 nonzero weights of CNN(), and trained again."""
    judging.check_shapes(network)
    pruned = read_pruning(network, {})
    weights = pruned.weights(pruned.zero) - pruned.zeros(pruned.zero)
    if weights >= ALL - judging.TIES:  # a weight may start as exactly 0
        return Verdict(task)  # a clone that nothing was done to
    empty = [name for name in pruned.zero if pruned.share([name]) == 1]
    steps = "use steps such as 10,000, 4,000, 2,000, 800, and train between; did it train again?"
    hint, nearly = f"do not prune in one step: {steps}", SPARSE < weights <= 10 * SPARSE
    hints = {
        f"{', '.join(empty)} has no weight left": bool(empty),
        f"{weights - SPARSE:,} too many: prune one more step, then train again. {hint}": nearly,
    }
    hint = first_hint(hints, hint)
    few = Finding(0 < weights <= SPARSE, f"{weights:,} nonzero weights, at most {SPARSE:,} were asked for", hint, 2)
    return Verdict(task, [few, judging.accurate(evidence.accuracy(network), judging.GOOD, hint, 2)])


LAMP_MASKS = judging.masks_by_hand(_lamp_masks, *ALL_LAYERS)
COUNT = "a number of weights, from 1 to 124,448, was asked for, such as 5000"
TITLE, STYLE = "at most 800 weights, trained again", Style("*", "#56B4E9", "GOLF: at most 800 weights")
ATTRIBUTES = {"layers": ALL_LAYERS, "levels": (judging.GOOD,)}
TASKS = (
    judging.prediction_task("08", "fewest weights with a mean of at least 95 %", COUNT, 1, ALL, ALL, 1_244),
    Task("08-masks", "10,000 weights by LAMP scores by hand", 3, LAMP_MASKS, tensors(*ALL_LAYERS)),
    judging.network_task("08-golf", TITLE, 4, _golf, "CNN_MNIST_GOLF", AGAIN, STYLE, **ATTRIBUTES),
)
