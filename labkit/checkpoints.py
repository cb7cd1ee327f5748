"""Networks and optimizers in files: written whole or not at all, read without running code.

A file holds the architecture, the weights (with masks, if pruned) and metadata. Nothing here knows how a network
came about.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import Optimizer

from labkit import runtime
from labkit.cnn import CNN
from labkit.sparsity import check_finite, prunable_layers, refresh_weights

FORMAT = "labkit network 1"
SIZES = ("input_shape", "num_of_cls", "channels")  # the arguments of ``CNN``


def save_network(model: CNN, name: str | Path, **metadata: str | int | float | bool | None) -> Path:
    """Save a dense or pruned network.

    Args:
        model: the network; its tensors may be on any device.
        name: a bare name such as ``"CNN_MNIST_L1"`` goes to ``models/CNN_MNIST_L1.pth``; a path stays a path.
        metadata: what else is worth keeping with it.

    Returns:
        The file.

    Raises:
        ValueError: weights that are not finite numbers, or metadata that is not plain.
        OSError: the folder can not be written; an older file stays as it was.
    """
    for key, value in metadata.items():
        # Exactly these types: a NumPy float or torch's version string would not load with weights_only=True.
        if type(value) not in (str, int, float, bool, type(None)):
            raise ValueError(f"metadata {key} is a {type(value).__name__}; it must be str, int, float, bool or None")
    path = _path_of(name)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    check_finite(state, str(path))
    sizes = {name: getattr(model, name) for name in SIZES}
    content = {"format": FORMAT, "architecture": sizes, "state": state, "metadata": metadata}
    return runtime.save_tensors(path, content)


def load_network(name: str | Path = "CNN_MNIST", device: torch.device | str = "cpu") -> CNN:
    """Load a network, masks included.

    A bare name is looked for among your own networks in ``models/``, then among the committed ones in
    ``models/reference/``, and a line says which one it was. A path is taken as it is, silently. A plain ``state_dict``
    of a CNN for 28 × 28 images loads too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a network of labkit, of another architecture, or with weights that are not finite.
    """
    device = runtime.pick_device(str(device))
    path = _saved(name)
    if _is_bare(name) and path.exists():
        own = path == _path_of(name)
        place = "your own network (models/" if own else "the reference network (models/reference/"
        print(f"{name}: {place}{path.name})")
    return build_network(_read(path), path).to(device)


def load_other_seeds(device: torch.device | str = "cpu") -> list[CNN]:
    """The networks that were trained like ``CNN_MNIST`` from the seeds 1 to 4, as ``load_network`` finds them."""
    return [load_network(f"CNN_MNIST_seed{seed}", device) for seed in (1, 2, 3, 4)]


def build_network(content: Mapping[str, Any], path: Path) -> CNN:
    """The network that a file holds, from its content as loaded; the path is for messages only.

    Raises:
        ValueError: as ``load_network``.
    """
    if content.get("format") == FORMAT:
        sizes, state = content.get("architecture"), content.get("state")
        if not isinstance(sizes, Mapping) or sizes.keys() != set(SIZES):
            raise ValueError(f"{path} is damaged: its architecture is {sizes}")
        if not isinstance(state, Mapping):
            raise ValueError(f"{path} is damaged: its state is a {type(state).__name__}, not a state_dict")
    else:
        sizes, state = _sizes_of(content, path), content
    check_finite(state, str(path))
    model = CNN(**sizes)
    layers = prunable_layers(model)
    for key, mask in state.items():  # the masks must stand before their values can be loaded
        name, _, tensor = key.removesuffix("_mask").rpartition(".")
        masked = getattr(layers.get(name), tensor, None) if key.endswith("_mask") else None
        if isinstance(masked, nn.Parameter) and mask.shape == masked.shape:
            prune.custom_from_mask(layers[name], tensor, mask)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise ValueError(f"{path} is of another architecture: {reason[:200].strip()}") from None
    refresh_weights(model)
    return model


def load_metadata(name: str | Path) -> dict[str, Any]:
    """What ``save_network`` was told about a network, by name or path as in ``load_network``.

    Empty for a plain ``state_dict``.
    """
    return dict(_read(_saved(name)).get("metadata", {}))


def save_optimizer(optimizer: Optimizer, name: str | Path = "optimizer") -> Path:
    """Save an optimizer's state, by name or path as ``save_network`` does."""
    return runtime.save_tensors(_path_of(name), optimizer.state_dict())


def load_optimizer(optimizer: Optimizer, name: str | Path = "optimizer") -> None:
    """Load a saved state into an optimizer, in place; a bare name as in ``load_network``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not the state of such an optimizer.
    """
    path = _saved(name)
    content = _read(path)
    groups, state = content.get("param_groups", []), content.get("state")
    # A scheduler adds initial_lr to an optimizer's settings; all other names tell which optimizer it was.
    names = [group.keys() - {"initial_lr"} for group in optimizer.state_dict()["param_groups"]]
    same = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    if not same or [group.keys() - {"initial_lr"} for group in groups] != names:
        raise ValueError(f"{path} does not fit: it is not the state of a {type(optimizer).__name__}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, entry in state.items() if isinstance(state, dict) else ():
        for key, value in entry.items():
            if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape != parameters[number].shape:
                shapes = f"{tuple(value.shape)}, its parameter {tuple(parameters[number].shape)}"
                raise ValueError(f"{path} does not fit: {key} of parameter {number} has shape {shapes}")
    try:
        optimizer.load_state_dict(content)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not fit this optimizer: {error}") from None


def _is_bare(name: str | Path) -> bool:
    return isinstance(name, str) and "/" not in name and "\\" not in name and not name.endswith(".pth")


def _path_of(name: str | Path) -> Path:
    return runtime.models_dir() / f"{name}.pth" if _is_bare(name) else Path(name)


def _saved(name: str | Path) -> Path:
    """Where to load it from: for a bare name your own file, or else the committed one."""
    path = _path_of(name)
    return path if not _is_bare(name) or path.exists() else runtime.reference_dir() / path.name


def _read(path: Path) -> dict[str, Any]:
    try:
        content = runtime.load_tensors(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; run the notebook that saves it, or check the name") from None
    except Exception as error:  # what a broken file raises depends on where it is broken
        reason = f"is damaged or not a torch file ({type(error).__name__})"
        if isinstance(error, pickle.UnpicklingError) and path.read_bytes().startswith((b"PK", b"\x80")):
            reason = "holds Python objects, not only tensors; it is not loaded, since that could run code"
        raise ValueError(f"{path} {reason}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; it must hold a network of labkit or a state_dict")
    return dict(content)


def _sizes_of(state: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Widths of the CNN whose plain state_dict this is."""
    layers = ("conv1", "conv2", "conv3", "fc")
    weights = [state.get(f"{name}.weight", state.get(f"{name}.weight_orig")) for name in layers]
    shapes = [tuple(weight.shape) if isinstance(weight, torch.Tensor) else () for weight in weights]
    if [len(shape) for shape in shapes] != [4, 4, 4, 2]:
        keys = ", ".join(map(str, list(state)[:4]))
        raise ValueError(f"{path} is of another architecture (it has {keys}, …); it must be a labkit.CNN")
    channels = tuple(shape[0] for shape in shapes[:3])
    return {"input_shape": (shapes[0][1], 28, 28), "num_of_cls": shapes[3][0], "channels": channels}
