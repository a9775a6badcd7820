"""Pictures as bad as they come: noise, blur, light and loss of detail in five severities.

The corruptions and what each severity means are those of CIFAR-10-C (Hendrycks and Dietterich, Benchmarking neural network
robustness to common corruptions and perturbations, ICLR 2019), as far as they need nothing but arithmetic. Lengths are in
pixels of a picture of 32; they grow with larger pictures. Every draw is keyed by the corruption, the severity and a seed,
so all networks are asked about the same pictures.
"""

import io
from collections.abc import Callable

import numpy
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdrun.utils.seeding import generator

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]

SEVERITIES = (1, 2, 3, 4, 5)
USUAL_SIDE = 32  # of the pictures that the severities were chosen for
CHUNK = 500      # pictures made at once, which bounds the memory


def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Stored pictures after a corruption, stored alike.

    Args:
        images: [N, H, W, C], uint8, or float32 from 0 to 1.
        name: one of `CORRUPTIONS`.
        severity: from 1 to 5.
        seed: other seeds draw other noise.

    Raises:
        ValueError: the corruption is not for pictures with so many channels.
    """
    assert severity in SEVERITIES
    whole = images.dtype == torch.uint8
    found = []
    for number, chunk in enumerate(images.split(CHUNK)):
        pixels = chunk.permute(0, 3, 1, 2).float() / (255 if whole else 1)
        draws = generator("corruption", name, severity, seed, number)
        pixels = CORRUPTIONS[name](pixels, severity - 1, draws).clamp(0, 1).permute(0, 2, 3, 1)
        found.append((255 * pixels).round().to(torch.uint8) if whole else pixels)
    return torch.cat(found).contiguous()


def growth(pixels: Tensor) -> float:
    """How much longer the lengths are than in a picture of the usual size."""
    return max(1.0, min(pixels.shape[-2:]) / USUAL_SIDE)


def gaussian_noise(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Noise of a normal distribution, as from little light."""
    return pixels + (0.04, 0.06, 0.08, 0.09, 0.10)[level] * torch.randn(pixels.shape, generator=draws)


def shot_noise(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Noise of the few photons that make up a pixel."""
    photons = (500, 250, 100, 75, 50)[level]
    return torch.poisson(pixels * photons, generator=draws) / photons


def impulse_noise(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Values lost to black or white, equally often."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    lot = torch.rand(pixels.shape, generator=draws)
    return torch.where(lot < share / 2, 0.0, torch.where(lot < share, 1.0, pixels))


def speckle_noise(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Noise in proportion to the light."""
    return pixels * (1 + (0.06, 0.10, 0.12, 0.16, 0.20)[level] * torch.randn(pixels.shape, generator=draws))


def filtered(pixels: Tensor, kernels: Tensor) -> Tensor:
    """Every channel of picture n filtered by kernel n ([N, K, K], or [1, K, K] for all); borders are continued."""
    count, channels, height, width = pixels.shape
    reach = kernels.shape[-1] // 2
    padded = F.pad(pixels, (reach,) * 4, mode="replicate").reshape(1, count * channels, *(
        side + 2 * reach for side in (height, width)))
    weights = kernels.expand(count, -1, -1).repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(padded, weights, groups=count * channels).reshape(pixels.shape)


def bell(sigma: float) -> Tensor:
    """A normalised Gaussian kernel [1, K, K] that reaches four standard deviations."""
    reach = max(1, round(4 * sigma))
    line = (-0.5 * (torch.arange(-reach, reach + 1) / sigma).square()).exp()
    square = line[:, None] * line
    return (square / square.sum())[None]


def gaussian_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """A Gaussian filter."""
    return filtered(pixels, bell((0.4, 0.6, 0.7, 0.8, 1.0)[level] * growth(pixels)))


def defocus_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """A disc for every point, as by a lens out of focus; its rim is softened."""
    radius, soft = (length * growth(pixels) for length in ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[level])
    fine = 16  # points a pixel, along each side
    reach = max(1, round(radius))
    points = (torch.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    disc = (points[:, None].square() + points.square() <= radius**2).float()
    disc = F.avg_pool2d(disc[None, None], fine)
    disc = F.conv2d(disc, bell(soft)[None], padding="same")[0]
    return filtered(pixels, disc / disc.sum())


def motion_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Points drawn out to one side, in a direction of each picture's own within 45 degrees of the horizontal."""
    radius, sigma = (length * growth(pixels) for length in ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level])
    angle = (torch.rand(len(pixels), generator=draws) - 0.5) * torch.pi / 2
    reach = int(radius)
    steps = torch.arange(reach + 1.0)
    weights = (-0.5 * (steps / sigma).square()).exp()
    kernels = torch.zeros(len(pixels), (2 * reach + 1) ** 2)
    across, down = (trace(angle)[:, None] * steps for trace in (torch.cos, torch.sin))
    left, top = across.floor(), down.floor()
    for right, below in ((0, 0), (0, 1), (1, 0), (1, 1)):  # a point between pixels belongs to the four around it
        share = (1 - (across - left - right).abs()) * (1 - (down - top - below).abs()) * weights
        column, row = (left + right + reach).clamp(0, 2 * reach), (top + below + reach).clamp(0, 2 * reach)
        kernels.scatter_add_(1, (row * (2 * reach + 1) + column).long(), share)
    return filtered(pixels, (kernels / kernels.sum(1, keepdim=True)).view(-1, 2 * reach + 1, 2 * reach + 1))


def zoom_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """The mean of the picture and of ever closer views of it."""
    zooms = torch.arange(1.0, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01)
    total = pixels.clone()
    for zoom in zooms.tolist():
        closer = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]]).expand(len(pixels), 2, 3)
        grid = F.affine_grid(closer, list(pixels.shape), align_corners=False)
        total += F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return total / (len(zooms) + 1)


