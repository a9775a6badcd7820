"""The learning curves of one run, which it draws itself when it is done."""

from pathlib import Path
from typing import Any

from kdrun.analysis.plots.plot import bytes_of, styled
from kdrun.analysis.plots.style import BESIDE, GRID, MIDDLE, error_axis, error_name, look_of, sheet
from kdrun.utils.files import write_atomically

__all__ = ["learning_curves"]


def learning_curves(history: list[dict[str, Any]], path: Path, method: str, headline: str) -> None:
    """Draw the validation error of every network of a run over its epochs; nothing where nothing was validated.

    Args:
        history: rows of history.csv.
        path: a PNG or SVG file.
        method: its key, whose colour the student has.
        headline: what the error is 1 less than: the accuracy of a classifier.
    """
    errors: dict[str, list[float]] = {}
    for row in history:
        if (row["split"], row["metric"]) == ("validation", headline):
            errors.setdefault(row["role"], []).append(100 * (1 - row["value"]))
    if not errors:
        return
    with styled():
        figure = sheet(4)
        axes = figure.add_subplot()
        for role, values in errors.items():
            colour = "black" if role in BESIDE else look_of(method)["color"] if role == "student" else MIDDLE
            line = BESIDE.get(role, "-" if role == "student" else "-.")
            axes.plot(range(1, len(values) + 1), values, line, color=colour, linewidth=1.8, label=f"{role}: {values[-1]:.2f} %")
        axes.set(xlabel="epoch", ylabel=error_name(headline))
        error_axis(axes, min(map(min, errors.values())), max(map(max, errors.values())))
        axes.grid(**GRID)
        axes.legend(title="last epoch", frameon=False)
        kind = path.suffix.removeprefix(".")
        write_atomically(path, lambda part: part.write_bytes(bytes_of(figure, kind)))
