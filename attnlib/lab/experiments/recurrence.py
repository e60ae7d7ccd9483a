"""What attention and recurrence keep: three seeds of each on recall and on parity.

=====================  ============================================================================================
``attention``          one layer of attention with one head: the asked name looks among the pairs
``GRU``, ``LSTM``      a recurrent net of equal size, which reads the pairs, then the asked name
``GRU, larger``        eight times as large, three times as long in training
``few, …``             GRUs of width 64, trained on 1 to 4 pairs; one reads the asked name first, before the pairs
``linear attention``   as ``attention``, but with a kernel instead of softmax (Katharopoulos et al., 2020): its memory
                       of all pairs is one matrix
``parity, …``          two layers of causal attention, and recurrent nets, which count ones
``few parities, …``    the same, trained on a few sequences only
=====================  ============================================================================================
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib import masks
from attnlib.lab.models import Tagger, count_parameters
from attnlib.lab.recall import NAMES, NUMBERS, FewParities, Parity, Recall
from attnlib.lab.training import accuracy, float64, train
from attnlib.multihead import MultiHeadAttention
from attnlib.transformer import Encoder

SEEDS = range(3)
STEPS = 1_500
HOW: dict[str, Any] = {"batch_size": 64, "rate": 4e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
FEW, FEW_STEPS = range(1, 5), 3_000  # pairs
PAIRS = (1, 2, 3, 4, 8, 16, 32, 64)  # how many pairs are tested; at most 32 were trained on
BACK = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # how many pairs back the asked one stands, of 32
COUNTING_STEPS = 800
LENGTHS = (8, 16, 24, 32, 64, 128)  # bits; at most 16 were trained on
SEQUENCES = (16, 64, 256, 1024)  # different ones of 16 bits that are trained on


class Recaller(nn.Module):
    """Pairs become tokens, and ``look`` finds the asked one.

    Args:
        d_model: the size of a token.
        look: from the asked name (B, 1, d_model) and the pairs (B, n, d_model) to what was found (B, 1, d_model), such
            as :class:`attnlib.MultiHeadAttention`.

    >>> import torch
    >>> from attnlib import MultiHeadAttention
    >>> from attnlib.lab.experiments.recurrence import Recaller
    >>> from attnlib.lab.recall import Recall
    >>> inputs, _ = Recall(range(5, 6)).draw(3, torch.Generator().manual_seed(0))
    >>> Recaller(8, MultiHeadAttention(1, 8))(*inputs).shape
    torch.Size([3, 1, 32])
    """

    def __init__(self, d_model: int, look: nn.Module):
        super().__init__()
        self.names, self.numbers = nn.Embedding(NAMES, d_model), nn.Embedding(NUMBERS, d_model)
        self.look = look
        self.output = nn.Linear(d_model, NUMBERS)

    def forward(self, names: Tensor, numbers: Tensor, asked: Tensor) -> Tensor:
        """Names and their numbers (B, n), the asked name (B, 1) → logits (B, 1, numbers)."""
        return self.answer(self.pairs(names, numbers), asked)

    def pairs(self, names: Tensor, numbers: Tensor) -> Tensor:
        """Return the tokens of pairs, (B, n, d_model)."""
        return self.names(names) + self.numbers(numbers)

    def answer(self, pairs: Tensor, asked: Tensor) -> Tensor:
        """Tokens of pairs, the asked name → logits (B, 1, numbers)."""
        return self.output(self.look(self.names(asked), pairs))


class StateOnly(nn.Module):
    """A recurrent net that reads the pairs, then the asked name; what it knows then is one vector.

    Args:
        net: such as ``nn.GRU(d_model, d_model, batch_first=True)``.
        asked_first: read the asked name before the pairs.
    """

    def __init__(self, net: nn.Module, *, asked_first: bool = False):
        super().__init__()
        self.net, self.asked_first = net, asked_first

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:
        """The asked name (B, 1, d_model), pairs (B, n, d_model) → the last state (B, 1, d_model)."""
        return self.net(torch.cat([asked, pairs] if self.asked_first else [pairs, asked], dim=1))[0][:, -1:]


class LinearAttention(nn.Module):
    """Attention with a kernel φ(q)·φ(k) instead of exp(q·k), φ(x) = elu(x) + 1 (Katharopoulos et al., 2020, eq. 4, 7).

    Σ φ(k)vᵀ is a matrix of one size, whatever the number of keys: all that is kept of them.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.wq, self.wk, self.wv, self.fc = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))

    def forward(self, asked: Tensor, pairs: Tensor) -> Tensor:
        """Queries (B, 1, d_model), keys and values (B, n, d_model) → (B, 1, d_model)."""
        query, key = F.elu(self.wq(asked)) + 1, F.elu(self.wk(pairs)) + 1
        state, norm = key.mT @ self.wv(pairs), key.sum(1, keepdim=True).mT  # (B, d_k, d_v), (B, d_k, 1)
        return self.fc(query @ state / (query @ norm))


class Causal(nn.Module):
    """Layers of causal attention and feed-forward nets, as a body of :class:`attnlib.lab.models.Tagger`."""

    def __init__(self, d_model: int, num_layers: int = 2):
        super().__init__()
        self.encoder = Encoder(num_layers, d_model=d_model, num_heads=4, d_ff=2 * d_model, dropout=0.0, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d_model) → tokens (B, L, d_model)."""
        return self.encoder(x, masks.causal())


class States(nn.Module):
    """The states of a recurrent net, as a body of :class:`attnlib.lab.models.Tagger`."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, d_model) → states (B, L, d_model)."""
        return self.net(x)[0]


