import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from typer.testing import CliRunner

from labkit import cli, runtime
from labkit.rerun import comparison, execution

ROW = {"sparsity": 0.25, "test_accuracy": 0.985, "trained": 0}
RECORD = """
import json, os, pathlib
path = pathlib.Path(os.environ["LABKIT_MODELS"], "records", "good.json")
path.parent.mkdir(parents=True)
row = {"sparsity": 0.25, "test_accuracy": 0.985, "trained": 0}
_ = path.write_text(json.dumps({"networks": {"CNN_TOY": row}, "curves": {}}))
"""


def write(folder: Path, name: str, *sources: str) -> Path:
    """A notebook whose code cells have not been run."""
    notebook = new_notebook(cells=[new_markdown_cell(f"# {name}"), *(new_code_cell(source) for source in sources)])
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def stdout(text: str) -> nbformat.NotebookNode:
    return new_output("stream", name="stdout", text=text)


def cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


# The command, on real kernels


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of the command: two good notebooks and, first, one that fails."""
    folder = tmp_path_factory.mktemp("run")
    paths = [
        write(folder, "bad", "x = 1", "raise ValueError('too bad')", "print('never')"),
        write(folder, "good", "print(6 * 7)", RECORD, "import os; print(os.environ['LABKIT_BARS'])\n1 + 1"),
        write(folder, "other", "print('hello')"),
    ]
    before = [path.read_bytes() for path in paths]
    command = [sys.executable, "-m", "labkit.cli", "run", *map(str, paths), "--out", str(folder / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=os.environ | {"COLUMNS": "150"}
    )
    assert [path.read_bytes() for path in paths] == before
    return done, folder / "out"


def test_failing_notebook_is_named_with_cell_and_error_and_gives_exit_code_1(finished):
    done, _ = finished
    assert done.returncode == 1
    assert "FAILED bad cell 2: ValueError: too bad" in done.stdout
    assert "2 of 3 notebooks ran to their end" in done.stdout


def test_executed_copies_are_written_also_of_the_failing_notebook(finished):
    _, out = finished
    assert sorted(path.name for path in (out / "notebooks").iterdir()) == ["bad.ipynb", "good.ipynb", "other.ipynb"]
    assert cells(out / "notebooks" / "good.ipynb")[0].outputs == [stdout("42\n")]
    assert cells(out / "notebooks" / "other.ipynb")[0].outputs == [stdout("hello\n")]
    bad = cells(out / "notebooks" / "bad.ipynb")
    assert [cell.execution_count for cell in bad] == [1, 2, None]
    assert bad[1].outputs[0].ename == "ValueError"


def test_executed_copy_is_valid_and_says_nothing_of_this_machine(finished):
    _, out = finished
    notebook = nbformat.read(out / "notebooks" / "good.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec"}
    assert all("execution" not in cell.metadata for cell in notebook.cells)


def test_kernel_sees_an_environment_of_its_own(finished):
    _, out = finished
    last = cells(out / "notebooks" / "good.ipynb")[2]
    assert last.outputs[0].text == "0\n"
    assert last.outputs[1].data["text/plain"] == "2"
    assert (out / "models" / "good" / "records" / "good.json").exists()


def test_networks_and_verdicts_are_in_the_table(finished):
    line = next(line for line in finished[0].stdout.splitlines() if "CNN_TOY" in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
        "good",
        "CNN_TOY",
        "25.00 %",
        "0.9850",
        "–",
        "new",
    ]


def test_without_a_terminal_a_line_tells_when_a_notebook_starts_and_ends(finished):
    lines = [line for line in finished[0].stdout.splitlines() if re.match(r"(bad|good|other): ", line)]
    assert sorted(line.partition(",")[0] for line in lines if "started" in line) == [
        f"{name}: started" for name in ("bad", "good", "other")
    ]
    ends = sorted(re.sub(r"[\d:]+", "N", line.partition(": ")[2]) for line in lines if "started" not in line)
    assert ends == ["ended after N, about N left for all"] * 2 + ["failed after N, about N left for all"]
    assert [line for line in lines if "started" not in line][-1].endswith(" 0:00 left for all")


def started_by_hand(command):
    """A process that takes interrupts, as one in a terminal does; a shell's background jobs ignore them."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [pytest.param(0.2, marks=pytest.mark.full), 1.5])
