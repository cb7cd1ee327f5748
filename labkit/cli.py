"""The command ``labkit``."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from labkit import execution, runtime

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The pruning labs from the command line.")


@app.callback()
def main() -> None:
    """The pruning labs from the command line."""


@app.command()
def run(
    notebooks: Annotated[list[Path] | None, typer.Argument(help="Notebooks; default: all in notebooks/.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for executed copies, networks and records.")] = Path("build"),
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = min(2, os.cpu_count() or 1),
    threads: Annotated[int, typer.Option(min=1, help="Threads of each notebook.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds allowed for one cell.")] = 1800,
    store: Annotated[bool, typer.Option(help="Put outputs that differ beyond their marks into the notebooks.")] = False,
    fresh: Annotated[bool, typer.Option(help="With --store: put in all outputs, also unchanged ones.")] = False,
) -> None:
    """Execute notebooks without a browser, and compare what they found with what is stored."""
    console = Console()
    paths = [p.resolve() for p in notebooks or sorted((runtime.PROJECT / "notebooks").glob("[0-9]*.ipynb"))]
    out = out.resolve()
    problem = _what_is_wrong(paths, out)
    if problem:
        console.print(problem, style="red", markup=False, highlight=False)
        raise typer.Exit(2)
    for path in paths:
        shutil.rmtree(out / "models" / path.stem, ignore_errors=True)
    try:
        outcomes = _run_with_bars(console, paths, out, jobs, threads, timeout)
    except KeyboardInterrupt:
        console.print(f"interrupted; what was executed so far is in {out}", style="red")
        raise typer.Exit(130) from None

    failed = [outcome for outcome in outcomes if outcome.error]
    rows = execution.verdicts([path.stem for path in paths], out)
    if store:
        for outcome, path in zip(outcomes, paths, strict=True):
            for line in [] if outcome.error else execution.store(outcome, path, out, fresh=fresh):
                console.print(line, highlight=False, markup=False)
    _print_table(console, rows)
    for outcome in failed:
        console.print(f"FAILED {outcome.name} {outcome.error}", style="bold red", markup=False, highlight=False)
    minutes = sum(sum(outcome.seconds) for outcome in outcomes) / 60
    console.print(
        f"{len(paths) - len(failed)} of {len(paths)} notebooks ran to their end, {minutes:.1f} minutes of cells; "
        f"copies in {out}"
    )
    if failed or not (store or all(row.same for row in rows)):
        raise typer.Exit(1)


def _what_is_wrong(paths: list[Path], out: Path) -> str:
    """Why this run can not be, or nothing."""
    for path in paths:
        if path.suffix != ".ipynb" or not path.is_file():
            return f"{path} is not a notebook; give .ipynb files that exist"
        if out / "notebooks" / path.name == path or out == runtime.PROJECT:
            return f"--out is {out}, which holds the notebooks or networks themselves; give another folder"
    if not paths:
        return "there is no notebook to run in notebooks/"
    if len({path.stem for path in paths}) < len(paths):
        return f"{len(paths)} notebooks share a name; each name can be run only once"
    try:
        runtime.check_writable(out / "notebooks" / "any")
    except OSError as error:
        return str(error)
    return ""


def _run_with_bars(
    console: Console, paths: list[Path], out: Path, jobs: int, threads: int, timeout: float
) -> list[execution.Outcome]:
    """Execute all, with one bar a notebook: share of the expected seconds, time taken, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=600) as bars:
        tasks = {}
        for path in paths:
            cells = execution.count_cells(path)
            tasks[path.stem] = bars.add_task(
                path.stem, total=sum(execution.expected_seconds(path.stem)) or cells, start=False
            )

        def progress(name: str, done: float) -> None:
            bars.start_task(tasks[name])
            bars.update(tasks[name], completed=done)

        return asyncio.run(execution.execute_all(paths, out, jobs, threads, timeout, progress))


def _print_table(console: Console, rows: list[execution.Verdict]) -> None:
    table = Table(title="What the notebooks found")
    for name in ("notebook", "network"):
        table.add_column(name, overflow="fold")
    for name in ("sparsity", "test accuracy", "stored"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for row in rows:
        stored = "–" if row.stored is None else f"{row.stored:.4f}"
        style = "" if row.same else "bold red"
        table.add_row(
            row.notebook.partition("_")[0],
            row.network,
            f"{100 * row.sparsity:.2f} %",
            f"{row.accuracy:.4f}",
            stored,
            row.words,
            style=style,
        )
    console.print(table)


if __name__ == "__main__":
    app()
