"""Deep mutual learning."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from kdrun.config.constraints import Few, NetworkName, NonNegative, Positive
from kdrun.data.batch import Batch
from kdrun.methods.base import Teachers, Terms
from kdrun.methods.losses.response import dml
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks


class DML(Mutual):
    """Train several networks side by side, each matching the answers of the others (Zhang et al. 2018).

    All learn from one forward pass of each batch: what the others said is a constant, and nobody waits for an update.
    (The authors' code updates in turn, each network on a batch of its own, and adds up where this averages.)

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        weight: of the divergence from the others.
        temperature: softens all answers; the paper's is 1.
        target: `each` of the others, as in the paper, or their `ensemble`.
    """

    schemes: ClassVar[tuple[str, ...]] = ("online",)
    teachers: ClassVar[Teachers] = "none"
    knowledge = ("response",)
    plain_logits = ""
    source = "Zhang, Xiang, Hospedales, Lu: Deep mutual learning. CVPR 2018"
    survey_scheme = "online"
    survey_tables = ("Gou 3", "Gou 5", "Gou 6", "Zhu section III-D")

    def __init__(self, *, peers: Few | list[NetworkName], weight: NonNegative, temperature: Positive,
                 target: Literal["each", "ensemble"]) -> None:
        super().__init__(peers=peers)
        self.weight, self.temperature, self.target = weight, temperature, target

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student and of each peer."""
        together = [networks.student, *networks.peers]
        said = [role(batch).logits.detach() for role in together]
        for number, role in enumerate(together):
            own, others = role(batch), said[:number] + said[number + 1:]
            yield role.name, {"ce": self.label_loss(own, batch),
                              "mimicry": self.weight * dml(others, own.logits, self.temperature, self.target)}
