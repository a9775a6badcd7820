"""Attentive distillation of rules."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Fraction, NonNegative, Proportion
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Run, Teachers, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, Role


def brightness(pictures: Tensor, grid: int) -> Tensor:
    """The mean of each cell of pictures [B, C, H, W] in a grid of so many rows and columns: [B, cells]."""
    return F.adaptive_avg_pool2d(pictures.mean(dim=1, keepdim=True), grid).flatten(1)


def find_rules(values: Tensor, labels: Tensor, classes: int, precision: float, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rules of one value and one class: where the value is on one side of a threshold, it is that class.

    For each value, side and class it is the rule that covers most samples of those that are right often enough, if there is
    one.

    Args:
        values: [N, D].
        labels: [N].
        classes: how many.
        precision: the least share of right ones among the samples that a rule covers.
        least: the least number of those.

    Returns:
        For each rule: which value (as [R]; D and more for the negative of a value), the threshold above which it holds, the
        class.
    """
    both = torch.cat([values, -values], dim=1)
    ordered, order = both.sort(dim=0, descending=True)
    right = F.one_hot(labels, classes)[order].cumsum(dim=0)  # [N, 2D, K], of the samples down to each
    covered = torch.arange(1, len(values) + 1, device=values.device)
    parted = torch.ones_like(ordered, dtype=torch.bool)
    parted[:-1] = ordered[:-1] > ordered[1:]
    good = (right >= precision * covered[:, None, None]) & (covered >= least)[:, None, None] & parted[:, :, None]
    good[-1] = False  # what covers all is no rule
    last = torch.where(good, covered[:, None, None], 0).amax(dim=0)  # [2D, K], how many the widest covers
    value, label = last.nonzero(as_tuple=True)
    count = last[value, label]
    return value, (ordered[count - 1, value] + ordered[count, value]) / 2, label


def taught(logits: Tensor, votes: Tensor, strength: float) -> Tensor:
    """The logits of the teacher that rules make of a student: q(y) ~ p(y) exp(strength * votes(y)) (Hu et al. 2016).

    Args:
        logits: of the student [B, K].
        votes: for each class [B, K].
        strength: of the rules.
    """
    return logits + strength * votes


class Rules(nn.Module):
    """Rules on the brightness of cells, and an attention that weighs those that hold for a picture.

    Args:
        count: how many rules, R.
        grid: rows and columns of cells.
        classes: how many classes, K.
        features: of the embedding that the attention reads.
        width: of its hidden layer.
    """

    value: Tensor
    threshold: Tensor
    label: Tensor

    def __init__(self, count: int, grid: int, classes: int, features: int, width: int) -> None:
        super().__init__()
        self.told = {"count": count, "grid": grid, "classes": classes, "features": features, "width": width}
        self.grid, self.classes = grid, classes
        self.register_buffer("value", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(count))
        self.register_buffer("label", torch.zeros(count, dtype=torch.int64))
        self.of_sample, self.of_rule = nn.Linear(features, width), nn.Embedding(count, width)
        self.score = nn.Linear(width, 1, bias=False)

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return dict(self.told)

    def hold(self, pictures: Tensor) -> Tensor:
        """Which rules hold for pictures [B, C, H, W]: true or false, [B, R]."""
        cells = brightness(pictures, self.grid)
        return torch.cat([cells, -cells], dim=1)[:, self.value] > self.threshold

    def forward(self, pictures: Tensor, embedding: Tensor) -> Tensor:
        """The votes for each class [B, K]: of sum 1, or 0 where no rule holds.

        Args:
            pictures: [B, C, H, W].
            embedding: of the student [B, D].
        """
        holds = self.hold(pictures)
        scores = self.score((self.of_sample(embedding)[:, None] + self.of_rule.weight).tanh()).squeeze(2)
        shares = scores.masked_fill(~holds, -1e9).softmax(dim=1) * holds
        return shares @ F.one_hot(self.label, self.classes).to(shares.dtype)


class RuleTeacher(nn.Module):
    """A student and the rules on top of it, as one network: the teacher.

    Args:
        student: answers first.
        rules: that vote.
        strength: of the votes.
    """

    def __init__(self, student: Role, rules: Rules, strength: float) -> None:
        super().__init__()
        self.student, self.rules, self.strength = student, rules, strength
        self.model = f"{student.model} with {len(rules.label)} rules"

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"student": self.student, "rules": self.rules, "strength": self.strength}

    def forward(self, asked: Batch | Tensor) -> ModelOutput:
        """Answer a batch or pictures [B, C, H, W]; all but the logits is the student's."""
        output = self.student(asked, fresh=True)
        pictures = asked.pictures if isinstance(asked, Batch) else asked
        return output.replace(logits=taught(output.logits, self.rules(pictures, output.embedding), self.strength))


