"""What there is to choose from: methods, networks, datasets, schemes, recipes, experiments."""

from collections.abc import Sequence

from rich.console import Console

from kdrun.bounds import closest
from kdrun.commands import Arguments
from kdrun.config import Refused
from kdrun.listing import TABLES


def main(words: Sequence[str]) -> int:
    """Print the tables named by the words; all without words. Returns the exit status.

    Raises:
        Refused: there is no such table.
    """
    arguments = Arguments("list", __doc__)
    arguments.add_argument("what", nargs="*", help=f"of {', '.join(TABLES)}; all without")
    wanted = arguments.parse_args(list(words)).what or list(TABLES)
    for word in wanted:
        if word not in TABLES:
            raise Refused([f"cannot list '{word}'" + (closest(word, TABLES) or f"; there is {', '.join(TABLES)}")])
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for word in wanted:
        console.print(TABLES[word]())
    return 0
