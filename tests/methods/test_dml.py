"""Deep mutual learning: its numbers, and who moves whom."""

import pytest
import torch

from kdrun.config.validation import problems
from kdrun.methods.losses.response import dml
from kdrun.training.loop import distill
from tests.toy import rows_of, state, toy_experiment, toy_run, toy_settings

ONE, TWO = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)


def test_mimicry_of_two():
    assert float(dml([TWO], ONE, 1.0, "each")) == pytest.approx(0.120115, abs=1e-6)
    assert float(dml([ONE], TWO, 1.0, "each")) == pytest.approx(0.110944, abs=1e-6)
    assert float(dml([ONE.clone()], ONE, 1.0, "each")) == pytest.approx(0, abs=1e-12)


def test_mimicry_of_three():
    three = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    apart = [float(dml([other], ONE, 1.0, "each")) for other in (TWO, three)]
    assert float(dml([TWO, three], ONE, 1.0, "each")) == pytest.approx(sum(apart) / 2, abs=1e-12)
    middle = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert float(dml([TWO, three], ONE, 1.0, "ensemble")) == pytest.approx(
        float(dml([middle], ONE, 1.0, "each")), abs=1e-12)


def test_no_gradient_reaches_the_other():
    own, other = ONE.clone().requires_grad_(), TWO.clone().requires_grad_()
    dml([other], own, 1.0, "each").backward()
    assert own.grad is not None
    assert other.grad is None


def test_each_update_moves_one_network_and_all_answers_are_of_one_moment():
    run = toy_run("dml", "online", "method.peers=2")
    next(iter(run.method.phases(run)))
    batch = next(run.stream.epoch(0, 1))
    together = [run.networks.student, *run.networks.peers]
    assert [role.name for role in together] == ["student", "peer 2", "peer 3"]
    before = [role(batch).logits.detach() for role in together]
    seen = []
    for player, _ in run.method.step(run.networks, batch):
        seen.append(player)
        mover = next(role for role in together if role.name == player)
        with torch.no_grad():
            for weight in mover.parameters():
                weight.add_(1.0)
        mover.moved()
    assert seen == ["student", "peer 2", "peer 3"]
    assert all(torch.equal(role(batch).logits, logits) for role, logits in zip(together, before, strict=True))


def test_peers_have_other_first_weights_and_all_learn():
    run = toy_run("dml", "online", "method.peers=2")
    next(iter(run.method.phases(run)))
    first = [next(role.parameters()).clone() for role in (run.networks.student, *run.networks.peers)]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
    distill(run)
    for role, start in zip((run.networks.student, *run.networks.peers), first, strict=True):
        assert not torch.equal(next(role.parameters()), start)


def test_without_mimicry_the_student_learns_alone():
    alone, together = toy_run("vanilla", "offline"), toy_run("dml", "online", "method.weight=0")
    distill(alone)
    distill(together)
    wanted, got = state(alone.networks.student), state(together.networks.student)
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)


def test_peers_by_name_get_rows_and_no_teacher_is_trained(tmp_path):
    rows = rows_of(toy_experiment("dml", tmp_path, "method.peers=[mlp,cnn]"))
    assert list(rows) == ["baseline", "student", "peer 2", "peer 3"]
    assert [rows[name]["model"] for name in rows] == ["cnn", "cnn", "mlp", "cnn"]
    assert rows["peer 2"]["improvement_pct"] is not None
    assert rows["peer 2"]["relative_error"] is None
    history = next(tmp_path.glob("runs/*/history.csv")).read_text()
    assert "peer 2,distill,1,validation,accuracy" in history
    assert next(tmp_path.glob("runs/*/peer_2.safetensors"))


@pytest.mark.parametrize(("word", "told"), [
    ("method.peers=0", "method.peers: got 0"),
    ("method.peers=[resnet21]", "did you mean 'resnet"),
    ("method.peers=[]", "the student needs at least one"),
    ("teachers=[cnn]", "learns without a teacher; leave teachers out"),
    ("teacher.checkpoint=pyproject.toml", "learns without a teacher; leave teacher.checkpoint out"),
])
def test_what_does_not_fit_is_told(word, told):
    assert any(told in line for line in problems(toy_settings("dml", word)))


def test_one_teacher_is_not_two():
    assert any("learns from one teacher" in line for line in problems(toy_settings("kd", "teachers=[cnn,mlp]")))
