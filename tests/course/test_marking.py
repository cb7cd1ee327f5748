"""Marks of the written answers, there and back; the pages that show them; feedback as the platforms take it."""

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import course_work
import pytest
from markupsafe import Markup
from typer.testing import CliRunner

from labkit import cli
from labkit.course import report
from labkit.course.report import figures
from labkit.course.result import GradedTask, Result, WrittenAnswer
from labkit.course.roster import Entry, Person
from labkit.course.task import TASKS

FIRST, SECOND = "nb01-031", "nb02-questions"
WORDS = {
    "plain": "It falls by 2 points.",
    "markup": "</script><script>alert(1)</script> <b>&amp;</b> <!-- {{ 7 * 7 }}",
    "from right to left": "الدقة لا تنخفض\nSecond line \u202eturned",
    "long": "word " * 4_000,
}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(figures, "svg_of", lambda *_: Markup("<svg></svg>"))


def result(student="ann", words=None, points=1.0, **more):
    tasks = {name: GradedTask(0.0, task.points, False) for name, task in TASKS.items()}
    if points:
        tasks["01-prediction"] = GradedTask(points, 1.0, True)
    answers = {name: WrittenAnswer("## Q", text) for name, text in (words or {}).items()}
    notebooks = {"02_random_pruning": "read"}
    done = Result(student, student, tasks=tasks, points=points, answers=answers, notebooks=notebooks)
    return replace(done, **more)


class Class:
    """A class that is written without being graded: pseudonym -> result, all into one folder."""

    def __init__(self, out, results, names=None, people=(), paths=None):
        self.out, self.results, self.people = out, results, list(people)
        paths = paths or {}
        self.entries = {
            key: Entry(Path(paths.get(key, f"in/{key}.zip")), done.student, (names or {}).get(key, ""), 0, False, None)
            for key, done in results.items()
        }
        self.names = {done.student or f"? {key}": key for key, done in results.items()}
        self.names |= {person.student: f"p{person.student}" for person in people if person.student not in self.names}

    def write(self, saved=None, anonymous=False):
        marks = report.read_marks(self.out / "grades.csv")
        course = course_work.course()
        written = report.read_marking(self.out, course, saved, self.names.values(), marks)
        report.write_all(
            self.out, self.results, self.entries, self.people, self.names, None, anonymous=anonymous, written=written
        )
        return {key: row["instructor_points"] for key, row in report.read_marks(self.out / "grades.csv").items()}

    def page(self, name):
        return (self.out / name).read_text(encoding="utf-8")

    def snapshot(self):
        return {path: path.read_bytes() for path in self.out.rglob("*") if path.is_file()}


@pytest.fixture
def two(tmp_path):
    results = {"p1": result("ann", {FIRST: "yes", SECOND: "no"}), "p2": result("bob", {FIRST: "perhaps"})}
    return Class(tmp_path / "grades", results, {"p1": "Ann Lee", "p2": "Bob Roe"})


def saved(folder, text, coding="utf-8-sig"):
    path = folder / "marks.csv"
    path.write_bytes(text.encode(coding))
    return path


HEAD = "pseudonym,question,points,comment\n"


@pytest.mark.parametrize(
    "text",
    [
        f'{HEAD}p1,{FIRST},1.5,"good, but\nwhy?"\np1,{SECOND},2,\np2,{FIRST},,look again\n',
        f'"pseudonym","question","points","comment"\r\n"p1","{FIRST}","1.5","good, but\nwhy?"\r\n"p1","{SECOND}","2",""'
        f'\r\n"p2","{FIRST}","","look again"\r\n',
        f'pseudonym;question;points;comment\np1;{FIRST};1,5;"good, but\nwhy?"\np1;{SECOND};2,0;\n;;;\n'
        f"p2;{FIRST};;look again\n",
    ],
    ids=["plain", "as the page saves it", "as a German spreadsheet saves it"],
)
def test_marks_come_back_are_summed_and_stay(two, tmp_path, text):
    assert two.write(saved(tmp_path, text)) == {"p1": "3.5", "p2": ""}
    page = two.page("feedback/p1.html")
    assert "good, but\nwhy?" in page
    assert "1.5 of 2 points" in page
    assert "<strong>4.5 points</strong>" in page  # one point for a task
    assert "3.5 of 24" in " ".join(re.sub("<.*?>", "", page).split())
    assert "look again" in two.page("feedback/p2.html")
    assert "nothing written" in two.page("feedback/p2.html")
    before = two.snapshot()
    assert two.write() == {"p1": "3.5", "p2": ""}
    assert {**two.snapshot(), two.out / "grades.csv.before": b""} == {**before, two.out / "grades.csv.before": b""}


