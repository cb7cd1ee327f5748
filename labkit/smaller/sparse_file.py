"""A network in few bytes: its nonzero weights, rounded to a few bits, and their places.

A file is, after eight bytes (a signature and a CRC-32 of all that follows), one LZMA stream that unpacks to: the sizes
of the network, and each tensor of its ``state_dict``, by name. Of a convolution or linear layer the nonzero weights are
stored as whole numbers that fit into ``bits`` bits, one byte each (LZMA makes fewer bits fewer bytes), times one scale
for each output channel, and their places as the numbers of zeros between them (Han, Mao and Dally 2016, "Deep
compression"). All other numbers are stored in 16 bits, or in 32 where one is beyond 65,504.

Nothing in such a file is code, and no more is unpacked than the network that it announces can need.
"""

import io
import lzma
import struct
import zlib
from itertools import islice
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from torch import nn

from labkit import runtime
from labkit.cnn import CNN
from labkit.smaller.shrink import check_chain
from labkit.sparsity import bake_masks, check_finite, prunable_layers

N = TypeVar("N", bound=nn.Module)
SIGNATURE = b"LKS1"
HEAD = struct.Struct("<8I")  # sizes of the network, 7 at most, zeros before them, and bits
MOST_PARAMETERS = 20_000_000
# One literal does not foretell the next one, and their place in memory means nothing: no contexts.
FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 20}]


def save_sparse(model: nn.Module, path: str | Path, bits: int = 8) -> Path:
    """Save a dense or pruned network as a sparse file; masks are baked in.

    Args:
        model: the network, of any precision and on any device.
        path: the file.
        bits: of a weight, 2 to 8: it becomes one of 2**bits - 1 multiples of its channel's largest weight /
            (2**(bits - 1) - 1). A weight that is rounded to zero is gone.

    Returns:
        The file.

    Raises:
        ValueError: not a ``CNN`` or ``RowTransformer``, bits out of range, or weights that are not finite.
        OSError: the folder cannot be written; an older file stays as it was.
    """
    check_chain(model, type(model))
    return runtime.write_file(Path(path), pack_sparse(model, bits))


