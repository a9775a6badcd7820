"""Everything measured as one HTML page: a sortable league table, the plots, every run with its files."""

from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments, finished, fraction
from kdrun.config.schema import ConfigError

MORE = """\
The page needs no network and nothing beside it; its links lead to the files of the runs.

  kdrun report --where 'dataset == "cifar100"' --to cifar100.html
"""


def main(words: Sequence[str]) -> int:
    """Write the page. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong, or there is nothing to report.
    """
    from kdrun.analysis.measured import SIZE_UNITS, Scoring
    from kdrun.analysis.statistics import TESTS
    from kdrun.analysis.tables import Wanted

    arguments = Arguments("report", f"{__doc__}\n\n{MORE}")
    arguments.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder with runs/ (outputs)")
    arguments.add_argument("--where", metavar="CONDITION", help="""which runs: 'dataset == "cifar100" and seed in [1, 2]'""")
    arguments.add_argument("--to", type=Path, metavar="FILE", help="the page (OUTPUTS/report.html)")
    arguments.add_argument("--alpha", type=fraction, default=0.5, help="of the distillation score, from 0 to 1 (0.5)")
    arguments.add_argument("--size-unit", choices=SIZE_UNITS, default="parameters",
                           help="of the distillation score (parameters)")
    arguments.add_argument("--test", choices=list(TESTS), default="wilcoxon", help="against the baseline (wilcoxon)")
    arguments.add_argument("--rank-weak-teachers", action="store_true",
                           help="rank methods too whose teacher is no better than the student alone")
    asked = arguments.parse_args(list(words))
    place = asked.to or asked.outputs / "report.html"
    if place.is_dir():
        raise ConfigError([f"--to: {place} is a folder, wanted a file"])

    from kdrun.analysis.html_report import report
    from kdrun.utils.files import write_atomically

    found = finished(asked.outputs, asked.where)
    page = report(found, place, Wanted(Scoring(asked.alpha, asked.size_unit), asked.test,
                                        rank_weak=asked.rank_weak_teachers))
    write_atomically(place, lambda part: part.write_text(page, encoding="utf-8"))
    print(place)
    found.tell_skipped()
    return 0
