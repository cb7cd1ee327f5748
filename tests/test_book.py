"""The book: made without a warning, and readable in a real browser, wide and narrow, light and dark."""

import functools
import http.server
import importlib.util
import re
import subprocess
import sys
import threading

import pytest
from test_browser import LAPTOP, PHONE, axe, browser  # noqa: F401

from labkit import runtime

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not importlib.util.find_spec("furo"), reason="no Sphinx: make book installs it"),
]

OVERFLOWING = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.innerText)"


@pytest.fixture(scope="module")
def book():
    done = subprocess.run(
        [sys.executable, str(runtime.PROJECT / "scripts" / "make_book.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return runtime.PROJECT / "build" / "book" / "html"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every notebook as ``make html`` writes it."""
    folder = tmp_path_factory.mktemp("exported")
    make = (runtime.PROJECT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"\$\(BIN\) (-m nbconvert .*\\\n.*)\n", make)[1].replace("\\\n", "")
    arguments = command.replace("build/html notebooks/[0-9]*.ipynb", str(folder)).split()
    notebooks = map(str, sorted(runtime.PROJECT.glob("notebooks/[0-9]*.ipynb")))
    subprocess.run([sys.executable, *arguments, *notebooks], cwd=runtime.PROJECT, check=True)
    return folder


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize(("site", "scheme"), [("book", "light"), ("book", "dark"), ("exported", "light")])
def test_every_page_is_accessible_fits_and_needs_no_network(browser, request, site, size, scheme):  # noqa: F811
    context = browser.new_context(viewport=size, color_scheme=scheme)
    faults, pages = {}, sorted(request.getfixturevalue(site).rglob("*.html"))
    assert len(pages) >= 9
    for path in pages:
        page, elsewhere = context.new_page(), []
        page.on("request", lambda request, seen=elsewhere: seen.append(request.url))
        page.goto(path.as_uri())
        wide = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        outside = [url for url in elsewhere if not url.startswith(("file:", "data:", "blob:"))]
        mute = page.locator("img:not([alt]), img[alt=''], img[alt^='No description']").count()
        violations = axe(page)
        if wide > 0 or outside or violations or mute:
            faults[path.name] = (wide, outside, violations, mute)
        page.close()
    context.close()
    assert not faults


def test_the_book_is_read_by_keyboard(browser, book):  # noqa: F811
    page = browser.new_page(viewport=LAPTOP)
    page.goto((book / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent.trim()") == "Skip to content"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "sidebar-search"
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    links = page.locator("article a").all_inner_texts()
    assert "For students" in links
    assert [text for text in links if text.endswith(".md")] == []
    page.get_by_role("link", name="the playground").click()
    assert page.evaluate("() => playground.ready.then(() => document.title)") == "Pruning playground"
    page.goto((book / "notebooks" / "03_l1_pruning.html").as_uri())
    assert "The question:" in page.inner_text("article")
    assert page.locator(".related-pages a").count() == 2  # the page before and the page after
    page.close()


@pytest.mark.parametrize(("drawer", "button"), [("sidebar", "nav-overlay-icon"), ("toc", "toc-header-icon")])
def test_on_a_phone_a_drawer_is_passed_while_closed_and_opened_by_a_key(browser, book, drawer, button):  # noqa: F811
    page = browser.new_page(viewport=PHONE)
    page.goto((book / "notebooks" / "08_pruning_frontier.html").as_uri())
    inside = f"() => document.activeElement.closest('.{drawer}-drawer') !== null"
    expanded = f"() => document.querySelector('.{button}').ariaExpanded"
    passed = []
    for _ in range(30):
        page.keyboard.press("Tab")
        passed.extend(page.evaluate("() => [...document.activeElement.classList]"))
        assert not page.evaluate(inside)
    assert button in passed
    for key in ("Enter", " "):
        page.focus(f".{button}")
        page.keyboard.press(key)
        assert page.evaluate(inside)
        assert page.evaluate(expanded) == "true"
        page.keyboard.press("Escape")
        assert page.evaluate(f"() => document.activeElement.matches('.{button}')")
        assert page.evaluate(expanded) == "false"
    page.close()


def test_code_and_outputs_fit_a_laptop_and_only_boxes_that_scroll_are_tab_stops(browser, book):  # noqa: F811
    page = browser.new_page(viewport=LAPTOP)
    cut_off = {}
    for path in sorted(book.glob("notebooks/[0-9]*.html")):
        page.goto(path.as_uri())
        cut_off[path.stem] = page.eval_on_selector_all("article pre", OVERFLOWING)
    assert not {name: blocks for name, blocks in cut_off.items() if blocks}
    assert page.locator("pre[tabindex]").count() == 0
    page.set_viewport_size(PHONE)
    page.wait_for_selector("pre[tabindex]")
    scrolling = page.eval_on_selector_all("pre", OVERFLOWING)
    assert page.locator("pre[tabindex][role=group][aria-label]").all_inner_texts() == scrolling
    page.close()


@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_commands_are_wrapped_and_never_cut_off(browser, book, size):  # noqa: F811
    page = browser.new_page(viewport=size)
    for name in ("index", "STUDENTS", "INSTRUCTORS"):
        page.goto((book / f"{name}.html").as_uri())
        commands = "article div:not(.highlight-python) > .highlight > pre"
        assert page.locator(commands).count()
        assert page.eval_on_selector_all(commands, OVERFLOWING) == []
    page.close()


def test_figures_on_a_phone_scroll_in_their_box_and_link_to_their_file(browser, book):  # noqa: F811
    page = browser.new_page(viewport=PHONE)
    page.goto((book / "notebooks" / "08_pruning_frontier.html").as_uri())
    widths = page.eval_on_selector_all(".cell_output img", "images => images.map(image => image.clientWidth)")
    assert widths and min(widths) >= 600
    page.goto((book / "index.html").as_uri())
    page.click("article a.figure")
    assert page.url.endswith("frontier.png")
    page.close()


def test_search_takes_several_words_and_shows_excerpts_where_the_site_is_served(browser, book):  # noqa: F811
    page = browser.new_page(viewport=LAPTOP)
    page.goto((book / "search.html").as_uri() + "?q=sparsity_report")
    page.wait_for_selector("#search-results li")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/search.html?q=one+threshold+for+all+layers")
        page.wait_for_selector("#search-results li:has-text('06 · Global pruning') .context")
        page.close()
        server.shutdown()


def test_every_notebook_and_public_name_is_in_the_book(book):
    import labkit

    reference = (book / "reference.html").read_text(encoding="utf-8")
    functions = [name for name in labkit.__all__ if callable(getattr(labkit, name))]
    assert [name for name in functions if f'id="labkit.{name}"' not in reference] == []
    notebooks = sorted(runtime.PROJECT.glob("notebooks/[0-9]*.ipynb"))
    assert [path.stem for path in notebooks if not (book / "notebooks" / f"{path.stem}.html").exists()] == []
