"""The class as it really arrives: each kind of honest submission is found, read and counted.

All kinds at once, varied, are in ``tests/slow/test_course_arrivals.py``.
"""

import csv
import io
import itertools
import json
import os
import random
import re
import zipfile
from functools import cache, partial
from pathlib import Path

import course_work
import pytest
import torch
from arrivals import (
    EDITORS,
    IDS,
    NAMED,
    NAMES,
    NETWORKS,
    PLATFORMS,
    TYPES,
    WORDS,
    Arrivals,
    Person,
    checked,
    make_work,
    person,
    put,
    questions,
    trained,
    zipped,
)
from matplotlib.figure import Figure
from typer.testing import CliRunner

import labkit
from labkit import cli, runtime
from labkit.course import students
from labkit.course.task import TASKS

pytestmark = pytest.mark.full

FEW = ("02_random_pruning", "09_mask_detective")
lean = partial(make_work, tasks=("01-prediction", "02-mask"))


def grade(*arguments):
    """The real command, without its figures, which take as long as all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda _, file, **__: file.write(NO_FIGURE))
        return invoked(*arguments)


NO_FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"></svg>'


def invoked(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["grade", *map(str, arguments), "--jobs", "1"])


def rows_of(out):
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def course_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("course") / "course.json"
    path.write_text(json.dumps(course_work.course()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def table(course_file):
    """Grades a class, and gives its rows."""

    def graded(made, bulk=False):
        root = made.folder.parent
        given = bulk_zip(made.folder, root / "bulk.zip") if bulk else made.folder
        roster = made.roster(root / "roster.csv")
        done = grade(given, "--out", root / "grades", "--course", course_file, "--roster", roster)
        assert done.exit_code == 0, done.output[-2_000:]
        return rows_of(root / "grades")

    return graded


def bulk_zip(folder, path):
    """A platform's own zip of a class."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path


def plain_person(number):
    """Somebody whose name is no difficulty."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    name = f"{letters[number % 26]}{letters[number // 26].lower()}"
    return Person(f"id{number:03}", f"Given{name} Family{name}", 9000 + number)


def class_of(tmp_path_factory, table, family, works, bulk=False):
    """A class in which each kind is one person: (class's rows, kind -> arrival)."""
    made = Arrivals(tmp_path_factory.mktemp("class") / "in", family)
    made.folder.mkdir()
    for kind, (who, done, place) in works.items():
        made.add(kind, who, done, place, random.Random(1))
    return table(made, bulk), {arrival.kind: arrival for arrival in made.arrivals}


def fine(graded, kind):
    """One kind of a graded class: nothing lost, nothing said without reason."""
    rows, arrivals = graded
    faults = arrivals[kind].faults(rows)
    assert not faults, "; ".join(faults)[:700]


# Editors


@pytest.fixture(scope="module")
def edited(tmp_path_factory, table):
    works = {
        name: (who := plain_person(number), lean(who, editor=name, only=(*FEW, "07_smaller_and_faster")), "labs_ID.zip")
        for number, name in enumerate(EDITORS)
    }
    return class_of(tmp_path_factory, table, "by mail", works)


@pytest.mark.parametrize("name", EDITORS)
def test_answers_and_points_do_not_depend_on_the_editor(edited, name):
    fine(edited, name)


# Words

SAID = {words[:20]: words for words in WORDS} | {
    "5,600 characters": "A sentence of an answer that goes on and on. " * 125,
    "9,000 characters": "很长的答案。" * 1_500,
}


@pytest.fixture(scope="module")
def worded(tmp_path_factory, table):
    works = {
        kind: (who := plain_person(number), lean(who, words=words, only=FEW), "labs_ID.zip")
        for number, (kind, words) in enumerate(SAID.items())
    }
    return class_of(tmp_path_factory, table, "by mail", works)


@pytest.mark.parametrize("words", SAID)
def test_answers_are_found_in_every_language_and_length(worded, words):
    fine(worded, words)


# Platforms


def placed(tmp_path_factory, table, family, bulk=False):
    works = {
        place: (who := plain_person(number), lean(who, only=FEW, manifest=manifest_of(place)), place)
        for number, place in enumerate(PLATFORMS[family])
    }
    return class_of(tmp_path_factory, table, family, works, bulk)


def manifest_of(place):
    """Whoever hands in by a platform need not have packed; by mail, the name of the file tells."""
    return place == "a zip in a folder of another name"


# Name -> platform, and whether its own zip of the whole class is graded.
CLASSES = {
    "mailed": ("by mail", False),
    "of_canvas": ("Canvas", False),
    "of_canvas_zip": ("Canvas", True),
    "of_moodle": ("Moodle", False),
    "of_moodle_zip": ("Moodle", True),
}


@pytest.fixture(scope="module")
def class_named(tmp_path_factory, table):
    """Name -> rows and arrivals, graded once."""
    return cache(lambda name: placed(tmp_path_factory, table, *CLASSES[name]))


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name, (family, bulk) in CLASSES.items() for place in PLATFORMS[family]],
)
def test_what_a_platform_hands_out_is_graded(class_named, name, place):
    fine(class_named(name), place)


