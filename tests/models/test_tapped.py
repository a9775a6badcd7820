"""Networks that kdrun did not write: where their stages are found, what they show, and what is refused in a clear line."""

import builtins

import pytest
import torch
from torch import nn

from kdrun.config import registry
from kdrun.config.schema import ConfigError
from kdrun.experiment import Experiment
from kdrun.models.factory import NetworkSpec, load_checkpoint
from kdrun.models.library import LibraryNetwork
from kdrun.models.roles import Role, frozen
from kdrun.models.tapped import Tapped
from kdrun.storage.fingerprint import closure
from kdrun.storage.resume import targets
from kdrun.tasks.classification import Classification
from kdrun.utils.progress import Progress
from tests.models.test_zoo import Like
from tests.toy import TINY, rows_of, settings_of, toy_experiment, toy_settings

pytestmark = pytest.mark.slow  # networks of other libraries

torch.set_num_threads(1)


def library(where, name, shape=(3, 32, 32), classes=10, **changes):
    settings = registry.network(where) | {"name": name} | changes
    return NetworkSpec.read(settings).build(Like(shape, classes))


class Own(nn.Module):
    """Somebody's network: a list of blocks, functions between them, a classifier of a name that nobody would guess."""

    def __init__(self, classes, channels):
        super().__init__()
        self.begin = nn.Conv2d(channels, 4, 3, 1, 1)
        self.blocks = nn.ModuleList([
            nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
                          nn.Conv2d(after, after, 3, 1, 1), nn.ReLU(inplace=True)) for before, after in ((4, 6), (6, 8))])
        self.unused = nn.Conv2d(1, 1, 1)
        self.verdict = nn.Linear(8, classes)

    def forward(self, pictures):
        maps = self.begin(pictures)
        for block in self.blocks:
            maps = block(maps)
        return self.verdict(maps.mean(dim=(2, 3)))


def own(stages=None, size=None, shape=(3, 16, 16), classes=5, network=None):
    return Tapped(network=network or Own(classes, shape[0]), stages=stages, size=size, classes=classes, channels=shape[0],
                  shape=shape)


# --- where stages are found -------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize(("where", "name", "stages"), [
    ("torchvision", "resnet18", ["layer1", "layer2", "layer3", "layer4"]),
    ("torchvision", "vgg11_bn", ["features.2", "features.6", "features.13", "features.20", "features.27"]),
    ("torchvision", "mobilenet_v2", ["features.1", "features.3", "features.6", "features.13", "features.18"]),
    ("torchvision", "densenet121", ["features.denseblock1", "features.denseblock2", "features.denseblock3", "features.norm5"]),
    ("torchvision", "shufflenet_v2_x0_5", ["stage2", "stage3", "conv5"]),
    ("torchvision", "googlenet", ["conv3", "inception3b", "inception4e", "inception5b"]),
    ("torchvision", "squeezenet1_1", ["features.4", "features.7", "features.12"]),
    ("torchvision", "convnext_tiny", ["features.1", "features.3", "features.5", "features.7"]),
    ("torchvision", "swin_t", ["features.1", "features.3", "features.5", "norm"]),
    ("torchvision", "regnet_x_400mf", [f"trunk_output.block{number}" for number in (1, 2, 3, 4)]),
    ("timm", "resnet10t", ["layer1", "layer2", "layer3", "layer4"]),
    ("timm", "mobilenetv3_small_050", ["blocks.0", "blocks.1", "blocks.3", "blocks.5"]),  # its head is no stage
    ("timm", "convnext_atto", ["stages.0", "stages.1", "stages.2", "stages.3"]),
    ("timm", "test_vit", ["norm"])])
def test_stages_end_before_a_change_of_resolution(where, name, stages):
    network = library(where, name)
    assert list(network.plan.stages) == stages
    output = network(torch.randn(2, 3, 32, 32))
    assert output.logits.shape == (2, 10)
    assert all(maps.ndim == 4 and maps.shape[-1] == maps.shape[-2] for maps in (output.stem, *output.stages, *output.preacts))
    assert len(output.stages) == len(stages)
    assert bool(torch.isfinite(output.logits).all())


