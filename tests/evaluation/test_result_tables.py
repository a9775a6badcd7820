"""Rows of a run: how fast networks are, what is said of weak teachers, and the table at its end."""

from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

from kdrun.config.schema import MeasureSettings
from kdrun.data.samples import Samples
from kdrun.evaluation import metrics, result_tables
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Role
from kdrun.tasks.classification import Classification
from kdrun.training.trained import TrainedNetwork
from kdrun.utils import progress


class Counting(nn.Module):
    """Counts its passes and which inputs it has seen."""

    def __init__(self):
        super().__init__()
        self.passes, self.seen = 0, set()

    def forward(self, pictures):
        self.passes += 1
        self.seen.add(float(pictures.sum()))
        return ModelOutput(pictures, pictures, (), (), pictures)


class Rebuilt(nn.Module):
    """A network around a role, as an ensemble is; counts how often it is asked."""

    def __init__(self, inner):
        super().__init__()
        self.role, self.asked = Role(inner, "student", Classification((), (1, 2, 2))), 0

    def forward(self, pictures):
        self.asked += 1
        return self.role(pictures)


def test_latency_is_of_passes_and_not_of_a_remembered_answer(monkeypatch):
    monkeypatch.setattr(result_tables, "LATENCY_SECONDS", 1e-4)
    inner = Counting()
    outer = Rebuilt(inner)
    timed = result_tables.latency(outer, Classification((), (1, 2, 2)))
    assert inner.passes == outer.asked > 0
    assert len(inner.seen) > 1
    assert timed.median_ms > 0


def test_latency_is_measured_on_one_thread(monkeypatch):
    monkeypatch.setattr(result_tables, "LATENCY_SECONDS", 1e-4)
    threads = []

    class Told(nn.Module):
        def forward(self, pictures):
            threads.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        result_tables.latency(Told(), Classification((), (1, 2, 2)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert set(threads) == {1}


@pytest.mark.parametrize(("worked", "steady", "busy"), [(0.99, True, False), (0.6, True, True), (0.99, False, True)])
def test_a_busy_machine_is_said(monkeypatch, worked, steady, busy):
    """Half of the time another process had the CPU; or the replicates are far apart."""
    monkeypatch.setattr("torch.utils.benchmark.utils.common.Measurement.meets_confidence", lambda *_: steady)
    clocks = {"perf_counter": iter([0.0, 1.0]), "thread_time": iter([0.0, worked])}
    monkeypatch.setattr(result_tables, "time", SimpleNamespace(**{name: values.__next__ for name, values in clocks.items()}))
    assert result_tables.latency(Counting(), Classification((), (1, 2, 2))).busy == busy


# ---- a teacher that is no better than the student alone

def answering(role, right, parameters, of=100):
    """A network with so many of 100 answers right."""
    logits = torch.zeros(of, 4)
    logits[:right, 0] = 1
    logits[right:, 1] = 1
    return TrainedNetwork(role, f"a_{role}", nn.Linear(parameters, 1, bias=False),
                          ModelOutput(logits, logits), 1, 1.0)


def labelled(of=100):
    samples = Samples(torch.zeros(of, 1), torch.zeros(of, dtype=torch.long))
    whole = SimpleNamespace(task=Classification(("a", "b"), (1,)), test=samples)
    whole.only = lambda classes: whole
    return whole


MEASURES = MeasureSettings(alpha=0.5, size_unit="parameters")


def test_a_weak_teacher_is_warned_of_with_its_numbers():
    (line,) = result_tables.weak_teachers(labelled(), [answering("teacher", 25, 400), answering("baseline", 42, 100)], MEASURES)
    assert "teacher a_teacher (25.00 %) is no better than the student alone (42.00 %)" in line
    assert "relative error of 0.773" in line       # (1 - 0.42) / (1 - 0.25)
    assert "distillation score of -0.215, 0.340 lower" in line  # 0.5 / 4 + 0.5 (1 - 42 / 25)


@pytest.mark.parametrize(("taught", "warned"), [(43, 0), (42, 1), (41, 1)])
def test_equal_is_no_better(taught, warned):
    made = [answering("teacher", taught, 400), answering("teacher 2", 90, 400), answering("baseline", 42, 100)]
    assert len(result_tables.weak_teachers(labelled(), made, MEASURES)) == warned
    assert result_tables.weak_teachers(labelled(), made[:2], MEASURES) == []


def row_of(role, **figures):
    return {**dict.fromkeys(result_tables.COLUMNS), "role": role, "model": "net", **figures}


def told(rows):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(progress.run_table(rows, "title"))
    return captured.get()


def compared(own, taught, alone):
    made = answering("student", own, 100), answering("teacher", taught, 400), answering("baseline", alone, 100)
    return result_tables.compared({"headline_value": own / 100, "parameters": 100}, *made, labelled(), MEASURES)


def test_gaps_are_points_and_the_surveys_columns_are_relative():
    found = compared(27, 60, 52)
    assert found["gap_points"] == pytest.approx(-25)
    assert found["improvement_pct"] == pytest.approx(100 * -25 / 52)
    assert found["teacher_gap_points"] == pytest.approx(-33)
    assert found["accuracy_reduction_pct"] == pytest.approx(100 * 33 / 60)
    assert found["weak_teacher"] == 0
    assert compared(27, 52, 52)["weak_teacher"] == 1


def test_the_table_prints_points_and_says_where_lower_is_better():
    text = told([row_of("teacher", accuracy=0.6), row_of("baseline", accuracy=0.52),
                 row_of("student", accuracy=0.27, nll=1.0, distillation_score=0.4, **{
                     key: value for key, value in compared(27, 60, 52).items() if key.endswith(("points", "pct"))})])
    lines = {line.split("│")[1].strip(): line.split("│")[-2].strip() for line in text.splitlines() if line.startswith("│")}
    assert lines["gap to baseline, points"] == "-25.00"
    assert lines["gap to teacher, points"] == "-33.00"
    assert lines["size against teacher ↓"] == "25.00 %"
    assert "48.08" not in text  # per cent of per cent
    assert {"negative log-likelihood ↓", "distillation score ↓"} <= set(lines)
    assert "↓ lower is better" in text
    assert "no better" not in text


def test_the_table_marks_a_weak_teacher_and_a_busy_machine():
    text = told([row_of("teacher", accuracy=0.25, latency_ms=1.0, machine_busy=1), row_of("baseline", accuracy=0.42),
                 row_of("student", accuracy=0.42, distillation_score=-0.215, weak_teacher=1)])
    assert "-0.2150!" in text
    assert "the teacher (25.00 %) is no better than the student alone (42.00 %)" in " ".join(text.split())
    assert "1.00*" in text
    assert "busy" in text


def test_rows_of_an_older_version_are_shown():
    old = {key: value for key, value in row_of("student", accuracy=0.5).items() if key not in (
        "gap_points", "teacher_gap_points", "weak_teacher", "machine_busy", "latency_iqr_ms")}
    assert "50.00 %" in told([old])


def test_measures_of_a_table_are_columns():
    assert {line.key for line in progress.SHOWN} <= set(result_tables.COLUMNS)
    assert set(metrics.Size._fields) <= set(result_tables.COLUMNS)
