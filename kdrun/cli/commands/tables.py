"""The surveys' tables beside what was measured, and a league table; written as CSV, Markdown, LaTeX and HTML."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments, fraction, outputs_folder
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

MORE = """\
Tables: {names}; all without a name.

Every run that lies in OUTPUTS/runs is collected, and what ships with kdrun is added in parts of its own. Nothing
measured on other data, teachers, students or recipes is ranked together. The files go to OUTPUTS/tables.

  kdrun tables league --sort score --alpha 0.7
  kdrun tables gou_6 --where 'dataset == "cifar100"'
"""

OUTPUTS = Path("outputs")


def main(words: Sequence[str]) -> int:
    """Print tables and write their files. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong.
    """
    from kdrun.analysis.league import SORTS
    from kdrun.analysis.measured import SIZE_UNITS, Scoring
    from kdrun.analysis.published_vs_measured import SELECTIONS
    from kdrun.analysis.statistics import TESTS
    from kdrun.analysis.tables import TABLES, Wanted

    arguments = Arguments("tables", f"{__doc__}\n\n" + MORE.format(names=textwrap.fill(", ".join(TABLES), 110)))
    arguments.words = lambda: TABLES
    arguments.add_argument("names", nargs="*", metavar="TABLE", help="which; all without")
    arguments.add_argument("--outputs", type=Path, default=OUTPUTS, help="the folder with runs/ (outputs)")
    arguments.add_argument("--where", metavar="CONDITION", help="""which runs: 'dataset == "cifar100" and seed in [1, 2]'""")
    arguments.add_argument("--alpha", type=fraction, default=0.5, help="of the distillation score, from 0 to 1 (0.5)")
    arguments.add_argument("--size-unit", choices=SIZE_UNITS, default="parameters",
                           help="of the distillation score and the size reduction (parameters)")
    arguments.add_argument("--sort", choices=list(SORTS), default="accuracy", help="the league table by this (accuracy)")
    arguments.add_argument("--test", choices=list(TESTS), default="wilcoxon", help="against the baseline (wilcoxon)")
    arguments.add_argument("--rank-weak-teachers", action="store_true",
                           help="rank methods too whose teacher is no better than the student alone")
    arguments.add_argument("--select", choices=SELECTIONS, default="all",
                           help="Alkhulaifi's tables: all that was measured, or one student a row by the survey's rule (all)")
    arguments.add_argument("--own", action="store_true", help="without what ships with kdrun")
    arguments.add_argument("--siunitx", action="store_true", help="in LaTeX, figures in siunitx's columns")
    arguments.add_argument("--quiet", action="store_true", help="write the files, print no tables")
    asked = arguments.parse_args(list(words))
    for name in asked.names:
        if name not in TABLES:
            raise ConfigError([f"there is no table '{name}'" + (closest(name, TABLES) or f"; there is {', '.join(TABLES)}")])

    from kdrun.analysis.rendering import terminal, write
    from kdrun.analysis.run_index import collect
    from kdrun.analysis.tables import tables
    from kdrun.utils.console import plain_console

    if asked.outputs != OUTPUTS:  # where nothing was run yet, there are the published tables
        outputs_folder(asked.outputs)
    found = collect(asked.outputs, asked.where, packaged=not asked.own)
    wanted = Wanted(Scoring(asked.alpha, asked.size_unit), asked.test, asked.sort, asked.select, asked.rank_weak_teachers)
    console = plain_console(piped_width=120)
    folder = asked.outputs / "tables"
    for table in tables(found, wanted, asked.names or tuple(TABLES)):
        paths = write(table, folder, asked.siunitx)
        if not asked.quiet:
            console.print(terminal(table, console.width))
            console.print(f"{paths[0].with_suffix('')}.{{csv,md,tex,html}}\n", style="dim", soft_wrap=True)
    found.tell_skipped()
    if asked.quiet:
        console.print(str(folder), soft_wrap=True)
    return 0
