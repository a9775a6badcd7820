"""What a store holds is told as it is, and what a job is at is never deleted."""

import pytest
from filelock import FileLock

from kdrun.cli import main
from kdrun.storage.inventory import entries, prune


def make(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


@pytest.fixture
def store(tmp_path):
    """Two networks, one of them being trained again, an interrupted training, what a dead job left, two sets of answers."""
    store = tmp_path / "store"
    make(store / "digits-teacher-a-s1-11" / "entry.json", 100)
    make(store / "digits-teacher-a-s1-11" / "weights.safetensors", 2900)
    make(store / "digits-student-b-s2-22" / "entry.json", 50)
    make(store / "digits-student-b-s2-22.lock", 0)
    make(store / "digits-teacher-c-s1-33.unfinished" / "phase-00.pt", 700)
    make(store / "digits-teacher-d-s1-44.part-77" / "weights.safetensors", 300)
    for epoch in (0, 1, 5):
        make(store / "answers" / "digits-teacher-a-s1-55" / f"epoch-{epoch:04d}-logits.safetensors", 1000)
    make(store / "answers" / "digits-teacher-a-s1-55" / "epoch-0001-embedding.safetensors", 2000)
    make(store / "answers" / "digits-teacher-e-s1-66" / ".epoch-0000-logits.safetensors.x.part", 10)
    make(store / "answers" / "room.lock", 0)
    return store


def told(found):
    return {(one.kind, one.name, one.size, one.epochs) for one in found}


def test_everything_is_listed_with_its_size(store):
    assert told(entries(store)) == {
        ("networks", "digits-teacher-a-s1-11", 3000, None), ("networks", "digits-student-b-s2-22", 50, None),
        ("unfinished", "digits-teacher-c-s1-33.unfinished", 700, None),
        ("unfinished", "digits-teacher-d-s1-44.part-77", 300, None),
        ("answers", "digits-teacher-a-s1-55", 5000, 3), ("answers", "digits-teacher-e-s1-66", 10, 0)}


def test_patterns_pick(store):
    assert [one.name for one in entries(store, ["*-s2-*", "*-66"])] == ["digits-student-b-s2-22", "digits-teacher-e-s1-66"]
    assert entries(store, ["nothing"]) == []


def test_a_store_that_is_not_there_is_empty(tmp_path):
    assert entries(tmp_path / "store") == []


def test_what_a_job_is_at_is_kept(store):
    found = entries(store)
    notes = []
    with FileLock(store / "digits-teacher-c-s1-33.lock"), \
            FileLock(store / "answers" / "digits-teacher-a-s1-55" / "epoch-0002.lock"):
        assert prune(found, notes.append) == 3000 + 50 + 300 + 10
    assert sorted(notes) == [f"kept {name}: a job is at it" for name in ("digits-teacher-a-s1-55",
                                                                         "digits-teacher-c-s1-33.unfinished")]
    assert {one.name for one in entries(store)} == {"digits-teacher-a-s1-55", "digits-teacher-c-s1-33.unfinished"}


def command(*words):
    return main.main(["store", *words])


def test_the_command_lists_and_prunes_one_kind(store, capsys):
    outputs = str(store.parent)
    assert command("--outputs", outputs) == 0
    out = capsys.readouterr().out
    for name in ("networks: 0.0 MB", "unfinished", "answers", "digits-teacher-a-s1-55", "in 6 entries"):
        assert name in out
    assert command("--outputs", outputs, "--prune", "answers") == 0
    assert {one.kind for one in entries(store)} == {"networks", "unfinished"}
    assert command("--outputs", outputs, "--prune", "networks", "*-a-*") == 0
    assert [one.name for one in entries(store) if one.kind == "networks"] == ["digits-student-b-s2-22"]
    assert "freed 0.0 MB of networks" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "line"), [
    (["--prune", "all"], "invalid choice: 'all'"), (["*-zebra-*"], "is called *-zebra-*"),
    (["--prun", "answers"], "unknown argument '--prun'; did you mean '--prune'?")])
def test_a_wrong_command_line_is_one_line(words, line, store, capsys):
    assert command("--outputs", str(store.parent), *words) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
