"""A whole class, graded: in parallel, resumable, one broken submission at a time.

Every result is written to its own file as soon as it is there; what is finished is not done again, unless the
submission, the course or the grader has changed.
"""

import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from labkit import runtime
from labkit.course.grading import equal_networks, grade
from labkit.course.result import Kept, Result, from_json, to_json
from labkit.course.roster import Entry, Person, groups_of
from labkit.course.submission import Submission, read_submission
from labkit.course.submission.archive import read_files
from labkit.course.submission.foreign import shown


def pseudonyms(out: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> pseudonym, always the same within one folder of grades, not to be guessed without its key."""
    path = out / "key.txt"
    if not path.exists():
        with runtime.written_whole(path) as temporary:
            temporary.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
        with suppress(OSError):  # network drives refuse it
            path.chmod(0o600)
    key = path.read_text(encoding="utf-8").strip().encode()
    return {name: f"p{hmac.new(key, name.encode(), hashlib.sha256).hexdigest()[:10]}" for name in names}


def grader_version() -> str:
    """SHA-256 over labkit's sources: results of another grader are not mixed in."""
    digest = hashlib.sha256()
    for path in sorted((runtime.PROJECT / "labkit").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def grade_entry(path: str, student: str, course: Mapping[str, Any]) -> Result:
    """Grade one submission; whatever goes wrong is part of the result."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # numbers near zero can make a network a hundred times slower
    try:
        return grade(read_submission(Path(path)), course, student)
    except Exception as error:  # nothing that a submission holds may stop the others
        return refused(student, f"could not be graded ({type(error).__name__}: {shown(str(error), 200)})")
    finally:
        torch.set_flush_denormal(False)  # it holds for the whole process, which may go on to do other things


def refused(student: str, why: str) -> Result:
    """The result of a submission of which nothing could be read."""
    nothing = Submission(refused={"": why}, flags=(f"the submission {why}",))
    return grade(nothing, {"notebooks": {}, "salt": "", "version": ""}, student)


def grade_all(
    entries: Mapping[str, Entry],
    course: Mapping[str, Any],
    out: Path,
    jobs: int,
    progress: Callable[[int], None],
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
        known = _known(out / "results" / f"{key}.json", mark)
        if known is None:
            waiting[key] = mark
        else:
            results[key] = known
    progress(len(results))
    for key, result in _graded(waiting, entries, course, jobs):
        results[key] = result
        with runtime.written_whole(out / "results" / f"{key}.json") as temporary:
            temporary.write_bytes(to_json(Kept(waiting[key], result)))
        progress(len(results))
    return {key: results[key] for key in entries}


def _graded(
    waiting: Mapping[str, str], entries: Mapping[str, Entry], course: Mapping[str, Any], jobs: int
) -> Iterator[tuple[str, Result]]:
    """Results as they come. If a worker dies, those that are left are done alone, each in a process of its own."""
    left = dict.fromkeys(waiting)
    try:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            work = Parallel(n_jobs=min(jobs, max(len(left), 1)), return_as="generator_unordered", batch_size=1)
            for key, result in work(delayed(_labelled)(key, entries[key], course) for key in list(left)):
                del left[key]
                yield key, result
    except TerminatedWorkerError:
        for key in left:
            yield key, _alone(entries[key], course)


def _labelled(key: str, entry: Entry, course: Mapping[str, Any]) -> tuple[str, Result]:
    return key, grade_entry(str(entry.path), entry.student, course)


def _alone(entry: Entry, course: Mapping[str, Any]) -> Result:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(grade_entry, str(entry.path), entry.student, course).result()
        except BrokenProcessPool:
            return refused(entry.student, "ended the process that read it")


def digest_of(path: Path) -> str:
    """SHA-256 over a zip, or over the names and contents of a folder's files of interest."""
    digest = hashlib.sha256()
    if path.is_file() and not path.is_symlink():
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    else:
        for name, content in sorted(read_files(path).content.items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _known(path: Path, mark: str) -> Result | None:
    """A result that was made from the very same things, or None."""
    try:
        kept = from_json(path.read_bytes())
        return kept.result if kept.mark == mark else None
    except (OSError, ValueError):
        return None


def with_flags(
    results: Mapping[str, Result], entries: Mapping[str, Entry], people: Sequence[Person]
) -> dict[str, Result]:
    """The results, with flags of what only the whole class shows: equal networks, several submissions."""
    equal = equal_networks(results, groups_of(entries, people))
    submitted = Counter(entry.student for entry in entries.values())
    return {
        key: replace(
            result, flags=(*result.flags, *equal.get(key, []), *_about_the_entry(entries[key], people, submitted))
        )
        for key, result in results.items()
    }


def _about_the_entry(entry: Entry, people: Sequence[Person], submitted: Mapping[str, int]) -> Iterator[str]:
    if entry.older:
        yield f"{len(entry.older) + 1} submissions; the newest counts, not {', '.join(entry.older)}"
    if entry.late:
        yield "late, says the platform"
    if people and entry.student not in {person.student for person in people}:
        yield f"{entry.student or 'nobody that could be told'} is not on the roster"
    if not entry.student:
        yield f"whose is {shown(entry.path.name)}? No ID in it, none in its name"
    elif submitted[entry.student] > 1:
        yield f"another submission says that it is by {entry.student}, too"
    named = re.fullmatch(r"labs_([^ ()]+).*\.zip", entry.path.name)
    if named and entry.student and named[1].casefold() != entry.student:
        yield f"{shown(entry.path.name)} says that it is by {entry.student}"
