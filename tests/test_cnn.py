import pytest
import torch
import torch.nn.functional as F

import labkit


def test_network_returns_logits_not_probabilities():
    labkit.set_seed(0)
    logits = labkit.CNN().eval()(torch.rand(16, 1, 28, 28))
    assert logits.shape == (16, 10)
    assert (logits < 0).any()
    assert not torch.allclose(logits.sum(dim=1), torch.ones(16))


def test_network_has_125130_parameters():
    assert sum(p.numel() for p in labkit.CNN().parameters()) == 125_130


def test_network_has_124448_prunable_weights():
    weights = {name: layer.weight.numel() for name, layer in labkit.prunable_layers(labkit.CNN()).items()}
    assert weights == {"conv1": 288, "conv2": 18_432, "conv3": 73_728, "fc": 32_000}
    assert sum(weights.values()) == 124_448


def test_layers_have_the_names_that_the_notebooks_use():
    names = [name for name, _ in labkit.CNN().named_children()]
    assert names == ["conv1", "conv2", "conv3", "batch1", "batch2", "batch3", "fc"]


def test_widths_are_a_parameter():
    model = labkit.CNN(channels=(3, 5, 7))
    shapes = [tuple(layer.weight.shape) for layer in labkit.prunable_layers(model).values()]
    assert shapes == [(3, 1, 3, 3), (5, 3, 3, 3), (7, 5, 3, 3), (10, 5 * 5 * 7)]
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_image_size_and_number_of_classes_are_parameters():
    model = labkit.CNN(input_shape=(3, 32, 20), num_of_cls=4, channels=(2, 2, 2))
    assert model.fc.in_features == (8 - 2) * (5 - 2) * 2
    assert model(torch.rand(2, 3, 32, 20)).shape == (2, 4)


def test_smallest_image_is_twelve_pixels():
    assert labkit.CNN(input_shape=(1, 12, 12))(torch.rand(2, 1, 12, 12)).shape == (2, 10)


@pytest.mark.parametrize(
    "shape", [(2, 28, 28), (2, 1, 28, 27), (2, 3, 28, 28), (784,), (2, 1, 1, 28, 28)], ids=lambda shape: str(shape)
)
def test_images_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=r"takes \(batch, 1, 28, 28\)") as error:
        labkit.CNN(channels=(1, 1, 1))(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("widths", [(32, 64), (32, 64, 0), (32, 64, -1), (32, 64.0, 128), (True, 2, 3), ()])
def test_wrong_widths_are_refused_with_value_and_rule(widths):
    with pytest.raises(ValueError, match="three whole numbers >= 1") as error:
        labkit.CNN(channels=widths)
    assert str(widths) in str(error.value)


@pytest.mark.parametrize("shape", [(28, 28), (1, 11, 28), (0, 28, 28), (1, 28.0, 28)])
def test_wrong_input_shapes_are_refused_with_value_and_rule(shape):
    with pytest.raises(ValueError, match="height >= 12") as error:
        labkit.CNN(input_shape=shape)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("number", [0, -1, 10.0, True])
def test_wrong_numbers_of_classes_are_refused_with_value_and_rule(number):
    with pytest.raises(ValueError, match=f"num_of_cls is {number}; it must be a whole number >= 1"):
        labkit.CNN(num_of_cls=number)


def test_contiguous_and_channels_last_images_give_the_same_logits(digits):
    model = labkit.load_network("CNN_MNIST").eval()
    X = digits[0][:64].unsqueeze(1).float() / 255
    other = X.to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.allclose(model(X.contiguous()), model(other), rtol=0, atol=1e-4)


def test_forward_equals_the_plain_relu_then_pool_formula(tiny):
    model = tiny().double().eval()
    x = torch.rand(8, 1, 28, 28, dtype=torch.float64)
    h = F.max_pool2d(F.relu(model.batch1(model.conv1(x))), 2)
    h = F.max_pool2d(F.relu(model.batch2(model.conv2(h))), 2)
    h = F.relu(model.batch3(model.conv3(h)))  # (8, 8, 5, 5)
    # The weight of channel c at pixel (h, w) stands in column h·(5·8) + w·8 + c of fc.
    weight = model.fc.weight.view(10, 5, 5, 8)
    plain = torch.einsum("bchw,khwc->bk", h, weight) + model.fc.bias
    assert torch.allclose(model(x), plain, rtol=0, atol=1e-12)
