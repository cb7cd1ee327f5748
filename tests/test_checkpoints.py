import zipfile
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import checkpoints, runtime


def one_step(model, optimizer):
    F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    optimizer.zero_grad()


def dense(model):
    return model


def locally(model):
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", 0.25)
    return model


def structured(model):
    prune.ln_structured(model.conv2, "weight", amount=2, n=2, dim=0)
    return model


def globally(model):
    layers = [(layer, "weight") for layer in labkit.prunable_layers(model).values()]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.5)
    return model


def iteratively(model):
    for amount in (0.25, 0.25, 0.25):
        prune.l1_unstructured(model.conv2, "weight", amount)
    return model


def with_the_biases(model):
    prune.ln_structured(model.conv2, "weight", amount=2, n=2, dim=0)
    prune.custom_from_mask(model.conv2, "bias", model.conv2.weight_mask[:, 0, 0, 0])
    return model


def trained_after_pruning(model):
    one_step(locally(model), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    return model


@pytest.mark.parametrize(
    "change", [dense, locally, structured, globally, iteratively, with_the_biases, trained_after_pruning]
)
def test_loaded_network_equals_the_saved_one_bit_for_bit(tiny, tmp_path, change):
    model = change(tiny())
    loaded = labkit.load_network(labkit.save_network(model, tmp_path / "net.pth"))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    X = torch.rand(16, 1, 28, 28)
    assert torch.equal(loaded.eval()(X), model.eval()(X))
    assert labkit.sparsity_report(loaded) == labkit.sparsity_report(model)


def test_weights_of_a_loaded_pruned_network_are_fresh_before_any_forward_pass(tiny, tmp_path):
    loaded = labkit.load_network(labkit.save_network(trained_after_pruning(tiny()), tmp_path / "net.pth"))
    for layer in labkit.prunable_layers(loaded).values():
        assert torch.equal(layer.weight, layer.weight_orig * layer.weight_mask)


def test_architecture_comes_back(tmp_path):
    model = labkit.CNN(input_shape=(3, 20, 24), num_of_cls=4, channels=(2, 3, 5))
    loaded = labkit.load_network(labkit.save_network(model, tmp_path / "net.pth"))
    assert (loaded.input_shape, loaded.num_of_cls, loaded.channels) == ((3, 20, 24), 4, (2, 3, 5))


def test_loaded_pruned_network_can_be_pruned_further(tiny, tmp_path):
    loaded = labkit.load_network(labkit.save_network(locally(tiny()), tmp_path / "net.pth"))
    assert labkit.sparsity_report(loaded)[3].zeros == 500
    locally(loaded)
    assert labkit.sparsity_report(loaded)[3].zeros == 500 + 375


def test_masks_of_a_loaded_network_are_kept_in_training(tiny, tmp_path):
    loaded = labkit.load_network(labkit.save_network(locally(tiny()), tmp_path / "net.pth"))
    before = labkit.effective_weight(loaded.fc)
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    one_step(loaded, optimizer)
    one_step(loaded, optimizer)
    assert not torch.equal(labkit.effective_weight(loaded.fc), before)
    assert torch.equal(labkit.effective_weight(loaded.fc) == 0, before == 0)


def test_saving_changes_nothing(tiny, tmp_path):
    model = trained_after_pruning(tiny())
    before = labkit.clone(model).state_dict()
    labkit.save_network(model, tmp_path / "net.pth")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# Names, metadata


def test_bare_name_is_looked_for_among_your_own_networks_first(tiny, capsys):
    model = tiny()
    path = labkit.save_network(model, "CNN_MNIST")
    assert path == labkit.models_dir() / "CNN_MNIST.pth"
    loaded = labkit.load_network("CNN_MNIST")
    assert capsys.readouterr().out == "CNN_MNIST: your own network (models/CNN_MNIST.pth)\n"
    assert loaded.channels == (4, 6, 8)


def test_bare_name_falls_back_to_the_reference_network(capsys):
    loaded = labkit.load_network()
    assert capsys.readouterr().out == "CNN_MNIST: the reference network (models/reference/CNN_MNIST.pth)\n"
    assert loaded.channels == (32, 64, 128)


def test_reference_network_knows_most_digits(small):
    assert labkit.accuracy(labkit.load_network("CNN_MNIST"), small(256, 64)) > 0.95


def test_path_is_taken_as_it_is_and_silently(tiny, tmp_path, capsys):
    labkit.load_network(labkit.save_network(tiny(), str(tmp_path / "net.pth")))
    assert capsys.readouterr().out == ""


def test_metadata_comes_back(tiny):
    labkit.save_network(tiny(), "net", seed=1, accuracy=0.5, note="größer", done=True, rest=None)
    found = labkit.load_metadata("net")
    assert found == {"seed": 1, "accuracy": 0.5, "note": "größer", "done": True, "rest": None}


def test_metadata_of_a_reference_network_is_found_by_its_bare_name():
    assert labkit.load_metadata("CNN_MNIST") == labkit.load_metadata(runtime.reference_dir() / "CNN_MNIST.pth")


@pytest.mark.parametrize("value", [[1], torch.zeros(1), np.float64(0.5), object()], ids=lambda v: type(v).__name__)
def test_metadata_that_is_not_plain_is_refused_by_name(tiny, value):
    with pytest.raises(ValueError, match="metadata curve is a"):
        labkit.save_network(tiny(), "net", curve=value)
    assert not labkit.models_dir().exists()


def test_plain_state_dict_loads(tiny, tmp_path):
    model = locally(tiny())
    torch.save(model.state_dict(), tmp_path / "net.pth")
    loaded = labkit.load_network(tmp_path / "net.pth").eval()
    X = torch.rand(4, 1, 28, 28)
    assert torch.equal(loaded(X), model.eval()(X))
    assert labkit.load_metadata(tmp_path / "net.pth") == {}


# Networks and files of other forms


def with_pruned_batchnorm(model):
    for name in ("weight", "bias"):
        prune.l1_unstructured(model.batch2, name, 0.5)
    return locally(model)


def with_a_compiled_layer(model):
    model.conv1 = torch.compile(model.conv1, backend="eager")
    return model


class LikeCompiled(nn.Module):
    """What torch.compile makes has this attribute; making it for real takes seconds."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model

    def forward(self, X):
        return self._orig_mod(X)


@pytest.mark.parametrize(
    "wrap",
    [
        LikeCompiled,
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: nn.DataParallel(LikeCompiled(model)),
        lambda model: LikeCompiled(nn.DataParallel(model)),
        with_pruned_batchnorm,
        pytest.param(partial(torch.compile, backend="eager"), marks=pytest.mark.full),
        pytest.param(with_a_compiled_layer, marks=pytest.mark.full),
    ],
)
def test_network_in_another_form_is_saved_as_it_computes(tiny, tmp_path, wrap):
    model = wrap(tiny())
    loaded = labkit.load_network(labkit.save_network(model, tmp_path / "net.pth"))
    assert not [key for key in loaded.state_dict() if "module." in key or "_orig_mod." in key]
    X = torch.rand(4, 1, 28, 28)
    assert torch.equal(loaded.eval()(X), model.eval()(X))


def with_another_head(model):
    model.head = nn.Linear(10, 10)
    return model


def with_fewer_channels(model):
    model.conv1, model.batch1 = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
    return model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_another_head, r"what was to be saved is of another architecture: Unexpected.*head\.weight"),
        (with_fewer_channels, r"size mismatch for conv1\.weight"),
        (lambda model: nn.utils.parametrizations.weight_norm(model.conv1) and model, r"Missing.*conv1\.weight"),
        (nn.Sequential, "the network is a Sequential; it must be a labkit.CNN"),
        (lambda model: model.state_dict(), "the network is a OrderedDict; it must be a labkit.CNN"),
    ],
    ids=["head", "channels", "weight norm", "sequential", "state_dict"],
)
def test_network_that_could_not_be_loaded_again_is_not_saved(tiny, tmp_path, change, words):
    path = labkit.save_network(tiny(), tmp_path / "net.pth")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=words):
        labkit.save_network(change(tiny()), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def named(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


CHECKPOINTS = {
    "tutorial": lambda state: {"epoch": 5, "model_state_dict": state, "optimizer_state_dict": {"state": {}}, "loss": 1},
    "of any name": lambda state: {"best": state, "epoch": 5},
    "Lightning": lambda state: {"state_dict": named(state, "model.") | {"loss.weight": torch.ones(10)}, "loops": {}},
    "module.": lambda state: named(state, "module."),
    "_orig_mod.": lambda state: named(state, "_orig_mod."),
    "both": lambda state: {"model": named(state, "_orig_mod.module."), "epoch": 1},
    "labkit's, of a compiled one": lambda state: {
        "format": "labkit network 1",
        "architecture": {"input_shape": (1, 28, 28), "num_of_cls": 10, "channels": (4, 6, 8)},
        "state": named(state, "_orig_mod."),
    },
}


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_checkpoint_of_any_form_loads(tiny, tmp_path, form):
    model = locally(tiny())
    torch.save(CHECKPOINTS[form](model.state_dict()), tmp_path / "net.pth")
    loaded = labkit.load_network(tmp_path / "net.pth").eval()
    X = torch.rand(4, 1, 28, 28)
    assert torch.equal(loaded(X), model.eval()(X))


def test_checkpoint_of_two_networks_is_refused(tiny, tmp_path):
    torch.save({"model": tiny(0).state_dict(), "ema": tiny(1).state_dict()}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"net\.pth holds 2 networks; it must hold one"):
        labkit.load_network(tmp_path / "net.pth")


# Files that are not networks


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net\.pth does not exist; run the notebook that saves it"):
        labkit.load_network(tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match=r"CNN_NONE\.pth does not exist"):
        labkit.load_network("CNN_NONE")


class Trap:
    """Its pickle would make a file when loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("wrap", [lambda trap: trap, lambda trap: {"state": trap}], ids=["alone", "in a dict"])
def test_code_in_a_file_does_not_run(tmp_path, wrap):
    torch.save(wrap(Trap(tmp_path / "touched")), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="could run code"):
        labkit.load_network(tmp_path / "net.pth")
    with pytest.raises(ValueError, match="could run code"):
        labkit.load_optimizer(torch.optim.SGD([torch.zeros(1)], lr=1.0), tmp_path / "net.pth")
    assert not (tmp_path / "touched").exists()


def test_whole_pickled_network_is_refused(tiny, tmp_path):
    torch.save(tiny(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="holds Python objects"):
        labkit.load_network(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nn.Linear(2, 2).state_dict(), "another architecture"),
        (OrderedDict({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(9, 512)}), "must be a labkit"),
        ({"epoch": 3}, "another architecture"),
        ({0: torch.zeros(3)}, "another architecture"),
        ({}, "another architecture"),
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        (labkit.CNN(channels=(4, 6, 8)).state_dict() | {"extra.weight": torch.zeros(2)}, "another architecture"),
        (labkit.CNN(channels=(4, 6, 8)).state_dict() | {"fc.weight": torch.zeros(10, 7)}, "another architecture"),
        (labkit.CNN(channels=(4, 6, 8)).state_dict() | {"note": "text"}, "another architecture"),
    ],
    ids=["linear", "resnet", "numbers", "numbered", "empty", "list", "tensor", "extra", "misshapen", "text"],
)
def test_file_of_something_else_is_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=words) as error:
        labkit.load_network(tmp_path / "net.pth")
    assert "net.pth" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"epoch 2\n", b"PK\x03\x04" + b"\0" * 100])
