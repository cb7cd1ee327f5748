import copy
import random
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import labkit

PAIRS = {"conv1": "batch1", "conv2": "batch2", "conv3": "batch3"}
FUNCTIONS = [labkit.dead_channels, labkit.silence_channels, labkit.remove_dead_channels]
NONE = {"conv1": [], "conv2": [], "conv3": []}


def scrambled(channels=(4, 6, 8), seed=0, input_shape=(1, 28, 28), num_of_cls=10, dtype=torch.float32):
    """A CNN in evaluation mode with random BatchNorm statistics, weights and biases."""
    generator = torch.Generator().manual_seed(seed)
    model = labkit.CNN(input_shape, num_of_cls, channels).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                size = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 1.0
                tensor.copy_(size * torch.randn(tensor.shape, generator=generator))
    return model.to(dtype)


def masked(model, **channels):
    """Empties the given output channels of the named layers by masks."""
    for name, numbers in channels.items():
        layer = getattr(model, name)
        mask = torch.ones_like(layer.weight)
        mask[numbers] = 0
        prune.custom_from_mask(layer, "weight", mask)
    return model


def silenced(model, **channels):
    labkit.silence_channels(masked(model, **channels))
    return model


def images_for(model, count=4, seed=0):
    images = torch.rand(count, *model.input_shape, generator=torch.Generator().manual_seed(seed))
    return images.to(model.fc.bias.dtype)


@torch.no_grad()
def difference(one, other, images):
    return float((one(images) - other(images)).abs().max())


def state_of(model):
    return copy.deepcopy(model.state_dict()), [(name, module.training) for name, module in model.named_modules()]


def same_state(one, other):
    keys = list(one[0]) == list(other[0])
    return keys and all(torch.equal(one[0][key], other[0][key]) for key in one[0]) and one[1] == other[1]


def by_hand(model):
    """Dead and silent channels of a scrambled network, found with loops over its state_dict."""
    state = {key: tensor.tolist() for key, tensor in model.state_dict().items()}

    def values(key, *place):
        value, mask = state.get(f"{key}_orig", state.get(key)), state.get(f"{key}_mask")
        for index in place:
            value, mask = value[index], mask and mask[index]
        return np.multiply(value, 1 if mask is None else mask)

    dead, empty, inputs = {}, {}, range(model.input_shape[0])
    for (conv, batch), width in zip(PAIRS.items(), model.channels, strict=True):
        dead[conv], empty[conv] = [], []
        for k in range(width):
            if values(f"{batch}.weight", k) == 0 and values(f"{batch}.bias", k) <= 0:
                dead[conv].append(k)
            elif not any(values(f"{conv}.weight", k, i).any() for i in inputs):
                empty[conv].append(k)
        inputs = [k for k in range(width) if k not in dead[conv] + empty[conv]]
    return dead, empty


def train_steps(model, optimizer, steps=3):
    model.train()
    images = images_for(model, 16, seed=1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.arange(16) % model.num_of_cls).backward()
        optimizer.step()
    return model


# Any network


