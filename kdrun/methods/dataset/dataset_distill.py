"""Dataset distillation and condensation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config import registry
from kdrun.config.constraints import AtLeastOne, Count, NetworkName, Positive, Proportion, Turns
from kdrun.config.recipe import Recipe
from kdrun.data.balanced import Balanced
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import herding
from kdrun.data.samples import Samples
from kdrun.data.stream import MemoryStream, Normalise
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.dataset.made_data import LearningSet, MadeData, real_pictures
from kdrun.methods.losses.condensation import gradient_matching, mean_matching
from kdrun.methods.unrolled import SGD, Unrolled
from kdrun.models.factory import NetworkSpec
from kdrun.models.roles import Networks, Role


class Pictures(nn.Module):
    """Pictures that are learned, class after class, and with them perhaps the learning rates of steps on them.

    Args:
        shape: [K, M, C, H, W]: classes, pictures of each, a picture.
        rates: how many learning rates.
        rate: that they begin with.
    """

    def __init__(self, shape: Sequence[int], rates: int, rate: float) -> None:
        super().__init__()
        self.pixels = nn.Parameter(torch.zeros(*shape))
        if rates:  # through a softplus, so that they stay above 0
            self.raw_rates = nn.Parameter(torch.full((rates,), rate).expm1().log())

    @property
    def rates(self) -> Tensor:
        """The learning rates."""
        return F.softplus(self.raw_rates)


class DatasetDistill(MadeData):
    """Learn a few pictures of each class that train a fresh network as all training data would (Wang et al. 2018).

    Three ways. `unroll` is that paper's: a random network takes steps of SGD on the pictures, one for each of a class, round
    after round, at learned rates; its loss on real pictures then has a gradient through those steps to pictures and rates. `gm`
    (Zhao et al. 2021) has the gradient of a random network's loss on pictures of a class point where that on real ones does,
    while the network learns from the pictures. `dm` (Zhao and Bilen 2023) has pictures of a class embedded by random networks
    with the mean of the real ones. Pictures are learned as networks see them and may leave the range of real ones. All networks
    here are drawn anew for each iteration.

    References: as many real pictures of each class, drawn at `random` or by herding in the trained baseline's embedding. See
    `MadeData`. Authors of `dm` augment real and learned pictures alike in several ways: here both are shifted alike by
    at most the data set's crop.

    Measured on the digits (`dm`, ten pictures of each class, resnet8, three seeds): 95.9 ± 0.7 % of the test set right by
    what was made, 94.5 ± 1.0 % by herded pictures, 93.5 ± 1.2 % by random ones, 98.6 ± 0.1 % by all.

    Args:
        mode: `dm`, `gm` or `unroll`.
        per_class: learned pictures of each class.
        init: what they begin as: `real` pictures, or `noise`.
        network: what looks at them.
        iterations: of learning.
        real: real pictures of each class an iteration, or an update of the pictures.
        lr: of the pictures' optimizer, SGD, or Adam for `unroll`.
        momentum: of it.
        updates: `gm`: of the pictures for each random network.
        network_updates: `gm`: of the network between these.
        network_lr: `gm`: of those.
        rounds: `unroll`: how often the steps on all pictures are taken.
        first_rate: `unroll`: the learning rate that all steps begin with.
        networks: further ones that learn from what was made, by name.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ()
    cautions: ClassVar[Mapping[str, str]] = {
        "self": "its student learns from a few pictures alone: measured on digits by 100 of them it has 96 % of the test set "
                "right, where the student alone, which has all 809, has 99 %"}
    source = "Wang, Zhu, Torralba, Efros: Dataset distillation. arXiv:1811.10959, 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 1", "Gou section 9.2")

    pictures: Pictures
    normalise: Normalise

    def __init__(self, *, mode: Literal["dm", "gm", "unroll"], per_class: AtLeastOne, init: Literal["real", "noise"],
                 network: NetworkName, iterations: AtLeastOne, real: AtLeastOne, lr: Positive, momentum: Proportion,
                 updates: Turns, network_updates: Count, network_lr: Positive, rounds: Turns, first_rate: Positive,
                 networks: list[NetworkName]) -> None:
        super().__init__(networks=networks)
        self.mode, self.per_class, self.init, self.network = mode, per_class, init, network
        self.iterations, self.real, self.lr, self.momentum = iterations, real, lr, momentum
        self.updates, self.network_updates, self.network_lr = updates, network_updates, network_lr
        self.rounds, self.first_rate = rounds, first_rate

    def make(self, run: Run) -> Iterator[Phase]:
        """Learn the pictures."""
        data, self.run, self.crop = run.data, run, run.data.settings.crop
        classes, self.normalise = len(data.classes), data.normalise
        self.rows = real_pictures(data.train, self.per_class, classes, run.seed)
        shape = [classes, self.per_class, *data.shape]
        self.pictures = Pictures(shape, self.per_class * self.rounds if self.mode == "unroll" else 0, self.first_rate)
        with torch.no_grad():
            self.pictures.pixels.copy_(self.normalise(data.train.inputs[self.rows]).unflatten(0, shape[:2])
                                       if self.init == "real" else torch.randn(shape, generator=self.random))
        self.pictures.to(run.device)
        self.spec = NetworkSpec.read(registry.network(self.network))
        real = MemoryStream(data.train, data.task, self.normalise, batch_size=len(data.train), crop=0, flip=False,
                            seed=run.seed, device=run.device)
        draws = self.updates if self.mode == "gm" else 1
        steps, each = (1, 2) if run.rehearsal else (self.iterations, self.real)
        yield Phase(self.mode, data=Balanced(real, classes, each, steps, draws), epochs=1, evaluate=False)

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The pictures."""
        return {"pictures": [self.pictures]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """SGD or Adam at a constant rate for the pictures."""
        if player != "pictures":
            return recipe.build(weights)
        group = {"params": list(weights), "scheduled": False}
        if self.mode == "unroll":
            return torch.optim.Adam([group], lr=self.lr, betas=(self.momentum, 0.999))
        return torch.optim.SGD([group], lr=self.lr, momentum=self.momentum)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An iteration: a random network, and one update of the pictures or, for `gm`, several."""
        fresh = self.run.factory.build(self.spec, f"distilling network {batch.step}").train()
        classes = self.pictures.pixels.shape[0]
        real = batch.pictures.unflatten(0, (-1, classes, len(batch) // classes // (self.updates if self.mode == "gm" else 1)))
        if self.mode == "unroll":
            yield "pictures", {"unroll": self.unrolled(fresh, real[0])}
        elif self.mode == "dm":
            shifted = self.shifted(real[0], self.pictures.pixels)
            seen = [fresh(pictures.flatten(0, 1), fresh=True).embedding.unflatten(0, pictures.shape[:2])
                    for pictures in shifted]
            yield "pictures", {"dm": mean_matching(*seen)}
        else:
            for number in range(self.updates):
                yield "pictures", {"gm": self.matched(fresh, real[number])}
                if number + 1 < self.updates:
                    self.teach(fresh)

    def shifted(self, real: Tensor, made: Tensor) -> list[Tensor]:
        """Real and learned pictures [K, M, C, H, W], all shifted alike by at most the crop; what comes in is black."""
        if not self.crop:
            return [real, made]
        down, right = torch.randint(2 * self.crop + 1, (2,), generator=self.random).tolist()
        black = self.normalise(torch.zeros(1, 1, 1, real.shape[2]))[0].to(real.device)
        height, width = real.shape[-2:]
        return [(F.pad(pictures - black, [self.crop] * 4) + black)[..., down:down + height, right:right + width]
                for pictures in (real, made)]

    def matched(self, fresh: Role, real: Tensor) -> Tensor:
        """The distance of the gradients of a network, class by class."""
        weights, terms = list(fresh.parameters()), []
        for label, (known, made) in enumerate(zip(real, self.pictures.pixels, strict=True)):
            found = [torch.autograd.grad(F.cross_entropy(fresh(pictures, fresh=True).logits,
                                                         torch.full((len(pictures),), label, device=pictures.device)),
                                         weights, create_graph=pictures is made) for pictures in (known, made)]
            terms.append(gradient_matching(*found))
        return torch.stack(terms).sum()

    def teach(self, fresh: Role) -> None:
        """Have a network learn from the pictures as they are."""
        optimizer = torch.optim.SGD(fresh.parameters(), lr=self.network_lr, momentum=0.5)  # authors
        classes, count = self.pictures.pixels.shape[:2]
        labels = torch.arange(classes, device=fresh.device).repeat_interleave(count)
        for _ in range(self.network_updates):
            optimizer.zero_grad()
            F.cross_entropy(fresh(self.pictures.pixels.detach().flatten(0, 1), fresh=True).logits, labels).backward()
            optimizer.step()

    def unrolled(self, fresh: Role, real: Tensor) -> Tensor:
        """The loss on real pictures after steps on the learned ones."""
        model = Unrolled({"network": fresh.network})
        classes, count = self.pictures.pixels.shape[:2]
        labels = torch.arange(classes, device=fresh.device)
        for turn, rate in enumerate(self.pictures.rates):
            shown = self.pictures.pixels[:, turn % count]
            model.step(F.cross_entropy(model("network", shown).logits, labels), SGD(rate))
        return F.cross_entropy(model("network", real.flatten(0, 1)).logits, labels.repeat_interleave(real.shape[1]))

    def made(self, run: Run) -> LearningSet:
        """The pictures as stored ones."""
        classes, count = self.pictures.pixels.shape[:2]
        stored = self.normalise.stored(self.pictures.pixels.detach().flatten(0, 1)).cpu().contiguous()
        return LearningSet(Samples(stored, torch.arange(classes).repeat_interleave(count)))

    def references(self, run: Run) -> Mapping[str, LearningSet]:
        """As many real pictures, by chance and by herding."""
        train = run.data.train
        baseline = run.factory.baseline()
        with torch.no_grad():
            seen = torch.cat([baseline(batch.x).embedding.cpu() for batch in run.data.plain(train, run.device)])
        rows = [(train.labels == label).nonzero()[:, 0] for label in range(len(run.data.classes))]
        chosen = torch.cat([own[herding(seen[own], self.per_class)] for own in rows])
        return {"random": LearningSet(train[self.rows]), "herded": LearningSet(train[chosen])}
