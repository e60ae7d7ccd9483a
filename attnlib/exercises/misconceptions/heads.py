"""Heads: how they are split, merged and shared; dropout; the last layer."""

from attnlib.exercises.misconception import Misconception, Slip, slip
from attnlib.exercises.misconceptions.lines import CLOSE, EMPTY, MIX, SCALE, SCORES, WEIGHTS

SPLIT = ".unflatten(-1, (self.num_heads, -1)).transpose(1, 2)"
SPLITS = tuple(f"{name} = {name}{SPLIT}" for name in ("query", "key", "value"))
MERGE = "output = output.transpose(1, 2).flatten(2)"
LAST = "output = self.fc(output)"
DROP = "weights = F.dropout(weights, self.dropout, training=self.training)"
KEPT = "(torch.rand_like(weights) >= self.dropout)"
KEYS, VALUES = "key = key.repeat_interleave(group, dim=1)", "value = value.repeat_interleave(group, dim=1)"
PROJECTED = {name: f"{name} = self.w{name[0]}({name})" for name in ("query", "key", "value")}


def _split(how: str, which: tuple[str, ...] = SPLITS, merged: str = "", more: dict[str, str] | None = None) -> Slip:
    """Other ways to split, and perhaps to merge; ``x`` is what is split."""
    lines = {line: f"{line.partition(' = ')[0]} = " + how.replace("x", line.partition(" = ")[0]) for line in which}
    return Slip(lines | ({MERGE: f"output = {merged}"} if merged else {}) | (more or {}))


GROUPED = ("grouped_heads",)


def _layers(keys: str, values: str) -> Slip:
    """The four layers with other widths of all heads together."""
    queries, whole = "num_heads * d_k", "num_heads * d_v"
    return Slip(
        {
            f"{name} = nn.Linear(d_model, {old}, bias=False)": f"{name} = nn.Linear(d_model, {new}, bias=False)"
            for name, old, new in (
                ("self.wq", queries, keys),
                ("self.wk", queries, keys),
                ("self.wv", whole, values),
            )
        }
        | {
            f"self.fc = nn.Linear({whole}, d_model, bias=False)": f"self.fc = nn.Linear({values}, d_model, bias=False)",
        }
    )


VIEWED = "x.reshape(x.shape[0], self.num_heads, x.shape[1], -1)"
INTERLEAVED = "x.unflatten(-1, (-1, self.num_heads)).permute(0, 3, 1, 2)"
NOT_TRANSPOSED = "x.unflatten(-1, (self.num_heads, -1))"
OVER_BATCH = "x.unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)"

