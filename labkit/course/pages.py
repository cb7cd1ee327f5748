"""The pages of the report: self-contained HTML, no network, escaped, readable on a phone and by keyboard."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.course import figures
from labkit.course.packing import without_homes
from labkit.course.result import Result
from labkit.course.tasks import TASKS, TOTAL

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; color: #1a1a1a;
  background: white; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h3 { font-size: 1rem; margin: 1rem 0 .2rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .5rem; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid #ccc; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
td.n { white-space: nowrap; } td bdi { overflow-wrap: anywhere; }
.wide, .figure { overflow-x: auto; } .figure { margin-top: 1rem; }
svg { max-width: 100%; min-width: 34rem; height: auto; }
th button { font: inherit; font-weight: bold; background: none; border: 0; cursor: pointer; }
th button::after { content: ' ↕'; }
:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.yes { color: #00634a; } .no { color: #a34700; } .open { color: #555; } .hint { margin-left: 1.6rem; color: #333; }
ul.plain { list-style: none; padding-left: 0; } pre { white-space: pre-wrap; background: #f4f4f4; padding: .5rem; }
.skip { position: absolute; left: -99rem; } .skip:focus { position: static; }
@media (max-width: 30rem) { table { font-size: .875rem; } th, td { padding: .3rem .2rem; } }
"""
SORTING = """
for (const button of document.querySelectorAll('th button')) button.addEventListener('click', () => {
  const cell = button.closest('th'), body = cell.closest('table').tBodies[0], column = cell.cellIndex;
  const up = cell.getAttribute('aria-sort') !== 'ascending';
  for (const other of cell.parentElement.children) other.removeAttribute('aria-sort');
  cell.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const key = row => { const text = row.cells[column].textContent.trim(); return isNaN(text) || !text ? text : +text; };
  const rows = [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
    return (typeof x === typeof y ? (x > y) - (x < y) : typeof x === 'number' ? -1 : 1) * (up ? 1 : -1); });
  body.append(...rows);
});
"""
CAN_NOT_PROVE = (
    "who did the work: two students who trained together with two seeds leave two honest sets of networks;",
    "how training went: the first and the last network do not show every step between them, so iterated work is judged "
    "by its counts, its masks and its accuracy;",
    "that a cell was run: outputs are text, and can be written by hand;",
    "when it was packed: that is the clock of the student's machine;",
    "the method, where masks were made permanent and the network before is not among the files: such points are given, "
    "and the submission carries a flag.",
)
ASKED = {
    "01": ("01: the smallest loss with softmax twice [nats]", None),
    "02": ("02: accuracy after 25 % at random", "CNN_MNIST_RND"),
    "03": ("03: accuracy after 25 % L1", "CNN_MNIST_L1"),
    "04": ("04: accuracy without 1/8 of the channels", "CNN_MNIST_STRUCT"),
    "05": ("05: zeros after ten times 10 % [%]", None),
    "06": ("06: zeros in conv1 [%]", None),
}


def escaped(value: Any) -> str:
    """Text that is text in HTML too: no markup, no home folders, its writing direction kept to itself."""
    return f"<bdi>{html.escape(without_homes(str(value)), quote=True)}</bdi>"


