"""What a student wrote in words, and how the given cells of a notebook differ from those that were handed out.

A cell is known by its id; where an editor took that away, by nbgrader's name for it, its text, its question or its
place. What is in the student's own cells belongs to the question above them.
"""

import ast
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cache, lru_cache
from itertools import pairwise

from labkit.course.course_file import Json, Spec
from labkit.course.release import MINUTES_OR_POINTS, source_hash
from labkit.course.result import WrittenAnswer
from labkit.course.submission.notebook import dict_of
from labkit.course.task import PROSE_STUB

MOST_ANSWER = 32_000  # characters; the cell of a spreadsheet holds 32,767
MOST_CODE = 2_500  # characters of a cell that is parsed; it takes a second for 100,000
ALIKE = 0.85  # of a question and one that was typed again
MOST_COMPARED = 200  # cells, with each that is looked for
WORD = re.compile(r"[^\W_]+")
MAGIC = re.compile(r"^([ \t]*)([%!].*|[\w.]+\?{1,2})$", re.MULTILINE)  # IPython's, no Python
STUB = re.compile(rf"^[*_]{{0,3}}{PROSE_STUB.strip('*.')}\.?[*_]{{0,3}}", re.MULTILINE | re.IGNORECASE)
Cell = Spec  # as read_notebook gives it
Matched = Sequence[tuple[Cell, Spec | None]]  # each with that which was handed out as it; None: the student's own


def read_written(notebook: Json, given: Sequence[Spec], version: str) -> tuple[dict[str, WrittenAnswer], list[str]]:
    """The answers in words, by question, and what is odd about a notebook's cells.

    Args:
        notebook: as ``read_notebook`` gives it.
        given: its cells as ``course.json`` describes them.
        version: of the course.
    """
    cells = [part for cell in notebook["cells"] for part in _apart(cell, given)]
    matched, question, above = list(zip(cells, match(cells, given), strict=True)), None, list[str]()
    parts: dict[str, list[str]] = {spec["name"]: [] for spec in given if is_asked(spec)}
    instead: dict[str, list[str]] = {}
    for cell, same in matched:
        text = "" if _computes(cell) and not same else _own_words(cell["source"], same)
        if same:
            instead.setdefault(same["name"], above)
            question, above = same, []
        if question and is_asked(question):
            parts[question["name"]].append(text)
        elif not same:
            above.append(text)
    flags = [*notebook["flags"], *_about_the_cells(matched, notebook["metadata"], given, version)]
    answers = {}
    for spec in filter(is_asked, given):
        name, words = spec["name"], parts[spec["name"]]
        # Where nothing is in or below a question, it may have been answered above.
        text = "\n\n".join(dict.fromkeys(filter(None, words if any(words) else instead.get(name, []))))
        if len(text) > MOST_ANSWER:
            flags.append(f"the answer {name} has {len(text):,} characters; the first {MOST_ANSWER:,} are shown")
        if text:
            answers[name] = WrittenAnswer(spec["head"], text[:MOST_ANSWER])
    return answers, flags


def _apart(cell: Cell, given: Sequence[Spec]) -> list[Cell]:
    """A cell into which several questions were merged, in parts that begin with one each."""
    heads = [spec["head"] for spec in given if spec["head"]] if cell["type"] != "code" else []
    starts = sorted(place.start() for head in heads if (place := _question(head).search(cell["source"])))
    if len(starts) < 2:
        return [cell]
    parts = [cell["source"][start:end] for start, end in pairwise([0, *starts[1:], len(cell["source"])])]
    return [{**cell, "id": "", "name": "", "source": part} for part in parts]


def is_asked(spec: Spec) -> bool:
    """Whether a cell is a question with points that is answered in words."""
    return bool(spec["role"] == "answer" and spec["points"])


def _own_words(source: str, same: Spec | None) -> str:
    """The text of a cell without its question and the invitation to answer."""
    head = same["head"] if same else ""
    text, cuts = _question(head).subn("", source, count=1) if head else (source, 1)
    if not cuts:
        rest = "\n".join(line for line in source.split("\n") if not _is_like(line, head))
        text = rest if WORD.search(rest) else source
    return STUB.sub("", text.replace(PROSE_STUB, "")).strip()


