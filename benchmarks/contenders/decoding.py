"""Token by token, (1, 1, d_model) → (1, 1, d_model), with the keys and values of the past in a cache."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
    x: (B, L, d_model), the tokens so far, the one to decode last.
    mask: which tokens a token may attend to.
    missing: (B,), by how many tokens each prompt is padded on the left.
    """

    layer: MultiHeadAttention
    x: Tensor
    mask: masks.Mask
    missing: Tensor


def problem(
    *,
    L: int,
    H: int,
    d_model: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
    B: int = 1,
    rotary: bool = False,
    mask: str = "causal",
) -> DecodingProblem:
    """Make a layer and its tokens. It has no biases, as in Llama; there is no training token by token."""
    positions = Rotary(d_model // H) if rotary else None
    layer = MultiHeadAttention(H, d_model, dropout=0.0, rotary=positions).to(device, dtype).eval()
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            shape = parameter.shape
            parameter.copy_(seeded_normal(*shape, dtype=dtype, device=device, seed=seed) / math.sqrt(d_model))
    missing = torch.arange(B, device=device) * (L // 8 if mask == "left-padding" else 0)
    kind = {
        "causal": masks.causal(),
        "window": masks.causal() & masks.sliding_window(WINDOW),
        "left-padding": masks.causal() & ~masks.padding(missing),
    }[mask]
    return DecodingProblem(layer, seeded_normal(B, L, d_model, dtype=dtype, device=device, seed=100), kind, missing)


WINDOW = 256


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
    layer, mask = problem.layer, problem.mask
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


class Room:
    """Keys and values (B, H, room, d), written one after the other: a cache as one would write it by hand."""

    def __init__(self, problem: DecodingProblem):
        layer, (B, L, _) = problem.layer, problem.x.shape
        self.layer, self.length = layer, 0
        self.key = problem.x.new_empty(B, layer.num_heads, L, layer.d_k)
        self.value = problem.x.new_empty(B, layer.num_heads, L, layer.d_v)

    def attend(self, x: Tensor, mask: Tensor | None, first: int) -> Tensor:
        """Write the keys and values of x, and attend to all from the key ``first`` on."""
        layer, past = self.layer, self.length
        query, key, value = (
            w(x).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for w in (layer.wq, layer.wk, layer.wv)
        )
        self.length += x.shape[1]
        self.key[:, :, past : self.length], self.value[:, :, past : self.length] = key, value
        keys, values = self.key[:, :, first : self.length], self.value[:, :, first : self.length]
        heads = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return layer.fc(heads.transpose(1, 2).flatten(2))


def one_by_hand(problem: DecodingProblem) -> Contender:
    """torch's function on the last keys alone, or with a bool for each key, which is made off the clock."""
    L = problem.x.shape[1]
    padded = bool(problem.missing.any())
    of_keys = (torch.arange(L, device=problem.x.device) >= problem.missing[:, None])[:, None, None]  # (B, 1, 1, L)

    def decode(x: Tensor, room: Room) -> Tensor:
        S = room.length + x.shape[1]
        if x.shape[1] > 1:
            return room.attend(x, problem.mask.dense(x.shape[1], S, x.device), 0)
        return room.attend(x, of_keys[..., :S], 0) if padded else room.attend(x, None, max(0, S - WINDOW))

    return Session(problem.x, lambda: Room(problem), decode).contender()


def causal_mask(x: Tensor, cache) -> Tensor | None:
    """Return the mask that Hugging Face's models make for a part of a sequence; None for a single token."""
    L, past = x.shape[1], cache.get_seq_length()
    return None if L == 1 or past == 0 else masks.causal().dense(L, past + L, x.device)[None, None]


RECOMPUTED = "recomputing each step"
BERT = "Hugging Face, no positions"
LLAMA = "Hugging Face, rotary"
ALL_TOKENS = {OURS: all_with_cache, RECOMPUTED: all_recomputed}
BY_HAND = "torch by hand"
ONE_TOKEN_UNDER_A_MASK = {OURS: one_with_cache, BY_HAND: one_by_hand}
ONE_TOKEN = {OURS: one_with_cache, BERT: one_with_bert}
ONE_TOKEN_ROTARY = {OURS: one_with_cache, LLAMA: one_with_llama}
