"""Methods that make the student from the teacher: pruned and repaired, replaced stage by stage, grown."""

import copy
import re

import pytest
import torch
from torch import nn, tensor

import kdrun
from kdrun.config.schema import ConfigError
from kdrun.methods.structure.fskd import absorb, recovery
from kdrun.methods.structure.net2net import Net2Net
from kdrun.methods.structure.triage import fit, single_layer
from kdrun.models.channels import Channels, take_channels
from kdrun.models.roles import Networks, Role
from kdrun.tasks.classification import Classification
from kdrun.training.loop import distill
from tests.models.test_sizes import parameters
from tests.models.test_zoo import build
from tests.toy import rows_of, state, toy_experiment, toy_run

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def lively(network: nn.Module) -> nn.Module:
    """With normalisations that are not the identity."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    return network.eval()


def same(left: dict, right: dict, names: list[str]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in names)


# --- few samples -----------------------------------------------------------------------------------------------------

def products(own, wanted):
    return recovery(own.T @ own, own.T @ wanted)


def test_a_scaled_layer_is_scaled_back():
    wanted = torch.randn(50, 2, dtype=F64)
    assert products(wanted * tensor([2.0, 4.0], dtype=F64), wanted).tolist() == [
        pytest.approx([0.5, 0.0], abs=1e-9), pytest.approx([0.0, 0.25], abs=1e-9)]
    assert torch.allclose(products(wanted, wanted), torch.eye(2, dtype=F64))


def test_what_few_rows_do_not_tell_stays_as_it_is():
    own = torch.zeros(3, 5, dtype=F64)
    own[:, :2] = torch.randn(3, 2, dtype=F64)
    found = products(own, 3 * own)
    assert torch.allclose(found, torch.diag(tensor([3.0, 3, 1, 1, 1], dtype=F64)))


@pytest.mark.parametrize("bias", [True, False])
def test_absorbing_changes_nothing(bias):
    conv, norm = nn.Conv2d(3, 4, 3, bias=bias).double(), lively(nn.BatchNorm2d(4)).double()
    matrix, pictures = torch.randn(4, 4, dtype=F64), torch.randn(2, 3, 6, 6, dtype=F64)
    with torch.no_grad():
        before = torch.einsum("pc,bchw->bphw", matrix, norm(conv(pictures)))
        absorb(matrix, conv, norm)
        assert torch.allclose(norm(conv(pictures)), before, atol=1e-12)
        before = torch.einsum("pc,bchw->bphw", matrix, conv(pictures))
        absorb(matrix, conv, None)
        assert torch.allclose(conv(pictures), before, atol=1e-12)


@pytest.mark.parametrize(("name", "widths"), [("vgg8", "[4,4,6,6,8]"), ("resnet8", "[4,6,8]")])
def test_a_student_that_is_not_pruned_is_the_teacher(name, widths):
    words = [f"{role}{what}" for role in ("teacher", "student") for what in (f"={name}", f".widths={widths}")]
    run = toy_run("fskd", "offline", *words)
    lively(run.networks.teacher.network)
    distill(run)
    pictures = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        own, wanted = (role.network.eval()(pictures).logits for role in (run.networks.student, run.networks.teacher))
    assert torch.allclose(own, wanted, atol=1e-4)


def test_repairing_never_takes_a_layer_further_away():
    run = toy_run("fskd", "offline", "teacher=resnet8", "teacher.stem=6", "student=resnet8", "student.stem=4")
    size = parameters(run.networks.student)
    distill(run)
    layers = run.method.repaired
    assert len(layers) == 9  # the stem, two convolutions of each stage and the shortcuts of two
    assert all(-1e-6 <= row["squared_error"] <= row["squared_error_before"] + 1e-6 for row in layers)
    assert sum(row["squared_error"] for row in layers) < 0.9 * sum(row["squared_error_before"] for row in layers)
    assert parameters(run.networks.student) == size


@pytest.mark.parametrize(("words", "told"), [
    (["student=resnet8"], "is not the teacher cnn with fewer channels: their layers differ"),
    (["student.widths=[8,6,8]"], r"stages\.0\.0 has 8, the teacher's 6"),
    (["teacher=mlp"], r"this network flattens them; resnet\*, wrn_\*, vgg\* and cnn\* are built of layers that it follows"),
    (["method.samples=100"], "there are only 48 training samples")])
def test_what_cannot_be_pruned_is_refused(words, told):
    with pytest.raises(ConfigError, match=told):
        toy_run("fskd", "offline", *words)


# --- growing ---------------------------------------------------------------------------------------------------------

def role(network, name):
    return Role(network, name, Classification(tuple(map(str, range(10))), (1, 8, 8)), name)


def grown(teacher, student, noise=0.0):
    method = Net2Net(noise=noise, lr_share=0.1, epochs_share=0.5)
    method.random = torch.Generator().manual_seed(1)
    method.grow(Networks(role(student, "student"), [role(teacher, "teacher")]), torch.randn(64, 1, 8, 8))
    return student.eval()


def test_copies_share_what_they_are_seen_by():
    small = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    large = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 2))
    layers = Channels(5, ["0"], ["1"])
    take_channels(large, small, {layers: tensor([0, 1, 2, 1, 1])}, {"0": "0", "1": "1"}, copies=True)
    assert torch.equal(large[1].weight, small[1].weight[:, [0, 1, 2, 1, 1]] / tensor([1.0, 3, 1, 3, 3]))
    rows = torch.randn(4, 2)
    assert torch.allclose(large(rows), small(rows), atol=1e-6)


@pytest.mark.parametrize(("teacher", "student", "changes"), [
    ("resnet8", "resnet8x2", {}), ("resnet8", "resnet14", {}),
    ("resnet8", "resnet", {"depth": 14, "stem": 20, "widths": [20, 40, 70]}),
    ("wrn_16_1", "wrn", {"depth": 22, "width": 1}), ("wrn_16_2", "wrn", {"depth": 22, "width": 3}),
    ("vgg8", "vgg8", {"blocks": [2, 1, 2, 1, 1], "widths": [70, 130, 260, 520, 512]}),
    ("cnn", "cnn", {"widths": [20, 40, 64]})])
def test_a_grown_network_is_the_same_function(teacher, student, changes):
    small, large = lively(build(teacher, (1, 8, 8))), build(student, (1, 8, 8), **changes)
    assert parameters(large) > parameters(small)
    pictures = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        wanted = small(pictures).logits
        assert torch.allclose(grown(small, large)(pictures).logits, wanted, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_copies_stay_equal_for_ever_without_noise(noise):
    large = grown(lively(build("cnn", (1, 8, 8))), build("cnn", (1, 8, 8), widths=[32, 32, 64]), noise)
    optimizer = torch.optim.SGD(large.train().parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(large(torch.randn(8, 1, 8, 8)).logits, torch.randint(10, (8,))).backward()
        optimizer.step()
    kernels = large.stages[0][0].weight.detach().flatten(1)
    apart = torch.cdist(kernels[16:], kernels[:16]).amin(dim=1)
    assert bool((apart < 1e-5).all()) == (noise == 0)


@pytest.mark.parametrize(("words", "told"), [
    (["student.widths=[4,6,12]"], r"the student has 4 channels in stages\.0\.0, the teacher 6"),
    (["student.widths=[6,8]"], "the teacher has 3 stages, the student 2"),
    (["teacher=resnet14", "student=resnet8", "student.widths=[6,8,12]"], r"nothing for stages\.0\.blocks\.1 of the teacher"),
    (["teacher=resnet8", "teacher.stem=6", "student=resnet8", "student.widths=[19,19,19]"], "is its shortcut a convolution")])
def test_what_cannot_be_grown_is_refused(words, told):
    with pytest.raises(ConfigError, match=told):
        toy_run("net2net", "offline", *words)


# --- stage by stage --------------------------------------------------------------------------------------------------

def watched(run):
    """By phase: the student as it was before it, and after."""
    seen, phases = [], run.method.phases

    def around(run):
        for phase in phases(run):
            network = run.networks.student.network
            before = state(network)
            yield phase
            seen.append((phase.name, before, state(network)))

    run.method.phases = around
    distill(run)
    return seen


@pytest.mark.parametrize("freeze", [True, False])
def test_a_step_trains_the_new_stage_through_the_rest_of_the_teacher(freeze):
    run = toy_run("blockwise", "offline", f"method.freeze_done={str(freeze).lower()}")
    lively(run.networks.teacher.network)
    teacher = state(run.networks.teacher.network)
    *steps, last = watched(run)
    assert [name for name, _, _ in steps] == ["block 1", "block 2", "block 3"]
    for number, (_, before, after) in enumerate(steps):
        own, done = ([name for name in before if name.startswith(f"stages.{stage}.")] for stage in (number, max(number - 1, 0)))
        rest = [name for name in before if name.startswith(("head", *(f"stages.{later}." for later in range(number + 1, 3))))]
        assert same(before, teacher, rest)
        assert same(after, teacher, rest)
        assert not same(before, after, own)
        assert same(before, after, done) == (freeze and number > 0)
    assert last[0] == "all"
    assert not same(last[1], last[2], ["head.weight"])


def test_a_stage_with_the_teachers_weights_is_at_no_distance():
    run = toy_run("blockwise", "offline", "method.ratio=1.0")
    next(run.method.phases(run))
    run.networks.student.network.load_state_dict(run.networks.teacher.network.state_dict())
    run.networks.student.eval()
    batch = next(iter(run.stream.epoch(0, 1)))
    terms = run.method.match(run.networks, batch, 0)
    assert terms["map"].item() == 0
    assert terms["kd"].item() == pytest.approx(0, abs=1e-6)


def test_rows_and_files_are_of_the_network_that_was_made(tmp_path):
    rows = rows_of(toy_experiment("triage", tmp_path, "teacher=resnet8", "teacher.stem=6", "method.variants=[none]"))
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/run.json"))
    network = kdrun.load(folder).network
    assert parameters(network) == rows["student"]["parameters"] < rows["teacher"]["parameters"]
    assert rows["student"]["flops"] < rows["teacher"]["flops"]
    assert re.fullmatch(r"resnet8 block \d as one layer", rows["student"]["model"])


def test_a_block_that_is_one_convolution_is_found_by_least_squares():
    block, layer = nn.Conv2d(3, 5, 3, 2, 1), single_layer(3, torch.Size([3, 8, 8]), torch.Size([5, 4, 4]))
    maps = torch.randn(70, 3, 8, 8)
    with torch.no_grad():
        fit(layer, maps, block(maps))
        assert (layer.eval()(maps) - block(maps)).square().mean() < 1e-6
        assert (layer.train()(maps) - block(maps)).square().mean() < 1e-6
    with pytest.raises(ValueError, match="no convolution of 2x2 leads from maps of 8x8 to 8x8"):
        single_layer(2, torch.Size([3, 8, 8]), torch.Size([3, 8, 8]))


def test_triage_of_a_block_by_its_ways():
    run = toy_run("triage", "offline", "teacher=resnet8", "teacher.stem=6", "method.variants=[none,local,global]")
    teacher = copy.deepcopy(run.networks.teacher.network)
    first = watched(run)[0]
    assert first[0] == "block 1 local"
    layer = [name for name in first[1] if name.startswith("stages.0.")]
    assert not same(first[1], first[2], layer)
    assert same(first[1], first[2], [name for name in first[1] if name not in layer])
    made = run.method.trained_networks(run.networks)
    assert len(made) == 9
    (table,) = run.method.extra_tables(run).values()
    assert [row["student"] for row in table].count(True) == 1
    for row in table:
        before, after = [(6, 6), (6, 8), (8, 12)][row["block"] - 1]
        assert row["parameters_saved"] == parameters(teacher.stages[row["block"] - 1]) - (9 * before * after + 2 * after)


@pytest.mark.parametrize(("words", "told"), [
    (["method.start=mean", "method.kernel=5"], r"a block has no kernel of the shape \[6, 1, 5, 5\]"),
    (["method.variants=[kd,kd]"], "wanted at least one, and each once"), (["dataset.validation=0"], "there is none; set")])
def test_triage_refuses(words, told):
    with pytest.raises((ConfigError, ValueError), match=told):
        toy_run("triage", "offline", *words)
