"""Networks of finished runs, loaded again. What a run's folder says is text from anywhere: it is checked before it is used."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from kdrun.analysis.run_index import Collection as Collected
from kdrun.config import registry
from kdrun.config.schema import ConfigError, Settings
from kdrun.config.targets import known_targets, strangers
from kdrun.config.validation import problems
from kdrun.data.batch import Batch
from kdrun.data.configured import read_dataset
from kdrun.data.data import Data
from kdrun.data.samples import Samples
from kdrun.evaluation.metrics import accuracy
from kdrun.models.configured import dataset_node, teacher_specs
from kdrun.models.factory import NetworkFactory, NetworkSpec, load_checkpoint, read_weights
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import predict
from kdrun.models.roles import STOPPED, Role
from kdrun.storage.finished import weights_file
from kdrun.storage.network_store import checked
from kdrun.utils import names
from kdrun.utils.files import digest_of

__all__ = ["Missing", "NetworkLoader", "StoredNetwork", "StoredRun", "populations"]

ELSEWHERE = {"launch": "local", "sweep": "grid"}  # says nothing of a run's networks: where it was computed


class Missing(ValueError):
    """A network that cannot be had again."""


@dataclass(frozen=True)
class StoredRun:
    """A finished run.

    Attributes:
        name: of its folder.
        seed: its seed.
        comparison: what it shares with the runs that it may be compared with.
        variant: its method, with what was set otherwise than usual.
        folder: where it lies.
        settings: its settings.
        entries: the store's entry of each role that has one.
        accuracies: on the test set as it was written down, by role.
        files: the SHA-256 of each file of its folder, as it was written down; older versions wrote none.
        checkpoints: that of the user's own weights, by role.
    """

    name: str
    seed: int
    comparison: str
    variant: str
    folder: Path
    settings: Settings
    entries: Mapping[str, str]
    accuracies: Mapping[str, float]
    files: Mapping[str, str] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def cell(self) -> tuple[str, str]:
        """What runs that differ in their seed alone share."""
        return self.comparison, self.variant


@dataclass(eq=False)
class StoredNetwork:
    """A network of a run, ready to be asked.

    Attributes:
        role: its network, in evaluation mode.
        data: of its run.
        group: what it is called beside others of its comparison: `teacher`, or the variant of a student.
        file: its weights.
    """

    role: Role
    data: Data
    group: str
    file: Path

    def logits(self, pictures: Samples) -> Tensor:
        """Its answers [N, K] to some pictures, on the CPU."""
        return predict(self.role, self.data, pictures, self.device)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next((held.device for held in (*self.role.parameters(), *self.role.buffers())), torch.device("cpu"))

    @cached_property
    def test(self) -> Tensor:
        """Its answers to the whole test set."""
        return self.logits(self.data.test)

    def sees(self, pixels: Tensor) -> Tensor:
        """Logits of pixels [B, H, W, C] from 0 to 1, through modality and normalisation; gradients pass."""
        return self.judges(self.normalised(pixels))

    def last_map(self, pixels: Tensor) -> Tensor:
        """The map at the end of the last stage, of pixels as `sees` takes them; what is pooled where there are no stages."""
        answer = self.answer(self.normalised(pixels))
        return answer.stages[-1] if answer.stages else answer.embedding

    def judges(self, pictures: Tensor) -> Tensor:
        """Logits of normalised pictures [B, C, H, W]."""
        return self.answer(pictures).logits

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels [B, H, W, C] from 0 to 1 as the network sees them."""
        return self.data.seen(self.role.view).normalise(pixels)

    def answer(self, pictures: Tensor) -> ModelOutput:
        """Its whole answer to normalised pictures [B, C, H, W]; gradients pass."""
        view = self.role.view
        answer = self.role(pictures if view is None else Batch(pictures, views={view: pictures}))
        self.role.forget()
        return answer


