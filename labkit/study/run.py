"""Run one point: train and prune one network, and say what became of it.

``run_point`` depends on nothing but its point (and, in the last digits, on the processor). It keeps the state after
every epoch, so that a run that was killed goes on and ends bit for bit as if it had not been.
"""

import json
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim.lr_scheduler import LambdaLR

from labkit import runtime
from labkit.checkpoints import load_network
from labkit.cnn import CNN
from labkit.data import Loader, loaders
from labkit.large.compensation import compensate_layers
from labkit.large.row_transformer import RowTransformer
from labkit.resume import RunState
from labkit.smaller.cost import multiply_adds
from labkit.smaller.sparse_file import load_sparse, save_sparse
from labkit.sparsity import bake_masks, prunable_layers, sparsity_report
from labkit.study.budgets import choose_masks
from labkit.study.criteria import CALIBRATION, CRITERIA
from labkit.study.points import WEIGHTS, Point, require, row_of
from labkit.study.records import PROTOCOL, Record
from labkit.study.schedules import cycles, kept_weights, rate_factor
from labkit.study.teacher import ShiftedLoader, TaughtAccuracy, ask_teacher, distillation_loss
from labkit.training import accuracy, reestimate_batchnorm, train_one_epoch

# One recipe for all criteria. Chosen on validation images with the dense network and with LAMP (data/README.md): the
# others were not tuned for themselves.
BATCH = 128
RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
STATISTICS_IMAGES = 5_000  # training images that the final statistics of batch norm are measured on
SCORED_IMAGES = 1_000  # training images that the gradients of scores are taken on
STEPS_OF_SYNFLOW = 100  # it prunes before training in so many steps, as its authors do

_DRAWING = threading.Lock()


def run_point(point: Point, device: str = "cpu", scratch: Path | None = None, networks: Path | None = None) -> Record:
    """Train and prune the network of a point, and evaluate it.

    Args:
        point: what to run.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        scratch: folder that keeps the state after each epoch, the last one too, until ``forget`` removes it; without
            one, a killed run starts again.
        networks: folder for the network, as ``NAME.lks``; without one, it is thrown away.

    Returns:
        What was found. The trained weights are rounded to 8 bits, the statistics of batch norm measured again on
        training images (without any epoch only as a repair), and all is measured on the network as loaded from its
        sparse file.

    Raises:
        ValueError: the budget leaves a layer without weights, or quick mode is on.
        FloatingPointError: the loss was not a number.
        OSError: a folder cannot be written. The epochs that were kept stay.
    """
    refuse_quick_mode()
    run = _Run(point, runtime.pick_device(device), scratch)
    for epoch in range(run.epoch, point.epochs):
        start = time.perf_counter()
        run.train(epoch)
        run.seconds += time.perf_counter() - start
        run.state.keep(epoch + 1, seconds=run.seconds, rewound=run.rewound)
    return _measured(point, run, networks)


def refuse_quick_mode() -> None:
    """Nothing of the study is comparable in quick mode.

    Raises:
        ValueError: it is on.
    """
    require("LABKIT_QUICK", 1, not runtime.quick_mode(), "the study trains on all images, so switch quick mode off")


def forget(point: Point, scratch: Path | None) -> None:
    """Remove what ``run_point`` keeps of a point in a folder."""
    if scratch is not None:
        # The others are of a process that was killed while it wrote.
        for leftover in (scratch / f"{point.name}.run", *scratch.glob(f".{point.name}.run.*")):
            leftover.unlink(missing_ok=True)


