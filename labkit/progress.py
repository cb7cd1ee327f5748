"""How far a long computation is: tqdm, which a notebook shows as one line for a cell, however many loops are open.

The line counts the outer loops (``round 3 of 10``), shows the time that is left for the outermost loop, and what the
innermost said last. At the end of the cell it says what was done and how long it took, or where it stopped. It is plain
HTML, and needs no widget that a saved notebook would miss.
"""

import html
import sys
import time
import uuid
from collections.abc import Sized
from typing import Any

from tqdm import tqdm

from labkit import runtime

RED, GREEN = "#D55E00", "#009E73"  # training and evaluating, as in the original; these two differ for all eyes


def progress(steps: Sized, name: str, done: int = 0, colour: str = "") -> "tqdm[Any]":
    """Loop over the steps, and show how far it is.

    Args:
        steps: what to loop over.
        name: of one step, such as ``"round"``.
        done: steps of the same work that were done earlier, and are only counted.
        colour: of the bar; a loop with its own colour is shown in percent.

    Returns:
        A tqdm: to loop over, and a context that closes it; ``set_postfix_str`` adds something to the count.
    """
    off = not (runtime.bars_are_on() and sys.stderr)  # a program may have no stderr
    shown: dict[str, Any] = {"desc": name, "colour": colour or None, "disable": off}
    counts: dict[str, Any] = {"initial": done, "total": done + len(steps), "mininterval": 0.2, "miniters": 1}
    if notebook() is None:
        return tqdm(steps, leave=False, dynamic_ncols=True, **shown, **counts)  # type: ignore[call-overload]
    return _CellLine(steps, gui=True, delay=0.0 if _CellLine.open() else 0.5, **shown, **counts)


class _CellLine(tqdm):  # type: ignore[type-arg]
    """A bar whose refreshing draws one line for all bars that are open in the cell."""

    id = ""  # of the cell's line, once it is shown
    stopped = last = ""  # where a loop of the cell ended early, and where the last loop ended
    began = 0.0  # when the cell's first loop began; then the end of the cell is waited for
    share = 0.0  # the most steps of a bar that were done: a second loop within a step starts again, the step does not
    total: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if not _CellLine.began and not self.disable:
            notebook().events.register("post_run_cell", _CellLine.end)
            _CellLine.began, _CellLine.last = time.monotonic(), ""
        _CellLine.stopped = "" if self.open() == [self] else self.stopped

    def close(self) -> None:
        """End the bar, and remember how: one that ends early may be where the cell was stopped."""
        if not self.disable:
            _CellLine.last = self.text()
            if self.n < self.total:
                _CellLine.stopped = self.stopped or self.last
            elif self.open() == [self]:  # what ended early within it was meant to
                _CellLine.stopped = ""
        super().close()

    def display(self, *_arguments: Any, **_named: Any) -> None:
        """Draw the line."""
        part, bars = 0.0, self.open()  # the part of the step under way
        for bar in reversed(bars):
            bar.share = max(bar.share, bar.n - bar.initial + part)
            part = min(bar.share / max(bar.total - bar.initial, 1), 1.0)
        left = bars[0].format_dict["elapsed"] * (1 / part - 1) if part > 0 else 0
        text = self.text(f"{tqdm.format_interval(left).removeprefix('0')} left" if part > 0 else "")
        colour = next((bar.colour for bar in reversed(bars) if bar.colour), GREEN)
        fill = f"width:10em;height:.7em;background:linear-gradient(to right,{colour} {part:.1%},#8884 {part:.1%})"
        self.show(text, f'<span aria-hidden="true" style="display:inline-block;{fill}"></span> ')

    @classmethod
    def open(cls) -> list[Any]:
        """The bars that are open, the outermost first."""
        return sorted((bar for bar in vars(tqdm)["_instances"] if isinstance(bar, cls)), key=lambda bar: bar.start_t)

    @classmethod
    def text(cls, left: str = "") -> str:
        """Which step of each loop is under way, the time that is left, and what was said last."""
        bars = cls.open()
        shares = [f"{100 * bar.n / max(bar.total, 1):.0f} %" for bar in bars]
        steps = [f"{min(bar.n + 1, bar.total)} of {bar.total}" for bar in bars]
        counts = [f"{b.desc} {share if b.colour else step}" for b, share, step in zip(bars, shares, steps, strict=True)]
        return " · ".join(words for words in [*counts, left, *(bar.postfix for bar in bars)] if words)

    @classmethod
    def show(cls, text: str, bar: str = "") -> None:
        """Put a text, and in HTML a bar before it, into the line."""
        from IPython.display import display, update_display

        data = {"text/plain": text, "text/html": f'<div class="labkit-progress">{bar}{html.escape(text)}</div>'}
        draw, cls.id = (update_display, cls.id) if cls.id else (display, uuid.uuid4().hex)
        # Comparisons of outputs leave out what has this metadata.
        draw(data, raw=True, metadata={"labkit": "progress"}, display_id=cls.id)

    @classmethod
    def end(cls, result: Any) -> None:
        """The cell has ended: well, by an error, or by an interrupt."""
        notebook().events.unregister("post_run_cell", cls.end)
        for bar in reversed(cls.open()):  # loops that were left, and not ended
            bar.close()
        if cls.id:
            took = tqdm.format_interval(time.monotonic() - cls.began).removeprefix("0")
            cls.show(f"done: {cls.last} in {took}" if result.success else f"stopped at {cls.stopped or cls.last}")
        cls.id, cls.began = "", 0.0


def notebook() -> Any:
    """IPython's shell where a notebook's kernel runs it; None in a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if hasattr(shell, "kernel") else None
