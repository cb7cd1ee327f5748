"""Cut the same channels with labkit and with Torch-Pruning, time the ladder and skipped zeros, side by side. No test.

    make bench                    # or: python scripts/bench_shrink.py --seconds 2

Torch-Pruning (Fang et al. 2023, "DepGraph") follows channels through any network. It takes the inputs of a linear layer
to be flattened channel by channel; a CNN of labkit flattens pixel by pixel. So beside the network itself it is given a
twin: the same function, flattened channel by channel. Run it on an idle machine.
"""

import argparse
import os
import tempfile
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
import torch_pruning
from bench_pipeline import print_machine
from tabulate import tabulate
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import runtime

CHOICES = {
    "half of the channels": {"conv1": 16, "conv2": 32, "conv3": 64},
    "a tenth of the work": {"conv1": 8, "conv2": 16, "conv3": 64},
}
# Networks with scattered zeros: nonzero weights -> the committed file.
SCATTERED = {
    "6,000": "MNIST_lamp-global-gradual_6000_e12_s0",
    "2,000": "MNIST_lamp-global-gradual-augmented-8_2000_e24_s0",
    "1,500 (plan fewer)": "MNIST_lamp-global-gradual-from-16-32-48-taught-shifted-1_1500_e20_s0",
    "622": "MNIST_lamp-global-gradual_622_e4_s0",
}


class ChannelByChannel(nn.Module):
    """The function of a CNN, with the inputs of ``fc`` ordered by channel, then by pixel."""

    def __init__(self, model: labkit.CNN) -> None:
        super().__init__()
        for name, layer in labkit.bake_masks(model).named_children():
            self.add_module(name, layer)
        with torch.no_grad():
            by_pixel = self.fc.weight.unflatten(1, (-1, model.channels[-1]))  # (classes, pixels, channels)
            self.fc.weight.copy_(by_pixel.transpose(1, 2).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes)."""
        x = F.relu(F.max_pool2d(self.batch1(self.conv1(x)), 2))
        x = F.relu(F.max_pool2d(self.batch2(self.conv2(x)), 2))
        return self.fc(F.relu(self.batch3(self.conv3(x))).flatten(1))


def cut_by_torch_pruning(model: nn.Module, dead: dict[str, list[int]], images: torch.Tensor) -> nn.Module:
    """Remove these output channels, in place."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=images[:1])
    for name, channels in dead.items():
        group = graph.get_pruning_group(getattr(model, name), torch_pruning.prune_conv_out_channels, idxs=channels)
        if not graph.check_pruning_group(group):
            raise RuntimeError(f"Torch-Pruning refuses to cut {name}")
        group.prune()
    return model


@torch.no_grad()
def largest_difference(one: nn.Module, other: nn.Module, loader: labkit.Loader) -> float:
    """Of the logits, over all images."""
    return max(float((one(X) - other(X)).abs().max()) for X, _ in loader)


def beside_torch_pruning(seconds: float) -> list[list[object]]:
    """One row for each way to cut each choice of channels."""
    rows: list[list[object]] = []
    dense, (_, validation_loader, _) = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth"), labkit.loaders()
    few = validation_loader.first(1000)
    images, _ = next(iter(few))
    for choice, channels in CHOICES.items():
        silent = labkit.with_channels(dense.eval(), channels)
        dead = labkit.dead_channels(silent)
        ways = {
            "dense": dense,
            "labkit": labkit.remove_dead_channels(silent),
            "Torch-Pruning": cut_by_torch_pruning(labkit.bake_masks(silent).eval(), dead, images),
            "Torch-Pruning, twin": cut_by_torch_pruning(ChannelByChannel(silent).eval(), dead, images),
        }
        one, many = (labkit.measure_latency(ways, images[:count], 1, seconds) for count in (1, 64))
        for way, network in ways.items():
            work = sum(layer.multiply_adds for layer in labkit.multiply_adds(network, images[:1]))
            apart = "" if way == "dense" else f"{largest_difference(silent, network, few):.1e}"
            times = [f"{found[way].median:.3f}" for found in (one, many)]
            ratios = [f"{found['dense'].median / found[way].median:.2f}" for found in (one, many)]
            rows.append([choice, way, f"{work:,}", apart, times[0], ratios[0], times[1], ratios[1]])
    return rows


