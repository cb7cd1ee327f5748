"""Letting the weights that stay make up for those that went, by least squares on what the layer sees.

The closed form behind the optimal brain surgeon (Hassibi and Stork 1993) and SparseGPT (Frantar and Alistarh 2023):
SparseGPT finds nearly the same weights in one pass over the columns, because solving for each output on its own, as
here, takes too long for layers with thousands of inputs.
"""

import torch
from torch import nn

from labkit.large.activations import check_inputs, layer_inputs
from labkit.sparsity import effective_weight, prunable_layers

DAMPING = 0.01  # of the mean of the diagonal, as in SparseGPT's code


@torch.no_grad()
def compensate(
    weight: torch.Tensor, mask: torch.Tensor, inputs: torch.Tensor, damping: float = DAMPING
) -> torch.Tensor:
    """The weights under a mask whose outputs on these inputs are closest to those of all weights.

    For each output on its own: min over v of ‖X v − X w‖² + λ ‖v − w‖², v being zero where the mask is. With H = XᵀX
    + λ it is solved by H[kept, kept] v = H[kept, :] w.

    Args:
        weight: (out, in, ...), before pruning.
        mask: zeros where weights go, of its shape.
        inputs: X, (places, inputs), of ``layer_inputs``.
        damping: λ / mean of the diagonal of XᵀX.

    Returns:
        New weights, in the shape of the old ones, zero where the mask is.

    Raises:
        ValueError: shapes that do not fit, a negative damping, or none with fewer places than weights that stay.
    """
    check_inputs(weight, inputs)
    if mask.shape != weight.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; it must be {tuple(weight.shape)}")
    rows, kept = weight.flatten(1).double().cpu(), mask.flatten(1).cpu() != 0
    if not damping >= 0:
        raise ValueError(f"damping is {damping}; it must be >= 0")
    most = int(kept.sum(dim=1).max())
    if damping == 0 and len(inputs) < most:
        words = f"{len(inputs)} places of calibration for up to {most} weights of one output"
        raise ValueError(f"there are {words}; give at least {most}, or a damping > 0 (SparseGPT: {DAMPING})")
    X = inputs.double().cpu()
    H = X.T @ X  # (inputs, inputs)
    H.diagonal().add_(damping * H.diagonal().mean())
    new = torch.zeros_like(rows)
    for row, (w, stays) in enumerate(zip(rows, kept, strict=True)):
        # Without damping H is singular where an input is always zero, such as a pixel in the corner.
        solve = torch.linalg.solve if damping and H.diagonal().any() else _least_norm
        new[row, stays] = solve(H[stays][:, stays], H[stays] @ w)
    return new.view(weight.shape).to(weight)


def compensate_layers(model: nn.Module, dense: nn.Module, images: torch.Tensor) -> None:
    """Solve the masked layers of a network in place, each after those before it, as SparseGPT does.

    Args:
        model: with a mask on each layer.
        dense: the same network before pruning, without masks.
        images: of calibration.
    """
    for name, layer in prunable_layers(model).items():
        inputs, weight = layer_inputs(model, images)[name], effective_weight(dense.get_submodule(name))
        layer.get_parameter("weight_orig").data = compensate(weight, layer.get_buffer("weight_mask"), inputs)


def _least_norm(H: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.linalg.lstsq(H, y[:, None], driver="gelsd").solution.flatten()
