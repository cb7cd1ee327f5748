"""Pruning golf: what counts, what is refused, and that a board is never lost."""

import csv
import hashlib
import io
import json
import os
import re
import signal
import string
import subprocess
import sys
import unicodedata
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import seeded
from torch.nn.utils import prune
from typer.testing import CliRunner

import labkit
from labkit import cli, data, runtime
from labkit.course import golf, release, report, students
from labkit.course.golf import Score, Transform
from labkit.smaller import cost, sparse_file

SALT = "tests"
FRONTIER = runtime.reference_dir() / "frontier"
FEW = 200
# For processes of their own: few images as they are, no figure, and no networks of the project.
SETUP = f"""
import sys
from pathlib import Path
from labkit.course import golf
load = golf.load_images
golf.load_images = lambda *arguments, **options: tuple(part[:{FEW}] for part in load(*arguments, **options))
golf.frontier_files = list
golf._figure = lambda scores: '<svg></svg>'
golf.transformed = lambda images, transform: images
file, board = Path(sys.argv[1]), Path(sys.argv[2])
"""


def committed(weights):
    (path,) = FRONTIER.glob(f"MNIST_lamp-global-gradual_{weights}_e12_s0.lks")
    return path


@pytest.fixture
def _few_images(monkeypatch):
    images, labels = data.load_images("MNIST", train=False)
    monkeypatch.setattr(golf, "load_images", lambda *_, **__: (images[:FEW], labels[:FEW]))


@pytest.fixture
def _nobody_else(monkeypatch):
    """A new board starts empty: nothing of the project's own has to be scored."""
    monkeypatch.setattr(golf, "frontier_files", list)


@pytest.fixture
def _no_figure(monkeypatch):
    monkeypatch.setattr(golf, "_figure", lambda _: "<svg></svg>")


quick = pytest.mark.usefixtures("_few_images", "_nobody_else", "_no_figure")


@pytest.fixture
def file(tmp_path):
    """A sparse file that can be read fast."""
    return labkit.save_sparse(seeded(), tmp_path / "mine.lks")


def another(tmp_path, seed):
    """Another network with as many weights, whatever rounding makes zero."""
    return labkit.save_sparse(seeded(seed=seed), tmp_path / f"another{seed}.lks")


def grown(tmp_path):
    """A file that a player may hand in: the project's network with 2,000 weights, one of them a little larger."""
    network = labkit.load_sparse(committed(2_000))
    with torch.no_grad():
        weights = network.fc.weight[0]
        weights[weights.abs().argmax()] *= 1.05
    return labkit.save_sparse(network, tmp_path / "grown.lks")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "golf.lock"}


def made(player="ada", weights=2_000, accuracy=0.98, network="0" * 16, size=5_000):
    return Score(player, weights, size, accuracy, network, golf.course_of(SALT))


# The transform


@given(st.text())
def test_transform_is_small_and_always_the_same_for_a_course(salt):
    found = golf.transform_of(salt)
    assert -8 <= found.degrees <= 8
    assert {found.right, found.down} <= {-1, 0, 1}
    assert (type(found.right), type(found.down)) == (int, int)
    assert found == golf.transform_of(salt)


def test_courses_draw_all_kinds_of_transforms():
    found = [golf.transform_of(f"course {number}") for number in range(400)]
    assert len({(one.right, one.down) for one in found}) == 9
    degrees = np.array([one.degrees for one in found])
    assert len(set(degrees)) > 300
    assert degrees.min() < -7.5
    assert degrees.max() > 7.5
    assert abs(degrees.mean()) < 1


def test_courses_name_does_not_tell_its_salt_and_differs_from_others():
    names = {golf.course_of(f"course {number}") for number in range(400)}
    assert len(names) == 400
    assert all(re.fullmatch("[0-9a-f]{8}", name) for name in names)
    assert golf.course_of("secret") != hashlib.sha256(b"secret").hexdigest()[:8]


def dot(row, column, side=28):
    image = torch.zeros(1, 1, side, side)
    image[0, 0, row, column] = 1
    return image


def bright(image):
    """Row and column of the brightest pixel."""
    return divmod(int(image[0, 0].argmax()), image.shape[-1])


@pytest.mark.parametrize(
    ("transform", "place"),
    [
        (Transform(0, 0, 0), (5, 14)),
        (Transform(0, 1, 0), (5, 15)),  # right
        (Transform(0, -1, 0), (5, 13)),
        (Transform(0, 0, 1), (6, 14)),  # down
        (Transform(0, 0, -1), (4, 14)),
        # About the centre, between pixels 13 and 14: from the top to the left, counter-clockwise.
        (Transform(90, 0, 0), (13, 5)),
        (Transform(-90, 0, 0), (14, 22)),
        (Transform(180, 0, 0), (22, 13)),
        # Turned first, then shifted: the other way round the first would come to (12, 5).
        (Transform(90, 1, 0), (13, 6)),
        (Transform(90, 0, 1), (14, 5)),
    ],
    ids=str,
)
def test_bright_pixel_moves_where_the_transform_says(transform, place):
    assert bright(golf.transformed(dot(5, 14), transform)) == place


def test_small_turn_goes_counter_clockwise_too():
    turned = golf.transformed(dot(2, 14), Transform(8, 0, 0))
    columns = turned[0, 0].sum(dim=0)
    assert (columns * torch.arange(28)).sum() / columns.sum() < 13  # what was on top went to the left


def test_transform_of_nothing_leaves_the_images_as_they_are():
    images, _ = data.load_images("MNIST", train=False)
    images = images[:50].unsqueeze(1).float() / 255
    assert (golf.transformed(images, Transform(0, 0, 0)) - images).abs().max() < 1e-5


def naively_transformed(image, transform):
    """Each new pixel from where it comes from: shift back, turn back, four neighbours, black outside."""
    side, angle = len(image), np.deg2rad(transform.degrees)
    centre, made = (side - 1) / 2, np.zeros_like(image)
    padded = np.pad(image, 30)
    for row in range(side):
        for column in range(side):
            x, y = column - centre - transform.right, centre - (row - transform.down)  # y points up
            x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)  # clockwise, back
            r, c = centre - y + 30, x + centre + 30
            r0, c0 = int(np.floor(r)), int(np.floor(c))
            dr, dc = r - r0, c - c0
            upper = (1 - dc) * padded[r0, c0] + dc * padded[r0, c0 + 1]
            lower = (1 - dc) * padded[r0 + 1, c0] + dc * padded[r0 + 1, c0 + 1]
            made[row, column] = (1 - dr) * upper + dr * lower
    return made


@pytest.mark.parametrize("transform", [Transform(8, 1, -1), Transform(-6.86, -1, 0), Transform(3.3, 0, 1)], ids=str)
def test_transform_equals_a_naive_one(transform):
    images, _ = data.load_images("MNIST", train=False)
    images = images[:5].unsqueeze(1).float() / 255
    found = golf.transformed(images, transform)
    for number in range(5):
        wanted = naively_transformed(images[number, 0].double().numpy(), transform)
        assert np.abs(found[number, 0].numpy() - wanted).max() < 1e-4


# The score


@quick
def test_score_equals_an_independent_computation(tmp_path):
    path = grown(tmp_path)
    found = golf.score(path, " ada ", SALT)
    network, content = labkit.load_sparse(path), path.read_bytes()
    images, labels = data.load_images("MNIST", train=False)
    transform, right = golf.transform_of(SALT), 0
    for image, label in zip(images[:FEW], labels[:FEW], strict=True):
        seen = naively_transformed(image.double().numpy() / 255, transform)
        with torch.no_grad():
            right += int(network(torch.tensor(seen, dtype=torch.float32)[None, None]).argmax()) == int(label)
    weights = sum(
        int(np.count_nonzero(tensor.numpy()))
        for key, tensor in network.state_dict().items()
        if re.fullmatch(r"(conv\d|fc)\.weight", key)
    )
    assert (found.player, found.weights, found.bytes) == ("ada", weights, len(content))
    assert 1_990 <= found.weights <= 2_000  # a larger scale rounds small weights to zero
    assert (found.network, found.course) == (hashlib.sha256(content).hexdigest()[:16], golf.course_of(SALT))
    assert abs(found.accuracy - right / FEW) <= 1 / FEW  # the naive transform may differ in a last digit
    assert found.accuracy > 0.9


