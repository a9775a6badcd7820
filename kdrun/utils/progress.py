"""What a person sees while a run goes on, and when it is done."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from rich import progress as bars
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from kdrun.utils.wording import measure_name

__all__ = ["LOWER", "Progress", "percent", "run_table"]

log = logging.getLogger("kdrun")


class PhaseProgress(Protocol):
    """What the loop tells of a phase."""

    def step(self) -> None:
        """A step is done."""

    def epoch(self, done: int, terms: Mapping[str, float], accuracy: float | None) -> None:
        """An epoch is done: so many by now, the mean loss terms, the validation accuracy."""


class Progress:
    """Progress and notes: bars where a person watches, plain lines elsewhere, and everything in the log.

    Args:
        console: where to write; None writes to the log alone.
        speaker: who speaks, where several do at once: it opens each line, and there are no bars.
    """

    def __init__(self, console: Console | None, speaker: str = "") -> None:
        self.console, self.speaker = console, speaker

    def note(self, text: str) -> None:
        """A line."""
        log.info(text)
        if self.console is not None:
            self.console.print(self.speaker + text, soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that nobody should overlook."""
        log.warning(text)
        if self.console is not None:
            self.console.print(f"{self.speaker}warning: {text}", style="bold yellow", soft_wrap=True)

    @contextlib.contextmanager
    def phase(self, title: str, name: str, epochs: int, steps: int, done: int = 0) -> Iterator[PhaseProgress]:
        """Show a phase of so many epochs of so many steps, `done` of the steps by earlier sessions."""
        if self.console is None:
            yield Silent()
        elif self.console.is_terminal and not self.speaker:
            with bars.Progress(TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn(),
                          TextColumn("{task.fields[told]}", markup=False), TimeRemainingColumn(elapsed_when_finished=True),
                          console=self.console) as progress:
                yield Bar(progress, f"{title}: {name}", epochs, steps, done)
        else:
            yield Lines(self, f"{title}: {name}", epochs)


class Silent:
    """Nobody watches."""

    def step(self) -> None:
        """Nothing."""

    def epoch(self, done: int, terms: Mapping[str, float], accuracy: float | None) -> None:
        """Nothing."""


