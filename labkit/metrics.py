"""What a prediction is worth.

Knows tensors only: no model, no data.
"""

from abc import ABC, abstractmethod

import torch


class BaseMetric(ABC):
    """A number for one batch of predictions; the loops average it over the samples."""

    @abstractmethod
    def __call__(self, y_pred: torch.Tensor, y_ref: torch.Tensor) -> float | torch.Tensor:
        """Score predictions ``y_pred`` against the truth ``y_ref``."""


class AccuracyMetric(BaseMetric):
    """Share of the samples whose largest output is the true class."""

    @torch.no_grad()
    def __call__(self, y_pred: torch.Tensor, y_ref: torch.Tensor) -> torch.Tensor:
        """Mean accuracy of one batch.

        Args:
            y_pred: (B, classes), logits or probabilities; B >= 1.
            y_ref: (B,), class numbers.

        Returns:
            A scalar float64 tensor in [0, 1], without gradient. Float64, so that a mean times B is the whole number
            of hits again.

        Raises:
            ValueError: the shapes do not fit together, or the batch is empty.
        """
        if y_pred.ndim != 2 or y_ref.shape != y_pred.shape[:1] or len(y_ref) == 0:
            shapes = f"predictions {tuple(y_pred.shape)} and labels {tuple(y_ref.shape)}"
            raise ValueError(f"{shapes} do not fit; they must be (batch, classes) and (batch,), batch >= 1")
        return (y_pred.argmax(dim=1) == y_ref).double().mean()
