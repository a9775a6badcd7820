"""Learning classes one task after the other: their order, what is kept, both classifiers, and each method's numbers."""

import itertools
import math

import pandas
import pytest
import torch
from torch import tensor

import kdrun
from kdrun import functional as KD
from kdrun.config.schema import ConfigError
from kdrun.data.class_incremental import TaskStream, class_order, herding
from kdrun.methods.losses import unit_rows
from kdrun.training.loop import distill
from tests.toy import prepared, rows_of, toy_experiment, toy_run

F64 = torch.float64


def begun(key, *words, tasks=2):
    """A run that is about to learn a task, whose weights moved in each phase before, and the phase."""
    run = toy_run(key, "self", *words)
    phases = run.method.phases(run)
    phase = next(phases)
    while phase.name != f"task {tasks}":
        with torch.no_grad():
            for weight in run.networks.student.parameters():
                weight.mul_(1.01).add_(0.01)
        phase = next(phases)
    return run, phase, phases


def first_batch(phase):
    (batch, *_) = phase.data.epoch(0, 1)
    return batch


def test_sigmoid_distillation_in_value_and_gradient():
    student = torch.zeros(1, 2, dtype=F64, requires_grad=True)
    loss = KD.sigmoid_distillation(tensor([[0.0, 2.0]], dtype=F64), student)
    assert float(loss.detach()) == pytest.approx(2 * math.log(2))
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient[0].tolist() == pytest.approx([0, -0.380797], abs=1e-6)


