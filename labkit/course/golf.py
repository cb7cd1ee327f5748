"""Pruning golf: the fewest weights that still tell the digits apart.

A player hands in a sparse file. It is scored on the test images under one transform that follows from the course's
salt. A network fitted to the plain test images gains less by that, and no more is kept from anybody: images and salt
are on every player's machine, and the board prints the transform. It is a game of honour. Par for a number of weights
is what the project's own networks reach there. The board is a CSV file beside a page of HTML.
"""

import csv
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labkit import runtime
from labkit.cnn import CNN
from labkit.course.cases import committed_files
from labkit.course.figures import svg_of
from labkit.course.pages import document, escaped, table
from labkit.course.report import harmless
from labkit.data import load_images
from labkit.plots import BLUE, GREY, VERMILION
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import prunable_layers, sparsity_report
from labkit.study.frontier import PUBLISHED
from labkit.training import in_mode

MOST_DEGREES, MOST_PIXELS = 8.0, 1
OURS = "labkit"  # the player that the committed networks belong to
LONGEST_NAME = 64  # as a student's ID
# What Unicode calls printable although nothing is seen of it: joiners, fillers of Hangul, Khmer and Mongolian, the
# blank of Braille, a note without a head, and all variation selectors.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
PATIENCE = 60.0  # seconds to wait for the board; whoever has it only draws the page and writes two files
NAMED = 12  # players on the front whose names are in the figure


@dataclass(frozen=True)
class Score:
    """One line of the board.

    Attributes:
        player: who handed it in, as ``checked_player`` writes it.
        weights: nonzero weights of the convolutions and of the linear layer.
        bytes: of the sparse file.
        accuracy: on the 10,000 transformed test images, in [0, 1].
        network: SHA-256 of the file, its first 16 digits.
        course: which transform it was scored under.
    """

    player: str
    weights: int
    bytes: int
    accuracy: float
    network: str
    course: str


COLUMNS = tuple(field.name for field in fields(Score))
# Column -> how a cell is written, and in words. Python would also read 2_000, +5 and digits of other scripts.
CELLS = {
    "weights": ("[0-9]{1,9}|10{9}", "a whole number from 0 to 10**9"),
    "bytes": ("[0-9]{1,9}|10{9}", "a whole number from 0 to 10**9"),
    "accuracy": (r"0(\.[0-9]+)?|1(\.0+)?", "a decimal number in [0, 1]"),
    "network": ("[0-9a-f]{16}", "16 digits of 0-9 and a-f"),
    "course": ("[0-9a-f]{8}", "8 digits of 0-9 and a-f"),
}


@dataclass(frozen=True)
class Transform:
    """What is done to every test image: turned, then shifted.

    Attributes:
        degrees: counter-clockwise.
        right: pixels.
        down: pixels.
    """

    degrees: float
    right: int
    down: int


def transform_of(salt: str) -> Transform:
    """The transform of a course: up to 8 degrees and one pixel, drawn from its salt."""
    digest = hashlib.sha256(f"golf\n{salt}".encode()).digest()
    shifts = [digest[place] % (2 * MOST_PIXELS + 1) - MOST_PIXELS for place in (8, 9)]
    share = int.from_bytes(digest[:8], "big") / 2**64
    return Transform(round(MOST_DEGREES * (2 * share - 1), 2), *shifts)


