import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.optim.lr_scheduler import LinearLR
from tqdm import tqdm

import labkit
from labkit import training

CPU = torch.device("cpu")
METRIC = labkit.AccuracyMetric()


@pytest.fixture(autouse=True)
def _float32(monkeypatch):
    """The same numbers on any CPU; one test below switches bfloat16 on."""
    monkeypatch.setenv("LABKIT_BF16", "0")


def sgd(model, lr=0.1, **options):
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


def same(one, other):
    """Whether two networks are equal bit for bit."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def run(model, loader, optimizer, epochs=4, mode="both", test=None, **options):
    """test_or_train with what most tests use."""
    return training.test_or_train(
        model, loader, test or loader.first(32), F.cross_entropy, METRIC, optimizer, 1, epochs, CPU, mode, **options
    )


class Breaking:
    """A loss function that raises at its n-th call."""

    def __init__(self, at, error=KeyboardInterrupt):
        self.at, self.error, self.calls = at, error, 0
        self.__qualname__ = F.cross_entropy.__qualname__  # what it computes, and so what a resumed run compares

    def __call__(self, y_pred, y):
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stop")
        return F.cross_entropy(y_pred, y)


# One test epoch


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200, 1_000])
def test_batch_size_does_not_change_the_result_of_a_test(small, batch_size):
    model = labkit.load_network("CNN_MNIST")
    loss, accuracy = training.test_one_epoch(model, small(200, 64), F.cross_entropy, METRIC, CPU)
    again = training.test_one_epoch(model, small(200, batch_size), F.cross_entropy, METRIC, CPU)
    assert again[0] == pytest.approx(loss, abs=1e-6)
    assert again[1] == accuracy


def test_test_of_a_toy_network_is_what_one_computes_by_hand(layer):
    model = nn.Sequential(nn.Flatten(), layer([1.0], [0.0]))
    batches = [(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])), (torch.tensor([[-1.0]]), torch.tensor([1]))]
    loss, accuracy = training.test_one_epoch(model, batches, lambda p, _: p[:, 0].mean(), METRIC, CPU)
    assert loss == pytest.approx((0 + 2 - 1) / 3)
    assert accuracy == pytest.approx(2 / 3)  # a tie counts as class 0


def test_test_changes_nothing(tiny, small):
    model = tiny()
    before = labkit.clone(model)
    training.test_one_epoch(model, small(), F.cross_entropy, METRIC, CPU)
    assert same(model, before)
    assert all(p.grad is None for p in model.parameters())


def test_accuracy_of_a_network_is_that_of_a_test(tiny, small):
    model = tiny()
    assert labkit.accuracy(model, small()) == training.test_one_epoch(model, small(), F.cross_entropy, METRIC, CPU)[1]


# One training epoch


@pytest.mark.parametrize(("period", "batch_size"), [(2, 32), (4, 16), (64, 1)])
def test_k_batches_of_b_are_one_batch_of_kb(small, period, batch_size):
    weights = []
    for every, size in ((1, 64), (period, batch_size)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        training.train_one_epoch(model, small(256, size), F.cross_entropy, METRIC, sgd(model, momentum=0.9), every, CPU)
        weights.append(model[1].weight.detach())
    assert torch.allclose(*weights, rtol=0, atol=1e-6)
    assert not torch.allclose(weights[0], nn.Linear(784, 10).weight, atol=1e-3)


def test_last_smaller_group_counts_its_own_samples(layer):
    # The model is its weight w times x; the loss is its mean output, whose gradient is the mean of x.
    model = layer([0.0])
    batches = [(torch.tensor([[x]]), torch.tensor([0])) for x in (1.0, 3.0, 10.0)]
    training.train_one_epoch(model, batches, lambda p, _: p.mean(), METRIC, sgd(model, lr=1.0), 2, CPU)
    assert model.weight.item() == -(1 + 3) / 2 - 10


def test_batches_of_different_size_in_one_group_count_by_their_samples(layer):
    model = layer([0.0])
    batches = [(torch.tensor([[1.0], [2.0], [3.0]]), torch.zeros(3).long()), (torch.tensor([[10.0]]), torch.zeros(1))]
    training.train_one_epoch(model, batches, lambda p, _: p.mean(), METRIC, sgd(model, lr=1.0), 2, CPU)
    assert model.weight.item() == -(1 + 2 + 3 + 10) / 4


@pytest.mark.parametrize("period", [1, 3, 100])
def test_no_gradient_is_left_after_an_epoch(tiny, small, period):
    model = tiny()
    training.train_one_epoch(model, small(), F.cross_entropy, METRIC, sgd(model), period, CPU)
    assert all(p.grad is None for p in model.parameters())


def test_a_gradient_from_before_does_not_enter_the_epoch(tiny, small):
    clean, dirty = tiny(), tiny()
    F.cross_entropy(dirty.eval()(torch.rand(8, 1, 28, 28)), torch.arange(8)).backward()
    for model in (clean, dirty):
        training.train_one_epoch(model, small(), F.cross_entropy, METRIC, sgd(model), 1, CPU)
    assert same(clean, dirty)


def test_training_returns_means_over_the_samples_as_they_were_seen(tiny, small):
    model, other = tiny(), tiny()
    loader = small(150, 64)
    found = training.train_one_epoch(model, loader, F.cross_entropy, METRIC, sgd(model), 1, CPU)
    optimizer, loss_sum, hits = sgd(other), 0.0, 0
    for X, y in loader:
        y_pred = other(X)
        loss = F.cross_entropy(y_pred, y)
        optimizer.zero_grad()
        (loss * len(y)).backward()
        for parameter in other.parameters():
            parameter.grad /= len(y)
        optimizer.step()
        loss_sum += loss.item() * len(y)
        hits += int((y_pred.argmax(dim=1) == y).sum())
    assert found == pytest.approx((loss_sum / 150, hits / 150), abs=1e-12)
    assert same(model, other)


def test_training_learns_the_digits(small):
    labkit.set_seed(0)
    model = labkit.CNN(channels=(8, 8, 8))
    _, history = run(model, small(512, 32, shuffle=True), sgd(model, momentum=0.9), 3, mode="train")
    assert history["acc_train"][0] < 0.8 < history["acc_train"][-1]


def test_scheduler_steps_once_an_optimizer_step(tiny, small):
    model = tiny()
    optimizer = sgd(model)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=2)
    training.train_one_epoch(model, small(), F.cross_entropy, METRIC, optimizer, 2, CPU, scheduler)
    assert scheduler.last_epoch == 2
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_zeros_stay_zero_and_weights_are_fresh_after_training_with_masks(tiny, small):
    model = tiny()
    prune.l1_unstructured(model.conv2, "weight", 0.5)
    training.train_one_epoch(model, small(), F.cross_entropy, METRIC, sgd(model, momentum=0.9), 1, CPU)
    assert torch.equal(model.conv2.weight, model.conv2.weight_orig * model.conv2.weight_mask)
    assert labkit.sparsity(model, ["conv2"]) == 0.5


def test_bfloat16_training_step_keeps_float32_weights_and_about_the_loss(tiny, small, monkeypatch):
    plain, mixed = tiny(), tiny()
    loss, _ = training.train_one_epoch(plain, small(32), F.cross_entropy, METRIC, sgd(plain), 1, CPU)
    monkeypatch.delenv("LABKIT_BF16")
    again, _ = training.train_one_epoch(mixed, small(32), F.cross_entropy, METRIC, sgd(mixed), 1, CPU)
    assert {p.dtype for p in mixed.parameters()} == {torch.float32}
    assert again == pytest.approx(loss, abs=0.02)
    assert (again == loss) == (not labkit.has_native_bfloat16(CPU))


def test_optimizer_of_another_network_is_refused(tiny, small):
    with pytest.raises(ValueError, match="holds none of this model's parameters"):
        training.train_one_epoch(tiny(), small(), F.cross_entropy, METRIC, sgd(tiny()), 1, CPU)


@pytest.mark.parametrize("period", [0, -1, 1.0, None])
def test_wrong_update_periods_are_refused(tiny, small, period):
    model = tiny()
    with pytest.raises(ValueError, match=f"update_period is {period}; it must be a whole number >= 1"):
        training.train_one_epoch(model, small(), F.cross_entropy, METRIC, sgd(model), period, CPU)


def test_empty_loader_is_refused(tiny, digits):
    model, empty = tiny(), labkit.Loader(digits[0][:0], digits[1][:0])
    with pytest.raises(ValueError, match="the loader has 0 batches"):
        training.train_one_epoch(model, empty, F.cross_entropy, METRIC, sgd(model), 1, CPU)
    with pytest.raises(ValueError, match="the loader has 0 batches"):
        training.test_one_epoch(model, empty, F.cross_entropy, METRIC, CPU)
    with pytest.raises(ValueError, match="the loader has 0 batches"):
        labkit.reestimate_batchnorm(model, empty, CPU)


def test_loss_that_is_not_a_number_stops_training_with_the_batch_number(tiny, small):
    model = tiny()
    optimizer = sgd(model, lr=1e30)
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) in batch \d+; lower the learning rate"):
        training.train_one_epoch(model, small(), F.cross_entropy, METRIC, optimizer, 1, CPU)


def test_network_is_as_after_the_last_good_epoch_when_the_loss_is_not_a_number(tiny, small):
    model, good = tiny(), tiny()
    loader = small()
    run(good, small(), sgd(good), 1)

    def loss_fn(y_pred, y):
        return F.cross_entropy(y_pred, y) * (torch.nan if loader.epoch == 1 and y_pred.requires_grad else 1)

    with pytest.raises(FloatingPointError):
        training.test_or_train(model, loader, loader.first(32), loss_fn, METRIC, sgd(model), 1, 3, CPU, "both")
    assert same(model, good)


# Modes of the layers


def mixed_modes(model):
    """A frozen BatchNorm in a network that trains: a mode that train() alone would lose."""
    model.train()
    model.batch2.eval()
    return [layer.training for layer in model.modules()]


def test_every_layer_is_back_in_its_own_mode_after_training_and_testing(tiny, small):
    model = tiny()
    before = mixed_modes(model)
    training.train_one_epoch(model, small(), F.cross_entropy, METRIC, sgd(model), 1, CPU)
    assert [layer.training for layer in model.modules()] == before
    training.test_one_epoch(model, small(), F.cross_entropy, METRIC, CPU)
    assert [layer.training for layer in model.modules()] == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_every_layer_is_back_in_its_own_mode_after_an_error(tiny, small, error):
    model = tiny()
    before = mixed_modes(model)
    with pytest.raises(error):
        training.train_one_epoch(model, small(), Breaking(2, error), METRIC, sgd(model), 1, CPU)
    with pytest.raises(error):
        training.test_one_epoch(model, small(), Breaking(2, error), METRIC, CPU)
    assert [layer.training for layer in model.modules()] == before


def test_training_uses_train_mode_and_testing_eval_mode(tiny, small):
    model, seen = tiny().eval(), []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.batch1.training))
    training.train_one_epoch(model, small(32), F.cross_entropy, METRIC, sgd(model), 1, CPU)
    training.test_one_epoch(model.train(), small(32), F.cross_entropy, METRIC, CPU)
    assert seen == [True, False]


# Bars


def test_bars_are_off_when_the_environment_says_so(tiny, small, capfd):
    model = tiny()
    run(model, small(), sgd(model), 1)
    assert capfd.readouterr() == ("", "")


def test_bars_go_to_stderr_only_and_are_closed(tiny, small, capfd, monkeypatch):
    monkeypatch.delenv("LABKIT_BARS")
    model = tiny()
    run(model, small(), sgd(model), 1)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch" in err
    assert "training" in err
    assert "evaluating" in err
    assert err.endswith("\r")
    assert not tqdm._instances


def test_bar_is_closed_after_an_interrupt(tiny, small, capfd, monkeypatch):
    monkeypatch.delenv("LABKIT_BARS")
    model = tiny()
    with pytest.raises(KeyboardInterrupt):
        training.train_one_epoch(model, small(), Breaking(3), METRIC, sgd(model), 1, CPU)
    assert capfd.readouterr().err.endswith("\r")
    assert not tqdm._instances


# Several epochs


@pytest.mark.parametrize(("mode", "trained", "tested"), [("train", 2, 0), ("test", 0, 2), ("both", 2, 2)])
def test_history_has_one_number_an_epoch_for_what_the_mode_does(tiny, small, mode, trained, tested):
    model = tiny()
    returned, history = run(model, small(), sgd(model), 2, mode)
    assert returned is model
    assert {key: len(values) for key, values in history.items()} == {
        "loss_train": trained, "acc_train": trained, "loss_test": tested, "acc_test": tested,
    }  # fmt: skip
    assert all(type(value) is float for values in history.values() for value in values)


def test_mode_both_is_a_training_and_a_test_each_epoch(tiny, small):
    model, other = tiny(), tiny()
    _, history = run(model, small(shuffle=True), sgd(model), 2, test=small(128))
    loader, optimizer = small(shuffle=True), sgd(other)
    for epoch in range(2):
        trained = training.train_one_epoch(other, loader, F.cross_entropy, METRIC, optimizer, 1, CPU)
        tested = training.test_one_epoch(other, small(128), F.cross_entropy, METRIC, CPU)
        assert (history["loss_train"][epoch], history["acc_train"][epoch]) == trained
        assert (history["loss_test"][epoch], history["acc_test"][epoch]) == tested
    assert same(model, other)


def test_mode_test_needs_neither_training_images_nor_optimizer(tiny, small):
    _, history = training.test_or_train(
        tiny(), None, small(), F.cross_entropy, METRIC, None, 1, 1, CPU, "test"
    )  # fmt: skip
    assert len(history["loss_test"]) == 1


@pytest.mark.parametrize("mode", ["train", "both"])
def test_early_stopping_looks_at_the_training_accuracy(tiny, small, mode, capsys):
    model, other = tiny(), tiny()
    _, full = run(other, small(), sgd(other), 4, mode)
    target = full["acc_train"][1]
    assert target > full["acc_train"][0]
    _, history = run(model, small(), sgd(model), 4, mode, early_stopping_accuracy=target)
    assert history["acc_train"] == full["acc_train"][:2]
    assert len(history["acc_test"]) == (2 if mode == "both" else 0)
    assert capsys.readouterr().out == f"stopped after epoch 2/4: accuracy ≈{target:.3f} has reached {target}\n"


def test_early_stopping_looks_at_the_test_accuracy_in_mode_test(tiny, small):
    model, epochs = tiny(), []
    accuracy = labkit.accuracy(model, small())
    assert 0 < accuracy < 1
    for target in (accuracy, accuracy + 1e-6):
        _, history = run(model, None, None, 3, "test", test=small(), early_stopping_accuracy=target)
        epochs.append(len(history["acc_test"]))
    assert epochs == [1, 3]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"mode": "trian"}, "mode is 'trian'; it must be 'train', 'test' or 'both'"),  # codespell:ignore
        ({"epoch_max": 0}, "epoch_max is 0; it must be a whole number >= 1"),
        ({"epoch_max": 1.5}, "epoch_max is 1.5; it must be a whole number >= 1"),
        ({"update_period": 0}, "update_period is 0; it must be a whole number >= 1"),
        ({"early_stopping_accuracy": 98}, r"early_stopping_accuracy is 98; it must be in \[0, 1\]"),
        ({"optimizer": None}, "mode 'both' needs train_loader, optimizer and test_loader"),
        ({"train_loader": None}, "mode 'both' needs train_loader, optimizer and test_loader"),
        ({"test_loader": None, "mode": "test"}, "mode 'test' needs test_loader"),
        ({"test_loader": None}, "mode 'both' needs train_loader, optimizer and test_loader"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_with_value_and_rule_and_change_nothing(tiny, small, wrong, words):
    model = tiny()
    arguments = {
        "model": model, "train_loader": small(), "test_loader": small(), "loss_fn": F.cross_entropy, "metric": METRIC,
        "optimizer": sgd(model), "update_period": 1, "epoch_max": 1, "device": CPU, "mode": "both",
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        training.test_or_train(**(arguments | wrong))
    assert same(model, tiny())


def test_scheduler_that_falls_to_zero_has_done_so_at_the_end(tiny, small):
    model = tiny()
    loader, optimizer = small(), sgd(model)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=3 * len(loader))
    run(model, loader, optimizer, 3, scheduler=scheduler)
    assert optimizer.param_groups[0]["lr"] == 0.0


# Interrupted runs


def parts(make_model, loader, decays):
    """A network, its optimizer with momentum and (if asked) a scheduler, as a cell makes them."""
    model = make_model()
    optimizer = sgd(model, momentum=0.9)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=4 * len(loader)) if decays else None
    return model, optimizer, scheduler


def interrupted(model, loader, optimizer, scheduler, file, at, error=KeyboardInterrupt, epochs=4):
    """A run that breaks at a call of its loss; an epoch has four training batches and one test batch."""
    with pytest.raises(error):
        training.test_or_train(
            model, loader, loader.first(32), Breaking(at, error), METRIC, optimizer, 1, epochs, CPU, "both",
            scheduler=scheduler, checkpoint=file,
        )  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tiny, small):
    """Network and history of four epochs, with a constant and with a decaying learning rate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_BF16", "0")
        patch.setenv("LABKIT_BARS", "0")
        found = {}
        for decays in (False, True):
            loader = small(shuffle=True, augmented=True)
            model, optimizer, scheduler = parts(tiny, loader, decays)
            found[decays] = run(model, loader, optimizer, scheduler=scheduler)
        return found