class _Run:
    """A network, its optimizer and its images, between two epochs."""

    def __init__(self, point: Point, device: torch.device, scratch: Path | None) -> None:
        self.point, self.device = point, device
        self.train_loader = training_images(point, scratch)
        settings = json.dumps([row_of(point), PROTOCOL, str(torch.__version__), runtime.hardware(device)])
        path = scratch / f"{point.name}.run" if scratch else None
        self.state = RunState({"loader": self.train_loader}, settings, path)
        self.begin()
        try:
            if content := self.state.read():
                self.epoch, self.seconds = content["epoch"], content["counts"]["seconds"]
                self.rewound = content["counts"]["rewound"]
                self.begin_cycle(self.epoch - 1)
                self.state.take_up(content)
        except Exception:  # damaged in any of many ways: the run starts again
            self.begin()

    def begin(self) -> None:
        """The state before the first epoch."""
        model = new_network(self.point, start=0)
        if self.point.schedule == "after":
            dense, images = bake_masks(model), self.train_loader.images[:CALIBRATION]
            prune_to(model, self.point, self.point.target, self.train_loader)
            if "solve" in self.point.repair:
                few = Loader(images, self.train_loader.labels[:CALIBRATION], CALIBRATION)
                compensate_layers(model, dense, next(iter(few))[0])
        self.model = self.state.parts["model"] = model.to(self.device)
        self.rewound = _weights(self.model)  # of the epoch that a ticket goes back to
        self.epoch, self.seconds = 0, 0.0
        self.train_loader.restart()
        if self.point.epochs:
            self.begin_cycle(0)

    def begin_cycle(self, epoch: int) -> None:
        """A new optimizer, whose learning rate rises and falls once in the cycle that this epoch is in."""
        self.optimizer = torch.optim.SGD(self.model.parameters(), RATE, MOMENTUM, 0, WEIGHT_DECAY, nesterov=True)
        steps = next(len(cycle) for cycle in cycles(self.point) if epoch in cycle) * len(self.train_loader)
        self.scheduler = LambdaLR(self.optimizer, lambda step: rate_factor(step, steps))
        self.state.parts |= {"optimizer": self.optimizer, "scheduler": self.scheduler}

    def train(self, epoch: int) -> None:
        """Prune what the schedule says, then train for an epoch."""
        if epoch == self.point.rewind:
            self.rewound = _weights(self.model)
        prune_to(self.model, self.point, kept_weights(self.point, epoch), self.train_loader)
        if epoch in [cycle.start for cycle in cycles(self.point)[1:]]:
            if self.point.schedule == "rewind":
                self.rewind()
            self.begin_cycle(epoch)
        self.train_loader.augmented = epoch < self.point.augmented
        loss = partial(distillation_loss, label_smoothing=LABEL_SMOOTHING)
        parts = (self.model, self.train_loader, loss, TaughtAccuracy(), self.optimizer, 1, self.device, self.scheduler)
        train_one_epoch(*parts, f"{self.point.name} {epoch + 1}/{self.point.epochs}")

    def rewind(self) -> None:
        """Give the ticket the weights of epoch k, or what its control has in their place; the mask stays."""
        if self.point.control == "reinitialised":
            self.rewound = _weights(new_network(self.point, start=1))
        if self.point.control == "shuffled":
            generator = _dice(self.point, 3)
            for layer in prunable_layers(self.model).values():
                mask = layer.get_buffer("weight_mask")
                mask.copy_(mask.flatten()[torch.randperm(mask.numel(), generator=generator)].view_as(mask))
        self.model.load_state_dict(self.rewound, strict=False)


def training_images(point: Point, scratch: Path | None) -> Loader:
    """The training images of a point; with a teacher, whose answers are kept in the folder ``scratch``."""
    loader, _, _ = loaders(point.dataset, batch_size=BATCH, seed=point.seed)
    if point.teacher == "none" and not point.shift:
        return loader
    images, labels = loader.images, loader.labels
    answers = None if point.teacher == "none" else ask_teacher(images, point.shift, scratch)
    return ShiftedLoader(images, labels, BATCH, shuffle=True, seed=point.seed, shift=point.shift, answers=answers)


def new_network(point: Point, start: int) -> nn.Module:
    """The network that a point starts from, with masks that keep everything; ``start`` 1: with other weights."""
    model: nn.Module
    if point.schedule == "after" and point.start == "rows":
        name = f"ROWS_MNIST_seed{point.seed}.pth" if point.seed else "ROWS_MNIST.pth"
        model = load_network(runtime.reference_dir() / name, "cpu", RowTransformer)
    elif point.schedule == "after":
        model = load_sparse(runtime.reference_dir() / "frontier" / f"MNIST_dense_{WEIGHTS}_e12_s{point.seed}.lks")
    else:
        # Layers draw from torch's one generator, which the threads of a Dask worker share.
        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.set_rng_state(_dice(point, start).get_state())
            model = CNN(channels=point.widths)
    for layer in prunable_layers(model).values():
        prune.identity(layer, "weight")
    return model


