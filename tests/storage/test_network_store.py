import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kdrun.models.output import ModelOutput
from kdrun.storage.network_store import Store, entries, save_weights
from kdrun.training.trained import TrainedNetwork

HISTORY = [("teacher", "distill", 0, "train", "ce", 1.25), ("teacher", "distill", 0, "validation", "accuracy", 1 / 3)]


class Bench:
    """A store, what it told, and a training that counts."""

    def __init__(self, root: Path):
        self.notes: list[str] = []
        self.store = Store(root, self.notes.append)
        self.trained: list[Path] = []

    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def fetch(self, key=None, label="teacher", states=()) -> TrainedNetwork:
        network = self.network()

        def train(folder: Path) -> TrainedNetwork:
            self.trained.append(folder)
            nn.init.constant_(network[0].weight, len(self.trained))
            network[1].running_mean.fill_(7)
            answers = ModelOutput(torch.eye(4) * len(self.trained), torch.empty(0))
            return TrainedNetwork("teacher", "tiny", network, answers, 5, 1.5, list(HISTORY), list(states))

        return self.store.fetch(label, {"seed": 1} if key is None else key, network, train)

    @property
    def entry(self) -> Path:
        (found,) = entries(self.store.root)
        return found


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "store")


def same(first: TrainedNetwork, second: TrainedNetwork) -> bool:
    states = first.network.state_dict(), second.network.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_what_was_trained_once_is_read_from_then_on(bench):
    first, second = bench.fetch(), bench.fetch()
    assert len(bench.trained) == 1
    assert (first.origin, second.origin) == ("trained", "store")
    assert first.network is not second.network
    assert same(first, second)
    assert float(second.network[1].running_mean[0]) == 7  # statistics too
    assert torch.equal(first.answers.logits, second.answers.logits)
    assert second.history == HISTORY
    assert (second.role, second.model, second.epochs, second.seconds) == ("teacher", "tiny", 5, 1.5)
    assert bench.notes == []


def test_the_states_on_the_way_are_kept_in_their_order(bench):
    states = [{"weight": torch.full((2,), float(number))} for number in range(11)]
    bench.fetch(states=states)
    found = bench.fetch(states=states).states
    assert [float(state["weight"][0]) for state in found] == [float(number) for number in range(11)]
    assert len(bench.trained) == 1


def test_another_store_object_on_the_same_folder_finds_it(bench):
    bench.fetch()
    other = Bench(bench.store.root)
    assert other.fetch().origin == "store"
    assert other.trained == []


@pytest.mark.parametrize("key", [{"seed": 2}, {"seed": 1, "epochs": 3}, {"seed": "1"}, {"seed": None}, {}])
def test_another_key_is_another_training(bench, key):
    bench.fetch()
    assert bench.fetch(key).origin == "trained"
    assert len(entries(bench.store.root)) == 2
    assert bench.fetch().origin == "store"


def test_the_order_of_a_keys_parts_does_not_matter(bench):
    bench.fetch({"seed": 1, "recipe": {"lr": 0.1, "epochs": 2}})
    assert bench.fetch({"recipe": {"epochs": 2, "lr": 0.1}, "seed": 1}).origin == "store"


def test_an_entry_tells_what_it_was_made_from(bench):
    bench.fetch({"seed": 3, "recipe": {"lr": 0.1}}, label="digits-teacher-tiny-s3")
    assert bench.entry.name.startswith("digits-teacher-tiny-s3-")
    told = json.loads((bench.entry / "entry.json").read_text())
    assert told["key"] == {"seed": 3, "recipe": {"lr": 0.1}}
    assert set(told["files"]) == {"weights.safetensors", "answers.safetensors"}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))


def swap_the_weights(path: Path) -> None:
    """Well-formed weights of the right shapes, but not those that were trained."""
    save_file({key: value + 1 for key, value in load_file(path).items()}, path)


DAMAGES = {"bit": flip_a_bit, "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
           "empty": lambda path: path.write_bytes(b""), "gone": Path.unlink, "swapped": swap_the_weights}


