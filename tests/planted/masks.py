"""Mistakes with masks: how they are used, how they are made, and rows that they close whole."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import PRODUCTS, SOFTMAX

CLOSED = "closed = ~self.allowed(columns=columns)"
FILLED = "scores = (scores.masked_fill_ if in_place else scores.masked_fill)(closed, -math.inf)"
OF_ONE_QUERY = "torch.where(scores.allowed(), 0.0, -math.inf)"
IN_A_TILE = "part = torch.where(allowed, self._zero, self._closed)"
BESIDE_A_BIAS = "bias.masked_fill(~allowed, -math.inf)"
CAUSAL = "return k <= q"
RUNS_OF_CAUSAL = "(0, first + 1, True), (first + 1, last + 1, mask)"
RUNS = """def _(mask: {}, L: int, S: int) -> RunsOfQueries:
    def runs(start: int, stop: int) -> Runs:
        first, last = start + S - L, stop - 1 + S - L"""
PADDING = "return k < (lengths[0] if lengths.shape[0] == 1 else lengths[b])"
KEYS_OF_PADDING = "return self.allows(b, h, k, k)"
RUNS_OF_PADDING = "shortest, longest = min(lengths, default=0), max(lengths, default=0)"
WINDOW = "return (q - k < self.size) & (k - q <= self.ahead)"
MADE = "SlidingWindow(size, size - 1 if ahead is None"
SOFTMAX_OF_OPEN = "torch.softmax(products.masked_fill(nothing_open, 0), dim=-1).masked_fill(nothing_open, 0)"
TOTAL = "nothing, total = total == 0, total.masked_fill(total == 0, 1)"


def filled(wrong: str, *, of_one_query: str = "", in_a_tile: str = "", beside_a_bias: str = "") -> list[Plant]:
    """What is written into closed scores, or added to them: in each kernel that does it."""
    plants = [Plant("scores", {FILLED: f"scores = {wrong}"})]
    if of_one_query:
        plants.append(Plant("kernels/few_queries", {OF_ONE_QUERY: of_one_query}))
    if in_a_tile:
        plants.append(Plant("kernels/tiles", {IN_A_TILE: f"part = {in_a_tile}"}))
    if beside_a_bias:
        plants.append(Plant("kernels/fused", {BESIDE_A_BIAS: beside_a_bias}))
    return plants


def closed(wrong: str) -> Plant:
    return Plant("scores", {CLOSED: f"closed = {wrong}"})


def causal(wrong: str) -> Plant:
    return Plant("masks", {CAUSAL: f"return {wrong}"})


def runs_of_causal(wrong: str) -> Plant:
    """What the blockwise kernel takes for the runs of a causal mask."""
    return Plant("kernels/runs", {RUNS_OF_CAUSAL: wrong})


def padded(wrong: str) -> Plant:
    return Plant("masks", {PADDING: f"return {wrong}"})


def window(wrong: str) -> Plant:
    return Plant("masks", {WINDOW: f"return {wrong}"})


def made(size: str, ahead: str) -> Plant:
    return Plant("masks", {MADE: f"SlidingWindow({size}, {ahead} if ahead is None"})


USED = {
    "mask-inverted": [
        closed("self.allowed(columns=columns)"),
        *filled(
            "scores.masked_fill(~closed, -math.inf)",
            of_one_query="torch.where(scores.allowed(), -math.inf, 0.0)",
            in_a_tile="torch.where(allowed, self._closed, self._zero)",
            beside_a_bias="bias.masked_fill(allowed, -math.inf)",
        )[1:],
        Plant(
            "masks",
            {
                "return ~self.mask._among(b, h, sizes, rows, columns)": "return self.mask._among(b, h, sizes, rows, columns)"
            },
        ),
    ],
    "mask-ignored": [
        *filled("scores", of_one_query="torch.zeros(())", beside_a_bias="bias"),
        Plant("kernels/fused", {"allowed = None if scores.mask is None else scores.allowed()": "allowed = None"}),
        Plant("kernels/tiles", {"mask = self._closed_pairs(rows, tile) if tile.partial else None": "mask = None"}),
        Plant("kernels/online", {"some = scores.masked(": "some = scores._replace(mask=None).masked("}),
    ],
    "mask-after-softmax": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: PRODUCTS.replace("scores.masked", "scores._replace(mask=None).masked"),
                SOFTMAX: f"{SOFTMAX} * (1 if scores.mask is None else scores.allowed())",
            },
        ),
    ],
    "mask-after-renormalised": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: PRODUCTS.replace("scores.masked", "scores._replace(mask=None).masked"),
                SOFTMAX: f"kept = {SOFTMAX.removeprefix('return ')} * (1 if scores.mask is None else scores.allowed())\n"
                "    return kept / kept.sum(dim=-1, keepdim=True).clamp(min=1e-30)",
            },
        ),
    ],
    "mask-in-sum-only": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: PRODUCTS.replace("scores.masked", "scores._replace(mask=None).masked"),
                SOFTMAX: "powers = (products - products.amax(dim=-1, keepdim=True)).exp()\n"
                "    return powers / (powers * (1 if scores.mask is None else scores.allowed())).sum(dim=-1, keepdim=True)",
            },
        ),
    ],
    "mask-rows-only": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: PRODUCTS.replace("scores.masked", "scores._replace(mask=None).masked"),
                SOFTMAX: f"{SOFTMAX} * (1 if scores.mask is None else scores.allowed().any(dim=-1, keepdim=True))",
            },
        ),
    ],
    "mask-one-row": [closed("~self.allowed(columns=columns)[..., :1, :]")],
    "mask-added": filled(
        "scores + (~closed).to(scores.dtype)",
        of_one_query="scores.allowed()",
        in_a_tile="allowed.to(self._zero.dtype)",
        beside_a_bias="bias + allowed",
    ),
    "mask-zero-score": filled(
        "scores.masked_fill(closed, 0)",
        of_one_query="torch.where(scores.allowed(), 0.0, -products.view(*query.shape[:-1], S))",
        beside_a_bias="bias.masked_fill(~allowed, 0)",
    ),
    "mask-times-infinity": filled(
        "scores + closed * -math.inf",
        in_a_tile="~allowed * self._closed",
        beside_a_bias="bias + ~allowed * -math.inf",
    ),
    "mask-sign": filled(
        "scores.masked_fill(closed, 1e9)",
        of_one_query="torch.where(scores.allowed(), 0.0, 1e9)",
        in_a_tile="torch.where(allowed, self._zero, -self._closed)",
        beside_a_bias="bias.masked_fill(~allowed, 1e9)",
    ),
    "mask-transposed": [
        closed("~self.allowed(columns=columns).mT"),
        Plant("masks", {"return tensor.to(b.device)": "return tensor.to(b.device).mT"}),
    ],
    "mask-on-rows": [closed("~self.allowed(columns=columns).all(dim=-1, keepdim=True)")],
    "causal-always": [
        Plant(
            "kernels/explicit",
            {
                PRODUCTS: f"{PRODUCTS}\n    past = torch.ones_like(products[..., :, :], dtype=torch.bool)"
                ".tril(products.shape[-1] - products.shape[-2])\n"
                '    products = products.masked_fill(~past, float("-inf"))'
            },
        ),
        Plant(
            "kernels/fused", {"attn_mask, is_causal = None, False": "attn_mask, is_causal = None, scores.mask is None"}
        ),
    ],
    "self-hidden": [
        causal("k < q"),
        window("(q - k < self.size) & (k - q <= self.ahead) & (q != k)"),
        runs_of_causal("(0, first, True), (first, last, mask)"),
    ],
}

MADE_WRONG = {
    "causal-top-left": [
        Plant(
            "masks", {"q = torch.arange(rows[0] + offset, rows[1] + offset, device": "q = torch.arange(*rows, device"}
        ),
        Plant("kernels/fused", {"scores.is_causal and _decided(L == S)": "scores.is_causal"}),
        Plant("kernels/runs", {RUNS.format("Causal"): RUNS.format("Causal").replace(" + S - L", "")}),
        Plant("kernels/quarantine", {"seen[..., max(S - L, 0) :, :]": "seen[..., :L, :]"}),
    ],
    "causal-alignment": [
        Plant("masks", {"offset, shape = sizes[1] - sizes[0]": "offset, shape = sizes[0] - sizes[1]"}),
        Plant("masks", {"offset, shape = sizes[1] - sizes[0]": "offset, shape = max(sizes[1] - sizes[0], 0)"}),
        Plant("kernels/runs", {RUNS.format("SlidingWindow"): RUNS.format("SlidingWindow").replace("S - L", "L - S")}),
    ],
    "causal-future": [causal("k >= q")],
    "causal-one-ahead": [causal("k <= q + 1"), runs_of_causal("(0, first + 2, True), (first + 2, last + 1, mask)")],
    "causal-cached-closed": [
        causal("(k <= q) & (k >= q.min())"),
        runs_of_causal("(S - L, first + 1, True), (first + 1, last + 1, mask)"),
    ],
    "causal-rest-open": [causal("(k <= q - q.min()) | (k > q.max() - q.min())")],
    "causal-mirrored": [causal("k.max() - k <= q")],
    "causal-window": [causal("(k <= q) & (k >= q - 1)")],
    "causal-too-far": [causal("k <= q + 2")],
    "mask-all-closed": [causal("k < q * 0"), padded("k < 0 * lengths.sum()")],
    "mask-shape": [
        Plant("masks", {"return (self.lengths.shape[0], 1, 1, S)": "return (self.lengths.shape[0], 1, S, 1)"}),
        Plant("masks", {"return (self.lengths.shape[0], 1, 1, S)": "return (self.lengths.shape[0], S)"}),
        Plant("masks", {".expand(shape)\n": ".expand(shape).mT\n"}),
    ],
    "mask-not-bool": [
        Plant("masks", {".expand(shape)\n": ".expand(shape).float()\n"}),
        Plant(
            "masks", {"if tensor.dtype != torch.bool:\n        way": "if tensor.dtype == torch.complex64:\n        way"}
        ),
    ],
    "mask-diagonal": [causal("k == q"), window("k == q")],
    "padding-one-more": [
        padded("k <= (lengths[0] if lengths.shape[0] == 1 else lengths[b])"),
        Plant("kernels/runs", {RUNS_OF_PADDING: "shortest, longest = min(lengths) + 1, max(lengths)"}),
    ],
    "padding-one-less": [
        padded("k + 1 < (lengths[0] if lengths.shape[0] == 1 else lengths[b])"),
        Plant("kernels/runs", {RUNS_OF_PADDING: "shortest, longest = min(lengths) - 1, max(lengths) - 1"}),
    ],
    "padding-left": [
        Plant("masks", {KEYS_OF_PADDING: "return self.allows(b, h, k, sizes[1] - 1 - k)"}),
        Plant(
            "transformer/language_model",
            {"mask = ~padding(self.missing)": "mask = padding(tokens.shape[1] - self.missing)"},
        ),
    ],
    "padding-rows": [
        Plant(
            "masks",
            {
                "k = torch.arange(*columns, device=b.device)  # by itself": "k = torch.arange(*rows, device=b.device)[:, None]  # by itself",
            },
        ),
    ],
    "padding-one-for-all": [
        padded("k < lengths[0]"),
        Plant(
            "kernels/runs",
            {"Padding(mask.lengths[b : b + 1], mask.longest)": "Padding(mask.lengths[:1], mask.longest)"},
        ),
    ],
    "padding-transposed": [
        Plant("masks", {"return (self.lengths.shape[0], 1, 1, S)": "return (S, 1, 1, self.lengths.shape[0])"}),
        Plant("masks", {"else real[b, k]": "else real.flatten().view(real.mT.shape).mT[b, k]"}),
    ],
    "padding-never-empty": [
        padded("k < (lengths[0] if lengths.shape[0] == 1 else lengths[b]).clamp(min=1)"),
        Plant("kernels/runs", {"lengths = mask.lengths.tolist()": "lengths = mask.lengths.clamp(min=1).tolist()"}),
    ],
    "padding-full-closed": [
        Plant(
            "masks", {KEYS_OF_PADDING: f"{KEYS_OF_PADDING} & (self.lengths.view(-1, 1, 1, 1).to(k.device) < sizes[1])"}
        ),
    ],
    "padding-one-place": [padded("k + 1 == (lengths[0] if lengths.shape[0] == 1 else lengths[b])")],
    "padding-order": [padded("k < (lengths[0] if lengths.shape[0] == 1 else lengths.sort().values[b])")],
    "padding-packed": [padded("k < (lengths[0] if lengths.shape[0] == 1 else lengths.cumsum(0)[b])")],
    "padding-counts": [Plant("masks", {KEYS_OF_PADDING: "return ~self.allows(b, h, k, sizes[1] - 1 - k)"})],
    "padding-nonzero": [padded("0 * k < (lengths[0] if lengths.shape[0] == 1 else lengths[b])")],
    "padding-causal": [
        Plant(
            "masks",
            {
                KEYS_OF_PADDING: f"q = torch.arange(*rows, device=b.device)[:, None] + sizes[1] - sizes[0]\n        {KEYS_OF_PADDING} & (k <= q)"
            },
        ),
    ],
    "window-one-more": [
        made("size + 1", "size"),
        Plant(
            "kernels/runs",
            {
                "begin, end = last - mask.size + 1, first + mask.ahead + 1": "begin, end = last - mask.size, first + mask.ahead + 2"
            },
        ),
        Plant("cache", {"min(self._kept, self.window - 1)": "min(self._kept, self.window)"}),
    ],
    "window-one-less": [
        made("size - 1", "size - 2"),
        Plant("cache", {"min(self._kept, self.window - 1)": "min(self._kept, max(self.window - 2, 0))"}),
    ],
    "window-half": [made("size // 2 + 1", "size // 2")],
    "window-back-only": [made("size", "0")],
    "window-no-abs": [window("q - k < self.size"), window("k - q <= self.ahead")],
    "window-ahead-only": [window("(q <= k) & (k - q <= self.ahead)")],
    "window-edge": [window("(q - k == self.size - 1) | (k - q == self.ahead)")],
    "window-wraps": [window("(q - k < self.size) & (k - q <= self.ahead) | (k.max() + 1 - (q - k).abs() < self.size)")],
    "window-double": [made("2 * size", "2 * size - 1")],
    "window-lopsided": [made("size", "max(size - 2, 0)")],
    "window-pushed-inwards": [
        window(
            "(k >= (q - self.size + 1).clamp(min=0)) & (k <= (q - self.size + 1).clamp(min=0) + self.size - 1 + self.ahead)"
        )
    ],
    "window-negative-start": [window("(q - k < self.size) & (k - q <= self.ahead) & (q >= self.size - 1)")],
    "window-missing": [window("k <= q")],
    "window-strided": [window("(q - k) % self.size == 0")],
    "window-blocks": [window("(q // self.size == k // self.size) & (k - q <= self.ahead)")],
}

EMPTY_ROWS = {
    "mask-finite": [
        *filled(
            "scores.masked_fill(closed, -1e9)",
            of_one_query="torch.where(scores.allowed(), 0.0, -1e9)",
            in_a_tile="torch.where(allowed, self._zero, self._zero - 1e9)",
            beside_a_bias="bias.masked_fill(~allowed, -1e9)",
        ),
        *filled(
            "scores.masked_fill(closed, -10)",
            of_one_query="torch.where(scores.allowed(), 0.0, -10.0)",
            in_a_tile="torch.where(allowed, self._zero, self._zero - 10)",
        ),
    ],
    "empty-row-nan": [
        Plant("kernels/explicit", {"if some_closed and products.shape[-1]:": "if False:"}),
        Plant(
            "kernels/few_queries", {"if are_finite(products, output) else None": "if are_finite(products) else None"}
        ),
        Plant("kernels/online", {TOTAL: "nothing = total == 0"}),
        Plant("kernels/online", {"total = total.masked_fill(nothing, 1)": "total = total * 1"}),
    ],
    "empty-row-uniform": [
        Plant("kernels/explicit", {SOFTMAX_OF_OPEN: "torch.softmax(products.masked_fill(nothing_open, 0), dim=-1)"}),
        Plant(
            "kernels/tiles",
            {
                "return side_by_side([part for part in parts if part.shape[-1]])": "mask = side_by_side([part for part in parts if part.shape[-1]])\n"
                "        return mask.masked_fill((mask == -math.inf).all(dim=-1, keepdim=True), 0)"
            },
        ),
    ],
    "empty-row-other": [
        Plant(
            "kernels/explicit",
            {
                SOFTMAX_OF_OPEN: SOFTMAX_OF_OPEN.replace("nothing_open, 0)", "nothing_open, 1)").replace(
                    "nothing_open, 1)", "nothing_open, 0)", 1
                )
            },
        ),
        Plant(
            "kernels/blockwise",
            {"return torch.zeros_like(rows).transpose(1, 2)": "return torch.ones_like(rows).transpose(1, 2)"},
        ),
    ],
}

PLANTS = USED | MADE_WRONG | EMPTY_ROWS
