"""Modality distillation with several streams."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Epochs, Fraction, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.evaluation.metrics import accuracy
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.cross_modal.hallucination import TwoStreams, imagining_network
from kdrun.methods.losses import same_size, soft_cross_entropy
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, frozen, learning


def squashed_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The squared distance of features of any one shape after a sigmoid, summed over everything, the batch too."""
    return (teacher.detach().sigmoid() - student.sigmoid()).square().sum()


class ModalityDistillation(Method):
    """Train a stream to imagine a modality that is missing at test time, and fuse it with the student's (Garcia et al. 2018).

    Four steps: each modality has a stream of its own (the teacher, and the student trained alone); both are tuned together by
    the mean of their logits; a hallucination stream, which sees the student's modality, learns the labels, the softened answers
    and the features of the other's stream, which stays as it is by then; at last student and hallucination are tuned together
    by the mean of their logits. Tested are these two together, which never see the teacher's modality: their size is that of
    both. `modalities.csv` has every stream, and both of the second step, which is what the teacher's modality would give at
    test time.

    As in the authors' code, the softened term has no squared temperature, and the distance of features is a sum over places,
    channels and batch; its weight is theirs. Features are the last maps. Where the modalities are of several kinds (pictures
    and sequences) the hallucination is a network like the student, and features are the embeddings, of which the
    hallucination's goes through a linear layer that learns with it. Left out are the multiplicative connections between the
    streams, which the authors' code has as an option.

    On the digits (LSTMs of 16 on films, taught by wrn_16_2, seed 1 alone) both together have 98.0 %, the student's stream
    96.4 %, the student alone, which is half as large, 96.2 %; with the teacher's modality at test time it would be 99.0 %.

    Args:
        fuse_epochs: of the second step.
        tune_epochs: of the fourth.
        tune_rate: the share of the recipe's learning rate in these two, whose networks are trained already; at the whole of it
            the teacher's stream is lost.
        temperature: softens both answers.
        imitation: lambda 1, the share of the softened answers in what is learned of answers; labels have the other.
        answers: lambda 2, the share of answers; features have the other.
        weight: lambda 3, of the distance of features.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    rebuilds_student = True
    needs = ("one row a sample",)
    label_term = None
    knowledge = ("response", "feature")
    source = "Garcia, Morerio, Murino: Modality distillation with multiple stream networks for action recognition. ECCV 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)

    adapter: nn.Module

    def __init__(self, *, fuse_epochs: Epochs, tune_epochs: Epochs, tune_rate: Positive, temperature: Positive,
                 imitation: Fraction, answers: Fraction, weight: NonNegative) -> None:
        super().__init__()
        self.fuse_epochs, self.tune_epochs, self.tune_rate, self.temperature = fuse_epochs, tune_epochs, tune_rate, temperature
        self.imitation, self.answers, self.weight = imitation, answers, weight

    def phases(self, run: Run) -> Iterator[Phase]:
        """The steps; the first is that of the teacher, and of the student alone.

        Raises:
            ValueError: streams of one kind show no maps.
        """
        networks, alone = run.networks, run.factory.baseline()
        networks.student.network.load_state_dict(alone.network.state_dict())
        other = learning(networks.teacher, "other stream")
        networks.peers = [other]
        self.tuning = True
        yield Phase("two streams", loss=self.fused, train=[networks.student, other], epochs=self.fuse_epochs,
                    evaluate=False)
        networks.peers = [other := frozen(other), imagining := imagining_network(run, other)]
        self.of_maps = other.task.inputs == imagining.task.inputs
        if self.of_maps and not (other.shapes.stages and imagining.shapes.stages):
            raise ValueError(f"it compares the last maps of two streams, and {other.model} shows none; choose another teacher")
        (given,), (wanted,) = imagining.shapes.embedding, other.shapes.embedding
        self.tuning = False
        self.adapter = (nn.Identity() if self.of_maps or given == wanted else nn.Linear(given, wanted)).to(networks.device)
        yield Phase("hallucination", loss=self.imagined, train=[imagining, self.adapter], evaluate=False)
        self.tuning = True
        yield Phase("fine-tune", loss=self.fused, train=[networks.student, imagining], epochs=self.tune_epochs)

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, at a lower rate where trained networks are tuned."""
        return (replace(recipe, lr=self.tune_rate * recipe.lr) if self.tuning else recipe).build(weights)

    def fused(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, by the mean logits of the student and of the last stream beside it."""
        own, other = networks.student(batch), networks.peers[-1](batch)
        return {"fused": self.label_loss(own.replace(logits=(own.logits + other.logits) / 2), batch)}

    def imagined(self, networks: Networks, batch: Batch) -> Terms:
        """What the hallucination learns: labels, and the other's answers and features (equation 5)."""
        other, given = (stream(batch) for stream in networks.peers)
        features = same_size(other.stages[-1], given.stages[-1]) if self.of_maps else \
            (other.embedding, self.adapter(given.embedding))
        soft = soft_cross_entropy(other.logits, given.logits, self.temperature)
        return {"labels": self.answers * (1 - self.imitation) * self.label_loss(given, batch),
                "soft": self.answers * self.imitation * soft,
                "features": (1 - self.answers) * self.weight * squashed_distance(*features)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Student and hallucination as one network, and the student's stream alone."""
        return {"student": TwoStreams(networks.student, networks.peers[-1]), "stream": networks.student}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The test accuracy of each stream and of pairs; a pair with the other needs its modality at test time."""
        networks, data = run.networks, run.data
        own, other, imagined = (predict(role, data, data.test, run.device) for role in (networks.student, *networks.peers))
        said = {"student": own, "other": other, "hallucination": imagined, "student and hallucination": (own + imagined) / 2,
                "student and other": (own + other) / 2}
        return {"modalities": [{"streams": name, "accuracy": accuracy(logits, data.test.labels)}
                               for name, logits in said.items()]}
