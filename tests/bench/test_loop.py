"""The bare loops do the arithmetic of the methods: started alike, they end alike."""

from dataclasses import replace

import pytest
import torch

from kdrun.bench import in_process
from kdrun.bench.loop import Alternating, bare_of, loop, prepared, steps
from kdrun.bench.measure import WARM, Clock
from kdrun.bench.reference_loops import FLOORS
from kdrun.bench.workload import Subject
from kdrun.cli.commands.bench import METHODS
from tests.toy import state

pytestmark = pytest.mark.slow  # many of half a second


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    return Subject("cnn", "cnn", 8, 300, 16, 1, 2, 2, "cpu", tmp_path_factory.mktemp("bench"))


def test_every_method_that_may_be_asked_for_has_a_floor():
    assert set(METHODS) == set(FLOORS)


@pytest.mark.parametrize("method", ["vanilla", "kd", "at", "rkd", "dml"])
def test_a_bare_loop_trains_as_the_engine_does(subject, method):
    run = prepared(subject, method)
    run.recipe = replace(run.recipe, schedule="constant")
    bare = bare_of(run)
    before = state(bare.student)
    steps(subject, run, FLOORS[method](bare))
    ours, theirs = run.networks.student.network.state_dict(), bare.student.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    assert not any(torch.allclose(before[name], theirs[name], atol=1e-4) for name in before if name.endswith("weight"))


def test_fitnets_has_a_floor_for_each_phase(subject):
    run = prepared(subject, "fitnets")
    bare = bare_of(run)
    hint, distill = FLOORS["fitnets"](bare)
    batch = subject.batches[0]
    for step, moving in ((hint, {"stages.0", "stages.1"}), (distill, {"stages.0", "stages.1", "stages.2", "head"})):
        before = state(bare.student)
        step(batch.x, batch.labels, batch.index)
        weights = dict(bare.student.named_parameters())
        moved = {name for name, weight in weights.items() if not torch.equal(before[name], weight)}
        assert {".".join(name.split(".")[:1 if name.startswith("head") else 2]) for name in moved} == moving
    assert len(steps(subject, run, [hint, distill]).ours) == 2 * subject.rounds


def test_turns_alternate_and_see_the_same_batches(subject):
    told = []
    stream = Alternating(subject.batches[:3], [lambda x, y, rows: told.append(("bare", rows))], 1, 2,
                         Clock(torch.device("cpu"), 1))
    for batch in stream.epoch(0, 1):
        told.append(("engine", batch.index))
    assert [who for who, _ in told] == ["engine", "engine", "bare", "bare"] * (WARM + 1)
    assert len(stream) == 2 * (WARM + 1)
    assert len(stream.ours) == len(stream.theirs) == 1
    for start in range(0, len(told), 4):
        assert all(torch.equal(told[start + step][1], told[start + 2 + step][1]) for step in range(2))


def test_rows_of_the_loop_and_of_the_data_path(subject):
    row, = loop(subject, ["crd"])
    assert (row.part, row.unit, row.bound) == ("loop", "x", ("at most", 1.05))
    assert row.value > 0
    share, = in_process.data(subject)
    assert 0 < share.value < 1


def test_remembered_answers_are_read_and_not_computed(subject):
    live, remembered = in_process.teacher(subject)
    assert live.against == "the student alone"
    files = list((subject.folder / "store" / "answers").glob("*/*.safetensors"))
    assert [file.name for file in files] == ["epoch-0000-logits.safetensors"]
    assert remembered.value > 0


def test_what_watching_costs(subject):
    rows = list(in_process.evaluation(subject))
    assert [row.what.split()[0] for row in rows] == ["validation", "a", "measures,"]
    assert (subject.folder / "run" / "results.csv").exists()
    assert (subject.folder / "checkpoints" / "phase-00.pt").exists()
