"""What a finished run is worth to a search: never anything of the test set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from kdrun.evaluation.scores import distillation_score
from kdrun.sweeps.job import validation_score

if TYPE_CHECKING:
    from kdrun.data.data import Data

__all__ = ["DIRECTIONS", "Objective", "akd_reward", "budget_tolerance", "measured", "n2n_reward", "teacher_kl"]

Objective = Literal["validation_accuracy", "distillation_score", "parameters", "flops"]

DIRECTIONS: Final[Mapping[str, Literal["maximize", "minimize"]]] = {
    "validation_accuracy": "maximize", "distillation_score": "minimize", "parameters": "minimize", "flops": "minimize"}

assert set(DIRECTIONS) == set(get_args(Objective))


def measured(folder: Path) -> dict[str, float | None]:
    """Everything that a search may go by, from a finished run's folder; None for what is not defined.

    The validation accuracies are those after the last epoch. The distillation score is made of them: the one in
    results.csv is of the test set.
    """
    told = json.loads((folder / "run.json").read_text())
    rows = {row["role"]: row for row in told["rows"]}
    student, teacher = rows["student"], rows.get("teacher")
    accuracy = {role: validation_score(folder, role) for role in ("student", "teacher")}
    measures = told["settings"]["measures"]
    unit = measures["size_unit"]
    score = None
    if teacher is not None and None not in (accuracy["student"], accuracy["teacher"], student[unit], teacher[unit]):
        score = distillation_score(student[unit], teacher[unit], accuracy["student"] or 0, accuracy["teacher"],
                                   measures["alpha"])
    return {"validation_accuracy": accuracy["student"], "distillation_score": score, "parameters": student["parameters"],
            "flops": student["flops"], "latency_ms": student.get("latency_ms"),
            "teacher_validation_accuracy": accuracy["teacher"],
            "teacher_parameters": teacher["parameters"] if teacher else None}


def akd_reward(accuracy: float, cost: float, target: float, exponent: float) -> float:
    """The reward of AKD, as of MnasNet: the accuracy of a distilled student times (cost / target) to an exponent below 0.

    (Liu et al., Search to distill: pearls are everywhere but not the eyes, CVPR 2020; Tan et al., MnasNet, CVPR 2019.)
    """
    return accuracy * (cost / target) ** exponent


def n2n_reward(accuracy: float, teacher_accuracy: float, parameters: int, teacher_parameters: int) -> float:
    """N2N's reward of a student: its share of the teacher's accuracy times C (2 - C), where C is the share saved.

    (Ashok et al., N2N learning: network to network compression via policy gradient reinforcement learning, ICLR 2018.)
    """
    saved = 1 - parameters / teacher_parameters
    return accuracy / teacher_accuracy * saved * (2 - saved)


def budget_tolerance(iteration: int) -> float:
    """How much N2N forgives a student over its budget: (1 - iteration / 15)^4, from 1 down to 0.

    Such a student's reward R becomes (tolerance - 1) + tolerance * R.
    """
    return max(0.0, 1 - iteration / 15) ** 4



def teacher_kl(folder: Path, store: Path, data: "Data") -> float | None:
    """How far the answers of a finished run's student to the validation split are from its teacher's; None without a teacher.

    Args:
        folder: of the run.
        store: with the weights of teachers.
        data: of the run.
    """
    import torch  # late, as all that needs it: a search composes its jobs without

    from kdrun.evaluation.metrics import kl_divergence  # with torch
    from kdrun.loading import load  # with torch
    from kdrun.models.prediction import predict  # with torch
    from kdrun.models.roles import Role  # with torch

    entry = json.loads((folder / "run.json").read_text())["entries"].get("teacher")
    if entry is None:
        return None
    teacher, student = (predict(Role(load(path).network, name, data.task), data, data.validation, torch.device("cpu"))
                        for path, name in ((store / entry, "teacher"), (folder, "student")))
    return kl_divergence(teacher, student)
