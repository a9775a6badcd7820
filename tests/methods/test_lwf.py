"""Learning without forgetting: its numbers, whom it asks, what it freezes and what it reports."""

import copy

import pandas
import pytest
import torch
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.methods.lifelong.lwf import above, remembered
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, toy_experiment, toy_run

F64 = torch.float64
HEAD = slice(0, 2)


def test_the_example_and_its_gradient():
    student = tensor([[1, 0]], dtype=F64, requires_grad=True)
    loss = remembered(tensor([[0, 1]], dtype=F64), student, [HEAD], 2.0)
    assert float(loss.detach()) == pytest.approx(0.785307, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[0].tolist() == pytest.approx([0.122459, -0.122459], abs=1e-6)


def test_each_old_task_has_a_term_and_new_classes_none():
    torch.manual_seed(0)
    past, student = torch.randn(3, 6, dtype=F64), torch.randn(3, 6, dtype=F64, requires_grad=True)
    both = remembered(past, student, [HEAD, slice(2, 4)], 2.0)
    one, other = remembered(past, student, [HEAD], 2.0), remembered(past, student, [slice(2, 4)], 2.0)
    assert float(both.detach()) == pytest.approx(float((one + other).detach()), abs=1e-9)
    joined = remembered(past, student, [slice(0, 4)], 2.0)
    assert float(joined.detach()) != pytest.approx(float(both.detach()), abs=1e-3)
    (gradient,) = torch.autograd.grad(both, student)
    assert bool((gradient[:, 4:] == 0).all())


def started(*words):
    """A run before its first phase, with the phases to come."""
    run = toy_run("lwf", "self", *words)
    return run, run.method.phases(run)


def trained(run, phases, steps=2):
    """The next phase; the student takes plain steps so that it is no longer what it was."""
    phase = next(phases)
    with torch.no_grad():
        for weight in run.networks.student.parameters():
            weight.add_(0.01 * steps)
    return phase


def test_the_first_task_is_the_labels_alone():
    run, phases = started()
    phase = next(phases)
    (batch, *_) = phase.data.epoch(0, 1)
    updates = list(run.method.step(run.networks, batch))
    assert [player for player, _ in updates] == ["student"]
    logits = run.networks.student(batch).logits[:, :5]
    wanted = torch.nn.functional.cross_entropy(logits, batch.y)
    assert updates[0][1]["ce"].item() == pytest.approx(wanted.item())
    assert list(updates[0][1]) == ["ce"]


def test_the_past_is_what_the_student_was():
    run, phases = started()
    trained(run, phases)
    before = copy.deepcopy(run.networks.student.network.state_dict())
    trained(run, phases)
    past = run.networks.teacher.network.state_dict()
    assert all(torch.equal(before[name], past[name]) for name in before)
    assert any(not torch.equal(value, past[name]) for name, value in run.networks.student.network.state_dict().items())
    assert not run.networks.teacher.training


def test_new_labels_move_the_new_head_and_the_past_moves_the_old_one():
    run, phases = started("method.finetune=false")
    trained(run, phases)
    phase = trained(run, phases)
    (batch, *_) = phase.data.epoch(0, 1)
    assert int(batch.y.min()) >= 5
    ((_, terms),) = run.method.step(run.networks, batch)
    for name, still in (("ce", slice(0, 5)), ("lwf", slice(5, 10))):
        (gradient,) = torch.autograd.grad(terms[name], [run.networks.student.network.head.weight], retain_graph=True)
        moved = gradient.abs().sum(dim=1) > 0
        assert not bool(moved[still].any()), name
        assert bool(moved.any()), name


def test_one_head_of_all_classes_so_far_pushes_old_ones_down():
    run, phases = started("method.heads=class")
    trained(run, phases)
    phase = trained(run, phases)
    (batch, *_) = phase.data.epoch(0, 1)
    loss = run.method.fresh(run.networks.student(batch), batch)
    (gradient,) = torch.autograd.grad(loss, [run.networks.student.network.head.bias])
    assert bool((gradient[:5] > 0).all())


def test_the_reference_is_the_student_up_to_the_second_task_and_knows_no_past():
    run, phases = started()
    trained(run, phases)
    state = copy.deepcopy(run.networks.student.network.state_dict())
    phase = next(phases)
    (reference,) = run.networks.peers
    assert all(torch.equal(state[name], value) for name, value in reference.network.state_dict().items())
    (batch, *_) = phase.data.epoch(0, 1)
    updates = dict(run.method.step(run.networks, batch))
    assert set(updates) == {"student", "finetune"}
    assert set(updates["finetune"]) == {"ce"}
    assert updates["finetune"]["ce"].item() == pytest.approx(updates["student"]["ce"].item())


def test_weight_nought_is_the_reference():
    run = toy_run("lwf", "self", "method.weight=0")
    distill(run)
    student, (reference,) = run.networks.student.state_dict(), run.networks.peers
    assert all(torch.equal(value, student[name]) for name, value in reference.state_dict().items())


def test_the_reference_changes_nothing_for_the_student():
    ends = []
    for finetune in ("true", "false"):
        run = toy_run("lwf", "self", f"method.finetune={finetune}")
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_warm_up_moves_the_new_head_and_nothing_else():
    run, phases = started("method.warmup_epochs=1")
    trained(run, phases)
    head = next(phases)
    assert head.name == "task 2 head"
    assert head.train == above(run.networks.student) == [run.networks.student.network.head]
    optimizer = run.method.optimizer("student", list(run.networks.student.network.head.parameters()), run.recipe)
    before = copy.deepcopy(run.networks.student.network.head.state_dict())
    (batch, *_) = head.data.epoch(0, 1)
    head.loss(run.networks, batch)["ce"].backward()
    optimizer.step()
    after = run.networks.student.network.head.state_dict()
    for name in ("weight", "bias"):
        assert torch.equal(before[name][:5], after[name][:5])
        assert not torch.equal(before[name][5:], after[name][5:])
    next(phases)
    assert run.method.optimizer("student", [torch.nn.Parameter(torch.ones(1))], run.recipe).defaults["weight_decay"] > 0


def test_fixed_normalisation_stays():
    run = toy_run("lwf", "self", "method.fix_bn=true")
    seen = []
    examine = type(run.method).examine

    def watch(run):
        seen.append({name: value.clone() for name, value in run.networks.student.network.state_dict().items()})
        examine(run.method, run)

    run.method.examine = watch
    distill(run)
    first, last = seen
    normal = {name for name in first if "running" in name}
    assert normal
    assert all(torch.equal(first[name], last[name]) for name in normal)
    assert not torch.equal(first["head.weight"], last["head.weight"])


def test_reports_have_the_student_and_both_references(tmp_path):
    rows = rows_of(toy_experiment("lwf", tmp_path, "method.split=[4,4,2]"))
    assert set(rows) == {"baseline", "student", "finetune"}
    (folder,) = tmp_path.glob("runs/*")
    matrix, summary = pandas.read_csv(folder / "tasks.csv"), pandas.read_csv(folder / "lifelong.csv")
    assert set(summary["learner"]) == {"student", "finetune", "joint"}
    told = matrix[matrix["task_told"] & (matrix["learner"] == "student")]
    assert sorted(zip(told["after"], told["on"], strict=True)) == [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]
    both = matrix[matrix["learner"].isin(["student", "finetune"]) & (matrix["after"] == 1)]
    assert both.groupby("task_told")["accuracy"].nunique().tolist() == [1, 1]  # one network up to there
    for role, learner in (("student", "student"), ("finetune", "finetune"), ("baseline", "joint")):
        # untold, the tasks' accuracies weighted by their samples are the accuracy of the results table
        own = matrix[~matrix["task_told"] & (matrix["learner"] == learner) & (matrix["after"] == 3)].set_index("on")["accuracy"]
        counts = pandas.read_csv(folder / "per_class.csv").query("role == @role")["samples"].tolist()
        sizes = [sum(counts[:4]), sum(counts[4:8]), sum(counts[8:])]
        mean = sum(own[on] * size for on, size in enumerate(sizes, 1)) / sum(sizes)
        assert mean == pytest.approx(rows[role]["accuracy"], abs=1e-6)
    assert summary.set_index(["learner", "task_told"])["forgetting"].isna().tolist() == [False, False, True] * 2


@pytest.mark.parametrize("wanted", ["1", "11", "[5,4]"])
def test_what_is_no_split_is_refused(wanted):
    with pytest.raises(ConfigError, match="there are 10 classes"):
        prepared(("lwf", f"method.split={wanted}"))
