"""How much of a network's accuracy is left when pictures are corrupted or chosen to mislead, and how alike boundaries are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from kdrun.data.samples import Samples
from kdrun.data.streamed import in_memory
from kdrun.evaluation.diagnostics.attacks import fgsm, pgd, robust, transition_gaps
from kdrun.evaluation.diagnostics.corruptions import SEVERITIES, corrupt
from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredNetwork, StoredRun
from kdrun.evaluation.diagnostics.tables import ROLES, WHOSE, Findings, headed, over_seeds, plain_table, spread, whose
from kdrun.evaluation.metrics import accuracy
from kdrun.utils.seeding import generator
from kdrun.utils.wording import counted

__all__ = ["Stress", "boundary", "corruption_errors", "robustness"]

CORRUPTED = (*WHOSE, "pictures", "corruption", "severity", "accuracy", "error")
ATTACKED = (*WHOSE, "pictures", "attack", "eps", "steps", "accuracy")
SUMMARY = (*WHOSE, "pictures", "clean_accuracy", "corrupted_accuracy", "mce", "relative_mce")
BOUNDARY = ("run", "seed", "comparison", "variant", "first", "second", "pictures", "steps", "rate", "transition_error")
CLEAN = ("clean", 0)  # as a corruption and its severity
BATCH = 250  # pictures attacked at once


@dataclass(frozen=True)
class Stress:
    """What the networks are put to.

    Attributes:
        pictures: how many of the test set, its classes balanced; 0 for all.
        corruptions: their names.
        eps: how far an attack may go, for pixels from 0 to 1.
        steps: of PGD.
        seed: of every draw.
    """

    pictures: int
    corruptions: tuple[str, ...]
    eps: tuple[float, ...]
    steps: int
    seed: int

    def chosen(self, network: StoredNetwork) -> Samples:
        """The pictures of the network's test set."""
        test = network.data.test
        return test if not self.pictures or self.pictures >= len(test) else test.limit(self.pictures, self.seed,
                                                                                      len(network.data.classes))


Errors = Mapping[tuple[str, int], float]


def corruption_errors(own: Errors, reference: Errors, clean: float,
                      reference_clean: float) -> tuple[float | None, float | None]:
    """The mean corruption error and the relative one (Hendrycks and Dietterich 2019, section 4), 1 for the reference itself.

    For each corruption the errors summed over severities, over the reference's; their mean. The relative one takes the
    error on clean pictures from each first. None where the reference has no error to divide by.

    Args:
        own: the error of each (corruption, severity).
        reference: likewise.
        clean: the error on clean pictures.
        reference_clean: likewise.
    """
    shares: tuple[list[float], list[float]] = [], []
    for name in dict.fromkeys(name for name, _ in own):
        mine, theirs = ([errors[key] for key in own if key[0] == name] for errors in (own, reference))
        for found, low, their_low in ((shares[0], 0.0, 0.0), (shares[1], clean, reference_clean)):
            below = sum(error - their_low for error in theirs)
            if below > 0:
                found.append(sum(error - low for error in mine) / below)
    first, second = (fmean(found) if found else None for found in shares)
    return first, second


def accuracies(network: StoredNetwork, sets: Mapping[tuple[str, int], Samples]) -> dict[tuple[str, int], float]:
    """The network's accuracy on each of several sets of pictures."""
    return {key: accuracy(network.logits(pictures), pictures.labels) or 0 for key, pictures in sets.items()}


def withstood(network: StoredNetwork, pictures: Samples, stress: Stress) -> list[dict[str, Any]]:
    """The accuracy that is left under each attack.

    Raises:
        ValueError: the network is not differentiable in its pictures.
    """
    full = 255.0 if pictures.inputs.dtype == torch.uint8 else 1.0
    rows = []
    for eps in stress.eps:
        for name, steps in (("fgsm", 1), ("pgd", stress.steps)):
            right = 0
            batches = zip(pictures.inputs.split(BATCH), pictures.labels.split(BATCH), strict=True)
            for number, (images, given) in enumerate(batches):
                pixels, labels = images.to(network.device).float() / full, given.to(network.device)
                draws = generator("pgd", stress.seed, number)
                held = robust(network.sees, pixels, labels, fgsm, eps) if name == "fgsm" else \
                    robust(network.sees, pixels, labels, pgd, eps, steps, draws)
                right += int(held.sum())
            rows.append({"attack": name, "eps": eps, "steps": steps, "accuracy": right / len(pictures)})
    return rows


