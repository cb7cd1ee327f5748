"""The student series, made from the solution notebooks: solutions and outputs out, everything else as it is.

A region between the marker words ``### BEGIN SOLUTION`` and ``### END SOLUTION`` (nbgrader's) is replaced, in code by
a comment and in prose by an invitation. A cell whose metadata say ``labkit: {"release": "drop"}`` is left out, and
prose with ``"fold"`` becomes a box to open. The same notebooks always give the same release.
"""

import hashlib
import html
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import nbformat
from nbformat import NotebookNode

from labkit import runtime
from labkit.course.course_file import FORMAT, Json, Spec
from labkit.course.students import DEFAULT_SALT
from labkit.course.task import CODE_STUB, NOTEBOOKS, PROSE_STUB

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
LOOKS_LIKE = re.compile(r"#\s*(begin|end)\s*(solution|hidden|mark)", re.IGNORECASE)
# What a folder needs in addition to the notebooks: no solution of a notebook, but labkit, which can judge.
COPIED = (
    "labkit/**/*.py",
    "labkit/**/*.j[2s]*",  # templates, and the JSON of nbconvert's
    "labkit/course/student.*",
    "data/README.md",
    "data/MNIST/raw/*.gz",
    "data/results/*.csv",
    "models/README.md",
    "models/reference/*.pth",
    "models/reference/frontier/*_s0.lks",
    "models/reference/records/05_iterative_pruning.json",
    "models/reference/records/seconds.json",
    "notebooks/GLOSSARY.md",
    "pyproject.toml",
    "requirements.lock",
    "environment.yml",
    "LICENSE",
)
FIRST_BOLD = re.compile(r"^\*\*(.+?)\*\*[ \t]*", re.MULTILINE)
MINUTES_OR_POINTS = re.compile(r" +\((?:[^()]*\b(?:min|points?)\b[^()]*|for you)\)$")  # at the end of a heading
IN_THE_PROJECT = re.compile(r"<!-- only in the project -->\n.*?<!-- end -->\n\n?", re.DOTALL)


def student_version(solution: NotebookNode) -> NotebookNode:
    """The student's form of a solution notebook, a copy.

    Raises:
        ValueError: a marker without its partner, a solution in a cell that is not marked as one, or a cell that can
            not be dropped or folded as its metadata say.
    """
    released = nbformat.v4.new_notebook()
    released.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for number, cell in enumerate(solution.cells, start=1):
        where = f"cell {number}"
        wish = _wish(cell, where)
        if wish == "drop":
            continue
        source = _without_solutions(cell, where)
        if wish == "fold":
            source = _folded(source, where)
        # Of the metadata only nbgrader's go along; nor do outputs and attachments.
        marks = {"nbgrader": dict(cell.metadata["nbgrader"])} if "nbgrader" in cell.metadata else {}
        new_cell = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        released.cells.append(new_cell(source, id=cell.id, metadata=marks))
        if cell.metadata.get("labkit", {}).get("expected_picture"):
            released.cells.append(_expected(cell, where))
    return released


def _wish(cell: NotebookNode, where: str) -> str:
    """What a cell's metadata ask of the release: ``drop``, ``fold`` or nothing."""
    wish = cell.metadata.get("labkit", {}).get("release", "")
    if wish not in ("", "drop", "fold"):
        raise ValueError(f"{where}: labkit's metadata say release: {wish!r}; it must be 'drop' or 'fold'")
    if wish and ("nbgrader" in cell.metadata or BEGIN in cell.source or END in cell.source):
        raise ValueError(f"{where}: a cell with release: {wish!r} has neither a solution nor nbgrader's metadata")
    if wish == "fold" and cell.cell_type != "markdown":
        raise ValueError(f"{where}: a {cell.cell_type} cell cannot be folded, only prose")
    return str(wish)


def _folded(source: str, where: str) -> str:
    """Prose in a box to open, named by its first bold words; what is above them stays in front of the box."""
    found = FIRST_BOLD.search(source)
    if not found:
        raise ValueError(f"{where}: prose to fold begins with a bold line, such as **What the figure shows.**")
    name = found[1].rstrip(" .:")
    summary = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(name, quote=False))
    invitation = " Look first, then open" if name.endswith(("?", "!")) else ": look first, then open"
    box = f"<details><summary>{summary}{invitation}</summary>\n\n{source[found.end() :].strip()}\n\n</details>"
    before = source[: found.start()].strip()
    return f"{before}\n\n{box}" if before else box


def _without_solutions(cell: NotebookNode, where: str) -> str:
    lines, inside, regions = [], False, 0
    stub = CODE_STUB if cell.cell_type == "code" else PROSE_STUB
    for line in cell.source.splitlines():
        if BEGIN in line:
            if inside:
                raise ValueError(f"{where}: {BEGIN} stands inside a solution; close it with {END} first")
            inside, regions = True, regions + 1
            lines.append(line[: len(line) - len(line.lstrip())] + stub)
        elif END in line:
            if not inside:
                raise ValueError(f"{where}: {END} without {BEGIN}")
            inside = False
        elif LOOKS_LIKE.search(line):
            raise ValueError(f"{where}: {line.strip()!r} is not a marker; write {BEGIN} or {END}")
        elif not inside:
            lines.append(line)
    if inside:
        raise ValueError(f"{where}: {BEGIN} without {END}")
    marked = cell.metadata.get("nbgrader", {}).get("solution", False)
    if bool(regions) != bool(marked):
        raise ValueError(f"{where}: {regions} solution regions, but nbgrader's metadata says solution: {marked}")
    return "\n".join(lines)


