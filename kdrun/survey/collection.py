"""Every run that lies in a folder of outputs, as tables: read from text alone, and damaged runs told of.

A run's folder may come from anywhere. Nothing that it names is imported, built or run: numbers are read from its
results.csv, run.json, history.csv and per_class.csv, and what is not as kdrun writes it is left out with a line.
"""

import csv
import json
import math
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.survey.filtering import filtered
from kdrun.survey.sameness import comparison, recipe_epochs, variant
from kdrun.wording import counted

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ADDED", "Collection", "collect"]

ADDED_TEXTS = ("measured_by", "comparison", "variant", "teacher", "student", "peers", "device", "finished", "folder")
ADDED = (*ADDED_TEXTS, "recipe_epochs", "teacher_accuracy", "baseline_accuracy", "teacher_parameters", "teacher_bytes",
         "teacher_bits")
"""Columns that collecting puts behind those of results.csv."""

TEXTS = ("run", "dataset", "method", "scheme", "knowledge", "family", "recipe", "role", "model", "size_unit")
NEEDED = (*TEXTS, "seed", "accuracy", "parameters")
WHOLE = ("parameters", "bytes", "bits", "flops", "epochs", "machine_busy", "weak_teacher", "recipe_epochs",
         "teacher_parameters", "teacher_bytes", "teacher_bits")
HISTORY = ("run", "role", "phase", "epoch", "split", "metric", "value")
PER_CLASS = ("run", "role", "model", "class", "samples", "recall", "f1")
CALIBRATION = ("run", "role", "model", "bin", "samples", "confidence", "accuracy")
PACKAGED = Path(__file__).parent / "measured"


class Damaged(ValueError):
    """A folder whose files are not as a finished run leaves them."""


@dataclass
class Collection:
    """What was found.

    Attributes:
        results: a row for each network of each finished run: the columns of results.csv, then `ADDED`.
        runs: what run.json says, by the run's name; none for what ships with kdrun.
        folders: where each run lies, by its name.
        skipped: a line for each folder that was left out.
    """

    results: "DataFrame"
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @cached_property
    def history(self) -> "DataFrame":
        """Every loss term and validation measure of every epoch: run, role, phase, epoch, split, metric, value."""
        return self.long("history.csv", HISTORY)

    @cached_property
    def per_class(self) -> "DataFrame":
        """Recall and F1 of every class: run, role, model, class, samples, recall, f1."""
        return self.long("per_class.csv", PER_CLASS)

    @cached_property
    def calibration(self) -> "DataFrame":
        """Confidence and accuracy in bins of confidence: run, role, model, bin, samples, confidence, accuracy."""
        older = {run for run, folder in self.folders.items() if not (folder / "calibration.csv").exists()}
        if older:
            self.skipped.append(f"the calibration of {counted(len(older), 'run')}: no calibration.csv, as "
                                "older versions of kdrun wrote none")
        return self.long("calibration.csv", CALIBRATION, older)

    @cached_property
    def students(self) -> "DataFrame":
        """The student's row of every run, with its teacher and baseline beside it.

        A run done again under other settings that do not change what is compared (another version, the score's alpha)
        counts once, so that no seed is counted twice: the latest stands.
        """
        own = self.results[self.results["role"] == "student"]
        keys = ["measured_by", "comparison", "variant", "seed"]
        return own.sort_values("finished", kind="stable").drop_duplicates(keys, keep="last").sort_index()

    def tell_skipped(self) -> None:
        """Name each folder that was left out, on standard error."""
        for line in self.skipped:
            print(f"kdrun: skipped {line}", file=sys.stderr)

    def long(self, name: str, columns: Sequence[str], without: Container[str] = ()) -> "DataFrame":
        """One of the long tables of all runs in `results`; a damaged one is left out with a line in `skipped`.

        Args:
            name: of the file.
            columns: that it has.
            without: runs that are known to have none.
        """
        import pandas

        found = []
        for run in dict.fromkeys(self.results["run"]):
            if run not in self.folders or run in without:
                continue
            try:
                table = pandas.read_csv(self.folders[run] / name, dtype={"class": str, "phase": str})
                if list(table.columns) != list(columns) or set(table["run"]) - {run}:
                    raise ValueError("its columns or its run are not those of this folder")
                found.append(table)
            except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
                self.skipped.append(f"{self.folders[run]}: {name} is damaged ({first_line(error)})")
        return pandas.concat(found, ignore_index=True) if found else pandas.DataFrame(columns=list(columns))


