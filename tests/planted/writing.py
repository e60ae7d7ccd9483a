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
UNTIL = "_until(end, tokens)"
FIRST = "written = [choose(texts.logits)]"
NEXT = "written.append(choose(texts.logits))"
SEARCHED = "return _written(model, source, likeliest, end, max_length, reading)"
NEW_CACHE = "self.model, self.missing, self.cache = model, missing, model.new_cache()"
CHECKED = "check_next(tokens, len(self.sources), self.model.target_vocab)\n"


def decoding(edits: dict[str, str]) -> Plant:
    return Plant("transformer/decoding", edits)


def last(wrong: str) -> Plant:
    """Which logits the next token is taken from."""
    return Plant("transformer/language_model", {LAST: f"self.logits = {wrong}"})


def likeliest(wrong: str) -> list[Plant]:
    """Which token is taken, of the logits of the next one."""
    return [decoding({LIKELIEST: f"best, tokens = logits.amax(-1), {wrong}"})]


def returned(wrong: str) -> list[Plant]:
    """What becomes of a text when it is written."""
    return [decoding({WRITTEN: WRITTEN.replace(UNTIL, wrong)})]


PLANTS = {
    "greedy-first-place": [last("self.model._logits(x[:, 0])")],
    "greedy-all-places": [last("self.model._logits(x).amax(dim=1)")],
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
    "greedy-other-place": [last("self.model._logits(x[:, max(x.shape[1] - 2, 0)])")],
    "greedy-places-averaged": [last("self.model._logits(x).mean(dim=1)")],
    "greedy-softmax-places": [last("self.model._logits(x).softmax(dim=1)[:, -1]")],
    "greedy-value": likeliest("logits.amax(-1).long().clamp(0, logits.shape[-1] - 1)"),
    "greedy-largest-in-size": likeliest("logits.abs().argmax(-1)"),
    "greedy-second": likeliest("logits.topk(2).indices[:, 1]"),
    "greedy-neighbour": likeliest("(logits.argmax(-1) + 1) % logits.shape[-1]"),
    "greedy-threshold": likeliest("(logits.softmax(-1) > 0.5).long().argmax(-1)"),
    "greedy-end-forbidden": likeliest("logits.where(torch.arange(logits.shape[-1]) != end, -math.inf).argmax(-1)"),
    "greedy-no-repeat": [
        decoding({NEXT: NEXT.replace("logits", "logits.scatter(1, torch.stack(written, dim=1), -math.inf)")}),
    ],
    "greedy-stops-at-repeat": [
        decoding({NEXT: "new = choose(texts.logits)\n            written.append(new.where(new != written[-1], end))"}),
    ],
    "greedy-beam": [
        decoding(
            {
                SEARCHED: "end = None if end < 0 else end\n"
                "    found = beam_search(model, source, end=end, max_length=max_length, beam=2, length_penalty=0, **reading)\n"
                "    return [hypotheses[0].tokens for hypotheses in found]"
            }
        ),
    ],
    "greedy-one-pass": [decoding({APPENDED: "texts.append(written[-1] * 0)\n"})],
    "greedy-window": [
        Plant(
            "transformer/language_model",
            {NEW_CACHE: NEW_CACHE.replace("model.new_cache()", "[KVCache(window=2) for _ in model.stack.layers]")},
        ),
    ],
    "greedy-reads-too-little": [
        decoding({APPENDED: "if len(written) > 1:\n                texts.append(written[-2])\n"}),
    ],
    "greedy-reads-end": [
        decoding({APPENDED: f"{APPENDED}            texts.append(torch.full_like(written[-1], max(end, 0)))\n"}),
    ],
    "greedy-start-ends": [
        decoding(
            {
                FIRST: f'if reading.get("start") == end:\n            return [source[0, :0]] * len(source)\n        {FIRST}'
            }
        ),
    ],
    "greedy-empty": [decoding({CUT: "return tokens[:0] if len(ends) else tokens"})],
    "greedy-padded": returned(f"torch.cat([{UNTIL}, tokens.new_full((max_length - len({UNTIL}),), max(end, 0))])"),
    "greedy-reversed": returned(f"{UNTIL}.flip(0)"),
    "greedy-twice": returned(f"{UNTIL}.repeat_interleave(2)"),
    "greedy-unique": returned(f"tokens.new_tensor(list(dict.fromkeys({UNTIL}.tolist())))"),
    "greedy-adds-end": returned(f"torch.cat([{UNTIL}, tokens.new_tensor([max(end, 0)])])"),
}
