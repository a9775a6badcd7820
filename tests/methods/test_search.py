"""Searches for a student: the numbers of their losses and ratings, what they choose, and that it can be loaded again."""

import csv
import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

import kdrun
from kdrun.config import registry
from kdrun.config.instantiation import instantiate
from kdrun.config.schema import ConfigError
from kdrun.experiment import Experiment
from kdrun.methods.losses.response import kd
from kdrun.methods.losses.search import block_distance, dissimilarities, oracle_kd, teacher_guidance
from kdrun.methods.search.nas_dna import in_order
from kdrun.methods.search.nas_l1gates import strongest
from kdrun.models.factory import NetworkSpec
from kdrun.models.student_space import Architecture, Cost, StudentSpace
from kdrun.models.supernet import Supernet, recalibrated
from kdrun.utils.progress import Progress
from tests.conftest import tiny_data
from tests.toy import state, toy_experiment, toy_run, toy_settings

LOGITS = torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])


def space(**changes) -> StudentSpace:
    return StudentSpace.read(registry.load("space", "small") | changes)


# --- losses ----------------------------------------------------------------------------------------------------------

def test_oracle_asks_those_that_are_right():
    labels, student = torch.tensor([0, 1, 2]), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    always, never = LOGITS, -LOGITS
    assert oracle_kd([always, never], student, labels, 4.0) == pytest.approx(float(kd(always, student, 4.0)), rel=1e-5)
    student.requires_grad_(True)
    nobody = oracle_kd([never, never], student, labels, 4.0)
    (slope,) = torch.autograd.grad(nobody, student)
    assert nobody.item() == 0
    assert float(slope.abs().max()) == 0  # cross-entropy alone is left
    # one sample of three, whose two teachers are both right: the mean of their softened answers
    student = student.detach()
    one = oracle_kd([always[:1], 2 * always[:1]], student[:1], labels[:1], 2.0)
    wanted = ((always[:1] / 2).softmax(1) + always[:1].softmax(1)) / 2
    assert float(one) == pytest.approx(float(4 * (wanted * (wanted.log() - (student[:1] / 2).log_softmax(1))).sum()), rel=1e-5)


def test_guidance_is_one_for_the_teacher_itself_and_blind_to_scale_and_offset():
    draws = torch.Generator().manual_seed(0)
    maps = [torch.randn(6, 4, 3, 3, generator=draws), torch.randn(6, 8, generator=draws)]
    assert float(teacher_guidance(maps, maps)) == pytest.approx(1, abs=1e-6)
    assert float(teacher_guidance(maps, [5 * maps[1] - 3, 0.1 * maps[0] + 7])) == pytest.approx(1, abs=1e-5)
    assert float(teacher_guidance(maps, [torch.randn(6, 5, generator=draws)])) < 0.9
    matrix = dissimilarities(maps[1])
    assert torch.equal(matrix, matrix.T)
    assert float(matrix.diagonal().abs().max()) < 1e-6


def test_the_distance_of_blocks():
    assert float(block_distance(torch.tensor([0.0, 2.0, 0.0, 2.0]), torch.ones(4))) == pytest.approx(0.8660, abs=1e-4)
    assert float(block_distance(LOGITS, LOGITS)) == 0
    assert float(block_distance(torch.ones(4), torch.zeros(4))) == pytest.approx(1e6)  # a teacher that says nothing


# --- choices ---------------------------------------------------------------------------------------------------------

def test_ways_come_in_the_order_of_their_sum():
    draws = torch.Generator().manual_seed(1)
    rows = [torch.rand(count, generator=draws).tolist() for count in (3, 1, 4)]
    sums = [sum(row[place] for row, place in zip(rows, places, strict=True)) for places in in_order(rows)]
    assert sums == sorted(sum(ones) for ones in itertools.product(*rows))
    assert len(set(in_order(rows))) == 12


def test_the_strongest_gates_stay_and_one_of_each():
    rows = [torch.tensor([0.5, 0.1, 0.9]), torch.tensor([0.01, 0.02])]
    assert [row.tolist() for row in strongest(rows, 0)] == [[0, 1, 2], [0, 1]]
    assert [row.tolist() for row in strongest(rows, 2)] == [[0, 2], [1]]
    assert [row.tolist() for row in strongest(rows, 99)] == [[2], [1]]


def test_the_gates_are_held_down_and_the_teacher_is_not():
    run = toy_run("nas_l1gates", "offline", "method.gate_weight=100")
    teacher, phases = state(run.networks.teacher), run.method.phases(run)
    next(phases)
    before = [scale.detach().clone() for scale in run.method.scales(run.networks.student.network)]
    (terms,) = [run.method.gated(run.networks, batch) for batch in itertools.islice(run.stream.epoch(0, 1), 1)]
    torch.stack(list(terms.values())).sum().backward()
    for scale, gates in zip(run.method.scales(run.networks.student.network), run.method.gates, strict=True):
        assert float(scale.grad.min()) > 0  # all positive at first: a step makes every one of them smaller
        assert float(scale.grad.mean()) == pytest.approx(100 * gates.price, rel=0.2)
    prices = sum(gates.price * gates.channels.count for gates in run.method.gates)
    assert prices == pytest.approx(sum(len(scale) for scale in before))
    assert all(torch.equal(value, teacher[name]) for name, value in run.networks.teacher.state_dict().items())


# --- the space -------------------------------------------------------------------------------------------------------

