import os
import random
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import labkit
from labkit import runtime
from labkit.rerun import execution

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
    with pytest.raises(ValueError, match=r"it must be a whole number from 0 to 4294967295") as error:
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


AVX2 = {"avx2": True, "avx512_f": False, "avx512_bf16": False, "amx_bf16": False}
AVX512 = AVX2 | {"avx512_f": True}
# Kind of processor -> what torch.cpu.get_capabilities() has, whether oneDNN says that it does bfloat16, what oneDNN was
# told, and whether bfloat16 is multiplied by the processor itself.
PROCESSORS = {
    "Haswell, Zen 2, Zen 3": (AVX2, False, "", False),
    "Arrow Lake: converts bfloat16 and does not multiply it": (AVX2 | {"avx_ne_convert": True}, True, "", False),
    "Skylake-X": (AVX512, True, "", False),
    "Ice Lake, Tiger Lake": (AVX512 | {"avx512_vnni": True}, True, "", False),
    "a virtual machine that masks the flag": (AVX512 | {"cpu_name": "Intel Xeon"}, True, "", False),
    "Cooper Lake, Zen 4, Zen 5": (AVX512 | {"avx512_bf16": True}, True, "", True),
    "Zen 4, oneDNN told AVX2": (AVX512 | {"avx512_bf16": True}, False, "AVX2", False),
    "Zen 4, oneDNN told to emulate": (AVX512 | {"avx512_bf16": True}, True, "AVX512_CORE", False),
    "Zen 4, in lower case": (AVX512 | {"avx512_bf16": True}, True, "avx512_core_vnni", False),
    "Zen 4, oneDNN told what it has": (AVX512 | {"avx512_bf16": True}, True, "AVX512_CORE_BF16", True),
    "Sapphire Rapids": (AVX512 | {"avx512_bf16": True, "amx_bf16": True}, True, "", True),
    "Sapphire Rapids without its tiles": (AVX512 | {"avx512_bf16": True}, True, "AVX512_CORE_FP16", True),
    "Graviton 3, Grace": ({"neon": True, "bf16": True}, True, "", True),
    "Graviton 2": ({"neon": True, "bf16": False}, False, "", False),
    "Apple M2, whose torch has no oneDNN": ({"neon": True, "bf16": True}, None, "", False),
}


@pytest.fixture
def on_processor(monkeypatch):
    """Pretends to be on another kind of processor."""

    def pretend(kind):
        has, onednn, told, native = PROCESSORS[kind]
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "LABKIT_BF16"):
            monkeypatch.delenv(name, raising=False)
        if told:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn is not None)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bool(onednn), raising=False)
        return native

    return pretend


@pytest.mark.parametrize("kind", PROCESSORS)
def test_training_is_bfloat16_only_where_the_processor_multiplies_it(kind, on_processor, monkeypatch):
    native = on_processor(kind)
    assert labkit.has_native_bfloat16(CPU) is native
    assert runtime.precision(CPU) == ("bfloat16" if native else "float32")
    assert product() == (torch.bfloat16 if native else torch.float32)
    monkeypatch.setenv("LABKIT_BF16", "0")
    assert runtime.precision(CPU) == "float32"
    assert product() == torch.float32
    monkeypatch.setenv("LABKIT_BF16", "1")
    assert runtime.precision(CPU) == ("bfloat16" if native else "emulated bfloat16")
    assert product() == torch.bfloat16


def test_the_older_name_of_the_variable_of_onednn_counts_too(on_processor, monkeypatch):
    on_processor("Sapphire Rapids")
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE")
    assert not labkit.has_native_bfloat16(CPU)


def test_forced_emulation_says_so_in_one_line(on_processor, monkeypatch, capsys):
    on_processor("Ice Lake, Tiger Lake")
    monkeypatch.setenv("LABKIT_BARS", "1")
    labkit.loaders()
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("LABKIT_BF16", "1")
    labkit.loaders()
    said = capsys.readouterr().out
    assert said == "LABKIT_BF16=1: this processor only emulates bfloat16; training is slower than in float32\n"
    assert runtime.hardware(CPU).endswith(", emulated bfloat16 training")
    assert ", training in †emulated bfloat16; " in runtime.footer()


@pytest.mark.parametrize("value", ["yes", "true", "2", "float32"])
def test_precision_that_is_neither_0_nor_1_is_refused(monkeypatch, value):
    monkeypatch.setenv("LABKIT_BF16", value)
    for ask in (lambda: labkit.mixed_precision(CPU), execution.check_environment):
        with pytest.raises(ValueError, match=f"LABKIT_BF16 is '{value}'; it must be 0 or 1"):
            ask()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ATEN_CPU_CAPABILITY", "nonsense", "ATEN_CPU_CAPABILITY is 'nonsense'; it must be one of avx2, avx512"),
        ("ATEN_CPU_CAPABILITY", "avx512", "ATEN_CPU_CAPABILITY is 'avx512', which this processor does not have"),
        ("ONEDNN_MAX_CPU_ISA", "AVX3", "ONEDNN_MAX_CPU_ISA is 'AVX3'; it must be a name of oneDNN's"),
        ("DNNL_MAX_CPU_ISA", "none", "DNNL_MAX_CPU_ISA is 'none'"),
    ],
)
def test_instructions_that_nobody_has_are_refused(name, value, words, monkeypatch, on_processor):
    on_processor("Haswell, Zen 2, Zen 3")
    execution.check_environment()
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    execution.check_environment()
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        execution.check_environment()


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


def test_text_is_written_with_its_own_line_ends_and_only_if_it_passes_the_check(tmp_path):
    def refuse(written):
        raise ValueError(f"{written.read_text(encoding='utf-8')} is no good")

    path = tmp_path / "file.txt"
    assert runtime.write_file(path, "ä\r\nb\n") == path
    with pytest.raises(ValueError, match="new is no good"):
        runtime.write_file(path, b"new", refuse)
    assert path.read_bytes() == "ä\r\nb\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [True, 1.0, "2", 1, 9])
def test_argument_that_is_no_whole_number_of_the_range_is_named(value):
    with pytest.raises(ValueError, match=rf"^bits is {value!r}; it must be a whole number from 2 to 8$"):
        runtime.check_whole("bits", value, 2, 8)
    runtime.check_whole("bits", 8, 2, 8)
    runtime.check_whole("seed", 9, 0)
    with pytest.raises(ValueError, match=r"^seed is -1; it must be a whole number >= 0$"):
        runtime.check_whole("seed", -1, 0)


def test_file_system_that_knows_no_permissions_is_written(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    for owner, name in ((os, "chmod"), (os, "fchmod"), (Path, "chmod")):
        monkeypatch.setattr(owner, name, refused)
    with runtime.written_whole(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_others_may_read_a_file_as_the_system_says(tmp_path):
    (tmp_path / "plain").write_text("", encoding="utf-8")
    with runtime.written_whole(tmp_path / "file.txt") as temporary:
        temporary.write_text("whole", encoding="utf-8")
    assert (tmp_path / "file.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_home_is_read_in_the_names_of_folders(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name, folder in (("LABKIT_DATA", runtime.data_dir), ("LABKIT_MODELS", runtime.models_dir)):
        monkeypatch.setenv(name, "~/labs")
        assert folder() == tmp_path / "labs"


def test_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="cannot be written") as error, runtime.written_whole(tmp_path / "file" / "x"):
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
    assert footer.startswith(f"labkit †{labkit.__version__}, training in †{runtime.precision(CPU)}; ")


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
