"""A point of the study: one network that is trained and pruned, and what is known of it before it is run.

Knows names and numbers only; what they mean is done in ``criteria``, ``budgets``, ``schedules`` and ``run``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from labkit.cnn import CNN
from labkit.data import CHECKSUMS
from labkit.sparsity import effective_weight, prunable_layers
from labkit.study.criteria import CRITERIA

SCOPES = ("none", "local", "global", "erk")
SCHEDULES = ("none", "before", "oneshot", "iterative", "gradual", "rewind")
CONTROLS = ("none", "shuffled", "reinitialised", "small")
TEACHERS = ("none", "dense")
WIDTHS = (32, 64, 128)
SHAPES = {name: tuple(effective_weight(layer).shape) for name, layer in prunable_layers(CNN(channels=WIDTHS)).items()}
WEIGHTS = sum(math.prod(shape) for shape in SHAPES.values())
USUAL_START = "-".join(map(str, WIDTHS))
START = r"[1-9]\d{0,2}(-[1-9]\d{0,2}){2}"
MOST_SHIFT = 4  # pixels: the black edge of nearly all images
ROUNDS = 3  # of the iterative schedule
LEAST_EPOCHS = {"none": 1, "before": 1, "oneshot": 2, "iterative": ROUNDS + 1, "gradual": 2, "rewind": 2}


@dataclass(frozen=True)
class Point:
    """What one network of the study is: all that its training and pruning depend on.

    Attributes:
        dataset: ``"MNIST"`` or ``"FashionMNIST"``.
        seed: of the weights at the start and of the order of the images; 0 to 2**32 - 1.
        criterion: which weights are important (``labkit.study.criteria``); ``"none"``: nothing is pruned.
        scope: how the weights that stay are divided among the layers (``labkit.study.budgets``).
        schedule: when they are pruned (``labkit.study.schedules``).
        target: weights that stay, of those at the start. For the control ``"small"``: weights of the dense network, at
            most.
        epochs: passes over the 55,000 training images, all phases together.
        augmented: how many of the epochs, the first ones, train on images cropped, turned and shifted at random.
        rewind: the epoch k whose weights a lottery ticket goes back to (schedule ``"rewind"``; else 0).
        control: ``"shuffled"``: a ticket whose mask is shuffled within each layer; ``"reinitialised"``: a ticket
            with new weights instead of those of epoch k; ``"small"``: a narrow dense network; ``"none"``: no control.
        start: channels of the three convolutions before anything is pruned, such as ``"16-32-48"``.
        teacher: ``"dense"``: it learns from what the dense networks say, too (``labkit.study.teacher``); ``"none"``.
        shift: pixels by which each training image is moved at random, at most, in all epochs.

    Raises:
        ValueError: an unknown name, a number out of range, or parts that do not go together.
    """

    dataset: str = "MNIST"
    seed: int = 0
    criterion: str = "magnitude"
    scope: str = "global"
    schedule: str = "gradual"
    target: int = 6_000
    epochs: int = 12
    augmented: int = 0
    rewind: int = 0
    control: str = "none"
    start: str = USUAL_START
    teacher: str = "none"
    shift: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("dataset", tuple(CHECKSUMS)),
            ("criterion", ("none", *CRITERIA)),
            ("scope", SCOPES),
            ("schedule", SCHEDULES),
            ("control", CONTROLS),
            ("teacher", TEACHERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}")
        if not re.fullmatch(START, str(self.start)) or _weights(_widths(self.start)) > WEIGHTS:
            rule = f"three numbers of channels, such as {USUAL_START}, with at most {WEIGHTS:,} weights"
            raise ValueError(f"start is {self.start!r}; it must be {rule}")
        least = LEAST_EPOCHS[self.schedule]
        epochs = self.epochs if type(self.epochs) is int else 0  # if it is not, that is said before these limits matter
        latest = max(epochs // 2 - 1, 0) if self.schedule == "rewind" else 0
        for name, low, high, why in (
            ("seed", 0, 2**32 - 1, ""),
            ("target", len(SHAPES), _weights(_widths(self.start)), " (one weight per layer, and all weights)"),
            ("epochs", least, 10_000, f" for the schedule {self.schedule!r}"),
            ("augmented", 0, epochs, ""),
            ("shift", 0, MOST_SHIFT, " pixels"),
            ("rewind", 0, latest, " (within the first half; 0 where nothing is rewound)"),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from {low:,} to {high:,}{why}")
        if len({name == "none" for name in (self.criterion, self.scope, self.schedule)}) > 1:
            parts = f"{self.criterion}, {self.scope}, {self.schedule}"
            raise ValueError(f"criterion, scope and schedule are {parts}; either all of them are 'none' or none is")
        if self.criterion == "none" and self.control != "small" and self.target != self.weights:
            rule = f"a network that is not pruned keeps all {self.weights:,} weights"
            raise ValueError(f"target is {self.target}; {rule}")
        needs = {"shuffled": "rewind", "reinitialised": "rewind", "small": "none"}.get(self.control, self.schedule)
        if self.schedule != needs:
            raise ValueError(f"schedule is {self.schedule!r}; the control {self.control!r} needs {needs!r}")
        if self.control == "small":
            small_widths(self.target)
            if self.start != USUAL_START:
                raise ValueError(f"start is {self.start}; the widths of the control 'small' follow from its target")
        if self.teacher != "none" and self.dataset != "MNIST":
            raise ValueError(f"dataset is {self.dataset}; the committed networks teach MNIST only")
        if self.augmented and (self.shift or self.teacher != "none"):
            raise ValueError(f"augmented is {self.augmented}; images that are shifted or taught are not augmented, too")

    @property
    def name(self) -> str:
        """A name for files, the same for equal points only."""
        return f"{self.dataset}_{self.method}_{self.target}_e{self.epochs}_s{self.seed}"

    @property
    def method(self) -> str:
        """How it is pruned, in one word without spaces: equal for the points of one curve."""
        if self.criterion == "none":
            name, usual = ("small", 0) if self.control == "small" else ("dense", self.epochs * 3 // 4)
            if self.start != USUAL_START:  # not what pruned networks are compared with
                name, usual = "narrow", 0
        else:
            name, usual = f"{self.criterion}-{self.scope}-{self.schedule}", 0
            name += f"-to-{self.rewind}" if self.schedule == "rewind" else ""
            name += "" if self.control == "none" else f"-{self.control}"
        name += "" if self.start == USUAL_START else f"-from-{self.start}"
        name += "" if self.teacher == "none" else "-taught"
        name += f"-shifted-{self.shift}" if self.shift else ""
        plain = self.augmented == usual or self.shift or self.teacher != "none"
        return name if plain else f"{name}-augmented-{self.augmented}"

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels of the three convolutions."""
        return small_widths(self.target) if self.control == "small" else _widths(self.start)

    @property
    def weights(self) -> int:
        """Weights before anything is pruned."""
        return _weights(self.widths)


