"""The one exception that means "the user can fix this": entry points print its sentence, not a traceback."""


class InputError(ValueError):
    """Bad input: the message names the file or key, its value, and the remedy."""