def document(title: str, body: str, script: str = "") -> str:
    """A whole page of its own, its body one main part; body and script are written as they are."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{body}\n</main>{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def table(label: str, headers: Sequence[str], rows: Sequence[Sequence[str]], *, sortable: bool = False) -> str:
    """A table of cells that are HTML already, which can be scrolled by keyboard where it is too wide.

    Args:
        label: what the table holds, for those who hear the page.
        headers: of the columns, as text; columns whose header starts with # hold numbers.
        rows: cells of each row.
        sortable: its headers are buttons; the page needs ``SORTING``.
    """
    numeric = [header.startswith("#") for header in headers]
    plain = [html.escape(header.lstrip("#")) for header in headers]
    kinds = ['class="n" ' if right else "" for right in numeric]
    heads = (
        f'<th {kind}scope="col">' + (f"<button>{head}</button>" if sortable else head) + "</th>"
        for kind, head in zip(kinds, plain, strict=True)
    )
    lines = (
        "<tr>" + "".join(f"<td {kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    whole = f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="wide" role="group" aria-label="{html.escape(label)}" tabindex="0">{whole}</div>'


def class_page(results: Mapping[str, Result], labels: Mapping[str, str], missing: Sequence[str]) -> str:
    """The instructor's page: flags first, then the class in figures, then everybody.

    Args:
        results: pseudonym -> result.
        labels: pseudonym -> what the student is called on this page.
        missing: who handed in nothing.
    """
    parts = ['<a class="skip" href="#everybody">To the table of everybody</a>', "<h1>Pruning labs: the class</h1>"]
    parts.append(f"<p>Submissions: {len(results)}. There are {TOTAL:g} points, and bonus points on top.</p>")
    parts += ["<h2>Flags: questions for you</h2>", "<p>A flag never costs a point.</p>", _flags(results, labels)]
    if missing:
        parts.append(f"<p>Nothing handed in: {', '.join(escaped(name) for name in missing)}</p>")
    read = [result for result in results.values() if "" not in result["refused"]]
    shares = {name: [result["tasks"][name]["points"] / task.points for result in read] for name, task in TASKS.items()}
    parts += ["<h2>How each task went</h2>", figures.task_distribution(shares), _task_table(shares)]
    parts += ["<h2>Predictions and measurements</h2>", figures.predictions(_predictions(results))]
    parts += ["<h2>Accuracy and sparsity of the class</h2>"]
    parts.append(figures.accuracy_sparsity([result["networks"] for result in results.values()]))
    parts += ['<h2 id="everybody">Everybody</h2>', _everybody(results, labels)]
    points = "".join(f"<li>{html.escape(line)}</li>" for line in CAN_NOT_PROVE)
    parts += ["<h2>What artefacts can not prove</h2>", f"<ul>{points}</ul>"]
    return document("Pruning labs: the class", "\n".join(parts), SORTING)


def _flags(results: Mapping[str, Result], labels: Mapping[str, str]) -> str:
    rows = []
    for key, result in sorted(results.items(), key=lambda item: -len(item[1]["flags"])):
        refused = [f"{name or 'the submission'} was refused: it {why}" for name, why in result["refused"].items()]
        flags = list(dict.fromkeys([*refused, *result["flags"]]))
        if flags:
            items = "".join(f"<li>{escaped(flag)}</li>" for flag in flags[:40])
            items += f"<li>… and {len(flags) - 40} more</li>" if len(flags) > 40 else ""
            rows.append([_link(key, labels), str(len(flags)), f"<ul>{items}</ul>"])
    return table("Flags of each student", ["student", "#flags", "what"], rows) if rows else "<p>None.</p>"


def _link(key: str, labels: Mapping[str, str]) -> str:
    return f'<a href="feedback/{key}.html">{escaped(labels[key])}</a>'


def _task_table(shares: Mapping[str, Sequence[float]]) -> str:
    rows = []
    for name, values in shares.items():
        mean = sum(values) / len(values) if values else 0.0
        full = sum(value >= 0.999 for value in values)
        rows.append(
            [html.escape(name), html.escape(TASKS[name].title), f"{TASKS[name].points:g}", f"{mean:.0%}", str(full)]
        )
    return table("Tasks", ["task", "asked for", "#points", "#mean share", "#full points"], rows)


def _predictions(results: Mapping[str, Result]) -> dict[str, tuple[str, list[float], list[float]]]:
    rows = {}
    for number, (what, network) in ASKED.items():
        given = [result["predictions"].get(number) for result in results.values()]
        limit = 100.0 if number in ("05", "06") else 3.0
        plain = [value for value in given if value is not None and 0 <= value <= limit]
        if network:
            measured = [r["networks"][network]["accuracy"] for r in results.values() if network in r["networks"]]
        elif number == "06":
            found = [r["networks"].get("CNN_MNIST_GLOBAL") for r in results.values()]
            measured = [100 * row["layers"]["conv1"] for row in found if row]
        else:
            measured = [1.461] if number == "01" else [65.13]
        rows[number] = (what, plain, measured)
    return rows


def _everybody(results: Mapping[str, Result], labels: Mapping[str, str]) -> str:
    headers = ["student", "#points", "#bonus", "#flags", *(f"#{name}" for name in TASKS)]
    rows = []
    for key, result in results.items():
        tasks = [f"{task['points']:g}" for task in result["tasks"].values()]
        count = len(set(result["flags"])) + len(result["refused"])
        rows.append([_link(key, labels), f"{result['points']:g}", f"{result['bonus']:g}", str(count), *tasks])
    return table("Points of everybody", headers, rows, sortable=True)


def feedback_page(key: str, result: Result, marks: Mapping[str, str], everybody: Sequence[Mapping[str, Any]]) -> str:
    """One student's page: what holds, what does not, and where to look. Flags are not on it: they are questions."""
    parts = [f"<h1>Feedback {html.escape(key)}</h1>"]
    bonus = f", and {result['bonus']:g} bonus points" if result["bonus"] else ""
    mine = (
        f"; with your instructor's {escaped(marks['instructor_points'])} on top"
        if marks.get("instructor_points")
        else ""
    )
    parts.append(f"<p><strong>{result['points']:g} of {TOTAL:g} points</strong>{bonus}{mine}.</p>")
    if marks.get("instructor_points") or marks.get("instructor_comment"):
        said = f"{escaped(marks['instructor_points'])} points. " if marks["instructor_points"] else ""
        parts.append(f"<h2>From your instructor</h2><p>{said}{escaped(marks['instructor_comment'])}</p>")
    if "" in result["refused"]:
        parts.append(f"<p>Your submission {escaped(result['refused'][''])}.</p>")
    parts += ["<h2>Tasks</h2>", *(_task(name, task) for name, task in result["tasks"].items())]
    if result["networks"]:
        parts += ["<h2>Your networks</h2>", _networks(result), figures.layer_shares(result["networks"])]
        said = "Your networks are the large marks; the faint ones are those of up to 30 of the class."
        parts.append(f"<h2>Among the class</h2><p>{said}</p>")
        parts.append(figures.accuracy_sparsity(everybody, result["networks"]))
    if result["answers"]:
        parts.append("<h2>Your answers</h2><p>Read by your instructor, not by a program.</p>")
        for answer in result["answers"].values():
            parts.append(f"<p>{escaped(answer['question'].strip('#* '))}</p><pre>{escaped(answer['text'])}</pre>")
    return document(f"Feedback {key}", "\n".join(parts))


