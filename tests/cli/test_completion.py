"""What the shell offers next; each line ends where the cursor is."""

import os
import shutil
import subprocess
import sys

import pytest

from kdrun.cli import commands
from kdrun.cli.completion import answer, candidates
from kdrun.cli.shells import protected
from kdrun.config import registry


def offered(line: str) -> list[str]:
    *before, word = line.split(" ")
    return [word.rstrip(" ") for word in candidates(before, word)]


@pytest.mark.parametrize(("line", "wanted"), [
    ("li", ["list"]),
    ("method=fitn", ["method=fitnets"]),
    ("-m method=kd,fitn", ["method=kd,fitnets"]),
    ("-m method=kd,kd", [f"method=kd,{key}" for key in ("kd_parts", "kdcl", "kdfm_gan", "kdgan", "kdsvd")]),  # not kd twice
    ("+experiment=survey/gou_table_6_", ["+experiment=survey/gou_table_6_mini"]),
    ("student=resnet8", ["student=resnet8", "student=resnet8x2", "student=resnet8x4"]),
    ("method=fitnets method.hint_e", ["method.hint_epochs="]),
    ("method=ban method.base.t", ["method.base.temperature="]),
    ("method=ban method/base=logit_s", ["method/base=logit_std"]),
    ("dataset=cifar100 dataset.ro", ["dataset.root="]),
    ("recipe=fashion recipe.ep", ["recipe.epochs="]),              # which fashion itself takes from standard
    ("teacher=resnet20 teacher.checkpoint_", ["teacher.checkpoint_head="]),
    ("launch=parallel launch.g", ["launch.gpu_share="]),
    ("teacher.re", ["teacher.recipe=", "teacher.remember=", "teacher.remember_gb="]),
    ("++reru", ["++rerun="]),
    ("rerun=", ["rerun=true", "rerun=false"]),
    ("tables --al", ["--alpha"]),
    ("tables league --own --qu", ["--quiet"]),
    ("--cf", ["--cfg"]),
    ("method=nonsense method.", []),
    ("nonsense.deep.", []),
    ("recipe.lr.", []),
    ("recipe.lr=0.", []),
    ("tables gou_", ["gou_1", "gou_2", "gou_3", "gou_4", "gou_5", "gou_6"]),
    ("plot par", ["pareto"]),
    ("diagnose cal", ["calibration"]),
    ("bench eva", ["evaluation"]),
    ("list sch", ["schemes"]),
    ("tables --sort ga", ["gap"]),
    ("tables --sort=ga", ["--sort=gap"]),
    ("store --prune net", ["networks"]),
    ("recipe.sched", ["recipe.schedule="]),
    ("recipe.schedule=co", ["recipe.schedule=cosine", "recipe.schedule=constant"]),
    ("method=crd method.positive=", ["method.positive=exact", "method.positive=relax"]),
    ("method=nst method.kernel=p", ["method.kernel=poly"]),        # by its name in the file
    ("measures.size_unit=by", ["measures.size_unit=bytes"]),
    ("speed.memory_format=ch", ["speed.memory_format=channels_last"]),
    ("sweep=optuna sweep.sampler=n", ["sweep.sampler=nsga2"]),
    ("precision=b", ["precision=bf16"]),
    ("device=c", ["device=cpu", "device=cuda"]),
])
def test_what_is_offered(line, wanted):
    assert offered(line) == wanted


def test_an_empty_line_offers_commands_groups_and_settings():
    found = offered("")
    assert set(commands.names()) < set(found)
    assert {"method=", "method.", "seed=", "experiment="} < set(found)


def test_every_choice_of_every_group_is_offered():
    for group, folder in {"teacher": "model", "method": "method", "dataset": "dataset"}.items():
        assert offered(f"{group}=") == [f"{group}={choice}" for choice in registry.options(folder)]


@pytest.mark.parametrize("name", commands.names())
def test_the_options_of_a_command_are_those_of_its_help(name, capsys):
    with pytest.raises(SystemExit):
        commands.run(name, ["--help"])
    told = capsys.readouterr().out
    for option in offered(f"{name} --"):
        assert option in told