@pytest.mark.parametrize("name", CLASSES)
def test_nobody_is_made_of_junk(class_named, name):
    rows, arrivals = class_named(name)
    assert {row["student"] for row in rows} - {arrival.person.student for arrival in arrivals.values()} == set()


# Names


@pytest.fixture(scope="module")
def named_by_canvas(tmp_path_factory, table):
    people = [Person(f"id{number}", name, 9000 + number) for number, name in enumerate(NAMES)]
    works = {
        f"{number} {who.name}": (who, lean(who, only=FEW, manifest=False), "NAME_ID_N_labs_ID.zip")
        for number, who in enumerate(people)
    }
    return class_of(tmp_path_factory, table, "Canvas", works)


@pytest.fixture(scope="module")
def named_by_moodle(tmp_path_factory, table):
    people = [Person(f"id{number}", name, 9000 + number) for number, name in enumerate(NAMES)]
    works = {
        f"{number} {who.name}": (
            who,
            lean(who, only=FEW, manifest=False),
            "NAME_N_assignsubmission_file_/labs.zip",
        )
        for number, who in enumerate(people)
    }
    return class_of(tmp_path_factory, table, "Moodle", works, bulk=True)


@pytest.mark.parametrize("name", [f"{number} {name}" for number, name in enumerate(NAMES)])
def test_canvas_name_of_any_language_is_whose_it_is(named_by_canvas, name):
    fine(named_by_canvas, name)


@pytest.mark.parametrize("name", [f"{number} {name}" for number, name in enumerate(NAMES)])
def test_moodle_name_of_any_language_is_whose_it_is(named_by_moodle, name):
    fine(named_by_moodle, name)


@pytest.fixture(scope="module")
def with_ids(tmp_path_factory, table):
    works = {
        form: (who := person(number), lean(who, only=FEW, manifest=False), "labs_ID.zip")
        for number, form in enumerate(IDS)
    }
    return class_of(tmp_path_factory, table, "by mail", works)


@pytest.mark.parametrize("form", IDS)
def test_id_of_any_form_is_found_in_the_name_of_the_file(with_ids, form):
    fine(with_ids, form)


# Types of answers


@cache
def right(task):
    start = course_work.base(0)
    value, before = course_work.answers_of(start, "anybody")[task]
    return value, start if before is not None else None


TYPED = ("01-prediction", "01-work", "02-mask", "03-masks", "04-masks")


@pytest.mark.parametrize("name", TYPES)
def test_right_answer_of_any_type_gets_full_points_and_is_kept(name):
    lost = []
    for task in TYPED:
        value, base = right(task)
        points, kept = checked(task, TYPES[name](value), base)
        if points != TASKS[task].points or kept is None:
            lost.append(f"{task}: {points:g} of {TASKS[task].points:g}")
    assert not lost, "; ".join(lost)


# Saved networks


@pytest.fixture(scope="module")
def networked(tmp_path_factory, table):
    works = {
        name: (
            who := plain_person(number),
            lean(who, only=FEW, network=name, networks=("CNN_MNIST_L1",)),
            "labs_ID.zip",
        )
        for number, name in enumerate(NETWORKS)
    }
    return class_of(tmp_path_factory, table, "by mail", works)


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_network_is_read_or_named(networked, name):
    fine(networked, name)


# The same kinds of trouble elsewhere: tables, people, limits


@pytest.fixture
def class_in(tmp_path, course_file):
    """Grades a folder with a roster's text: (result of the command, rows, folder of the grades)."""

    def graded(folder, roster="", *options, out="grades"):
        if roster:
            (tmp_path / "class.csv").write_bytes(roster if isinstance(roster, bytes) else roster.encode())
            options = (*options, "--roster", tmp_path / "class.csv")
        done = grade(folder, "--out", tmp_path / out, "--course", course_file, *options)
        table = tmp_path / out / "grades.csv"
        return done, rows_of(tmp_path / out) if table.exists() else [], tmp_path / out

    return graded


def tiny(who, **more):
    """A zip of next to nothing: one notebook and one number."""
    return zipped(make_work(who, only=FEW[1:], tasks=("01-prediction",), **more).files)


