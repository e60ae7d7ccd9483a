"""The one example that the book carries from paper to code: three tokens, *cats chase mice*."""

import json
from dataclasses import dataclass
from importlib import resources
from types import SimpleNamespace

import numpy as np


@dataclass(frozen=True)
class Example:
    """Three tokens and the matrices of two heads, all with small integer entries.

    A projection is applied from the right, as on paper: ``queries = x @ wq``.

    Attributes:
        tokens: the words, L = 3 of them.
        features: the names of the d_model = 4 columns of ``x``.
        x: (L, d_model), the tokens as vectors.
        heads: for each of H = 2 heads ``wq``, ``wk`` of shape (d_model, d_k = 4) and ``wv`` (d_model, d_v = 2).
        wo: (H·d_v, d_model), the output projection.
    """

    tokens: list[str]
    features: list[str]
    x: np.ndarray
    heads: list[SimpleNamespace]
    wo: np.ndarray


def three_tokens() -> Example:
    """Read the example from its one data file; every matrix is a NumPy array of integers.

    >>> from attnlib.lab.example import three_tokens
    >>> example = three_tokens()
    >>> example.tokens
    ['cats', 'chase', 'mice']
    >>> example.x @ example.heads[0].wq
    array([[1, 2, 0, 0],
           [2, 0, 0, 0],
           [0, 1, 1, 1]])
    """
    data = json.loads(resources.files(__package__).joinpath("three_tokens.json").read_text("utf-8"))
    heads = [SimpleNamespace(**{name: np.array(w) for name, w in head.items()}) for head in data["heads"]]
    return Example(data["tokens"], data["features"], np.array(data["x"]), heads, np.array(data["wo"]))
