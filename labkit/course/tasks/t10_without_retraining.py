"""The tasks of notebook 10. Its functions are judged by what they make of small tensors whose every number is known."""

from collections.abc import Mapping, Sequence

import torch

from labkit.course import judging
from labkit.course.evidence import Evidence
from labkit.course.given import number, numbers_of, tensor
from labkit.course.task import Judging, Task
from labkit.course.verdict import Finding, Unfit, Verdict, first_hint
from labkit.large.activations import wanda_scores
from labkit.large.compensation import compensate
from labkit.large.two_four import mask_2_4

PLACES, COLUMNS = torch.arange(20)[:, None], torch.arange(8)
INPUTS = ((3 * PLACES + 5 * COLUMNS + PLACES * COLUMNS) % 11 - 4.0) * (1 + COLUMNS % 3)  # (places, inputs)
WEIGHT = torch.tensor([[4.0, -1, 2, 3, -2, 1, 5, -3], [1, 2, -5, 1, 3, -4, -1, 2], [-2, 3, 1, -1, 2, 5, -3, 4]])
MASK = torch.tensor([[1.0, 0, 0, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 1, 0, 1]])
SIZES = WEIGHT.abs()
# The highest half of each row; NaN: a tie.
HALF = torch.tensor([[1, 0, 0, 1, 0, 0, 1, 1], [0, torch.nan, 1, 0, 1, 1, 0, torch.nan], [0, 1, 0, 0, 0, 1, 1, 1]])
WORK = {"query": 114_688, "out": 114_688, "up": 458_752, "down": 458_752}  # of a block of RowTransformer()
WORK_CUT = {"query": 57_344, "out": 57_344, "up": 114_688, "down": 114_688}  # 2 of 4 heads, 64 of 256 channels left
SIDES = {
    "query": "a head is 16 of the 64 numbers that query writes; it still reads 64",
    "out": "out reads the heads that stay, 16 numbers each, and still writes 64",
    "up": "up writes the channels that stay, and still reads 64 numbers",
    "down": "down reads the channels that stay, and still writes 64 numbers",
}


def _tensor(
    text: str, blank: torch.Tensor, rights: Sequence[torch.Tensor], wrong: Mapping[str, torch.Tensor], general: str
) -> Judging:
    """The judge of a tensor that a function made of the known ones; ``wrong``: hint -> what comes of a mistake."""

    def judge(task: Task, given: object, _: Evidence) -> Verdict:
        if not isinstance(given, torch.Tensor) or given.shape != blank.shape:
            raise Unfit(f"it is a {judging.kind_of(given)}; it must be a tensor or array of shape {tuple(blank.shape)}")
        if given.is_complex() or not given.double().isfinite().all():
            raise Unfit("some of its numbers are complex, NaN or infinite; all must be plain finite numbers")
        if _same(given, blank):
            return Verdict(task)
        hint = first_hint({words: _same(given, one) for words, one in wrong.items()}, general)
        return Verdict(task, [Finding(any(_same(given, one) for one in rights), text, hint, task.points)])

    return judge


def _same(given: torch.Tensor, known: torch.Tensor) -> bool:
    """Whether all numbers are as known; where NaN is known, any will do."""
    close = torch.isclose(given.double(), known.double(), rtol=1e-3, atol=1e-3)
    return bool((close | known.isnan()).all())


def _ridge() -> torch.Tensor:
    """As ``compensate``, but the damping pulls towards 0 instead of the old weights: nearly the same, and right."""
    H, new = INPUTS.T @ INPUTS, torch.zeros_like(WEIGHT)
    damped = H + 0.01 * H.diagonal().mean() * torch.eye(len(H))
    for row, kept in enumerate(MASK.bool()):
        new[row, kept] = torch.linalg.solve(damped[kept][:, kept], H[kept] @ WEIGHT[row])
    return new


