"""The pages of the report: self-contained HTML, no network, escaped, readable on a phone and by keyboard."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from labkit.course.packing import without_homes
from labkit.course.report import figures
from labkit.course.result import Result
from labkit.course.task import TASKS, Rows, total


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


def class_page(results: Mapping[str, Result], labels: Mapping[str, str], missing: Sequence[str]) -> str:
    """The instructor's page: flags first, then the class in figures, then everybody.

    Args:
        results: pseudonym -> result.
        labels: pseudonym -> what the student is called on this page.
        missing: who handed in nothing.
    """
    read = [result for result in results.values() if "" not in result.refused]
    shares = {name: [result.tasks[name].points / task.points for result in read] for name, task in TASKS.items()}
    return rendered(
        "class.html.j2",
        results=results,
        labels=labels,
        missing=missing,
        flags=_flags(results),
        shares=shares,
        tasks=TASKS,
        task_headers=[f"#{name}" for name in TASKS],
        total=total(),
        task_figure=figures.task_distribution(shares),
        prediction_figure=figures.predictions(_predictions(results)),
        network_figure=figures.accuracy_sparsity([result.networks for result in results.values()]),
    )


def _flags(results: Mapping[str, Result]) -> dict[str, list[str]]:
    """Pseudonym -> what was refused and what is odd, each thing once; who has most flags comes first."""
    flags = {}
    for key, result in sorted(results.items(), key=lambda item: -len(item[1].flags)):
        refused = [f"{name or 'the submission'} was refused: it {why}" for name, why in result.refused.items()]
        if refused or result.flags:
            flags[key] = list(dict.fromkeys([*refused, *result.flags]))
    return flags


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


def feedback_page(key: str, result: Result, marks: Mapping[str, str], everybody: Sequence[Mapping[str, Any]]) -> str:
    """One student's page: what holds, what does not, and where to look. Flags are not on it: they are questions."""
    networks = result.networks
    return rendered(
        "feedback.html.j2",
        key=key,
        result=result,
        marks={"instructor_points": "", "instructor_comment": "", **marks},
        tasks=TASKS,
        total=total(),
        layer_figure=figures.layer_shares(networks) if networks else "",
        network_figure=figures.accuracy_sparsity(everybody, networks) if networks else "",
    )
