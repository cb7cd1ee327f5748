"""The commands of a course, from ``labkit release`` to ``labkit grade``, ``labkit golf`` and ``labkit playground``."""

import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn

from labkit import runtime
from labkit.console import interrupts_in_one_line, make_bar, make_console, make_table, mistakes_in_one_line
from labkit.course import batch, course_file, golf, grading, inbox, packing, report, start_page, students, submission
from labkit.course import playground as playgrounds
from labkit.course import release as releases
from labkit.course import repair as repairs
from labkit.course import roster as rosters
from labkit.course.task import TASKS, TOTAL

golf_app = typer.Typer(no_args_is_help=True, help="Pruning golf: the fewest weights that still tell digits apart.")


def release(
    notebooks: Annotated[Path, typer.Argument(help="Folder of the solution notebooks.")] = Path("notebooks"),
    out: Annotated[Path, typer.Option(help="New folder for the student series.")] = Path("release"),
    salt: Annotated[str, typer.Option(help="Name of the course; the students' seeds depend on it.")] = "pruning labs",
    notebooks_only: Annotated[bool, typer.Option(help="Only notebooks and course.json, no labkit, no data.")] = False,
) -> None:
    """Make the student series: solutions out, outputs out, everything that is needed to work in."""
    console = make_console()
    names = releases.write_release(notebooks, out, salt, notebooks_only=notebooks_only)
    console.print(f"{len(names)} notebooks for students in {out}; keep {out / 'course.json'} for grading")


def pack(
    student: Annotated[str, typer.Option(help="Your ID; default: the ID that has signed in.")] = "",
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
    out: Annotated[Path, typer.Option(help="Folder for the zip.")] = Path(),
) -> None:
    """Make the zip to hand in, and show the points that the grader will give for it."""
    console = make_console()
    path = packing.pack(student or students.who(), notebooks, out)
    course = packing.this_course()
    result = grading.grade(submission.read_submission(path), course)
    table = make_table("What the grader will give", ["task", "asked for"], ["points"])
    for name, task in result.tasks.items():
        asked = TASKS[name]
        points = f"{task.points:g} of {task.of:g}" + (" (bonus)" if asked.bonus else "")
        table.add_row(name, asked.title, points if task.attempted else f"– {points}")
    console.print(table, soft_wrap=False)
    console.print(f"{result.points:g} of {TOTAL:g} points, {result.bonus:g} bonus", style="bold")
    table = make_table("Your answers as they were read", ["question", "begins with"], ["words"])
    for row in packing.answers_read(result, course):
        table.add_row(*row)
    console.print(table, soft_wrap=False)
    for line in packing.remarks(result, course, notebooks):
        console.print(line)
    console.print(f"hand in {path} ({path.stat().st_size / 2**20:.1f} MB); answers in words are read by a person")


def start(
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
) -> None:
    """Write START.ipynb, the page to open first: the notebooks, your points so far, what is next."""
    console = make_console()
    try:
        path = start_page.write_start(notebooks)
    except Exception as error:  # whatever it is: the notebooks can be worked on without this page
        console.print(f"no START page ({type(error).__name__}: {error})", style="red")
        raise typer.Exit(2) from None
    console.print(f"{path} shows your points so far and what is next")


def playground(out: Annotated[Path, typer.Option(help="The page to write.")] = Path("playground.html")) -> None:
    """Write the playground: one page that prunes the reference network in the browser, and needs no internet."""
    playgrounds.write_playground(out)
    make_console().print(f"{out} ({out.stat().st_size / 1e6:.2f} MB): open it in a browser; it needs nothing else")


def repair(
    names: Annotated[list[str], typer.Argument(metavar="NOTEBOOK...", help="Numbers such as 03, or .ipynb files.")],
    notebooks: Annotated[Path, typer.Option(help="Folder of your notebooks.")] = runtime.PROJECT / "notebooks",
) -> None:
    """Put given cells of your notebooks back as they were handed out; what you wrote stays, the old file too."""
    console = make_console()
    course = course_file.handed_out()
    if course is None:
        raise FileNotFoundError("there is no course.json here; repair works in the folder that a course handed out")
    failed = False
    for name in names:
        try:
            for line in repairs.repair(repairs.find_notebook(name, notebooks), course):
                console.print(line)
        except (ValueError, OSError) as error:
            console.print(str(error), style="red")
            failed = True
    if failed:
        raise typer.Exit(2)


