"""What a finished run is worth to a search: never anything of the test set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from kdrun.evaluation.scores import distillation_score
from kdrun.sweeps.job import validation_score

__all__ = ["DIRECTIONS", "Objective", "budget_tolerance", "measured", "n2n_reward"]

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
            "flops": student["flops"], "teacher_validation_accuracy": accuracy["teacher"],
            "teacher_parameters": teacher["parameters"] if teacher else None}


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

