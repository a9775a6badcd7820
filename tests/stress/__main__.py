"""See the package."""

import argparse
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterable

import torch

from kdrun.config import registry
from tests import stress


def main() -> int:
    """Run the cases and print what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=stress.__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kills", "damage", "commands"))
    parser.add_argument("--count", type=int, default=100, help="of cases; of kills over all methods (100)")
    parser.add_argument("--seed", default="1", help="chooses the cases (1)")
    parser.add_argument("--methods", nargs="+", default=list(registry.options("method")), help="to kill (all)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases: Iterable[dict[str, object]]
    if asked.what == "kills":
        from tests.stress import kills

        cases = kills.run(-(-asked.count // len(asked.methods)), asked.seed, asked.methods)
    elif asked.what == "damage":
        from tests.stress import damage

        cases = damage.run(asked.count, asked.seed)
    else:
        from tests.stress import commands

        cases = commands.run(asked.count, asked.seed)
    tally: Counter[str] = Counter()
    wrong = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # what was done by then is told
        for case in cases:
            fault = case.get("fault") or case.get("wrong")
            wrong += bool(fault)
            tally["kills"] += int(str(case.get("kills", 0)))
            tally[str(case.get("outcome", "as it should be"))] += not fault
            if fault or asked.what == "kills":
                print(json.dumps(case), flush=True)
    print(f"{asked.what}: {sum(tally.values()) - tally['kills'] + wrong} cases, {wrong} wrong; "
          + ", ".join(f"{name} {count}" for name, count in tally.items() if count), flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