def test_stages_are_the_same_for_pictures_of_every_size():
    plans = [library("torchvision", "resnet18", (3, side, side)).plan for side in (8, 32, 64)]
    assert plans[0] == plans[1] == plans[2]


def test_the_stages_of_a_network_of_ones_own_are_found_within_its_lists():
    network = own(shape=(3, 16, 16))
    assert network.plan.stages == ("begin", "blocks.0", "blocks.1")
    assert network.plan.head == "verdict"


def test_a_network_that_takes_no_larger_pictures_is_looked_at_as_it_is():
    flat = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, 1, 1), nn.ReLU(),
                         nn.Flatten(), nn.Linear(6 * 16, 5))
    assert own(network=flat, shape=(1, 8, 8)).plan.stages == ("1", "4")


def test_grey_pictures_are_seen_three_times_over():
    network, pictures = library("torchvision", "resnet18", (1, 8, 8)).eval(), torch.randn(2, 1, 8, 8)
    assert torch.equal(network(pictures).logits, network.wrapped(pictures.expand(-1, 3, -1, -1)))


# --- what they show ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", [True, False])
def test_preactivations_are_what_the_last_activation_is_given(mode):
    torch.manual_seed(0)
    network = own().train(mode)
    output = network(torch.randn(3, 3, 16, 16))
    assert torch.equal(output.stages[0], output.preacts[0])  # it ends in a convolution
    for stage, preact in list(zip(output.stages, output.preacts, strict=True))[1:]:
        assert torch.equal(stage, preact.relu())
        assert bool((preact < 0).any())


def test_they_answer_as_without_being_listened_to():
    from kdrun.utils.vision import models

    torch.manual_seed(0)
    network = library("torchvision", "resnet18").eval()
    plain = models.resnet18(num_classes=10).eval()
    plain.load_state_dict(network.wrapped.state_dict())
    pictures = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(pictures).logits, plain(pictures))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_embedding_is_what_the_classifier_is_given():
    network = library("torchvision", "resnet18").eval()
    output = network(torch.randn(2, 3, 32, 32))
    assert torch.equal(network.wrapped.fc(output.embedding), output.logits)


def test_a_map_that_is_changed_in_place_later_is_kept_as_it_was():
    network = library("torchvision", "densenet121").eval()
    assert network.plan.changed[-1]  # functional.relu(features, inplace=True) comes after the last normalisation
    assert bool((network(torch.randn(2, 3, 32, 32)).stages[-1] < 0).any())


def test_channels_last_and_tokens_become_maps():
    swin, vit = (library(*name)(torch.randn(2, 3, 32, 32)) for name in (("torchvision", "swin_t"), ("timm", "test_vit")))
    assert [maps.shape[1:] for maps in swin.stages] == [(96, 8, 8), (192, 4, 4), (384, 2, 2), (768, 1, 1)]
    assert [maps.shape[1:] for maps in vit.stages] == [(64, 2, 2)]


def test_a_copy_listens_to_itself():
    network = library("torchvision", "resnet18")
    role = Role(network, "student", Classification((), (3, 32, 32)))
    twin, pictures = frozen(role), torch.randn(2, 3, 32, 32)
    before = twin(pictures).stages[0].clone()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    network(pictures)
    assert torch.equal(twin(pictures, fresh=True).stages[0], before)
    assert float(before.abs().sum()) > 0


def test_pictures_can_be_enlarged_first():
    network = library("timm", "test_vit", (3, 8, 8), size=64).eval()
    pictures = torch.randn(2, 3, 8, 8)
    large = nn.functional.interpolate(pictures, (64, 64), mode="bilinear")
    assert torch.equal(network(pictures).logits, network.wrapped(large))