def brightness(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """More light: the value of HSV raised, hue and saturation as they were."""
    value = pixels.amax(dim=1, keepdim=True)
    lighter = (value + (0.05, 0.10, 0.15, 0.20, 0.30)[level]).clamp_max(1)
    return torch.where(value > 0, pixels * lighter / value.clamp_min(1e-9), lighter)


def contrast(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Every channel nearer to its mean."""
    means = pixels.mean(dim=(2, 3), keepdim=True)
    return means + (0.75, 0.50, 0.40, 0.30, 0.15)[level] * (pixels - means)


def overlap(before: int, after: int) -> Tensor:
    """How much of each of `before` equal parts of a line makes each of `after` equal parts: [after, before], rows sum to 1."""
    ends = torch.arange(after + 1) * before / after
    parts = torch.arange(before)
    shared = torch.minimum(ends[1:, None], parts + 1) - torch.maximum(ends[:-1, None], parts)
    return shared.clamp_min(0) * after / before


def pixelate(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Fewer, larger pixels: averaged over their areas."""
    height, width = pixels.shape[-2:]
    rows, columns = (max(1, int(side * (0.95, 0.90, 0.85, 0.75, 0.65)[level])) for side in (height, width))
    small = overlap(height, rows) @ pixels @ overlap(width, columns).T
    return F.interpolate(small, size=(height, width), mode="nearest-exact")


def jpeg(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Lossy compression.

    Raises:
        ValueError: the pictures are neither grey nor in three colours.
    """
    from PIL import Image

    channels = pixels.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"jpeg is for pictures with 1 or 3 channels, and these have {channels}")
    found = []
    for picture in (255 * pixels).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(picture[..., 0] if channels == 1 else picture).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[level])
        found.append(torch.from_numpy(numpy.array(Image.open(file))).reshape(picture.shape))
    return torch.stack(found).permute(0, 3, 1, 2).float() / 255


CORRUPTIONS: dict[str, Callable[[Tensor, int, Generator], Tensor]] = {
    made.__name__: made for made in (gaussian_noise, shot_noise, impulse_noise, speckle_noise, gaussian_blur, defocus_blur,
                                     motion_blur, zoom_blur, brightness, contrast, pixelate, jpeg)}
"""From pixels [N, C, H, W] from 0 to 1, a level from 0 to 4 and a generator to pixels, which `corrupt` clips."""
