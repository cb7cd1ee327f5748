"""What can be said of a notebook without running it; also what nbval does not look at, such as cells never run."""

import ast
import copy
import random
import re
import string
from collections.abc import Iterator

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from labkit import runtime
from labkit.rerun.comparison import PICTURES, outputs_differ

FOLDER = runtime.PROJECT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SERIES = [
    "01_training",
    "02_random_pruning",
    "03_l1_pruning",
    "04_structured_pruning",
    "05_iterative_pruning",
    "06_global_pruning",
    "07_smaller_and_faster",
    "08_pruning_frontier",
    "09_mask_detective",
    "10_without_retraining",
]
LINES, LINES_OF_A_DEFINITION = 12, 25  # of a cell; blank ones and the marks of solutions do not count
MARKER = re.compile(r"\s*### (BEGIN|END) SOLUTION")
TITLE = re.compile(r"# \d\d · \S.* \(\d+ min reading, \d+ min computing\)")
# Word for the complaint -> what no code cell may contain.
FORBIDDEN_IN_CODE = {
    "a magic or shell command": re.compile(r"^\s*[%!]", re.MULTILINE),
    "sys.path": re.compile(r"\bsys\.path\b"),
    "a warnings filter": re.compile(r"\b(filterwarnings|simplefilter|catch_warnings)\b"),
    "plt. other than plt.show()": re.compile(r"\bplt\.(?!show\(\))"),
    "a word that switches nbval off": re.compile(r"NBVAL_|PYTEST_VALIDATE"),
}
# ... and what neither a source nor an output may contain.
FORBIDDEN_ANYWHERE = {
    "an absolute path": re.compile(r"(?<![\w./])/(tmp|work|root|home|Users|usr|opt)\b|\b[A-Za-z]:\\"),
    "a memory address": re.compile(r"\b0x[0-9a-fA-F]{6,}"),
}


def complaints(notebook: NotebookNode) -> list[str]:
    """Everything that is wrong with an executed notebook of the series, in words."""
    return [*_about_the_file(notebook), *_about_the_parts(notebook), *_about_the_cells(notebook)]


def _about_the_file(notebook: NotebookNode) -> Iterator[str]:
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"not valid: {str(error).splitlines()[0]}"


def _about_the_parts(notebook: NotebookNode) -> Iterator[str]:
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if not TITLE.fullmatch(prose.partition("\n")[0]) or notebook.cells[0].cell_type != "markdown":
        yield "the first line is not '# 00 · Title (0 min reading, 0 min computing)'"
    if "](GLOSSARY.md" not in prose:
        yield "no link to the glossary"
    if not any(re.search(r"^prediction = ", source, re.MULTILINE) for source in code):
        yield "no prediction"
    if not any("labkit.check_claims(" in source for source in code):
        yield "no check cell"
    if notebook.cells[-1].source != "print(labkit.footer())":
        yield "the last cell is not print(labkit.footer())"


def _about_the_cells(notebook: NotebookNode) -> Iterator[str]:
    count = 0
    for cell in notebook.cells:
        texts = [cell.source]
        if cell.cell_type == "code":
            count += 1
            where = f"code cell {count}"
            yield from (f"{where}: {what}" for what in _about_a_code_cell(cell, count))
            texts += [text for output in cell.outputs for text in _texts(output)]
        else:
            where = f"prose after code cell {count}"
        for text in texts:
            for what, pattern in FORBIDDEN_ANYWHERE.items():
                if pattern.search(text):
                    yield f"{where}: {what}, {pattern.search(text)[0]}"


def _about_a_code_cell(cell: NotebookNode, count: int) -> Iterator[str]:
    if cell.execution_count != count:
        yield f"its execution count is {cell.execution_count}, not {count}: run all cells in order"
    lines = sum(bool(line.strip()) and not MARKER.fullmatch(line) for line in cell.source.splitlines())
    try:
        body = ast.parse(cell.source).body
        allowed = LINES_OF_A_DEFINITION if [type(node) for node in body] == [ast.FunctionDef] else LINES
        if lines > allowed:
            yield f"{lines} lines, more than {allowed}"
    except SyntaxError:
        yield "not plain Python"
    yield from (what for what, pattern in FORBIDDEN_IN_CODE.items() if pattern.search(cell.source))
    if "show_table(" in cell.source and re.search(r"†\{[^{}]*:\.\d", cell.source):
        yield "a † number without a width in a table: on a slower machine its column moves"
    if cell.metadata.get("tags"):
        yield f"tags {cell.metadata['tags']}"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"an error, {output.ename}"
        if output.get("name") == "stderr":
            yield "something on stderr"
        if "✗" in "".join(_texts(output)) and "check_claims" in cell.source:
            yield "a claim does not hold"
        # nbconvert looks under the type. A text without a number says no more than that there is a figure.
        text = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if "image/png" in output.get("data", {}) and not (len(text) > 40 and re.search(r"\d", text)):
            yield f"a figure whose text is {text!r}: labkit.show computes one"


