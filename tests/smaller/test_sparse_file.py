import lzma
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import seeded
from torch import nn
from torch.nn.utils import prune

import labkit
from labkit import runtime
from labkit.smaller import sparse_file

WEIGHTS = ("conv1.weight", "conv2.weight", "conv3.weight", "fc.weight")


def smallest():
    return seeded((1, 1, 1), (1, 12, 12), 2)


def state(model):
    return labkit.bake_masks(model).state_dict()


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def steps(weight, bits):
    """One step of each output channel, as float64 (K, 1)."""
    return weight.double().flatten(1).abs().max(dim=1, keepdim=True).values / (2 ** (bits - 1) - 1)


def assert_close(model, loaded, bits):
    """Weights within half a step, zeros where they were, other numbers as near as 16 bits are."""
    before, after = state(model), loaded.state_dict()
    assert before.keys() == after.keys()
    for key, tensor in after.items():
        assert tensor.shape == before[key].shape
        if key in WEIGHTS:
            step = steps(before[key], bits)
            worst = (tensor.double() - before[key].double()).flatten(1).abs()
            assert (worst <= step * (0.5 + 1e-5)).all(), key
            assert (tensor[before[key] == 0] == 0).all(), key
        elif key.endswith("num_batches_tracked"):
            assert tensor == 0
        else:
            wanted = before[key].double()
            assert ((tensor.double() - wanted).abs() <= wanted.abs() * 2.0**-11 + 2.0**-25).all(), key


def round_trip(model, path, bits=8):
    return labkit.load_sparse(labkit.save_sparse(model, path, bits))


def content_of(data):
    return lzma.decompress(data[8:], lzma.FORMAT_RAW, filters=sparse_file.FILTERS)


def sealed(stream):
    """A file with a right checksum."""
    return b"LKS1" + struct.pack("<I", zlib.crc32(stream)) + stream


def packed(content):
    return sealed(lzma.compress(content, lzma.FORMAT_RAW, filters=sparse_file.FILTERS))


def tensors_of(model, **changed):
    """The unpacked content of a file, part by part, so that a test can exchange one."""
    parts = {"sizes": struct.pack("<8I", *model.input_shape, model.num_of_cls, *model.channels, 8)}
    for key, tensor in sorted(model.state_dict().items()):
        if key in WEIGHTS:
            parts[key] = sparse_file._packed_weight(tensor.double().numpy().reshape(len(tensor), -1), 8)
        elif not key.endswith("num_batches_tracked"):
            parts[key] = b"\x02" + tensor.numpy().astype(np.float16).tobytes()
    parts |= {key.replace("__", "."): value for key, value in changed.items()}
    return packed(b"".join(parts.values()))


def weight_part(scales, places, numbers):
    return np.array(scales, np.float32).tobytes() + struct.pack("<I", len(places)) + bytes(places) + bytes(numbers)


def refuses(path, data, words=None):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        labkit.load_sparse(path)
    assert str(path) in str(error.value)
    assert error.value.__suppress_context__ or error.value.__cause__ is None


# Round trip


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 3), st.integers(12, 21), st.integers(12, 21)),
    st.integers(1, 11),
    st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0]),
    st.integers(2, 8),
    st.integers(0, 1000),
)
def test_what_comes_back_is_near_and_zero_where_it_was(tmp_path_factory, channels, shape, classes, share, bits, seed):
    model = seeded(channels, shape, classes, seed)
    if share:
        for layer in labkit.prunable_layers(model).values():
            prune.l1_unstructured(layer, "weight", share)
    loaded = round_trip(model, tmp_path_factory.mktemp("sparse") / "net.lks", bits)
    assert type(loaded) is labkit.CNN
    assert (loaded.input_shape, loaded.num_of_cls, loaded.channels) == (shape, classes, channels)
    assert_close(model, loaded, bits)


@pytest.mark.parametrize("bits", range(2, 9))
def test_saving_the_loaded_network_gives_the_same_bytes(tmp_path, bits):
    for seed in range(5):
        first = labkit.save_sparse(seeded((16, 24, 32), seed=seed), tmp_path / "a.lks", bits)
        loaded = labkit.load_sparse(first)
        second = labkit.save_sparse(loaded, tmp_path / "b.lks", bits)
        assert same(loaded, labkit.load_sparse(second))
        assert first.read_bytes() == second.read_bytes()


