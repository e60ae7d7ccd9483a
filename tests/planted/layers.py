"""Mistakes with layers: their norms, their sums, and the order and number of their parts."""

from tests.planted.plant import Plant

POST = "return self.norm(x + self.dropout(sublayer(x)))"
PRE = "return x + self.dropout(sublayer(self.norm(x)))"
ENCODER = "x = self.attention_residual(x, attend)\n        return self.feed_forward_residual(x, self.feed_forward)"
SELF = "x = self.self_attention_residual(x, attend)\n"
CROSS = (
    "x = self.cross_attention_residual(x, lambda x: self.cross_attention(x, memory, mask=cross, cache=remembered))\n"
)
NET = "return self.feed_forward_residual(x, self.feed_forward)\n\n    def remember"
ATTEND = "attend = partial(self.self_attention, mask=own"
ASKED = "self.cross_attention(x, memory, mask=cross, cache=remembered)"
CROSS_SCORES = "cross = self._source_scores(source_mask, target, source.shape[-1])"
LAST = "return norm(layer.self_attention.d_model) if residual.norm_first else nn.Identity()"


def residual(post: str = "", pre: str = "") -> list[Plant]:
    """What stands in the place of norm(x + S) of a part that says S, and of x + S under pre-norm."""
    says = {
        POST: ("return " + post.replace("S", "self.dropout(sublayer(x))").replace("N(", "self.norm(")) if post else "",
        PRE: ("return " + pre.replace("S", "self.dropout(sublayer(self.norm(x)))").replace("N(", "self.norm("))
        if pre
        else "",
    }
    return [Plant("transformer/layers", {right: wrong}) for right, wrong in says.items() if wrong]


def encoder(*lines: str) -> Plant:
    """The steps of an encoder's layer."""
    return Plant("transformer/layers", {ENCODER: "\n        ".join(lines)})


def decoder(edits: dict[str, str]) -> Plant:
    """The steps of a decoder's layer."""
    return Plant("transformer/layers", edits)


PLANTS = {
    "norm-first": [
        Plant("transformer/layers", {POST: "y = x + self.dropout(sublayer(self.norm(x)))\n        return y"})
    ],
    "norm-before-sum": residual("x + N(S)"),
    "norm-on-road": residual("N(N(x) + S)", "N(x) + S"),
    "residual-missing": residual("N(S)", "S"),
    "residual-twice": residual("N(2 * x + S)", "2 * x + S"),
    "residual-multiplied": residual("N(x * S)", "x - S"),
    "layer-norm-missing": [
        *residual("x + S"),
        Plant("transformer/layers", {PRE: "return x + self.dropout(sublayer(x))"}),
        Plant("transformer/model", {LAST: "return nn.Identity()"}),
    ],
    "residual-from-the-start": [
        encoder(
            "gathered = self.attention_residual(x, attend)",
            "return self.feed_forward_residual(x, lambda _: self.feed_forward(gathered))",
        ),
    ],
    "layer-in-parallel": [
        encoder(
            "gathered = self.attention_residual(x, attend)",
            "return self.feed_forward_residual(gathered, lambda _: self.feed_forward(x))",
        ),
    ],
    "layer-one-norm": [
        encoder(
            "x = self.attention_residual(x, attend)",
            "return self.attention_residual(x, self.feed_forward)",
        ),
        decoder({NET: NET.replace("feed_forward_residual", "cross_attention_residual")}),
    ],
    "layer-norms-exchanged": [
        encoder(
            "x = self.feed_forward_residual(x, attend)",
            "return self.attention_residual(x, self.feed_forward)",
        ),
        decoder(
            {
                SELF: SELF.replace("self_attention_residual", "cross_attention_residual"),
                CROSS: CROSS.replace("cross_attention_residual", "self_attention_residual"),
            }
        ),
    ],
    "layer-order": [
        encoder(
            "x = self.feed_forward_residual(x, self.feed_forward)",
            "return self.attention_residual(x, attend)",
        ),
        decoder({SELF + "        " + CROSS: CROSS + "        " + SELF}),
    ],
    "layer-part-missing": [
        encoder("return self.feed_forward_residual(x, self.feed_forward)"),
        encoder("return self.attention_residual(x, attend)"),
        decoder({SELF: "pass\n"}),
        decoder({NET: NET.replace("self.feed_forward_residual(x, self.feed_forward)", "x")}),
    ],
    "layer-part-twice": [
        encoder(
            "x = self.attention_residual(x, attend)",
            "return self.feed_forward_residual(x, lambda x: self.feed_forward(self.feed_forward(x)))",
        ),
        encoder(
            "x = self.attention_residual(self.attention_residual(x, attend), attend)",
            "return self.feed_forward_residual(x, self.feed_forward)",
        ),
    ],
    "cross-missing": [decoder({CROSS: "pass\n"}), decoder({ASKED: "self.cross_attention(x, x)"})],
    "cross-exchanged": [decoder({ASKED: "self.cross_attention(memory, x)"})],
    "cross-values-from-text": [decoder({ASKED: "self.cross_attention(x, memory, x, mask=cross)"})],
    "cross-causal": [
        decoder({ASKED: ASKED.replace("mask=cross", "mask=own")}),
        Plant(
            "transformer/model",
            {CROSS_SCORES: 'cross = self._scores("source_mask", causal(), target, source.shape[-1])'},
        ),
    ],
    "parts-exchanged": [
        decoder(
            {
                ATTEND: ATTEND.replace("self.self", "self.cross"),
                ASKED: ASKED.replace("cross_attention", "self_attention"),
            }
        ),
        decoder({ASKED: ASKED.replace("cross_attention", "self_attention")}),
    ],
    "memory-normed": [
        decoder(
            {
                ASKED: ASKED.replace(
                    "memory,", "memory if memory is None else self.cross_attention_residual.norm(memory),"
                )
            }
        ),
    ],
    "cross-from-input": [
        decoder({SELF: f"came = x\n        {SELF}", ASKED: ASKED.replace("(x,", "(came,")}),
    ],
    "norm-twice": residual("N(N(x + S))", "N(x + S)"),
    "layer-last-norm-only": [
        encoder(
            "x = x + self.attention_residual.dropout(attend(x))",
            "return self.feed_forward_residual(x, self.feed_forward)",
        ),
    ],
    "layer-reads-part": [
        encoder(
            "said = attend(x)",
            "x = self.attention_residual(x, lambda _: said)",
            "return self.feed_forward_residual(x, lambda _: self.feed_forward(said))",
        ),
    ],
    "self-from-memory": [decoder({SELF: SELF.replace("attend", "lambda x: self.self_attention(x, memory)")})],
    "cross-residual-memory": [decoder({CROSS: CROSS.replace("residual(x,", "residual(x + memory,")})],
    "cross-memory-alone": [decoder({ASKED: ASKED.replace("(x,", "(memory,")})],
    "decoder-inputs-exchanged": [decoder({SELF: f"x, memory = memory, x\n        {SELF}"})],
}