def transformed(images: torch.Tensor, transform: Transform) -> torch.Tensor:
    """Images (N, 1, side, side) in [0, 1], turned and shifted; bilinear, black from outside."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import affine

    shift = [transform.right, transform.down]
    return affine(images, -transform.degrees, shift, 1.0, [0.0], InterpolationMode.BILINEAR)


def checked_player(player: str) -> str:
    """A player's name in its one way of writing: NFKC, without spaces around it, the project's own in lower case.

    Raises:
        ValueError: it is no name, or one that shows something else than it is.
    """
    name = unicodedata.normalize("NFKC", player).strip()
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME or not any(map(str.isalnum, name)):
        rule = f"1 to {LONGEST_NAME} printable characters, with a letter or digit among them"
        raise ValueError(f"player is {player!r:.80}; it must be {rule}")
    hidden = INVISIBLE.search(name)
    if hidden:
        raise ValueError(f"player is {player!a:.80}; U+{ord(hidden[0]):04X} can not be seen, leave it out")
    if harmless(name) != name:
        raise ValueError(f"player is {player!r:.80}; a spreadsheet would take it for a formula, give another name")
    return OURS if unicodedata.normalize("NFKC", name.casefold()) == OURS else name


def score(path: Path, player: str, salt: str) -> Score:
    """Score a sparse file; nothing in it is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, a network for other images, one that is too wide, the project's own or without
            answers, or a name that is none.
    """
    player = checked_player(player)
    if player == OURS and path not in frontier_files():
        raise ValueError(f"player is {player!r}; the project's own networks have that name, give another one")
    network = load_sparse(path)
    _check_sizes(network, path)
    if player != OURS:
        _check_is_not_ours(network, path)
    content = path.read_bytes()
    images, labels = load_images("MNIST", train=False)
    right = _answers(network, transformed(images.unsqueeze(1).float() / 255, transform_of(salt)), path) == labels
    return Score(
        player,
        sum(row.weights - row.zeros for row in sparsity_report(network)),
        len(content),
        float(right.double().mean()),
        hashlib.sha256(content).hexdigest()[:16],
        course_of(salt),
    )


def _check_sizes(network: CNN, path: Path) -> None:
    usual = CNN()
    if (network.input_shape, network.num_of_cls) != (usual.input_shape, usual.num_of_cls):
        what = f"images {network.input_shape} and {network.num_of_cls} classes"
        raise ValueError(f"{path} is for {what}; golf is played with images (1, 28, 28) and 10 classes")
    # A file of a few KB can announce a network that computes for hours: zeros are packed well and multiplied, too.
    count, most = _multiply_adds(network.channels), 2 * _multiply_adds(usual.channels)
    if count > most:
        what = f"channels {network.channels}, {count:,} multiply-adds for one image"
        raise ValueError(f"{path} has {what}; at most {most:,} are allowed, twice those of the labs' dense CNN")


def _multiply_adds(channels: tuple[int, int, int]) -> int:
    """Of a dense network for one image (1, 28, 28), as ``cost.multiply_adds`` counts them, without computing it."""
    first, second, third = channels
    return 9 * (28 * 28 * first + 14 * 14 * first * second + 5 * 5 * second * third) + 5 * 5 * third * 10


def _check_is_not_ours(network: CNN, path: Path) -> None:
    weights = _weights(network)
    for own in committed_files():
        theirs = _committed_weights(own)
        # Nearly equal: saving a network again may round a scale otherwise.
        same = all(a.shape == b.shape and torch.allclose(a, b) for a, b in zip(weights, theirs, strict=True))
        if same:
            raise ValueError(f"{path} has the weights of {own.name}, the project's own; hand in a network of yours")


def _weights(network: CNN) -> list[torch.Tensor]:
    return [getattr(network, name).weight.detach() for name in prunable_layers(network)]


@cache
def _committed_weights(path: Path) -> list[torch.Tensor]:
    return _weights(load_sparse(path))


@torch.no_grad()
def _answers(network: CNN, images: torch.Tensor, path: Path) -> torch.Tensor:
    """The class (N,) of each image's largest logit; among probabilities in float32 small logits would tie."""
    with in_mode(network, training=False):
        logits = torch.cat([network(X) for X in images.split(100)])
    wrong = int((~logits.isfinite()).any(dim=1).sum())
    if wrong:
        said = f"its answers to {wrong:,} of {len(images):,} images are not numbers"
        raise ValueError(f"{path} can not be scored: {said}; train it again")
    return logits.argmax(dim=1)


def course_of(salt: str) -> str:
    """A course's short name on its board, which does not show its salt; whoever guesses the salt can confirm it."""
    return hashlib.sha256(f"golf board\n{salt}".encode()).hexdigest()[:8]


def submit(path: Path, player: str, salt: str, board: Path) -> tuple[Score, list[Score]]:
    """Score a sparse file and put it on the board: ``BOARD/golf.csv`` and ``BOARD/golf.html``.

    A new board starts with networks that are committed with the project. A player has one line for each number of
    weights: the one with the best accuracy stays, of equal ones the older.

    Args:
        path: the sparse file.
        player: the name on the board.
        salt: of the course.
        board: folder of the board.

    Returns:
        The score, and all scores of the board, fewest weights first. The score is not among them if an older line of
        the player's is as good or better.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as ``score``; or a board that is damaged, or of another course: it is left as it was.
        TimeoutError: somebody else keeps the board locked.
        OSError: the folder can not be written.
    """
    table, lock = board / "golf.csv", board / "golf.lock"
    for place in (table, board / "golf.html", lock):
        runtime.check_writable(place)
    is_new = not read_board(table, salt)  # a damaged board is told before the work
    new = score(Path(path), player, salt)
    own = [score(file, OURS, salt) for file in sorted(frontier_files())] if is_new else []
    try:
        with FileLock(lock, timeout=PATIENCE):
            scores = best_lines([*(read_board(table, salt) or own), new])  # others may have written meanwhile
            as_page = page(scores, salt)  # before either file is written: drawing may fail
            _write(table, _csv_of(scores))
            _write(board / "golf.html", as_page)
    except Timeout:
        raise TimeoutError(f"{lock} is still locked by another submission after {PATIENCE:g} s; try again") from None
    return new, scores


