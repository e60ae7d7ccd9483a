"""Masks: how they are made, how they are used, and rows that they close whole."""

from collections.abc import Collection

from attnlib.exercises.misconception import Family, Misconception, Slip, slip
from attnlib.exercises.misconceptions.lines import (
    ALL_OPEN,
    CAUSED,
    CLOSE,
    EMPTY,
    EMPTY_BY_MASK,
    LARGEST,
    MASKED,
    WEIGHTS,
)

CAUSAL = "allowed = key_place <= query_place"
PADDING = "allowed = key_place < torch.as_tensor(lengths)[:, None]"
WINDOW = "allowed = distance < size"
ROWS, COLUMNS = "query_place = torch.arange(S - L, S)[:, None]", "key_place = torch.arange(S)"
DISTANCE = "distance = (query_place - key_place).abs()"
RETURN = "return allowed"
SAYS = "says1 = attend(reads1, mask=mask)"
PAIRS = ("causal_mask", "sliding_window")
MASK = "mask = torch.ones(len(x), len(x), dtype=torch.bool).tril()"


def _closed(fill: str, empty: bool = True, only: Collection[str] = CAUSED) -> Slip:
    """Another way to close keys; rows that are closed whole are still set to 0, or not."""
    return Slip({CLOSE: fill, EMPTY: EMPTY_BY_MASK if empty else ""}, only)


