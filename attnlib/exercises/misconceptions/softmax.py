"""Softmax: its axis, its powers, its shift; and its backward pass."""

from attnlib.exercises.misconception import Family, Misconception, Slip, slip
from attnlib.exercises.misconceptions.lines import (
    ALL_OPEN,
    CAUSED,
    CLOSE,
    EMPTY,
    EMPTY_BY_MASK,
    LARGEST,
    MASKED,
    POWERS,
    TABLES,
    WEIGHTS,
)


def _over(axes: str, only: tuple[str, ...] = TABLES, after: str = "") -> Slip:
    return Slip(
        {
            LARGEST: f"largest = scores.amax(dim={axes}, keepdim=True)",
            WEIGHTS: f"weights = (powers / powers.sum(dim={axes}, keepdim=True)){after}",
        },
        only=only,
    )


def _made(weights: str) -> Slip:
    """Weights that no softmax makes."""
    return Slip({LARGEST: "", POWERS: "", WEIGHTS: weights})


MANY = ("softmax", *ALL_OPEN)  # those that may come with a batch and heads
NOT_IN_BLOCKS = ("softmax", *MASKED, "rotary", "kv_cache")
SOFTMAX = "def softmax(scores):"
SAFE = ("softmax", *MASKED, "kv_cache")  # those that are asked with large scores
ROWS = ("softmax", "attention", "attention_weights", "rotary")
WISHED, SHARED, BACK = (
    "wished = weights * grad",
    "shared = wished.sum(dim=-1, keepdim=True)",
    "back = weights * (grad - shared)",
)