@pytest.mark.parametrize("name", ["weights.safetensors", "answers.safetensors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_told_and_mended(bench, name, damage):
    bench.fetch()
    DAMAGES[damage](bench.entry / name)
    again = bench.fetch()
    assert again.origin == "trained"
    assert len(bench.trained) == 2
    assert bench.notes
    assert all("damaged" in note and "training it again" in note and "\n" not in note for note in bench.notes)
    assert name in bench.notes[0]
    told = len(bench.notes)
    third = bench.fetch()
    assert (third.origin, len(bench.notes)) == ("store", told)  # mended
    assert same(third, again)


@pytest.mark.parametrize("content", ["", "{", "null", "[]", "3", '{"files": 3}', '{"files": {}}', '{"files": {"x": "y"}}',
                                     "\xff\xfe"])
def test_a_damaged_description_is_trained_again_too(bench, content):
    bench.fetch()
    (bench.entry / "entry.json").write_text(content, encoding="latin-1")
    assert bench.fetch().origin == "trained"
    assert "damaged" in bench.notes[0]
    assert bench.fetch().origin == "store"


def test_a_missing_description_is_trained_again_too(bench):
    bench.fetch()
    (bench.entry / "entry.json").unlink()
    assert bench.fetch().origin == "trained"
    assert bench.fetch().origin == "store"


def test_nothing_of_a_damaged_entry_reaches_the_network(bench):
    bench.fetch()
    flip_a_bit(bench.entry / "weights.safetensors")
    network = bench.network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert bench.store.read(bench.entry, network) is None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_weights_of_another_network_are_damage(bench):
    bench.fetch()
    assert bench.store.read(bench.entry, nn.Linear(9, 9)) is None
    assert "damaged" in bench.notes[0]


# --- several at once -------------------------------------------------------------------------------------------------

def test_two_jobs_at_once_train_once(tmp_path):
    """The second asks while the first trains: it says that it waits, and reads what the first made."""
    first, second = Bench(tmp_path), Bench(tmp_path)
    training, waiting = threading.Event(), threading.Event()
    network, found = first.network(), {}

    def train(folder: Path) -> TrainedNetwork:
        training.set()
        assert waiting.wait(20)
        return TrainedNetwork("teacher", "tiny", network, ModelOutput(torch.eye(4), torch.empty(0)), 5, 1.5)

    def told(note: str) -> None:
        second.notes.append(note)
        waiting.set()

    def ask_first():
        found["first"] = first.store.fetch("teacher", {"seed": 1}, network, train)

    def ask_second():
        found["second"] = second.fetch()

    second.store.note = told
    jobs = [threading.Thread(target=ask_first), threading.Thread(target=ask_second)]
    jobs[0].start()
    assert training.wait(20)
    jobs[1].start()
    for job in jobs:
        job.join(30)
        assert not job.is_alive()
    assert (found["first"].origin, found["second"].origin) == ("trained", "store")
    assert second.trained == []
    assert second.notes == ["teacher: another job is training it, waiting"]
    assert same(found["first"], found["second"])


def test_different_keys_do_not_wait_for_each_other(tmp_path):
    outer, inner = Bench(tmp_path), Bench(tmp_path)
    network = outer.network()

    def train(folder: Path) -> TrainedNetwork:
        assert inner.fetch({"seed": 2}).origin == "trained"
        return TrainedNetwork("teacher", "tiny", network, ModelOutput(torch.eye(4), torch.empty(0)), 5, 1.5)

    assert outer.store.fetch("teacher", {"seed": 1}, network, train).origin == "trained"
    assert inner.notes == []


def test_an_interrupted_training_leaves_its_checkpoints_and_no_entry(bench):
    def interrupted(folder: Path) -> TrainedNetwork:
        (folder / "phase-00.pt").write_text("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.fetch("teacher", {"seed": 1}, bench.network(), interrupted)
    assert entries(bench.store.root) == []
    seen = []

    def resumed(folder: Path) -> TrainedNetwork:
        seen.append((folder / "phase-00.pt").read_text())
        return TrainedNetwork("teacher", "tiny", bench.network(), ModelOutput(torch.eye(4), torch.empty(0)), 5, 1.5)

    assert bench.store.fetch("teacher", {"seed": 1}, bench.network(), resumed).origin == "trained"  # the lock is free
    assert seen == ["half way"]
    assert list(bench.store.root.glob("*.unfinished")) == []


@pytest.mark.parametrize("step", ["save_weights", "save", "write_atomically", "digest_of", "os.replace"])
def test_a_job_that_dies_while_writing_leaves_nothing_that_looks_finished(bench, monkeypatch, step):
    replace = os.replace

    def die(*arguments, **named):
        if step == "os.replace" and not Path(arguments[0]).is_dir():
            return replace(*arguments)  # a file's; the entry's own is the last step
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"kdrun.storage.network_store.{step}", die)
        with pytest.raises(OSError, match="no space left"):
            bench.fetch()
    assert entries(bench.store.root) == []
    assert bench.fetch().origin == "trained"
    assert bench.fetch().origin == "store"
    assert len(entries(bench.store.root)) == 1
    assert bench.notes == []


def test_saved_weights_can_be_read_without_running_code(tmp_path):
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    save_weights(network, tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "a pipe", "a pipe in it", "a link to a folder"])
def test_whatever_is_in_the_place_of_an_entry_is_replaced(kind, bench, tmp_path):
    bench.fetch()
    entry = bench.entry
    shutil.rmtree(entry)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "entry.json").write_text("[]")
    make = {"a file": entry.touch, "a pipe": lambda: os.mkfifo(entry), "a link to nothing": lambda: entry.symlink_to("nothing"),
            "a pipe in it": lambda: (entry.mkdir(), os.mkfifo(entry / "entry.json")),
            "a link to a folder": lambda: entry.symlink_to(elsewhere)}
    make[kind]()
    Path(f"{entry}.unfinished").touch()
    bench.fetch()
    assert len(bench.trained) == 2
    assert not entry.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["entry.json"]  # nothing that a link leads to is touched
    assert bench.fetch().origin == "store"


def test_of_several_processes_one_makes_the_folder_of_a_training(bench, monkeypatch):
    monkeypatch.setattr("kdrun.utils.distributed.first", lambda: False)
    there = []

    def train(folder):
        there.append(folder.exists())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.fetch("toy", {"seed": 1}, nn.Linear(2, 2), train)
    assert there == [False]
