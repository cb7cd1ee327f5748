"""What a student gives to a check, made plain: numbers, tensors on the CPU, a network of one's own."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from labkit.cnn import CNN
from labkit.course.evidence import ALL_LAYERS
from labkit.course.verdict import Unfit
from labkit.sparsity import as_tensor, clone


def own_copy(network: Any) -> CNN:
    """A copy of a network, on the CPU and in float32."""
    if not isinstance(network, CNN):
        raise Unfit(f"the network is a {type(network).__name__}; it must be a labkit.CNN")
    return clone(network).cpu().float()


def tensor(mask: Any) -> Any:
    """A tensor on the CPU, as the notebooks' own cells take it; what can be none stays as it is."""
    if not isinstance(mask, (torch.Tensor, np.ndarray, np.generic, list, tuple)):
        return mask
    try:
        return as_tensor(mask)
    except (TypeError, ValueError, RuntimeError, RecursionError):  # words, or lists of different lengths
        return mask


def tensors(*layers: str) -> Callable[[Any], Any]:
    """A dict from layer to tensor; also of a list of one for each of the layers, in their order."""
    return lambda masks: _of_each(masks, layers, tensor)


def numbers(work: Any) -> Any:
    """A dict from layer to number; also of four numbers in the order of the layers."""
    return _of_each(work.tolist() if isinstance(work, (torch.Tensor, np.ndarray)) else work, ALL_LAYERS, number)


def _of_each(work: Any, layers: Sequence[str], plain: Callable[[Any], Any]) -> Any:
    if isinstance(work, (list, tuple)) and len(work) == len(layers):
        work = dict(zip(layers, work, strict=True))
    return {name: plain(value) for name, value in work.items()} if isinstance(work, Mapping) else work


def number(value: Any) -> Any:
    """Also NumPy's and torch's numbers."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value
    if isinstance(value, (Fraction, Decimal)):
        return float(value)
    return value.item() if isinstance(value, (np.generic, np.ndarray)) and value.size == 1 else value
