"""What the tests of the course share: honest work, made by small real runs, and submissions of it."""

import copy
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import torch
from torch.nn.utils import prune
from torch.optim.lr_scheduler import LinearLR

import labkit
from labkit import data, runtime
from labkit.course import answers, release, students
from labkit.course.cases import fresh_cases, seed_of_check, truth
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, channel_norms, dense_weights
from labkit.training import accuracy, train_one_epoch

SALT = "tests"


@cache
def course() -> dict[str, Any]:
    """The course that the submissions belong to."""
    return release.make_course(runtime.PROJECT / "notebooks", SALT)[1]


@cache
def student_notebooks() -> dict[str, nbformat.NotebookNode]:
    return release.make_course(runtime.PROJECT / "notebooks", SALT)[0]


def train_a_little(
    network: labkit.CNN,
    seed: int,
    steps: int = 10,
    rate: float = 0.02,
    *,
    augmented: bool = True,
    momentum: float = 0.0,
    batch: int = 64,
) -> None:
    """A real training of a few steps, in place."""
    images, labels = data.load_images("MNIST", train=True)
    count = batch * steps
    loader = data.Loader(images[:count], labels[:count], batch, shuffle=True, augmented=augmented, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum)
    falls = LinearLR(optimizer, 1.0, 0.0, total_iters=steps) if momentum else None
    loss, metric = torch.nn.CrossEntropyLoss(), labkit.AccuracyMetric()
    train_one_epoch(network, loader, loss, metric, optimizer, 1, torch.device("cpu"), falls)


@cache
def _base(seed: int) -> labkit.CNN:
    name = "CNN_MNIST" if seed % 5 == 0 else f"CNN_MNIST_seed{seed % 5}"
    network = labkit.load_network(runtime.reference_dir() / f"{name}.pth")
    train_a_little(network, seed)
    return network


def base(seed: int = 0) -> labkit.CNN:
    """A network of one's own: a reference network that was trained on, so that it differs for every seed."""
    return copy.deepcopy(_base(seed))


def rounds(
    start: labkit.CNN, mode: str, seed: int = 0, count: int = 10, *, train: bool = True, steps: int = 6
) -> labkit.CNN:
    """Ten rounds of 10 %, local or global, with a little training after each."""
    network = labkit.clone(start)
    for number in range(count):
        layers = [(getattr(network, name), "weight") for name in CONVOLUTIONS]
        if mode == "global":
            prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.1)
        else:
            for layer, name in layers:
                prune.l1_unstructured(layer, name, amount=0.1)
        if train:
            train_a_little(network, seed + number, steps)
    return network


def pruned(start: labkit.CNN, method: Callable[..., Any], layers: Any = CONVOLUTIONS, **arguments: Any) -> labkit.CNN:
    """A clone with a pruning method of torch applied to these layers."""
    network = labkit.clone(start)
    for name in layers:
        method(getattr(network, name), name="weight", **arguments)
    return network


def globally(start: labkit.CNN, amount: float = 0.25, layers: Any = ALL_LAYERS) -> labkit.CNN:
    network = labkit.clone(start)
    pairs = [(getattr(network, name), "weight") for name in layers]
    prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=amount)
    return network


def at_random(start: labkit.CNN, seed: int = 1) -> labkit.CNN:
    labkit.set_seed(seed)
    return pruned(start, prune.random_unstructured, amount=0.25)


def networks_of(start: labkit.CNN, seed: int = 0, steps: int = 6) -> dict[str, labkit.CNN]:
    """All nine networks, right, from one base."""
    return {
        "CNN_MNIST": start,
        "CNN_MNIST_RND": at_random(start, seed + 1),
        "CNN_MNIST_L1": pruned(start, prune.l1_unstructured, amount=0.25),
        "CNN_MNIST_STRUCT": pruned(start, prune.ln_structured, amount=1 / 8, n=2, dim=0),
        "CNN_MNIST_FNC": rounds(start, "local", seed, steps=steps),
        "CNN_MNIST_GLOBAL": globally(start),
        "CNN_MNIST_GLOBAL_2": rounds(start, "global", seed, steps=steps),
        "CNN_MNIST_SMALL": small(start, seed),
        "CNN_MNIST_GOLF": golf(start, seed),
    }


