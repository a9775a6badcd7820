"""What distillation is made of: what each part of the teacher's answer brings, and which samples it weighs anew.

(Tang et al., Understanding and improving knowledge distillation, 2020.)
"""

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredRun
from kdrun.evaluation.diagnostics.tables import Findings, plain_table, spread
from kdrun.methods.losses.partial import gradient_ratio

__all__ = ["parts_of"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
PARTS = ("comparison", "part", "seed", "accuracy", "baseline", "gap_points", "share_of_full")
RATIOS = ("comparison", "seed", "samples", "count", *(f"q{100 * place:.0f}" for place in QUANTILES), "teacher_surer")


def parts_of(loader: NetworkLoader, runs: Sequence[StoredRun]) -> Findings:
    """What runs of `method=kd_parts` reached by each part, beside the run of the same seed by the whole answer.

    The share is the gap to the student alone over that of the whole answer, of means over the seeds that both have: a gap of
    nothing has no shares. The ratios are of the students by the whole answer, on the test set at temperature 1.
    """
    own = [run for run in runs if run.settings.choices["method"] == "kd_parts"]
    if not own:
        return Findings({}, [], ["no run is of method=kd_parts; kdrun -m method=kd_parts method.part=smoothing,confidence,"
                                 "classes,largest,permuted,full seed=1,2,3 makes them"])
    gaps: dict[tuple[str, str], dict[int, float]] = {}
    rows: list[dict[str, Any]] = []
    for run in own:
        part, alone = str(run.settings.node("method")["part"]), run.accuracies.get("baseline")
        if alone is None:
            continue
        gap = 100 * (run.accuracies["student"] - alone)
        gaps.setdefault((run.comparison, part), {})[run.seed] = gap
        rows.append({"comparison": run.comparison, "part": part, "seed": run.seed, "accuracy": run.accuracies["student"],
                     "baseline": alone, "gap_points": gap})
    tables, comparisons = [], list(dict.fromkeys(run.comparison for run in own))
    for comparison in comparisons:
        table = plain_table(f"What each part brings: {comparison}", ["part", "seeds", "gap to baseline,\npoints",
                                                                    "share of\nthe whole"])
        for (where, part), found in sorted(gaps.items(), key=lambda item: -statistics.fmean(item[1].values())):
            if where == comparison:
                share = share_of(found, gaps.get((comparison, "full"), {}))
                table.add_row(part, str(len(found)), spread(found.values(), lambda value: f"{value:.2f}"),
                              "–" if share is None else f"{100 * share:.0f} %")
        tables.append(table)
    for row in rows:
        row["share_of_full"] = share_of(gaps[row["comparison"], row["part"]], gaps.get((row["comparison"], "full"), {}))
    ratios = [row for run in own if run.settings.node("method")["part"] == "full" for row in ratios_of(loader, run)]
    notes = ["A share is of means over few seeds: where the whole answer brings little beside their spread, it says nothing."]
    if ratios:
        table = plain_table("How distillation weighs samples anew (gradient of the true logit, 1 - w where teacher and student "
                            "are equally sure)", ["samples", "count", *(f"{100 * place:.0f} %" for place in QUANTILES),
                                                  "teacher\nsurer"])
        for kind in dict.fromkeys(row["samples"] for row in ratios):
            same = [row for row in ratios if row["samples"] == kind]
            table.add_row(kind, f"{statistics.fmean(row['count'] for row in same):.0f}",
                          *(f"{statistics.fmean(row[f'q{100 * place:.0f}'] for row in same):.3f}" for place in QUANTILES),
                          f"{100 * statistics.fmean(row['teacher_surer'] for row in same):.0f} %")
        tables.append(table)
    return Findings({"parts": (rows, PARTS), "gradient_ratios": (ratios, RATIOS)}, tables, notes)


def share_of(part: dict[int, float], full: dict[int, float]) -> float | None:
    """The mean gap by a part over that by the whole answer, of the seeds that both have; None where there is none."""
    seeds = sorted(part.keys() & full.keys())
    whole = statistics.fmean(full[seed] for seed in seeds) if seeds else 0.0
    return statistics.fmean(part[seed] for seed in seeds) / whole if whole > 0 else None


def ratios_of(loader: NetworkLoader, run: StoredRun) -> list[dict[str, Any]]:
    """Quantiles of the ratio over all test samples, those that the student has right, and those that it has wrong."""
    found = {role: network for _, role, network in loader.networks([run], ("teacher", "student"))}
    if len(found) < 2:
        return []
    labels = found["student"].data.test.labels
    teacher, student = (found[role].test.double().softmax(dim=1) for role in ("teacher", "student"))
    method = run.settings.node("method")
    weight = float(method["kd_weight"]) / (float(method["kd_weight"]) + float(method["ce_weight"]))
    ratio = gradient_ratio(teacher, student, labels, weight)
    right = student.argmax(dim=1) == labels
    rows = []
    for name, own in {"all": torch.ones_like(right), "student right": right, "student wrong": ~right}.items():
        if bool(own.any()):
            places = torch.quantile(ratio[own], torch.tensor(QUANTILES, dtype=ratio.dtype)).tolist()
            rows.append({"comparison": run.comparison, "seed": run.seed, "samples": name, "count": int(own.sum())}
                        | dict(zip(RATIOS[4:-1], places, strict=True))
                        | {"teacher_surer": float((ratio[own] > 1 - weight).double().mean())})
    return rows
