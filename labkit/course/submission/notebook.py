"""Notebooks as plain data, with the parts that grading looks at made sure of."""

import codecs
import json
from typing import Any

from labkit.course.submission.foreign import Refused, shown

MOST_BRACKETS = 200_000  # lists and dicts of a notebook, before it is parsed
MOST_CELLS = 1_000
MOST_OUTPUT = 20_000


def decoded(content: bytes) -> tuple[str, str]:
    """The text of a file, and its coding; that of UTF-8 is ``""``, with a byte order mark or without."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for coding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
        try:
            return content.decode(coding), "" if coding == "utf-8-sig" else coding
        except UnicodeDecodeError:
            continue
    raise Refused("is not UTF-8")


def read_notebook(content: bytes) -> dict[str, Any]:
    """A notebook: its metadata, flags, and of each cell the parts that are looked at.

    These are the id, nbgrader's name for it, its type and source, its output as text, and whether it ran.

    Raises:
        Refused: with the reason.
    """
    if content.count(b"{") + content.count(b"[") > MOST_BRACKETS:
        raise Refused(f"has more than {MOST_BRACKETS:,} lists and dicts")
    text, coding = decoded(content)
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"is not JSON ({shown(str(error))})") from None
    cells = notebook.get("cells", _of_worksheets(notebook)) if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("is not a notebook (it has no list of cells)")
    if len(cells) > MOST_CELLS:
        raise Refused(f"has {len(cells):,} cells, more than {MOST_CELLS:,}")
    odd = [f"is not UTF-8, but was read as {coding}; marks in its words may be wrong"] if coding else []
    return {"cells": [_cell(cell) for cell in cells], "metadata": _dict(notebook.get("metadata")), "flags": odd}


def _of_worksheets(notebook: dict[str, Any]) -> list[Any] | None:
    """The cells of a notebook in the format before 4."""
    sheets = notebook.get("worksheets") if notebook.get("nbformat") in (2, 3) else None
    if not isinstance(sheets, list) or not all(isinstance(_dict(sheet).get("cells"), list) for sheet in sheets):
        return None
    return [cell for sheet in sheets for cell in sheet["cells"]]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    outputs, metadata = cell.get("outputs"), _dict(cell.get("metadata"))
    texts = [_text_of_output(output) for output in outputs] if isinstance(outputs, list) else []
    heading = cell.get("cell_type") == "heading"  # of its own kind before format 4, as "input" and "prompt_number" were
    return {
        "id": str(cell.get("id") or metadata.get("id", ""))[:80],  # Colab keeps it in the metadata
        "name": str(_dict(metadata.get("nbgrader")).get("grade_id", ""))[:80],
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