@st.composite
def pruned_networks(draw, dtype):
    widths = draw(st.tuples(*[st.integers(1, 8)] * 3))
    model = scrambled(widths, draw(st.integers(0, 10_000)), (draw(st.sampled_from([1, 3])), 16, 20), 4, dtype)
    torch.manual_seed(draw(st.integers(0, 10_000)))
    for (conv, batch), width in zip(PAIRS.items(), widths, strict=True):
        layer, how = getattr(model, conv), draw(st.sampled_from(["none", "custom", "structured"]))
        if how == "custom":
            emptied = draw(st.lists(st.integers(0, width - 1), unique=True, max_size=width - 1))
            masked(model, **{conv: emptied})
        elif how == "structured":
            prune.ln_structured(layer, "weight", draw(st.integers(0, width - 1)), n=2, dim=0)
        if draw(st.booleans()):
            prune.random_unstructured(layer, "weight", draw(st.floats(0.0, 0.9, allow_subnormal=False)))
        killed = draw(st.lists(st.integers(0, width - 1), unique=True, max_size=width // 3))
        with torch.no_grad():
            getattr(model, batch).weight[killed] = 0
            getattr(model, batch).bias[killed] *= draw(st.sampled_from([-1.0, 1.0, 0.0]))
    if draw(st.booleans()):
        prune.l1_unstructured(model.fc, "weight", 0.5)
    return model


def check_silence_and_removal(model, tolerance):
    dead, empty = by_hand(model)
    widths = [width - len(dead[conv]) - len(empty[conv]) for conv, width in zip(PAIRS, model.channels, strict=True)]
    assume(min(widths) > 0)
    assert labkit.dead_channels(model) == dead
    assert labkit.silence_channels(model) == empty
    assert labkit.dead_channels(model) == {conv: sorted(dead[conv] + empty[conv]) for conv in PAIRS}
    small, images = labkit.remove_dead_channels(model), images_for(model)
    assert list(small.channels) == widths
    assert [len(labkit.effective_weight(getattr(small, conv))) for conv in PAIRS] == widths
    assert difference(model, small, images) <= tolerance
    plain = labkit.CNN(small.input_shape, small.num_of_cls, small.channels).to(small.fc.bias.dtype)
    plain.load_state_dict(small.state_dict())
    assert not prune.is_pruned(small)
    assert type(small) is labkit.CNN
    assert all(parameter.requires_grad and parameter.is_contiguous() for parameter in small.parameters())
    return small, images


def check_life_after(small, tolerance):
    before = labkit.clone(small)
    train_steps(small, torch.optim.SGD(small.parameters(), lr=0.1), steps=1)
    assert not torch.equal(small.fc.bias, before.fc.bias)
    assert small.channels == before.channels
    for conv in PAIRS:
        width = len(getattr(before, conv).weight)
        prune.ln_structured(getattr(before, conv), "weight", width // 2, n=2, dim=0)
    labkit.silence_channels(before)
    again = labkit.remove_dead_channels(before)
    assert again.channels == tuple(width - width // 2 for width in before.channels)
    assert difference(before, again, images_for(before)) <= tolerance


@settings(max_examples=40)
@given(pruned_networks(torch.float64))
def test_any_silenced_network_computes_the_same_in_float64_without_its_dead_channels(model):
    small, _ = check_silence_and_removal(model, 1e-10)
    check_life_after(small, 1e-10)


@pytest.mark.slow
@settings(max_examples=40)
@given(pruned_networks(torch.float32))
def test_any_silenced_network_computes_the_same_in_float32_and_survives_its_file(model):
    small, images = check_silence_and_removal(model, 1e-4)
    loaded = labkit.load_network(labkit.save_network(small, labkit.models_dir() / "small.pth")).eval()
    assert loaded.channels == small.channels
    assert torch.equal(loaded(images), small(images))
    check_life_after(small, 1e-4)


@settings(max_examples=30)
@given(pruned_networks(torch.float64))
def test_removal_computes_the_same_in_training_mode_too(model):
    small, images = check_silence_and_removal(model, 1e-10)
    assert difference(model.train(), small.train(), images) <= 1e-10
    for (key, ours), theirs in zip(small.state_dict().items(), small.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


@settings(max_examples=20)
@given(pruned_networks(torch.float32), st.sampled_from(["sgd", "adamw"]))
def test_silenced_channels_of_any_network_stay_silent_in_training(model, kind):
    check_silence_and_removal(model, 1e-4)
    dead = labkit.dead_channels(model)
    optimizer = {
        "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
    }[kind](model.parameters())
    train_steps(model, optimizer)
    assert all(set(dead[conv]) <= set(labkit.dead_channels(model)[conv]) for conv in PAIRS)


def halved_reference(dtype):
    model = labkit.load_network("CNN_MNIST").eval().to(dtype)
    for conv in PAIRS:
        prune.ln_structured(getattr(model, conv), "weight", amount=0.5, n=2, dim=0)
    labkit.silence_channels(model)
    return model, labkit.remove_dead_channels(model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [pytest.param(torch.float64, 1e-10, marks=pytest.mark.full), (torch.float32, 1e-4)]
)
def test_reference_network_of_half_the_channels_computes_the_same_on_all_test_images(dtype, tolerance):
    model, small = halved_reference(dtype)
    assert small.channels == (16, 32, 64)
    counted, worst = 0, 0.0
    for images, _ in labkit.loaders(batch_size=500)[2]:
        worst = max(worst, difference(model, small, images.to(dtype)))
        counted += len(images)
    assert counted == 10_000
    assert worst <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_reference_network_of_half_the_channels_computes_the_same_on_five_hundred_images(dtype, tolerance):
    model, small = halved_reference(dtype)
    images = torch.cat([images for images, _ in labkit.loaders(batch_size=250)[2].first(500)])
    assert len(images) == 500
    assert difference(model, small, images.to(dtype)) <= tolerance
    assert torch.equal(model(images.to(dtype)).argmax(1), small(images.to(dtype)).argmax(1))


# Silence


def test_silence_returns_what_it_silenced_and_a_second_call_silences_nothing():
    model = masked(scrambled(), conv1=[1, 3], conv2=[0], conv3=[2, 5, 7])
    assert labkit.silence_channels(model) == {"conv1": [1, 3], "conv2": [0], "conv3": [2, 5, 7]}
    before = state_of(model)
    assert labkit.silence_channels(model) == NONE
    assert same_state(state_of(model), before)


def test_silence_zeroes_bias_and_both_numbers_of_batch_norm_and_nothing_else():
    model = masked(scrambled(), conv2=[1, 4])
    before, _ = state_of(model)
    labkit.silence_channels(model)
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {"conv2.bias", "batch2.weight", "batch2.bias"}
    for key in changed:
        tensor = model.state_dict()[key]
        assert tensor[[1, 4]].tolist() == [0, 0]
        assert torch.equal(tensor[[0, 2, 3, 5]], before[key][[0, 2, 3, 5]])


@pytest.mark.parametrize("conv", PAIRS)
def test_silence_changes_the_function_exactly_by_the_constant_of_the_channel(conv):
    model = masked(scrambled(), **{conv: [0]})
    with torch.no_grad():
        getattr(model, PAIRS[conv]).weight[0], getattr(model, PAIRS[conv]).bias[0] = 0.5, 3.0
    other = labkit.clone(model)

    def zeroed(_module, _inputs, output):
        return output.index_fill(1, torch.tensor([0]), 0)

    getattr(other, PAIRS[conv]).register_forward_hook(zeroed)
    images = images_for(model)
    before = model(images)
    assert labkit.silence_channels(model)[conv] == [0]
    assert not torch.allclose(model(images), before, atol=1e-3)
    assert torch.equal(model(images), other(images))


def test_silence_does_not_change_the_function_where_the_constant_is_not_positive():
    model, images = masked(scrambled(), conv1=[0]), images_for(scrambled())
    with torch.no_grad():
        model.batch1.weight[0], model.batch1.bias[0] = 1e-3, -3.0
    before = model(images)
    assert labkit.silence_channels(model)["conv1"] == [0]
    assert torch.equal(model(images), before)


@pytest.mark.parametrize("unstructured", [False, True])
def test_silence_leaves_a_network_without_empty_channels_as_it_is(unstructured):
    model = scrambled()
    if unstructured:
        for layer in labkit.prunable_layers(model).values():
            prune.l1_unstructured(layer, "weight", 0.3)
    before, logits = state_of(model), model(images_for(model))
    assert labkit.silence_channels(model) == NONE
    assert same_state(state_of(model), before)
    assert torch.equal(model(images_for(model)), logits)


def test_silence_reaches_channels_that_are_empty_without_a_mask():
    model = scrambled()
    with torch.no_grad():
        model.conv2.weight[3] = 0
    assert labkit.silence_channels(model) == NONE | {"conv2": [3]}


def test_channel_whose_weights_read_only_dead_channels_is_silenced_too():
    model = masked(scrambled(), conv1=[0, 1])
    mask = torch.ones_like(model.conv2.weight)
    mask[2, 2:] = 0
    prune.custom_from_mask(model.conv2, "weight", mask)
    assert labkit.zero_channels(model.conv2).tolist() == []
    assert labkit.silence_channels(model) == {"conv1": [0, 1], "conv2": [2], "conv3": []}
    small = labkit.remove_dead_channels(model)
    assert small.channels == (2, 5, 8)
    assert difference(model, small, images_for(model)) <= 1e-4


def test_silence_runs_through_all_layers_when_the_first_is_empty():
    model = masked(scrambled(), conv1=[0, 1, 2, 3])
    assert labkit.silence_channels(model) == {"conv1": [*range(4)], "conv2": [*range(6)], "conv3": [*range(8)]}
    assert torch.equal(model(images_for(model)), model.fc.bias.expand(4, -1))


def test_channel_that_reads_only_channels_dead_by_batch_norm_is_silenced():
    model = scrambled()
    with torch.no_grad():
        model.batch1.weight[:3], model.batch1.bias[:3] = 0, -1
        model.conv2.weight[5, 3] = 0
    assert labkit.silence_channels(model) == NONE | {"conv2": [5]}
    assert labkit.dead_channels(model) == {"conv1": [0, 1, 2], "conv2": [5], "conv3": []}


def test_silence_refreshes_the_weights_of_a_pruned_bias():
    model = masked(scrambled(), conv1=[0])
    prune.custom_from_mask(model.conv1, "bias", torch.ones(4))
    labkit.silence_channels(model)
    assert model.conv1.bias[0] == model.conv1.bias_orig[0] == 0


@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_silenced_channels_stay_silent_in_training(baked, momentum, weight_decay):
    model = silenced(scrambled(), conv1=[1], conv2=[0, 2], conv3=[7])
    model = labkit.bake_masks(model) if baked else model
    seen = {}
    for name in PAIRS.values():
        getattr(model, name).register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output}))
    before = labkit.effective_weight(model.conv2).clone()
    train_steps(model, torch.optim.SGD(model.parameters(), 0.1, momentum, weight_decay=weight_decay), steps=6)
    assert labkit.dead_channels(model) == {"conv1": [1], "conv2": [0, 2], "conv3": [7]}
    assert labkit.zero_channels(model.conv2).tolist() == [0, 2]
    assert not torch.equal(labkit.effective_weight(model.conv2), before)
    for mode in (True, False):
        model.train(mode)(images_for(model))
        assert seen["batch1"][:, 1].abs().max() == seen["batch2"][:, [0, 2]].abs().max() == 0
    small = labkit.remove_dead_channels(model)
    assert small.channels == (3, 4, 7)
    assert difference(model, small, images_for(model)) <= 1e-4


def test_a_masked_channel_that_is_not_silenced_speaks_on_and_is_trained():
    model = masked(scrambled(), conv1=[1])
    with torch.no_grad():
        model.batch1.bias[1] = 1.0
    before = model.batch1.bias[1].item()
    train_steps(model, torch.optim.SGD(model.parameters(), 0.1))
    assert model.batch1.bias[1].item() != before
    assert labkit.dead_channels(model) == NONE


@pytest.mark.parametrize("renewed", [True, False])
def test_only_momentum_from_before_the_silence_wakes_a_channel_and_removal_notices_that(renewed):
    model = masked(scrambled(), conv1=[1])
    with torch.no_grad():
        model.batch1.bias[1] = 1.0
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    train_steps(model, optimizer)
    assert model.batch1.bias[1] > 1
    labkit.silence_channels(model)
    train_steps(model, torch.optim.Adam(model.parameters(), 0.01) if renewed else optimizer, steps=1)
    if renewed:
        assert labkit.dead_channels(model)["conv1"] == [1]
    else:
        assert model.batch1.bias[1] > 0
        refused(
            labkit.remove_dead_channels, model, "conv1: 1 of 4 channels have no weights and are not dead: channel 1"
        )


# Dead channels


def test_fresh_network_has_no_dead_channel(tiny):
    assert labkit.dead_channels(tiny()) == NONE


@pytest.mark.parametrize(("bias", "dead"), [(-1.0, [2]), (0.0, [2]), (-0.0, [2]), (1e-6, []), (1.0, [])])
@pytest.mark.parametrize("conv", PAIRS)
def test_channel_of_batch_norm_weight_zero_is_dead_unless_its_bias_is_positive(conv, bias, dead):
    model, batch = scrambled(), PAIRS[conv]
    with torch.no_grad():
        getattr(model, batch).weight[2], getattr(model, batch).bias[2] = 0.0, bias
    assert labkit.dead_channels(model) == NONE | {conv: dead}
    small = labkit.remove_dead_channels(model)
    assert small.channels[list(PAIRS).index(conv)] == len(getattr(model, conv).weight) - len(dead)
    assert difference(model, small, images_for(model)) <= 1e-4


def test_tiny_batch_norm_weight_is_not_dead():
    model = scrambled()
    with torch.no_grad():
        model.batch1.weight[0], model.batch1.bias[0] = 1e-30, -1.0
    assert labkit.dead_channels(model) == NONE


def test_channel_is_dead_through_a_mask_on_batch_norm():
    model = scrambled()
    with torch.no_grad():
        model.batch2.bias[3] = -1.0
    prune.custom_from_mask(model.batch2, "weight", torch.arange(6) != 3)
    assert labkit.dead_channels(model) == NONE | {"conv2": [3]}
    small = labkit.remove_dead_channels(model)
    assert small.channels == (4, 5, 8)
    assert list(small.batch2.state_dict()) == list(labkit.CNN().batch2.state_dict())
    assert difference(model, small, images_for(model)) <= 1e-4


def test_masked_channel_is_not_dead_before_it_is_silenced():
    model = masked(scrambled(), conv3=[6])
    assert labkit.dead_channels(model) == NONE
    labkit.silence_channels(model)
    assert labkit.dead_channels(model) == NONE | {"conv3": [6]}


# Removal


def test_a_network_without_dead_channels_is_copied_exactly():
    model = scrambled()
    small = labkit.remove_dead_channels(model)
    assert same_state(state_of(small), state_of(model))
    assert torch.equal(small(images_for(model)), model(images_for(model)))


def test_zeros_inside_the_living_channels_stay_as_plain_numbers():
    model = silenced(scrambled(), conv1=[0])
    prune.l1_unstructured(model.fc, "weight", 0.5)
    small = labkit.remove_dead_channels(model)
    assert labkit.sparsity(small, ["fc"]) == 0.5
    train_steps(small, torch.optim.SGD(small.parameters(), 0.1))
    assert labkit.sparsity(small, ["fc"]) < 0.5


def test_the_right_numbers_are_cut_out_of_every_layer():
    model = silenced(scrambled(), conv1=[1], conv2=[0, 5], conv3=[3])
    small, first, second = labkit.remove_dead_channels(model), [0, 2, 3], [1, 2, 3, 4]
    third = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(small.conv1.weight, model.conv1.weight[first])
    assert torch.equal(small.conv2.weight, model.conv2.weight[second][:, first])
    assert torch.equal(small.conv3.weight, model.conv3.weight[third][:, second])
    columns = [pixel * 8 + channel for pixel in range(25) for channel in third]
    assert torch.equal(small.fc.weight, model.fc.weight[:, columns])
    for conv, batch, kept in (("conv1", "batch1", first), ("conv2", "batch2", second), ("conv3", "batch3", third)):
        assert torch.equal(getattr(small, conv).bias, getattr(model, conv).bias[kept])
        for key in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(getattr(small, batch), key), getattr(getattr(model, batch), key)[kept])


@pytest.mark.parametrize("shape", [(3, 32, 40), (1, 12, 12), (2, 15, 13), (3, 12, 31)])
@pytest.mark.parametrize("classes", [1, 7])
def test_other_images_and_numbers_of_classes_keep_their_pixels_apart(shape, classes):
    model = silenced(scrambled(input_shape=shape, num_of_cls=classes), conv1=[0], conv2=[1, 2], conv3=[3, 4, 5])
    small = labkit.remove_dead_channels(model)
    assert (small.input_shape, small.num_of_cls, small.channels) == (shape, classes, (3, 4, 5))
    assert difference(model, small, images_for(model)) <= 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_kept(training):
    model = silenced(scrambled(), conv1=[0]).train(training)
    small = labkit.remove_dead_channels(model)
    assert {module.training for module in small.modules()} == {training}
    assert {module.training for module in model.modules()} == {training}


def test_mode_of_each_layer_is_kept():
    model = silenced(scrambled(), conv1=[0]).train()
    model.batch1.eval()
    small = labkit.remove_dead_channels(model)
    assert [(name, m.training) for name, m in small.named_modules()] == [
        (name, m.training) for name, m in model.named_modules()
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_precision_is_kept(dtype):
    model = silenced(scrambled(dtype=dtype), conv1=[0], conv2=[1])
    small = labkit.remove_dead_channels(model)
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    assert small.batch1.num_batches_tracked.dtype == torch.int64
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}.get(dtype, 0.2)
    assert difference(model, small, images_for(model)) <= tolerance


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_is_kept():
    model = silenced(scrambled(), conv1=[0]).to("cuda")
    small = labkit.remove_dead_channels(model)
    assert {tensor.device.type for tensor in small.state_dict().values()} == {"cuda"}
    assert difference(model, small, images_for(model).cuda()) <= 1e-3


def test_nothing_of_the_copy_stays_without_memory():
    small = labkit.remove_dead_channels(silenced(scrambled(), conv1=[0]))
    assert {tensor.device.type for tensor in small.state_dict().values()} == {"cpu"}


def test_batches_that_batch_norm_has_seen_are_kept():
    model = silenced(scrambled(), conv1=[0])
    train_steps(model, torch.optim.SGD(model.parameters(), 0.01), steps=5)
    assert labkit.remove_dead_channels(model).batch1.num_batches_tracked == 5


def test_global_random_numbers_are_not_touched():
    model = silenced(scrambled(), conv1=[0])
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    for function in FUNCTIONS:
        function(model)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2][1])  # noqa: NPY002


