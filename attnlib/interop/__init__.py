"""attnlib in other people's models. Each submodule is loaded when it is first asked for.

===============  ===============================================================================
``pytorch``      to and from ``torch.nn.MultiheadAttention``; FlexAttention's block masks
``huggingface``  a backend of Hugging Face Transformers (needs transformers)
===============  ===============================================================================

>>> from attnlib import interop
>>> "huggingface" in dir(interop)
True
"""

from importlib import import_module
from types import ModuleType

__all__ = ["huggingface", "pytorch"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"attnlib.interop.{name}")
    raise AttributeError(f"module 'attnlib.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
