"""The command ``labkit``."""

import asyncio
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
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

from labkit import runtime
from labkit.rerun import execution

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The pruning labs from the command line.")
golf_app = typer.Typer(no_args_is_help=True, help="Pruning golf: the fewest weights that still tell digits apart.")
app.add_typer(golf_app, name="golf")


@app.callback()
def main() -> None:
    """The pruning labs from the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can not show ends nothing


def _console() -> Console:
    """Names and paths are printed as they are, and a message stays one line."""
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


@app.command()
def run(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="Numbers such as 03, or .ipynb files; default: all in notebooks/.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for executed copies, networks and records.")] = Path("build"),
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = min(2, os.cpu_count() or 1),
    threads: Annotated[int, typer.Option(min=1, help="Threads of each notebook.")] = 1,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds allowed for one cell.")] = 1800,
    store: Annotated[bool, typer.Option(help="Put outputs into notebooks where one differs beyond its marks.")] = False,
    fresh: Annotated[bool, typer.Option(help="With --store: also into notebooks without a change.")] = False,
) -> None:
    """Execute notebooks without a browser, and compare what they found with what is stored."""
    console = _console()
    out = out.resolve()
    with _told(console):
        execution.check_environment()
        paths = execution.find_notebooks(notebooks or [])
        if runtime.precision(runtime.pick_device("cpu")).startswith("emulated"):
            console.print(runtime.EMULATED)
    problem = _what_is_wrong(paths, out)
    if problem:
        console.print(problem, style="red")
        raise typer.Exit(2)
    for path in paths:
        shutil.rmtree(out / "models" / path.stem, ignore_errors=True)
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.default_int_handler)  # a closed terminal leaves no kernel behind
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
                console.print(line)
    _print_table(console, rows)
    for outcome in failed:
        console.print(f"FAILED {outcome.name} {outcome.error}", style="bold red")
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

    console = _console()
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

    console = _console()
    with _told(console):
        path = packing.pack(student or who(), notebooks, out)
        course = packing.this_course()
        result = grading.grade(intake.read_submission(path), course)
        table = Table(title="What the grader will give")
        for name in ("task", "asked for"):
            table.add_column(name)
        table.add_column("points", justify="right")
        for name, task in result["tasks"].items():
            asked = TASKS[name]
            points = f"{task['points']:g} of {task['of']:g}" + (" (bonus)" if asked.bonus else "")
            table.add_row(name, asked.title, points if task["attempted"] else f"– {points}")
        console.print(table, soft_wrap=False)
        console.print(f"{result['points']:g} of {TOTAL:g} points, {result['bonus']:g} bonus", style="bold")
        for line in packing.remarks(result, course, notebooks):
            console.print(line)
        console.print(f"hand in {path} ({path.stat().st_size / 2**20:.1f} MB); answers in words are read by a person")


@app.command()
def start(
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
) -> None:
    """Write START.ipynb, the page to open first: the notebooks, your points so far, what is next."""
    from labkit.course.start_page import write_start

    console = _console()
    try:
        path = write_start(notebooks)
    except Exception as error:  # whatever it is: the notebooks can be worked on without this page
        console.print(f"no START page ({type(error).__name__}: {error})", style="red")
        raise typer.Exit(2) from None
    console.print(f"{path} shows your points so far and what is next")


@app.command(no_args_is_help=True)
def repair(
    names: Annotated[list[str], typer.Argument(metavar="NOTEBOOK...", help="Numbers such as 03, or .ipynb files.")],
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
) -> None:
    """Put given cells of your notebooks back as they were handed out; what you wrote stays, the old file too."""
    from labkit.course import repair as repairing
    from labkit.course.release import handed_out

    console = _console()
    with _told(console):
        course = handed_out()
        if course is None:
            raise FileNotFoundError("there is no course.json here; repair works in the folder that a course handed out")
    failed = False
    for name in names:
        try:
            for line in repairing.repair(repairing.find_notebook(name, notebooks), course):
                console.print(line)
        except (ValueError, OSError) as error:
            console.print(str(error), style="red")
            failed = True
    if failed:
        raise typer.Exit(2)


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

    console = _console()
    with _told(console), tempfile.TemporaryDirectory() as scratch:
        deadline = _deadline(due)
        report.read_marks(out / "grades.csv")  # before any work: the marks in it must not be lost
        people = rosters.read_roster(roster) if roster else []
        beside = Path("release") / "course.json"
        handed_out = read_course(course or beside) if course or beside.is_file() else this_course()
        console.print(f"course {handed_out['version']}, salt {handed_out['salt']!r}")
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
        results = batch.with_flags(results, entries, people)
        report.write_all(out, results, entries, people, names, deadline, anonymous=anonymous)
        flagged = sum(bool(result["flags"] or result["refused"]) for result in results.values())
        console.print(f"{len(results)} submissions graded, {flagged} with flags; open {out / 'index.html'}")


@app.command()
def study(
    plan: Annotated[str, typer.Option(help="small (a few minutes) or full (hours).")] = "small",
    workers: Annotated[int, typer.Option(min=1, help="Points at a time on this machine.")] = runtime.cores(),
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for records, networks and unfinished points.")] = Path(
        "build/study"
    ),
    records: Annotated[Path | None, typer.Option(help="CSV file of the records; default: OUT/PLAN.csv.")] = None,
) -> None:
    """Train and prune the networks of a plan; what is finished is not run again."""
    from labkit.study import plans, pool, run
    from labkit.study.records import read_records

    console = _console()
    with _told(console), _one_bar_for_all():
        run.refuse_quick_mode()
        execution.check_environment()
        points, path, out = plans.plan(plan), (records or out / f"{plan}.csv").resolve(), out.resolve()
        runtime.pick_device(device)
        done = {record.point for record in read_records(path)}
        left = [point for point in points if point not in done]
        console.print(f"plan {plan}: {len(points)} points, {len(points) - len(left)} of them done")
        if left:
            epochs = sum(point.epochs for point in left)
            hours = epochs * run.seconds_of_an_epoch(device) / 3600
            shared = "" if scheduler else f", {hours / min(workers, len(left)):.2g} hours with {workers} workers"
            console.print(f"{epochs} epochs left: {hours:.2g} compute hours{shared}, by a few batches timed now")
        columns = (TextColumn("study"), BarColumn(), TextColumn("{task.fields[points]}"))
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
            bars.speed_estimate_period = 3600
            finished = sum(point.epochs for point in points if point in done)
            bar = bars.add_task("study", total=sum(p.epochs for p in points), completed=finished, points="")

            def progress(point: Any, outcome: Any) -> None:
                bars.update(bar, advance=point.epochs, points=point.name)
                if isinstance(outcome, str):
                    console.print(f"{point.name}: {outcome}", style="red")
                else:
                    words = f"{outcome.nonzero:,} weights, validation {outcome.val_accuracy:.4f}"
                    dead = f", NO WEIGHTS LEFT in {outcome.dead_layers}" if outcome.dead_layers else ""
                    console.print(f"{point.name}: {words}{dead}")

            try:
                failed = pool.run_plan(
                    points, path, workers, scheduler, device, out / "unfinished", out / "networks", progress
                )
            except KeyboardInterrupt:
                console.print(f"interrupted; what is finished is kept in {path}, the same command goes on", style="red")
                raise typer.Exit(130) from None
        _print_operating_points(console, points, path)
        if failed:
            console.print(f"{len(failed)} points failed; the same command tries them again", style="red")
            raise typer.Exit(1)


@golf_app.command("submit")
def golf_submit(
    file: Annotated[Path, typer.Argument(help="Sparse file, such as labkit.save_sparse writes.")],
    player: Annotated[str, typer.Option(help="Name on the board; default: who has signed in.")] = "",
    board: Annotated[Path, typer.Option(help="Folder of the board.")] = Path("build/golf"),
    course: Annotated[Path | None, typer.Option(help="course.json that the transform follows from.")] = None,
) -> None:
    """Score a sparse file, and put it on the board."""
    from labkit.course import golf, students
    from labkit.course.release import read_course

    console = _console()
    with _told(console):
        salt = read_course(course)["salt"] if course else students.salt()
        new, scores = golf.submit(file, player or students.who() or "anonymous", salt, board)
        front = golf.on_the_front(scores)
        line = next(one for one in scores if (one.player, one.weights) == (new.player, new.weights))
        table = Table(title="The front: nobody is better in weights or accuracy and at least as good in the other")
        table.add_column("player", overflow="fold")
        for name in ("weights", "bytes", "accuracy %"):
            table.add_column(name, justify="right")
        for one in front:
            row = (f"{one.weights:,}", f"{one.bytes:,}", f"{100 * one.accuracy:.2f}")
            table.add_row(one.player, *row, style="bold" if one == line else "")
        words = f"{new.player}: {new.weights:,} weights, {new.bytes:,} bytes, {100 * new.accuracy:.2f} % right"
        console.print(words)
        par = golf.par(new.weights, scores)
        if par is not None:
            console.print(f"par: {100 * par:.2f} % with as many weights; to par: {golf.to_par(new, scores)} points")
        if line != new:
            old = f"{line.player}'s line with as many weights, {100 * line.accuracy:.2f} % right"
            console.print(f"not better: {old}, stays on the board")
        beaten = "not on the front: somebody has at most as many weights and at least the accuracy"
        console.print("on the front" if line in front else beaten)
        console.print(table, soft_wrap=False)
        console.print(f"board: {board / 'golf.html'}")


def _print_operating_points(console: Console, points: Any, path: Path) -> None:
    from labkit.study.frontier import operating_points
    from labkit.study.records import read_records

    words = "mean ± half of the 95 % confidence interval over seeds; lost: against the dense network of the same seed"
    table = Table(title="What is done", caption=f"{words} and of as many epochs, or else of the most that are fewer")
    table.add_column("method", overflow="fold")
    for name in ("epochs", "weights", "10³ multiply-adds", "seeds", "test accuracy %", "points lost"):
        table.add_column(name, justify="right")
    chosen = set(points)
    for row in operating_points(record for record in read_records(path) if record.point in chosen):
        name = row.method if row.dataset == "MNIST" else f"{row.dataset} {row.method}"
        table.add_row(
            f"{name}: {row.collapsed} COLLAPSED" if row.collapsed else name,
            str(row.epochs),
            f"{row.nonzero:,.0f}",
            f"{row.macs / 1000:,.0f}",
            str(row.accuracy.seeds),
            _percent(row.accuracy),
            _percent(row.lost) if row.lost else "–",
        )
    console.print(table, soft_wrap=False)


def _percent(found: Any) -> str:
    """An estimate in percent; of a single seed there is no interval."""
    return f"{100 * found.mean:.2f}" + ("" if found.seeds == 1 else f" ± {100 * found.half:.2f}")


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
def _one_bar_for_all() -> Iterator[None]:
    """No bars of training: those of several workers would mix."""
    usual = os.environ.get("LABKIT_BARS")
    os.environ["LABKIT_BARS"] = "0"
    try:
        yield
    finally:
        os.environ.pop("LABKIT_BARS")
        if usual is not None:
            os.environ["LABKIT_BARS"] = usual


@contextmanager
def _told(console: Console) -> Iterator[None]:
    """What a user did wrong, in one line and with exit status 2."""
    try:
        yield
    except typer.Exit:  # a RuntimeError too
        raise
    except (ValueError, OSError, RuntimeError) as error:
        console.print(str(error), style="red")
        raise typer.Exit(2) from None


def _what_is_wrong(paths: list[Path], out: Path) -> str:
    """Why this run can not be, or nothing."""
    for path in paths:
        if not path.stem.strip("."):
            return f"{path} has no name but its ending; give it one"
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
    """Execute all. In a terminal a bar a notebook and one for all of them; else a line when one starts and ends."""
    paces: dict[str, execution.Pace] = {}
    if not console.is_terminal:
        return asyncio.run(execution.execute_all(paths, out, jobs, threads, timeout, _lines(console, paces, jobs)))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bars:
        tasks = {name: bars.add_task(name, total=1, start=False, left="") for name in [p.stem for p in paths]}
        together = bars.add_task("all", total=1, left="")

        def progress(pace: execution.Pace) -> None:
            paces[pace.name] = pace
            if pace.state != "waiting" and not bars.tasks[tasks[pace.name]].started:
                bars.start_task(tasks[pace.name])
            ended = pace.state in ("ended", "failed")
            left = pace.state if ended else f"{_minutes(pace.rate * pace.left)} left" if pace.state == "running" else ""
            bars.update(tasks[pace.name], total=pace.done + pace.left or 1, completed=pace.done, left=left)
            if ended:
                bars.stop_task(tasks[pace.name])
            done, to_do = (sum(getattr(one, name) for one in paces.values()) for name in ("done", "left"))
            left = f"{_minutes(execution.seconds_left(paces.values(), jobs))} left"
            bars.update(together, total=done + to_do or 1, completed=done, left=left)

        return asyncio.run(execution.execute_all(paths, out, jobs, threads, timeout, progress))


def _lines(console: Console, paces: dict[str, execution.Pace], jobs: int) -> execution.Progress:
    """Progress for a log file: a line when a notebook starts, and one when it ends."""
    states: dict[str, str] = {}

    def progress(pace: execution.Pace) -> None:
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
    console.print(table, soft_wrap=False)


if __name__ == "__main__":
    app()
