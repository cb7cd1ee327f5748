"""What the labs show: figures, tables, predictions and measurements, claims.

A figure is drawn on the axes that are given, or on new ones, and returns the axes; only ``show`` shows one. What names
and lines do not tell somebody who cannot see them, a sentence tells that the axes carry as their label. The colours are
Okabe and Ito's, which colour-blind readers can tell apart; lines also differ in marker and style.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from tabulate import tabulate
from torch import nn

from labkit.progress import notebook
from labkit.sparsity import effective_weight, prunable_layers, sparsity_report

BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#7F7F7F"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY)
MARKERS, STYLES = "osD^vP", ("-", "--", "-.", ":", "-", "--")
KEPT_AND_PRUNED = [Patch(color=BLUE, label="kept"), Patch(color=ORANGE, label="pruned")]
GivenAxes = Sequence[Axes] | None


def show(axes: Axes | Iterable[Axes] | Figure, alt: str = "") -> None:
    """Show a figure, with a text for those who cannot see it.

    The text is stored as ``alt`` in the metadata of the output, where nbconvert and the book of the labs find it.

    Args:
        axes: what a ``draw_`` function returned, axes of your own, or a figure.
        alt: what the figure shows, in one or two sentences; without it, the text is made from what was drawn.
    """
    first = axes if isinstance(axes, Figure) else np.ravel(np.asarray(axes, dtype=object))[0]
    figure, text = first.figure, alt or alternative(first.figure)
    if notebook() is None:  # a script or a terminal
        plt.show()
    else:
        # Under the type is where nbconvert and IPython look, on top where Jupyter's proposal wants it.
        display(figure, metadata={"alt": text, "image/png": {"alt": text}})
    plt.close(figure)


def alternative(figure: Figure) -> str:
    """What a figure shows: the sentences that its axes carry, or else their names and the points of all lines.

    Of lines with more than 16 points together, the first, the middle and the last one. Values are rounded to three
    digits and marked with ≈.
    """
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    sentences = [str(ax.get_label()) for ax in panels if ax.get_label()]
    return " ".join(sentences or map(_description, panels))


def _description(ax: Axes) -> str:
    parts, lines = [], [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    many = sum(np.size(line.get_ydata()) for line in lines) > 16
    for line in lines:
        x, y = np.asarray(line.get_xydata(), dtype=float)[np.isfinite(np.asarray(line.get_ydata(), dtype=float))].T
        chosen = {0, len(y) // 2, len(y) - 1} if many else range(len(y))
        points = [f"{about(y[i])} at {x[i]:{',.0f' if x[i] >= 100 else '.4g'}}" for i in sorted(chosen) if len(y)]
        flat = len(y) > 1 and not np.ptp(y)
        parts.append(f"{line.get_label()} {f'{about(y)} throughout' if flat else ', '.join(points) or 'nothing'}")
    bars = [np.asarray(x.datavalues, dtype=float) for x in ax.containers if isinstance(x, BarContainer)]
    parts += [f"{len(heights)} bars, {about(heights)}" for heights in bars]
    dots = [(np.asarray(x.get_offsets()), str(x.get_label())) for x in ax.collections if isinstance(x, PathCollection)]
    parts += [f"{len(places)} points, {label}" for places, label in dots if not label.startswith("_")]
    title = f"{ax.get_title()}: " if ax.get_title() else ""
    return f"{title}chart of {ax.get_ylabel() or 'y'} against {ax.get_xlabel() or 'x'}: {'; '.join(parts)}."


def about(values: npt.ArrayLike) -> str:
    """Measured values in three digits, marked as such: ≈0.985, or from the smallest to the largest."""
    numbers = sorted(np.ravel(values).tolist())
    return " to ".join(dict.fromkeys(f"≈{value:.3g}" for value in numbers[:: max(len(numbers) - 1, 1)])) or "none"


def draw_loss_test(
    epochs: Sequence[int], history: Mapping[str, Sequence[float]], test_name: str = "validation", axes: GivenAxes = None
) -> Sequence[Axes]:
    """Learning curves: loss on the left, accuracy on the right.

    Args:
        epochs: the x values.
        history: as ``test_or_train`` returns it.
        test_name: what the images of ``loss_test`` and ``acc_test`` are called.
        axes: two axes.

    Raises:
        ValueError: a curve that is neither empty (and left out) nor as long as the epochs.
    """
    lengths = {key: len(history[key]) for key in ("loss_train", "loss_test", "acc_train", "acc_test")}
    if not set(lengths.values()) <= {0, len(epochs)}:
        raise ValueError(f"curves have {lengths} points for {len(epochs)} epochs; each must have as many, or none")
    axes = axes_for(axes, 2, (10, 3.6))
    for ax, key, label in zip(axes, ("loss", "acc"), ("loss [nats]", "accuracy [%]"), strict=True):
        lines = {"train (augmented, while training)": ("train", VERMILION, "s--"), test_name: ("test", BLUE, "o-")}
        for name, (part, colour, look) in lines.items():
            values = [(100 if key == "acc" else 1) * value for value in history[f"{key}_{part}"]]
            ax.plot(epochs if values else [], values, look, color=colour, label=name)
        tidy(ax, xlabel="epoch", ylabel=label, xticks=list(epochs))
        ax.legend()
    return axes


def draw_digits(images: torch.Tensor, titles: Sequence[str], columns: int = 8) -> np.ndarray:
    """Images (N, 1, H, W) in [0, 1] in a grid, each under its title.

    Raises:
        ValueError: not one title an image.
    """
    if len(titles) != len(images) or images.ndim != 4:
        given = f"{len(titles)} titles for images {tuple(images.shape)}"
        raise ValueError(f"{given}; there must be one for each of (N, 1, H, W)")
    rows = -(-len(images) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(1.15 * columns, 1.45 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[len(images) :]:
        ax.axis("off")
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(image[0].cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color(GREY)
    axes.flat[0].set_label(f"{len(images)} images, under their titles: {', '.join(titles)}.")
    return axes


def draw_kernels(
    before: nn.Module, after: nn.Module, layer: str = "conv1", count: int = 32, axes: GivenAxes = None
) -> Sequence[Axes]:
    """Kernels of one convolution in two networks, side by side; weights that are zero carry a cross.

    Each little square is what one output channel does to its first input channel. Both panels share one colour scale:
    blue negative, white zero, red positive.

    Raises:
        ValueError: no such convolution.
    """
    weights = []
    for model in (before, after):
        convolution = prunable_layers(model).get(layer)
        if not isinstance(convolution, nn.Conv2d):
            raise ValueError(f"layer is {layer!r}; it must be a convolution of both networks")
        weights.append(effective_weight(convolution)[:count, 0].cpu().numpy())  # (count, 3, 3)
    axes = axes_for(axes, 2, (11, 3.4))
    limit = max(float(np.abs(w).max()) for w in weights)
    for ax, name, w in zip(axes, ("before", "after"), weights, strict=True):
        picture = _tiled(w)
        image = ax.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set_facecolor("#DDDDDD")
        y, x = np.nonzero(picture == 0)
        ax.scatter(x, y, marker="x", s=16, linewidths=1.1, color="black")
        title, empty = f"{name}: {len(x)} of {w.size} weights are zero", (w == 0).all(axis=(1, 2)).sum()
        sentence = f"Kernels of {layer} {title}; {empty} of {len(w)} kernels are all zero."
        ax.set(title=f"{title} (×)", xticks=[], yticks=[], label=sentence)
        ax.spines[:].set_visible(False)
    axes[0].figure.colorbar(image, ax=list(axes), shrink=0.7, label=f"weight in {layer}")
    return axes


def draw_weight_histograms(
    weights: Mapping[str, torch.Tensor], thresholds: Mapping[str, float], axes: GivenAxes = None, bins: int = 81
) -> Sequence[Axes]:
    """Histogram of the weights of each layer, what lies under the threshold in another colour.

    Args:
        weights: layer -> its weights, any shape.
        thresholds: layer -> the absolute value up to which weights are (or would be) pruned.
        axes: one for each layer.
        bins: number of bars.
    """
    axes = axes_for(axes, len(weights), (3.3 * len(weights), 3.2))
    for ax, (name, tensor) in zip(axes, weights.items(), strict=True):
        values, limit = tensor.detach().flatten().cpu().numpy(), thresholds[name]
        threshold = limit.item() if hasattr(limit, "item") else limit  # also torch's and NumPy's numbers
        edges = np.linspace(-np.abs(values).max(), np.abs(values).max(), bins + 1)
        small = np.abs(values) <= threshold
        ax.hist([values[~small], values[small]], edges.tolist(), stacked=True, color=[BLUE, ORANGE])
        for x in (-threshold, threshold):
            ax.axvline(x, color="black", linestyle="--", linewidth=1)
        title = f"{name}: {100 * small.mean():.1f} % below {threshold:.4f}"
        sentence = f"Histogram of {values.size:,} weights, {about(values)}, in {title} in size."
        tidy(ax, title=title, xlabel="weight", ylabel="number of weights", label=sentence)
        ax.title.set_fontsize(10)
    axes[0].legend(handles=KEPT_AND_PRUNED, fontsize=8)
    return axes


def draw_sparsity(models: Mapping[str, nn.Module], layers: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Bars: sparsity of each layer, one colour and hatch for each network, the number on top."""
    ax = ax or axes_for(None, 1, (8, 3.4))[0]
    reports = {name: sparsity_report(model, layers) for name, model in models.items()}
    width, sentences = 0.8 / len(reports), []
    for number, (name, report) in enumerate(reports.items()):
        where = np.arange(len(report)) + (number - (len(reports) - 1) / 2) * width
        heights = [100 * row.sparsity for row in report]
        hatch = ("", "//", "..", "xx", "\\\\", "--")[number % 6]
        drawn = ax.bar(where, heights, 0.95 * width, label=name, color=COLOURS[number % 6], hatch=hatch, ec="white")
        sentences.append(f"{name}: {', '.join(f'{row.name} {100 * row.sparsity:.1f}' for row in report)}")
        ax.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2, rotation=90 if len(reports) > 3 else 0)
    ax.set_xticks(range(len(report)), [f"{row.name}\n{row.weights:,} weights" for row in report])
    sentence = f"Zero weights of each layer [%]. {'; '.join(sentences)}."
    tidy(ax, ylabel="zero weights [%]", ylim=(0, max(1.0, 1.15 * ax.get_ylim()[1])), label=sentence)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the bars, whose numbers it must not hide
    return ax


