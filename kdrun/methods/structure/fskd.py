"""Few-sample knowledge distillation."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne
from kdrun.data.batch import Batch
from kdrun.data.stream import MemoryStream
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.structure.made import asked_in_turn, check_inputs, narrower
from kdrun.models.channels import layer_output, strongest, take_channels
from kdrun.models.roles import Networks, Role, frozen


def recovery(gram: Tensor, cross: Tensor) -> Tensor:
    """The matrix Q [C, C] of a 1x1 convolution that brings rows X [N, C] nearest to rows Y [N, C].

    It minimises the squared distance of X Q' from Y; of all that do, it is the one nearest to the identity, so that what the
    rows do not tell stays as it is.

    Args:
        gram: X'X, in float64.
        cross: X'Y.
    """
    change = torch.linalg.lstsq(gram.cpu(), (cross - gram).cpu(), driver="gelsd").solution
    return (torch.eye(len(gram), dtype=gram.dtype) + change).T.to(gram.device)


def absorb(matrix: Tensor, convolution: nn.Conv2d, normalisation: nn.BatchNorm2d | None) -> None:
    """Put a 1x1 convolution that follows a convolution, and its normalisation in evaluation mode, into these two.

    Where there is a normalisation, it keeps nothing but the bias.
    """
    with torch.no_grad():
        weight = convolution.weight.double()
        if normalisation is None:
            convolution.weight.copy_(torch.einsum("pc,cikl->pikl", matrix, weight))
            if convolution.bias is not None:
                convolution.bias.copy_(matrix @ convolution.bias.double())
            return
        norm = normalisation
        assert norm.running_mean is not None
        assert norm.running_var is not None
        slope = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - slope * norm.running_mean.double()
        if convolution.bias is not None:
            shift = shift + slope * convolution.bias.double()
            convolution.bias.zero_()
        convolution.weight.copy_(torch.einsum("pc,cikl->pikl", matrix * slope, weight))
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1.0)
        norm.bias.copy_(matrix @ shift)


def behind(network: nn.Module, name: str) -> str | None:
    """The normalisation that follows a convolution; None where none does."""
    above, _, own = name.rpartition(".")
    holder = network.get_submodule(above)
    follows = f"{above}.{int(own) + 1}" if isinstance(holder, nn.Sequential) and int(own) + 1 < len(holder) else None
    return follows if follows and isinstance(network.get_submodule(follows), nn.BatchNorm2d) else None


class FSKD(Method):
    """Prune the teacher, and repair each layer by a 1x1 convolution that few unlabelled samples determine (Li et al. 2020).

    The student is of the teacher's form with fewer channels (`teacher=vgg8 student=vgg8x0.5`): it starts as the teacher
    without the filters of the smallest sums of absolute weights. Then, layer by layer from the pictures on, the 1x1
    convolution is found by least squares that brings the map of the student, whose earlier layers are repaired already,
    nearest to the channels of the teacher's that were kept; it is absorbed into the layer before it. No label is seen and
    nothing is trained by gradients; the student has the size that it has. A sum of a shortcut is pruned by all that add to it.
    The pruned network before any repair is evaluated too. On the digits, half of all filters of cnn (98.7 ± 0.6 %) leave 16.8 ±
    10.2 %, and 85.4 ± 5.1 % repaired by 500 samples, 83.3 ± 5.7 % by 50 (three seeds).

    The authors' code absorbs into the weights alone, which is right without batch normalisation; here that goes in too, and
    stays as a bias.

    Args:
        samples: how many training samples are seen, of all classes alike, without augmentation.
        start: `pruned`, or the student's `own` first weights, which nothing but the 1x1 convolutions then learns.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures",)
    knowledge = ("feature",)
    structural = True
    plain_logits = "compares maps, and no logits"
    source = "Li, Li, Liu, Zhang: Few sample knowledge distillation for efficient network compression. CVPR 2020"
    survey_scheme = "offline"
    survey_tables = ("Gou section 4.1", "Gou section 5", "Gou section 6.6")

    cautions: ClassVar = {
        "offline": "it was measured below the student alone, which learns from all labels: on the digits cnn_narrow made from "
                   "cnn ended at 85.4 ± 5.1 %, alone at 96.9 ± 1.0 % (three seeds)"}

    gram: Tensor
    cross: Tensor
    squares: Tensor

    def __init__(self, *, samples: AtLeastOne, start: Literal["pruned", "own"]) -> None:
        super().__init__()
        self.samples, self.start = samples, start
        self.repaired: list[dict[str, object]] = []
        self.unrepaired: list[Role] = []  # not a ModuleList: it is in no checkpoint

    def pruned(self, networks: Networks) -> dict[str, Tensor]:
        """Let the student be the pruned teacher: the channels that were kept, by the convolution that makes them.

        Raises:
            ValueError: the student is of another form, or has more channels.
        """
        teacher, student, pairs = networks.teacher.network, networks.student.network, narrower(networks)
        chosen = {other: strongest(teacher, one, other.count) for one, other in pairs[1:-1]}
        if self.start == "pruned":
            layers = [name for _, one in pairs for name in (*one.outputs, *one.norms)]
            take_channels(student, teacher, chosen, {name: name for name in layers})
        return {name: rows for one, rows in chosen.items() for name in one.outputs}

    def phases(self, run: Run) -> Iterator[Phase]:
        """Layer by layer; code after a phase absorbs what it found.

        Raises:
            ValueError: there are fewer training samples, or see `pruned`.
        """
        networks, data = run.networks, run.data
        check_inputs(networks)
        if self.samples > len(data.train):
            raise ValueError(f"method.samples is {self.samples}, but there are only {len(data.train)} training samples")
        kept = self.pruned(networks)
        self.unrepaired = [frozen(networks.student, "pruned")]
        student = networks.student.network
        few = data.train.limit(self.samples, run.seed, len(data.classes))
        stream = MemoryStream(few, data.task, data.normalise, batch_size=len(few), crop=0, flip=False, seed=run.seed,
                              device=run.device)
        order = [name for name, layer in student.named_modules() if name in kept]
        for number, name in enumerate(asked_in_turn(student, order, torch.zeros(2, *data.shape, device=run.device)), start=1):
            normalisation = behind(student, name)
            self.place, self.rows = normalisation or name, kept[name]
            size = len(self.rows)
            for key, shape in (("gram", (size, size)), ("cross", (size, size)), ("squares", ())):
                self.register_buffer(key, torch.zeros(shape, dtype=torch.float64, device=run.device))
            yield Phase(f"layer {number}", data=stream, epochs=1, evaluate=False)
            matrix = recovery(self.gram, self.cross)
            before, after = (self.distance(one) for one in (torch.eye(size).to(matrix), matrix))
            absorb(matrix, student.get_submodule(name),  # type: ignore[arg-type]
                   student.get_submodule(normalisation) if normalisation else None)  # type: ignore[arg-type]
            self.repaired.append({"layer": name, "channels": size, "squared_error_before": before, "squared_error": after})
            run.history += [(run.role, f"layer {number}", 0, "train", key, value)
                            for key, value in (("squared error before", before), ("squared error", after))]

    def distance(self, matrix: Tensor) -> float:
        """The summed squared distance of all rows from the teacher's, with this 1x1 convolution."""
        return float(self.squares - 2 * (matrix.T * self.cross).sum() + (matrix.T * (self.gram @ matrix.T)).sum())

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Nobody takes steps."""
        return {}

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Add up the products that least squares needs; there is nothing to update."""
        own, wanted = (layer_output(role.network, self.place, batch.pictures).transpose(0, 1).flatten(1).double()
                       for role in (networks.student, networks.teacher))  # [C, N]
        wanted = wanted[self.rows]
        self.gram += own @ own.T
        self.cross += own @ wanted.T
        self.squares += wanted.square().sum()
        return iter(())

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student; and as it was before any layer was repaired."""
        return {"student": networks.student, **{role.name: role for role in self.unrepaired}}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """What each layer's 1x1 convolution brought."""
        return {"layers": self.repaired}
