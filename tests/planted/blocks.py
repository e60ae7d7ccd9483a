"""Mistakes with a softmax that is taken one block of keys at a time."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant

START = "largest = queries.new_full(query.shape[:-1], -math.inf)"
LOOP = "for start in range(0, scores.shape[-1], block):"
COLUMNS = "columns = (start, min(start + block, scores.shape[-1]))"
ZERO = "total = queries.new_zeros(query.shape[:-1])"
POWERS = "powers = torch.exp(some - base.unsqueeze(-1))"
LARGEST = "before, largest = largest, torch.maximum(largest, some.detach().amax(-1))"
SHRINK = "shrink = torch.exp(before - base)"
TOTAL = "total = total * shrink + powers.sum(-1)"
SUMMED = "summed = summed * shrink.unsqueeze(-1) + kept @ value[..., slice(*columns), :].to(wide)"
MORE = "kept @ value[..., slice(*columns), :].to(wide)"
OUTPUT = "output = summed / total.unsqueeze(-1)"
SCALED = "queries = query.to(wide) * scale"
SHARES = "shares = (powers / total).unsqueeze(-1)"
LARGEST_OF_PARTS = "largest = each.detach().amax(0)\n"
POWERS_OF_PARTS = "powers = torch.exp(each - largest)"


def online(edits: dict[str, str]) -> Plant:
    return Plant("kernels/online", edits)


PLANTS = {
    "online-sum-kept": [online({TOTAL: "total = total + powers.sum(-1)"})],
    "online-output-kept": [online({SUMMED: f"summed = summed + {MORE}"})],
    "online-nothing-scaled": [
        online({TOTAL: "total = total + powers.sum(-1)", SUMMED: f"summed = summed + {MORE}"}),
        online({POWERS_OF_PARTS: "powers = torch.exp(each - largest) ** 0"}),
    ],
    "online-factor-inverted": [
        online({SHRINK: "shrink = torch.exp(base - before).masked_fill(before == -math.inf, 0)"}),
        online({POWERS_OF_PARTS: "powers = torch.exp(largest - each)"}),
    ],
    "online-factor-everywhere": [
        online(
            {
                TOTAL: "total = (total + powers.sum(-1)) * shrink",
                SUMMED: f"summed = (summed + {MORE}) * shrink.unsqueeze(-1)",
            }
        ),
        online({TOTAL: "total = (total + powers.sum(-1)) * shrink.masked_fill(before == -math.inf, 1)"}),
    ],
    "online-block-maximum": [
        online({LARGEST: LARGEST.replace("torch.maximum(largest, some.detach().amax(-1))", "some.detach().amax(-1)")})
    ],
    "online-from-zero": [online({START: "largest = queries.new_zeros(query.shape[:-1])"})],
    "online-no-maximum": [
        online({LARGEST: "before = largest = torch.zeros_like(largest)"}),
        online({LARGEST_OF_PARTS: "largest = torch.zeros_like(each[0])\n"}),
    ],
    "online-one-maximum": [
        online({LARGEST: LARGEST.replace("amax(-1)", "amax()")}),
        online({LARGEST_OF_PARTS: "largest = each.detach().amax()\n"}),
    ],
    "online-last-block": [online({LOOP: "for start in range(0, scores.shape[-1] // block * block, block):"})],
    "online-one-block": [online({LOOP: "for start in range(0, min(block, scores.shape[-1]), block):"})],
    "online-not-divided": [online({OUTPUT: "output = summed"}), online({SHARES: "shares = powers.unsqueeze(-1)"})],
    "online-mean-of-blocks": [online({SHARES: "shares = torch.full_like(powers, 1 / len(parts)).unsqueeze(-1)"})],
    "online-divided-early": [
        online({SUMMED: f"summed = (summed * shrink.unsqueeze(-1) + {MORE}) / total.unsqueeze(-1)"})
    ],
    "online-not-summed": [
        online({TOTAL: "total = powers.sum(-1)", SUMMED: f"summed = {MORE}"}),
    ],
    "online-last-sum": [online({TOTAL: "total = powers.sum(-1)"})],
    "online-last-output": [online({SUMMED: f"summed = {MORE}"})],
    "online-overlap": [online({COLUMNS: COLUMNS.replace("block,", "block + 1,")})],
    "online-gap": [online({LOOP: LOOP.replace(", block)", ", block + 1)")})],
    "online-extra-column": [
        online({START: "largest = queries.new_zeros(query.shape[:-1])", ZERO: ZERO.replace("zeros", "ones")})
    ],
    "online-weighed-by-maxima": [
        online(
            {
                TOTAL: "total = total * shrink + torch.exp(some.amax(-1) - base)",
                SUMMED: "summed = summed * shrink.unsqueeze(-1) + torch.exp(some.amax(-1, keepdim=True) - base.unsqueeze(-1)) * "
                "(torch.softmax(some, dim=-1) @ value[..., slice(*columns), :].to(wide))",
            }
        )
    ],
    "online-factor-twice": [online({SHRINK: "shrink = torch.exp(2 * (before - base))"})],
    "online-block-powers": [online({POWERS: "powers = torch.exp(some - some.amax(-1, keepdim=True))"})],
    "online-previous-maximum": [
        online({POWERS: "powers = torch.exp(some - torch.where(before.isinf(), base, before).unsqueeze(-1))"})
    ],
    "online-scaled": [
        online({SCALED: "queries = query.to(wide) * scale / math.sqrt(query.shape[-1])"}),
        Plant(
            "kernels/blockwise",
            {
                "out, lse = flash_cpu.forward(queries, keys, values, additive_mask, scale)": "out, lse = flash_cpu.forward(queries, keys, values, additive_mask, scale / math.sqrt(query.shape[-1]))"
            },
        ),
    ],
    "online-wrong-columns": [
        online({SUMMED: SUMMED.replace("slice(*columns)", ": columns[1] - columns[0]")}),
        Plant(
            "kernels/blockwise",
            {
                "tensors = query[queries], _at(key, queries[0], keys), _at(value, queries[0], keys)": "tensors = query[queries], _at(key, queries[0], keys), _at(value, queries[0], keys[::-1])"
            },
        ),
    ],
}
