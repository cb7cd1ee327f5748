"""Pruning golf: what counts, what is refused, and that a board is never lost."""

import csv
import hashlib
import html
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import seeded
from typer.testing import CliRunner

import labkit
from labkit import cli, data, runtime
from labkit.course import golf, students
from labkit.course.golf import Score, Transform

SALT = "tests"
FRONTIER = runtime.reference_dir() / "frontier"
FEW = 200


@pytest.fixture
def _few_images(monkeypatch):
    images, labels = data.load_images("MNIST", train=False)
    monkeypatch.setattr(golf, "load_images", lambda *_, **__: (images[:FEW], labels[:FEW]))


@pytest.fixture
def _nobody_else(monkeypatch):
    """A new board starts empty: nothing of the project's own has to be scored."""
    monkeypatch.setattr(golf, "frontier_files", list)


quick = pytest.mark.usefixtures("_few_images", "_nobody_else")


@pytest.fixture
def file(tmp_path):
    """A sparse file that can be read fast."""
    return labkit.save_sparse(seeded(), tmp_path / "mine.lks")


@pytest.fixture
def board(tmp_path, file):
    """A board with one player on it."""
    golf.submit(file, "ada", SALT, tmp_path / "board")
    return tmp_path / "board"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "golf.lock"}


def made(player="ada", weights=2_000, accuracy=0.98, network="0" * 16, size=5_000):
    return Score(player, weights, size, accuracy, network, golf.course_of(SALT))


# The transform


@given(st.text())
def test_transform_is_small_and_always_the_same_for_a_course(salt):
    transform = golf.transform_of(salt)
    assert -8 <= transform.degrees <= 8
    assert {transform.right, transform.down} <= {-1, 0, 1}
    assert transform == golf.transform_of(salt)


def naively_transformed(image, transform):
    """Each new pixel from where it comes from: shift back, turn back, four neighbours, black outside."""
    side, angle = len(image), np.deg2rad(transform.degrees)
    centre, result = (side - 1) / 2, np.zeros_like(image)
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
            result[row, column] = (1 - dr) * upper + dr * lower
    return result


@pytest.mark.parametrize("transform", [Transform(8, 1, -1), Transform(-6.86, -1, 0), Transform(0, 0, 1)], ids=str)
def test_transform_equals_a_naive_one(transform):
    images, _ = data.load_images("MNIST", train=False)
    images = images[:3].unsqueeze(1).float() / 255
    for image, turned in zip(images, golf.transformed(images, transform), strict=True):
        wanted = naively_transformed(image[0].double().numpy(), transform)
        assert np.abs(turned[0].numpy() - wanted).max() < 1e-4


# The score


@quick
def test_score_equals_an_independent_computation(tmp_path):
    network = labkit.load_sparse(FRONTIER / "MNIST_lamp-global-gradual_2000_e12_s0.lks")
    with torch.no_grad():
        weights = network.fc.weight[0]
        weights[weights.abs().argmax()] *= 1.05  # the player's own network, if only just
    path = labkit.save_sparse(network, tmp_path / "grown.lks")
    score = golf.score(path, " ada ", SALT)
    network, content = labkit.load_sparse(path), path.read_bytes()
    images, labels = data.load_images("MNIST", train=False)
    right = 0
    for image, label in zip(images[:FEW], labels[:FEW], strict=True):
        seen = naively_transformed(image.double().numpy() / 255, golf.transform_of(SALT))
        with torch.no_grad():
            right += int(network(torch.tensor(seen, dtype=torch.float32)[None, None]).argmax()) == int(label)
    layers = [tensor for key, tensor in network.state_dict().items() if re.fullmatch(r"(conv\d|fc)\.weight", key)]
    assert score.weights == sum(int(tensor.count_nonzero()) for tensor in layers) > 1_900
    assert (score.player, score.bytes, score.course) == ("ada", len(content), golf.course_of(SALT))
    assert score.network == hashlib.sha256(content).hexdigest()[:16]
    assert abs(score.accuracy - right / FEW) <= 1 / FEW  # the naive transform may differ in a last digit
    assert score.accuracy > 0.9


def of_other_images(path):
    return labkit.save_sparse(seeded((4, 6, 8), (3, 28, 28)), path)


def too_wide(path):
    return labkit.save_sparse(seeded((64, 128, 128)), path)


def without_numbers(path):
    network = seeded()
    with torch.no_grad():
        network.batch1.running_var[0] = -1  # its root is none
    return labkit.save_sparse(network, path)


def of_the_project(path):
    path.write_bytes(next(FRONTIER.glob("*_s0.lks")).read_bytes())


def truncated(path):
    path.write_bytes(labkit.save_sparse(seeded(), path).read_bytes()[:-100])


def text(path):
    path.write_text("a network")


REFUSED = {
    of_other_images: r"is for images \(3, 28, 28\) and 10 classes; golf is played with",
    too_wide: r"channels \(64, 128, 128\), [\d,]+ multiply-adds .* at most 11,427,328 are allowed",
    without_numbers: "some of its answers are not numbers",
    of_the_project: r"is MNIST_\S+_s0\.lks, the project's own",
    truncated: "is damaged or truncated",
    text: "is not a sparse file of labkit",
    str: "is no file",  # writes none
}


