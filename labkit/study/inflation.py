"""How far a record lies above what can be repeated: one small network, trained again and again.

Only here are networks chosen by their test images, to measure what that does.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labkit import runtime
from labkit.study.frontier import Estimate, estimate

IMAGES = {"validation_right": 5_000, "test_right": 10_000}
COLUMNS = ("run", "epoch", *IMAGES, "hardware", "torch")


@dataclass(frozen=True)
class ManyRuns:
    """One recipe, run many times with different seeds.

    Attributes:
        validation: accuracy on the validation images, (runs, epochs), in [0, 1].
        test: accuracy on the test images, (runs, epochs), in [0, 1].
    """

    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Inflation:
    """What a report of the best of 1, 2, … n runs is expected to add to the mean test accuracy of the last epoch.

    Attributes:
        mean: test accuracy of the last epoch of a run, which is what can be repeated.
        last_epoch: added by the run that is best on the test images after its last epoch, (n,).
        best_epoch: added by the best epoch on the test images of any of the runs, (n,).
        validation: added by the epoch that is best on the validation images, (n,): its test accuracy is reported.
    """

    mean: Estimate
    last_epoch: np.ndarray
    best_epoch: np.ndarray
    validation: np.ndarray


def load_many_runs() -> ManyRuns:
    """The committed runs of one small network, ``data/results/many_runs.csv``.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: the file is damaged.
    """
    path = runtime.PROJECT / "data" / "results" / "many_runs.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; it is part of the project; get it again")
    runs: dict[str, list[list[int]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            if tuple(next(rows, [])) != COLUMNS:
                raise ValueError(f"its columns must be {','.join(COLUMNS)}")
            for row in rows:
                _add_epoch(runs, row)
            if len(lengths := sorted({len(epochs) for epochs in runs.values()})) != 1:
                raise ValueError(f"the runs have {lengths} epochs; all must have as many")
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {rows.line_num}: {error}; get the file again") from None
    return ManyRuns(*np.moveaxis(np.array(list(runs.values())) / list(IMAGES.values()), 2, 0))


def inflation(runs: ManyRuns, most: int = 100) -> Inflation:
    """What choosing the best of 1, 2, … ``most`` runs adds, if runs are drawn from those at hand, with replacement.

    This is what a bootstrap with any number of resamples would come to, without dice.

    Raises:
        ValueError: no run to choose.
    """
    if most < 1:
        raise ValueError(f"most is {most}; it must be at least 1")
    last, best = runs.test[:, -1], runs.test.max(axis=1)
    chosen = runs.test[np.arange(len(runs.test)), runs.validation.argmax(axis=1)]
    single = _expected_best(last, last, 1)
    return Inflation(
        estimate(last.tolist()),
        _expected_best(last, last, most) - single,
        _expected_best(best, best, most) - single,
        _expected_best(chosen, runs.validation.max(axis=1), most) - single,
    )


def _add_epoch(runs: dict[str, list[list[int]]], row: Sequence[str]) -> None:
    """Right answers of one line."""
    if len(row) != len(COLUMNS):
        raise ValueError(f"{len(row)} values for {len(COLUMNS)} columns")
    name, epoch, *right = row[: 2 + len(IMAGES)]
    epochs = runs.setdefault(name, [])
    if epoch != f"{len(epochs) + 1}":
        raise ValueError(f"epoch is {epoch!r}; after {len(epochs)} of run {name} it must be {len(epochs) + 1}")
    for (column, images), number in zip(IMAGES.items(), right, strict=True):
        if not number.isdecimal() or int(number) > images:
            raise ValueError(f"{column} is {number!r}; it must be a whole number from 0 to {images:,}")
    epochs.append([int(number) for number in right])


def _expected_best(values: np.ndarray, ranks: np.ndarray, most: int) -> np.ndarray:
    """Expected value of the draw of highest rank of 1, 2, … ``most`` draws with replacement; ties fall by chance."""
    _, group, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    means = np.bincount(group, values) / sizes
    not_above = np.append(0, sizes.cumsum() / len(values))  # share of draws of at most this rank; to the n for n draws
    return np.array([np.diff(not_above**count) @ means for count in range(1, most + 1)])
