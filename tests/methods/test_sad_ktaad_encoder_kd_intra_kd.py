"""Methods of the places of maps: where a network looks, affinities of places and of regions, encoders."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.data.samples import IGNORED
from kdrun.methods.feature.encoder_kd import encoder_depth
from kdrun.methods.losses import kd
from kdrun.methods.losses.dense import (
    moments,
    place_affinity,
    region_affinities,
    region_affinity,
    self_attention,
    self_attention_map,
)
from kdrun.methods.relation.intra_kd import class_regions, grid_regions
from tests.toy import prepared, toy_run


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ready(key, *words):
    run = toy_run(key, "self" if key == "sad" else "offline", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(1, 2))


def test_sad_attention_is_a_distribution_that_ignores_channel_order():
    maps = draw(2, 6, 4, 4)
    attention = self_attention_map(maps)
    assert torch.allclose(attention.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert torch.allclose(self_attention_map(maps.flip(1)), attention)
    assert self_attention(torch.ones(2, 3, 2, 2), torch.full((2, 5, 4, 4), 7.0)).item() == pytest.approx(0, abs=1e-12)


def test_sad_moves_the_shallower_map_alone():
    deeper, shallower = draw(2, 6, 2, 2).requires_grad_(), draw(2, 3, 4, 4, seed=2).requires_grad_()
    self_attention(deeper, shallower).backward()
    assert deeper.grad is None
    assert bool(shallower.grad.any())


def test_sad_begins_late_and_its_weight_goes_with_the_map():
    run, batch = ready("sad", "method.start_share=0.5")
    assert run.method.scale == pytest.approx((64 / 1024) ** 2)
    assert run.method.loss(run.networks, batch)["sad"].item() > 0
    batch.epoch = 0
    assert run.method.loss(run.networks, batch)["sad"].item() == 0


def test_place_affinity_by_hand_and_its_invariance():
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[None, :, None]  # a channel a row, a place a column
    alike = torch.tensor([[1.0, 1.0], [0.0, 0.0]])[None, :, None]
    assert place_affinity(apart, alike).item() == pytest.approx(0.5)
    teacher, student = draw(2, 5, 3, 3), draw(2, 4, 3, 3, seed=2)
    scales = 1 + draw(2, 1, 3, 3, seed=3).abs()
    assert place_affinity(teacher, scales * student).item() == pytest.approx(place_affinity(teacher, student).item())


def test_ktaad_trains_the_autoencoder_then_the_student_and_drops_the_decoder():
    run = toy_run("ktaad", "offline")
    first, second = run.method.phases(run)
    assert (first.name, second.name) == ("autoencoder", "distill")
    assert all(not weight.requires_grad for weight in run.method.encoder.parameters())
    assert not list(run.method.decoder.parameters())
    terms = run.method.loss(run.networks, next(run.stream.epoch(0, 1)))
    assert set(terms) == {"ce", "adapt", "affinity"}
    adapters = list(run.method.adapters.parameters())
    assert all(one is not None for one in torch.autograd.grad(terms["adapt"] + terms["affinity"], adapters))


def test_ktaad_looks_at_so_many_places_at_most():
    run, _ = ready("ktaad", "method.places=3")
    assert run.method.pooled(torch.zeros(1, 2, 8, 2)).shape == (1, 2, 3, 2)
    assert run.method.pooled(torch.zeros(1, 2, 3, 3)).shape == (1, 2, 3, 3)


@pytest.mark.parametrize(("places", "depth"), [([8, 4, 2], 3), ([8, 4, 2, 4, 8], 3), ([4, 4, 4], 3), ([8], 1)])
def test_encoder_kd_goes_down_to_the_smallest_map(places, depth):
    assert encoder_depth([torch.Size((3, side, side)) for side in places]) == depth


def test_encoder_kd_of_a_network_that_is_its_teacher_is_the_labels():
    run, batch = ready("encoder_kd", "student.widths=[6,8,12]")
    run.networks.student.network.load_state_dict(run.networks.teacher.network.state_dict())
    for role in run.networks:
        role.eval()
    terms = run.method.loss(run.networks, batch)
    assert terms["kd"].item() == pytest.approx(0, abs=1e-5)
    assert terms["maps"].item() == pytest.approx(0, abs=1e-10)
    assert not list(run.method.adapters.parameters())  # of equal channels
    pixels = draw(3, 5, 1, 1), draw(3, 5, 1, 1, seed=2)  # the pixels of 1x1 pictures are answers like any
    rows = [one.permute(0, 2, 3, 1).reshape(-1, 5) for one in pixels]
    assert kd(*rows, 4.0).item() == pytest.approx(kd(*(one.flatten(1) for one in pixels), 4.0).item())


def test_encoder_kd_of_unlike_encoders_is_refused():
    with pytest.raises(ConfigError, match="the student's encoder has 2 and the teacher's 3; choose a teacher of as many"):
        prepared(("encoder_kd", "student.widths=[4,6]"))


def test_intra_kd_moments_by_hand():
    maps = torch.tensor([[[[0.0, 0.0, 3.0, 9.0]]]], dtype=torch.float64)
    regions = torch.tensor([[[[1.0, 1.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]], dtype=torch.float64)
    mean, variance, skewness = moments(maps, regions)[:, 0, 0, 0].tolist()
    assert (mean, variance, skewness) == (1, 2, pytest.approx(2 / 2**1.5, rel=1e-5))
    assert torch.equal(moments(maps, regions)[:, 0, 1], torch.zeros(3, 1, dtype=torch.float64))  # of nothing


def test_intra_kd_affinities_are_cosines_at_any_scale():
    maps, regions = draw(2, 6, 4, 4).abs(), (draw(2, 3, 4, 4, seed=2) > 0).double()
    own = region_affinities(maps, regions)
    assert torch.allclose(own, own.transpose(2, 3))
    assert torch.allclose(own.diagonal(dim1=2, dim2=3), torch.ones(3, 2, 3, dtype=torch.float64))
    assert torch.allclose(region_affinities(100 * maps, regions), region_affinities(1000 * maps, regions), atol=1e-8)


def test_intra_kd_counts_pairs_of_regions_that_have_places():
    teacher, student = draw(2, 6, 4, 4), draw(2, 3, 4, 4, seed=2).requires_grad_()
    one = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    one[:, 0] = 1
    alone = region_affinity(teacher, student, one)
    assert alone.item() == 0
    one[0, 1, 0, :2] = 1
    pair = region_affinity(teacher, student, one)
    by_hand = (region_affinities(student, one) - region_affinities(teacher, one))[:, 0, 0, 1].square().mean()
    assert pair.item() == pytest.approx(by_hand.item())
    (alone + pair).backward()
    assert bool(student.grad.isfinite().all())
    assert region_affinity(teacher, teacher, one).item() == 0


def test_intra_kd_finds_the_surroundings_of_a_class():
    mask = torch.full((1, 5, 5), IGNORED)
    mask[0, 2, 2] = 1
    inside = class_regions(mask, 2, 3) > 0
    assert inside[0, 0].sum() == 0
    assert inside[0, 1].nonzero().tolist() == [[row, column] for row in (1, 2, 3) for column in (1, 2, 3)]
    parts = grid_regions(torch.zeros(2, 7, 4, 5), 2)
    assert parts.shape == (2, 4, 4, 5)
    assert torch.equal(parts.sum(dim=1), torch.ones(2, 4, 5))
    assert grid_regions(torch.zeros(2, 7, 1, 4), 2).shape == (2, 2, 1, 4)


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match="an odd number of pixels a side, got 4"):
        prepared(("intra_kd", "method.kernel=4"))
