"""Train, shrink and measure the networks of notebook 07's results: data/results/smaller_and_faster.csv.

    python tests/benchmarks/train_small.py dense      # base and control of each seed (40 minutes on one thread)
    python tests/benchmarks/train_small.py small      # both small networks of each seed (40 minutes on one thread)
    python tests/benchmarks/train_small.py measure    # one row a network; the only phase that opens the test images

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

BASE_EPOCHS, FINE_TUNING_EPOCHS = 10, 40
# Fewest milliseconds of what was tried at about a tenth of the work: widths that are multiples of 8 are fast.
FAST = {"conv1": 8, "conv2": 16, "conv3": 64}
LEAST_WORK = 158_000  # multiply-adds of the best published structured LeNet-5 (Louizos et al. 2017)
AMOUNTS = (0.25, 0.5, 0.625, 0.75, 0.875, 0.9375)
CPU = torch.device("cpu")


def train(model: nn.Module, seed: int, epochs: int, checkpoint: Path) -> float:
    """Train in place by the recipe; returns the validation accuracy at the end."""
    train_loader, validation_loader, _ = labkit.loaders(batch_size=128, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
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


def trained(name: str, seed: int, epochs: int, start: labkit.CNN) -> labkit.CNN:
    """A network, trained from ``start`` if it is not there yet."""
    path = runtime.models_dir() / "small" / f"{name}_{seed}.pth"
    if not path.exists():
        validation = train(start, seed, epochs, path.with_suffix(".run"))
        about = {"seed": seed, "epochs": epochs, "val_accuracy": validation, "torch": str(torch.__version__)}
        labkit.save_network(start, path, **about, hardware=runtime.hardware(CPU))
        print(f"{path.name}: {start.channels}, {epochs} epochs, validation {validation:.4f}", flush=True)
    return labkit.load_network(path)


def fresh(seed: int) -> labkit.CNN:
    """A dense network that has not been trained."""
    labkit.set_seed(seed)
    return labkit.CNN()


def base(seed: int) -> labkit.CNN:
    """The dense network that the small ones are made from."""
    return trained("base", seed, BASE_EPOCHS, fresh(seed))


def control(seed: int) -> labkit.CNN:
    """The dense network that the small ones are compared with."""
    return trained("control", seed, BASE_EPOCHS + FINE_TUNING_EPOCHS, fresh(seed))


def cut(seed: int, channels: dict[str, int]) -> labkit.CNN:
    """The base with fewer channels, BatchNorm re-estimated, not trained yet."""
    masked = labkit.with_channels(base(seed), channels)
    labkit.reestimate_batchnorm(masked, labkit.loaders(seed=seed)[0].first(2000), CPU)
    return labkit.remove_dead_channels(masked)


def fast(seed: int) -> labkit.CNN:
    """The small network that is to lose nearly nothing."""
    return trained("fast", seed, FINE_TUNING_EPOCHS, cut(seed, FAST))


def least(seed: int) -> labkit.CNN:
    """The small network with the least work, its widths by sensitivity on validation images."""
    dense, (train_loader, validation_loader, _) = base(seed), labkit.loaders(seed=seed)
    curves = labkit.scan_sensitivity(dense, validation_loader.first(2000), train_loader.first(2000), AMOUNTS)
    return trained(
        "least", seed, FINE_TUNING_EPOCHS, cut(seed, labkit.choose_by_sensitivity(dense, curves, LEAST_WORK))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["dense", "small", "measure"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    phases = {"dense": (base, control), "small": (fast, least), "measure": ()}
    for make in phases[arguments.phase]:
        for seed in arguments.seeds:
            make(seed)


if __name__ == "__main__":
    main()
