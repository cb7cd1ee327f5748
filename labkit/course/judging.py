"""What the judges of several tasks share: findings about networks, masks and numbers, and their hints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course.evidence import (
    ALL_LAYERS,
    CONVOLUTIONS,
    SHAPES,
    SIZES,
    Evidence,
    Pruned,
    Weights,
    preference,
    read_pruning,
    strongest_preference,
)
from labkit.course.given import number
from labkit.course.task import ROUNDS as AGAIN
from labkit.course.task import Prediction, Rows, Task
from labkit.course.verdict import Finding, Unfit, Verdict
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


def off_by(count: int, right: int, head: str = "; ", most: int = 3) -> str:
    """A remark on a count that is nearly right, which costs nothing; "" if it is right or clearly wrong."""
    distance = abs(count - right)
    if not 0 < distance <= most:
        return ""
    words = {1: "one", 2: "two", 3: "three"}.get(distance, str(distance))
    more = "more" if count > right else "fewer"
    why = "perhaps > instead of >= (or the other way), a coin, or rounding"
    return f"{head}{count:,}, {words} {more} than the library's {right:,}: {why}"


def check_shapes(network: CNN) -> None:
    """Refuse a network whose layers are not those of ``CNN()``."""
    for name, layer in prunable_layers(network).items():
        if name not in SHAPES or tuple(effective_weight(layer).shape) != SHAPES[name]:
            raise Unfit(f"{name} has weights {tuple(effective_weight(layer).shape)}; the layers must be those of CNN()")


def read_task(task: Task, network: CNN, evidence: Evidence) -> tuple[Pruned, list[str]]:
    """How the network of a task was pruned, and a flag if it was made from a network that nobody knows."""
    check_shapes(network)
    pruned = read_pruning(network, evidence.candidates)
    if pruned.origin or not something_went(pruned, ALL_LAYERS):
        return pruned, []
    return pruned, [f"{task.network} was not made from the CNN_MNIST that was handed in, nor from a reference"]


def is_blank(found: Pruned) -> bool:
    """A clone that nothing was done to."""
    return found.zeros() == 0 and bool(found.origin)


def quarters(found: Pruned, points: float, slack: int = 0) -> Finding:
    """Whether a quarter of each convolution is zero."""
    wanted = {name: SIZES[name] // 4 for name in CONVOLUTIONS}
    zeros = {name: found.zeros([name]) for name in wanted}
    text = "zeros in " + ", ".join(f"{name}: {count:,} of {SIZES[name]:,}" for name, count in zeros.items())
    text += "".join(off_by(zeros[name], wanted[name], f"; {name}: ") for name in wanted)
    wrong = [name for name in wanted if abs(zeros[name] - wanted[name]) > slack]
    share = zeros[wrong[0]] / SIZES[wrong[0]] if wrong else 0.0
    hint = _hint_for_amount(share, wrong[0], zeros[wrong[0]]) if wrong else ""
    alike = set(zeros.values())
    if len(alike) == 1 and 0 < min(alike) < SIZES["conv1"]:
        hint = f"{min(alike)} zeros in each layer: a whole number as amount counts weights, 0.25 is a quarter"
    if not something_went(found):
        hint = f"{wrong[0]} has no zeros to speak of: was it pruned, on this very network, and is its mask still there?"
    return Finding(not wrong, text, hint, points)


def something_went(found: Pruned, layers: Sequence[str] = CONVOLUTIONS) -> bool:
    """Whether these layers were pruned, be it by a single weight.

    Where a mask was removed and training went on, a few weights are still exactly zero, or none: that depends on the
    last digits of the processor. A single zero is a deed only where a mask holds it, or the weights before are known.
    """
    return found.zeros(layers) > (0 if found.before is not None else found.weights(layers) // 100)


def _hint_for_amount(share: float, layer: str, zeros: int) -> str:
    if zeros == 0:
        return f"{layer} has no zero: was it pruned, on this very network? {REACH.format(layer)}"
    if zeros == SIZES[layer]:
        return f"nothing is left of {layer}: a decimal amount is a share, and 1.0 is all of it"
    if zeros in (1, 2, 25):
        return f"{layer}: a whole number as amount counts weights, a decimal one is a share"
    if abs(share - 0.4375) < 0.002 or abs(share - 15 / 64) < 0.002:
        return f"{layer}: that is what two prunings make, the second of what the first has left; start from a clone"
    if abs(share - 0.75) < 0.01:
        return f"{layer} has {share:.2%} zeros: an amount is the share that goes; a 0 in a mask drops a weight"
    return f"{layer} has {share:.2%} zeros: is it the amount that was asked for, taken once?"


def rest_untouched(found: Pruned, points: float, layers: Sequence[str] = ("fc",)) -> Finding:
    """Whether the other layers have no zeros."""
    touched = [name for name in layers if found.zeros([name]) > TIES]  # a weight may start as exactly 0
    text = f"{' and '.join(layers)} untouched"
    hint = f"{', '.join(touched)} has zeros: which layers were asked for?" if touched else "nothing was pruned"
    return Finding(not touched and something_went(found), text, hint, points)


def by_hand_or_not(
    before: Weights | None, holds: Callable[[Weights], bool], amount: Finding | None = None
) -> bool | None:
    """Whether it holds; None if the weights before are unknown, where at least the amount is right."""
    if before is None:
        return None if amount is None or amount.holds else False
    return holds(before)


def unless_trained_since(found: Pruned, holds: bool | None, layers: Sequence[str]) -> bool | None:
    """None instead of False where the weights before are not certain, but small ones were clearly preferred.

    Momentum and weight decay move hidden weights too: after some training a threshold can no longer be seen.
    """
    if holds is not False or found.certain or found.before is None:
        return holds
    leans = [preference(found.before[x].abs(), found.zero[x]) / strongest_preference(found.zero[x]) for x in layers]
    return None if max(leans) < -0.8 else False


def at_random(before: Weights, zero: Weights, layers: Sequence[str]) -> bool:
    """Whether the zeros of all these layers show no preference for small or large weights."""
    return all(abs(preference(before[name].abs(), zero[name])) < 4 for name in layers)


def was_trained(network: CNN, found: Pruned, candidates: Mapping[str, Weights]) -> Finding:
    """Whether the weights that are left have moved away from every network that it may have been made from."""
    same = [
        name
        for name, weights in candidates.items()
        if all(torch.equal(found.kept[x][~found.zero[x]], weights[x][~found.zero[x]]) for x in CONVOLUTIONS)
    ]
    hint = "the weights that are left are exactly those before: whose parameters did the optimizer get?"
    holds = not same and int(network.batch1.num_batches_tracked or 0) > 0
    return Finding(holds, "the weights that are left have been trained", hint, 1)


def still_useful(network: CNN, evidence: Evidence) -> Finding:
    """Whether the network tells digits after its last round."""
    reached = evidence.accuracy(network)
    hint = "does every round train after it has pruned, with the gradients of this network?"
    return Finding(reached >= USEFUL, f"at least {USEFUL:.0%} of the images right after the last round", hint, 1)


def run_again(findings: Sequence[Finding], task: Task) -> list[Finding]:
    """The last hint also says how to start over: after a correction the loop is still full."""
    last = max((number for number, finding in enumerate(findings) if finding.holds is False), default=None)
    said = f" After a change of prune_and_train: {AGAIN.format(task.network)}"
    if last is None:
        return list(findings)
    end = "" if findings[last].hint.endswith("?") else "."
    return [replace(x, hint=x.hint + end + said) if number == last else x for number, x in enumerate(findings)]


def hint_for_rounds(share: float) -> str:
    """What a share of zeros tells of the number of rounds."""
    if share < 0.01:
        return (
            "hardly any weight is zero: was anything pruned in each round, or were the masks removed before training? "
            "It revives what no mask holds down"
        )
    if share > 0.99:
        return "nearly nothing is left: each round takes a tenth of what is left, not of all"
    rounds = torch.log(torch.tensor(1 - share)) / torch.log(torch.tensor(0.9))
    said = f"{share:.2%} of the convolutions: that is about {rounds:.1f} rounds of 10 % of what is left in each"
    stopped = rounds < ROUNDS - 0.5 and abs(rounds - rounds.round()) < 0.05
    return f"{said}. If the loop was stopped, run its cell again: it goes on" if stopped else said


def in_one_step(task: Task, found: Pruned) -> list[str]:
    """A flag if everything that the masks hide is as it was before the first round."""
    if not found.origin or not found.zeros(CONVOLUTIONS):
        return []
    return [f"{task.network}: all hidden weights are still those of {found.origin}; pruned in one step?"]


def prediction_task(
    number_of: str, question: str, asked: str, least: float, most: float, shown: float, measured: Any, unit: str = ""
) -> Task:
    """A number, committed before the measurement, in the notebook of this number."""
    about = Prediction(question, unit, asked, least, most, shown, measured)
    title = "a prediction, before the measurement"
    return Task(f"{number_of}-prediction", title, 1, _prediction, number, prediction=about)


def _prediction(task: Task, value: Any, _: Evidence) -> Verdict:
    """Being right earns nothing more."""
    about = task.prediction
    if value is None or about is None:
        return Verdict(task)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15  # NaN: no
    if not plain or about.least <= value <= about.most:
        text, hint = f"{'a' if plain else 'no'} number was written down", f"write a plain number: {about.asked}"
        return Verdict(task, [Finding(plain, text, hint, 1)])
    return Verdict(task, [Finding(False, f"{value:g} was written down", about.asked, 1)])


def accuracy_of(network: str) -> Callable[[Rows], float | None]:
    """What a prediction of this network's accuracy is compared with."""
    return lambda rows: rows[network].accuracy if network in rows else None


