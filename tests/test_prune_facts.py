import copy
import gc
import gzip
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import labkit

CPU = torch.device("cpu")
IMAGES = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def l1(model, amount):
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", amount)
    return model


def one_step(model, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    F.cross_entropy(model(IMAGES), torch.arange(8)).backward()
    optimizer.step()
    return optimizer


def zeros(model):
    return sum(row.zeros for row in labkit.sparsity_report(model))


def rising(count):
    layer = nn.Linear(count, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, count + 1))
    return layer


def file_of(model):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


def multiplications(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(model.eval(), (IMAGES,))
    return [str(node.target) for node in program.graph.nodes].count("aten.mul.Tensor")


def test_fact_01_parameters_of_a_pruned_model_show_no_zeros(tiny):
    model = l1(tiny(), 0.5)
    weights = [parameter for name, parameter in model.named_parameters() if name.startswith(("conv", "fc"))]
    assert sum(int((parameter == 0).sum()) for parameter in weights) == 0
    assert sum(parameter.numel() for parameter in weights) == 2_684 + 4 + 6 + 8 + 10
    assert labkit.sparsity(model) == 0.5
    assert [int((labkit.effective_weight(model.conv1) == 0).sum()), zeros(model)] == [18, 1_342]


def test_fact_02_weight_is_stale_after_an_optimizer_step(tiny):
    model = l1(tiny(), 0.5)
    one_step(model)
    product = model.fc.weight_orig * model.fc.weight_mask
    assert not torch.equal(model.fc.weight, product)
    assert torch.equal(labkit.effective_weight(model.fc), product)
    labkit.refresh_weights(model)
    assert torch.equal(model.fc.weight, product)


def test_fact_02_weight_is_stale_after_loading_a_state(tiny):
    model, other = l1(tiny(0), 0.5), l1(tiny(1), 0.5)
    model.load_state_dict(other.state_dict())
    assert not torch.equal(model.fc.weight, other.fc.weight)
    assert torch.equal(labkit.effective_weight(model.fc), other.fc.weight)
    labkit.refresh_weights(model)
    assert torch.equal(model.fc.weight, other.fc.weight)


def test_fact_02_weight_is_stale_after_a_change_of_precision(tiny):
    model = l1(tiny(), 0.5).to(torch.float64)
    assert (model.fc.weight.dtype, model.fc.weight_orig.dtype) == (torch.float32, torch.float64)
    assert labkit.effective_weight(model.fc).dtype == torch.float64
    labkit.refresh_weights(model)
    assert model.fc.weight.dtype == torch.float64


@pytest.mark.parametrize("moment", ["freshly pruned", "after a forward in training"])
def test_fact_03_deepcopy_raises_on_a_pruned_model_where_clone_copies(tiny, moment):
    model = l1(tiny(), 0.5)
    if moment == "after a forward in training":
        with torch.no_grad():
            model(IMAGES)
        copy.deepcopy(model)
        model(IMAGES)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    copied = labkit.clone(model)
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in copied.state_dict().items())
    assert torch.equal(copied(IMAGES), model(IMAGES))


def test_fact_04_pruned_state_does_not_load_into_a_fresh_model_but_the_saved_network_does(tiny, tmp_path):
    model = l1(tiny(), 0.5).eval()
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "conv1.weight_orig"'):
        tiny(1).load_state_dict(model.state_dict())
    loaded = labkit.load_network(labkit.save_network(model, tmp_path / "pruned.pth")).eval()
    assert prune.is_pruned(loaded)
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    assert torch.equal(labkit.load_network(tmp_path / "plain.pth").eval()(IMAGES), model(IMAGES))
    one_step(loaded)
    assert zeros(loaded) == 1_342


def test_fact_05_optimizer_stays_valid_when_its_model_is_pruned(tiny):
    model = tiny()
    before = list(model.parameters())
    optimizer = torch.optim.SGD(before, lr=0.1)
    l1(model, 0.5)
    assert {id(parameter) for parameter in model.parameters()} == {id(parameter) for parameter in before}
    weight = labkit.effective_weight(model.fc)
    one_step(model, optimizer)
    assert not torch.equal(labkit.effective_weight(model.fc), weight)


