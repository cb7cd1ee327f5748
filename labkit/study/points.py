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

SCOPES = ("none", "local", "global", "erk", "row", "2:4")
SCHEDULES = ("none", "before", "oneshot", "iterative", "gradual", "rewind", "after")
CONTROLS = ("none", "shuffled", "reinitialised", "small")
REPAIRS = ("none", "solve", "batchnorm", "solve-batchnorm")
KNOWN = {"dataset": tuple(CHECKSUMS), "criterion": ("none", *CRITERIA), "scope": SCOPES}
KNOWN |= {"schedule": SCHEDULES, "control": CONTROLS, "teacher": ("none", "dense"), "repair": REPAIRS}
WIDTHS = (32, 64, 128)
SHAPES = {name: tuple(effective_weight(layer).shape) for name, layer in prunable_layers(CNN(channels=WIDTHS)).items()}
WEIGHTS = sum(math.prod(shape) for shape in SHAPES.values())
USUAL_START = "-".join(map(str, WIDTHS))
START = r"[1-9]\d{0,2}(-[1-9]\d{0,2}){2}"
MOST_SHIFT = 4  # pixels: the black edge of nearly all images
ROUNDS = 3  # of the iterative schedule
LONGEST = 1_000  # characters of a text
SORTS = {int: "a whole number", float: "a number", str: f"a text without carriage returns, at most {LONGEST:,} long"}
LEAST_EPOCHS = {"none": 1, "before": 1, "oneshot": 2, "iterative": ROUNDS + 1, "gradual": 2, "rewind": 2, "after": 0}
TRAINED = {"dense": WEIGHTS, "rows": 100_736}  # networks that the schedule "after" starts from: their weights
LAYERS = {"rows": 14}


