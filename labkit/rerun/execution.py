"""Notebooks, run by a real kernel without a browser, and what came out of them.

Knows notebooks and records, not what they are about.
"""

import asyncio
import atexit
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import torch
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from labkit import runtime

# The names of ONEDNN_MAX_CPU_ISA that let it multiply bfloat16, where the processor does.
ISA_WITH_BF16 = (
    *("all", "default", "avx512_core_bf16", "avx512_core_fp16", "avx512_core_amx", "avx512_core_amx_fp16"),
    *("avx10_1_512", "avx10_1_512_amx", "avx10_1_512_amx_fp16", "avx10_2", "avx10_2_512", "avx10_2_512_amx_2"),
)


@dataclass
class Execution:
    """How far the execution of a notebook has come, and what became of it.

    Attributes:
        name: of the notebook, such as ``"02_random_pruning"``.
        expected: seconds that each code cell took when its outputs were stored.
        taken: seconds of the cells that have ended here.
        running: seconds of the cell that runs.
        state: "waiting", "running", "ended", "failed" or "interrupted".
        error: empty, or cell number, error and message in one line.
        notebook: the notebook with its new outputs.
    """

    name: str
    expected: list[float]
    taken: list[float] = field(default_factory=list)
    running: float = 0.0
    state: str = "waiting"
    error: str = ""
    notebook: NotebookNode = field(default_factory=nbformat.v4.new_notebook)

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


Progress = Callable[[Execution], None]


def seconds_left(executions: Iterable[Execution], jobs: int) -> float:
    """Seconds until all these notebooks are done, at the speed that this machine has shown so far.

    The stored seconds are those of another machine: what they say of the cells to come is scaled by what the cells done
    have needed here.
    """
    executions = list(executions)
    begun = [execution for execution in executions if execution.done > 0]
    done = sum(execution.done for execution in begun)
    rate = sum(execution.rate * execution.done for execution in begun) / done if done else 1.0
    shared = rate * sum(execution.left for execution in executions) / jobs
    # No notebook can be divided among two jobs; one that runs knows its own rate.
    alone = [(execution.rate if execution.done > 0 else rate) * execution.left for execution in executions]
    return max([shared, *alone])


def find_notebooks(names: Sequence[str]) -> list[Path]:
    """Notebooks by number, name or path, such as ``03``, ``03_l1_pruning`` or ``x.ipynb``; without names the series.

    Raises:
        ValueError: there is no such notebook.
    """
    series = sorted((runtime.PROJECT / "notebooks").glob("[0-9]*.ipynb"))
    chosen = [] if names else series
    for name in names:
        fits = [path for path in series if name in (path.stem, path.stem[:2]) or name == path.stem[:2].lstrip("0")]
        if name.endswith(".ipynb") and Path(name).is_file():
            fits = [Path(name).resolve()]
        if len(fits) != 1:
            known = ", ".join(path.stem[:2] for path in series)
            raise ValueError(f"{name} is not a notebook; give a number ({known}) or .ipynb files that exist")
        chosen += fits
    return list(dict.fromkeys(chosen))


def check_environment() -> None:
    """Make sure that the variables that choose instructions mean something: torch and oneDNN ignore all else.

    Raises:
        ValueError: one says what nobody understands, or what this processor cannot do.
    """
    runtime.precision(torch.device("cpu"))
    wanted = os.environ.get("ATEN_CPU_CAPABILITY") or "default"
    needs = {"avx2": "avx2", "avx512": "avx512_f", "sve256": "sve", "vsx": "", "zvector": "", "default": ""}
    if wanted not in needs:
        raise ValueError(f"ATEN_CPU_CAPABILITY is {wanted!r}; it must be one of {', '.join(needs)}")
    if needs[wanted] and not torch.cpu.get_capabilities().get(needs[wanted], False):
        raise ValueError(f"ATEN_CPU_CAPABILITY is {wanted!r}, which this processor does not have; unset it")
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
    """Number of code cells of a notebook; 0 if it cannot be read."""
    try:
        return sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    except Exception:  # running it will say what is wrong
        return 0