def test_file_that_torch_did_not_write_is_refused(tmp_path, content):
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pth (is damaged|holds Python objects)"):
        labkit.load_network(tmp_path / "net.pth")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file_is_refused(tiny, tmp_path, share):
    path = labkit.save_network(tiny(), tmp_path / "net.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"net\.pth is damaged or not a torch file"):
        labkit.load_network(path)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_saved(tiny, tmp_path, bad):
    path = labkit.save_network(tiny(), tmp_path / "net.pth")
    before, model = path.read_bytes(), tiny()
    with torch.no_grad():
        model.conv2.weight.flatten()[:3] = bad
    with pytest.raises(ValueError, match=r"conv2\.weight has 3 values that are NaN or infinite"):
        labkit.save_network(model, path)
    assert path.read_bytes() == before


def test_weights_that_are_not_finite_are_not_loaded(tiny, tmp_path):
    model = tiny()
    model.batch1.running_var[0] = torch.nan
    torch.save(model.state_dict(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"net\.pth: batch1\.running_var has 1 values that are NaN or infinite"):
        labkit.load_network(tmp_path / "net.pth")


# Written whole or not at all


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_interrupted_save_leaves_the_old_file_and_nothing_else(tiny, tmp_path, monkeypatch, error):
    path = labkit.save_network(tiny(0), tmp_path / "net.pth")
    before = path.read_bytes()

    def breaks_off(_, file):
        file.write(b"half a file")
        raise error("no space left")

    monkeypatch.setattr(torch, "save", breaks_off)
    with pytest.raises(error):
        labkit.save_network(tiny(1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_leaves_no_temporary_file(tiny, tmp_path):
    labkit.save_network(tiny(), tmp_path / "net.pth")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]
    assert zipfile.is_zipfile(tmp_path / "net.pth")


def test_folder_that_can_not_be_written_is_named(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(OSError, match="cannot be written") as error:
        labkit.save_network(tiny(), "net")
    assert str(tmp_path / "file" / "models") in str(error.value)


# Optimizers


def test_optimizer_comes_back(tiny):
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    one_step(model, optimizer)
    labkit.save_optimizer(optimizer)
    other = torch.optim.SGD(labkit.clone(model).parameters(), lr=0.5, momentum=0.1)
    labkit.load_optimizer(other)
    assert other.param_groups[0]["lr"] == 0.1
    old, new = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key]["momentum_buffer"], new[key]["momentum_buffer"]) for key in old)


def test_state_of_a_differently_grouped_optimizer_is_refused(tiny):
    model = tiny()
    labkit.save_optimizer(torch.optim.SGD(model.conv1.parameters(), lr=0.1), "optimizer")
    other = torch.optim.SGD(model.parameters(), lr=0.5)
    with pytest.raises(ValueError, match=r"optimizer\.pth does not fit this optimizer"):
        labkit.load_optimizer(other)
    assert other.param_groups[0]["lr"] == 0.5


def test_network_is_no_optimizer_and_an_optimizer_no_network(tiny):
    optimizer = torch.optim.SGD(tiny().parameters(), lr=0.5)
    labkit.save_network(tiny(), "net")
    labkit.save_optimizer(optimizer)
    with pytest.raises(ValueError, match="does not fit: it is not the state of a SGD"):
        labkit.load_optimizer(optimizer, "net")
    with pytest.raises(ValueError, match="another architecture"):
        labkit.load_network("optimizer")


def test_missing_optimizer_is_named(tiny):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth does not exist"):
        labkit.load_optimizer(torch.optim.SGD(tiny().parameters(), lr=0.5), "nothing")


def test_format_is_named_in_the_file(tiny):
    assert torch.load(labkit.save_network(tiny(), "net"), weights_only=True)["format"] == checkpoints.FORMAT


def test_network_with_a_flipped_bit_is_refused(tiny):
    path = labkit.save_network(tiny(), "net")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 200] ^= 1  # inside the largest tensor: its values stay finite numbers
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.pth is damaged"):
        labkit.load_network("net")


