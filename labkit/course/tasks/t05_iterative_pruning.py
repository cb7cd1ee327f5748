"""The tasks of notebook 05."""

from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, SIZES, Evidence, Pruned
from labkit.course.given import mask_of
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict, first_hint
from labkit.plots import GREEN

# Zeros after ten rounds of 10 %, each rounded as the library rounds; by hand one may round ten times the other way.
ITERATIVE = {"conv1": 187, "conv2": 12_005, "conv3": 48_021}
# Number of zeros of conv2 -> how they come about.
USUAL_COUNTS = {
    1_843: "that is only one round: the second starts from the mask of the first",
    1_659: "that is only the second round: multiply it with the mask of the first",
    3_686: "that is twice a tenth of all: find the threshold of the second round among the survivors",
    4_995: "that is three rounds: start the mask from ones, and let the loop make two rounds",
    14_930: "a 1 keeps a weight, a 0 drops it",
}


def _second_round(task: Task, mask: object, evidence: Evidence) -> Verdict:
    """05: conv2 after two rounds of 10 % of what is left."""
    zero = {"conv2": judging.zeros_of(mask, "conv2", "mask_by_hand")}
    return judging.by_hand(task, Pruned(zero, evidence.before), _two_rounds)


def _two_rounds(mask: Pruned) -> list[Finding]:
    count = mask.zeros(["conv2"])
    hint = f"{count:,} are masked: the second round takes a tenth of the survivors and keeps the first mask"
    usual = {f"{hint}; {origin}": abs(count - zeros) <= judging.TIES for zeros, origin in USUAL_COUNTS.items()}
    exact = judging.counted(count, 3_502, SIZES["conv2"], "are masked", first_hint(usual, hint), 2)
    holds = mask.smallest_went(["conv2"]) if count < SIZES["conv2"] else False
    hint = "mask the smallest |w|: compare |w|, not w, and keep what the first round masked"
    return [exact, Finding(holds, "the smallest |w| were pruned", hint)]


def _amount(pruned: Pruned) -> tuple[bool, str]:
    """05: 10 % of what is left in each convolution, ten times."""
    right = all(abs(pruned.zeros([name]) - ITERATIVE[name]) <= judging.ROUNDS for name in CONVOLUTIONS)
    return right, judging.zeros_in_words(pruned)


def _small_went(pruned: Pruned, amount: Finding) -> Finding:
    """Iterated pruning is not judged by a threshold: weights that stayed may have shrunk since. The drift is clear."""
    if not pruned.zeros(CONVOLUTIONS):
        return Finding(False, judging.SMALL_WENT, "none went")
    leans = [pruned.lean([name]) for name in CONVOLUTIONS]
    holds = None if pruned.before is None else max(leans) < 0 and min(leans) < -6
    return Finding(judging.if_known(holds, amount), judging.SMALL_WENT, judging.NOT_SMALL)


ROUNDS = judging.rounds_of_pruning(_amount, _small_went)
TITLE = "ten rounds of 10 % L1, each with training"
AGAIN = judging.LOOP_WRITTEN.format("CNN_MNIST_FNC")
STYLE = Style("P", GREEN, "FNC: ten local rounds")
TASKS = (
    judging.prediction_task("05", "zeros after ten times 10 %", judging.PERCENT, 1, 100, 100, 65.13, "%"),
    Task("05-mask", "the mask of a second round by hand", 3, _second_round, lambda mask: mask_of("conv2", mask)),
    judging.network_task("05-network", TITLE, 5, ROUNDS, "CNN_MNIST_FNC", AGAIN, STYLE, levels=(judging.USEFUL,)),
)