ANN, BOB = Person("ann", "Ann Alpha", 9001), Person("bob", "Bob Beta", 9002)


@cache
def tiny_zip(who):
    return tiny(who)


@pytest.fixture
def two(tmp_path):
    """A folder with the zips of Ann and Bob."""
    for who in (ANN, BOB):
        put(tmp_path / "in" / f"labs_{who.student}.zip", tiny_zip(who))
    return tmp_path / "in"


def of(rows, student):
    return next(row for row in rows if row["student"] == student)


# Numbers of the platforms (12, 21)

BOTH = "student,name,canvas_id,moodle_id\nann,Ann Alpha,90001,400123\nbob,Bob Beta,90002,90001\n"


def tables_of(out):
    """All CSVs of the folder of grades: name -> rows."""
    found = {}
    for path in sorted(out.glob("*.csv")):
        found[path.name] = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    return found


def test_gradebook_of_canvas_has_canvas_own_numbers(two, class_in):
    _, _, out = class_in(two, BOTH)
    head, *rows = tables_of(out)["gradebook.csv"]
    numbers = {row[head.index("SIS Login ID")]: row[head.index("ID")] for row in rows}
    assert (numbers["ann"], numbers["bob"]) == ("90001", "90002")


def test_file_of_moodle_has_moodles_own_numbers_and_no_row_that_is_nobody(two, class_in):
    _, _, out = class_in(two, BOTH)
    own = {name: rows for name, rows in tables_of(out).items() if name != "gradebook.csv" and "400123" in str(rows)}
    assert own
    for rows in own.values():
        assert len({len(row) for row in rows}) == 1
        assert "Points Possible" not in str(rows)
        assert "90002" not in str(rows)
        assert [row for row in rows if "400123" in row and "ann" in str(row).lower()]


def test_moodles_file_is_taken_by_its_import_and_has_the_comments(two, class_in):
    _, _, out = class_in(two, BOTH + "cyd,Cyd Gamma,90003,400125\n")
    with_marks(out, instructor_points="2,5", instructor_comment="- good; but\nwhy?")
    class_in(two, BOTH + "cyd,Cyd Gamma,90003,400125\n")
    with (out / "gradebook-moodle.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["ID number"], row["Identifier"], row["Grade"]) for row in rows] == [
        ("ann", "Participant 400123", "3.5"),
        ("bob", "Participant 90001", "1.0"),
    ]
    assert [row["Feedback comments"].replace("'", "") for row in rows] == ["- good; but\nwhy?", ""]


def test_points_possible_are_all_that_can_be_reached_and_more_is_a_flag(two, class_in):
    _, _, out = class_in(two)
    possible = float(tables_of(out)["gradebook.csv"][1][-1])
    assert possible == sum(task.points for task in TASKS.values()) + 2 * len(questions())
    with_marks(out, instructor_points=str(possible))
    _, rows, _ = class_in(two)
    assert f"more than the {possible:g} that can be reached" in of(rows, "ann")["flags"]
    assert of(rows, "bob")["flags"] == ""


def test_number_of_moodle_tells_nobody_in_a_file_of_canvas(tmp_path, class_in):
    put(tmp_path / "in" / "alphaann_90001_70001_labs.zip", tiny(ANN, manifest=False))
    people = "student,name,canvas_id,moodle_id\nann,,90001,\nbob,,90002,90001\n"
    _, rows, _ = class_in(tmp_path / "in", people)
    assert of(rows, "ann")["points"] == "1.0"
    assert of(rows, "bob")["points"] == ""


# Marks (11)


