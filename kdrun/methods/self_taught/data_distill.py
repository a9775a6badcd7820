"""Data distillation."""

import itertools
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Bounds, Count, Positive, Proportion
from kdrun.data.batch import Batch
from kdrun.data.pool import BesidePool
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.shapes import next_generation
from kdrun.models.roles import Networks, evaluating

Share = Annotated[float, Bounds(above=0, below=1)]


def transformed(pictures: Tensor, scale: float = 1.0, down: int = 0, right: int = 0, mirrored: bool = False) -> Tensor:
    """Pictures [B, C, H, W] enlarged about their middle, moved by pixels and mirrored; what comes in is their border again."""
    height, width = pictures.shape[-2:]
    across = -1.0 if mirrored else 1.0
    theta = pictures.new_tensor([[across / scale, 0.0, -across * 2 * right / width / scale],
                                 [0.0, 1 / scale, -2 * down / height / scale]])
    grid = F.affine_grid(theta.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def like_labelled(confidence: Tensor, labels: Tensor, wanted: Tensor, least: float) -> float:
    """From which confidence on answers are to be kept, so that their classes are as frequent as wanted.

    Of all numbers of most confident answers the one whose classes are nearest to it (in total variation), and the largest of
    several.

    Args:
        confidence: of each answer's label [N].
        labels: [N].
        wanted: share of each class [K].
        least: share of the answers that is kept at least.
    """
    order = confidence.argsort(descending=True, stable=True)
    counts = F.one_hot(labels[order], len(wanted)).cumsum(dim=0).double()
    apart = (counts / counts.sum(dim=1, keepdim=True) - wanted.double()).abs().sum(dim=1)
    first = max(math.ceil(least * len(order)), 1) - 1
    apart[:first] = math.inf
    last = int((apart <= apart.min() + 1e-12).nonzero()[-1])
    return float(confidence[order[last]])


class DataDistill(Method):
    """Label further pictures by what a network says of several views of them, and train anew on all (Radosavovic et al. 2018).

    A network that learned from the labels alone answers views of each sample of the pool (`dataset.labelled=80`): scaled,
    moved, and mirrored where the data set's augmentation mirrors. The mean of its probabilities labels the sample, which is
    kept where its label is sure enough. Then a network with new weights learns, longer, from labelled and kept samples, in
    batches of a fixed share of both. Under `scheme=self`, the paper's main form, both are the student; under `scheme=offline`
    the run's teacher labels the pool.

    An approximation: the paper detects persons and objects, and of its text the abstract and accounts of others were at hand.
    There the threshold is such that a picture has as many annotations as a labelled one; here each picture has one, and the
    threshold is such that classes are as frequent as among the labelled. Shares and lengths are not known for certain. Measured
    on digits with 80 labels (resnet8, three seeds): 93.4 ± 1.0 % of the test set right, the student alone 91.1 ± 1.4 %.

    Args:
        scales: of the views.
        shift: pixels by which they are moved up, down, left and right besides; 0 for none.
        threshold: the least probability of a label that is kept (none is dropped where all are below); null for the one that
            leaves the classes as frequent as those of the labelled samples.
        least_kept: share of the pool that is kept at least under `threshold=null`.
        labels: `hard` learns the class; `soft`, which is not the paper's, the mean probabilities.
        pool_share: of a batch that is of the pool.
        length: of the last training, in those of the recipe.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self", "offline")
    needs = ("pictures", "one row a sample", "sample labels")
    past_teaches = False
    knowledge = ("response",)
    plain_logits = "chooses by the teacher's confidence what to learn from"
    source = "Radosavovic, Dollár, Girshick, Gkioxari, He: Data distillation: towards omni-supervised learning. CVPR 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 6.6",)

    targets: Tensor

    def __init__(self, *, scales: list[Positive], shift: Count, threshold: Proportion | None, least_kept: Share,
                 labels: Literal["hard", "soft"], pool_share: Share, length: Positive) -> None:
        super().__init__()
        if not scales:
            raise ValueError("scales needs at least one number; 1 shows pictures as they are")
        self.scales, self.shift, self.threshold, self.least_kept = list(scales), shift, threshold, least_kept
        self.labels, self.pool_share, self.length = labels, pool_share, length

    def phases(self, run: Run) -> Iterator[Phase]:
        """The labels alone, where no teacher did that before; then both."""
        steps, size = len(run.stream), max(1, round(run.stream.size * self.pool_share / (1 - self.pool_share)))
        run.pool(size, steps)  # refused here where there is none
        if not run.scheme.trained_teacher:
            yield Phase("generation 0", loss=self.alone)
            next_generation(run, 1)
        pool = run.pool(size, steps, self.annotated(run), "annotated pool")
        yield Phase("retrain", data=BesidePool(run.stream, pool),
                    epochs=1 if run.rehearsal else max(1, round(self.length * run.recipe.epochs)))

    @torch.no_grad()
    def annotated(self, run: Run) -> Tensor:
        """Have the teacher label the pool: the rows that are kept, and what is to be learned of them in `targets`."""
        samples = run.unlabelled()
        asked = torch.arange(min(8, len(samples)) if run.rehearsal else len(samples))
        with evaluating(run.networks.teacher):
            mean = torch.cat([self.opinion(run, batch.pictures) for batch in run.data.plain(samples[asked], run.device)]).cpu()
        confidence, labels = mean.max(dim=1)
        known = run.data.train.labels
        least = self.threshold if self.threshold is not None else like_labelled(
            confidence, labels, torch.bincount(known, minlength=mean.shape[1]) / len(known), self.least_kept)
        sure = confidence >= least
        kept = (sure if sure.any() else torch.ones_like(sure)).nonzero()[:, 0]
        self.register_buffer("targets", (mean[kept] if self.labels == "soft" else labels[kept]).to(run.device))
        return asked[kept]

    def opinion(self, run: Run, pictures: Tensor) -> Tensor:
        """The teacher's mean probabilities [B, K] over all views."""
        moves = [(0, 0), *(((self.shift, 0), (-self.shift, 0), (0, self.shift), (0, -self.shift)) if self.shift else ())]
        mirrored = (False, True) if run.data.settings.flip else (False,)
        views = [transformed(pictures, scale, down, right, mirror)
                 for scale, (down, right), mirror in itertools.product(self.scales, moves, mirrored)]
        return torch.stack([run.networks.teacher(view, fresh=True).logits.softmax(dim=1) for view in views]).mean(dim=0)

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The mean over a batch of labelled samples and samples of the pool, which pass the student together."""
        assert batch.pool is not None
        answer = networks.student(torch.cat([batch.pictures, batch.pool.pictures]))
        labelled, others = answer.logits[:len(batch)], answer.logits[len(batch):]
        share = len(others) / len(answer.logits)
        pool = F.cross_entropy(others, self.targets[batch.pool.rows], label_smoothing=self.label_smoothing)
        return {"ce": (1 - share) * self.label_loss(answer.replace(logits=labelled), batch), "pool": share * pool}
