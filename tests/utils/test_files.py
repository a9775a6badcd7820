import hashlib
import os

import pytest

from kdrun.utils.files import digest_of, in_the_way, remove, text_of, write_atomically


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


def test_whatever_is_there_is_removed_and_nothing_that_a_link_leads_to(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "link", "dangling", "pipe", "not there"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").exists()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (text_of, digest_of):
        with pytest.raises(OSError, match="pipe is no regular file"):
            read(tmp_path / "pipe")


def test_what_is_in_the_way_is_told(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    names = [tmp_path / name for name in ("file", "folder", "dangling", "nothing")]
    assert [line.split(",")[0] for line in in_the_way(names, names)] == [
        f"{tmp_path}/file is no folder", f"{tmp_path}/dangling is no folder",
        f"{tmp_path}/folder is no regular file", f"{tmp_path}/dangling is no regular file"]
