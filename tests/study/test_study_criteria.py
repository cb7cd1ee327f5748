import copy

import pytest
import torch
import torch.nn.functional as F
from networks import seeded
from torch.nn.utils import prune

import labkit
from labkit.study import CRITERIA
from labkit.study.criteria import lamp_scores

LAYERS = ("conv1", "conv2", "conv3", "fc")
WITHOUT_DICE = [name for name in CRITERIA if name != "random"]
WITH_DATA = ["gradient", "snip"]


def network(share_masked=0.0, seed=0, training=False):
    """A tiny CNN; a share of each layer's weights is masked at random, by prune."""
    model = seeded((2, 3, 4), (1, 12, 12), 5, seed)
    dice = torch.Generator().manual_seed(seed + 1)
    for name in LAYERS:
        layer = getattr(model, name)
        prune.custom_from_mask(
            layer, "weight", (torch.rand(layer.weight.shape, generator=dice) >= share_masked).float()
        )
    return model.train(training)


def batch(count=24, seed=5):
    dice = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 12, 12, generator=dice), torch.randint(5, (count,), generator=dice)


def scores_of(criterion, model, images=None, labels=None, seed=0):
    if images is None:
        images, labels = batch()
    return CRITERIA[criterion](model, images, labels, torch.Generator().manual_seed(seed))


def weights_of(model):
    """Layer -> weights through the masks, read from the state by hand, as float64."""
    state = model.state_dict()
    return {name: state[f"{name}.weight_orig"].double() * state[f"{name}.weight_mask"] for name in LAYERS}


def masks_of(model):
    return {name: model.state_dict()[f"{name}.weight_mask"] for name in LAYERS}


def training_loss(weights, model, images, labels):
    """Cross-entropy of the tiny CNN in training mode, written out in float64."""
    state = {key: value.double() for key, value in model.state_dict().items()}
    x = images.double()
    for number, padding in ((1, 1), (2, 1), (3, 0)):
        x = F.conv2d(x, weights[f"conv{number}"], state[f"conv{number}.bias"], padding=padding)
        mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = x * state[f"batch{number}.weight"].view(-1, 1, 1) + state[f"batch{number}.bias"].view(-1, 1, 1)
        x = (F.max_pool2d(x, 2) if number < 3 else x).clamp_min(0)
    logits = x.permute(0, 2, 3, 1).flatten(1) @ weights["fc"].T + state["fc.bias"]
    return -(logits - logits.exp().sum(dim=1, keepdim=True).log())[torch.arange(len(labels)), labels].mean()


def flow_of_ones(weights):
    """The sum of the logits of an image of ones with weights |w|, without biases, batch norms as before training."""
    x = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    for number, padding in ((1, 1), (2, 1), (3, 0)):
        x = F.conv2d(x, weights[f"conv{number}"].abs(), padding=padding) / (1 + 1e-5) ** 0.5
        x = (F.max_pool2d(x, 2) if number < 3 else x).clamp_min(0)
    return (x.permute(0, 2, 3, 1).flatten(1) @ weights["fc"].abs().T).sum()


def times_slope(value, weights, step):
    """Every weight times the slope of value(weights) in it, by central differences of the weight's factor."""
    found = {}
    for name, tensor in weights.items():
        found[name] = torch.zeros_like(tensor)
        for place in range(tensor.numel()):
            ends = []
            for factor in (1 + step, 1 - step):
                changed = tensor.clone()
                changed.view(-1)[place] *= factor
                ends.append(value({**weights, name: changed}))
            found[name].view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    return found


def assert_near(scores, wanted, **tolerance):
    assert list(scores) == list(LAYERS)
    for name in LAYERS:
        torch.testing.assert_close(scores[name].double(), wanted[name].double(), **tolerance)


# What holds for all


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("share_masked", [0.0, 0.6])
def test_scores_are_finite_and_not_negative_for_every_weight(criterion, share_masked):
    scores = scores_of(criterion, network(share_masked))
    assert list(scores) == list(LAYERS)
    for name, shape in (("conv1", (2, 1, 3, 3)), ("conv2", (3, 2, 3, 3)), ("conv3", (4, 3, 3, 3)), ("fc", (5, 4))):
        assert scores[name].shape == shape
        assert not scores[name].requires_grad
        assert scores[name].isfinite().all()
        assert (scores[name] >= 0).all()
    assert any((score > 0).any() for score in scores.values())


