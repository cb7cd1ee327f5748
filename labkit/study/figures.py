"""The figures of the study. As in ``labkit.plots``: drawn on the axes that are given, or on new ones, and returned."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from labkit.plots import BLUE, COLOURS, GREY, MARKERS, STYLES
from labkit.study.frontier import Operating, Published

ERRORS = (0.3, 0.5, 1, 2, 5, 10, 20, 50, 90)  # ticks, in percent


def draw_frontier(
    curves: Mapping[str, Sequence[Operating]],
    cost: str = "nonzero",
    published: Sequence[Published] = (),
    dense: Operating | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Test error against what is left of the network, both on logarithmic axes, with 95 % confidence bands.

    Args:
        curves: name -> operating points of one method.
        cost: ``"nonzero"`` (weights) or ``"macs"`` (effective multiply-adds).
        published: points of the literature, numbered from 1; only with ``cost="nonzero"``.
        dense: the control: a line at its error, with its band.
        ax: where to draw.

    Raises:
        ValueError: an unknown cost, published points beside multiply-adds, or a curve without points.
    """
    labels = {"nonzero": "nonzero weights", "macs": "effective multiply-adds for one image"}
    if cost not in labels or (published and cost != "nonzero"):
        raise ValueError(f"cost is {cost!r}; it must be 'nonzero' or 'macs', and published points have weights only")
    empty = [name for name, rows in curves.items() if not rows]
    if empty:
        raise ValueError(f"{', '.join(empty)} has no operating points; each curve must have at least one")
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 5), layout="constrained")
    for number, (name, rows) in enumerate(curves.items()):
        rows = sorted(rows, key=lambda row: getattr(row, cost))
        x = [getattr(row, cost) for row in rows]
        style: dict[str, Any] = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6]}
        errors = [_percent(1 - min(row.accuracy.mean, 0.9999)) for row in rows]  # no error has no place on the axis
        low, high = ([_percent(1 - side) for side in sides] for sides in _ends(rows))
        ax.plot(x, errors, linestyle=STYLES[number % 6] if len(rows) > 1 else "", label=name, **style)
        if len(rows) > 1:
            ax.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
        else:
            ax.vlines(x, low, high, color=style["color"])
    if dense is not None:
        ax.axhline(_percent(1 - dense.accuracy.mean), color="black", linewidth=1, label=f"dense, {dense.epochs} epochs")
        ax.axhspan(*(_percent(1 - side[0]) for side in _ends([dense])), color="black", alpha=0.12, linewidth=0)
    if published:
        x, errors = [point.nonzero for point in published], [_percent(point.error) for point in published]
        label = "published, LeNet-5, one run each (numbers: see the table)"
        ax.scatter(x, errors, marker="*", s=90, color=GREY, edgecolors="black", linewidths=0.6, zorder=3, label=label)
        for number, place in enumerate(zip(x, errors, strict=True), start=1):
            ax.annotate(str(number), place, (4, 4), textcoords="offset points", fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel=labels[cost], ylabel="test error [%]")
    _plain_ticks(ax)
    ax.legend(fontsize=8)
    return ax


