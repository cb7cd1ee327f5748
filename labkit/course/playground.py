"""The playground: one page that prunes the committed network in the browser, made from the weights and from MNIST.

What it does is in the templates, ``report/templates/playground*``: an engine and a page, both in plain JavaScript. Here
is only what goes into them.
"""

import base64
import gzip
from pathlib import Path

import torch

from labkit import runtime
from labkit.checkpoints import load_network
from labkit.course.report.pages import rendered
from labkit.data import Loader, load_images
from labkit.sparsity import sparsity_report
from labkit.training import accuracy

STEP = 20  # every 20th test image: 500 of 10,000, from all writers
TUNING = 256  # training images that BatchNorm's statistics are measured on: four batches of 64


def page() -> str:
    """The page; the same weights and images give the same text."""
    network = load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    tensors = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    images, labels = (part[::STEP].contiguous() for part in load_images(train=False))
    data = {"weights": torch.cat([tensor.flatten() for tensor in tensors.values()]), "test": images}
    data["tuning"] = load_images(train=True)[0][:TUNING]
    lengths = [(name, tensor.numel()) for name, tensor in tensors.items()]
    facts = {"tensors": lengths, "labels": labels.tolist(), "accuracy": accuracy(network, Loader(images, labels))}
    weights = sum(layer.weights for layer in sparsity_report(network))
    texts = {name: packed(tensor) for name, tensor in data.items()}
    return rendered("playground.html.j2", facts=facts, data=texts, weights=weights, step=STEP, tuning=TUNING)


def packed(tensor: torch.Tensor) -> str:
    """A tensor's values as text: gzipped (without a date, so that they are the same each time), in base 64."""
    return base64.b64encode(gzip.compress(tensor.numpy().tobytes(), mtime=0)).decode("ascii")


def write_playground(path: Path) -> Path:
    """Write the page whole, or leave what is there; the path that it gives back has your home for ``~``.

    Raises:
        OSError: the file cannot be written.
    """
    return runtime.write_file(path.expanduser(), page())  # of --out=~/page.html, shells leave the ~
