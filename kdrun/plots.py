"""Pictures of a run."""

from pathlib import Path
from typing import Any

from kdrun.files import write_atomically

__all__ = ["learning_curves"]

# Okabe and Ito's colours, which colour-blind readers tell apart; each role has a line style of its own for print
STYLES = {"teacher": ("#0072B2", "--"), "baseline": ("#E69F00", ":"), "student": ("#009E73", "-")}


def learning_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Draw the validation error of every network over its epochs; nothing where nothing was validated.

    Args:
        history: rows of history.csv.
        path: a PNG or SVG file.
    """
    curves: dict[str, list[float]] = {}
    for row in history:
        if (row["split"], row["metric"]) == ("validation", "accuracy"):
            curves.setdefault(row["role"], []).append(100 * (1 - row["value"]))
    if not curves:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for role, errors in curves.items():
        colour, line = STYLES.get(role, ("#CC79A7", "-."))
        axes.plot(range(1, len(errors) + 1), errors, line, color=colour, linewidth=1.8, label=f"{role}: {errors[-1]:.2f} %")
    axes.set(xlabel="epoch", ylabel="validation error, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(title="last epoch", frameon=False)
    kind = path.suffix.removeprefix(".")
    dateless = {"Date": None} if kind == "svg" else None  # the same curves, the same bytes
    write_atomically(path, lambda part: figure.savefig(part, format=kind, dpi=150, metadata=dateless))
