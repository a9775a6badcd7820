"""What code decides a result: the classes involved and all that they import, inside kdrun and the user's own folders.

Imports are read from the files, those inside functions too; nothing is imported or run for it. What is imported under
`if TYPE_CHECKING:` alone is never run, and does not count.
"""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

__all__ = ["CAST", "LOOP", "closure", "fingerprint"]

LOOP = ("kdrun.training.loop", "kdrun.models.factory", "kdrun.methods.baseline.vanilla")
"""What trains any network, and all that a teacher or a baseline is trained by."""

CAST = ("kdrun.models.factory", "kdrun.storage.teacher_cache")
"""What asks a frozen network, and remembers what it said."""

APART = frozenset({"kdrun.utils.wording", "kdrun.config.presets"})
"""Imported by those above, and of no effect on a weight: words of messages, and presets, whose settings are in every key."""

PACKAGE = Path(__file__).parents[1]
INSTALLED = tuple(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib", "platstdlib"))


@cache
def fingerprint(*targets: str) -> str:
    """A digest of the code behind some modules, classes or functions, and of torch's version.

    Comments, docstrings and blank lines do not count, and neither does any file that none of them imports.

    Args:
        targets: modules, or what `_target_` names.

    Raises:
        ValueError: there are none, or there is no file for one of them.
    """
    digest = hashlib.sha256(torch.__version__.encode())
    for name, path in sorted(closure(*targets).items()):
        digest.update(name.encode())
        digest.update(source_of(path).digest)
    return digest.hexdigest()


def closure(*targets: str) -> dict[str, Path]:
    """The files of some modules and of all that they import, by the modules' names; other people's packages are left out.

    Of those, only the files that `targets` name themselves are in it.

    Raises:
        ValueError: there is no file for a target, or for a module of kdrun that is imported; or there are no targets.
    """
    if not targets:
        raise ValueError("no code to look at")
    found: dict[str, Path] = {}
    waiting = []
    for target in dict.fromkeys(targets):
        module, path = defining(target)
        if path is not None:
            waiting.append((module, path))
    while waiting:
        module, path = waiting.pop()
        if module in found or module in APART:
            continue
        found[module] = path
        if not installed(path):
            waiting += imported(module, path)
    return found


def defining(target: str) -> tuple[str, Path | None]:
    """The module that defines a target (or is it), and its file; None where Python itself has it built in.

    Raises:
        ValueError: there is no such module.
    """
    for module in (target, target.rpartition(".")[0]):
        if module and (path := file_of(module)) is not None:
            return module, path
    top = target.partition(".")[0]
    spec = spec_of(top)
    if spec is not None and spec.origin in ("built-in", "frozen"):
        return top, None
    raise ValueError(f"{target}: there is no file of Python that defines it")


def imported(module: str, path: Path) -> list[tuple[str, Path]]:
    """The modules that one imports, as far as they are kdrun's or the user's own, with their files.

    Raises:
        ValueError: there is no file for one of kdrun's.
    """
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names: dict[str, None] = {}
    for level, base, inside in source_of(path).imports:
        whole = ".".join(filter(None, (*package[:len(package) + 1 - level], base))) if level else base
        # `from a import b`: a module of a package, or something that the package itself defines
        names |= {f"{whole}.{name}" if own_file(f"{whole}.{name}") is not None else whole: None for name in inside or ("",)}
    found = []
    for name in names:
        top, *rest = name.split(".")
        file = own_file(name)
        if file is not None:
            found.append((name, file))
        elif top == PACKAGE.name and not PACKAGE.joinpath(*rest).is_dir():
            raise ValueError(f"{path}: it imports {name}, and there is no file for that")
        if top != PACKAGE.name:  # the packages around it are run too; kdrun's have nothing to run
            above = (".".join((top, *rest[:length])) for length in range(len(rest)))
            found += [(around, file) for around in above if (file := own_file(around)) is not None]
    return found


def own_file(module: str) -> Path | None:
    """The file of a module of kdrun or of the user's; None for one that is installed, and where there is none."""
    path = file_of(module)
    return None if path is None or installed(path) else path


@cache
def installed(path: Path) -> bool:
    """Whether a file is part of Python or of an installed package other than kdrun."""
    return PACKAGE not in path.parents and any(folder in path.parents for folder in INSTALLED)


@cache
def file_of(module: str) -> Path | None:
    """The file of a module, found without importing anything; None where there is none."""
    top, *rest = module.split(".")
    spec = spec_of(top)
    own: Path | None
    if top == PACKAGE.name:
        places, own = [PACKAGE], PACKAGE / "__init__.py"
    elif spec is None:
        return None
    else:
        places = [Path(place) for place in spec.submodule_search_locations or ()]
        own = Path(spec.origin) if spec.origin and spec.origin not in ("built-in", "frozen") else None
    for part in rest:
        own = next((file for place in places for file in candidates(place, part) if file.is_file()), None)
        places = [place / part for place in places if (place / part).is_dir()]
        if own is None and not places:
            return None
    return own


def candidates(place: Path, name: str) -> Iterator[Path]:
    """The files that a module of this name may have in a folder, in the order in which Python looks."""
    yield place / name / "__init__.py"
    yield from (place / f"{name}{suffix}" for suffix in (*EXTENSION_SUFFIXES, ".py"))


def spec_of(top: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module that is in no package comes from; nothing is run to find out."""
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):  # __main__ and what was put together by hand have no origin
        return None


STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # what may hold an import or a docstring, at any depth


@dataclass(frozen=True)
class Source:
    """What a file of code says.

    Attributes:
        digest: the SHA-256 of what it does.
        imports: of each statement: the dots of a relative one, the module, and the names taken from it.
    """

    digest: bytes
    imports: tuple[tuple[int, str, tuple[str, ...]], ...]


def is_version(node: ast.stmt) -> bool:
    """Whether a statement says which version this is: kdrun's is a part of every run's name as it is."""
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"


@cache  # a process runs what it has imported, whatever becomes of the file
def source_of(path: Path) -> Source:
    """What a file says.

    Raises:
        ValueError: it is no Python.
    """
    if path.suffix != ".py":
        return Source(hashlib.sha256(path.read_bytes()).digest(), ())
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no Python ({error})") from error
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body.pop(0)
        waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, STATEMENTS)]
    tree.body = [node for node in tree.body if not is_version(node)]
    return Source(hashlib.sha256(ast.dump(tree, annotate_fields=False).encode()).digest(), tuple(imports))
