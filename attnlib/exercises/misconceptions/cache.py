"""A cache of keys and values."""

from attnlib.exercises.misconception import Misconception, Slip, slip
from attnlib.exercises.misconceptions.lines import CLOSE
from attnlib.exercises.misconceptions.lines import EMPTY as EMPTY_ROWS

WHERE, X = "where = place", "x = token[None] + positions[where]"
QUERY = "query = x @ wq"
KEYS, VALUES = "keys.append(x @ wk)", "values.append(x @ wv)"
KEY, VALUE = "key = torch.cat(keys)", "value = torch.cat(values)"
EMPTY = "keys, values, outputs = [], [], []"
PLACES, ALL = "places = torch.arange(len(tokens))", "x = tokens + positions[places]"
KV = ("kv_cache",)
MASK = "mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()"
DEF = "def kv_cache(tokens, positions, wq, wk, wv):"
OUTPUTS = "outputs.append(output)"

MISCONCEPTIONS = (
    Misconception(
        "positions-restart",
        "Positions start anew at each step: every token stands at place 0",
        symptom="Right for one token. After that the model writes as if the order were lost.",
        belief="A step gets one token, and its first place is 0.",
        section="positions",
        slips=(
            slip(WHERE, "where = 0"),
            slip(PLACES, "places = torch.zeros(len(tokens), dtype=torch.long)"),
        ),
    ),
    Misconception(
        "positions-missing",
        "No position is added",
        symptom="Tokens can be exchanged, and the last output stays.",
        belief="The cache keeps the order, so the order seems to be known.",
        section="order",
        slips=(
            slip(X, "x = token[None]"),
            slip(ALL, "x = tokens"),
        ),
    ),
    Misconception(
        "positions-off-by-one",
        "Each token gets the place of the next one, or of the one before",
        symptom="With the cache the outputs differ from those without, from the first token on.",
        belief="The length of the cache is the place; it depends on whether the new token is counted.",
        section="language-model-cache",
        slips=(
            slip(WHERE, "where = place + 1"),
            slip(WHERE, "where = max(place - 1, 0)"),
            slip(WHERE, "where = place - 1"),
            slip(WHERE, "where = min(place + 1, len(positions) - 1)"),
            slip(PLACES, "places = torch.arange(1, len(tokens) + 1)"),
            slip(PLACES, "places = torch.arange(-1, len(tokens) - 1)"),
            slip(PLACES, "places = torch.arange(-1, len(tokens) - 1).clamp(min=0)"),
            slip(PLACES, "places = torch.arange(1, len(tokens) + 1).clamp(max=len(positions) - 1)"),
            slip(WHERE, "where = (place + 1) % len(positions)"),
            slip(PLACES, "places = torch.arange(1, len(tokens) + 1) % len(positions)"),
            slip(PLACES, "places = torch.arange(1, len(tokens) + 1) % len(tokens)"),
        ),
    ),
    Misconception(
        "positions-from-the-end",
        "Places are counted from the end of the table",
        symptom="The outputs change with the length of the table.",
        belief="The newest token is the last one; but the table is longer than the text.",
        section="positions",
        slips=(
            slip(WHERE, "where = place - len(tokens)"),
            slip(WHERE, "where = -1"),
            slip(WHERE, "where = -1 - place"),
            slip(PLACES, "places = torch.arange(len(tokens)) - len(tokens)"),
            slip(PLACES, "places = -1 - torch.arange(len(tokens))"),
            slip(PLACES, "places = torch.arange(len(tokens)) * 0 - 1"),
            slip(PLACES, "places = torch.arange(len(tokens)).flip(0)"),
            slip(WHERE, "where = len(tokens) - 1 - place"),
            slip(WHERE, "where = len(tokens) - 1"),
            slip(PLACES, "places = torch.arange(len(tokens)) * 0 + len(tokens) - 1"),
        ),
    ),
    Misconception(
        "positions-on-values-only",
        "Positions are in some of queries, keys and values, but not in all three",
        symptom="With the cache the outputs differ from those without.",
        belief="Rotary positions turn queries and keys only; these are added to the token.",
        section="positions",
        slips=(
            slip(VALUES, "values.append(token[None] @ wv)"),
            Slip({KEYS: "keys.append(token[None] @ wk)", VALUES: "values.append(token[None] @ wv)"}),
            Slip({QUERY: "query = token[None] @ wq", KEYS: "keys.append(token[None] @ wk)"}),
            Slip({QUERY: "query = token[None] @ wq", VALUES: "values.append(token[None] @ wv)"}),
            slip(QUERY, "query = token[None] @ wq"),
            slip(KEYS, "keys.append(token[None] @ wk)"),
        ),
    ),
    Misconception(
        "cache-overwritten",
        "The cache holds the newest token only",
        symptom="Each token reads itself alone, so the output is its own value.",
        belief="A new key is stored where the old one was.",
        section="language-model-cache",
        slips=(Slip({KEYS: "keys = [x @ wk]", VALUES: "values = [x @ wv]"}),),
    ),
    Misconception(
        "cache-keys-only",
        "Only the keys, or only the values, are kept",
        symptom="The shapes do not fit from the second token on; or the weights meet other tokens' values.",
        belief="The scores need the keys, and nothing seems to need the old values.",
        section="language-model-cache",
        slips=(
            slip(VALUES, "values = [x @ wv]"),
            slip(KEYS, "keys = [x @ wk]"),
        ),
    ),
    Misconception(
        "cache-without-newest",
        "The newest token is not in the cache when it is read",
        symptom="The first token has nothing to read; later ones do not see themselves.",
        belief="What is cached is the past, and a token is not its own past.",
        section="language-model-cache",
        slips=(
            Slip({KEY: "key = torch.cat(keys[:-1] or keys)", VALUE: "value = torch.cat(values[:-1] or values)"}),
            Slip(
                {
                    KEY: "key = torch.cat(keys)[:-1]",
                    VALUE: "value = torch.cat(values)[:-1]",
                    "largest = scores.amax(dim=-1, keepdim=True)": "largest = 0",
                }
            ),
            slip(
                MASK,
                "mask = torch.ones(len(x), len(x), dtype=torch.bool).tril(-1)",
            ),
            Slip(
                {
                    MASK: "mask = torch.ones(len(x), len(x), dtype=torch.bool).tril(-1)",
                    EMPTY_ROWS: "",
                }
            ),
            Slip(
                {
                    KEY: "key = torch.cat([torch.zeros_like(keys[0]), *keys[:-1]][-max(place, 1) :])",
                    VALUE: "value = torch.cat([torch.zeros_like(values[0]), *values[:-1]][-max(place, 1) :])",
                }
            ),
        ),
    ),
    Misconception(
        "cache-of-queries",
        "Queries are cached in place of keys",
        symptom="The shapes fit, and the numbers do not.",
        belief="All three are made of each token, so all three seem to be needed later.",
        section="language-model-cache",
        slips=(
            slip(KEYS, "keys.append(query)"),
            slip(VALUES, "values.append(query)"),
        ),
    ),
    Misconception(
        "cache-keys-for-values",
        "Keys are stored as values, or values as keys",
        symptom="The shapes fit, and the output has the keys' numbers.",
        belief="Two lists that grow alike are easily exchanged.",
        section="language-model-cache",
        slips=(
            slip(VALUES, "values.append(x @ wk)"),
            slip(KEYS, "keys.append(x @ wv)"),
            Slip({KEYS: "keys.append(x @ wv)", VALUES: "values.append(x @ wk)"}),
        ),
    ),
    Misconception(
        "cache-of-tokens",
        "Tokens are cached without being projected",
        symptom="The shapes fit where the matrices are square.",
        belief="The cache keeps what came in.",
        section="language-model-cache",
        slips=(
            Slip({KEYS: "keys.append(x)", VALUES: "values.append(x)"}),
            slip(KEYS, "keys.append(x)"),
            slip(VALUES, "values.append(x)"),
            slip(QUERY, "query = x"),
        ),
    ),
    Misconception(
        "cache-order",
        "New keys are put in front and new values behind",
        symptom="From the second token on weights meet other tokens' values.",
        belief="Attention does not depend on order; but each key must keep its value.",
        section="language-model-cache",
        slips=(
            slip(KEYS, "keys.insert(0, x @ wk)"),
            slip(VALUES, "values.insert(0, x @ wv)"),
        ),
    ),
    Misconception(
        "cache-twice",
        "The newest token is stored twice",
        symptom="Tokens weigh double, and the cache is twice as long as the text.",
        belief="Both the caller and the cache append.",
        section="language-model-cache",
        slips=(
            Slip(
                {
                    KEY: "key = torch.cat([*keys, keys[-1]])",
                    VALUE: "value = torch.cat([*values, values[-1]])",
                }
            ),
        ),
    ),
    Misconception(
        "cache-window",
        "The cache forgets its oldest tokens, or keeps them and takes no new ones",
        symptom="Right for short texts.",
        belief="Some models keep a window; this one keeps all.",
        section="language-model-cache",
        slips=(
            Slip({KEY: "key = torch.cat(keys[-2:])", VALUE: "value = torch.cat(values[-2:])"}),
            Slip({KEY: "key = torch.cat(keys[:1])", VALUE: "value = torch.cat(values[:1])"}),
            Slip({KEY: "key = torch.cat(keys[-3:])", VALUE: "value = torch.cat(values[-3:])"}),
            Slip({KEY: "key = torch.cat(keys[-4:])", VALUE: "value = torch.cat(values[-4:])"}),
            Slip({KEY: "key = torch.cat(keys[-5:])", VALUE: "value = torch.cat(values[-5:])"}),
            Slip({KEY: "key = torch.cat(keys[:2])", VALUE: "value = torch.cat(values[:2])"}),
            Slip({KEY: "key = torch.cat(keys[:3])", VALUE: "value = torch.cat(values[:3])"}),
            Slip({KEY: "key = torch.cat(keys[1:] or keys)", VALUE: "value = torch.cat(values[1:] or values)"}),
            Slip(
                {
                    KEY: "key = torch.cat([keys[0], keys[-1]][-place - 1 :])",
                    VALUE: "value = torch.cat([values[0], values[-1]][-place - 1 :])",
                }
            ),
        ),
    ),
    Misconception(
        "cache-projected-twice",
        "What is in the cache is projected again at each step",
        symptom="The older a key, the more often it was multiplied.",
        belief="The projection stands in the loop, and the whole cache passes through it.",
        section="language-model-cache",
        slips=(
            Slip(
                {
                    KEYS: "keys = [key @ wk for key in keys] + [x @ wk]",
                    VALUES: "values = [value @ wv for value in values] + [x @ wv]",
                }
            ),
            Slip({KEY: "key = torch.cat(keys) @ wk", VALUE: "value = torch.cat(values) @ wv"}),
            slip(KEY, "key = torch.cat(keys) @ wk"),
        ),
    ),
    Misconception(
        "matrices-transposed",
        "A token is multiplied with the transposed matrices",
        symptom="The shapes fit because the matrices are square.",
        belief="nn.Linear stores its weight the other way round, and uses x Wᵀ.",
        section="steps",
        slips=(Slip({QUERY: "query = x @ wq.mT", KEYS: "keys.append(x @ wk.mT)", VALUES: "values.append(x @ wv.mT)"}),),
    ),
    Misconception(
        "cache-shared",
        "All texts share one cache",
        symptom="The first text is right; the next one reads the first one's keys.",
        belief="A list in the class, or as a default argument, looks like one that is made for each object.",
        section="language-model-cache",
        slips=(Slip({DEF: "def kv_cache(tokens, positions, wq, wk, wv, keys=[], values=[]):", EMPTY: "outputs = []"}),),
    ),
    Misconception(
        "causal-missing",
        "Tokens read what comes after them",
        symptom="The output of a token changes when the text goes on.",
        belief="All tokens are there, so all are projected and read at once.",
        section="masks",
        slips=(
            Slip(
                {
                    KEY: "key = (tokens + positions[: len(tokens)]) @ wk",
                    VALUE: "value = (tokens + positions[: len(tokens)]) @ wv",
                }
            ),
            Slip({CLOSE: "", EMPTY_ROWS: ""}, KV),
        ),
    ),
    Misconception(
        "outputs-last-only",
        "The last output is returned for all tokens, or alone",
        symptom="All rows are equal, or there is one row only.",
        belief="To write the next token only the last output is needed.",
        section="language-model-cache",
        slips=(
            slip(OUTPUTS, "outputs = [output]"),
            slip("return torch.cat(outputs)", "return output[0]"),
            slip(OUTPUTS, "outputs = [output] * (place + 1)"),
            slip("return torch.cat(outputs)", "return torch.cat(outputs)[-1:]"),
        ),
    ),
    Misconception(
        "cache-buffer",
        "The empty places of a buffer are read, too",
        symptom="The outputs change with the size of the buffer, the more so for the first tokens.",
        belief="A buffer of zeros seems to add nothing; but a score of 0 has a weight.",
        section="language-model-cache",
        slips=(
            Slip(
                {
                    KEY: (
                        "key = torch.cat([*keys, torch.zeros(len(positions) - len(keys), "
                        "keys[0].shape[1], dtype=x.dtype)])"
                    ),
                    VALUE: (
                        "value = torch.cat([*values, torch.zeros(len(positions) - len(values), "
                        "values[0].shape[1], dtype=x.dtype)])"
                    ),
                }
            ),
            Slip(
                {
                    KEY: (
                        "key = torch.cat([*keys, torch.zeros(len(tokens) - len(keys), keys[0].shape[1], "
                        "dtype=x.dtype)])"
                    ),
                    VALUE: (
                        "value = torch.cat([*values, torch.zeros(len(tokens) - len(values), "
                        "values[0].shape[1], dtype=x.dtype)])"
                    ),
                }
            ),
            Slip(
                {
                    KEY: "key = torch.cat([torch.zeros_like(keys[0]), *keys])",
                    VALUE: "value = torch.cat([torch.zeros_like(values[0]), *values])",
                }
            ),
        ),
    ),
    Misconception(
        "cache-first-query",
        "The first token's query is asked at each step",
        symptom="All tokens ask the same.",
        belief="Queries are kept with keys and values, and the first one is taken.",
        section="language-model-cache",
        slips=(
            slip(
                QUERY,
                "query = ((tokens if len(x) == 1 else x)[:1] + (positions[:1] if len(x) == 1 else 0)) @ wq\n"
                "query = query.expand(len(x), -1)",
            ),
        ),
    ),
    Misconception(
        "cache-last-query",
        "The last token's query is asked at each step",
        symptom="All tokens ask the same, and know what is to come.",
        belief="To write the next token only the last query is needed.",
        section="language-model-cache",
        slips=(
            slip(
                QUERY,
                "query = ((tokens if len(x) == 1 else x)[-1:] + (positions[len(tokens) - 1] if len(x) == 1 else 0)) "
                "@ wq\n"
                "query = query.expand(len(x), -1)",
            ),
        ),
    ),
    Misconception(
        "positions-after-projection",
        "Positions are added to what was projected, not to the token",
        symptom="The positions are not multiplied by the matrices.",
        belief="Both ways add a position.",
        section="positions",
        slips=(
            Slip(
                {
                    X: "x = token[None]",
                    QUERY: "query = x @ wq + positions[where]",
                    KEYS: "keys.append(x @ wk + positions[where])",
                    VALUES: "values.append(x @ wv + positions[where])",
                }
            ),
            Slip(
                {
                    X: "x = token[None]",
                    QUERY: "query = x @ wq + positions[where]",
                    KEYS: "keys.append(x @ wk + positions[where])",
                }
            ),
            Slip(
                {
                    X: "x = token[None]",
                    KEYS: "keys.append(x @ wk + positions[where])",
                    VALUES: "values.append(x @ wv + positions[where])",
                }
            ),
            Slip({X: "x = token[None]", KEYS: "keys.append(x @ wk + positions[where])"}),
        ),
    ),
    Misconception(
        "positions-twice",
        "Positions are added more than once",
        symptom="The older a token, the more of its position it holds.",
        belief="Both the caller and the step add.",
        section="positions",
        slips=(
            slip(X, "x = token[None] + 2 * positions[where]"),
            slip(ALL, "x = tokens + 2 * positions[places]"),
            slip(ALL, "x = tokens + positions[places].cumsum(0)"),
            slip(ALL, "x = tokens + positions[: len(tokens)].sum(0)"),
        ),
    ),
    Misconception(
        "positions-multiplied",
        "Positions are multiplied with the token, or subtracted",
        symptom="A position of 0 makes the token vanish.",
        belief="Some positions multiply; these are added.",
        section="positions",
        slips=(
            slip(X, "x = token[None] * positions[where]"),
            slip(X, "x = token[None] - positions[where]"),
            slip(ALL, "x = tokens * positions[places]"),
            slip(ALL, "x = tokens - positions[places]"),
        ),
    ),
)
