"""The tasks of notebook 07."""

from collections.abc import Mapping
from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course.evidence import CONVOLUTIONS, SHAPES, SIZES, Evidence, Weights
from labkit.course.given import numbers, own_copy, tensors
from labkit.course.judging import PIXELS, USEFUL, by_hand, counted, prediction_task
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Unfit, Verdict
from labkit.smaller.cost import multiply_adds
from labkit.sparsity import effective_weight, prunable_layers, zero_channels

AGAIN_SMALL = "it is still the clone, or was never trained: cut its channels, train, and run the cell again"
WORK_CUT = {"conv1": 112_896, "conv2": 903_168, "conv3": 460_800, "fc": 16_000}  # half of the channels gone
CUT_SHAPES = {"conv2": (32, 16, 3, 3), "fc": (10, 1600)}
SMALL = 357_104  # a sixteenth of the multiply-adds of CNN()


def _work_after_cutting(task: Task, answers: Any, _: Evidence) -> Verdict:
    return counted(task, answers, WORK_CUT, _hint_for_work)


def _hint_for_work(name: str, given: Any) -> str:
    """07: what is wrong with a number of multiply-adds of a network with half of the channels."""
    general = "who reads fewer channels, and who writes fewer?"
    if not isinstance(given, (int, float)):
        return f"there is no plain number for {name}; {general}"
    before = SIZES[name] * PIXELS[name]
    if given == before:
        return f"that is {name} before cutting; {general}"
    if name == "conv1":
        return f"{general} conv1 writes half as many; the image that it reads keeps its one channel"
    if name == "fc":
        return f"{general} fc reads half as many inputs of its linear layer; the ten classes stay"
    forgotten = "half is not enough: " if 2 * given == before else ""
    return f"{general} {forgotten}{name} reads half as many, and writes half as many"


def _cut_weights(task: Task, weights: Any, evidence: Evidence) -> Verdict:
    """07: conv2 and fc without the halves of least L2 norm of conv1, conv2 and conv3."""
    before = evidence.before
    if not isinstance(weights, Mapping) or not all(isinstance(weights.get(x), torch.Tensor) for x in CUT_SHAPES):
        raise Unfit("cut must be a dict with one tensor each for conv2 and fc")
    if not all(weights[name].is_floating_point() for name in CUT_SHAPES):
        raise Unfit("the tensors of cut must hold decimal numbers, as the weights do")
    if all(tuple(weights[name].shape) == SHAPES[name] for name in CUT_SHAPES):
        return Verdict(task)  # as they were
    right = []
    if before is not None and all(tuple(before[name].shape) == shape for name, shape in SHAPES.items()):
        # Norms that are nearly equal change places with the precision and the order of their sums.
        right = [_cut_by_norm(before, precision) for precision in (torch.float32, torch.float64)]
    hints_of = {
        "conv2": "its own channels that stay are rows; those of conv1 that stay are its inputs",
        "fc": "input h·(5·128) + w·128 + c belongs to channel c: view it as (10, 25, 128) first",
    }
    findings = []
    for name, points in (("conv2", 1), ("fc", 2)):
        given, shape = weights[name], tuple(weights[name].shape)
        holds: bool | None = shape == CUT_SHAPES[name]
        hint = hints_of[name]
        if shape == SHAPES[name]:
            hint = f"{name} is still whole: {hint}"
        if holds:
            holds = any(torch.equal(given, one[name].to(given.dtype)) for one in right) if right else None
            hint = f"the shape is right; were the channels those of `keep`, in their order? {hint}"
        findings.append(Finding(holds, f"{name}: {' × '.join(map(str, shape))} weights", hint, points))
    return by_hand(task, findings, before)


def _cut_by_norm(before: Weights, precision: torch.dtype) -> dict[str, torch.Tensor]:
    norms = {name: before[name].to(precision).flatten(1).norm(dim=1) for name in CONVOLUTIONS}
    kept = {name: norms[name].argsort()[len(norms[name]) // 2 :].sort().values for name in CONVOLUTIONS}
    fc = before["fc"].unflatten(1, (25, 128))[:, :, kept["conv3"]].flatten(1)
    return {"conv2": before["conv2"][kept["conv2"]][:, kept["conv1"]], "fc": fc}


def _small_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """07: at most a sixteenth of the multiply-adds of CNN(), by channels that are gone, and trained again."""
    widths = tuple(len(effective_weight(getattr(network, name))) for name in CONVOLUTIONS)
    if network.channels != widths:
        said = f"its layers have {widths} channels, but it says {network.channels}; it could not be loaded again"
        raise Unfit(f"{said}: copy its weights into CNN(channels={widths})")
    if network.input_shape != CNN().input_shape or network.num_of_cls != CNN().num_of_cls:
        raise Unfit("it must take images (1, 28, 28) and tell 10 classes")
    if any(width > most for width, most in zip(widths, CNN().channels, strict=True)):
        raise Unfit(f"its layers have {widths} channels; of {CNN().channels} some were to be cut")
    needed = sum(layer.multiply_adds for layer in multiply_adds(network))
    empty = sum(len(zero_channels(layer)) for layer in prunable_layers(network).values())
    if network.channels == CNN().channels and not empty:
        return Verdict(task)  # a clone that nothing was done to
    masks = {name: dict(layer.named_buffers()).get("weight_mask") for name, layer in prunable_layers(network).items()}
    masked = [name for name, mask in masks.items() if mask is not None and not bool(mask.all())]
    hint = "a mask multiplies with zeros: silence the masked channels, then cut them out"
    hint = (
        hint if masked else f"{needed / SMALL:.1f} times as many: fewer channels; in which layers is most of the work?"
    )
    reached = evidence.accuracy(network)
    if reached < USEFUL and network.batch1.num_batches_tracked == 0:  # a new one; one from a sparse file is useful
        return Verdict(task)
    findings = [
        Finding(needed <= SMALL, f"{needed:,} multiply-adds, at most {SMALL:,} were asked for", hint, 1),
        Finding(not masked, "no layer carries a mask", f"{', '.join(masked)}: cut what the mask hides", 1),
    ]
    hint = "after cutting it must train again: whose parameters did the optimizer get?"
    findings.append(Finding(reached >= USEFUL, f"at least {USEFUL:.0%} of the images right", hint, 2))
    return Verdict(task, findings)


TASKS = (
    prediction_task(
        "07",
        "size of the masked file / dense file",
        "how many times as large was asked for: 0.5 would be half as large",
        0,
        10,
        3,
        1.73,
    ),
    Task("07-work", "multiply-adds after cutting half of the channels", 2, _work_after_cutting, numbers),
    Task("07-cut", "weights of conv2 and fc without the cut channels, by hand", 3, _cut_weights, tensors(*CUT_SHAPES)),
    Task(
        "07-network",
        "a sixteenth of the multiply-adds, trained again",
        4,
        _small_network,
        own_copy,
        "CNN_MNIST_SMALL",
        narrower=True,
        committed=True,
        again=AGAIN_SMALL,
        levels=(USEFUL,),
        style=Style("p", "#8B4513", "SMALL: a sixteenth of the work"),
    ),
)
