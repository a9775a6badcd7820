"""What there is to choose from: methods, networks, datasets, schemes, recipes, experiments."""

from collections.abc import Sequence

from kdrun.cli.commands import Arguments
from kdrun.cli.listing import TABLES
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError
from kdrun.utils.console import plain_console


def main(words: Sequence[str]) -> int:
    """Print the tables named by the words; all without words. Returns the exit status.

    Raises:
        ConfigError: there is no such table.
    """
    arguments = Arguments("list", __doc__)
    arguments.words = lambda: TABLES
    arguments.add_argument("what", nargs="*", help=f"of {', '.join(TABLES)}; all without")
    wanted = arguments.parse_args(list(words)).what or list(TABLES)
    for word in wanted:
        if word not in TABLES:
            raise ConfigError([f"cannot list '{word}'" + (closest(word, TABLES) or f"; there is {', '.join(TABLES)}")])
    console = plain_console()
    for word in wanted:
        console.print(TABLES[word]())
    return 0