# Code and questions, whatever their form


@lru_cache(2_000)
def _code(source: str) -> str | None:
    """What code computes: without layout, comments, texts that nothing takes, and the order of imports.

    None, if it is no Python; "" if it computes nothing.
    """
    if len(source) > MOST_CODE:
        return source
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(MAGIC.sub(lambda line: f"{line[1]}_({line[2]!r})", source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    imports, others = [], []
    try:
        for node in ast.walk(tree):
            if isinstance(body := getattr(node, "body", None), list):
                node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
        for line in tree.body:
            if isinstance(line, ast.Import | ast.ImportFrom):
                module = getattr(line, "module", "")
                imports += [f"{module} {alias.name} {alias.asname}" for alias in line.names]
            else:
                others.append(ast.dump(line))
    except (RecursionError, MemoryError):  # Python, but nested too deeply
        return " ".join(source.split())
    told = "\n".join(sorted(imports) + others)
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest() if told else ""


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _computes(cell: Cell) -> bool:
    """Whether a cell holds code; prose in a code cell is no Python, or a comment."""
    return cell["type"] == "code" and bool(_code(cell["source"]))


def _plain(text: str) -> str:
    return " ".join(WORD.findall(text.casefold()))


@cache
def _question(head: str) -> re.Pattern[str]:
    """Finds a question at the start of a line, whatever its marks, blanks, case and points; its heading may lack."""
    heading, asked = _heading_and_question(head)
    title = rf"(?:{_loosely(heading)}[\W_]+)?" if heading else ""
    pattern = rf"^[#*_> \t]{{0,8}}{title}{_loosely(asked)}(?:[^\w\s]|_)*"
    return re.compile(pattern, re.MULTILINE | re.IGNORECASE)


def _loosely(line: str) -> str:
    words = r"[\W_]+".join(map(re.escape, WORD.findall(line)))
    return rf"{words}(?![^\W_])(?:[\W_]{{1,4}}(?:[\d.]+ points?|for you)\b)?"


def _heading_and_question(head: str) -> tuple[str, str]:
    lines = [MINUTES_OR_POINTS.sub("", line.strip("#* ")) for line in head.splitlines() if WORD.search(line)]
    first = 1 if head.startswith("#") and len(lines) > 1 else 0
    return " ".join(lines[:first]), " ".join(lines[first:])


def _is_like(line: str, head: str) -> bool:
    """Whether a line is a question that was typed again, with small changes."""
    asked = _plain(_heading_and_question(head)[1])
    text = _plain(MINUTES_OR_POINTS.sub("", line.strip("#* ")))[: 2 * len(asked)]
    return len(asked) > 20 and SequenceMatcher(None, asked, text, autojunk=False).ratio() >= ALIKE


# Cells that were handed out


def _may_be_it(cell: Cell, spec: Spec) -> bool:
    return cell["type"] == "code" and spec["role"] in ("task", "check")


def match(
    cells: Sequence[Cell], given: Sequence[Spec], may_be: Callable[[Cell, Spec], bool] = _may_be_it
) -> list[Spec | None]:
    """For each cell that which was handed out as it; None for the student's own. A split answer is there twice.

    Args:
        cells: as ``read_notebook`` gives them.
        given: as ``course.json`` describes them.
        may_be: whether a cell may be one that has neither its id nor its name and is changed, by its place.
    """
    ids = {spec["id"]: spec for spec in given}
    handed_out = [ids.get(cell["id"]) for cell in cells]
    lost = {id: spec for id, spec in ids.items() if spec not in handed_out}
    for is_it in (_has_its_name, _is_as_given, _has_its_question, _has_a_question_like_it):
        own = [number for number, spec in enumerate(handed_out) if spec is None]
        for number in own[:MOST_COMPARED] if is_it in COSTLY else own:
            parts = [spec for spec in given if spec["role"] == "answer"] if is_it in OF_PARTS else []
            if spec := next((spec for spec in [*lost.values(), *parts] if is_it(cells[number], spec)), None):
                handed_out[number] = spec
                lost.pop(spec["id"], None)
    for spec in lost.values():
        place = (number for number in _place_of(spec, given, handed_out) if may_be(cells[number], spec))
        if (number := next(place, -1)) >= 0:
            handed_out[number] = spec
    return handed_out


def _has_its_name(cell: Cell, spec: Spec) -> bool:
    return bool(spec["name"]) and cell["name"] == spec["name"]


def _is_as_given(cell: Cell, spec: Spec) -> bool:
    """Whether a cell is as it was handed out, up to what formatters change."""
    theirs, ours = cell["source"], spec.get("source", "")
    # Length first: to compare a text of megabytes with every cell takes many seconds.
    if cell["type"] != spec["type"] or (ours and len(theirs) > 3 * len(ours) + 200):
        return False
    if source_hash(theirs) == spec["hash"] or not ours:
        return bool(source_hash(theirs) == spec["hash"])
    if spec["type"] != "code":
        return bool(_plain(ours)) and _plain(theirs) == _plain(ours)
    return (_code(theirs) or theirs.split()) == (_code(ours) or ours.split())


def _has_its_question(cell: Cell, spec: Spec) -> bool:
    return bool(spec["head"]) and not _computes(cell) and bool(_question(spec["head"]).search(cell["source"]))


def _has_a_question_like_it(cell: Cell, spec: Spec) -> bool:
    lines = [line for line in cell["source"].split("\n", 8)[:8] if line.strip()][:3]
    return bool(spec["head"]) and not _computes(cell) and any(_is_like(line, spec["head"]) for line in lines)


KINDS = {"check": "a check", "given": "a given cell"}
COSTLY = (_is_as_given, _has_a_question_like_it)  # they parse, or look for the longest common text
OF_PARTS = (_has_its_name, _has_its_question)  # a cell split in two has its name, or its question, twice


def _place_of(spec: Spec, given: Sequence[Spec], handed_out: Sequence[Spec | None]) -> range:
    """The student's own cells between the last one that was handed out above a lost cell, and the next."""
    above = given[: given.index(spec)]
    start = max((number for number, other in enumerate(handed_out, 1) if other in above), default=0)
    return range(start, next((n for n in range(start, len(handed_out)) if handed_out[n]), len(handed_out)))


def _about_the_cells(matched: Matched, metadata: Json, given: Sequence[Spec], version: str) -> list[str]:
    """How a notebook's given cells differ from those that were handed out."""
    theirs = str(dict_of(metadata.get("labkit_course")).get("version", ""))[:20]
    there = {spec["id"]: cell for cell, spec in reversed(matched) if spec}
    # Without a version the cells themselves show whether it is this version.
    other = theirs != version and (bool(theirs) or 2 * len(there) < len(given))
    wanted = [spec for spec in given if is_asked(spec) or (spec["role"] in ("check", "task") and not other)]
    missing = [spec["name"] or spec["id"] for spec in wanted if spec["id"] not in there]
    names = ", ".join(missing)
    lost = [f"cells {names} are missing" if len(missing) > 1 else f"cell {names} is missing"] if missing else []
    if other:
        compared = f"of another course version ({theirs or 'none'} instead of {version}), so its cells are not compared"
        return [compared, *lost]
    places = {spec["id"]: number for number, spec in enumerate(given)}
    order = [places[cell["id"]] for cell, _ in matched if cell["id"] in places]
    if any(a > b for a, b in pairwise(order)):
        lost.append("the given cells are in another order")
    return [*_changes(matched, there, given), *lost]


def _changes(matched: Matched, cells: Mapping[str, Cell], given: Sequence[Spec]) -> Iterator[str]:
    """What was changed or doubled; only checks and given code are compared, whatever their form."""
    count = Counter(cell["id"] for cell, _ in matched)
    for spec in given:
        cell, name = cells.get(spec["id"]), f"cell {spec['name'] or spec['id']}"
        if cell and count[spec["id"]] > 1:
            yield f"{name} is there {count[spec['id']]} times"
        elif cell and spec["type"] == "code" and spec["role"] in KINDS and not _is_as_given(cell, spec):
            yield f"{name}, {KINDS[spec['role']]}, was changed"
