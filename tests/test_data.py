import gzip
import hashlib
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

import labkit
from labkit import data, runtime

RAW = runtime.PROJECT / "data" / "MNIST" / "raw"
FILES = sorted(data.CHECKSUMS["MNIST"])
NOWHERE = "file:///nonexistent/"
FASHION = Path("/usr/share/datasets/fashion-mnist")


# The files


@pytest.mark.parametrize("file", FILES)
def test_committed_file_has_the_checksum_of_the_original(file):
    content = gzip.decompress((RAW / f"{file}.gz").read_bytes())
    assert hashlib.sha256(content).hexdigest() == data.CHECKSUMS["MNIST"][file]


@pytest.mark.parametrize("file", FILES)
def test_readme_of_the_data_names_the_checksums_that_are_checked(file):
    assert data.CHECKSUMS["MNIST"][file] in (runtime.PROJECT / "data" / "README.md").read_text(encoding="utf-8")


def test_training_part_has_60000_images_and_the_known_first_labels(digits):
    images, labels = digits
    assert (images.shape, images.dtype) == ((60_000, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((60_000,), torch.int64)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_test_part_has_10000_images_and_the_known_first_labels():
    images, labels = labkit.load_images("MNIST", train=False)
    assert images.shape == (10_000, 28, 28)
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_split_is_55000_5000_10000_and_validation_is_the_last_5000(digits):
    images, labels = digits
    train, validation, test = labkit.loaders()
    assert [len(loader.labels) for loader in (train, validation, test)] == [55_000, 5_000, 10_000]
    assert torch.equal(train.images, images[:55_000])
    assert torch.equal(validation.images, images[55_000:])
    assert torch.equal(validation.labels, labels[55_000:])
    assert torch.equal(test.images, labkit.load_images(train=False)[0])
    assert (train.shuffle, train.augmented) == (True, True)
    assert [(x.shuffle, x.augmented) for x in (validation, test)] == [(False, False)] * 2


def test_quick_mode_takes_a_tenth_and_says_so(monkeypatch, capsys):
    monkeypatch.setenv("LABKIT_QUICK", "1")
    train, validation, test = labkit.loaders()
    assert [len(loader.labels) for loader in (train, validation, test)] == [5_500, 5_000, 10_000]
    assert capsys.readouterr().out.startswith("QUICK MODE: 5,500 training images instead of 55,000")


def test_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="data set is 'CIFAR10'; it must be one of MNIST, FashionMNIST"):
        labkit.loaders("CIFAR10")


# Damaged and missing files; nothing leaves this machine


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with copies of the two test files, and mirrors that cannot be reached."""
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for file in FILES[:2]:
        shutil.copy(RAW / f"{file}.gz", folder)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[:50_000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_a_pixel(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[5_000] ^= 1
    path.write_bytes(gzip.compress(bytes(content), compresslevel=1))


def make_empty(path):
    path.write_bytes(b"")


def make_a_web_page(path):
    path.write_text("<html>404</html>", encoding="utf-8")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, flip_a_pixel, make_empty, make_a_web_page])
def test_damaged_file_is_named_in_one_line_and_left_as_it_was(raw, damage):
    path = raw / "t10k-images-idx3-ubyte.gz"
    damage(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is damaged") as error:
        labkit.load_images(train=False)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert sorted(p.name for p in raw.iterdir()) == [f"{file}.gz" for file in FILES[:2]]


def test_exchanged_training_and_test_files_are_noticed(raw):
    shutil.copy(RAW / "train-labels-idx1-ubyte.gz", raw / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is damaged \(SHA-256 is 65a50cbbf4e9"):
        labkit.load_images(train=False)


def test_missing_file_is_named_in_one_line(raw):
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz is missing") as error:
        labkit.load_images(train=False)
    assert "\n" not in str(error.value)
    assert "data/README.md" in str(error.value)


def test_uncompressed_file_is_read_too(raw):
    for file in FILES[:2]:
        (raw / file).write_bytes(gzip.decompress((raw / f"{file}.gz").read_bytes()))
        (raw / f"{file}.gz").unlink()
    assert labkit.load_images(train=False)[0].shape == (10_000, 28, 28)


class Handler(SimpleHTTPRequestHandler):
    """Serves files; a name under half/ only by half, and under noise/ something that is not HTTP at all."""

    def do_GET(self):
        if self.path.startswith("/noise/"):
            self.wfile.write(b"this is not a status line\r\n\r\n")
        elif self.path.startswith("/half/"):
            content = Path(self.directory, Path(self.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        else:
            super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that a server on this machine offers as a mirror, after one that cannot be reached."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE, f"http://127.0.0.1:{server.server_port}/"])
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_missing_file_is_fetched_from_the_first_good_mirror(raw, mirror):
    path = raw / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    shutil.copy(RAW / path.name, mirror)
    assert labkit.load_images(train=False)[1][:3].tolist() == [7, 2, 1]
    assert path.read_bytes() == (RAW / path.name).read_bytes()


def test_damaged_file_is_replaced_by_a_good_copy_and_kept_aside(raw, mirror):
    path = raw / "t10k-labels-idx1-ubyte.gz"
    shutil.copy(path, mirror)
    flip_a_bit(path)
    damaged = path.read_bytes()
    assert labkit.load_images(train=False)[1][:3].tolist() == [7, 2, 1]
    assert path.read_bytes() == (RAW / path.name).read_bytes()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged


@pytest.mark.parametrize("damage", [truncate, flip_a_pixel])
def test_download_that_is_not_whole_is_never_taken_for_data(raw, mirror, damage):
    path = raw / "t10k-images-idx3-ubyte.gz"
    path.unlink()
    shutil.copy(RAW / path.name, mirror)
    damage(mirror / path.name)
    with pytest.raises(FileNotFoundError, match="no mirror gave a good copy"):
        labkit.load_images(train=False)
    assert not path.exists()


@pytest.mark.parametrize("trouble", ["half", "noise"])
def test_mirror_that_breaks_off_or_talks_nonsense_is_passed_over(raw, mirror, trouble):
    path = raw / "t10k-images-idx3-ubyte.gz"
    path.unlink()
    shutil.copy(RAW / path.name, mirror)
    good = datasets.MNIST.mirrors[1]
    datasets.MNIST.mirrors[:] = [f"{good}{trouble}/"]
    with pytest.raises(FileNotFoundError, match="no mirror gave a good copy"):
        labkit.load_images(train=False)
    assert not path.exists()
    datasets.MNIST.mirrors.append(good)
    assert labkit.load_images(train=False)[0].shape == (10_000, 28, 28)
    assert path.read_bytes() == (RAW / path.name).read_bytes()


@pytest.mark.skipif(not FASHION.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_read_by_the_same_function(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for file in FILES[:2]:
        shutil.copy(FASHION / f"{file}.gz", folder)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [NOWHERE])
    images, labels = labkit.load_images("FashionMNIST", train=False)
    assert images.shape == (10_000, 28, 28)
    assert labels.bincount().tolist() == [1_000] * 10


# Augmentation, against torchvision


def test_augmentation_gives_the_pixels_of_torchvision(digits):
    images = digits[0][:2_000]
    drawn = labkit.draw_augmentation(len(images), 28, torch.Generator().manual_seed(7))
    expected = []
    for image, crop, angle, shift in zip(images, drawn.crop, drawn.angle, drawn.shift, strict=True):
        padded = vision.pad(Image.fromarray(image.numpy()), 4, fill=0)
        window = vision.crop(padded, int(crop[0]), int(crop[1]), 28, 28)
        expected.append(
            np.asarray(
                vision.affine(
                    window, float(angle), shift.tolist(), 1.0, [0.0, 0.0], InterpolationMode.NEAREST, fill=[0]
                )
            )
        )
    found = labkit.augment(images, drawn)
    assert int((found != torch.from_numpy(np.stack(expected))).sum()) == 0


def test_augmentation_without_movement_changes_nothing(digits):
    still = labkit.Augmentation(torch.full((50, 2), 4), torch.zeros(50, dtype=torch.float64), torch.zeros(50, 2).long())
    assert torch.equal(labkit.augment(digits[0][:50], still), digits[0][:50])


def test_augmentation_shifts_right_and_down_and_fills_with_black():
    image = torch.arange(1, 145, dtype=torch.uint8).view(1, 12, 12)
    drawn = labkit.Augmentation(torch.full((1, 2), 4), torch.zeros(1, dtype=torch.float64), torch.tensor([[2, 1]]))
    expected = torch.zeros_like(image)
    expected[:, 1:, 2:] = image[:, :-1, :-2]
    assert torch.equal(labkit.augment(image, drawn), expected)


def test_augmentation_returns_a_copy(digits):
    images = digits[0][:8].clone()
    labkit.augment(images, labkit.draw_augmentation(8, 28, torch.Generator().manual_seed(0))).zero_()
    assert torch.equal(images, digits[0][:8])


def same_distribution(ours: torch.Tensor, theirs: torch.Tensor, classes: int) -> bool:
    """Two-sample chi-square test on class numbers, with a limit six standard deviations away."""
    a, b = (numbers.bincount(minlength=classes).double() for numbers in (ours, theirs))
    seen = a + b > 0
    statistic = ((a - b)[seen] ** 2 / (a + b)[seen]).sum()
    freedom = int(seen.sum()) - 1
    return bool(statistic < freedom + 6 * (2 * freedom) ** 0.5)


@pytest.fixture(scope="module")
def draws():
    """20,000 draws of ours and of torchvision's (crop, angle, shift)."""
    count = 20_000
    ours = labkit.draw_augmentation(count, 28, torch.Generator().manual_seed(1))
    padded = torch.zeros(1, 36, 36)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        crops = [transforms.RandomCrop.get_params(padded, (28, 28))[:2] for _ in range(count)]
        affine = [
            transforms.RandomAffine.get_params([-15.0, 15.0], [0.1, 0.1], None, None, [28, 28]) for _ in range(count)
        ]
    theirs = labkit.Augmentation(
        torch.tensor(crops),
        torch.tensor([angle for angle, *_ in affine], dtype=torch.float64),
        torch.tensor([shift for _, shift, *_ in affine]),
    )
    return ours, theirs


def test_crops_have_the_distribution_of_torchvisions(draws):
    ours, theirs = (drawn.crop[:, 0] * 9 + drawn.crop[:, 1] for drawn in draws)
    assert (int(ours.min()), int(ours.max())) == (int(theirs.min()), int(theirs.max())) == (0, 80)
    assert same_distribution(ours, theirs, 81)


def test_shifts_have_the_distribution_of_torchvisions(draws):
    ours, theirs = ((drawn.shift[:, 0] + 3) * 7 + drawn.shift[:, 1] + 3 for drawn in draws)
    assert (int(ours.min()), int(ours.max())) == (int(theirs.min()), int(theirs.max())) == (0, 48)
    assert same_distribution(ours, theirs, 49)


def test_angles_have_the_distribution_of_torchvisions(draws):
    ours, theirs = (drawn.angle for drawn in draws)
    assert -15 <= float(ours.min()) < -14.9
    assert 14.9 < float(ours.max()) <= 15
    # Kolmogorov and Smirnov's distance; 2.5·sqrt(2/n) is exceeded once in 130,000 times.
    grid = torch.linspace(-15, 15, 1_001, dtype=torch.float64)
    distance = (torch.searchsorted(ours.sort()[0], grid) - torch.searchsorted(theirs.sort()[0], grid)).abs().max()
    assert float(distance) / len(ours) < 2.5 * (2 / len(ours)) ** 0.5


def test_crop_angle_and_shift_are_drawn_independently(draws):
    ours = draws[0]
    columns = torch.column_stack([ours.crop.double(), ours.angle, ours.shift.double()])
    correlations = torch.corrcoef(columns.T) - torch.eye(5, dtype=torch.float64)
    assert float(correlations.abs().max()) < 5 / len(ours.angle) ** 0.5


# The loader


def test_last_batch_is_smaller_and_counted(small):
    loader = small(150, 64)
    assert len(loader) == 3
    assert [len(y) for _, y in loader] == [64, 64, 22]


@pytest.mark.parametrize(("count", "batch_size", "batches"), [(64, 64, 1), (65, 64, 2), (128, 64, 2), (1, 64, 1)])
def test_number_of_batches_is_what_iterating_gives(small, count, batch_size, batches):
    loader = small(count, batch_size)
    assert len(loader) == len(list(loader)) == batches


def test_batch_is_float_in_zero_to_one_channels_last_and_labels_are_int64(small):
    X, y = next(iter(small(64, 64, augmented=True)))
    assert (X.shape, X.dtype) == ((64, 1, 28, 28), torch.float32)
    assert (float(X.min()), float(X.max())) == (0.0, 1.0)
    assert X.is_contiguous(memory_format=torch.channels_last)
    assert X.stride()[1] == 1
    assert (y.shape, y.dtype) == ((64,), torch.int64)


def test_without_shuffling_images_come_in_order_and_unchanged(small, digits):
    X = torch.cat([X for X, _ in small(150)])
    assert torch.equal((X[:, 0] * 255).round().to(torch.uint8), digits[0][:150])


def test_shuffled_pass_gives_every_image_once_with_its_label():
    images = torch.arange(200, dtype=torch.uint8).view(200, 1, 1).expand(200, 12, 12)
    loader = labkit.Loader(images, torch.arange(200), 64, shuffle=True, seed=3)
    X, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert sorted(y.tolist()) == list(range(200))
    assert y.tolist() != list(range(200))
    assert torch.equal((X[:, 0, 0, 0] * 255).round().long(), y)


def passes(loader, count=1):
    """All images and labels of some passes, each pass as one tensor pair."""
    return [tuple(torch.cat(parts) for parts in zip(*loader, strict=True)) for _ in range(count)]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_same_seed_gives_the_same_passes_bit_for_bit(small):
    one, other = (passes(small(shuffle=True, augmented=True, seed=5), 2) for _ in range(2))
    assert equal(one[0], other[0])
    assert equal(one[1], other[1])


def test_epochs_differ(small):
    first, second = passes(small(shuffle=True, augmented=True), 2)
    assert not torch.equal(first[1], second[1])


def test_augmentation_differs_between_epochs_without_shuffling(small):
    first, second = passes(small(augmented=True), 2)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


def test_another_seed_gives_another_order(small):
    assert not torch.equal(*(passes(small(shuffle=True, seed=seed))[0][1] for seed in (0, 1)))


def test_next_epoch_of_a_seed_is_not_the_first_of_the_next_seed(small):
    second = passes(small(shuffle=True, seed=0), 2)[1]
    assert not torch.equal(second[1], passes(small(shuffle=True, seed=1))[0][1])


def test_a_look_at_one_batch_does_not_change_the_next_pass(small):
    looked, untouched = (small(shuffle=True, augmented=True) for _ in range(2))
    next(iter(looked))
    assert equal(passes(looked)[0], passes(untouched)[0])


def test_an_abandoned_pass_does_not_change_the_next_one(small):
    looked, untouched = (small(shuffle=True, augmented=True) for _ in range(2))
    passes(looked), passes(untouched)
    for number, _ in enumerate(looked):
        if number == 2:
            break
    assert equal(passes(looked)[0], passes(untouched)[0])


def test_torchs_global_generator_neither_matters_nor_moves(small):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = passes(small(shuffle=True, augmented=True))[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert equal(one, passes(small(shuffle=True, augmented=True))[0])


def test_first_images_come_in_order_and_unchanged(small, digits):
    first = small(256, 32, shuffle=True, augmented=True).first(40)
    ((X, y),) = passes(first)
    assert len(first) == 2
    assert torch.equal((X[:, 0] * 255).round().to(torch.uint8), digits[0][:40])
    assert torch.equal(y, digits[1][:40])


@pytest.mark.parametrize("count", [0, -1, 257, 3.0, True])
def test_first_refuses_other_counts(small, count):
    with pytest.raises(ValueError, match=f"count is {count}; it must be a whole number from 1 to 256"):
        small(256).first(count)


@pytest.mark.parametrize("size", [0, -1, 2.5, None, True])
def test_wrong_batch_sizes_are_refused(small, size):
    with pytest.raises(ValueError, match=f"batch_size is {size}; it must be a whole number >= 1"):
        small(16, size)


@pytest.mark.parametrize("seed", [-1, 0.5, None, "1"])
def test_wrong_seeds_are_refused(small, seed):
    with pytest.raises(ValueError, match=f"seed is {seed!r}; it must be a whole number >= 0"):
        small(16, seed=seed)


@pytest.mark.parametrize(
    "images", [torch.zeros(4, 28, 28), torch.zeros(4, 1, 28, 28).byte(), torch.zeros(4, 28, 27).byte()]
)
def test_wrong_images_are_refused_with_their_shape(images):
    with pytest.raises(ValueError, match=r"they must be uint8 \(N, side, side\)") as error:
        labkit.Loader(images, torch.zeros(4).long())
    assert str(tuple(images.shape)) in str(error.value)


def test_wrong_number_of_labels_is_refused():
    with pytest.raises(ValueError, match=r"labels are \(3,\) for 4 images"):
        labkit.Loader(torch.zeros(4, 28, 28).byte(), torch.zeros(3).long())
