"""The matrix of re-executions: its rows, what it skips, and that an interrupt or a full disk loses none."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import matrix
import nbformat
import pytest
from filelock import FileLock
from matrix import SETTINGS, Row, add_row, differences, digest, main, read_rows, surroundings
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from labkit import runtime

ROW = Row("03_l1_pruning", "float32", "a processor", "3.11.7", "2.15.0", "float32", "0123456789ab", 22, 0, 44)
OTHERS = [
    dataclasses.replace(ROW, notebook="04_structured_pruning"),
    dataclasses.replace(ROW, setting="avx2"),
    dataclasses.replace(ROW, processor="another processor"),
    dataclasses.replace(ROW, python="3.13.0"),
    dataclasses.replace(ROW, torch="2.11.0"),
]


def toy(folder: Path, name: str, *cells: tuple[str, str]) -> Path:
    """A notebook with stored outputs: (source, what it printed)."""
    made = [new_markdown_cell("# toy")]
    for count, (source, text) in enumerate(cells, start=1):
        outputs = [new_output("stream", name="stdout", text=text)] if text else []
        made.append(new_code_cell(source, outputs=outputs, execution_count=count))
    path = folder / f"{name}.ipynb"
    path.write_text(nbformat.writes(new_notebook(cells=made)), encoding="utf-8")
    return path


# Rows


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    assert read_rows(path) == []
    for row in [ROW, *OTHERS]:
        add_row(path, row)
    assert set(read_rows(path)) == {ROW, *OTHERS}
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]


def test_a_row_takes_the_place_of_an_older_one_and_leaves_those_of_other_machines(tmp_path):
    path = tmp_path / "rows.csv"
    for row in [ROW, *OTHERS]:
        add_row(path, row)
    newer = dataclasses.replace(ROW, stored="ba9876543210", cells=23, differ=1, seconds=50, precision="bfloat16")
    add_row(path, newer)
    assert set(read_rows(path)) == {newer, *OTHERS}
    assert len(read_rows(path)) == 6


def test_a_full_disk_loses_no_row(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    add_row(path, ROW)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        add_row(path, OTHERS[0])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "notebook,setting\n03,float32\n", "hello", ""])
def test_a_file_that_is_no_such_table_is_refused_and_not_touched(content, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="is not a table of re-executions"):
        read_rows(path)
    assert run(["--out", str(path), "--settings", "float32"]) == 2
    assert "is not a table of re-executions" in " ".join(capsys.readouterr().out.split())
    assert path.read_text(encoding="utf-8") == content


# Comparing


def test_cells_that_differ_are_counted_and_named(tmp_path):
    (tmp_path / "run").mkdir()
    cells = [("print(1)", "1\n"), ("a", "≈0.985\n"), ("b", "≈0.985\n"), ("c", "†3\n"), ("d", "")]
    stored = toy(tmp_path, "toy", *cells)
    fresh = toy(
        tmp_path / "run", "toy", ("print(1)", "2\n"), ("a", "≈0.988\n"), ("b", "≈0.989\n"), ("c", "†9\n"), ("d", "")
    )
    count, found = differences(stored, fresh)
    assert count == 5
    assert [line.partition(":")[0] for line in found] == ["cell 1", "cell 3"]
    assert "≈0.985 is now ≈0.989" in found[1]
    assert differences(stored, stored) == (5, [])


def test_cells_behind_an_error_count_as_differing(tmp_path):
    (tmp_path / "run").mkdir()
    stored = toy(tmp_path, "toy", ("x", ""), ("y", ""))
    fresh = toy(tmp_path / "run", "toy", ("x", ""), ("y", ""))
    notebook = nbformat.read(fresh, as_version=4)
    notebook.cells[2].execution_count = None
    fresh.write_text(nbformat.writes(notebook), encoding="utf-8")
    with pytest.raises(ValueError, match="cell 2 was not run to its end: the kernel died"):
        differences(stored, fresh)
    for error, counts in (("ValueError", True), ("OSError", False), ("MemoryError", False)):
        notebook.cells[1].outputs = [new_output("error", ename=error, evalue="x", traceback=[])]
        fresh.write_text(nbformat.writes(notebook), encoding="utf-8")
        if counts:
            count, found = differences(stored, fresh)
            assert (count, [line.partition(":")[0] for line in found]) == (2, ["cell 1", "cell 2"])
        else:  # an accident of this machine tells nothing of the notebook
            with pytest.raises(ValueError, match=f"cell 1 was not run to its end: {error}"):
                differences(stored, fresh)


def test_digest_follows_what_computes(tmp_path, monkeypatch):
    path = toy(tmp_path, "toy", ("print(1)", "1\n"))
    first = digest(path)
    matrix.computing.cache_clear()
    monkeypatch.setattr(matrix.marks, "TOLERANCE_UNITS", 10)
    assert digest(path) != first
    matrix.computing.cache_clear()


def test_digest_follows_the_packages_of_a_setting(build, tmp_path):
    path, setting = toy(tmp_path, "toy", ("print(1)", "1\n")), matrix.Setting("lowest", versions="lowest")
    folder = matrix.environment_of(setting)
    folder.mkdir(parents=True)
    found = []
    for packages in ("torch==2.11.0", "torch==2.11.1"):
        (folder / "made-from.txt").write_text(packages, encoding="utf-8")
        found.append(digest(path, setting))
    assert len({*found, digest(path), digest(path, matrix.Setting("float32"))}) == 3
    assert str(folder).startswith(str(build))


def test_digest_follows_code_and_outputs_and_not_the_prose(tmp_path):
    path = toy(tmp_path, "toy", ("print(1)", "1\n"))
    first = digest(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "other prose"
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    assert digest(path) == first
    assert digest(toy(tmp_path, "toy", ("print(1)", "2\n"))) != first
    assert digest(toy(tmp_path, "toy", ("print(2)", "1\n"))) != first


# Settings


def test_a_setting_is_not_disturbed_by_what_is_set_here(monkeypatch):
    for name in matrix.CHOOSING:
        monkeypatch.setenv(name, "1")
    plain, avx2 = SETTINGS[0], next(setting for setting in SETTINGS if setting.name == "avx2")
    assert not set(matrix.CHOOSING) & surroundings(plain).keys()
    assert surroundings(avx2)["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "LABKIT_BF16" not in surroundings(avx2)


def test_a_second_matrix_is_refused_with_a_line(build, tmp_path, capsys):
    build.mkdir()
    with FileLock(build / "matrix.lock"):
        assert run(["--settings", "float32", "--notebooks", "03", "--out", str(tmp_path / "rows.csv")]) == 2
    assert "another matrix runs in this folder; wait for it" in capsys.readouterr().out


def test_every_kind_of_run_of_the_issue_is_a_setting():
    names = [setting.name for setting in SETTINGS]
    wanted = {
        "as chosen",
        "float32",
        "bfloat16",
        "avx2",
        "two threads",
        "python 3.12",
        "python 3.13",
        "lowest",
        "newest",
    }
    assert wanted <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.full  # asks the package index
def test_lowest_versions_are_those_of_the_bounds():
    lowest = next(setting for setting in SETTINGS if setting.name == "lowest")
    text = matrix.requirements(lowest, "3.11.7")
    bounds = (runtime.PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    for name in ("torch", "torchvision", "numpy", "matplotlib", "tabulate"):
        bound = bounds.partition(f'"{name}>=')[2].partition('"')[0]
        assert f"\n{name}=={bound}" in f"\n{text}", name


# The command


def run(arguments) -> int:
    """Exit status of the command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["matrix.py", *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "BUILD", tmp_path / "matrix")
    return tmp_path / "matrix"


