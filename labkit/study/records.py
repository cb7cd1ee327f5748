"""Records: what was found at each point, in CSV files that are only ever added to.

A record carries the number of the protocol that made it. Records of another protocol stay in the file, and are never
mixed with those of this one.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from labkit import runtime
from labkit.study.points import FIELDS, LONGEST, SORTS, WEIGHTS, Point, point_of, require, values_of

PROTOCOL = 2  # raise it when a change of code changes what a point gives
LIMITS = {"nonzero": WEIGHTS, "val_accuracy": 1, "test_accuracy": 1}  # from 0 on; those of the others are 10**15


@dataclass(frozen=True)
class Record:
    """What was found at a point.

    Attributes:
        point: what was run.
        nonzero: weights that are not zero.
        macs: multiply-adds for one image that do not multiply with a zero weight.
        bytes: of the sparse file.
        val_accuracy: on the 5,000 validation images, in [0, 1].
        test_accuracy: on the 10,000 test images, in [0, 1], after the last epoch.
        dead_layers: names of layers without any weight left, with spaces between them.
        dead_channels: output channels without any weight left, in all layers.
        hardware: processor, threads and precision.
        torch: its version.
        seconds: of training and pruning.
        protocol: number of the protocol.

    Raises:
        ValueError: a value of another type or out of range, or a text that is too long or has a carriage return.
    """

    point: Point
    nonzero: int
    macs: int
    bytes: int
    val_accuracy: float
    test_accuracy: float
    dead_layers: str
    dead_channels: int
    hardware: str
    torch: str
    seconds: float
    protocol: int = PROTOCOL

    def __post_init__(self) -> None:
        for field in FOUND:  # what csv writes could not be read again
            value, most, rule = getattr(self, field.name), LIMITS.get(field.name, 10**15), SORTS[field.type]
            if field.type is str:  # csv would not quote a carriage return
                fits = isinstance(value, str) and len(value) <= LONGEST and "\r" not in value
            else:
                rule = f"{rule} from 0 to {most:,}"
                fits = isinstance(value, (field.type, int)) and not isinstance(value, bool) and 0 <= value <= most
            require(field.name, value, fits, f"it must be {rule}")

    @property
    def software(self) -> str:
        """What the last digits depend on, apart from the processor: torch's version and the precision of training."""
        return software_of(self.torch, self.hardware)


def software_of(torch_version: str, hardware: str) -> str:
    """The version and the precision, from what ``torch.__version__`` and ``labkit.runtime.hardware`` say."""
    return f"torch {torch_version.partition('+')[0]}, {hardware.rpartition(', ')[2]}"


FOUND: tuple[Any, ...] = tuple(field for field in fields(Record) if field.name != "point")
COLUMNS = (*FIELDS, *(field.name for field in FOUND))


def read_records(path: Path, protocol: int | None = PROTOCOL) -> list[Record]:
    """Records of a file, of this protocol only (None: of all); an empty list if there is no file.

    Says how many records of other protocols are left out.

    Raises:
        ValueError: not such a file, a damaged line or a point that has a record already; the line is named.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")  # a spreadsheet that saves CSV sets a mark first
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} is not a file of records ({error})") from None
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: dict[tuple[Point, int], int] = {}  # of each point and protocol
    records = []
    try:
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            sort = "; it has semicolons, save it with commas" if ";" in "".join(header) else ""
            columns = ",".join(header)[:200] or "none"
            raise ValueError(f"its columns are {columns}; they must be {','.join(COLUMNS)}{sort}")
        for row in rows:
            if len(row) != len(COLUMNS):
                raise ValueError(f"{len(row)} values for {len(COLUMNS)} columns")
            values = dict(zip(COLUMNS, row, strict=True))
            record = Record(point_of(values), **values_of(values, FOUND))
            first = lines.setdefault((record.point, record.protocol), rows.line_num)
            if first != rows.line_num:
                raise ValueError(f"{record.point.name} has a record in line {first}; remove one of them")
            records.append(record)
        if not text.endswith("\n"):
            raise ValueError("the last line has no end; the file is incomplete")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {max(rows.line_num, 1)}: {error}; mend or move the file") from None
    chosen = [record for record in records if protocol in (None, record.protocol)]
    if len(chosen) < len(records):
        others = sorted({record.protocol for record in records} - {protocol})
        print(f"{path.name}: {len(records) - len(chosen)} records of protocol {others} left out, this is {protocol}")
    return chosen


def add_record(path: Path, record: Record) -> None:
    """Add one record to a file, which is made if need be and written whole or not at all.

    Raises:
        ValueError: the file is damaged, of another sort, or has a record of this point; it is not touched.
        OSError: the folder cannot be written or is full; the file is as it was.
    """
    records = read_records(path, protocol=None)
    if any((old.point, old.protocol) == (record.point, record.protocol) for old in records):
        raise ValueError(f"{path} has a record of {record.point.name} already; it is not added again")
    write_records(path, [*records, record])


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file of records, whole or not at all."""
    with runtime.written_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in records:
            point, *found = asdict(record).values()
            writer.writerow([*point.values(), *found])
