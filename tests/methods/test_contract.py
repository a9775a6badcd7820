"""What every method keeps to, whatever its family: one test over every conf/method/*.yaml."""

import copy

import pytest
import torch

from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.training.loop import distill
from tests.toy import rows_of, toy_experiment, toy_run

METHODS = list(registry.options("method"))


def schemes_of(key: str) -> list[str]:
    return list(registry.method_card(key).schemes)


PAIRS = [(key, scheme) for key in METHODS for scheme in schemes_of(key)]


@pytest.mark.parametrize("key", METHODS)
def test_says_what_it_is(key):
    card = registry.method_card(key)
    assert card.summary.endswith((".", ")", ")."))
    assert card.knowledge in ("none", "response", "feature", "relation")
    assert card.source
    assert set(card.schemes) <= {"offline", "online", "self"}
    assert card.teachers in ("none", "one", "many")
    assert card.teachers != "none" or "offline" not in card.schemes  # there is nobody to train first


@pytest.mark.parametrize(("key", "scheme"), PAIRS)
def test_moves_its_players_and_nobody_else(key, scheme):
    run = toy_run(key, scheme)
    teachers = [(teacher, copy.deepcopy(teacher.state_dict())) for teacher in run.networks.teachers]
    first = copy.deepcopy(run.networks.student.state_dict())
    distill(run)
    for teacher, before in teachers:
        same = all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        # offline a teacher is frozen; online it learns; its own past is renewed by the scheme, where that teaches
        still = scheme == "offline" or (scheme == "self" and not run.method.past_teaches)
        assert same == still, "the teacher moved" if not same else "the teacher did not learn"
    last = run.networks.student.state_dict()
    assert any(not torch.equal(first[name], last[name]) for name in first)
    terms = [row for row in run.history if row[3] == "train"]
    assert terms
    assert all(torch.isfinite(torch.tensor(row[5])) for row in terms)


@pytest.mark.parametrize(("key", "scheme"), PAIRS)
def test_same_seed_same_bytes(key, scheme):
    ends = []
    for _ in range(2):
        torch.rand(3)  # what others drew before must not matter
        run = toy_run(key, scheme)
        distill(run)
        ends.append((run.networks.student.state_dict(), run.history))
    (one, told), (other, retold) = ends
    assert told == retold
    assert all(torch.equal(one[name], other[name]) for name in one)


class Killed(BaseException):
    """As abrupt as a signal."""


@pytest.mark.parametrize("key", METHODS)
def test_killed_and_resumed_ends_in_the_same_bytes(key, tmp_path, monkeypatch):
    scheme = schemes_of(key)[0]
    whole, steps = toy_run(key, scheme), []
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", lambda _: steps.append(1))
    distill(whole)
    wanted, count = whole.networks.student.state_dict(), len(steps)
    for share in (0.0, 0.4, 0.7, 1.0):
        last, folder = 1 + round(share * (count - 1)), tmp_path / str(share)

        def die(_, last=last):
            steps.append(1)
            if len(steps) == last:
                raise Killed

        steps.clear()
        monkeypatch.setattr("kdrun.utils.progress.Silent.step", die)
        with pytest.raises(Killed):
            distill(toy_run(key, scheme, folder=folder))
        monkeypatch.undo()
        resumed = toy_run(key, scheme, folder=folder)
        distill(resumed)
        got = resumed.networks.student.state_dict()
        assert all(torch.equal(wanted[name], got[name]) for name in wanted), f"killed in step {last} of {count}"
        assert resumed.history == whole.history, f"killed in step {last} of {count}"


@pytest.mark.parametrize("key", METHODS)
def test_runs_end_to_end_from_its_config(key, tmp_path):
    rows = rows_of(toy_experiment(key, tmp_path))
    assert rows["student"]["method"] == key
    assert rows["baseline"]["accuracy"] is not None
    assert 0 <= rows["student"]["accuracy"] <= 1
    assert (rows["student"]["relative_error"] is None) == ("teacher" not in rows)


@pytest.mark.parametrize("key", METHODS)
@pytest.mark.parametrize("scheme", ["offline", "online", "self"])
def test_a_scheme_it_does_not_know_is_refused(key, scheme, tmp_path):
    if scheme in schemes_of(key):
        pytest.skip(f"{key} runs under {scheme}")
    with pytest.raises(ConfigError, match=f"does not run under scheme={scheme}"):
        toy_experiment(key, tmp_path, scheme=scheme)
