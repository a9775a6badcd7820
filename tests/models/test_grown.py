"""Models that are no networks: what they answer, and that they are saved, sized and refused as they should be."""

import pytest
import torch
from safetensors.torch import load_file
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.evaluation import metrics
from kdrun.models.gaussian import GaussianProcess
from kdrun.models.tree import Tree
from kdrun.storage.network_store import save_weights
from tests.toy import TINY, rows_of, toy_experiment

F64 = torch.float64


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def tree(max_depth=None, min_samples_leaf=1, classes=3):
    return Tree(max_depth=max_depth, min_samples_leaf=min_samples_leaf, classes=classes)


def process(length=1.0, noise=1e-6, classes=2, shape=(1, 1, 1), most=100):
    return GaussianProcess(length_scale=length, noise=noise, most=most, classes=classes, shape=shape)


def pictures(count=60, seed=0):
    return torch.randn(count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))


class TestTree:
    def test_a_single_leaf_answers_with_the_mean(self):
        logits = torch.randn(60, 3)
        stump = tree(min_samples_leaf=60)
        stump.fit(pictures(), logits)
        torch.testing.assert_close(stump(pictures(5, 1)).logits, logits.mean(dim=0).expand(5, 3))
        assert (int(stump.depth), stump.leaves, len(stump.answer)) == (0, 1, 1)

    def test_without_a_limit_it_repeats_every_answer(self):
        logits = torch.randn(60, 3)
        grown = tree()
        grown.fit(pictures(), logits)
        torch.testing.assert_close(grown(pictures()).logits, logits)
        assert grown.leaves == 60
        assert len(grown.answer) == 2 * 60 - 1

    def test_values_next_to_each_other_are_told_apart(self):
        near = tensor([1.0, 1 + 2**-21]).view(2, 1, 1, 1)  # four steps of float32 apart: closer ones are equal to the grower
        grown = tree(classes=2)
        grown.fit(near, tensor([[0.0, 1.0], [1.0, 0.0]]))
        assert grown(near).logits.tolist() == [[0, 1], [1, 0]]

    def test_depth_and_leaves_keep_their_limits(self):
        grown = tree(max_depth=3, min_samples_leaf=4)
        grown.fit(pictures(), torch.randn(60, 3))
        leaves = {tuple(answer) for answer in grown(pictures()).logits.tolist()}
        assert int(grown.depth) == 3
        assert len(leaves) == grown.leaves <= 8

    def test_from_labels_it_answers_with_shares(self):
        stump = tree(min_samples_leaf=4)
        stump.fit(pictures(4), tensor([0, 2, 2, 2]))  # class 1 is never seen
        torch.testing.assert_close(stump(pictures(1)).logits.exp(), tensor([[2, 1, 4]]) / 7)

    def test_it_agrees_with_the_library_that_grew_it(self):
        from sklearn.tree import DecisionTreeRegressor

        logits, others = torch.randn(60, 3), pictures(200, 1)
        grown = tree(max_depth=5, min_samples_leaf=2)
        grown.fit(pictures(), logits)
        oracle = DecisionTreeRegressor(max_depth=5, min_samples_leaf=2, random_state=0)
        oracle.fit(pictures().flatten(1).numpy(), logits.double().numpy())
        wanted = torch.from_numpy(oracle.predict(others.flatten(1).numpy())).float()
        torch.testing.assert_close(grown(others).logits, wanted)

    def test_size_and_no_operations(self):
        grown = tree(max_depth=2)
        grown.fit(pictures(), torch.randn(60, 3))
        nodes = 2 * grown.leaves - 1
        stored = nodes * (3 * 8 + 8 + 3 * 4) + 8  # three whole numbers, a threshold and an answer each; and the depth
        assert nodes >= 5
        assert metrics.size(grown) == (nodes, stored, 8 * stored)
        assert metrics.flops(grown, torch.zeros(1, 1, 3, 3)) is None


