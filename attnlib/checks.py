"""Checks that several modules share."""

import operator

import torch


def whole_number(name: str, value: int, at_least: int = 1) -> int:
    """Return ``value`` as an int (a symbolic one, under torch.export, as it is).

    Raises
    ------
    TypeError: if it is no whole number.
    ValueError: if it is less than ``at_least``.

    >>> whole_number("size", 3)
    3
    """
    if not isinstance(value, torch.SymInt):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
        value = operator.index(value)
    if value < at_least:
        raise ValueError(f"{name}: expected at least {at_least}, got {value}")
    return value


def autocast_is_on(device_type: str) -> bool:
    """Say whether autocast may change dtypes on such a device; some, such as ``meta``, have none.

    >>> with torch.autocast("cpu"):
    ...     autocast_is_on("cpu"), autocast_is_on("meta")
    (True, False)
    """
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
