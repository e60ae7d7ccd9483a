"""What can be wrong with any result, whatever was computed: its shape, a factor, an order. No slip is looked for."""

from attnlib.exercises.misconception import Misconception, Slip, slip

NUMBERS = {
    "softmax": "return weights",
    "attention": "return output",
    "layer_norm": "return output",
    "softmax_backward": "return back",
    "sinusoidal": "return table",
}


def _returned(how: str, lines: dict[str, str] = NUMBERS) -> tuple[Slip, ...]:
    """Another thing that is returned, made of what is right: ``it``."""
    return tuple(
        slip(line, "return " + how.replace("it", line.partition(" ")[2]), (name,)) for name, line in lines.items()
    )


MISCONCEPTIONS = (
    Misconception(
        "result-shape",
        "The numbers are right, and their shape is not",
        symptom="The next step fails, or broadcasts without an error.",
        belief="An axis of length 1 or a flat list holds the same numbers.",
        section="steps",
        slips=_returned("it[None]"),
    ),
    Misconception(
        "result-transposed",
        "The result is right but transposed",
        symptom="An error for L ≠ S; else rows and columns are exchanged.",
        belief="Rows and columns are easily exchanged, and square examples hide it.",
        section="steps",
        slips=_returned("it.mT"),
    ),
    Misconception(
        "result-negated",
        "The result has the wrong sign",
        symptom="All numbers are right but for their sign.",
        belief="A difference is taken the other way round.",
        section="steps",
        slips=_returned("-it", {name: NUMBERS[name] for name in ("softmax", "attention", "layer_norm")}),
    ),
    Misconception(
        "result-scaled",
        "The result is too large or too small by a factor",
        symptom="All numbers are wrong in the same proportion.",
        belief="A factor is applied once too often, or not at all.",
        section="steps",
        slips=_returned("it * 1.5"),
    ),
    Misconception(
        "result-shifted",
        "A number is added to all of the result",
        symptom="All numbers are wrong by the same amount.",
        belief="A small number that should keep a step safe stays in the result.",
        section="steps",
        slips=_returned("it + 0.1"),
    ),
    Misconception(
        "result-rounded",
        "The result is rounded to whole numbers",
        symptom="All numbers are whole.",
        belief="An array that was made for whole numbers keeps whole numbers, and cuts off what is written into it.",
        section="steps",
        slips=_returned("it.trunc()", {"sinusoidal": NUMBERS["sinusoidal"]}),
    ),
    Misconception(
        "result-rows-reordered",
        "The rows are right, and stand in another order",
        symptom="Each row is some other query's.",
        belief="A list is filled from the wrong end.",
        section="steps",
        slips=_returned("it.flip(-2)"),
    ),
    Misconception(
        "result-columns-reordered",
        "The columns are right, and stand in another order",
        symptom="Each row holds the right numbers at the wrong places.",
        belief="An axis is turned round, or rolled by one.",
        section="steps",
        slips=_returned("it.flip(-1)"),
    ),
    Misconception(
        "result-heads-reordered",
        "The examples or heads are right, and stand in another order",
        symptom="Each head's output is another head's.",
        belief="All heads are alike before training, so their order seems free.",
        section="multi_head_attention",
        slips=(slip("return output", "return output.roll(1, 1)", ("grouped_heads",)),),
    ),
    Misconception(
        "result-nan",
        "All numbers are NaN: 0/0, 0 · ∞ or ∞ − ∞ is computed on the way",
        symptom="No number comes out, whatever goes in.",
        belief="−∞ is a good start for a maximum, and a bad one for a difference.",
        section="faq-nan",
        slips=(*_returned("it * math.nan"),),
    ),
    Misconception(
        "mask-too-open",
        "Keys are open that should be closed, and all that should be open are",
        symptom="A query reads what it may not see.",
        belief="A mask is checked by what one sees through it.",
        section="masks",
        slips=(
            slip("return allowed", "return allowed | (torch.arange(allowed.shape[-1]) == 0)", ("causal_mask",)),
            slip("return allowed", "return allowed | (torch.arange(allowed.shape[-1]) == 0)", ("sliding_window",)),
        ),
    ),
    Misconception(
        "mask-too-closed",
        "Keys are closed that should be open, and all that should be closed are",
        symptom="A query does not read all that it may see.",
        belief="A mask is checked by what it keeps away.",
        section="masks",
        slips=(
            slip("return allowed", "return allowed & (torch.arange(allowed.shape[-1]) > 0)", ("causal_mask",)),
            slip("return allowed", "return allowed & (torch.arange(allowed.shape[-1]) > 0)", ("sliding_window",)),
            slip("return allowed", "return allowed & (torch.arange(allowed.shape[-1]) > 0)", ("padding_mask",)),
        ),
    ),
)
