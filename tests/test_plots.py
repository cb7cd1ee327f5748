import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch.nn.utils import prune

import labkit
from labkit import plots

HISTORY = {"loss_train": [2.0, 1.0], "loss_test": [1.5, 0.5], "acc_train": [0.5, 0.75], "acc_test": [0.6, 0.8]}
RUN = [{"sparsity": s, "accuracy": a, "loss": 0.1} for s, a in ((0.0, 0.98), (0.5, 0.975), (0.75, 0.96), (0.9, 0.5))]


def draw_everything(tiny):
    """Name -> (function of its axes, number of axes it needs)."""
    before, after = tiny(), tiny()
    prune.l1_unstructured(after.conv1, "weight", 0.5)
    weights = {"conv1": before.conv1.weight, "fc": before.fc.weight}
    thresholds, norms = {"conv1": 0.1, "fc": 0.01}, {"conv1": before.conv1.weight.detach().flatten(1).norm(dim=1)}
    return {
        "loss_test": (lambda axes: labkit.draw_loss_test([1, 2], HISTORY, axes=axes), 2),
        "kernels": (lambda axes: labkit.draw_kernels(before, after, axes=axes), 2),
        "histograms": (lambda axes: labkit.draw_weight_histograms(weights, thresholds, axes=axes), 2),
        "accuracy_sparsity": (lambda axes: labkit.draw_accuracy_sparsity({"L1": RUN}, axes=axes), 2),
        "channel_norms": (lambda axes: labkit.draw_channel_norms(norms, {"conv1": [1]}, axes=axes), 1),
        "sparsity": (lambda ax: labkit.draw_sparsity({"a": before, "b": after}, ax=ax), 0),
        "groups": (lambda ax: labkit.draw_groups({"a": [1.0, 2.0], "b": [3.0]}, "time [ms]", ax=ax), 0),
        "lines": (lambda ax: labkit.draw_lines({"a": [[1.0, 2.0], [3.0, 4.0]]}, [0, 1], "x [%]", "y [%]", ax=ax), 0),
        "ledger": (lambda axes: labkit.draw_ledger({"a": a_ledger(), "b": a_ledger(1000)}, axes=axes), 4),
        "sensitivity": (lambda ax: labkit.draw_sensitivity(CURVES, ax=ax), 0),
        "speed": (lambda ax: labkit.draw_speed({"cut": [("a", 0.5, 0.98), ("b", 2.0, 0.99)]}, ax=ax), 0),
    }


SEVERAL = ["loss_test", "kernels", "histograms", "accuracy_sparsity", "channel_norms", "ledger"]
NAMES = [*SEVERAL, "sparsity", "groups", "lines", "sensitivity", "speed"]


@pytest.mark.parametrize("name", NAMES)
def test_figure_is_drawn_on_the_given_axes_which_are_returned_and_never_shown(tiny, monkeypatch, name):
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("show() was called"))
    draw, count = draw_everything(tiny)[name]
    figure, axes = plt.subplots(1, max(1, count), squeeze=False)
    given = axes[0] if count else axes[0, 0]
    assert draw(given) is given
    assert plt.get_fignums() == [figure.number]
    assert all(ax.has_data() for ax in axes.flat)
    figure.canvas.draw()


@pytest.mark.parametrize("name", NAMES)
def test_figure_without_given_axes_is_a_new_one(tiny, name):
    draw, count = draw_everything(tiny)[name]
    drawn = draw(None)
    assert len(plt.get_fignums()) == 1
    for ax in drawn if count else [drawn]:
        assert ax.figure is plt.gcf()
        assert ax.has_data()
    plt.gcf().canvas.draw()


@pytest.mark.parametrize("name", SEVERAL)
def test_wrong_number_of_axes_is_refused(tiny, name):
    draw, count = draw_everything(tiny)[name]
    with pytest.raises(ValueError, match=f"3 axes were given; this figure needs {count}"):
        draw(plt.subplots(1, 3)[1])