@pytest.mark.slow
def test_score_counts_all_ten_thousand_images(tmp_path):
    found = golf.score(grown(tmp_path), "ada", SALT)
    assert found.accuracy * 10_000 == pytest.approx(round(found.accuracy * 10_000), abs=1e-6)
    assert 0.97 < found.accuracy < 0.99


@quick
def test_score_is_the_same_again_and_another_course_sees_other_images(file, tmp_path):
    assert golf.score(file, "ada", SALT) == golf.score(file, "ada", SALT)
    path = grown(tmp_path)
    some = {golf.score(path, "ada", f"course {number}").accuracy for number in range(5)}
    assert len(some) > 1


@quick
def test_weights_are_those_that_are_left_after_masks_and_rounding(tmp_path):
    network = seeded()
    prune.l1_unstructured(network.conv2, "weight", 0.5)
    with torch.no_grad():
        network.fc.weight[:, 0] = 1e-9  # rounded to zero in the file
    found = golf.score(labkit.save_sparse(network, tmp_path / "x.lks"), "ada", SALT)
    stored = labkit.load_sparse(tmp_path / "x.lks")
    layers = [getattr(stored, name).weight for name in ("conv1", "conv2", "conv3", "fc")]
    assert found.weights == sum(int((weight != 0).sum()) for weight in layers)
    assert found.weights <= sum(weight.numel() for weight in layers) - stored.conv2.weight.numel() // 2 - 10


@quick
@pytest.mark.parametrize(
    ("shape", "classes"), [((3, 28, 28), 10), ((1, 32, 32), 10), ((1, 28, 20), 10), ((1, 28, 28), 2)]
)
def test_network_for_other_images_is_refused(shape, classes, tmp_path):
    path = labkit.save_sparse(seeded((4, 6, 8), shape, classes), tmp_path / "x.lks")
    with pytest.raises(ValueError, match=r"is for images \(\d, \d\d, \d\d\) and \d+ classes; golf is played with"):
        golf.submit(path, "ada", SALT, tmp_path / "board")


@quick
def test_network_of_any_widths_may_play(tmp_path):
    path = labkit.save_sparse(seeded((1, 1, 200)), tmp_path / "x.lks")
    assert golf.score(path, "ada", SALT).weights > 1_000


@quick
@pytest.mark.parametrize("channels", [(65_535, 1, 1), (1, 1_000, 600), (32, 64, 700), (64, 128, 128)])
def test_network_that_costs_more_than_twice_the_dense_one_is_refused_before_it_computes(
    channels, tmp_path, monkeypatch
):
    def never(*_):
        raise AssertionError("it computes")

    with torch.device("meta"):
        network = labkit.CNN(channels=channels)
    zeros = {key: torch.zeros(tensor.shape, dtype=tensor.dtype) for key, tensor in network.state_dict().items()}
    network.load_state_dict(zeros, assign=True)
    monkeypatch.setattr(labkit.CNN, "forward", never)
    path = labkit.save_sparse(network, tmp_path / "wide.lks")
    words = rf"channels \({', '.join(map(str, channels))}\), [\d,]+ multiply-adds .* at most 11,427,328 are allowed"
    with pytest.raises(ValueError, match=words):
        golf.submit(path, "ada", SALT, tmp_path / "board")


@pytest.mark.parametrize("channels", [(32, 64, 128), (1, 1, 200), (7, 4, 51), (3, 50, 2)])
def test_multiply_adds_are_those_of_the_ledger(channels):
    wanted = sum(layer.multiply_adds for layer in cost.multiply_adds(labkit.CNN(channels=channels)))
    assert golf._multiply_adds(channels) == wanted


@quick
def test_network_whose_answers_are_not_numbers_is_refused(tmp_path, board):
    network = seeded()
    with torch.no_grad():
        network.batch1.running_var[0] = -1  # its root is none
    path = labkit.save_sparse(network, tmp_path / "x.lks")
    before = contents(board)
    with pytest.raises(ValueError, match=rf"x\.lks .*its answers to {FEW} of {FEW} images are not numbers"):
        golf.submit(path, "eve", SALT, board)
    assert contents(board) == before


@quick
def test_answers_that_overflow_are_not_numbers_either(tmp_path):
    network = seeded()
    with torch.no_grad():
        network.fc.weight *= 1e37
        network.batch3.weight *= 1e4
    with pytest.raises(ValueError, match=r"its answers to \d+ of 200 images are not numbers"):
        golf.score(labkit.save_sparse(network, tmp_path / "x.lks"), "ada", SALT)


@quick
def test_logits_count_that_would_tie_as_probabilities(tmp_path):
    network = seeded()
    with torch.no_grad():
        network.fc.bias.zero_()
    wanted = golf.score(labkit.save_sparse(network, tmp_path / "plain.lks"), "ada", SALT)
    with torch.no_grad():
        network.fc.weight *= 2.0**-40
    found = golf.score(labkit.save_sparse(network, tmp_path / "tiny.lks"), "ada", SALT)
    assert found.accuracy == wanted.accuracy
    logits = network(torch.zeros(1, 1, 28, 28))
    assert len(logits.unique()) == 10
    assert len(logits.softmax(dim=1).unique()) == 1


# The project's own networks

COMMITTED = sorted(path.name for path in golf.committed_files())


def test_all_committed_sparse_files_are_known():
    assert {"MNIST_dense_124448_e12_s3.lks", "careful_0.lks", "least_2.lks"} <= set(COMMITTED)
    assert {path.name for path in golf.frontier_files()} <= set(COMMITTED)
    assert len(COMMITTED) == len(list(runtime.reference_dir().rglob("*.lks")))


@quick
@pytest.mark.parametrize("name", COMMITTED[::10])
def test_network_of_the_project_is_refused_from_a_player_also_under_another_name(name, tmp_path):
    (path,) = (own for own in golf.committed_files() if own.name == name)
    copy = tmp_path / "mine.lks"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=rf"mine\.lks has the weights of {re.escape(name)}"):
        golf.submit(copy, "ada", SALT, tmp_path / "board")
    assert contents(tmp_path / "board") == {}


@quick
def test_network_of_the_project_is_refused_where_only_what_does_not_count_was_changed(tmp_path):
    network = labkit.load_sparse(committed(2_000))
    with torch.no_grad():
        network.fc.bias += 0.01
        network.fc.weight *= 1 + 2**-23
    path = labkit.save_sparse(network, tmp_path / "mine.lks")
    assert path.read_bytes() != committed(2_000).read_bytes()
    with pytest.raises(ValueError, match=f"has the weights of {committed(2_000).name}"):
        golf.score(path, "ada", SALT)


@quick
def test_network_that_was_made_from_the_projects_is_the_players_own(tmp_path):
    assert golf.score(grown(tmp_path), "ada", SALT).player == "ada"


# Files that are no networks


