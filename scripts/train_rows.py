"""Train the reference transformers: one recipe, seeds 0 to 4.

    python scripts/train_rows.py           # models/reference/ROWS_MNIST*.pth, data/results/rows.csv
    python scripts/train_rows.py --tune    # recipes on the validation images, seeds 100 and 101; prints only

AdamW, whose rate rises in the first tenth of the steps and then falls to zero as a cosine; plain images, batches of
128. Seeds that the CSV has are skipped, so an interrupted run goes on; delete the file to start again.
"""

import argparse
import csv
import time

import torch
from torch.optim.lr_scheduler import LambdaLR

import labkit
from labkit import runtime
from labkit.large.row_transformer import RowTransformer
from labkit.study.schedules import rate_factor

EPOCHS, RATE, WEIGHT_DECAY, BATCH = 5, 3e-3, 0.05, 128
RECIPES = ((5, 1e-3, 0.05), (5, 3e-3, 0.05), (5, 3e-3, 0.0))  # epochs, rate, weight decay
PATH = runtime.PROJECT / "data" / "results" / "rows.csv"


def train(seed: int, epochs: int, rate: float, weight_decay: float) -> tuple[RowTransformer, dict[str, object]]:
    """A trained network, and what was measured on the validation images."""
    labkit.set_seed(seed)
    model = RowTransformer()
    train_loader, validation_loader, _ = labkit.loaders(batch_size=BATCH, seed=seed)
    train_loader.augmented = False
    steps = epochs * len(train_loader)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=weight_decay)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step, steps))
    start = time.perf_counter()
    labkit.train(model, train_loader, optimizer, epochs, scheduler=scheduler)
    row: dict[str, object] = {"dataset": "MNIST", "seed": seed, "epochs": epochs, "rate": rate}
    row |= {"weight_decay": weight_decay, "seconds": f"{time.perf_counter() - start:.0f}"}
    return model, row | {"val_accuracy": f"{labkit.accuracy(model, validation_loader):.4f}"}


def train_seeds() -> None:
    """The committed networks; each meets the test images once."""
    rows = list(csv.DictReader(PATH.open(encoding="utf-8", newline=""))) if PATH.exists() else []
    _, _, test_loader = labkit.loaders()
    for seed in (seed for seed in range(5) if str(seed) not in [row["seed"] for row in rows]):
        model, row = train(seed, EPOCHS, RATE, WEIGHT_DECAY)
        name = f"ROWS_MNIST_seed{seed}" if seed else "ROWS_MNIST"
        about = {"seed": seed, "epochs": EPOCHS, "torch": str(torch.__version__)}
        labkit.save_network(model, runtime.reference_dir() / f"{name}.pth", **about)
        row |= {"test_accuracy": f"{labkit.accuracy(model, test_loader):.4f}"}
        row |= {"hardware": runtime.hardware(torch.device("cpu")), "torch": str(torch.__version__)}
        rows.append({key: str(value) for key, value in row.items()})
        with runtime.written_whole(PATH) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(row, flush=True)


def main() -> None:
    """Train, or try recipes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    torch.set_num_threads(1)
    if parser.parse_args().tune:
        for recipe in RECIPES:
            for seed in (100, 101):
                print(train(seed, *recipe)[1], flush=True)
    else:
        train_seeds()


if __name__ == "__main__":
    main()
