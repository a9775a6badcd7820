"""Methods made of other methods, end to end from their config: to rows, and to the bytes that a rerun would give."""

import pytest
import torch

from kdrun.config.identity import run_folder
from kdrun.config.schema import ConfigError
from kdrun.config.validation import problems
from kdrun.training.loop import distill
from tests.toy import rows_of, toy_experiment, toy_run, toy_settings

BASES = ("kd", "at", "rkd", "fitnets")
KNOWLEDGE = {"kd": "response", "at": "feature", "rkd": "relation", "fitnets": "feature"}


@pytest.mark.slow
@pytest.mark.parametrize(("key", "scheme", "base"), [
    ("takd", "offline", "kd"), ("rco", "offline", "at"), ("ban", "self", "rkd"), ("ban", "offline", "fitnets")])
def test_a_curriculum_over_another_method(key, scheme, base, tmp_path):
    rows = rows_of(toy_experiment(key, tmp_path, f"method/base={base}", "recipe.epochs=4", scheme=scheme))
    student = rows["student"]
    assert student["method"] == ("takd" if key == "takd" else f"{key}+{base}")  # which usually has kd
    assert student["knowledge"] == KNOWLEDGE[base]
    assert 0 <= student["accuracy"] <= 1
    assert ("teacher" in rows) == (scheme == "offline")
    assert ("ensemble" in rows) == (key == "ban")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("key", ["takd", "rco", "ban"])
def test_its_base_teaches_in_every_part(key, base):
    usual = key in ("takd", "rco") and base == "kd"
    assert toy_settings(key, "scheme=offline", f"method/base={base}").method == (key if usual else f"{key}+{base}")
    run = toy_run(key, "offline", f"method/base={base}")
    distill(run)
    terms = {"kd": {"kd"}, "at": {"at"}, "rkd": {"distance", "angle"}, "fitnets": {"hint", "kd"}}[base] | {"ce"}
    told = {}
    for _, phase, _, split, name, _ in run.history:
        if split == "train":
            told.setdefault(phase.partition(":")[0], set()).add(name)
    parts = {"takd": {"assistant 1 cnn", "student"}, "rco": {"student"}, "ban": {"generation 1", "generation 2"}}[key]
    assert told == dict.fromkeys(parts, terms)


def test_two_assistants_hand_on(tmp_path):
    run = toy_run("takd", "offline", "method.assistants=[cnn,mlp]")
    teacher, student = run.networks.teacher, run.networks.student
    seen = []
    for phase in run.method.phases(run):
        seen.append((phase.name, run.networks.teacher.name, run.networks.student))
    assert [(name, who) for name, who, _ in seen] == [
        ("assistant 1 cnn: distill", "teacher"), ("assistant 2 mlp: distill", "assistant 1 cnn"),
        ("student: distill", "assistant 2 mlp")]
    assert [learner.model for *_, learner in seen] == ["cnn", "mlp", "cnn"]
    assert seen[-1][2] is student
    assert run.networks.teacher is not teacher
    rows = rows_of(toy_experiment("takd", tmp_path, "method/base=at", "method.assistants=[cnn,cnn]"))
    assert rows["student"]["method"] == "takd+at"
    again = toy_run("takd", "offline", "method.assistants=[cnn,cnn]")
    distill(again)
    assert set(again.trained.values()) == {again.recipe.epochs}  # the second starts at the start of the schedule


@pytest.mark.parametrize("key", ["takd", "ban"])
def test_without_a_step_between_it_is_the_base(key):
    """No assistant, or one generation under a given teacher: the same data, teacher and loss; other first weights in one."""
    more = ("method.assistants=[]",) if key == "takd" else ("method.generations=1", "method/base=kd")
    ends = []
    for run in (toy_run(key, "offline", *more), toy_run("kd", "offline")):
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("base", ["kd", "dkd", "standardised_kd", "standardised_dkd", "mt_avg"])
@pytest.mark.parametrize("scheme", ["offline", "online"])
def test_standardised_logits_over_any_answers(base, scheme):
    name = toy_settings("logit_std", f"scheme={scheme}", f"method/base={base}").method
    assert name == ("logit_std" if base == "standardised_kd" else f"logit_std+{base}")
    run = toy_run("logit_std", scheme, f"method/base={base}")
    distill(run)
    assert run.networks.teachers
    assert run.history


def test_standardised_logits_from_config_to_rows(tmp_path):
    rows = rows_of(toy_experiment("logit_std", tmp_path, "method/base=dkd", scheme="online"))
    assert rows["student"]["method"] == "logit_std+dkd"
    assert "teacher" in rows


@pytest.mark.parametrize("base", ["kd", "dkd"])
def test_standardising_changes_what_is_learned(base):
    ends = []
    for run in (toy_run("logit_std", "offline", f"method/base={base}"), toy_run(base, "offline")):
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.slow
@pytest.mark.parametrize(("words", "method", "knowledge"), [
    ((), "combine", "relation+response"),
    (("method/first=crd", "method/second=kd"), "combine+crd+kd", "feature+relation+response"),
    (("method/first=rkd", "method/second=at", "method/third=dkd"), "combine+rkd+at+dkd", "feature+relation+response"),
    (("method/first=fitnets", "method/second=kd"), "combine+fitnets+kd", "feature+response"),
    (("method/first=cskd", "method/second=kd"), "combine+cskd+kd", "response"),
])
def test_a_sum_of_methods(words, method, knowledge, tmp_path):
    student = rows_of(toy_experiment("combine", tmp_path, *words))["student"]
    assert (student["method"], student["knowledge"]) == (method, knowledge)
    assert 0 <= student["accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("key", ["takd", "ban", "rco", "logit_std"])
def test_a_sum_can_be_a_base(key, tmp_path):
    if key == "logit_std":
        lines = problems(toy_settings(key, "method/base=combine"))
        assert any("does not learn from answers" in line for line in lines)
        return
    student = rows_of(toy_experiment(key, tmp_path, "method/base=combine", scheme="offline"))["student"]
    assert student["method"] == f"{key}+combine"
    assert student["knowledge"] == "relation+response"


def test_standardised_logits_can_be_a_part_and_a_base(tmp_path):
    for words in (("combine", "method/first=logit_std"), ("takd", "method/base=logit_std")):
        assert rows_of(toy_experiment(words[0], tmp_path, words[1]))["student"]["accuracy"] is not None


def test_parts_take_their_settings_and_name_the_folder(tmp_path):
    words = ("combine", "method/first=rkd", "method/second=at", f"outputs={tmp_path}")
    settings = toy_settings(*words, "method.first.angle_weight=7")
    assert settings.values["method"]["first"]["angle_weight"] == 7
    assert problems(settings) == []
    assert "-combine+rkd+at-" in run_folder(settings).name
    assert run_folder(toy_settings(*words)) != run_folder(settings)


@pytest.mark.parametrize(("words", "reason"), [
    (("takd", "method/base=ban", "scheme=offline"), "is a curriculum itself"),
    (("takd", "method/base=pskd", "scheme=offline"), "cannot learn from a trained teacher"),
    (("combine", "method.first.temperature=-1"), "method.first.temperature: got -1"),
    (("combine", "method.first_weight=-1"), "method.first_weight: got -1"),
    (("rco", "teachers=[cnn,mlp]"), "learns from one teacher")])
def test_what_cannot_be_is_refused(words, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        toy_experiment(words[0], tmp_path, *words[1:])