@overload
def load_sparse(path: str | Path) -> CNN: ...
@overload
def load_sparse(path: str | Path, network: type[N]) -> N: ...
def load_sparse(path: str | Path, network: type[nn.Module] = CNN) -> nn.Module:
    """Load a network from a sparse file, without masks, float32, on the CPU, in evaluation mode.

    Args:
        path: the file.
        network: the class of the network.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a sparse file, truncated or damaged, of another class, of a network that is too large, or with
            weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; save_sparse writes such files")
    # A network's file cannot be longer than its numbers: read no more than that of a wrong file.
    with path.open("rb") as file:
        content = file.read(min(8 * MOST_PARAMETERS, path.stat().st_size))
    if content[:4] != SIGNATURE:
        raise ValueError(f"{path} is not a sparse file of labkit: it starts with {content[:4]!r}, not {SIGNATURE!r}")
    if len(content) < 8 or struct.unpack("<I", content[4:8])[0] != zlib.crc32(content[8:]):
        raise ValueError(f"{path} is damaged or truncated: its checksum is wrong")
    try:
        return _unpacked(content[8:], network)
    except (lzma.LZMAError, struct.error, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def pack_sparse(model: nn.Module, bits: int = 8) -> bytes:
    """The bytes of a sparse file; of a network without ``SIZES`` they give the size and cannot be loaded."""
    runtime.check_whole("bits", bits, 2, 8)
    parts = [HEAD.pack(*_sizes(model), bits)]
    baked = bake_masks(model).cpu().float()
    check_finite(baked)
    weights = {f"{name}.weight" for name in prunable_layers(baked)}
    for key, tensor in sorted(baked.state_dict().items()):  # by name: baking moves weights behind biases
        values = tensor.double().numpy()
        if key in weights:
            parts.append(_packed_weight(values.reshape(len(values), -1), bits))
        elif not key.endswith("num_batches_tracked"):
            small = np.abs(values).max(initial=0) <= np.finfo(np.float16).max  # the first byte says so
            parts.append(bytes([2 if small else 4]) + values.astype(np.float16 if small else np.float32).tobytes())
    packed = lzma.compress(b"".join(parts), format=lzma.FORMAT_RAW, filters=FILTERS)
    return SIGNATURE + struct.pack("<I", zlib.crc32(packed)) + packed


def _sizes(model: nn.Module) -> list[int]:
    """The 7 numbers that a network is built from: zeros, then the arguments that its class names."""
    arguments = [getattr(model, name) for name in vars(type(model)).get("SIZES", ())]
    sizes = [size for part in arguments for size in (part if isinstance(part, tuple) else [part])]
    return [0] * (7 - len(sizes)) + sizes


def _packed_weight(rows: np.ndarray, bits: int) -> bytes:
    """Weights (channels, weights of each): scales, number of places, places, numbers."""
    most = 2 ** (bits - 1) - 1
    scales = (np.abs(rows).max(axis=1) / most).astype(np.float32)
    # The largest float32 must not overflow when it is read.
    scales = np.minimum(scales, np.nextafter(np.float32(np.finfo(np.float32).max / most), np.float32(0)))
    whole = np.rint(rows / np.where(scales > 0, scales, 1)[:, None]).clip(-most, most).astype(np.int8).ravel()
    where = whole.nonzero()[0]
    gaps = np.diff(where, prepend=-1) - 1  # zeros before each nonzero weight
    # 255 stands for 255 zeros and no weight after them.
    places = np.full((gaps // 255 + 1).sum(), 255, np.uint8)
    places[(gaps // 255 + 1).cumsum() - 1] = gaps % 255
    return scales.tobytes() + struct.pack("<I", len(places)) + places.tobytes() + whole[where].tobytes()


def _unpacked(packed: bytes, network: type[nn.Module]) -> nn.Module:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=FILTERS)
    # The first bytes give the size of the network, and so how much there can be to unpack.
    *sizes, bits = HEAD.unpack(unpacker.decompress(packed, max_length=HEAD.size))
    if not 2 <= bits <= 8 or max(sizes) > 65_535:
        raise ValueError(f"its sizes are {sizes} with {bits} bits")
    lengths: dict[str, int] = vars(network).get("SIZES", {})
    numbers = iter(sizes[7 - sum(max(1, length) for length in lengths.values()) :])
    arguments = {name: tuple(islice(numbers, n)) if n else next(numbers) for name, n in lengths.items()}
    with torch.device("meta"):
        model = network(**arguments)
    if _sizes(model) != sizes:
        raise ValueError(f"it is no {network.__name__}: its sizes are {sizes}")
    count = sum(tensor.numel() for tensor in model.state_dict().values())
    if count > MOST_PARAMETERS:
        raise ValueError(f"its network has {count:,} numbers; at most {MOST_PARAMETERS:,} are read")
    content = io.BytesIO(unpacker.decompress(b"", max_length=8 * count + 64))
    weights = {f"{name}.weight" for name in prunable_layers(model)}
    state = {}
    for key, tensor in sorted(model.state_dict().items()):
        if key in weights:
            values = _unpacked_weight(content, len(tensor), tensor[0].numel(), 2 ** (bits - 1) - 1)
        elif key.endswith("num_batches_tracked"):
            values = np.array(0)
        else:
            size = _read(content, np.uint8, 1)[0]
            if size not in (2, 4):
                raise ValueError(f"{key} has numbers of {size} bytes")
            values = _read(content, np.float16 if size == 2 else np.float32, tensor.numel()).astype(np.float32)
        state[key] = torch.from_numpy(values).view(tensor.shape)
    if content.read(1) or not unpacker.eof or unpacker.unused_data:
        raise ValueError("it does not end where its network does")
    check_finite(state)
    model.load_state_dict(state, assign=True)
    return model.eval()


def _unpacked_weight(content: io.BytesIO, rows: int, each: int, most: int) -> np.ndarray:
    scales = _read(content, np.float32, rows)
    count = int(_read(content, np.uint32, 1)[0])
    if count > rows * each:
        raise ValueError(f"a layer of {rows * each} weights has {count} places")
    places = _read(content, np.uint8, count).astype(np.int64)
    is_weight = places != 255
    where = (places + is_weight).cumsum()[is_weight] - 1
    whole = _read(content, np.int8, len(where)).astype(np.float32)
    if len(where) and where[-1] >= rows * each:
        raise ValueError(f"a weight is at place {where[-1]} of {rows * each}")
    if (np.abs(whole) > most).any():
        raise ValueError(f"a weight is {whole[np.abs(whole).argmax()]:.0f} of at most {most} steps")
    values = np.zeros(rows * each, np.float32)
    values[where] = whole
    with np.errstate(over="ignore", invalid="ignore"):
        return values.reshape(rows, each) * scales[:, None]


def _read(content: io.BytesIO, kind: type[np.generic], count: int) -> np.ndarray:
    """So many numbers, (count,); a ValueError if fewer are left."""
    return np.frombuffer(content.read(count * np.dtype(kind).itemsize), kind, count)