def best_lines(scores: Iterable[Score]) -> list[Score]:
    """For each player and number of weights the best accuracy, of equal ones the first; fewest weights first."""
    best: dict[tuple[str, int], Score] = {}
    for one in scores:
        before = best.setdefault((one.player, one.weights), one)
        if one.accuracy > before.accuracy:
            best[one.player, one.weights] = one
    return sorted(best.values(), key=lambda one: (one.weights, -one.accuracy, one.player))


def frontier_files() -> list[Path]:
    """The committed networks of seed 0, that a new board starts with."""
    return list((runtime.reference_dir() / "frontier").glob("MNIST_*_s0.lks"))


def read_board(path: Path, salt: str) -> list[Score]:
    """The scores of a board; none if there is no file.

    Raises:
        ValueError: a damaged file, or the board of another course.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark in front
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        head = rows[0] if rows else []
        if tuple(head) != COLUMNS:
            raise ValueError(f"its columns are {','.join(head)[:100]!r}, not {','.join(COLUMNS)}")
        scores = [_score_in(row, line) for line, row in enumerate(rows[1:], start=2)]
        if not text.endswith("\n"):
            raise ValueError("its last line has no end, as if the file were cut off")
        lines = Counter((one.player, one.weights) for one in scores)
        for (player, weights), times in lines.items():
            if times > 1:
                raise ValueError(f"{player!r} has {times} lines with {weights:,} weights, one is allowed")
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{path} is not a board of pruning golf ({error}); mend it or give another folder") from None
    others = {one.course for one in scores} - {course_of(salt)}
    if others:
        raise ValueError(f"{path} is the board of course {', '.join(sorted(others))}, not {course_of(salt)}")
    return scores


def _score_in(row: Sequence[str], line: int) -> Score:
    if len(row) != len(COLUMNS):
        raise ValueError(f"row {line} has {len(row)} cells, not {len(COLUMNS)}")
    cells = dict(zip(COLUMNS, row, strict=True))
    player = cells["player"]
    if checked_player(player) != player:
        raise ValueError(f"row {line}: player is {player!a:.80}; it must be written {checked_player(player)!r}")
    for name, (form, words) in CELLS.items():
        if not re.fullmatch(form, cells[name]):
            raise ValueError(f"row {line}: {name} is {cells[name]!r:.80}; it must be {words}")
    weights, size, accuracy = int(cells["weights"]), int(cells["bytes"]), float(cells["accuracy"])
    return Score(player, weights, size, accuracy, cells["network"], cells["course"])


def on_the_front(scores: Sequence[Score]) -> list[Score]:
    """Those that nobody beats: with at most as many weights and at least the accuracy, and one of the two better."""
    return [
        one
        for one in scores
        if not any(
            other.weights <= one.weights
            and other.accuracy >= one.accuracy
            and (other.weights, other.accuracy) != (one.weights, one.accuracy)
            for other in scores
        )
    ]


def par(weights: int, scores: Iterable[Score]) -> float | None:
    """The accuracy in [0, 1] that the project's own networks reach with so many weights; None where none are scored.

    Those of them count that no other of them beats. Between two, par is linear in the logarithm of the number of
    weights; with fewer weights than the smallest, or more than the largest, it is that one's.
    """
    own = on_the_front([one for one in scores if one.player == OURS])
    best = {max(one.weights, 1): one.accuracy for one in own}
    sizes = sorted(best)
    if not sizes:
        return None
    return float(np.interp(np.log(max(weights, 1)), np.log(sizes), [best[size] for size in sizes]))


def to_par(one: Score, scores: Iterable[Score]) -> str:
    """In points of accuracy with their sign, as "+0.31"; above par is better. "–" where there is no par."""
    wanted = par(one.weights, scores)
    if wanted is None:
        return "–"
    points = round(100 * (one.accuracy - wanted), 2)
    return f"{points:+.2f}".replace("-", "−") if points else "0.00"


def page(scores: Sequence[Score], salt: str) -> str:
    """The board as one page that needs no other file."""
    front = set(on_the_front(scores))
    players = [one for one in scores if one.player != OURS]
    own = [one for one in scores if one.player == OURS]
    headers = ["★", "player", "#weights", "#bytes", "#accuracy [%]", "#to par"]
    lines = [_cells(one, one in front, escaped(one.player), to_par(one, scores)) for one in players]
    board = table("The board", headers, lines) if players else "<p>Nobody has handed in yet.</p>"
    rows = [_cells(one, one in front, None, f"{100 * (par(one.weights, scores) or 0):.2f}") for one in own]
    pars = table("Par", ["★", "#weights", "#bytes", "#accuracy [%]", "#par [%]"], rows) if own else "<p>None.</p>"
    body = f"""<h1>Pruning golf</h1>
