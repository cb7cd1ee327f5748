"""Train the committed networks: notebook 01's recipe on seeds 0 to 4, and the original's softmax twice beside it.

    python scripts/train_references.py                    # models/reference/*.pth, data/results/baseline.csv
    python scripts/train_references.py --softmax-twice    # data/results/softmax_twice.csv
    python scripts/train_references.py --learning-rates   # data/results/learning_rates.csv (validation only)

Rows that a CSV already has are skipped, so an interrupted run goes on; delete the file to start again.
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
# (learning rate, momentum, whether it falls to zero): the recipes compared on the validation images of seed 0.
RECIPES = (
    (0.01, 0.0, False),
    (0.05, 0.0, True),
    (0.1, 0.0, True),
    (0.2, 0.0, True),
    (0.02, 0.9, True),
)
RESULTS = runtime.PROJECT / "data" / "results"


class SoftmaxTwice(labkit.CNN):
    """The original's network: it ends in a softmax, and its loss holds another one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).softmax(dim=1)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV, none if it is not there."""
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8")))) if path.exists() else []


def add_row(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV, whole or not at all."""
    rows = [*read_rows(path), {key: str(value) for key, value in row.items()}]
    rows.sort(key=lambda found: (int(found["seed"]), float(found["momentum"]), float(found["learning_rate"])))
    with runtime.written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(row, flush=True)


def train(
    model: labkit.CNN, seed: int, rate: float, momentum: float, decay: bool
) -> tuple[torch.optim.Optimizer, dict[str, object]]:
    """Train in place; returns the optimizer and what was measured on the validation images."""
    device, loss_fn, metric = torch.device("cpu"), nn.CrossEntropyLoss(), labkit.AccuracyMetric()
    train_loader, validation_loader, _ = labkit.loaders(seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS * len(train_loader)) if decay else None
    what = (
        model,
        train_loader,
        validation_loader,
        loss_fn,
        metric,
        optimizer,
        1,
        EPOCHS,
        device,
        "both",
        None,
        scheduler,
    )
    start = time.perf_counter()
    _, history = training.test_or_train(*what)
    seconds = time.perf_counter() - start
    row: dict[str, object] = {"dataset": "MNIST", "seed": seed, "learning_rate": rate, "momentum": momentum}
    row |= {"decay": int(decay), "epochs": EPOCHS, "val_accuracy": f"{history['acc_test'][-1]:.4f}"}
    for epoch in range(EPOCHS):
        row |= {f"{key}_{epoch + 1}": f"{history[key][epoch]:.4f}" for key in ("loss_train", "loss_test", "acc_test")}
    return optimizer, row | {
        "hardware": runtime.hardware(device),
        "torch": str(torch.__version__),
        "seconds": f"{seconds:.0f}",
    }


def tune() -> None:
    """Seed 0 with every recipe; the test images stay closed."""
    path = RESULTS / "learning_rates.csv"
    for rate, momentum, decay in RECIPES:
        done = [(float(row["learning_rate"]), float(row["momentum"])) for row in read_rows(path)]
        if (rate, momentum) not in done:
            labkit.set_seed(0)
            add_row(path, train(labkit.CNN(), 0, rate, momentum, decay)[1])


def train_seeds(seeds: list[int], softmax_twice: bool) -> None:
    """The chosen recipe (or the original's, softmax twice) on each seed; each network meets the test images once."""
    path = RESULTS / ("softmax_twice.csv" if softmax_twice else "baseline.csv")
    _, _, test_loader = labkit.loaders()
    for seed in seeds:
        if str(seed) in [row["seed"] for row in read_rows(path)]:
            continue
        labkit.set_seed(seed)
        model = SoftmaxTwice() if softmax_twice else labkit.CNN()
        rate, decay = (0.01, False) if softmax_twice else (0.1, True)
        optimizer, row = train(model, seed, rate, 0.0, decay)
        if not softmax_twice:
            name = "CNN_MNIST" if seed == 0 else f"CNN_MNIST_seed{seed}"
            about = {"seed": seed, "epochs": EPOCHS, "torch": str(torch.__version__)}
            labkit.save_network(model, runtime.reference_dir() / f"{name}.pth", **about)
            if seed == 0:
                labkit.save_optimizer(optimizer, runtime.reference_dir() / "optimizer.pth")
        add_row(path, row | {"test_accuracy": f"{labkit.accuracy(model, test_loader):.4f}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--softmax-twice", action="store_true")
    parser.add_argument("--learning-rates", action="store_true")
    arguments = parser.parse_args()
    if arguments.learning_rates:
        tune()
    else:
        train_seeds(arguments.seeds, arguments.softmax_twice)


if __name__ == "__main__":
    main()
