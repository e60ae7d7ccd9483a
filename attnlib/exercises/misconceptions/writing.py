"""Greedy search."""

from attnlib.exercises.misconception import Misconception, Slip, slip

LOOP = "for _ in range(max_length):"
LOGITS = "logits = model(torch.tensor([tokens]))"
TOKEN = "token = logits[0, -1].argmax().item()"
IF = "if token == end:"
APPEND = "tokens.append(token)"
RETURN = "return tokens[1:]"

MISCONCEPTIONS = (
    Misconception(
        "greedy-first-place",
        "The next token is read off the first place, not the last",
        symptom="The same token is written again and again.",
        belief="With one token written, first and last place are one.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0, 0].argmax().item()"),
            slip(TOKEN, "token = logits[0, -2 if logits.shape[1] > 1 else -1].argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-all-places",
        "The largest logit of all places is taken, not that of the last place",
        symptom="The token of an earlier place, or a number beyond the vocabulary, is written.",
        belief="argmax() without an axis takes everything, and no error says so.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0].amax(dim=0).argmax().item()"),
            slip(TOKEN, "token = logits.argmax().item()"),
            slip(TOKEN, "token = logits[0].argmax(dim=0)[-1].item()"),
            slip(TOKEN, "token = logits[0].mean(dim=0).argmax().item()"),
            slip(TOKEN, "token = logits[0].sum(dim=0).argmax().item()"),
            slip(TOKEN, "token = logits[0].argmax(dim=-1).max().item()"),
        ),
    ),
    Misconception(
        "greedy-least",
        "The least likely token is taken",
        symptom="It writes nonsense.",
        belief="Losses are small where things are right; logits are large.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0, -1].argmin().item()"),
            slip(TOKEN, "token = logits[0, -1].abs().argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-drawn",
        "The next token is drawn, where the likeliest is asked for",
        symptom="The same text is not written twice.",
        belief="A language model that talks draws its tokens.",
        section="language-model",
        slips=(slip(TOKEN, "token = torch.multinomial(logits[0, -1].softmax(-1), 1).item()"),),
    ),
    Misconception(
        "greedy-reads-newest",
        "The model is asked with the newest token only",
        symptom="The text forgets how it began.",
        belief="With a cache one token is enough; here there is none.",
        section="encoder_decoder",
        slips=(slip(LOGITS, "logits = model(torch.tensor([tokens[-1:]]))"),),
    ),
    Misconception(
        "greedy-reads-start",
        "The model is always asked with the start alone",
        symptom="The same token is written again and again.",
        belief="What is written is collected, and not read again.",
        section="encoder_decoder",
        slips=(slip(LOGITS, "logits = model(torch.tensor([tokens[:1]]))"),),
    ),
    Misconception(
        "greedy-without-start",
        "The start is left out of what the model reads",
        symptom="The model reads texts that begin as no text did in training.",
        belief="The start is no part of the text.",
        section="encoder_decoder",
        slips=(slip(LOGITS, "logits = model(torch.tensor([tokens[1:] or tokens]))"),),
    ),
    Misconception(
        "greedy-backwards",
        "The newest token stands first in what the model reads",
        symptom="From the second token on the model reads another text.",
        belief="A list is easily built from the wrong end.",
        section="encoder_decoder",
        slips=(slip(LOGITS, "logits = model(torch.tensor([tokens[::-1]]))"),),
    ),
    Misconception(
        "greedy-never-ends",
        "The end token does not end the text",
        symptom="Every text is as long as it may be.",
        belief="The limit ends the loop, so nothing else seems to be needed.",
        section="encoder_decoder",
        slips=(
            slip(IF, "if False:"),
            Slip({IF: "if False:", RETURN: "return [token for token in tokens[1:] if token != end]"}),
        ),
    ),
    Misconception(
        "greedy-ends-wrong",
        "The text ends at another token than the end",
        symptom="It stops too early, and runs over the end.",
        belief="0 is the end, or the start, in many vocabularies.",
        section="encoder_decoder",
        slips=(
            slip(IF, "if token == start:"),
            slip(IF, "if token == 0:"),
            slip(IF, "if token in (start, end):"),
        ),
    ),
    Misconception(
        "greedy-keeps-end",
        "The end token stays in the text",
        symptom="Each text that ended is one token too long.",
        belief="The token is appended before it is looked at.",
        section="encoder_decoder",
        slips=(Slip({IF: "tokens.append(token)\nif token == end:", APPEND: ""}),),
    ),
    Misconception(
        "greedy-keeps-start",
        "The start token stays in the text",
        symptom="Each text is one token too long.",
        belief="The list that the model reads is returned as it is.",
        section="encoder_decoder",
        slips=(slip(RETURN, "return tokens"),),
    ),
    Misconception(
        "greedy-keeps-both",
        "Start and end stay in the text",
        symptom="Each text is two tokens too long.",
        belief="The list that the model reads is returned as it is.",
        section="encoder_decoder",
        slips=(Slip({IF: "tokens.append(token)\nif token == end:", APPEND: "", RETURN: "return tokens"}),),
    ),
    Misconception(
        "greedy-one-less",
        "The text ends one token early",
        symptom="Long texts lose their last token.",
        belief="The start is counted, too.",
        section="encoder_decoder",
        slips=(
            slip(LOOP, "for _ in range(max_length - 1):"),
            slip(RETURN, "return tokens[1:-1]"),
        ),
    ),
    Misconception(
        "greedy-one-more",
        "The text may be one token too long",
        symptom="A text has max_length + 1 tokens.",
        belief="The loop asks after it has written, or counts from 0.",
        section="encoder_decoder",
        slips=(slip(LOOP, "for _ in range(max_length + 1):"),),
    ),
    Misconception(
        "greedy-no-limit",
        "There is no limit to the length",
        symptom="A model that never writes the end runs for ever.",
        belief="Every text ends; but not every model ends it.",
        section="encoder_decoder",
        slips=(slip(LOOP, "while True:"),),
    ),
    Misconception(
        "greedy-first-token-lost",
        "The first token that was written is lost",
        symptom="Each text begins with its second token.",
        belief="The start is cut off twice.",
        section="encoder_decoder",
        slips=(slip(RETURN, "return tokens[2:]"),),
    ),
    Misconception(
        "greedy-one-token",
        "Only the last token is returned, or only the first",
        symptom="A text has one token.",
        belief="The loop returns from within, or keeps the newest only.",
        section="encoder_decoder",
        slips=(
            slip(RETURN, "return tokens[-1:]"),
            slip(APPEND, "tokens.append(token)\nbreak"),
        ),
    ),
)