def test_interrupt_while_a_kernel_starts_is_told_in_one_line(tmp_path, seconds):
    path = write(tmp_path, "slow", "import time; time.sleep(60)")
    command = [sys.executable, "-u", "-m", "labkit.cli", "run", str(path), "--out", str(tmp_path / "out")]
    process = started_by_hand(command)
    first = process.stdout.readline()
    assert first.startswith("slow: started")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=90)
    assert (process.returncode, said.count("\n")) == (130, 1), said
    assert said.startswith("interrupted; ")
    assert [kernel for kernel in psutil.process_iter() if str(tmp_path) in " ".join(_words(kernel))] == []


def _words(process):
    try:
        return [*process.cmdline(), process.cwd()]
    except psutil.Error:
        return []


# How long it still takes


def pace(expected, taken=(), running=0.0, state="running"):
    return execution.Execution("x", list(expected), list(taken), running, state)


@pytest.mark.parametrize(
    ("expected", "taken", "running", "left"),
    [
        ([10, 20, 30], [], 0, 60),
        ([10, 20, 30], [10], 0, 50),
        ([10, 20, 30], [30], 0, 150),  # a machine three times slower
        ([10, 20, 30], [5], 0, 25),
        ([10, 20, 30], [30], 15, 135),
        ([10, 20, 30], [], 40, 200),  # the first cell is late: at least four times slower
        ([10, 20, 30], [10, 20, 30], 0, 0),
        ([], [], 3, 0),
        ([1], [0.0], 0, 0),
        ([0, 0], [0], 2, 0),
    ],
)
def test_time_left_is_that_of_this_machine(expected, taken, running, left):
    now = pace(expected, taken, running)
    assert now.rate * now.left == pytest.approx(left, abs=1e-6)
    assert execution.seconds_left([now], jobs=1) == pytest.approx(left, abs=1e-6)


def test_time_left_of_those_that_wait_is_scaled_by_those_that_run():
    running, waiting = pace([10, 90], [20]), pace([100], state="waiting")
    assert execution.seconds_left([running, waiting], jobs=1) == pytest.approx(380)
    assert execution.seconds_left([running, waiting], jobs=2) == pytest.approx(200)  # the longest cannot be divided
    slow, fast = pace([10, 100], [100]), pace([10, 1], [1])
    assert execution.seconds_left([slow, fast], jobs=2) == pytest.approx(1000)  # the slow one at its own rate
    assert execution.seconds_left([pace([5], [50], state="ended")], jobs=2) == 0
    assert execution.seconds_left([], jobs=2) == 0


# Names of notebooks


@pytest.mark.parametrize(
    "name", ["03", "3", "03_l1_pruning", str(runtime.PROJECT / "notebooks" / "03_l1_pruning.ipynb")]
)
def test_notebook_is_found_by_number_name_or_path(name):
    assert [path.stem for path in execution.find_notebooks([name])] == ["03_l1_pruning"]


def test_without_names_the_series_is_found_in_its_order():
    assert [path.stem[:2] for path in execution.find_notebooks([])] == [f"{number:02d}" for number in range(1, 11)]
    assert [path.stem[:2] for path in execution.find_notebooks(["9", "02"])] == ["09", "02"]


