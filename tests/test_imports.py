"""The rooms of the package: what may import what, read from the source without importing anything."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdrun"

ORDER = (  # from low to high: a module imports its own room and those before it; a name of two parts goes before its room
    "utils", "config", "evaluation.metrics", "evaluation.scores", "data", "models", "tasks", "methods", "functional", "training",
    "evaluation", "storage", "experiment", "sweeps", "analysis", "bench", "cli")

INSIDE = {  # imports inside functions of modules of kdrun, which stay for the time that a start takes
}


def modules() -> dict[str, Path]:
    """Every module of the package, by its dotted name without `kdrun.`; the package itself is ''."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> list[tuple[str, int, bool]]:
    """What a file imports of kdrun: (module, line, whether inside a function)."""
    found: list[tuple[str, int, bool]] = []

    def add(name: str, line: int, inside: bool) -> None:
        short = name.removeprefix("kdrun").removeprefix(".")
        found.append((short if short in known else short.rpartition(".")[0], line, inside))

    def walk(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and not child.level and (child.module or "").split(".")[0] == "kdrun":
                for alias in child.names:
                    add(f"{child.module}.{alias.name}", child.lineno, inside)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    if alias.name.split(".")[0] == "kdrun":
                        add(alias.name, child.lineno, inside)
            walk(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    walk(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def room(module: str) -> int:
    """The place of a module in the order."""
    fits = [place for place, name in enumerate(ORDER) if module == name or module.startswith(f"{name}.")]
    return min(fits) if fits else -1


@pytest.fixture(scope="module")
def graph() -> dict[str, list[tuple[str, int, bool]]]:
    found = modules()
    return {name: imports(path, set(found)) for name, path in found.items()}


def test_every_module_has_its_room(graph):
    outside = sorted(name for name in graph if room(name) < 0)
    assert outside == ["", "__main__"]


def test_imports_go_downward(graph):
    wrong = [f"kdrun.{name}, line {line}: imports kdrun.{other}" for name, found in sorted(graph.items()) if room(name) >= 0
             for other, line, _ in found if room(other) > room(name)]
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle(graph):
    """Imports inside functions count too: one that breaks a circle only hides it."""
    state: dict[str, int] = {}
    circles = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        state[name] = 1
        for other in sorted({other for other, _, _ in graph[name]} - {name}):
            if state.get(other) == 1:
                circles.append(" -> ".join([*way[way.index(other):], other]))
            elif other not in state:
                visit(other, (*way, other))
        state[name] = 2

    for name in sorted(graph):
        if name and name not in state:
            visit(name, (name,))
    assert not circles, "\n".join(circles)


def test_imports_inside_functions_are_there_for_a_reason(graph):
    """A module that a start does not need may be imported late; then it is in the list above, or a comment says why."""
    wrong = []
    for name, found in sorted(graph.items()):
        lines = modules()[name].read_text(encoding="utf-8").splitlines()
        wrong += [f"kdrun.{name}, line {line}: kdrun.{other}" for other, line, inside in found if inside
                  and "#" not in lines[line - 1] and other not in INSIDE.get(name, ())]
    assert not wrong, "\n".join(wrong)
