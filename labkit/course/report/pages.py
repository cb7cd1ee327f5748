"""The pages of the report: self-contained HTML, no network, escaped, readable on a phone and by keyboard."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from labkit import runtime
from labkit.course.packing import without_homes
from labkit.course.report import figures
from labkit.course.report.gradebook import total_of
from labkit.course.report.marking import Marking
from labkit.course.report.marks import OWN_COLUMNS, Marks
from labkit.course.result import Results
from labkit.course.submission.foreign import visible
from labkit.course.task import TASKS, total

OTHER_COURSE = "of another course version"  # in the flag of a notebook that belongs to another course.json


def bdi(value: object) -> Markup:
    """Text that is text in HTML too: no markup, no home folders, its writing direction kept to itself."""
    return Markup("<bdi>{}</bdi>").format(plain(str(value)))


def plain(text: str) -> str:
    """Text without home folders, and without characters that do something to the page or the text around it."""
    return visible(without_homes(text))


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"bdi": bdi, "plain": plain}
_ENVIRONMENT.globals |= {"tasks": TASKS, "total": total, "total_of": total_of}


def rendered(template: str, **context: object) -> str:
    """A page of its own, which needs no other file; all text in it is escaped."""
    return _ENVIRONMENT.get_template(template).render(context) + "\n"


def write_pages(
    out: Path, results: Results, labels: Mapping[str, str], missing: Sequence[str], marks: Marks, written: Marking
) -> None:
    """Write the page of the class, the one to mark the written answers on, and everybody's feedback.

    A student's page says what holds, what does not, and where to look. Flags are not on it: they are questions.

    Args:
        out: folder of the grades.
        results: pseudonym -> result.
        labels: pseudonym -> what the student is called on these pages; the pseudonym itself on anonymous ones.
        missing: pseudonyms of those who handed in nothing.
        marks: pseudonym -> the instructor's own columns.
        written: the questions that are answered in words, and the marks for them.
    """
    runtime.write_file(out / "index.html", class_page(results, labels, missing, len(written.questions)))
    anonymous = all(labels[key] == key for key in results)
    page = rendered("marking.html.j2", results=results, labels=labels, written=written, anonymous=anonymous)
    runtime.write_file(out / "marking.html", page)
    some = [result.networks for result in results.values()][:: len(results) // 30 + 1]  # a page need not hold all
    for key, result in results.items():
        page = rendered(
            "feedback.html.j2",
            key=key,
            name=labels[key] if labels[key] != key else "",
            result=result,
            marks={**dict.fromkeys(OWN_COLUMNS, ""), **marks.get(key, {})},
            written=written,
            network_figure=figures.accuracy_sparsity(some, result.networks) if result.networks else "",
        )
        runtime.write_file(out / "feedback" / f"{key}.html", page)


def class_page(results: Results, labels: Mapping[str, str], missing: Sequence[str], questions: int = 0) -> str:
    """The instructor's page: who needs a look first, then flags, then the class in figures, then everybody.

    Args:
        results: pseudonym -> result.
        labels: pseudonym -> what the student is called on this page.
        missing: pseudonyms of those who handed in nothing.
        questions: number of questions that are answered in words.
    """
    read = {key: result for key, result in results.items() if "" not in result.refused}
    only_notebooks = [key for key in read if read[key].only_notebooks]
    # Reason why somebody may need the instructor -> pseudonyms of those to whom it applies.
    needs = {
        "Whose work is this?": [key for key, result in results.items() if not result.student],
        "Nothing handed in": missing,
        "Could not be read": [key for key in results if key not in read],
        "Only notebooks: no network and no answer that a check has kept": only_notebooks,
        "0 points": [key for key in read if not read[key].points + read[key].bonus and key not in only_notebooks],
        "Questions unanswered": [key for key in read if len(read[key].answers) < questions],
    }
    shares = {n: [result.tasks[n].points / task.points for result in read.values()] for n, task in TASKS.items()}
    flags, common = _flags(results, labels)
    return rendered(
        "class.html.j2",
        results=results,
        labels=labels,
        needs=needs,
        questions=questions,
        flags=flags,
        common=common,
        elsewhere=common.pop(OTHER_COURSE, 0),
        shares=shares,
        predictions=_predictions(results),
        network_figure=figures.accuracy_sparsity([result.networks for result in results.values()]),
    )


def _flags(results: Results, labels: Mapping[str, str]) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Pseudonym -> what was refused and what is odd, who has most first; and what half of the class has, with how many.

    The latter is not with each student. Flags that differ in their numbers alone are of one kind, and so are all that
    say that it is another course. Others of the class have their labels in them.
    """
    flags: dict[str, list[str]] = {}
    for key, result in results.items():
        refused = [f"{name or 'the submission'} was refused: it {why}" for name, why in result.refused.items()]
        named = (re.sub(r"\bp[0-9a-f]{10}\b", lambda other: labels.get(other[0], other[0]), x) for x in result.flags)
        flags[key] = list(dict.fromkeys([*refused, *named]))
    kinds = {line: re.sub(r"\d[\d.,]*", "#", line) for lines in flags.values() for line in lines}
    kinds |= {line: OTHER_COURSE for line in kinds if OTHER_COURSE in line}
    count = Counter(kind for lines in flags.values() for kind in {kinds[line] for line in lines})
    half = len(results) / 2
    common = {kind for kind in count if count[kind] >= (half if kind == OTHER_COURSE else max(2, half))}
    shared = {kind for kind in common if count[kind] > 1}  # of a class of one, everything is said with that one
    own = {key: [line for line in lines if kinds[line] not in shared] for key, lines in flags.items()}
    examples = {kinds[line]: line for line in kinds if kinds[line] in common - {OTHER_COURSE}}
    shown = {line: count[kind] for kind, line in examples.items()}
    ordered = sorted(filter(own.get, own), key=lambda key: -len(own[key]))
    return {key: own[key] for key in ordered}, shown | {kind: count[kind] for kind in common & {OTHER_COURSE}}


def _predictions(results: Results) -> list[tuple[str, list[float], list[float]]]:
    """For each question what was asked, the predictions, and what was measured."""
    rows = []
    for task in TASKS.values():
        if about := task.prediction:
            given = [result.predictions.get(task.name[:2]) for result in results.values()]
            predicted = [value for value in given if value is not None and 0 <= value <= about.shown]
            source, networks = about.measured, [result.networks for result in results.values()]
            measured = [source(own) for own in networks] if callable(source) else [source]
            title = f"{task.name[:2]}: {about.question}" + (f" [{about.unit}]" if about.unit else "")
            rows.append((title, predicted, [value for value in measured if value is not None]))
    return rows
