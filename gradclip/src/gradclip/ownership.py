"""Whose gradients a clipper remembers."""

import weakref
from collections.abc import Sequence

from torch import Tensor


class Ownership:
    """The parameters that a clipper has met."""

    def __init__(self) -> None:
        self._met: dict[int, weakref.ref[Tensor]] = {}  # by identity: tensors compare entry by entry
        self._last_call: tuple[int, int, int] | None = None

    def check(self, parameters: Sequence[Tensor]) -> None:
        """Remembers a step's parameters.

        Raises:
            ValueError: none of them is known, though others are: the memory is of another network's gradients.
        """
        if not parameters:
            return
        ends = (len(parameters), id(parameters[0]), id(parameters[-1]))
        if ends == self._last_call and self._has_met(parameters[0]) and self._has_met(parameters[-1]):
            return
        if self._met and not any(self._has_met(parameter) for parameter in parameters):
            raise ValueError(
                "parameters: the clipper has met only others, and its memory is of their gradients; make a clipper for"
                " each network (to hand a memory on, load its state_dict into a new clipper)"
            )
        self._met.update((id(parameter), weakref.ref(parameter)) for parameter in parameters)
        self._last_call = ends

    def __reduce__(self) -> tuple[type["Ownership"], tuple[()]]:
        """A copied clipper meets copied parameters."""
        return Ownership, ()

    def _has_met(self, parameter: Tensor) -> bool:
        known = self._met.get(id(parameter))
        return known is not None and known() is parameter
