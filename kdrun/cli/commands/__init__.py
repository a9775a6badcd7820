"""Sub-commands: `kdrun NAME ...` calls `main` of the file NAME.py here, whose docstring's first line is its help."""

import argparse
import ast
import importlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

if TYPE_CHECKING:
    from kdrun.analysis.run_index import Collection

__all__ = ["Arguments", "arguments_of", "at_least", "finished", "fraction", "names", "outputs_folder", "run", "summary"]


def names() -> list[str]:
    """What there is."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def summary(name: str) -> str:
    """The first line of what a sub-command says of itself, read without importing it."""
    docstring = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
    return docstring.partition("\n")[0]


def run(name: str, words: Sequence[str]) -> int:
    """Run a sub-command; returns the exit status.

    Raises:
        ConfigError: its arguments are wrong, or what they name is not there.
    """
    return importlib.import_module(f"kdrun.cli.commands.{name}").main(words)


class Declared(Exception):
    """The arguments of a sub-command are declared, and nothing more was wanted."""


class Arguments(argparse.ArgumentParser):
    """The arguments of a sub-command: what is wrong with them is one line, as everywhere in kdrun.

    Args:
        name: of the sub-command.
        description: what `kdrun NAME --help` says above the options.

    Attributes:
        words: what may be given beside options, for completion.
    """

    words: Callable[[], Iterable[str]] | None = None
    wanted = False  # whether the declaration alone is wanted

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=f"kdrun {name}", description=description, allow_abbrev=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, *given: Any, **named: Any) -> Any:
        """As usual, unless the declaration alone is wanted.

        Raises:
            Declared: it is; with the arguments.
        """
        if Arguments.wanted:
            raise Declared(self)
        return super().parse_args(*given, **named)

    def error(self, message: str) -> NoReturn:
        """Refuse, with the option that may have been meant.

        Raises:
            ConfigError: always.
        """
        _, _, unknown = message.partition("unrecognized arguments: ")
        known = [option for action in self._actions for option in action.option_strings]
        raise ConfigError([f"{self.prog}: unknown argument '{word}'" + (
            closest(word, known) or f"; there is {', '.join(known)}")
                       for word in unknown.split()] or [f"{self.prog}: {message}"])


def arguments_of(name: str) -> Arguments:
    """The arguments of a sub-command as it declares them; nothing else of it is done."""
    Arguments.wanted = True
    try:
        run(name, [])
    except Declared as declared:
        return declared.args[0]
    finally:
        Arguments.wanted = False
    raise AssertionError(f"{name} reads no arguments")


def fraction(word: str) -> float:
    """A number from 0 to 1, as the type of an argument.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got '{word}', wanted a number from 0 to 1")
    return value


def at_least(least: int) -> Callable[[str], int]:
    """Whole numbers that are not below `least`, as the type of an argument."""
    def number(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"got '{word}', wanted a whole number of at least {least}")
        return value

    return number


def outputs_folder(folder: Path) -> Path:
    """A folder of outputs.

    Raises:
        ConfigError: there is none, so nothing can be collected from it.
    """
    if not folder.is_dir():
        raise ConfigError([f"there is no folder {folder}; run something first, or name the folder by --outputs"])
    return folder


def finished(outputs: Path, where: str | None) -> "Collection":
    """What was measured by the finished runs in a folder of outputs.

    Raises:
        ConfigError: there is none, or none for which the condition holds.
    """
    from kdrun.analysis.run_index import collect

    found = collect(outputs_folder(outputs), where)
    if found.students.empty:
        found.tell_skipped()
        raise ConfigError([f"--where: none of the finished runs in {outputs} has a student's row for which {where}"
                           if where else
                       f"there is no finished run in {outputs}; run one, as kdrun method=kd, or name its folder by --outputs"])
    return found
