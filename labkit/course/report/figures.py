"""Figures of the reports, as SVG text that needs no other file."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from labkit.course.result import MeasuredNetwork
from labkit.course.task import NETWORKS, Style
from labkit.plots import BLUE, GREEN, GREY, ORANGE, VERMILION
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
    """Accuracy against sparsity: a point a network; with ``own``, these stand out."""
    figure = Figure(figsize=(8, 4.2))
    ax = figure.subplots()
    for name, style in network_styles().items():
        marker, colour, label = style.marker, style.colour, style.label
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
            handle.set_alpha(1)  # as faint as the class's marks, one could not be told from another
    return svg_of(figure, "Test accuracy against sparsity")


def layer_shares(networks: Networks) -> Markup:
    """Share of zeros in each layer, a group of bars a network."""
    names = [name for name in network_styles() if name in networks]
    layers = ("conv1", "conv2", "conv3", "fc")
    figure = Figure(figsize=(8, 2.8))
    ax = figure.subplots()
    for number, (layer, colour) in enumerate(zip(layers, (BLUE, VERMILION, GREEN, ORANGE), strict=True)):
        heights = [100 * networks[name].layers.get(layer, 0) for name in names]
        places = np.arange(len(names)) + 0.2 * (number - 1.5)
        ax.bar(places, heights, width=0.18, color=colour, label=layer, hatch=("", "//", "..", "xx")[number], ec="white")
    ax.set(ylabel="zero weights [%]", ylim=(0, 100), xlim=(-0.6, max(len(names), 1) - 0.4))
    ax.set_xticks(range(len(names)), [name.removeprefix("CNN_MNIST").lstrip("_") or "dense" for name in names])
    ax.legend(fontsize=8, ncols=4, frameon=False, loc="upper left")
    return svg_of(figure, "Share of zero weights in each layer of each network")


def task_distribution(shares: Mapping[str, Sequence[float]]) -> Markup:
    """For each task, how the class fared: a bar of full, partial and no points.

    Args:
        shares: task -> share of its points that each student reached, in [0, 1].
    """
    names = list(shares)
    figure = Figure(figsize=(8, 0.27 * len(names) + 0.9))
    ax = figure.subplots()
    kinds = (("full", GREEN, ""), ("partial", ORANGE, "//"), ("no", GREY, ".."))
    left = np.zeros(len(names))
    for kind, colour, hatch in kinds:
        counts = np.array([sum(_kind(value) == kind for value in shares[name]) for name in names], dtype=float)
        ax.barh(names, counts, left=left, color=colour, hatch=hatch, ec="white", label=f"{kind} points")
        left += counts
    ax.invert_yaxis()
    ax.set(xlabel="students")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(fontsize=8, ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return svg_of(figure, "How many students reached full, partial and no points in each task")


def _kind(share: float) -> str:
    return "full" if share >= 0.999 else "no" if share <= 0 else "partial"


def predictions(rows: Mapping[str, tuple[str, Sequence[float], Sequence[float]]]) -> Markup:
    """The class's predictions beside what was measured, a strip a notebook.

    Args:
        rows: notebook -> what was asked, the predictions, what was measured.
    """
    figure = Figure(figsize=(8, 0.85 * max(len(rows), 1) + 0.5))
    axes = np.atleast_1d(figure.subplots(max(len(rows), 1)))
    figure.subplots_adjust(hspace=1.7)
    for ax, (what, predicted, measured) in zip(axes, rows.values(), strict=False):
        spread = np.linspace(-0.25, 0.25, len(predicted)) if len(predicted) > 1 else [0.0] * len(predicted)
        ax.scatter(predicted, spread, color=BLUE, alpha=0.6, s=22, label="predicted", zorder=3)
        for number, value in enumerate(measured):
            label = "measured" if number == 0 else None
            ax.axvline(value, color=VERMILION, alpha=0.5, lw=1.5, linestyle="--", label=label)
        ax.set(yticks=[], ylim=(-0.6, 0.6))
        largest = max([*predicted, *measured, 0.0])
        top = next((most for most in (1, 3, 100) if largest <= most), largest)
        ax.set_xlim(-0.03 * top, 1.03 * top)
        ax.set_title(what, fontsize=9, loc="left")
    if rows:
        axes[0].legend(fontsize=8, ncols=2, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    return svg_of(figure, "The predictions of the class beside the measurements")


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
