"""Re-execute every notebook under many settings, compare strictly with what is stored, and record what differed.

    make matrix                                            # everything: hours; interrupt and repeat as you like
    make matrix ARGS="--settings float32 avx2 --notebooks 03 05"
    make matrix ARGS=--list

A notebook under a setting is a row of data/results/reexecution.csv. What has a row for this processor, these versions
and the notebook as it is now is not run again (``--again`` does); rows of other processors stay. What differs is
printed, gives exit status 1, and is kept with the executed copies in build/matrix/. A notebook that could not be run to
its end here (no memory, no disk, a killed kernel) gives no row, and exit status 1.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from labkit import runtime
from labkit.rerun import comparison, execution, marks

BUILD = runtime.PROJECT / "build" / "matrix"
RECORDS = runtime.PROJECT / "data" / "results" / "reexecution.csv"
CHOOSING = ("LABKIT_BF16", "LABKIT_QUICK", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
# What decides the numbers, apart from the notebook itself; a change of these makes rows out of date.
COMPUTING = ("labkit/cnn.py", "labkit/data.py", "labkit/training.py", "models/reference/**/*.pth")
# Errors of a machine, and not of a notebook.
ACCIDENTS = ("OSError", "MemoryError", "OutOfMemoryError", "KeyboardInterrupt")
CAPABILITIES = {
    "avx2": "AVX2",
    "avx512_f": "AVX-512",
    "avx512_bf16": "bfloat16",
    "amx_bf16": "tiles",
    "bf16": "bfloat16",
}


@dataclass(frozen=True)
class Setting:
    """How the notebooks are run.

    Attributes:
        name: one word or two.
        variables: of the environment.
        needs: what the processor must have, by its name in ``torch.cpu.get_capabilities()``; "" for nothing.
        threads: of each notebook.
        python: version such as "3.12"; "" for the one that runs this script.
        versions: of the packages: "locked", "lowest" (that pyproject.toml allows) or "newest".
    """

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    needs: str = ""
    threads: int = 1
    python: str = ""
    versions: str = "locked"

    @property
    def own_packages(self) -> bool:
        """Whether it needs a virtual environment of its own."""
        return bool(self.python) or self.versions != "locked"


AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
EMULATED = {"LABKIT_BF16": "1", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
SETTINGS = [
    Setting("as chosen"),
    Setting("float32", {"LABKIT_BF16": "0"}),
    Setting("avx2", AVX2, needs="avx2"),
    Setting("lowest", versions="lowest", python="3.11"),
    Setting("newest", versions="newest"),
    Setting("python 3.12", python="3.12"),
    Setting("python 3.13", python="3.13"),
    Setting("two threads", threads=2),
    Setting("bfloat16", {"LABKIT_BF16": "1"}, needs="avx512_f"),
    Setting("bfloat16 emulated", EMULATED, needs="avx512_f"),
]


@dataclass(frozen=True)
class Row:
    """What came of one notebook under one setting.

    Attributes:
        notebook: such as "03_l1_pruning".
        setting: name of the setting.
        processor: its name and what it can do.
        python: version.
        torch: version.
        precision: of training.
        stored: digest of the notebook's code and stored outputs, and of what computes them.
        cells: code cells compared.
        differ: how many of them differ beyond their marks.
        seconds: of the cells, one notebook beside another where they have one thread each.
    """

    notebook: str
    setting: str
    processor: str
    python: str
    torch: str
    precision: str
    stored: str
    cells: int
    differ: int
    seconds: int

    @property
    def place(self) -> tuple[str, ...]:
        """What there is one row for."""
        return (self.notebook, self.setting, self.processor, self.python, self.torch)


def read_rows(path: Path) -> list[Row]:
    """Rows of the file, none if there is no file.

    Raises:
        ValueError: the file is not such a table.
    """
    if not path.exists():
        return []
    columns = [column.name for column in fields(Row)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            if table.fieldnames != columns:
                raise ValueError(f"its columns are not {', '.join(columns)}")
            return [row_of(line) for line in table]
    except (TypeError, ValueError, KeyError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of re-executions ({error}); put it aside") from None


def row_of(line: dict[str, Any]) -> Row:
    """A row from its columns, as text or numbers."""
    return Row(**(line | {name: int(line[name]) for name in ("cells", "differ", "seconds")}))


def add_row(path: Path, row: Row) -> None:
    """Put a row in its place, the file written whole or left as it was; an older row of the same place goes."""
    rows = [old for old in read_rows(path) if old.place != row.place] + [row]
    with runtime.written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [column.name for column in fields(Row)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(one) for one in sorted(rows, key=lambda one: (one.processor, one.setting, one.notebook)))


@cache
def computing() -> str:
    """Digest of the code and the networks that a notebook computes with, and of how it is compared."""
    found = hashlib.sha256(str(marks.TOLERANCE_UNITS).encode())
    for pattern in COMPUTING:
        for path in sorted(runtime.PROJECT.glob(pattern)):
            found.update(path.read_bytes())
    return found.hexdigest()


def environment_of(setting: Setting) -> Path:
    """Folder of a setting's own packages."""
    return BUILD / "environments" / setting.name.replace(" ", "-")


