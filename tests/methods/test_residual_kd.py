"""Residual distillation: what the assistant learns, and what both together answer."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.residual_kd import SummedMaps
from kdrun.training.loop import distill
from tests.toy import rows_of, state, toy_experiment, toy_run


def begun(*more):
    """A run whose first phase is about to be trained."""
    run = toy_run("residual_kd", "offline", *more)
    phases = run.method.phases(run)
    return run, next(phases), phases


def test_the_assistant_learns_what_the_student_leaves():
    run, _, _ = begun("student.widths=[6,8,12]")
    batch = next(iter(run.stream.epoch(0, 1)))
    networks, method = run.networks, run.method
    for role in networks:
        role.eval()
    networks.student.network.load_state_dict(networks.teacher.network.state_dict())
    with torch.no_grad():
        for adaptor in method.adaptors:
            torch.nn.init.dirac_(adaptor.weight) if adaptor is method.adaptors[0] else adaptor.weight.zero_()
            adaptor.bias.zero_()
        assert float(method.mimic(networks, batch)["mimic"]) == 0  # as the teacher is,
        assert float(method.residual(networks, batch)["residual"]) == 0  # nothing is left
        both = method.made["student"](batch.x)
        assert torch.allclose(both.logits, networks.teacher(batch).logits, atol=1e-5)  # by the teacher's own classifier


def test_each_phase_moves_its_own_part_alone():
    run, mimic, phases = begun()
    student, assistant = run.networks.student, run.networks.peers[0]
    assert set(mimic.train) == {student, run.method.adaptors[0]}
    assert set(next(phases).train) == {assistant, run.method.adaptors[1]}
    batch = next(iter(run.stream.epoch(0, 1)))
    run.method.residual(run.networks, batch)["residual"].backward()
    assert all(weight.grad is None for weight in (*student.parameters(), *run.method.adaptors[0].parameters()))
    before = state(assistant)
    distill(run)
    assert any(not torch.equal(before[name], value) for name, value in run.networks.peers[0].state_dict().items()) or \
        run.networks.peers[0] is not assistant


def test_rows_of_the_sum_and_of_the_student_in_it(tmp_path):
    rows = rows_of(toy_experiment("residual_kd", tmp_path))
    both, alone = rows["student"], rows["student without assistant"]
    assert both["model"] == "cnn+cnn_narrow"
    assert both["parameters"] > alone["parameters"] > rows["baseline"]["parameters"]


def test_the_sum_of_one_is_its_map():
    run, _, _ = begun()
    alone = run.method.made["student without assistant"]
    assert isinstance(alone, SummedMaps)
    assert alone.head is run.method.made["student"].head


def test_maps_of_other_sizes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the last map of the assistant vgg8 is .*; choose another method.assistant"):
        toy_experiment("residual_kd", tmp_path, "method.assistant=vgg8")
