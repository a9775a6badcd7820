"""CRD: the contrast, the draws and the memories."""

import math

import pytest
import torch

from kdrun.data.batch import Batch
from kdrun.methods.losses.ordering import crd
from kdrun.methods.relation.crd import CRD, Drawer
from kdrun.models.roles import Networks
from tests.toy import state, toy_run


def test_known_contrast():
    half = torch.full((3, 2), 0.5, dtype=torch.float64)  # N = 2, K = 1, so the noise is a half too
    assert crd(half, 2).item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_two_sides_add_up():
    method = CRD(weight=1.0, reference=None, scaling="none", ce_weight=1.0, kd_weight=0.0, temperature=4.0, features=2,
              negatives=1, sharpness=1.0, momentum=0.5, positive="exact")
    method.student_memory = method.teacher_memory = torch.zeros(2, 2, dtype=torch.float64)  # every similarity is exp(0)
    method.student_scale, method.teacher_scale = (torch.zeros((), dtype=torch.float64) for _ in range(2))
    unit = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert method.contrasts(unit, unit, torch.tensor([[0, 1]])).item() == pytest.approx(2.7725887, abs=1e-6)
    assert method.student_scale.item() == 2  # the mean times N
    method.scores(unit, torch.ones(2, 2, dtype=torch.float64), torch.tensor([[0, 1]]), method.student_scale)
    assert method.student_scale.item() == 2, "the first batch's stays"


def test_negatives_are_of_other_classes():
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0, 2])
    drawer, draws = Drawer(labels), torch.Generator().manual_seed(0)
    asked = torch.tensor([0, 1, 2, 0])
    few = drawer.negatives(asked, 5, draws)  # exactly the others of class 0
    assert sorted(few[0].tolist()) == [0, 2, 4, 5, 7]
    assert all(len(set(row.tolist())) == 5 for row in few)
    many = drawer.negatives(asked, 400, draws)
    for rows, label in zip(many, asked, strict=True):
        assert set(rows.tolist()) == {row for row, own in enumerate(labels.tolist()) if own != label}
    seen = {row for _ in range(200) for row in drawer.relatives(torch.tensor([1]), draws).tolist()}
    assert seen == {2, 5}


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        Drawer(torch.tensor([1, 1]))


@pytest.mark.parametrize("positive", ["exact", "relax"])
def test_only_seen_rows_are_remembered(positive):
    run = toy_run("crd", "offline", "method.negatives=8", f"method.positive={positive}", "method.kd_weight=1")
    method = run.method
    next(method.phases(run))
    before = state(method)
    batch: Batch = next(iter(run.stream.epoch(0, 1)))
    networks: Networks = run.networks
    updates = method.step(networks, batch)
    _, terms = next(updates)
    assert terms.keys() == {"ce", "crd", "kd"}
    assert torch.equal(before["student_memory"], method.student_memory), "remembered before the update"
    terms["crd"].backward()
    assert method.teacher_embedding.weight.grad.abs().sum() > 0
    assert next(updates, None) is None
    for side in ("student", "teacher"):
        after, index = getattr(method, f"{side}_memory"), batch.index
        changed = (after != before[f"{side}_memory"]).any(dim=1)
        assert sorted(changed.nonzero().flatten().tolist()) == sorted(index.tolist())
        assert torch.allclose(after[index].norm(dim=1), torch.ones(len(index)), atol=1e-6)
        assert getattr(method, f"{side}_scale") > 0
