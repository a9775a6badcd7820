"""A run: the teacher, the student alone, the student taught, and what all of them measure."""

import json
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrun import __version__
from kdrun.config import registry, speed
from kdrun.config.identity import identity, run_folder
from kdrun.config.instantiation import instantiate
from kdrun.config.recipe import Recipe
from kdrun.config.schema import ConfigError, Settings
from kdrun.config.validation import problems
from kdrun.data.configured import read_dataset
from kdrun.data.data import Data
from kdrun.data.mixing import Mixing
from kdrun.data.stream import MemoryStream
from kdrun.evaluation import metrics, result_tables
from kdrun.methods.base import Method, Product, Run, Scheme
from kdrun.methods.baseline.vanilla import Trajectory, Vanilla
from kdrun.methods.fitting import alternatives, check_network
from kdrun.models.configured import dataset_node, teacher_specs
from kdrun.models.description import describe
from kdrun.models.factory import NetworkFactory, NetworkSpec
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import answers
from kdrun.models.roles import Frozen, Networks
from kdrun.storage import resume
from kdrun.storage.fingerprint import CAST, LOOP, fingerprint
from kdrun.storage.finished import CURVES, finished, weights_file
from kdrun.storage.network_store import Store, save_product, save_weights
from kdrun.storage.teacher_cache import GIGABYTE, Answers, digest_of_weights
from kdrun.training.loop import Diverged, distill
from kdrun.training.trained import TrainedNetwork
from kdrun.utils import distributed
from kdrun.utils.files import digest_of, write_atomically
from kdrun.utils.memory_limits import LEARNING, allowed
from kdrun.utils.names import file_name
from kdrun.utils.progress import Progress
from kdrun.utils.wording import counted, measure_name

__all__ = ["Experiment", "run"]


def run(settings: Settings, screen: Progress, folder: Path | None = None, other_code: resume.OtherCode = "anew"
        ) -> list[dict[str, Any]]:
    """Do a run and write its files, unless it is done already. Returns its rows.

    Args:
        settings: of the run.
        screen: shows progress.
        folder: of the run; None for the one that its settings name.
        other_code: what becomes of checkpoints that other code made.

    Raises:
        ConfigError: something does not fit together; nothing was trained.
        Diverged: a loss became NaN or infinite.
        Interrupted: on Ctrl-C or SIGTERM where they are heeded; what was done is saved.
    """
    folder = folder or run_folder(settings)
    if distributed.asked():
        screen = join(settings, screen)
    if not settings.run.rerun and (found := distributed.same(
            finished(folder, screen.note) if distributed.first() else None)):
        screen.note(f"finished before ({folder}); rerun=true does it again")
        return found
    experiment = Experiment.prepare(settings, screen)
    if distributed.first():
        resume.begin(folder, settings, str(experiment.device), screen.note, other_code)
    distributed.wait()
    teachers = experiment.teachers()
    baseline = experiment.alone(experiment.student, "baseline")
    measures = settings.measures
    for line in result_tables.weak_teachers(experiment.data, [*teachers, baseline], measures):
        screen.warn(line)
    students = experiment.distilled(folder / resume.CHECKPOINTS)
    for line in result_tables.weak_teachers(experiment.data, [baseline, *students], measures):  # teachers that learned along
        screen.warn(line)
    rows = distributed.same(experiment.write(folder, [*teachers, baseline, *students]) if distributed.first() else [])
    distributed.stop()
    return rows


def join(settings: Settings, screen: Progress) -> Progress:
    """Join the other processes of this run; returns where this one shows its progress.

    Raises:
        ConfigError: the run cannot be shared out.
    """
    if settings.teacher.remember:
        raise ConfigError(["teacher.remember: a teacher that several processes share is not remembered; set "
                       "teacher.remember=false, or start one process"])
    try:
        distributed.start(settings.run.device)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    return screen if distributed.first() else Progress(None)


