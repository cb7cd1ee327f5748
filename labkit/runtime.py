"""The machine: folders, seeds, device, precision, threads, versions.

Knows nothing of networks or data. What the environment may say:

===================  ====================================================================
``LABKIT_DATA``      folder of the data sets (default: ``data/`` of the project)
``LABKIT_MODELS``    folder of the saved networks (default: ``models/`` of the project)
``LABKIT_DEVICE``    ``cpu`` or ``cuda`` (default: ``cuda`` where there is one)
``LABKIT_BF16``      ``0``: train in float32; ``1``: in bfloat16, even if it must be emulated
                     (default: bfloat16 where the processor multiplies it itself)
``LABKIT_BARS``      ``0``: no progress bars
``LABKIT_QUICK``     ``1``: quick mode, a tenth of the training images
===================  ====================================================================
"""

import io
import os
import platform
import random
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

PROJECT = Path(__file__).resolve().parent.parent
EMULATED = "LABKIT_BF16=1: this processor only emulates bfloat16; training is slower than in float32"
# What ONEDNN_MAX_CPU_ISA may say, and oneDNN then does without those; every other of its names lets it use them.
ISA_WITHOUT_BF16 = ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")


def data_dir() -> Path:
    """Folder of the data sets."""
    return _folder("LABKIT_DATA", PROJECT / "data")


def models_dir() -> Path:
    """Folder that saved networks go to."""
    return _folder("LABKIT_MODELS", PROJECT / "models")


def reference_dir() -> Path:
    """Folder of the networks and records that are committed with the project."""
    return PROJECT / "models" / "reference"


def bars_are_on() -> bool:
    """Whether progress bars are drawn."""
    return _switch("LABKIT_BARS", default="1")


def quick_mode() -> bool:
    """Whether training uses a tenth of the images."""
    return _switch("LABKIT_QUICK", default="0")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Make sure that an argument is a whole number in a range.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int or value < least or (most is not None and value > most):
        rule = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}; it must be a whole number {rule}")


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators.

    ``torch.nn.utils.prune`` draws random masks from torch's global generator, and has no argument for another.

    Raises:
        ValueError: seed is not a whole number in 0 .. 2**32 - 1.
    """
    check_whole("seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that a student's own code draws from
    torch.manual_seed(seed)


def pick_device(name: str | None = None) -> torch.device:
    """The device to compute on.

    Args:
        name: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; by default ``LABKIT_DEVICE``, else CUDA where there is one.

    Raises:
        ValueError: the name is not a device, or that CUDA device is not there.
    """
    name = name or os.environ.get("LABKIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"(cpu|cuda)(:(0|[1-9]\d?))?", name):
        raise ValueError(f"device is {name!r}; it must be cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device is {name!r}, but this machine has {count} CUDA devices; use 'cpu'")
    return device


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device itself multiplies bfloat16 matrices, faster than float32.

    oneDNN says yes wherever it can emulate it, as on every processor with AVX-512, where training is then 2.3 times
    slower; so the processor is asked, too.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    onednn = torch.backends.mkldnn
    if not (onednn.is_available() and onednn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "all"
    # A processor's own products of bfloat16: x86, x86 with tiles, Arm.
    products = [torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")]
    return limit.lower() not in ISA_WITHOUT_BF16 and any(products)


def precision(device: torch.device) -> str:
    """What a training step multiplies in: ``"float32"``, ``"bfloat16"``, or ``"emulated bfloat16"`` if it was forced.

    Raises:
        ValueError: ``LABKIT_BF16`` is neither 0 nor 1.
    """
    native = has_native_bfloat16(device)
    if not _switch("LABKIT_BF16", default="1" if native else "0"):
        return "float32"
    return "bfloat16" if native else "emulated bfloat16"


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Context in which a training step's matrix products run in the ``precision`` of the device.

    Weights, sums of gradients and batch statistics stay float32.
    """
    return nullcontext() if precision(device) == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


def _switch(name: str, default: str) -> bool:
    value = os.environ.get(name) or default
    if value not in ("0", "1"):
        raise ValueError(f"{name} is {value!r}; it must be 0 or 1")
    return value == "1"


def _folder(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default).expanduser()  # outside of a shell nobody else reads ``~``


def check_writable(path: Path) -> None:
    """Make sure, before long work, that a file can be written there.

    Raises:
        OSError: it is a folder, or its folder cannot be made or written.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a {'folder' if path.is_dir() else 'device'}; it must be a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(f"{path.parent} cannot be written ({error.strerror}); it must be a writable folder") from None


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote, loaded without running code, its checksums verified (torch ignores them).

    Raises:
        Exception: many kinds, if the file is missing, damaged or of another sort.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} fails its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def save_tensors(path: Path, content: object, check: Callable[[Path], object] = lambda _: None) -> Path:
    """What ``torch.save`` writes, whole or not at all; returns the path.

    Args:
        path: the file.
        content: tensors, numbers and text, in dicts and lists.
        check: reads what was written before it takes its place; an error of it leaves an older file as it was.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    buffer = io.BytesIO()  # into a file torch.save raises a RuntimeError on a full disk
    torch.save(content, buffer)
    return write_file(path, buffer.getvalue(), check)


def write_file(path: Path, content: str | bytes, check: Callable[[Path], object] = lambda _: None) -> Path:
    """Write a file whole or not at all, text in UTF-8 and with its own line ends; returns the path.

    Args:
        path: the file.
        content: what it shall hold.
        check: as in ``save_tensors``.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        check(temporary)
    return path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place only when the block ends without an error.

    Raises:
        OSError: the folder cannot be made or written; ``path`` is as it was.
    """
    check_writable(path)
    # Not made by tempfile: what that makes is readable for others only after a chmod, which network drives refuse.
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)  # a full disk does not say which file it was
        raise
    finally:
        temporary.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Name -> version of Python and of the packages that the numbers depend on."""
    packages = ("torch", "torchvision", "numpy", "matplotlib")
    return {"python": platform.python_version()} | {name: version(name).split("+")[0] for name in packages}


def hardware(device: torch.device) -> str:
    """One line that names the processor, the threads and the precision of training."""
    cpu = f"{processor()}, {torch.get_num_threads()} thread(s)"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    return f"{name}, {precision(device)} training"


def footer() -> str:
    """The line that ends each notebook. Versions and hardware are in the notebook's record (``versions``)."""
    return f"labkit †{version('labkit')}, training in †{precision(pick_device())}; more: labkit.versions()"


def processor() -> str:
    """Name of the processor, as it gives it itself; a virtual machine may say the name of the family only."""
    return torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
