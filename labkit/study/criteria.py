"""Importance scores: a number for each weight, larger for those that should stay.

Each criterion is a function of (model, images, labels, generator) that gives layer -> scores, in the shape of the
layer's weight. Masked weights count as zero, and nothing in the model is changed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from labkit.large.activations import layer_inputs, wanda_scores
from labkit.sparsity import bake_masks, effective_weight, prunable_layers

CALIBRATION = 128  # training images that the inputs of layers are taken from
Scores = dict[str, torch.Tensor]
Criterion = Callable[[nn.Module, torch.Tensor, torch.Tensor, torch.Generator], Scores]


def random(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """Dice: what any other criterion must beat."""
    return {n: torch.rand(effective_weight(x).shape, generator=generator) for n, x in prunable_layers(model).items()}


def magnitude(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """|w| (Han et al. 2015, "Learning both weights and connections")."""
    return {name: effective_weight(layer).abs() for name, layer in prunable_layers(model).items()}


def lamp(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """w² over the sum of the squares that are not smaller, in its layer (Lee et al. 2021, "Layer-adaptive sparsity").

    Equal squares are counted one after the other. So one weight of each layer, the largest, has the score 1, and no
    layer is emptied before the others.
    """
    return {name: lamp_scores(effective_weight(layer)) for name, layer in prunable_layers(model).items()}


def lamp_scores(weight: torch.Tensor) -> torch.Tensor:
    """LAMP scores of one layer's weights, in their shape, in (0, 1] but for weights that are zero."""
    squares, order = weight.flatten().double().square().sort(descending=True, stable=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return scores.view_as(weight)


def gradient(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """|w · g|, the mean over batches of 100: by how much a batch's loss changes without w, to first order.

    After Molchanov et al. 2019, "Importance estimation for neural network pruning", who square w · g and prune whole
    channels by it. (Their criterion of 2017 looks at activations, not at weights.)
    """
    parts = [_weight_times_gradient(model, X, y) for X, y in zip(images.split(100), labels.split(100), strict=True)]
    return {name: torch.stack([part[name].abs() for part in parts]).mean(dim=0) for name in parts[0]}


def snip(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """|w · g| of all images as one batch, over its sum in all layers (Lee et al. 2019, "SNIP").

    Made for networks before training.
    """
    scores = {name: product.abs() for name, product in _weight_times_gradient(model, images, labels).items()}
    total = torch.stack([score.sum() for score in scores.values()]).sum()
    # A network without any path to its logits has the sum 0.
    return {name: score / total.clamp_min(torch.finfo(total.dtype).tiny) for name, score in scores.items()}


def synflow(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """The product w · dR/dw, R the sum of the logits of an image of ones if all weights are |w| (Tanaka et al. 2020).

    Looks at no data: of the images only the size counts. Batch norms let everything pass, as they do before training,
    and biases are zero. Its authors prune in 100 steps, each with new scores; the steps are the caller's.
    """
    flow = bake_masks(model).double().eval()
    for layer in flow.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_parameters()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            parameter.copy_(torch.zeros_like(parameter) if name.endswith("bias") else parameter.abs())
    return _times_gradient(flow, flow(torch.ones_like(images[:1]).double()).sum())


def wanda(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> Scores:
    """|w| times the norm of its input on 128 images (Sun et al. 2024); its authors compare within an output ("row")."""
    inputs = layer_inputs(bake_masks(model), images[:CALIBRATION])
    return {n: wanda_scores(effective_weight(layer), inputs[n]) for n, layer in prunable_layers(model).items()}


def _weight_times_gradient(model: nn.Module, X: torch.Tensor, y: torch.Tensor) -> Scores:
    """The product w · dL/dw of the mean loss of a batch, normalised by its own statistics as in training."""
    copy = bake_masks(model).train()  # it would move the model's own running statistics
    return _times_gradient(copy, F.cross_entropy(copy(X), y))


def _times_gradient(model: nn.Module, value: torch.Tensor) -> Scores:
    """Every weight times the gradient of a value, in a model without masks."""
    weights = {name: dict(layer.named_parameters())["weight"] for name, layer in prunable_layers(model).items()}
    gradients = torch.autograd.grad(value, list(weights.values()))
    return {name: (w * g).detach() for (name, w), g in zip(weights.items(), gradients, strict=True)}


CRITERIA: dict[str, Criterion] = {f.__name__: f for f in (random, magnitude, lamp, gradient, snip, synflow, wanda)}
