"""Which mode torch is in: the only door to its private names of this kind.

Each name has an answer for a torch that lacks it: the one with which everything stays right, only slower.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["autocast_is_on", "forward_mode_is_on", "is_plain", "transform_is_active", "without_autocast"]

# Where torch no longer tells, a transform is taken to be active: then no element is read, and no tensor is cut.
_transforms_are_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


def autocast_is_on(device_type: str) -> bool:
    """Return whether autocast may change dtypes on such a device; some, such as ``meta``, have none.

    >>> import torch
    >>> from attnlib.modes import autocast_is_on
    >>> with torch.autocast("cpu"):
    ...     autocast_is_on("cpu"), autocast_is_on("meta")
    (True, False)
    """
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def without_autocast(device_type: str) -> AbstractContextManager:
    """Keep autocast from narrowing what was widened; entered only where there is one, because that takes time.

    >>> import torch
    >>> from attnlib.modes import autocast_is_on, without_autocast
    >>> with torch.autocast("cpu"), without_autocast("cpu"):
    ...     autocast_is_on("cpu")
    False
    """
    return torch.autocast(device_type, enabled=False) if autocast_is_on(device_type) else nullcontext()


def is_plain(*tensors: Tensor) -> bool:
    """Return whether these are tensors of no special kind, whose elements may be read and written.

    Not so in a graph that is compiled or traced, where what was read would stay as it was, nor in a transform.

    >>> import torch
    >>> from attnlib.modes import is_plain
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

    >>> import torch
    >>> from attnlib.modes import transform_is_active
    >>> torch.func.vmap(lambda x: x + transform_is_active())(torch.zeros(2))
    tensor([1., 1.])
    """
    return _transforms_are_active()


def forward_mode_is_on() -> bool:
    """Return whether forward-mode derivatives may be asked for, as :func:`torch.func.jvp` does.

    >>> from torch.autograd import forward_ad
    >>> from attnlib.modes import forward_mode_is_on
    >>> with forward_ad.dual_level():
    ...     forward_mode_is_on()
    True
    """
    # Without the level no kernel but the explicit one would be safe.
    return getattr(forward_ad, "_current_level", 0) >= 0
