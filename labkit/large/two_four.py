"""2:4 sparsity: of each four neighbouring weights two are zero, so that the places of the others fit into four bits.

NVIDIA's GPUs since Ampere multiply such weights up to twice as fast (Mishra et al. 2021, "Accelerating sparse deep
neural networks"); neighbours are weights of one output that follow one another in memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Packed:
    """A weight of which each four neighbours keep two.

    Attributes:
        values: (out, in / 2), those that stay, in order.
        places: (out, in / 8, rounded up) uint8: of each four neighbours the places, 0 to 3, of the two that stay, in
            two bits each; the places of eight weights in one byte, the first four in its lower half.
        shape: of the weight.
    """

    values: torch.Tensor
    places: torch.Tensor
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of values and places together."""
        return self.values.nbytes + self.places.nbytes


def mask_2_4(scores: torch.Tensor) -> torch.Tensor:
    """A mask that keeps the two highest scores of each four neighbours; of equal ones the first.

    Args:
        scores: (out, in, ...).

    Raises:
        ValueError: an output has a number of weights that four does not divide, or scores that are NaN.
    """
    fours = _fours(scores)
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().sum())} scores are NaN; all must be numbers")
    order = fours.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(fours).scatter_(-1, order[..., :2], 1).view(scores.shape)


def in_fours(shape: Sequence[int]) -> bool:
    """Whether four divides the number of weights of an output of a layer with this shape."""
    return math.prod(shape[1:]) % 4 == 0


def two_of_four(shapes: Mapping[str, Sequence[int]]) -> int:
    """How many weights of layers with these shapes stay if two of each four go; all where four does not divide them."""
    return sum(math.prod(shape) // (2 if in_fours(shape) else 1) for shape in shapes.values())


def pack_2_4(weight: torch.Tensor) -> Packed:
    """The weights that stay, and their places.

    Raises:
        ValueError: more than two of four neighbours are not zero, or an output has a number of weights that four does
            not divide.
    """
    fours = _fours(weight.detach())
    most = int((fours != 0).sum(dim=-1).max())
    if most > 2:
        raise ValueError(f"{most} of four neighbours are not zero; at most two may be, see mask_2_4")
    # The places of the nonzero weights, or of any zero where there are fewer than two, in rising order.
    order = (fours == 0).to(torch.uint8).argsort(dim=-1, stable=True)[..., :2].sort(dim=-1).values
    codes = (order[..., 0] + 4 * order[..., 1]).to(torch.uint8)  # (out, in / 4), of four bits
    if codes.shape[1] % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    values = fours.gather(-1, order).flatten(1) + 0  # of -0, too
    return Packed(values, codes[:, ::2] + 16 * codes[:, 1::2], tuple(weight.shape))


def unpack_2_4(packed: Packed) -> torch.Tensor:
    """The weight again, bit for bit (a zero is a plain 0, not −0).

    Raises:
        ValueError: places that are not those of two different weights, or shapes that do not fit.
    """
    values = packed.values.unflatten(1, (-1, 2))  # (out, in / 4, 2)
    codes = torch.stack([packed.places % 16, packed.places // 16], dim=-1).flatten(1)[:, : values.shape[1]]
    order = torch.stack([codes % 4, codes // 4], dim=-1).long()
    fits = order.shape == values.shape and 2 * values.numel() == math.prod(packed.shape)
    if not fits or not (order[..., 0] < order[..., 1]).all():
        raise ValueError(f"places do not fit: {tuple(packed.places.shape)} bytes for values {tuple(values.shape)}")
    fours = torch.zeros(*values.shape[:2], 4, dtype=values.dtype, device=values.device)
    return fours.scatter_(-1, order, values).view(packed.shape)


def _fours(weight: torch.Tensor) -> torch.Tensor:
    """(out, in / 4, 4)."""
    each = weight[0].numel()
    if each % 4:
        raise ValueError(f"each output has {each} weights (shape {tuple(weight.shape)}); four must divide their number")
    return weight.reshape(len(weight), -1, 4)