USED = (
    Misconception(
        "mask-inverted",
        "The mask is inverted: True closes what it should open",
        symptom="A query reads what it may not see, and nothing that it may.",
        belief="In nn.MultiheadAttention True means that a key is kept away.",
        section="faq-polarity",
        slips=(
            slip(CLOSE, "scores = scores.masked_fill(mask, -math.inf)"),
            Slip({CLOSE: "scores = scores.masked_fill(mask, -math.inf)", EMPTY: ""}),
            Slip({CLOSE: "scores = scores.masked_fill(mask, -math.inf)", EMPTY: EMPTY_BY_MASK}),
            Slip({CLOSE: "scores = scores.masked_fill(mask, -1e9)", EMPTY: ""}),
            slip(RETURN, "return ~allowed"),
            slip(SAYS, "says1 = attend(reads1, mask=~mask)"),
        ),
        wild="torch has both: True opens in F.scaled_dot_product_attention and closes in nn.MultiheadAttention.",
    ),
    Misconception(
        "mask-ignored",
        "The mask is not used",
        symptom="In training a decoder is nearly perfect, because it copies its answer; alone it writes nonsense.",
        belief="Without a mask all shapes fit as well.",
        section="masks",
        slips=(
            Slip({CLOSE: "", EMPTY: ""}, only=MASKED),
            slip(SAYS, "says1 = attend(reads1)"),
            slip(RETURN, "return torch.ones_like(allowed)"),
        ),
    ),
    Misconception(
        "mask-after-softmax",
        "The mask is applied after the softmax, so rows do not sum to 1",
        symptom="The more is closed, the smaller the output.",
        belief="To close a key is to set its weight to 0.",
        section="masks",
        slips=(
            Slip({CLOSE: "", EMPTY: "weights = weights * mask"}),
            Slip({CLOSE: "", EMPTY: "weights = weights.masked_fill(~mask, -1e9)"}),
            Slip({CLOSE: "", EMPTY: "weights = weights.masked_fill(~mask, -math.inf)"}),
            Slip({CLOSE: "", EMPTY: "weights = weights.masked_fill(~mask, -1e9)"}, only=MASKED),
        ),
    ),
    Misconception(
        "mask-after-renormalised",
        "The mask is applied after the softmax, and the rest is made to sum to 1 again",
        symptom="0/0 where closed keys took all the weight; else right.",
        belief="Once the rows sum to 1 again, nothing seems lost.",
        section="masks",
        slips=(
            Slip(
                {CLOSE: "", EMPTY: "weights = weights * mask\nweights = weights / weights.sum(dim=-1, keepdim=True)"},
                only=MASKED,
            ),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: "weights = weights * mask\nweights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-9)",
                },
                only=MASKED,
            ),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: "weights = weights * mask\n"
                    "weights = (weights / weights.sum(dim=-1, keepdim=True)).nan_to_num(0)",
                },
                only=MASKED,
            ),
            Slip(
                {CLOSE: "", EMPTY: "weights = weights * mask\nweights = weights / weights.sum(dim=-2, keepdim=True)"},
                only=MASKED,
            ),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: (
                        "weights = weights * mask\n"
                        "weights = (weights / weights.sum(dim=-2, keepdim=True)).nan_to_num(0)"
                    ),
                },
                only=MASKED,
            ),
            Slip({CLOSE: "", EMPTY: "weights = weights * mask\nweights = torch.softmax(weights, dim=-1)"}, only=MASKED),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: "weights = torch.softmax(weights.masked_fill(~mask, -math.inf), dim=-1).nan_to_num(0)",
                },
                only=MASKED,
            ),
        ),
    ),
    Misconception(
        "mask-added",
        "The mask is added to the scores as 0 and 1",
        symptom="A closed key loses a little weight, and is read all the same.",
        belief="Masks of numbers are added to the scores; those hold 0 and −∞.",
        section="masks",
        slips=(
            _closed("scores = scores + mask"),
            _closed("scores = scores + mask", empty=False),
            _closed("scores = scores - (~mask).to(scores.dtype)"),
            _closed("scores = scores - (~mask).to(scores.dtype)", empty=False),
        ),
    ),
    Misconception(
        "mask-zero-score",
        "Closed scores are set to 0, not to −∞",
        symptom="A closed key gets the weight of e⁰ = 1, more than a key with a negative score.",
        belief="Zero seems to mean nothing; in a softmax it is a score like any other.",
        section="masks",
        slips=(
            _closed("scores = scores * mask"),
            _closed("scores = scores * mask", empty=False),
            _closed("scores = scores.masked_fill(~mask, 1e-9)", empty=False, only=MASKED),
        ),
    ),
    Misconception(
        "mask-times-infinity",
        "−∞ is multiplied with the mask: 0 · (−∞) is NaN",
        symptom="NaN wherever a key is open.",
        belief="(1 − mask) · (−10⁹) works, and −∞ seems to be the better −10⁹.",
        section="faq-nan",
        slips=(
            _closed("scores = scores + (~mask) * -math.inf"),
            _closed("scores = scores + (~mask) * -math.inf", empty=False),
            _closed("scores = scores + mask * -math.inf", empty=False),
        ),
    ),
    Misconception(
        "mask-sign",
        "Closed scores are set to +∞ or to a large positive number",
        symptom="Only closed keys are read, or all is NaN.",
        belief="A sign is lost: what is added must push the scores down.",
        section="masks",
        slips=(
            _closed("scores = scores.masked_fill(~mask, 1e9)", empty=False),
            _closed("scores = scores.masked_fill(~mask, math.inf)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, 1e9)"),
            _closed("scores = scores.masked_fill(~mask, math.inf)", only=MASKED),
        ),
    ),
    Misconception(
        "mask-transposed",
        "The mask is transposed: its rows are taken for keys",
        symptom="It runs for as many queries as keys only; a causal mask shows the future.",
        belief="A mask is a square table of pairs, and the order of a pair seems free.",
        section="masks",
        slips=(
            slip(CLOSE, "scores = scores.masked_fill(~mask.mT, -math.inf)", only=MASKED),
            Slip({CLOSE: "scores = scores.masked_fill(~mask.mT, -math.inf)", EMPTY: ""}, only=MASKED),
            slip(SAYS, "says1 = attend(reads1, mask=mask.mT)"),
        ),
    ),
    Misconception(
        "mask-on-rows",
        "A query with any closed key is closed whole",
        symptom="Most of the output is 0.",
        belief="A mask is thought to name tokens, not pairs of tokens.",
        section="masks",
        slips=(
            slip(EMPTY, "weights = weights.masked_fill(~mask.all(dim=-1, keepdim=True), 0)", only=MASKED),
            slip(CLOSE, "scores = scores.masked_fill(~mask.all(dim=-1, keepdim=True), -math.inf)", only=MASKED),
        ),
    ),
    Misconception(
        "causal-always",
        "A causal mask is applied although none was asked for",
        symptom="Without a mask the first queries read little.",
        belief="Attention is first met in language models, where it is causal.",
        section="masks",
        slips=(
            slip(
                LARGEST,
                "scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)\n"
                + LARGEST,
                only=ALL_OPEN,
            ),
            slip(
                LARGEST,
                "L, S = scores.shape[-2:]\n"
                "scores = scores.masked_fill(~torch.ones(L, S, dtype=torch.bool).tril(S - L), -math.inf)\n" + LARGEST,
                only=ALL_OPEN,
            ),
        ),
    ),
    Misconception(
        "self-hidden",
        "A token may not attend to itself",
        symptom="The first token of a causal mask may attend to nothing.",
        belief="A token seems to know itself already; or < is written where ≤ is meant.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = key_place < query_place"),
            slip(WINDOW, "allowed = (distance < size) & (distance > 0)"),
            slip(
                LARGEST,
                "scores = scores.masked_fill(torch.eye(*scores.shape[-2:], dtype=torch.bool), -math.inf)\n" + LARGEST,
                only=ALL_OPEN,
            ),
            slip(SAYS, "says1 = attend(reads1, mask=mask.tril(-1))"),
        ),
    ),
    Misconception(
        "mask-rows-only",
        "Only queries without any key are set to 0; no key is closed",
        symptom="Closed keys are read as if there were no mask.",
        belief="To leave a token out seems to be to clear its row of the output.",
        section="masks",
        slips=(Slip({CLOSE: "", EMPTY: EMPTY_BY_MASK}, only=MASKED),),
    ),
    Misconception(
        "mask-one-row",
        "All queries get the same row of the mask",
        symptom="All queries see the same keys, whatever the mask says of each.",
        belief="A mask is thought to name keys, not pairs of a query and a key.",
        section="masks",
        slips=(
            slip(CLOSE, "scores = scores.masked_fill(~mask[..., :1, :], -math.inf)", only=MASKED),
            slip(CLOSE, "scores = scores.masked_fill(~mask[..., -1:, :], -math.inf)", only=MASKED),
            slip(CLOSE, "scores = scores.masked_fill(~mask.all(dim=-2, keepdim=True), -math.inf)", only=MASKED),
            slip(CLOSE, "scores = scores.masked_fill(~mask.any(dim=-2, keepdim=True), -math.inf)", only=MASKED),
            slip(RETURN, "return allowed[:1].expand(L, S)", only=PAIRS),
            slip(RETURN, "return allowed[-1:].expand(L, S)", only=("sliding_window",)),
        ),
    ),
    Misconception(
        "mask-all-closed",
        "Everything is closed",
        symptom="No query has a key.",
        belief="A mask is thought of as what is taken away.",
        section="masks",
        slips=(slip(RETURN, "return torch.zeros_like(allowed)"),),
    ),
    Misconception(
        "mask-in-sum-only",
        "Closed keys are left out of the sum only, and keep their own weights",
        symptom="Rows sum to more than 1.",
        belief="The mask is applied to one of two lines.",
        section="masks",
        slips=(
            Slip(
                {
                    CLOSE: "",
                    WEIGHTS: "weights = powers / (powers if mask is None else powers * mask).sum(dim=-1, keepdim=True)",
                    EMPTY: "",
                },
                only=MASKED,
            ),
            Slip(
                {
                    CLOSE: "",
                    WEIGHTS: "weights = powers / (powers if mask is None else powers * mask).sum(dim=-1, keepdim=True)",
                    EMPTY: EMPTY_BY_MASK,
                },
                only=MASKED,
            ),
        ),
    ),
)

