"""Whole students searched for by what they are worth once they are distilled."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kdrun.config.constraints import AtLeastOne, Bounds, Count, FileName, Positive
from kdrun.config.schema import ConfigError, Settings
from kdrun.sweeps.search.context import SweepContext
from kdrun.sweeps.search.objectives import akd_reward, measured, teacher_kl
from kdrun.sweeps.search.reporting import best
from kdrun.sweeps.search.rewarded import ILLEGAL, RewardSearch, Sampler
from kdrun.sweeps.search.space import Choice, Space, read
from kdrun.sweeps.search.study import TeacherRecipe
from kdrun.sweeps.search.trials import TOLD
from kdrun.utils.progress import Progress
from kdrun.utils.wording import formatted as written

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Study
    from optuna.trial import FrozenTrial

    from kdrun.models.student_space import Architecture, StudentSpace

__all__ = ["ArchitectureSearch", "ArchitectureSpace"]

PLAIN = str.maketrans("", "", " '")  # kinds and families are words that need no quotes


@dataclass(frozen=True)
class ArchitectureSpace(Space):
    """A space of students, each of which is trained for a part of the epochs.

    Attributes:
        students: what they are chosen from.
        epochs: of each trial.
    """

    students: "StudentSpace | None" = None
    epochs: int = 1

    def words(self, chosen: Mapping[str, Any]) -> list[str]:
        """The words of a job: what is fixed, what was chosen beside the student, the student, and the epochs."""
        rest = {key: value for key, value in chosen.items() if not key.startswith("student.")}
        return [*super().words(rest), *self.student(chosen), f"recipe.epochs={self.epochs}"]

    def architecture(self, chosen: Mapping[str, Any]) -> "Architecture":
        """The student that was chosen."""
        assert self.students is not None
        return self.students.architecture({
            name: next(value for value in values if str(value) == chosen[f"student.{name}"])
            for name, values in self.students.choices.items()})

    def student(self, chosen: Mapping[str, Any]) -> list[str]:
        """The words that make the student."""
        settings = self.architecture(chosen).settings
        return ["student=searchable", *(f"student.{key}={written(value)}".translate(PLAIN) for key, value in settings.items())]

    @property
    def recipe_keys(self) -> Set[str]:
        """The settings of the recipe that are the trials' alone."""
        return {*super().recipe_keys, "epochs"}


