"""Whether a network's confidence is its accuracy, before and after one temperature that the validation split chooses."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdrun.evaluation import metrics
from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredRun
from kdrun.evaluation.diagnostics.tables import ROLES, WHOSE, Findings, over_seeds, whose

__all__ = ["calibration", "fitted_temperature"]

COLUMNS = (*WHOSE, "accuracy", "nll", "brier", "ece", "mean_confidence", "temperature", "nll_after", "brier_after", "ece_after")
SPAN = (1 / 100, 100.0)  # of the temperature


def fitted_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that gives the labels the highest likelihood (Guo et al., On calibration of modern networks, 2017).

    The likelihood is concave in its inverse, so there is one; it is looked for from 1/100 to 100.

    Args:
        logits: [N, K].
        labels: [N].
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()
    found = minimize_scalar(lambda inverse: metrics.nll(inverse * logits, labels), method="bounded",
                            bounds=(1 / SPAN[1], 1 / SPAN[0]), options={"xatol": 1e-7})
    return 1 / float(found.x)


def calibration(loader: NetworkLoader, runs: Sequence[StoredRun]) -> Findings:
    """Measure every network of the runs."""
    rows = []
    for run, role, network in loader.networks(runs, ROLES):
        data, logits = network.data, network.test
        labels, first = data.test.labels, whose(run, role, network)
        watched, temperature = data.validation, None
        if len(watched):
            temperature = fitted_temperature(network.logits(watched), watched.labels)
        row: dict[str, Any] = {**first, "accuracy": metrics.accuracy(logits, labels),
                               "mean_confidence": float(logits.double().softmax(1).amax(1).mean()), "temperature": temperature}
        for name, answers in (("", logits), ("_after", logits / temperature if temperature else None)):
            row |= {f"{key}{name}": None if answers is None else metrics.finite(measure(answers, labels)) for key, measure in (
                ("nll", metrics.nll), ("brier", metrics.brier), ("ece", metrics.calibration_error))}
        rows.append(row)

    def exact(value: float) -> str:
        return f"{value:.4f}"

    headings = {"accuracy": "accuracy", "nll": "NLL", "brier": "Brier", "ece": "ECE", "temperature": "fitted T",
                "nll_after": "NLL\nat T", "ece_after": "ECE\nat T"}
    shown = {key: (heading, exact) for key, heading in headings.items()}
    return Findings({"calibration": (rows, COLUMNS)}, over_seeds("Calibration", rows, shown),
                    ["T is fitted on the validation split; ECE over 15 equal bins of confidence."])
