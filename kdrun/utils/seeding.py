"""Seeds and generators: every random choice of a run comes from one of these."""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def seed_of(*parts: object) -> int:
    """A 63-bit seed that depends on every part, so that streams with different names never share numbers."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator of its own for the stream that the parts name."""
    return torch.Generator().manual_seed(seed_of(*parts))


@contextlib.contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Draw from the stream that the parts name inside the block (for initial weights), and leave no trace outside."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(*parts))
        yield
