"""Where the jobs of a sweep run: how a machine is shared out, and what survives when jobs or the whole sweep are killed."""

import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdrun.cli import main, overrides
from kdrun.config import registry, validation
from kdrun.config.identity import identity
from kdrun.config.registration import register
from kdrun.config.schema import Settings
from kdrun.sweeps.launchers import slurm, workers
from kdrun.sweeps.launchers.base import Job, death, spread
from kdrun.sweeps.launchers.workers import Slot, slots
from tests.forks import kdrun

TINY = ["recipe=smoke", "dataset.train_limit=48", "recipe.batch_size=16", "teacher=cnn", "teacher.widths=[6,8,12]",
        "student=cnn", "student.widths=[4,6,8]", "device=cpu"]

# A method of the user's own that the system kills in seed 2, as long as the file `deadly` is there
DEADLY = '''
"""A method that is killed."""
import os
import signal
from pathlib import Path

from kdrun.methods.baseline.vanilla import Vanilla

class Deadly(Vanilla):
    """Train until killed."""

    def loss(self, cast, batch):
        if self.seed == 2 and Path("deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(cast, batch)

    def phases(self, run):
        self.seed = None if run.rehearsal else run.seed
        yield from super().phases(run)
'''


@pytest.mark.parametrize(("cores", "gpus", "count", "jobs", "threads", "share", "wanted"), [
    (8, [], 100, None, 1, 1, [Slot(1)] * 8),
    (8, [], 100, 3, 1, 1, [Slot(1)] * 3),              # idle cores stay idle: a run's numbers depend on its threads
    (8, [], 100, None, 3, 1, [Slot(3)] * 2),
    (8, [], 100, 2, 3, 1, [Slot(3)] * 2),
    (8, [], 3, None, 1, 1, [Slot(1)] * 3),
    (8, [], 100, None, 8, 1, [Slot(8)]),
    (1, [], 100, None, 1, 1, [Slot(1)]),
    (8, ["0", "1"], 100, None, 4, 1, [Slot(4, "0"), Slot(4, "1")]),
    (8, ["2", "5"], 100, None, 1, 2, [Slot(1, "2"), Slot(1, "5"), Slot(1, "2"), Slot(1, "5")]),
    (8, ["0", "1"], 100, 3, 1, 2, [Slot(1, "0"), Slot(1, "1"), Slot(1, "0")]),
    (2, ["0"], 100, None, 1, 4, [Slot(1, "0")] * 4),   # on a GPU the cores only feed it
], ids=str)
def test_a_machine_is_shared_out(cores, gpus, count, jobs, threads, share, wanted):
    assert slots(cores, gpus, count, jobs, threads, share) == wanted


