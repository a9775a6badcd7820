"""Records of activations: what draws from them are like, what pictures descend, and that each form trains."""

from dataclasses import replace

import pytest
import torch
from torch import tensor

from kdrun.methods.data_free.lopes import Record, mismatch, spectrum
from kdrun.training.loop import distill
from tests.toy import state, toy_run

F64 = torch.float64
FORMS = ["top_layer", "all_layers", "all_layers_dropout", "spectral_all_layers", "spectral_layer_pairs"]


def record(count: int) -> tuple[Record, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    mixing = tensor([[2.0, 0.0], [1.0, 0.5]], dtype=F64)
    values = torch.randn(count, 2, dtype=F64, generator=draws) @ mixing.T + tensor([3.0, -1.0], dtype=F64)
    return Record.of(values, torch.zeros(count, dtype=torch.int64), 1), values


def test_draws_have_the_recorded_mean_and_covariance():
    own, values = record(500)
    noise = torch.randn(50_000, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    drawn = own.draw(torch.zeros(50_000, dtype=torch.int64), noise)
    torch.testing.assert_close(drawn.T.cov(), values.T.cov(), rtol=0.02, atol=0.02)
    torch.testing.assert_close(drawn.mean(dim=0), values.mean(dim=0), rtol=0.02, atol=0.02)


def test_units_without_a_root_are_drawn_one_by_one():
    own, values = record(2)  # two samples span no more than a line
    assert own.roots is None
    torch.testing.assert_close(own.draw(tensor([0]), torch.ones(1, 2, dtype=F64))[0],
                               values.mean(dim=0) + values.std(dim=0, correction=0))


def test_mismatch_of_known_layers():
    wanted, found = [tensor([[1.0, 0.0]]), tensor([[2.0]])], [tensor([[0.0, 2.0]]), tensor([[0.0]])]
    assert mismatch(wanted, found, averaged=False).item() == pytest.approx(2.5 + 4)
    assert mismatch(wanted, found, averaged=True).item() == pytest.approx(2.5 / 2 + 4)


def test_the_spectrum_of_three_units():
    """Distances 1, 1 and 2 on a line: the Laplacian has the eigenvalues 0, 3 and 5, the last for (1, 0, -1)."""
    (leading,) = spectrum(tensor([[0.0, 1.0, 2.0]], dtype=F64), 0.1).T
    torch.testing.assert_close(leading.abs(), tensor([0.5, 0.0, 0.5], dtype=F64).sqrt(), atol=1e-9, rtol=0)
    assert leading[0] * leading[2] < 0


def test_an_identity_layer_is_rebuilt_exactly():
    """Activations that are the pixels themselves, wanted 3, from 0."""
    pixels = torch.zeros(1, 4, requires_grad=True)
    painter = torch.optim.Adam([pixels], lr=0.07)
    for _ in range(300):
        painter.zero_grad()
        mismatch([torch.full((1, 4), 3.0)], [pixels], averaged=True).backward()
        painter.step()
    torch.testing.assert_close(pixels.detach(), torch.full((1, 4), 3.0), atol=1e-2, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_pictures_come_nearer_to_the_records_and_move_no_network(form):
    run = toy_run("lopes", "offline", f"method.form={form}", "method.iterations=20", "method.batches=1")
    before, inner, found = state(run.networks.student), run.method.step, []

    def watched(networks, batch):
        for player, terms in inner(networks, batch):
            found.append(terms["records"].item())
            yield player, terms
        assert all(torch.equal(value, before[name]) for name, value in networks.student.state_dict().items())

    run.method.step = watched
    phases = run.method.phases(run)
    run.method.phases = lambda run: [next(phases)]
    distill(run)
    assert len(found) == 20
    assert found[-1] < 0.8 * found[0]


def test_what_cannot_be_recorded_is_refused():
    run = toy_run("lopes", "offline", "method.form=spectral_all_layers")
    train = run.data.train
    run.data = replace(run.data, train=train[(train.labels != 3).nonzero()[:, 0]])
    with pytest.raises(ValueError, match="has samples of 9 of 10"):
        run.method.record(run)
