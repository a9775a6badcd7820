"""Several processes and one store: one trains, the others wait and say so, and the dead hold nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Forks of one process that has imported everything: `python -c TOGETHER STORE COUNT`
TOGETHER = '''
import json, os, sys, time
from pathlib import Path
import torch
from torch import nn
from kdrun.storage.network_store import Made, Store

torch.set_num_threads(1)
root, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def job(number):
    notes = []
    def train(folder):
        (root.parent / f"trained-{number}").touch()
        torch.manual_seed(number)  # who trains decides the weights: the others must have the same ones
        nn.init.normal_(network.weight)
        time.sleep(seconds)
        return Made("teacher", "tiny", network, torch.eye(4), 5, 1.5)
    network = nn.Linear(3, 2)
    made = Store(root, notes.append).fetch("teacher", {"seed": 1}, network, train)
    told = {"number": number, "origin": made.origin, "notes": notes, "weight": made.network.weight.tolist()}
    (root.parent / f"told-{number}.json").write_text(json.dumps(told))

children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        job(number)
        os._exit(0)
    children.append(child)
print(*children, flush=True)
for child in children:
    os.waitpid(child, 0)
'''


def together(folder: Path, count: int, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", TOGETHER, str(folder / "store"), str(count), str(seconds)],
                            stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})


def told(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("told-*.json"))]


@pytest.mark.slow
def test_ten_that_need_the_same_teacher_train_it_once(tmp_path):
    assert together(tmp_path, 10, 1.0).wait(120) == 0
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
    parent = together(tmp_path, 4, 5.0)
    assert parent.stdout is not None
    children = [int(word) for word in parent.stdout.readline().split()]
    deadline = time.monotonic() + 60
    while not (trained := list(tmp_path.glob("trained-*"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    holder = int(trained[0].name.removeprefix("trained-"))
    os.kill(children[holder], signal.SIGKILL)
    assert parent.wait(120) == 0
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
