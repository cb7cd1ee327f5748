"""The cases of the mask detective: networks pruned by methods drawn from the student's seed.

Six to look at, and twenty fresh ones for each check of a student's function.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.nn.utils import prune

from labkit import runtime
from labkit.checkpoints import load_network
from labkit.cnn import CNN
from labkit.course.evidence import ALL_LAYERS, CONVOLUTIONS, METHODS, Weights, dense_weights, name_method, read_pruning
from labkit.data import Loader, load_images
from labkit.sparsity import clone

BASES = ("CNN_MNIST", "CNN_MNIST_seed1", "CNN_MNIST_seed2", "CNN_MNIST_seed3", "CNN_MNIST_seed4")
COUNT = 20  # networks that a student's function is checked on
RUNS = 1_000  # checks with networks of their own, one seed each; then they come again
SHARES = (0.25, 0.375, 0.5)  # whole channels in every layer of CNN


@dataclass(frozen=True)
class Case:
    """A network before and after pruning by an unknown method."""

    before: CNN
    after: CNN


def cases(seed: int) -> list[Case]:
    """Six networks, pruned by six methods in an order drawn from the seed, by amounts drawn from it.

    A method may come more than once. The same seed gives the same cases on every machine.
    """
    dice = random.Random(f"mask detective {seed}")
    return _drawn([*METHODS[:4], *dice.choices(METHODS, k=2)], dice)


def fresh_cases(seed: int) -> list[Case]:
    """Twenty networks, each of the six methods at least twice; the same seed gives the same on every machine."""
    dice = random.Random(f"mask detective, twenty networks, {seed}")
    return _drawn([*METHODS, *METHODS, *dice.choices(METHODS, k=COUNT - 2 * len(METHODS))], dice)


def seed_of_check(student_seed: int, last: object = None) -> int:
    """The seed of the networks for the next check; it counts the checks.

    Args:
        student_seed: the student's own.
        last: the seed of the last check, if there was one; one of another student counts as none.
    """
    run = last % RUNS + 1 if type(last) is int and last // RUNS == student_seed else 0
    return student_seed * RUNS + run % RUNS


def _drawn(names: list[str], dice: random.Random) -> list[Case]:
    """Networks pruned by these methods, in an order, by amounts and from bases chosen at random."""
    load = cache(load_network)
    dice.shuffle(names)
    found = []
    for method in names:
        base = clone(load(runtime.reference_dir() / f"{dice.choice(BASES)}.pth"))
        network = clone(base)
        _prune(network, method, dice.choice(SHARES), dice.randrange(2**31))
        found.append(Case(base, network))
    return found


@cache
def digits(first: int, step: int, *, train: bool) -> Loader:
    """Every so many-th real image from the first one on, in batches that stay in the processor's cache."""
    images, labels = (part[first::step].contiguous() for part in load_images("MNIST", train=train))
    return Loader(images, labels, batch_size=50)


def truth(some: Sequence[Case]) -> list[str]:
    """The method of each case, read from its weights; "A or B" where two norms agree."""
    return [name_method(read_pruning(case.after, {"base": dense_weights(case.before)})) for case in some]


def committed_files() -> list[Path]:
    """All sparse files that are committed with the project: nobody may hand them in."""
    return sorted(path for folder in ("frontier", "small") for path in (runtime.reference_dir() / folder).glob("*.lks"))


@cache
def reference_networks() -> dict[str, CNN]:
    """Name -> network, of those that the course gives to start from, read once; nobody changes them."""
    paths = sorted(runtime.reference_dir().glob("CNN_MNIST*.pth"))
    return {f"the reference {path.stem}": load_network(path) for path in paths}


def references() -> dict[str, Weights]:
    """Name -> weights of ``reference_networks``."""
    return {name: dense_weights(network) for name, network in reference_networks().items()}


def _prune(network: CNN, method: str, amount: float, seed: int) -> None:
    if method == "global L1":
        everything = [(getattr(network, name), "weight") for name in ALL_LAYERS]
        prune.global_unstructured(everything, pruning_method=prune.L1Unstructured, amount=amount)
        return
    generator = torch.Generator().manual_seed(seed)  # torch's own random methods draw from the global generator
    for name in CONVOLUTIONS:
        layer = getattr(network, name)
        if method == "local L1":
            prune.l1_unstructured(layer, "weight", amount)
        elif method.startswith("structured"):
            prune.ln_structured(layer, "weight", amount, n=int(method[-1]), dim=0)
        else:
            places = layer.weight.shape[:1] if method == "random structured" else layer.weight.shape
            chosen = torch.randperm(places.numel(), generator=generator)[: round(amount * places.numel())]
            keep = torch.ones(places.numel())
            keep[chosen] = 0
            mask = keep.view(places) if method == "random" else keep.view(-1, 1, 1, 1).expand_as(layer.weight)
            prune.custom_from_mask(layer, "weight", mask)
