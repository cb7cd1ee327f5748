"""The loops: train, test, and several epochs of both.

Knows models, loaders and optimizers only by what it calls on them; draws nothing but a line of progress.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler
from torch.optim.swa_utils import update_bn

from labkit import runtime
from labkit.metrics import AccuracyMetric, BaseMetric
from labkit.progress import GREEN, RED, progress
from labkit.resume import RunState, TorchGenerator
from labkit.sparsity import clone, prunable_layers, refresh_weights

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
    runtime.check_whole("update_period", update_period, 1)
    _check_loader(train_loader)
    device = runtime.pick_device(str(device))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if set(parameters).isdisjoint(model.parameters()):
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
                for gradient in [parameter.grad for parameter in parameters if parameter.grad is not None]:
                    gradient /= samples_in_step
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
    model: nn.Module, test_loader: Batches, loss_fn: LossFunction, metric: BaseMetric, device: torch.device
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
    with in_mode(model, training=False), progress(test_loader, "evaluating", colour=GREEN) as batches:
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
            had never stopped. A run with other arguments starts from the beginning.

    Returns:
        (model, history), history with the keys loss_train, acc_train, loss_test, acc_test: one number an epoch, or
        an empty list for what the mode leaves out.

    Raises:
        ValueError: an argument out of range or missing.
    """
    trains, tests = mode in ("train", "both"), mode in ("test", "both")
    if not trains and not tests:
        raise ValueError(f"mode is {mode!r}; it must be 'train', 'test' or 'both'")
    runtime.check_whole("epoch_max", epoch_max, 1)
    if early_stopping_accuracy is not None and not 0 <= early_stopping_accuracy <= 1:
        raise ValueError(f"early_stopping_accuracy is {early_stopping_accuracy}; it must be in [0, 1]")
    if (trains and (train_loader is None or optimizer is None)) or (tests and test_loader is None):
        needs = "train_loader, optimizer and test_loader" if trains and tests else "train_loader and optimizer"
        raise ValueError(f"mode {mode!r} needs {needs if trains else 'test_loader'}")
    train_loader, test_loader = train_loader if trains else None, test_loader if tests else None
    history: History = {"loss_train": [], "acc_train": [], "loss_test": [], "acc_test": []}
    recipe = [mode, epoch_max, update_period, early_stopping_accuracy, loss_fn, metric, str(model)]
    settings = "" if checkpoint is None else _settings(recipe, optimizer, scheduler, train_loader)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": train_loader}
    state = RunState(parts | {"random": TorchGenerator()}, settings, None if checkpoint is None else Path(checkpoint))
    start = _start(state, digest_of_tensors(model.state_dict()), history)
    first = state.content["epoch"]
    try:
        for epoch in progress(range(first + 1, epoch_max + 1), "epoch", done=first):
            if train_loader is not None and optimizer is not None:
                numbers = train_one_epoch(
                    model, train_loader, loss_fn, metric, optimizer, update_period, device, scheduler
                )
                _note(history, "train", numbers)
            if test_loader is not None:
                _note(history, "test", test_one_epoch(model, test_loader, loss_fn, metric, device))
            score = history["acc_test" if mode == "test" else "acc_train"][-1]
            if early_stopping_accuracy is not None and score >= early_stopping_accuracy:
                reached = f"accuracy ≈{score:.3f} has reached {early_stopping_accuracy}"
                print(f"stopped after epoch {epoch}/{epoch_max}: {reached}")
                break
            state.keep(epoch, history=history, start=start)
    except BaseException as error:
        state.go_back()
        if isinstance(error, KeyboardInterrupt):
            way = "run the cell again to go on" if checkpoint else "give a checkpoint=... file to be able to go on"
            print(f"interrupted; the network is as it was after epoch {state.content['epoch']} of {epoch_max}: {way}")
        raise
    state.discard()
    return model, history


def train(
    model: nn.Module,
    train_loader: Batches,
    optimizer: Optimizer,
    epochs: int = 1,
    *,
    scheduler: LRScheduler | None = None,
    validation: Batches | None = None,
    checkpoint: Path | str | None = None,
) -> History:
    """Train in place for some epochs, where the model is; ``test_or_train`` with cross entropy and accuracy.

    Args:
        model: and the other arguments, as in ``test_or_train``.
        validation: images that are evaluated after each epoch, if given.

    Returns:
        The history of ``test_or_train``.

    Raises:
        ValueError: an argument out of range.
    """
    mode = "train" if validation is None else "both"
    run = partial(test_or_train, model, train_loader, validation, cross_entropy, AccuracyMetric(), optimizer)
    return run(1, epochs, device_of(model), mode, scheduler=scheduler, checkpoint=checkpoint)[1]


def fine_tune(
    model: nn.Module, train_loader: Batches, *, epochs: int = 1, learning_rate: float = 0.1, momentum: float = 0.0
) -> History:
    """Train in place with SGD (Nesterov's, if there is momentum) whose learning rate falls to zero in a straight line.

    Raises:
        ValueError: an argument out of range.
    """
    optimizer = SGD(model.parameters(), lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(train_loader))
    return train(model, train_loader, optimizer, epochs=epochs, scheduler=scheduler)


