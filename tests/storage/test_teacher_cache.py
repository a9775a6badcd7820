"""Remembered answers: nothing but the cost may change, whoever filled them, whenever, and whatever goes wrong."""

import errno
import json
import resource
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from kdrun import experiment
from kdrun.config.identity import identity, run_folder
from kdrun.config.validation import problems
from kdrun.models.factory import NetworkSpec
from kdrun.storage import teacher_cache
from kdrun.storage.teacher_cache import Stored
from kdrun.training.loop import distill
from kdrun.utils.progress import Progress
from tests.toy import toy_settings

EPOCHS, STEPS = 2, 3  # of the toy


class Notes(Progress):
    def __init__(self):
        super().__init__(None)
        self.lines = []

    def note(self, text):
        self.lines.append(text)


class Toy:
    """A training at toy size by teachers with their first weights, whose passes are counted."""

    def __init__(self, outputs, key, *more, remember="true", folder=None):
        self.notes = Notes()
        settings = toy_settings(key, f"outputs={outputs}", f"teacher.remember={remember}", *more)
        self.experiment = experiment.Experiment.prepare(settings, self.notes)
        factory = self.experiment.factory(rehearsal=True)
        if remember != "false":
            factory.remember = self.experiment.remember
        one = self.experiment
        self.run = one.run_of("toy", "student", one.method(), one.scheme(), factory, folder=folder)
        self.run.every = 0.0  # a checkpoint after every step
        self.passes = 0
        for teacher in self.run.networks.teachers:
            teacher.network.register_forward_hook(self.count)

    def count(self, _, given, __):
        self.passes += len(given[0]) > 2  # two pictures: somebody looks at the shapes

    def go(self):
        distill(self.run)
        return self

    @property
    def result(self):
        return self.run.networks.student.state_dict(), self.run.history

    @property
    def tally(self):
        return self.experiment.memories[0].tally


def same(one, other):
    (first, told), (second, retold) = one.result, other.result
    return told == retold and first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) and first[name].stride() == second[name].stride() for name in first)


def stored(outputs):
    return sorted((outputs / "store" / "answers").glob("*/*.safetensors"))


def kinds(outputs):
    return sorted({path.stem.rpartition("-")[2] for path in stored(outputs)})


CASES = [  # a method, what else, what is kept, and what share of the teachers' passes that saves
    ("kd", (), ["logits"], 1), ("kd", ("precision=bf16",), ["logits"], 1), ("rkd", (), ["embedding"], 1),
    ("mt_you", (), ["embedding", "logits"], 1), ("kd", ("dataset=pair",), ["logits"], 1), ("sp", (), [], 0),
    ("fitnets", (), ["logits"], 0.5),  # its first phase reads a feature map
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("dkd", (), ["logits"], 1), ("logit_std", (), ["logits"], 1), ("crd", (), ["embedding"], 1),
        ("kd", ("dataset=pair", "dataset.paired=false"), ["logits"], 1), ("mt_avg", (), ["logits"], 1),
        ("takd", (), ["logits"], 1), ("at", (), [], 0), ("jacobian", (), [], 0), ("cnn2tree", (), [], 0)))]


@pytest.mark.parametrize(("key", "more", "kept", "share"), CASES)
def test_the_student_is_the_same_byte_for_byte(key, more, kept, share, tmp_path):
    live = Toy(tmp_path, key, *more, remember="false").go()
    filling = Toy(tmp_path, key, *more).go()
    assert kinds(tmp_path) == kept
    reading = Toy(tmp_path, key, *more).go()
    assert same(live, filling)
    assert same(live, reading)
    assert reading.passes <= (1 - share) * live.passes + (0 < share < 1)  # a step to see what the next phase reads
    if not kept:
        assert filling.passes == live.passes
        assert str(reading.tally).startswith("no answers remembered, for ")


def test_every_anchor_of_a_trajectory_has_answers_of_its_own(tmp_path):
    def toy(remember):
        toy = Toy(tmp_path, "rco", "method.anchors=2", remember=remember)
        torch.manual_seed(0)
        toy.run.factory.follow = lambda spec, _, count: [spec.build(toy.run.data) for _ in range(count)]
        return toy.go()

    live, filling, reading = toy("false"), toy("true"), toy("true")
    assert len(stored(tmp_path)) == len({path.parent for path in stored(tmp_path)}) == EPOCHS  # an epoch by each
    assert same(live, filling)
    assert same(live, reading)
    assert [memory.tally.count("store") for memory in reading.experiment.memories if memory.tally.epochs] == [1, 1]


