"""How many parameters networks have and how many operations they do: by closed form, and in the literature."""

import math

import pytest
import torch

from kdrun.config import registry
from kdrun.evaluation import metrics
from tests.models.test_zoo import STAGED, build, weightless

# --- closed forms: a convolution of b channels from a is 9ab, or ab for 1x1; a normalisation of b is 2b -----------------


def of_convolution(conv, before, after):
    """With the normalisations between its layers."""
    match conv:
        case "depthwise":
            return 9 * before + 2 * before + before * after
        case "bottleneck_2_groups_of_8":
            middle = after // 2
            return before * middle + 2 * middle + 9 * 8 * middle + 2 * middle + middle * after
    assert conv == "full"
    return 9 * before * after


def of_resnet(stem, blocks, widths, channels, classes, conv="full"):
    total, before = 9 * channels * stem + 2 * stem, stem
    for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
        for block in range(count):
            total += of_convolution(conv, before, after) + of_convolution(conv, after, after) + 4 * after
            if before != after or (number and not block):
                total += before * after + 2 * after
            before = after
    return total + before * classes + classes


def of_bottlenecks(stem, blocks, widths, inner, groups, channels, classes):
    total, before = 9 * channels * stem + 2 * stem, stem
    for number, (count, after, middle) in enumerate(zip(blocks, widths, inner, strict=True)):
        for block in range(count):
            total += before * middle + 9 * middle * middle // groups + middle * after + 4 * middle + 2 * after
            if before != after or (number and not block):
                total += before * after + 2 * after
            before = after
    return total + before * classes + classes


def of_wrn(depth, width, channels, classes, conv="full"):
    """Normalisation comes before a convolution, and once more at the end; shortcuts are not normalised."""
    total, before = 9 * channels * 16, 16
    for after in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 4) // 6):
            total += 2 * before + of_convolution(conv, before, after) + 2 * after + of_convolution(conv, after, after)
            total += before * after if before != after else 0
            before = after
    return total + 2 * before + before * classes + classes


