import pytest
import torch

import labkit

SCORES = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])  # classes 1, 0, 1, 0


@pytest.mark.parametrize(
    ("truth", "share"), [([1, 0, 1, 0], 1.0), ([1, 0, 1, 1], 0.75), ([1, 1, 0, 1], 0.25), ([0, 1, 0, 1], 0.0)]
)
def test_accuracy_is_the_share_of_hits(truth, share):
    assert labkit.AccuracyMetric()(SCORES, torch.tensor(truth)).item() == share


def test_accuracy_is_the_same_for_logits_and_probabilities():
    labkit.set_seed(1)
    logits, truth = torch.randn(100, 10), torch.randint(0, 10, (100,))
    metric = labkit.AccuracyMetric()
    assert metric(logits, truth) == metric(logits.softmax(dim=1), truth)


def test_accuracy_times_the_batch_is_a_whole_number_again():
    for batch in range(1, 200):
        hits = torch.arange(batch) % 3 == 0
        scores = torch.stack([~hits, hits], dim=1).float()
        accuracy = labkit.AccuracyMetric()(scores, torch.ones(batch, dtype=torch.int64))
        assert float(accuracy) * batch == pytest.approx(int(hits.sum()), abs=1e-12)


def test_accuracy_has_no_gradient():
    scores = SCORES.clone().requires_grad_()
    accuracy = labkit.AccuracyMetric()(scores, torch.tensor([1, 0, 1, 0]))
    assert not accuracy.requires_grad
    assert accuracy.shape == ()


@pytest.mark.parametrize(
    ("predictions", "labels"), [((4,), (4,)), ((4, 2), (3,)), ((4, 2), (4, 2)), ((0, 2), (0,)), ((4, 2), ())]
)
def test_shapes_that_do_not_fit_are_refused_and_shown(predictions, labels):
    with pytest.raises(ValueError, match=r"must be \(batch, classes\) and \(batch,\)") as error:
        labkit.AccuracyMetric()(torch.zeros(predictions), torch.zeros(labels, dtype=torch.int64))
    assert str(predictions) in str(error.value)
    assert str(labels) in str(error.value)


def test_a_metric_without_a_formula_can_not_be_made():
    with pytest.raises(TypeError, match="abstract"):
        labkit.BaseMetric()
