"""An encoder layer from its parts, with the norm after the sum or before the part."""

import numpy as np
import torch

LABEL = "ex-one-layer-write"
NAME = "encoder_layer"

B, L, D_MODEL, D_FF = 2, 5, 7, 11


def check(function):
    generator = np.random.default_rng(0)
    x = 3 * generator.normal(size=(B, L, D_MODEL)) + 1
    rows, widen, narrow, weights, biases, kept = (
        generator.normal(size=shape)
        for shape in ((L, L), (D_MODEL, D_FF), (D_FF, D_MODEL), (2, D_MODEL), (2, D_MODEL), (L, D_MODEL))
    )
    # Each part in arrays, and the same for tensors.
    attend = lambda x: np.stack([rows @ tokens for tokens in x])  # noqa: E731
    feed_forward = lambda x: np.maximum(x @ widen, 0) @ narrow  # noqa: E731
    drop = lambda x: x * np.where(kept < 0, 0.0, 1.6)  # noqa: E731
    norms = [_Norm(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    for norm_first in (False, True):
        parts = _tensors(attend), _tensors(feed_forward), [*map(_tensors, norms)], _tensors(drop)
        output = function(torch.tensor(x), *parts, norm_first)
        assert isinstance(output, torch.Tensor), f"expected a tensor, got {type(output).__name__}"
        assert tuple(output.shape) == x.shape, f"expected (B, L, d_model) = {x.shape}, got {tuple(output.shape)}"
        if norm_first:
            inner = x + drop(attend(norms[0](x)))
            right = inner + drop(feed_forward(norms[1](inner)))
        else:
            inner = norms[0](x + drop(attend(x)))
            right = norms[1](inner + drop(feed_forward(inner)))
        error = f"norm_first={norm_first}: not a layer whose two parts are added in this order"
        np.testing.assert_allclose(output.numpy(), right, rtol=1e-9, atol=1e-9, err_msg=error)


class _Norm:
    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __call__(self, x):
        """Each token by itself, by the definition."""
        normed = np.empty_like(x)
        for place in np.ndindex(*x.shape[:-1]):
            centred = x[place] - x[place].mean()
            normed[place] = self.weight * centred / np.sqrt((centred**2).mean() + 1e-5) + self.bias
        return normed


def _tensors(part):
    return lambda x: torch.tensor(part(x.numpy()))


def _post(x, said, norm, drop):
    return norm(x + drop(said(x)))


def _pre(x, said, norm, drop):
    return x + drop(said(norm(x)))


def _wrong(*, post=_post, pre=_pre, order=(0, 1), norms_of=(0, 1), drops=(True, True)):
    """What the exercise wants, with one thing spoilt."""

    def encoder_layer(x, attend, feed_forward, norms, drop, norm_first):
        for part, norm, dropped in zip(order, norms_of, drops, strict=True):
            how = pre if norm_first else post
            x = how(x, (attend, feed_forward)[part], norms[norm], drop if dropped else lambda x: x)
        return x

    return encoder_layer


def _side_by_side(x, attend, feed_forward, norms, drop, norm_first):
    if norm_first:
        return x + drop(attend(norms[0](x))) + drop(feed_forward(norms[1](x)))
    return norms[1](norms[0](x + drop(attend(x))) + drop(feed_forward(x)))


def _second_sum_from_x(x, attend, feed_forward, norms, drop, norm_first):
    inner = _wrong(order=(0,), norms_of=(0,), drops=(True,))(x, attend, None, norms, drop, norm_first)
    if norm_first:
        return x + drop(feed_forward(norms[1](inner)))
    return norms[1](x + drop(feed_forward(inner)))


def _normed_at_the_end(x, attend, feed_forward, norms, drop, norm_first):
    inner = _wrong()(x, attend, feed_forward, norms, drop, norm_first)
    return norms[1](inner) if norm_first else inner


WRONG = {
    "always post-norm": _wrong(pre=_post),
    "always pre-norm": _wrong(post=_pre),
    "norm_first the wrong way round": _wrong(post=_pre, pre=_post),
    "no sum": _wrong(post=lambda x, f, norm, drop: norm(drop(f(x))), pre=lambda x, f, norm, drop: drop(f(norm(x)))),
    "post-norm without a sum": _wrong(post=lambda x, f, norm, drop: norm(drop(f(x)))),
    "pre-norm without a sum": _wrong(pre=lambda x, f, norm, drop: drop(f(norm(x)))),
    "post-norm without a norm": _wrong(post=lambda x, f, norm, drop: x + drop(f(x))),
    "pre-norm without a norm": _wrong(pre=lambda x, f, norm, drop: x + drop(f(x))),
    "the normed row on the main road": _wrong(pre=lambda x, f, norm, drop: norm(x) + drop(f(norm(x)))),
    "the norm on what a part says": _wrong(pre=lambda x, f, norm, drop: x + drop(norm(f(x)))),
    "the norm before the sum": _wrong(post=lambda x, f, norm, drop: x + norm(drop(f(x)))),
    "one norm for both": _wrong(norms_of=(0, 0)),
    "the norms exchanged": _wrong(norms_of=(1, 0)),
    "the net first": _wrong(order=(1, 0)),
    "the net first, with its norm": _wrong(order=(1, 0), norms_of=(1, 0)),
    "no net": _wrong(order=(0,), norms_of=(0,), drops=(True,)),
    "no attention": _wrong(order=(1,), norms_of=(1,), drops=(True,)),
    "no dropout": _wrong(drops=(False, False)),
    "dropout in attention only": _wrong(drops=(True, False)),
    "dropout on the sum": _wrong(
        post=lambda x, f, norm, drop: norm(drop(x + f(x))), pre=lambda x, f, norm, drop: drop(x + f(norm(x)))
    ),
    "dropout on what goes in": _wrong(
        post=lambda x, f, norm, drop: norm(x + f(drop(x))), pre=lambda x, f, norm, drop: x + f(drop(norm(x)))
    ),
    "dropout after the norm": _wrong(post=lambda x, f, norm, drop: drop(norm(x + f(x)))),
    "both parts read x": _side_by_side,
    "the second sum begins with x": _second_sum_from_x,
    "pre-norm ends with a norm, too": _normed_at_the_end,
}