<p>The fewest nonzero weights at the highest accuracy, on the 10,000 test images of MNIST, {_in_words(salt)}, as course
{course_of(salt)} has drawn. Biases and batch norms do not count.</p>
<h2>The board</h2>
<p>★: nobody is better in one of the two, weights and accuracy, and at least as good in the other. To par: points of
accuracy above (+) or below (−) what this project's own networks reach with as many weights.</p>
{board}
<h2>Error and weights</h2>
{_figure(scores)}
<p>Published points are of LeNet-5 on the images as they are, one run each: to compare with, not to be beaten by
these rules.</p>
<h2>Par: the project's own networks</h2>
<p>Between two of the best, par is linear in the logarithm of the number of weights; beyond the smallest and the
largest, it is theirs.</p>
{pars}"""
    return document("Pruning golf", body)


def _in_words(salt: str) -> str:
    transform = transform_of(salt)
    way = "counter-clockwise" if transform.degrees > 0 else "clockwise"
    sideways = {-1: "one pixel to the left", 0: "not sideways", 1: "one pixel to the right"}[transform.right]
    upwards = {-1: "one pixel up", 0: "neither up nor down", 1: "one pixel down"}[transform.down]
    return f"turned by {abs(transform.degrees):g} degrees {way}, then shifted {sideways}, {upwards}"


def _cells(one: Score, star: bool, player: str | None, last: str) -> list[str]:
    """The cells of a line, as HTML; without a player's where all are of the same."""
    numbers = [f"{one.weights:,}", f"{one.bytes:,}", f"{100 * one.accuracy:.2f}", last]
    return ["★" if star else "", *([] if player is None else [player]), *numbers]


def _figure(scores: Sequence[Score]) -> str:
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.subplots()
    groups = (
        ("players", [one for one in scores if one.player != OURS], "o", VERMILION),
        ("labkit's own networks", [one for one in scores if one.player == OURS], "s", BLUE),
    )
    for label, members, marker, colour in groups:
        x, y = [one.weights for one in members], [_error(one.accuracy) for one in members]
        ax.scatter(x, y, marker=marker, color=colour, s=40, label=label, zorder=3 if marker == "s" else 4)
    _draw_par(ax, scores)
    x, y = [point.nonzero for point in PUBLISHED], [_error(1 - point.error) for point in PUBLISHED]
    label = "published, images as they are"
    ax.scatter(x, y, marker="d", s=50, color=GREY, edgecolors="black", linewidths=0.6, label=label)
    front = sorted(on_the_front(scores), key=lambda one: one.weights)
    steps = [one.weights for one in front], [_error(one.accuracy) for one in front]
    ax.step(*steps, where="post", color="black", linewidth=1, label="the front")
    ax.set(xscale="log", yscale="log", xlabel="nonzero weights", ylabel="error [%]")
    errors = [*y, *(_error(one.accuracy) for one in scores)]
    low, high = min(errors) / 1.3, max(errors) * 1.3
    numbers = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
    ticks = [tick for tick in numbers if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(low, high)
    sizes = [point.nonzero for point in PUBLISHED] + [one.weights for one in scores]
    counts = (1, 10, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000, 300_000)
    wide = [number for number in counts if max(min(sizes), 1) / 2 <= number <= 2 * max(sizes)]
    ax.set_xticks(wide, [f"{n:,}" for n in wide])
    ax.minorticks_off()
    for one in front[:NAMED]:
        if one.player != OURS and one.player.isascii():  # the figure's font has not every letter
            place = (one.weights, _error(one.accuracy))
            ax.annotate(one.player[:16], place, (5, 5), textcoords="offset points", fontsize=8, parse_math=False)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    return svg_of(figure, "Error against nonzero weights")


def _draw_par(ax: Axes, scores: Sequence[Score]) -> None:
    own = [one.weights for one in scores if one.player == OURS]
    if own:
        sizes = np.geomspace(max(min(own), 1), max(own), 200)
        errors = [_error(par(round(size), scores) or 0.0) for size in sizes]
        ax.plot(sizes, errors, color=BLUE, linewidth=1, linestyle=":", label="par")


def _error(accuracy: float) -> float:
    """In percent; no error at all is drawn as half of the least one, since the axis is logarithmic."""
    return 100 * max(1 - accuracy, 0.00005)


def _csv_of(scores: Sequence[Score]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in scores)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    with runtime.written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