def test_given_network_is_not_changed_and_can_be_trained_on():
    model = silenced(scrambled(), conv1=[0], conv3=[1]).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before, parameters = state_of(model), list(model.parameters())
    labkit.remove_dead_channels(model)
    assert same_state(state_of(model), before)
    assert all(one is other for one, other in zip(model.parameters(), parameters, strict=True))
    assert prune.is_pruned(model)
    train_steps(model, optimizer)
    assert not torch.equal(model.fc.weight, before[0]["fc.weight"])


@pytest.mark.parametrize("emptied", [{}, {"conv1": [0]}, {"conv1": [0], "conv2": [0], "conv3": [0]}])
def test_copy_shares_no_memory_with_the_original(emptied):
    model = silenced(scrambled(), **emptied)
    small = labkit.remove_dead_channels(model)
    mine, its = ({t.untyped_storage().data_ptr() for t in net.state_dict().values()} for net in (model, small))
    assert not mine & its
    assert len(its) == len(small.state_dict())
    before = state_of(model)
    train_steps(small, torch.optim.SGD(small.parameters(), 0.5))
    assert same_state(state_of(model), before)


def test_pruned_bias_is_baked_in():
    model = silenced(scrambled(), conv1=[0])
    prune.l1_unstructured(model.conv1, "bias", 0.5)
    prune.l1_unstructured(model.fc, "bias", 0.5)
    labkit.silence_channels(model)
    small = labkit.remove_dead_channels(model)
    assert list(small.state_dict()) == list(labkit.CNN().state_dict())
    assert int((small.fc.bias == 0).sum()) == 5
    assert difference(model, small, images_for(model)) <= 1e-4


