"""Compression by several means, in any order."""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from kdrun.config.constraints import AtLeastOne, Bounds, Few, Fraction, NonNegative, Positive
from kdrun.config.recipe import Recipe
from kdrun.data.batch import Batch
from kdrun.evaluation import metrics
from kdrun.methods.base import Method, Phase, Run, Terms
from kdrun.methods.shapes import Curriculum
from kdrun.methods.structure.made import as_student, check_inputs
from kdrun.models.edited import replaced, with_channels
from kdrun.models.factorised import Energy, Form, factorised
from kdrun.models.prediction import answers
from kdrun.models.pruning import Masked, magnitude_masks, prunable_layers, slim_channels, strong_filters
from kdrun.models.quantization import Bits, Bucketed, QuantizedWeights, inner_layers
from kdrun.models.roles import Networks, Role
from kdrun.models.staged import FirstWeights, initialise
from kdrun.utils.seeding import seeded

Step = Literal["distill", "prune", "low_rank", "quantize"]
SCRATCH = "scratch"  # the role and the phase of what the result has to beat


class Compress(Curriculum):
    """Distil, prune, factorise and quantise a network one after the other, in any order (after Han, Mao and Dally 2016).

    The surveys ask in which order the means of compression are best applied. `steps` is one; `kdrun -m method=compress
    'method.steps=[distill,prune,quantize],[prune,distill,quantize]'` compares some. `distill` trains the present network by
    `base`. Each other step changes the network, estimates the statistics of its normalisations anew, and lets it recover.
    What a step did lasts: weights that were pruned stay zero whatever is trained later, and once weights are quantised, all
    later training sees them rounded. Every order of the same steps has the same epochs: those of the recipe for the
    distillation, and `recover_share` of them for each other step; where a student is not distilled first, it first learns by
    the labels alone, which takes `label_share` of the epochs of the distillation (all, where there is none).

    Sizes in the results are those of what is stored (bits: quantised weights with the ranges of their buckets, sparse ones
    with their places; parameters and FLOPs count zeros like any other, and what was cut not at all). `steps.csv` has the
    sizes and what the network can do after each step, before and after it recovered. The row `scratch` is what the
    result has to beat: the same network, with the same zeros and bits, from new weights by the labels alone in the same
    epochs; the run's seconds are those of both. Factors of a layer of which single weights were pruned have no zeros.

    On the digits (resnet8 and its 97.7 ± 0.4 % alone, wrn_16_2 teaching, `method.amount=0.9 method.bits=2 recipe.epochs=20
    teacher.recipe=digits`, 30 epochs in all, three seeds) the order decides: distil, prune, quantise 97.2 ± 0.2 %; quantise,
    distil, prune 96.1 ± 0.3; prune, quantise, distil 95.7 ± 1.1; quantise, prune, distil 95.5 ± 0.1; prune, distil, quantise
    95.2 ± 1.4; distil, quantise, prune 95.0 ± 0.9. All are of 97 to 100 thousand bits, of 2,488 thousand. Only the first is
    not below the same network from new weights by the labels alone, 96.8 ± 0.2 %. With `amount=0.8 bits=4` little is lost in
    the first order (98.3 % of 98.6 %, one seed).

    Args:
        base: the method of the distillation, any that has a loss.
        steps: each at most once.
        start: what is compressed: the `student`, or a copy of the trained `teacher`, which then teaches it.
        prune: `magnitude`, single weights, the smallest of all layers; `filters`, of each layer those with the smallest sums;
            `slimming`, channels by the weights of their normalisations, which training before makes small (Liu et al. 2017).
            The latter two cut channels within the blocks of a residual network.
        amount: which share goes.
        rounds: in how many the pruning comes to that, with a part of its recovery behind each.
        slimming_weight: of the sum of the absolute weights of normalisations, in training before that pruning.
        low_rank: form of the factors of a convolution, see `kdrun.models.factorised`.
        energy: share of the squared singular values that factors keep.
        bits: of a quantised weight.
        bucket: how many weights share a range; null: all of a layer.
        last_bits: of the weights of the last layer.
        recover: by the labels (`ce`), by the base (`kd`), or not at all.
        recover_share: of the recipe's epochs, behind each step but distillation.
        recover_lr: share of the recipe's learning rate in a recovery.
        label_share: of the epochs of the distillation, see above.
        scratch: whether to train that network.
    """

    schemes: ClassVar[tuple[str, ...]] = ("offline",)
    knowledge = ("response",)
    source = "Han, Mao, Dally: Deep compression: compressing deep neural networks with pruning, trained quantization and " \
             "Huffman coding. ICLR 2016"
    survey_scheme = ""
    survey_tables = ("Gou section 9.2",)

    def __init__(self, *, base: Method, steps: list[Step], start: Literal["student", "teacher"],
                 prune: Literal["magnitude", "filters", "slimming"], amount: Annotated[float, Bounds(above=0, below=1)],
                 rounds: Few, slimming_weight: NonNegative, low_rank: Form, energy: Energy, bits: Bits,
                 bucket: AtLeastOne | None, last_bits: Bits, recover: Literal["ce", "kd", "none"], recover_share: Fraction,
                 recover_lr: Positive, label_share: Annotated[float, Bounds(above=0, below=1)], scratch: bool) -> None:
        super().__init__(base=base)
        if not steps or len(set(steps)) < len(steps):
            raise ValueError(f"steps are {', '.join(steps) or 'none'}, wanted one or more of distill, prune, low_rank and "
                             "quantize, none twice")
        self.steps, self.start, self.prune, self.amount, self.rounds = steps, start, prune, amount, rounds
        self.slimming_weight, self.low_rank, self.energy = slimming_weight, low_rank, energy
        self.bits, self.bucket, self.last_bits = bits, bucket, last_bits
        self.recover, self.recover_share, self.recover_lr = recover, recover_share, recover_lr
        self.label_share, self.scratch = label_share, scratch
        self.begin()

    def begin(self) -> None:
        """Nothing is done yet."""
        self.rate = 1.0                               # share of the learning rate in the present phase
        self.sparse = False                           # whether weights of normalisations are to become small
        self.masks: dict[str, Tensor] = {}            # by layer: which weights are left, where some are not
        self.quantized = False
        self.seen: QuantizedWeights | None = None     # as masks and bits let the weights be seen
        self.table: list[dict[str, Any]] = []
        self.scratches: list[Role] = []              # one or none; no module of the method, for it learns by itself

    def phases(self, run: Run) -> Iterator[Phase]:
        """The steps, then the same from new weights.

        Raises:
            ValueError: the network has nothing to compress, or its channels cannot be followed.
        """
        self.begin()
        networks = run.networks
        if self.start == "teacher":
            check_inputs(networks)
            as_student(run, copy.deepcopy(networks.teacher.network).requires_grad_(True), networks.teacher.model)
        prunable_layers(networks.student.network)  # some there have to be
        self.sparse = self.prune == "slimming" and "prune" in self.steps
        whole, first = run.recipe.epochs, 0
        if self.start == "student" and self.steps[0] != "distill":
            first = max(1, min(round(self.label_share * whole), whole - 1)) if "distill" in self.steps else whole
            yield Phase("labels", loss=self.alone, train=[networks.student], epochs=first)
        self.measure(run, "start")
        for step in self.steps:
            if step == "distill":
                yield from self.taught(run, step, max(whole - first, 1))
            else:
                yield from self.compressed(run, step)
            self.measure(run, step, trained=True)
        if self.seen is not None:
            self.seen.bake()
        if self.scratch:
            yield from self.from_scratch(run, sum(run.trained.values()))

    def compressed(self, run: Run, step: Step) -> Iterator[Phase]:
        """One step other than distillation: the network changed, and trained again, in rounds where it is pruned so."""
        rounds = self.rounds if step == "prune" else 1
        epochs = round(self.recover_share * run.recipe.epochs)
        ends = [round(epochs * part / rounds) for part in range(rounds + 1)]
        for number, (start, end) in enumerate(itertools.pairwise(ends), 1):
            self.change(run, step, number, rounds)
            self.estimate(run)
            self.measure(run, step)
            if self.recover == "none" or end == start:
                continue
            name, self.rate = f"{step}: recovery" + (f" {number}" if rounds > 1 else ""), self.recover_lr
            if self.recover == "kd":
                yield from self.taught(run, name, end - start)
            else:
                yield Phase(name, loss=self.alone, train=[run.networks.student], epochs=end - start)
            self.rate = 1.0

    def taught(self, run: Run, name: str, epochs: int) -> Iterator[Phase]:
        """The base's phases; those that would have the recipe's epochs have these."""
        for phase in self.base_phases(run, name):
            phase.epochs = epochs if phase.epochs is None else phase.epochs
            yield phase

    def change(self, run: Run, step: Step, number: int, rounds: int) -> None:
        """Make the student another network, or see its weights otherwise."""
        if self.seen is not None:
            self.seen.bake()
        network = run.networks.student.network
        if step == "quantize":
            self.quantized = True
        elif step == "low_rank":
            layers = {name: made for name, layer in network.named_modules()
                      if (made := factorised(layer, self.low_rank, self.energy)) is not None}
            self.masks = {name: mask for name, mask in self.masks.items() if name not in layers}
            self.become(run, replaced(network, layers))
        elif self.prune == "magnitude":
            self.masks = magnitude_masks(network, 1 - (1 - self.amount) ** (number / rounds))
        else:
            choose = strong_filters if self.prune == "filters" else slim_channels
            try:
                chosen = choose(network, 1 - (1 - self.amount) ** (1 / rounds))
            except ValueError as error:
                raise ValueError(f"prune={self.prune}: {error}; prune=magnitude follows none") from error
            self.become(run, with_channels(network, chosen))
            self.sparse = self.sparse and number < rounds
        self.seen = self.veiled(run.networks.student.network)

    def become(self, run: Run, network: nn.Module) -> None:
        """A network of other layers takes the student's place."""
        model = run.networks.student.model
        as_student(run, network, model if model.endswith(" compressed") else f"{model} compressed")

    def veiled(self, network: nn.Module) -> QuantizedWeights | None:
        """See a network's weights as masks and bits have it; None where neither is there."""
        network.__dict__.pop("stored_size", None)
        if not self.masks and not self.quantized:
            return None
        names = {layer: name for name, layer in network.named_modules()}
        layers = inner_layers(network, ends=True)
        last = set(inner_layers(network.get_submodule(above), ends=True)) if isinstance(
            network.get_submodule(above := names[layers[-1]].rpartition(".")[0]), nn.Sequential) else {layers[-1]}
        seen = []
        for layer in layers:
            inner = Bucketed(self.last_bits if layer in last else self.bits, self.bucket) if self.quantized else None
            mask = self.masks.get(names[layer])
            seen.append(Masked(torch.ones_like(layer.get_parameter("weight")) if mask is None else mask, inner))
        return QuantizedWeights(network, ends=True, quantizers=list(seen))

    def estimate(self, run: Run) -> None:
        """Take the statistics of the student's normalisations anew, from an epoch of the training data."""
        student = run.networks.student
        batches = itertools.islice(run.stream.epoch(0, 1), 1 if run.rehearsal else None)
        with torch.no_grad():
            update_bn((student.inputs(batch) for batch in batches), student.network)

    def measure(self, run: Run, step: str, trained: bool = False) -> None:
        """Note what the student takes and can do now."""
        if run.rehearsal:
            return
        student, task = run.networks.student, run.data.task
        network = student.network
        size = metrics.size(network)
        row: dict[str, Any] = {"step": step, "recovered": int(trained), "epochs": sum(run.trained.values())}
        for name, split in (("validation", run.data.validation), ("test", run.data.test)):
            measures = task.measures(answers(student, run.data, split, run.device), split) if len(split) else {}
            row[f"{name}_{task.headline}"] = measures.get(task.headline)
        self.table.append({**row, **(size._asdict() if size else {}), "nonzero": metrics.nonzero(network),
                           "flops": metrics.flops(network, task.example(1, run.device))})

    def from_scratch(self, run: Run, epochs: int) -> Iterator[Phase]:
        """The network that came out, from new weights by the labels alone."""
        student = run.networks.student
        twin = copy.deepcopy(student.network)
        with seeded("weights", SCRATCH, run.seed):
            for layer in twin.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
            initialise(twin, getattr(twin, "first_weights", FirstWeights.PYTORCH))
        role = run.factory.role(twin, SCRATCH, student.model)
        seen = self.veiled(role.network)
        run.networks.peers = self.scratches = [role]
        yield Phase(SCRATCH, loss=self.scratch_loss, train=[role], epochs=epochs, evaluate=False)
        run.trained.pop(SCRATCH, None)  # the epochs of each of the two are those of the steps
        if seen is not None:
            seen.bake()

    def step(self, networks: Networks, batch: Batch) -> Iterator[tuple[str, Terms]]:
        """The base's updates, with small weights of normalisations where they are wanted."""
        for player, terms in super().step(networks, batch):
            yield player, {**terms, **self.slimming(networks)} if player == "student" else terms

    def alone(self, networks: Networks, batch: Batch) -> Terms:
        """The labels alone, with small weights of normalisations where they are wanted."""
        return {"ce": self.label_loss(networks.student(batch), batch), **self.slimming(networks)}

    def scratch_loss(self, networks: Networks, batch: Batch) -> Terms:
        """The labels, of the network from new weights."""
        return {f"{SCRATCH} ce": self.label_loss(networks.peers[0](batch), batch)}

    def slimming(self, networks: Networks) -> Terms:
        """The sum of the absolute weights of the student's normalisations, until channels are cut by them."""
        if not self.sparse:
            return {}
        weights = [part.weight.abs().sum() for part in networks.student.modules() if isinstance(part, nn.BatchNorm2d)]
        return {"slimming": self.slimming_weight * torch.stack(weights).sum()} if weights else {}

    def optimizer(self, player: str, weights: Sequence[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
        """The base's, slower in a recovery."""
        optimizer = super().optimizer(player, weights, recipe)
        for group in optimizer.param_groups:
            group["lr"] *= self.rate
        return optimizer

    def trained_networks(self, networks: Networks) -> Mapping[str, nn.Module]:
        """The student, and what it has to beat."""
        return {"student": networks.student, **{role.name: role for role in self.scratches}}

    def extra_tables(self, run: Run) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """What each step cost."""
        return {"steps": self.table}
