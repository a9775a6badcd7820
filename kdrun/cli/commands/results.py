"""The rows of every finished run: printed, or as CSV, JSON or Parquet."""

from collections.abc import Sequence
from pathlib import Path

from kdrun.cli.commands import Arguments, outputs_folder
from kdrun.config.constraints import closest
from kdrun.config.schema import ConfigError

MORE = """\
Every run that lies in OUTPUTS/runs is collected: a row for each network. What is half-written or damaged is told of and
left out.

  kdrun results --where 'role == "student" and accuracy > 0.98' --columns variant,seed,accuracy
  kdrun results --csv all.csv            # also --json FILE, --parquet FILE (needs pyarrow: pip install 'kdrun[parquet]')
"""
USUAL = ("comparison", "variant", "seed", "role", "model", "headline", "headline_value", "distillation_score",
         "relative_error")


def main(words: Sequence[str]) -> int:
    """Print or export the rows. Returns the exit status.

    Raises:
        ConfigError: an argument is wrong, or a file cannot be written.
    """
    arguments = Arguments("results", f"{__doc__}\n\n{MORE}")
    arguments.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder with runs/ (outputs)")
    arguments.add_argument("--where", metavar="CONDITION", help="""which rows: 'dataset == "cifar100" and seed in [1, 2]'""")
    arguments.add_argument("--columns", metavar="A,B,...", help="which columns; 'all' for all")
    arguments.add_argument("--sort", metavar="COLUMN", help="by a column, the smallest first")
    arguments.add_argument("--reverse", action="store_true", help="the largest first")
    for kind in ("csv", "json", "parquet"):
        arguments.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write {kind.upper()} instead of printing")
    arguments.add_argument("--packaged", action="store_true", help="with what ships with kdrun")
    asked = arguments.parse_args(list(words))

    from kdrun.analysis import exporting
    from kdrun.analysis.run_index import collect

    found = collect(outputs_folder(asked.outputs), asked.where, packaged=asked.packaged)
    table = found.results
    files = {kind: path for kind in exporting.WRITERS if (path := getattr(asked, kind)) is not None}

    def known(name: str) -> str:
        if name not in table.columns:
            raise ConfigError([f"there is no column '{name}'"
                           + (closest(name, table.columns) or f"; there is {', '.join(table.columns)}")])
        return name

    if asked.sort:
        table = table.sort_values(known(asked.sort), ascending=not asked.reverse, kind="stable")
    elif asked.reverse:
        table = table[::-1]
    if asked.columns == "all" or (asked.columns is None and files):
        columns = list(table.columns)
    else:
        columns = [known(name.strip()) for name in asked.columns.split(",")] if asked.columns else list(USUAL)
    table = table[columns]
    for kind, path in files.items():
        exporting.export(table, kind, path)
        print(path)
    if not files:
        exporting.show(table)
    found.tell_skipped()
    return 0
