"""Lifelong learning of a generator of pictures."""

import copy
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdrun.config.constraints import AtLeastOne, Count, NonNegative
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.data.class_incremental import TaskStream, forgetting
from kdrun.data.data import Data
from kdrun.methods.base import Phase, Run, Teachers, Terms
from kdrun.methods.lifelong.lifelong import Lifelong
from kdrun.methods.synthesis import discriminator_of, discriminator_optimizer, fooled, judged
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks, Role, frozen
from kdrun.models.synthesis import PictureDiscriminator
from kdrun.tasks.synthesis import Synthesis

MEASURES = ("class_accuracy", "coverage", "frechet_pixels")


class LifelongGAN(Lifelong):
    """Learn to make new classes of pictures, and go on making the old ones as before (Zhai et al. 2019).

    In each task the generator learns the pictures of its classes against a discriminator; of the same noise and old classes it
    has to make what its past makes, by the mean absolute difference. No old picture is kept.

    An approximation: the paper's generators are conditioned on pictures, so that it has to make up auxiliary ones on which past
    and present are compared; a generator that is conditioned on labels is asked for old labels, and needs none. Its distance of
    latent codes, which belongs to the encoder there, is left out.

    It was tried at toy size alone; no figure of it is known yet. A task has few pictures, so small batches suit it:
    `dataset=synthesis recipe.batch_size=16`.

    `tasks.csv` has the measures of image synthesis after each task, on each task so far; `lifelong.csv` their average at the
    end and what was forgotten. Beside the student stand `finetune`, which goes on without its past; `replay`, which learns the
    pictures that its past makes of old classes as if they were real ones (Wu et al. 2018); and `joint`, the run's baseline,
    which had all classes at once.

    Args:
        split: how many tasks, or how many classes each has.
        class_order: in which classes are learned: `label`, `seed`, or their numbers in that order.
        weight: of the difference from the past.
        replay: whether to train that reference.
        finetune: whether to train that one.
    """

    schemes: ClassVar[tuple[str, ...]] = ("self",)
    teachers: ClassVar[Teachers] = "none"
    needs = ("made pictures",)
    plain_logits = "has no logits to compare"
    knowledge = ("response",)
    source = "Zhai, Chen, Tung, He, Nawhal, Mori: Lifelong GAN: Continual learning for conditional image generation. ICCV 2019"
    survey_scheme = ""
    survey_tables = ("Gou section 6.8",)

    def __init__(self, *, split: AtLeastOne | list[AtLeastOne], class_order: Literal["label", "seed"] | list[Count],
                 weight: NonNegative, replay: bool, finetune: bool) -> None:
        super().__init__(split=split, class_order=class_order, finetune=finetune)
        self.weight, self.replay = weight, replay
        self.discriminators = nn.ModuleDict()
        self.replayed: list[Role] = []  # the past of that reference: a constant, and no part of what is trained
        self.measured: list[dict[str, object]] = []

    def setup(self, networks: Networks, data: Data) -> None:
        """Build the student's discriminator."""
        self.discriminators = nn.ModuleDict({"student": discriminator_of(data.task)}).to(networks.device)
        self.measured = []

    def before(self, run: Run, stream: TaskStream) -> Iterator[Phase]:
        """From the second task on each reference goes its own way."""
        peers = run.networks.peers
        if self.number == 1 and self.replay:
            peers.append(copy.deepcopy(run.networks.student))
            peers[-1].name = "replay"
        for peer in peers:
            if peer.name not in self.discriminators:
                self.discriminators[peer.name] = copy.deepcopy(self.discriminators["student"])
        self.replayed = [frozen(peer, "replayed") for peer in peers if peer.name == "replay"]
        yield from ()

    def players(self, networks: Networks) -> Mapping[str, Sequence[nn.Module]]:
        """Each generator, and its discriminator."""
        learners = {"student": networks.student, **{peer.name: peer for peer in networks.peers}}
        return {name: [learner] for name, learner in learners.items()} | {
            f"{name} discriminator": [self.discriminators[name]] for name in learners}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The task's for discriminators."""
        return discriminator_optimizer(self.task, weights) if "discriminator" in player else recipe.build(weights)

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """Each learner in turn: its discriminator, then itself. New and old classes go through a generator together."""
        codes, old = batch.tensor, self.past_codes(batch)
        every = torch.cat([codes, old])
        past = networks.teachers if self.number else []
        yield from self.adversarial(networks.student, batch, networks.student(every).logits, past, old)
        for peer in networks.peers:
            if peer.name == "replay":
                wanted = torch.cat([batch.targets["class"], old[:, -len(self.order):].argmax(dim=1)])
                seen = torch.cat([batch.targets["picture"], self.replayed[0](old).logits])
                mixed = replace(batch, x=every, targets={"picture": seen, "class": wanted})
                yield from self.adversarial(peer, mixed, peer(every).logits)
            else:
                yield from self.adversarial(peer, batch, peer(codes).logits)

    def past_codes(self, batch: Batch) -> Tensor:
        """The noise of a batch with old classes, drawn evenly, in the place of the new ones; none in the first task."""
        assert isinstance(self.task, Synthesis)
        noise = batch.tensor[:, :self.task.shape[0]]
        if not self.number:
            return batch.tensor[:0]
        drawn = torch.randint(self.now.start, (len(noise),), generator=self.random).to(self.order.device)
        return self.task.code(noise, self.order[drawn])

    def adversarial(self, learner: Role, batch: Batch, made: Tensor, past: Sequence[Role] = (),
                    old: Tensor | None = None) -> Iterator[tuple[str, Terms]]:
        """The discriminator's update, then the learner's.

        Args:
            learner: that made pictures.
            batch: of real ones.
            made: pictures of the classes of the batch, and after them those of the old codes.
            past: the learner as it was, where it is held to that.
            old: codes of old classes.
        """
        discriminator, new = self.discriminators[learner.name], made[:len(batch)]
        assert isinstance(discriminator, PictureDiscriminator)
        yield f"{learner.name} discriminator", judged(discriminator, new, batch, self.task)
        terms = {"adversarial": fooled(discriminator, new, batch)}
        if past and old is not None:
            terms["past"] = self.weight * F.l1_loss(made[len(batch):], past[0](old).logits)
        yield learner.name, terms

    def examine(self, run: Run) -> None:
        """Measure what each learner makes of each task so far."""
        for learner in (run.networks.student, *run.networks.peers):
            self.measured += self.examined(run, learner, learner.name, self.number + 1)
        if self.number == 0:  # up to here the references are the student
            names = ["finetune"] * self.finetune + ["replay"] * self.replay
            self.measured += [row | {"learner": name} for row in list(self.measured) for name in names]

    def examined(self, run: Run, learner: nn.Module, name: str, after: int) -> list[dict[str, object]]:
        """The measures of a learner on each of so many tasks."""
        task, test = run.data.task, run.data.test
        assert isinstance(task, Synthesis)
        made, turns = answers(learner, run.data, test, run.device).logits, self.turns.cpu()[test.labels]
        found: list[dict[str, object]] = []
        for on, classes in enumerate(self.tasks[:after], 1):
            own = (turns >= classes.start) & (turns < classes.stop)
            measures = task.compared(made[own], test.labels[own], test)
            found.append({"learner": name, "after": after, "on": on} | {key: measures[key] for key in MEASURES})
        return found

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """The matrix of measures, and its summary."""
        joint = run.factory.train(run.factory.student_spec, "baseline") if run.factory.train else None
        rows = [*self.measured, *([] if joint is None else self.examined(run, joint, "joint", len(self.tasks)))]
        summary: list[dict[str, object]] = []
        for name in dict.fromkeys(str(row["learner"]) for row in rows):
            own = [row for row in rows if row["learner"] == name]
            told: dict[str, object] = {"learner": name}
            for key in MEASURES[:2]:
                matrix = [[float(str(row[key])) for row in own if row["after"] == after]
                          for after in sorted({int(str(row["after"])) for row in own})]
                told |= {f"average_{key}": statistics.fmean(matrix[-1]),
                         f"forgetting_{key}": None if name == "joint" else forgetting(matrix)}
            summary.append(told)
        return {"tasks": rows, "lifelong": summary}
