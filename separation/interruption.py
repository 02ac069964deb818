"""Signals that ask a program to stop: SIGINT (Ctrl-C), SIGTERM, and SIGUSR1 (by Slurm, before a job's end)."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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

    A second signal is not deferred.

    Attributes:
        number: of the signal that came while they were deferred; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._is_deferred = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Inside, the signals are this object's; but Python handles signals in its main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal waits in `number`."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def _receive(self, number: int, _: FrameType | None) -> None:
        if not self._is_deferred or self.number:
            raise Interrupted(number)
        self.number = number
