"""A student's notebook with its given cells as they were handed out. What the student wrote is left alone.

Cells are known by their ids; where an editor took those away, by nbgrader's name for them, their text or their place.
"""

import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from labkit import runtime
from labkit.course.course_file import Json, Spec
from labkit.course.release import places, source_hash
from labkit.course.submission.foreign import Refused, shown
from labkit.course.submission.notebook import decoded, dict_of, read_notebook, text_of
from labkit.course.task import NOTEBOOKS
from labkit.course.written import match

THE_STUDENTS = ("task", "answer", "open")  # roles of cells that are written by the student
VALID_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # nbformat's rule


def find_notebook(name: str, folder: Path) -> Path:
    """A notebook by number, name or path, such as ``03``, ``03_l1_pruning`` or ``x/03_l1_pruning.ipynb``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    fits = [known for known in NOTEBOOKS if name in (known, known[:2], known[:2].lstrip("0"))]
    path = folder / f"{fits[0]}.ipynb" if fits else Path(name)
    if not path.is_file():
        alike = ", ".join(sorted(one.name for one in path.parent.glob(f"*{path.stem[:6]}*.ipynb")))
        mine = f"is {alike} yours? Rename it to {path.name}" if alike else "give a number such as 03, or a notebook"
        raise FileNotFoundError(f"{path} is not a file; {mine}")
    return path


def repair(path: Path, course: Json) -> list[str]:
    """Put the given cells of a notebook back, and keep the former file beside it.

    Args:
        path: the student's notebook.
        course: ``course.json`` of the release that was handed out.

    Returns:
        What was done, in words; the first line names the file.

    Raises:
        ValueError: the file is damaged or of no notebook of this course, or ``course.json`` does not hold the cells.
        OSError: the folder cannot be written. In each case the file is as it was.
    """
    given = course["notebooks"].get(path.stem)
    if given is None:
        raise ValueError(f"{path.name} is not in this course; its notebooks are {', '.join(course['notebooks'])}")
    if not all("source" in spec for spec in given):
        raise ValueError("this course.json is too old: it does not hold the cells; get the course's folder again")
    content = path.read_bytes()
    notebook, parts = _read(path.name, content)
    before = json.dumps(notebook)
    told = _put_back(notebook, parts, given, str(course["version"]))
    if json.dumps(notebook) == before:
        return [f"{path.name}: nothing to restore", *told]
    backup = _free_name(path)
    runtime.write_file(backup, content)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    # Half a character in an output: with its backslash it is what JSON writes for it.
    runtime.write_file(path, text.encode(errors="backslashreplace"))
    kept = f"as it was: {backup.name}; if {path.name} is open in JupyterLab: File, Reload Notebook from Disk; what was"
    kept += " not saved there before the repair will be lost, so copy it first"
    return [f"{path.name}: repaired", *told, kept]


def _read(name: str, content: bytes) -> tuple[Json, list[Json]]:
    """A notebook as it is, and the parts of its cells that say which they are."""
    try:
        parts: list[Json] = read_notebook(content)["cells"]
        notebook: Json = json.loads(decoded(content))
        json.dumps(notebook, indent=1)  # deeper nesting can be read than written
    except Refused as error:
        raise ValueError(f"{name} {error}; nothing of it can be repaired") from None
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply; nothing of it can be repaired") from None
    if notebook.get("nbformat") != 4:
        form = f"{notebook.get('nbformat')!r:.20}"
        raise ValueError(f"{name} is a notebook of format {form}, not 4; open it in JupyterLab and save it first")
    return notebook, parts


def _free_name(path: Path) -> Path:
    endings = chain([""], (f"-{number}" for number in count(2)))
    paths = (path.with_name(f"{path.stem}.before-repair{ending}.ipynb") for ending in endings)
    return next(path for path in paths if not os.path.lexists(path))


# Cells


def _put_back(notebook: Json, parts: Sequence[Json], given: Sequence[Spec], version: str) -> list[str]:
    """Repair in place; returns what was done."""
    cells, place = notebook["cells"], places(given)
    chosen, spare = _chosen(cells, parts, given)
    told = _about_the_version(notebook, version)
    order = [number for spec in given for number, id in chosen.items() if id == spec["id"]]
    told += ["the cells are in their order again"] if order != sorted(order) else []
    told += _line("removed", "there twice", [place[_id_of(cells[number])] for number in sorted(spare)])
    changed, notes = _restore(cells, given, chosen)
    told += _line("put back", "changed", [place[id] for id in changed])
    told += [f"what you wrote into a given cell below {place[id]!r} is kept in a note under it" for id in notes]
    notebook["cells"], missing = _in_order(cells, given, chosen, spare, notes)
    told += _line("put back", "missing", [place[spec["id"]] for spec in missing if not _is_yours(spec)])
    blank = _line("restored as blank", "missing", [place[spec["id"]] for spec in missing if _is_yours(spec)])
    told += [f"{line}; copy your work into it if it is somewhere else" for line in blank]
    renamed = _with_ids(notebook, cells, chosen)
    told += [f"{_count(renamed)} got its own id again"] if renamed else []
    lost = [spec["id"] for spec in given if _is_picture(spec) and spec["id"] not in chosen.values()]
    return told + [f"the authors' figure below {place[id]!r} is lost; the course's folder has it" for id in lost]


def _restore(
    cells: list[Json], given: Sequence[Spec], chosen: Mapping[int, str]
) -> tuple[list[str], dict[str, list[Json]]]:
    """Put changed cells back, in place; returns their ids, and a note for each that had several lines of its own."""
    specs, changed, notes = {spec["id"]: spec for spec in given}, [], {}
    for number, id in sorted(chosen.items()):
        cell, spec = cells[number], specs[id]
        marks = _metadata(cell).get("nbgrader", {})
        if not _is_yours(spec) and not _as_given(cell, spec):
            known = {line.strip() for line in spec["source"].splitlines()}
            text = text_of(cell.get("source"))
            if len({line.strip() for line in text.splitlines()} - known - {""}) > 1:
                notes[id] = [_as_a_note(text, spec)]
            cells[number] = _fresh(spec) | {key: cell[key] for key in ("attachments",) if key in cell}
        elif spec["role"] == "check" and marks != spec["marks"]:
            cell["metadata"] = _metadata(cell) | {"nbgrader": dict(spec["marks"])}
        else:
            continue
        changed.append(id)
    return changed, notes


def _as_a_note(text: str, spec: Spec) -> Json:
    """What stood in a changed cell, to be read and copied from, and never run."""
    fenced = f"```python\n{text}\n```" if spec["type"] == "code" else text
    source = f"*What was in the cell above before it was restored:*\n\n{fenced}"
    return {"cell_type": "markdown", "id": uuid.uuid4().hex[:8], "metadata": {}, "source": source}


def _is_yours(spec: Spec) -> bool:
    return spec["role"] in THE_STUDENTS


def _is_picture(spec: Spec) -> bool:
    return "](attachment:" in spec["source"]


def _chosen(cells: Sequence[Json], parts: Sequence[Json], given: Sequence[Spec]) -> tuple[dict[int, str], set[int]]:
    """Place in the file -> handed-out id, each id once; and the places of doubles that hold nothing of the student."""
    chosen, spare, ids = dict[int, str](), set[int](), [_id_of(cell) for cell in cells]
    for spec in given:
        if numbers := [number for number, id in enumerate(ids) if id == spec["id"]]:
            unchanged = {number for number in numbers if _as_given(cells[number], spec)}
            # Of doubles the student's own work counts, or else the one that kept its output.
            best = next((number for number in numbers if (number in unchanged) != _is_yours(spec)), numbers[0])
            chosen[best] = spec["id"]
            spare |= unchanged - {best}  # any other may hold work
    known = [part | {"id": chosen.get(number, "another" if ids[number] else "")} for number, part in enumerate(parts)]
    for number, found in enumerate(match(known, given, _may_be_yours)):  # those that lost their id, too
        if found and number not in spare and found["id"] not in chosen.values():
            chosen[number] = found["id"]
    return chosen, spare


def _may_be_yours(cell: Spec, spec: Spec) -> bool:
    """Whether a changed cell in the place of another is it; one with an id of its own is left alone."""
    return _is_yours(spec) and not cell["id"] and cell["type"] == spec["type"]


def _in_order(
    cells: list[Json], given: Sequence[Spec], chosen: dict[int, str], spare: set[int], notes: dict[str, list[Json]]
) -> tuple[list[Json], list[Spec]]:
    """All cells in the course's order, each followed by the student's own that followed it; and what was missing."""
    groups, above = {"": list[Json]()}, ""  # id of a cell that was handed out -> it, and those that follow it
    for number, cell in enumerate(cells):
        above = chosen.get(number, above)
        if number in chosen:
            groups[above] = [cell, *notes.get(above, [])]
        elif number not in spare:
            groups[above].append(cell)
    ordered, missing = [groups[""]], []
    for spec in given:
        if spec["id"] in groups:
            ordered.append(groups[spec["id"]])
        elif not _is_picture(spec):
            missing.append(spec)
            # A blank task goes before cells of the student's own: they may hold the work, which must not be undone.
            after = ordered[-1][1:] if spec["role"] == "task" and len(ordered) > 1 else []
            del ordered[-1][len(ordered[-1]) - len(after) :]
            ordered.append([_fresh(spec), *after])
    return [cell for group in ordered for cell in group], missing


def _with_ids(notebook: Json, cells: Sequence[Json], chosen: Mapping[int, str]) -> int:
    """Give each cell the id that it lost, or a new one if another cell has it; returns to how many."""
    handed_out = {id(cells[number]): name for number, name in chosen.items()}
    seen, count = set(handed_out.values()), 0
    for cell in notebook["cells"]:
        former = cell.get("id")
        if id(cell) in handed_out:
            cell["id"] = handed_out[id(cell)]
        elif not isinstance(former, str) or not VALID_ID.fullmatch(former) or former in seen:
            cell["id"] = uuid.uuid4().hex[:8]
        seen.add(cell["id"])
        count += cell["id"] != former
    minor = notebook.get("nbformat_minor")
    notebook["nbformat_minor"] = max(5, minor) if isinstance(minor, int) else 5  # the first one with ids
    return count


def _fresh(spec: Spec) -> Json:
    """A cell as it was handed out."""
    cell: Json = {"cell_type": spec["type"], "id": spec["id"], "source": spec["source"].splitlines(keepends=True)}
    cell["metadata"] = {"nbgrader": dict(spec["marks"])} if spec["marks"] else {}
    return cell | {"execution_count": None, "outputs": []} if spec["type"] == "code" else cell


def _id_of(cell: Json) -> str:
    """A cell's id; some editors keep it in the metadata."""
    id = cell.get("id") or _metadata(cell).get("id")
    return id if isinstance(id, str) else ""


def _metadata(cell: Json) -> Json:
    return dict_of(cell.get("metadata"))


def _as_given(cell: Json, spec: Spec) -> bool:
    return bool(cell.get("cell_type") == spec["type"] and source_hash(text_of(cell.get("source"))) == spec["hash"])


# Words


def _about_the_version(notebook: Json, version: str) -> list[str]:
    metadata = _metadata(notebook)
    theirs = dict_of(metadata.get("labkit_course")).get("version")
    if theirs == version:
        return []
    notebook["metadata"] = metadata | {"labkit_course": {"version": version}}
    return [f"it was of course version {shown(str(theirs or 'none'), 20)}; now it is of this one, {version}"]


def _line(done: str, why: str, headings: Sequence[str]) -> list[str]:
    if not headings:
        return []
    named = ", ".join(repr(heading) for heading in dict.fromkeys(headings) if heading)
    was = "was" if len(headings) == 1 else "were"
    return [f"{_count(len(headings))} {done} that {was} {why}" + (f": below {named}" if named else "")]


def _count(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