def test_a_sum_of_many_digits_is_known_again(two, tmp_path):
    path = saved(tmp_path, f"{HEAD}p1,{FIRST},1.33333,\np1,{SECOND},0.333333,\n")
    assert two.write(path) == two.write() == two.write(path) == {"p1": "1.666663", "p2": ""}


def test_later_marks_replace_those_that_they_speak_of_and_no_others(two, tmp_path):
    two.write(saved(tmp_path, f"{HEAD}p1,{FIRST},1,\np1,{SECOND},2,\np2,{FIRST},2,\n"))
    assert two.write(saved(tmp_path, f"{HEAD}p1,{FIRST},0.5,\np2,{FIRST},,\n")) == {"p1": "2.5", "p2": ""}


@pytest.mark.parametrize(
    "line",
    [
        "p9,nb01-031,1,",
        "p1,nb01-032,1,",
        "p1,nb01-031,2.5,",
        "p1,nb01-031,-1,",
        "p1,nb01-031,1/2,",
        "p1,nb01-031,nan,",
        "p1,nb01-031,EX,",
        "p2,nb01-031,1,",
    ],
)
def test_a_wrong_row_stops_the_run_and_is_named_and_nothing_is_overwritten(two, tmp_path, line):
    two.write(saved(tmp_path, f"{HEAD}p2,{FIRST},1,\n"))
    before = two.snapshot()
    path = saved(tmp_path, f"{HEAD}p2,{FIRST},2,fine\n{line}\n")
    value = line.split(",")[{"p9": 0, "p2": 0}.get(line[:2], 1 if "032" in line else 2)]
    with pytest.raises(ValueError, match=rf"marks\.csv, row 3.*{re.escape(value)}"):
        two.write(path)
    assert two.snapshot() == before


def test_a_file_without_its_columns_is_named_with_them(two, tmp_path):
    with pytest.raises(ValueError, match=r"marks\.csv.*pseudonym, question, points, comment"):
        two.write(saved(tmp_path, "student,points\nann,1\n"))


def own_points(two, text, key="p1"):
    path = two.out / "grades.csv"
    rows = path.read_text(encoding="utf-8-sig").splitlines()
    columns, cells = rows[0].split(","), next(row for row in rows if f",{key}," in row).split(",")
    cells[columns.index("instructor_points")] = text
    path.write_text("\n".join([row for row in rows if f",{key}," not in row] + [",".join(cells)]) + "\n")


@pytest.mark.parametrize(("text", "stays"), [("3", True), ("3.0", True), ("", True), ("5", False), ("0", False)])
def test_points_that_contradict_the_marks_stop_the_run_with_both(two, tmp_path, text, stays):
    two.write()
    own_points(two, text)
    path, before = saved(tmp_path, f"{HEAD}p1,{FIRST},1,\np1,{SECOND},2,\n"), two.snapshot()
    if stays:
        assert float(two.write(path)["p1"]) == 3
        return
    with pytest.raises(ValueError, match=f"grades.csv, row p1: instructor_points is {text}, .* make 3"):
        two.write(path)
    assert two.snapshot() == before


