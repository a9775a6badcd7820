"""Two teachers: who learns what from whom."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.losses import kd
from kdrun.methods.losses.feature import map_mse
from kdrun.methods.multi_teacher.two_teacher import TwoTeachers
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import state, toy_run


def two(**changes):
    return TwoTeachers(**({"loose_teacher": None, "smoothing": 0.1, "hint_weight": 1.0, "temperature": 4.0, "kd_weight": 1.0,
                           "ce_weight": 1.0} | changes))


def test_features_are_the_strict_teachers_and_decisions_the_loose_ones(factory, data):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    strict, loose = (frozen(teacher) for teacher in nets.untrained_teachers())
    networks, batch = Networks(nets.student().eval(), [strict]), Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
    method = two()
    method.setup(networks, data)
    networks.teachers.append(loose)
    terms, student = method.loss(networks, batch), networks.student(batch)
    assert torch.equal(terms["kd"], kd(loose(batch).logits, student.logits, 4.0))
    hints = [map_mse(wanted, adapter(own))
             for wanted, adapter, own in zip(strict(batch).stages, method.adapters, student.stages, strict=True)]
    assert float(terms["hint"].detach()) == pytest.approx(float(sum(hints).detach()), rel=1e-5)
    bare = two(hint_weight=0.0, kd_weight=0.0)
    bare.setup(networks.__class__(networks.student, [strict]), data)
    assert {name: float(term.detach()) for name, term in bare.loss(networks, batch).items() if name != "ce"} == {
        "hint": 0, "kd": 0}


def test_the_loose_teacher_is_trained_first_on_smoothed_labels_and_then_stays():
    run, kept = toy_run("two_teacher", "offline", "recipe.epochs=1"), []
    phases, student = run.method.phases, run.networks.student

    def watched(run):
        for phase in phases(run):
            before = state(student)
            yield phase
            peer = run.networks.peers or run.networks.teachers[1:]
            kept.append((any(not torch.equal(value, student.state_dict()[name]) for name, value in before.items()),
                         state(peer[0])))

    run.method.phases = watched
    distill(run)
    assert [moved for moved, _ in kept] == [False, True]
    assert all(torch.equal(value, kept[1][1][name]) for name, value in kept[0][1].items())
    strict, loose = run.networks.teachers
    assert strict.model == loose.model
    assert any(not torch.equal(value, loose.state_dict()[name]) for name, value in strict.state_dict().items())
    assert list(run.method.trained_networks(run.networks)) == ["student", "loose teacher"]


def test_smoothing_is_the_loose_teachers_alone(factory, data):
    nets = factory(teachers=(TINY_TEACHER,))
    method, batch = two(smoothing=0.4), Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
    loose = nets.untrained_teachers()[0].eval()
    logits = loose(batch).logits
    wanted = torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.4)
    assert torch.equal(method.alone(Networks(nets.student(), [], [loose]), batch)["ce"], wanted)
