import os
import signal

import pytest

from separation.training.interruption import Interrupted, Interruption


@pytest.fixture(autouse=True)
def terminal():
    """The tests may run under nohup, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_counts_at_once(number):
    interruption = Interruption()
    with pytest.raises(Interrupted) as stop, interruption.handled():
        os.kill(os.getpid(), number)
    assert (stop.value.number, stop.value.status) == (number, 128 + number)
    assert str(stop.value) == f"stopped by {number.name}"


def test_where_deferred_it_waits_to_be_asked_for_and_counts_at_the_end():
    interruption = Interruption()
    before = signal.getsignal(signal.SIGTERM)
    reached = []

    def work() -> None:
        with interruption.handled(), interruption.deferred():
            assert interruption.asked() == 0
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # from a terminal and from a sweep
            reached.append(interruption.asked())

    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        work()
    assert reached == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) is before


def test_who_asks_again_need_not_wait(monkeypatch):
    monkeypatch.setattr("separation.training.interruption.TOGETHER_SECONDS", 0.0)
    interruption = Interruption()
    reached = []

    def work() -> None:
        with interruption.handled(), interruption.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("first")
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("second")

    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        work()
    assert reached == ["first"]


def test_torchrun_that_is_gone_counts_as_sigterm(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    interruption = Interruption()
    assert interruption.asked() == 0
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert interruption.asked() == signal.SIGTERM


def test_what_nohup_has_started_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption().handled():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