class ArchitectureSearch(RewardSearch):
    """Search the student that a teacher can teach best (Liu et al., Search to distill: pearls are everywhere but not the eyes,
    CVPR 2020, "AKD").

    The reward of a student is its validation accuracy after a short distillation by this very teacher and method, times
    (cost / target) to an exponent, as in MnasNet (Tan et al. 2019). `method=vanilla` makes it a reward of students that learn
    from labels, and `sweep.retrain_method=kd` teaches what that finds: the contrast that the paper's claim rests on. A student
    over the budget of the space has the reward -1 and is not trained. The best is trained for all epochs at the end.

    The paper's policy is a recurrent network trained by PPO; here `reinforce` has a distribution of its own for each choice.

    Args:
        space: of the students, and their budget: a choice of space/.
        cost: what the reward weighs: latency_ms, flops or parameters of the student.
        target: of that; null for the accuracy alone.
        exponent: below 0 it favours what costs less.
        proxy_share: of the recipe's epochs, for each trial.
        retrain: whether the best is trained for all epochs.
        retrain_method: by which method; null for that of the trials.
        others: see `RewardSearch`.
    """

    passing = RewardSearch.passing | {"retrain", "retrain_method", "students"}

    def __init__(self, *, space: dict[str, Any], cost: Literal["latency_ms", "flops", "parameters"], target: Positive | None,
                 exponent: float, proxy_share: Annotated[float, Bounds(above=0, most=1)], retrain: bool,
                 retrain_method: str | None, sampler: Sampler, learning_rate: Positive, rollouts: AtLeastOne,
                 trials: AtLeastOne, seed: Count, startup: Count, batch: AtLeastOne | None, storage: str | None,
                 name: FileName | None, teacher_recipe: TeacherRecipe) -> None:
        super().__init__(sampler=sampler, learning_rate=learning_rate, rollouts=rollouts, trials=trials, seed=seed,
                         startup=startup, batch=batch, storage=storage, name=name, teacher_recipe=teacher_recipe)
        self.node, self.cost, self.target, self.exponent = space, cost, target, exponent
        self.proxy_share, self.retrain, self.retrain_method = proxy_share, retrain, retrain_method

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""
        from kdrun.models.student_space import StudentSpace  # with torch

        found = super().problems(settings)
        try:
            StudentSpace.read(self.node, "sweep.space")
        except ValueError as error:
            found += str(error).splitlines()
        if settings.student.checkpoint:
            found.append("sweep.space: student.checkpoint has the weights of one architecture; leave it out")
        return found

    def space(self, settings: Settings, overrides: Sequence["Override"]) -> ArchitectureSpace:
        """The students, and whatever the command line leaves open beside.

        Raises:
            ConfigError: something cannot be searched over, or is what the search says itself.
        """
        from kdrun.models.student_space import StudentSpace  # with torch

        self.settings, students = settings, StudentSpace.read(self.node, "sweep.space")
        space = read(overrides, lambda words: settings.choices["method"])
        keys = [word.partition("=")[0] for word in (*space.fixed, *space.dimensions)]
        if lines := [f"{key}: the search chooses the student; leave it out" for key in keys
                     if key.partition(".")[0] == "student"]:
            raise ConfigError(lines)
        own = {f"student.{name}": Choice(tuple(dict.fromkeys(map(str, values)))) for name, values in students.choices.items()}
        epochs = max(1, round(self.proxy_share * settings.recipe.epochs))
        return ArchitectureSpace(space.fixed, {**own, **space.dimensions}, space.aside, space.method, students, epochs)

    def known(self, context: SweepContext, words: Sequence[str], number: int) -> tuple[Sequence[float], dict[str, Any]] | None:
        """The reward of what cannot be built, or is over the budget."""
        from kdrun.models.factory import NetworkSpec  # with torch
        from kdrun.models.student_space import Cost, StudentSpace, latency_ms  # with torch

        students = StudentSpace.read(self.node, "sweep.space")
        try:
            network = NetworkSpec.read(context.settings_of(words).student.node, "student").build(self.data)
        except (ValueError, RuntimeError) as error:
            return [ILLEGAL], {"note": f"cannot be built: {str(error).splitlines()[0]}"}
        from kdrun.evaluation.metrics import flops  # with torch

        example = self.data.example(1)
        cost = Cost(sum(own.numel() for own in network.parameters()),
                    None if students.max_flops is None else flops(network, example),
                    None if students.max_latency_ms is None else latency_ms(network, example))
        if (excess := students.excess(cost)) is not None:
            return [ILLEGAL], {"parameters": cost.parameters, "note": f"{excess}, not trained"}
        return None

    def measured(self, folder: Path) -> dict[str, float | None]:
        """What is noted of a trial: how far it is from its teacher too."""
        return {**measured(folder), "kl_to_teacher": teacher_kl(folder, self.settings.outputs / "store", self.data)}

    def worth(self, measures: Mapping[str, float | None], number: int) -> Sequence[float | None]:
        """AKD's reward; None where it is not defined."""
        accuracy, cost = measures["validation_accuracy"], measures[self.cost]
        if accuracy is None or self.target is None:
            return [accuracy]
        return [None if not cost else akd_reward(accuracy, cost, self.target, self.exponent)]

    def allowed(self, trial: "FrozenTrial") -> bool:
        """Whether a trial is one that was trained, or the same as one."""
        return trial.user_attrs[TOLD].get("validation_accuracy") is not None

    def search(self, study: "Study", storage: str, context: SweepContext, space: Space, screen: Progress) -> None:
        """Run trials until there are enough, then train the best for all epochs."""
        super().search(study, storage, context, space, screen)
        found = best(self, study)
        if not (self.retrain and found):
            return
        assert isinstance(space, ArchitectureSpace)
        method = [f"method={self.retrain_method}"] if self.retrain_method else []
        (record,) = context.launch([[*space.fixed, *method, *space.student(found[0].params)]])
        screen.note(f"the best was trained for all epochs: {record['folder']}" if record["status"] == 0 else
                    f"the best could not be trained for all epochs: {record['error']}")
