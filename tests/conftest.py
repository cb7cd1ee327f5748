"""What several tests share: real digits, tiny networks, closed figures."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis.configuration import set_hypothesis_home_dir
from torch import nn

import labkit

matplotlib.use("Agg")
# The same examples every time, no memory of earlier runs, and no .hypothesis folder in the project.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "labkit-hypothesis")
hypothesis.settings.register_profile("labkit", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("labkit")


@pytest.fixture(scope="session")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """The 60,000 training images and labels; nobody may change them."""
    return labkit.load_images("MNIST", train=True)


@pytest.fixture(scope="session")
def small(digits: tuple[torch.Tensor, torch.Tensor]) -> Callable[..., labkit.Loader]:
    """Makes a loader of the first ``count`` digits."""

    def make(count: int = 128, batch_size: int = 32, **options: object) -> labkit.Loader:
        images, labels = digits
        return labkit.Loader(images[:count], labels[:count], batch_size, **options)

    return make


@pytest.fixture(scope="session")
def tiny() -> Callable[..., labkit.CNN]:
    """Makes a CNN of 4, 6 and 8 channels, always with the same weights for the same seed."""

    def make(seed: int = 0, channels: tuple[int, int, int] = (4, 6, 8)) -> labkit.CNN:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return labkit.CNN(channels=channels)

    return make


@pytest.fixture(scope="session")
def layer() -> Callable[..., nn.Linear]:
    """Makes a linear layer without bias whose weights are the given rows."""

    def make(*rows: list[float]) -> nn.Linear:
        made = nn.Linear(len(rows[0]), len(rows), bias=False)
        with torch.no_grad():
            made.weight.copy_(torch.tensor(rows))
        return made

    return make


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    yield
    plt.close("all")
