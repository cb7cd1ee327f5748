"""Honest submissions as they really arrive: by editor, platform, name, language, and type of answer and network.

An ``Arrival`` is the work of one person, lying in the folder of a class, and what it must be worth: the points of the
same work in its plain form, the answers in words that must be found, and the flags that are expected. Everything
follows from seeds.
"""

import ast
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import course_work as work
import nbformat
import numpy as np
import pytest
import torch

import labkit
from labkit import course, runtime
from labkit.course import answers, students
from labkit.course.task import TASKS

STUB = "*Your answer here.*"
PACKED = "2026-11-22T12:00:00+00:00"
Notebooks = dict[str, dict[str, Any]]  # name -> notebook as JSON
Files = dict[str, bytes]  # path in the student's folder -> content


@dataclass(frozen=True)
class Person:
    """A student: the ID, the name as the platform writes it, and the platform's number."""

    student: str
    name: str
    number: int


@dataclass
class Arrival:
    """One person's work on disk, and what it must be worth.

    Attributes:
        kind: what is special about it, in words.
        person: whose it is.
        points: of the same work in its plain form; None: not asked.
        answers: question -> text that must be found.
        flags: patterns, each of which a flag must match.
        tolerated: patterns of flags that may be there; a flag that matches nothing is an alarm.
        or_named: a pattern: where a flag matches it, the work may be unread.
    """

    kind: str
    person: Person
    points: float | None
    answers: dict[str, str]
    flags: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = ()
    or_named: str = ""

    def faults(self, rows: list[dict[str, str]]) -> list[str]:
        """What is wrong with the class's table as far as it is about this person; nothing if all is well."""
        own = [row for row in rows if row["student"] == self.person.student]
        if len(own) != 1:
            return [f"{len(own)} rows"]
        row = own[0]
        alarms = [flag for flag in row["flags"].split("; ") if flag]
        if self.or_named and any(_matches(self.or_named, flag) for flag in alarms):
            return []
        wrong = []
        points = float(row["points"] or -1) + float(row["bonus"] or 0)
        if self.points is not None and points != self.points:
            wrong.append(f"{points:g} of {self.points:g} points")
        wrong += [f"answer {name} lost" for name, text in self.answers.items() if not holds(row, name, text)]
        wrong += [f"no flag like {wanted}" for wanted in self.flags if not _matches(wanted, row["flags"])]
        allowed = (*self.flags, *self.tolerated)
        wrong += [f"flag: {flag}" for flag in alarms if not any(_matches(pattern, flag) for pattern in allowed)]
        return wrong


def _matches(pattern: str, text: str) -> bool:
    return bool(re.search(pattern, text, re.IGNORECASE | re.DOTALL))


def holds(row: Mapping[str, str], question: str, text: str) -> bool:
    """Whether all lines of an answer stand in the table, up to blanks and the marks that make a cell harmless."""
    cell = _plain(row.get(f"answer {question}", "") or "")
    return bool(cell) and all(_plain(line) in cell for line in text.splitlines())


def _plain(text: str) -> str:
    return "".join(text.split()).replace("'", "")


# Names and languages

NAMES = (
    "Ana Alpha",
    "José Ñúñez-O'Brien",
    "محمد علي",
    "王小明",
    "山田 太郎",
    "Ana Alpha",  # another one
    "Zoë 🦊 Fuchs",
    "Jürgen Müller",
    "Đặng Thị Ánh",
    "Иван Петров",
    "van der Berg, Jan",
    "김민준",
    "अमित कुमार",
    "Ólafur Þór",
    "Robert'); DROP TABLE",
    "X Æ A-12",
    "עברית ישראל",
    "Mary  Ann   Smith",
    "Ana-Maria_Popescu",
    "Ķļava Ģirts",
)
IDS = ("ab{}", "s2026-{}", "jane.doe{}@uni.example", "u_{}", "{}", "ÀÉ{}", "x+{}", "名{}", "n00{}-12")
WORDS = (
    "The small weights carry little: a quarter of them can go.",
    "الأوزان الصغيرة تحمل القليل، ويمكن حذف ربعها.",
    "小权重几乎不携带信息，可以去掉四分之一。",
    "Les petits poids « ne portent » presque rien – on peut s'en passer.",
    "Small weights 🧠✂️ go first 👩🏽‍🔬: no harm done 🎉",
    "Малые веса почти ничего не несут.",
    "המשקלים הקטנים נושאים מעט.",
    "It follows from $\\sum_i |w_i|$: see $w \\approx 0$.\n\n$$\\|w\\|_2 = \\sqrt{\\sum w_i^2}$$",
    "- first, the small ones\n- then, the others\n\n1. one\n2. two",
    "## My answer\n\nIt has a heading of its own, and `code`.\n\n```python\nx = 1\n```",
    "| layer | zeros |\n|---|---|\n| conv1 | 72 |",
    "a < b and b > c & so on; <b>bold</b>, \"quoted\" and 'single'",
    "Čím menší váha, tím menší ztráta…",
    unicodedata.normalize("NFD", "Größe, schön, naïve: decomposed letters"),
    "作業が終わりました。重みの二十五パーセントを削除しても、精度はほとんど変わりません。",
)


