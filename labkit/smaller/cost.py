"""What a network costs: weights, multiply-adds, bytes and milliseconds, side by side in one ledger.

Counts and sizes are the same everywhere; times are this machine's, and only their ratios mean something, if they were
measured side by side. Knows networks by their layers only, and nothing of how they came about.
"""

import gzip
import io
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from labkit import runtime
from labkit.smaller.sparse_file import pack_sparse
from labkit.sparsity import clone, effective_weight, prunable_layers
from labkit.training import device_of, in_mode

Networks = Mapping[str, Callable[[torch.Tensor], object]]
TURN = 6  # calls of one network before the next one's turn; the first refills the caches and is not counted


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer for one image.

    Attributes:
        name: the layer's name in the model.
        weights: number of weights, without biases.
        nonzero: how many of them are not zero, through the mask.
        multiply_adds: multiplications with addition, as the layer is computed: zeros are multiplied too.
        effective: those whose weight is not zero: what a program that skips every zero would do.
    """

    name: str
    weights: int
    nonzero: int
    multiply_adds: int
    effective: int


@dataclass(frozen=True)
class Latency:
    """How long one batch takes.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        threads: number of threads of the CPU.
        batch: number of images.
        median: milliseconds; half of the batches took no longer.
        low: 10th percentile, milliseconds.
        high: 90th percentile, milliseconds.
    """

    device: str
    threads: int
    batch: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Ledger:
    """What a network costs.

    Attributes:
        layers: one row for each convolution and linear layer.
        parameters: all numbers that training moves: weights and biases, of BatchNorm too. Masked ones count.
        raw_bytes: of a file of its ``state_dict``, masks included.
        gzip_bytes: of the same, compressed.
        sparse_bytes: of its sparse file (``save_sparse``, 8 bits).
        latencies: ``"batch of 64, 1 thread"`` and the like -> how long it took.
    """

    layers: tuple[LayerCost, ...]
    parameters: int
    raw_bytes: int
    gzip_bytes: int
    sparse_bytes: int
    latencies: Mapping[str, Latency]

    @property
    def nonzero(self) -> int:
        """Weights that are not zero, over all layers."""
        return sum(layer.nonzero for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image, over all layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def effective(self) -> int:
        """Multiply-adds for one image whose weight is not zero, over all layers."""
        return sum(layer.effective for layer in self.layers)


@torch.no_grad()
def multiply_adds(model: nn.Module, images: torch.Tensor | None = None) -> list[LayerCost]:
    """Count the multiply-adds of each convolution and linear layer for one image.

    A layer applies each of its weights once at each place of its output: multiply-adds = weights × places. That is
    3 · 3 · in · out · height · width for a convolution with 3 × 3 kernels, and in · out for a linear layer on flat
    inputs; of a grouped convolution only the inputs of a group count, and at the border the padded zeros do. A layer
    that is used twice counts twice, one that is not used 0. Not counted: biases, BatchNorm, pooling, relu, transposed
    convolutions, matrix products outside of layers. One multiply-add is two floating-point operations.

    Args:
        model: any network of convolutions and linear layers; pruned layers are read through their masks.
        images: (B, ...), an example of what it takes; by default one image of ``model.input_shape``.

    Raises:
        ValueError: images are missing or empty, or no layer is counted.
    """
    images = _example(model, images)
    layers = prunable_layers(model)
    if not layers:
        raise ValueError("no layer to count: the model has no convolution and no linear layer")
    places = dict.fromkeys(layers, 0)

    def note(name: str, layer: nn.Module, _: object, output: torch.Tensor) -> None:
        places[name] += output.numel() // len(effective_weight(layer))  # over all images: one for each output channel

    with in_mode(model, training=False), ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(partial(note, name)))
        model(images)
    rows = []
    for name, layer in layers.items():
        weight, each = effective_weight(layer), places[name] // len(images)
        nonzero = int(weight.count_nonzero())
        rows.append(LayerCost(name, weight.numel(), nonzero, weight.numel() * each, nonzero * each))
    return rows


def multiply_adds_of(channels: Sequence[Any], input_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> Any:
    """Multiply-adds for one image of a dense ``CNN``, as ``multiply_adds`` counts them, without computing it.

    Args:
        channels: of the three convolutions: whole numbers, or arrays of them, which are broadcast.
        input_shape: (channels, height, width) of one image.
        classes: number of classes.
    """
    (colours, height, width), (first, second, third) = input_shape, channels
    halves, last = (height // 2) * (width // 2), (height // 4 - 2) * (width // 4 - 2)
    convolutions = height * width * colours * first + halves * first * second + last * second * third
    return 9 * convolutions + last * third * classes


def measure_latency(
    networks: Networks, images: torch.Tensor, threads: int = 1, seconds: float = 0.3
) -> dict[str, Latency]:
    """Time one batch through each network, taking turns, so that a busy moment of the machine strikes all alike.

    Each is warmed up first, and timed at least five times. A network is a ``torch.nn.Module`` (it computes in
    evaluation mode, where its parameters are) or any function of a batch of images.

    Args:
        networks: name -> network.
        images: the batch, (B, ...).
        threads: of the CPU; torch has its former number again afterwards.
        seconds: to spend for each network, on average.

    Raises:
        ValueError: no network, no images, or numbers out of range.
    """
    if not isinstance(networks, Mapping):
        raise ValueError(f"networks are a {type(networks).__name__}; give a dict from name to network")
    if not networks or not len(images):
        raise ValueError(f"{len(networks)} networks and {len(images)} images were given; there must be some of each")
    runtime.check_whole("threads", threads, 1)
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds}; it must be a finite number > 0")
    with ExitStack() as stack, torch.inference_mode():
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        for network in networks.values():
            if isinstance(network, nn.Module):
                stack.enter_context(in_mode(network, training=False))
        taken = _in_turns(networks, images, seconds)
    found = {}
    for name, times in taken.items():
        low, median, high = (1000 * float(value) for value in np.percentile(times, [10, 50, 90]))
        found[name] = Latency(device_of(networks[name]).type, threads, len(images), median, low, high)
    return found


def _in_turns(networks: Networks, images: torch.Tensor, seconds: float) -> dict[str, list[float]]:
    """Name -> seconds of each timed call."""
    # glibc gives back what is freed at the end of its heap, and asks the kernel for it again, page by page, until a
    # block of up to 32 MiB has once been freed: a dense CNN took 17 ms instead of 10. Measure what a long run sees.
    torch.empty(31 << 20, dtype=torch.uint8)
    batches = {name: images.to(device_of(network)) for name, network in networks.items()}
    for name, network in networks.items():
        _seconds(network, batches[name])
    taken: dict[str, list[float]] = {name: [] for name in networks}
    order = random.Random(0)
    while min(map(len, taken.values())) < 5 or sum(map(sum, taken.values())) < seconds * len(taken):
        # In a new order each round: else the one after the slowest would always meet the end of a time slice.
        for name, network in order.sample(list(networks.items()), len(networks)):
            taken[name] += [_seconds(network, batches[name]) for _ in range(TURN)][1:]
    return taken


def ledger(model: nn.Module, images: torch.Tensor | None = None, seconds: float = 0.3) -> Ledger:
    """The ledger of one network; to compare several, ``ledgers`` times them side by side.

    Args:
        model: any network of convolutions and linear layers, masked or not; it is not changed.
        images: (B, ...), an example of what it takes, repeated to batches of 1 and 64; by default noise of the shape
            ``model.input_shape``.
        seconds: to spend on each latency: batches of 1 and 64, on one thread and on all of the CPU, and on CUDA where
            there is one. Times are of float32 copies.

    Raises:
        ValueError: no layer to count, no images, or weights that are not finite.
    """
    return ledgers({"": model}, images, seconds)[""]


def ledgers(
    models: Mapping[str, nn.Module], images: torch.Tensor | None = None, seconds: float = 0.3
) -> dict[str, Ledger]:
    """Name -> ledger of several networks for the same images, whose latencies were measured taking turns."""
    if not models:
        raise ValueError("no model to measure; give at least one")
    example = _example(next(iter(models.values())), images)
    # First, since it refuses what has no layer.
    counted = {name: tuple(multiply_adds(model, example)) for name, model in models.items()}
    latencies: dict[str, dict[str, Latency]] = {name: {} for name in models}
    for device in sorted({"cpu", runtime.pick_device().type}):
        copies = {name: clone(model).to(device).float() for name, model in models.items()}
        ways = {"CUDA": 1} if device == "cuda" else {"1 thread": 1, "all threads": runtime.cores()}
        for batch in (1, 64):
            stack = example[torch.arange(batch) % len(example)].float()
            stack = stack.to(memory_format=torch.channels_last) if stack.ndim == 4 else stack
            for way, threads in ways.items():
                for name, latency in measure_latency(copies, stack, threads, seconds).items():
                    latencies[name][f"batch of {batch}, {way}"] = latency
    return {name: _ledger(model, counted[name], latencies[name]) for name, model in models.items()}


def ledger_table(found: Mapping[str, Ledger]) -> str:
    """Ledgers as a table: one column for each network, one row for each cost.

    File sizes (1 KB = 1,000 bytes) carry ``≈``, since they move a little with the version of torch; times carry ``†``,
    and are shown for one thread (and CUDA). Columns have a fixed width, so that the table looks the same everywhere.
    """
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"ledgers are {found!r:.80}; give a dict from name to ledger, with at least one")
    exact = {"parameters": "parameters", "nonzero weights": "nonzero"}
    exact |= {"multiply-adds": "multiply_adds", "… zeros skipped": "effective"}
    files = {"file": "raw_bytes", "file, gzip": "gzip_bytes", "sparse file": "sparse_bytes"}
    several = list(found.values())
    rows = [[name, *(f"{getattr(one, key):,}" for one in several)] for name, key in exact.items()]
    for name, key in files.items():
        rows.append([f"{name} [KB]", *(f"≈{getattr(one, key) / 1000:7.1f}" for one in several)])
    for way in (way for way in several[0].latencies if "all threads" not in way):
        rows.append([f"{way} [ms]", *(f"†{_two_digits(one.latencies[way].median):>8}" for one in several)])
    return tabulate(rows, ["", *found], "pretty", stralign="right", disable_numparse=True)


def _two_digits(number: float) -> str:
    """Rounded to two significant digits, whole above 10: more would be noise."""
    return f"{number:#.2g}" if number < 9.95 else f"{number:.0f}"


def _ledger(model: nn.Module, counted: tuple[LayerCost, ...], latencies: Mapping[str, Latency]) -> Ledger:
    file = io.BytesIO()
    torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}, file)
    packed = len(gzip.compress(file.getvalue(), mtime=0))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Ledger(counted, parameters, file.tell(), packed, len(pack_sparse(model)), latencies)


def _example(model: nn.Module, images: torch.Tensor | None) -> torch.Tensor:
    if images is None:
        shape = getattr(model, "input_shape", None)
        if not isinstance(shape, tuple):
            raise ValueError(f"images are missing; a {type(model).__name__} does not tell the shape of what it takes")
        images = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    if images.ndim < 2 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; they must be (batch, ...) with at least one image")
    return images.to(next(model.parameters(), images))  # its device and precision


def _seconds(network: Callable[[torch.Tensor], object], images: torch.Tensor) -> float:
    start = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start
