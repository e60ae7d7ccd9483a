"""Positions: sines and cosines, and rotary."""

from attnlib.exercises.misconception import Family, Misconception, Slip, slip

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

BASES = (
    1.2,
    1.5,
    2,
    3,
    4,
    6,
    9,
    14,
    20,
    30,
    45,
    70,
    100,
    160,
    250,
    400,
    700,
    1200,
    2e3,
    4e3,
    8e3,
    1.5e4,
    3e4,
    6e4,
    1.2e5,
    2.5e5,
    6e5,
    2e6,
    1e7,
    1e8,
)
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
            slip(PLACE, "place = torch.arange(x.shape[-2]) + offset * x.shape[-2]"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) + 2 * offset"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) * (1 + offset)"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) + max(offset - 1, 0)"),
            slip(PLACE, "place = torch.arange(x.shape[-2])\nx = x + offset"),
            slip(PLACE, "place = (torch.arange(x.shape[-2]) - offset).clamp(min=0)"),
            slip(PLACE, "place = torch.arange(x.shape[-2])\nplace = place + offset * (place > 0)"),
            slip(PLACE, "place = torch.arange(x.shape[-2]) + offset + 1 * (offset > 0)"),
            Slip({PLACE: "place = torch.arange(x.shape[-2])", ANGLE: "angle = angle.to(x.dtype) + offset"}),
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
            slip(TURNED, "turned = x + torch.stack([cos, sin], dim=-1).flatten(-2)"),
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
            slip(FREQUENCY, "frequency = 10000.0 ** (-(2 * pair + 1) / d_k)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * pair / (d_k - 2 + (d_k == 2)))"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * (pair // 2) / d_k)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * pair / (d_k - 1))"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * pair / (d_k + 2))"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-pair)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-2 * pair)"),
            slip(FREQUENCY, "frequency = 10000.0 ** (-(pair + 1) / d_k)"),
            slip(SPEED, "frequency = 10000.0 ** (-(2 * pair + 1) / d_model)"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * pair / (d_model - 2 + (d_model == 2)))"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * (pair // 2) / d_model)"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * pair / (d_model - 1))"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * pair / (d_model + 2))"),
            slip(SPEED, "frequency = 10000.0 ** (-pair)"),
            slip(SPEED, "frequency = 10000.0 ** (-2 * pair)"),
            slip(SPEED, "frequency = 10000.0 ** (-(pair + 1) / d_model)"),
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
            slip(FREQUENCY, "frequency = 10000.0 ** (pair / d_k)"),
            slip(SPEED, "frequency = 10000.0 ** (pair / d_model)"),
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
            slip(SPEED, "frequency = torch.full((d_model // 2,), 1 / 10000.0)"),
            slip(FREQUENCY, "frequency = torch.full((d_k // 2,), 10000.0 ** (-1 / d_k))"),
            slip(SPEED, "frequency = torch.full((d_model // 2,), 10000.0 ** (-2 / d_model))"),
            slip(SPEED, "frequency = torch.full((d_model // 2,), 10000.0)"),
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
        families=(
            Family({FREQUENCY: FREQUENCY.replace("10000.0", "NUMBER")}, BASES, unless=(10000,)),
            Family({SPEED: SPEED.replace("10000.0", "NUMBER")}, BASES, unless=(10000,)),
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
            Slip({FREQUENCY: "frequency = 1 / (10000.0 * 2 * (pair + 1) / d_k)"}),
            Slip({SPEED: "frequency = 1 / (10000.0 * 2 * (pair + 1) / d_model)"}),
            slip(FREQUENCY, "frequency = 1 / (1 + 10000.0 * 2 * pair / d_k)"),
            slip(SPEED, "frequency = 1 / (1 + 10000.0 * 2 * pair / d_model)"),
            slip(SPEED, "frequency = 2 * pair / d_model / 10000"),
            slip(SPEED, "frequency = 1 / (10000.0 ** 2 * pair / d_model)"),
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
        ),
    ),
    Misconception(
        "sinusoidal-halves",
        "All sines stand first and all cosines after them",
        symptom="A linear layer does not care, but tables of other models do not fit.",
        belief="To put two halves side by side is one line; to weave them is two.",
        section="positions",
        slips=(slip(TABLE, "table = torch.cat([sin, cos], dim=-1)"),),
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
            slip(SINES, "sin, cos = angle.cos(), torch.zeros_like(angle)"),
            slip(SINES, "sin, cos = torch.zeros_like(angle), angle.cos()"),
            slip(SINES, "sin, cos = torch.zeros_like(angle), angle.sin()"),
            slip(TABLE, "table = torch.cat([sin, sin], dim=-1)"),
            slip(TABLE, "table = torch.cat([cos, cos], dim=-1)"),
            Slip(
                {
                    SINES: "column = torch.arange(d_model)\nangle = place * 10000.0 ** (-column / d_model)",
                    TABLE: "table = angle.cos()",
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
            slip("return table", "return table * d_model"),
            slip("return table", "return table * 0.1"),
            slip("return table", "return table / 2 + 0.5"),
            slip(PLACES, "place = torch.arange(length)[:, None] / d_model"),
        ),
    ),
    Misconception(
        "rotary-in-place",
        "The second half is made of the first one already turned",
        symptom="Vectors change their length.",
        belief="The first half is written back before the second one reads it.",
        section="positions",
        slips=(
            slip(
                TURNED,
                "first = first * cos - second * sin\nturned = torch.cat([first, second * cos + first * sin], dim=-1)",
            ),
            slip(
                TURNED,
                "second = second * cos + first * sin\nturned = torch.cat([first * cos - second * sin, second], dim=-1)",
            ),
            Slip(
                {
                    PARTS: NEIGHBOURS,
                    TURNED: (
                        "first = first * cos - second * sin\n"
                        "turned = torch.stack([first, second * cos + first * sin], dim=-1).flatten(-2)"
                    ),
                }
            ),
        ),
    ),
    Misconception(
        "rotary-same-angle",
        "All tokens are turned alike: their places are not used",
        symptom="Attention does not see the order.",
        belief="The frequencies look like angles.",
        section="positions",
        slips=(
            slip(PLACE, "place = torch.ones(x.shape[-2])"),
            slip(PLACE, "place = torch.ones(x.shape[-2]) * x.shape[-2]"),
            slip(PLACE, "place = torch.ones(x.shape[-2]) * (x.shape[-2] + offset)"),
            slip(PLACE, "place = torch.ones(x.shape[-2]) + offset"),
            slip(PLACE, "place = torch.ones(x.shape[-2]) * (x.shape[-2] - 1 + offset)"),
        ),
    ),
    Misconception(
        "rotary-half",
        "Only one of the halves is turned",
        symptom="The other half does not depend on the place.",
        belief="The formula is applied to what is at hand.",
        section="positions",
        slips=(
            slip(TURNED, "turned = torch.cat([first * cos - second * sin, second], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first, second * cos + first * sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first * cos - second * sin, first * cos - second * sin], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-partial",
        "Only some of the pairs are turned",
        symptom="The last columns, or the last pairs, do not depend on the place.",
        belief="Some models turn a part of the columns only.",
        section="positions",
        slips=(
            slip(
                TURNED,
                "r = d_k // 4 * 2\n"
                "angle = (place[:, None] * 10000.0 ** (-2 * pair[: r // 2] / max(r, 1))).to(x.dtype)\n"
                "cos, sin = angle.cos(), angle.sin()\n"
                "first, second = x[..., : r // 2], x[..., r // 2 : r]\n"
                "turned = torch.cat([first * cos - second * sin, second * cos + first * sin, x[..., r:]], dim=-1)",
            ),
            slip(ANGLE, "angle = angle.to(x.dtype) * (pair < d_k // 4)"),
            slip(ANGLE, "angle = angle.to(x.dtype) * (pair > 0)"),
            slip(ANGLE, "angle = angle.to(x.dtype) * (pair < d_k // 2 - 1)"),
        ),
    ),
    Misconception(
        "angle-factor",
        "All angles are too large or too small by a factor",
        symptom="Places repeat too soon, or are hard to tell apart.",
        belief="A whole turn is 2π, and it is not asked for here; or something is turned twice.",
        section="positions",
        slips=(
            slip(ANGLE, "angle = angle.to(x.dtype) * 2"),
            slip(TURN, "angle = place * frequency * 2"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 2 * math.pi"),
            slip(TURN, "angle = place * frequency * 2 * math.pi"),
            slip(ANGLE, "angle = angle.to(x.dtype) * math.pi"),
            slip(TURN, "angle = place * frequency * math.pi"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 0.5"),
            slip(TURN, "angle = place * frequency * 0.5"),
            slip(ANGLE, "angle = angle.to(x.dtype) * math.pi / 2"),
            slip(TURN, "angle = place * frequency * math.pi / 2"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 10"),
            slip(TURN, "angle = place * frequency * 10"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 0.1"),
            slip(TURN, "angle = place * frequency * 0.1"),
            slip(ANGLE, "angle = angle.to(x.dtype) * (180 / math.pi)"),
            slip(TURN, "angle = place * frequency * (180 / math.pi)"),
            slip(ANGLE, "angle = angle.to(x.dtype) * 3"),
            slip(TURN, "angle = place * frequency * 3"),
            slip(ANGLE, "angle = angle.to(x.dtype) / math.sqrt(d_k)"),
            slip(TURN, "angle = place * frequency / math.sqrt(d_model)"),
            slip(TURN, "angle = place * frequency / (2 * math.pi)"),
            slip(PLACE, "place = (torch.arange(x.shape[-2]) + offset) / x.shape[-2]"),
        ),
        families=(
            Family(
                {ANGLE: "angle = angle.to(x.dtype) * NUMBER"},
                (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.15, 1.4, 1.7, 2.1, 2.6, 3.2),
                unless=(1,),
            ),
            Family(
                {TURN: "angle = place * frequency * NUMBER"},
                (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.15, 1.4, 1.7, 2.1, 2.6, 3.2),
                unless=(1,),
            ),
        ),
    ),
    Misconception(
        "rotary-one-term",
        "Only the cosine terms are there, or only the sine terms",
        symptom="Vectors change their length with their place.",
        belief="One of the two products of each line is lost.",
        section="positions",
        slips=(
            slip(TURNED, "turned = x * torch.cat([cos, cos], dim=-1)"),
            slip(TURNED, "turned = torch.cat([-second * sin, first * sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first * cos, second * sin], dim=-1)"),
            slip(TURNED, "turned = x * torch.cat([sin, sin], dim=-1)"),
            slip(TURNED, "turned = x * torch.cat([cos, sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first * cos, second * cos + first * sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first * cos - second * sin, second * cos], dim=-1)"),
            slip(TURNED, "turned = x * torch.stack([cos, sin], dim=-1).flatten(-2)"),
            slip(TURNED, "turned = x * torch.cat([sin, cos], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-without-half",
        "The rotated half is not exchanged: each column is turned with itself",
        symptom="Vectors change their length with their place.",
        belief="x · cos + x · sin has the form of the formula.",
        section="positions",
        slips=(
            slip(TURNED, "turned = x * torch.cat([cos, cos], dim=-1) + x * torch.cat([sin, sin], dim=-1)"),
            slip(TURNED, "turned = torch.cat([first * cos - first * sin, second * cos + second * sin], dim=-1)"),
            slip(TURNED, "turned = x * torch.cat([cos, cos], dim=-1) - x * torch.cat([sin, sin], dim=-1)"),
        ),
    ),
    Misconception(
        "rotary-on-output",
        "The output of attention is turned",
        symptom="The output depends on where the text begins.",
        belief="Positions seem to belong to what comes out.",
        section="positions",
        slips=(
            Slip({QUERY: "", KEY: "", "output = weights @ value": "output = rotary(weights @ value)"}),
            slip("output = weights @ value", "output = rotary(weights @ value)", only=("rotary",)),
            Slip({QUERY: "", KEY: "", "output = weights @ value": "output = weights @ rotary(value)"}),
        ),
    ),
    Misconception(
        "rotary-key-backwards",
        "Queries and keys are turned in different directions",
        symptom="Scores depend on the sum of two places, not on their distance.",
        belief="One of the two is turned back, as if it were undone.",
        section="positions",
        slips=(
            slip(KEY, "half = key.shape[-1] // 2\nkey = rotary(key.roll(half, -1)).roll(half, -1)"),
            slip(QUERY, "half = query.shape[-1] // 2\nquery = rotary(query.roll(half, -1)).roll(half, -1)"),
        ),
    ),
    Misconception(
        "rotary-different-places",
        "Queries and keys begin at different places",
        symptom="All distances are wrong by the same number.",
        belief="The query is taken to stand behind the keys.",
        section="positions",
        slips=(
            slip(KEY, "key = rotary(key, 1)"),
            slip(KEY, "key = rotary(key, query.shape[-2])"),
            slip(QUERY, "query = rotary(query, 1)"),
            slip(QUERY, "query = rotary(query, query.shape[-2])"),
        ),
    ),
    Misconception(
        "positions-reversed",
        "Places are counted from the end",
        symptom="The last token stands at place 0.",
        belief="A range is written downwards, or turned round.",
        section="positions",
        slips=(
            slip(PLACE, "place = torch.arange(x.shape[-2]).flip(0) + offset"),
            slip(PLACES, "place = torch.arange(length).flip(0)[:, None]"),
            slip(PLACES, "place = -torch.arange(length)[:, None]"),
            slip(PLACES, "place = torch.arange(length, 0, -1)[:, None]"),
        ),
    ),
    Misconception(
        "rotary-places",
        "Places begin at a wrong number",
        symptom="Scores are right, as they depend on distances; x itself is turned too far or not far enough.",
        belief="Places are counted from another number than the offset.",
        section="positions",
        slips=(slip(PLACE, "place = torch.arange(x.shape[-2]) + offset + 2"),),
        families=(
            Family({PLACE: "place = torch.arange(x.shape[-2]) + NUMBER"}, range(-20, 21), only=("rotary",), whole=True),
        ),
    ),
    Misconception(
        "rotary-own-frequency",
        "Each column has a frequency of its own: the columns of a pair differ",
        symptom="Vectors change their length with their place.",
        belief="The index of the column is used where the index of the pair is meant.",
        section="positions",
        slips=(
            slip(
                TURNED,
                "angle = (place[:, None] * 10000.0 ** (-torch.arange(d_k, dtype=torch.float64) / d_k))\n"
                "angle = angle.to(x.dtype)\n"
                "turned = x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()",
            ),
            slip(
                TURNED,
                "angle = (place[:, None] * 10000.0 ** (-2 * torch.arange(d_k, dtype=torch.float64) / d_k))\n"
                "angle = angle.to(x.dtype)\n"
                "turned = x * angle.cos() + torch.cat([-second, first], dim=-1) * angle.sin()",
            ),
        ),
    ),
    Misconception(
        "frequency-precedence",
        "The division by d stands outside the power",
        symptom="The frequencies fall far too fast.",
        belief="10000^2i/d reads like 10000^(2i/d).",
        section="positions",
        slips=(
            slip(FREQUENCY, "frequency = d_k / 10000.0 ** (2 * pair)"),
            slip(SPEED, "frequency = d_model / 10000.0 ** (2 * pair)"),
            slip(FREQUENCY, "frequency = 1 / (d_k * 10000.0 ** (2 * pair))"),
            slip(SPEED, "frequency = 1 / (d_model * 10000.0 ** (2 * pair))"),
            slip(SPEED, "frequency = d_model / 10000.0 ** pair"),
        ),
    ),
    Misconception(
        "sinusoidal-by-rows",
        "Sines and cosines alternate from place to place, not from column to column",
        symptom="Even places hold sines only, odd ones cosines.",
        belief="The index of the place is asked where the index of the column is meant.",
        section="positions",
        slips=(
            slip(
                TABLE,
                "table = torch.where(place % 2 == 0, sin.repeat_interleave(2, -1), cos.repeat_interleave(2, -1))",
            ),
            slip(
                TABLE,
                "table = torch.where(place % 2 == 0, torch.cat([sin, sin], dim=-1), torch.cat([cos, cos], dim=-1))",
            ),
            slip(
                TABLE,
                "column = torch.arange(d_model)\nangle = place * 10000.0 ** (-column / d_model)\n"
                "table = torch.where(place % 2 == 0, angle.sin(), angle.cos())",
            ),
        ),
    ),
    Misconception(
        "sinusoidal-mixed",
        "A reshape mixes the places",
        symptom="A row holds numbers of several places.",
        belief="The number of numbers is right, and reshape gives any shape.",
        section="positions",
        slips=(
            slip(TABLE, "table = torch.cat([sin, cos]).reshape(length, d_model)"),
            slip(TABLE, "table = torch.stack([sin, cos], dim=-1).reshape(d_model, length).mT"),
            slip(TABLE, "table = torch.stack([sin.mT, cos.mT], dim=-1).reshape(length, d_model)"),
        ),
    ),
    Misconception(
        "sinusoidal-sign",
        "The sign of the sines or of the cosines is wrong",
        symptom="Places run backwards, or place 0 begins with −1.",
        belief="A minus sign of the rotation is carried into the table.",
        section="positions",
        slips=(
            slip(SINES, "sin, cos = angle.sin(), -angle.cos()"),
            slip(SINES, "sin, cos = -angle.sin(), -angle.cos()"),
        ),
    ),
    Misconception(
        "sinusoidal-not-waves",
        "There are numbers above 1 or below −1, which no sine gives",
        symptom="The table is no table of sines.",
        belief="Learned positions begin as random numbers, and angles look like positions.",
        section="positions",
        slips=(
            slip(TABLE, "table = torch.stack([angle, angle], dim=-1).flatten(-2)"),
            slip(TABLE, "table = place.expand(-1, d_model).double()"),
            slip(SINES, "sin, cos = angle.tan(), angle.cos()"),
        ),
    ),
    Misconception(
        "rotary-woven",
        "Pairs are taken as neighbours and put back as halves, or taken as halves and put back as neighbours",
        symptom="Columns stand at each other's places.",
        belief="Splitting and joining come from two sources, and all shapes fit.",
        section="positions-in-practice",
        slips=(
            slip(PARTS, NEIGHBOURS),
            slip(TURNED, WOVEN),
        ),
    ),
    Misconception(
        "rotary-mirrored",
        "The first column is paired with the last one, the second with the last but one",
        symptom="Scores are right, but weights of other models do not fit.",
        belief="The second half is read backwards.",
        section="positions-in-practice",
        slips=(
            Slip(
                {
                    PARTS: "first, second = x[..., : d_k // 2], x[..., d_k // 2 :].flip(-1)",
                    TURNED: (
                        "turned = torch.cat([first * cos - second * sin, (second * cos + first * "
                        "sin).flip(-1)], dim=-1)"
                    ),
                }
            ),
            slip(PARTS, "first, second = x[..., : d_k // 2], x[..., d_k // 2 :].flip(-1)"),
        ),
    ),
    Misconception(
        "angle-whole",
        "Angles are cut to whole numbers",
        symptom="Slow pairs do not move for many places.",
        belief="// divides, too.",
        section="positions",
        slips=(
            slip(ANGLE, "angle = angle.to(x.dtype).floor()"),
            slip(TURN, "angle = (place * frequency).floor()"),
        ),
    ),
    Misconception(
        "frequency-linear",
        "The frequencies fall as 1, 1/2, 1/3, not as powers",
        symptom="All pairs turn nearly alike.",
        belief="A row of frequencies is first met in music.",
        section="positions",
        slips=(
            slip(FREQUENCY, "frequency = 1 / (pair + 1)"),
            slip(SPEED, "frequency = 1 / (pair + 1)"),
            slip(FREQUENCY, "frequency = 1 - 2 * pair / d_k"),
            slip(SPEED, "frequency = 1 - 2 * pair / d_model"),
        ),
    ),
)
