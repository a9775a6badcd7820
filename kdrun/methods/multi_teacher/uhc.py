"""Unifying heterogeneous classifiers."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from kdrun.config.constraints import Positive, Turns
from kdrun.data.batch import Batch
from kdrun.data.class_parts import in_words
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.losses.amalgamation import Unifying, connected, partial_cross_entropy, unified
from kdrun.methods.multi_teacher.amalgamation import student_samples
from kdrun.models.roles import Networks


class UnifiedClassifiers(Method):
    """Unite teachers that know different classes, by what each says of its own, without labels (Vongkulbhisal et al. 2019).

    A teacher's probabilities are those of all classes, restricted to its own: that ties each teacher to the student, or to one
    answer over all classes that the student then learns. Where teachers share no classes nothing says how those of one
    compare with those of another, and the run says so. An approximation: the estimates are derived from this relation anew,
    and may differ from the paper's in detail.

    Args:
        form: `direct`, the student's own answer restricted to each teacher's classes; or an estimate over all classes that is
            made first: `ce`, of the least cross-entropy with all teachers, `mf_prob` and `mf_logit`, by matrix factorization
            of probabilities or logits, or `sd`, the mean of the teachers' answers with zeros for what they do not know.
        balanced: whether an estimate is divided by its mean over what the student learns from, against classes that few
            teachers know.
        rounds: of the search for an estimate.
        temperature: softens all answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    teachers: ClassVar[Teachers] = "many"
    partial_teachers = True
    needs = ("rows", "one row a sample", "sample labels")
    knowledge = ("response",)
    plain_logits = "looks at some of the classes at a time"
    source = "Vongkulbhisal, Vinayavekhin, Visentini-Scarzanella: Unifying heterogeneous classifiers with distillation. " \
             "CVPR 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.2",)
    cautions: ClassVar = {
        "offline": "it reads no label, and was measured below the student alone, which reads them all: taught by two wrn_16_2 "
                   "of five digits each resnet8 ended at 94.7 ± 2.5 %, alone at 98.6 ± 0.1 %; the logits of both side by side "
                   "are right on 93.7 ± 3.0 % (three seeds)"}

    means: Tensor

    def __init__(self, *, form: Literal["direct"] | Unifying, balanced: bool, rounds: Turns, temperature: Positive) -> None:
        super().__init__()
        if balanced and form == "direct":
            raise ValueError("balanced: form=direct makes no estimate that could be balanced; set it to false, or give form=ce")
        self.form, self.balanced, self.rounds, self.temperature = form, balanced, rounds, temperature

    def setup(self, networks: Networks, data: Data) -> None:
        """Say where teachers have nothing to be compared by."""
        self.register_buffer("means", torch.ones(len(data.classes), device=networks.device))
        numbers = [teacher.task.numbers for teacher in networks.teachers]
        if not connected(numbers):
            self.note(f"the teachers of {' and of '.join(map(in_words, numbers))} share no class, so nothing says how the "
                      "classes of one compare with those of another")

    def phases(self, run: Run) -> Iterator[Phase]:
        """One, once the mean estimate is known."""
        self.setup(run.networks, run.data)
        if self.balanced:
            sums, count = torch.zeros_like(self.means), 0
            for batch in run.data.plain(run.unlabelled(needed=False), run.device):
                sums, count = sums + self.estimate(run.networks, batch).exp().sum(dim=0), count + len(batch)
                if run.rehearsal:
                    break
            self.means.copy_(sums / count)
        yield Phase(data=student_samples(run))

    def estimate(self, networks: Networks, batch: Batch) -> Tensor:
        """Log-probabilities [B, K] over all classes, before they are balanced."""
        assert self.form != "direct"
        with torch.no_grad():
            return unified([teacher(batch).logits for teacher in networks.teachers],
                           [teacher.task.numbers for teacher in networks.teachers], len(self.means), self.form,
                           self.temperature, self.rounds)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """What the teachers say."""
        student = networks.student(batch).logits
        if self.form == "direct":
            apart = partial_cross_entropy([teacher(batch).logits for teacher in networks.teachers], student,
                                          [teacher.task.numbers for teacher in networks.teachers], self.temperature)
        else:
            wanted = self.estimate(networks, batch) - self.means.log()
            apart = soft_cross_entropy(self.temperature * wanted, student, self.temperature)  # of softmax(wanted)
        return {"kd": self.temperature**2 * apart}
