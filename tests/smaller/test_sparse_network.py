import copy
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import seeded
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import runtime

pytest.importorskip("numba")

REFERENCE = runtime.reference_dir()
LAMP = "frontier/MNIST_lamp-global-gradual"
COMMITTED = (f"{LAMP}_6000_e12_s0", f"{LAMP}-augmented-8_2000_e24_s0", f"{LAMP}_622_e4_s0", f"{LAMP}_373_e4_s0")
COMMITTED += ("frontier/MNIST_small_622_e4_s0", "small/careful_0", "small/fast_1", "small/least_2")


def noise(batch, shape=(1, 28, 28)):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def scattered(sparsity=0.8, **options):
    """A network with scattered zeros."""
    model = seeded(**options)
    for layer in labkit.prunable_layers(model).values():
        prune.random_unstructured(layer, "weight", sparsity)
    return model


@torch.no_grad()
def assert_agrees(model, images, network=None):
    """Logits within 1e-5 of those of the network in float64."""
    logits = (network or labkit.compile_sparse(model))(images)
    right = labkit.clone(model).eval().double()(images.double())
    assert logits.dtype == torch.float32 and logits.shape == right.shape
    assert (logits - right).abs().max() <= 1e-5 * max(1, float(right.abs().max()))


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][55_000:55_250].unsqueeze(1).float() / 255


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_networks_give_the_same_logits(name, images):
    assert_agrees(labkit.load_sparse(REFERENCE / f"{name}.lks"), images)


def test_a_dense_network_gives_the_same_logits(images):
    assert_agrees(labkit.load_network(REFERENCE / "CNN_MNIST.pth"), images[:32])


def test_a_committed_network_is_as_accurate_as_it_was(digits):
    model = labkit.load_sparse(REFERENCE / f"{COMMITTED[1]}.lks")
    loader = labkit.Loader(digits[0][55_000:57_000], digits[1][55_000:57_000], 250)
    assert labkit.accuracy(labkit.compile_sparse(model), loader) == labkit.accuracy(model, loader) > 0.98


@pytest.mark.parametrize("batch", [1, 15, 16, 17, 64, 250])
def test_every_size_of_batch(batch):
    assert_agrees(scattered(), noise(batch))


def test_no_images_give_no_logits():
    assert labkit.compile_sparse(scattered())(noise(0)).shape == (0, 10)


@pytest.mark.parametrize("channels", [(1, 1, 1), (5, 3, 9), (8, 16, 24)])
@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 13, 15), (2, 28, 28), (3, 32, 32), (4, 19, 14)])
def test_every_shape_of_images_and_channels(channels, shape):
    model = scattered(channels=channels, shape=shape, classes=7)
    assert_agrees(model, noise(17, shape))


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "fc"])
def test_a_layer_without_weights(layer):
    model = scattered()
    prune.random_unstructured(getattr(model, layer), "weight", 1.0)
    assert_agrees(model, noise(5))


def test_a_network_without_weights():
    assert_agrees(scattered(sparsity=1.0), noise(5))


def test_dead_channels_and_channels_that_put_out_a_constant():
    assert_agrees(labkit.with_channels(scattered(), {"conv1": 2, "conv2": 3, "conv3": 5}), noise(20))
    model = scattered()
    for name in ("conv1", "conv2", "conv3"):
        prune.ln_structured(getattr(model, name), "weight", 0.5, n=2, dim=0)
    assert_agrees(model, noise(20))


def test_masked_biases_and_batch_norms_count():
    model = scattered()
    prune.random_unstructured(model.conv2, "bias", 0.5)
    prune.random_unstructured(model.batch1, "weight", 0.5)
    assert_agrees(model, noise(20))


def test_layout_of_the_images_does_not_matter():
    model, images = scattered(shape=(3, 32, 32)), noise(20, (3, 32, 32))
    network = labkit.compile_sparse(model)
    logits = network(images)
    assert torch.equal(network(images.to(memory_format=torch.channels_last)), logits)
    assert torch.equal(network(images.transpose(2, 3).contiguous().transpose(2, 3)), logits)
    assert torch.equal(network(noise(20, (3, 32, 32)).repeat_interleave(2, 0)[::2]), logits)
    assert torch.equal(network(images.clone().requires_grad_()), logits)


def test_images_and_model_are_not_changed():
    model, images = scattered(), noise(3)
    before, pixels = copy.deepcopy(model.state_dict()), images.clone()
    labkit.compile_sparse(model)(images)
    assert not model.training and torch.equal(images, pixels)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_what_is_compiled_is_the_network_as_it_was_in_evaluation():
    model, images = scattered(), noise(4)
    network = labkit.compile_sparse(model.train())
    logits = network(images)
    with torch.no_grad():
        model.fc.weight_orig.zero_()
    assert torch.equal(network.train()(images), logits)


def test_earlier_calls_leave_nothing_behind():
    network, images = labkit.compile_sparse(scattered()), noise(5)
    logits = network(images)
    network(1e6 * noise(40))
    assert torch.equal(network(images), logits)


