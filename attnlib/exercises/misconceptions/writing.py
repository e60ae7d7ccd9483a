"""Greedy search."""

from attnlib.exercises.misconception import Misconception, Slip, slip

LOOP = "for _ in range(max_length):"
LOGITS = "logits = model(torch.tensor([tokens]))"
TOKEN = "token = logits[0, -1].argmax().item()"
IF = "if token == end:"
APPEND = "tokens.append(token)"
RETURN = "return tokens[1:]"


def _beam(width: int) -> Slip:
    """A beam search of so many texts."""
    return slip(
        LOOP,
        "beams = [([start], 0.0, False)]\n"
        "for _ in range(max_length):\n"
        "    grown = [beam for beam in beams if beam[2]]\n"
        "    for text, score, done in beams:\n"
        "        if not done:\n"
        "            scores = model(torch.tensor([text]))[0, -1].log_softmax(-1)\n"
        f"            best = scores.topk({width}).indices.tolist()\n"
        "            grown += [(text + [i], score + scores[i].item(), i == end) for i in best]\n"
        f"    beams = sorted(grown, key=lambda beam: -beam[1])[:{width}]\n"
        "tokens = beams[0][0][:-1] if beams[0][2] else beams[0][0]\n"
        "for _ in range(0):",
    )


MISCONCEPTIONS = (
    Misconception(
        "greedy-first-place",
        "The next token is read off the first place, not the last",
        symptom="The same token is written again and again.",
        belief="With one token written, first and last place are one.",
        section="encoder_decoder",
        slips=(slip(TOKEN, "token = logits[0, 0].argmax().item()"),),
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
            slip(TOKEN, "token = logits.argmax().item() % logits.shape[-1]"),
        ),
    ),
    Misconception(
        "greedy-least",
        "The least likely token is taken",
        symptom="It writes nonsense.",
        belief="Losses are small where things are right; logits are large.",
        section="encoder_decoder",
        slips=(slip(TOKEN, "token = logits[0, -1].argmin().item()"),),
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
            Slip(
                {
                    LOOP: "tokens = [start]\nfor _ in range(max_length):",
                    RETURN: "return tokens[1:] if token == end else tokens[1:-1]",
                }
            ),
            slip(LOOP, "for _ in range(max_length - 2):"),
        ),
    ),
    Misconception(
        "greedy-one-more",
        "The text may be one token too long",
        symptom="A text has max_length + 1 tokens.",
        belief="The loop asks after it has written, or counts from 0.",
        section="encoder_decoder",
        slips=(
            slip(LOOP, "for _ in range(max_length + 1):"),
            slip(LOOP, "for _ in range(max_length + 2):"),
        ),
    ),
    Misconception(
        "greedy-no-limit",
        "There is no limit to the length",
        symptom="A model that never writes the end runs for ever.",
        belief="Every text ends; but not every model ends it.",
        section="encoder_decoder",
        slips=(
            slip(LOOP, "while True:"),
            slip(LOOP, "for _ in range(30):"),
        ),
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
    Misconception(
        "greedy-other-place",
        "The next token is read off another place than the last",
        symptom="What the model says of an earlier place is written once more.",
        belief="Places are counted from 0, and one is subtracted to be safe.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0, -2 if logits.shape[1] > 1 else -1].argmax().item()"),
            slip(TOKEN, "token = logits[0, logits.shape[1] // 2].argmax().item()"),
            slip(TOKEN, "token = logits[0, min(1, logits.shape[1] - 1)].argmax().item()"),
            slip(TOKEN, "token = logits[0, max(logits.shape[1] - 3, 0)].argmax().item()"),
            slip(TOKEN, "token = logits[0, -3 if logits.shape[1] > 2 else -1].argmax().item()"),
            slip(TOKEN, "token = logits[0, (logits.shape[1] - 1) // 2].argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-places-averaged",
        "The logits of all places are averaged or added",
        symptom="All places have a say in the next token.",
        belief="A mean over the text is how a text is classified.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0].mean(dim=0).argmax().item()"),
            slip(TOKEN, "token = logits[0].softmax(dim=-1).mean(dim=0).argmax().item()"),
            slip(TOKEN, "token = logits[0].log_softmax(dim=-1).sum(dim=0).argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-wrong-axis",
        "The largest is looked for over the places, not over the vocabulary",
        symptom="The number of a place is written as a token.",
        belief="The axes are counted from the wrong end.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0].argmax(dim=0)[-1].item()"),
            slip(TOKEN, "token = logits[0].argmax(dim=0)[0].item()"),
            slip(TOKEN, "token = logits[0, :, -1].argmax().item()"),
            slip(TOKEN, "token = logits[0, :, 0].argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-softmax-places",
        "A softmax over the places comes before the largest is taken",
        symptom="Tokens that earlier places wanted, too, are held back.",
        belief="dim=0 or dim=1 is left from another shape.",
        section="encoder_decoder",
        slips=(slip(TOKEN, "token = logits[0].softmax(dim=0)[-1].argmax().item()"),),
    ),
    Misconception(
        "greedy-value",
        "The largest logit itself is taken for the token, or its logarithm, not its index",
        symptom="A number that is no token is written.",
        belief="max gives a value and an index.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = int(logits[0, -1].max().clamp(0, logits.shape[-1] - 1))"),
            slip(TOKEN, "token = int(logits[0, -1].max())"),
            slip(TOKEN, "token = round(logits[0, -1].max().item())"),
            slip(TOKEN, "token = abs(int(logits[0, -1].max()))"),
            slip(TOKEN, "token = int(logits[0, -1].max()) % logits.shape[-1]"),
        ),
    ),
    Misconception(
        "greedy-largest-in-size",
        "The logit that is largest in size is taken, whatever its sign",
        symptom="A token that the model refuses strongly is written.",
        belief="What is strong seems to be what is likely.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0, -1].abs().argmax().item()"),
            slip(TOKEN, "token = (logits[0, -1] ** 2).argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-second",
        "The second likeliest token is taken",
        symptom="It writes nearly as well.",
        belief="The last but one of a sorted list.",
        section="encoder_decoder",
        slips=(slip(TOKEN, "token = logits[0, -1].argsort()[-2].item()"),),
    ),
    Misconception(
        "greedy-neighbour",
        "The number before or after the likeliest token is taken",
        symptom="Every token is wrong by one.",
        belief="Tokens are counted from 1 in one place and from 0 in another.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "token = logits[0, -1].argmax().item() + 1"),
            slip(TOKEN, "token = logits[0, -1].argmax().item() - 1"),
            slip(TOKEN, "token = (logits[0, -1].argmax().item() + 1) % logits.shape[-1]"),
            slip(TOKEN, "token = logits[0, -1, 1:].argmax().item()"),
            slip(TOKEN, "token = logits[0, -1, :-1].argmax().item()"),
            slip(TOKEN, "token = logits[0, -1, 1:].argmax().item() + 1"),
        ),
    ),
    Misconception(
        "greedy-threshold",
        "A token is taken because a fixed threshold is passed, not because it is the likeliest",
        symptom="The first token that is likely enough is written.",
        belief="A classifier of two classes has a threshold.",
        section="encoder_decoder",
        slips=(
            slip(
                TOKEN,
                "likely = (logits[0, -1].softmax(dim=-1) > 0.5).nonzero()\n"
                "token = int(likely[0]) if len(likely) else 0",
            ),
            slip(TOKEN, "token = int((logits[0, -1] > 0).nonzero()[0]) if (logits[0, -1] > 0).any() else 0"),
        ),
    ),
    Misconception(
        "greedy-end-forbidden",
        "The end token is never chosen",
        symptom="Every text is as long as it may be.",
        belief="The end is left out of the text, so it is left out of the choice.",
        section="encoder_decoder",
        slips=(slip(TOKEN, "logits[0, -1, end] = -math.inf\ntoken = logits[0, -1].argmax().item()"),),
    ),
    Misconception(
        "greedy-empty",
        "If the end comes, nothing is returned",
        symptom="Only texts that were cut off have tokens.",
        belief="A return in the loop leaves without what was written.",
        section="encoder_decoder",
        slips=(slip(IF, "if token == end:\n    return []\nif False:"),),
    ),
    Misconception(
        "greedy-padded",
        "The text is filled up to its greatest length",
        symptom="All texts are equally long.",
        belief="In a batch all texts have one length.",
        section="encoder_decoder",
        slips=(
            slip(RETURN, "return (tokens[1:] + [end] * max_length)[:max_length]"),
            slip(RETURN, "return (tokens[1:] + [0] * max_length)[:max_length]"),
            slip(RETURN, "return (tokens[1:] + [start] * max_length)[:max_length]"),
            slip(RETURN, "return (tokens[1:] + [-1] * max_length)[:max_length]"),
        ),
    ),
    Misconception(
        "greedy-one-pass",
        "All tokens are read off one pass over the start repeated, or over nothing that was written",
        symptom="What was written is not read again.",
        belief="A pass gives logits at all places, so one seems to be enough.",
        section="encoder_decoder",
        slips=(
            slip(LOGITS, "logits = model(torch.tensor([[start] * max_length]))[:, : len(tokens)]"),
            slip(LOGITS, "logits = model(torch.tensor([[start] + [0] * (max_length - 1)]))[:, : len(tokens)]"),
            slip(LOGITS, "logits = model(torch.tensor([[start] + [end] * (max_length - 1)]))[:, : len(tokens)]"),
        ),
    ),
    Misconception(
        "greedy-window",
        "The model is asked with the last few tokens only",
        symptom="The text forgets how it began.",
        belief="Some models have a window; this one is asked with all.",
        section="encoder_decoder",
        slips=(
            slip(LOGITS, "logits = model(torch.tensor([tokens[-2:]]))"),
            slip(LOGITS, "logits = model(torch.tensor([tokens[-3:]]))"),
            slip(LOGITS, "logits = model(torch.tensor([tokens[-4:]]))"),
            slip(LOGITS, "logits = model(torch.tensor([[start, tokens[-1]][-len(tokens) :]]))"),
        ),
    ),
    Misconception(
        "greedy-reads-too-little",
        "The newest token is left out of what the model reads",
        symptom="Each token is chosen without the one before it.",
        belief="The list is read before it grows.",
        section="encoder_decoder",
        slips=(slip(LOGITS, "logits = model(torch.tensor([tokens[:-1] or tokens]))"),),
    ),
    Misconception(
        "greedy-reads-end",
        "The end token, or a filling, is appended to what the model reads",
        symptom="The model is asked what comes after the end.",
        belief="A text has a start and an end.",
        section="encoder_decoder",
        slips=(
            slip(LOGITS, "logits = model(torch.tensor([[*tokens, end]]))"),
            slip(LOGITS, "logits = model(torch.tensor([[*tokens, 0]]))"),
            slip(LOGITS, "logits = model(torch.tensor([[start, *tokens]]))"),
        ),
    ),
    Misconception(
        "greedy-reversed",
        "The tokens are returned in the reverse order",
        symptom="The text ends where it should begin.",
        belief="Tokens are put in front of the list.",
        section="encoder_decoder",
        slips=(slip(RETURN, "return tokens[:0:-1]"),),
    ),
    Misconception(
        "greedy-no-repeat",
        "A token that was written is not written again",
        symptom="Words that a text needs twice stand in it once.",
        belief="Repetition is a known fault of greedy search, and is suppressed.",
        section="encoder_decoder",
        slips=(
            slip(TOKEN, "logits[0, -1, tokens] = -math.inf\ntoken = logits[0, -1].argmax().item()"),
            slip(TOKEN, "logits[0, -1, tokens[1:]] = -math.inf\ntoken = logits[0, -1].argmax().item()"),
            slip(TOKEN, "logits[0, -1, tokens[-1:]] = -math.inf\ntoken = logits[0, -1].argmax().item()"),
            slip(TOKEN, "logits[0, -1, tokens[2:]] = -math.inf\ntoken = logits[0, -1].argmax().item()"),
        ),
    ),
    Misconception(
        "greedy-beam",
        "It is a beam search, not a greedy one",
        symptom="The text as a whole is likelier than what greedy search finds.",
        belief="Both look for the likeliest text; greedy search looks one token ahead.",
        section="encoder_decoder",
        slips=(_beam(2), _beam(3)),
    ),
    Misconception(
        "greedy-stops-at-repeat",
        "The text ends when a token comes again",
        symptom="It stops too early.",
        belief="A loop that writes the same token for ever is stopped by hand.",
        section="encoder_decoder",
        slips=(
            slip(IF, "if token == end or token == tokens[-1]:"),
            slip(IF, "if token == end or token in tokens:"),
            slip(IF, "if token == end or token in tokens[1:]:"),
            slip(IF, "if token == end or token == (tokens[-1] if len(tokens) > 1 else None):"),
        ),
    ),
    Misconception(
        "greedy-start-ends",
        "A start that is the end token ends the text before it begins",
        symptom="Where both are one token, nothing is written.",
        belief="while the last token is not the end: the start is a last token, too.",
        section="encoder_decoder",
        slips=(slip(LOOP, "for _ in range(max_length if start != end else 0):"),),
    ),
    Misconception(
        "greedy-twice",
        "Each token is written twice",
        symptom="The text is twice as long.",
        belief="Two lines append.",
        section="encoder_decoder",
        slips=(slip(APPEND, "tokens += [token, token]"),),
    ),
    Misconception(
        "greedy-unique",
        "Tokens that occur twice are returned once",
        symptom="The text loses its repetitions.",
        belief="A set seems to hold what was written.",
        section="encoder_decoder",
        slips=(
            slip(RETURN, "return list(dict.fromkeys(tokens[1:]))"),
            slip(RETURN, "return [token for token in tokens if token != start]"),
        ),
    ),
    Misconception(
        "greedy-adds-end",
        "The end token is appended, whether it came or not",
        symptom="Each text ends with the end token.",
        belief="A text seems to need its end.",
        section="encoder_decoder",
        slips=(slip(RETURN, "return [*tokens[1:], end]"),),
    ),
)
