"""From masks to a smaller network: silence the channels that a mask has emptied, then cut them out.

A channel without weights still puts out a constant: its bias, normalised and shifted by BatchNorm. Where the next
layer pads with zeros (``conv2``), its bias cannot stand for the constant exactly: at the border fewer of its pixels
are seen. (Without padding it could, in evaluation; one way for all layers is simpler.) Hence two steps:
``silence_channels`` makes the constant zero, which changes the network's function, and ``remove_dead_channels`` cuts
out what is zero, which does not.

Knows the layers of a CNN and how they follow one another; nothing of training or cost.
"""

from collections.abc import Iterator

import torch
from torch import nn

from labkit.cnn import CNN
from labkit.sparsity import bake_masks, check_finite, effective_weight, refresh_weights

PAIRS = (("conv1", "batch1"), ("conv2", "batch2"), ("conv3", "batch3"))
SUPPORTED = "supported is labkit.CNN: conv1, batch1, conv2, batch2, conv3, batch3 and fc, in a chain"


@torch.no_grad()
def dead_channels(model: CNN) -> dict[str, list[int]]:
    """Convolution -> numbers of its output channels that BatchNorm alone keeps at zero, whatever the image.

    A channel is dead if its BatchNorm weight is 0 and its BatchNorm bias is not positive, so that nothing passes relu,
    in training and in evaluation.

    Raises:
        ValueError: not a ``labkit.CNN``, or weights that are not finite.
    """
    return {conv: dead.nonzero().flatten().tolist() for conv, _, dead, _ in _channels(model)}


@torch.no_grad()
def silence_channels(model: CNN) -> dict[str, list[int]]:
    """Make every channel without weights put out exactly zero, in place.

    Its bias and its BatchNorm weight and bias become 0. Weights that read only dead channels do not count: they see
    nothing but zeros. The function of the network changes where a silenced channel put out a positive constant. A
    silenced channel stays silent in training, since no gradient passes relu at zero, if the optimizer is a new one:
    momentum from before would move it.

    Returns:
        Convolution -> numbers of the channels that were silenced; those that were dead before are not among them.

    Raises:
        ValueError: not a ``labkit.CNN``, or weights that are not finite.
    """
    silenced = {}
    # One layer at a time: what is silenced here may leave channels of the next layer without input.
    for conv, batch, dead, empty in _channels(model):
        chosen = empty & ~dead
        for name, parameter in model.named_parameters():
            if name.removesuffix("_orig") in (f"{conv}.bias", f"{batch}.weight", f"{batch}.bias"):
                parameter[chosen] = 0
        silenced[conv] = chosen.nonzero().flatten().tolist()
    refresh_weights(model)
    return silenced


@torch.no_grad()
def remove_dead_channels(model: CNN) -> CNN:
    """A smaller copy without the dead channels, which computes the same function: logits agree up to rounding.

    Each dead channel goes with its weights, bias and BatchNorm, and with the weights of the next layer that read it
    (the next convolution, or the inputs of ``fc``). Masks are baked in: the copy is a plain ``CNN`` on the same device,
    of the same precision and in the same mode, with a plain ``state_dict``; zeros left inside its channels move in
    training. Hooks of your own are not carried over.

    Raises:
        ValueError: not a ``labkit.CNN``; a channel without weights that is not dead; a layer of which nothing would be
            left; or weights that are not finite.
    """
    kept = _kept_channels(model)
    baked = bake_masks(model)
    state, inputs = baked.state_dict(), torch.arange(model.input_shape[0], device=kept["conv1"].device)
    for conv, batch in PAIRS:
        for key, tensor in state.items():
            if key.startswith((conv, batch)) and tensor.ndim:
                state[key] = tensor[kept[conv]]
        state[f"{conv}.weight"] = state[f"{conv}.weight"][:, inputs]
        inputs = kept[conv]
    # Inputs of fc are ordered by pixel, then by channel: (classes, pixels, channels).
    state["fc.weight"] = state["fc.weight"].unflatten(1, (-1, model.channels[-1]))[:, :, inputs].flatten(1)
    with torch.device("meta"):  # no memory, and no draws from the random numbers that training uses
        small = CNN(model.input_shape, model.num_of_cls, [len(kept[conv]) for conv, _ in PAIRS])
    small.load_state_dict(state, assign=True)
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(baked.get_parameter(name).requires_grad)
    for name, layer in small.named_modules():
        layer.training = model.get_submodule(name).training
    return small


def _kept_channels(model: CNN) -> dict[str, torch.Tensor]:
    """Convolution -> numbers of the channels that are not dead, (K,)."""
    kept = {}
    for conv, _, dead, empty in _channels(model):
        loud = empty & ~dead
        if loud.any():
            constants = torch.where(loud, _constant(model, conv), -1)
            problem = f"{int(loud.sum())} of {len(loud)} channels have no weights and are not dead"
            which = f"channel {int(constants.argmax())} puts out a constant ({constants.max():.4f})"
            raise ValueError(f"{conv}: {problem}: {which}; call silence_channels first")
        if dead.all():
            raise ValueError(f"all {len(dead)} channels of {conv} are dead; a layer must keep at least one channel")
        kept[conv] = (~dead).nonzero().flatten()
    return kept


def _channels(model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor, torch.Tensor]]:
    """(convolution, its batch norm, which channels are dead (K,), which have no weights on living inputs (K,))."""
    check_chain(model)
    living: torch.Tensor | None = None
    for conv, batch in PAIRS:
        weight = effective_weight(getattr(model, conv))
        seen = weight if living is None else weight[:, living]
        dead = _is_dead(getattr(model, batch))
        yield conv, batch, dead, (seen == 0).flatten(1).all(dim=1)
        living = ~_is_dead(getattr(model, batch))  # after what the caller did to them


def _is_dead(batch: nn.Module) -> torch.Tensor:
    return (effective_weight(batch) == 0) & (effective_weight(batch, "bias") <= 0)


def _constant(model: CNN, conv: str) -> torch.Tensor:
    """What channels without weights put out in evaluation, after BatchNorm and relu: (K,)."""
    batch = getattr(model, dict(PAIRS)[conv])
    centred = effective_weight(getattr(model, conv), "bias") - batch.running_mean
    scale = effective_weight(batch) / (batch.running_var + batch.eps).sqrt()
    return (scale * centred + effective_weight(batch, "bias")).relu()


def check_chain(model: nn.Module, network: type[nn.Module] = CNN) -> None:
    """Refuse whatever has not just the layers of a network of this class, or has weights that are not finite."""
    if type(model) is not network or "SIZES" not in vars(network):  # a subclass may compute something else
        raise ValueError(f"the model is a {type(model).__name__}; {SUPPORTED}")
    with torch.device("meta"):
        chain = network(**{name: getattr(model, name) for name in vars(network)["SIZES"]})
    # The text of a layer shows its kind, sizes, stride, padding and eps.
    known, given = ({name: str(part).partition("\n")[0] for name, part in x.named_modules()} for x in (chain, model))
    for name in known | given:
        if given.get(name) != known.get(name):
            words = f"{given.get(name, 'missing')}; it must be {known.get(name, 'left out')}"
            raise ValueError(f"{name} is {words}; {SUPPORTED}")
    check_finite(model)
