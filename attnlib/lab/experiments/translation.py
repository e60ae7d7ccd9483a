"""The translator of dates and amounts, three seeds, and its rivals: how much is right, where it looks, what breaks.

All are trained in float64 with parameters rounded after each step, so that the numbers are the same on another
processor. The chapter trains the model of seed 0 itself.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import sacrebleu
import torch
from torch import Tensor, nn

from attnlib.lab.dates import LONG, PARTS, ROUND, TRAINED, UNSEEN, Example, draw, pair, text_of, vocabularies
from attnlib.lab.models import RecurrentWriter, count_parameters, of_size
from attnlib.lab.tasks import END, START
from attnlib.lab.training import accuracy, float64, train
from attnlib.lab.words import Pairs, padded
from attnlib.positions import sinusoidal
from attnlib.recording import record_attention
from attnlib.transformer import Transformer

SEEDS = range(3)
STEPS = 1_000
TRAINING, TESTS, OF_A_FORM, ASKED, LONGEST = 20_000, 1_000, 500, 400, 40
SIZES: dict[str, Any] = {"d_model": 48, "num_heads": 4, "d_ff": 96, "num_layers": 1, "dropout": 0.0, "norm_first": True}
HOW: dict[str, Any] = {"batch_size": 64, "rate": 8e-3, "warmup": 50, "fall_to_zero": True, "decimals": 5}
SIZE_WORDS = ("hundred", "thousand", "million")
WHERE = ("decoder", "encoder", "both")  # where a character is closed
CROSS = "decoder.layers.0.cross_attention"

LANGUAGES = vocabularies()


def tokens(examples: Sequence[Example]) -> list:
    """Return examples as pairs of tokens."""
    return [pair(found, LANGUAGES) for found in examples]


@cache
def data() -> Pairs:
    """Return what all models are trained on, and tested with."""
    return Pairs(tokens(draw(TRAINING, seed=0)), tokens(tests()))


@cache
def tests() -> list[Example]:
    """Return examples whose day and amount are never trained on."""
    return draw(TESTS, seed=1, held_out=True)


@cache
def of_form(form: str, digits: range = ROUND) -> list[Example]:
    """Return held-out examples of one way to write a date."""
    return draw(OF_A_FORM, seed=2, held_out=True, forms=[form], digits=digits)


@cache
def asked() -> list[Example]:
    """Return held-out examples that have a weekday: what is asked when characters are closed."""
    return draw(ASKED, seed=3, held_out=True, forms=[form for form in TRAINED if "{w}" in form])


def attention() -> Transformer:
    """Return the model that the chapter trains: one layer a side, four heads, a table for each language."""
    return Transformer(*map(len, LANGUAGES), share_embeddings=False, **SIZES)


def recurrence(attends: bool = False) -> RecurrentWriter:
    """Return two GRUs as large as :func:`attention`: all that is read goes through one vector, or ``attends``."""
    source, target = map(len, LANGUAGES)
    return of_size(lambda size: RecurrentWriter(source, size, target, attends=attends), count_parameters(attention()))


@torch.no_grad()
def write(model: nn.Module, examples: Sequence[Example], masked: bool = True) -> list[list[str]]:
    """Return the English words that a model writes, the likeliest one at each step; with its padding masked, or not."""
    (source, _, source_mask), _ = padded(tokens(examples))
    source_mask = source_mask if masked else None
    written = torch.full((len(source), 1), START)
    model.eval()
    while written.shape[1] <= LONGEST and not (written == END).any(1).all():
        likeliest = model(source, written, source_mask)[:, -1].argmax(-1, keepdim=True)
        written = torch.cat([written, likeliest], dim=1)
    rows = [[*row, END] for row in written[:, 1:].tolist()]
    return [LANGUAGES[1].decode(row[: row.index(END)]) for row in rows]


def bleu(said: Sequence[Sequence[str]], examples: Sequence[Example]) -> float:
    """Return the BLEU of what was written, from 0 to 100 (Papineni et al., 2002), as sacrebleu computes it."""
    return sacrebleu.corpus_bleu([*map(text_of, said)], [[text_of(found.target) for found in examples]]).score


def places(found: Example, part: str) -> list[int]:
    """Return the places of the characters that a part comes from: of an amount, all its characters."""
    if part == "amount":
        return list(range(found.source.index("，") + 1, len(found.source)))
    return sorted(
        {place for of, origin in zip(found.parts, found.origins, strict=True) if of == part for place in origin}
    )


def weight_on_origins(model: Transformer, examples: Sequence[Example]) -> tuple[dict, dict]:
    """Return by part the share of each head's weight on the characters that a word comes from, and what chance gives.

    Chance is a weight spread evenly over the characters of the source. *hundred* and its like, which come from no
    single character, are left out.
    """
    inputs, _ = padded(tokens(examples))
    with record_attention(model) as record, torch.no_grad():
        model.eval()(*inputs)
    shares: dict[str, list] = {part: [] for part in PARTS}
    even: dict[str, list] = {part: [] for part in PARTS}
    for found, weights in zip(examples, record[CROSS], strict=True):  # (H, L, S)
        for row, (part, origin) in enumerate(zip(found.parts, found.origins, strict=True)):
            if part and origin:
                shares[part].append(weights[:, row, list(origin)].sum(-1))
                even[part].append(len(origin) / len(found.source))
    return (
        {part: torch.stack(of).mean(0).tolist() for part, of in shares.items()},
        {part: sum(of) / len(of) for part, of in even.items()},
    )


@torch.no_grad()
def right_parts(
    model: Transformer, examples: Sequence[Example], closed: str = "", heads: Sequence[int] | None = None
) -> dict[str, float]:
    """Return by part how often all its words are right, if cross-attention may not look at what one part comes from.

    Args:
        model: reads the right target so far, so that a mistake in one part is none in the next.
        examples: what it is asked, each with a weekday.
        closed: the part whose characters are closed; they stay open to the encoder. Default: none.
        heads: in which heads. Default: in all of them.
    """
    (source, read, source_mask), asked = padded(tokens(examples))
    H = model.decoder.layers[0].cross_attention.num_heads
    open_to = source_mask.dense(1, source.shape[1]).repeat(1, H, 1, 1)  # (B, H, 1, S)
    for b, found in enumerate(examples if closed else []):
        some = torch.tensor(range(H) if heads is None else heads)
        open_to[b, some[:, None], 0, torch.tensor(places(found, closed))] = False
    said = model.eval().decode(read, model.encode(source, source_mask), open_to).argmax(-1)
    return by_part(said == asked, examples)


def by_part(same: Tensor, examples: Sequence[Example]) -> dict[str, float]:
    """Return by part the share of examples in which all its words are the same; ``same`` is (B, L)."""
    right = dict.fromkeys(PARTS, 0)
    for found, row in zip(examples, same.tolist(), strict=True):
        for part in PARTS:
            right[part] += all(word for word, of in zip(row, found.parts, strict=False) if of == part)
    return {part: count / len(examples) for part, count in right.items()}


@torch.no_grad()
def changed_by_padding(model: Transformer, count: int = 200) -> int:
    """Return how many translations change if others stand beside them in a batch, and the padding is not masked."""
    some = tests()[:count]
    return sum(a != b for a, b in zip(write(model, some), write(model, some, masked=False), strict=True))


def beside_ten_thousand(character: str) -> list[Example]:
    """Return the examples asked whose amount has 万 and the character."""
    return [found for found in asked() if {"万", character} <= set(_amount(found))]


@torch.no_grad()
def size_words(model: Transformer, character: str, where: str) -> float:
    """Return how often all words of size (*hundred* and the like) are right, if a character of the amount is closed.

    Args:
        model: reads the right target so far.
        character: closed where it stands first in the amount; asked is what :func:`beside_ten_thousand` finds.
        where: "decoder": cross-attention may not look at it. "encoder": no other character may. Or "both", or "".
    """
    examples = beside_ten_thousand(character)
    (source, read, source_mask), target = padded(tokens(examples))
    S = source.shape[1]
    place = torch.tensor([found.source.index("，") + 1 + _amount(found).index(character) for found in examples])
    closed = (torch.arange(S) == place[:, None])[:, None, None]  # (B, 1, 1, S)
    real = source_mask.dense(1, S)
    itself = torch.eye(S, dtype=torch.bool)
    encoder_mask = real & ~(closed & ~itself) if where in ("encoder", "both") else real
    x = model.source_embedding(source) * model.d_model**0.5 + sinusoidal(S, model.d_model)
    memory = model.eval().encoder(x, encoder_mask)
    said = model.decode(read, memory, real & ~closed if where in ("decoder", "both") else real).argmax(-1)
    of_size_ = torch.isin(target, torch.tensor(LANGUAGES[1].encode(SIZE_WORDS)))
    return ((said == target) | ~of_size_).all(1).double().mean().item()


def _amount(found: Example) -> str:
    return found.source.partition("，")[2]


@float64()
def run(make: Callable[[], nn.Module], seed: int, steps: int = STEPS) -> dict:
    """Train one model; return what is right, and of attention where it looks and what breaks."""
    torch.manual_seed(seed)
    model = make()
    train(model, data(), seed=seed, steps=steps, check_every=steps, **HOW)
    return {"seed": seed} | results(model)


def results(model: nn.Module) -> dict:
    """Return what :func:`run` stores of a model that was trained."""
    said = write(model, tests())
    kept = [padded(data().held_out)]
    beyond = {form: of_form(form) for form in UNSEEN} | {"long": of_form(TRAINED[0], LONG)}
    most_words = max(len(target) for _, target in data().training)
    beyond["long, few words"] = [found for found in beyond["long"] if len(found.target) <= most_words]
    found: dict[str, Any] = {
        "right": sum(a == b.target for a, b in zip(said, tests(), strict=True)) / len(said),
        "words": accuracy(model, kept, of_tokens=True),
        "bleu": bleu(said, tests()),
        "forms": {form: accuracy(model, [padded(tokens(of_form(form)))]) for form in TRAINED},
        "beyond": {name: accuracy(model, [padded(tokens(examples))]) for name, examples in beyond.items()},
    }
    if isinstance(model, Transformer):
        weight, even = weight_on_origins(model, asked())
        heads = range(SIZES["num_heads"])
        found |= {
            "weight": weight,
            "even": even,
            "closed": {part: right_parts(model, asked(), part) for part in ("", *PARTS)},
            "closed in one head": {
                part: [right_parts(model, asked(), part, [h])[part] for h in heads] for part in PARTS
            },
            "parts beyond": {name: right_parts(model, examples) for name, examples in beyond.items()},
            "changed by padding": changed_by_padding(model),
            "sizes": {
                character: {where: size_words(model, character, where) for where in ("", *WHERE)}
                for character in "万一"
            },
        }
    return _rounded(found)


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _rounded(of) for name, of in found.items()}
    return [_rounded(of) for of in found] if isinstance(found, list) else round(found, 4)


def row(make: Callable[[], nn.Module], steps: int = STEPS) -> dict:
    """Return the size of a model, its steps, and for each seed what :func:`run` returns."""
    size = count_parameters(make())
    return {"parameters": size, "steps": steps, "seeds": [run(make, seed, steps) for seed in SEEDS]}


ROWS = {
    "attention": partial(row, attention),
    "GRUs": partial(row, recurrence),
    "GRUs with attention": partial(row, partial(recurrence, attends=True)),
}
