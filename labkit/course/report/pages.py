"""The pages of the report: self-contained HTML, no network, escaped, readable on a phone and by keyboard."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from labkit.course.packing import without_homes
from labkit.course.report import figures
from labkit.course.report.figures import Networks
from labkit.course.result import Result
from labkit.course.task import TASKS, Rows, total

OTHER_COURSE = "of another course version"  # in the flag of a notebook that belongs to another course.json


def bdi(value: object) -> Markup:
    """Text that is text in HTML too: no markup, no home folders, its writing direction kept to itself."""
    return Markup("<bdi>{}</bdi>").format(without_homes(str(value)))


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"bdi": bdi, "without_homes": without_homes}


def rendered(template: str, **context: Any) -> str:
    """A page of its own, which needs no other file; all text in it is escaped."""
    return _ENVIRONMENT.get_template(template).render(context) + "\n"


def class_page(
    results: Mapping[str, Result],
    labels: Mapping[str, str],
    missing: Sequence[str],
    *,
    nobodys: Sequence[str] = (),
    questions: int = 0,
) -> str:
    """The instructor's page: who needs a look first, then flags, then the class in figures, then everybody.

    Args:
        results: pseudonym -> result.
        labels: pseudonym -> what the student is called on this page.
        missing: pseudonyms of those who handed in nothing.
        nobodys: pseudonyms of the submissions of which nobody can tell whose they are.
        questions: number of questions that are answered in words.
    """
    read = [result for result in results.values() if "" not in result.refused]
    shares = {name: [result.tasks[name].points / task.points for result in read] for name, task in TASKS.items()}
    flags, with_notebooks = _flags(results), [key for key in results if "read" in results[key].notebooks.values()]
    elsewhere = [key for key in with_notebooks if any(OTHER_COURSE in line for line in flags.get(key, ()))]
    if len(elsewhere) <= len(with_notebooks) / 2:
        elsewhere = []
    for key in elsewhere:
        flags[key] = [line for line in flags[key] if OTHER_COURSE not in line]
    flags, common = _without_common(flags, len(results))
    return rendered(
        "class.html.j2",
        results=results,
        labels=labels,
        needs={"Whose work is this?": dict.fromkeys(nobodys, ""), "Nothing handed in": dict.fromkeys(missing, "")}
        | _needs(results, questions),
        flags=flags,
        common=common,
        elsewhere=len(elsewhere),
        with_notebooks=len(with_notebooks),
        shares=shares,
        tasks=TASKS,
        task_headers=[f"#{name}" for name in TASKS],
        total=total(),
        task_figure=figures.task_distribution(shares),
        prediction_figure=figures.predictions(_predictions(results)),
        network_figure=figures.accuracy_sparsity([result.networks for result in results.values()]),
    )


def _needs(results: Mapping[str, Result], questions: int) -> dict[str, dict[str, str]]:
    """Reason -> pseudonyms of the students who may need the instructor, each with a detail."""
    needs: dict[str, dict[str, str]] = {
        name: {} for name in ("Could not be read", "Only notebooks, no networks", "0 points", "Questions unanswered")
    }
    for key, result in results.items():
        worked = any(task.attempted for task in result.tasks.values())
        if "" in result.refused:
            needs["Could not be read"][key] = ""
            continue
        if not worked and "read" in result.notebooks.values():
            needs["Only notebooks, no networks"][key] = ""
        elif not result.points + result.bonus:
            needs["0 points"][key] = "" if worked else "nothing that a task asks for"
        if len(result.answers) < questions:
            needs["Questions unanswered"][key] = f"{questions - len(result.answers)} of {questions}"
    return needs


def _flags(results: Mapping[str, Result]) -> dict[str, list[str]]:
    """Pseudonym -> what was refused and what is odd, each thing once."""
    flags = {}
    for key, result in results.items():
        refused = [f"{name or 'the submission'} was refused: it {why}" for name, why in result.refused.items()]
        if refused or result.flags:
            flags[key] = list(dict.fromkeys([*refused, *result.flags]))
    return flags


def _without_common(flags: Mapping[str, Sequence[str]], of: int) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Flags without those that half of the class has, who has most first; and these, each with how many have it.

    Flags that differ in their numbers alone are of one kind.
    """
    count = Counter(kind for lines in flags.values() for kind in {_kind(line) for line in lines})
    common = {kind for kind, number in count.items() if number >= max(3, of / 2)}
    own = {key: [line for line in lines if _kind(line) not in common] for key, lines in flags.items()}
    examples = {_kind(line): line for lines in flags.values() for line in lines if _kind(line) in common}
    ordered = sorted(own.items(), key=lambda item: -len(item[1]))
    return {key: lines for key, lines in ordered if lines}, {examples[kind]: count[kind] for kind in examples}


def _kind(flag: str) -> str:
    return re.sub(r"\d[\d.,]*", "#", flag)


def _predictions(results: Mapping[str, Result]) -> dict[str, tuple[str, list[float], list[float]]]:
    rows = {}
    for name, about in ((task.name[:2], task.prediction) for task in TASKS.values()):
        if about is None:
            continue
        given = [result.predictions.get(name) for result in results.values()]
        plain = [value for value in given if value is not None and 0 <= value <= about.shown]
        title = f"{name}: {about.question}" + (f" [{about.unit}]" if about.unit else "")
        rows[name] = (title, plain, _measured(about.measured, results))
    return rows


def _measured(source: float | Callable[[Rows], float | None], results: Mapping[str, Result]) -> list[float]:
    if not callable(source):
        return [source]
    return [value for result in results.values() if (value := source(result.networks)) is not None]


def feedback_page(
    key: str,
    result: Result,
    marks: Mapping[str, str],
    everybody: Sequence[Networks],
    *,
    own: float = 0,
    name: str = "",
    cards: Sequence[Any] = (),
) -> str:
    """One student's page: what holds, what does not, and where to look. Flags are not on it: they are questions.

    Args:
        key: the pseudonym.
        result: what was found.
        marks: the instructor's own columns.
        everybody: networks of some of the class.
        own: the instructor's points, as a number.
        name: the student's, "" where it is not to be said.
        cards: all questions with what was written and the marks, as ``Marking.cards`` gives them.
    """
    networks = result.networks
    return rendered(
        "feedback.html.j2",
        key=key,
        name=name,
        result=result,
        cards=cards,
        marks={"instructor_points": "", "instructor_comment": "", **marks},
        own=own,
        tasks=TASKS,
        total=total(),
        layer_figure=figures.layer_shares(networks) if networks else "",
        network_figure=figures.accuracy_sparsity(everybody, networks) if networks else "",
    )
