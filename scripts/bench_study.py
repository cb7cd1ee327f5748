"""Measure what the study's machinery costs: dense epochs through it beside dense epochs of the plain loop, in turns.

    make bench                    # or: python scripts/bench_study.py --epochs 5

An epoch of the study is all that it does between two epochs: look at the schedule, train, write the state file. The
plain loop is ``train_one_epoch`` and nothing else. One thread; run it on an idle machine.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from bench_pipeline import print_machine
from torch import nn

import labkit
from labkit import runtime, training
from labkit.study import Point
from labkit.study import run as study_run

CPU = torch.device("cpu")


def study_epoch(run: study_run._Run, epoch: int) -> float:
    """Seconds of one epoch through the study."""
    start = time.perf_counter()
    run.train(epoch)
    run.keep(epoch + 1)
    return time.perf_counter() - start


def plain_epoch(model: nn.Module, loader: labkit.Loader, optimizer: torch.optim.Optimizer) -> float:
    """Seconds of one epoch of the loop that the notebooks use."""
    loss_fn = nn.CrossEntropyLoss(label_smoothing=study_run.LABEL_SMOOTHING)
    start = time.perf_counter()
    training.train_one_epoch(model, loader, loss_fn, labkit.AccuracyMetric(), optimizer, 1, CPU)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="of each side, after one that is not counted")
    arguments = parser.parse_args()
    print_machine(psutil.cpu_percent(interval=1))
    torch.set_num_threads(1)
    rounds = arguments.epochs + 1
    point = Point(criterion="none", scope="none", schedule="none", target=124_448, epochs=rounds, augmented=rounds)
    loader, _, _ = labkit.loaders(batch_size=study_run.BATCH)
    model = labkit.CNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    seconds: dict[str, list[float]] = {"study": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        run = study_run._Run(point, CPU, Path(folder))
        for epoch in range(rounds):
            seconds["study"].append(study_epoch(run, epoch))
            seconds["plain"].append(plain_epoch(model, loader, optimizer))
    study, plain = (np.array(seconds[side][1:]) for side in ("study", "plain"))
    medians = f"study {np.median(study):.2f} s, plain {np.median(plain):.2f} s"
    print(f"a dense epoch on one thread, {runtime.hardware(CPU).rpartition(', ')[2]}: {medians}")
    ratio = float(np.median(study / plain))
    print(f"ratio of neighbours, median: {ratio:.3f} (target: at most 1.05 {'✓' if ratio <= 1.05 else '✗'})")


if __name__ == "__main__":
    main()
