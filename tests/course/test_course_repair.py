"""Given cells come back as they were handed out, and nothing that a student wrote is lost."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import course_work
import nbformat
import pytest
from permissions import folder_that_closes
from typer.testing import CliRunner

from labkit import cli
from labkit.course import course_file, grading, release, repair
from labkit.course.submission import submission_of
from labkit.course.submission.archive import Files

NAME = "02_random_pruning"
FILE = f"{NAME}.ipynb"
GIVEN, CHECK, PROSE, TASK, ANSWER = "nb02-004", "nb02-check-mask", "nb02-005", "nb02-006", "nb02-013"
Cells = list[dict[str, Any]]


@pytest.fixture(scope="module")
def handed_out() -> dict[str, Any]:
    return json.loads(nbformat.writes(course_work.student_notebooks()[NAME]))


@pytest.fixture
def worked(handed_out) -> dict[str, Any]:
    """A student's notebook: code and answers written, outputs there, and two cells of the student's own."""
    notebook = copy.deepcopy(handed_out)
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"output {number}\n"]}]
        text = "".join(cell["source"]).replace(release.CODE_STUB, "mine = 1  # my own code")
        cell["source"] = text.replace(release.PROSE_STUB, "It was as I thought.").splitlines(keepends=True)
    for id, below in (("own-code", TASK), ("own-more", "own-code")):
        place = ids(notebook).index(below) + 1
        own = {
            "id": id,
            "cell_type": "code",
            "metadata": {},
            "execution_count": 1,
            "outputs": [],
            "source": [f"# {id}"],
        }
        notebook["cells"].insert(place, own)
    return notebook


def ids(notebook: dict[str, Any]) -> list[str]:
    return [cell["id"] for cell in notebook["cells"]]


def cell(notebook: dict[str, Any], id: str) -> dict[str, Any]:
    return next(cell for cell in notebook["cells"] if cell.get("id") == id)


def source(notebook: dict[str, Any], id: str) -> str:
    return "".join(cell(notebook, id)["source"])


def write(folder: Path, notebook: dict[str, Any]) -> Path:
    path = folder / FILE
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


@pytest.fixture
def repaired(tmp_path, worked) -> Callable[[Callable[[Cells], None]], tuple[dict[str, Any], list[str]]]:
    """Breaks the worked notebook's cells in place, repairs it; what must hold of every repair is looked at here."""

    def run(break_it: Callable[[Cells], None]) -> tuple[dict[str, Any], list[str]]:
        break_it(worked["cells"])
        path = write(tmp_path, worked)
        before = path.read_bytes()
        told = repair.repair(path, course_work.course())
        made = json.loads(path.read_text(encoding="utf-8"))
        nbformat.validate(made)
        assert len(set(ids(made))) == len(made["cells"])
        backup = tmp_path / f"{NAME}.before-repair.ipynb"
        assert backup.exists() == (before != path.read_bytes())
        assert not backup.exists() or backup.read_bytes() == before
        assert repair.repair(path, course_work.course())[0] == f"{FILE}: nothing to restore"
        return made, told

    return run


# What comes back


def test_whole_notebook_is_not_written_again(tmp_path, worked):
    path = write(tmp_path, worked)
    before = path.read_bytes()
    assert repair.repair(path, course_work.course()) == [f"{FILE}: nothing to restore"]
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_changed_given_cells_are_put_back_and_all_others_kept_with_their_outputs(repaired, worked, handed_out):
    untouched = copy.deepcopy(worked)

    def change(cells):
        for one in cells:
            if one["id"] in (GIVEN, CHECK, PROSE):
                one["source"] = "something else"

    made, told = repaired(change)
    for id in (GIVEN, CHECK, PROSE):
        assert cell(made, id) == cell(handed_out, id)
    assert [c for c in made["cells"] if c["id"] not in (GIVEN, CHECK, PROSE)] == [
        c for c in untouched["cells"] if c["id"] not in (GIVEN, CHECK, PROSE)
    ]
    assert told[1] == "3 cells put back that were changed: below 'Look: the network before', 'Act, by hand: one mask'"
    assert told[-1].startswith(f"as it was: {NAME}.before-repair.ipynb; ")


