"""Two populations of networks beside each other, one network a seed: which classes and which pictures pay for the size."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from kdrun.analysis.statistics import LEVEL
from kdrun.evaluation import metrics
from kdrun.evaluation.diagnostics.seeds import class_impact, exemplars
from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredNetwork, StoredRun
from kdrun.evaluation.diagnostics.tables import Findings, headed, plain_table
from kdrun.utils.wording import counted

__all__ = ["class_impacts", "compression_exemplars"]

PAIR = ("comparison", "variant", "reference", "seeds_reference", "seeds_student")
IMPACT = (*PAIR, "class", "samples", "recall_reference", "recall_student", "f1_reference", "f1_student",
          "normalised_difference", "t", "p", "p_holm", "significant")
EXEMPLARS = (*PAIR, "picture", "class", "modal_reference", "modal_student", "identified", "taxicab", "top_percentile",
             "right_reference", "right_student")
SUMMARY = (*PAIR, "pictures", "identified", "identified_reference_right", "pictures_seen_differently", "mean_taxicab",
           "taxicab_99th_percentile", "accuracy_reference_identified", "accuracy_student_identified",
           "accuracy_reference_others", "accuracy_student_others")
FEW = 3       # seeds: fewer say little of a population


Population = list[StoredNetwork]


def pairs(loader: NetworkLoader, runs: Sequence[StoredRun], reference: str
          ) -> Iterator[tuple[StoredRun, Population, Population]]:
    """For each variant of each comparison: one of its runs, the reference networks and the students, one a seed."""
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    for own in cells.values():
        found: dict[str, Population] = {reference: [], "student": []}
        for _, role, network in loader.networks(own, (reference, "student")):
            found[role].append(network)
        if all(found.values()):
            yield own[0], found[reference], found["student"]


def about(run: StoredRun, reference: str, first: Sequence[StoredNetwork], second: Sequence[StoredNetwork]) -> dict[str, Any]:
    """The first columns of a pair's rows."""
    return {"comparison": run.comparison, "variant": run.variant, "reference": reference, "seeds_reference": len(first),
            "seeds_student": len(second)}


def few(row: dict[str, Any]) -> list[str]:
    """A line where there are too few seeds to say much."""
    least = min(row["seeds_reference"], row["seeds_student"])
    return [f"{row['variant']}: {counted(least, 'seed')}; at least {FEW} are wanted, the paper takes 30"] if least < FEW else []


def mean_f1(networks: Sequence[StoredNetwork]) -> list[float | None]:
    """The mean F1 score of each class."""
    scores = zip(*(metrics.f1(network.test, network.data.test.labels) for network in networks), strict=True)
    return [fmean(known) if (known := [score for score in own if score is not None]) else None for own in scores]


def class_impacts(loader: NetworkLoader, runs: Sequence[StoredRun], reference: str) -> Findings:
    """Which classes are helped or harmed more than all are, from the reference population to the students.

    Args:
        loader: where networks come from.
        runs: of several seeds.
        reference: teacher or baseline.
    """
    rows, notes = [], []
    table = plain_table(f"Class-level impact, {reference} → student",
                        ["", "seeds", "classes hit", "hardest hit", "recall", "difference", "p (Holm)"])
    for run, first, second in pairs(loader, runs, reference):
        data = first[0].data
        labels, start = data.test.labels, about(run, reference, first, second)
        counts = torch.bincount(labels, minlength=len(data.classes)).tolist()
        f1 = mean_f1(first), mean_f1(second)
        found = class_impact([one.test for one in first], [one.test for one in second], labels)
        for one in found:
            rows.append({**start, "class": data.classes[one.label], "samples": counts[one.label],
                         "recall_reference": one.recall[0], "recall_student": one.recall[1], "f1_reference": f1[0][one.label],
                         "f1_student": f1[1][one.label], "normalised_difference": one.difference, "t": one.t, "p": one.p,
                         "p_holm": one.p_holm, "significant": None if one.p_holm is None else one.p_holm <= LEVEL})
        worst = min(found, key=lambda one: one.difference)
        tested = [one.p_holm for one in found if one.p_holm is not None]
        table.add_row(headed(run.variant, run.comparison), f"{len(first)} / {len(second)}",
                      f"{sum(p <= LEVEL for p in tested)} of {len(tested)}" if tested else "–", data.classes[worst.label],
                      f"{worst.recall[0]:.3f} → {worst.recall[1]:.3f}", f"{100 * worst.difference:+.2f} points",
                      "–" if worst.p_holm is None else f"{worst.p_holm:.3g}")
        notes += few(start)
    notes.append("difference: of recall minus accuracy; p: Welch's t test over seeds with Holm's correction over classes; "
                 f"hit: p ≤ {LEVEL}.")
    return Findings({"class_impact": (rows, IMPACT)}, [table], notes)


def compression_exemplars(loader: NetworkLoader, runs: Sequence[StoredRun], reference: str) -> Findings:
    """The pictures on which the most frequent answer of the students is not that of the reference population.

    Args:
        loader: where networks come from.
        runs: of several seeds.
        reference: teacher or baseline.
    """
    rows, summary, notes = [], [], []
    table = plain_table(f"Compression-identified exemplars, {reference} → student", [
        "", "seeds", "identified", "where the\nreference was right", f"accuracy on them\n{reference} → student",
        f"on the others\n{reference} → student"])
    for run, first, second in pairs(loader, runs, reference):
        data, start = first[0].data, about(run, reference, first, second)
        labels = data.test.labels
        found = exemplars([one.test for one in first], [one.test for one in second], labels)
        top = float(found.taxicab.quantile(0.99))
        for place in found.taxicab.argsort(descending=True, stable=True).tolist():
            if found.taxicab[place] > 0:
                rows.append({**start, "picture": place, "class": data.classes[int(labels[place])],
                             "modal_reference": data.classes[int(found.modal[0][place])],
                             "modal_student": data.classes[int(found.modal[1][place])],
                             "identified": bool(found.identified[place]), "taxicab": float(found.taxicab[place]),
                             "top_percentile": bool(found.taxicab[place] >= top),
                             "right_reference": float(found.right[0][place]), "right_student": float(found.right[1][place])})
        own = found.identified
        row = {**start, "pictures": len(labels), "identified": int(own.sum()),
               "identified_reference_right": int((own & (found.modal[0] == labels)).sum()),
               "pictures_seen_differently": int((found.taxicab > 0).sum()), "mean_taxicab": float(found.taxicab.mean()),
               "taxicab_99th_percentile": top}
        for name, chosen in (("identified", own), ("others", ~own)):
            for who, right in zip(("reference", "student"), found.right, strict=True):
                row[f"accuracy_{who}_{name}"] = mean(right[chosen])
        summary.append(row)
        table.add_row(headed(run.variant, run.comparison), f"{len(first)} / {len(second)}",
                      f"{row['identified']} ({100 * row['identified'] / len(labels):.2f} %)",
                      str(row["identified_reference_right"]),
                      *(" → ".join("–" if (share := row[f"accuracy_{who}_{name}"]) is None else f"{100 * share:.1f} %"
                                   for who in ("reference", "student")) for name in ("identified", "others")))
        notes += few(start)
    notes.append("identified: the modal answers over seeds differ (of equally frequent classes the first); exemplars.csv "
                 "ranks all pictures that are seen differently by the taxicab distance of the answers.")
    return Findings({"exemplars": (rows, EXEMPLARS), "exemplars_summary": (summary, SUMMARY)}, [table], notes)


def mean(values: Tensor) -> float | None:
    """The mean; None of nothing."""
    return float(values.mean()) if len(values) else None
