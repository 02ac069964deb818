"""Checks of the strategies' arguments, in one wording."""

import math
from numbers import Real


def check_number(name: str, value: object, allowed: str) -> float:
    """`value` as a float.

    Raises:
        TypeError: it is no real number (a bool and a string are none).
        ValueError: it is NaN, or too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {allowed}, got {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:
        number = math.nan  # a whole number beyond the largest float
    if math.isnan(number):
        raise ValueError(f"{name}: expected {allowed}, got {value!r}")
    return number
