import hashlib

import pytest

from kdrun.files import digest_of, write_atomically


def test_a_file_is_written_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    write_atomically(path, lambda part: part.write_text("whole"))
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_others_may_read_it(tmp_path):
    write_atomically(tmp_path / "file", lambda part: part.write_text("x"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(part):
        part.write_text("half of the n")
        assert path.read_text() == "old"
        part.write_text("new")

    write_atomically(path, write)
    assert path.read_text() == "new"


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_two_writers_do_not_share_a_part(tmp_path):
    parts = []

    def outer(part):
        parts.append(part)
        part.write_text("outer")
        write_atomically(tmp_path / "file", lambda inner: (parts.append(inner), inner.write_text("inner")))

    write_atomically(tmp_path / "file", outer)
    assert parts[0] != parts[1]
    assert (tmp_path / "file").read_text() == "outer"  # the last to finish


def test_a_digest_is_the_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"abc", bytes(range(256)) * 5000):
        path.write_bytes(content)
        assert digest_of(path) == hashlib.sha256(content).hexdigest()
