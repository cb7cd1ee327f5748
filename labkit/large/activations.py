"""What activations tell: the inputs of each layer on a few images, and the scores that come from them.

Nothing is trained, and nothing here changes a network.
"""

from contextlib import ExitStack
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from labkit.sparsity import prunable_layers
from labkit.training import device_of, in_mode


@torch.no_grad()
def layer_inputs(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each convolution and linear layer multiplies its weights with.

    A row for each place that the weights are applied at: for a linear layer each image or token, for a convolution each
    pixel of its output, with what its kernel sees there (zeros beyond the border). So the layer computes
    ``rows @ weight.flatten(1).T + bias``.

    Args:
        model: the network, in any mode; it computes in evaluation mode, where it is.
        images: (B, ...) calibration images.

    Returns:
        Layer -> (places, inputs), float32, on the CPU.

    Raises:
        ValueError: no images, a layer that they do not reach, one that is grouped or padded otherwise than with
            zeros, or inputs that are not finite numbers.
    """
    if not len(images):
        raise ValueError("there are 0 images; calibration needs some")
    layers, found = prunable_layers(model), dict[str, torch.Tensor]()

    def note(name: str, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = _rows(name, layer, inputs[0]).float().cpu()
        if bad := int((~rows.isfinite()).sum()):
            raise ValueError(f"{name} has {bad} inputs that are NaN or infinite; all must be finite")
        found[name] = torch.cat([found[name], rows]) if name in found else rows

    with in_mode(model, training=False), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(note, name)))
        model(images.to(device_of(model)))
    if missing := [name for name in layers if name not in found]:
        raise ValueError(f"the images do not reach {', '.join(missing)}: these layers have no inputs")
    return found


def _rows(name: str, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(places, inputs) of what a layer is given."""
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.padding_mode != "zeros" or layer.padding == "same":
        raise ValueError(f"{name} is {layer}; known are linear layers and plain Conv2d")
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding  # the other word is "valid"
    windows = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)  # (B, inputs, places)
    return windows.transpose(1, 2).flatten(0, 1)


def wanda_scores(weight: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Scores |w| · ‖x‖ (Sun et al. 2024, "A simple and effective pruning approach for large language models": Wanda).

    Its authors compare the scores of each output on its own (``scope="row"`` of the study).

    Args:
        weight: (out, in, ...).
        inputs: (places, inputs), of ``layer_inputs``.

    Raises:
        ValueError: as many inputs as the weight has are needed.
    """
    check_inputs(weight, inputs)
    return weight.abs() * inputs.norm(dim=0).view(weight[:1].shape).to(weight)


def check_inputs(weight: torch.Tensor, inputs: torch.Tensor) -> None:
    """Make sure that inputs (places, inputs) are those of a layer with this weight.

    Raises:
        ValueError: they are not.
    """
    if inputs.ndim != 2 or inputs.shape[1] != weight[0].numel() or not len(inputs):
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}; they must be (places >= 1, {weight[0].numel()})")
