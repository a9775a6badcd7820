"""Blockwisely supervised architecture search."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses.search import block_distance
from kdrun.methods.search.candidates import Candidates, Guide, Trial, by_labels_or_teacher
from kdrun.methods.structure.made import check_inputs, share_of
from kdrun.models.output import ModelOutput
from kdrun.models.resnet import opening
from kdrun.models.roles import Networks
from kdrun.models.staged import initialise
from kdrun.models.student_space import Architecture, StudentSpace
from kdrun.models.supernet import SharedStage, recalibrated
from kdrun.utils.seeding import seeded


class Path(NamedTuple):
    """A way through a stage, and how far it ends from the teacher's map."""

    blocks: tuple[str, ...]
    rating: float


def in_order(ratings: Sequence[Sequence[float]]) -> Iterator[tuple[int, ...]]:
    """Every way to take one entry of each row, by their sum, the lowest first; of equal sums in the order of the rows.

    Example:
        >>> list(in_order([[1.0, 0.0], [0.0, 3.0]]))
        [(1, 0), (0, 0), (1, 1), (0, 1)]
    """
    orders = [sorted(range(len(row)), key=row.__getitem__) for row in ratings]

    def entry(ranks: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        return sum(row[order[rank]] for row, order, rank in zip(ratings, orders, ranks, strict=True)), ranks

    first = (0,) * len(ratings)
    waiting, seen = [entry(first)], {first}
    while waiting:
        _, ranks = heapq.heappop(waiting)
        yield tuple(order[rank] for order, rank in zip(orders, ranks, strict=True))
        for place, order in enumerate(orders):
            after = (*ranks[:place], ranks[place] + 1, *ranks[place + 1:])
            if after[place] < len(order) and after not in seen:
                seen.add(after)
                heapq.heappush(waiting, entry(after))


class NasDNA(Method):
    """Choose each stage of the student by how near it comes to the teacher's map, fed with the teacher's (Li et al. 2020).

    Each of the teacher's stages has a student of several ways, which share weights: so many blocks, all of one kind of
    convolution and one kernel (`method.space`). A stage sees the teacher's map of the stage before (the first sees pictures)
    and learns the teacher's next one, each step on a way drawn by chance. Then each way is rated on the validation split by its
    distance from the teacher's map, its normalisations set anew. The student is made of the ways of the smallest sum of ratings
    that are within the budget, and trained anew. `paths.csv` has the ratings, `trials.csv` the students that were compared.

    What is chosen has the teacher's widths, whatever the space says of widths, and one family of blocks. The authors' ways are
    of blocks chosen one by one, with Adam at a rate that falls by a tenth an epoch, where here the recipe's schedule runs over
    its part of the epochs. Their ratings take the teacher with the statistics of a batch.

    On the digits, with wrn_16_2 as teacher (99.0 ± 0.1 %), students of 90,458 to 92,410 parameters end at 98.9 ± 0.2 %; resnet8
    (77,754) has 98.6 ± 0.1 % alone and 98.8 ± 0.2 % by `kd` (three seeds).

    `student=` names the network that is trained alone beside it; the rows of the student are those of the network that is
    found.

    Args:
        space: of the students, a choice of space/ (`space@method.space=small`).
        stage_share: of the recipe's epochs, for each stage.
        lr: of Adam while ways are learned.
        samples: of the training split, at most so many, by which normalisations are set before a rating.
        retrain: `ce` trains the student that was chosen by labels, `kd` by labels and the teacher's softened answer.
        temperature: of the softened answers.
        kd_weight: of that term.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures")
    knowledge = ("feature", "response")
    plain_logits = "chooses the student that it trains"
    source = "Li, Peng, Yuan, Wang, Liang, Lin, Chang: Blockwisely supervised neural architecture search with knowledge " \
             "distillation. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.9",)

    def __init__(self, *, space: dict[str, Any], stage_share: Positive, lr: Positive, samples: AtLeastOne, retrain: Guide,
                 temperature: Positive, kd_weight: NonNegative) -> None:
        super().__init__()
        self.space = StudentSpace.read(space)
        self.stage_share, self.lr, self.samples = stage_share, lr, samples
        self.retrain, self.temperature, self.kd_weight = retrain, temperature, kd_weight
        self.searching = True
        self.rated: list[list[Path]] = []
        self.trials: list[Trial] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """Stage after stage; then the student that was chosen.

        Raises:
            ValueError: the teacher's maps are not those of such a student, nothing is within the budget, or there is no
                validation split.
        """
        check_inputs(run.networks)
        if not len(run.data.validation):
            raise ValueError("it rates on the validation split, and there is none; set dataset.validation above 0")
        self.build(run)
        self.candidates = Candidates(run, self.space)
        for number, stage in enumerate(self.stages):
            parts = [self.stem, stage] if number == 0 else [stage]
            yield Phase(f"stage {number + 1}", loss=partial(self.match, number=number), train=parts, evaluate=False,
                        epochs=share_of(run, self.stage_share))
            self.rated.append(self.ratings(run, number))
        architecture = self.choice()
        self.searching = False
        run.networks.student = self.candidates.built(architecture)
        yield Phase("retrain", loss=self.learned, train=[run.networks.student])
        chosen = self.trials[-1]
        chosen.accuracy, chosen.kl = run.validated(run.networks.student), self.candidates.kl(run.networks.student)
        chosen.epochs = run.recipe.epochs

    def build(self, run: Run) -> None:
        """The stages that ways lead through.

        Raises:
            ValueError: the teacher's maps are not those of such a student.
        """
        space, shapes = self.space, run.networks.teacher.shapes
        if len(space.families) > 1:
            raise ValueError(f"space.families: got {len(space.families)}, but ways that share weights are of one family; give "
                             "method.space.families=[residual]")
        if len(shapes.stages) != len(space.strides):
            raise ValueError(f"the teacher has {len(shapes.stages)} stages, and method.space.strides is of "
                             f"{len(space.strides)}; give as many")
        sides = [run.data.shape[1:], *(maps[1:] for maps in shapes.stages)]
        for number, (before, after, stride) in enumerate(zip(sides, sides[1:], space.strides, strict=False), start=1):
            if [-(-side // stride) for side in before] != list(after):
                raise ValueError(f"stage {number} of the teacher brings maps from {'x'.join(map(str, before))} to "
                                 f"{'x'.join(map(str, after))}, which a stride of {stride} does not; give other "
                                 "method.space.strides")
        self.widths = tuple(maps[0] for maps in shapes.stages)
        self.paths = [(kind,) * depth for depth in space.depths for kind in space.kinds]
        most = max(space.depths)
        with seeded("weights", "supernet", run.seed):
            self.stem = opening(run.data.shape[0], space.stem)
            self.stages = nn.ModuleList(
                SharedStage(space.families[0], [space.kinds] * most, before, after, stride)
                for before, after, stride in zip((space.stem, *self.widths), self.widths, space.strides, strict=False))
            for part in (self.stem, self.stages):
                initialise(part)
        self.to(run.device)

    def architecture(self, blocks: Sequence[tuple[str, ...]]) -> Architecture:
        """The student of a way for each stage."""
        return Architecture(self.space.families[0], self.space.stem, self.widths, tuple(self.space.strides), tuple(blocks))

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for ways, the recipe's for the student."""
        return torch.optim.Adam(weights, self.lr) if self.searching else recipe.build(weights)

    def match(self, networks: Networks, batch: Batch, number: int) -> Terms:
        """The teacher's map of a stage, counted from 0, on a way drawn by chance."""
        teacher = networks.teacher(batch)
        path = self.paths[int(torch.randint(len(self.paths), (), generator=self.random))]
        return {"map": F.mse_loss(self.answered(networks, batch, teacher, number, path), teacher.stages[number].detach())}

    def answered(self, networks: Networks, batch: Batch, teacher: ModelOutput, number: int, path: Sequence[str]) -> Tensor:
        """The map at the end of a way."""
        stage = self.stages[number]
        assert isinstance(stage, SharedStage)
        stage.path = tuple(path)
        seen = teacher.stages[number - 1].detach() if number else self.stem(networks.student.inputs(batch))
        return stage(seen).relu()

    def ratings(self, run: Run, number: int) -> list[Path]:
        """Each way of a stage, rated."""
        networks, stage = run.networks, self.stages[number]
        assert isinstance(stage, SharedStage)
        few = run.data.train.limit(min(8 if run.rehearsal else self.samples, len(run.data.train)), run.seed,
                                   len(run.data.classes))
        split = run.data.validation
        asked = next(run.data.plain(split, run.device, len(split)))
        found = []

        def passes(path: Sequence[str]) -> None:
            for batch in run.data.plain(few, run.device):
                self.answered(networks, batch, networks.teacher(batch), number, path)

        self.eval()
        with torch.no_grad():
            wanted = networks.teacher(asked)
            for path in self.paths:
                parts = [*stage.along(path), *([self.stem] if number == 0 else [])]
                recalibrated(parts, partial(passes, path))
                answer = self.answered(networks, asked, wanted, number, path)
                found.append(Path(path, float(block_distance(wanted.stages[number], answer))))
        networks.teacher.forget()
        return found

    def choice(self) -> Architecture:
        """The student of the smallest sum of ratings that is within the budget.

        Raises:
            ValueError: none is.
        """
        excess = ""
        for places in in_order([[path.rating for path in paths] for paths in self.rated]):
            ways = [paths[place] for paths, place in zip(self.rated, places, strict=True)]
            architecture = self.architecture([way.blocks for way in ways])
            cost = self.candidates.cost(architecture)
            over = self.space.excess(cost)
            self.trials.append(Trial(f"choice {len(self.trials) + 1}", (architecture,), cost, 0, None, None,
                                     -sum(way.rating for way in ways)))
            if over is None:
                self.trials[-1].chosen = True
                return architecture
            excess = over
        raise ValueError(f"space: none of {len(self.trials)} students is within the budget (one has {excess}); give a larger "
                         "one, or cheaper method.space.convs")

    def learned(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the teacher where it guides."""
        return by_labels_or_teacher(self, networks, batch, self.retrain, self.temperature, self.kd_weight)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The rating of each way, and the students that were compared."""
        paths = [{"stage": number, "path": "+".join(path.blocks), "rating": path.rating}
                 for number, rated in enumerate(self.rated, start=1) for path in rated]
        return {"paths": paths, "trials": self.candidates.rows(self.trials)}
