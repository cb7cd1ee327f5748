"""The committed records of the study, and the networks that they speak of."""

from pathlib import Path

import pytest

import labkit
from labkit import runtime, study
from labkit.study import plans
from labkit.study.records import PROTOCOL

RECORDS = {record.point.name: record for record in study.load_frontier()}
NETWORKS = sorted((runtime.reference_dir() / "frontier").glob("*.lks"))
HEADLINE = [record for record in RECORDS.values() if record.point.epochs == plans.HEADLINE_EPOCHS]


def test_every_record_is_of_this_protocol_and_of_the_plan():
    assert {record.protocol for record in RECORDS.values()} == {PROTOCOL}
    assert {record.point for record in RECORDS.values()} <= set(study.plan("full"))


def test_no_record_has_more_weights_than_it_asked_for():
    assert [name for name, record in RECORDS.items() if record.nonzero > record.point.target] == []


def test_a_layer_without_weights_is_named_and_the_network_knows_nothing():
    for name, record in RECORDS.items():
        if record.dead_layers:
            assert record.test_accuracy < 0.15, name


def test_every_headline_network_is_committed_and_every_committed_network_has_its_record():
    files = {path.stem for path in NETWORKS}
    assert {record.point.name for record in HEADLINE} <= files
    assert files <= RECORDS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_a_committed_network_is_what_its_record_says(path: Path):
    record, network = RECORDS[path.stem], labkit.load_sparse(path)
    report = labkit.sparsity_report(network)
    assert sum(row.weights - row.zeros for row in report) == record.nonzero
    assert sum(layer.effective for layer in labkit.multiply_adds(network)) == record.macs
    assert path.stat().st_size == record.bytes
    _, _, test_loader = labkit.loaders(batch_size=100)
    # Another processor rounds otherwise: an image or two on the edge may fall to the other side.
    assert labkit.accuracy(network, test_loader) == pytest.approx(record.test_accuracy, abs=0.0003)


def test_the_committed_frontier_is_as_good_as_the_readme_says():
    rows = study.operating_points(HEADLINE)
    means = {row.target: row.accuracy.mean for row in rows}
    assert means[124_448] >= 0.995 and means[6_000] >= 0.993
