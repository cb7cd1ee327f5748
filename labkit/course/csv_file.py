"""CSV files as spreadsheets and platforms write them: rosters and marks are read here, and all tables written."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labkit import runtime
from labkit.course.submission.foreign import shown, visible

SAVE = 'save it as CSV UTF-8 (Excel: "CSV UTF-8"; LibreOffice: "Text CSV", character set "Unicode (UTF-8)")'
FORMS = {
    b"PK": "is an Excel workbook or another zip",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook",
    b"\xff\xfe": "is UTF-16 (Unicode text)",
    b"\xfe\xff": "is UTF-16 (Unicode text)",
}
# Where a cell may begin for whoever reads with another separator, and what makes a formula of it.
BEGINNING = re.compile(r"((?:^|[;\t\n])[\s\"]*'*)([=+\-@|%＝＋－＠﹢﹣﹦﹫]?)")
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
Cells = dict[str, str]  # heading -> text


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


def rows_of_csv(
    path: Path, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> tuple[list[str], list[tuple[int, Cells]]]:
    """The headings of a CSV file, and its rows that are not blank, whatever separates the cells.

    Headings in ``required`` and ``optional`` are recognised in other case and with other blanks; others stay as they
    are. Cells are as they were before ``harmless``.

    Args:
        path: the file.
        required: headings that must be there.
        optional: other headings that are known.

    Returns:
        The headings, and each row with its number, as a spreadsheet counts.

    Raises:
        ValueError: it is no CSV in UTF-8, lacks a required heading, has one twice, or has text outside its columns.
    """
    records = _records(path)
    (_, head), *rows = records or [(0, [])]
    known = {_plain(name): name for name in (*required, *optional)}
    columns: dict[str, int] = {}
    for place, cell in enumerate(head):
        name = known.get(_plain(cell), visible(cell).strip())
        if name in columns and _plain(name) in known:
            raise ValueError(f"{path} has two columns {name}; leave one of them")
        if name or any(row[place : place + 1] not in ([], [""]) for _, row in rows):
            columns[name if name and name not in columns else f"{name} (column {place + 1})".strip()] = place
    missing = [name for name in required if name not in columns]
    if missing:
        there = f"there is no {', '.join(missing)} among {shown(', '.join(columns), 500)}"
        raise ValueError(f"{path} lacks one of the columns {', '.join(required)}: {there}")
    for number, row in rows:
        if any(row[len(head) :]):
            beyond = f"has {shown(row[-1])!r} beyond the last column; text with a separator in it needs quotes"
            raise ValueError(f"{path}, line {number}: {beyond}")
    width = len(head)
    filled = [(number, row + [""] * (width - len(row))) for number, row in rows]
    return list(columns), [(number, {name: row[place] for name, place in columns.items()}) for number, row in filled]


def _plain(heading: str) -> str:
    return re.sub(r"[\s_-]+", "_", visible(heading).strip().casefold())


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """All rows that are not blank, with their numbers; blank cells at a row's end are left out."""
    text = _text_of(path)
    said = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    text = text[said.end() :] if said else text
    usual = csv.field_size_limit(2**31 - 1)  # of the whole process
    number = 0
    try:
        heads = {
            mark: next(filter(any, csv.reader(io.StringIO(text, newline=""), delimiter=mark)), []) for mark in ",;\t|"
        }
        separator = said[1] if said else max(heads, key=lambda mark: len(heads[mark]))
        records = []
        for number, row in enumerate(_split(text, separator, strict=True), 1):
            cells = [as_written(cell) if cell.strip() else "" for cell in row]
            if any(cells):
                records.append((number, cells))
        return records
    except csv.Error as error:
        wrong = f"{error}; is there a quotation mark without its partner?"
        raise ValueError(f"{path}, below line {number}: {wrong}") from None
    finally:
        csv.field_size_limit(usual)


def _split(text: str, separator: str, *, strict: bool = False) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    form = next((form for start, form in FORMS.items() if content.startswith(start)), "")
    if not form and b"\0" in content:
        form = "is UTF-16, or no text"
    try:
        text = "" if form else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        form = "is not UTF-8"
    if form:
        raise ValueError(f"{path} {form}; {SAVE}")
    return text


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table whole, as UTF-8 that Excel knows, its cells harmless; columns that are not named are left out."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    # The mark at the start tells Excel that it is UTF-8.
    write(path, "\ufeff" + stream.getvalue())


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with runtime.written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