MADE = (
    Misconception(
        "causal-top-left",
        "The first query stands at the first key, not the last at the last",
        symptom="With a cache the newest query reads the first key only.",
        belief="For as many queries as keys both alignments are one.",
        section="masks",
        slips=(slip(ROWS, "query_place = torch.arange(L)[:, None]"),),
        wild="is_causal=True of F.scaled_dot_product_attention aligns top left, as its documentation says.",
    ),
    Misconception(
        "causal-alignment",
        "The queries are shifted the wrong way when there are fewer than keys",
        symptom="Right for L = S, else every query sees too little or too much.",
        belief="S − L and L − S are easily exchanged.",
        section="masks",
        slips=(
            slip(ROWS, "query_place = torch.arange(L)[:, None] + L - S"),
            slip(ROWS, "query_place = torch.arange(L)[:, None] + max(S - L, 0)"),
        ),
    ),
    Misconception(
        "causal-future",
        "Each token sees itself and what comes after it, not what came before",
        symptom="The last token sees itself only, and the first one everything.",
        belief="triu and tril are exchanged, or rows and columns are.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = key_place >= query_place"),
            slip(MASK, "mask = torch.ones(len(x), len(x), dtype=torch.bool).triu()"),
            slip(CLOSE, "scores = scores.masked_fill(mask.tril(-1), -math.inf)", only=("kv_cache",)),
        ),
    ),
    Misconception(
        "causal-one-ahead",
        "Each token sees one token of the future",
        symptom="In training the loss falls far too low, because the next token can be copied.",
        belief="triu(1) and tril(1) are exchanged, or places are counted from 1.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = key_place <= query_place + 1"),
            slip(SAYS, "says1 = attend(reads1, mask=torch.ones_like(mask).tril(1))"),
            slip(MASK, "mask = torch.ones(len(x), len(x), dtype=torch.bool).tril(1)"),
        ),
    ),
    Misconception(
        "mask-shape",
        "The mask has another shape: rows are queries, columns are keys",
        symptom="An error for L ≠ S; for L = S nothing shows.",
        belief="In self-attention both sizes are one.",
        section="masks",
        slips=(
            slip(RETURN, "return allowed.mT", only=PAIRS),
            Slip({ROWS: "query_place = torch.arange(S)[:, None]"}),
            Slip({ROWS: "query_place = torch.arange(L)[:, None]", COLUMNS: "key_place = torch.arange(L)"}),
            slip(RETURN, "return allowed[..., None, :].expand(-1, S, -1)", only=("padding_mask",)),
            slip(RETURN, "return allowed[None]"),
            Slip({ROWS: "query_place = torch.arange(S)[:, None]", COLUMNS: "key_place = torch.arange(L)"}),
            slip(COLUMNS, "key_place = torch.arange(int(max(lengths)))", only=("padding_mask",)),
        ),
    ),
    Misconception(
        "mask-not-bool",
        "The mask holds numbers, where True and False are asked for",
        symptom="~mask of numbers is no negation, and a mask of numbers is added to the scores by torch.",
        belief="0 and 1 mean False and True in most places.",
        section="conventions",
        slips=(
            slip(RETURN, "return allowed.float()"),
            slip(RETURN, "return torch.zeros(allowed.shape).masked_fill(~allowed, -math.inf)"),
            slip(RETURN, "return torch.zeros(allowed.shape).masked_fill(~allowed, -1e9)"),
            slip(RETURN, "return (~allowed).float()"),
        ),
    ),
    Misconception(
        "mask-diagonal",
        "Each token sees itself only",
        symptom="Attention passes the values through, and nothing is mixed.",
        belief="The diagonal is where a token meets itself, so it seems to be what a mask keeps.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = key_place == query_place"),
            slip(WINDOW, "allowed = distance == 0"),
        ),
    ),
    Misconception(
        "padding-one-more",
        "One filled place is left open",
        symptom="The output of a text depends a little on what fills it up.",
        belief="Places are counted from 0, lengths from 1, so ≤ opens one too many.",
        section="masks",
        slips=(slip(PADDING, "allowed = key_place <= torch.as_tensor(lengths)[:, None]"),),
    ),
    Misconception(
        "padding-one-less",
        "The last token of each text is closed",
        symptom="A text of one token may attend to nothing.",
        belief="Places are counted from 0, lengths from 1, and one is subtracted to be safe.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths)[:, None] - 1"),
            slip(PADDING, "allowed = key_place + 1 < torch.as_tensor(lengths)[:, None]"),
        ),
    ),
    Misconception(
        "padding-left",
        "The filling is taken to stand on the left",
        symptom="Short texts lose their first tokens and see the filling.",
        belief="Batches for generation are often filled on the left.",
        section="masks",
        slips=(slip(PADDING, "allowed = key_place >= S - torch.as_tensor(lengths)[:, None]"),),
    ),
    Misconception(
        "padding-rows",
        "The rows of filled queries are closed, not the columns of filled keys",
        symptom="Real tokens read the filling.",
        belief="To leave a token out seems to be to leave out its row.",
        section="masks",
        slips=(
            slip(RETURN, "return allowed[:, :, None].expand(-1, -1, S)", only=("padding_mask",)),
            slip(RETURN, "return allowed[:, :, None]", only=("padding_mask",)),
            slip(RETURN, "return allowed[:, :, None] & allowed[:, None, :]", only=("padding_mask",)),
            slip(RETURN, "return allowed[:, None, :, None]", only=("padding_mask",)),
        ),
    ),
    Misconception(
        "padding-one-for-all",
        "One length is used for all texts",
        symptom="With a batch of one all is right.",
        belief="A mask of one row broadcasts over the batch without an error.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = (key_place < lengths[0])[None].expand(len(lengths), -1)"),
            slip(PADDING, "allowed = (key_place < torch.as_tensor(lengths).max())[None].expand(len(lengths), -1)"),
            slip(PADDING, "allowed = (key_place < torch.as_tensor(lengths).min())[None].expand(len(lengths), -1)"),
            slip(PADDING, "allowed = (key_place < lengths[-1])[None].expand(len(lengths), -1)"),
            slip(PADDING, "allowed = key_place < lengths[0]"),
        ),
    ),
    Misconception(
        "padding-transposed",
        "Texts and places are exchanged",
        symptom="An error unless there are as many texts as places.",
        belief="Some libraries have the batch in the second place.",
        section="masks",
        slips=(
            slip(RETURN, "return allowed.mT", only=("padding_mask",)),
            slip(PADDING, "allowed = key_place[:, None] < torch.as_tensor(lengths)"),
        ),
    ),
    Misconception(
        "padding-never-empty",
        "A text of length 0 sees something: one place, or all",
        symptom="A row of the batch that is all filling gets numbers, and they reach the loss.",
        belief="Someone met NaN there and opened the row.",
        section="faq-nan",
        slips=(
            slip(
                PADDING,
                "lengths = torch.as_tensor(lengths)[:, None]\nallowed = (key_place < lengths) | (lengths == 0)",
            ),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).clamp(min=1)[:, None]"),
            slip(PADDING, "allowed = (key_place < torch.as_tensor(lengths)[:, None]) | (key_place == 0)"),
        ),
        wild="In Dive into Deep Learning closed scores are set to −10⁶, so a valid length of 0 gives uniform weights.",
    ),
    Misconception(
        "window-one-more",
        "The window holds one more token on each side",
        symptom="size = 1 lets a token see its neighbours.",
        belief="A window of w is thought to reach w steps, so ≤ is written.",
        section="masks",
        slips=(slip(WINDOW, "allowed = distance <= size"),),
    ),
    Misconception(
        "window-one-less",
        "The window holds one token less on each side",
        symptom="size = 1 leaves nothing open.",
        belief="The token itself is counted as one of the steps.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = distance < size - 1"),
            slip(WINDOW, "allowed = distance + 1 < size"),
            slip(WINDOW, "allowed = (distance < size - 1) | (distance == 0)"),
        ),
    ),
    Misconception(
        "window-half",
        "size is taken for the width of the whole window",
        symptom="The window is half as wide as it should be.",
        belief="A convolution's size counts both sides.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = distance <= size // 2"),
            slip(WINDOW, "allowed = distance < size // 2"),
            slip(WINDOW, "allowed = 2 * distance < size"),
            slip(WINDOW, "allowed = distance <= (size - 1) // 2"),
        ),
    ),
    Misconception(
        "window-back-only",
        "The window looks back only",
        symptom="No token sees what follows it.",
        belief="Windows are first met in language models, where they are causal.",
        section="masks",
        slips=(slip(WINDOW, "allowed = (distance < size) & (key_place <= query_place)"),),
    ),
    Misconception(
        "window-no-abs",
        "The distance keeps its sign, so one side is open to the end",
        symptom="Each token sees all that lies on one side.",
        belief="i − j < w is written without the bars.",
        section="masks",
        slips=(
            slip(DISTANCE, "distance = query_place - key_place"),
            slip(DISTANCE, "distance = key_place - query_place"),
        ),
    ),
    Misconception(
        "window-ahead-only",
        "The window looks ahead only",
        symptom="No token sees what comes before it.",
        belief="Rows and columns are exchanged.",
        section="masks",
        slips=(slip(WINDOW, "allowed = (distance < size) & (key_place >= query_place)"),),
    ),
    Misconception(
        "window-blocks",
        "The text is cut into blocks, where each token should have a window of its own",
        symptom="The first token of a block does not see the one before it.",
        belief="Blocks are how local attention is computed fast.",
        section="masks",
        slips=(slip(WINDOW, "allowed = query_place // size == key_place // size"),),
    ),
    Misconception(
        "causal-cached-closed",
        "The keys before the first query, the cached ones, are closed",
        symptom="With a cache the text before is not read.",
        belief="The triangle is drawn for the queries, and the columns before it are filled up.",
        section="masks",
        slips=(slip(CAUSAL, "allowed = (key_place <= query_place) & (key_place >= S - L)"),),
    ),
    Misconception(
        "causal-rest-open",
        "The keys beyond the first L are open to all queries",
        symptom="Every query sees the newest keys.",
        belief="The triangle is drawn top left, and the columns behind it are filled up.",
        section="masks",
        slips=(slip(CAUSAL, "allowed = (key_place <= torch.arange(L)[:, None]) | (key_place >= L)"),),
    ),
    Misconception(
        "causal-mirrored",
        "The triangle is mirrored",
        symptom="The first queries see the last keys, or the last query sees the fewest.",
        belief="A triangle has four ways to lie.",
        section="masks",
        slips=(
            slip(RETURN, "return allowed.flip(-1)", only=("causal_mask",)),
            slip(RETURN, "return allowed.flip(0)", only=("causal_mask",)),
            slip(RETURN, "return allowed.flip(0, 1)", only=("causal_mask",)),
        ),
    ),
    Misconception(
        "causal-window",
        "The past is cut off: each query sees its nearest keys only",
        symptom="Right for short texts.",
        belief="A causal mask is drawn as a band along the diagonal.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = (key_place <= query_place) & (key_place >= query_place - 1)"),
            slip(CAUSAL, "allowed = (key_place <= query_place) & (key_place >= query_place - 2)"),
            slip(CAUSAL, "allowed = (key_place <= query_place) & (key_place >= query_place - 3)"),
        ),
    ),
    Misconception(
        "causal-too-far",
        "Each query sees several tokens of the future, or not its nearest past",
        symptom="The loss falls far too low, or the newest tokens are not read.",
        belief="The diagonal of tril or triu is shifted by a number that is not S − L.",
        section="masks",
        slips=(
            slip(CAUSAL, "allowed = key_place <= query_place + 2"),
            slip(CAUSAL, "allowed = key_place <= query_place - 2"),
        ),
    ),
    Misconception(
        "padding-full-closed",
        "A text that fills its row is closed whole",
        symptom="The longest text of each batch is lost.",
        belief="mask[-n:] closes the last n places; but for n = 0 it closes all.",
        section="masks",
        slips=(
            slip(
                PADDING, "lengths = torch.as_tensor(lengths)[:, None]\nallowed = (key_place < lengths) & (lengths < S)"
            ),
        ),
    ),
    Misconception(
        "padding-one-place",
        "One place of each text is opened or closed, not all up to its length",
        symptom="A text has one key, or all but one.",
        belief="A length is the place where the text ends, so that place seems to be what is marked.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = key_place == torch.as_tensor(lengths)[:, None] - 1"),
            slip(PADDING, "allowed = key_place != torch.as_tensor(lengths)[:, None]"),
            slip(PADDING, "allowed = key_place == torch.as_tensor(lengths)[:, None]"),
            slip(PADDING, "allowed = key_place != torch.as_tensor(lengths)[:, None] - 1"),
        ),
    ),
    Misconception(
        "padding-order",
        "The rows belong to other texts",
        symptom="Right if the texts come in the order of their lengths.",
        belief="Packed batches are sorted by length, and the order stays.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).sort().values[:, None]"),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).sort(descending=True).values[:, None]"),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).flip(0)[:, None]"),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).roll(1)[:, None]"),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).roll(-1)[:, None]"),
        ),
    ),
    Misconception(
        "padding-packed",
        "The lengths are added up from text to text",
        symptom="The first text is right; later ones see more than they have.",
        belief="In packed batches the texts stand one behind the other.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).cumsum(0)[:, None]"),
            slip(
                PADDING,
                "lengths = torch.as_tensor(lengths)[:, None]\nend = lengths.cumsum(0)\n"
                "allowed = (key_place < end) & (key_place >= end - lengths)",
            ),
        ),
    ),
    Misconception(
        "padding-counts",
        "The lengths are taken for the numbers of filled places",
        symptom="Short texts see much, long ones little.",
        belief="What a function of padding is given seems to be the padding.",
        section="masks",
        slips=(slip(PADDING, "allowed = key_place < S - torch.as_tensor(lengths)[:, None]"),),
    ),
    Misconception(
        "padding-nonzero",
        "Only texts of length 0 are closed",
        symptom="The filling of all other texts is open.",
        belief="A mask of token ids asks which are not 0; lengths are no token ids.",
        section="masks",
        slips=(
            slip(PADDING, "allowed = (torch.as_tensor(lengths)[:, None] != 0).expand(-1, S)"),
            slip(PADDING, "allowed = torch.as_tensor(lengths)[:, None] != 0"),
        ),
    ),
    Misconception(
        "padding-causal",
        "A causal mask is made, in place of one for padding or beside it",
        symptom="Tokens do not see what comes after them.",
        belief="Masks are first met in language models, where they are causal.",
        section="masks",
        slips=(
            slip(RETURN, "return torch.ones(S, S, dtype=torch.bool).tril()", only=("padding_mask",)),
            slip(RETURN, "return torch.ones(S, S, dtype=torch.bool).tril()[None]", only=("padding_mask",)),
            slip(
                RETURN,
                "return torch.ones(S, S, dtype=torch.bool).tril()[None].expand(len(allowed), -1, -1)",
                only=("padding_mask",),
            ),
            slip(RETURN, "return torch.ones(len(allowed), S, dtype=torch.bool).tril()", only=("padding_mask",)),
            slip(
                RETURN, "return torch.ones(S, S, dtype=torch.bool).tril() & allowed[:, None, :]", only=("padding_mask",)
            ),
            slip(
                RETURN,
                "return (torch.ones(S, S, dtype=torch.bool).tril() & allowed[:, None, :])[:, None]",
                only=("padding_mask",),
            ),
        ),
    ),
    Misconception(
        "window-edge",
        "Only the edges of the window are open",
        symptom="A token sees the two farthest of its neighbours, and no other.",
        belief="= is written where < is meant.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = distance == size - 1"),
            slip(WINDOW, "allowed = distance == size"),
        ),
    ),
    Misconception(
        "window-wraps",
        "The window wraps round at the ends",
        symptom="The first tokens see the last ones.",
        belief="A negative index counts from the end, and a remainder begins anew.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = (distance < size) | (S - distance < size)"),
            slip(WINDOW, "allowed = ((key_place - query_place) % S < size) | ((query_place - key_place) % S < size)"),
        ),
    ),
    Misconception(
        "window-double",
        "The window is twice as wide",
        symptom="Each token sees twice as far.",
        belief="size is taken for one half of the window, and both are added.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = distance < 2 * size"),
            slip(WINDOW, "allowed = distance <= 2 * size"),
            slip(WINDOW, "allowed = distance < 2 * size - 1"),
        ),
    ),
    Misconception(
        "window-lopsided",
        "One side of the window is a token longer or shorter than the other",
        symptom="Each token sees farther to one side.",
        belief="A range leaves out its end.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = (query_place - key_place < size) & (key_place - query_place < size - 1)"),
            slip(WINDOW, "allowed = (query_place - key_place < size - 1) & (key_place - query_place < size)"),
            slip(WINDOW, "allowed = (query_place - key_place <= size) & (key_place - query_place < size)"),
            slip(WINDOW, "allowed = (query_place - key_place < size) & (key_place - query_place <= size)"),
            slip(WINDOW, "allowed = (query_place - key_place <= size) & (key_place - query_place < size - 1)"),
            slip(WINDOW, "allowed = (query_place - key_place < size - 1) & (key_place - query_place <= size)"),
        ),
    ),
    Misconception(
        "window-pushed-inwards",
        "At the ends the window is pushed inwards, so that it keeps its width",
        symptom="The first and the last tokens see farther than size.",
        belief="A window of fixed width is easily cut out of an array, if it never reaches over its end.",
        section="masks",
        slips=(
            slip(
                WINDOW,
                "start = (query_place - size + 1).clamp(max=S - 2 * size + 1).clamp(min=0)\n"
                "allowed = (key_place >= start) & (key_place < start + 2 * size - 1)",
            ),
            slip(
                WINDOW,
                "start = (query_place - size + 1).clamp(min=0)\n"
                "allowed = (key_place >= start) & (key_place < start + 2 * size - 1)",
            ),
            slip(
                WINDOW,
                "start = (query_place - size + 1).clamp(min=0, max=max(S - size, 0))\n"
                "allowed = (key_place >= start) & (key_place < start + size)",
            ),
        ),
    ),
    Misconception(
        "window-negative-start",
        "A window that would begin before the first token is empty",
        symptom="The first queries see nothing.",
        belief="A slice from a negative place counts from the end.",
        section="masks",
        slips=(
            slip(
                WINDOW,
                "start, stop = query_place - size + 1, query_place + size\n"
                "start = torch.where(start < 0, (start + S).clamp(min=0), start)\n"
                "allowed = (key_place >= start) & (key_place < stop)",
            ),
            slip(WINDOW, "allowed = (distance < size) & (query_place >= size - 1)"),
        ),
    ),
    Misconception(
        "window-missing",
        "There is no window: the mask is causal",
        symptom="Each token sees its whole past.",
        belief="Masks are first met in language models, where they are causal.",
        section="masks",
        slips=(
            slip(WINDOW, "allowed = key_place <= query_place"),
            slip(WINDOW, "allowed = key_place < query_place"),
        ),
    ),
    Misconception(
        "window-strided",
        "Every size-th key is open",
        symptom="A token sees far away, and not its neighbours.",
        belief="Sparse patterns of attention skip tokens; a window does not.",
        section="masks",
        slips=(slip(WINDOW, "allowed = distance % size == 0"),),
    ),
)

