"""Deep net triage: what a network loses where a block of it becomes one layer."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Positive
from kdrun.data.batch import Batch
from kdrun.evaluation.metrics import size
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.methods.structure.made import as_student, check_inputs, share_of
from kdrun.models.edited import replaced
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks, Role
from kdrun.models.staged import StagedNet, initialise
from kdrun.utils.seeding import seeded

Variant = Literal["none", "local", "global", "kd"]
Start = Literal["random", "mean", "least_squares"]


class Treated(NamedTuple):
    """A network one block of which is a single layer.

    Attributes:
        block: which, counted from 1.
        variant: how it was trained.
        role: the network.
    """

    block: int
    variant: Variant
    role: Role

    @property
    def name(self) -> str:
        """As results call it."""
        return f"block {self.block} {self.variant}"


def single_layer(kernel: int, seen: torch.Size, made: torch.Size) -> nn.Sequential:
    """A convolution and its normalisation from maps of one shape [C, H, W] to another.

    Raises:
        ValueError: no stride leads from one size to the other.
    """
    down, along = (max(1, round(before / after)) for before, after in zip(seen[1:], made[1:], strict=True))
    stride = (down, along)
    layer = nn.Conv2d(seen[0], made[0], kernel, stride, kernel // 2, bias=False)
    sizes = [(side + 2 * (kernel // 2) - kernel) // step + 1 for side, step in zip(seen[1:], stride, strict=True)]
    if sizes != list(made[1:]):
        raise ValueError(f"no convolution of {kernel}x{kernel} leads from maps of {seen[1]}x{seen[2]} to {made[1]}x{made[2]}; "
                         "give another method.kernel, an odd one")
    return nn.Sequential(layer, nn.BatchNorm2d(made[0]))


def fit(layer: nn.Sequential, seen: Tensor, made: Tensor | None = None) -> None:
    """Set the statistics of a layer's normalisation by what it sees; and, where wanted maps are given, all of it by least
    squares, so that in evaluation mode it comes as near to them as one linear convolution can.

    Args:
        layer: a convolution without bias and a normalisation.
        seen: what comes in, [N, C, H, W].
        made: what should come out, before its activation.
    """
    conv, norm = layer
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    bias: Tensor | float = 0.0
    with torch.no_grad():
        if made is not None:
            gram = cross = torch.zeros((), dtype=torch.float64, device=seen.device)
            for part, wanted in zip(seen.split(64), made.split(64), strict=True):  # all patches at once take much memory
                patches = F.unfold(part, conv.kernel_size, padding=conv.kernel_size[0] // 2, stride=conv.stride).double()
                patches = F.pad(patches, (0, 0, 0, 1), value=1.0).transpose(0, 1).flatten(1)
                gram = gram + patches @ patches.T
                cross = cross + patches @ wanted.double().flatten(2).permute(0, 2, 1).flatten(0, 1)
            found = torch.linalg.lstsq(gram.cpu(), cross.cpu(), driver="gelsd").solution.to(seen.device)
            conv.weight.copy_(found[:-1].T.view_as(conv.weight))
            bias = found[-1].to(conv.weight)
        answered = torch.cat([conv(part) for part in seen.split(64)])
        norm.running_mean.copy_(answered.mean(dim=(0, 2, 3)))
        norm.running_var.copy_(answered.var(dim=(0, 2, 3), unbiased=False))
        if made is not None:
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(norm.running_mean + bias)


class Triage(Method):
    """Replace each block of the teacher by one layer, and measure what that costs the whole (Nowak and Corso 2018).

    A block is a stage; in its place comes a convolution with its normalisation. Each block is treated in several ways: not at
    all (`none`: the damage), the new layer alone by the teacher's map (`local`), the whole network by the labels (`global`),
    or by labels and the teacher's softened answer (`kd`). `triage.csv` says how critical each block is: what the network
    loses against its teacher. The student is the network that is best in validation, the smaller of equals.

    An approximation: only the abstract was at hand. Which layers are a block, how the new layer starts, all numbers and the
    choice of the product are ours.

    On the digits, of resnet8 (98.7 ± 0.4 %) with one block as a convolution that least squares found, untrained: 96.6, 98.2 and
    98.5 % for blocks 1 to 3; that layer trained alone at the recipe's rate gives 96.0, 98.0 and 98.4 %, all layers by labels
    98.4, 98.6 and 98.4 %, with softened answers 98.4, 98.8 and 98.7 %. The student has 98.5 ± 0.1 % (means of three seeds).

    `student=` names the network that is trained alone beside it; the rows of the student are those of the network that is made.

    Args:
        variants: the ways.
        start: of the new layer: `random`; the `mean` of the block's kernels that have its shape; or by `least_squares` from
            what comes into the block to what goes out.
        kernel: side of the new layer's kernel, odd.
        samples: how many training samples the start is found by, at most.
        local_share: of the recipe's epochs, for `local`.
        global_share: of the recipe's epochs, for `global` and `kd`.
        temperature: of the softened answers.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("maps", "pictures")
    knowledge = ("feature", "response")
    plain_logits = "makes the student that it trains out of the teacher"
    source = "Nowak, Corso: Deep net triage: analyzing the importance of network layers via structural compression. " \
             "arXiv 1801.04651, 2018"
    survey_scheme = "offline"
    survey_tables = ("Gou section 5",)

    def __init__(self, *, variants: list[Variant], start: Start, kernel: AtLeastOne, samples: AtLeastOne,
                 local_share: Positive, global_share: Positive, temperature: Positive) -> None:
        super().__init__()
        if not variants or len(set(variants)) < len(variants):
            raise ValueError("variants: wanted at least one, and each once")
        self.variants, self.start, self.kernel, self.samples = variants, start, kernel, samples
        self.local_share, self.global_share, self.temperature = local_share, global_share, temperature
        self.made: list[Treated] = []  # not a ModuleList: what is trained no more is in no checkpoint
        self.finished = False

    def phases(self, run: Run) -> Iterator[Phase]:
        """Block by block, one way after the other; then the choice.

        Raises:
            ValueError: the teacher does not tell its stages apart, no single layer fits, or there is no validation split.
        """
        check_inputs(run.networks)
        teacher = run.networks.teacher
        if not isinstance(teacher.network, StagedNet):
            raise ValueError(f"{type(teacher.network).__name__} does not tell its stages apart, so no block of it can be "
                             "replaced; take a teacher that does (kdrun list networks)")
        few = run.data.train.limit(min(8 if run.rehearsal else self.samples, len(run.data.train)), run.seed,
                                   len(run.data.classes))
        with torch.no_grad():
            answer = teacher(run.data.whole(few, run.device))
        teacher.forget()
        for block in range(1, len(answer.stages) + 1):
            seen = answer.stages[block - 2] if block > 1 else answer.stem
            assert seen is not None
            with seeded("weights", "block", block, run.seed):
                layer = self.begun(teacher.network.stages[block - 1], seen, answer.preacts[block - 1])
            network = replaced(teacher.network, {f"stages.{block - 1}": layer})
            for variant in self.variants:
                role = as_student(run, copy.deepcopy(network), f"{teacher.model} block {block} as one layer")
                if variant == "local":
                    yield Phase(f"block {block} local", loss=partial(self.local, stage=block - 1),
                                train=role.until(block)[-1:], epochs=share_of(run, self.local_share))
                elif variant != "none":
                    yield Phase(f"block {block} {variant}", loss=partial(self.whole, soft=variant == "kd"), train=[role],
                                epochs=share_of(run, self.global_share))
                role.forget()
                self.made.append(Treated(block, variant, role))
        best = max(self.made, key=lambda one: (run.validated(one.role), -sum(own.numel() for own in one.role.parameters())))
        run.networks.student, self.finished = best.role, True

    def begun(self, block: nn.Module, seen: Tensor, made: Tensor) -> nn.Sequential:
        """The layer that takes a block's place, as its training begins.

        Raises:
            ValueError: none fits, or the block has no kernel of its shape.
        """
        layer = single_layer(self.kernel, seen.shape[1:], made.shape[1:])
        conv = layer[0]
        assert isinstance(conv, nn.Conv2d)
        initialise(layer)
        if self.start == "mean":
            alike = [part.weight.detach() for part in block.modules()
                     if isinstance(part, nn.Conv2d) and part.weight.shape == conv.weight.shape]
            if not alike:
                raise ValueError(f"method.start=mean: a block has no kernel of the shape {list(conv.weight.shape)}; give "
                                 "least_squares or random")
            with torch.no_grad():
                conv.weight.copy_(torch.stack(alike).mean(dim=0))
        layer = layer.to(seen.device)
        fit(layer, seen, made if self.start == "least_squares" else None)
        return layer

    def local(self, networks: Networks, batch: Batch, stage: int) -> Terms:
        """The map of one stage, counted from 0."""
        return {"map": F.mse_loss(networks.student(batch).stages[stage], networks.teacher(batch).stages[stage].detach())}

    def whole(self, networks: Networks, batch: Batch, soft: bool) -> Terms:
        """The labels, and the teacher's softened answer where it counts."""
        student = networks.student(batch)
        terms = {"ce": self.label_loss(student, batch)}
        return {**terms, "kd": kd(networks.teacher(batch).logits, student.logits, self.temperature)} if soft else terms

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The chosen one; and, at the end, all others."""
        others = {one.name: one.role for one in self.made if one.role is not networks.student} if self.finished else {}
        return {"student": networks.student, **others}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """What each block is worth, by each way: on the test set, and what is saved."""
        def told(role: Role) -> tuple[float, int]:
            score = run.data.task.measures(answers(role, run.data, run.data.test, run.device), run.data.test)
            own = size(role.network)
            return score[run.data.task.headline] or 0.0, own.parameters if own else 0

        score, whole = told(run.networks.teacher)
        rows = []
        for one in self.made:
            own, parameters = told(one.role)
            rows.append({"block": one.block, "variant": one.variant, "student": one.role is run.networks.student,
                         run.data.task.headline: own, "criticality": score - own, "parameters": parameters,
                         "parameters_saved": whole - parameters})
        return {"triage": rows}
