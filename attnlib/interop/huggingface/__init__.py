"""attnlib as an attention backend of Hugging Face Transformers.

>>> from transformers import LlamaConfig, LlamaModel
>>> from attnlib.interop import huggingface
>>> huggingface.register()
>>> sizes = {"hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 19}
>>> config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, attn_implementation="attnlib")
>>> model = LlamaModel(config)
>>> model.config._attn_implementation
'attnlib'

What the model's masks say travels to attnlib as a :class:`attnlib.masks.Mask`, so that a model with a sliding window
computes its window only, and a packed batch its documents.

============  ========================================================================
``backend``   ``register``, and the function that each layer of a model calls
``masks``     a mask function of Transformers → a Mask
``carrier``   the tensor that carries a Mask through a model
``capped``    attention with a soft cap, or with sinks
============  ========================================================================
"""

try:
    import transformers as transformers
except ModuleNotFoundError as missing:
    way = "pip install 'attnlib[huggingface]'"
    raise ImportError(f"attnlib.interop.huggingface needs transformers: {way}") from missing

from attnlib.interop.huggingface.backend import TESTED, register

__all__ = ["TESTED", "register"]
