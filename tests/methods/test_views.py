"""Views of pictures, and the methods that learn from several of each: sskd_ss and sla_sd."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.methods.losses import kl
from kdrun.methods.losses.views import aggregated, best_ranked, joint_labels, sees_again, view_count, views_of
from kdrun.methods.relation.sskd_ss import SSKD
from kdrun.methods.self_taught.sla_sd import SLA
from kdrun.models.roles import Networks, frozen
from kdrun.training.loop import distill
from tests.toy import toy_run

F64 = torch.float64
KINDS = ("rotation", "rotation2", "color_perm", "color_perm3", "rot_color_perm6", "rot_color_perm12", "rot_color_perm24")


@pytest.mark.parametrize("kind", KINDS)
def test_views_are_all_different_hold_the_same_numbers_and_begin_with_the_picture(kind):
    pictures = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    views = views_of(pictures, kind).unflatten(0, (-1, 2))
    assert len(views) == view_count(kind) == len({str(view[0].tolist()) for view in views})
    assert torch.equal(views[0], pictures)
    assert all(torch.equal(view.flatten(1).sort(dim=1).values, pictures.flatten(1)) for view in views)


def test_views_that_pictures_have_not():
    with pytest.raises(ValueError, match="needs square pictures, and these have 4x6 pixels; wanted square ones"):
        views_of(torch.zeros(1, 1, 4, 6), "rotation")
    assert views_of(torch.zeros(1, 1, 4, 6), "rotation2").shape == (2, 1, 4, 6)
    with pytest.raises(ValueError, match="three colours, and these pictures have 1 channel"):
        views_of(torch.zeros(1, 1, 4, 4), "color_perm3")


def test_the_joint_head_in_numbers():
    joint, plain = tensor([[4.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 2.0]], dtype=F64), torch.zeros(1, 2, dtype=F64)
    agreed = aggregated(joint, 2)
    assert agreed.tolist() == [[3.5, 1.0]]
    assert float(kl(agreed, plain)) == pytest.approx(0.4246, abs=5e-5)
    assert float(F.cross_entropy(joint, joint_labels(tensor([0]), 2))) == pytest.approx(0.2615, abs=5e-5)


def test_one_view_is_two_heads_and_each_view_is_asked_about_its_own_classes():
    joint = torch.randn(5, 3, dtype=F64)
    assert torch.equal(aggregated(joint, 1), joint)
    joint = torch.randn(2 * 5, 3 * 2, dtype=F64, requires_grad=True)
    aggregated(joint, 2).sum().backward()
    own = joint_labels(torch.zeros(5, dtype=torch.int64), 2) % 2  # the view of each row
    assert torch.equal(joint.grad, 0.5 * (torch.arange(6) % 2 == own[:, None]).to(F64))


def test_the_aggregate_is_a_product_and_teaches_without_learning(factory, data):
    method = SLA(views="rotation", joint_weight=1.0, temperature=1.0, kd_weight=1.0)
    networks = Networks(factory().student())
    method.setup(networks, data)
    batch = Batch(torch.randn(4, *data.shape), tensor([0, 1, 2, 3]))
    method.loss(networks, batch)["kd"].backward()
    assert method.joint.weight.grad is None
    trained = method.trained_networks(networks)
    assert list(trained) == ["student", "aggregated"]
    networks.student.eval()
    answer = trained["aggregated"](batch.x)
    joint = method.joint(networks.student.network(views_of(batch.x, "rotation")).embedding)
    assert torch.allclose(answer.logits, aggregated(joint, 4))


def sskd(**changes):
    usual = {"head_epochs": 1, "ce_weight": 0.1, "kd_weight": 0.9, "turned_weight": 2.7, "similarity_weight": 10.0,
             "temperature": 4.0, "turned_temperature": 4.0, "similarity_temperature": 0.5, "turned_share": 1.0,
             "similarity_share": 0.75}
    return SSKD(**(usual | changes))


def test_which_turned_pictures_count():
    scores = torch.randn(60, 7, dtype=F64, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(7, (60,), generator=torch.Generator().manual_seed(1))
    right = scores.argmax(1) == truth
    for share in (0.0, 0.75, 1.0):
        kept = best_ranked(scores, truth, share)
        assert len(kept) == int(right.sum()) + math.floor(share * int((~right).sum()))
        assert torch.isin(right.nonzero()[:, 0], kept).all()
        rank = (scores.argsort(dim=1, descending=True) == truth[:, None]).int().argmax(1)
        left = torch.ones(60, dtype=torch.bool).index_fill(0, kept, False)
        assert not left.any() or rank[left].min() >= rank[kept].max()


def test_similarities_are_cosines():
    turned, upright = torch.randn(12, 5, dtype=F64), torch.randn(4, 5, dtype=F64)
    wanted = F.cosine_similarity(turned[:, None], upright[None], dim=2)
    assert torch.allclose(sees_again(3 * turned, upright), wanted, atol=1e-12)


def test_a_student_that_is_the_teacher_has_nothing_to_learn_from_it(factory, data):
    student = factory().student()
    student.eval()
    networks = Networks(student, [frozen(student, "teacher")])
    method = sskd()
    method.setup(networks, data)
    method.student_head.load_state_dict(method.teacher_head.state_dict())
    terms = method.loss(networks, Batch(torch.randn(4, *data.shape), tensor([0, 1, 2, 3])))
    assert [float(terms[name].detach()) for name in ("kd", "turned", "similarity")] == pytest.approx([0, 0, 0], abs=1e-5)
    assert method.similarities(student(torch.randn(16, *data.shape)).embedding, method.student_head).shape == (12, 4)


def test_the_teachers_head_learns_first_and_then_stays():
    run = toy_run("sskd_ss", "offline")
    phases = run.method.phases(run)
    next(phases)
    before = run.method.teacher_head[0].weight.clone()
    distill(run)
    head = run.method.teacher_head
    assert not torch.equal(before, head[0].weight)
    assert not any(weight.requires_grad for weight in head.parameters())
    assert list(run.trained) == ["teacher's head", "distill"]
