"""Ctrl-C and SIGTERM: the step in hand is finished and saved, and the second time everything stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Interrupted", "check", "heeded", "pending", "postponed", "stop"]

HEEDED = (signal.SIGINT, signal.SIGTERM)

_asked: signal.Signals | None = None
_heeding = _postponing = False


class Interrupted(BaseException):
    """Somebody wants this to stop; like KeyboardInterrupt it passes whoever catches every `Exception`.

    Attributes:
        signal: which one came.
        place: where in the work; empty where nothing had begun.
    """

    def __init__(self, asked: signal.Signals, place: str = "") -> None:
        super().__init__(asked, place)
        self.signal, self.place = asked, place

    @property
    def status(self) -> int:
        """The exit status that shells give to whoever dies of this signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    def told(self, on: str) -> str:
        """A line for people: where it was, and what goes on."""
        return "interrupted" + (f" in {self.place}" if self.place else "") + f"; {on}"


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Inside, the first Ctrl-C or SIGTERM raises `Interrupted`: at once, or where work is `postponed` at its next `check`.

    The second one has its ordinary effect. Only a main thread can heed signals; elsewhere, and inside another `heeded`,
    this does nothing. A signal that is ignored already (under nohup, say) stays ignored.
    """
    global _asked, _heeding
    if _heeding or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HEEDED}
    mine = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    _asked, _heeding = None, True
    for number in mine:
        signal.signal(number, _heed)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
        _asked, _heeding = None, False


def _heed(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = signal.Signals(number)
    for again in HEEDED:  # even code that never comes back to Python then dies of the second one
        if signal.getsignal(again) is _heed:
            signal.signal(again, signal.SIG_DFL)
    if not _postponing:
        raise Interrupted(_asked)
    with contextlib.suppress(OSError):  # no print: the handler may have come amid one
        os.write(2, b"\nkdrun: finishing the step and saving; once more stops at once\n")


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Inside, an interruption waits for a `check`, at the latest for the end of the block."""
    global _postponing
    before, _postponing = _postponing, True
    try:
        yield
    finally:
        _postponing = before
    if not before:
        check()


def pending() -> bool:
    """Whether somebody wants this to stop."""
    return _asked is not None


def check(place: str = "") -> None:
    """Stop here if somebody wants it.

    Raises:
        Interrupted: in this place.
    """
    if _asked is not None:
        stop(place)


def stop(place: str) -> NoReturn:
    """Stop here, for somebody wants it of this process or of one that works with it.

    Raises:
        Interrupted: in this place.
    """
    raise Interrupted(_asked or signal.SIGTERM, place)