class AttentiveRules(Method):
    """Let rules correct the student's own answers, and teach it the corrected ones (Song et al. 2018).

    In each step the rules and the student make a teacher: its answer is the student's, times what the rules that hold for the
    picture say, each by an attention that reads the picture's embedding and the rule. The student learns from the labels and
    from this teacher, which moves with it; the attention learns by the labels, through the teacher's answers alone.

    An approximation: the paper matches garments by rules of colour, material and category, and its code was not read. Here
    rules are found in the training split: that a cell of the picture is brighter or darker than a threshold tells a class, if
    that is right often enough. `rules.csv` has them, and the teacher (the student with its rules) is evaluated too.

    On the digits (resnet8, default settings, three seeds) eight rules are found, each for a few pictures, and of the test
    pictures for which they hold they are right in 71 %. The student has 98.2 ± 0.2 %, with its rules 97.6 ± 0.2 %, alone
    98.6 ± 0.1 %. On the validation split (of half the training split, two seeds) rules that are right in 95 % had 97.2 %, rules
    that count a quarter as much 97.1 %, the student alone 98.0 %.

    Args:
        grid: rows and columns of cells.
        precision: how often a rule is right among the training pictures for which it holds, at least.
        coverage: share of the training pictures for which a rule holds, at least.
        strength: of the rules; 0 leaves the teacher the student.
        weight: share of the teacher's answers in the loss, when it is whole; the labels have the rest.
        ramp_share: over which share of the training it grows to that, linearly from 0.
        width: of the attention's hidden layer.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = "makes a teacher of its own logits and of rules"
    source = "Song, Feng, Han, Yang, Liu, Nie: Neural compatibility modeling with attentive knowledge distillation. SIGIR 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 6.5",)
    cautions: ClassVar = {
        "self": "it was measured below the student alone: on the digits resnet8 ended at 98.2 ± 0.2 %, alone at 98.6 ± 0.1 % "
                "(three seeds)"}

    rules: Rules

    def __init__(self, *, grid: AtLeastOne, precision: Proportion, coverage: Proportion, strength: NonNegative,
                 weight: Fraction, ramp_share: Fraction, width: AtLeastOne) -> None:
        super().__init__()
        self.grid, self.precision, self.coverage, self.width = grid, precision, coverage, width
        self.strength, self.weight, self.ramp_share = strength, weight, ramp_share

    def setup(self, networks: Networks, data: Data) -> None:
        """Find the rules, and build the attention.

        Raises:
            ValueError: there are none.
        """
        place, classes = networks.device, len(data.classes)
        batches = [(brightness(batch.pictures, self.grid), batch.labels) for batch in data.plain(data.train, place)]
        values, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        least = max(1, round(self.coverage * len(labels)))
        value, threshold, label = find_rules(values, labels, classes, self.precision, least)
        if not len(value):
            raise ValueError(f"no rule on the brightness of a cell (method.grid={self.grid}) is right for "
                             f"{100 * self.precision:g} % of at least {least} training pictures; give a smaller "
                             "method.precision or method.coverage, or another grid")
        self.rules = Rules(len(value), self.grid, classes, networks.student.shapes.embedding[0], self.width).to(place)
        for name, found in (("value", value), ("threshold", threshold), ("label", label)):
            self.rules.get_buffer(name).copy_(found)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels and the teacher for the student, the labels for the attention."""
        student = networks.student(batch)
        grown = min(batch.epoch / batch.epochs / self.ramp_share, 1.0) if self.ramp_share else 1.0
        weight = grown * self.weight
        teacher = taught(student.logits.detach(), self.rules(batch.pictures, student.embedding.detach()), self.strength)
        return {"ce": (1 - weight) * self.label_loss(student, batch),
                "rules": weight * soft_cross_entropy(teacher, student.logits),
                "attention": self.label_loss(student.replace(logits=teacher), batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and the student with its rules."""
        return {"student": networks.student, "student with rules": RuleTeacher(networks.student, self.rules, self.strength)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The rules: which cell, on which side of which threshold, tells which class, and how often on the test split."""
        rules, data = self.rules, run.data
        holds = torch.cat([rules.hold(batch.pictures) for batch in data.plain(data.test, run.device)])
        right = holds & (data.test.labels.to(holds.device)[:, None] == rules.label)
        rows = []
        for number, (value, label) in enumerate(zip(rules.value.tolist(), rules.label.tolist(), strict=True)):
            above, bound, held = value < self.grid**2, float(rules.threshold[number]), int(holds[:, number].sum())
            row, column = divmod(value % self.grid**2, self.grid)
            rows.append({"row": row + 1, "column": column + 1, "side": "above" if above else "below",
                         "threshold": bound if above else -bound, "class": data.classes[label], "held": held,
                         "right": int(right[:, number].sum()) / held if held else None})
        return {"rules": rows}
