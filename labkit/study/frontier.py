"""The frontier: means, intervals and paired differences over seeds, and what the literature has.

Numbers only; ``labkit.study.figures`` draws them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labkit import runtime
from labkit.cnn import CNN
from labkit.smaller.sparse_file import load_sparse
from labkit.study.points import Point
from labkit.study.records import Record, read_records


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and its 95 % confidence interval by Student's t.

    Attributes:
        mean: of all seeds.
        half: half the width of the interval; NaN for a single seed.
        seeds: how many there are.
    """

    mean: float
    half: float
    seeds: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


@dataclass(frozen=True)
class Operating:
    """One method at one target: an operating point of its curve.

    Attributes:
        dataset: name of the data set.
        method: as ``Point.method``.
        target: weights asked for.
        epochs: of each network.
        nonzero: mean number of nonzero weights.
        macs: mean number of effective multiply-adds.
        accuracy: on the test images.
        validation: accuracy on the validation images.
        lost: what the control of the same seed has more, on the test images: paired differences. None if no seed has
            a control.
        control: the dense network that ``lost`` compares with, such as ``"dense, 12 epochs"``: of as many epochs, or
            else of the most that are fewer; of several dense recipes the one with most seeds, then the one that is
            best on validation images. Empty if there is none.
        collapsed: networks with a layer that has no weights left.
    """

    dataset: str
    method: str
    target: int
    epochs: int
    nonzero: float
    macs: float
    accuracy: Estimate
    validation: Estimate
    lost: Estimate | None
    control: str
    collapsed: int


@dataclass(frozen=True)
class Published:
    """A network of the literature, mostly LeNet-5-Caffe (430,500 weights).

    Attributes:
        method: name and year.
        nonzero: weights left.
        error: test error, in [0, 1].
        chosen: how its authors chose what they report: ``"mean of runs"``, ``"one run"``, ``"best of n"`` (by its
            test error: of several runs, or of several moments of one) or ``"unknown"``.
    """

    method: str
    nonzero: int
    error: float
    chosen: str = "unknown"