@pytest.mark.parametrize("decays", [False, True], ids=["constant", "decaying"])
@pytest.mark.parametrize("rebuilt", [False, True], ids=["same objects", "rebuilt"])
@pytest.mark.parametrize("at", [5, 6, 12, 20])
def test_interrupted_run_called_again_ends_bit_for_bit_as_the_uninterrupted_one(
    tiny, small, tmp_path, capsys, uninterrupted, decays, rebuilt, at
):
    file = tmp_path / "run.pth"
    whole, full = uninterrupted[decays]
    loader = small(shuffle=True, augmented=True)
    model, optimizer, scheduler = parts(tiny, loader, decays)
    interrupted(model, loader, optimizer, scheduler, file, at)
    finished = (at - 1) // 5
    said = capsys.readouterr().out
    assert said == f"interrupted; the network is as it was after epoch {finished} of 4: run the cell again to go on\n"
    assert file.exists() == (finished > 0)
    if rebuilt:
        loader = small(shuffle=True, augmented=True)
        model, optimizer, scheduler = parts(tiny, loader, decays)
    _, history = run(model, loader, optimizer, scheduler=scheduler, checkpoint=file)
    said = capsys.readouterr().out
    assert said == (f"going on after epoch {finished}, from run.pth\n" if finished else "")
    assert same(model, whole)
    assert history == full
    assert not file.exists()


