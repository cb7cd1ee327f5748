"""200 submissions of seven networks each, through the command line: minutes, memory, and one process beside two."""

import json
import os
import shutil
import subprocess
import sys
import time

import course_work as work
import psutil
import pytest

STUDENTS, MINUTES, GIGABYTES = 200, 8, 2.0
BASES = 8


@pytest.fixture(scope="module")
def submissions(tmp_path_factory):
    """Every student has networks of their own: one of a few bases, moved by one more step of training."""
    folder, worked = tmp_path_factory.mktemp("submissions"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_BARS", "0")
        for number in range(STUDENTS):
            student, start = f"student{number:03d}", work.base(number % BASES)
            work.train_a_little(start, number, steps=1, rate=1e-3)
            networks = work.networks_of(start, number) if number < BASES else _cheaply(start, number)
            if number < BASES:
                worked.append(work.worked_notebooks(networks))
            own = folder / student
            work.write_work(
                own, student, networks, work.answers_of(start, student, number), work.student_notebooks(), patch
            )
            work.zip_of(own, folder / f"labs_{student}.zip", student)
            shutil.rmtree(own)
    return folder


def _cheaply(start, number):
    """The seven networks with two rounds instead of ten: their reading costs the same."""
    networks = {"CNN_MNIST": start, "CNN_MNIST_RND": work.at_random(start, number)}
    networks |= {"CNN_MNIST_L1": work.pruned(start, work.prune.l1_unstructured, amount=0.25)}
    networks |= {"CNN_MNIST_STRUCT": work.pruned(start, work.prune.ln_structured, amount=1 / 8, n=2, dim=0)}
    networks |= {"CNN_MNIST_GLOBAL": work.globally(start)}
    networks |= {"CNN_MNIST_FNC": work.rounds(start, "local", number, count=2)}
    return networks | {"CNN_MNIST_GLOBAL_2": work.rounds(start, "global", number, count=2)}


def graded(folder, out, course, jobs):
    """Seconds, and the most memory that all processes had together [GB]."""
    command = [
        sys.executable,
        "-m",
        "labkit.cli",
        "grade",
        folder,
        "--out",
        out,
        "--jobs",
        str(jobs),
        "--course",
        course,
    ]
    started, peak = time.monotonic(), 0.0
    process = psutil.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            peak = max(peak, sum(one.memory_full_info().pss for one in family) / 2**30)
        except psutil.Error:
            pass
        time.sleep(2)
    assert process.returncode == 0
    return time.monotonic() - started, peak


def test_two_hundred_submissions_in_eight_minutes_and_two_gigabytes(submissions, tmp_path, capsys):
    course = tmp_path / "course.json"
    course.write_text(json.dumps(work.course()), encoding="utf-8")
    seconds, peak = graded(submissions, tmp_path / "two", course, jobs=2)
    assert len(list((tmp_path / "two" / "feedback").iterdir())) == STUDENTS
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(submissions.glob("*.zip"))[:40]:
        os.link(path, few / path.name)
    alone, alone_peak = graded(few, tmp_path / "one", course, jobs=1)
    rates = [f"{60 * n / taken:.1f} submissions a minute" for n, taken in ((STUDENTS, seconds), (40, alone))]
    with capsys.disabled():
        print(f"\ntwo processes, {STUDENTS} submissions: {seconds:.0f} s, {rates[0]}, {peak:.2f} GB")
        print(f"one process, 40 submissions: {alone:.0f} s, {rates[1]}, {alone_peak:.2f} GB")
    assert seconds <= 60 * MINUTES
    assert peak < GIGABYTES
