import math

import pytest
import torch
from torch import nn

from tests.conftest import tiny_recipe


@pytest.mark.parametrize(("epoch", "drops"), [(0, 0), (149.99, 0), (150, 1), (179.5, 1), (180, 2), (209.9, 2), (210, 3),
                                              (239.9, 3)])
def test_multistep_drops_at_the_literatures_epochs(epoch, drops):
    recipe = tiny_recipe(lr=0.05, milestones=[0.625, 0.75, 0.875], gamma=0.1)
    assert recipe.rate(epoch, 240) == pytest.approx(0.05 * 0.1**drops)


def test_multistep_milestones_are_shares_so_a_shorter_run_keeps_the_form():
    recipe = tiny_recipe(lr=1.0, milestones=[0.875, 0.625, 0.75])  # in any order
    rates = [recipe.rate(epoch, 8) for epoch in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(("share", "epochs", "drop"), [(0.55, 100, 55), (0.7, 10, 7), (0.1, 30, 3), (0.29, 100, 29)])
def test_a_rounding_error_does_not_move_a_milestone(share, epochs, drop):
    recipe = tiny_recipe(lr=1.0, milestones=[share])
    assert recipe.rate(drop - 1, epochs) == 1
    assert recipe.rate(drop, epochs) == pytest.approx(0.1)


def test_a_multistep_rate_changes_between_epochs_only():
    recipe = tiny_recipe(lr=1.0, milestones=[0.5])
    assert recipe.rate(2.9, 5) == 1  # half of five epochs is in the middle of the third
    assert recipe.rate(3, 5) == pytest.approx(0.1)


def test_cosine_starts_high_is_half_in_the_middle_and_ends_at_zero():
    recipe = tiny_recipe(schedule="cosine", lr=0.2)
    assert recipe.rate(0, 40) == pytest.approx(0.2)
    assert recipe.rate(10, 40) == pytest.approx(0.2 * (1 + math.sqrt(0.5)) / 2)
    assert recipe.rate(20, 40) == pytest.approx(0.1)
    assert recipe.rate(40, 40) == pytest.approx(0, abs=1e-12)
    assert recipe.rate(41, 40) == pytest.approx(0, abs=1e-12)
    rates = [recipe.rate(step / 10, 40) for step in range(401)]
    assert rates == sorted(rates, reverse=True)


def test_constant_stays():
    assert {tiny_recipe(schedule="constant", lr=0.3).rate(epoch, 5) for epoch in (0, 0.5, 4.9)} == {0.3}


@pytest.mark.parametrize("schedule", ["multistep", "cosine"])
def test_a_phase_of_constant_rate_stays_at_the_height_after_the_warm_up(schedule):
    recipe = tiny_recipe(schedule=schedule, lr=0.4, milestones=[0.1], warmup_epochs=1)
    assert [recipe.rate(epoch, 30, constant=True) for epoch in (0.5, 1, 15, 29.9)] == pytest.approx([0.2, 0.4, 0.4, 0.4])


@pytest.mark.parametrize("schedule", ["multistep", "cosine", "constant"])
def test_warm_up_climbs_linearly_to_the_height(schedule):
    recipe = tiny_recipe(schedule=schedule, lr=0.4, warmup_epochs=2)
    assert [recipe.rate(epoch, 10) for epoch in (0, 0.5, 1, 1.5, 2)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_cosine_falls_over_what_the_warm_up_leaves():
    recipe = tiny_recipe(schedule="cosine", lr=1.0, warmup_epochs=2)
    assert recipe.rate(6, 10) == pytest.approx(0.5)
    assert recipe.rate(10, 10) == pytest.approx(0, abs=1e-12)


def test_a_warm_up_longer_than_the_phase_only_climbs():
    recipe = tiny_recipe(schedule="cosine", lr=1.0, warmup_epochs=8)
    assert recipe.rate(2, 4) == pytest.approx(0.25)
    assert recipe.rate(8, 8) == pytest.approx(1.0)  # nothing is left to fall over, and nothing is divided by zero


def test_sgd_is_built_as_the_recipe_says():
    optimizer = tiny_recipe(lr=0.3, momentum=0.8, weight_decay=0.01, nesterov=True).build(nn.Linear(2, 2).parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.3, 0.8, 0.01, True)


def test_nesterov_without_momentum_is_plain_sgd():
    optimizer = tiny_recipe(momentum=0.0, nesterov=True).build(nn.Linear(2, 2).parameters())
    assert optimizer.param_groups[0]["nesterov"] is False


def test_adamw_is_built_as_the_recipe_says():
    optimizer = tiny_recipe(optimizer="adamw", lr=0.001, weight_decay=0.05).build(nn.Linear(2, 2).parameters())
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.001, 0.05)


def test_an_sgd_step_is_the_textbooks():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = tiny_recipe(lr=0.1, momentum=0.9, weight_decay=0.5).build([weight])
    velocity, expected = 0.0, 2.0
    for slope in (1.0, -3.0):
        weight.grad = torch.tensor([slope])
        optimizer.step()
        velocity = 0.9 * velocity + slope + 0.5 * expected
        expected -= 0.1 * velocity
    assert weight.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_and_normalisations_go_without_decay_where_the_recipe_says_so(optimizer):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    built = tiny_recipe(optimizer=optimizer, no_decay=True, weight_decay=0.1).build(network.parameters())
    assert [(len(group["params"]), group["weight_decay"]) for group in built.param_groups] == [(2, 0.1), (4, 0.0)]
    whole = tiny_recipe(optimizer=optimizer, no_decay=False, weight_decay=0.1).build(network.parameters())
    assert [(len(group["params"]), group["weight_decay"]) for group in whole.param_groups] == [(6, 0.1)]
