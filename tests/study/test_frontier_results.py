"""The committed records of the study, and the networks that they speak of."""

import re
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit import runtime, study
from labkit.study import plans
from labkit.study.records import PROTOCOL

PLANS = {"full": study.load_frontier()} | {name: study.load_frontier(name) for name in ("fewer", "untrained")}
RECORDS = {record.point.name: record for records in PLANS.values() for record in records}
NETWORKS = sorted((runtime.reference_dir() / "frontier").glob("*.lks"))
# Not all together: those of the two plans trained in different precisions.
ROWS = [row for name in ("full", "fewer") for row in study.operating_points(PLANS[name])]
HEADLINE = [*study.plan("full")[: 3 * plans.HEADLINE_SEEDS], *study.plan("fewer")]


@pytest.mark.parametrize("name", PLANS)
def test_every_record_is_of_this_protocol_and_of_its_plan(name):
    assert {record.protocol for record in PLANS[name]} == {PROTOCOL}
    assert {record.point for record in PLANS[name]} == set(study.plan(name))


def test_no_record_has_more_weights_than_it_asked_for():
    assert [name for name, record in RECORDS.items() if record.nonzero > record.point.target] == []


def test_every_point_of_a_curve_has_at_least_five_seeds_and_the_headline_ten():
    assert {row.accuracy.seeds for row in ROWS} == {5, 10}
    headline = {(point.method, point.target, point.epochs) for point in HEADLINE if point.seed == 9}
    tens = {(row.method, row.target, row.epochs) for row in ROWS if row.accuracy.seeds == 10}
    assert tens == headline


def test_every_headline_network_is_committed_and_every_committed_network_has_its_record():
    files = {path.stem for path in NETWORKS}
    assert {point.name for point in HEADLINE} <= files
    assert files <= RECORDS.keys()


SOME = {0}  # seeds whose networks are looked at each time; the others in make test-full


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if RECORDS[path.stem].point.seed in SOME else pytest.mark.full) for path in NETWORKS],
    ids=lambda path: path.stem,
)
def test_a_committed_network_is_what_its_record_says(path: Path):
    record, network = RECORDS[path.stem], labkit.load_sparse(path)
    report = labkit.sparsity_report(network)
    assert sum(row.weights - row.zeros for row in report) == record.nonzero
    assert sum(layer.effective for layer in labkit.multiply_adds(network)) == record.macs
    assert path.stat().st_size == record.bytes
    _, _, test_loader = labkit.loaders(batch_size=100)
    # Another processor rounds otherwise: an image or two on the edge may fall to the other side.
    assert labkit.accuracy(network, test_loader) == pytest.approx(record.test_accuracy, abs=0.0003)


def test_every_committed_run_is_whole_and_none_is_far_from_the_others():
    validation, test = study.load_many_runs()
    assert test.shape == validation.shape
    assert len(test) >= 2
    assert np.ptp(test[:, -1]) < 0.02


def test_the_committed_frontier_is_as_good_as_the_results_say():
    text = (runtime.PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = {(row.method, row.target, row.epochs): row for row in ROWS}
    long = "lamp-global-gradual-augmented-8"
    for name, key in (
        ("dense", ("dense", 124_448, 12)),
        ("LAMP, gradual", ("lamp-global-gradual", 6_000, 12)),
        ("LAMP, gradual", ("lamp-global-gradual", 2_000, 12)),
        ("LAMP, gradual", (long, 2_000, 24)),
    ):
        row = rows[key]
        accuracy = f"{100 * row.accuracy.mean:.2f} ± {100 * row.accuracy.half:.2f} %"
        lost = "–" if name == "dense" else f"{100 * row.lost.mean:.2f} ± {100 * row.lost.half:.2f}"
        wanted = rf"\| {name} \| {row.epochs} \| {row.accuracy.seeds} \| {row.nonzero:,.0f} .*\| {accuracy} \| {lost}"
        assert re.search(wanted, text), wanted
    assert rows["dense", 124_448, 12].accuracy.mean >= 0.995
    assert rows["lamp-global-gradual", 6_000, 12].accuracy.mean >= 0.993
    assert rows[long, 2_000, 24].accuracy.mean >= 0.99
