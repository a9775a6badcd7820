"""Several ways to look at one picture: what a teacher sees and what its student sees, where they do not see the same."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.sequential_modalities import SEQUENTIAL, SequentialName

__all__ = ["MODALITIES", "ModalityName", "misfit", "see"]

ModalityName = Literal["picture", "luminance", "lightness", "chroma", "edges", "half_resolution", "quarter_resolution",
                       "left", "right", "inverted", "turned", "projections", SequentialName]


def scaled(images: Tensor) -> Tensor:
    """Stored pictures as float32 from 0 to 1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def luminance(images: Tensor) -> Tensor:
    """The luma of RGB pictures [B, H, W, 3] as [B, H, W, 1] (ITU-R BT.601)."""
    return scaled(images) @ images.new_tensor([0.299, 0.587, 0.114], dtype=torch.float32)[:, None]


def lab(images: Tensor) -> Tensor:
    """CIE L*a*b* of sRGB pictures [B, H, W, 3] under D65: L from 0 to 100, a and b around 0."""
    colours = scaled(images)
    linear = torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    # IEC 61966-2-1; each row is divided by its sum, the white point, so that white is (1, 1, 1)
    to_xyz = linear.new_tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(dim=1, keepdim=True)).T
    root = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-9) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root.unbind(dim=-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def lightness(images: Tensor) -> Tensor:
    """L* of RGB pictures, from 0 to 1, [B, H, W, 1]."""
    return lab(images)[..., :1] / 100


def chroma(images: Tensor) -> Tensor:
    """a* and b* of RGB pictures, [B, H, W, 2]: colour without light."""
    return lab(images)[..., 1:] / 100


def edges(images: Tensor) -> Tensor:
    """The magnitude of Sobel's gradient, [B, H, W, 1]; of the luma where there are colours."""
    grey = luminance(images) if images.shape[-1] == 3 else scaled(images).mean(dim=-1, keepdim=True)
    across = grey.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernels = torch.stack([across, across.T])[:, None]
    slopes = F.conv2d(F.pad(grey.permute(0, 3, 1, 2), (1, 1, 1, 1), mode="replicate"), kernels)
    return slopes.square().sum(dim=1, keepdim=True).sqrt().permute(0, 2, 3, 1)


def coarse(factor: int) -> Callable[[Tensor], Tensor]:
    """Samples whose detail is gone: averaged over squares of `factor` pixels, of the same size as before."""

    def look(images: Tensor) -> Tensor:
        pictures = scaled(images).permute(0, 3, 1, 2)
        height, width = pictures.shape[-2:]
        small = F.adaptive_avg_pool2d(pictures, (max(height // factor, 1), max(width // factor, 1)))
        return F.interpolate(small, size=(height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)

    return look


def projections(images: Tensor) -> Tensor:
    """The means of all columns and of all rows, each repeated along what it is the mean of, [B, H, W, 2].

    Two orthogonal projections, as a horizontal and a vertical array of antennas would see; a mean is a sum from 0 to 1.
    """
    grey = scaled(images).mean(dim=-1)
    return torch.stack([grey.mean(dim=1, keepdim=True).expand_as(grey), grey.mean(dim=2, keepdim=True).expand_as(grey)], dim=-1)


def turned(images: Tensor) -> Tensor:
    """Pictures turned by 15 degrees about their middle, against the clock, of the same size; what comes in is 0."""
    pictures, angle = scaled(images).permute(0, 3, 1, 2), math.radians(15)
    height, width = pictures.shape[-2:]
    # affine_grid's coordinates run from -1 to 1 on both sides, whatever the pixels
    matrix = pictures.new_tensor([[math.cos(angle), -math.sin(angle) * height / width, 0],
                                  [math.sin(angle) * width / height, math.cos(angle), 0]])
    grid = F.affine_grid(matrix.expand(len(pictures), 2, 3), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False).permute(0, 2, 3, 1)


MODALITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "picture": lambda images: images,
    "luminance": luminance,
    "lightness": lightness,
    "chroma": chroma,
    "edges": edges,
    "half_resolution": coarse(2),
    "quarter_resolution": coarse(4),
    "left": lambda images: images[:, :, : images.shape[2] // 2],
    "right": lambda images: images[:, :, -(images.shape[2] // 2):],
    "inverted": lambda images: 1 - scaled(images),
    "turned": turned,
    "projections": projections,
}
"""From stored pictures [B, H, W, C], uint8 or from 0 to 1, to what is seen of them, [B, H', W', C'], likewise."""

assert set(MODALITIES) | set(SEQUENTIAL) == set(get_args(ModalityName))


def see(images: Tensor, modality: str | None) -> Tensor:
    """Stored pictures [B, H, W, C] in a modality that is one of pictures; None is the pictures as they are."""
    return images if modality is None else MODALITIES[modality](images).contiguous()


def misfit(modality: str | None, images: Tensor) -> str | None:
    """Say why pictures [B, H, W, C] have no such modality; None where they have it."""
    height, width, channels = images.shape[1:]
    if modality in ("luminance", "lightness", "chroma") and channels != 3:
        return f"{modality} is of pictures with 3 channels, and these have {channels}; choose edges, half_resolution or left"
    if modality in ("left", "right") and width < 2:
        return f"pictures of {width}x{height} have no {modality} half"
    return None