def truncated(content):
    return content[: len(content) // 2]


def one_bit_changed(content):
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def too_large(_):
    content = sparse_file.SIZES.pack(1, 28, 28, 10, 60_000, 60_000, 60_000, 8)
    packed = sparse_file.lzma.compress(content, format=sparse_file.lzma.FORMAT_RAW, filters=sparse_file.FILTERS)
    return sparse_file.SIGNATURE + sparse_file.zlib.crc32(packed).to_bytes(4, "little") + packed


def with_something_behind(content):
    return content + b"\0"


BROKEN = {
    "empty": (lambda _: b"", "is not a sparse file of labkit"),
    "text": (lambda _: b"a network", "is not a sparse file of labkit"),
    "signature only": (lambda content: content[:4], "is damaged or truncated"),
    "truncated": (truncated, "is damaged or truncated"),
    "one bit changed": (one_bit_changed, "is damaged or truncated"),
    "longer": (with_something_behind, "is damaged or truncated"),
    "too large": (too_large, "at most 20,000,000 are read"),
    "a zip": (lambda _: b"PK\3\4" + bytes(200), "is not a sparse file of labkit"),
}


@pytest.fixture
def board(tmp_path, file):
    """A board with two players on it."""
    golf.submit(file, "ada", SALT, tmp_path / "board")
    golf.submit(another(tmp_path, 1), "bob", SALT, tmp_path / "board")
    return tmp_path / "board"


@quick
@pytest.mark.parametrize("kind", BROKEN)
def test_file_that_is_no_network_is_refused_and_the_board_stays_as_it_was(kind, file, board, tmp_path):
    change, words = BROKEN[kind]
    (tmp_path / "bad.lks").write_bytes(change(file.read_bytes()))
    before = contents(board)
    with pytest.raises(ValueError, match=words):
        golf.submit(tmp_path / "bad.lks", "eve", SALT, board)
    assert contents(board) == before
    with pytest.raises(ValueError, match=words):
        golf.submit(tmp_path / "bad.lks", "eve", SALT, tmp_path / "new")
    assert contents(tmp_path / "new") == {}


@quick
def test_file_that_is_not_there_is_told_and_the_board_stays_as_it_was(board, tmp_path):
    before = contents(board)
    for path in (tmp_path / "nowhere.lks", tmp_path, board):
        with pytest.raises(FileNotFoundError, match="is no file"):
            golf.submit(path, "eve", SALT, board)
    assert contents(board) == before


@quick
def test_huge_file_is_refused_without_being_read_whole(board, tmp_path):
    before = contents(board)
    with (tmp_path / "huge.lks").open("wb") as huge:
        huge.write(sparse_file.SIGNATURE)
        huge.truncate(2**35)  # takes no place on the disk
    with pytest.raises(ValueError, match="is damaged or truncated"):
        golf.submit(tmp_path / "huge.lks", "eve", SALT, board)
    assert contents(board) == before


# Names

NO_NAMES = {
    "empty": "",
    "blank": " \t\n ",
    "no-break space": "\u00a0",
    "65 letters": "x" * 65,
    "too long in its one way of writing": "\ufdfa" * 4,  # 18 characters each
    "only signs": "-.;!",
    "only a smile": "🏌⛳",
    "a novel": "x" * 1_000_000,
    "line break": "ada\nbob",
    "carriage return": "ada\rbob",
    "nul": "ada\0",
    "escape": "\x1b[31mada",
    "bell": "a\ada",
    "right to left override": "ada\u202elks.exe",
    "isolate": "\u2067ada",
    "zero width": "a\u200bda",
    "byte order mark": "\ufeffada",
    "line separator": "ada\u2028bob",
    "half a pair": "ada\ud800",
    "private use": "\ue000",
}


@quick
@pytest.mark.parametrize("kind", NO_NAMES)
def test_name_that_can_not_be_shown_is_refused_in_few_words(kind, file, board):
    before = contents(board)
    with pytest.raises(ValueError, match="it must be 1 to 64 printable characters") as caught:
        golf.submit(file, NO_NAMES[kind], SALT, board)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()
    assert contents(board) == before


UNSEEN = {
    "variation selector": "ada\ufe0f",
    "another variation selector": "ada\U000e0100",
    "grapheme joiner": "a\u034fda",
    "Hangul filler": "\u3164",
    "half width Hangul filler": "ada\uffa0",
    "Hangul initial filler": "ada\u115f",
    "Braille blank": "ada\u2800",
    "Khmer vowel": "ada\u17b4",
    "Mongolian selector": "ada\u180b",
}


@quick
@pytest.mark.parametrize("kind", UNSEEN)
def test_name_with_a_character_that_nobody_sees_is_refused(kind, file, board):
    before = contents(board)
    with pytest.raises(ValueError, match=r"U\+[0-9A-F]{4,5} can not be seen") as caught:
        golf.submit(file, UNSEEN[kind], SALT, board)
    assert str(caught.value).isascii()  # the character must not be unseen in the message, too
    assert contents(board) == before


def test_all_fillers_and_selectors_that_unicode_calls_printable_are_known():
    words = ("VARIATION SELECTOR", "HANGUL FILLER", "SEONG FILLER", "GRAPHEME JOINER", "PATTERN BLANK", "INHERENT")
    every = [character for character in map(chr, range(0x110000)) if character.isprintable()]
    fillers = [character for character in every if any(word in unicodedata.name(character, "") for word in words)]
    assert len(fillers) > 260
    assert [character for character in fillers if not golf.INVISIBLE.search(character)] == []


@quick
def test_players_have_one_way_of_writing_their_name(file, tmp_path):
    for name in ("Jürgen", "Ju\u0308rgen", "Ｊürgen", " Jürgen\u00a0"):
        new, scores = golf.submit(file, name, SALT, tmp_path)
        assert new.player == "Jürgen"
        assert len(scores) == 1


@given(st.text(max_size=70))
def test_checked_name_is_checked_again_to_itself(text):
    try:
        name = golf.checked_player(text)
    except ValueError:
        return
    assert golf.checked_player(name) == name


@pytest.mark.parametrize("student", ["a" * 64, "ab12", "first.last@uni-x.example", "0", "4711", "é"])
def test_every_students_id_is_a_players_name(student):
    assert golf.checked_player(students.checked_id(student)) == students.checked_id(student)


NAMES = {
    "64 letters": "x" * 64,
    "markup": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "entity": "&lt;b&gt; &amp; co",
    "comment": "<!-- ada",
    "rich markup": "[bold red]ada[/]",
    "end of rich markup": "ada[/] \\",
    "comma": "ada, bob",
    "quotes": '"ada" \'bob\' "',
    "semicolon": "ada;bob",
    "dollars": "$ada$ $\\frac{1}{2}$",
    "percent": "ada %s %(ada)s {0} {ada}",
    "digits": "4711",
    "German": "Jürgen Groß",
    "Hebrew": "שלום עולם",
    "Arabic": "مرحبا",
    "Chinese": "小明",
    "emoji": "Ada 🏌⛳",
    "emoji's name": "ada :skull:",
    "combining": "a\u0301\u0302\u0303da",
    "the columns": ",".join(golf.COLUMNS)[:64],
    "a path": "../../etc/passwd",
}


@quick
@pytest.mark.parametrize("kind", NAMES)
def test_name_of_any_kind_comes_back_from_the_board_and_is_text_on_the_page(kind, file, tmp_path):
    new, scores = golf.submit(file, f" {NAMES[kind]} ", SALT, tmp_path)
    assert new.player == unicodedata.normalize("NFKC", NAMES[kind])
    assert golf.read_board(tmp_path / "golf.csv", SALT) == scores == [new]
    page = Page((tmp_path / "golf.html").read_text(encoding="utf-8"))
    assert page.rows[0][1] == new.player
    assert page.problems == []


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40), max_size=5))
def test_board_gives_back_every_printable_name(names):
    scores = [made(name) for name in names]
    text = golf._csv_of(scores)
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert [row[0] for row in rows[1:]] == names


@quick
@pytest.mark.parametrize(
    "name", ['=HYPERLINK("http://x.example")', "=1+1", "+cmd", "-ada", "@SUM(A1)", "|ada", "%ada", "＝1", "a;=1+1"]
)
def test_no_name_is_a_formula_where_the_board_is_opened_as_a_spreadsheet(name, file, tmp_path):
    try:
        golf.submit(file, name, SALT, tmp_path)
    except ValueError as error:
        assert "player is" in str(error)
        return
    rows = list(csv.reader(io.StringIO((tmp_path / "golf.csv").read_text(encoding="utf-8"), newline="")))
    assert [row[0] for row in rows] == [report.harmless(row[0]) for row in rows]


