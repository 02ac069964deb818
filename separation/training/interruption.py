"""Signals that ask a program to stop: SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal is gone), and SIGUSR1 (by Slurm,
before a job's end)."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
TOGETHER_SECONDS = 2.0
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


def heed(handler: Handler) -> dict[int, Handler]:
    """Has the signals handled, but for a SIGHUP that nohup has had ignored: the program is to outlive its terminal.

    Returns:
        the handlers before.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {number: signal.signal(number, handler) for number in SIGNALS if not (number == signal.SIGHUP and ignored)}


class Interrupted(BaseException):
    """A signal asked the program to stop.

    Attributes:
        status: the program's exit status: 128 and the signal's number, by the shells' convention.
        where: how far it came, for the user.
    """

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(number, where)
        self.number = number
        self.status = 128 + number
        self.where = where

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}{self.where}"


class Interruption:
    """Turns the signals into `Interrupted`: at once, or, inside `deferred`, when `check` asks.

    A second signal is not deferred, unless it comes with the first: a terminal and a sweep may send the same one.

    Attributes:
        number: of the signal that came while they were deferred; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._is_deferred = False
        self._since = 0.0
        # torchrun is the parent of the processes that it starts; where it dies, it may not have stopped them.
        self._parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    def asked(self) -> int:
        """The signal that came while they were deferred; SIGTERM where torchrun is gone; or 0."""
        if self._parent not in (None, os.getppid()):
            self.number = self.number or signal.SIGTERM
        return self.number

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Inside, the signals are this object's; but Python handles signals in its main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = heed(self._receive)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal waits in `number`; at the end it counts, if nobody has asked for it."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False
        if self.number:
            raise Interrupted(self.number)

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and now - self._since < TOGETHER_SECONDS:
            return
        if not self._is_deferred or self.number:
            raise Interrupted(number)
        self.number, self._since = number, now
