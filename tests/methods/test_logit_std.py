"""Standardised logits: what the base sees, and what labels see."""

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.config import registry
from kdrun.config.instantiation import instantiate
from kdrun.data.batch import Batch
from kdrun.methods.attention.at import AT
from kdrun.methods.base import Method
from kdrun.methods.losses import kd, standardise
from kdrun.methods.losses.response import dkd_parts
from kdrun.methods.response.dkd import DKD
from kdrun.methods.response.kd import KD
from kdrun.methods.response.logit_std import LogitStd
from kdrun.models.roles import Networks, Role, frozen
from kdrun.training.loop import distill
from tests.conftest import TINY_STUDENT, TINY_TEACHER
from tests.toy import quick_for_some, toy_run, toy_settings

F64 = torch.float64


def test_mean_zero_deviation_one():
    logits = tensor([[3.0, -1.0, 0.5, 9.0]], dtype=F64)
    assert standardise(logits).mean().item() == pytest.approx(0, abs=1e-12)
    assert standardise(logits).std().item() == pytest.approx(1, abs=1e-6)


def test_only_the_form_counts():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 5, 10, dtype=F64)
    wanted = float(kd(standardise(teacher), standardise(student), 2.0))
    assert float(kd(standardise(3 * teacher + 7), standardise(0.2 * student - 5), 2.0)) == pytest.approx(wanted, abs=1e-6)


