"""KegNet: its diversity in closed form, and who moves when."""

import math

import pytest
import torch
from torch import tensor

from kdrun.methods.losses.synthetic import diversity
from kdrun.training.loop import distill
from tests.toy import state, toy_run


def test_diversity_of_known_pairs():
    noise, pictures = tensor([[0.0, 0.0], [2.0, 0.0]]), tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    assert diversity(noise, pictures).item() == pytest.approx(math.exp(-1))
    assert diversity(noise, torch.ones(2, 3)).item() == 1


def test_generators_learn_one_after_the_other_and_rest_while_the_student_learns():
    run = toy_run("kegnet", "offline")
    inner, moved = run.method.phases, []

    def watched(run):
        for phase in inner(run):
            parts = {"student": run.networks.student, "first": run.method.generators[0], "second": run.method.generators[1],
                     "decoder": run.method.decoders[1]}
            before = {name: state(part) for name, part in parts.items()}
            yield phase
            moved.append({name for name, part in parts.items()
                          if any(not torch.equal(value, before[name][key]) for key, value in part.state_dict().items())})

    run.method.phases = watched
    distill(run)
    assert moved == [{"first"}, {"second", "decoder"}, {"student"}]