@pytest.mark.parametrize("moment", ["fresh mask", "after a step", "in the middle of a step"])
def test_removal_reads_the_weights_of_the_next_forward_pass_at_any_moment(moment):
    model = silenced(scrambled(), conv1=[0], conv2=[1])
    if moment == "after a step":
        train_steps(model, torch.optim.SGD(model.parameters(), 0.3, 0.9))
    elif moment == "in the middle of a step":
        model(images_for(model)).sum().backward()
    small = labkit.remove_dead_channels(model.eval())
    assert difference(model, small, images_for(model)) <= 1e-4


def test_removal_inside_inference_mode_and_without_gradients_gives_a_network_that_trains():
    model = silenced(scrambled(), conv1=[0])
    with torch.no_grad():
        small = labkit.remove_dead_channels(model)
    before = small.conv1.weight.detach().clone()
    train_steps(small, torch.optim.SGD(small.parameters(), 0.1))
    assert not torch.equal(small.conv1.weight, before)


def test_shrinking_twice_is_shrinking_once_more():
    model = silenced(scrambled(), conv1=[0], conv2=[1, 2])
    small = labkit.remove_dead_channels(model)
    smaller = labkit.remove_dead_channels(silenced(labkit.clone(small), conv1=[0], conv2=[0, 3]))
    assert (small.channels, smaller.channels) == ((3, 4, 8), (2, 2, 8))
    assert torch.equal(smaller.conv1.weight, model.conv1.weight[[2, 3]])
    assert same_state(state_of(labkit.remove_dead_channels(small)), state_of(small))


