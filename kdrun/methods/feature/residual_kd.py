"""Residual knowledge distillation: an assistant for what the student cannot mimic."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from kdrun.config.constraints import Epochs, NetworkName
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.branches import answers_of
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


class SummedMaps(nn.Module):
    """Several networks as one: their last maps, each brought to so many channels, are summed, pooled and classified.

    Everything in its answer but embedding and logits is the first network's.

    Args:
        members: the networks.
        widths: the channels of each one's last map.
        channels: those of the sum.
        classes: how many.
    """

    def __init__(self, members: Sequence[Role], widths: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.model = "+".join(member.model for member in members)
        self.adaptors = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.head = nn.Linear(channels, classes)

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        widths = [adaptor.get_parameter("weight").shape[1] for adaptor in self.adaptors]
        return {"members": list(self.members), "widths": widths, "channels": self.head.in_features,
                "classes": self.head.out_features}

    def answer(self, answers: Sequence[ModelOutput]) -> ModelOutput:
        """Of them all, from the answers of each."""
        maps = [adaptor(answer.stages[-1]) for adaptor, answer in zip(self.adaptors, answers, strict=True)]
        embedding = sum(maps[1:], maps[0]).mean(dim=(2, 3))
        return answers[0].replace(logits=self.head(embedding), embedding=embedding)

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        return self.answer(answers_of(self.members, pictures))


class ResidualKD(Method):
    """Mimic the teacher's last map, and let a small assistant mimic what is left of it (Gao et al. 2020).

    First the student learns the teacher's last map, brought to its channels by a 1x1 convolution; then an assistant learns
    the difference between that map and the student's, which stays as it is; then both, and a classifier of the sum of
    their maps that starts as the teacher's, learn from the labels. The result is the sum, so it is as large as student,
    assistant and convolutions together; `student without assistant` is its share, by the same classifier, which
    was never trained on that share alone.

    An approximation: the abstract tells the idea; that only the last map is learned, the mean of squares and the phases'
    lengths are ours, and so is the assistant's size (the paper splits one network's channels between the two).

    Args:
        assistant: the name of a small network, whose last map is as high and wide as the student's.
        mimic_epochs: of each of the first two phases.
    """

    needs = ("maps", "one row a sample")
    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("feature",)
    label_term = None
    source = "Gao, Shen, Li, Loy: Residual knowledge distillation. arXiv 2002.09168, 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 5",)

    adaptors: nn.ModuleList
    head: nn.Linear

    def __init__(self, *, assistant: NetworkName, mimic_epochs: Epochs) -> None:
        super().__init__()
        self.assistant, self.mimic_epochs = assistant, mimic_epochs
        self.made: dict[str, SummedMaps] = {}  # not a ModuleDict: what it adds to the networks is held below

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the convolutions and the classifier.

        Raises:
            ValueError: the last maps are not of one size, or the teacher has no linear classifier.
        """
        roles = [networks.student, *networks.peers, networks.teacher]
        *maps, wanted = [role.shapes.stages[-1] for role in roles]
        for role, found in zip(roles, maps, strict=False):
            if found[1:] != wanted[1:]:
                raise ValueError(f"the last map of the {role.name} {role.model} is {found[1]}x{found[2]}, and the teacher's is "
                                 f"{wanted[1]}x{wanted[2]}; " + ("choose another student" if role is networks.student else
                                                                 "choose another method.assistant"))
        widths, (classes,) = [found[0] for found in maps], networks.teacher.shapes.logits
        classifier = networks.teacher.network.get_submodule(networks.teacher.classifier)
        both = SummedMaps(roles[:2], widths, wanted[0], classes).to(networks.device)
        both.head.load_state_dict(classifier.state_dict())
        alone = SummedMaps(roles[:1], widths[:1], wanted[0], classes).to(networks.device)
        alone.adaptors, alone.head = nn.ModuleList([both.adaptors[0]]), both.head
        self.adaptors, self.head = both.adaptors, both.head
        self.made = {"student": both, "student without assistant": alone}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The map, what is left of it, then the labels."""
        run.networks.peers = [assistant := run.factory.named(self.assistant, "assistant")]
        self.setup(run.networks, run.data)
        if self.mimic_epochs:
            yield Phase("mimic", loss=self.mimic, train=[run.networks.student, self.adaptors[0]], epochs=self.mimic_epochs,
                        evaluate=False)
            yield Phase("residual", loss=self.residual, train=[assistant, self.adaptors[1]], epochs=self.mimic_epochs,
                        evaluate=False)
        yield Phase("labels")

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """One: both, and what joins them."""
        return {"student": [networks.student, *networks.peers, self]}

    def mimic(self, networks: Networks, batch: Batch) -> Terms:
        """The teacher's map."""
        own = self.adaptors[0](networks.student(batch).stages[-1])
        return {"mimic": (own - networks.teacher(batch).stages[-1].detach()).square().mean()}

    def residual(self, networks: Networks, batch: Batch) -> Terms:
        """What the student leaves of it."""
        left = networks.teacher(batch).stages[-1].detach() - self.adaptors[0](networks.student(batch).stages[-1]).detach()
        own = self.adaptors[1](networks.peers[0](batch).stages[-1])
        return {"residual": (own - left).square().mean()}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, by the sum of both maps."""
        together = self.made["student"].answer([networks.student(batch), networks.peers[0](batch)])
        return {"sum": self.label_loss(together, batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The sum, and the student's share of it."""
        return dict(self.made)