def test_a_finished_word_has_a_space_behind_it():
    assert candidates([], "tab") == ["tables "]
    assert candidates([], "method=fitn") == ["method=fitnets "]
    assert candidates(["method=fitnets"], "method.hint_e") == ["method.hint_epochs="]
    assert "method." in candidates([], "met")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A finished run and one to go on with, a file, a folder with a space and a hidden one."""
    monkeypatch.chdir(tmp_path)
    for name in ("outputs/runs/done", "outputs/runs/half", "outputs/sweeps/one", "my data", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for place in ("runs/done", "runs/half", "sweeps/one"):
        (tmp_path / "outputs" / place / "asked.json").touch()
    (tmp_path / "outputs/runs/done/run.json").touch()
    (tmp_path / "more.pt").touch()


@pytest.mark.parametrize(("line", "wanted"), [
    ("resume ", ["outputs/runs/half ", "outputs/sweeps/one ", "my data/", "outputs/"]),
    ("resume outputs/runs/d", ["outputs/runs/done/"]),
    ("tables --outputs ou", ["outputs/"]),
    ("results --csv m", ["more.pt ", "my data/"]),
    ("results --csv=mo", ["--csv=more.pt "]),
    ("teacher.checkpoint=mo", ["teacher.checkpoint=more.pt "]),
    ("outputs=m", ["outputs=my data/"]),
    ("dataset=image_folder dataset.root=.h", ["dataset.root=.hidden/"]),
    ("--config-dir m", ["my data/"]),
])
def test_runs_and_paths(folders, line, wanted):
    *before, word = line.split(" ")
    assert candidates(before, word) == wanted


def test_the_line_counts_up_to_the_cursor(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "kdrun method=fitn student=resnet8")
    monkeypatch.setenv("COMP_POINT", str(len("kdrun method=fitn")))
    assert answer("bash", "query") == "method=fitnets "
    monkeypatch.setenv("COMP_POINT", "")
    # fish puts the space itself
    assert answer("fish", "query").splitlines() == ["student=resnet8", "student=resnet8x2", "student=resnet8x4"]


def test_a_path_with_a_space(folders, monkeypatch):
    monkeypatch.setenv("COMP_LINE", r"kdrun outputs=my\ d")
    assert answer("bash", "query") == r"outputs=my\ data/"
    assert answer("zsh", "query") == "outputs=my data/"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_takes_its_script(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/kdrun").write_text("#!/bin/sh\nprintf '%s\\n' '" + "' '".join(
        protected(word, shell) for word in ("method=kd ", "method=kdcl ")) + "'\n")
    (tmp_path / "bin/kdrun").chmod(0o755)
    ask = {"bash": "COMP_LINE='kdrun method=k' COMP_POINT=14\n_kdrun\nprintf '<%s>' \"${COMPREPLY[@]}\"",
           "zsh": "compadd() { print -rn \"<$*>\" }\nLBUFFER='kdrun method=k'\n_kdrun",
           "fish": "printf '<%s>' (complete -C 'kdrun method=k')"}[shell]
    script = tmp_path / "script"
    script.write_text(answer(shell, "install") + ask)
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run([shell, *options, str(script)], capture_output=True, text=True, check=True, env=env)
    assert done.stderr == ""
    assert done.stdout == {"bash": "<kd ><kdcl >", "zsh": "<-- method=kd method=kdcl>",
                           "fish": "<method=kd><method=kdcl>"}[shell]


def test_own_groups_are_offered(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine_alone.yaml").write_text("_target_: kdrun.methods.response.kd.KD\nsharp: true\n")
    line = f"kdrun --config-dir {tmp_path} method=mine_alone method.sharp="
    asked = [sys.executable, "-X", "importtime", "-m", "kdrun", "-sc", "query=bash"]
    done = subprocess.run(asked, env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}, capture_output=True,
                          text=True, check=True)
    assert done.stdout.split() == ["method.sharp=true", "method.sharp=false"]
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "kdrun.cli.completion" in loaded
    assert not {"hydra", "torch", "pandas"} & loaded
