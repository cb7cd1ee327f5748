"""A whole class, graded: in parallel, resumable, and no submission can stop the others.

Every result is written to its own file as soon as it is there; what is finished is not done again, unless the
submission, the course or the grader has changed. Submissions are read in processes with limits of time and memory; the
process that one of them ends is replaced.
"""

import ctypes
import faulthandler
import hashlib
import hmac
import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from labkit import runtime
from labkit.course.copies import equal_networks
from labkit.course.grading import grade
from labkit.course.result import Kept, Result, Results, from_json, to_json
from labkit.course.roster import Entry, Person, groups_of
from labkit.course.submission import Submission, read_submission
from labkit.course.submission.archive import MOST_BYTES, read_files
from labkit.course.submission.foreign import shown

SECONDS, GIGABYTES = 120, 2  # that a submission may take; an honest one takes a few seconds and a tenth of a gigabyte
# A forked process is there at once; elsewhere forking is not safe, or there is none.
PROCESSES = get_context("fork") if sys.platform == "linux" else get_context("spawn")


def pseudonyms(out: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> pseudonym, always the same within one folder of grades, not to be guessed without its key."""
    path = out / "key.txt"
    if not path.exists():
        runtime.write_file(path, secrets.token_hex(16) + "\n")
        with suppress(OSError):  # network drives refuse it
            path.chmod(0o600)
    key = path.read_text(encoding="utf-8").strip().encode()
    return {name: f"p{hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:10]}" for name in names}


def grader_version() -> str:
    """SHA-256 over labkit's sources: results of another grader are not mixed in."""
    sources = sorted((runtime.PROJECT / "labkit").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def grade_entry(path: str, student: str, course: Mapping[str, Any]) -> Result:
    """Grade one submission; whatever goes wrong is part of the result."""
    try:
        return grade(read_submission(Path(path)), course, student)
    except Exception as error:  # nothing that a submission holds may stop the others
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):  # torch's RuntimeError
            return refused(student, f"needed more than {GIGABYTES} GB of memory to be read and graded")
        return refused(student, f"could not be graded ({type(error).__name__}: {shown(str(error), 200)})")


def refused(student: str, why: str) -> Result:
    """The result of a submission of which nothing could be read."""
    nothing = Submission(refused={"": why}, flags=(f"the submission {why}",))
    return grade(nothing, {"notebooks": {}, "salt": "", "version": ""}, student)


def grade_all(
    entries: Mapping[str, Entry], course: Mapping[str, Any], out: Path, jobs: int, progress: Callable[[int], None]
) -> dict[str, Result]:
    """Grade submissions, ``jobs`` at a time; finished ones are taken from ``out/results``.

    Args:
        entries: pseudonym -> submission.
        course: of the release that was handed out.
        out: folder of the grades.
        jobs: processes.
        progress: called with the number of submissions that are done.
    """
    version, results, waiting = grader_version(), {}, {}
    for key, entry in entries.items():
        mark = f"{version} {course['version']} {course['salt']} {entry.student} {digest_of(entry.path)}"
        if known := _known(out / "results" / f"{key}.json", mark):
            results[key] = known
        else:
            waiting[key] = mark
    progress(len(results))
    for key, result, lost in _graded({key: entries[key] for key in waiting}, course, jobs):
        results[key] = result
        if not lost:  # else the next run tries it again: the machine may have been at fault
            runtime.write_file(out / "results" / f"{key}.json", to_json(Kept(waiting[key], result)))
        progress(len(results))
    return {key: results[key] for key in entries}


def _graded(waiting: Mapping[str, Entry], course: Mapping[str, Any], jobs: int) -> Iterator[tuple[str, Result, bool]]:
    """Results as they come, each with whether its process ended over it; then a new process takes its place."""
    left = list(waiting)
    workers: dict[Connection, BaseProcess] = {}  # by the parent's end of their pipes
    busy: dict[Connection, tuple[str, float]] = {}
    try:
        while left or busy:
            while left and len(busy) < jobs:
                if len(workers) == len(busy):
                    pipe, its_end = PROCESSES.Pipe()
                    workers[pipe] = PROCESSES.Process(target=_work, args=(its_end, course), daemon=True)
                    workers[pipe].start()
                    its_end.close()  # else nobody would see that the process has ended
                idle, key = next(pipe for pipe in workers if pipe not in busy), left.pop(0)
                busy[idle] = key, time.monotonic()
                with suppress(OSError):  # it has ended meanwhile, which shows below
                    idle.send((str(waiting[key].path), waiting[key].student))
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                key, began = busy.pop(pipe)
                try:
                    yield key, pipe.recv(), False
                except (EOFError, OSError):
                    workers.pop(pipe).kill()
                    late = f"took longer than {SECONDS} s to be read and graded"
                    why = late if time.monotonic() - began >= SECONDS else "ended the process that read it"
                    yield key, refused(waiting[key].student, why), True
    finally:
        for process in workers.values():
            process.kill()
            process.join()


def _work(pipe: Connection, course: Mapping[str, Any]) -> None:
    """Grade what comes through the pipe, within limits of time and memory, as long as the parent lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers interrupts
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers near zero can make a network a hundred times slower
    if sys.platform == "linux":
        import resource

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: with the parent, whatever is being computed
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + GIGABYTES * 2**30
        with suppress(ValueError):  # a lower limit holds already
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with Path(os.devnull).open("w") as nowhere, suppress(EOFError, OSError):  # the parent has ended
        sys.stdout = sys.stderr = nowhere  # a fork may have got the progress bar's locks, held by nobody here
        while True:
            path, student = pipe.recv()
            faulthandler.dump_traceback_later(SECONDS, exit=True, file=nowhere)  # no computation holds it up
            pipe.send(grade_entry(path, student, course))
            faulthandler.cancel_dump_traceback_later()


def digest_of(path: Path) -> str:
    """SHA-256 over a zip, or over the names and contents of a folder's files of interest."""
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            return hashlib.sha256(file.read(MOST_BYTES + 1)).hexdigest()  # a larger one is refused, whatever is in it
    found = sorted(read_files(path).content.items())
    parts = (name.encode() + hashlib.sha256(content).digest() for name, content in found)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _known(path: Path, mark: str) -> Result | None:
    """A result that was made from the very same things, or None."""
    try:
        kept = from_json(path.read_bytes())
        return kept.result if kept.mark == mark else None
    except (OSError, ValueError):
        return None


def with_flags(results: Results, entries: Mapping[str, Entry], people: Sequence[Person]) -> dict[str, Result]:
    """The results, with flags of what only the whole class shows: equal networks, several submissions."""
    equal = equal_networks(results, groups_of(entries, people))
    submitted = Counter(entry.student for entry in entries.values())
    missing = "only notebooks: networks and answers are missing, and points need them"
    flagged = {}
    for key, result in results.items():
        more = [missing] * result.only_notebooks + equal.get(key, [])
        more += _about_the_entry(entries[key], people, submitted)
        flagged[key] = replace(result, flags=(*result.flags, *more))
    return flagged


def _about_the_entry(entry: Entry, people: Sequence[Person], submitted: Mapping[str, int]) -> Iterator[str]:
    if entry.older:
        yield f"{len(entry.older) + 1} submissions; the newest counts, not {', '.join(entry.older)}"
    if entry.late:
        yield "late, according to the platform"
    if people and entry.student not in {person.student for person in people}:
        yield f"{entry.student or 'somebody unknown'} is not on the roster"
    if not entry.student:
        number = f", and {entry.platform_id} is not in the roster" if entry.platform_id and people else ""
        yield f"who made {shown(entry.path.name)}? There is no ID in it or in its name{number}"
    elif submitted[entry.student] > 1:
        yield f"another submission says that it is by {entry.student}, too"
    if entry.student and entry.named not in ("", entry.student):
        yield f"{shown(entry.path.name)} says that it is by {entry.student}, and its name says {entry.named}"