@quick
@pytest.mark.parametrize("name", ["labkit", " labkit ", "LabKit", "ｌａｂｋｉｔ", "labKit", "ⓛⓐⓑⓚⓘⓣ"])
def test_nobody_plays_under_the_projects_own_name(name, file, board):
    before = contents(board)
    with pytest.raises(ValueError, match=r"(?i)labkit.*own networks"):
        golf.submit(file, name, SALT, board)
    assert contents(board) == before


# The board


@quick
def test_same_network_of_the_same_player_is_on_the_board_once(file, board, tmp_path):
    before = contents(board)
    copy = tmp_path / "copy.lks"
    copy.write_bytes(file.read_bytes())
    golf.submit(copy, "ada", SALT, board)
    assert contents(board) == before


@quick
def test_same_network_of_two_players_is_on_the_board_twice(file, board):
    _, scores = golf.submit(file, "eve", SALT, board)
    assert sorted(one.player for one in scores) == ["ada", "bob", "eve"]
    first, second = (one for one in scores if one.player in ("ada", "eve"))
    assert first.network == second.network
    assert golf.read_board(board / "golf.csv", SALT) == scores


def of_weights(tmp_path, count, name="x"):
    """A network of which so many weights are left, all in its last layer."""
    network = seeded()
    with torch.no_grad():
        for layer in (network.conv1, network.conv2, network.conv3):
            layer.weight.zero_()
        network.fc.weight.flatten()[:] = torch.where(torch.arange(network.fc.weight.numel()) < count, 1.0, 0.0)
    return labkit.save_sparse(network, tmp_path / f"{name}{count}.lks")


@quick
def test_one_player_may_have_several_networks_of_different_weights(board, tmp_path):
    for count in (100, 200):
        _, scores = golf.submit(of_weights(tmp_path, count), "ada", SALT, board)
    assert [(one.player, one.weights) for one in scores[:2]] == [("ada", 100), ("ada", 200)]
    assert sorted(one.player for one in scores) == ["ada", "ada", "ada", "bob"]
    assert golf.read_board(board / "golf.csv", SALT) == scores


def some_accuracies(monkeypatch, shares):
    """The next networks get these shares of the images right, whatever they answer."""
    monkeypatch.setattr(golf, "score", lambda path, player, _: made(player, 2_000, shares.pop(0), path.stem))


@quick
def test_best_accuracy_of_a_player_stays_for_each_number_of_weights(tmp_path, monkeypatch):
    names = [f"{number:016x}" for number in range(5)]
    some_accuracies(monkeypatch, [0.9, 0.8, 0.9, 0.95, 0.7])
    kept = ["0", "0", "0", "3", "3"]  # a worse one and an equal one change nothing
    for name, stays in zip(names, kept, strict=True):
        new, scores = golf.submit(tmp_path / f"{name}.lks", "ada", SALT, tmp_path / "board")
        assert new.network == name
        assert [one.network for one in scores] == [f"{stays:0>16}"]
        assert golf.read_board(tmp_path / "board" / "golf.csv", SALT) == scores


@quick
def test_imperceptible_changes_do_not_flood_the_board(board, tmp_path):
    lines = len(golf.read_board(board / "golf.csv", SALT))
    network = seeded()
    for number in range(3):
        with torch.no_grad():
            network.fc.bias[0] += 1e-2
        golf.submit(labkit.save_sparse(network, tmp_path / f"{number}.lks"), "ada", SALT, board)
    assert len(golf.read_board(board / "golf.csv", SALT)) == lines


@pytest.mark.usefixtures("_few_images")
def test_new_board_starts_with_the_committed_networks_that_are_scored_once(file, tmp_path, monkeypatch):
    scored, score = [], golf.score
    monkeypatch.setattr(golf, "score", lambda path, *rest: scored.append(path.name) or score(path, *rest))
    _, scores = golf.submit(file, "ada", SALT, tmp_path)
    own = [path.name for path in FRONTIER.glob("*_s0.lks") if path.name.startswith("MNIST_")]
    assert sorted(scored) == sorted([*own, file.name])
    counts = {sum(int(w.count_nonzero()) for w in golf._weights(labkit.load_sparse(FRONTIER / name))) for name in own}
    assert {one.weights for one in scores if one.player == "labkit"} == counts
    assert [one.player for one in scores if one.player != "labkit"] == ["ada"]
    assert len(scores) == len(counts) + 1
    assert len(own) > len(counts) >= 3
    scored.clear()
    golf.submit(another(tmp_path, 1), "bob", SALT, tmp_path)
    assert len(scored) == 1


@quick
def test_board_is_sorted_by_weights_then_accuracy_then_player(tmp_path):
    for seed, player in ((3, "zoe"), (3, "ann"), (2, "bob"), (4, "mia")):
        _, scores = golf.submit(another(tmp_path, seed), player, SALT, tmp_path)
    assert scores == sorted(scores, key=lambda one: (one.weights, -one.accuracy, one.player))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "golf.csv").read_text(encoding="utf-8"))))
    assert [row["player"] for row in rows] == [one.player for one in scores]
    assert tuple(rows[0]) == golf.COLUMNS


@quick
def test_board_of_another_course_is_refused_and_stays_as_it_was(file, board):
    before = contents(board)
    with pytest.raises(ValueError, match=f"is the board of course {golf.course_of(SALT)}, not {golf.course_of('x')}"):
        golf.submit(file, "eve", "x", board)
    assert contents(board) == before


