"""Notebooks, run by a real kernel without a browser, and what came out of them.

Knows notebooks and records, not what they are about.
"""

import asyncio
import atexit
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import torch
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from labkit import files, runtime
from labkit.rerun.marks import difference

# The names of ONEDNN_MAX_CPU_ISA that let it multiply bfloat16, where the processor does.
ISA_WITH_BF16 = (
    *("all", "default", "avx512_core_bf16", "avx512_core_fp16", "avx512_core_amx", "avx512_core_amx_fp16"),
    *("avx10_1_512", "avx10_1_512_amx", "avx10_1_512_amx_fp16", "avx10_2", "avx10_2_512", "avx10_2_512_amx_2"),
)
PICTURES = ("image/png", "image/jpeg")
# Beyond these a test accuracy is reported as differing: by whether the notebook trained the network.
TOLERANCES = {True: 0.0030, False: 0.0003}


@dataclass
class Outcome:
    """What became of one notebook.

    Attributes:
        name: such as ``"02_random_pruning"``.
        seconds: wall-clock of each code cell that ran.
        error: empty, or cell number, error and message in one line.
        notebook: the notebook with its new outputs.
    """

    name: str
    notebook: NotebookNode
    seconds: list[float] = field(default_factory=list)
    error: str = ""


@dataclass
class Pace:
    """How far the execution of a notebook has come.

    Attributes:
        name: of the notebook.
        expected: seconds that each code cell took when its outputs were stored.
        taken: seconds of the cells that have ended here.
        running: seconds of the cell that runs.
        state: "waiting", "running", "ended", "failed" or "interrupted".
    """

    name: str
    expected: list[float]
    taken: list[float] = field(default_factory=list)
    running: float = 0.0
    state: str = "waiting"

    @property
    def rate(self) -> float:
        """Seconds needed here for an expected one; at least what the running cell shows, once it is late."""
        spent, planned = sum(self.taken), sum(self.expected[: len(self.taken)])
        now = sum(self.expected[len(self.taken) : len(self.taken) + 1])
        rate = max(spent / planned, 1e-6) if planned else 1.0
        return rate if self.running <= rate * now else (spent + self.running) / max(planned + now, 0.01)

    @property
    def done(self) -> float:
        """Expected seconds of what has been done."""
        now = sum(self.expected[len(self.taken) : len(self.taken) + 1])
        return sum(self.expected[: len(self.taken)]) + min(self.running / self.rate, now)

    @property
    def left(self) -> float:
        """Expected seconds of what has not been done."""
        return 0.0 if self.state in ("ended", "failed") else sum(self.expected) - self.done


Progress = Callable[[Pace], None]


def seconds_left(paces: Iterable[Pace], jobs: int) -> float:
    """Seconds until all these notebooks are done, at the speed that this machine has shown so far.

    The stored seconds are those of another machine: what they say of the cells to come is scaled by what the cells done
    have needed here.
    """
    paces = list(paces)
    begun = [pace for pace in paces if pace.done > 0]
    done = sum(pace.done for pace in begun)
    rate = sum(pace.rate * pace.done for pace in begun) / done if done else 1.0
    shared = rate * sum(pace.left for pace in paces) / jobs
    # No notebook can be divided among two jobs; one that runs knows its own rate.
    alone = [(pace.rate if pace.done > 0 else rate) * pace.left for pace in paces]
    return max([shared, *alone])


def find_notebooks(names: Sequence[str]) -> list[Path]:
    """Notebooks by number, name or path, such as ``03``, ``03_l1_pruning`` or ``x.ipynb``; without names the series.

    Raises:
        ValueError: there is no such notebook.
    """
    series = sorted((runtime.PROJECT / "notebooks").glob("[0-9]*.ipynb"))
    found = [] if names else series
    for name in names:
        fits = [path for path in series if name in (path.stem, path.stem[:2]) or name == path.stem[:2].lstrip("0")]
        path = Path(name)
        if path.suffix == ".ipynb" and path.is_file():
            fits = [path.resolve()]
        if len(fits) != 1:
            known = ", ".join(path.stem[:2] for path in series)
            raise ValueError(f"{name} is not a notebook; give a number ({known}) or .ipynb files that exist")
        found += fits
    return list(dict.fromkeys(found))


def check_environment() -> None:
    """Make sure that the variables that choose instructions mean something: torch and oneDNN ignore all else.

    Raises:
        ValueError: one says what nobody understands, or what this processor can not do.
    """
    runtime.precision(torch.device("cpu"))
    processor = torch.cpu.get_capabilities()
    wanted = os.environ.get("ATEN_CPU_CAPABILITY") or "default"
    needs = {"avx2": "avx2", "avx512": "avx512_f", "sve256": "sve", "vsx": "", "zvector": "", "default": ""}
    if wanted not in needs:
        raise ValueError(f"ATEN_CPU_CAPABILITY is {wanted!r}; it must be one of {', '.join(needs)}")
    if needs[wanted] and not processor.get(needs[wanted], False):
        raise ValueError(f"ATEN_CPU_CAPABILITY is {wanted!r}, which this processor has not; unset it")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        limit = os.environ.get(name) or "all"
        if limit.lower() not in (*runtime.ISA_WITHOUT_BF16, *ISA_WITH_BF16):
            raise ValueError(f"{name} is {limit!r}; it must be a name of oneDNN's, such as AVX2 or AVX512_CORE")