def test_learning_curves_have_names_units_and_the_given_numbers():
    left, right = labkit.draw_loss_test([1, 2], HISTORY, "validation")
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "loss [nats]")
    assert (right.get_xlabel(), right.get_ylabel()) == ("epoch", "accuracy [%]")
    assert [list(line.get_ydata()) for line in left.lines] == [[2.0, 1.0], [1.5, 0.5]]
    assert [list(line.get_ydata()) for line in right.lines] == [[50, 75], [60, 80]]
    assert [text.get_text() for text in right.get_legend().get_texts()][1] == "validation"


@pytest.mark.parametrize("epochs", [[1], [1, 2, 3], []])
def test_learning_curves_of_other_length_than_the_epochs_are_refused(epochs):
    with pytest.raises(ValueError, match=f"'loss_train': 2.* points for {len(epochs)} epochs; each must"):
        labkit.draw_loss_test(epochs, HISTORY)


def test_learning_curves_without_a_tested_part_show_what_there_is():
    axes = labkit.draw_loss_test([1, 2], HISTORY | {"loss_test": [], "acc_test": []})
    assert [[len(line.get_xdata()) for line in ax.lines] for ax in axes] == [[2, 0], [2, 0]]


KINDS = {
    "numbers": float,
    "0-d tensors": torch.tensor,
    "tensors with a gradient": lambda value: torch.tensor(value, requires_grad=True),
    "float32": np.float32,
    "NumPy arrays without dimensions": np.array,
    "half": lambda value: torch.tensor(value, dtype=torch.half),
}


@pytest.mark.parametrize("kind", KINDS)
def test_thresholds_may_be_numbers_of_any_kind(kind):
    weights = {"conv1": torch.linspace(-1, 1, 9, requires_grad=True)}
    (ax,) = labkit.draw_weight_histograms(weights, {"conv1": KINDS[kind](0.5)})
    assert ax.get_title() == "conv1: 55.6 % below 0.5000"


@pytest.mark.parametrize("gone", [[0, 2], (0, 2), {0, 2}, torch.tensor([0, 2]), np.array([0, 2]), [torch.tensor(0), 2]])
@pytest.mark.parametrize("norms", [torch.tensor([1.0, 3.0, 2.0]), np.array([1.0, 3.0, 2.0]), [1.0, 3.0, 2.0]])
def test_channels_may_be_named_in_any_way(norms, gone):
    (ax,) = labkit.draw_channel_norms({"conv1": norms}, {"conv1": gone})
    assert ax.get_title() == "conv1: 2 of 3 channels"


