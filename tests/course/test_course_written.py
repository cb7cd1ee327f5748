"""Answers in words are found wherever a student or an editor put them, and only real changes of cells are flagged."""

import copy
import json

import course_work
import nbformat
import pytest

from labkit.course import written
from labkit.course.submission.notebook import read_notebook

NOTEBOOK, QUESTION, STUB = "02_random_pruning", "nb02-questions", "*Your answer here.*"


def given():
    return course_work.course()["notebooks"][NOTEBOOK]


def notebook(change=lambda cell: [cell], *, bare=False):
    """The student's notebook, each cell changed into some; without ids, metadata and version, if it is bare."""
    found = json.loads(nbformat.writes(course_work.student_notebooks()[NOTEBOOK]))
    cells = [cell | {"source": "".join(cell["source"])} for cell in found["cells"]]
    found["cells"] = [new for cell in cells for new in change(cell)]
    if bare:
        found["metadata"] = {}
        found["cells"] = [{**cell, "id": "", "metadata": {}} for cell in found["cells"]]
    return found


def read(found, coding="utf-8"):
    content = json.dumps(found).replace("\\u00df", "ß").encode(coding)
    answers, flags = written.read_written(read_notebook(content), given(), course_work.course()["version"])
    return {name: answer.text for name, answer in answers.items()}, flags


def answered(make, **options):
    return read(notebook(lambda cell: make(cell) if cell.get("id") == QUESTION else [cell], **options))


def own(source, kind="markdown"):
    return {"cell_type": kind, "id": "own", "metadata": {}, "source": source}


def said(text):
    return lambda cell: [cell | {"source": cell["source"].replace(STUB, text)}]


ASKED = "Did it work: are some weights zeroed? And is 25 % random pruning harmful?"
FORMS = {
    "as it was handed out": lambda cell: said("Yes.")(cell),
    "on the question's line": lambda cell: [cell | {"source": f"## Questions (2 points)\n\n{ASKED} Yes."}],
    "question wrapped, without points": lambda cell: [
        cell | {"source": f"### questions\n\n{ASKED.replace(' And', chr(10) + 'And')}\n\nYes."}
    ],
    "question with typing errors": lambda cell: [
        cell | {"source": "did it work: are some weihgts zeroed, and is 25% random pruning harmfull?\nYes."}
    ],
    "invitation with other marks": lambda cell: [cell | {"source": f"{ASKED}\n\n_Your answer here._\n\nYes."}],
    "in a raw cell below": lambda cell: [cell, own("Yes.", "raw")],
    "beside code": lambda cell: [cell, own("1 + 1", "code"), own("Yes."), own("x = 1", "code")],
    "above": lambda cell: [own("Yes."), cell],
}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_answer_of_any_form_is_read_without_question_and_invitation(form, bare):
    assert answered(FORMS[form], bare=bare) == ({QUESTION: "Yes."}, [])


def test_prose_and_comments_in_code_cells_are_answers():
    answers, _ = answered(lambda cell: [cell, own("It did not hurt", "code"), own("# a comment", "code")])
    assert answers == {QUESTION: "It did not hurt\n\n# a comment"}


@pytest.mark.parametrize("bare", [False, True])
def test_blank_notebook_has_no_answer_and_no_flag(bare):
    assert read(notebook(bare=bare)) == ({}, [])


def test_questions_merged_into_one_cell_are_told_apart():
    asked = [cell for cell in notebook()["cells"] if "for you" in cell["source"] or cell["id"] == QUESTION]
    merged = own("\n\n".join(cell["source"].replace(STUB, f"To {cell['id']}.") for cell in asked))
    answers, _ = answered(lambda _: [merged])
    assert answers == {QUESTION: f"To {QUESTION}."}


def test_what_is_not_found_is_one_flag():
    kept = [cell for cell in given() if cell["role"] == "given"]
    found = notebook(lambda cell: [cell] if cell["id"] in {spec["id"] for spec in kept} else [])
    answers, flags = read(found)
    assert answers == {}
    assert len(flags) == 1
    assert QUESTION in flags[0]
    assert flags[0].endswith("are missing")


def test_too_long_an_answer_is_flagged_with_both_lengths():
    answers, flags = answered(said("x" * 50_000))
    assert answers[QUESTION] == "x" * written.MOST_ANSWER
    assert flags == [f"the answer {QUESTION} has 50,000 characters; the first {written.MOST_ANSWER:,} are shown"]


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-8-sig", "cp1252"])
def test_notebook_in_another_coding_is_read_and_told(coding):
    answers, flags = read(notebook(lambda cell: said("Größe.")(cell) if cell["id"] == QUESTION else [cell]), coding)
    assert answers == {QUESTION: "Größe."}
    told = [f"is not UTF-8, but was read as {coding}; save it in JupyterLab"] if coding != "utf-8-sig" else []
    assert flags == told


def test_notebook_of_the_format_before_4_is_read():
    found = notebook(lambda cell: said("Yes.")(cell) if cell["id"] == QUESTION else [cell])
    cells = [cell | {"input": cell["source"], "prompt_number": 1} for cell in found["cells"]]
    old = [{key: cell[key] for key in cell if key not in ("id", "source")} for cell in cells if "outputs" in cell]
    texts = [{key: cell[key] for key in cell if key not in ("id", "input")} for cell in cells if "outputs" not in cell]
    sheets = [{"cells": old}, {"cells": texts}]
    answers, _ = read({"nbformat": 3, "metadata": found["metadata"], "worksheets": sheets})
    assert answers == {QUESTION: "Yes."}


def changed(change, **options):
    def made(cell):
        return [cell | {"source": change(cell["source"])} if cell["cell_type"] == "code" else cell]

    return read(notebook(made, **options))[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda source: f"# mine\n\n{source}\n\n",
        lambda source: source.replace('"', "'") if "'" not in source else source,
        lambda source: "\r\n".join(line + "  " for line in source.split("\n")),
        lambda source: f'"""Mine."""\n{source}',
    ],
)
def test_form_of_code_is_no_change(change):
    assert changed(change) == []


@pytest.mark.parametrize("bare", [False, True])
def test_changed_check_is_flagged(bare):
    check = next(spec for spec in given() if spec["role"] == "check")
    flags = changed(lambda source: source + "\nx = 1" if source == check["source"] else source, bare=bare)
    assert flags == [f"cell {check['name']}, a check, was changed"]


def test_course_of_an_older_release_compares_as_it_did():
    old = copy.deepcopy(given())
    for spec in old:
        del spec["source"], spec["marks"]
    content = json.dumps(notebook(said("Yes."), bare=True)).encode()
    answers, _ = written.read_written(read_notebook(content), old, course_work.course()["version"])
    assert answers[QUESTION].text == "Yes."


def test_odd_code_is_neither_run_nor_an_error():
    odd = ("x = " + "(" * 2_000, "-" * 2_400 + "1", "x\0", '"\\d"', "%%time\nx", "x?", "a" * 50_000)
    for source in odd:
        read(notebook(lambda cell, source=source: [cell | {"source": source}]))