HEADER = ",".join(golf.COLUMNS)
COURSE = golf.course_of(SALT)
NETWORK = "0123456789abcdef"
END = f"{NETWORK},{COURSE}\n"
LINE = f"ada,2000,5000,0.5,{END}"
DAMAGED = {
    "empty": ("", "its columns are ''"),
    "header cut off": (HEADER[:10], "its columns are"),
    "header without an end": (HEADER, "its last line has no end"),
    "another table": ("name,points\nada,3\n", "its columns are 'name,points'"),
    "columns exchanged": (
        HEADER.replace("weights,bytes", "bytes,weights") + f"\nada,1,2,0.5,{END}",
        "its columns are",
    ),
    "row cut off": (f"{HEADER}\nada,2000,50", "row 2 has 3 cells"),
    "end of the last row cut off": (f"{HEADER}\n{LINE[:-1]}", "its last line has no end"),
    "last digit cut off": (f"{HEADER}\n{LINE[:-2]}\n", "row 2: course is"),
    "blank line": (f"{HEADER}\n\n{LINE}", "row 2 has 0 cells"),
    "row too long": (f"{HEADER}\n{LINE[:-1]},and more\n", "row 2 has 7 cells"),
    "no number": (f"{HEADER}\nada,many,5000,0.5,{END}", "weights is 'many'"),
    "no weights": (f"{HEADER}\nada,,5000,0.5,{END}", "weights is ''"),
    "decimal weights": (f"{HEADER}\nada,2000.5,5000,0.5,{END}", "weights is '2000.5'"),
    "underscore": (f"{HEADER}\nada,2_000,5000,0.5,{END}", "weights is '2_000'"),
    "underscore in bytes": (f"{HEADER}\nada,2000,5_000,0.5,{END}", "bytes is '5_000'"),
    "underscore in accuracy": (f"{HEADER}\nada,2000,5000,0.9_8,{END}", "accuracy is '0.9_8'"),
    "digits of another script": (f"{HEADER}\nada,２０００,5000,0.5,{END}", "weights is '２０００'"),
    "plus": (f"{HEADER}\nada,+2000,5000,0.5,{END}", r"weights is '\+2000'"),
    "space": (f"{HEADER}\nada, 2000,5000,0.5,{END}", "weights is ' 2000'"),
    "negative weights": (f"{HEADER}\nada,-2000,5000,0.5,{END}", "weights is '-2000'"),
    "negative bytes": (f"{HEADER}\nada,2000,-5000,0.5,{END}", "bytes is '-5000'"),
    "too many weights": (f"{HEADER}\nada,1000000001,5000,0.5,{END}", r"from 0 to 10\*\*9"),
    "too many bytes": (f"{HEADER}\nada,2000,{10**12},0.5,{END}", r"from 0 to 10\*\*9"),
    "NaN": (f"{HEADER}\nada,2000,5000,nan,{END}", "accuracy is 'nan'"),
    "infinite": (f"{HEADER}\nada,2000,5000,inf,{END}", "accuracy is 'inf'"),
    "percent": (f"{HEADER}\nada,2000,5000,98.5,{END}", "accuracy is '98.5'"),
    "above one": (f"{HEADER}\nada,2000,5000,1.001,{END}", "accuracy is '1.001'"),
    "negative accuracy": (f"{HEADER}\nada,2000,5000,-0.5,{END}", "accuracy is '-0.5'"),
    "open quote": (f'{HEADER}\n"ada,2000,5000,0.5,{END}', "unexpected end of data"),
    "huge number": (f"{HEADER}\nada,{'9' * 5000},5000,0.5,{END}", "weights is '999"),
    "huge field": (f"{HEADER}\n{'a' * 200_000},2000,5000,0.5,{END}", "field larger than field limit"),
    "long name": (f"{HEADER}\n{'a' * 65},2000,5000,0.5,{END}", "player is 'aaa"),
    "no name": (f"{HEADER}\n,2000,5000,0.5,{END}", "player is ''"),
    "formula": (f"{HEADER}\n=1+1,2000,5000,0.5,{END}", "would take it for a formula"),
    "unseen": (f"{HEADER}\nada\ufe0f,2000,5000,0.5,{END}", r"U\+FE0F can not be seen"),
    "name with spaces": (f"{HEADER}\n ada,2000,5000,0.5,{END}", "it must be written 'ada'"),
    "project's name otherwise": (f"{HEADER}\nLabKit,2000,5000,0.5,{END}", "it must be written 'labkit'"),
    "escape": (f"{HEADER}\n\x1b[31mada,2000,5000,0.5,{END}", r"player is '\\x1b\[31mada'"),
    "line break": (f'{HEADER}\n"a\nda",2000,5000,0.5,{END}', r"player is 'a\\nda'"),
    "escape in a number": (f"{HEADER}\nada,2000,\x1b[2J,0.5,{END}", r"bytes is '\\x1b\[2J'"),
    "escape in the header": (f"\x1b[2J{HEADER}\n{LINE}", r"its columns are '\\x1b\[2J"),
    "nul": (f"{HEADER}\nada,2000,5000,0.5\0,{END}", r"accuracy is '0.5\\x00'"),
    "short network": (f"{HEADER}\nada,2000,5000,0.5,0,{COURSE}\n", "network is '0'"),
    "network in capitals": (f"{HEADER}\nada,2000,5000,0.5,{NETWORK.upper()},{COURSE}\n", "network is '0123456789A"),
    "escape in the network": (f"{HEADER}\nada,2000,5000,0.5,\x1b[2J,{COURSE}\n", r"network is '\\x1b"),
    "no course": (f"{HEADER}\nada,2000,5000,0.5,{NETWORK},\x1b[2J\n", r"course is '\\x1b\[2J'"),
    "twice": (f"{HEADER}\n{LINE}bob,1,1,0.1,{END}{LINE}", "'ada' has 2 lines with 2,000 weights"),
    "twice, another network": (f"{HEADER}\n{LINE}ada,2000,1,0.1,{'f' * 16},{COURSE}\n", "'ada' has 2 lines"),
}


@quick
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_board_is_refused_in_words_and_stays_as_it_was(kind, file, board):
    text, words = DAMAGED[kind]
    (board / "golf.csv").write_bytes(text.encode())
    before = contents(board)
    with pytest.raises(ValueError, match=f"is not a board of pruning golf .*{words}") as caught:
        golf.submit(file, "eve", SALT, board)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert "; mend it or give another folder" in str(caught.value)
    assert contents(board) == before


@quick
def test_board_that_is_no_text_is_refused_and_stays_as_it_was(file, board):
    (board / "golf.csv").write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(ValueError, match="is not a board of pruning golf"):
        golf.submit(file, "eve", SALT, board)
    assert (board / "golf.csv").read_bytes() == b"\xff\xfe\x00" * 50


