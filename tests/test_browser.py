"""What a person sees: notebooks in a real JupyterLab, and our pages, in a real Chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import course_work
import nbformat
import pytest
from typer.testing import CliRunner

from labkit import cli, runtime
from labkit.course import golf, release

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
axe_package = pytest.importorskip("axe_playwright_python", reason="no axe-core")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: install one, or name its program in CHROMIUM"),
]

AXE = (Path(axe_package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
FLAGS = ("gpu", "quic", "background-networking", "component-update", "sync")
TOKEN = "a-token-for-the-tests"
LAPTOP, PHONE = {"width": 1366, "height": 768}, {"width": 390, "height": 844}
TRAINED = "nb05-014"  # the cell of ten rounds of training
# Settings of JupyterLab: no question about news, and every cell in the document also where it is not in sight.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        flags = ["--no-first-run", *(f"--disable-{name}" for name in FLAGS)]
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


def axe(page, where=None, rules=None, kind="violations"):
    """What axe-core finds wrong, or right (``kind`` "passes"): rule -> the elements."""
    if not page.evaluate("() => typeof axe === 'object'"):
        page.evaluate(AXE)
    options = {"resultTypes": [kind]} | ({"runOnly": rules} if rules else {})
    found = page.evaluate("([where, options]) => axe.run(where || document, options)", [where, options])
    return {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in found[kind]}


# Our own pages


def made(player, weights, accuracy):
    return golf.Score(player, weights, 5_000, accuracy, "0" * 16, golf.course_of("tests"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The board of pruning golf, and all that is written when three are graded: good, bad and unreadable work."""
    root = tmp_path_factory.mktemp("pages")
    own = [made("labkit", *one) for one in ((372, 0.761), (559, 0.915), (621, 0.904), (2_000, 0.98), (122_809, 0.994))]
    players = [made("ada", 559, 0.93), made("W" * 64, 100_000, 0.99), made("Grace Hopper", 2_100, 0.95)]
    for name, scores in (("golf", own + players), ("golf-empty", own)):
        (root / f"{name}.html").write_text(golf.page(golf.best_lines(scores), "tests"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for student, seed in (("ab12", 0), ("cd34", 1)):
            hand_in(root / "class", student, seed, patch)
    (root / "class" / "labs_ef56.zip").write_bytes(b"no zip")
    (root / "course.json").write_text(json.dumps(course_work.course()), encoding="utf-8")
    shutil.rmtree(root / "class" / "work")
    told = ["grade", str(root / "class"), "--out", str(root), "--course", str(root / "course.json"), "--jobs", "1"]
    done = CliRunner().invoke(cli.app, told)
    assert done.exit_code == 0, done.output
    return root


def hand_in(folder, student, seed, patch):
    """Four of the networks, in one of two submissions each in another's place, and some answers."""
    start = course_work.base(seed)
    right = [
        start,
        course_work.at_random(start),
        course_work.pruned(start, course_work.prune.l1_unstructured, amount=0.25),
    ]
    names = ["CNN_MNIST", "CNN_MNIST_RND", "CNN_MNIST_L1", "CNN_MNIST_GLOBAL"]
    networks = dict(zip(names, [*right, course_work.globally(start)], strict=True))
    if seed:
        networks = dict(zip(names, reversed(networks.values()), strict=True))
    notebooks = course_work.worked_notebooks({})
    notebooks["03_l1_pruning"].cells[-1].source = "W" * 300
    given = course_work.answers_of(start, student, seed)
    work = course_work.write_work(folder / "work" / student, student, networks, given, notebooks, patch)
    course_work.zip_of(work, folder / f"labs_{student}.zip", student)


PAGES = {
    "golf": "golf.html",
    "golf without players": "golf-empty.html",
    "class": "index.html",
    "student": "feedback/*.html",
    "marking": "marking.html",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("kind", PAGES)
def test_page_has_nothing_that_axe_finds_and_does_not_scroll_sideways(kind, size, scheme, pages, browser):
    files = sorted(pages.glob(PAGES[kind]))
    assert len(files) == (3 if kind == "student" else 1)
    page = browser.new_page(viewport=size, color_scheme=scheme)
    for file in files:
        page.goto(file.as_uri())
        assert axe(page) == {}
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.close()


@pytest.mark.parametrize("kind", PAGES)
def test_table_or_figure_that_is_too_wide_for_a_phone_can_be_scrolled_by_keyboard(kind, pages, browser):
    page = browser.new_page(viewport=PHONE)
    page.goto(sorted(pages.glob(PAGES[kind]))[0].as_uri())
    wide = page.locator(".wide, .figure")
    moved = []
    for place in range(wide.count()):
        one = wide.nth(place)
        if one.evaluate("box => box.scrollWidth > box.clientWidth"):
            one.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_function("box => box.scrollLeft > 0", arg=one.element_handle(), timeout=5_000)
            moved.append(place)
    assert bool(moved) == (wide.count() > 0)
    page.close()


def test_table_of_everybody_is_sorted_by_its_buttons(pages, browser):
    page = browser.new_page(viewport=LAPTOP)
    page.goto((pages / "index.html").as_uri())
    table = page.locator("table:has(button)")
    for order in ("ascending", "descending"):
        table.get_by_role("button", name="points").click()
        points = [float(text) for text in table.locator("td:nth-child(2)").all_inner_texts()]
        assert points == sorted(points, reverse=order == "descending")
        assert len(set(points)) == 3
        assert table.locator("th:nth-child(2)").get_attribute("aria-sort") == order
    page.close()


def test_answers_are_marked_by_keyboard_kept_in_the_browser_and_taken_back(pages, browser, tmp_path):
    context = browser.new_context(viewport=LAPTOP, accept_downloads=True)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((pages / "marking.html").as_uri())
    press, state = page.keyboard.press, page.locator("#state")
    first = page.locator("article").first
    press("2")
    assert "is chosen now" in state.inner_text()
    assert first.locator("input").input_value() == ""
    for key in ("k", "1", "h", "c"):
        press(key)
    page.keyboard.type('=more, "please": n 2')
    for key in ("Escape", "j", "9"):
        press(key)
    assert "a number from 0 to 2" in state.inner_text()
    page.evaluate("() => scrollTo(0, document.body.scrollHeight)")
    for key in ("x", "n"):
        press(key)
    assert page.locator("#text").evaluate(
        "e => e.getBoundingClientRect().top > document.querySelector('.bar').clientHeight"
    )
    for key in ("j", "2"):
        press(key)
    assert "2 marks not yet in a file, kept in this browser" in state.inner_text()
    page.reload()
    assert first.locator("input").input_value() == "1.5"
    with page.expect_download() as download:
        press("s")
    download.value.save_as(tmp_path / "marks.csv")
    assert "2 marks saved" in state.inner_text()
    page.reload()
    assert state.inner_text() == ""
    assert problems == []
    out = shutil.copytree(pages, tmp_path / "again")
    told = ["grade", str(out / "class"), "--out", str(out), "--course", str(out / "course.json"), "--jobs", "1"]
    done = CliRunner().invoke(cli.app, [*told, "--marks", str(tmp_path / "marks.csv")])
    assert done.exit_code == 0, done.output
    feedback = "".join(path.read_text(encoding="utf-8") for path in (out / "feedback").glob("*.html"))
    assert "=more, &#34;please&#34;: n 2" in feedback
    assert "1.5 of 2 points" in feedback
    page.goto((out / "marking.html").as_uri())
    assert first.locator("textarea").input_value() == '=more, "please": n 2'
    assert state.inner_text() == ""
    context.close()


# Notebooks


def filled(path):
    """The released notebook with the authors' solutions, as a student has it who has solved all."""
    solved = nbformat.read(runtime.PROJECT / "notebooks" / path.name, as_version=4)
    sources = {cell.id: cell.source for cell in solved.cells if cell.cell_type == "code"}
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines = sources[cell.id].splitlines()
            cell.source = "\n".join(line for line in lines if release.BEGIN not in line and release.END not in line)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab in a released folder, its solutions filled in; gives its address and the folder of the notebooks."""
    root = tmp_path_factory.mktemp("lab")
    release.write_release(runtime.PROJECT / "notebooks", root / "labs")
    notebooks = root / "labs" / "notebooks"
    for path in notebooks.glob("*.ipynb"):
        filled(path)
    for name, setting in SETTINGS.items():
        path = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting), encoding="utf-8")
    own = {f"JUPYTER_{name}_DIR": str(root / name.lower()) for name in ("CONFIG", "RUNTIME", "DATA")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(root / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces")}
    own |= {"LABKIT_QUICK": "1", "LABKIT_MODELS": str(root / "models"), "LABKIT_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    own |= {"PYTHONPATH": str(root / "labs"), "IPYTHONDIR": str(root / "ipython")}
    outside = {key: value for key, value in os.environ.items() if key not in ("LABKIT_BARS", "MPLBACKEND")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0"]
    options += ["--ServerApp.allow_root=True", "--LabApp.expose_app_in_browser=True", "--no-browser"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (root / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=notebooks, env=outside | own, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_server(f"http://127.0.0.1:{port}/api", process, root / "log.txt")
            yield f"http://127.0.0.1:{port}", notebooks
        finally:
            process.terminate()  # its kernels end with it
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=30)


def wait_for_server(url, process, log):
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {log.read_text(encoding='utf-8')[-2_000:]}")


DRAWN = """() => jupyterapp.shell.currentWidget.content.widgets.every(cell => {
  const drawn = [...cell.node.querySelectorAll('.jp-OutputArea-output')];
  return drawn.length >= Math.min(cell.model.outputs?.length || 0, 1)
    && !drawn.some(one => /^Loading widget/.test(one.innerText));
})"""


class Notebook:
    """A notebook that is open in JupyterLab, by JupyterLab's own commands."""

    def __init__(self, page, server, name):
        self.page, self.name, self.problems = page, name, []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        # A workspace of its own: else JupyterLab also opens what was open before.
        page.goto(f"{server}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}")
        self.wait_until_open()

    def wait_until_open(self):
        self.page.wait_for_function(
            "path => { const panel = window.jupyterapp?.shell.currentWidget;"
            " return panel?.context?.path === path && panel.context.isReady"
            " && panel.sessionContext.session?.kernel?.status === 'idle'; }",
            arg=f"{self.name}.ipynb",
            timeout=60_000,
        )

    def wait_until_drawn(self):
        """Wait until all outputs are drawn, and JupyterLab's own picture, which covers all at first, has gone."""
        self.page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
        self.page.wait_for_function(DRAWN, timeout=60_000)

    def show_all(self):
        """Make the window so high that nothing has to be scrolled: axe-core passes over what is not in sight."""
        high = self.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
        self.page.set_viewport_size({"width": LAPTOP["width"], "height": high + 300})
        # JupyterLab's body has no height of its own, so that axe-core takes all in it for cut off.
        self.page.evaluate("() => { document.body.style.height = '100vh'; }")

    def close(self):
        """End its kernel, too: each takes a gigabyte of memory."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def reload(self):
        self.page.reload()
        self.wait_until_open()
        self.wait_until_drawn()

    def do(self, command, **arguments):
        """Execute a command, and wait until it has ended, at most five minutes."""
        end = "new Promise((_, fail) => setTimeout(() => fail('no end after 300 s'), 300000))"
        order = f"([name, told]) => Promise.race([jupyterapp.commands.execute(name, told), {end}])"
        return self.page.evaluate(f"async order => {{ await ({order})(order); }}", [command, arguments])

    def start(self, command):
        """Execute a command, and do not wait."""
        self.page.evaluate("name => { window.started = jupyterapp.commands.execute(name); }", command)

    def select(self, cell):
        self.page.evaluate(
            "id => { const book = jupyterapp.shell.currentWidget.content;"
            " book.activeCellIndex = book.widgets.findIndex(one => one.model.id === id); }",
            cell,
        )

    def cell(self, cell):
        """Where the cell is in the document."""
        number = self.page.evaluate(
            "id => jupyterapp.shell.currentWidget.content.widgets.findIndex(one => one.model.id === id)", cell
        )
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{number}']")

    def idle(self):
        self.page.wait_for_function(
            "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", timeout=300_000
        )


@contextmanager
def opened(lab, browser, name):
    context = browser.new_context(viewport=LAPTOP)
    try:
        notebook = Notebook(context.new_page(), lab[0], name)
        yield notebook
        notebook.close()
    finally:
        context.close()


TOO_WIDE = """() => {
  const found = [], page = document.documentElement;
  if (page.scrollWidth > window.innerWidth) found.push(`the page: ${page.scrollWidth}`);
  const boxes = '.jp-WindowedPanel-outer, .jp-OutputArea-output, .jp-RenderedMarkdown';
  for (const box of document.querySelectorAll(`.jp-NotebookPanel :is(${boxes})`))
    if (box.scrollWidth > box.clientWidth + 1)
      found.push(`${box.className}: ${box.scrollWidth} > ${box.clientWidth}: ${box.innerText.slice(0, 80)}`);
  for (const text of document.querySelectorAll('.jp-OutputArea-output pre')) {
    const lines = text.textContent.replace(/\\n$/, '').split('\\n').length;
    const height = parseFloat(getComputedStyle(text).lineHeight);
    if (text.getBoundingClientRect().height > (lines + 0.5) * height) found.push(`a line is broken: ${text.innerText}`);
  }
  return found;
}"""


def looked_at(notebook, path, shots):
    """Save, open again, and look, also in the dark."""
    notebook.do("docmanager:save")
    stored = nbformat.read(path, as_version=4)
    outputs = [output for cell in stored.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    assert len(outputs) > 5
    notebook.reload()
    page = notebook.page
    assert [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})] == []
    assert page.get_by_text("Error displaying widget").count() == 0
    assert page.evaluate(TOO_WIDE) == []
    notebook.do("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    notebook.wait_until_drawn()  # what the picture covers cannot be judged
    notebook.show_all()
    page.screenshot(path=shots / f"{path.stem}_dark.png")
    assert pale_or_dark(page) == []
    assert len(readable(page)) > 5
    assert notebook.problems == []


def pale_or_dark(page):
    """Outputs of ours whose text cannot be told from its ground; tracebacks have JupyterLab's own colours."""
    found = axe(page, [[".jp-OutputArea-output"]], ["color-contrast"])
    return [text for text in found.get("color-contrast", []) if "ansi-" not in text]


def readable(page):
    return axe(page, [[".jp-OutputArea-output"]], ["color-contrast"], "passes").get("color-contrast", [])


def test_contrast_of_an_output_is_seen(browser):
    """That the test of the dark theme can fail."""
    page = browser.new_page()
    page.set_content(
        "<html><body style='background: #111; color: #eee'>"
        "<div class='jp-OutputArea-output'><b style='color: #000'>black</b> <span class='ansi-red' style='color: #300'>"
        "an error</span> <i>white</i></div></body></html>"
    )
    (found,) = pale_or_dark(page)
    assert "black" in found
    assert ["white" in text for text in readable(page)] == [True]
    page.close()


@pytest.mark.parametrize("name", ["02_random_pruning", "09_mask_detective"])
def test_notebook_is_whole_after_it_was_run_saved_and_opened_again(name, lab, browser, tmp_path):
    with opened(lab, browser, name) as notebook:
        notebook.do("notebook:run-all-cells")
        notebook.idle()
        looked_at(notebook, lab[1] / f"{name}.ipynb", tmp_path)


def test_cell_that_was_interrupted_says_how_far_it_was_and_goes_on(lab, browser, tmp_path):
    name = "05_iterative_pruning"
    with opened(lab, browser, name) as notebook:
        notebook.start("notebook:run-all-cells")
        cell = notebook.cell(TRAINED)
        outputs = cell.locator(".jp-OutputArea-output")
        outputs.first.wait_for(timeout=120_000)  # its progress
        notebook.do("notebook:interrupt-kernel")
        cell.locator("text=KeyboardInterrupt").first.wait_for(timeout=30_000)
        notebook.idle()
        said = cell.locator(".labkit-progress").all_inner_texts()
        assert [("stopped" in text, text.strip().count("\n")) for text in said] == [(True, 0)], said
        # How far it was, and the error: IPython says before it where it could not show the error's place, as when the
        # interrupt comes between two lines.
        texts = [text for text in outputs.all_inner_texts() if "Unexpected exception formatting exception" not in text]
        assert len(texts) == 2, texts
        notebook.select(TRAINED)
        notebook.do("notebook:run-cell")
        notebook.idle()
        (said,) = cell.locator(".labkit-progress").all_inner_texts()
        assert said.startswith("done: round 10 of 10 in "), said
        assert cell.locator("text=KeyboardInterrupt").count() == 0
        notebook.do("notebook:run-all-below")
        notebook.idle()
        looked_at(notebook, lab[1] / f"{name}.ipynb", tmp_path)
