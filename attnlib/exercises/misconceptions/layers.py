"""Layer norm, and layers made of their parts."""

from itertools import combinations

from attnlib.exercises.misconception import Family, Misconception, Slip, slip

MEAN = "mean = x.mean(dim=-1, keepdim=True)"
CENTRED = "centred = x - mean"
VARIANCE = "variance = (centred**2).mean(dim=-1, keepdim=True)"
NORMED = "normed = centred / (variance + eps).sqrt()"
OUTPUT = "output = gamma * normed + beta"

# The steps of both layers: what a part reads, what it says, and the sum with its norm.
ENCODER = (
    ("reads1 = x", "says1 = attend(reads1)", "x = n1(x + says1)"),
    ("reads2 = x", "says2 = feed_forward(reads2)", "x = n2(x + says2)"),
)
DECODER = (
    ("reads1 = x", "says1 = attend(reads1, mask=mask)", "x = n1(x + says1)"),
    ("reads2 = x", "says2 = cross(reads2, memory)", "x = n2(x + says2)"),
    ("reads3 = x", "says3 = feed_forward(reads3)", "x = n3(x + says3)"),
)
IN_ENCODER, IN_DECODER = ("encoder_layer",), ("decoder_layer",)
ATTEND, NET = "says1 = attend(reads1)", "says2 = feed_forward(reads2)"
SELF, CROSS, LAST_NET = (
    "says1 = attend(reads1, mask=mask)",
    "says2 = cross(reads2, memory)",
    "says3 = feed_forward(reads3)",
)
SUM1, SUM2, SUM3 = "x = n1(x + says1)", "x = n2(x + says2)", "x = n3(x + says3)"
TWO, THREE = "n1, n2 = norm1, norm2", "n1, n2, n3 = norm1, norm2, norm3"
READS1, READS2, READS3 = "reads1 = x", "reads2 = x", "reads3 = x"


def _steps(total: str, reads: str = "x") -> tuple[Slip, ...]:
    """Another form of a step, for all steps of a layer, for each alone, and for two of three.

    N is the step's norm, S what its part says.
    """
    layers = ((ENCODER, IN_ENCODER), (DECODER, IN_DECODER))
    together = [(steps, only) for steps, only in layers]
    alone = [((step,), only) for steps, only in layers for step in steps]
    two = [(pair, IN_DECODER) for pair in combinations(DECODER, 2)]
    return tuple(Slip(_formed(steps, total, reads), only) for steps, only in (*together, *alone, *two))


def _formed(steps: tuple[tuple[str, str, str], ...], total: str, reads: str) -> dict[str, str]:
    changed = {}
    for first, _, last in steps:
        number = first[len("reads")]
        for line, text in ((first, f"reads{number} = {reads}"), (last, f"x = {total}")):
            written = text.replace("N", f"n{number}").replace("S", f"says{number}")
            if written != line:
                changed[line] = written
    return changed