def draw_damage(
    names: Sequence[str], by_class: Sequence[Sequence[float]], classes: Sequence[str], ax: Axes | None = None
) -> Axes:
    """A map of errors: a row a network, a column a class, its error in percent in words and as shade.

    Args:
        names: of the networks.
        by_class: for each network, the share of each class's images that it gets right.
        classes: names of the classes.
        ax: where to draw.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(0.8 * len(classes) + 2.5, 0.45 * len(names) + 1.2), layout="constrained")
    errors = 100 * (1 - np.array(by_class))
    shades = np.log10(np.clip(errors, 0.1, 100))
    ax.imshow(shades, cmap="cividis_r", aspect="auto")
    middle = (shades.min() + shades.max()) / 2
    for (row, column), error in np.ndenumerate(errors):
        colour = "white" if shades[row, column] > middle else "black"
        ax.text(column, row, f"{error:.1f}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(classes)), list(classes))
    ax.set_yticks(range(len(names)), list(names))
    ax.set(xlabel="digit", ylabel="nonzero weights", title="errors [%] on the images of each digit")
    return ax


def draw_stress(panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], axes: Any = None) -> Any:
    """Accuracy against the level of a stress, a panel for each stress, a line for each network.

    Args:
        panels: name and unit of the stress -> (levels, name of the network -> accuracies in [0, 1]).
        axes: one for each panel.
    """
    if axes is None:
        axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 3.8), squeeze=False, layout="constrained")[1][0]
    for ax, (label, (levels, lines)) in zip(axes, panels.items(), strict=True):
        for number, (name, accuracies) in enumerate(lines.items()):
            style = {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": STYLES[number % 6]}
            ax.plot(levels, [_percent(value) for value in accuracies], label=name, **style)
        ax.set(xlabel=label, ylabel="accuracy [%]")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, title="nonzero weights", title_fontsize=8)
    return axes


def draw_pairs(names: Sequence[str], rows: Sequence[Operating], ax: Axes | None = None) -> Axes:
    """What each method loses against the dense network of the same seed: mean and 95 % interval, in points."""
    if ax is None:
        _, ax = plt.subplots(figsize=(8, 0.42 * len(rows) + 1), layout="constrained")
    for place, row in enumerate(rows):
        if row.lost is None:
            raise ValueError(f"{names[place]} has no dense network of the same seeds to be compared with")
        x, half = _percent(row.lost.mean), _percent(row.lost.half)
        ax.errorbar(x, place, xerr=half, marker="o", color=BLUE, capsize=3)
        ax.annotate(f"{x:.2f}", (x + half, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), list(names))
    ax.invert_yaxis()
    label = "points of test accuracy lost against the dense network"
    if all(row.lost is not None and row.lost.low > 0 for row in rows):
        ax.set(xscale="log", xlabel=f"{label} (logarithmic)")
    else:  # linear near zero: a method that loses nothing, or gains, must have its place
        ax.set_xscale("symlog", linthresh=0.5)
        ax.set_xlabel(f"{label} (logarithmic from 0.5 on)")
        ax.axvline(0, color="black", linewidth=1)
    low, high = ax.get_xlim()
    marks = (0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low > 0 else (0, 0.5, 1, 2, 5, 10, 20, 50)
    ticks = [tick for tick in (*(-mark for mark in marks[:0:-1]), *marks) if low <= tick <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _ends(rows: Sequence[Operating]) -> tuple[list[float], list[float]]:
    """Both ends of each interval: of a single seed, twice the mean."""
    halves = [0.0 if np.isnan(row.accuracy.half) else row.accuracy.half for row in rows]
    means = [row.accuracy.mean for row in rows]
    lows, highs = zip(
        *((mean - half, min(mean + half, 0.9999)) for mean, half in zip(means, halves, strict=True)), strict=True
    )
    return list(lows), list(highs)


def _percent(share: float) -> float:
    return 100 * share


def _plain_ticks(ax: Axes) -> None:
    """Numbers as people write them, on logarithmic axes, at 1, 2 and 5 of each power of ten."""
    low, high = ax.get_xlim()
    ticks = [digit * 10**power for power in range(9) for digit in (1, 2, 5) if low <= digit * 10**power <= high]
    ax.set_xticks(ticks, [_short(tick) for tick in ticks])
    ax.set_yticks(ERRORS, [f"{value:g}" for value in ERRORS])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    ax.grid(alpha=0.3, which="major")
    ax.spines[["top", "right"]].set_visible(False)


def _short(number: int) -> str:
    return f"{number / 1e6:g} M" if number >= 1_000_000 else f"{number / 1e3:g} K" if number >= 1_000 else f"{number}"
