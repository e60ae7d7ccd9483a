"""The paper's decoder layer, from its parts."""

import numpy as np
import torch
from torch.nn import functional as F

LABEL = "ex-encoder-decoder-layer"
NAME = "decoder_layer"

B, L, S, D_MODEL = 2, 5, 7, 11


class _Attention:
    """One head that takes what a layer of the page takes."""

    def __init__(self, generator):
        self.wq, self.wk, self.wv = (generator.normal(size=(D_MODEL, D_MODEL)) / D_MODEL**0.5 for _ in range(3))

    def __call__(self, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        if hasattr(mask, "dense"):  # one of attnlib's masks
            mask = mask.dense(query.shape[1], key.shape[1])
        assert mask is None or mask.dtype == torch.bool, "a mask is a tensor of bools, True where a query may attend"
        scores = query @ torch.tensor(self.wq) @ (key @ torch.tensor(self.wk)).mT / D_MODEL**0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1) @ (value @ torch.tensor(self.wv))

    def row(self, query, tokens):
        """The answer to one query, by its definition."""
        powers = [np.exp(query @ self.wq @ (token @ self.wk) / np.sqrt(D_MODEL)) for token in tokens]
        return sum(power * (token @ self.wv) for power, token in zip(powers, tokens, strict=True)) / sum(powers)


def check(function):
    generator = np.random.default_rng(0)
    x, memory = generator.normal(size=(B, L, D_MODEL)), 2 * generator.normal(size=(B, S, D_MODEL)) + 1
    attend, cross = _Attention(generator), _Attention(generator)
    matrix = torch.tensor(generator.normal(size=(D_MODEL, D_MODEL)))
    weights, biases = (torch.tensor(generator.normal(size=(3, D_MODEL))) for _ in range(2))
    norms = [
        lambda x, weight=weight, bias=bias: F.layer_norm(x, (D_MODEL,), weight, bias)
        for weight, bias in zip(weights, biases, strict=True)
    ]
    feed_forward = lambda x: (x @ matrix).relu()  # noqa: E731
    output = function(torch.tensor(x), torch.tensor(memory), attend, cross, feed_forward, norms)
    assert isinstance(output, torch.Tensor), f"expected a tensor, got {type(output).__name__}"
    assert tuple(output.shape) == x.shape, f"expected (B, L, d_model) = {x.shape}, got {tuple(output.shape)}"
    for b in range(B):
        for i in range(L):
            row = norms[0](torch.tensor(x[b, i] + attend.row(x[b, i], x[b, : i + 1])))
            row = norms[1](row + torch.tensor(cross.row(row.numpy(), memory[b])))
            row = norms[2](row + feed_forward(row))
            error = f"example {b}, token {i}: not its past, then the memory, then the net, each added and then normed"
            np.testing.assert_allclose(output[b, i].numpy(), row.numpy(), rtol=1e-8, atol=1e-10, err_msg=error)


def _triangle(x):
    return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()


def _post(x, said, norm):
    return norm(x + said(x))


def _wrong(
    *,
    step=_post,
    mask=_triangle,
    order=(0, 1, 2),
    norms_of=(0, 1, 2),
    ask=lambda cross, x, memory: cross(x, memory),
    remember=lambda memory, norms: memory,
):
    """What the exercise wants, with one thing spoilt."""

    def decoder_layer(x, memory, attend, cross, feed_forward, norms):
        kept = remember(memory, norms)
        parts = [lambda x: attend(x, mask=mask(x)), lambda x: ask(cross, x, kept), feed_forward]
        for part, norm in zip(order, norms_of, strict=True):
            x = step(x, parts[part], norms[norm])
        return x

    return decoder_layer


def _all_from_x(x, memory, attend, cross, feed_forward, norms):
    gathered = norms[0](x + attend(x, mask=_triangle(x)))
    asked = norms[1](x + cross(gathered, memory))
    return norms[2](asked + feed_forward(asked))


def _queries_not_gathered(x, memory, attend, cross, feed_forward, norms):
    gathered = norms[0](x + attend(x, mask=_triangle(x)))
    asked = norms[1](gathered + cross(x, memory))
    return norms[2](asked + feed_forward(asked))


def _unnormed_road(x, memory, attend, cross, feed_forward, norms):
    total = x + attend(x, mask=_triangle(x))
    total = total + cross(norms[0](total), memory)
    return norms[2](total + feed_forward(norms[1](total)))


WRONG = {
    "pre-norm": _wrong(step=lambda x, said, norm: x + said(norm(x))),
    "the norm on what a part says": _wrong(step=lambda x, said, norm: x + norm(said(x))),
    "no sum": _wrong(step=lambda x, said, norm: norm(said(x))),
    "no norm": _wrong(step=lambda x, said, norm: x + said(x)),
    "added twice": _wrong(step=lambda x, said, norm: norm(2 * x + said(x))),
    "no mask": _wrong(mask=lambda x: None),
    "True means hide": _wrong(mask=lambda x: ~_triangle(x)),
    "the future only": _wrong(mask=lambda x: _triangle(x).T),
    "not itself": _wrong(mask=lambda x: _triangle(x).tril(-1)),
    "the memory first": _wrong(order=(1, 0, 2), norms_of=(1, 0, 2)),
    "the net before the memory": _wrong(order=(0, 2, 1), norms_of=(0, 2, 1)),
    "one norm for all": _wrong(norms_of=(0, 0, 0)),
    "two norms exchanged": _wrong(norms_of=(1, 0, 2)),
    "no cross-attention": _wrong(order=(0, 2), norms_of=(0, 2)),
    "no net": _wrong(order=(0, 1), norms_of=(0, 1)),
    "cross-attention to the target": _wrong(ask=lambda cross, x, memory: cross(x)),
    "the memory asks": _wrong(ask=lambda cross, x, memory: cross(memory, x)),
    "keys from the memory, values from the target": _wrong(ask=lambda cross, x, memory: cross(x, memory, x)),
    "the triangle over the memory, too": _wrong(
        ask=lambda cross, x, memory: cross(x, memory, mask=torch.ones(L, S, dtype=torch.bool).tril())
    ),
    "the memory normed again": _wrong(remember=lambda memory, norms: norms[1](memory)),
    "every sum begins with x": _all_from_x,
    "the queries have not gathered": _queries_not_gathered,
    "sums that are not normed go on": _unnormed_road,
}
