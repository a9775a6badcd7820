"""Knowledge adaptation."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import Fraction, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.modalities import scaled, see
from kdrun.data.pool import Pool
from kdrun.data.samples import Samples
from kdrun.data.streamed import Streamed
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses.arithmetic import unit_rows
from kdrun.methods.losses.feature import mean_discrepancy
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role, frozen

LEVELS = 32  # of brightness, in a histogram


def jensen_shannon(first: Tensor, second: Tensor) -> float:
    """Divergence of two distributions [L] from their mean, in nats: from 0 to log 2."""
    middle = (first + second) / 2
    return sum(float(torch.special.xlogy(one, one / middle.clamp_min(1e-300)).sum()) / 2 for one in (first, second))


def margins(vectors: Tensor, answers: Tensor, classes: int) -> Tensor:
    """How much nearer each vector is to one class's centre than to any other: the maximum cluster difference (equation 4).

    The difference [N] of the largest and the second largest cosine with the centres of those classes that are answered; of
    two classes that is the paper's. Where only one is answered, 0.

    Args:
        vectors: hidden ones [N, D].
        answers: the teacher's class of each, [N].
        classes: how many there are.
    """
    centres = torch.stack([vectors[answers == label].mean(dim=0) for label in range(classes) if bool((answers == label).any())])
    near = (unit_rows(vectors) @ unit_rows(centres).T).sort(dim=1, descending=True).values
    return near[:, 0] - near[:, 1] if near.shape[1] > 1 else torch.zeros(len(vectors), device=vectors.device)


class Alternating:
    """One stream in even epochs, another of the same length in odd ones.

    Args:
        even: of the first epoch.
        odd: of the second.
    """

    def __init__(self, even: Pool, odd: Pool) -> None:
        assert len(even) == len(odd)
        self.streams = (even, odd)

    def __len__(self) -> int:
        return len(self.streams[0])

    def epoch(self, epoch: int, epochs: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `first` on."""
        return self.streams[epoch % 2].epoch(epoch, epochs, first)


class SourceTeachers(nn.Module):
    """The teachers together, as they answer pictures of the student's domain.

    Args:
        teachers: that see what they are shown.
        shares: of their probabilities, of sum 1.
    """

    def __init__(self, teachers: Sequence[Role], shares: Sequence[float]) -> None:
        super().__init__()
        self.members, self.shares = nn.ModuleList(teacher.network for teacher in teachers), list(shares)
        self.model = " and ".join(teacher.model for teacher in teachers)

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"members": list(self.members)}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        answers = [member(pictures) for member in self.members]
        return answers[-1].replace(logits=mean_answer([answer.logits for answer in answers], self.shares, 1.0).log())


def mean_answer(logits: Sequence[Tensor], shares: Sequence[float], temperature: float) -> Tensor:
    """The weighted mean of softened answers: probabilities [B, K], none of them quite 0, from logits [B, K] of each teacher."""
    parts = [share * (one / temperature).softmax(dim=1) for share, one in zip(shares, logits, strict=True)]
    return torch.stack(parts).sum(dim=0).clamp_min(1e-30)