@dataclass
class Experiment:
    """What a run is made of: all of it known to fit together before anything is trained."""

    settings: Settings
    screen: Progress
    data: Data
    recipe: Recipe
    device: torch.device
    store: Store
    student: NetworkSpec
    teacher_specs: list[NetworkSpec]
    trained: dict[str, TrainedNetwork] = field(default_factory=dict)
    extra_tables: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    memories: list[Answers] = field(default_factory=list)

    @classmethod
    def prepare(cls, settings: Settings, screen: Progress) -> "Experiment":
        """Read the data, build the networks, and rehearse: one small step of every phase.

        Raises:
            ConfigError: with all that was found wrong.
        """
        if found := problems(settings):
            raise ConfigError(found)
        assert settings.run.threads is not None, "settings know the number of cores"
        torch.set_num_threads(settings.run.threads)
        chosen = settings.run.device
        device = distributed.start(chosen) if distributed.asked() else torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen)
        data = read_dataset(dataset_node(settings))
        speed.apply(settings.speed, device)  # from here on freed memory is kept, and reading frees as much as the set takes
        if data.found:
            screen.note(data.found)
        experiment = cls(settings, screen, data, settings.recipe, device,
                         Store(settings.outputs / "store", screen.note), NetworkSpec.read(settings.student.node, "student"),
                         teacher_specs(settings, data))
        experiment.rehearse()
        return experiment

    def rehearse(self) -> None:
        """Build every network, check the user's weights, and take one small step of each phase of the method.

        Raises:
            ConfigError: naming what does not fit.
        """
        needs, task = self.method().all_needs(), self.data.task
        found = [f"method={self.settings.method}: {who} needs {need}, which {task.key} of {task.inputs} has not"
                 + alternatives(self.settings.choices["method"], task)
                 for need, who in needs.items() if need not in task.gives]
        own = sum(name.startswith("teacher") for name in self.data.views)
        if own > 1 and self.teacher_specs and own != len(self.teacher_specs):
            found.append(f"dataset.teacher_sees names {own} modalities, one for each teacher, but teachers are "
                         f"{len(self.teacher_specs)}; name as many")
        named = zip(self.factory(rehearsal=True).teacher_names, self.teacher_specs, strict=True)
        for name, spec in (("student", self.student), *named):
            role = name.partition(" ")[0]
            try:
                frozen = role == "teacher" and spec.checkpoint
                with allowed(1 if frozen else LEARNING, self.on_host):
                    started = check_network(spec, self.data.seen(name).only(spec.classes), needs, by_steps=
                                            role == "student" and not self.method().accepts_fitted_student)
                if started:
                    self.screen.note(f"{role} {spec.name}: {started}")
                if "maps" in needs and (kind := self.data.seen(name).task.inputs) != task.inputs:
                    found.append(f"method={self.settings.method}: {needs['maps']} compares maps place by place, and those of "
                                 f"{kind} ({name}) and of {task.inputs} (student) have no places in common; choose a method "
                                 "of answers or embeddings, or modalities of one kind")
            except (ValueError, RuntimeError) as error:
                line = str(error).splitlines()[0]
                found.append(f"{role}.{line}" if line.startswith("checkpoint") else f"{role} {spec.name}: {line}")
        if found:
            raise ConfigError(found)
        try:
            with allowed(on_host=self.on_host):
                rehearsal = self.run_of("rehearsal", "student", self.method(), self.scheme(), self.factory(rehearsal=True),
                                        batch_size=min(8, self.recipe.batch_size))
                rehearsal.screen, rehearsal.rehearsal = Progress(None), True
                distill(rehearsal)
        except ValueError as error:
            raise ConfigError([f"method={self.settings.method}: {line}" for line in str(error).splitlines()]) from error
        for line in rehearsal.method.all_notes():
            self.screen.note(line)
        if self.data.pool is not None and not rehearsal.uses_pool:
            self.screen.note(f"method={self.settings.choices['method']} does not use the {len(self.data.pool)} training "
                             f"samples without labels (dataset.labelled={self.data.settings.labelled})")

    @property
    def on_host(self) -> bool:
        """Whether networks are trained in the machine's own memory."""
        return self.device.type == "cpu"

    def method(self) -> Method:
        """The method, anew."""
        return instantiate(self.settings.node("method"), "method")

    def scheme(self) -> Scheme:
        """The scheme, anew."""
        return instantiate(self.settings.node("scheme"), "scheme")

    def factory(self, rehearsal: bool = False, data: Data | None = None) -> NetworkFactory:
        """Where the scheme and the method get their networks."""
        precision = torch.bfloat16 if self.settings.run.precision == "bf16" else None
        factory = NetworkFactory(self.student, self.teacher_specs, data or self.data, self.settings.seed, self.device,
                                 precision)
        factory.memory_format = speed.memory_format(self.settings.speed.memory_format)
        if not rehearsal:
            factory.compiled = self.settings.speed.compile
            factory.train, factory.follow = lambda spec, part: self.alone(spec, part).network, self.followed
            factory.stop = lambda spec, part, share: self.alone(spec, part, share=share).network
            if self.settings.teacher.remember:
                factory.remember = self.remember
        return factory

    def remember(self, role: Frozen, spec: NetworkSpec, stays: bool) -> None:
        """Give a frozen network a memory of its answers to the training batches."""
        teacher = self.settings.teacher
        data = self.data.seen(role.view)
        processor = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else \
            torch.backends.cpu.get_cpu_capability()  # which kernels run, and with them the last bits
        key = {"weights": digest_of_weights(role.network), "network": spec.settings, "data": data.digest,
               "precision": str(role.precision), "device": self.device.type, "processor": processor,
               "speed": self.settings.speed.shaping(),
               "threads": torch.get_num_threads(), "software": fingerprint(*CAST, *resume.targets(spec.settings))}
        label = f"{data.settings.name}-{role.name.replace(' ', '_')}-{spec.name}-s{self.settings.seed}"
        role.memory = Answers(self.store.root / "answers", f"{role.name} {spec.name}", label, key,
                              half=teacher.remember == "half", most=teacher.remember_gb * GIGABYTE, ahead=stays,
                              note=self.screen.note)
        self.memories.append(role.memory)

    def run_of(self, title: str, role: str, method: Method, scheme: Scheme, factory: NetworkFactory,
               networks: Networks | None = None, folder: Path | None = None, batch_size: int | None = None,
               recipe: Recipe | None = None) -> Run:
        """A training by this run's recipe, if by no other, on the data that its networks are for."""
        seed, data, recipe = self.settings.seed, factory.data, recipe or self.recipe
        size = batch_size or recipe.batch_size

        def stream() -> MemoryStream:
            return data.stream(batch_size=size, seed=seed, device=self.device, mixing=Mixing(recipe.mixup, recipe.cutmix, seed))

        return Run(title, role, method, scheme, networks or scheme.networks(factory), data, stream, recipe, seed,
                   self.device, factory, self.screen, folder, self.settings.run.checkpoint_seconds)

    def teachers(self) -> list[TrainedNetwork]:
        """The trained teachers, where the scheme has one that is trained first."""
        if not self.scheme().trained_teacher:
            return []
        return [self.alone(spec, part) for spec, part in zip(self.teacher_specs, self.factory().teacher_names, strict=True)]

    def followed(self, spec: NetworkSpec, role: str, count: int) -> list[nn.Module]:
        """A teacher at so many moments of its training.

        Raises:
            ValueError: it is the user's own, whose training nobody saw.
        """
        if spec.checkpoint and not spec.start:
            raise ValueError(f"the way of {spec.checkpoint} to its weights is not known; leave teacher.checkpoint out")
        factory = []
        for state in self.alone(spec, role, count).states:
            network = spec.build(self.data.seen(role)).to(self.device)
            network.load_state_dict(state)
            factory.append(network)
        return factory

    def alone(self, spec: NetworkSpec, role: str, states: int = 0, share: float = 1.0) -> TrainedNetwork:
        """A network trained on the labels alone: the teacher, or the student as its own baseline.

        Args:
            spec: which network.
            role: teacher, teacher 2, ... or baseline.
            states: how many states on the way to keep beside the last.
            share: of its recipe's epochs, over which the schedule then runs whole.
        """
        recipe = self.recipe if role == "baseline" else self.settings.teacher_recipe
        recipe = replace(recipe, epochs=max(1, round(share * recipe.epochs)))
        title = f"{role} {spec.title}" + (f", {states} states" if states else "") + (
            f", {counted(recipe.epochs, 'epoch')}" if share < 1 else "")
        if title in self.trained:
            return self.trained[title]
        data = self.data.seen(role).only(spec.classes)
        factory = self.factory(data=data)
        part = "student" if role == "baseline" else role  # the baseline starts from the student's first weights
        actor = factory.begun(spec, part)
        if spec.checkpoint and not spec.start:
            made = TrainedNetwork(role, spec.name, actor.network, answers(actor, data, data.test, self.device), None, None,
                        origin="checkpoint", checkpoint=digest_of(spec.checkpoint))
        else:
            key = {"network": spec.settings, "data": data.digest, "part": part, "seed": self.settings.seed,
                   "recipe": {name: value for name, value in asdict(recipe).items() if name != "name"},
                   "precision": self.settings.run.precision, "device": self.device.type,
                   "software": fingerprint(*LOOP, type(self.data.task).__module__, *resume.targets(spec.settings)),
                   "speed": self.settings.speed.shaping()}
            key |= {"threads": torch.get_num_threads()} if self.device.type == "cpu" else {}
            key |= {"states": states} if states else {}
            key |= {"start": digest_of(spec.checkpoint), "new_head": spec.new_head} if spec.checkpoint else {}

            def train(folder: Path) -> TrainedNetwork:
                method = Trajectory(count=states, epochs=recipe.epochs) if states else Vanilla()
                training = self.run_of(title, role, method, Scheme(), factory, Networks(actor), folder, recipe=recipe)
                distill(training)
                seconds = training.seconds
                found, size = tested(training, actor, data), metrics.size(actor.network)
                states_kept = method.states if isinstance(method, Trajectory) else []
                epochs = sum(training.trained.values()) or None
                made = TrainedNetwork(role, spec.title, actor.network, found, epochs, seconds, training.history, states_kept,
                                      description=describe(actor.network, data, role, spec.name))
                made.measures = made.measured(data) | {"parameters": size.parameters if size else None}
                return made

            label = f"{data.settings.name}-{part.replace(' ', '_')}-{spec.name}-s{self.settings.seed}"
            made = self.store.fetch(label, key, actor.network, train)
        made.classes, task = spec.classes, self.data.task
        headline = made.measured(self.data)[task.headline]
        source = {"trained": "trained", "store": "from store", "checkpoint": f"from {spec.checkpoint}"}[made.origin]
        self.screen.note(f"{title}: {source}, test {measure_name(task.headline)} {100 * (headline or 0):.2f} %")
        self.trained[title] = made
        return made

    def distilled(self, folder: Path) -> list[TrainedNetwork]:
        """The student, taught; and whatever else the training makes."""
        scheme, factory = self.scheme(), self.factory()
        training = self.run_of(f"student {self.student.name}", "student", self.method(), scheme, factory, folder=folder)
        distill(training)
        seconds = training.seconds
        for memory in self.memories:
            self.screen.note(f"{memory.title}: {memory.tally}")
        epochs = sum(training.trained.values())
        trained_networks = scheme.trained_networks(training.method.trained_networks(training.networks), training.networks)
        made = []
        for role, network in trained_networks.items():
            bare, model = getattr(network, "network", network), getattr(network, "model", "") or self.student.name
            made.append(TrainedNetwork(role, model, bare, tested(training, network, self.data), epochs, seconds,
                                       training.history if role == "student" else [], description=describe(
                                           bare, self.data.seen(getattr(network, "view", None)), role, model)))
        self.extra_tables, self.products = training.method.extra_tables(training), training.method.products(training)
        return made

    def write(self, folder: Path, made: list[TrainedNetwork]) -> list[dict[str, Any]]:
        """Write the run's files; the one that says it is finished comes last."""
        card = registry.method_card(self.settings.choices["method"])
        weights = {weights_file(one.role): one for one in made if one.origin == "trained" and one.entry is None}
        for name, one in weights.items():
            save_weights(one.network, folder / name, one.description)
        products = {file_name(f"{name}.safetensors"): product for name, product in self.products.items()}
        for name, product in products.items():
            save_product(product, folder / name)
        table = result_tables.rows(folder.name, self.settings, card, self.data, made)
        for row, one in zip(table, made, strict=True):
            kept = self.store.root / one.entry / "weights.safetensors" if one.entry else folder / weights_file(one.role)
            row["file_bytes"] = kept.stat().st_size if kept.exists() else None  # the user's own file is in a form of its own
        history = result_tables.history(folder.name, made)
        tables: dict[str, tuple[list[dict[str, Any]], tuple[str, ...] | None]] = {
            "results.csv": (table, result_tables.columns(self.data.task)),
            "history.csv": (history, result_tables.HISTORY_COLUMNS),
            "per_class.csv": (result_tables.per_class(folder.name, self.data, made), result_tables.PER_CLASS_COLUMNS),
            "calibration.csv": (result_tables.calibration(folder.name, self.data, made), result_tables.CALIBRATION_COLUMNS),
            **{file_name(f"{name}.csv"): ([{"run": folder.name, **row} for row in report], None)
               for name, report in self.extra_tables.items()}}
        for name, (rows, columns) in tables.items():
            result_tables.write_csv(folder / name, rows, columns)
        from kdrun.analysis.plots.run_curves import learning_curves  # with matplotlib

        learning_curves(history, folder / CURVES, self.settings.choices["method"], self.data.task.headline)
        told = {"status": "finished", "identity": identity(self.settings), "choices": self.settings.choices,
                "settings": self.settings.values, "kdrun": __version__, "torch": torch.__version__,
                "python": platform.python_version(), "machine": platform.machine(), "device": str(self.device),
                "threads": torch.get_num_threads(), "processes": distributed.count(),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "entries": {one.role: one.entry for one in made if one.entry},
                "checkpoints": {one.role: one.checkpoint for one in made if one.checkpoint},
                "starts": {role: digest_of(spec.checkpoint) for role, spec in (
                    ("student", self.student), *(("teacher", spec) for spec in self.teacher_specs))
                    if spec.checkpoint and spec.start},
                "files": {name: digest_of(folder / name) for name in (*tables, *weights, *products)},
                "networks": {name: asdict(one.description) for name, one in weights.items() if one.description},
                "curves": (folder / CURVES).exists(), "data": self.data.digest,
                "remembered": [memory.description() for memory in self.memories], "rows": table}
        write_atomically(folder / "run.json", lambda path: path.write_text(json.dumps(told, indent=1, default=str)))
        shutil.rmtree(folder / resume.CHECKPOINTS, ignore_errors=True)
        return table


def tested(training: Run, network: nn.Module, data: Data) -> ModelOutput:
    """What a network that was just trained answers to the test set.

    Raises:
        Diverged: NaN.
    """
    found = answers(network, data, data.test, training.device)
    if bool(found.logits.isnan().any()):
        raise Diverged(f"the answers to the test set are NaN in {training.title}, method {type(training.method).__name__}; "
                       "try a smaller recipe.lr or recipe.clip=5")
    return found
