"""What the tests of tables share."""

import pytest

from tests.analysis.runs import write_run


@pytest.fixture
def three_seeds(tmp_path):
    """Two methods with three seeds, one with two; one of them also on fewer pictures."""
    for seed in (1, 2, 3):
        write_run(tmp_path, "kd", seed, 0.90 + seed / 100, alone=0.88)
        write_run(tmp_path, "at", seed, 0.80 + seed / 100, alone=0.88)
        write_run(tmp_path, "kd", seed, 0.70, alone=0.60, dataset={"train_limit": 100})
        if seed < 3:
            write_run(tmp_path, "sp", seed, 0.99, alone=0.88)
    return tmp_path
