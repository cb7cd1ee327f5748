import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import labkit


def one_step(model, optimizer=None):
    """One training step on random images."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def l1(model, amount):
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", amount)
    return model


def zeros(model):
    return [row.zeros for row in labkit.sparsity_report(model)]


# What is counted


def test_effective_weight_is_weight_times_mask(layer):
    pruned = layer([1.0, 2.0], [3.0, 4.0])
    prune.custom_from_mask(pruned, "weight", torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert labkit.effective_weight(pruned).tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert not labkit.effective_weight(pruned).requires_grad


def test_effective_weight_of_a_layer_without_weight_is_refused():
    with pytest.raises(ValueError, match="ReLU has no weight"):
        labkit.effective_weight(nn.ReLU())


def test_parameters_of_a_pruned_network_show_no_zero_but_the_report_does(tiny):
    model = l1(tiny(), 0.5)
    assert sum(int((p == 0).sum()) for name, p in model.named_parameters() if name.endswith("weight_orig")) == 0
    assert zeros(model) == [18, 108, 216, 1_000]


def test_report_has_names_sizes_and_zeros_in_the_order_of_the_model(tiny):
    model = tiny()
    with torch.no_grad():
        model.conv2.weight[1] = 0
        model.conv2.weight[0, 0, 0, 0] = 0
    assert labkit.sparsity_report(model) == [
        labkit.LayerSparsity("conv1", weights=36, zeros=0, channels=4, zero_channels=0),
        labkit.LayerSparsity("conv2", weights=216, zeros=37, channels=6, zero_channels=1),
        labkit.LayerSparsity("conv3", weights=432, zeros=0, channels=8, zero_channels=0),
        labkit.LayerSparsity("fc", weights=2_000, zeros=0, channels=10, zero_channels=0),
    ]
    assert labkit.sparsity_report(model)[1].sparsity == 37 / 216


def test_sparsity_of_several_layers_is_zeros_over_weights_not_a_mean_of_fractions(tiny):
    model = tiny()
    with torch.no_grad():
        model.conv1.weight.zero_()
    assert labkit.sparsity(model) == 36 / 2_684
    assert labkit.sparsity(model, ["conv1", "conv2"]) == 36 / 252
    assert labkit.sparsity(model, ["conv1"]) == 1.0


def test_batch_norm_and_bias_do_not_count(tiny):
    model = tiny()
    with torch.no_grad():
        model.batch1.weight.zero_()
        model.conv1.bias.zero_()
    assert labkit.sparsity(model) == 0.0


def test_unknown_layer_is_refused_with_the_known_ones(tiny):
    with pytest.raises(ValueError, match="layer is 'conv9'; this model's prunable layers are conv1, conv2, conv3, fc"):
        labkit.sparsity(tiny(), ["conv9"])


def test_batch_norm_is_no_prunable_layer(tiny):
    with pytest.raises(ValueError, match="layer is 'batch1'"):
        labkit.sparsity(tiny(), ["batch1"])


@pytest.mark.parametrize("layers", [None, []])
def test_nothing_to_report_is_refused(layers):
    with pytest.raises(ValueError, match="no layer to report"):
        labkit.sparsity_report(nn.Sequential(nn.ReLU()), layers)


def test_weights_that_are_nan_are_refused_with_their_number(tiny):
    model = tiny()
    with torch.no_grad():
        model.conv2.weight.flatten()[:3] = torch.nan
    with pytest.raises(ValueError, match="conv2 has 3 weights that are NaN"):
        labkit.sparsity_report(model)


def test_nan_under_a_mask_is_refused_too(tiny):
    model = tiny()
    prune.custom_from_mask(model.conv1, "weight", torch.zeros_like(model.conv1.weight))
    with torch.no_grad():
        model.conv1.weight_orig.flatten()[0] = torch.nan
    with pytest.raises(ValueError, match="conv1 has 1 weights that are NaN"):
        labkit.sparsity(model)


def pruned(layer, name="weight"):
    return prune.l1_unstructured(layer, name, 0.5)


@pytest.mark.parametrize(
    ("layer", "rows"),
    [
        (lambda: pruned(nn.Conv1d(4, 8, 3)), {"0": (96, 48)}),
        (lambda: pruned(nn.Conv3d(1, 2, 3)), {"0": (54, 27)}),
        (lambda: pruned(nn.ConvTranspose2d(2, 4, 3)), {"0": (72, 36)}),
        (lambda: pruned(nn.Embedding(10, 4)), {"0": (40, 20)}),
        (lambda: pruned(nn.BatchNorm2d(8)), {"0": (8, 4)}),
        (lambda: pruned(nn.LSTM(4, 8), "weight_hh_l0"), {"0.weight_ih_l0": (128, 0), "0.weight_hh_l0": (256, 128)}),
        (lambda: pruned(nn.GRU(4, 8), "weight_ih_l0"), {"0.weight_hh_l0": (192, 0), "0.weight_ih_l0": (96, 48)}),
        (
            lambda: pruned(nn.MultiheadAttention(8, 2), "in_proj_weight"),
            {"0.out_proj": (64, 0), "0.in_proj_weight": (192, 96)},
        ),
    ],
    ids=["Conv1d", "Conv3d", "ConvTranspose2d", "Embedding", "BatchNorm2d", "LSTM", "GRU", "MultiheadAttention"],
)
def test_every_layer_with_a_mask_counts(layer, rows):
    model = nn.Sequential(layer(), nn.Linear(4, 5))
    report = {row.name: (row.weights, row.zeros) for row in labkit.sparsity_report(model)}
    assert report == rows | {"1": (20, 0)}
    weights, zeros = (sum(column) for column in zip(*report.values(), strict=True))
    assert labkit.sparsity(model) == zeros / weights
    assert labkit.sparsity(model, [*rows]) == zeros / (weights - 20)
    assert all(name in labkit.sparsity_table(model) for name in rows)


def test_a_layer_that_is_the_model_counts():
    assert labkit.sparsity(pruned(nn.Conv1d(2, 4, 3))) == 0.5
    assert [row.name for row in labkit.sparsity_report(pruned(nn.RNN(2, 4), "weight_hh_l0"))][1] == "weight_hh_l0"


def test_masks_of_batch_norms_and_biases_leave_the_convolutions_as_they_are(tiny):
    model = l1(tiny(), 0.5)
    before = labkit.sparsity_report(model)
    prune.l1_unstructured(model.conv1, "bias", 0.5)
    assert labkit.sparsity_report(model) == before
    prune.l1_unstructured(model.batch1, "weight", 0.5)
    assert labkit.sparsity_report(model) == [*before, labkit.LayerSparsity("batch1", 4, 2, 4, 2)]


# At any moment


def test_zeros_are_right_directly_after_pruning(tiny):
    assert zeros(l1(tiny(), 0.25)) == [9, 54, 108, 500]


def test_zeros_stay_after_a_training_step_with_momentum_and_weight_decay(tiny):
    model = l1(tiny(), 0.25)
    optimizer = one_step(model)
    one_step(model, optimizer)
    assert zeros(model) == [9, 54, 108, 500]


def test_zeros_are_right_after_load_state_dict(tiny):
    pruned, other = l1(tiny(0), 0.25), l1(tiny(1), 0.5)
    other.load_state_dict(pruned.state_dict())
    assert zeros(other) == [9, 54, 108, 500]


def test_zeros_are_right_after_prune_remove(tiny):
    model = l1(tiny(), 0.25)
    one_step(model)
    for pruned in labkit.prunable_layers(model).values():
        prune.remove(pruned, "weight")
    assert zeros(model) == [9, 54, 108, 500]
    assert not any(name.endswith("_mask") for name in model.state_dict())


def test_refreshed_weight_is_what_the_next_forward_pass_uses(tiny):
    model = l1(tiny(), 0.5)
    one_step(model)
    assert not torch.equal(model.conv1.weight, model.conv1.weight_orig * model.conv1.weight_mask)
    labkit.refresh_weights(model)
    for pruned in labkit.prunable_layers(model).values():
        assert torch.equal(pruned.weight, pruned.weight_orig * pruned.weight_mask)
        assert torch.equal(pruned.weight, labkit.effective_weight(pruned))


def test_refreshing_reaches_a_pruned_bias_too(tiny):
    model = tiny()
    prune.l1_unstructured(model.fc, "bias", 5)
    one_step(model)
    labkit.refresh_weights(model)
    assert torch.equal(model.fc.bias, model.fc.bias_orig * model.fc.bias_mask)
    assert int((model.fc.bias == 0).sum()) == 5


def test_masked_weights_drift_under_momentum_but_never_come_back(tiny):
    model = l1(tiny(), 0.5)
    before = model.fc.weight_orig.detach().clone()
    one_step(model)
    masked = model.fc.weight_mask == 0
    assert not torch.equal(model.fc.weight_orig[masked], before[masked])
    assert (labkit.effective_weight(model.fc)[masked] == 0).all()


# How much is pruned


@pytest.mark.parametrize(("amount", "pruned"), [(1, 1), (1.0, 8), (3, 3), (0.25, 2), (0, 0), (0.0, 0)])
def test_whole_number_is_a_count_and_a_float_is_a_fraction(layer, amount, pruned):
    made = layer([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    prune.l1_unstructured(made, "weight", amount)
    assert labkit.sparsity_report(nn.Sequential(made))[0].zeros == pruned


@pytest.mark.parametrize(("amount", "count", "pruned"), [(0.5, 5, 2), (0.5, 3, 2), (0.5, 7, 4), (0.1, 4, 0)])
def test_fractions_are_rounded_to_the_even_neighbour(layer, amount, count, pruned):
    made = layer([float(i + 1) for i in range(count)])
    prune.l1_unstructured(made, "weight", amount)
    assert labkit.sparsity_report(nn.Sequential(made))[0].zeros == pruned


def test_a_tenth_of_four_channels_is_none(tiny):
    model = tiny()
    prune.ln_structured(model.conv1, "weight", amount=0.1, n=2, dim=0)
    assert labkit.sparsity_report(model)[0].zero_channels == 0


@pytest.mark.parametrize("share", [Fraction(1, 4), Fraction(1, 2)])
def test_two_rounds_prune_one_minus_the_square_of_what_is_kept(layer, share):
    made = layer([float(i) for i in range(1, 257)])
    for _ in range(2):
        prune.l1_unstructured(made, "weight", float(share))
    kept = 256 * (1 - share) ** 2
    assert kept.denominator == 1
    assert labkit.sparsity_report(nn.Sequential(made))[0].zeros == 256 - kept


def test_ten_rounds_of_a_tenth_leave_nine_tenths_to_the_tenth(layer):
    made, left = layer([float(i) for i in range(1, 1_001)]), 1_000
    for _ in range(10):
        prune.l1_unstructured(made, "weight", 0.1)
        left -= round(0.1 * left)
    assert labkit.sparsity_report(nn.Sequential(made))[0].zeros == 1_000 - left
    assert (1_000 - left) / 1_000 == pytest.approx(1 - 0.9**10, abs=0.002)


def test_a_pruning_cell_run_twice_prunes_what_is_left_unless_it_starts_from_a_clone(tiny):
    model = tiny()
    for _ in range(2):
        pruned = l1(labkit.clone(model), 0.25)
        assert zeros(pruned) == [9, 54, 108, 500]
    assert zeros(l1(pruned, 0.25))[0] == 9 + round(0.25 * 27)


def test_every_survivor_is_larger_than_every_pruned_weight(tiny):
    model = tiny()
    layers = [(layer, "weight") for layer in labkit.prunable_layers(model).values()]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.5)
    weight = torch.cat([layer.weight_orig.detach().abs().flatten() for layer, _ in layers])
    mask = torch.cat([layer.weight_mask.flatten() for layer, _ in layers])
    assert float(weight[mask == 1].min()) > float(weight[mask == 0].max())
    assert sum(zeros(model)) == 1_342 == 2_684 // 2


def test_random_masks_follow_the_global_seed(tiny):
    masks = []
    for seed in (0, 0, 1):
        model = tiny()
        labkit.set_seed(seed)
        prune.random_unstructured(model.fc, "weight", 0.5)
        masks.append(model.fc.weight_mask)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_weights_of_a_network_that_computed_on_channels_last_batches_can_still_be_pruned(tiny):
    model = tiny()
    one_step(model)
    model(torch.rand(4, 1, 28, 28).to(memory_format=torch.channels_last))
    for layer in (model.conv1, model.conv2, model.conv3):
        assert layer.weight.is_contiguous()
        prune.random_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (1.5, r"amount=1\.5 should either be a float in the range \[0, 1\] or a non-negative integer"),
        (-0.1, r"amount=-0\.1 should either be a float in the range \[0, 1\] or a non-negative integer"),
        (-1, "amount=-1 should either be"),
        (2_001, "amount=2001 should be smaller than the number of parameters to prune=2000"),
    ],
)
def test_amount_out_of_range_is_named_and_leaves_the_network_unpruned_and_usable(tiny, amount, words):
    model, X = tiny().eval(), torch.rand(2, 1, 28, 28)
    before = model(X)
    with pytest.raises(ValueError, match=words):
        prune.l1_unstructured(model.fc, "weight", amount)
    copied = labkit.clone(model)
    assert torch.equal(copied(X), before)
    assert not prune.is_pruned(copied)
    assert zeros(copied) == [0, 0, 0, 0]
    one_step(copied)


# Channels


def test_structured_pruning_empties_the_channels_of_smallest_norm(tiny):
    model = tiny()
    norms = model.conv2.weight.detach().flatten(1).norm(dim=1)
    prune.ln_structured(model.conv2, "weight", amount=2, n=2, dim=0)
    assert labkit.zero_channels(model.conv2).tolist() == sorted(norms.argsort()[:2].tolist())
    assert labkit.sparsity_report(model)[1] == labkit.LayerSparsity("conv2", 216, 72, 6, 2)


def test_zero_channels_are_rising_numbers(layer):
    made = layer([0.0, 0.0], [1.0, 0.0], [0.0, 0.0])
    assert labkit.zero_channels(made).tolist() == [0, 2]
    assert labkit.zero_channels(made).dtype == torch.int64
    assert labkit.zero_channels(layer([1.0])).tolist() == []


def test_an_emptied_channel_still_emits_its_bias(tiny):
    model = tiny().eval()
    prune.ln_structured(model.conv1, "weight", amount=1, n=2, dim=0)
    (channel,) = labkit.zero_channels(model.conv1).tolist()
    output = model.conv1(torch.rand(2, 1, 28, 28))[:, channel]
    assert torch.equal(output, model.conv1.bias[channel].expand_as(output))


# The table


def test_table_has_the_exact_numbers(tiny):
    model = tiny()
    prune.ln_structured(model.conv1, "weight", amount=0.25, n=2, dim=0)
    lines = [line for line in labkit.sparsity_table(model).splitlines() if line.startswith("|")]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] == [
        ["layer", "weights", "zero weights", "sparsity", "channels all zero"],
        ["conv1", "36", "9", "25.00 %", "1 of   4"],
        ["conv2", "216", "0", "0.00 %", "0 of   6"],
        ["conv3", "432", "0", "0.00 %", "0 of   8"],
        ["fc", "2,000", "0", "0.00 %", "0 of  10"],
        ["together", "2,684", "9", "0.34 %", ""],
    ]


def test_movable_table_has_the_same_width_for_any_number_of_zeros():
    widths = set()
    for amount in (0.0, 0.001, 0.5, 1.0):
        widths |= {len(line) for line in labkit.sparsity_table(l1(labkit.CNN(), amount), movable=True).splitlines()}
    assert len(widths) == 1


def test_movable_table_marks_the_layers_but_not_the_total(tiny):
    *_, fc, together, _ = labkit.sparsity_table(tiny(), movable=True).splitlines()
    assert fc.count("≈") == 2
    assert "≈" not in together


def test_table_of_chosen_layers_counts_only_those(tiny):
    table = labkit.sparsity_table(l1(tiny(), 0.5), ["conv1"])
    assert "conv2" not in table
    assert "|       36 |" not in table
    assert [line.split()[3] for line in table.splitlines() if "together" in line] == ["36"]


# Clones


def dense(model):
    return model


def freshly_pruned(model):
    return l1(model, 0.5)


def just_trained(model):
    one_step(model)
    return model


def pruned_and_trained(model):
    one_step(l1(model, 0.5))
    return model


def in_the_middle_of_a_step(model):
    l1(model, 0.5)
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8))
    return model


def pruned_repeatedly(model):
    return l1(l1(model, 0.5), 0.5)


MOMENTS = [dense, freshly_pruned, just_trained, pruned_and_trained, in_the_middle_of_a_step, pruned_repeatedly]


@pytest.mark.parametrize("moment", MOMENTS)
def test_clone_is_equal(tiny, moment):
    model = moment(tiny())
    copied = labkit.clone(model)
    assert model.state_dict().keys() == copied.state_dict().keys()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in copied.state_dict().items())
    X = torch.rand(4, 1, 28, 28)
    assert torch.equal(model.eval()(X), copied.eval()(X))
    assert zeros(model) == zeros(copied)


@pytest.mark.parametrize("moment", MOMENTS)
def test_clone_is_independent(tiny, moment):
    model = moment(tiny())
    before = copy.deepcopy(model.state_dict())
    copied = labkit.clone(model)
    l1(copied, 0.5)
    one_step(copied)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)
    one_step(model)
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copied.parameters()}


def test_clone_of_a_freshly_pruned_model_is_independent_where_deepcopy_refuses(tiny):
    model = l1(tiny(), 0.5)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    copied = labkit.clone(model)
    l1(copied, 0.5)
    assert zeros(model) == [18, 108, 216, 1_000]
    assert zeros(copied) == [27, 162, 324, 1_500]


def test_optimizer_of_a_network_stays_valid_when_the_network_is_pruned(tiny):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    l1(model, 0.5)
    before = labkit.effective_weight(model.fc)
    one_step(model, optimizer)
    assert not torch.equal(labkit.effective_weight(model.fc), before)
    assert zeros(model) == [18, 108, 216, 1_000]


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize(
    "written", [torch.Tensor.float, torch.Tensor.bool, torch.Tensor.int, torch.Tensor.numpy, torch.Tensor.tolist]
)
def test_masks_of_any_kind_are_compared_with_a_layer(tiny, written, permanent):
    layer = tiny().conv1
    prune.l1_unstructured(layer, "weight", 0.25)
    mask = layer.weight_mask.clone()
    if permanent:
        prune.remove(layer, "weight")
    assert labkit.compare_masks(written(mask), layer) == "True"
    mask.view(-1)[mask.flatten().argmin()] = 1
    assert labkit.compare_masks(written(mask), layer) == f"False, 1 of {mask.numel()} weights differ"


def test_a_mask_of_another_shape_is_told_with_both_shapes(tiny):
    layer = tiny().conv1
    said = labkit.compare_masks(torch.ones(3, 3), layer)
    assert said == f"False, the shape is (3, 3) instead of {tuple(layer.weight.shape)}"


WRITTEN = {
    "tensor": lambda mask: mask,
    "with a gradient": lambda mask: mask.clone().requires_grad_(),
    "sparse": torch.Tensor.to_sparse,
    "array": torch.Tensor.numpy,
    "nested lists": torch.Tensor.tolist,
    "a list of tensors": list,
    "a tuple of arrays": lambda mask: tuple(mask.numpy()),
    "lists of tensors": lambda mask: [list(channel) for channel in mask],
    "a list of tensors with gradients": lambda mask: [channel.clone().requires_grad_() for channel in mask],
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_whatever_holds_numbers_becomes_a_plain_tensor(written):
    mask = torch.tensor([[0.0, 1.0, 0.25], [1.0, 0.0, -2.0]])
    made = labkit.as_tensor(written(mask))
    assert torch.equal(made, mask)
    assert (made.layout, made.requires_grad) == (torch.strided, False)


def test_lists_of_different_lengths_are_no_tensor():
    with pytest.raises(RuntimeError, match="equal size"):
        labkit.as_tensor([[1, 0], [1]])


@pytest.mark.parametrize("given", [{"fc": 2, "conv1": 1}, [1, 2], (1, 2), torch.tensor([1, 2]), np.array([1, 2])])
def test_things_in_the_order_of_the_layers_are_found_by_layer(given):
    found = labkit.by_layer(given, ["conv1", "fc"])
    assert (int(found["conv1"]), int(found["fc"])) == (1, 2)
    assert isinstance(found, dict)


def test_one_thing_for_each_layer_is_needed():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        labkit.by_layer([1], ["conv1", "fc"])
