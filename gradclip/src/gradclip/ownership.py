"""Whose gradients a clipper remembers."""

import weakref
from collections.abc import Sequence

from torch import Tensor


class Ownership:
    """The parameters that a clipper has met."""

    def __init__(self) -> None:
        self._met: dict[int, weakref.ref[Tensor]] = {}  # by identity: tensors compare entry by entry
        self._first: weakref.ref[Tensor] | None = None  # of the last call

    def check(self, parameters: Sequence[Tensor]) -> None:
        """Remembers a step's parameters.

        Raises:
            ValueError: none of them is known, though others are: the memory is of another network's gradients.
        """
        if not parameters or (self._first is not None and self._first() is parameters[0]):
            return
        if self._met and not any(self._has_met(parameter) for parameter in parameters):
            raise ValueError(
                "parameters: the clipper has met only others, and its memory is of their gradients; make a clipper for"
                " each network (to hand a memory on, load its state_dict into a new clipper)"
            )
        self._met.update((id(parameter), weakref.ref(parameter)) for parameter in parameters)
        self._first = self._met[id(parameters[0])]

    def __reduce__(self) -> tuple[type["Ownership"], tuple[()]]:
        """A copied clipper meets copied parameters."""
        return Ownership, ()

    def _has_met(self, parameter: Tensor) -> bool:
        known = self._met.get(id(parameter))
        return known is not None and known() is parameter
