"""Settings of the process: what they set, and what they leave as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdrun.config import speed
from kdrun.config.identity import identity, run_folder
from kdrun.config.schema import Settings
from kdrun.experiment import Experiment
from kdrun.storage.network_store import Store
from kdrun.utils.progress import Progress
from tests.toy import TINY, settings_of, toy_settings


def told_by(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def test_waiting_threads_sleep_unless_the_user_wants_them_to_spin():
    code = ("import os, sys; from kdrun.config import speed; speed.environment()\n"
            "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)")
    assert told_by(code) == "PASSIVE False"
    assert told_by(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE False"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_kept_is_not_fetched_again():
    """Tensors of 48 MB, made and freed: their pages are fetched each time unless the process keeps them."""
    code = ("import resource, torch; from kdrun.config import speed\n{}\n"
            "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
            "for _ in range(10):\n    before = faults(); [torch.ones(12 * 2**20) for _ in range(2)]\n"
            "print(faults() - before)")
    assert int(told_by(code.format("assert speed.keep_memory()"))) < 100 < int(told_by(code.format("")))


def test_no_glibc_is_no_error(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert speed.keep_memory() is False


OPTIMIZERS = """
import sys, torch
from kdrun.config import speed
if {}:
    speed.without_dynamo()
for kind in (torch.optim.SGD, torch.optim.AdamW, torch.optim.Adam):
    weight = torch.nn.Parameter(torch.arange(4.0))
    optimizer = kind([weight], lr=0.1, weight_decay=0.01, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    print(weight.tolist(), weight.requires_grad, torch.is_grad_enabled())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_optimizers_do_the_same_without_the_compiler():
    *plain, loaded = told_by(OPTIMIZERS.format(False)).splitlines()
    *light, lightly = told_by(OPTIMIZERS.format(True)).splitlines()
    assert light == plain
    assert len(light) == 3
    assert (loaded, lightly) == ("True", "False")


@pytest.mark.slow
def test_a_job_loads_neither_compiler_nor_scikit_learn(tmp_path):
    code = ("import sys\nfrom kdrun.cli import main\nfrom kdrun.utils import progress\nbefore = progress.Progress.phase\n"
            "def phase(self, *told):\n"
            "    if self.console is not None:\n"
            "        heavy = {'torch._dynamo', 'torchvision', 'sklearn', 'scipy', 'pandas', 'matplotlib', 'sympy'}\n"
            "        print('loaded', sorted(heavy & set(sys.modules)))\n        sys.stdout.flush()\n"
            "        import os\n        os._exit(0)\n"
            "    return before(self, *told)\nprogress.Progress.phase = phase\n"
            f"main.main(['threads=1', 'outputs={tmp_path}'])")
    assert told_by(code) == "loaded []"


@pytest.mark.parametrize(("device", "gpu", "precision"), [
    ("cpu", True, "fp32"), ("auto", False, "fp32"), ("cuda", False, "fp32"), ("auto", True, "bf16"), ("cuda:1", True, "bf16")])
def test_precision_is_what_the_device_computes_in(device, gpu, precision, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: gpu)
    assert speed.precision_of(device) == precision


def test_a_run_is_named_by_what_may_move_its_last_bits_alone():
    usual = identity(toy_settings("kd"))
    assert identity(toy_settings("kd", "speed.keep_memory=false")) == usual
    others = [identity(toy_settings("kd", word)) for word in ("speed.memory_format=contiguous", "speed.compile=true",
                                                             "speed.cudnn_benchmark=false", "precision=bf16")]
    assert len({usual, *others}) == 5


def test_threads_name_a_run_on_a_cpu_alone(monkeypatch):
    assert Path(run_folder(settings_of())).name == Path(run_folder(settings_of("threads=1"))).name
    one, two, every = (toy_settings("kd", f"threads={number}") for number in ("1", "2", "null"))
    monkeypatch.setattr(speed, "cores", lambda: 2)
    assert identity(one) != identity(two) == identity(Settings(every.values | {"threads": None}, every.choices))
    assert Settings({"threads": None}, {}).values == {"threads": 2}  # as it is written down, and compared elsewhere
    cuda = [Settings(settings.values | {"device": "cuda:0"}, settings.choices) for settings in (one, two)]
    assert len({identity(settings) for settings in cuda}) == 1


def test_networks_trained_alone_by_other_threads_are_others(monkeypatch, tmp_path):
    keys = []

    def fetch(self, label, key, network, train):
        keys.append(key)
        raise KeyError

    monkeypatch.setattr(Store, "fetch", fetch)
    for number in (1, 2):
        experiment = Experiment.prepare(toy_settings("kd", f"outputs={tmp_path}", f"threads={number}"), Progress(None))
        with pytest.raises(KeyError):
            experiment.teachers()
    torch.set_num_threads(1)
    assert [key.pop("threads") for key in keys] == [1, 2]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(("name", "form"), [("auto", torch.channels_last), ("channels_last", torch.channels_last),
                                            ("contiguous", torch.contiguous_format)])
def test_networks_and_maps_have_the_memory_format(name, form):
    words = (*TINY, "method=kd", "dataset.train_limit=32", f"speed.memory_format={name}")
    made = Experiment.prepare(settings_of(*words), Progress(None))
    factory = made.factory(rehearsal=True)
    student, teacher = factory.student(), next(factory.trained_teachers())
    run = made.run_of("toy", "student", made.method(), made.scheme(), factory)
    batch = next(run.stream.epoch(0, 1))
    for role in (student, teacher, student.fork(1, "twin")):
        weight = role.network.stages[1].get_parameter(next(name for name, own in role.network.stages[1].named_parameters()
                                                           if own.ndim == 4))
        assert weight.is_contiguous(memory_format=form)
        assert role(batch).stages[1].is_contiguous(memory_format=form)


def test_compiled_networks_are_for_training_and_every_copy_is_compiled_anew(monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.compile", lambda run, dynamic: compiled.append(run) or run)
    made = Experiment.prepare(settings_of(*TINY, "method=kd", "dataset.train_limit=32", "speed.compile=true"), Progress(None))
    assert not compiled  # the rehearsal is too short for it
    factory = made.factory()
    assert factory.compiled
    factory.train = None
    student, teacher = factory.student(), next(factory.trained_teachers())
    x = torch.zeros(2, *made.data.shape)
    with torch.inference_mode():
        student(x)
    assert not compiled
    for _ in range(2):
        student(x, fresh=True)
        teacher(x, fresh=True)
    assert len(compiled) == 2
