"""What the chapter on language has no minute for: how three seeds learn to say a name again, and what cannot learn it.

=============================  ======================================================================================
``two layers``                 the chapter's model: two layers of attention with one head each, and nothing else
``one layer``                  one layer with two heads, as large
``one layer, wide``            one layer with eight heads and four times the width
``one layer, keys look back``  one layer whose keys also hold the token before (Olsson et al., 2022)
``GRU``                        a recurrent net, as large
``GRU, longer``                the same, three times as long in training
``docstrings``                 no model: how often the rule that is learnt is right in real text
=============================  ======================================================================================
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from attnlib import masks
from attnlib.lab.docstrings import docstrings, words
from attnlib.lab.experiments.summarisation import HELD_OUT, READ
from attnlib.lab.models import count_parameters, of_size
from attnlib.lab.names import SYLLABLES, Names, Told
from attnlib.lab.training import float64, train
from attnlib.multihead import MultiHeadAttention
from attnlib.positions import sinusoidal
from attnlib.recording import record_attention

SEEDS = range(3)
STEPS = 1_000
HOW: dict[str, Any] = {"batch_size": 32, "rate": 1e-2, "warmup": 50, "fall_to_zero": True, "decimals": 5}
EVERY = 20  # steps between two looks
LENGTHS = (32, 48, 64, 96, 128)
NAMES = Names()
FIRST, SECOND = "layers.0", "layers.1"


class AttentionOnly(nn.Module):
    """Layers of causal attention, each in a residual connection, and nothing else: the chapter's model.

    Args:
        num_layers: the layers.
        d_model: the size of tokens.
        num_heads: H, the heads of a layer.

    >>> import torch
    >>> from attnlib.lab.experiments.induction import AttentionOnly
    >>> AttentionOnly(2, 8)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 32])
    """

    def __init__(self, num_layers: int = 2, d_model: int = 32, num_heads: int = 1):
        super().__init__()
        self.words = nn.Embedding(len(SYLLABLES), d_model)
        self.layers = nn.ModuleList(MultiHeadAttention(num_heads, d_model, dropout=0.0) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(num_layers))
        self.output = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, len(SYLLABLES)))

    def forward(self, tokens: Tensor, closed: Sequence[Tensor] | None = None) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab); ``closed``: for each layer, cells (B, L, L) that it may not use."""
        x = self.words(tokens) + sinusoidal(tokens.shape[1], self.words.embedding_dim)
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            mask = masks.causal()
            if closed is not None:
                mask = mask & masks.from_tensor(~closed[number][:, None])
            x = x + layer(norm(x), mask=mask)
        return self.output(x)


class KeysLookBack(nn.Module):
    """One layer of causal attention in which the key of a token is made of the token before it.

    >>> import torch
    >>> from attnlib.lab.experiments.induction import KeysLookBack
    >>> KeysLookBack(8)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 32])
    """

    def __init__(self, d_model: int = 32):
        super().__init__()
        self.words = nn.Embedding(len(SYLLABLES), d_model)
        self.layer = MultiHeadAttention(1, d_model, dropout=0.0)
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, len(SYLLABLES)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab)."""
        x = self.words(tokens) + sinusoidal(tokens.shape[1], self.words.embedding_dim)
        y = self.norm(x)
        before = nn.functional.pad(y[:, :-1], (0, 0, 1, 0))
        return self.output(x + self.layer(y, before, y, mask=masks.causal()))


class Recurrence(nn.Module):
    """A GRU.

    >>> import torch
    >>> from attnlib.lab.experiments.induction import Recurrence
    >>> Recurrence(8)(torch.zeros(3, 5, dtype=torch.int64)).shape
    torch.Size([3, 5, 32])
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.words = nn.Embedding(len(SYLLABLES), d_model)
        self.gru = nn.GRU(d_model, d_model, batch_first=True)
        self.output = nn.Linear(d_model, len(SYLLABLES))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) → logits (B, L, vocab)."""
        return self.output(self.gru(self.words(tokens))[0])


def one_layer() -> AttentionOnly:
    """Return one layer, of about the size of two."""
    return of_size(lambda size: AttentionOnly(1, size, 2), count_parameters(AttentionOnly()), range(8, 129, 2))


def recurrence() -> Recurrence:
    """Return a GRU as large as the chapter's model."""
    return of_size(Recurrence, count_parameters(AttentionOnly()))


def kept(length: int = NAMES.length, count: int = 500, *, held_out: bool = True) -> Told:
    """Return texts with held-out names, or with names as in training: always the same."""
    return Names(length).tell(count, torch.Generator().manual_seed(1_000), held_out=held_out)


def cells(told: Told) -> dict[str, Tensor]:
    """Return, among the L − 1 tokens that a model reads, the cells (B, L − 1, L − 1) that the answer may need.

    ``before``: from the second token of a name to its first. ``earlier``: from the first token of a name that comes
    again to the second tokens of this name. Beside each a control: the token before that, and all second tokens of
    other names.
    """
    L = told.tokens.shape[1] - 1
    second, name = told.second[:, :L], told.same_name[:, :L, :L]
    past = torch.ones(L, L, dtype=torch.bool).tril(-1)
    asks = told.asked[:, 1:]  # a first token, after which something is asked
    place = torch.arange(L)
    return {
        "before": second[:, :, None] & (place[:, None] == place + 1),
        "before, control": second[:, :, None] & (place[:, None] == place + 2),
        "earlier": asks[:, :, None] & name & second[:, None] & past,
        "earlier, control": asks[:, :, None] & ~name & second[:, None] & past,
    }


