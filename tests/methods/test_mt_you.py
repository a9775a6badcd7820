"""Voting teachers in closed form."""

import pytest
import torch
from torch import tensor

from kdrun.methods.losses.ordering import triplet_leads, triplet_order
from kdrun.methods.multi_teacher.mt_you import triplets

F64 = torch.float64
# directions at 0, 30 and 90 degrees: the second is the nearer to the first
TEACHER = tensor([[1.0, 0.0], [3**0.5 / 2, 0.5], [0.0, 1.0]], dtype=F64)
ROW = tensor([[0, 1, 2]])


def test_leads_are_differences_of_squared_distances():
    near, far = 2 - 3**0.5, 2.0
    assert float(triplet_leads(TEACHER, ROW)) == pytest.approx(far - near, abs=1e-12)
    assert float(triplet_leads(5 * TEACHER, ROW)) == pytest.approx(far - near, abs=1e-12)


def test_a_scaled_copy_breaks_nothing_and_a_reversal_costs_the_difference():
    assert float(triplet_order([TEACHER, TEACHER], 7 * TEACHER, ROW, 0.0)) == 0
    reversed_ = TEACHER[[0, 2, 1]]
    assert float(triplet_order([TEACHER, TEACHER], reversed_, ROW, 0.0)) == pytest.approx(2 - (2 - 3**0.5), abs=1e-12)
    assert float(triplet_order([TEACHER], reversed_, ROW, 0.25)) == pytest.approx(3**0.5 + 0.25, abs=1e-12)
    assert float(triplet_order([TEACHER], TEACHER, ROW, 2.0)) == pytest.approx(2 - 3**0.5, abs=1e-12)


def test_the_majority_decides_and_a_tie_is_left_out():
    other = TEACHER[[0, 2, 1]]
    student = TEACHER.clone().requires_grad_()
    tie = triplet_order([TEACHER, other], student, ROW, 1.0)
    assert float(tie.detach()) == 0
    assert torch.autograd.grad(tie, student)[0].abs().max() == 0
    assert float(triplet_order([TEACHER, other, other], TEACHER, ROW, 0.0)) == pytest.approx(3**0.5, abs=1e-12)


def test_a_tie_does_not_dilute_the_mean():
    rows = tensor([[0, 1, 2], [1, 0, 2]])
    second = tensor([[1.0, 0.0], [3**0.5 / 2, 0.5], [-1.0, 0.0]], dtype=F64)
    assert triplet_leads(TEACHER, rows).sign().tolist() == triplet_leads(second, rows).sign().tolist() == [1, 1]
    swapped = TEACHER[[0, 2, 1]]  # splits with TEACHER on the first triplet
    one, two = (triplet_leads(vectors, rows).sign().tolist() for vectors in (TEACHER, swapped))
    assert one[0] == -two[0]
    decided = [place for place in range(2) if one[place] == two[place]]
    whole = triplet_order([TEACHER, swapped], swapped, rows, 0.5)
    alone = float(triplet_order([TEACHER], swapped, rows[decided], 0.5)) if decided else 0
    assert float(whole) == pytest.approx(alone, abs=1e-12)


def test_teachers_may_have_other_sizes_and_get_no_gradient():
    wide = torch.cat([TEACHER, torch.zeros(3, 5, dtype=F64)], dim=1).requires_grad_()
    student = TEACHER[[0, 2, 1]].clone().requires_grad_()
    triplet_order([wide, TEACHER, TEACHER], student, ROW, 0.1).backward()
    assert wide.grad is None
    assert student.grad.abs().sum() > 0


def test_triplets_are_of_three_samples_each_as_probable():
    rows = triplets(4, 24000, torch.Generator().manual_seed(1))
    kinds, counts = rows.unique(dim=0, return_counts=True)
    assert len(kinds) == 4 * 3 * 2
    assert all(len(set(kind)) == 3 for kind in kinds.tolist())
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 49.7  # chi-square, 23 degrees, 0.1 %


def test_two_samples_are_too_few():
    with pytest.raises(ValueError, match="at least 3"):
        triplets(2, 5, torch.Generator())
