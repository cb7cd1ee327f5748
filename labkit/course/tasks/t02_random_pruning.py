"""The tasks of notebook 02."""

from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, Evidence, Pruned, follows_the_start, looks_random
from labkit.course.given import mask_of
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, Verdict, first_hint
from labkit.plots import VERMILION


def _random_mask(task: Task, mask: object, evidence: Evidence) -> Verdict:
    """02: exactly a quarter of conv1, chosen at random."""
    before, zero = evidence.before, {"conv1": judging.zeros_of(mask, "conv1", "mask_by_hand")}
    count = int(zero["conv1"].sum())
    if count == 0:
        return Verdict(task)
    hints = {
        "all weights are masked": count == 288,
        "a 1 keeps a weight, a 0 drops it: choose exactly 72 zeros": count == 216,
        f"draw exactly a quarter{judging.off_by(count, 72)}": judging.off_by(count, 72) != "",
    }
    coin = "a coin for each weight gives about a quarter; choose exactly 72, those with the largest random numbers"
    exact = Finding(count == 72, f"{count} of 288 weights are masked", first_hint(hints, coin))
    why = looks_random(before, zero, ["conv1"]) if count < 288 else "nothing was chosen"
    text = "chosen without preference"
    if count < 288 and follows_the_start(before, zero):
        text += "; but it follows the signs of the weights: did you use the training's seed? Use SEED + 1"
    return Verdict(task, [exact, Finding(not why, text, f"{why}; choose at random")])


def _random_zeros(pruned: Pruned) -> list[Finding]:
    """02: 25 % of each convolution, chosen at random."""
    amounts = judging.quarters(pruned)
    why = looks_random(pruned.before, pruned.zero, CONVOLUTIONS)
    shares = [pruned.share([name]) for name in CONVOLUTIONS]
    random: bool | None = max(shares) < 1 and max(shares) > 0.01 and not why
    if random and pruned.before is None:
        random = judging.if_known(None, amounts)
    hint = f"{why}; a random choice looks neither at the weight nor at its place"
    hint = hint if why else "so few or so many zeros do not show how they were chosen"
    return [amounts, Finding(random, "chosen without preference", hint, 2), judging.rest_untouched(pruned)]


def _same_dice(pruned: Pruned) -> list[str]:
    flag = "CNN_MNIST_RND: the zeros of conv1 follow its weights; was the mask made with the training's seed?"
    suspicious = follows_the_start(pruned.before, pruned.zero)
    return [flag] if suspicious and not looks_random(pruned.before, pruned.zero, CONVOLUTIONS) else []


TITLE = "25 % of conv1, conv2, conv3 at random"
RANDOM_NETWORK = judging.pruned_network(_random_zeros, _same_dice)
AGAIN = f"{judging.CELL_WRITTEN.format('prune_at_random', 'CNN_MNIST_RND')}; {judging.LAYER}"
STYLE = Style("v", VERMILION, "RND: 25 % at random")
TASKS = (
    judging.accuracy_prediction("02", "accuracy after 25 % at random", "CNN_MNIST_RND"),
    Task("02-mask", "a random mask by hand", 2, _random_mask, lambda mask: mask_of("conv1", mask)),
    judging.network_task("02-network", TITLE, 4, RANDOM_NETWORK, "CNN_MNIST_RND", AGAIN, STYLE, untrained=True),
)
