"""CSV files as spreadsheets and platforms write them: rosters and marks are read here, and all tables written."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from labkit import runtime
from labkit.course.submission.foreign import shown, visible

SAVE = 'save it as CSV UTF-8 (Excel: "CSV UTF-8"; LibreOffice: "Text CSV", character set "Unicode (UTF-8)")'
# Where a cell may begin for programs that read with another separator, and what turns it into a formula.
BEGINNING = re.compile(r"((?:^|[;\t\n])[\s\"]*'*)([=+\-@|%＝＋－＠﹢﹣﹦﹫]?)")
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
Table = tuple[list[str], list[tuple[int, dict[str, str]]]]  # headings; number of a row, and heading -> text


def harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula, without hidden characters; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    return text if NUMBER.fullmatch(text) else BEGINNING.sub(lambda cell: cell[1] + "'" * bool(cell[2]) + cell[2], text)


def as_written(text: str) -> str:
    """The text that ``harmless`` was given: without the apostrophes that it has set."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return BEGINNING.sub(lambda cell: cell[1].removesuffix("'") + cell[2] if cell[2] else cell[0], text)


def plain_heading(heading: str) -> str:
    """A heading in lower case and without blanks, hyphens and the like."""
    return re.sub(r"[\s_-]+", "", visible(heading).casefold())


def rows_of_csv(path: Path, required: Sequence[str] = (), optional: Sequence[str] = ()) -> Table:
    """The headings of a CSV file, and its rows that are not blank, whatever separates the cells.

    Cells are as they were before ``harmless``. A column with text and a heading that is blank or
    was there before is called by its number.

    Args:
        path: the file.
        required: headings that must be there, in whatever case and with whatever blanks.
        optional: others that are known; those that are not known stay as they are.

    Returns:
        The headings, and each row with its number, as a spreadsheet counts.

    Raises:
        ValueError: it is no CSV in UTF-8, lacks a required heading or has it twice, or has text outside its columns.
    """
    known = {plain_heading(name): name for name in (*required, *optional)}
    (_, head), *records = _records(path) or [(0, [])]
    names: list[str] = []
    for place, cell in enumerate(head, 1):
        name = known.get(plain_heading(cell), cell.strip())
        names.append(name if name and name not in names else f"{name} (column {place})".strip())
    count = Counter(known.get(plain_heading(cell)) for cell in head)
    lacks = f"lacks one of the columns {', '.join(required)}: there is no"
    if faults := [f"{'has two columns' if count[name] else lacks} {name}" for name in required if count[name] != 1]:
        raise ValueError(f"{path} {faults[0]}; its columns are {shown(', '.join(names), 500)}")
    for number, row in records:
        if any(row[len(names) :]):
            raise ValueError(f"{path}, line {number}: more cells than columns; text with a separator needs quotes")
    rows = [(number, dict(zip(names, row + [""] * len(names), strict=False))) for number, row in records]
    return [name for name in names if not name.startswith("(column ") or any(row[name] for _, row in rows)], rows


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """All rows that are not blank, with their numbers."""
    content = path.read_bytes()
    if content.startswith((b"PK", b"\xd0\xcf")):
        raise ValueError(f"{path} is an Excel workbook; {SAVE}")
    usual = csv.field_size_limit(2**31 - 1)  # of the whole process
    try:
        text = content.replace(b"\0", b"\xff").decode("utf-8-sig")  # zeros are a sign of UTF-16
        given = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
        text = text[given.end() :] if given else text
        first = re.sub(r'"[^"]*"', "", text).lstrip("\r\n,;\t ").partition("\n")[0]
        separator = given[1] if given else max(",;\t|", key=first.count)
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8, but Windows-1252, UTF-16 or the like; {SAVE}") from None
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read ({error}); is there a quotation mark without its partner?") from None
    finally:
        csv.field_size_limit(usual)
    cells = [[as_written(cell) if cell.strip() else "" for cell in row] for row in rows]
    return [(number, row) for number, row in enumerate(cells, 1) if any(row)]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table whole, as UTF-8 that Excel knows, its cells harmless; columns that are not named are left out."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
    writer.writerow({name: harmless(name) for name in columns})
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    # The mark at the start tells Excel that it is UTF-8.
    runtime.write_file(path, "\ufeff" + stream.getvalue())
