"""The command ``labkit``: every floor brings its own commands."""

import io
import sys
from collections.abc import Callable

import typer

from labkit.console import mistakes_in_one_line
from labkit.course import commands as course
from labkit.rerun import commands as rerun
from labkit.study import commands as study

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The pruning labs from the command line.")
COMMANDS: list[Callable[..., None]] = [
    *(rerun.run, course.release, course.pack, course.start, course.repair, course.grade),
    *(course.playground, study.study),
]
for command in COMMANDS:
    app.command(no_args_is_help=command is course.repair)(mistakes_in_one_line(command))
app.add_typer(course.golf_app, name="golf")


@app.callback()
def main() -> None:
    """The pruning labs from the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends nothing


if __name__ == "__main__":
    app()
