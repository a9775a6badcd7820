"""ReviewKD: the hierarchical loss, the fusions, and the warm-up."""

import dataclasses

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.reviewkd import Fusion
from kdrun.methods.losses.cross_layer import hcl
from tests.toy import toy_experiment, toy_run


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 5), (8, 8), (1, 9)])
def test_a_constant_offset_counts_squared_at_any_size(size):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert hcl(maps, maps + 3).item() == pytest.approx(9)
    assert hcl(maps, maps).item() == 0


def test_a_checkerboard_counts_at_its_own_size_alone():
    checkerboard = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]], dtype=torch.float64)
    assert hcl(torch.zeros_like(checkerboard), checkerboard).item() == pytest.approx(2 / 3)
    assert hcl(torch.zeros(1, 1, 8, 8), checkerboard.repeat(1, 1, 4, 4)).item() == pytest.approx(1 / 1.875)


def test_a_fusion_weighs_its_own_map_and_the_deeper_one():
    fusion = Fusion(2, 3, 4, deepest=False).eval()
    with torch.no_grad():
        fusion.attention.weight.zero_()
        fusion.attention.bias.copy_(torch.tensor([0.0, 20.0]))  # a half of its own, all of the deeper one
    maps, deeper = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 1, 1)
    reviewed, handed = fusion(maps, deeper, torch.Size((2, 2)))
    assert (reviewed.shape, handed.shape) == ((1, 4, 2, 2), (1, 3, 2, 2))
    entered = fusion.enter(maps)
    assert torch.allclose(handed, (entered / 2 + deeper)[:, :, ::2, ::2], atol=1e-5)


def test_the_first_epoch_is_the_labels_alone():
    run = toy_run("reviewkd", "offline", "method.ramp_share=0.5")
    run.method.setup(run.networks, run.data)
    batch = next(run.stream.epoch(0, 1))
    values = [run.method.loss(run.networks, dataclasses.replace(batch, epoch=epoch, epochs=8))["review"].item()
              for epoch in (0, 2, 4, 6)]
    assert values[0] == 0
    assert values[1] > 0
    run.method.ramp_share = 0.0
    assert run.method.loss(run.networks, batch)["review"].item() > values[1]


def test_unequal_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="knowledge review pairs stages, but the student has 2 and the teacher 3"):
        toy_experiment("reviewkd", tmp_path, "student.widths=[6,8]")