@pytest.mark.parametrize(
    ("make", "drifts"),
    [
        (lambda parameters: torch.optim.SGD(parameters, 0.1), False),
        (lambda parameters: torch.optim.SGD(parameters, 0.1, weight_decay=0.1), True),
        (lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9), True),
        (lambda parameters: torch.optim.Adam(parameters, 0.01), True),
    ],
    ids=["sgd", "weight decay", "momentum", "adam"],
)
def test_fact_05_masked_weights_drift_on_unless_plain_sgd_or_a_new_optimizer_trains_them(tiny, make, drifts):
    model = tiny()
    optimizer = make(model.parameters())
    one_step(model, optimizer)
    l1(model, 0.5)
    masked, before = model.fc.weight_mask == 0, model.fc.weight_orig.detach().clone()
    one_step(model, optimizer)
    assert torch.equal(model.fc.weight_orig[masked], before[masked]) != drifts
    assert labkit.effective_weight(model.fc)[masked].unique().tolist() == [0]


def test_fact_05_a_new_optimizer_without_weight_decay_leaves_masked_weights_where_they_are(tiny):
    model = tiny()
    one_step(model, torch.optim.Adam(model.parameters(), 0.01))
    l1(model, 0.5)
    masked, before = model.fc.weight_mask == 0, model.fc.weight_orig.detach().clone()
    one_step(model, torch.optim.Adam(model.parameters(), 0.01))
    assert torch.equal(model.fc.weight_orig[masked], before[masked])


def test_fact_05_rewinding_needs_a_copy_because_weight_orig_is_not_the_original_weight(tiny):
    model = tiny()
    start = labkit.clone(model)
    optimizer = torch.optim.SGD(l1(model, 0.5).parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        one_step(model, optimizer)
    assert not torch.equal(model.fc.weight_orig, start.fc.weight)
    rewound = labkit.clone(start)
    prune.custom_from_mask(rewound.fc, "weight", model.fc.weight_mask)
    assert torch.equal(labkit.effective_weight(rewound.fc), start.fc.weight * model.fc.weight_mask)


@pytest.mark.parametrize(("amount", "pruned"), [(1, [1, 2]), (1.0, [10, 10]), (3, [3, 6])])
def test_fact_06_amount_1_is_one_weight_of_each_call_and_amount_1_0_is_all(amount, pruned):
    layer, counted = rising(10), []
    for _ in pruned:
        prune.l1_unstructured(layer, "weight", amount)
        counted.append(zeros(nn.Sequential(layer)))
    assert counted == pruned


def test_fact_07_ten_tenths_prune_65_percent_of_a_layer():
    layer = rising(100_000)
    for _ in range(10):
        prune.l1_unstructured(layer, "weight", 0.1)
    assert round(labkit.sparsity(nn.Sequential(layer)), 4) == round(1 - 0.9**10, 4) == 0.6513


def test_fact_07_ten_tenths_prune_65_percent_of_all_layers_together():
    model = labkit.CNN()
    layers = [(layer, "weight") for layer in labkit.prunable_layers(model).values()]
    for _ in range(10):
        prune.global_unstructured(layers, prune.L1Unstructured, amount=0.1)
    assert round(labkit.sparsity(model), 4) == 0.6513
    assert labkit.sparsity(model) < 0.7


@pytest.mark.parametrize(("amount", "count", "pruned"), [(0.5, 5, 2), (0.5, 7, 4), (0.5, 1, 0), (0.1, 4, 0)])
def test_fact_08_numbers_are_rounded_to_the_even_neighbour_and_the_report_says_what_came_out(amount, count, pruned):
    layer = rising(count)
    prune.l1_unstructured(layer, "weight", amount)
    report = labkit.sparsity_report(nn.Sequential(layer))[0]
    assert (report.zeros, report.sparsity) == (pruned, pruned / count)


def test_fact_08_a_tenth_of_four_channels_is_silently_none(tiny):
    model = tiny()
    prune.ln_structured(model.conv1, "weight", amount=0.1, n=2, dim=0)
    assert prune.is_pruned(model.conv1)
    assert labkit.zero_channels(model.conv1).tolist() == []
    assert "0 of   4" in labkit.sparsity_table(model)
    assert labkit.silence_channels(model)["conv1"] == []


def test_fact_09_emptied_channel_still_emits_its_bias_through_batch_norm(tiny):
    model = tiny().eval()
    with torch.no_grad():
        model.conv1.bias[2], model.batch1.bias[2] = 0.5, 0.25
        model.conv1.weight[2] *= 1e-3
    prune.ln_structured(model.conv1, "weight", amount=1, n=2, dim=0)
    assert list(dict(model.conv1.named_buffers())) == ["weight_mask"]
    constant = model.batch1(model.conv1(IMAGES))[:, 2]
    assert constant.min() == constant.max() > 0.7
    with pytest.raises(ValueError, match=r"channel 2 puts out a constant \(0\.75"):
        labkit.remove_dead_channels(model)
    assert labkit.silence_channels(model)["conv1"] == [2]
    assert model.batch1(model.conv1(IMAGES))[:, 2].abs().max() == 0
    small = labkit.remove_dead_channels(model)
    assert small.channels == (3, 6, 8)
    assert torch.allclose(small(IMAGES), model(IMAGES), atol=1e-5)


def test_fact_09_padding_keeps_the_constant_of_a_channel_from_being_a_bias(tiny):
    conv = tiny().conv2
    with torch.no_grad():
        constant = torch.zeros(1, 4, 14, 14).index_fill(1, torch.tensor([2]), 0.75)
        output = conv(constant)[0, 0]
    assert torch.allclose(output[1:-1, 1:-1], output[1, 1])
    assert (output[0] - output[1, 1]).abs().max() > 1e-3


def test_fact_10_global_pruning_needs_a_list_and_not_a_generator(tiny):
    model = tiny()
    with pytest.raises(ValueError, match="expected a non-empty list of Tensors"):
        prune.global_unstructured(
            ((layer, "weight") for layer in labkit.prunable_layers(model).values()), prune.L1Unstructured, amount=0.5
        )
    assert zeros(model) == 0
    layers = [(layer, "weight") for layer in labkit.prunable_layers(model).values()]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.5)
    assert zeros(model) == 1_342