def digest(path: Path, setting: Setting | None = None) -> str:
    """Of a notebook's code, the outputs that are compared, what computes them, and a setting's own packages."""
    stamp = environment_of(setting) / "made-from.txt" if setting is not None and setting.own_packages else None
    packages = stamp.read_text(encoding="utf-8") if stamp is not None and stamp.exists() else ""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    content = json.dumps([[cell.source, comparison.comparable(cell.outputs)] for cell in cells], sort_keys=True)
    return hashlib.sha256((content + computing() + packages).encode()).hexdigest()[:12]


def differences(stored: Path, executed: Path) -> tuple[int, list[str]]:
    """Number of code cells, and a line for each whose outputs differ beyond their marks.

    Raises:
        ValueError: the notebook was not run to its end, and not by an error of its own.
    """
    pairs = zip(*(nbformat.read(path, as_version=4).cells for path in (stored, executed)), strict=True)
    cells = [(old, new) for old, new in pairs if old.cell_type == "code"]
    found = []
    for number, (old, new) in enumerate(cells, start=1):
        accident = [output.ename for output in new.outputs if output.get("ename") in ACCIDENTS]
        if accident or (new.execution_count is None and not errors_before(cells[: number - 1])):
            raise ValueError(f"cell {number} was not run to its end: {', '.join(accident) or 'the kernel died'}")
        what = "never run" if new.execution_count is None else comparison.outputs_differ(old.outputs, new.outputs)
        if what:
            found.append(f"cell {number}: {what}")
    return len(cells), found


def errors_before(cells: list[tuple[Any, Any]]) -> bool:
    """Whether one of these cells raised an error, behind which no cell is run."""
    return any(output.output_type == "error" for _, new in cells for output in new.outputs)


# Environments


def interpreter(version: str) -> Path | None:
    """A Python of this version that starts, or None."""
    if platform_python(Path(sys.executable)).startswith(f"{version}."):
        return Path(sys.executable)
    on_path = shutil.which(f"python{version}")
    places = [Path(on_path)] if on_path else []
    places += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return next((place for place in places if platform_python(place).startswith(f"{version}.")), None)


def platform_python(python: Path) -> str:
    """Version of an interpreter; empty if it does not start."""
    done = subprocess.run([python, "-c", "import sys; print(sys.version.split()[0])"], capture_output=True, text=True)
    return done.stdout.strip()


def python_of(setting: Setting) -> Path:
    """The interpreter of a setting, its environment made if need be.

    Raises:
        ValueError: its packages cannot be resolved or installed.
    """
    if not setting.own_packages:
        return Path(sys.executable)
    base = (interpreter(setting.python) if setting.python else None) or Path(sys.executable)
    folder, uv = environment_of(setting), [sys.executable, "-m", "uv"]
    python, stamp = folder / "bin" / "python", folder / "made-from.txt"
    wanted = requirements(setting, platform_python(base))
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        steps = [[*uv, "venv", "--quiet", "--python", str(base), str(folder)]]
        install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
        backend = os.environ.get("TORCH_BACKEND")
        steps.append([*install, *([f"--torch-backend={backend}"] if backend else []), "-r", str(BUILD / "wanted.txt")])
        steps.append([*install, "--no-deps", "-e", str(runtime.PROJECT)])
        (BUILD / "wanted.txt").write_text(wanted, encoding="utf-8")
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(f"its packages cannot be installed: {' '.join(done.stderr.split())[-400:]}")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def requirements(setting: Setting, python: str) -> str:
    """The packages of a setting with their versions.

    Raises:
        ValueError: there are none that fit.
    """
    if setting.versions == "locked":
        return (runtime.PROJECT / "requirements.lock").read_text(encoding="utf-8")
    way = ["--resolution", "lowest-direct"] if setting.versions == "lowest" else ["--upgrade"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", *way]
    command += ["--extra", "edge", "--python-version", python, str(runtime.PROJECT / "pyproject.toml")]
    backend = os.environ.get("TORCH_BACKEND")
    command += [f"--torch-backend={backend}"] if backend else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"its packages cannot be resolved: {' '.join(done.stderr.split())[-400:]}")
    return done.stdout


