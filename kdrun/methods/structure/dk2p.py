"""Dominant convolution kernels and knowledge pre-regression."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.structure.made import as_student
from kdrun.models.edited import replaced
from kdrun.models.factorised import dominant_kernels
from kdrun.models.output import ModelOutput
from kdrun.models.quantization import inner_layers
from kdrun.models.roles import Networks
from kdrun.models.staged import FirstWeights, initialise
from kdrun.utils.seeding import seeded


class DK2P(Method):
    """Teach a student of few kernels a channel by what its teacher's middle layers say of the class (Wang et al. 2016).

    Each convolution over places, but the first, becomes some kernels for each channel that comes in ("dominant" ones) and 1x1
    across them. At the end of each stage the maps of both networks are averaged, and a linear probe makes classes of them. The
    teacher's probes learn the labels first and are then frozen; the student's answer them by cross-entropy, in place of the
    distance of maps that a hint is ("knowledge pre-regression"). Stages pair up by number; maps may differ in size and
    channels. An approximation: the paper's text was not at hand, and which layers it takes, how its kernels are found and
    weighed are ours.

    Args:
        kernels: a channel.
        start: of the new layers: `random`, or by singular values those of the `student` as it is when trained alone, whose
            epochs then come on top, as do its other weights.
        probe_epochs: of the teacher's probes.
        weight: of the cross-entropy with the teacher's probe at each stage.
        ce_weight: of the cross-entropy with the labels.
    """

    needs = ("maps", "pictures", "labels", "one row a sample")
    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("feature",)
    structural = True
    source = "Wang, Deng, Wang: Accelerating convolutional neural networks with dominant convolutional kernel and " \
             "knowledge pre-regression. ECCV 2016"
    survey_scheme = ""
    survey_tables = ()

    def __init__(self, *, kernels: AtLeastOne, start: Literal["random", "student"], probe_epochs: Epochs, weight: NonNegative,
                 ce_weight: NonNegative) -> None:
        super().__init__()
        self.kernels, self.start, self.probe_epochs = kernels, start, probe_epochs
        self.weight, self.ce_weight = weight, ce_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the probes.

        Raises:
            ValueError: the stages do not pair up.
        """
        pairs = networks.paired_stages("knowledge pre-regression", hint="resnet8 and wrn_16_2 would do")
        classes = len(data.classes)
        self.probes = nn.ModuleList(nn.Linear(own[0], classes) for own, _ in pairs).to(networks.device)
        self.teacher_probes = nn.ModuleList(nn.Linear(theirs[0], classes) for _, theirs in pairs).to(networks.device)

    def phases(self, run: Run) -> Iterator[Phase]:
        """Make the student, train the teacher's probes, then the student.

        Raises:
            ValueError: no convolution would be cheaper so, or the stages do not pair up.
        """
        self.make(run)
        self.setup(run.networks, run.data)
        if self.probe_epochs:
            yield Phase("probes", loss=self.probe_loss, train=[self.teacher_probes], epochs=self.probe_epochs,
                        constant_rate=True, evaluate=False)
        self.teacher_probes.requires_grad_(False)
        yield Phase()

    def make(self, run: Run) -> None:
        """Put the cheaper layers in place of the student's."""
        student = run.networks.student
        network = student.network
        if self.start == "student":
            network.load_state_dict(run.factory.baseline().network.state_dict())
        first = inner_layers(network, ends=True)[0]
        layers = {name: made for name, layer in network.named_modules()
                  if layer is not first and (made := dominant_kernels(layer, self.kernels)) is not None}
        if not layers:
            raise ValueError(f"no convolution of {student.model} has fewer weights as kernels={self.kernels} for each channel; "
                             "give fewer, or a student with 3x3 convolutions, as resnet8")
        if self.start == "random":
            with seeded("weights", "dominant kernels", run.seed):
                for layer in layers.values():
                    initialise(layer, getattr(network, "first_weights", FirstWeights.HE))
        as_student(run, replaced(network, layers), f"{student.model} of {self.kernels} kernels a channel")

    def answers(self, output: ModelOutput, probes: nn.ModuleList) -> list[Tensor]:
        """The logits [B, K] of each stage."""
        return [probe(maps.mean(dim=(2, 3))) for probe, maps in zip(probes, output.stages, strict=True)]

    def probe_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels of the teacher's probes."""
        output = networks.teacher(batch)
        terms = [self.label_loss(output.replace(logits=logits), batch) for logits in self.answers(output, self.teacher_probes)]
        return {"probes": sum(terms[1:], start=terms[0])}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and what the teacher's probes say."""
        student = networks.student(batch)
        pairs = zip(self.answers(networks.teacher(batch), self.teacher_probes), self.answers(student, self.probes), strict=True)
        terms = [soft_cross_entropy(theirs, own) for theirs, own in pairs]
        return {"ce": self.ce_weight * self.label_loss(student, batch),
                "pre-regression": self.weight * sum(terms[1:], start=terms[0])}