@quick
@pytest.mark.parametrize("write", REFUSED)
def test_file_that_can_not_be_scored_is_refused_and_the_board_stays_as_it_was(write, board, tmp_path):
    write(tmp_path / "bad.lks")
    before = contents(board)
    with pytest.raises((ValueError, FileNotFoundError), match=REFUSED[write]):
        golf.submit(tmp_path / "bad.lks", "eve", SALT, board)
    assert contents(board) == before


@pytest.mark.parametrize("name", ["", " \t\n", "x" * 65, "a\nb", "\x1b[31mada", "a\u200bda", "=1+1", "＝1", "@SUM(A1)"])
def test_name_that_can_not_be_shown_is_refused_in_few_words(name):
    with pytest.raises(ValueError, match="it must be 1 to 64 printable characters") as caught:
        golf.checked_player(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["labkit", " LabKit ", "ｌａｂｋｉｔ"])
def test_nobody_plays_under_the_projects_own_name(name, file):
    with pytest.raises(ValueError, match=r"(?i)labkit.*own networks"):
        golf.score(file, name, SALT)


# The board


@quick
@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><b>', "ada, 'bob'; \"x\"", "שלום", "Ada 🏌⛳", "4711"])
def test_name_comes_back_from_the_board_and_is_text_on_the_page(name, file, tmp_path):
    new, scores = golf.submit(file, f" {name} ", SALT, tmp_path)
    assert new.player == name
    assert golf.read_board(tmp_path / "golf.csv", SALT) == scores == [new]
    assert rows_of((tmp_path / "golf.html").read_text(encoding="utf-8"))[0][1] == name


def test_best_accuracy_of_a_player_stays_for_each_number_of_weights():
    scores = [made("ada", 9, share, network) for network, share in enumerate([0.9, 0.8, 0.9, 0.95, 0.95, 0.7])]
    others = [made("bob", 9, 0.9), made("ada", 8, 0.1), made("eve", 9, 0.95)]
    assert golf.best_lines([*scores, *others]) == [others[1], scores[3], others[2], others[0]]


@pytest.mark.usefixtures("_few_images")
def test_new_board_starts_with_the_committed_networks_and_keeps_what_is_on_it(file, tmp_path):
    _, scores = golf.submit(file, "ada", SALT, tmp_path)
    assert [one.player for one in scores if one.player != "labkit"] == ["ada"]
    assert len(scores) >= 4
    _, more = golf.submit(file, "bob", SALT, tmp_path)
    assert [one for one in more if one.player != "bob"] == scores == sorted(scores, key=lambda one: one.weights)


HEADER = ",".join(golf.COLUMNS)
END = f"0123456789abcdef,{golf.course_of(SALT)}\n"
DAMAGED = {
    "empty": "",
    "row cut off": f"{HEADER}\nada,2000,50",
    "no number": f"{HEADER}\nada,many,5000,0.5,{END}",
    "NaN": f"{HEADER}\nada,2000,5000,nan,{END}",
    "escape": f"{HEADER}\nada,2000,\x1b[2J,0.5,{END}",
    "no text": "\udcff\udcfe",
}


@quick
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_board_is_refused_in_words_and_stays_as_it_was(kind, file, board):
    (board / "golf.csv").write_bytes(DAMAGED[kind].encode(errors="surrogateescape"))
    before = contents(board)
    with pytest.raises(ValueError, match=r"is not a board of pruning golf \(.*; mend it or give") as caught:
        golf.submit(file, "eve", SALT, board)
    assert str(caught.value).isprintable()
    assert contents(board) == before


@quick
def test_board_that_can_not_be_written_or_drawn_or_is_of_another_course_stays_as_it_was(file, board, monkeypatch):
    before = contents(board)
    with pytest.raises(ValueError, match=f"is the board of course '{golf.course_of(SALT)}', not {golf.course_of('x')}"):
        golf.submit(file, "eve", "x", board)
    with pytest.raises(OSError, match="cannot be written"):
        golf.submit(file, "eve", SALT, file)
    monkeypatch.setattr(golf, "rendered", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        golf.submit(file, "eve", SALT, board)
    assert contents(board) == before


# The front and par


def test_front_is_those_that_nobody_beats():
    both = [made("ada", 100, 0.9), made("bob", 100, 0.9)]
    beaten = [made("eve", 100, 0.8), made("zoe", 101, 0.9)]
    assert golf.on_the_front([*beaten, *both, made("mia", 102, 0.91)]) == [*both, made("mia", 102, 0.91)]


OWN = [(100, 0.5), (1_000, 0.9), (2_000, 0.8), (10_000, 0.95), (100_000, 0.93)]
PARS = {0: 0.5, 100: 0.5, 316.22776601683796: 0.7, 1_000: 0.9, 2_000: 0.9 + 0.05 * np.log10(2), 10**9: 0.95}


@pytest.mark.parametrize("weights", PARS)
def test_par_is_what_the_best_of_the_projects_networks_reach(weights):
    scores = [made("ada", 500, 0.999), *(made("labkit", *one) for one in OWN), made("bob", 1_000, 0.1)]
    assert golf.par(weights, scores) == pytest.approx(PARS[weights], abs=1e-12)


@pytest.mark.parametrize(
    ("accuracy", "words"), [(0.90004, "0.00"), (0.89996, "0.00"), (0.9006, "+0.06"), (0.8877, "−1.23")]
)
def test_distance_to_par_is_told_in_points_with_a_sign(accuracy, words):
    assert golf.to_par(made("ada", accuracy=accuracy), [made("labkit", accuracy=0.9)]) == words
    assert golf.to_par(made("ada", accuracy=accuracy), [made("ada")]) == "–"


# The page


def rows_of(page):
    """The cells of each row of its tables, as text."""
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in page.split("<tr>")]
    return [[html.unescape(re.sub(r"<.*?>", "", cell)) for cell in row] for row in rows if row]


