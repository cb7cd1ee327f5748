"""The study of the frontier: many networks, pruned in many ways, at equal cost."""

from labkit.study.budgets import choose_masks, layer_budgets
from labkit.study.criteria import CRITERIA
from labkit.study.damage import Damage, add_noise, compare, images_of, predict, turn, under_stress
from labkit.study.figures import draw_damage, draw_frontier, draw_inflation, draw_pairs, draw_stress
from labkit.study.frontier import (
    PUBLISHED,
    Estimate,
    Operating,
    Published,
    curve,
    estimate,
    load_frontier,
    load_frontier_network,
    operating_points,
    paired,
)
from labkit.study.inflation import Inflation, inflation, load_many_runs
from labkit.study.plans import plan
from labkit.study.points import Point
from labkit.study.pool import run_plan
from labkit.study.records import Record, add_record, read_records
from labkit.study.run import run_point
from labkit.study.schedules import cycles, kept_weights

# The names of the imports above.
__all__ = sorted(name for name, thing in globals().items() if callable(thing) or name.isupper())
