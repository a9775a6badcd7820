"""Leap: the gradient of a path, and what becomes of first weights and of the head."""

import torch
from torch import nn

from kdrun.data.small_tasks import SmallTasks
from kdrun.methods.lifelong.leap import flat
from tests.conftest import tiny_data
from tests.toy import state, toy_run


def begun(name):
    """The run at the phase of this name, with the phase."""
    run = toy_run("leap", "self", "method.meta_lr=0.5", "method.reptile_lr=0.5")
    return run, next(phase for phase in run.method.phases(run) if phase.name == name)


def test_first_weights_move_by_the_mean_gradient_of_their_tasks_and_by_nothing_else():
    for name in ("leap", "reptile"):
        run, phase = begun(name)
        (learner,) = phase.train
        tasks = list(phase.data.epoch(0, 1))[:2]
        before = state(learner)
        wanted = sum(run.method.walked(learner, batch) for batch in tasks) / 2
        assert all(map(torch.equal, before.values(), learner.state_dict().values()))  # tasks train copies
        assert list(run.method.step(run.networks, tasks[0])) == []
        ((player, terms),) = run.method.step(run.networks, tasks[1])
        optimizer = run.method.optimizer(player, list(learner.parameters()), run.recipe)
        terms["path"].backward()
        first = flat(learner.parameters()).detach().clone()
        optimizer.step()
        torch.testing.assert_close(flat(learner.parameters()).detach(), first - 0.5 * wanted)
        assert float(run.method.gathered.abs().max()) == 0.0


def test_reptile_goes_to_where_a_training_ends():
    run, phase = begun("reptile")
    (learner,) = phase.train
    batch = next(phase.data.epoch(0, 1))
    moved = run.method.walked(learner, batch)
    copied = learner.network.train()
    optimizer, first = torch.optim.SGD(copied.parameters(), lr=run.method.lr), flat(copied.parameters()).detach().clone()
    for pictures, labels in zip(batch.pictures.chunk(2), batch.labels.chunk(2), strict=True):
        optimizer.zero_grad()
        nn.functional.cross_entropy(copied(pictures).logits[:, :3], labels).backward()
        optimizer.step()
    torch.testing.assert_close(moved, first - flat(copied.parameters()).detach())


def test_the_student_learns_all_classes_with_the_head_that_it_was_built_with():
    run, _ = begun("distill")
    built = run.factory.student().network.state_dict()
    assert torch.equal(built["head.weight"], run.networks.student.network.head.weight)


def test_small_tasks_number_their_classes_anew_and_can_be_made_again():
    stream = tiny_data().stream(batch_size=8, seed=1, device=torch.device("cpu"))
    tasks = SmallTasks(stream, range(1, 4), ways=2, steps=2, size=6, count=3)
    batches = list(tasks.epoch(0, 1))
    orders = [tasks.task(0, number).classes.tolist() for number in range(3)]
    for batch, classes in zip(batches, orders, strict=True):
        assert [classes[label] for label in batch.labels] == stream.labels[batch.rows].tolist()
        assert all(len(part.unique()) == 6 for part in batch.rows.split(6))
    assert len({tuple(classes) for classes in orders}) > 1
    assert 0 not in {label for classes in orders for label in classes}
    (again,) = tasks.epoch(0, 1, first=2)
    assert torch.equal(again.rows, batches[2].rows)
