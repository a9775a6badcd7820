"""Quantization-aware knowledge distillation."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import Bounds, Fraction, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.output import ModelOutput
from kdrun.models.quantization import Bits, Learned, LearnedInput, QuantizedWeights, with_learned_inputs
from kdrun.models.roles import Networks, Role, frozen


def start_both(own: nn.Module, probe: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """A hook: set the range of a network, and of its copy that is asked, by what comes in."""
    for part in (own, probe):
        assert isinstance(part, LearnedInput)
        part.start(inputs[0])


class QKD(Method):
    """Train a student of few bits alone, then together with its teacher, then by that teacher (Kim et al. 2019).

    Weights and what comes into layers are quantised by ranges that learn, at a rate of their own. In the first phase, self
    studying, the student learns the labels alone. In the second, co-studying, the trained teacher learns on beside it, each
    from the labels and the other's softened answer. In the third, tutoring, the teacher is frozen as it is then. The three
    share the recipe's epochs, and each runs the recipe's schedule. The teacher as co-studying leaves it has a row of its own
    ("tutor"), while comparisons in the student's row are with the teacher before, as everywhere. On the digits resnet8 of 4
    bits has 98.4 ± 0.2 %, alone in full precision 98.6 ± 0.1 %, and its tutor 98.9 ± 0.2 % (wrn_16_2, three seeds). An
    approximation: shares, temperature and weights are as others report them.

    Args:
        bits: of a weight.
        activation_bits: of what comes into a layer; null leaves it alone.
        quantize_first_last: whether the first and the last layer are quantised too.
        self_share: of the recipe's epochs, for self studying; 0 leaves it out.
        tutor_share: likewise, for tutoring. What is left is for co-studying, which is left out where nothing is.
        temperature: softens both answers.
        ce_weight: of the cross-entropy with the labels, in the second and third phase.
        kd_weight: of the softened answers.
        tutor_lr: in co-studying, share of the recipe's learning rate at which the trained teacher goes on.
        range_lr: share of the recipe's learning rate for the ranges.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    plain_logits = ""
    source = "Kim, Bhalgat, Lee, Patel, Kwak: QKD: Quantization-aware knowledge distillation. arXiv 1911.12491, 2019"
    survey_scheme = ""
    survey_tables = ("Gou section 6.7",)

    def __init__(self, *, bits: Annotated[Bits, Bounds(least=2)], activation_bits: Bits | None, quantize_first_last: bool,
                 self_share: Fraction, tutor_share: Fraction, temperature: Positive, ce_weight: NonNegative,
                 kd_weight: NonNegative, tutor_lr: Positive, range_lr: NonNegative) -> None:
        super().__init__()
        if self_share + tutor_share > 1:
            raise ValueError(f"self_share and tutor_share are shares of the same epochs, and {self_share:g} + {tutor_share:g} "
                             "is above 1")
        self.bits, self.activation_bits, self.quantize_first_last = bits, activation_bits, quantize_first_last
        self.self_share, self.tutor_share, self.temperature = self_share, tutor_share, temperature
        self.ce_weight, self.kd_weight, self.tutor_lr, self.range_lr = ce_weight, kd_weight, tutor_lr, range_lr
        self.ranges: set[int] = set()  # ids of the parameters that are ranges
        self.tutors: list[Role] = []  # the teacher that co-studied; no module of the method, for it learns by itself

    def phases(self, run: Run) -> Iterator[Phase]:
        """The student alone, with its teacher, by its teacher.

        Raises:
            ValueError: the student has no layer to quantise.
        """
        networks = run.networks
        weights = self.quantize(run)
        alone, tutored = (round(share * run.recipe.epochs) for share in (self.self_share, self.tutor_share))
        together = run.recipe.epochs - alone - tutored
        if alone:
            yield Phase("self-studying", loss=self.alone, epochs=alone)
        if together:
            learner = Role(copy.deepcopy(networks.teacher.network), "tutor", networks.teacher.task, networks.teacher.model,
                           networks.teacher.view).runs_like(networks.teacher)
            learner.requires_grad_(True)
            networks.peers = self.tutors = [learner]
            yield Phase("co-studying", epochs=together)
            networks.peers, networks.teachers = [], [frozen(learner)]
        if tutored:
            yield Phase("tutoring", epochs=tutored)
        weights.bake()

    def quantize(self, run: Run) -> QuantizedWeights:
        """See the student's weights and inputs through ranges; those of inputs start by a training batch."""
        student = run.networks.student
        network = student.network
        if self.activation_bits is not None:
            with_learned_inputs(network, self.activation_bits, self.quantize_first_last)
            probe = copy.deepcopy(student).train()  # its statistics move, and those of the student must not
            for name, part in probe.network.named_modules():
                if isinstance(part, LearnedInput):
                    part.register_forward_pre_hook(partial(start_both, network.get_submodule(name)))
            with torch.no_grad():
                probe(next(iter(run.stream.epoch(0, 1))))
        weights = QuantizedWeights(network, ends=self.quantize_first_last,
                                   quantizers=lambda weights: Learned(weights, self.bits))
        self.ranges = {id(part.reach) for part in network.modules() if isinstance(part, Learned | LearnedInput)}
        return weights

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """The student, and the teacher while they study together."""
        return {"student": [networks.student, self], **{peer.name: [peer] for peer in networks.peers}}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """An update of the student, and of the teacher beside it."""
        student, teacher = networks.student(batch), (networks.peers or [networks.teacher])[0](batch)
        yield "student", self.taught(student, teacher, batch)
        for peer in networks.peers:
            yield peer.name, self.taught(teacher, student, batch)

    def taught(self, own: ModelOutput, other: ModelOutput, batch: Batch) -> Terms:
        """What one descends that hears the other: the labels and the other's softened answer, which gets no gradient."""
        return {"ce": self.ce_weight * self.label_loss(own, batch),
                "kd": self.kd_weight * kd(other.logits, own.logits, self.temperature)}

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's; ranges at a rate of their own and without decay, the trained teacher at a lower one."""
        optimizer = recipe.build([weight for weight in weights if id(weight) not in self.ranges])
        if player != "student":
            for group in optimizer.param_groups:
                group["lr"] *= self.tutor_lr
        elif ranges := [weight for weight in weights if id(weight) in self.ranges]:
            optimizer.add_param_group({"params": ranges, "lr": self.range_lr * recipe.lr, "weight_decay": 0.0})
        return optimizer

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and the teacher as co-studying leaves it."""
        return {"student": networks.student, **{tutor.name: tutor for tutor in self.tutors}}
