"""A whole experiment at toy size: real code paths on the digits, with a few pictures and tiny networks."""

from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from hydra import compose, initialize_config_dir

from kdrun import experiment
from kdrun.config import registry
from kdrun.config.registration import register
from kdrun.config.schema import Settings
from kdrun.methods.base import Run
from kdrun.utils.progress import Progress

TINY = ("dataset.train_limit=48", "recipe=smoke", "recipe.batch_size=16", "recipe.epochs=2", "recipe.init_epochs=1",
        "teacher=cnn", "teacher.widths=[6,8,12]", "student=cnn", "student.widths=[4,6,8]", "threads=1")

NEEDS = {  # what a method asks for beyond that, at all or where something else is asked for
    "amalgam": ("teacher_classes=2",),
    "amalgam_adaptive": ("teachers=[cnn,cnn,cnn]", "teacher_classes=[[0,1,2,3,4],[0,1,2,3,4],[5,6,7,8,9]]",
                         "method.component_epochs=1"),
    "amalgam_common": ("teacher_classes=2", "method.width=4"),
    "blockwise": ("method.block_share=0.5", "method.last_share=0.5"),
    "cheap_online": ("method.peers=2",),
    "cmi": ("method.rounds=2", "method.batches=1", "method.batch_size=20", "method.iterations=3", "method.width=8"),
    "cnn2tree": ("student=tree",),
    "cross_quality": ("student.widths=[6,8,12]",),
    "apprentice scheme=online": ("method.variant=A",),
    "compress": ("method.recover_share=0.5", "method.steps=[prune,distill]"),
    "cross_distill": ("method.shots=2", "method.iterations=4", "method.tuning_epochs=1"),
    "dafl": ("method.steps=3",),
    "data_distill": ("dataset.labelled=20",),
    "dataset_distill": ("method.iterations=4", "method.per_class=2"),
    "deepinv": ("method.rounds=2", "method.batches=1", "method.batch_size=20", "method.iterations=3"),
    "dfad": ("method.steps=3",),
    "dfq": ("method.steps=3", "method.width=8", "method.student_steps=2", "method.warm_up=1"),
    "dualgan_ka": ("teacher_classes=2", "method.steps=3", "method.width=8", "method.generator_epochs=1",
                   "method.block_epochs=1"),
    "do_vqa": ("dataset.train=132", "dataset.held_out=44", "dataset.test=44", "dataset.scenes_per_question=4",
               "dataset.canvas=16", "dataset.side=[5,7]", "teacher=trilinear", "teacher.width=8", "teacher.rank=2",
               "teacher.backbone.widths=[4,6]", "student=bilinear", "student.width=8", "student.backbone.widths=[4,6]"),
    "ekd_branches": ("teachers=[cnn,mlp]",),
    "feed": ("teachers=[cnn,mlp]", "method.generations=2"),
    "fskd": ("method.samples=32",),
    "fsp": ("student.widths=[6,8,12]",),
    "gan_tsc": ("method.generator_epochs=1", "method.width=8", "method.fake_share=0.5"),
    "gan_compress": ("dataset=synthesis", "dataset.train_limit=48", "dataset.noise=4", "dataset.discriminator_width=4",
                     "teacher=generator", "teacher.widths=[4,4]", "student=generator_8", "student.widths=[3,3]",
                     "method.discriminator_epochs=1"),
    "gd": ("dataset.labelled=30", "method.split=2"),
    "graph_distill": ("teachers=[cnn,mlp]",),
    "graph_zp": ("teachers=[cnn,mlp]",),
    "hkd_flow": ("method.auxiliary=cnn",),
    "icarl": ("method.split=2",),
    "kdsvd": ("student.widths=[6,8,12]",),
    "kegnet": ("method.steps=3", "method.width=8", "method.generators=2", "method.generator_epochs=1"),
    "knowledge_flow": ("teachers=[cnn,mlp]",),
    "knowledge_within": ("method.batches=2", "method.batch_size=20", "method.iterations=3"),
    "kr_repr": ("student.widths=[6,8,12]",),
    "ktn": ("method.graph_updates=2", "method.shots=[1,2]", "method.episodes=2", "method.queries=2"),
    "label_distill": ("method.per_class=1", "method.epochs=2", "method.patience=1"),
    "leap": ("method.updates=2", "method.tasks=2", "method.steps=2", "method.test_steps=2", "method.episodes=2"),
    "lopes": ("method.batches=2", "method.batch_size=20", "method.iterations=3"),
    "lucir": ("method.split=2",),
    "m2kd": ("method.split=2",),
    "lifelong_gan": ("dataset=synthesis", "dataset.train_limit=48", "dataset.noise=4", "dataset.discriminator_width=4",
                     "student=generator_8", "student.widths=[3,3]", "method.split=2"),
    "mean_teacher": ("dataset.labelled=20",),
    "meal": ("teachers=[cnn,mlp]",),
    "mhgd": ("student.widths=[6,8,12]",),
    "mt_avg": ("teachers=[cnn,mlp]",),
    "mt_logeuclid": ("teachers=[cnn,mlp]",),
    "mt_switch": ("teachers=[cnn,mlp]",),
    "mt_two_stage": ("teachers=[cnn,mlp]",),
    "mt_weighted_inputs": ("teachers=[cnn,mlp]", "dataset=views", "dataset.teacher_sees=[left,edges]",
                           "dataset.train_limit=48"),
    "mt_you": ("teachers=[cnn,mlp]",),
    "noisy_student": ("dataset.labelled=20", "method.rounds=1"),
    "pate": ("dataset.labelled=20", "method.count=2", "method.teacher_epochs=2"),
    "nas_adanas": ("method.iterations=2", "method.space.kernels=[3]"),
    "nas_dna": ("teacher.widths=[4,8,8]", "method.space.depths=[1]", "method.space.stem=4", "method.space.kernels=[3]"),
    "nas_okd": ("teachers=[cnn,mlp]", "student=searchable", "student.stem=4", "student.widths=[4,4,8]", "method.rounds=2",
                "method.rollouts=1", "method.finalists=2"),
    "nas_tgsa": ("method.candidates=2",),
    "net2net": ("student.widths=[8,8,14]",),
    "podnet": ("method.split=2", "method.proxies=2", "method.tune_epochs=1"),
    "rocket": ("student=resnet8", "student.widths=[16,32,64]", "method.booster=resnet14"),
    "stochastic_teacher": ("teacher=resnet20_stochastic", "teacher.depth=8", "teacher.widths=[4,6,8]"),
    "ss_cluster": ("dataset.labelled=20", "method.clusters=5", "method.network=cnn"),
    "takd": ("method.assistants=[cnn]",),
    "triage": ("method.variants=[none,local,kd]",),
    "uhc": ("teacher_classes=[[0,1,2,3,4,5],[5,6,7,8,9]]",),
    "zhao_heatmap": ("dataset/base=scenes_landmarks", "dataset.student_sees=projections", "dataset.base.train=48",
                     "dataset.base.held_out=4", "dataset.base.test=4", "dataset.base.canvas=16", "dataset.base.side=[5,7]",
                     "dataset.base.digits_per_scene=[1,2]", "dataset.base.clutter=1", "teacher=centernet_8",
                     "student=centernet_8"),
    "zskd": ("method.impressions=60", "method.batch_size=20", "method.iterations=3"),
    "zskt": ("method.steps=3", "method.student_steps=2"),
}


