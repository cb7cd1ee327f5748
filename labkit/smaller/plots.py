"""The figures of smaller networks: what they cost, and what each layer can give.

As in ``plots``, every function draws on the axes it is given, or on a new figure, and returns the axes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from labkit.plots import COLOURS, about, axes_for, style, tidy
from labkit.smaller.cost import Ledger


def draw_ledger(ledgers: Mapping[str, Ledger], axes: Any = None) -> Any:
    """Bars: what each network costs in weights, multiply-adds, bytes and milliseconds, one panel each.

    Below the number of each time a black line reaches from the 10th to the 90th percentile.

    Args:
        ledgers: name -> ledger; the first one is what the others are compared with.
        axes: four axes.

    Raises:
        ValueError: no ledger.
    """
    if not ledgers:
        raise ValueError("no ledger to draw; give at least one")
    found = list(ledgers.values())
    way = next(reversed([name for name in found[0].latencies if "1 thread" in name]))
    times = [one.latencies[way] for one in found]
    panels = {
        "nonzero weights [thousands]": [one.nonzero / 1e3 for one in found],
        "multiply-adds [millions]": [one.multiply_adds / 1e6 for one in found],
        "file [KB]": [one.raw_bytes / 1e3 for one in found],
        f"{way} [ms]": [one.median for one in times],
    }
    axes = draw_bars(list(ledgers), panels, axes)
    axes[3].set_xlim(right=max(axes[3].get_xlim()[1], *(1.05 * one.high for one in times)))
    for place, one in enumerate(times):
        axes[3].plot([one.low, one.high], [place + 0.25] * 2, color="black", marker="|", linewidth=1.5)
    return axes


def draw_bars(names: Sequence[str], panels: Mapping[str, Sequence[float]], axes: Any = None) -> Any:
    """Horizontal bars, one panel for each quantity, one bar for each name.

    Each bar has its value beside it, and how many times smaller it is than the first one (``÷ 2``) or larger (``× 2``).

    Args:
        names: what is compared; the first is what the others are compared with.
        panels: name and unit of a quantity -> one value >= 0 for each name.
        axes: one for each panel.

    Raises:
        ValueError: a panel with another number of values, or a negative value.
    """
    axes = axes_for(axes, len(panels), (3.4 * len(panels), 0.9 + 0.5 * len(names)))
    for ax, (label, values) in zip(axes, panels.items(), strict=True):
        if len(values) != len(names) or not min(values) >= 0:
            raise ValueError(f"{label} has {list(values)}; there must be a value >= 0 for each of {len(names)} names")
        bars = ax.barh(range(len(values)), values, color=[COLOURS[i % 6] for i in range(len(values))], height=0.7)
        numbers = [_compared(value, values[0]) for value in values]
        ax.bar_label(bars, numbers, fontsize=8, padding=6)
        pairs = (" ".join(f"{name} ≈{number}".split()) for name, number in zip(names, numbers, strict=True))
        sentence = f"{label}: {'; '.join(pairs)}."
        tidy(ax, xlabel=label, xlim=(0, 1.55 * max(values) or 1), yticks=[], label=sentence)
        ax.invert_yaxis()
        ax.set_axisbelow(True)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), list(names))
    return axes


def _compared(value: float, first: float) -> str:
    ratio = first / value if first and value else 1.0
    if abs(ratio - 1) < 0.05:
        return f"{value:.3g}"
    return f"{value:.3g}  (÷ {ratio:.1f})" if ratio > 1 else f"{value:.3g}  (× {1 / ratio:.1f})"


def draw_maps(maps: Mapping[str, torch.Tensor], label: str, axes: Any = None) -> Any:
    """Signed maps (H, W) side by side on one colour scale: blue negative, white zero, red positive.

    Args:
        maps: title -> map.
        label: name and unit of the colour scale.
        axes: one for each map.
    """
    axes = axes_for(axes, len(maps), (4.2 * len(maps), 3.4))
    limit = max(float(one.abs().max()) for one in maps.values()) or 1.0
    for ax, (title, one) in zip(axes, maps.items(), strict=True):
        shown = ax.imshow(one.detach().cpu().numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        sentence = f"{title}: a map of {one.shape[0]} × {one.shape[1]} pixels, {about(one.detach().cpu())}."
        ax.set(title=title, xlabel="column [pixels]", ylabel="row [pixels]", label=sentence)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.title.set_fontsize(10)
    axes[0].figure.colorbar(shown, ax=list(axes), shrink=0.8, label=label)
    return axes


def draw_sensitivity(curves: Mapping[str, Sequence[Mapping[str, float]]], ax: Axes | None = None) -> Axes:
    """Accuracy against the share of channels that were pruned, one line for each layer.

    Args:
        curves: layer -> points with ``channels`` and ``accuracy``, the whole layer first, as ``scan_sensitivity``
            returns them.
        ax: where to draw.
    """
    ax = axes_for(None if ax is None else [ax], 1, (7.5, 4))[0]
    for number, (name, points) in enumerate(curves.items()):
        shares = [100 * (1 - point["channels"] / points[0]["channels"]) for point in points]
        label = f"{name} ({points[0]['channels']:.0f} channels)"
        ax.plot(shares, [100 * p["accuracy"] for p in points], label=label, **style(number))
    tidy(ax, xlabel="pruned channels of this one layer [%]", ylabel="validation accuracy [%]")
    ax.legend()
    return ax


def draw_speed(ways: Mapping[str, Sequence[tuple[str, float, float]]], ax: Axes | None = None) -> Axes:
    """Accuracy against the time for an image, on a logarithmic axis: a line for each way to compute networks.

    Args:
        ways: way -> (name of a network, milliseconds for an image, accuracy in [0, 1]).
        ax: where to draw.
    """
    ax = axes_for(None if ax is None else [ax], 1, (9, 5))[0]
    for number, (way, points) in enumerate(ways.items()):
        points = sorted(points, key=lambda point: point[2])  # so that no line turns back
        places = [(milliseconds, 100 * accuracy) for _, milliseconds, accuracy in points]
        ax.plot(*zip(*places, strict=True), label=way, **style(number))
        for (name, *_), place in zip(points, places, strict=True):
            ax.annotate(name, place, (5, 5), textcoords="offset points", fontsize=8, color=COLOURS[number % 6])
    tidy(ax, xscale="log", xlabel="time for an image, 1 thread [ms]", ylabel="validation accuracy [%]")
    ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
    ax.legend(fontsize=8)
    return ax
