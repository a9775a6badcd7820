"""A branch for each teacher: who is taught by whom, and what all say together."""

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.branches import ends
from kdrun.methods.losses import kd
from kdrun.methods.multi_teacher.ekd_branches import BranchForEachTeacher
from kdrun.models.roles import Networks, frozen
from tests.conftest import TINY_STUDENT, TINY_TEACHER


@pytest.fixture
def parts(factory, data):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    networks = Networks(nets.student().eval(), [frozen(teacher) for teacher in nets.untrained_teachers()])
    batch = Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
    return networks, batch


def ready(networks, data, **weights):
    method = BranchForEachTeacher(**({"temperature": 4.0, "kd_weight": 0.9, "feature_weight": 1.0, "ensemble_weight": 1.0}
                                     | weights))
    method.setup(networks, data)
    return method.eval()


def test_a_branch_hears_its_own_teacher_alone(parts, data):
    networks, batch = parts
    method = ready(networks, data)
    (branch,) = method.branches
    terms = method.loss(networks, batch)
    own, other = networks.student.network.head.weight, branch.network.head.weight
    first, second = ends(networks.student, method.branches, method.shared, batch)
    wanted = torch.autograd.grad(0.9 * kd(networks.teachers[1](batch).logits, second.logits, 4.0), other, retain_graph=True)[0]
    assert torch.allclose(torch.autograd.grad(terms["kd"], other, retain_graph=True)[0], wanted, atol=1e-6)
    wanted = torch.autograd.grad(0.9 * kd(networks.teachers[0](batch).logits, first.logits, 4.0), own, retain_graph=True)[0]
    assert torch.allclose(torch.autograd.grad(terms["kd"], own, retain_graph=True)[0], wanted, atol=1e-6)
    assert own is not other
    assert networks.student.network.stages[0] is branch.network.stages[0]
    assert networks.student.network.stages[-1] is not branch.network.stages[-1]


def test_one_teacher_is_soft_answers_and_a_hint_with_the_labels_twice(parts, data):
    networks, batch = parts
    networks.teachers = networks.teachers[:1]
    method = ready(networks, data)
    terms = method.loss(networks, batch)
    student, teacher = networks.student(batch), networks.teachers[0](batch)
    assert torch.equal(terms["ce"], terms["ensemble"])
    assert float(terms["kd"].detach()) == pytest.approx(float(0.9 * kd(teacher.logits, student.logits, 4.0).detach()), rel=1e-5)
    apart = method.adapters[0](student.stages[-1]) - teacher.stages[-1]
    assert float(terms["feature"].detach()) == pytest.approx(float(apart.square().mean().detach()), rel=1e-5)
    assert set(method.trained_networks(networks)) == {"student"}


def test_all_together_answer_by_the_mean(parts, data):
    networks, batch = parts
    method = ready(networks, data)
    made = method.trained_networks(networks)
    assert list(made) == ["student", "branch 2", "ensemble"]
    with torch.no_grad():
        student, branch, both = (network(batch.x).logits for network in made.values())
    assert torch.allclose((student + branch) / 2, both, atol=1e-6)
