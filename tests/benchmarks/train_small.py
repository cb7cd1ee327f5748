"""Train, shrink and measure the networks of notebook 07's results: data/results/smaller_and_faster.csv.

    python tests/benchmarks/train_small.py dense      # base and control of each seed (an hour and a half on one thread)

Every network is trained by one recipe: SGD with Nesterov momentum 0.9, rate 0.1 after one epoch of warm-up, falling as
a cosine to zero, weight decay 5e-4, batches of 128, label smoothing 0.05. The dense control trains as long as base and
fine-tuning together. A run that was interrupted goes on; delete its files in models/small/ to start anew.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import labkit
from labkit import runtime, training

BASE_EPOCHS, FINE_TUNING_EPOCHS = 10, 20
CPU = torch.device("cpu")


def train(model: nn.Module, seed: int, epochs: int, checkpoint: Path, rate: float = 0.1) -> float:
    """Train in place by the recipe; returns the validation accuracy at the end."""
    train_loader, validation_loader, _ = labkit.loaders(batch_size=128, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps, warm_up = epochs * len(train_loader), len(train_loader)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    scheduler = LambdaLR(optimizer, factor)
    loss_fn, metric = nn.CrossEntropyLoss(label_smoothing=0.05), labkit.AccuracyMetric()
    parts = (model, train_loader, validation_loader, loss_fn, metric, optimizer, 1, epochs, CPU, "both", None)
    _, history = training.test_or_train(*parts, scheduler=scheduler, checkpoint=checkpoint)
    return history["acc_test"][-1]


def dense(seed: int, epochs: int, name: str) -> labkit.CNN:
    """A dense network of this seed, trained if it is not there yet."""
    path = runtime.models_dir() / "small" / f"{name}_{seed}.pth"
    if not path.exists():
        labkit.set_seed(seed)
        model = labkit.CNN()
        validation = train(model, seed, epochs, path.with_suffix(".run"))
        labkit.save_network(model, path, seed=seed, epochs=epochs, val_accuracy=validation)
        print(f"{path.name}: {epochs} epochs, validation {validation:.4f}", flush=True)
    return labkit.load_network(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["dense"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        dense(seed, BASE_EPOCHS, "base")
    for seed in arguments.seeds:
        dense(seed, BASE_EPOCHS + FINE_TUNING_EPOCHS, "control")


if __name__ == "__main__":
    main()
