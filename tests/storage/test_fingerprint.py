"""What a network's or a run's code is: the import closure of the classes involved, and nothing else."""

import shutil
import sys

import pytest
import torch

from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.storage import fingerprint as module
from kdrun.storage import resume
from kdrun.storage.fingerprint import LOOP, closure
from tests.toy import toy_settings

TEACHER = (*LOOP, "kdrun.models.resnet.ResNet")


def forget():
    for known in (module.fingerprint, module.source_of, module.file_of, module.installed):
        known.cache_clear()


def digest(*targets):
    forget()  # as a process that starts now
    return module.fingerprint(*targets)


def code_of(settings):
    forget()
    return resume.code_of(settings.values)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that may be edited."""
    folder = tmp_path / "copy" / "kdrun"
    shutil.copytree(module.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", folder)
    yield folder
    forget()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of the user's, from which Python imports."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    yield folder
    forget()


def append(path, text="\nx = 1\n"):
    with path.open("a") as file:
        file.write(text)


def test_a_teachers_code_is_what_trains_it_and_what_it_is():
    found = set(closure(*TEACHER))
    assert found >= {f"kdrun.{name}" for name in (
        "training.loop", "utils.distributed", "config.speed", "training.divergence", "config.schema", "models.factory",
        "models.roles", "training.players", "config.recipe", "utils.seeding", "methods.base", "methods.baseline.vanilla",
        "data.stream", "data.data", "models.resnet", "models.staged")}
    rooms = ("kdrun.analysis", "kdrun.cli", "kdrun.sweeps", "kdrun.evaluation", "kdrun.bench", "kdrun.storage")
    assert {name for name in found if name.startswith(rooms)} == {"kdrun.evaluation.metrics", "kdrun.evaluation.scores"}
    assert not found & {f"kdrun.{name}" for name in ("utils.progress", "experiment", "utils.wording", "config.presets")}
    assert {name for name in found if name.startswith("kdrun.models.")} == {
        f"kdrun.models.{name}" for name in (
            "convolutions", "factory", "fitted", "output", "prediction", "resnet", "roles", "sharing", "staged", "synthesis")}


def test_neither_other_files_nor_remarks_change_it(package):
    before, run = digest(*TEACHER), code_of(toy_settings("kd"))
    for folder in ("models", "methods/response", "data"):
        (package / folder / "new.py").write_text("x = 1\n")
    for name in ("utils/progress.py", "evaluation/result_tables.py", "analysis/comparability.py", "methods/relation/rkd.py",
                 "models/wrn.py"):
        append(package / name)
    for name in ("training/loop.py", "models/resnet.py", "methods/baseline/vanilla.py"):
        _, head, rest = (package / name).read_text().split('"""', 2)
        (package / name).write_text(f'"""{head} And more."""\n\n# a remark\n{rest}\n\n# the end\n')
    assert digest(*TEACHER) == before
    assert code_of(toy_settings("kd")) == run


@pytest.mark.parametrize("name", ["training/loop.py", "utils/distributed.py", "training/divergence.py",
                                  "data/stream.py", "models/staged.py"])
def test_code_that_it_imports_changes_it(package, name):
    before = digest(*TEACHER)
    append(package / name)
    assert digest(*TEACHER) != before


def test_what_a_method_imports_changes_its_runs_and_no_teacher(package):
    before = {key: code_of(toy_settings(key)) for key in ("zskt", "kd")}
    teacher = digest(*TEACHER)
    append(package / "methods/data_free/generated.py")
    assert code_of(toy_settings("zskt")) != before["zskt"]
    assert (code_of(toy_settings("kd")), digest(*TEACHER)) == (before["kd"], teacher)


def test_parts_readers_and_networks_that_a_method_names_are_in_a_runs_code(monkeypatch):
    settings = toy_settings("takd")  # its base is kd, its assistant a cnn
    named = []
    monkeypatch.setattr(module, "fingerprint", lambda *targets: named.extend(targets) or "")
    wrn = {"_target_": "kdrun.models.wrn.WRN"}
    before = resume.code_of(settings.values | {"student": wrn, "teacher": wrn})
    found = set(closure(*named))
    assert found >= {f"kdrun.{name}" for name in (
        "training.loop", "storage.teacher_cache", "methods.staged.takd", "methods.response.kd", "methods.losses",
        "data.readers", "models.plain", "models.wrn")}
    assert not {name for name in found if name.startswith("kdrun.sweeps.launchers")}  # where a run takes place is no part of it
    monkeypatch.setattr(registry, "network", lambda name: {**wrn, "depth": 10})  # another assistant by the same name
    assert resume.code_of(settings.values | {"student": wrn, "teacher": wrn}) != before


def test_imports_of_ones_own_are_followed(own):
    (own / "pack").mkdir()
    for name, text in {
        "pack/__init__.py": "", "pack/helper.py": "y = 1", "pack/typed.py": "", "single.py": "", "late.py": "", "apart.py": "",
        "pack/method.py": "from typing import TYPE_CHECKING\nimport numpy, not_there\nfrom .helper import y\n"
                          "if TYPE_CHECKING:\n    from pack import typed\nelse:\n    import single\n"
                          "def later():\n    try:\n        import late\n    except ImportError:\n        pass\n"}.items():
        (own / name).write_text(text + "\n")
    target = "pack.method.Method"
    before = digest(target)
    assert set(closure(target)) == {"pack", "pack.method", "pack.helper", "single", "late"}
    for name in ("pack/typed.py", "apart.py"):
        append(own / name)
        assert digest(target) == before
    for name in ("pack/__init__.py", "pack/helper.py", "single.py", "late.py"):
        append(own / name)
        assert digest(target) != before, name
        before = digest(target)
    assert "pack" not in sys.modules  # nothing was run


def test_other_peoples_packages_are_not_followed():
    assert set(closure("torchvision.models.resnet18")) == {"torchvision.models"}
    assert closure("builtins.print") == {}


def test_what_is_not_there_is_an_error(package):
    for target in ("nowhere.Net", "kdrun.models.nothing.Net"):
        with pytest.raises(ValueError, match=f"^{target}: there is no file of Python that defines it$"):
            closure(target)
    with pytest.raises(ValueError, match="no code"):
        module.fingerprint()
    (package / "models/staged.py").unlink()
    forget()
    with pytest.raises(ValueError, match=r"resnet.py: it imports kdrun.models.staged, and there is no file for that$"):
        closure("kdrun.models.resnet")
    settings = toy_settings("kd")
    with pytest.raises(ConfigError, match=r"nowhere\.KD: there is no file"):
        resume.code_of(settings.values | {"method": {"_target_": "nowhere.KD"}})


def test_torchs_version_counts(monkeypatch):
    before = digest("kdrun.training.loop")
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert digest("kdrun.training.loop") != before
    forget()
