"""Pictures as bad as they come: noise, blur, weather, light and loss of detail in five severities.

The corruptions and what each severity means are those of CIFAR-10-C (Hendrycks and Dietterich, Benchmarking neural network
robustness to common corruptions and perturbations, ICLR 2019): the fifteen that are compared, and two of the four that are
kept for validation (spatter and saturate are not here). Lengths are in pixels of a picture of 32; they grow with larger
pictures. Every draw is keyed by the corruption, the severity and a seed, so all networks are asked about the same pictures.
With the authors' numbers not every severity changes pixels by more than the one before: their glass blurs more in the third
than in the fourth, and their rubber is turned less the more it is wrinkled.
"""

import io
import math
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


def filtered(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Every channel filtered by a kernel [K, K]; borders are continued."""
    channels = pixels.shape[1]
    padded = F.pad(pixels, (kernel.shape[-1] // 2,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)


def sampled(pixels: Tensor, places: Tensor, border: str) -> Tensor:
    """Values between pixels, from the four around them.

    Args:
        pixels: [N, C, H, W].
        places: [N, H, W, 2] or [1, H, W, 2]: column and row of each, in pixels.
        border: how pictures go on beyond their ends: border or reflection.
    """
    height, width = pixels.shape[-2:]
    grid = 2 * places / torch.tensor([max(1, width - 1), max(1, height - 1)]) - 1
    return F.grid_sample(pixels, grid.expand(len(pixels), -1, -1, -1), mode="bilinear", padding_mode=border, align_corners=True)


def all_places(pixels: Tensor) -> Tensor:
    """Column and row of each pixel: [1, H, W, 2]."""
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in pixels.shape[-2:]), indexing="ij")
    return torch.stack([columns, rows], dim=-1)[None]


def drawn_out(pixels: Tensor, angle: Tensor, reach: int, sigma: float) -> Tensor:
    """Points drawn out to one side, ever fainter.

    Args:
        pixels: [N, C, H, W].
        angle: [N]: where each picture looks for the light of a pixel, from the right downward.
        reach: how many pixels far.
        sigma: in pixels: the light falls off as half of a normal distribution.
    """
    steps = torch.arange(reach + 1.0)
    weights = (-0.5 * (steps / sigma).square()).exp()
    way = torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None, None]
    places, total = all_places(pixels), torch.zeros_like(pixels)
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        total += weight * sampled(pixels, places + step * way, "border")
    return total


def bell(sigma: float) -> Tensor:
    """A normalised Gaussian kernel [K, K] that reaches four standard deviations."""
    reach = max(1, round(4 * sigma))
    line = (-0.5 * (torch.arange(-reach, reach + 1) / sigma).square()).exp()
    square = line[:, None] * line
    return square / square.sum()


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
    disc = F.conv2d(disc, bell(soft)[None, None], padding="same")[0, 0]
    return filtered(pixels, disc / disc.sum())


def motion_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Points drawn out to one side, in a direction of each picture's own within 45 degrees of the horizontal."""
    radius, sigma = (length * growth(pixels) for length in ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level])
    angle = (torch.rand(len(pixels), generator=draws) - 0.5) * torch.pi / 2
    return drawn_out(pixels, angle, int(radius), sigma)


def glass_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Frosted glass: pixels exchanged with near ones, blurred before and after.

    From the last row and column to the first, each with one that is drawn from those up to some pixels before it and fewer
    than that behind it, as in the authors' code; which, though, takes the other's value and leaves the other as it was.
    """
    sigma, far, times = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[level]
    sigma, far = sigma * growth(pixels), round(far * growth(pixels))
    soft, (height, width), own = bell(sigma), pixels.shape[-2:], torch.arange(len(pixels))
    moved = filtered(pixels, soft).permute(0, 2, 3, 1).contiguous()
    for _ in range(times):
        offsets = torch.randint(-far, far, (height, width, 2, len(pixels)), generator=draws)
        for row in range(height - far, far, -1):
            for column in range(width - far, far, -1):
                there = (own, row + offsets[row - 1, column - 1, 0], column + offsets[row - 1, column - 1, 1])
                here, other = moved[:, row, column].clone(), moved[there]
                moved[:, row, column], moved[there] = other, here
    return filtered(moved.permute(0, 3, 1, 2), soft)


def zoom_blur(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """The mean of the picture and of ever closer views of it."""
    zooms = torch.arange(1.0, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01)
    total = pixels.clone()
    for zoom in zooms.tolist():
        closer = torch.tensor([[1 / zoom, 0, 0], [0, 1 / zoom, 0]]).expand(len(pixels), 2, 3)
        grid = F.affine_grid(closer, list(pixels.shape), align_corners=False)
        total += F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return total / (len(zooms) + 1)


def grey(pixels: Tensor) -> Tensor:
    """How light pixels are: [N, 1, H, W], of three colours as the eye weighs them (ITU-R BT.601)."""
    if pixels.shape[1] != 3:
        return pixels.mean(dim=1, keepdim=True)
    return (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)


def plasma(count: int, height: int, width: int, decay: float, draws: Generator) -> Tensor:
    """Clouds [N, 1, H, W] from 0 to 1, by the diamond-square algorithm on a square without ends.

    Each half of a distance gets its middle: the mean of the four points around it, and a random part that shrinks by the
    squared decay with every halving.
    """
    side = step = 1 << max(1, (max(height, width) - 1).bit_length())
    found, spread = torch.zeros(count, side, side), 1.0

    def middles(*around: Tensor) -> Tensor:
        mean = torch.stack(around).mean(dim=0)
        return mean + spread * (2 * torch.rand(mean.shape, generator=draws) - 1)

    while step > 1:
        half = step // 2
        corner = found[:, ::step, ::step]
        below, right = corner.roll(-1, 1), corner.roll(-1, 2)
        centre = middles(corner, below, right, below.roll(-1, 2))
        found[:, half::step, half::step] = centre
        found[:, ::step, half::step] = middles(corner, right, centre, centre.roll(1, 1))
        found[:, half::step, ::step] = middles(corner, below, centre, centre.roll(1, 2))
        step, spread = half, spread / decay**2
    found -= found.amin(dim=(1, 2), keepdim=True)
    return (found / found.amax(dim=(1, 2), keepdim=True))[:, None, :height, :width]


def fog(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Clouds before the picture, which together are no lighter than it was."""
    thick, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1.0, 2), (1.5, 1.75))[level]
    lightest = pixels.amax(dim=(1, 2, 3), keepdim=True)
    count, _, height, width = pixels.shape
    return (pixels + thick * plasma(count, height, width, decay, draws)) * lightest / (lightest + thick)