def robustness(loader: NetworkLoader, runs: Sequence[StoredRun], stress: Stress, reference: str) -> Findings:
    """Corrupt and attack every network of the runs.

    Args:
        loader: where networks come from.
        runs: any.
        stress: what they are put to.
        reference: teacher or baseline: whose corruption errors the others' are measured in.
    """
    corrupted, attacked, notes = [], [], []
    bad: dict[str, dict[tuple[str, int], Samples]] = {}
    shares: dict[StoredNetwork, dict[tuple[str, int], float]] = {}
    held: dict[StoredNetwork, list[dict[str, Any]]] = {}
    found = list(loader.networks(runs, ROLES, pictures=True))
    for run, role, network in found:
        if network in shares:
            continue
        pictures = stress.chosen(network)
        if network.data.digest not in bad:
            bad[network.data.digest], lines = all_corrupted(pictures, stress)
            notes += lines
        loader.note(f"{role} of {run.name}: {len(bad[network.data.digest])} corruptions, {2 * len(stress.eps)} attacks on "
                   f"{counted(len(pictures), 'picture')}")
        shares[network] = accuracies(network, {CLEAN: pictures, **bad[network.data.digest]})
        try:
            held[network] = withstood(network, pictures, stress)
        except ValueError as error:
            held[network] = []
            notes.append(f"{network.group}: not attacked, {error}")
    summary = []
    leaders = {run.name: network for run, role, network in found if role == reference}
    for run, role, network in found:
        first = {**whose(run, role, network), "pictures": len(stress.chosen(network))}
        own = shares[network]
        corrupted += [{**first, "corruption": name, "severity": severity, "accuracy": share, "error": 1 - share}
                      for (name, severity), share in own.items()]
        attacked += [{**first, **row} for row in held[network]]
        bare = [key for key in own if key != CLEAN]
        row = {**first, "clean_accuracy": own[CLEAN], "corrupted_accuracy": fmean(own[key] for key in bare) if bare else None,
               "mce": None, "relative_mce": None}
        if bare and (leader := leaders.get(run.name)):
            mine, theirs = ({key: 1 - share for key, share in shares[one].items()} for one in (network, leader))
            row["mce"], row["relative_mce"] = corruption_errors({key: mine[key] for key in bare}, theirs, mine[CLEAN],
                                                                theirs[CLEAN])
        summary.append(row | {f"{one['attack']} {one['eps']:.4g}": one["accuracy"] for one in held[network]})
    shown: dict[str, Any] = {"clean_accuracy": ("clean", percent)}
    if stress.corruptions:
        shown |= {"corrupted_accuracy": ("corrupted", percent), "mce": ("mCE", plain),
                  "relative_mce": ("relative\nmCE", plain)}
    shown |= {f"{name} {eps:.4g}": (f"{name.upper()}\n{told_eps(eps)}", percent)
              for eps in stress.eps for name in ("fgsm", "pgd")}
    blank = dict.fromkeys(shown)
    tables = over_seeds("Accuracy under stress, %", [{**blank, **row} for row in summary], shown)
    notes.append(f"mCE: corruption errors over the {reference}'s (1: as robust as it), relative mCE: what corruption adds to "
                 "the clean error, likewise; attacks move each pixel by at most eps, on a scale from 0 to 1.")
    return Findings({"corruptions": (corrupted, CORRUPTED), "attacks": (attacked, ATTACKED),
                     "robustness": ([{key: row[key] for key in SUMMARY} for row in summary], SUMMARY)}, tables, notes)


def all_corrupted(pictures: Samples, stress: Stress) -> tuple[dict[tuple[str, int], Samples], list[str]]:
    """The pictures after each corruption in each severity, and a line for each corruption that they cannot have."""
    found: dict[tuple[str, int], Samples] = {}
    notes, images = [], in_memory(pictures.inputs)
    for name in stress.corruptions:
        try:
            found |= {(name, severity): Samples(corrupt(images, name, severity, stress.seed), pictures.labels)
                      for severity in SEVERITIES}
        except ValueError as error:
            notes.append(f"left out: {error}")
    return found, notes


def boundary(loader: NetworkLoader, runs: Sequence[StoredRun], reference: str, pictures: int, steps: int, rate: float
             ) -> Findings:
    """The mean transition error between each run's student and its reference: 0 where both see every way between classes alike.

    Args:
        loader: where networks come from.
        runs: any.
        reference: teacher or baseline.
        pictures: how many of those that both get right to start from.
        steps: of each walk from one class to another.
        rate: the length of a step per unit of gradient, in normalised pictures.
    """
    rows: list[dict[str, Any]] = []
    notes = []
    for run in runs:
        own = {role: network for _, role, network in loader.networks([run], (reference, "student"), pictures=True)}
        if len(own) < 2:
            continue
        other, student = own[reference], own["student"]
        data = student.data
        if student.role.view != other.role.view:
            notes.append(f"left out: {run.name}: student and {reference} see different pictures")
            continue
        labels = data.test.labels
        both = (student.test.argmax(1) == labels) & (other.test.argmax(1) == labels)
        if not bool(both.any()):
            notes.append(f"left out: {run.name}: there is no picture that student and {reference} both get right")
            continue
        chosen = data.test[both.nonzero()[:, 0]]
        chosen = chosen.limit(min(pictures, len(chosen)), 0, len(data.classes))
        loader.note(f"{run.name}: walks from {counted(len(chosen), 'picture')} to "
                   f"{counted(len(data.classes) - 1, 'class', 'classes')} each")
        try:
            gaps = [transition_gaps(student.judges, other.judges, batch.pictures, batch.labels, len(data.classes), steps, rate)
                    for batch in data.seen(student.role.view).plain(chosen, student.device, size=BATCH)]
        except ValueError as error:
            notes.append(f"left out: {run.name}: {error}")
            continue
        rows.append({"run": run.name, "seed": run.seed, "comparison": run.comparison, "variant": run.variant,
                     "first": "student", "second": reference, "pictures": len(chosen), "steps": steps, "rate": rate,
                     "transition_error": float(torch.cat(gaps).mean())})
    table = plain_table(f"Mean transition error between student and {reference}", ["", "seeds", "transition error"])
    for cell in dict.fromkeys((row["comparison"], row["variant"]) for row in rows):
        values = [row["transition_error"] for row in rows if (row["comparison"], row["variant"]) == cell]
        table.add_row(headed(cell[1], cell[0]), str(len(values)), spread(values, lambda value: f"{value:.4f}"))
    return Findings({"boundary": (rows, BOUNDARY)}, [table], notes)


def percent(share: float) -> str:
    """A share in per cent, without the sign."""
    return f"{100 * share:.1f}"


def plain(value: float) -> str:
    """A ratio."""
    return f"{value:.3f}"


def told_eps(eps: float) -> str:
    """As a number of 255 steps where it is one."""
    return f"{255 * eps:.0f}/255" if abs(255 * eps - round(255 * eps)) < 1e-9 else f"{eps:.4g}"
