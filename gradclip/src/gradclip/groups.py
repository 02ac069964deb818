"""Groups of parameters: per tensor, per module, or by name."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from gradclip.checks import check_choice, check_patterns

Groups = str | Mapping[str, Iterable[str]]
"""\"tensor\", \"module\", or a name and patterns (such as \"encoder.*\") for each group."""


class Grouping:
    """Which parameters belong together.

    Args:
        groups: "tensor": each parameter by itself; "module": the parameters of one module; or a mapping of names to
            lists of patterns, in which a parameter belongs to the first group that has a matching pattern.

    Raises:
        TypeError, ValueError: `groups` is something else.
    """

    def __init__(self, groups: Groups) -> None:
        self.setting: str | dict[str, list[str]]
        if isinstance(groups, Mapping):
            self.setting = {str(name): check_patterns(f"groups[{name!r}]", value) for name, value in groups.items()}
            if not self.setting:
                raise ValueError("groups: expected at least one group, got {}")
        else:
            self.setting = check_choice("groups", groups, ("tensor", "module"))
        self._names: list[str] = []
        self._members: dict[str, list[int]] = {}

    def members(self, names: list[str], all_names: list[str]) -> dict[str, list[int]]:
        """Positions in `names` of each group's parameters.

        Args:
            names: of the parameters that have a gradient.
            all_names: of all.

        Raises:
            ValueError: a parameter is in no group, or a group's pattern matches none of them.
        """
        if names != self._names:
            members: dict[str, list[int]] = {}
            for position, name in enumerate(names):
                members.setdefault(self._group(name), []).append(position)
            if not isinstance(self.setting, str):
                for group, patterns in self.setting.items():
                    require_matches(f"groups[{group!r}]", patterns, all_names)
            self._names, self._members = list(names), members
        return self._members

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


def matches(name: str, patterns: list[str]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_matches(argument: str, patterns: list[str], names: list[str]) -> None:
    """Raises ValueError where a pattern matches none of the names: it was misspelt."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:4])
            raise ValueError(f"{argument}: no parameter is called {pattern!r}; there are {some}, ...")