def evaluate(model: nn.Module, loader: Batches) -> tuple[float, float]:
    """Loss (cross entropy) and accuracy, means over the images; computed where the model is, changing nothing.

    Raises:
        ValueError: an empty loader.
    """
    return test_one_epoch(model, loader, cross_entropy, AccuracyMetric(), device_of(model))


def accuracy(model: nn.Module, loader: Batches) -> float:
    """Share of the images whose class the model gets right, in [0, 1]; computed where the model is, changing nothing.

    Raises:
        ValueError: an empty loader.
    """
    return evaluate(model, loader)[1]


def before_and_after(
    model: nn.Module, prune_layer: Callable[..., object], loader: Batches, tuning: Batches, *amount: float
) -> tuple[float, float]:
    """Accuracy [%] of a copy without some weights of its convolutions: as it is, and with BatchNorm re-estimated.

    Args:
        model: any module; it stays as it is.
        prune_layer: prunes one layer in place; called with each convolution and the amount, if there is one.
        loader: the images that the accuracies are measured on.
        tuning: the images that the statistics of BatchNorm are measured on.
        amount: what ``prune_layer`` gets.

    Raises:
        ValueError: an empty loader.
    """
    pruned = clone(model)
    for layer in prunable_layers(pruned).values():
        if isinstance(layer, nn.Conv2d):
            prune_layer(layer, *amount)
    as_pruned = accuracy(pruned, loader)
    reestimate_batchnorm(pruned, tuning, device_of(pruned))
    return 100 * as_pruned, 100 * accuracy(pruned, loader)


@torch.no_grad()
def reestimate_batchnorm(model: nn.Module, loader: Batches, device: torch.device) -> None:
    """Measure the means and variances of all BatchNorm layers again on a loader's images, in place; no weight changes.

    Each becomes the plain average, over the batches, of the batch's own mean or variance (Wu and Johnson 2021,
    "Rethinking 'Batch' in BatchNorm", call it PreciseBN).

    Raises:
        ValueError: an empty loader.
    """
    _check_loader(loader)
    device = runtime.pick_device(str(device))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    before = [(layer, layer.momentum, copy.deepcopy(layer.state_dict())) for layer in layers]
    try:
        with in_mode(model, training=True):
            update_bn(loader, model, device)
    except BaseException:
        for layer, momentum, statistics in before:
            layer.momentum = momentum
            layer.load_state_dict(statistics)
        raise


def _settings(recipe: list[object], optimizer: Optimizer | None, scheduler: LRScheduler | None, loader: object) -> str:
    """All that a resumed run must have in common with the interrupted one, but for the weights at the start."""
    groups = optimizer.state_dict()["param_groups"] if optimizer else []
    for group in groups:
        group["lr"] = group.get("initial_lr", group["lr"])  # a scheduler moves the one and keeps the other
    moving = ("last_epoch", "_step_count", "_last_lr")
    schedule = {key: value for key, value in (scheduler.state_dict() if scheduler else {}).items() if key not in moving}
    order = [getattr(loader, name, None) for name in ("seed", "batch_size", "augmented", "shuffle")]
    data = {name: getattr(loader, name) for name in ("images", "labels") if hasattr(loader, name)}
    return json.dumps([recipe, groups, schedule, order, digest_of_tensors(data)], default=_described)


def _start(state: RunState, weights: str, history: History) -> str:
    """Take up the run in the file if it began or stopped with these weights; returns the weights that it began with."""
    content, name = state.read(), state.path.name if state.path else ""
    if content is not None and weights in (content["counts"]["start"], digest_of_tensors(content["states"]["model"])):
        state.take_up(content)
        history.update(copy.deepcopy(content["counts"]["history"]))
        print(f"going on after epoch {content['epoch']}, from {name}")
        return str(content["counts"]["start"])
    if state.path is not None and state.path.exists():
        print(f"{name} is of a run with other weights or settings: starting from the beginning")
    state.keep(0, history=history, start=weights)
    return weights


def _note(history: History, part: str, numbers: tuple[float, float]) -> None:
    for key, number in zip(("loss", "acc"), numbers, strict=True):
        history[f"{key}_{part}"].append(number)


def device_of(network: object) -> torch.device:
    """Where a network is; a function, or one without parameters such as one in an ONNX file, computes on the CPU."""
    parameters = network.parameters() if isinstance(network, nn.Module) else ()
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _described(thing: object) -> str:
    """What a loss or metric is, in words that are the same in another kernel."""
    if hasattr(thing, "__qualname__"):
        return str(thing.__qualname__)
    settings = {key: value for key, value in vars(thing).items() if isinstance(value, (int, float, str))}
    return f"{type(thing).__qualname__} {settings}"


def digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all values, in their order."""
    content = b"".join(tensor.detach().cpu().numpy().tobytes() for tensor in tensors.values())
    return hashlib.sha256(content).hexdigest()


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
