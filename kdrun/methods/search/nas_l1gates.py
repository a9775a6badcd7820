"""A student within the teacher, found by gates of its channels."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.evaluation.metrics import flops
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kl
from kdrun.methods.search.candidates import Guide, by_labels_or_teacher
from kdrun.methods.structure.made import as_student, check_inputs, share_of
from kdrun.models.channels import Channels, channels_of
from kdrun.models.edited import with_channels
from kdrun.models.roles import Networks, Role
from kdrun.models.staged import FirstWeights, initialise
from kdrun.utils.seeding import seeded


class Gates(NamedTuple):
    """Channels that may be left out, one by one.

    Attributes:
        channels: which.
        norm: the normalisation whose scale is the gate of each.
        price: of a channel in FLOPs, in proportion to the mean over all gates.
    """

    channels: Channels
    norm: str
    price: float


def strongest(sizes: Sequence[Tensor], drop: int) -> list[Tensor]:
    """Which gates stay when so many of all together are left out: those of the largest size, at least one of each row.

    Args:
        sizes: of the gates of each group of channels.
        drop: how many are left out; as many as can be where that is more.

    Returns:
        The places that stay, in order, for each row.

    Example:
        >>> strongest([torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.9, 0.4])], 2)
        [tensor([1]), tensor([1, 2])]
    """
    safe = [int(row.argmax()) for row in sizes]
    order = sorted((float(size), number, place) for number, row in enumerate(sizes) for place, size in enumerate(row)
                   if place != safe[number])
    left_out = {(number, place) for _, number, place in order[:drop]}
    return [torch.tensor([place for place in range(len(row)) if (number, place) not in left_out])
            for number, row in enumerate(sizes)]


class NasL1Gates(Method):
    """Find the student within the teacher: a gate for each channel, made small by an L1 norm; then cut it out and teach it (Gu
    and Tresp 2020).

    The student begins with the teacher's topology. It learns the teacher's answers while the L1 norm of its gates, each times
    what its channel costs, is held down; a gate is the scale of the normalisation behind a convolution. Then the smallest gates
    of all are left out, with their channels, until the network has a share of the teacher's FLOPs, and what is left learns from
    the teacher for all epochs. Channels that shortcuts add up stay. `gates.csv` says what is left of each convolution.

    An approximation: only the formula of the loss and the abstract were at hand. Weights, temperature and epochs are ours, and
    so is that the gates are those of the normalisations.

    On the digits (one seed), half of wrn_16_2 (99.0 %) has 98.2 %, and resnet8 alone 98.6 %. With `gate_weight=0.001` it has
    99.0 %, but its gates hardly move, and it had one validation picture of 90 less right, by which the weight was chosen.

    `student=` names the network that is trained alone beside it; the rows of the student are those of the network that is
    found.

    Args:
        flops_share: the most FLOPs that are left, as a share of the teacher's.
        start: of the search: from the `teacher`'s weights, or from `new` ones.
        gate_weight: of the gates' norm, each gate's price in proportion to the mean.
        weight_norm: of the norm of all weights together.
        search_share: of the recipe's epochs.
        weights: with which what is left is trained on: those that were `kept`, or `new` ones.
        temperature: of the softened answers.
        retrain: `ce` trains what is left by labels, `kd` by labels and the teacher's softened answer.
        kd_weight: of that term.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures")
    knowledge = ("response",)
    plain_logits = "makes the student that it trains out of the teacher"
    source = "Gu, Tresp: Search for better students to learn distilled knowledge. ECAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.9",)

    def __init__(self, *, flops_share: Annotated[float, Bounds(above=0, most=1)], start: Literal["teacher", "new"],
                 gate_weight: NonNegative, weight_norm: NonNegative, search_share: Positive,
                 weights: Literal["kept", "new"], temperature: Positive, retrain: Guide, kd_weight: NonNegative) -> None:
        super().__init__()
        self.flops_share, self.start, self.gate_weight, self.weight_norm = flops_share, start, gate_weight, weight_norm
        self.search_share, self.weights = search_share, weights
        self.temperature, self.retrain, self.kd_weight = temperature, retrain, kd_weight
        self.gates: list[Gates] = []
        self.left: list[Tensor] = []

    def phases(self, run: Run) -> Iterator[Phase]:
        """Gates; then the student that they leave.

        Raises:
            ValueError: the teacher's channels cannot be followed, or even one of each does not cost so little.
        """
        check_inputs(run.networks)
        teacher = run.networks.teacher
        network = copy.deepcopy(teacher.network).requires_grad_(True)
        if self.start == "new":
            anew(network, run.seed)
        self.gates = self.priced(teacher)
        role = as_student(run, network, f"{teacher.model} with gates")
        yield Phase("gates", loss=self.gated, train=[role], epochs=share_of(run, self.search_share))
        smaller, self.left = self.within(teacher, role)
        if self.weights == "new":
            anew(smaller, run.seed)
        as_student(run, smaller, f"{teacher.model} of {self.flops_share:g} of its FLOPs")
        yield Phase("retrain", train=[run.networks.student])

    def priced(self, teacher: Role) -> list[Gates]:
        """The channels of one convolution and one normalisation alone, and what one of each costs.

        Raises:
            ValueError: the teacher's channels cannot be followed, or there are none of these.
        """
        example = teacher.task.example(1, teacher.device)
        found = [one for one in channels_of(teacher.network) if len(one.outputs) == len(one.norms) == 1 and one.count > 1]
        if not found:
            raise ValueError(f"{teacher.model} has no convolution with a normalisation of its own, whose channels could be "
                             "left out; take a teacher like resnet*, wrn_* or vgg*")
        whole = flops(teacher.network, example) or 0
        without = [with_channels(teacher.network, {one: torch.arange(one.count - 1)}) for one in found]  # one channel less
        prices = [whole - (flops(network, example) or 0) for network in without]
        mean = sum(price * one.count for price, one in zip(prices, found, strict=True)) / sum(one.count for one in found)
        return [Gates(one, one.norms[0], price / mean) for price, one in zip(prices, found, strict=True)]

    def within(self, teacher: Role, role: Role) -> tuple[nn.Module, list[Tensor]]:
        """What is left of the gated network: as much as its share of the teacher's FLOPs allows.

        Raises:
            ValueError: even one channel of each costs more.
        """
        example, network = role.task.example(1, role.device), role.network
        most = self.flops_share * (flops(teacher.network, example) or 0)
        sizes = [gate.abs().detach().cpu() for gate in self.scales(network)]
        low, high = 0, sum(len(row) - 1 for row in sizes)
        tried: dict[int, tuple[nn.Module, list[Tensor]]] = {}

        def fits(drop: int) -> bool:
            kept = strongest(sizes, drop)
            smaller = with_channels(network, {gates.channels: rows for gates, rows in zip(self.gates, kept, strict=True)})
            tried[drop] = smaller, kept
            return (flops(smaller, example) or 0) <= most

        if not fits(high):
            least = (flops(tried[high][0], example) or 0) / (flops(teacher.network, example) or 1)
            raise ValueError(f"method.flops_share: got {self.flops_share:g}, but one channel of each convolution within blocks "
                             f"has {least:.3g} of the teacher's FLOPs already; give more")
        while low < high:  # FLOPs fall with each channel that is left out
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle + 1, high)
        if high not in tried:
            fits(high)
        return tried[high]

    def scales(self, network: nn.Module) -> list[Tensor]:
        """The gates of each group of channels."""
        return [network.get_submodule(gates.norm).weight for gates in self.gates]  # type: ignore[misc]

    def gated(self, networks: Networks, batch: Batch) -> Terms:
        """The teacher's answers, and what holds gates and weights down."""
        network = networks.student.network
        norm = sum((gates.price * scale.abs().sum() for gates, scale in zip(self.gates, self.scales(network), strict=True)),
                   start=torch.zeros((), device=networks.device))
        terms = {"kl": kl(networks.teacher(batch).logits, networks.student(batch).logits, self.temperature),
                 "gates": self.gate_weight * norm}
        if self.weight_norm:
            terms["weights"] = self.weight_norm * torch.stack([own.square().sum() for own in network.parameters()]).sum().sqrt()
        return terms

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, and the teacher where it guides."""
        return by_labels_or_teacher(self, networks, batch, self.retrain, self.temperature, self.kd_weight)

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """What is left of each convolution."""
        return {"gates": [{"convolution": gates.channels.outputs[0], "channels": gates.channels.count, "left": len(rows),
                           "price": gates.price} for gates, rows in zip(self.gates, self.left, strict=True)]}


def anew(network: nn.Module, seed: int) -> None:
    """Give a network new first weights, of its own kind."""
    with seeded("weights", "gates", seed):
        for module in network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        initialise(network, getattr(network, "first_weights", FirstWeights.HE))