def test_run_interrupted_twice_ends_as_the_uninterrupted_one(tiny, small, tmp_path):
    file = tmp_path / "run.pth"
    whole, optimizer, _ = parts(tiny, small(), False)
    _, full = run(whole, small(shuffle=True), optimizer)
    loader = small(shuffle=True)
    model, optimizer, _ = parts(tiny, loader, False)
    interrupted(model, loader, optimizer, None, file, at=7)
    interrupted(model, loader, optimizer, None, file, at=7)
    _, history = run(model, loader, optimizer, checkpoint=file)
    assert same(model, whole)
    assert history == full


def test_run_of_a_pruned_network_goes_on_with_its_masks(tiny, small, tmp_path):
    file = tmp_path / "run.pth"

    def pruned():
        model = tiny()
        prune.l1_unstructured(model.conv2, "weight", 0.5)
        return model

    whole, optimizer, _ = parts(pruned, small(), False)
    run(whole, small(), optimizer)
    model, optimizer, _ = parts(pruned, small(), False)
    interrupted(model, small(), optimizer, None, file, at=12)
    model, optimizer, _ = parts(pruned, small(), False)
    run(model, small(), optimizer, checkpoint=file)
    assert same(model, whole)
    assert labkit.sparsity(model, ["conv2"]) == 0.5