EMPTY_ROWS = (
    Misconception(
        "mask-finite",
        "A finite number stands for −∞ in closed scores",
        symptom="A query without a key averages what it may not see; half precision cannot hold −10⁹.",
        belief="−10⁹ never gives NaN, and is far below any score that one has seen.",
        section="masks",
        slips=(
            _closed("scores = scores.masked_fill(~mask, -1e9)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -1e9)", only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -1000)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -1000)", only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -10)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -10)", only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -5)", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -1)", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -1e9", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -1e9", only=MASKED),
            _closed("scores = scores + (~mask) * -1e6", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -1e4", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -1e4", only=MASKED),
            _closed("scores = scores + (~mask) * -1000", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -100", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * -10", empty=False, only=MASKED),
            _closed("scores = scores + (~mask) * torch.finfo(scores.dtype).min", empty=False, only=MASKED),
            _closed("scores = scores.masked_fill(~mask, -20)", empty=False, only=MASKED),
        ),
        wild="The Annotated Transformer fills in −10⁹, Dive into Deep Learning −10⁶.",
        families=(
            Family(
                {CLOSE: "scores = scores.masked_fill(~mask, NUMBER)", EMPTY: ""},
                (-0.1, -0.3, -1, -2, -3, -5, -7, -10, -15),
                only=CAUSED,
            ),
            Family(
                {CLOSE: "scores = scores + (~mask) * NUMBER", EMPTY: ""},
                (-0.1, -0.3, -1, -2, -3, -5, -7, -10, -15),
                unless=(-1,),
                only=CAUSED,
            ),
        ),
    ),
    Misconception(
        "empty-row-nan",
        "A query that may attend to nothing becomes NaN",
        symptom="One padded row, and the loss of the whole batch is NaN.",
        belief="Every query sees at least itself; in a padded batch some see nothing.",
        section="faq-nan",
        slips=(slip(EMPTY, "", only=MASKED),),
        wild="nn.MultiheadAttention gives NaN there when its weights are asked for.",
    ),
    Misconception(
        "empty-row-uniform",
        "A query that may attend to nothing averages everything",
        symptom="It reads what is closed to it, and no NaN tells.",
        belief="A row of weights has to sum to 1.",
        section="masks",
        slips=(
            slip(
                EMPTY,
                "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 1 / scores.shape[-1])",
                only=MASKED,
            ),
            Slip(
                {CLOSE: "scores = scores.masked_fill(~(mask | ~mask.any(dim=-1, keepdim=True)), -math.inf)", EMPTY: ""},
                only=MASKED,
            ),
        ),
    ),
    Misconception(
        "empty-row-other",
        "A query that may attend to nothing reads one key, or gets ones",
        symptom="Its output is a value that is closed to it.",
        belief="Something has to be returned.",
        section="masks",
        slips=(
            slip(EMPTY, "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 1)", only=MASKED),
            slip(
                EMPTY,
                "first = torch.arange(scores.shape[-1]) == 0\n"
                "weights = torch.where(mask.any(dim=-1, keepdim=True), weights, first.to(weights.dtype))",
                only=MASKED,
            ),
            slip(
                EMPTY,
                "itself = torch.eye(*scores.shape[-2:], dtype=weights.dtype)\n"
                "weights = torch.where(mask.any(dim=-1, keepdim=True), weights, itself)",
                only=MASKED,
            ),
        ),
    ),
)
