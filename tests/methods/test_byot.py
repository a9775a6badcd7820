"""Be your own teacher: its terms, its exits, and what they share."""

import pytest
import torch

from kdrun.config.schema import ConfigError
from kdrun.evaluation import metrics
from kdrun.methods.branches import bottleneck
from kdrun.methods.losses import kl
from kdrun.methods.self_taught.byot import apart
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, state, toy_experiment, toy_run


def ready(*words):
    run = toy_run("byot", "self", *words)
    next(iter(run.method.phases(run)))
    return run, next(run.stream.epoch(0, 1))


def test_distance_is_a_mean_over_samples_whose_target_is_constant():
    deepest = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    shallow = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    far = apart(deepest, shallow)
    assert far.item() == pytest.approx(2.5, abs=1e-6)
    far.backward()
    assert deepest.grad is None
    assert bool(torch.isfinite(shallow.grad).all())


def test_an_exit_like_the_end_has_nothing_to_learn_from_it():
    end = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert kl(end, end.clone(), 3.0).item() == pytest.approx(0, abs=1e-12)
    assert apart(end, end.clone()).item() == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize(("before", "after"), [((4, 8, 8), (16, 2, 2)), ((4, 7, 7), (16, 7, 7)), ((6, 1, 1), (3, 1, 1))])
def test_bottleneck_reaches_the_last_map(before, after):
    layers = bottleneck(torch.Size(before), torch.Size(after)).eval()
    assert layers(torch.zeros(1, *before)).shape == (1, *after)


def test_terms_by_hand():
    run, batch = ready("method.kd_weight=0.25", "method.squared=true")
    terms = run.method.loss(run.networks, batch)
    end = run.networks.student(batch)
    answers = [leave.onward(end.stages[place], place + 1) for place, leave in enumerate(run.method.exits)]
    hard = [torch.nn.functional.cross_entropy(answer.logits, batch.labels).item() for answer in answers]
    soft = [kl(end.logits, answer.logits, 3.0).item() for answer in answers]
    assert terms["exits"].item() == pytest.approx(0.75 * sum(hard), rel=1e-5)
    assert terms["kd"].item() == pytest.approx(0.25 * 9 * sum(soft), rel=1e-4)


def test_exits_teach_the_shared_stages_but_not_the_end():
    run, batch = ready()
    terms = run.method.loss(run.networks, batch)
    student = run.networks.student.network
    taught = terms["exits"] + terms["kd"] + terms["hint"]
    first = torch.autograd.grad(taught, list(student.stages[0].parameters()), retain_graph=True)
    assert any(bool(gradient.any()) for gradient in first)
    last = [*student.stages[2].parameters(), *student.head.parameters()]
    assert all(gradient is None for gradient in torch.autograd.grad(taught, last, allow_unused=True))


def test_exits_are_smaller_networks_and_all_learn():
    run, _ = ready()
    sizes = [metrics.size(leave).parameters for leave in run.method.exits]
    stages = run.networks.student.network.stages
    for number, leave in enumerate(run.method.exits, start=1):
        assert [own is theirs for own, theirs in zip(leave.network.stages, stages, strict=False)] == [True] * number + [False]
    assert sizes == sorted(sizes)
    before = state(run.method)
    distill(run)
    assert all(not torch.equal(value, before[name]) for name, value in run.method.state_dict().items()
               if value.is_floating_point())


def test_there_is_no_teacher_not_even_the_past():
    run, _ = ready()
    assert run.networks.teachers == []


def test_exits_get_rows(tmp_path):
    rows = rows_of(toy_experiment("byot", tmp_path))
    assert list(rows) == ["baseline", "student", "exit 1", "exit 2"]
    assert rows["student"]["parameters"] == rows["baseline"]["parameters"]
    assert rows["exit 1"]["flops"] < rows["exit 2"]["flops"]


def test_one_stage_is_too_few():
    with pytest.raises(ConfigError, match="one stage only"):
        prepared(("byot", "student.widths=[4]"))
