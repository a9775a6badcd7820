"""What the store of networks and answers holds and how large it is; deletes what is not needed any more."""

from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments, outputs_folder
from kdrun.config.schema import ConfigError
from kdrun.utils.console import plain_console

MORE = """\
  kdrun store                                       # everything, with sizes
  kdrun store --prune answers                       # what teachers answered (teacher.remember=true)
  kdrun store --prune networks 'digits-*-s7-*'      # trained teachers and baselines, some of them
  kdrun store --prune unfinished                    # checkpoints of trainings that were interrupted

Whatever is deleted is made again where a run needs it. What a job is at is kept.
"""


def main(words: Sequence[str]) -> int:
    """List or prune. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong, or names nothing.
    """
    from kdrun.storage import inventory

    arguments = Arguments("store", f"{__doc__}\n\n{MORE}")
    arguments.words = lambda: [entry.name for entry in inventory.entries(Path("outputs") / "store")]
    arguments.add_argument("names", nargs="*", metavar="NAME", help="which entries, * for anything; all without")
    arguments.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder with store/ (outputs)")
    arguments.add_argument("--prune", choices=inventory.KINDS, help="delete these")
    asked = arguments.parse_args(list(words))
    found = inventory.entries(outputs_folder(asked.outputs) / "store", asked.names)
    if asked.names and not found:
        raise ConfigError([f"nothing in {asked.outputs / 'store'} is called {' or '.join(asked.names)}"])
    console = plain_console()
    if not asked.prune:
        console.print(inventory.shown(found))
        return 0
    chosen = [entry for entry in found if entry.kind == asked.prune]
    freed = inventory.prune(chosen, console.print)
    console.print(f"freed {inventory.megabytes(freed)} of {asked.prune}")
    return 0