@pytest.mark.parametrize("name", ["11", "0", "", "l1", "x.ipynb", "README.md", "03_l1"])
def test_what_is_no_notebook_is_refused_by_name(name):
    with pytest.raises(ValueError, match="is not a notebook; give a number") as error:
        execution.find_notebooks([name])
    assert str(error.value).startswith(f"{name} is not")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LABKIT_BF16", "yes", "LABKIT_BF16 is 'yes'; it must be 0 or 1"),
        ("ATEN_CPU_CAPABILITY", "nonsense", "ATEN_CPU_CAPABILITY is 'nonsense'; it must be one of"),
    ],
)
def test_environment_that_says_nothing_is_told_in_one_line(variable, value, words, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, value)
    done = CliRunner().invoke(cli.app, ["run", "03", "--out", str(tmp_path)])
    assert (done.exit_code, done.output.count("\n")) == (2, 1), done.output
    assert words in done.output


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, so that nothing is stored in this one."""
    monkeypatch.setattr(runtime, "PROJECT", tmp_path / "project")
    records = runtime.reference_dir() / "records"
    records.mkdir(parents=True)
    monkeypatch.setenv("COLUMNS", "150")
    return tmp_path


def committed(accuracy: float, sparsity: float = 0.25) -> None:
    row = ROW | {"test_accuracy": accuracy, "sparsity": sparsity}
    path = runtime.reference_dir() / "records" / "good.json"
    path.write_text(json.dumps({"networks": {"CNN_TOY": row}, "curves": {}}), encoding="utf-8")


def test_good_notebook_with_the_stored_result_gives_exit_code_0_and_is_not_changed(project):
    committed(0.9848)
    path = write(project, "good", RECORD)
    before = path.read_bytes()
    done = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(project / "out")])
    assert done.exit_code == 0, done.output
    assert "same (±0.0003)" in done.output
    assert path.read_bytes() == before


def test_result_that_moved_gives_exit_code_1_and_storing_takes_it_over(project):
    committed(0.95)
    path = write(project, "good", "print(6 * 7)", RECORD)
    arguments = ["run", str(path), "--out", str(project / "out")]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 1
    assert "moved by 0.0350" in done.output
    done = CliRunner().invoke(cli.app, [*arguments, "--store"])
    assert done.exit_code == 0, done.output
    assert "good cell 1: not run before" in done.output
    assert cells(path)[0].outputs == [stdout("42\n")]
    stored = json.loads((runtime.reference_dir() / "records" / "good.json").read_text(encoding="utf-8"))
    assert stored["networks"]["CNN_TOY"]["test_accuracy"] == 0.985
    assert len(execution.expected_seconds("good")) == 2


def test_what_is_no_notebook_gives_exit_code_2_by_name(tmp_path):
    (tmp_path / "text.txt").write_text("", encoding="utf-8")
    for name in ("text.txt", "missing.ipynb"):
        done = CliRunner().invoke(cli.app, ["run", str(tmp_path / name)])
        assert done.exit_code == 2
        assert name in done.output.replace("\n", "")


@pytest.mark.usefixtures("project")
def test_project_without_notebooks_gives_exit_code_2():
    done = CliRunner().invoke(cli.app, ["run"])
    assert done.exit_code == 2
    assert "there is no notebook to run" in done.output


def test_dead_kernel_and_endless_cell_are_named_and_the_copies_written(tmp_path):
    paths = [
        write(tmp_path, "dead", "x = 1", "import os; os._exit(1)", "x"),
        write(tmp_path, "endless", "import time; time.sleep(60)"),
    ]
    outcomes = asyncio.run(execution.execute_all(paths, tmp_path / "out", 2, 1, 2, lambda *_: None))
    assert [outcome.error for outcome in outcomes] == ["cell 2: the kernel died", "cell 1: no end after 2 s"]
    assert sorted(path.name for path in (tmp_path / "out" / "notebooks").iterdir()) == ["dead.ipynb", "endless.ipynb"]


# Storing and comparing, without a kernel


def run_by_hand(path: Path, *outputs: list[nbformat.NotebookNode]) -> execution.Execution:
    """The outcome of a run that gave these outputs, one list for each code cell."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, (cell, given) in enumerate(zip(code, outputs, strict=True), start=1):
        cell.outputs, cell.execution_count = given, count
    return execution.Execution(path.stem, [], [0.5] * len(outputs), notebook=notebook)