def kernel_environment(models: Path, threads: int) -> dict[str, str]:
    """The environment of a notebook that is executed to be compared or stored: the same for everybody.

    Its own folder of networks, no bars, the CPU, a fixed number of threads, all images, the notebook's own figures.
    """
    outside = {key: value for key, value in os.environ.items() if key not in ("LABKIT_QUICK", "MPLBACKEND")}
    fixed = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return outside | fixed | {"LABKIT_MODELS": str(models), "LABKIT_BARS": "0", "LABKIT_DEVICE": "cpu"}


def expected_seconds(name: str) -> list[float]:
    """Seconds that each code cell took when the outputs were stored; empty if unknown."""
    path = runtime.reference_dir() / "records" / "seconds.json"
    return list(json.loads(path.read_text(encoding="utf-8")).get(name, [])) if path.exists() else []


def count_cells(path: Path) -> int:
    """Number of code cells of a notebook; 0 if it can not be read."""
    try:
        return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    except Exception:  # running it will say what is wrong
        return 0


async def execute(path: Path, out: Path, threads: int, timeout: float, pace: Pace, progress: Progress) -> Outcome:
    """Run one notebook and write the executed copy to ``out/notebooks/``, whole, also if a cell fails.

    Args:
        path: the notebook; it is not changed.
        out: folder for the copy, and for the notebook's own ``models/``.
        threads: of the kernel's computations.
        timeout: seconds for one cell.
        pace: of this notebook; kept up to date.
        progress: called with it at the start, every second and at the end.
    """
    notebook = nbformat.read(path, as_version=4)
    outcome = Outcome(path.stem, notebook)
    started = [time.monotonic()]
    pace.taken, pace.state = outcome.seconds, "running"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None

    def on_start(**_: Any) -> None:
        started[0] = time.monotonic()

    def on_end(**_: Any) -> None:
        outcome.seconds.append(round(time.monotonic() - started[0], 2))
        started[0], pace.running = time.monotonic(), 0.0

    async def tick() -> None:
        while True:
            pace.running = time.monotonic() - started[0]
            progress(pace)
            await asyncio.sleep(1)

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=CRITICAL"],  # ipykernel warns at each start that its sockets are local TCP
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_execute=on_start,
        on_cell_executed=on_end,
    )
    ticker = asyncio.create_task(tick())
    try:
        await client.async_execute(env=kernel_environment(out / "models" / path.stem, threads))
    except CellExecutionError as error:
        outcome.error = f"cell {len(outcome.seconds) or 1}: {error.ename}: {' '.join(error.evalue.split())}"
    except CellTimeoutError:
        outcome.error = f"cell {len(outcome.seconds) + 1}: no end after {timeout:.0f} s"
    except DeadKernelError:
        outcome.error = f"cell {len(outcome.seconds) + 1}: the kernel died"
    finally:
        ticker.cancel()
        # An interrupt while the kernel starts leaves the kernel behind, and a handler that fails when the process ends.
        atexit.unregister(getattr(client, "_cleanup_kernel", atexit.unregister))
        clean(notebook)
        write_notebook(notebook, out / "notebooks" / path.name)
        if _is_interrupted():
            pace.state = "interrupted"
            if client.km is not None and client.km.has_kernel:
                await ensure_async(client.km.shutdown_kernel(now=True))
        else:
            pace.running, pace.state = 0.0, "failed" if outcome.error else "ended"
            progress(pace)
    return outcome


def _is_interrupted() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def execute_all(
    paths: list[Path], out: Path, jobs: int, threads: int, timeout: float, progress: Progress
) -> list[Outcome]:
    """Run notebooks, ``jobs`` at a time, the longest first; the outcomes in the order of ``paths``.

    An interrupt ends them all.
    """

    def refuse(*_: Any) -> None:
        raise RuntimeError("asyncio.run() handles interrupts")

    # Every NotebookClient would take the interrupt for itself and stop its own kernel only.
    asyncio.get_running_loop().add_signal_handler = refuse  # type: ignore[method-assign, assignment]
    places = asyncio.Semaphore(jobs)
    paces = {path: Pace(path.stem, expected_seconds(path.stem) or [1.0] * count_cells(path)) for path in paths}
    for pace in paces.values():
        progress(pace)

    async def one(path: Path) -> Outcome:
        async with places:
            try:
                return await execute(path, out, threads, timeout, paces[path], progress)
            except Exception as error:  # no kernel, an unreadable notebook, a full disk: the other notebooks go on
                if _is_interrupted():
                    raise  # whatever breaks when a kernel is stopped half-way
                paces[path].state = "failed"
                progress(paces[path])
                return Outcome(path.stem, nbformat.v4.new_notebook(), error=f"{type(error).__name__}: {error}")

    longest_first = sorted(paths, key=lambda path: -sum(expected_seconds(path.stem)))
    outcomes = dict(zip(longest_first, await asyncio.gather(*map(one, longest_first)), strict=True))
    return [outcomes[path] for path in paths]


