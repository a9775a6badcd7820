"""Go on with interrupted runs or sweeps, by the settings that lie in their folders."""

from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments


def main(words: Sequence[str]) -> int:
    """Go on with each folder in turn. Returns the exit status: the first that is not 0.

    Raises:
        ConfigError: a folder cannot be gone on with.
    """
    arguments = Arguments("resume", __doc__ or "")
    arguments.words = unfinished
    arguments.add_argument("folder", nargs="+", type=Path, help="outputs/runs/... or outputs/sweeps/...")
    arguments.add_argument("--anyway", action="store_true",
                           help="go on from checkpoints although kdrun, torch or the device has changed since")
    arguments.add_argument("--trust", action="store_true",
                           help="run whatever code the settings in the folder name; for folders that you made")
    given = arguments.parse_args(list(words))
    from kdrun.cli.resumption import resume  # with Hydra

    worst = 0
    for folder in given.folder:
        status = resume(folder, given.trust, "mix" if given.anyway else "refuse")
        if status > 128:
            return status
        worst = worst or status
    return worst


def unfinished() -> list[str]:
    """The runs under outputs/ that can be gone on with, and the sweeps."""
    return [str(path.parent) for path in sorted(Path("outputs").glob("*/*/asked.json"))
            if not (path.parent / "run.json").exists()]
