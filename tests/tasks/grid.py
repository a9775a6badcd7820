"""Every method on every task, at toy size: what runs, and what is refused and why.

`python -m tests.tasks.grid` prints the table; `python -m tests.tasks.grid tagging kd crd` a part of it.
"""

import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from kdrun.config import registry
from kdrun.config.schema import ConfigError, Settings
from kdrun.data.configured import read_dataset
from kdrun.experiment import Experiment
from kdrun.tasks.base import Task
from kdrun.utils.progress import Progress
from tests.toy import settings_of


@dataclass(frozen=True)
class Toy:
    """A task at toy size.

    Attributes:
        words: what the command line would be given.
        other: a network of this task, for methods that name some.
    """

    words: tuple[str, ...]
    other: str


STRIPS = ("dataset.train_strips=32", "dataset.validation_strips=8", "dataset.test_strips=8", "dataset.most=3",
          "teacher=transformer", "teacher.width=8", "student=transformer", "student.width=8")
SCENES = ("dataset.train=24", "dataset.held_out=4", "dataset.test=4", "dataset.canvas=16", "dataset.side=[5,7]",
          "dataset.digits_per_scene=[1,2]", "dataset.clutter=1")
TASKS = {
    "pictures": Toy(("dataset.train_limit=48", "teacher=cnn", "teacher.widths=[6,8,8]", "student=cnn",
                     "student.widths=[6,8,8]"), "cnn"),
    "texts": Toy(("dataset=languages", "dataset.codes=[de,fr,fi]", "dataset.length=12", "dataset.train_limit=48",
                  "teacher=transformer", "teacher.width=8", "student=transformer", "student.width=8"), "bilstm8"),
    "tagging": Toy(("dataset=digit_strips", *STRIPS), "bilstm8"),
    "transcription": Toy(("dataset=digit_strips_ctc", *STRIPS), "bilstm8"),
    "translation": Toy(("dataset=g2p", "dataset.words=60", "teacher=seq2seq24", "student=seq2seq24"), "seq2seq24"),
    "segmentation": Toy(("dataset=scenes", *SCENES), "unet_6"),
    "landmarks": Toy(("dataset=scenes_landmarks", *SCENES), "centernet_8"),
    "detection": Toy(("dataset=scenes_detection", *SCENES), "centernet_8"),
    "ranking": Toy(("dataset=implicit", "dataset.users=30", "dataset.items=60"), "mf"),
    "retrieval": Toy(("dataset=two_digits", "dataset.each=2", "dataset.validation_each=2",
                      "dataset.test_each=2"), "cnn_narrow"),
}

NAMES_NETWORKS = {  # methods that name networks, or several teachers
    **dict.fromkeys(("ekd_branches", "feed", "graph_distill", "graph_zp", "knowledge_flow", "meal", "mt_avg", "mt_logeuclid",
                     "mt_switch", "mt_two_stage", "mt_weighted_inputs", "mt_you", "nas_okd"), "teachers"),
    "residual_kd": "method.assistant", "takd": "method.assistants", "rocket": "method.booster",
}
SMALL: Mapping[str, Mapping[str, object]] = {  # numbers that make a rehearsal's step cheap
    "cross_distill": {"shots": 1}, "dafl": {"steps": 3}, "dataset_distill": {"per_class": 2},
    "deepinv": {"rounds": 2, "batches": 1, "batch_size": 20, "iterations": 3}, "dfad": {"steps": 3}, "fskd": {"samples": 16},
    "ktn": {"shots": [1, 2]}, "label_distill": {"per_class": 1}, "podnet": {"proxies": 2},
    "zskd": {"impressions": 60, "batch_size": 20, "iterations": 3}, "zskt": {"steps": 3, "student_steps": 2},
    "hkd_flow": {"auxiliary": None}, "nas_adanas": {"iterations": 2},
    "nas_dna": {"space": registry.load("space", "small") | {"families": ["residual"], "depths": [1], "convs": ["full"]}},
    "nas_okd": {"rounds": 0}, "nas_tgsa": {"candidates": 2},
    "rocket": {"shared_stages": None}, "ss_cluster": {"clusters": 5},
    "tolerant_gen": {"scores": 2},
}
# methods that learn from samples without labels
FEW_LABELS = ("data_distill", "gd", "mean_teacher", "noisy_student", "pate", "ss_cluster")
PARTIAL_TEACHERS = {"amalgam", "amalgam_adaptive", "amalgam_common", "dualgan_ka", "uhc"}  # who know some classes each
OWN_NETWORK = {  # that the method's YAML asks for
    "cnn2tree": ("student", "tree"), "kimura_gp": ("teacher", "gp"), "stochastic_teacher": ("teacher", "wrn_16_2_stochastic"),
}


