"""Stage by stage: one part learns at a time."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.batch import Batch
from kdrun.methods.feature.gao_stage import StageByStage, shares
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run


def test_shares():
    assert shares(240, 4) == [60, 60, 60, 60]
    assert sum(shares(41, 4)) == 41
    assert shares(2, 4) == [1, 1, 1, 1]


def test_equal_maps_match_and_shifted_maps_do_not():
    run = toy_run("gao_stage", "offline")
    method = run.method
    method.setup(run.networks, run.data)
    batch: Batch = next(iter(run.stream.epoch(0, 1)))
    itself = Networks(run.networks.student, [run.networks.student])
    method.adapters[1] = torch.nn.Identity()
    assert method.match(itself, batch, 2)["stage"].item() == 0
    method.adapters[1] = torch.nn.Threshold(-1.0, 0.0)  # leaves an activated map as it is
    method.adapters[1].register_forward_hook(lambda module, inputs, output: output + 3)
    assert method.match(itself, batch, 2)["stage"].item() == pytest.approx(9, abs=1e-4)


@pytest.mark.parametrize("scheme", ["offline", "online"])
def test_one_part_learns_at_a_time(scheme):
    run = toy_run("gao_stage", scheme, "recipe.epochs=4")
    student, phases, moved = run.networks.student, run.method.phases, []
    batch: Batch = next(iter(run.stream.epoch(0, 1)))

    def answer():
        student.eval()
        with torch.no_grad():
            return student(batch.x, fresh=True)

    def watched(run):
        for phase in phases(run):
            before, said = state(student.network), answer()
            yield phase
            after, says = state(student.network), answer()
            parts = {name.rsplit(".", 1)[0] if name.startswith("head") else ".".join(name.split(".")[:2])
                     for name in before if not torch.equal(before[name], after[name])}
            moved.append((phase.name, parts, torch.equal(said.embedding, says.embedding),
                          torch.equal(said.logits, says.logits)))

    run.method.phases = watched
    distill(run)
    assert moved == [("stage 1", {"stages.0"}, False, False), ("stage 2", {"stages.1"}, False, False),
                     ("stage 3", {"stages.2"}, False, False), ("classifier", {"head"}, True, False)]
    assert isinstance(run.method, StageByStage)
    assert all(weight.requires_grad for weight in student.parameters())


def test_unequal_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="the student has 2 and the teacher 3"):
        toy_experiment("gao_stage", tmp_path, "student.widths=[6,8]")


def test_adam_is_the_students_alone():
    run = toy_run("gao_stage", "online")
    weights = list(run.networks.student.parameters())
    assert isinstance(run.method.optimizer("student", weights, run.recipe), torch.optim.Adam)
    assert isinstance(run.method.optimizer("teacher", weights, run.recipe), torch.optim.SGD)
