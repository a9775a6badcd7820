from kdrun.bench.files import batches, peaks, streamed, written
from tests.conftest import pictures_of


def test_what_is_written_is_read_in_batches(tmp_path):
    written(pictures_of(10, 0, channels=3).inputs, tmp_path / "files")
    seen = list(batches(streamed(tmp_path / "files", 8, 0), 8, 0))
    assert [tuple(batch.x.shape) for batch in seen] == [(8, 3, 8, 8)] * 4  # of 40, one of each class is held out
    own, _ = peaks(str(tmp_path / "files"), 8, 8, 0)
    assert 50 < own < 5000
