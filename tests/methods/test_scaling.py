"""Weights that were given for other class counts or map sizes: what becomes of them, and what a run says of it."""

import pytest
import torch
from rich.console import Console

from kdrun import experiment
from kdrun.config import registry
from kdrun.methods.scaling import ScaledWeights, factor
from kdrun.utils.progress import Progress
from tests.toy import toy_run, toy_settings

GIVEN = [key for key in registry.options("method") if "reference" in registry.load("method", key)]


@pytest.mark.parametrize(("scaling", "wanted"), [("none", 1), ("linear", 1 / 16), ("square", 1 / 256), ("sqrt", 1 / 4),
                                                 ("inverse", 16), ("inverse_sqrt", 4)])
def test_rules(scaling, wanted):
    assert factor(4, 64, scaling) == pytest.approx(wanted)
    assert factor(64, 64, scaling) == factor(4, None, scaling) == 1


def terms_of(key: str, reference: int | None) -> tuple[ScaledWeights, dict[str, float]]:
    """The method, and the terms of the first batch in each of its phases, by networks that nothing has trained yet."""
    run = toy_run(key, registry.method_card(key).schemes[0])
    method = run.method
    assert isinstance(method, ScaledWeights)
    method.reference, method.scaling = reference, "linear"
    torch.manual_seed(0)
    found = {}
    for phase in method.phases(run):
        batch = next(iter((phase.data or run.stream).epoch(9, 10)))  # some terms begin late
        updates = method.step(run.networks, batch) if phase.loss is None else [("student", phase.loss(run.networks, batch))]
        found |= {f"{player} {name}": float(term.detach()) for player, terms in updates for name, term in terms.items()}
    return method, found


@pytest.mark.parametrize("key", GIVEN)
def test_the_given_weights_are_scaled_and_nothing_else(key):
    method, scaled = terms_of(key, 1)  # so that the scale is the number of classes or places itself
    _, plain = terms_of(key, None)
    assert method.scale > 1
    ratios = {name: scaled[name] / plain[name] for name in plain if plain[name]}
    changed = [name for name, ratio in ratios.items() if ratio != pytest.approx(1, rel=1e-4)]
    assert len(changed) == len(method.scaled)
    assert all(ratios[name] == pytest.approx(method.scale, rel=1e-4) for name in changed)


def said(key: str, *more: str) -> list[str]:
    """What a run prints before it trains anything."""
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    experiment.Experiment.prepare(toy_settings(key, *more), Progress(console))
    return console.export_text().splitlines()


def test_a_run_tells_what_becomes_of_a_weight_before_it_trains():
    (line,) = said("crd")
    assert line.startswith("method: weight=0.8 counts as 0.08: given for 100 classes, here are 10 (scaling=linear")
    assert said("crd", "method.reference=10") == said("crd", "method.reference=null") == []


def test_a_run_warns_of_a_weight_that_no_rule_scales():
    (line,) = said("dkd")
    assert line == "method: beta=8 was given for 100 classes, not for 10: choose on the validation split what suits these"


def test_a_part_is_told_by_its_place():
    assert [line.partition(":")[0] for line in said("combine", "method/first=crd", "method/second=dkd")] == [
        "method.first", "method.second"]


@pytest.mark.parametrize("key", GIVEN)
def test_the_card_says_what_weights_were_given_for(key):
    settings, card = registry.load("method", key), registry.method_card(key)
    assert f"given for {settings['reference']} " in card.given_for
    assert ("choose on the validation split" in card.given_for) == (settings["scaling"] == "none")
    assert registry.method_card("kd").given_for == ""