@pytest.mark.parametrize("bake", [False, True])
def test_fact_11_one_step_after_the_masks_are_gone_revives_the_zeros(tiny, bake):
    model = l1(tiny(), 0.5)
    plain = labkit.bake_masks(model)
    if not bake:
        plain = labkit.clone(model)
        for layer in labkit.prunable_layers(plain).values():
            prune.remove(layer, "weight")
    assert zeros(plain) == 1_342
    one_step(plain, torch.optim.SGD(plain.parameters(), 0.1))
    assert zeros(plain) < 134
    one_step(model)
    assert zeros(model) == 1_342


def test_fact_12_file_of_a_masked_model_is_twice_as_large():
    dense, masked = labkit.CNN(), l1(labkit.CNN(), 0.5)
    assert len(file_of(masked)) - len(file_of(dense)) == pytest.approx(4 * 124_448, rel=0.01)
    assert 1.9 < len(file_of(masked)) / len(file_of(dense)) < 2.1
    assert len(file_of(labkit.bake_masks(masked))) == pytest.approx(len(file_of(dense)), rel=0.01)
    assert len(gzip.compress(file_of(labkit.bake_masks(masked)))) < 0.75 * len(gzip.compress(file_of(dense)))


def test_fact_12_ledger_shows_that_a_mask_saves_nothing_and_removed_channels_do():
    dense = labkit.CNN()
    masked = labkit.with_channels(dense, {"conv1": 16, "conv2": 32, "conv3": 64})
    small = labkit.remove_dead_channels(masked)
    found = labkit.ledgers({"dense": dense, "masked": masked, "small": small}, seconds=0.001)
    assert found["masked"].multiply_adds == found["dense"].multiply_adds
    assert found["masked"].parameters == found["dense"].parameters
    assert 1.5 < found["masked"].raw_bytes / found["dense"].raw_bytes < 2.1
    assert found["small"].raw_bytes < 0.35 * found["dense"].raw_bytes
    assert found["small"].multiply_adds == 288 // 2 * 784 + 18_432 // 4 * 196 + 73_728 // 4 * 25 + 32_000 // 2
    assert found["small"].multiply_adds < 0.3 * found["masked"].multiply_adds


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
def test_fact_13_script_refuses_a_masked_model_and_takes_a_baked_one():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2_704, 10))
    torch.jit.script(model)
    l1(model, 0.5)
    with pytest.raises(AttributeError, match="L1Unstructured"):
        torch.jit.script(model)
    assert torch.allclose(torch.jit.script(labkit.bake_masks(model))(IMAGES), model(IMAGES), atol=1e-5)