def counted(task: Task, answers: Any, rights: Mapping[str, int], hint: Callable[[str, Any], str]) -> Verdict:
    """Multiply-adds of each layer."""
    if not isinstance(answers, Mapping):
        raise Unfit(f"work is a {type(answers).__name__}; it must be a dict from layer to a number")
    if not answers:
        return Verdict(task)
    findings = []
    for name, right in rights.items():
        given = answers.get(name)
        plain = isinstance(given, (int, float)) and not isinstance(given, bool)
        why = hint(name, given)
        if name not in answers:
            why = f"work has no {name!r}; its keys are {', '.join(map(repr, answers))[:80]}; {why}"
        findings.append(
            Finding(plain and given == right, f"{name}: {f'{given:,}' if plain else 'no number'}", why, 0.5)
        )
    return Verdict(task, findings)


def zeros_of(mask: Any, name: str, what: str) -> torch.Tensor:
    """Where a mask by hand has zeros; refuses what is no mask."""
    if not isinstance(mask, torch.Tensor):
        raise Unfit(f"{what} is a {type(mask).__name__}; it must be a tensor")
    if tuple(mask.shape) != SHAPES[name]:
        raise Unfit(f"{what} has shape {tuple(mask.shape)}; a mask has the shape of its weights, {SHAPES[name]}")
    zero = mask == 0
    if not bool((zero | (mask == 1)).all()):
        raise Unfit(f"{what} has values other than 0 and 1; the weights are multiplied with it")
    return zero


