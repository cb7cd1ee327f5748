"""Train one small network many times, and keep the accuracy of every epoch: data/results/many_runs.csv.

    python scripts/many_runs.py --runs 100      # twenty seconds a run, on one thread

For one experiment only: how far a record lies above what can be repeated (notebook 08). Nothing else is chosen or
measured by these test accuracies. A run is the study's small dense network of at most 1,244 weights (3, 6, 3 channels)
with the run's number as its seed, trained by the study's recipe in float32. A run that is in the file is not repeated.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from labkit import runtime
from labkit.data import Loader, loaders
from labkit.metrics import AccuracyMetric
from labkit.sparsity import bake_masks
from labkit.study import run, schedules
from labkit.study.points import Point
from labkit.training import accuracy, train_one_epoch

EPOCHS = 5
POINT = Point(criterion="none", scope="none", schedule="none", target=1_244, epochs=EPOCHS, control="small")
CPU = torch.device("cpu")


class Rows:
    """The batches of a loader, in the layout that is faster for so few channels: rows of pixels."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for X, y in self.loader:
            yield X.flatten(1).view(X.shape), y


def right_answers(seed: int) -> list[tuple[int, int]]:
    """Of 5,000 validation and 10,000 test images, after each epoch."""
    train_loader, validation_loader, test_loader = loaders(batch_size=run.BATCH, seed=seed)
    train_loader.augmented = False
    model = bake_masks(run.new_network(replace(POINT, seed=seed), start=0))
    optimizer = torch.optim.SGD(
        model.parameters(), run.RATE, run.MOMENTUM, nesterov=True, weight_decay=run.WEIGHT_DECAY
    )
    steps = EPOCHS * len(train_loader)
    scheduler = LambdaLR(optimizer, lambda step: schedules.rate_factor(step, steps))
    loss_fn = nn.CrossEntropyLoss(label_smoothing=run.LABEL_SMOOTHING)
    right = []
    for _ in range(EPOCHS):
        parts = (model, Rows(train_loader), loss_fn, AccuracyMetric(), optimizer, 1, CPU, scheduler)
        train_one_epoch(*parts)
        validation, test = (accuracy(model, Rows(part)) for part in (validation_loader, test_loader))
        right.append((round(5_000 * validation), round(10_000 * test)))
    return right


def main() -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=runtime.PROJECT / "data" / "results" / "many_runs.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    if arguments.out.exists():
        rows += csv.DictReader(arguments.out.open(encoding="utf-8", newline=""))
    done = {int(str(row["run"])) for row in rows}
    for seed in sorted(set(range(arguments.runs)) - done):
        about = {"hardware": runtime.hardware(CPU), "torch": str(torch.__version__)}
        for epoch, (validation, test) in enumerate(right_answers(seed), start=1):
            rows.append({"run": seed, "epoch": epoch, "validation_right": validation, "test_right": test, **about})
        with (
            runtime.written_whole(arguments.out) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"run {seed}: {rows[-1]['test_right']} of 10,000 right at the end", flush=True)


if __name__ == "__main__":
    main()
