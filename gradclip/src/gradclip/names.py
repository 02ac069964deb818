"""Patterns of parameters' names."""

from fnmatch import fnmatchcase


def matches(name: str, patterns: list[str]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def require_matches(argument: str, patterns: list[str], names: list[str]) -> None:
    """Raises ValueError where a pattern matches none of the names: it was misspelt."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:4])
            raise ValueError(f"{argument}: no parameter is called {pattern!r}; there are {some}, ...")
