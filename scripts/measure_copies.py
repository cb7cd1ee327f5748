"""How near honest networks come to each other, and how near copies: the numbers behind ``labkit.course.copies.NEAR``.

Trains 4 × 33 networks for a short time, which is the hardest case, since a longer training leads further away: 528
pairs of each kind. About 15 minutes on one core:

    LABKIT_BARS=0 python scripts/measure_copies.py

With ``--save FOLDER`` the networks of one seed are kept, and ``--beside FOLDER`` compares with those of another
processor or another setting (``LABKIT_BF16=0``, ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2``).
"""

import argparse
import math
from pathlib import Path

import torch
from torch.nn.utils import prune

from labkit import runtime
from labkit.checkpoints import load_network, save_network
from labkit.cnn import CNN
from labkit.course import copies
from labkit.course.evidence import CONVOLUTIONS, Weights
from labkit.data import Loader, load_images
from labkit.metrics import AccuracyMetric
from labkit.smaller.widths import with_channels
from labkit.sparsity import bake_masks, prunable_layers
from labkit.training import train_one_epoch

COUNT, STEPS, BATCH = 33, 43, 64  # one round of notebook 05 in quick mode has 43 steps
IMAGES, LABELS = load_images("MNIST", train=True)


def train(network: CNN, seed: int, rate: float) -> CNN:
    """The least training that a student in quick mode may do."""
    count = STEPS * BATCH
    loader = Loader(IMAGES[:count], LABELS[:count], BATCH, shuffle=True, augmented=True, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    falls = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
    what = (torch.nn.CrossEntropyLoss(), AccuracyMetric(), optimizer, 1, torch.device("cpu"), falls)
    train_one_epoch(network, loader, *what)
    return network


def from_scratch(seed: int) -> CNN:
    """Its own seeds."""
    runtime.set_seed(seed)
    return train(CNN(), seed, 0.1)


def retrained(seed: int) -> CNN:
    """One round of notebook 05, all from the same reference."""
    network = load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    for name in CONVOLUTIONS:
        prune.l1_unstructured(getattr(network, name), "weight", 0.1)
    return train(network, seed, 0.05)


def sparse(seed: int) -> CNN:
    """800 weights of the same reference."""
    network = load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    layers = [(layer, "weight") for layer in prunable_layers(network).values()]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=124_448 - 800)
    return train(network, seed, 0.1)


def narrow(seed: int) -> CNN:
    """A sixteenth of the work of the same reference."""
    network = load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    return train(with_channels(network, {"conv1": 6, "conv2": 14, "conv3": 48}), seed, 0.1)


def sketch(network: CNN) -> torch.Tensor:
    """Of a network, as (1, PARTS, NUMBERS)."""
    return copies._sketch(copies.effective_weights(network), network)[None]


def weights_apart(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n, m): the distances, also of networks that are no copies."""
    layers = [torch.cdist(first[:, x], second[:, x], compute_mode="donot_use_mm_for_euclid_dist") for x in range(4)]
    return torch.stack(layers).nan_to_num(math.inf).sort(dim=0).values[1]


def say(kind: str, distances: torch.Tensor) -> None:
    """One line."""
    print(f"{kind:36} n={distances.numel():5} {distances.min():.1e} to {distances.max():.1e}", flush=True)


def copies_of(weights: Weights) -> dict[str, dict[str, torch.Tensor]]:
    """Way -> weights of a copy."""
    dice = torch.Generator().manual_seed(0)
    made = {
        f"copies with {size:g} of noise": {
            name: weight * (1 + size * torch.randn(weight.shape, generator=dice)) for name, weight in weights.items()
        }
        for size in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
    }
    for precision in (torch.float16, torch.bfloat16):
        made[f"copies through {precision}"] = {name: x.to(precision).float() for name, x in weights.items()}
    return made


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--save", type=Path)
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{runtime.processor()}, torch {torch.__version__}; a copy is nearer than {copies.NEAR}")
    if options.save or options.beside:
        for kind in (from_scratch, retrained):
            for seed in range(4):
                network, name = kind(seed), f"{kind.__name__}_{seed}.pth"
                if options.save:
                    save_network(bake_masks(network), options.save.absolute() / name)
                if options.beside:
                    other = load_network(options.beside.absolute() / name)
                    say(f"one seed: {kind.__name__} {seed}", weights_apart(sketch(network), sketch(other)))
        return
    apart: dict[str, list[float]] = {}
    for whole, known in copies._committed().values():
        for way, weights in copies_of(whole).items():
            apart.setdefault(way, []).append(float(weights_apart(copies._of_weights(weights)[None], known[None])))
    for way, distances in apart.items():
        say(way, torch.tensor(distances))
    committed = torch.stack([known for _, known in copies._committed().values()])
    pairs = torch.triu_indices(len(committed), len(committed), 1).unbind()
    say("committed networks", weights_apart(committed, committed)[pairs])
    for kind in (from_scratch, retrained, sparse, narrow):
        sketches = torch.cat([sketch(kind(seed)) for seed in range(1, COUNT + 1)])
        say(
            f"{kind.__name__}, other seeds",
            weights_apart(sketches, sketches)[torch.triu_indices(COUNT, COUNT, 1).unbind()],
        )
        say(f"{kind.__name__} and committed ones", weights_apart(sketches, committed))


if __name__ == "__main__":
    main()
