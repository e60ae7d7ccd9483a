"""Self-attention for PyTorch: small, fast, proven equal to PyTorch and Hugging Face.

The modules, each importing only from those above it:

==================  ==================================================================
``reference``       the mathematics in NumPy, loop by loop
``modes``           which mode torch is in
``checks``          checks that several modules share
``masks``           who may attend to whom
``biases``          what is added to the scores, by a rule
``scores``          one call's mask and bias, checked
``kernels``         the ways to compute
``functional``      ``attention`` and ``attention_weights``
``rope_scaling``    how fast rotary positions turn
``positions``       where a token stands
``cache``           ``KVCache``
``multihead``       ``MultiHeadAttention``
``transformer``     whole models, and how they write
``recording``       ``record_attention``
``plot``            figures (needs matplotlib)
``interop``         attnlib in other people's models
``exercises``       a learner's answers are checked, and mistakes named
``lab``             what the book's chapters share
==================  ==================================================================

``attnlib.exercises``, ``attnlib.interop``, ``attnlib.plot``, ``attnlib.reference`` and ``attnlib.transformer`` are
loaded when they are first asked for.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from attnlib import masks, positions
from attnlib.cache import KVCache
from attnlib.functional import attention, attention_weights
from attnlib.multihead import MultiHeadAttention
from attnlib.recording import record_attention

if TYPE_CHECKING:
    from attnlib import exercises as exercises
    from attnlib import interop as interop
    from attnlib import plot as plot
    from attnlib import reference as reference
    from attnlib import transformer as transformer

__all__ = [
    "KVCache",
    "MultiHeadAttention",
    "attention",
    "attention_weights",
    "masks",
    "positions",
    "record_attention",
]
#: What this page describes; ``pip show attnlib`` says what is installed.
__version__ = "0.1.0"

_LOADED_WHEN_ASKED_FOR = ("exercises", "interop", "plot", "reference", "transformer")


def __getattr__(name: str) -> ModuleType:
    if name in _LOADED_WHEN_ASKED_FOR:
        return import_module(f"attnlib.{name}")
    raise AttributeError(f"module 'attnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOADED_WHEN_ASKED_FOR})
