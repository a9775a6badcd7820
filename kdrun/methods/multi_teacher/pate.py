"""Private aggregation of teacher ensembles."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import AtLeastOne, Bounds, Epochs, Few, NetworkName, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.multi_teacher.privacy import account, laplace, wrong_answer
from kdrun.models.prediction import predict
from kdrun.models.roles import Networks, Role
from kdrun.utils.seeding import generator, seed_of

Chance = Annotated[float, Bounds(above=0, below=1)]


def shards(count: int, parts: int, seed: int) -> list[Tensor]:
    """Disjoint rows, as many in each of the parts, of `count` samples in an order drawn from the seed.

    Raises:
        ValueError: fewer than two samples would be in one.
    """
    size = count // parts
    if size < 2:
        raise ValueError(f"method.count is {parts}, and {count} private samples make parts of {size}; wanted two at least in "
                         f"each, so at most {count // 2} teachers")
    order = torch.randperm(count, generator=generator("shards", seed))
    return list(order[:size * parts].split(size))


class PATE(Method):
    """Learn from noisy votes of teachers, each trained on private samples of its own (Papernot et al. 2017).

    The labelled samples are the private ones (`dataset.labelled=500`): they are parted among the teachers, which have no other
    data. The samples without labels are public: the teachers vote on the class of each, Laplace noise is added to the
    counts, and the student learns the winners as labels. It sees neither a private sample nor a true label. What the answers
    give away is in `privacy.csv`: for a delta the epsilon whatever the data, and the smaller one that depends on the
    votes (so it may not be published itself: the noise that the authors add to it by its smooth sensitivity is not here).
    The student takes as many updates as the baseline, which learns from all private samples and their true labels.

    Privacy needs many teachers: the paper has 250, of 240 digits of MNIST each, and noise of scale 20. With the few of
    small data noise that would protect them drowns their votes; the default's epsilon is no protection. Measured on digits
    with 500 private samples and 309 public ones (resnet8, ten teachers, noise of scale 1, delta 1e-5, three seeds): 93.5 ± 0.4
    % of the test set right, the student alone, which has the private samples and their labels, 98.1 ± 0.3 %; epsilon is 619
    whatever the data, and from 117 to 133 by the votes. 4 % of the answers are not the class with the most votes.
    The authors take the public pictures from the test set, here they are training pictures; their second form, a student
    that also learns from unanswered public pictures by a GAN, is left out.

    Args:
        count: of teachers.
        teacher_epochs: of each.
        network: of each; null for the student's.
        noise: the scale of the noise on the counts; 0 for none, and no privacy.
        queries: how many public samples the teachers vote on; null for all.
        delta: the probability with which privacy may be lost.
        moments: of the privacy loss that the account follows.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("one row a sample", "sample labels")
    label_term = None
    knowledge = ("response",)
    plain_logits = "counts votes"
    source = "Papernot, Abadi, Erlingsson, Goodfellow, Talwar: Semi-supervised knowledge transfer for deep learning from " \
             "private training data. ICLR 2017"
    survey_scheme = "online"
    survey_tables = ("Gou 3",)

    cautions: ClassVar = {
        "online": "it was measured below the student alone, which learns from the private samples: with 500 private digits "
                  "resnet8 ended at 93.5 ± 0.4 %, alone at 98.1 ± 0.3 % (three seeds)"}

    votes: Tensor
    answers: Tensor

    def __init__(self, *, count: Few, teacher_epochs: Epochs, network: NetworkName | None, noise: NonNegative,
                 queries: AtLeastOne | None, delta: Chance, moments: Few) -> None:
        super().__init__()
        self.count, self.teacher_epochs, self.network = count, teacher_epochs, network
        self.noise, self.queries = noise, queries
        self.delta, self.moments = delta, moments

    def setup(self, networks: Networks, data: Data) -> None:
        """Begin without a vote.

        Raises:
            ValueError: there are not so many public samples.
        """
        assert data.pool is not None
        if (self.queries or 0) > len(data.pool):
            raise ValueError(f"method.queries is {self.queries}, but there are {len(data.pool)} samples without labels to vote "
                             "on; wanted at most as many, or null for all")
        queries = self.queries or len(data.pool)
        self.register_buffer("votes", torch.zeros(queries, len(data.classes), dtype=torch.int64, device=networks.device))
        self.register_buffer("answers", torch.zeros(queries, dtype=torch.int64, device=networks.device))

    def phases(self, run: Run) -> Iterator[Phase]:
        """Each teacher and its votes, then the student."""
        steps = len(run.stream)
        run.pool(run.stream.size, steps)  # refused here where there is none
        self.setup(run.networks, run.data)
        pool = run.pool(run.stream.size, steps, rows=torch.arange(len(self.votes)))
        for number, rows in enumerate(shards(len(run.data.train), self.count, run.seed), start=1):
            teacher = self.teacher(run, number)
            run.networks.peers = [teacher]
            private = run.data.stream(batch_size=run.stream.size, seed=seed_of("shard", number, run.seed), device=run.device,
                                      samples=run.data.train[rows])
            yield Phase(f"teacher {number}", loss=self.alone, train=[teacher], data=private,
                        epochs=self.teacher_epochs, evaluate=False)
            self.vote(teacher, run)
        run.networks.peers = []
        noisy = self.votes.double().cpu() + (laplace(self.votes.shape, self.noise, self.random) if self.noise else 0)
        self.answers.copy_(noisy.argmax(dim=1))
        yield Phase("student", data=pool)

    def teacher(self, run: Run, number: int) -> Role:
        """A teacher with weights of its own."""
        part = f"teacher of part {number}"
        return run.factory.named(self.network, part) if self.network else run.factory.build(run.factory.student_spec, part)

    @torch.no_grad()
    def vote(self, teacher: Role, run: Run) -> None:
        """Count a teacher's answers to the public samples."""
        assert run.data.pool is not None
        asked = run.data.pool[torch.arange(8 if run.rehearsal else len(self.votes)).clamp_max(len(self.votes) - 1)]
        answers = predict(teacher, run.data, asked, run.device).argmax(dim=1)
        self.votes[:len(answers)] += F.one_hot(answers, self.votes.shape[1]).to(self.votes.device)

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels of a teacher's own samples."""
        (teacher,) = networks.peers
        return {"ce": self.label_loss(teacher(batch), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """What the teachers answered."""
        return {"answers": F.cross_entropy(networks.student(batch).logits, self.answers[batch.rows],
                                           label_smoothing=self.label_smoothing)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """What the answers gave away."""
        winners = self.votes.amax(dim=1, keepdim=True)
        row: dict[str, object] = {
            "teachers": self.count, "private_samples": len(run.data.train) // self.count * self.count,
            "answered_queries": len(self.votes), "noise_scale": self.noise, "delta": self.delta,
            "mean_votes_of_winner": float(winners.double().mean()),
            "answers_with_most_votes": float((self.votes.gather(1, self.answers[:, None]) == winners).double().mean())}
        if self.noise:
            gamma = 1 / self.noise
            bounds = {"": wrong_answer(self.votes.cpu(), gamma).tolist(), "_whatever_the_data": [1.0] * len(self.votes)}
            for name, wrong in bounds.items():
                found = account(wrong, gamma, self.delta, self.moments)
                row |= {f"epsilon{name}": found.epsilon, f"moment{name}": found.order}
        return {"privacy": [row]}
