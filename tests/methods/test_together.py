"""Several processes and one store: one trains, the others wait and say so, and the dead hold nothing."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from kdrun.models.output import ModelOutput
from kdrun.storage.network_store import Store, TrainedNetwork


def job(folder: Path, number: int, count: int, seconds: float) -> None:
    """Fetch the one teacher, whose training takes so long, and tell where it came from."""
    network, notes = nn.Linear(3, 2), []

    def train(_):
        (folder / f"trained-{number}").touch()
        torch.manual_seed(number)  # who trains decides the weights: the others must have the same ones
        nn.init.normal_(network.weight)
        while len(list(folder.glob("came-*"))) < count:  # however busy the machine is
            time.sleep(0.05)
        time.sleep(seconds)
        return TrainedNetwork("teacher", "tiny", network, ModelOutput(torch.eye(4), torch.eye(4)), 5, 1.5)

    (folder / f"came-{number}").touch()
    made = Store(folder / "store", notes.append).fetch("teacher", {"seed": 1}, network, train)
    told = {"number": number, "origin": made.origin, "notes": notes, "weight": made.network.weight.tolist()}
    (folder / f"told-{number}.json").write_text(json.dumps(told))


def together(folder: Path, count: int, seconds: float) -> list[int]:
    """Start so many jobs, each in a process of its own: their ids."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                job(folder, number, count, seconds)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return children


def told(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("told-*.json"))]


def test_ten_that_need_the_same_teacher_train_it_once(tmp_path):
    assert [os.waitpid(child, 0)[1] for child in together(tmp_path, 10, 1.0)] == [0] * 10
    jobs = told(tmp_path)
    assert len(jobs) == 10
    assert len(list(tmp_path.glob("trained-*"))) == 1
    (first,) = [job for job in jobs if job["origin"] == "trained"]
    others = [job for job in jobs if job["origin"] == "store"]
    assert len(others) == 9
    assert first["notes"] == []
    assert all(job["notes"] == ["teacher: another job is training it, waiting"] for job in others)
    assert all(job["weight"] == first["weight"] for job in others)


@pytest.mark.slow
def test_what_a_dead_process_held_is_taken_over(tmp_path):
    """The one that trains is killed in the middle; one of those that wait trains, and the rest read what that one made."""
    children = together(tmp_path, 4, 2.0)
    deadline = time.monotonic() + 60
    while not (trained := list(tmp_path.glob("trained-*"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    holder = int(trained[0].name.removeprefix("trained-"))
    os.kill(children[holder], signal.SIGKILL)
    ends = [os.waitpid(child, 0)[1] for child in children]
    assert ends == [signal.SIGKILL if number == holder else 0 for number in range(4)]
    jobs = told(tmp_path)
    assert holder not in [job["number"] for job in jobs]
    assert len(list(tmp_path.glob("trained-*"))) == 2
    assert sorted(job["origin"] for job in jobs) == ["store", "store", "trained"]
    assert len({str(job["weight"]) for job in jobs}) == 1


def test_a_lock_file_that_lies_there_is_no_lock(tmp_path):
    from kdrun.utils.files import held

    (tmp_path / "lock").write_text("12345")  # left by a process of another day
    with held(tmp_path / "lock", lambda: pytest.fail("waits for nobody")):
        pass
