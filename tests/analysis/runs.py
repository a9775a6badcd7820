"""Folders of finished runs as kdrun leaves them, written by hand, so that every figure in a test is known."""

import csv
import hashlib
import json
from pathlib import Path

from kdrun.config import registry
from kdrun.evaluation import scores

COLUMNS = (
    "run", "seed", "dataset", "task", "method", "scheme", "knowledge", "family", "recipe", "role", "model",
    "parameters", "bytes", "bits", "flops", "latency_ms", "epochs", "seconds",
    "headline", "headline_value", "accuracy", "top5", "macro_f1", "nll", "ece",
    "distillation_score", "alpha", "size_unit", "relative_error", "distillation_factor",
    "accuracy_reduction_pct", "improvement_pct", "size_reduction_pct", "kl", "correlation", "agreement",
)
STUDENT, TEACHER = 100, 400  # parameters


def settings_of(key: str, under: str, **changes) -> dict:
    """What run.json says of a run's settings; method and scheme as their YAMLs have them."""
    epochs = {"${recipe.epochs}": 40, "${recipe.init_epochs}": 5}  # as the recipe below
    own = {name: epochs.get(str(value), value) for name, value in registry.load("method", key).items() if name != "defaults"}
    plain = {
        "dataset": {"_target_": "kdrun.data.readers.digits", "name": "digits", "validation": 0.1, "train_limit": None},
        "recipe": {"name": "digits", "epochs": 40, "init_epochs": 5, "lr": 0.05},
        "teacher": {"_target_": "kdrun.models.plain.CNN", "name": "big", "checkpoint": None},
        "student": {"_target_": "kdrun.models.plain.CNN", "name": "small"},
        "scheme": registry.load("scheme", under), "method": own, "teachers": None, "precision": "fp32",
    }
    return {**plain, **{name: {**plain[name], **new} if isinstance(new, dict) else new for name, new in changes.items()}}


def write_run(outputs: Path, key: str = "kd", seed: int = 1, accuracy: float = 0.9, *, taught: float | None = 0.95,
              alone: float = 0.88, name: str | None = None, finished: str = "2026-01-01T00:00:00+0000",
              under: str = "offline", peers: tuple[str, ...] = (), parts: str = "", **changes) -> Path:
    """Write a finished run of a method; changes are of its settings.

    Args:
        outputs: its runs/ gets the folder.
        key: of the method.
        seed: of the run.
        accuracy: the student's.
        taught: the teacher's accuracy; None for no teacher.
        alone: the baseline's.
        name: of the run; by its settings without.
        finished: when.
        under: the scheme.
        peers: networks that learn along.
        parts: what results say the method is made of: "+rkd+kd".
        changes: groups of settings, or single ones.
    """
    settings = settings_of(key, under, **changes)
    digest = hashlib.sha256(str(settings).encode()).hexdigest()[:6]
    name = name or f"{settings['dataset']['name']}-{key}-s{seed}-{digest}"
    folder = outputs / "runs" / name
    folder.mkdir(parents=True)

    def row(role: str, model: str, size: int, reached: float, **more) -> dict:
        return {**dict.fromkeys(COLUMNS), "run": name, "seed": seed, "dataset": settings["dataset"]["name"],
                "task": "classification", "method": key + parts, "scheme": under, "knowledge": "response",
                "family": registry.method_card(key).family, "recipe": settings["recipe"]["name"],
                "role": role, "model": model, "parameters": size, "bytes": 4 * size, "bits": 32 * size, "epochs": 40,
                "seconds": 1.5, "headline": "accuracy", "headline_value": reached, "accuracy": reached, **more}

    student = {"alpha": 0.5, "size_unit": "parameters"}
    if taught is not None:
        student["distillation_score"] = scores.distillation_score(STUDENT, TEACHER, accuracy, taught, 0.5)
    rows = [*([row("teacher", settings["teacher"]["name"], TEACHER, taught)] if taught is not None else []),
            row("baseline", settings["student"]["name"], STUDENT, alone),
            row("student", settings["student"]["name"], STUDENT, accuracy, **student),
            *(row(f"peer {number}", peer, TEACHER, accuracy) for number, peer in enumerate(peers, 2))]
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (folder / "history.csv").write_text(
        f"run,role,phase,epoch,split,metric,value\n{name},student,distill,0,validation,accuracy,{accuracy}\n")
    (folder / "per_class.csv").write_text(f"run,role,model,class,samples,recall,f1\n{name},student,small,0,10,0.5,0.6\n")
    told = {"status": "finished", "choices": {"method": key, "scheme": under}, "settings": settings, "device": "cpu",
            "finished": finished, "rows": rows}
    (folder / "run.json").write_text(json.dumps(told))
    return folder
