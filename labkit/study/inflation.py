"""How far a record lies above what can be repeated: one small network, trained again and again.

Only here are networks chosen by their test images, to measure what that does.
"""

from dataclasses import dataclass

import numpy as np

from labkit.files import load_results
from labkit.study.frontier import Estimate, estimate

IMAGES = {"validation_right": 5_000, "test_right": 10_000}  # columns of right answers -> images


@dataclass(frozen=True)
class Inflation:
    """What choosing the best of 1, 2, … n runs is expected to add to the mean test accuracy of a run's last epoch.

    Attributes:
        mean: what can be repeated.
        last_epoch: added by the run that is best on the test images after its last epoch, (n,).
        best_epoch: added by the run and epoch that are best on the test images, (n,).
        validation: added by the run and epoch that are best on the validation images, (n,).
    """

    mean: Estimate
    last_epoch: np.ndarray
    best_epoch: np.ndarray
    validation: np.ndarray


def load_many_runs() -> tuple[np.ndarray, np.ndarray]:
    """Accuracies on the validation and on the test images, (runs, epochs), from ``data/results/many_runs.csv``.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is damaged.
    """
    runs: dict[str, list[list[float]]] = {}
    for number, row in enumerate(load_results("many_runs"), start=2):
        name, epoch, *right, version = (row.get(column) or "" for column in ("run", "epoch", *IMAGES, "torch"))
        epochs, counts = runs.setdefault(name, []), zip(right, IMAGES.values(), strict=True)
        shares = [int(count) / images if count.isdecimal() else -1 for count, images in counts]
        # A line that was cut has no version.
        if not version or epoch != f"{len(epochs) + 1}" or not 0 <= min(shares) <= max(shares) <= 1:
            rule = f"it must be the run's next epoch, with whole numbers of right answers up to {IMAGES}"
            raise ValueError(f"line {number} of many_runs.csv is {row}; {rule}; get the file again")
        epochs.append(shares)
    lengths = sorted({len(epochs) for epochs in runs.values()})
    if len(lengths) != 1:
        raise ValueError(f"the runs of many_runs.csv have {lengths} epochs; all must have as many; get the file again")
    validation, test = np.array(list(runs.values())).transpose(2, 0, 1)
    return validation, test


def inflation(validation: np.ndarray, test: np.ndarray, most: int = 100) -> Inflation:
    """What choosing the best of 1, 2, … ``most`` runs adds, if they are drawn from those at hand, with replacement.

    This is what a bootstrap with any number of resamples would come to, without dice.

    Args:
        validation: accuracies on the validation images, (runs, epochs).
        test: on the test images, (runs, epochs).
        most: number of runs up to which to go.
    """
    last, best, repeated = test[:, -1], test.max(axis=1), estimate(test[:, -1].tolist())
    chosen = test[np.arange(len(test)), validation.argmax(axis=1)]
    ranked = (last, last), (best, best), (chosen, validation.max(axis=1))
    added = [_expected_best(values, ranks, most) - repeated.mean for values, ranks in ranked]
    return Inflation(repeated, *(values.round(9) + 0.0 for values in added))  # nothing is 0, not -1e-17


def _expected_best(values: np.ndarray, ranks: np.ndarray, most: int) -> np.ndarray:
    """Expected value of the draw of highest rank of 1, 2, … ``most`` draws with replacement; ties fall by chance."""
    _, group, sizes = np.unique(ranks, return_inverse=True, return_counts=True)
    means = np.bincount(group, values) / sizes
    not_above = np.append(0, sizes.cumsum() / len(values))  # share of draws of at most this rank; to the n for n draws
    return np.array([np.diff(not_above**count) @ means for count in range(1, most + 1)])
