import pytest
import torch

from kdrun.data.synthetic import VIEWS, MultiView, multiview

USUAL = {"classes": 4, "patch": 4, "grid": 3, "copies": 2, "single": 0.3, "weak": 0.4, "noise": 0.0, "seed": 0}


def made(**changes) -> MultiView:
    return MultiView(**{**USUAL, **changes})


def strengths(model: MultiView, images: torch.Tensor) -> torch.Tensor:
    """How much of each feature is in each patch: [N, patches, classes, views]."""
    split = (2 * images[..., 0] - 1).unfold(1, model.patch, model.patch).unfold(2, model.patch, model.patch)
    return torch.einsum("nghij,cvij->nghcv", split, model.features.view(model.classes, VIEWS, model.patch, -1)).flatten(1, 2)


def test_features_are_orthonormal():
    flat = made().features.flatten(0, 1)
    assert torch.allclose(flat @ flat.T, torch.eye(8), atol=1e-6)


@pytest.mark.parametrize("view", [-1, 0, 1])
def test_a_sample_shows_its_views_in_so_many_patches(view):
    model, labels = made(), torch.arange(12) % 4
    found = strengths(model, model.drawn("some", labels, torch.full((12,), view)).inputs)
    own = found[torch.arange(12), :, labels]  # [N, patches, views]
    for other in range(VIEWS):
        shown = 1.0 if view in (-1, other) else 0.1
        assert torch.allclose(own[..., other].sort(dim=1).values[:, -2:], torch.tensor(shown), atol=1e-5)
        assert own[..., other].sort(dim=1).values[:, :-2].abs().max() < 1e-5
    others = found.clone()
    others[torch.arange(12), :, labels] = 0
    assert others.max() <= 0.4 + 1e-5
    assert ((others > 1e-5).sum(dim=(2, 3)) <= 1).all()  # a patch holds one feature
    assert (others.flatten(1) > 1e-5).any(dim=1).all()


@pytest.mark.parametrize("view", range(VIEWS))
def test_the_rule_that_knows_all_features_is_always_right_without_noise(view):
    model = made()
    for pictures in (model.mixed("train", 200), model.showing(view, 20)):
        assert (model.judged(pictures.inputs).argmax(dim=1) == pictures.labels).all()


def test_a_rule_that_knows_one_view_is_lost_on_the_other():
    model = made(weak=0.0)
    pictures = model.showing(1, 20)
    first = strengths(model, pictures.inputs)[..., 0].sum(dim=1)
    assert first.max() < 0.25  # 2 copies of the faint view


def test_the_share_of_single_view_samples():
    model = made()
    pictures = model.mixed("train", 4000)
    own = strengths(model, pictures.inputs)[torch.arange(4000), :, pictures.labels].amax(dim=1)
    single = (own.amin(dim=1) < 0.5).float().mean()
    assert float(single) == pytest.approx(0.3, abs=0.03)
    assert torch.bincount(pictures.labels).tolist() == [1000] * 4


def test_noise_has_its_spread_and_seeds_draw_otherwise():
    noise = 2 * (made(noise=0.1).mixed("train", 500).inputs - made().mixed("train", 500).inputs)
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert made(seed=1).mixed("train", 10).digest != made().mixed("train", 10).digest
    assert made().mixed("test", 10).digest != made().mixed("train", 10).digest
    assert made().mixed("train", 10).digest == made().mixed("train", 10).digest


def test_the_source_is_fit_to_train_on():
    source = multiview(**USUAL, train=40, test=20)
    assert source.problems() == []
    assert (len(source.train), len(source.test), len(source.classes)) == (40, 20, 4)
    assert source.train.inputs.shape[1:] == (12, 12, 1)


@pytest.mark.parametrize(("changes", "line"), [
    ({"classes": 9}, "patch: 18 features that are orthogonal do not fit into 4x4 pixels; wanted at least 5"),
    ({"copies": 5}, "copies: 2 views in 5 patches each do not fit into 3x3 patches; wanted at most 4")])
def test_what_does_not_fit_is_refused(changes, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        made(**changes)
