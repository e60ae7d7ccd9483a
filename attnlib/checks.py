"""Checks that several modules share."""

import operator

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def whole_number(name: str, value: int, at_least: int = 1) -> int:
    """Return ``value`` as an int (a symbolic one, under torch.export, as it is).

    Raises
    ------
    TypeError: if it is no whole number.
    ValueError: if it is less than ``at_least``.

    >>> whole_number("size", 3)
    3
    """
    # In a compiled graph with open sizes, a SymInt calls itself an int and takes no operator.index.
    if isinstance(value, bool) or not (isinstance(value, int | torch.SymInt) or hasattr(value, "__index__")):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    if not isinstance(value, int | torch.SymInt):
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


def query_and_key(query: Tensor, key: Tensor) -> None:
    """Hold that ``query`` (…, H, L, d_k) and ``key`` (…, H_kv, S, d_k) are of one kind and fit.

    Raises
    ------
    ValueError: if sizes do not fit, or a device differs.
    TypeError: if one is no floating-point tensor, or the dtypes differ.

    >>> query_and_key(torch.zeros(2, 4), torch.zeros(3, 5))
    Traceback (most recent call last):
    ValueError: key: expected d_k = 4 as in query, got 5
    """
    same_kind("query", query, query)
    same_kind("key", key, query)
    if query.shape[-1] == 0:
        raise ValueError(f"query: expected d_k of at least 1, got {tuple(query.shape)}")
    if key.shape[-1] != query.shape[-1]:
        raise ValueError(f"key: expected d_k = {query.shape[-1]} as in query, got {key.shape[-1]}")
    if key.shape[:-3] != query.shape[:-3]:
        raise ValueError(f"key: expected the batch {tuple(query.shape[:-3])} of query, got {tuple(key.shape[:-3])}")
    if query.dim() > 2 and (key.shape[-3] == 0 or query.shape[-3] % key.shape[-3]):
        heads = f"a number of heads that divides query's {query.shape[-3]}"
        raise ValueError(f"key: expected {heads}, got {key.shape[-3]}")


def same_kind(name: str, x: Tensor, query: Tensor) -> None:
    """Hold that ``x`` is a floating-point tensor with the dtype, the device and as many axes as ``query``.

    >>> same_kind("value", torch.zeros(2, 4), torch.zeros(3, 5))
    """
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


def is_plain(*tensors: Tensor) -> bool:
    """Return whether these are tensors of no special kind, whose elements may be read and written.

    Not so in a graph that is compiled or traced, where what was read would stay as it was, nor in a transform.

    >>> is_plain(torch.zeros(1)), is_plain(torch.zeros(1, device="meta"))
    (True, True)
    >>> torch.func.vmap(lambda x: x + is_plain(x))(torch.zeros(2))
    tensor([0., 0.])
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or transform_is_active() or forward_mode_is_on():
        return False
    return all(type(x) in (Tensor, nn.Parameter) for x in tensors)


def transform_is_active() -> bool:
    """Return whether a transform of ``torch.func`` is tracing, in a compiled graph too.

    >>> torch.func.vmap(lambda x: x + transform_is_active())(torch.zeros(2))
    tensor([1., 1.])
    """
    return torch._C._are_functorch_transforms_active()


def forward_mode_is_on() -> bool:
    """Return whether forward-mode derivatives may be asked for, as :func:`torch.func.jvp` does.

    >>> with forward_ad.dual_level():
    ...     forward_mode_is_on()
    True
    """
    return forward_ad._current_level >= 0