@torch.no_grad()
def looks(model: nn.Module, told: Told) -> dict[str, float]:
    """Return the weight of layer 1 on the token before, of layer 2 on earlier second tokens, and of chance."""
    open_ = cells(told)
    with record_attention(model.eval()) as record:
        model(told.tokens[:, :-1])
    found = {}
    for name, layer in (("before", FIRST), ("earlier", SECOND)):
        weights = record[layer].mean(1)  # of the heads: (B, L, L)
        rows = open_[name].any(-1)
        found[name] = (weights * open_[name]).sum(-1)[rows].mean().item()
        visible = torch.arange(1, weights.shape[1] + 1)
        found[f"{name}, chance"] = (open_[name].sum(-1) / visible)[rows].mean().item()
    return found


@torch.no_grad()
def right(model: nn.Module, told: Told, **how: Any) -> float:
    """Return the share of names that come again and are said right."""
    target = told.batch.target
    said = model.eval()(told.tokens[:, :-1], **how).argmax(-1)
    asked = told.asked[:, 1:]
    return (said == target)[asked].double().mean().item()


def without(model: AttentionOnly, told: Told) -> dict[str, float]:
    """Return what stays right when a head is switched off, or some of the cells that it uses are closed."""
    of = cells(told)
    nothing, everything = torch.zeros_like(of["before"]), torch.ones_like(of["before"])
    closed = {
        "nothing": (nothing, nothing),
        "layer 1": (everything, nothing),
        "before": (of["before"], nothing),
        "before, control": (of["before, control"], nothing),
        "layer 2": (nothing, everything),
        "earlier": (nothing, of["earlier"]),
        "earlier, control": (nothing, of["earlier, control"]),
    }
    return {name: right(model, told, closed=pair) for name, pair in closed.items()}


@float64()
def run(make: Callable[[], nn.Module], seed: int, steps: int = STEPS) -> dict:
    """Train one model; return the share of names that it says right, and of two layers how they came to it."""
    torch.manual_seed(seed)
    model = make()
    told, as_in_training = kept(), kept(held_out=False)
    if not isinstance(model, AttentionOnly) or len(model.layers) == 1:
        train(model, NAMES, seed=seed, steps=steps, check_every=steps, **HOW)
        return rounded({"seed": seed, "right": right(model, told), "as in training": right(model, as_in_training)})

    def watch() -> dict[str, float]:
        return {"right": right(model, told), **looks(model, told)}

    history = train(model, NAMES, seed=seed, steps=steps, check_every=EVERY, watch=watch, **HOW)
    return rounded(
        {
            "seed": seed,
            "right": right(model, told),
            "as in training": right(model, as_in_training),
            "without": without(model, told),
            "longer": {length: right(model, kept(length)) for length in LENGTHS},
            "watched": [{"step": step, **found} for step, found in history.watched],
        }
    )


def rounded(found: Any) -> Any:
    """Return what is stored of what was found: four decimals, and names as JSON has them."""
    if isinstance(found, dict):
        return {str(name): rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found


def row(make: Callable[[], nn.Module], steps: int = STEPS) -> dict:
    """Return the size of a model, and for each seed what :func:`run` returns."""
    return {"parameters": count_parameters(make()), "seeds": [run(make, seed, steps) for seed in SEEDS]}


def guess(told: Told) -> float:
    """Return how often one of the earlier second tokens, by lot, is right: for who knows only what names end in."""
    second = told.second[:, :-1]
    past = torch.ones(second.shape[1], second.shape[1], dtype=torch.bool).tril(-1)
    candidates = second[:, None] & past
    ends = told.tokens[:, :-1][:, None].expand_as(candidates)
    same = (ends == told.tokens[:, 1:, None]) & candidates
    asked = told.asked[:, 1:]
    return (same.sum(-1) / candidates.sum(-1).clamp(min=1))[asked].double().mean().item()


def real_text() -> dict:
    """Return how often a docstring goes on as it did last time after the same word, or as a table of others says."""
    read, held_out = (
        [_text(found.sentences) for package in packages for found in docstrings(package)]
        for packages in (READ, HELD_OUT)
    )
    return {"texts": {"read": len(read), "held out": len(held_out)}, **goes_on(read, held_out)}


def goes_on(read: Sequence[Sequence[str]], held_out: Sequence[Sequence[str]]) -> dict[str, dict[str, int]]:
    """Return counts over the words of held-out texts, of all words and of those that come after a known or a new word.

    ``words``: but for the first of each text. ``seen before``: the word before has stood in the text before. Of these,
    ``as last time``: what followed it then follows again; ``as in the table``: what follows it most often in ``read``.
    """
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in read:
        for word, following in pairwise(text):
            table[word][following] += 1
    likeliest = {word: counts.most_common(1)[0][0] for word, counts in table.items()}
    kinds = {"all": Counter[str](), "known": Counter[str](), "new": Counter[str]()}
    for text in held_out:
        last: dict[str, str] = {}
        for word, following in pairwise(text):
            for kind in ("all", "known" if word in likeliest else "new"):
                counts = kinds[kind]
                counts["words"] += 1
                if word in last:
                    counts["seen before"] += 1
                    counts["as last time"] += last[word] == following
                    counts["as in the table"] += likeliest.get(word) == following
            last[word] = following
    return {kind: dict(counts) for kind, counts in kinds.items()}


def _text(sentences: Sequence[str]) -> list[str]:
    return [word for sentence in sentences for word in words(sentence)]


ROWS: dict[str, Callable[[], dict]] = {
    "two layers": partial(row, AttentionOnly),
    "one layer": partial(row, one_layer),
    "one layer, wide": partial(row, partial(AttentionOnly, 1, 128, 8)),
    "one layer, keys look back": partial(row, KeysLookBack),
    "GRU": partial(row, recurrence),
    "GRU, longer": partial(row, recurrence, 3 * STEPS),
    "docstrings": real_text,
}
