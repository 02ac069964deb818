"""Runs that train in one process: each is an ordinary run in a thread of its own, but for its steps, which are taken
for all at once.

One thread works at a time. A run that wants its next step waits until all others want theirs, too; the last one to ask
takes the steps of all (`joint_step`). What is between two steps (validation, checkpoints, scores) the runs do in turns.
A run that ends, or fails, leaves, and the others go on.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch

from separation.data.mixtures import Batch, Data
from separation.errors import InputError
from separation.training.cuda_graph import Graphed, make_capturable
from separation.training.interruption import Interruption
from separation.training.step import Taken, TrainingParts
from separation.training.together.joint_step import Seat, joint_step
from separation.training.together.shared_mixtures import SharedMixtures

Result = TypeVar("Result")
State = tuple[Callable[[], Any], Callable[[Any], object]]


class PassedOn(Interruption):
    """A signal that another thread receives for this one."""

    def __init__(self, source: Interruption) -> None:
        super().__init__()
        self._source = source

    def asked(self) -> int:
        """As `Interruption.asked`."""
        self.number = self._source.asked()
        return self.number


class Member:
    """A run of a group, as the run's own code sees it."""

    def __init__(self, group: "Group", number: int) -> None:
        self._group = group
        self._number = number
        self.interruption = PassedOn(group.interruption)

    def shared(self, key: str, build: Callable[[], Data]) -> Data:
        """The corpus and mixtures of a run; those of another one of the group that has the same key."""
        return self._group.shared(key, build)

    def steps_of(self, parts: TrainingParts) -> Callable[[Batch], Taken]:
        """What takes this run's steps.

        Raises:
            InputError: they can't be captured, and are to be.
        """
        if self._group.graphed:
            make_capturable(parts)
        return partial(self._group.take, self._number, Seat.of(parts))


class Group:
    """Trains runs together.

    Args:
        stacked: see `joint_step`.
        graphed: the joint step is a CUDA graph, captured anew where a run has left.
        own: what of the process each run has for itself: how to get and to set it.
        interruption: the signals of all.
    """

    def __init__(self, stacked: bool, graphed: bool, interruption: Interruption, own: Sequence[State] = ()) -> None:
        self.interruption = interruption
        self._stacked = stacked
        self.graphed = graphed
        self._own = [(torch.get_rng_state, torch.set_rng_state), *own]
        self._graph: Graphed | None = None
        self._seated: list[Seat] = []
        self._turn = threading.Condition()  # whoever holds it works
        self._training: set[int] = set()
        self._asking: dict[int, tuple[Seat, Batch]] = {}
        self._taken: dict[int, Taken | BaseException] = {}
        self._data: dict[str, Data] = {}

    def run(self, runs: Sequence[Callable[[Member], Result]]) -> list[Result]:
        """Calls each with its member, and returns what they return.

        Raises:
            BaseException: the first that any of them raised, after all have ended.
        """
        results: dict[int, Result] = {}
        errors: list[BaseException] = []

        def work(number: int) -> None:
            with self._turn:
                try:
                    results[number] = runs[number](Member(self, number))
                except BaseException as error:  # raised anew in the thread that waits
                    errors.append(error)
                finally:
                    self._training.discard(number)
                    self._step_if_all_ask()

        self._training = set(range(len(runs)))
        threads = [threading.Thread(target=work, args=[number], daemon=True) for number in range(len(runs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return [results[number] for number in range(len(runs))]

    def shared(self, key: str, build: Callable[[], Data]) -> Data:
        """See `Member.shared`."""
        if key not in self._data:
            data = build()
            self._data[key] = replace(data, train=SharedMixtures(data.train))
        return self._data[key]

    def take(self, number: int, seat: Seat, batch: Batch) -> Taken:
        """A run's step, when all take theirs."""
        self._asking[number] = (seat, batch)
        own = [get() for get, _ in self._own]
        self._step_if_all_ask()
        self._turn.wait_for(lambda: number in self._taken)
        for (_, put), value in zip(self._own, own, strict=True):
            put(value)
        taken = self._taken.pop(number)
        if isinstance(taken, BaseException):
            raise taken
        return taken

    def _step_if_all_ask(self) -> None:
        if not self._asking or self._asking.keys() != self._training:
            return
        numbers = sorted(self._asking)
        seats, batches = zip(*(self._asking[number] for number in numbers), strict=True)
        outcomes: Sequence[Taken | BaseException]
        try:
            outcomes = self._joint_step(list(seats), batches)
        except BaseException as error:  # whoever isn't told waits for ever
            outcomes = [error] * len(numbers)
        self._asking.clear()
        self._taken.update(zip(numbers, outcomes, strict=True))
        self._turn.notify_all()

    def _joint_step(self, seats: list[Seat], batches: Sequence[Batch]) -> Sequence[Taken | InputError]:
        seats[0].parts.precision.apply()  # a run that was scored meanwhile may have changed it
        if not self.graphed:
            return joint_step(seats, batches, self._stacked)
        if self._graph is None or seats != self._seated:
            self._seated = seats
            self._graph = Graphed([seat.parts for seat in seats], partial(joint_step, seats, stacked=self._stacked))
        return self._graph(batches)
