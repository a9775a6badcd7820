"""Contrastive model inversion: its terms in closed form, its views, and who moves when."""

import math

import pytest
import torch
from torch import tensor

from kdrun.methods.data_free.cmi import cropped
from kdrun.methods.losses.synthetic import agreed_divergence, view_contrast
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64


def test_contrast_of_orthogonal_pairs():
    pairs = torch.eye(2, dtype=F64)
    wanted = math.log(1 + math.exp(-10))
    assert view_contrast(pairs, pairs, 0.1, 2).item() == pytest.approx(wanted, rel=1e-6)
    assert view_contrast(pairs, pairs, 0.1, 1).item() == pytest.approx(2 * wanted, rel=1e-6)  # a fresh one, and an old one


def test_only_pictures_of_one_opinion_count():
    teacher = tensor([[2.0, 0.0], [2.0, 0.0]], dtype=F64)
    student = tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)
    p, q = teacher[0].softmax(0), student[0].softmax(0)
    assert agreed_divergence(teacher, student).item() == pytest.approx(float((p * (p / q).log()).sum()) / 2)


def test_crops_are_exact_where_they_move_by_whole_pixels():
    pictures = torch.arange(32.0).view(2, 1, 4, 4)
    whole = cropped(pictures, torch.zeros(2, 2), torch.ones(2, 2))
    torch.testing.assert_close(whole, pictures, atol=1e-4, rtol=0)
    right = cropped(pictures, tensor([[2 / 4, 0.0]]).expand(2, 2), torch.ones(2, 2))
    torch.testing.assert_close(right[..., :3], pictures[..., 1:], atol=1e-4, rtol=0)
    assert right[..., 3].abs().max() < 1e-4
    mirrored = cropped(pictures, torch.zeros(2, 2), tensor([[-1.0, 1.0]]).expand(2, 2))
    torch.testing.assert_close(mirrored, pictures.flip(3), atol=1e-4, rtol=0)


def test_inversions_move_no_network_and_later_ones_meet_earlier_pictures():
    run = toy_run("cmi", "offline")
    inner, counts = run.method.inverted, []

    def watched(networks, pictures, wanted, done):
        before = state(networks.student)
        found = inner(networks, pictures, wanted, done)
        assert all(torch.equal(value, before[name]) for name, value in networks.student.state_dict().items())
        counts.append(done)
        return found

    run.method.inverted = watched
    distill(run)
    assert counts == [0] * 3 + [20] * 3
    assert bool((run.method.known.abs().sum(dim=1) > 0).all())
    assert 0 < float(run.method.images.min()) < float(run.method.images.max()) < 1
    assert run.trained == {"inversion": 2, "distill": 2}
