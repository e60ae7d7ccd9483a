"""Attention in NumPy, loop by loop: slow, short, and written to be read beside the mathematics.

One example, no batch: ``query`` (L, d_k), ``key`` (S, d_k), ``value`` (S, d_v). The products are Python's own, so
arrays of :class:`fractions.Fraction` stay exact up to the softmax. The package's tests compare with this module;
nothing here imports torch.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray | Sequence[Any]  # a matrix may come as its rows


def dot(a: Array, b: Array) -> Any:
    """Return the dot product of two vectors of equal length.

    >>> from attnlib.reference import dot
    >>> dot([1, 2, 0], [2, 1, 5])
    4
    """
    return sum(x * y for x, y in zip(a, b, strict=True))


def matmul(a: Array, b: Array) -> np.ndarray:
    """Return the matrix product (n, m) · (m, p) → (n, p): rows of ``a`` times columns of ``b``.

    >>> import numpy as np
    >>> from attnlib.reference import matmul
    >>> matmul(np.array([[1, 2]]), np.array([[3], [4]]))
    array([[11]])
    """
    a, b = np.asarray(a), np.asarray(b)
    return np.array([[dot(row, column) for column in b.T] for row in a])


def scores(query: Array, key: Array, scale: float = 1) -> np.ndarray:
    """Return the scores (L, S): each query's dot product with each key, times ``scale``.

    >>> import numpy as np
    >>> from attnlib.reference import scores
    >>> scores(np.array([[1, 2]]), np.array([[3, 0], [0, 1]]))
    array([[3, 2]])
    """
    return matmul(query, np.asarray(key).T) * scale


def softmax(row: Array, allowed: Array | None = None) -> np.ndarray:
    """Return non-negative weights that sum to 1, in the ratio exp(row[i]) : exp(row[j]).

    The largest score is subtracted first, which changes no ratio and keeps exp from overflowing. Entries that are not
    ``allowed`` weigh 0; if none is allowed, all do.

    >>> import math
    >>> from attnlib.reference import softmax
    >>> softmax([0.0, math.log(3)])
    array([0.25, 0.75])
    """
    allowed = [True] * len(row) if allowed is None else allowed
    if not any(allowed):
        return np.zeros(len(row))
    largest = max(float(score) for score, open_ in zip(row, allowed, strict=True) if open_)
    powers = [math.exp(float(score) - largest) if open_ else 0.0 for score, open_ in zip(row, allowed, strict=True)]
    return np.array(powers) / sum(powers)


def attention_weights(
    query: Array, key: Array, mask: Array | None = None, *, bias: Array | None = None, scale: float | None = None
) -> np.ndarray:
    """Return the weights (L, S): softmax(Q·Kᵀ·scale + bias), row by row.

    ``mask`` (L, S) is True where a query may attend (Vaswani et al., 2017, equation 1 and section 3.2.3). ``scale``:
    1/√d_k by default.

    >>> import numpy as np
    >>> from attnlib.reference import attention_weights
    >>> attention_weights(np.array([[1.0, 0.0]]), np.array([[5.0, 1.0], [5.0, 9.0]]))
    array([[0.5, 0.5]])
    """
    scale = 1 / math.sqrt(np.shape(query)[-1]) if scale is None else scale
    shifted = scores(query, key, scale) + (0 if bias is None else np.asarray(bias))
    allowed = [None] * len(shifted) if mask is None else mask
    return np.array([softmax(row, open_) for row, open_ in zip(shifted, allowed, strict=True)])


def attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array | None = None,
    *,
    bias: Array | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """Return the output (L, d_v): for each query the average of the values under its weights.

    >>> import numpy as np
    >>> from attnlib.reference import attention
    >>> attention(np.array([[1.0]]), np.array([[2.0], [2.0]]), np.array([[0.0], [8.0]]))
    array([[4.]])
    """
    return matmul(attention_weights(query, key, mask, bias=bias, scale=scale), value)


def multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    wq: Array,
    wk: Array,
    wv: Array,
    wo: Array,
    num_heads: int,
    mask: Array | None = None,
    *,
    num_kv_heads: int | None = None,
) -> np.ndarray:
    """Return MultiHead(Q, K, V) (L, d_model): attention in each head, then the heads side by side times ``wo``.

    Inputs (L, d_model) and (S, d_model); ``wq`` (d_model, H·d_k), ``wk`` (d_model, H_kv·d_k), ``wv``
    (d_model, H_kv·d_v), ``wo`` (H·d_v, d_model), applied from the right as in the paper (Vaswani et al., 2017,
    section 3.2.2). Query head h reads key head h // (H / H_kv) (Ainslie et al., 2023).

    >>> import numpy as np
    >>> from attnlib.reference import multi_head_attention
    >>> identity = np.eye(2)
    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> multi_head_attention(x, x, x, identity, identity, identity, identity, num_heads=2)
    array([[1., 0.],
           [1., 0.]])
    """
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    queries = np.split(matmul(query, wq), num_heads, axis=1)
    keys = np.split(matmul(key, wk), num_kv_heads, axis=1)
    values = np.split(matmul(value, wv), num_kv_heads, axis=1)
    group = num_heads // num_kv_heads
    heads = [attention(queries[h], keys[h // group], values[h // group], mask) for h in range(num_heads)]
    return matmul(np.concatenate(heads, axis=1), wo)


def softmax_jacobian(weights: Array) -> np.ndarray:
    """Return the Jacobian (S, S) of softmax at its output p: ∂p_i/∂s_j = p_i·(δ_ij − p_j).

    >>> from attnlib.reference import softmax_jacobian
    >>> softmax_jacobian([0.5, 0.5])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    size = range(len(weights))
    return np.array([[weights[i] * ((i == j) - weights[j]) for j in size] for i in size])


def attention_gradients(
    query: Array,
    key: Array,
    value: Array,
    grad_output: Array,
    mask: Array | None = None,
    *,
    scale: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (∂/∂Q, ∂/∂K, ∂/∂V) of Σ output·grad_output, by the chain rule through each step of the forward pass.

    >>> import numpy as np
    >>> from attnlib.reference import attention_gradients
    >>> q, k, v = np.array([[1.0]]), np.array([[1.0], [1.0]]), np.array([[0.0], [2.0]])
    >>> attention_gradients(q, k, v, np.array([[1.0]]))[2]
    array([[0.5],
           [0.5]])
    """
    query, key, value = np.asarray(query), np.asarray(key), np.asarray(value)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = attention_weights(query, key, mask, scale=scale)
    grad_value = matmul(weights.T, grad_output)
    grad_weights = matmul(grad_output, value.T)
    # The Jacobian of softmax is symmetric: no transpose is needed.
    rows = zip(weights, grad_weights, strict=True)
    grad_scores = np.array([[dot(jacobian_row, g) for jacobian_row in softmax_jacobian(p)] for p, g in rows])
    return matmul(grad_scores, key) * scale, matmul(grad_scores.T, query) * scale, grad_value
