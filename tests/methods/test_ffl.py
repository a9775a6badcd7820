"""Feature fusion: its fused classifier, whom its labels move, and its own weight decay."""

import pytest
import torch

import kdrun
from kdrun.methods.online.ffl import Fusion
from kdrun.training.players import own_parameters
from tests.toy import prepared, rows_of, toy_experiment, toy_run


def ready(*words):
    run = toy_run("ffl", "online", "method.ramp_share=0", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def is_loaded_as_it_was_measured(folder, row):
    """Whether a network of several that a run left says again what its row says."""
    loaded = kdrun.load(next(folder.glob(f"runs/*/{row['role']}.safetensors")))
    test = prepared(("ffl",)).data.test
    said = loaded.network(loaded.preprocess(test.inputs)).logits.argmax(dim=1)
    return float((said == test.labels).double().mean()) == pytest.approx(row["accuracy"])


def gradients(term, module):
    found = torch.autograd.grad(term, own_parameters([module]), retain_graph=True, allow_unused=True)
    return any(one is not None and bool(one.any()) for one in found)


def test_a_fusion_is_depthwise_then_mixed_then_classified():
    fusion = Fusion(networks=2, channels=3, classes=5)
    assert fusion.each[0].weight.shape == (6, 1, 3, 3)
    assert fusion.mixed[0].weight.shape == (3, 6, 1, 1)
    assert fusion([torch.zeros(4, 3, 2, 2)] * 2).shape == (4, 5)


def test_networks_that_agree_have_nothing_to_learn_from_each_other():
    run, batch = ready()
    for role in (run.networks.student, *run.method.branches):
        torch.nn.init.zeros_(role.network.head.weight)
        torch.nn.init.zeros_(role.network.head.bias)
    torch.nn.init.zeros_(run.method.fusion.head.weight)
    torch.nn.init.zeros_(run.method.fusion.head.bias)
    terms = run.method.loss(run.networks, batch)
    assert terms["kd"].item() == pytest.approx(0, abs=1e-6)
    assert terms["mean"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("detached", [False, True])
def test_what_the_fused_classifier_moves(detached):
    run, batch = ready(f"method.detach_features={str(detached).lower()}")
    terms = run.method.loss(run.networks, batch)
    for role in (run.networks.student, run.method.branches[0]):
        assert gradients(terms["fusion"] + terms["mean"], role.network.stages[2]) != detached
        assert gradients(terms["kd"], role.network.head)
    assert not gradients(terms["kd"], run.method.fusion)  # as a teacher it is a constant
    assert not gradients(terms["mean"], run.networks.student.network.head)  # and so is the mean as its own
    assert gradients(terms["mean"], run.method.fusion)


def test_the_fusion_decays_by_a_number_of_its_own():
    run, _ = ready()
    weights = own_parameters(run.method.players(run.networks)["student"])
    *others, own = run.method.optimizer("student", weights, run.recipe).param_groups
    assert own["weight_decay"] == 1e-5
    assert {id(weight) for weight in own["params"]} == {id(weight) for weight in run.method.fusion.parameters()}
    assert sum(len(group["params"]) for group in (*others, own)) == len(weights)
    assert {group["weight_decay"] for group in others} == {run.recipe.weight_decay}


@pytest.mark.parametrize(("shared", "beside"), [("2", "branch 2"), ("null", "peer 2")])
def test_networks_and_fusion_get_rows(shared, beside, tmp_path):
    rows = rows_of(toy_experiment("ffl", tmp_path, f"method.shared_stages={shared}"))
    assert list(rows) == ["baseline", "student", beside, "fusion"]
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"] == rows[beside]["parameters"]
    assert rows["fusion"]["parameters"] > rows["student"]["parameters"]
    assert is_loaded_as_it_was_measured(tmp_path, rows["fusion"])