def test_one_channel_of_each_layer_is_enough():
    model = silenced(scrambled(), conv1=[0, 1, 3], conv2=[*range(5)], conv3=[*range(1, 8)])
    small = labkit.remove_dead_channels(model)
    assert small.channels == (1, 1, 1)
    assert difference(model, small, images_for(model)) <= 1e-4


def test_multiply_adds_of_the_small_network_are_the_effective_ones_of_the_masked_one():
    model = silenced(scrambled(), conv3=[0, 1])
    layers = {layer.name: layer for layer in labkit.multiply_adds(labkit.remove_dead_channels(model))}
    wide = {layer.name: layer for layer in labkit.multiply_adds(model)}
    assert layers["conv3"].multiply_adds == wide["conv3"].effective == wide["conv3"].multiply_adds * 6 // 8
    assert layers["fc"].multiply_adds == wide["fc"].multiply_adds * 6 // 8


def test_kept_channels_of_a_pruned_network_are_the_named_number_of_it():
    once = labkit.with_channels(scrambled(), {"conv1": 3})
    for count in (3, 2, 1):
        assert labkit.remove_dead_channels(labkit.with_channels(once, {"conv1": count})).channels == (count, 6, 8)


# Refusals


def refused(function, model, words):
    before = state_of(model)
    with pytest.raises(ValueError, match=words):
        function(model)
    assert same_state(state_of(model), before)


