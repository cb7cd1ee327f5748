"""CSV files: what spreadsheets make of them is read, what cannot be meant is named, and no cell is a formula."""

import csv
import io
import itertools
import random
import re

import pytest

from labkit.course import csv_file, report, roster
from labkit.course.report import marks

SIGNS = tuple("=+-@|%＝＋－＠")


def test_text_comes_back_and_no_cell_of_it_is_a_formula_whatever_separates_cells():
    dice = random.Random(0)
    for _ in range(3_000):
        text = "".join(dice.choices("';\n\t\" =-＝1a,", k=dice.randint(0, 9)))
        cell = csv_file.harmless(text)
        assert csv_file.as_written(cell) == text
        stream = io.StringIO(newline="")
        csv.writer(stream).writerow(["x", cell, "y"])
        for separator in ",;\t":
            read = csv.reader(io.StringIO(stream.getvalue(), newline=""), delimiter=separator)
            for bare in (part.lstrip(' \n"') for part in itertools.chain.from_iterable(read)):
                assert not bare.startswith(SIGNS) or re.fullmatch(r"-?[\d.,]+", bare), (text, separator)


def test_only_plain_numbers_are_marks():
    good = {"+1": 1, "-1.5": -1.5, "−1": -1, "\u00a07,5 ": 7.5, "7.": 7, ".5": 0.5, "٣": 3, "": None, " \t": None}
    assert {text: marks.mark_of(text, "here") for text in good} == good
    for text in (
        "inf",
        "-inf",
        "NaN",
        "1e9",
        "1e1",
        "7-May",
        "07. Mai",
        "7²",
        "1 000",
        "1_0",
        "0x7",
        "1000000",
        "7/",
        "- 1",
        "a",
        "–",
    ):
        with pytest.raises(ValueError, match=f"^here: '{re.escape(text)}'.*plain number"):
            marks.mark_of(text, "here")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"pseudonym": "p0", "instructor_points": "7"}, ["p0", "row 3"]),
        ({"pseudonym": "", "instructor_points": "7"}, ["no pseudonym"]),
        ({"instructor_points ": "7"}, ["two columns", "instructor_points"]),
    ],
)
def test_rows_of_nobody_or_of_one_person_twice_stop_the_run(tmp_path, columns, words):
    row = {"pseudonym": "p0", "instructor_points": "1", "instructor_comment": ""}
    with (tmp_path / "grades.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*row, *columns])), restval="")
        writer.writeheader()
        writer.writerows([row, row | columns])
    with pytest.raises(ValueError, match=r"grades\.csv") as error:
        report.read_marks(tmp_path / "grades.csv")
    assert [word for word in words if word not in str(error.value)] == []


def test_text_of_the_instructor_comes_back_unchanged_from_every_form(tmp_path):
    texts = [
        "'tis good",
        "=A1",
        "'=A1",
        "- a\n- b; =c",
        'x;"=1',
        "’‘",
        "a\tb",
        "  blanks  ",
        "1,5",
        "＝1",
        "",
        '""',
        "👩🏽\u200d🔬",
    ]
    rows = [{"pseudonym": f"p{number}", "instructor_comment": text} for number, text in enumerate(texts)]
    path = tmp_path / "grades.csv"
    for separator, mark in itertools.product(",;\t", ("", "\ufeff", "sep=")):
        csv_file.write_csv(path, ["Tutor", "pseudonym", "instructor_comment", "instructor_points"], rows)
        written = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
        stream = io.StringIO(newline="")
        csv.writer(stream, delimiter=separator).writerows(reversed(written[1:]) if mark else written[1:])
        head = separator.join(["Tutor", " Pseudonym ", "INSTRUCTOR_COMMENT", "instructor points"])
        start = f"sep={separator}\r\n" if mark == "sep=" else mark
        path.write_text(f"{start}{head}\r\n{stream.getvalue()}", encoding="utf-8", newline="")
        read = report.read_marks(path)
        assert [read[row["pseudonym"]]["instructor_comment"] for row in rows] == texts
        assert read["p0"]["Tutor"] == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04 a workbook", ["Excel workbook", "CSV UTF-8"]),
        (b"Vorname,ID-Nummer\nAnn,ann\n", ["Vorname, ID-Nummer", "student", "ID number", "SIS Login ID"]),
        (b"student,late_days\nann,two\n", ["line 2", "two", "whole number"]),
        (b"student\n1.23E+11\n", ["line 2", "1.23E+11"]),
        (b"student,canvas_id\nann,9\nbob,9\n", ["line 3", "canvas_id 9"]),
        (b"student,name\nann,Doe, Ann\n", ["line 2", "quotes"]),
        (b'student,name\nann,"Ann\nbob,Bob\n', ["quotation mark"]),
        (b"student,name\n", ["no students"]),
    ],
)
def test_roster_that_can_not_be_meant_is_named_with_the_rule(tmp_path, content, words):
    (tmp_path / "class.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"class\.csv") as error:
        roster.read_roster(tmp_path / "class.csv")
    assert [word for word in words if word not in str(error.value)] == []


def test_numbers_that_a_spreadsheet_gave_decimals_are_whole(tmp_path):
    (tmp_path / "class.csv").write_bytes(b"student,canvas_id,late_days\n12345.0,9001.0,2.0\n")
    (person,) = roster.read_roster(tmp_path / "class.csv")
    assert (person.student, person.canvas_id, person.late_days) == ("12345", "9001", 2)
