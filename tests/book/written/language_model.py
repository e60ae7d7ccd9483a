"""One step of a layer with grouped heads and a cache that holds a window."""

import numpy as np
import torch

LABEL = "ex-lm-step"
NAME = "step"

B, H, H_KV, N, D_K, D_V, WINDOW = 2, 6, 3, 11, 5, 7, 4


def check(function):
    generator = np.random.default_rng(0)
    query, key, value = (generator.normal(size=(B, heads, N, d)) for heads, d in ((H, D_K), (H_KV, D_K), (H_KV, D_V)))
    for window in (WINDOW, N + 2, 1):
        past = torch.zeros(B, H_KV, 0, D_K).double(), torch.zeros(B, H_KV, 0, D_V).double()
        for i in range(N):
            new = (torch.tensor(x[:, :, i : i + 1]) for x in (query, key, value))
            output, past = function(*new, past, window)
            assert tuple(output.shape) == (B, H, 1, D_V), f"expected (B, H, 1, d_v), got {tuple(output.shape)}"
            held = [part.shape[2] for part in past]
            assert max(held) <= window, f"at most {window} tokens, got {held}"
            for b, h in np.ndindex(B, H):
                right = _row(query[b, h], key[b, h // (H // H_KV)], value[b, h // (H // H_KV)], i, window)
                error = f"example {b}, query head {h}, token {i}, a window of {window}"
                np.testing.assert_allclose(output[b, h, 0].numpy(), right, rtol=1e-9, err_msg=error)


def _row(query, key, value, i, window):
    """The output of token i over the whole sequence, by its definition."""
    seen = range(max(0, i - window + 1), i + 1)
    powers = [np.exp(query[i] @ key[j] / np.sqrt(D_K)) for j in seen]
    return sum(power * value[j] for power, j in zip(powers, seen, strict=True)) / sum(powers)


def _wrong(
    *,
    keep=lambda x, window: x[:, :, -window:],
    share=lambda x, group: x.repeat_interleave(group, dim=1),
    scale=lambda q: q.shape[-1] ** 0.5,
    dim=-1,
    join=lambda old, new: torch.cat([old, new], dim=2),
    kept=lambda pair, new: pair,
):
    def step(query, key, value, past, window):
        pair = tuple(keep(join(old, new), window) for old, new in zip(past, (key, value), strict=True))
        keys, values = (share(x, query.shape[1] // x.shape[1]) for x in pair)
        weights = (query @ keys.mT / scale(query)).softmax(dim)
        return weights @ values, kept(pair, (key, value))

    return step


WRONG = {
    "heads tiled, not repeated side by side": _wrong(share=lambda x, group: x.repeat(1, group, 1, 1)),
    "the first head of keys for all": _wrong(share=lambda x, group: x[:, :1]),
    "one token too few": _wrong(keep=lambda x, window: x[:, :, 1 - window :]),
    "one token too many": _wrong(keep=lambda x, window: x[:, :, -window - 1 :]),
    "the oldest are kept": _wrong(keep=lambda x, window: x[:, :, :window]),
    "no window": _wrong(keep=lambda x, window: x),
    "the newest in front": _wrong(join=lambda old, new: torch.cat([new, old], dim=2)),
    "only the newest is returned": _wrong(kept=lambda pair, new: new),
    "repeated heads are kept": _wrong(kept=lambda pair, new: tuple(x.repeat_interleave(2, 1) for x in pair)),
    "the new token is not appended": _wrong(join=lambda old, new: old if old.shape[2] else new),
    "softmax over the heads": _wrong(dim=1),
    "no scale": _wrong(scale=lambda q: 1.0),
    "the axis of the heads grows": _wrong(join=lambda old, new: torch.cat([old, new], dim=1) if old.shape[2] else new),
}
