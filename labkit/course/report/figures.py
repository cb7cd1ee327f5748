"""Figures of the reports, as SVG text that needs no other file."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from labkit.course.result import MeasuredNetwork
from labkit.course.task import NETWORKS, Style
from labkit.plots import BLUE, GREY, VERMILION
from labkit.study.frontier import PUBLISHED

NAMED = 12  # players on golf's front whose names are in the figure
Networks = Mapping[str, MeasuredNetwork]


def network_styles() -> dict[str, Style]:
    """Network -> how it is drawn, in the order of the tasks."""
    return {name: task.style for name, task in NETWORKS.items() if task.style}


def svg_of(figure: Figure, description: str) -> Markup:
    """The figure as one ``<svg>`` that can be scrolled, whose ids do not meet those of another figure on the page."""
    stream = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": description, "font.size": 10}
    with mpl.rc_context(settings):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    svg = text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)
    return Markup(f'<div class="figure" tabindex="0">{svg}</div>')


def accuracy_sparsity(everybody: Sequence[Networks], own: Networks | None = None) -> Markup:
    """Accuracy against sparsity: one point for each network; with ``own``, these stand out."""
    figure = Figure(figsize=(8, 4.2))
    ax = figure.subplots()
    for name, (marker, colour, label) in network_styles().items():
        points = [(row[name].sparsity, row[name].accuracy) for row in everybody if name in row]
        mine = (own or {}).get(name)
        if points:
            x, y = 100 * np.array(points).T
            faint = 0.75 if own is None else 0.25
            ax.scatter(x, y, marker=marker, color=colour, s=30, alpha=faint, label=label, edgecolors="white", lw=0.5)
        if mine:
            at = (100 * mine.sparsity, 100 * mine.accuracy)
            ax.scatter(*at, marker=marker, color=colour, s=110, edgecolors="black", label=None if points else label)
    ax.set(xlabel="sparsity of the pruned layers [%]", ylabel="test accuracy [%]", ylim=(0, 102))
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        for handle in filter(None, legend.legend_handles):
            handle.set_alpha(1)  # if they were as faint as the class's marks, they would all look the same
    return svg_of(figure, "Test accuracy against sparsity")


def golf_board(
    players: Sequence[Any], own: Sequence[Any], front: Sequence[Any], par: Callable[[int], float | None]
) -> Markup:
    """Error against nonzero weights: the scores of the players and of the project, what was published, front and par.

    Args:
        players: scores with ``player``, ``weights`` and ``accuracy``.
        own: those of the project's networks.
        front: those of both that nobody beats, fewest weights first.
        par: weights -> the accuracy that the project's networks reach with them.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.subplots()
    ax.scatter(*_places(players), marker="o", color=VERMILION, s=40, label="players", zorder=4)
    ax.scatter(*_places(own), marker="s", color=BLUE, s=40, label="labkit's own networks", zorder=3)
    if own:
        sizes = np.geomspace(max(own[0].weights, 1), max(one.weights for one in own), 200)
        errors = [_error(par(round(size)) or 0.0) for size in sizes]
        ax.plot(sizes, errors, color=BLUE, lw=1, linestyle=":", label="par")
    x, y = [point.nonzero for point in PUBLISHED], [100 * point.error for point in PUBLISHED]
    label = "published, images as they are"
    ax.scatter(x, y, marker="d", s=50, color=GREY, edgecolors="black", linewidths=0.6, label=label)
    ax.step(*_places(front), where="post", color="black", linewidth=1, label="the front")
    ax.set(xscale="log", yscale="log", xlabel="nonzero weights", ylabel="error [%]")
    for axis, form in ((ax.xaxis, "{x:,.0f}"), (ax.yaxis, "{x:g}")):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(form)
    ax.minorticks_off()
    for one in [one for one in front[:NAMED] if one not in own and one.player.isascii()]:  # of few letters in the font
        place = one.weights, _error(one.accuracy)
        ax.annotate(one.player[:16], place, (5, 5), textcoords="offset points", fontsize=8, parse_math=False)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    return svg_of(figure, "Error against nonzero weights")


def _places(scores: Sequence[Any]) -> tuple[list[int], list[float]]:
    """Numbers of weights, and errors."""
    return [score.weights for score in scores], [_error(score.accuracy) for score in scores]


def _error(accuracy: float) -> float:
    """In percent; no error at all is drawn as half of the least one, since the axis is logarithmic."""
    return 100 * max(1 - accuracy, 0.00005)
