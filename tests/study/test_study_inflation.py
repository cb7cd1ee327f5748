"""How far the best of n runs lies above the mean: against every draw that there is, and files that are not whole."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from labkit import runtime, study
from labkit.plots import alternative
from labkit.study.inflation import inflation, load_many_runs

VALIDATION = np.array([[0.90, 0.96], [0.93, 0.93], [0.91, 0.96], [0.97, 0.95]])  # four runs of two epochs
TEST = np.array([[0.91, 0.95], [0.97, 0.92], [0.90, 0.94], [0.93, 0.96]])


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def every_draw(count, value):
    """Mean of a value of the runs drawn, over all draws of so many with replacement."""
    draws = itertools.product(range(len(TEST)), repeat=count)
    return np.mean([value(list(drawn)) for drawn in draws])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_expected_best_is_the_mean_over_all_draws(count):
    added, mean = inflation(VALIDATION, TEST, 5), TEST[:, -1].mean()

    def chosen_by_validation(drawn):
        best = VALIDATION[drawn].max()  # of runs that are equally good, one by chance
        equal = [run for run in drawn if VALIDATION[run].max() == best]
        return np.mean([TEST[run, VALIDATION[run].argmax()] for run in equal])

    assert added.last_epoch[count - 1] == pytest.approx(every_draw(count, lambda drawn: TEST[drawn, -1].max()) - mean)
    assert added.best_epoch[count - 1] == pytest.approx(every_draw(count, lambda drawn: TEST[drawn].max()) - mean)
    assert added.validation[count - 1] == pytest.approx(every_draw(count, chosen_by_validation) - mean)


def test_mean_is_that_of_the_last_epoch_with_its_interval():
    added = inflation(VALIDATION, TEST)
    assert added.mean == study.estimate([0.95, 0.92, 0.94, 0.96])
    assert added.last_epoch[0] == 0
    assert len(added.last_epoch) == len(added.best_epoch) == len(added.validation) == 100


def test_more_runs_lie_more_and_never_more_than_the_best_at_hand():
    added = inflation(VALIDATION, TEST, 60)
    for line, best in ((added.last_epoch, 0.96), (added.best_epoch, 0.97)):
        assert (np.diff(line) >= 0).all()
        assert (np.diff(line[:20]) > 0).all()
        assert line[-1] == pytest.approx(best - added.mean.mean, abs=1e-6)
    assert (added.best_epoch >= added.last_epoch).all()


def test_runs_that_are_all_alike_lie_by_nothing():
    added = inflation(np.full((3, 2), 0.9), np.full((3, 2), 0.8))
    assert not np.concatenate([added.last_epoch, added.best_epoch, added.validation]).any()


# The file


TAIL = '"a processor, 1 thread(s), float32 training",2.11.0'
HEADER = "run,epoch,validation_right,test_right,hardware,torch"
LINES = [
    HEADER,
    *(f"{run},{epoch},{4000 + 10 * run + epoch},{9000 + run},{TAIL}" for run in (7, 3) for epoch in (1, 2)),
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "PROJECT", tmp_path)
    path = tmp_path / "data" / "results" / "many_runs.csv"
    path.parent.mkdir(parents=True)
    return lambda lines: path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_file_is_read_run_by_run(write):
    write(LINES)
    validation, test = load_many_runs()
    assert validation.tolist() == [[4071 / 5000, 4072 / 5000], [4031 / 5000, 4032 / 5000]]
    assert test.tolist() == [[0.9007, 0.9007], [0.9003, 0.9003]]


def test_a_file_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "PROJECT", tmp_path)
    with pytest.raises(FileNotFoundError, match="results are 'many_runs'; there are"):
        load_many_runs()


DAMAGED = {
    "empty": ([], r"the runs of many_runs\.csv have \[\] epochs"),
    "other columns": ([HEADER.replace("epoch", "step"), *LINES[1:]], "line 2 of .* must be the run's next epoch"),
    "no runs": (LINES[:1], r"have \[\] epochs; all must have as many"),
    "cut within a line": ([*LINES[:-1], LINES[-1][:9]], "line 5 of .*'validation_right': '4032', 'test_right': ''"),
    "cut within a number": ([*LINES[:-1], LINES[-1][:12]], "line 5 of .*'test_right': '900'"),
    "cut within quotes": ([*LINES[:-1], LINES[-1][:25]], "line 5 of .*'torch': None"),
    "cut after a line": (LINES[:-1], r"have \[1, 2\] epochs"),
    "an epoch missing": ([*LINES[:3], LINES[4]], "line 4 of .*'epoch': '2'"),
    "a run twice": ([*LINES, *LINES[1:3]], "line 6 of .*'run': '7', 'epoch': '1'"),
    "NaN": ([*LINES[:4], f"3,2,4032,nan,{TAIL}"], "line 5 of .*'test_right': 'nan'"),
    "a share": ([*LINES[:4], f"3,2,0.81,9003,{TAIL}"], "line 5 of .*'validation_right': '0.81'"),
    "less than none": ([*LINES[:4], f"3,2,-1,9003,{TAIL}"], "line 5 of .*'validation_right': '-1'"),
    "more than images": ([*LINES[:4], f"3,2,4032,10001,{TAIL}"], "'10001'.* numbers of right answers up to .* 10000"),
    "more than validation images": ([*LINES[:4], f"3,2,5001,9003,{TAIL}"], "line 5 of .*'validation_right': '5001'"),
}


@pytest.mark.parametrize(("lines", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_with_its_line(write, lines, said):
    write(lines)
    with pytest.raises(ValueError, match=said) as error:
        load_many_runs()
    assert "many_runs.csv" in str(error.value)


# The figure


def test_figure_has_three_lines_in_points_and_the_mean_with_its_interval():
    added = inflation(VALIDATION, TEST, 10)
    ax = study.draw_inflation(added)
    lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()[:3]}
    assert list(lines) == [
        "best epoch, by test images",
        "best last epoch, by test images",
        "best epoch, by validation images",
    ]
    for drawn, line in zip(lines.values(), (added.best_epoch, added.last_epoch, added.validation), strict=True):
        assert list(drawn) == pytest.approx(list(100 * line))
    assert list(ax.get_lines()[3].get_ydata()) == [0, 0]
    assert ax.get_ylabel() == "points above the mean of 94.25 ± 2.72 %"
    assert "interval of the mean of the last epoch" in [text.get_text() for text in ax.get_legend().get_texts()]
    assert ax.get_xscale() == "log"
    assert "runs" in ax.get_xlabel()


def test_figure_is_told_in_words():
    ax = study.draw_inflation(inflation(VALIDATION, TEST, 10))
    text = alternative(ax.figure)
    assert "points above the mean of 94.25 ± 2.72 % against number of runs to choose from" in text
    assert "best last epoch, by test images ≈0 at 1, ≈1.56 at 6, ≈1.69 at 10" in text
