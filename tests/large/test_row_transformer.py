"""The network of notebook 10: its shape, its layers, and that files, reports and costs know it."""

import pytest
import torch
from torch.nn.utils import prune

import labkit
from labkit.large.row_transformer import RowTransformer


@pytest.fixture
def rows():
    """A RowTransformer with 2 and 1 heads, 5 and 7 channels, in evaluation mode."""
    torch.manual_seed(0)
    return RowTransformer(8, (2, 1), (5, 7)).eval()


IMAGES = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_logits_are_those_of_the_formula(rows):
    """Attention written out, without torch's fused function."""
    x = rows.embed(IMAGES[:, 0]) + rows.places
    for block, heads in zip(rows.blocks, rows.heads, strict=True):
        normed = block.norm1(x)
        found = []
        for head in range(heads):
            part = slice(16 * head, 16 * head + 16)
            q, k, v = (layer(normed)[..., part] for layer in (block.query, block.key, block.value))
            found.append((q @ k.transpose(1, 2) / 4).softmax(dim=-1) @ v)
        x = x + block.out(torch.cat(found, dim=-1))
        x = x + block.down(block.up(block.norm2(x)).relu())
    assert torch.allclose(rows(IMAGES), rows.fc(rows.norm(x).mean(dim=1)), atol=1e-5)


def test_the_order_of_the_rows_counts(rows):
    assert not torch.allclose(rows(IMAGES), rows(IMAGES.flip(2)), atol=1e-3)


def test_all_fourteen_layers_are_prunable_and_counted():
    model = RowTransformer()
    inside = ("query", "key", "value", "out", "up", "down")
    names = ["embed", *(f"blocks.{number}.{name}" for number in (0, 1) for name in inside), "fc"]
    costs = {cost.name: cost for cost in labkit.multiply_adds(model)}
    assert list(labkit.prunable_layers(model)) == list(costs) == names
    assert costs["embed"].multiply_adds == 28 * 28 * 64
    assert costs["blocks.1.up"].multiply_adds == 28 * 64 * 256
    assert costs["fc"].multiply_adds == 640
    assert sum(row.weights for row in labkit.sparsity_report(model)) == 100_736


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width is 0; it must be a whole number >= 1"),
        ({"heads": (4, 0)}, "heads is 0"),
        ({"heads": 4}, r"heads are 4, channels \(256, 256\); each of the 2 blocks"),
        ({"heads": (4,)}, r"heads are \(4,\), channels \(256, 256\); each of the 2 blocks must have one number"),
        ({"channels": (1, 2, 3)}, "each of the 2 blocks"),
        ({"channels": (1.0, 2)}, "channels is 1.0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RowTransformer(**arguments)


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 1, 27, 28), (3, 3, 28, 28)])
def test_images_of_another_shape_are_refused(rows, shape):
    with pytest.raises(ValueError, match=r"this RowTransformer takes \(batch, 1, 28, 28\)"):
        rows(torch.zeros(shape))


def test_a_masked_network_comes_back_from_its_file(rows, tmp_path):
    prune.l1_unstructured(rows.blocks[1].up, "weight", 0.5)
    path = labkit.save_network(rows, tmp_path / "rows.pth", seed=3)
    again = labkit.load_network(path, "cpu", RowTransformer).eval()
    assert (again.width, again.heads, again.channels) == (8, (2, 1), (5, 7))
    assert torch.equal(again(IMAGES), rows(IMAGES))
    assert labkit.sparsity(again) == labkit.sparsity(rows) > 0
    assert labkit.load_metadata(path) == {"seed": 3}


def test_a_file_of_one_network_is_not_taken_for_the_other(rows, tiny, tmp_path):
    own, other = labkit.save_network(rows, tmp_path / "rows.pth"), labkit.save_network(tiny(), tmp_path / "cnn.pth")
    with pytest.raises(ValueError, match=r"rows\.pth holds no CNN, or is damaged: its architecture is {'width': 8"):
        labkit.load_network(own)
    with pytest.raises(ValueError, match=r"cnn\.pth holds no RowTransformer"):
        labkit.load_network(other, "cpu", RowTransformer)
    own, other = labkit.save_sparse(rows, tmp_path / "rows.lks"), labkit.save_sparse(tiny(), tmp_path / "cnn.lks")
    with pytest.raises(ValueError, match=r"rows\.lks is damaged: "):
        labkit.load_sparse(own)
    with pytest.raises(ValueError, match=r"cnn\.lks is damaged: it is no RowTransformer"):
        labkit.load_sparse(other, RowTransformer)


def test_a_sparse_file_rounds_weights_and_keeps_zeros(rows, tmp_path):
    for layer in labkit.prunable_layers(rows).values():
        prune.l1_unstructured(layer, "weight", 0.5)
    again = labkit.load_sparse(labkit.save_sparse(rows, tmp_path / "rows.lks"), RowTransformer)
    assert labkit.sparsity(again) >= labkit.sparsity(rows)
    assert torch.allclose(again(IMAGES), rows(IMAGES), atol=0.05)


def test_every_flipped_bit_of_a_sparse_file_is_noticed(rows, tmp_path):
    path = labkit.save_sparse(rows, tmp_path / "rows.lks")
    content = path.read_bytes()
    for place in range(0, len(content), 37):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"rows\.lks"):
            labkit.load_sparse(path, RowTransformer)


@pytest.mark.parametrize("use", [labkit.compile_sparse, labkit.remove_dead_channels, labkit.dead_channels])
def test_what_knows_the_cnn_only_refuses_it_by_name(rows, use):
    with pytest.raises(ValueError, match=r"the model is a RowTransformer; supported is labkit\.CNN"):
        use(rows)


def test_another_network_is_named_by_sparse_files(tmp_path):
    with pytest.raises(ValueError, match="the model is a Linear"):
        labkit.save_sparse(torch.nn.Linear(2, 2), tmp_path / "linear.lks")


class Softened(labkit.CNN):
    """Computes something else than the CNN that a file would give back."""

    def forward(self, x):
        return super().forward(x).softmax(dim=1)


def test_a_subclass_is_not_saved_as_what_it_is_not(tmp_path):
    with pytest.raises(ValueError, match="the model is a Softened"):
        labkit.save_sparse(Softened(channels=(2, 3, 4)), tmp_path / "softened.lks")
    assert not (tmp_path / "softened.lks").exists()


def test_the_labs_loops_train_it(rows, small):
    loader = small(64, 32, shuffle=True, seed=0)
    before, _ = labkit.evaluate(rows, loader)
    labkit.fine_tune(rows, loader, epochs=3, learning_rate=0.05, momentum=0.9)
    assert labkit.evaluate(rows, loader)[0] < before