def test_copies_compute_on_their_own():
    network, images = labkit.compile_sparse(scattered()), noise(5)
    logits = network(images)
    for other in (copy.deepcopy(network), labkit.clone(network), pickle.loads(pickle.dumps(network))):
        other(1e6 * noise(20))
        assert torch.equal(other(images), logits) and torch.equal(network(images), logits)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_gives_nan_and_leaves_the_others_alone(value):
    network, images = labkit.compile_sparse(scattered()), noise(20)
    right = network(images)
    images[3, 0, 14, 14] = value
    logits = network(images)
    assert logits[3].isnan().all()
    assert torch.equal(logits[[i != 3 for i in range(20)]], right[[i != 3 for i in range(20)]])


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_weights_of_any_precision(precision):
    model = scattered().to(precision)
    assert_agrees(model, noise(4))


@pytest.mark.parametrize("shape", [(1, 28, 28), (5, 28, 28), (5, 3, 28, 28), (5, 1, 28, 27), (0,)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"images have shape .*; this network takes \(batch, 1, 28, 28\)"):
        labkit.compile_sparse(seeded())(torch.zeros(shape))


@pytest.mark.parametrize("precision", [torch.float64, torch.uint8, torch.bfloat16])
def test_images_of_another_precision_are_refused(precision):
    with pytest.raises(ValueError, match=f"images are {precision} on cpu; this network takes torch.float32 on cpu"):
        labkit.compile_sparse(seeded())(torch.zeros(2, 1, 28, 28, dtype=precision))


def test_images_elsewhere_are_refused():
    with pytest.raises(ValueError, match=r"images are torch\.float32 on meta"):
        labkit.compile_sparse(seeded())(torch.zeros(2, 1, 28, 28, device="meta"))


def with_another_layer():
    model = seeded()
    model.conv2 = nn.Conv2d(4, 6, 5, padding=2)
    return model


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Linear(2, 2)), nn.Flatten(), with_another_layer(), type("Mine", (labkit.CNN,), {})(), None],
)
def test_other_networks_are_refused(model):
    with pytest.raises(ValueError, match=r"supported is labkit\.CNN"):
        labkit.compile_sparse(model)


def test_weights_that_are_not_finite_are_refused():
    model = seeded()
    with torch.no_grad():
        model.conv2.weight[1, 2, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="conv2"):
        labkit.compile_sparse(model)


def test_a_damaged_sparse_file_does_not_come_this_far(tmp_path):
    whole = (REFERENCE / f"{COMMITTED[2]}.lks").read_bytes()
    for place in (0, 5, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path = tmp_path / "damaged.lks"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged\.lks"):
            labkit.compile_sparse(labkit.load_sparse(path))


def test_without_numba_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r'numba is missing .*pip install numba.*pip install -e "\.\[edge\]"'):
        labkit.compile_sparse(seeded())


def test_memory_begins_at_a_cache_line_in_copies_too():
    network = labkit.compile_sparse(scattered())
    assert {copy.deepcopy(network)._memory.data_ptr() % 64 for _ in range(8)} | {network._memory.data_ptr() % 64} == {0}


@pytest.mark.slow
def test_skipped_zeros_save_time(images):
    """Sixteen times as fast where it was measured; a loop without vectors would be slower than torch."""
    model = labkit.load_sparse(REFERENCE / f"{COMMITTED[1]}.lks")
    times = labkit.measure_latency({"torch": model, "compiled": labkit.compile_sparse(model)}, images[:64])
    assert times["torch"].median > 3 * times["compiled"].median


CALL = """
import sys
import torch, labkit
assert "numba" not in sys.modules  # it takes its time, and few need it
network = labkit.compile_sparse(labkit.CNN(channels=(2, 2, 2)))
assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
from labkit.smaller import kernels
print(sum(kernels.run.stats.cache_hits.values()) if sys.argv[1:] else labkit.__file__)
"""


@pytest.fixture
def read_only(tmp_path):
    """A copy of the package in a folder that cannot be written, not even by root: its __pycache__ is a file."""
    shutil.copytree(Path(labkit.__file__).parent, tmp_path / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "labkit" / "smaller" / "__pycache__").write_text("")
    return tmp_path


def call(folder, *arguments, **environment):
    variables = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    command = [sys.executable, "-c", CALL, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=variables, cwd=folder).stdout.strip()


@pytest.mark.slow
def test_compiled_loops_are_kept_in_the_folder_that_a_variable_names(read_only):
    folder = read_only / "cache"
    assert [call(read_only, "hits", NUMBA_CACHE_DIR=str(folder)) for _ in range(2)] == ["0", "1"]
    assert list(folder.rglob("*.nbc"))


@pytest.mark.slow
def test_a_package_and_a_home_that_cannot_be_written_are_no_hindrance(read_only):
    home = read_only / "home"
    home.write_text("")
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "NUMBA_CACHE_DIR": ""}
    assert call(read_only, **places).startswith(str(read_only))
