"""The schedule "after": committed networks pruned without training, on a few real images."""

import dataclasses

import few_images
import pytest
import torch
from study_examples import AFTER

import labkit
from labkit import runtime
from labkit.large.row_transformer import RowTransformer
from labkit.study.points import TRAINED, WEIGHTS, Point
from labkit.study.run import run_point

pytestmark = pytest.mark.slow
HALF = WEIGHTS // 2


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    with few_images.in_this_process(monkeypatch):
        yield


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """An untrained RowTransformer as the committed one of seed 1."""
    torch.manual_seed(0)
    model = RowTransformer()
    labkit.save_network(model, tmp_path / "ROWS_MNIST_seed1.pth")
    monkeypatch.setattr(runtime, "reference_dir", lambda: tmp_path)
    return model


def run(folder, **parts):
    point = Point(**(AFTER | parts))
    record = run_point(point, networks=folder)
    return dataclasses.replace(record, seconds=0.0), folder / f"{point.name}.lks"


def test_all_weights_kept_is_the_committed_network(tmp_path):
    record, path = run(tmp_path, target=WEIGHTS)
    committed = runtime.reference_dir() / "frontier" / "MNIST_dense_124448_e12_s0.lks"
    assert labkit.load_sparse(path).state_dict().keys() == labkit.load_sparse(committed).state_dict().keys()
    for mine, theirs in zip(*(labkit.load_sparse(x).state_dict().values() for x in (path, committed)), strict=True):
        assert torch.equal(mine, theirs)
    assert record.val_accuracy > 0.98


@pytest.mark.parametrize("parts", [{"target": HALF}, {"target": HALF, "scope": "local", "criterion": "magnitude"}])
def test_half_of_the_weights_go_and_no_other_changes(tmp_path, parts):
    _, before = run(tmp_path, target=WEIGHTS)
    record, after = run(tmp_path, **parts)
    assert record.nonzero <= HALF
    layers = (labkit.prunable_layers(labkit.load_sparse(path)) for path in (before, after))
    for old, new in zip(*(layer.values() for layer in layers), strict=True):
        stays = new.weight != 0
        # Each channel is rounded again by its largest weight, which may have gone.
        assert torch.allclose(new.weight[stays], old.weight[stays], atol=float(old.weight.detach().abs().max() / 127))
    assert record.val_accuracy > 0.9


def test_two_of_four_go(tmp_path):
    record, path = run(tmp_path, scope="2:4", target=62_368)
    model = labkit.load_sparse(path)
    assert record.nonzero <= 62_368
    for name in ("conv2", "conv3", "fc"):
        fours = getattr(model, name).weight.reshape(-1, 4)
        assert int((fours != 0).sum(dim=1).max()) == 2


def test_repairs_bring_accuracy_back(tmp_path):
    few = WEIGHTS // 4
    found = {r: run(tmp_path, target=few, repair=r)[0].val_accuracy for r in ("none", "solve", "solve-batchnorm")}
    assert found["none"] + 0.1 < found["solve"]
    assert found["none"] + 0.1 < found["solve-batchnorm"]


def test_batchnorm_alone_changes_its_statistics_only(tmp_path):
    _, plain = run(tmp_path, target=HALF)
    _, repaired = run(tmp_path, target=HALF, repair="batchnorm")
    one, other = (labkit.load_sparse(path).state_dict() for path in (plain, repaired))
    changed = {key for key, value in one.items() if not torch.equal(value, other[key])}
    assert {key.rpartition(".")[2] for key in changed} == {"running_mean", "running_var"}


def test_the_same_point_gives_the_same_network(tmp_path):
    (tmp_path / "again").mkdir()
    first, path = run(tmp_path, target=HALF, repair="solve")
    second, again = run(tmp_path / "again", target=HALF, repair="solve")
    assert first == second
    assert path.read_bytes() == again.read_bytes()


def test_an_epoch_trains_the_weights_that_stay(tmp_path):
    _, before = run(tmp_path, target=HALF)
    record, after = run(tmp_path, target=HALF, epochs=1)
    old, new = (labkit.load_sparse(path).conv2.weight for path in (before, after))
    assert not torch.equal(old, new)
    assert record.nonzero <= HALF


def test_a_transformer_is_pruned_too(tmp_path, rows):
    weights = TRAINED["rows"]
    record, path = run(tmp_path, start="rows", seed=1, target=weights // 2, repair="solve")
    assert record.nonzero <= weights // 2
    assert labkit.load_sparse(path, RowTransformer).heads == rows.heads


@pytest.mark.usefixtures("rows")
def test_a_network_that_is_not_committed_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ROWS_MNIST_seed4\.pth does not exist"):
        run(tmp_path, start="rows", seed=4, target=50_000)
    with pytest.raises(FileNotFoundError, match=r"MNIST_dense_124448_e12_s77\.lks is not a file"):
        run(tmp_path, seed=77, target=50_000)