@pytest.mark.parametrize(("conv", "numbers"), [("conv1", [1]), ("conv2", [0, 3]), ("conv3", [5, 6, 7])])
def test_masked_channels_that_speak_are_refused_with_their_constant(conv, numbers):
    model = masked(scrambled(), **{conv: numbers})
    with torch.no_grad():
        getattr(model, PAIRS[conv]).weight[numbers], getattr(model, PAIRS[conv]).bias[numbers] = 0.0, 0.25
    words = rf"{conv}: {len(numbers)} of \d channels have no weights and are not dead: channel {numbers[0]} "
    refused(labkit.remove_dead_channels, model, words + r"puts out a constant \(0\.2500\); call silence_channels first")


def test_the_constant_that_is_named_is_the_one_that_the_channel_puts_out():
    model, seen = masked(scrambled(seed=3), conv1=[2]), []
    with torch.no_grad():
        model.conv1.bias[2], model.batch1.running_mean[2], model.batch1.running_var[2] = 0.502, 0.5, 1e-5
        model.batch1.weight[2], model.batch1.bias[2] = 1.0, 0.25
    model.batch1.register_forward_hook(lambda _module, _inputs, output: seen.append(output[0, 2].detach().relu()))
    model(images_for(model))
    assert float(seen[0].max()) == float(seen[0].min())
    refused(labkit.remove_dead_channels, model, rf"constant \({float(seen[0].max()):.4f}\)")


