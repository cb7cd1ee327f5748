"""The tasks of notebook 04."""

from collections.abc import Mapping, Sequence

from labkit.course import judging
from labkit.course.evidence import CONVOLUTIONS, SHAPES, Pruned, channel_norms, empty_channels, lowest_went
from labkit.course.given import tensors
from labkit.course.task import Style, Task
from labkit.course.verdict import Finding, first_hint
from labkit.plots import ORANGE

CHANNELS = {"conv1": 4, "conv2": 8, "conv3": 16}  # 1/8 of each
LIVE = "some zeros are in channels that still have other weights; which"


def _channel_mask(masks: Pruned, name: str) -> tuple[bool | None, str]:
    """04: the eighth of channels of least L2 norm of a convolution."""
    empty, channels = masks.empty(name), SHAPES[name][0]
    if masks.scattered(name):
        return False, f"{LIVE} index numbers the output channels?"
    if empty != CHANNELS[name]:
        inverted = empty == channels - CHANNELS[name]
        hint = "a 1 keeps a weight, a 0 drops it: the channels that go get the zeros. " if inverted else ""
        return False, f"{hint}{empty} are masked; an eighth of {channels} channels was asked for: {CHANNELS[name]}"
    by_l1 = masks.least_channels_went([name], 1)
    hints = {
        "these have the smallest L1 norms; the L2 norm is the root of the sum of the squares": by_l1,
        "the channels with the largest L2 norms are masked; mask those with the smallest": _largest_went(masks, [name]),
    }
    hint = "a channel with a larger L2 norm is masked, a smaller one is kept: squares, their sum, the root?"
    return masks.least_channels_went([name]), first_hint(hints, hint) if masks.before is not None else ""


def _largest_went(pruned: Pruned, layers: Sequence[str]) -> bool:
    """Whether the channels of largest L2 norm of each of these layers went."""
    before, zero = pruned.before or {}, pruned.zero
    return bool(before) and all(lowest_went(-channel_norms(before[x]), empty_channels(zero[x])) for x in layers)


@judging.pruned_network
def _structured_network(pruned: Pruned) -> list[Finding]:
    """04: the 1/8 of channels of least L2 norm of each convolution."""
    empty = {name: pruned.empty(name) for name in CONVOLUTIONS}
    text = "channels without weights: " + ", ".join(f"{empty[n]} of {SHAPES[n][0]} in {n}" for n in CONVOLUTIONS)
    # Up to TIES: trained without its mask, a live channel may hold an exact zero on one processor and not on another.
    scattered = ", ".join(name for name in CONVOLUTIONS if pruned.scattered(name) > judging.TIES)
    where = f"{scattered}: {LIVE} dim numbers the output channels?" if scattered else ""
    count = Finding(empty == CHANNELS, text, where or _hint_for_channels(empty))
    whole_channels = not scattered and any(empty.values())
    whole = Finding(whole_channels, "zeros fill whole output channels", where or "no whole channel was pruned")
    holds = judging.if_known(pruned.least_channels_went(CONVOLUTIONS), count) if all(empty.values()) else False
    by_l1 = pruned.least_channels_went(CONVOLUTIONS, 1)
    hints = {
        "some layer has no empty channel, so there is nothing to compare": not all(empty.values()),
        "these have the smallest L1 norms: which norm does the task name? n=2 is the L2 norm": by_l1,
        "the channels with the largest norms went; prune the smallest": _largest_went(pruned, CONVOLUTIONS),
    }
    hint = "a channel with a larger norm went, a smaller one stayed: which norm (n), of which weights?"
    norm = Finding(holds, "they had the smallest L2 norms of their layer", first_hint(hints, hint))
    return [count, whole, norm, judging.rest_untouched(pruned)]


def _hint_for_channels(empty: Mapping[str, int]) -> str:
    name = next((name for name in CONVOLUTIONS if empty[name] != CHANNELS[name]), "conv1")
    equal = {*empty.values()} == {empty[name]} and empty[name] in (1, 8, 12)
    hints = {
        judging.ALL_GONE.format(name): empty[name] == SHAPES[name][0],
        f"{name}: no channel is empty. {judging.REACH.format(name)}": empty[name] == 0,
        f"{name}: a whole number as amount counts channels, a decimal number is a share": equal,
        f"{name}: {judging.PRUNED_TWICE}": empty["conv3"] == 30,
    }
    return first_hint(hints, f"{name}: an eighth of {SHAPES[name][0]} channels was asked for")


CHANNEL_MASKS = judging.masks_by_hand(judging.of_each_mask(_channel_mask), *CONVOLUTIONS)
TITLE = "1/8 of the channels by L2 norm"
AGAIN = judging.PRUNING_WRITTEN.format("CNN_MNIST_STRUCT")
STYLE = Style("D", ORANGE, "STRUCT: 1/8 of the channels")
TASKS = (
    judging.accuracy_prediction("04", "accuracy without 1/8 of the channels", "CNN_MNIST_STRUCT"),
    Task("04-masks", "three masks of channels by hand", 3, CHANNEL_MASKS, tensors(*CONVOLUTIONS)),
    judging.network_task("04-network", TITLE, 4, _structured_network, "CNN_MNIST_STRUCT", AGAIN, STYLE, untrained=True),
)