MISCONCEPTIONS = (
    Misconception(
        "norm-over-tokens",
        "The norm runs over the tokens of a text, not over the numbers of a token",
        symptom="A token's output depends on the other tokens; a text of one token becomes 0.",
        belief="Batch norm runs over examples, and its axis stays.",
        section="one_layer",
        slips=(
            Slip(
                {
                    MEAN: "mean = x.mean(dim=-2, keepdim=True)",
                    VARIANCE: "variance = (centred**2).mean(dim=-2, keepdim=True)",
                }
            ),
            Slip(
                {
                    MEAN: "mean = x.mean(dim=0, keepdim=True)",
                    VARIANCE: "variance = (centred**2).mean(dim=0, keepdim=True)",
                }
            ),
        ),
    ),
    Misconception(
        "norm-over-all",
        "One mean and one variance are taken of all tokens together",
        symptom="A token's output depends on the other tokens.",
        belief="mean() without an axis takes everything, and no error says so.",
        section="one_layer",
        slips=(
            Slip({MEAN: "mean = x.mean()", VARIANCE: "variance = (centred**2).mean()"}),
            Slip(
                {
                    MEAN: "mean = x.mean(dim=(-2, -1), keepdim=True)",
                    VARIANCE: "variance = (centred**2).mean(dim=(-2, -1), keepdim=True)",
                }
            ),
        ),
    ),
    Misconception(
        "norm-unbiased",
        "The variance is divided by d − 1, not by d",
        symptom="All numbers are a little too small, the more so the narrower the model.",
        belief="x.std() of torch divides by d − 1, as one does for a sample.",
        section="one_layer",
        slips=(slip(VARIANCE, "variance = (centred**2).sum(dim=-1, keepdim=True) / (x.shape[-1] - 1)"),),
        wild="The Annotated Transformer divides by x.std(−1) + eps.",
    ),
    Misconception(
        "norm-eps-outside",
        "eps is added to the root, not to the variance",
        symptom="Numbers that hardly differ are blown up.",
        belief="eps is there so that nothing is divided by 0, and both places do that.",
        section="one_layer",
        slips=(slip(NORMED, "normed = centred / (variance.sqrt() + eps)"),),
    ),
    Misconception(
        "norm-eps-missing",
        "eps is not used, or another one is",
        symptom="A token whose numbers are all equal becomes NaN.",
        belief="On usual inputs it changes nothing.",
        section="one_layer",
        slips=(
            slip(NORMED, "normed = centred / variance.sqrt()"),
            slip(NORMED, "normed = centred / (variance + 1e-5).sqrt()"),
            slip(NORMED, "normed = centred / (variance + 1e-6).sqrt()"),
            slip(NORMED, "normed = centred / (variance + 1e-8).sqrt()"),
            slip(NORMED, "normed = centred / (variance + eps**2).sqrt()"),
            slip(NORMED, "normed = centred / variance.sqrt().clamp(min=eps)"),
            slip(NORMED, "normed = centred / (variance + 1e-12).sqrt()"),
            slip(NORMED, "normed = centred / (variance + 1e-3).sqrt()"),
            slip(NORMED, "normed = centred / torch.maximum(variance, torch.tensor(eps)).sqrt()"),
        ),
    ),
    Misconception(
        "norm-not-centred",
        "The mean is not subtracted",
        symptom="A constant added to a token changes its output.",
        belief="RMSNorm leaves it out, too.",
        section="one_layer",
        slips=(
            slip(CENTRED, "centred = x"),
            slip(NORMED, "normed = x / (variance + eps).sqrt()"),
        ),
    ),
    Misconception(
        "norm-variance",
        "It is divided by the variance, not by its root",
        symptom="A token that is twice as long comes out half as long.",
        belief="Variance and deviation are easily exchanged.",
        section="one_layer",
        slips=(slip(NORMED, "normed = centred / (variance + eps)"),),
    ),
    Misconception(
        "norm-not-divided",
        "The mean is subtracted, and nothing is divided",
        symptom="Long tokens stay long.",
        belief="To centre is half of the work.",
        section="one_layer",
        slips=(slip(NORMED, "normed = centred"),),
    ),
    Misconception(
        "norm-gamma",
        "gamma or beta is forgotten",
        symptom="The forgotten one gets no gradient. At the start nothing shows, because gamma is 1 and beta is 0.",
        belief="After the division the work seems done.",
        section="one_layer",
        slips=(
            slip(OUTPUT, "output = normed"),
            slip(OUTPUT, "output = gamma * normed"),
            slip(OUTPUT, "output = normed + beta"),
        ),
    ),
    Misconception(
        "norm-gamma-beta-exchanged",
        "gamma and beta are exchanged",
        symptom="At the start of training, with gamma 1 and beta 0, all outputs are 1.",
        belief="Both are vectors of one shape.",
        section="one_layer",
        slips=(slip(OUTPUT, "output = beta * normed + gamma"),),
    ),
    Misconception(
        "norm-first",
        "The norm comes before the part (pre-norm), not after the sum",
        symptom="It trains, and more easily; but it is another layer than the paper's.",
        belief="Most models of today do it so.",
        section="one_layer",
        slips=(
            *_steps("x + S", "N(x)"),
            Slip(
                {READS1: "reads1 = n1(x)", SUM1: "x = x + says1", READS2: "reads2 = n2(x)", SUM2: "x = n2(x + says2)"},
                only=IN_ENCODER,
            ),
            Slip(
                {READS1: "reads1 = n1(x)", SUM1: "x = x + says1", READS2: "reads2 = n2(x)", SUM2: "x = n1(x + says2)"},
                only=IN_ENCODER,
            ),
            Slip(
                {
                    READS1: "reads1 = n1(x)",
                    SUM1: "x = x + says1",
                    READS2: "reads2 = n2(x)",
                    SUM2: "x = x + says2",
                    READS3: "reads3 = n3(x)",
                    SUM3: "x = n3(x + says3)",
                }
            ),
            Slip(
                {READS1: "reads1 = n1(x)", SUM1: "x = x + says1", READS2: "reads2 = n1(x)", SUM2: "x = x + says2"},
                only=IN_ENCODER,
            ),
            Slip(
                {READS1: "reads1 = n2(x)", SUM1: "x = x + says1", READS2: "reads2 = n1(x)", SUM2: "x = x + says2"},
                only=IN_ENCODER,
            ),
        ),
        wild="The text of The Annotated Transformer follows the paper; its code norms first.",
    ),
    Misconception(
        "norm-before-sum",
        "The norm is on what the part says, before the sum",
        symptom="The sum grows from layer to layer.",
        belief="A norm seems to belong to the part that it follows.",
        section="one_layer",
        slips=_steps("x + N(S)"),
    ),
    Misconception(
        "norm-on-road",
        "The sum is made with the normed x, or x is normed twice",
        symptom="The layer is neither the paper's nor pre-norm.",
        belief="x was normed for the part, and is then at hand.",
        section="one_layer",
        slips=(
            *_steps("N(x) + S", "N(x)"),
            *_steps("N(x) + S"),
            *_steps("N(N(x + S))"),
            *_steps("N(x + S)", "N(x)"),
            *_steps("N(N(x) + S)", "N(x)"),
            *_steps("N(N(x) + S)"),
        ),
    ),
    Misconception(
        "residual-missing",
        "x is not added: a part replaces it",
        symptom="After a few layers all tokens are alike, and the gradients vanish.",
        belief="Layers are first met as a chain.",
        section="one_layer",
        slips=(*_steps("N(S)"), *_steps("S"), *_steps("S", "N(x)"), *_steps("N(S)", "N(x)")),
    ),
    Misconception(
        "residual-twice",
        "x is added twice",
        symptom="What the parts say counts half.",
        belief="The part itself adds x, and the layer does it again.",
        section="one_layer",
        slips=(
            *_steps("N(2 * x + S)"),
            *_steps("x + N(x + S)"),
            *_steps("N(x + S) + x"),
            slip(SUM2, "x = n2(came + x + says2)", only=IN_ENCODER),
            slip(SUM3, "x = n3(came + x + says3)"),
            slip(SUM2, "x = n2(came + x + says2)", only=IN_DECODER),
            Slip({SUM2: "x = n2(came + x + says2)", SUM3: "x = n3(came + x + says3)"}),
            slip(SUM2, "x = n2(x + says2) + came", only=IN_ENCODER),
            slip(SUM3, "x = n3(x + says3) + came"),
        ),
    ),
    Misconception(
        "residual-multiplied",
        "x and what the part says are multiplied, or one is subtracted from the other",
        symptom="The layer is not near the identity when the parts say little.",
        belief="A gate multiplies; a residual adds.",
        section="one_layer",
        slips=(
            *_steps("N(x * S)"),
            *_steps("N(x - S)"),
            *_steps("N(S - x)"),
        ),
    ),
    Misconception(
        "layer-norm-missing",
        "There is no norm after the sum",
        symptom="The sum grows from layer to layer.",
        belief="On one layer nothing goes wrong.",
        section="one_layer",
        slips=_steps("x + S"),
    ),
    Misconception(
        "residual-from-the-start",
        "A later sum begins with an earlier x, not with what came out of the step before",
        symptom="What an earlier part said is lost, or enters by one way only.",
        belief="The residual seems to be the input of the layer.",
        section="one_layer",
        slips=(
            slip(SUM2, "x = n2(came + says2)", only=IN_ENCODER),
            slip(SUM3, "x = n3(came + says3)"),
            slip(SUM2, "x = n2(came + says2)", only=IN_DECODER),
            Slip({SUM2: "x = n2(came + says2)", SUM3: "x = n3(came + says3)"}),
            Slip({READS2: "earlier = x\nreads2 = x", SUM3: "x = n3(earlier + says3)"}),
        ),
    ),
    Misconception(
        "layer-in-parallel",
        "The parts read the layer's input side by side, not one after the other",
        symptom="The later part does not see what the earlier one gathered.",
        belief="Some large models do it so, to save time.",
        section="one_layer",
        slips=(
            slip(READS2, "reads2 = came", only=IN_ENCODER),
            slip(READS3, "reads3 = came"),
            Slip({SUM1: "", SUM2: "x = n2(n1(x + says1) + n1(x + says2))"}, only=IN_ENCODER),
            Slip({SUM1: "", SUM2: "x = n2(n1(x + says1 + says2))"}, only=IN_ENCODER),
            Slip({SUM1: "", SUM2: "x = n1(x + says1 + says2)"}, only=IN_ENCODER),
            Slip({SUM1: "", SUM2: "x = n2(x + says1 + says2)"}, only=IN_ENCODER),
            Slip(
                {SUM1: "x = n1(x + says1)", READS2: "reads2 = came + says1", SUM2: "x = n2(x + says2)"},
                only=IN_ENCODER,
            ),
            Slip({READS2: "earlier = x\nreads2 = x", READS3: "reads3 = earlier"}),
            Slip({SUM1: "", SUM2: "x = n2(n1(x + says1 + says2))"}, only=IN_DECODER),
            Slip({SUM1: "", SUM2: "x = n1(x + says1 + says2)"}, only=IN_DECODER),
            Slip({SUM1: "", SUM2: "x = n2(x + says1 + says2)"}, only=IN_DECODER),
            Slip({SUM1: "", SUM2: "", SUM3: "x = n3(x + says1 + says2 + says3)"}),
            Slip({SUM1: "", SUM2: "", SUM3: "x = n3(n2(n1(x + says1 + says2 + says3)))"}),
        ),
    ),
    Misconception(
        "layer-one-norm",
        "One norm serves in several places",
        symptom="One of the norms gets no gradient; before training all norms are equal, and nothing shows.",
        belief="Norms are all the same at the start.",
        section="one_layer",
        slips=(
            slip(TWO, "n1, n2 = norm1, norm1"),
            slip(TWO, "n1, n2 = norm2, norm2"),
            slip(THREE, "n1, n2, n3 = norm1, norm1, norm1"),
            slip(THREE, "n1, n2, n3 = norm1, norm1, norm3"),
            slip(THREE, "n1, n2, n3 = norm1, norm2, norm2"),
            slip(THREE, "n1, n2, n3 = norm1, norm2, norm1"),
        ),
    ),
    Misconception(
        "layer-norms-exchanged",
        "The norms are exchanged",
        symptom="Weights of a trained layer do not fit.",
        belief="Norms are all the same at the start.",
        section="one_layer",
        slips=(
            slip(TWO, "n1, n2 = norm2, norm1"),
            slip(THREE, "n1, n2, n3 = norm2, norm1, norm3"),
            slip(THREE, "n1, n2, n3 = norm1, norm3, norm2"),
            slip(THREE, "n1, n2, n3 = norm3, norm2, norm1"),
            slip(THREE, "n1, n2, n3 = norm2, norm3, norm1"),
            slip(THREE, "n1, n2, n3 = norm3, norm1, norm2"),
        ),
    ),
    Misconception(
        "layer-order",
        "The parts come in the wrong order",
        symptom="The net works on what attention has not gathered yet, or the memory is read before the text.",
        belief="All parts are there, and their order seems free.",
        section="one_layer",
        slips=(
            Slip({ATTEND: "says1 = feed_forward(reads1)", NET: "says2 = attend(reads2)"}),
            Slip(
                {
                    ATTEND: "says1 = feed_forward(reads1)",
                    SUM1: "x = n2(x + says1)",
                    NET: "says2 = attend(reads2)",
                    SUM2: "x = n1(x + says2)",
                }
            ),
            Slip({SELF: "says1 = cross(reads1, memory)", CROSS: "says2 = attend(reads2, mask=mask)"}),
            Slip(
                {
                    SELF: "says1 = cross(reads1, memory)",
                    SUM1: "x = n2(x + says1)",
                    CROSS: "says2 = attend(reads2, mask=mask)",
                    SUM2: "x = n1(x + says2)",
                }
            ),
            Slip({CROSS: "says2 = feed_forward(reads2)", LAST_NET: "says3 = cross(reads3, memory)"}),
            Slip(
                {
                    CROSS: "says2 = feed_forward(reads2)",
                    SUM2: "x = n3(x + says2)",
                    LAST_NET: "says3 = cross(reads3, memory)",
                    SUM3: "x = n2(x + says3)",
                }
            ),
            Slip(
                {
                    SELF: "says1 = feed_forward(reads1)",
                    CROSS: "says2 = attend(reads2, mask=mask)",
                    LAST_NET: "says3 = cross(reads3, memory)",
                }
            ),
        ),
    ),
    Misconception(
        "layer-part-missing",
        "A part is left out: attention or the feed-forward net",
        symptom="Tokens do not meet, or each is only averaged.",
        belief="One of the two seems to be the layer.",
        section="one_layer",
        slips=(
            slip(SUM2, "", only=IN_ENCODER),
            slip(SUM1, "", only=IN_ENCODER),
            slip(SUM2, "x = n2(x)", only=IN_ENCODER),
            slip(SUM1, "x = n1(x)", only=IN_ENCODER),
            Slip({SUM1: "", SUM2: "x = n1(x + says2)"}, only=IN_ENCODER),
            Slip({SUM1: "x = n2(x + says1)", SUM2: ""}, only=IN_ENCODER),
            Slip({SUM1: "x = n1(x + feed_forward(says1))", SUM2: ""}, only=IN_ENCODER),
            Slip({SUM1: "x = n2(x + feed_forward(says1))", SUM2: ""}, only=IN_ENCODER),
            slip(SUM3, ""),
            slip(SUM1, "", only=IN_DECODER),
            slip(SUM3, "x = n3(x)"),
            slip(SUM1, "x = n1(x)", only=IN_DECODER),
            Slip({SUM2: "x = n3(x + says2)", SUM3: ""}, only=IN_DECODER),
            Slip({SUM1: "x = n3(x + says1)", SUM2: "", SUM3: ""}, only=IN_DECODER),
            Slip({SUM2: "", SUM3: ""}, only=IN_DECODER),
        ),
    ),
    Misconception(
        "layer-part-twice",
        "A part is used twice",
        symptom="The layer is deeper than it says.",
        belief="A line was copied.",
        section="one_layer",
        slips=(
            slip(NET, "says2 = feed_forward(feed_forward(reads2))"),
            slip(ATTEND, "says1 = attend(attend(reads1))"),
            slip(NET, "says2 = attend(reads2)"),
            slip(LAST_NET, "says3 = feed_forward(feed_forward(reads3))"),
            slip(SUM1, "x = n1(x + says1)\nx = n1(x + attend(x))", only=IN_ENCODER),
            slip(SUM1, "x = n1(x + says1)\nx = n1(x + attend(x, mask=mask))", only=IN_DECODER),
            slip(SUM2, "x = n2(x + says2)\nx = n2(x + feed_forward(x))", only=IN_ENCODER),
            slip(SUM2, "x = n2(x + says2)\nx = n2(x + cross(x, memory))", only=IN_DECODER),
            slip(SUM3, "x = n3(x + says3)\nx = n3(x + feed_forward(x))"),
            slip(SELF, "says1 = attend(attend(reads1, mask=mask), mask=mask)"),
            slip(CROSS, "says2 = cross(cross(reads2, memory), memory)"),
            slip(LAST_NET, "says3 = attend(reads3, mask=mask)"),
            slip(LAST_NET, "says3 = cross(reads3, memory)"),
            slip(ATTEND, "says1 = feed_forward(reads1)"),
        ),
    ),
    Misconception(
        "cross-missing",
        "The memory is not read: there is no cross-attention",
        symptom="The output is the same for every source.",
        belief="The decoder looks like an encoder with a mask.",
        section="encoder_decoder",
        slips=(
            slip(SUM2, "", only=IN_DECODER),
            slip(SUM2, "x = n2(x)", only=IN_DECODER),
            slip(CROSS, "says2 = cross(reads2, reads2)"),
            Slip({SUM2: "", SUM3: "x = n2(x + says3)"}, only=IN_DECODER),
        ),
    ),
    Misconception(
        "cross-exchanged",
        "In cross-attention the memory asks and the text answers",
        symptom="The output has as many rows as the source, not as the text.",
        belief="The memory comes first in time, so it comes first in the call.",
        section="encoder_decoder",
        slips=(
            slip(CROSS, "says2 = cross(memory, reads2)"),
            Slip({CROSS: "says2 = cross(memory, reads2)", SUM2: "x = n2(memory + says2)"}),
        ),
    ),
    Misconception(
        "cross-values-from-text",
        "In cross-attention keys and values come from different texts",
        symptom="It runs for texts and sources of one length only.",
        belief="Query and value seem to belong together.",
        section="encoder_decoder",
        slips=(
            slip(CROSS, "says2 = cross(reads2, memory, reads2)"),
            slip(CROSS, "says2 = cross(reads2, reads2, memory)"),
        ),
    ),
    Misconception(
        "cross-causal",
        "The causal mask is used in cross-attention, too",
        symptom="The first tokens see only the beginning of the source.",
        belief="A decoder may not see the future; but the source is all there.",
        section="one_class",
        slips=(
            slip(
                CROSS,
                "past = torch.ones(x.shape[-2], memory.shape[-2], dtype=torch.bool).tril()\n"
                "says2 = cross(reads2, memory, mask=past)",
            ),
            slip(
                CROSS,
                "L, S = x.shape[-2], memory.shape[-2]\n"
                "says2 = cross(reads2, memory, mask=torch.ones(L, S, dtype=torch.bool).tril(S - L))",
            ),
            Slip(
                {
                    SELF: "says1 = attend(reads1)",
                    CROSS: "past = torch.ones(x.shape[-2], memory.shape[-2], dtype=torch.bool).tril()\n"
                    "says2 = cross(reads2, memory, mask=past)",
                }
            ),
            slip(CROSS, "says2 = cross(reads2, memory, mask=mask)"),
        ),
    ),
    Misconception(
        "parts-exchanged",
        "Self-attention and cross-attention use each other's part",
        symptom="Weights of a trained layer do not fit.",
        belief="Both are attention, with the same shapes.",
        section="encoder_decoder",
        slips=(
            Slip({SELF: "says1 = cross(reads1, mask=mask)", CROSS: "says2 = attend(reads2, memory)"}),
            slip(CROSS, "says2 = attend(reads2, memory)"),
            slip(SELF, "says1 = cross(reads1, mask=mask)"),
        ),
    ),
    Misconception(
        "memory-normed",
        "The memory is normed, or changed in another way, before it is read",
        symptom="The decoder reads another memory than the encoder wrote.",
        belief="What goes into attention seems to need a norm.",
        section="encoder_decoder",
        slips=(
            slip(CROSS, "says2 = cross(reads2, n2(memory))"),
            slip(CROSS, "says2 = cross(reads2, n1(memory))"),
            slip(CROSS, "says2 = cross(reads2, n3(memory))"),
            slip(CROSS, "says2 = cross(reads2, attend(memory, mask=None))"),
            slip(
                CROSS,
                "says2 = cross(reads2, attend(memory, mask=torch.ones(memory.shape[-2], "
                "memory.shape[-2], dtype=torch.bool).tril()))",
            ),
            slip(CROSS, "says2 = cross(reads2, feed_forward(memory))"),
        ),
    ),
    Misconception(
        "cross-from-input",
        "Cross-attention asks with the layer's input, not with what self-attention gathered",
        symptom="What self-attention said goes past cross-attention.",
        belief="The query seems to be the text as it came.",
        section="encoder_decoder",
        slips=(slip(READS2, "reads2 = came", only=IN_DECODER),),
    ),
    Misconception(
        "norm-axes-mixed",
        "Mean and variance run over different axes",
        symptom="A token's output depends on the other tokens.",
        belief="Two calls take an axis each, and one of them is wrong.",
        section="one_layer",
        slips=(
            slip(VARIANCE, "variance = (centred**2).mean(dim=-2, keepdim=True)"),
            slip(MEAN, "mean = x.mean(dim=-2, keepdim=True)"),
            slip(VARIANCE, "variance = (centred**2).mean()"),
            slip(MEAN, "mean = x.mean()"),
            Slip(
                {
                    MEAN: "mean = x.mean(dim=-2, keepdim=True)",
                    VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)",
                }
            ),
            slip(VARIANCE, "variance = x.var(dim=-2, correction=0, keepdim=True)"),
            Slip({MEAN: "mean = x.mean()", VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)"}),
            slip(VARIANCE, "variance = x.var(correction=0)"),
        ),
    ),
    Misconception(
        "norm-multiplied",
        "It is multiplied by the deviation, not divided",
        symptom="Tokens that are twice as long come out four times as long.",
        belief="The root is taken with the wrong sign of its exponent.",
        section="one_layer",
        slips=(
            slip(NORMED, "normed = centred * (variance + eps).sqrt()"),
            slip(NORMED, "normed = centred * (variance + eps)"),
        ),
    ),
    Misconception(
        "norm-length",
        "It is divided by the length of the row: the 1/d of the variance is missing",
        symptom="All numbers are too small, the more so the wider the model.",
        belief="The sum of squares is taken for their mean.",
        section="one_layer",
        slips=(
            slip(VARIANCE, "variance = (centred**2).sum(dim=-1, keepdim=True)"),
            slip(NORMED, "normed = F.normalize(centred, dim=-1)"),
            slip(NORMED, "normed = centred / ((centred**2).sum(dim=-1, keepdim=True).sqrt() + eps)"),
        ),
    ),
    Misconception(
        "norm-l2",
        "The row is divided by its length, and not centred",
        symptom="A constant added to a token changes its output.",
        belief="To normalise a vector is to divide it by its length.",
        section="one_layer",
        slips=(
            slip(NORMED, "normed = x / ((x**2).sum(dim=-1, keepdim=True) + eps).sqrt()"),
            slip(NORMED, "normed = F.normalize(x, dim=-1)"),
        ),
    ),
    Misconception(
        "norm-mean-absolute",
        "It is divided by the mean absolute deviation, not by the root of the variance",
        symptom="All numbers are a little too large.",
        belief="Both measure how far the numbers are from their mean.",
        section="one_layer",
        slips=(
            slip(NORMED, "normed = centred / (centred.abs().mean(dim=-1, keepdim=True) + eps)"),
            slip(NORMED, "normed = centred / centred.abs().mean(dim=-1, keepdim=True)"),
            slip(NORMED, "normed = centred / (centred.abs().mean(dim=-1, keepdim=True) + eps).sqrt()"),
            slip(NORMED, "normed = centred / (centred.abs().sum(dim=-1, keepdim=True) + eps)"),
        ),
    ),
    Misconception(
        "norm-minmax",
        "It is scaled by the smallest and the largest number, not by mean and deviation",
        symptom="One number decides how all others come out.",
        belief="To normalise is to bring into the range from 0 to 1.",
        section="one_layer",
        slips=(
            slip(
                NORMED,
                "low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)\n"
                "normed = (x - low) / (high - low + eps)",
            ),
            slip(NORMED, "normed = centred / (x.amax(dim=-1, keepdim=True) - x.amin(dim=-1, keepdim=True) + eps)"),
            slip(
                NORMED,
                "low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)\n"
                "normed = 2 * (x - low) / (high - low + eps) - 1",
            ),
            slip(NORMED, "normed = x / (x.abs().amax(dim=-1, keepdim=True) + eps)"),
            slip(NORMED, "normed = centred / (centred.abs().amax(dim=-1, keepdim=True) + eps)"),
        ),
    ),
    Misconception(
        "norm-raw-variance",
        "The variance is the mean of the squares: the mean is not subtracted in it",
        symptom="A constant added to a token changes its output.",
        belief="The mean is subtracted once, in the fraction above.",
        section="one_layer",
        slips=(
            slip(VARIANCE, "variance = (x**2).mean(dim=-1, keepdim=True)"),
            slip(NORMED, "normed = centred / ((x**2).mean(dim=-1, keepdim=True).sqrt() + eps)"),
            slip(VARIANCE, "variance = (x**2).mean(dim=-1, keepdim=True) - mean"),
            slip(VARIANCE, "variance = (x**2).mean(dim=-1, keepdim=True) + mean**2"),
        ),
    ),
    Misconception(
        "norm-median",
        "The median is subtracted, or another number than the mean",
        symptom="The numbers of a token do not sum to 0 before gamma and beta.",
        belief="Median and mean are both called the middle.",
        section="one_layer",
        slips=(
            Slip(
                {
                    CENTRED: "centred = x - x.median(dim=-1, keepdim=True).values",
                    VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)",
                }
            ),
            slip(CENTRED, "centred = x - x.median(dim=-1, keepdim=True).values"),
            Slip(
                {
                    CENTRED: "centred = x - x.amax(dim=-1, keepdim=True)",
                    VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)",
                }
            ),
            Slip(
                {CENTRED: "centred = x - x[..., :1]", VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)"}
            ),
            Slip(
                {
                    CENTRED: "centred = x - x.sum(dim=-1, keepdim=True)",
                    VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)",
                }
            ),
            Slip({CENTRED: "centred = x + mean", VARIANCE: "variance = x.var(dim=-1, correction=0, keepdim=True)"}),
        ),
    ),
    Misconception(
        "norm-affine-order",
        "gamma and beta are applied in the wrong order, or before the norm",
        symptom="beta is scaled by gamma, or what gamma and beta say is normed away.",
        belief="Both belong to the norm, and their order seems free.",
        section="one_layer",
        slips=(
            slip(OUTPUT, "output = gamma * (normed + beta)"),
            slip(MEAN, "x = gamma * x\nmean = x.mean(dim=-1, keepdim=True)\ngamma = 1"),
            slip(MEAN, "x = gamma * x + beta\nmean = x.mean(dim=-1, keepdim=True)\ngamma, beta = 1, 0"),
            slip(NORMED, "normed = (gamma * centred + beta) / (variance + eps).sqrt()\ngamma, beta = 1, 0"),
            slip(MEAN, "x = x + beta\nmean = x.mean(dim=-1, keepdim=True)\nbeta = 0"),
            slip(MEAN, "x = gamma * (x + beta)\nmean = x.mean(dim=-1, keepdim=True)\ngamma, beta = 1, 0"),
        ),
    ),
    Misconception(
        "norm-one-plus-gamma",
        "The factor is 1 + gamma, not gamma",
        symptom="Weights of a trained layer do not fit.",
        belief="Some models keep gamma − 1, so that it begins at 0.",
        section="one_layer",
        slips=(slip(OUTPUT, "output = (1 + gamma) * normed + beta"),),
    ),
    Misconception(
        "norm-affine-inverted",
        "gamma divides or is added, or beta is subtracted or multiplies",
        symptom="The larger gamma, the smaller the output; or beta pulls the other way.",
        belief="Gain and shift are undone, not applied.",
        section="one_layer",
        slips=(
            slip(OUTPUT, "output = normed / gamma + beta"),
            slip(OUTPUT, "output = gamma * normed - beta"),
            slip(OUTPUT, "output = (normed - beta) / gamma"),
            slip(OUTPUT, "output = normed + gamma + beta"),
            slip(OUTPUT, "output = normed * gamma * beta"),
            slip(OUTPUT, "output = (normed + gamma) * beta"),
        ),
    ),
    Misconception(
        "norm-one-gamma",
        "One number of gamma or beta serves all columns",
        symptom="The other numbers of gamma get no gradient.",
        belief="A norm seems to have one gain.",
        section="one_layer",
        slips=(
            slip(OUTPUT, "output = gamma[0] * normed + beta[0]"),
            slip(OUTPUT, "output = gamma[0] * normed + beta"),
            slip(OUTPUT, "output = gamma * normed + beta[0]"),
            slip(OUTPUT, "output = gamma.mean() * normed + beta.mean()"),
            slip(OUTPUT, "output = gamma[-1] * normed + beta[-1]"),
            slip(OUTPUT, "output = gamma.sum() * normed + beta.sum()"),
        ),
    ),
    Misconception(
        "norm-twice",
        "The norm is applied twice",
        symptom="gamma and beta are normed away, and applied again.",
        belief="A norm that is applied to what was normed seems to change nothing.",
        section="one_layer",
        slips=(
            slip(
                OUTPUT,
                "output = gamma * normed + beta\n"
                "output = gamma * F.layer_norm(output, output.shape[-1:], eps=eps) + beta",
            ),
        ),
    ),
    Misconception(
        "self-from-memory",
        "Self-attention reads the memory",
        symptom="The text does not meet itself.",
        belief="Both attentions are called alike.",
        section="encoder_decoder",
        slips=(
            slip(SELF, "says1 = attend(reads1, memory)"),
            slip(
                SELF,
                "says1 = attend(memory, mask=torch.ones(memory.shape[-2], memory.shape[-2], dtype=torch.bool).tril())",
            ),
            slip(SELF, "says1 = cross(reads1, memory)"),
            slip(SELF, "says1 = attend(memory, mask=mask)"),
            slip(SELF, "says1 = attend(memory, reads1, mask=None)"),
        ),
    ),
    Misconception(
        "cross-residual-memory",
        "Around cross-attention the memory is added, not the text, or beside it",
        symptom="It runs for texts and sources of one length only.",
        belief="Both go into cross-attention, so both seem to be its input.",
        section="encoder_decoder",
        slips=(
            slip(SUM2, "x = n2(memory + says2)", only=IN_DECODER),
            slip(SUM2, "x = n2(x + memory + says2)", only=IN_DECODER),
        ),
    ),
    Misconception(
        "cross-memory-alone",
        "In cross-attention the memory asks itself",
        symptom="What is gathered from the source does not depend on the text.",
        belief="The memory goes in wherever cross-attention has a place for it.",
        section="encoder_decoder",
        slips=(
            slip(CROSS, "says2 = cross(memory, memory)"),
            Slip({CROSS: "says2 = cross(memory, memory)", SUM2: "x = n2(memory + says2)"}),
        ),
    ),
    Misconception(
        "layer-last-norm-only",
        "Only one norm is there, at the end",
        symptom="The sums inside the layer grow.",
        belief="A norm at the end seems to make up for all before it.",
        section="one_layer",
        slips=(
            Slip({SUM1: "x = x + says1", SUM2: "x = n1(x + says2)"}, only=IN_ENCODER),
            Slip({SUM1: "x = x + says1", SUM2: "x = x + says2", SUM3: "x = n1(x + says3)"}),
        ),
    ),
    Misconception(
        "norm-factor",
        "What was normed is too large or too small by a factor, before gamma",
        symptom="The variance of a row is not 1.",
        belief="The variance is divided by another number than d.",
        section="one_layer",
        slips=(
            slip(NORMED, "normed = centred / (variance + eps).sqrt() / math.sqrt(x.shape[-1])"),
            slip(NORMED, "normed = centred / (variance + eps).sqrt() * math.sqrt(x.shape[-1])"),
        ),
        families=(
            Family(
                {NORMED: "normed = centred / (variance + eps).sqrt() * NUMBER"},
                (-2, -1, -0.5, 0.05, 0.1, 0.2, 0.4, 0.7, 1, 1.4, 2, 3, 5, 9, 16),
                unless=(1,),
            ),
        ),
    ),
    Misconception(
        "layer-reads-part",
        "A part reads what the part before it said, not the sum with its norm",
        symptom="What the part reads is not what the sum holds.",
        belief="Layers are first met as a chain.",
        section="one_layer",
        slips=(
            slip(READS2, "reads2 = says1", only=IN_ENCODER),
            slip(READS2, "reads2 = says1", only=IN_DECODER),
            slip(READS3, "reads3 = says2"),
            slip(READS2, "reads2 = n1(says1)", only=IN_ENCODER),
            slip(READS2, "reads2 = n1(says1)", only=IN_DECODER),
            slip(READS3, "reads3 = n2(says2)"),
            Slip({READS2: "reads2 = says1", READS3: "reads3 = says2"}),
        ),
    ),
    Misconception(
        "decoder-inputs-exchanged",
        "The layer's two inputs are exchanged: the memory is taken for the text",
        symptom="The output has as many rows as the source.",
        belief="The memory comes first in time, so it comes first in the call.",
        section="encoder_decoder",
        slips=(
            slip(
                THREE,
                "n1, n2, n3 = norm1, norm2, norm3\nx, memory = memory, x\n"
                "mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril()",
            ),
        ),
    ),
    Misconception(
        "norm-root-twice",
        "The root is taken twice",
        symptom="A token that is twice as long comes out longer.",
        belief="std() has the root in it already.",
        section="one_layer",
        slips=(slip(NORMED, "normed = centred / (variance.sqrt() + eps).sqrt()"),),
    ),
)
