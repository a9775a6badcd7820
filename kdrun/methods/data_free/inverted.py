"""What the methods share that turn noise into pictures by a descent through the teacher."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.data.stream import Normalise
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.losses import kd
from kdrun.models.generator import Canvas
from kdrun.models.roles import Networks


class Inverted(Method):
    """Pictures that descend from noise, batch by batch, and a student that learns from all of them, in rounds.

    The training pictures are not read. Made pictures are augmented as the run's are; all are part of every checkpoint. A
    subclass says what pictures descend (`inversion`), and perhaps from where (`beginning`) and what the student does
    (`imitate`).

    Args:
        rounds: of making pictures and learning; the recipe's epochs are shared out among them.
        batches: of pictures a round.
        batch_size: pictures that descend together.
        iterations: how long they do.
        picture_lr: of their Adam.
        momentum: of their Adam, its first beta.
        student_lr: of the student's Adam, without decay, by the recipe's schedule; None for the recipe's optimizer.
        temperature: of the student's lessons.
        normalised: whether pictures descend as networks see them; otherwise from 0 to 1, as they are stored.
        clip: whether pixels are brought back after each update to what stored pictures can have, from black to white.
    """

    needs = ("pictures", "one row a sample", "sample labels")

    canvas: Canvas
    images: Tensor
    normalise: Normalise

    def __init__(self, *, rounds: int, batches: int, batch_size: int, iterations: int, picture_lr: float, momentum: float,
                 student_lr: float | None, temperature: float, normalised: bool = True, clip: bool = False) -> None:
        super().__init__()
        self.rounds, self.batches, self.batch_size, self.iterations = rounds, batches, batch_size, iterations
        self.picture_lr, self.momentum, self.student_lr = picture_lr, momentum, student_lr
        self.temperature, self.normalised, self.clip, self.turn = temperature, normalised, clip, 0

    def phases(self, run: Run) -> Iterator[Phase]:
        """Pictures and lessons in turn."""
        self.setup(run.networks, run.data)
        data, device, networks = run.data, run.device, run.networks
        channels, height, width = data.shape
        rounds, batches = (1, 1) if run.rehearsal else (self.rounds, self.batches)
        self.turns = 1 if run.rehearsal else self.iterations
        noise = run.noise(self.noise_shape(data), batch_size=self.batch_size, steps=batches)
        self.register_buffer("images", torch.zeros(rounds * batches * noise.batch_size, height, width, channels,
                                                   device=device))
        self.canvas = Canvas([noise.batch_size, *noise.shape]).to(device)
        self.normalise, self.classes = data.normalise, len(data.classes)
        epochs = run.recipe.epochs
        for self.turn in range(rounds):
            yield Phase("inversion", data=noise, epochs=1, total=rounds, evaluate=False)
            made = self.images[:(self.turn + 1) * batches * noise.batch_size].cpu()
            samples = Samples(made, torch.arange(len(made)) % self.classes)
            stream = data.stream(batch_size=run.recipe.batch_size, seed=run.seed, device=device, samples=samples)
            yield Phase("distill", loss=self.imitate, train=[networks.student], data=stream, total=epochs,
                        epochs=(self.turn + 1) * epochs // rounds - self.turn * epochs // rounds)

    def noise_shape(self, data: Data) -> Sequence[int]:
        """Of what descends, for each picture: the picture itself, unless a method makes it of something else."""
        return data.shape

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Of an inversion: the pictures. The student is asked at most, not taught."""
        return {"pictures": [self.canvas]}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """Adam for the pictures, and for the student where it has a rate of its own."""
        if player == "pictures":
            return self.canvas.optimizer(weights, self.picture_lr, (self.momentum, 0.999))
        return recipe.build(weights) if self.student_lr is None else torch.optim.Adam(weights, lr=self.student_lr)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """A batch of pictures, from noise to what the teacher knows; the classes in turn."""
        wanted, pixels = batch.rows % self.classes, self.canvas.pixels
        self.canvas.restart(self.beginning(batch.tensor))
        for _ in range(self.turns):
            yield "pictures", self.inversion(networks, self.seen(pixels), wanted)
            if self.clip:
                with torch.no_grad():
                    pixels.copy_(pixels.clamp(*self.range_of(pixels)))
        with torch.no_grad():
            self.images[batch.rows] = self.stored(pixels)

    def beginning(self, noise: Tensor) -> Tensor:
        """Where pictures [B, C, H, W] start, of normal noise of that shape; the noise itself unless a method says otherwise."""
        return noise

    def seen(self, pixels: Tensor) -> Tensor:
        """What networks see of the pictures that descend [B, C, H, W]."""
        # a view: a network that is asked about a weight itself would register it as its own
        return pixels.view_as(pixels) if self.normalised else self.normalise(pixels.permute(0, 2, 3, 1))

    def stored(self, pixels: Tensor) -> Tensor:
        """Pictures [B, H, W, C] as data sets keep them, from 0 to 1 where they are not beyond."""
        return self.normalise.stored(pixels) if self.normalised else pixels.permute(0, 2, 3, 1)

    def range_of(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Black and white, as pictures [B, C, H, W] that descend have them; each [C, 1, 1]."""
        mean, std = (values.to(pixels.device).view(-1, 1, 1) for values in (self.normalise.mean, self.normalise.std))
        if not self.normalised:
            return torch.zeros_like(mean), torch.ones_like(mean)
        return -mean / std, (1 - mean) / std

    def inversion(self, networks: Networks, pictures: Tensor, wanted: Tensor) -> Terms:
        """What pictures [B, C, H, W], as networks see them, of wanted classes [B] descend."""
        raise NotImplementedError

    def imitate(self, networks: Networks, batch: Batch) -> Terms:
        """The student's loss on the pictures."""
        return {"kd": kd(networks.teacher(batch).logits, networks.student(batch).logits, self.temperature)}