def test_blanks_at_line_ends_are_no_change(repaired):
    made, told = repaired(lambda cells: next(c for c in cells if c["id"] == GIVEN)["source"].append("  \r\n\n"))
    assert told == [f"{FILE}: nothing to restore"]
    assert cell(made, GIVEN)["outputs"]


def test_work_that_was_merged_into_a_given_cell_stays_in_the_notebook(repaired, handed_out):
    """As JupyterLab merges a task with the check below it: the check's id, and both texts."""
    work = "mask_by_hand = my_own_mask()\nprint(mask_by_hand.shape)\n"

    def merge(cells):
        check = next(c for c in cells if c["id"] == CHECK)
        check["source"] = [*work.splitlines(keepends=True), "\n", *check["source"]]
        cells[:] = [c for c in cells if c["id"] != TASK]

    made, told = repaired(merge)
    assert cell(made, CHECK) == cell(handed_out, CHECK)
    assert cell(made, TASK) == cell(handed_out, TASK)
    place = ids(made).index(CHECK)
    note = made["cells"][place + 1]
    assert note["cell_type"] == "markdown"  # it is never run
    assert work in note["source"]
    assert "what you wrote into a given cell below 'Act, by hand: one mask' is kept in a note under it" in told


def test_missing_given_cells_come_back_in_their_place(repaired, worked):
    order = ids(worked)

    def remove(cells):
        cells[:] = [c for c in cells if c["id"] not in ("nb02-000", GIVEN, "nb02-check-network", "nb02-027")]

    made, told = repaired(remove)
    assert ids(made) == order
    assert told[1].startswith("4 cells put back that were missing: below '02 · Random pruning', ")


def test_missing_task_and_answer_come_back_blank(repaired, handed_out):
    def remove(cells):
        cells[:] = [c for c in cells if c["id"] not in (TASK, ANSWER)]

    made, told = repaired(remove)
    assert cell(made, TASK) == cell(handed_out, TASK)
    assert cell(made, ANSWER) == cell(handed_out, ANSWER)
    assert told[1].startswith("2 cells restored as blank that were missing: below 'Act, by hand: one mask', ")


def test_blank_task_stands_above_the_cells_that_may_hold_the_work(repaired):
    def remove(cells):
        cells[:] = [c for c in cells if c["id"] != TASK]

    made, _ = repaired(remove)
    place = ids(made).index(TASK)
    assert ids(made)[place - 1 : place + 4] == [PROSE, TASK, "own-code", "own-more", CHECK]


def test_own_cells_stay_below_the_cell_that_they_followed(repaired):
    def remove(cells):
        cells[:] = [c for c in cells if c["id"] != CHECK]

    made, _ = repaired(remove)
    place = ids(made).index(TASK)
    assert ids(made)[place : place + 4] == [TASK, "own-code", "own-more", CHECK]


def test_order_is_put_back_and_own_cells_move_with_theirs(repaired, worked):
    order = ids(worked)

    def turn(cells):
        place = next(number for number, c in enumerate(cells) if c["id"] == "nb02-009")
        cells[:] = cells[place:] + cells[:place]

    made, told = repaired(turn)
    assert ids(made) == order
    assert "the cells are in their order again" in told


def test_code_cell_that_became_prose_is_code_again(repaired, handed_out):
    def turn(cells):
        one = next(c for c in cells if c["id"] == CHECK)
        one["cell_type"] = "markdown"
        del one["outputs"], one["execution_count"]

    made, _ = repaired(turn)
    assert cell(made, CHECK) == cell(handed_out, CHECK)


def test_check_without_its_marks_for_nbgrader_has_them_again_and_keeps_its_output(repaired, handed_out):
    made, told = repaired(lambda cells: next(c for c in cells if c["id"] == CHECK).update(metadata={}))
    assert cell(made, CHECK)["metadata"] == cell(handed_out, CHECK)["metadata"]
    assert cell(made, CHECK)["outputs"]
    assert told[1].startswith("1 cell put back")


