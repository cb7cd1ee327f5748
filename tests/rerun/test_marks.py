from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.rerun.marks import difference, equal_up_to_marks


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("zeros 31,112", "zeros 31,112"),
        ("accuracy ≈0.985", "accuracy ≈0.985"),
        ("accuracy ≈0.985", "accuracy ≈0.988"),
        ("accuracy ≈0.985", "accuracy ≈0.982"),
        ("loss ≈  12", "loss ≈   9"),
        ("zeros ≈ 1,001", "zeros ≈   998"),
        ("shift ≈-0.05", "shift ≈-0.02"),
        ("≈1.00 ≈2.00", "≈1.03 ≈1.97"),
        ("time †3.2 s", "time †120.75 s"),
        ("time † 3 s", "time †12 s"),
        ("torch †2.15.0", "torch †3.0.1"),
        ("labkit †0.1.0, training", "labkit †0.2.0.dev3+g1a2b3c, training"),
        ("cost †1e-05", "cost †7"),
        ("training †bfloat16", "training †float32"),
        ("training †float32; 3", "training †emulated bfloat16; 3"),
        ("change †-3", "change †4"),
        ("", ""),
    ],
)
def test_outputs_that_say_the_same(stored, fresh):
    assert equal_up_to_marks(stored, fresh)
    assert equal_up_to_marks(fresh, stored)
    assert difference(stored, fresh) is None


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("zeros 31,112", "zeros 31,113"),
        ("zeros 31,112", "zeros ≈31,112"),
        ("accuracy ≈0.985", "accuracy ≈0.989"),
        ("accuracy ≈0.985", "accuracy ≈0.981"),
        ("accuracy ≈0.985", "accuracy ≈0.9850"),
        ("accuracy ≈0.985", "accuracy ≈0.98"),
        ("accuracy ≈9.99", "accuracy ≈10.01"),
        ("value ≈1.05", "value ≈ 1.1"),
        ("accuracy ≈0.985", "accuracy 0.985"),
        ("accuracy ≈0.985", "accuracy ≈nan"),
        ("accuracy ≈0.985", "accuracy ≈-.985"),
        ("loss ≈1.5e-05", "loss ≈1.5e-06"),
        ("≈1.00 ≈2.00", "≈1.00 ≈2.04"),
        ("time †3.2 s", "time †3.2 ms"),
        ("time †3.2 s", "time †nan s"),
        ("time †3.2 s", "time † s"),
        ("time †3.2 s", "time †– s"),
        ("time †3.2 s", "time 3.2 s"),
        ("training †bfloat16", "training † bfloat16"),
        ("training †bfloat16", "training bfloat16"),
        ("training †bfloat16 x", "training †bfloat16 y"),
        ("time †bfloat16", "time †16"),
        ("training †bfloat16", "training †bfloat17"),
        ("training †float32", "training †float321"),
        ("took †long", "took †longer"),
        ("verdict ✓", "verdict ✗"),
        ("one\ntwo", "one"),
        ("one\ntwo", "one\ntwo\nthree"),
        ("one\n", "one"),
        ("a b", "a  b"),
        ("≈5", "≈#"),
        ("†5", "†#"),
    ],
)
def test_outputs_that_do_not_say_the_same(stored, fresh):
    assert not equal_up_to_marks(stored, fresh)
    assert not equal_up_to_marks(fresh, stored)
    assert difference(stored, fresh)


def test_difference_names_the_line():
    assert difference("same\nzeros 1", "same\nzeros 2") == "line 'zeros 1' is now 'zeros 2'"
    assert difference("one\ntwo", "one") == "2 lines are now 1"
    assert difference("≈0.985", "≈0.996") == "≈0.985 is now ≈0.996, more than 0.003 away"
    assert difference("≈ 1.05", "≈1.050") == "≈1.05 is now ≈1.050, with other digits"


def printed(units, decimals):
    """A number of so many units of its last digit, in a field of fixed width."""
    return f"accuracy ≈{Decimal(units).scaleb(-decimals):>14,f} end"


@given(st.integers(-(10**6), 10**6), st.integers(0, 5), st.integers(-9, 9))
def test_movable_number_is_equal_exactly_within_three_units_of_its_last_digit(units, decimals, moved):
    same = equal_up_to_marks(printed(units, decimals), printed(units + moved, decimals))
    assert same == (abs(moved) <= 3)


@given(st.text(st.sampled_from("ab 01.,-\n≈†✓✗#"), max_size=40))
def test_every_output_equals_itself(text):
    assert equal_up_to_marks(text, text)


@given(*[st.text(st.sampled_from("ab 01.,-\n≈†✓✗#"), max_size=12)] * 2)
def test_comparison_is_symmetric_and_never_raises(one, other):
    assert equal_up_to_marks(one, other) == equal_up_to_marks(other, one)


@given(st.text(st.sampled_from("ab 01.,-\n✓✗#"), max_size=12), st.text(st.sampled_from("ab 01.,-\n✓✗#"), max_size=12))
def test_outputs_without_marks_are_compared_exactly(one, other):
    assert equal_up_to_marks(one, other) == (one == other)
