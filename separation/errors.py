"""The one exception that means "the user can fix this", and the checks that raise it."""

import math
from numbers import Real


class InputError(ValueError):
    """Bad input: the message names the file or key, its value, and the remedy. Entry points print it, without a
    traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"error: {self}"]


def check_count(key: str, value: object, minimum: int = 1, maximum: int = 2**31 - 1) -> None:
    """Raises InputError unless `value` is a whole number in [minimum, maximum]."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise InputError(f"{key}={value}: expected a whole number from {minimum} to {maximum}")


def check_number(key: str, value: object, minimum: float, maximum: float) -> None:
    """Raises InputError unless `value` is a number in [minimum, maximum]."""
    number = isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    if not number or not minimum <= value <= maximum:  # type: ignore[operator]
        raise InputError(f"{key}={value}: expected a number from {minimum:g} to {maximum:g}")


def check_choice(key: str, value: object, choices: tuple[str, ...]) -> str:
    """`value`; raises InputError unless it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{key}={value}: expected one of {', '.join(choices)}")
    return value


def check_flag(key: str, value: object) -> None:
    """Raises InputError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{key}={value}: expected true or false")


def check_path(key: str, value: object) -> None:
    """Raises InputError unless `value` can name a file: text without NUL."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise InputError(f"{key}={value}: expected a path; put quotes around one that looks like a number")
