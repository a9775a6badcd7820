"""AB: the hinge at the teacher's boundaries, and who learns when."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.ab import AB
from kdrun.methods.losses.feature import ab as boundary
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

STUDENT = torch.tensor([[0.5, 0.5, 1.5, -1.5]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)


def of(**changes) -> AB:
    return AB(**({"margin": 1.0, "weight": 0.003, "reference": None, "scaling": "none",
                  "boundary_epochs": 1, "temperature": 3.0, "ce_weight": 0.0, "kd_weight": 1.0} | changes))


def test_known_boundary():
    assert boundary(TEACHER, STUDENT, 1.0).item() == pytest.approx(0.25 + 2.25, abs=1e-9)
    assert boundary(7 * TEACHER, STUDENT, 1.0).item() == pytest.approx(2.5, abs=1e-9)
    assert boundary(TEACHER, TEACHER / 2, 1.0).item() == pytest.approx(1.0)  # on the right side, but within the margin
    assert boundary(torch.zeros(1, 1), torch.tensor([[0.5]]), 1.0).item() == pytest.approx(2.25)  # zero is off


def test_each_stage_counts_half_of_the_next():
    ab = of(margin=2.0)
    stages = [torch.zeros(1, 1, 1, 1, dtype=torch.float64)] * 3
    assert ab.distance(stages, stages).item() == pytest.approx(4 * (0.25 + 0.5 + 1))


def test_the_classifier_waits_for_the_second_phase():
    run = toy_run("ab", "offline", "recipe.epochs=1")
    seen = []
    phases = run.method.phases

    def watched(run):
        first = state(run.networks.student.network)
        for phase in phases(run):
            connectors = state(run.method.connectors)
            yield phase
            now = state(run.networks.student.network)
            seen.append((torch.equal(first["head.weight"], now["head.weight"]),
                         torch.equal(first["stages.0.0.weight"], now["stages.0.0.weight"]),
                         [torch.equal(connectors[name], value) for name, value in state(run.method.connectors).items()
                          if name.endswith("weight")]))

    run.method.phases = watched
    distill(run)
    assert seen == [(True, False, [False] * 6), (False, False, [])]


def test_a_second_phase_without_a_loss_is_refused():
    with pytest.raises(ValueError, match="nothing would train the classifier"):
        of(kd_weight=0.0)


def test_unequal_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the student has 2 and the teacher 3"):
        toy_experiment("ab", tmp_path, "student.widths=[6,8]")