@cache
def toy(task: str) -> Settings:
    """The settings of a task, by the method vanilla."""
    return settings_of("method=vanilla", "recipe.batch_size=16", "recipe.epochs=2", "recipe.init_epochs=1", "threads=1",
                       *TASKS[task].words)


def method_node(key: str, folder: str = "method") -> dict[str, Any]:
    """The settings of a method as its YAML has them, and those of what it is made of; composing them takes far longer."""
    node = registry.load(folder if key in registry.options(folder) else "method", key)
    for entry in node.pop("defaults", []):
        for slot, part in (entry if isinstance(entry, dict) else {}).items():
            if slot == "/method@_here_":
                node = method_node(part) | node
            elif slot == "/space@space":
                node["space"] = registry.load("space", part) | node.get("space", {})
            elif not slot.startswith("override ") and part is not None:
                node[slot] = method_node(part, f"method/{slot}")
    return node


def scheme_of(key: str) -> str:
    """The scheme that a method's YAML asks for."""
    entries = registry.load("method", key).get("defaults", [])
    chosen = [scheme for entry in entries if isinstance(entry, dict) for slot, scheme in entry.items() if "/scheme@" in slot]
    return chosen[0] if chosen else "offline"


def attempt(task: str, key: str) -> Experiment:
    """Rehearse a method on a task: one small step of every phase.

    Raises:
        ConfigError: with all that was found wrong.
    """
    base, scheme = toy(task), scheme_of(key)
    node: Any = OmegaConf.to_container(OmegaConf.create({"method": method_node(key), "recipe": base.values["recipe"]}),
                                       resolve=True)
    values = base.values | {"method": node["method"] | SMALL.get(key, {}), "scheme": registry.load("scheme", scheme)}
    if key in FEW_LABELS and task_of(task).sample_labels:
        values["dataset"] = base.values["dataset"] | {"labelled": 100 if task == "retrieval" else 20}  # of 70 classes there
    if key in OWN_NETWORK:
        role, name = OWN_NETWORK[key]
        values[role] = registry.network(name) | ({"recipe": None, "checkpoint": None} if role == "teacher" else {})
    if (place := NAMES_NETWORKS.get(key)) == "teachers":
        values["teachers"] = [TASKS[task].other] * 2
    elif place is not None:
        other = TASKS[task].other
        values["method"][place.partition(".")[2]] = [other] if place.endswith("s") else other
    if key in PARTIAL_TEACHERS:
        values["teacher_classes"] = [[0, 1], list(range(1, len(task_of(task).classes)))]
    settings = replace(base, values=values, choices=base.choices | {"method": key, "scheme": scheme})
    return Experiment.prepare(settings, Progress(None))


def task_of(name: str) -> Task:
    """What is learned there."""
    return read_dataset(toy(name).values["dataset"]).task


def outcome(task: str, key: str) -> str:
    """Empty where a method runs on a task, or else why it does not, in a line."""
    try:
        attempt(task, key)
    except ConfigError as error:
        return error.problems[0].removeprefix(f"method={key}: ")
    return ""


def main(words: list[str]) -> None:
    """Print the table."""
    tasks = [word for word in words if word in TASKS] or list(TASKS)
    keys = [word for word in words if word in registry.options("method")] or list(registry.options("method"))
    for task in tasks:
        for key in keys:
            try:
                reason = outcome(task, key)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                reason = f"CRASH {type(error).__name__} in {last.filename}:{last.lineno}: {error}".splitlines()[0]
            print(f"{task:<14} {key:<22} {reason or 'runs'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
