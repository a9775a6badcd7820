"""Ctrl-C and SIGTERM: where they are heeded, what is saved, what is said, and that the end is the same all the same."""

import signal
import threading

import pytest
import torch

from kdrun.training.loop import distill
from kdrun.utils import signals
from kdrun.utils.files import held
from kdrun.utils.signals import Interrupted, check, heeded, pending, postponed
from tests.toy import toy_run

BOTH = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Whatever a test does, the handlers are those from before, and nobody is asked to stop."""
    before = [signal.getsignal(number) for number in signals.HEEDED]
    yield
    assert [signal.getsignal(number) for number in signals.HEEDED] == before
    assert not pending()


@BOTH
def test_it_stops_at_once(number, status):
    with pytest.raises(Interrupted) as told, heeded():
        signal.raise_signal(number)
    assert told.value.status == status


@BOTH
def test_postponed_it_stops_where_it_is_asked(number, status, capfd):
    done = []

    def work():
        signal.raise_signal(number)
        assert pending()
        done.append("the step")
        check("step 3")
        done.append("too much")

    with pytest.raises(Interrupted) as told, heeded(), postponed():
        work()
    assert done == ["the step"]
    assert (told.value.status, told.value.place) == (status, "step 3")
    assert told.value.told("so it goes on") == "interrupted in step 3; so it goes on"
    assert "once more stops at once" in capfd.readouterr().err


def test_at_the_latest_it_stops_at_the_end_of_what_postponed_it():
    with heeded():
        with pytest.raises(Interrupted), postponed():
            signal.raise_signal(signal.SIGINT)
        assert pending()


def test_an_error_on_the_way_is_not_hidden():
    def work():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError

    with heeded(), pytest.raises(ZeroDivisionError), postponed():
        work()


def test_the_second_one_has_its_ordinary_effect():
    with heeded():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        assert all(signal.getsignal(number) == signal.SIG_DFL for number in signals.HEEDED)


def test_without_it_everything_is_as_ever():
    with pytest.raises(KeyboardInterrupt), postponed():
        signal.raise_signal(signal.SIGINT)


def test_inside_another_it_does_nothing():
    with heeded():
        handler = signal.getsignal(signal.SIGINT)
        with heeded():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler


def test_only_the_main_thread_heeds():
    before, seen = signal.getsignal(signal.SIGINT), []

    def elsewhere():
        with heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heeded():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_does_not_wait_for_a_lock_to_be_free(tmp_path):
    told, holds, done = [], threading.Event(), threading.Event()

    def hold():
        with held(tmp_path / "lock", lambda: None):
            holds.set()
            done.wait(60)

    def waiting():
        told.append("waiting")
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(20)
    try:
        with heeded(), pytest.raises(Interrupted), held(tmp_path / "lock", waiting):
            pytest.fail("two hold the lock")
        assert not done.is_set()
    finally:
        done.set()
        holder.join()
    assert told == ["waiting"]


def ended(run):
    return {name: value.clone() for name, value in run.networks.student.state_dict().items()}, run.history


@pytest.fixture(scope="module")
def whole():
    run = toy_run("fitnets", "offline")
    distill(run)
    return ended(run)


def interrupted_at(moment, tmp_path, monkeypatch):
    """The toy run with a signal at this call of something; only the interruption saves. Then the rest of it."""
    owner, name, call = moment
    calls, original = [], getattr(owner, name)

    def signalled(*arguments, **named):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    first = toy_run("fitnets", "offline", folder=tmp_path)
    first.every = 1e9
    monkeypatch.setattr(owner, name, signalled)
    with pytest.raises(Interrupted) as told, heeded():
        distill(first)
    monkeypatch.undo()
    assert len(calls) >= call
    again = toy_run("fitnets", "offline", folder=tmp_path)
    steps = []
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", lambda _: steps.append(1))
    distill(again)
    monkeypatch.undo()
    return told.value, ended(again), len(steps)


def same(one, other):
    return one[1] == other[1] and all(torch.equal(value, other[0][name]) for name, value in one[0].items())


MOMENTS = [  # 48 pictures are 3 batches of 16 an epoch: 1 epoch of hints, 2 to distill
    ("kdrun.utils.progress.Silent.step", 1, "toy, phase 'hint', epoch 1 of 1", 8),
    ("kdrun.utils.progress.Silent.step", 4, "toy, epoch 1 of 2", 5),
    ("kdrun.utils.progress.Silent.step", 6, "toy, epoch 1 of 2", 3),
    ("kdrun.training.loop.answers", 1, "toy, epoch 1 of 2", 3),  # while it is validated
    ("kdrun.utils.progress.Silent.step", 9, "toy, epoch 2 of 2", 0),
    ("kdrun.training.loop.answers", 2, "toy, epoch 2 of 2", 0),
    ("kdrun.utils.progress.Silent.epoch", 3, "toy, epoch 2 of 2", 0),
]


@pytest.mark.parametrize(("where", "call", "place", "left"), MOMENTS)
def test_the_step_is_finished_and_saved_and_the_end_is_the_same(where, call, place, left, tmp_path, monkeypatch, whole):
    from kdrun.training import loop
    from kdrun.utils import progress

    owner = loop if "training.loop" in where else progress.Silent
    told, end, steps = interrupted_at((owner, where.rpartition(".")[2], call), tmp_path, monkeypatch)
    assert (told.place, told.status) == (place, 143)
    assert steps == left  # nothing that was done is done again
    assert same(whole, end)


def test_in_the_rehearsal_it_stops_too(monkeypatch):
    run = toy_run("fitnets", "offline")
    run.rehearsal = True
    monkeypatch.setattr("kdrun.utils.progress.Silent.step", lambda _: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted) as told, heeded():
        distill(run)
    assert told.value.place == "the rehearsal"