MISCONCEPTIONS = (
    Misconception(
        "heads-viewed",
        "The heads are split by view alone, without the transpose",
        symptom="A head gets pieces of different tokens, and the shapes are right.",
        belief="(B, H, L, d_k) is the shape that is wanted, and view gives any shape.",
        section="multi_head_attention",
        slips=(
            _split(VIEWED),
            _split(VIEWED, merged="output.reshape(output.shape[0], output.shape[2], -1)"),
            _split(VIEWED, SPLITS[2:]),
            _split(VIEWED, SPLITS[1:]),
            _split(VIEWED, SPLITS[:2]),
            _split(VIEWED, SPLITS[:1]),
            _split(VIEWED, SPLITS[1:2]),
        ),
    ),
    Misconception(
        "heads-merged-without-transpose",
        "The heads are merged without the transpose",
        symptom="A token's output holds pieces of other tokens', and the shapes are right.",
        belief="What view took apart, view puts together.",
        section="multi_head_attention",
        slips=(slip(MERGE, "output = output.reshape(output.shape[0], output.shape[2], -1)"),),
    ),
    Misconception(
        "heads-interleaved",
        "The heads are interleaved: each takes every H-th column",
        symptom="It trains as well, but weights of other libraries do not fit.",
        belief="(d_k, H) and (H, d_k) are both a way to split one axis.",
        section="multi_head_attention",
        slips=(
            _split(INTERLEAVED),
            _split(INTERLEAVED, merged="output.permute(0, 2, 3, 1).flatten(2)"),
            _split(INTERLEAVED, SPLITS[2:]),
            _split(INTERLEAVED, SPLITS[:2]),
            slip(MERGE, "output = output.permute(0, 2, 3, 1).flatten(2)"),
        ),
    ),
    Misconception(
        "heads-attend-to-heads",
        "The heads of one token attend to each other",
        symptom="No token sees another one.",
        belief="Without the transpose the product still runs, over the axis of the heads.",
        section="multi_head_attention",
        slips=(
            _split(NOT_TRANSPOSED, merged="output.flatten(2)"),
            _split(NOT_TRANSPOSED, merged="output.flatten(2)", more={CLOSE: "", EMPTY: ""}),
        ),
    ),
    Misconception(
        "attention-over-batch",
        "Attention runs over the examples of a batch, not over the tokens of a text",
        symptom="The output for a text depends on the other texts of its batch.",
        belief="Some modules have the batch in the second place; nn.MultiheadAttention does, unless told otherwise.",
        section="pytorch",
        slips=(
            _split(OVER_BATCH, merged="output.permute(2, 0, 1, 3).flatten(2)"),
            _split(OVER_BATCH, merged="output.permute(2, 0, 1, 3).flatten(2)", more={CLOSE: "", EMPTY: ""}),
        ),
    ),
    Misconception(
        "heads-averaged",
        "The heads are averaged or added, not put side by side",
        symptom="All heads speak with one voice, and the last layer does not fit.",
        belief="Several opinions are summed up by their mean.",
        section="multi_head_attention",
        slips=(
            slip(MERGE, "output = output.mean(dim=1, keepdim=True).expand_as(output).transpose(1, 2).flatten(2)"),
            slip(MERGE, "output = output.sum(dim=1, keepdim=True).expand_as(output).transpose(1, 2).flatten(2)"),
            Slip({MERGE: "output = output.mean(dim=1)", LAST: "output = output"}),
        ),
    ),
    Misconception(
        "heads-one-for-all",
        "One head's output is used for all",
        symptom="More heads change nothing.",
        belief="An index of 0, left from a test with one head.",
        section="multi_head_attention",
        slips=(
            slip(MERGE, "output = output[:, :1].expand_as(output).transpose(1, 2).flatten(2)"),
            slip(MERGE, "output = output[:, -1:].expand_as(output).transpose(1, 2).flatten(2)"),
        ),
    ),
    Misconception(
        "heads-reversed",
        "The heads are put side by side in the wrong order",
        symptom="It trains as well, but weights of other libraries do not fit.",
        belief="All heads are alike before training, so their order seems free.",
        section="multi_head_attention",
        slips=(slip(MERGE, "output = output.flip(1).transpose(1, 2).flatten(2)"),),
    ),
    Misconception(
        "one-wide-head",
        "There is one wide head: nothing is split",
        symptom="The number of heads changes nothing but the scale.",
        belief="The projections are as wide as all heads together, so the split seems to be inside them.",
        section="multi_head_attention",
        slips=(
            _split("x[:, None]"),
            _split("x[:, None]", more={SCALE: "scores = scores / math.sqrt(query.shape[-1] / self.num_heads)"}),
        ),
    ),
    Misconception(
        "last-layer-missing",
        "The last layer (W_O) is forgotten",
        symptom="The output is as wide as all heads together, which d_model may hide.",
        belief="Once the heads stand side by side, the width is right already.",
        section="faq-wo",
        slips=(
            slip(LAST, ""),
            Slip({"self.fc = nn.Linear(num_heads * d_v, d_model, bias=False)": "", LAST: ""}),
        ),
    ),
    Misconception(
        "projection-missing",
        "A projection is forgotten",
        symptom="It runs where the heads together are as wide as the model; that layer's weights get no gradient.",
        belief="Queries, keys and values are tokens already.",
        section="multi_head_attention",
        slips=(
            Slip({PROJECTED["query"]: "", PROJECTED["key"]: "", PROJECTED["value"]: ""}),
            slip(PROJECTED["value"], ""),
            slip(PROJECTED["query"], ""),
            slip(PROJECTED["key"], ""),
            Slip({PROJECTED["query"]: "", PROJECTED["key"]: ""}),
        ),
    ),
    Misconception(
        "projection-shared",
        "One projection is used in the place of another",
        symptom="One of the layers gets no gradient, or two.",
        belief="In self-attention all three are made of one text.",
        section="soft_lookup",
        slips=(
            Slip({PROJECTED["key"]: "key = self.wq(key)", PROJECTED["value"]: "value = self.wq(value)"}),
            slip(PROJECTED["key"], "key = self.wq(key)"),
            slip(PROJECTED["query"], "query = self.wk(query)"),
            slip(PROJECTED["value"], "value = self.wk(value)"),
            slip(PROJECTED["value"], "value = self.wq(value)"),
            slip(PROJECTED["key"], "key = self.wv(key)"),
            Slip({PROJECTED["query"]: "query = self.wk(query)", PROJECTED["value"]: "value = self.wk(value)"}),
            Slip({PROJECTED["query"]: "query = self.wv(query)", PROJECTED["key"]: "key = self.wv(key)"}),
            Slip({PROJECTED["key"]: "key = self.wv(key)", PROJECTED["query"]: "query = self.wk(query)"}),
            slip("query = x @ wq", "query = x @ wk"),
            slip("query = x @ wq", "query = x @ wv"),
        ),
    ),
    Misconception(
        "memory-ignored",
        "Keys and values always come from the query's own text",
        symptom="Cross-attention does not see the memory.",
        belief="The class was written for self-attention.",
        section="one_class",
        slips=(
            Slip(
                {
                    "key = query if key is None else key": "key = query",
                    "value = key if value is None else value": "value = query",
                }
            ),
        ),
    ),
    Misconception(
        "value-from-query",
        "Without values given, they are taken from the query's text, not from the keys'",
        symptom="For as many queries as keys it runs, and mixes the wrong text; else the shapes do not fit.",
        belief="In self-attention all three are one.",
        section="one_class",
        slips=(
            slip("value = key if value is None else value", "value = asked if value is None else value"),
            Slip(
                {
                    "key = query if key is None else key": "value = query if value is None else value\n"
                    "key = query if key is None else key",
                    "value = key if value is None else value": "",
                }
            ),
        ),
    ),
    Misconception(
        "width-in-total",
        "d_k or d_v is taken for the width of all heads together",
        symptom="The layers are H times too narrow.",
        belief="Many implementations split d_model among the heads; the paper's d_k is that of one head.",
        section="mha-per-head",
        slips=(
            _layers("d_k", "d_v"),
            _layers("d_model", "d_model"),
        ),
    ),
    Misconception(
        "mask-tiled",
        "The mask is repeated in another order than the heads",
        symptom="Right for a batch of one; else a text is closed by another text's mask.",
        belief="repeat and repeat_interleave give the same shape.",
        section="one_class",
        slips=(
            slip(
                "scores = scores.masked_fill(~mask, -math.inf)",
                "mask = mask if mask.ndim > 2 else mask.expand(len(scores), *mask.shape)\n"
                "mask = mask.reshape(len(scores), *mask.shape[-2:])\n"
                "mask = mask.repeat(self.num_heads, 1, 1).reshape(scores.shape)\n"
                "scores = scores.masked_fill(~mask, -math.inf)",
                only=("multi_head",),
            ),
            slip(
                "scores = scores.masked_fill(~mask, -math.inf)",
                "mask = mask if mask.ndim < 3 else mask[:1]\nscores = scores.masked_fill(~mask, -math.inf)",
                only=("multi_head",),
            ),
        ),
    ),
    Misconception(
        "dropout-in-evaluation",
        "Dropout is on in evaluation",
        symptom="The same input gives another output each time, after eval(), too.",
        belief="F.dropout is taken to know whether the module trains. It does not: it drops unless told otherwise.",
        section="faq-dropout",
        slips=(
            slip(DROP, "weights = F.dropout(weights, self.dropout)"),
            Slip({DROP: "", LAST: "output = F.dropout(self.fc(output), self.dropout)"}),
            slip(
                WEIGHTS,
                f"{WEIGHTS}\nweights = F.dropout(weights, 0.1)",
                only=("attention", "attention_weights", *GROUPED),
            ),
            Slip({DROP: "", MIX: "output = weights @ value\noutput = F.dropout(output, self.dropout)"}),
        ),
        wild="F.scaled_dot_product_attention drops whenever dropout_p is above 0, as its documentation warns.",
    ),
    Misconception(
        "dropout-never",
        "Dropout is never on",
        symptom="Training and evaluation give the same output.",
        belief="The rate is stored, so it seems to be used.",
        section="faq-dropout",
        slips=(
            slip(DROP, ""),
            slip(DROP, "weights = F.dropout(weights, self.dropout, training=not self.training and False)"),
        ),
    ),
    Misconception(
        "dropout-on-scores",
        "Dropout is on the scores, before the softmax",
        symptom="A dropped key scores 0, and is read all the same.",
        belief="A score of 0 seems to mean that a key is not read.",
        section="faq-dropout",
        slips=(
            Slip(
                {
                    DROP: "",
                    SCALE: f"{SCALE}\nscores = F.dropout(scores, self.dropout, training=self.training)",
                }
            ),
            Slip({DROP: "", SCORES: f"{SCORES}\nscores = F.dropout(scores, self.dropout, training=self.training)"}),
        ),
    ),
    Misconception(
        "dropout-on-output",
        "Dropout is on the output, not on the weights",
        symptom="Single numbers of the output vanish, where single keys should.",
        belief="In most layers dropout comes last.",
        section="faq-dropout",
        slips=(
            Slip(
                {
                    DROP: "",
                    LAST: "output = self.fc(output)\noutput = F.dropout(output, self.dropout, training=self.training)",
                }
            ),
            Slip({DROP: "", MERGE: f"{MERGE}\noutput = F.dropout(output, self.dropout, training=self.training)"}),
            slip(LAST, "output = self.fc(output)\noutput = F.dropout(output, self.dropout, training=self.training)"),
        ),
    ),
    Misconception(
        "dropout-not-rescaled",
        "What dropout leaves is not scaled up, or scaled wrongly",
        symptom="Outputs are smaller in training than in evaluation.",
        belief="To drop is to set to 0; the factor is easily forgotten.",
        section="faq-dropout",
        slips=(
            slip(DROP, f"if self.training:\n    weights = weights * {KEPT}"),
            slip(
                DROP,
                f"if self.training:\n    weights = weights * {KEPT} * (1 - self.dropout)",
            ),
            slip(
                DROP,
                f"if self.training:\n    weights = weights * {KEPT} / self.dropout",
            ),
            slip(
                DROP,
                "weights = F.dropout(weights, self.dropout, training=self.training)\n"
                "weights = weights / weights.sum(dim=-1, keepdim=True)",
            ),
            slip(
                DROP,
                "weights = F.dropout(weights, self.dropout, training=self.training)\n"
                "weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)",
            ),
        ),
    ),
    Misconception(
        "dropout-rate-inverted",
        "The rate is taken for the share that is kept",
        symptom="With a rate of 0.1 nine weights in ten vanish.",
        belief="Early frameworks gave the share that is kept.",
        section="faq-dropout",
        slips=(
            slip(DROP, "weights = F.dropout(weights, 1 - self.dropout, training=self.training)"),
            slip(
                DROP,
                f"if self.training:\n    weights = weights * ~{KEPT} / (1 - self.dropout)",
            ),
            slip(DROP, f"if self.training:\n    weights = weights * ~{KEPT}"),
        ),
    ),
    Misconception(
        "groups-tiled",
        "The heads of keys are repeated in the wrong order: h mod H_kv",
        symptom="Right for one head of keys, or for as many as of queries; else heads read another group's keys.",
        belief="repeat and repeat_interleave give the same shape.",
        section="one_class-grouped",
        slips=(
            Slip({KEYS: "key = key.repeat(1, group, 1, 1)", VALUES: "value = value.repeat(1, group, 1, 1)"}),
            slip(KEYS, "key = key.repeat(1, group, 1, 1)"),
            slip(VALUES, "value = value.repeat(1, group, 1, 1)"),
        ),
    ),
    Misconception(
        "groups-one-for-all",
        "All query heads read one head of keys",
        symptom="More heads of keys change nothing.",
        belief="A head of keys broadcasts over all query heads without an error.",
        section="one_class-grouped",
        slips=(
            Slip({KEYS: "key = key[:, :1]", VALUES: "value = value[:, :1]"}),
            slip(KEYS, "key = key[:, :1]"),
            slip(VALUES, "value = value[:, :1]"),
            Slip({KEYS: "key = key[:, -1:]", VALUES: "value = value[:, -1:]"}),
        ),
    ),
    Misconception(
        "groups-averaged",
        "The heads of keys are averaged over the groups",
        symptom="All query heads read the same keys.",
        belief="Fewer heads of keys are made by averaging, when a trained model is changed; not when it is used.",
        section="one_class-grouped",
        slips=(
            Slip({KEYS: "key = key.mean(dim=1, keepdim=True)", VALUES: "value = value.mean(dim=1, keepdim=True)"}),
            slip(KEYS, "key = key.mean(dim=1, keepdim=True)"),
        ),
    ),
    Misconception(
        "groups-size",
        "The number of groups is taken for their size",
        symptom="Right where both are equal, as for four heads and two of keys.",
        belief="H / H_kv and H_kv are both called the number of groups.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "index = torch.arange(query.shape[1]) // key.shape[1] % key.shape[1]\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
            Slip(
                {
                    KEYS: "index = torch.arange(query.shape[1]) // key.shape[1]\n"
                    "index = index.clamp(max=key.shape[1] - 1)\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
            Slip(
                {
                    KEYS: "index = torch.arange(query.shape[1]) % group % key.shape[1]\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
        ),
    ),
    Misconception(
        "groups-reversed",
        "The heads of keys are read in the reverse order",
        symptom="The first query head reads the last head of keys.",
        belief="All heads are alike before training, so their order seems free.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "key = key.flip(1).repeat_interleave(group, dim=1)",
                    VALUES: "value = value.flip(1).repeat_interleave(group, dim=1)",
                }
            ),
        ),
    ),
    Misconception(
        "groups-merged",
        "The groups are put together in the wrong order",
        symptom="The heads are right, and stand at each other's place.",
        belief="(H_kv, H / H_kv) and (H / H_kv, H_kv) flatten to one shape.",
        section="one_class-grouped",
        slips=(
            slip(
                MIX,
                "output = weights @ value\noutput = output.unflatten(1, (-1, group)).transpose(1, 2).flatten(1, 2)",
                only=GROUPED,
            ),
            slip(
                MIX,
                "output = weights @ value\noutput = output.unflatten(1, (group, -1)).transpose(1, 2).flatten(1, 2)",
                only=GROUPED,
            ),
        ),
    ),
    Misconception(
        "value-ignored",
        "The values that are given are not used: they come from the keys' text",
        symptom="Right as long as no values are given.",
        belief="Keys and values come from one text in most models.",
        section="one_class",
        slips=(slip("value = key if value is None else value", "value = key"),),
    ),
    Misconception(
        "key-ignored",
        "The keys that are given are not used: they come from the query's text",
        symptom="Right in self-attention.",
        belief="The class was written for self-attention.",
        section="one_class",
        slips=(
            slip("key = query if key is None else key", "given = key\nkey = query"),
            Slip(
                {
                    "key = query if key is None else key": "given = query if key is None else key",
                    "value = key if value is None else value": "value = given if value is None else value\nkey = query",
                }
            ),
        ),
    ),
    Misconception(
        "heads-overlap",
        "The heads overlap: each begins one column after the last one",
        symptom="The last columns of each projection are not used.",
        belief="A head's number is taken for the column where it begins.",
        section="multi_head_attention",
        slips=(_split("x.unfold(-1, x.shape[-1] // self.num_heads, 1)[:, :, : self.num_heads].transpose(1, 2)"),),
    ),
    Misconception(
        "groups-over-batch",
        "The heads of keys are repeated over batch and heads together",
        symptom="Right for a batch of one; else texts read each other's keys.",
        belief="The batch and the heads are one axis for bmm, and repeat goes over all of it.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "key = key.flatten(0, 1).repeat(group, 1, 1).unflatten(0, (len(query), -1))",
                    VALUES: "value = value.flatten(0, 1).repeat(group, 1, 1).unflatten(0, (len(query), -1))",
                }
            ),
        ),
    ),
    Misconception(
        "groups-along-tokens",
        "The keys are repeated along the tokens, and then cut into heads",
        symptom="Heads get pieces of different tokens, and the shapes are right.",
        belief="The number of numbers is right, and reshape gives any shape.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "key = key.repeat_interleave(group, dim=2).reshape(*query.shape[:2], *key.shape[2:])",
                    VALUES: "value = value.repeat_interleave(group, dim=2).reshape(*query.shape[:2], *value.shape[2:])",
                }
            ),
            Slip(
                {
                    KEYS: "key = key.repeat_interleave(group, dim=3).reshape(*query.shape[:2], *key.shape[2:])",
                    VALUES: "value = value.repeat_interleave(group, dim=3).reshape(*query.shape[:2], *value.shape[2:])",
                }
            ),
            Slip(
                {
                    KEYS: "key = key.repeat(1, 1, 1, group).reshape(*query.shape[:2], *key.shape[2:])",
                    VALUES: "value = value.repeat(1, 1, 1, group).reshape(*query.shape[:2], *value.shape[2:])",
                }
            ),
        ),
    ),
    Misconception(
        "groups-zeros",
        "Query heads without a head of keys of their own read zeros",
        symptom="The first heads are right, and the others give 0.",
        belief="Missing heads are filled up like missing tokens.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "key = F.pad(key, (0, 0, 0, 0, 0, query.shape[1] - key.shape[1]))",
                    VALUES: "value = F.pad(value, (0, 0, 0, 0, 0, query.shape[1] - value.shape[1]))",
                }
            ),
            slip(VALUES, "value = F.pad(value, (0, 0, 0, 0, 0, query.shape[1] - value.shape[1]))"),
        ),
    ),
    Misconception(
        "groups-clamped",
        "Query heads beyond the heads of keys all read the last one, or the first",
        symptom="The first heads read one head of keys each, and all others share one.",
        belief="An index that runs over the end is cut to it.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "index = torch.arange(query.shape[1]).clamp(max=key.shape[1] - 1)\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
            Slip(
                {
                    KEYS: (
                        "index = torch.arange(query.shape[1])\nindex = index * (index < key.shape[1])\n"
                        "key = key[:, index]"
                    ),
                    VALUES: "value = value[:, index]",
                }
            ),
        ),
    ),
    Misconception(
        "groups-shifted",
        "Each query head reads the next group's keys, or those of the one before",
        symptom="The heads of a group do not read the same head of keys, or read another group's.",
        belief="A head's number counts from 1 in one place and from 0 in another.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    KEYS: "index = ((torch.arange(query.shape[1]) + 1) // group) % key.shape[1]\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
            Slip(
                {
                    KEYS: "index = (torch.arange(query.shape[1]) // group + 1) % key.shape[1]\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
            Slip(
                {
                    KEYS: "index = (torch.arange(query.shape[1]) // group - 1) % key.shape[1]\nkey = key[:, index]",
                    VALUES: "value = value[:, index]",
                }
            ),
        ),
    ),
    Misconception(
        "groups-queries-averaged",
        "The query heads of a group are averaged, or one stands for all",
        symptom="The output has fewer heads, or equal ones.",
        belief="Fewer heads of keys seem to ask for fewer heads of queries.",
        section="one_class-grouped",
        slips=(
            Slip(
                {
                    "group = query.shape[1] // key.shape[1]": (
                        "group = query.shape[1] // key.shape[1]\nquery = query.unflatten(1, (-1, group)).mean(dim=2)"
                    ),
                    KEYS: "",
                    VALUES: "",
                }
            ),
            Slip(
                {
                    "group = query.shape[1] // key.shape[1]": (
                        "group = query.shape[1] // key.shape[1]\n"
                        "query = query.unflatten(1, (-1, group)).mean(dim=2).repeat_interleave(group, dim=1)"
                    )
                }
            ),
            Slip(
                {
                    "group = query.shape[1] // key.shape[1]": (
                        "group = query.shape[1] // key.shape[1]\nquery = query[:, ::group]"
                    ),
                    KEYS: "",
                    VALUES: "",
                }
            ),
            Slip(
                {
                    "group = query.shape[1] // key.shape[1]": (
                        "group = query.shape[1] // key.shape[1]\nquery = query[:, : key.shape[1]]"
                    ),
                    KEYS: "",
                    VALUES: "",
                }
            ),
        ),
    ),
)
