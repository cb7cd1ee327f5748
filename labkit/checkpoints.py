"""Networks and optimizers in files: written whole or not at all, read without running code.

A file holds the architecture, the weights (with masks, if pruned) and metadata. Nothing here knows how a network
came about.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import Optimizer

from labkit import runtime
from labkit.cnn import CNN
from labkit.sparsity import check_finite, refresh_weights

N = TypeVar("N", bound=nn.Module)
FORMAT = "labkit network 1"
FIRST_LAYER = re.compile(r"((?:[A-Za-z_]\w*\.)*)conv1\..+")  # a key, with what DataParallel and others write before it


def unwrapped(model: Any) -> Any:
    """The network inside of what ``torch.compile`` or ``DataParallel`` made of it; any other stays as it is."""
    for name in ("_orig_mod", "module") * 2:  # one may be around the other
        model = getattr(model, name, model)
    return model


def save_network(model: nn.Module, name: str | Path, **metadata: str | int | float | bool | None) -> Path:
    """Save a dense or pruned network, and read it back before an older file is replaced.

    Args:
        model: the network; its tensors may be on any device, and ``torch.compile`` or ``DataParallel`` around it.
        name: a bare name such as ``"CNN_MNIST_L1"`` goes to ``models/CNN_MNIST_L1.pth``; a path stays a path.
        metadata: what else is worth keeping with it.

    Returns:
        The file.

    Raises:
        ValueError: no CNN, one that ``load_network`` could not load, weights that are not finite numbers, or metadata
            that is not plain.
        OSError: the folder cannot be written; an older file stays as it was.
    """
    for key, value in metadata.items():
        # Exactly these types: a NumPy float or torch's version string would not load with weights_only=True.
        if type(value) not in (str, int, float, bool, type(None)):
            raise ValueError(f"metadata {key} is a {type(value).__name__}; it must be str, int, float, bool or None")
    path, model = _path_of(name), unwrapped(model)
    # A class of one's own may add to CNN, and take other arguments.
    kind = next((kind for kind in type(model).__mro__ if "SIZES" in vars(kind)), None)
    if kind is None:
        raise ValueError(f"the network is a {type(model).__name__}; it must be a labkit.CNN or labkit.RowTransformer")
    sizes = {size: getattr(model, size) for size in vars(kind)["SIZES"]}
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    check_finite(state, str(path))
    content = {"format": FORMAT, "architecture": sizes, "state": state_in(state, path), "metadata": metadata}
    named = Path("what was to be saved")
    return runtime.save_tensors(path, content, lambda file: build_network(_read(file), named, kind))


@overload
def load_network(name: str | Path = ..., device: torch.device | str = ...) -> CNN: ...
@overload
def load_network(name: str | Path, device: torch.device | str, network: type[N]) -> N: ...
def load_network(
    name: str | Path = "CNN_MNIST", device: torch.device | str = "cpu", network: type[nn.Module] = CNN
) -> nn.Module:
    """Load a network, masks included: a ``CNN``, or of another class that says its ``SIZES``.

    A bare name is looked for among your own networks in ``models/``, then among the committed ones in
    ``models/reference/``, and a line says which one it was. A path is taken as it is, silently. A plain ``state_dict``
    of a CNN for 28 × 28 images loads too, also out of a checkpoint such as ``{"epoch": 5, "model_state_dict": ...}``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a network of labkit, of another architecture, or with weights that are not finite.
    """
    device = runtime.pick_device(str(device))
    path = _saved(name)
    if _is_bare(name) and path.exists():
        place = "your own network (models/" if path == _path_of(name) else "the reference network (models/reference/"
        print(f"{name}: {place}{path.name})")
    return build_network(_read(path), path, network).to(device)


def load_other_seeds(device: torch.device | str = "cpu") -> list[CNN]:
    """The networks that were trained like ``CNN_MNIST`` from the seeds 1 to 4, as ``load_network`` finds them."""
    return [load_network(f"CNN_MNIST_seed{seed}", device) for seed in (1, 2, 3, 4)]


def build_network(content: Mapping[str, Any], path: Path, network: type[N]) -> N:
    """The network that a file holds, from its content as loaded; the path is for messages only.

    Raises:
        ValueError: as ``load_network``.
    """
    state = state_in(content, path)
    sizes = content.get("architecture") if content.get("format") == FORMAT else _sizes_of(state, path)
    if not isinstance(sizes, Mapping) or sizes.keys() != set(getattr(network, "SIZES", ())):
        raise ValueError(f"{path} holds no {network.__name__}, or is damaged: its architecture is {sizes}")
    check_finite(state, str(path))
    model = network(**sizes)
    layers = dict(model.named_modules())
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


def state_in(content: Mapping[Any, Any], path: Path) -> Mapping[Any, Any]:
    """The state_dict of a CNN in a file's content, by the names that ``CNN`` has; else what it has of a state.

    Many save ``{"epoch": 5, "model_state_dict": ...}``. ``torch.compile`` writes ``_orig_mod.`` into the names,
    ``DataParallel`` ``module.`` before them, and Lightning ``model.``.

    Raises:
        ValueError: several networks; the path is for the message only.
    """
    states = []
    for part in (content, *content.values()):
        names = {str(key).replace("_orig_mod.", ""): key for key in part} if isinstance(part, Mapping) else {}
        if first := next(filter(None, map(FIRST_LAYER.fullmatch, names)), None):
            states.append({x.removeprefix(first[1]): part[y] for x, y in names.items() if x.startswith(first[1])})
    if len(states) > 1:
        raise ValueError(f"{path} holds {len(states)} networks; it must hold one")
    rest = content["state"] if isinstance(content.get("state"), Mapping) else content
    return states[0] if states else rest


def load_metadata(name: str | Path) -> dict[str, Any]:
    """The metadata that ``save_network`` was given for a network, by name or path as in ``load_network``.

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
    # A scheduler adds initial_lr to an optimizer's settings; all other names identify the optimizer.
    own, theirs = optimizer.state_dict()["param_groups"], content.get("param_groups")
    groups = [group for group in theirs if isinstance(group, dict)] if isinstance(theirs, list) else []
    if [group.keys() - {"initial_lr"} for group in groups] != [group.keys() - {"initial_lr"} for group in own]:
        raise ValueError(f"{path} does not fit: it is not the state of a {type(optimizer).__name__}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    try:
        for number, entry in content["state"].items():
            for key, value in entry.items():
                if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape != parameters[number].shape:
                    shapes = f"{tuple(value.shape)}, its parameter {tuple(parameters[number].shape)}"
                    raise ValueError(f"{key} of parameter {number} has shape {shapes}")
        optimizer.load_state_dict(content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not fit this optimizer: {error}") from None


def _is_bare(name: str | Path) -> bool:
    return isinstance(name, str) and "/" not in name and "\\" not in name and not name.endswith(".pth")


def _path_of(name: str | Path) -> Path:
    return runtime.models_dir() / f"{name}.pth" if _is_bare(name) else Path(name).expanduser()


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
    weights = [state.get(f"{x}.weight", state.get(f"{x}.weight_orig")) for x in ("conv1", "conv2", "conv3", "fc")]
    shapes = [tuple(getattr(weight, "shape", ())) for weight in weights]
    if [len(shape) for shape in shapes] != [4, 4, 4, 2]:
        keys = ", ".join(map(str, list(state)[:4]))
        raise ValueError(f"{path} is of another architecture (it has {keys}, …); it must be a labkit.CNN")
    sizes = (shapes[0][1], 28, 28), shapes[3][0], tuple(shape[0] for shape in shapes[:3])
    return dict(zip(CNN.SIZES, sizes, strict=True))
