"""Zeros: where they are, how many, and copies of networks that have them.

``torch.nn.utils.prune`` keeps the weights of a pruned layer in ``weight_orig`` and multiplies them with
``weight_mask`` in a hook before each forward pass. In between, ``layer.weight`` may be stale, and ``parameters()``
shows no zero at all. This module always reads the product, so its numbers are right at any moment.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from tabulate import tabulate
from torch import nn
from torch.nn.utils import prune

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LayerSparsity:
    """What is zero in one layer's weights.

    Attributes:
        name: the layer's name in the model.
        weights: number of weights.
        zeros: how many of them are zero.
        channels: number of output channels: the first dimension.
        zero_channels: how many of them have no nonzero weight left.
    """

    name: str
    weights: int
    zeros: int
    channels: int
    zero_channels: int

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that are zero, in [0, 1]."""
        return self.zeros / self.weights


def prunable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Name -> layer, for every convolution and linear layer, in the model's order."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}


@torch.no_grad()
def effective_weight(layer: nn.Module, name: str = "weight") -> torch.Tensor:
    """The weights that the next forward pass will use, through the mask: (out, in, 3, 3) or (out, in), no gradient.

    Args:
        layer: a convolution, a linear layer, or any other with weights.
        name: of the weights, where a layer has several, such as ``"weight_hh_l0"`` of an LSTM.

    Raises:
        ValueError: the layer has no such weights.
    """
    buffers = dict(layer.named_buffers())
    if f"{name}_mask" in buffers:
        return layer.get_parameter(f"{name}_orig") * buffers[f"{name}_mask"]
    weight = getattr(layer, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"{type(layer).__name__} has no {name}; give a convolution or a linear layer")
    return weight.detach()


def zero_channels(layer: nn.Module, name: str = "weight") -> torch.Tensor:
    """Numbers of the output channels whose weights are all zero: (K,) int64, rising; arguments of effective_weight."""
    return (effective_weight(layer, name).unsqueeze(1).flatten(1) == 0).all(dim=1).nonzero().flatten()


def check_finite(model: nn.Module | Mapping[str, torch.Tensor], where: str = "") -> None:
    """Make sure that all weights, biases and statistics of a network, or of its state_dict, are finite numbers.

    Raises:
        ValueError: some are not, or are no tensors; ``where`` says which file they come from.
    """
    for name, tensor in (model.state_dict() if isinstance(model, nn.Module) else model).items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{where} is of another architecture: {name} is a {type(tensor).__name__}, not a tensor")
        if bad := int((~tensor.isfinite()).sum()):
            place = f"{where}: {name}" if where else name
            raise ValueError(f"{place} has {bad} values that are NaN or infinite; all must be finite")


def sparsity_report(model: nn.Module, layers: Iterable[str] | None = None) -> list[LayerSparsity]:
    """Count the zeros of each layer.

    Args:
        model: any module; pruned layers are read through their masks.
        layers: names of layers, default all prunable ones, and others that have a mask: an embedding, or each tensor
            of weights of an LSTM, such as ``"lstm.weight_hh_l0"``.

    Raises:
        ValueError: an unknown layer, or weights that are not numbers.
    """
    counted = _counted(model)
    report = []
    for name in counted if layers is None else layers:
        if name not in counted:
            raise ValueError(f"layer is {name!r}; this model's prunable layers are {', '.join(counted) or 'none'}")
        weight = effective_weight(*counted[name])
        if weight.isnan().any():
            raise ValueError(f"{name} has {int(weight.isnan().sum())} weights that are NaN; train it again")
        zeros = int((weight == 0).sum())
        report.append(LayerSparsity(name, weight.numel(), zeros, len(weight), len(zero_channels(*counted[name]))))
    if not report:
        raise ValueError("no layer to report: the model has no convolution and no linear layer, or the list is empty")
    return report