def prune_to(model: nn.Module, point: Point, kept: int, train_loader: Loader) -> None:
    """Mask weights, in place, until so many are left; no more than that must be there for anything to happen."""
    layers = prunable_layers(model)
    masks = {name: layer.get_buffer("weight_mask") for name, layer in layers.items()}
    left = sum(int(mask.sum()) for mask in masks.values())
    if kept >= left:
        return
    few = Loader(train_loader.images[:SCORED_IMAGES], train_loader.labels[:SCORED_IMAGES], SCORED_IMAGES)
    images, labels = (part.to(next(model.parameters()).device) for part in next(iter(few)))
    steps = STEPS_OF_SYNFLOW if point.criterion == "synflow" and point.schedule == "before" else 1
    for step in range(1, steps + 1):
        scores = CRITERIA[point.criterion](model, images, labels, _dice(point, 2))
        masks = choose_masks(scores, masks, round(left * (kept / left) ** (step / steps)), point.scope)
        for name, layer in layers.items():
            layer.get_buffer("weight_mask").copy_(masks[name])


def _dice(point: Point, use: int) -> torch.Generator:
    """A generator for one use of chance: draws for different uses must not follow from one another."""
    seed = np.random.SeedSequence((point.seed, use)).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(seed))


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """All that a network has learned, without its masks: copies."""
    return {key: value.detach().clone() for key, value in model.state_dict().items() if not key.endswith("_mask")}


def _measured(point: Point, run: _Run, networks: Path | None) -> Record:
    _, validation_loader, test_loader = loaders(point.dataset, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        kind = type(run.model)
        model = load_sparse(save_sparse(run.model.to("cpu"), Path(folder) / "rounded.lks"), kind)
        # A channel without weights has the variance 0, so that batch norm multiplies its constant by 300. In training
        # that was rounded to bfloat16; in float32 the running mean does not meet it, and the error can drown the rest.
        few = run.train_loader.first(min(STATISTICS_IMAGES, len(run.train_loader.labels)))
        if point.epochs or "batchnorm" in point.repair:
            reestimate_batchnorm(model, few, torch.device("cpu"))
        # Loaded from its file, a network is what others will get.
        path = save_sparse(model, Path(networks or folder) / f"{point.name}.lks")
        model, size = load_sparse(path, kind), path.stat().st_size
    costs, shares = multiply_adds(model), (accuracy(model, validation_loader), accuracy(model, test_loader))
    nonzero, macs = sum(cost.nonzero for cost in costs), sum(cost.effective for cost in costs)
    dead_layers = " ".join(cost.name for cost in costs if not cost.nonzero)
    dead_channels = sum(row.zero_channels for row in sparsity_report(model))
    hardware, version, seconds = runtime.hardware(run.device), str(torch.__version__), round(run.seconds, 1)
    return Record(point, nonzero, macs, size, *shares, dead_layers, dead_channels, hardware, version, seconds)


def seconds_of_an_epoch(point: Point, device: str = "cpu", batches: int = 12) -> float:
    """How long one epoch takes on this machine, on one thread, from so many batches now: rough, for planning."""
    if not point.epochs:
        return 0.0
    run = _Run(replace(point, teacher="none"), runtime.pick_device(device), None)  # a teacher takes minutes to ask
    threads, steps = torch.get_num_threads(), len(run.train_loader)
    run.train_loader = run.train_loader.first(BATCH * batches)
    torch.set_num_threads(1)
    try:
        run.train(0)  # the first batches are slower
        start = time.perf_counter()
        run.train(0)
        return (time.perf_counter() - start) * steps / batches
    finally:
        torch.set_num_threads(threads)