def _packed(task: Task, given: object, _: Evidence) -> Verdict:
    """10: bytes of fc: half of 32,000 values of four bytes, 64,000, and four bits for each four, 4,000."""
    if given is not None and not judging.is_number(given):
        raise Unfit(f"the size is a {judging.kind_of(given)}; it must be a plain number of bytes")
    if not given:
        return Verdict(task)
    hints = {
        "that is the dense layer: half of its values go": given == 128_000,
        "these are the values; their places need room, too": given == 64_000,
        "two bits are one place; two places are kept of each four": given == 66_000,
        "the places of four weights are four bits, half a byte": given in (72_000, 80_000),
        "those are bits, or counts; bytes were asked for": given in (544_000, 17_000),
    }
    hint = first_hint(hints, "16,000 values of four bytes, and for each of 8,000 fours two places of two bits")
    return Verdict(task, [Finding(given == 68_000, f"{given:,} bytes", hint)])


def _hint_for_work(name: str, given: float) -> str:
    hints = {
        f"that is {name} before cutting": given == WORK[name],
        f"that would be cut on both sides: {SIDES[name]}": given * WORK[name] == WORK_CUT[name] ** 2,
    }
    return first_hint(hints, f"28 tokens × numbers read × numbers written: {SIDES[name]}")


NORMS = INPUTS.norm(dim=0)
WANDA = _tensor(
    "scores |w| · ‖x‖ of three outputs",
    SIZES,
    [wanda_scores(WEIGHT, INPUTS), wanda_scores(WEIGHT, INPUTS) / len(INPUTS) ** 0.5],  # the same order
    {
        "a score has no sign: take |w|": WEIGHT * NORMS,
        "a norm is the root of the sum of squares": SIZES * NORMS.square(),
        "that is the sum of |x|; the norm is the root of the sum of squares": SIZES * INPUTS.abs().sum(dim=0),
        "that is the mean of |x|; the norm is the root of the sum of squares": SIZES * INPUTS.abs().mean(dim=0),
        "these are the norms alone: times |w|": NORMS.expand_as(SIZES),
        "that is the score squared: a norm is the root of the sum of squares": (SIZES * NORMS).square(),
    },
    "one norm for each input, over all places: (inputs,), times |w|, (out, inputs)",
)
SOLVED = _tensor(
    "three outputs, solved by least squares",
    WEIGHT * MASK,
    [compensate(WEIGHT, MASK, INPUTS), compensate(WEIGHT, MASK, INPUTS, damping=0), _ridge()],
    {
        "weights came back that the mask had dropped: solve for the kept ones only": WEIGHT,
        "the mask is turned round: solve for the weights that it keeps": (
            WEIGHT * MASK + compensate(WEIGHT, 1 - MASK, INPUTS)  # beside those that the notebook has put there
        ),
    },
    "for each row: H[kept][:, kept] on the left, H[kept] @ weight[row] (all weights) on the right; H is damped already",
)
TWO_OF_FOUR = _tensor(
    "two of each four neighbours stay",
    torch.ones_like(SIZES),
    [mask_2_4(SIZES)],
    {
        "those are the scores that stay; a mask has ones in their places": SIZES * mask_2_4(SIZES),
        "turned round: the two highest scores stay, with a 1": 1 - mask_2_4(SIZES),
        "that is half of each row: two of each four neighbours were asked for": HALF,
    },
    "view the scores as (rows, fours, 4), and let the two highest of the last dimension stay",
)
LOST = "solve gives back the masked weights: is the right side H[kept] @ weight[row], with all weights of the row?"
WORKS = judging.multiply_adds_by_hand(WORK_CUT, SIDES, _hint_for_work)
TASKS = (
    judging.prediction_task("10", "accuracy of the CNN with 70 % zeros, solved", judging.SHARE, 0, 1, 3, 0.985),
    Task("10-wanda", "Wanda's scores, by hand", 2, WANDA, tensor),
    Task("10-solve", "the weights that stay, by least squares", 3, SOLVED, tensor, again=LOST),
    Task("10-fours", "a 2:4 mask, by hand", 2, TWO_OF_FOUR, tensor),
    Task("10-bytes", "bytes of a packed layer", 1, _packed, number),
    Task("10-work", "multiply-adds after cutting heads and channels", 2, WORKS, numbers_of(*WORK)),
)
