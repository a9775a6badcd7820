"""Compression in any order: what is left of weights and channels, factors, sizes, and what orders have in common."""

import pytest
import torch
from torch import nn

from kdrun.evaluation import metrics
from kdrun.models.channels import channels_of
from kdrun.models.description import describe
from kdrun.models.edited import with_channels
from kdrun.models.factorised import factorised, least_rank
from kdrun.models.pruning import Masked, cuttable, magnitude_masks, slim_channels, sparse_bits, strong_filters
from kdrun.models.quantization import Bucketed
from kdrun.training.loop import distill
from tests.models.test_zoo import build
from tests.toy import toy_run

CONV = nn.Conv2d(64, 64, 3, padding=1, bias=False)
ORDERS = ("[prune,distill,quantize]", "[quantize,distill,prune]")


def weights_of(*layers: nn.Module) -> int:
    return sum(layer.weight.numel() for layer in layers)


class TestSparse:
    kept = torch.zeros(1000).index_fill_(0, torch.arange(0, 1000, 10), 1)

    def test_example(self):
        assert Bucketed(4, 256).stored_bits(1000) == 4256
        assert sparse_bits(torch.ones(1000), 32) == 32000
        assert 1000 + 32 * 100 == 4200 > sparse_bits(self.kept, 32) == 4000  # the places cost 8 bits each
        assert sparse_bits(self.kept, 4) == 1200

    def test_a_bit_for_each_place_where_that_is_less(self):
        kept = torch.zeros(1000).index_fill_(0, torch.arange(0, 1000, 5), 1)
        assert sparse_bits(kept, 4) == 1000 + 4 * 200

    def test_zeros_are_written_where_eight_bits_cannot_skip_as_many(self):
        kept = torch.zeros(4000)
        kept[[0, 256, 513]] = 1  # 255 and 256 places lie in between
        assert sparse_bits(kept, 4) == 12 * 4

    def test_ranges_of_buckets_come_on_top(self):
        assert Masked(self.kept, Bucketed(4, 256)).stored_bits(1000) == 1200 + 4 * 64


class TestLowRank:
    def test_rank(self):
        assert least_rank(torch.tensor([3.0, 2.0, 1.0]), 0.9) == 2
        assert least_rank(torch.tensor([3.0, 2.0, 1.0]), 13 / 14) == 2
        assert least_rank(torch.tensor([3.0, 2.0, 1.0]), 1.0) == 3

    @pytest.mark.parametrize(("form", "rank", "weights"),
                             [("channel", 16, 10240), ("channel", 32, 20480), ("spatial", 16, 6144)])
    def test_weights(self, form, rank, weights):
        torch.manual_seed(0)
        layer = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        matrix = torch.randn(64 if form == "channel" else 192, rank) @ torch.randn(rank, 576 if form == "channel" else 192)
        layer.weight.data = matrix.view(64, 64, 3, 3) if form == "channel" else \
            matrix.view(64, 3, 64, 3).permute(0, 2, 3, 1).contiguous()
        assert weights_of(*factorised(layer, form, 1 - 1e-9)) == weights

    @pytest.mark.parametrize("form", ["channel", "spatial"])
    def test_a_layer_of_that_rank_is_answered_alike(self, form):
        torch.manual_seed(0)
        layer = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        first, second = (nn.Conv2d(16, 5, 3, bias=False), nn.Conv2d(5, 24, 1)) if form == "channel" else \
            (nn.Conv2d(16, 5, (3, 1), bias=False), nn.Conv2d(5, 24, (1, 3)))
        layer.weight.data = torch.einsum("rikl,or->oikl", first.weight, second.weight[:, :, 0, 0]) if form == "channel" else \
            torch.einsum("rik,orl->oikl", first.weight[..., 0], second.weight[:, :, 0])
        pictures = torch.randn(2, 16, 9, 9)
        made = factorised(layer, form, 1 - 1e-9)
        assert made[0].out_channels == 5
        assert torch.allclose(made(pictures), layer(pictures), atol=1e-5)

    def test_nothing_where_it_saves_nothing(self):
        assert factorised(nn.Conv2d(64, 64, 3), "channel", 1.0) is None  # 64 is above 57.6
        assert factorised(nn.Linear(64, 10), "channel", 1.0) is None     # 10 is above 8.6
        assert factorised(nn.BatchNorm2d(3), "channel", 0.5) is None

    def test_a_linear_layer(self):
        layer = nn.Linear(64, 10)
        layer.weight.data = torch.randn(10, 8) @ torch.randn(8, 64)
        made, rows = factorised(layer, "channel", 1 - 1e-9), torch.randn(3, 64)
        assert weights_of(*made) == 8 * 74
        assert torch.allclose(made(rows), layer(rows), atol=1e-4)


