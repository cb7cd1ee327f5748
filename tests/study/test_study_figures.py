"""What the figures of the study show, read from their axes."""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit import study
from labkit.study.frontier import Estimate, Operating


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def row(nonzero=2_000, accuracy=0.98, half=0.001, lost=0.01, seeds=5):
    mean = Estimate(accuracy, half, seeds)
    return Operating(
        "MNIST", "lamp", nonzero, 4, nonzero, 100 * nonzero, mean, mean, Estimate(lost, half, seeds), "", 0
    )


def test_curve_has_its_errors_and_its_band():
    rows = [row(6_000, 0.99), row(2_000, 0.98)]
    ax = study.draw_frontier({"LAMP": rows})
    (line,) = ax.get_lines()
    assert list(line.get_xdata()) == [2_000, 6_000]
    assert list(line.get_ydata()) == pytest.approx([2, 1])
    (band,) = ax.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((0.9, 2.1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("nonzero weights", "test error [%]")


def test_other_axis_is_multiply_adds():
    ax = study.draw_frontier({"LAMP": [row(6_000), row(2_000)]}, "macs")
    assert list(ax.get_lines()[0].get_xdata()) == [200_000, 600_000]
    assert "multiply-adds" in ax.get_xlabel()


def test_published_networks_are_numbered_and_dense_has_its_epochs():
    ax = study.draw_frontier({"LAMP": [row()]}, published=study.PUBLISHED, dense=row(124_448, 0.995))
    assert [text.get_text() for text in ax.texts] == [str(number + 1) for number in range(len(study.PUBLISHED))]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "dense, 4 epochs" in legend
    assert "published (numbers, and how they were chosen: see the table)" in legend  # "one run each" nobody knows


@pytest.mark.parametrize("accuracy", [1.0, 0.0])
def test_extreme_accuracies_have_a_place(accuracy):
    ax = study.draw_frontier({"LAMP": [row(accuracy=accuracy, half=math.nan, seeds=1)]})
    assert np.isfinite(ax.get_lines()[0].get_ydata()).all()
    assert (ax.get_lines()[0].get_ydata() > 0).all()


def test_curve_without_points_is_refused():
    with pytest.raises(ValueError, match="lamp has no operating points; each curve must have at least one"):
        study.draw_frontier({"lamp": []})


@pytest.mark.parametrize(("cost", "published"), [("weights", ()), ("macs", study.PUBLISHED)])
def test_cost_that_is_unknown_or_has_no_published_points_is_refused(cost, published):
    with pytest.raises(ValueError, match=f"cost is '{cost}'; it must be"):
        study.draw_frontier({"LAMP": [row()]}, cost, published)


@pytest.mark.parametrize("lost", [-0.03, 0.0, 0.0005, 0.01, 0.3])
def test_method_that_loses_nothing_or_gains_is_on_the_axis(lost):
    ax = study.draw_pairs(["a", "b"], [row(), row(lost=lost)])
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    places = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    assert places == pytest.approx([1, 100 * lost])
    assert all(low <= place <= high for place in places)
    assert f"{100 * lost:.2f}" in [text.get_text() for text in ax.texts]


def test_method_without_a_control_is_named():
    with pytest.raises(ValueError, match="b has no dense network of the same seeds"):
        study.draw_pairs(["a", "b"], [row(), dataclasses.replace(row(), lost=None)])


def test_damage_is_in_percent_a_row_a_network():
    ax = study.draw_damage(["dense", "622"], [[1.0, 0.99], [0.9, 0.5]], ["0", "1"])
    assert [text.get_text() for text in ax.texts] == ["0.0", "1.0", "10.0", "50.0"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dense", "622"]


def test_stress_has_a_panel_each():
    panels = {"noise": ([0, 1], {"dense": [0.9, 0.5]}), "rotation": ([0, 9], {"dense": [0.9, 0.8]})}
    axes = study.draw_stress(panels)
    assert [ax.get_xlabel() for ax in axes] == ["noise", "rotation"]
    assert list(axes[1].get_lines()[0].get_ydata()) == pytest.approx([90, 80])
