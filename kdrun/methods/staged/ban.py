"""Born-again networks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Few, NonNegative
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.branches import answers_of
from kdrun.methods.losses import mixture, soft_cross_entropy
from kdrun.methods.shapes import Curriculum, next_generation
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


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
        answers = answers_of(self.members, pictures)
        return answers[-1].replace(logits=mixture([answer.logits for answer in answers]))


class BAN(Curriculum):
    """Teach a fresh copy of the student by the one before, several times over (Furlanello et al. 2018).

    Under `scheme=self`, the paper's form, generation 0 is the student trained on the labels alone; under
    `scheme=offline` the run's teacher teaches generation 1. Every generation starts from new weights, and learns by the
    base method from the last epoch of the one before. All taught generations together are one more product, the
    `ensemble` of the paper, as large as all of them.

    Args:
        base: the method of each generation; the paper's is cross-entropy plus the soft cross-entropy at temperature 1.
            Its two ablations are bases too: `method/base=cwtm` weighs the labels by the teacher's confidence, and
            `method/base=dkpp` permutes what the teacher says of the other classes.
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
            next_generation(run, 1)
        for generation in range(1, self.generations + 1):
            yield from self.base_phases(run, f"generation {generation}")
            if generation < self.generations:
                next_generation(run, generation + 1)
                self.past += run.networks.teachers

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The last generation; and all that were taught, where they are several."""
        student = {"student": networks.student}
        return {**student, "ensemble": Ensemble([*self.past, networks.student])} if self.past else student

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}


class ConfidenceWeighted(Method):
    """Labels alone, each sample weighed by how sure the teacher is of it (Furlanello et al. 2018, section 4.2, "CWTM").

    The weights of a batch sum to 1. With `permuted` below it is what the paper takes its method apart by: if the teacher's
    gain were that of weighing samples, this would have it all.
    """

    needs = ("labels",)
    label_term = None
    knowledge = ("response",)
    plain_logits = "weighs the labels by the teacher's probabilities"
    source = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-again neural networks. ICML 2018"

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The weighed labels."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        sure = teacher.logits.detach().softmax(dim=1).amax(dim=1)
        hard = F.cross_entropy(student.logits, batch.labels, reduction="none", label_smoothing=self.label_smoothing)
        return {"weighed": (sure * hard).sum() / sure.sum().clamp_min(1e-12)}


def permuted(logits: Tensor, draws: torch.Generator) -> Tensor:
    """Logits [B, K] whose largest stays and whose others change places at random, in each row anew."""
    order = logits.argsort(dim=1, descending=True)
    others = torch.rand(len(logits), logits.shape[1] - 1, generator=draws).argsort(dim=1).to(logits.device)
    shuffled = torch.cat([order[:, :1], order[:, 1:].gather(1, others)], dim=1)
    return torch.zeros_like(logits).scatter(1, order, logits.gather(1, shuffled))


class PermutedAnswers(Method):
    """Answers whose largest probability stays while the others change places (Furlanello et al. 2018, section 4.2, "DKPP").

    What the teacher says of the other classes tells no more which are alike, but how sure it is remains.

    Args:
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the soft cross-entropy, at temperature 1.
    """

    knowledge = ("response",)
    plain_logits = ""
    source = "Furlanello, Lipton, Tschannen, Itti, Anandkumar: Born-again neural networks. ICML 2018"

    def __init__(self, *, ce_weight: NonNegative, kd_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight = ce_weight, kd_weight

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and permuted answers."""
        student, teacher = networks.student(batch), networks.teacher(batch)
        wanted = permuted(teacher.logits.detach(), self.random)
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "kd": self.kd_weight * soft_cross_entropy(wanted, student.logits)}