def test_channels_that_read_only_dead_ones_are_refused_before_they_are_silenced():
    model = silenced(scrambled(), conv1=[0, 1])
    with torch.no_grad():
        model.conv2.weight[2, 2:] = 0
    refused(labkit.remove_dead_channels, model, "conv2: 1 of 6 channels have no weights and are not dead: channel 2")


@pytest.mark.parametrize(("conv", "count"), [("conv1", 4), ("conv2", 6), ("conv3", 8)])
def test_layer_of_dead_channels_only_is_refused(conv, count):
    model = scrambled()
    with torch.no_grad():
        getattr(model, PAIRS[conv]).weight.zero_()
        getattr(model, PAIRS[conv]).bias.zero_()
    words = f"all {count} channels of {conv} are dead; a layer must keep at least one channel"
    refused(labkit.remove_dead_channels, model, words)
    labkit.silence_channels(model)
    refused(labkit.remove_dead_channels, model, words)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("key", ["conv1.weight_orig", "conv2.bias", "batch2.running_var", "batch3.weight", "fc.weight"])
def test_numbers_that_are_not_finite_are_refused_by_name_and_number(function, value, key):
    model = masked(scrambled(), conv1=[0], conv2=[1])
    with torch.no_grad():
        model.state_dict()[key].view(-1)[:2] = value
    before = {name: tensor.nan_to_num(7) for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"{key} has 2 values that are NaN or infinite"):
        function(model)
    assert all(torch.equal(tensor.nan_to_num(7), before[name]) for name, tensor in model.state_dict().items())


