"""The network of the labs.

Knows nothing of data, training or pruning: it is an ordinary ``torch.nn.Module`` whose layers the notebooks
reach by name (``conv1``, ``conv2``, ``conv3``, ``fc``).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class CNN(nn.Module):
    """Three convolutions with batch normalisation, then one linear layer; returns logits.

    With the default widths it has 125,130 parameters, of which 124,448 are prunable weights
    (288 + 18,432 + 73,728 in the convolutions, 32,000 in ``fc``).

    Args:
        input_shape: (channels, height, width) of one image; height and width at least 12 pixels.
        num_of_cls: number of classes, at least 1.
        channels: output channels of ``conv1``, ``conv2``, ``conv3``. A network with fewer channels is still a ``CNN``.

    Raises:
        ValueError: an argument is out of range.
    """

    # What a file of a network keeps: its arguments, and how many numbers each is; 0: one, not in a tuple.
    SIZES = {"input_shape": 3, "num_of_cls": 0, "channels": 3}  # noqa: RUF012

    def __init__(
        self, input_shape: Sequence[int] = (1, 28, 28), num_of_cls: int = 10, channels: Sequence[int] = (32, 64, 128)
    ) -> None:
        super().__init__()
        shape, widths = tuple(input_shape), tuple(channels)
        if len(shape) != 3 or any(type(n) is not int for n in shape) or shape[0] < 1 or min(shape[1:]) < 12:
            raise ValueError(f"input_shape is {input_shape}; it must be (channels >= 1, height >= 12, width >= 12)")
        if type(num_of_cls) is not int or num_of_cls < 1:
            raise ValueError(f"num_of_cls is {num_of_cls}; it must be a whole number >= 1")
        if len(widths) != 3 or any(type(n) is not int or n < 1 for n in widths):
            raise ValueError(f"channels is {channels}; it must be three whole numbers >= 1")
        self.input_shape, self.num_of_cls, self.channels = shape, num_of_cls, widths
        (colours, height, width), (first, second, third) = shape, widths
        self.conv1 = nn.Conv2d(colours, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(second, third, kernel_size=3)
        self.batch1, self.batch2, self.batch3 = (nn.BatchNorm2d(count) for count in widths)
        # Two poolings halve each side, the unpadded conv3 takes two more pixels: 28 -> 14 -> 7 -> 5.
        self.fc = nn.Linear((height // 4 - 2) * (width // 4 - 2) * third, num_of_cls)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_of_cls) for images x ``(B, *input_shape)``; a softmax over them gives probabilities.

        Raises:
            ValueError: x has another shape.
        """
        check_images(x, self.input_shape, "this CNN")
        # relu(maxpool(x)) equals maxpool(relu(x)), with a quarter of the relu's work.
        x = F.relu(F.max_pool2d(self.batch1(self.conv1(x)), 2))  # (B, 32, 14, 14)
        x = F.relu(F.max_pool2d(self.batch2(self.conv2(x)), 2))  # (B, 64, 7, 7)
        x = F.relu(self.batch3(self.conv3(x)))  # (B, 128, 5, 5)
        # Channels last: the layout in which the batches travel, so that flattening copies nothing.
        # Input h·(5·128) + w·128 + c of fc is channel c at pixel (h, w).
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 5·5·128)
        return self.fc(x)  # (B, num_of_cls)


def check_images(images: torch.Tensor, shape: Sequence[int], network: str) -> None:
    """Make sure that images are a batch of this (channels, height, width).

    Raises:
        ValueError: they are not; ``network`` is what the message calls the network that takes them.
    """
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"images have shape {tuple(images.shape)}; {network} takes (batch, {sizes})")