@quick
@pytest.mark.parametrize("change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_board_that_a_spreadsheet_has_saved_can_be_read(change, board):
    before = golf.read_board(board / "golf.csv", SALT)
    (board / "golf.csv").write_bytes(change((board / "golf.csv").read_bytes()))
    assert golf.read_board(board / "golf.csv", SALT) == before


@pytest.mark.parametrize("accuracy", [0.0, 0.0001, 0.5, 0.9813, 0.9999, 1.0, 1 / 3])
def test_board_gives_back_numbers_up_to_its_bounds(accuracy, tmp_path):
    scores = [made("ada", 0, accuracy, size=0), made("bob", 10**9, accuracy, size=10**9)]
    golf._write(tmp_path / "golf.csv", golf._csv_of(scores))
    assert golf.read_board(tmp_path / "golf.csv", SALT) == scores


@quick
def test_page_that_can_not_be_made_leaves_both_files_as_they_were(file, board, monkeypatch):
    def fail(*_):
        raise ValueError("no page")

    monkeypatch.setattr(golf, "page", fail)
    before = contents(board)
    with pytest.raises(ValueError, match="no page"):
        golf.submit(file, "eve", SALT, board)
    assert contents(board) == before


@quick
def test_board_that_somebody_keeps_locked_is_told_after_a_while(file, board, monkeypatch):
    assert golf.PATIENCE == 60
    monkeypatch.setattr(golf, "PATIENCE", 0.2)
    before = contents(board)
    with FileLock(board / "golf.lock"), pytest.raises(TimeoutError, match=r"golf\.lock is still locked .* after 0.2 s"):
        golf.submit(file, "eve", SALT, board)
    assert contents(board) == before
    golf.submit(file, "eve", SALT, board)


@quick
def test_board_is_not_locked_while_a_network_is_scored(file, board, monkeypatch):
    """A whole class may hand in at once: nobody waits for another one's network."""
    score = golf.score

    def look(*arguments):
        with FileLock(board / "golf.lock", timeout=0):
            return score(*arguments)

    monkeypatch.setattr(golf, "score", look)
    golf.submit(file, "eve", SALT, board)


@quick
def test_line_that_was_written_while_a_network_was_scored_is_kept(file, board, monkeypatch):
    score = golf.score

    def meanwhile(*arguments):
        monkeypatch.setattr(golf, "score", score)
        golf.submit(file, "zoe", SALT, board)
        return score(*arguments)

    monkeypatch.setattr(golf, "score", meanwhile)
    _, scores = golf.submit(file, "eve", SALT, board)
    assert sorted(one.player for one in scores) == ["ada", "bob", "eve", "zoe"]


@quick
def test_board_without_a_page_gets_one(file, board):
    whole = contents(board)
    (board / "golf.html").unlink()
    golf.submit(file, "ada", SALT, board)
    assert contents(board) == whole


def test_there_is_no_board_where_there_is_no_file(tmp_path):
    assert golf.read_board(tmp_path / "golf.csv", SALT) == []


@quick
@pytest.mark.parametrize("place", ["file", "file/below", "golf.csv", "golf.html"])
def test_board_that_can_not_be_written_is_told_and_nothing_is_changed(place, file, tmp_path, board):
    if place.startswith("golf"):
        golf.submit(another(tmp_path, 5), "zoe", SALT, board)
        (board / place).unlink()
        (board / place).mkdir()
        there, kept = board, {path.name: path.read_bytes() for path in board.iterdir() if path.is_file()}
    else:
        (tmp_path / "file").write_text("mine")
        there, kept = tmp_path / place, {}
    with pytest.raises(OSError, match="must be a"):
        golf.submit(file, "eve", SALT, there)
    assert {name: (board / name).read_bytes() for name in kept} == kept
    assert place.startswith("golf") or (tmp_path / "file").read_text() == "mine"


@quick
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_told(file, board):
    before = contents(board)
    board.chmod(0o500)
    try:
        with pytest.raises(OSError, match="can not be written"):
            golf.submit(file, "eve", SALT, board)
        assert contents(board) == before
    finally:
        board.chmod(0o700)


@quick
@pytest.mark.parametrize("name", ["golf.csv", "golf.html"])
def test_write_that_fails_leaves_each_file_whole(name, file, board, monkeypatch):
    before = contents(board)
    write = golf._write

    def fail(path, text):
        if path.name == name:
            raise OSError("no space left on device")
        write(path, text)

    monkeypatch.setattr(golf, "_write", fail)
    with pytest.raises(OSError, match="no space"):
        golf.submit(file, "eve", SALT, board)
    assert contents(board).keys() == before.keys()
    assert len(golf.read_board(board / "golf.csv", SALT)) == (2 if name == "golf.csv" else 3)
    assert (board / "golf.html").read_bytes() == before["golf.html"]


# Processes


def started(code, *arguments):
    command = [sys.executable, "-c", SETUP + code, *map(str, arguments)]
    # The current folder is the project: labkit is found there.
    return subprocess.Popen(command, cwd=runtime.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_at_the_same_time_lose_no_submission(file, tmp_path):
    many = "for number in range(5): golf.submit(file, f'{sys.argv[3]} {number}', 'tests', board)"
    running = [started(many, file, tmp_path / "board", player) for player in ("ada", "bob")]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    scores = golf.read_board(tmp_path / "board" / "golf.csv", SALT)
    assert sorted(one.player for one in scores) == [f"{who} {n}" for who in ("ada", "bob") for n in range(5)]
    assert contents(tmp_path / "board").keys() == {"golf.csv", "golf.html"}


KILLED = {
    "while the table is written": ("golf.csv", "half"),
    "between table and page": ("golf.html", "whole"),
}
STOPS = """
import time
write_text = Path.write_text
def stop(path, text, **options):
    if sys.argv[3] not in path.name:
        return write_text(path, text, **options)
    write_text(path, text if sys.argv[4] == 'whole' else text[: len(text) // 2], **options)
    print('here', flush=True)
    time.sleep(600)
Path.write_text = stop
golf.submit(file, 'eve', 'tests', board)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@quick
@pytest.mark.parametrize(
    "when", [*list(KILLED)[:1], *(pytest.param(when, marks=pytest.mark.full) for when in list(KILLED)[1:])]
)
def test_process_that_is_killed_leaves_a_board_that_can_be_read_and_goes_on(when, file, board):
    before = contents(board)
    process = started(STOPS, file, board, *KILLED[when])
    try:
        assert process.stdout.readline() == "here\n", process.stderr.read()
    finally:
        process.kill()
        process.communicate(timeout=60)
    after = contents(board)
    assert after["golf.html"] == before["golf.html"]
    players = ["ada", "bob", "eve"] if KILLED[when][0] == "golf.html" else ["ada", "bob"]
    assert sorted(one.player for one in golf.read_board(board / "golf.csv", SALT)) == players
    assert (after["golf.csv"] == before["golf.csv"]) == (len(players) == 2)
    _, scores = golf.submit(file, "zoe", SALT, board)
    assert sorted(one.player for one in scores) == [*players, "zoe"]
    rows = Page((board / "golf.html").read_text(encoding="utf-8")).rows
    assert [row[1] for row in rows] == [one.player for one in scores]


# The front


def some_scores():
    one = st.builds(made, weights=st.integers(0, 6), accuracy=st.integers(0, 6).map(lambda n: n / 6), player=st.text())
    return st.lists(one, max_size=12)


@given(some_scores())
def test_front_is_those_that_nobody_beats(scores):
    wanted = []
    for one in scores:
        fewer = [other.accuracy for other in scores if other.weights < one.weights]
        as_many = [other.accuracy for other in scores if other.weights == one.weights]
        if one.accuracy >= max(as_many) and all(one.accuracy > accuracy for accuracy in fewer):
            wanted.append(one)
    front = golf.on_the_front(scores)
    assert front == wanted
    assert bool(front) == bool(scores)
    rising = sorted({(one.weights, one.accuracy) for one in front})
    assert [accuracy for _, accuracy in rising] == sorted({accuracy for _, accuracy in rising})
    assert golf.on_the_front(front) == front


def test_who_ties_is_on_the_front_together():
    both = [made("ada", 100, 0.9), made("bob", 100, 0.9)]
    worse = [made("eve", 100, 0.8), made("zoe", 101, 0.9)]
    assert golf.on_the_front([*worse, *both]) == both


# The page

EMPTY = {"meta", "br", "hr", "img", "link", "input", "col", "wbr", "area", "base", "embed", "source"}
LOADS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background", "formaction", "manifest"}


class Page(HTMLParser):
    """What is on a page: rows of its tables, and what is wrong with it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.problems, self.rows, self.text, self.tags, self.loads = [], [], [], [], [], []
        self.feed(text)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self.open]
        self.rows = [row for row in self.rows if row]  # without the headings

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.look(tag, attributes)
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.look(tag, attributes)

    def look(self, tag, attributes):
        names = [name for name, _ in attributes]
        if len(set(names)) < len(names):
            self.problems.append(f"<{tag}> has an attribute twice")
        self.loads += [value for name, value in attributes if name in LOADS and not value.startswith("#")]
        self.problems += [f"{name} in <{tag}>" for name in names if name.startswith("on")]

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(text)
        if "td" in self.open:
            self.rows[-1][-1] += text

    def handle_comment(self, text):
        self.text.append(text)


MANY = [made(f"player {n}", 100 + 37 * n, 0.9 + 0.0004 * n, f"{n:016x}") for n in range(200)]
BOARDS = {
    "one": [made()],
    "only the project's": [made("labkit", 2_000, 0.98), made("labkit", 6_000, 0.987)],
    "players and project": [made("labkit", 2_000, 0.98), made("ada", 1_000, 0.97), made("bob", 3_000, 0.97)],
    "ties": [made("ada"), made("bob"), made("eve", accuracy=0.97)],
    "all right": [made(accuracy=1.0)],
    "all wrong": [made(accuracy=0.0)],
    "all right and all wrong": [made(accuracy=1.0), made("bob", 100, 0.0)],
    "one weight": [made(weights=1)],
    "no weight": [made(weights=0, accuracy=0.1)],
    "no weight and some": [made(weights=0, accuracy=0.1), made("bob")],
    "more than there are": [made(weights=20_000_000)],
    "many": MANY,
}


@cache
def drawn(kind):
    return golf.page(BOARDS[kind], SALT)


@pytest.mark.parametrize("kind", BOARDS)
def test_page_needs_no_other_file_and_is_whole(kind):
    text = drawn(kind)
    page = Page(text)
    assert page.problems == []
    assert page.loads == []
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(page.tags)
    assert not re.search(r"@import|url\((?!['\"]?#)", text)
    assert text.startswith("<!doctype html>")
    ours = {one.player == "labkit" for one in BOARDS[kind]}
    assert (page.tags.count("svg"), page.tags.count("main"), page.tags.count("table")) == (1, 1, len(ours))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in re.findall(r'xlink:href="(#[^"]+)"', text)} <= set(ids)


@pytest.mark.parametrize("kind", BOARDS)
def test_page_lists_all_with_their_numbers_and_stars(kind):
    scores, front = BOARDS[kind], golf.on_the_front(BOARDS[kind])

    def cells(one, *player):
        return ["★" if one in front else "", *player, f"{one.weights:,}", f"{one.bytes:,}", f"{100 * one.accuracy:.2f}"]

    players = [cells(one, one.player) for one in scores if one.player != "labkit"]
    ours = [cells(one) for one in scores if one.player == "labkit"]
    rows = Page(drawn(kind)).rows
    assert [row[:-1] for row in rows] == players + ours
    if not ours:
        assert {row[-1] for row in rows} == {"–"}