def with_marks(out, **columns):
    """Write into the first row of grades.csv; columns that are new come at the end."""
    rows = rows_of(out)
    rows.sort(key=lambda row: row["student"])
    rows[0] |= columns
    with (out / "grades.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys([*rows[0], *rows[-1]])), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return rows[0]


def snapshot(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "mark", ["8/10", "12.5 pts", "EX", "½", "1.234,5", "nan", "100%", "inf", "1e9", "1e1", "7-May", "7²"]
)
def test_a_mark_that_is_no_number_stops_the_run_and_is_named(two, class_in, mark):
    _, _, out = class_in(two)
    row = with_marks(out, instructor_points=mark)
    before = snapshot(out)
    done, _, _ = class_in(two)
    assert done.exit_code != 0
    assert mark in done.output
    assert any(word in done.output for word in (row["student"], row["pseudonym"], "line 2", "row 2", "row 1"))
    assert snapshot(out) == before


@pytest.mark.parametrize(("mark", "total"), [("2,5", 3.5), (" 7 ", 8), ("0", 1), ("2.50", 3.5)])
def test_a_mark_that_is_a_number_counts(two, class_in, mark, total):
    _, _, out = class_in(two)
    with_marks(out, instructor_points=mark)
    done, _, _ = class_in(two)
    assert done.exit_code == 0, done.output
    rows = tables_of(out)["gradebook.csv"]
    assert [float(row[-1]) for row in rows if "ann" in row] == [total]


def test_columns_of_the_instructors_own_stay(two, class_in):
    _, _, out = class_in(two)
    with_marks(out, tutor="Tom", **{"second look": "yes; by =Zoe"})
    for _ in range(2):
        done, rows, _ = class_in(two)
        assert done.exit_code == 0, done.output
    assert (of(rows, "ann")["tutor"], of(rows, "bob")["tutor"]) == ("Tom", "")
    assert of(rows, "ann")["second look"].replace("'", "") == "yes; by =Zoe"


def test_columns_stay_where_the_instructor_has_put_them(two, class_in):
    _, rows, out = class_in(two)
    order = ["second look", *reversed(rows[0]), "tutor"]
    with (out / "grades.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, order, restval="", delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    done, _, _ = class_in(two)
    assert done.exit_code == 0, done.output
    assert tables_of(out)["grades.csv"][0] == order


# Rosters (10, 37)

ROSTERS = {
    "a mark of UTF-8, CR LF": "\ufeffstudent,name\r\nann,Ann Müller\r\nbob,Bob\r\n",
    "semicolons": "student;name\nann;Ann Müller\nbob;Bob\n",
    "tabs": "student\tname\nann\tAnn Müller\nbob\tBob\n",
    "a line sep=;": "sep=;\nstudent;name\nann;Ann Müller\nbob;Bob\n",
    "a blank last row": "student,name\nann,Ann Müller\nbob,Bob\n,\n,\n",
    "a blank row within": "student,name\nann,Ann Müller\n\n,\nbob,Bob\n",
    "capitals in the header": "Student,Name\nann,Ann Müller\nbob,Bob\n",
    "blanks in the header": " student , name \nann,Ann Müller\nbob,Bob\n",
    "late days with a decimal": "student,name,late_days\nann,Ann Müller,2.0\nbob,Bob,\n",
    "a short row": "student,name\nann,Ann Müller\nbob\n",
    "semicolons at the ends": "student;name;\nann;Ann Müller;\nbob;Bob;\n",
    "capital IDs": "student,name\nANN,Ann Müller\nBob,Bob\n",
    "Canvas's own export": "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Labs (123)\n"
    '    Points Possible,,,,,70\n"Müller, Ann",9001,x1,ann,S1,\n"Beta, Bob",9002,x2,bob,S1,\n',
}
ROSTERS |= {
    "Canvas's own export, a row of manual posting": "\ufeffStudent;ID;SIS User ID;SIS Login ID;Section;Labs\n"
    ";;;;;Manual Posting\n    Points Possible;;;;;70\n"
    '"Müller, Ann";9001;x1;ann;S1 and S2;\n"Beta, Bob";9002;x2;bob;S1;\n"Student, Test";9003;;0fa0;S1;\n',
    "Canvas's own export, two columns for the name": "LastName,FirstName,ID,SIS Login ID,Section\n"
    "    Points Possible,,,,\nMüller,Ann,9001,ann,S1\nBeta,Bob,9002,bob,S1\n",
    "Moodle's participants": '\ufeff"First name","Last name","ID number","Email address"\n'
    "Ann,Müller,ann,a@uni.example\nBob,Beta,bob,b@uni.example\n",
    "Moodle's grading worksheet": 'Identifier,"Full name","ID number","Email address",Status,Grade\n'
    '"Participant 9001","Ann Müller",ann,,,\n"Participant 9002","Bob Beta",bob,,,\n',
    "a quoted line break": 'student,name\nann,"Ann\nMüller"\nbob,Bob\n',
    "hidden characters": "student,name\n\u200bann,Ann\u00a0Müller\u200e\n\ufeffbob,Bob\n",
    "old Macintosh": "student,name\rann,Ann Müller\rbob,Bob\r",
}


@pytest.mark.parametrize("form", ROSTERS)
def test_roster_as_spreadsheets_and_platforms_write_it_is_read(two, class_in, form):
    done, rows, _ = class_in(two, ROSTERS[form])
    assert done.exit_code == 0, done.output
    assert {row["student"]: row["flags"] for row in rows} == {"ann": "", "bob": ""}
    assert {"ann", "müller"} <= set(of(rows, "ann")["name"].lower().replace(",", " ").split())


@pytest.mark.parametrize("coding", ["cp1252", "utf-16"])
def test_roster_of_another_coding_is_named_with_how_to_save_it(two, class_in, coding):
    done, _, out = class_in(two, "student;name\nann;Ann Müller\n".encode(coding))
    assert done.exit_code == 2
    assert "class.csv" in done.output.replace("\n", "")
    assert "UTF-8" in done.output
    assert not out.exists()


# Words that a spreadsheet or a page must not take for more (36)


def shown_answer(tmp_path, class_in, text):
    who = ANN
    put(tmp_path / "in" / "labs_ann.zip", tiny(who, words=text))
    done, _, out = class_in(tmp_path / "in")
    assert done.exit_code == 0, done.output
    return (out / "grades.csv").read_text(encoding="utf-8-sig")


SIGNS = "=+-@|%＝＋－＠"


@pytest.mark.parametrize(
    "text",
    [
        "x;=1+1;y",
        """x;"=cmd|' /C calc'!A0;y""",
        "x;＝1+1;y",
        'x;""＝1+1;y',
        "＝1+1",
        "x\t=1+1",
    ],
)
def test_no_cell_is_a_formula_whatever_separates_cells(tmp_path, class_in, text):
    content = shown_answer(tmp_path, class_in, text)
    for separator in (",", ";", "\t"):
        for cell in itertools.chain.from_iterable(csv.reader(io.StringIO(content), delimiter=separator)):
            bare = cell.lstrip(' \n"')
            assert not bare.startswith(tuple(SIGNS)) or re.fullmatch(r"-?[\d.,]+", bare)


def test_no_control_character_comes_into_the_table(tmp_path, class_in):
    content = shown_answer(tmp_path, class_in, "bell \x07, escape \x1b[31m, \x0b, \x85, \u202eturned")
    assert [character for character in content if character < " " and character not in "\r\n\t"] == []
    assert not {"\x7f", "\x85", "\u202e"} & set(content)


def test_many_bad_paths_are_twenty_and_so_many_more(tmp_path, class_in):
    stream = io.BytesIO(tiny(ANN))
    with zipfile.ZipFile(stream, "a") as archive:
        for number in range(19_000):
            archive.writestr(f"../../{number}", b"")
    put(tmp_path / "in" / "labs_ann.zip", stream.getvalue())
    _, rows, _ = class_in(tmp_path / "in")
    flags = of(rows, "ann")["flags"]
    assert flags.count("../../") <= 25
    assert "18,980" in flags or "19,000" in flags or "18980" in flags


# Who is there, and who is not (40, 33, 14)


def test_who_is_in_the_group_of_a_submission_is_not_absent(tmp_path, class_in):
    put(tmp_path / "in" / "labs_ann.zip", tiny(ANN))
    _, _, out = class_in(tmp_path / "in", "student,name,group\nann,Ann,G1\ntim,Timothy,G1\nzoe,Zoe,G2\n")
    page = (out / "index.html").read_text(encoding="utf-8")
    absent = page[page.index("Nothing handed in") :].split("</p>")[0]
    assert "Zoe" in absent
    assert "Timothy" not in absent


def test_only_notebooks_is_a_flag(tmp_path, class_in):
    done = make_work(ANN, only=FEW, tasks=())
    put(tmp_path / "in" / "labs_ann.zip", zipped(done.files))
    _, rows, _ = class_in(tmp_path / "in")
    row = of(rows, "ann")
    assert float(row["points"]) == 0
    assert row["flags"]


def dated(who, day, **more):
    done = make_work(who, only=FEW[1:], **{"tasks": ("01-prediction",)} | more)
    told = json.loads(done.files["manifest.json"])
    return done.files | {"manifest.json": json.dumps(told | {"packed": f"2026-11-{day}T12:00:00+00:00"}).encode()}


def test_newest_counts_where_the_id_itself_ends_in_a_number(tmp_path, class_in):
    who = Person("s2026-12", "Ana Alpha", 9001)
    old, new = dated(who, "01"), dated(who, "08", tasks=("01-prediction", "02-mask"))
    put(tmp_path / "in" / "alphaana_9001_70001_labs_s2026-12.zip", zipped(old))
    put(tmp_path / "in" / "alphaana_9001_70055_labs_s2026-12-1.zip", zipped(new))
    _, rows, _ = class_in(tmp_path / "in", 'student,name,canvas_id\ns2026-12,"Alpha, Ana",9001\n')
    assert [row["points"] for row in rows] == ["3.0"]
    assert "labs_s2026-12.zip" in rows[0]["flags"]


def test_a_zip_whose_id_is_anothers_does_not_replace_that_persons(tmp_path, class_in):
    put(tmp_path / "in" / "labs_ann.zip", zipped(dated(ANN, "01", tasks=("01-prediction", "02-mask"))))
    put(tmp_path / "in" / "labs_bob.zip", zipped(dated(ANN, "08")))
    _, rows, _ = class_in(tmp_path / "in")
    assert sorted(float(row["points"]) for row in rows) == [1.0, 3.0]
    assert "3.0" in [row["points"] for row in rows if row["student"] == "ann"]
    assert any("bob" in row["flags"] for row in rows)


def test_equal_names_are_two_people(tmp_path, class_in):
    twins = [Person("ann1", "Ann Alpha", 9001), Person("ann2", "Ann Alpha", 9002)]
    for number, who in enumerate(twins):
        place = f"Ann Alpha_{who.number}_assignsubmission_file_"
        put(tmp_path / "in" / place / "labs.zip", zipped(dated(who, f"0{1 + number}")))
    _, rows, _ = class_in(tmp_path / "in", "student,name,moodle_id\nann1,Ann Alpha,9001\nann2,Ann Alpha,9002\n")
    assert {row["student"]: row["points"] for row in rows} == {"ann1": "1.0", "ann2": "1.0"}


# One file does not stop the others (6)


def test_a_file_that_can_not_be_unpacked_is_named_as_whose_it_is(tmp_path, class_in):
    put(tmp_path / "in" / "labs_ann.7z", b"7z\xbc\xaf\x27\x1c rest")
    put(tmp_path / "in" / "labs_bob.zip", tiny(BOB))
    _, rows, _ = class_in(tmp_path / "in", "student,name\nann,Ann\nbob,Bob\n")
    assert (of(rows, "bob")["points"], of(rows, "bob")["flags"]) == ("1.0", "")
    assert "nothing handed in" not in of(rows, "ann")["flags"]
    assert "7z" in of(rows, "ann")["flags"]


def in_bulk(tmp_path, files):
    path = tmp_path / "bulk.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_name_of_110_chinese_characters_does_not_stop_the_run(tmp_path, class_in):
    long = f"{'深' * 110}_9001_70001_labs.zip"
    bulk = in_bulk(tmp_path, {long: tiny(ANN, manifest=False), "betabob_9002_70002_labs.zip": tiny(BOB)})
    done, rows, _ = class_in(bulk, f"student,name,canvas_id\nann,{'深' * 110},9001\nbob,Bob Beta,9002\n")
    assert done.exit_code == 0, done.output
    assert {row["student"]: row["points"] for row in rows} == {"ann": "1.0", "bob": "1.0"}


def test_one_unreadable_zip_in_a_bulk_zip_does_not_stop_the_run(tmp_path, class_in):
    files = {"alphaann_9001_70001_labs.zip": tiny(ANN), "betabob_9002_70002_labs.zip": tiny(BOB)}
    bulk = in_bulk(tmp_path, files)
    content = bytearray(bulk.read_bytes())
    place = content.index(files["alphaann_9001_70001_labs.zip"][:40])
    content[place + 200] ^= 0xFF
    bulk.write_bytes(content)
    done, rows, _ = class_in(bulk, "student,name,canvas_id\nann,Ann Alpha,9001\nbob,Bob Beta,9002\n")
    assert done.exit_code == 0, done.output
    assert of(rows, "bob")["points"] == "1.0"
    assert of(rows, "ann")["flags"]
    assert "nothing handed in" not in of(rows, "ann")["flags"]


def test_a_file_and_a_folder_of_one_name_do_not_stop_the_run(tmp_path, class_in):
    bulk = in_bulk(tmp_path, {"ann": b"x", "ann/labs_ann.zip": tiny(ANN), "labs_bob.zip": tiny(BOB)})
    done, rows, _ = class_in(bulk, "student,name\nann,Ann\nbob,Bob\n")
    assert done.exit_code == 0, done.output
    assert {row["student"]: row["points"] for row in rows if row["student"]} == {"ann": "1.0", "bob": "1.0"}


# Points that nobody earned (7)


def noisy(network, size, seed=0):
    """A copy whose numbers are moved by next to nothing."""
    copied = labkit.clone(network)
    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in copied.parameters():
            tensor += size * torch.randn(tensor.shape, generator=dice)
    return copied


def handed_in(folder, who, networks, **seeds):
    """A zip of networks and one notebook, as labkit saves them."""
    files = make_work(who, only=FEW[1:], tasks=()).files
    seed = students.seed_of(who.student, course_work.SALT)
    for name, network in networks.items():
        path = labkit.save_network(network, folder.parent / "saved.pth", seed=seed, **seeds)
        files[f"models/{name}.pth"] = path.read_bytes()
    put(folder / f"labs_{who.student}.zip", zipped(files))


def derived(start):
    """Networks that follow from one, but for the dice."""
    return {
        "CNN_MNIST": start,
        "CNN_MNIST_L1": course_work.pruned(start, course_work.prune.l1_unstructured, amount=0.25),
    }


def flags_about(row, name):
    return [flag for flag in row["flags"].split("; ") if re.search(rf"{name}\b", flag)]


def test_reference_with_a_little_noise_is_flagged_and_keeps_its_points(tmp_path, class_in):
    reference = labkit.load_network(runtime.reference_dir() / "CNN_MNIST.pth")
    handed_in(tmp_path / "in", ANN, derived(noisy(reference, 1e-6)))
    _, rows, _ = class_in(tmp_path / "in")
    row = of(rows, "ann")
    assert float(row["points"]) >= 8
    assert any("reference" in flag for flag in flags_about(row, "CNN_MNIST"))


def test_networks_of_a_friend_with_a_little_noise_are_flagged_at_both(tmp_path, class_in):
    start = trained(0)
    handed_in(tmp_path / "in", ANN, derived(start))
    handed_in(tmp_path / "in", BOB, derived(noisy(start, 1e-7)))
    _, rows, _ = class_in(tmp_path / "in")
    pseudonyms = {row["student"]: row["pseudonym"] for row in rows}
    for one, other in (("ann", "bob"), ("bob", "ann")):
        assert float(of(rows, one)["points"]) >= 8
        assert any(pseudonyms[other] in flag for flag in flags_about(of(rows, one), "CNN_MNIST"))


def test_the_same_random_masks_in_two_networks_are_flagged_at_both(tmp_path, class_in):
    for who, start in ((ANN, course_work.base(1)), (BOB, course_work.base(2))):
        networks = {"CNN_MNIST": start, "CNN_MNIST_RND": course_work.at_random(start, 7)}
        handed_in(tmp_path / "in", who, networks)
    _, rows, _ = class_in(tmp_path / "in")
    for one in ("ann", "bob"):
        assert flags_about(of(rows, one), "CNN_MNIST_RND")


def test_random_masks_of_ones_own_are_not_flagged(tmp_path, class_in):
    for number, (who, start) in enumerate(((ANN, trained(0)), (BOB, trained(1)))):
        networks = {"CNN_MNIST": start, "CNN_MNIST_RND": course_work.at_random(start, number)}
        handed_in(tmp_path / "in", who, networks)
    _, rows, _ = class_in(tmp_path / "in")
    assert {row["student"]: row["flags"] for row in rows} == {"ann": "", "bob": ""}


@pytest.mark.parametrize(
    ("name", "pattern", "noise"),
    [
        ("CNN_MNIST_SMALL", "small/fast_0.lks", 0),
        ("CNN_MNIST_SMALL", "small/fast_0.lks", 1e-6),
        ("CNN_MNIST_GOLF", "frontier/MNIST_lamp*_622_e4_s0.lks", 1e-6),
    ],
)
def test_committed_small_and_golf_networks_are_flagged(tmp_path, class_in, name, pattern, noise):
    network = labkit.load_sparse(next(runtime.reference_dir().glob(pattern)))
    handed_in(tmp_path / "in", ANN, {name: noisy_where_not_zero(network, noise)})
    _, rows, _ = class_in(tmp_path / "in")
    words = re.compile(r"\.lks|project's own|committed|reference")
    assert any(words.search(flag) for flag in flags_about(of(rows, "ann"), name))


def noisy_where_not_zero(network, size):
    changed = noisy(network, size)
    with torch.no_grad():
        for name, tensor in changed.named_parameters():
            tensor *= dict(network.named_parameters())[name] != 0
    return changed


# What is saved can be loaded (01, 03, 04, 15, 19)


def compiled(network):
    return torch.compile(network, backend="eager")


def with_pruned_batchnorm(network):
    made = labkit.clone(network)
    course_work.prune.l1_unstructured(made.batch2, "weight", amount=0.5)
    return made


def with_pruned_bias(network):
    made = labkit.clone(network)
    course_work.prune.l1_unstructured(made.fc, "bias", amount=0.5)
    return made


@pytest.mark.parametrize(
    "change",
    [
        labkit.clone,
        compiled,
        torch.nn.DataParallel,
        with_pruned_batchnorm,
        with_pruned_bias,
    ],
)
def test_what_is_saved_can_be_loaded_or_is_refused_at_once(tmp_path, change):
    network = course_work.base(0)
    network.eval()
    images = torch.rand(4, 1, 28, 28)
    path = tmp_path / "network.pth"
    try:
        labkit.save_network(change(network), path)
    except (ValueError, TypeError) as error:
        assert str(error)
        assert not path.exists()
        return
    loaded = labkit.load_network(path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), change(network).eval()(images))


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "format before torch 1.6"])
def test_network_of_another_form_is_loaded_or_named(tmp_path, name):
    network = course_work.base(0)
    put(tmp_path / "network.pth", NETWORKS[name](network, 1))
    try:
        loaded = labkit.load_network(tmp_path / "network.pth")
    except ValueError as error:
        assert re.search(NAMED[name], str(error))
        return
    torch.testing.assert_close(loaded.conv1.weight, network.conv1.weight)