def test_order_of_a_torch_dataloader_goes_on_too(tiny, small, tmp_path):
    file = tmp_path / "run.pth"
    X, y = next(iter(small(128, 128)))

    def make_loader():
        torch.manual_seed(4)
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), 32, shuffle=True)

    whole, optimizer, _ = parts(tiny, small(), False)
    _, full = run(whole, make_loader(), optimizer, test=small(32))
    model, optimizer, _ = parts(tiny, small(), False)
    loader = make_loader()
    with pytest.raises(KeyboardInterrupt):
        training.test_or_train(
            model, loader, small(32), Breaking(12), METRIC, optimizer, 1, 4, CPU, "both", checkpoint=file
        )
    model, optimizer, _ = parts(tiny, small(), False)
    _, history = run(model, make_loader(), optimizer, test=small(32), checkpoint=file)
    assert history == full
    assert same(model, whole)


def test_without_checkpoint_an_interrupt_leaves_the_network_as_after_the_last_finished_epoch(tiny, small, capsys):
    two, optimizer, _ = parts(tiny, small(), False)
    run(two, small(shuffle=True), optimizer, 2)
    loader = small(shuffle=True)
    model, optimizer, _ = parts(tiny, loader, False)
    interrupted(model, loader, optimizer, None, None, at=13)
    assert same(model, two)
    assert loader.epoch == 2
    assert "after epoch 2 of 4: give a checkpoint=... file to be able to go on" in capsys.readouterr().out


