"""The house that labkit lives in: its floors, what each may import, and how much code each may hold.

The limits are not raised. What does not fit is cut, merged or moved to another floor. Where the code is still above a
limit, ``TODAY`` holds the present number, so that nobody adds to it by accident (when and why it did
go up, CONTRIBUTING says). ``python tests/test_architecture.py`` prints all measures, and
``TODAY`` anew.
"""

import ast
import inspect
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import labkit

PACKAGE = Path(labkit.__file__).parent
# Floor -> the most lines of code that it may hold. These limits are not raised.
FLOORS = {"core": 950, "smaller": 800, "large": 250, "study": 950, "course": 1_950, "rerun": 250, "command line": 350}
ALL_TOGETHER = 5_500
FILES_OF_THE_CORE = 11
LINES_WITH_ANY = 60
MOST_LINES, MOST_NESTED, MOST_PARAMETERS = 40, 4, 8  # of a function
# Floor -> the floors below it.
BELOW = {
    "core": set(),
    "smaller": {"core"},
    "large": {"core", "smaller"},
    "study": {"core", "smaller", "large"},
    "course": {"core", "smaller", "large", "study"},
    "rerun": {"core"},
    "command line": {"core", "smaller", "large", "study", "course", "rerun"},
}
# The loops of the original lab keep their names, their arguments and their shape.
LONG_BY_DESIGN = {"train_one_epoch", "test_or_train"}
THE_ORIGINALS_SIGNATURES = {"train_one_epoch", "test_one_epoch", "test_or_train", "draw_loss_test"}
# Packages that not everybody has, or that take long to import: one module each may need them.
OPTIONAL = {"onnx", "onnxruntime", "onnxscript", "dask", "distributed", "numba", "nbgrader", "sklearn", "playwright"}

# What is above its limit today. Only down: take a line out when its limit is kept.
TODAY: dict[str, int] = {
    "lines of core": 1195,
    "lines of study": 1183,
    "lines of course": 4493,
    "lines of rerun": 327,
    "lines of command line": 390,
    "lines of labkit": 8703,
    "lines with Any": 118,
}


MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
)