def _task(name: str, task: Mapping[str, Any]) -> str:
    title = f"{html.escape(name)} · {html.escape(TASKS[name].title)}: {task['points']:g} of {task['of']:g}"
    if not task["attempted"]:
        return f"<h3>{title}</h3><p class='open'>– not attempted</p>"
    lines = []
    for holds, text, hint, _ in task["findings"]:
        mark, kind = {True: ("✓", "yes"), False: ("✗", "no"), None: ("–", "open")}[holds]
        more = f"<div class='hint'>{escaped(hint)}</div>" if holds is False and hint else ""
        undecided = " (can not be decided from the weights: not counted against you)" if holds is None else ""
        lines.append(f"<li><span class='{kind}'>{mark}</span> {escaped(text)}{undecided}{more}</li>")
    return f"<h3>{title}</h3><ul class='plain'>{''.join(lines)}</ul>"


def _networks(result: Result) -> str:
    rows = []
    for name, row in result["networks"].items():
        claimed = "–" if row["claimed_accuracy"] is None else f"{row['claimed_accuracy']:.4f}"
        images = f"{row['images']:,}"
        rows.append([html.escape(name), f"{row['sparsity']:.2%}", f"{row['accuracy']:.4f}", images, claimed])
    headers = ["network", "#sparsity", "#test accuracy", "#measured on images", "#your notebook says"]
    return table("Your networks", headers, rows)
