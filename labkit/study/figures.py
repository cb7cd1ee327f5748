"""The figures of the study. As in ``labkit.plots``: drawn on the axes that are given, or on new ones, and returned."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from labkit.plots import BLUE, GREY, GivenAxes, about, axes_for, style, tidy
from labkit.study.frontier import Operating, Published
from labkit.study.inflation import Inflation

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
    if empty := [name for name, rows in curves.items() if not rows]:
        raise ValueError(f"{', '.join(empty)} has no operating points; each curve must have at least one")
    ax = ax or axes_for(None, 1, (9, 5))[0]
    for number, (name, rows) in enumerate(curves.items()):
        rows = sorted(rows, key=lambda row: getattr(row, cost))
        x = [getattr(row, cost) for row in rows]
        means, low, high = zip(*map(_errors, rows), strict=True)
        look = style(number) if len(rows) > 1 else style(number) | {"linestyle": ""}
        ax.plot(x, means, label=name, **look)
        if len(rows) > 1:
            ax.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
        else:
            ax.vlines(x, low, high, color=look["color"])
    if dense is not None:
        mean, *band = _errors(dense)
        ax.axhline(mean, color="black", linewidth=1, label=f"dense, {dense.epochs} epochs")
        ax.axhspan(*band, color="black", alpha=0.12, linewidth=0)
    if published:
        x, errors = [point.nonzero for point in published], [100 * point.error for point in published]
        label = "published (numbers, and how they were chosen: see the table)"
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
    ax = ax or axes_for(None, 1, (0.8 * len(classes) + 2.5, 0.45 * len(names) + 1.2))[0]
    errors = 100 * (1 - np.array(by_class))
    shades = np.sqrt(errors)  # so that small errors differ, too
    ax.imshow(shades, cmap="Blues", aspect="auto", vmin=0)
    middle = 0.72 * shades.max()  # where black and white are equally easy to read on these blues
    for (row, column), error in np.ndenumerate(errors):
        colour = "white" if shades[row, column] > middle else "black"
        ax.text(column, row, f"{error:.1f}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(classes)), list(classes))
    ax.set_yticks(range(len(names)), list(names))
    rows = (f"{name}: {about(row)}, most for {classes[row.argmax()]}" for name, row in zip(names, errors, strict=True))
    ax.set(xlabel="digit", ylabel="nonzero weights", title="errors [%] on the images of each digit")
    ax.set_label(f"A map of {ax.get_title()}, by nonzero weights. {'; '.join(rows)}.")
    return ax


def draw_stress(
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], axes: GivenAxes = None
) -> Sequence[Axes]:
    """Accuracy against the level of a stress, a panel for each stress, a line for each network.

    Args:
        panels: name and unit of the stress -> (levels, name of the network -> accuracies in [0, 1]).
        axes: one for each panel.
    """
    axes = axes_for(axes, len(panels), (5.2 * len(panels), 3.8))
    for ax, (label, (levels, lines)) in zip(axes, panels.items(), strict=True):
        for number, (name, accuracies) in enumerate(lines.items()):
            ax.plot(levels, [100 * value for value in accuracies], label=name, **style(number))
        tidy(ax, xlabel=label, ylabel="accuracy [%]")
        ax.legend(fontsize=8, title="nonzero weights", title_fontsize=8)
    return axes


def draw_pairs(names: Sequence[str], rows: Sequence[Operating], ax: Axes | None = None) -> Axes:
    """What each method loses against the dense network of the same seed: mean and 95 % interval, in points."""
    ax = ax or axes_for(None, 1, (8, 0.42 * len(rows) + 1))[0]
    for place, row in enumerate(rows):
        if row.lost is None:
            raise ValueError(f"{names[place]} has no dense network of the same seeds to be compared with")
        x, half = 100 * row.lost.mean, 100 * row.lost.half
        ax.set_label(f"{ax.get_label()}{'; ' if place else ''}{names[place]} {x:.2f} ± {half:.2f}")
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
    ax.tick_params(which="minor", labelbottom=False)
    tidy(ax, label=f"{label}: {ax.get_label()}.")
    return ax


def draw_inflation(inflation: Inflation, ax: Axes | None = None) -> Axes:
    """What choosing the best of 1, 2, … runs adds to the mean, in points; the band is the interval of the mean."""
    ax = ax or axes_for(None, 1, (8, 4.2))[0]
    names = "best epoch, by test images", "best last epoch, by test images", "best epoch, by validation images"
    curves = inflation.best_epoch, inflation.last_epoch, inflation.validation
    for number, (name, added) in enumerate(zip(names, curves, strict=True)):
        look = style(number) | {"linewidth": (5, 2, 2)[number]}  # wide below narrow: they may lie on each other
        ax.plot(range(1, len(added) + 1), 100 * added, label=name, markevery=[0, 1, 4, 9, 19, 49, 99], **look)
    mean, half = 100 * inflation.mean.mean, 100 * inflation.mean.half
    ax.axhline(0, color="black", linewidth=1)
    ax.axhspan(-half, half, color="black", alpha=0.12, linewidth=0, label="interval of the mean of the last epoch")
    ylabel = f"points above the mean of {mean:.2f} ± {half:.2f} %"
    tidy(ax, xlabel="number of runs to choose from", ylabel=ylabel, xscale="log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(fontsize=8)
    return ax


def _errors(row: Operating) -> tuple[float, float, float]:
    """Error of an operating point and both ends of its interval [%]: of a single seed all are the same."""
    mean, half = row.accuracy.mean, float(np.nan_to_num(row.accuracy.half))
    # No error has no place on a logarithmic axis.
    least, low, high = (100 * (1 - min(share, 0.9999)) for share in (mean, mean - half, mean + half))
    return least, low, high


def _plain_ticks(ax: Axes) -> None:
    """Numbers as people write them, on logarithmic axes, at 1, 2 and 5 of each power of ten."""
    low, high = ax.get_xlim()
    ticks = [digit * 10**power for power in range(9) for digit in (1, 2, 5) if low <= digit * 10**power <= high]
    ax.set_xticks(ticks, [_short(tick) for tick in ticks])
    ax.set_yticks(ERRORS, [f"{value:g}" for value in ERRORS])
    ax.tick_params(which="minor", labelbottom=False, labelleft=False)
    tidy(ax)


def _short(number: int) -> str:
    return f"{number / 1e6:g} M" if number >= 1_000_000 else f"{number / 1e3:g} K" if number >= 1_000 else f"{number}"