def test_points_without_marks_are_the_instructors_own(two, tmp_path):
    two.write()
    own_points(two, "7")
    assert two.write(saved(tmp_path, f"{HEAD}p1,{FIRST},,only words\np2,{FIRST},1,\n")) == {"p1": "7", "p2": "1"}


def test_the_command_takes_marks_and_names_what_is_wrong(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "labs_ann.zip").write_bytes(b"no zip")
    (tmp_path / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
    words = ["grade", tmp_path / "in", "--out", tmp_path / "out", "--course", tmp_path / "course.json", "--jobs", "1"]
    run = CliRunner(env={"COLUMNS": "200"})
    assert run.invoke(cli.app, [str(word) for word in words]).exit_code == 0
    (key,) = report.read_marks(tmp_path / "out" / "grades.csv")
    for points, code in (("3", 2), ("1", 0)):
        path = saved(tmp_path, f"{HEAD}{key},{FIRST},{points},\n")
        done = run.invoke(cli.app, [str(word) for word in (*words, "--marks", path)])
        assert done.exit_code == code, done.output
        assert code == 0 or ("row 2" in done.output and "3" in done.output)
    assert report.read_marks(tmp_path / "out" / "grades.csv")[key]["instructor_points"] == "1"


# The marking page


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


@pytest.mark.parametrize("words", WORDS)
def test_answers_of_any_kind_are_data_on_the_page(tmp_path, words):
    one = Class(tmp_path, {"p1": result("ann", {FIRST: WORDS[words]})}, {"p1": WORDS["markup"]})
    one.write()
    page, text = one.page("marking.html"), WORDS[words].replace("\u202e", "")
    assert data_of(page)["students"] == [{"key": "p1", "label": WORDS["markup"], "answers": {FIRST: text}}]
    assert page.count("</script>") == page.count("<script") == 2
    assert "\u202e" not in page
    assert "http" not in page.replace("http-equiv", "")
    feedback = one.page("feedback/p1.html")
    assert "\u202e" not in feedback
    assert "<script" not in feedback


def test_page_has_all_questions_with_points_and_the_marks_of_before(two, tmp_path):
    two.write(saved(tmp_path, f"{HEAD}p1,{FIRST},1.5,why?\np2,{FIRST},,hm\n"))
    data = data_of(two.page("marking.html"))
    assert [question["points"] for question in data["questions"]] == [2] * 12
    assert data["questions"][1]["text"].startswith("02 · Questions (2 points)\n\nDid it work")
    assert sorted(data["marks"]) == [["p1", FIRST, "1.5", "why?"], ["p2", FIRST, "", "hm"]]


def test_anonymous_pages_name_nobody(two):
    two.write(anonymous=True)
    for name in ("index.html", "marking.html", "feedback/p1.html", "marks.csv"):
        assert not re.search(r"\b(ann|bob|lee|roe)\b", two.page(name), re.IGNORECASE), name
    two.write()
    assert "Ann Lee" in two.page("marking.html")
    assert "Feedback for <bdi>Ann Lee</bdi>" in two.page("feedback/p1.html")


def test_anonymous_pages_tell_nobody_by_order_or_by_names_within_names(tmp_path):
    names = {"p3": "Ann Lee", "p2": "Bob Roe", "p1": "Cy Day"}
    results = {key: result(student) for key, student in zip(names, ("ann77", "bob77", "cy77"), strict=True)}
    results["p2"] = replace(results["p2"], refused={"": "cannot be read (PermissionError: '/in/labs_bob77.zip')"})
    results["p1"] = replace(results["p1"], flags=("not opened: labs_cy77.zip", "its name says dee77"))
    some = Class(tmp_path, results, names, [Person("zoe77", "Zoe"), Person("amy77", "Amy")])
    some.names |= {"zoe77": "p5", "amy77": "p4"}
    some.entries["p1"].named = "dee77"
    some.write(anonymous=True)
    page = some.page("index.html")
    assert re.findall(r"feedback/(p\d)", page[page.index('id="everybody"') :])[-3:] == ["p1", "p2", "p3"]
    assert needs_of(page)["Nothing handed in"] == (2, ": p4; p5")
    assert re.findall(r"^,,(p\d)", some.page("grades.csv"), re.MULTILINE) == ["p1", "p2", "p3", "p4", "p5"]
    for name in ("index.html", "grades.csv", "feedback/p2.html"):
        assert "77" not in some.page(name), name


# Who needs me


def needs_of(page):
    part = page[page.index("Who needs me") : page.index("<h2>Flags")]
    lines = re.findall(r"<strong>(.*?)</strong> \((\d+)\)(.*?)</p>", part, re.DOTALL)
    return {reason: (int(count), " ".join(re.sub("<.*?>", "", names).split())) for reason, count, names in lines}


def test_who_needs_the_instructor_stands_first(tmp_path):
    everything = {cell["name"]: "yes" for cells in course_work.course()["notebooks"].values() for cell in cells
                  if cell["role"] == "answer"}  # fmt: skip
    attempted = {**result().tasks, "01-work": GradedTask(0.0, 2.0, True)}
    results = {
        "p1": result("ann", everything),
        "p2": result("", everything),
        "p3": result("cy", {**everything}, points=0.0),
        "p4": result("di", everything, points=0.0, tasks=attempted),
        "p5": result("eve", {FIRST: "yes"}),
        "p6": result("", points=0.0, refused={"": "is no zip"}, notebooks={}),
    }
    people = [Person("zoe", "Zoe"), Person("tim", "Tim", group="G"), Person("ann", "Ann", group="G")]
    some = Class(tmp_path, results, {"p1": "Ann", "p3": "Cy", "p4": "Di", "p5": "Eve"}, people)
    some.write()
    page = some.page("index.html")
    assert page.index("Who needs me") < page.index("Flags: questions for you")
    needs = needs_of(page)
    assert needs["Whose work is this?"] == (2, ": p2.zip; p6.zip")
    assert needs["Nothing handed in"] == (1, ": Zoe")
    assert needs["Could not be read"] == (1, ": p6.zip")
    assert [names for reason, (_, names) in needs.items() if reason.startswith("Only notebooks")] == [": Cy"]
    assert needs["0 points"] == (1, ": Di")
    assert needs["Questions unanswered"] == (1, ": Eve, 11 of 12")


def test_whoever_has_handed_in_twice_is_not_among_those_without_work(tmp_path):
    some = Class(tmp_path, {"p1": result("ann"), "p2": result("ann")}, people=[Person("ann", "Ann"), Person("bob")])
    some.names = {"ann one.zip": "p1", "ann two.zip": "p2", "ann": "p3", "bob": "p4"}
    some.write()
    assert needs_of(some.page("index.html"))["Nothing handed in"] == (1, ": bob")


def test_a_flag_of_half_of_the_class_is_said_once(tmp_path):
    seed = "CNN_MNIST says that it was trained with seed {}; this student's is {}"
    results = {f"p{n}": result(f"s{n}", flags=(seed.format(n, n + 1),) if n < 5 else ()) for n in range(10)}
    results["p2"] = replace(results["p2"], flags=(*results["p2"].flags, "a cell was changed"))
    many = Class(tmp_path, results)
    many.write()
    page = many.page("index.html")
    assert page.count("trained with seed") == 1
    assert "5 of 10: " in page
    rows = re.findall(r"<tr><td>.*?</tr>", page[page.index("<h2>Flags") : page.index("<h2>How each")], re.DOTALL)
    assert ["a cell was changed" in row for row in rows] == [True]
    results["p0"] = replace(results["p0"], flags=())
    many.write()
    assert many.page("index.html").count("trained with seed") == 4


@pytest.mark.parametrize(("count", "wrong"), [(4, True), (2, False)])
def test_a_wrong_course_file_is_one_line(tmp_path, count, wrong):
    flags = ("01_training: of another course version (a1 instead of b2), so its cells are not compared",)
    other = Class(tmp_path, {f"p{n}": result(f"s{n}", flags=flags if n < count else ()) for n in range(5)})
    other.write()
    page = other.page("index.html")
    assert ("Is <code>--course</code> the right file?" in page) == wrong
    assert page.count("01_training: of another course version") == (0 if wrong else count)


def test_equal_names_have_their_ids(tmp_path):
    names = {"p1": "Ann Lee", "p2": "Ann Lee", "p3": "Bob Roe"}
    results = {key: result(student) for key, student in zip(names, ("al1", "al2", "br"), strict=True)}
    same = Class(tmp_path, results, names, [Person("br2", "Bob Roe")])
    same.write()
    page = same.page("index.html")
    for label in ("Ann Lee (al1)", "Ann Lee (al2)", "Bob Roe (br)", "Bob Roe (br2)"):
        assert f"<bdi>{label}</bdi>" in page


# Platforms


def test_feedback_goes_back_under_the_names_of_the_platforms(tmp_path):
    moodle = "Zoë O'Brien_400123_assignsubmission_file"
    paths = {
        "p1": "in/leeann_90001_70001_labs_ann.zip",
        "p2": "in/roebob_LATE_90002_70002_labs_bob-1.ZIP",
        "p3": "in/cy_90003_70003_labs.tar.gz",
        "p4": f"in/{moodle}_/labs.zip",
        "p5": "in/Di Lu_400124_assignsubmission_file",
        "p6": "in/Eve_400125_assignsubmission_file_labs.zip",
        "p7": "in/labs_fay.zip",
        "p8": str(tmp_path / "in" / "gusgo_90008_*"),  # loose files
        "p9": "in/labs_2026_12_1.zip",
    }
    (tmp_path / "in").mkdir()
    for name in ("gusgo_90008_70008_01_training.ipynb", "gusgo_90008_70009_CNN_MNIST.pth"):
        (tmp_path / "in" / name).touch()
    Class(tmp_path, {key: result(key.replace("p", "s")) for key in paths}, paths=paths).write()
    with zipfile.ZipFile(tmp_path / "feedback-canvas.zip") as archive:
        names = archive.namelist()
        pages = ["cy_90003_70003_labs.tar.gz.html", "gusgo_90008_70009_CNN_MNIST.pth.html"]
        assert names == [Path(paths["p1"]).name, Path(paths["p2"]).name, *pages]
        inner = zipfile.ZipFile(io.BytesIO(archive.read(names[0])))
        assert inner.read("feedback.html") == (tmp_path / "feedback" / "p1.html").read_bytes()
    with zipfile.ZipFile(tmp_path / "feedback-moodle.zip") as archive:
        assert archive.namelist() == [
            f"{moodle}_/feedback.html",
            "Di Lu_400124_assignsubmission_file_/feedback.html",
            "Eve_400125_assignsubmission_file_/feedback.html",
        ]
        assert archive.read(archive.namelist()[0]) == (tmp_path / "feedback" / "p4.html").read_bytes()


def test_moodle_finds_its_number_whatever_signs_the_name_had(tmp_path):
    path = "in/_अम_त O_Brien_400123_assignsubmission_file_/labs.zip"  # as it was unpacked
    Class(tmp_path, {"p1": result()}, paths={"p1": path}).write()
    with zipfile.ZipFile(tmp_path / "feedback-moodle.zip") as archive:
        (name,) = archive.namelist()
    assert name.split("_", 4)[1:] == ["400123", "assignsubmission", "file", "/feedback.html"]


def test_without_a_platform_there_is_no_zip(two):
    (two.out / "feedback-canvas.zip").parent.mkdir(parents=True)
    (two.out / "feedback-canvas.zip").write_bytes(b"of a run before")
    two.write()
    assert not list(two.out.glob("feedback-*.zip"))
