"""Every run that lies in a folder of outputs, as tables; what is not as kdrun writes it is left out with a line."""

import json
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrun.analysis.comparability import same_label
from kdrun.analysis.filtering import filtered
from kdrun.analysis.reading import ADDED, NEEDED, WHOLE, Damaged, read_long, read_run, read_table
from kdrun.utils.wording import counted, printable

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ADDED", "Collection", "collect"]

HISTORY = ("run", "role", "phase", "epoch", "split", "metric", "value")
PER_CLASS = ("run", "role", "model", "class", "samples", "recall", "f1")
CALIBRATION = ("run", "role", "model", "bin", "samples", "confidence", "accuracy")
PACKAGED = Path(__file__).parent / "measured"


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
            print(f"kdrun: skipped {printable(line)}", file=sys.stderr)

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
                found.append(read_long(self.folders[run] / name, columns, run))
            except Damaged as damage:
                self.skipped.append(f"{self.folders[run]}: {damage}")
        return pandas.concat(found, ignore_index=True) if found else pandas.DataFrame(columns=list(columns))


def collect(outputs: Path, where: str | None = None, packaged: bool = False) -> Collection:
    """Read every finished run under `outputs`/runs.

    Args:
        outputs: a folder of outputs.
        where: which rows to keep, as a condition on the columns: 'dataset == "cifar100" and seed in [1, 2]'.
        packaged: whether to add what ships with kdrun, measured by the project.

    Raises:
        ConfigError: the condition cannot be read, or there is no such column.
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
    for row, label in zip(rows, same_label(row["comparison"] for row in rows), strict=True):
        row["comparison"] = label
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


def read_packaged(path: Path) -> list[dict[str, Any]]:
    """Rows that the project measured: what `kdrun results --csv` wrote, and machine.json that says where."""
    machine = json.loads((path.parent / "machine.json").read_text())["machine"]
    return [{**row, "measured_by": f"kdrun on {machine}"} for row in read_table(path)]
