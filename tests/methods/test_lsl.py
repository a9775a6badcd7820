"""LSL: the scores of layers, the choice, and the alignment."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.lsl import between_classes, between_layers, chosen, scores
from tests.toy import toy_experiment, toy_run


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_classes_that_look_alike_score_high():
    labels = torch.tensor([0, 0, 1, 1])
    apart, alike = torch.eye(2).repeat_interleave(2, 0).double(), torch.ones(4, 2).double()
    assert between_classes(apart, labels).item() == pytest.approx(0)
    assert between_classes(alike, labels).item() == pytest.approx(1)


def test_layers_that_see_the_same_score_one():
    features = draw(6, 3)
    assert between_layers([features, 5 * features, features.flip(1)]).tolist() == pytest.approx([1, 1, 1])
    other = between_layers([features, features, draw(6, 4, seed=1)])
    assert other[2] < other[0] == pytest.approx(float(other[1]))


def test_the_lowest_are_chosen_in_their_order():
    assert chosen(torch.tensor([0.4, 0.1, 0.3, 0.2]), 2) == [1, 3]
    assert chosen(torch.tensor([0.2, 0.2, 0.2]), 2) == [0, 1]
    labels, one = torch.tensor([0, 0, 1, 1]), torch.eye(2).repeat_interleave(2, 0).double()
    assert scores([one, torch.ones(4, 2).double()], labels)[0] < 1


def test_the_choice_is_the_same_every_time_and_equal_projections_are_no_distance_apart():
    run, again = (toy_run("lsl", "offline", "student.widths=[6,8,12]") for _ in range(2))
    for one in (run, again):
        next(iter(one.method.phases(one)))
    assert (run.method.of_teacher, run.method.of_student) == (again.method.of_teacher, again.method.of_student)
    assert torch.equal(run.method.target0, again.method.target0)
    run.networks.student.network.load_state_dict(run.networks.teacher.network.state_dict())
    run.networks.student.eval()
    run.method.of_student = run.method.of_teacher
    for number, layer in enumerate(run.method.of_teacher):
        run.method.project[number] = torch.nn.Linear(1, 1, bias=False)
        run.method.project[number].weight.data = run.method.get_buffer(f"target{number}")
        assert layer in range(4)
    batch = next(run.stream.epoch(0, 1))
    assert run.method.loss(run.networks, batch)["lsl"].item() == pytest.approx(0, abs=1e-4)


def test_too_few_layers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"method.count is 4, but the student has 3 layers"):
        toy_experiment("lsl", tmp_path, "method.count=4", "student.widths=[4,6]")
