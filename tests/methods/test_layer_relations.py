"""ICKD, KD-SVD, MHGD and LKD: relations among channels, layers and patches of one network."""

import pytest
import torch
from torch import nn

from kdrun.config.schema import ConfigError
from kdrun.methods.clipping import clipped
from kdrun.methods.losses.layers import aligned_directions, ickd, kdsvd, leading_directions, lkd, patches
from kdrun.methods.losses.relation import cckd
from kdrun.methods.relation.mhgd import Attention
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def watched(run, part):
    """Train a run, and tell of which of its method's phases a part of the method came out moved."""
    moved, phases = [], run.method.phases

    def between(run):
        before = None
        for phase in phases(run):
            before = before or state(getattr(run.method, part))
            yield phase
            now = state(getattr(run.method, part))
            moved.append(any(not torch.equal(value, before[name]) for name, value in now.items()))
            before = now

    run.method.phases = between
    distill(run)
    return moved


def test_ickd_of_known_channels():
    apart = torch.eye(2, dtype=torch.float64).reshape(1, 2, 1, 2)
    alike = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]], dtype=torch.float64)
    assert ickd(apart, alike).item() == pytest.approx(0.5857864, abs=1e-7)
    assert ickd(alike, apart).item() == pytest.approx(0.5857864, abs=1e-7)


def test_ickd_sees_neither_places_nor_scale():
    teacher, student = draw(2, 3, 4, 4), draw(2, 3, 2, 2, seed=1)
    value = ickd(teacher, student).item()
    assert ickd(teacher.flip(2, 3), 5 * student.transpose(2, 3)).item() == pytest.approx(value)
    assert ickd(teacher, student.flip(1)).item() != pytest.approx(value)


@pytest.mark.parametrize("shape", [(2, 3, 3, 2), (2, 5, 1, 3)], ids=["more places", "more channels"])
def test_kdsvd_leading_directions_are_those_of_a_decomposition_with_its_gradient(shape):
    maps = draw(*shape).requires_grad_()
    values, vectors = leading_directions(maps, 2)
    _, singular, right = torch.linalg.svd(maps.flatten(2).transpose(1, 2), full_matrices=False)
    torch.testing.assert_close(values, singular[:, :2])
    expected = right.transpose(1, 2)[:, :, :2]
    expected = expected * expected.sum(dim=1, keepdim=True).sign()
    torch.testing.assert_close(vectors, expected)
    probe = draw(*vectors.shape, seed=1)
    slopes = [torch.autograd.grad((one * probe).sum(), maps, retain_graph=True)[0] for one in (vectors, expected)]
    torch.testing.assert_close(*slopes)


def test_kdsvd_aligns_what_is_in_another_order_and_turned():
    maps = torch.zeros(1, 3, 1, 3, dtype=torch.float64)
    maps[0, 0, 0, 0], maps[0, 1, 0, 1], maps[0, 2, 0, 2] = 3, 2, 1
    other = maps.clone()
    other[0, 0, 0, 0] = -0.5  # the teacher's first is the student's last, and negative
    wanted, given = aligned_directions(maps, other, 1)
    torch.testing.assert_close(given, wanted)


def test_kdsvd_is_zero_at_the_teacher_whatever_the_scale():
    maps = [draw(3, 4, 3, 3).abs(), draw(3, 5, 2, 2, seed=1).abs(), draw(3, 6, 1, 1, seed=2).abs()]
    assert kdsvd(maps, [(number + 2) * one for number, one in enumerate(maps)], 2).item() == pytest.approx(0, abs=1e-20)
    assert kdsvd(maps, [one.flip(1) for one in maps]).item() > 1e-3
    first, last = [1.0, 0.0], [0.5**0.5, 0.5**0.5]
    line, ones = torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]]).double(), torch.ones(1, 2, 1, 2).double()
    expected = sum((torch.tensor(-((a - c) ** 2) / 8).exp() - torch.tensor(-((a - b) ** 2) / 8).exp()) ** 2
                   for a in first for b, c in zip(first, last, strict=True))
    assert kdsvd([line, line], [line, ones]).item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("maps", [torch.zeros(2, 4, 2, 2), torch.eye(4).reshape(1, 4, 2, 2).repeat(2, 1, 1, 1),
                                  torch.zeros(2, 8, 2, 2)], ids=["dead", "equal values", "dead and wide"])