@pytest.mark.slow
@pytest.mark.parametrize(("where", "name"), [("torchvision", "resnet18"), ("torchvision", "mobilenet_v3_small"),
                                             ("torchvision", "swin_t"), ("timm", "test_vit"), ("timm", "test_resnet")])
def test_until_a_stage_are_exactly_the_parameters_it_depends_on(where, name):
    network = library(where, name)
    output, weights = network(torch.randn(4, 3, 32, 32)), dict(network.named_parameters())
    before: list[nn.Module] = []
    for stage, maps in enumerate(output.stages, start=1):
        parts = network.until(stage)
        slopes = torch.autograd.grad(maps.sum(), list(weights.values()), retain_graph=True, allow_unused=True)
        reached = {key for key, slope in zip(weights, slopes, strict=True) if slope is not None}
        named = {id(weight) for part in parts for weight in part.parameters()}
        assert reached == {key for key, weight in weights.items() if id(weight) in named}
        assert len(parts) == stage
        assert all({id(weight) for weight in old.parameters()} == {id(weight) for weight in new.parameters()}
                   for old, new in zip(before, parts, strict=False))  # each stage adds its own part to those before
        before = parts


def test_training_a_part_sets_its_normalisation_to_training():
    network = library("torchvision", "resnet18").eval()
    for part in network.until(2):
        part.train()
    modes = {name: module.training for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name, training in modes.items() if training} == \
        {name for name in modes if not name.startswith(("wrapped.layer3", "wrapped.layer4"))}


# --- what is refused --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("stages", "wrong"), [
    (["block.0"], r"it has no module 'block.0'; did you mean 'blocks.0'\?"),
    (["zzz"], "no module 'zzz'; it has begin, blocks, unused, verdict"),
    (["blocks.0", "begin"], "'begin' is done before 'blocks.0'"),
    (["unused"], "module 'unused' is never asked"),
    (["verdict"], r"module 'verdict' answers with \[2, 5\]; wanted one that answers with a map"),
    (["blocks"], "module 'blocks' is never asked"),
])
def test_stages_that_cannot_be(stages, wrong):
    with pytest.raises(ValueError, match=wrong):
        own(stages=stages)


@pytest.mark.parametrize(("where", "name", "changes", "wrong"), [
    ("torchvision", "resnet15", {}, r"torchvision has no network 'resnet15'; did you mean 'resnet152'\?"),
    ("timm", "resnett18", {}, r"timm has no network 'resnett18'; did you mean 'resnet18'\?"),
    ("torchvision", "resnet18", {"weights": "BEST"}, "got 'BEST', wanted one of IMAGENET1K_V1, DEFAULT for resnet18"),
    ("timm", "resnet18", {"weights": "nothing"}, "wanted DEFAULT or one of timm's: .*a1_in1k"),
    ("torchvision", "alexnet", {}, "it does not take pictures of 32x32 .*; give size=64, which enlarges them"),
    ("timm", "vit_tiny_patch16_224", {}, "it does not take pictures of 32x32 .*; give size=224"),
    ("torchvision", "resnet18", {"stages": ["layer5"]}, r"no module 'layer5'; did you mean 'layer1'\?"),
])
def test_networks_that_cannot_be(where, name, changes, wrong):
    with pytest.raises(ValueError, match=wrong):
        library(where, name, **changes)


def test_pictures_of_other_channels():
    with pytest.raises(ValueError, match="pictures of 1 or 3 channels, and these have 4"):
        library("torchvision", "resnet18", (4, 32, 32))
    assert library("timm", "test_resnet", (4, 32, 32))(torch.randn(2, 4, 32, 32)).logits.shape == (2, 10)


def test_without_timm(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "timm":
            raise ImportError(name)
        return real(name, *rest)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"timm is not installed; pip install 'kdrun\[zoo\]'"):
        library("timm", "resnet18")


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("name or service not known")
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", unreachable)
    with pytest.raises(ValueError, match=r"DEFAULT of torchvision's resnet18 could not be downloaded or read .*weights=null"):
        library("torchvision", "resnet18", weights="DEFAULT")


