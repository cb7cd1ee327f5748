"""Pruning golf: the fewest weights that still recognise the digits.

A player hands in a sparse file. It is scored on the test images under one transform that follows from the course's
salt. A network fitted to the plain test images gains less by that, and no more is kept from anybody: images and salt
are on every player's machine, and the board prints the transform. It is a game of honour. Par for a number of weights
is what the project's own networks reach there. The board is a CSV file and a page of HTML.
"""

import csv
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from labkit import runtime
from labkit.cnn import CNN
from labkit.course.cases import committed_files
from labkit.course.csv_file import harmless, write_csv
from labkit.course.report.figures import golf_board
from labkit.course.report.pages import rendered
from labkit.data import load_images
from labkit.smaller.cost import multiply_adds_of
from labkit.smaller.sparse_file import load_sparse
from labkit.sparsity import sparsity_report
from labkit.training import in_mode

MOST_DEGREES, MOST_PIXELS = 8.0, 1
OURS = "labkit"  # the player that the committed networks belong to
LONGEST_NAME = 64  # as a student's ID
PATIENCE = 60.0  # seconds to wait for the board


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

    return affine(images, -transform.degrees, [transform.right, transform.down], 1.0, [0.0], InterpolationMode.BILINEAR)


def checked_player(player: str) -> str:
    """A player's name in its one way of writing: NFKC, without spaces around it.

    Raises:
        ValueError: it is empty, too long, not printable, or a formula where the board is opened as a spreadsheet.
    """
    name = unicodedata.normalize("NFKC", player).strip()
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME or harmless(name) != name:
        rule = f"1 to {LONGEST_NAME} printable characters that no spreadsheet takes for a formula"
        raise ValueError(f"player is {player!r:.80}; it must be {rule}")
    return name


def score(path: Path, player: str, salt: str) -> Score:
    """Score a sparse file; nothing in it is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, a network for other images, one that is too wide, the project's own or without
            answers, or a name that is none.
    """
    player = checked_player(player)
    if player.casefold() == OURS:
        raise ValueError(f"player is {player!r}; the project's own networks have that name, give another one")
    new = _scored(path, player, salt)
    own = {_digest(file): file.name for file in committed_files()}
    if new.network in own:
        raise ValueError(f"{path} is {own[new.network]}, the project's own; hand in a network of yours")
    return new


def _scored(path: Path, player: str, salt: str) -> Score:
    network = load_sparse(path)
    _check_sizes(network, path)
    images, labels = load_images("MNIST", train=False)
    images = transformed(images.unsqueeze(1).float() / 255, transform_of(salt))
    with in_mode(network, training=False), torch.no_grad():
        logits = torch.cat([network(X) for X in images.split(100)])  # among probabilities small ones would tie
    if not logits.isfinite().all():
        raise ValueError(f"{path} cannot be scored: some of its answers are not numbers; train it again")
    weights = sum(row.weights - row.zeros for row in sparsity_report(network))
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    return Score(player, weights, path.stat().st_size, accuracy, _digest(path), course_of(salt))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _check_sizes(network: CNN, path: Path) -> None:
    usual = CNN()
    if (network.input_shape, network.num_of_cls) != (usual.input_shape, usual.num_of_cls):
        sizes = f"images {network.input_shape} and {network.num_of_cls} classes"
        raise ValueError(f"{path} is for {sizes}; golf is played with images (1, 28, 28) and 10 classes")
    # A file of a few KB can announce a network that computes for hours: zeros are packed well and multiplied, too.
    count, dense = multiply_adds_of(network.channels), multiply_adds_of(usual.channels)
    if count > 2 * dense:
        sizes = f"channels {network.channels}, {count:,} multiply-adds for one image"
        raise ValueError(f"{path} has {sizes}; at most {2 * dense:,} are allowed, twice those of the labs' dense CNN")


