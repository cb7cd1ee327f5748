"""The pages that people read first: short, and every link leads somewhere."""

import itertools
import re
from pathlib import Path

import nbformat
import pytest

from labkit import runtime

PROJECT = runtime.PROJECT
PAGES = sorted(
    [
        *PROJECT.glob("*.md"),
        *PROJECT.glob("docs/*.md"),
        *PROJECT.glob("notebooks/*.md"),
        *PROJECT.glob("data/*.md"),
        *PROJECT.glob("models/*.md"),
    ]
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


# How the pages and the notebooks are written.

SOURCES = sorted(
    path
    for pattern in ("labkit/**/*.py", "labkit/**/*.j2", "labkit/**/*.mk", "scripts/*.py", "Makefile")
    for path in PROJECT.glob(pattern)
)
NOT_PLAIN = {
    '"cannot" is one word': r"\bcan not\b",
    "chance, not dice": r"\bdice\b",
    "an old word": r"\b(whence|thereof|therein|anew|afresh|it is told)\b",
    "British spelling": r"\b(\w*colors?|behaviors?|neighbor\w*|gray|centers?|normaliz\w+|initializ\w+)\b",
}
MOST_WORDS_OF_A_CELL, MOST_WORDS_OF_A_PARAGRAPH, LONGEST_LINE = 160, 110, 130


def without_code(text: str) -> str:
    """Markdown without blocks and pieces of code, and without the addresses of links."""
    return re.sub(r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)


def faults_of_words(text: str) -> list[str]:
    matches = {why: re.search(pattern, text, re.IGNORECASE) for why, pattern in NOT_PLAIN.items()}
    return [f"{why}: {match[0]}" for why, match in matches.items() if match]


def faults_of_a_cell(source: str) -> list[str]:
    words = len(re.sub(r"<!--.*?-->", "", source).split())
    return [f"{words} words: {source[:40]}"] if words > MOST_WORDS_OF_A_CELL else []


def faults_of_a_page(text: str) -> list[str]:
    """Paragraphs and points of lists that are too long, and lines that are; tables, code and pictures may be long."""
    prose = re.sub(r"^\|.*$", "", without_code(text), flags=re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n|\n(?= *(?:[-*]|\d+\.) )", prose)
    long = [part for part in paragraphs if len(part.split()) > MOST_WORDS_OF_A_PARAGRAPH]
    outside = re.sub(r"^```.*?^```|^\|.*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    wide = [line for line in outside.splitlines() if len(line) > LONGEST_LINE and not line.startswith("![")]
    return [f"{len(part.split())} words: {part.strip()[:40]}" for part in long] + [
        f"{len(line)} characters: {line[:40]}" for line in wide
    ]


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_prose_is_plain(path: Path):
    assert not faults_of_words(without_code(prose_of(path)))


def test_messages_and_docstrings_say_cannot_in_one_word():
    assert [path.name for path in SOURCES if re.search(r"\bcan not\b", path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_have_short_paragraphs_and_lines(path: Path):
    assert not faults_of_a_page(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_cells_of_prose_are_short(path: Path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert [fault for cell in cells for fault in faults_of_a_cell(cell.source)] == []


def test_the_checks_of_prose_find_what_they_look_for():
    assert faults_of_words("We can not throw Dice in colors anew.") == [
        '"cannot" is one word: can not', "chance, not dice: Dice", "an old word: anew", "British spelling: colors"
    ]  # fmt: skip
    assert faults_of_words(without_code("We cannot. `dice = 1` [a](dice.md)\n```sh\ncan not\n```\n")) == []
    assert faults_of_a_cell("word " * 161) == ["161 words: " + "word " * 8]
    assert faults_of_a_cell("<!-- ### BEGIN SOLUTION -->" + "word " * 160) == []
    assert faults_of_a_page("a " * 60 + "\n" + "b " * 51) == ["111 words: " + "a " * 20]
    assert faults_of_a_page("- " + "a " * 60 + "\n- " + "b " * 51) == []
    assert faults_of_a_page("x" * 131 + "\n\n|" + "y" * 131 + "\n\n```\n" + "z" * 131 + "\n```\n") == [
        "131 characters: " + "x" * 40
    ]
