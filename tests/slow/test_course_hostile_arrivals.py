"""More hostile submissions, where arrivals are read more generously: archives, names, cells, kinds of files.

With those of ``tests/course/test_course_hostile.py`` they are the hostile set. None runs, none stops the class,
none leaves a process or a file, none costs the honest one beside it a point; each is told of where it must be.
"""

import csv
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import course_work
import numpy as np
import pytest
import torch
from arrivals import Person, make_work, put, tarred, zipped

SECONDS, MEMORY = 300, 2 * 2**30  # of the whole class
NOTEBOOK, NETWORK, ANSWER = "notebooks/01_training.ipynb", "models/CNN_MNIST.pth", "models/answers/01-work.pth"
MAKERS = {}


def hostile(*, told=True, ending=".zip"):
    """Register a maker: (files, folder) -> content of the submission; or it puts files there, and gives None."""

    def named(maker):
        MAKERS[maker.__name__.replace("_", "-")] = (maker, told, ending)
        return maker

    return named


# Archives


def tar_of(*entries, kind="gz"):
    """A tar of (TarInfo, content) pairs."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def info(name, **values):
    entry = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(entry, key, value)
    return entry


def with_files(files, *entries):
    return tar_of(*entries, *((info(name), content) for name, content in files.items()))


@hostile(ending=".tar.gz")
def tar_bomb(files, _):
    return with_files(files, (info(NETWORK), bytes(300 * 2**20)))


@hostile(ending=".tar.gz", told=False)
def tar_path_upwards(files, _):
    return with_files(files, (info("../../escaped.txt"), b"x"))


@hostile(ending=".tar.gz", told=False)
def tar_path_absolute(files, _):
    return with_files(files, (info("/tmp/escaped.txt"), b"x"))


@hostile(ending=".tar.gz")
def tar_symlink(files, _):
    del files[NOTEBOOK]
    return with_files(files, (info(NOTEBOOK, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""))


@hostile(ending=".tar.gz")
def tar_hard_link(files, _):
    del files[NOTEBOOK]
    return with_files(files, (info(NOTEBOOK, type=tarfile.LNKTYPE, linkname="../../etc/passwd"), b""))


@hostile(ending=".tar.gz")
def tar_pipe_and_device(files, _):
    pipe, device = info(NETWORK, type=tarfile.FIFOTYPE), info(NOTEBOOK, type=tarfile.CHRTYPE, devmajor=1, devminor=5)
    del files[NOTEBOOK]
    return with_files(files, (pipe, b""), (device, b""))


@hostile(ending=".tar.gz")
def tar_truncated(files, _):
    content = tarred(files)
    return content[: len(content) // 2]


@hostile(ending=".tar.gz")
def tar_of_many(_, __):
    return tar_of(*((info(f"a/{number}"), b"") for number in range(60_000)))


@hostile(ending=".tar.gz")
def gzip_of_zeros(_, __):
    import gzip

    return gzip.compress(bytes(400 * 2**20), 1)


@hostile(ending=".7z")
def seven_zip_of_nothing(_, __):
    return b"7z\xbc\xaf\x27\x1c" + bytes(100)


@hostile(ending=".rar")
def rar_of_nothing(_, __):
    return b"Rar!\x1a\x07\x01\x00" + bytes(100)


@hostile()
def zip_in_a_zip_of_zeros(_, __):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(NETWORK, bytes(300 * 2**20))
    return zipped({"labs.zip": inner.getvalue()})


@hostile()
def zip_in_a_zip_thirty_times(files, _):
    content = zipped(files)
    for number in range(30):
        content = zipped({f"{number}.zip": content})
    return content


@hostile()
def zip_of_a_thousand_zips(_, __):
    inner = zipped({"x.ipynb": b"{}"})
    return zipped({f"{number}.zip": inner for number in range(1_000)})


@hostile(told=False)
def zip_with_names_of_300_chinese_characters(files, _):
    return zipped({**files, f"notebooks/{'深' * 300}.ipynb": b"{}"})


@hostile(told=False)
def zip_with_reserved_names_of_windows(files, _):
    return zipped({**files, "CON": b"x", "notebooks/NUL.ipynb": b"{}", "aux./x. ": b"x", "a:b": b"x"})


@hostile(told=False)
def zip_with_a_file_and_a_folder_of_one_name(files, _):
    return zipped({"notebooks": b"x", **files, f"{NOTEBOOK}/x": b"x"})


@hostile(told=False)
def folder_with_a_file_that_is_a_folder(files, folder):
    for name, content in files.items():
        put(folder / "folder-with-a-file-that-is-a-folder" / name, content)
    (folder / "folder-with-a-file-that-is-a-folder" / "models" / "CNN_MNIST.pth").mkdir(parents=True)


@hostile()
def zip_with_a_notebook_in_three_spellings(files, _):
    other = files[NOTEBOOK].replace(b"carry", b"weigh")
    spellings = ("01_TRAINING.IPYNB", "01_training (1).ipynb", "01_training-Copy1.ipynb")
    return zipped({**files, **{f"notebooks/{name}": other for name in spellings}})


# Whose it is


def claimed(files, value):
    told = json.loads(files["manifest.json"])
    return zipped(files | {"manifest.json": json.dumps(told | {"student": value}).encode()})


@hostile(told=False)
def manifest_of_a_list(files, _):
    return claimed(files, ["honest"])


@hostile(told=False)
def manifest_too_deep(files, _):
    return zipped(files | {"manifest.json": b'{"student":' + b"[" * 90_000 + b"]" * 90_000 + b"}"})


@hostile(told=False)
def manifest_of_an_endless_number(files, _):
    return zipped(files | {"manifest.json": b'{"student":' + b"9" * 900_000 + b"}"})


@hostile(told=False)
def manifest_of_a_name_too_long(files, _):
    return claimed(files, "深" * 5_000)


@hostile()
def manifest_of_the_honest_one(files, _):
    return claimed(files, "honest")


# Cells


def changed(files, change):
    notebook = json.loads(files[NOTEBOOK])
    notebook["cells"] = [new for cell in notebook["cells"] for new in change(cell)]
    return zipped(files | {NOTEBOOK: json.dumps(notebook).encode()})


def is_answer(cell):
    return cell["cell_type"] == "markdown" and cell["metadata"].get("nbgrader", {}).get("solution")


@hostile(told=False)
def grade_ids_that_are_no_text(files, _):
    kinds = iter([["nb01-031"], {"a": 1}, 7, None, True] * 200)

    def change(cell):
        del cell["id"]
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"]["grade_id"] = next(kinds)
        return [cell]

    return changed(files, change)


@hostile(told=False)
def nbgrader_that_is_a_list(files, _):
    return changed(files, lambda cell: [cell | {"id": "", "metadata": {"nbgrader": [1, [2]]}}])


@hostile(told=False)
def metadata_that_is_a_number(files, _):
    return changed(files, lambda cell: [{**cell, "metadata": 7, "id": 3}])


@hostile(told=False)
def a_question_nine_hundred_times(files, _):
    return changed(files, lambda cell: [cell] + ([{**cell, "id": ""}] * 300 if is_answer(cell) else []))


@hostile(told=False)
def an_answer_of_five_megabytes(files, _):
    def change(cell):
        source = "".join(cell["source"])
        return [cell | {"source": source + "\n\n" + "=1+1;\n" * 800_000 if is_answer(cell) else source}]

    return changed(files, change)


@hostile(told=False)
def brackets_that_a_pattern_backtracks_on(files, _):
    return changed(files, lambda cell: [cell | {"source": "*" * 50_000 + "(" * 50_000 + " " * 50_000}])


@hostile(told=False)
def code_that_is_nested_too_deeply_to_parse(files, _):
    deep = "x = " + "(" * 5_000 + ")" * 5_000 + "\n" + "-" * 20_000 + "1"
    return changed(files, lambda cell: [cell | {"source": deep}] if cell["cell_type"] == "code" else [cell])


@hostile(told=False)
def code_with_nul_and_control_characters(files, _):
    odd = "x = 1\0\x0b\x0c\x1b[2J\ud800"
    return changed(files, lambda cell: [cell | {"source": odd}] if cell["cell_type"] == "code" else [cell])


@hostile(told=False)
def control_characters_in_an_answer(files, _):
    odd = "\x07\x08\x1b]0;owned\x07\x85\u2028\u202e;\"=cmd|' /C calc'!A0"

    def change(cell):
        return [cell | {"source": "".join(cell["source"]) + odd}] if is_answer(cell) else [cell]

    return changed(files, change)


@hostile()
def notebook_of_utf_16(files, _):
    return zipped(files | {NOTEBOOK: files[NOTEBOOK].decode().encode("utf-16")})


# Networks and answers


def stored(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def state():
    return course_work.base(0).state_dict()


@hostile()
def checkpoint_of_a_thousand_floors(files, _):
    value = state()
    for _ in range(300):
        value = {"state_dict": value}
    return zipped(files | {NETWORK: stored(value)})


@hostile(told=False)
def checkpoint_of_two_networks(files, _):
    other = {key: value * 0 for key, value in state().items()}
    return zipped(files | {NETWORK: stored({"model": other, "state_dict": state(), "model_state_dict": other})})


@hostile()
def names_of_two_kinds(files, _):
    return zipped(files | {NETWORK: stored({**state(), **{f"module.{key}": x for key, x in state().items()}})})


@hostile(told=False)
def module_a_hundred_times(files, _):
    return zipped(files | {NETWORK: stored({"module." * 100 + key: x for key, x in state().items()})})


@hostile()
def network_of_sparse_tensors(files, _):
    dense = {key: value.to_sparse() if value.ndim > 1 else value for key, value in state().items()}
    return zipped(files | {NETWORK: stored(dense)})


@hostile()
def network_that_is_an_object(files, _):
    return zipped(files | {NETWORK: stored(course_work.base(0))})


@hostile()
def network_of_numpy_objects(files, _):
    return zipped(files | {NETWORK: stored({"conv1.weight": np.array([print, 1], dtype=object)})})


def answered(files, value):
    return zipped(
        files | {ANSWER: stored({"format": "labkit answer 1", "task": "01-work", "value": value, "base": ""})}
    )


@hostile()
def answer_of_numpy(files, _):
    return answered(files, np.ones(4))


@hostile()
def answer_of_fractions(files, _):
    return answered(files, {"conv1": Fraction(1, 3)})


@hostile(told=False)
def answer_of_endless_lists(files, _):
    value = [1]
    for _ in range(60):
        value = [value, value]
    return answered(files, {"conv1": value})


@hostile()
def pickle_in_place_of_a_zip(_, __):
    return pickle.dumps({"student": "pickle-in-place-of-a-zip"})


# All of them in one class


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the command over the whole class."""
    root = tmp_path_factory.mktemp("hostile")
    folder = root / "in"
    for number, (name, (maker, _, ending)) in enumerate(MAKERS.items()):
        who = Person(name, f"Person {number}", 9000 + number)
        content = maker(make_work(who, only=("01_training",), tasks=()).files, folder)
        if content is not None:
            put(folder / f"labs_{name}{ending}", content)
    done = make_work(Person("honest", "Honest", 1))
    put(folder / "labs_honest.zip", zipped(done.files))
    (root / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
    (root / "class.csv").write_text("student,name\n" + "".join(f"{x},{x}\n" for x in ["honest", *MAKERS]))
    before = {path for path in root.parent.rglob("*") if root / "grades" not in (path, *path.parents)}
    arguments = [folder, "--out", root / "grades", "--course", root / "course.json", "--jobs", 2]
    code, output, left = command(*arguments, "--roster", root / "class.csv")
    after = {path for path in root.parent.rglob("*") if root / "grades" not in (path, *path.parents)}
    return root / "grades", done, code, output, left, after - before


def command(*arguments):
    """The real command line, in a session of its own: code, output, and what is left of it."""
    line = [sys.executable, "-m", "labkit.cli", "grade", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "LABKIT_BARS": "0", "LABKIT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment, "start_new_session": True}
    with subprocess.Popen(line, **options) as process:
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += b" ... took too long"
    until = time.monotonic() + 5
    while (left := course_work.processes_of_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    return process.returncode, output.decode(errors="replace"), left


def rows_of(out):
    csv.field_size_limit(2**31 - 1)
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_there_are_enough_of_them():
    assert len(MAKERS) >= 27  # and 93 in tests/course/test_course_hostile.py


def test_the_class_is_graded_to_its_end(finished):
    _, _, code, output, _, _ = finished
    assert code == 0, output[-1_500:]
    assert "Traceback" not in output


def test_no_process_and_no_file_is_left(finished):
    _, _, _, _, left, new = finished
    assert left == []
    assert new == set()
    assert not Path("/tmp/escaped.txt").exists()


def test_the_honest_one_keeps_points_and_answers(finished):
    out, done, *_ = finished
    (row,) = [row for row in rows_of(out) if row["student"] == "honest" and row["points"] not in ("", "0.0")]
    assert float(row["points"]) + float(row["bonus"]) == done.points
    assert all(row[f"answer {name}"] for name in done.answers)


@pytest.mark.parametrize("name", MAKERS)
def test_it_has_a_row_and_is_told_of_where_it_must_be(finished, name):
    rows = [row for row in rows_of(finished[0]) if name in (row["student"], row["name"]) or name in row["flags"]]
    assert rows
    if MAKERS[name][1]:
        assert any(row["flags"] for row in rows)


def test_no_cell_holds_a_control_character_or_a_formula(finished):
    text = (finished[0] / "grades.csv").read_text(encoding="utf-8-sig")
    assert not {"\0", "\x1b", "\x07", "\u202e"} & set(text)


# After SIGKILL no worker stays


def test_after_sigkill_no_worker_stays(tmp_path):
    for number in range(6):
        who = Person(f"id{number}", f"Name {number}", number)
        put(tmp_path / "in" / f"labs_id{number}.zip", zipped(make_work(who, base=0).files))
    (tmp_path / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
    line = [sys.executable, "-m", "labkit.cli", "grade", tmp_path / "in", "--out", tmp_path / "out", "--jobs", "2"]
    line += ["--course", tmp_path / "course.json"]
    environment = os.environ | {"LABKIT_BARS": "0", "LABKIT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(list(map(str, line)), env=environment, start_new_session=True) as process:
        try:
            until = time.monotonic() + 60
            while not list((tmp_path / "out" / "results").glob("*.json")) and time.monotonic() < until:
                time.sleep(0.05)
            assert process.poll() is None, "the batch was over too soon"
            process.kill()
            process.wait()
            until = time.monotonic() + 20
            while (left := course_work.processes_of_session(process.pid)) and time.monotonic() < until:
                time.sleep(0.2)
            assert left == []
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
