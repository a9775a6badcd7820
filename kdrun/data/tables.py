"""Tables of texts: CSV, TSV and the like, as they are written."""

from collections.abc import Mapping
from pathlib import Path

from kdrun.config.constraints import closest

__all__ = ["read_columns"]


def read_columns(key: str, path: str, columns: Mapping[str, str], separator: str) -> list[list[str]]:
    """Columns of a table, every cell as text; pandas reads it, so it may be compressed.

    Args:
        key: the setting that names the table, for messages.
        path: the table, in UTF-8.
        columns: names of columns, by the settings that name them.
        separator: between the columns.

    Raises:
        ValueError: the file is not there, cannot be read, or lacks a column.
    """
    import pandas as pd  # takes a second, and most data sets have no table

    if not Path(path).is_file():
        raise ValueError(f"{key}: there is no file {Path(path).absolute()}; wanted a table with the columns "
                         f"{' and '.join(columns.values())}")
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except Exception as error:  # whatever a damaged file makes pandas raise
        raise ValueError(f"{key}: {Path(path).absolute()} cannot be read as a table in UTF-8 "
                         f"({(str(error).splitlines() or [type(error).__name__])[0]})") from error
    for setting, column in columns.items():
        if column not in table.columns:
            raise ValueError(f"{setting}: {Path(path).absolute()} has no column '{column}'"
                             + (closest(column, table.columns) or f"; it has {', '.join(map(str, table.columns))}"))
    return [table[column].tolist() for column in columns.values()]