class Bar:
    """A bar that moves with every step and tells of every epoch."""

    def __init__(self, progress: bars.Progress, title: str, epochs: int, steps: int, done: int = 0) -> None:
        self.progress, self.steps, self.done = progress, max(steps, 1), done
        self.title, self.epochs = title, epochs
        self.task = progress.add_task(title, total=epochs, completed=done // self.steps, told="")

    def step(self) -> None:
        """Move by a step's share of an epoch."""
        self.done += 1
        if self.done % 8 == 0 and self.done % self.steps:
            self.progress.update(self.task, completed=self.done // self.steps)

    def epoch(self, done: int, terms: Mapping[str, float], accuracy: float | None) -> None:
        """Tell the terms and the accuracy."""
        self.progress.update(self.task, completed=done, told=told(terms, accuracy))
        log.info("%s  epoch %d/%d  %s", self.title, done, self.epochs, told(terms, accuracy))


class Lines:
    """A line every so many epochs: about eight a phase."""

    def __init__(self, screen: Progress, title: str, epochs: int) -> None:
        self.screen, self.title, self.epochs, self.start = screen, title, epochs, time.monotonic()
        self.every = max(1, round(epochs / 8))
        self.before: int | None = None  # epochs of earlier sessions, which took none of this one's time

    def step(self) -> None:
        """Nothing."""

    def epoch(self, done: int, terms: Mapping[str, float], accuracy: float | None) -> None:
        """A line, if it is time for one."""
        self.before = done - 1 if self.before is None else self.before
        if done % self.every == 0 or done == self.epochs:
            passed = time.monotonic() - self.start
            left = "" if done == self.epochs else f", {passed / (done - self.before) * (self.epochs - done):.0f} s left"
            self.screen.note(f"{self.title}  epoch {done}/{self.epochs}  {told(terms, accuracy)}  "
                             f"({passed:.0f} s{left})")


def told(terms: Mapping[str, float], accuracy: float | None) -> str:
    """Loss terms and accuracy in a line."""
    parts = [f"{name} {value:.3g}" for name, value in terms.items()]
    return "  ".join(parts + ([f"val {percent(accuracy)}"] if accuracy is not None else []))


def percent(share: float | None, digits: int = 2) -> str:
    """A share from 0 to 1 as per cent."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def count(value: float | None) -> str:
    """A large number with its thousands apart."""
    return "–" if value is None else f"{value:,.0f}"


def number(digits: int) -> Any:
    """A formatter of so many decimals."""
    return lambda value: "–" if value is None else f"{value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of accuracies, in percentage points, with its sign."""
    return "–" if value is None else f"{value:+z.2f}"


class Shown(NamedTuple):
    """A line of the table of a run.

    Attributes:
        key: its column of results.csv.
        name: how it is called.
        form: how its values are written.
        lower: whether a lower value is the better one.
        compared: whether it compares a student with its teacher or baseline, so that those have none.
    """

    key: str
    name: str
    form: Callable[[Any], str]
    lower: bool = False
    compared: bool = False


LOWER: Final = "↓"
SHOWN: Final = (
    Shown("accuracy", "accuracy", percent), Shown("top5", "top-5 accuracy", percent), Shown("macro_f1", "macro F1", percent),
    Shown("nll", "negative log-likelihood", number(4), lower=True),
    Shown("ece", "calibration error", number(4), lower=True),
    Shown("parameters", "parameters", count, lower=True), Shown("flops", "FLOPs", count, lower=True),
    Shown("latency_ms", "latency, ms", number(2), lower=True),
    Shown("epochs", "epochs", count), Shown("seconds", "seconds", number(1), lower=True),
    Shown("gap_points", "gap to baseline, points", points, compared=True),
    Shown("teacher_gap_points", "gap to teacher, points", points, compared=True),
    Shown("size_reduction_pct", "size against teacher", lambda value: percent(1 - value / 100), lower=True, compared=True),
    Shown("distillation_score", "distillation score", number(4), lower=True, compared=True),
    Shown("relative_error", "relative error", number(4), lower=True, compared=True),
    Shown("distillation_factor", "distillation factor", number(2), compared=True),
    Shown("kl", "KL from teacher", number(4), lower=True, compared=True),
    Shown("correlation", "correlation with teacher", number(4), compared=True),
    Shown("agreement", "agreement with teacher", percent, compared=True),
)


def measures_shown(row: dict[str, Any]) -> list[Shown]:
    """A line for each measure of a task that `SHOWN` does not know, the headline's first; rows have them after its value."""
    columns = list(row)
    if "headline_value" not in columns:  # of an older version
        return []
    known = {line.key for line in SHOWN}
    own = columns[columns.index("headline_value") + 1:columns.index("distillation_score")]
    return [Shown(key, measure_name(key), percent if key == row["headline"] or key.endswith("accuracy") else number(4),
                  lower=key.endswith(("rate", "perplexity"))) for key in own if key not in known]


def headline_value(row: dict[str, Any]) -> float | None:
    """What a row says of how good its network is; rows of an older version are of accuracy."""
    value = row.get("headline_value")
    return row.get("accuracy") if value is None else value


def run_table(rows: list[dict[str, Any]], title: str) -> Table:
    """Teacher, baseline and student side by side; a measure that nobody has is left out."""
    busy = any(row.get("machine_busy") for row in rows)
    weak = [row for row in rows if row.get("weak_teacher")]
    notes = [f"{LOWER} lower is better"]
    if busy:
        notes.append("* the machine was busy with other work: a latency on a quiet one is lower")
    if weak:
        teacher, baseline = (next(row for row in rows if row["role"] == role) for role in ("teacher", "baseline"))
        notes.append(f"! the teacher ({percent(headline_value(teacher))}) is no better than the student alone "
                     f"({percent(headline_value(baseline))}): what compares with it looks better than it is")
    table = Table(title=title, title_justify="left", title_style="bold", caption="\n".join(notes), caption_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column(f"{row['role']}\n{row['model']}", justify="right")

    def cell(line: Shown, row: dict[str, Any]) -> str:
        value = row.get(line.key)  # rows of an older version may lack it
        if value is None:
            return "" if line.compared else "–"
        mark = "*" if line.key == "latency_ms" and row.get("machine_busy") else ""
        if line.key in ("distillation_score", "relative_error", "teacher_gap_points") and row in weak:
            mark = "!"
        return line.form(value) + mark

    for line in (*measures_shown(rows[0]), *SHOWN):
        if any(row.get(line.key) is not None for row in rows):
            table.add_row(f"{line.name} {LOWER}" if line.lower else line.name, *(cell(line, row) for row in rows))
    return table
