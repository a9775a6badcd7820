"""A student's widths under a budget of parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kdrun.config.constraints import AtLeastOne, Bounds, Count, FileName, Positive
from kdrun.config.schema import ConfigError, Settings
from kdrun.sweeps.search.context import SweepContext
from kdrun.sweeps.search.objectives import budget_tolerance, n2n_reward
from kdrun.sweeps.search.rewarded import ILLEGAL, RewardSearch, Sampler
from kdrun.sweeps.search.space import Choice, Dimension, Space, read
from kdrun.sweeps.search.study import TeacherRecipe
from kdrun.sweeps.search.trials import TOLD
from kdrun.utils.progress import Progress
from kdrun.utils.wording import formatted as written

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["WidthSearch", "WidthSpace"]

BLOCKS = "student.blocks"
Factor = Annotated[float, Bounds(above=0, most=1)]


@dataclass(frozen=True)
class WidthSpace(Space):
    """A space that has a factor for each of the student's widths, and how many blocks are left of each stage.

    Attributes:
        widths: of the student as it is; one for a network with a single width.
        key: the setting that holds them.
        blocks: of each stage of the student as it is: how many, or the kinds of all; empty where none are left out.
    """

    widths: tuple[int, ...] = ()
    key: str = "student.widths"
    blocks: tuple[int | Sequence[str], ...] = ()

    @property
    def factors(self) -> dict[str, int]:
        """The width that each dimension shrinks."""
        return {f"{self.key}[{place}]": width for place, width in enumerate(self.widths)}

    def words(self, chosen: Mapping[str, Any]) -> list[str]:
        """The words of a job: what is fixed, what was chosen, and the widths that come of the factors."""
        factors, left = self.factors, [f"{BLOCKS}[{place}]" for place in range(len(self.blocks))]
        rest = {key: value for key, value in chosen.items() if key not in factors and key not in left}
        widths = [max(1, round(float(chosen[key]) * width)) for key, width in factors.items()]
        value = written(widths if self.key.endswith("widths") else widths[0]).replace(" ", "")
        words = [*super().words(rest), f"{self.key}={value}"]
        if self.blocks:
            counts = [int(chosen[key]) for key in left]
            blocks = [count if isinstance(own, int) else list(own[:count])
                      for own, count in zip(self.blocks, counts, strict=True)]
            words.append(f"{BLOCKS}={written(blocks)}".replace(" ", ""))
        return words


class WidthSearch(RewardSearch):
    """Shrink the stages of a student, each by a factor of its own, for the best accuracy that a budget allows.

    The reward is N2N's (Ashok et al., N2N learning: network to network compression via policy gradient reinforcement
    learning, ICLR 2018), on the validation split. A student over the budget has the reward -1, so that it need not be
    trained, and is not counted as a trial; only students within the budget can be the best.

    N2N's own sampler is a policy that learns by its gradient. There a student over the budget is penalised more and more:
    it is trained all the same until the 15th iteration. The policy of N2N is a recurrent network that reads the teacher's
    layers; `reinforce` is the same gradient for a distribution of its own for each width.

    Args:
        budget: the most parameters.
        factors: of the widths the student has.
        remove_blocks: whether blocks may be left out too, the last of each stage first, of a student whose `blocks` are
            settings. N2N leaves out layers in a search before that of the factors; here both are chosen together.
        rollouts: trials of one iteration of reinforce.
        sampler: tpe, random or reinforce.
        learning_rate: of reinforce.
        others: see `StudySearch`.
    """

    def __init__(self, *, budget: AtLeastOne, factors: list[Factor], remove_blocks: bool, rollouts: AtLeastOne,
                 trials: AtLeastOne, sampler: Sampler, learning_rate: Positive, seed: Count, startup: Count,
                 batch: AtLeastOne | None, storage: str | None, name: FileName | None, teacher_recipe: TeacherRecipe) -> None:
        super().__init__(sampler=sampler, learning_rate=learning_rate, rollouts=rollouts, trials=trials, seed=seed,
                         startup=startup, batch=batch, storage=storage, name=name, teacher_recipe=teacher_recipe)
        self.budget, self.factors, self.remove_blocks = budget, factors, remove_blocks

    def problems(self, settings: Settings) -> list[str]:
        """What cannot be, given all settings: a line each."""
        found = super().problems(settings)
        if key_of(settings.student.node) is None:
            found.append(f"sweep=width_search: the student {settings.student.name} has no widths; choose one that has, "
                         "like resnet20, wrn_16_2, vgg8 or cnn")
        elif self.remove_blocks and not isinstance(settings.student.node.get("blocks"), list):
            found.append(f"sweep.remove_blocks: the student {settings.student.name} has no blocks of each stage as settings; "
                         "choose one that has, like searchable, resnet18 or vgg13, or give false")
        if not self.factors:
            found.append("sweep.factors: got [], wanted a list, each a number above 0 and at most 1")
        if settings.student.checkpoint:
            found.append("sweep=width_search: student.checkpoint has the weights of one width; leave it out")
        if settings.teacher.trained_by_user:
            found.append("sweep=width_search: the reward needs the teacher's validation accuracy, which is not known of "
                         "teacher.checkpoint; leave it out")
        return found

    def space(self, settings: Settings, overrides: Sequence["Override"]) -> WidthSpace:
        """A factor for each width, and whatever the command line leaves open beside.

        Raises:
            ConfigError: something cannot be searched over.
        """
        self.settings = settings
        student = settings.student.node
        key = key_of(student)
        assert key is not None
        widths = student[key] if isinstance(student[key], list) else [student[key]]
        blocks = tuple(student["blocks"]) if self.remove_blocks else ()
        space, name = read(overrides, lambda words: settings.choices["method"]), f"student.{key}"
        for chosen, what in ((name, "widths"), *([(BLOCKS, "blocks")] if blocks else [])):
            if chosen in space.dimensions:
                raise ConfigError([f"{chosen}: sweep=width_search chooses it; give the {what} to start from, or leave it out"])
        own: dict[str, Dimension] = {f"{name}[{place}]": Choice(tuple(str(factor) for factor in self.factors))
                                     for place in range(len(widths))}
        for place, held in enumerate(blocks):
            count = held if isinstance(held, int) else len(held)
            own[f"{BLOCKS}[{place}]"] = Choice(tuple(str(left) for left in range(1, count + 1)))
        fixed = tuple(word for word in space.fixed if word.partition("=")[0] not in (name, *([BLOCKS] if blocks else [])))
        return WidthSpace(fixed, {**own, **space.dimensions}, space.aside, space.method, tuple(widths), name, blocks)

    def known(self, context: SweepContext, words: Sequence[str], number: int) -> tuple[Sequence[float], dict[str, Any]] | None:
        """The reward of what cannot be built, or is over a budget that forgives nothing any more."""
        try:
            parameters = self.parameters(context, words)
        except (ValueError, RuntimeError) as error:
            return [ILLEGAL], {"note": f"cannot be built: {str(error).splitlines()[0]}"}
        if parameters > self.budget and self.tolerance(number) == 0:
            return [ILLEGAL], {"parameters": parameters, "note": "over the budget, not trained"}
        return None

    def parameters(self, context: SweepContext, words: Sequence[str]) -> int:
        """Of the student of a job.

        Raises:
            ValueError: it cannot be built.
        """
        from kdrun.models.factory import NetworkSpec  # with torch

        spec = NetworkSpec.read(context.settings_of(words).student.node, "student")
        return sum(weight.numel() for weight in spec.build(self.data).parameters())

    def search(self, study: "Study", storage: str, context: SweepContext, space: Space, screen: Progress) -> None:
        """Run trials until there are enough.

        Raises:
            ConfigError: even the smallest student is over the budget.
        """
        assert isinstance(space, WidthSpace)
        smallest = {key: str(min(self.factors)) if key in space.factors else dimension.probes[0]
                    for key, dimension in space.dimensions.items()}
        if (least := self.parameters(context, space.words(smallest))) > self.budget:
            raise ConfigError([f"sweep.budget: got {self.budget}, but even the smallest of these students has {least:,} "
                           "parameters; give a larger budget, smaller sweep.factors, or a smaller student"])
        super().search(study, storage, context, space, screen)

    def tolerance(self, number: int) -> float:
        """How much trial `number` is forgiven over the budget.

        Only a policy gradient has use for it: to TPE a reward that changes with time would be a riddle.
        """
        return budget_tolerance(number // self.rollouts) if self.sampler == "reinforce" else 0.0

    def worth(self, measures: Mapping[str, float | None], number: int) -> Sequence[float | None]:
        """N2N's reward; None where the run had no teacher to be compared with."""
        needed = [measures[key] for key in ("validation_accuracy", "teacher_validation_accuracy", "parameters",
                                            "teacher_parameters")]
        own, taught, parameters, theirs = needed
        if own is None or not taught or parameters is None or not theirs:
            return [None]
        reward = n2n_reward(own, taught, int(parameters), int(theirs))
        if parameters > self.budget:
            tolerance = self.tolerance(number)
            reward = (tolerance - 1) + tolerance * reward
        return [reward]

    def allowed(self, trial: "FrozenTrial") -> bool:
        """Whether a trial is within the budget."""
        return (trial.user_attrs[TOLD].get("parameters") or self.budget + 1) <= self.budget


def key_of(student: Mapping[str, Any]) -> str | None:
    """The setting of a network that holds its widths; None where it has none that could be smaller."""
    for key in ("widths", "width"):
        held = student.get(key)
        if isinstance(held, list | int) and not isinstance(held, bool) and held and held != 1:
            return key
    return None