# MNIST, LeNet-5-Caffe but for the last. Where a paper gives a ratio, the weights are 430,500 divided by it. What SNIP's
# public code prints as the error is the least test error of the networks that it saves while it trains. The last counts
# biases, too: its author trained it about 700 times, and each time kept the best epoch on the test images.
PUBLISHED = (
    Published("dense LeNet-5 (Han 2015)", 430_500, 0.0080),
    Published("magnitude, iterative (Han 2015)", 36_000, 0.0077),
    Published("SNIP (2019), 98 %", 8_600, 0.008, "best of n"),
    Published("ADMM (2018)", 6_050, 0.008),
    Published("SNIP (2019), 99 %", 4_300, 0.011, "best of n"),
    Published("dynamic surgery (2016)", 3_900, 0.0091),
    Published("soft weight sharing (2017)", 2_200, 0.0097),
    Published("sparse variational dropout (2017)", 1_500, 0.0075),
    Published("697 parameters (Parameter-Efficient-MNIST)", 697, 0.0097, "best of n"),
)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % confidence interval of independent values.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("there are 0 values; a mean needs at least 1")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"the values are {values}; a mean needs finite ones")
    from scipy.stats import t  # imported only here: it takes longer than all of labkit

    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Estimate(mean, math.nan, len(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(mean, float(t.ppf(0.975, len(values) - 1) * math.sqrt(variance / len(values))), len(values))


def paired(first: Iterable[Record], second: Iterable[Record]) -> Estimate:
    """Test accuracy of one method minus that of another, seed by seed, over the seeds that both have.

    Far narrower than the two intervals suggest where the same seeds are easy for both.

    Raises:
        ValueError: no seed in common, or records of several versions of torch or precisions.
    """
    others = {record.point.seed: record for record in second}
    pairs = [(record, others[record.point.seed]) for record in first if record.point.seed in others]
    if not pairs:
        raise ValueError(f"no seed in common: the second has the seeds {sorted(others)}; paired differences need some")
    software = {record.software for pair in pairs for record in pair}
    if len(software) > 1:
        raise ValueError(f"records are of {'; '.join(sorted(software))}; only those of one can be compared")
    return estimate([one.test_accuracy - other.test_accuracy for one, other in pairs])


def operating_points(records: Iterable[Record]) -> list[Operating]:
    """Records gathered by data set, method, target and epochs, each group's seeds together, most weights first.

    Raises:
        ValueError: a seed twice in one group; or records of several protocols, or in one comparison of several
            versions of torch or precisions.
    """
    records = list(records)
    protocols = {record.protocol for record in records}
    if len(protocols) > 1:
        raise ValueError(f"records are of protocols {sorted(protocols)}; only those of one protocol can be compared")
    groups: dict[tuple[str, str, int, int], list[Record]] = {}
    for record in records:
        point = record.point
        groups.setdefault((point.dataset, point.method, point.target, point.epochs), []).append(record)
    dense = _controls(groups)
    found = []
    for (dataset, method, target, epochs), members in groups.items():
        seeds = [record.point.seed for record in members]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{method} at {target} has a seed twice: {sorted(seeds)}; give each record once")
        fitting = max((control for name, control in dense if name == dataset and control <= epochs), default=0)
        controls = dense.get((dataset, fitting), [])
        common = {record.point.seed for record in controls} & set(seeds)
        found.append(
            Operating(
                dataset,
                method,
                target,
                epochs,
                math.fsum(record.nonzero for record in members) / len(members),
                math.fsum(record.macs for record in members) / len(members),
                estimate([record.test_accuracy for record in members]),
                estimate([record.val_accuracy for record in members]),
                paired(controls, members) if common else None,
                f"{controls[0].point.method}, {fitting} epochs" if common else "",
                sum(bool(record.dead_layers) for record in members),
            )
        )
    return sorted(found, key=lambda row: (row.dataset, row.method, row.epochs, -row.target))


def curve(rows: Iterable[Operating], method: str, epochs: int, dataset: str = "MNIST") -> list[Operating]:
    """The operating points of one method, most weights first; an empty list if there are none."""
    found = [row for row in rows if (row.dataset, row.method, row.epochs) == (dataset, method, epochs)]
    return sorted(found, key=lambda row: -row.target)


def load_frontier(plan: str = "frontier") -> list[Record]:
    """Committed records of the study, from ``data/results/``.

    Args:
        plan: ``"frontier"``: of the plan ``full``; ``"fewer"``, ``"untrained"``: of the plans of these names.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: the file is damaged.
    """
    path = runtime.PROJECT / "data" / "results" / f"{plan}.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it is part of the project; get it again")
    return read_records(path)


def load_frontier_network(point: Point) -> CNN:
    """The committed network of a point, from ``models/reference/frontier/``.

    Raises:
        FileNotFoundError: this point's network is not among them.
        ValueError: the file is damaged.
    """
    path = runtime.reference_dir() / "frontier" / f"{point.name}.lks"
    if not path.is_file():
        raise FileNotFoundError(f"{point.name} is not committed; those that are lie in {path.parent}")
    return load_sparse(path)


def _controls(groups: Mapping[tuple[str, str, int, int], list[Record]]) -> dict[tuple[str, int], list[Record]]:
    """(Data set, epochs) -> the dense networks to compare with."""
    best: dict[tuple[str, int], list[Record]] = {}
    for (dataset, method, _, epochs), members in groups.items():
        if method.partition("-")[0] == "dense":
            rival = best.setdefault((dataset, epochs), members)
            best[dataset, epochs] = max(rival, members, key=_rank)
    return best


def _rank(members: Sequence[Record]) -> tuple[int, float, str]:
    """A recipe that has more seeds comes first, then the better one; the name decides if they are equally good."""
    return len(members), math.fsum(record.val_accuracy for record in members) / len(members), members[0].point.method