def test_a_refused_chmod_costs_nothing(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    for owner, name in ((os, "chmod"), (os, "fchmod"), (Path, "chmod")):
        monkeypatch.setattr(owner, name, refused)
    network = course_work.base(0)
    path = labkit.save_network(network, tmp_path / "network.pth")
    torch.testing.assert_close(labkit.load_network(path).fc.weight, network.fc.weight)


def test_home_in_the_name_of_a_folder_is_ones_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("LABKIT_MODELS", "~/models")
    monkeypatch.chdir(tmp_path)
    labkit.save_network(course_work.base(0), "CNN_MNIST")
    assert (tmp_path / "home" / "models" / "CNN_MNIST.pth").exists()
    assert not (tmp_path / "~").exists()


def half_of(layer, name="weight"):
    course_work.prune.l1_unstructured(layer, name, amount=0.5)
    return layer


# Layers with a masked weight: the model, and the share of zeros in all weights of masked and of prunable layers.
MASKED = {
    "Conv1d": lambda: torch.nn.Sequential(half_of(torch.nn.Conv1d(4, 8, 3)), torch.nn.Linear(8, 4)),
    "Conv3d": lambda: torch.nn.Sequential(half_of(torch.nn.Conv3d(1, 2, 3)), torch.nn.Linear(8, 4)),
    "ConvTranspose2d": lambda: torch.nn.Sequential(
        half_of(torch.nn.ConvTranspose2d(2, 4, 3)), torch.nn.Conv2d(4, 4, 3)
    ),
    "LSTM": lambda: torch.nn.Sequential(half_of(torch.nn.LSTM(4, 8), "weight_hh_l0"), torch.nn.Linear(8, 4)),
    "Embedding": lambda: torch.nn.Sequential(half_of(torch.nn.Embedding(10, 4)), torch.nn.Linear(4, 4)),
    "MultiheadAttention": lambda: torch.nn.Sequential(half_of(torch.nn.MultiheadAttention(8, 2), "in_proj_weight")),
}


@pytest.mark.parametrize("kind", MASKED)
def test_sparsity_counts_every_masked_layer_or_refuses_it_by_name(kind):
    model = MASKED[kind]()
    masks = {name: mask for name, mask in model.named_buffers() if name.endswith("_mask")}
    (zeros,) = [int((mask == 0).sum()) for mask in masks.values()]
    try:
        share = labkit.sparsity(model)
    except ValueError as error:
        assert kind in str(error)
        return
    matrices = sum(tensor.numel() for name, tensor in model.named_parameters() if "bias" not in name)
    plain = sum(layer.weight.numel() for layer in labkit.prunable_layers(model).values() if is_plain(layer))
    masked = sum(mask.numel() for mask in masks.values())
    assert share in (pytest.approx(zeros / matrices), pytest.approx(zeros / (plain + masked)))


def is_plain(layer):
    return not hasattr(layer, "weight_mask")


# pack


def test_pack_lists_the_answers_that_it_read(tmp_path, monkeypatch):
    done = make_work(ANN, only=FEW, tasks=("01-prediction",))
    for name, content in done.files.items():
        put(tmp_path / "mine" / name, content)
    monkeypatch.setenv("LABKIT_MODELS", str(tmp_path / "mine" / "models"))
    words = packed_words(tmp_path)
    for name, text in done.answers.items():
        heading = questions()[name][2].splitlines()[0].strip("#* ")
        assert any(word in words for word in (name, heading[:30], " ".join(text.split())[:20]))


def packed_words(tmp_path):
    arguments = ["pack", "--student", "ann", "--notebooks", tmp_path / "mine" / "notebooks", "--out", tmp_path]
    packed = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, list(map(str, arguments)))
    assert packed.exit_code == 0, packed.output
    return " ".join(packed.output.split("and find what follows")[0].split())
