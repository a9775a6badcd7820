"""The rooms of the package: what may import what, read from the source without importing anything."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdrun"

ORDER = (  # from low to high: a module imports its own room and those before it; a name of two parts goes before its room
    "utils", "config",
    "evaluation.scores", "evaluation.metrics", "evaluation.sequence_metrics", "evaluation.dense_metrics",
    "evaluation.picture_metrics", "evaluation.ranking_metrics", "evaluation.retrieval_metrics",
    "data.sequences", "data.sequential_modalities", "data.modalities", "data.mixing", "data.augment", "data.streamed",
    "data.samples", "data.batch",
    "models.output", "models.tracing", "models.tapped", "models.cosine",  # of which data and tasks are made
    "tasks",
    "data", "models", "methods", "functional", "training", "evaluation",
    "analysis.statistics", "analysis.plots.style", "analysis.plots.labels", "analysis.plots.plot", "analysis.plots.run_curves",
    "storage", "experiment", "loading", "sweeps", "analysis",
    "evaluation.diagnostics",  # of networks that finished runs left
    "bench", "cli")

LATE = {  # what may be imported inside a function without a word, since a start would wait for it
    "experiment": "torch", "utils.vision": "torchvision", "utils.huggingface": "transformers", "analysis.plots": "matplotlib"}
LATE_ROOMS = ("cli",)  # one sub-command is run; help and completion load neither torch nor pandas nor Hydra


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
        module = short if short in known else short.rpartition(".")[0]
        if module:  # the package itself holds its version, and hands out what is public when it is asked for
            found.append((module, line, inside))

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
    fits = [name for name in ORDER if below(module, [name])]
    return ORDER.index(max(fits, key=len)) if fits else -1


def below(module: str, places: Iterable[str]) -> bool:
    """Whether a module is one of these, or in one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


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
    """A module that a start does not need may be imported late; then it is in the lists above, or a comment says why."""
    wrong = []
    for name, found in sorted(graph.items()):
        lines = modules()[name].read_text(encoding="utf-8").splitlines()
        wrong += [f"kdrun.{name}, line {line}: kdrun.{other}" for other, line, inside in found if inside
                  and "#" not in lines[line - 1] and not below(other, LATE) and not below(name, LATE_ROOMS)]
    assert not wrong, "\n".join(wrong)