def path_of(module: str) -> Path:
    """The file of a module, ``""`` being labkit itself."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_package(module: str) -> bool:
    return path_of(module).stem == "__init__"


def names_on_top(module: str) -> set[str]:
    """Dotted names of the modules that a module imports as soon as it is imported itself."""
    nodes = [node for node in tree_of(module).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return {name for node in nodes for name in [getattr(node, "module", ""), *(alias.name for alias in node.names)]}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def floor_of(module: str) -> str:
    """A folder is a floor; the core lies in labkit/ itself, and commands are the command line wherever they are."""
    parts = module.split(".")
    if parts[-1] in ("cli", "commands", "console"):
        return "command line"
    return parts[0] if (PACKAGE / parts[0]).is_dir() else "core"


def imports_of(module: str) -> set[str]:
    """Everything that a module imports, by full dotted name, also inside functions."""
    names = set()
    branches = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.If)]
    for_types = [node for node in branches if ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}  # nothing of it is imported at run time
    for node in ast.walk(tree_of(module)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return names


def packages_of(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(module)}


def labkit_imports_of(module: str) -> set[str]:
    """Names of the labkit modules that a module imports; every import of labkit must name one."""
    names = set()
    for name in imports_of(module):
        if name.partition(".")[0] == "labkit":
            parts = name.split(".")[1:]
            prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
            target = next((prefix for prefix in prefixes if prefix in MODULES), None)
            assert target, f"{module or 'labkit'} imports {name}"
            names.add(target)
    return names


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


def lines_of_floors() -> dict[str, int]:
    """Floor -> its lines of code; an ``__init__`` that only re-exports counts in all of labkit, not in a floor."""
    counts = dict.fromkeys(FLOORS, 0)
    for module in MODULES:
        counts[floor_of(module)] += 0 if is_package(module) else len(code_lines(path_of(module)))
    return counts


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Path, Function]]:
    """Every function of labkit, methods and inner ones too, such as ``training.Trainer.step``."""

    def inside(node: ast.AST, name: str, path: Path) -> Iterator[tuple[str, Path, Function]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (Function, ast.ClassDef))
            full = f"{name}.{child.name}" if named else name
            if isinstance(child, Function):
                yield full, path, child
            yield from inside(child, full, path)

    for module in MODULES:
        yield from inside(tree_of(module), module, path_of(module))


def lines_of_functions() -> dict[str, int]:
    """Function -> its lines of code, without its decorators and its docstring."""
    numbers = {path_of(module): code_lines(path_of(module)) for module in MODULES}
    return {
        name: len(numbers[path] & set(range(node.lineno, node.end_lineno + 1)))
        for name, path, node in functions()
        if node.name not in LONG_BY_DESIGN
    }


def nesting_of_functions() -> dict[str, int]:
    """Function -> how deep its blocks lie in each other; ``elif`` is no deeper, and an inner function starts anew."""
    blocks = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)

    def depth(node: ast.AST, chained: bool = False) -> int:
        deepest = 0
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (Function, ast.ClassDef, ast.Lambda)):
                is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
                deepest = max(deepest, depth(child, is_elif))
        return deepest + (isinstance(node, blocks) and not chained)

    return {name: depth(node) for name, _, node in functions()}


def parameters_of_functions() -> dict[str, int]:
    """Function -> how many parameters it has, without ``self`` and ``cls``."""
    counts = {}
    for name, _, node in functions():
        if node.name not in THE_ORIGINALS_SIGNATURES:
            arguments = node.args
            rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument]
            parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]
            counts[name] = sum(parameter.arg not in ("self", "cls") for parameter in parameters)
    return counts


def lines_with_any() -> dict[str, int]:
    """Module -> lines that say ``Any``, its import too."""
    counts = {}
    for module in MODULES:
        with path_of(module).open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        counts[module] = len({t.start[0] for t in tokens if t.type == tokenize.NAME and t.string == "Any"})
    return counts


def measures() -> dict[str, tuple[int, int]]:
    """What is measured -> (its number now, its limit)."""
    floors = lines_of_floors()
    core = [module for module in MODULES if floor_of(module) == "core"]
    everything = sum(len(code_lines(path_of(module))) for module in ["", *MODULES])
    table = {f"lines of {floor}": (count, FLOORS[floor]) for floor, count in floors.items()}
    table["lines of labkit"] = (everything, ALL_TOGETHER)
    table["files of core"] = (len(core), FILES_OF_THE_CORE)
    table["lines with Any"] = (sum(lines_with_any().values()), LINES_WITH_ANY)
    for words, counts, most in (
        ("lines", lines_of_functions(), MOST_LINES),
        ("nesting", nesting_of_functions(), MOST_NESTED),
        ("parameters", parameters_of_functions(), MOST_PARAMETERS),
    ):
        table |= {f"{words} of {name}()": (count, most) for name, count in counts.items()}
    return table


def test_no_measure_is_above_its_limit_or_above_what_it_was():
    grown = []
    for name, (now, limit) in measures().items():
        held = TODAY.get(name, limit)
        if now > held:
            before = f", still {held:,}: only down" if name in TODAY else ""
            grown.append(f"{name}: {now:,}; limit {limit:,}{before}")
    assert not grown, "the limits are not raised; cut, merge or move code\n" + "\n".join(grown)


def test_what_keeps_its_limit_is_not_excused_any_more():
    now = measures()
    mended = [name for name in TODAY if name not in now or now[name][0] <= now[name][1]]
    assert mended == [], "take these out of TODAY"


def test_the_limits_of_the_floors_fit_into_the_house():
    assert sum(FLOORS.values()) <= ALL_TOGETHER
    assert {floor_of(module) for module in MODULES} == FLOORS.keys() == BELOW.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module):
    allowed = {floor_of(module)} | BELOW[floor_of(module)]
    assert {name: floor_of(name) for name in labkit_imports_of(module) if floor_of(name) not in allowed} == {}


def test_there_is_no_import_cycle():
    waiting = {module: labkit_imports_of(module) for module in MODULES}
    while waiting:
        free = [module for module, needs in waiting.items() if not needs & waiting.keys()]
        assert free, f"a cycle among {sorted(waiting)}"
        for module in free:
            del waiting[module]


def test_the_core_uses_few_packages_and_one_module_draws():
    allowed = {"labkit", "torch", "torchvision", "numpy", "matplotlib", "tabulate", "tqdm", "IPython"}
    for module in (module for module in MODULES if floor_of(module) == "core"):
        assert packages_of(module) - allowed - sys.stdlib_module_names == set(), module
        assert "matplotlib" not in packages_of(module) or module == "plots"


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_an_optional_package_is_imported_by_one_module_and_in_a_function(package):
    users = [module for module in MODULES if package in packages_of(module)]
    assert len(users) <= 1, f"{package} is imported by {users}"
    # A module that is imported by its name only, inside of a function, may do so on top.
    always = {name for module in ["", *MODULES] for name in names_on_top(module)}
    for module in (user for user in users if f"labkit.{user}" in always):
        names = [ast.unparse(node) for node in tree_of(module).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not [name for name in names if name.split()[1].partition(".")[0] == package]


@pytest.mark.parametrize("module", ["", *(module for module in MODULES if is_package(module))])
def test_package_init_only_reexports(module):
    names = set()
    for node in tree_of(module).body[1:]:  # after the docstring
        assert isinstance(node, (ast.ImportFrom, ast.Assign)), ast.unparse(node)
        names |= {target.id for target in node.targets} if isinstance(node, ast.Assign) else set()
    assert names <= {"__all__"} | ({"__version__"} if not module else set())


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
    assert ast.get_docstring(tree_of(module))
    for node in tree_of(module).body:
        overloaded = any(ast.unparse(decorator) == "overload" for decorator in getattr(node, "decorator_list", ()))
        if isinstance(node, (ast.ClassDef, Function)) and not node.name.startswith("_") and not overloaded:
            assert ast.get_docstring(node), node.name


def test_public_names_are_sorted_and_exist():
    assert labkit.__all__ == sorted(labkit.__all__, key=lambda name: (not name[0].isupper(), not name.isupper(), name))
    assert len(set(labkit.__all__)) == len(labkit.__all__)
    assert all(hasattr(labkit, name) for name in labkit.__all__)
    imported = {name.rpartition(".")[2] for name in imports_of("") if name.startswith("labkit.")}
    assert set(labkit.__all__) == imported  # nothing of another package, and no name lost


@pytest.mark.parametrize("module", MODULES)
def test_text_files_are_opened_as_utf8(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(getattr(node, "func", None), ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            assert "encoding" in {keyword.arg for keyword in node.keywords}, ast.unparse(node)


@pytest.mark.parametrize("package", ["", "course"])
def test_what_notebooks_import_brings_no_command_line_and_no_kernel(package):
    reached, waiting = set(), {package}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= labkit_imports_of(module) - reached
    assert {module for module in reached if module and floor_of(module) in ("rerun", "command line")} == set()
    heavy = {"nbclient", "nbformat", "typer", "rich"}
    assert {module: packages_of(module) & heavy for module in reached if packages_of(module) & heavy} == {}


def report() -> None:
    """Print all measures: the floors, the worst functions, and ``TODAY`` as it should stand above."""
    table = measures()
    for name, (now, limit) in table.items():
        if "()" not in name:
            print(f"{name:30}{now:6,} of {limit:6,}{'' if now <= limit else '  too many'}")
    for title, counts in (
        ("longest functions", lines_of_functions()),
        ("most nested", nesting_of_functions()),
        ("most parameters", parameters_of_functions()),
        ("lines with Any", lines_with_any()),
    ):
        worst = sorted(counts.items(), key=lambda item: -item[1])[:8]
        print(f"\n{title}\n" + "\n".join(f"{count:6} {name}" for name, count in worst))
    rows = [f'    "{name}": {now},' for name, (now, limit) in table.items() if now > limit]
    print("\n".join(["\nTODAY: dict[str, int] = {", *rows, "}"]))


if __name__ == "__main__":
    report()
