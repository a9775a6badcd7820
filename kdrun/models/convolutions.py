"""What can stand in the place of a 3x3 convolution and costs less (Crowley et al., Moonshine, NeurIPS 2018, section 3)."""

import re
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Shift", "convolution"]

FORM = re.compile(r"(?:bottleneck_(?P<bottleneck>[1-9]\d*)(?:_(?=\w)|$))?"
                  r"(?:(?P<depthwise>depthwise)|grouped_(?P<groups>[1-9]\d*)|groups_of_(?P<of>[1-9]\d*))?")
KNOWN = ("full, shift, depthwise, grouped_G, groups_of_N, bottleneck_B, or bottleneck_B with one of the three in the middle "
         "behind it, as bottleneck_2_groups_of_8; all but shift with a kernel of another side behind that, as full_k5")
SIDED = re.compile(r"(?P<form>.+)_k(?P<side>\d*[13579])")


class Kind(NamedTuple):
    """A cheap convolution.

    Attributes:
        bottleneck: by how much channels are narrowed around the 3x3 convolution; None for no bottleneck.
        groups: of that convolution; 0 for one a channel.
        of: channels of each group, instead of how many there are; None where `groups` says so.
    """

    bottleneck: int | None
    groups: int
    of: int | None

    @classmethod
    def read(cls, name: str) -> "Kind":
        """From its name.

        Raises:
            ValueError: there is no such kind.
        """
        match = FORM.fullmatch(name)
        if not name or match is None:
            raise ValueError(f"conv is {name}, wanted one of {KNOWN}")
        number = {key: int(value) for key, value in match.groupdict().items() if value and key != "depthwise"}
        return cls(number.get("bottleneck"), 0 if match["depthwise"] else number.get("groups", 1), number.get("of"))

    def groups_of(self, channels: int, name: str) -> int:
        """How many groups there are of so many channels.

        Raises:
            ValueError: they cannot be divided so.
        """
        wanted = self.of or self.groups or 1
        if channels % wanted or not channels:
            raise ValueError(f"conv={name}: its 3x3 convolution has {channels} channels, which {wanted} does not divide")
        return channels // self.of if self.of else self.groups or channels


class Shift(nn.Module):
    """Each ninth of the channels moved by a pixel in a direction of its own, what is left over stays.

    Source: Wu et al., Shift: a zero FLOP, zero parameter alternative to spatial convolutions, CVPR 2018.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, H, W] of the same shape; zeros move in."""
        share = maps.shape[1] // 9
        padded = nn.functional.pad(maps, (1, 1, 1, 1))
        height, width = maps.shape[-2:]
        moves = [(1, 1)] + [(down, right) for down in range(3) for right in range(3) if (down, right) != (1, 1)]
        sizes = [maps.shape[1] - 8 * share] + 8 * [share]
        parts = padded.split(sizes, dim=1)
        return torch.cat([part[..., down:down + height, right:right + width]
                          for part, (down, right) in zip(parts, moves, strict=True)], dim=1)


def convolution(name: str, before: int, after: int, stride: int) -> nn.Module:
    """A 3x3 convolution of a kind, without bias; ends before its normalisation. `_k5` behind the kind makes it 5x5.

    `full` is the plain one. `grouped_G` has G groups, then 1x1 across channels; `groups_of_N` groups of N channels;
    `depthwise` a group a channel; `shift` moves channels by a pixel in place of the grouped convolution.
    `bottleneck_B` narrows by 1x1 to a B-th of the channels that go out, convolves, and widens by 1x1; groups may be named
    behind it. There is a normalisation and an activation between two convolutions. The 3x3 convolution has the stride;
    behind a shift the 1x1 one.

    Args:
        name: of the kind.
        before: channels that come in.
        after: channels that go out.
        stride: of the whole.

    Raises:
        ValueError: there is no such kind, or it does not divide the channels.
    """
    form, side = name, 3
    if (sided := SIDED.fullmatch(name)) and sided["form"] != "shift":
        form, side = sided["form"], int(sided["side"])
    if form == "full":
        return nn.Conv2d(before, after, side, stride, side // 2, bias=False)
    if form == "shift":
        return nn.Sequential(Shift(), nn.Conv2d(before, after, 1, stride, bias=False))
    kind = Kind.read(form)
    inner = before if kind.bottleneck is None else after // kind.bottleneck
    groups = kind.groups_of(inner, name)
    down = [] if kind.bottleneck is None else [nn.Conv2d(before, inner, 1, bias=False), *between(inner)]
    middle = nn.Conv2d(inner, inner, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(*down, middle, *between(inner), nn.Conv2d(inner, after, 1, bias=False))


def between(channels: int) -> tuple[nn.Module, nn.Module]:
    """What stands between two convolutions."""
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
