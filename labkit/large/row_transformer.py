"""A small transformer that reads an image row by row: what large models are made of, at the size of a lab.

The 28 rows of an image are 28 tokens. Layers are plain ones of ``torch.nn``, reached by name, so that masks, reports
and costs work as for the ``CNN``: ``embed``, then for each block ``blocks.N.query``, ``key``, ``value``, ``out``,
``up``, ``down``, and ``fc``. torch's own ``MultiheadAttention`` would hide three of them in one tensor.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from labkit.cnn import check_images
from labkit.runtime import check_whole

BLOCKS = 2
HEAD = 16  # numbers of a query, a key and a value in one head


class Block(nn.Module):
    """Attention, then an MLP; each reads what went through a LayerNorm, and adds to what passes by.

    Args:
        width: numbers of a token.
        heads: of attention, each with queries, keys and values of 16 numbers.
        channels: of the MLP, between ``up`` and ``down``.
    """

    def __init__(self, width: int, heads: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, HEAD * heads) for _ in range(3))
        self.out = nn.Linear(HEAD * heads, width)
        self.up, self.down = nn.Linear(width, channels), nn.Linear(channels, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (B, 28, width) -> the same."""
        normed = self.norm1(x)
        layers = (self.query, self.key, self.value)
        # (B, heads, 28, 16) each; softmax(q · kᵀ / √16) · v, in one call.
        q, k, v = (layer(normed).unflatten(2, (-1, HEAD)).transpose(1, 2) for layer in layers)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(self.norm2(x))))


class RowTransformer(nn.Module):
    """Two blocks of attention and MLP on the rows of an image; returns logits.

    Args:
        width: numbers of a token.
        heads: of each block; a network with fewer is still a ``RowTransformer``.
        channels: of the MLP of each block.

    Raises:
        ValueError: no whole numbers >= 1, one for each of two blocks.
    """

    SIZES = {"width": 0, "heads": 2, "channels": 2}  # noqa: RUF012
    input_shape, num_of_cls = (1, 28, 28), 10

    def __init__(self, width: int = 64, heads: Sequence[int] = (4, 4), channels: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        if not all(isinstance(sizes, Sequence) and len(sizes) == BLOCKS for sizes in (heads, channels)):
            words = f"each of the {BLOCKS} blocks must have one number"
            raise ValueError(f"heads are {heads}, channels {channels}; {words}")
        self.width, self.heads, self.channels = width, tuple(heads), tuple(channels)
        for name, values in (("width", [width]), ("heads", self.heads), ("channels", self.channels)):
            for value in values:
                check_whole(name, value, 1)
        _, rows, columns = self.input_shape
        self.embed = nn.Linear(columns, width)
        self.places = nn.Parameter(torch.randn(rows, width) / width**0.5)  # else the order of the rows would not count
        self.blocks = nn.Sequential(*(Block(width, *sizes) for sizes in zip(self.heads, self.channels, strict=True)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, self.num_of_cls)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10) for images x (B, 1, 28, 28).

        Raises:
            ValueError: x has another shape.
        """
        check_images(x, self.input_shape, "this RowTransformer")
        x = self.embed(x.squeeze(1)) + self.places  # (B, 28, width)
        return self.fc(self.norm(self.blocks(x)).mean(dim=1))