def test_the_smallest_weights_of_all_layers_go():
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    network[0].weight.data = torch.tensor([[0.1, -5.0], [0.3, 2.0]])
    network[1].weight.data = torch.tensor([[0.2, -0.4]])
    kept = magnitude_masks(network, 0.5)
    assert kept["0"].tolist() == [[0, 1], [0, 1]]
    assert kept["1"].tolist() == [[0, 1]]


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8"])
def test_channels_within_blocks_are_cut(name):
    network = build(name, (1, 8, 8))
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight)
    before = {tuple(one.outputs): one.count for one in channels_of(network)}
    for chosen in (strong_filters(network, 0.5), slim_channels(network, 0.5)):
        made = with_channels(network, chosen)
        after = {tuple(one.outputs): one.count for one in channels_of(made)}
        cut = {tuple(one.outputs) for one in cuttable(network)}
        assert all(1 <= after[key] < before[key] for key in cut if "stages" in key[0] or name == "vgg8")
        assert all(after[key] == before[key] for key in before.keys() - cut)
        assert metrics.flops(made, torch.zeros(1, 1, 8, 8)) < metrics.flops(network, torch.zeros(1, 1, 8, 8))


def test_distillation_alone_is_the_base():
    alone = toy_run("compress", "offline", "method.steps=[distill]", "method.scratch=false")
    kd = toy_run("kd", "offline")
    distill(alone)
    distill(kd)
    other = kd.networks.student.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in alone.networks.student.state_dict().items())


@pytest.mark.parametrize("steps", ORDERS)
def test_zeros_and_levels_last(steps):
    run = toy_run("compress", "offline", f"method.steps={steps}", "method.amount=0.5", "method.bits=2")
    distill(run)
    assert sum(run.trained.values()) == 4  # two of the recipe, and one for each other step
    for role in run.method.trained_networks(run.networks).values():
        layers = [part for part in role.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
        weights = torch.cat([layer.weight.flatten() for layer in layers])
        assert (weights == 0).float().mean() >= 0.5 - 1e-3
        assert all(len(layer.weight.unique()) <= 1 + 4 * -(-layer.weight.numel() // 256) for layer in layers[:-1])
        size = metrics.size(role.network)
        assert size.parameters == sum(weight.numel() for weight in role.network.parameters())
        assert size.bits < 8 * size.parameters
        assert metrics.nonzero(role.network) < 0.6 * size.parameters
    table = run.method.extra_tables(run)["steps"]
    assert [row["step"] for row in table if row["recovered"]] == steps[1:-1].split(",")
    assert table[-1]["bits"] == metrics.size(run.networks.student.network).bits


@pytest.mark.parametrize("words", [("method.prune=filters", "method.steps=[low_rank,prune,quantize]", "method.rounds=2"),
                                   ("method.prune=slimming", "method.steps=[distill,prune,low_rank]", "method.start=teacher")])
def test_another_network_is_built_again_from_its_description(words):
    run = toy_run("compress", "offline", *words, "method.energy=0.6", "method.low_rank=spatial")
    before = metrics.size(run.networks.teacher.network if "method.start=teacher" in words else run.networks.student.network)
    distill(run)
    network = run.networks.student.network.eval()
    assert run.networks.student.model == "cnn compressed"
    assert metrics.size(network).parameters < before.parameters
    again = describe(network, run.data, "student", "made").build().eval()
    again.load_state_dict(network.state_dict())
    pictures = torch.randn(3, *run.data.shape)
    assert torch.allclose(again(pictures).logits, network(pictures).logits, atol=1e-5)


def test_steps_are_some_and_none_twice():
    for steps in ("[]", "[prune,prune]"):
        with pytest.raises(ValueError, match="none twice"):
            toy_run("compress", "offline", f"method.steps={steps}")
