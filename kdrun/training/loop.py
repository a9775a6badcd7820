"""The one training loop, and the phases it runs."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrun.config.speed import release_memory
from kdrun.data.batch import Batch
from kdrun.methods.base import Phase, Run, Terms
from kdrun.models.prediction import answers
from kdrun.models.roles import Networks
from kdrun.training import checkpoint
from kdrun.training.averaging import WeightAverage
from kdrun.training.divergence import Diverged, StepSnapshot, finite, first_bad
from kdrun.training.players import continued, modes, own_parameters, owners
from kdrun.training.updates import Updates
from kdrun.utils import distributed, signals
from kdrun.utils.seeding import seed_of
from kdrun.utils.wording import counted

__all__ = ["Diverged", "distill"]


def distill(run: Run) -> None:
    """Train what the method's phases say, in their order. Finished phases of an interrupted run are only loaded.

    Raises:
        Diverged: a loss or a weight became NaN or infinite.
        Interrupted: on Ctrl-C or SIGTERM where they are heeded; everything is saved.
    """
    run.began = time.perf_counter()
    torch.manual_seed(seed_of("global", run.seed))  # dropout, and the first weights of a method's modules
    for number, phase in enumerate(itertools.chain(run.scheme.phases(run), run.method.phases(run))):
        fit(run, phase, number)
    release_memory()  # the next training has maps of other sizes, which do not fit into the gaps of these


def fit(run: Run, phase: Phase, number: int) -> None:
    """Train one phase: the loop that every method of every family runs in.

    Where the recipe averages weights, a phase ends with the average, and what comes after it begins from there.
    """
    method, scheme, networks, recipe = run.method, run.scheme, run.networks, run.recipe
    stream = run.stream if phase.data is None else phase.data
    epochs = 1 if run.rehearsal else recipe.epochs - run.started if phase.epochs is None else phase.epochs
    players = scheme.players({"student": phase.train} if phase.train is not None else method.players(networks), networks)
    params = {player: own_parameters(modules) for player, modules in players.items()}
    owned = owners(params, networks, method.shares_parameters)
    optimizers = continued(run, phase.name, params)
    updates = Updates(recipe, params, optimizers, steps=1 if run.rehearsal else len(stream))
    average = WeightAverage(recipe.ema, itertools.chain(*players.values())) if recipe.ema is not None else None
    position = PhaseState(run, phase, number, epochs, optimizers, average)
    position.load()
    before = position.before
    total = max(phase.total or 0, before + epochs)
    start, length = (before, epochs) if phase.restart else (0, total)  # what the schedule runs over
    done = position.epoch * len(stream) + position.step
    with run.screen.phase(run.title, phase.name, epochs, len(stream), done) as progress, signals.postponed():
        while position.epoch < epochs:
            modes(networks, method, players)
            epoch = before + position.epoch
            for batch in stream.epoch(epoch, total, position.step):
                # a step by untrained teachers may throw weights so far that the next phase's loss is infinite
                rate = 0.0 if run.rehearsal else recipe.rate(epoch - start + batch.step / len(stream), length,
                                                             phase.constant_rate)
                undo = StepSnapshot(run.learners.values()) if recipe.skip_bad_batches else None
                updates.begin(batch.step)
                due = updates.complete(batch.step)
                asked = method.step(networks, batch) if phase.loss is None else only(phase.loss, networks, batch)
                for player, terms in scheme.updates(asked, networks, batch, phase):
                    loss = updates.backward(player, terms)
                    if due:
                        distributed.average(params[player])
                        if undo is not None and not (loss.isfinite() and finite(params[player])):
                            position.skip(undo, player, terms)
                            updates.waiting.clear()
                            break
                        updates.step(player, rate)
                    for role in owned[player]:
                        role.moved()
                    position.add(player, terms)
                if due:
                    updates.step_waiting(rate)
                    if average is not None:
                        average.update()
                position.step += 1
                progress.step()
                if run.rehearsal:
                    break
                if due:
                    position.save_if_due()
            for role in networks:
                role.forget()
            position.end_epoch(progress)
        position.finish()
        signals.check(position.place)
    run.trained[phase.name] = before + epochs


def only(loss: Callable[[Networks, Batch], Terms], networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
    """One update of the student. The loss is taken when it is asked for: after whatever the scheme does first."""
    yield "student", loss(networks, batch)


class PhaseState:
    """Where a phase stands: what a checkpoint holds, and the loss terms of the epoch so far.

    Terms are summed where they are. On a CPU each is looked at; an accelerator would be kept waiting, so there it is
    at the end of an epoch and whenever something is saved.
    """

    LOOK = 50  # steps between two questions of several processes to each other whether to stop

    def __init__(self, run: Run, phase: Phase, number: int, epochs: int,
                 optimizers: dict[str, torch.optim.Optimizer], average: WeightAverage | None = None) -> None:
        self.run, self.phase, self.number, self.epochs, self.optimizers = run, phase, number, epochs, optimizers
        self.average = average  # of the weights; None where the recipe wants none
        self.before = run.trained.get(phase.name, 0)  # epochs of earlier phases of this name
        self.epoch = self.step = self.skipped = 0
        self.complete = False  # whether it was trained to its end by an earlier session
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}  # a player may have several updates a batch, or none
        self.rows: list[tuple[str, str, int, str, str, float]] = []
        self.saved = time.monotonic()
        self.file = self.file_of(number)

    def file_of(self, number: int) -> Path | None:
        """The checkpoint of a phase."""
        return self.run.folder / f"phase-{number:02d}.pt" if self.run.folder else None

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        if self.run.rehearsal:
            return "the rehearsal"
        phase = "" if self.phase.name == Phase.name else f"phase '{self.phase.name}', "
        return f"{self.run.title}, {phase}epoch {min(self.epoch + 1, self.epochs)} of {self.epochs}"

    def add(self, player: str, terms: Terms) -> None:
        """Count the terms of one update."""
        at_hand = self.run.device.type == "cpu"
        for name, term in terms.items():
            key = name if player == "student" else f"{player} {name}"
            value = term.item() if at_hand else term.detach().double()
            self.sums[key] = self.sums.get(key, 0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
            if at_hand and not math.isfinite(value):
                self.look()

    def look(self) -> None:
        """Stop if a loss is NaN or infinite.

        Raises:
            Diverged: naming the method, the phase, the epoch and the term.
        """
        if bad := {name: float(value) for name, value in self.sums.items() if not math.isfinite(float(value))}:
            names = " and ".join(f"'{name}'" for name in bad)  # several, where one spoilt the others since the last look
            raise self.diverged(f"the term{'s' * (len(bad) > 1)} {names} became {next(iter(bad.values()))}")

    def diverged(self, what: str, remedy: str = "try a smaller recipe.lr, recipe.clip=5 or recipe.warmup_epochs=1"
                 ) -> Diverged:
        """An error that says what went wrong, where, and what to try."""
        return Diverged(f"{what} in {self.run.title}, method {type(self.run.method).__name__}, phase '{self.phase.name}', "
                        f"epoch {min(self.epoch + 1, self.epochs)}; {remedy}")

    def skip(self, undo: StepSnapshot, player: str, terms: Terms) -> None:
        """Leave the present batch out: no weight was moved by it, and what else it changed is taken back.

        Raises:
            Diverged: it is one too many.
        """
        undo()
        bad = next((name for name, term in terms.items() if not term.isfinite()), None)
        what = f"the gradient of '{player}'" if bad is None else f"the term '{bad}'"
        most = self.run.recipe.skip_bad_batches
        if self.run.skipped >= most:
            raise self.diverged(f"{what} was NaN or infinite in one batch more than recipe.skip_bad_batches={most} allows")
        self.run.skipped, self.skipped = self.run.skipped + 1, self.skipped + 1
        self.run.screen.note(f"{self.place}: {what} was NaN or infinite in batch {self.step + 1}; left out, "
                             f"{self.run.skipped} of at most {most}")

    def end_epoch(self, progress: Any) -> None:
        """Note the mean terms and what the networks can do by now.

        Raises:
            Diverged: a loss, or what the method makes, is worth nothing any more.
            Interrupted: after saving; the epoch's last step is done, and its validation is still to do.
        """
        self.look()
        run, epoch = self.run, self.before + self.epoch
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        rows = [(run.role, self.phase.name, epoch, "train", name, value) for name, value in means.items()]
        if self.skipped:
            rows.append((run.role, self.phase.name, epoch, "train", "skipped_batches", float(self.skipped)))
        if not run.rehearsal and (failure := run.method.failure()):
            raise self.diverged(*failure)
        headline = None
        if self.phase.evaluate and len(run.data.validation) and not run.rehearsal:
            try:
                with self.average.shown() if self.average is not None else contextlib.nullcontext():
                    validated, headline = self.validate(epoch)
            except signals.Interrupted as asked:
                self.save()
                asked.place = self.place
                raise
            rows += validated
        self.rows += rows
        progress.epoch(self.epoch + 1, means, headline)
        self.epoch, self.step, self.skipped, self.sums, self.counts = self.epoch + 1, 0, 0, {}, {}

    def validate(self, epoch: int) -> tuple[list[tuple[str, str, int, str, str, float]], float | None]:
        """What the networks can do on the validation split: (rows of the history, the student's headline)."""
        run, task, split = self.run, self.run.data.task, self.run.data.validation
        rows, headline = [], None
        for name, network in run.scheme.trained_networks(run.method.trained_networks(run.networks), run.networks).items():
            measures = task.measures(answers(network, run.data, split, run.device), split)
            role = run.role if name == "student" else name
            rows += [(role, self.phase.name, epoch, "validation", measure, value) for measure in task.watched
                     if (value := measures[measure]) is not None]
            headline = measures[task.headline] if name == "student" else headline
        return rows, headline

    def save_if_due(self) -> None:
        """Save when the time has come; save and stop where somebody wants that.

        Raises:
            Interrupted: after saving.
        """
        stop = self.asked_to_stop()
        if stop or time.monotonic() - self.saved >= self.run.every:
            self.save()
        if stop:
            signals.stop(self.place)

    def asked_to_stop(self) -> bool:
        """Whether to stop after this step. Several processes have to stop after the same one: every few they ask."""
        if distributed.count() == 1:
            return signals.pending()
        return self.step % self.LOOK == 0 and distributed.any_of(signals.pending(), self.run.device)

    def finish(self) -> None:
        """Hand the phase's measures over to the run's history, and save the phase's end.

        Raises:
            Diverged: the last update made a weight NaN or infinite.
        """
        if not self.run.rehearsal and (bad := first_bad(self.run.learned)):
            raise self.diverged(f"'{bad}' became NaN or infinite")
        self.run.history += self.rows
        if self.complete:
            return
        if self.average is not None:
            self.average.settle()
        self.save()
        if self.number and (before := self.file_of(self.number - 1)):
            checkpoint.previous(before).unlink(missing_ok=True)

    def save(self) -> None:
        """Write everything that the rest of the training depends on, whole or not at all."""
        self.saved = time.monotonic()
        if self.file is None or not distributed.first():
            return
        self.look()
        state = {
            "epoch": self.epoch, "step": self.step, "sums": self.sums, "counts": self.counts,
            "skipped": self.skipped, "skipped by now": self.run.skipped, "rows": [list(row) for row in self.rows],
            "networks": {name: module.state_dict() for name, module in self.run.learners.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.run.generator.get_state(), "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.run.device.type == "cuda" else None,
            "seconds": self.run.seconds, "threads": torch.get_num_threads(),
            "average": self.average.state_dict() if self.average is not None else None,
        }
        checkpoint.write(self.file, state)

    def load(self) -> None:
        """Go on where an interrupted run stopped, if there was one.

        Raises:
            ValueError: the checkpoint is of another network or method.
        """
        state = checkpoint.read(self.file, self.run.device, self.run.screen.note) if self.file else None
        if state is None:
            return
        try:
            self.restore(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"the checkpoint {self.file} does not fit the run, other code may have made it "
                             f"({str(error).splitlines()[0]}); remove its folder to begin anew") from error
        if state["threads"] != self.run.threads:
            self.run.threads = state["threads"]  # once is enough: earlier phases have checkpoints too
            self.run.screen.note(f"{self.place}: it was begun by {counted(state['threads'], 'thread')}, and "
                                 f"{torch.get_num_threads()} go on; the last bits may differ from a run in one go")

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.complete = self.epoch >= self.epochs
        self.skipped, self.run.skipped = state["skipped"], state["skipped by now"]
        self.run.began = time.perf_counter() - state["seconds"]
        self.sums, self.counts = state["sums"], state["counts"]
        self.rows = [tuple(row) for row in state["rows"]]
        for name, module in self.run.learners.items():
            module.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.run.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] is not None and self.run.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu())
