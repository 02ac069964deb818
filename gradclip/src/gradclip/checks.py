"""Checks of the strategies' arguments, in one wording."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real


def check_number(name: str, value: object, allowed: str, fits: Callable[[float], bool]) -> float:
    """`value` as a float.

    Args:
        name: the argument's name.
        value: what was passed for it.
        allowed: what is allowed, in words.
        fits: the same as a comparison, which NaN never passes.

    Raises:
        TypeError: it is no real number (a bool and a string are none).
        ValueError: it is NaN, too large for a float, or doesn't fit.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {allowed}, got {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan  # a whole number beyond the largest float
    if not fits(number):
        raise ValueError(f"{name}: expected {allowed}, got {value!r}")
    return number


def check_positive(name: str, value: object) -> float:
    """`value` as a float > 0; infinity is allowed."""
    return check_number(name, value, "a number > 0", lambda number: number > 0)


def check_decay(name: str, value: object) -> float:
    """`value` as the decay of a running mean, in [0, 1)."""
    return check_number(name, value, "a number in [0, 1)", lambda number: 0 <= number < 1)


def check_percentile(name: str, value: object) -> float:
    """`value` as a percentile, in [0, 100]."""
    return check_number(name, value, "a percentile in [0, 100]", lambda number: 0 <= number <= 100)


def warn_of_small_percentile(name: str, value: float) -> None:
    """Warns a constructor's caller of a percentile that may have been meant as a fraction."""
    if 0 < value < 1:
        warnings.warn(
            f"{name}={value!r} is a percentile in [0, 100], so below the first; the tenth is {name}=10", stacklevel=3
        )


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """`value` as a whole number >= `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number >= {minimum}, got {value!r} ({type(value).__name__})")
    if value < minimum:
        raise ValueError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    return int(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """`value`, one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def check_flag(name: str, value: object) -> bool:
    """`value`, true or false; the text "false" of a settings file would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected true or false, got {value!r} ({type(value).__name__})")
    return value


def check_patterns(name: str, value: object) -> list[str]:
    """`value` as a list of patterns for parameters' names."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected a list of names or patterns such as 'encoder.*', got {value!r}")
    patterns = list(value)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"{name}: expected a list of names or patterns such as 'encoder.*', got {value!r}")
    return patterns