def test_a_student_trained_alone_remembers_as_a_teacher(tmp_path):
    live, filling, reading = (Toy(tmp_path, "tfkd_self", "scheme=self", remember=remember).go()
                              for remember in ("false", "true", "true"))
    assert kinds(tmp_path) == ["logits"]
    assert same(live, filling)
    assert same(live, reading)


def test_filling_takes_a_pass_a_batch_and_reading_none(tmp_path):
    filling = Toy(tmp_path, "kd").go()
    assert filling.passes == EPOCHS * STEPS + 1  # the first step shows what the method reads
    assert (filling.tally.count("filled"), filling.tally.count("store")) == (EPOCHS, 0)
    reading = Toy(tmp_path, "kd").go()
    assert reading.passes == 0
    assert (reading.tally.count("filled"), reading.tally.count("store")) == (0, EPOCHS)
    assert reading.tally.saved_seconds == pytest.approx(filling.tally.seconds, abs=0.01)
    size = sum(path.stat().st_size for path in stored(tmp_path))
    assert sum(reading.tally.sizes.values()) == size
    assert f"(2 of 2 epochs from the store, {size / 1e6:.1f} MB)" in str(reading.tally)


def test_what_one_method_filled_another_reads(tmp_path):
    Toy(tmp_path, "kd").go()
    assert Toy(tmp_path, "kd", "method.temperature=9").go().passes == 0
    assert Toy(tmp_path, "dkd").go().passes == 0
    longer = Toy(tmp_path, "kd", "recipe.epochs=3").go()
    assert (longer.tally.count("store"), longer.tally.count("filled"), longer.passes) == (2, 1, STEPS)


class Killed(BaseException):
    """As abrupt as a signal."""


def killed_at(monkeypatch, step):
    done = []

    def die(_):
        done.append(1)
        if len(done) == step:
            raise Killed

    monkeypatch.setattr("kdrun.utils.progress.Silent.step", die)


@pytest.mark.slow
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("step", [1, 2, STEPS, STEPS + 1, EPOCHS * STEPS])
def test_killed_and_resumed_ends_in_the_same_bytes(filled, step, tmp_path, monkeypatch):
    live = Toy(tmp_path, "kd", remember="false").go()
    if filled:
        Toy(tmp_path, "kd").go()
    killed_at(monkeypatch, step)
    with pytest.raises(Killed):
        Toy(tmp_path, "kd", folder=tmp_path / "run").go()
    monkeypatch.undo()
    resumed = Toy(tmp_path, "kd", folder=tmp_path / "run").go()
    assert same(live, resumed)
    assert resumed.tally.count("live") == 0 or step == EPOCHS * STEPS  # one step was left, and it showed what is read
    assert same(live, Toy(tmp_path, "kd").go())


def test_killed_while_filling_leaves_whole_epochs_and_no_lock(tmp_path):
    live = Toy(tmp_path, "kd", remember="false").go()
    killed = Toy(tmp_path, "kd")

    def die(*_):
        if killed.passes == STEPS + 3:  # in the second epoch's filling
            raise Killed

    killed.run.networks.teacher.network.register_forward_hook(die)
    with pytest.raises(Killed):
        killed.go()
    (whole,) = stored(tmp_path)
    assert whole.name == "epoch-0000-logits.safetensors"
    assert [path.name for path in whole.parent.iterdir() if path.suffix == ".part"] == []
    again = Toy(tmp_path, "kd").go()
    assert (again.tally.count("store"), again.tally.count("filled")) == (1, 1)
    assert same(live, again)


def test_a_full_store_runs_on_live_and_says_so_once(tmp_path):
    live = Toy(tmp_path, "kd", remember="false").go()
    size = 4 * EPOCHS * STEPS * 16 * 10 / 2  # of an epoch's logits
    for most, count in ((1.5 * size + 1000, 1), (0.9 * size + 1000, 0)):
        outputs = tmp_path / str(count)
        for filled in (count, 0):
            full = Toy(outputs, "kd", f"teacher.remember_gb={most / 1e9}").go()
            assert same(live, full)
            assert full.tally.count("filled") == filled
            assert len(stored(outputs)) == count
            (line,) = full.notes.lines
            assert line.startswith("teacher cnn: no further answers are remembered, and it runs where none are (teacher.remem")
            assert sum(path.stat().st_size for path in stored(outputs)) <= most


