"""What can be wrong with any function, whatever it computes. The checker sees it without a slip."""

from attnlib.exercises.misconception import Misconception, slip

MISCONCEPTIONS = (
    Misconception(
        "printed-not-returned",
        "The result is printed, and not returned",
        symptom="The right numbers are on the screen, and None in the variable.",
        belief="In a notebook what is printed and what is returned look alike.",
        section="steps",
        slips=(slip("return weights", "print(weights)"),),
    ),
    Misconception(
        "input-changed",
        "An argument is changed",
        symptom="A second call with the same variables gives something else.",
        belief="x -= y reads like x = x - y; but it writes into the caller's array.",
        section="softmax",
        slips=(slip("def softmax(scores):", "def softmax(scores):\n    scores -= scores.amax(dim=-1, keepdim=True)"),),
    ),
    Misconception(
        "drawn-at-random",
        "The output is drawn: the same input gives another one each time",
        symptom="A second call with the same arguments gives something else, unless the seed is set again.",
        belief="Something random was put in for a test, and stayed.",
        section="faq-dropout",
        slips=(slip("def softmax(scores):", "def softmax(scores):\n    scores = scores + torch.rand_like(scores)"),),
    ),
    Misconception(
        "state-kept",
        "Something is kept from one call to the next",
        symptom="A second call with the same arguments gives something else.",
        belief="A default argument or a global looks as if it were made anew for each call.",
        section="language-model-cache",
        slips=(
            slip(
                "def softmax(scores):",
                "def softmax(scores, calls=[]):\n    calls.append(1)\n    scores = scores * len(calls)",
            ),
        ),
    ),
)
