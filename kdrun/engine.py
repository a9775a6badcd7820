"""The one training loop, and the phases it runs."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kdrun.cast import Cast, Role
from kdrun.data.batch import Batch
from kdrun.data.data import Data
from kdrun.data.pictures import Pictures
from kdrun.data.stream import PictureStream
from kdrun.files import write_atomically
from kdrun.method import Method, Phase, Terms
from kdrun.randomness import generator, seed_of
from kdrun.recipe import Recipe
from kdrun.schemes import Scheme

if TYPE_CHECKING:
    from kdrun.networks import Networks
    from kdrun.terminal import Screen

__all__ = ["Diverged", "Run", "distill", "predict"]


class Diverged(RuntimeError):
    """A loss became NaN or infinite."""


@dataclass
class Run:
    """One training: a method, a scheme and a cast on some data, by a recipe.

    Attributes:
        title: what progress calls it: "teacher resnet20", ...
        role: what history calls it: teacher, baseline or student.
        networks: where a method gets further networks from.
        screen: shows progress.
        folder: where checkpoints go; None for none.
        every: seconds between checkpoints.
        rehearsal: run one small step of each phase and nothing else, to find out before any training what does not fit.
        history: (role, phase, epoch, split, metric, value), an entry for each thing measured.
        generator: draws whatever the method chooses at random.
    """

    title: str
    role: str
    method: Method
    scheme: Scheme
    cast: Cast
    data: Data
    build_stream: Callable[[], PictureStream]
    recipe: Recipe
    seed: int
    device: torch.device
    networks: "Networks"
    screen: "Screen"
    folder: Path | None = None
    every: float = 60.0
    rehearsal: bool = False
    history: list[tuple[str, str, int, str, str, float]] = field(default_factory=list)
    generator: torch.Generator = field(init=False)
    optimizers: dict[str, dict[str, torch.optim.Optimizer]] = field(default_factory=dict)
    trained: dict[str, int] = field(default_factory=dict)  # epochs done by phases of this name

    def __post_init__(self) -> None:
        self.generator = generator("method", self.seed)
        self.method.label_smoothing = self.recipe.label_smoothing

    @cached_property
    def stream(self) -> PictureStream:
        """The training batches: built when first asked for, so never where a method makes its own data."""
        return self.build_stream()

    @property
    def learners(self) -> dict[str, nn.Module]:
        """Everything that training changes: what a checkpoint holds."""
        roles = [role for role in self.cast if any(weight.requires_grad for weight in role.parameters())]
        return {**{f"{number} {role.name}": role.network for number, role in enumerate(roles)},
                "method": self.method, "scheme": self.scheme}


def distill(run: Run) -> None:
    """Train what the method's phases say, in their order. Finished phases of an interrupted run are only loaded."""
    torch.manual_seed(seed_of("global", run.seed))  # dropout, and the first weights of a method's modules
    for number, phase in enumerate(run.method.phases(run)):
        fit(run, phase, number)


def fit(run: Run, phase: Phase, number: int) -> None:
    """Train one phase: the loop that every method of every family runs in."""
    method, scheme, cast, recipe = run.method, run.scheme, run.cast, run.recipe
    stream = run.stream if phase.data is None else phase.data
    epochs = 1 if run.rehearsal else recipe.epochs if phase.epochs is None else phase.epochs
    players = scheme.players({"student": phase.train} if phase.train is not None else method.players(cast), cast)
    params = {player: own_parameters(modules) for player, modules in players.items()}
    owned = owners(params, cast, method.rivals)
    optimizers = continued(run, phase.name, params)
    position = Position(run, phase, number, optimizers)
    position.load()
    before = position.before
    total = max(phase.total or 0, before + epochs)
    start, length = (before, epochs) if phase.restart else (0, total)  # what the schedule runs over
    with run.screen.phase(run.title, phase.name, epochs, len(stream)) as progress:
        while position.epoch < epochs:
            modes(cast, method, players)
            epoch = before + position.epoch
            for batch in stream.epoch(epoch, total, position.step):
                rate = recipe.rate(epoch - start + batch.step / len(stream), length)
                moves = method.step(cast, batch) if phase.loss is None else [("student", phase.loss(cast, batch))]
                for player, terms in scheme.moves(moves, cast, batch):
                    optimizer = optimizers[player]
                    set_rate(optimizer, rate / recipe.lr)
                    optimizer.zero_grad(set_to_none=True)
                    torch.stack(list(terms.values())).sum().backward(inputs=params[player])  # only this player's
                    if recipe.clip is not None:
                        nn.utils.clip_grad_norm_(params[player], recipe.clip)
                    optimizer.step()
                    for role in owned[player]:
                        role.moved()
                    position.add(player, terms)
                position.step += 1
                progress.step()
                if run.rehearsal:
                    break
                position.save_if_due()
            for role in cast:
                role.forget()
            position.end_epoch(progress)
    position.finish()
    run.trained[phase.name] = before + epochs


