"""What pruning breaks, beyond the accuracy: which digits, which answers, how sure they are, and under which stress.

Everything is computed from the probabilities that a network gives to a set of images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from labkit.data import Loader
from labkit.training import in_mode

Stress = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Damage:
    """What one network does to a set of images, beside another one, the control.

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
    """Probabilities (N, classes) for images (N, 1, side, side) in [0, 1], in evaluation mode."""
    with in_mode(model, training=False):
        return torch.cat([model(X).softmax(dim=1) for X in images.split(100)])


def compare(probabilities: torch.Tensor, control: torch.Tensor, labels: torch.Tensor) -> Damage:
    """What a network does, beside the control.

    Args:
        probabilities: (N, classes), of the network.
        control: (N, classes), of the control, for the same images.
        labels: (N,) right classes.

    Raises:
        ValueError: shapes that do not fit, or no images.
    """
    if probabilities.shape != control.shape or labels.shape != control.shape[:1] or len(labels) == 0:
        shapes = f"{tuple(probabilities.shape)}, {tuple(control.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"probabilities, control and labels are {shapes}; they must be (N, classes) twice and (N,)")
    answers, before = probabilities.argmax(dim=1), control.argmax(dim=1)
    right, was_right = answers == labels, before == labels
    confidence, accuracy = float(probabilities.amax(dim=1).mean()), float(right.float().mean())
    return Damage(
        accuracy=accuracy,
        by_class=tuple(float(right[labels == k].float().mean()) for k in range(probabilities.shape[1])),
        broken=float((was_right & ~right).float().mean()),
        mended=float((~was_right & right).float().mean()),
        other=float((~was_right & ~right & (answers != before)).float().mean()),
        confidence=confidence,
        overconfidence=confidence - accuracy,
    )


def add_noise(images: torch.Tensor, deviation: float, generator: torch.Generator) -> torch.Tensor:
    """Images with normal noise of this standard deviation (black to white is 1), kept in [0, 1]."""
    return (images + deviation * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def turn(images: torch.Tensor, degrees: float, generator: torch.Generator) -> torch.Tensor:  # noqa: ARG001
    """Images turned about their centre by so many degrees, counter-clockwise, bilinear, black outside."""
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
        levels: how strong.
        seed: of the noise.
    """
    images, labels = images_of(loader)
    found: dict[str, list[float]] = {name: [] for name in models}
    for level in levels:
        disturbed = stress(images, level, torch.Generator().manual_seed(seed))
        for name, model in models.items():
            found[name].append(float((predict(model, disturbed).argmax(dim=1) == labels).float().mean()))
    return found


def images_of(loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    """All images (N, 1, side, side) in [0, 1] and labels (N,) of a loader, in order and unchanged."""
    return loader.images.unsqueeze(1).float() / 255, loader.labels
