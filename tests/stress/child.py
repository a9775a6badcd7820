"""A command of kdrun in a forked process: it starts at once, and whatever it does to itself stays there."""

import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GIGABYTE = 2**30


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        status: its exit status; None for one that a signal ended.
        killed_by: that signal; None where there was none.
        out: its standard output.
        err: its standard error.
        seconds: of a processor that it took; other work on the machine does not count.
    """

    status: int | None
    killed_by: int | None
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """What it said as kdrun."""
        return [line for line in self.err.splitlines() if line.startswith("kdrun: ")]

    @property
    def fault(self) -> str:
        """What no command may ever do; empty where it did none of it."""
        if self.killed_by == signal.SIGALRM:
            return "hangs"
        if self.killed_by is not None:
            return f"died of signal {self.killed_by}"
        if "Traceback" in self.out + self.err:
            return "traceback"
        return "refused without a word" if self.status == 2 and not self.lines else ""


def forked(work: Callable[[], int], folder: Path, *, limit: int = 120, gigabytes: int = 12) -> Ending:
    """Run this in a process of its own, in this folder, with so many seconds and so much memory.

    Args:
        work: returns the exit status.
        folder: its working folder.
        limit: seconds until it counts as one that hangs.
        gigabytes: of address space beyond what it has at its start.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                os.chdir(folder)
                for number, file in ((1, out), (2, err)):
                    os.dup2(file.fileno(), number)
                with open(os.devnull) as nothing:
                    os.dup2(nothing.fileno(), 0)
                sys.stdout, sys.stderr = os.fdopen(1, "w", errors="surrogateescape"), os.fdopen(2, "w")
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                room = pages * resource.getpagesize() + gigabytes * GIGABYTE
                resource.setrlimit(resource.RLIMIT_AS, (room, room))
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.alarm(limit)
                status = work()
            except SystemExit as leaving:
                status = leaving.code if isinstance(leaving.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(status)
        _, ended, used = os.wait4(child, 0)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    status, killed_by = (None, os.WTERMSIG(ended)) if os.WIFSIGNALED(ended) else (os.WEXITSTATUS(ended), None)
    return Ending(status, killed_by, said[0], said[1], used.ru_utime + used.ru_stime)
