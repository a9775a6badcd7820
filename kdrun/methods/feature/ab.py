"""Activation boundaries."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Epochs, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Terms
from kdrun.methods.losses import halving_sum, places, same_size, soft_cross_entropy
from kdrun.methods.losses.feature import ab
from kdrun.methods.scaling import ScaledWeights, Scaling
from kdrun.models.roles import Networks


class AB(ScaledWeights):
    """Start the student from the teacher's activation boundaries: which neurons are on, not how much (Heo et al. 2019).

    First the student without its classifier learns the boundaries of every stage at a constant rate, through a connector
    (1x1 convolution and normalisation) where channels differ; then all of it learns as the weights of the second phase
    say, the authors' by softened answers alone. Networks must have equally many stages; where their maps differ in size
    the larger is averaged down.

    A student that taught itself would start from the boundaries of an untrained network, so `scheme=self` is not
    offered.

    Args:
        margin: of the boundaries.
        weight: of the last stage's boundaries; each stage before counts half of the next.
        reference: for how many places of the first stage `weight` was given; null takes it as it is, whatever their number.
        scaling: how the weight goes with that number, a rule of `kdrun.methods.scaling`.
        boundary_epochs: of the first phase.
        temperature: of the second phase; no factor of its square.
        ce_weight: of the cross-entropy with the labels in the second phase.
        kd_weight: of the softened answers there.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    needs = ("maps",)
    knowledge = ("feature",)
    source = "Heo, Lee, Yun, Choi: Knowledge transfer via distillation of activation boundaries formed by hidden " \
             "neurons. AAAI 2019"
    survey_scheme = "offline"
    survey_tables = ("Gou 1", "Alkhulaifi 2")
    unit = "places of the first stage"

    connectors: nn.ModuleList

    def __init__(self, *, margin: Positive, weight: Positive, reference: AtLeastOne | None, scaling: Scaling,
                 boundary_epochs: Epochs, temperature: Positive, ce_weight: NonNegative,
                 kd_weight: NonNegative) -> None:
        super().__init__()
        self.reference, self.scaling = reference, scaling
        if not ce_weight and not kd_weight:
            raise ValueError("ce_weight and kd_weight are both 0, so that nothing would train the classifier")
        self.margin, self.weight, self.boundary_epochs = margin, weight, boundary_epochs
        self.temperature, self.ce_weight, self.kd_weight = temperature, ce_weight, kd_weight

    def setup(self, networks: Networks, data: Data) -> None:
        """Build a connector for every stage whose channels differ.

        Raises:
            ValueError: the stages do not pair up.
        """
        pairs = networks.paired_stages("the distillation of activation boundaries", "preacts")
        self.rescale(places(*pairs[0]))
        self.connectors = nn.ModuleList(
            nn.Identity() if before[0] == after[0]
            else nn.Sequential(nn.Conv2d(before[0], after[0], 1, bias=False), nn.BatchNorm2d(after[0]))
            for before, after in pairs).to(networks.device)

    def distance(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
        """How far the connected stages of the student are from the teacher's boundaries, a scalar."""
        return halving_sum([ab(*same_size(wanted.detach(), given), self.margin)
                            for wanted, given in zip(teacher, student, strict=True)])

    def match(self, networks: Networks, batch: Batch) -> Terms:
        """The boundaries alone."""
        connected = [connector(maps) for connector, maps in
                     zip(self.connectors, networks.student(batch).preacts, strict=True)]
        return {"ab": self.scale * self.weight * self.distance(networks.teacher(batch).preacts, connected)}

    def phases(self, run: Run) -> Iterator[Phase]:
        """The boundaries, then the answers."""
        self.setup(run.networks, run.data)
        backbone = run.networks.student.until(len(self.connectors))
        yield Phase("boundaries", loss=self.match, train=[*backbone, self.connectors], epochs=self.boundary_epochs,
                    constant_rate=True, evaluate=False)
        self.connectors = nn.ModuleList()
        yield Phase()

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """Labels and softened answers, whichever has a weight."""
        student, terms = networks.student(batch), {}
        if self.ce_weight:
            terms["ce"] = self.ce_weight * self.label_loss(student, batch)
        if self.kd_weight:
            teacher = networks.teacher(batch)
            terms["kd"] = self.kd_weight * soft_cross_entropy(teacher.logits, student.logits, self.temperature)
        return terms