def frost(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Ice on the lens, through which less of the picture comes.

    An approximation: the shares of picture and ice are the authors', who lay cuttings of six photographs over the pictures.
    Here the ice is drawn: two clouds whose middle heights are light, so that fine lines run across them, bluish in colour.
    """
    left, ice = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[level]
    count, channels, height, width = pixels.shape
    lines = torch.stack([1 - (2 * plasma(count, height, width, 1.5, draws) - 1).abs() for _ in range(2)]).amax(dim=0)
    tint = torch.tensor([0.85, 0.95, 1.0]) if channels == 3 else torch.ones(channels)
    return left * pixels + ice * lines * tint[:, None, None]


def snow(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Flakes that fall from either side, before a picture that is lighter and paler."""
    mean, spread, zoom, least, radius, sigma, left = (
        (0.1, 0.2, 1.0, 0.6, 8.0, 3.0, 0.95), (0.1, 0.2, 1.0, 0.5, 10.0, 4.0, 0.9), (0.15, 0.3, 1.75, 0.55, 10.0, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12.0, 6.0, 0.85), (0.3, 0.3, 1.25, 0.65, 14.0, 12.0, 0.8))[level]
    count, _, height, width = pixels.shape
    size, radius, sigma = (length * growth(pixels) for length in (zoom, radius, sigma))
    few = (max(2, math.ceil(side / size)) for side in (height, width))
    flakes = F.interpolate(mean + spread * torch.randn(count, 1, *few, generator=draws), size=(height, width), mode="bilinear",
                           align_corners=True)
    flakes = torch.where(flakes < least, 0.0, flakes).clamp(0, 1)
    angle = -(0.25 + 0.5 * torch.rand(count, generator=draws)) * torch.pi  # within 45 degrees of straight down
    flakes = drawn_out(flakes, angle, 2 * round(radius), sigma)
    pale = left * pixels + (1 - left) * torch.maximum(pixels, 1.5 * grey(pixels) + 0.5)
    return pale + flakes + flakes.flip(2, 3)


def brightness(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """More light: the value of HSV raised, hue and saturation as they were."""
    value = pixels.amax(dim=1, keepdim=True)
    lighter = (value + (0.05, 0.10, 0.15, 0.20, 0.30)[level]).clamp_max(1)
    return torch.where(value > 0, pixels * lighter / value.clamp_min(1e-9), lighter)


def contrast(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """Every channel nearer to its mean."""
    means = pixels.mean(dim=(2, 3), keepdim=True)
    return means + (0.75, 0.50, 0.40, 0.30, 0.15)[level] * (pixels - means)


def elastic(pixels: Tensor, level: int, draws: Generator) -> Tensor:
    """The picture on rubber: stretched and turned as a whole where it is mild, in every place otherwise where it is severe.

    Three points a third of the picture apart are moved, which an affine map follows; then each pixel, by smoothed noise.
    """
    height, width = pixels.shape[-2:]
    side, count = min(height, width), len(pixels)
    strength, sigma, apart = (share * side for share in (
        (0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[level])
    middle, third = torch.tensor([width // 2, height // 2]), side // 3
    before = middle + third * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    after = before + apart * (2 * torch.rand(count, 3, 2, generator=draws) - 1)
    ones = torch.ones(count, 3, 1)
    back = torch.linalg.solve(torch.cat([after, ones], dim=-1), before.expand(count, -1, -1))  # where each point came from
    places = all_places(pixels).expand(count, -1, -1, -1)
    if strength > 0:
        noise = strength * (2 * torch.rand(count, 2, height, width, generator=draws) - 1)
        places = places + smoothed(noise, sigma).permute(0, 2, 3, 1)
    return sampled(pixels, torch.cat([places, torch.ones_like(places[..., :1])], dim=-1) @ back[:, None], "reflection")


def smoothed(pixels: Tensor, sigma: float) -> Tensor:
    """By a Gaussian filter that reaches three standard deviations and sees beyond the ends what is before them."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(pixels.numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=3))


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
                                     glass_blur, motion_blur, zoom_blur, snow, frost, fog, brightness, contrast, elastic,
                                     pixelate, jpeg)}
"""From pixels [N, C, H, W] from 0 to 1, a level from 0 to 4 and a generator to pixels, which `corrupt` clips."""