def surroundings(setting: Setting) -> dict[str, str]:
    """The environment of a setting: what chooses instructions is as the setting says, and not as it is here."""
    return {key: value for key, value in os.environ.items() if key not in CHOOSING} | setting.variables


ASK = """
import json, platform, torch
from labkit import runtime
print(json.dumps([platform.python_version(), torch.__version__.partition("+")[0],
                  runtime.precision(torch.device("cpu"))]))
"""


def what_runs(setting: Setting, python: Path) -> tuple[str, str, str]:
    """Versions of Python and torch, and the precision of training.

    Raises:
        ValueError: labkit does not start there.
    """
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True, env=surroundings(setting))
    if done.returncode:
        raise ValueError(f"labkit does not start: {' '.join(done.stderr.split())[-300:]}")
    python_version, torch_version, precision = json.loads(done.stdout.splitlines()[-1])
    return python_version, torch_version, precision


def processor() -> str:
    """Name and abilities of this machine's processor; many virtual machines give the name of its family only."""
    has = torch.cpu.get_capabilities()
    words = [runtime.processor(), *(word for name, word in CAPABILITIES.items() if has.get(name, False))]
    return " · ".join(dict.fromkeys(words))


# Running


class Runner:
    """Runs notebooks in processes that an interrupt ends."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.lock, self.ended = threading.Lock(), False

    def run(self, setting: Setting, python: Path, notebook: Path) -> tuple[int, list[str], float] | str:
        """Cells, what differs and the seconds of the cells; or why there is no result."""
        out = BUILD / setting.name.replace(" ", "-")
        executed = out / "notebooks" / notebook.name
        executed.unlink(missing_ok=True)
        command = [python, "-m", "labkit.cli", "run", notebook, "--out", out, "--threads", setting.threads]
        command += ["--jobs", 1, "--timeout", 14_400]
        with self.lock:
            if self.ended:
                return "interrupted"
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=surroundings(setting) | {"COLUMNS": "200"},
                cwd=runtime.PROJECT,
                start_new_session=True,
            )
            self.running.add(process)
        started = time.monotonic()
        said = process.communicate()[0]
        with self.lock:
            self.running.discard(process)
        # 1: a cell failed or a result moved, which is what we want to know. All else is no result.
        if self.ended or process.returncode not in (0, 1) or not executed.exists():
            return f"no result (exit status {process.returncode}): {' '.join(said.split())[-300:]}"
        try:
            return (*differences(notebook, executed), time.monotonic() - started)
        except ValueError as error:
            return f"no result: {error}"

    def end(self) -> None:
        """Interrupt what runs; each process ends its kernel."""
        with self.lock:
            self.ended = True
            running = list(self.running)
        for process in running:
            process.terminate()  # SIGINT is ignored by what was started in the background of a shell
        for process in running:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def run_setting(
    setting: Setting, notebooks: Iterable[Path], rows: Path, console: Console, bars: Progress, bar: TaskID, again: bool
) -> int:
    """Run what has no row yet; one row is written as soon as its notebook ends. Number of those without a result."""
    notebooks, missing = list(notebooks), 0
    if not torch.cpu.get_capabilities().get(setting.needs, not setting.needs):
        console.print(f"{setting.name}: skipped, no {setting.needs} here", style="yellow")
        bars.update(bar, advance=len(notebooks))
        return 0
    if setting.python and interpreter(setting.python) is None:
        console.print(f"{setting.name}: skipped, Python {setting.python} is not on this machine", style="yellow")
        bars.update(bar, advance=len(notebooks))
        return 0
    try:
        python = python_of(setting)
        about = what_runs(setting, python)
    except ValueError as error:
        console.print(f"{setting.name}: {error}", style="red")
        bars.update(bar, advance=len(notebooks))
        return len(notebooks)
    done = {row.place: row.stored for row in read_rows(rows)}
    runner, futures = Runner(), dict[Future[tuple[int, list[str], float] | str], Row]()
    jobs = max(1, runtime.cores() // setting.threads)
    with ThreadPoolExecutor(jobs) as pool:
        for notebook in sorted(notebooks, key=lambda path: -sum(execution.expected_seconds(path.stem))):
            row = Row(notebook.stem, setting.name, processor(), *about, digest(notebook, setting), 0, 0, 0)
            if not again and done.get(row.place) == row.stored:
                bars.update(bar, advance=1)
            else:
                futures[pool.submit(runner.run, setting, python, notebook)] = row
        try:
            left = set(futures)
            while left:
                finished, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
                for future in finished:
                    missing += not keep(futures[future], future.result(), rows, console)
                    bars.update(bar, advance=1)
        except BaseException:
            runner.end()
            raise
    return missing


def keep(row: Row, result: tuple[int, list[str], float] | str, rows: Path, console: Console) -> bool:
    """Write a row, and say what differs; or say why there is no result, and give False."""
    if isinstance(result, str):
        console.print(f"{row.setting}, {row.notebook}: {result}", style="red")
        return False
    cells, found, seconds = result
    row = replace(row, cells=cells, differ=len(found), seconds=round(seconds))
    add_row(rows, row)
    console.print(f"{row.setting}, {row.notebook}: {cells} cells, {len(found)} differ, {row.seconds} s")
    for line in found:
        console.print(f"  {line}", style="red")
    report = BUILD / row.setting.replace(" ", "-") / f"{row.notebook}.txt"
    report.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    return True


def main() -> None:
    """Run the matrix, or what of it is asked for."""
    names = [setting.name for setting in SETTINGS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=names, metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--notebooks", nargs="+", default=[], metavar="NN", help="such as 03; default: all")
    parser.add_argument("--out", type=Path, default=RECORDS, help="CSV file of the rows")
    parser.add_argument("--again", action="store_true", help="also run what has a row already")
    parser.add_argument("--list", action="store_true", help="only print the settings")
    asked = parser.parse_args()
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if asked.list:
        for setting in SETTINGS:
            console.print(setting.name)
        return
    unknown = [name for name in asked.settings if name not in names]
    if unknown:
        parser.error(f"setting is {unknown[0]!r}; it must be one of: {', '.join(names)}")
    try:
        paths = execution.find_notebooks(asked.notebooks)
    except ValueError as error:
        parser.error(str(error))
    if len({path.stem for path in paths}) < len(paths):
        parser.error("two of these notebooks share a name; each name can be run only once")
    for path in paths:
        try:
            digest(path)
        except Exception as error:  # whatever nbformat says of a file that is no notebook
            parser.error(f"{path} cannot be read as a notebook ({type(error).__name__})")
    BUILD.mkdir(parents=True, exist_ok=True)
    missing = 0
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.default_int_handler)  # a closed terminal is an interrupt: nothing runs on
    chosen = [setting for setting in SETTINGS if setting.name in asked.settings]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        read_rows(asked.out)
        runtime.check_writable(asked.out)
        # One matrix at a time: they would write one table and run in one folder.
        lock = FileLock(BUILD / "matrix.lock", timeout=0)
        with lock, Progress(*columns, console=console) as bars:
            bar = bars.add_task("matrix", total=len(chosen) * len(paths))
            for setting in chosen:
                bars.update(bar, description=setting.name)
                missing += run_setting(setting, paths, asked.out, console, bars, bar, asked.again)
    except Timeout:
        console.print("another matrix runs in this folder; wait for it", style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        console.print(
            f"interrupted; what is finished is kept in {asked.out}; run the same command to go on", style="red"
        )
        sys.exit(130)
    except (OSError, ValueError) as error:
        goes_on = "; what is finished is kept, run the same command to go on" if isinstance(error, OSError) else ""
        console.print(f"{error}{goes_on}", style="red")
        sys.exit(2)
    now = {(path.stem, setting.name, digest(path, setting)) for path in paths for setting in chosen}
    rows = [row for row in read_rows(asked.out) if (row.notebook, row.setting, row.stored) in now]
    cells, differ = sum(row.cells for row in rows), sum(row.differ for row in rows)
    console.print(f"{len(rows)} rows of these notebooks as they are now: {cells} cells compared, {differ} differ")
    if missing:
        console.print(f"{missing} notebooks gave no result; the same command tries them again", style="red")
    sys.exit(differ > 0 or missing > 0)


if __name__ == "__main__":
    main()
