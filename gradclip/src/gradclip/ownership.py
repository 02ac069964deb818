"""Whose gradients a clipper remembers."""

from collections.abc import Sequence

from torch import Tensor


class Ownership:
    """The parameters that a clipper has met.

    It keeps them alive, so that no other one comes to have the identity of one of them. Weak references would keep
    torch from converting them: `model.cpu()` exchanges the contents of DTensors, and refuses where there are any.
    """

    def __init__(self) -> None:
        self._met: dict[int, Tensor] = {}  # by identity: tensors compare entry by entry
        self._last_call: tuple[int, int, int] | None = None

    def check(self, parameters: Sequence[Tensor]) -> None:
        """Asks whether a step's parameters are the clipper's.

        Raises:
            ValueError: none of them is known, though others are: the memory is of another network's gradients.
        """
        if not parameters or self._ends(parameters) == self._last_call:
            return
        if self._met and not any(id(parameter) in self._met for parameter in parameters):
            raise ValueError(
                "parameters: the clipper has met only others, and its memory is of their gradients; make a clipper for"
                " each network (to hand a memory on, load its state_dict into a new clipper)"
            )

    def meet(self, parameters: Sequence[Tensor]) -> None:
        """Remembers them, once the step has gone well: after an error the clipper may still meet the right ones."""
        if parameters and self._ends(parameters) != self._last_call:
            self._met.update((id(parameter), parameter) for parameter in parameters)
            self._last_call = self._ends(parameters)

    @staticmethod
    def _ends(parameters: Sequence[Tensor]) -> tuple[int, int, int]:
        return len(parameters), id(parameters[0]), id(parameters[-1])

    def __reduce__(self) -> tuple[type["Ownership"], tuple[()]]:
        """A copied clipper meets copied parameters."""
        return Ownership, ()
