"""The state of a run after its last finished epoch, to go back to or to go on from: in memory and, if asked, in a file.

Knows no network and no loop: a part of a run is whatever has ``state_dict`` and ``load_state_dict``.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labkit import runtime
from labkit.sparsity import refresh_weights

FORMAT = "labkit run 2"


class TorchGenerator:
    """torch's global generator, as a part of a run."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Its state."""
        return {"state": torch.get_rng_state()}

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Set its state."""
        torch.set_rng_state(state_dict["state"])


class RunState:
    """The kept state of a run.

    Args:
        parts: name -> what changes in the run: a network, an optimizer, a scheduler, a ``labkit.Loader``, a
            ``TorchGenerator``. What cannot load a state is left out. A part may be replaced while the run goes on.
        settings: what the run does, in words; a file of a run with other settings is not taken up.
        path: the file, if there shall be one.

    Raises:
        OSError: the file could not be written.
    """

    def __init__(self, parts: Mapping[str, Any], settings: str, path: Path | None = None) -> None:
        if path is not None:
            runtime.check_writable(path)
        self.parts = {name: part for name, part in parts.items() if hasattr(part, "load_state_dict")}
        self.settings, self.path = settings, path
        self.content: dict[str, Any] = {}

    def keep(self, epoch: int, **counts: Any) -> None:
        """Keep the state after an epoch, and what else the run counts; that before the first epoch needs no file."""
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content = {"format": FORMAT, "settings": self.settings, "epoch": epoch, "states": content, "counts": counts}
        self.content = copy.deepcopy(content)  # a state_dict shares its tensors with the network that trains on
        if self.path is not None and epoch > 0:
            runtime.save_tensors(self.path, self.content)

    def read(self) -> dict[str, Any] | None:
        """What ``keep`` wrote into the file, or None if there is none or it is of another run.

        Raises:
            ValueError: the file holds no state of a run.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            content = dict(runtime.load_tensors(self.path))
            form = str(content["format"])
            whole = form == FORMAT and content.keys() == {"format", "settings", "epoch", "states", "counts"}
        except Exception:  # what a broken file raises depends on where it is broken
            form, whole = "", False
        if not whole and (form == FORMAT or not form.startswith("labkit run ")):
            raise ValueError(f"checkpoint is {self.path}, not an unfinished run; give another name, or delete it")
        return content if whole and content["settings"] == self.settings else None

    def take_up(self, content: dict[str, Any]) -> None:
        """Go on from what ``read`` gave."""
        self.content = content
        self.go_back()

    def go_back(self) -> None:
        """Return all parts to the kept state."""
        for name, part in self.parts.items():
            part.load_state_dict(copy.deepcopy(self.content["states"][name]))
            if isinstance(part, nn.Module):
                refresh_weights(part)

    def discard(self) -> None:
        """Remove the file: the run is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