def test_fact_13_export_keeps_the_multiplication_with_each_mask_unless_it_is_baked_in(tiny):
    masked = l1(tiny(), 0.5)
    small = labkit.remove_dead_channels(labkit.with_channels(tiny(), {"conv1": 2}))
    assert multiplications(labkit.clone(masked)) == 4
    assert multiplications(labkit.bake_masks(masked)) == multiplications(small) == multiplications(tiny()) == 0


def test_fact_13_onnx_file_of_a_masked_model_multiplies_with_no_mask(tiny, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = l1(tiny(), 0.5).eval()
    graph = onnx.load(labkit.export_onnx(model, tmp_path / "masked.onnx")).graph
    kinds = [node.op_type for node in graph.node]
    assert "Mul" not in kinds
    assert kinds.count("Conv") == 3
    assert not [one.name for one in graph.initializer if "mask" in one.name or "orig" in one.name]
    assert prune.is_pruned(model)


def test_fact_14_random_pruning_draws_from_the_global_generator(tiny):
    def mask(seed):
        model = tiny()
        labkit.set_seed(seed)
        prune.random_unstructured(model.fc, "weight", 0.5)
        return model.fc.weight_mask

    assert torch.equal(mask(0), mask(0))
    assert not torch.equal(mask(0), mask(1))
    labkit.set_seed(0)
    before = torch.get_rng_state()
    prune.random_unstructured(tiny().fc, "weight", 0.5)
    assert not torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match="generator"):
        prune.random_unstructured(tiny().fc, "weight", 0.5, generator=torch.Generator())


def test_fact_15_nan_sorts_as_largest_and_is_refused(tiny, tmp_path):
    model = tiny()
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    prune.l1_unstructured(model.fc, "weight", 1_999)
    assert (model.fc.weight_mask.nonzero().tolist(), model.fc.weight[0, 0].isnan().item()) == ([[0, 0]], True)
    with pytest.raises(ValueError, match="fc has 1 weights that are NaN"):
        labkit.sparsity(model)
    with pytest.raises(ValueError, match=r"fc.weight_orig has 1 values that are NaN"):
        labkit.save_network(model, tmp_path / "nan.pth")


def test_fact_15_nan_under_a_mask_stays_nan_and_is_refused(tiny):
    model = tiny()
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    prune.custom_from_mask(model.fc, "weight", torch.zeros(10, 200))
    assert int((model.fc.weight == 0).sum()) == 1_999
    assert model(IMAGES)[:, 0].isnan().all()
    for function in (labkit.sparsity, labkit.silence_channels, labkit.remove_dead_channels):
        with pytest.raises(ValueError, match=r"fc.* 1 (weights|values) that are NaN"):
            function(model)


def test_fact_16_many_rounds_of_pruning_and_training_keep_memory_flat(tiny, small):
    model, loader, process = tiny(), small(32, 16), psutil.Process()

    def rounds(count):
        for _ in range(count):
            optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
            l1(model, 0.02)
            labkit.train_one_epoch(model, loader, F.cross_entropy, labkit.AccuracyMetric(), optimizer, 1, CPU)
            labkit.sparsity_table(labkit.clone(model))
        optimizer.zero_grad()
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
        held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        return len(tensors), sum(held.values()), process.memory_info().rss

    rounds(10)
    early, late = rounds(1), rounds(40)
    assert late[0] - early[0] <= 2
    assert late[1] <= early[1] + 10_000
    assert late[2] <= early[2] + 30_000_000


def test_fact_16_every_round_adds_an_entry_to_the_container_and_cloning_afresh_does_not(tiny):
    model, start = tiny(), tiny()
    for _ in range(5):
        prune.l1_unstructured(model.fc, "weight", 0.1)
        fresh = labkit.clone(start)
        prune.l1_unstructured(fresh.fc, "weight", 0.1)
    hooks = [next(iter(layer._forward_pre_hooks.values())) for layer in (model.fc, fresh.fc)]
    assert len(hooks[0]) == 5
    assert isinstance(hooks[1], prune.L1Unstructured)
    assert len(model.fc._forward_pre_hooks) == 1


