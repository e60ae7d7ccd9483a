"""Mistakes with positions: rotary, and sines and cosines."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant
from tests.planted.scores import RETURNED

PARTED = 'a, b = x.chunk(2, dim=-1) if layout == "half-split"'
JOINED = 'return torch.cat([a, b], dim=-1) if layout == "half-split"'
SIGNED = 'np.concatenate(halves) if turns.layout == "half-split"'
HALVES = "halves = [-speeds, speeds]"
SIGNS = "_join_pairs(-sin, sin, turns.layout)"
TURNED = "return torch.addcmul(precise * cos, _join_pairs(b, a, self.layout), sin).to(x.dtype)"
TABLES = "cos, sin = _remembered_tables(turns, offset, x.shape[-2], dtype)"
RANGE = "places = _range(offset, x.shape[-2], x.device) if positions is None else _beside(positions, x)"
REMEMBERED = "return (turns.factor * np.cos(angles)).astype(dtype), (turns.factor * np.sin(angles)).astype(dtype)"
TRIG = "for x in (angles.cos(), angles.sin())"
KEYS = "keys = self._turned(keys, where)"
QUERIES = "queries = self._turned(queries, where)"
BOTH = "torch.addcmul(precise * cos, _join_pairs(b, a, self.layout), sin)"
PAIRED = "a, b = _split_pairs(precise, self.layout)"
ANGLES = "[..., None] * speeds"
OUTER = "angles = np.outer(np.arange(start, start + length) / turns.stretch, signed)"
SPEEDS = "base ** (-pairs / len(pairs))"
SPEEDS_ON = "self.base ** (-pairs / pairs.shape[0])"
SPEEDS_OF_SINUSOIDS = "base ** (-pairs / d_model)"
JOINED_SINUSOIDS = '_join_pairs(angles.sin(), angles.cos(), "interleaved")'
PLACES = "places = _range(offset, length, device)"
ENCODING = "return encoding.to(device, dtype or torch.get_default_dtype())"


def turned(wrong: str) -> Plant:
    return Plant("positions", {TURNED: f"return {wrong}.to(x.dtype)"})


def halves(of_numpy: str, of_torch: str) -> list[Plant]:
    """The signs of the sines: in the tables that are remembered, and in those that torch makes."""
    return [Plant("positions", {HALVES: f"halves = {of_numpy}"}), Plant("positions", {SIGNS: of_torch})]


def speeds(of_rotary: str, of_torch: str, of_sinusoids: str) -> list[Plant]:
    """How fast pairs turn: rotary ones, the same where torch computes them, and sinusoids."""
    edits = {SPEEDS: of_rotary, SPEEDS_ON: of_torch, SPEEDS_OF_SINUSOIDS: of_sinusoids}
    return [Plant("positions", {right: wrong}) for right, wrong in edits.items()]


def sinusoids(wrong: str) -> list[Plant]:
    return [Plant("positions", {JOINED_SINUSOIDS: f"_join_pairs({wrong})"})]


PLANTS = {
    "rotary-neighbours": [Plant("positions", {each: each.replace("==", "!=") for each in (PARTED, JOINED, SIGNED)})],
    "rotary-mixed": [
        Plant("positions", {PARTED: PARTED.replace("==", "!=")}),
        Plant("positions", {JOINED: JOINED.replace("==", "!=")}),
        Plant("positions", {SIGNED: SIGNED.replace("==", "!=")}),
    ],
    "rotary-on-values": [Plant("multihead", {KEYS: f"{KEYS}\n            values = self._turned(values, where)"})],
    "rotary-one-side": [Plant("multihead", {KEYS: "keys = keys"}), Plant("multihead", {QUERIES: "queries = queries"})],
    "rotary-missing": [
        Plant("multihead", {"if self.rotary is None:\n            return heads": "if True:\n            return heads"}),
        turned("precise"),
    ],
    "rotary-offset": [
        Plant("positions", {TABLES: TABLES.replace("offset", "0")}),
        Plant("positions", {TABLES: TABLES.replace("offset", "-offset")}),
        Plant("positions", {RANGE: RANGE.replace("offset", "0")}),
        Plant(
            "positions",
            {
                "_remembered_tables(turns, first, last - first + 1, dtype)": "_remembered_tables(turns, 0, last - first + 1, dtype)"
            },
        ),
    ],
    "rotary-from-one": [
        Plant("positions", {TABLES: TABLES.replace("offset", "offset + 1")}),
        Plant("positions", {RANGE: RANGE.replace("offset", "offset + 1")}),
    ],
    "rotary-backwards": halves("[speeds, -speeds]", "_join_pairs(sin, -sin, turns.layout)"),
    "rotary-no-minus": halves("[speeds, speeds]", "_join_pairs(sin, sin, turns.layout)"),
    "rotary-sine-cosine": [
        Plant(
            "positions",
            {REMEMBERED: REMEMBERED.replace("np.cos", "np.x").replace("np.sin", "np.cos").replace("np.x", "np.sin")},
        ),
        Plant("positions", {TRIG: "for x in (angles.sin(), angles.cos())"}),
    ],
    "rotary-parts-exchanged": [
        turned("torch.addcmul(precise * cos, _join_pairs(b, a, self.layout), sin).roll(x.shape[-1] // 2, dims=-1)")
    ],
    "rotary-added": [turned("(precise + sin)")],
    "rotary-axis": [
        Plant(
            "positions",
            {
                TABLES: TABLES.replace("-2", "-3"),
                "return torch.from_numpy(cos), torch.from_numpy(sin)": "return torch.from_numpy(cos)[:, None], torch.from_numpy(sin)[:, None]",
            },
        ),
    ],
    "frequency-exponent": speeds(
        "base ** (-pairs / len(pairs) / 2)",
        "self.base ** (-pairs / pairs.shape[0] / 2)",
        "base ** (-pairs / d_model / 2)",
    ),
    "frequency-sign": speeds(
        "base ** (pairs / len(pairs))", "self.base ** (pairs / pairs.shape[0])", "base ** (pairs / d_model)"
    ),
    "frequency-one": speeds("base ** (-pairs * 0)", "self.base ** (-pairs * 0)", "base ** (-pairs * 0)"),
    "frequency-base": speeds(
        "(base / 10) ** (-pairs / len(pairs))",
        "(self.base / 10) ** (-pairs / pairs.shape[0])",
        "(base / 10) ** (-pairs / d_model)",
    ),
    "frequency-division": speeds(
        "1 / (base * (pairs + 1) / len(pairs))",
        "1 / (self.base * (pairs + 1) / pairs.shape[0])",
        "1 / (base * pairs / d_model)",
    ),
    "angle-in-degrees": [
        Plant("positions", {ANGLES: f"{ANGLES}.deg2rad()"}),
        Plant("positions", {OUTER: f"{OUTER} * np.pi / 180"}),
    ],
    "sinusoidal-halves": sinusoids('angles.sin(), angles.cos(), "half-split"'),
    "sinusoidal-exchanged": sinusoids('angles.cos(), angles.sin(), "interleaved"'),
    "sinusoidal-own-frequency": sinusoids(
        'angles.sin(), _angles(places, base ** (-(pairs + 1) / d_model)).cos(), "interleaved"'
    ),
    "sinusoidal-sines-only": sinusoids('angles.sin(), angles.sin(), "interleaved"'),
    "sinusoidal-from-one": [Plant("positions", {PLACES: PLACES.replace("offset", "offset + 1")})],
    "sinusoidal-transposed": [Plant("positions", {ENCODING: ENCODING.replace("encoding.", "encoding.mT.")})],
    "sinusoidal-scaled": [
        Plant("positions", {ENCODING: ENCODING.replace("encoding.", "encoding.mul(math.sqrt(d_model)).")}),
        Plant("positions", {PLACES: "places = _range(offset, length, device) / length"}),
    ],
    "rotary-in-place": [turned(BOTH.replace("(b, a", f"(b, _split_pairs({BOTH}, self.layout)[0]"))],
    "rotary-same-angle": [
        Plant(
            "positions",
            {
                "return torch.from_numpy(cos), torch.from_numpy(sin)": "return torch.from_numpy(cos[:1]), torch.from_numpy(sin[:1])"
            },
        ),
    ],
    "rotary-half": [turned(f"_join_pairs(_split_pairs({BOTH}, self.layout)[0], b, self.layout)")],
    "rotary-partial": [Plant("positions", {SPEEDS: f"{SPEEDS} * (pairs < len(pairs) // 2)"})],
    "rotary-one-term": [turned("(precise * cos)"), turned("(_join_pairs(b, a, self.layout) * sin)")],
    "rotary-without-half": [turned("torch.addcmul(precise * cos, precise, sin)")],
    "rotary-on-output": [
        Plant(
            "multihead",
            {QUERIES: "pass", KEYS: "pass", RETURNED: f"heads = self._turned(heads, 0)\n        {RETURNED}"},
        ),
    ],
    "rotary-key-backwards": [
        Plant("multihead", {KEYS: "keys = self._turned(keys.roll(self.d_k // 2, -1), where).roll(self.d_k // 2, -1)"})
    ],
    "rotary-different-places": [Plant("multihead", {KEYS: KEYS.replace("where", "where + 1")})],
    "rotary-places": [
        Plant("positions", {TABLES: TABLES.replace("offset", "offset + 2")}),
        Plant("positions", {RANGE: RANGE.replace("offset", "offset + 2")}),
    ],
    "rotary-own-frequency": [Plant("positions", {HALVES: "halves = [-speeds, speeds / 1e4]"})],
    "rotary-woven": [
        Plant(
            "positions",
            {
                PAIRED: 'a, b = _split_pairs(precise, "interleaved" if self.layout == "half-split" else "half-split")\n'
                "        precise = _join_pairs(a, b, self.layout)"
            },
        ),
    ],
    "rotary-mirrored": [
        Plant(
            "positions",
            {PAIRED: f"{PAIRED}\n        b = b.flip(-1)\n        precise = _join_pairs(a, b, self.layout)"},
        ),
    ],
    "positions-reversed": [
        Plant("positions", {OUTER: OUTER.replace("length)", "length)[::-1]")}),
        Plant("positions", {PLACES: f"{PLACES}.flip(0)"}),
    ],
    "angle-factor": speeds(f"2 * {SPEEDS}", f"2 * {SPEEDS_ON}", f"2 * {SPEEDS_OF_SINUSOIDS}"),
    "angle-whole": [
        Plant("positions", {ANGLES: "[..., None].mul(speeds).trunc()"}),
        Plant("positions", {OUTER: OUTER.replace("np.outer", "np.trunc(np.outer") + ")"}),
    ],
    "frequency-precedence": speeds(
        "2 * len(pairs) / base ** (2 * pairs)",
        "2 * pairs.shape[0] / self.base ** (2 * pairs)",
        "d_model / base**pairs",
    ),
    "frequency-linear": speeds("1 / (1 + pairs)", "1 / (1 + pairs)", "1 / (1 + pairs / 2)"),
    "sinusoidal-by-rows": [
        Plant(
            "positions",
            {
                JOINED_SINUSOIDS: "torch.where(places[..., None].to(angles.device) % 2 == 0, angles.sin(), angles.cos()).repeat_interleave(2, dim=-1)"
            },
        ),
    ],
    "sinusoidal-mixed": [
        Plant(
            "positions",
            {JOINED_SINUSOIDS: "torch.cat([angles.sin(), angles.cos()], dim=-2).reshape(*places.shape, -1)"},
        )
    ],
    "sinusoidal-sign": sinusoids('angles.sin(), -angles.cos(), "interleaved"'),
    "sinusoidal-not-waves": sinusoids('angles, angles, "interleaved"'),
}
