"""Whether a run is finished: its run.json says so, and its files are there as they were written."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdrun.utils.files import digest_of, text_of
from kdrun.utils.names import file_name, harmless

__all__ = ["CURVES", "finished", "weights_file"]

CURVES = "curves.png"
TABLES = ("results.csv", "history.csv", "per_class.csv")  # that every version of kdrun wrote


def weights_file(role: str) -> str:
    """The name of the file that holds the weights of a network in a role.

    Raises:
        ValueError: the role cannot be in one.
    """
    return file_name(f"{role.replace(' ', '_')}.safetensors")


def finished(folder: Path, note: Callable[[str], None]) -> list[dict[str, Any]] | None:
    """The rows of a run that was done before; None where it was not, or has to be done again.

    What is lost or damaged and follows from what is left is made again: results.csv, the curves. For anything else
    the network that it was measured on is needed.

    Args:
        folder: of the run.
        note: told what was made again, and what cannot be.
    """
    try:
        told = json.loads(text_of(folder / "run.json"))
    except (OSError, ValueError, RecursionError):
        return None
    rows = told.get("rows") if isinstance(told, dict) and told.get("status") == "finished" else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        return None
    try:
        lost = damaged(folder, told)
    except (ValueError, TypeError, AttributeError):  # it holds what no run writes
        return None
    if not lost:
        return rows
    mend(folder, told, lost)
    still = damaged(folder, told)
    if mended := [name for name in lost if name not in still]:
        note(f"{folder}: {listed(mended)} lost or damaged, and made again")
    if still:
        note(f"{folder}: {listed(still)} lost or damaged; the run is done again")
    return None if still else rows


def listed(names: list[str]) -> str:
    """Some files, and the verb: "a was", "a, b and c were"."""
    return f"{', '.join(names[:-1])} and {names[-1]} were" if len(names) > 1 else f"{names[0]} was"


def damaged(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """Which files of a finished run are not as they were written, or not there; those of older versions had no digests."""
    files = told.get("files")
    if not isinstance(files, dict):
        own = [str(row.get("role")) for row in told["rows"]]
        kept = [weights_file(role) for role in own if role not in told.get("entries", {}) and not role.startswith("teacher")]
        files = dict.fromkeys((*TABLES, *kept))
    lost = [name for name, digest in files.items() if not harmless(name) or not there(folder / name) or
            (digest is not None and digest_of(folder / name) != digest)]
    return [*lost, *([CURVES] if told.get("curves") is True and not there(folder / CURVES) else [])]


def there(path: Path) -> bool:
    """Whether there is a file with something in it."""
    return path.is_file() and path.stat().st_size > 0


def mend(folder: Path, told: Mapping[str, Any], lost: list[str]) -> None:
    """Make again what follows from the other files of a run."""
    from kdrun.evaluation import result_tables  # with torch

    if "results.csv" in lost:
        result_tables.write_csv(folder / "results.csv", told["rows"])
    if CURVES in lost and "history.csv" not in lost:
        from kdrun.analysis.plots.run_curves import learning_curves  # with matplotlib

        with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
            history = [{**row, "value": float(row["value"] or "nan")} for row in csv.DictReader(file)]
        learning_curves(history, folder / CURVES, told["choices"]["method"], told["rows"][0].get("headline", "accuracy"))
