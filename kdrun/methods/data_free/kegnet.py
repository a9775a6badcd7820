"""Knowledge extraction with no observable data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, Few, Layers, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.data_free.generated import Generated
from kdrun.methods.losses import kl
from kdrun.methods.losses.synthetic import diversity
from kdrun.models.generator import Ending, Generator
from kdrun.models.roles import Networks


class Decoder(nn.Sequential):
    """From pictures to the noise [B, D] that they were made of.

    Args:
        inputs: values of a picture.
        noise: D.
        width: of the hidden layers.
        layers: how many of them come after the first.
    """

    def __init__(self, inputs: int, noise: int, width: int, layers: int) -> None:
        hidden = [part for number in range(layers + 1)
                  for part in (nn.Linear(width if number else inputs, width), nn.ELU(), nn.BatchNorm1d(width))]
        super().__init__(nn.Flatten(), *hidden, nn.Linear(width, noise))


class KegNet(Generated):
    """Train generators that draw pictures of a class as the teacher knows it, and the student on these (Yoo et al. 2019).

    No training picture is read. A generator makes a picture of a label and noise. It learns, beside a decoder that finds the
    noise again, to have the teacher see the label, to keep the noise to be found, and to make unlike pictures of unlike
    noise. Several are trained one after the other, with other first weights. Then the student learns the teacher's answers
    on pictures of all of them.

    The authors' student is the teacher itself with Tucker-factorised layers, and starts from its weights; here it is any
    network with first weights. Their generator is made of transposed convolutions, the one here of those that the other
    data-free methods have. They keep the teacher in training mode while a generator learns, so that it normalises by the
    pictures' own statistics; here it is as it will be used.

    Measured on the digits (resnet8 with first weights taught by wrn_16_2, default recipe, seed 1): 38.6 % of the test set
    right, where the baseline, which has the labels, has 98.6 % and the teacher 99.0 %, in ten minutes on a busy processor.
    The teacher sees the asked class in nearly every picture (a cross-entropy of 0.01), and the student soon agrees with it on
    them (a divergence of 0.01): these pictures are unlike digits, and nothing makes them like.

    Args:
        noise: numbers that a picture is made of beside its label.
        width: channels of a generator's first maps.
        ending: what its pictures are normalised by: `standardised` each by itself, as the authors', or `tanh` as a batch.
        batch_size: pictures a step.
        steps: steps an epoch, of generators and student.
        generators: how many.
        generator_epochs: of each.
        generator_lr: of the Adam of a generator and its decoder.
        student_lr: of the student's Adam; null for the recipe's optimizer.
        noise_weight: of the noise that is found again.
        diversity_weight: of the diversity.
        decoder_width: of the decoder's layers.
        decoder_layers: how many of them come after the first.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = "trains its generators by how sure the teacher is"
    source = "Yoo, Cho, Kim, Kang: Knowledge extraction with no observable data. NeurIPS 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6",)
    cautions: ClassVar = {
        "offline": "it was measured far below the student alone, which sees samples and labels: on the digits resnet8 ended at "
                   "38.6 %, alone at 98.6 % (seed 1)"}

    generators: nn.ModuleList
    decoders: nn.ModuleList

    def __init__(self, *, noise: AtLeastOne, width: AtLeastOne, ending: Ending, batch_size: AtLeastOne, steps: AtLeastOne,
                 generators: Few, generator_epochs: Epochs, generator_lr: Positive, student_lr: Positive | None,
                 noise_weight: NonNegative, diversity_weight: NonNegative, decoder_width: AtLeastOne,
                 decoder_layers: Layers) -> None:
        super().__init__(noise=noise, width=width, batch_size=batch_size, steps=steps, generator_lr=generator_lr,
                         student_lr=student_lr, ending=ending)
        self.count, self.generator_epochs = generators, generator_epochs
        self.noise_weight, self.diversity_weight = noise_weight, diversity_weight
        self.decoder_width, self.decoder_layers, self.turn = decoder_width, decoder_layers, 0

    def setup(self, networks: Networks, data: Data) -> None:
        """Build generators and decoders."""
        self.classes, values = len(data.classes), data.shape[0] * data.shape[1] * data.shape[2]
        self.generators = nn.ModuleList([self.new_generator(networks, data, self.classes) for _ in range(self.count)])
        self.decoders = nn.ModuleList([Decoder(values, self.noise, self.decoder_width, self.decoder_layers)
                                       for _ in range(self.count)]).to(networks.device)

    @property
    def generator(self) -> Generator:  # type: ignore[override]  # the one that learns, whose failure stops the run
        """The present one."""
        found = self.generators[self.turn]
        assert isinstance(found, Generator)
        return found

    def phases(self, run: Run) -> Iterator[Phase]:
        """One generator after the other, then the student."""
        self.setup(run.networks, run.data)
        noise = run.noise([self.noise], batch_size=self.batch_size, steps=self.steps)
        for turn in range(self.count):
            self.turn = turn
            yield Phase(f"generator {turn + 1}", data=noise, epochs=self.generator_epochs, evaluate=False)
        yield Phase(data=noise, loss=self.imitate, train=[run.networks.student])

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Of the first phases: a generator and its decoder."""
        return {"generator": [self.generator, self.decoders[self.turn]]}

    def labels(self, count: int) -> Tensor:
        """So many classes by chance."""
        return torch.randint(self.classes, (count,), generator=self.random)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The generator and its decoder."""
        noise, labels = batch.tensor, self.labels(len(batch)).to(batch.tensor.device)
        pictures = self.generator(noise, labels)
        terms = {"label": F.cross_entropy(networks.teacher(pictures).logits, labels),
                 "noise": self.noise_weight * F.mse_loss(self.decoders[self.turn](pictures), noise)}
        if self.diversity_weight:
            terms["diversity"] = self.diversity_weight * diversity(noise, pictures)
        yield "generator", terms

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The teacher's answers on pictures of all generators, which have learnt."""
        noise = batch.tensor
        parts = noise.tensor_split(self.count)
        with torch.no_grad():
            made = [maker.eval()(part, self.labels(len(part)).to(noise.device))
                    for maker, part in zip(self.generators, parts, strict=True) if len(part)]
            pictures = torch.cat(made)
        return {"kd": kl(networks.teacher(pictures).logits, networks.student(pictures).logits)}
