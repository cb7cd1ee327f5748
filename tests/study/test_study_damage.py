import math
import re

import pytest
import torch
from networks import seeded
from torch import nn

from labkit.data import Loader
from labkit.study import add_noise, compare, images_of, predict, turn, under_stress


def rows(*numbers):
    return torch.tensor(numbers)


# Four images of two classes: the network breaks the second and mends the last.
CONTROL = rows([0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4])
NETWORK = rows([0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9])
LABELS = torch.tensor([0, 0, 1, 1])


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def digits(count=30, side=12, seed=0):
    """A loader of noise, with labels 0 to 4 in turn."""
    images = torch.randint(256, (count, side, side), generator=dice(seed), dtype=torch.uint8)
    return Loader(images, torch.arange(count) % 5, batch_size=7)


class Brightness(nn.Module):
    """Tells bright images (class 1) from dark ones (class 0), and remembers what it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x)
        bright = x.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-bright, bright], dim=1)


# What breaks


def test_damage_by_hand():
    found = compare(NETWORK, CONTROL, LABELS)
    assert (found.accuracy, found.broken, found.mended, found.other) == (0.75, 0.25, 0.25, 0)
    assert found.by_class == (0.5, 1.0)
    assert found.confidence == pytest.approx((0.7 + 0.6 + 0.8 + 0.9) / 4)
    assert found.overconfidence == pytest.approx(found.confidence - 0.75)


def test_two_wrong_answers_that_differ_are_neither_broken_nor_mended():
    found = compare(rows([0.1, 0.8, 0.1]), rows([0.1, 0.1, 0.8]), torch.tensor([0]))
    assert (found.accuracy, found.broken, found.mended, found.other) == (0, 0, 0, 1)
    assert found.by_class[0] == 0
    assert all(math.isnan(share) for share in found.by_class[1:])  # no images of these classes


def test_network_does_no_damage_beside_itself():
    found = compare(NETWORK, NETWORK, LABELS)
    assert (found.broken, found.mended, found.other) == (0, 0, 0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4,), (4,), (4,)),
        ((4, 2), (4, 3), (4,)),
        ((4, 2), (4, 2), (3,)),
        ((4, 2), (4, 2), (4, 1)),
        ((4, 2, 1), (4, 2, 1), (4,)),
        ((0, 2), (0, 2), (0,)),
        ((4, 0), (4, 0), (4,)),
        ((), (), ()),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    probabilities, control, labels = (torch.rand(shape) for shape in shapes)
    message = "probabilities, control and labels are {}, {} and {}; they must be (N, classes)".format(*shapes)
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(probabilities, control, labels.long())


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (rows([4.0, -3.0], [1.0, 2.0]), "torch.float32 from -3 to 4, in rows that sum to 1 to 3"),  # logits
        (rows([2.0, -1.0], [0.5, 0.5]), "from -1 to 2, in rows that sum to 1 to 1"),
        (rows([0.9, 0.9], [0.5, 0.5]), "from 0.5 to 0.9, in rows that sum to 1 to 1.8"),
        (rows([0.5, 0.498], [0.5, 0.5]), "sum to 0.998 to 1"),
        (rows([math.nan, 1.0], [0.5, 0.5]), "from nan to nan"),
        (rows([math.inf, 0.0], [0.5, 0.5]), "from 0 to inf"),
        (rows([0, 1], [1, 0]), "torch.int64 from 0 to 1"),
    ],
)
def test_numbers_that_are_no_probabilities_are_refused(bad, found):
    good, labels = rows([0.5, 0.5], [0.5, 0.5]), torch.tensor([0, 1])
    rule = "; they must be floats in [0, 1], and each row must sum to 1"
    with pytest.raises(ValueError, match="^probabilities are .*" + re.escape(found) + ".*" + re.escape(rule)):
        compare(bad, good, labels)
    with pytest.raises(ValueError, match="^control are .*" + re.escape(found) + ".*" + re.escape(rule)):
        compare(good, bad, labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_probabilities_may_be_rounded(dtype):
    found = (5 * torch.randn(200, 100, generator=dice())).softmax(dim=1).to(dtype)
    compare(found, found, torch.arange(200) % 100)
    compare(rows([1.0000001, 0.0]), rows([0.4996, 0.4999]), torch.tensor([1]))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 0, 1, 2], "torch.int64 from 0 to 2"),
        ([0, 0, 1, -1], "torch.int64 from -1 to 1"),
        ([0.0, 0.0, 1.0, 1.0], "torch.float32 from 0.0 to 1.0"),
        ([False, False, True, True], "torch.bool from False to True"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, found):
    with pytest.raises(ValueError, match=f"labels are {found}; they must be whole numbers from 0 to 1"):
        compare(NETWORK, CONTROL, torch.tensor(labels))


# Probabilities


def test_probabilities_are_those_of_the_network_in_evaluation_mode():
    model, (images, _) = seeded((2, 3, 4), (1, 12, 12), 5), images_of(digits(230))
    wanted = model(images).softmax(dim=1).detach()
    model.train()
    found = predict(model, images)
    assert found.shape == (230, 5) and not found.requires_grad
    torch.testing.assert_close(found, wanted)
    assert model.training


@pytest.mark.parametrize("factor", [255, 2, -1])
def test_images_out_of_range_are_refused(factor):
    images = factor * images_of(digits())[0]
    message = f"images are torch.float32 from {images.min():g} to {images.max():g}; they must be floats in [0, 1]"
    with pytest.raises(ValueError, match=re.escape(message)):
        predict(Brightness(), images)


@pytest.mark.parametrize("place", [math.nan, math.inf, -math.inf])
def test_images_that_are_not_finite_are_refused(place):
    images = images_of(digits())[0]
    images[3, 0, 5, 5] = place
    with pytest.raises(ValueError, match=rf"images are torch.float32 .*{place}.*; they must be floats in \[0, 1\]"):
        predict(Brightness(), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_images_that_are_no_floats_are_refused(dtype):
    with pytest.raises(ValueError, match=f"images are {dtype} from 1 to 1; they must be floats"):
        predict(Brightness(), torch.ones(2, 1, 12, 12, dtype=dtype))


@pytest.mark.parametrize("shape", [(12, 12), (3, 12, 12), (3, 3, 12, 12), (3, 1, 12, 14), (0, 1, 12, 12), (3, 1, 0, 0)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(f"images are {shape}; they must be (N, 1, side, side)")):
        predict(Brightness(), torch.zeros(shape))


def test_images_may_leave_the_range_by_rounding():
    predict(Brightness(), torch.tensor([-1e-6, 1 + 1e-6]).view(2, 1, 1, 1))


# Stress


def test_noise_has_its_deviation_and_stays_in_range():
    grey = torch.full((50, 1, 12, 12), 0.5)
    noise = add_noise(grey, 0.1, dice()) - grey
    assert noise.mean() == pytest.approx(0, abs=0.005) and noise.std() == pytest.approx(0.1, rel=0.03)
    loud = add_noise(grey, 5.0, dice())
    assert (loud.min(), loud.max()) == (0, 1)
    assert torch.equal(add_noise(grey, 0, dice()), grey)


@pytest.mark.parametrize("deviation", [-0.1, math.nan, math.inf, -math.inf])
def test_deviation_that_is_negative_or_not_finite_is_refused(deviation):
    with pytest.raises(ValueError, match=f"deviation is {deviation}; it must be a finite number >= 0"):
        add_noise(torch.zeros(1, 1, 12, 12), deviation, dice())


def test_images_turn_counter_clockwise_and_stay_in_range():
    images, _ = images_of(digits())
    torch.testing.assert_close(turn(images, 90, dice()), images.rot90(1, (2, 3)), rtol=0, atol=1e-4)
    for degrees in (-170, -33.3, 12, 45):
        predict(Brightness(), turn(torch.ones(2, 1, 28, 28), degrees, dice()))


@pytest.mark.parametrize("degrees", [math.nan, math.inf, -math.inf])
def test_degrees_that_are_not_finite_are_refused(degrees):
    with pytest.raises(ValueError, match=f"degrees is {degrees}; it must be a finite number"):
        turn(torch.zeros(1, 1, 12, 12), degrees, dice())


def test_all_networks_see_the_same_disturbed_images():
    models = {"one": Brightness(), "other": Brightness()}
    found = under_stress(models, digits(), add_noise, (0.0, 0.3), seed=4)
    assert list(found) == ["one", "other"] and found["one"] == found["other"]
    images, labels = images_of(digits())
    for level, seen, share in zip((0.0, 0.3), models["one"].seen, found["one"], strict=True):
        assert torch.equal(seen, add_noise(images, level, dice(4)))
        assert share == pytest.approx(float(((seen.mean(dim=(1, 2, 3)) > 0.5) == labels).float().mean()))
    assert all(torch.equal(*pair) for pair in zip(models["one"].seen, models["other"].seen, strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_levels_that_are_not_finite_are_refused_before_any_network_runs(bad):
    model = Brightness()
    for stress in (add_noise, turn, lambda images, *_: images):
        with pytest.raises(ValueError, match=re.escape(f"levels are (0.1, {bad}); all must be finite numbers")):
            under_stress({"one": model}, digits(), stress, (0.1, bad))
    assert model.seen == []