def test_page_of_html_is_called_no_torch_file(tmp_path):
    path = tmp_path / "net.pth"
    path.write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(ValueError, match="not a torch file"):
        labkit.load_network(path)


def test_state_of_another_optimizer_is_refused(tiny):
    model = tiny()
    labkit.save_optimizer(torch.optim.Adam(model.parameters()))
    with pytest.raises(ValueError, match="not the state of a SGD"):
        labkit.load_optimizer(torch.optim.SGD(model.parameters(), lr=0.1))


def test_state_of_a_wider_networks_optimizer_is_refused():
    model = labkit.CNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.zeros(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    labkit.save_optimizer(optimizer)
    with pytest.raises(ValueError, match="has shape"):
        labkit.load_optimizer(torch.optim.SGD(labkit.CNN(channels=(4, 6, 8)).parameters(), lr=0.1, momentum=0.9))


def test_network_is_not_loaded_onto_a_device_that_is_not_there(tiny):
    labkit.save_network(tiny(), "net")
    with pytest.raises(ValueError, match="cuda:99"):
        labkit.load_network("net", "cuda:99")


class OfFixedWidths(labkit.CNN):
    """Takes no arguments of its own."""

    def __init__(self):
        super().__init__(channels=(2, 3, 4))


def test_a_network_of_a_class_of_ones_own_is_saved_as_the_cnn_that_it_is(tmp_path):
    path = labkit.save_network(OfFixedWidths(), tmp_path / "own.pth")
    assert labkit.load_network(path).channels == (2, 3, 4)
