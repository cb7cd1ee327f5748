"""Which text of a solution notebook is a secret, and where it is told all the same."""

from collections.abc import Iterator

from nbformat import NotebookNode

WINDOW, SHORTEST_LINE = 40, 25  # characters of prose, and of a line of code, that may not be found
# In a solution, and rightly given elsewhere: a loop's first line, and the heading that the answer repeats.
ALSO_GIVEN = {"for name in CONVOLUTIONS:", "Is a small weight an unimportant weight?"}


def collapsed(text: str) -> str:
    return " ".join(text.split())


def inside_and_outside(source: str) -> tuple[list[str], list[str]]:
    """Lines of a cell within and without its solution regions; markers are in neither."""
    parts: tuple[list[str], list[str]] = ([], [])
    inside = False
    for line in source.split("\n"):
        if "SOLUTION" in line:
            inside = "BEGIN" in line
        else:
            parts[not inside].append(line)
    return parts


def windows(text: str) -> set[str]:
    text = collapsed(text)
    return {text[i : i + WINDOW] for i in range(max(1, len(text) - WINDOW + 1))}


def secrets_of(notebook: NotebookNode) -> tuple[set[str], set[str]]:
    """Lines of code and pieces of prose that stand in solutions, and not also beside them in the same cell."""
    lines: set[str] = set()
    prose: set[str] = set()
    for cell in notebook.cells:
        inside, outside = inside_and_outside(cell.source)
        given = collapsed("\n".join(outside))
        if cell.cell_type == "code":
            found = {collapsed(line) for line in inside if len(line.strip()) >= SHORTEST_LINE}
            lines |= {line for line in found if line not in given}
        elif inside:
            prose |= {piece for piece in windows("\n".join(inside)) if piece not in given}
    return lines - ALSO_GIVEN, prose - ALSO_GIVEN


def texts(value: object) -> Iterator[str]:
    """All strings in JSON, keys too, but not the pictures."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from () if key == "image/png" else texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def leaks(notebook: NotebookNode, texts_by_file: dict[str, str]) -> list[str]:
    lines, prose = secrets_of(notebook)
    found = [f"{name}: {line}" for line in sorted(lines) for name, text in texts_by_file.items() if line in text]
    for name, text in texts_by_file.items():
        found += [f"{name}: {piece}" for piece in sorted(prose & windows(text))]
    return found
