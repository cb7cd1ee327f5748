"""Networks and answers, from the tensors of their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from labkit.checkpoints import FORMAT as NETWORK_FORMAT
from labkit.checkpoints import build_network, state_in
from labkit.cnn import CNN
from labkit.course.answers import FORMAT as ANSWER_FORMAT
from labkit.course.evidence import CONVOLUTIONS
from labkit.course.submission.foreign import Refused, shown
from labkit.course.submission.notebook import dict_of
from labkit.course.submission.tensors import read_tensors
from labkit.course.task import NETWORKS


class Answer(NamedTuple):
    """An answer that is no network, and the fingerprint of the network that it belongs to."""

    value: Any
    base: str


class SubmittedNetwork(NamedTuple):
    """A network, float32, what is odd about it, and the seed in its metadata, of any kind."""

    network: CNN
    flags: list[str]
    seed: Any


def read_network(content: bytes, name: str) -> SubmittedNetwork:
    """A submitted network.

    Raises:
        Refused: with the reason.
    """
    found = read_tensors(content)
    try:
        network, flags = _network_of(found, name)
    except ValueError as error:  # one that is Refused, too
        raise Refused(shown(str(error), 200)) from None
    except Exception as error:  # of strange types, whatever is done with them may raise
        raise Refused(f"holds no network ({type(error).__name__}: {shown(str(error))})") from None
    return SubmittedNetwork(network, flags, dict_of(found.get("metadata")).get("seed"))


def _network_of(found: Mapping[Any, Any], name: str) -> tuple[CNN, list[str]]:
    state = state_in(found, Path(name))
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise Refused(f"holds no network, but {shown(', '.join(map(str, found)), 80) or 'nothing'}")
    sizes: dict[str, Any] = {"input_shape": (1, 28, 28), "num_of_cls": 10, "channels": _channels_of(state, name)}
    _check_shapes(state, sizes)
    claimed = found.get("architecture", sizes)
    if not isinstance(claimed, dict) or any(_as_tuple(claimed.get(x)) != _as_tuple(y) for x, y in sizes.items()):
        raise Refused("is of another architecture")
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in state.values() if tensor.is_floating_point()}
    integers = [key for key, tensor in state.items() if not tensor.is_floating_point() and "num_batches" not in key]
    flags = [f"{name} holds {', '.join(sorted(kinds - {'float32'}))} numbers"] if kinds - {"float32"} else []
    flags += [f"{name} holds whole numbers in {integers[0]}"] if integers else []
    network = build_network({"format": NETWORK_FORMAT, "architecture": sizes, "state": state}, Path(name), CNN)
    return network.float().eval(), flags


def _check_shapes(state: Mapping[Any, torch.Tensor], sizes: dict[str, Any]) -> None:
    with torch.device("meta"):
        wanted = {key: tuple(tensor.shape) for key, tensor in CNN(**sizes).state_dict().items()}
    for key, tensor in state.items():
        plain = key.removesuffix("_orig").removesuffix("_mask")
        if wanted.get(plain) != tuple(tensor.shape):
            shape = "×".join(str(length) for length in tensor.shape)
            raise Refused(f"is of another architecture: {shown(str(key), 40)} has shape {shape or 'of one number'}")
        if key.endswith("_mask") and not bool(((tensor == 0) | (tensor == 1)).all()):
            raise Refused(f"has a mask with values other than 0 and 1: {key}")


def _channels_of(state: Mapping[Any, torch.Tensor], name: str) -> tuple[int, ...]:
    """The widths that a network may have: fewer than those of CNN() for the one that was to be shrunk."""
    most = CNN().channels
    weights = [state.get(f"{x}.weight", state.get(f"{x}.weight_orig")) for x in CONVOLUTIONS]
    widths = tuple(len(weight) if weight is not None and weight.ndim == 4 else 0 for weight in weights)
    fit = all(1 <= width <= limit for width, limit in zip(widths, most, strict=True))
    return widths if NETWORKS[name].narrower and fit else most


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def read_answer(content: bytes, task: str) -> Answer:
    """A submitted answer.

    Raises:
        Refused: with the reason.
    """
    found = read_tensors(content)
    if found.get("format") != ANSWER_FORMAT or found.get("task") != task:
        raise Refused("is no answer to this task")
    base = found.get("base", "")
    # Small nested tuples can be endless when spelt out.
    if not isinstance(base, str):
        raise Refused(f"names the network that it belongs to by a {type(base).__name__}")
    return Answer(found.get("value"), base)
