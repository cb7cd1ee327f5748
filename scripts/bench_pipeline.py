"""Measure labkit's pipeline beside the original's, in one process, taking turns.

It fails (exit status 1) only if the precision that labkit chooses is over 10 % slower than the other one: both are
measured, also where bfloat16 must be emulated. It only reports what else a library decides silently: kernels of
oneDNN that are its slow reference, the cost of denormal numbers, and one thread beside two. (How many threads is left
to torch, or to the person who runs it: two are faster alone, and far slower beside another process.)

    make bench                    # or: python scripts/bench_pipeline.py --steps 200

A step is all that one batch costs: fetch it, train (or evaluate) on it, score it, draw the bar. Both sides run their
real loops. The limit is what the processor would need if every multiplication went as fast as in a large square matrix
product, measured here too. Run it on an idle machine: with two threads, any other busy process spoils the numbers.
"""

import argparse
import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, repeat

import numpy as np
import original
import psutil
import torch
from tabulate import tabulate
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import runtime, training
from labkit.rerun import execution

BATCH = 64
TURN = 6  # steps of one pipeline before the next one's turn; the first refills the caches and is not counted
CPU = torch.device("cpu")
SLOWER = 1.10  # what is chosen may take this much longer than the other choice
TARGETS = {("train", 1, "float32"): 1.6, ("train", 1, "bfloat16"): 2.4, ("evaluate", 1, "float32"): 2.5}


class Clocked:
    """A few batches of a loader at a time, over and over; notes how long each whole step takes."""

    def __init__(self, loader: Iterable) -> None:
        self.batches = chain.from_iterable(repeat(loader))
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return TURN

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in range(TURN):
            start = time.perf_counter()
            X, y = next(self.batches)
            while len(y) < BATCH:  # the last batch of a pass is smaller
                X, y = next(self.batches)
            yield X, y
            if number > 0:
                self.seconds.append(time.perf_counter() - start)


class Pipeline:
    """One way to train or evaluate, with the precision that it asks for."""

    def __init__(self, name: str, precision: str, loader: Iterable, loop: Callable, flush: bool = False) -> None:
        self.name, self.precision, self.flush = name, precision, flush
        self.loader, self.loop = Clocked(loader), loop

    def turn(self) -> None:
        os.environ["LABKIT_BF16"] = "1" if self.precision == "bfloat16" else "0"
        torch.set_flush_denormal(self.flush)
        with contextlib.redirect_stderr(io.StringIO()):  # bars are drawn on both sides, and not shown
            self.loop(self.loader)
        torch.set_flush_denormal(False)


def precisions_here() -> list[str]:
    """What training can be measured in: bfloat16 also where oneDNN has to emulate it, but not where it has none."""
    has = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ["float32", "bfloat16"] if has else ["float32"]


def pruned() -> nn.Module:
    """A network of whose weights 90 % are masked."""
    network = labkit.CNN()
    for layer in labkit.prunable_layers(network).values():
        prune.l1_unstructured(layer, "weight", amount=0.9)
    return network