def person(number: int) -> Person:
    """The person of a number: no two have one ID; names come again."""
    student = students.checked_id(IDS[number % len(IDS)].format(number + 100))
    return Person(student, NAMES[number % len(NAMES)], 9000 + number)


# The work itself


@cache
def trained(seed: int) -> labkit.CNN:
    """A network of one's own, from scratch, in a second."""
    labkit.set_seed(1000 + seed)
    network = labkit.CNN()
    work.train_a_little(network, seed, steps=90, rate=0.05, momentum=0.9, batch=64, augmented=False)
    return network


@cache
def _networks(seed: int | None) -> dict[str, labkit.CNN]:
    if seed is None:
        return {"CNN_MNIST_L1": work.pruned(_reference(), work.prune.l1_unstructured, amount=0.25)}
    start = trained(seed)
    return {
        "CNN_MNIST": start,
        "CNN_MNIST_RND": work.at_random(start, seed + 1),
        "CNN_MNIST_L1": work.pruned(start, work.prune.l1_unstructured, amount=0.25),
        "CNN_MNIST_STRUCT": work.pruned(start, work.prune.ln_structured, amount=1 / 8, n=2, dim=0),
        "CNN_MNIST_GLOBAL": work.globally(start),
    }


@cache
def _reference() -> labkit.CNN:
    return labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")


@cache
def _right_answers(seed: int | None) -> dict[str, tuple[Any, Any]]:
    """Right answers to all tasks but the two that depend on the person."""
    start = _reference() if seed is None else trained(seed)
    found = work.answers_of(start, "anybody")
    return {task: pair for task, pair in found.items() if task not in ("02-mask", "09-detective")}


@cache
def _detective(student: str) -> bytes:
    value = work.answers_of(_reference(), student)["09-detective"][0]
    return _answer_bytes("09-detective", value, None)