def draw_accuracy_sparsity(
    runs: Mapping[str, Sequence[Mapping[str, float]]], drop: float = 0.01, axes: GivenAxes = None
) -> Sequence[Axes]:
    """The original lab's two figures for any number of runs: accuracy (x) and loss (x) against sparsity (y).

    A ring marks, in each run, the first point whose accuracy is more than ``drop`` below that of the run's first point;
    the legend says so where there is none.

    Args:
        runs: name -> points in order; each a dict with ``sparsity`` and ``accuracy`` in [0, 1] and ``loss``.
        drop: in [0, 1]; 0.01 is one percentage point.
        axes: two axes.

    Raises:
        ValueError: a run without points.
    """
    axes = axes_for(axes, 2, (11, 4.2))
    for number, (name, points) in enumerate(runs.items()):
        if not points:
            raise ValueError(f"run {name!r} has no points; it must have at least one")
        height = [100 * point["sparsity"] for point in points]
        fallen = first_drop(points, drop)
        label = name if fallen is not None else f"{name} (never)"
        for ax, key, scale in zip(axes, ("accuracy", "loss"), (100, 1), strict=True):
            x = [scale * point[key] for point in points]
            ends = " to ".join(f"{about(x[i])} at {height[i]:.3g} %" for i in (0, -1))
            ax.set_label(f"{ax.get_label()}{'; ' if number else f'{key} at each sparsity: '}{name} from {ends}")
            ax.plot(x, height, label=label, markersize=5, **style(number))
            if fallen is not None:
                ring = COLOURS[number % 6]
                ax.plot(x[fallen], height[fallen], "o", color=ring, fillstyle="none", ms=15, markeredgewidth=1.8)
    for ax, label in zip(axes, ("accuracy [%]", "loss [nats]"), strict=True):
        tidy(ax, xlabel=f"validation {label}", ylabel="sparsity [%]", label=f"Validation {ax.get_label()}.")
    title = f"○ first more than {100 * drop:g} percentage point below its start"
    axes[1].legend(fontsize=8, title=title, title_fontsize=8)
    return axes