def test_the_space_has_resnet8_in_it():
    chosen = {"family": "residual", "multiplier": 1.0, **{f"depth_{stage}": 1 for stage in (1, 2, 3)},
              **{f"kind_{stage}": "full" for stage in (1, 2, 3)}}
    usual = space()
    assert usual.count == 2 * 3 * 12**3
    assert usual.kinds == ["full", "full_k5", "grouped_4", "grouped_4_k5", "depthwise", "depthwise_k5"]
    architecture = usual.architecture(chosen)
    assert architecture == Architecture.read(registry.network("searchable"))
    data = tiny_data()
    networks = [NetworkSpec.read(node).build(data) for node in (registry.network("resnet8"), architecture.spec.settings |
                                                                {"name": "found"})]
    assert {name: value.shape for name, value in networks[0].state_dict().items()} == {
        name: value.shape for name, value in networks[1].state_dict().items()}


def test_a_budget_says_what_is_over_it():
    bounds = space(max_params=100, max_flops=50, max_latency_ms=1.5)
    assert bounds.excess(Cost(100, 50, 1.5)) is None
    assert bounds.excess(Cost(101, 50, 1.5)) == "101 parameters, over max_params=100"
    assert bounds.excess(Cost(1, 51, 1.5)) == "51 FLOPs, over max_flops=50"
    assert bounds.excess(Cost(1, 1, 2.0)) == "2 ms, over max_latency_ms=1.5"
    assert space(max_params=None).excess(Cost(10**9)) is None


def test_a_space_that_cannot_be_is_told_of_line_by_line():
    with pytest.raises(ValueError, match="unknown key 'depth'; did you mean 'depths'"):
        space(depth=[1])
    with pytest.raises(ValueError, match=r"space.kernels: got \[\], wanted at least one"):
        space(kernels=[])
    with pytest.raises(ValueError, match=r"space.multipliers: got \[0\], wanted a list, each a number above 0"):
        space(multipliers=[0])
    with pytest.raises(ValueError, match="widths has 2 stages, strides 3"):
        space(widths=[1, 2])


def test_paths_share_their_blocks():
    network = Supernet("plain", 4, [4, 6], [1, 2], [[["full"], ["full", "depthwise"]]] * 2, 3, 1)
    network.go([["full", "depthwise"], ["full"]])
    pictures = torch.randn(2, 1, 8, 8)
    assert network(pictures).logits.shape == (2, 3)
    network(pictures).logits.sum().backward()
    moved = {name for name, own in network.named_parameters() if own.grad is not None}
    assert any(name.startswith("stages.0.blocks.1.1") for name in moved)  # the depthwise one, the second of its kinds
    assert not any(name.startswith(("stages.0.blocks.1.0", "stages.1.blocks.1")) for name in moved)
    network.eval()
    recalibrated([network.stages[0]], lambda: network(pictures))
    seen = network.stem(pictures)
    first = network.stages[0].blocks[0][0]
    assert torch.allclose(first[1].running_mean, first[0](seen).mean(dim=(0, 2, 3)), atol=1e-6)
    assert first[1].momentum == 0.1


# --- whole runs ------------------------------------------------------------------------------------------------------

def test_what_is_chosen_is_within_the_budget_and_can_be_loaded(tmp_path):
    toy_experiment("nas_tgsa", tmp_path, "method.space.max_params=9000")
    (folder,) = (tmp_path / "runs").glob("*nas_tgsa*")
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [row["chosen"] for row in rows].count("True") == 1
    assert all(int(row["parameters"]) <= 9000 and float(row["latency_ms"]) > 0 and float(row["kl_to_teacher"]) >= 0
               for row in rows)
    best = max(rows, key=lambda row: (float(row["reward"]), -int(row["parameters"])))
    assert best["chosen"] == "True"
    network = kdrun.load(folder).network
    assert sum(own.numel() for own in network.parameters()) == int(best["parameters"])


def test_an_ensemble_learns_from_the_one_before_and_from_nobody_at_first():
    run = toy_run("nas_adanas", "self")
    phases, batch = run.method.phases(run), next(run.stream.epoch(0, 1))
    next(phases)
    assert set(run.method.loss(run.networks, batch)) == {"ce"}
    next(phases)
    run.networks.student.train()
    terms = run.method.loss(run.networks, batch)
    student, teacher = run.networks.student(batch).logits, run.networks.teacher(batch).logits
    assert torch.allclose(terms["kd"], cross_entropy(student, teacher.softmax(1)))
    list(phases)
    members = [member(batch).logits for member in run.method.members]
    assert torch.allclose(run.networks.student.eval()(batch).logits, torch.stack(members).mean(0), atol=1e-6)


@pytest.mark.parametrize(("words", "told"), [
    (("nas_tgsa", "method.space.max_params=10"), "only 0 were found within the budget"),
    (("nas_dna", "method.space.families=[residual,plain]"), "ways that share weights are of one family"),
    (("nas_dna", "method.space.strides=[1,2,1]"), "which a stride of 1 does not"),
    (("nas_dna", "method.space.max_params=10"), "students is within the budget"),
    (("nas_okd", "method.space.max_params=10"), "the student as it is has"),
    (("nas_l1gates", "method.flops_share=0.01"), "of the teacher's FLOPs already; give more"),
    (("nas_l1gates", "teacher=mlp", "teacher.widths=[6,8]"), "it follows channels of maps"),
    (("nas_adanas", "method.space.max_params=10"), "the first member has"),
    (("nas_tgsa", "dataset.validation=0"), "there is none; set dataset.validation"),
])
def test_what_cannot_be_is_told_in_a_line(words, told):
    with pytest.raises(ConfigError) as caught:
        Experiment.prepare(toy_settings(*words), Progress(None))
    assert told in caught.value.problems[0]
    assert "\n" not in caught.value.problems[0]


def test_only_a_student_of_settings_can_grow():
    run = toy_run("mt_avg", "offline")
    run.method = instantiate(toy_settings("nas_okd").values["method"], "method")
    with pytest.raises(ValueError, match=r"student=searchable, or method.rounds=0"):
        next(run.method.phases(run))
