"""What is larger than the machine is refused while it is built, with what it would take, and nothing is left changed."""

import resource

import pytest
import torch
from torch import nn

from kdrun.utils import memory_limits
from kdrun.utils.memory_limits import LEARNING, allowed


@pytest.fixture
def free(monkeypatch):
    """Say how many bytes are free."""
    return lambda count: monkeypatch.setattr(memory_limits, "free_memory", lambda: count)


def test_too_many_modules_are_refused_while_they_are_made(free, monkeypatch):
    free(10**9)
    monkeypatch.setattr(memory_limits, "MODULES", 100)
    made = []
    with pytest.raises(ValueError, match="more than 100 modules"), allowed():
        made.extend(nn.Sequential(nn.Identity(), nn.Identity()) for _ in range(1000))
    assert len(made) == 50


@pytest.mark.parametrize(("copies", "told"), [
    (1, "its weights alone take 0.2 GB"), (LEARNING, "its weights, their gradients and what the optimizer keeps take 0.2 GB")])
def test_weights_are_counted_with_what_learning_adds_to_them(copies, told, free):
    free(150_000_000)
    made = []
    with pytest.raises(ValueError, match=told), allowed(copies):
        made.extend(nn.Linear(5000, 1000, bias=False, device="meta") for _ in range(100))  # 20 MB each
    assert len(made) == (7 if copies == 1 else 2)


def test_an_allocation_beyond_what_is_free_fails_instead_of_being_granted(free):
    free(100_000_000)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ValueError, match=r"it takes 4\.0 GB of memory at once, and 0\.1 GB are free"), allowed():
        torch.zeros(10**9)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(torch.zeros(10**8)) == 10**8  # as ever


@pytest.mark.parametrize("size", [2**62, 2**63])
def test_what_cannot_be_counted_is_refused_too(size, free):
    free(100_000_000)
    with pytest.raises(ValueError, match="more than can be counted"), allowed():
        torch.empty(size)


def test_other_errors_pass_and_nothing_is_watched_afterwards(free, monkeypatch):
    free(10**9)
    monkeypatch.setattr(memory_limits, "MODULES", 1)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), allowed():
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert len(nn.Sequential(*[nn.Linear(2, 2) for _ in range(10)])) == 10


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   5000 kB\n")
    (tmp_path / "max").write_text("3000000\n")
    (tmp_path / "current").write_text("1000000\n")
    monkeypatch.setattr(memory_limits, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory_limits, "GROUPS", ((tmp_path / "none", tmp_path / "none"),
                                                  (tmp_path / "max", tmp_path / "current")))
    assert memory_limits.free_memory() == 2_000_000
    (tmp_path / "max").write_text("max\n")
    assert memory_limits.free_memory() == 5000 * 1024
    (tmp_path / "meminfo").unlink()
    assert memory_limits.free_memory() is None
    with allowed():  # then nothing is limited
        torch.zeros(10)
