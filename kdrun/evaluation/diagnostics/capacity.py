"""Which teacher is the best for a student, and whether that one cannot follow it or was not brought to.

(Cho and Hariharan, On the efficacy of knowledge distillation, 2019.)
"""

import statistics
from collections.abc import Sequence
from typing import Any

from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredRun
from kdrun.evaluation.diagnostics.tables import Findings, headed, plain_table, spread
from kdrun.evaluation.metrics import kl_divergence
from kdrun.models.configured import teacher_specs
from kdrun.models.roles import STOPPED

__all__ = ["capacity_of"]

CAPACITY = ("comparison", "run", "seed", "variant", "teacher", "teacher_share", "soft_share", "taught_by_accuracy",
            "teacher_accuracy", "accuracy", "baseline", "gap_points", "kl_train", "kl_test")
MOST = 10_000  # training samples that are asked about; of more a fixed, balanced part


def capacity_of(loader: NetworkLoader, runs: Sequence[StoredRun]) -> Findings:
    """Students of `method=es_kd` and `method=kd` beside the teachers that taught them, over the sizes and epochs of these.

    The divergence KL(teacher || student) is from the teacher that taught, at temperature 1 and without augmentation. A student
    that differs from it on the test samples, and follows it on the training samples, was trained well enough; one that does
    not follow it even there is too small for it, or was trained too little. `kd` is a teacher of all epochs whose influence
    never ends. Sequential assistants, which the paper tries too, are a method of their own (`method=takd`).
    """
    rows: list[dict[str, Any]] = []
    notes = []
    where: dict[str, str] = {}
    for run in runs:
        method = run.settings.choices["method"]
        if method not in ("kd", "es_kd") or run.settings.choices["scheme"] != "offline":
            continue
        specs = teacher_specs(run.settings, loader.data(run))
        if len(specs) > 1:
            notes.append(f"left out: {run.name}: it has {len(specs)} teachers")
            continue
        node = run.settings.node("method")
        shares = {name: float(node[name]) if method == "es_kd" else 1.0 for name in ("teacher_share", "soft_share")}
        taught_by = STOPPED if shares["teacher_share"] < 1 else "teacher"
        if taught_by not in run.accuracies:
            notes.append(f"left out: {run.name}: its teacher, which was stopped early, was not kept; run it again")
            continue
        alone, own = run.accuracies.get("baseline"), run.accuracies["student"]
        choices = run.settings.choices
        where[run.name] = f"{choices['dataset']}, student {choices['student']}, recipe {choices['recipe']}"
        rows.append({"comparison": run.comparison, "run": run.name, "seed": run.seed, "variant": run.variant,
                     "teacher": specs[0].name, **shares, "taught_by_accuracy": run.accuracies[taught_by],
                     "teacher_accuracy": run.accuracies.get("teacher"), "accuracy": own, "baseline": alone,
                     "gap_points": None if alone is None else 100 * (own - alone), **divergences(loader, run, taught_by)})
    if not rows:
        return Findings({}, [], [*notes, "no run is of method=es_kd or method=kd; kdrun -m method=es_kd teacher=wrn_16_2,"
                                 "resnet20 method.teacher_share=0.25,0.5,1 method.soft_share=0.5,0.75,1 seed=1,2,3 makes some"])
    tables = []
    for place in dict.fromkeys(where.values()):
        found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            if where[row["run"]] == place:
                key = tuple(row[name] for name in ("teacher", "teacher_share", "soft_share", "variant", "comparison"))
                found.setdefault(key, []).append(row)
        table = plain_table(f"Students and the teachers that taught them: {place}", [
            "", "teacher's\nepochs", "epochs\nwith it", "seeds", "its\naccuracy", "student", "gap to baseline,\npoints",
            "KL,\ntraining", "KL,\ntest"])
        for key in sorted(found):
            teacher, share, soft, variant, _ = key
            table.add_row(headed(variant, f"teacher {teacher}"), f"{100 * share:.0f} %", f"{100 * soft:.0f} %",
                          str(len(found[key])),
                          *(spread([row[name] for row in found[key]], lambda value: f"{100 * value:.2f}")
                            for name in ("taught_by_accuracy", "accuracy")),
                          spread([row["gap_points"] for row in found[key]], lambda value: f"{value:.2f}"),
                          *(spread([row[name] for row in found[key]], lambda value: f"{value:.4f}")
                            for name in ("kl_train", "kl_test")))
        tables.append(table)
        means = {key: [statistics.fmean(row[name] for row in own) for name in ("accuracy", "taught_by_accuracy")]
                 for key, own in found.items()}
        best, most = max(means, key=lambda key: means[key][0]), max(means, key=lambda key: means[key][1])
        notes.append(f"{place}: the best student, {100 * means[best][0]:.2f} %, is by {told(best)}, whose accuracy is "
                     f"{100 * means[best][1]:.2f} %; the most accurate teacher has {100 * means[most][1]:.2f} %.")
    return Findings({"capacity": (rows, CAPACITY)}, tables, notes)


def told(key: tuple[Any, ...]) -> str:
    """A teacher, how long it was trained and how long it taught."""
    teacher, share, soft = key[:3]
    return f"{teacher} of {100 * share:.0f} % of its epochs in {100 * soft:.0f} % of the student's"


def divergences(loader: NetworkLoader, run: StoredRun, taught_by: str) -> dict[str, float | None]:
    """How far the student is from the teacher that taught it, on the training and the test samples; None where one is lost."""
    found = {role: network for _, role, network in loader.networks([run], (taught_by, "student"))}
    if len(found) < 2:
        return {"kl_train": None, "kl_test": None}
    data = found["student"].data
    train = data.train if len(data.train) <= MOST else data.train.limit(MOST, 0, len(data.classes))
    answers = [[found[role].logits(samples) for role in (taught_by, "student")] for samples in (train, data.test)]
    return {f"kl_{part}": kl_divergence(*pair) for part, pair in zip(("train", "test"), answers, strict=True)}
