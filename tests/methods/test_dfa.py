"""DFA: the sums, what learns when in the search, and the new beginning after it."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.methods.feature.dfa import aggregate, distance
from kdrun.training.loop import distill
from tests.toy import state, toy_experiment, toy_run

BLOCKS = ("teacher=resnet14", "teacher.widths=[6,8,12]", "teacher.stem=4")


def test_the_last_block_alone_is_the_stages_own_map():
    run = toy_run("dfa", "offline", *BLOCKS)
    next(iter(run.method.phases(run)))
    assert [len(own) for own in run.method.architecture] == [2, 2, 2]
    run.method.architecture.requires_grad_(False)
    for own in run.method.architecture:
        own[-1] = 100.0
    batch = next(run.stream.epoch(0, 1))
    student, teacher = run.networks.student(batch), run.networks.teacher(batch)
    assert all(torch.allclose(run.method.sum(batch, number), maps) for number, maps in enumerate(teacher.stages))
    plain = sum((connect(given) - wanted).square().mean() for connect, given, wanted in
                zip(run.method.of_student, student.stages, teacher.stages, strict=True))
    assert run.method.loss(run.networks, batch)["dfa"].item() == pytest.approx(plain.item(), rel=1e-5)


def test_sums_by_weights_of_one():
    maps = [torch.full((1, 1, 2, 2), value) for value in (1.0, 5.0)]
    assert torch.equal(aggregate(maps, torch.tensor([0.75, 0.25])), torch.full((1, 1, 2, 2), 2.0))
    assert distance(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 2, 2), 3.0)).item() == 9


def test_the_search_moves_one_stages_weights_at_a_time_and_leaves_the_student_as_it_was():
    run = toy_run("dfa", "offline", *BLOCKS, "recipe.epochs=1", "method.search_lr=0.1")
    first, phases, seen = state(run.networks.student.network), run.method.phases, []

    def watched(run):
        for phase in phases(run):
            before = [own.detach().clone() for own in run.method.architecture]
            begins = all(torch.equal(first[name], value) for name, value in state(run.networks.student.network).items())
            yield phase
            moved = [not torch.equal(*pair) for pair in zip(before, run.method.architecture, strict=True)]
            learned = any(not torch.equal(first[name], value) for name, value in state(run.networks.student.network).items())
            seen.append((phase.name, begins, moved, learned))

    run.method.phases = watched
    distill(run)
    stage = [True, False, False]
    assert seen == [("search 1", True, stage, True), ("search 2", True, stage[-1:] + stage[:-1], True),
                    ("search 3", True, stage[-2:] + stage[:-2], True), ("distill", True, [False] * 3, True)]
    rows = run.method.extra_tables(run)["aggregation"]
    assert [sum(row["weight"] for row in rows if row["stage"] == stage) for stage in (1, 2, 3)] == pytest.approx([1, 1, 1])


def test_both_paths_reach_the_weights_of_blocks():
    run = toy_run("dfa", "offline", *BLOCKS)
    next(iter(run.method.phases(run)))
    terms = run.method.bridge(run.networks, next(run.stream.epoch(0, 1)), 1)
    for name in ("to teacher", "to student"):
        (slope,) = torch.autograd.grad(terms[name], run.method.architecture[1], retain_graph=True)
        assert slope.abs().sum() > 0, name


def test_a_teacher_whose_blocks_nobody_knows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kdrun.models.blocks.StagedNet", torch.nn.Linear)
    with pytest.raises(ConfigError, match="CNN does not tell the blocks of its stages apart"):
        toy_experiment("dfa", tmp_path)