def ladder(seconds: float) -> list[list[object]]:
    """Dense, cut, ONNX, 8 bits: one row each, of the widths that notebook 07 ends with (times need no training)."""
    dense = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    small = labkit.remove_dead_channels(labkit.with_channels(dense, CHOICES["a tenth of the work"]))
    train_loader, validation_loader, _ = labkit.loaders()
    images, _ = next(iter(validation_loader))
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = labkit.export_onnx(small, Path(folder) / "small.onnx")
        dense_path = labkit.export_onnx(dense, Path(folder) / "dense.onnx")
        eight = labkit.quantize_onnx(path, Path(folder) / "eight.onnx", train_loader.first(500))
        rungs = {"dense": dense, "dense, ONNX": labkit.OnnxNetwork(dense_path), "cut": small}
        rungs |= {"cut, ONNX": labkit.OnnxNetwork(path), "cut, ONNX, 8 bits": labkit.OnnxNetwork(eight)}
        for threads in sorted({1, runtime.cores()}):
            one, many = (labkit.measure_latency(rungs, images[:count], threads, seconds) for count in (1, 64))
            for rung in rungs:
                for found in (one, many):
                    time = found[rung]
                    spread, ratio = f"{time.low:.3f}–{time.high:.3f}", found["dense"].median / time.median
                    rows.append([rung, threads, time.batch, f"{time.median:.3f}", spread, f"{ratio:.2f}"])
    return rows


def skipped_zeros(seconds: float) -> list[list[object]]:
    """Networks with scattered zeros, multiplied and skipped, beside the dense and a cut network: one row for each."""
    frontier = runtime.reference_dir() / "frontier"
    dense = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    masked = labkit.clone(dense)
    layers = [(layer, "weight") for layer in labkit.prunable_layers(masked).values()]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.95)
    cut = labkit.load_sparse(runtime.reference_dir() / "small" / "careful_0.lks")
    _, validation_loader, _ = labkit.loaders()
    images, _ = next(iter(validation_loader))
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        ways = {"dense": dense, "masked": masked, "cut": cut}
        for name, network in {"dense": dense, "cut": cut}.items():
            ways[f"{name}, ONNX"] = labkit.OnnxNetwork(labkit.export_onnx(network, Path(folder) / f"{name}.onnx"))
        for weights, name in SCATTERED.items():
            ways[f"{weights} weights, compiled"] = labkit.compile_sparse(labkit.load_sparse(frontier / f"{name}.lks"))
        for batch in (1, 16, 64):
            times = labkit.measure_latency(ways, images[:batch], 1, seconds)
            for way, time in times.items():
                ratios = [f"{times[name].median / time.median:.2f}" for name in ("dense", "dense, ONNX")]
                spread = "–".join(f"{1000 * limit / batch:.1f}" for limit in (time.low, time.high))
                rows.append([way, batch, f"{1000 * time.median / batch:.1f}", spread, *ratios])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each latency (default: %(default)s)")
    seconds = parser.parse_args().seconds
    os.environ["LABKIT_BARS"] = "0"
    busy = psutil.cpu_percent(interval=1)
    torch.set_num_threads(1)
    headers = ["cut", "by", "multiply-adds", "logits apart", "1 image [ms]", "ratio", "64 images [ms]", "ratio"]
    print(tabulate(beside_torch_pruning(seconds), headers, "simple", disable_numparse=True))
    headers = ["rung", "threads", "batch", "median [ms]", "p10–p90", "ratio"]
    print("\n" + tabulate(ladder(seconds), headers, "simple", disable_numparse=True))
    headers = ["way", "batch", "an image [µs]", "p10–p90", "faster than dense", "than dense, ONNX"]
    print("\n" + tabulate(skipped_zeros(seconds), headers, "simple", disable_numparse=True))
    print_machine(busy)


if __name__ == "__main__":
    main()
