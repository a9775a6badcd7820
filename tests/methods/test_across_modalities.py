"""Methods across modalities: their numbers, who moves, and that nothing of the teacher's modality is read at test time."""

import copy
import math

import pandas
import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from kdrun.config.schema import ConfigError
from kdrun.experiment import Experiment
from kdrun.methods.cross_modal.cm_albanie import panned
from kdrun.methods.cross_modal.cm_cgan import Imagination
from kdrun.methods.cross_modal.graph_distill import EdgeKernel, apart
from kdrun.methods.cross_modal.modality_distill import squashed_distance
from kdrun.methods.losses import soft_cross_entropy
from kdrun.methods.losses.dense import heatmap_divergence
from kdrun.models.output import ModelOutput
from kdrun.models.prediction import predict
from kdrun.training.loop import distill
from kdrun.utils.progress import Progress
from tests.toy import prepared, rows_of, settings_of, state, toy_experiment, toy_run

F64 = torch.float64


def begun(key, *more):
    """A method that is set up, and a batch."""
    run = toy_run(key, "offline", *more)
    next(run.method.phases(run))
    return run, next(iter(run.stream.epoch(0, 1)))


def moved(before, module):
    return any(not torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("key", ["modality_distill", "cm_cgan", "cm_mutual", "cm_albanie", "zhao_heatmap"])
def test_at_test_time_the_teacher_is_not_asked(key, monkeypatch):
    run = toy_run(key, "offline")
    distill(run)
    made = run.method.trained_networks(run.networks)
    monkeypatch.setattr(run.networks.teacher, "forward", None)
    for network in made.values():
        assert predict(network, run.data, run.data.test, run.device).isfinite().all()


@pytest.mark.parametrize("key", ["cm_mutual", "cm_albanie", "zhao_heatmap"])
def test_labels_are_not_read(key):
    run, batch = begun(key)
    batch.y = None
    assert all(float(term.detach()) > 0 for _, terms in run.method.step(run.networks, batch) for term in terms.values())


class TestModalityDistillation:
    def test_squashed_features(self):
        teacher, student = torch.zeros(2, 3, 1, 1, dtype=F64), torch.full((2, 3, 1, 1), math.log(3), dtype=F64)
        assert float(squashed_distance(teacher, student)) == pytest.approx(2 * 3 * 0.0625, abs=1e-9)

    def test_numbers(self):
        run = toy_run("modality_distill", "offline", "method.imitation=0", "method.weight=0")
        phases = run.method.phases(run)
        next(phases), next(phases)
        batch = next(iter(run.stream.epoch(0, 1)))
        total = sum(run.method.imagined(run.networks, batch).values())
        ce = F.cross_entropy(run.networks.peers[-1](batch).logits, batch.y)
        assert float(total.detach()) == pytest.approx(0.5 * float(ce.detach()), rel=1e-6)

    def test_who_moves_in_which_step(self):
        run = toy_run("modality_distill", "offline")
        steps = []
        for phase in run.method.phases(run):
            steps.append((phase.name, {role.name for role in run.networks if any(role is part for part in phase.train)}))
        assert steps == [("two streams", {"student", "other stream"}), ("hallucination", {"hallucination"}),
                         ("fine-tune", {"student", "hallucination"})]
        other, imagining = run.networks.peers
        assert (other.view, imagining.view) == ("teacher", None)
        assert not any(weight.requires_grad for weight in other.parameters())

    def test_of_several_kinds_it_compares_embeddings(self):
        run = toy_run("modality_distill", "offline", "dataset.student_sees=film", "student=frames_mlp")
        distill(run)
        assert not run.method.of_maps
        assert run.method.adapter.weight.shape == (12, 8)

    def test_every_stream_is_reported(self, tmp_path):
        rows = rows_of(toy_experiment("modality_distill", tmp_path))
        assert rows["student"]["parameters"] == rows["stream"]["parameters"] + rows["teacher"]["parameters"]
        (table,) = tmp_path.glob("runs/*/modalities.csv")
        told = pandas.read_csv(table).set_index("streams")["accuracy"]
        assert told["student and hallucination"] == pytest.approx(rows["student"]["accuracy"])


class TestMutual:
    def test_the_teachers_class_and_the_others(self):
        run, batch = begun("cm_mutual", "method.teacher_weight=2", "method.mutual_weight=3")
        (peer,) = run.networks.peers
        peer.network.load_state_dict(run.networks.student.network.state_dict())
        wanted = run.networks.teacher(batch).logits.argmax(dim=1)
        for _, terms in run.method.step(run.networks, batch):
            hard = 2 * F.cross_entropy(run.networks.student(batch).logits, wanted)
            assert float(terms["teacher"].detach()) == pytest.approx(float(hard.detach()), rel=1e-6)
            assert float(terms["mimicry"].detach()) == pytest.approx(0, abs=1e-6)  # twins agree

    def test_all_students_are_reported(self, tmp_path):
        rows = rows_of(toy_experiment("cm_mutual", tmp_path))
        assert {"student", "peer 2", "ensemble", "teacher", "baseline"} == set(rows)
        assert rows["ensemble"]["parameters"] == 2 * rows["student"]["parameters"]


class TestFrames:
    def test_a_film_moves_from_left_to_right(self):
        film = panned(torch.arange(4.0).view(1, 1, 1, 4), 3, 1)
        assert film[0, :, 0, 0].tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3]]
        assert torch.equal(panned(film[:, 0], 1, 2)[:, 0], film[:, 0])

    def test_the_largest_logits_come_before_the_softmax(self, monkeypatch):
        run, batch = begun("cm_albanie", "method.frames=2", "method.temperature=2")
        said = tensor([[2.0, 0.0], [0.0, 3.0]]).repeat(len(batch), 1)
        monkeypatch.setattr(run.networks.teacher, "forward", lambda _: ModelOutput(said, said))
        assert run.method.target(run.networks, batch).tolist() == [[2, 3]] * len(batch)

    def test_of_one_frame_without_noise_it_is_the_softened_answer(self):
        run, batch = begun("cm_albanie", "method.frames=1", "method.noise=0")
        teacher, student = run.networks.teacher(batch).logits, run.networks.student(batch).logits
        wanted = soft_cross_entropy(teacher, student, 2.0)
        assert float(run.method.loss(run.networks, batch)["soft"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)

    def test_a_teacher_that_sees_no_pictures_is_refused(self):
        with pytest.raises(ConfigError, match=r"has to be pictures, not frames; choose another dataset.teacher_sees"):
            prepared(("cm_albanie", "dataset.teacher_sees=film", "teacher=frames_mlp"))


class TestConditionalFeatures:
    def test_in_evaluation_noise_is_zero(self):
        parts = Imagination(2, 3, 4, 5, 2)
        given = torch.randn(6, 2)
        assert torch.equal(parts.imagine(given), parts.imagine(given, torch.zeros(6, 4)))

    def test_the_discriminator_moves_by_its_own_update_alone(self):
        run, batch = begun("cm_cgan")
        method, student = run.method, run.networks.student
        (_, judged), (_, terms) = method.step(run.networks, batch)
        theirs = torch.autograd.grad(sum(judged.values()), [*student.parameters(), *method.imagination.parameters()],
                                     retain_graph=True, allow_unused=True)
        assert all(one is None for one in theirs)
        assert set(terms) == {"labels", "gan", "l2"}
        reached = torch.autograd.grad(terms["l2"], [*method.imagination.generator.parameters()], retain_graph=True)
        assert all(bool(one.any()) for one in reached)

    def test_replaced_features_are_the_teachers(self):
        run, batch = begun("cm_cgan", "method.real=1")
        (_, _), (_, terms) = run.method.step(run.networks, batch)
        given, wanted = run.networks.student(batch).embedding, run.networks.teacher(batch).embedding
        ce = F.cross_entropy(run.method.imagination.classify(given, wanted), batch.y)
        assert float(terms["labels"].detach()) == pytest.approx(float(ce.detach()), rel=1e-6)


class TestGraph:
    def method(self, **changes):
        run = toy_run("graph_distill", "offline", *(f"method.{name}={value}" for name, value in changes.items()))
        run.method.setup(run.networks, run.data)
        return run

    def test_the_prior(self):
        assert self.method(prior="[1,0]").method.priors.tolist() == pytest.approx([0.982, 0.018], abs=5e-4)
        assert self.method().method.priors.tolist() == [0.5, 0.5]
        with pytest.raises(ConfigError, match=r"method.prior has 1 numbers for 2 teachers"):
            prepared(("graph_distill", "method.prior=[1]"))

    def test_one_other_modality_has_all_the_weight(self):
        kernel = EdgeKernel(3, [4, 4], 2, 0.125)
        ends = [ModelOutput(torch.randn(5, 3), torch.randn(5, 4)) for _ in range(2)]
        assert kernel(ends[0], ends[1:]).tolist() == [[1] * 5]

    def test_mean_weights_are_drawn_to_the_prior(self):
        run = self.method()
        batch = next(iter(run.stream.epoch(0, 1)))
        run.method.kernel.forward = lambda *_: tensor([[0.7], [0.3]]).expand(2, len(batch))
        terms = run.method.loss(run.networks, batch)
        assert float(terms["edges"].detach()) == pytest.approx(0.8, abs=1e-5)  # 10 (0.2² + 0.2²)

    @pytest.mark.parametrize("metric", ["cosine", "l1", "l2"])
    def test_equal_rows_are_not_apart(self, metric):
        rows = torch.randn(4, 3, dtype=F64)
        assert apart(metric, rows, rows).tolist() == pytest.approx([0] * 4, abs=1e-12)
        assert float(apart(metric, tensor([[1.0, 0.0]]), tensor([[0.0, 1.0]]))) == {"cosine": 1, "l1": 2, "l2": 2}[metric]

    @pytest.mark.parametrize(("detach", "reached"), [("false", True), ("true", False)])
    def test_whether_the_student_moves_edges(self, detach, reached):
        run = self.method(detach_edges=detach)
        batch = next(iter(run.stream.epoch(0, 1)))
        edges = run.method.loss(run.networks, batch)["edges"]
        found = torch.autograd.grad(edges, [*run.networks.student.parameters()], allow_unused=True)
        assert any(one is not None and bool(one.any()) for one in found) == reached


class TestCrossQuality:
    def test_with_one_modality_there_is_nothing_to_learn_of_the_teacher_at_the_start(self):
        run, batch = begun("cross_quality", "dataset=digits", "method.ce_weight=0")
        before = copy.deepcopy(state(run.networks.student))
        run.networks.student.eval()
        terms = run.method.loss(run.networks, batch)
        assert sum(float(term.detach()) for term in terms.values()) == pytest.approx(0, abs=1e-6)
        assert not moved(before, run.networks.teacher)

    def test_the_references_are_reported(self, tmp_path):
        rows = rows_of(toy_experiment("cross_quality", tmp_path))
        (table,) = tmp_path.glob("runs/*/qualities.csv")
        told = pandas.read_csv(table).set_index("pictures and network")["accuracy"]
        assert set(told.index) == {"good, teacher", "bad, teacher", "bad, student"}
        assert told["good, teacher"] == pytest.approx(rows["teacher"]["accuracy"])
        assert told["bad, student"] == pytest.approx(rows["student"]["accuracy"])


class TestHeatmaps:
    def test_numbers(self):
        teacher, student = torch.full((2, 3, 2, 2), 0.8, dtype=F64), torch.full((2, 3, 2, 2), math.log(1.5), dtype=F64)
        entropy = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
        assert float(heatmap_divergence(teacher, student)) == pytest.approx(12 * (0.591919 - entropy), abs=1e-5)

    def test_agreement_is_the_minimum_and_what_is_outside_of_a_confidence_is_held_to_it(self):
        student = torch.tensor([[[[2.0, -1.0]]]], dtype=F64, requires_grad=True)
        loss = heatmap_divergence(student.detach().sigmoid(), student)
        assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
        assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-12
        sure = [heatmap_divergence(tensor([[[values]]], dtype=F64), student) for values in ((1.3, -0.4), (1.0, 0.0))]
        assert float(sure[0].detach()) == float(sure[1].detach())

    def test_the_student_never_sees_the_picture(self):
        run, batch = begun("zhao_heatmap")
        roles = run.networks.student, run.networks.teacher
        before = [role(batch).dense.clone() for role in roles]
        batch.views["teacher"] = batch.views["teacher"] + 1
        for role in roles:
            role.forget()
        student, teacher = (torch.equal(role(batch).dense, old) for role, old in zip(roles, before, strict=True))
        assert student
        assert not teacher

    def test_other_answers_are_refused_in_one_line(self):
        with pytest.raises(ConfigError, match="needs heatmaps, which classification of pictures has not"):
            Experiment.prepare(settings_of("method=zhao_heatmap", "dataset=digits", "student=cnn"), Progress(None))
