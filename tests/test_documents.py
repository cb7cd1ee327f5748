"""The pages that people read first: short, and every link leads somewhere."""

import itertools
import re
from pathlib import Path

import nbformat
import pytest

from labkit import runtime

PROJECT = runtime.PROJECT
PAGES = sorted(
    [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("notebooks/*.md"), *PROJECT.glob("data/*.md")]
)
NOTEBOOKS = sorted(PROJECT.glob("notebooks/[0-9]*.ipynb"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def anchors_of(path: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, blanks as hyphens, no punctuation."""
    headings = re.findall(r"^#+ +(.+)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert len(text.split()) <= 700
    assert all(len(line) <= 125 or line.startswith("|") for line in text.splitlines())


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path: Path):
    lost = []
    for link in LINK.findall(prose_of(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor.lower() not in {a.lower() for a in anchors_of(target)}):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize(("path", "following"), list(itertools.pairwise(NOTEBOOKS)), ids=lambda path: path.name)
def test_each_notebook_links_the_next(path: Path, following: Path):
    assert following.name in LINK.findall(prose_of(path))
