"""The loops of a sparse network, compiled by Numba: one multiply-add for each nonzero weight, pixel and image.

Only ``sparse_network`` imports this module, and with it Numba. Why it is fast:

- **Vectors over images.** The same pixel of 16 images lies side by side in memory. A weight is multiplied with all of
  them at once: one vector register of AVX-512, two of AVX2, four of NEON. It does not matter where the zeros are.
- **Registers over weights.** The sums of the four pixels that max-pooling makes one stay in registers while all weights
  of a channel are added. Only the largest is stored.
- **Cache.** The channels of a pixel lie together. All channels of one place are computed before the loops go on to the
  next, so that they read the same few pixels again and again.

Numba makes vectors of loops along an array, but then it loads and stores each sum again for each weight. Hence the
three ``intrinsic`` functions, each of which is a few instructions on 16 numbers.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

IMAGES = 16
REGISTER = ir.VectorType(ir.FloatType(), IMAGES)


class Vector(types.Type):
    """One number for each of 16 images."""


VECTOR = Vector("vector")
register_model(Vector)(lambda manager, kind: models.PrimitiveModel(manager, kind, REGISTER))


def compiled(function):
    """A function compiled by Numba; it is kept on disk where there is a folder to keep it in."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # "cannot cache function": neither this folder nor that of the user can be written
        return njit(function)


def _spread(builder, number):
    first = builder.insert_element(ir.Constant(REGISTER, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), IMAGES), [0] * IMAGES))


def _address(context, builder, signature, memory, place):
    numbers = context.make_array(signature.args[0])(context, builder, memory).data
    return builder.bitcast(builder.gep(numbers, [place]), REGISTER.as_pointer())


@intrinsic
def spread(_, number):
    """16 times the same number."""
    return VECTOR(number), lambda _context, builder, _signature, values: _spread(builder, values[0])


@intrinsic
def multiply_add(_, memory, place, weight, total):
    """``total + weight * memory[place : place + 16]``."""

    def code(context, builder, signature, values):
        pixels = builder.load(_address(context, builder, signature, *values[:2]), align=4)
        # "contract": one instruction and one rounding for both, where the processor has it.
        product = builder.fmul(pixels, _spread(builder, values[2]), flags=["contract"])
        return builder.fadd(values[3], product, flags=["contract"])

    return VECTOR(memory, place, weight, total), code


@intrinsic
def store_largest(_, memory, place, a, b, c, d, least):
    """``memory[place : place + 16]`` = the largest numbers of the five vectors."""

    def code(context, builder, signature, values):
        largest = values[2]
        for other in values[3:]:
            largest = builder.select(builder.fcmp_ordered(">", largest, other), largest, other)
        builder.store(largest, _address(context, builder, signature, *values[:2]), align=4)
        return context.get_dummy_value()

    return types.void(memory, place, a, b, c, d, least), code


@compiled
def run(images, logits, memory, layers, starts, places, weights, biases):
    """Write logits (B, classes) for images (B, channels, height, width), 16 at a time.

    Args:
        images: float32, contiguous.
        logits: float32, contiguous.
        memory: planes, one after the other, each (height, width, channels, 16) with its margin of zeros.
        layers: one ``sparse_network.Layer`` each, and what is left of them.
        starts: (channels of all layers + 1,), where the weights of each begin; unsigned: no index is ever negative.
        places: (weights,), how far the input of each lies behind the first input of an output pixel.
        weights: (weights,).
        biases: (channels of all layers,).
    """
    for begin in range(0, len(images), IMAGES):
        chunk = images[begin : begin + IMAGES]
        fill(memory, layers[0], chunk)
        for number in range(len(layers) - 1):
            compute(memory, layers[number], layers[number + 1], starts, places, weights, biases)
        for label in range(logits.shape[1]):
            for i in range(len(chunk)):
                logits[begin + i, label] = memory[layers[-1].inside + label * IMAGES + i]


@compiled
def fill(memory, plane, images):
    """Bring at most 16 images side by side, pixel by pixel."""
    count, colours, height, width = images.shape
    for colour in range(colours):
        for y in range(height):
            for x in range(width):
                place = plane.inside + y * plane.row + x * plane.pixel + colour * IMAGES
                for i in range(count):
                    memory[place + i] = images[i, colour, y, x]


@compiled
def compute(memory, layer, output, starts, places, weights, biases):
    """One layer for 16 images: convolution, the largest of 2 × 2 pixels where ``step`` is 2, relu where asked for."""
    row, pixel = layer.row, layer.pixel
    least = spread(np.float32(0 if layer.relu else -np.inf))
    for position in range(layer.rows * layer.columns):
        y, x = divmod(position, layer.columns)
        start = layer.source + layer.step * (y * row + x * pixel)
        target = output.inside + y * output.row + x * output.pixel
        for channel in range(layer.first, output.first):
            a = spread(biases[channel])
            b = c = d = a if layer.step == 2 else least
            for k in range(starts[channel], starts[channel + 1]):
                place, weight = start + places[k], weights[k]
                a = multiply_add(memory, place, weight, a)
                if layer.step == 2:
                    b = multiply_add(memory, place + pixel, weight, b)
                    c = multiply_add(memory, place + row, weight, c)
                    d = multiply_add(memory, place + row + pixel, weight, d)
            store_largest(memory, target, a, b, c, d, least)
            target += IMAGES
