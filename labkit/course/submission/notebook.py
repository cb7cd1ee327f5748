"""Notebooks as plain data, with the parts that grading looks at made sure of."""

import json
from typing import Any

from labkit.course.submission.foreign import Refused, shown

MOST_BRACKETS = 200_000  # lists and dicts of a notebook, before it is parsed
MOST_CELLS = 1_000
MOST_OUTPUT = 20_000


def coding_of(content: bytes) -> str:
    """What the text of a notebook is written in, such as ``utf-8``, ``utf-8-sig`` (with a mark) or ``utf-16``."""
    coding = json.detect_encoding(content)
    try:
        content.decode(coding)
    except UnicodeDecodeError:
        return "cp1252" if coding == "utf-8" else coding
    return coding


def decoded(content: bytes) -> str:
    """The text of a notebook; what is in no known coding is replaced."""
    return content.decode(coding_of(content), "replace")


def read_notebook(content: bytes) -> dict[str, Any]:
    """A notebook: its metadata, flags, and of each cell the parts that are looked at.

    These are the id, nbgrader's name for it, its type and source, its output as text, and whether it ran.

    Raises:
        Refused: with the reason.
    """
    if content.count(b"{") + content.count(b"[") > MOST_BRACKETS:
        raise Refused(f"has more than {MOST_BRACKETS:,} lists and dicts")
    try:
        notebook = json.loads(decoded(content))
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"is not JSON ({shown(str(error))})") from None
    cells = notebook.get("cells", _of_worksheets(notebook)) if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("is not a notebook (it has no list of cells)")
    if len(cells) > MOST_CELLS:
        raise Refused(f"has {len(cells):,} cells, more than {MOST_CELLS:,}")
    coding = coding_of(content)
    odd = [f"is not UTF-8, but was read as {coding}; save it in JupyterLab"] if "utf-8" not in coding else []
    return {"cells": [_cell(cell) for cell in cells], "metadata": dict_of(notebook.get("metadata")), "flags": odd}


def _of_worksheets(notebook: dict[str, Any]) -> list[Any] | None:
    """The cells of a notebook in the format before 4."""
    sheets = notebook.get("worksheets") if notebook.get("nbformat") in (2, 3) else None
    if not isinstance(sheets, list) or not all(isinstance(dict_of(sheet).get("cells"), list) for sheet in sheets):
        return None
    return [cell for sheet in sheets for cell in sheet["cells"]]


def dict_of(value: Any) -> dict[str, Any]:
    """A dict as it is, and of anything else an empty one."""
    return value if isinstance(value, dict) else {}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    outputs, metadata = cell.get("outputs"), dict_of(cell.get("metadata"))
    texts = [_text_of_output(output) for output in outputs] if isinstance(outputs, list) else []
    heading = cell.get("cell_type") == "heading"  # of its own kind before format 4, as "input" and "prompt_number" were
    return {
        "id": str(cell.get("id") or metadata.get("id", ""))[:80],  # Colab keeps it in the metadata
        "name": str(dict_of(metadata.get("nbgrader")).get("grade_id", ""))[:80],
        "type": "markdown" if heading else str(cell.get("cell_type", ""))[:20],
        "source": "## " * heading + text_of(cell.get("source", cell.get("input"))),
        "output": "".join(texts)[:MOST_OUTPUT],
        "ran": cell.get("execution_count", cell.get("prompt_number")) is not None,
    }


def text_of(source: Any) -> str:
    """Text that a notebook stores as a string or as a list of lines."""
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    # JSON can hold half a character, which no file can.
    text = source.encode("utf-8", "replace").decode("utf-8") if isinstance(source, str) else ""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text_of_output(output: Any) -> str:
    data = output.get("data") if isinstance(output, dict) else None
    if isinstance(data, dict):
        return text_of(data.get("text/plain")) + "\n"
    return text_of(output.get("text")) if isinstance(output, dict) else ""
