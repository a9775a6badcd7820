"""What the data-free methods share: the generator's normalisations, and by what the student is trained."""

import pytest
import torch
from torch import nn

from kdrun.training.loop import distill
from tests.toy import toy_run


@pytest.mark.parametrize(("key", "inner"), [("dafl", 0.8), ("dfad", 1e-5), ("zskt", 1e-5)])
def test_the_generators_inner_normalisations_are_those_of_the_releases(key, inner):
    run = toy_run(key, "offline")
    run.method.setup(run.networks, run.data)
    eps = [layer.eps for layer in run.method.generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert eps == [1e-5, inner, inner, 1e-5]


@pytest.mark.parametrize(("key", "more", "kind"), [
    ("dafl", (), torch.optim.Adam), ("zskt", (), torch.optim.Adam), ("zskd", ("method.student_lr=0.001",), torch.optim.Adam),
    ("dfad", (), torch.optim.SGD), ("dfad", ("method.student_lr=0.002",), torch.optim.Adam), ("deepinv", (), torch.optim.SGD),
    ("dafl", ("method.student_lr=null",), torch.optim.SGD), ("zskd", (), torch.optim.SGD),
])
def test_what_the_student_is_trained_by(key, more, kind):
    run = toy_run(key, "offline", "recipe.epochs=1", "recipe.schedule=constant", *more)
    run.rehearsal = True  # a step of each phase
    distill(run)
    optimizer = run.optimizers["distill"]["student"]
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    wanted = run.method.student_lr if kind is torch.optim.Adam else run.recipe.lr
    assert group["height"] == wanted  # of the schedule; a rehearsal moves nothing
    assert group["weight_decay"] == (0 if kind is torch.optim.Adam else run.recipe.weight_decay)