def _expected(cell: NotebookNode, where: str) -> NotebookNode:
    """A box with the first PNG among a cell's outputs."""
    pictures = (output.get("data", {}).get("image/png") for output in cell.get("outputs", []))
    picture = "".join(next(filter(None, pictures), "").split())
    if not picture:
        raise ValueError(f"{where} has no picture to show; execute the notebook first")
    head = "<details><summary>The authors' figure, to compare with yours</summary>"
    text = f"{head}\n\n![](attachment:expected.png)\n</details>"
    attachments = {"expected.png": {"image/png": picture}}
    return nbformat.v4.new_markdown_cell(text, id=f"{cell.id}-picture", attachments=attachments)


def source_hash(source: str) -> str:
    """SHA-256 of a cell's source, up to blanks at line ends and around it."""
    lines = [line.rstrip() for line in source.strip().splitlines()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def role_of(cell: Json) -> str:
    """What a cell is to the student: ``task``, ``answer``, ``check``, ``open`` or ``given``."""
    marks = cell.get("metadata", {}).get("nbgrader", {})
    if "course.sign_in(" in cell["source"]:
        return "open"  # everybody writes something else there
    if marks.get("solution"):
        return "task" if cell["cell_type"] == "code" else "answer"
    return "check" if marks.get("grade") else "given"


def places(given: Sequence[Spec]) -> dict[str, str]:
    """Cell id -> the heading above a cell, or in it; "" where there is none.

    Args:
        given: the cells of one notebook, as ``course.json`` describes them.
    """
    found, heading = {}, ""
    for spec in given:
        if spec["type"] == "markdown":
            text = re.sub(r"^```.*?^```", "", spec.get("source", spec["head"]), flags=re.MULTILINE | re.DOTALL)
            lines = re.findall(r"^#+ +(.+?) *#*$", text, re.MULTILINE)
            heading = MINUTES_OR_POINTS.sub("", lines[-1]) if lines else heading
        found[spec["id"]] = heading
    return found


def course_of(notebooks: Mapping[str, NotebookNode], course_salt: str) -> Json:
    """What ``course.json`` holds: salt, version, and for each notebook its cells by id, as they are handed out.

    Args:
        notebooks: name -> the student's form, before the version is written into it.
        course_salt: what the students' seeds depend on, together with their ID.
    """
    cells = {name: [_spec(cell) for cell in notebook.cells] for name, notebook in notebooks.items()}
    version = hashlib.sha256(json.dumps([cells, course_salt], sort_keys=True).encode()).hexdigest()[:12]
    return {"format": FORMAT, "version": version, "salt": course_salt, "notebooks": cells}


def _spec(cell: NotebookNode) -> Json:
    """A cell as ``course.json`` describes it."""
    marks, role = dict(cell.metadata.get("nbgrader", {})), role_of(cell)
    head = cell.source.partition(PROSE_STUB)[0].strip()[:300] if role == "answer" else ""
    spec: Json = {"id": cell.id, "role": role, "type": cell.cell_type, "hash": source_hash(cell.source)}
    spec |= {"points": marks.get("points", 0), "name": marks.get("grade_id", ""), "head": head}
    return spec | {"source": cell.source, "marks": marks}


def make_course(folder: Path, course_salt: str = DEFAULT_SALT) -> tuple[dict[str, NotebookNode], Json]:
    """The student's notebooks and ``course.json``, from the folder of solution notebooks.

    Raises:
        FileNotFoundError: there is no notebook of the series.
        ValueError: a notebook cannot be released; the message says which and why.
    """
    paths = [folder / f"{name}.ipynb" for name in NOTEBOOKS if (folder / f"{name}.ipynb").is_file()]
    if not paths:
        raise FileNotFoundError(f"{folder} holds none of the notebooks {', '.join(NOTEBOOKS)}")
    made = {}
    for path in paths:
        try:
            made[path.stem] = student_version(nbformat.read(path, as_version=4))
        except Exception as error:
            raise ValueError(f"{path.name}: {error}") from None
    course = course_of(made, course_salt)
    for notebook in made.values():
        notebook.metadata["labkit_course"] = {"version": course["version"]}
    return made, course


def write_release(
    folder: Path, out: Path, course_salt: str = DEFAULT_SALT, *, notebooks_only: bool = False
) -> list[str]:
    """Write the student series, whole or not at all.

    Args:
        folder: the solution notebooks.
        out: the new folder; it must not exist, or be empty.
        course_salt: what the students' seeds depend on, together with their ID.
        notebooks_only: leave out labkit, the data and the reference networks.

    Returns:
        The names of the notebooks.

    Raises:
        FileExistsError: ``out`` holds something.
        ValueError: a notebook cannot be released.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not empty; give another folder, or move it away")
    made, course = make_course(folder, course_salt)
    building = out.parent / f".{out.name}.{uuid4().hex[:8]}"
    (building / "notebooks").mkdir(parents=True)
    try:
        if not notebooks_only:
            _copy_project(building)
        for name, notebook in made.items():
            runtime.write_file(building / "notebooks" / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
        runtime.write_file(building / "course.json", json.dumps(course, indent=1, ensure_ascii=False) + "\n")
        if out.exists():
            out.rmdir()
        building.replace(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return list(made)


def _copy_project(target: Path) -> None:
    for pattern in COPIED:
        for path in sorted(runtime.PROJECT.glob(pattern)):
            copy_to = target / path.relative_to(runtime.PROJECT)
            copy_to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy_to)
    readme = IN_THE_PROJECT.sub("", (runtime.PROJECT / "STUDENTS.md").read_text(encoding="utf-8"))
    (target / "README.md").write_text(readme, encoding="utf-8", newline="\n")
    shutil.copyfile(Path(__file__).with_name("student.mk"), target / "Makefile")
    shutil.copyfile(Path(__file__).with_name("student.gitignore"), target / ".gitignore")