def test_interrupt_in_the_first_epoch_leaves_everything_as_it_was(tiny, small):
    loader = small(shuffle=True)
    model, optimizer, _ = parts(tiny, loader, False)
    interrupted(model, loader, optimizer, None, None, at=3)
    assert same(model, tiny())
    assert loader.epoch == 0
    assert not optimizer.state_dict()["state"]


def test_any_other_error_also_leaves_the_network_as_after_the_last_finished_epoch(tiny, small, capsys):
    one, optimizer, _ = parts(tiny, small(), False)
    run(one, small(), optimizer, 1)
    model, optimizer, _ = parts(tiny, small(), False)
    interrupted(model, small(), optimizer, None, None, at=8, error=RuntimeError)
    assert same(model, one)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 3},
        {"mode": "train"},
        {"lr": 0.05},
        {"momentum": 0.5},
        {"seed": 1},
        {"loader_seed": 1},
        {"batch_size": 64},
        {"augmented": True},
        {"channels": (4, 6, 7)},
        {"early_stopping_accuracy": 0.99},
    ],
    ids=str,
)
def test_checkpoint_of_another_run_starts_afresh(tiny, small, tmp_path, capsys, other):
    file = tmp_path / "run.pth"
    model, optimizer, _ = parts(tiny, small(), False)
    interrupted(model, small(), optimizer, None, file, at=7, epochs=2)
    capsys.readouterr()

    def start():
        model = tiny(other.get("seed", 0), other.get("channels", (4, 6, 8)))
        optimizer = sgd(model, other.get("lr", 0.1), momentum=other.get("momentum", 0.9))
        loader = small(128, other.get("batch_size", 32), augmented=other.get("augmented", False),
                       seed=other.get("loader_seed", 0))  # fmt: skip
        return model, loader, optimizer, other.get("epochs", 2), other.get("mode", "both")

    options = {"early_stopping_accuracy": other.get("early_stopping_accuracy")}
    model, loader, *rest = start()
    _, history = run(model, loader, *rest, **options, checkpoint=file)
    assert (
        capsys.readouterr().out == "run.pth is of a run with other weights or settings: starting from the beginning\n"
    )
    fresh, loader, *rest = start()
    _, expected = run(fresh, loader, *rest, **options)
    assert same(model, fresh)
    assert history == expected
    assert not file.exists()