SMALL_WIDTHS = {"conv1": 6, "conv2": 14, "conv3": 48}  # 353,712 multiply-adds


def small(start: labkit.CNN, seed: int = 0, steps: int = 150) -> labkit.CNN:
    """Cut to a sixteenth of the work, and trained until it is useful again."""
    network = labkit.with_channels(start, SMALL_WIDTHS)
    images, labels = data.load_images("MNIST", train=True)
    labkit.reestimate_batchnorm(network, data.Loader(images[:1000], labels[:1000]), torch.device("cpu"))
    network = labkit.remove_dead_channels(network)
    train_a_little(network, seed, steps, rate=0.1)
    return network


def golf(start: labkit.CNN, seed: int = 0, kept: int = 800, *, train: bool = True) -> labkit.CNN:
    """Pruned by LAMP scores: in steps, with training after each until it is good again, or at once and untrained."""
    network = labkit.clone(start)
    for weights, steps in ((4_000, 40), (1_500, 80), (kept, 250)) if train else ((kept, 0),):
        for name, mask in lamp_masks(labkit.bake_masks(network), weights).items():
            prune.custom_from_mask(getattr(network, name), "weight", mask)
        if steps:
            train_a_little(network, seed, steps, rate=0.1, augmented=False, momentum=0.9, batch=32)
    return network


def lamp_masks(start: labkit.CNN, kept: int = 10_000) -> dict[str, torch.Tensor]:
    """The weights of highest LAMP score stay; by NumPy, from the paper's formula."""
    scores = {name: lamp_scores(weight.numpy()) for name, weight in dense_weights(start).items()}
    limit = np.sort(np.concatenate([score.ravel() for score in scores.values()]))[-kept]
    return {name: torch.from_numpy((score >= limit).astype(np.float32)) for name, score in scores.items()}


def lamp_scores(weight: np.ndarray) -> np.ndarray:
    """w² over the sum of all squares of the layer that are at least as large."""
    squares = weight.astype(np.float64).ravel() ** 2
    rising = np.sort(squares)
    sums = rising[::-1].cumsum()[::-1]  # from each place on to the largest
    return (squares / sums[np.searchsorted(rising, squares)]).reshape(weight.shape)


def l1_masks(start: labkit.CNN, share: float = 0.25) -> dict[str, torch.Tensor]:
    masks = {}
    for name in CONVOLUTIONS:
        size = getattr(start, name).weight.detach().abs()
        masks[name] = (size > size.flatten().kthvalue(round(share * size.numel())).values).float()
    return masks


