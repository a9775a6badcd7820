"""The command line: a bare first word is a sub-command, everything else is Hydra's."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeVar, cast

from kdrun import __version__
from kdrun.cli.folders import look_in, typed_folders
from kdrun.config import speed
from kdrun.utils import signals
from kdrun.utils.wording import printable

__all__ = ["main"]

REFUSED, FAILED, INTERRUPTED = 2, 1, 130

Answer = TypeVar("Answer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kdrun; returns the exit status: 0 done, 1 failed on the way, 2 refused before anything was trained."""
    with contextlib.redirect_stdout(cast(TextIO, Output(sys.stdout))):
        try:
            status = command(arguments)
            sys.stdout.flush()  # what could not be written so far fails here, and not when Python ends
        except Unwritable as error:
            status = FAILED
            with contextlib.suppress(OSError, ValueError):  # else Python tries once more when it ends, and complains
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno != errno.EPIPE:  # whoever read it has seen enough: kdrun results | head
                complain([f"cannot write to the standard output: {error.strerror}"])
    return status


class Unwritable(OSError):
    """The standard output takes no more."""


class Output:
    """The standard output, whose errors are told from those of other files.

    Args:
        stream: it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write.

        Raises:
            Unwritable: the disk is full, or nobody reads it any more.
        """
        return self.checked(lambda: self.stream.write(text))

    def flush(self) -> None:
        """Write what waits.

        Raises:
            Unwritable: likewise.
        """
        self.checked(self.stream.flush)

    def checked(self, write: Callable[[], Answer]) -> Answer:
        """What `write` answers."""
        try:
            return write()
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from error


def command(arguments: Sequence[str] | None) -> int:
    """What `main` does, as long as there is somebody to write to."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # Hydra's own way of reporting hides the reason behind advice on its flags: take the exception, tell the reason
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    speed.environment()
    if words[:1] == ["--version"]:
        print(f"kdrun {__version__}")
        return 0
    try:
        sys.path += [folder for folder in (os.getcwd(),) if folder not in sys.path]
    except FileNotFoundError:
        complain(["the current folder is not there any more; go to another one"])
        return REFUSED
    if asked_for := asking_shell(words):
        from kdrun.cli import completion

        print(completion.answer(*asked_for))
        return 0
    word = bool(words) and is_word(words[0])
    if not word and {"-h", "--help"} & set(words):
        from kdrun.cli import listing

        look_in(typed_folders(words)[0])
        print(listing.help_text(words))
        return 0
    try:
        with signals.heeded():
            if word:
                return sub_command(words)
            from kdrun.cli.hydra_command import hydra_command  # with Hydra

            return hydra_command(words)
    except signals.Interrupted as asked:
        complain([asked.told("the same command goes on where it stopped")])
        return asked.status
    except KeyboardInterrupt:
        complain(["interrupted; the same command goes on where it stopped"])
        return INTERRUPTED
    except Exception as error:
        from kdrun.config.composition import reasons

        lines = reasons(error)
        if lines is None:
            raise
        complain(lines)
        return REFUSED


def asking_shell(words: Sequence[str]) -> tuple[str, str] | None:
    """The shell whose completion is asked for, and what is wanted: `-sc query=bash` by its script, `-sc install=zsh` by you."""
    if words[:1] not in (["-sc"], ["--shell-completion"], ["--shell_completion"]):
        return None
    action, _, shell = (*words[1:], "")[0].partition("=")
    return (shell, action) if shell in ("bash", "zsh", "fish") and action in ("query", "install", "uninstall") else None


def is_word(argument: str) -> bool:
    """Whether an argument is a bare word: no setting, no option, no deletion."""
    return "=" not in argument and argument[:1] not in ("-", "+", "~")


def complain(lines: Sequence[str]) -> None:
    """Each on a line of its own, on standard error."""
    if os.environ.get("RANK", "0") == "0":  # of several processes of a run the first speaks for all
        for line in lines:
            print(f"kdrun: {printable(line)}", file=sys.stderr)


def sub_command(words: Sequence[str]) -> int:
    """Run a sub-command.

    Raises:
        ConfigError: there is none of this name, or its arguments are wrong.
    """
    from kdrun.cli import commands
    from kdrun.config.schema import ConfigError

    folders, (name, *rest) = typed_folders(words)
    look_in(folders)
    if name not in commands.names():
        from kdrun.cli.overrides import near_command

        raise ConfigError([f"unknown sub-command '{name}'" + near_command(name, commands.names())])
    return commands.run(name, rest)


if __name__ == "__main__":
    sys.exit(main())
