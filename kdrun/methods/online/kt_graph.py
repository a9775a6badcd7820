"""Knowledge transfer graphs."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from kdrun.config.constraints import Few, NetworkName, Positive
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.losses.arithmetic import row_mean
from kdrun.methods.shapes import Mutual
from kdrun.models.roles import Networks, Role
from kdrun.utils.wording import counted

Gate = Literal["through", "cutoff", "linear", "correct"]


def gated(teacher: Tensor, student: Tensor, labels: Tensor, gate: Gate, done: float, temperature: float) -> Tensor:
    """What one edge carries: the divergence of the student's logits [B, K] from the teacher's, through a gate.

    Times the squared temperature. `correct` averages over all samples, with 0 for those that the teacher gets wrong; `linear`
    weighs with `done`, the share of the training that is over.

    Example:
        >>> sure, flat = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.zeros(2, 2)
        >>> labels = torch.tensor([0, 1])
        >>> torch.stack([gated(sure, flat, labels, gate, 0.25, 1.0) for gate in ("through", "linear", "correct")])
        tensor([0.3278, 0.0820, 0.1639])
    """
    wanted, given = F.log_softmax(teacher.detach() / temperature, dim=1), F.log_softmax(student / temperature, dim=1)
    each = temperature**2 * (wanted.exp() * (wanted - given)).sum(dim=1)
    if gate == "correct":
        each = each * (teacher.argmax(dim=1) == labels)
    return row_mean(each) * (done if gate == "linear" else 1.0)


class TransferGraph(Mutual):
    """Train networks side by side as nodes of a graph, whose edges say who learns from whom and when (Minami et al. 2020).

    Node 1 is the student, then come its peers, which start from new weights and learn along, and last the run's teachers:
    under `scheme=offline` trained and fixed, as the paper's nodes are that nobody teaches; under `scheme=online` learning from
    the labels alone. Every learning node has a gate for each node, and one for the labels in its own place: `through` lets the
    edge pass, `cutoff` removes it, `linear` weighs it with the share of the training that is over, and `correct` leaves out the
    samples on which the node it comes from is wrong. All learn from one forward pass of each batch.

    So `dml` is two nodes with `through` everywhere but from the teacher, and `kd` at temperature 1 a student that is `through`
    for the labels and the teacher alone. The paper searches the gates by random search, with the test accuracy of the released
    code as its mark; a search here (`sweep=...`) takes the validation split's.

    Args:
        peers: how many networks like the student beside it, with other first weights; or the names of networks.
        gates: a row for each learning node, the student's first: the gates of the edges to it from each learning node (in its
            own place: of the labels) and from each teacher. Null for `through`, but `correct` from teachers.
        temperature: softens all answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline", "online")
    teachers: ClassVar[Teachers] = "many"
    needs = ("labels",)
    knowledge = ("response",)
    structural = True
    plain_logits = "looks for who answers rightly"
    source = "Minami, Hirakawa, Yamashita, Fujiyoshi: Knowledge transfer graph for deep collaborative learning. ACCV 2020"
    survey_scheme = "online"
    survey_tables = ("Gou section 6.4",)

    def __init__(self, *, peers: Few | list[NetworkName], gates: list[list[Gate]] | None, temperature: Positive) -> None:
        super().__init__(peers=peers)
        self.gates, self.temperature = gates, temperature
        self.steps = 1  # of an epoch

    def setup(self, networks: Networks, data: Data) -> None:
        """Check the gates.

        Raises:
            ValueError: there are not as many as edges, or nothing reaches a node.
        """
        learning, whole = 1 + len(networks.peers), 1 + len(networks.peers) + len(networks.teachers)
        rows = self.rows(networks)
        if len(rows) != learning or any(len(row) != whole for row in rows):
            raise ValueError(f"method.gates has rows of {[len(row) for row in rows]} gates; wanted {learning} rows of {whole}, "
                             f"for {counted(learning, 'learning node')} and {counted(whole - learning, 'teacher')}")
        if alone := [number for number, row in enumerate(rows, start=1) if set(row) == {"cutoff"}]:
            raise ValueError(f"method.gates cuts off every edge to node {alone[0]}, so it learns nothing; a node that only "
                             "teaches is one of teachers=[...]")

    def rows(self, networks: Networks) -> list[list[Gate]]:
        """The gates of each learning node."""
        if self.gates is not None:
            return self.gates
        learning: list[Gate] = ["through" for _ in (networks.student, *networks.peers)]
        fixed: list[Gate] = ["correct" for _ in networks.teachers]
        return [learning + fixed for _ in learning]

    def phases(self, run: Run) -> Iterator[Phase]:
        """One."""
        self.steps = len(run.stream)
        yield from super().phases(run)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of each learning node."""
        nodes, rows = [networks.student, *networks.peers, *networks.teachers], self.rows(networks)
        done = (batch.epoch * self.steps + batch.step) / (batch.epochs * self.steps)
        said = {number: nodes[number](batch).logits.detach() for number in range(len(nodes))
                if any(row[number] != "cutoff" for place, row in enumerate(rows) if place != number)}
        for place, row in enumerate(rows):
            yield nodes[place].name, self.edges(nodes[place], place, row, said, batch, done)

    def edges(self, node: Role, place: int, row: list[Gate], said: dict[int, Tensor], batch: Batch, done: float) -> Terms:
        """What comes to a node."""
        own = node(batch)
        terms: Terms = {}
        for number, gate in enumerate(row):
            if gate == "cutoff":
                continue
            if number == place:
                terms["ce"] = self.label_loss(own, batch) * (done if gate == "linear" else 1.0)
            else:
                terms[f"from node {number + 1}"] = gated(said[number], own.logits, batch.labels, gate, done, self.temperature)
        return terms
