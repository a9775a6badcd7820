"""Which views of each class a network has learned, where each class has several (Allen-Zhu and Li, ICLR 2023)."""

from collections.abc import Sequence
from typing import Any

import torch

from kdrun.data.synthetic import VIEWS, MultiView
from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredNetwork, StoredRun
from kdrun.evaluation.diagnostics.tables import ROLES, WHOSE, Findings, over_seeds, whose

__all__ = ["LEARNED", "views_learned"]

READER = "kdrun.data.synthetic.multiview"
LEARNED = 0.9  # the accuracy above which a view counts as learned
VIEW_ROWS = (*WHOSE, "class", "view", "pictures", "accuracy", "learned")
SUMMARY = (*WHOSE, "views", "views_learned", "classes_by_all_views", "accuracy_on_single_views")


def views_learned(loader: NetworkLoader, runs: Sequence[StoredRun], each: int) -> Findings:
    """Show every network pictures that hold one view of one class.

    Args:
        loader: where networks come from.
        runs: any; those on other data are passed over.
        each: pictures of each view of each class.
    """
    found = [run for run in runs if run.settings.node("dataset")["_target_"] == READER]
    if not found:
        return Findings({}, [], ["views: no run on dataset=multiview"])
    rows, summary = [], []
    known: dict[StoredNetwork, list[list[float]]] = {}
    for run, role, network in loader.networks(found, ROLES):
        made = MultiView.of(run.settings.node("dataset"))
        if network not in known:
            known[network] = accuracies(network, made, each)
        first, shares = whose(run, role, network), known[network]
        for label, own in enumerate(shares):
            for view, share in enumerate(own):
                rows.append({**first, "class": network.data.classes[label], "view": view, "pictures": each, "accuracy": share,
                             "learned": share > LEARNED})
        summary.append({**first, **summed(shares)})
    shown = {"views_learned": (f"views learned\nof {VIEWS} a class", lambda value: f"{value:.1f}"),
             "classes_by_all_views": ("classes by\nall views", lambda value: f"{value:.1f}"),
             "accuracy_on_single_views": ("accuracy on\nsingle views", lambda value: f"{100 * value:.1f} %")}
    return Findings({"views": (rows, VIEW_ROWS), "views_summary": (summary, SUMMARY)},
                    over_seeds("Views learned", summary, shown),
                    [f"A view is learned where more than {100 * LEARNED:.0f} % of {each} pictures that show it alone are told "
                     "right."])


def accuracies(network: StoredNetwork, made: MultiView, each: int) -> list[list[float]]:
    """The accuracy on pictures that show one view alone, by class and view."""
    by_view = []
    for view in range(VIEWS):
        pictures = made.showing(view, each)
        right = (network.logits(pictures).argmax(dim=1) == pictures.labels).float()
        by_view.append(right.view(each, made.classes).mean(dim=0))
    return torch.stack(by_view, dim=1).tolist()


def summed(shares: Sequence[Sequence[float]]) -> dict[str, Any]:
    """How many views are learned, of how many classes all, and the accuracy over all of them."""
    learned = [[share > LEARNED for share in own] for own in shares]
    flat = [share for own in shares for share in own]
    return {"views": len(flat), "views_learned": sum(map(sum, learned)), "classes_by_all_views": sum(map(all, learned)),
            "accuracy_on_single_views": sum(flat) / len(flat)}