class Position:
    """Where a phase stands: what a checkpoint holds, and the loss terms of the epoch so far.

    Terms are summed on the device and looked at every few steps, so that an accelerator is not kept waiting.
    """

    LOOK = 50  # steps between two looks at whether the loss is still a number

    def __init__(self, run: Run, phase: Phase, number: int, optimizers: dict[str, torch.optim.Optimizer]) -> None:
        self.run, self.phase, self.number, self.optimizers = run, phase, number, optimizers
        self.before = run.trained.get(phase.name, 0)  # epochs of earlier phases of this name
        self.epoch = self.step = 0
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}  # a player may have several updates a batch, or none
        self.rows: list[tuple[str, str, int, str, str, float]] = []
        self.saved = time.monotonic()
        self.file = run.folder / f"phase-{number:02d}.pt" if run.folder else None

    def add(self, player: str, terms: Terms) -> None:
        """Count the terms of one update."""
        for name, term in terms.items():
            key = name if player == "student" else f"{player} {name}"
            self.sums[key] = self.sums.get(key, 0) + term.detach().double()
            self.counts[key] = self.counts.get(key, 0) + 1
        if self.step % self.LOOK == 0:
            self.look()

    def look(self) -> None:
        """Stop if a loss is no number any more.

        Raises:
            Diverged: naming the method, the phase, the epoch and the term.
        """
        for name, value in self.sums.items():
            if not math.isfinite(float(value)):
                method = type(self.run.method).__name__
                raise Diverged(f"the term '{name}' became {float(value)} in {self.run.title}, method {method}, phase "
                               f"'{self.phase.name}', epoch {self.epoch + 1}; try a smaller recipe.lr, recipe.clip=5 or "
                               "recipe.warmup_epochs=1")

    def end_epoch(self, progress: Any) -> None:
        """Note the mean terms and what the networks can do by now."""
        self.look()
        run, epoch = self.run, self.before + self.epoch
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        self.rows += [(run.role, self.phase.name, epoch, "train", name, value) for name, value in means.items()]
        accuracy = None
        if self.phase.evaluate and len(run.data.validation) and not run.rehearsal:
            for name, network in run.scheme.products(run.method.products(run.cast), run.cast).items():
                logits = predict(network, run.data, run.data.validation, run.device)
                labels = run.data.validation.labels
                right = float((logits.argmax(1) == labels).double().mean())
                loss = float(nn.functional.cross_entropy(logits.double(), labels))
                role = run.role if name == "student" else name
                self.rows += [(role, self.phase.name, epoch, "validation", "accuracy", right),
                              (role, self.phase.name, epoch, "validation", "nll", loss)]
                accuracy = right if name == "student" else accuracy
        progress.epoch(self.epoch + 1, means, accuracy)
        self.epoch, self.step, self.sums, self.counts = self.epoch + 1, 0, {}, {}

    def save_if_due(self) -> None:
        """Save when the time has come."""
        if time.monotonic() - self.saved >= self.run.every:
            self.save()

    def finish(self) -> None:
        """Hand the phase's measures over to the run's history, and save the phase's end."""
        self.run.history += self.rows
        self.save()

    def save(self) -> None:
        """Write everything that the rest of the training depends on, whole or not at all."""
        self.saved = time.monotonic()
        if self.file is None:
            return
        self.look()
        state = {
            "epoch": self.epoch, "step": self.step, "sums": self.sums, "counts": self.counts,
            "rows": [list(row) for row in self.rows],
            "networks": {name: module.state_dict() for name, module in self.run.learners.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "generator": self.run.generator.get_state(), "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.run.device.type == "cuda" else None,
        }
        write_atomically(self.file, lambda path: torch.save(state, path))

    def load(self) -> None:
        """Go on where an interrupted run stopped, if there was one."""
        if self.file is None or not self.file.exists():
            return
        state = torch.load(self.file, map_location=self.run.device, weights_only=True)
        self.epoch, self.step = state["epoch"], state["step"]
        self.sums, self.counts = state["sums"], state["counts"]
        self.rows = [tuple(row) for row in state["rows"]]
        for name, module in self.run.learners.items():
            module.load_state_dict(state["networks"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.run.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["cpu"].cpu())
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"].cpu())


def own_parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """What a player trains: the trainable parameters of its modules, each once."""
    found = {id(weight): weight for module in modules for weight in module.parameters() if weight.requires_grad}
    return list(found.values())


def owners(params: dict[str, list[nn.Parameter]], cast: Cast, rivals: bool = False) -> dict[str, list[Role]]:
    """Which roles each player moves.

    Raises:
        ValueError: a player owns no parameter, or two own one and are no rivals.
    """
    owner: dict[int, str] = {}
    for player, weights in params.items():
        if not weights:
            raise ValueError(f"player '{player}' has no parameter to train")
        for weight in weights:
            if owner.setdefault(id(weight), player) != player and not rivals:
                raise ValueError(f"players '{owner[id(weight)]}' and '{player}' own the same parameter")
    ids = {player: {id(weight) for weight in weights} for player, weights in params.items()}
    return {player: [role for role in cast if any(id(weight) in own for weight in role.parameters())]
            for player, own in ids.items()}


def continued(run: Run, name: str, params: dict[str, list[nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """The optimizers of a phase: those of an earlier phase of this name if they train the same, else new ones."""
    kept = run.optimizers.setdefault(name, {})  # stays empty for a phase in which nobody learns
    same = kept.keys() == params.keys() and all(
        [id(weight) for weight in kept[player].param_groups[0]["params"]] == [id(weight) for weight in weights]
        for player, weights in params.items())
    if not same:
        run.optimizers[name] = {}
        for player, weights in params.items():
            optimizer = run.method.optimizer(player, weights, run.recipe)
            for group in optimizer.param_groups:
                group["height"] = group["lr"]
            run.optimizers[name][player] = optimizer
    return run.optimizers[name]


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every learning rate to this share of its height; a group that says `"scheduled": False` keeps its own."""
    for group in optimizer.param_groups:
        group["lr"] = group["height"] * (share if group.get("scheduled", True) else 1.0)


def modes(cast: Cast, method: Method, players: Mapping[str, Sequence[nn.Module]]) -> None:
    """Training mode for what learns and evaluation mode for all else: frozen statistics stay as they are."""
    for module in (*cast, method):
        module.eval()
    for modules in players.values():
        for module in modules:
            module.train()
    for module in (*cast, method):
        for part in module.modules():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.eval()


def predict(network: nn.Module, data: Data, pictures: Pictures, device: torch.device) -> Tensor:
    """The logits [N, K] of a network for a split as it sees it, on the CPU. It is left in evaluation mode."""
    network.eval()
    answers = []
    view = getattr(network, "view", None)
    with torch.inference_mode():
        for x, _ in data.seen(view).plain(pictures, device):
            answers.append(network(x if view is None else Batch(x, views={view: x})).logits.float().cpu())
    if isinstance(network, Role):
        network.forget()
    return torch.cat(answers).clone()

