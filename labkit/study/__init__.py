"""The study of the frontier: many networks, pruned in many ways, at equal cost."""

from labkit.study.budgets import choose_masks, layer_budgets
from labkit.study.criteria import CRITERIA
from labkit.study.damage import Damage, add_noise, compare, images_of, predict, turn, under_stress
from labkit.study.figures import draw_damage, draw_frontier, draw_pairs, draw_stress
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
from labkit.study.plans import plan
from labkit.study.points import Point
from labkit.study.pool import run_plan
from labkit.study.records import Record, add_record, read_records
from labkit.study.run import run_point
from labkit.study.schedules import cycles, kept_weights

__all__ = [
    "CRITERIA",
    "PUBLISHED",
    "Damage",
    "Estimate",
    "Operating",
    "Point",
    "Published",
    "Record",
    "add_noise",
    "add_record",
    "choose_masks",
    "compare",
    "curve",
    "cycles",
    "draw_damage",
    "draw_frontier",
    "draw_pairs",
    "draw_stress",
    "estimate",
    "images_of",
    "kept_weights",
    "layer_budgets",
    "load_frontier",
    "load_frontier_network",
    "operating_points",
    "paired",
    "plan",
    "predict",
    "read_records",
    "run_plan",
    "run_point",
    "turn",
    "under_stress",
]
