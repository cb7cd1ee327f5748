"""Draw the picture of the README: test accuracy against sparsity, from the committed study.

python scripts/draw_front.py    writes docs/frontier.png
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from labkit import plots, runtime
from labkit.study.frontier import Operating, load_frontier, operating_points

WEIGHTS = 124_448
# Name -> (method of the study, place of its name beside the last point, in points).
CURVES = {
    "dense, but small": ("small", (8, 6)),
    "LAMP scores,\npruned while training": ("lamp-global-gradual", (8, 0)),
    "smallest weights,\npruned while training": ("magnitude-global-gradual", (8, 0)),
    "random mask before training": ("random-global-before", (-8, 0)),
    "SNIP, mask before training": ("snip-global-before", (-8, -2)),
}
SPARSITIES = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.7)


def points_of(method: str) -> list[Operating]:
    """Operating points of one method on MNIST, four epochs for everybody."""
    rows = operating_points(load_frontier())
    return [row for row in rows if (row.dataset, row.method, row.epochs) == ("MNIST", method, 4)]


def draw(ax: Axes) -> None:
    """Draw all curves; x is the share of weights that are left, downwards, on a logarithmic axis."""
    (dense,) = points_of("dense-augmented-0")
    ax.axhline(100 * dense.accuracy.mean, color="black", linewidth=1)
    ax.annotate(
        f"dense network, {100 * dense.accuracy.mean:.2f} %",
        (1, 100 * dense.accuracy.mean),
        (6, -13),
        textcoords="offset points",
    )
    for number, (name, (method, offset)) in enumerate(CURVES.items()):
        rows = sorted(points_of(method), key=lambda row: -row.nonzero)
        x = [row.nonzero / WEIGHTS for row in rows]
        y = [100 * row.accuracy.mean for row in rows]
        ax.errorbar(x, y, [100 * row.accuracy.half for row in rows], capsize=3, **plots.style(number))
        side = "left" if offset[0] > 0 else "right"
        ax.annotate(
            name, (x[-1], y[-1]), offset, textcoords="offset points", ha=side, color=plots.COLOURS[number], va="center"
        )
    ax.set(xscale="log", xlim=(1.15, 0.0007), ylim=(58, 101))
    ax.set_xticks([1 - sparsity / 100 for sparsity in SPARSITIES], [f"{sparsity:g}" for sparsity in SPARSITIES])
    ax.minorticks_off()
    ax.set(xlabel="sparsity: weights that are zero or gone [%]", ylabel="test accuracy [%]")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    figure, axes = plt.subplots(figsize=(8.5, 4.4), layout="constrained")
    draw(axes)
    path = runtime.PROJECT / "docs" / "frontier.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")