def _widths(start: str) -> tuple[int, int, int]:
    first, second, third = map(int, start.split("-"))
    return first, second, third


def _weights(widths: tuple[int, int, int]) -> int:
    """Of a network on images of 28 × 28 pixels: three convolutions of 3 × 3, then 5 × 5 pixels and ten classes."""
    first, second, third = widths
    return 9 * first + 9 * first * second + 9 * second * third + 250 * third


FIELDS = tuple(field.name for field in fields(Point))


def point_of(row: Mapping[str, Any]) -> Point:
    """The point that a row of strings or numbers describes.

    Raises:
        ValueError: a missing column or a value out of range.
    """
    values: dict[str, Any] = {}
    for field in fields(Point):
        if row.get(field.name) is None:
            raise ValueError(f"the column {field.name} is missing")
        values[field.name] = _whole(field.name, row[field.name]) if field.type is int else str(row[field.name])
    return Point(**values)


def _whole(name: str, value: Any) -> int:
    try:
        number = int(value)
        if isinstance(value, str) or number == value:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} is {value!r}; it must be a whole number")


def row_of(point: Point) -> dict[str, str | int]:
    """The point as columns of a row."""
    return asdict(point)


def small_widths(weights: int) -> tuple[int, int, int]:
    """Widths n, 2n, m of a network with at most so many weights: the largest n for which m can be n at least.

    A network as narrow in all layers alike (32 : 64 : 128) would spend nine of ten weights on ``fc`` and see with a
    single channel; shapes near this one were the best on validation images (data/README.md).

    Raises:
        ValueError: even one channel a layer has more weights.
    """
    best = None
    for first in range(1, weights):
        last = (weights - 9 * first - 18 * first**2) // (18 * first + 250)
        if last < first:
            break
        best = (first, 2 * first, last)
    if best is None:
        raise ValueError(f"target is {weights}; a dense network with widths 1, 2, 1 has 295 weights")
    return best
