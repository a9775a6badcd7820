"""What the files of a run's folder say, read from text alone, and refused where no run leaves such a thing.

A folder may come from anywhere: nothing that it names is imported, built or run, and what is no measurement (a share
above 1, a negative size, infinity) is told of and stays out of every table.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kdrun.analysis.comparability import comparison, recipe_epochs, variant
from kdrun.config.constraints import Bounds
from kdrun.config.older import upgraded
from kdrun.utils.cells import unguarded
from kdrun.utils.files import regular, text_of
from kdrun.utils.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ADDED", "ADDED_TEXTS", "NEEDED", "RANGES", "TEXTS", "WHOLE", "Damaged", "first_line", "read_long", "read_run",
           "read_table"]

ADDED_TEXTS: Final = ("measured_by", "comparison", "variant", "teacher", "student", "peers", "device", "finished", "folder")
ADDED: Final = (*ADDED_TEXTS, "recipe_epochs", "teacher_headline", "baseline_headline", "teacher_parameters",
                "teacher_bytes", "teacher_bits")
"""Columns that collecting puts behind those of results.csv."""

TEXTS: Final = ("run", "dataset", "task", "method", "scheme", "knowledge", "family", "recipe", "role", "model", "headline",
                "size_unit")
NAMED: Final = ("run", "dataset", "task", "method", "role", "model", "headline")  # never empty
NEEDED: Final = (*TEXTS, "seed", "headline_value", "parameters")

SLACK: Final = 1e-6  # of float32, in what is computed to the end of its range
SHARE, SIGNED = Bounds(least=-SLACK, most=1 + SLACK), Bounds(least=-1 - SLACK, most=1 + SLACK)
SIZE, WHOLE_SIZE, FLAG = Bounds(least=-SLACK, most=1e15), Bounds(least=0, below=2**63), Bounds(least=0, most=1)
ANY: Final = Bounds(least=-1e15, most=1e15)  # beyond it sums over seeds would overflow before anybody believed one
WHOLE: Final = ("parameters", "nonzero", "bytes", "bits", "file_bytes", "flops", "epochs", "machine_busy", "weak_teacher",
                "recipe_epochs", "teacher_parameters", "teacher_bytes", "teacher_bits")
RANGES: Final[Mapping[str, Bounds]] = {
    **dict.fromkeys(("accuracy", "top5", "macro_f1", "ece", "agreement", "alpha", "headline_value", "teacher_headline",
                     "baseline_headline", "recall", "f1", "confidence"), SHARE),
    "correlation": SIGNED,
    **dict.fromkeys(("seed", "samples", "bin", "epoch", *WHOLE), WHOLE_SIZE),
    **dict.fromkeys(("machine_busy", "weak_teacher"), FLAG),
    **dict.fromkeys(("latency_ms", "latency_iqr_ms", "seconds", "nll", "relative_error", "distillation_factor"), SIZE),
    **dict.fromkeys(("kl", "distillation_score", "gap_points", "teacher_gap_points", "accuracy_reduction_pct",
                     "improvement_pct", "size_reduction_pct", "value"), ANY),
}
"""What a number in a column can be; every number that a run writes has its entry."""
INTEGERS: Final = ("seed", "samples", "bin", "epoch", *WHOLE)


class Damaged(ValueError):
    """A folder whose files are not as a finished run leaves them."""


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What run.json says, and the rows of results.csv with what collecting adds.

    Raises:
        Damaged: the run is not finished, or its files are not as a run leaves them.
    """
    if not (folder / "run.json").exists():
        raise Damaged("failed, as traceback.txt there tells; left out" if (folder / "traceback.txt").exists() else
                      "unfinished (no run.json yet); left out")
    try:
        told = json.loads(text_of(folder / "run.json"))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"run.json is damaged ({first_line(error)})") from error
    if not isinstance(told, dict) or told.get("status") != "finished":
        raise Damaged("run.json does not say that it is finished; left out")
    told["settings"] = upgraded(told.get("settings"))
    table = read_table(folder / "results.csv")
    said = told.get("rows")
    if not isinstance(said, list) or not all(isinstance(row, dict) for row in said) or len(said) != len(table):
        raise Damaged(f"run.json and results.csv disagree: {len(said) if isinstance(said, list) else 0} and "
                      f"{counted(len(table), 'row')}")
    for own, other in zip(table, said, strict=True):
        if apart := [column for column in own if column in other and not same(own[column], other[column])]:
            raise Damaged(f"run.json and results.csv disagree on {apart[0]} of the {own['role']}")
    if names := {row["run"] for row in table} - {folder.name}:
        raise Damaged(f"holds the run {names.pop()}: a copy, or renamed; left out")
    try:
        added = described(told, table)
    except Exception as error:  # whatever comes of settings that kdrun did not write
        raise Damaged(f"run.json lacks settings that kdrun writes ({type(error).__name__}: {first_line(error)})") from error
    for column, value in added.items():
        check(column, value, "run.json")
    return told, [{**row, **added, "folder": str(folder)} for row in table]


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.csv: texts, numbers, None for an empty field.

    Raises:
        Damaged: it is missing, cut off, or holds what no run measures.
    """
    try:
        raw = list(csv.DictReader(io.StringIO(text_of(path), newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise Damaged(f"{path.name} is missing or damaged ({first_line(error)})") from error
    if not raw:
        raise Damaged(f"{path.name} is damaged (no rows)")
    rows = [of_today(row) for row in raw]
    if missing := [column for column in NEEDED if column not in rows[0]]:
        raise Damaged(f"{path.name} is damaged (no column {missing[0]})")
    return [{column: read_field(path.name, column, text) for column, text in row.items()} for row in rows]


def of_today(row: dict[str, Any]) -> dict[str, Any]:
    """A row as this version writes it: what older ones measured are classifiers, whose headline is their accuracy."""
    older = {"teacher_accuracy": "teacher_headline", "baseline_accuracy": "baseline_headline"}  # as collecting called them
    row = {older.get(column, column): value for column, value in row.items()}
    if "headline" in row or "accuracy" not in row:
        return row
    return {**row, "task": "classification", "headline": "accuracy", "headline_value": row["accuracy"]}


def read_field(file: str, column: str | None, text: Any) -> Any:
    """One field of a results.csv.

    Raises:
        Damaged: it is not what its column holds.
    """
    if column is None or text is None:  # more or fewer fields than the header has
        raise Damaged(f"{file} is damaged (a line of another length)")
    if column in TEXTS or column in ADDED_TEXTS:
        value: Any = unguarded(text) or None
    elif column in RANGES:
        value = number(file, column, text)
    else:  # a column that this version does not know
        try:
            value = float(text) if text else None
        except ValueError:
            value = unguarded(text)
        value = text if isinstance(value, float) and not math.isfinite(value) else value
    check(column, value, file)
    return value


def number(file: str, column: str, text: str) -> float | int | None:
    """A number, whole where its column is; None for an empty field.

    Raises:
        Damaged: it is none.
    """
    try:
        value = float(text) if text else None
    except ValueError as error:
        raise Damaged(f"{file} is damaged ({column} is no number)") from error
    if value is None or column not in INTEGERS or value not in RANGES[column]:  # which `check` tells of
        return value
    if value != int(value):
        raise Damaged(f"{file} is damaged ({column} is no whole number)")
    return int(value)


def check(column: str, value: Any, file: str) -> None:
    """See whether a value may stand in a column.

    Raises:
        Damaged: it may not.
    """
    if isinstance(value, str):
        if not value.isprintable() or (column == "role" and not value.strip()):
            raise Damaged(f"{file} is damaged ({column} is no text)")
    elif value is None:
        if column in NAMED or column in ("seed", "headline_value"):
            raise Damaged(f"{file} is damaged ({column} is empty)")
    elif column in RANGES and value not in RANGES[column]:  # not-a-number is in no range
        raise Damaged(f"{file} is damaged ({column} is {value:g}, which nothing measures)")


def read_long(path: Path, columns: Sequence[str], run: str) -> "DataFrame":
    """One of a run's long tables.

    Args:
        path: of the file.
        columns: that it has.
        run: whose it is.

    Raises:
        Damaged: it is missing, of another run, or holds what no run measures.
    """
    import pandas

    try:
        table = pandas.read_csv(regular(path), dtype=str, keep_default_na=False)
        if list(table.columns) != list(columns) or set(table["run"]) - {run}:
            raise ValueError("its columns or its run are not those of this folder")
        for column in columns:
            if column not in RANGES:
                table[column] = [unguarded(text) for text in table[column]]
                if not table[column].map(str.isprintable).all():
                    raise ValueError(f"{column} is no text")
                continue
            values = table[column].map(lambda text: float(text) if text else math.nan)
            odd = values.notna() & ~values.map(RANGES[column].__contains__)
            if odd.any() or (column in INTEGERS and (values.isna() | (values % 1 != 0)).any()):
                raise ValueError(f"{column} is {table[column][odd].iloc[0] if odd.any() else 'no whole number'}")
            table[column] = values.astype("int64" if column in INTEGERS else "float64")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise Damaged(f"{path.name} is damaged ({first_line(error)})") from error
    return table


def described(told: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run's settings and its other networks add to each of its rows."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in table:
        first.setdefault(row["role"], row)
    teacher, baseline, student = (first.get(role) for role in ("teacher", "baseline", "student"))
    if told["settings"].get("teacher_classes") is not None:
        teacher = None  # it was measured on its own classes, which is no mark for a student of all
    teachers = [row["model"] for row in table if row["role"].split()[0] == "teacher"]
    return {
        "measured_by": "you", "comparison": comparison(told), "variant": variant(told, table[0]["method"]),
        "teacher": "+".join(teachers) or None, "student": student["model"] if student else None,
        "peers": "+".join(row["model"] for row in table if row["role"].split()[0] in ("peer", "booster")) or None,
        "recipe_epochs": recipe_epochs(told["settings"]),
        "teacher_headline": teacher["headline_value"] if teacher else None,
        "baseline_headline": baseline["headline_value"] if baseline else None,
        **{f"teacher_{unit}": teacher.get(unit) if teacher else None for unit in ("parameters", "bytes", "bits")},
        "device": str(told.get("device", "")), "finished": str(told.get("finished", "")),
    }


def same(one: Any, other: Any) -> bool:
    """Whether two fields say the same; numbers as close as text can tell, and not-a-number is null in a CSV."""
    if isinstance(other, float) and math.isnan(other):
        other = None
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return one == other


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
