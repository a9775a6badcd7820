"""Born-again networks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from kdrun.config.constraints import Few
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import mixture
from kdrun.methods.shapes import Curriculum
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role, frozen


class Ensemble(nn.Module):
    """Several networks as one: its probabilities are the mean of theirs (Furlanello et al. 2018, equation 3).

    Everything in its answer but the logits is the last network's.
    """

    def __init__(self, members: Sequence[Role]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.model = f"{len(members)} {members[-1].model}"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"members": list(self.members)}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        answers = []
        for member in self.members:
            assert isinstance(member, Role)
            answers.append(member(pictures, fresh=True))
            member.forget()
        return answers[-1].replace(logits=mixture([answer.logits for answer in answers]))


class BAN(Curriculum):
    """Teach a fresh copy of the student by the one before, several times over (Furlanello et al. 2018).

    Under `scheme=self`, the paper's form, generation 0 is the student trained on the labels alone; under
    `scheme=offline` the run's teacher teaches generation 1. Every generation starts from new weights, and learns by the
    base method from the last epoch of the one before. All taught generations together are one more product, the
    `ensemble` of the paper, as large as all of them.

    Args:
        base: the method of each generation; the paper's is cross-entropy plus the soft cross-entropy at temperature 1.
        generations: how many are taught.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self", "offline")
    past_teaches = False
    knowledge = ("response",)
    source = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-again neural networks. ICML 2018"
    survey_scheme = "online (Gou, Table 3); self (Gou, section 4.3); offline (Alkhulaifi)"
    survey_tables = ("Gou 3", "Gou section 4.3", "Alkhulaifi 1")

    def __init__(self, *, base: Method, generations: Few) -> None:
        super().__init__(base=base)
        self.generations = generations
        self.past: list[Role] = []  # not a ModuleList: what is trained no more is in no checkpoint

    def phases(self, run: Run) -> Iterator[Phase]:
        """Generation after generation."""
        networks = run.networks
        if not run.scheme.trained_teacher:
            yield Phase("generation 0", loss=self.alone, train=[networks.student])
            self.succeed(run, 1)
        for generation in range(1, self.generations + 1):
            yield from self.base_phases(run, f"generation {generation}")
            if generation < self.generations:
                self.succeed(run, generation + 1)
                self.past += run.networks.teachers

    def succeed(self, run: Run, generation: int) -> None:
        """The student becomes the teacher of a student with new weights."""
        run.networks.teachers = [frozen(run.networks.student, f"generation {generation - 1}")]
        run.networks.student = run.factory.student(generation)

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The last generation; and all that were taught, where they are several."""
        student = {"student": networks.student}
        return {**student, "ensemble": Ensemble([*self.past, networks.student])} if self.past else student

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}