@pytest.fixture
def stored(project):
    """A notebook of three executed cells: exact, movable, and of this machine only."""
    path = write(project, "good", "print('exact')", "print('movable')", "print('local')")
    comparison.store(run_by_hand(path, [stdout("5")], [stdout("≈0.50")], [stdout("†3 s")]), path, project, fresh=True)
    return path


def test_unrun_cells_are_all_stored_and_numbered(stored):
    assert [cell.outputs[0].text for cell in cells(stored)] == ["5", "≈0.50", "†3 s"]
    assert [cell.execution_count for cell in cells(stored)] == [1, 2, 3]


def test_storing_names_what_differs_beyond_its_marks_and_takes_all_outputs_of_that_run(stored, project):
    outcome = run_by_hand(stored, [stdout("6")], [stdout("≈0.53")], [stdout("†7 s")])
    changes = comparison.store(outcome, stored, project, fresh=False)
    assert changes == ["good cell 1: stdout: line '5' is now '6'"]
    assert [cell.outputs[0].text for cell in cells(stored)] == ["6", "≈0.53", "†7 s"]


def test_storing_the_same_again_changes_no_byte(stored, project):
    before = stored.read_bytes()
    outcome = run_by_hand(stored, [stdout("5")], [stdout("≈0.51")], [stdout("†9 s")])
    assert comparison.store(outcome, stored, project, fresh=False) == []
    assert stored.read_bytes() == before


def test_storing_afresh_takes_every_output(stored, project):
    outcome = run_by_hand(stored, [stdout("5")], [stdout("≈0.51")], [stdout("†9 s")])
    assert len(comparison.store(outcome, stored, project, fresh=True)) == 3
    assert [cell.outputs[0].text for cell in cells(stored)] == ["5", "≈0.51", "†9 s"]


def test_storing_leaves_prose_and_sources_alone(stored, project):
    before = nbformat.read(stored, as_version=4)
    comparison.store(run_by_hand(stored, [], [], []), stored, project, fresh=True)
    after = nbformat.read(stored, as_version=4)
    assert [(c.id, c.source) for c in after.cells] == [(c.id, c.source) for c in before.cells]


def test_seconds_and_records_are_kept_with_the_reference_networks(stored, project):
    found = project / "models" / "good" / "records" / "good.json"
    found.parent.mkdir(parents=True)
    found.write_text('{"networks": {}, "curves": {}}', encoding="utf-8")
    comparison.store(run_by_hand(stored, [stdout("6")], [], []), stored, project, fresh=False)
    folder = runtime.reference_dir() / "records"
    assert (folder / "good.json").read_text(encoding="utf-8") == found.read_text(encoding="utf-8")
    assert json.loads((folder / "seconds.json").read_text(encoding="utf-8")) == {"good": [0.5, 0.5, 0.5]}
    assert execution.expected_seconds("good") == [0.5, 0.5, 0.5]
    assert execution.expected_seconds("unknown") == []


def picture(content: str, text: str = "<Figure>") -> nbformat.NotebookNode:
    return new_output("display_data", data={"image/png": content, "text/plain": text})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([], []),
        ([stdout("a"), stdout("b")], [stdout("ab")]),
        ([picture("AAAA")], [picture("BBBB")]),
        ([stdout("≈1.00 †2")], [stdout("≈1.03 †3")]),
        ([stdout("a"), picture("AAAA")], [picture("AAAA"), stdout("a")]),
    ],
)
def test_outputs_that_do_not_differ(old, new):
    assert comparison.outputs_differ(old, new) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([stdout("a")], []),
        ([stdout("a")], [stdout("b")]),
        ([stdout("≈1.00")], [stdout("≈1.11")]),
        ([picture("AAAA")], []),
        ([picture("AAAA")], [picture("AAAA"), picture("BBBB")]),
        ([picture("AAAA", "one")], [picture("AAAA", "two")]),
        ([stdout("a")], [new_output("stream", name="stderr", text="a")]),
        ([], [new_output("error", ename="ValueError", evalue="x", traceback=[])]),
    ],
)
def test_outputs_that_differ(old, new):
    assert comparison.outputs_differ(old, new)
    assert comparison.outputs_differ(new, old)


