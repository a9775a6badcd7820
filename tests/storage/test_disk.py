"""A disk that is full, or cannot be written to: one line, nothing lost that was finished, and the same command goes on."""

import csv
import os
import resource
import subprocess

import pytest

from kdrun import experiment
from kdrun.cli import main
from kdrun.config import registry
from kdrun.evaluation import result_tables
from kdrun.storage.network_store import Store, entries
from kdrun.training import checkpoint
from tests.stress.kills import TIMES

TINY = ["recipe=smoke", "dataset.train_limit=48", "recipe.batch_size=16", "teacher=cnn", "teacher.widths=[6,8,12]",
        "student=cnn", "student.widths=[4,6,8]", "threads=1", "device=cpu", "checkpoint_seconds=0.000001"]


@pytest.fixture
def kdrun(tmp_path, monkeypatch, capfd):
    """Run kdrun with a folder for its outputs: (exit status, what it said to the user, line by line)."""
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.chdir(tmp_path)

    def run(outputs, *words):
        status = main.main([*TINY, f"outputs={outputs}", *words])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        assert "Logging error" not in out + err
        return status, [line for line in err.splitlines() if line.startswith("kdrun: ")]

    return run


class Disk:
    """A disk of its own: a small tmpfs."""

    def __init__(self, folder):
        self.folder = folder
        self.filler = folder / "filler"

    def mount(self, *words):
        return subprocess.run(["mount", *words, str(self.folder)], capture_output=True, text=True, check=False)

    def unmount(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)  # lazily: the log is open still

    def fill(self):
        room = os.statvfs(self.folder)
        self.filler.write_bytes(bytes(room.f_bavail * room.f_bsize))

    def empty(self):
        self.filler.unlink()

    def lock(self):
        """Put it upon itself, read-only."""
        assert self.mount("--bind", str(self.folder)).returncode == 0
        assert self.mount("-o", "remount,bind,ro").returncode == 0

    def unlock(self):
        self.unmount()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    found = Disk(folder)
    if (tried := found.mount("-t", "tmpfs", "-o", "size=8m", "tmpfs")).returncode:
        pytest.skip(f"needs the right to mount a tmpfs ({tried.stderr.strip() or 'refused'})")
    yield found
    found.unmount()


class Limit:
    """Where nobody may mount anything: no file may grow beyond what a log has and a checkpoint has not."""

    def __init__(self, folder):
        self.folder, self.before = folder, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, self.before[1]))

    def empty(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def at_call(monkeypatch, owner, name, call, act):
    """Do something right before this call."""
    calls, original = [], getattr(owner, name)

    def called(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            act()
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, called)


MOMENTS = {  # where: (what is called, the how manieth time, what is finished by then)
    "first checkpoint": (checkpoint, "write", 1, 0), "checkpoint of the student": (checkpoint, "write", 17, 2),
    "store": (Store, "write", 2, 1), "last table": (result_tables, "write_csv", 3, 2),
    "weights": (experiment, "save_weights", 1, 2)}


def made(outputs):
    """All that a run made and another one makes alike."""
    found = {}
    for path in sorted(outputs.rglob("*")):
        name = str(path.relative_to(outputs))
        if path.name == "results.csv":
            with path.open() as file:
                found[name] = [{key: value for key, value in row.items() if key not in TIMES}
                               for row in csv.DictReader(file)]
        elif path.suffix in (".csv", ".safetensors"):
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert main.main([*TINY, f"outputs={folder}"]) == 0
    return made(folder)


def survives(folder, whole, finished):
    """The run stopped: what was finished is whole, and nothing that was not looks as if it were."""
    assert len(entries(folder / "store")) == finished
    assert not list(folder.glob("runs/*/run.json"))
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part")]
    got = made(folder)
    kept = [name for name in whole if name.startswith("store/") and name in got and ".part-" not in name]
    assert len(kept) == 2 * finished
    assert all(got[name] == whole[name] for name in kept)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_full(moment, disk, kdrun, whole, monkeypatch):
    owner, name, call, finished = MOMENTS[moment]
    at_call(monkeypatch, owner, name, call, disk.fill)
    status, lines = kdrun(disk.folder)
    assert status == 1
    (line,) = lines
    assert "No space left on device; when that is mended, `kdrun resume " in line
    assert "(or the same command) goes on" in line
    survives(disk.folder, whole, finished)
    disk.empty()
    status, lines = kdrun(disk.folder)
    assert (status, lines) == (0, [])
    assert made(disk.folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["store", "last table"])
def test_not_to_be_written_to(moment, disk, kdrun, whole, monkeypatch):
    owner, name, call, finished = MOMENTS[moment]
    at_call(monkeypatch, owner, name, call, disk.lock)
    status, lines = kdrun(disk.folder)
    assert status == 1
    (line,) = lines
    assert "Read-only file system; when that is mended, `kdrun resume " in line
    survives(disk.folder, whole, finished)
    status, lines = kdrun(disk.folder)
    assert (status, len(lines)) == (2, 1)  # seen before anything is done
    assert "Read-only file system" in lines[0]
    disk.unlock()
    status, lines = kdrun(disk.folder)
    assert (status, lines) == (0, [])
    assert made(disk.folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["checkpoint of the student"])
def test_files_may_not_grow(moment, tmp_path, kdrun, whole, monkeypatch):
    owner, name, call, finished = MOMENTS[moment]
    limit = Limit(tmp_path / "outputs")
    at_call(monkeypatch, owner, name, call, limit.fill)
    try:
        status, lines = kdrun(limit.folder)
    finally:
        limit.empty()
    assert status == 1
    (line,) = lines
    assert "File too large; when that is mended, " in line
    survives(limit.folder, whole, finished)
    status, lines = kdrun(limit.folder)
    assert (status, lines) == (0, [])
    assert made(limit.folder) == whole