def first_drop(points: Sequence[Mapping[str, float]], drop: float = 0.01) -> int | None:
    """Index of the first point whose accuracy is more than ``drop`` below the first point's, or None."""
    return next((i for i, point in enumerate(points) if point["accuracy"] < points[0]["accuracy"] - drop), None)


def draw_groups(groups: Mapping[str, Sequence[float]], xlabel: str, ax: Axes | None = None) -> Axes:
    """One row of dots for each group, every measurement a dot, the median a bar with its value.

    Args:
        groups: name -> measurements, in the unit of the axis.
        xlabel: name and unit of the axis.
        ax: where to draw.

    Raises:
        ValueError: an empty group.
    """
    ax, sentences = ax or axes_for(None, 1, (9, 0.8 + 0.75 * len(groups)))[0], []
    for row, (name, values) in enumerate(groups.items()):
        if not values:
            raise ValueError(f"group {name!r} is empty; it must have at least one measurement")
        # Spread the dots a little so that equal values stay visible; the pattern is fixed, not random.
        lift = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.36
        middle = median(values)
        ax.plot(values, row + lift, MARKERS[row % 6], color=COLOURS[row % 6], markersize=6, alpha=0.75)
        ax.plot([middle, middle], [row - 0.3, row + 0.3], color="black", linewidth=2)
        text = f"median {middle:.{1 if middle >= 1 else 2}f}"
        ax.annotate(text, (middle, row - 0.32), ha="center", va="bottom", fontsize=8)
        sentences.append(f"{name}: median {about(middle)} ({about(values)}, n = {len(values)})")
    ax.set_yticks(range(len(groups)), list(groups))
    tidy(ax, xlabel=xlabel, ylim=(len(groups) - 0.4, -0.75), label=f"{xlabel}. {'; '.join(sentences)}.")
    return ax