def test_digits_stand_under_their_titles_in_a_grid():
    axes = labkit.draw_digits(torch.rand(5, 1, 28, 28), list("abcde"), columns=3)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes.flat] == ["a", "b", "c", "d", "e", ""]
    assert [len(ax.images) for ax in axes.flat] == [1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(("shape", "titles"), [((5, 1, 28, 28), 4), ((5, 28, 28), 5)])
def test_digits_without_one_title_each_are_refused(shape, titles):
    with pytest.raises(ValueError, match=f"{titles} titles for images") as error:
        labkit.draw_digits(torch.zeros(shape), ["x"] * titles)
    assert str(shape) in str(error.value)


def test_kernels_carry_as_many_crosses_as_there_are_zeros(tiny):
    before, after = tiny(), tiny()
    prune.l1_unstructured(after.conv1, "weight", 11)
    left, right = labkit.draw_kernels(before, after)
    assert [len(ax.collections[0].get_offsets()) for ax in (left, right)] == [0, 11]
    assert left.get_title() == "before: 0 of 36 weights are zero (×)"
    assert right.get_title() == "after: 11 of 36 weights are zero (×)"


def test_crosses_stand_on_the_zeros(tiny):
    before, after = tiny(), tiny()
    mask = torch.ones(4, 1, 3, 3)
    mask[2, 0, 1, 0] = 0
    prune.custom_from_mask(after.conv1, "weight", mask)
    _, right = labkit.draw_kernels(before, after)
    assert right.collections[0].get_offsets().tolist() == [[2 * 4 + 0, 1]]  # kernels stand 4 pixels apart


def test_kernels_share_one_colour_scale(tiny):
    before, after = tiny(0), tiny(1)
    left, right = labkit.draw_kernels(before, after)
    limit = max(float(model.conv1.weight.detach().abs().max()) for model in (before, after))
    assert left.images[0].get_clim() == right.images[0].get_clim() == pytest.approx((-limit, limit))


def test_kernels_of_a_network_that_is_all_zero_can_be_drawn(tiny):
    model = tiny()
    prune.l1_unstructured(model.conv1, "weight", 1.0)
    _, right = labkit.draw_kernels(model, model)
    right.figure.canvas.draw()
    assert len(right.collections[0].get_offsets()) == 36


@pytest.mark.parametrize("layer", ["fc", "conv9"])
def test_kernels_of_what_is_no_convolution_are_refused(tiny, layer):
    with pytest.raises(ValueError, match=f"layer is '{layer}'; it must be a convolution of both networks"):
        labkit.draw_kernels(tiny(), tiny(), layer)


def test_histogram_colours_what_lies_under_the_threshold():
    weights = {"conv1": torch.tensor([-0.4, -0.1, 0.05, 0.2, 0.3])}
    (ax,) = labkit.draw_weight_histograms(weights, {"conv1": 0.1})
    assert ax.get_title() == "conv1: 40.0 % below 0.1000"
    heights = {}
    for patch in ax.patches:
        colour = to_hex(patch.get_facecolor()).upper()
        heights[colour] = heights.get(colour, 0) + patch.get_height()
    assert heights == {plots.BLUE: 3, plots.ORANGE: 2}
    assert [line.get_xdata()[0] for line in ax.lines] == [-0.1, 0.1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight", "number of weights")


def test_sparsity_bars_have_the_heights_of_the_report(tiny):
    before, after = tiny(), tiny()
    prune.l1_unstructured(after.conv2, "weight", 0.25)
    ax = labkit.draw_sparsity({"dense": before, "pruned": after})
    assert [bar.get_height() for bar in ax.patches] == [0, 0, 0, 0, 0, 25, 0, 0]
    assert ax.get_ylabel() == "zero weights [%]"
    assert [text.get_text() for text in ax.get_xticklabels()][:2] == ["conv1\n36 weights", "conv2\n216 weights"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dense", "pruned"]


def test_sparsity_of_an_unknown_layer_is_refused(tiny):
    with pytest.raises(ValueError, match="layer is 'conv9'"):
        labkit.draw_sparsity({"a": tiny()}, ["conv9"])


def rings(ax):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_fillstyle() == "none"]


def legend_of(axes):
    (legend,) = [ax.get_legend() for ax in axes if ax.get_legend()]
    return [text.get_text() for text in legend.get_texts()]


def test_a_ring_marks_the_first_point_that_has_dropped():
    accuracy, loss = labkit.draw_accuracy_sparsity({"L1": RUN})
    assert rings(accuracy) == [(96.0, 75.0)]
    assert rings(loss) == [(0.1, 75.0)]
    assert legend_of((accuracy, loss)) == ["L1"]


def test_a_run_that_never_drops_has_no_ring_and_says_so():
    axes = labkit.draw_accuracy_sparsity({"flat": RUN[:2]})
    assert [rings(ax) for ax in axes] == [[], []]
    assert legend_of(axes) == ["flat (never)"]


def test_accuracy_and_loss_are_drawn_against_sparsity_with_units():
    accuracy, loss = labkit.draw_accuracy_sparsity({"L1": RUN, "random": RUN[:2]})
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("validation accuracy [%]", "sparsity [%]")
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("validation loss [nats]", "sparsity [%]")
    assert list(accuracy.lines[0].get_xdata()) == pytest.approx([98.0, 97.5, 96.0, 50.0])
    assert list(accuracy.lines[0].get_ydata()) == [0, 50, 75, 90]


def test_a_run_without_points_is_refused():
    with pytest.raises(ValueError, match="run 'L1' has no points"):
        labkit.draw_accuracy_sparsity({"L1": []})


@pytest.mark.parametrize(("drop", "index"), [(0.0, 1), (0.01, 2), (0.1, 3), (0.5, None), (1.0, None)])
def test_first_drop_is_the_first_point_further_below_the_start(drop, index):
    assert labkit.first_drop(RUN, drop) == index


def test_a_fall_of_exactly_the_drop_is_no_drop():
    assert labkit.first_drop([{"accuracy": 0.75}, {"accuracy": 0.5}], 0.25) is None


def test_groups_show_every_measurement_and_the_median():
    ax = labkit.draw_groups({"dense": [1.0, 5.0, 2.0], "pruned": [4.0]}, "time [ms]")
    assert sorted(ax.lines[0].get_xdata()) == [1, 2, 5]
    assert list(ax.lines[1].get_xdata()) == [2, 2]
    assert [text.get_text() for text in ax.texts] == ["median 2.0", "median 4.0"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["dense", "pruned"]
    assert ax.get_xlabel() == "time [ms]"


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="group 'a' is empty"):
        labkit.draw_groups({"a": []}, "time [ms]")


def test_lines_are_means_with_a_band_from_smallest_to_largest():
    ax = labkit.draw_lines({"a": [[1.0, 3.0], [5.0, 7.0]]}, [0, 1], "sparsity [%]", "accuracy [%]")
    assert list(ax.lines[0].get_ydata()) == [2, 6]
    band = ax.collections[0].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(0, 1), (0, 3), (1, 5), (1, 7)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("sparsity [%]", "accuracy [%]")


def test_a_line_of_other_length_than_x_is_refused():
    with pytest.raises(ValueError, match="line 'a' has 1 points for 2 x values"):
        labkit.draw_lines({"a": [[1.0]]}, [0, 1], "x", "y")


def test_channel_norms_stand_in_rising_order_with_the_pruned_ones_in_another_colour():
    norms, pruned = {"conv1": torch.tensor([3.0, 1.0, 2.0])}, {"conv1": [1]}
    (ax,) = labkit.draw_channel_norms(norms, pruned)
    assert [bar.get_height() for bar in ax.patches] == [1, 2, 3]
    colours = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert colours == [plots.ORANGE, plots.BLUE, plots.BLUE]
    assert ax.get_title() == "conv1: 1 of 3 channels"


def test_lines_can_be_told_apart_without_colour():
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 6
    assert len({(m, s) for m, s in zip(plots.MARKERS, plots.STYLES, strict=True)}) == 6
    assert np.unique([plots.COLOURS]).size == 6


# Ledgers and sensitivity

WAYS = [f"batch of {batch}, {way}" for batch in (1, 64) for way in ("1 thread", "all threads")]


def a_ledger(nonzero=2000, work=3_000_000, size=5000, milliseconds=4.0):
    """A ledger of one layer; each of its latencies is different."""
    layer = labkit.LayerCost("fc", 2000, nonzero, work, work // 2)
    latencies = {
        way: labkit.Latency("cpu", 1, 64, f * milliseconds, 0.5 * f * milliseconds, 1.25 * f * milliseconds)
        for f, way in zip((100, 200, 1, 300), WAYS, strict=True)
    }
    return labkit.Ledger((layer,), 2010, size, size // 2, size // 4, latencies)


CURVES = {
    "conv1": [{"channels": 4, "accuracy": 0.9}, {"channels": 3, "accuracy": 0.8}, {"channels": 1, "accuracy": 0.1}],
    "conv2": [{"channels": 8, "accuracy": 0.9}, {"channels": 2, "accuracy": 0.5}],
}


def lengths(ax):
    return [bar.get_width() for bar in ax.patches]


def test_ledger_is_drawn_as_four_panels_with_names_units_and_the_given_numbers():
    axes = labkit.draw_ledger({"dense": a_ledger(), "pruned": a_ledger(500, 6_000_000, 5000, 1.0)})
    assert [ax.get_xlabel() for ax in axes] == [
        "nonzero weights [thousands]",
        "multiply-adds [millions]",
        "file [KB]",
        "batch of 64, 1 thread [ms]",
    ]
    assert [lengths(ax) for ax in axes] == [[2.0, 0.5], [3.0, 6.0], [5.0, 5.0], [4.0, 1.0]]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["dense", "pruned"]
    assert [list(ax.get_yticks()) for ax in axes[1:]] == [[], [], []]


def test_ledger_says_how_many_times_less_than_the_first_network_each_needs():
    axes = labkit.draw_ledger({"a": a_ledger(), "b": a_ledger(500, 6_000_000, 4000, 1.0)})
    shown = [[text.get_text().strip() for text in ax.texts] for ax in axes]
    assert shown == [["2", "0.5  (÷ 4.0)"], ["3", "6  (× 2.0)"], ["5", "4  (÷ 1.2)"], ["4", "1  (÷ 4.0)"]]


def test_whiskers_reach_from_the_10th_to_the_90th_percentile_and_only_times_have_them():
    *others, times = labkit.draw_ledger({"a": a_ledger(), "b": a_ledger(milliseconds=2.0)})
    assert [len(ax.lines) for ax in others] == [0, 0, 0]
    assert [line.get_xdata().tolist() for line in times.lines] == [[2, 5], [1, 2.5]]
    assert times.get_xlim()[1] >= 5


def test_whiskers_that_reach_far_stay_inside_the_figure():
    ledger = a_ledger()
    slow = labkit.Latency("cpu", 1, 64, 4.0, 3.0, 40.0)
    ledger = labkit.Ledger(ledger.layers, 2010, 5000, 2500, 1250, dict(ledger.latencies) | {WAYS[2]: slow})
    assert labkit.draw_ledger({"a": ledger})[3].get_xlim()[1] >= 40


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_ledgers_of_any_number_of_networks_are_drawn_from_top_to_bottom(count):
    names = [f"network {i}" for i in range(count)]
    axes = labkit.draw_ledger({name: a_ledger(2000 - 100 * i) for i, name in enumerate(names)})
    assert [len(ax.patches) for ax in axes] == [count] * 4
    assert [text.get_text() for text in axes[0].get_yticklabels()] == names
    assert all(bottom > top for bottom, top in (ax.get_ylim() for ax in axes))
    colours = [to_hex(bar.get_facecolor()).upper() for bar in axes[0].patches]
    assert colours == [plots.COLOURS[i % 6] for i in range(count)]
    axes[0].figure.canvas.draw()


def test_ledger_of_a_network_without_nonzero_weights_can_be_drawn():
    axes = labkit.draw_ledger({"dense": a_ledger(), "empty": a_ledger(0)})
    assert lengths(axes[0]) == [2.0, 0.0]
    axes[0].figure.canvas.draw()


def test_bars_need_a_value_for_each_name_and_none_below_zero():
    with pytest.raises(ValueError, match=r"KB has \[1.0\]; there must be a value >= 0 for each of 2 names"):
        labkit.draw_bars(["a", "b"], {"KB": [1.0]})
    with pytest.raises(ValueError, match=r"ms has \[1.0, -2.0\]"):
        labkit.draw_bars(["a", "b"], {"ms": [1.0, -2.0]})


def test_maps_share_one_symmetric_colour_scale_and_have_titles():
    axes = labkit.draw_maps({"one": torch.tensor([[1.0, -3.0]]), "two": torch.zeros(1, 2)}, "response")
    assert [ax.get_title() for ax in axes] == ["one", "two"]
    assert [ax.images[0].get_clim() for ax in axes] == [(-3.0, 3.0)] * 2
    assert axes[0].images[0].get_array().tolist() == [[1.0, -3.0]]
    assert {(ax.get_xlabel(), ax.get_ylabel()) for ax in axes} == {("column [pixels]", "row [pixels]")}


def test_real_ledgers_can_be_drawn(tiny):
    found = labkit.ledgers({"a": tiny(), "b": tiny(channels=(2, 3, 4))}, seconds=1e-9)
    axes = labkit.draw_ledger(found)
    assert lengths(axes[1]) == [one.multiply_adds / 1e6 for one in found.values()]
    assert lengths(axes[3]) == [one.latencies[WAYS[2]].median for one in found.values()]


def test_sensitivity_is_accuracy_against_the_share_of_pruned_channels_in_percent():
    ax = labkit.draw_sensitivity(CURVES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("pruned channels of this one layer [%]", "validation accuracy [%]")
    assert [list(line.get_xdata()) for line in ax.lines] == [[0, 25, 75], [0, 75]]
    assert [list(line.get_ydata()) for line in ax.lines] == [pytest.approx([90, 80, 10]), pytest.approx([90, 50])]
    assert legend_of([ax]) == ["conv1 (4 channels)", "conv2 (8 channels)"]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in ax.lines}) == 2


@pytest.mark.parametrize("count", [1, 5])
def test_sensitivity_of_any_number_of_layers_is_drawn(count):
    ax = labkit.draw_sensitivity({f"layer {i}": CURVES["conv1"] for i in range(count)})
    assert len(ax.lines) == len(legend_of([ax])) == count
    assert len({line.get_color() for line in ax.lines}) == count


# What a figure says to those who cannot see it


def shown(monkeypatch, *arguments):
    """The text that ``show`` stores, in a notebook."""
    calls = []
    monkeypatch.setattr(plots, "notebook", lambda: True)
    monkeypatch.setattr(plots, "display", lambda _, metadata: calls.append(metadata))
    before = plt.get_fignums()
    labkit.show(*arguments)
    assert len(plt.get_fignums()) == len(before) - 1  # not shown once more at the end of the cell
    (metadata,) = calls
    assert metadata["alt"] == metadata["image/png"]["alt"]
    return metadata["alt"]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_its_main_numbers(tiny, monkeypatch, name):
    text = shown(monkeypatch, draw_everything(tiny)[name][0](None))
    numbers = {
        "loss_test": "loss [nats] against epoch: train (augmented, while training) ≈2 at 1, ≈1 at 2",
        "kernels": "after: 18 of 36 weights are zero",
        "histograms": "below 0.1000 in size",
        "accuracy_sparsity": "Validation accuracy at each sparsity: L1 from ≈98 at 0 % to ≈50 at 90 %",
        "channel_norms": "conv1: 1 of 4 channels pruned",
        "sparsity": "b: conv1 50.0, conv2 0.0",
        "groups": "time [ms]. a: median ≈1.5 (≈1 to ≈2, n = 2); b: median ≈3 (≈3, n = 1).",
        "lines": "y [%] against x [%]: a ≈1.5 at 0, ≈3.5 at 1",
        "ledger": "file [KB]: a ≈",
        "sensitivity": "validation accuracy [%] against pruned channels of this one layer [%]: conv1",
        "speed": "validation accuracy [%] against time for an image, 1 thread [ms]: cut ≈98 at 0.5, ≈99 at 2",
    }
    assert numbers[name] in text


def test_the_text_of_ones_own_figure_is_computed_or_given(monkeypatch):
    def draw():
        figure, (left, right) = plt.subplots(1, 2)
        left.plot([1, 2_000], [float("nan"), 3], label="mine")
        left.plot([1, 2], [7, 7], label="flat")
        left.axvline(1)
        right.set_title("bars")
        right.bar([1, 2], [3, 4])
        right.scatter([1, 2, 3], [1, 2, 3], label="others")
        return figure, (left, right)

    axes = draw()[1]
    assert shown(monkeypatch, axes) == (
        "chart of y against x: mine ≈3 at 2,000; flat ≈7 throughout. "
        "bars: chart of y against x: 2 bars, ≈3 to ≈4; 3 points, others."
    )
    assert shown(monkeypatch, draw()[1][0]) == shown(monkeypatch, draw()[0])
    assert shown(monkeypatch, draw()[1], "What I see.") == "What I see."


def test_what_a_blank_task_leaves_empty_is_said_and_breaks_no_figure(monkeypatch):
    norms = labkit.draw_channel_norms({"conv1": torch.ones(3)}, {"conv1": []})
    assert shown(monkeypatch, norms) == "conv1: 0 of 3 channels pruned; L2 norms ≈1, of the pruned none."
    curves = labkit.draw_loss_test([], {key: [] for key in HISTORY})
    assert "validation nothing." in shown(monkeypatch, curves)
    lines = labkit.draw_lines({"a": [[float("nan")], [1.0]], "b": [[2.0], [2.0]]}, [1, 2], "x", "y")
    assert shown(monkeypatch, lines) == "chart of y against x: a ≈1 at 2; b ≈2 throughout."


def test_in_a_script_the_figure_is_shown_as_usual(monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(plt.get_fignums()))
    axes = labkit.draw_groups({"a": [1.0]}, "x")
    labkit.show(axes)
    assert len(calls) == 1
    assert not plt.fignum_exists(axes.figure.number)
