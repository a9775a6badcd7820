"""Teacher guided architecture search."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from kdrun.config.constraints import AtLeastOne, Few, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses.search import teacher_guidance
from kdrun.methods.search.candidates import Candidates, Guide, Trial, best, by_labels_or_teacher
from kdrun.methods.structure.made import share_of
from kdrun.models.roles import Networks, Role, evaluating
from kdrun.models.student_space import StudentSpace


class NasTGSA(Method):
    """Choose among briefly trained students the one that is accurate and tells samples apart as the teacher does (Bashivan,
    Tensen and DiCarlo 2019).

    So many students are drawn from a space (`method.space`, within its budget) and trained for a share of the epochs each. A
    student's score is its validation accuracy plus `guidance` times how well its maps tell validation samples apart as the
    teacher's do: for each of the teacher's stages the best correlation, over the student's stages, of their matrices of
    dissimilarities. That is known after a few epochs, when accuracies are still alike. The student of the highest score is
    trained anew for all epochs. `trials.csv` has every student that was tried.

    `guidance=0` is random search by validation accuracy at the same cost, and `proxy=kd` a reward that comes of distilled
    students instead of those that learn from labels. Students are drawn by chance; the paper draws them by a sampler that
    learns from earlier scores (for which `kdrun -m sweep=nas_akd` is). Numbers of candidates and epochs are ours.

    On the digits, with wrn_16_2 as teacher (99.0 ± 0.1 %), students of 12,810 to 49,682 parameters end at 98.6 ± 0.6 %; resnet8
    (77,754) has 98.6 ± 0.1 % alone and 98.8 ± 0.2 % by `kd`. Random search (`guidance=0`) chose the same students, and a reward
    of distilled candidates (`proxy=kd`) others in one of three seeds, at 98.7 ± 0.6 %: 90 validation pictures tell little.

    `student=` names the network that is trained alone beside it; the rows of the student are those of the network that is
    found.

    Args:
        space: of the students, a choice of space/ (`space@method.space=small`).
        candidates: how many are tried.
        proxy_share: of the recipe's epochs, for each.
        guidance: weight of the teacher's guidance beside the accuracy, both at most 1.
        samples: of the validation split, at most so many, on which maps are compared.
        proxy: `ce` trains candidates by labels, `kd` by labels and the teacher's softened answer.
        retrain: likewise for the student that was chosen.
        temperature: of the softened answers.
        kd_weight: of that term.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures")
    knowledge = ("relation", "response")
    plain_logits = "chooses the student that it trains"
    source = "Bashivan, Tensen, DiCarlo: Teacher guided architecture search. ICCV 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.9",)

    def __init__(self, *, space: dict[str, Any], candidates: Few, proxy_share: Positive, guidance: NonNegative,
                 samples: AtLeastOne, proxy: Guide, retrain: Guide, temperature: Positive, kd_weight: NonNegative) -> None:
        super().__init__()
        self.space = StudentSpace.read(space)
        self.candidates, self.proxy_share, self.guidance, self.samples = candidates, proxy_share, guidance, samples
        self.proxy, self.retrain, self.temperature, self.kd_weight = proxy, retrain, temperature, kd_weight
        self.trials: list[Trial] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """Candidate after candidate; then the chosen one from the start.

        Raises:
            ValueError: too few students are within the budget, or there is no validation split.
        """
        candidates = self.tried = Candidates(run, self.space)
        epochs = share_of(run, self.proxy_share)
        drawn = candidates.drawn(self.candidates, self.random)
        for number, architecture in enumerate(drawn, start=1):
            role = run.networks.student = candidates.built(architecture, f"candidate {number}")
            yield Phase(f"candidate {number}", loss=partial(self.learned, guide=self.proxy), train=[role], epochs=epochs)
            trial = candidates.trial(f"candidate {number}", [architecture], role, epochs)
            trial.score += self.guidance * self.guided(run, role)
            self.trials.append(trial)
        run.networks.student = candidates.built(drawn[best(self.trials)])
        yield Phase("retrain", loss=partial(self.learned, guide=self.retrain), train=[run.networks.student])

    def learned(self, networks: Networks, batch: Batch, guide: Guide) -> Terms:
        """The labels, and the teacher where it guides."""
        return by_labels_or_teacher(self, networks, batch, guide, self.temperature, self.kd_weight)

    def guided(self, run: Run, role: Role) -> float:
        """How well a student's maps of validation samples tell them apart as the teacher's do."""
        teacher, split = run.networks.teacher, run.data.validation
        few = split.limit(min(self.samples, len(split)), run.seed, len(run.data.classes))
        batch = next(run.data.plain(few, run.device, len(few)))
        with evaluating(role), torch.no_grad():
            score = float(teacher_guidance(teacher(batch).stages, role(batch).stages))
        role.forget()
        teacher.forget()
        return score

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Every student that was tried."""
        return {"trials": self.tried.rows(self.trials)}
