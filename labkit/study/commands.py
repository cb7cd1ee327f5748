"""The command ``labkit study``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import TextColumn

from labkit import runtime
from labkit.console import interrupts_in_one_line, make_bar, make_console, make_table
from labkit.rerun.execution import check_environment
from labkit.study import plans, pool, run
from labkit.study.frontier import Estimate, operating_points
from labkit.study.points import Point
from labkit.study.records import Record, read_records


def study(
    plan: Annotated[str, typer.Option(help="small (minutes), untrained (an hour), full or fewer (hours).")] = "small",
    workers: Annotated[int, typer.Option(min=1, help="Points to run at once on this machine.")] = runtime.cores(),
    scheduler: Annotated[str, typer.Option(help="Address of a Dask scheduler, such as tcp://host:8786.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for records, networks and unfinished points.")] = Path(
        "build/study"
    ),
    records: Annotated[Path | None, typer.Option(help="CSV file of the records; default: OUT/PLAN.csv.")] = None,
) -> None:
    """Train and prune the networks of a plan; what is finished is not run again."""
    console = make_console()
    os.environ["LABKIT_BARS"] = "0"  # the bars of several workers' trainings would mix
    run.refuse_quick_mode()
    check_environment()
    points, path, out = plans.plan(plan), (records or out / f"{plan}.csv").resolve(), out.resolve()
    runtime.pick_device(device)
    done = {record.point for record in read_records(path)}
    left = [point for point in points if point not in done]
    console.print(f"plan {plan}: {len(points)} points, {len(points) - len(left)} of them done")
    if left:
        epochs = sum(point.epochs for point in left)
        hours = epochs * run.seconds_of_an_epoch(max(left, key=lambda point: point.epochs), device) / 3600
        shared = "" if scheduler else f", {hours / min(workers, len(left)):.2g} hours with {workers} workers"
        console.print(f"{epochs} epochs left: {hours:.2g} compute hours{shared}, by a few batches, timed now")
    so_far = f"what is finished is kept in {path}, run the same command to go on"
    points_column = TextColumn("{task.fields[points]}")
    with make_bar(console, "study", points_column, 3600) as bars, interrupts_in_one_line(console, so_far):
        finished = sum(point.epochs for point in points if point in done)
        bar = bars.add_task("study", total=sum(p.epochs for p in points), completed=finished, points="")

        def progress(point: Point, outcome: Record | str) -> None:
            bars.update(bar, advance=point.epochs, points=point.name)
            console.print(f"{point.name}: {_words(outcome)}", style="red" if isinstance(outcome, str) else None)

        folders = out / "unfinished", out / "networks"
        failed = pool.run_plan(points, path, workers, scheduler, device, *folders, progress)
    _print_operating_points(console, points, path)
    if failed:
        console.print(f"{len(failed)} points failed; the same command tries them again", style="red")
        raise typer.Exit(1)


def _words(outcome: Record | str) -> str:
    """What became of a point."""
    if isinstance(outcome, str):
        return outcome
    dead = f", NO WEIGHTS LEFT in {outcome.dead_layers}" if outcome.dead_layers else ""
    return f"{outcome.nonzero:,} weights, validation {outcome.val_accuracy:.4f}{dead}"


def _print_operating_points(console: Console, points: Sequence[Point], path: Path) -> None:
    words = "mean ± half of the 95 % confidence interval over seeds; lost: against the dense network of the same seed"
    numbers = ("epochs", "weights", "10³ multiply-adds", "seeds", "test accuracy %", "points lost")
    caption = f"{words} with the same number of epochs, or else the nearest smaller number"
    table = make_table("What is done", ["method"], numbers, caption)
    chosen = set(points)
    for row in operating_points(record for record in read_records(path) if record.point in chosen):
        name = row.method if row.dataset == "MNIST" else f"{row.dataset} {row.method}"
        label = f"{name}: {row.collapsed} COLLAPSED" if row.collapsed else name
        counts = str(row.epochs), f"{row.nonzero:,.0f}", f"{row.macs / 1000:,.0f}", str(row.accuracy.seeds)
        table.add_row(label, *counts, _percent(row.accuracy), _percent(row.lost))
    console.print(table, soft_wrap=False)


def _percent(estimate: Estimate | None) -> str:
    """An estimate in percent; of a single seed there is no interval."""
    if estimate is None:
        return "–"
    return f"{100 * estimate.mean:.2f}" + ("" if estimate.seeds == 1 else f" ± {100 * estimate.half:.2f}")