def test_page_lists_players_and_the_projects_own_with_stars_and_par():
    scores = [made("labkit", 1_000, 0.95), made("ada", 2_000, 0.9725), made("bob", 2_000, 0.96)]
    scores += [made("labkit", 4_000, 0.98), made("labkit", 5_000, 0.97), made("eve", 9_000, 0.98)]
    assert rows_of(golf.page(scores, SALT)) == [
        ["★", "ada", "2,000", "5,000", "97.25", "+0.75"],
        ["", "bob", "2,000", "5,000", "96.00", "−0.50"],
        ["", "eve", "9,000", "5,000", "98.00", "0.00"],
        ["★", "1,000", "5,000", "95.00", "95.00"],
        ["★", "4,000", "5,000", "98.00", "98.00"],
        ["", "5,000", "5,000", "97.00", "98.00"],
    ]


@pytest.mark.parametrize(
    "scores", [[], [made()], [made("labkit")], [made(weights=0, accuracy=1.0), made(accuracy=0.0)]]
)
def test_page_of_any_board_is_whole_needs_no_other_file_and_tells_the_transform(scores):
    page = golf.page(scores, SALT)
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == page.count("<main>") == page.count("</html>") == 1
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(re.findall(r"<(\w+)", page))
    assert not re.search(r"\b(nan|inf)\b|@import|url\((?!['\"]?#)", page)
    assert f"{abs(golf.transform_of(SALT).degrees):g} degrees" in page


# The command


def command(*arguments):
    return CliRunner(env={"COLUMNS": "400"}).invoke(cli.app, ["golf", "submit", *map(str, arguments)])


@pytest.mark.usefixtures("_few_images")
def test_command_scores_prints_the_front_and_writes_both_files(file, tmp_path):
    board = tmp_path / "board"
    done = command(file, "--player", "ada :skull: [bold]", "--board", board)
    assert done.exit_code == 0, done.output
    scores = golf.read_board(board / "golf.csv", students.DEFAULT_SALT)
    (mine,) = (one for one in scores if one.player == "ada :skull: [bold]")
    lines = done.output.splitlines()
    assert (
        lines[0] == f"{mine.player}: {mine.weights:,} weights, {mine.bytes:,} bytes, {100 * mine.accuracy:.2f} % right"
    )
    par = 100 * golf.par(mine.weights, scores)
    assert lines[1] == f"par: {par:.2f} % with as many weights; to par: {golf.to_par(mine, scores)} points"
    for one in golf.on_the_front(scores):
        assert re.search(rf"{one.player[:3]}.*{one.weights:,}.*{one.bytes:,}.*{100 * one.accuracy:.2f}", done.output)
    assert ("not on the front" in done.output) == (mine not in golf.on_the_front(scores))
    assert lines[-1] == f"board: {board / 'golf.html'}"
    assert contents(board).keys() == {"golf.csv", "golf.html"}
    rows = list(csv.DictReader((board / "golf.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["player"] for row in rows] == [one.player for one in scores]


@quick
def test_command_takes_who_has_signed_in_and_the_salt_of_a_course(file, tmp_path):
    assert command(file, "--board", tmp_path / "board").output.startswith("anonymous: ")
    students.sign_in("AB12")
    assert command(file, "--board", tmp_path / "board").output.startswith("ab12: ")
    course = {"format": "labkit course 1", "version": "1", "salt": SALT, "notebooks": {}}
    (tmp_path / "course.json").write_text(json.dumps(course), encoding="utf-8")
    done = command(file, "--course", tmp_path / "course.json", "--board", tmp_path / "other")
    assert len(golf.read_board(tmp_path / "other" / "golf.csv", SALT)) == 1, done.output
    wrong = command(file, "--course", tmp_path / "course.json", "--board", tmp_path / "board")
    assert (wrong.exit_code, wrong.output.count("\n")) == (2, 1)
    assert "is the board of course" in wrong.output
