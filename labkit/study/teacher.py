"""Distillation: learning from what larger networks say of an image (Hinton et al. 2015, "Distilling the knowledge").

The teacher is the mean of the logits of the committed dense networks. It never changes, so it is asked once about each
training image at each place, and its answers are kept.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from filelock import FileLock

from labkit import runtime
from labkit.data import Loader
from labkit.metrics import AccuracyMetric
from labkit.smaller.sparse_file import load_sparse
from labkit.training import digest_of_tensors

TEACHERS = "MNIST_dense_124448_e12_s*.lks"  # of models/reference/frontier
TEACHER_WEIGHT, TEMPERATURE = 0.7, 3.0


@dataclass(eq=False, repr=False)
class ShiftedLoader(Loader):
    """Batches of images, each moved by a few pixels at random.

    Iterating gives ``(X, y)``, X as of a ``Loader``, and y (B,) labels; with a teacher, y is (B, 1 + classes) float32:
    the label, and the teacher's logits for the image where it now stands.

    Args:
        images: and the others up to ``seed``, as of a ``Loader``.
        shift: pixels to each side, at most.
        answers: of the teacher (``ask_teacher``).
    """

    shift: int = 0
    answers: torch.Tensor | None = None

    def _batch(self, chosen: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        places = torch.randint(2 * self.shift + 1, (2, len(chosen)), generator=generator)
        rows, columns = places.unsqueeze(2) + torch.arange(self.images.shape[1])  # (B, side) each
        # The window that begins in row r and column c shows it moved by shift - r pixels down, shift - c to the right.
        edged = F.pad(self.images[chosen], (self.shift,) * 4)  # (B, side + 2 · shift, side + 2 · shift), black edges
        X = edged[torch.arange(len(chosen))[:, None, None], rows[:, :, None], columns[:, None, :]]
        y = self.labels[chosen]
        if self.answers is not None:
            y = torch.cat([y.unsqueeze(1), self.answers[places[0], places[1], chosen]], dim=1)
        return X, y


@torch.no_grad()
def ask_teacher(images: torch.Tensor, shift: int, folder: Path | None = None) -> torch.Tensor:
    """The teacher's logits for each image at each place, (2 · shift + 1, 2 · shift + 1, N, classes): row, column.

    Args:
        images: (N, side, side) uint8.
        shift: pixels to each side, at most.
        folder: keeps the answers for the next point: for 55,000 images at nine places they take some minutes.

    Raises:
        OSError: the folder cannot be written.
    """
    if folder is None:
        return _answers(images, shift)
    path = folder / f"teacher_{shift}_{digest_of_tensors({'images': images})[:12]}.pth"
    runtime.check_writable(path)
    with FileLock(path.with_suffix(".lock")):  # one worker asks, the others wait
        if not path.exists():
            runtime.save_tensors(path, _answers(images, shift))
        return torch.as_tensor(runtime.load_tensors(path))


def _answers(images: torch.Tensor, shift: int) -> torch.Tensor:
    networks = [load_sparse(path) for path in sorted((runtime.reference_dir() / "frontier").glob(TEACHERS))]
    side, edged, labels = images.shape[1], F.pad(images, (shift,) * 4), torch.zeros(len(images), dtype=torch.long)
    answers = []
    for row, column in product(range(2 * shift + 1), repeat=2):
        moved = Loader(edged[:, row : row + side, column : column + side], labels, batch_size=128)
        with runtime.mixed_precision(torch.device("cpu")):
            logits = [torch.stack([network(X) for network in networks]).float().mean(dim=0) for X, _ in moved]
        answers.append(torch.cat(logits))
    return torch.stack(answers).unflatten(0, (2 * shift + 1, -1))


def distillation_loss(logits: torch.Tensor, y: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean loss of a batch: cross entropy with the labels, and its like with softened answers of a teacher, if any.

    The second part has the factor T², since its gradients shrink as 1 / T² (Hinton et al. 2015).

    Args:
        logits: (B, classes).
        y: (B,) labels, or (B, 1 + classes) of a ``ShiftedLoader`` with a teacher.
        label_smoothing: of the first part.
    """
    hard = F.cross_entropy(logits, labels_of(y), label_smoothing=label_smoothing)
    if y.ndim == 1:
        return hard
    soft, says = (F.log_softmax(part.float() / TEMPERATURE, dim=1) for part in (logits, y[:, 1:]))
    apart = F.kl_div(soft, says, reduction="batchmean", log_target=True)
    return (1 - TEACHER_WEIGHT) * hard + TEACHER_WEIGHT * TEMPERATURE**2 * apart


class TaughtAccuracy(AccuracyMetric):
    """Accuracy with or without a teacher."""

    def __call__(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Share of right answers, from (B, classes) and (B,) or (B, 1 + classes), as ``distillation_loss``."""
        return super().__call__(logits, labels_of(y))


def labels_of(y: torch.Tensor) -> torch.Tensor:
    """Labels (B,) of a batch with or without the answers of a teacher."""
    return y if y.ndim == 1 else y[:, 0].long()
