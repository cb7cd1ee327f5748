"""What holds of a piece of work, with reasons: pure functions from networks, masks and numbers to verdicts.

The check cells of the notebooks and the grader both judge here, so they give the same points. Nothing is printed,
nothing is read from a file, and no student's code is run.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from labkit.cnn import CNN
from labkit.course import hints
from labkit.course.methods import (
    ALL_LAYERS,
    CONVOLUTIONS,
    METHODS,
    SHAPES,
    SIZES,
    Pruned,
    Weights,
    channel_norms,
    dense_weights,
    empty_channels,
    follows_the_start,
    largest_were_zeroed,
    least_channels_went,
    looks_random,
    lowest_were_zeroed,
    preference,
    read_pruning,
    smallest_were_zeroed,
    strongest_preference,
    whole_channels,
    zeros_in_live_channels,
)
from labkit.course.tasks import ROUNDS as AGAIN
from labkit.course.tasks import TASKS, Task
from labkit.smaller.cost import multiply_adds
from labkit.sparsity import effective_weight, prunable_layers, zero_channels
from labkit.study.budgets import choose_masks
from labkit.study.criteria import lamp_scores

CHANNELS = {"conv1": 4, "conv2": 8, "conv3": 16}  # 1/8 of each
WORK_CUT = {"conv1": 112_896, "conv2": 903_168, "conv3": 460_800, "fc": 16_000}  # half of the channels gone
CUT_SHAPES = {"conv2": (32, 16, 3, 3), "fc": (10, 1600)}
SMALL = 357_104  # a sixteenth of the multiply-adds of CNN()
SPARSE, LAMP_KEPT = 800, 10_000  # weights that stay in 08
WORK = {"conv1": 225_792, "conv2": 3_612_672, "conv3": 1_843_200, "fc": 32_000}
# Zeros after ten rounds of 10 %, each rounded as the library rounds; by hand one may round ten times the other way.
ITERATIVE = {"conv1": 187, "conv2": 12_005, "conv3": 48_021}
GLOBAL_ZEROS, ROUNDS = 60_215, 10
TIES = 3  # where |w| ties at the threshold, `>` and the library's choice of k weights differ by a few
TRAINED = 0.93  # accuracy of a network that has been trained: five epochs give 0.99, quick mode 0.96 to 0.97
GOOD = 0.95  # ... and of one with 800 weights that went there in steps: 0.97
USEFUL = 0.90  # ... and of one that was pruned and trained again

SHARE = "a share between 0 and 1 was asked for: 0.75 for 75 %"
PERCENT = "a number of percent, from 0 to 100, was asked for: 75 for 75 %"
# Notebook -> least and most that a prediction may be, and what was asked for.
PREDICTIONS: Mapping[str, tuple[float, float, str]] = {
    "01": (0, float("inf"), "a loss, 0 or more, was asked for, such as 0.5"),
    "02": (0, 1, SHARE),
    "03": (0, 1, SHARE),
    "04": (0, 1, SHARE),
    "05": (1, 100, PERCENT),
    "06": (0, 100, PERCENT),
    "07": (0, 10, "how many times as large was asked for: 0.5 would be half as large"),
    "08": (1, sum(SIZES.values()), "a number of weights, from 1 to 124,448, was asked for, such as 5000"),
}

Accuracy = Callable[[CNN], float]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        holds: whether it is so; None if the files can not tell, which costs nothing.
        text: what was looked at, and what was found.
        hint: where to look if it does not hold.
        points: what it is worth.
    """

    holds: bool | None
    text: str
    hint: str = ""
    points: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What was found about one task.

    Attributes:
        task: the task.
        findings: what was looked at; empty if the task was not attempted.
        flags: questions for the instructor; they never cost a point.
    """

    task: Task
    findings: Sequence[Finding] = ()
    flags: Sequence[str] = ()

    @property
    def attempted(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.findings)

    @property
    def points(self) -> float:
        """Points: what holds, and what can not be decided."""
        return float(sum(finding.points for finding in self.findings if finding.holds is not False))


class Unfit(ValueError):
    """An answer of a kind that can not be judged; its message says what was received and what is needed."""


# Networks that were pruned and not trained


def _check_shapes(network: CNN) -> None:
    for name, layer in prunable_layers(network).items():
        if name not in SHAPES or tuple(effective_weight(layer).shape) != SHAPES[name]:
            raise Unfit(f"{name} has weights {tuple(effective_weight(layer).shape)}; the layers must be those of CNN()")


def _pruned(task: str, network: CNN, candidates: Mapping[str, Weights]) -> tuple[Task, Pruned, list[str]]:
    _check_shapes(network)
    found = read_pruning(network, candidates)
    flags = []
    if not found.origin and _something_went(found, ALL_LAYERS):
        flags.append(f"{TASKS[task].network} was not made from the CNN_MNIST that was handed in, nor from a reference")
    return TASKS[task], found, flags


def _is_blank(found: Pruned) -> bool:
    """A clone that nothing was done to."""
    return found.zeros() == 0 and bool(found.origin)


def _amounts(found: Pruned, points: float, slack: int = 0) -> Finding:
    wanted = {name: SIZES[name] // 4 for name in CONVOLUTIONS}
    zeros = {name: found.zeros([name]) for name in wanted}
    text = "zeros in " + ", ".join(f"{name}: {count:,} of {SIZES[name]:,}" for name, count in zeros.items())
    text += "".join(hints.off_by(zeros[name], wanted[name], f"; {name}: ") for name in wanted)
    wrong = [name for name in wanted if abs(zeros[name] - wanted[name]) > slack]
    share = zeros[wrong[0]] / SIZES[wrong[0]] if wrong else 0.0
    hint = _hint_for_amount(share, wrong[0], zeros[wrong[0]]) if wrong else ""
    alike = set(zeros.values())
    if len(alike) == 1 and 0 < min(alike) < SIZES["conv1"]:
        hint = f"{min(alike)} zeros in each layer: a whole number as amount counts weights, 0.25 is a quarter"
    if not _something_went(found):
        hint = f"{wrong[0]} has no zeros to speak of: was it pruned, on this very network, and is its mask still there?"
    return Finding(not wrong, text, hint, points)


def _something_went(found: Pruned, layers: Sequence[str] = CONVOLUTIONS) -> bool:
    """Whether these layers were pruned, be it by a single weight.

    Where a mask was removed and training went on, a few weights are still exactly zero, or none: that depends on the
    last digits of the processor. A single zero is a deed only where a mask holds it, or the weights before are known.
    """
    return found.zeros(layers) > (0 if found.before is not None else found.weights(layers) // 100)


def _hint_for_amount(share: float, layer: str, zeros: int) -> str:
    if zeros == 0:
        return f"{layer} has no zero: was it pruned, on this very network? {hints.REACH.format(layer)}"
    if zeros == SIZES[layer]:
        return f"nothing is left of {layer}: a decimal amount is a share, and 1.0 is all of it"
    if zeros in (1, 2, 25):
        return f"{layer}: a whole number as amount counts weights, a decimal one is a share"
    if abs(share - 0.4375) < 0.002 or abs(share - 15 / 64) < 0.002:
        return f"{layer}: that is what two prunings make, the second of what the first has left; start from a clone"
    if abs(share - 0.75) < 0.01:
        return f"{layer} has {share:.2%} zeros: an amount is the share that goes; a 0 in a mask drops a weight"
    return f"{layer} has {share:.2%} zeros: is it the amount that was asked for, taken once?"


def _rest_untouched(found: Pruned, points: float, layers: Sequence[str] = ("fc",)) -> Finding:
    touched = [name for name in layers if found.zeros([name]) > TIES]  # a weight may start as exactly 0
    text = f"{' and '.join(layers)} untouched"
    hint = f"{', '.join(touched)} has zeros: which layers were asked for?" if touched else "nothing was pruned"
    return Finding(not touched and _something_went(found), text, hint, points)


def _by_hand_or_not(
    before: Weights | None, holds: Callable[[Weights], bool], amount: Finding | None = None
) -> bool | None:
    """Whether it holds; None if the weights before are unknown, where at least the amount is right."""
    if before is None:
        return None if amount is None or amount.holds else False
    return holds(before)


def _unless_trained_since(found: Pruned, holds: bool | None, layers: Sequence[str]) -> bool | None:
    """None instead of False where the weights before are not certain, but small ones were clearly preferred.

    Momentum and weight decay move hidden weights too: after some training a threshold can no longer be seen.
    """
    if holds is not False or found.certain or found.before is None:
        return holds
    leans = [preference(found.before[x].abs(), found.zero[x]) / strongest_preference(found.zero[x]) for x in layers]
    return None if max(leans) < -0.8 else False


def random_network(network: CNN, candidates: Mapping[str, Weights]) -> Verdict:
    """02: 25 % of each convolution, chosen by dice."""
    task, found, flags = _pruned("02-network", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    amounts = _amounts(found, 1, TIES)
    why = looks_random(found.before, found.zero, CONVOLUTIONS)
    shares = [found.share(name) for name in CONVOLUTIONS]
    random: bool | None = max(shares) < 1 and any(share > 0.01 for share in shares) and not why
    if follows_the_start(found.before, found.zero) and not why:
        flags.append(
            "CNN_MNIST_RND: the zeros of conv1 follow its weights; was the mask drawn with the training's seed?"
        )
    hint = (
        f"{why}; dice look neither at the weight nor at its place" if why else "there is no choice in so few or so many"
    )
    if random and found.before is None:
        random = None if amounts.holds else False
    chosen = Finding(random, "chosen without preference", hint, 2)
    return Verdict(task, [amounts, chosen, _rest_untouched(found, 1)], flags)


def l1_network(network: CNN, candidates: Mapping[str, Weights]) -> Verdict:
    """03: the 25 % of smallest |w| of each convolution."""
    task, found, flags = _pruned("03-network", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    amounts = _amounts(found, 1, TIES)

    def smallest(before: Weights) -> bool:
        some = [0 < found.share(name) < 1 for name in CONVOLUTIONS]
        return all(some) and all(smallest_were_zeroed(before, found.zero, [name]) for name in CONVOLUTIONS)

    holds = _unless_trained_since(found, _by_hand_or_not(found.before, smallest, amounts), CONVOLUTIONS)
    chosen = Finding(holds, "in each layer no zeroed weight was larger than a kept one", _hint_for_l1(found), 2)
    return Verdict(task, [amounts, chosen, _rest_untouched(found, 1)], flags)


def _hint_for_l1(found: Pruned) -> str:
    if found.before is None or not found.zeros(CONVOLUTIONS):
        return "nothing was chosen"
    wrong = [n for n in CONVOLUTIONS if not smallest_were_zeroed(found.before, found.zero, [n])]
    if not wrong:
        empty = [name for name in CONVOLUTIONS if not 0 < found.share(name) < 1]
        return f"{', '.join(empty)}: there is no choice in none or all"
    name = wrong[0]
    if whole_channels(found.zero[name]) and found.zeros([name]):
        return f"{name}: whole channels are zero; here single weights were asked for"
    lean = preference(found.before[name].abs(), found.zero[name])
    if smallest_were_zeroed(found.before, found.zero, CONVOLUTIONS):
        return f"{name}: the three layers share one threshold, as with global pruning; here each layer has its own"
    if lowest_were_zeroed(found.before[name], found.zero[name]):
        return f"{name}: the most negative weights went, on the wrong side of a threshold: compare |w|, not w"
    if largest_were_zeroed(found.before[name], found.zero[name]):
        return f"{name}: the largest |w| went, the smallest were to; in a mask a 1 keeps a weight, a 0 drops it"
    if abs(lean) < 4:
        return f"{name}: large weights went as often as small ones; did the method look at the weights?"
    return f"{name}: some weights were kept or dropped on the wrong side of the threshold on |w|"


def structured_network(network: CNN, candidates: Mapping[str, Weights]) -> Verdict:
    """04: the 1/8 of channels of least L2 norm of each convolution."""
    task, found, flags = _pruned("04-network", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    empty = {name: int(empty_channels(found.zero[name]).sum()) for name in CONVOLUTIONS}
    text = "channels without weights: " + ", ".join(f"{empty[n]} of {SHAPES[n][0]} in {n}" for n in CONVOLUTIONS)
    wrong = next((name for name in CONVOLUTIONS if empty[name] != CHANNELS[name]), "conv1")
    # Up to TIES: trained without its mask, a live channel may hold an exact zero on one processor and not on another.
    scattered = [name for name in CONVOLUTIONS if zeros_in_live_channels(found.zero[name]) > TIES]
    where = f"{', '.join(scattered)}: some zeros are in channels that live on; which dim numbers the output channels?"
    hint = where if scattered else "no channel of a convolution went"
    count = Finding(empty == CHANNELS, text, where if scattered else _hint_for_channels(found, wrong, empty[wrong]), 1)
    whole = Finding(not scattered and any(empty.values()), "zeros fill whole output channels", hint, 1)

    def least(before: Weights) -> bool:
        return all(least_channels_went(before[name], found.zero[name]) for name in CONVOLUTIONS)

    holds = _by_hand_or_not(found.before, least, count)
    if not all(empty.values()):
        holds = False
    hint = "a channel of larger norm went, a smaller one stayed: which norm was asked for (n), of which weights?"
    if found.before and all(least_channels_went(found.before[name], found.zero[name], 1) for name in CONVOLUTIONS):
        hint = "these have the least L1 norms: which norm was asked for? n=2 is the L2 norm"
    elif found.before and all(
        largest_were_zeroed(channel_norms(found.before[name]), empty_channels(found.zero[name]))
        for name in CONVOLUTIONS
    ):
        hint = "the channels of the largest norms went; those of the smallest were to"
    if not all(empty.values()):
        hint = "no whole channel went in every layer, so there is nothing to compare"
    norm = Finding(holds, "they had the least L2 norms of their layer", hint, 1)
    return Verdict(task, [count, whole, norm, _rest_untouched(found, 1)], flags)


def _hint_for_channels(found: Pruned, name: str, empty: int) -> str:
    if empty == SHAPES[name][0]:
        return f"nothing is left of {name}: a decimal amount is a share, and 1.0 is all of it"
    if empty == 0:
        return f"{name}: no channel is empty. {hints.REACH.format(name)}"
    if empty in (1, 8, 12) and len({int(empty_channels(found.zero[x]).sum()) for x in CONVOLUTIONS}) == 1:
        return f"{name}: a whole number as amount counts channels, a decimal one is a share"
    if int(empty_channels(found.zero["conv3"]).sum()) == 30:
        return f"{name}: that is what two prunings make, the second of what the first has left; start from a clone"
    return f"{name}: an eighth of {SHAPES[name][0]} channels was asked for"


def global_network(network: CNN, candidates: Mapping[str, Weights]) -> Verdict:
    """06: the 25 % of smallest |w| of all four layers together."""
    task, found, flags = _pruned("06-network", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    zeros, weights = found.zeros(), found.weights()
    total = Finding(
        abs(zeros - weights // 4) <= TIES,
        f"{zeros:,} of {weights:,} weights are zero{hints.off_by(zeros, weights // 4)}",
        _hint_for_global(found, zeros, weights),
        1,
    )

    def one_threshold(before: Weights) -> bool:
        return 0 < zeros < weights and smallest_were_zeroed(before, found.zero, ALL_LAYERS)

    holds = _unless_trained_since(found, _by_hand_or_not(found.before, one_threshold, total), CONVOLUTIONS[1:])
    shares = [found.share(name) for name in ALL_LAYERS]
    hint = "a zeroed weight of one layer was larger than a kept one of another; rank all layers together"
    if zeros > 0 and not found.zeros(["fc"]):
        hint = "fc is not in the ranking; rank all layers together, fc too"
    if max(shares) - min(shares) < 0.005:
        hint = "every layer gave the same share: that is one threshold for each layer; rank all layers together"
    if found.before is not None and zeros > 100 and _at_random(found.before, found.zero, ALL_LAYERS):
        hint = "large weights went as often as small ones: rank all layers together by |w|"
    ranked = Finding(holds, "over all layers no zeroed weight was larger than a kept one", hint, 2)
    took_part = Finding(found.zeros(["fc"]) > TIES, "fc took part", "which layers were to be ranked together?", 1)
    return Verdict(task, [total, ranked, took_part], flags)


def _at_random(before: Weights, zero: Weights, layers: Sequence[str]) -> bool:
    """Whether the zeros of all these layers show no preference for small or large weights."""
    return all(abs(preference(before[name].abs(), zero[name])) < 4 for name in layers)


def _hint_for_global(found: Pruned, zeros: int, weights: int) -> str:
    if not _something_went(found, ALL_LAYERS):
        return f"{zeros / weights:.2%} of the weights are zero: was this network pruned, and is its mask still there?"
    if zeros <= 100:
        return f"{zeros} zeros: a whole number as amount counts weights; 0.25 is 25 % of how many there are"
    if zeros == found.weights(CONVOLUTIONS) // 4 and not found.zeros(["fc"]):
        return "a quarter of the three convolutions alone: 25 % of how many? fc belongs to all layers, too"
    if abs(zeros / weights - 0.4375) < 0.001:
        return "43.75% of the weights are zero: two prunings; 25 % is to be taken once, from a fresh clone"
    return f"{zeros / weights:.2%} of the weights of all four layers are zero: 25 % of how many, and taken once?"


# Networks that were trained


def trained_network(network: CNN, references: Mapping[str, Weights], accuracy: Accuracy) -> Verdict:
    """01: CNN_MNIST, dense and trained. One that equals a reference network is a question: is it a copy?"""
    task = TASKS["01-training"]
    _check_shapes(network)
    weights = dense_weights(network)
    equal = [name for name, other in references.items() if all(torch.equal(weights[x], other[x]) for x in weights)]
    if network.batch1.num_batches_tracked == 0:  # it has never seen a batch
        return Verdict(task)
    reached = accuracy(network)
    zeros = sum(int((effective_weight(layer) == 0).sum()) for layer in prunable_layers(network).values())
    hint = _hint_for_training(int(network.batch1.num_batches_tracked or 0), reached)
    levels = ((0.5, 1.0), (USEFUL, 1.0), (TRAINED, 1.0))
    findings = [Finding(reached >= level, f"at least {level:.0%} of the images right", hint, p) for level, p in levels]
    findings.append(
        Finding(zeros <= TIES, "no weight is zero yet", f"{zeros:,} weights are zero; pruning comes later", 1)
    )
    return Verdict(task, findings, [f"CNN_MNIST is {equal[0]}: trained with its seed, or copied?"] if equal else [])


def _hint_for_training(batches: int, reached: float) -> str:
    """Only the network is known; the number of batches that it has seen tells how far the training ran."""
    optimizer = "did the optimizer get the parameters of this network"
    if batches < 400:  # five epochs of quick mode have 430
        again = "One that was stopped goes on if its cell is run again"
        return (
            f"it has seen {batches:,} batches only: did the training run through all epochs, and {optimizer}? {again}"
        )
    steps = "LinearLR counts steps, not epochs: total_iters=EPOCHS * len(train_loader)"
    if reached < USEFUL:
        return f"it has seen {batches:,} batches and hardly learned: was the rate soon zero? {steps}; {optimizer}?"
    return f"it has seen {batches:,} batches and could learn more: is the rate as given, and zero at the end? {steps}"


def _was_trained(network: CNN, found: Pruned, candidates: Mapping[str, Weights], points: float) -> Finding:
    """Whether the weights that are left have moved away from every network that it may have been made from."""
    same = [
        name
        for name, weights in candidates.items()
        if all(torch.equal(found.kept[x][~found.zero[x]], weights[x][~found.zero[x]]) for x in CONVOLUTIONS)
    ]
    hint = "the weights that are left are exactly those before: whose parameters did the optimizer get?"
    holds = not same and int(network.batch1.num_batches_tracked or 0) > 0
    return Finding(holds, "the weights that are left have been trained", hint, points)


def _still_useful(network: CNN, accuracy: Accuracy, points: float) -> Finding:
    reached = accuracy(network)
    hint = "does every round train after it has pruned, with the gradients of this network?"
    return Finding(reached >= USEFUL, f"at least {USEFUL:.0%} of the images right after the last round", hint, points)


def _small_went(found: Pruned, counts: Finding, points: float) -> Finding:
    """Iterated pruning is not judged by a threshold: weights that stayed may have shrunk since. The drift is clear."""
    holds, hint = (
        None if counts.holds else False,
        "the zeroed weights are no smaller than the kept ones; was it the L1 method?",
    )
    if found.before is not None:
        leans = [preference(found.before[name].abs(), found.zero[name]) for name in CONVOLUTIONS]
        holds = all(lean < 0 for lean in leans) and min(leans) < -6
    return Finding(holds, "small weights went", hint, points)


def iterative_network(network: CNN, candidates: Mapping[str, Weights], accuracy: Accuracy) -> Verdict:
    """05: ten rounds of 10 % of what is left in each convolution, with training after each."""
    task, found, _ = _pruned("05-network", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    zeros = {name: found.zeros([name]) for name in CONVOLUTIONS}
    text = "zeros in " + ", ".join(f"{name}: {zeros[name]:,} of {SIZES[name]:,}" for name in CONVOLUTIONS)
    right = all(abs(zeros[name] - ITERATIVE[name]) <= ROUNDS for name in CONVOLUTIONS)
    hint = _hint_for_rounds(sum(zeros.values()) / found.weights(CONVOLUTIONS))
    if found.zeros(["fc"]) > TIES:
        right, hint = False, "fc has zeros: which layers were asked for?"
    counts = Finding(right, text, hint, 2)
    chosen = (
        _small_went(found, counts, 1) if sum(zeros.values()) else Finding(False, "small weights went", "none went", 1)
    )
    findings = [counts, chosen, _was_trained(network, found, candidates, 1), _still_useful(network, accuracy, 1)]
    return Verdict(task, _run_again(findings, task), _in_one_step("05-network", found))


def _run_again(findings: Sequence[Finding], task: Task) -> list[Finding]:
    """The last hint also says how to start over: after a correction the loop is still full."""
    last = max((number for number, finding in enumerate(findings) if finding.holds is False), default=None)
    said = f" After a change of prune_and_train: {AGAIN.format(task.network)}"
    if last is None:
        return list(findings)
    end = "" if findings[last].hint.endswith("?") else "."
    return [replace(x, hint=x.hint + end + said) if number == last else x for number, x in enumerate(findings)]


def _hint_for_rounds(share: float) -> str:
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


def _pooled_preference(found: Pruned) -> float:
    assert found.before is not None
    sizes = torch.cat([found.before[name].abs().flatten() for name in CONVOLUTIONS])
    return preference(sizes, torch.cat([found.zero[name].flatten() for name in CONVOLUTIONS]))


def _in_one_step(task: str, found: Pruned) -> list[str]:
    """A flag if everything that the masks hide is as it was before the first round."""
    if not found.origin or not found.zeros(CONVOLUTIONS):
        return []
    return [f"{TASKS[task].network}: all hidden weights are still those of {found.origin}; pruned in one step?"]


def global_rounds(network: CNN, candidates: Mapping[str, Weights], accuracy: Accuracy) -> Verdict:
    """06: ten rounds of 10 % of what is left in all three convolutions together, with training after each."""
    task, found, _ = _pruned("06-rounds", network, candidates)
    if _is_blank(found):
        return Verdict(task)
    zeros = found.zeros(CONVOLUTIONS)
    text = f"{zeros:,} of {found.weights(CONVOLUTIONS):,} weights of the convolutions are zero"
    right, hint = abs(zeros - GLOBAL_ZEROS) <= ROUNDS, _hint_for_rounds(zeros / found.weights(CONVOLUTIONS))
    if found.zeros(["fc"]) > TIES:
        right, hint = False, "fc has zeros: which layers were asked for?"
    counts = Finding(right, text, hint, 2)
    shares = [found.share(name) for name in CONVOLUTIONS]
    spread = max(shares) - min(shares)
    hint = "every layer gave the same share: that is one threshold for each layer"
    if not _something_went(found):
        hint = "none went"
    elif spread > 0.02:
        hint = "the zeroed weights are no smaller than the kept ones; was it the L1 method?"
    small = found.before is None or _pooled_preference(found) < -6
    ranked = Finding(spread > 0.02 and small, "small weights went, by one threshold for all layers", hint, 1)
    findings = [counts, ranked, _was_trained(network, found, candidates, 1), _still_useful(network, accuracy, 1)]
    return Verdict(task, _run_again(findings, task), _in_one_step("06-rounds", found))


# Answers that are no network


def prediction(task: str, value: Any) -> Verdict:
    """A number, committed before the measurement. Being right earns nothing more."""
    if value is None:
        return Verdict(TASKS[task])
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15  # NaN: no
    least, most, asked = PREDICTIONS[task[:2]]
    if not number or least <= value <= most:
        text, hint = f"{'a' if number else 'no'} number was written down", f"write a plain number: {asked}"
        return Verdict(TASKS[task], [Finding(number, text, hint, 1)])
    return Verdict(TASKS[task], [Finding(False, f"{value:g} was written down", asked, 1)])


def work(answers: Any) -> Verdict:
    """01: multiply-adds of each layer."""
    return _counted("01-work", answers, WORK, hints.of_work)


def _counted(task: str, answers: Any, rights: Mapping[str, int], hint: Callable[[str, Any], str]) -> Verdict:
    if not isinstance(answers, Mapping):
        raise Unfit(f"work is a {type(answers).__name__}; it must be a dict from layer to a number")
    if not answers:
        return Verdict(TASKS[task])
    findings = []
    for name, right in rights.items():
        given = answers.get(name)
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        said = f"{given:,}" if number else "no number"
        why = hint(name, given)
        if name not in answers:
            why = f"work has no {name!r}; its keys are {', '.join(map(repr, answers))[:80]}; {why}"
        findings.append(Finding(number and given == right, f"{name}: {said}", why, 0.5))
    return Verdict(TASKS[task], findings)


def _zeros_of(mask: Any, name: str, what: str) -> torch.Tensor:
    """Where a mask by hand has zeros; refuses what is no mask."""
    if not isinstance(mask, torch.Tensor):
        raise Unfit(f"{what} is a {type(mask).__name__}; it must be a tensor")
    if tuple(mask.shape) != SHAPES[name]:
        raise Unfit(f"{what} has shape {tuple(mask.shape)}; a mask has the shape of its weights, {SHAPES[name]}")
    zero = mask == 0
    if not bool((zero | (mask == 1)).all()):
        raise Unfit(f"{what} has values other than 0 and 1; the weights are multiplied with it")
    return zero


def _all_zeros_of(masks: Any, layers: Sequence[str]) -> dict[str, torch.Tensor]:
    if not isinstance(masks, Mapping):
        raise Unfit(f"masks are a {type(masks).__name__}; they must be a dict from layer to tensor")
    missing = [name for name in layers if name not in masks]
    if missing:
        raise Unfit(f"there is no mask for {', '.join(missing)}")
    return {name: _zeros_of(masks[name], name, f"the mask of {name}") for name in layers}


def random_mask(mask: Any, before: Weights | None = None) -> Verdict:
    """02: exactly a quarter of conv1, chosen by dice."""
    zero = _zeros_of(mask, "conv1", "mask_by_hand")
    if not zero.any():
        return Verdict(TASKS["02-mask"])
    count = int(zero.sum())
    hint = "a coin for each weight gives about a quarter; draw exactly 72, such as the 72 of largest random number"
    if count in (288, 216):
        hint = "all weights are masked" if count == 288 else "a 1 keeps a weight, a 0 drops it: draw exactly 72 zeros"
    elif hints.off_by(count, 72):
        hint = f"draw exactly a quarter{hints.off_by(count, 72)}"
    exact = Finding(count == 72, f"{count} of 288 weights are masked", hint, 1)
    why = looks_random(before, {"conv1": zero}, ["conv1"]) if count < 288 else "nothing was chosen"
    text = "chosen without preference"
    if 0 < count < 288 and follows_the_start(before, {"conv1": zero}):
        text += "; but it follows the signs of the weights: dice with the training's own seed? Take SEED + 1"
    return Verdict(TASKS["02-mask"], [exact, Finding(not why, text, f"{why}; throw dice", 1)])


def _mask_findings(zero: Weights, before: Weights | None, layers: Sequence[str], right: Any, points: float) -> Any:
    for name in layers:
        holds, hint = right(before, zero, name)
        count = int(zero[name].sum())
        remark = hints.off_by(count, SIZES[name] // 4) if holds is not False else ""
        yield Finding(holds, f"{name}: {count:,} of {SIZES[name]:,} weights are masked{remark}", hint, points)


def l1_masks(masks: Any, before: Weights | None) -> Verdict:
    """03: the quarter of smallest |w| of each convolution."""
    zero = _all_zeros_of(masks, CONVOLUTIONS)
    if not any(gone.any() for gone in zero.values()):
        return Verdict(TASKS["03-masks"])

    def right(before: Weights | None, zero: Weights, name: str) -> tuple[bool | None, str]:
        count = int(zero[name].sum())
        if abs(count - SIZES[name] // 4) > TIES:
            inverted = abs(count - (SIZES[name] - SIZES[name] // 4)) <= TIES
            hint = f"a quarter is {SIZES[name] // 4:,}; the size |w| counts, not the sign"
            if abs(count - round(SIZES[name] * 7 / 16)) <= TIES:
                hint = f"a quarter is {SIZES[name] // 4:,}; a quarter of what a first quarter has left was masked, too"
            if before is not None and smallest_were_zeroed(before, zero, CONVOLUTIONS):
                hint = f"a quarter is {SIZES[name] // 4:,}; the layers share one threshold, and each needs its own"
            if count == 0:
                hint = f"a quarter is {SIZES[name] // 4:,}; nothing is masked: is the mask of {name} still all ones?"
            return False, "a 1 keeps a weight, a 0 drops it" if inverted else hint
        if before is None:
            return None, ""
        hint = "a masked weight is larger than one that is kept: is it |w| of this layer, and of this network?"
        if lowest_were_zeroed(before[name], zero[name]):
            hint = "the most negative weights are masked: compare |w|, not w"
        elif lowest_were_zeroed(-before[name].abs(), zero[name]):
            hint = "the largest |w| are masked; the smallest are to go"
        return smallest_were_zeroed(before, zero, [name]), hint

    return Verdict(TASKS["03-masks"], list(_mask_findings(zero, before, CONVOLUTIONS, right, 1)))


def channel_masks(masks: Any, before: Weights | None) -> Verdict:
    """04: the eighth of channels of least L2 norm of each convolution."""
    zero = _all_zeros_of(masks, CONVOLUTIONS)
    if not any(gone.any() for gone in zero.values()):
        return Verdict(TASKS["04-masks"])

    def right(before: Weights | None, zero: Weights, name: str) -> tuple[bool | None, str]:
        if not whole_channels(zero[name]):
            return False, "some zeros are in channels that live on; which index numbers the output channels?"
        empty, channels = int(empty_channels(zero[name]).sum()), SHAPES[name][0]
        if empty != CHANNELS[name]:
            inverted = empty == channels - CHANNELS[name]
            hint = "a 1 keeps a weight, a 0 drops it: the doomed channels get the zeros. " if inverted else ""
            return False, f"{hint}{empty} are masked; an eighth of {channels} channels was asked for: {CHANNELS[name]}"
        if before is None:
            return None, ""
        hint = "a channel of larger L2 norm is masked, a smaller one is kept: squares, their sum, the root?"
        if least_channels_went(before[name], zero[name], 1):
            hint = "these have the least L1 norms; the L2 norm is the root of the sum of the squares"
        elif lowest_were_zeroed(-channel_norms(before[name]), empty_channels(zero[name])):
            hint = "the channels of largest L2 norm are masked; those of the smallest are to go"
        return least_channels_went(before[name], zero[name]), hint

    return Verdict(TASKS["04-masks"], list(_mask_findings(zero, before, CONVOLUTIONS, right, 1)))


def second_round(mask: Any, before: Weights | None) -> Verdict:
    """05: conv2 after two rounds of 10 % of what is left."""
    zero = {"conv2": _zeros_of(mask, "conv2", "mask_by_hand")}
    if not zero["conv2"].any():
        return Verdict(TASKS["05-mask"])
    count = int(zero["conv2"].sum())
    remark = hints.off_by(count, 3_502)
    exact = Finding(
        abs(count - 3_502) <= TIES, f"{count:,} of 18,432 weights are masked{remark}", _hint_for_two(count), 2
    )
    holds = _by_hand_or_not(before, lambda weights: smallest_were_zeroed(weights, zero, ["conv2"]))
    holds = False if count == SIZES["conv2"] else holds
    hint = "the smallest |w| are to go: compare |w|, not w, and keep what the first round masked"
    return Verdict(TASKS["05-mask"], [exact, Finding(holds, "the smallest |w| went", hint, 1)])


def _hint_for_two(count: int) -> str:
    hint = f"{count:,} are masked: the second round takes a tenth of the survivors, and the first mask stays"
    for usual, said in {
        1_843: "that is one round: the second starts from the mask of the first",
        1_659: "that is the second round alone: multiply with the mask of the first",
        3_686: "that is twice a tenth of all: the threshold of the second round is found among the survivors",
        4_995: "that is three rounds: the mask starts from ones, and the loop makes two",
        14_930: "a 1 keeps a weight, a 0 drops it",
    }.items():
        if abs(count - usual) <= TIES:
            return f"{hint}; {said}"
    return hint


def global_masks(masks: Any, before: Weights | None) -> Verdict:
    """06: the quarter of smallest |w| of all four layers."""
    zero = _all_zeros_of(masks, ALL_LAYERS)
    count = sum(int(gone.sum()) for gone in zero.values())
    if count == 0:
        return Verdict(TASKS["06-masks"])
    hint = f"{count / 124_448:.2%} of all four layers are masked; count them together"
    if abs(count - 3 * 31_112) <= TIES:
        hint += ". A 1 keeps a weight, a 0 drops it"
    if not zero["fc"].any():
        hint += ": fc belongs to the row, too"
    remark = hints.off_by(count, 31_112)
    total = Finding(abs(count - 31_112) <= TIES, f"{count:,} of 124,448 weights are masked{remark}", hint, 1)
    holds = _by_hand_or_not(before, lambda weights: smallest_were_zeroed(weights, zero, ALL_LAYERS))
    holds = False if count == sum(SIZES.values()) else holds
    hint = "a masked weight of one layer is larger than a kept one of another: one threshold for all"
    shares = [float(zero[name].float().mean()) for name in ALL_LAYERS]
    if max(shares) - min(shares) < 0.005:
        hint = "every layer gave the same share, so each has a threshold of its own; make one threshold for all"
    if before is not None and _at_random(before, zero, ALL_LAYERS):
        hint = "large weights are masked as often as small ones: one threshold on |w| for all"
    elif before is not None and all(lowest_were_zeroed(before[name], zero[name]) for name in ALL_LAYERS):
        hint = "the most negative weights are masked: compare |w|, not w; one threshold for all"
    return Verdict(TASKS["06-masks"], [total, Finding(holds, "one threshold for all layers", hint, 2)])


def work_after_cutting(answers: Any) -> Verdict:
    """07: multiply-adds of each layer with half of the channels of each convolution."""
    return _counted("07-work", answers, WORK_CUT, hints.of_work_after_cutting)


def cut_weights(weights: Any, before: Weights | None) -> Verdict:
    """07: conv2 and fc without the halves of least L2 norm of conv1, conv2 and conv3."""
    task = TASKS["07-cut"]
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
    return Verdict(task, findings)


def _cut_by_norm(before: Weights, precision: torch.dtype) -> dict[str, torch.Tensor]:
    norms = {name: before[name].to(precision).flatten(1).norm(dim=1) for name in CONVOLUTIONS}
    kept = {name: norms[name].argsort()[len(norms[name]) // 2 :].sort().values for name in CONVOLUTIONS}
    fc = before["fc"].unflatten(1, (25, 128))[:, :, kept["conv3"]].flatten(1)
    return {"conv2": before["conv2"][kept["conv2"]][:, kept["conv1"]], "fc": fc}


def small_network(network: CNN, accuracy: Accuracy) -> Verdict:
    """07: at most a sixteenth of the multiply-adds of CNN(), by channels that are gone, and trained again."""
    task = TASKS["07-network"]
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
    reached = accuracy(network)
    if reached < USEFUL and network.batch1.num_batches_tracked == 0:  # a new one; one from a sparse file is useful
        return Verdict(task)
    findings = [
        Finding(needed <= SMALL, f"{needed:,} multiply-adds, at most {SMALL:,} were asked for", hint, 1),
        Finding(not masked, "no layer carries a mask", f"{', '.join(masked)}: cut what the mask hides", 1),
    ]
    hint = "after cutting it must train again: whose parameters did the optimizer get?"
    findings.append(Finding(reached >= USEFUL, f"at least {USEFUL:.0%} of the images right", hint, 2))
    return Verdict(task, findings)


def lamp_masks(masks: Any, before: Weights | None) -> Verdict:
    """08: the 10,000 weights of highest LAMP score of all four layers stay."""
    zero = _all_zeros_of(masks, ALL_LAYERS)
    gone = sum(int(layer.sum()) for layer in zero.values())
    if gone == 0:
        return Verdict(TASKS["08-masks"])
    kept = sum(SIZES.values()) - gone
    hint = f"{kept:,} weights stay; count them in all four layers together"
    if abs(gone - LAMP_KEPT) <= TIES:
        hint += f". {LAMP_KEPT:,} are to stay, not to go: a 1 keeps a weight"
    remark = hints.off_by(kept, LAMP_KEPT)
    total = Finding(abs(kept - LAMP_KEPT) <= TIES, f"{kept:,} of 124,448 weights stay{remark}", hint, 1)
    fits = before is not None and all(tuple(before[name].shape) == shape for name, shape in SHAPES.items())
    enough = min(kept, gone) >= 1_000  # else there is next to nothing to compare
    holds = enough and _by_hand_or_not(before if fits else None, lambda weights: _highest_lamp_stayed(weights, zero))
    hint = hints.of_lamp(before if fits else None, zero) if holds is False else ""
    return Verdict(TASKS["08-masks"], [total, Finding(holds, "the highest scores of all layers stayed", hint, 2)])


def _highest_lamp_stayed(weights: Weights, zero: Weights) -> bool:
    """Whether the masks keep the highest scores, but for some that tie or nearly so."""
    scores = {name: lamp_scores(weights[name]).nan_to_num() for name in ALL_LAYERS}  # any network may come in
    everything = {name: torch.ones_like(weights[name]) for name in ALL_LAYERS}
    kept = sum(int((~zero[name]).sum()) for name in ALL_LAYERS)
    right = choose_masks(scores, everything, kept, "global")
    # Sums in float32 move scores in their last digits, and with them the order of neighbours.
    return sum(int(((right[name] == 0) != zero[name]).sum()) for name in ALL_LAYERS) <= 2 * 10 * TIES


def golf_network(network: CNN, accuracy: Accuracy) -> Verdict:
    """08: at most 800 nonzero weights of CNN(), and trained again."""
    task = TASKS["08-golf"]
    _check_shapes(network)
    layers = prunable_layers(network)
    weights = sum(int((effective_weight(layer) != 0).sum()) for layer in layers.values())
    if weights >= sum(SIZES.values()) - TIES:  # a weight may start as exactly 0
        return Verdict(task)  # a clone that nothing was done to
    reached = accuracy(network)
    empty = [name for name, layer in layers.items() if not effective_weight(layer).any()]
    hint = (
        "not in one step: go down in steps, such as 10,000, 4,000, 2,000, 800, and train between; did it train again?"
    )
    if SPARSE < weights <= 10 * SPARSE:
        hint = f"{weights - SPARSE:,} too many: a further step down, then train again. {hint}"
    hint = f"{', '.join(empty)} has no weight left" if empty else hint
    findings = [
        Finding(0 < weights <= SPARSE, f"{weights:,} nonzero weights, at most {SPARSE:,} were asked for", hint, 2),
        Finding(reached >= GOOD, f"at least {GOOD:.0%} of the images right", hint, 2),
    ]
    return Verdict(task, findings)


def detective(answers: Any, truth: Sequence[str], failed: Collection[int] = ()) -> Verdict:
    """09: the method of each of many networks; where two explain it ("A or B"), either is right.

    Args:
        answers: what a student's function said of each network; None where it said nothing.
        truth: the method of each.
        failed: places of the networks on which the function raised an error.
    """
    task = TASKS["09-detective"]
    if not isinstance(answers, (list, tuple)) or len(answers) != len(truth):
        raise Unfit(f"the answers must be names of methods for {len(truth)} networks")
    names = [method_named(answer) for answer in answers]
    if not failed and (all(answer is None for answer in answers) or set(names) == {"random"}):
        return Verdict(task)  # as the function stands in the notebook from the start
    findings = []
    for method in METHODS:
        asked = [number for number, right in enumerate(truth) if method in right.split(" or ")]
        wrong = [number for number in asked if names[number] not in truth[number].split(" or ")]
        text = f"{method}: {len(asked) - len(wrong)} of {len(asked)} named"
        hint = _hint_for_method(answers[wrong[0]], method) if wrong else ""
        if wrong and wrong[0] in failed:
            hint = f"method_of failed on network {wrong[0] + 1}: the error stands below"
        findings.append(Finding(not wrong, text, hint, 1))
    return Verdict(task, findings)


def method_named(answer: Any) -> str | None:
    """The method that an answer names, up to case and blanks; None if it is none of them."""
    said = "".join(answer.casefold().split()) if isinstance(answer, str) else ""
    return next((method for method in METHODS if "".join(method.casefold().split()) == said), None)


def _hint_for_method(answer: Any, right: str) -> str:
    if answer is None:
        return "method_of returned nothing for one of these: does every path through it end in return?"
    if method_named(answer) is None:
        said = f"{answer!r:.40}" if isinstance(answer, str) else f"a {type(answer).__name__}"
        return f"method_of returned {said}; the methods are: {', '.join(METHODS)}"
    return {
        "random": "compare |w| before of what went and what stayed, and look for empty channels",
        "local L1": "is there a threshold in each layer, and is it the same one?",
        "global L1": "is there a threshold, and do the layers give equal shares?",
        "structured L2": "which channels are empty, and by which norm are they the least?",
        "structured L1": "the norms of L1 and L2 do not always agree: which one explains all layers?",
        "random structured": "whole channels went: do their norms tell why?",
    }[right]
