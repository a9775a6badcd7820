import math

import pytest
import torch
from torch import nn

from kdrun.config import registry
from kdrun.config.instantiation import locate
from kdrun.models.densenet import DenseNet
from kdrun.models.factory import NetworkSpec
from kdrun.models.fitted import FittedModel
from kdrun.models.plain import CNN, MLP
from kdrun.models.resnet import BottleneckResNet, ResNet
from kdrun.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from kdrun.models.staged import StagedNet
from kdrun.models.vgg import VGG
from kdrun.models.wrn import WideResNet
from kdrun.tasks.base import input_kinds
from kdrun.tasks.classification import Classification
from tests.conftest import TINY_STUDENT, TINY_TEACHER, tiny_data
from tests.toy import settings_of

MODELS = [name for name in registry.options("model") if (kind := locate(registry.load("model", name)["_target_"]))
          and not issubclass(kind, FittedModel)  # those are no networks
          and "pictures" in input_kinds(kind) and "classification" in getattr(kind, "tasks", ("classification",))]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
STAGED = [name for name in MODELS if issubclass(locate(registry.load("model", name)["_target_"]), StagedNet)
          and not name.endswith("_stochastic")]  # those are another network in every step of training
LARGE = {"wrn_28_10", "wrn_16_8", "vgg13", "vgg16", "vgg19", "resnet110", "resnet56", "resnet44", "resnet32x4", "resnet18",
         "resnet34", "resnet50", "resnext29_8x64d"}
FLAT = {"convnet", "convnet_small"}  # whose classifiers see all places of the last map
EACH_FAMILY = ["resnet8", "wrn_16_1", "vgg8", "cnn", "mlp", "densenet_40_12", "mobilenet", "mobilenet_v2", "shufflenet_v1",
               "shufflenet_v2"]


class Like:
    """What a network needs to know of data: how many classes, which pictures."""

    def __init__(self, shape, classes):
        self.task = Classification(tuple(map(str, range(classes))), shape)


def build(choice: str, shape=(3, 32, 32), classes=10, **changes) -> nn.Module:
    """A network of the catalogue for such data."""
    settings = registry.network(choice) | changes
    return NetworkSpec.read(settings).build(Like(shape, classes))


def weightless(choice: str, shape=(3, 32, 32), classes=10, **changes) -> nn.Module:
    """A network whose weights have shapes and no memory."""
    with torch.device("meta"):
        return build(choice, shape, classes, **changes)


# --- what they answer ------------------------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("name", MODELS)
def test_every_network_answers_every_kind_of_picture(name, shape):
    output = weightless(name, shape, 7)(torch.zeros(2, *shape, device="meta"))
    assert output.logits.shape == (2, 7)
    wide = 1 if name not in FLAT else output.embedding.shape[1] // output.stages[-1].shape[1]
    assert output.embedding.shape == (2, wide * output.stages[-1].shape[1])
    assert [maps.shape for maps in output.stages] == [maps.shape for maps in output.preacts]
    assert len(output.stages) >= 2
    assert all(maps.ndim == 4 and min(maps.shape) > 0 for maps in (output.stem, *output.stages))
    sides = [maps.shape[-1] for maps in (output.stem, *output.stages)]
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize("name", [name for name in STAGED if name not in LARGE])
def test_a_stage_is_the_activation_of_its_preactivation(name):
    torch.manual_seed(0)
    network = build(name, (1, 8, 8))
    pictures = torch.randn(3, 1, 8, 8)
    before = pictures.clone()
    for mode in (True, False):
        output = network.train(mode)(pictures)
        for stage, preact in zip(output.stages, output.preacts, strict=True):
            assert torch.equal(stage, preact.relu())
            assert bool((preact < 0).any())  # the activation was not done before
        assert bool(torch.isfinite(output.logits).all())
    assert torch.equal(pictures, before)


@pytest.mark.parametrize("name", [name for name in STAGED if name not in LARGE])
def test_the_head_sees_the_mean_of_the_last_stage(name):
    network = build(name, (1, 8, 8)).eval()
    output = network(torch.randn(2, 1, 8, 8))
    torch.testing.assert_close(output.embedding, output.stages[-1].flatten(2).mean(2))
    torch.testing.assert_close(output.logits, network.head(output.embedding))