class Residual(labkit.CNN):
    """The layers of a CNN, joined otherwise: conv3 reads what conv1 put out, too."""

    def forward(self, x):
        first = F.relu(F.max_pool2d(self.batch1(self.conv1(x)), 2))
        second = F.relu(self.batch2(self.conv2(first)) + first)
        x = F.relu(self.batch3(self.conv3(F.max_pool2d(second, 2))))
        return self.fc(x.permute(0, 2, 3, 1).flatten(1))


class Shortcut(labkit.CNN):
    """A CNN with one more layer."""

    def __init__(self):
        super().__init__(channels=(4, 6, 8))
        self.shortcut = nn.Conv2d(4, 6, 1)


class Renamed(labkit.CNN):
    """Another name alone: its forward may be anything."""


def replaced(name, layer):
    model = scrambled()
    setattr(model, name, layer)
    return model


def sequential():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 10))


OTHERS = [
    (sequential, "the model is a Sequential"),
    (lambda: nn.Sequential(scrambled()), "the model is a Sequential"),
    (lambda: nn.Linear(3, 2), "the model is a Linear"),
    (nn.Sequential, "the model is a Sequential"),
    (lambda: Residual(channels=(6, 6, 8)), "the model is a Residual"),
    (lambda: Renamed(channels=(4, 6, 8)), "the model is a Renamed"),
    (Shortcut, "the model is a Shortcut"),
    (lambda: replaced("shortcut", nn.Conv2d(4, 6, 1)), r"shortcut is Conv2d\(4, 6.*; it must be left out"),
    (lambda: replaced("conv2", nn.Conv2d(4, 6, 3, padding=1, stride=2)), r"conv2 is .*stride=\(2, 2\).*; it must be "),
    (lambda: replaced("conv2", nn.Conv2d(4, 6, 3, padding=1, bias=False)), r"conv2 is .*bias=False"),
    (lambda: replaced("conv2", nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular")), "conv2 is .*circular"),
    (lambda: replaced("conv2", nn.Conv2d(4, 6, 3, padding=1, groups=2)), "conv2 is .*groups=2"),
    (lambda: replaced("conv2", nn.Conv2d(4, 5, 3, padding=1)), r"conv2 is Conv2d\(4, 5.*; it must be Conv2d\(4, 6"),
    (lambda: replaced("conv3", nn.Sequential(nn.Conv2d(6, 8, 3))), r"conv3 is Sequential\("),
    (lambda: replaced("batch1", nn.BatchNorm2d(4, eps=1e-3)), "batch1 is .*eps=0.001.*; it must be .*eps=1e-05"),
    (lambda: replaced("batch1", nn.BatchNorm2d(4, affine=False)), "batch1 is .*affine=False"),
    (lambda: replaced("batch1", nn.BatchNorm2d(4, track_running_stats=False)), "batch1 is .*track_running_stats=False"),
    (lambda: replaced("batch1", nn.GroupNorm(2, 4)), r"batch1 is GroupNorm\(2, 4"),
    (lambda: replaced("batch1", nn.Identity()), r"batch1 is Identity\(\); it must be BatchNorm2d\(4"),
    (lambda: replaced("fc", nn.Linear(200, 10, bias=False)), "fc is Linear.*bias=False"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("make", "words"), OTHERS)
def test_what_is_no_chain_of_a_cnn_is_refused_and_not_changed(function, make, words):
    refused(function, make(), f"{words}.*; supported is labkit.CNN: conv1, batch1, conv2, batch2, conv3, batch3 and fc")


@pytest.mark.parametrize("name", [*PAIRS, *PAIRS.values(), "fc"])
def test_cnn_without_one_of_its_layers_is_refused(name):
    model = scrambled()
    delattr(model, name)
    refused(labkit.remove_dead_channels, model, f"{name}.*supported is labkit.CNN")


def test_weights_that_are_computed_by_a_parametrization_are_refused():
    model = scrambled()
    nn.utils.parametrizations.weight_norm(model.conv2)
    refused(labkit.remove_dead_channels, model, "conv2.*supported is labkit.CNN")
