"""The class as it really arrives: each kind of honest submission is found, read and counted.

What fails today is marked, strictly: whoever mends a kind takes its mark off. All kinds at once, varied, are in
``tests/slow/test_course_arrivals.py``.
"""

import csv
import json
import random
import zipfile

import course_work
import pytest
from arrivals import (
    EDITORS,
    IDS,
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
)
from typer.testing import CliRunner

from labkit import cli
from labkit.course.task import TASKS

pytestmark = pytest.mark.slow

FEW = ("02_random_pruning", "09_mask_detective")
lean = partial(make_work, tasks=("01-prediction", "02-mask"))
FAILS: dict[str, str] = {}


def kinds(names, place=""):
    """Parameters, those that fail today marked."""
    marked = []
    for name in names:
        why = FAILS.get(f"{place}{name}")
        marked.append(pytest.param(name, marks=[pytest.mark.xfail(strict=True, reason=why)] if why else []))
    return marked


def grade(*arguments):
    """The real command, in this process as far as it likes."""
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


@pytest.mark.parametrize("name", kinds(EDITORS))
def test_answers_and_points_do_not_depend_on_the_editor(edited, name):
    fine(edited, name)


# Words


@pytest.fixture(scope="module")
def worded(tmp_path_factory, table):
    works = {
        words: (who := plain_person(number), lean(who, words=words, only=FEW), "labs_ID.zip")
        for number, words in enumerate((*WORDS, *LONG))
    }
    return class_of(tmp_path_factory, table, "by mail", works)


LONG = ("A sentence of an answer that goes on and on. " * 125, "很长的答案。" * 1_500)


@pytest.mark.parametrize("words", [*WORDS, *kinds(LONG)], ids=lambda words: words[:20])
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


@pytest.fixture(scope="module")
def mailed(tmp_path_factory, table):
    return placed(tmp_path_factory, table, "by mail")


@pytest.fixture(scope="module")
def of_canvas(tmp_path_factory, table):
    return placed(tmp_path_factory, table, "Canvas")


@pytest.fixture(scope="module")
def of_canvas_zip(tmp_path_factory, table):
    return placed(tmp_path_factory, table, "Canvas", bulk=True)


@pytest.fixture(scope="module")
def of_moodle(tmp_path_factory, table):
    return placed(tmp_path_factory, table, "Moodle")


@pytest.fixture(scope="module")
def of_moodle_zip(tmp_path_factory, table):
    return placed(tmp_path_factory, table, "Moodle", bulk=True)


@pytest.mark.parametrize("place", kinds(PLATFORMS["by mail"]))
def test_what_comes_by_mail_is_graded(mailed, place):
    fine(mailed, place)


@pytest.mark.parametrize("place", kinds(PLATFORMS["Canvas"]))
def test_what_canvas_hands_out_is_graded(of_canvas, place):
    fine(of_canvas, place)


@pytest.mark.parametrize("place", kinds(PLATFORMS["Canvas"], "zip: "))
def test_canvas_own_zip_is_graded_alike(of_canvas_zip, place):
    fine(of_canvas_zip, place)


@pytest.mark.parametrize("place", kinds(PLATFORMS["Moodle"]))
def test_what_moodle_hands_out_is_graded(of_moodle, place):
    fine(of_moodle, place)


@pytest.mark.parametrize("place", kinds(PLATFORMS["Moodle"], "zip: "))
def test_moodles_own_zip_is_graded_alike(of_moodle_zip, place):
    fine(of_moodle_zip, place)


CLASSES = ("mailed", "of_canvas", "of_canvas_zip", "of_moodle", "of_moodle_zip")


@pytest.mark.parametrize("name", kinds(CLASSES, "nobody: "))
def test_nobody_is_made_of_junk(request, name):
    rows, arrivals = request.getfixturevalue(name)
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


@pytest.mark.parametrize("name", kinds([f"{number} {name}" for number, name in enumerate(NAMES)], "Canvas: "))
def test_canvas_name_of_any_language_is_whose_it_is(named_by_canvas, name):
    fine(named_by_canvas, name)


@pytest.mark.parametrize("name", kinds([f"{number} {name}" for number, name in enumerate(NAMES)], "Moodle: "))
def test_moodle_name_of_any_language_is_whose_it_is(named_by_moodle, name):
    fine(named_by_moodle, name)


@pytest.fixture(scope="module")
def with_ids(tmp_path_factory, table):
    works = {
        form: (who := person(number), lean(who, only=FEW, manifest=False), "labs_ID.zip")
        for number, form in enumerate(IDS)
    }
    return class_of(tmp_path_factory, table, "by mail", works)


@pytest.mark.parametrize("form", kinds(IDS))
def test_id_of_any_form_is_found_in_the_name_of_the_file(with_ids, form):
    fine(with_ids, form)


# Types of answers


def right(task):
    start = course_work.base(0)
    value, before = course_work.answers_of(start, "anybody")[task]
    return value, start if before is not None else None


TYPED = ("01-prediction", "01-work", "02-mask", "03-masks", "04-masks", "05-mask", "06-masks", "07-work", "07-cut")


@pytest.mark.parametrize("name", kinds(TYPES))
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


@pytest.mark.parametrize("name", kinds(NETWORKS))
def test_saved_network_is_read_or_named(networked, name):
    fine(networked, name)
