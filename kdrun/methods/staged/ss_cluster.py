"""Self-supervised learning boosted by clusters."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Bounds, Epochs, NetworkName
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Teachers, Terms
from kdrun.methods.clustering import kmeans
from kdrun.methods.losses import unit_rows
from kdrun.methods.losses.views import joint_labels, view_count, views_of
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Frozen, Networks, Role, frozen
from kdrun.utils.seeding import generator

AtLeastTwo = Annotated[int, Bounds(least=2)]


class Probe(nn.Module):
    """A linear classifier on a frozen network's embedding.

    Args:
        trunk: the network.
        layer: from embeddings to logits.
    """

    def __init__(self, trunk: Role, layer: nn.Module) -> None:
        super().__init__()
        self.network, self.layer, self.model = trunk.network, layer, trunk.model

    def described_parts(self) -> dict[str, Any]:
        """What it is built of."""
        return {"network": self.network, "layer": self.layer}

    def forward(self, pictures: Tensor) -> ModelOutput:
        """Answer pictures [B, C, H, W]."""
        answer = self.network(pictures)
        return answer.replace(logits=self.layer(answer.embedding))


class SSCluster(Method):
    """Learn which cluster of a large self-taught network's features a picture is in, then the labels (Noroozi et al. 2018).

    A large network learns without labels which way up pictures are. Its embeddings of upright pictures, of length one, are
    clustered by k-means, and the student learns from nothing to tell the clusters apart: what passes over is the
    clustering, so its network need not be like the large one. Only then come labels: a linear classifier on the frozen
    student, the further product `probe`, and the whole student fine-tuned, which is the result. Where the data set has samples
    without labels (`dataset.labelled=80`) everything before the labels is done with those, and else with all
    training samples, whose labels are not read.

    An approximation: known of the paper here are its steps. Its pretext task is a jigsaw puzzle, its clusters 2,000 of ImageNet
    in the features of a middle layer, and its student's architecture AlexNet's. Measured on digits with 80 labels (resnet8,
    three seeds): 93.2 ± 1.0 % of the test set right and 78.8 ± 1.7 % by the linear classifier, the student alone 91.1 ± 1.4 %.

    Args:
        network: the large one.
        clusters: how many.
        rounds: of k-means at most.
        targets: what the student learns before the labels: `clusters`; or, to compare with, `pixels` (clusters of the pictures
            themselves), `random` ones, or the `pretext` task itself.
        pool_ratio: samples without labels a batch for each labelled one, before the labels.
        pretext_epochs: of the large network.
        cluster_epochs: of the student, before the labels.
        probe_epochs: of the linear classifier.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("pictures", "one row a sample", "labels")
    knowledge = ("response",)
    plain_logits = "learns clusters before labels"
    source = "Noroozi, Vinjimoor, Favaro, Pirsiavash: Boosting self-supervised learning via knowledge transfer. CVPR 2018"
    survey_scheme = ""
    survey_tables = ("Gou section 5",)

    clusters_of: Tensor
    turns: nn.Module
    head: nn.Module
    probe: nn.Module
    trunk: Frozen

    def __init__(self, *, network: NetworkName, clusters: AtLeastTwo, rounds: AtLeastOne,
                 targets: Literal["clusters", "pixels", "random", "pretext"], pool_ratio: AtLeastOne, pretext_epochs: Epochs,
                 cluster_epochs: Epochs, probe_epochs: Epochs) -> None:
        super().__init__()
        self.network, self.clusters, self.rounds, self.targets = network, clusters, rounds, targets
        self.pool_ratio, self.pretext_epochs = pool_ratio, pretext_epochs
        self.cluster_epochs, self.probe_epochs = cluster_epochs, probe_epochs

    def phases(self, run: Run) -> Iterator[Phase]:
        """The large network, clusters, the student by these, the linear classifier, the student by labels."""
        student, views = run.networks.student, view_count("rotation")
        pictures = run.pool(self.pool_ratio * run.stream.size, len(run.stream), needed=False)
        wide = student.shapes.embedding[0]
        if self.targets == "clusters":
            large = run.factory.named(self.network, "large network")
            run.networks.peers = [large]
            self.turns = nn.Linear(large.shapes.embedding[0], views).to(run.device)
            yield Phase("pretext", loss=lambda _, batch: self.turned(large, self.turns, batch), train=[large, self.turns],
                        data=pictures, epochs=self.pretext_epochs, evaluate=False)
            run.networks.peers = []
            self.turns.requires_grad_(False)
            self.group(run, large)
        elif self.targets != "pretext":
            self.group(run, None)
        self.head = nn.Linear(wide, views if self.targets == "pretext" else self.clusters).to(run.device)
        yield Phase("clusters", loss=self.grouped, train=[student, self.head], data=pictures, epochs=self.cluster_epochs,
                    evaluate=False)
        self.head.requires_grad_(False)
        self.trunk = frozen(student, "probe")
        self.probe = nn.Linear(wide, len(run.data.classes)).to(run.device)
        yield Phase("probe", loss=self.probed, train=[self.probe], epochs=self.probe_epochs, evaluate=False)
        self.probe.requires_grad_(False)
        yield Phase("fine-tune", train=[student])

    @torch.no_grad()
    def group(self, run: Run, large: Role | None) -> None:
        """Find the cluster of each picture: by a network's embedding of it, or by its pixels, or by chance.

        Raises:
            ValueError: there are fewer pictures than clusters.
        """
        samples = run.unlabelled(needed=False)
        draws = generator("clusters", run.seed)
        if self.clusters > len(samples):
            raise ValueError(f"method.clusters is {self.clusters}, and there are {len(samples)} pictures; wanted at most so "
                             "many")
        if self.targets == "random" or run.rehearsal:
            found = torch.randint(self.clusters, (len(samples),), generator=draws)
        else:
            if large is not None:
                large.eval()
            seen = [batch.pictures.flatten(1) if large is None else large(batch.pictures, fresh=True).embedding
                    for batch in run.data.plain(samples, run.device)]
            found, _ = kmeans(unit_rows(torch.cat(seen).double()), self.clusters, self.rounds, draws)
        self.register_buffer("clusters_of", found.to(run.device))

    def turned(self, role: Role, head: nn.Module, batch: Batch) -> Terms:
        """Which way up pictures are."""
        answer = head(role(views_of(batch.pictures, "rotation")).embedding)
        ways = joint_labels(torch.zeros(len(batch), dtype=torch.int64, device=answer.device), view_count("rotation"))
        return {"turned": F.cross_entropy(answer, ways)}

    def grouped(self, networks: Networks, batch: Batch) -> Terms:
        """The cluster of each picture; or which way up it is, to compare with."""
        if self.targets == "pretext":
            return self.turned(networks.student, self.head, batch)
        return {"cluster": F.cross_entropy(self.head(networks.student(batch).embedding), self.clusters_of[batch.rows])}

    def probed(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, by what the student has learned without them."""
        answer = self.trunk(batch)
        return {"ce probe": self.label_loss(answer.replace(logits=self.probe(answer.embedding)), batch)}

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and the linear classifier on what it was before its fine-tuning."""
        return {"student": networks.student, "probe": Probe(self.trunk, self.probe)}
