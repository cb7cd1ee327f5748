import math

import pytest
import torch

from labkit.data import Loader, load_images
from labkit.runtime import reference_dir
from labkit.smaller.sparse_file import load_sparse
from labkit.study import teacher
from labkit.study.teacher import ShiftedLoader, TaughtAccuracy, ask_teacher, distillation_loss

IMAGES, LABELS = (part[:40] for part in load_images("MNIST", train=True))


@pytest.fixture
def one_teacher(monkeypatch):
    monkeypatch.setattr(teacher, "TEACHERS", "MNIST_dense_124448_e12_s3.lks")
    monkeypatch.setenv("LABKIT_BF16", "0")
    return load_sparse(reference_dir() / "frontier" / "MNIST_dense_124448_e12_s3.lks")


def moved(image, down, right):
    """An image moved by so many pixels, black where nothing was."""
    canvas = torch.zeros(36, 36, dtype=image.dtype)
    canvas[4 + down : 32 + down, 4 + right : 32 + right] = image
    return canvas[4:32, 4:32]


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_every_image_is_shown_once_moved_by_at_most_shift_pixels(shift):
    loader = ShiftedLoader(IMAGES, torch.arange(40), 7, shuffle=True, seed=3, shift=shift)
    seen, places = [], set()
    for X, y in loader:
        assert X.dtype == torch.float32 and X.is_contiguous(memory_format=torch.channels_last)
        for picture, number in zip(X[:, 0], y.tolist(), strict=True):
            steps = range(-shift, shift + 1)
            fits = [(d, r) for d in steps for r in steps if torch.equal(picture, moved(IMAGES[number], d, r) / 255)]
            assert fits
            places |= set(fits)
            seen.append(number)
    assert sorted(seen) == list(range(40)) and seen != list(range(40))
    assert len(places) > shift  # it does move


def test_shifted_passes_depend_on_seed_and_pass_only():
    def batches(seed, passes):
        loader = ShiftedLoader(IMAGES, LABELS, 16, shuffle=True, seed=seed, shift=2)
        for _ in range(passes):
            whole = torch.cat([X for X, _ in loader])
        return whole

    assert torch.equal(batches(1, 2), batches(1, 2))
    assert not torch.equal(batches(1, 1), batches(1, 2))
    assert not torch.equal(batches(1, 1), batches(2, 1))


def test_teacher_speaks_of_the_image_where_it_stands(one_teacher):
    answers = ask_teacher(IMAGES, 1)
    assert answers.shape == (3, 3, 40, 10)
    for X, y in ShiftedLoader(IMAGES, LABELS, 9, shuffle=True, seed=5, shift=1, answers=answers):
        with torch.no_grad():
            torch.testing.assert_close(y[:, 1:], one_teacher(X), rtol=1e-4, atol=1e-3)
        assert set(y[:, 0].tolist()) <= set(range(10))


def test_teacher_is_the_mean_of_the_dense_networks(monkeypatch):
    monkeypatch.setenv("LABKIT_BF16", "0")
    paths = sorted((reference_dir() / "frontier").glob(teacher.TEACHERS))
    assert len(paths) == 10
    X = next(iter(Loader(IMAGES, LABELS, 40)))[0]
    with torch.no_grad():
        mean = torch.stack([load_sparse(path)(X) for path in paths]).mean(dim=0)
    torch.testing.assert_close(ask_teacher(IMAGES, 0)[0, 0], mean, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("one_teacher")
def test_answers_are_kept_for_these_images_and_this_shift(tmp_path, monkeypatch):
    first = ask_teacher(IMAGES, 0, tmp_path)
    asked = []
    monkeypatch.setattr(teacher, "_answers", lambda _images, shift: asked.append(shift) or torch.zeros(1, 1, 1, 10))
    assert torch.equal(ask_teacher(IMAGES, 0, tmp_path), first)
    assert asked == []
    ask_teacher(IMAGES, 1, tmp_path)
    ask_teacher(IMAGES[:30], 0, tmp_path)
    assert asked == [1, 0]


def test_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        ask_teacher(IMAGES, 0, tmp_path / "file")


def test_distillation_loss_by_hand():
    logits, says, weight, T = [2.0, -1.0, 0.5], [1.0, 1.0, -3.0], teacher.TEACHER_WEIGHT, teacher.TEMPERATURE

    def shares(numbers, T):
        parts = [math.exp(number / T) for number in numbers]
        return [part / sum(parts) for part in parts]

    hard = -math.log(shares(logits, 1)[2])
    apart = sum(q * math.log(q / p) for p, q in zip(shares(logits, T), shares(says, T), strict=True))
    loss = distillation_loss(torch.tensor([logits]), torch.tensor([[2.0, *says]]))
    assert loss.item() == pytest.approx((1 - weight) * hard + weight * T**2 * apart, rel=1e-5)
    smoothed = distillation_loss(torch.tensor([logits]), torch.tensor([[2.0, *says]]), label_smoothing=0.3)
    even = -sum(math.log(share) for share in shares(logits, 1)) / 3
    assert (smoothed - loss).item() == pytest.approx((1 - weight) * 0.3 * (even - hard), rel=1e-4)


def test_accuracy_looks_at_the_label_not_at_the_teacher():
    logits, y = torch.eye(3), torch.tensor([[0.0, 0, 9, 0], [2.0, 0, 9, 0], [2.0, 9, 0, 0]])
    assert TaughtAccuracy()(logits, y).item() == pytest.approx(2 / 3)
