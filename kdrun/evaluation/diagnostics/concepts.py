"""What of a picture the features of a network rest on: how much noise they bear in each of its places.

(Cheng et al., Explaining knowledge distillation by quantifying the knowledge, 2020.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from kdrun.data.samples import Samples
from kdrun.data.streamed import in_memory
from kdrun.evaluation.diagnostics.stored import NetworkLoader, StoredNetwork, StoredRun
from kdrun.evaluation.diagnostics.tables import ROLES, WHOSE, Findings, over_seeds, whose
from kdrun.utils.seeding import generator
from kdrun.utils.wording import counted

__all__ = ["Probe", "concepts_of", "entropy", "foreground", "held", "tolerated"]

CONCEPTS = (*WHOSE, "pictures", "cells", "foreground_cells", "foreground_concepts", "background_concepts", "foreground_share",
            "foreground_entropy", "background_entropy")
CELLS = 16                  # along each side at most: the authors' number
NOISE = (0.001, 1.0)        # the authors' bounds of the standard deviation, for pixels from 0 to 1
ENTROPY = -2.0              # the mean that is held; the authors hold -2.8 on photographs
CONCEPT = 0.2               # how far below the background's mean entropy a concept is; from memory
INK = 0.3                   # of the lightest pixel: what is foreground
RATE, FARTHEST = 0.2, 0.5   # of a step in log sigma
VALUES = 1 << 20            # of the noisy pictures at once, which bounds the memory


@dataclass(frozen=True)
class Probe:
    """How networks are asked.

    Attributes:
        pictures: how many of the test set, classes balanced.
        noises: drawn of each picture in each step.
        steps: in which the noise of each place is found.
        seed: of every draw; all networks meet the same noise.
    """

    pictures: int = 50
    noises: int = 16
    steps: int = 80
    seed: int = 0


def entropy(log_sigma: Tensor) -> Tensor:
    """Of normal noise, in nats.

    Example:
        >>> entropy(torch.tensor([0.01, 0.1]).log())
        tensor([-3.1862, -0.8836])
    """
    return log_sigma + 0.5 * math.log(2 * math.pi * math.e)


def held(log_sigma: Tensor, mean: float) -> Tensor:
    """The nearest [P, n] within the bounds of `NOISE` whose rows have this mean: all of a row moved alike, then clipped."""
    least, most = (math.log(bound) for bound in NOISE)
    low, high = least - log_sigma.amax(dim=1, keepdim=True), most - log_sigma.amin(dim=1, keepdim=True)
    for _ in range(40):  # halvings
        middle = (low + high) / 2
        above = (log_sigma + middle).clamp(least, most).mean(dim=1, keepdim=True) > mean
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (log_sigma + (low + high) / 2).clamp(least, most)


def tolerated(features: Callable[[Tensor], Tensor], pixels: Tensor, cells: tuple[int, int], noises: int, steps: int,
              draws: Generator) -> Tensor:
    """The entropy [P, rows, columns] of the noise that features bear in each cell of pictures, its mean being `ENTROPY`.

    The noise that changes the features least, among all of equal mean entropy: then every cell changes them equally much.

    Args:
        features: of pixels [B, C, H, W].
        pixels: [P, C, H, W], from 0 to 1.
        cells: rows and columns of the grid in whose cells the noise has one standard deviation.
        noises: drawn of each picture in each step.
        steps: of gradient descent; the last quarter is averaged.
        draws: where noise comes from.

    Raises:
        ValueError: features have no gradient in the pixels.
    """
    count, number = len(pixels), cells[0] * cells[1]
    mean = ENTROPY - 0.5 * math.log(2 * math.pi * math.e)
    scales, total = torch.full((count, number), mean), torch.zeros(count, number)
    kept = max(1, steps // 4)
    with torch.no_grad():
        clean = features(pixels)
    for step in range(steps):
        found = scales.clone().requires_grad_()
        spread = F.interpolate(found.exp().view(count, 1, *cells), size=pixels.shape[-2:], mode="nearest").to(pixels.device)
        noise = torch.randn(noises, *pixels.shape, generator=draws).to(pixels.device)
        noisy = features((pixels + spread * noise).flatten(0, 1)).view(noises, *clean.shape)
        if not noisy.requires_grad:
            raise ValueError("its features have no gradient in the pixels")
        change = (noisy - clean).square().transpose(0, 1).flatten(1).mean(dim=1)
        gradient, = torch.autograd.grad(change.clamp_min(1e-30).log().sum(), found)
        # a cell's part in the change, 1 where all have the same: to be had by a step that the mean then takes back
        scales = held(scales - (RATE * (gradient * number / 2 - 1)).clamp(-FARTHEST, FARTHEST), mean)
        if step >= steps - kept:
            total += scales / kept
    return entropy(total).view(count, *cells)


def foreground(pixels: Tensor, cells: tuple[int, int]) -> Tensor:
    """Which cells [P, rows, columns] hold what is light on a dark ground: ink, and what is next to it.

    Args:
        pixels: [P, C, H, W], from 0 to 1.
        cells: rows and columns.
    """
    light = pixels.mean(dim=1, keepdim=True)
    ink = (light > INK * light.amax(dim=(2, 3), keepdim=True)).float()
    return F.adaptive_max_pool2d(F.max_pool2d(ink, 3, stride=1, padding=1), cells)[:, 0] > 0


def concepts_of(loader: NetworkLoader, runs: Sequence[StoredRun], probe: Probe) -> Findings:
    """Count the places of pictures that each network's last map rests on, in the foreground and in the background.

    A concept is a cell whose noise is clearly weaker than the background's mean over all pictures. A better network rests on
    more of the foreground and less of the background.

    The authors descend the change of the features, less a weight times the mean entropy, and take the step whose mean
    entropy is nearest to a target; here that mean is held throughout, which is what their weight is chosen for. They ask on
    training pictures with the masks of a segmentation, and leave out pictures whose foreground bears more than the background;
    here the foreground is what is light on a dark ground, as in digits, and no picture is left out. How soon concepts are
    learned during a training, and which of them are given up again, the paper measures too: that needs the networks along
    the way, which runs do not keep.
    """
    rows, notes = [], []
    asked: dict[StoredNetwork, dict[str, Any]] = {}
    for run, role, network in loader.networks(runs, ROLES, pictures=True):
        if network not in asked:
            test = network.data.test
            pictures = test.limit(min(probe.pictures, len(test)), probe.seed, len(network.data.classes))
            loader.note(f"{role} of {run.name}: noise in {counted(len(pictures), 'picture')}")
            try:
                asked[network] = measured(network, pictures, probe)
            except ValueError as error:
                asked[network] = {}
                notes.append(f"left out: {network.group}: {error}")
        if asked[network]:
            rows.append({**whose(run, role, network), **asked[network]})
    tables = over_seeds("Concepts a picture", rows, {
        "foreground_concepts": ("foreground", lambda value: f"{value:.2f}"),
        "background_concepts": ("background", lambda value: f"{value:.2f}"),
        "foreground_share": ("foreground's\nshare", lambda value: f"{100 * value:.1f} %"),
        "foreground_entropy": ("entropy in the\nforeground", lambda value: f"{value:.3f}"),
        "background_entropy": ("in the\nbackground", lambda value: f"{value:.3f}")})
    notes.append(f"concepts: cells that bear noise of an entropy more than {CONCEPT:g} nats below the background's mean; the "
                 f"mean of all cells is {ENTROPY:g} for all networks. Foreground is what is light on a dark ground.")
    return Findings({"concepts": (rows, CONCEPTS)}, tables, notes)


def measured(network: StoredNetwork, pictures: Samples, probe: Probe) -> dict[str, Any]:
    """The concepts of one network.

    Raises:
        ValueError: it is not differentiable in its pictures, or these are all foreground or all background.
    """
    images = in_memory(pictures.inputs)
    pixels = images.permute(0, 3, 1, 2).float() / (255 if images.dtype == torch.uint8 else 1)
    cells = min(CELLS, pixels.shape[2]), min(CELLS, pixels.shape[3])
    at_once = max(1, VALUES // (probe.noises * pixels[0].numel()))
    found = torch.cat([tolerated(lambda noisy: network.last_map(noisy.permute(0, 2, 3, 1)), part.to(network.device), cells,
                                 probe.noises, probe.steps, generator("concepts", probe.seed, number))
                       for number, part in enumerate(pixels.split(at_once))])
    ink = foreground(pixels, cells)
    if bool(ink.all()) or not bool(ink.any()):
        raise ValueError("its pictures have no light foreground on a dark ground")
    concept = found[~ink].mean() - found > CONCEPT
    own, others = ((concept & part).sum(dim=(1, 2)).double() for part in (ink, ~ink))
    return {"pictures": len(pictures), "cells": cells[0] * cells[1], "foreground_cells": float(ink.sum() / len(ink)),
            "foreground_concepts": float(own.mean()), "background_concepts": float(others.mean()),
            "foreground_share": float((own / (own + others).clamp_min(1)).mean()),
            "foreground_entropy": float(found[ink].mean()), "background_entropy": float(found[~ink].mean())}
