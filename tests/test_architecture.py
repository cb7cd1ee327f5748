import ast
import inspect
import sys
import tokenize
from pathlib import Path

import pytest

import labkit
from labkit import runtime

PACKAGE = runtime.PROJECT / "labkit"
# Each layer may import the ones before it, and its own earlier modules.
LAYERS = [
    ["runtime", "metrics", "data", "cnn", "sparsity"],
    ["progress"],
    [
        "training",
        "checkpoints",
        "records",
        "claims",
        "shrink",
        "sparse_files",
        "cost",
        "sensitivity",
        "export",
        "plots",
        "smaller_plots",
    ],
    ["marks", "execution"],
    ["study.points", "study.schedules", "study.scores", "study.budgets", "study.records"],
    ["study.run", "study.plans", "study.frontier", "study.figures", "study.damage"],
    ["study.workers"],
    [
        "course.tasks",
        "course.methods",
        "course.hints",
        "course.students",
        "course.answers",
        "course.cases",
        "course.judging",
    ],
    ["course.checks", "course.release", "course.intake"],
    ["course.grading", "course.packing", "course.repair", "course.start_page", "course.roster", "course.figures"],
    ["course.batch", "course.pages", "course.report", "course.golf"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
CORE = {name for names in LAYERS[:3] for name in names}
SMALLER = {
    "shrink",
    "sparse_files",
    "cost",
    "sensitivity",
    "export",
    "smaller_plots",
}  # what notebook 07 adds: a second sitting
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)


def path_of(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


def imports_of(module: str) -> set[str]:
    """Everything that a module imports, by full dotted name, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def labkit_imports_of(module: str) -> set[str]:
    """Names of the labkit modules that a module imports; every import of labkit must name one."""
    found = set()
    for name in imports_of(module):
        if name.partition(".")[0] == "labkit":
            parts = name.split(".")[1:]
            prefixes = [".".join(parts[:length]) for length in (1, 2)]
            named = [prefix for prefix in prefixes if prefix in MODULES]
            assert named, f"{module} imports {name}"
            found.add(named[0])
    return found


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: no docstrings, comments or blank lines."""
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in nothing and token.type != tokenize.ENCODING:
                lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines -= set(range(first.lineno, first.end_lineno + 1))
    return lines


def test_every_module_has_its_place_in_the_layers():
    assert sorted(LEVEL) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module):
    assert {name: LEVEL[name] for name in labkit_imports_of(module) if LEVEL[name] > LEVEL[module]} == {}


def test_there_is_no_import_cycle():
    waiting = {module: labkit_imports_of(module) for module in MODULES}
    while waiting:
        free = [module for module, needs in waiting.items() if not needs & waiting.keys()]
        assert free, f"a cycle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_base_modules_use_torch_torchvision_numpy_and_tabulate_only():
    allowed = {"labkit", "torch", "torchvision", "numpy", "tabulate"} | sys.stdlib_module_names
    used = {name.partition(".")[0] for module in LAYERS[0] for name in imports_of(module)}
    assert used - allowed == set()


def test_only_plots_need_matplotlib():
    users = {m for m in MODULES if any(name.startswith("matplotlib") for name in imports_of(m))}
    assert users & CORE == {"plots", "smaller_plots"}


@pytest.mark.parametrize(
    ("package", "names"), [(".", {"__all__", "__version__"}), ("course", {"__all__"}), ("study", {"__all__"})]
)
def test_package_init_only_reexports(package, names):
    body = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8")).body
    kinds = [type(node) for node in body[1:]]  # after the docstring
    assert set(kinds) == {ast.ImportFrom, ast.Assign}
    assert {t.id for node in body if isinstance(node, ast.Assign) for t in node.targets} == names


def test_the_core_does_not_know_the_course():
    assert {m: found for m in CORE if (found := {n for n in labkit_imports_of(m) if n not in CORE})} == {}


@pytest.mark.parametrize(("modules", "most"), [(CORE - SMALLER, 1_160), (SMALLER, 800)])
def test_core_is_short_enough_to_read_in_two_sittings(modules, most):
    counts = {module: len(code_lines(path_of(module))) for module in sorted(modules)}  # __init__ only re-exports
    assert sum(counts.values()) < most, counts


def test_lines_are_counted_without_docstrings_comments_and_blanks(tmp_path):
    text = '"""Doc\n\nmore."""\n\n# note\nx = (1,\n     2)  # two\n\n\ndef f():\n    """D."""\n'
    (tmp_path / "m.py").write_text(text, encoding="utf-8")
    assert code_lines(tmp_path / "m.py") == {6, 7, 10}


def public_objects():
    for name in labkit.__all__:
        made = getattr(labkit, name)
        yield name, made
        if inspect.isclass(made):
            for method, function in vars(made).items():
                if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize(
    ("name", "made"), list(public_objects()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_name_has_a_docstring_of_its_own(name, made):
    assert (made.__doc__ or "").strip(), name
    assert made.__doc__[0].isupper(), name


@pytest.mark.parametrize("module", MODULES)
def test_every_function_and_class_without_underscore_has_a_docstring(module):
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_public_names_are_sorted_and_exist():
    assert labkit.__all__ == sorted(labkit.__all__, key=lambda name: (not name[0].isupper(), not name.isupper(), name))
    assert len(set(labkit.__all__)) == len(labkit.__all__)
    assert all(hasattr(labkit, name) for name in labkit.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_text_files_are_opened_as_utf8(module):
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        if isinstance(getattr(node, "func", None), ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            assert "encoding" in {keyword.arg for keyword in node.keywords}, ast.unparse(node)


@pytest.mark.parametrize("package", ["__init__", "course.__init__"])
def test_what_notebooks_import_brings_no_command_line_and_no_kernel(package):
    reached, waiting = set(), {package}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= labkit_imports_of(module) - reached
    assert {"execution", "cli"} & reached == set()
    heavy = {"nbclient", "nbformat", "typer", "rich"}
    assert {m: imports_of(m) for m in reached if heavy & {name.partition(".")[0] for name in imports_of(m)}} == {}
