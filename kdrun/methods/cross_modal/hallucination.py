"""Modality hallucination."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.evaluation.metrics import accuracy
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import same_size
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, Role


def distance(teacher: Tensor, imagined: Tensor) -> Tensor:
    """The squared distance of squashed maps [B, C, H, W], summed over a sample and averaged over the batch."""
    return (teacher.detach().sigmoid() - imagined.sigmoid()).square().flatten(1).sum(dim=1).mean()


def start_from(network: nn.Module, taught: nn.Module) -> int:
    """Give a network the weights of another that have its names and shapes; returns how many tensors those are."""
    own = network.state_dict()
    fitting = {name: value for name, value in taught.state_dict().items() if name in own and value.shape == own[name].shape}
    network.load_state_dict({**own, **fitting})
    return len(fitting)


def imagining_network(run: Run, taught: Role) -> Role:
    """A network on the student's modality that is to say what another says of its own, and starts from that one's weights.

    It is one like the teacher, or like the student where the teacher's cannot see the student's modality (pictures and
    sequences), and then starts from its own.

    Args:
        run: of the method.
        taught: a network like the teacher.
    """
    factory = run.factory
    spec = factory.teacher_specs[0] if taught.task.inputs == run.data.task.inputs else factory.student_spec
    imagining = factory.build(spec, "hallucination")
    start_from(imagining.network, taught.network)
    return imagining


class TwoStreams(nn.Module):
    """A network and its hallucination, whose mean logits are the answer; both see the same pictures.

    Args:
        seeing: the network that learned the modality itself.
        imagining: the network that learned what another modality would look like to its teacher.
    """

    def __init__(self, seeing: Role, imagining: Role) -> None:
        super().__init__()
        self.seeing, self.imagining = seeing, imagining
        self.model = f"{seeing.model}+{imagining.model}"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"seeing": self.seeing, "imagining": self.imagining}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]; maps and embedding are those of the first network."""
        seen = self.seeing(pictures, fresh=True)  # asked anew: whoever measures the time asks the same pictures again
        return seen.replace(logits=(seen.logits + self.imagining(pictures, fresh=True).logits) / 2)


class Hallucination(Method):
    """Beside the student, train a network to see in its modality what the teacher sees in another (Hoffman et al. 2016).

    The hallucination network is one like the teacher, starts from the teacher's weights (where they fit its modality)
    and answers the student's pictures; its map is drawn to the teacher's map of the same sample. Student, hallucination
    and both pairs of streams (student and teacher, student and hallucination: mean logits) learn the labels together.
    Tested are student and hallucination together, which never see the teacher's modality: their size is that of both.
    Deviations, so an approximation: the whole teacher is frozen, so that the terms that only it could learn are left out;
    streams are fused in their last answers. `modalities.csv` has every stream, and what the teacher's modality itself
    would give at test time.

    Args:
        stage: whose maps are compared, from 1; null for the last.
        ratio: how much larger than the largest other term the hallucination term is made, at the first step; its weight
            stays as it was then.
        ce_weight: of each cross-entropy.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps", "one row a sample")
    knowledge = ("feature",)
    source = "Hoffman, Gupta, Darrell: Learning with side information through modality hallucination. CVPR 2016"
    survey_scheme = "offline"
    survey_tables = ("Gou 4",)

    weight: Tensor

    def __init__(self, *, stage: AtLeastOne | None, ratio: NonNegative, ce_weight: Positive) -> None:
        super().__init__()
        self.stage, self.ratio, self.ce_weight = stage, ratio, ce_weight
        self.register_buffer("weight", torch.tensor(float("nan")))

    def phases(self, run: Run) -> Iterator[Phase]:
        """All streams together."""
        networks = run.networks
        stages = networks.teacher.shapes.stages
        if (self.stage or 0) > len(stages):
            raise ValueError(f"method.stage is {self.stage}, but the teacher has {len(stages)} stages")
        self.tapped = (self.stage or len(stages)) - 1
        self.to(networks.device)
        networks.peers = [imagining_network(run, networks.teacher)]
        yield Phase()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Student and hallucination, by one optimizer."""
        return {"student": [networks.student, *networks.peers]}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The map, and the labels for each stream and each pair of streams."""
        (imagining,) = networks.peers
        student, imagined, teacher = networks.student(batch), imagining(batch), networks.teacher(batch)
        answers = {"ce": student.logits, "ce hallucination": imagined.logits,
                   "ce with hallucination": (student.logits + imagined.logits) / 2,
                   "ce with teacher": (student.logits + teacher.logits.detach()) / 2}
        terms = {name: self.ce_weight * self.label_loss(student.replace(logits=logits), batch)
                 for name, logits in answers.items()}
        apart = distance(*same_size(teacher.stages[self.tapped], imagined.stages[self.tapped]))
        # chosen on the device at the first step, and kept
        self.weight = torch.where(self.weight.isnan(), calibrated(self.ratio, apart, terms), self.weight)
        return {**terms, "hallucination": self.weight * apart}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Student and hallucination as one network, and the student's stream alone."""
        return {"student": TwoStreams(networks.student, *networks.peers), "stream": networks.student}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The test accuracy of each stream and pair; a pair with the teacher needs its modality at test time."""
        networks, data = run.networks, run.data
        own, imagined, teacher = (predict(role, data, data.test, run.device) for role in
                                  (networks.student, *networks.peers, networks.teacher))
        answers = {"student": own, "hallucination": imagined, "teacher": teacher,
                   "student and hallucination": (own + imagined) / 2, "student and teacher": (own + teacher) / 2}
        return {"modalities": [{"streams": name, "accuracy": accuracy(logits, data.test.labels)}
                               for name, logits in answers.items()]}


def calibrated(ratio: float, apart: Tensor, terms: Terms) -> Tensor:
    """The weight that makes a distance `ratio` times the largest of the terms; 0 where there is no distance."""
    largest = torch.stack(list(terms.values())).max().detach()
    return torch.where(apart > 0, ratio * largest / apart.detach().clamp_min(1e-12), 0.0)
