"""One line of progress for a cell, in a real kernel; plain tqdm in a terminal."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from tqdm import tqdm

from labkit.progress import progress
from labkit.rerun import execution

START = "import time\nfrom labkit.progress import progress, RED, GREEN"
LONG = (
    "for k in progress(range(4), 'round'):\n    for _ in progress(range(50), 'training', colour=RED): time.sleep(0.005)"
)
WELL = LONG + "\nprint('done')"
AN_ERROR = LONG + "\n    if k == 2: raise ValueError('no')"
WITHIN = """
for k in progress(range(8), 'round', done=2):
    with progress(range(50), 'evaluating', colour=GREEN) as bar:
        for n in bar:
            time.sleep(0.005)
            bar.set_postfix_str('accuracy 0.978', refresh=False)
"""
AN_INTERRUPT = WITHIN + "            if k == 3 and n == 45: raise KeyboardInterrupt"
SHORT = "for _ in progress(range(3), 'round'): pass"
CAUGHT = """
try:
    for k in progress(range(4), 'round'):
        time.sleep(0.4)
        1 / 0 if k == 2 else 0
except ZeroDivisionError:
    pass"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[nbformat.NotebookNode, list[str]]]:
    """Name -> the executed cell, and all texts that its line has shown; after each cell the next one still works."""
    sources = {
        "start": START,
        "well": WELL,
        "error": AN_ERROR,
        "within": AN_INTERRUPT,
        "short": SHORT,
        "caught": CAUGHT,
    }
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources.values()])
    folder = tmp_path_factory.mktemp("progress")
    seen: dict[int, list[str]] = {}

    class Watching(NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                seen.setdefault(index, []).append(message["content"]["data"].get("text/plain", ""))
            return super().process_message(message, cell, index)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (execution.kernel_environment(folder / "models", 1) | {"LABKIT_BARS": "1"}).items():
            patch.setenv(name, value)
        Watching(notebook, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": folder}}).execute()
    nbformat.validate(notebook)
    path = folder / "run.ipynb"
    nbformat.write(notebook, path)
    return {name: (cell, seen.get(i, [])) for i, (name, cell) in enumerate(zip(sources, notebook.cells, strict=True))}


def texts_of(cell: nbformat.NotebookNode) -> list[str]:
    return [output.data["text/plain"] for output in cell.outputs if "data" in output]


def test_a_cell_that_ends_well_keeps_one_line_of_what_it_did(cells):
    cell, seen = cells["well"]
    assert [output.get("text") for output in cell.outputs if output.output_type == "stream"] == ["done\n"]
    assert texts_of(cell) == ["done: round 4 of 4 in 0:01"]
    assert [output.output_type for output in cell.outputs].count("display_data") == 1
    assert seen[-1] == texts_of(cell)[0]


def test_the_line_counts_rounds_and_tells_the_time_that_is_left(cells):
    seen = cells["well"][1][:-1]
    assert all(re.match(r"round [1-4] of 4( · |$)", text) for text in seen), seen
    assert any(re.fullmatch(r"round [234] of 4 · training \d+ % · 0:0\d left", text) for text in seen), seen
    left = [int(found[1]) for text in seen if (found := re.search(r"0:0(\d) left", text))]
    assert left == sorted(left, reverse=True) or max(left) <= 1, left  # about a second in all


def test_an_error_leaves_one_honest_line(cells):
    cell, _ = cells["error"]
    assert texts_of(cell) == ["stopped at round 3 of 4"]
    assert [output.ename for output in cell.outputs if output.output_type == "error"] == ["ValueError"]


def test_an_interrupt_inside_an_inner_loop_says_where(cells):
    (text,) = texts_of(cells["within"][0])
    assert re.fullmatch(r"stopped at round 6 of 10 · evaluating \d\d % · accuracy 0.978", text)
    assert cells["within"][1][0].startswith("round 3 of 10 · evaluating")


def test_what_is_short_shows_nothing(cells):
    assert cells["short"][1] == []
    assert cells["short"][0].outputs == []


def test_an_error_that_was_caught_is_none(cells):
    assert texts_of(cells["caught"][0]) == ["done: round 3 of 4 in 0:01"]


def test_the_line_survives_html_export_without_a_widget(cells):
    notebook = nbformat.v4.new_notebook(cells=[cell for cell, _ in cells.values()])
    page, _ = HTMLExporter().from_notebook_node(notebook)
    body = page.partition("<body")[2]
    assert body.count("labkit-progress") == 4
    assert "widget" not in re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)
    assert "stopped at round 3 of 4" in body


def test_in_a_terminal_tqdm_draws_and_leaves_nothing(capfd, monkeypatch):
    monkeypatch.setenv("LABKIT_BARS", "1")
    assert list(progress(range(3), "round")) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == ""
    assert "round" in err
    assert err.endswith("\r")
    assert not tqdm._instances


def test_a_program_without_stderr_runs_all_the_same(monkeypatch):
    monkeypatch.setenv("LABKIT_BARS", "1")
    monkeypatch.setattr("sys.stderr", None)
    assert list(progress(range(3), "round")) == [0, 1, 2]


def test_off_means_off(capfd):
    assert list(progress(range(3), "round", done=2)) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", sorted(Path("notebooks").glob("0*.ipynb")), ids=lambda path: path.stem)
def test_no_stored_output_is_a_line_or_a_widget(path):
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            assert "widget" not in str(output.get("data", {}).keys())
            assert "labkit-progress" not in str(output)