def clean(notebook: NotebookNode) -> None:
    """Drop from a notebook's metadata what differs from machine to machine, in place."""
    notebook.metadata.pop("language_info", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    with runtime.written_whole(path) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def comparable(outputs: list[NotebookNode]) -> dict[str, list[Any]]:
    """Kind -> contents in order: streams joined by name, data by MIME type. Pictures count, but are not compared."""
    found: dict[str, list[Any]] = defaultdict(list)
    for output in outputs:
        if output.output_type == "stream":
            found[output.name] = ["".join([*found[output.name], output.text])]
        elif output.output_type == "error":
            found["error"].append(f"{output.ename}: {output.evalue}")
        else:
            for kind, content in output.data.items():
                found[kind].append("" if kind in PICTURES else content)
    return dict(found)


def outputs_differ(stored: list[NotebookNode], fresh: list[NotebookNode]) -> str | None:
    """What differs beyond the marks between two cells' outputs, in words, or None."""
    old, new = comparable(stored), comparable(fresh)
    if {kind: len(items) for kind, items in old.items()} != {kind: len(items) for kind, items in new.items()}:
        return f"outputs were {sorted(old)} and are {sorted(new)}"
    for kind, items in old.items():
        for before, after in zip(items, new[kind], strict=True):
            same_text = isinstance(before, str) and isinstance(after, str)
            what = difference(before, after) if same_text else (None if before == after else "the content")
            if what is not None:
                return f"{kind}: {what}"
    return None


def store(outcome: Outcome, path: Path, out: Path, *, fresh: bool) -> list[str]:
    """Put new outputs into the notebook itself, all of them, if one differs beyond its marks (or if ``fresh``).

    All of them, since a figure is not compared, and must not be older than the table beside it. The record and the
    cells' seconds go to ``models/reference/records/``.

    Returns:
        A line for each cell that changed.
    """
    stored = nbformat.read(path, as_version=4)
    changes, count = [], 0
    for old, new in zip(stored.cells, outcome.notebook.cells, strict=True):
        if old.cell_type != "code":
            continue
        count += 1
        what = "not run before" if old.execution_count is None else outputs_differ(old.outputs, new.outputs)
        if what is not None or fresh:
            changes.append(f"{path.stem} cell {count}: {what or 'stored anew'}")
        old.execution_count = count
    for old, new in zip(stored.cells, outcome.notebook.cells, strict=True):
        if changes and old.cell_type == "code":
            old.outputs = new.outputs
    clean(stored)
    write_notebook(stored, path)
    folder = runtime.reference_dir() / "records"
    found = out / "models" / path.stem / "records" / f"{path.stem}.json"
    kept = folder / found.name
    if found.exists() and (changes or not kept.exists()):
        with runtime.written_whole(kept) as temporary:
            temporary.write_bytes(found.read_bytes())
    if changes or not expected_seconds(path.stem):
        target = folder / "seconds.json"
        seconds = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
        seconds[path.stem] = outcome.seconds
        with runtime.written_whole(target) as temporary:
            rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in sorted(seconds.items()))
            temporary.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    return changes


@dataclass(frozen=True)
class Verdict:
    """One network of one notebook: what this run found beside what is stored."""

    notebook: str
    network: str
    sparsity: float
    accuracy: float
    stored: float | None
    same: bool
    words: str


def verdicts(names: list[str], out: Path) -> list[Verdict]:
    """Compare the records under ``out`` with the committed ones. A notebook without a record gives nothing."""
    rows = []
    for name in names:
        path = out / "models" / name / "records" / f"{name}.json"
        reference = runtime.reference_dir() / "records" / path.name
        if not path.exists():
            continue
        try:
            stored = files.read_record(reference)["networks"] if reference.exists() else {}
            for network, row in files.read_record(path)["networks"].items():
                rows.append(_verdict(name, network, row, stored.get(network)))
        except ValueError as error:
            rows.append(Verdict(name, "–", float("nan"), float("nan"), None, False, str(error)))
    return rows


def _verdict(notebook: str, network: str, row: dict[str, float], old: dict[str, float] | None) -> Verdict:
    sparsity, accuracy = row["sparsity"], row["test_accuracy"]
    if old is None:
        return Verdict(notebook, network, sparsity, accuracy, None, True, "new")
    tolerance = TOLERANCES[bool(row["trained"])]
    moved = abs(accuracy - old["test_accuracy"])
    if sparsity != old["sparsity"]:
        return Verdict(
            notebook, network, sparsity, accuracy, old["test_accuracy"], False, f"sparsity was {old['sparsity']:.4f}"
        )
    words = f"same (±{tolerance:.4f})" if moved <= tolerance else f"moved by {moved:.4f}"
    return Verdict(notebook, network, sparsity, accuracy, old["test_accuracy"], moved <= tolerance, words)