def _answer_bytes(task: str, value: Any, before: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(answers.content_of(task, value, before), stream)
    return stream.getvalue()


@cache
def questions() -> dict[str, tuple[str, str, str]]:
    """Question with points -> its notebook, its cell's id, and its text."""
    return {
        spec["name"]: (notebook, spec["id"], spec["head"])
        for notebook, cells in work.course()["notebooks"].items()
        for spec in cells
        if spec["role"] == "answer" and spec["points"]
    }


def written(who: Person, words: str) -> dict[str, str]:
    """An answer to each question, all different."""
    return {name: f"{words}\n\nSo says {who.student} of {name}." for name in questions()}


def notebooks_with(who: Person, texts: Mapping[str, str]) -> Notebooks:
    """The person's notebooks as JupyterLab saves them, with these answers."""
    cells = {cell: texts[name] for name, (_, cell, _) in questions().items()}
    made = {}
    for name, notebook in work.student_notebooks().items():
        copied = deepcopy(notebook)
        number = 0
        for cell in copied.cells:
            if cell.cell_type == "code":
                number += 1
                cell.execution_count = number
                cell.source = cell.source.replace('course.sign_in("")', f'course.sign_in("{who.student}")')
                cell.source = cell.source.replace("# YOUR CODE HERE", "pass  # my own code")
            else:
                cell.source = cell.source.replace(STUB, cells.get(cell.id, "For me only."))
        made[name] = json.loads(nbformat.writes(copied))
    return made


# Editors: name -> notebooks as JSON and the answers, by cell; gives base name -> bytes

Editor = Callable[[Notebooks, Mapping[str, str]], Files]
EDITORS: dict[str, Editor] = {}
ONE_A_NOTEBOOK = r"^\d\d_\w+(\.ipynb)?\b"  # what was looked for and not found is one flag per notebook
EDITOR_FLAGS: dict[str, str] = {}


def saved(notebooks: Notebooks, ending: str = ".ipynb", mark: str = "") -> Files:
    """The notebooks as files."""
    text = {name: mark + json.dumps(notebook, indent=1, ensure_ascii=False) for name, notebook in notebooks.items()}
    return {f"{name}{ending}": content.encode() for name, content in text.items()}


def editor(name: str, flag: str = "") -> Callable[[Editor], Editor]:
    """Register an editor; ``flag`` is a pattern of what may be said about each of its notebooks, once."""

    def named(function: Editor) -> Editor:
        EDITORS[name] = function
        EDITOR_FLAGS[name] = flag
        return function

    return named


def _of_cells(name: str, flag: str = "", **metadata: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register an editor that changes each cell, or gives several for it: (cell, its number, answer or "") -> cells."""

    def named(change: Callable[..., Any]) -> Callable[..., Any]:
        @editor(name, flag)
        def _(notebooks: Notebooks, texts: Mapping[str, str]) -> Files:
            for notebook in notebooks.values():
                cells = []
                for number, cell in enumerate(notebook["cells"]):
                    cell["source"] = "".join(cell["source"])
                    found = change(cell, number, texts.get(cell.get("id", ""), ""))
                    cells += found if isinstance(found, list) else [cell]
                notebook["cells"] = cells
                notebook |= metadata
            return saved(notebooks)

        return change

    return named


def _markdown(source: str, number: int, part: int = 0) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": f"own{number}-{part}", "metadata": {}, "source": source}


@editor("JupyterLab")
def _jupyterlab(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    return saved(notebooks)


@_of_cells("no ids, nbformat 4.4", nbformat_minor=4)
def _old(cell: dict[str, Any], _: int, __: str) -> None:
    del cell["id"]


@_of_cells("Colab: no ids, nbformat 4.0", nbformat_minor=0)
def _colab(cell: dict[str, Any], number: int, _: str) -> None:
    del cell["id"]
    cell["metadata"]["id"] = f"cOlAb{number:07d}"


@_of_cells("no ids, but nbformat 4.5")
def _vscode(cell: dict[str, Any], _: int, __: str) -> None:
    del cell["id"]


@_of_cells("new ids")
def _new_ids(cell: dict[str, Any], number: int, _: str) -> None:
    cell["id"] = f"{number:08x}"


@_of_cells("new ids and no cell metadata", ONE_A_NOTEBOOK)
def _converted(cell: dict[str, Any], number: int, _: str) -> None:
    cell["id"], cell["metadata"] = f"{number:08x}", {}


@editor("converter: no ids, no metadata at all", ONE_A_NOTEBOOK)
def _jupytext(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    for notebook in notebooks.values():
        notebook["metadata"] = {"kernelspec": notebook["metadata"].get("kernelspec", {})}
        notebook["nbformat_minor"] = 4
        for cell in notebook["cells"]:
            cell.pop("id", None)
            cell["metadata"] = {}
    return saved(notebooks)


@_of_cells("answer cell typed anew")
def _retyped(cell: dict[str, Any], number: int, text: str) -> None:
    if text:
        cell["id"], cell["metadata"] = f"re{number}", {}


@_of_cells("answer in a cell of one's own below the question")
def _below(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    cell["source"] = cell["source"].replace(text, STUB)
    return [cell, _markdown(text, number)]


@_of_cells("answer in a cell below, the stub deleted")
def _below_alone(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    cell["source"] = cell["source"].replace(text, "").strip()
    return [cell, _markdown(text, number)]


@_of_cells("answer in three cells below, one of them raw")
def _below_thrice(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    cell["source"] = cell["source"].replace(text, STUB)
    head, _, tail = text.rpartition("\n\n")
    raw = {"cell_type": "raw", "id": f"raw{number}", "metadata": {}, "source": "Nothing else."}
    return [cell, _markdown(head, number), raw, _markdown(tail, number, 1)]


@_of_cells("answer cell split: the question keeps the id")
def _split_first(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    cell["source"] = cell["source"].replace(text, "").strip()
    return [cell, _markdown(text, number) | {"metadata": deepcopy(cell["metadata"])}]


@_of_cells("answer cell split: the answer keeps the id")
def _split_last(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    head = cell["source"].replace(text, "").strip()
    cell["source"] = text
    return [_markdown(head, number), cell]


@_of_cells("answer begun in the cell, and gone on below")
def _goes_on(cell: dict[str, Any], number: int, text: str) -> Any:
    if not text:
        return None
    head, _, tail = text.rpartition("\n\n")
    cell["source"] = cell["source"].replace(text, head)
    return [cell, _markdown(tail, number)]


@_of_cells("question deleted, the answer in its cell")
def _only_answer(cell: dict[str, Any], _: int, text: str) -> None:
    if text:
        cell["source"] = text


@_of_cells("answer above the question, in its cell")
def _above(cell: dict[str, Any], _: int, text: str) -> None:
    if text:
        cell["source"] = f"{text}\n\n{cell['source'].replace(text, '').strip()}"


@_of_cells("lines end in CR LF")
def _crlf(cell: dict[str, Any], _: int, __: str) -> None:
    cell["source"] = cell["source"].replace("\n", "\r\n")


@_of_cells("widgets, long outputs and cells of one's own")
def _cluttered(cell: dict[str, Any], number: int, _: str) -> Any:
    cell["metadata"]["collapsed"] = False
    if cell["cell_type"] != "code" or number % 5:
        return None
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["x" * 90 + "\n"] * 50}]
    own = {"cell_type": "code", "id": f"try{number}", "metadata": {}, "source": "1 + 1", "outputs": []}
    return [cell, own | {"execution_count": 3}]


@editor("browser copy: … (1).ipynb")
def _copy(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    return saved(notebooks, " (1).ipynb")


@editor("Jupyter copy: …-Copy1.ipynb")
def _copy1(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    return saved(notebooks, "-Copy1.ipynb")


@editor("….IPYNB")
def _upper(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    return saved(notebooks, ".IPYNB")


@editor("byte order mark")
def _bom(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    return saved(notebooks, mark="\ufeff")


@cache
def _formatted(source: str) -> str:
    line = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "79", "--stdin-filename", "a.ipynb"]
    return subprocess.run([*line, "-"], input=source, capture_output=True, text=True, check=True).stdout


@editor("formatted by black's rules, 79 columns")
def _black(notebooks: Notebooks, _: Mapping[str, str]) -> Files:
    for name, notebook in notebooks.items():
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        numbered = {"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        formatted = json.loads(_formatted(json.dumps(numbered)))["cells"]
        for cell, new in zip(code, formatted, strict=True):
            cell["source"] = new["source"]
        notebooks[name] = notebook
    return saved(notebooks)


def _tabbed(source: str) -> str:
    """Indented by tabs, where that changes nothing but blanks."""
    lines = []
    for line in source.split("\n"):
        depth = (len(line) - len(line.lstrip(" "))) // 4
        lines.append("\t" * depth + line[4 * depth :])
    try:
        same = _tree("\n".join(lines)) == _tree(source)
    except SyntaxError:  # magics
        return source
    return "\n".join(lines) if same else source


def _tree(source: str) -> str:
    return ast.dump(ast.parse(source))


@_of_cells("indented by tabs")
def _tabs(cell: dict[str, Any], _: int, __: str) -> None:
    if cell["cell_type"] == "code":
        cell["source"] = _tabbed(cell["source"])


@_of_cells("blanks at the ends of lines")
def _blanks(cell: dict[str, Any], _: int, __: str) -> None:
    cell["source"] = "\n".join(line + "  " for line in cell["source"].split("\n")) + "\n\n"


# Types of answers, as students give them to the check cell

Typed = Callable[[Any], Any]


def _each(change: Typed) -> Typed:
    """The same for a tensor, or for each tensor of a dict; other answers stay as they are."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(item) for name, item in value.items()}
        return change(value) if isinstance(value, torch.Tensor) else value

    return changed


def _numbers(change: Typed) -> Typed:
    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(item) for name, item in value.items()}
        return change(value) if isinstance(value, (int, float)) else value

    return changed


def _in_order(change: Typed) -> Typed:
    """Instead of a dict, one thing for each layer."""
    return lambda value: change(list(value.values())) if isinstance(value, dict) else value


def _a_channel(mask: torch.Tensor) -> Any:
    alike = mask.ndim == 4 and torch.equal(mask, mask[:, :1, :1, :1].expand_as(mask))
    return mask[:, :1, :1, :1].clone() if alike else mask


TYPES: dict[str, Typed] = {
    "tensors": lambda value: value,
    "NumPy arrays": _each(lambda mask: mask.numpy().astype(np.float64)),
    "NumPy arrays of bool": _each(lambda mask: mask.numpy() == 1 if bool(((mask == 0) | (mask == 1)).all()) else mask),
    "NumPy arrays in Fortran's order": _each(lambda mask: np.asfortranarray(mask.numpy())),
    "NumPy arrays of float16": _each(lambda mask: mask.numpy().astype(np.float32)),
    "NumPy arrays of objects": _each(lambda mask: mask.numpy().astype(object)),
    "lists": _each(lambda mask: mask.tolist()),
    "lists of NumPy arrays": _each(lambda mask: [row.numpy() for row in mask]),
    "tuples": _each(lambda mask: tuple(mask)),
    "flat masks": _each(lambda mask: mask.flatten() if mask.ndim == 4 and _is_mask(mask) else mask),
    "flat NumPy masks": _each(lambda mask: mask.numpy().ravel() if mask.ndim == 4 and _is_mask(mask) else mask),
    "flat lists": _each(lambda mask: mask.flatten().tolist() if mask.ndim == 4 and _is_mask(mask) else mask),
    "masks of (C, 1, 1, 1)": _each(_a_channel),
    "parameters": _each(lambda mask: torch.nn.Parameter(mask.float())),
    "sparse tensors": _each(lambda mask: mask.to_sparse() if _is_mask(mask) else mask),
    "one for each layer": _in_order(list),
    "a tuple for the layers": _in_order(tuple),
    "Fraction": _numbers(lambda number: Fraction(number).limit_denominator(10**6)),
    "Decimal": _numbers(lambda number: Decimal(str(number))),
    "NumPy numbers": _numbers(lambda number: np.float64(number)),
    "0-d tensors": _numbers(lambda number: torch.tensor(number)),
    "0-d arrays": _numbers(lambda number: np.array(number)),
    "lists of one number": lambda value: [value] if isinstance(value, (int, float)) else value,
}


def _is_mask(tensor: torch.Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())


def checked(task: str, value: Any, base: labkit.CNN | None) -> tuple[float, bytes | None]:
    """The points that the check cell gives, and the answer file that it leaves; None if it leaves none."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()):
        patch.setenv("LABKIT_MODELS", folder)
        points = float(course.check(task, value, base))
        path = Path(folder) / "answers" / f"{task}.pth"
        return points, path.read_bytes() if path.exists() else None


# Ways to save a network


def _stream(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def _by_labkit(network: torch.nn.Module, seed: int) -> bytes:
    with TemporaryDirectory() as folder:
        return labkit.save_network(network, Path(folder) / "network.pth", seed=seed).read_bytes()


def _prefixed(network: labkit.CNN, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in network.state_dict().items()}


def _checkpoint(network: labkit.CNN, _: int) -> bytes:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1).state_dict()
    return _stream(
        {"epoch": 5, "model_state_dict": network.state_dict(), "optimizer_state_dict": optimizer, "loss": 0.1}
    )


NETWORKS: dict[str, Callable[[labkit.CNN, int], bytes]] = {
    "save_network": _by_labkit,
    "state_dict": lambda network, _: _stream(network.state_dict()),
    "checkpoint dictionary": _checkpoint,
    "state_dict in a dictionary": lambda network, _: _stream({"state_dict": network.state_dict(), "epoch": 3}),
    "names of DataParallel": lambda network, _: _stream(_prefixed(network, "module.")),
    "names of torch.compile": lambda network, _: _stream(_prefixed(network, "_orig_mod.")),
    "checkpoint with module. names": lambda network, _: _stream({"model": _prefixed(network, "module."), "epoch": 1}),
    "double precision": lambda network, _: _stream(labkit.clone(network).double().state_dict()),
    "format before torch 1.6": lambda network, _: _stream(network.state_dict(), _use_new_zipfile_serialization=False),
}
NETWORK_FLAGS = {"double precision": "holds float64 numbers"}
# A plain state_dict does not say which seed it was trained with; that is asked today, and is no lost point.
NO_SEED = r"CNN_MNIST says that it was trained with seed None|^this student's is \d+$"
NAMED = {
    "checkpoint dictionary": "checkpoint|model_state_dict",
    "state_dict in a dictionary": "checkpoint|state_dict",
    "names of DataParallel": r"DataParallel|module\.",
    "names of torch.compile": r"torch\.compile|_orig_mod",
    "checkpoint with module. names": r"checkpoint|DataParallel|module\.",
    "format before torch 1.6": r"not written by labkit|old(er)? format|before torch|1\.6|legacy",
}


# One person's files


@dataclass
class Work:
    """What lies in a student's folder, and what it must be worth in whatever form it arrives."""

    files: Files
    answers: dict[str, str]
    points: float
    tolerated: tuple[str, ...] = ()
    or_named: str = ""


def make_work(
    who: Person,
    *,
    editor: str = "JupyterLab",
    types: str = "tensors",
    network: str = "save_network",
    words: str = WORDS[0],
    base: int | None = None,
    manifest: bool = True,
    only: tuple[str, ...] | None = None,
    networks: tuple[str, ...] | None = None,
    tasks: tuple[str, ...] | None = None,
) -> Work:
    """A student's files.

    Args:
        who: the student.
        editor: how the notebooks were saved.
        types: of the answers that the check cells got.
        network: how networks were saved.
        words: of the answers.
        base: number of the trained network; None: no networks, and answers that belong to the reference.
        manifest: whether ``labkit pack`` made the files.
        only: the notebooks that there are; None: all.
        networks: those that there are; None: all of the trained network, none of the reference.
        tasks: those that are answered; None: all.
    """
    texts = written(who, words)
    made = notebooks_with(who, texts)
    if only is not None:
        made = {name: notebook for name, notebook in made.items() if name in only}
    cells = {cell: texts[name] for name, (_, cell, _) in questions().items()}
    files = {f"notebooks/{name}": content for name, content in EDITORS[editor](made, cells).items()}
    start = _reference() if base is None else trained(base)
    points, tolerated = 0.0, [EDITOR_FLAGS[editor]]
    given = {**_right_answers(base), "02-mask": (work.random_mask(who.number), work.dense_weights(start))}
    for task in (*given, "09-detective") if tasks is None else tasks:
        content = _typed(task, *given[task], start, types) if task in given else _detective(who.student)
        files[f"models/answers/{task}.pth"] = content
        points += TASKS[task].points
    chosen = networks if networks is not None else tuple(_networks(base)) if base is not None else ()
    seed = students.seed_of(who.student, work.SALT)
    tolerated += [NETWORK_FLAGS.get(network, ""), NO_SEED if network != "save_network" else ""] if chosen else []
    for name in chosen:
        files[f"models/{name}.pth"] = NETWORKS[network](_networks(base)[name], seed)
        points += next(task.points for task in TASKS.values() if task.network == name)
    if manifest:
        told = {"format": "labkit submission 1", "student": who.student, "packed": PACKED}
        files["manifest.json"] = json.dumps(told | {"course": work.course()["version"]}).encode()
    shown = {name: text for name, text in texts.items() if only is None or questions()[name][0] in only}
    allowed = tuple(pattern for pattern in tolerated if pattern)
    return Work(files, shown, points, allowed, NAMED.get(network, "") if chosen else "")


_CHECKED: dict[tuple[str, str, bytes], bytes] = {}


def _typed(task: str, value: Any, before: Any, start: labkit.CNN, types: str) -> bytes:
    """The file that is left when the check gets a value of this type; empty if it leaves none."""
    plain = _answer_bytes(task, value, before)
    if types == "tensors":
        return plain
    key = (task, types, plain)
    if key not in _CHECKED:
        new = TYPES[types](value)
        _CHECKED[key] = plain if new is value else checked(task, new, start if before is not None else None)[1] or b""
    return _CHECKED[key]


# Platforms: each puts one person's files into the folder of a class

Platform = Callable[[Path, Person, Files, random.Random], None]
PLATFORMS: dict[str, dict[str, Platform]] = {"by mail": {}, "Canvas": {}, "Moodle": {}}
PLATFORM_FLAGS: dict[str, tuple[str, ...]] = {}


def placing(family: str, name: str, *flags: str) -> Callable[[Platform], Platform]:
    """Register a way in which a submission lies in the folder of a class; ``flags`` are expected."""

    def named(function: Platform) -> Platform:
        PLATFORMS[family][name] = function
        PLATFORM_FLAGS[name] = flags
        return function

    return named


def zipped(files: Mapping[str, bytes], *, top: str = "", backslashes: bool = False) -> bytes:
    """A zip of these files, within a folder ``top``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(f"{top}{name}", (2026, 11, 22, 12, 0, 0))
            entry.filename = f"{top}{name}".replace("/", "\\") if backslashes else f"{top}{name}"
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def tarred(files: Mapping[str, bytes], kind: str = "gz") -> bytes:
    """A compressed tar of these files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_795_000_000
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def put(path: Path, content: bytes) -> None:
    """Write a file into folders that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _clutter() -> Files:
    """What machines add to a zip or a folder."""
    junk = {".DS_Store": b"\0\1", "desktop.ini": b"[x]", "Thumbs.db": b"\0"}
    return {f"{folder}{name}": content for folder in ("", "notebooks/") for name, content in junk.items()}


def _forks(files: Files) -> Files:
    """The resource forks of macOS, beside every file."""
    return {f"__MACOSX/{Path(name).parent.as_posix()}/._{Path(name).name}": b"\0\5\x16\7" for name in files}


def crowd(count: int = 420) -> Files:
    """A virtual environment and a repository of many files."""
    files = {f"venv/lib/python3.11/site-packages/torch/f{n}.py": b"x = 1\n" for n in range(count)}
    return files | {f".git/objects/{n % 256:02x}/{n:038x}": b"x" for n in range(count)}


def _one_archive(name: str, pack: Callable[[Files], bytes]) -> Platform:
    def put_archive(folder: Path, who: Person, files: Files, _: random.Random) -> None:
        put(folder / name.replace("ID", who.student), pack(files))

    return put_archive


for archive_name in ("labs_ID.zip", "labs_ID (1).zip", "labs_ID.ZIP"):
    placing("by mail", archive_name)(_one_archive(archive_name, zipped))
for archive_name, compression in (("labs_ID.tar.gz", "gz"), ("labs_ID.tgz", "gz"), ("labs_ID.tar", "")):
    placing("by mail", archive_name)(_one_archive(archive_name, partial(tarred, kind=compression)))


@placing("by mail", "a folder ID")
def _folder(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in files.items():
        put(folder / who.student / name, content)


@placing("by mail", "a folder ID with a zip in it")
def _zip_in_folder(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / who.student / f"labs_{who.student}.zip", zipped(files))


@placing("by mail", "a folder ID with a zip in a folder in it")
def _zip_deep(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / who.student / "my work" / f"labs_{who.student}.zip", zipped(files))


@placing("by mail", "a zip in a folder of another name")
def _zip_below(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / "group A" / f"labs_{who.student}.zip", zipped(files))


@placing("by mail", "a zip of the folder ID")
def _wrapped(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / f"labs_{who.student}.zip", zipped(files, top="my labs/release/"))


@placing("by mail", "a zip of Windows, with backslashes")
def _backslashes(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / f"labs_{who.student}.zip", zipped(files, backslashes=True))


@placing("by mail", "a zip of macOS, with __MACOSX and .DS_Store")
def _macos(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / f"labs_{who.student}.zip", zipped(files | _clutter() | _forks(files), top="labs/"))


@placing("by mail", "a folder with venv/ and .git/, over 400 files")
def _crowded(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in (crowd() | files).items():
        put(folder / who.student / name, content)


@placing("by mail", "a zip with venv/ and .git/, over 400 files")
def _crowded_zip(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / f"labs_{who.student}.zip", zipped(crowd() | files))


@placing("by mail", "a folder with over 400 files beside the notebooks")
def _beside(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in ({f"notebooks/figure_{n:04}.png": b"x" for n in range(420)} | files).items():
        put(folder / who.student / name, content)


@placing("by mail", "a folder with desktop.ini, .DS_Store and Thumbs.db")
def _junk(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in (files | _clutter()).items():
        put(folder / who.student / name, content)


def canvas_name(name: str) -> str:
    """A name as Canvas writes it: family name first, letters only."""
    parts = name.replace(",", " ").split()
    turned = "".join([parts[-1], *parts[:-1]]) if "," not in name else "".join(parts)
    return "".join(character for character in turned.casefold() if character.isalnum()) or "student"


def _canvas(who: Person, file: str, late: str = "", dice: random.Random | None = None) -> str:
    return f"{canvas_name(who.name)}_{late}{who.number}_{(dice or random).randrange(70_000, 80_000)}_{file}"


def _canvas_zip(ending: str, late: str = "") -> Platform:
    def place(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
        put(folder / _canvas(who, f"labs_{who.student}{ending}", late, dice), zipped(files))

    return place


placing("Canvas", "NAME_ID_N_labs_ID.zip")(_canvas_zip(".zip"))
placing("Canvas", "NAME_LATE_ID_N_labs_ID.zip", "late")(_canvas_zip(".zip", "LATE_"))
placing("Canvas", "NAME_late_ID_N_labs_ID.zip", "late")(_canvas_zip(".zip", "late_"))
placing("Canvas", "NAME_ID_N_labs_ID-1.zip")(_canvas_zip("-1.zip"))
placing("Canvas", "NAME_ID_N_labs_ID.ZIP")(_canvas_zip(".ZIP"))


@placing("Canvas", "NAME_ID_N_labs_ID.tar.gz")
def _canvas_tar(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    put(folder / _canvas(who, f"labs_{who.student}.tar.gz", "", dice), tarred(files))


@placing("Canvas", "a file name of 200 characters")
def _canvas_long(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    put(folder / _canvas(who, f"{'my_final_version_' * 9}{who.student}.zip"[-150:], "", dice), zipped(files))


@placing("Canvas", "a file name of one's own, decomposed")
def _canvas_decomposed(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    put(folder / unicodedata.normalize("NFD", _canvas(who, "Übungsblätter für dich.zip", "", dice)), zipped(files))


@placing("Canvas", "loose files")
def _canvas_loose(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    for name, content in files.items():
        put(folder / _canvas(who, Path(name).name, "", dice), content)


@placing("Canvas", "loose files, LATE", "late")
def _canvas_loose_late(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    for name, content in files.items():
        put(folder / _canvas(who, Path(name).name, "LATE_", dice), content)


@placing("Canvas", "a zip and a text entry")
def _canvas_text(folder: Path, who: Person, files: Files, dice: random.Random) -> None:
    put(folder / _canvas(who, "labs.zip", "", dice), zipped(files))
    put(folder / _canvas(who, "text.html", "", dice), b"<p>see my zip</p>")


def moodle_folder(who: Person, plugin: str = "file", end: str = "") -> str:
    """The folder that Moodle makes for somebody."""
    return f"{who.name.replace('/', '_')}_{who.number}_assignsubmission_{plugin}{end}"


def _moodle_zip(file: str, end: str = "") -> Platform:
    def place(folder: Path, who: Person, files: Files, _: random.Random) -> None:
        put(folder / moodle_folder(who, end=end) / file.format(who.student), zipped(files))

    return place


placing("Moodle", "NAME_N_assignsubmission_file/labs_ID.zip")(_moodle_zip("labs_{}.zip"))
placing("Moodle", "NAME_N_assignsubmission_file_/labs.zip")(_moodle_zip("labs.zip", "_"))
placing("Moodle", "a zip in a sub-folder")(_moodle_zip("my work/labs_{}.zip"))
placing("Moodle", "an upper-case ending")(_moodle_zip("LABS_{}.ZIP"))
placing("Moodle", "a long file name in Chinese")(_moodle_zip("深度学习" * 15 + "{}.zip"))


@placing("Moodle", "a tar.gz")
def _moodle_tar(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / moodle_folder(who) / f"labs_{who.student}.tar.gz", tarred(files))


@placing("Moodle", "unpacked in its folder")
def _moodle_unpacked(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in files.items():
        put(folder / moodle_folder(who) / name, content)


@placing("Moodle", "unpacked in a folder release/ in its folder")
def _moodle_release(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in files.items():
        put(folder / moodle_folder(who) / "release" / name, content)


@placing("Moodle", "loose files in its folder")
def _moodle_loose(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    for name, content in files.items():
        put(folder / moodle_folder(who) / Path(name).name, content)


@placing("Moodle", "without folders: NAME_N_assignsubmission_file_labs_ID.zip")
def _moodle_flat(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / f"{moodle_folder(who)}_labs_{who.student}.zip", zipped(files))


@placing("Moodle", "with onlinetext and a feedback folder")
def _moodle_text(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / moodle_folder(who) / f"labs_{who.student}.zip", zipped(files))
    put(folder / moodle_folder(who, "onlinetext") / "onlinetext.html", b"<p>see my file</p>")
    feedback = moodle_folder(who).replace("assignsubmission", "assignfeedback")
    put(folder / feedback / "feedback.pdf", b"%PDF-1.4")


@placing("Moodle", "with __MACOSX, desktop.ini and .DS_Store beside")
def _moodle_junk(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / moodle_folder(who) / f"labs_{who.student}.zip", zipped(files | _clutter() | _forks(files)))
    put(folder / moodle_folder(who) / "desktop.ini", b"[x]")
    put(folder / "__MACOSX" / moodle_folder(who) / f"._labs_{who.student}.zip", b"\0\5\x16\7")
    put(folder / "desktop.ini", b"[x]")
    put(folder / ".DS_Store", b"\0")


@placing("Moodle", "its folder decomposed")
def _moodle_decomposed(folder: Path, who: Person, files: Files, _: random.Random) -> None:
    put(folder / unicodedata.normalize("NFD", moodle_folder(who)) / "labs.zip", zipped(files))


# The class


@dataclass
class Arrivals:
    """A class that arrives: its folder, its roster, and all of its people's work."""

    folder: Path
    family: str
    people: list[Person] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)

    def add(self, kind: str, who: Person, done: Work, place: str, dice: random.Random, *flags: str) -> Arrival:
        """Put one person's work into the folder."""
        PLATFORMS[self.family][place](self.folder, who, done.files, dice)
        wanted = (*PLATFORM_FLAGS[place], *flags)
        made = Arrival(kind, who, done.points, done.answers, wanted, done.tolerated, done.or_named)
        self.people.append(who)
        self.arrivals.append(made)
        return made

    def roster(self, path: Path) -> Path:
        """Write the roster with the platform's numbers."""
        column = {"Canvas": "canvas_id", "Moodle": "moodle_id"}.get(self.family, "canvas_id")
        lines = [f"student,name,{column}"]
        for who in self.people:
            name = who.name.replace('"', '""')
            lines.append(f'{who.student},"{name}",{who.number}')
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def random_class(folder: Path, family: str, number: int, size: int) -> Arrivals:
    """A class of honest people, varied in everything; each has a network of one's own."""
    made, dice = Arrivals(folder, family), random.Random(number)
    folder.mkdir(parents=True)
    for seat in range(size):
        turn = number * size + seat
        chosen = {
            "editor": _turn_of(EDITORS, turn),
            "types": _turn_of(TYPES, 7 * turn + number),
            "network": _turn_of(NETWORKS, 5 * turn + number),
            "words": _turn_of(WORDS, seat + number) * dice.choice([1, 1, 1, 90]),
        }
        place, packed, who = _turn_of(PLATFORMS[family], seat + 5 * number), dice.random() < 0.6, person(turn)
        kind = f"{place} | {chosen['editor']} | {chosen['types']} | {chosen['network']} | {who.name}, {who.student}"
        kind += f" | {'packed' if packed else 'no manifest'} | {len(chosen['words']):,} characters"
        made.add(kind, who, make_work(who, **chosen, base=seat, manifest=packed), place, dice)
    return made


def _turn_of(names: Iterable[str], number: int) -> str:
    names = list(names)
    return names[number % len(names)]
