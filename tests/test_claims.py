import numpy as np
import pytest
import torch

import labkit


def test_claim_that_holds_is_one_ticked_line(capsys):
    labkit.check_claims(("one is one", lambda: 1 == 1, "count again"))
    assert capsys.readouterr().out == "✓ one is one\n"


def test_claim_that_does_not_hold_is_crossed_with_the_reason(capsys):
    labkit.check_claims(("one is two", lambda: 1 == 2, "count again"))
    assert capsys.readouterr().out == "✗ one is two\n  count again\n"


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (NameError("name 'model' is not defined"), "NameError: name 'model' is not defined"),
        (AssertionError(), "AssertionError: "),
        (RuntimeError("size"), "RuntimeError: size"),
    ],
)
def test_error_in_a_claim_is_named_and_the_next_claim_is_still_checked(capsys, error, named):
    def fails():
        raise error

    labkit.check_claims(("first", fails, "reason"), ("second", lambda: True, "reason"))
    assert capsys.readouterr().out == f"✗ first\n  {named}\n✓ second\n"


def test_claim_may_give_a_tensor(capsys):
    labkit.check_claims(("a", lambda: torch.tensor(True), "-"), ("b", lambda: torch.tensor([True, False]), "-"))
    out = capsys.readouterr().out
    assert out.startswith("✓ a\n✗ b\n  RuntimeError: ")


def test_no_claims_print_nothing(capsys):
    labkit.check_claims()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("prediction", "given"),
    [
        (None, "– (not attempted)"),
        (0.5, "0.500"),
        (1, "1.000"),
        ("half", "'half' (not a number)"),
        (True, "True (not a number)"),
        ([1], "[1] (not a number)"),
    ],
)
def test_prediction_stands_beside_the_measurement(capsys, prediction, given):
    labkit.show_prediction(prediction, 0.98765, "accuracy after pruning")
    assert capsys.readouterr().out == f"accuracy after pruning\n  predicted  {given}\n  measured   ≈0.988\n"


def test_exact_measurement_carries_no_mark_and_digits_are_a_choice(capsys):
    labkit.show_prediction(31_000, 31_112, "zeros", digits=0, exact=True)
    assert capsys.readouterr().out == "zeros\n  predicted  31000\n  measured   31112\n"


@pytest.mark.parametrize(
    "half", [0.5, torch.tensor(0.5), torch.tensor([0.5]), np.float32(0.5), np.array(0.5), np.array([[0.5]])]
)
def test_prediction_may_be_a_number_of_any_kind(capsys, half):
    labkit.show_prediction(half, 0.25, "share", 2)
    assert capsys.readouterr().out == "share\n  predicted  0.50\n  measured   ≈0.25\n"


@pytest.mark.parametrize("several", [torch.tensor([0.5, 1.0]), np.array([]), [0.5], "half"])
def test_prediction_that_is_no_number_is_said(capsys, several):
    labkit.show_prediction(several, 0.25, "share", 2)
    assert "(not a number)" in capsys.readouterr().out


# Tables


def test_table_shows_every_cell_as_it_is_given(capsys):
    labkit.show_table([("a", "1.50"), ("bb", "10")], ["name", "number"])
    assert capsys.readouterr().out.splitlines()[3:5] == ["|  a   |  1.50  |", "|  bb  |   10   |"]


def test_median_and_worst_of_accuracies():
    assert labkit.median_and_worst([90.0, 100.0, 95.04]) == "≈ 95.0 (≈ 90.0)"
