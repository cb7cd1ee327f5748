"""What the judges of several tasks share: findings about networks, masks and numbers, and their hints.

Several tasks are judged in the same steps. For these there are functions that make a judge: they get the findings that
are the task's own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch

from labkit.cnn import CNN
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, SHAPES, SIZES, Evidence, Pruned, Weights, read_pruning
from labkit.course.given import number, own_copy
from labkit.course.task import Judging, Measured, Prediction, Rows, Style, Task
from labkit.course.verdict import Finding, Unfit, Verdict, first_hint
from labkit.sparsity import effective_weight, prunable_layers

ROUNDS = 10
TIES = 3  # where |w| ties at the threshold, `>` and the library's choice of k weights differ by a few
TRAINED = 0.93  # accuracy of a network that has been trained: five epochs give 0.99, quick mode 0.96 to 0.97
GOOD = 0.95  # ... and of one with 800 weights that went there in steps: 0.97
USEFUL = 0.90  # ... and of one that was pruned and trained again
SHARE = "a share between 0 and 1 was asked for: 0.75 for 75 %"
PERCENT = "a number of percent, from 0 to 100, was asked for: 75 for 75 %"
REACH = 'In code a layer is network.{0} or getattr(network, "{0}"), not its name alone'
PIXELS = {"conv1": 28 * 28, "conv2": 14 * 14, "conv3": 5 * 5, "fc": 1}  # that each layer of CNN() makes
WORK = {name: SIZES[name] * pixels for name, pixels in PIXELS.items()}  # multiply-adds of each layer of CNN()
LAYER = 'a layer is network.conv1 or getattr(network, "conv1"), not its name alone'
FULL_LOOP = "run the cell that makes {} and the loop again (a loop whose rounds are all done does nothing more)"
CELL_WRITTEN = "if you have written {}, run its cell and the cell that makes {} again"
PRUNING_WRITTEN = f"if you have written the pruning, run the cell that makes {{}} again; {LAYER}"
LOOP_WRITTEN = f"if you have written prune_and_train: {FULL_LOOP}"
FC_HAS_ZEROS = "fc has zeros: which layers does the task name?"
EQUAL_SHARES = "every layer lost the same share"  # ... as thresholds of their own do
SMALL_WENT = "small weights went"
NOT_SMALL = "the zeroed weights are not smaller than the kept ones; did you use L1?"
PRUNED_TWICE = "that comes from pruning twice, the second time what the first has left; start from a clone"
ALL_GONE = "nothing is left of {}: a decimal amount is a share, and 1.0 is all of it"
Findings = Callable[[Pruned], list[Finding]]


# Networks


def network_task(
    name: str, title: str, points: float, judging: Judging, network: str, again: str, style: Style, **others: Any
) -> Task:
    """A network that is trained or pruned, saved, and handed in; the arguments are attributes of the task."""
    return Task(name, title, points, judging, own_copy, network, again=again, style=style, **others)


def pruned_network(findings: Findings, odd: Callable[[Pruned], list[str]] = lambda _: []) -> Judging:
    """The judge of a network that was pruned in one go.

    Args:
        findings: what was looked at.
        odd: flags of the task's own.
    """

    def judge(task: Task, network: CNN, evidence: Evidence) -> Verdict:
        pruned = _read(network, evidence)
        if pruned is None:
            return Verdict(task)
        unknown = not pruned.origin and something_went(pruned, ALL_LAYERS)
        flag = f"{task.network} was not made from the CNN_MNIST that was handed in, nor from a reference"
        return Verdict(task, findings(pruned), [flag] * unknown + odd(pruned))

    return judge


def rounds_of_pruning(
    amount: Callable[[Pruned], tuple[bool, str]], choice: Callable[[Pruned, Finding], Finding]
) -> Judging:
    """The judge of a network that was pruned in ten rounds of 10 % of what was left, and trained after each.

    Args:
        amount: whether the number of zeros is right, and the number in words.
        choice: whether they are the right ones, given the finding about their number.
    """

    def judge(task: Task, network: CNN, evidence: Evidence) -> Verdict:
        pruned = _read(network, evidence)
        if pruned is None:
            return Verdict(task)
        right, text = amount(pruned)
        only_convolutions = pruned.zeros(["fc"]) <= TIES
        hint = _hint_for_rounds(pruned.share(CONVOLUTIONS)) if only_convolutions else FC_HAS_ZEROS
        counts = Finding(right and only_convolutions, text, hint, 2)
        trained = _was_trained(network, pruned, evidence.candidates)
        hint = "does every round train after pruning, with the gradients of this network?"
        useful = accurate(evidence.accuracy(network), USEFUL, hint, when=" after the last round")
        findings = [counts, choice(pruned, counts), trained, useful]
        hidden = f"{task.network}: all hidden weights are still those of {pruned.origin}; pruned in one step?"
        in_one_step = pruned.origin and pruned.zeros(CONVOLUTIONS)
        return Verdict(task, _run_again(findings, task), [hidden] if in_one_step else [])

    return judge


def _read(network: CNN, evidence: Evidence) -> Pruned | None:
    """How a network was pruned; None if it is a clone that nothing was done to."""
    check_shapes(network)
    pruned = read_pruning(network, evidence.candidates)
    return None if pruned.zeros() == 0 and pruned.origin else pruned


def check_shapes(network: CNN) -> None:
    """Refuse a network whose layers are not those of ``CNN()``."""
    for name, layer in prunable_layers(network).items():
        shape = tuple(effective_weight(layer).shape)
        if SHAPES.get(name) != shape:
            raise Unfit(f"{name} has weights {shape}; the layers must be those of CNN()")


def accurate(reached: float, level: float, hint: str, points: float = 1, when: str = "") -> Finding:
    """Whether a network gets enough images right."""
    return Finding(reached >= level, f"at least {level:.0%} of the images right{when}", hint, points)


def off_by(count: int, right: int, head: str = "; ", most: int = 3) -> str:
    """A remark on a count that is nearly right, which costs nothing; "" if it is right or clearly wrong."""
    distance = abs(count - right)
    if not 0 < distance <= most:
        return ""
    words = ("one", "two", "three")[distance - 1]
    more = "more" if count > right else "fewer"
    why = "perhaps > instead of >= (or the opposite), a coin, or rounding"
    return f"{head}{count:,}, {words} {more} than the library's {right:,}: {why}"


def counted(count: int, right: int, of: int, words: str, hint: str, points: float = 1) -> Finding:
    """Whether so many weights of so many are masked, zero or left, but for a few."""
    return Finding(
        abs(count - right) <= TIES, f"{count:,} of {of:,} weights {words}{off_by(count, right)}", hint, points
    )


def zeros_in_words(pruned: Pruned) -> str:
    """Number of zeros of each convolution."""
    return "zeros in " + ", ".join(f"{name}: {pruned.zeros([name]):,} of {SIZES[name]:,}" for name in CONVOLUTIONS)


def quarters(pruned: Pruned) -> Finding:
    """Whether a quarter of each convolution is zero."""
    zeros = {name: pruned.zeros([name]) for name in CONVOLUTIONS}
    remarks = [off_by(zeros[name], SIZES[name] // 4, f"; {name}: ") for name in CONVOLUTIONS]
    wrong = next((name for name in CONVOLUTIONS if abs(zeros[name] - SIZES[name] // 4) > TIES), "")
    hint = _hint_for_quarters(pruned, zeros, wrong) if wrong else ""
    return Finding(not wrong, zeros_in_words(pruned) + "".join(remarks), hint)


def _hint_for_quarters(pruned: Pruned, zeros: Mapping[str, int], layer: str) -> str:
    count, share, first = zeros[layer], zeros[layer] / SIZES[layer], zeros["conv1"]
    pruned_twice = abs(share - 0.4375) < 0.002 or abs(share - 15 / 64) < 0.002
    untouched, inverted = not something_went(pruned), abs(share - 0.75) < 0.01
    equal = {*zeros.values()} == {first} and 0 < first < SIZES["conv1"]
    hints = {
        f"{layer} has almost no zeros: did you prune this network, and does it still have its mask?": untouched,
        f"{first} zeros in each layer: a whole number as amount counts weights, 0.25 is a quarter": equal,
        f"{layer} has no zeros: did you prune this network? {REACH.format(layer)}": count == 0,
        ALL_GONE.format(layer): count == SIZES[layer],
        f"{layer}: a whole number as amount counts weights, a decimal number is a share": count in (1, 2, 25),
        f"{layer}: {PRUNED_TWICE}": pruned_twice,
        f"{layer} has {share:.2%} zeros: an amount is the share that goes; a 0 in a mask drops a weight": inverted,
    }
    return first_hint(hints, f"{layer} has {share:.2%} zeros: did you use the amount in the task, and only once?")


def something_went(pruned: Pruned, layers: Sequence[str] = CONVOLUTIONS) -> bool:
    """Whether these layers were pruned, be it by a single weight.

    Where a mask was removed and training went on, a few weights are still exactly zero, or none: that depends on the
    last digits of the processor. A single zero is a deed only where a mask holds it, or the weights before are known.
    """
    return pruned.zeros(layers) > (0 if pruned.before is not None else pruned.weights(layers) // 100)


def rest_untouched(pruned: Pruned) -> Finding:
    """Whether the linear layer has no zeros, but for weights that started as exactly 0."""
    touched = pruned.zeros(["fc"]) > TIES
    hint = FC_HAS_ZEROS if touched else "nothing was pruned"
    return Finding(not touched and something_went(pruned), "fc untouched", hint)


def if_known(holds: bool | None, amount: Finding) -> bool | None:
    """Whether the right weights went; where that cannot be known, the amount has to be right at least."""
    return False if holds is None and not amount.holds else holds


def unless_trained_since(pruned: Pruned, holds: bool | None, layers: Sequence[str]) -> bool | None:
    """None instead of False where the weights before are not certain, but small ones were clearly preferred.

    Momentum and weight decay move hidden weights too: after some training a threshold can no longer be seen.
    """
    if holds is not False or pruned.origin or pruned.before is None:
        return holds
    return None if max(map(pruned.relative_lean, layers)) < -0.8 else False


def at_random(pruned: Pruned, layers: Sequence[str]) -> bool:
    """Whether the zeros of all these layers show no preference for small or large weights."""
    return all(abs(pruned.lean([name])) < 4 for name in layers)


def _was_trained(network: CNN, pruned: Pruned, candidates: Mapping[str, Weights]) -> Finding:
    """Whether the weights that are left have moved away from every network that it may have been made from."""
    left = {name: ~pruned.zero[name] for name in CONVOLUTIONS}
    own = {name: effective_weight(getattr(network, name))[left[name]] for name in CONVOLUTIONS}
    same = any(all(torch.equal(own[x], weights[x][left[x]]) for x in CONVOLUTIONS) for weights in candidates.values())
    hint = "the remaining weights have not changed: whose parameters did the optimizer get?"
    holds = not same and int(network.batch1.num_batches_tracked or 0) > 0
    return Finding(holds, "the remaining weights were trained", hint)


def _run_again(findings: list[Finding], task: Task) -> list[Finding]:
    """The last hint also says how to start over: after a correction the loop is still full."""
    last = max((place for place, finding in enumerate(findings) if finding.holds is False), default=None)
    if last is not None:
        hint = findings[last].hint + ("" if findings[last].hint.endswith("?") else ".")
        hint += f" After a change of prune_and_train: {FULL_LOOP.format(task.network)}"
        findings[last] = replace(findings[last], hint=hint)
    return findings


def _hint_for_rounds(share: float) -> str:
    """What a share of zeros says about the number of rounds."""
    if share < 0.01:
        back = "Without a mask, training brings weights back"
        return f"hardly any weight is zero: did each round prune, or were the masks removed before training? {back}"
    if share > 0.99:
        return "almost nothing is left: each round takes a tenth of what is left, not of all"
    rounds = math.log(1 - share) / math.log(0.9)
    hint = f"{share:.2%} of the convolutions: that is about {rounds:.1f} rounds of 10 % of what is left in each"
    stopped = rounds < ROUNDS - 0.5 and abs(rounds - round(rounds)) < 0.05
    return f"{hint}. If the loop was stopped, run its cell again: it goes on" if stopped else hint


# Masks by hand


def masks_by_hand(findings: Findings, *layers: str) -> Judging:
    """The judge of masks, one for each of these layers; it says nothing where they have no zero at all."""

    def judge(task: Task, masks: object, evidence: Evidence) -> Verdict:
        if not isinstance(masks, Mapping):
            raise Unfit(f"masks are a {kind_of(masks)}; they must be a dict from layer to tensor")
        if missing := [name for name in layers if name not in masks]:
            raise Unfit(f"there is no mask for {', '.join(missing)}")
        zero = {name: zeros_of(masks[name], name, f"the mask of {name}") for name in layers}
        return by_hand(task, Pruned(zero, evidence.before), findings)

    return judge


def zeros_of(mask: object, layer: str, name: str) -> torch.Tensor:
    """Where a mask by hand has zeros; refuses what is no mask."""
    if not isinstance(mask, torch.Tensor):
        raise Unfit(f"{name} is a {type(mask).__name__}; it must be a tensor")
    if tuple(mask.shape) != SHAPES[layer]:
        raise Unfit(f"{name} has shape {tuple(mask.shape)}; a mask has the shape of its weights, {SHAPES[layer]}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        other = mask[(mask != 0) & (mask != 1)][0].item()
        raise Unfit(f"{name} has values other than 0 and 1, such as {other:g}; the weights are multiplied with it")
    return mask == 0


def by_hand(task: Task, pruned: Pruned, findings: Findings) -> Verdict:
    """A verdict on masks, if they have a zero; a flag if the network that they belong to is not known."""
    if not pruned.zeros(pruned.zero):
        return Verdict(task)
    return Verdict(task, findings(pruned), unknown_base(task, pruned.before))


def is_whole(weights: Weights | None) -> TypeGuard[Weights]:
    """Whether the weights are known, and have the shapes of those of ``CNN()``."""
    return weights is not None and all(tuple(weights[name].shape) == shape for name, shape in SHAPES.items())


def unknown_base(task: Task, before: Weights | None) -> list[str]:
    """A flag if the network that masks or weights belong to is not known."""
    return [f"{task.name}: the network that this answer belongs to was not handed in"] if before is None else []


def of_each_mask(judged: Callable[[Pruned, str], tuple[bool | None, str]]) -> Findings:
    """A finding for each convolution: whether its mask is right, with a hint, and its number of zeros."""

    def findings(pruned: Pruned) -> list[Finding]:
        rows = []
        for name in CONVOLUTIONS:
            (holds, hint), count = judged(pruned, name), pruned.zeros([name])
            remark = off_by(count, SIZES[name] // 4) if holds is not False else ""
            rows.append(Finding(holds, f"{name}: {count:,} of {SIZES[name]:,} weights are masked{remark}", hint))
        return rows

    return findings


# Numbers


def kind_of(value: object) -> str:
    """The type of an answer, with its shape, or with what it is if that is short, in words."""
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    short = f" ({value!r:.20})" if isinstance(value, (str, int, float)) else ""
    return type(value).__name__ + shape + short


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a plain number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def prediction_task(
    name: str, question: str, asked: str, least: float, most: float, shown: float, measured: Measured, unit: str = ""
) -> Task:
    """A number, committed before the measurement, in the notebook of this number. Being right earns nothing more."""

    def judge(task: Task, value: object, _: Evidence) -> Verdict:
        if value is None:
            return Verdict(task)
        if not is_number(value) or not abs(value) < 1e15:  # NaN: no
            hint = f"write a plain number: {asked}; this is a {kind_of(value)}"
            return Verdict(task, [Finding(False, "there is no number", hint)])
        fits = least <= value <= most
        return Verdict(task, [Finding(fits, f"{'a number' if fits else f'{value:g}'} was written down", asked)])

    about = Prediction(question, unit, shown, measured)
    title = "a prediction, before the measurement"
    return Task(f"{name}-prediction", title, 1, judge, number, prediction=about)


def accuracy_prediction(name: str, question: str, network: str) -> Task:
    """The test accuracy of a network, predicted in the notebook of this number."""

    def measured(rows: Rows) -> float | None:
        return rows[network].accuracy if network in rows else None

    return prediction_task(name, question, SHARE, 0, 1, 3, measured)


def multiply_adds_by_hand(
    rights: Mapping[str, int], general: Mapping[str, str], hint: Callable[[str, float], str]
) -> Judging:
    """The judge of a number of multiply-adds for each layer.

    Args:
        rights: layer -> the right number.
        general: layer -> where to look.
        hint: what is wrong with a layer's number.
    """

    def judge(task: Task, answers: object, _: Evidence) -> Verdict:
        if not isinstance(answers, Mapping):
            raise Unfit(f"work is a {kind_of(answers)}; it must be a dict from layer to a number")
        findings = []
        for name, right in rights.items():
            given = answers.get(name)
            why = f"there is no plain number for {name}, but a {kind_of(given)}; {general[name]}"
            why = hint(name, given) if isinstance(given, (int, float)) else why
            if name not in answers:
                why = f"work has no {name!r}; its keys are {', '.join(map(repr, answers))[:80]}; {why}"
            text = f"{name}: {given:,}" if is_number(given) else f"{name}: no number"
            findings.append(Finding(is_number(given) and given == right, text, why, 0.5))
        return Verdict(task, findings if answers else [])

    return judge
