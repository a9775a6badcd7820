"""What a run is worth, by hand; and that no test accuracy is in it."""

import json

import pandas
import pytest

from kdrun.evaluation.result_tables import HISTORY_COLUMNS
from kdrun.sweeps.search.objectives import akd_reward, budget_tolerance, measured, n2n_reward


def test_n2ns_reward():
    assert n2n_reward(0.95, 1.0, 20, 100) == pytest.approx(0.912)  # C = 0.8: 0.95 * 0.8 * 1.2
    assert n2n_reward(0.9, 0.9, 100, 100) == 0  # as large as the teacher
    assert n2n_reward(0.9, 0.9, 0, 100) == 1


def test_akds_reward():
    assert akd_reward(0.7, 2.0, 1.0, -0.07) == pytest.approx(0.66685, abs=5e-6)
    assert akd_reward(0.7, 0.5, 1.0, -0.07) == pytest.approx(0.73480, abs=5e-6)
    assert akd_reward(0.7, 3.0, 3.0, -0.07) == 0.7


def test_the_tolerance_of_a_budget_wears_off():
    assert budget_tolerance(0) == 1
    assert budget_tolerance(5) == pytest.approx(0.19753, abs=5e-6)
    assert budget_tolerance(15) == budget_tolerance(40) == 0


@pytest.fixture
def folder(tmp_path):
    """A finished run whose test accuracies are all wrong on purpose."""
    history = [("r", "teacher", "distill", 0, "validation", "accuracy", 0.5),
               ("r", "teacher", "distill", 1, "validation", "accuracy", 0.8),
               ("r", "student", "distill", 1, "validation", "accuracy", 0.6),
               ("r", "student", "distill", 1, "train", "accuracy", 0.9),
               ("r", "baseline", "distill", 1, "validation", "accuracy", 0.3)]
    pandas.DataFrame(history, columns=list(HISTORY_COLUMNS)).to_csv(tmp_path / "history.csv", index=False)
    size = {"parameters": 25, "bytes": 100, "bits": 800, "flops": 7, "accuracy": 0.123, "distillation_score": 0.456}
    rows = [{"role": "student", **size}, {"role": "teacher", **size, "parameters": 100}]
    told = {"rows": rows, "settings": {"measures": {"alpha": 0.5, "size_unit": "parameters"}}}
    (tmp_path / "run.json").write_text(json.dumps(told))
    return tmp_path


def test_measures_are_of_the_validation_split(folder):
    found = measured(folder)
    assert found == {"validation_accuracy": 0.6, "teacher_validation_accuracy": 0.8, "parameters": 25, "flops": 7,
                     "latency_ms": None,
                     "teacher_parameters": 100, "distillation_score": pytest.approx(0.5 * 0.25 + 0.5 * (1 - 0.6 / 0.8))}


def test_without_a_validated_teacher_there_is_no_score(folder):
    history = pandas.read_csv(folder / "history.csv")
    history[history["role"] != "teacher"].to_csv(folder / "history.csv", index=False)
    assert measured(folder)["distillation_score"] is None
    assert measured(folder)["validation_accuracy"] == 0.6