def course_of(salt: str) -> str:
    """A course's short name on its board, which does not show its salt; a guess of the salt can be confirmed."""
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
        OSError: the folder cannot be written, or somebody else keeps the board locked.
    """
    table = board / "golf.csv"
    runtime.check_writable(table)
    new = score(Path(path), player, salt)
    with FileLock(board / "golf.lock", timeout=PATIENCE):
        own = [] if table.exists() else [_scored(file, OURS, salt) for file in frontier_files()]
        scores = best_lines([*own, *read_board(table, salt), new])
        as_page = page(scores, salt)  # before either file is written: drawing may fail
        write_csv(table, COLUMNS, [asdict(one) for one in scores])
        runtime.write_file(board / "golf.html", as_page)
    return new, scores


def best_lines(scores: Iterable[Score]) -> list[Score]:
    """For each player and number of weights the best accuracy, of equal ones the first; fewest weights first."""
    best: dict[tuple[str, int], Score] = {}
    for one in sorted(scores, key=lambda one: -one.accuracy):
        best.setdefault((one.player, one.weights), one)
    return sorted(best.values(), key=lambda one: (one.weights, -one.accuracy, one.player))


def frontier_files() -> list[Path]:
    """The committed networks of seed 0, that a new board starts with."""
    return sorted((runtime.reference_dir() / "frontier").glob("MNIST_*_s0.lks"))


def read_board(path: Path, salt: str) -> list[Score]:
    """The scores of a board; none if there is no file.

    Raises:
        ValueError: a damaged file, or the board of another course.
    """
    if not path.exists():
        return []
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
        if rows[:1] != [list(COLUMNS)]:
            raise ValueError(f"it starts with {rows[:1]!r:.100}, not with the columns {','.join(COLUMNS)}")
        scores = [_score_in(row) for row in rows[1:]]
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{path} is not a board of pruning golf ({error}); mend it or give another folder") from None
    if others := {one.course for one in scores} - {course_of(salt)}:
        raise ValueError(f"{path} is the board of course {', '.join(sorted(others))!r:.80}, not {course_of(salt)}")
    return scores


def _score_in(row: Sequence[str]) -> Score:
    try:
        player, weights, size, accuracy, network, course = row
        line = Score(checked_player(player), int(weights), int(size), float(accuracy), network, course)
        if min(line.weights, line.bytes) < 0 or not 0 <= line.accuracy <= 1:
            raise ValueError("out of range")
    except ValueError:
        raise ValueError(f"a line is {row!r:.200}; it must be a value for each of {', '.join(COLUMNS)}") from None
    return line


def on_the_front(scores: Sequence[Score]) -> list[Score]:
    """Those that nobody beats: with at most as many weights and at least the accuracy, and one of the two better."""
    return [one for one in scores if not any(_beats(other, one) for other in scores)]


def _beats(first: Score, second: Score) -> bool:
    at_least = first.weights <= second.weights and first.accuracy >= second.accuracy
    return at_least and (first.weights, first.accuracy) != (second.weights, second.accuracy)


def par(weights: int, scores: Iterable[Score]) -> float | None:
    """The accuracy in [0, 1] that the project's own networks reach with so many weights; None where none are scored.

    Those of them count that no other of them beats. Between two, par is linear in the logarithm of the number of
    weights; with fewer weights than the smallest, or more than the largest, it is that one's.
    """
    best = {max(one.weights, 1): one.accuracy for one in on_the_front([one for one in scores if one.player == OURS])}
    sizes = sorted(best)
    return float(np.interp(np.log(max(weights, 1)), np.log(sizes), [best[size] for size in sizes])) if sizes else None


def to_par(one: Score, scores: Iterable[Score]) -> str:
    """In points of accuracy with their sign, as "+0.31"; above par is better. "–" where there is no par."""
    wanted = par(one.weights, scores)
    if wanted is None:
        return "–"
    points = round(100 * (one.accuracy - wanted), 2)
    return f"{points:+.2f}".replace("-", "−") if points else "0.00"


def page(scores: Sequence[Score], salt: str) -> str:
    """The board as one page that needs no other file."""
    players, own = ([one for one in scores if (one.player == OURS) is ours] for ours in (False, True))
    front = on_the_front(scores)
    figure = golf_board(players, own, front, lambda weights: par(weights, scores))
    context: dict[str, object] = {"scores": scores, "players": players, "own": own, "front": front, "figure": figure}
    context |= {"transform": transform_of(salt), "course": course_of(salt), "par": par, "to_par": to_par}
    return rendered("golf.html.j2", **context)
