"""From a network to a decision tree."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.evaluation import metrics
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks
from kdrun.models.tree import Tree


class Plain:
    """The training pictures once in their own order, without augmentation: what a teacher is asked about."""

    def __init__(self, data: Data, size: int, device: torch.device) -> None:
        self.data, self.size, self.device = data, size, device

    def __len__(self) -> int:
        return -(-len(self.data.train) // self.size)

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches from step `first` on; the last one may be short."""
        rows = torch.arange(len(self.data.train))
        for step, plain in enumerate(self.data.plain(self.data.train, self.device, self.size)):
            if step >= first:
                index = rows[step * self.size:(step + 1) * self.size].to(self.device)
                yield replace(plain, index=index, epoch=epoch, epochs=epochs, step=step)


class CNN2Tree(Method):
    """Grow a decision tree that regresses the teacher's logits from the pixels (Liu, Wang and Matwin 2018).

    The teacher answers every training picture once; the tree splits by the squared error of those logits. The baseline
    is a tree of the same limits grown from the labels; `tree.csv` says how deep and how large both are and how often
    they agree with the teacher. Limits are the student's: `student.max_depth`, `student.min_samples_leaf`. The size of
    a tree is its number of nodes, so a score by `parameters` sets nodes against the teacher's weights.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("response",)
    structural = True
    plain_logits = "regresses logits by a tree"
    accepts_fitted_student = True
    source = "Liu, Wang, Matwin: Improving the interpretability of deep neural networks with knowledge distillation. " \
             "ICDM workshops 2018"
    survey_scheme = "offline"
    survey_tables = ("Alkhulaifi 1",)

    answers: Tensor  # the teacher's [N, K]; a buffer

    def setup(self, networks: Networks, data: Data) -> None:
        """Make room for the answers.

        Raises:
            ValueError: the student is no tree.
        """
        tree_of(networks)
        self.register_buffer("answers", torch.zeros(len(data.train), len(data.classes),
                                                    device=metrics.place_of(networks.teacher)))

    def phases(self, run: Run) -> Iterator[Phase]:
        """Ask the teacher, then fit the tree."""
        self.setup(run.networks, run.data)
        yield Phase("answers", data=Plain(run.data, run.recipe.batch_size, run.device), epochs=1, evaluate=False)
        tree = tree_of(run.networks)
        asked = min(run.recipe.batch_size, len(run.data.train)) if run.rehearsal else len(run.data.train)
        pictures = run.data.whole(run.data.train, run.device)[:asked]
        tree.fit(pictures, self.answers[:asked])
        error = float((tree(pictures).logits - self.answers[:asked]).square().mean())
        run.history.append((run.role, "tree", 0, "train", "mse", error))

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Nobody takes steps."""
        return {}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Write down what the teacher says; there is nothing to update."""
        self.answers[batch.rows] = networks.teacher(batch).logits.detach()
        return iter(())

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Depth, size, accuracy and fidelity of this tree and of one grown from the labels."""
        taught = tree_of(run.networks)
        alone = copy.deepcopy(taught)
        pictures = run.data.whole(run.data.train, run.device)
        alone.fit(pictures, run.data.train.labels.to(run.device))
        rows = []
        for name in ("train", "validation", "test"):
            split = getattr(run.data, name)
            if not len(split):
                continue
            teacher = predict(run.networks.teacher, run.data, split, run.device)
            for grown, tree in (("logits", taught), ("labels", alone)):
                logits = predict(tree, run.data, split, run.device)
                rows.append({"grown_from": grown, "split": name, "depth": int(tree.depth), "nodes": len(tree.answer),
                             "leaves": tree.leaves, "accuracy": metrics.accuracy(logits, split.labels),
                             "fidelity": metrics.agreement(teacher, logits)})
        return {"tree": rows}


def tree_of(networks: Networks) -> Tree:
    """The student's tree.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(networks.student.network, Tree):
        raise ValueError(f"it grows a decision tree, and the student {networks.student.model} is none; give student=tree")
    return networks.student.network
