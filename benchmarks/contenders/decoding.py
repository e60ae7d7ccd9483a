"""Token by token, (1, 1, d_model) → (1, 1, d_model), with the keys and values of the past in a cache."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnlib import KVCache, MultiHeadAttention, masks
from attnlib.positions import Rotary
from benchmarks.contenders import OURS, Contender, seeded_normal
from benchmarks.contenders.layer import bert_attention


@dataclass(frozen=True)
class DecodingProblem:
    """What all contenders compute.

    Attributes
    ----------
    layer: attnlib's own layer, whose projections the others share.
    x: (1, L, d_model), the tokens so far, the one to decode last.
    """

    layer: MultiHeadAttention
    x: Tensor


def problem(
    *, L: int, H: int, d_model: int, dtype: torch.dtype, device: torch.device, training: bool, rotary: bool = False
) -> DecodingProblem:
    """Make a layer and its tokens. It has no biases, as in Llama; there is no training token by token."""
    positions = Rotary(d_model // H) if rotary else None
    layer = MultiHeadAttention(H, d_model, dropout=0.0, rotary=positions).to(device, dtype).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            shape = parameter.shape
            parameter.copy_(seeded_normal(*shape, dtype=dtype, device=device, seed=seed) / math.sqrt(d_model))
    return DecodingProblem(layer, seeded_normal(1, L, d_model, dtype=dtype, device=device, seed=100))


# ---------------------------------------------------------------------------------------------------------------------
# All tokens, one after the other


def all_with_cache(problem: DecodingProblem) -> Contender:
    layer, x = problem.layer, problem.x

    def run() -> tuple[Tensor, ...]:
        cache = KVCache()
        return (torch.cat([layer(token, cache=cache) for token in x.split(1, dim=1)], dim=1),)

    return Contender(run)


def all_recomputed(problem: DecodingProblem) -> Contender:
    """At each step the whole sequence so far, of which the last row is new."""
    layer, x, mask = problem.layer, problem.x, masks.causal()

    def last(end: int) -> Tensor:
        return layer(x[:, :end], mask=mask)[:, -1:].clone()  # a view would keep the other rows in memory

    def run() -> tuple[Tensor, ...]:
        return (torch.cat([last(end) for end in range(1, x.shape[1] + 1)], dim=1),)

    return Contender(run)


# ---------------------------------------------------------------------------------------------------------------------
# One token, at a length


class Session:
    """A cache in use: filled before each sample, off the clock, then one token longer with each call.

    It is filled in two parts, as after a prompt and some tokens: room that is made once for many tokens to come is
    there, or not, as it would be in the middle of a text.
    """

    def __init__(self, x: Tensor, new_cache: Callable[[], object], decode: Callable[[Tensor, object], Tensor]):
        self.prompt, self.reply, self.token = x.tensor_split([3 * x.shape[1] // 4, x.shape[1] - 1], dim=1)
        self.new_cache, self.decode = new_cache, decode

    def prepare(self) -> None:
        self.cache = self.new_cache()
        for part in (self.prompt, self.reply):
            self.decode(part, self.cache)

    def run(self) -> tuple[Tensor, ...]:
        return (self.decode(self.token, self.cache),)

    def contender(self, note: str = "") -> Contender:
        return Contender(self.run, note, self.prepare)


def one_with_cache(problem: DecodingProblem) -> Contender:
    layer, mask = problem.layer, masks.causal()
    return Session(problem.x, KVCache, lambda x, cache: layer(x, mask=mask, cache=cache)).contender()


def one_with_bert(problem: DecodingProblem) -> Contender:
    """Hugging Face's BERT attention as a decoder: no rotary positions, on either side."""
    from transformers import DynamicCache

    layer = problem.layer
    theirs = bert_attention(layer, "sdpa", causal=True)

    def decode(x: Tensor, cache: DynamicCache) -> Tensor:
        return layer.fc(theirs(x, past_key_values=cache, attention_mask=causal_mask(x, cache))[0])

    return Session(problem.x, DynamicCache, decode).contender("BertSelfAttention, sdpa, DynamicCache")


def one_with_llama(problem: DecodingProblem) -> Contender:
    """Hugging Face's Llama attention, rotary positions on both sides: angles, then the turn of queries and keys."""
    from transformers import DynamicCache, LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    layer = problem.layer
    config = LlamaConfig(hidden_size=layer.d_model, num_attention_heads=layer.num_heads, attn_implementation="sdpa")
    theirs, rotary = LlamaAttention(config, layer_idx=0).eval(), LlamaRotaryEmbedding(config).to(problem.x.device)
    theirs.q_proj, theirs.k_proj, theirs.v_proj, theirs.o_proj = layer.wq, layer.wk, layer.wv, layer.fc

    def decode(x: Tensor, cache: DynamicCache) -> Tensor:
        past = cache.get_seq_length()
        positions = torch.arange(past, past + x.shape[1], device=x.device)[None]
        mask = causal_mask(x, cache)
        return theirs(x, rotary(x, positions), attention_mask=mask, past_key_values=cache)[0]

    return Session(problem.x, DynamicCache, decode).contender("LlamaAttention, sdpa, DynamicCache")


def causal_mask(x: Tensor, cache) -> Tensor | None:
    """Return the mask that Hugging Face's models make for a part of a sequence; None for a single token."""
    L, past = x.shape[1], cache.get_seq_length()
    return None if L == 1 or past == 0 else masks.causal().dense(L, past + L, x.device)[None, None]


RECOMPUTED = "recomputing each step"
BERT = "Hugging Face, no positions"
LLAMA = "Hugging Face, rotary"
ALL_TOKENS = {OURS: all_with_cache, RECOMPUTED: all_recomputed}
ONE_TOKEN = {OURS: one_with_cache, BERT: one_with_bert}
ONE_TOKEN_ROTARY = {OURS: one_with_cache, LLAMA: one_with_llama}
