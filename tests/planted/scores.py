"""Mistakes with the scores, their scale and what the weights average."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant

OF_FUNCTIONS = "return 1 / math.sqrt(query.shape[-1])"
OF_LAYERS = "self.scale = d_k**-0.5 if scale is None"
PRODUCTS = "products = scores.masked((query * scale) @ keys.transpose(-2, -1))"
SOFTMAX = "return softmax(products, some_closed=scores.mask is not None or scores.bias is not None)"
AVERAGE = "output = kept @ values.to(exact.dtype)"
FUSED = "query, key, value, attn_mask, dropout_p, is_causal, scale=scale"
OF_ONE_QUERY = "(query * scale).reshape(len(keys), -1, d_k)"
ONLINE = "queries = query.to(wide) * scale"
COMPUTED = "queries, keys, values, scores, scale=scale, dropout_p=dropout_p, need_weights=need_weights"
QUERIES = 'queries = _split(_projected(self.wq, query, "query"), self.d_k)'
KEYS = 'keys = _split(_projected(self.wk, key, "key"), self.d_k)'
VALUES = 'values = _split(_projected(self.wv, value, "value"), self.d_v)'
RETURNED = "return self.fc(heads.transpose(-3, -2).flatten(-2))"


def scaled(of_functions: str, of_layers: str) -> list[Plant]:
    """The scale of the functions, and that of the layers."""
    return [
        Plant("functional", {OF_FUNCTIONS: f"return {of_functions}"}),
        Plant("multihead", {OF_LAYERS: f"self.scale = {of_layers} if scale is None"}),
    ]


def compared(wrong: str) -> Plant:
    """What stands in the place of the scaled products of queries and keys."""
    return Plant("kernels/explicit", {PRODUCTS: f"products = scores.masked({wrong})"})


def averaged(wrong: str) -> Plant:
    return Plant("kernels/explicit", {AVERAGE: f"output = {wrong}"})


PLANTS = {
    "scale-missing": scaled("1.0", "1.0"),
    "scale-d_k": scaled("1 / query.shape[-1]", "1 / d_k"),
    "scale-d_model": scaled("1 / math.sqrt(math.prod(query.shape[-3:]) / query.shape[-2])", "d_model**-0.5"),
    "scale-inverted": scaled("math.sqrt(query.shape[-1])", "d_k**0.5"),
    "scale-other-size": scaled("1 / math.sqrt(query.shape[-2])", "d_v**-0.5"),
    "scale-power": scaled("query.shape[-1] ** -0.25", "d_k**-2"),
    "scale-after-softmax": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: "products = scores.masked(query @ keys.transpose(-2, -1))",
                SOFTMAX: f"{SOFTMAX} * scale",
            },
        ),
        Plant(
            "kernels/few_queries",
            {
                OF_ONE_QUERY: "query.reshape(len(keys), -1, d_k)",
                "torch.bmm(torch.softmax(added, dim=-1), values)": "torch.bmm(torch.softmax(added, dim=-1), values) * scale",
            },
        ),
        Plant("kernels/fused", {FUSED: "query, key, value * scale, attn_mask, dropout_p, is_causal, scale=1.0"}),
    ],
    "query-key-exchanged": [
        compared("(keys * scale) @ query.transpose(-2, -1)"),
        Plant("multihead", {QUERIES: QUERIES.replace("wq", "wk"), KEYS: KEYS.replace("wk", "wq")}),
    ],
    "key-value-exchanged": [
        Plant(
            "multihead",
            {
                KEYS: 'keys = _split(_projected(self.wv, key, "key"), self.d_v)',
                VALUES: 'values = _split(_projected(self.wk, value, "value"), self.d_k)',
            },
        ),
        Plant("kernels/fused", {FUSED: FUSED.replace("key, value", "value, key")}),
    ],
    "scores-from-values": [
        Plant("kernels/fused", {FUSED: FUSED.replace("key, value", "value, value")}),
        Plant("multihead", {COMPUTED: COMPUTED.replace("keys, values", "values, values")}),
    ],
    "scores-without-query": [
        compared("(keys * scale) @ keys.transpose(-2, -1)"),
        Plant("multihead", {COMPUTED: COMPUTED.replace("queries, keys", "keys, keys")}),
    ],
    "scores-without-key": [
        compared("(query * scale) @ query.transpose(-2, -1)"),
        Plant("multihead", {COMPUTED: COMPUTED.replace("queries, keys", "queries, queries")}),
    ],
    "scores-cosine": [compared("F.normalize(query, dim=-1) @ F.normalize(keys, dim=-1).transpose(-2, -1)")],
    "scores-distance": [compared("-torch.cdist(query, keys)")],
    "scores-negated": [
        compared("(-query * scale) @ keys.transpose(-2, -1)"),
        Plant("kernels/few_queries", {OF_ONE_QUERY: "(-query * scale).reshape(len(keys), -1, d_k)"}),
        Plant("kernels/fused", {FUSED: FUSED.replace("scale=scale", "scale=-scale")}),
        Plant("kernels/online", {ONLINE: "queries = query.to(wide) * -scale"}),
    ],
    "key-viewed": [
        compared("(query * scale) @ keys.reshape(*keys.shape[:-2], keys.shape[-1], keys.shape[-2])"),
        Plant(
            "kernels/few_queries",
            {f"torch.bmm({OF_ONE_QUERY}, keys.mT)": f"torch.bmm({OF_ONE_QUERY}, keys.reshape(-1, d_k, S))"},
        ),
    ],
    "weights-times-keys": [
        Plant(
            "kernels/explicit", {"query.dtype, for_each_head(value, query)": "query.dtype, for_each_head(key, query)"}
        ),
        Plant("kernels/fused", {FUSED: FUSED.replace("key, value", "key, key")}),
    ],
    "weights-times-queries": [
        averaged("kept @ query.to(exact.dtype)"),
        Plant("multihead", {COMPUTED: COMPUTED.replace("keys, values", "keys, queries")}),
    ],
    "weights-transposed": [averaged("kept.mT @ values.to(exact.dtype)")],
    "values-forgotten": [averaged("kept")],
    "weights-unused": [
        averaged("values.to(exact.dtype).mean(dim=-2, keepdim=True).expand(*kept.shape[:-1], -1)"),
        Plant("kernels/fused", {FUSED: FUSED.replace("query", "query * 0")}),
    ],
    "averaged-twice": [
        averaged("kept @ values.to(exact.dtype) / values.shape[-2]"),
        Plant(
            "kernels/few_queries",
            {"torch.bmm(torch.softmax(added, dim=-1), values)": "torch.bmm(torch.softmax(added, dim=-1), values) / S"},
        ),
    ],
    "residual-inside": [Plant("multihead", {RETURNED: f"{RETURNED} + query"})],
    "gradient-cut": [
        Plant("kernels/explicit", {"keys = for_each_head(key, query)": "keys = for_each_head(key, query).detach()"}),
        Plant("kernels/fused", {FUSED: FUSED.replace("value", "value.detach()")}),
        Plant(
            "kernels/online", {"kept = F.dropout(powers, dropout_p) if dropout_p else powers": "kept = powers.detach()"}
        ),
        Plant("multihead", {RETURNED: RETURNED.replace("heads.", "heads.detach().")}),
        Plant(
            "cache",
            {
                "torch.cat([buffer.narrow(-2, start, past), new]": "torch.cat([buffer.narrow(-2, start, past).detach(), new]"
            },
        ),
    ],
    "scores-added": [compared("((query * scale).unsqueeze(-2) + keys.unsqueeze(-3)).sum(dim=-1)")],
    "scores-bent": [compared("((query * scale) @ keys.transpose(-2, -1)).abs()")],
    "scale-other-factor": scaled("1 / math.sqrt(2 * query.shape[-1])", "(2 * d_k) ** -0.5"),
}
