"""Checks of arguments that several modules make: all before any arithmetic, each error with the argument's name."""

import math
import operator
from numbers import Real

import torch
from torch import Tensor

from attnlib.modes import autocast_is_on

__all__ = [
    "finite_number",
    "heads",
    "keys_and_values",
    "nothing_beside_jagged",
    "padded_or_jagged",
    "positive_number",
    "probability",
    "same_dtype",
    "tokens",
    "whole_number",
]


def whole_number(name: str, value: int, at_least: int = 1) -> int:
    """Return ``value`` as an int (a symbolic one, under torch.export, as it is).

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is less than ``at_least``.

    >>> from attnlib.checks import whole_number
    >>> whole_number("size", 3)
    3
    """
    # In a compiled graph with open sizes, a SymInt calls itself an int and takes no operator.index.
    if isinstance(value, bool) or not (isinstance(value, int | torch.SymInt) or hasattr(value, "__index__")):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    if not isinstance(value, int | torch.SymInt):
        try:
            value = operator.index(value)
        except TypeError as error:  # of a tensor, say, of several numbers
            found = f"{type(value).__name__} of {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise TypeError(f"{name}: expected a whole number, got {found}") from error
    if value < at_least:
        raise ValueError(f"{name}: expected at least {at_least}, got {value}")
    return value


def probability(name: str, value: float) -> None:
    """Check that ``value`` is a number in [0, 1).

    >>> from attnlib import checks
    >>> checks.probability("dropout_p", 1.0)
    Traceback (most recent call last):
    ValueError: dropout_p: expected a probability in [0, 1), got 1.0
    """
    if not isinstance(value, float | Real):  # float first: to ask an abstract class takes longer
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {value}")


def finite_number(name: str, value: float) -> None:
    """Check that ``value`` is a finite number; a symbolic one will do, under torch.export.

    >>> from attnlib import checks
    >>> checks.finite_number("scale", float("nan"))
    Traceback (most recent call last):
    ValueError: scale: expected a finite number, got nan
    """
    if not isinstance(value, float | Real | torch.SymFloat):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")


def positive_number(name: str, value: float) -> None:
    """Check that ``value`` is a finite number above 0.

    >>> from attnlib import checks
    >>> checks.positive_number("base", 0)
    Traceback (most recent call last):
    ValueError: base: expected a finite number above 0, got 0
    """
    if not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")


def heads(query: Tensor, key: Tensor, value: Tensor | None = None) -> None:
    """Check that ``query`` (…, H, L, d_k), ``key`` (…, H_kv, S, d_k) and ``value`` (…, H_kv, S, d_v) fit together.

    Raises:
        ValueError: if sizes do not fit, or a device differs.
        TypeError: if one is not a floating-point tensor, or the dtypes differ.

    >>> import torch
    >>> from attnlib import checks
    >>> checks.heads(torch.zeros(2, 4), torch.zeros(3, 5))
    Traceback (most recent call last):
    ValueError: key: expected d_k = 4 as in query, got 5
    """
    _like_query("query", query, query)
    _like_query("key", key, query)
    if query.shape[-1] == 0:
        raise ValueError(f"query: expected d_k of at least 1, got {tuple(query.shape)}")
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(f"key: expected d_k = {query.shape[-1]} as in query, got {key.shape[-1]}")
    if key.shape[:-3] != query.shape[:-3]:
        raise ValueError(f"key: expected the batch {tuple(query.shape[:-3])} of query, got {tuple(key.shape[:-3])}")
    if query.dim() > 2 and (key.shape[-3] == 0 or query.shape[-3] % key.shape[-3]):
        wanted = f"a number of heads that divides query's {query.shape[-3]}"
        raise ValueError(f"key: expected {wanted}, got {key.shape[-3]}")
    if value is None:
        return
    _like_query("value", value, query)
    if value.shape[:-1] != key.shape[:-1]:
        wanted = f"key's batch, heads and S, (…, H_kv, S) = {tuple(key.shape[:-1])}"
        raise ValueError(f"value: expected {wanted}, got {tuple(value.shape[:-1])}")