def test_picture_of_a_changed_cell_is_kept_and_a_lost_one_told(repaired, worked):
    pictures = [c["id"] for c in worked["cells"] if c["id"].endswith("-picture")]
    kept = copy.deepcopy(cell(worked, pictures[0])["attachments"])

    def change(cells):
        next(c for c in cells if c["id"] == pictures[0])["source"] = "no picture"
        cells[:] = [c for c in cells if c["id"] != pictures[1]]

    made, told = repaired(change)
    assert cell(made, pictures[0])["attachments"] == kept
    assert "attachment:expected.png" in source(made, pictures[0])
    assert pictures[1] not in ids(made)
    assert "the authors' figure below 'Twenty random draws' is lost; the course's folder has it" in told


def test_repaired_notebook_has_no_flag_of_the_grader(repaired):
    def spoil(cells):
        next(c for c in cells if c["id"] == CHECK)["source"] = "2"
        cells.append(copy.deepcopy(cells[4]))
        cells[:] = [c for c in cells if c["id"] not in (TASK, "nb02-check-network")]
        cells.reverse()

    made, _ = repaired(spoil)
    graded = grading.grade(submission_of(Files(content={FILE: json.dumps(made).encode()})), course_work.course())
    assert graded.notebooks[NAME] == "read"
    assert [flag for flag in graded.flags if flag.startswith(NAME)] == []


# Ids


def test_doubles_of_a_given_cell_go(repaired, worked):
    whole = copy.deepcopy(worked)

    def double(cells):
        place = next(number for number, c in enumerate(cells) if c["id"] == GIVEN)
        cells[place:place] = [copy.deepcopy(cells[place]), copy.deepcopy(cells[place])]

    made, told = repaired(double)
    assert made["cells"] == whole["cells"]
    assert told[1] == "2 cells removed that were there twice: below 'Look: the network before'"


def test_double_of_a_given_cell_with_another_text_becomes_a_cell_of_ones_own(repaired, worked):
    whole = copy.deepcopy(worked)

    def double(cells):
        place = next(number for number, c in enumerate(cells) if c["id"] == GIVEN)
        cells.insert(place, copy.deepcopy(cells[place]) | {"source": "mine = 2"})

    made, _ = repaired(double)
    own = next(c for c in made["cells"] if c["source"] == "mine = 2")
    assert own["id"] not in ids(whole)
    assert [c for c in made["cells"] if c is not own] == whole["cells"]


def test_doubles_of_a_students_cell_are_all_kept_and_a_blank_one_goes(repaired, handed_out):
    blank = cell(handed_out, TASK)

    def double(cells):
        place = next(number for number, c in enumerate(cells) if c["id"] == TASK)
        cells.insert(place + 1, copy.deepcopy(cells[place]) | {"source": "mine = 2"})
        cells.insert(place, copy.deepcopy(blank))

    made, _ = repaired(double)
    assert "my own code" in source(made, TASK)
    place = ids(made).index(TASK)
    assert made["cells"][place + 1]["source"] == "mine = 2"
    assert [c["source"] for c in made["cells"]].count(blank["source"]) == 0


@pytest.mark.parametrize("with_marks", [True, False])
def test_cells_without_ids_are_known_by_marks_text_and_place(with_marks, repaired, worked):
    order, texts = ids(worked), [c["source"] for c in worked["cells"]]

    def strip(cells):
        for one in cells:
            if not one["id"].startswith("own"):
                del one["id"]
            if not with_marks:
                one["metadata"] = {}

    made, told = repaired(strip)
    assert ids(made) == order
    assert [c["source"] for c in made["cells"]] == texts
    assert f"{len(order) - 2} cells got its own id again" in told


def test_cells_that_keep_their_id_in_the_metadata_are_known_by_it(repaired, worked):
    order = ids(worked)

    def move(cells):
        for one in cells:
            one["metadata"] = {"id": one.pop("id")}

    made, _ = repaired(move)
    assert ids(made)[:5] == order[:5]
    assert {id for id in order if not id.startswith("own")} <= set(ids(made))
    assert len(made["cells"]) == len(order)


