"""Kill runs of every family at random moments: they end in the bytes of a run that nobody killed.

KDRUN_KILLS=200 makes it a soak: so many kills of each family instead of 4; KDRUN_SEED=2 chooses other moments.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdrun import catalogue

# One of each family, the one that has most to lose: memories, generators, several phases, several networks
GROUPS = [["vanilla", "fitnets", "crd", "dafl", "mt_you"], ["logit_std", "takd", "afd_online", "lwf", "hallucination"],
          ["at", "okddip", "pskd", "apprentice", "combine"]]
KILLS = int(os.environ.get("KDRUN_KILLS", "4"))


def test_every_family_is_killed():
    assert sorted(catalogue.method_card(method).family for group in GROUPS for method in group) == \
        sorted({catalogue.method_card(method).family for method in catalogue.options("method")})


@pytest.mark.slow
@pytest.mark.parametrize("methods", GROUPS, ids=", ".join)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(methods):
    told = subprocess.run([sys.executable, "-m", "tests.faults", str(KILLS), os.environ.get("KDRUN_SEED", "1"), *methods],
                          capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1],
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert told.returncode == 0, told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    print(*lines, sep="\n")
    assert [line["method"] for line in lines] == methods
    assert all(line["files"] >= 5 for line in lines)
    assert [line for line in lines if line["wrong"]] == []
    assert sum(line["kills"] for line in lines) >= 0.8 * KILLS * len(methods)  # some are done before their moment comes
