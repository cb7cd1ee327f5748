"""Notebooks as plain data, with the parts that grading looks at made sure of."""

import json
from typing import Any

from labkit.course.submission.foreign import Refused, shown

MOST_BRACKETS = 200_000  # lists and dicts of a notebook, before it is parsed
MOST_CELLS = 1_000
MOST_OUTPUT = 20_000


def read_notebook(content: bytes) -> dict[str, Any]:
    """A notebook: its metadata, and of each cell the id, type, source, output as text, and whether it ran.

    Raises:
        Refused: with the reason.
    """
    if content.count(b"{") + content.count(b"[") > MOST_BRACKETS:
        raise Refused(f"has more than {MOST_BRACKETS:,} lists and dicts")
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("is not UTF-8") from None
    except RecursionError:
        raise Refused("is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"is not JSON ({shown(str(error))})") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("is not a notebook (it has no list of cells)")
    if len(cells) > MOST_CELLS:
        raise Refused(f"has {len(cells):,} cells, more than {MOST_CELLS:,}")
    metadata = notebook.get("metadata")
    return {"cells": [_cell(cell) for cell in cells], "metadata": metadata if isinstance(metadata, dict) else {}}


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    outputs = cell.get("outputs")
    texts = [_text_of_output(output) for output in outputs] if isinstance(outputs, list) else []
    return {
        "id": str(cell.get("id", ""))[:80],
        "type": str(cell.get("cell_type", ""))[:20],
        "source": text_of(cell.get("source")),
        "output": "".join(texts)[:MOST_OUTPUT],
        "ran": cell.get("execution_count") is not None,
    }


def text_of(source: Any) -> str:
    """Text that a notebook stores as a string or as a list of lines."""
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    # JSON can hold half a character, which no file can.
    return source.encode("utf-8", "replace").decode("utf-8") if isinstance(source, str) else ""


def _text_of_output(output: Any) -> str:
    data = output.get("data") if isinstance(output, dict) else None
    if isinstance(data, dict):
        return text_of(data.get("text/plain")) + "\n"
    return text_of(output.get("text")) if isinstance(output, dict) else ""
