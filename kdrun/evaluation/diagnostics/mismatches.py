"""The pictures on which a student does not answer as its teacher does, and which of the two was right.

(Joseph et al., Going beyond classification accuracy metrics in model compression, 2020.)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredRun
from kdrun.evaluation.diagnostics.tables import ROLES, WHOSE, Findings, over_seeds, whose

__all__ = ["Mismatches", "mismatches", "mismatches_of"]


class Mismatches(NamedTuple):
    """How many pictures two networks answer differently.

    Attributes:
        mismatches: all of them.
        lost: those that the reference had right.
        won: those that it had wrong and the other has right.
        both_wrong: those that both have wrong, in two ways.
    """

    mismatches: int
    lost: int
    won: int
    both_wrong: int


def mismatches(reference: Tensor, other: Tensor, labels: Tensor) -> Mismatches:
    """Count the pictures on which two networks answer differently.

    Args:
        reference: logits [N, K].
        other: logits [N, K].
        labels: [N].
    """
    before, after = reference.argmax(dim=1), other.argmax(dim=1)
    differ = before != after
    lost, won = differ & (before == labels), differ & (after == labels)
    return Mismatches(*(int(rows.sum()) for rows in (differ, lost, won, differ & ~lost & ~won)))


def mismatches_of(loader: NetworkLoader, runs: Sequence[StoredRun]) -> Findings:
    """Compare the student of each run, and its baseline, with the teacher of the same run, on the test set."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        found = {role: network for _, role, network in loader.networks([run], ROLES)}
        if (teacher := found.pop("teacher", None)) is None:
            continue
        labels = teacher.data.test.labels
        for role, network in found.items():
            counted = mismatches(teacher.test, network.test, labels)
            rows.append({**whose(run, role, network), "pictures": len(labels), **counted._asdict(),
                         "mismatch_share": counted.mismatches / len(labels)})
    whole = {"mismatches": "mismatches", "lost": "teacher\nright", "won": "student\nright", "both_wrong": "both\nwrong"}
    shown = {key: (heading, lambda value: f"{value:.1f}") for key, heading in whole.items()}
    shown["mismatch_share"] = "share", lambda value: f"{100 * value:.2f} %"
    return Findings({"mismatches": (rows, COLUMNS)}, over_seeds("Mismatches with the teacher", rows, shown),
                    ["A network can have the teacher's accuracy and answer other pictures right: each mismatch is a picture "
                     "whose answer changes."])


COLUMNS = (*WHOSE, "pictures", *Mismatches._fields, "mismatch_share")