def test_page_tells_each_player_the_distance_to_par_and_par_beside_the_projects_own():
    scores = [made("labkit", 1_000, 0.95), made("ada", 2_000, 0.9725), made("bob", 2_000, 0.96)]
    scores += [made("labkit", 4_000, 0.98), made("labkit", 5_000, 0.97), made("eve", 9_000, 0.98)]
    rows = Page(golf.page(scores, SALT)).rows
    assert [(row[1], row[-1]) for row in rows[:3]] == [("ada", "+0.75"), ("bob", "−0.50"), ("eve", "0.00")]
    assert [(row[1], row[-1]) for row in rows[3:]] == [("1,000", "95.00"), ("4,000", "98.00"), ("5,000", "98.00")]


def test_page_tells_the_transform():
    transform = golf.transform_of(SALT)
    text = " ".join("".join(Page(drawn("one")).text).split())
    assert f"{abs(transform.degrees):g} degrees" in text
    assert "counter-clockwise" in text or "clockwise" in text


def test_page_has_no_number_that_is_none():
    for kind in BOARDS:
        assert not re.search(r"\b(nan|inf)\b", drawn(kind).partition("<svg")[2]), kind


def test_figures_axis_has_a_number_below_and_above_every_point():
    """Else nobody can read how good the best ones are."""
    scores = [made("ada", 2_000, 1.0), made("bob", 500, 0.0), made("eve", 1_000, 0.9999)]
    numbers = [float(text) for text in re.findall(r">\s*(\d+(?:\.\d+)?)\s*</text>", golf._figure(scores))]
    assert min(numbers) <= 0.01
    assert max(numbers) >= 90


def test_figures_axis_ends_near_its_points(monkeypatch):
    """Errors of one to three percent must not be squeezed into the lowest tenth of an axis up to 90 %."""
    seen = []
    monkeypatch.setattr(golf, "svg_of", lambda figure, _: seen.append(figure.axes[0].get_ylim()) or "")
    golf._figure([made("ada", 2_000, 0.98), made("bob", 6_000, 0.987), made("eve", 1_000, 0.97)])
    assert seen[0][1] < 20


PLAYERS = [made("ada", 1_000, 0.97), made("bob", 3_000, 0.975)]


def test_figure_draws_each_player_the_project_par_and_the_front(monkeypatch):
    seen = {}

    def look(figure, _):
        for drawn in figure.axes[0].collections:
            seen[drawn.get_label()] = drawn.get_offsets().data.tolist()
        for line in figure.axes[0].lines:
            seen[line.get_label()] = line.get_xydata().tolist()
        return ""

    monkeypatch.setattr(golf, "svg_of", look)
    golf._figure([made("labkit", n, share) for n, share in ((2_000, 0.98), (8_000, 0.99))] + PLAYERS)
    assert seen["players"] == [[1_000, pytest.approx(3)], [3_000, pytest.approx(2.5)]]
    assert seen["labkit's own networks"] == [[2_000, pytest.approx(2)], [8_000, pytest.approx(1)]]
    assert seen["par"][0] == [pytest.approx(2_000), pytest.approx(2)]
    assert seen["par"][-1] == [pytest.approx(8_000), pytest.approx(1)]
    assert min(seen["par"], key=lambda at: abs(at[0] - 4_000))[1] == pytest.approx(1.5, abs=0.01)
    assert len(seen["published, images as they are"]) == len(golf.PUBLISHED)
    front = [[1_000, pytest.approx(3)], [2_000, pytest.approx(2)], [8_000, pytest.approx(1)]]
    assert seen["the front"] == front


def test_figure_draws_the_project_and_the_players_in_another_marker_and_another_colour(monkeypatch):
    """Who does not see colours must not confuse them."""
    seen = {}

    def look(figure, _):
        for drawn in figure.axes[0].collections:
            looks = drawn.get_paths()[0].vertices.tobytes(), drawn.get_facecolor().tobytes()
            seen[drawn.get_label()] = looks
        return ""

    monkeypatch.setattr(golf, "svg_of", look)
    golf._figure([made("labkit", 2_000, 0.98), *PLAYERS])
    assert len(seen) == 3
    for part in (0, 1):
        assert len({looks[part] for looks in seen.values()}) == 3


def test_page_of_equal_scores_is_equal_byte_for_byte():
    assert golf.page(BOARDS["players and project"], SALT) == drawn("players and project")


# Par

OWN = [(100, 0.5), (1_000, 0.9), (2_000, 0.8), (10_000, 0.95), (10_000, 0.94), (100_000, 0.93)]
PARS = {
    0: 0.5,
    1: 0.5,
    99: 0.5,
    100: 0.5,  # a network of ours
    316.22776601683796: 0.7,  # half of the way on a logarithmic axis
    1_000: 0.9,
    2_000: 0.9 + 0.05 * np.log10(2),  # where one of ours is worse than a smaller one, it does not count
    10_000: 0.95,
    100_000: 0.95,
    10**9: 0.95,
}


@pytest.mark.parametrize("weights", PARS)
def test_par_is_what_the_best_of_the_projects_networks_reach(weights):
    scores = [made("ada", 500, 0.999), *(made("labkit", *one) for one in OWN), made("bob", 1_000, 0.1)]
    assert golf.par(weights, scores) == pytest.approx(PARS[weights], abs=1e-12)
    assert golf.par(weights, scores[::-1]) == golf.par(weights, scores)


def test_par_of_a_project_of_one_network_is_that_one_everywhere_also_of_no_weight():
    for size in (0, 700):
        scores = [made("labkit", size, 0.25), made("ada")]
        assert {golf.par(weights, scores) for weights in (0, 1, 700, 10**9)} == {0.25}


def test_there_is_no_par_where_nothing_of_the_project_is_on_the_board():
    assert golf.par(2_000, [made("ada")]) is golf.par(2_000, []) is None
    assert golf.to_par(made("ada"), [made("ada")]) == "–"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=9), st.integers(0, 10**6))
def test_more_weights_have_no_lower_par_and_no_network_of_the_project_is_above_it(own, weights):
    scores = golf.best_lines(made("labkit", *one) for one in own)
    assert golf.par(weights, scores) <= golf.par(weights + 1_000, scores)
    assert all(golf.par(one.weights, scores) >= one.accuracy for one in scores)


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.9, "0.00"), (0.90004, "0.00"), (0.89996, "0.00"), (0.9006, "+0.06"), (0.8877, "−1.23"), (1.0, "+10.00")],
)
def test_distance_to_par_is_told_in_points_with_a_sign(accuracy, said):
    assert golf.to_par(made("ada", accuracy=accuracy), [made("labkit", accuracy=0.9)]) == said


# The command


def command(*arguments, columns="400"):
    return CliRunner(env={"COLUMNS": columns}).invoke(cli.app, ["golf", "submit", *map(str, arguments)])


@pytest.mark.usefixtures("_few_images")
def test_command_scores_prints_the_front_and_writes_both_files(file, tmp_path):
    board = tmp_path / "board"
    done = command(file, "--player", "ada [bold]", "--board", board)
    assert done.exit_code == 0, done.output
    scores = golf.read_board(board / "golf.csv", students.DEFAULT_SALT)
    (mine,) = (one for one in scores if one.player == "ada [bold]")
    first = f"ada [bold]: {mine.weights:,} weights, {mine.bytes:,} bytes, {100 * mine.accuracy:.2f} % right"
    assert done.output.splitlines()[0] == first
    for one in golf.on_the_front(scores):
        assert re.search(rf"{one.player[:3]}.*{one.weights:,}.*{one.bytes:,}.*{100 * one.accuracy:.2f}", done.output)
    said = "not on the front" not in done.output
    assert said == (mine in golf.on_the_front(scores))
    told = f"par: {100 * golf.par(mine.weights, scores):.2f} % with as many weights; to par: "
    assert done.output.splitlines()[1] == f"{told}{golf.to_par(mine, scores)} points"
    assert f"board: {board / 'golf.html'}" in done.output
    assert contents(board).keys() == {"golf.csv", "golf.html"}