class KnowledgeAdaptation(Method):
    """Learn a domain without labels from teachers of other domains, the nearer the more (Ruder, Ghaffari and Breslin 2017).

    Each teacher has learned its own domain (`dataset=domains`) and answers the pictures of the student's, whose labels nobody
    sees: the samples without labels where the data set has some, else all training samples. Their answers are averaged by
    how near each domain is to the student's. With one teacher every other epoch is of trusted samples alone: those whose
    hidden vector in the teacher is clearest in one cluster of its answers, and there the teacher's class is mixed in.

    The baseline learns from the labels of the student's domain and is what could be had with them; what this method is to be
    measured against is the further product `source teachers`: their weighted answers themselves. Approximations: the paper
    weighs domains of texts, by their words; here pictures, by the histograms of their brightness or by the mean
    embeddings in the teacher, and the margin of several classes is that of the two nearest centres. Pictures are
    normalised by the statistics of the student's domain.

    Measured on digits turned by 15 degrees (resnet8 taught by one wrn_16_2 of upright ones, three seeds): 90.7 ± 1.0 % of the
    test set right, the teacher itself 88.9 ± 2.7 %, the student with labels 98.4 ± 0.3 %; without the squared temperature
    65.4 % (one seed).

    Args:
        temperature: softens all answers.
        squared: whether the loss is multiplied by the squared temperature: the paper's is not, and its Adam does not feel
            such a factor, but the steps of plain gradient descent would be so much shorter.
        similarity: of a teacher's domain to the student's: `histogram`, 1 minus the Jensen-Shannon divergence of
            brightness; `embedding`, exp of minus the squared distance of mean embeddings; or `equal`.
        trusted: the share of the samples that are, of one teacher; 0 for none.
        imitation: of trusted samples, the weight of the teacher's answer beside its class.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    needs = ("pictures", "one row a sample")
    label_term = None
    knowledge = ("response",)
    plain_logits = "chooses by the teacher's hidden vectors whom to trust"
    source = "Ruder, Ghaffari, Breslin: Knowledge adaptation: teaching to adapt. arXiv 1702.02052, 2017"
    survey_scheme = ""
    survey_tables = ("Gou section 6.2",)

    def __init__(self, *, temperature: Positive, squared: bool, similarity: Literal["histogram", "embedding", "equal"],
                 trusted: Fraction, imitation: Fraction) -> None:
        super().__init__()
        self.temperature, self.squared, self.similarity = temperature, squared, similarity
        self.trusted, self.imitation = trusted, imitation
        self.trusting = False  # whether there are trusted samples
        self.asked: list[Role] = []  # not a ModuleList: they learn nothing here
        self.shares: list[float] = []

    def setup(self, networks: Networks, data: Data) -> None:
        """Show the teachers what the student sees, and weigh them.

        Raises:
            ValueError: a teacher's domain has pictures of another shape.
        """
        self.asked, self.shares = [], []
        for teacher in networks.teachers:
            own = data.seen(teacher.view)
            if own.shape != data.shape:
                raise ValueError(f"it asks the teachers about the student's pictures, but {teacher.name} has learned such of "
                                 f"{list(own.shape)} and the student's are {list(data.shape)}; take domains of one shape")
            asked = frozen(teacher)  # without a memory of answers, which are to pictures of its own domain
            asked.view = None
            self.asked.append(asked)
            self.shares.append(self.nearness(asked, own, data))
        self.shares = [share / sum(self.shares) for share in self.shares]
        if len(self.shares) > 1:
            told = ", ".join(f"{share:.2f}" for share in self.shares)
            self.note(f"teachers count {told} (similarity={self.similarity})")

    def nearness(self, teacher: Role, source: Data, target: Data) -> float:
        """How near a teacher's domain is to the student's: above 0, at most 1."""
        if self.similarity == "equal":
            return 1.0
        if self.similarity == "embedding":
            means = [self.hidden(teacher, data, data.train)[0].mean(dim=0, keepdim=True) for data in (source, target)]
            return max(math.exp(-float(mean_discrepancy(*means))), 1e-6)
        found = []
        for data in (source, target):
            known = data.train.inputs.sample() if isinstance(data.train.inputs, Streamed) else data.train.inputs
            seen = scaled(see(known, data.normalise.modality))
            counts = torch.histc(seen.clamp(0, 1), LEVELS, 0, 1).double()
            found.append(counts / counts.sum())
        return 1 - jensen_shannon(*found)

    @torch.no_grad()
    def hidden(self, teacher: Role, data: Data, samples: Samples) -> tuple[Tensor, Tensor]:
        """A teacher's embeddings [N, D] and classes [N] of pictures, as somebody sees them."""
        found = [teacher(batch.pictures, fresh=True) for batch in data.plain(samples, teacher.device)]
        teacher.forget()
        return torch.cat([one.embedding for one in found]), torch.cat([one.logits.argmax(dim=1) for one in found])

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, with trusted samples in every other epoch."""
        self.setup(run.networks, run.data)
        size, steps = run.stream.size, len(run.stream)
        pictures = run.pool(size, steps, needed=False)
        self.trusting = self.trusted > 0 and len(self.asked) == 1
        if not self.trusting:
            yield Phase(data=pictures)
        else:
            samples = run.unlabelled(needed=False)
            vectors, answers = self.hidden(self.asked[0], run.data, samples[torch.arange(8)] if run.rehearsal else samples)
            clear = margins(vectors, answers, len(run.data.classes)).argsort(descending=True, stable=True)
            rows = clear[:max(2, round(self.trusted * len(clear)))].sort().values.cpu()
            yield Phase(data=Alternating(pictures, run.pool(size, steps, rows, "trusted", needed=False)))

    def target(self, answers: Sequence[Tensor], trusted: bool) -> Tensor:
        """What the student learns [B, K] of the teachers' logits [B, K]."""
        soft = mean_answer(answers, self.shares, self.temperature)
        if not trusted:
            return soft
        return (1 - self.imitation) * F.one_hot(soft.argmax(dim=1), soft.shape[1]) + self.imitation * soft

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The teachers' answers to the student's pictures."""
        answers = [teacher(batch.pictures).logits for teacher in self.asked]
        trusted = self.trusting and batch.epoch % 2 == 1
        given = F.log_softmax(networks.student(batch).logits / self.temperature, dim=1)
        factor = self.temperature**2 if self.squared else 1.0
        return {"trusted" if trusted else "soft": -factor * (self.target(answers, trusted) * given).sum(dim=1).mean()}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and what it had to go by."""
        return {"student": networks.student, "source teachers": SourceTeachers(self.asked, self.shares)}
