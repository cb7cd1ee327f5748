"""Whole heads and MLP channels, masked and cut."""

import copy

import pytest
import torch

import labkit
from labkit.large.heads import cut_units, unit_norms, without_units
from labkit.large.row_transformer import RowTransformer

IMAGES = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return RowTransformer(8, (3, 2), (5, 7)).double().eval()


def test_norms_are_those_of_what_is_read(rows):
    heads = unit_norms(rows, "heads")
    assert [len(norms) for norms in heads] == [3, 2]
    assert torch.allclose(heads[0][1], rows.blocks[0].out.weight[:, 16:32].norm())
    channels = unit_norms(rows, "channels")
    assert torch.allclose(channels[1], rows.blocks[1].down.weight.norm(dim=0))


@pytest.mark.parametrize(
    ("kind", "chosen", "left"),
    [("heads", [[0, 2], []], {"heads": (1, 2)}), ("channels", [[1], [0, 5, 6]], {"channels": (4, 4)})],
)
def test_what_is_cut_computes_the_same(rows, kind, chosen, left):
    pruned = without_units(rows, kind, chosen)
    small = cut_units(pruned)
    for name, sizes in left.items():
        assert getattr(small, name) == sizes
    assert torch.allclose(small(IMAGES), pruned(IMAGES), atol=1e-10)
    assert not torch.allclose(small(IMAGES), rows(IMAGES), atol=1e-6)
    plain = RowTransformer(8, small.heads, small.channels).double()
    assert plain.load_state_dict(small.state_dict())
    fewer = sum(cost.multiply_adds for cost in labkit.multiply_adds(small))
    assert fewer < sum(cost.multiply_adds for cost in labkit.multiply_adds(rows))


def test_heads_and_channels_go_together_and_one_after_the_other(rows):
    pruned = without_units(without_units(rows, "heads", [[1], [0]]), "channels", [[0, 1], [3]])
    small = cut_units(pruned)
    assert (small.heads, small.channels) == ((2, 1), (3, 6))
    assert torch.allclose(small(IMAGES), pruned(IMAGES), atol=1e-10)
    smaller = cut_units(without_units(small, "heads", [[0], []]))
    assert smaller.heads == (1, 1)


def test_masks_of_other_layers_are_baked_in(rows):
    pruned = without_units(rows, "heads", [[1], []])
    torch.nn.utils.prune.l1_unstructured(pruned.blocks[0].query, "weight", 0.5)
    small = cut_units(pruned)
    assert torch.allclose(small(IMAGES), pruned(IMAGES), atol=1e-10)
    assert not any("mask" in key for key in small.state_dict())


def test_nothing_to_cut_gives_an_equal_copy(rows):
    again = cut_units(rows)
    assert again is not rows
    assert torch.equal(again(IMAGES), rows(IMAGES))


def test_what_is_cut_can_be_trained_and_keeps_its_mode(rows):
    small = cut_units(without_units(rows, "heads", [[1], []]).train())
    assert small.training
    small(IMAGES).sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


def test_the_network_that_is_given_stays(rows):
    before = copy.deepcopy(rows.state_dict())
    cut_units(without_units(rows, "channels", [[1], [2]]))
    assert all(torch.equal(value, before[key]) for key, value in rows.state_dict().items())


@pytest.mark.parametrize("chosen", [[[0, 1, 2], []], [[3], []], [[-1], []]])
def test_all_of_a_block_or_what_is_not_there_is_refused(rows, chosen):
    with pytest.raises(ValueError, match="of 3 heads; some must stay, and those that go must exist"):
        without_units(rows, "heads", chosen)


def test_a_list_for_each_block_is_asked_for(rows):
    with pytest.raises(ValueError, match=r"chosen are \[\[1\]\]; there must be a list for each of 2 blocks"):
        without_units(rows, "heads", [[1]])


def test_a_block_that_nothing_reads_is_refused(rows):
    with torch.no_grad():
        rows.blocks[1].out.weight.zero_()
    with pytest.raises(ValueError, match="block 1 has no heads that are read"):
        cut_units(rows)


def test_another_kind_or_network_is_refused(rows, tiny):
    with pytest.raises(ValueError, match="kind is 'rows'; it must be one of heads, channels"):
        unit_norms(rows, "rows")
    for use in (cut_units, lambda model: unit_norms(model, "heads")):
        with pytest.raises(ValueError, match="the model is a CNN"):
            use(tiny())