@quick
def test_command_takes_the_player_who_has_signed_in_or_nobodys_name(file, tmp_path):
    assert command(file, "--board", tmp_path / "board").output.startswith("anonymous: ")
    students.sign_in("AB12")
    assert command(file, "--board", tmp_path / "board").output.startswith("ab12: ")
    assert command(file, "--board", tmp_path / "board", "--player", "zoe").output.startswith("zoe: ")


@quick
def test_command_takes_the_salt_of_a_course(file, tmp_path):
    told = {"format": "labkit course 1", "version": "1", "salt": SALT, "notebooks": {}}
    (tmp_path / "course.json").write_text(json.dumps(told), encoding="utf-8")
    done = command(file, "--course", tmp_path / "course.json", "--board", tmp_path / "board", "--player", "ada")
    assert done.exit_code == 0, done.output
    assert len(golf.read_board(tmp_path / "board" / "golf.csv", SALT)) == 1
    again = command(file, "--board", tmp_path / "board", "--player", "ada")
    assert again.exit_code == 2
    assert "is the board of course" in again.output


@quick
def test_command_says_what_is_wrong_in_one_line_and_ends_with_2(file, board, tmp_path):
    (tmp_path / "bad.lks").write_bytes(truncated(file.read_bytes()))
    for name, told in (("text.json", "no json"), ("list.json", "[]"), ("other.json", '{"format": "x"}')):
        (tmp_path / name).write_text(told, encoding="utf-8")
    (board / "golf.csv").unlink()
    golf.submit(file, "ada", students.DEFAULT_SALT, board)
    course = {"format": "labkit course 1", "version": "1", "salt": SALT, "notebooks": {}}
    (tmp_path / "course.json").write_text(json.dumps(course), encoding="utf-8")
    before = contents(board)
    (tmp_path / "plain").write_text("")
    wrong = [
        (tmp_path / "nowhere.lks", "is no file"),
        (tmp_path, "is no file"),
        (tmp_path / "bad.lks", "is damaged or truncated"),
        (file, "--player", "x" * 65, "it must be 1 to 64 printable characters"),
        (file, "--player", " ", "it must be 1 to 64 printable characters"),
        (file, "--player", "\x1b[31mada", "it must be 1 to 64 printable characters"),
        (file, "--course", tmp_path / "nowhere.json", "is no course.json of a release"),
        (file, "--course", tmp_path / "text.json", "is no course.json of a release"),
        (file, "--course", tmp_path / "list.json", "is no course.json of a release"),
        (file, "--course", tmp_path / "other.json", "is no course.json of a release"),
        (file, "--course", tmp_path / "course.json", "is the board of course"),
        (file, "--board", tmp_path / "plain", "can not be written"),
    ]
    for *arguments, words in wrong:
        there = [] if "--board" in arguments else ["--board", board]
        done = command(*arguments, *there, columns="1000")
        assert (done.exit_code, words in done.output) == (2, True), done.output
        assert done.output.count("\n") == 1
        assert contents(board) == before


@quick
def test_command_says_that_an_older_line_stays(tmp_path, monkeypatch):
    some_accuracies(monkeypatch, [0.9, 0.8, 0.95])
    course = made().course
    monkeypatch.setattr(golf, "course_of", lambda _: course)
    said = []
    for number in range(3):
        path = tmp_path / f"{number:016x}.lks"
        said.append(command(path, "--player", "ada :skull:", "--board", tmp_path / "board", columns="40").output)
    stays = "not better: ada :skull:'s line with as many weights, 90.00 % right, stays on the board\n"
    assert [stays in text for text in said] == [False, True, False]
    assert said[1].startswith("ada :skull:: 2,000 weights, 5,000 bytes, 80.00 % right\n")
    assert all("\non the front\n" in text for text in said)


@quick
def test_command_tells_the_front_of_equal_weights_in_true_words(file, board):
    golf.submit(file, "ada", SALT, board)
    scores = golf.read_board(board / "golf.csv", SALT)
    best = [Score(**(vars(one) | {"player": "zoe", "accuracy": 1.0})) for one in scores if one.player == "ada"]
    ours = [Score(**(vars(one) | {"course": golf.course_of(students.DEFAULT_SALT)})) for one in [*scores, *best]]
    golf._write(board / "golf.csv", golf._csv_of(ours))
    done = command(file, "--player", "ada", "--board", board)
    words = "not on the front: somebody has at most as many weights and at least the accuracy"
    assert words in done.output.splitlines()
    assert "nobody is better in weights or accuracy and at least as good in the other" in " ".join(done.output.split())


@quick
@pytest.mark.parametrize("name", ["ada :skull: 4711", "[red]ada", "ada[/]", "ada \\[bold]"])
def test_command_shows_a_players_name_as_it_is(name, file, tmp_path):
    done = command(file, "--player", name, "--board", tmp_path / ":skull:[red]x")
    assert done.output.startswith(f"{name}: ")
    assert f" {name} " in done.output.partition("The front")[2]
    assert f"board: {tmp_path / ':skull:[red]x' / 'golf.html'}\n" in done.output


SALTS = {
    "number": "5",
    "list": '["a"]',
    "nothing": "null",
    "deep": "[" * 100_000 + "]" * 100_000,
    "half a pair": '"\\ud800"',
}


def course_with(salt):
    return f'{{"format": "labkit course 1", "version": "1", "notebooks": {{}}, "salt": {salt}}}'


@pytest.mark.parametrize("kind", SALTS)
def test_salt_that_is_no_string_is_told_with_the_file(kind, tmp_path, monkeypatch):
    path = tmp_path / "course.json"
    path.write_text(course_with(SALTS[kind]), encoding="utf-8")
    monkeypatch.setattr(students, "course_files", lambda: [path])
    for read in (lambda: release.read_course(path), students.salt):
        with pytest.raises(ValueError, match=r"course\.json is ") as caught:
            read()
        assert kind == "deep" or "salt is" in str(caught.value)
        assert str(caught.value).isprintable()


def test_course_that_is_no_text_is_told_with_the_file(tmp_path, monkeypatch):
    path = tmp_path / "course.json"
    path.write_bytes(b"\xff\xfe" + course_with('"a"').encode())
    monkeypatch.setattr(students, "course_files", lambda: [path])
    for read in (lambda: release.read_course(path), students.salt):
        with pytest.raises(ValueError, match=r"course\.json is "):
            read()


def test_course_with_a_byte_order_mark_is_read(tmp_path, monkeypatch):
    path = tmp_path / "course.json"
    path.write_text(course_with('"DL 2026"'), encoding="utf-8-sig")
    monkeypatch.setattr(students, "course_files", lambda: [path])
    assert release.read_course(path)["salt"] == students.salt() == "DL 2026"


@quick
def test_course_without_a_salt_is_told_in_one_line(file, tmp_path):
    course = {"format": "labkit course 1", "version": "1", "notebooks": {}}
    (tmp_path / "course.json").write_text(json.dumps(course), encoding="utf-8")
    done = command(file, "--course", tmp_path / "course.json", "--board", tmp_path / "board", columns="1000")
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert "is no course.json of a release" in done.output


@quick
def test_command_tells_where_the_board_is_in_one_line_however_narrow_the_terminal(file, tmp_path):
    board = tmp_path / string.ascii_lowercase / string.ascii_lowercase
    assert f"{board / 'golf.html'}" in command(file, "--player", "ada", "--board", board, columns="60").output


@pytest.mark.full
def test_command_line_plays_with_all_images(tmp_path):
    arguments = ["golf", "submit", str(grown(tmp_path)), "--player", "ada", "--board", "board"]
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(runtime.PROJECT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"ada: (1,99\d|2,000) weights, [\d,]+ bytes, 9[78]\.\d\d % right\n", done.stdout)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "board" / "golf.csv").read_text(encoding="utf-8"))))
    assert sorted({row["player"] for row in rows}) == ["ada", "labkit"]
    assert (tmp_path / "board" / "golf.html").stat().st_size > 10_000


def test_help_tells_what_the_command_does():
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["golf", "submit", "--help"])
    assert done.exit_code == 0
    for word in ("--player", "--board", "--course", "Sparse file"):
        assert word in done.output
