"""What the shell offers next; each line ends where the cursor is."""

import os
import subprocess
import sys

import pytest

from kdrun import catalogue, commands
from kdrun.completion import answer, candidates


def offered(line: str) -> list[str]:
    *before, word = line.split(" ")
    return candidates(before, word)


@pytest.mark.parametrize(("line", "wanted"), [
    ("li", ["list"]),
    ("method=fitn", ["method=fitnets"]),
    ("-m method=kd,fitn", ["method=kd,fitnets"]),
    ("-m method=kd,kd", ["method=kd,kdcl"]),                       # not twice the same
    ("+experiment=survey/gou_table_6_", ["+experiment=survey/gou_table_6_mini"]),
    ("student=resnet8", ["student=resnet8", "student=resnet8x4"]),
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
])
def test_what_is_offered(line, wanted):
    assert offered(line) == wanted


def test_an_empty_line_offers_commands_groups_and_settings():
    found = offered("")
    assert set(commands.names()) < set(found)
    assert {"method=", "method.", "seed=", "experiment="} < set(found)


def test_every_choice_of_every_group_is_offered():
    for group, folder in {"teacher": "model", "method": "method", "dataset": "dataset"}.items():
        assert offered(f"{group}=") == [f"{group}={choice}" for choice in catalogue.options(folder)]


@pytest.mark.parametrize("name", commands.names())
def test_the_options_of_a_command_are_those_of_its_help(name, capsys):
    with pytest.raises(SystemExit):
        commands.run(name, ["--help"])
    told = capsys.readouterr().out
    for option in offered(f"{name} --"):
        assert option in told


def test_the_line_counts_up_to_the_cursor(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "kdrun method=fitn student=resnet8")
    monkeypatch.setenv("COMP_POINT", str(len("kdrun method=fitn")))
    assert answer("bash") == "method=fitnets"
    monkeypatch.setenv("COMP_POINT", "")
    assert answer("fish").splitlines() == ["student=resnet8", "student=resnet8x4"]


def test_own_groups_are_offered(tmp_path):
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine_alone.yaml").write_text("_target_: kdrun.methods.response.kd.KD\nsharp: true\n")
    line = f"kdrun --config-dir {tmp_path} method=mine_alone method.sharp="
    asked = [sys.executable, "-X", "importtime", "-m", "kdrun", "-sc", "query=bash"]
    done = subprocess.run(asked, env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}, capture_output=True,
                          text=True, check=True)
    assert done.stdout.split() == ["method.sharp=true", "method.sharp=false"]
    loaded = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "kdrun.completion" in loaded
    assert not {"hydra", "torch", "pandas"} & loaded
