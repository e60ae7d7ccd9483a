"""Mistakes with the search that writes token by token."""
# ruff: noqa: E501  (a line of attnlib stays in one piece)

from tests.planted.plant import Plant

LIKELIEST = "best, tokens = logits.max(-1)"
READ = "x = self.model._hidden(tokens, mask, positions, self.cache)"
LAST = "self.logits = self.model._logits(x[:, -1])"
LOOP = "while len(written) < max_length and not ended.all():"
APPENDED = "texts.append(written[-1])\n"
ENDED = "ended |= written[-1] == end"
CUT = "return tokens[: ends[0, 0]] if len(ends) else tokens"
ENDS = "ends = (tokens == end).nonzero()"
WRITTEN = "return [_until(end, tokens) for tokens in torch.stack(written, dim=1)]"
STARTED = 'return [torch.cat([tokens.new_tensor([reading.get("start", 0)]), _until(end, tokens)]) for tokens in torch.stack(written, dim=1)]'
CHECKED = "check_next(tokens, len(self.sources), self.model.target_vocab)\n"


def decoding(edits: dict[str, str]) -> Plant:
    return Plant("transformer/decoding", edits)


def last(wrong: str) -> Plant:
    """Which logits the next token is taken from."""
    return Plant("transformer/language_model", {LAST: f"self.logits = {wrong}"})


PLANTS = {
    "greedy-first-place": [last("self.model._logits(x[:, 0])")],
    "greedy-all-places": [last("self.model._logits(x).amax(dim=1)"), last("self.model._logits(x).mean(dim=1)")],
    "greedy-least": [decoding({LIKELIEST: "best, tokens = logits.min(-1)"})],
    "greedy-drawn": [
        decoding({LIKELIEST: "best, tokens = logits.amax(-1), torch.multinomial(logits.softmax(-1), 1)[:, 0]"}),
    ],
    "greedy-reads-newest": [
        Plant("transformer/language_model", {READ: f"self.cache = self.model.new_cache()\n        {READ}"}),
    ],
    "greedy-reads-start": [decoding({APPENDED: "pass\n"})],
    "greedy-without-start": [
        Plant(
            "transformer/model",
            {
                CHECKED: f"{CHECKED}        for layer in self.cache if len(self.cache[0].past) == 1 else ():\n"
                "            layer.past.crop(0)\n"
            },
        ),
    ],
    "greedy-backwards": [
        Plant("transformer/language_model", {"x = self.embedding(tokens)\n": "x = self.embedding(tokens.flip(-1))\n"}),
    ],
    "greedy-never-ends": [decoding({CUT: "return tokens"})],
    "greedy-ends-wrong": [decoding({ENDS: "ends = (tokens == 0).nonzero()", ENDED: "ended |= written[-1] == 0"})],
    "greedy-keeps-end": [decoding({CUT: CUT.replace("ends[0, 0]", "ends[0, 0] + 1")})],
    "greedy-keeps-start": [decoding({WRITTEN: STARTED})],
    "greedy-keeps-both": [decoding({CUT: CUT.replace("ends[0, 0]", "ends[0, 0] + 1"), WRITTEN: STARTED})],
    "greedy-one-less": [decoding({LOOP: LOOP.replace("max_length", "max_length - 1")})],
    "greedy-one-more": [decoding({LOOP: LOOP.replace("<", "<=")})],
    "greedy-no-limit": [decoding({LOOP: "while not ended.all():"})],
    "greedy-first-token-lost": [decoding({WRITTEN: WRITTEN.replace("dim=1)", "dim=1)[:, 1:]")})],
    "greedy-one-token": [decoding({WRITTEN: WRITTEN.replace("dim=1)", "dim=1)[:, -1:]")})],
}