@pytest.mark.parametrize(("name", "stages"), [
    ("resnet20", [(16, 32), (32, 16), (64, 8)]), ("resnet8x4", [(64, 32), (128, 16), (256, 8)]),
    ("wrn_16_2", [(32, 32), (64, 16), (128, 8)]), ("wrn_40_1", [(16, 32), (32, 16), (64, 8)]),
    ("vgg8", [(64, 32), (128, 16), (256, 8), (512, 4), (512, 4)]), ("cnn", [(16, 32), (32, 16), (64, 8)]),
    ("mlp", [(128, 1), (128, 1)]), ("resnet18", [(64, 32), (128, 16), (256, 8), (512, 4)]),
    ("resnet50", [(256, 32), (512, 16), (1024, 8), (2048, 4)]), ("resnext29_8x64d", [(256, 32), (512, 16), (1024, 8)]),
    ("densenet_40_12", [(160, 32), (304, 16), (448, 8)]), ("resnet20x0.5", [(8, 32), (16, 16), (32, 8)]),
    ("mobilenet", [(64, 32), (128, 16), (256, 8), (512, 4), (1024, 2)]),
    ("mobilenet_v2", [(72, 16), (96, 8), (288, 4), (1280, 2)]),  # six times the next stage's 12, 16 and 48; then the last
    ("shufflenet_v1", [(240, 16), (480, 8), (960, 4)]), ("shufflenet_v2", [(116, 16), (232, 8), (1024, 4)])])
def test_the_stages_of_32x32_pictures(name, stages):
    output = weightless(name)(torch.zeros(2, 3, 32, 32, device="meta"))
    assert [maps.shape for maps in output.stages] == [(2, width, side, side) for width, side in stages]