def collect(outputs: Path, where: str | None = None, packaged: bool = False) -> Collection:
    """Read every finished run under `outputs`/runs.

    Args:
        outputs: a folder of outputs.
        where: which rows to keep, as a condition on the columns: 'dataset == "cifar100" and seed in [1, 2]'.
        packaged: whether to add what ships with kdrun, measured by the project.

    Raises:
        Refused: the condition cannot be read, or there is no such column.
    """
    found = Collection(empty())
    rows: list[dict[str, Any]] = []
    for folder in sorted(path for path in (Path(outputs) / "runs").glob("*") if path.is_dir()):
        try:
            told, table = read_run(folder)
        except Damaged as damage:
            found.skipped.append(f"{folder}: {damage}")
            continue
        found.runs[folder.name], found.folders[folder.name] = told, folder
        rows += table
    for path in sorted(PACKAGED.glob("*/results.csv")) if packaged else ():
        rows += read_packaged(path)
    if rows:
        found.results = frame(rows)
    if where is not None:
        found.results = filtered(found.results, where)
        kept = set(found.results["run"])
        found.runs = {run: told for run, told in found.runs.items() if run in kept}
        found.folders = {run: folder for run, folder in found.folders.items() if run in kept}
    return found


def empty() -> "DataFrame":
    """No rows, but all columns."""
    import pandas

    numbers = ("alpha", "distillation_score", "relative_error", "distillation_factor", "top5", "macro_f1", "nll", "ece")
    return pandas.DataFrame(columns=[*NEEDED, *numbers, *ADDED])


def frame(rows: Iterable[Mapping[str, Any]]) -> "DataFrame":
    """The rows as one table, columns of results.csv first, whole numbers as such even where some are null."""
    import pandas

    table = pandas.DataFrame(list(rows))
    for column in WHOLE:
        if column in table:
            table[column] = table[column].astype("Int64")
    return table[[*(column for column in table if column not in ADDED), *ADDED]]


def read_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What run.json says, and the rows of results.csv with what collecting adds.

    Raises:
        Damaged: the run is not finished, or its files are not as a run leaves them.
    """
    if not (folder / "run.json").exists():
        raise Damaged("failed, as traceback.txt there tells; left out" if (folder / "traceback.txt").exists() else
                      "unfinished (no run.json yet); left out")
    try:
        told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"run.json is damaged ({first_line(error)})") from error
    if not isinstance(told, dict) or told.get("status") != "finished":
        raise Damaged("run.json does not say that it is finished; left out")
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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"run.json lacks settings that kdrun writes ({type(error).__name__}: {first_line(error)})") from error
    return told, [{**row, **added, "folder": str(folder)} for row in table]


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a results.csv: texts, numbers, None for an empty field.

    Raises:
        Damaged: it is missing, cut off, or holds what is no number where one has to be.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            raw = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise Damaged(f"{path.name} is missing or damaged ({first_line(error)})") from error
    if not raw:
        raise Damaged(f"{path.name} is damaged (no rows)")
    if missing := [column for column in NEEDED if column not in raw[0]]:
        raise Damaged(f"{path.name} is damaged (no column {missing[0]})")
    return [{column: read_field(path, column, text) for column, text in row.items()} for row in raw]


def read_field(path: Path, column: str | None, text: Any) -> Any:
    """One field of a results.csv.

    Raises:
        Damaged: it is not what its column holds.
    """
    if column is None or text is None:  # more or fewer fields than the header has
        raise Damaged(f"{path.name} is damaged (a line of another length)")
    if column in TEXTS or column in ADDED_TEXTS:
        if not text.isprintable():
            raise Damaged(f"{path.name} is damaged ({column} is no text)")
        return text or None
    try:
        value = float(text) if text else None
    except ValueError as error:
        if column in NEEDED or column in WHOLE:
            raise Damaged(f"{path.name} is damaged ({column} is no number)") from error
        return text  # a column that this version does not know
    if column in ("seed", "accuracy") and (value is None or not math.isfinite(value)):
        raise Damaged(f"{path.name} is damaged ({column} is no number)")
    if column == "seed" or column in WHOLE:
        if value is not None and value != int(value):
            raise Damaged(f"{path.name} is damaged ({column} is no whole number)")
        return None if value is None else int(value)
    return value


def described(told: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a run's settings and its other networks add to each of its rows."""
    first: dict[str, Mapping[str, Any]] = {}
    for row in table:
        first.setdefault(row["role"], row)
    teacher, baseline, student = (first.get(role) for role in ("teacher", "baseline", "student"))
    teachers = [row["model"] for row in table if row["role"].split()[0] == "teacher"]
    return {
        "measured_by": "you", "comparison": comparison(told), "variant": variant(told, table[0]["method"]),
        "teacher": "+".join(teachers) or None, "student": student["model"] if student else None,
        "peers": "+".join(row["model"] for row in table if row["role"].split()[0] in ("peer", "booster")) or None,
        "recipe_epochs": recipe_epochs(told["settings"]),
        "teacher_accuracy": teacher["accuracy"] if teacher else None,
        "baseline_accuracy": baseline["accuracy"] if baseline else None,
        **{f"teacher_{unit}": teacher.get(unit) if teacher else None for unit in ("parameters", "bytes", "bits")},
        "device": str(told.get("device", "")), "finished": str(told.get("finished", "")),
    }


def read_packaged(path: Path) -> list[dict[str, Any]]:
    """Rows that the project measured: what `kdrun results --csv` wrote, and machine.json that says where."""
    machine = json.loads((path.parent / "machine.json").read_text())["machine"]
    return [{**row, "measured_by": f"kdrun on {machine}"} for row in read_table(path)]


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
