"""Net2Net: a larger network that begins as a trained smaller one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdrun.config.constraints import NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.structure.made import check_inputs, share_of
from kdrun.models.channels import Channels, channels_of, layer_output, take_channels
from kdrun.models.resnet import BasicBlock, BottleneckBlock
from kdrun.models.roles import Networks
from kdrun.models.staged import Chain, StagedNet
from kdrun.models.wrn import PreactBlock

LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
LARGER = "teacher=resnet8 student=resnet8x2, or student=resnet14 or wrn_40_2 with a teacher of their widths, would do"


def units(part: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """What a stage is a sequence of, by name: blocks, convolutions with their normalisation, normalisations."""
    if isinstance(part, nn.Sequential | Chain) and not (isinstance(part, nn.Sequential) and isinstance(part[0], nn.Conv2d)):
        inner = part.blocks.named_children() if isinstance(part, Chain) else part.named_children()
        above = f"{name}.blocks" if isinstance(part, Chain) else name
        return [found for key, child in inner for found in units(child, f"{above}.{key}")]
    return [(name, part)] if any(True for _ in part.parameters()) else []


def aligned(teacher: StagedNet, student: StagedNet) -> tuple[dict[str, str], list[tuple[str, nn.Module]]]:
    """What each layer of the student is called in the teacher, and the units that the teacher has not.

    Raises:
        ValueError: the teacher has what the student has not.
    """
    if len(teacher.stages) != len(student.stages):
        raise ValueError(f"the teacher has {len(teacher.stages)} stages, the student {len(student.stages)}; {LARGER}")
    pairs: list[tuple[str, nn.Module, str, nn.Module]] = [("stem", teacher.stem, "stem", student.stem),
                                                          ("head", teacher.head, "head", student.head)]
    added: list[tuple[str, nn.Module]] = []
    for number, (small, large) in enumerate(zip(teacher.stages, student.stages, strict=True)):
        left = units(large, f"stages.{number}")
        for name, unit in units(small, f"stages.{number}"):
            same = next((one for one in left if type(one[1]) is type(unit)), None)
            if same is None:
                raise ValueError(f"the student has nothing for {name} of the teacher; {LARGER}")
            left.remove(same)
            pairs.append((name, unit, *same))
        added += left
    names: dict[str, str] = {}
    for before, small, after, large in pairs:
        own, theirs = ({f".{key}" if key else "" for key, layer in part.named_modules() if isinstance(layer, LAYERS)}
                       for part in (large, small))
        if own != theirs:
            raise ValueError(f"{after} of the student is of other layers than {before} of the teacher (is its shortcut a "
                             f"convolution in one of them?); {LARGER}")
        names |= {after + key: before + key for key in own}
    return names, added


class Net2Net(Method):
    """Begin a larger student as the very function of a trained smaller teacher, and train on (Chen et al. 2016).

    What is carried over are weights, and no loss of its own. The student is of the teacher's family, wider, deeper or both
    (`teacher=resnet8 student=resnet8x2`). Wider: the channels of each layer are the teacher's and copies of randomly drawn
    ones, and what sees them divides its weights by their number; channels that a shortcut adds up are copied alike. Deeper: a
    further residual block adds nothing at first, a further convolution is the identity, whose normalisation is set by what it
    sees of training samples. So the student answers as the teacher does, but for `noise`, without which copies would stay
    equal for ever; then it learns the labels. The claim is speed, not the end: it has a share of the baseline's epochs. On
    the digits resnet8x2 grown from resnet8 (98.7 ± 0.4 %) has 98.8 ± 0.2 % after 10 epochs, and from new weights 98.7 ± 0.4 %
    after 40 (three seeds).

    Args:
        noise: spread of what is added to the weights of copies, as a share of their layer's own.
        lr_share: of the recipe's learning rate.
        epochs_share: of the recipe's epochs.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    needs = ("pictures",)
    plain_logits = "has no loss of its own"
    structural = True
    source = "Chen, Goodfellow, Shlens: Net2Net: accelerating learning via knowledge transfer. ICLR 2016"
    survey_scheme = "offline"
    survey_tables = ("Gou section 9.2",)

    def __init__(self, *, noise: NonNegative, lr_share: Positive, epochs_share: Positive) -> None:
        super().__init__()
        self.noise, self.lr_share, self.epochs_share = noise, lr_share, epochs_share

    def phases(self, run: Run) -> Iterator[Phase]:
        """Make the student the teacher's function, then train it.

        Raises:
            ValueError: the student is not the teacher with more channels or blocks.
        """
        check_inputs(run.networks)
        few = run.data.train.limit(min(256, len(run.data.train)), run.seed, len(run.data.classes))
        pictures = run.data.whole(few, run.device)
        self.grow(run.networks, pictures)
        networks = run.networks
        networks.student.eval()
        with torch.no_grad():
            apart = (networks.student(pictures).logits - networks.teacher(pictures).logits).abs().max()
        networks.student.forget()
        networks.teacher.forget()
        self.apart = float(apart)
        yield Phase(epochs=share_of(run, self.epochs_share))

    def grow(self, networks: Networks, pictures: Tensor) -> None:
        """Give the student weights by which it answers as the teacher does.

        Args:
            networks: both.
            pictures: [N, C, H, W], by which normalisations of further layers are set.

        Raises:
            ValueError: the student is not the teacher with more channels or blocks.
        """
        teacher, student = networks.teacher.network, networks.student.network
        small, large = channels_of(teacher), channels_of(student)
        assert isinstance(teacher, StagedNet)
        assert isinstance(student, StagedNet)
        names, added = aligned(teacher, student)
        chosen = self.copied(small, large, names, {name for name, _ in added})
        take_channels(student, teacher, chosen, names, copies=True)
        if self.noise:
            self.unequal(student, small, chosen, names)
        for name, unit in added:
            neutral(student, name, unit, pictures)

    def copied(self, small: Sequence[Channels], large: Sequence[Channels], names: Mapping[str, str], added: set[str]
               ) -> dict[Channels, Tensor]:
        """Which of the teacher's channels each of the student's is.

        Raises:
            ValueError: the student has fewer.
        """
        made = {name: one for one in small for name in one.outputs}
        drawn: dict[tuple[int, int], Tensor] = {}  # what is as wide is copied alike
        chosen: dict[Channels, Tensor] = {}
        source: dict[Channels, Channels] = {}
        for one in large[1:-1]:
            theirs = next((made[names[name]] for name in one.outputs if name in names), None)
            before = next((other for other in large if any(name in other.inputs for name in one.outputs)), None)
            if theirs is None and before in source and one.outputs[0].rpartition(".")[0] in added:
                theirs = source[before]  # of a convolution that is the identity
            if theirs is None:
                continue  # within a further block, which draws its own
            if one.count < theirs.count:
                raise ValueError(f"the student has {one.count} channels in {one.outputs[0]}, the teacher {theirs.count}; "
                                 f"{LARGER}")
            key = (small.index(theirs), one.count)
            if key not in drawn:
                further = torch.randint(theirs.count, (one.count - theirs.count,), generator=self.random)
                drawn[key] = torch.cat([torch.arange(theirs.count), further])
            chosen[one], source[one] = drawn[key], theirs
        return chosen

    def unequal(self, student: nn.Module, small: Sequence[Channels], chosen: Mapping[Channels, Tensor],
                names: Mapping[str, str]) -> None:
        """Add noise to the weights of copies."""
        counts = {name: one.count for one in small for name in one.outputs}
        with torch.no_grad():
            for one in chosen:
                for name in (name for name in one.outputs if name in names):
                    weight = student.get_submodule(name).weight
                    assert isinstance(weight, Tensor)
                    copies = weight[counts[names[name]]:]
                    draws = torch.randn(copies.shape, generator=self.random).to(copies)
                    copies += self.noise * weight.std() * draws

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The recipe's, at a lower rate."""
        return replace(recipe, lr=self.lr_share * recipe.lr).build(weights)

    def loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels."""
        return {"ce": self.label_loss(networks.student(batch), batch)}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """How far the student was from the teacher before it was trained: 0 to rounding, but for the noise."""
        return {"growth": [{"noise": self.noise, "largest_difference_of_logits": self.apart}]}


def neutral(student: nn.Module, name: str, unit: nn.Module, pictures: Tensor) -> None:
    """Let a further unit of the student change nothing.

    Raises:
        ValueError: it is not of a kind that can.
    """
    with torch.no_grad():
        if isinstance(unit, BasicBlock | BottleneckBlock):
            last = (unit.third if isinstance(unit, BottleneckBlock) else unit.second)[1]
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        elif isinstance(unit, PreactBlock) and isinstance(last := unit.convolutions[-1], nn.Conv2d):
            nn.init.zeros_(last.weight)
        elif isinstance(unit, nn.Sequential) and isinstance(conv := unit[0], nn.Conv2d) and isinstance(
                norm := unit[1], nn.BatchNorm2d) and conv.in_channels == conv.out_channels and conv.stride == (1, 1):
            nn.init.dirac_(conv.weight)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            seen = layer_output(student.eval(), f"{name}.0", pictures)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(seen.mean(dim=(0, 2, 3)))
            norm.running_var.copy_(seen.var(dim=(0, 2, 3), unbiased=False))
            norm.weight.copy_((norm.running_var + norm.eps).sqrt())
            norm.bias.copy_(norm.running_mean)
        else:
            raise ValueError(f"{name} of the student is one more than the teacher has, and cannot start as the identity; "
                             f"{LARGER}")