def test_weights_of_other_classes_keep_all_but_the_classifier(monkeypatch):
    from kdrun.utils.vision import models

    trained = {key: torch.full_like(value, 0.5) for key, value in models.resnet18().state_dict().items()}
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: trained)
    network = library("torchvision", "resnet18", weights="DEFAULT", classes=7)
    assert bool((network.wrapped.layer4[1].conv2.weight == 0.5).all())
    assert network.wrapped.fc.weight.shape == (7, 512)
    assert not bool((network.wrapped.fc.weight == 0.5).any())
    same = library("torchvision", "resnet18", weights="DEFAULT", classes=1000)
    assert bool((same.wrapped.fc.weight == 0.5).all())


def test_a_checkpoint_may_have_the_librarys_names_or_kdruns(tmp_path):
    network, again = library("torchvision", "resnet18"), library("torchvision", "resnet18")
    for state in (network.wrapped.state_dict(), network.state_dict()):
        torch.save(state, tmp_path / "weights.pt")
        load_checkpoint(again, tmp_path / "weights.pt", "resnet18")
        assert torch.equal(again.wrapped.fc.weight, network.wrapped.fc.weight)
        nn.init.zeros_(again.wrapped.fc.weight)


# --- within a run -----------------------------------------------------------------------------------------------------

def test_results_name_the_library_and_the_store_its_version():
    spec = NetworkSpec.read(settings_of("student=torchvision", "student.name=vgg11").values["student"])
    assert spec.name == "torchvision.vgg11"
    assert spec.settings["version"].startswith("0.")
    assert issubclass(LibraryNetwork, Tapped)


@pytest.fixture
def chosen(monkeypatch):
    """The toy's settings with other networks."""
    def choose(*words):
        groups = tuple({word.partition("=")[0].partition(".")[0] for word in words})
        monkeypatch.setattr("tests.toy.TINY", (*(word for word in TINY if not word.startswith(groups)), *words))
    return choose


TIMM = ("teacher=timm", "teacher.name=test_resnet", "student=timm", "student.name=test_resnet")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "at", "fitnets", "rkd", "crd", "ab", "ofd", "lwf"])
def test_methods_teach_a_tapped_network(method, chosen):
    chosen(*TIMM)
    made = Experiment.prepare(toy_settings(method), Progress(None))  # takes a step of every phase
    assert made.student.name == "timm.test_resnet"


@pytest.mark.slow
def test_a_tapped_network_from_config_to_rows(chosen, tmp_path):
    chosen(*TIMM)
    rows = rows_of(toy_experiment("gao_stage", tmp_path))  # trains it stage by stage
    assert rows["student"]["model"] == "timm.test_resnet"
    assert 0 <= rows["student"]["accuracy"] <= 1


@pytest.mark.parametrize("method", ["byot", "one", "okddip"])
def test_methods_that_branch_off_refuse_it(method, chosen, tmp_path):
    chosen("teacher=cnn", "student=timm", "student.name=test_resnet")
    with pytest.raises(ConfigError, match="does not tell its stages apart, so nothing can branch off them"):
        toy_experiment(method, tmp_path)


def test_a_network_of_ones_own_by_its_yaml(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "_target_: kdrun.models.tapped.Tapped\nname: mine\nnetwork:\n  _target_: tests.models.test_tapped.Own\n"
        "stages: [blocks.0, blocks.1]\nsize: null\n")
    monkeypatch.setattr(registry, "_folders", [*registry.folders(), tmp_path])
    spec = NetworkSpec.read(registry.network("mine"))
    assert len(spec.build(Like((1, 8, 8), 3))(torch.randn(2, 1, 8, 8)).stages) == 2
    named = closure(*targets(spec.settings))
    assert named["tests.models.test_tapped"].name == "test_tapped.py"  # its own code counts as kdrun's around it does
    assert "kdrun.models.tapped" in named
