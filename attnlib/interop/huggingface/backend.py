"""The backend: how it is registered, and the function that each attention layer of a model calls."""

import sys
import warnings
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from attnlib import masks, recording
from attnlib.functional import attention, attention_weights
from attnlib.interop.huggingface.capped import capped_attention
from attnlib.interop.huggingface.carrier import StructuredMask
from attnlib.interop.huggingface.masks import make_mask
from attnlib.masks import Mask
from attnlib.modes import autocast_is_on

__all__ = ["TESTED", "attend", "register"]

TESTED = ("5.23",)  # versions of transformers, without the last number

# Transformers looks for these in a name, and then takes the backend for another one.
TAKEN = ("flash", "sdpa", "flex_attention", "eager", "paged", "|", "/")

# What layers hand on that says nothing about the weights: what a mask says already, and what others are for.
SAY_NOTHING = frozenset(
    {
        "cache_position", "cu_seq_lens_k", "cu_seq_lens_q", "cu_seqlens", "deterministic", "encoder_hidden_states",
        "max_length_k", "max_length_q", "num_items_in_batch", "output_hidden_states", "output_router_logits",
        "position_embeddings", "position_ids", "return_dict", "seq_idx", "sliding_window", "use_cache",
    }
)  # fmt: skip

_names: set[str] = set()


def register(name: str = "attnlib") -> None:
    """Make attnlib an attention backend of Transformers: ``attn_implementation="attnlib"``.

    Call it before a model is made with the name, or switched to it by ``model.set_attn_implementation("attnlib")``.

    Outputs and gradients are those of ``"eager"``, but where a token may attend to nothing, as in the padding: it gets
    zeros. :func:`attnlib.record_attention` shows the weights of every layer. ``output_attentions=True`` gives the
    weights before dropout.

    A model that computes attention by itself is not changed by any backend. Some of them compute with attnlib's mask,
    too: they raise a RuntimeError that says so. Where there is a soft cap, as in Gemma 2, or a sink, as in GPT-OSS,
    all weights are stored, and a window saves nothing.

    Args:
        name: under which models find it.

    Raises:
        TypeError: if the name is not a string.
        ValueError: if it means something else to Transformers, or another backend has it.

    >>> from transformers import AttentionInterface
    >>> from attnlib.interop import huggingface
    >>> huggingface.register("attnlib")
    >>> "attnlib" in AttentionInterface()
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {type(name).__name__}")
    meant = [part for part in TAKEN if part in name]
    if meant or not name:
        why = f", and {meant[0]!r} means another one to Transformers" if meant else ""
        raise ValueError(f"name: expected one that stands for a backend of its own, got {name!r}{why}")
    if name not in _names and name in AttentionInterface():
        raise ValueError(f"name: expected one that is free, got {name!r}, which another backend has")
    _warn_if_not_tested(transformers.__version__)
    # In both: with the first alone, Transformers makes no masks at all, and says nothing.
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, make_mask)
    _names.add(name)


_warned = False


def _warn_if_not_tested(version: str) -> None:
    global _warned
    if not _warned and ".".join(version.split(".")[:2]) not in TESTED:
        _warned = True
        tested = ", ".join(TESTED)
        warnings.warn(f"attnlib's backend was tested with transformers {tested}, not with {version}", stacklevel=3)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool | None = False,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute one layer's attention: what :func:`register` gives to Transformers.

    Args:
        module: the layer.
        query: (B, H, L, d_k).
        key: (B, H_kv, S, d_k).
        value: (B, H_kv, S, d_v).
        attention_mask: what :func:`.masks.make_mask` made; a caller's own mask (B, H|1, L, S), bool, or float, to be
            added; or None, which means causal where ``is_causal`` or else ``module.is_causal`` says so.
        dropout: the probability with which each weight is dropped.
        scaling: what the dot products are multiplied with. Default: 1/√d_k.
        is_causal: counts where there is no mask, and then before what the module says.
        softcap: keeps the scores between −softcap and softcap.
        s_aux: (H,), one more logit of each head, whose weight no value gets.
        position_bias: (B|1, H, L, S), added to the scores.
        output_attentions: whether to return the weights.
        others: what says nothing about the weights.

    Returns:
        The output (B, L, H, d_v), and the weights (B, H, L, S) if they were asked for.

    Raises:
        TypeError: if an argument is not known.
        ValueError: if sizes do not fit.

    >>> import torch
    >>> from attnlib.interop.huggingface.backend import attend
    >>> query, key, value = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 5)
    >>> output, weights = attend(torch.nn.Module(), query, key, value, None)
    >>> output.shape, weights
    (torch.Size([1, 3, 4, 5]), None)
    """
    _refuse_unknown(others)
    if len(query) != len(key):  # queries that are learned, one row of them for the whole batch
        query = query.expand(len(key), -1, -1, -1)
    mask: Mask | Tensor | None = None
    bias = position_bias
    if isinstance(attention_mask, StructuredMask):
        mask, keys = attention_mask.structure, attention_mask.keys
        if attention_mask.shape[-1] != key.shape[-2]:
            raise ValueError(f"attention_mask: expected S = {key.shape[-2]} keys, got {attention_mask.shape[-1]}")
        key, value = key[..., :keys, :], value[..., :keys, :]  # the others are not written yet
        bias = None if bias is None else bias[..., :keys]
    elif attention_mask is None:
        if is_causal if is_causal is not None else getattr(module, "is_causal", True):
            mask = _causal(query.shape[-2], key.shape[-2])
    elif attention_mask.dtype == torch.bool:
        mask = attention_mask
    else:
        bias = attention_mask if bias is None else bias + attention_mask
    if autocast_is_on(query.device.type) and query.dtype != torch.float64:
        # As torch's own kernel does: rotary positions are in float32, and the values are not.
        query, key, value = (x.to(torch.get_autocast_dtype(x.device.type)) for x in (query, key, value))
    weights = None
    if softcap is not None or s_aux is not None:
        output, weights = capped_attention(
            query, key, value, mask, bias=bias, scale=scaling, dropout_p=dropout, softcap=softcap, sinks=s_aux
        )
    else:
        output = attention(query, key, value, mask, bias=bias, scale=scaling, dropout_p=dropout)
        if output_attentions:
            weights = attention_weights(query, key, mask, bias=bias, scale=scaling)
    if not torch.compiler.is_compiling() and recording.is_watched(module):
        with torch.no_grad():  # beside the output, so that this and its gradient stay the same
            shown = attention_weights(query, key, mask, bias=bias, scale=scaling) if weights is None else weights
        recording.show(module, shown.detach())
    # (B, H, L, d_v) → (B, L, H, d_v)
    return output.transpose(1, 2).contiguous(), weights if output_attentions else None


