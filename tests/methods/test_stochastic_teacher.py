"""A teacher of many sub-networks: what is drawn, and when."""

import pytest
import torch

from kdrun.models.roles import frozen
from kdrun.training.loop import distill
from tests.toy import NEEDS, toy_run


def test_where_every_block_is_kept_it_is_the_base_method():
    ends = []
    for key, *more in (("stochastic_teacher",), ("kd", *NEEDS["stochastic_teacher"])):
        run = toy_run(key, "offline", "teacher.survival=1.0", *more)
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_another_sub_network_teaches_each_batch_and_a_hint_has_its_own():
    run, drawn = toy_run("stochastic_teacher", "offline", "method/base=fitnets", "recipe.epochs=1"), []
    draw = run.method.draw
    run.method.draw = lambda: (draw(), drawn.append([block.dropped for block in run.method.blocks]))
    distill(run)
    assert len(drawn) == 6  # three steps of each phase
    assert len({tuple(row) for row in drawn}) > 1
    assert {len(row) for row in drawn} == {3}


def test_a_teacher_without_such_blocks_is_refused():
    run = toy_run("stochastic_teacher", "offline")
    run.networks.teachers = [frozen(toy_run("kd", "offline").networks.teacher)]
    with pytest.raises(ValueError, match="no blocks that can be left out; take one of stochastic depth"):
        distill(run)
