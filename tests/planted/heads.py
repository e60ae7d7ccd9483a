"""Mistakes with heads: how they are split, merged and shared; with dropout, and with the last layer."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import AVERAGE, KEYS, PRODUCTS, QUERIES, RETURNED, VALUES

SPLIT = "return torch.unflatten(x, -1, (-1, size)).transpose(-3, -2)"
MERGED = "heads.transpose(-3, -2).flatten(-2)"
RATE = "scale, dropout_p = self.scale, self.dropout if self.training else 0.0"
DROPPED = "kept = F.dropout(exact, dropout_p)\n"
DROPPED_AGAIN = (
    "kept = exact * torch.empty_like(exact).bernoulli_(1 - dropout_p, generator=generator) / (1 - dropout_p)"
)
DROPPED_ONLINE = "kept = F.dropout(powers, dropout_p) if dropout_p else powers"
REPEATED = "return keys.repeat_interleave(query.shape[-3] // keys.shape[-3], dim=-3)"
OF_ONE_QUERY = "return output.view(*query.shape[:-1], -1)"
CROSS = "key, value = checks.keys_and_values(key, value, query, self.key_width, self.value_width)"
VALUE = "value = key if value is None else value"


def split(wrong: str, merged: str = "") -> list[Plant]:
    edits = {SPLIT: f"return {wrong}"}
    return [Plant("multihead", edits | ({MERGED: merged} if merged else {}))]


def mixed(wrong: str) -> Plant:
    """What the last layer is given."""
    return Plant("multihead", {MERGED: wrong})


def dropped(wrong: str, again: str = "", online: str = "") -> list[Plant]:
    """What dropout leaves: where torch draws, where a seed is kept for the backward pass, and block by block."""
    plants = [Plant("kernels/explicit", {DROPPED: f"kept = {wrong}\n"})]
    if again:
        plants.append(Plant("kernels/explicit", {DROPPED_AGAIN: f"kept = {again}"}))
    if online:
        plants.append(Plant("kernels/online", {DROPPED_ONLINE: f"kept = {online} if dropout_p else powers"}))
    return plants


def repeated(wrong: str) -> Plant:
    """How heads of keys stand beside heads of queries."""
    return Plant("kernels/explicit", {REPEATED: f"return {wrong}"})


PLANTS = {
    "heads-viewed": split("x.reshape(*x.shape[:-2], -1, x.shape[-2], size)"),
    "heads-merged-without-transpose": [mixed("heads.reshape(*query.shape[:-1], -1)")],
    "heads-interleaved": [
        *split("torch.unflatten(x, -1, (size, -1)).movedim(-1, -3)"),
        mixed("heads.movedim(-3, -1).flatten(-2)"),
    ],
    "heads-attend-to-heads": split("torch.unflatten(x, -1, (-1, size))", "heads.flatten(-2)"),
    "attention-over-batch": split(
        "torch.unflatten(x, -1, (-1, size)).movedim(0, -2)", "heads.movedim(-2, 0).flatten(-2)"
    ),
    "heads-averaged": [mixed(f"heads.mean(dim=-3, keepdim=True).expand_as(heads).{MERGED.removeprefix('heads.')}")],
    "heads-one-for-all": [mixed(f"heads[..., :1, :, :].expand_as(heads).{MERGED.removeprefix('heads.')}")],
    "heads-reversed": [mixed(f"heads.flip(-3).{MERGED.removeprefix('heads.')}")],
    "one-wide-head": split("x.unsqueeze(-3)"),
    "last-layer-missing": [Plant("multihead", {RETURNED: f"return {MERGED}"})],
    "projection-missing": [
        Plant("multihead", {QUERIES: "queries = _split(query, self.d_k)"}),
        Plant("multihead", {KEYS: "keys = _split(key, self.d_k)"}),
        Plant("multihead", {VALUES: "values = _split(value, self.d_v)"}),
    ],
    "projection-shared": [
        Plant("multihead", {QUERIES: QUERIES.replace("wq", "wk")}),
        Plant("multihead", {KEYS: KEYS.replace("wk", "wq")}),
        Plant("multihead", {VALUES: VALUES.replace("wv", "wk")}),
    ],
    "memory-ignored": [
        Plant("multihead", {CROSS: f"{CROSS} and (query, query)"}),
    ],
    "key-ignored": [Plant("multihead", {CROSS: CROSS.replace("value = ", "value = query, ") + "[1]"})],
    "value-ignored": [Plant("checks", {VALUE: "value = key"})],
    "value-from-query": [Plant("checks", {VALUE: VALUE.replace("key if", "query if")})],
    "width-in-total": [
        Plant(
            "multihead",
            {
                "nn.Linear(d_model, num_heads * d_k,": "nn.Linear(d_model, d_k,",
                "nn.Linear(key_width, num_kv_heads * d_k,": "nn.Linear(key_width, d_k,",
                "nn.Linear(value_width, num_kv_heads * d_v,": "nn.Linear(value_width, d_v,",
                "nn.Linear(num_heads * d_v, d_model,": "nn.Linear(d_v, d_model,",
            },
        ),
    ],
    "mask-tiled": [
        Plant("scores", {"sizes = (*sizes[:-2], 1, *sizes[-2:])": "sizes = (*sizes[:-3], 1, *sizes[-3:])"}),
        Plant("masks", {"return self.tensor.unsqueeze(1) if": "return self.tensor.unsqueeze(0) if"}),
    ],
    "dropout-in-evaluation": [Plant("multihead", {RATE: "scale, dropout_p = self.scale, self.dropout"})],
    "dropout-never": [
        Plant("multihead", {RATE: "scale, dropout_p = self.scale, 0.0"}),
        *dropped("exact", "exact", "powers"),
        Plant(
            "kernels/fused",
            {"query, key, value, attn_mask, dropout_p, is_causal": "query, key, value, attn_mask, 0.0, is_causal"},
        ),
    ],
    "dropout-on-scores": dropped(
        "torch.softmax(F.dropout(scores.masked((query * scale) @ for_each_head(key, query).mT), dropout_p), dim=-1)",
        "torch.softmax(exact.log() * torch.empty_like(exact).bernoulli_(1 - dropout_p, generator=generator), dim=-1)",
    ),
    "dropout-on-output": [
        Plant(
            "kernels/explicit",
            {DROPPED: "kept = exact\n", AVERAGE: f"output = F.dropout({AVERAGE.removeprefix('output = ')}, dropout_p)"},
        ),
        Plant("multihead", {RETURNED: f"return nn.functional.dropout({RETURNED.removeprefix('return ')}, dropout_p)"}),
    ],
    "dropout-not-rescaled": dropped(
        "F.dropout(exact, dropout_p) * (1 - dropout_p)",
        DROPPED_AGAIN.removeprefix("kept = ").removesuffix(" / (1 - dropout_p)"),
        "F.dropout(powers, dropout_p) * (1 - dropout_p)",
    ),
    "dropout-rate-inverted": dropped(
        "F.dropout(exact, 1 - dropout_p)",
        DROPPED_AGAIN.removeprefix("kept = ").replace("1 - dropout_p", "dropout_p"),
        "F.dropout(powers, 1 - dropout_p)",
    ),
    "groups-tiled": [
        repeated("keys.repeat(*[1] * (keys.dim() - 3), query.shape[-3] // keys.shape[-3], 1, 1)"),
        Plant(
            "kernels/few_queries",
            {
                "(query * scale).reshape(len(keys), -1, d_k)": "(query * scale).unflatten(-3, (-1, key.shape[-3])).transpose(-4, -3)"
                ".reshape(len(keys), -1, d_k)",
                OF_ONE_QUERY: "return output.unflatten(0, (-1, key.shape[-3])).transpose(-3, -2).reshape(*query.shape[:-1], -1)",
            },
        ),
    ],
    "groups-one-for-all": [repeated("keys[..., :1, :, :].repeat_interleave(query.shape[-3], dim=-3)")],
    "groups-averaged": [repeated("keys.mean(dim=-3, keepdim=True).repeat_interleave(query.shape[-3], dim=-3)")],
    "groups-size": [repeated("keys[..., torch.arange(query.shape[-3]) // keys.shape[-3] % keys.shape[-3], :, :]")],
    "groups-reversed": [repeated(REPEATED.removeprefix("return ").replace("keys.repeat", "keys.flip(-3).repeat"))],
    "groups-merged": [
        Plant(
            "kernels/few_queries",
            {
                OF_ONE_QUERY: "return output.unflatten(0, (-1, key.shape[-3])).transpose(-3, -2).reshape(*query.shape[:-1], -1)"
            },
        ),
        mixed(
            "heads.unflatten(-3, (self.num_kv_heads, -1)).transpose(-4, -3).flatten(-4, -3).transpose(-3, -2).flatten(-2)"
        ),
    ],
    "heads-overlap": split("x.unfold(-1, size, 1)[..., : x.shape[-1] // size, :].transpose(-3, -2)"),
    "groups-over-batch": [
        repeated(
            "keys.flatten(0, -3).repeat(query.shape[-3] // keys.shape[-3], 1, 1).view(*query.shape[:-2], *keys.shape[-2:])"
        )
    ],
    "groups-along-tokens": [
        repeated(
            "keys.repeat_interleave(query.shape[-3] // keys.shape[-3], dim=-2).reshape(*query.shape[:-2], *keys.shape[-2:])"
        )
    ],
    "groups-zeros": [repeated("F.pad(keys, (0, 0, 0, 0, 0, query.shape[-3] - keys.shape[-3]))")],
    "groups-clamped": [repeated("keys[..., torch.arange(query.shape[-3]).clamp(max=keys.shape[-3] - 1), :, :]")],
    "groups-shifted": [
        repeated(REPEATED.removeprefix("return ").replace("keys.repeat", "keys.roll(-1, dims=-3).repeat"))
    ],
    "groups-queries-averaged": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: "query = query if query.dim() == 2 else query.unflatten(-3, (key.shape[-3], -1)).mean(dim=-3)"
                f".repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)\n    {PRODUCTS}"
            },
        ),
    ],
}
