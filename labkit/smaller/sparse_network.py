"""Zeros that save time: a network compiled into loops over its nonzero weights.

Knows where each number of each layer lies in memory; the loops are in ``kernels``, which needs Numba. BatchNorm is
folded into the weights first, so that a convolution is nothing but sums of weights times pixels.
"""

import importlib
from collections import namedtuple
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from labkit.cnn import CNN, check_images
from labkit.smaller.onnx import needed
from labkit.smaller.shrink import PAIRS, check_chain
from labkit.sparsity import bake_masks

# A plane of numbers in memory: where it begins, and where what is inside of its margin begins; how far it is from a row
# to the next, and from a pixel to the next. Then what the layer that reads it computes: rows and columns of pixels;
# ``step``: 2 where 2 × 2 of them become one by max-pooling; relu or not; the number of its first channel in all layers.
Layer = namedtuple("Layer", "source inside row pixel rows columns step relu first")


class SparseNetwork(nn.Module):
    """A network that multiplies with its nonzero weights only, on one thread of the CPU.

    Called with images ``(B, *input_shape)`` float32, it returns logits (B, classes) like the network that it was made
    from in evaluation mode, so ``labkit.accuracy`` and ``labkit.measure_latency`` take it. Images are taken 16 at a
    time: a batch of 1 costs as much as one of 16. It keeps its own copy of the weights and cannot be trained.

    Attributes:
        input_shape: of one image.
    """

    def __init__(self, model: CNN) -> None:
        super().__init__()
        needed("numba")
        kernels = importlib.import_module("labkit.smaller.kernels")
        self.input_shape, self._classes, self._run = model.input_shape, model.num_of_cls, kernels.run
        (channels, height, width), images, source, first = model.input_shape, kernels.IMAGES, 0, 0
        layers, counts, places, weights, biases = list[Layer](), [torch.zeros(1)], [], [], []
        for weight, bias, step, margin in _read_layers(model):
            height, width, pixel = height + 2 * margin, width + 2 * margin, channels * images
            row, relu, used = width * pixel, int(len(layers) < len(PAIRS)), weight.nonzero()
            counts.append(used[:, 0].bincount(minlength=len(bias)))
            places.append(used[:, 1:] @ torch.tensor([row, pixel, images]))
            weights.append(weight[weight != 0])
            biases.append(bias)
            rows, columns = (height - weight.shape[1] + 1) // step, (width - weight.shape[2] + 1) // step
            inside = source + margin * (row + pixel)
            layers.append(Layer(source, inside, row, pixel, rows, columns, step, relu, first))
            source, first = source + height * row, first + len(bias)
            channels, height, width = len(bias), rows, columns
        layers.append(Layer(source, source, 0, 0, 0, 0, 0, 0, first))  # the logits
        # Memory of torch begins at a multiple of 64 bytes, so that no 16 numbers lie across two cache lines.
        self._memory = torch.zeros(source + channels * images)
        arrays = torch.cat(counts).cumsum(0).to(torch.uint32), torch.cat(places).int()
        numbers = torch.cat(weights).float(), torch.cat(biases).float()
        self._program = tuple(layers), *(array.numpy() for array in (*arrays, *numbers))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes); NaN for an image with pixels that are not finite.

        Raises:
            ValueError: images of another shape or precision, or not on the CPU.
        """
        check_images(images, self.input_shape, "this network")
        if images.dtype != torch.float32 or images.device.type != "cpu":
            raise ValueError(f"images are {images.dtype} on {images.device}; this network takes torch.float32 on cpu")
        pixels, logits = images.detach().contiguous(), torch.empty(len(images), self._classes)
        self._run(pixels.numpy(), logits.numpy(), self._memory.numpy(), *self._program)
        return logits.add_(0 * pixels.flatten(1).sum(1, keepdim=True))  # the larger of NaN and a number may be either


@torch.no_grad()
def compile_sparse(model: CNN) -> SparseNetwork:
    """Compile a network into loops over its nonzero weights: the fewer there are, the less time it takes.

    The network may be masked, loaded from a sparse file, or dense, on any device. What is compiled is its evaluation
    mode, with its weights as they are now, in float32, for the CPU. Logits agree to 1e-5 (of the largest logit, where
    that is more than 1).

    The loops are the same for all networks. Numba compiles them in the first call on a machine, which took 2 seconds on
    a busy AMD EPYC, and keeps them beside the package, or in the folder that ``NUMBA_CACHE_DIR`` names. The first call
    of a later process loads them in about a second.

    Raises:
        ImportError: numba is missing.
        ValueError: not a ``labkit.CNN``, or weights that are not finite.
    """
    check_chain(model)
    return SparseNetwork(model)


def _read_layers(model: CNN) -> Iterator[tuple[torch.Tensor, torch.Tensor, int, int]]:
    """Of each layer: weights (channels, height, width, inputs), biases, step of pooling, padding.

    BatchNorm is folded in. Channels that no nonzero weight of the next layer reads are left out.
    """
    baked = bake_masks(model).cpu().double().eval()
    layers = []
    for (name, norm), step in zip(PAIRS, (2, 2, 1), strict=True):
        layer = fuse_conv_bn_eval(getattr(baked, name), getattr(baked, norm))
        layers.append((layer.weight.permute(0, 2, 3, 1), layer.bias, step, layer.padding[0]))
    # The linear layer is a convolution whose kernel is as large as the image.
    height, width = (size // 4 - 2 for size in model.input_shape[1:])
    layers.append((baked.fc.weight.unflatten(1, (height, width, -1)), baked.fc.bias, 1, 0))
    inputs = torch.arange(model.input_shape[0])
    for number, (weight, bias, step, padding) in enumerate(layers, 1):
        readers = layers[number][0] if number < len(layers) else torch.ones(len(bias))
        kept = (readers != 0).reshape(-1, len(bias)).any(dim=0).nonzero().flatten()
        yield weight[kept][..., inputs], bias[kept], step, padding
        inputs = kept
