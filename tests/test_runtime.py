import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch

import labkit
from labkit import runtime

CPU = torch.device("cpu")


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002


def test_seed_fixes_all_three_generators():
    labkit.set_seed(3)
    first = draw()
    assert draw() != first
    labkit.set_seed(3)
    assert draw() == first


def test_zero_is_a_seed():
    labkit.set_seed(0)
    first = draw()
    labkit.set_seed(1)
    assert draw() != first
    labkit.set_seed(0)
    assert draw() == first


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "1", None, True])
def test_wrong_seed_is_refused_and_changes_nothing(seed):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"it must be a whole number from 0 to 2\*\*32 - 1") as error:
        labkit.set_seed(seed)
    assert f"seed is {seed!r}" in str(error.value)
    assert torch.equal(torch.get_rng_state(), before)


def test_largest_seed_is_accepted_by_all_generators():
    labkit.set_seed(2**32 - 1)
    assert torch.initial_seed() == 2**32 - 1


def test_device_is_the_named_one_then_the_environments():
    assert labkit.pick_device("cpu") == CPU
    assert labkit.pick_device() == CPU


def test_device_is_cuda_only_where_there_is_one(monkeypatch):
    monkeypatch.delenv("LABKIT_DEVICE")
    assert labkit.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.device_count() > 9, reason="this machine has a tenth CUDA device")
def test_cuda_device_that_is_not_there_is_refused():
    count = torch.cuda.device_count()
    with pytest.raises(ValueError, match=f"device is 'cuda:9', but this machine has {count} CUDA devices; use 'cpu'"):
        labkit.pick_device("cuda:9")


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cuda:x", "CPU", "cpu cuda"])
def test_what_is_no_device_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"device is '{name}'; it must be cpu, cuda or cuda:N"):
        labkit.pick_device(name)


def test_wrong_device_in_the_environment_is_refused_too(monkeypatch):
    monkeypatch.setenv("LABKIT_DEVICE", "tpu")
    with pytest.raises(ValueError, match="device is 'tpu'"):
        labkit.pick_device()


def product():
    with labkit.mixed_precision(CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_mixed_precision_is_bfloat16_exactly_where_the_processor_has_it(monkeypatch):
    monkeypatch.delenv("LABKIT_BF16", raising=False)
    assert product() == (torch.bfloat16 if labkit.has_native_bfloat16(CPU) else torch.float32)


def test_mixed_precision_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("LABKIT_BF16", "0")
    assert isinstance(labkit.mixed_precision(CPU), nullcontext)
    assert product() == torch.float32


def test_file_takes_its_place_only_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with runtime.written_whole(path) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text(encoding="utf-8") == "whole"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_file_is_as_it_was_when_the_block_breaks(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(error), runtime.written_whole(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="can not be written") as error, runtime.written_whole(tmp_path / "file" / "x"):
        pytest.fail("the block must not run")
    assert str(tmp_path / "file") in str(error.value)


def test_folders_are_the_projects_unless_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "d"))
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "m"))
    assert (runtime.data_dir(), runtime.models_dir()) == (tmp_path / "d", tmp_path / "m")
    for name in ("LABKIT_DATA", "LABKIT_MODELS"):
        monkeypatch.setenv(name, "")
    assert (runtime.data_dir(), runtime.models_dir()) == (runtime.PROJECT / "data", runtime.PROJECT / "models")
    assert runtime.reference_dir() == runtime.PROJECT / "models" / "reference"


def test_footer_marks_all_that_differs_between_machines():
    footer = labkit.footer()
    assert footer.startswith(f"labkit {labkit.__version__}  python ⏱")
    for name, number in labkit.versions().items():
        assert f"{name} ⏱{number}" in footer
    assert f"threads ⏱{torch.get_num_threads()}" in footer


def test_versions_name_python_and_the_packages_that_numbers_depend_on():
    assert list(labkit.versions()) == ["python", "torch", "torchvision", "numpy", "matplotlib"]
    assert labkit.versions()["torch"] == torch.__version__.split("+")[0]


def test_hardware_names_threads_and_precision(monkeypatch):
    monkeypatch.setenv("LABKIT_BF16", "0")
    assert runtime.hardware(CPU).endswith(f"{torch.get_num_threads()} thread(s), float32 training")


@pytest.mark.parametrize("value", ["yes", "true", " 1"])
def test_switch_that_is_neither_0_nor_1_is_refused(monkeypatch, value):
    monkeypatch.setenv("LABKIT_QUICK", value)
    with pytest.raises(ValueError, match="LABKIT_QUICK"):
        runtime.quick_mode()


def test_without_onednn_there_is_no_native_bfloat16_and_no_error(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert runtime.has_native_bfloat16(torch.device("cpu")) is False
