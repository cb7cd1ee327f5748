"""Train the committed networks: notebook 01's recipe on seeds 0 to 4, and the original's softmax twice beside it.

    python tests/benchmarks/train_references.py                 # models/reference/*.pth, data/results/baseline.csv
    python tests/benchmarks/train_references.py --softmax-twice # data/results/softmax_twice.csv

Seeds that a CSV already has are skipped, so an interrupted run goes on; delete the file to start anew.
"""

import argparse
import csv
import io
import time
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LinearLR

import labkit
from labkit import runtime, training

EPOCHS = 5
RESULTS = runtime.PROJECT / "data" / "results"


class SoftmaxTwice(labkit.CNN):
    """The original's network: it ends in a softmax, and its loss holds another one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).softmax(dim=1)


def add_row(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV, sorted by seed, whole or not at all."""
    rows = [dict(found) for found in csv.DictReader(io.StringIO(path.read_text("utf-8")))] if path.exists() else []
    rows = sorted([*rows, {key: str(value) for key, value in row.items()}], key=lambda found: int(found["seed"]))
    with runtime.written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def train(model: labkit.CNN, seed: int, rate: float, decay: bool) -> tuple[torch.optim.Optimizer, dict[str, object]]:
    """One network, in place; returns its optimizer and what was measured."""
    device, loss_fn, metric = torch.device("cpu"), nn.CrossEntropyLoss(), labkit.AccuracyMetric()
    train_loader, validation_loader, test_loader = labkit.loaders(seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS * len(train_loader)) if decay else None
    start = time.perf_counter()
    _, history = training.test_or_train(
        model, train_loader, validation_loader, loss_fn, metric, optimizer, 1, EPOCHS, device, "both", None, scheduler
    )
    seconds = time.perf_counter() - start
    _, test_accuracy = training.test_one_epoch(model, test_loader, loss_fn, metric, device)
    row: dict[str, object] = {"dataset": "MNIST", "seed": seed, "learning_rate": rate, "decay": int(decay)}
    row |= {"epochs": EPOCHS, "val_accuracy": f"{history['acc_test'][-1]:.4f}", "test_accuracy": f"{test_accuracy:.4f}"}
    for epoch in range(EPOCHS):
        row |= {f"{key}_{epoch + 1}": f"{history[key][epoch]:.4f}" for key in ("loss_train", "loss_test", "acc_test")}
    row |= {"hardware": runtime.hardware(device), "torch": torch.__version__, "seconds": f"{seconds:.0f}"}
    return optimizer, row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--softmax-twice", action="store_true")
    arguments = parser.parse_args()
    path = RESULTS / ("softmax_twice.csv" if arguments.softmax_twice else "baseline.csv")
    for seed in arguments.seeds:
        if path.exists() and any(int(row["seed"]) == seed for row in csv.DictReader(path.open(encoding="utf-8"))):
            continue
        labkit.set_seed(seed)
        if arguments.softmax_twice:
            _, row = train(SoftmaxTwice(), seed, rate=0.01, decay=False)
        else:
            model = labkit.CNN()
            optimizer, row = train(model, seed, rate=0.1, decay=True)
            name = "CNN_MNIST" if seed == 0 else f"CNN_MNIST_seed{seed}"
            labkit.save_network(
                model, runtime.reference_dir() / f"{name}.pth", seed=seed, epochs=EPOCHS, torch=str(torch.__version__)
            )
            if seed == 0:
                labkit.save_optimizer(optimizer, runtime.reference_dir() / "optimizer.pth")
        add_row(path, row)
        print(row, flush=True)


if __name__ == "__main__":
    main()