def test_kdsvd_has_finite_gradients_where_singular_values_are_equal(maps):
    maps = maps.clone().requires_grad_()
    other = torch.rand(2, maps.shape[1], 2, 2, generator=torch.Generator().manual_seed(0))
    kdsvd([other, other], [maps, maps]).backward()
    assert torch.isfinite(maps.grad).all()


def test_kdsvd_and_mhgd_refuse_other_channels(tmp_path):
    for key in ("kdsvd", "mhgd"):
        with pytest.raises(ConfigError, match=r"the student has \[6, 8, 9\] and the teacher \[6, 8, 12\]"):
            toy_experiment(key, tmp_path, "student.widths=[6,8,9]")


def test_kdsvd_clips_weight_by_weight():
    first, second, still = (nn.Parameter(torch.tensor(values)) for values in ([3.0, 4.0], [1.0], [2.0]))
    still.requires_grad_(False)
    loss = first.square().sum() * 5 + second.square().sum() * still.sum()
    value = clipped(loss, first.sum() + 7 * second.sum(), [first, second, still], share=0.5)
    assert value.item() == loss.item()
    value.backward()
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.8]) * 0.5 * 2**0.5)  # cut to half of the other's length
    torch.testing.assert_close(second.grad, torch.tensor([3.5]))  # was 4


def test_mhgd_attention_follows_senders_and_receivers():
    torch.manual_seed(0)
    attention = Attention(3, 5, heads=2).double()
    before, after = draw(4, 3), draw(4, 5, seed=1)
    scores = attention(before, after)
    assert scores.shape == (2, 4, 4)
    sent, received = attention.sender(after), attention.receiver(before)
    for head in range(2):
        torch.testing.assert_close(scores[head], sent[:, head::2] @ received[:, head::2].T)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(attention(before[order], after[order]), scores[:, order][:, :, order])


def test_mhgd_is_zero_at_the_teacher_and_its_attention_stays():
    run = toy_run("mhgd", "offline", "recipe.epochs=1")
    assert watched(run, "attentions") == [True, False]
    assert not list(run.method.estimators)
    batch = next(iter(run.stream.epoch(0, 1)))
    run.networks.student = run.networks.teacher
    stages = run.networks.teacher(batch).stages
    assert all(torch.equal(*pair) for pair in zip(*run.method.vectors(stages, stages), strict=True))


def test_lkd_cuts_maps_row_by_row():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert patches(maps, 2)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert patches(maps, 9).shape == (1, 16, 1)
    assert patches(maps, 3).flatten().tolist() == torch.nn.functional.adaptive_avg_pool2d(maps, 3).flatten().tolist()
    assert patches(torch.zeros(2, 3, 1, 7), 2).shape == (2, 2, 9)  # a sequence of 7 places


def test_lkd_of_whole_maps_is_the_congruence_of_cosines():
    teacher, student = draw(4, 3, 2, 2), draw(4, 5, 2, 2, seed=1)
    within, place, across = lkd(teacher, student, 1)
    expected = cckd(teacher.flatten(1), student.flatten(1), "bilinear", 0.4, 2).item()
    assert within.item() == pytest.approx(0, abs=1e-20)  # a patch with itself
    assert [place.item(), across.item()] == pytest.approx([expected] * 2)


def test_lkd_compares_three_kinds_of_pairs():
    teacher = torch.zeros(2, 2, 1, 2, dtype=torch.float64)
    teacher[:, 0] = 1  # all four patches alike
    student = teacher.clone()
    student[1] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])[:, None]  # the second sample's are at right angles to the first's
    within, place, across = (value.item() for value in lkd(teacher, student, 2))
    assert within == pytest.approx(0)
    assert [place, across] == pytest.approx([0.5, 0.5])
    size = torch.tensor([[2.0, 3.0], [4.0, 5.0]]).double()[:, None, None]
    assert all(value.item() == pytest.approx(0, abs=1e-20) for value in lkd(student, size * student, 2))


def test_lkd_masks_stay_in_the_second_phase():
    assert watched(toy_run("lkd", "offline", "recipe.epochs=1"), "masks") == [True, False]
