"""What is printed: texts as they are, counts in words, and phases that begin where an earlier session left them."""

import io

import pytest
from rich.table import Table

from kdrun.utils.console import PlainConsole
from kdrun.utils.progress import Progress, points, run_table
from kdrun.utils.wording import counted

ODD = "o[/x] :warning: [red]"  # what rich would take for markup that closes nothing, an emoji and a colour


def written(width: int = 60, terminal: bool = False) -> PlainConsole:
    """A console that writes to a text."""
    return PlainConsole(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_is_printed_as_it_is(terminal):
    console = written(terminal=terminal)
    table = Table(ODD, "b", title=ODD)
    table.add_row(ODD, "1")
    console.print(table)
    Progress(console).note(ODD)
    assert console.file.getvalue().count(ODD) == 4


def test_a_network_with_an_odd_name_is_in_the_table_of_its_run():
    console = written()
    row = dict.fromkeys(("accuracy", "top5", "macro_f1", "nll", "ece", "parameters", "flops", "latency_ms", "epochs", "seconds",
                         "improvement_pct", "accuracy_reduction_pct", "size_reduction_pct", "distillation_score",
                         "relative_error", "distillation_factor", "kl", "correlation", "agreement"))
    console.print(run_table([row | {"role": "student", "model": ODD, "accuracy": 0.5}], ODD))
    assert console.file.getvalue().count(ODD) == 2


def test_what_is_piped_has_no_spaces_at_the_end_of_a_line():
    console = written()
    table = Table(box=None)
    table.add_column("name", width=30)
    table.add_row("kd")
    console.print(table, "and more", sep="")
    assert [line for line in console.file.getvalue().split("\n") if line != line.rstrip()] == []
    assert "kd" in console.file.getvalue()


def test_a_phase_that_goes_on_shows_what_is_done():
    console = written(100, terminal=True)
    with Progress(console).phase("student", "fit [/x]", 5, 10, done=30):
        pass
    assert "student: fit [/x]" in console.file.getvalue()
    assert "3/5" in console.file.getvalue()
    with Progress(console).phase("student", "fit", 5, 10, done=30) as progress:
        for _ in range(18):  # into the second epoch of this session, of which every eighth step is shown
            progress.step()
        assert progress.progress.tasks[0].completed == 4


@pytest.mark.parametrize(("number", "words", "told"), [
    (1, ("epoch",), "1 epoch"), (0, ("row",), "0 rows"), (2, ("class", "classes"), "2 classes"),
    (1, ("entry", "entries"), "1 entry"), (12000, ("picture",), "12000 pictures"),
])
def test_counts(number, words, told):
    assert counted(number, *words) == told


def test_a_gap_that_rounds_to_nothing_is_not_below_it():
    assert [points(-1e-15), points(-0.004), points(-0.006), points(None)] == ["+0.00", "+0.00", "-0.01", "–"]


def test_a_table_has_the_measures_of_any_task_and_its_headline_as_a_share():
    row = {"run": "r", "seed": 1, "role": "teacher", "model": "m", "headline": "recall_at_1", "headline_value": 0.25,
           "recall_at_1": 0.25, "eer": 0.125, "distillation_score": None, "weak_teacher": None}
    weak = row | {"role": "student", "distillation_score": 0.5, "weak_teacher": 1}
    console = written()
    console.print(run_table([row, row | {"role": "baseline", "recall_at_1": 0.5, "headline_value": 0.5}, weak], "title"))
    shown = " ".join(console.file.getvalue().split())
    assert "recall@1 │ 25.00 % │ 50.00 % │ 25.00 %" in shown
    assert "EER │ 0.1250 │ 0.1250 │ 0.1250" in shown
    assert "the teacher (25.00 %) is no better than the student alone (50.00 %)" in shown


def test_rates_of_errors_are_better_when_lower_and_accuracies_are_shares():
    row = {"role": "student", "model": "seq2seq24", "headline": "symbol_accuracy", "headline_value": 0.75,
           "symbol_accuracy": 0.75, "sequence_accuracy": 0.5, "error_rate": 0.25, "distillation_score": None}
    table = run_table([row], "a run")
    lines = dict(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert lines == {"symbol accuracy": "75.00 %", "sequence accuracy": "50.00 %", "error rate ↓": "0.2500"}