@pytest.mark.parametrize(("jobs", "threads", "gpus", "line"), [
    (5, 1, [], "launch.jobs: got 5, but there are 4 cores; wanted at most 4"),
    (3, 2, [], "launch.jobs: got 3, but there are 4 cores for jobs of 2 threads; wanted at most 2"),
    (None, 5, [], "threads: got 5, but there are 4 cores; wanted at most 4"),
    (3, 1, ["0", "1"], "launch.jobs: got 3, but 2 GPUs for 1 job each; wanted at most 2 or a larger launch.gpu_share"),
])
def test_never_more_than_there_is(jobs, threads, gpus, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        slots(4, gpus, 100, jobs, threads, 1)


def test_a_worker_is_told_before_it_imports_anything():
    assert "CUDA_VISIBLE_DEVICES" not in Slot(1).environment
    told = Slot(2, "GPU-1").environment
    assert told == {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2",
                    "CUDA_VISIBLE_DEVICES": "GPU-1"}


@pytest.mark.parametrize(("device", "seen", "there", "wanted"), [
    ("auto", None, 2, ["0", "1"]), ("cuda", None, 2, ["0", "1"]), ("auto", "3,GPU-7", 2, ["3", "GPU-7"]),
    ("cpu", None, 2, []), ("cuda:1", None, 2, []), ("auto", None, 0, [])])
def test_jobs_are_sent_to_the_gpus_that_this_process_sees(device, seen, there, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert workers.gpus(device) == wanted


def test_jobs_of_one_teacher_are_far_apart():
    words = [(f"seed={seed}", f"method={method}") for seed in (1, 2) for method in ("kd", "at", "rkd")]
    jobs = [Job(number, own) for number, own in enumerate(words)]
    assert [job.number for job in spread(jobs)] == [0, 3, 1, 4, 2, 5]
    assert [job.number for job in spread(jobs[:3])] == [0, 1, 2]


def test_a_death_has_its_reason():
    assert death(-signal.SIGKILL) == "killed by SIGKILL, most likely because memory ran out"
    assert death(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert death(128 + signal.SIGTERM).startswith("stopped by SIGTERM")
    assert death(3) == "its process ended with status 3 before the job was done"


def test_where_a_run_takes_place_is_no_part_of_it():
    register([])
    places = [["launch=local"], ["launch=parallel", "launch.gpu_share=2"], ["launch=slurm", "launch.cluster=local"]]
    asked = [overrides.check([*words, f"seed={seed}"], [], several=True) for words in places for seed in (1, 2)]
    assert [identity(settings) for settings, in asked] == [identity(asked[seed][0]) for seed in (0, 1)] * 3
    assert identity(asked[0][0]) != identity(asked[1][0])


@pytest.mark.parametrize(("words", "line"), [
    (["launch=parallel"], "launch: it places the jobs of a sweep, and this is one run; add -m or leave it out"),
    (["-m", "launch=local,parallel"], "launch=local,parallel: a sweep has one choice"),
    (["-m", "launch=parallel", "launch.jobs=1,2"], "launch.jobs=1,2: a sweep has one choice"),
    (["-m", "launch=parallel", "launch.jobs=1000"], "launch.jobs: got 1000, but there are"),
    (["-m", "launch=parallel", "launch.jobs=0"], "launch.jobs: got 0, wanted a whole number at least 1"),
    (["-m", "launch=parallel", "launch.job=2"], "unknown key 'job' in launch; did you mean 'jobs'?"),
    (["-m", "launch.jobs=2"], "unknown key 'jobs' in launch"),
    (["-m", "launch=slurm", "launch.cluster=local", "launch.minutes=soon"],
     "launch.minutes: got 'soon', wanted a whole number"),
    (["-m", "launch=slurm", "launch.cluster=local", "threads=2"], "threads: got 2, but a job has launch.cores=1"),
], ids=str)
def test_refused_before_anything_runs(words, line, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(registry, "_folders", [registry.shipped()])
    monkeypatch.chdir(tmp_path)
    assert main.main(words) == 2
    assert f"kdrun: {line}" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("launch", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_what_is_not_installed_is_named_with_the_command(launch, package, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else there(name, *more))
    (line,) = validation.conduct_problems("launch", Settings({"launch": registry.load("launch", launch)}, {}))
    assert line.endswith(f"needs {package}: pip install 'kdrun[{launch}]'")


def test_slurm_is_asked_what_has_ended(tmp_path, monkeypatch):
    table = tmp_path / "table"
    asked = tmp_path / "squeue"
    asked.write_text(f"#!/bin/sh\ncat {table}\n")
    asked.chmod(asked.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "LOOK", 0)
    jobs = [Job(number, ()) for number in range(4)]
    waiting = {job: SimpleNamespace(job_id=f"7_{job.number}") for job in jobs}
    ended = slurm.Ended("7")
    table.write_text("7_0 RUNNING\n7_1 OUT_OF_MEMORY\n7_2 PENDING\n")
    assert ended.look(waiting) == {}  # a result may take a while to be seen
    assert ended.look(waiting) == {jobs[1]: "OUT_OF_MEMORY", jobs[3]: "unknown to Slurm"}
    table.write_text("7_0 RUNNING\n7_1 PENDING\n7_2 TIMEOUT\n7_3 REQUEUED\n")
    assert ended.look(waiting) == {}
    assert slurm.Ended("8").look({jobs[0]: SimpleNamespace(job_id="8")}) == {}
    alone = slurm.Ended("8")
    table.write_text("8_N/A NODE_FAIL\n")  # an array of one is none
    assert alone.look({jobs[0]: SimpleNamespace(job_id="8")}) == {}
    assert alone.look({jobs[0]: SimpleNamespace(job_id="8")}) == {jobs[0]: "NODE_FAIL"}


@pytest.fixture
def deadly(tmp_path):
    """A folder with a method of one's own, which is killed in seed 2 while the file `deadly` is there: its words."""
    (tmp_path / "mine.py").write_text(DEADLY)
    (tmp_path / "deadly").touch()
    (tmp_path / "conf/method").mkdir(parents=True)
    (tmp_path / "conf/method/deadly.yaml").write_text("_target_: mine.Deadly\n")
    return ["--config-dir", "conf", "-m", "method=deadly", *TINY]


def records(folder):
    """The status of every job of the latest sweep."""
    sweep = max((folder / "outputs/sweeps").iterdir())
    return [json.loads((sweep / "jobs" / f"{number}.json").read_text()) for number in range(len(list(sweep.glob("jobs/*"))))]


def slurm_is_up():
    """Whether there is a Slurm cluster to send jobs to."""
    if shutil.which("sbatch") is None:
        return False
    told = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False, timeout=20)
    return told.returncode == 0 and bool({"idle", "mixed"} & set(told.stdout.split()))


PLACES = {  # where, why the job died, and whether the first sweep's workers are started as a user's
    "local": (["launch=local"], "killed by SIGKILL, most likely because memory ran out", False),
    "parallel": (["launch=parallel", "threads=1"], "killed by SIGKILL, most likely because memory ran out", True),
    "slurm, its stand-in": (["launch=slurm", "launch.cluster=local"], "killed before it was done", True),
    "slurm": (["launch=slurm", "launch.memory_gb=1", "launch.minutes=10"], "killed before it was done", True),
    "ray": (["launch=ray"], "killed before it was done (WorkerCrashedError", True),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_sweep_outlives_a_job_that_is_killed_and_its_rerun_does_what_is_missing(place, deadly, tmp_path):
    if place == "slurm" and not slurm_is_up():
        pytest.skip("there is no Slurm here")
    if place == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    own, reason, spawned = PLACES[place]
    words = [*deadly, "seed=2,3", *own]
    first = kdrun(words, tmp_path, spawned=spawned)
    assert first.status == 1, first.err
    assert [told["status"] for told in records(tmp_path)] == [1, 0]
    assert records(tmp_path)[0]["error"].startswith(reason)
    (line,) = [line for line in first.err.splitlines() if line.startswith("kdrun: job 0 (")]
    assert "seed=2" in line
    assert reason in line
    assert "Traceback" not in first.out + first.err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/runs/*/run.json")}
    assert len(before) == 1
    (tmp_path / "deadly").unlink()
    second = kdrun(words, tmp_path)
    assert second.status == 0, second.err
    assert [told["status"] for told in records(tmp_path)] == [0, 0]
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/runs/*/run.json")}
    assert len(after) == 2
    assert before.items() < after.items()


@pytest.mark.slow
def test_jobs_share_the_cores_and_say_who_speaks(tmp_path):
    told = kdrun(["-m", *TINY, "launch=parallel", "seed=1,2", "method=kd,at"], tmp_path)
    assert told.status == 0, told.err
    threads = [json.loads(path.read_text())["threads"] for path in tmp_path.glob("outputs/runs/*/run.json")]
    assert threads == [1] * 4
    spoken = [line for line in told.err.splitlines() if "job" in line or "epoch" in line]
    for number in range(4):
        assert any(line.startswith(f"[{number}] ") for line in spoken)
    assert "4 of 4 jobs done" in spoken
    assert told.err.count("teacher cnn: trained") == 2  # one a seed, and the others took it from the store


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "to_all"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_an_interrupted_sweep_leaves_no_process_and_loses_no_step(sent, to_all, tmp_path):
    """From the terminal, which tells all, and by death; tests/storage/test_resume.py sends SIGTERM to the sweep alone."""
    words = ["-m", *TINY, "recipe.epochs=100000", "checkpoint_seconds=1000", "seed=1,2", "launch=parallel", "launch.jobs=1"]
    with (tmp_path / "said").open("w") as said:
        sweep = subprocess.Popen([sys.executable, "-c", "import kdrun.cli.main, sys; sys.exit(kdrun.cli.main.main())", *words],
                                 cwd=tmp_path, stdout=said, stderr=said, start_new_session=True, preexec_fn=hearing)
    try:
        wait_for(lambda: list(tmp_path.glob("outputs/store/*.unfinished")))
        time.sleep(0.3)  # some steps
        own = [int(pid) for pid in Path(f"/proc/{sweep.pid}/task/{sweep.pid}/children").read_text().split()]
        (os.killpg if to_all else os.kill)(sweep.pid, sent)
        status = sweep.wait(60)
        assert status == (-sent if sent == signal.SIGKILL else 128 + sent)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in own))
        assert list(tmp_path.glob("outputs/store/*.unfinished/phase-00.pt"))
        assert "Traceback" not in (tmp_path / "said").read_text()
    finally:
        if sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)


def hearing():
    """Hear Ctrl-C, which a shell's background jobs do not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(what, seconds=60):
    """Until it is so, for so long at most."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)
