"""Mistakes in how a function behaves, whatever it computes."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import PRODUCTS

PLANTS = {
    "printed-not-returned": [
        Plant(
            "functional",
            {
                "return set_nan(explicit.weights(": "return print(explicit.weights(",
                "clean.scores, scale=scale), clean.lost_weights)": "clean.scores, scale=scale))",
            },
        ),
    ],
    "input-changed": [
        Plant("kernels/explicit", {PRODUCTS: PRODUCTS.replace("query * scale", "query.detach().mul_(scale)")}),
        Plant(
            "cache",
            {
                "if buffer is None and (room is None or room <= L):\n        return new.clone(memory_format=torch.contiguous_format), 0": "if buffer is None and (room is None or room <= L):\n        return new, 0"
            },
        ),
    ],
    "drawn-at-random": [
        Plant(
            "transformer/decoding",
            {"torch.multinomial(probabilities, 1, generator=generator)": "torch.multinomial(probabilities, 1)"},
        ),
        Plant(
            "kernels/blockwise",
            {
                "generator = torch.Generator().manual_seed(ctx.seed)": "generator = torch.Generator().manual_seed(ctx.seed + 1)"
            },
        ),
    ],
    "state-kept": [
        Plant(
            "multihead",
            {
                "self.attn = None  # the old ones": "pass  # the old ones",
                "self.attn = weights\n": "self.attn = weights if self.attn is None else self.attn\n",
            },
        ),
        Plant("masks", {"return FromTensor(tensor.clone())": "return FromTensor(tensor)"}),
    ],
}