@pytest.mark.parametrize(
    ("trained", "stored_accuracy", "stored_sparsity", "same", "words"),
    [
        (0, 0.985, 0.25, True, "same (±0.0003)"),
        (0, 0.9848, 0.25, True, "same (±0.0003)"),
        (0, 0.980, 0.25, False, "moved by 0.0050"),
        (1, 0.983, 0.25, True, "same (±0.0030)"),
        (1, 0.970, 0.25, False, "moved by 0.0150"),
        (1, 0.985, 0.2500001, False, "sparsity was 0.2500"),
    ],
)
def test_a_run_is_compared_with_the_committed_record(project, trained, stored_accuracy, stored_sparsity, same, words):
    committed(stored_accuracy, stored_sparsity)
    path = project / "out" / "models" / "good" / "records" / "good.json"
    path.parent.mkdir(parents=True)
    networks = {"CNN_TOY": ROW | {"trained": trained}}
    path.write_text(json.dumps({"networks": networks, "curves": {}}), encoding="utf-8")
    (row,) = comparison.compare_records(["good", "without"], project / "out")
    assert (row.same, row.words, row.stored) == (same, words, stored_accuracy)


def test_cleaning_drops_what_differs_between_machines(tmp_path):
    notebook = nbformat.read(write(tmp_path, "good", "1"), as_version=4)
    notebook.metadata["language_info"] = {"version": "3.11.7"}
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    execution.clean(notebook)
    assert dict(notebook.metadata) == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    assert dict(notebook.cells[1].metadata) == {}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_interrupt_ends_all_notebooks_and_starts_no_other(tmp_path):
    cell = "import os, pathlib, time; pathlib.Path(f'{NAME}.pid').write_text(str(os.getpid())); time.sleep(120)"
    paths = [write(tmp_path, name, cell.replace("{NAME}", name)) for name in ("a", "b", "c")]
    command = [
        sys.executable,
        "-m",
        "labkit.cli",
        "run",
        *map(str, paths),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "2",
    ]
    process = started_by_hand(command)
    started = [path.with_suffix(".pid") for path in paths]
    deadline = time.monotonic() + 60
    while sum(path.exists() and path.read_text() != "" for path in started) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; what was executed so far is in" in said
    assert "Traceback" not in said
    running = [int(path.read_text()) for path in started if path.exists()]
    assert len(running) == 2
    kernels = [psutil.Process(pid) for pid in running if psutil.pid_exists(pid)]
    _, left = psutil.wait_procs(kernels, timeout=20)
    assert [kernel for kernel in left if kernel.status() != psutil.STATUS_ZOMBIE] == []


def test_copies_never_overwrite_the_notebooks_themselves(tmp_path):
    (tmp_path / "notebooks").mkdir()
    path = write(tmp_path / "notebooks", "ok", "x = 1")
    before = path.read_bytes()
    done = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "give another folder" in done.output
    assert path.read_bytes() == before


def test_notebook_that_can_not_be_read_does_not_stop_the_others(tmp_path):
    (tmp_path / "list.ipynb").write_text("[1]", encoding="utf-8")
    good = write(tmp_path, "good", "print(1)")
    done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "list.ipynb"), str(good), "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "FAILED list" in done.output
    assert "1 of 2 notebooks" in done.output
