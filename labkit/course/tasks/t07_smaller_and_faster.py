"""The tasks of notebook 07."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, SHAPES, Evidence, Weights, masked_layers, read_pruning
from labkit.course.given import numbers, tensor, tensors
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Unfit, Verdict, first_hint
from labkit.smaller.cost import multiply_adds
from labkit.sparsity import effective_weight

AGAIN = "it is still the clone, or was never trained: cut its channels, train, and run the cell again"
WORK_CUT = {"conv1": 112_896, "conv2": 903_168, "conv3": 460_800, "fc": 16_000}  # half of the channels gone
CHANNELS = "who reads fewer channels, and who writes fewer?"
CUT_SHAPES = {"conv2": (32, 16, 3, 3), "fc": (10, 1600)}
CUT_HINTS = {
    "conv2": "its own channels that stay are rows; those of conv1 that stay are its inputs",
    "fc": "input h·(5·128) + w·128 + c belongs to channel c: view it as (10, 25, 128) first",
}
SMALL = 357_104  # a sixteenth of the multiply-adds of CNN()

PIXELS = (torch.arange(2 * 8 * 8 * 16).double() % 11).view(2, 8, 8, 16)  # (inputs, height + 2, width + 2, images)
KERNEL = torch.zeros(2, 3, 3).double()
KERNEL[0, 0, 1], KERNEL[0, 2, 2], KERNEL[1, 1, 0] = 2, -1, 3
MISTAKEN_KERNELS = {
    "the sums of earlier weights are lost: add with +=": KERNEL * (KERNEL == 3),
    "each shift is the right one, but its weight is missing": (KERNEL != 0).double(),
    "y shifts rows, the second dimension of pixels, and x columns, the third": KERNEL.transpose(1, 2),
    "shifted the wrong way: weight (y, x) meets the pixels from row y and column x on": KERNEL.flip(1, 2),
    "only one input channel was read": torch.stack([KERNEL.sum(0), torch.zeros_like(KERNEL[0])]),
}


def _sums(task: Task, sums: object, _: Evidence) -> Verdict:
    """07: one output channel of a convolution whose every number is known."""
    right = _convolution(KERNEL)
    if not isinstance(sums, torch.Tensor) or sums.shape != right.shape:
        raise Unfit(f"sums are a {judging.kind_of(sums)}; they must be a tensor or array of shape {tuple(right.shape)}")
    if not sums.any():
        return Verdict(task)
    hints = {hint: torch.equal(sums.double(), _convolution(kernel)) for hint, kernel in MISTAKEN_KERNELS.items()}
    hint = first_hint(hints, "for each nonzero weight: sums += weight * pixels[channel, y : y + height, x : x + width]")
    return Verdict(task, [Finding(torch.equal(sums.double(), right), "all sums of shifted images are right", hint, 3)])


def _convolution(kernel: torch.Tensor) -> torch.Tensor:
    return F.conv2d(PIXELS.permute(3, 0, 1, 2), kernel[None])[:, 0].permute(1, 2, 0)  # (height, width, images)


def _hint_for_work(name: str, given: float) -> str:
    """07: what is wrong with a number of multiply-adds of a network with half of the channels."""
    before = judging.WORK[name]
    forgotten = "half is not enough: " if 2 * given == before else ""
    hints = {
        f"that is {name} before cutting; {CHANNELS}": given == before,
        f"{CHANNELS} conv1 writes half as many; the image that it reads keeps its one channel": name == "conv1",
        f"{CHANNELS} fc reads half as many inputs of its linear layer; the ten classes stay": name == "fc",
    }
    return first_hint(hints, f"{CHANNELS} {forgotten}{name} reads half as many, and writes half as many")


def _cut_weights(task: Task, weights: object, evidence: Evidence) -> Verdict:
    """07: conv2 and fc without the halves of least L2 norm of conv1, conv2 and conv3."""
    before = evidence.before
    if not isinstance(weights, Mapping) or not all(isinstance(weights.get(x), torch.Tensor) for x in CUT_SHAPES):
        raise Unfit("cut must be a dict with one tensor each for conv2 and fc")
    if not all(weights[name].is_floating_point() for name in CUT_SHAPES):
        raise Unfit("the tensors of cut must hold decimal numbers, as the weights do")
    if all(tuple(weights[name].shape) == SHAPES[name] for name in CUT_SHAPES):
        return Verdict(task)  # as they were
    # Norms that are nearly equal change places with the precision and the order of their sums.
    kinds = (torch.float32, torch.float64)
    rights = [_cut_by_norm(before, kind) for kind in kinds] if judging.is_whole(before) else []
    findings = []
    for name, points in (("conv2", 1), ("fc", 2)):
        given, shape = weights[name], tuple(weights[name].shape)
        holds: bool | None = shape == CUT_SHAPES[name]
        hint = f"{name} is still whole: {CUT_HINTS[name]}" if shape == SHAPES[name] else CUT_HINTS[name]
        if holds:
            holds = any(torch.equal(given, right[name].to(given.dtype)) for right in rights) if rights else None
            hint = f"the shape is right; are the channels those of `keep`, in their order? {hint}"
        findings.append(Finding(holds, f"{name}: {' × '.join(map(str, shape))} weights", hint, points))
    return Verdict(task, findings, judging.unknown_base(task, before))


def _cut_by_norm(before: Weights, precision: torch.dtype) -> dict[str, torch.Tensor]:
    norms = {name: before[name].to(precision).flatten(1).norm(dim=1) for name in CONVOLUTIONS}
    kept = {name: norms[name].argsort()[len(norms[name]) // 2 :].sort().values for name in CONVOLUTIONS}
    fc = before["fc"].unflatten(1, (25, 128))[:, :, kept["conv3"]].flatten(1)
    return {"conv2": before["conv2"][kept["conv2"]][:, kept["conv1"]], "fc": fc}


def _small(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """07: at most a sixteenth of the multiply-adds of CNN(), by channels that are gone, and trained again."""
    _check_widths(network)
    pruned, needed = read_pruning(network, {}), sum(layer.multiply_adds for layer in multiply_adds(network))
    if network.channels == CNN().channels and not any(pruned.empty(name) for name in ALL_LAYERS):
        return Verdict(task)  # a clone that nothing was done to
    masked = ", ".join(masked_layers(network))
    hint = f"{needed / SMALL:.1f} times as many: fewer channels; which layers do most of the work?"
    hint = "a mask multiplies with zeros: silence the masked channels, then cut them out" if masked else hint
    reached = evidence.accuracy(network)
    if reached < judging.USEFUL and network.batch1.num_batches_tracked == 0:  # one from a sparse file is useful
        return Verdict(task)
    again = "it must be trained again after cutting: whose parameters did the optimizer get?"
    findings = [
        Finding(needed <= SMALL, f"{needed:,} multiply-adds, at most {SMALL:,} were asked for", hint),
        Finding(not masked, "no layer carries a mask", f"{masked}: cut what the mask hides"),
        judging.accurate(reached, judging.USEFUL, again, 2),
    ]
    return Verdict(task, findings)


def _check_widths(network: CNN) -> None:
    usual, widths = CNN(), tuple(len(effective_weight(getattr(network, name))) for name in CONVOLUTIONS)
    if network.channels != widths:
        words = f"its layers have {widths} channels, but it says {network.channels}; it could not be loaded again"
        raise Unfit(f"{words}: copy its weights into CNN(channels={widths})")
    if (network.input_shape, network.num_of_cls) != (usual.input_shape, usual.num_of_cls):
        raise Unfit("it must take images (1, 28, 28) and have 10 classes")
    if any(width > most for width, most in zip(widths, usual.channels, strict=True)):
        raise Unfit(f"its layers have {widths} channels; of {usual.channels} some were to be cut")


TIMES = "how many times as large was asked for: 0.5 would be half as large"
WORK = judging.multiply_adds_by_hand(WORK_CUT, dict.fromkeys(WORK_CUT, CHANNELS), _hint_for_work)
TITLE = "a sixteenth of the multiply-adds, trained again"
STYLE = Style("p", "#8B4513", "SMALL: a sixteenth of the work")
ATTRIBUTES = {"levels": (judging.USEFUL,), "narrower": True}
TASKS = (
    judging.prediction_task("07", "size of the masked file / dense file", TIMES, 0, 10, 3, 1.73),
    Task("07-work", "multiply-adds after cutting half of the channels", 2, WORK, numbers),
    Task("07-cut", "weights of conv2 and fc without the cut channels, by hand", 3, _cut_weights, tensors(*CUT_SHAPES)),
    judging.network_task("07-network", TITLE, 4, _small, "CNN_MNIST_SMALL", AGAIN, STYLE, **ATTRIBUTES),
    Task("07-sums", "a convolution as a sum over its nonzero weights, by hand", 3, _sums, tensor),
)
