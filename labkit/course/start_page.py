"""The page that a student opens first: what there is, how far the work is, what comes next, how to hand in.

Points are those that the check cells kept; it judges nothing itself. Every notebook imports this module, so it does
without nbformat, whose import takes long.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit import runtime
from labkit.course.answers import Reached, points_so_far
from labkit.course.course_file import Json, handed_out
from labkit.course.students import who
from labkit.course.submission.foreign import Refused
from labkit.course.submission.notebook import read_notebook
from labkit.course.task import NOTEBOOKS, PROSE_STUB, TASKS

NAME = "START.ipynb"
MARK = "labkit_start"  # in the metadata of a page that may be written again
WELCOME = """# Pruning labs

Train a small network, prune it in every classic way, and measure what that does. Open a notebook by its link below;
run the cell to see your points as they are now.

`make lab` and `labkit start` make this page again: keep no notes here."""
POINTS = re.compile(r"\(\d+ points?\)")  # what an answer in words is worth
TITLE = re.compile(r"^# +(.+?)(?: +\(([^()]*\bmin\b[^()]*)\))? *$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One notebook in the table.

    Attributes:
        name: of the notebook's file, without its ending.
        title: from its first heading.
        minutes: of reading and computing, as its first heading says.
        points: that its check cells gave so far.
        of: the most that they give.
        state: ``done``, ``begun``, ``not begun``, ``missing`` or ``damaged``.
        left: titles of the tasks that have points to get.
        unsaved: networks that got points but are not saved.
    """

    name: str
    title: str
    minutes: str
    points: float
    of: float
    state: str
    left: Sequence[str]
    unsaved: tuple[str, ...] = ()


def rows(folder: Path) -> list[Row]:
    """The notebooks of the course, and how far each one is.

    Args:
        folder: of the notebooks.
    """
    kept = points_so_far()
    given = (handed_out() or {}).get("notebooks") or NOTEBOOKS
    return [_row(folder / f"{name}.ipynb", kept) for name in NOTEBOOKS if name in given]


def _row(path: Path, kept: dict[str, Reached]) -> Row:
    tasks = {name: task for name, task in TASKS.items() if task.notebook == path.stem}
    # The file that keeps the points may claim more than there are.
    points = {name: min(kept[name].points, task.points) if name in kept else 0.0 for name, task in tasks.items()}
    left = [task.title for name, task in tasks.items() if points[name] < task.points]
    got, of = sum(points.values()), sum(task.points for task in tasks.values())
    networks = [tasks[name].network for name, value in points.items() if value and tasks[name].network]
    unsaved = tuple(name for name in networks if not (runtime.models_dir() / f"{name}.pth").is_file())
    begun = any(name in kept and kept[name].attempted for name in tasks)
    try:
        cells = read_notebook(path.read_bytes())["cells"]
    except (OSError, Refused) as error:
        state = "missing" if isinstance(error, FileNotFoundError) else "damaged"
        return Row(path.stem, path.stem, "", got, of, state, left)
    found = TITLE.search("\n".join(cell["source"] for cell in cells if cell["type"] == "markdown"))
    title, minutes = (found[1], found[2] or "") if found else (path.stem, "")
    questions = [cell["source"] for cell in cells if POINTS.search(cell["source"]) and PROSE_STUB in cell["source"]]
    state = "done" if got >= of else "begun" if begun or got else "not begun"
    if state == "done" and questions:
        state = f"done, but for {len(questions)} answer{'s' if len(questions) > 1 else ''} in words"
    return Row(path.stem, title, minutes, got, of, state, left, unsaved)


def page(folder: Path) -> str:
    """The page in Markdown, with links that are relative to the folder of the notebooks."""
    from jinja2 import Environment, FileSystemLoader  # every notebook imports this module, and few show the page

    table = rows(folder)
    following = next((row for row in table if row.state != "missing" and row.points < row.of), None)
    places = FileSystemLoader(Path(__file__).parent / "report" / "templates", encoding="utf-8")
    templates = Environment(loader=places, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    return templates.get_template("start.md.j2").render(
        student=who(),
        table=table,
        bonus={task.notebook for task in TASKS.values() if task.bonus},
        following=following,
        given=handed_out(),
    )


def plain(markdown: str) -> str:
    """The page as text, for places that show no Markdown."""
    text = re.sub(r"(?<!\\)\[(.+?)(?<!\\)\]\(.+?\)", r"\1", markdown).replace("**", "").replace("`", "")
    return "\n".join(line for line in text.splitlines() if not line.startswith("|:--"))


def start() -> None:
    """Show the page, as things are now."""
    here = Path.cwd()
    from IPython.display import display  # only a notebook needs it

    folder = here if any((here / f"{name}.ipynb").is_file() for name in NOTEBOOKS) else runtime.PROJECT / "notebooks"
    display(_shown(page(folder)), raw=True)


def _shown(markdown: str) -> dict[str, str]:
    return {"text/markdown": markdown, "text/plain": plain(markdown)}


def write_start(folder: Path) -> Path:
    """Write ``START.ipynb`` into the folder of the notebooks, whole or not at all, with the page in it.

    Raises:
        FileExistsError: there is a file of this name that is no such page.
        FileNotFoundError: there is no such folder.
        OSError: the folder cannot be written.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    if (path.exists() or path.is_symlink()) and not _is_ours(path):
        raise FileExistsError(f"{path} was not made by labkit start; move it away to get a new one")
    return runtime.write_file(path, json.dumps(_notebook(_shown(page(folder))), indent=1, ensure_ascii=False) + "\n")


def _notebook(shown: dict[str, str]) -> Json:
    code: Json = {"cell_type": "code", "id": "start-code", "metadata": {}, "execution_count": None}
    code["source"] = "from labkit import course\n\ncourse.start()"
    code["outputs"] = [{"output_type": "display_data", "metadata": {}, "data": shown}]
    text = {"cell_type": "markdown", "id": "start-text", "metadata": {}, "source": WELCOME}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, MARK: True}
    return {"cells": [text, code], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _is_ours(path: Path) -> bool:
    try:
        return not path.is_symlink() and json.loads(path.read_text(encoding="utf-8"))["metadata"][MARK] is True
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