def _counted(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Name in a report -> a layer and the name of its weights: of all prunable layers, and others with a mask."""
    counted = {name: (layer, "weight") for name, layer in prunable_layers(model).items()}
    others = {layer: name for name, layer in model.named_modules() if name not in counted}
    for layer in (layer for layer, _ in _masks(model) if layer in others):
        for key in (key.removesuffix("_orig") for key, _ in layer.named_parameters(recurse=False) if "bias" not in key):
            counted[f"{others[layer]}.{key}".removesuffix(".weight").removeprefix(".")] = layer, key
    return counted


def sparsity(model: nn.Module, layers: Iterable[str] | None = None) -> float:
    """Fraction of zero weights over all named layers together, in [0, 1].

    Biases do not count, and what is neither a convolution nor a linear layer, such as a batch norm, only with a mask.
    """
    report = sparsity_report(model, layers)
    return sum(row.zeros for row in report) / sum(row.weights for row in report)


def sparsity_table(model: nn.Module, layers: Sequence[str] | None = None, *, movable: bool = False) -> str:
    """The report as a table of fixed width, with a line for all layers together.

    Args:
        model: as in ``sparsity_report``.
        layers: as in ``sparsity_report``.
        movable: print each layer's sparsity as a whole number with ``≈``, and not its number of zeros: after training,
            how a global mask divides its zeros among the layers differs between processors. The total is exact.
    """
    report = sparsity_report(model, layers)
    rows = []
    for row in report:
        zeros = "" if movable else f"{row.zeros:>7,}"
        share = f"≈{100 * row.sparsity:5.0f} %" if movable else f"{100 * row.sparsity:6.2f} %"
        channels = f"{'≈' if movable else ''}{row.zero_channels:>3} of {row.channels:>3}"
        rows.append((row.name, f"{row.weights:,}", zeros, share, channels))
    gone, weights = sum(row.zeros for row in report), sum(row.weights for row in report)
    rows.append(("together", f"{weights:,}", f"{gone:>7,}", f"{100 * gone / weights:6.2f} %", ""))
    headers = ("layer", "weights", "zero weights", "sparsity", "channels all zero")
    return tabulate(rows, headers, tablefmt="pretty", stralign="right", disable_numparse=True)


def _masks(model: nn.Module) -> list[tuple[nn.Module, prune.BasePruningMethod]]:
    """Each pruned layer with the hook that multiplies one of its tensors with a mask."""
    hooks = [(layer, hook) for layer in model.modules() for hook in layer._forward_pre_hooks.values()]
    return [(layer, hook) for layer, hook in hooks if isinstance(hook, prune.BasePruningMethod)]


@torch.no_grad()
def refresh_weights(model: nn.Module) -> None:
    """Make ``layer.weight`` of every pruned layer the product of its weights and its mask again, in place.

    Needed after ``optimizer.step()`` and ``load_state_dict`` by code that reads ``layer.weight`` itself.
    """
    for layer, hook in _masks(model):
        setattr(layer, hook._tensor_name, hook.apply_mask(layer))


def clone(model: M) -> M:
    """An independent copy of a model, masks included, at any moment.

    ``copy.deepcopy`` alone refuses a model that has just been pruned or trained, because ``layer.weight`` is then the
    result of a computation with a gradient (pytorch issue 37322).
    """
    refresh_weights(model)
    return copy.deepcopy(model)


def bake_masks(model: M) -> M:
    """A copy without masks whose weights are the products of weights and masks: the same function.

    Zeros are plain numbers in it, which training moves; so bake last.
    """
    baked = clone(model)
    for layer, hook in _masks(baked):
        prune.remove(layer, hook._tensor_name)
    return baked


def as_tensor(values: Any) -> torch.Tensor:
    """A dense tensor on the CPU, without gradient, of a tensor, an array, a number, or lists of any of these."""
    if isinstance(values, (list, tuple)):
        return torch.stack([as_tensor(part) for part in values])
    if hasattr(values, "astype"):  # an array, perhaps of objects, or turned round
        values = values.astype(float if values.dtype == object else values.dtype.newbyteorder("="), order="C")
    return torch.as_tensor(values).detach().to_dense().cpu()


def by_layer(given: Any, layers: Iterable[str]) -> dict[str, Any]:
    """Layer -> what belongs to it, of a dict, or of one thing for each layer in their order.

    Raises:
        ValueError: not one for each layer.
    """
    return dict(given) if isinstance(given, Mapping) else dict(zip(layers, given, strict=True))


def compare_masks(by_hand: Any, layer: nn.Module) -> str:
    """Whether a mask has its zeros where the layer has them: ``"True"``, or ``"False"`` and how many differ.

    Args:
        by_hand: numbers or bools in the shape of the layer's weights: a tensor, a NumPy array, or lists of these.
        layer: a layer with its mask, or with the mask made permanent.
    """
    mask, expected = as_tensor(by_hand) != 0, effective_weight(layer).cpu() != 0
    if mask.shape != expected.shape:
        return f"False, the shape is {tuple(mask.shape)} instead of {tuple(expected.shape)}"
    wrong = int((mask != expected).sum())
    return f"False, {wrong:,} of {expected.numel():,} weights differ" if wrong else "True"