class NetworkLoader:
    """Loads what runs left, each data set and each network once.

    Args:
        outputs: the folder that holds runs/ and store/.
        device: where networks go.
        note: told of whatever is left out, a line each.
    """

    def __init__(self, outputs: Path, device: torch.device, note: Callable[[str], None]) -> None:
        self.store, self.device, self.note = outputs / "store", device, note
        self.read: dict[str, Data] = {}
        self.loaded: dict[Path, StoredNetwork] = {}
        self.lost: set[str] = set()

    def data(self, run: StoredRun) -> Data:
        """The run's data.

        Raises:
            ConfigError: they cannot be read any more.
        """
        node = dataset_node(run.settings)
        key = json.dumps(node, sort_keys=True, default=str)
        if key not in self.read:
            try:
                self.read[key] = read_dataset(node)
            except ConfigError as error:
                raise ConfigError([f"{run.name}: {line}; --where leaves it out" for line in error.problems]) from error
        return self.read[key]

    def networks(self, runs: Sequence[StoredRun], roles: Collection[str], pictures: bool = False
                 ) -> Iterator[tuple[StoredRun, str, StoredNetwork]]:
        """Every network of these roles that can be had; of the others it is told once why not.

        Args:
            runs: any.
            roles: of each.
            pictures: whether to leave out the runs whose samples are none.
        """
        for run in runs:
            for role in roles:
                try:
                    if pictures and (inputs := self.data(run).task.inputs) != "pictures":
                        raise Missing(f"{run.name}: its samples are {inputs}, and this is done to pictures")
                    yield run, role, self.network(run, role)
                except Missing as missing:
                    if str(missing) not in self.lost:
                        self.lost.add(str(missing))
                        self.note(f"left out: {missing}")

    def network(self, run: StoredRun, role: str) -> StoredNetwork:
        """The network of a run in a role.

        Raises:
            Missing: the run has none, or it cannot be loaded, or it does not answer as it did.
        """
        specs = dict.fromkeys(("student", "baseline"), NetworkSpec.read(run.settings.student.node, "student"))
        teachers = teacher_specs(run.settings, data := self.data(run))
        if teachers and teachers[0].classes is None:
            specs["teacher"] = specs[STOPPED] = teachers[0]
        if role not in specs:
            raise Missing(f"{role} of {run.variant}: " + ("it knows some of the classes alone" if teachers else
                                                          "it learns from no teacher"))
        spec, stored = specs[role], role in run.entries
        users = None if spec.start else spec.checkpoint  # weights of the user's own that nobody trained on
        file = self.store / run.entries[role] / "weights.safetensors" if stored else \
            users or run.folder / weights_file(role)
        if file in self.loaded:
            return self.loaded[file]
        precision = torch.bfloat16 if run.settings.run.precision == "bf16" else None
        factory = NetworkFactory(specs["student"], teachers, data, run.seed, self.device, precision)
        try:
            actor = factory.build(spec, "teacher" if role == STOPPED else role)
            if not file.is_file():
                raise ValueError(f"there is no file {file}")
            if stored:
                checked(file.parent)
            elif (digest := run.checkpoints.get(role) if users else run.files.get(file.name)) is not None \
                    and digest_of(file) != digest:
                raise ValueError(f"{file} is not what it was when the run was finished")
            if users and not stored:
                load_checkpoint(actor.network, users, spec.name)
            else:
                actor.network.load_state_dict(read_weights(file))
        except Exception as error:  # a damaged file, other code, a network that the method rebuilt
            reason = " ".join((str(error).splitlines() or [type(error).__name__])[:2])
            raise Missing(f"{role} of {run.name}: {reason}") from error
        actor.requires_grad_(False).eval()
        shared = stored or users
        group = run.variant if role == "student" else role if shared else f"{role}, {run.variant}"
        made = StoredNetwork(actor, data, group, file)
        now, then = accuracy(made.test, data.test.labels), run.accuracies.get(role)
        if then is None or abs((now or 0) - then) > 1.5 / len(data.test):  # one picture may fall on either side elsewhere
            raise Missing(f"{role} of {run.name}: it has a test accuracy of {now:.4f}, and had {then} when it was trained; "
                          "code, data or weights are others now")
        self.loaded[file] = made
        return made


def populations(found: Collected, trust: bool, note: Callable[[str], None]) -> list[StoredRun]:
    """The runs of a collection, checked.

    Args:
        found: what was collected.
        trust: whether code outside kdrun may be run where settings name it.
        note: told of each run that is left out.

    Raises:
        ConfigError: settings name code that is not kdrun's own; or no run is left.
    """
    runs, found_foreign, known = [], [], known_targets()
    for row in found.students.to_dict("records"):
        name = str(row["run"])
        told = found.runs[name]
        task = str(told["rows"][0].get("task", "classification"))  # which older versions do not name
        if task != "classification":
            note(f"left out: {name}: it is of {task}, and diagnoses are of networks that classify samples")
            continue
        here = {group: registry.load(group, choice) for group, choice in ELSEWHERE.items()}
        settings = Settings({**told["settings"], **here, "device": "auto"}, told["choices"])
        if not trust and (foreign := strangers(settings.values, known)):
            found_foreign += [f"{name}: {line}" for line in foreign]
            continue
        if lines := problems(settings):
            note(f"left out: {name}: {lines[0]}")
            continue
        entries, files, checkpoints = (texts_in(told.get(part)) for part in ("entries", "files", "checkpoints"))
        runs.append(StoredRun(name, int(row["seed"]), str(row["comparison"]), str(row["variant"]), found.folders[name],
                              settings, {role: entry for role, entry in entries.items() if names.harmless(entry)},
                              {str(one["role"]): float(one.get("headline_value", one.get("accuracy")))
                               for one in told["rows"]}, files, checkpoints))
    if found_foreign:
        raise ConfigError(found_foreign)
    if not runs:
        raise ConfigError(["there is no finished run to look at; --outputs names the folder that holds runs/, --where picks "
                           "some"])
    return runs


def texts_in(told: object) -> dict[str, str]:
    """A part of a run.json that holds a text for each name; empty where it is anything else."""
    return {str(name): str(text) for name, text in told.items()} if isinstance(told, dict) else {}
