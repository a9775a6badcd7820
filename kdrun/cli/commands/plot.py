"""Pictures of everything measured: trade-offs, learning curves, classes and calibration, as PNG and SVG."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments, finished
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

MORE = """\
Pictures; all without a name:
  gaps            the gap of every method to the student alone, seed by seed, with confidence intervals
  relative_error  accuracy against relative error
  pareto          accuracy against distillation factor, with the Pareto front; gaps where all students are of one size
  alpha           distillation score against alpha, with the points where another student becomes the best
  curves          learning curves of every method over its seeds
  classes         recall of each class against the teacher's
  reliability     accuracy against confidence

Each is for 7 inches of print and comes once for everything that may be ranked together: the same data, teacher and recipe.

  kdrun plot pareto alpha --where 'dataset == "cifar100"' --format svg
"""
FORMATS = ("png", "svg")


def main(words: Sequence[str]) -> int:
    """Draw pictures and write their files. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong, or there is nothing to draw.
    """
    arguments = Arguments("plot", f"{__doc__}\n\n{MORE}")
    arguments.words = pictures
    arguments.add_argument("names", nargs="*", metavar="PICTURE", help="which; all without")
    arguments.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder with runs/ (outputs)")
    arguments.add_argument("--where", metavar="CONDITION", help="""which runs: 'dataset == "cifar100" and seed in [1, 2]'""")
    arguments.add_argument("--to", type=Path, metavar="FOLDER", help="where the pictures go (OUTPUTS/plots)")
    arguments.add_argument("--format", choices=FORMATS, help="only this one; both without")
    arguments.add_argument("--rank-weak-teachers", action="store_true",
                           help="let a method be the best whose teacher is no better than the student alone")
    asked = arguments.parse_args(list(words))

    from kdrun.analysis.plots import KINDS, draw

    for name in asked.names:
        if name not in KINDS:
            raise ConfigError([f"there is no picture '{name}'" + (closest(name, KINDS) or f"; there is {', '.join(KINDS)}")])
    folder = asked.to or asked.outputs / "plots"
    if folder.exists() and not folder.is_dir():
        raise ConfigError([f"--to: {folder} is a file, wanted a folder"])

    found = finished(asked.outputs, asked.where)
    left_out: list[str] = []
    drawn = 0
    for plot in draw(found, asked.names or tuple(KINDS), left_out, asked.rank_weak_teachers):
        drawn += 1
        for kind in [asked.format] if asked.format else FORMATS:
            path = folder / f"{plot.slug}.{kind}"
            plot.save(path)
            print(path)
    for line in left_out:
        print(f"kdrun: left out of {line}", file=sys.stderr)
    found.tell_skipped()
    if not drawn:
        raise ConfigError([f"nothing could be drawn of {', '.join(asked.names) or 'these runs'}"])
    return 0


def pictures() -> list[str]:
    """The names of the pictures."""
    from kdrun.analysis.plots import KINDS

    return list(KINDS)
