"""Progressive self-knowledge: the share, the table and the target."""

import pytest
import torch
import torch.nn.functional as F

from kdrun.data.batch import Batch
from kdrun.methods.self_taught.pskd import PSKD
from kdrun.models.roles import Networks
from kdrun.training.loop import distill
from tests.toy import toy_run


def test_the_share_grows_linearly():
    method = PSKD(alpha=0.8)
    assert method.share(0, 300) == pytest.approx(0.002667, abs=1e-6)
    assert method.share(299, 300) == pytest.approx(0.8)


@pytest.fixture
def made(factory, data):
    networks, method = Networks(factory().student()), PSKD(alpha=0.8)
    networks.student.eval()
    method.setup(networks, data)
    rows = torch.tensor([5, 0, 40])
    return networks, method, Batch(torch.randn(3, *data.shape), data.train.labels[rows], rows, epoch=0, epochs=10)


def total(terms):
    return float(sum(terms.values()).detach())


def test_the_first_epoch_learns_from_the_labels(made):
    networks, method, batch = made
    wanted = F.cross_entropy(networks.student(batch).logits.detach(), batch.y)
    assert total(method.loss(networks, batch)) == pytest.approx(float(wanted), abs=1e-6)


def test_what_is_said_is_kept_and_comes_back(made):
    networks, method, batch = made
    before = method.answers.clone()
    method.loss(networks, batch)
    said = networks.student(batch).logits.detach().log_softmax(1).exp()
    assert torch.equal(method.answers[batch.index], said)
    assert method.known.nonzero()[:, 0].tolist() == sorted(batch.index.tolist())
    untouched = torch.ones(len(before), dtype=torch.bool)
    untouched[batch.index] = False
    assert torch.equal(method.answers[untouched], before[untouched])
    later = Batch(torch.randn_like(batch.x), batch.y, batch.index, epoch=4, epochs=10)
    terms = method.loss(networks, later)
    target = 0.6 * F.one_hot(batch.y, said.shape[1]) + 0.4 * said  # the share is 0.8 * 5 / 10
    logs = networks.student(later).logits.log_softmax(1)
    assert total(terms) == pytest.approx(float(-(target * logs).sum(1).mean().detach()), abs=1e-6)
    assert torch.equal(method.answers[batch.index], logs.exp().detach())


def test_the_target_is_what_was_said_before_not_now(made):
    networks, method, batch = made
    hard = method.label_loss(networks.student(batch), batch)
    first, second = (method.loss(networks, Batch(batch.x, batch.y, batch.index, epoch=9, epochs=10))["past"] + 0.8 * hard
                     for _ in range(2))
    entropy = torch.distributions.Categorical(logits=networks.student(batch.x).logits).entropy().mean()
    assert float(second.detach()) == pytest.approx(0.8 * float(entropy.detach()), abs=1e-5)
    assert float(first.detach()) != pytest.approx(float(second.detach()), abs=1e-4)


def test_no_share_is_the_labels_alone():
    ends = []
    for key, *more in (("vanilla",), ("pskd", "method.alpha=0")):
        run = toy_run(key, "self", *more)
        distill(run)
        ends.append(run.networks.student.state_dict())
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-6) for name in ends[0])


def test_places_have_answers_of_their_own(made):
    method = made[1]
    method.places = 6
    batch = Batch(torch.zeros(3, 6), index=torch.tensor([7, 1, 3]), places=torch.tensor([0, 11]))
    assert method.entries(batch).tolist() == [7 * 6, 1 * 6 + 5]  # the first place of sample 7, the last of sample 1
