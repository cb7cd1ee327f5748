"""Of each four weights two."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit.large.two_four import mask_2_4, pack_2_4, unpack_2_4


def test_the_two_highest_of_four_stay_and_of_equal_ones_the_first():
    scores = torch.tensor([[1.0, 4.0, 3.0, 2.0, 5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 9.0, -1.0, -3.0, -2.0, -4.0]])
    assert mask_2_4(scores).tolist() == [[0, 1, 1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 0, 1, 0]]


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([(), (2, 2)]))
def test_unpacked_is_what_was_packed_bit_for_bit(outputs, fours, seed, kernel):
    generator = torch.Generator().manual_seed(seed)
    inputs = fours if kernel else 4 * fours
    weight = torch.randn(outputs, inputs, *kernel, generator=generator)
    weight *= mask_2_4(torch.rand(weight.shape, generator=generator)) * (torch.rand(weight.shape) < 0.9)
    packed = pack_2_4(weight)
    again = unpack_2_4(packed)
    assert torch.equal(again, weight)
    assert again.shape == weight.shape
    assert packed.values.numel() == weight.numel() // 2
    assert packed.places.shape == (outputs, (fours + 1) // 2)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16, torch.int8])
def test_every_kind_of_number_comes_back(kind):
    weight = torch.tensor([[0, 3, 0, -1, 2, 0, 0, 0]], dtype=kind)
    assert torch.equal(unpack_2_4(pack_2_4(weight)), weight)
    assert unpack_2_4(pack_2_4(weight)).dtype == kind


def test_bytes_are_half_the_values_and_two_bits_for_each():
    weight = torch.zeros(128, 576)
    assert pack_2_4(weight).bytes == 128 * (576 // 2 * 4 + 576 // 8)


@pytest.mark.parametrize("use", [mask_2_4, pack_2_4])
def test_an_output_that_four_does_not_divide_is_refused(use):
    with pytest.raises(ValueError, match=r"each output has 9 weights \(shape \(32, 1, 3, 3\)\); four must divide"):
        use(torch.ones(32, 1, 3, 3))


def test_more_than_two_of_four_are_refused():
    with pytest.raises(ValueError, match="3 of four neighbours are not zero; at most two may be"):
        pack_2_4(torch.tensor([[1.0, 0, 2, 0, 1, 2, 3, 0]]))


def test_scores_that_are_nan_are_refused():
    with pytest.raises(ValueError, match="1 scores are NaN"):
        mask_2_4(torch.tensor([[1.0, torch.nan, 2, 3]]))


def test_a_zero_is_never_negative():
    weight = torch.tensor([[-1.0, 2, -3, -4]]) * mask_2_4(torch.tensor([[0.0, 1, 0, 2]]))
    assert torch.signbit(weight).any()
    assert unpack_2_4(pack_2_4(weight)).tolist() == [[0, 2, 0, -4]]
    assert not torch.signbit(unpack_2_4(pack_2_4(weight))[0, 0])


def test_places_that_cannot_be_are_refused():
    packed = pack_2_4(torch.tensor([[1.0, 0, 2, 0]]))
    with pytest.raises(ValueError, match="places do not fit"):
        unpack_2_4(replace(packed, places=torch.zeros_like(packed.places)))
    with pytest.raises(ValueError, match="places do not fit"):
        unpack_2_4(replace(packed, values=torch.zeros(1, 6)))
    with pytest.raises(ValueError, match="places do not fit"):
        unpack_2_4(replace(packed, shape=(1, 8)))