def of_densenet(depth, growth, channels, classes):
    """A normalisation before each convolution and at the end; transitions keep the width."""
    total, width = 9 * channels * 16, 16
    for number in range(3):
        total += (2 * width + width * width) if number else 0
        for _ in range((depth - 4) // 3):
            total, width = total + 2 * width + 9 * width * growth, width + growth
    return total + 2 * width + width * classes + classes


def of_vgg(blocks, widths, channels, classes):
    """Convolutions have biases beside their normalisation."""
    total, before = 0, channels
    for count, after in zip(blocks, widths, strict=True):
        for _ in range(count):
            total, before = total + 9 * before * after + 3 * after, after
    return total + before * classes + classes


def of_mobilenet(stem, blocks, widths, channels, classes):
    total, before = 9 * channels * stem + 2 * stem, stem
    for count, after in zip(blocks, widths, strict=True):
        for _ in range(count):
            total, before = total + 9 * before + 2 * before + before * after + 2 * after, after
    return total + before * classes + classes


def of_mobilenet_v2(width, channels, classes):
    before, last = int(32 * width), int(1280 * max(1, width))
    total = 9 * channels * before + 2 * before
    for expansion, count, repeats in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(repeats):
            middle, after = expansion * before, int(count * width)
            total, before = total + before * middle + 13 * middle + middle * after + 2 * after, after
    return total + before * last + 2 * last + last * classes + classes


def of_shufflenet_v1(stem, blocks, widths, groups, channels, classes):
    total, before = channels * stem + 2 * stem, stem
    for number, (count, after) in enumerate(zip(blocks, widths, strict=True)):
        for block in range(count):
            made = after if block else after - before
            middle = made // 4
            total += before * middle // (groups if number or block else 1) + middle * made // groups
            total, before = total + 13 * middle + 2 * made, after
    return total + before * classes + classes


def of_shufflenet_v2(stem, blocks, widths, last, channels, classes):
    total, before = channels * stem + 2 * stem, stem
    for count, after in zip(blocks, widths, strict=True):
        half = after // 2
        total += 11 * before + before * half + 2 * half  # the left branch of the first unit
        total += before * half + 2 * half + 11 * half + half * half + 2 * half
        total, before = total + (count - 1) * (2 * half * half + 15 * half), after
    return total + before * last + 2 * last + last * classes + classes


def of_plain(widths, inputs, kernel, classes):
    total, before = 0, inputs
    for after in widths:
        total, before = total + kernel * before * after + 2 * after, after
    return total + before * classes + classes


def closed_form(name, shape, classes):
    settings = registry.load("model", name)
    kind = settings.pop("_target_").rpartition(".")[2]
    del settings["name"]
    channels = shape[0]
    settings.pop("dropout", None)
    match kind:
        case "ResNet":
            blocks = [(settings["depth"] - 2) // 6] * 3
            return of_resnet(settings["stem"], blocks, settings["widths"], channels, classes, settings.get("conv", "full"))
        case "SearchableNet":  # as it stands
            return closed_form("resnet8", shape, classes)
        case "CNN":
            return of_plain(settings["widths"], channels, 9, classes)
        case "MLP":
            return of_plain(settings["widths"], math.prod(shape), 1, classes)
    forms = {"WideResNet": of_wrn, "VGG": of_vgg, "BasicResNet": of_resnet, "BottleneckResNet": of_bottlenecks,
             "DenseNet": of_densenet, "MobileNet": of_mobilenet, "MobileNetV2": of_mobilenet_v2,
             "ShuffleNetV1": of_shufflenet_v1, "ShuffleNetV2": of_shufflenet_v2}
    return forms[kind](**settings, channels=channels, classes=classes)


def parameters(network) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize(("shape", "classes"), [((3, 32, 32), 10), ((3, 32, 32), 100), ((1, 8, 8), 10)])
def test_parameters_are_those_of_the_closed_form(name, shape, classes):
    assert parameters(weightless(name, shape, classes)) == closed_form(name, shape, classes)


# --- the literature ---------------------------------------------------------------------------------------------------

# Where the figures are from. Printed millions hold to their last digit, and to 2 % where He's padded shortcuts are 1x1
# convolutions here; multiply-adds, which `metrics.flops` counts as two, to 2 % (some count normalisation, others do not).
HE = "He et al. 2016, section 4.2"
ZAGORUYKO = "Zagoruyko and Komodakis 2016, tables 4 and 5"
HUANG = "Huang et al. 2017, table 2; FLOPs: Liu et al., Learning efficient convolutional networks through network slimming, " \
        "ICCV 2017, table 1"
XIE = "Xie et al. 2017, table 7"
CRD = "Tian et al. 2020: the networks of their toolkit, RepDistiller"
LI = "Li et al., Pruning filters for efficient ConvNets, ICLR 2017, table 1"
OSMR = "github.com/osmr/imgclsmob, pytorch/README.md, tables of CIFAR-10 and CIFAR-100"
DXY = "github.com/D-X-Y/AutoDL-Projects, Basic Classification Models"
DA2 = "github.com/da2so/DA2Lite, model_zoo/README.md"
WEI = "github.com/weiaicunzai/pytorch-cifar100, README.md"
HOWARD = "Howard et al. 2017, table 4: 569 million multiply-adds at 224x224, over (112/32)^2; parameters: " + WEI
MA = "Ma et al. 2018, table 8: 146 million at 224x224, less stem and classifier, over (28/16)^2; parameters: " + CRD

LITERATURE = [  # choice, changed settings, classes, parameters (a whole number is exact, else millions), million multiply-adds
    ("resnet8", {}, 10, 0.08, 12.50, DXY),
    ("resnet20", {}, 10, 0.27, None, HE),
    ("resnet32", {}, 10, 0.46, 69.12, HE + "; FLOPs: " + DXY),
    ("resnet44", {}, 10, 0.66, None, HE),
    ("resnet56", {}, 10, 0.85, 125, LI),
    ("resnet110", {}, 10, 1.72, 253, LI),
    ("resnet20", {}, 100, 278_324, 41.30, OSMR),
    ("resnet32", {}, 100, 472_756, None, CRD),
    ("resnet56", {}, 100, 861_620, 127.06, OSMR),
    ("resnet110", {}, 100, 1_736_564, 255.71, OSMR),
    ("resnet8x4", {}, 100, 1_233_540, None, CRD),
    ("resnet32x4", {}, 100, 7_433_860, None, CRD),
    ("wrn_16_1", {}, 10, 0.2, None, ZAGORUYKO),
    ("wrn_16_2", {}, 10, 0.7, None, ZAGORUYKO),
    ("wrn_16_8", {}, 10, 11.0, None, ZAGORUYKO),
    ("wrn_40_1", {}, 10, 0.6, None, ZAGORUYKO),
    ("wrn_40_2", {}, 10, 2.2, None, ZAGORUYKO),
    ("wrn", {"depth": 22, "width": 8}, 10, 17.2, None, ZAGORUYKO),
    ("wrn_28_10", {}, 10, 36_479_194, 5246.98, OSMR),
    ("wrn", {"depth": 16, "width": 10}, 10, 17_116_634, 2414.04, OSMR),
    ("wrn", {"depth": 40, "width": 8}, 10, 35_748_314, 5176.90, OSMR),
    ("wrn_40_2", {}, 100, 2_255_156, None, CRD),
    ("wrn_16_2", {}, 100, 703_284, None, CRD),
    ("wrn_40_1", {}, 100, 569_780, None, CRD),
    ("vgg8", {}, 100, 3_965_028, None, CRD),
    ("vgg13", {}, 100, 9_462_180, None, CRD),
    ("vgg16", {}, 10, 14.73, None, DA2),  # its operations there are of another form, whose last stage is halved once more
    ("vgg19", {}, 10, 20.04, None, DA2),
    ("resnet18", {}, 10, 11.17, 560, DA2),
    ("resnet18", {}, 100, 11.22, 560, DA2),
    ("resnet34", {}, 10, 21.28, 1160, DA2),
    ("resnet50", {}, 10, 23.52, 1300, DA2),
    ("resnet50", {}, 100, 23.7, None, WEI),
    ("resnext29_8x64d", {}, 10, 34.4, None, XIE),
    ("resnext29_8x64d", {"inner": [1024, 2048, 4096], "groups": 16}, 10, 68_155_210, 10709.34, OSMR),
    ("densenet_40_12", {}, 10, 1.0, 533 / 2, HUANG),  # network slimming counts a multiply-add as two
    ("densenet_40_12", {"depth": 100}, 10, 7.0, None, HUANG),
    ("densenet_40_12", {"depth": 100, "growth": 24}, 10, 27.2, None, HUANG),
    ("mobilenet", {}, 100, 3.3, 569 / 12.25, HOWARD),
    ("mobilenet_v2", {}, 100, 812_836, None, CRD),
    ("shufflenet_v1", {}, 100, 949_258, None, CRD),
    ("shufflenet_v2", {}, 100, 1_355_528, (146 - 8.1 - 1.0) / 3.0625, MA),
]


@pytest.mark.parametrize(("name", "changes", "classes", "count", "multiply_adds", "source"), LITERATURE,
                         ids=[f"{row[0]}-{row[2]}-{number}" for number, row in enumerate(LITERATURE)])
def test_sizes_are_those_of_the_literature(name, changes, classes, count, multiply_adds, source):
    network = weightless(name, classes=classes, **changes)
    if isinstance(count, int):
        assert parameters(network) == count, source
    else:
        digits = len(str(count).partition(".")[2])
        assert parameters(network) / 1e6 == pytest.approx(count, abs=max(0.51 * 10.0**-digits, 0.02 * count)), source
    if multiply_adds is not None:
        pictures = torch.zeros(1, 3, 32, 32, device="meta")
        assert metrics.flops(network, pictures) / 2e6 == pytest.approx(multiply_adds, rel=0.02), source


def test_operations_are_counted_where_there_is_no_figure_in_the_literature():
    # a 1x1 convolution from 24 to 54 channels at 32x32, a depthwise one at 16x16, 54 to 216 in 3 groups at 16x16
    first = build("shufflenet_v1").stages[0].blocks[0]
    assert metrics.flops(first, torch.zeros(1, 24, 32, 32)) == 2 * (24 * 54 * 1024 + 9 * 54 * 256 + 54 * 216 // 3 * 256)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "efficientnet_b0", "swin_t", "vgg11_bn"])
def test_networks_of_torchvision_are_those_that_it_documents(name):
    from kdrun.utils.vision import models

    told = models.get_model_weights(name).DEFAULT.meta
    network = weightless("torchvision", (3, 224, 224), 1000, name=name)
    assert parameters(network) == told["num_params"]
    assert metrics.flops(network, torch.zeros(1, 3, 224, 224, device="meta")) / 2e9 == pytest.approx(told["_ops"], rel=0.03)


def test_the_network_of_dataset_condensation():
    stages = (9 * 3 * 128 + 128 + 2 * 128) + 2 * (9 * 128 * 128 + 128 + 2 * 128)  # convolutions have biases
    assert parameters(weightless("convnet")) == stages + 4 * 4 * 128 * 10 + 10 == 320_010
