import contextlib
import csv
import dataclasses
import math
import resource
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_examples import DENSE, SMALL, points, record

from labkit.study import Point, add_record, read_records
from labkit.study.points import FIELDS, WEIGHTS
from labkit.study.records import COLUMNS, PROTOCOL, Record, write_records

WHOLE = ["seed", "target", "epochs", "augmented", "rewind", "nonzero", "macs", "bytes", "dead_channels", "protocol"]
# What a file in UTF-8 can hold, but for the line end of old Macs.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
TEXT = "a text without carriage returns, at most 1,000 long"  # the rule
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 10**9)
RECORDS = st.builds(
    Record,
    points(),
    nonzero=st.integers(0, WEIGHTS),
    macs=COUNTS,
    bytes=COUNTS,
    val_accuracy=SHARES,
    test_accuracy=SHARES,
    dead_layers=st.sampled_from(["", "conv1", "conv1 fc"]),
    dead_channels=st.integers(0, 234),
    hardware=TEXTS,
    torch=TEXTS,
    seconds=st.floats(0, 1e9),
    protocol=st.integers(1, 5),
)


def file_of(tmp_path, *records):
    path = tmp_path / "frontier.csv"
    write_records(path, records)
    return path


def with_value(path, column, value, line=2):
    """The same file with another value in a column of a line."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    rows[line - 1][COLUMNS.index(column)] = value
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def assert_refused(path, match):
    """Reading and adding fail, and nothing is changed."""
    before = path.read_bytes()
    with pytest.raises(ValueError, match=match):
        read_records(path)
    with pytest.raises(ValueError, match=match):
        add_record(path, record())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# Back and forth


@given(found=st.lists(RECORDS, max_size=4, unique_by=lambda one: (one.point, one.protocol)))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_come_back_as_they_were(tmp_path, found):
    assert read_records(file_of(tmp_path, *found), protocol=None) == found


@pytest.mark.parametrize(
    "text", ['a "b", c', "a\nb", "größer ≈ 1", "", " a ", "a,b", "'", "\N{LINE SEPARATOR}", "a\tb"]
)
def test_text_of_any_sort_comes_back(tmp_path, text):
    found = [record(hardware=text, torch=text), record(Point(seed=1))]
    assert read_records(file_of(tmp_path, *found)) == found


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "\r"])
def test_carriage_return_in_a_text_does_not_damage_the_file(tmp_path, text):
    path, wanted = file_of(tmp_path, record()), [record()]
    with contextlib.suppress(ValueError):  # it may be refused, too
        odd = record(Point(seed=1), hardware=text)
        add_record(path, odd)
        wanted.append(odd)
    assert read_records(path) == wanted


def test_numbers_come_back_bit_for_bit(tmp_path):
    found = record(val_accuracy=0.1 + 0.2, test_accuracy=1 / 3, seconds=5e-324)
    assert read_records(file_of(tmp_path, found)) == [found]


def test_records_are_added_one_at_a_time_in_their_order(tmp_path):
    path = tmp_path / "results" / "frontier.csv"
    found = [record(Point(seed=seed)) for seed in range(4)] + [record(Point(**DENSE)), record(Point(**SMALL))]
    for count, one in enumerate(found, 1):
        add_record(path, one)
        assert read_records(path) == found[:count]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_file_that_is_added_to_is_the_file_that_is_written_at_once(tmp_path):
    found = [record(Point(seed=seed), dead_layers="conv1 fc") for seed in range(3)]
    for one in found:
        add_record(tmp_path / "added.csv", one)
    assert (tmp_path / "added.csv").read_bytes() == file_of(tmp_path, *found).read_bytes()


def test_file_is_plain_csv_with_a_header_and_unix_lines(tmp_path):
    data = file_of(tmp_path, record(hardware="größer, 1 thread")).read_bytes()
    assert b"\r" not in data and data.endswith(b"\n")
    header, row = data.decode("utf-8").splitlines()
    assert header.split(",") == [*FIELDS, *(field.name for field in dataclasses.fields(Record)[1:])]
    assert '"größer, 1 thread"' in row


def test_no_file_and_a_file_of_no_records_have_none(tmp_path, capsys):
    assert read_records(tmp_path / "none.csv") == []
    assert not (tmp_path / "none.csv").exists()
    assert read_records(file_of(tmp_path)) == []
    assert capsys.readouterr().out == ""


def test_file_with_windows_lines_is_read(tmp_path):
    path = file_of(tmp_path, record(), record(Point(seed=1)))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_records(path) == [record(), record(Point(seed=1))]


# Damaged files


@pytest.mark.parametrize("cut", [1, 2, 10, 60])
def test_file_that_is_cut_short_is_refused_with_its_last_line(tmp_path, cut):
    path = file_of(tmp_path, record(), record(Point(seed=1)), record(Point(seed=2)))
    path.write_bytes(path.read_bytes()[:-cut])
    assert_refused(path, r"frontier\.csv, line 4: ")


def test_file_cut_short_anywhere_inside_a_line_is_refused(tmp_path):
    path = file_of(tmp_path, record(), record(Point(seed=1), hardware="two\nlines, and a comma"))
    data = path.read_bytes()
    second = len(data.splitlines(keepends=True)[0])
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        if end in (second, data.index(b"\n", second) + 1):
            assert len(read_records(path)) == (end > second)
        else:
            with pytest.raises(ValueError, match=r"frontier\.csv, line [1234]: "):
                read_records(path)


def test_quotation_that_does_not_end_is_refused(tmp_path):
    path = file_of(tmp_path, record(hardware="a, b"))
    path.write_text(path.read_text(encoding="utf-8").replace('b"', "b"), encoding="utf-8")
    assert_refused(path, r"frontier\.csv, line 2: ")


@pytest.mark.parametrize(
    "text", ["dataset,seed\nMNIST,0\n", "a;b\n", "\n", "no records\n", ",".join(reversed(COLUMNS)) + "\n", "\0\0\n"]
)
def test_file_with_another_header_is_refused(tmp_path, text):
    path = tmp_path / "frontier.csv"
    path.write_text(text, encoding="utf-8")
    assert_refused(
        path, r"frontier\.csv, line 1: its columns are .*; they must be dataset,seed,.*; mend or move the file"
    )


def test_header_of_an_older_version_is_refused(tmp_path):
    path = file_of(tmp_path, record())
    path.write_text(path.read_text(encoding="utf-8").replace(",protocol", ""), encoding="utf-8")
    assert_refused(path, r"frontier\.csv, line 1: its columns are dataset,")


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "frontier.csv"
    path.touch()
    assert_refused(path, r"frontier\.csv, line 1: its columns are none; they must be dataset,")


@pytest.mark.parametrize("data", [b"\xff\xfe\x00\x01", b"\x80" * 5_000, "größer".encode("latin-1"), b"\x1f\x8b\x08\0"])
def test_binary_rubbish_is_refused(tmp_path, data):
    path = tmp_path / "frontier.csv"
    path.write_bytes(data)
    assert_refused(path, r"frontier\.csv is not a file of records")


def test_binary_rubbish_in_the_middle_is_refused(tmp_path):
    path = file_of(tmp_path, record(), record(Point(seed=1)))
    data = path.read_bytes()
    path.write_bytes(data[:-40] + b"\xff\0\xfe" + data[-40:])
    assert_refused(path, r"frontier\.csv is not a file of records")


def test_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a file of records"):
        read_records(tmp_path)


@pytest.mark.parametrize("line", [2, 3, 4])
@pytest.mark.parametrize("how", ["too many", "too few", "blank"])
def test_line_with_a_wrong_number_of_values_is_named(tmp_path, line, how):
    path = file_of(tmp_path, *(record(Point(seed=seed)) for seed in range(3)))
    lines = path.read_text(encoding="utf-8").split("\n")
    old = lines[line - 1]
    lines[line - 1] = {"too many": f"{old},1", "too few": old.rpartition(",")[0], "blank": ""}[how]
    path.write_text("\n".join(lines), encoding="utf-8")
    count = {"too many": len(COLUMNS) + 1, "too few": len(COLUMNS) - 1, "blank": 0}[how]
    assert_refused(path, rf"frontier\.csv, line {line}: {count} values for {len(COLUMNS)} columns; mend or move")


def test_line_after_a_value_of_two_lines_is_counted_right(tmp_path):
    path = file_of(tmp_path, record(hardware="two\nlines"), record(Point(seed=1)))
    assert_refused(with_value(path, "nonzero", "-1", line=3), r"frontier\.csv, line 4: nonzero is -1")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("val_accuracy", "-0.1"),
        ("val_accuracy", "1.01"),
        ("val_accuracy", "nan"),
        ("test_accuracy", "99.1"),
        ("test_accuracy", "inf"),
        ("nonzero", "-1"),
        ("nonzero", "124449"),
        ("seconds", "-1.0"),
        ("seconds", "nan"),
        ("seconds", "inf"),
        ("macs", "-1"),
        ("bytes", "-1"),
        ("dead_channels", "-1"),
        ("protocol", "-1"),
        ("target", "3"),
        ("seed", "-1"),
        ("epochs", "1"),
        ("criterion", "taylor"),
        ("control", "small"),
    ],
)
def test_value_out_of_range_is_refused_with_its_line(tmp_path, column, value):
    path = with_value(file_of(tmp_path, record(), record(Point(seed=1))), column, value, line=3)
    name = "schedule" if column == "control" else column
    assert_refused(path, rf"frontier\.csv, line 3: {name} is .*; .*mend or move the file")


@pytest.mark.parametrize("column", [*WHOLE, "val_accuracy", "test_accuracy", "seconds"])
def test_what_is_no_number_is_refused_with_its_line_and_column(tmp_path, column):
    path = file_of(tmp_path, record())
    for value in ("", "x", "1,5", "0x10"):
        with_value(path, column, value)
        assert_refused(path, rf"frontier\.csv, line 2: {column} is '{value}'; it must be a (whole )?number")


@pytest.mark.parametrize("column", WHOLE)
def test_whole_number_with_a_point_is_refused(tmp_path, column):
    path = with_value(file_of(tmp_path, record()), column, "12.0")
    assert_refused(path, r"frontier\.csv, line 2: .*12\.0")


# Protocols


def test_records_of_another_protocol_stay_but_are_left_out_and_counted(tmp_path, capsys):
    old, new = record(protocol=PROTOCOL + 1), record(Point(seed=1))
    older = record(Point(seed=2), protocol=PROTOCOL + 2)
    path = file_of(tmp_path, old, new, older)
    assert read_records(path) == [new]
    out = capsys.readouterr().out
    assert out == f"frontier.csv: 2 records of protocol {[PROTOCOL + 1, PROTOCOL + 2]} left out, this is {PROTOCOL}\n"
    added = record(Point(seed=3))
    add_record(path, added)
    assert capsys.readouterr().out == ""
    assert read_records(path, protocol=None) == [old, new, older, added]
    assert capsys.readouterr().out == ""
    assert read_records(path, protocol=PROTOCOL + 2) == [older]


def test_nothing_is_said_if_nothing_is_left_out(tmp_path, capsys):
    read_records(file_of(tmp_path, record(), record(Point(seed=1))))
    assert capsys.readouterr().out == ""


def test_damaged_line_of_another_protocol_is_refused_too(tmp_path):
    path = with_value(file_of(tmp_path, record(protocol=9), record()), "nonzero", "-1")
    assert_refused(path, r"line 2: nonzero is -1")


def test_new_record_is_of_this_protocol():
    assert record().protocol == PROTOCOL


# Whole or not at all


def test_record_that_could_not_be_read_again_is_not_written(tmp_path):
    path = file_of(tmp_path, record())
    before = path.read_bytes()
    for changed in ({"val_accuracy": math.nan}, {"test_accuracy": 99.1}, {"nonzero": -1}, {"macs": -1}):
        with contextlib.suppress(ValueError):
            add_record(path, record(Point(seed=1), **changed))
        assert path.read_bytes() == before, changed


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("nonzero", 6000.0, "a whole number from 0 to 124,448"),
        ("nonzero", True, "a whole number from 0 to 124,448"),
        ("bytes", "9", "a whole number from 0 to 1,000,000,000,000,000"),
        ("macs", np.float64(3), "a whole number from 0 to 1,000,000,000,000,000"),
        ("macs", torch.tensor(3), "a whole number from 0 to 1,000,000,000,000,000"),
        ("protocol", 2.0, "a whole number from 0 to 1,000,000,000,000,000"),
        ("val_accuracy", torch.tensor(0.5), "a number from 0 to 1"),
        ("val_accuracy", None, "a number from 0 to 1"),
        ("seconds", True, "a number from 0 to 1,000,000,000,000,000"),
        ("dead_layers", ["conv1"], TEXT),
        ("dead_layers", None, TEXT),
        ("torch", 2.11, TEXT),
        ("hardware", "x" * 1_001, TEXT),
    ],
)
def test_value_of_another_type_is_refused(name, value, rule):
    with pytest.raises(ValueError, match=rf"^{name} is .*; it must be {rule}$"):
        record(**{name: value})


def test_second_record_of_a_point_is_refused_with_both_lines(tmp_path):
    path = file_of(tmp_path, record(), record(Point(seed=1)), record(nonzero=7))
    assert_refused(path, rf"frontier\.csv, line 4: {Point().name} has a record in line 2; remove one of them; mend")


def test_second_record_of_a_point_is_not_added(tmp_path):
    path = file_of(tmp_path, record(), record(Point(seed=1), protocol=9))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"has a record of {Point().name} already; it is not added again"):
        add_record(path, record(nonzero=7))
    assert path.read_bytes() == before
    add_record(path, record(Point(seed=1)))  # of another protocol there is one


def test_mark_that_a_spreadsheet_sets_first_is_read_over(tmp_path):
    path = file_of(tmp_path, record())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_records(path) == [record()]


def test_semicolons_of_a_spreadsheet_are_told(tmp_path):
    path = file_of(tmp_path, record())
    path.write_text(path.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    assert_refused(path, "it has semicolons, save it with commas")


def test_software_is_the_version_of_torch_and_the_precision():
    assert record(torch="2.15.0+cu132").software == "torch 2.15.0, float32 training"


@pytest.mark.parametrize("existing", [True, False])
def test_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path, existing):
    path = tmp_path / "frontier.csv"
    before = file_of(tmp_path, record()).read_bytes() if existing else None

    def broken():
        yield record()
        yield record(Point(seed=1))
        raise OSError("the power is gone")

    with pytest.raises(OSError, match="the power is gone"):
        write_records(path, broken())
    assert [file.name for file in tmp_path.iterdir()] == (["frontier.csv"] if existing else [])
    assert not existing or path.read_bytes() == before


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = file_of(tmp_path, *(record(Point(seed=seed)) for seed in range(20)))
    before = path.read_bytes()
    low, high = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, high))
        with pytest.raises(OSError):
            add_record(path, record(Point(seed=99)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (low, high))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["frontier.csv"]


def test_text_that_is_no_utf8_leaves_the_old_file_and_nothing_else(tmp_path):
    path = file_of(tmp_path, record())
    before = path.read_bytes()
    with pytest.raises(ValueError):
        add_record(path, record(Point(seed=1), hardware="\ud800"))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["frontier.csv"]


def test_folder_that_can_not_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("here", encoding="utf-8")
    with pytest.raises(OSError, match="cannot be written"):
        write_records(tmp_path / "file" / "frontier.csv", [record()])


def test_old_copy_of_the_file_is_not_written_through(tmp_path):
    path = file_of(tmp_path, record())
    shutil.copy(path, tmp_path / "copy.csv")
    (tmp_path / "link.csv").hardlink_to(path)
    add_record(path, record(Point(seed=1)))
    assert (tmp_path / "link.csv").read_bytes() == (tmp_path / "copy.csv").read_bytes()
    assert len(read_records(path)) == 2
