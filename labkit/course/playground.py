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
    weights = sum(layer.weights for layer in sparsity_report(network))
    images, labels = (part[::STEP].contiguous() for part in load_images(train=False))
    tuning, flat = load_images(train=True)[0][:TUNING], torch.cat([tensor.flatten() for tensor in tensors.values()])
    lengths = [(name, tensor.numel()) for name, tensor in tensors.items()]
    facts = {"tensors": lengths, "labels": labels.tolist(), "accuracy": accuracy(network, Loader(images, labels))}
    texts = {"weights": packed(flat), "test": packed(images), "tuning": packed(tuning)}
    return rendered("playground.html.j2", facts=facts, data=texts, weights=weights, step=STEP, tuning=TUNING)


def packed(tensor: torch.Tensor) -> str:
    """A tensor's values as text: gzipped (without a date, so that they are the same each time), in base 64."""
    return base64.b64encode(gzip.compress(tensor.numpy().tobytes(), mtime=0)).decode("ascii")


def write_playground(path: Path) -> Path:
    """Write the page whole, or leave what is there; the path that it gives back has your home for ``~``.

    Raises:
        OSError: the file cannot be written.
    """
    path = path.expanduser()  # of --out=~/page.html, shells leave the ~
    runtime.check_writable(path)  # before the page is made
    return runtime.write_file(path, page())
