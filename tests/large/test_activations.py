"""The inputs of layers, and the scores that come from them."""

import pytest
import torch
from torch import nn

import labkit
from labkit.large.activations import layer_inputs, wanda_scores
from labkit.large.row_transformer import RowTransformer

IMAGES = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def networks():
    torch.manual_seed(0)
    strided = nn.Sequential(nn.Conv2d(1, 3, (3, 5), stride=2, padding=(1, 2)), nn.Flatten(), nn.Linear(588, 4))
    dilated = nn.Sequential(nn.Conv2d(1, 3, 3, dilation=2, padding="valid"), nn.Flatten(), nn.Linear(1728, 4))
    return {"cnn": labkit.CNN(channels=(4, 6, 8)), "rows": RowTransformer(), "strided": strided, "dilated": dilated}


@pytest.mark.parametrize("name", networks())
def test_rows_times_weight_plus_bias_is_what_the_layer_puts_out(name):
    model = networks()[name].double().eval()
    rows, outputs = layer_inputs(model, IMAGES.double()), {}
    for key, layer in labkit.prunable_layers(model).items():
        layer.register_forward_hook(lambda _layer, _x, output, key=key: outputs.setdefault(key, output))
    with torch.no_grad():
        model(IMAGES.double())
    for key, layer in labkit.prunable_layers(model).items():
        found = rows[key].double() @ layer.weight.flatten(1).T + layer.bias
        expected = outputs[key].movedim(1, -1) if isinstance(layer, nn.Conv2d) else outputs[key]
        assert torch.allclose(found, expected.flatten(0, -2), atol=1e-5), key


def test_the_network_is_as_before_and_in_its_mode(tiny):
    model = tiny().train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    layer_inputs(model, IMAGES)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_inputs_come_through_masks_of_layers_before(tiny):
    model = tiny().eval()
    nn.utils.prune.l1_unstructured(model.conv1, "weight", 1.0)
    baked = labkit.bake_masks(model)
    assert torch.equal(layer_inputs(model, IMAGES)["conv2"], layer_inputs(baked, IMAGES)["conv2"])


class Twice(nn.Module):
    """Uses one layer twice, another one not at all."""

    def __init__(self, unused=False):
        super().__init__()
        self.used = nn.Linear(28, 28)
        if unused:
            self.unused = nn.Linear(28, 28)

    def forward(self, x):
        return self.used(self.used(x))


def test_a_layer_that_is_used_twice_has_the_rows_of_both():
    assert layer_inputs(Twice(), IMAGES)["used"].shape == (2 * 5 * 28, 28)


def test_a_layer_without_inputs_is_named():
    with pytest.raises(ValueError, match="the images do not reach unused: these layers have no inputs"):
        layer_inputs(Twice(unused=True), IMAGES)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, padding_mode="reflect", padding=1),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv1d(28, 2, 3),
    ],
)
def test_a_layer_that_is_not_known_is_named(layer):
    images = IMAGES[:, 0] if isinstance(layer, nn.Conv1d) else IMAGES
    with pytest.raises(ValueError, match=r"0 is Conv.*; known are linear layers and plain Conv2d"):
        layer_inputs(nn.Sequential(layer), images)


def test_nan_activations_are_named_with_their_layer(tiny):
    model = tiny()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"conv3 has .* inputs that are NaN or infinite"):
        layer_inputs(model, IMAGES)
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_no_images_are_refused(tiny):
    with pytest.raises(ValueError, match="there are 0 images"):
        layer_inputs(tiny(), IMAGES[:0])


def test_wanda_is_weight_times_norm_of_its_input():
    weight = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    inputs = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
    assert wanda_scores(weight, inputs).tolist() == [[5.0, 2.0], [15.0, 0.5]]


def test_scaling_an_input_and_its_weights_back_changes_no_score(tiny):
    """What magnitude does not have: the function is the same, and so are the scores."""
    weight, inputs = tiny().conv3.weight.detach(), torch.rand(100, 54)
    scale = torch.ones(54)
    scale[7] = 100
    scaled = weight / scale.view(1, 6, 3, 3)
    assert torch.allclose(wanda_scores(scaled, inputs * scale), wanda_scores(weight, inputs), rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 54), (5, 53), (54,)])
def test_inputs_of_another_layer_are_refused(tiny, shape):
    with pytest.raises(ValueError, match=r"they must be \(places >= 1, 54\)"):
        wanda_scores(tiny().conv3.weight, torch.zeros(shape))