@pytest.mark.parametrize("criterion", WITHOUT_DICE)
def test_masked_weights_have_the_score_zero(criterion):
    model = network(0.6)
    for name, score in scores_of(criterion, model).items():
        assert (score[masks_of(model)[name] == 0] == 0).all()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("share_masked", [0.0, 0.6])
def test_nothing_is_changed(criterion, training, share_masked):
    model = network(share_masked, training=training)
    model.batch2.train(not training)  # a mode of its own
    images, labels = batch()
    torch.manual_seed(3)
    chance, inputs = torch.get_rng_state(), (images.clone(), labels.clone())
    before, modes = copy.deepcopy(model.state_dict()), [layer.training for layer in model.modules()]
    scores_of(criterion, model, images, labels)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [layer.training for layer in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(prune.is_pruned(getattr(model, name)) for name in LAYERS)
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(images, inputs[0]) and torch.equal(labels, inputs[1])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_of_a_step_under_way_are_left_alone(criterion):
    model = network(0.3, training=True)
    images, labels = batch()
    F.cross_entropy(model(images), labels).backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    scores_of(criterion, model)
    assert all(torch.equal(parameter.grad, before[name]) for name, parameter in model.named_parameters())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_not_the_weights_themselves(criterion):
    model = network()
    before = weights_of(model)
    for score in scores_of(criterion, model).values():
        score.fill_(7)
    assert all(torch.equal(before[name], now) for name, now in weights_of(model).items())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_mode_of_the_network_does_not_count(criterion):
    assert_near(scores_of(criterion, network(0.3)), scores_of(criterion, network(0.3, training=True)), rtol=0, atol=0)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_masks_and_baked_zeros_have_the_same_scores(criterion):
    model = network(0.5)
    baked = scores_of(criterion, labkit.bake_masks(model))
    assert_near(scores_of(criterion, model), baked, rtol=0, atol=0)


@pytest.mark.parametrize("criterion", WITHOUT_DICE)
def test_scores_follow_an_optimizer_step_at_once(criterion):
    model = network(0.3, training=True)
    images, labels = batch()
    F.cross_entropy(model(images), labels).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    fresh = network(0.3, training=True)
    fresh.load_state_dict(model.state_dict())
    assert_near(scores_of(criterion, model), scores_of(criterion, fresh), rtol=0, atol=0)


@pytest.mark.parametrize("criterion", WITHOUT_DICE)
def test_dice_and_global_chance_do_not_count(criterion):
    model = network(0.3)
    torch.manual_seed(1)
    first = scores_of(criterion, model, seed=1)
    torch.manual_seed(2)
    assert_near(scores_of(criterion, model, seed=2), first, rtol=0, atol=0)


@pytest.mark.parametrize("criterion", ["random", "magnitude", "lamp", "synflow"])
def test_images_and_labels_do_not_count(criterion):
    model = network(0.3)
    other = (100 * torch.randn(7, 1, 12, 12), torch.zeros(7, dtype=torch.int64))
    assert_near(scores_of(criterion, model, *other), scores_of(criterion, model), rtol=0, atol=0)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_images_and_labels_count_where_gradients_are_taken(criterion):
    model = network(0.3)
    images, labels = batch()
    usual = scores_of(criterion, model, images, labels)
    for other in ((images.flip(2), labels), (images, (labels + 1) % 5)):
        assert not torch.allclose(scores_of(criterion, model, *other)["conv2"], usual["conv2"])


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("emptied", LAYERS)
def test_network_with_an_emptied_layer_still_has_numbers_as_scores(criterion, emptied):
    model = network()
    getattr(model, emptied).weight_mask.zero_()
    for name, score in scores_of(criterion, model).items():
        assert score.isfinite().all(), name
        if criterion != "random":
            assert name != emptied or (score == 0).all()


# Random


def test_random_depends_on_the_generator_only():
    model = network(0.3)
    first = scores_of("random", model, seed=4)
    torch.manual_seed(99)
    assert_near(scores_of("random", network(0.7, seed=2, training=True), seed=4), first, rtol=0, atol=0)
    other = scores_of("random", model, seed=5)
    assert all(not torch.equal(other[name], first[name]) for name in LAYERS)


def test_random_layers_are_dice_of_their_own_in_0_to_1():
    scores = scores_of("random", labkit.CNN((1, 12, 12), 5, (16, 16, 16)))
    together = torch.cat([score.flatten() for score in scores.values()])
    assert together.min() >= 0 and together.max() < 1
    assert together.mean() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(scores["conv2"], scores["conv3"])


# Magnitude and LAMP


@pytest.mark.parametrize("share_masked", [0.0, 0.6])
def test_magnitude_is_the_absolute_weight(share_masked):
    model = network(share_masked)
    wanted = {}
    for name, weight in weights_of(model).items():
        flat = torch.tensor([number if number >= 0 else -number for number in weight.flatten().tolist()])
        wanted[name] = flat.view(weight.shape)
    assert_near(scores_of("magnitude", model), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("share_masked", [0.0, 0.6, 0.95])
def test_lamp_is_its_definition(share_masked):
    model = network(share_masked)
    wanted = {}
    for name, weight in weights_of(model).items():
        squares = [number * number for number in weight.flatten().tolist()]
        rows = [square / sum(v for v in squares if v >= square) if square else 0.0 for square in squares]
        wanted[name] = torch.tensor(rows, dtype=torch.float64).view(weight.shape)
    assert_near(scores_of("lamp", model), wanted, rtol=1e-12, atol=0)


def test_largest_weight_of_each_layer_has_the_lamp_score_one():
    model = network(0.3)
    scores = scores_of("lamp", model)
    for name, weight in weights_of(model).items():
        assert scores[name].max() == 1
        assert scores[name].argmax() == weight.abs().argmax()
        # Within a layer the order is that of the magnitudes.
        assert torch.equal(scores[name].flatten().argsort(stable=True), weight.abs().flatten().argsort(stable=True))


def test_lamp_of_equal_weights_counts_them_one_after_the_other():
    model = network()
    with torch.no_grad():
        model.conv1.weight_orig.fill_(-0.5)
    score = scores_of("lamp", model)["conv1"].flatten()
    assert sorted(score.tolist(), reverse=True) == pytest.approx([1 / (n + 1) for n in range(18)])
    assert score.max() == 1


def test_lamp_does_not_change_when_a_layer_is_scaled_and_stands_tiny_weights():
    model = network(0.3)
    usual = scores_of("lamp", model)
    with torch.no_grad():
        model.conv2.weight_orig *= 2.0**-60
    scaled = scores_of("lamp", model)
    torch.testing.assert_close(scaled["conv2"], usual["conv2"], rtol=1e-12, atol=0)


def test_lamp_scores_of_a_layer_are_those_of_the_criterion():
    model = network(0.3)
    wanted = {name: lamp_scores(weight) for name, weight in weights_of(model).items()}
    assert_near(scores_of("lamp", model), wanted, rtol=0, atol=0)
    assert lamp_scores(torch.tensor([[3.0, 0.0], [-4.0, 0.0]])).tolist() == [[9 / 25, 0], [1, 0]]


# Gradients


@pytest.mark.parametrize("share_masked", [0.0, 0.4])
def test_snip_is_the_normalised_slope_by_finite_differences(share_masked):
    model, (images, labels) = network(share_masked), batch()
    slopes = times_slope(lambda weights: training_loss(weights, model, images, labels), weights_of(model), 1e-6)
    total = sum(slope.abs().sum() for slope in slopes.values())
    wanted = {name: slope.abs() / total for name, slope in slopes.items()}
    scores = scores_of("snip", model, images, labels)
    assert_near(scores, wanted, rtol=2e-3, atol=1e-5)
    assert sum(score.sum().item() for score in scores.values()) == pytest.approx(1)


@pytest.mark.parametrize("share_masked", [0.0, 0.4])
def test_gradient_of_one_batch_is_the_slope_by_finite_differences(share_masked):
    model, (images, labels) = network(share_masked), batch()
    slopes = times_slope(lambda weights: training_loss(weights, model, images, labels), weights_of(model), 1e-6)
    wanted = {name: slope.abs() for name, slope in slopes.items()}
    assert_near(scores_of("gradient", model, images, labels), wanted, rtol=2e-3, atol=1e-5)


def slopes_by_autograd(model, images, labels):
    """|w · g| of the formula in float64, by autograd of a factor of each weight."""
    weights = weights_of(model)
    factors = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    products = {name: factors[name] * weight for name, weight in weights.items()}
    training_loss(products, model, images, labels).backward()
    return {name: factor.grad.abs() for name, factor in factors.items()}


def test_gradient_is_the_mean_of_batches_of_100():
    model, (images, labels) = network(0.3), batch(300)
    parts = [slopes_by_autograd(model, images[at : at + 100], labels[at : at + 100]) for at in (0, 100, 200)]
    wanted = {name: (parts[0][name] + parts[1][name] + parts[2][name]) / 3 for name in LAYERS}
    assert_near(scores_of("gradient", model, images, labels), wanted, rtol=2e-3, atol=1e-5)


def test_snip_takes_all_images_together():
    model, (images, labels) = network(0.3), batch(250)
    slopes = slopes_by_autograd(model, images, labels)
    total = sum(slope.sum() for slope in slopes.values())
    wanted = {name: slope / total for name, slope in slopes.items()}
    assert_near(scores_of("snip", model, images, labels), wanted, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", WITH_DATA)
def test_images_without_labels_are_refused(criterion):
    images, labels = batch(150)
    with pytest.raises(ValueError):
        scores_of(criterion, network(), images, labels[:90])


# SynFlow


@pytest.mark.parametrize("share_masked", [0.0, 0.4])
def test_synflow_is_the_slope_of_the_flow_by_finite_differences(share_masked):
    model = network(share_masked)
    # In one weight the flow is piecewise linear, so a difference is exact but at a kink.
    wanted = times_slope(flow_of_ones, weights_of(model), 1e-6)
    assert_near(scores_of("synflow", model), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("share_masked", [0.0, 0.4, 0.7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synflow_is_conserved_from_layer_to_layer(share_masked, seed):
    model = network(share_masked, seed)
    sums = [score.sum().item() for score in scores_of("synflow", model).values()]
    assert sums == pytest.approx([flow_of_ones(weights_of(model)).item()] * 4, rel=1e-9)
    assert sums[0] > 0


def test_synflow_is_conserved_in_each_hidden_channel():
    scores = scores_of("synflow", network(0.3))
    for before, after in (("conv1", "conv2"), ("conv2", "conv3")):
        assert scores[before].sum(dim=(1, 2, 3)).tolist() == pytest.approx(scores[after].sum(dim=(0, 2, 3)).tolist())
    # fc sees one pixel of each channel of conv3 here.
    assert scores["conv3"].sum(dim=(1, 2, 3)).tolist() == pytest.approx(scores["fc"].sum(dim=0).tolist())


def test_synflow_does_not_know_signs_biases_or_batch_norms():
    model = network(0.3)
    usual = scores_of("synflow", model)
    with torch.no_grad():
        for name in LAYERS:
            getattr(model, name).weight_orig.neg_()
            getattr(model, name).bias.normal_()
        for layer in (model.batch1, model.batch2, model.batch3):
            layer.weight.normal_()
            layer.bias.normal_()
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.1, 9)
    assert_near(scores_of("synflow", model), usual, rtol=0, atol=0)


def test_weights_on_no_path_have_the_synflow_score_zero():
    model = network()
    model.conv2.weight_mask[1] = 0  # channel 1 of conv2 says nothing
    scores = scores_of("synflow", model)
    assert (scores["conv3"][:, 1] == 0).all()
    assert (scores["conv3"][:, 0] > 0).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_on_a_gpu_are_those_of_the_processor(criterion):
    model, (images, labels) = network(0.3), batch()
    wanted = scores_of(criterion, model, images, labels)
    found = scores_of(criterion, model.to("cuda"), images.cuda(), labels.cuda())
    assert_near({name: score.cpu() for name, score in found.items()}, wanted, rtol=1e-2, atol=1e-4)
