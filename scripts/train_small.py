"""Train, shrink and measure the networks of notebook 07's results: data/results/smaller_and_faster.csv.

    python scripts/train_small.py dense      # base and control of each seed (40 minutes on one thread)
    python scripts/train_small.py small      # the small networks of each seed (40 minutes on one thread)
    python scripts/train_small.py measure    # one row a network; the only phase that opens the test images
    python scripts/train_small.py gradual    # channels cut while it trains, with a teacher: its own file of results

Every network is trained by one recipe: SGD with Nesterov momentum 0.9, rate 0.1 after one epoch of warm-up, falling as
a cosine to zero, weight decay 5e-4, batches of 128, label smoothing 0.05. The dense control trains as long as base and
fine-tuning together. A run that was interrupted goes on; delete its files in models/small/ to start again.
"""

import argparse
import csv
import math
import shutil
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import labkit
from labkit import runtime, training
from labkit.study import teacher
from labkit.study.schedules import rate_factor

BASE_EPOCHS, FINE_TUNING_EPOCHS = 10, 20
GRADUAL_EPOCHS = BASE_EPOCHS + FINE_TUNING_EPOCHS
# At most an eighth of the multiply-adds, in two ways. Few channels in conv1, whose images are large; multiples of 8.
FAST = {"conv1": 8, "conv2": 16, "conv3": 96}
CAREFUL = {"conv1": 8, "conv2": 24, "conv3": 56}
LEAST_WORK = 158_000  # what Louizos et al. 2017 ("Bayesian compression for deep learning") leave of a LeNet-5
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
    """The fastest of three."""
    return trained("fast", seed, FINE_TUNING_EPOCHS, cut(seed, FAST))


def careful(seed: int) -> labkit.CNN:
    """The one of three that loses least."""
    return trained("careful", seed, FINE_TUNING_EPOCHS, cut(seed, CAREFUL))


def least(seed: int) -> labkit.CNN:
    """The small network with the least work, its widths by sensitivity on validation images."""
    dense, (train_loader, validation_loader, _) = base(seed), labkit.loaders(seed=seed)
    curves = labkit.scan_sensitivity(dense, validation_loader.first(2000), train_loader.first(2000), AMOUNTS)
    return trained(
        "least", seed, FINE_TUNING_EPOCHS, cut(seed, labkit.choose_by_sensitivity(dense, curves, LEAST_WORK))
    )


def channels_at(epoch: int) -> dict[str, int]:
    """Channels of the gradual cut in an epoch: ever fewer from a twelfth to half of the epochs, by a cubic."""
    done = (epoch / GRADUAL_EPOCHS - 1 / 12) / (1 / 2 - 1 / 12)
    left = (1 - min(max(done, 0.0), 1.0)) ** 3
    dense = dict(zip(FAST, labkit.CNN().channels, strict=True))
    return {name: count + round((dense[name] - count) * left) for name, count in FAST.items()}


def gradual(seed: int, scratch: Path) -> labkit.CNN:
    """The widths of the fast network, reached little by little while it trains."""
    path = scratch / f"gradual_{seed}.lks"
    if path.exists():
        return labkit.load_sparse(path)
    model, (plain, validation_loader, _) = fresh(seed), labkit.loaders(batch_size=128, seed=seed)
    answers = teacher.ask_teacher(plain.images, 1, scratch)
    images = teacher.ShiftedLoader(plain.images, plain.labels, 128, shuffle=True, seed=seed, shift=1, answers=answers)
    steps, loss_fn = GRADUAL_EPOCHS * len(images), partial(teacher.distillation_loss, label_smoothing=0.05)
    optimizer, scheduler = None, None
    for epoch in range(GRADUAL_EPOCHS):
        channels = channels_at(epoch)
        if optimizer is None or tuple(channels.values()) != model.channels:
            # What is cut has no momentum any more, so the momentum of the others starts again, too.
            model = labkit.remove_dead_channels(labkit.with_channels(model, channels))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
            first = epoch * len(images)
            scheduler = LambdaLR(optimizer, lambda step, first=first: rate_factor(first + step, steps))
        title = f"gradual {seed} {epoch + 1}/{GRADUAL_EPOCHS}"
        parts = (model, images, loss_fn, teacher.TaughtAccuracy(), optimizer, 1, CPU, scheduler, title)
        training.train_one_epoch(*parts)
    labkit.reestimate_batchnorm(model, plain.first(5_000), CPU)
    print(f"gradual_{seed}: {model.channels}, validation {labkit.accuracy(model, validation_loader):.4f}", flush=True)
    return labkit.load_sparse(labkit.save_sparse(model, path))


