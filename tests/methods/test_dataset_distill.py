"""Dataset and label distillation: who learns, what is written, and what labels stay."""

import json

import pytest
import torch
from safetensors import safe_open

from kdrun.data.balanced import Balanced
from kdrun.methods.dataset.label_distill import Patience, probabilities
from kdrun.training.loop import distill
from tests.conftest import tiny_data
from tests.toy import prepared, toy_experiment, toy_run


@pytest.mark.parametrize("mode", ["dm", "gm", "unroll"])
def test_pictures_come_near_what_they_are_to_be_like(mode):
    rates = {"dm": 1.0, "gm": 0.1, "unroll": 0.05}
    run = toy_run("dataset_distill", "self", f"method.mode={mode}", f"method.lr={rates[mode]}", "method.iterations=12",
                  "method.per_class=1", "method.init=noise", "method.updates=2", "method.network_updates=1")
    phases = run.method.phases(run)
    run.method.phases = lambda _: iter([next(phases)])  # the pictures alone
    untouched = [weight.clone() for weight in run.networks.student.parameters()]
    distances = []
    inner = run.method.step

    def step(networks, batch):
        for player, terms in inner(networks, batch):
            assert player == "pictures"
            distances.append(float(terms[mode].detach()))
            yield player, terms
    run.method.step = step
    distill(run)
    assert len(distances) == (24 if mode == "gm" else 12)
    assert sum(distances[-6:]) < sum(distances[:6])
    assert all(map(torch.equal, untouched, run.networks.student.parameters()))
    if mode == "unroll":
        assert bool((run.method.pictures.rates > 0).all())


def test_what_was_made_is_written_beside_the_results_and_is_of_the_training_split_alone(tmp_path):
    toy_experiment("label_distill", tmp_path)
    (file,) = tmp_path.glob("runs/*/made.safetensors")
    with safe_open(file, "pt") as held:
        about = json.loads(held.metadata()["about"])
        tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118  it is no mapping
    assert set(about) == {"inputs", "labels", "targets", "classes"}
    assert tensors["inputs"].shape == (10, 8, 8, 1)
    assert tensors["labels"].tolist() == list(range(10))
    torch.testing.assert_close(tensors["targets"].sum(dim=1), torch.ones(10))
    assert float((tensors["targets"] - 0.1).abs().max()) > 0  # it began with all classes alike
    train = prepared(("label_distill", "scheme=self")).data.train.inputs.flatten(1).tolist()
    assert all(picture in train for picture in tensors["inputs"].flatten(1).tolist())
    assert json.loads((file.parent / "run.json").read_text())["files"].keys() >= {"made.safetensors", "sets.csv"}


def test_second_order_labels_learn_too():
    run = toy_run("label_distill", "self", "method.mode=or2")
    phases = run.method.phases(run)
    run.method.phases = lambda _: iter([next(phases)])
    distill(run)
    labels = run.method.labels.table.detach()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(10))
    assert float((labels - 0.1).abs().max()) > 1e-4


def test_the_step_of_the_labels_leaves_the_network_and_its_own_leaves_the_labels():
    run = toy_run("label_distill", "self")
    phase = next(run.method.phases(run))
    assert phase.name == "labels"
    batch = next(run.stream.epoch(0, 1))
    moved = []
    for player, terms in run.method.step(run.networks, batch):
        weights = {"labels": list(run.method.labels.parameters()), "learner": list(run.method.learner.parameters())}
        gradients = torch.autograd.grad(sum(terms.values()), weights[player], allow_unused=True, retain_graph=True)
        moved.append((player, any(one is not None and bool(one.any()) for one in gradients)))
        if player == "learner":  # whose loss does not depend on the labels
            with pytest.raises(RuntimeError, match="to not have been used"):
                torch.autograd.grad(sum(terms.values()), weights["labels"])
    assert moved == [("labels", True), ("learner", True)]


def test_labels_stay_probabilities():
    torch.testing.assert_close(probabilities(torch.tensor([[0.5, -0.2, 1.5]])), torch.tensor([[1 / 3, 0.0, 2 / 3]]))


def test_a_network_begins_anew_when_its_error_has_not_fallen_for_as_many_steps_as_it_is_averaged_over():
    patient = Patience(2)
    told = [patient.over(error) for error in (1.0, 0.5, 0.5, 0.5, 0.5, 0.5)]  # sums 1.5, 1.0, then two that are no lower
    assert told == [False, False, False, False, False, True]
    assert int(patient.done) == 0


def test_balanced_batches_have_as_many_of_every_class_and_can_be_made_again():
    data = tiny_data()
    stream = data.stream(batch_size=8, seed=1, device=torch.device("cpu"))
    balanced = Balanced(stream, 4, 3, steps=2, draws=2)
    first, second = balanced.epoch(0, 1)
    assert first.labels.tolist() == second.labels.tolist() == 2 * [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(first.rows[:12].unique()) == 12
    (again,) = balanced.epoch(0, 1, first=1)
    assert torch.equal(again.rows, second.rows)
    assert not torch.equal(first.rows, second.rows)


def test_too_many_pictures_are_refused():
    with pytest.raises(ValueError, match=r"method.per_class is 40, .* give at most so many"):
        toy_run("dataset_distill", "self", "method.per_class=40")
