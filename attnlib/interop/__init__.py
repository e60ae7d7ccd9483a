"""attnlib in other people's models. Each module is loaded when it is first asked for, with what it needs.

===============  =====================================================================
``pytorch``      to and from ``torch.nn``; FlexAttention's block masks
``huggingface``  a backend of Transformers (needs the extra ``attnlib[huggingface]``)
===============  =====================================================================

:func:`split_qkv` takes apart the projections that either of them, and others, store as one.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from attnlib.interop.projections import split_qkv as split_qkv

if TYPE_CHECKING:
    from attnlib.interop import huggingface as huggingface
    from attnlib.interop import pytorch as pytorch

_LOADED_WHEN_ASKED_FOR = ("huggingface", "pytorch")


def __getattr__(name: str) -> ModuleType:
    if name in _LOADED_WHEN_ASKED_FOR:
        return import_module(f"attnlib.interop.{name}")
    raise AttributeError(f"module 'attnlib.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOADED_WHEN_ASKED_FOR})
