"""Least squares on the weights that stay."""

import pytest
import torch
from torch.nn.utils import prune

import labkit
from labkit.large.compensation import DAMPING, compensate, compensate_layers

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(4, 12, generator=GENERATOR, dtype=torch.float64)
INPUTS = (
    torch.randn(200, 12, generator=GENERATOR, dtype=torch.float64) @ torch.randn(12, 12, generator=GENERATOR).double()
)
MASK = (torch.rand(4, 12, generator=GENERATOR) < 0.5).double()


def loss(weight, damping=0.0):
    """What compensate makes small, for each output."""
    change = weight - WEIGHT
    added = damping * INPUTS.square().sum(dim=0).mean()
    return (INPUTS @ change.T).square().sum(dim=0) + added * change.square().sum(dim=1)


@pytest.mark.parametrize("damping", [0.0, DAMPING, 1.0])
def test_no_other_weights_under_the_mask_are_closer(damping):
    best = compensate(WEIGHT, MASK, INPUTS, damping)
    assert ((best != 0) == (MASK != 0)).all()
    for _ in range(50):
        other = best + 0.01 * torch.randn(4, 12, generator=GENERATOR) * MASK
        assert (loss(other, damping) > loss(best, damping)).all()


def test_outputs_are_closer_than_those_of_the_mask_alone():
    assert (loss(compensate(WEIGHT, MASK, INPUTS)) < 0.9 * loss(WEIGHT * MASK)).all()


def test_without_zeros_nothing_changes():
    assert torch.allclose(compensate(WEIGHT, torch.ones_like(MASK), INPUTS), WEIGHT, atol=1e-9)


def test_an_output_without_any_weight_stays_empty():
    mask = MASK.clone()
    mask[2] = 0
    assert not compensate(WEIGHT, mask, INPUTS)[2].any()


def test_removing_one_weight_is_the_optimal_brain_surgeon():
    """Its formula: w − w_q / [H⁻¹]_qq · H⁻¹[:, q] (Hassibi and Stork 1993)."""
    mask = torch.ones_like(MASK)
    mask[:, 5] = 0
    inverse = torch.linalg.inv(INPUTS.T @ INPUTS)
    expected = WEIGHT - WEIGHT[:, 5:6] / inverse[5, 5] * inverse[:, 5]
    assert torch.allclose(compensate(WEIGHT, mask, INPUTS, 0), expected, atol=1e-9)


def test_inputs_that_are_always_zero_do_no_harm():
    dark = INPUTS.clone()
    dark[:, :4] = 0
    for damping in (0, DAMPING):
        assert compensate(WEIGHT, MASK, dark, damping).isfinite().all()


def test_inputs_that_are_all_zero_leave_no_reason_to_change_anything():
    assert compensate(WEIGHT, MASK, torch.zeros(5, 12)).isfinite().all()


def test_shape_and_kind_of_the_weights_stay():
    weight, inputs = torch.randn(3, 2, 3, 3), torch.randn(50, 18)
    found = compensate(weight, torch.ones_like(weight), inputs)
    assert found.shape == weight.shape
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WEIGHT, MASK[:3], INPUTS), r"mask has shape \(3, 12\); it must be \(4, 12\)"),
        ((WEIGHT, MASK, INPUTS[:, :5]), r"inputs have shape \(200, 5\)"),
        ((WEIGHT, MASK, INPUTS, -1), "damping is -1; it must be >= 0"),
        ((WEIGHT, MASK, INPUTS, float("nan")), "damping is nan"),
        (
            (WEIGHT, torch.ones_like(MASK), INPUTS[:11], 0),
            r"11 places of calibration for up to 12 weights of one output; give at least 12, or a damping > 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        compensate(*arguments)


def test_few_inputs_are_enough_with_damping():
    assert compensate(WEIGHT, torch.ones_like(MASK), INPUTS[:3]).isfinite().all()


@pytest.mark.parametrize("network", [labkit.CNN, labkit.RowTransformer])
def test_each_layer_is_solved_on_what_the_solved_ones_before_it_give(network):
    torch.manual_seed(0)
    dense, images = network(), torch.rand(16, 1, 28, 28)
    model = labkit.clone(dense)
    for layer in labkit.prunable_layers(model).values():
        prune.random_unstructured(layer, "weight", amount=0.5)
    by_hand = labkit.clone(model)
    compensate_layers(model, dense, images)
    for name, layer in labkit.prunable_layers(by_hand).items():
        alone = labkit.layer_inputs(dense, images)[name]
        masked, inputs = layer.weight.detach(), labkit.layer_inputs(by_hand, images)[name]
        solved = compensate(dense.get_submodule(name).weight, layer.weight_mask, inputs)
        layer.weight_orig.data = solved
        labkit.refresh_weights(by_hand)
        assert torch.equal(labkit.effective_weight(model.get_submodule(name)), solved)
        assert not torch.equal(solved, masked)
        if name not in ("conv1", "embed"):  # else what is before it has not changed
            assert not torch.equal(inputs, alone)