# A representative of each shape of method, the one that has most to lose: memories, generators, phases, several networks
SHAPES = {"response": "logit_std", "feature": "fitnets", "relation": "crd", "several teachers": "mt_you", "staged": "takd",
          "online": "okddip", "its own past": "pskd", "data-free": "dafl", "adversarial": "afd_online",
          "quantised": "apprentice", "lifelong": "lwf", "across modalities": "hallucination", "composed": "combine"}


def quick_for_some(key: str, *more: str):
    """All methods in `make test`, one of each shape in `make quick`."""
    return pytest.param(key, *more, marks=[] if key in SHAPES.values() else pytest.mark.slow)


def settings_of(*overrides: str) -> Settings:
    """What the command line would make of these words."""
    register([], rows=any(word.startswith("experiment=") for word in overrides))
    with initialize_config_dir(str(registry.shipped()), version_base="1.3", job_name="kdrun"):
        cfg = compose("config", overrides=list(overrides), return_hydra_config=True)
    return Settings.read(cfg, cfg.hydra.runtime.choices)


def toy_settings(key: str, *more: str) -> Settings:
    """A method's settings at toy size; a folder of outputs is put in afterwards, so that tests with folders share the rest."""
    outputs = [word.partition("=")[2] for word in more if word.startswith("outputs=")]
    settings = composed(TINY, key, *(word for word in more if not word.startswith("outputs=")))
    return Settings(settings.values | {"outputs": outputs[-1]}, settings.choices) if outputs else settings


@cache
def composed(usual: tuple[str, ...], key: str, *more: str) -> Settings:
    """What Hydra composes, once in a process."""
    needed = [word for asked in (key, *(f"{key} {word}" for word in more)) for word in NEEDS.get(asked, ())]
    chosen = {word.partition("=")[0] for word in needed}
    tiny = [word for word in usual if word.partition("=")[0].partition(".")[0] not in chosen]
    return settings_of(*tiny, f"method={key}", *needed, *more)


@cache
def prepared(settings_key: tuple[str, ...]) -> experiment.Experiment:
    return experiment.Experiment.prepare(toy_settings(*settings_key), Progress(None))


def toy_run(key: str, scheme: str, *more: str, folder: Path | None = None) -> Run:
    """A training that is ready to start, by a teacher with its first weights; checkpoints after every step."""
    toy = prepared((key, f"scheme={scheme}", *more))
    factory = toy.factory(rehearsal=True)
    run = toy.run_of("toy", "student", toy.method(), toy.scheme(), factory, folder=folder)
    run.every = 0.0
    return run


def toy_experiment(key: str, folder: Path, *more: str, scheme: str | None = None) -> list[dict[str, Any]]:
    """A run from its config to its rows."""
    words = [f"outputs={folder}", *([f"scheme={scheme}"] if scheme else []), *more]
    with mock.patch("kdrun.analysis.plots.run_curves.learning_curves"):  # half the time; tests/analysis looks at them
        return experiment.run(toy_settings(key, *words), Progress(None))


def rows_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By role."""
    return {row["role"]: row for row in rows}


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of everything a module holds."""
    return {name: value.clone() for name, value in module.state_dict().items()}