def _texts(output: NotebookNode) -> list[str]:
    """Everything that an output says in words."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.evalue, *output.traceback]
    return [str(content) for kind, content in output.data.items() if kind not in PICTURES]


# The notebooks


@pytest.mark.parametrize("name", SERIES)
def test_notebook_exists(name):
    assert (FOLDER / f"{name}.ipynb").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_the_stored_notebook(path):
    assert complaints(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_utf8_with_unix_line_ends(path):
    content = path.read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    assert content.decode("utf-8")[0] == "{"
    assert nbformat.read(path, as_version=nbformat.NO_CONVERT).nbformat == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_title_number_and_links_fit_the_files(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.startswith(f"# {path.stem[:2]} · ")
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\((?!https?:|#|attachment:)([^)#]+)", prose):
        assert (FOLDER / target).exists(), target
    assert [text for text in re.findall(r"!\[([^]]*)\]", prose) if len(text) <= 40] == []


WIDEST = 110  # columns that a page of 1366 pixels shows beside the list of files


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_table_is_wider_than_the_page(path):
    texts = [
        (c.id, text)
        for c in nbformat.read(path, as_version=4).cells
        for o in c.get("outputs", [])
        for text in _texts(o)
    ]
    assert [(cell, max(map(len, text.splitlines() or [""]))) for cell, text in texts if _widest(text) > WIDEST] == []


def _widest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_points_stand_where_they_are_earned(path):
    """Every answer in words says its points, and so does the text before each checked task."""
    said = []
    for cell in nbformat.read(path, as_version=4).cells:
        grader = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "markdown":
            head = cell.source.partition("<!-- ### BEGIN")[0]
            found = re.search(r"\((\d+) (?:bonus )?points?\b|\(for you\)", head)
            said = [found] if found else said
            if grader.get("solution"):
                assert found, head
                assert int(found[1] or 0) == grader["points"], head
        elif grader.get("grade"):
            assert said, cell.id
            assert said[-1][1] == str(grader["points"]), (cell.id, said[-1][0])


# The checker itself, on notebooks broken by hand


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def figure(text: str) -> NotebookNode:
    data = {"image/png": "0xabcdef12", "text/plain": "<Figure>"}
    return new_output("display_data", data=data, metadata={"image/png": {"alt": text}})


@pytest.fixture
def good():
    """A notebook that nobody can complain about."""
    code = [
        ("import labkit", []),
        ("prediction = 0.5", []),
        ("labkit.check_claims(\n    ('one', lambda: True, '-'),\n)", [stream("✓ one\n")]),
        ("def f(x):\n" + "    x += 1\n" * 23 + "    return x", []),
        ("print(labkit.footer())", [stream("labkit 0.1.0\n")]),
    ]  # fmt: skip
    cells = [new_markdown_cell("# 09 · Toy pruning (5 min reading, 1 min computing)\n\n[words](GLOSSARY.md)")]
    for count, (source, outputs) in enumerate(code, start=1):
        cells.append(new_code_cell(source, outputs=outputs, execution_count=count))
    return new_notebook(cells=cells)


def test_checker_has_no_complaint_about_a_good_notebook(good):
    assert complaints(good) == []


def set_source(number, source):
    def alter(notebook):
        notebook.cells[number].source = source

    return alter


def set_outputs(number, *outputs):
    def alter(notebook):
        notebook.cells[number].outputs = list(outputs)

    return alter


def set_count(number, count):
    def alter(notebook):
        notebook.cells[number].execution_count = count

    return alter


def set_tags(*tags):
    def alter(notebook):
        notebook.cells[1].metadata["tags"] = list(tags)

    return alter


def drop(number):
    def alter(notebook):
        del notebook.cells[number]
        for count, cell in enumerate(notebook.cells[1:], start=1):
            cell.execution_count = count

    return alter


def make_invalid(notebook):
    notebook.cells[1]["surprise"] = 1


TITLED = "# 09 · Toy pruning (5 min reading, 1 min computing)\n\n"


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (set_count(1, None), "code cell 1: its execution count is None, not 1"),
        (set_count(5, 9), "code cell 5: its execution count is 9, not 5"),
        (set_outputs(1, new_output("error", ename="ValueError", evalue="x")), "code cell 1: an error, ValueError"),
        (set_outputs(1, stream("careful", "stderr")), "code cell 1: something on stderr"),
        (set_outputs(1, stream("saved to /tmp/x.pth")), "code cell 1: an absolute path, /tmp"),
        (set_outputs(1, stream("saved to C:\\Users")), "code cell 1: an absolute path, C:\\"),
        (set_outputs(1, new_output("execute_result", data={"text/plain": "'/work/a'"})), "an absolute path, /work"),
        (set_outputs(1, stream("<Axes at 0x7f77a341>")), "code cell 1: a memory address, 0x7f77a341"),
        (set_outputs(3, stream("✗ one\n  -\n")), "code cell 3: a claim does not hold"),
        (set_outputs(1, figure("")), "code cell 1: a figure whose text is ''"),
        (set_outputs(1, figure("The accuracy falls when weights are pruned")), "1: a figure whose text is 'The"),
        (set_source(1, "x = open('/home/me/x')"), "code cell 1: an absolute path, /home"),
        (set_source(1, "%matplotlib inline"), "code cell 1: a magic or shell command"),
        (set_source(1, "x = 1\n%%time"), "code cell 1: a magic or shell command"),
        (set_source(1, "!pip install x"), "code cell 1: a magic or shell command"),
        (set_source(1, "import sys\nsys.path.append('..')"), "code cell 1: sys.path"),
        (set_source(1, "warnings.filterwarnings('ignore')"), "code cell 1: a warnings filter"),
        (set_source(1, "plt.plot(x)\nplt.show()"), "code cell 1: plt. other than plt.show()"),
        (set_source(1, "# NBVAL_SKIP\nx = 1"), "code cell 1: a word that switches nbval off"),
        (set_source(1, "labkit.show_table([[f'†{x:.1f}']])"), "code cell 1: a † number without a width"),
        (set_source(1, "x = 1\n" * 13), "code cell 1: 13 lines, more than 12"),
        (set_source(4, "def f(x):\n" + "    x += 1\n" * 25), "code cell 4: 26 lines, more than 25"),
        (set_source(4, "def f(x):\n" + "    x += 1\n" * 12 + "f(1)"), "code cell 4: 14 lines, more than 12"),
        (set_source(1, "x ="), "code cell 1: not plain Python"),
        (set_tags("raises-exception"), "code cell 1: tags ['raises-exception']"),
        (set_tags("skip-execution", "nbval-skip"), "code cell 1: tags ['skip-execution', 'nbval-skip']"),
        (set_source(0, "# Toy pruning\n[words](GLOSSARY.md)"), "the first line is not '# 00 · Title"),
        (set_source(0, "# 09 · Toy pruning (5 min)\n[words](GLOSSARY.md)"), "the first line is not '# 00 · Title"),
        (set_source(0, TITLED), "no link to the glossary"),
        (set_source(0, f"{TITLED}[words](GLOSSARY.md) /root/x"), "prose after code cell 0: an absolute path, /root"),
        (drop(0), "the first line is not '# 00 · Title"),
        (drop(2), "no prediction"),
        (drop(3), "no check cell"),
        (drop(5), "the last cell is not print(labkit.footer())"),
        (make_invalid, "not valid: "),
    ],
)  # fmt: skip
def test_checker_complains_about_a_broken_notebook(good, break_it, words):
    break_it(good)
    assert any(words in complaint for complaint in complaints(good)), complaints(good)


def test_checker_takes_these_for_harmless(good):
    good.cells[0].source += "\nsee https://pytorch.org/tmp/x and models/root/x.pth, and/or"
    good.cells[1].source = "x = 5 % 3  # not a magic!\nimport matplotlib.pyplot as plt\nplt.show()\n" + "\n" * 20
    good.cells[2].outputs = [figure("Accuracy against sparsity: from ≈99.1 at 25 to ≈10 at 95.")]
    assert complaints(good) == []


# How much of an altered output is noticed


def altered(
    cells: list[NotebookNode], dice: random.Random, digits: bool
) -> Iterator[tuple[NotebookNode, NotebookNode]]:
    """Pairs of outputs and the same with one character changed, at places drawn by lot; a digit becomes another."""
    places = []
    for cell in cells:
        for number, output in enumerate(cell.outputs):
            key = None if output.output_type == "stream" else "text/plain"
            text = output.text if key is None else output.get("data", {}).get(key, "")
            places += [(cell, number, key, at) for at, sign in enumerate(text) if sign.isdigit() or not digits]
    for cell, number, key, at in dice.choices(places, k=EDITS):
        outputs = copy.deepcopy(cell.outputs)
        holder, name = (outputs[number], "text") if key is None else (outputs[number].data, key)
        signs = string.digits if digits else string.ascii_letters + string.digits + string.punctuation + " "
        new = dice.choice(signs.replace(holder[name][at], ""))
        holder[name] = holder[name][:at] + new + holder[name][at + 1 :]
        yield cell.outputs, outputs


EDITS = 1_000  # a notebook


@pytest.mark.parametrize(("digits", "least"), [(True, 0.95), (False, 0.99)], ids=["digits", "characters"])
def test_altered_outputs_are_noticed(digits, least):
    """One changed digit or character is told, but for the last digits after ≈ and what † marks."""
    shares = {}
    for path in NOTEBOOKS:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        dice = random.Random(f"{path.stem} {digits}")
        told = [outputs_differ(*pair) is not None for pair in altered(cells, dice, digits)]
        shares[path.stem] = sum(told) / len(told)
    assert sum(shares.values()) / len(shares) >= least, shares
    assert min(shares.values()) >= least - 0.07, shares  # 07 is full of times
