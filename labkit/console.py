"""What all commands print with: one kind of console, of table and of message for mistakes and interrupts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


def make_console() -> Console:
    """Names and paths are printed as they are, and a message stays one line."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def make_table(title: str, texts: Sequence[str], numbers: Sequence[str], caption: str | None = None) -> Table:
    """A table without rows: columns of text, folded where they are too long, then columns of numbers."""
    table = Table(title=title, caption=caption)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def make_bar(console: Console, title: str, column: ProgressColumn, seconds: float) -> Progress:
    """A bar of progress that estimates the time left from so many past seconds."""
    columns = (TextColumn(title), BarColumn(), column, TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, speed_estimate_period=seconds)


def mistakes_in_one_line(command: Callable[..., None]) -> Callable[..., None]:
    """The command, where what a user did wrong is one line, and the exit status 2."""

    @wraps(command)
    def wrapped(*args: object, **options: object) -> None:
        try:
            command(*args, **options)
        except typer.Exit:  # a RuntimeError too
            raise
        except (ValueError, OSError, RuntimeError) as error:
            make_console().print(str(error), style="red")
            raise typer.Exit(2) from None

    return wrapped


@contextmanager
def interrupts_in_one_line(console: Console, words: str) -> Iterator[None]:
    """An interrupt is one line that says what is kept, and the exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        console.print(f"interrupted; {words}", style="red")
        raise typer.Exit(130) from None
