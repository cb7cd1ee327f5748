"""When weights are pruned, and how fast the network learns: at equal epochs for every method.

A run is one or more cycles. In each, the learning rate rises linearly over the first tenth and then falls to zero as a
cosine (Loshchilov and Hutter 2017, "SGDR"), so that every network that is measured has come to rest.
"""

import math
from itertools import pairwise

from labkit.study.points import ROUNDS, Point

GRADUAL_BEGIN, GRADUAL_END = 1 / 12, 2 / 3  # shares of all epochs between which the gradual schedule prunes


def cycles(point: Point) -> list[range]:
    """The epochs of each cycle of the learning rate; together they are all epochs of the point."""
    parts = {"oneshot": 2, "rewind": 2, "iterative": ROUNDS + 1}.get(point.schedule, 1)
    return [range(*ends) for ends in pairwise(point.epochs * number // parts for number in range(parts + 1))]


def kept_weights(point: Point, epoch: int) -> int:
    """How many weights stay from the start of this epoch on.

    ``before``: the target, from the first epoch. ``after``: too, in a network that has been trained before.
    ``oneshot``: the target, after half of the epochs. ``iterative``: the same share of what is left is cut before each
    of three cycles (Han et al. 2015). ``gradual``: the number of zeros rises as a cubic, fast at first, from a twelfth
    to two thirds of the epochs (Zhu and Gupta 2018, "To prune, or not to prune"), once an epoch. ``rewind``: as one-
    shot, but the weights that stay go back to what they were after epoch k (Frankle and Carbin 2019, "The lottery
    ticket hypothesis", k = 0; Frankle et al. 2020, "Linear mode connectivity", k > 0). Unlike there, the learning rate
    starts again, as in every cycle, and the epochs before k are part of the budget: such a ticket has trained for k
    epochs more than one with new weights.
    """
    if point.schedule == "none":
        return point.weights
    if point.schedule in ("before", "after"):
        return point.target
    if point.schedule == "gradual":
        done = (epoch / point.epochs - GRADUAL_BEGIN) / (GRADUAL_END - GRADUAL_BEGIN)
        # The end must have the target, however few epochs there are.
        done = 1.0 if epoch == point.epochs - 1 else min(max(done, 0.0), 1.0)
        return round(point.target + (point.weights - point.target) * (1 - done) ** 3)
    number = sum(cycle.start <= epoch for cycle in cycles(point)) - 1
    return round(point.weights * (point.target / point.weights) ** (number / (len(cycles(point)) - 1)))


def rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate at a step (from 0) of a cycle of so many steps: up to 1, then down to 0."""
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
