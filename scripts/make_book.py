"""Make the book: README, notebooks with their stored outputs, pages and labkit's public names, as one site.

python scripts/make_book.py    writes build/book/html; nothing is executed, no network is needed, warnings are errors
"""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbformat

from labkit import runtime
from labkit.course.playground import write_playground

BOOK = runtime.PROJECT / "build" / "book"
PAGES = ("STUDENTS.md", "INSTRUCTORS.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/results.md", "notebooks/GLOSSARY.md")
FOLDERS = ("data/README.md", "models/README.md")
BESIDE = ("LICENSE", "docs/frontier.png", "docs/_static", "notebooks/images")
FLOORS = {"labkit": "What notebooks 01 to 07 use", "labkit.study": "The study", "labkit.course": "Exercises"}
FILE_AS_TEXT = re.compile(r"\[[\w/]+\.md\](?=\()")
QUESTION = re.compile(r"\| \[[^]]+\]\(notebooks/([\w.]+\.ipynb)\) \| ([^|]+) \|")
# Raw HTML, since the page is made only after the book; it stands before the first picture.
PLAYGROUND = """Before you install anything: <a href="playground.html">the playground</a>. Draw a digit, prune the
network in your browser, and guess what it still knows.

"""
# What the theme leaves out, for those who listen to a page or use no mouse.
AMENDED = {
    r'<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    r'<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Contents of the book">',
    r'<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
    r'(<img [^>]*src="([^"]*_images/[^"]+)"[^>]*>)': r'<a class="figure" href="\2">\1</a>',
    r'<article role="main"[^>]*>(?=\s*<noscript>)': r"\g<0><h1>Search</h1>",
}
CONTENTS = """
```{toctree}
:hidden:
:caption: Notebooks
%s
notebooks/GLOSSARY
```

```{toctree}
:hidden:
:caption: Pages
STUDENTS
INSTRUCTORS
CONTRIBUTING
docs/results
reference
data/README
models/README
CHANGELOG
```
"""


def lay_out(source: Path) -> None:
    """Copy what the book is made of, under the same relative paths, so that links between the pages hold."""
    for name in (*PAGES, *FOLDERS, *BESIDE):
        path, target = runtime.PROJECT / name, source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
    readme = (runtime.PROJECT / "README.md").read_text(encoding="utf-8")
    questions = dict(QUESTION.findall(readme))
    contents = CONTENTS % "\n".join(f"notebooks/{Path(name).stem}" for name in questions)
    before, picture, after = readme.partition("![")
    (source / "index.md").write_text(before + PLAYGROUND + picture + after + contents, encoding="utf-8")
    for page in source.rglob("*.md"):
        # A link without text shows the title of its page.
        page.write_text(FILE_AS_TEXT.sub("[]", page.read_text(encoding="utf-8")), encoding="utf-8")
    (source / "reference.rst").write_text("\n".join(reference()), encoding="utf-8")
    for name, question in questions.items():
        notebook = nbformat.read(runtime.PROJECT / "notebooks" / name, as_version=4)
        # The title carries the minutes; a list of titles is easier to read without them.
        with_question = rf"\1\n\n**The question:** {question} (\2)"
        notebook.cells[0].source = re.sub(r"\A(# .+?) \((.+)\)", with_question, notebook.cells[0].source)
        nbformat.write(notebook, source / "notebooks" / name)


def reference() -> Iterator[str]:
    """The page of public names, floor by floor and module by module, in reStructuredText."""
    yield from ("labkit", "======", "", "The public names of the helper package, from their docstrings.", "")
    for name, title in FLOORS.items():
        floor = importlib.import_module(name)
        yield from (title, "-" * len(title), "", f"``import {name}``", "")
        for module, names in public_names(floor).items():
            yield from (module, "^" * len(module), "", f".. currentmodule:: {name}", "")
            for public in names:
                kind = "autoclass" if inspect.isclass(getattr(floor, public)) else "autofunction"
                yield from (f".. {kind}:: {public}", "   :members:" if kind == "autoclass" else "", "")


def public_names(floor: ModuleType) -> dict[str, list[str]]:
    """Module of labkit -> the classes and functions that a floor offers from it, in the order of its source."""
    modules: dict[str, list[str]] = {}
    for name in floor.__all__:
        value = getattr(floor, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            modules.setdefault(value.__module__, []).append(name)
    return modules


def amend(html: Path) -> None:
    """Mend the pages' markup in place, where the theme's is not accessible."""
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern, replacement in AMENDED.items():
            text = re.sub(pattern, replacement, text)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(BOOK, ignore_errors=True)
    lay_out(BOOK / "source")
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        str(runtime.PROJECT / "docs"),
    ]
    done = subprocess.run([*build, str(BOOK / "source"), str(BOOK / "html")], check=False)
    amend(BOOK / "html")
    write_playground(BOOK / "html" / "playground.html")
    print(f"open {BOOK / 'html' / 'index.html'}" if done.returncode == 0 else "the book was not made")
    sys.exit(done.returncode)