def grade(
    submissions: Annotated[Path, typer.Argument(help="Folder of zips or folders, or a platform's bulk zip.")],
    out: Annotated[Path, typer.Option(help="Folder for the grades.")] = Path("grades"),
    course: Annotated[Path | None, typer.Option(help="course.json of the release that was handed out.")] = None,
    roster: Annotated[Path | None, typer.Option(help="CSV: student (name, group, late_days, canvas_id …)")] = None,
    due: Annotated[str, typer.Option(help="Deadline, such as 2026-11-30T23:59+01:00.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    anonymous: Annotated[bool, typer.Option(help="No names and no IDs on the marking pages.")] = False,
    marks: Annotated[Path | None, typer.Option(help="marks.csv, saved by marking.html.")] = None,
) -> None:
    """Grade a class from what was handed in, without running any of it."""
    console = make_console()
    with tempfile.TemporaryDirectory() as scratch:
        deadline = _deadline(due)
        table = report.read_marks(out / "grades.csv")  # before any work: the marks in it must not be lost
        people = rosters.read_roster(roster) if roster else []
        beside = Path("release") / "course.json"
        handed_out = course_file.read_course(course or beside) if course or beside.is_file() else packing.this_course()
        console.print(f"course {handed_out['version']}, salt {handed_out['salt']!r}")
        if not submissions.exists():
            raise FileNotFoundError(f"{submissions} does not exist; give the folder or the zip of all submissions")
        folder = inbox.class_folder(submissions, Path(scratch))
        found = inbox.find_entries(folder, people)
        if not found:
            raise FileNotFoundError(f"{submissions} holds no submissions (zips or folders)")
        owners = inbox.owners_of(found, folder)
        names = batch.pseudonyms(out, list(dict.fromkeys([*owners, *(person.student for person in people)])))
        written = report.read_marking(out, handed_out, marks, names.values(), table)
        entries = {names[owner]: entry for owner, entry in zip(owners, found, strict=True)}
        so_far = f"what is graded is saved in {out}, run the same command to go on"
        with make_bar(console, "grading", MofNCompleteColumn(), 600) as bars, interrupts_in_one_line(console, so_far):
            bar = bars.add_task("grading", total=len(entries))
            results = batch.grade_all(entries, handed_out, out, jobs, lambda done: bars.update(bar, completed=done))
        results = batch.with_flags(results, entries, people)
        report.write_all(out, results, entries, people, names, deadline, anonymous=anonymous, written=written)
        flagged = sum(bool(result.flags or result.refused) for result in results.values())
        console.print(f"{len(results)} submissions graded, {flagged} with flags; open {out / 'index.html'}")


@golf_app.command("submit")
@mistakes_in_one_line
def golf_submit(
    file: Annotated[Path, typer.Argument(help="Sparse file, as labkit.save_sparse writes it.")],
    player: Annotated[str, typer.Option(help="Name on the board; default: the ID that has signed in.")] = "",
    board: Annotated[Path, typer.Option(help="Folder of the board.")] = Path("build/golf"),
    course: Annotated[Path | None, typer.Option(help="course.json of the release; it decides the transform.")] = None,
) -> None:
    """Score a sparse file, and put it on the board."""
    console = make_console()
    salt = course_file.read_course(course)["salt"] if course else students.salt()
    new, scores = golf.submit(file, player or students.who() or "anonymous", salt, board)
    front = golf.on_the_front(scores)
    line = next(one for one in scores if (one.player, one.weights) == (new.player, new.weights))
    title = "The front: no player is better in weights or accuracy and at least as good in the other"
    table = make_table(title, ["player"], ["weights", "bytes", "accuracy %"])
    for one in front:
        row = (f"{one.weights:,}", f"{one.bytes:,}", f"{100 * one.accuracy:.2f}")
        table.add_row(one.player, *row, style="bold" if one == line else "")
    console.print(f"{new.player}: {new.weights:,} weights, {new.bytes:,} bytes, {100 * new.accuracy:.2f} % right")
    par = golf.par(new.weights, scores)
    if par is not None:
        console.print(f"par: {100 * par:.2f} % with as many weights; to par: {golf.to_par(new, scores)} points")
    if line != new:
        old = f"{line.player}'s line with as many weights, {100 * line.accuracy:.2f} % right"
        console.print(f"not better: {old}, stays on the board")
    beaten = "not on the front: somebody has no more weights and at least the same accuracy"
    console.print("on the front" if line in front else beaten)
    console.print(table, soft_wrap=False)
    console.print(f"board: {board / 'golf.html'}")


def _deadline(due: str) -> datetime | None:
    if not due:
        return None
    try:
        return datetime.fromisoformat(due).astimezone()
    except ValueError:
        raise ValueError(f"due is {due!r}; write a date such as 2026-11-30T23:59+01:00") from None
