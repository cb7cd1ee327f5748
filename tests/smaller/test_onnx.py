import contextlib
import getpass
import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import seeded
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import runtime
from labkit.smaller import onnx as export

pytestmark = pytest.mark.slow  # the first export imports its packages for ten seconds

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def masked(**options):
    model = seeded(**options)
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", 0.5)
    return model


def shrunk():
    return labkit.remove_dead_channels(labkit.with_channels(seeded(), {"conv1": 3, "conv2": 2, "conv3": 5}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def validation(digits):
    images, labels = digits
    return labkit.Loader(images[55_000:56_000], labels[55_000:56_000], 250)


@pytest.fixture(scope="module")
def reference():
    return labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth").eval()


@pytest.fixture(scope="module")
def exported(folder, reference):
    """The reference network as a file."""
    return labkit.export_onnx(reference, folder / "reference.onnx")


@pytest.fixture(scope="module")
def little(folder):
    """A small network and its file; nobody may change either."""
    return seeded(), labkit.export_onnx(seeded(), folder / "little.onnx")


@pytest.fixture(scope="module")
def calibration(digits):
    return labkit.Loader(digits[0][:300], digits[1][:300], 50)


@pytest.fixture(scope="module")
def quantized(folder, exported, calibration):
    return labkit.quantize_onnx(exported, folder / "quantized.onnx", calibration)


def worst(model, network, images):
    with torch.no_grad():
        return float((labkit.clone(model).eval().float()(images.float()) - network(images)).abs().max())


# Export


def test_exported_reference_network_gives_the_same_logits_on_real_images(reference, exported, validation):
    network = labkit.OnnxNetwork(exported)
    assert 0 <= labkit.check_parity(reference, network, validation) <= 1e-4 * 40
    for X, _ in validation:
        with torch.no_grad():
            ours = reference(X)
        assert (ours - network(X)).abs().max() <= 1e-4 * max(1, ours.abs().max())
    assert labkit.accuracy(network, validation) == labkit.accuracy(reference, validation)


@pytest.mark.parametrize("batch", [1, 2, 3, 64, 129])
def test_file_takes_any_number_of_images(little, batch):
    model, path = little
    images = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(batch))
    assert worst(model, labkit.OnnxNetwork(path), images) < 1e-4


@pytest.mark.parametrize(
    "model",
    [
        masked(),
        shrunk(),
        seeded((1, 1, 1), (1, 12, 12), 1),
        seeded((3, 2, 5), (3, 13, 18), 4),
        masked(channels=(2, 9, 3), shape=(2, 20, 12), classes=2),
    ],
    ids=["masked", "shrunk", "smallest", "colours", "masked and wide"],
)
def test_networks_of_all_sizes_are_exported(tmp_path, model):
    network = labkit.OnnxNetwork(labkit.export_onnx(model, tmp_path / "net.onnx"))
    assert network.input_shape == model.input_shape
    for batch in (1, 5):
        images = torch.rand(batch, *model.input_shape, generator=torch.Generator().manual_seed(1))
        assert network(images).shape == (batch, model.num_of_cls)
        assert worst(model, network, images) < 1e-4


def test_model_is_not_changed_and_nothing_is_drawn(tmp_path):
    model = masked().double().train()
    model.batch2.eval()
    model(torch.rand(4, 1, 28, 28, dtype=torch.float64)).sum().backward()  # layer.weight has a gradient now
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    level, threads = logging.root.manager.disable, torch.get_num_threads()
    network = labkit.OnnxNetwork(labkit.export_onnx(model, tmp_path / "net.onnx"))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.dtype == before[key].dtype for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(random, torch.get_rng_state())
    assert (logging.root.manager.disable, torch.get_num_threads()) == (level, threads)
    assert worst(model, network, torch.rand(4, 1, 28, 28)) < 1e-4  # float64, in training mode


def test_same_network_gives_the_same_bytes(little, tmp_path):
    model, path = little
    again = labkit.export_onnx(model, tmp_path / "other name.onnx")
    assert again.read_bytes() == path.read_bytes()


def test_export_prints_nothing(tmp_path, capfd):
    labkit.export_onnx(seeded(), tmp_path / "net.onnx")
    assert capfd.readouterr() == ("", "")


def test_file_is_small_and_says_nothing_of_this_machine(little, quantized, exported):
    model, path = little
    assert path.stat().st_size < 4 * sum(p.numel() for p in model.parameters()) + 6_000
    words = {str(Path.home()), str(runtime.PROJECT), sys.prefix, os.sep + "tmp", "site-packages", "labkit"}
    if len(getpass.getuser()) > 4:
        words.add(getpass.getuser())
    for file in (path, exported, quantized):
        content = file.read_bytes()
        assert [word for word in words if word.encode() in content] == []
    assert not list(onnx.load(path).metadata_props)


def test_batchnorm_is_folded_into_the_convolutions(little):
    kinds = {node.op_type for node in onnx.load(little[1]).graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds


def test_masks_are_baked_into_the_file(tmp_path):
    model = seeded()
    prune.ln_structured(model.conv2, "weight", 5, n=2, dim=0)
    graph = onnx.load(labkit.export_onnx(model, tmp_path / "net.onnx")).graph
    found = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    (conv2,) = [array for array in found if array.shape == (6, 4, 3, 3)]
    assert (conv2 == 0).all(axis=(1, 2, 3)).sum() == 5


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(), None], ids=str)
def test_what_is_no_cnn_is_not_exported(tmp_path, model):
    with pytest.raises(ValueError, match=f"the model is a {type(model).__name__}; supported is labkit.CNN"):
        labkit.export_onnx(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_exported_and_the_old_file_stays(tmp_path, value):
    (tmp_path / "net.onnx").write_text("old")
    model = seeded()
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"conv2\.weight has 1 values that are NaN or infinite"):
        labkit.export_onnx(model, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_file_that_computes_something_else_is_not_put_in_place(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_text("old")
    monkeypatch.setattr(export.OnnxNetwork, "forward", lambda self, X: torch.zeros(len(X), 10))  # noqa: ARG005
    with pytest.raises(ValueError, match="logits differ by"):
        labkit.export_onnx(seeded(), tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file cannot be written"):
        labkit.export_onnx(seeded(), tmp_path / "file" / "net.onnx")
    with pytest.raises(OSError, match="is a folder"):
        labkit.export_onnx(seeded(), tmp_path)


# Running


def test_network_in_a_file_is_measured_like_any_other(reference, exported, validation):
    network = labkit.OnnxNetwork(str(exported))
    arguments = validation, nn.functional.cross_entropy, labkit.AccuracyMetric(), torch.device("cpu")
    ours, theirs = labkit.test_one_epoch(reference, *arguments), labkit.test_one_epoch(network, *arguments)
    assert theirs == pytest.approx(ours, abs=1e-4)
    assert labkit.accuracy(network, validation) > 0.95


def test_latency_of_a_network_in_a_file_is_measured(little):
    network = labkit.OnnxNetwork(little[1]).train()
    found = labkit.measure_latency({"onnx": network, "torch": little[0]}, torch.rand(2, 1, 28, 28), 1, 1e-9)
    assert all(0 < latency.low <= latency.median <= latency.high for latency in found.values())
    assert found["onnx"].device == "cpu"
    assert network.training


def test_network_in_a_file_follows_the_threads_of_torch(little):
    before, images = torch.get_num_threads(), torch.rand(2, 1, 28, 28)
    network = labkit.OnnxNetwork(little[1])
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            session = network._session()
            assert session.get_session_options().intra_op_num_threads == threads
            assert session is network._session()
            assert worst(little[0], network, images) < 1e-4
    finally:
        torch.set_num_threads(before)


def test_images_of_any_layout_and_precision_are_taken(little):
    network, images = labkit.OnnxNetwork(little[1]), torch.rand(4, 1, 28, 28)
    plain = network(images)
    assert torch.equal(network(images.to(memory_format=torch.channels_last)), plain)
    assert torch.equal(network(images.double()), plain)
    assert torch.equal(network(images.clone().requires_grad_()), plain)
    assert torch.equal(network(images.flip(3).flip(3)), plain)
    assert plain.dtype == torch.float32
    assert not plain.requires_grad
    assert network(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("shape", [(2, 1, 28, 27), (2, 3, 28, 28), (28, 28), (1, 28, 28), (784,), (2, 1, 1, 28, 28)])
def test_images_of_another_shape_are_refused(little, shape):
    with pytest.raises(ValueError, match=r"little.onnx takes \(batch, 1, 28, 28\)"):
        labkit.OnnxNetwork(little[1])(torch.rand(shape))


def test_network_in_a_file_has_no_parameters(little):
    network = labkit.OnnxNetwork(little[1])
    assert list(network.parameters()) == []
    assert network.state_dict() == {}
    assert network.path == little[1]


# Parity


def test_parity_is_the_largest_difference_of_all_batches(little):
    model, path = little
    batches = [(torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(i)), None) for i in range(3)]
    network = labkit.OnnxNetwork(path)
    assert labkit.check_parity(model, network, batches) == max(worst(model, network, X) for X, _ in batches)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (seeded(seed=1), "computes something else than this network: logits differ by"),
        (seeded(classes=3), r"logits are \(2, 10\) instead of \(2, 3\)"),
        (masked(), "computes something else than this network: logits differ by"),
    ],
    ids=["weights", "classes", "masks"],
)
def test_file_of_another_network_is_refused(little, other, words):
    with pytest.raises(ValueError, match=words):
        labkit.check_parity(other, labkit.OnnxNetwork(little[1]), [(torch.rand(2, 1, 28, 28), None)])


def test_file_of_other_images_is_refused(little):
    with pytest.raises(ValueError, match="images"):
        labkit.check_parity(
            seeded(shape=(1, 20, 20)), labkit.OnnxNetwork(little[1]), [(torch.rand(2, 1, 20, 20), None)]
        )


def test_logits_that_are_nan_are_no_parity(little):
    model = seeded()
    with torch.no_grad():
        model.fc.bias[0] = np.nan
    with pytest.raises(ValueError, match="logits differ by nan"):
        labkit.check_parity(model, labkit.OnnxNetwork(little[1]), [(torch.rand(2, 1, 28, 28), None)])


def test_difference_is_compared_with_the_largest_logit(little, monkeypatch):
    network = labkit.OnnxNetwork(little[1])
    for size, allowed in ((0.5, 1e-4), (1000.0, 0.1)):
        model = nn.Flatten()
        logits = torch.full((1, 10), size)
        for factor, fits in ((0.9, True), (1.1, False)):
            theirs = logits.double() + factor * allowed
            monkeypatch.setattr(network, "forward", lambda X, theirs=theirs: theirs)  # noqa: ARG005
            if fits:
                assert labkit.check_parity(model, network, [(logits, None)]) == pytest.approx(factor * allowed)
            else:
                with pytest.raises(ValueError, match="logits differ"):
                    labkit.check_parity(model, network, [(logits, None)])


@pytest.mark.parametrize("fails", [False, True])
def test_parity_leaves_each_layer_in_its_mode(little, fails):
    model = seeded(seed=int(fails)).train()
    model.batch2.eval()
    modes = [module.training for module in model.modules()]
    try:
        labkit.check_parity(model, labkit.OnnxNetwork(little[1]), [(torch.rand(2, 1, 28, 28), None)])
    except ValueError:
        assert fails
    assert [module.training for module in model.modules()] == modes


def test_parity_on_no_images_is_refused(little):
    with pytest.raises(ValueError):
        labkit.check_parity(little[0], labkit.OnnxNetwork(little[1]), [])


def test_parity_of_a_network_of_double_precision_can_be_checked(little):
    network = labkit.OnnxNetwork(little[1])
    assert labkit.check_parity(seeded().double(), network, [(torch.rand(2, 1, 28, 28), None)]) < 1e-4


# Files that are no such networks


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "net.onnx", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path.name} is not a file; export_onnx writes such files"):
            labkit.OnnxNetwork(path)
        with pytest.raises(FileNotFoundError, match=f"{path.name} is not a file"):
            labkit.quantize_onnx(path, tmp_path / "q.onnx", [])


