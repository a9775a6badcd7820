"""Few-shot compression by cross distillation."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, Positive, Proportion
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses.feature import cross_distillation
from kdrun.methods.structure.made import asked_in_turn, check_inputs, narrower
from kdrun.models.channels import Channels, take_channels
from kdrun.models.roles import Frozen, Networks, frozen


def left(turn: int, turns: int, whole: int, target: int) -> int:
    """How many input channels a layer has after a turn, counted from 0: fewer and fewer over the first third of all."""
    third = turns / 3
    ahead = max(third - turn, 0.0) / third if turn < turns - 1 else 0.0
    return target + int((whole - target) * ahead)


def strongest_inputs(weight: Tensor, count: int) -> Tensor:
    """Which input channels of a weight [C', C, ...] have the greatest norms, as a mask [C]."""
    kept = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
    kept[weight.detach().transpose(0, 1).flatten(1).norm(dim=1).topk(count).indices] = True
    return kept


def layer_input(network: nn.Module, name: str, pictures: Tensor) -> Tensor:
    """What a layer of a network is asked about, of these pictures."""
    heard: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_pre_hook(lambda _, given: heard.append(given[0].clone()))
    try:
        with torch.no_grad():
            network(pictures)
    finally:
        hook.remove()
    return heard[-1]


class CrossDistill(Method):
    """Prune the teacher layer by layer on a few pictures, each layer by what it does to both networks' maps (Bai et al. 2020).

    The student is of the teacher's form with fewer channels (`teacher=vgg8 student=vgg8x0.5`). A copy of the teacher is pruned
    from the pictures on. The weight of each layer in turn, and nothing else, learns to answer as the teacher's layer does, to
    the maps that the teacher has there (`correction`) and to those that the copy has, whose earlier layers are pruned already
    (`imitation`). Over the first third of its iterations it loses its weakest input channels, a few at a time; then the others
    learn at a tenth of the rate. What makes channels that nobody sees is left out, which changes no answer, and the student
    that is left learns the labels of the few pictures. The network before that is evaluated too, as `layerwise`.

    The first layer is not touched, nor are 1x1 convolutions and the classifier unless their inputs become fewer. Channels of a
    sum are chosen by the first layer that sees them, and by that for all; the authors prune no such channels in their residual
    networks. All normalisations stay in evaluation mode while layers learn, as the authors' do in residual networks. The
    teacher and the student alone see all labels; this method sees `shots` a class. On the digits 50 pictures make of cnn
    (98.7 ± 0.6 %) a cnn_narrow of 92.7 ± 2.0 %, before the labels of 91.6 ± 2.5 %; fskd's least squares by the same number
    leave 83.3 ± 5.7 % (three seeds).

    Args:
        shots: pictures of each class, seen all at once and without augmentation.
        share: of the correction in the loss of a layer; null for neither, but the plain distance of the copy's map from the
            teacher's.
        iterations: updates of each layer.
        layer_lr: of their Adam.
        tuning_epochs: of the student by labels at the end; 0 for none.
        tuning_lr: of the recipe's optimizer then, at its height.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures", "one row a sample", "sample labels")
    knowledge = ("feature",)
    structural = True
    plain_logits = "compares maps, and no logits"
    source = "Bai, Wu, King, Lyu: Few shot network compression via cross distillation. AAAI 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 6.6", "Gou section 8.4")
    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which learns from all labels: on the digits cnn_narrow made from "
                   "cnn ended at 92.7 ± 2.0 %, alone at 96.9 ± 1.0 % (three seeds)"}

    whole: nn.Module
    kept: Tensor

    def __init__(self, *, shots: AtLeastOne, share: Proportion | None, iterations: AtLeastOne, layer_lr: Positive,
                 tuning_epochs: Count, tuning_lr: Positive) -> None:
        super().__init__()
        self.shots, self.share, self.iterations, self.layer_lr = shots, share, iterations, layer_lr
        self.tuning_epochs, self.tuning_lr = tuning_epochs, tuning_lr
        self.layerwise: list[Frozen] = []  # not a ModuleList: it is in no checkpoint

    def phases(self, run: Run) -> Iterator[Phase]:
        """Layer by layer; then the labels.

        Raises:
            ValueError: there are fewer training samples, or see `narrower`.
        """
        networks, data, count = run.networks, run.data, self.shots * len(run.data.classes)
        check_inputs(networks)
        pairs = narrower(networks)
        if count > len(data.train):
            raise ValueError(f"method.shots is {self.shots}, which is {count} training samples of {len(data.classes)} classes, "
                             f"and there are only {len(data.train)}")
        few = data.train.limit(count, run.seed, len(data.classes))
        stream = MemoryStream(few, data.task, data.normalise, batch_size=count, crop=0, flip=False, seed=run.seed,
                              device=run.device)
        self.turns = 1 if run.rehearsal else self.iterations
        self.whole = copy.deepcopy(networks.teacher.network).requires_grad_(False)
        chosen: dict[Channels, Tensor] = {}
        layers = self.layers(pairs, torch.zeros(2, *data.shape, device=run.device))
        for number, (name, one, other) in enumerate(layers, start=1):
            self.place, self.target = name, other.count
            self.register_buffer("kept", chosen.get(one, torch.ones(one.count, dtype=torch.bool)).to(run.device))
            self.weight.requires_grad_(True)
            yield Phase(f"layer {number}", data=stream, epochs=1, evaluate=False)
            self.weight.requires_grad_(False)
            chosen[one] = self.kept
        rows = {other: chosen[one].nonzero()[:, 0] for one, other in pairs if other.count < one.count}
        names = [name for _, one in pairs for name in (*one.outputs, *one.norms)]
        take_channels(networks.student.network, self.whole, rows, {name: name for name in names})
        self.layerwise = [frozen(networks.student, "layerwise")]
        if self.tuning_epochs:
            yield Phase("tuning", loss=self.tune, train=[networks.student], data=stream,
                        epochs=1 if run.rehearsal else self.tuning_epochs)

    def layers(self, pairs: Sequence[tuple[Channels, Channels]], pictures: Tensor) -> list[tuple[str, Channels, Channels]]:
        """The layers that learn in the order in which they are asked, each with its input channels and the student's."""
        found = {}
        for one, other in pairs[1:]:  # behind those that see the pictures
            for name in one.inputs:
                layer = self.whole.get_submodule(name)
                if other.count < one.count or (isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)):
                    found[name] = one, other
        return [(name, *found[name]) for name in asked_in_turn(self.whole, list(found), pictures)]

    @property
    def weight(self) -> nn.Parameter:
        """Of the layer that learns."""
        return self.whole.get_submodule(self.place).weight  # type: ignore[return-value]

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The present layer of the copy."""
        return {"layer": [self.whole.get_submodule(self.place)]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for a layer, whose rate is its own affair; for the labels the recipe's at another height."""
        if player == "student":
            return replace(recipe, lr=self.tuning_lr).build(weights)
        self.adam = torch.optim.Adam([{"params": list(weights), "scheduled": False}], lr=self.layer_lr)
        return self.adam

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """All iterations of a layer."""
        layer, given = self.whole.get_submodule(self.place), networks.teacher.network.get_submodule(self.place)
        seen = [layer_input(network, self.place, batch.pictures) for network in (networks.teacher.network, self.whole)]
        with torch.no_grad():
            wanted = given(seen[0]), given(seen[1])
        for turn in range(self.turns):
            own = layer(seen[1])
            yield "layer", {"map": F.mse_loss(own, wanted[0])} if self.share is None else {
                "cross": cross_distillation(wanted, (layer(seen[0]), own), self.share)}
            with torch.no_grad():
                if (count := left(turn, self.turns, len(self.kept), self.target)) < int(self.kept.sum()):
                    self.kept.copy_(strongest_inputs(self.weight, count))
                self.weight.mul_(self.kept.view(1, -1, *[1] * (self.weight.ndim - 2)))
            if turn > self.turns / 3:
                for group in self.adam.param_groups:
                    group["height"] = self.layer_lr / 10

    def tune(self, networks: Networks, batch: Batch) -> Terms:
        """The labels of the few pictures."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student; and as it was before it learned labels."""
        return {"student": networks.student, **{role.name: role for role in self.layerwise}}
