"""The class as it really arrives, at full size: no point and no written answer of an honest student is lost."""

import csv
import json
import os
import tempfile
import zipfile
from pathlib import Path

import course_work
import pytest
import torch
from arrivals import EDITORS, NETWORKS, PLATFORMS, TYPES, random_class
from joblib import Parallel, delayed
from typer.testing import CliRunner

from labkit import cli

CLASSES, SIZE = 12, 18  # each class comes from one platform, every second one as the platform's own zip


def graded_class(number):
    """Kind and faults of everybody in a class, the flags of the class, and students that nobody is."""
    os.environ["LABKIT_BARS"], os.environ["LABKIT_DEVICE"] = "0", "cpu"
    torch.set_num_threads(1)
    family = list(PLATFORMS)[number % len(PLATFORMS)]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        made = random_class(root / "in", family, number, SIZE)
        given = made.folder
        if number // len(PLATFORMS) % 2 and family != "by mail":
            given = root / "bulk.zip"
            with zipfile.ZipFile(given, "w") as archive:
                for file in sorted(path for path in made.folder.rglob("*") if path.is_file()):
                    archive.write(file, file.relative_to(made.folder).as_posix())
        (root / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
        arguments = ["grade", given, "--out", root / "grades", "--course", root / "course.json", "--jobs", 1]
        arguments += ["--roster", made.roster(root / "class.csv")]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, list(map(str, arguments)))
        if done.exit_code:
            return [(arrival.kind, [f"the run ended: {done.output[-300:]}"]) for arrival in made.arrivals], [], []
        with (root / "grades" / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    people = {who.student for who in made.people}
    flags = [row["flags"] for row in rows if row["student"] in people]
    nobody = [row["flags"] for row in rows if row["student"] not in people]
    return [(arrival.kind, arrival.faults(rows)) for arrival in made.arrivals], flags, nobody


@pytest.fixture(scope="module")
def classes():
    return Parallel(n_jobs=2, verbose=5)(delayed(graded_class)(number) for number in range(CLASSES))


@pytest.fixture(scope="module")
def everybody(classes):
    return [pair for people, _, _ in classes for pair in people]


def those(everybody, *words):
    """Kind -> faults that begin with, or hold, one of the words."""
    found = {kind: [fault for fault in faults if any(word in fault for word in words)] for kind, faults in everybody}
    return {kind: faults for kind, faults in found.items() if faults}


def test_the_set_has_every_kind(everybody):
    assert len(everybody) == CLASSES * SIZE >= 200
    kinds = "\n".join(kind for kind, _ in everybody)
    every = [*EDITORS, *TYPES, *NETWORKS, *(place for places in PLATFORMS.values() for place in places)]
    assert [name for name in every if name not in kinds] == []


def test_no_honest_work_is_lost_or_anothers(everybody):
    assert those(everybody, " points", " rows", "the run ended") == {}


def test_no_written_answer_is_lost(everybody):
    assert those(everybody, "answer ") == {}


def test_flags_only_where_they_are_expected(everybody):
    assert those(everybody, "flag: ", "no flag like") == {}


def test_nobody_is_made_of_what_lies_about(classes):
    assert [flags for _, _, nobody in classes for flags in nobody] == []


def test_the_rate_of_flags_is_told(classes, everybody, capsys):
    flagged = sum(bool(flags) for _, rows, _ in classes for flags in rows)
    alarms, faulty = len(those(everybody, "flag: ")), sum(bool(faults) for _, faults in everybody)
    lost, answers = len(those(everybody, " points", " rows")), len(those(everybody, "answer "))
    nobody = sum(len(rows) for _, _, rows in classes)
    with capsys.disabled():
        print(f"\n{len(everybody)} honest submissions: {faulty} with a fault, {lost} lost points, {answers} answers")
        print(f"{flagged} with a flag, {alarms} of them with one that is not expected; {nobody} of nobody")
        for kind, faults in everybody:
            if faults and os.environ.get("ARRIVALS"):
                print(f"{kind}\n    {'; '.join(faults)[:400]}")
