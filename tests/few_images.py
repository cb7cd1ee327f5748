"""The study on a few real images: in this process, in loky and Dask workers, and in processes that are killed.

Nothing happens at import. ``use()`` replaces the images of the study in its process; workers of loky do it when they
are given ``few_images.attempt``, those of Dask with ``--preload few_images``.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from labkit import runtime
from labkit.data import VALIDATION_IMAGES, Loader, load_images
from labkit.study import pool, run, teacher
from labkit.study.points import Point
from labkit.study.pool import Outcome, run_plan
from labkit.study.pool import attempt as attempt_with_loaders_of_this_process

TRAINING, VALIDATION, TEST = 300, 200, 200
DIES = 13  # seed of the point that kills its process the first time
ALWAYS_DIES = 14
TEACHER = "MNIST_dense_124448_e12_s3.lks"  # one instead of ten


@cache
def _images(name: str, train: bool, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_images(name, train)
    return images[first : first + count].clone(), labels[first : first + count].clone()


def few_loaders(name: str = "MNIST", batch_size: int = 64, seed: int = 0) -> tuple[Loader, Loader, Loader]:
    """As ``labkit.data.loaders``, with the first few images of each part."""
    assert not runtime.quick_mode()
    train = Loader(*_images(name, True, 0, TRAINING), batch_size, shuffle=True, augmented=True, seed=seed)
    validation = Loader(*_images(name, True, 60_000 - VALIDATION_IMAGES, VALIDATION), batch_size)
    return train, validation, Loader(*_images(name, False, 0, TEST), batch_size)


def use(threads: int = 1) -> None:
    """Train on few images in this process from now on, in float32, and in its loky workers too."""
    os.environ["LABKIT_BF16"] = os.environ["LABKIT_BARS"] = "0"
    torch.set_num_threads(threads)
    run.loaders, teacher.TEACHERS = few_loaders, TEACHER
    pool.attempt = attempt


@contextmanager
def in_this_process(monkeypatch: Any) -> Iterator[None]:
    """Few images, float32 and one thread for a test, and all as it was afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("LABKIT_BF16", "0")
    monkeypatch.setattr(run, "loaders", few_loaders)
    monkeypatch.setattr(teacher, "TEACHERS", TEACHER)
    yield
    torch.set_num_threads(threads)


def dask_setup(_worker: object) -> None:
    """What ``dask worker --preload few_images`` calls."""
    use()


def attempt(point: Point, device: str, scratch: Path | None) -> Outcome:
    """``pool.attempt`` on few images, in whatever process; the points of some seeds kill it."""
    run.loaders = few_loaders
    died = None if scratch is None else scratch / "died"
    if point.seed == ALWAYS_DIES or (point.seed == DIES and died and not died.exists()):
        if died:
            scratch.mkdir(parents=True, exist_ok=True)
            died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt_with_loaders_of_this_process(point, device, scratch)


# What runs in processes of its own


def do_point(point: Point, scratch: Path) -> None:
    """Run a point, until somebody kills this process."""
    use()
    run.run_point(point, scratch=scratch)


def die_in_writing(point: Point, scratch: Path, epoch: int) -> None:
    """Run a point and die when half of the state after an epoch is written."""
    use()
    save, write, now = torch.save, Path.write_bytes, []

    def save_and_note(what: Any, stream: Any) -> None:
        save(what, stream)
        now.append(what["epoch"])

    def write_half(path: Path, content: bytes) -> int:
        if now[-1] != epoch:
            return write(path, content)
        write(path, content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    torch.save, Path.write_bytes = save_and_note, write_half
    run.run_point(point, scratch=scratch)


def do_command(arguments: list[str], out: Path, err: Path) -> None:
    """The command ``labkit`` on few images, as the leader of a group, as a terminal starts it."""
    from labkit.cli import app

    os.setsid()
    # A shell's background jobs ignore interrupts, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    use()
    run.seconds_of_an_epoch = lambda _point, _device: 36.0  # the timing takes more images than there are
    status = 0
    try:
        app(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a forked process runs no exit handlers, and would wait for its workers for ever


def do_dask(what: str, options: list[str], log: Path) -> None:
    """Be a Dask scheduler or worker, as the command ``dask scheduler`` or ``dask worker`` starts one."""
    from distributed.cli import dask_scheduler, dask_worker

    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    {"scheduler": dask_scheduler, "worker": dask_worker}[what].main(options)


def do_plan(
    points: list[Point], path: Path, said: Path, kills: tuple[int, int], deaf: bool, options: dict[str, Any]
) -> None:
    """Run a plan, and write what came of it to a file.

    ``kills``: after so many points this process (0: this one). ``deaf``: to interrupts, as a job in the background is.
    """
    use()
    pool.SECONDS_FOR_THE_SCHEDULER = options.pop("patience", pool.SECONDS_FOR_THE_SCHEDULER)
    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = []

    def progress(point: Point, _outcome: object) -> None:
        told.append(point)
        if len(told) == kills[0]:
            family = [child.pid for child in psutil.Process().children(recursive=True)]
            said.write_text(json.dumps(family), encoding="utf-8")
            os.kill(kills[1] or os.getpid(), signal.SIGKILL)

    try:
        failed = run_plan(points, path, **options, progress=progress)
        outcome = ["", {point.name: words for point, words in failed.items()}]
    except (Exception, KeyboardInterrupt) as error:
        outcome = [type(error).__name__, str(error)]
    said.write_text(json.dumps(outcome), encoding="utf-8")
