"""What the benchmark concludes, from rows made by hand; it measures nothing here."""

import bench_pipeline
import pytest

from labkit import runtime


def row(threads, precision, milliseconds, name="labkit", job="train"):
    return [job, threads, name, precision, f"{milliseconds:.1f}", "", "", "", ""]


@pytest.mark.parametrize(
    ("chosen", "float32", "bfloat16", "slow"),
    [
        ("float32", 38.8, 89.5, False),  # emulated, and left alone
        ("emulated bfloat16", 38.8, 89.5, True),
        ("bfloat16", 33.6, 22.6, False),
        ("bfloat16", 30.0, 33.0, False),  # 10 % may be
        ("bfloat16", 30.0, 33.1, True),
        ("float32", 33.6, 22.6, True),
    ],
)
def test_slower_choice_is_told(chosen, float32, bfloat16, slow, monkeypatch):
    monkeypatch.setattr(runtime, "precision", lambda _device: chosen)
    rows = [row(1, "float32", float32), row(1, "bfloat16", bfloat16)]
    rows += [
        row(1, "float32", 1.0, "original"),
        row(1, "float32", 1.0, "90 % masked"),
        row(1, "float32", 1.0, job="evaluate"),
    ]
    found = bench_pipeline.slower_choices(rows)
    assert len(found) == slow
    if slow:
        assert found[0].startswith("1 thread(s): ")
        assert f"{float32:.1f} ms" in found[0] and f"{bfloat16:.1f} ms" in found[0]


def test_each_number_of_threads_is_looked_at(monkeypatch):
    monkeypatch.setattr(runtime, "precision", lambda _device: "bfloat16")
    rows = [row(1, "float32", 30), row(1, "bfloat16", 20), row(2, "float32", 15), row(2, "bfloat16", 20)]
    assert [line.partition(":")[0] for line in bench_pipeline.slower_choices(rows)] == ["2 thread(s)"]


def test_without_bfloat16_there_is_no_other_choice(monkeypatch):
    monkeypatch.setattr(runtime, "precision", lambda _device: "float32")
    assert bench_pipeline.slower_choices([row(1, "float32", 30)]) == []
