"""What weights tell of a pruning; the detective's cases; students' IDs and seeds; files of answers."""

import importlib
import json
import math
from functools import cache

import course_work
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

import labkit
from labkit import runtime
from labkit.course import answers, evidence, students
from labkit.course.cases import truth
from labkit.course.evidence import (
    ALL_LAYERS,
    CONVOLUTIONS,
    METHODS,
    SHAPES,
    Evidence,
    dense_weights,
    looks_random,
    preference,
)
from labkit.course.task import TASKS
from labkit.course.tasks.t09_mask_detective import judge_answers

cases_module = importlib.import_module("labkit.course.cases")  # labkit.course.cases is the function
# Contents of a JSON file that hold no object.
NO_OBJECTS = (b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\x00")


@cache
def reference():
    return labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")


@cache
def before():
    return dense_weights(reference())


def generator(seed):
    return torch.Generator().manual_seed(seed)


def random_zeros(shape, share, dice):
    count = math.prod(shape)
    zero = torch.zeros(count, dtype=torch.bool)
    zero[torch.randperm(count, generator=dice)[: round(share * count)]] = True
    return zero.view(shape)


# Preference


def test_preference_of_a_few_numbers_is_that_of_wilcoxon():
    scores = torch.tensor([10.0, 20.0, 30.0, 40.0])
    deviation = math.sqrt(2 * 2 * 5 / 12)
    assert preference(scores, torch.tensor([True, True, False, False])) == (3 - 5) / deviation
    assert preference(scores, torch.tensor([False, False, True, True])) == (7 - 5) / deviation
    assert preference(scores, torch.tensor([True, False, False, True])) == 0.0
    assert preference(scores, torch.zeros(4, dtype=torch.bool)) == 0.0
    assert preference(scores, torch.ones(4, dtype=torch.bool)) == 0.0


def test_preference_of_random_choices_has_no_heavier_tails_than_the_normal_distribution():
    N, k, draws, chunk = 288, 72, 200_000, 10_000
    dice, deviation = generator(0), math.sqrt(k * (N - k) * (N + 1) / 12)
    sums = torch.cat(
        [(torch.rand(chunk, N, generator=dice).topk(k).indices + 1).sum(dim=1) for _ in range(draws // chunk)]
    )
    z = (sums.double() - k * (N + 1) / 2) / deviation
    assert abs(float(z.mean())) < 0.01
    assert abs(float(z.std()) - 1) < 0.01
    for limit in (2, 3, 4):
        expected = draws * math.erfc(limit / math.sqrt(2))
        assert int((z.abs() > limit).sum()) <= expected + 3 * math.sqrt(expected)
    assert float(z.abs().max()) < evidence.limit_of_chance(tests=6)


def test_preference_agrees_with_the_sums_of_that_simulation():
    for seed in range(20):
        zero = random_zeros((288,), 0.25, generator(seed))
        ranks = torch.arange(1, 289)[zero].sum().item()
        assert preference(torch.arange(288), zero) == (ranks - 72 * 289 / 2) / math.sqrt(72 * 216 * 289 / 12)


def test_preference_of_random_choices_in_a_large_layer_is_standard_normal():
    dice, scores = generator(1), before()["conv2"].abs().flatten()
    z = torch.tensor([preference(scores, random_zeros(scores.shape, 0.25, dice)) for _ in range(500)])
    assert abs(float(z.mean())) < 0.15
    assert abs(float(z.std()) - 1) < 0.1
    assert int((z.abs() > 3).sum()) <= 5


@pytest.mark.parametrize("tests", [1, 6, 100])
def test_limit_of_chance_is_exceeded_once_in_a_million(tests):
    limit = evidence.limit_of_chance(tests)
    assert tests * math.erfc(limit / math.sqrt(2)) == pytest.approx(1e-6, rel=1e-6)


# Random or not


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_honest_random_masks_look_random(share):
    dice = generator(2)
    for _ in range(100):
        zero = {name: random_zeros(SHAPES[name], share, dice) for name in ("conv1", "conv2")}
        assert looks_random(before(), zero, ["conv1", "conv2"]) == ""
    for _ in range(5):
        zero = {name: random_zeros(SHAPES[name], share, dice) for name in CONVOLUTIONS}
        assert looks_random(before(), zero, CONVOLUTIONS) == ""


def test_three_thousand_random_masks_of_conv1_look_random():
    dice = generator(3)
    for _ in range(3_000):
        assert looks_random(None, {"conv1": random_zeros(SHAPES["conv1"], 0.25, dice)}, ["conv1"]) == ""


def lowest(scores, share=0.25):
    zero = torch.zeros(scores.numel(), dtype=torch.bool)
    zero[scores.flatten().argsort()[: round(share * scores.numel())]] = True
    return zero.view(scores.shape)


CHOICES = {
    "L1": (lambda weight: lowest(weight.abs()), "small weights were preferred"),
    "largest": (lambda weight: lowest(-weight.abs()), "large weights were preferred"),
    "first quarter": (lambda weight: lowest(torch.arange(weight.numel()).view(weight.shape)), "one end"),
    "last quarter": (lambda weight: lowest(-torch.arange(weight.numel()).view(weight.shape)), "one end"),
    "mostly small": (lambda weight: lowest(weight.abs() * torch.rand(weight.shape, generator=generator(4))), "small"),
    "channels by L2": (
        lambda weight: lowest(evidence.channel_norms(weight))[:, None, None, None].expand_as(weight),
        "conv",
    ),
    "random channels": (
        lambda weight: random_zeros((len(weight),), 0.25, generator(4))[:, None, None, None].expand_as(weight),
        "conv",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", ["conv2", "conv3"])
def test_choices_that_are_not_random_are_told(choice, name):
    choose, words = CHOICES[choice]
    why = looks_random(before(), {name: choose(before()[name])}, [name])
    assert why.startswith(f"{name}: ")
    assert words in why


@pytest.mark.parametrize("seed", range(5))
def test_mask_drawn_with_the_seed_of_the_training_keeps_its_points_and_carries_a_flag(seed):
    labkit.set_seed(seed)
    network = labkit.CNN()
    known = {"CNN_MNIST": dense_weights(labkit.clone(network))}
    labkit.set_seed(seed)
    for name in CONVOLUTIONS:
        prune.random_unstructured(getattr(network, name), "weight", 0.25)
    verdict = TASKS["02-network"].judge(network, Evidence(known))
    assert verdict.points == 4
    assert len(verdict.flags) == 1
    assert "made with the training's seed" in verdict.flags[0]


@pytest.mark.parametrize("seed", range(1, 11))
def test_mask_drawn_with_another_seed_carries_no_flag(seed):
    verdict = TASKS["02-network"].judge(
        course_work.at_random(reference(), seed=100 + seed), Evidence({"CNN_MNIST": before()})
    )
    assert verdict.points == 4
    assert list(verdict.flags) == []


# Reading


def test_reading_names_the_network_that_it_came_from():
    other = labkit.load_network(runtime.reference_dir() / "CNN_MNIST_seed1.pth")
    candidates = {"mine": dense_weights(other), "reference": before()}
    found = evidence.read_pruning(course_work.globally(reference()), candidates)
    assert found.origin == "reference"
    assert found.zeros() == 31_112
    assert found.weights() == 124_448
    assert torch.equal(found.before["fc"], before()["fc"])


def test_reading_without_candidates_knows_what_the_masks_keep():
    masked = course_work.pruned(reference(), prune.l1_unstructured, amount=0.25)
    found = evidence.read_pruning(masked, {})
    assert found.origin == ""
    assert torch.equal(found.before["conv2"], before()["conv2"])
    for name in CONVOLUTIONS:
        prune.remove(getattr(masked, name), "weight")
    assert evidence.read_pruning(masked, {}).before is None


def test_candidate_of_other_widths_is_passed_over():
    small = dense_weights(labkit.CNN(channels=(4, 6, 8)))
    found = evidence.read_pruning(course_work.globally(reference()), {"small": small, "reference": before()})
    assert found.origin == "reference"


def test_unpruned_network_is_called_so():
    assert evidence.name_method(evidence.read_pruning(reference(), {"reference": before()})) == "not pruned"


@pytest.mark.parametrize("remove", [False, True])
def test_every_method_is_named_from_the_weights(remove):
    labkit.set_seed(11)
    made = {
        "random": course_work.pruned(reference(), prune.random_unstructured, amount=0.25),
        "local L1": course_work.pruned(reference(), prune.l1_unstructured, amount=0.25),
        "global L1": course_work.globally(reference()),
        "structured L2": course_work.pruned(reference(), prune.ln_structured, amount=0.25, n=2, dim=0),
        "structured L1": course_work.pruned(reference(), prune.ln_structured, amount=0.25, n=1, dim=0),
        "random structured": course_work.pruned(reference(), prune.random_structured, amount=0.25, dim=0),
    }
    assert set(made) == set(METHODS)
    for method, network in made.items():
        for name in ALL_LAYERS:
            if remove and prune.is_pruned(getattr(network, name)):
                prune.remove(getattr(network, name), "weight")
        assert evidence.name_method(evidence.read_pruning(network, {"reference": before()})) == method


# The detective's cases


def test_same_seed_gives_the_same_cases():
    first, second = cases_module.cases(12), cases_module.cases(12)
    for one, other in zip(first, second, strict=True):
        for a, b in ((one.before, other.before), (one.after, other.after)):
            assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


@pytest.mark.slow
def test_truth_is_what_was_drawn(monkeypatch):
    drawn, cut = [], cases_module._prune

    def noted(network, method, *rest):
        drawn.append(method)
        cut(network, method, *rest)

    monkeypatch.setattr(cases_module, "_prune", noted)
    monkeypatch.setattr(cases_module, "load_network", cache(labkit.load_network))
    seen = set()
    for seed in range(30):
        drawn.clear()
        some = cases_module.cases(seed)
        assert len(some) == 6
        assert set(METHODS[:4]) <= set(drawn) <= set(METHODS)
        assert truth(some) == drawn
        assert judge_answers(TASKS["09-detective"], truth(some), truth(some)).points == 6
        seen |= set(drawn)
    assert seen == set(METHODS)


@pytest.mark.slow
def test_fresh_cases_have_each_method_twice_at_least_and_are_always_the_same():
    for seed in range(5):
        some = cases_module.fresh_cases(seed)
        found = truth(some)
        assert len(found) == 20
        assert all(sum(method in right for right in found) >= 2 for method in METHODS)
        assert set(found) == set(METHODS)  # no network that two methods explain
        assert truth(cases_module.fresh_cases(seed)) == found
        assert all(labkit.sparsity(case.before) == 0 for case in some)
    assert len({tuple(truth(cases_module.fresh_cases(seed))) for seed in range(5)}) == 5


def test_cases_of_neighbouring_seeds_differ():
    assert len({tuple(truth(cases_module.cases(seed))) for seed in range(5)}) == 5


def test_case_is_pruned_and_its_start_is_dense():
    for case in cases_module.cases(3):
        assert labkit.sparsity(case.before) == 0
        assert 0.1 < labkit.sparsity(case.after) <= 0.5
        assert torch.equal(case.before.fc.bias, case.after.fc.bias)


# Students


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("ab12", "ab12"),
        ("  AB12\n", "ab12"),
        ("\u00a0ab12\u00a0", "ab12"),
        ("ＡＢ１２", "ab12"),
        ("Anna.Meier@Example.org", "anna.meier@example.org"),
        ("Žofie", "žofie"),
        ("Straße", "strasse"),
        ("7", "7"),
        ("a" * 64, "a" * 64),
        ("a+b-c_d", "a+b-c_d"),
    ],
)
def test_id_has_one_way_of_writing(told, kept):
    assert students.checked_id(told) == kept


@pytest.mark.parametrize(
    "told",
    [
        "",
        "   ",
        "a b",
        "a/b",
        "a\\b",
        "..",
        "../x",
        ".hidden",
        "-rf",
        "+a",
        "@a",
        "a" * 65,
        "a\x00b",
        "a\nb",
        "a\u202eb",
        "\u2066a",
        "a\u200bb",
        "a:b",
        "a*b",
        "<b>",
        "a,b",
        "🙂",
        None,
        3,
        b"ab12",
        ["ab12"],
        True,
    ],
)
def test_what_is_no_id_is_refused(told):
    with pytest.raises(ValueError, match="an ID is 1 to 64 letters"):
        students.checked_id(told)


def test_refusal_is_short_however_long_the_id():
    with pytest.raises(ValueError, match="student is") as caught:
        students.checked_id("x" * 10_000)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=70))
@settings(max_examples=300)
def test_id_that_was_accepted_stays_as_it_is(text):
    try:
        kept = students.checked_id(text)
    except ValueError:
        return
    assert students.checked_id(kept) == kept
    assert 1 <= len(kept) <= 64
    assert not set(kept) & set('/\\ \n\t:*?"<>|')


def test_seeds_differ_between_students_and_courses_and_are_in_range():
    seeds = {students.seed_of(f"student{n}", salt) for n in range(500) for salt in ("one", "two")}
    assert len(seeds) == 1_000
    assert all(1 <= seed <= 2**31 - 1 for seed in seeds)
    assert len({students.seed_of("ab12", salt) for salt in ("", " ", "a", "A")}) == 4


def test_seed_belongs_to_the_student_however_the_id_is_written():
    assert students.seed_of(" AB12 ", "salt") == students.seed_of("ab12", "salt")
    with pytest.raises(ValueError, match="an ID is"):
        students.seed_of("", "salt")


def test_salt_and_id_can_not_be_mixed_up():
    assert students.seed_of("a", "salt\nb") != students.seed_of("b", "salt\na")


def test_who_signs_in_is_remembered(capsys):
    assert (students.who(), students.seed()) == ("", 0)
    students.sign_in("  AB12 ")
    seed = students.seed_of("ab12", students.salt())
    assert (students.who(), students.seed()) == ("ab12", seed)
    assert capsys.readouterr().out == f"ab12: your seed is {seed}\n"
    students.sign_in()
    assert students.who() == "ab12"
    students.sign_in("")
    assert students.who() == "ab12"
    students.sign_in("cd34")
    assert students.who() == "cd34"
    assert json.loads((runtime.models_dir() / "student.json").read_text()) == {"student": "cd34"}


def test_nobody_uses_seed_zero(capsys):
    students.sign_in()
    assert capsys.readouterr().out == "no ID: seed 0 is used, the authors' seed\n"
    assert not (runtime.models_dir() / "student.json").exists()


@pytest.mark.parametrize("told", ["a/b", "..", "x" * 65, 3, ["ab12"]])
def test_wrong_id_is_told_and_changes_nothing(told, capsys):
    students.sign_in("ab12")
    capsys.readouterr()
    students.sign_in(told)
    assert capsys.readouterr().out.startswith("✗ student is ")
    assert students.who() == "ab12"


def test_signing_in_after_the_training_says_to_train_again(capsys):
    labkit.save_network(labkit.CNN(), "CNN_MNIST", seed=5)
    students.sign_in("ab12")
    assert "your CNN_MNIST was trained with seed 5: run the cell of SEED and train it again" in capsys.readouterr().out
    labkit.save_network(labkit.CNN(), "CNN_MNIST", seed=students.seed())
    students.sign_in()
    assert "train it again" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        *NO_OBJECTS,
        b"{}",
        b'{"student": 3}',
        b'{"student": "../x"}',
        b'"ab12"',
        b"[" * 100_000,
    ],
    ids=lambda content: str(content[:12]),
)
def test_damaged_student_file_is_nobody(content):
    path = runtime.models_dir() / "student.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert (students.who(), students.seed()) == ("", 0)
    students.sign_in("ab12")
    assert students.who() == "ab12"