def test_saving_a_loaded_network_of_double_precision_gives_the_same_bytes(tmp_path):
    for bits in (3, 4, 8):
        model, generator = seeded((16, 24, 32)).double(), torch.Generator().manual_seed(0)
        with torch.no_grad():
            model.fc.weight.normal_(generator=generator)  # not rounded to float32
            model.conv3.weight.normal_(generator=generator)
        first = labkit.save_sparse(model, tmp_path / "a.lks", bits)
        second = labkit.save_sparse(labkit.load_sparse(first), tmp_path / "b.lks", bits)
        assert first.read_bytes() == second.read_bytes()


def test_loaded_network_is_plain_float32_on_the_cpu_in_evaluation_mode(tmp_path):
    model = seeded().double().train()
    prune.l1_unstructured(model.fc, "weight", 0.5)
    loaded = round_trip(model, tmp_path / "net.lks")
    assert not any(module.training for module in loaded.modules())
    assert loaded.state_dict().keys() == labkit.CNN(channels=(4, 6, 8)).state_dict().keys()
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert all(p.requires_grad and p.is_leaf for p in loaded.parameters())


def test_loaded_network_can_be_trained_pruned_and_saved_again(tmp_path):
    loaded = round_trip(seeded(), tmp_path / "net.lks").train()
    prune.l1_unstructured(loaded.fc, "weight", 0.5)
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    F.cross_entropy(loaded(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    assert loaded.batch1.num_batches_tracked == 1
    assert_close(loaded, round_trip(loaded, tmp_path / "net.lks"), 8)


def test_loading_draws_no_random_numbers(tmp_path):
    path = labkit.save_sparse(seeded(), tmp_path / "net.lks")
    before = torch.get_rng_state()
    labkit.load_sparse(path)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("change", ["masked", "trained", "bias", "structured", "train mode"])
def test_saving_changes_nothing_and_bakes_the_masks(tmp_path, change):
    model = seeded().train(change == "train mode")
    if change in ("masked", "trained"):
        prune.l1_unstructured(model.conv3, "weight", 0.5)
    if change == "structured":
        prune.ln_structured(model.conv2, "weight", 3, n=2, dim=0)
    if change == "bias":
        prune.l1_unstructured(model.conv2, "bias", 3)
    if change == "trained":
        F.cross_entropy(model(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()  # layer.weight is stale now
    before, modes = labkit.clone(model).state_dict(), [module.training for module in model.modules()]
    loaded = round_trip(model, tmp_path / "net.lks")
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert_close(model, loaded, 8)
    assert (loaded.conv2.bias == 0).sum() == (3 if change == "bias" else 0)


def test_masked_and_baked_network_give_the_same_bytes(tmp_path):
    model = seeded()
    for layer in labkit.prunable_layers(model).values():
        prune.l1_unstructured(layer, "weight", 0.7)
    one = labkit.save_sparse(model, tmp_path / "a.lks").read_bytes()
    assert one == labkit.save_sparse(labkit.bake_masks(model), tmp_path / "b.lks").read_bytes()
    assert one == labkit.save_sparse(model, tmp_path / "c.lks").read_bytes()
    assert one == sparse_file.pack_sparse(model)


@pytest.mark.parametrize("kind", ["double", "channels last", "train", "frozen"])
def test_bytes_depend_on_the_numbers_only(kind):
    model, other = seeded(), seeded()
    if kind == "double":
        other.double()
    if kind == "channels last":
        other.to(memory_format=torch.channels_last)
    if kind == "train":
        other.train()
    if kind == "frozen":
        other.requires_grad_(False)
    assert sparse_file.pack_sparse(other) == sparse_file.pack_sparse(model)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_network_of_half_precision_comes_back(tmp_path, kind):
    model = seeded().to(kind)
    assert_close(model.float(), round_trip(model, tmp_path / "net.lks"), 8)


def test_shrunk_network_comes_back(tmp_path):
    model = labkit.with_channels(seeded(), {"conv1": 2, "conv3": 5})
    small = labkit.remove_dead_channels(model)
    loaded = round_trip(small, tmp_path / "net.lks")
    assert loaded.channels == (2, 6, 5)
    assert_close(small, loaded, 8)


def test_fewer_bits_and_more_zeros_take_fewer_bytes():
    model = seeded((16, 32, 64))
    sizes = [len(sparse_file.pack_sparse(model, bits)) for bits in range(2, 9)]
    assert sizes == sorted(set(sizes))
    found = []
    for share in (0.0, 0.5, 0.9, 0.99):
        pruned = labkit.clone(model)
        for layer in labkit.prunable_layers(pruned).values():
            prune.l1_unstructured(layer, "weight", share)
        found.append(len(sparse_file.pack_sparse(pruned)))
    assert found == sorted(set(found), reverse=True)
    assert found[-1] < 0.1 * found[0]


# Places

LONG = (1, 1, 20)  # conv3 has 180 weights; fc 20 * 25 * 10 = 5,000


def with_places(places):
    model = seeded(LONG)
    with torch.no_grad():
        flat = torch.zeros(model.fc.weight.numel())
        flat[places] = torch.linspace(0.5, 1, len(places)) if len(places) else torch.zeros(0)
        model.fc.weight.copy_(flat.view_as(model.fc.weight))
    return model


@pytest.mark.parametrize("gap", [0, 1, 253, 254, 255, 256, 509, 510, 511, 764, 765, 766, 2550, 4998])
@pytest.mark.parametrize("start", [0, 1])
def test_any_number_of_zeros_may_stand_between_two_weights(tmp_path, gap, start):
    places = [start, start + gap + 1] if start + gap + 1 < 5000 else [start]
    model = with_places(places)
    loaded = round_trip(model, tmp_path / "net.lks")
    assert loaded.fc.weight.flatten().nonzero().flatten().tolist() == places
    assert_close(model, loaded, 8)


@pytest.mark.parametrize("first", [0, 1, 254, 255, 256, 510, 2550, 4999])
def test_any_number_of_zeros_may_stand_before_the_only_weight(tmp_path, first):
    model = with_places([first])
    loaded = round_trip(model, tmp_path / "net.lks")
    assert loaded.fc.weight.flatten().nonzero().flatten().tolist() == [first]
    assert_close(model, loaded, 8)


def test_many_gaps_of_all_lengths_come_back(tmp_path):
    places = np.cumsum([*range(250, 260), 1, 1, 510, 511, 1, 255, 1, 256]).tolist()
    model = with_places(places)
    assert round_trip(model, tmp_path / "net.lks").fc.weight.flatten().nonzero().flatten().tolist() == places


def test_empty_layers_come_back_empty(tmp_path):
    model = with_places([])
    with torch.no_grad():
        model.conv2.weight.zero_()
    loaded = round_trip(model, tmp_path / "net.lks")
    assert (loaded.fc.weight == 0).all()
    assert (loaded.conv2.weight == 0).all()
    assert (loaded.conv1.weight != 0).all()
    assert_close(model, loaded, 8)


# Numbers


def test_negative_zero_is_a_zero(tmp_path):
    model = seeded()
    with torch.no_grad():
        model.fc.weight[:, ::2] = -0.0
    loaded = round_trip(model, tmp_path / "net.lks")
    assert (loaded.fc.weight[:, ::2] == 0).all()
    assert_close(model, loaded, 8)


@pytest.mark.parametrize("size", [1e-45, 1e-42, 1e-38, 1e-30, 1e-8, 1e8, 1e30, 2e38])
@pytest.mark.parametrize("bits", [2, 8])
def test_weights_of_any_size_come_back(tmp_path, size, bits):
    model = seeded()
    with torch.no_grad():
        model.conv2.weight.div_(model.conv2.weight.abs().max()).mul_(size)
    loaded = round_trip(model, tmp_path / "net.lks", bits)
    found, wanted = loaded.conv2.weight.double(), model.conv2.weight.double()
    # A step cannot be smaller than the smallest float32.
    assert ((found - wanted).flatten(1).abs() <= 0.5001 * steps(wanted, bits) + 127 * 1.4e-45).all()


def test_largest_float32_comes_back(tmp_path):
    model = seeded()
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.finfo(torch.float32).max
        model.fc.weight[1, 1] = -torch.finfo(torch.float32).max
    loaded = round_trip(model, tmp_path / "net.lks")
    assert loaded.fc.weight[0, 0].item() == pytest.approx(torch.finfo(torch.float32).max, rel=0.01)


@pytest.mark.parametrize("key", ["fc.weight", "fc.bias", "batch1.running_var"])
def test_numbers_beyond_float32_are_refused_and_not_saved(tmp_path, key):
    model = seeded().double()
    with torch.no_grad():
        model.state_dict()[key].view(-1)[0] = 1e300
    with pytest.raises(ValueError, match=key):
        labkit.save_sparse(model, tmp_path / "net.lks")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [65_504.0, 65_505.0, 65_520.0, 70_000.0, 3e9, 3e38])
@pytest.mark.parametrize("key", ["batch2.running_var", "batch2.running_mean", "fc.bias", "conv1.bias"])
def test_numbers_too_large_for_16_bits_take_32(tmp_path, key, value):
    model = seeded()
    with torch.no_grad():
        model.state_dict()[key][1] = value
    loaded = round_trip(model, tmp_path / "net.lks")
    found = loaded.state_dict()[key]
    assert float(found[1]) == float(torch.tensor(value))
    assert_close(model, loaded, 8)
    assert torch.equal(found, model.state_dict()[key]) == (value > 65_504)


def test_tiny_variances_change_the_logits_little(tmp_path):
    model = seeded()
    with torch.no_grad():
        model.batch2.running_var.copy_(torch.tensor([0.0, 1e-45, 1e-12, 1e-9, 1e-8, 1e-6]))
        model.batch2.weight.mul_(1e-3)
    loaded = round_trip(model, tmp_path / "net.lks")
    assert (loaded.batch2.running_var >= 0).all()
    X = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert (loaded(X) - model(X)).abs().max() < 0.05 * model(X).abs().max()


def test_reference_network_is_as_accurate_in_8_bits(tmp_path, digits):
    images, labels = digits
    loader = labkit.Loader(images[55_000:56_000], labels[55_000:56_000], 250)
    model = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    path = labkit.save_sparse(model, tmp_path / "net.lks")
    assert abs(labkit.accuracy(labkit.load_sparse(path), loader) - labkit.accuracy(model, loader)) < 0.005
    assert path.stat().st_size < 0.27 * 4 * 125_130
    assert_close(model, labkit.load_sparse(path), 8)


# Files that are not sparse files


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net\.lks is not a file; save_sparse writes such files"):
        labkit.load_sparse(tmp_path / "net.lks")
    with pytest.raises((FileNotFoundError, IsADirectoryError, ValueError), match=str(tmp_path)):
        labkit.load_sparse(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"L", b"LKS", b"LKS2" + bytes(100), b"PK\x03\x04" + bytes(100), bytes(1000), b"hello\n" * 50]
)
def test_other_files_are_refused(tmp_path, data):
    refuses(tmp_path / "net.lks", data, "is not a sparse file of labkit")


def test_network_of_save_network_is_refused(tmp_path):
    path = labkit.save_network(seeded(), tmp_path / "net.pth")
    with pytest.raises(ValueError, match="is not a sparse file of labkit"):
        labkit.load_sparse(path)


def test_path_may_be_text(tmp_path):
    path = labkit.save_sparse(seeded(), str(tmp_path / "net.lks"))
    assert path == tmp_path / "net.lks"
    assert labkit.load_sparse(str(path)).channels == (4, 6, 8)


def test_every_truncation_is_refused(tmp_path):
    data = sparse_file.pack_sparse(smallest())
    for length in range(len(data)):
        refuses(tmp_path / "net.lks", data[:length])


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(tmp_path, flip):
    data = bytearray(sparse_file.pack_sparse(smallest()))
    for place in range(len(data)):
        data[place] ^= flip
        refuses(tmp_path / "net.lks", bytes(data), "damaged|not a sparse file")
        data[place] ^= flip


@pytest.mark.parametrize("more", [b"\0", b"x" * 100, b"LKS1"])
def test_bytes_after_the_end_are_refused(tmp_path, more):
    refuses(tmp_path / "net.lks", sparse_file.pack_sparse(smallest()) + more, "checksum is wrong")


# Files that were made on purpose: the checksum is right


def test_crafting_as_these_tests_do_gives_the_real_file():
    model = smallest()
    assert tensors_of(model) == sparse_file.pack_sparse(model)
    assert packed(content_of(sparse_file.pack_sparse(model))) == sparse_file.pack_sparse(model)


def finite_or_refused(path, data):
    """Whether it was loaded; what is loaded is a whole network."""
    path.write_bytes(data)
    try:
        loaded = labkit.load_sparse(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    assert type(loaded) is labkit.CNN
    assert all(tensor.isfinite().all() and tensor.device.type == "cpu" for tensor in loaded.state_dict().values())
    return True


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_flipped_bytes_of_the_stream_raise_nothing_but_value_errors(tmp_path, flip):
    stream = bytearray(sparse_file.pack_sparse(smallest())[8:])
    for place in range(len(stream)):
        stream[place] ^= flip
        finite_or_refused(tmp_path / "net.lks", sealed(bytes(stream)))
        stream[place] ^= flip


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80, 0xFF])
def test_flipped_bytes_of_the_content_raise_nothing_but_value_errors(tmp_path, flip):
    content = bytearray(content_of(sparse_file.pack_sparse(smallest())))
    for place in range(len(content)):
        content[place] ^= flip
        finite_or_refused(tmp_path / "net.lks", packed(bytes(content)))
        content[place] ^= flip


def test_every_truncated_content_is_refused(tmp_path):
    content = content_of(sparse_file.pack_sparse(smallest()))
    for length in range(len(content)):
        refuses(tmp_path / "net.lks", packed(content[:length]), "is damaged")


def test_truncated_stream_with_a_right_checksum_is_refused(tmp_path):
    stream = sparse_file.pack_sparse(smallest())[8:]
    for length in range(len(stream)):
        refuses(tmp_path / "net.lks", sealed(stream[:length]), "is damaged")


@pytest.mark.parametrize("more", [1, 10, 1000, 100_000])
def test_content_that_is_too_long_is_refused(tmp_path, more):
    content = content_of(sparse_file.pack_sparse(smallest()))
    refuses(tmp_path / "net.lks", packed(content + bytes(more)), "does not end where its network does")


@pytest.mark.parametrize("more", [b"\0", b"x" * 100])
def test_bytes_after_the_stream_are_refused(tmp_path, more):
    refuses(tmp_path / "net.lks", sealed(sparse_file.pack_sparse(smallest())[8:] + more), "is damaged")


SIZES = [1, 28, 28, 10, 4, 6, 8, 8]


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("value", [0, 65_536, 2**31 - 1, 2**31, 2**32 - 1])
def test_sizes_out_of_range_are_refused(tmp_path, place, value):
    sizes = SIZES.copy()
    sizes[place] = value
    refuses(tmp_path / "net.lks", packed(struct.pack("<8I", *sizes) + bytes(10_000)), "is damaged")


@pytest.mark.parametrize("bits", [0, 1, 9, 32])
def test_bits_out_of_range_are_refused(tmp_path, bits):
    refuses(tmp_path / "net.lks", packed(struct.pack("<8I", *SIZES[:-1], bits) + bytes(10_000)), f"with {bits} bits")


@pytest.mark.parametrize("sizes", [[1, 11, 28, 10, 4, 6, 8, 8], [1, 28, 11, 10, 4, 6, 8, 8]])
def test_images_that_are_too_small_are_refused(tmp_path, sizes):
    refuses(tmp_path / "net.lks", packed(struct.pack("<8I", *sizes) + bytes(10_000)), "height >= 12")


def test_sizes_alone_are_refused(tmp_path):
    refuses(tmp_path / "net.lks", packed(struct.pack("<8I", *SIZES)), "is damaged")
    refuses(tmp_path / "net.lks", packed(b""), "is damaged")
    refuses(tmp_path / "net.lks", sealed(b""), "is damaged")
    refuses(tmp_path / "net.lks", packed(struct.pack("<8I", *([0] * 7), 8)), "is damaged")


def peak(path, words):
    """Most megabytes that Python and NumPy held while a file was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words):
            labkit.load_sparse(path)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "sizes", [[65_535] * 7, [1, 65_535, 65_535, 65_535, 1, 1, 65_535], [1, 12, 12, 1, 65_535, 65_535, 1]], ids=str
)
def test_huge_network_is_refused_without_its_memory(tmp_path, sizes):
    path = tmp_path / "net.lks"
    path.write_bytes(packed(struct.pack("<8I", *sizes, 8) + bytes(1000)))
    assert peak(path, "at most 20,000,000 are read") < 5


def test_bomb_is_unpacked_no_further_than_its_network(tmp_path):
    path = tmp_path / "net.lks"
    path.write_bytes(packed(content_of(sparse_file.pack_sparse(smallest())) + bytes(60_000_000)))
    assert path.stat().st_size < 100_000
    assert peak(path, "does not end") < 5


def test_more_places_than_weights_are_refused(tmp_path):
    """255 says that no weight follows: only their number tells that these cannot be true."""
    model = smallest()
    part = weight_part([1.0], [255] * 40, [])
    refuses(tmp_path / "net.lks", tensors_of(model, conv1__weight=part), "is damaged")


@pytest.mark.slow
def test_places_of_a_large_network_take_no_more_memory_than_its_weights(tmp_path):
    model = seeded((1, 1100, 500), (1, 12, 12), 2)  # 4.95 million weights in conv3
    count = 4_960_000
    content = struct.pack("<8I", 1, 12, 12, 2, 1, 1100, 500, 8)
    for key, tensor in sorted(model.state_dict().items()):
        if key == "conv3.weight":
            break
        if key in WEIGHTS:
            content += weight_part([0.0] * len(tensor), [], [])
        elif not key.endswith("num_batches_tracked"):
            content += b"\x02" + bytes(2 * tensor.numel())
    content += bytes(4 * 500) + struct.pack("<I", 7 * count) + b"\xff" * (7 * count)
    path = tmp_path / "net.lks"
    path.write_bytes(packed(content))
    assert peak(path, "is damaged") < 250


@pytest.mark.parametrize(
    "part",
    [
        weight_part([1.0], [9], [1]),
        weight_part([1.0], [8, 0], [1, 1]),
        weight_part([1.0], [255, 0], [1]),
        weight_part([1.0], [0] * 10, [1] * 10),
    ],
)
def test_places_beyond_the_layer_are_refused(tmp_path, part):
    refuses(tmp_path / "net.lks", tensors_of(smallest(), conv1__weight=part), "a weight is at place .* of 9|9 weights")


def test_last_place_is_accepted(tmp_path):
    path = tmp_path / "net.lks"
    path.write_bytes(tensors_of(smallest(), conv1__weight=weight_part([0.5], [8], [254])))
    assert labkit.load_sparse(path).conv1.weight.flatten().tolist() == [0] * 8 + [-1]


@pytest.mark.parametrize(("bits", "value"), [(8, 0x80), (7, 64), (7, 0xC0), (4, 8), (2, 2), (2, 0xFE), (2, 127)])
def test_numbers_beyond_the_bits_are_refused(tmp_path, bits, value):
    model = smallest()
    sizes = struct.pack("<8I", *model.input_shape, 2, 1, 1, 1, bits)
    changes = {f"{name}__weight": weight_part([1.0], [], []) for name in ("conv1", "conv2", "conv3")}
    changes |= {"fc__weight": weight_part([1.0, 1.0], [0], [value])}
    refuses(tmp_path / "net.lks", tensors_of(model, sizes=sizes, **changes), "a weight is .* of at most")


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("numbers", [0, 1, 9])
def test_scales_that_are_not_finite_are_refused(tmp_path, scale, numbers):
    part = weight_part([scale], [0] * numbers, [1] * numbers)
    refuses(tmp_path / "net.lks", tensors_of(smallest(), conv1__weight=part), r"conv1\.weight")


def test_scale_whose_weights_overflow_is_refused(tmp_path):
    part = weight_part([3e38], [0], [127])
    refuses(tmp_path / "net.lks", tensors_of(smallest(), conv1__weight=part), r"conv1\.weight has 1 values")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("kind", "code"), [(np.float16, 2), (np.float32, 4)])
def test_other_numbers_that_are_not_finite_are_refused(tmp_path, value, kind, code):
    part = bytes([code]) + np.array([value], kind).tobytes()
    refuses(tmp_path / "net.lks", tensors_of(smallest(), batch1__running_var=part), r"batch1\.running_var has 1 values")


@pytest.mark.parametrize("code", [0, 1, 3, 5, 255])
def test_numbers_of_another_length_are_refused(tmp_path, code):
    part = bytes([code]) + bytes(8)
    refuses(tmp_path / "net.lks", tensors_of(smallest(), conv1__bias=part), f"numbers of {code} bytes")


def test_more_places_than_there_are_bytes_are_refused(tmp_path):
    part = np.float32(1).tobytes() + struct.pack("<I", 2**32 - 1)
    refuses(tmp_path / "net.lks", tensors_of(smallest(), fc__weight=part), "is damaged")


# Networks that are not saved


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["conv1.weight", "fc.weight", "conv2.bias", "batch3.running_var", "batch1.weight"])
def test_network_with_numbers_that_are_not_finite_is_refused(tmp_path, key, value):
    model = seeded()
    with torch.no_grad():
        model.state_dict()[key].view(-1)[1] = value
    with pytest.raises(ValueError, match=rf"{key} has 1 values that are NaN or infinite"):
        labkit.save_sparse(model, tmp_path / "net.lks")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.Sequential(nn.Conv2d(1, 1, 3)), None, "CNN"], ids=str)
def test_what_is_no_cnn_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match=f"the model is a {type(model).__name__}; supported is labkit.CNN"):
        labkit.save_sparse(model, tmp_path / "net.lks")
    assert list(tmp_path.iterdir()) == []


def test_cnn_with_an_exchanged_layer_is_refused(tmp_path):
    model = seeded()
    model.conv1 = nn.Conv2d(1, 4, 5, padding=2)
    with pytest.raises(ValueError, match="conv1"):  # its file could not be loaded
        labkit.save_sparse(model, tmp_path / "net.lks")


@pytest.mark.parametrize("bits", [1, 9, 0, -8, 8.0, True, "8", None])
def test_bits_of_another_number_are_refused(tmp_path, bits):
    with pytest.raises(ValueError, match=f"bits is {bits!r}; it must be a whole number from 2 to 8"):
        labkit.save_sparse(seeded(), tmp_path / "net.lks", bits)
    assert list(tmp_path.iterdir()) == []


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = labkit.save_sparse(seeded(), tmp_path / "net.lks")
    before = path.read_bytes()
    broken = seeded(seed=1)
    with torch.no_grad():
        broken.fc.weight[0, 0] = np.nan
    with pytest.raises(ValueError):
        labkit.save_sparse(broken, path)
    assert path.read_bytes() == before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        labkit.save_sparse(seeded(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_replaces_the_old_file(tmp_path):
    path = labkit.save_sparse(seeded(), tmp_path / "net.lks")
    labkit.save_sparse(seeded((1, 2, 3)), path)
    assert labkit.load_sparse(path).channels == (1, 2, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_where_they_can_not_be_it_is_said(tmp_path):
    assert labkit.save_sparse(seeded(), tmp_path / "a" / "b" / "net.lks").is_file()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file cannot be written"):
        labkit.save_sparse(seeded(), tmp_path / "file" / "net.lks")
    with pytest.raises(OSError, match="is a folder; it must be a file"):
        labkit.save_sparse(seeded(), tmp_path)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="closed cannot be written"):
        labkit.save_sparse(seeded(), tmp_path / "closed" / "net.lks")


# The committed files


RECORDED = [row for row in labkit.load_results("smaller_and_faster") if row["network"].endswith("sparse file")]
RECORDED += [row | {"network": "gradual"} for row in labkit.load_results("gradual_cut")]


@pytest.mark.slow
@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['network'].partition(',')[0]}_{row['seed']}")
def test_committed_file_has_the_bytes_and_the_accuracy_that_are_recorded(row):
    path = runtime.reference_dir() / "small" / f"{row['network'].partition(',')[0]}_{row['seed']}.lks"
    assert path.stat().st_size == int(row["bytes"])
    network = labkit.load_sparse(path)
    assert " ".join(map(str, network.channels)) == row["channels"]
    assert sum(layer.multiply_adds for layer in labkit.multiply_adds(network)) == int(row["multiply_adds"])
    score = labkit.accuracy(network, labkit.loaders()[2])
    assert score == pytest.approx(float(row["test_accuracy"]), abs=0.0005)


def test_four_networks_of_three_seeds_are_committed():
    assert len({(row["network"], row["seed"]) for row in RECORDED}) == len(RECORDED) == 12