def _causal(L: int, S: int) -> Mask | None:
    """Return the causal mask of a layer that is handed none."""
    if L == 1 or L == S:
        return masks.causal()
    ways = "Transformers counts from the first key there, attnlib from the last"
    raise ValueError(f"attention_mask: expected one where L = {L} queries are causal over S = {S} keys; {ways}")


def _refuse_unknown(others: dict[str, Any]) -> None:
    unknown = [name for name, value in others.items() if value is not None and name not in SAY_NOTHING]
    if unknown:
        way = 'use attn_implementation="eager"'
        raise TypeError(f"{unknown[0]}: expected nothing that attnlib does not know of, got a value; {way}")


def _attends_by_attnlib(module: nn.Module) -> bool:
    name = getattr(getattr(module, "config", None), "_attn_implementation", None)
    return isinstance(name, str) and name in _names and _asks_for_a_backend(type(module))


def _asks_for_a_backend(kind: type[nn.Module]) -> bool:
    """Return whether a class may ask Transformers for the function that attends. DeBERTa's, say, never do."""
    files = {base.__module__ for base in kind.__mro__} - {PreTrainedModel.__module__}  # which defines the name
    return any(hasattr(sys.modules.get(file), "ALL_ATTENTION_FUNCTIONS") for file in files)


recording.add_kind(_attends_by_attnlib)