# Files of answers


def content(task):
    return torch.load(answers.answer_path(task), weights_only=True)


def test_answer_file_says_what_it_is():
    answers.save_answer("03-masks", {"conv1": torch.ones(2)}, before())
    found = content("03-masks")
    assert set(found) == {"format", "task", "value", "base"}
    assert (found["format"], found["task"]) == ("labkit answer 1", "03-masks")
    assert found["base"] == answers.fingerprint(before())
    answers.save_answer("02-mask", torch.ones(2))
    assert content("02-mask")["base"] == ""


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32, torch.float64, torch.float16, torch.uint8])
def test_masks_are_kept_as_bytes(kind):
    mask = torch.tensor([[0, 1], [1, 1]]).to(kind)
    answers.save_answer("02-mask", mask)
    kept = content("02-mask")["value"]
    assert kept.dtype == torch.uint8
    assert kept.tolist() == [[0, 1], [1, 1]]


def test_tensors_of_other_values_are_kept_as_they_are():
    values = torch.tensor([0.5, math.nan, -1.0], requires_grad=True)
    answers.save_answer("02-mask", values)
    kept = content("02-mask")["value"]
    assert torch.equal(kept.nan_to_num(7), values.detach().nan_to_num(7))
    assert not kept.requires_grad


def test_a_part_of_a_large_tensor_is_kept_without_the_rest():
    for large in (torch.ones(1_000_000, dtype=torch.uint8), torch.full((1_000_000,), 0.5)):
        answers.save_answer("02-mask", large[:10])
        assert answers.answer_path("02-mask").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3),
        (True, True),
        (0.5, 0.5),
        (None, None),
        ("x" * 500, "x" * 200),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(7), 7),
        (np.str_("random"), "random"),
        (1e20, None),
        (10**400, None),
        (math.inf, None),
        (math.nan, None),
        (object(), None),
        (1j, None),
        (b"bytes", None),
        ((1, "a", None), [1, "a", None]),
        (list(range(150)), list(range(100))),
        ({"k" * 90: 1, 5: object()}, {"k" * 40: 1, "5": None}),
        (dict.fromkeys(range(150), 1), {str(n): 1 for n in range(100)}),
        ({"conv1": {"a": [np.int64(1)]}}, {"conv1": {"a": [1]}}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_plain_values_are_kept_and_all_else_is_cut_down(value, kept):
    answers.save_answer("01-work", value)
    found = content("01-work")["value"]
    assert found == kept
    assert type(found) is type(kept)


def test_number_of_numpy_that_python_lacks_is_dropped_or_kept_plain():
    answers.save_answer("01-prediction", np.longdouble(0.5))
    assert content("01-prediction")["value"] in (None, 0.5)


def test_own_kind_of_tensor_is_kept_as_a_plain_one():
    class Mine(torch.Tensor):
        pass

    for values in ([0.0, 1.0], [0.5, 1.0]):
        answers.save_answer("02-mask", torch.tensor(values).as_subclass(Mine))
        assert type(content("02-mask")["value"]) is torch.Tensor


def test_answer_is_written_whole_or_not_at_all(monkeypatch):
    answers.save_answer("01-prediction", 1)

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        answers.save_answer("01-prediction", 2)
    assert content("01-prediction")["value"] == 1
    assert [path.name for path in answers.answer_path("x").parent.iterdir()] == ["01-prediction.pth"]


def test_fingerprint_tells_networks_apart_and_not_the_order_of_layers():
    turned = dict(reversed(before().items()))
    other = before() | {"conv1": before()["conv1"] + 1e-3}
    assert answers.fingerprint(turned) == answers.fingerprint(before())
    assert answers.fingerprint(other) != answers.fingerprint(before())
    assert answers.fingerprint(dense_weights(course_work.globally(reference()))) == answers.fingerprint(before())


# Points so far

FULL = answers.Reached(4, 4, attempted=True)


def test_points_are_kept_task_by_task_in_the_order_of_the_tasks():
    assert answers.points_so_far() == {}
    answers.keep_points("03-network", FULL)
    answers.keep_points("01-work", answers.Reached(0.5, 2, attempted=True))
    answers.keep_points("02-mask", answers.Reached(0, 2, attempted=False))
    answers.keep_points("03-network", answers.Reached(1, 4, attempted=True))
    found = answers.points_so_far()
    assert list(found) == ["01-work", "02-mask", "03-network"]
    assert found["03-network"] == answers.Reached(1, 4, attempted=True)
    assert json.loads(answers.points_path().read_text())["01-work"] == {"points": 0.5, "of": 2, "attempted": True}


@pytest.mark.parametrize(
    "content",
    [
        *NO_OBJECTS,
        b"[" * 100_000,
        b'{"03-network": 4}',
        b'{"03-network": {"points": "4", "of": 4, "attempted": true}}',
        b'{"03-network": {"points": NaN, "of": 4, "attempted": true}}',
        b'{"03-network": {"points": 4, "of": 4, "attempted": 1}}',
        b'{"03-network": {"points": 4, "of": 4, "attempted": true, "more": 1}}',
        b'{"another": {"points": 4, "of": 4, "attempted": true}}',
    ],
    ids=lambda content: str(content[:60]),
)
def test_damaged_points_are_none(content):
    answers.points_path().parent.mkdir(parents=True)
    answers.points_path().write_bytes(content)
    assert answers.points_so_far() == {}
    answers.keep_points("03-network", FULL)
    assert answers.points_so_far() == {"03-network": FULL}


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"text"])
def test_answer_that_is_not_there_or_damaged_is_none(content):
    if content is not None:
        answers.answer_path("09-detective").parent.mkdir(parents=True)
        answers.answer_path("09-detective").write_bytes(content)
    assert answers.kept_answer("09-detective") is None
