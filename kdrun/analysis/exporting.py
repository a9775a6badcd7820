"""Collected rows on a screen, and in a file of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from kdrun.analysis.table import NONE
from kdrun.config.schema import ConfigError
from kdrun.utils.cells import guarded_frame
from kdrun.utils.console import plain_console
from kdrun.utils.files import write_atomically
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["WRITERS", "export", "show"]


def parquet(table: "DataFrame", path: Path) -> None:
    """Write Parquet.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise ConfigError(["--parquet: needs pyarrow; pip install 'kdrun[parquet]', or use --csv or --json"]) from error
    table.to_parquet(path, engine="pyarrow", index=False)


WRITERS: Final[dict[str, Callable[["DataFrame", Path], Any]]] = {
    "csv": lambda table, path: guarded_frame(table).to_csv(path, index=False),
    "json": lambda table, path: table.to_json(path, orient="records", indent=1, force_ascii=False, double_precision=15),
    "parquet": parquet,
}


def export(table: "DataFrame", kind: str, path: Path) -> None:
    """Write rows to a file, whole or not at all.

    Raises:
        ConfigError: the place is a folder, or Parquet lacks its library.
    """
    if path.is_dir():
        raise ConfigError([f"--{kind}: {path} is a folder, wanted a file"])
    write_atomically(path, lambda part: WRITERS[kind](table, part))


def show(table: "DataFrame") -> None:
    """Print rows; what is equal in all of them is said once, above."""
    console = plain_console()
    if table.empty:
        console.print("no rows")
        return
    shared = [column for column in table if len(table) > 1 and table[column].nunique(dropna=False) == 1]
    for column in shared:
        console.print(Text(f"{column}: {cell(table[column].iloc[0])}"), soft_wrap=True)
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    rest = [column for column in table if column not in shared]
    for column in rest:
        shown.add_column(Text(str(column)), justify="right" if table[column].dtype.kind in "ifu" else "left", overflow="fold")
    for row in table[rest].itertuples(index=False):
        shown.add_row(*(Text(cell(value)) for value in row))
    console.print(shown)
    console.print(counted(len(table), "row"), style="dim")


def cell(value: Any) -> str:
    """A value in few characters; a dash for none."""
    import pandas

    if pandas.isna(value):
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
