"""Pictures as sequences: the path of a pen, columns, a film and a sound, for networks that read one place after the other.

Whatever is drawn is taken to be brighter than what it is drawn on, as handwritten digits are stored.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.sequences import Sequences

__all__ = ["SEQUENTIAL", "Sequential", "SequentialName", "chain_code", "pen_path", "spectrogram",
           "strokes", "waveform"]

GRID = 14  # cells on the longer side that a pen's path is followed on; larger pictures are averaged down to it
TURNS = 3  # places of a path at most, for each cell of the longer side
INK = 0.4  # of the darkest ink: what is fainter is no stroke
PEN = 0.8  # standard deviation of what a pen takes up around it, in cells
FRAMES = 5  # of a film
LEAD = 1e-5  # of earlier cells over later ones, so that equal ones come in a fixed order


def grey(images: Tensor) -> Tensor:
    """Stored pictures [B, H, W, C], uint8 or from 0 to 1, as brightness [B, H, W] from 0 to 1."""
    return (images.float() / 255 if images.dtype == torch.uint8 else images.float()).mean(dim=-1)


def pen_path(ink: Tensor) -> tuple[Tensor, Tensor]:
    """The path of a pen over what is drawn: it starts at the top and goes on to the ink that is near and not yet drawn.

    What it passes over counts as drawn, so that it follows the middle of a wide stroke. Where no ink is left near by it is
    lifted. It ends when all ink that is not faint is drawn.

    Args:
        ink: [B, H, W] from 0 to 1.

    Returns:
        The cells of the path, row * W + column, [B, T] with the last one repeated to T = 3 times the longer side; and how
        many there are [B].
    """
    height, width = ink.shape[1:]
    rows = torch.arange(height * width, device=ink.device)
    places = torch.stack([rows // width, rows % width], dim=1).float()
    far = (places[:, None] - places).square().sum(dim=2)
    taken, near = torch.exp(-far / (2 * PEN**2)), (1 + far) ** -2.0
    left = ink.flatten(1)
    enough = INK * left.amax(dim=1, keepdim=True).clamp_min(1e-6)
    lead = 1 - LEAD * rows / len(rows)
    drawn = left >= enough
    here = torch.where(drawn, len(rows) - rows, 0).argmax(dim=1)  # the first cell of the first row that has one
    lengths, going = torch.zeros_like(here), drawn.any(dim=1)
    path = []
    for _ in range(TURNS * max(height, width)):
        path.append(here)
        lengths = lengths + going
        left = left * (1 - taken[here])
        worth = torch.where(left >= enough, left * near[here] * lead, 0)
        going = going & (worth.amax(dim=1) > 0)
        here = torch.where(going, worth.argmax(dim=1), here)
    return torch.stack(path, dim=1), lengths.clamp_min(1)


def followed(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pen's places [B, T, 2] (column, row) in cells, its moves to them [B, T, 2], the ink there [B, T], and lengths [B]."""
    ink = grey(images)
    longer = max(ink.shape[1:])
    if longer > GRID:
        height, width = (max(1, round(side * GRID / longer)) for side in ink.shape[1:])
        ink = F.adaptive_avg_pool2d(ink[:, None], (height, width))[:, 0]
    path, lengths = pen_path(ink)
    places = torch.stack([path % ink.shape[2], path // ink.shape[2]], dim=2).float()
    moves = places - torch.cat([places[:, :1], places[:, :-1]], dim=1)
    return places, moves, ink.flatten(1).gather(1, path), lengths


def strokes(images: Tensor) -> Sequences:
    """The path of a pen: at each place its position about the path's middle, the move to it, lifted or not, the ink there.

    Args:
        images: [B, H, W, C], stored.

    Returns:
        Frames [B, T, 6], zero where padded.
    """
    places, moves, ink, lengths = followed(images)
    path = Sequences.padded(places, lengths)
    kept = path.mask[..., None]
    middle = (places * kept).sum(dim=1, keepdim=True) / lengths[:, None, None]
    lifted = (moves.abs().amax(dim=2) > 1.5).float()
    frames = torch.cat([places - middle, moves, lifted[..., None], ink[..., None]], dim=2)
    return Sequences(frames * kept, path.mask)


def chain_code(images: Tensor) -> Sequences:
    """The path of a pen as a text: a symbol for each move, by its direction (Freeman 1961), and others where it is lifted.

    Args:
        images: [B, H, W, C], stored.

    Returns:
        Token ids [B, T]: 0 padding, 1 to 8 directions, 9 to 16 those of a lifted pen, 17 the beginning.
    """
    _, moves, _, lengths = followed(images)
    turns = torch.atan2(moves[..., 1], moves[..., 0]) / (math.pi / 4)
    tokens = 1 + turns.round().long() % 8 + 8 * (moves.abs().amax(dim=2) > 1.5)
    tokens[:, 0] = 17
    text = Sequences.padded(tokens, lengths)
    return Sequences(tokens * text.mask, text.mask)


def whole(frames: Tensor) -> Sequences:
    """Frames [B, T, F] none of which is padding."""
    return Sequences(frames, torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device))


def columns(images: Tensor) -> Sequences:
    """The columns of a picture from left to right, [B, W, H]."""
    return whole(grey(images).transpose(1, 2))


def film(images: Tensor) -> Sequences:
    """A film of a camera that passes over the picture from left to right: frames half as wide as it, [B, FRAMES, H * W/2]."""
    seen = grey(images)
    width = max(seen.shape[2] // 2, 1)
    starts = [round(step * (seen.shape[2] - width) / (FRAMES - 1)) for step in range(FRAMES)]
    return whole(torch.stack([seen[:, :, start:start + width].flatten(1) for start in starts], dim=1))


def sounded(images: Tensor) -> Tensor:
    """A picture as sound [B, T]: columns one after the other, a tone for each row, higher ones above (Meijer 1992, vOICe).

    A column of H rows takes 4H samples, and the tones have from 1 to 2H - 1 cycles in these, about 2 apart.
    """
    seen = grey(images)
    height, width = seen.shape[1:]
    row = torch.arange(height, device=seen.device)
    cycles = torch.linspace(2 * height - 1, 1, height, device=seen.device)
    time = torch.arange(4 * height * width, device=seen.device) / (4 * height)
    # each tone begins at another point of its cycle, by the golden ratio, or all would rise together
    tones = torch.sin(2 * math.pi * (cycles[:, None] * time + row[:, None] * (math.sqrt(5) - 1) / 2))
    return (seen.repeat_interleave(4 * height, dim=2) * tones).sum(dim=1) / math.sqrt(height)


def waveform(images: Tensor) -> Sequences:
    """The sound of a picture, a quarter of a column's in each frame, [B, 4W, H]."""
    return whole(sounded(images).unflatten(1, (4 * images.shape[2], images.shape[1])))


def spectrogram(images: Tensor) -> Sequences:
    """What a short-time Fourier transform shows of the sound of a picture: log magnitudes, [B, 4W - 1, H + 1].

    Windows (Hann's) are half a column long and overlap by half, so that neighbouring tones run into each other.
    """
    size = 2 * images.shape[1]
    pieces = sounded(images).unfold(1, size, size // 2) * torch.hann_window(size, device=images.device)
    return whole(torch.fft.rfft(pieces).abs().log1p())


@dataclass(frozen=True)
class Sequential:
    """A modality that is a sequence.

    Attributes:
        look: from stored pictures [B, H, W, C] to it.
        vocabulary: how many token ids there are, padding included; None where it is of frames.
    """

    look: Callable[[Tensor], Sequences]
    vocabulary: int | None = None

    @property
    def info(self) -> dict[str, str | int]:
        """What a task of classification has to know of it."""
        return {"inputs": "frames"} if self.vocabulary is None else {"inputs": "tokens", "vocabulary": self.vocabulary}


SequentialName = Literal["strokes", "chain_code", "columns", "film", "waveform", "spectrogram"]

SEQUENTIAL: dict[str, Sequential] = {
    "strokes": Sequential(strokes), "chain_code": Sequential(chain_code, 18), "columns": Sequential(columns),
    "film": Sequential(film), "waveform": Sequential(waveform), "spectrogram": Sequential(spectrogram)}