def _like_query(name: str, x: Tensor, query: Tensor) -> None:
    """Check that ``x`` is a floating-point tensor with the dtype, the device and as many axes as ``query``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}")
    if x.dtype != query.dtype:
        raise TypeError(f"{name}: expected query's dtype {query.dtype}, got {x.dtype}")
    if x.device != query.device:
        raise ValueError(f"{name}: expected query's device {query.device}, got {x.device}")
    if x.dim() != query.dim() or x.dim() < 2:
        axes = "(…, H, L, d), or (L, d), with as many axes as query"
        raise ValueError(f"{name}: expected {axes}, got {tuple(x.shape)} beside query {tuple(query.shape)}")


def padded_or_jagged(*tensors: Tensor, **others: object) -> None:
    """Check that nested tensors are all jagged, and that nothing stands beside them that torch has for padded ones.

    Args:
        tensors: query, key and value, (B, H, L, d).
        others: other arguments, by their names; None where one is not given.

    Raises:
        TypeError: if they are of several kinds, or another argument stands beside jagged ones.

    >>> import torch
    >>> from attnlib import checks
    >>> checks.padded_or_jagged(torch.zeros(2, 4), torch.zeros(3, 4), mask=None)
    """
    tensors = tuple(x for x in tensors if isinstance(x, Tensor))
    if not any(x.is_nested for x in tensors):
        return
    if not all(x.is_nested and x.layout == torch.jagged and x.dim() == 4 for x in tensors):
        kinds = ", ".join(f"{x.dim()} axes of {'nested ' * x.is_nested}{x.layout}" for x in tensors)
        raise TypeError(f"query: expected padded tensors, or all nested, (B, H, L, d) of torch.jagged, got {kinds}")
    nothing_beside_jagged("query", **others)


def nothing_beside_jagged(name: str, **others: object) -> None:
    """Check that beside the jagged tensor ``name`` there is no argument that torch has for padded ones only.

    Raises:
        TypeError: if one of ``others`` is there, neither None nor False.

    >>> from attnlib import checks
    >>> checks.nothing_beside_jagged("query", mask=None, need_weights=False)
    """
    beside = [other for other, value in others.items() if value is not None and value is not False]
    if beside:
        way = f"use torch.nested.to_padded_tensor({name}, 0.0) with masks.padding(lengths)"
        raise TypeError(f"{name}: expected a padded tensor beside {beside[0]}, got a jagged one; {way}")


def tokens(name: str, x: Tensor, d_model: int, query: Tensor | None = None, letter: str = "d_model") -> None:
    """Check that ``x`` holds tokens (B, L, d_model), or (L, d_model), laid out as ``query`` is, if there is one.

    Raises:
        ValueError: if it has other axes.
        TypeError: if it is not a floating-point tensor, or not of query's layout.

    >>> import torch
    >>> from attnlib import checks
    >>> checks.tokens("x", torch.zeros(3, 5, 4), d_model=8)
    Traceback (most recent call last):
    ValueError: x: expected (B, L, d_model = 8), or (L, d_model), got (3, 5, 4)
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a floating-point tensor, got {x.dtype}")
    query = x if query is None else query
    if (x.is_nested or query.is_nested) and not x.layout == query.layout == torch.jagged:
        wanted = "padded tensors, or nested ones of layout=torch.jagged for query, key and value"
        raise TypeError(f"{name}: expected {wanted}, got {'a nested' if x.is_nested else 'a padded'} {x.layout}")
    if x.dim() not in (2, 3) or x.shape[-1] != d_model or x.dim() != query.dim():
        axes = f"(B, L, {letter} = {d_model}), or (L, {letter})" + ", with as many axes as query" * (x is not query)
        raise ValueError(f"{name}: expected {axes}, got {tuple(x.shape)}")


def keys_and_values(
    key: Tensor, value: Tensor | None, query: Tensor, key_width: int, value_width: int
) -> tuple[Tensor, Tensor]:
    """Check the tokens that keys and values are made of, beside those of the query, and return both.

    Args:
        key: (B, S, key_width), or (S, key_width).
        value: (B, S, value_width). Default: ``key``.
        query: (B, L, d_model), whose batch, layout and dtype they have.
        key_width: the size that a key's tokens must have.
        value_width: the size that a value's tokens must have.

    Raises:
        ValueError: if sizes do not fit.
        TypeError: if one is not a floating-point tensor, or of another dtype or layout than the query.

    >>> import torch
    >>> from attnlib import checks
    >>> _ = checks.keys_and_values(torch.zeros(2, 7, 4), None, torch.zeros(3, 5, 4), 4, 4)
    Traceback (most recent call last):
    ValueError: key: expected a batch of 3 as in query, got 2
    """
    tokens("key", key, key_width, query, "key_width")
    if key.shape[:-2] != query.shape[:-2]:
        raise ValueError(f"key: expected a batch of {query.shape[0]} as in query, got {key.shape[0]}")
    value = key if value is None else value
    tokens("value", value, value_width, query, "value_width")
    if value.shape[:-1] != key.shape[:-1]:
        wanted = f"key's shape {tuple(key.shape[:-1])}"
        raise ValueError(f"value: expected {wanted} before its size, got {tuple(value.shape[:-1])}")
    same_dtype(query, key=key, value=value)
    return key, value


def same_dtype(query: Tensor, **others: Tensor) -> None:
    """Check that all are of query's dtype; under autocast, which makes them so, they need not be.

    Raises:
        TypeError: if one is of another.

    >>> import torch
    >>> from attnlib import checks
    >>> checks.same_dtype(torch.zeros(2), key=torch.zeros(2).double())
    Traceback (most recent call last):
    TypeError: key: expected query's dtype torch.float32, got torch.float64
    """
    for name, x in others.items():
        if x.dtype != query.dtype and not autocast_is_on(x.device.type):
            raise TypeError(f"{name}: expected query's dtype {query.dtype}, got {x.dtype}")
