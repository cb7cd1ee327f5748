"""What pruning breaks, beyond the accuracy: which digits, which answers, how sure they are, and under which stress.

Everything is computed from the probabilities that a network gives to a set of images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from labkit.data import Loader
from labkit.study.points import require
from labkit.training import in_mode

ROUNDING = 1e-4  # how far images may leave [0, 1]: bilinear turns and shifts round
SUM_ROUNDING = 1e-3  # how far the sum of an image's probabilities may be from 1

Stress = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Damage:
    """What one network does to a set of images, compared with a control network.

    Attributes:
        accuracy: share of the images that it gets right, in [0, 1].
        by_class: for each class, the share of its images that it gets right (recall); NaN for a class without images.
        broken: share of all images that the control gets right and this network does not.
        mended: share that this network gets right and the control does not.
        other: share where both are wrong, with different answers.
        confidence: mean probability of the answer that is given.
        overconfidence: ``confidence - accuracy``: above zero, the network is surer than it is right.
    """

    accuracy: float
    by_class: tuple[float, ...]
    broken: float
    mended: float
    other: float
    confidence: float
    overconfidence: float


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, classes) for images (N, 1, side, side) in [0, 1], in evaluation mode.

    Raises:
        ValueError: no images, or images of another shape, type or range.
    """
    if images.ndim != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3] or images.numel() == 0:
        raise ValueError(f"images are {tuple(images.shape)}; they must be (N, 1, side, side), at least one")
    low, high = float(images.min()), float(images.max())
    # NaN is refused, too: it compares as False.
    if not images.is_floating_point() or not -ROUNDING <= low <= high <= 1 + ROUNDING:
        raise ValueError(f"images are {images.dtype} from {low:g} to {high:g}; they must be floats in [0, 1]")
    with in_mode(model, training=False):
        return torch.cat([model(X).softmax(dim=1) for X in images.split(100)])


def compare(probabilities: torch.Tensor, control: torch.Tensor, labels: torch.Tensor) -> Damage:
    """What a network does, compared with the control.

    Args:
        probabilities: (N, classes) in [0, 1], of the network; those of an image sum to 1.
        control: likewise, of the control, for the same images.
        labels: (N,) right classes, whole numbers from 0 on.

    Raises:
        ValueError: shapes that do not fit, no images, rows that are no probabilities (logits, say), or labels that are
            no classes.
    """
    fit = probabilities.shape == control.shape and labels.shape == control.shape[:1]
    if not fit or control.ndim != 2 or control.numel() == 0:
        shapes = f"{tuple(probabilities.shape)}, {tuple(control.shape)} and {tuple(labels.shape)}"
        rule = "they must be (N, classes) twice and (N,), N at least 1"
        raise ValueError(f"probabilities, control and labels are {shapes}; {rule}")
    _check_probabilities("probabilities", probabilities)
    _check_probabilities("control", control)
    classes, whole = probabilities.shape[1], not labels.is_floating_point() and labels.dtype != torch.bool
    if not whole or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        found = f"{labels.dtype} from {labels.min()} to {labels.max()}"
        raise ValueError(f"labels are {found}; they must be whole numbers from 0 to {classes - 1}")
    answers, before = probabilities.argmax(dim=1), control.argmax(dim=1)
    right, was_right = answers == labels, before == labels
    by_class = tuple(float(right[labels == k].float().mean()) for k in range(classes))
    changes = was_right & ~right, right & ~was_right, ~was_right & ~right & (answers != before)
    broken, mended, other = (float(images.float().mean()) for images in changes)
    confidence, accuracy = float(probabilities.amax(dim=1).mean()), float(right.float().mean())
    return Damage(accuracy, by_class, broken, mended, other, confidence, confidence - accuracy)


def _check_probabilities(name: str, rows: torch.Tensor) -> None:
    low, sums = float(rows.min()), rows.double().sum(dim=1)
    # No number of a row that sums to 1 is above 1 if none is below 0. NaN is refused, too: it compares as False.
    if not rows.is_floating_point() or not low >= 0 or not ((sums - 1).abs() <= SUM_ROUNDING).all():
        found = f"{rows.dtype} from {low:g} to {rows.max():g}, in rows that sum to {sums.min():g} to {sums.max():g}"
        raise ValueError(f"{name} are {found}; they must be floats in [0, 1], and each row must sum to 1")


def add_noise(images: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Images with normal noise of this standard deviation (black to white is 1), kept in [0, 1].

    Raises:
        ValueError: a deviation that is negative or not finite.
    """
    require("deviation", deviation, 0 <= deviation < math.inf, "it must be a finite number >= 0")
    return (images + deviation * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def turn(images: torch.Tensor, degrees: float, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
    """Images turned about their centre by so many degrees, counter-clockwise, bilinear, black outside.

    Raises:
        ValueError: degrees that are not finite.
    """
    require("degrees", degrees, math.isfinite(degrees), "it must be a finite number")
    # Imported only here: torchvision takes longer than all of labkit.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    return rotate(images, degrees, InterpolationMode.BILINEAR)


def under_stress(
    models: Mapping[str, nn.Module], loader: Loader, stress: Stress, levels: tuple[float, ...], seed: int = 0
) -> dict[str, list[float]]:
    """Accuracy of each network at each level of a stress: the same disturbed images for all.

    Args:
        models: name -> network.
        loader: images and labels.
        stress: ``add_noise`` or ``turn``.
        levels: how strong: deviations of the noise, or degrees.
        seed: of the noise, the same at each level.

    Returns:
        Name -> accuracy in [0, 1] at each level.

    Raises:
        ValueError: a level that is not finite, or that the stress refuses.
    """
    if not all(math.isfinite(level) for level in levels):
        raise ValueError(f"levels are {levels}; all must be finite numbers")
    images, labels = images_of(loader)
    disturbed = [stress(images, level, torch.Generator().manual_seed(seed)) for level in levels]
    answers = {name: [predict(model, X).argmax(dim=1) for X in disturbed] for name, model in models.items()}
    return {name: [float((found == labels).float().mean()) for found in rows] for name, rows in answers.items()}


def images_of(loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    """All images (N, 1, side, side) in [0, 1] and labels (N,) of a loader, in order and unchanged."""
    return loader.images.unsqueeze(1).float() / 255, loader.labels
