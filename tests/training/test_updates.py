"""Several batches an update, and the average of the weights."""

import pytest
import torch
from torch import nn

from kdrun.config.speed import without_dynamo
from kdrun.training.averaging import WeightAverage
from kdrun.training.loop import distill
from kdrun.training.updates import Updates
from tests.conftest import tiny_recipe
from tests.toy import toy_run


def descended(parts: list[torch.Tensor], **changes) -> torch.Tensor:
    """The weights of a regression after one update, from the batches given."""
    without_dynamo()  # as a run does: its import takes seconds
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    recipe = tiny_recipe(weight_decay=0.0, momentum=0.0, **changes)
    own = {"student": list(layer.parameters())}
    optimizer = recipe.build(own["student"])
    optimizer.param_groups[0]["height"] = recipe.lr
    updates = Updates(recipe, own, {"student": optimizer}, steps=len(parts))
    for step, x in enumerate(parts):
        updates.begin(step)
        updates.backward("student", {"mse": layer(x).square().mean()})
        if updates.complete(step):
            updates.step("student", 0.1)
    return torch.cat([weight.detach().flatten() for weight in layer.parameters()])


@pytest.mark.parametrize(("accumulate", "count"), [(4, 4), (8, 4)])  # the last update of an epoch has what is left
def test_accumulated_batches_give_the_gradient_of_the_whole(accumulate, count):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    whole = descended([x])
    torch.testing.assert_close(descended(list(x.chunk(count)), accumulate=accumulate), whole)
    assert not torch.equal(descended(list(x.chunk(count))), whole)


def test_what_cannot_be_accumulated_is_refused():
    recipe, weights = tiny_recipe(accumulate=2), list(nn.Linear(1, 1).parameters())
    optimizers = {name: recipe.build(weights) for name in ("student", "rival")}
    with pytest.raises(ValueError, match=r"recipe.accumulate=2: two optimizers"):
        Updates(recipe, {"student": weights, "rival": weights}, optimizers, 4)
    updates = Updates(recipe, {"student": weights}, optimizers, 4)
    updates.begin(0)
    updates.backward("student", {"sum": weights[0].sum()})
    with pytest.raises(ValueError, match="updates the student several times a batch"):
        updates.backward("student", {"sum": weights[0].sum()})


def test_the_average_is_the_formula_and_is_put_back():
    layer = nn.BatchNorm1d(1)
    average = WeightAverage(0.5, [layer])
    wanted = 1.0
    for number, value in enumerate((3.0, 5.0, 2.0), start=1):
        with torch.no_grad():
            layer.weight.fill_(value)
            layer.running_mean.fill_(value)
        past = min(0.5, (1 + number) / (10 + number))
        wanted = past * wanted + (1 - past) * value
        average.update()
    with average.shown():
        assert layer.weight.item() == pytest.approx(wanted)
        assert layer.running_var.item() == 1.0
        assert layer.running_mean.item() != 2.0
    assert layer.weight.item() == layer.running_mean.item() == 2.0
    average.settle()
    assert layer.weight.item() == pytest.approx(wanted)


def test_a_run_with_both_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    words = ("recipe.accumulate=2", "recipe.ema=0.9", "recipe.no_decay=true", "recipe.batch_size=8")
    whole, steps = toy_run("vanilla", "offline", *words), []
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", lambda _: steps.append(1))
    distill(whole)
    raw = toy_run("vanilla", "offline", *words[2:], "recipe.accumulate=2")
    distill(raw)
    ends = whole.networks.student.state_dict()
    assert any(not torch.equal(value, raw.networks.student.state_dict()[name]) for name, value in ends.items())

    def die(_):
        steps.append(1)
        if len(steps) == 8:
            raise KeyboardInterrupt

    steps.clear()
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", die)
    with pytest.raises(KeyboardInterrupt):
        distill(toy_run("vanilla", "offline", *words, folder=tmp_path))
    resumed = toy_run("vanilla", "offline", *words, folder=tmp_path)
    distill(resumed)
    assert resumed.history == whole.history
    assert all(torch.equal(value, resumed.networks.student.state_dict()[name]) for name, value in ends.items())
