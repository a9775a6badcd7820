"""Image synthesis: pictures of a wanted class, made of noise."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.batch import Batch
from kdrun.data.samples import Samples, Source
from kdrun.evaluation.picture_metrics import class_logits, coverage_and_density, frechet_distance, principal_features
from kdrun.models.output import ModelOutput
from kdrun.tasks.base import InputKind, Need, Task

__all__ = ["Synthesis"]

NEIGHBOURS = 5         # whose distance says what is near, as Naeem et al. 2020 recommend
A_NEIGHBOUR_OF = 18    # of a class with fewer pictures than 90 fewer: with 5 of 9, whatever is made would be near


class Synthesis(Task):
    """Pictures of a wanted class that cannot be told from real ones, made of noise (a conditional generator).

    Inputs of samples are noise [N, D], drawn once: what is made of it is measured. In training the noise of a batch is drawn
    anew. The field "picture" has the real picture of each sample, [N, H, W, C], uint8 or from 0 to 1, and the label is its
    class. Networks see codes, the noise and the one-hot class behind it, and answer pictures [B, C, H, W] from -1 to 1.

    There is no label loss: a network alone is trained against a discriminator, as a GAN (Goodfellow et al. 2014). Nor are there
    rows of logits, so methods that compare logits or meet labels are refused.

    The headline is the coverage of the split's real pictures, class by class (Naeem et al. 2020): the share of them with a made
    picture of their class nearer than their 5th neighbour (than the n/18th where the class has fewer than 90, so splits of
    different size do not compare). It asks for the wanted class, for likeness and for variety at once.
    Beside it: `class_accuracy`, the share of made pictures whose nearest real one is of the wanted class; `density`; and
    `frechet_pixels`, the Fréchet distance of pixels from 0 to 1 (of their first 64 principal components where they are more).
    That is no FID: no Inception network sees pictures of this size, and figures of different data do not compare.

    Args:
        classes: their names.
        shape: (D,) of the noise.
        info: "picture": (channels, height, width); "discriminator_width", "discriminator_lr" (of its Adam, constant),
            "discriminator_penalty" (R1): of what trains a network alone, see `kdrun.models.synthesis.PictureDiscriminator`.
    """

    key = "synthesis"
    headline = "coverage"
    measured = ("coverage", "class_accuracy", "density", "frechet_pixels")
    watched = ("coverage", "class_accuracy", "frechet_pixels")
    inputs: ClassVar[InputKind] = "codes"
    row_labels = False
    adversarial = True

    def __init__(self, classes: tuple[str, ...], shape: tuple[int, ...], info: Mapping[str, Any] | None = None) -> None:
        super().__init__(classes, shape, info)
        self.picture: tuple[int, ...] = tuple(self.info["picture"])

    @property
    def gives(self) -> frozenset[Need]:
        """Pictures that networks make, and maps."""
        return frozenset({"made pictures", "maps"})

    def given(self) -> dict[str, Any]:
        """What a generator has to know."""
        return {"latent": self.shape[0], "classes": len(self.classes), "picture": self.picture}

    def problems(self, source: Source) -> list[str]:
        """What makes pictures unfit to be learned from."""
        found = source.problems() + source.class_problems()
        for name, part in source.parts.items() if not found else ():
            if int(torch.bincount(part.labels, minlength=len(source.classes)).min()) < 2:
                found.append(f"a class has fewer than two {name} pictures, and what is near one is told by another")
        return found

    def code(self, noise: Tensor, classes: Tensor) -> Tensor:
        """What a network sees [B, D + K]: noise [B, D] and wanted classes [B]."""
        return torch.cat([noise, F.one_hot(classes, len(self.classes)).to(noise)], dim=1)

    def example(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Codes of no noise."""
        return self.code(torch.zeros(count, *self.shape, device=device), torch.arange(count, device=device) % len(self.classes))

    def expected(self, count: int) -> tuple[int | None, ...]:
        """Pictures."""
        return (count, *self.picture)

    def batch(self, samples: Samples, rows: Tensor, inputs: Tensor, draws: torch.Generator | None = None) -> Batch:
        """Codes, and in `targets` the real "picture" [B, C, H, W] of each, from -1 to 1, and its "class" [B]."""
        classes = samples.labels[rows]
        noise = inputs if draws is None else torch.randn(inputs.shape, generator=draws).to(inputs.device)
        return Batch(self.code(noise, classes), None, rows, targets={"picture": self.real(samples, rows), "class": classes})

    @staticmethod
    def real(samples: Samples, rows: Tensor | slice = slice(None)) -> Tensor:
        """The real pictures of samples [B, C, H, W], from -1 to 1."""
        stored = samples.fields["picture"][rows]
        return (stored.float() / (255 if stored.dtype == torch.uint8 else 1) * 2 - 1).permute(0, 3, 1, 2)

    def rows(self, logits: Tensor, batch: Batch) -> Tensor:
        """None.

        Raises:
            ValueError: always.
        """
        raise ValueError("it compares logits, and networks of image synthesis answer pictures")

    def label_loss(self, output: ModelOutput, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """None.

        Raises:
            ValueError: always.
        """
        raise ValueError("it learns from labels, and image synthesis has none to answer: a network alone is trained against a "
                         "discriminator (method=vanilla), and distilled by method=gan_compress")

    def split_rows(self, answers: ModelOutput, samples: Samples) -> tuple[Tensor, Tensor | None]:
        """Of which class the nearest real pictures say that the made ones are, [N, K], and the wanted classes."""
        real, made = principal_features(self.real(samples), answers.logits)
        return class_logits(real, samples.labels, made, len(self.classes)), samples.labels

    def measures(self, answers: ModelOutput, samples: Samples) -> dict[str, float | None]:
        """Coverage and density, the mean over classes weighted by their pictures; the share of right classes; the distance."""
        return self.compared(answers.logits, samples.labels, samples)

    def compared(self, made: Tensor, wanted: Tensor, samples: Samples) -> dict[str, float | None]:
        """How good pictures [M, C, H, W] of wanted classes [M] are beside the real ones of a split.

        Only classes that are wanted count.
        """
        among = torch.isin(samples.labels, wanted)
        labels = samples.labels[among]
        real, found = principal_features(self.real(samples)[among], made)
        sizes = {label: int((labels == label).sum()) for label in wanted.unique().tolist()}
        parts = [(size, *coverage_and_density(real[labels == label], found[wanted == label],
                                             max(1, min(NEIGHBOURS, round(size / A_NEIGHBOUR_OF)))))
                 for label, size in sizes.items() if size > 1]
        if not parts:
            return dict.fromkeys(self.measured)
        count = sum(part[0] for part in parts)
        everywhere = principal_features(self.real(samples), made)
        nearest = class_logits(everywhere[0], samples.labels, everywhere[1], len(self.classes)).argmax(dim=1)
        return {"coverage": sum(size * covered for size, covered, _ in parts) / count,
                "class_accuracy": float((nearest == wanted).double().mean()),
                "density": sum(size * dense for size, _, dense in parts) / count,
                "frechet_pixels": frechet_distance(real, found) / 4}  # pixels from -1 to 1 are twice as far apart

    def decode(self, output: ModelOutput) -> Tensor:
        """The pictures [B, H, W, C], uint8."""
        pictures = output.logits if output.dense is None else output.dense
        return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
