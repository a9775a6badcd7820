"""The offline methods' losses, in closed form (float64)."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.data.batch import Batch
from kdrun.methods.attention.at import AT
from kdrun.methods.losses import kl
from kdrun.methods.losses.feature import at
from kdrun.methods.losses.relation import pkt, rkd_angle, rkd_distance, sp
from kdrun.methods.losses.response import dkd_parts, logit_mse
from kdrun.methods.relation.rkd import RKD
from kdrun.methods.response.kd import KD
from kdrun.methods.response.label_preserve import LabelPreserve
from kdrun.models.output import ModelOutput
from kdrun.models.roles import Networks, frozen
from tests.toy import toy_run

F64 = torch.float64


def vectors(*rows):
    return tensor(rows, dtype=F64)


def close(value, wanted, tolerance=1e-6):
    assert float(value.detach()) == pytest.approx(wanted, abs=tolerance)


class TestKD:
    teacher, student = vectors([2, 0]), vectors([0, 0])

    @pytest.mark.parametrize(("form", "wanted", "slope"), [("zhu", 0.468713, 0.462117), ("gou", 0.693147, 0.115529)])
    def test_forms_and_their_gradients(self, form, wanted, slope):
        method = KD(temperature=2.0, ce_weight=0.1, kd_weight=0.9, form=form)
        student = self.student.clone().requires_grad_()
        soft = method.soft(self.teacher, student)
        ce = torch.nn.functional.cross_entropy(student, tensor([0]))
        close(0.1 * ce + 0.9 * soft, wanted)
        (gradient,) = torch.autograd.grad(soft, student)
        assert gradient[0].tolist() == pytest.approx([-slope, slope], abs=1e-6)

    def test_teacher_gets_no_gradient(self):
        teacher, student = self.teacher.clone().requires_grad_(), self.student.clone().requires_grad_()
        KD(temperature=4.0, ce_weight=0.1, kd_weight=0.9, form="zhu").soft(teacher, student).backward()
        assert teacher.grad is None
        assert student.grad is not None


class TestLogitMSE:
    @pytest.mark.parametrize(("target", "reduction", "wanted"), [
        ([2, 0], "sum_class", 2.0), ([2, 0], "mean", 2.0), ([2, 0, 0, 0], "sum_class", 2.0), ([2, 0, 0, 0], "mean", 1.0)])
    def test_reductions(self, target, reduction, wanted):
        close(logit_mse(vectors(target), torch.zeros(1, len(target), dtype=F64), reduction=reduction), wanted)

    def test_centred_ignores_a_shift_and_is_the_limit_of_high_temperatures(self):
        teacher, student = vectors([3, -1, -2]), vectors([0.5, 0.5, -1])
        centred = float(logit_mse(teacher, student, center=True))
        close(logit_mse(teacher + 7, student, center=True), centred)
        # T^2 KL tends to the centred squared error over 2K: the regression (half the square) over K
        assert 1000**2 * float(kl(teacher, student, 1000.0)) == pytest.approx(centred / 3, rel=2e-3)


class TestDKD:
    def test_example(self):
        target, others = dkd_parts(vectors([2, 1, 0]), vectors([1, 1, 1]), tensor([0]), 1.0)
        close(target, 0.229077)
        close(others, 0.110944)
        close(target + 8 * others, 1.116630, 1e-5)

    def test_parts_add_up_to_the_divergence(self):
        torch.manual_seed(0)
        teacher, student, labels = torch.randn(1, 5, dtype=F64), torch.randn(1, 5, dtype=F64), tensor([3])
        target, others = dkd_parts(teacher, student, labels, 1.0)
        sure = teacher.softmax(1)[0, 3]
        close(target + (1 - sure) * others, float(kl(teacher, student)))

    def test_two_classes_have_no_others(self):
        _, others = dkd_parts(vectors([2, 0]), vectors([0, 1]), tensor([1]), 4.0)
        close(others, 0.0)

    def test_a_sure_answer_stays_finite(self):
        student = vectors([900, 0, 0]).requires_grad_()
        sum(dkd_parts(vectors([0, 900, 3]), student, tensor([0]), 1.0)).backward()
        assert bool(torch.isfinite(student.grad).all())


class TestAT:
    @pytest.mark.parametrize(("one", "other", "wanted"), [([1, 0], [0, 1], 1.0), ([3, 4], [1, 1], 0.0370360)])
    def test_examples(self, one, other, wanted):
        maps = [tensor(values, dtype=F64).view(1, 1, 1, 2) for values in (one, other)]
        close(at(*maps, power=2), wanted)

    def test_scale_channels_and_sign_do_not_matter(self):
        torch.manual_seed(0)
        teacher, student = torch.randn(3, 4, 2, 2, dtype=F64), torch.randn(3, 5, 4, 4, dtype=F64)
        wanted = float(at(teacher, student, power=2))
        close(at(-3 * teacher[:, [2, 0, 3, 1]], student, power=2), wanted)
        assert wanted > 0

    @pytest.mark.parametrize(("reference", "wanted"), [(64, 1.0), (1024, 1 / 16), (None, 1.0)])
    def test_the_weight_holds_for_a_number_of_places(self, reference, wanted):
        run = toy_run("at", "offline")  # digits: 8x8 places at the first stage
        method = AT(by="activation", power=2.0, weight=1.0, reference=reference, scaling="linear", ce_weight=0.0,
                    gradient_weight=1.0, mode="code")
        method.setup(run.networks, run.data)
        batch = next(run.stream.epoch(0, 1))
        student, teacher = run.networks.student(batch), run.networks.teacher(batch)
        apart = sum(at(*pair, power=2) for pair in zip(teacher.stages, student.stages, strict=True))
        assert method.loss(run.networks, batch)["at"].item() == pytest.approx(wanted * apart.item(), rel=1e-5)

    def test_paper_form_is_half_the_distance(self):
        maps = [tensor(values, dtype=F64).view(1, 1, 1, 2) for values in ([1, 0], [0, 1])]
        close(at(*maps, power=2, mode="paper"), math.sqrt(2) / 2)


class TestRKD:
    def test_distances_on_a_line(self):
        close(rkd_distance(vectors([0], [1], [2]), vectors([0], [1], [3])), 1 / 72)

    def test_triangles(self):
        equilateral = vectors([0, 0], [1, 0], [0.5, math.sqrt(3) / 2])
        right = vectors([0, 0], [1, 0], [0, 1])
        close(rkd_angle(right, equilateral), 0.0124365)
        close(rkd_distance(right, equilateral), 0.0098124)

    def test_rotation_translation_and_scale_do_not_matter(self):
        torch.manual_seed(0)
        teacher, student = torch.randn(6, 3, dtype=F64), torch.randn(6, 3, dtype=F64)
        turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64))
        for loss in (rkd_distance, rkd_angle):
            close(loss(teacher, 5 * student @ turn + 2), float(loss(teacher, student)))

    @pytest.mark.parametrize(("normalised", "same"), [(True, True), (False, False)])
    def test_embeddings_may_be_brought_to_length_one(self, normalised, same):
        """Stretching single embeddings changes their relations, unless only their directions count."""
        torch.manual_seed(0)
        batch = Batch(torch.zeros(4, 1, 1, 1), torch.zeros(4, dtype=torch.long))
        answer = ModelOutput(torch.zeros(4, 2), torch.randn(4, 3), (), (), batch.x)
        stretched = answer.replace(embedding=answer.embedding * torch.arange(1, 5)[:, None])
        networks = SimpleNamespace(student=lambda _: stretched, teacher=lambda _: answer)
        terms = RKD(distance_weight=1.0, angle_weight=1.0, normalised=normalised, ce_weight=0.0).loss(networks, batch)
        assert (float(terms["distance"] + terms["angle"]) < 1e-6) == same

    def test_identical_samples_have_finite_gradients(self):
        student = torch.ones(4, 3, dtype=F64, requires_grad=True)
        teacher = torch.randn(4, 3, dtype=F64)
        (rkd_distance(teacher, student) + rkd_angle(teacher, student)).backward()
        assert bool(torch.isfinite(student.grad).all())


class TestSP:
    def test_example(self):
        close(sp(vectors([1, 0], [1, 0]), torch.eye(2, dtype=F64)), 1 - 1 / math.sqrt(2))

    def test_rotation_and_scale_do_not_matter_but_translation_does(self):
        torch.manual_seed(0)
        teacher, student = torch.randn(5, 3, dtype=F64), torch.randn(5, 3, dtype=F64)
        turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=F64))
        wanted = float(sp(teacher, student))
        close(sp(teacher, 3 * student @ turn), wanted)
        assert float(sp(teacher, student + 2)) != pytest.approx(wanted, abs=1e-3)

    def test_dead_features_have_finite_gradients(self):
        student = torch.zeros(3, 4, dtype=F64, requires_grad=True)
        sp(torch.randn(3, 4, dtype=F64), student).backward()
        assert bool(torch.isfinite(student.grad).all())


class TestPKT:
    def test_example(self):
        close(pkt(vectors([1, 0], [1, 0]), torch.eye(2, dtype=F64)), 0.0294458)

    def test_the_length_of_a_sample_does_not_matter(self):
        torch.manual_seed(0)
        teacher, student = torch.randn(5, 3, dtype=F64), torch.randn(5, 4, dtype=F64)
        scaled = student * torch.rand(5, 1, dtype=F64).add(0.1)
        close(pkt(teacher, scaled), float(pkt(teacher, student)))

    def test_dead_features_have_finite_gradients(self):
        student = torch.zeros(3, 4, dtype=F64, requires_grad=True)
        pkt(torch.randn(3, 4, dtype=F64), student).backward()
        assert bool(torch.isfinite(student.grad).all())


class TestLabelPreserve:
    teacher, student = vectors([0, 2], [4, 0]), vectors([0, 0], [0, 0])

    def method(self, weighting, **changes):
        return LabelPreserve(**{"ce_weight": 0.5, "pairing_weight": 2.0, "label_weight": 3.0, "weighting": weighting} | changes)

    def terms(self, method, hard=0.7, student=None):
        student = self.student if student is None else student
        return method.terms(tensor(hard, dtype=F64), F.cross_entropy(student, self.teacher.argmax(1)), self.teacher, student)

    def test_terms(self):
        terms = self.terms(self.method("uniform"))
        close(terms["ce"], 0.35)
        close(terms["pairing"], 2 * (4 + 16) / 4)
        close(terms["answer"], 3 * math.log(2))  # an even guess, whatever the teacher's class
        assert terms.keys() == {"ce", "pairing", "answer"}

    def test_the_answer_is_the_teachers_class_and_not_the_label(self, factory, data):
        nets = factory()
        networks = Networks(nets.student().eval(), [frozen(role) for role in nets.untrained_teachers()])
        batch = Batch(torch.randn(6, *data.shape), torch.arange(6) % 4)
        terms = self.method("uniform", label_weight=1.0).loss(networks, batch)
        answers = networks.teacher(batch).logits.argmax(1)
        assert not torch.equal(answers, batch.y)
        close(terms["answer"], float(F.cross_entropy(networks.student(batch).logits, answers).detach()))

    def test_learned_weights_begin_as_given_and_settle_where_each_term_weighs_one(self):
        method = self.method("learned")
        uniform = self.terms(self.method("uniform"))
        learned = self.terms(method)
        assert {name: float(term.detach()) for name, term in learned.items()} == pytest.approx(
            {**{name: float(term) for name, term in uniform.items()}, "uncertainty": 0.0})
        with torch.no_grad():  # the best s of a term L is log L
            method.uncertainty.copy_(torch.stack(list(uniform.values())).log())
        settled = self.terms(method)
        assert [float(settled[name].detach()) for name in uniform] == pytest.approx([1, 1, 1])
        (slope,) = torch.autograd.grad(sum(settled.values()), method.uncertainty)
        assert slope.tolist() == pytest.approx([0, 0, 0], abs=1e-6)

    def test_the_teacher_gets_no_gradient(self):
        teacher, student = self.teacher.clone().requires_grad_(), self.student.clone().requires_grad_()
        answer = F.cross_entropy(student, teacher.argmax(1))
        sum(self.method("uniform").terms(tensor(0.7, dtype=F64), answer, teacher, student).values()).backward()
        assert teacher.grad is None
        assert student.grad is not None