def pipelines(threads: int) -> dict[str, list[Pipeline]]:
    """The original first, then labkit in each precision; networks, optimizers and batches of their own."""
    loss_fn = nn.CrossEntropyLoss()
    precisions = precisions_here()
    with contextlib.redirect_stdout(io.StringIO()):
        sources = {precision: labkit.loaders(batch_size=BATCH) for precision in precisions}
    train_loader, test_loader = original.original_loaders(runtime.data_dir() / "MNIST" / "raw", BATCH)

    def train(model: nn.Module, module: object, metric: Callable) -> Callable:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        return lambda batches: module.train_one_epoch(model, batches, loss_fn, metric, optimizer, 1, CPU)

    def decay(model: nn.Module, module: object, metric: Callable) -> Callable:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def turn(batches: Iterable) -> None:
            # The momentum of a masked weight gets no gradient and only decays: after some 800 steps it is this small.
            for parameter in model.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.full_like(parameter, 1e-39)
            module.train_one_epoch(model, batches, loss_fn, metric, optimizer, 1, CPU)

        return turn

    def evaluate(model: nn.Module, module: object, metric: Callable) -> Callable:
        return lambda batches: module.test_one_epoch(model, batches, loss_fn, metric, CPU)

    old = partial(Pipeline, "original", "float32")
    accuracy = original.accuracy_of_batch
    training_rows = [old(train_loader, train(original.OriginalCNN(), original, accuracy))]
    for precision, (train_part, _, _) in sources.items():
        loop = train(labkit.CNN(), training, labkit.AccuracyMetric())
        training_rows.append(Pipeline("labkit", precision, train_part, loop))
    for name, flush in (("masked, denormals", False), ("… as zeros", True)) if threads == 1 else ():
        loop = decay(pruned(), training, labkit.AccuracyMetric())
        training_rows.append(Pipeline(name, "float32", sources["float32"][0], loop, flush))
    test_part = sources["float32"][2]
    evaluation_rows = [
        old(test_loader, evaluate(original.OriginalCNN(), original, accuracy)),
        Pipeline("labkit", "float32", test_part, evaluate(labkit.CNN(), training, labkit.AccuracyMetric())),
    ]
    return {"train": training_rows, "evaluate": evaluation_rows}


def forward_work() -> dict[str, int]:
    """Layer -> multiply-adds for one image."""
    return {layer.name: layer.multiply_adds for layer in labkit.multiply_adds(labkit.CNN())}


def work_per_image() -> dict[str, float]:
    """Floating-point operations for one image: 2 a multiply-add.

    Training costs three times the forward pass (the gradient of the weights and that of the input are each as much work
    as the layer itself), less the gradient of the first layer's input, which nobody needs.
    """
    layers = forward_work()
    forward = sum(layers.values())
    return {"evaluate": 2.0 * forward, "train": 2.0 * (3 * forward - layers["conv1"])}


def matmul_peak(dtype: torch.dtype, seconds: float = 0.5) -> float:
    """Best operations a second of square matrix products of 1,024 to 2,048."""
    best = 0.0
    for size in (1024, 1536, 2048):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        a @ b
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            a @ b
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def measure(steps: int, threads: int) -> list[list[object]]:
    """Rows of the table for one number of threads."""
    torch.set_num_threads(threads)
    precisions = {name: getattr(torch, name) for name in precisions_here()}
    peaks = {name: matmul_peak(dtype) for name, dtype in precisions.items()}
    work, rows = work_per_image(), []
    for job, sides in pipelines(threads).items():
        for side in sides:
            side.turn()
            side.loader.seconds.clear()
        while len(sides[0].loader.seconds) < steps:
            for side in sides:
                side.turn()
        for side in sides:
            low, median, high = np.percentile(side.loader.seconds, [10, 50, 90])
            ratio = np.median(sides[0].loader.seconds) / median
            emulated = side.precision == "bfloat16" and not runtime.has_native_bfloat16(CPU)
            target = TARGETS.get((job, threads, side.precision)) if side.name == "labkit" and not emulated else None
            share = work[job] * BATCH / median / peaks[side.precision]
            rows.append([job, threads, side.name, side.precision, f"{1000 * median:.1f}"])
            rows[-1] += [f"{1000 * low:.1f}–{1000 * high:.1f}", f"{ratio:.2f}"]
            rows[-1] += [f"≥ {target} {'✓' if ratio >= target else '✗'}" if target else "", f"{100 * share:.0f} %"]
    for name, peak in peaks.items():
        print(f"matrix products, {threads} thread(s), {name}: {peak / 1e9:.0f} GFLOP/s")
    return rows