def no_space(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_cannot_be_written_whole_is_no_failure(tmp_path):
    live, toy = Toy(tmp_path, "kd", remember="false").go(), Toy(tmp_path, "kd")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        toy.go()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(live, toy)
    (line,) = toy.notes.lines
    assert "File too large" in line
    assert stored(tmp_path) == []


def test_a_full_disk_is_no_failure(tmp_path, monkeypatch):
    live = Toy(tmp_path, "kd", remember="false").go()
    monkeypatch.setattr(teacher_cache, "write_atomically", no_space)
    toy = Toy(tmp_path, "kd").go()
    assert same(live, toy)
    assert toy.notes.lines == ["teacher cnn: no further answers are remembered, and it runs where none are (No space left on "
                               "device)"]
    assert [path.name for path in (tmp_path / "store" / "answers").rglob("*") if path.is_file()] == ["room.lock"]


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))


def fewer_steps(path):
    stored = Stored.read(path, STEPS, torch.device("cpu"))
    replace(stored, rows=stored.rows[1:].clone()).write(path)


DAMAGES = {"bit": flip_a_bit, "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]), "steps": fewer_steps,
           "empty": lambda path: path.write_bytes(b""), "text": lambda path: path.write_text("x" * 999)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_answers_are_dropped_and_filled_again(damage, tmp_path):
    live = Toy(tmp_path, "kd", remember="false").go()
    Toy(tmp_path, "kd").go()
    first = stored(tmp_path)[0]
    DAMAGES[damage](first)
    mended = Toy(tmp_path, "kd").go()
    assert same(live, mended)
    assert any("epoch-0000-logits.safetensors in the store is damaged" in line for line in mended.notes.lines)
    assert (mended.tally.count("filled"), mended.tally.count("store")) == (1, 1)
    assert Toy(tmp_path, "kd").go().passes == 0


@pytest.mark.parametrize(("was", "becomes"), [
    ("[4, 1]", "[1, 3]"), ("F32", "I32"), ("[2,3,4]", "[2,4,3]"), ("0.500", "9.500"), ("[2,3,4]", "[3,2,4]")])
def test_a_header_that_was_changed_is_damage_too(was, becomes, tmp_path):
    """The numbers are the same, and would come back in another layout, type or order."""
    path = tmp_path / "answers.safetensors"
    Stored(torch.rand(2, 3, 4), (4, 1), 0.5).write(path)
    content = path.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    header = content[8:length].replace(was.encode(), becomes.encode())
    assert header != content[8:length]
    assert len(Stored.read(path, 2, torch.device("cpu")).rows) == 2
    path.write_bytes(content[:8] + header + content[length:])
    with pytest.raises(ValueError, match="not what was written"):
        Stored.read(path, 3 if becomes.startswith("[3") else 2, torch.device("cpu"))


def test_answers_of_pixels_come_back_in_the_layout_of_the_network(tmp_path):
    answers = torch.rand(2, 3, 5, 4, 4).to(memory_format=torch.channels_last_3d)  # as stacked maps with channels last are
    path, layout = tmp_path / "answers.safetensors", answers[0].stride()
    Stored(answers, layout, 0.5).write(path)
    row = Stored.read(path, 2, torch.device("cpu")).row(1)
    assert torch.equal(row, answers[1])
    assert row.stride() == layout


def test_an_epoch_that_another_job_holds_for_ever_is_run_live(tmp_path, monkeypatch):
    live = Toy(tmp_path, "kd", remember="false").go()
    Toy(tmp_path, "kd").go()
    first, second = stored(tmp_path)
    first.unlink()
    second.unlink()
    monkeypatch.setattr(teacher_cache, "PATIENCE", 0.2)
    with FileLock(first.parent / "epoch-0000.lock"):
        waited = Toy(tmp_path, "kd").go()
    assert same(live, waited)
    assert waited.tally.epochs == {0: "live", 1: "filled"}  # the coming epoch was filled meanwhile
    assert stored(tmp_path) == [second]


def test_half_precision_is_the_same_for_who_fills_reads_or_has_no_room(tmp_path):
    exact, filling = Toy(tmp_path, "rkd").go(), Toy(tmp_path, "rkd", remember="half").go()
    reading = Toy(tmp_path, "rkd", remember="half").go()
    full = Toy(tmp_path / "full", "rkd", "teacher.remember_gb=1e-9", remember="half").go()
    assert same(filling, reading)
    assert same(filling, full)
    assert not same(exact, filling)
    assert reading.passes == 0
    sizes = {load_file(path)["rows"].dtype: path.stat().st_size for path in stored(tmp_path)}
    assert sizes[torch.float16] < 0.6 * sizes[torch.float32]


@pytest.mark.parametrize("more", [("recipe.batch_size=24",), ("seed=2",), ("dataset.crop=0",), ("dataset.train_limit=50",),
                                  ("teacher.widths=[6,8,14]",), ("precision=bf16",)])
def test_whatever_an_answer_depends_on_is_in_its_name(more, tmp_path):
    Toy(tmp_path, "kd").go()
    Toy(tmp_path, "kd", *more).go()
    assert len({path.parent for path in stored(tmp_path)}) == 2


def test_threads_are_in_the_name(tmp_path):
    names = set()
    for threads in (1, 2):
        toy = Toy(tmp_path, "kd", f"threads={threads}")
        names.add(json.dumps(toy.experiment.memories[0].key))
        torch.set_num_threads(1)
    assert len(names) == 2


def test_a_whole_run_tells_what_it_remembered(tmp_path):
    told, notes = [], []
    for remember in ("false", "true", "true"):
        screen = Notes()
        settings = toy_settings("kd", f"outputs={tmp_path}", f"teacher.remember={remember}", "rerun=true")
        experiment.run(settings, screen)
        folder = run_folder(settings)
        told.append((load_file(folder / "student.safetensors"), json.loads((folder / "run.json").read_text())["remembered"]))
        notes.append([line for line in screen.lines if "answers remembered" in line])
    (live, none), (filled, first), (read, second) = told
    assert all(torch.equal(live[name], filled[name]) and torch.equal(live[name], read[name]) for name in live)
    assert none == [] == notes[0]
    assert [(one["network"], one["store"], one["filled"], one["live"]) for one in (*first, *second)] == [
        ("teacher cnn", 0, 2, 0), ("teacher cnn", 2, 0, 0)]
    assert second[0]["bytes"] == sum(path.stat().st_size for path in stored(tmp_path))
    assert notes[2][0].startswith("teacher cnn: answers remembered (2 of 2 epochs from the store, ")


def test_only_rounding_makes_another_run():
    plain, exact, rounded = (toy_settings("kd", f"teacher.remember={value}") for value in ("false", "true", "half"))
    smaller = toy_settings("kd", "teacher.remember=true", "teacher.remember_gb=1")
    assert identity(plain) == identity(exact) == identity(smaller) != identity(rounded)
    factory = [NetworkSpec.read(settings.values["teacher"]) for settings in (plain, exact, rounded)]
    assert factory[0] == factory[1] == factory[2]  # so that all share one trained teacher


@pytest.mark.parametrize(("word", "line"), [
    ("teacher.remember=quarter", "teacher.remember: got 'quarter', wanted true, false or half (of the precision, on disk)"),
    ("teacher.remember=1", "teacher.remember: got 1, wanted true, false or half (of the precision, on disk)"),
    ("teacher.remember_gb=0", "teacher.remember_gb: got 0, wanted a number above 0"),
    ("teacher.remember_gb=much", "teacher.remember_gb: got 'much', wanted a number")])
def test_a_wrong_setting_is_one_line(word, line):
    assert problems(toy_settings("kd", word)) == [line]


def test_processes_that_share_a_run_do_not_remember(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    (line,) = problems(toy_settings("kd", "teacher.remember=half"))
    assert line == ("teacher.remember: got 'half', but processes that share a run (torchrun) do not remember; leave it out")
    assert problems(toy_settings("kd")) == []


def test_a_misspelt_setting_is_pointed_at():
    (line,) = problems(toy_settings("kd", "+teacher.remembr=true"))
    assert line == "unknown key 'remembr' in teacher; did you mean 'remember'?"
