"""The book: made without a warning, and readable in a real browser, wide and narrow, light and dark."""

import importlib.util
import re
import subprocess
import sys

import pytest
from test_browser import LAPTOP, PHONE, axe, browser  # noqa: F401

from labkit import runtime

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not importlib.util.find_spec("furo"), reason="no Sphinx: make book installs it"),
]


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


def test_the_book_is_read_by_keyboard_and_searched(browser, book):  # noqa: F811
    page = browser.new_page(viewport=LAPTOP)
    page.goto((book / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent.trim()") == "Skip to content"
    page.get_by_role("link", name="the playground").click()
    assert page.evaluate("() => playground.ready.then(() => document.title)") == "Pruning playground"
    page.goto((book / "notebooks" / "03_l1_pruning.html").as_uri())
    assert "The question:" in page.inner_text("article")
    assert page.locator(".related-pages a").count() == 2  # the page before and the page after
    page.goto((book / "search.html").as_uri() + "?q=sparsity_report")
    page.wait_for_selector("#search-results li")
    page.close()


def test_every_notebook_and_public_name_is_in_the_book(book):
    import labkit

    reference = (book / "reference.html").read_text(encoding="utf-8")
    functions = [name for name in labkit.__all__ if callable(getattr(labkit, name))]
    assert [name for name in functions if f'id="labkit.{name}"' not in reference] == []
    notebooks = sorted(runtime.PROJECT.glob("notebooks/[0-9]*.ipynb"))
    assert [path.stem for path in notebooks if not (book / "notebooks" / f"{path.stem}.html").exists()] == []
