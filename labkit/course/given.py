"""What a student gives to a check, in a plain form: numbers, tensors on the CPU, a network.

Whatever is plainly meant is taken; what is not stays as it is, and the judges say what they need.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from itertools import islice
from numbers import Real
from typing import Any

import numpy as np
import torch

from labkit.checkpoints import unwrapped
from labkit.cnn import CNN
from labkit.course.evidence import ALL_LAYERS, SHAPES
from labkit.course.verdict import Unfit
from labkit.sparsity import as_tensor, clone


def own_copy(network: Any) -> CNN:
    """A copy of a network, on the CPU and in float32."""
    network = unwrapped(network)
    if not isinstance(network, CNN):
        raise Unfit(f"the network is a {type(network).__name__}; it must be a labkit.CNN")
    return clone(network).cpu().float()


def tensor(mask: Any) -> Any:
    """A tensor on the CPU, as the notebooks' own cells take it; what can be none stays as it is."""
    known = isinstance(mask, (torch.Tensor, list, tuple))
    if not known and not hasattr(mask, "__array__"):
        return mask
    try:
        return as_tensor(mask if known else np.asarray(mask))
    except (TypeError, ValueError, RuntimeError, RecursionError):  # words, or lists of different lengths
        return mask


def mask_of(layer: str, mask: object) -> object:
    """A tensor in the shape of the layer's weights, also of a flat mask, or of one number for each output channel."""
    shape, plain = SHAPES[layer], tensor(mask.get(layer, mask) if isinstance(mask, Mapping) else mask)
    if isinstance(plain, torch.Tensor):
        lengths = [length for length in plain.shape if length > 1]
        if lengths in ([x for x in shape if x > 1], [math.prod(shape)], [shape[0], math.prod(shape[1:])]):
            return plain.reshape(shape)
        if lengths == [shape[0]] == [*plain.shape[:1]]:
            return plain.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    return plain


def tensors(*layers: str) -> Callable[[object], object]:
    """A dict from layer to tensor; also of one for each of the layers, in their order."""
    return lambda masks: _of_each(masks, layers, mask_of)


def numbers_of(*layers: str) -> Callable[[object], object]:
    """A dict from layer to number; also of a number for each of the layers, in their order."""
    return lambda work: _of_each(work, layers, lambda _, value: number(value))


numbers = numbers_of(*ALL_LAYERS)


def _of_each(work: object, layers: Sequence[str], plain: Callable[[str, object], object]) -> object:
    """Layer -> what belongs to it, in a plain form, of a dict, or of one thing for each layer in their order."""
    if hasattr(work, "items"):
        pairs = list(work.items())
    elif isinstance(work, Iterable) and not isinstance(work, (str, Set)) and getattr(work, "ndim", None) != 0:
        pairs = list(enumerate(islice(work, len(layers) + 1)))
    else:
        return work
    if not any(isinstance(key, str) for key, _ in pairs):  # in their order, by numbers, or by the layers themselves
        if len(pairs) != len(layers):
            return work
        pairs = [(name, value) for name, (_, value) in zip(layers, pairs, strict=True)]
    # Such as "conv1.weight_mask", from a state_dict.
    names = {re.sub(r"(\.weight)?(_mask|_orig)?$", "", str(key)).strip().casefold(): value for key, value in pairs}
    return {name: plain(name, value) if name in layers else value for name, value in names.items()}


def number(value: Any) -> Any:
    """Also NumPy's and torch's numbers, fractions, and a list of one number."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return number(value[0])
    if isinstance(value, (torch.Tensor, np.generic, np.ndarray)) and math.prod(value.shape) == 1:
        value = value.item()
    return float(value) if isinstance(value, (Real, Decimal)) and not isinstance(value, (int, float)) else value