@pytest.mark.usefixtures("build")
def test_a_python_that_is_missing_is_skipped_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "interpreter", lambda _version: None)
    assert run(["--settings", "python 3.12", "--notebooks", "03", "--out", str(tmp_path / "rows.csv")]) == 0
    assert "python 3.12: skipped, Python 3.12 is not on this machine" in capsys.readouterr().out
    assert not (tmp_path / "rows.csv").exists()


@pytest.mark.usefixtures("build")
def test_what_the_processor_has_not_is_skipped_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(matrix.torch.cpu, "get_capabilities", lambda: {"neon": True})
    options = ["--settings", "avx2", "bfloat16", "--notebooks", "03", "--out", str(tmp_path / "rows.csv")]
    assert run(options) == 0
    said = capsys.readouterr().out
    assert "avx2: skipped, no avx2 here" in said
    assert "bfloat16: skipped, no avx512_f here" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--settings", "float64"], "setting is 'float64'; it must be one of"),
        (["--notebooks", "33"], "33 is not a notebook"),
        (["--notebooks", str(runtime.PROJECT / "README.md")], "README.md is not a notebook"),
    ],
)
def test_what_is_not_in_the_matrix_is_refused(arguments, words, capsys):
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


def test_settings_are_listed(capsys):
    assert run(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [setting.name for setting in SETTINGS]


@pytest.mark.slow
@pytest.mark.usefixtures("build")
def test_a_run_is_recorded_once_and_differences_are_told(tmp_path, capsys):
    good = toy(
        tmp_path, "good", ("import os; print(os.environ['LABKIT_BF16'], os.environ['OMP_NUM_THREADS'])", "0 1\n")
    )
    moved = toy(tmp_path, "moved", ("print('≈0.95')", "≈0.99\n"), ("1 / 0", ""), ("2", ""))
    options = ["--settings", "float32", "--notebooks", str(good), str(moved), "--out", str(tmp_path / "rows.csv")]
    assert run(options) == 1
    rows = {row.notebook: row for row in read_rows(tmp_path / "rows.csv")}
    assert [(rows[name].cells, rows[name].differ) for name in ("good", "moved")] == [(1, 0), (3, 3)]
    assert {row.precision for row in rows.values()} == {"float32"}
    said = capsys.readouterr().out
    assert "float32, moved: 3 cells, 3 differ" in said
    assert "cell 1: stdout: ≈0.99 is now ≈0.95" in said
    assert "2 rows of these notebooks as they are now: 4 cells compared, 3 differ" in said
    before = (tmp_path / "rows.csv").read_bytes()
    assert run(options) == 1
    assert (tmp_path / "rows.csv").read_bytes() == before
    assert "cells, 3 differ" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupted_matrix_goes_on(tmp_path):
    quick = toy(tmp_path, "quick", ("print(1)", "1\n"))
    slow = toy(
        tmp_path, "slow", ("import pathlib, time", ""), ("time.sleep(0 if pathlib.Path('go').exists() else 90)", "")
    )
    rows = tmp_path / "rows.csv"
    code = "import matrix, pathlib, sys; matrix.BUILD = pathlib.Path(sys.argv.pop(1)); matrix.main()"
    command = [sys.executable, "-c", code, str(tmp_path / "build"), "--settings", "float32"]
    command += ["--notebooks", str(quick), str(slow), "--out", str(rows)]

    def start():
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(runtime.PROJECT / "scripts")},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    process, end = start(), time.monotonic() + 300
    while not read_rows(rows):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted; what is finished is kept in" in said
    assert "Traceback" not in said
    assert [row.notebook for row in read_rows(rows)] == ["quick"]
    (tmp_path / "go").touch()
    process = start()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert sorted(row.notebook for row in read_rows(rows)) == ["quick", "slow"]
    assert {row.differ for row in read_rows(rows)} == {0}
    assert "quick: 1 cells" not in said
