"""The command ``labkit``."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
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


@app.command()
def release(
    notebooks: Annotated[Path, typer.Argument(help="Folder of the solution notebooks.")] = Path("notebooks"),
    out: Annotated[Path, typer.Option(help="New folder for the student series.")] = Path("release"),
    salt: Annotated[str, typer.Option(help="Name of the course; the students' seeds depend on it.")] = "pruning labs",
    notebooks_only: Annotated[bool, typer.Option(help="Only notebooks and course.json, no labkit, no data.")] = False,
) -> None:
    """Make the student series: solutions out, outputs out, everything that is needed to work in."""
    from labkit.course.release import write_release

    console = Console()
    with _told(console):
        names = write_release(notebooks, out, salt, notebooks_only=notebooks_only)
        console.print(f"{len(names)} notebooks for students in {out}; keep {out / 'course.json'} for grading")


@app.command()
def pack(
    student: Annotated[str, typer.Option(help="Your ID; default: whoever has signed in.")] = "",
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
    out: Annotated[Path, typer.Option(help="Folder for the zip.")] = Path(),
) -> None:
    """Make the zip to hand in, and show the points that the grader will give for it."""
    from labkit.course import grading, intake, packing
    from labkit.course.students import who
    from labkit.course.tasks import TASKS, TOTAL

    console = Console()
    with _told(console):
        path = packing.pack(student or who(), notebooks, out)
        result = grading.grade(intake.read_submission(path), packing.this_course())
        table = Table(title="What the grader will give")
        for name in ("task", "asked for"):
            table.add_column(name)
        table.add_column("points", justify="right")
        for name, task in result["tasks"].items():
            asked = TASKS[name]
            points = f"{task['points']:g} of {task['of']:g}" + (" (bonus)" if asked.bonus else "")
            table.add_row(name, asked.title, points if task["attempted"] else f"– {points}")
        console.print(table)
        console.print(f"{result['points']:g} of {TOTAL:g} points, {result['bonus']:g} bonus", style="bold")
        lines = [*packing.missing(result), *(f"{name}: {why}" for name, why in result["refused"].items())]
        for line in lines:
            console.print(f"missing: {line}", markup=False, highlight=False)
        for flag in result["flags"]:
            console.print(f"your instructor may ask: {flag}", markup=False, highlight=False)
        console.print(f"hand in {path} ({path.stat().st_size / 2**20:.1f} MB); answers in words are read by a person")


@app.command()
def grade(
    submissions: Annotated[Path, typer.Argument(help="Folder of zips or folders, or a platform's bulk zip.")],
    out: Annotated[Path, typer.Option(help="Folder for the grades.")] = Path("grades"),
    course: Annotated[Path | None, typer.Option(help="course.json of the release that was handed out.")] = None,
    roster: Annotated[Path | None, typer.Option(help="CSV: student, and name, group, late_days, canvas_id …")] = None,
    due: Annotated[str, typer.Option(help="Deadline, such as 2026-11-30T23:59+01:00.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    anonymous: Annotated[bool, typer.Option(help="No names and no IDs on the marking pages.")] = False,
) -> None:
    """Grade a class from what was handed in, without running any of it."""
    import tempfile

    from labkit.course import batch, report
    from labkit.course import roster as rosters
    from labkit.course.packing import this_course
    from labkit.course.release import read_course

    console = Console()
    with _told(console), tempfile.TemporaryDirectory() as scratch:
        deadline = _deadline(due)
        report.read_marks(out / "grades.csv")  # before any work: the marks in it must not be lost
        people = rosters.read_roster(roster) if roster else []
        beside = Path("release") / "course.json"
        handed_out = read_course(course or beside) if course or beside.is_file() else this_course()
        console.print(f"course {handed_out['version']}, salt {handed_out['salt']!r}", highlight=False)
        if not submissions.exists():
            raise FileNotFoundError(f"{submissions} does not exist; give the folder or the zip of all submissions")
        folder = submissions if submissions.is_dir() else rosters.unpack_bulk(submissions, Path(scratch))
        found = rosters.find_entries(folder, people)
        if not found:
            raise FileNotFoundError(f"{submissions} holds no submissions (zips or folders)")
        owners = rosters.owners_of(found, folder)
        names = batch.pseudonyms(out, list(dict.fromkeys([*owners, *(person.student for person in people)])))
        entries = {names[owner]: entry for owner, entry in zip(owners, found, strict=True)}
        results = _grade_with_bar(console, entries, handed_out, out, jobs)
        batch.add_flags(results, entries, people)
        report.write_all(out, results, entries, people, names, deadline, anonymous=anonymous)
        flagged = sum(bool(result["flags"] or result["refused"]) for result in results.values())
        console.print(f"{len(results)} submissions graded, {flagged} with flags; open {out / 'index.html'}")


def _grade_with_bar(console: Console, entries: Any, course: Any, out: Path, jobs: int) -> Any:
    from labkit.course import batch

    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, speed_estimate_period=600) as bars:
        bar = bars.add_task("grading", total=len(entries))
        try:
            return batch.grade_all(entries, course, out, jobs, lambda done: bars.update(bar, completed=done))
        except KeyboardInterrupt:
            console.print(f"interrupted; what is graded is kept in {out}, the same command goes on", style="red")
            raise typer.Exit(130) from None


def _deadline(due: str) -> datetime | None:
    if not due:
        return None
    try:
        found = datetime.fromisoformat(due)
    except ValueError:
        raise ValueError(f"due is {due!r}; write a date such as 2026-11-30T23:59+01:00") from None
    return found.astimezone()


@contextmanager
def _told(console: Console) -> Iterator[None]:
    """What a user did wrong, in one line and with exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None


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
