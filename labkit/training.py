"""The loops: train, test, and several epochs of both.

Knows models, loaders and optimizers only by what it calls on them; draws nothing but a line of progress.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from labkit import runtime
from labkit.data import Loader
from labkit.metrics import AccuracyMetric, BaseMetric
from labkit.progress import GREEN, RED, progress
from labkit.sparsity import refresh_weights

History = dict[str, list[float]]
LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Batches(Sized, Iterable[tuple[torch.Tensor, torch.Tensor]], Protocol):
    """Anything that gives (X, y) batches and knows how many: a ``labkit.Loader`` or a torch ``DataLoader``."""


def train_one_epoch(
    model: nn.Module,
    train_loader: Batches,
    loss_fn: LossFunction,
    metric: BaseMetric,
    optimizer: Optimizer,
    update_period: int,
    device: torch.device,
    scheduler: LRScheduler | None = None,
    title: str = "training",
) -> tuple[float, float]:
    """Train for one pass over the data, in place.

    Args:
        model: returns (B, classes) for X (B, ...).
        train_loader: batches (X, y).
        loss_fn: mean loss of a batch, from (B, classes) and (B,).
        metric: mean score of a batch, likewise.
        optimizer: of this model's parameters.
        update_period: batches per optimizer step, >= 1. The gradient of a step is the mean over all its samples, so
            k batches of b are one batch of k·b; a last, smaller group counts its own samples.
        device: where to compute; the model must be there.
        scheduler: stepped after every optimizer step, if given.
        title: what the line of progress calls it.

    Returns:
        (loss, score), means over the samples as they were seen, that is while the weights changed.

    Raises:
        ValueError: update_period out of range, an empty loader, or an optimizer of another model.
        FloatingPointError: the loss is not a number any more.
    """
    if type(update_period) is not int or update_period < 1:
        raise ValueError(f"update_period is {update_period!r}; it must be a whole number >= 1")
    _check_loader(train_loader)
    device = runtime.pick_device(str(device))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not {id(p) for p in parameters} & {id(p) for p in model.parameters()}:
        raise ValueError("the optimizer holds none of this model's parameters; make it from model.parameters()")
    total_loss, total_score, samples, samples_in_step = 0.0, 0.0, 0, 0
    optimizer.zero_grad()
    with in_mode(model, training=True), progress(train_loader, title, colour=RED) as batches:
        for number, (X, y) in enumerate(batches, start=1):
            X, y = X.to(device), y.to(device)
            with runtime.mixed_precision(device):
                y_pred = model(X)
                loss = loss_fn(y_pred, y)
            batch_loss = loss.item()
            if not math.isfinite(batch_loss):
                raise FloatingPointError(f"the loss is {batch_loss} in batch {number}; lower the learning rate")
            # Gradients of sums add up over the batches of a step, and are divided once.
            (loss * len(y)).backward()
            samples_in_step += len(y)
            if number % update_period == 0 or number == len(train_loader):
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad /= samples_in_step
                optimizer.step()
                optimizer.zero_grad()
                samples_in_step = 0
                if scheduler is not None:
                    scheduler.step()

            total_loss += batch_loss * len(y)
            total_score += float(metric(y_pred, y)) * len(y)
            samples += len(y)
            batches.set_postfix_str(_means(total_loss, total_score, samples), refresh=False)
    refresh_weights(model)
    return total_loss / samples, total_score / samples


@torch.no_grad()
def test_one_epoch(
    model: nn.Module,
    test_loader: Batches,
    loss_fn: LossFunction,
    metric: BaseMetric,
    device: torch.device,
    title: str = "evaluating",
) -> tuple[float, float]:
    """Evaluate in float32, changing nothing.

    Returns:
        (loss, score), means over the samples.

    Raises:
        ValueError: an empty loader.
    """
    _check_loader(test_loader)
    device = runtime.pick_device(str(device))
    total_loss, total_score, samples = 0.0, 0.0, 0
    with in_mode(model, training=False), progress(test_loader, title, colour=GREEN) as batches:
        for X, y in batches:
            X, y = X.to(device), y.to(device)
            y_pred = model(X)
            total_loss += loss_fn(y_pred, y).item() * len(y)
            total_score += float(metric(y_pred, y)) * len(y)
            samples += len(y)
            batches.set_postfix_str(_means(total_loss, total_score, samples), refresh=False)
    if not math.isfinite(total_loss):
        raise FloatingPointError(f"the loss is {total_loss}; are all weights and images finite numbers?")
    return total_loss / samples, total_score / samples


def accuracy(model: nn.Module, loader: Batches) -> float:
    """Share of the images whose class the model gets right, in [0, 1]; computed where the model is, changing nothing.

    Raises:
        ValueError: an empty loader.
    """
    # A network without parameters, such as one in an ONNX file, computes on the CPU.
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return test_one_epoch(model, loader, nn.functional.cross_entropy, AccuracyMetric(), device)[1]


def test_or_train(
    model: nn.Module,
    train_loader: Batches | None,
    test_loader: Batches | None,
    loss_fn: LossFunction,
    metric: BaseMetric,
    optimizer: Optimizer | None,
    update_period: int,
    epoch_max: int,
    device: torch.device,
    mode: str = "train",
    early_stopping_accuracy: float | None = None,
    scheduler: LRScheduler | None = None,
    checkpoint: Path | str | None = None,
) -> tuple[nn.Module, History]:
    """Several epochs of training, testing, or both; the model is trained in place.

    Args:
        model: and the other arguments up to ``update_period``, as in ``train_one_epoch`` and ``test_one_epoch``. What a
            mode does not use may be None.
        epoch_max: number of epochs, >= 1.
        device: where to compute.
        mode: ``"train"``, ``"test"`` or ``"both"`` (train, then test, each epoch).
        early_stopping_accuracy: stop after the epoch whose accuracy reaches it: the training accuracy, in mode
            ``"test"`` the test accuracy. In [0, 1].
        scheduler: stepped after every optimizer step.
        checkpoint: a file that keeps every finished epoch until the run ends. An interrupted run (or a dead kernel)
            called again with the same arguments goes on after the last finished epoch, and ends bit for bit as if it
            had never stopped. A run with other arguments starts afresh.

    Returns:
        (model, history), history with the keys loss_train, acc_train, loss_test, acc_test: one number an epoch, or
        an empty list for what the mode leaves out.

    Raises:
        ValueError: an argument out of range or missing.
    """
    trains, tests = mode in ("train", "both"), mode in ("test", "both")
    if not trains and not tests:
        raise ValueError(f"mode is {mode!r}; it must be 'train', 'test' or 'both'")
    if type(epoch_max) is not int or epoch_max < 1:
        raise ValueError(f"epoch_max is {epoch_max!r}; it must be a whole number >= 1")
    if early_stopping_accuracy is not None and not 0 <= early_stopping_accuracy <= 1:
        raise ValueError(f"early_stopping_accuracy is {early_stopping_accuracy}; it must be in [0, 1]")
    if (trains and (train_loader is None or optimizer is None)) or (tests and test_loader is None):
        needs = "train_loader, optimizer and test_loader" if trains and tests else "train_loader and optimizer"
        raise ValueError(f"mode {mode!r} needs {needs if trains else 'test_loader'}")
    history: History = {"loss_train": [], "acc_train": [], "loss_test": [], "acc_test": []}
    run = _Run(model, optimizer, scheduler, train_loader, history)
    recipe = [mode, epoch_max, update_period, early_stopping_accuracy, _described(loss_fn), _described(metric)]
    first = run.resume(Path(checkpoint), recipe) if checkpoint is not None else 0
    try:
        for epoch in progress(range(first + 1, epoch_max + 1), "epoch", done=first):
            if trains:
                assert train_loader is not None and optimizer is not None
                loss, score = train_one_epoch(
                    model, train_loader, loss_fn, metric, optimizer, update_period, device, scheduler
                )
                history["loss_train"].append(loss)
                history["acc_train"].append(score)
            if tests:
                assert test_loader is not None
                loss, test_score = test_one_epoch(model, test_loader, loss_fn, metric, device)
                history["loss_test"].append(loss)
                history["acc_test"].append(test_score)
                score = score if trains else test_score
            if early_stopping_accuracy is not None and score >= early_stopping_accuracy:
                said = f"accuracy ≈{score:.3f} has reached {early_stopping_accuracy}"
                print(f"stopped after epoch {epoch}/{epoch_max}: {said}")
                break
            run.keep(epoch)
    except BaseException as error:
        run.go_back()
        if isinstance(error, KeyboardInterrupt):
            way = "run the cell again to go on" if checkpoint else "give a checkpoint=... file to be able to go on"
            print(f"interrupted; the network is as it was after epoch {run.kept['epoch']} of {epoch_max}: {way}")
        raise
    run.discard()
    return model, history


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, loader: Batches, device: torch.device) -> None:
    """Measure the means and variances of all BatchNorm layers anew on the loader's images, in place; no weight changes.

    Each becomes the plain average, over the batches, of the batch's own mean or variance (Wu and Johnson 2021,
    "Rethinking 'Batch' in BatchNorm", call it PreciseBN).

    Raises:
        ValueError: an empty loader.
    """
    _check_loader(loader)
    device = runtime.pick_device(str(device))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momentum = [layer.momentum for layer in layers]
    states = [copy.deepcopy(layer.state_dict()) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for: the plain average of all batches
    try:
        with in_mode(model, training=True):
            for X, _ in loader:
                model(X.to(device))
    except BaseException:
        for layer, state in zip(layers, states, strict=True):
            layer.load_state_dict(state)
        raise
    finally:
        for layer, old in zip(layers, momentum, strict=True):
            layer.momentum = old


class _Run:
    """What several epochs change, kept as it was after the last finished one: in memory and, if asked, in a file."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | None,
        scheduler: LRScheduler | None,
        loader: Batches | None,
        history: History,
    ) -> None:
        self.model, self.loader, self.history = model, loader, history
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        self.parts: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        self.path: Path | None = None
        self.settings = ""
        self.start = _digest(model.state_dict())
        self.keep(0)

    def keep(self, epoch: int) -> None:
        """Note the state after an epoch."""
        self.kept: dict[str, Any] = {
            "format": "labkit run 1",
            "epoch": epoch,
            # Copies: a state_dict shares its tensors with the network that trains on.
            "states": copy.deepcopy({name: part.state_dict() for name, part in self.parts.items()}),
            "loader_epoch": self.loader.epoch if isinstance(self.loader, Loader) else 0,
            "torch_rng": torch.get_rng_state(),
            "history": copy.deepcopy(self.history),
            "settings": self.settings,
            "weights_at_start": self.start,
            "weights_now": _digest(self.model.state_dict()),
        }
        if self.path is not None:
            with runtime.written_whole(self.path) as temporary:
                torch.save(self.kept, temporary)

    def go_back(self) -> None:
        """Return everything to the noted state."""
        for name, state in self.kept["states"].items():
            self.parts[name].load_state_dict(copy.deepcopy(state))
        refresh_weights(self.model)
        if isinstance(self.loader, Loader):
            self.loader.epoch = self.kept["loader_epoch"]
        torch.set_rng_state(self.kept["torch_rng"])
        self.history.update(copy.deepcopy(self.kept["history"]))

    def resume(self, path: Path, recipe: list[Any]) -> int:
        """Take up the run in the file if it is this one; returns the number of its finished epochs."""
        runtime.check_writable(path)
        self.path = path
        optimizer = self.parts.get("optimizer")
        groups = optimizer.state_dict()["param_groups"] if optimizer else []
        for group in groups:
            group["lr"] = group.get("initial_lr", group["lr"])  # a scheduler moves the one and keeps the other
        schedule = self.parts["scheduler"].state_dict() if "scheduler" in self.parts else {}
        schedule = {
            key: value for key, value in schedule.items() if key not in ("last_epoch", "_step_count", "_last_lr")
        }
        loader = [getattr(self.loader, name, None) for name in ("seed", "batch_size", "augmented", "shuffle")]
        data = {name: getattr(self.loader, name) for name in ("images", "labels") if hasattr(self.loader, name)}
        what = [recipe, groups, schedule, loader, _digest(data), str(self.model)]
        self.settings = json.dumps(what, default=_described)
        if not path.exists():
            return 0
        try:
            found = runtime.load_tensors(path)
        except Exception:  # what a broken file raises depends on where it is broken
            found = None
        if (
            not isinstance(found, dict)
            or found.get("format") != self.kept["format"]
            or found.keys() != self.kept.keys()
        ):
            raise ValueError(f"checkpoint is {path}, which is no unfinished run; give another name, or delete it")
        weights = (found.get("weights_at_start"), found.get("weights_now"))
        if found.get("settings") != self.settings or self.start not in weights:
            print(f"{path.name} is of a run with other weights or settings: starting afresh")
            return 0
        self.kept, self.start = found, found["weights_at_start"]
        self.go_back()
        print(f"going on after epoch {found['epoch']}, from {path.name}")
        return int(found["epoch"])

    def discard(self) -> None:
        """Remove the file: the run is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _described(thing: Any) -> str:
    """What a loss or metric is, in words that are the same in another kernel."""
    if hasattr(thing, "__qualname__"):
        return str(thing.__qualname__)
    settings = {key: value for key, value in vars(thing).items() if isinstance(value, (int, float, str))}
    return f"{type(thing).__qualname__} {settings}"


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all values."""
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _check_loader(loader: Batches) -> None:
    if len(loader) == 0:
        raise ValueError("the loader has 0 batches; it must have at least 1")


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Context in which all layers are in train or eval mode; afterwards each is back in its own."""
    before = {layer: layer.training for layer in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for layer, mode in before.items():
            layer.training = mode


def _means(loss: float, score: float, samples: int) -> str:
    return f"loss {loss / samples:.3f} · accuracy {score / samples:.3f}"
