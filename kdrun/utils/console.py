"""Where tables and lines are printed: texts as they are, whatever stands in them."""

from typing import Any

from rich.console import Console

__all__ = ["PIPED_WIDTH", "plain_console"]

PIPED_WIDTH = 160  # characters of a line where the output goes to a file or to another program


class PlainConsole(Console):
    """A console that finds no markup, emoji codes or numbers to colour in a text, and no padding to leave behind it.

    The name of a folder, a network or a class may be "[/x]" or ":warning:"; rich would take the first for markup that
    closes nothing, and fail. Styles are given by `rich.text.Text` and `style=` alone.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; where no person watches, without the spaces that fill the cells of a table up to the right."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        super().print("\n".join(line.rstrip(" ") for line in captured.get().split("\n")), end="", soft_wrap=True)


def plain_console(*, stderr: bool = False, piped_width: int = PIPED_WIDTH) -> Console:
    """A console for everything that is printed.

    Args:
        stderr: whether it is that of messages, and not of results.
        piped_width: the width of a line where the output is no terminal.
    """
    console = PlainConsole(stderr=stderr)
    return console if console.is_terminal else PlainConsole(stderr=stderr, width=piped_width)