@pytest.mark.parametrize("id", ["same", GIVEN, 5, None, "", "a b", ["x"], "x" * 65])
def test_one_id_for_all_cells_loses_no_work(id, repaired, worked):
    texts = {"".join(c["source"]) for c in worked["cells"]}
    made, _ = repaired(lambda cells: [one.update(id=id) for one in cells])
    written = ["".join(c["source"]) for c in made["cells"]]
    assert texts == set(written)
    assert {c.id for c in course_work.student_notebooks()[NAME].cells if "-picture" not in c.id} <= set(ids(made))


def test_own_cells_with_one_id_between_them_get_new_ones(repaired):
    made, _ = repaired(lambda cells: [c.update(id="own") for c in cells if c["id"].startswith("own")])
    assert sorted("".join(c["source"]) for c in made["cells"] if "# own-" in "".join(c["source"])) == [
        "# own-code",
        "# own-more",
    ]


# Files


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no notebook",
        b'{"cells": [',
        b"[]",
        b"null",
        b'{"cells": {}}',
        b'{"cells": [1, 2], "nbformat": 4}',
        '{"cells": []}'.encode("utf-16"),
        b"\xff\xfe\x00",
        b'{"cells": [], "nbformat": 3}',
        b'{"cells": []}',
        b'{"worksheets": [{"cells": []}], "nbformat": 3}',
        b'{"cells": [], "nbformat": 4, "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"cells": [], "nbformat": 4, "metadata": {"a": ' + b"[" * 3_000 + b"]" * 3_000 + b"}}",
        b"{" * 300_000,
    ],
)
def test_file_that_is_no_notebook_is_told_and_stays(content, tmp_path):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=FILE):
        repair.repair(tmp_path / FILE, course_work.course())
    assert (tmp_path / FILE).read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": None},
        {"metadata": [1]},
        {"metadata": {"nbgrader": 5}},
        {"metadata": {"nbgrader": {"grade_id": []}}},
        {"source": None},
        {"source": [1, "a"]},
        {"source": {"a": 1}},
        {"cell_type": 7},
        {"id": {"a": 1}},
        {"outputs": "\ud83d"},
    ],
)
def test_cells_of_the_oddest_kinds_are_no_obstacle(odd, tmp_path, worked):
    for one in worked["cells"]:
        one.update(odd)
    path = write(tmp_path, worked)
    repair.repair(path, course_work.course())
    assert repair.repair(path, course_work.course())[0] == f"{FILE}: nothing to restore"
    made = json.loads(path.read_text(encoding="utf-8"))
    assert {c.id for c in course_work.student_notebooks()[NAME].cells} <= set(ids(made))


def test_windows_line_ends_are_read(tmp_path, worked, handed_out):
    cell(worked, CHECK)["source"] = "changed"
    text = json.dumps(worked, indent=1).replace("\\n", "\\r\\n")
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    told = repair.repair(tmp_path / FILE, course_work.course())
    made = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    assert cell(made, CHECK) == cell(handed_out, CHECK)
    assert told[1].startswith("1 cell put back")
    assert cell(made, GIVEN)["outputs"]


def test_notebook_of_another_course_version_becomes_one_of_this(tmp_path, worked):
    worked["metadata"]["labkit_course"]["version"] = "0123456789ab"
    old = {"id": "nb02-old", "cell_type": "markdown", "metadata": {}, "source": "given once"}
    worked["cells"].insert(3, old)
    path = write(tmp_path, worked)
    version = course_work.course()["version"]
    told = repair.repair(path, course_work.course())
    assert told[1] == f"it was of course version 0123456789ab; now it is of this one, {version}"
    made = json.loads(path.read_text(encoding="utf-8"))
    assert made["metadata"]["labkit_course"] == {"version": version}
    assert made["cells"][3] == old


@pytest.mark.parametrize("metadata", [None, [], {}, {"labkit_course": 5}])
def test_notebook_without_a_version_becomes_one_of_this(metadata, tmp_path, worked):
    worked["metadata"] = metadata
    path = write(tmp_path, worked)
    assert "course version none; now" in repair.repair(path, course_work.course())[1]


