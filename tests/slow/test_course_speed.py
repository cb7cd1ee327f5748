"""200 submissions of nine networks each, through the command line: minutes, memory, and one process beside two."""

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
    """Eight students' work, handed in under two hundred IDs: reading and measuring it costs the same every time."""
    folder = tmp_path_factory.mktemp("submissions")
    works = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_BARS", "0")
        for number in range(BASES):
            start = work.base(number)
            networks, given = work.networks_of(start, number), work.answers_of(start, f"student{number:03d}", number)
            notebooks = work.worked_notebooks(networks)
            works.append(work.write_work(folder / f"{number}", "ab12", networks, given, notebooks, patch))
        for number in range(STUDENTS):
            student = f"student{number:03d}"
            work.zip_of(works[number % BASES], folder / f"labs_{student}.zip", student)
    for own in works:
        shutil.rmtree(own)
    return folder


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
    for path in sorted(submissions.glob("*.zip"))[:20]:
        os.link(path, few / path.name)
    alone, alone_peak = graded(few, tmp_path / "one", course, jobs=1)
    rates = [f"{60 * n / taken:.1f} submissions a minute" for n, taken in ((STUDENTS, seconds), (20, alone))]
    with capsys.disabled():
        print(f"\ntwo processes, {STUDENTS} submissions: {seconds:.0f} s, {rates[0]}, {peak:.2f} GB")
        print(f"one process, 20 submissions: {alone:.0f} s, {rates[1]}, {alone_peak:.2f} GB")
    assert seconds <= 60 * MINUTES
    assert peak < GIGABYTES