MISCONCEPTIONS = (
    Misconception(
        "softmax-over-queries",
        "The softmax runs over the queries (down each column), not over the keys",
        symptom="Columns sum to 1, and rows do not.",
        belief="dim=0 comes first, and in a square table both ways run.",
        section="steps",
        slips=(
            _over("-2"),
            _over("-2", after=".nan_to_num(0)"),
            slip(WEIGHTS, "weights = powers / powers.sum(dim=-2, keepdim=True)", only=TABLES),
            Slip(
                {
                    CLOSE: "",
                    LARGEST: "largest = scores.amax(dim=-2, keepdim=True)",
                    WEIGHTS: "weights = powers / powers.sum(dim=-2, keepdim=True)",
                    EMPTY: "weights = weights.masked_fill(~mask, 0)",
                },
                only=("kv_cache",),
            ),
        ),
        wild="torch warned for years of F.softmax without a dim, because it guessed the axis from the number of axes.",
    ),
    Misconception(
        "softmax-over-heads",
        "The softmax runs over the heads",
        symptom="For each query and key the heads' weights sum to 1.",
        belief="dim=1 is right for one table, and stays when a batch and heads come in front.",
        section="multi_head_attention",
        slips=(_over("-3", MANY), _over("-3", MANY, after=".nan_to_num(0)")),
    ),
    Misconception(
        "softmax-over-batch",
        "The softmax runs over the examples of a batch",
        symptom="The output for a text depends on the other texts of its batch.",
        belief="dim=0 is right for one row, and stays when a batch comes in front.",
        section="steps",
        slips=(
            _over("0 if scores.ndim > 2 else 5", MANY),
            _over("0 if scores.ndim > 2 else 5", MANY, after=".nan_to_num(0)"),
        ),
    ),
    Misconception(
        "softmax-over-all",
        "The softmax runs over the whole table at once",
        symptom="All weights together sum to 1, so each row is too small.",
        belief="sum() without an axis sums everything, and no error says so.",
        section="softmax",
        slips=(
            _over("(-2, -1)"),
            Slip({LARGEST: "largest = scores.max()", WEIGHTS: "weights = powers / powers.sum()"}, only=TABLES),
            slip(WEIGHTS, "weights = powers / powers.sum(dim=(-2, -1), keepdim=True)", only=TABLES),
            slip("total = total * shrink + powers.sum(dim=-1, keepdim=True)", "total = total * shrink + powers.sum()"),
        ),
    ),
    Misconception(
        "softmax-missing",
        "There is no softmax: the scores are used as weights",
        symptom="Weights are negative or above 1, and rows do not sum to 1.",
        belief="A score says already how well a key fits.",
        section="steps",
        slips=(
            _made("weights = scores"),
            Slip(
                {LARGEST: "", POWERS: "", WEIGHTS: "weights = scores.masked_fill(scores == -math.inf, 0)"}, only=CAUSED
            ),
        ),
    ),
    Misconception(
        "softmax-without-exp",
        "The scores are divided by their sum, without the exponential",
        symptom="Weights are negative where scores are, and explode where the scores sum to nearly 0.",
        belief="To normalise is to divide by the sum.",
        section="softmax",
        slips=(
            _made("weights = scores / scores.sum(dim=-1, keepdim=True)"),
            _made("weights = scores.abs() / scores.abs().sum(dim=-1, keepdim=True)"),
            _made("weights = scores.relu() / scores.relu().sum(dim=-1, keepdim=True)"),
            _made("weights = scores**2 / (scores**2).sum(dim=-1, keepdim=True)"),
            _made(
                "positive = scores - scores.amin(dim=-1, keepdim=True)\n"
                "weights = positive / positive.sum(dim=-1, keepdim=True)"
            ),
            _made("weights = F.normalize(scores, dim=-1)"),
            Slip(
                {
                    LARGEST: "scores = scores.masked_fill(scores == -math.inf, 0)",
                    POWERS: "",
                    WEIGHTS: "weights = scores / scores.sum(dim=-1, keepdim=True)",
                },
                only=CAUSED,
            ),
            _made(
                "smallest = scores.amin(dim=-1, keepdim=True)\n"
                "weights = (scores - smallest) / (scores.amax(dim=-1, keepdim=True) - smallest)"
            ),
            Slip(
                {
                    LARGEST: "scores = scores.masked_fill(scores == -math.inf, 0)",
                    POWERS: "",
                    WEIGHTS: "weights = scores / scores.sum(dim=-1, keepdim=True)",
                },
                only=("softmax",),
            ),
            Slip(
                {
                    LARGEST: "scores = scores.masked_fill(scores == -math.inf, 0)",
                    POWERS: "",
                    WEIGHTS: "weights = scores / scores.abs().sum(dim=-1, keepdim=True)",
                },
                only=("softmax", *CAUSED),
            ),
        ),
    ),
    Misconception(
        "softmax-not-normalised",
        "The powers are not divided by their sum",
        symptom="Rows do not sum to 1.",
        belief="With the largest score subtracted all powers lie between 0 and 1, and look like weights.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers", only=NOT_IN_BLOCKS),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers"}, only=NOT_IN_BLOCKS),
        ),
    ),
    Misconception(
        "softmax-mean",
        "The powers are divided by their number or their mean, not by their sum",
        symptom="Rows do not sum to 1, and the error depends on the number of keys.",
        belief="To divide by the mean is to normalise, too.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / powers.mean(dim=-1, keepdim=True)"),
            slip(WEIGHTS, "weights = powers / powers.shape[-1]", only=NOT_IN_BLOCKS),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers / powers.shape[-1]"}, only=NOT_IN_BLOCKS),
            slip(WEIGHTS, "weights = powers / powers.shape[-2]", only=("softmax", "attention", "attention_weights")),
        ),
    ),
    Misconception(
        "softmax-log",
        "The logarithms of the weights are returned",
        symptom="All numbers are negative.",
        belief="log_softmax is the stabler function, and stands beside softmax.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = (scores - largest) - powers.sum(dim=-1, keepdim=True).log()"),
            slip(WEIGHTS, "weights = scores - powers.sum(dim=-1, keepdim=True).log()"),
        ),
    ),
    Misconception(
        "softmax-sigmoid",
        "A sigmoid stands where the softmax should",
        symptom="Rows do not sum to 1: each key is judged by itself.",
        belief="Both give numbers between 0 and 1.",
        section="softmax",
        slips=(
            _made("weights = torch.sigmoid(scores)"),
            _made("weights = torch.sigmoid(scores)\nweights = weights / weights.sum(dim=-1, keepdim=True)"),
            _made("weights = torch.tanh(scores)"),
        ),
    ),
    Misconception(
        "softmax-twice",
        "The softmax is applied twice",
        symptom="All weights are nearly equal, and closed keys get some.",
        belief="One function returns weights already, and the next one normalises to be safe.",
        section="softmax",
        slips=(slip(WEIGHTS, f"{WEIGHTS}\nweights = torch.softmax(weights, dim=-1)"),),
    ),
    Misconception(
        "softmax-hard",
        "The largest score takes all: argmax, not softmax",
        symptom="Weights are 0 or 1, and no gradient reaches the scores.",
        belief="Attention is said to pick the best key.",
        section="softmax-temperature",
        slips=(
            slip(WEIGHTS, "weights = F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)"),
            slip(WEIGHTS, "weights = (scores == largest).to(scores.dtype)"),
            slip(
                WEIGHTS,
                "weights = (scores == largest).to(scores.dtype)\nweights = weights / weights.sum(dim=-1, keepdim=True)",
            ),
        ),
    ),
    Misconception(
        "softmax-base",
        "The powers have another base than e",
        symptom="The weights are too uniform (base 2) or too sharp (base 10).",
        belief="Any base gives weights that sum to 1; it is another temperature.",
        section="softmax-temperature",
        slips=(
            slip(POWERS, "powers = 2 ** (scores - largest)"),
            slip(POWERS, "powers = 10 ** (scores - largest)"),
            slip(POWERS, "powers = (scores - largest).expm1()"),
            slip(POWERS, "powers = 3 ** (scores - largest)"),
        ),
    ),
    Misconception(
        "softmax-scaled",
        "The scores are divided by something before the softmax",
        symptom="The weights are too uniform.",
        belief="Attention divides its scores; that belongs to the scores, not to the softmax.",
        section="softmax-temperature",
        slips=(
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / math.sqrt(scores.shape[-1])"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / scores.shape[-1]"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / scores.amax(dim=-1, keepdim=True)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / scores.abs().amax(dim=-1, keepdim=True)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / scores.std(dim=-1, keepdim=True)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores / scores.std(dim=-1, keepdim=True, correction=0)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = F.normalize(scores, dim=-1)"),
        ),
    ),
    Misconception(
        "keepdim-missing",
        "A sum or maximum of each row lost its axis, so it meets the columns",
        symptom="It runs for square tables only, and there divides each column by another row's sum.",
        belief="(L, S) / (L,) looks as if each row met its own number; broadcasting counts from the right.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / powers.sum(dim=-1)", only=ROWS),
            slip(LARGEST, "largest = scores.amax(dim=-1)", only=ROWS),
            Slip(
                {LARGEST: "largest = scores.amax(dim=-1)", WEIGHTS: "weights = powers / powers.sum(dim=-1)"}, only=ROWS
            ),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers / powers.sum(dim=-1)"}, only=ROWS),
            slip(SHARED, "shared = wished.sum(dim=-1)"),
            slip("mean = x.mean(dim=-1, keepdim=True)", "mean = x.mean(dim=-1)"),
            slip("variance = (centred**2).mean(dim=-1, keepdim=True)", "variance = (centred**2).mean(dim=-1)"),
            Slip(
                {
                    "mean = x.mean(dim=-1, keepdim=True)": "mean = x.mean(dim=-1)",
                    "variance = (centred**2).mean(dim=-1, keepdim=True)": "variance = x.var(dim=-1, correction=0)",
                }
            ),
            slip(WEIGHTS, "weights = powers / powers.sum(dim=-1)", only=("kv_cache",)),
        ),
    ),
    Misconception(
        "shift-by-column",
        "The largest score of each column is subtracted, not that of each row",
        symptom="The weights change, because keys are shifted against each other.",
        belief="A shift leaves the softmax as it is; but only one that all scores of a row share.",
        section="softmax",
        slips=(
            slip(LARGEST, "largest = scores.amax(dim=-2, keepdim=True)", only=("softmax", *ALL_OPEN, "online_softmax")),
        ),
    ),
    Misconception(
        "softmax-overflow",
        "Nothing is subtracted before the exponential, so large scores overflow",
        symptom="NaN for scores above 88 (float32) or 709 (float64), 0/0 for a row far below zero.",
        belief="On small scores the formula as it is printed gives the right numbers.",
        section="softmax",
        slips=(
            slip(LARGEST, "largest = 0", only=SAFE),
            Slip(
                {LARGEST: "largest = 0", WEIGHTS: "weights = powers / (powers.sum(dim=-1, keepdim=True) + 1e-9)"},
                only=SAFE,
            ),
            Slip(
                {LARGEST: "largest = 0", WEIGHTS: f"weights = ({WEIGHTS.partition(' = ')[2]}).nan_to_num(0)"}, only=SAFE
            ),
            Slip(
                {
                    LARGEST: "largest = 0",
                    WEIGHTS: "total = powers.sum(dim=-1, keepdim=True)\n"
                    "weights = powers / total.masked_fill(total == 0, 1)",
                },
                only=SAFE,
            ),
            *(
                Slip(
                    {
                        CLOSE: "",
                        LARGEST: "largest = 0",
                        POWERS: "powers = scores.exp()\npowers = powers if mask is None else powers * mask",
                        EMPTY: empty,
                    },
                    only=MASKED,
                )
                for empty in (EMPTY_BY_MASK, "", "weights = weights.nan_to_num(0)")
            ),
        ),
    ),
    Misconception(
        "softmax-one-maximum",
        "One maximum is subtracted from all rows",
        symptom="A row whose scores lie far below becomes 0/0.",
        belief="A shift changes nothing, so any large number seems to do.",
        section="softmax",
        slips=(
            slip(LARGEST, "largest = scores.max()", only=SAFE[:-1]),
            slip(LARGEST, "largest = scores.amax(dim=(-2, -1), keepdim=True)", only=SAFE[:-1]),
            Slip(
                {
                    LARGEST: "largest = scores.max()",
                    WEIGHTS: "weights = powers / (powers.sum(dim=-1, keepdim=True) + 1e-9)",
                },
                only=SAFE[:-1],
            ),
        ),
    ),
    Misconception(
        "softmax-shift-wrong",
        "What is subtracted is not the largest score of the row",
        symptom="Scores that lie far apart still overflow, or all powers vanish.",
        belief="Any shift leaves the softmax as it is; but only the largest score makes it safe.",
        section="softmax",
        slips=(
            slip(LARGEST, "largest = scores.mean(dim=-1, keepdim=True)", only=SAFE),
            slip(LARGEST, "largest = scores.amin(dim=-1, keepdim=True)", only=SAFE),
            slip(LARGEST, "largest = scores.abs().amax(dim=-1, keepdim=True)", only=SAFE),
            slip(LARGEST, "largest = scores.median(dim=-1, keepdim=True).values", only=SAFE),
            slip(LARGEST, "largest = scores[..., :1]", only=SAFE),
            slip(LARGEST, "largest = scores.abs().max()", only=SAFE),
            slip(
                LARGEST,
                "largest = scores.amax(dim=-1, keepdim=True).clamp(min=0)",
                only=("softmax", "attention", "attention_weights"),
            ),
        ),
    ),
    Misconception(
        "softmax-clipped",
        "The scores are clipped so that their powers do not overflow",
        symptom="Scores above the limit count alike.",
        belief="It does not overflow any more, and on small scores it changes nothing.",
        section="softmax",
        slips=(
            slip(LARGEST, "scores = scores.clamp(-50, 50)\nlargest = 0", only=SAFE),
            slip(LARGEST, "scores = scores.clamp(-20, 20)\nlargest = 0", only=SAFE),
            slip(LARGEST, "scores = scores.clamp(-100, 100)\nlargest = scores.amax(dim=-1, keepdim=True)", only=SAFE),
            slip(LARGEST, "scores = scores.clamp(max=50)\nlargest = 0", only=SAFE),
            slip(LARGEST, "scores = scores.clamp(-80, 80)\nlargest = 0", only=SAFE),
            slip(LARGEST, "scores = scores.clamp(max=80)\nlargest = 0", only=(*SAFE, "online_softmax")),
            slip(LARGEST, "scores = scores.clamp(max=88)\nlargest = 0", only=(*SAFE, "online_softmax")),
            slip(LARGEST, "scores = scores.clamp(-50, 50)\nlargest = 0", only=("online_softmax",)),
            slip(LARGEST, "scores = scores.clamp(-30, 30)\nlargest = 0", only=(*SAFE, "online_softmax")),
            slip(
                LARGEST,
                "scores = scores.clamp(-100, 100)\nlargest = scores.amax(dim=-1, keepdim=True)",
                only=("online_softmax",),
            ),
        ),
    ),
    Misconception(
        "backward-no-sum",
        "What the row shares is not subtracted: the weights are taken as independent",
        symptom="The gradients of a row do not sum to 0.",
        belief="Each weight seems to have its own score; but all of a row share their sum.",
        section="gradients",
        slips=(slip(BACK, "back = weights * grad"),),
    ),
    Misconception(
        "backward-diagonal",
        "Only the diagonal of the Jacobian is used: w (1 − w)",
        symptom="The gradients of a row do not sum to 0.",
        belief="It is the derivative of the sigmoid, which the softmax of one score is.",
        section="gradients",
        slips=(slip(BACK, "back = weights * (1 - weights) * grad"),),
    ),
    Misconception(
        "backward-mean",
        "A mean or a plain sum is subtracted, not the sum of the row weighed by the weights",
        symptom="The gradients of a row do not sum to 0 unless the weights are uniform.",
        belief="To centre something is to subtract its mean.",
        section="gradients",
        slips=(
            slip(SHARED, "shared = grad.mean(dim=-1, keepdim=True)"),
            slip(SHARED, "shared = wished.mean(dim=-1, keepdim=True)"),
            slip(SHARED, "shared = grad.sum(dim=-1, keepdim=True)"),
            slip(BACK, "back = weights * grad\nback = back - back.mean(dim=-1, keepdim=True)"),
            slip(SHARED, "shared = weights.mean(dim=-1, keepdim=True)"),
            slip(SHARED, "shared = grad.mean()"),
            slip(BACK, "back = weights * grad - grad.mean(dim=-1, keepdim=True)"),
        ),
    ),
    Misconception(
        "backward-axis",
        "The sum runs over the queries or the whole table, not over the keys",
        symptom="It runs, and rows influence each other's gradients.",
        belief="sum() without an axis sums everything, and no error says so.",
        section="gradients",
        slips=(
            slip(SHARED, "shared = wished.sum(dim=-2, keepdim=True)"),
            slip(SHARED, "shared = wished.sum()"),
            slip(SHARED, "shared = wished.sum(dim=(-2, -1), keepdim=True)"),
        ),
    ),
    Misconception(
        "backward-sign",
        "The gradient has the wrong sign",
        symptom="A step against it makes the loss larger.",
        belief="The difference is taken the other way round, as in the update.",
        section="gradients",
        slips=(
            slip("return back", "return -back"),
            slip(BACK, "back = weights * shared - weights * grad"),
        ),
    ),
    Misconception(
        "backward-unweighted",
        "The difference is not multiplied by the weights",
        symptom="A key of weight 0 gets a gradient.",
        belief="The shared part is subtracted, and the work seems to be done.",
        section="gradients",
        slips=(slip(BACK, "back = grad - shared"),),
    ),
    Misconception(
        "backward-of-weights",
        "The weights are taken for scores: the softmax is applied once more",
        symptom="The gradient is too uniform.",
        belief="The backward pass is written as if it began with the scores.",
        section="gradients",
        slips=(
            slip(WISHED, "weights = torch.softmax(weights, dim=-1)\nwished = weights * grad"),
            slip(BACK, "back = weights * (1 - weights)"),
        ),
    ),
    Misconception(
        "softmax-one-side",
        "The largest score is subtracted above the fraction only, or below it only",
        symptom="Rows do not sum to 1.",
        belief="The shift is put in where it overflowed.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / scores.exp().sum(dim=-1, keepdim=True)"),
            slip(WEIGHTS, "weights = scores.exp() / powers.sum(dim=-1, keepdim=True)"),
        ),
    ),
    Misconception(
        "softmax-total-kept",
        "The sum is not set back to 0 for the next row",
        symptom="The first row is right, and each later one is too small.",
        belief="The running sum is made before the loop over the rows, not in it.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / powers.sum(dim=-1, keepdim=True).cumsum(dim=-2)", only=TABLES),
            Slip(
                {LARGEST: "largest = 0", WEIGHTS: "weights = powers / powers.sum(dim=-1, keepdim=True).cumsum(dim=-2)"},
                only=MANY,
            ),
        ),
    ),
    Misconception(
        "softmax-other-norm",
        "The powers are divided by another measure of the row than their sum: its "
        "length, its largest, the largest of all",
        symptom="Rows do not sum to 1.",
        belief="To normalise a vector is to divide it by its length.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = F.normalize(powers, dim=-1)"),
            Slip(
                {LARGEST: "largest = scores.amax(dim=(-2, -1), keepdim=True)", WEIGHTS: "weights = powers"},
                only=(*MANY, "online_softmax"),
            ),
            slip(WEIGHTS, "weights = powers / powers.sum(dim=-1, keepdim=True).sqrt()"),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers / powers.sum(dim=-1, keepdim=True).sqrt()"}),
            slip(WEIGHTS, "weights = powers / (powers**2).sum(dim=-1, keepdim=True)"),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers / (powers**2).sum(dim=-1, keepdim=True)"}),
        ),
    ),
    Misconception(
        "softmax-others",
        "The sum leaves the score itself out",
        symptom="Weights can be above 1, and rows do not sum to 1.",
        belief="A share is taken for the ratio to all others.",
        section="softmax",
        slips=(slip(WEIGHTS, "weights = powers / (powers.sum(dim=-1, keepdim=True) - powers)"),),
    ),
    Misconception(
        "softmax-prefix",
        "Each sum holds only the keys up to its own",
        symptom="The last weight of each row is right, and the others are too large.",
        belief="A running sum is divided by before it is complete.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / powers.cumsum(dim=-1)"),
            Slip({LARGEST: "largest = 0", WEIGHTS: "weights = powers / powers.cumsum(dim=-1)"}),
            slip(WEIGHTS, "weights = powers / powers.flip(-1).cumsum(dim=-1).flip(-1)"),
            slip(WEIGHTS, "weights = (powers / powers.cumsum(dim=-1)).nan_to_num(0)", only=MASKED),
        ),
    ),
    Misconception(
        "softmax-extra-term",
        "A number is added to the sum of the powers",
        symptom="Rows sum to less than 1, the lower their scores the less.",
        belief="A small number keeps the division safe; but it has to be small.",
        section="softmax",
        slips=(
            slip(WEIGHTS, "weights = powers / (powers.sum(dim=-1, keepdim=True) + 1)"),
            Slip(
                {LARGEST: "largest = 0", WEIGHTS: "weights = powers / (powers.sum(dim=-1, keepdim=True) + 1)"},
                only=MANY,
            ),
            slip(WEIGHTS, "weights = powers / (powers.sum(dim=-1, keepdim=True) + (-largest).exp())", only=MANY),
        ),
        families=(
            Family(
                {WEIGHTS: "weights = powers / (powers.sum(dim=-1, keepdim=True) + NUMBER)"},
                (0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            ),
            Family(
                {LARGEST: "largest = 0", WEIGHTS: "weights = powers / (powers.sum(dim=-1, keepdim=True) + NUMBER)"},
                (0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            ),
        ),
    ),
    Misconception(
        "softmax-infinity-zero",
        "−∞ is replaced by a number that counts",
        symptom="A closed key gets weight.",
        belief="−∞ makes NaN, so it is taken out first; but 0 is a score like any other.",
        section="faq-nan",
        slips=(
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores.masked_fill(scores == -math.inf, 0)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores.clamp(min=-10)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores.masked_fill(scores == -math.inf, 1e-9)"),
            slip(SOFTMAX, f"{SOFTMAX}\n    scores = scores.masked_fill(scores == -math.inf, -1)"),
        ),
    ),
    Misconception(
        "softmax-temperature",
        "The scores are multiplied by a factor, or the powers have another base than e",
        symptom="The weights are too uniform or too sharp.",
        belief="A softmax has a temperature; here it is 1.",
        section="softmax-temperature",
        slips=(
            slip(POWERS, "powers = (2 * (scores - largest)).exp()", only=("softmax", "online_softmax")),
            slip(POWERS, "powers = ((scores - largest) / 2).exp()", only=("softmax", "online_softmax")),
        ),
        families=(
            Family(
                {POWERS: "powers = (NUMBER * (scores - largest)).exp()"},
                (-2, -1, -0.5, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3, 4, 6, 9, 14),
                unless=(1,),
                only=("softmax", "online_softmax"),
            ),
        ),
    ),
    Misconception(
        "backward-plus",
        "What the row shares is added, not subtracted",
        symptom="The gradients of a row do not sum to 0.",
        belief="The Jacobian's minus sign off the diagonal is lost.",
        section="gradients",
        slips=(
            slip(BACK, "back = weights * (grad + shared)"),
            slip(BACK, "back = weights * grad + shared"),
        ),
    ),
    Misconception(
        "backward-one-term",
        "Only one of the two terms is multiplied by the weights",
        symptom="The gradients of a row do not sum to 0.",
        belief="The brackets of w · (g − Σ w·g) are lost.",
        section="gradients",
        slips=(
            slip(BACK, "back = weights * grad - shared"),
            slip(BACK, "back = grad - weights * shared"),
        ),
    ),
    Misconception(
        "backward-of-log",
        "It is the backward pass of the log-softmax: g − w · Σ g",
        symptom="The gradients do not vanish where the weights do.",
        belief="log_softmax and softmax stand side by side, and so do their derivatives.",
        section="gradients",
        slips=(slip(BACK, "back = grad - weights * grad.sum(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        "backward-cross-entropy",
        "It is the shortcut of cross-entropy: weights minus targets",
        symptom="The gradient that came in is taken for a target.",
        belief="The best-known derivative of a softmax is that of its loss.",
        section="gradients",
        slips=(
            slip(BACK, "back = weights - grad"),
            slip(BACK, "back = grad - weights"),
            slip(BACK, "back = (weights - grad) / len(weights)"),
        ),
    ),
    Misconception(
        "backward-off-diagonal",
        "The diagonal of the Jacobian, or its first term, is left out",
        symptom="A score does not move its own weight.",
        belief="The two cases i = j and i ≠ j are written, and one is lost.",
        section="gradients",
        slips=(
            slip(BACK, "back = -weights * (shared - wished)"),
            slip(BACK, "back = -weights * shared"),
            slip(BACK, "back = weights * shared"),
            slip(BACK, "back = shared.expand_as(grad)"),
        ),
    ),
    Misconception(
        "backward-identity",
        "The gradient is passed on as it came",
        symptom="A key of weight 0 gets a gradient.",
        belief="Many steps pass their gradient on; a softmax does not.",
        section="gradients",
        slips=(
            slip(BACK, "back = grad"),
            slip(BACK, "back = grad - grad.mean(dim=-1, keepdim=True)"),
        ),
    ),
    Misconception(
        "backward-total-kept",
        "The sum over a row goes on into the next one",
        symptom="The first row is right, and later ones are not.",
        belief="The running sum is made before the loop over the rows, not in it.",
        section="gradients",
        slips=(slip(SHARED, "shared = wished.sum(dim=-1, keepdim=True).cumsum(dim=-2)"),),
    ),
    Misconception(
        "backward-exchanged",
        "Weights and gradient are exchanged",
        symptom="The gradient is multiplied by itself.",
        belief="Two tables of one shape are easily exchanged.",
        section="gradients",
        slips=(
            slip(BACK, "back = grad * (weights - shared)"),
            slip(BACK, "back = grad * (weights - (grad * weights).sum(dim=-1, keepdim=True) * grad)"),
            slip(BACK, "back = grad * (1 - grad) * weights"),
        ),
    ),
    Misconception(
        "backward-divided",
        "It is divided by the weights, not multiplied",
        symptom="Small weights get large gradients.",
        belief="The derivative of a logarithm divides.",
        section="gradients",
        slips=(
            slip(BACK, "back = (grad - shared) / weights"),
            slip(BACK, "back = grad / weights"),
            slip(BACK, "back = grad / weights - shared"),
            slip(BACK, "back = (grad - shared) / weights.masked_fill(weights == 0, 1)"),
            slip(BACK, "back = grad / weights.masked_fill(weights == 0, 1)"),
            slip(BACK, "back = (grad - shared) / (weights + 1e-9)"),
        ),
    ),
    Misconception(
        "backward-squared",
        "The weights enter once more than they should",
        symptom="The gradients of a row do not sum to 0.",
        belief="A factor is in the sum and stands before it, too.",
        section="gradients",
        slips=(
            slip(SHARED, "shared = (weights * wished).sum(dim=-1, keepdim=True)"),
            slip(BACK, "back = weights * weights * grad"),
            slip(BACK, "back = weights * (grad - weights * shared)"),
            slip(BACK, "back = weights * (1 - weights) * (grad - shared)"),
            slip(BACK, "back = weights * (grad - weights * grad.sum(dim=-1, keepdim=True))"),
            slip(BACK, "back = weights * weights * (grad - shared)"),
        ),
    ),
    Misconception(
        "softmax-top",
        "Only the largest few scores of a row are kept",
        symptom="Most weights are 0.",
        belief="Sampling keeps the likeliest few; attention keeps all.",
        section="softmax-temperature",
        slips=(
            slip(
                LARGEST,
                "kept = scores.topk(min(2, scores.shape[-1]), dim=-1).values[..., -1:]\n"
                "scores = scores.masked_fill(scores < kept, -math.inf)\n" + LARGEST,
                only=MANY,
            ),
            slip(
                LARGEST,
                "kept = scores.topk(min(3, scores.shape[-1]), dim=-1).values[..., -1:]\n"
                "scores = scores.masked_fill(scores < kept, -math.inf)\n" + LARGEST,
                only=MANY,
            ),
        ),
    ),
)
