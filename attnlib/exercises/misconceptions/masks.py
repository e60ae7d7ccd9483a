"""Masks: how they are made, how they are used, and rows that they close whole."""

from attnlib.exercises.misconception import Misconception, Slip, slip
from attnlib.exercises.misconceptions.lines import CLOSE, EMPTY, EMPTY_BY_MASK, LARGEST, TABLES

CAUSAL = "allowed = key_place <= query_place"
PADDING = "allowed = key_place < torch.as_tensor(lengths)[:, None]"
WINDOW = "allowed = distance < size"
ROWS, COLUMNS = "query_place = torch.arange(S - L, S)[:, None]", "key_place = torch.arange(S)"
DISTANCE = "distance = (query_place - key_place).abs()"
RETURN = "return allowed"
SAYS = "says1 = attend(reads1, mask=mask)"
PAIRS = ("causal_mask", "sliding_window")


def _closed(fill: str, empty: bool = True) -> Slip:
    """Another way to close keys; rows that are closed whole are still set to 0, or not."""
    return Slip({CLOSE: fill, EMPTY: EMPTY_BY_MASK if empty else ""})


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
            Slip({CLOSE: "", EMPTY: ""}),
            Slip({CLOSE: "", EMPTY: EMPTY_BY_MASK}),
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
        ),
    ),
    Misconception(
        "mask-after-renormalised",
        "The mask is applied after the softmax, and the rest is divided by its sum",
        symptom="0/0 where closed keys took all the weight; else right.",
        belief="Once the rows sum to 1 again, nothing seems lost.",
        section="masks",
        slips=(
            Slip({CLOSE: "", EMPTY: "weights = weights * mask\nweights = weights / weights.sum(dim=-1, keepdim=True)"}),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: "weights = weights * mask\nweights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-9)",
                }
            ),
            Slip(
                {
                    CLOSE: "",
                    EMPTY: "weights = weights * mask\n"
                    "weights = (weights / weights.sum(dim=-1, keepdim=True)).nan_to_num(0)",
                }
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
            _closed("scores = scores.masked_fill(~mask, math.inf)", empty=False),
            _closed("scores = scores.masked_fill(~mask, 1e9)"),
            _closed("scores = scores.masked_fill(~mask, math.inf)"),
        ),
    ),
    Misconception(
        "mask-transposed",
        "The mask is transposed: its rows are taken for keys",
        symptom="It runs for as many queries as keys only; a causal mask shows the future.",
        belief="A mask is a square table of pairs, and the order of a pair seems free.",
        section="masks",
        slips=(
            slip(CLOSE, "scores = scores.masked_fill(~mask.mT, -math.inf)"),
            Slip({CLOSE: "scores = scores.masked_fill(~mask.mT, -math.inf)", EMPTY: ""}),
            slip(SAYS, "says1 = attend(reads1, mask=mask.mT)"),
        ),
    ),
    Misconception(
        "mask-on-rows",
        "A query with any closed key is closed whole",
        symptom="Most of the output is 0.",
        belief="A mask is thought to name tokens, not pairs of tokens.",
        section="masks",
        slips=(slip(EMPTY, "weights = weights.masked_fill(~mask.all(dim=-1, keepdim=True), 0)"),),
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
                only=TABLES[1:],
            ),
            slip(
                LARGEST,
                "L, S = scores.shape[-2:]\n"
                "scores = scores.masked_fill(~torch.ones(L, S, dtype=torch.bool).tril(S - L), -math.inf)\n" + LARGEST,
                only=TABLES[1:],
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
                only=TABLES[1:],
            ),
            slip(SAYS, "says1 = attend(reads1, mask=mask.tril(-1))"),
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
        slips=(slip(CAUSAL, "allowed = key_place >= query_place"),),
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
            slip(COLUMNS, "key_place = torch.arange(1, S + 1)", only=("padding_mask",)),
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
        "A text of length 0 sees everything",
        symptom="A row of the batch that is all filling gets numbers, and they reach the loss.",
        belief="Someone met NaN there and opened the row.",
        section="faq-nan",
        slips=(
            slip(
                PADDING,
                "lengths = torch.as_tensor(lengths)[:, None]\nallowed = (key_place < lengths) | (lengths == 0)",
            ),
            slip(PADDING, "allowed = key_place < torch.as_tensor(lengths).clamp(min=1)[:, None]"),
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
        slips=(slip(WINDOW, "allowed = distance < size - 1"), slip(WINDOW, "allowed = distance + 1 < size")),
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
)

EMPTY_ROWS = (
    Misconception(
        "mask-finite",
        "A finite number stands for −∞ in closed scores",
        symptom="A query without a key averages what it may not see; half precision cannot hold −10⁹.",
        belief="−10⁹ never gives NaN, and is far below any score that one has seen.",
        section="masks",
        slips=(
            _closed("scores = scores.masked_fill(~mask, -1e9)", empty=False),
            _closed("scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", empty=False),
            _closed("scores = scores.masked_fill(~mask, -1e9)"),
            _closed("scores = scores.masked_fill(~mask, -1000)", empty=False),
            _closed("scores = scores.masked_fill(~mask, -1000)"),
            _closed("scores = scores.masked_fill(~mask, -10)", empty=False),
            _closed("scores = scores.masked_fill(~mask, -10)"),
            _closed("scores = scores.masked_fill(~mask, -5)", empty=False),
            _closed("scores = scores.masked_fill(~mask, -1)", empty=False),
            _closed("scores = scores + (~mask) * -1e9", empty=False),
            _closed("scores = scores + (~mask) * -1e9"),
            _closed("scores = scores + (~mask) * -1e6", empty=False),
            _closed("scores = scores + (~mask) * -1e4", empty=False),
            _closed("scores = scores + (~mask) * -1e4"),
            _closed("scores = scores + (~mask) * -1000", empty=False),
            _closed("scores = scores + (~mask) * -100", empty=False),
            _closed("scores = scores + (~mask) * -10", empty=False),
            _closed("scores = scores + (~mask) * torch.finfo(scores.dtype).min", empty=False),
            _closed("scores = scores.masked_fill(~mask, -20)", empty=False),
        ),
        wild="The Annotated Transformer fills in −10⁹, Dive into Deep Learning −10⁶.",
    ),
    Misconception(
        "empty-row-nan",
        "A query that may attend to nothing becomes NaN",
        symptom="One padded row, and the loss of the whole batch is NaN.",
        belief="Every query sees at least itself; in a padded batch some see nothing.",
        section="faq-nan",
        slips=(slip(EMPTY, ""),),
        wild="nn.MultiheadAttention gives NaN there when its weights are asked for.",
    ),
    Misconception(
        "empty-row-uniform",
        "A query that may attend to nothing averages everything",
        symptom="It reads what is closed to it, and no NaN tells.",
        belief="A row of weights has to sum to 1.",
        section="masks",
        slips=(
            slip(EMPTY, "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 1 / scores.shape[-1])"),
            Slip(
                {CLOSE: "scores = scores.masked_fill(~(mask | ~mask.any(dim=-1, keepdim=True)), -math.inf)", EMPTY: ""}
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
            slip(EMPTY, "weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 1)"),
            slip(
                EMPTY,
                "first = torch.arange(scores.shape[-1]) == 0\n"
                "weights = torch.where(mask.any(dim=-1, keepdim=True), weights, first.to(weights.dtype))",
            ),
            slip(
                EMPTY,
                "itself = torch.eye(*scores.shape[-2:], dtype=weights.dtype)\n"
                "weights = torch.where(mask.any(dim=-1, keepdim=True), weights, itself)",
            ),
        ),
    ),
)