def write_garbage(path):
    path.write_bytes(b"garbage" * 100)


def write_nothing(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("epoch 2\n", encoding="utf-8")


def write_a_tensor(path):
    torch.save(torch.zeros(3), path)


def write_a_list(path):
    torch.save([1, 2], path)


def write_another_dict(path):
    torch.save({"epoch": 2}, path)


def write_a_python_object(path):
    torch.save(Breaking, path)


def write_half_a_file(path):
    torch.save({"epoch": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])


@pytest.mark.parametrize(
    "write",
    [
        write_garbage,
        write_nothing,
        write_text,
        write_a_tensor,
        write_a_list,
        write_another_dict,
        write_a_python_object,
        write_half_a_file,
    ],
)
def test_file_that_is_no_unfinished_run_is_refused_and_kept(tiny, small, tmp_path, write):
    file = tmp_path / "run.pth"
    write(file)
    before, model, untouched = file.read_bytes(), tiny(), tiny()
    with pytest.raises(ValueError, match=r"run\.pth, which is no unfinished run"):
        run(model, small(), sgd(model), 1, checkpoint=file)
    assert file.read_bytes() == before
    assert same(model, untouched)


def test_finished_network_is_never_taken_for_an_unfinished_run(tiny, small):
    file = labkit.save_network(labkit.CNN(channels=(4, 6, 8)), "CNN_MNIST")
    before, model = file.read_bytes(), tiny()
    with pytest.raises(ValueError, match="no unfinished run"):
        run(model, small(), sgd(model), 1, checkpoint=file)
    assert file.read_bytes() == before


def test_folder_as_a_checkpoint_is_refused_before_training(tiny, small, tmp_path):
    model, untouched = tiny(), tiny()
    with pytest.raises(OSError, match="is a folder"):
        run(model, small(), sgd(model), 1, checkpoint=tmp_path)
    assert same(model, untouched)


def test_device_that_is_not_there_is_named(tiny, small):
    model, loader, missing = tiny(), small(), torch.device("cuda:99")
    with pytest.raises(ValueError, match="cuda:99"):
        training.test_one_epoch(model, loader, F.cross_entropy, METRIC, missing)
    with pytest.raises(ValueError, match="cuda:99"):
        training.train_one_epoch(model, loader, F.cross_entropy, METRIC, sgd(model), 1, missing)


def test_evaluating_nan_weights_raises(tiny, small):
    model = tiny()
    with torch.no_grad():
        model.fc.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        training.test_one_epoch(model, small(), F.cross_entropy, METRIC, CPU)


def test_reestimation_that_breaks_leaves_the_statistics_as_they_were(tiny, small):
    model, before = tiny(), tiny()

    def breaking():
        yield next(iter(small()))
        raise KeyboardInterrupt

    class Batches:
        def __len__(self):
            return 2

        def __iter__(self):
            return breaking()

    with pytest.raises(KeyboardInterrupt):
        labkit.reestimate_batchnorm(model, Batches(), CPU)
    assert same(model, before)


def test_checkpoint_is_removed_at_the_end_and_after_early_stopping(tiny, small, tmp_path):
    file = tmp_path / "run.pth"
    model = tiny()
    run(model, small(), sgd(model), 2, checkpoint=file)
    assert list(tmp_path.iterdir()) == []
    run(model, small(), sgd(model), 3, early_stopping_accuracy=0.0, checkpoint=file)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, torch, torch.nn.functional as F
import labkit
from labkit import training

labkit.set_seed(0)
model = labkit.CNN(channels=(4, 6, 8))
images, labels = labkit.load_images(train=False)
loader = labkit.Loader(images[:256], labels[:256], shuffle=True, augmented=True)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
_, history = training.test_or_train(
    model, loader, loader.first(32), F.cross_entropy, labkit.AccuracyMetric(), optimizer, 1, 2_000,
    torch.device("cpu"), "both", checkpoint=sys.argv[1],
)
"""


@pytest.mark.slow
def test_run_of_a_killed_process_goes_on_as_if_it_had_never_stopped(tmp_path, capsys):
    file = tmp_path / "run.pth"
    process = subprocess.Popen([sys.executable, "-c", KILLED, file], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == (-signal.SIGKILL if os.name == "posix" else 1)
    finished = torch.load(file, weights_only=True)["epoch"]
    assert 1 <= finished < 1_990

    images, labels = labkit.load_images(train=False)
    results = []
    # 2,000 epochs would take too long: the file is asked to be that of a run which stops four epochs later.
    found = torch.load(file, weights_only=True)
    found["settings"] = found["settings"].replace('["both", 2000,', f'["both", {finished + 4},')
    torch.save(found, file)
    for checkpoint in (file, None):
        labkit.set_seed(0)
        model = labkit.CNN(channels=(4, 6, 8))
        loader = labkit.Loader(images[:256], labels[:256], shuffle=True, augmented=True)
        optimizer = sgd(model, momentum=0.9)
        _, history = run(model, loader, optimizer, finished + 4, checkpoint=checkpoint)
        results.append((model, history))
    assert f"going on after epoch {finished}, from run.pth" in capsys.readouterr().out
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


# BatchNorm


def test_reestimated_statistics_are_the_averages_over_all_batches(small):
    norm = nn.BatchNorm2d(1)
    loader = small(256, 64)
    labkit.reestimate_batchnorm(norm, loader, CPU)
    batches = [X for X, _ in loader]
    assert norm.running_mean.item() == pytest.approx(float(torch.stack([X.mean() for X in batches]).mean()), rel=1e-5)
    assert norm.running_var.item() == pytest.approx(float(torch.stack([X.var() for X in batches]).mean()), rel=1e-5)
    assert int(norm.num_batches_tracked) == 4


def test_reestimated_mean_is_that_of_all_images_for_batches_of_equal_size(small):
    norm = nn.BatchNorm2d(1)
    labkit.reestimate_batchnorm(norm, small(256, 64), CPU)
    X, _ = next(iter(small(256, 256)))
    assert norm.running_mean.item() == pytest.approx(X.mean().item(), rel=1e-5)


def test_reestimating_with_one_batch_gives_its_mean_and_variance(small):
    norm = nn.BatchNorm2d(1)
    labkit.reestimate_batchnorm(norm, small(256, 256), CPU)
    X, _ = next(iter(small(256, 256)))
    assert norm.running_mean.item() == pytest.approx(X.mean().item(), rel=1e-5)
    assert norm.running_var.item() == pytest.approx(X.var().item(), rel=1e-5)


def test_reestimating_forgets_what_was_measured_before(tiny, small):
    clean, dirty = tiny(), tiny()
    dirty.batch2.running_mean += 100
    for model in (clean, dirty):
        labkit.reestimate_batchnorm(model, small(), CPU)
    assert same(clean, dirty)


def test_reestimating_changes_no_weight_and_restores_momentum_and_modes(tiny, small):
    model = tiny()
    model.batch1.momentum = 0.3
    prune.l1_unstructured(model.conv2, "weight", 0.5)
    modes = mixed_modes(model)
    before = labkit.clone(model)
    labkit.reestimate_batchnorm(model, small(), CPU)
    for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(new, old), name
    assert not torch.equal(model.batch1.running_mean, before.batch1.running_mean)
    assert [layer.momentum for layer in (model.batch1, model.batch2, model.batch3)] == [0.3, 0.1, 0.1]
    assert [layer.training for layer in model.modules()] == modes


def test_reestimating_restores_momentum_and_modes_after_an_error(tiny):
    model = tiny()
    modes = mixed_modes(model)
    with pytest.raises(ValueError, match="images have shape"):
        labkit.reestimate_batchnorm(model, [(torch.zeros(4, 3, 28, 28), torch.zeros(4))], CPU)
    assert [layer.momentum for layer in (model.batch1, model.batch2, model.batch3)] == [0.1, 0.1, 0.1]
    assert [layer.training for layer in model.modules()] == modes


# Short calls


def test_short_train_is_test_or_train_with_cross_entropy_and_accuracy(tiny, small, tmp_path):
    whole, short = tiny(), tiny()
    _, full = run(whole, small(shuffle=True), sgd(whole), 2)
    loader = small(shuffle=True)
    history = labkit.train(
        short, loader, sgd(short), epochs=2, validation=loader.first(32), checkpoint=tmp_path / "run.pth"
    )
    assert history == full
    assert same(short, whole)
    assert labkit.train(short, loader, sgd(short))["loss_test"] == []


def test_evaluate_gives_loss_and_accuracy_of_a_test(tiny, small):
    model = tiny()
    assert labkit.evaluate(model, small()) == training.test_one_epoch(model, small(), F.cross_entropy, METRIC, CPU)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fine_tuning_is_sgd_whose_rate_falls_to_zero(tiny, small, momentum):
    whole, short = tiny(), tiny()
    optimizer = sgd(whole, 0.05, momentum=momentum, nesterov=momentum > 0)
    scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=2 * len(small()))
    _, full = run(whole, small(), optimizer, 2, "train", scheduler=scheduler)
    assert labkit.fine_tune(short, small(), epochs=2, learning_rate=0.05, momentum=momentum) == full
    assert same(short, whole)


def test_before_and_after_prunes_a_copy_and_reestimates_it(tiny, small):
    model, untouched, seen = tiny(), tiny(), []

    def halve(layer, amount):
        seen.append(layer)
        prune.l1_unstructured(layer, "weight", amount)

    before, after = labkit.before_and_after(model, halve, small(), small(), 0.5)
    assert same(model, untouched)
    assert [type(layer) for layer in seen] == [nn.Conv2d] * 3
    pruned = labkit.clone(model)
    for name in ("conv1", "conv2", "conv3"):
        prune.l1_unstructured(getattr(pruned, name), "weight", 0.5)
    assert before == 100 * labkit.accuracy(pruned, small())
    labkit.reestimate_batchnorm(pruned, small(), CPU)
    assert after == 100 * labkit.accuracy(pruned, small())