def draw_lines(
    lines: Mapping[str, Sequence[Sequence[float]]], x: Sequence[float], xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:
    """Lines of means with a band from the smallest to the largest measurement.

    Args:
        lines: name -> one list of measurements for each x.
        x: the common x values.
        xlabel: name and unit.
        ylabel: name and unit.
        ax: where to draw.

    Raises:
        ValueError: a line with another number of points than x.
    """
    ax = ax or axes_for(None, 1, (8, 4))[0]
    for number, (name, points) in enumerate(lines.items()):
        if len(points) != len(x):
            raise ValueError(f"line {name!r} has {len(points)} points for {len(x)} x values; there must be one each")
        ax.plot(x, [np.mean(p) for p in points], label=name, **style(number))
        band = [min(p) for p in points], [max(p) for p in points]
        ax.fill_between(x, *band, color=COLOURS[number % 6], alpha=0.18, linewidth=0)
    tidy(ax, xlabel=xlabel, ylabel=ylabel, xticks=list(x))
    several = any(len(values) > 1 for points in lines.values() for values in points)
    ax.legend(fontsize=8, title="mean; band: smallest to largest" if several else None, title_fontsize=8)
    return ax


def draw_channel_norms(
    norms: Mapping[str, torch.Tensor], pruned: Mapping[str, Sequence[int]], axes: GivenAxes = None
) -> Sequence[Axes]:
    """Bars of the L2 norm of every output channel, in rising order, the pruned ones in another colour.

    Args:
        norms: layer -> (channels,).
        pruned: layer -> numbers of the pruned channels.
        axes: one for each layer.
    """
    axes = axes_for(axes, len(norms), (3.8 * len(norms), 3))
    for ax, (name, values) in zip(axes, norms.items(), strict=True):
        values, gone = torch.as_tensor(values).detach().cpu(), {int(channel) for channel in pruned[name]}
        order = values.argsort()
        colours = [ORANGE if int(channel) in gone else BLUE for channel in order]
        ax.bar(range(len(values)), values[order].numpy(), color=colours, width=0.9)
        title = f"{name}: {len(gone)} of {len(values)} channels"
        sentence = f"{title} pruned; L2 norms {about(values)}, of the pruned {about(values[sorted(gone)])}."
        tidy(ax, title=title, xlabel="channels, smallest norm first", ylabel="L2 norm of a channel", label=sentence)
    axes[0].legend(handles=KEPT_AND_PRUNED, fontsize=8)
    return axes


def show_table(rows: Iterable[Sequence[object]], headers: Sequence[str] = ()) -> None:
    """Print a table, every cell as it is given and in the middle of its column."""
    print(tabulate(rows, headers, tablefmt="pretty"))


def median_and_worst(values: Sequence[float]) -> str:
    """Median and smallest of some accuracies [%], which may move in the last digit."""
    return f"≈{median(values):5.1f} (≈{min(values):5.1f})"


def show_prediction(prediction: Any, measured: float, name: str, digits: int = 3, *, exact: bool = False) -> None:
    """Print a prediction and the measurement side by side.

    Args:
        prediction: what the reader wrote before the cell was run; None if nothing.
        measured: the measured number.
        name: its name and unit.
        digits: decimals to print, for a number that may move by 3 units of the last one elsewhere.
        exact: the measured number does not move, so it carries no mark.
    """
    if math.prod(getattr(prediction, "shape", [0])) == 1:  # torch's and NumPy's numbers
        prediction = prediction.item()
    is_number = isinstance(prediction, (int, float)) and not isinstance(prediction, bool)
    given = f"{prediction:.{digits}f}" if is_number else f"{prediction!r} (not a number)"
    given = "– (not attempted)" if prediction is None else given
    print(f"{name}\n  predicted  {given}\n  measured   {'' if exact else '≈'}{measured:.{digits}f}")


def check_claims(*claims: tuple[str, Callable[[], bool], str]) -> None:
    """Print ✓ or ✗ for each claim of a notebook, with the reason to look for where it does not hold.

    Args:
        claims: (the claim, a function without arguments that returns whether it holds, where to look if not). An error
            in the function counts as ✗ and is named.
    """
    for claim, holds, reason in claims:
        try:
            result = holds()
            verdict, why = bool(result) and result == result, reason  # NaN is no yes
        except Exception as error:  # a missing variable or a half-run notebook: say so, and go on
            verdict, why = False, f"{type(error).__name__}: {error}"
        print(f"✓ {claim}" if verdict else f"✗ {claim}\n  {why}")


def style(number: int) -> dict[str, Any]:
    """Colour, marker and stroke of a figure's so many-th line."""
    return {"color": COLOURS[number % 6], "marker": MARKERS[number % 6], "linestyle": STYLES[number % 6]}


def axes_for(axes: GivenAxes, count: int, size: tuple[float, float]) -> Sequence[Axes]:
    """The axes that were given, or those of a new figure of this size [inches].

    Raises:
        ValueError: another number of axes than the figure needs.
    """
    if axes is None:
        axes = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")[1][0]
    if len(axes) != count:
        raise ValueError(f"{len(axes)} axes were given; this figure needs {count}")
    return axes


def tidy(ax: Axes, **properties: object) -> None:
    """Names, limits and ticks (what ``Axes.set`` takes), a light grid, and no frame on top and right."""
    ax.set(**properties)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def _tiled(kernels: np.ndarray) -> np.ndarray:
    """Kernels (N, 3, 3) side by side with one empty (NaN) pixel between them: at most 8 in a row."""
    columns = min(8, len(kernels))
    margins = (0, -len(kernels) % columns), (0, 1), (0, 1)  # kernels that are missing in the last row, and the gaps
    cells = np.pad(kernels.astype(float), margins, constant_values=np.nan).reshape(-1, columns, 4, 4)
    return cells.swapaxes(1, 2).reshape(-1, 4 * columns)[:-1, :-1]