def channel_masks(start: labkit.CNN) -> dict[str, torch.Tensor]:
    masks = {}
    for name in CONVOLUTIONS:
        weight = getattr(start, name).weight.detach()
        masks[name] = torch.ones_like(weight)
        masks[name][channel_norms(weight).argsort()[: len(weight) // 8]] = 0
    return masks


def second_round(start: labkit.CNN) -> torch.Tensor:
    return pruned(
        pruned(start, prune.l1_unstructured, ["conv2"], amount=0.1), prune.l1_unstructured, ["conv2"], amount=0.1
    ).conv2.weight_mask


def global_masks(start: labkit.CNN) -> dict[str, torch.Tensor]:
    network = globally(start)
    return {name: getattr(network, name).weight_mask for name in ALL_LAYERS}


def cut_weights(start: labkit.CNN) -> dict[str, torch.Tensor]:
    """conv2 and fc of the network that the library cuts."""
    masked = pruned(start, prune.ln_structured, amount=0.5, n=2, dim=0)
    labkit.silence_channels(masked)
    network = labkit.remove_dead_channels(masked)
    return {"conv2": network.conv2.weight.detach(), "fc": network.fc.weight.detach()}


def random_mask(seed: int = 0) -> torch.Tensor:
    mask = torch.ones(32, 1, 3, 3)
    mask.view(-1)[torch.randperm(288, generator=torch.Generator().manual_seed(seed))[:72]] = 0
    return mask


KERNEL = {(0, 0, 1): 2, (0, 2, 2): -1, (1, 1, 0): 3}  # of notebook 07: (channel, y, x) -> weight


def shifted_sums(weights: Mapping[tuple[int, int, int], int] = KERNEL) -> torch.Tensor:
    """What notebook 07's kernel makes of its numbers, place by place."""
    sums = torch.zeros(6, 6, 16)
    for row, column, image in itertools.product(range(6), range(6), range(16)):
        for (channel, y, x), weight in weights.items():
            sums[row, column, image] += weight * ((1024 * channel + 128 * (row + y) + 16 * (column + x) + image) % 11)
    return sums


# Of notebook 10: what a layer of three outputs reads at 20 places, its weights, and those that its mask keeps.
INPUTS = np.array([[((3 * p + 5 * c + p * c) % 11 - 4) * (1 + c % 3) for c in range(8)] for p in range(20)], float)
WEIGHT = np.array([[4, -1, 2, 3, -2, 1, 5, -3], [1, 2, -5, 1, 3, -4, -1, 2], [-2, 3, 1, -1, 2, 5, -3, 4]], float)
KEPT = ((0, 3, 6, 7), (1, 2, 4, 5), (1, 4, 5, 7))


def scaled_sizes(
    norm: Callable[[list[float]], float] = lambda column: sum(x * x for x in column) ** 0.5,
) -> torch.Tensor:
    """Wanda's scores, or those of another norm of each input."""
    norms = [norm(column) for column in INPUTS.T.tolist()]
    return torch.tensor([[abs(w) * size for w, size in zip(row, norms, strict=True)] for row in WEIGHT.tolist()])


def solved_rows(kept: Sequence[Sequence[int]] = KEPT) -> torch.Tensor:
    """Each output's kept weights, by least squares on what the layer reads, without damping."""
    new = np.zeros_like(WEIGHT)
    for row, places in enumerate(kept):
        new[row, places] = np.linalg.lstsq(INPUTS[:, places], INPUTS @ WEIGHT[row])[0]
    return torch.from_numpy(new).float()


def two_of_four() -> torch.Tensor:
    """A mask of the two largest weights of each four neighbours."""
    fours = np.abs(WEIGHT).reshape(-1, 4).tolist()
    return torch.tensor([[float(w in sorted(four)[2:]) for w in four] for four in fours]).view(3, 8)


def answers_of(start: labkit.CNN, student: str, seed: int = 0) -> dict[str, tuple[Any, Any]]:
    """Task -> a right answer and the weights that it belongs to, for all tasks that are no network."""
    before, seed_of = dense_weights(start), students.seed_of(student, SALT)
    found: dict[str, tuple[Any, Any]] = {
        f"{number:02d}-prediction": (50 if number in (5, 6) else 0.5, None) for number in (*range(1, 8), 10)
    }
    work = {"conv1": 225_792, "conv2": 3_612_672, "conv3": 1_843_200, "fc": 32_000}
    shown = seed_of_check(seed_of)
    return found | {
        "08-prediction": (5_000, None),
        "01-work": (work, None),
        "02-mask": (random_mask(seed), before),
        "03-masks": (l1_masks(start), before),
        "04-masks": (channel_masks(start), before),
        "05-mask": (second_round(start), before),
        "06-masks": (global_masks(start), before),
        "07-work": ({"conv1": 112_896, "conv2": 903_168, "conv3": 460_800, "fc": 16_000}, None),
        "07-cut": (cut_weights(start), before),
        "07-sums": (shifted_sums(), None),
        "08-masks": (lamp_masks(start), before),
        "09-detective": ({"seed": shown, "answers": truth(fresh_cases(shown))}, None),
        "10-wanda": (scaled_sizes(), None),
        "10-solve": (solved_rows(), None),
        "10-fours": (two_of_four(), None),
        "10-bytes": (16_000 * 4 + 16_000 // 4, None),
        "10-work": ({"query": 28 * 64 * 32, "out": 28 * 32 * 64, "up": 28 * 64 * 64, "down": 28 * 64 * 64}, None),
    }


def worked_notebooks(networks: Mapping[str, labkit.CNN]) -> dict[str, nbformat.NotebookNode]:
    """The student's notebooks as they come back: answers written, outputs that tell sparsity and accuracy."""
    images, labels = data.load_images("MNIST", train=False)
    loader = data.Loader(images, labels, batch_size=50)
    worked = copy.deepcopy(student_notebooks())
    homes = {"CNN_MNIST": "01_training", "CNN_MNIST_RND": "02_random_pruning", "CNN_MNIST_L1": "03_l1_pruning"}
    homes |= {"CNN_MNIST_STRUCT": "04_structured_pruning", "CNN_MNIST_FNC": "05_iterative_pruning"}
    homes |= {"CNN_MNIST_GLOBAL": "06_global_pruning", "CNN_MNIST_GLOBAL_2": "06_global_pruning"}
    homes |= {"CNN_MNIST_SMALL": "07_smaller_and_faster", "CNN_MNIST_GOLF": "08_pruning_frontier"}
    for notebook in worked.values():
        for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
            cell.execution_count = number
            cell.source = cell.source.replace(release.CODE_STUB, "# my own code")
            cell.source = cell.source.replace('course.sign_in("")', 'course.sign_in("ab12")')
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace(release.PROSE_STUB, "It was as I thought.")
    for name, network in networks.items():
        notebook = worked[homes[name]]
        layers = None if name in ("CNN_MNIST", "CNN_MNIST_GLOBAL", "CNN_MNIST_GOLF") else CONVOLUTIONS
        share = "" if name in ("CNN_MNIST", "CNN_MNIST_SMALL") else f"sparsity {labkit.sparsity(network, layers):.2%}, "
        text = f"{name}: {share}test accuracy ≈{accuracy(network, loader):.4f}\n"
        last = [cell for cell in notebook.cells if cell.cell_type == "code"][-2]
        last.outputs = [*last.outputs, nbformat.v4.new_output("stream", name="stdout", text=text)]
    return worked


def write_work(
    folder: Path,
    student: str,
    networks: Mapping[str, labkit.CNN],
    given: Mapping[str, tuple[Any, Any]],
    notebooks: Mapping[str, nbformat.NotebookNode],
    monkeypatch: Any,
) -> Path:
    """All of a student's files, as they lie on the student's machine (``notebooks/`` and ``models/``)."""
    monkeypatch.setenv("LABKIT_MODELS", str(folder / "models"))
    seed = students.seed_of(student, SALT)
    for name, network in networks.items():
        labkit.save_network(network, name, **({"seed": seed} if name == "CNN_MNIST" else {}))
    for task, (value, before) in given.items():
        answers.save_answer(task, value, before)
    for name, notebook in notebooks.items():
        path = folder / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return folder


def zip_of(folder: Path, path: Path, student: str, **manifest: Any) -> Path:
    """A submission as ``labkit pack`` makes it, of everything in a student's folder."""
    told = {"format": "labkit submission 1", "student": student, "course": course()["version"]}
    told |= {"packed": "2026-11-22T12:00:00+00:00"} | manifest
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(told))
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def honest_zip(folder: Path, student: str, seed: int, monkeypatch: Any) -> Path:
    """A whole honest submission, right in everything: ``folder/labs_STUDENT.zip``."""
    networks = networks_of(base(seed), seed)
    work = folder / f"work_{student}"
    write_work(work, student, networks, answers_of(base(seed), student, seed), worked_notebooks(networks), monkeypatch)
    return zip_of(work, folder / f"labs_{student}.zip", student)


def processes_of_session(number: int) -> list[str]:
    """Command lines of the processes of a session, such as what a run has left behind."""
    commands = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                commands.append(" ".join(process.cmdline()))
    return commands
