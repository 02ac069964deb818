"""Gradients that lie in no parameter's `.grad`: what `torch.func.grad` and `torch.autograd.grad` return."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gradclip.gradients import Gradients

Tree = Any
"""A tensor, or a list, tuple or dictionary of trees; None stands for no gradient."""


class PlainGradients(Gradients):
    """A step's gradients from a tree of tensors, which are changed in place; as names they have their places in it.

    Raises:
        ValueError: there are none, or one can't be written to.
        TypeError: the tree holds something else.
    """

    def __init__(self, tree: Tree, with_max: bool, per_tensor: bool) -> None:
        tensors = writable_leaves(tree)
        stand_ins = [(name, _stand_in(tensor)) for name, tensor in tensors]
        super().__init__(stand_ins, None, with_max, per_tensor)
        self.all_parameters = []
        self._changed = [(tensor, stand_in) for (_, tensor), (_, stand_in) in zip(tensors, stand_ins, strict=True)]

    def flush(self) -> None:
        super().flush()
        for tensor, stand_in in self._changed:
            if stand_in.grad is not None and stand_in.grad is not tensor:  # coalesced, for instance
                tensor.copy_(stand_in.grad)


def writable_leaves(tree: Tree) -> list[tuple[str, Tensor]]:
    """All tensors of a tree with their places, such as "encoder.weight" or "0"."""
    leaves = list(_leaves(tree, ()))
    if not leaves:
        raise ValueError(f"gradients: expected tensors, or lists or dictionaries of them, got {tree!r}")
    places: dict[int, str] = {}
    for name, tensor in leaves:
        if tensor.layout == torch.strided and 0 in tensor.stride() and tensor.numel() > 1:
            raise ValueError(f"gradients: {name!r} is an expanded tensor, which can't be written to; clone() it before")
        other = places.setdefault(_place(tensor), name)
        if other is not name:
            raise ValueError(
                f"gradients: {name!r} and {other!r} lie in the same memory, where one factor would act twice; clone()"
                " one of them before"
            )
    return leaves


def _place(tensor: Tensor) -> int:
    """What tensors have in common that begin at one place in memory, as autograd's gradients of a and b in a + b do."""
    in_memory = type(tensor) is Tensor and tensor.layout == torch.strided and tensor.numel() > 0
    return (tensor.data_ptr() if in_memory else 0) or id(tensor)


def _leaves(tree: Tree, place: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        if not (tree.is_floating_point() or tree.is_complex()):
            raise TypeError(f"gradients: {'.'.join(place)!r} holds {tree.dtype}; expected floating-point numbers")
        yield ".".join(place), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*place, str(key)))
    elif isinstance(tree, list | tuple):
        for position, value in enumerate(tree):
            yield from _leaves(value, (*place, str(position)))
    elif tree is not None:
        raise TypeError(
            f"gradients: expected tensors, or lists or dictionaries of them, got {type(tree).__name__};"
            " gradients in .grad are clipped by clip_(model.parameters())"
        )


def _stand_in(tensor: Tensor) -> Tensor:
    """A tensor whose `.grad` is this one, as a parameter's would be."""
    stand_in = tensor.detach()
    stand_in.grad = tensor
    return stand_in