def test_course_of_before_there_was_a_repair_is_told(tmp_path, worked):
    course = copy.deepcopy(course_work.course())
    for spec in course["notebooks"][NAME]:
        del spec["source"], spec["marks"]
    (tmp_path / "course.json").write_text(json.dumps(course), encoding="utf-8")
    with pytest.raises(ValueError, match=r"this course\.json is too old"):
        repair.repair(write(tmp_path, worked), course_file.read_course(tmp_path / "course.json"))


def test_notebook_of_no_course_is_told(tmp_path, worked):
    path = write(tmp_path, worked).rename(tmp_path / "mine.ipynb")
    with pytest.raises(ValueError, match=r"mine\.ipynb is no notebook of this course; its names are 01_training, "):
        repair.repair(path, course_work.course())


def test_no_earlier_backup_is_overwritten(tmp_path, worked):
    found = []
    for text in ("first", "second", "third"):
        cell(worked, CHECK)["source"] = text
        repair.repair(write(tmp_path, worked), course_work.course())
    for name in ("before-repair", "before-repair-2", "before-repair-3"):
        kept = json.loads((tmp_path / f"{NAME}.{name}.ipynb").read_text(encoding="utf-8"))
        found.append(cell(kept, CHECK)["source"])
    assert found == ["first", "second", "third"]


def test_folder_that_can_not_be_written_is_told_and_stays(worked):
    cell(worked, CHECK)["source"] = "changed"
    with folder_that_closes() as (folder, close):
        path = write(folder, worked)
        path.chmod(0o644)
        before, course = path.read_bytes(), course_work.course()
        close()
        with pytest.raises(OSError, match="written"):
            repair.repair(path, course)
        assert path.read_bytes() == before
        assert [path.name for path in folder.iterdir()] == [FILE]


# labkit repair


@pytest.fixture
def labs(tmp_path, worked, monkeypatch) -> Path:
    """A student's folder: course.json, and notebook 02 with a changed check."""
    (tmp_path / "labs" / "notebooks").mkdir(parents=True)
    (tmp_path / "labs" / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
    cell(worked, CHECK)["source"] = "changed"
    write(tmp_path / "labs" / "notebooks", worked)
    monkeypatch.chdir(tmp_path / "labs")
    return tmp_path / "labs"


def labkit(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "400"}).invoke(cli.app, arguments)


@pytest.mark.parametrize("name", ["02", "2", NAME, f"notebooks/{FILE}"])
def test_labkit_repair_says_what_it_did(name, labs):
    done = labkit("repair", name, "--notebooks", "notebooks")
    assert done.exit_code == 0, done.output
    assert f"{FILE}: repaired\n1 cell put back that was changed: below 'Act, by hand: one mask'\n" in done.output
    assert (labs / "notebooks" / f"{NAME}.before-repair.ipynb").is_file()


def test_labkit_repair_of_several_goes_on_after_one_that_can_not_be(labs):
    (labs / "notebooks" / "03_l1_pruning.ipynb").write_text("{")
    done = labkit("repair", "03", "07", "02", "--notebooks", "notebooks")
    assert done.exit_code == 2
    assert "03_l1_pruning.ipynb is not JSON" in done.output
    assert "07_smaller_and_faster.ipynb is no file" in done.output
    assert f"{FILE}: repaired" in done.output
    assert "Traceback" not in done.output


def test_labkit_repair_without_a_notebook_shows_its_help(labs):
    assert "Usage: " in labkit("repair").output
    assert [path.name for path in (labs / "notebooks").iterdir()] == [FILE]


def test_labkit_repair_without_a_course_leaves_the_notebooks(labs):
    (labs / "course.json").unlink()
    before = (labs / "notebooks" / FILE).read_bytes()
    done = labkit("repair", "02", "--notebooks", "notebooks")
    assert done.exit_code == 2
    assert "there is no course.json here" in done.output
    assert (labs / "notebooks" / FILE).read_bytes() == before
