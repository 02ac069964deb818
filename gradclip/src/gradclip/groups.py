"""Groups of parameters: per tensor, per module, or by name."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from gradclip.checks import check_choice, check_patterns
from gradclip.gradients import Gradients
from gradclip.names import matches, require_matches

Groups = str | Mapping[str, Iterable[str]]
"""\"tensor\", \"module\", \"param_group\", or a name and patterns (such as \"encoder.*\") for each group."""
GroupsSetting = str | dict[str, list[str]]
"""The same, checked."""


class Grouping:
    """Which parameters belong together.

    Args:
        groups: "tensor": each parameter by itself; "module": the parameters of one module; "param_group": those of one
            group of the optimizer, by its "name" if it has one, else by its number ("1.0" is the second optimizer's
            first group); or a mapping of names to lists of patterns, in which a parameter belongs to the first group
            that has a matching pattern.

    Raises:
        TypeError, ValueError: `groups` is something else.
    """

    def __init__(self, groups: Groups) -> None:
        self.setting: GroupsSetting
        self.optimizers: tuple[torch.optim.Optimizer, ...] = ()
        """Those whose groups "param_group" means."""
        if isinstance(groups, Mapping):
            self.setting = {str(name): check_patterns(f"groups[{name!r}]", value) for name, value in groups.items()}
            if not self.setting:
                raise ValueError("groups: expected at least one group, got {}")
        else:
            self.setting = check_choice("groups", groups, ("tensor", "module", "param_group"))
        self._names: list[str] = []
        self._members: dict[str, list[int]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """A copied grouping has no optimizer: the copy of a clipper isn't attached."""
        return {**self.__dict__, "optimizers": ()}

    @property
    def key(self) -> str | tuple[tuple[str, tuple[str, ...]], ...]:
        """The setting, as it stands in a state."""
        if isinstance(self.setting, str):
            return self.setting
        return tuple((name, tuple(patterns)) for name, patterns in self.setting.items())

    def members(self, grads: Gradients, strategy: str) -> dict[str, list[int]]:
        """Positions of each group's gradients.

        Args:
            grads: of the step.
            strategy: whose groups they are, for messages.

        Raises:
            ValueError: the parameters have no names, one is in no group, or a group's pattern matches none of them.
        """
        if self.setting == "param_group":
            return self._param_groups(grads)
        grads.require_names(strategy)
        names, all_names = grads.names, grads.all_names
        if names != self._names:
            members: dict[str, list[int]] = {}
            for position, name in enumerate(names):
                members.setdefault(self._group(name), []).append(position)
            if not isinstance(self.setting, str):
                for group, patterns in self.setting.items():
                    require_matches(f"groups[{group!r}]", patterns, all_names)
            self._names, self._members = list(names), members
        return self._members

    def _param_groups(self, grads: Gradients) -> dict[str, list[int]]:
        if not self.optimizers:
            raise ValueError("groups: 'param_group' needs an optimizer; call clipper.attach(optimizer)")
        several = len(self.optimizers) > 1
        names = {
            id(parameter): str(group.get("name", f"{number}.{position}" if several else position))
            for number, optimizer in enumerate(self.optimizers)
            for position, group in enumerate(optimizer.param_groups)
            for parameter in group["params"]
        }
        members: dict[str, list[int]] = {}
        for position, parameter in enumerate(grads.parameters):
            if id(parameter) not in names:
                raise ValueError(f"groups: {grads.names[position]} is in none of the optimizer's groups")
            members.setdefault(names[id(parameter)], []).append(position)
        return members

    def _group(self, name: str) -> str:
        if self.setting == "tensor":
            return name
        if isinstance(self.setting, str):
            return name.rpartition(".")[0]
        for group, patterns in self.setting.items():
            if matches(name, patterns):
                return group
        raise ValueError(
            f"groups: {name} is in none of {', '.join(self.setting)}; add a last group with the pattern '*'"
        )
