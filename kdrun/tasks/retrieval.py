"""Embeddings that find samples of one class, where classes of the test were never trained on."""

import math
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.evaluation import retrieval_metrics
from kdrun.models.cosine import with_cosine_head
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import Task
from kdrun.utils.seeding import generator

__all__ = ["Retrieval", "arcface"]

PAIRS_COMPARED, PAIRS_DRAWN = 2_000_000, 10_000


def drawn(samples: int) -> bool:
    """Whether so many samples make more pairs than are compared, so that some of them are drawn instead."""
    return samples * (samples - 1) // 2 > PAIRS_COMPARED


def arcface(logits: Tensor, labels: Tensor, scale: float, margin: float, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy after the angle to the true class is enlarged by a margin (Deng et al., ArcFace, CVPR 2019).

    Args:
        logits: [B, K], cosines times `scale`.
        labels: [B].
        scale: of the logits.
        margin: in radians. Beyond the half turn, where a larger angle would be a larger cosine, the cosine is lowered by
            margin * sin(margin) instead, as in the authors' code.
        smoothing: of the labels.
    """
    cosine = (logits.gather(1, labels[:, None]) / scale).clamp(-1 + 1e-6, 1 - 1e-6)  # the angle has no slope at its ends
    angle = cosine.acos()
    harder = torch.where(angle + margin <= math.pi, (angle + margin).cos(), cosine - margin * math.sin(margin))
    return F.cross_entropy(logits.scatter(1, labels[:, None], scale * harder), labels, label_smoothing=smoothing)


class Retrieval(Task):
    """To find pictures of the same class by their embeddings, also of classes that were never trained on.

    In training it is a classification of the seen classes. What is measured are embeddings of test pictures, whose classes
    were not seen: their logits mean nothing there.

    Settings of the data set, by their names in `info`:

        head: of every network, `linear` or `arcface`: cosines in place of its classifier, and a margin in the label loss.
        scale: of those cosines.
        margin: in radians.
        far: the largest share of pairs of two classes that may be accepted where the true accept rate is measured.
    """

    key = "retrieval"
    headline = "recall_at_1"
    measured = ("recall_at_1", "map", "roc_auc", "tar_at_far", "eer")
    watched = ("recall_at_1", "roc_auc")
    dense: ClassVar[bool] = False
    sample_labels: ClassVar[bool] = True
    keeps: ClassVar[tuple[str, ...]] = ("embedding",)

    def problems(self, source: Source) -> list[str]:
        """What makes pictures unfit to train on, and what makes those of the test (and of validation) no pairs to compare."""
        # labels of the test are of any classes
        seen = replace(source, test=replace(source.test, labels=source.test.labels.clamp_max(0)))
        found = source.problems() or seen.picture_problems()
        for name, part in source.parts.items() if not found else ():
            if name == "training":
                continue
            size = torch.bincount(part.labels)
            different = PAIRS_DRAWN // 2 if drawn(len(part)) else (len(part) ** 2 - int(size.square().sum())) // 2
            if int((size > 0).sum()) < 2 or int(size.max()) < 2:
                found.append(f"the {name} pictures make no pairs to compare; wanted two classes, one of them with two pictures")
            elif 0 < self.info["far"] < 1 / different:
                found.append(f"far is {self.info['far']:g}, but the {name} pictures make {different} pairs of two classes; "
                             f"wanted at least {1 / different:g}, or 0")
        return found

    def prepare(self, network: nn.Module) -> nn.Module:
        """With the head that the settings ask for."""
        return with_cosine_head(network, self.info["scale"]) if self.info["head"] == "arcface" else network

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy over the seen classes, with a margin where the head has one."""
        if self.info["head"] == "arcface":
            return arcface(output.logits, batch.labels, self.info["scale"], self.info["margin"], smoothing)
        return super().label_loss(output, batch, smoothing)

    def split_rows(self, answers: ModelOutput, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """The logits over the seen classes [N, K]; the classes of the samples may be others, so there are no labels."""
        return answers.logits, None

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """Recall at 1, mean average precision; of pairs the area under the ROC curve, true accept rate and equal error rate."""
        embeddings, labels = answers.embedding, samples.labels
        chosen = (PAIRS_DRAWN, generator("pairs", len(labels))) if drawn(len(labels)) else ()
        compared = retrieval_metrics.pairs(embeddings, labels, *chosen)
        return {"recall_at_1": retrieval_metrics.recall_at_1(embeddings, labels),
                "map": retrieval_metrics.mean_average_precision(embeddings, labels),
                "roc_auc": retrieval_metrics.roc_auc(compared),
                "tar_at_far": retrieval_metrics.true_accept_rate(compared, self.info["far"]),
                "eer": retrieval_metrics.equal_error_rate(compared)}