def require(name: str, value: object, fits: bool, rule: str) -> None:
    """Make sure that a value is as it must be.

    Raises:
        ValueError: it is not; the message has the name, the value and the rule.
    """
    if not fits:
        raise ValueError(f"{name} is {value!r:.80}; {rule}")


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
        start: channels of the three convolutions before anything is pruned, such as ``"16-32-48"``. For the schedule
            ``"after"``: which reference network of this seed is pruned, ``"dense"`` (a CNN, of 12 epochs) or
            ``"rows"`` (a RowTransformer, of ``scripts/train_rows.py``).
        teacher: ``"dense"``: it learns from what the dense networks say, too (``labkit.study.teacher``); ``"none"``.
        shift: pixels by which each training image is moved at random, at most, in all epochs.
        repair: what is done without training after the schedule ``"after"``: ``"solve"``: the weights that stay make up
            for the others (``labkit.large.compensation``); ``"batchnorm"``: its statistics are measured again.

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
    repair: str = "none"

    def __post_init__(self) -> None:
        for name, known in KNOWN.items():
            require(name, getattr(self, name), getattr(self, name) in known, f"it must be one of {', '.join(known)}")
        after = self.schedule == "after"
        fits = bool(re.fullmatch(START, str(self.start))) and _weights(*_widths(self.start)) <= WEIGHTS
        rule = f"three numbers of channels, such as {USUAL_START}, with at most {WEIGHTS:,} weights"
        rule = f"one of {', '.join(TRAINED)}" if after else rule
        require("start", self.start, self.start in TRAINED if after else fits, f"it must be {rule}")
        require("repair", self.repair, after or self.repair == "none", "only the schedule 'after' repairs")
        weights = TRAINED[self.start] if after else _weights(*_widths(self.start))
        self._check_whole("seed", 0, 2**32 - 1)
        require("scope", self.scope, after or self.scope != "2:4", "only the schedule 'after' prunes two of four")
        least = LAYERS.get(self.start, len(SHAPES))
        self._check_whole("target", least, weights, " (one weight per layer, and all weights)")
        self._check_whole("epochs", LEAST_EPOCHS[self.schedule], 10_000, f" for the schedule {self.schedule!r}")
        self._check_whole("augmented", 0, self.epochs)
        self._check_whole("shift", 0, MOST_SHIFT, " pixels")
        latest = self.epochs // 2 - 1 if self.schedule == "rewind" else 0
        self._check_whole("rewind", 0, latest, " (within the first half; 0 where nothing is rewound)")
        parts = self.criterion, self.scope, self.schedule
        if 0 < parts.count("none") < len(parts):
            raise ValueError(f"criterion, scope, schedule are {', '.join(parts)}; either all are 'none' or none is")
        fits = self.target == weights or not self.schedule == self.control == "none"
        require("target", self.target, fits, f"a network that is not pruned keeps all {weights:,} weights")
        needed = {"shuffled": "rewind", "reinitialised": "rewind", "small": "none"}.get(self.control, self.schedule)
        require("schedule", self.schedule, self.schedule == needed, f"the control {self.control!r} needs {needed!r}")
        if self.control == "small":
            small_widths(self.target)
            require("start", self.start, self.start == USUAL_START, "its target gives the widths of a control 'small'")
        taught = self.teacher != "none"
        fits = self.dataset == "MNIST" or not (taught or after)
        require("dataset", self.dataset, fits, "committed networks know MNIST only")
        fits = not self.augmented or not (self.shift or taught)
        require("augmented", self.augmented, fits, "images that are shifted or taught are not augmented, too")

    def _check_whole(self, name: str, low: int, high: int, why: str = "") -> None:
        value = getattr(self, name)
        fits = type(value) is int and low <= value <= high
        require(name, value, fits, f"it must be a whole number from {low:,} to {high:,}{why}")

    @property
    def name(self) -> str:
        """A name for files, the same for equal points only."""
        return f"{self.dataset}_{self.method}_{self.target}_e{self.epochs}_s{self.seed}".replace(":", "of")

    @property
    def method(self) -> str:
        """How it is pruned, in one word without spaces: equal for the points of one curve."""
        narrow, taught = self.start not in (USUAL_START, "dense"), self.teacher != "none"
        # A narrow network is not what pruned networks are compared with.
        dense = "small" if self.control == "small" else ("narrow" if narrow else "dense")
        name = dense if self.criterion == "none" else f"{self.criterion}-{self.scope}-{self.schedule}"
        usual = self.epochs * 3 // 4 if name == "dense" else 0
        name += f"-to-{self.rewind}" if self.schedule == "rewind" else ""
        name += f"-{self.control}" if self.control not in ("none", name) else ""
        name += f"-from-{self.start}" if narrow else ""
        name += "-taught" if taught else ""
        name += f"-shifted-{self.shift}" if self.shift else ""
        name += f"-{self.repair}" if self.repair != "none" else ""
        plain = self.augmented == usual or self.shift or taught
        return name if plain else f"{name}-augmented-{self.augmented}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the three convolutions of a CNN that is trained here."""
        return small_widths(self.target) if self.control == "small" else _widths(self.start)

    @property
    def weights(self) -> int:
        """Weights before anything is pruned."""
        return TRAINED[self.start] if self.start in TRAINED else _weights(*self.widths)


def _widths(start: str) -> tuple[int, ...]:
    return tuple(map(int, start.split("-")))


def _weights(first: int, second: int, third: int) -> int:
    """Of a network on images of 28 × 28 pixels: three convolutions of 3 × 3, then 5 × 5 pixels and ten classes."""
    return 9 * first + 9 * first * second + 9 * second * third + 250 * third


FIELDS = tuple(field.name for field in fields(Point))


def point_of(row: Mapping[str, Any]) -> Point:
    """The point that a row of strings or numbers describes.

    Raises:
        ValueError: a missing column or a value out of range.
    """
    return Point(**values_of(row, fields(Point)))


def values_of(row: Mapping[str, Any], columns: tuple[Any, ...]) -> dict[str, Any]:
    """Values of a row of strings or numbers by name, each of the type of its column (a field of a dataclass).

    Raises:
        ValueError: a missing column, or what is no number where there must be one.
    """
    values = {}
    for column in columns:
        if row.get(column.name) is None:
            raise ValueError(f"the column {column.name} is missing")
        try:
            values[column.name] = column.type(str(row[column.name]))
        except ValueError:
            raise ValueError(f"{column.name} is {row[column.name]!r}; it must be {SORTS[column.type]}") from None
    return values


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
    first = (math.isqrt(259**2 + 144 * weights) - 259) // 72  # n, 2n, n channels have 36 n² + 259 n weights
    require("target", weights, first >= 1, "a dense network with widths 1, 2, 1 has 295 weights")
    return first, 2 * first, (weights - 9 * first - 18 * first**2) // (18 * first + 250)
