"""Run a plan: on the cores of this machine, or on a Dask cluster; what is finished is never run again.

Only this process writes the file of records, one at a time, as they come.
"""

import errno
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from filelock import FileLock, Timeout

from labkit import runtime
from labkit.data import load_images
from labkit.study.points import Point
from labkit.study.records import Record, add_record, read_records, software_of
from labkit.study.run import forget, refuse_quick_mode, run_point

Outcome = tuple[Point, Record | str, bytes]  # the record, or what went wrong; the network's sparse file
Outcomes = Generator[Outcome, None, None]
Attempt = Callable[[Point, str, Path | None], Outcome]
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
        ValueError: quick mode is on; or the file of records is damaged, of another sort, or has records of another
            torch or precision, which are not to be mixed.
        OSError: no such scheduler, a folder cannot be written, the disk is full, or another run writes this file.
        RuntimeError: a worker died, or the scheduler went away. What was finished is in the file, and the same call
            goes on.
    """
    refuse_quick_mode()
    runtime.check_writable(path)
    with _alone(path):
        done = {record.point: record for record in read_records(path)}
        for point in done.keys() & set(points):  # a run that was stopped between the record and this left a state
            forget(point, scratch)
        waiting = [point for point in dict.fromkeys(points) if point not in done]
        if waiting:
            # A cluster's workers have scratch folders of their own.
            for folder in filter(None, (networks, None if scheduler else scratch)):
                runtime.check_writable(folder / "any")
            if not scheduler:
                _check_before(waiting, [done[point] for point in points if point in done], path, device)
        failed: dict[Point, str] = {}
        left = set(waiting)
        outcomes = _outcomes(waiting, workers, scheduler, device, scratch)
        with _to_the_end(outcomes, path, len(waiting), left, scheduler):
            for point, outcome, network in outcomes:
                if networks is not None and network:  # first: what has a record is not run again
                    runtime.write_file(networks / f"{point.name}.lks", network)
                if isinstance(outcome, Record):
                    add_record(path, outcome)
                    forget(point, scratch)  # its state is of no use only now
                else:
                    failed[point] = outcome
                left.remove(point)
                progress(point, outcome)
    return failed


@contextmanager
def _to_the_end(outcomes: Outcomes, path: Path, count: int, left: Collection[Point], scheduler: str) -> Iterator[None]:
    """Close the outcomes in the end; what ends the whole run says what is kept and how to go on."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError  # slow to import

    try:
        yield
    except (TerminatedWorkerError, CancelledError, OSError) as error:
        finished = count - len(left)
        kept = f"{finished} points finished and kept in {path}, {len(left)} left; run the same command to go on"
        if not isinstance(error, OSError):
            cause = f"{scheduler} went away" if scheduler else "a worker died (was there memory enough?)"
            raise RuntimeError(f"{cause}: {kept} ({type(error).__name__})") from error
        if error.errno == errno.ENOSPC:
            raise OSError(f"the disk is full ({error.filename}): {kept} when there is room") from error
        raise
    finally:  # at once when something breaks here: its workers must not go on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # joblib's, that not all was waited for
            outcomes.close()


def _check_before(waiting: Sequence[Point], done: Sequence[Record], path: Path, device: str) -> None:
    """What would otherwise show only after hours: no images, or records that are not to be mixed."""
    for name in sorted({point.dataset for point in waiting}):
        load_images(name, train=False)
    ours = software_of(torch.__version__, runtime.hardware(runtime.pick_device(device)))
    if others := sorted({record.software for record in done} - {ours}):
        raise ValueError(f"{path} has records of {'; '.join(others)}, this is {ours}; give another file of records")


def _outcomes(points: Sequence[Point], workers: int, scheduler: str, device: str, scratch: Path | None) -> Outcomes:
    """Outcomes as they come."""
    if points and scheduler:
        yield from _of_cluster(points, scheduler, device, scratch)
    elif points:
        from joblib import Parallel, delayed, parallel_config  # slow to import

        with parallel_config("loky", n_jobs=min(workers, len(points)), inner_max_num_threads=1):
            work = Parallel(return_as="generator_unordered", batch_size=1)
        yield from work(delayed(_as_child)(os.getpid(), attempt, point, device, scratch) for point in points)


def _as_child(parent: int, run: Attempt, point: Point, device: str, scratch: Path | None) -> Outcome:
    """Run a point in a worker of this machine, which leaves interrupts to its parent and ends with it."""
    if os.getpid() != parent and all(thread.name != WATCH for thread in threading.enumerate()):  # once in each process
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent,), name=WATCH, daemon=True).start()
    return run(point, device, scratch)


def _end_with(parent: int) -> None:
    # Left alone, a worker of loky would train on, and write states that the next run writes, too.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def attempt(point: Point, device: str, scratch: Path | None) -> Outcome:
    """Run a point on one thread; what goes wrong in it must not stop the others."""
    try:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())  # this may be the caller's own process
            torch.set_num_threads(1)
            record = run_point(point, device, scratch, Path(folder))
            return point, record, (Path(folder) / f"{point.name}.lks").read_bytes()
    # torch has RuntimeErrors for all
    except (ValueError, ArithmeticError, OSError, RuntimeError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # it would be the same for the others
        return point, f"{type(error).__name__}: {error}", b""


def _of_cluster(points: Sequence[Point], scheduler: str, device: str, scratch: Path | None) -> Outcomes:
    # Only who has a cluster needs this package. Not through joblib, which waits for ever for a task that was lost.
    try:
        from distributed import Client, as_completed, fire_and_forget
    except ImportError as error:
        words = "a cluster needs the packages dask and distributed: pip install 'dask>=2025.1' 'distributed>=2025.1'"
        raise RuntimeError(f"{words} ({error})") from None
    try:
        # A Client that cannot connect leaves threads behind, on which the next one may hang: so this knocks first.
        host, _, port = scheduler.removeprefix("tcp://").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_FOR_THE_SCHEDULER).close()
        client = Client(scheduler, timeout=SECONDS_FOR_THE_SCHEDULER)
    except (OSError, ValueError, OverflowError) as error:
        problem = f"there is no Dask scheduler at {scheduler!r} ({error or type(error).__name__})"
        raise OSError(f"{problem}; start one with: dask scheduler, and give its address as tcp://HOST:PORT") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_FOR_THE_SCHEDULER)
        except TimeoutError:
            raise OSError(f"{scheduler} has no worker; start some with: dask worker {scheduler}") from None
        futures = {client.submit(_and_where, attempt, point, device, scratch, pure=False): point for point in points}
        for future in as_completed(list(futures)):
            point = futures.pop(future)
            if future.status == "error":  # it killed its workers, or they cannot import labkit
                problem = future.exception()
                yield point, f"{type(problem).__name__}: {problem}", b""
            else:
                outcome, worker = future.result()
                yield outcome
                # What has a record needs no state, and that worker may have a disk of its own.
                if isinstance(outcome[1], Record):
                    fire_and_forget(client.submit(forget, point, scratch, workers=worker, priority=1, pure=False))


def _and_where(run: Attempt, point: Point, device: str, scratch: Path | None) -> tuple[Outcome, str]:
    """Run a point in a worker of a cluster, and say which one that was."""
    from distributed import get_worker

    return run(point, device, scratch), get_worker().address


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two runs that write one file would lose each other's records."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=0):
            yield
    except Timeout:
        raise OSError(f"another run of the study writes {path}; wait for it, or give another file") from None