def test_pooled_outputs_are_of_length_one_and_have_a_gradient_where_nothing_differs():
    maps = torch.randn(2, 3, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    student = maps.clone().requires_grad_(True)
    loss = KD.pod(maps, student)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(gradient.isfinite().all())
    other = torch.randn(2, 3, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
    assert float(KD.pod(maps, other)) == pytest.approx(float(KD.pod(3 * maps, -2 * other)))


def test_margin_losses_are_nought_where_the_margin_is_kept():
    ahead = tensor([[0.9, 0.1]], dtype=F64)
    assert float(KD.margin_nca(ahead, tensor([0]), 5.0, 0.6)) == 0
    assert float(KD.margin_ranking(ahead, tensor([0]), old=1, count=2, margin=0.5)) == 0
    assert float(KD.margin_ranking(ahead, tensor([1]), old=1, count=2, margin=0.5)) == 0  # of a new class


def test_global_targets_are_probabilities_whose_highest_stays():
    past, expert = (torch.randn(4, count, dtype=F64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
                    for count in (3, 2))
    both = KD.global_targets(past, expert)
    assert both.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(both[:, :3].amax(dim=1), past.amax(dim=1))


def test_fewer_exemplars_are_the_first_of_more():
    embeddings = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    order = herding(embeddings, 20)
    assert sorted(order.tolist()) == list(range(9))
    assert torch.equal(herding(embeddings, 4), order[:4])
    assert torch.equal(herding(5 * embeddings, 4), order[:4])


def test_classes_are_learned_in_the_order_that_is_wanted():
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    run, phase, _ = begun("lwf", f"method.class_order={order}", "method.split=5")
    labels = run.stream.labels[first_batch(phase).index]
    assert set(labels.tolist()) <= {4, 0}
    batch = first_batch(phase)
    assert [order[turn] for turn in batch.y.tolist()] == run.stream.labels[batch.index].tolist()
    logits = run.networks.student(batch).logits
    assert torch.equal(run.method.asked(run.networks.student, batch).logits[:, 2], logits[:, 4])
    ((_, terms), _) = run.method.step(run.networks, batch)
    (gradient,) = torch.autograd.grad(terms["ce"], [run.networks.student.network.head.bias])
    assert gradient.nonzero()[:, 0].tolist() == [0, 4]
    assert sorted(class_order(10, "seed", 1).tolist()) == list(range(10))
    assert not torch.equal(class_order(10, "seed", 1), class_order(10, "seed", 2))


def test_an_order_changes_numbers_and_nothing_of_what_is_reported(tmp_path):
    toy_experiment("lwf", tmp_path, "method.class_order=[9,8,7,6,5,4,3,2,1,0]", "method.split=[4,6]")
    (folder,) = tmp_path.glob("runs/*")
    matrix = pandas.read_csv(folder / "tasks.csv").query("learner == 'joint' and not task_told").set_index("on")["accuracy"]
    each = pandas.read_csv(folder / "per_class.csv").query("role == 'baseline'")
    for on, classes in ((1, each[6:]), (2, each[:6])):
        wanted = (classes["recall"] * classes["samples"]).sum() / classes["samples"].sum()
        assert matrix[on] == pytest.approx(wanted, abs=1e-6)


def test_new_and_kept_samples_share_a_batch_by_their_numbers():
    run = toy_run("icarl", "self")
    kept = (run.stream.labels < 5).nonzero()[:8, 0]
    stream = TaskStream(run.stream, torch.arange(10), slice(5, 10), kept, mixed=True)
    assert stream.size == run.stream.size == 16
    assert stream.new == round(16 * stream.samples / (stream.samples + 8))
    batch = next(iter(stream.epoch(0, 1)))
    assert int(batch.y[:stream.new].min()) >= 5
    assert set(batch.index[stream.new:].tolist()) <= set(kept.tolist())
    assert batch.index.unique().numel() == 16


@pytest.mark.parametrize(("budget", "counts"), [("total", [4, 2, 2]), ("per_class", [12, 12, 12])])
def test_what_is_kept_of_old_classes_is_cut_from_the_end(budget, counts):
    run, seen = toy_run("icarl", "self", "method.split=[3,3,4]", "method.exemplars=12", f"method.budget={budget}"), []
    keep = run.method.keep

    def watch(run):
        keep(run)
        seen.append(list(run.method.kept))

    run.method.keep = watch
    distill(run)
    labels = run.data.train.labels
    assert [len(kept) for kept in seen] == [3, 6, 10]
    for kept, wanted in zip(seen, [4, 2, 1] if budget == "total" else counts, strict=True):
        for label, rows in enumerate(kept):
            assert labels[rows].unique().tolist() == [label]
            assert len(rows) == min(wanted, int((labels == label).sum()))
    for before, after in itertools.pairwise(seen):
        assert all(torch.equal(old[:len(new)], new) for old, new in zip(before, after, strict=False))


def test_the_student_by_means_is_the_nearest_mean_of_unit_embeddings():
    run = toy_run("icarl", "self")
    distill(run)
    student, method = run.networks.student.eval(), run.method
    batches = run.data.plain(run.data.test[torch.arange(30)], run.device)
    found = method.trained_networks(run.networks)["student"]
    for batch in batches:
        seen = unit_rows(student(batch.x).embedding)
        kept = [student(run.data.whole(run.data.train[rows], run.device)).embedding for rows in method.kept]
        means = unit_rows(torch.stack([unit_rows(embeddings).mean(dim=0) for embeddings in kept]))
        assert torch.equal(found(batch.x).logits.argmax(dim=1), torch.cdist(seen, means).argmin(dim=1))


@pytest.mark.parametrize("key", ["icarl", "podnet"])
def test_what_is_stored_is_the_student_with_its_classifier(key, tmp_path):
    rows = rows_of(toy_experiment(key, tmp_path))
    (folder,) = tmp_path.glob("runs/*")
    loaded, data = kdrun.load(folder), prepared((key,)).data
    with torch.no_grad():
        answers = loaded.network(loaded.preprocess(data.test.inputs)).logits.argmax(dim=1)
    assert float((answers == data.test.labels).double().mean()) == pytest.approx(rows["student"]["accuracy"], abs=1e-6)
    summary = pandas.read_csv(folder / "lifelong.csv").set_index(["learner", "task_told"])
    assert {learner for learner, _ in summary.index} == {"student", "finetune", "joint",
                                                        "head" if key == "icarl" else "nearest_mean"}
    matrix = pandas.read_csv(folder / "tasks.csv").query("learner == 'student' and not task_told")
    first = matrix[matrix["after"] == 1]["accuracy"].item()
    both = (summary.loc[("student", False), "incremental_accuracy"] * 2 - first)
    assert both == pytest.approx(rows["student"]["accuracy"], abs=1e-6)


def test_old_vectors_keep_their_directions_and_the_scale_learns():
    run = toy_run("lucir", "self", "method.split=[5,3,2]")
    examine, seen = run.method.examine, []

    def watch(run):
        seen.append({name: value.clone() for name, value in run.networks.student.network.head.state_dict().items()})
        examine(run)

    run.method.examine = watch
    distill(run)
    for before, after, old in ((seen[0], seen[1], 5), (seen[1], seen[2], 8)):
        assert torch.allclose(unit_rows(before["weight"])[:old], unit_rows(after["weight"])[:old], atol=1e-6)
        assert not torch.allclose(unit_rows(before["weight"])[old:], unit_rows(after["weight"])[old:], atol=1e-4)
        assert not torch.equal(before["scale"], after["scale"])


@pytest.mark.parametrize(("key", "old", "new", "wanted"), [("lucir", 50, 10, 11.1803), ("podnet", 50, 10, 7.3485 / 3)])
def test_weights_rise_with_the_number_of_old_classes(key, old, new, wanted):
    method = toy_run(key, "self").method
    method.tasks, method.number = [slice(0, old), slice(old, old + new)], 1
    assert getattr(method, {"lucir": "directions", "podnet": "share"}[key]) == pytest.approx(wanted, abs=1e-4)


def test_a_task_of_podnet_begins_at_clusters_and_ends_with_all_proxies_tuned():
    run, phase, phases = begun("podnet")
    head = run.networks.student.network.head
    assert head.still.tolist() == [True] * 10 + [False] * 10
    ((_, terms),) = [update for update in run.method.step(run.networks, first_batch(phase)) if update[0] == "student"]
    (gradient,) = torch.autograd.grad(terms["nca"], [head.weight], retain_graph=True)
    moved = gradient.abs().sum(dim=1) > 0
    assert not bool(moved[:10].any())
    assert bool(moved[10:].all())
    (gradient,) = torch.autograd.grad(terms["spatial"] + terms["flat"], [head.weight], allow_unused=True)
    assert gradient is None
    tuned = next(phases)
    assert tuned.name == "task 2 classifier"
    assert tuned.train == [head]
    assert head.still is None
    assert len(tuned.data.mine.nonzero()) == sum(len(rows) for rows in run.method.kept)


def test_the_expert_of_gd_is_sure_of_new_samples_alone():
    run = toy_run("gd", "self", "method.exemplars=20", "method.budget=per_class")
    phases = run.method.phases(run)
    next(phases)
    expert = next(phases)
    assert expert.name == "task 2 expert"
    (batch, *_) = expert.data.epoch(0, 1)
    assert batch.pool is not None
    assert batch.pool.y is None
    terms = expert.loss(run.networks, batch)
    assert set(terms) == {"ce", "confidence"}
    for name, wanted in (("ce", batch.y[:run.method.new]), ("confidence", None)):
        run.networks.student.zero_grad()
        terms[name].backward(retain_graph=True)
        moved = run.networks.student.network.head.bias.grad.nonzero()[:, 0].tolist()
        assert set(moved) <= set(range(5, 10))  # the expert's own head
        assert wanted is None or int(wanted.min()) >= 5


def test_gd_learns_from_the_pool_by_both_teachers_alone():
    run, phase, _ = begun("gd", "method.weight=0.5")
    batch = first_batch(phase)
    terms = run.method.loss(run.networks, batch)
    assert set(terms) == {"ce", "past", "expert", "global"}
    (gradient,) = torch.autograd.grad(terms["expert"], [run.networks.student.network.head.bias], retain_graph=True)
    assert gradient[:5].tolist() == [0] * 5
    (gradient,) = torch.autograd.grad(terms["past"], [run.networks.student.network.head.bias], retain_graph=True)
    assert gradient[5:].tolist() == [0] * 5
    run.networks.student.eval()  # in training mode batch statistics mix all samples
    before = run.method.loss(run.networks, batch)
    batch.pool.x = batch.pool.x + 1
    after = run.method.loss(run.networks, batch)
    assert before["ce"].item() == pytest.approx(after["ce"].item(), rel=1e-5)
    assert before["global"].item() != pytest.approx(after["global"].item(), rel=1e-3)
    run, phase, _ = begun("gd", "method.external=none", "dataset.labelled=null")
    assert set(run.method.loss(run.networks, first_batch(phase))) == {"ce", "past", "expert"}


def test_with_one_snapshot_and_no_further_classifiers_m2kd_is_lwf_at_its_temperature_squared():
    words = ("method.split=2", "method.finetune=false")
    run, phase, _ = begun("m2kd", *words, "method.auxiliary_weight=0")
    batch = first_batch(phase)
    student, (past,) = run.networks.student, run.networks.teachers
    terms = run.method.loss(run.networks, batch)
    assert set(terms) == {"ce", "snapshots"}
    (gradient,) = torch.autograd.grad(terms["snapshots"], [student.network.head.weight])
    soft = KD.soft_cross_entropy(past(batch).logits[:, :5], student(batch, fresh=True).logits[:, :5], 2.0)
    (wanted,) = torch.autograd.grad(4 * soft, [student.network.head.weight])
    assert torch.allclose(gradient, wanted, atol=1e-6)


def test_each_snapshot_of_m2kd_teaches_its_own_task():
    run, phase, _ = begun("m2kd", "method.split=[4,4,2]", tasks=3)
    batch = first_batch(phase)
    assert len(run.networks.teachers) == len(run.method.past_auxiliary) == 2
    zero = torch.zeros(2, 10, dtype=F64)
    for task, only in enumerate((slice(0, 4), slice(4, 8))):
        pasts = [zero.clone(), zero.clone()]
        pasts[task][:, only.start] = 3.0
        student = zero.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(run.method.taught(pasts, student), student)
        assert gradient.abs().sum(dim=0).nonzero()[:, 0].tolist() == list(range(only.start, only.stop))
    terms = run.method.loss(run.networks, batch)
    assert set(terms) == {"ce", "snapshots", "auxiliary"}
    parameters = list(run.method.auxiliary.parameters())
    assert all(bool(grad.abs().sum() > 0) for grad in torch.autograd.grad(terms["auxiliary"], parameters))


@pytest.mark.parametrize(("key", "words", "told"), [
    ("icarl", "method.exemplars=9", "method.exemplars is 9, and there are 10 classes"),
    ("podnet", "method.proxies=30", "method.proxies is 30"),
    ("podnet", "method.split=[1,9]", "a first task of two classes"),
    ("gd", "dataset.labelled=null", "dataset.labelled=80"),
    ("icarl", "method.class_order=[0,1]", "does not name each of the 10 classes once")])
def test_what_does_not_fit_is_refused_in_a_line(key, words, told):
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")) as refused:
        prepared((key, words))
    assert "\n" not in str(refused.value)
