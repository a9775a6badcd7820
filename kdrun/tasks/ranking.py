"""Ranking items for users from implicit feedback: one held-out item a user, to be found among all that are not known."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.data.sequences import main_tensor
from kdrun.evaluation import ranking_metrics
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import InputKind, Need, Task
from kdrun.utils.seeding import generator

__all__ = ["Ranking", "Untouched", "bce", "bpr"]

AT_ONCE = 2**18  # pairs of a user and an item that are scored together in evaluation


class Ranking(Task):
    """Which items a user will like, learned from those that the user liked before.

    A training sample is a user and an item that the user liked; beside it stand items drawn evenly from all that the user
    is not known to like, so a batch is [B, 1 + n]: the user, the liked item, the others. In evaluation all items are
    scored, and the one that is held out is looked for among those that are not known. Ties count against the network.

    Settings of the data set, by their names in `info`:

        users: how many there are.
        items: likewise.
        loss: of the labels, `bpr` or `bce`; see the functions of these names.
        negatives: how many others count in it.
        rows: what the rows of an answer are: `list` makes the scores of `candidates` items the logits of as many classes;
            `pair` makes each of their scores s the two logits (s, 0), liked and not; `none`: an answer has no rows, and
            methods that compare logits are refused.
        candidates: how many items there are in a list.
        sampled: in evaluation, among how many drawn items the held-out one is ranked; 0 for all. The measures then have
            the same names, and are not comparable with those over all items.

    Args:
        classes: names of the places in a list.
        shape: nothing is known by it.
        info: the settings.
    """

    key = "ranking"
    headline = "ndcg_at_10"
    measured = ("ndcg_at_10", "hit_rate_at_10", "mrr", "recall_at_20")
    watched = ("ndcg_at_10", "hit_rate_at_10")
    inputs: ClassVar[InputKind] = "pairs"
    row_labels: ClassVar[bool] = False

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.users, self.items = int(self.info["users"]), int(self.info["items"])
        others = 0 if self.info["rows"] == "none" else self.info["candidates"] - 1
        self.others = max(int(self.info["negatives"]), others)
        self.untouched: tuple[Samples, Untouched] | None = None

    def problems(self, source: Source) -> list[str]:
        """What makes likes unfit to learn from."""
        found = source.problems()
        for name, part in source.parts.items() if not found else ():
            for what, numbers, count in (("users", part.inputs, self.users), ("items", part.labels, self.items)):
                if int(numbers.min()) < 0 or int(numbers.max()) >= count:
                    found.append(f"the {what} of the {name} samples run from {int(numbers.min())} to {int(numbers.max())}; "
                                 f"wanted 0 to {count - 1}")
        if not found:
            try:
                Untouched(source.train.inputs, source.train.labels[:, 0], self.users, self.items)
            except ValueError as error:
                found.append(str(error))
        return found

    @property
    def gives(self) -> frozenset[Need]:
        """What methods may need; rows only where the settings make some."""
        return super().gives - ({"rows"} if self.info["rows"] == "none" else set())

    @property
    def outputs(self) -> int:
        """Two where each pair is a row, else the length of a list."""
        return 2 if self.info["rows"] == "pair" else len(self.classes)

    def given(self) -> dict[str, Any]:
        """How many users and items there are."""
        return {"users": self.users, "items": self.items}

    def example(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Users and lists of items [count, 1 + n] as long as in training."""
        pairs = torch.arange(count * (2 + self.others), device=device).view(count, -1)
        return torch.cat([pairs[:, :1] % self.users, pairs[:, 1:] % self.items], dim=1)

    def expected(self, count: int) -> tuple[int | None, ...]:
        """Scores [count, n]."""
        return (count, 1 + self.others)

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Users with the item each liked and, in training, others that each is not known to like."""
        pairs = torch.cat([inputs[:, None], samples.labels[rows]], dim=1)
        if draws is not None:
            if self.untouched is None or self.untouched[0] is not samples:
                self.untouched = samples, Untouched(samples.inputs, samples.labels[:, 0], self.users, self.items)
            pairs = torch.cat([pairs, self.untouched[1].draw(inputs, self.others, draws)], dim=1)
        return Batch(pairs, None, rows)

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """Lists [B, candidates], or pairs [B * candidates, 2].

        Raises:
            ValueError: there are to be none.
        """
        if self.info["rows"] == "none":
            raise ValueError("it compares logits, and with dataset.rows=none the scores are none; set dataset.rows=list or "
                             "dataset.rows=pair")
        scores = logits[:, :len(self.classes)]
        return torch.stack([scores, torch.zeros_like(scores)], dim=2).flatten(0, 1) if self.info["rows"] == "pair" else scores

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The liked item against others, by the loss that is set.

        Raises:
            ValueError: labels are to be smoothed, and likes are none.
        """
        if smoothing:
            raise ValueError(f"recipe.label_smoothing is {smoothing:g}, and ranking has no classes to smooth over; give "
                             "recipe.label_smoothing=0")
        scores = output.logits if output.dense is None else output.dense
        return {"bpr": bpr, "bce": bce}[self.info["loss"]](scores, self.info["negatives"])

    def predict(self, network: nn.Module, batch: Batch) -> ModelOutput:
        """The scores [B, items] of all items for the users of a batch."""
        users = main_tensor(batch.x)[:, :1]
        catalogue = torch.arange(self.items, device=users.device).split(max(1, AT_ONCE // len(users)))
        scores = [network(torch.cat([users, part.expand(len(users), -1)], dim=1)).logits for part in catalogue]
        return ModelOutput(torch.cat(scores, dim=1), users.float())

    def split_rows(self, answers: ModelOutput, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """The scores of all items [U, items], as one distribution over them for each user."""
        return answers.logits, None

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """NDCG@10, hit rate at 10, mean reciprocal rank, and recall at 20."""
        allowed = ranking_metrics.candidates(samples.fields["known"], self.items)
        if self.info["sampled"]:
            draws = generator("sampled candidates", len(samples), self.info["sampled"])
            allowed = ranking_metrics.sampled_candidates(allowed, samples.labels, self.info["sampled"], draws)
        places = ranking_metrics.ranks(answers.logits, samples.labels, allowed)
        return {"ndcg_at_10": ranking_metrics.ndcg(places, 10), "hit_rate_at_10": ranking_metrics.hit_rate(places, 10),
                "mrr": ranking_metrics.mean_reciprocal_rank(places), "recall_at_20": ranking_metrics.recall(places, 20)}

    def decode(self, output: ModelOutput) -> list[list[int]]:
        """The ten best items of each user, best first."""
        return output.logits.topk(min(10, output.logits.shape[1]), dim=1).indices.tolist()


def bpr(scores: Tensor, negatives: int) -> Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009): -ln sigmoid(positive - negative), the mean over all pairs.

    Args:
        scores: [B, 1 + n], the liked item's first.
        negatives: how many of the others count, from the first on.
    """
    return F.softplus(scores[:, 1:1 + negatives] - scores[:, :1]).mean()


def bce(scores: Tensor, negatives: int) -> Tensor:
    """Binary cross-entropy of each score by itself (He et al. 2017), the mean over liked items and negatives; as `bpr`."""
    counted = scores[:, :1 + negatives]
    target = torch.zeros_like(counted)
    target[:, 0] = 1
    return F.binary_cross_entropy_with_logits(counted, target)


class Untouched:
    """The items that each user has not touched, to draw from evenly, without trial and error.

    The j-th untouched item (from 0) of a user is j plus the number of touched items before it; the k-th touched item t_k
    is before it where t_k - k <= j, and these differences rise, so one binary search over all users' answers any draw.

    Args:
        users: [N] int64.
        items: [N] int64, what they touched; no pair twice.
        count: how many users.
        catalogue: how many items.

    Raises:
        ValueError: a user touched every item.
    """

    def __init__(self, users: Tensor, items: Tensor, count: int, catalogue: int) -> None:
        order = (users * catalogue + items).argsort()
        users, items = users[order], items[order]
        self.touched = torch.bincount(users, minlength=count)
        if bool((self.touched >= catalogue).any()):
            raise ValueError(f"user {int(self.touched.argmax())} likes all {catalogue} items; there is none to tell from them")
        self.first = self.touched.cumsum(0) - self.touched
        self.catalogue = catalogue
        self.keys = users * catalogue + items - (torch.arange(len(users), device=users.device) - self.first[users])

    def draw(self, users: Tensor, count: int, draws: torch.Generator) -> Tensor:
        """Items [B, count] that these users [B] have not touched, each drawn by itself from a CPU generator."""
        free = (self.catalogue - self.touched[users])[:, None]
        share = torch.rand(len(users), count, generator=draws, dtype=torch.float64).to(users.device)
        chosen = (share * free).long()
        keys = (users[:, None] * self.catalogue + chosen).contiguous()
        return chosen + torch.searchsorted(self.keys, keys, right=True) - self.first[users][:, None]
