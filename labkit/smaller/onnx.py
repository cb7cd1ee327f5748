"""To the edge: a network as an ONNX file, in float32 and in whole numbers of 8 bits, and back as something to run.

Needs onnx, onnxscript and onnxruntime, and asks for them when they are missing; nothing else in labkit does.
"""

import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from labkit import runtime
from labkit.cnn import CNN, check_images
from labkit.smaller.shrink import check_chain
from labkit.sparsity import bake_masks, clone

PARITY = 1e-4  # largest difference of logits, of their largest size where that is more than 1


class OnnxNetwork(nn.Module):
    """A network in an ONNX file, run by onnxruntime on the CPU, on as many threads as torch uses.

    Called with images ``(B, *input_shape)`` float32, it returns logits (B, classes) like the network that was
    exported, so ``labkit.accuracy`` and ``labkit.test_one_epoch`` measure it. It cannot be trained.

    Attributes:
        path: the file.
        input_shape: of one image.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path} is not a file; export_onnx writes such files")
        self._sessions: dict[int, Any] = {}  # one for each number of threads: onnxruntime cannot change it later
        takes, gives = self._session().get_inputs(), self._session().get_outputs()
        if len(takes) != 1 or len(gives) != 1 or len(takes[0].shape) != 4 or takes[0].type != "tensor(float)":
            found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in takes)
            raise ValueError(f"{self.path} takes {found}; it must take one batch of images as export_onnx writes it")
        self._input, self.input_shape = takes[0].name, tuple(takes[0].shape[1:])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes).

        Raises:
            ValueError: images of another shape.
        """
        return torch.from_numpy(self._session().run(None, self._inputs(images))[0])

    def _inputs(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        check_images(images, self.input_shape, self.path.name)
        return {self._input: images.detach().cpu().float().contiguous().numpy()}

    def _session(self) -> Any:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            onnxruntime = needed("onnxruntime")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 4  # what goes wrong is raised, too
            try:
                found = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime has a class of its own for each kind of damage
                reason = str(error).splitlines()[0][:160]
                raise ValueError(f"{self.path} is damaged or no ONNX file ({reason})") from None
            self._sessions[threads] = found
        return self._sessions[threads]


def export_onnx(model: CNN, path: str | Path) -> Path:
    """Write a network as an ONNX file; masks are baked in, BatchNorm is folded into the convolutions.

    The file takes any number of images at once. Before it is put in place, onnxruntime has run it on 64 images of
    noise, and its logits agreed to 1e-4.

    Returns:
        The file.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        ValueError: not a ``labkit.CNN``, weights that are not finite, or onnxruntime computes something else.
        OSError: the folder cannot be written; an older file stays as it was.
    """
    onnx, *_ = map(needed, ("onnx", "onnxscript", "onnxruntime"))
    check_chain(model)
    baked = bake_masks(model).cpu().float().eval()
    images = torch.rand(64, *model.input_shape, generator=torch.Generator().manual_seed(0))
    names: Any = {"input_names": ["images"], "output_names": ["logits"], "dynamic_shapes": ({0: "batch"},)}
    with runtime.written_whole(Path(path)) as temporary:
        with _quiet():
            program: Any = torch.onnx.export(baked, (images[:2],), dynamo=True, **names)
        graph = program.model_proto
        # What the exporter notes about its own work: folders of this machine, and a third of a small file.
        for part in (graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output):
            del part.metadata_props[:]
        del graph.graph.value_info[:]
        onnx.checker.check_model(graph)
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
        check_parity(baked, OnnxNetwork(temporary), [(images, None)])
    return Path(path)


@torch.no_grad()
def check_parity(model: nn.Module, network: OnnxNetwork, batches: Iterable[tuple[torch.Tensor, object]]) -> float:
    """Largest difference between the logits of a network and those of its ONNX file, over all batches.

    Raises:
        ValueError: no images; or the file is of another network: it takes other images, gives other classes, or its
            logits differ by more than 1e-4 (of the largest logit, where that is more than 1).
    """
    differences = []
    copy = clone(model).cpu().float().eval()  # a GPU may multiply with fewer digits
    for X in (X for X, _ in batches if len(X)):
        ours, theirs = copy(X.cpu().float()), network(X)
        problem = f"{network.path.name} computes something else than this network: logits"
        if ours.shape != theirs.shape:
            raise ValueError(f"{problem} are {tuple(theirs.shape)} instead of {tuple(ours.shape)}")
        difference, allowed = float((ours - theirs).abs().max()), PARITY * max(1.0, float(ours.abs().max()))
        if not difference <= allowed:
            raise ValueError(f"{problem} differ by {difference:.2g}, more than {allowed:.2g}")
        differences.append(difference)
    if not differences:
        raise ValueError("there are no images to compare on; give at least one batch")
    return max(differences)


def quantize_onnx(
    path: str | Path, quantized: str | Path, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> Path:
    """Write an ONNX file whose weights and activations are whole numbers of 8 bits, by onnxruntime's static quantizer.

    The range of each activation is the one seen on the batches: take training images, never test images. Weights have
    one scale for each output channel, and 7 bits: with 8, processors without VNNI instructions overflow in 16-bit sums,
    and the same file would answer differently there.

    Args:
        path: a file of ``export_onnx``.
        quantized: the file to write.
        batches: (X, y) for the calibration; some hundred images are enough.

    Returns:
        The file.

    Raises:
        ImportError: onnx or onnxruntime is missing.
        ValueError: no images, or a file of another kind.
        OSError: the folder cannot be written; an older file stays as it was.
    """
    needed("onnx")
    tools = needed("onnxruntime.quantization")
    source = OnnxNetwork(path)
    rows = [X for X, _ in batches if len(X)]
    if not rows:
        raise ValueError("there are no images to calibrate on; give a loader of some hundred training images")
    feed = SimpleNamespace(get_next=partial(next, iter([source._inputs(X) for X in rows]), None))
    with runtime.written_whole(Path(quantized)) as temporary, tempfile.TemporaryDirectory() as scratch, _quiet():
        prepared = Path(scratch) / "prepared.onnx"
        tools.shape_inference.quant_pre_process(source.path, prepared, skip_symbolic_shape=True)
        unsigned = tools.QuantType.QUInt8  # weights are signed by default
        tools.quantize_static(prepared, temporary, feed, per_channel=True, reduce_range=True, activation_type=unsigned)
    return Path(quantized)


def needed(name: str) -> Any:
    """An optional package, imported; an ImportError says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        how = f'python -m pip install {package}, or, in the folder of the labs, python -m pip install -e ".[edge]"'
        raise ImportError(f"{package} is missing ({error}): {how}. Only export and notebook 07 need it") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the advice of exporters to themselves: it is about their own parts, and errors are raised."""
    # onnxscript 0.6 prints what it has rewritten.
    with ExitStack() as stack, warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.WARNING)
        yield