class TestGaussianProcess:
    points = tensor([0.0, 1.0], dtype=F64).view(2, 1, 1, 1)

    def grown(self):
        model = process().double()
        model.fit(self.points, tensor([0, 1]))
        return model

    def test_halfway(self):
        model, halfway = self.grown(), tensor([0.5], dtype=F64).view(1, 1, 1, 1)
        assert (model(halfway).embedding @ model.weights)[0].tolist() == pytest.approx([0.549318, 0.549318], abs=1e-5)
        assert model(halfway).logits.exp()[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)

    def test_at_a_picture_it_has_seen(self):
        assert self.grown()(self.points[:1]).logits.exp()[0].tolist() == pytest.approx([1, 0], abs=2e-6)

    def test_gradient_reaches_the_picture(self):
        place = tensor([0.4], dtype=F64).view(1, 1, 1, 1).requires_grad_()
        model = self.grown()
        assert torch.autograd.gradcheck(lambda x: model(x).logits, place)

    def test_far_away_it_prefers_nothing_and_stays_finite(self):
        logits = self.grown()(tensor([1e3], dtype=F64).view(1, 1, 1, 1)).logits
        assert logits.exp()[0].tolist() == pytest.approx([0.5, 0.5])

    def test_length_by_the_median_distance(self):
        model = process(length=None)
        model.fit(tensor([0.0, 1.0, 4.0]).view(3, 1, 1, 1), tensor([0, 1, 1]))
        assert model.scale.item() == 3

    def test_has_no_size(self):
        assert metrics.size(self.grown()) is None


@pytest.mark.parametrize("kind", [tree, lambda: process(classes=3, shape=(1, 3, 3))])
def test_saved_and_loaded_into_one_that_never_grew(kind, tmp_path):
    grown, other = kind(), kind()
    grown.fit(pictures(), torch.arange(60) % 3)
    save_weights(grown, tmp_path / "weights.safetensors")
    state = load_file(tmp_path / "weights.safetensors")
    assert sum(value.numel() for value in state.values()) > 100
    other.load_state_dict(state)
    assert torch.equal(other(pictures(9, 1)).logits, grown(pictures(9, 1)).logits)


@pytest.mark.parametrize("kind", [tree, lambda: process(classes=3, shape=(1, 3, 3))])
def test_answers_before_it_grew(kind):
    assert bool(torch.isfinite(kind()(pictures(2)).logits).all())


def test_a_process_teaches_a_network_and_is_found_in_the_store(tmp_path, monkeypatch):
    without = tuple(word for word in TINY if not word.startswith("teacher"))
    monkeypatch.setattr("tests.toy.TINY", without)
    words = ("teacher=gp", "recipe.epochs=1", "method.temperature=3.0")
    rows = rows_of(toy_experiment("kd", tmp_path, *words))
    again = rows_of(toy_experiment("kd", tmp_path, *words, "method.ce_weight=0.2"))
    assert rows["teacher"]["accuracy"] == again["teacher"]["accuracy"] > 0.5
    assert len(list((tmp_path / "store").glob("*-gp-*/entry.json"))) == 1
    for row, keys in ((rows["teacher"], ("parameters", "bytes", "bits", "epochs")),
                      (rows["student"], ("distillation_score", "distillation_factor", "size_reduction_pct"))):
        assert [row[key] for key in keys] == [None] * len(keys)
    assert None not in [rows["student"][key] for key in ("parameters", "relative_error", "accuracy_reduction_pct", "kl")]


@pytest.mark.parametrize(("words", "wrong"), [
    (("teacher=gp", "teacher.most=40"), "48 pictures; it takes at most 40"),
    (("teacher=cnn", "student=tree"), "it is made in one go, and the method trains by steps"),
])
def test_what_cannot_be_is_refused_before_anything_is_trained(words, wrong, tmp_path, monkeypatch):
    chosen = tuple(word.partition("=")[0] for word in words)
    monkeypatch.setattr("tests.toy.TINY", tuple(word for word in TINY if not word.startswith(chosen)))
    with pytest.raises(ConfigError, match=wrong):
        toy_experiment("kd", tmp_path, *words)
