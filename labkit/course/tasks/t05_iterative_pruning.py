"""The tasks of notebook 05."""

from typing import Any

from labkit.cnn import CNN
from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, SIZES, Evidence, Pruned, preference, smallest_were_zeroed
from labkit.course.given import own_copy, tensor
from labkit.course.task import ROUNDS as AGAIN
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict
from labkit.plots import GREEN

LOCAL = f"if prune_and_train is written by now: {AGAIN.format('CNN_MNIST_FNC')}"
# Zeros after ten rounds of 10 %, each rounded as the library rounds; by hand one may round ten times the other way.
ITERATIVE = {"conv1": 187, "conv2": 12_005, "conv3": 48_021}


def _second_round(task: Task, mask: Any, evidence: Evidence) -> Verdict:
    """05: conv2 after two rounds of 10 % of what is left."""
    before = evidence.before
    zero = {"conv2": judging.zeros_of(mask, "conv2", "mask_by_hand")}
    if not zero["conv2"].any():
        return Verdict(task)
    count = int(zero["conv2"].sum())
    remark = judging.off_by(count, 3_502)
    exact = Finding(
        abs(count - 3_502) <= judging.TIES, f"{count:,} of 18,432 weights are masked{remark}", _hint_for_two(count), 2
    )
    holds = judging.by_hand_or_not(before, lambda weights: smallest_were_zeroed(weights, zero, ["conv2"]))
    holds = False if count == SIZES["conv2"] else holds
    hint = "the smallest |w| are to go: compare |w|, not w, and keep what the first round masked"
    return judging.by_hand(task, [exact, Finding(holds, "the smallest |w| went", hint, 1)], before)


def _hint_for_two(count: int) -> str:
    hint = f"{count:,} are masked: the second round takes a tenth of the survivors, and the first mask stays"
    for usual, said in {
        1_843: "that is one round: the second starts from the mask of the first",
        1_659: "that is the second round alone: multiply with the mask of the first",
        3_686: "that is twice a tenth of all: the threshold of the second round is found among the survivors",
        4_995: "that is three rounds: the mask starts from ones, and the loop makes two",
        14_930: "a 1 keeps a weight, a 0 drops it",
    }.items():
        if abs(count - usual) <= judging.TIES:
            return f"{hint}; {said}"
    return hint


def _iterative_network(task: Task, network: CNN, evidence: Evidence) -> Verdict:
    """05: ten rounds of 10 % of what is left in each convolution, with training after each."""
    found, _ = judging.read_task(task, network, evidence)
    if judging.is_blank(found):
        return Verdict(task)
    zeros = {name: found.zeros([name]) for name in CONVOLUTIONS}
    text = "zeros in " + ", ".join(f"{name}: {zeros[name]:,} of {SIZES[name]:,}" for name in CONVOLUTIONS)
    right = all(abs(zeros[name] - ITERATIVE[name]) <= judging.ROUNDS for name in CONVOLUTIONS)
    hint = judging.hint_for_rounds(sum(zeros.values()) / found.weights(CONVOLUTIONS))
    if found.zeros(["fc"]) > judging.TIES:
        right, hint = False, "fc has zeros: which layers were asked for?"
    counts = Finding(right, text, hint, 2)
    chosen = (
        _small_went(found, counts, 1) if sum(zeros.values()) else Finding(False, "small weights went", "none went", 1)
    )
    findings = [
        counts,
        chosen,
        judging.was_trained(network, found, evidence.candidates),
        judging.still_useful(network, evidence),
    ]
    return Verdict(task, judging.run_again(findings, task), judging.in_one_step(task, found))


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


TASKS = (
    judging.prediction_task("05", "zeros after ten times 10 %", judging.PERCENT, 1, 100, 100, 65.13, "%"),
    Task("05-mask", "the mask of a second round by hand", 3, _second_round, tensor),
    Task(
        "05-network",
        "ten rounds of 10 % L1, each with training",
        5,
        _iterative_network,
        own_copy,
        "CNN_MNIST_FNC",
        again=LOCAL,
        levels=(judging.USEFUL,),
        style=Style("P", GREEN, "FNC: ten local rounds"),
    ),
)