def _without_outputs(path: Path) -> NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


async def execute(
    path: Path, out: Path, threads: int, timeout: float, execution: Execution, progress: Progress
) -> None:
    """Run one notebook and write the executed copy to ``out/notebooks/``, whole, also if a cell fails.

    Args:
        path: the notebook; it is not changed.
        out: folder for the copy, and for the notebook's own ``models/``.
        threads: of the kernel's computations.
        timeout: seconds for one cell.
        execution: of this notebook; kept up to date.
        progress: called with it at the start, every second and at the end.
    """
    notebook = execution.notebook = _without_outputs(path)
    execution.state, started = "running", [time.monotonic()]

    def on_start(**_: object) -> None:
        started[0] = time.monotonic()

    def on_end(**_: object) -> None:
        execution.taken.append(round(time.monotonic() - started[0], 2))
        started[0], execution.running = time.monotonic(), 0.0

    async def tick() -> None:
        while True:
            execution.running = time.monotonic() - started[0]
            progress(execution)
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
        execution.error = await _error_of(client, execution, kernel_environment(out / "models" / path.stem, threads))
    finally:
        ticker.cancel()
        # An interrupt while the kernel starts leaves the kernel behind, and a handler that fails when the process ends.
        atexit.unregister(getattr(client, "_cleanup_kernel", atexit.unregister))
        write_notebook(notebook, out / "notebooks" / path.name)
        execution.state = "interrupted" if _is_interrupted() else "failed" if execution.error else "ended"
        if not _is_interrupted():
            execution.running = 0.0
            progress(execution)
        elif client.km is not None and client.km.has_kernel:
            await ensure_async(client.km.shutdown_kernel(now=True))


async def _error_of(client: NotebookClient, execution: Execution, environment: dict[str, str]) -> str:
    """Run all cells; what stopped them, in one line, or nothing."""
    try:
        await client.async_execute(env=environment)
    except CellExecutionError as error:
        return f"cell {len(execution.taken) or 1}: {error.ename}: {' '.join(error.evalue.split())}"
    except CellTimeoutError:
        return f"cell {len(execution.taken) + 1}: no end after {client.timeout:.0f} s"
    except DeadKernelError:
        return f"cell {len(execution.taken) + 1}: the kernel died"
    return ""


def _is_interrupted() -> bool:
    return (task := asyncio.current_task()) is not None and task.cancelling() > 0


async def execute_all(
    paths: list[Path], out: Path, jobs: int, threads: int, timeout: float, progress: Progress
) -> list[Execution]:
    """Run notebooks, ``jobs`` at a time, the longest first; what became of them in the order of ``paths``.

    An interrupt ends them all.
    """

    def refuse(*_: object) -> None:
        raise RuntimeError("asyncio.run() handles interrupts")

    # Every NotebookClient would take the interrupt for itself and stop its own kernel only.
    asyncio.get_running_loop().add_signal_handler = refuse  # type: ignore[method-assign, assignment]
    places = asyncio.Semaphore(jobs)
    executions = {p: Execution(p.stem, expected_seconds(p.stem) or [1.0] * count_cells(p)) for p in paths}
    for execution in executions.values():
        progress(execution)

    async def execute_in_turn(path: Path) -> None:
        execution = executions[path]
        async with places:
            try:
                await execute(path, out, threads, timeout, execution, progress)
            except Exception as error:  # no kernel, an unreadable notebook, a full disk: the other notebooks go on
                if _is_interrupted():
                    raise  # whatever breaks when a kernel is stopped half-way
                execution.state, execution.error = "failed", f"{type(error).__name__}: {error}"
                progress(execution)

    longest_first = sorted(paths, key=lambda path: -sum(expected_seconds(path.stem)))
    await asyncio.gather(*map(execute_in_turn, longest_first))
    return list(executions.values())


def clean(notebook: NotebookNode) -> None:
    """Drop from a notebook's metadata what differs from machine to machine, in place."""
    notebook.metadata.pop("language_info", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all, without what differs from machine to machine."""
    clean(notebook)
    runtime.write_file(path, nbformat.writes(notebook) + "\n")
