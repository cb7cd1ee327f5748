"""Many varied honest submissions, from small real runs: other seeds, other ways of writing, other machines."""

import copy
import io
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import course_work as work
import nbformat
import torch
from torch.nn.utils import prune

import labkit
from labkit.course import answers, students
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS
from labkit.course.submission.archive import Files
from labkit.training import test_or_train


def quick_base(seed: int) -> labkit.CNN:
    """A network trained from scratch, as in quick mode: five epochs of 5,500 images, rate falling to zero."""
    images, labels = labkit.load_images("MNIST", train=True)
    loader = labkit.Loader(images[:5500], labels[:5500], shuffle=True, augmented=True, seed=seed)
    labkit.set_seed(seed)
    network = labkit.CNN()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=5 * len(loader))
    loss, metric = torch.nn.CrossEntropyLoss(), labkit.AccuracyMetric()
    what = (network, loader, loader.first(64), loss, metric, optimizer)
    return test_or_train(*what, 1, 5, torch.device("cpu"), mode="train", scheduler=scheduler)[0]


def ways_of_writing(network: labkit.CNN) -> dict[str, labkit.CNN]:
    """The same pruned network, as different people would leave it."""
    found = {"library": network}
    permanent = labkit.clone(network)
    for layer in permanent.children():
        if hasattr(layer, "weight_mask"):
            prune.remove(layer, "weight")
    found["masks made permanent"] = permanent
    by_hand = labkit.clone(permanent)
    with torch.no_grad():
        for name in ALL_LAYERS:
            masked = getattr(network, name)
            if hasattr(masked, "weight_mask"):
                layer = getattr(by_hand, name)
                layer.weight.copy_(masked.weight_orig)
                prune.custom_from_mask(layer, "weight", masked.weight_mask.clone())
    found["mask by hand"] = by_hand
    twice = labkit.clone(network)
    for name in CONVOLUTIONS:  # a mask that changes nothing, on top
        layer = getattr(twice, name)
        if hasattr(layer, "weight_mask"):
            prune.custom_from_mask(layer, "weight", layer.weight_mask.clone())
    found["masked again by the same mask"] = twice
    return found


def stored(network: labkit.CNN, way: str, **metadata: Any) -> bytes:
    """The bytes of a network's file: labkit's, or a plain state_dict."""
    stream = io.BytesIO()
    if way == "plain":
        torch.save(network.state_dict(), stream)
        return stream.getvalue()
    with TemporaryDirectory() as folder:
        path = labkit.save_network(network, Path(folder) / "network.pth", **metadata)
        return path.read_bytes()


def answer_bytes(task: str, value: Any, before: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(answers.content_of(task, value, before), stream)
    return stream.getvalue()


class Pool:
    """The networks of one base, in all ways of writing, made once."""

    def __init__(self, start: labkit.CNN, seed: int) -> None:
        self.seed, self.start = seed, start
        self.networks = work.networks_of(start, seed, steps=30)
        self.ways = {name: list(ways_of_writing(network).values()) for name, network in self.networks.items()}
        self.ways["CNN_MNIST"] = [start]
        finetuned = labkit.clone(self.networks["CNN_MNIST_L1"])  # trained on, its mask in place
        work.train_a_little(finetuned, seed, steps=3)
        self.ways["CNN_MNIST_L1"].append(finetuned)
        self.notebooks = work.worked_notebooks(self.networks)
        self.trained_again = labkit.clone(start)
        work.train_a_little(self.trained_again, seed + 1, steps=3)

    def submission(self, student: str, dice: random.Random) -> tuple[Files, bool]:
        """One student's files, varied in everything that an honest student may vary.

        Also: whether notebook 01 was run again at the end, so that the other networks' base is not among the files.
        """
        again = dice.random() < 0.1
        given = work.answers_of(self.start, student, self.seed)
        files = Files()
        seed = students.seed_of(student, work.SALT)
        for name, ways in self.ways.items():
            network = dice.choice(ways)
            if name == "CNN_MNIST":
                network = self.trained_again if again else network
                files.content[f"{name}.pth"] = stored(network, "labkit", seed=seed)
            else:
                files.content[f"{name}.pth"] = stored(network, dice.choice(["labkit", "labkit", "plain"]))
        for task, (value, before) in given.items():
            value = _varied(value, dice)
            files.content[f"{task}.pth"] = answer_bytes(task, value, before)
        for name, notebook in _varied_notebooks(self.notebooks, dice).items():
            files.content[f"{name}.ipynb"] = nbformat.writes(notebook).encode()
        files.content["manifest.json"] = json.dumps({"student": student, "packed": "2026-11-22T12:00:00Z"}).encode()
        return files, again


def _varied(value: Any, dice: random.Random) -> Any:
    """An answer as somebody else would write it: of another type, in another order, another guess."""
    if isinstance(value, torch.Tensor):
        decimal = [torch.float32, torch.float64]
        is_mask = bool(((value == 0) | (value == 1)).all())
        return value.to(dice.choice([*decimal, torch.bool, torch.int64, torch.uint8] if is_mask else decimal))
    if isinstance(value, dict):
        names = list(value)
        dice.shuffle(names)
        return {name: _varied(value[name], dice) for name in names}
    if isinstance(value, float):
        return round(value * dice.uniform(0.2, 1), 3)
    return value


def _varied_notebooks(notebooks: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    varied = copy.deepcopy(notebooks)
    for notebook in varied.values():
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            if dice.random() < 0.3:  # run again, or not at all since the last restart
                cell.execution_count = dice.choice([None, 7, 1234])
            for output in cell.outputs:
                if "test accuracy ≈" in output.get("text", ""):  # another processor's last digit
                    head, _, digits = output.text.strip().rpartition("≈")
                    moved = float(digits) + dice.choice([-3, -1, 0, 0, 1, 3]) / 10_000
                    output.text = f"{head}≈{min(moved, 1.0):.{dice.choice([3, 4])}f}\n"
        if dice.random() < 0.5:  # cells of one's own
            place = dice.randrange(1, len(notebook.cells))
            notebook.cells.insert(place, nbformat.v4.new_code_cell("weights = 1\nprint(weights)", execution_count=3))
            notebook.cells.append(nbformat.v4.new_markdown_cell("My own notes: <b>25 %</b> of what?"))
        if dice.random() < 0.3:
            notebook.metadata["language_info"] = {"name": "python", "version": "3.13.1"}
            notebook.metadata["vscode"] = {"interpreter": {"hash": "0" * 64}}
    return varied