def test_of_two_classes_only_the_larger_is_left():
    sure, unsure, opposite = (standardise(tensor([row], dtype=F64)) for row in ([9.0, 0.0], [0.1, 0.0], [0.0, 4.0]))
    assert float(kd(sure, unsure, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(kd(sure, opposite, 2.0)) == pytest.approx(0.960316, abs=1e-6)


def test_an_even_answer_is_finite():
    even = torch.zeros(1, 4, requires_grad=True)
    kd(tensor([[1.0, 2.0, 3.0, 4.0]]), standardise(even), 2.0).backward()
    assert standardise(even).abs().max() == 0
    assert torch.isfinite(even.grad).all()


@pytest.fixture
def networks(factory):
    nets = factory(teachers=(TINY_TEACHER, TINY_STUDENT))
    networks = Networks(nets.student(), [frozen(role).double() for role in nets.untrained_teachers()])
    networks.student.double().eval()
    return networks


@pytest.fixture
def batch(data):
    torch.manual_seed(0)
    return Batch(torch.randn(6, *data.shape, dtype=F64), torch.arange(6) % 4)


def terms_of(method, networks, batch):
    ((player, terms),) = method.step(networks, batch)
    assert player == "student"
    return {name: float(term.detach()) for name, term in terms.items()}


def test_over_kd(networks, batch):
    networks.teachers = networks.teachers[:1]
    method = LogitStd(base=KD(temperature=2.0, ce_weight=0.1, kd_weight=9.0, form="zhu"))
    method.label_smoothing = 0.1  # as the recipe may say
    student, teacher = networks.student(batch).logits, networks.teacher(batch).logits
    assert terms_of(method, networks, batch) == pytest.approx({
        "ce": 0.1 * float(F.cross_entropy(student, batch.y, label_smoothing=0.1).detach()),
        "kd": 9 * float(kd(standardise(teacher), standardise(student), 2.0).detach())})


def test_over_dkd(networks, batch):
    networks.teachers = networks.teachers[1:]
    method = LogitStd(base=DKD(temperature=2.0, ce_weight=1.0, alpha=9.0, beta=72.0, reference=None, scaling="none",
                                warmup_epochs=0))
    student, teacher = networks.student(batch).logits, networks.teacher(batch).logits
    target, others = dkd_parts(standardise(teacher), standardise(student), batch.y, 2.0)
    assert terms_of(method, networks, batch) == pytest.approx({
        "ce": float(F.cross_entropy(student, batch.y).detach()), "tckd": 9 * float(target.detach()),
        "nckd": 72 * float(others.detach())})


def test_the_gradient_goes_through_the_students_mean_and_deviation(networks, batch):
    networks.teachers = networks.teachers[:1]
    method = LogitStd(base=KD(temperature=2.0, ce_weight=0.0, kd_weight=1.0, form="zhu"))
    ((_, terms),) = method.step(networks, batch)
    (slope,) = torch.autograd.grad(terms["kd"], networks.student(batch).logits, retain_graph=True)
    assert slope.abs().max() > 1e-6
    assert slope.sum(1).abs().max() < 1e-12  # no gain by a shift,
    assert (slope * networks.student(batch).logits).sum(1).abs().max() < 1e-6  # nor by a scale


def test_a_base_without_answers_is_refused():
    with pytest.raises(ValueError, match="does not learn from answers"):
        LogitStd(base=AT(by="activation", power=2.0, weight=1.0, reference=None, scaling="linear", ce_weight=1.0,
                         gradient_weight=1.0, mode="code"))


STANDARDISED = {"anc", "apprentice", "byot", "codistill", "cross_quality", "cskd", "dcm", "ddgsd", "dfad", "diff_quant",
                "dist", "dkd", "dml", "encoder_kd", "es_kd", "funmatch", "gradual", "gslr", "intra_kd", "kd",
                "label_preserve", "label_refinery", "logit_mse", "mt_avg", "mt_switch", "mt_weighted_inputs", "multi_exit",
                "okddip", "qkd", "quant_distill", "rocket", "snapshot_kd", "tfkd_self", "zskt"}

WORDS = {"anc": ("recipe.epochs=99",),  # which counts verdicts by epoch
         "diff_quant": ("method.redistribute=false",)}  # by how strongly labels pull at each layer, which is theirs to say


def first_terms(key, wrapped, scale, monkeypatch):
    """The terms of a method's first step, by networks whose logits are all this many times as large."""
    run = toy_run(key, registry.method_card(key).schemes[0], *WORDS.get(key, ()))
    if wrapped:
        run.method = LogitStd(base=run.method)
    passed = Role._passed

    def scaled(self, given, network):
        output = passed(self, given, network)
        return output.replace(logits=scale * output.logits)

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(Role, "_passed", scaled)
        phase = next(phase for phase in run.method.phases(run) if phase.loss is None)
        batch = next((phase.data or run.stream).epoch(98, 100))  # late, and what falls to nothing is not there yet
        updates = [(player, terms) for player, terms in run.method.step(run.networks, batch)]
        return {f"{player} {name}": float(term.detach()) for player, terms in updates for name, term in terms.items()}


@pytest.mark.parametrize("key", [quick_for_some(key) for key in registry.options("method")])
def test_a_base_is_standardised_on_every_side_or_refused(key, monkeypatch):
    if key not in STANDARDISED:
        with pytest.raises(ValueError, match=r"base: .*(does not learn from answers|cannot be standardised; take another)"):
            LogitStd(base=instantiate(toy_settings(key).values["method"], "method"))
        return
    alone, large = (first_terms(key, False, scale, monkeypatch) for scale in (1.0, 3.0))
    formed, reformed = (first_terms(key, True, scale, monkeypatch) for scale in (1.0, 3.0))
    changed = 0
    for name, term in formed.items():
        untouched = [alone[name], large[name]] == pytest.approx([term, reformed[name]], rel=1e-5)  # labels, and features
        form_alone = reformed[name] == pytest.approx(term, rel=1e-3)  # a plain side would grow with the scale
        assert untouched or form_alone, name
        assert untouched or "ce" not in name.split(), name
        changed += form_alone and not untouched
    assert changed


def test_labels_that_a_base_meets_by_answers_of_its_own_making_are_refused():
    class Mixing(KD):
        def loss(self, networks, batch):
            student = networks.student(batch)
            return {"ce": self.label_loss(student.replace(logits=2 * student.logits), batch)}

    run = toy_run("kd", "offline")
    run.method, run.rehearsal = LogitStd(base=Mixing(temperature=2.0, ce_weight=1.0, kd_weight=1.0, form="zhu")), True
    with pytest.raises(ValueError, match="base: Mixing meets the labels by logits that it makes of others"):
        distill(run)


def test_a_base_that_says_nothing_is_refused():
    class Strange(Method):
        knowledge = ("response",)

    with pytest.raises(ValueError, match="base: Strange does not say that it compares logits"):
        LogitStd(base=Strange())


def test_networks_answer_plainly_whenever_the_base_does_not_look(networks, batch):
    networks.teachers = networks.teachers[:1]
    method = LogitStd(base=KD(temperature=2.0, ce_weight=0.1, kd_weight=9.0, form="zhu"))
    for _ in method.step(networks, batch):  # between a base's updates others look: a scheme, another part of a sum
        assert networks.student(batch).logits.std(dim=1).sub(1).abs().max() > 0.1