def attention() -> Recaller:
    """Return the chapter's model."""
    return Recaller(32, MultiHeadAttention(1, 32, dropout=0.0))


def linear() -> Recaller:
    """Return the same with a kernel instead of softmax."""
    return Recaller(32, LinearAttention(32))


def recurrent(kind: type[nn.GRU] | type[nn.LSTM], size: int, *, asked_first: bool = False) -> Recaller:
    """Return a recurrent net of that width."""
    return Recaller(size, StateOnly(kind(size, size, batch_first=True), asked_first=asked_first))


def counting_attention() -> Tagger:
    """Return two layers of causal attention that count ones."""
    return Tagger(2, 32, Causal(32))


def counting_recurrent(kind: type[nn.GRU] | type[nn.LSTM]) -> Tagger:
    """Return a recurrent net that counts ones, a quarter as large as :func:`counting_attention`."""
    return Tagger(2, 24, States(kind(24, 24, batch_first=True)), add_positions=False)


@torch.no_grad()
def by_pairs(model: nn.Module, count: int = 1_000) -> dict[int, float]:
    """Return the share of right answers by the number of pairs."""
    generator = torch.Generator().manual_seed(1)
    return {n: accuracy(model, [Recall(range(n, n + 1)).draw(count, generator)]) for n in PAIRS}


def by_distance(model: Recaller, count: int = 500) -> dict[str, dict[int, float]]:
    """Return for each distance, of 32 pairs: right answers, and how far the asked pair moves the right answer's logit.

    The latter is the length of the gradient with respect to the pair's token, as a share of the lengths for all pairs.
    """
    generator = torch.Generator().manual_seed(2)
    found: dict[str, dict[int, float]] = {"right": {}, "reach": {}}
    for back in BACK:
        (names, numbers, asked), answer = Recall(range(32, 33)).draw(count, generator, back=back)
        pairs = model.pairs(names, numbers).detach().requires_grad_()
        logits = model.eval().answer(pairs, asked)
        (gradient,) = torch.autograd.grad(logits.gather(2, answer[:, None]).sum(), pairs)
        lengths = gradient.norm(dim=2)
        found["right"][back] = (logits.argmax(-1) == answer).double().mean().item()
        found["reach"][back] = (lengths[:, -back] / lengths.sum(1)).mean().item()
    return found


@float64()
def recall(make: Callable[[], Recaller], seed: int, steps: int = STEPS, pairs: range = Recall.pairs) -> dict:
    """Train one model on recall; return what it knows by the number of pairs, and by distance."""
    torch.manual_seed(seed)
    model = make()
    train(model, Recall(pairs), seed=seed, steps=steps, check_every=steps, **HOW)
    return {"pairs": rounded(by_pairs(model)), **{name: rounded(of) for name, of in by_distance(model).items()}}


@float64()
def parity(make: Callable[[], nn.Module], seed: int, steps: int = COUNTING_STEPS) -> dict:
    """Train one model on parity; return the share of right answers by the length."""
    torch.manual_seed(seed)
    model = make()
    train(model, Parity(), seed=seed, steps=steps, check_every=steps, **HOW | {"rate": 5e-3})
    return {"lengths": rounded(by_length(model))}


@float64()
def few_parities(make: Callable[[], nn.Module], seed: int, steps: int = COUNTING_STEPS) -> dict:
    """Train models on few sequences and on more; return the share of right places in others, by how many there were."""
    found = {}
    for count in SEQUENCES:
        torch.manual_seed(seed)
        model, task = make(), FewParities(count)
        train(model, task, seed=seed, steps=steps, check_every=steps, **HOW | {"rate": 5e-3})
        found[count] = accuracy(model, task.tests(500, torch.Generator().manual_seed(1)), of_tokens=True)
    return {"sequences": rounded(found)}


def by_length(model: nn.Module, count: int = 500) -> dict[int, float]:
    """Return the share of places where the parity is right, by the length."""
    generator = torch.Generator().manual_seed(1)
    return {n: accuracy(model, [Parity(range(n, n + 1)).draw(count, generator)], of_tokens=True) for n in LENGTHS}


def rounded(found: dict[int, float]) -> dict[str, float]:
    """Return numbers as they are stored."""
    return {str(name): round(value, 4) for name, value in found.items()}


def row(run: Callable[..., dict], make: Callable[[], nn.Module], *how: Any) -> dict:
    """Return the size of a model, and for each seed what ``run`` returns."""
    return {
        "parameters": count_parameters(make()),
        "seeds": [{"seed": seed, **run(make, seed, *how)} for seed in SEEDS],
    }


ROWS: dict[str, Callable[[], dict]] = {
    "attention": partial(row, recall, attention),
    "GRU": partial(row, recall, partial(recurrent, nn.GRU, 27)),
    "LSTM": partial(row, recall, partial(recurrent, nn.LSTM, 25)),
    "GRU, larger": partial(row, recall, partial(recurrent, nn.GRU, 94), 3 * STEPS),
    "few, GRU": partial(row, recall, partial(recurrent, nn.GRU, 64), FEW_STEPS, FEW),
    "few, GRU, asked first": partial(row, recall, partial(recurrent, nn.GRU, 64, asked_first=True), FEW_STEPS, FEW),
    "linear attention": partial(row, recall, linear),
    "parity, attention": partial(row, parity, counting_attention),
    "parity, GRU": partial(row, parity, partial(counting_recurrent, nn.GRU)),
    "parity, LSTM": partial(row, parity, partial(counting_recurrent, nn.LSTM)),
    "few parities, attention": partial(row, few_parities, counting_attention),
    "few parities, GRU": partial(row, few_parities, partial(counting_recurrent, nn.GRU)),
}