KERNELS = """
import torch, labkit
network = labkit.CNN()
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
images, labels = labkit.load_images("MNIST", train=True)
loader = labkit.Loader(images[:64], labels[:64])
arguments = (torch.nn.functional.cross_entropy, labkit.AccuracyMetric())
labkit.train_one_epoch(network, loader, *arguments, optimizer, 1, torch.device("cpu"))
labkit.test_one_epoch(network, loader, *arguments, torch.device("cpu"))
"""


def print_kernels() -> None:
    """Which of oneDNN's primitives of a training step and an evaluation are its reference kernels, by its own log."""
    for precision in precisions_here():
        forced = {"LABKIT_BF16": str(int(precision == "bfloat16")), "ONEDNN_VERBOSE": "1", "LABKIT_BARS": "0"}
        done = subprocess.run([sys.executable, "-c", KERNELS], env=os.environ | forced, capture_output=True, text=True)
        lines = [line.split(",") for line in done.stdout.splitlines() if ",exec,cpu," in line]
        parts = [line[line.index("exec") + 2 : line.index("exec") + 4] for line in lines]
        slow = sorted({f"{kind} {kernel}" for kind, kernel in parts if kernel.startswith("ref")})
        said = ", ".join(slow) or "none" if done.returncode == 0 and parts else "not known: oneDNN does not tell"
        print(f"oneDNN, {precision}: {len(parts)} primitives; reference kernels among them: {said}")


def slower_choices(rows: list[list[object]]) -> list[str]:
    """Where the precision that labkit chooses is slower than the other one by more than may be, in words."""
    chosen, found = runtime.precision(CPU).removeprefix("emulated "), []
    for threads in sorted({row[1] for row in rows}):
        taken = {row[3]: float(row[4]) for row in rows if row[:3] == ["train", threads, "labkit"]}
        for other, milliseconds in taken.items():
            if taken[chosen] > SLOWER * milliseconds:
                words = f"{chosen} {taken[chosen]:.1f} ms, {other} {milliseconds:.1f} ms a step"
                found.append(f"{threads} thread(s): {words}")
    return found


def print_machine(busy: float) -> None:
    """Where this was measured, and whether something else was going on (percent of the processor, before)."""
    print(f"\n{runtime.hardware(CPU).partition(',')[0]}, {runtime.cores()} cores")
    print(", ".join(f"{name} {number}" for name, number in runtime.versions().items()))
    if busy > 10:
        print(f"other processes took {busy:.0f} % of the processor when this began: measure again on an idle machine")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    execution.check_environment()
    parser.add_argument("--steps", type=int, default=60, help="steps of each pipeline (default: %(default)s)")
    steps = parser.parse_args().steps
    if steps < 1:
        parser.error(f"--steps is {steps}; it must be at least 1")
    os.environ["LABKIT_BARS"] = "1"
    labkit.set_seed(0)
    busy = psutil.cpu_percent(interval=1)
    layers, work = forward_work(), work_per_image()
    rows = []
    for threads in (1, 2) if runtime.cores() > 1 else (1,):
        rows += measure(steps, threads)
    counted = " + ".join(f"{name} {number:,}" for name, number in layers.items())
    print(f"forward: 2 × ({counted}) = {work['evaluate'] / 1e6:.1f} MFLOP an image")
    print(f"train:   3 × forward − 2 × conv1 = {work['train'] / 1e6:.1f} MFLOP an image\n")
    columns = [
        "",
        "threads",
        "pipeline",
        "precision",
        f"ms a step of {BATCH}",
        "p10–p90",
        "ratio",
        "target",
        "of limit",
    ]
    print(tabulate(rows, headers=columns, tablefmt="simple", disable_numparse=True, colalign=["left"] * 9))
    os.environ.pop("LABKIT_BF16", None)
    print_kernels()
    print_machine(busy)
    found = slower_choices(rows)
    print(
        f"training chooses {runtime.precision(CPU)}: {'the faster one' if not found else 'the SLOWER one, ' + found[0]}"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
