"""Run a plan: on the cores of this machine, or on a Dask cluster; what is finished is never run again.

Only this process writes the file of records, one at a time, as they come.
"""

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from labkit import runtime
from labkit.study.points import Point
from labkit.study.records import Record, add_record, read_records
from labkit.study.run import forget, run_point

Outcome = tuple[Point, Record | str, bytes]  # the record, or what went wrong; the network's sparse file
SECONDS_FOR_THE_SCHEDULER = 10
WATCH = "end with parent"  # name of a worker's thread


def run_plan(
    points: Sequence[Point],
    path: Path,
    workers: int = 1,
    scheduler: str = "",
    device: str = "cpu",
    scratch: Path | None = None,
    networks: Path | None = None,
    progress: Callable[[Point, Record | str], None] = lambda _point, _outcome: None,
) -> dict[Point, str]:
    """Run the points that have no record of this protocol yet, and add their records to a file.

    Args:
        points: what to run.
        path: CSV file of the records.
        workers: points at a time on this machine; on a cluster, its workers decide.
        scheduler: address of a Dask scheduler, such as ``"tcp://127.0.0.1:8786"``; empty: this machine.
        device: as in ``run_point``.
        scratch: folder for the states of unfinished points, on the machine of each worker.
        networks: folder for the networks; without one, they are thrown away.
        progress: called after each point with its record, or with what went wrong.

    Returns:
        Point -> what went wrong with it; the others are in the file.

    Raises:
        ValueError: the file of records is damaged or of another sort.
        OSError: no such scheduler, a folder can not be written, or another run writes this file.
        RuntimeError: a worker died, or the scheduler went away. What was finished is in the file, and the same call
            goes on.
    """
    runtime.check_writable(path)
    with _alone(path):
        done = {record.point for record in read_records(path)}
        for point in done.intersection(points):  # a run that was stopped between the record and this has left a state
            forget(point, scratch)
        waiting = [point for point in dict.fromkeys(points) if point not in done]
        failed: dict[Point, str] = {}
        left = len(waiting)
        try:
            # Closed at once when something breaks here: its workers must not go on.
            with _closing(_outcomes(waiting, workers, scheduler, device, scratch)) as outcomes:
                for point, outcome, network in outcomes:
                    if isinstance(outcome, Record):
                        if networks is not None:
                            with runtime.written_whole(networks / f"{point.name}.lks") as temporary:
                                temporary.write_bytes(network)
                        add_record(path, outcome)
                        forget(point, scratch)  # its state is of no use only now
                    else:
                        failed[point] = outcome
                    left -= 1
                    progress(point, outcome)
        except (TerminatedWorkerError, CancelledError) as error:
            what = "a worker died (was there memory enough?)" if not scheduler else f"{scheduler} went away"
            raise RuntimeError(
                f"{what}: {len(waiting) - left} points finished and kept in {path}, {left} left; "
                f"the same command goes on ({type(error).__name__})"
            ) from error
    return failed


@contextmanager
def _closing(outcomes: Generator[Outcome, None, None]) -> Iterator[Iterator[Outcome]]:
    try:
        yield outcomes
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # joblib's, that not all was waited for
            outcomes.close()


def _outcomes(
    points: Sequence[Point], workers: int, scheduler: str, device: str, scratch: Path | None
) -> Generator[Outcome, None, None]:
    """Outcomes as they come."""
    if points and scheduler:
        yield from _of_cluster(points, scheduler, device, scratch)
    elif points:
        with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
            work = Parallel(return_as="generator_unordered", batch_size=1)
        yield from work(delayed(_as_child)(os.getpid(), attempt, point, device, scratch) for point in points)


def _as_child(
    parent: int, run: Callable[[Point, str, Path | None], Outcome], point: Point, device: str, scratch: Path | None
) -> Outcome:
    """Run a point in a worker of this machine, which leaves interrupts to its parent and ends with it."""
    if os.getpid() != parent and all(thread.name != WATCH for thread in threading.enumerate()):  # once in each process
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent,), name=WATCH, daemon=True).start()
        os.environ["LABKIT_BARS"] = "0"  # the caller has one bar for all; those of several workers would mix
    return run(point, device, scratch)


def _end_with(parent: int) -> None:
    # Left alone, a worker of loky would train on, and write states that the next run writes, too.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def attempt(point: Point, device: str, scratch: Path | None) -> Outcome:
    """Run a point on one thread; what goes wrong in it must not stop the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            record = run_point(point, device, scratch, Path(folder))
            return point, record, (Path(folder) / f"{point.name}.lks").read_bytes()
    except (ValueError, ArithmeticError, OSError) as error:
        return point, f"{type(error).__name__}: {error}", b""
    finally:
        torch.set_num_threads(threads)  # a single worker is the caller's own process


def _of_cluster(
    points: Sequence[Point], scheduler: str, device: str, scratch: Path | None
) -> Generator[Outcome, None, None]:
    # Only who has a cluster needs this package. Not through joblib, which waits for ever for a task that was lost.
    from distributed import Client, as_completed

    try:
        client = Client(scheduler, timeout=SECONDS_FOR_THE_SCHEDULER)
    except (OSError, ValueError) as error:
        problem = f"there is no Dask scheduler at {scheduler!r} ({error or type(error).__name__})"
        raise OSError(f"{problem}; start one with: dask scheduler") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_THE_SCHEDULER)
        except TimeoutError:
            raise OSError(f"{scheduler} has no worker; start some with: dask worker {scheduler}") from None
        futures = {client.submit(attempt, point, device, scratch, pure=False): point for point in points}
        for future in as_completed(list(futures)):
            point = futures.pop(future)
            if future.status == "error":  # it killed its workers, or they can not import labkit
                problem = future.exception()
                yield point, f"{type(problem).__name__}: {problem}", b""
            else:
                yield future.result()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two runs that write one file would lose each other's records."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise OSError(f"another run of the study writes {path}; wait for it, or give another file") from None