def test_pictures_need_not_be_square():
    output = weightless("resnet8", (3, 24, 32))(torch.zeros(2, 3, 24, 32, device="meta"))
    assert [tuple(maps.shape[-2:]) for maps in output.stages] == [(24, 32), (12, 16), (6, 8)]


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_a_picture_is_answered_alone_as_in_a_batch(name):
    torch.manual_seed(0)
    network, pictures = build(name, (1, 8, 8)).eval(), torch.randn(5, 1, 8, 8)
    alone = torch.cat([network(picture[None]).logits for picture in pictures])
    torch.testing.assert_close(alone, network(pictures).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_the_memory_format_does_not_matter(name):
    torch.manual_seed(0)
    network, pictures = build(name, (3, 8, 8)).eval(), torch.randn(4, 3, 8, 8)
    expected = network(pictures).logits
    network = network.to(memory_format=torch.channels_last)
    found = network(pictures.to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# --- the parts of a network ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [name for name in STAGED if name not in LARGE])
def test_until_a_stage_are_exactly_the_parameters_it_depends_on(name):
    network = build(name, (1, 8, 8))
    output = network(torch.randn(4, 1, 8, 8))
    weights = dict(network.named_parameters())
    count = len(output.stages)
    for stage in range(1, count + 1):
        for maps in (output.stages[stage - 1], output.preacts[stage - 1]):
            slopes = torch.autograd.grad(maps.sum(), list(weights.values()), retain_graph=True, allow_unused=True)
            reached = {key for key, slope in zip(weights, slopes, strict=True) if slope is not None}
            named = {id(weight) for part in network.until(stage) for weight in part.parameters()}
            assert reached == {key for key, weight in weights.items() if id(weight) in named}
    assert reached == {key for key in weights if not key.startswith("head.")}


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_the_stem_is_where_the_first_stage_starts(name):
    network = build(name, (1, 8, 8)).eval()
    output = network(torch.randn(2, 1, 8, 8))
    assert torch.equal(network.stages[0](output.stem), output.preacts[0])
    for number in range(1, len(output.stages)):
        assert torch.equal(network.stages[number](output.stages[number - 1]), output.preacts[number])


def test_every_parameter_of_every_network_learns():
    for name in (name for name in STAGED if name not in LARGE):
        network = build(name, (1, 8, 8))
        nn.functional.cross_entropy(network(torch.randn(4, 1, 8, 8)).logits, torch.tensor([0, 1, 2, 3])).backward()
        assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


def test_dropout_is_inside_the_blocks_and_off_in_evaluation():
    network, pictures = build("wrn_16_1", (1, 8, 8), dropout=0.5), torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(pictures).logits, network(pictures).logits)
    network.eval()
    assert torch.equal(network(pictures).logits, network(pictures).logits)


# --- seeds -----------------------------------------------------------------------------------------------------------

def weights_of(role) -> list[bytes]:
    return [value.contiguous().numpy().tobytes() for value in role.state_dict().values()]


def test_first_weights_are_a_function_of_the_seed_and_the_part(factory):
    first = weights_of(factory().build(TINY_STUDENT, "student"))
    torch.manual_seed(99)
    assert weights_of(factory().build(TINY_STUDENT, "student")) == first
    assert weights_of(factory(seed=2).build(TINY_STUDENT, "student")) != first
    assert weights_of(factory().build(TINY_STUDENT, "teacher")) != first


def test_first_weights_do_not_depend_on_the_order_of_building(factory):
    some, others = factory(), factory()
    teacher, student = weights_of(some.build(TINY_TEACHER, "teacher")), weights_of(some.student())
    assert weights_of(others.student()) == student
    assert weights_of(others.build(TINY_TEACHER, "teacher")) == teacher


def test_building_draws_nothing_from_the_global_generator(factory):
    before = torch.get_rng_state()
    factory().student()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_every_family_is_built_from_the_seed_alone(factory, name):
    assert weights_of(factory().named(name, "x")) == weights_of(factory().named(name, "x"))


def test_generations_start_from_other_weights_under_one_name(factory):
    first, second = factory().student(), factory().student(1)
    assert weights_of(first) != weights_of(second)
    assert first.name == second.name == "student"


def test_first_weights_have_the_spread_of_he():
    torch.manual_seed(0)
    convolution = build("resnet20").stages[2].blocks[1].first[0]
    assert float(convolution.weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize(("name", "zero_bias", "spread"), [
    ("resnet20", False, 1 / math.sqrt(3 * 64)),           # uniform over +-1/sqrt(inputs), as torch.nn.Linear does
    ("wrn_16_2", True, 1 / math.sqrt(3 * 128)),
    ("vgg8", True, 0.01),
    ("mobilenet_v2", True, 0.01),
    ("shufflenet_v2", False, 1 / math.sqrt(3 * 1024)),
])
def test_a_classifier_starts_as_in_the_code_of_published_comparisons(name, zero_bias, spread):
    torch.manual_seed(0)
    network = build(name, (3, 8, 8), 100)
    branch = network.fork(len(network.stages) - 1)
    assert not torch.equal(branch.head.weight, network.head.weight)
    for head in (network.head, branch.head, branch.fork(0).head):  # a branch's too, and a branch's branch's
        assert float(head.weight.detach().std()) == pytest.approx(spread, rel=0.03)
        assert bool((head.bias == 0).all()) == zero_bias


def test_shufflenets_start_as_pytorch_does():
    torch.manual_seed(0)
    network = build("shufflenet_v2", (3, 8, 8))
    for part in (network, network.fork(0)):
        convolution = part.stages[2].blocks[-1][0]  # 1x1, 464 channels to 1024: uniform over +-1/sqrt(464)
        assert float(convolution.weight.detach().abs().max()) <= 1 / math.sqrt(464)


# --- what cannot be built --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("depth", [1, 2, 7, 9, 10, 18, 51])
def test_a_resnet_has_a_depth_of_6n_plus_2(depth):
    with pytest.raises(ValueError, match=f"depth must be 6n\\+2 .*, got {depth}"):
        ResNet(depth=depth, stem=4, widths=[4, 4, 4], classes=2, channels=1)


@pytest.mark.parametrize("depth", [1, 4, 8, 15, 18, 20])
def test_a_wide_resnet_has_a_depth_of_6n_plus_4(depth):
    with pytest.raises(ValueError, match=f"depth must be 6n\\+4 .*, got {depth}"):
        WideResNet(depth=depth, width=1, dropout=0.0, classes=2, channels=1)


def test_a_vgg_has_a_width_for_each_stage():
    with pytest.raises(ValueError, match="blocks has 2 stages, widths 3"):
        VGG(blocks=[1, 1], widths=[4, 4, 4], classes=2, channels=1)


@pytest.mark.parametrize("depth", [8, 14, 110])
def test_depth_counts_the_layers_with_weights(depth):
    network = ResNet(depth=depth, stem=2, widths=[2, 2, 2], classes=2, channels=1)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    shortcuts = [module for module in layers if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    assert len(layers) - len(shortcuts) == depth
    assert len(shortcuts) == 2  # the widths are equal, so only the two strides need one


@pytest.mark.parametrize("depth", [10, 16, 40])
def test_a_wide_resnets_depth_counts_one_shortcut_a_stage_too(depth):
    network = WideResNet(depth=depth, width=2, dropout=0.0, classes=2, channels=1)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    # 6n + 4 layers: 6n in the blocks, the stem and the shortcuts that widen; the head is not counted by the paper
    assert len(layers) - 1 == depth


@pytest.mark.parametrize("depth", [1, 4, 6, 20, 38])
def test_a_densenet_has_a_depth_of_3n_plus_4(depth):
    with pytest.raises(ValueError, match=f"depth must be 3n\\+4 .*, got {depth}"):
        DenseNet(depth=depth, growth=12, dropout=0.0, classes=2, channels=1)


@pytest.mark.parametrize(("make", "wrong"), [
    (lambda: BottleneckResNet(stem=4, blocks=[1, 1], widths=[8, 8], inner=[4], groups=1, classes=2, channels=1),
     "inner has 1 stages, widths 2"),
    (lambda: BottleneckResNet(stem=4, blocks=[1], widths=[8], inner=[6], groups=4, classes=2, channels=1),
     r"inner must be multiples of groups \(4\), got 6"),
    (lambda: BottleneckResNet(stem=4, blocks=[1, 1], widths=[8], inner=[4], groups=1, classes=2, channels=1),
     "blocks has 2 stages, widths 1"),
    (lambda: ShuffleNetV1(stem=24, blocks=[1], widths=[250], groups=3, classes=2, channels=1), r"4 times groups \(12\)"),
    (lambda: ShuffleNetV2(stem=24, blocks=[1], widths=[115], last=8, classes=2, channels=1), "widths must be even, got 115"),
])
def test_settings_that_do_not_fit_together(make, wrong):
    with pytest.raises(ValueError, match=wrong):
        make()


@pytest.mark.parametrize(("name", "changes", "called"), [
    ("wrn", {"depth": 22, "width": 4}, "wrn_22_4"), ("wrn", {}, "wrn_16_2"), ("resnet", {"depth": 38}, "resnet38"),
    ("densenet_40_12", {"growth": 24}, "densenet_40_24"), ("mobilenet_v2", {"width": 1.0}, "mobilenet_v2_x1.0"),
    ("resnet20x0.5", {}, "resnet20x0.5"), ("resnet20_stochastic", {"depth": 32}, "resnet32_stochastic"),
    ("wrn_16_2_stochastic", {}, "wrn_16_2_stochastic")])
def test_results_call_a_network_by_what_it_is(name, changes, called):
    words = [f"student={name}", *(f"student.{key}={value}" for key, value in changes.items())]
    assert NetworkSpec.read(settings_of(*words).values["student"]).name == called


def test_a_general_choice_is_the_network_of_that_depth_and_width():
    general, own = (weightless(name, **changes).state_dict() for name, changes in
                    (("wrn", {"depth": 40, "width": 1}), ("wrn_40_1", {})))
    assert {key: value.shape for key, value in general.items()} == {key: value.shape for key, value in own.items()}


def test_networks_of_the_plain_family_take_any_number_of_stages():
    assert len(CNN(widths=[2, 3, 4, 5], classes=2, channels=1)(torch.zeros(2, 1, 8, 8)).stages) == 4
    assert len(MLP(widths=[5], classes=2, shape=(3, 4, 5))(torch.zeros(2, 3, 4, 5)).stages) == 1


def test_the_tiny_networks_of_these_tests_fit_the_tiny_data():
    for channels in (1, 3):
        data = tiny_data(channels)
        for spec in (TINY_STUDENT, TINY_TEACHER):
            assert spec.build(data)(data.normalise(data.test.inputs)).logits.shape == (40, 4)
