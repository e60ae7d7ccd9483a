"""Mistakes that no exercise can show, because they are about what only attnlib has: by their title."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import PRODUCTS, SOFTMAX

ADDED = "scores = scores + bias\n        if self.mask"

PLANTS = {
    "The scale that was asked for is ignored": [
        Plant(
            "functional",
            {
                "return scale if isinstance(scale, torch.SymFloat) else float(scale)": "return 1 / math.sqrt(query.shape[-1])"
            },
        ),
        Plant("multihead", {"self.scale = d_k**-0.5 if scale is None else float(scale)": "self.scale = d_k**-0.5"}),
    ],
    "The bias is multiplied with the scores": [Plant("scores", {ADDED: ADDED.replace("+", "*")})],
    "The bias is ignored": [
        Plant("scores", {ADDED: ADDED.replace(" + bias", "")}),
        Plant("kernels/fused", {"bias = scores.bias_among(dtype)": "bias = None"}),
        Plant("kernels/few_queries", {"added = added + bias.to(added.dtype)": "pass"}),
        Plant(
            "kernels/tiles",
            {"return bias.contiguous() if mask is None else torch.where(mask == -math.inf, mask, bias)": "return mask"},
        ),
    ],
    "The bias is scaled with the scores": [
        Plant("kernels/explicit", {PRODUCTS: "products = scores.masked(query @ keys.transpose(-2, -1)) * scale"}),
        Plant("kernels/fused", {"bias = bias.to(dtype)\n": "bias = bias.to(dtype) / query.shape[-1] ** 0.5\n"}),
    ],
    "A NaN in a masked value spreads: zero times NaN": [
        Plant(
            "kernels/quarantine",
            {
                "if readable and (are_finite(query) if scores.finite else are_finite(query, key, value)):": "if readable:"
            },
        ),
    ],
    "A query that may attend to nothing gets zeros, and a gradient of NaN": [
        Plant(
            "kernels/explicit",
            {
                "torch.softmax(products.masked_fill(nothing_open, 0), dim=-1).masked_fill(nothing_open, 0)": "torch.softmax(products, dim=-1).nan_to_num(0)"
            },
        ),
    ],
    "The heads share their scores, which are averaged over them": [
        Plant(
            "kernels/explicit",
            {PRODUCTS: f"{PRODUCTS}\n    products = products.mean(dim=-3, keepdim=True).expand_as(products)"},
        ),
    ],
    "The examples of a batch share their weights, which are averaged over them": [
        Plant(
            "kernels/explicit",
            {
                SOFTMAX: f"weights = {SOFTMAX.removeprefix('return ')}\n    return weights.mean(dim=0, keepdim=True).expand_as(weights)"
            },
        ),
    ],
    "The weights that are kept are those after dropout": [
        Plant(
            "kernels/explicit",
            {"return (output, exact) if exact.dtype": "exact = kept\n    return (output, exact) if exact.dtype"},
        ),
    ],
    "The weights that are kept are the mean of the heads": [
        Plant(
            "multihead",
            {"self.attn = weights\n": "self.attn = weights.mean(dim=-3)\n"},
        ),
    ],
    "A mask of keys (B, S) is taken for one of queries and keys (L, S)": [
        Plant("masks", {"Keys(real.bool())": "FromTensor(real.bool())"}),
    ],
}
