"""A language model of characters, three seeds, beside counts and a GRU of its size: bits a character.

All are trained on the same frozen text, in float64 with parameters rounded after each step, so that the numbers are the
same on another processor. The chapter writes the model itself, and trains it with seed 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attnlib import masks
from attnlib.functional import attention
from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.prose import Counts, Prose, bits, characters, text
from attnlib.lab.training import float64, train
from attnlib.positions import Rotary

SEEDS = range(3)
STEPS = 1_000
ORDERS = range(1, 8)  # of counts: 1 for single characters, 3 for trigrams
SIZES: dict[str, Any] = {"d_model": 64, "num_heads": 4, "num_layers": 2}
HOW: dict[str, Any] = {"batch_size": 8, "rate": 1e-2, "warmup": 50, "fall_to_zero": True, "decimals": 5}


class Layer(nn.Module):
    """Causal self-attention, then a net for each token; the norm comes first. As the chapter writes it.

    Args:
        d_model: the size of the tokens.
        num_heads: H.
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.wq, self.wk, self.wv, self.fc = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.turn = Rotary(d_model // num_heads, base=100)
        self.norm = nn.LayerNorm(d_model)
        widen, narrow = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)
        self.net = nn.Sequential(nn.LayerNorm(d_model), widen, nn.ReLU(), narrow)

    def heads(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d_model) → (B, H, L, d_k)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, mask: masks.Mask) -> Tensor:
        """Tokens (B, L, d_model) → tokens (B, L, d_model)."""
        y = self.norm(x)
        q, k, v = (self.heads(w(y)) for w in (self.wq, self.wk, self.wv))
        heard = attention(self.turn(q), self.turn(k), v, mask)  # (B, H, L, d_k)
        x = x + self.fc(heard.transpose(1, 2).flatten(2))
        return x + self.net(x)


class LanguageModel(nn.Module):
    """Decoder-only: each character is asked for the next.

    Args:
        vocab: the number of different characters.
        d_model: the size of the tokens.
        num_heads: H.
        num_layers: how many layers.

    >>> import torch
    >>> from attnlib.lab.experiments.language_model import LanguageModel
    >>> LanguageModel(7, d_model=8, num_heads=2, num_layers=1)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 7])
    """

    def __init__(self, vocab: int, d_model: int, num_heads: int, num_layers: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.layers = nn.ModuleList(Layer(d_model, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab)

    def forward(self, tokens: Tensor, mask: masks.Mask | None = None) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab). Default of ``mask``: causal."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, masks.causal() if mask is None else mask)
        return self.output(self.norm(x))


class Recurrent(nn.Module):
    """A GRU of two layers (Cho et al., 2014) in the place of attention.

    Args:
        vocab: the number of different characters.
        d_model: the size of tokens and states.
        num_layers: how many GRUs stand on each other.
    """

    def __init__(self, vocab: int, d_model: int, num_layers: int = 2):
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.body = nn.GRU(d_model, d_model, num_layers, batch_first=True)
        self.output = nn.Linear(d_model, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab)."""
        return self.output(self.body(self.embedding(tokens))[0])


def decoder_only() -> LanguageModel:
    """Return the model that the chapter trains."""
    return LanguageModel(len(characters()), **SIZES)


def recurrent() -> Recurrent:
    """Return a GRU as large as :func:`decoder_only`."""
    return of_size(lambda size: Recurrent(len(characters()), size), count_parameters(decoder_only()))


@float64()
def run(make: Callable[[], nn.Module], seed: int, steps: int = STEPS) -> dict:
    """Train one model; return the bits a held-out character, and of training at its end."""
    torch.manual_seed(seed)
    model = make()
    history = train(model, Prose(), seed=seed, steps=steps, check_every=steps, **HOW)
    last = torch.tensor(history.losses[-50:]) / torch.tensor(2.0).log()
    return {"seed": seed, "bits": round(bits(model), 4), "training": round(last.mean().item(), 4)}


def row(make: Callable[[], nn.Module], steps: int = STEPS) -> dict:
    """Return the size of a model, its steps, and for each seed what :func:`run` returns."""
    return {
        "parameters": count_parameters(make()),
        "steps": steps,
        "seeds": [run(make, seed, steps) for seed in SEEDS],
    }


def counts() -> dict:
    """Return the bits a held-out character of counts of each order."""
    read = text(held_out=False)
    return {"bits": {str(order): round(Counts(order, read).bits(), 4) for order in ORDERS}}


ROWS = {"counts": counts, "attention": partial(row, decoder_only), "GRU": partial(row, recurrent)}