def all_zeros_of(masks: Any, layers: Sequence[str]) -> dict[str, torch.Tensor]:
    """Where masks by hand have zeros, layer by layer."""
    if not isinstance(masks, Mapping):
        raise Unfit(f"masks are a {type(masks).__name__}; they must be a dict from layer to tensor")
    missing = [name for name in layers if name not in masks]
    if missing:
        raise Unfit(f"there is no mask for {', '.join(missing)}")
    return {name: zeros_of(masks[name], name, f"the mask of {name}") for name in layers}


def mask_findings(zero: Weights, before: Weights | None, layers: Sequence[str], right: Any, points: float) -> Any:
    """A finding for each layer."""
    for name in layers:
        holds, hint = right(before, zero, name)
        count = int(zero[name].sum())
        remark = off_by(count, SIZES[name] // 4) if holds is not False else ""
        yield Finding(holds, f"{name}: {count:,} of {SIZES[name]:,} weights are masked{remark}", hint, points)


def by_hand(task: Task, findings: Sequence[Finding], before: Weights | None) -> Verdict:
    """A verdict on masks or weights that belong to a network; a flag if that one is not known."""
    odd = [f"{task.name}: the network that this answer belongs to was not handed in"] if before is None else []
    return Verdict(task, findings, odd if findings else [])
