"""Positions: sines and cosines, and rotary."""

from attnlib.exercises.misconception import Misconception, Slip, slip

PLACE = "place = torch.arange(x.shape[-2]) + offset"
FREQUENCY = "frequency = 10000.0 ** (-2 * pair / d_k)"
ANGLE = "angle = angle.to(x.dtype)"
PARTS = "first, second = x[..., : d_k // 2], x[..., d_k // 2 :]"
TRIG = "cos, sin = angle.cos(), angle.sin()"
TURNED = "turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)"
QUERY, KEY = "query = rotary(query)", "key = rotary(key)"

PLACES = "place = torch.arange(length)[:, None]"
SPEED = "frequency = 10000.0 ** (-2 * pair / d_model)"
TURN = "angle = place * frequency"
SINES = "sin, cos = angle.sin(), angle.cos()"
TABLE = "table = torch.stack([sin, cos], dim=-1).flatten(-2)"

NEIGHBOURS = "first, second = x[..., 0::2], x[..., 1::2]"
WOVEN = TURNED.replace("torch.cat([", "torch.stack([").replace("dim=-1)", "dim=-1).flatten(-2)")

MISCONCEPTIONS = (
    Misconception(
        "rotary-neighbours",
        "Neighbours are paired, where the halves should be",
        symptom="It trains as well, but weights of models that pair halves do not fit.",
        belief="The paper pairs neighbours; most code pairs the first half with the second.",
        section="positions-in-practice",
        slips=(Slip({PARTS: NEIGHBOURS, TURNED: WOVEN}),),
        wild="Llama's own code pairs neighbours, Hugging Face's halves; its conversion script permutes the weights.",
    ),
    Misconception(
        "rotary-mixed",
        "Halves are mixed with neighbours",
        symptom="Scores do not depend on the distance alone.",
        belief="Each half of the code comes from another source, and all shapes fit.",
        section="positions-in-practice",
        slips=(
            slip(PARTS, NEIGHBOURS),
            slip(TURNED, WOVEN),
            Slip(
                {
                    TRIG: "angle = angle.repeat_interleave(2, dim=-1)\ncos, sin = angle.cos(), angle.sin()",
                    TURNED: "turned = x * cos + torch.cat([-second, first], dim=-1) * sin",
                }
            ),
            Slip(
                {
                    PARTS: NEIGHBOURS,
                    TRIG: "angle = torch.cat([angle, angle], dim=-1)\ncos, sin = angle.cos(), angle.sin()",
                    TURNED: "turned = x * cos + torch.stack([-second, first], dim=-1).flatten(-2) * sin",
                }
            ),
        ),
    ),
    Misconception(
        "rotary-on-values",
        "The values are turned, too",
        symptom="The output depends on where the text begins.",
        belief="All three are made of the same tokens, so all three seem to need a place.",
        section="positions",
        slips=(slip(KEY, f"{KEY}\nvalue = rotary(value)"),),
    ),
    Misconception(
        "rotary-one-side",
        "Only the queries, or only the keys, are turned",
        symptom="Scores depend on a place, not on a distance.",
        belief="One turn seems to be enough to make a difference.",
        section="positions",
        slips=(slip(KEY, ""), slip(QUERY, "")),
    ),
    Misconception(
        "rotary-missing",
        "Nothing is turned",
        symptom="Tokens can be exchanged, and the outputs go with them.",
        belief="The function is called, but its result is not used.",
        section="positions",
        slips=(slip(TURNED, "turned = x"), Slip({QUERY: "", KEY: ""})),
    ),
    Misconception(
        "rotary-offset",
        "The offset is not used, or used wrongly",
        symptom="Under a cache every token stands at place 0.",
        belief="Without a cache the offset is 0.",
        section="positions",
        slips=(
            slip(PLACE, "place = torch.arange(x.shape[-2])"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) - offset"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) * max(offset, 1)"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) * 0 + offset"),
        ),
    ),
    Misconception(
        "rotary-from-one",
        "Places are counted from 1, so that the first token is turned, too",
        symptom="Scores are right, as they depend on distances; x itself is turned one step too far.",
        belief="The first token is number 1.",
        section="positions",
        slips=(slip(PLACE, "place = torch.arange(1, x.shape[-2] + 1) + offset"),),
    ),
    Misconception(
        "rotary-backwards",
        "The pairs are turned the other way",
        symptom="Scores of two turned vectors are right; weights of other models do not fit.",
        belief="A sign of the rotation matrix stands at the wrong sine.",
        section="positions",
        slips=(slip(TURNED, "turned = torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)"),),
    ),
    Misconception(
        "rotary-no-minus",
        "The minus sign of the rotation is missing",
        symptom="Vectors change their length, and scores do not depend on the distance alone.",
        belief="Both rows of the rotation look alike.",
        section="positions",
        slips=(
            slip(TURNED, TURNED.replace("first * cos - second * sin", "first * cos + second * sin")),
            slip(TURNED, TURNED.replace("second * cos + first * sin", "second * cos - first * sin")),
            slip(TURNED, "turned = torch.cat([first * cos - second * sin, first * cos + second * sin], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-sine-cosine",
        "Sine and cosine are exchanged",
        symptom="At place 0 nothing should be turned, and everything is.",
        belief="sin comes first in the table of sines and cosines.",
        section="positions",
        slips=(slip(TRIG, "sin, cos = angle.cos(), angle.sin()"),),
    ),
    Misconception(
        "rotary-parts-exchanged",
        "The halves are put together in the wrong order",
        symptom="At place 0 nothing should change, and the halves are exchanged.",
        belief="Both halves are turned, and their order seems free.",
        section="positions",
        slips=(
            slip(TURNED, "turned = torch.cat([second * cos + first * sin, first * cos - second * sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([second * cos - first * sin, first * cos + second * sin], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-added",
        "Positions are added, where x should be turned",
        symptom="Scores depend on places, not on distances.",
        belief="Sinusoidal positions are added.",
        section="positions",
        slips=(
            slip(TURNED, "turned = x + torch.cat([sin, cos], dim=-1)"),
            slip(TURNED, "turned = x + torch.cat([cos, sin], dim=-1)"),
            slip(TURNED, "turned = x + torch.stack([sin, cos], dim=-1).flatten(-2)"),
            slip(TURNED, "turned = x * torch.cat([cos, cos], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-axis",
        "Places run along another axis than that of the tokens",
        symptom="With heads in front all tokens of a head are turned alike.",
        belief="Axis 1 is that of the tokens until heads come in front.",
        section="positions",
        slips=(
            Slip(
                {
                    PLACE: "axis = 1 if x.ndim > 2 else 0\nplace = torch.arange(x.shape[axis]) + offset",
                    ANGLE: "angle = angle.to(x.dtype)\nif x.ndim > 3:\n    angle = angle[:, None]",
                }
            ),
            Slip(
                {
                    PLACE: "place = torch.arange(x.shape[0]) + offset",
                    ANGLE: "angle = angle.to(x.dtype)\nangle = angle[(slice(None), *[None] * (x.ndim - 2))]",
                }
            ),
        ),
    ),
    Misconception(
        "frequency-exponent",
        "The exponent of the frequencies is wrong",
        symptom="The slow pairs turn too fast, or all too slowly.",
        belief="2i/d counts pairs; i/d counts columns, and both are written i.",
        section="positions",
        slips=(
            slip(FREQUENCY, "frequency = 10000.0 ** (-pair / d_k)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-4 * pair / d_k)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * (pair + 1) / d_k)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-pair / max(d_k // 2 - 1, 1))"),
            slip(SPEED, "frequency = 10000.0 ** (-pair / d_model)"),
            slip(SPEED, "frequency = 10000.0 ** (-4 * pair / d_model)"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * (pair + 1) / d_model)"),
            slip(SPEED, "frequency = 10000.0 ** (-pair / max(d_model // 2 - 1, 1))"),
        ),
        wild="Tensor2Tensor divides by d/2 − 1, so that the slowest pair has exactly the base as its period over 2π.",
    ),
    Misconception(
        "frequency-sign",
        "The frequencies grow along the pairs, where they should fall",
        symptom="Angles run into the millions, and neighbours look unrelated.",
        belief="To divide by a power is to multiply with the negative one, and the sign is lost.",
        section="positions",
        slips=(
            slip(FREQUENCY, "frequency = 10000.0 ** (2 * pair / d_k)"),
            slip(SPEED, "frequency = 10000.0 ** (2 * pair / d_model)"),
            slip(FREQUENCY, "frequency = (10000.0 ** (-2 * pair / d_k)).flip(0)"),
            slip(SPEED, "frequency = (10000.0 ** (-2 * pair / d_model)).flip(0)"),
        ),
    ),
    Misconception(
        "frequency-one",
        "All pairs have one frequency",
        symptom="After a few tokens places repeat.",
        belief="One clock seems to be enough to tell the time.",
        section="positions",
        slips=(
            slip(FREQUENCY, "frequency = torch.ones(d_k // 2, dtype=torch.float64)"),
            slip(SPEED, "frequency = torch.ones(d_model // 2, dtype=torch.float64)"),
            slip(FREQUENCY, "frequency = torch.full((d_k // 2,), 1 / 10000.0)"),
            slip(SPEED, "frequency = torch.full((d_model // 2,), 1 / 10000.0)"),
        ),
    ),
    Misconception(
        "frequency-base",
        "The base is not 10000",
        symptom="The slow pairs turn too fast for long texts, or too slowly.",
        belief="A zero is lost, or another model's base is used.",
        section="positions-in-practice",
        slips=tuple(
            each
            for base in ("1000.0", "100000.0", "500000.0", "10.0", "math.e", "2.0")
            for each in (
                slip(FREQUENCY, FREQUENCY.replace("10000.0", base)),
                slip(SPEED, SPEED.replace("10000.0", base)),
            )
        ),
    ),
    Misconception(
        "frequency-division",
        "The place is divided by base · 2i/d, without a power",
        symptom="At the first pair it divides by 0.",
        belief="The exponent in the formula is small print.",
        section="positions",
        slips=(
            Slip({FREQUENCY: "frequency = 1 / (10000.0 * 2 * pair / d_k)"}),
            Slip({SPEED: "frequency = 1 / (10000.0 * 2 * pair / d_model)"}),
        ),
    ),
    Misconception(
        "angle-in-degrees",
        "Angles are taken for degrees",
        symptom="All pairs turn 57 times too slowly.",
        belief="Turns are measured in degrees in daily life.",
        section="positions",
        slips=(
            slip(ANGLE, "angle = angle.to(x.dtype).deg2rad()"),
            slip(TURN, "angle = (place * frequency).deg2rad()"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 2 * math.pi"),
            slip(TURN, "angle = place * frequency * 2 * math.pi"),
        ),
    ),
    Misconception(
        "sinusoidal-halves",
        "All sines stand first and all cosines after them",
        symptom="A linear layer does not care, but tables of other models do not fit.",
        belief="To put two halves side by side is one line; to weave them is two.",
        section="positions",
        slips=(
            slip(TABLE, "table = torch.cat([sin, cos], dim=-1)"),
            slip(TABLE, "table = torch.cat([cos, sin], dim=-1)"),
        ),
        wild="Tensor2Tensor, by the paper's own authors, has the halves side by side.",
    ),
    Misconception(
        "sinusoidal-exchanged",
        "Sines and cosines are exchanged",
        symptom="Place 0 begins with 1, not with 0.",
        belief="In cos and sin the cosine comes first.",
        section="positions",
        slips=(slip(TABLE, "table = torch.stack([cos, sin], dim=-1).flatten(-2)"),),
    ),
    Misconception(
        "sinusoidal-own-frequency",
        "Each column has a frequency of its own: sine and cosine of a pair differ",
        symptom="A shift in place is no rotation of the pairs any more.",
        belief="The index of the column is used where the index of the pair is meant.",
        section="positions",
        slips=(
            Slip(
                {
                    SPEED: "frequency = 10000.0 ** (-2 * pair / d_model)",
                    SINES: "sin, cos = angle.sin(), (place * 10000.0 ** (-(2 * pair + 1) / d_model)).cos()",
                }
            ),
            Slip(
                {
                    SPEED: "frequency = 10000.0 ** (-4 * pair / d_model)",
                    SINES: "sin, cos = angle.sin(), (place * 10000.0 ** (-2 * (2 * pair + 1) / d_model)).cos()",
                }
            ),
            slip(SINES, "sin, cos = angle.sin(), (place * 10000.0 ** (-2 * (pair + 1) / d_model)).cos()"),
        ),
    ),
    Misconception(
        "sinusoidal-sines-only",
        "There are only sines, or only cosines",
        symptom="A place and its mirror image look alike.",
        belief="One wave seems to be enough to tell the time.",
        section="positions",
        slips=(
            slip(SINES, "sin, cos = angle.sin(), angle.sin()"),
            slip(SINES, "sin, cos = angle.cos(), angle.cos()"),
            slip(SINES, "sin, cos = angle.sin(), torch.zeros_like(angle)"),
            Slip(
                {
                    SINES: "column = torch.arange(d_model)\nangle = place * 10000.0 ** (-column / d_model)",
                    TABLE: "table = angle.sin()",
                }
            ),
            Slip(
                {
                    SINES: "column = torch.arange(d_model)\nangle = place * 10000.0 ** (-2 * column / d_model)",
                    TABLE: "table = angle.sin()",
                }
            ),
        ),
    ),
    Misconception(
        "sinusoidal-from-one",
        "Places are counted from 1",
        symptom="The first row is not 0, 1, 0, 1 and so on.",
        belief="The first token is number 1.",
        section="positions",
        slips=(slip(PLACES, "place = torch.arange(1, length + 1)[:, None]"),),
    ),
    Misconception(
        "sinusoidal-transposed",
        "Places and columns are exchanged",
        symptom="The table has the shape (d_model, length).",
        belief="Formulas write PE(pos, i), and code fills it by columns.",
        section="positions",
        slips=(
            slip("return table", "return table.mT"),
            slip("return table", "return table.reshape(d_model, length)"),
        ),
    ),
    Misconception(
        "sinusoidal-scaled",
        "The table is scaled, or places are counted as shares of the length",
        symptom="The same place has other numbers in a longer text.",
        belief="Inputs of a network are often brought to the range from 0 to 1.",
        section="positions",
        slips=(
            slip(PLACES, "place = torch.arange(length)[:, None] / length"),
            slip(PLACES, "place = torch.arange(length)[:, None] / max(length - 1, 1)"),
            slip("return table", "return table * math.sqrt(d_model)"),
            slip("return table", "return table / math.sqrt(d_model)"),
        ),
    ),
)