def test_fact_17_two_of_four_is_a_mask_like_any_other_and_skips_no_multiplication():
    model = labkit.CNN()
    for name, layer in labkit.prunable_layers(model).items():
        if name != "conv1":
            groups = layer.weight.detach().abs().flatten(1).unflatten(1, (-1, 4))
            mask = (groups.argsort(-1).argsort(-1) >= 2).view_as(layer.weight)
            prune.custom_from_mask(layer, "weight", mask)
            of_four = labkit.effective_weight(layer).flatten(1).unflatten(1, (-1, 4)).count_nonzero(-1)
            assert of_four.unique().tolist() == [2]
    before, after = labkit.multiply_adds(labkit.CNN()), labkit.multiply_adds(model)
    assert [layer.multiply_adds for layer in after] == [layer.multiply_adds for layer in before]
    assert [2 * layer.effective == layer.multiply_adds for layer in after] == [False, True, True, True]
    assert type(model.fc.weight) is torch.Tensor
    assert model.fc.weight.layout == torch.strided
    assert labkit.remove_dead_channels(model).channels == model.channels


@pytest.mark.parametrize("how", ["random_unstructured", "l1_unstructured", "global_unstructured"])
def test_fact_18_weights_stored_channels_last_can_not_be_pruned_and_those_of_labkit_are_not(how):
    def pruned(model):
        if how == "global_unstructured":
            prune.global_unstructured([(model.conv2, "weight")], prune.L1Unstructured, amount=0.5)
        else:
            getattr(prune, how)(model.conv2, "weight", 0.5)
        return model

    with pytest.raises(RuntimeError, match="view size is not compatible"):
        pruned(labkit.CNN().to(memory_format=torch.channels_last))
    assert labkit.sparsity(pruned(labkit.CNN()), ["conv2"]) == 0.5


def test_fact_18_training_on_channels_last_batches_leaves_the_weights_prunable(tiny, small):
    model = tiny()
    loader = small(32, 16)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    labkit.train_one_epoch(model, loader, F.cross_entropy, labkit.AccuracyMetric(), optimizer, 1, CPU)
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    copies = [labkit.clone(model), labkit.remove_dead_channels(labkit.with_channels(model, {"conv1": 2, "conv2": 3}))]
    for copied in copies:
        copied(IMAGES.to(memory_format=torch.channels_last))
        assert labkit.sparsity(l1(copied, 0.5)) == pytest.approx(0.5, abs=0.01)


def test_fact_19_pruning_twice_prunes_what_is_left_unless_it_starts_from_a_clone(tiny):
    model, start = tiny(), tiny()
    found = []
    for _ in range(2):
        l1(model, 0.25)
        found.append((labkit.sparsity(model), labkit.sparsity(l1(labkit.clone(start), 0.25))))
    assert found[0] == (0.25, 0.25)
    assert found[1] == (pytest.approx(0.4375, abs=0.001), 0.25)
    assert labkit.sparsity(start) == 0


def told(code, **restriction):
    found = subprocess.run(
        [sys.executable, "-c", f"import torch\n{code}"],
        env={**os.environ, "PYTHONPATH": str(Path(labkit.__file__).parent.parent), **restriction},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.mark.slow
def test_fact_20_only_one_dnn_itself_tells_that_it_may_not_use_bfloat16():
    code = """
from labkit import runtime
cpu = torch.device("cpu")
print(torch.cpu._is_avx512_bf16_supported(), runtime.has_native_bfloat16(cpu))
print(type(runtime.mixed_precision(cpu)).__name__)
"""
    believed, native, context = told(code, ONEDNN_MAX_CPU_ISA="AVX2", ATEN_CPU_CAPABILITY="avx2")
    assert believed == str(torch.cpu._is_avx512_bf16_supported())
    assert (native, context) == ("False", "nullcontext")
    mkldnn = torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert labkit.has_native_bfloat16(torch.device("cpu")) == mkldnn
