"""What there is to choose from: methods, networks, datasets, schemes, recipes, experiments."""

from collections.abc import Sequence

from kdrun.bounds import closest
from kdrun.commands import Arguments
from kdrun.config import Refused
from kdrun.console import plain_console
from kdrun.listing import TABLES


def main(words: Sequence[str]) -> int:
    """Print the tables named by the words; all without words. Returns the exit status.

    Raises:
        Refused: there is no such table.
    """
    arguments = Arguments("list", __doc__)
    arguments.words = lambda: TABLES
    arguments.add_argument("what", nargs="*", help=f"of {', '.join(TABLES)}; all without")
    wanted = arguments.parse_args(list(words)).what or list(TABLES)
    for word in wanted:
        if word not in TABLES:
            raise Refused([f"cannot list '{word}'" + (closest(word, TABLES) or f"; there is {', '.join(TABLES)}")])
    console = plain_console()
    for word in wanted:
        console.print(TABLES[word]())
    return 0
