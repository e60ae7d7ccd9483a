"""Softmax in blocks of columns."""

from attnlib.exercises.misconception import Misconception, Slip, slip

START = "largest = torch.full((L, 1), -math.inf, dtype=scores.dtype)"
LOOP = "for start in range(0, S, block):"
PART = "part = scores[:, start : start + block]"
NEW = "largest = torch.maximum(before, part.amax(dim=-1, keepdim=True))"
SHRINK = "shrink = (before - largest).exp()"
POWERS = "powers = (part - largest).exp()"
TOTAL = "total = total * shrink + powers.sum(dim=-1, keepdim=True)"
OUTPUT = "output = output * shrink + powers @ value"
DIVIDE = "output = output / total"
VALUE = "value = values[start : start + block]"
ZERO = "total = torch.zeros(L, 1, dtype=scores.dtype)"

MISCONCEPTIONS = (
    Misconception(
        "online-sum-kept",
        "The running sum is not scaled when a larger score comes",
        symptom="Right for one block, or if the largest score comes first.",
        belief="The output is corrected, so all seems corrected.",
        section="fast_attention",
        slips=(slip(TOTAL, "total = total + powers.sum(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        "online-output-kept",
        "The running output is not scaled when a larger score comes",
        symptom="Right for one block, or if the largest score comes first.",
        belief="The sum is corrected, so all seems corrected.",
        section="fast_attention",
        slips=(slip(OUTPUT, "output = output + powers @ value"),),
    ),
    Misconception(
        "online-nothing-scaled",
        "Neither the sum nor the output is scaled when a larger score comes",
        symptom="Blocks are weighed as if each had the same largest score.",
        belief="The maximum is there for safety only; but here it changes on the way.",
        section="fast_attention",
        slips=(
            Slip(
                {TOTAL: "total = total + powers.sum(dim=-1, keepdim=True)", OUTPUT: "output = output + powers @ value"}
            ),
            Slip(
                {
                    NEW: "largest = part.amax(dim=-1, keepdim=True)",
                    TOTAL: "total = total + powers.sum(dim=-1, keepdim=True)",
                    OUTPUT: "output = output + powers @ value",
                }
            ),
        ),
    ),
    Misconception(
        "online-factor-inverted",
        "The factor is turned over: exp(new − old)",
        symptom="What was summed grows where it should shrink.",
        belief="Old and new are easily exchanged.",
        section="fast_attention",
        slips=(
            slip(SHRINK, "shrink = (largest - before).exp()"),
            slip(SHRINK, "shrink = torch.where(before.isinf(), 0.0, (largest - before).exp())"),
        ),
    ),
    Misconception(
        "online-factor-everywhere",
        "The factor is applied to the new block, too",
        symptom="New keys count too little.",
        belief="The whole sum seems to be in the old scale.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    TOTAL: "total = (total + powers.sum(dim=-1, keepdim=True)) * shrink",
                    OUTPUT: "output = (output + powers @ value) * shrink",
                }
            ),
            Slip({TOTAL: "total = (total + powers.sum(dim=-1, keepdim=True)) * shrink"}),
            Slip({OUTPUT: "output = (output + powers @ value) * shrink"}),
            Slip(
                {
                    OUTPUT: "output = output * shrink + powers @ value * shrink",
                    TOTAL: "total = total * shrink + powers.sum(dim=-1, keepdim=True) * shrink",
                }
            ),
        ),
    ),
    Misconception(
        "online-block-maximum",
        "The maximum is that of the block, not the largest so far",
        symptom="Old sums can overflow: the factor is above 1.",
        belief="Each block is a softmax of its own.",
        section="fast_attention",
        slips=(slip(NEW, "largest = part.amax(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        "online-from-zero",
        "The running maximum begins at 0",
        symptom="If all scores lie far below 0, all powers vanish, and 0/0 is left.",
        belief="Sums begin at 0, so the maximum does, too.",
        section="fast_attention",
        slips=(
            slip(START, "largest = torch.zeros(L, 1, dtype=scores.dtype)"),
            slip(START, "largest = torch.full((L, 1), -100.0, dtype=scores.dtype)"),
            slip(START, "largest = torch.full((L, 1), -1000.0, dtype=scores.dtype)"),
            slip(START, "largest = torch.full((L, 1), -1.0, dtype=scores.dtype)"),
            slip(START, "largest = torch.full((L, 1), -10.0, dtype=scores.dtype)"),
            slip(START, "largest = torch.full((L, 1), 1.0, dtype=scores.dtype)"),
        ),
    ),
    Misconception(
        "online-no-maximum",
        "No maximum is subtracted",
        symptom="Large scores overflow.",
        belief="The sums are exact without it, and no factor is needed.",
        section="fast_attention",
        slips=(
            Slip({START: "largest = torch.zeros(L, 1, dtype=scores.dtype)", NEW: ""}),
            Slip({START: "largest = scores[:, :block].amax(dim=-1, keepdim=True)", NEW: ""}),
        ),
    ),
    Misconception(
        "online-one-maximum",
        "One maximum is kept for all rows",
        symptom="A row far below the others becomes 0/0.",
        belief="The softmax is the same for any shift.",
        section="fast_attention",
        slips=(
            slip(NEW, "largest = torch.maximum(before, part.max())"),
            Slip({START: "largest = torch.full((L, 1), float(scores.max()), dtype=scores.dtype)", NEW: ""}),
        ),
    ),
    Misconception(
        "online-last-block",
        "The last, shorter block is left out",
        symptom="Right if the block divides the number of columns.",
        belief="S // block is the number of blocks.",
        section="fast_attention",
        slips=(
            slip(LOOP, "for start in range(0, S // block * block, block):"),
            slip(LOOP, "for start in range(0, S - 1, block):"),
            slip(LOOP, "for start in range(0, S - block, block):"),
            slip(LOOP, "for start in range(block, S, block):"),
            slip(LOOP, "for start in range(0, max(S // block, 1) * block, block):"),
        ),
    ),
    Misconception(
        "online-one-block",
        "Only one block is read, the first or the last",
        symptom="Most keys can be changed at will, and the output stays.",
        belief="A loop that returns too early, or a slice that is left from a test.",
        section="fast_attention",
        slips=(
            slip(LOOP, "for start in [0]:"),
            slip(LOOP, "for start in [max(S - block, 0)]:"),
        ),
    ),
    Misconception(
        "online-not-divided",
        "The output is not divided by the sum at the end",
        symptom="Rows are too large by the sum of their powers.",
        belief="The powers look like weights.",
        section="fast_attention",
        slips=(
            slip(DIVIDE, ""),
            Slip({DIVIDE: "output = output / S"}),
            Slip({DIVIDE: "output = output / block"}),
            Slip({DIVIDE: "output = output / output.sum(dim=-1, keepdim=True)"}),
        ),
    ),
    Misconception(
        "online-mean-of-blocks",
        "Each block's softmax is taken by itself, and the results are averaged or added",
        symptom="A block of small scores counts as much as one of large scores.",
        belief="The mean of averages seems to be the average.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    TOTAL: "total = total + 1",
                    OUTPUT: "output = output + torch.softmax(part, dim=-1) @ value",
                }
            ),
            Slip({OUTPUT: "output = output + torch.softmax(part, dim=-1) @ value", DIVIDE: ""}),
            Slip({OUTPUT: "output = torch.softmax(part, dim=-1) @ value", DIVIDE: ""}),
            Slip({OUTPUT: "output = output * shrink + torch.softmax(part, dim=-1) @ value", DIVIDE: ""}),
            Slip(
                {
                    TOTAL: "total = total + part.shape[1]",
                    OUTPUT: "output = output + part.shape[1] * (torch.softmax(part, dim=-1) @ value)",
                }
            ),
            Slip({OUTPUT: "output = (output + torch.softmax(part, dim=-1) @ value) / (2 if start else 1)", DIVIDE: ""}),
        ),
    ),
    Misconception(
        "online-divided-early",
        "The output is divided by the sum in each step",
        symptom="Early blocks are divided several times.",
        belief="Each step is thought to leave a finished average.",
        section="fast_attention",
        slips=(
            Slip({OUTPUT: "output = (output * shrink + powers @ value) / total", DIVIDE: ""}),
            slip(OUTPUT, "output = (output * shrink + powers @ value) / total"),
            Slip({OUTPUT: "output = output * shrink + powers @ value / powers.sum(dim=-1, keepdim=True)"}),
            Slip({OUTPUT: "output = output * shrink + powers @ value / total", DIVIDE: ""}),
        ),
    ),
    Misconception(
        "online-not-summed",
        "Each block replaces the one before: nothing is summed up",
        symptom="Only the last block is read.",
        belief="The loop assigns where it should add.",
        section="fast_attention",
        slips=(Slip({TOTAL: "total = powers.sum(dim=-1, keepdim=True)", OUTPUT: "output = powers @ value"}),),
    ),
    Misconception(
        "online-scaled",
        "The scores are divided by the root of a size once more",
        symptom="The weights are too uniform.",
        belief="In attention the scores are divided by √d_k; here they came divided.",
        section="fast_attention",
        slips=(
            slip(PART, "part = scores[:, start : start + block] / math.sqrt(values.shape[-1])"),
            slip(PART, "part = scores[:, start : start + block] / math.sqrt(S)"),
        ),
    ),
    Misconception(
        "online-wrong-columns",
        "A block of scores meets other keys' values",
        symptom="Right for one block only.",
        belief="Rows of the values are the columns of the scores, and one of the two indices is off.",
        section="fast_attention",
        slips=(
            slip("value = values[start : start + block]", "value = values[: part.shape[1]]"),
            slip(PART, "part = scores[:, : min(block, S - start)]"),
            slip(VALUE, "value = values.flip(0)[start : start + block]"),
            slip(VALUE, "value = values[-part.shape[1] :]"),
        ),
    ),
    Misconception(
        "online-overlap",
        "Blocks overlap: columns at the border count twice",
        symptom="Right for one block.",
        belief="A slice leaves out its end, and one is added to be safe.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    PART: "part = scores[:, start : start + block + 1]",
                    VALUE: "value = values[start : start + block + 1]",
                }
            ),
            Slip(
                {
                    PART: "part = scores[:, max(start - 1, 0) : start + block]",
                    VALUE: "value = values[max(start - 1, 0) : start + block]",
                }
            ),
            slip(LOOP, "for start in range(0, S, max(block - 1, 1)):"),
            slip(LOOP, "for start in [min(start, max(S - block, 0)) for start in range(0, S, block)]:"),
            slip(LOOP, "for start in range(S):"),
        ),
    ),
    Misconception(
        "online-gap",
        "Columns at the border of two blocks are left out",
        symptom="Right for one block.",
        belief="A slice is taken to hold its end.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    PART: "part = scores[:, start : start + max(block - 1, 1)]",
                    VALUE: "value = values[start : start + max(block - 1, 1)]",
                }
            ),
            slip(LOOP, "for start in range(0, S, block + 1):"),
        ),
    ),
    Misconception(
        "online-extra-column",
        "An invisible column of score 0 counts: the maximum begins at 0 and the sum at 1",
        symptom="Rows of low scores are too small.",
        belief="A sum that begins at 1 is never 0.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    START: "largest = torch.zeros(L, 1, dtype=scores.dtype)",
                    ZERO: "total = torch.ones(L, 1, dtype=scores.dtype)",
                }
            ),
            Slip(
                {
                    START: "largest = torch.zeros(L, 1, dtype=scores.dtype)",
                    ZERO: "total = torch.ones(L, 1, dtype=scores.dtype)",
                    NEW: "",
                }
            ),
        ),
    ),
    Misconception(
        "online-last-sum",
        "The sum is that of the last block only",
        symptom="Right for one block.",
        belief="The sum is assigned, not added to.",
        section="fast_attention",
        slips=(slip(TOTAL, "total = powers.sum(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        "online-last-output",
        "The output is that of the last block only",
        symptom="Right for one block.",
        belief="The output is assigned, not added to.",
        section="fast_attention",
        slips=(slip(OUTPUT, "output = powers @ value"),),
    ),
    Misconception(
        "online-weighed-by-maxima",
        "Blocks are weighed by their largest scores, not by their sums",
        symptom="A block of many equal scores counts as one of them.",
        belief="The largest score stands for its block.",
        section="fast_attention",
        slips=(
            Slip(
                {
                    TOTAL: "total = total * shrink + (part.amax(dim=-1, keepdim=True) - largest).exp()",
                    OUTPUT: (
                        "output = output * shrink + (part.amax(dim=-1, keepdim=True) - largest).exp() * "
                        "(torch.softmax(part, dim=-1) @ value)"
                    ),
                }
            ),
        ),
    ),
    Misconception(
        "online-factor-twice",
        "The factor is applied twice to what was summed",
        symptom="Old keys count too little.",
        belief="Both the sum and its parts are scaled.",
        section="fast_attention",
        slips=(
            slip(SHRINK, "shrink = (2 * (before - largest)).exp()"),
            slip(OUTPUT, "output = output * shrink * shrink + powers @ value"),
            slip(TOTAL, "total = total * shrink * shrink + powers.sum(dim=-1, keepdim=True)"),
        ),
    ),
    Misconception(
        "online-block-powers",
        "The powers are shifted by the block's own maximum, and the sums by the largest so far",
        symptom="Blocks of small scores count too much.",
        belief="Each block is made safe by itself.",
        section="fast_attention",
        slips=(slip(POWERS, "powers = (part - part.amax(dim=-1, keepdim=True)).exp()"),),
    ),
    Misconception(
        "online-previous-maximum",
        "The powers are shifted by the maximum before the block",
        symptom="The newest powers are in the old scale.",
        belief="The maximum is brought up to date at the end of the loop.",
        section="fast_attention",
        slips=(slip(POWERS, "powers = (part - torch.where(before.isinf(), largest, before)).exp()"),),
    ),
)
