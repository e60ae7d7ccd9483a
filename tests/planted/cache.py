"""Mistakes with a cache of keys and values, and with what is decoded one token at a time."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import COMPUTED

FIRST = "first = 0 if cache is None else cache.length"
APPENDED = "keys, values = cache.append(keys, values, self)"
PAST = "return self._kept if self.window is None else min(self._kept, self.window - 1)"
OLD = "old = self._first + self._kept - past, past"
KEY = "self._key, first = _append(self._key, key, *old, room, in_place)"
VALUE = "self._value, first = _append(self._value, value, *old, room, in_place)"
LENGTH = "L = key.shape[-2]\n        past"
DECODED = "x = self._embed(self._target_table, target, offset=past)"
OFFSET = '{"offset": past} if positions is None'
SINUSOIDS = "return self.dropout(x + sinusoidal(length, self.d_model, offset=offset, device=x.device, dtype=x.dtype))"
SINUSOIDS_OF_TEXT = "x = x + sinusoidal(length, self.d_model, **where, device=x.device, dtype=x.dtype)"
LEARNED = "return self.weight[offset : offset + length]"
LEARNED_OF_TEXT = "x = x + self.positions(length, **where)"
LOGITS = "return self._logits(self._hidden(tokens, mask, positions, cache))"


def appended(wrong: str) -> Plant:
    """What a layer adds to its cache, and reads of it."""
    return Plant("multihead", {APPENDED: wrong})


def grown(tensors: str) -> Plant:
    """What becomes of new keys and values before they are stored."""
    return Plant("cache", {LENGTH: f"key, value = {tensors}\n        {LENGTH}"})


def asked(queries: str) -> Plant:
    """Which queries a layer asks its cache with."""
    return Plant("multihead", {COMPUTED: COMPUTED.replace("queries", queries)})


PLANTS = {
    "positions-restart": [
        Plant("multihead", {FIRST: "first = 0"}),
        Plant("transformer/language_model", {OFFSET: OFFSET.replace("past", "0")}),
        Plant("transformer/model", {DECODED: DECODED.replace("past", "0")}),
    ],
    "positions-missing": [
        Plant("transformer/language_model", {SINUSOIDS_OF_TEXT: "x = x + 0"}),
        Plant("transformer/language_model", {LEARNED_OF_TEXT: "x = x + 0"}),
        Plant("transformer/model", {SINUSOIDS: "return self.dropout(x)"}),
    ],
    "positions-off-by-one": [
        Plant("transformer/language_model", {OFFSET: OFFSET.replace("past", "past + 1")}),
        Plant(
            "transformer/language_model",
            {"positions = (places - self.missing": "positions = (places + 1 - self.missing"},
        ),
        Plant("transformer/model", {DECODED: DECODED.replace("past", "past + 1")}),
        Plant("positions", {LEARNED: "return self.weight[offset : offset + length].roll(1, dims=0)"}),
    ],
    "positions-from-the-end": [Plant("positions", {LEARNED: LEARNED.replace("self.weight", "self.weight.flip(0)")})],
    "cache-overwritten": [Plant("cache", {PAST: "return 0"})],
    "cache-keys-only": [
        Plant("cache", {KEY: KEY.replace("_append(self._key", "_append(None")}),
        Plant("cache", {VALUE: VALUE.replace("_append(self._value", "_append(None")}),
    ],
    "cache-without-newest": [
        appended("keys, values = cache.append(keys, values, self)[0][..., :-1, :], cache.value[..., :-1, :]")
    ],
    "cache-of-queries": [appended("keys, values = cache.append(queries, values, self)")],
    "cache-keys-for-values": [
        appended("keys, values = cache.append(keys, keys, self)"),
        appended("keys, values = cache.append(values, keys, self)"),
    ],
    "cache-of-tokens": [appended("keys, values = cache.append(_split(key, self.d_k), _split(value, self.d_v), self)")],
    "cache-order": [
        Plant(
            "cache",
            {
                "torch.cat([buffer.narrow(-2, start, past), new], dim=-2)": "torch.cat([new, buffer.narrow(-2, start, past)], dim=-2)"
            },
        ),
        Plant("cache", {KEY: f"{KEY}\n        self._key = self._key.narrow(-2, first, past + L).roll(L, dims=-2)"}),
    ],
    "cache-twice": [grown("(torch.cat([x, x], dim=-2) for x in (key, value))")],
    "cache-window": [
        Plant("cache", {OLD: "old = self._first, past"}),
        Plant("cache", {PAST: "return min(self._kept, 2)"}),
    ],
    "cache-projected-twice": [
        appended(f"{APPENDED}\n                keys = _split(self.wk(keys.transpose(-3, -2).flatten(-2)), self.d_k)"),
    ],
    "matrices-transposed": [Plant("multihead", {"return projection(x)": "return x @ projection.weight"})],
    "cache-shared": [
        grown("(x[:1].expand_as(x) for x in (key, value))"),
        Plant(
            "transformer/language_model",
            {
                "[KVCache(window=self.window) for _ in self.stack.layers]": "[KVCache(window=self.window)] * len(self.stack.layers)"
            },
        ),
    ],
    "causal-missing": [
        Plant("transformer/language_model", {"allowed = causal()": "allowed = causal() | ~causal()"}),
        Plant("transformer/model", {"causal() if mask is None else mask": "mask"}),
        Plant("transformer/model", {"(mask if isinstance(mask, Mask) else from_tensor(mask)) & causal()": "mask"}),
    ],
    "outputs-last-only": [
        Plant(
            "transformer/language_model",
            {
                LOGITS: f"logits = {LOGITS.removeprefix('return ')}\n        return logits[..., -1:, :].expand_as(logits)"
            },
        ),
        Plant("transformer/language_model", {LOGITS: f"{LOGITS}[..., -1:, :]"}),
    ],
    "cache-first-query": [asked("queries[..., :1, :].expand_as(queries)")],
    "cache-last-query": [asked("queries[..., -1:, :].expand_as(queries)")],
    "positions-twice": [
        Plant("transformer/language_model", {LEARNED_OF_TEXT: LEARNED_OF_TEXT.replace("x + ", "x + 2 * ")}),
        Plant("transformer/model", {SINUSOIDS: SINUSOIDS.replace("x + ", "x + 2 * ")}),
    ],
    "positions-multiplied": [
        Plant("transformer/language_model", {LEARNED_OF_TEXT: LEARNED_OF_TEXT.replace("x + ", "x * ")}),
        Plant("transformer/model", {SINUSOIDS: SINUSOIDS.replace("x + ", "x * ")}),
    ],
    "cache-buffer": [
        Plant(
            "cache",
            {"self._filled(buffer).narrow(-2, self._first, self._kept)": "self._filled(buffer)[..., self._first :, :]"},
        )
    ],
}
