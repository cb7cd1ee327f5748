"""The command ``labkit run``."""

import asyncio
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from labkit import runtime
from labkit.console import interrupts_in_one_line, make_console, make_table
from labkit.rerun import comparison, execution


def run(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="Numbers such as 03, or .ipynb files; default: all in notebooks/.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for executed copies, networks and records.")] = Path("build"),
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks to run at once.")] = min(2, os.cpu_count() or 1),
    threads: Annotated[int, typer.Option(min=1, help="Threads of each notebook.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds allowed for one cell.")] = 1800,
    store: Annotated[bool, typer.Option(help="Store the outputs of notebooks that differ beyond their marks.")] = False,
    fresh: Annotated[bool, typer.Option(help="With --store: also of notebooks without a change.")] = False,
) -> None:
    """Execute notebooks without a browser, and compare what they found with what is stored."""
    console, out = make_console(), out.resolve()
    execution.check_environment()
    paths = execution.find_notebooks(notebooks or [])
    if runtime.precision(runtime.pick_device("cpu")).startswith("emulated"):
        console.print(runtime.EMULATED)
    _check_paths(paths, out)
    for path in paths:
        shutil.rmtree(out / "models" / path.stem, ignore_errors=True)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.default_int_handler)  # a closed terminal leaves no kernel behind
    with interrupts_in_one_line(console, f"what was executed so far is in {out}"):
        outcomes = _run_with_bars(console, paths, out, jobs, threads, timeout)

    failed = [outcome for outcome in outcomes if outcome.error]
    rows = comparison.compare_records([path.stem for path in paths], out)
    if store:
        for outcome, path in zip(outcomes, paths, strict=True):
            for line in [] if outcome.error else comparison.store(outcome, path, out, fresh=fresh):
                console.print(line)
    _print_table(console, rows)
    for outcome in failed:
        console.print(f"FAILED {outcome.name} {outcome.error}", style="bold red")
    minutes = sum(sum(outcome.taken) for outcome in outcomes) / 60
    ran = f"{len(paths) - len(failed)} of {len(paths)} notebooks ran to their end, {minutes:.1f} minutes of cells"
    console.print(f"{ran}; copies in {out}")
    if failed or not (store or all(row.same for row in rows)):
        raise typer.Exit(1)


def _check_paths(paths: list[Path], out: Path) -> None:
    """Make sure that this run can be.

    Raises:
        ValueError: it cannot, and why.
        OSError: the folder cannot be written.
    """
    for path in paths:
        if not path.stem.strip("."):
            raise ValueError(f"{path} has no name but its ending; give it one")
        if out / "notebooks" / path.name == path or out == runtime.PROJECT:
            raise ValueError(f"--out is {out}, which holds the notebooks or networks themselves; give another folder")
    if not paths:
        raise ValueError("there is no notebook to run in notebooks/")
    if len({path.stem for path in paths}) < len(paths):
        raise ValueError(f"{len(paths)} notebooks share a name; each name can be run only once")
    runtime.check_writable(out / "notebooks" / "any")


def _run_with_bars(
    console: Console, paths: list[Path], out: Path, jobs: int, threads: int, timeout: float
) -> list[execution.Execution]:
    """Execute all. In a terminal a bar a notebook and one for all of them; else a line when one starts and ends."""
    paces: dict[str, execution.Execution] = {}
    if not console.is_terminal:
        return asyncio.run(execution.execute_all(paths, out, jobs, threads, timeout, _lines(console, paces, jobs)))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bars:
        tasks = {path.stem: bars.add_task(path.stem, total=1, start=False, left="") for path in paths}
        together = bars.add_task("all", total=1, left="")

        def progress(pace: execution.Execution) -> None:
            paces[pace.name] = pace
            if pace.state != "waiting" and not bars.tasks[tasks[pace.name]].started:
                bars.start_task(tasks[pace.name])
            ended = pace.state in ("ended", "failed")
            left = pace.state if ended else f"{_minutes(pace.rate * pace.left)} left" if pace.state == "running" else ""
            bars.update(tasks[pace.name], total=pace.done + pace.left or 1, completed=pace.done, left=left)
            if ended:
                bars.stop_task(tasks[pace.name])
            done, to_do = (sum(getattr(pace, name) for pace in paces.values()) for name in ("done", "left"))
            left = f"{_minutes(execution.seconds_left(paces.values(), jobs))} left"
            bars.update(together, total=done + to_do or 1, completed=done, left=left)

        return asyncio.run(execution.execute_all(paths, out, jobs, threads, timeout, progress))


def _lines(console: Console, paces: dict[str, execution.Execution], jobs: int) -> execution.Progress:
    """Progress for a log file: a line when a notebook starts, and one when it ends."""
    states: dict[str, str] = {}

    def progress(pace: execution.Execution) -> None:
        paces[pace.name] = pace
        if pace.state == states.get(pace.name, "waiting"):
            return
        states[pace.name] = pace.state
        left = f"about {_minutes(execution.seconds_left(paces.values(), jobs))} left for all"
        after = "" if pace.state == "running" else f" after {_minutes(sum(pace.taken))}"
        console.print(f"{pace.name}: {'started' if pace.state == 'running' else pace.state}{after}, {left}")

    return progress


def _minutes(seconds: float) -> str:
    """Such as 2:05, or 1:02:05."""
    return str(timedelta(seconds=round(seconds))).removeprefix("0:").removeprefix("0")


def _print_table(console: Console, rows: list[comparison.Comparison]) -> None:
    table = make_table("What the notebooks found", ["notebook", "network"], ["sparsity", "test accuracy", "stored"])
    table.add_column("verdict")
    for row in rows:
        number, sparsity = row.notebook.partition("_")[0], f"{100 * row.sparsity:.2f} %"
        stored = "–" if row.stored is None else f"{row.stored:.4f}"
        style = "" if row.same else "bold red"
        table.add_row(number, row.network, sparsity, f"{row.accuracy:.4f}", stored, row.words, style=style)
    console.print(table, soft_wrap=False)
