"""What kdrun uses of other packages that is private there: nothing but this, and this is as it is taken to be."""

import ast
import inspect
from pathlib import Path

import optuna
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from kdrun.config.hydra_internals import basic_launcher, basic_sweeper, get_args_parser
from kdrun.sweeps.search.trials import id_of

PACKAGE = Path(__file__).parents[1] / "kdrun"
HINT = "this version has changed what kdrun relies on; pin the one before, or mend the module that is named"

KNOWN = {  # private names, and the modules that may use them
    "_internal": {"config/hydra_internals.py"}, "_trial_id": {"sweeps/search/trials.py"},
    "_actions": {"cli/completion.py", "cli/overrides.py"}, "_version": {"data/batch.py", "models/tracing.py"},
    "_BatchNorm": {"methods/lifelong/lwf.py", "methods/quantized/diff_quant.py", "models/supernet.py", "models/tracing.py"},
    "_NormBase": {"training/averaging.py"},
    "_foreach_copy_": {"training/averaging.py"}, "_buffers": {"training/divergence.py"}}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in ("_replace", "_asdict", "_fields", "_exit")


def private_names(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and private(node.attr) and not isinstance(node.value, ast.Call) and not (
                isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            names = (*(node.module or "").split("."), *(alias.name for alias in node.names))
            found |= {name for name in names if private(name)}
    return found


def test_nothing_else_of_other_packages_is_used_that_is_private():
    used: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in private_names(path):
            used.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    assert used == KNOWN


def test_hydra_splits_command_lines_and_runs_jobs_as_before():
    split = inspect.signature(basic_sweeper().split_arguments).parameters
    assert [*split] == ["overrides", "max_batch_size"], f"BasicSweeper.split_arguments takes {[*split]}: {HINT}"
    overrides = OverridesParser.create().parse_overrides(["a=1,2", "b=3"])
    assert basic_sweeper().split_arguments(overrides, None) == [[["a=1", "b=3"], ["a=2", "b=3"]]], HINT
    for name, taken in (("setup", ["hydra_context", "task_function", "config"]),
                        ("launch", ["job_overrides", "initial_job_idx"])):
        there = [*inspect.signature(getattr(basic_launcher(), name)).parameters][1:]
        assert there == taken, f"BasicLauncher.{name} takes {there}: {HINT}"
    options = vars(get_args_parser().parse_args([]))
    needed = {"overrides", "multirun", "config_dir", "config_path", "config_name", "cfg", "info", "shell_completion",
              "hydra_help", "experimental_rerun"}
    assert needed <= options.keys(), f"Hydra's options lack {needed - options.keys()}: {HINT}"
    assert isinstance(ConfigStore.instance().repo, dict), f"ConfigStore.repo is no dictionary: {HINT}"


def test_optuna_goes_on_with_a_trial_by_its_id():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    begun = study.ask()
    (left,) = study.get_trials(states=[optuna.trial.TrialState.RUNNING])
    again = optuna.Trial(study, id_of(left))
    assert id_of(begun) == id_of(left), HINT
    study.tell(again, 1.0)
    assert study.best_value == 1.0, HINT


def test_torch_counts_changes_and_has_its_common_bases():
    tensor = torch.zeros(2)
    before = tensor._version
    assert tensor.add_(1)._version > before, HINT
    assert issubclass(_BatchNorm, _NormBase), HINT
    assert isinstance(nn.BatchNorm2d(1), _BatchNorm), HINT
    assert isinstance(nn.BatchNorm1d(1)._buffers, dict), HINT
    own, other = [torch.zeros(1)], [torch.ones(1)]
    torch._foreach_copy_(own, other)
    assert own[0].item() == 1, HINT
