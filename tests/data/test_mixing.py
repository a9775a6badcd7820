"""Mixup and CutMix: what is mixed, by which draws, and what becomes of the labels."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.data.mixing import Mixing
from kdrun.training.loop import distill
from tests.toy import toy_experiment, toy_run

PICTURES = torch.arange(4.0)[:, None, None, None].expand(4, 2, 10, 10)
LABELS = torch.arange(4)


def test_mixup_adds_up_pictures_and_their_losses_by_one_share():
    x, mixed = Mixing(0.4, 0.0, 1)(PICTURES, LABELS, 0, 0)
    assert 0 < mixed.share < 1
    torch.testing.assert_close(x[2, 0, 0, 0].item(), 2 * mixed.share + 1 * (1 - mixed.share))
    assert mixed.second.tolist() == [3, 0, 1, 2]
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    soft = mixed.share * F.one_hot(LABELS, 4) + (1 - mixed.share) * F.one_hot(mixed.second, 4)
    wanted = F.cross_entropy(logits, soft.float(), label_smoothing=0.1)
    torch.testing.assert_close(mixed.loss(lambda labels: F.cross_entropy(logits, labels, label_smoothing=0.1)), wanted)


def test_cutmix_pastes_a_rectangle_and_shares_by_its_area():
    for step in range(20):
        x, mixed = Mixing(0.0, 1.0, 1)(PICTURES, LABELS, 0, step)
        pasted = (x[2, 0] == 1).double().mean().item()
        assert mixed.share == pytest.approx(1 - pasted)
        assert set(x[2].unique().tolist()) <= {1.0, 2.0}


def test_draws_depend_on_seed_epoch_and_step_alone():
    def share(seed, epoch, step):
        return Mixing(0.4, 1.0, seed)(PICTURES, LABELS, epoch, step)[1].share

    shares = [share(1, 0, 0), share(2, 0, 0), share(1, 1, 0), share(1, 0, 1)]
    assert len(set(shares)) == 4
    assert share(1, 1, 0) == shares[2]
    kinds = [bool((Mixing(0.4, 1.0, 1)(PICTURES, LABELS, 0, step)[0] % 1).any()) for step in range(100)]
    assert 30 < sum(kinds) < 70  # each kind about as often


def test_a_training_takes_mixed_batches_and_keeps_their_memory_format():
    run = toy_run("kd", "offline", "recipe.mixup=0.4")
    batch = next(run.stream.epoch(0, 2))
    assert batch.y is None
    assert batch.original is not None  # a teacher's answer to it can be remembered
    assert batch.pictures.permute(0, 2, 3, 1).is_contiguous()
    distill(run)
    assert torch.isfinite(torch.tensor([row[5] for row in run.history])).all()


@pytest.mark.parametrize(("method", "reason"), [
    ("dkd", "it reads one label a sample, and recipe.mixup or recipe.cutmix mixes them; set both to 0"),
    ("pskd", "it has to know the samples of a batch, and recipe.mixup or recipe.cutmix mixes them; set both to 0"),
    ("ddgsd", "it has to know the samples of a batch, and recipe.mixup or recipe.cutmix mixes them; set both to 0")])
def test_methods_that_need_one_label_or_one_sample_are_refused(method, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        toy_experiment(method, tmp_path, "recipe.cutmix=1.0", scheme="self" if method != "dkd" else None)
