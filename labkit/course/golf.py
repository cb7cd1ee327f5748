"""Pruning golf: the fewest weights that still tell the digits apart.

A player hands in a sparse file. It is scored on the test images under one transform that follows from the course's
salt, so that nobody can fit a network to the very images that count. The board is a CSV file beside a page of HTML.
"""

import csv
import hashlib
import html
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from filelock import FileLock
from matplotlib.figure import Figure

from labkit import runtime
from labkit.cnn import CNN
from labkit.course.figures import svg_of
from labkit.course.pages import STYLE, escaped
from labkit.course.report import harmless
from labkit.data import load_images
from labkit.plots import BLUE, GREY, VERMILION
from labkit.sparse_files import load_sparse
from labkit.sparsity import sparsity_report
from labkit.study.damage import predict
from labkit.study.frontier import PUBLISHED

MOST_DEGREES, MOST_PIXELS = 8.0, 1
OURS = "labkit"  # the player that the committed networks belong to
LONGEST_NAME = 40
NAMED = 12  # players on the front whose names are in the figure


@dataclass(frozen=True)
class Score:
    """One line of the board.

    Attributes:
        player: who handed it in.
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

    shift = [transform.right, transform.down]
    return affine(images, -transform.degrees, shift, 1.0, [0.0], InterpolationMode.BILINEAR)


def score(path: Path, player: str, salt: str) -> Score:
    """Score a sparse file; nothing in it is run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, a network for other images, or a name that is none.
    """
    player = player.strip()
    if not player.isprintable() or not 1 <= len(player) <= LONGEST_NAME:
        raise ValueError(f"player is {player!r:.80}; it must be 1 to {LONGEST_NAME} printable characters")
    if harmless(player) != player:
        raise ValueError(f"player is {player!r}; a spreadsheet would take it for a formula, give another name")
    if player.casefold() == OURS and path not in frontier_files():
        raise ValueError(f"player is {player!r}; the project's own networks have that name, give another one")
    network = load_sparse(path)
    if (network.input_shape, network.num_of_cls) != (CNN().input_shape, CNN().num_of_cls):
        what = f"images {network.input_shape} and {network.num_of_cls} classes"
        raise ValueError(f"{path} is for {what}; golf is played with images (1, 28, 28) and 10 classes")
    content = path.read_bytes()
    images, labels = load_images("MNIST", train=False)
    seen = transformed(images.unsqueeze(1).float() / 255, transform_of(salt))
    right = predict(network, seen).argmax(dim=1) == labels
    return Score(
        player,
        sum(row.weights - row.zeros for row in sparsity_report(network)),
        len(content),
        float(right.double().mean()),
        hashlib.sha256(content).hexdigest()[:16],
        course_of(salt),
    )


def course_of(salt: str) -> str:
    """A course's short name on its board; its salt can not be told from it."""
    return hashlib.sha256(f"golf board\n{salt}".encode()).hexdigest()[:8]


def submit(path: Path, player: str, salt: str, board: Path) -> tuple[Score, list[Score]]:
    """Score a sparse file and put it on the board: ``BOARD/golf.csv`` and ``BOARD/golf.html``.

    A new board starts with the networks that are committed with the project. The same network of the same player
    is on the board once.

    Args:
        path: the sparse file.
        player: the name on the board.
        salt: of the course.
        board: folder of the board.

    Returns:
        The score, and all scores of the board, fewest weights first.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as ``score``; or a board that is damaged, or of another course: it is left as it was.
        OSError: the folder can not be written.
    """
    for name in ("golf.csv", "golf.html", "golf.lock"):
        runtime.check_writable(board / name)
    with FileLock(board / "golf.lock"):
        scores = read_board(board / "golf.csv", salt)
        new = score(Path(path), player, salt)
        if not scores:
            scores = [score(own, OURS, salt) for own in sorted(frontier_files())]
        scores = [old for old in scores if (old.player, old.network) != (new.player, new.network)]
        scores = sorted([*scores, new], key=lambda one: (one.weights, -one.accuracy, one.player))
        _write(board / "golf.csv", _csv_of(scores))
        _write(board / "golf.html", page(scores, salt))
    return new, scores


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
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True))
        head = rows[0] if rows else []
        if tuple(head) != COLUMNS:
            raise ValueError(f"its columns are {','.join(head)[:100]!r}, not {','.join(COLUMNS)}")
        for line, row in enumerate(rows, start=1):
            if len(row) != len(COLUMNS):
                raise ValueError(f"row {line} has {len(row)} cells, not {len(COLUMNS)}")
        scores = [Score(row[0], int(row[1]), int(row[2]), float(row[3]), row[4], row[5]) for row in rows[1:]]
        for one in scores:
            if len(one.player) > LONGEST_NAME:
                raise ValueError(
                    f"a player's name has {len(one.player)} characters, at most {LONGEST_NAME} are allowed"
                )
            if min(one.weights, one.bytes) < 0 or not 0 <= one.accuracy <= 1:
                raise ValueError(f"{one.player} has {one.weights} weights, {one.bytes} bytes, accuracy {one.accuracy}")
    except (ValueError, OSError, csv.Error) as error:
        raise ValueError(f"{path} is not a board of pruning golf ({error}); mend it or give another folder") from None
    others = {one.course for one in scores} - {course_of(salt)}
    if others:
        raise ValueError(f"{path} is the board of course {', '.join(sorted(others))}, not {course_of(salt)}")
    return scores


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


def page(scores: Sequence[Score], salt: str) -> str:
    """The board as one page that needs no other file."""
    transform, front = transform_of(salt), set(on_the_front(scores))
    way = "counter-clockwise" if transform.degrees > 0 else "clockwise"
    lines = "".join(_line(one, star="★" if one in front else "") for one in scores)
    sideways = {-1: "one pixel to the left", 0: "not sideways", 1: "one pixel to the right"}[transform.right]
    upwards = {-1: "one pixel up", 0: "neither up nor down", 1: "one pixel down"}[transform.down]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pruning golf</title><style>{STYLE}</style></head><body>
<h1>Pruning golf</h1>
<p>The fewest nonzero weights at the highest accuracy, on the 10,000 test images of MNIST, turned by
{abs(transform.degrees):g} degrees {way}, then shifted {sideways}, {upwards}, as course {course_of(salt)} has drawn.
★: nobody is better in one of the two, weights and accuracy, and at least as good in the other. Biases and batch norms
do not count.</p>
{_figure(scores)}
<div class="wide"><table><thead><tr><th>★</th><th>player</th><th class=n>nonzero weights</th><th class=n>bytes</th>
<th class=n>accuracy [%]</th><th>network</th></tr></thead><tbody>{lines}</tbody></table></div>
<p>Published points are of LeNet-5 on the images as they are, one run each: to compare with, not to be beaten by
these rules.</p></body></html>
"""


def _line(one: Score, star: str) -> str:
    texts = (f"{one.weights:,}", f"{one.bytes:,}", f"{100 * one.accuracy:.2f}")
    numbers = "".join(f"<td class=n>{text}</td>" for text in texts)
    network = f"<td><code>{html.escape(one.network)}</code></td>"
    return f"<tr><td>{star}</td><td>{escaped(one.player)}</td>{numbers}{network}</tr>"


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
