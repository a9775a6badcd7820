"""Checkpoints that are damaged are noticed, told of, and cost no more than what came since the one before."""

import random

import pytest
import torch

from kdrun.training import checkpoint
from kdrun.training.loop import distill
from tests.toy import toy_run

CPU = torch.device("cpu")


@pytest.fixture
def notes():
    return []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "phase-00.pt"
    for number in (1, 2):
        checkpoint.write(path, {"weight": torch.full((3, 4), float(number)), "step": number, "name": "x"})
    return path


def test_what_was_written_is_read(file, notes):
    state = checkpoint.read(file, CPU, notes.append)
    assert (state["step"], state["name"], float(state["weight"].sum())) == (2, "x", 24.0)
    assert notes == []
    assert torch.load(file, weights_only=True)["step"] == 2  # by torch alone too


def test_there_may_be_none(tmp_path, notes):
    assert checkpoint.read(tmp_path / "phase-00.pt", CPU, notes.append) is None
    assert notes == []


def test_one_that_was_never_finished_is_no_damage(file, notes):
    file.unlink()  # killed between moving the old one away and naming the new one
    assert checkpoint.read(file, CPU, notes.append)["step"] == 1
    assert notes == []


def cut(content, draws):
    return content[:draws.randrange(len(content))]


def flipped(content, draws):
    changed = bytearray(content)
    changed[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    return bytes(changed)


DAMAGES = {"cut": cut, "flipped": flipped, "zeros": lambda content, _: bytes(len(content)),
           "longer": lambda content, _: content + b"x", "other": lambda *_: b"hello"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_and_the_one_before_is_taken(file, notes, damage):
    whole, draws = file.read_bytes(), random.Random(0)
    for _ in range(30):
        file.write_bytes(DAMAGES[damage](whole, draws))
        notes.clear()
        assert checkpoint.read(file, CPU, notes.append)["step"] == 1
        (note,) = notes
        assert "phase-00.pt is damaged" in note
        assert "going on from the one before" in note
        assert "\n" not in note


def test_with_both_damaged_the_phase_starts_anew(file, notes):
    for path in (file, checkpoint.previous(file)):
        path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.read(file, CPU, notes.append) is None
    assert len(notes) == 2
    assert "its phase starts anew" in notes[1]


class Trap:
    def __reduce__(self):
        return print, ("this code was run",)


def test_nothing_in_it_is_run(tmp_path, notes, capsys):
    """Not even when its digest is right: the digest is against accidents, not against people."""
    path = tmp_path / "phase-00.pt"
    checkpoint.write(path, {"trap": Trap()})
    assert checkpoint.read(path, CPU, notes.append) is None
    assert capsys.readouterr().out == ""
    assert "damaged" in notes[0]


@pytest.mark.parametrize("method", ["fitnets", "dafl"])
@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_changes_nothing_of_the_end(method, both, tmp_path):
    whole = toy_run(method, "offline")
    distill(whole)
    distill(toy_run(method, "offline", folder=tmp_path))
    last = max(path for path in tmp_path.glob("phase-??.pt"))
    for path in (last, checkpoint.previous(last))[:1 + both]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    again = toy_run(method, "offline", folder=tmp_path)
    distill(again)
    assert again.history == whole.history
    wanted = whole.networks.student.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in again.networks.student.state_dict().items())


def test_one_of_another_network_is_a_line(tmp_path):
    distill(toy_run("vanilla", "offline", folder=tmp_path))
    with pytest.raises(ValueError, match=r"phase-00\.pt does not fit the run.*remove its folder") as told:
        distill(toy_run("vanilla", "offline", "student.widths=[4,6,10]", folder=tmp_path))
    assert "\n" not in str(told.value)


def test_seconds_are_those_of_all_sessions(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("kdrun.training.loop.time.perf_counter", lambda: clock[0])

    def pass_time(_):
        clock[0] += 10

    monkeypatch.setattr("kdrun.utils.progress.Silent.step", pass_time)
    first = toy_run("vanilla", "offline", folder=tmp_path)
    distill(first)
    assert first.seconds == 60  # 2 epochs of 3 steps
    clock[0] = 5.0  # another session, in which nothing is left to do
    again = toy_run("vanilla", "offline", folder=tmp_path)
    distill(again)
    assert again.seconds == 60


def test_other_threads_are_told(tmp_path, monkeypatch):
    distill(toy_run("fitnets", "offline", folder=tmp_path))
    told = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    again = toy_run("fitnets", "offline", folder=tmp_path)
    again.threads = 7
    monkeypatch.setattr(again.screen, "note", told.append)
    distill(again)
    assert told == ["toy, phase 'hint', epoch 1 of 1: it was begun by 1 thread, and 7 go on; the last bits may differ from a "
                    "run in one go"]


def test_the_last_phase_keeps_the_one_before_and_earlier_phases_do_not(tmp_path):
    distill(toy_run("fitnets", "offline", folder=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phase-00.pt", "phase-01.previous.pt", "phase-01.pt"]