def write_gradual(seeds: list[int]) -> None:
    """The CSV of the gradual cut: times beside a dense network in turns, accuracy beside the control's of its seed."""
    scratch = runtime.PROJECT / "build" / "small"
    control = {row["seed"]: row for row in labkit.load_results("smaller_and_faster") if row["network"] == "control"}
    rows = []
    for seed in seeds:
        network = gradual(seed, scratch)
        _, validation_loader, test_loader = labkit.loaders()
        images, _ = next(iter(validation_loader))
        times = labkit.measure_latency({"dense": fresh(seed), "gradual": network}, images, 1, 3.0)
        rows.append(
            {
                "dataset": "MNIST",
                "seed": seed,
                "channels": " ".join(map(str, network.channels)),
                "epochs": GRADUAL_EPOCHS,
                "multiply_adds": sum(layer.multiply_adds for layer in labkit.multiply_adds(network)),
                "bytes": (scratch / f"gradual_{seed}.lks").stat().st_size,
                "val_accuracy": f"{labkit.accuracy(network, validation_loader):.4f}",
                "test_accuracy": f"{labkit.accuracy(network, test_loader):.4f}",
                "control_test_accuracy": control[str(seed)]["test_accuracy"],
                "ms_batch_64": f"{times['gradual'].median:.4f}",
                "dense_ms_batch_64": f"{times['dense'].median:.4f}",
                "hardware": runtime.hardware(CPU),
                "torch": str(torch.__version__),
            }
        )
        print(rows[-1], flush=True)
        shutil.copyfile(scratch / f"gradual_{seed}.lks", runtime.reference_dir() / "small" / f"gradual_{seed}.lks")
    write_rows(runtime.PROJECT / "data" / "results" / "gradual_cut.csv", rows)


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """A CSV file, whole or not at all."""
    with runtime.written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def rungs(seed: int, folder: Path) -> dict[str, tuple[nn.Module, Path]]:
    """Name -> what is measured, and its file: the control, the small networks, and what becomes of them."""
    names = {"control": control(seed), "careful": careful(seed), "fast": fast(seed), "least": least(seed)}
    train_loader, _, _ = labkit.loaders(seed=seed)
    found: dict[str, tuple[nn.Module, Path]] = {}
    for name, network in names.items():
        found[name] = network, labkit.save_network(network, folder / f"{name}_{seed}.pth", seed=seed)
        if name == "control":
            continue
        path = labkit.export_onnx(network, folder / f"{name}_{seed}.onnx")
        found[f"{name}, ONNX"] = labkit.OnnxNetwork(path), path
        path = labkit.quantize_onnx(path, folder / f"{name}_{seed}_8_bits.onnx", train_loader.first(1000))
        found[f"{name}, ONNX, 8 bits"] = labkit.OnnxNetwork(path), path
        path = labkit.save_sparse(network, folder / f"{name}_{seed}.lks")
        found[f"{name}, sparse file"] = labkit.load_sparse(path), path
    return found


def measure(seed: int) -> list[dict[str, object]]:
    """One row for each rung of a seed; times were taken in turns, on one thread."""
    folder = runtime.models_dir() / "small" / "measured"
    found = rungs(seed, folder)
    _, validation_loader, test_loader = labkit.loaders()
    images, _ = next(iter(validation_loader))
    networks = {name: network for name, (network, _) in found.items()}
    one, many = (labkit.measure_latency(networks, images[:count], 1, 2.0) for count in (1, 64))
    rows = []
    for name, (network, path) in found.items():
        like = found[name.partition(",")[0]][0]
        rows.append(
            {
                "dataset": "MNIST",
                "seed": seed,
                "network": name,
                "channels": " ".join(map(str, like.channels)),
                "epochs": BASE_EPOCHS + FINE_TUNING_EPOCHS,
                "multiply_adds": sum(layer.multiply_adds for layer in labkit.multiply_adds(like)),
                "bytes": path.stat().st_size,
                "val_accuracy": f"{labkit.accuracy(network, validation_loader):.4f}",
                "test_accuracy": f"{labkit.accuracy(network, test_loader):.4f}",
                "ms_batch_1": f"{one[name].median:.4f}",
                "ms_batch_64": f"{many[name].median:.4f}",
                "hardware": runtime.hardware(CPU),
                "torch": str(torch.__version__),
            }
        )
        print(rows[-1], flush=True)
    return rows


def write_results(seeds: list[int]) -> None:
    """The CSV, and the networks that it speaks of, among the references."""
    rows = [row for seed in seeds for row in measure(seed)]
    write_rows(runtime.PROJECT / "data" / "results" / "smaller_and_faster.csv", rows)
    for seed in seeds:
        for name in ("careful", "fast", "least"):
            file = f"{name}_{seed}.lks"
            with runtime.written_whole(runtime.reference_dir() / "small" / file) as temporary:
                shutil.copyfile(runtime.models_dir() / "small" / "measured" / file, temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["dense", "small", "measure", "gradual"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if arguments.phase in ("measure", "gradual"):
        torch.set_num_threads(1)
        {"measure": write_results, "gradual": write_gradual}[arguments.phase](arguments.seeds)
        return
    for make in {"dense": (base, control), "small": (careful, fast, least)}[arguments.phase]:
        for seed in arguments.seeds:
            make(seed)


if __name__ == "__main__":
    main()
