"""FT: the factors, and who learns when."""

import pytest
import torch

from kdrun.methods.losses.feature import factor, ft
from kdrun.training.loop import distill
from tests.toy import state, toy_run


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def test_known_factors():
    assert ft(maps(1, 0), maps(0, 1)).item() == pytest.approx(1.0, abs=1e-9)
    assert ft(maps(3, 4), maps(1, 0)).item() == pytest.approx((0.4 + 0.8) / 2, abs=1e-9)
    assert ft(9 * maps(3, 4), 5 * maps(3, 4)).item() == pytest.approx(0, abs=1e-12)


def test_spatial_factor_forgets_the_channels():
    wide = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]], dtype=torch.float64)  # mean squares 5 and 10
    wanted = torch.tensor([[1.0, 2.0]], dtype=torch.float64) / 5**0.5
    assert torch.allclose(factor(wide, "spatial"), wanted, atol=1e-9)
    assert ft(wide, wide.flip(1), "spatial").item() == pytest.approx(0, abs=1e-12)
    assert ft(wide, wide.flip(1)).item() > 0.1


def test_a_dead_map_has_a_finite_gradient():
    dead = torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    ft(maps(1, 0), dead).backward()
    assert torch.isfinite(dead.grad).all()


def test_the_paraphraser_learns_first_and_then_stays():
    run = toy_run("ft", "offline", "recipe.epochs=1")
    method, student, phases, moved = run.method, run.networks.student.network, run.method.phases, []

    def watched(run):
        for phase in phases(run):
            before = [state(module) for module in (student, method.paraphraser, method.translator)]
            yield phase
            after = [state(module) for module in (student, method.paraphraser, method.translator)]
            moved.append([any(not torch.equal(old[name], new[name]) for name in old)
                          for old, new in zip(before, after, strict=True)])

    run.method.phases = watched
    distill(run)
    assert moved == [[False, True, False], [True, False, True]]