@pytest.mark.parametrize("kind", ["empty", "text", "zeros", "half", "almost", "pth"])
def test_damaged_files_are_refused(little, tmp_path, kind, capfd):
    content = little[1].read_bytes()
    contents = {"empty": b"", "text": b"hello", "zeros": bytes(1000), "half": content[: len(content) // 2]}
    path = tmp_path / "net.onnx"
    if kind == "pth":
        labkit.save_network(seeded(), path)
    else:
        path.write_bytes((contents | {"almost": content[:-1]})[kind])
    with pytest.raises(ValueError, match=r"net\.onnx is damaged or no ONNX file"):
        labkit.OnnxNetwork(path)
    with pytest.raises(ValueError, match=r"net\.onnx is damaged or no ONNX file"):
        labkit.quantize_onnx(path, tmp_path / "q.onnx", [])
    assert capfd.readouterr() == ("", "")


def test_any_truncation_and_damage_raises_nothing_but_value_errors(little, tmp_path):
    content, path = bytearray(little[1].read_bytes()), tmp_path / "net.onnx"
    for length in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged or no ONNX file"):
            labkit.OnnxNetwork(path)
    for place in range(0, len(content), len(content) // 60):
        content[place] ^= 0xFF
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            labkit.OnnxNetwork(path)(torch.rand(1, 1, 28, 28))
        content[place] ^= 0xFF


def graph_of(inputs, outputs, nodes):
    make = onnx.helper
    ends = [
        [make.make_tensor_value_info(name, kind, shape) for name, kind, shape in found] for found in (inputs, outputs)
    ]
    graph = make.make_graph([make.make_node(*node) for node in nodes], "graph", *ends)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)


FLOAT, WHOLE, BATCH = 1, 7, ["batch", 1, 28, 28]


@pytest.mark.parametrize(
    "model",
    [
        graph_of([("a", FLOAT, BATCH), ("b", FLOAT, BATCH)], [("c", FLOAT, BATCH)], [("Add", ["a", "b"], ["c"])]),
        graph_of([("a", FLOAT, ["batch", 10])], [("c", FLOAT, ["batch", 10])], [("Relu", ["a"], ["c"])]),
        graph_of([("a", WHOLE, BATCH)], [("c", WHOLE, BATCH)], [("Neg", ["a"], ["c"])]),
        graph_of(
            [("a", FLOAT, BATCH)],
            [("c", FLOAT, BATCH), ("d", FLOAT, BATCH)],
            [("Relu", ["a"], ["c"]), ("Neg", ["a"], ["d"])],
        ),
    ],
    ids=["two inputs", "flat", "whole numbers", "two outputs"],
)
def test_other_kinds_of_networks_are_refused(tmp_path, model):
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"net\.onnx takes .*; it must take one batch of images"):
        labkit.OnnxNetwork(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"net\.onnx takes"):
        labkit.quantize_onnx(tmp_path / "net.onnx", tmp_path / "q.onnx", [(torch.rand(2, 1, 28, 28), None)])


# Quantization


def test_quantized_network_is_smaller_and_nearly_as_accurate(exported, quantized, validation):
    assert quantized.stat().st_size < 0.35 * exported.stat().st_size
    before = labkit.accuracy(labkit.OnnxNetwork(exported), validation)
    assert abs(labkit.accuracy(labkit.OnnxNetwork(quantized), validation) - before) <= 0.01


def test_quantized_network_is_the_same_every_time_and_the_source_is_left(little, calibration, tmp_path, capfd):
    source = tmp_path / "source.onnx"
    source.write_bytes(little[1].read_bytes())
    first = labkit.quantize_onnx(source, tmp_path / "a.onnx", calibration)
    second = labkit.quantize_onnx(str(source), str(tmp_path / "b.onnx"), calibration)
    assert first.read_bytes() == second.read_bytes()
    assert source.read_bytes() == little[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "source.onnx"]
    assert capfd.readouterr() == ("", "")


def test_weights_are_whole_numbers_of_seven_bits_with_a_scale_for_each_channel(little, calibration, tmp_path):
    graph = onnx.load(labkit.quantize_onnx(little[1], tmp_path / "q.onnx", calibration)).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim >= 2]
    assert sorted(array.size for array in weights) == [36, 216, 432, 2000]
    assert all(np.abs(array.astype(int)).max() <= 64 for array in weights)
    assert {array.size for name, array in arrays.items() if "scale" in name and array.ndim == 1} >= {4, 6, 8}


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "no images to calibrate on; give a loader"),
        ([(torch.rand(2, 1, 20, 20), None)], r"little.onnx takes \(batch, 1, 28, 28\)"),
        ([(torch.rand(2, 3, 28, 28), None)], r"images have shape \(2, 3, 28, 28\)"),
        ([(torch.rand(2, 1, 28, 28), None), (torch.rand(2, 1, 20, 20), None)], r"images have shape \(2, 1, 20, 20\)"),
        ([(torch.rand(0, 1, 28, 28), None)], "images"),
    ],
    ids=["none", "size", "colours", "second batch", "empty batch"],
)
def test_no_images_and_other_images_are_refused_and_the_old_file_stays(little, tmp_path, batches, words):
    (tmp_path / "q.onnx").write_text("old")
    before = little[1].read_bytes()
    with pytest.raises(ValueError, match=words):
        labkit.quantize_onnx(little[1], tmp_path / "q.onnx", batches)
    assert (tmp_path / "q.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert little[1].read_bytes() == before


def test_old_file_survives_a_failure_of_the_quantizer(little, calibration, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr("onnxruntime.quantization.quantize_static", broken)
    (tmp_path / "q.onnx").write_text("old")
    with pytest.raises(RuntimeError, match="out of order"):
        labkit.quantize_onnx(little[1], tmp_path / "q.onnx", calibration)
    assert (tmp_path / "q.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["q.onnx"]
    assert logging.root.manager.disable == 0


def test_file_may_be_quantized_in_place(little, calibration, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(little[1].read_bytes())
    labkit.quantize_onnx(path, path, calibration)
    assert path.stat().st_size < 0.9 * little[1].stat().st_size
    assert labkit.OnnxNetwork(path)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


# Without the packages


def without(monkeypatch, name):
    """Make the import of one package fail."""
    real = importlib.import_module

    def refused(wanted, *rest):
        if wanted.partition(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(wanted, *rest)

    monkeypatch.setattr(importlib, "import_module", refused)


@pytest.mark.parametrize("name", PACKAGES)
def test_export_says_which_package_to_install(tmp_path, monkeypatch, name):
    without(monkeypatch, name)
    with pytest.raises(ImportError, match=rf"{name} is missing .*python -m pip install {name}, or"):
        labkit.export_onnx(seeded(), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_quantizing_says_which_package_to_install(little, calibration, tmp_path, monkeypatch, name):
    without(monkeypatch, name)
    with pytest.raises(ImportError, match=f"python -m pip install {name}"):
        labkit.quantize_onnx(little[1], tmp_path / "q.onnx", calibration)


def test_running_needs_onnxruntime_only(little, monkeypatch):
    without(monkeypatch, "onnxruntime")
    with pytest.raises(ImportError, match="python -m pip install onnxruntime"):
        labkit.OnnxNetwork(little[1])


WITHOUT = """
import sys
for name in ("onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None
import torch, labkit
model = labkit.CNN(channels=(2, 3, 4))
found = labkit.ledger(model, seconds=1e-9)
path = labkit.save_sparse(model, sys.argv[1] + "/net.lks")
assert labkit.load_sparse(path).channels == (2, 3, 4)
small = labkit.remove_dead_channels(labkit.with_channels(model, {"conv1": 1}))
print(found.parameters, small.channels)
try:
    labkit.export_onnx(model, sys.argv[1] + "/net.onnx")
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
def test_everything_else_works_without_the_packages(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True, cwd=runtime.PROJECT, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    parameters = sum(p.numel() for p in labkit.CNN(channels=(2, 3, 4)).parameters())
    assert first == f"{parameters} (1, 3, 4)"
    assert second.startswith("onnx is missing")
    assert "python -m pip install onnx" in second


@pytest.mark.slow
def test_importing_labkit_imports_none_of_the_packages():
    program = "import sys, labkit; print([n for n in ('onnx', 'onnxscript', 'onnxruntime') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=runtime.PROJECT, check=True
    )
    assert done.stdout == "[]\n"
