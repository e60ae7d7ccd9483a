"""Decoding with a cache against decoding without, beam search against looking at every target there is."""

import inspect
import itertools
import math

import pytest
import torch

from attnlib import masks, positions
from attnlib.transformer import LanguageModel, Transformer, beam_search, greedy_search

VOCAB, START, END = 5, 0, 1
SOURCE = torch.tensor([[2, 3, 4, 2, 3], [4, 2, 3, 0, 0], [3, 3, 4, 2, 0]])
LENGTHS = [5, 3, 4]
PADDING = masks.padding(LENGTHS)
SEEDS = [5, 12, 18, 8, 11, 3]  # of models that write targets of several lengths, and others for other sources
OPTIONS = {"start": START, "end": END, "source_mask": PADDING}


def model_of(seed, vocab=VOCAB, **options):
    torch.manual_seed(seed)
    sizes = {"d_model": 8, "num_heads": 2, "d_ff": 11, "num_layers": 2, "share_embeddings": False, **options}
    model = Transformer(vocab, **sizes).double().eval()
    with torch.no_grad():
        model.output.weight.mul_(2)  # far from uniform, so that the order is clear
    return model


def log_p(model, source, tokens):
    """log P of each next token after ``tokens``: the whole model, on one source without padding, without a cache."""
    with torch.no_grad():
        logits = model(source[None], torch.tensor([[START, *tokens]]))[0, -1]
    return torch.log_softmax(logits, -1)


def plain_greedy(model, source, max_length):
    tokens = []
    while len(tokens) < max_length:
        token = int(log_p(model, source, tokens).argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens


def plain_beam(model, source, max_length, beam, alpha):
    """The same search in lists: every beginning is computed anew from its first token."""
    beginnings, ended = [(0.0, [])], []
    for length in range(1, max_length + 1):
        penalty = ((5 + length) / 6) ** alpha
        continued = [
            (score + float(step), tokens, token)
            for score, tokens in beginnings
            for token, step in enumerate(log_p(model, source, tokens))
        ]
        continued.sort(key=lambda candidate: -candidate[0])
        ended += [(score / penalty, tokens) for score, tokens, token in continued[:beam] if token == END]
        beginnings = [(score, [*tokens, token]) for score, tokens, token in continued if token != END][:beam]
        if len(ended) >= beam and length < max_length:
            break
    else:
        ended += [(score / penalty, tokens) for score, tokens in beginnings]
    return sorted(ended, key=lambda hypothesis: -hypothesis[0])[:beam]


def sources():
    return [row[:length] for row, length in zip(SOURCE, LENGTHS, strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_search_is_the_search_without_a_cache(seed):
    model = model_of(seed, norm_first=seed % 2 == 1)
    found = greedy_search(model, SOURCE, max_length=7, **OPTIONS)
    assert [tokens.tolist() for tokens in found] == [plain_greedy(model, source, 7) for source in sources()]


def test_the_models_of_these_tests_write_and_end():
    """A search that is compared on targets of no length, or that never end, would say nothing."""
    lengths = [len(plain_greedy(model_of(seed), source, 7)) for seed in SEEDS for source in sources()]
    assert len(set(lengths)) >= 4
    assert max(lengths) == 7


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beam", [1, 2, 4])
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_beam_search_is_the_search_without_a_cache(seed, beam, alpha):
    model = model_of(seed)
    found = beam_search(model, SOURCE, max_length=6, beam=beam, length_penalty=alpha, **OPTIONS)
    for hypotheses, source in zip(found, sources(), strict=True):
        expected = plain_beam(model, source, 6, beam, alpha)
        assert [h.tokens.tolist() for h in hypotheses] == [tokens for _, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected])


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_beam_that_holds_everything_finds_the_best_of_all_targets(seed, alpha):
    """Oracle: the probability of each of the targets of up to three tokens, ended or cut."""
    model, longest = model_of(seed), 3
    writable = [token for token in range(VOCAB) if token != END]
    for b, source in enumerate(sources()):
        every = {}
        for length in range(longest):
            for tokens in itertools.product(writable, repeat=length):
                steps = [float(log_p(model, source, tokens[:i])[token]) for i, token in enumerate((*tokens, END))]
                every[tokens] = sum(steps) / ((5 + length + 1) / 6) ** alpha
        for tokens in itertools.product(writable, repeat=longest):
            steps = [float(log_p(model, source, tokens[:i])[token]) for i, token in enumerate(tokens)]
            every[tokens] = sum(steps) / ((5 + longest) / 6) ** alpha
        beam = VOCAB * len(writable) ** (longest - 1)  # all candidates of the last step
        found = beam_search(
            model, SOURCE[b : b + 1], max_length=longest, beam=beam, length_penalty=alpha, start=START, end=END,
            source_mask=masks.padding([LENGTHS[b]]),
        )[0]  # fmt: skip
        ordered = sorted(every, key=every.get, reverse=True)[:beam]
        assert [tuple(h.tokens.tolist()) for h in found] == ordered
        assert [h.score for h in found] == pytest.approx([every[tokens] for tokens in ordered])


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_beam_of_one_is_greedy(seed):
    model = model_of(seed)
    greedy = greedy_search(model, SOURCE, max_length=7, **OPTIONS)
    beam = beam_search(model, SOURCE, max_length=7, beam=1, **OPTIONS)
    assert [h[0].tokens.tolist() for h in beam] == [tokens.tolist() for tokens in greedy]


def test_a_wider_beam_finds_what_greed_misses():
    """Over the models of these tests, the best score of four is never below that of one by much, and often above."""
    gains = []
    for seed in SEEDS:
        model = model_of(seed)
        one, four = (beam_search(model, SOURCE, max_length=7, beam=k, length_penalty=0, **OPTIONS) for k in (1, 4))
        gains += [wide[0].score - narrow[0].score for narrow, wide in zip(one, four, strict=True)]
    assert max(gains) > 0.1


def test_a_long_target_is_helped_by_the_penalty():
    found = {}
    for alpha in (0.0, 3.0):
        lengths = [
            len(hypotheses[0].tokens)
            for seed in SEEDS
            for hypotheses in beam_search(model_of(seed), SOURCE, max_length=7, length_penalty=alpha, **OPTIONS)
        ]
        found[alpha] = sum(lengths)
    assert found[3.0] > found[0.0]


def test_what_never_ends_is_cut():
    model = model_of(0, share_embeddings=False)
    with torch.no_grad():
        model.output.weight[END] = 0
        model.output.weight[2:] = model.output.weight[2:].abs() * 9
        model.decoder.layers[-1].feed_forward_residual.norm.weight.fill_(0)
        model.decoder.layers[-1].feed_forward_residual.norm.bias.fill_(1)
    assert [len(tokens) for tokens in greedy_search(model, SOURCE, max_length=4, **OPTIONS)] == [4, 4, 4]
    for hypotheses in beam_search(model, SOURCE, max_length=4, beam=3, **OPTIONS):
        assert [len(h.tokens) for h in hypotheses] == [4, 4, 4]
        assert all(math.isfinite(h.score) for h in hypotheses)


def test_a_target_may_begin_with_the_token_that_ends_it():
    """As in BART: only a written one ends the text."""
    model = model_of(SEEDS[0])
    with torch.no_grad():
        first = model(SOURCE, torch.full((len(SOURCE), 1), END))[:, -1].argmax(-1).tolist()
    assert any(token != END for token in first)
    written = greedy_search(model, SOURCE, start=END, end=END, max_length=1)
    assert [tokens.tolist() for tokens in written] == [[token] if token != END else [] for token in first]


def test_a_beam_wider_than_the_vocabulary():
    model = model_of(SEEDS[0], vocab=3)
    source = torch.tensor([[2, 2, 0]])
    found = beam_search(model, source, start=0, end=1, max_length=3, beam=20)[0]
    expected = plain_beam(model, source[0], 3, 20, 0.6)
    assert [h.tokens.tolist() for h in found] == [tokens for _, tokens in expected]


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_a_mask_may_be_a_tensor_or_shared_by_all_examples(search):
    model, options = model_of(SEEDS[0]), {"start": START, "end": END, "max_length": 6}
    by_mask = search(model, SOURCE, source_mask=PADDING, **options)
    by_tensor = search(model, SOURCE, source_mask=PADDING.dense(5, 5), **options)
    shared = search(model, SOURCE, source_mask=torch.ones(1, 1, 1, 5, dtype=torch.bool), **options)
    assert str(by_mask) == str(by_tensor)
    assert str(shared) == str(search(model, SOURCE, **options))
    assert str(shared) != str(by_mask)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_nothing_is_dropped_and_each_module_is_left_in_its_mode(search):
    model = model_of(SEEDS[0], dropout=0.5)
    expected = search(model, SOURCE, max_length=6, **OPTIONS)
    model.train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    assert str(search(model, SOURCE, max_length=6, **OPTIONS)) == str(expected)
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="source: expected tokens from 0 to 4, got 9"):
        search(model, SOURCE + 5, max_length=6, **OPTIONS)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_each_source_is_projected_once(search):
    model = model_of(SEEDS[0])
    calls = []
    model.decoder.layers[0].cross_attention.wk.register_forward_hook(lambda layer, args, out: calls.append(args[0]))
    search(model, SOURCE, max_length=6, **OPTIONS)
    assert [x.shape[:2] for x in calls] == [SOURCE.shape]


@torch.no_grad()
@pytest.mark.parametrize("mask", [PADDING, PADDING.dense(1, 5)], ids=["a Mask", "a tensor"])
def test_targets_go_on_in_any_order(mask):
    """Each reads its own source, and only what is real of it, wherever it is moved, and however often it is taken."""
    model = model_of(SEEDS[0])
    targets = model.begin(SOURCE, start=START, max_length=6, source_mask=mask)
    written = [[], [], []]
    of = [0, 1, 2]
    for rows, tokens in (([2, 0, 0, 1], [3, 2, 4, 3]), ([3, 3, 2], [2, 4, 4]), ([2, 0], [3, 3])):
        targets.reorder(torch.tensor(rows))
        expected = [log_p(model, sources()[of[row]], written[row]) for row in rows]
        torch.testing.assert_close(targets.logits.log_softmax(-1), torch.stack(expected))
        targets.append(torch.tensor(tokens))
        written = [[*written[row], token] for row, token in zip(rows, tokens, strict=True)]
        of = [of[row] for row in rows]
    expected = [log_p(model, sources()[b], tokens) for b, tokens in zip(of, written, strict=True)]
    torch.testing.assert_close(targets.logits.log_softmax(-1), torch.stack(expected))


@torch.no_grad()
def test_the_memory_is_copied_once_and_not_at_all_for_one_source():
    model = model_of(SEEDS[0])
    targets = model.begin(SOURCE, start=START, max_length=6)
    targets.reorder(torch.arange(3).repeat_interleave(2))
    memory = targets.cache[1].memory
    before = memory.key.data_ptr()
    targets.append(torch.tensor([2, 3, 2, 3, 2, 3]))
    targets.reorder(torch.tensor([1, 0, 2, 2, 5, 4]))
    assert memory.key.data_ptr() == before
    targets = model.begin(SOURCE[:1], start=START, max_length=6)
    before = targets.cache[1].memory.key.data_ptr()
    targets.reorder(torch.zeros(7, dtype=torch.int64))
    targets.append(torch.full((7,), 2))
    assert targets.logits.shape == (7, VOCAB)
    assert targets.cache[1].memory.key.data_ptr() == before
    assert targets.cache[1].memory.key.shape[0] == 1


class NoVocabulary(torch.nn.Module):
    def begin(self, source, *, max_length):
        pytest.fail("begin was called")


@pytest.mark.parametrize("search", [greedy_search, beam_search])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"start": VOCAB}, ValueError, "start: expected a token below target_vocab=5, got 5"),
        ({"end": -1}, ValueError, "end: expected at least 0, got -1"),
        ({"end": 1.0}, TypeError, "end: expected a whole number"),
        ({"max_length": 0}, ValueError, "max_length: expected at least 1, got 0"),
        ({"source": SOURCE[0]}, ValueError, r"source: expected \(B, L\) with L of at least 1, got \(5,\)"),
        ({"model": NoVocabulary()}, TypeError, "model: expected one with a number target_vocab.* got NoVocabulary"),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, "model: expected a Transformer, a Langu.* got Linear"),
        ({"source_mask": masks.causal()}, ValueError, "source_mask: expected a mask of keys alone"),
    ],
)
def test_what_does_not_fit_is_refused(search, arguments, error, message):
    given = {"model": model_of(0), "source": SOURCE, "max_length": 6, **OPTIONS, **arguments}
    with pytest.raises(error, match=message):
        search(given.pop("model"), given.pop("source"), **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam": 0}, "beam: expected at least 1, got 0"),
        ({"length_penalty": -0.1}, "length_penalty: expected a finite number of at least 0, got -0.1"),
        ({"length_penalty": math.inf}, "length_penalty: expected a finite number of at least 0, got inf"),
        ({"length_penalty": 1e4}, "length_penalty: expected one with which .* is finite at max_length=6, got 10000.0"),
        ({"length_penalty": math.nan}, "length_penalty: expected a finite number of at least 0, got nan"),
    ],
)
def test_a_beam_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        beam_search(model_of(0), SOURCE, max_length=6, **OPTIONS, **arguments)


def test_a_penalty_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="length_penalty: expected a number, or a function of the length, got str"):
        beam_search(model_of(0), SOURCE, max_length=6, length_penalty="0.6", **OPTIONS)


def test_a_penalty_that_is_no_finite_number_is_refused_before_the_model_runs():
    model = model_of(0)
    model.begin = None  # not reached
    with pytest.raises(TypeError, match="length_penalty: expected a function to numbers, got str of 1"):
        beam_search(model, SOURCE, max_length=6, length_penalty=str, **OPTIONS)
    with pytest.raises(ValueError, match="length_penalty: expected finite numbers above 0, got inf of 1"):
        beam_search(model, SOURCE, max_length=6, length_penalty=lambda length: math.inf, **OPTIONS)


class Written(torch.nn.Module):
    """Writes these tokens (B, T), whatever it is given, and counts how many it was asked to go on from."""

    target_vocab = VOCAB

    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.appended = tokens, 0

    def begin(self, source, *, max_length):
        return self

    @property
    def logits(self):
        return torch.nn.functional.one_hot(self.tokens[:, self.appended], VOCAB).double()

    def append(self, tokens):
        self.appended += 1


def test_nothing_is_written_after_every_text_has_ended():
    model = Written(torch.tensor([[2, END, 2, 2, 2], [3, 4, END, 3, 3]]))
    found = greedy_search(model, SOURCE[:2], end=END, max_length=5)
    assert [tokens.tolist() for tokens in found] == [[2], [3, 4]]
    assert model.appended == 2


def texts_of(kind):
    if kind is Transformer:
        return model_of(0).begin(SOURCE, start=START, max_length=6)
    model = LanguageModel(VOCAB, d_model=8, num_heads=2, d_ff=11, num_layers=2).double().eval()
    return model.begin(SOURCE, max_length=6, prompt_mask=torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1] * 5]))


@torch.no_grad()
def test_one_mask_for_all_sources_stays_when_texts_change_places():
    model, rows, mask = model_of(0), torch.tensor([2, 0]), masks.padding([4])
    texts = model.begin(SOURCE, start=START, max_length=6, source_mask=mask)
    texts.reorder(rows)
    straight = model.begin(SOURCE[rows], start=START, max_length=6, source_mask=mask)
    for each in (texts, straight):
        each.append(torch.tensor([2, 3]))
    torch.testing.assert_close(texts.logits, straight.logits)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Transformer, LanguageModel])
@pytest.mark.parametrize(
    ("call", "wrong", "error", "message"),
    [
        ("append", torch.tensor([2, 9, 2]), ValueError, "tokens: expected tokens from 0 to 4, got 9"),
        ("append", torch.tensor([2, 3]), ValueError, r"tokens: expected one for each of 3 texts, \(3,\), got \(2,\)"),
        ("append", torch.tensor([[2], [3], [4]]), ValueError, r"tokens: expected .* got \(3, 1\)"),
        ("append", torch.tensor(2), ValueError, r"tokens: expected .* got \(\)"),
        ("append", torch.ones(3), TypeError, "tokens: expected tokens as int64 or int32, got torch.float32"),
        ("append", [2, 3, 2], TypeError, "tokens: expected a tensor, got list"),
        ("reorder", [1, 0, 2], TypeError, "rows: expected"),
        ("reorder", torch.tensor([0, 3]), ValueError, "rows: expected"),
        ("reorder", torch.tensor([0, -1]), ValueError, "rows: expected"),
    ],
)
def test_texts_refuse_what_does_not_fit_and_stay_as_they_were(kind, call, wrong, error, message):
    torch.manual_seed(0)
    texts = texts_of(kind)
    torch.manual_seed(0)
    untouched = texts_of(kind)
    with pytest.raises(error, match=message):
        getattr(texts, call)(wrong)
    assert torch.equal(texts.logits, untouched.logits)
    for each in (texts, untouched):
        each.append(torch.tensor([2, 3, 4]))
        each.reorder(torch.tensor([2, 0]))
    assert torch.equal(texts.logits, untouched.logits)


# ---------------------------------------------------------------------------------------------------------------------
# Corners


@pytest.mark.parametrize("beam", [6, 8])
def test_a_small_vocabulary_may_not_fill_the_beam(beam):
    for seed in SEEDS:
        model, source = model_of(seed, vocab=3), torch.tensor([[2, 2, 0]])
        found = beam_search(model, source, start=0, end=1, max_length=6, beam=beam)[0]
        expected = plain_beam(model, source[0], 6, beam, 0.6)
        assert [h.tokens.tolist() for h in found] == [tokens for _, tokens in expected]


def test_what_cannot_be_is_not_a_hypothesis():
    """The end is impossible, and one step is made: as many hypotheses as there are other tokens, whatever the beam."""
    model = model_of(SEEDS[0])
    decode, wanted = model.decode, torch.tensor([0.0, -math.inf, 1.0, 2.0, 3.0])
    model.decode = lambda *args, **kwargs: decode(*args, **kwargs) * 0 + wanted
    for hypotheses in beam_search(model, SOURCE, max_length=1, beam=9, **OPTIONS):
        assert [h.tokens.tolist() for h in hypotheses] == [[4], [3], [2], [0]]
        assert all(math.isfinite(h.score) for h in hypotheses)


def test_two_vocabularies():
    """Tokens that only one of the two has: as start and end, and as what is written."""
    torch.manual_seed(0)
    model = Transformer(3, 7, d_model=8, num_heads=2, d_ff=11, num_layers=1).double().eval()
    source = torch.tensor([[2, 1, 0, 1]])

    def steps(tokens):
        with torch.no_grad():
            return torch.log_softmax(model(source, torch.tensor([[6, *tokens]]))[0, -1], -1)

    tokens = []
    while len(tokens) < 5 and int(steps(tokens).argmax()) != 5:
        tokens.append(int(steps(tokens).argmax()))
    assert any(token > 2 for token in tokens)
    assert greedy_search(model, source, start=6, end=5, max_length=5)[0].tolist() == tokens
    found = beam_search(model, source, start=6, end=5, max_length=2, beam=43, length_penalty=0)[0]
    every = {(): float(steps([])[5])} | {(t,): float(steps([])[t] + steps([t])[5]) for t in range(7) if t != 5}
    assert {tuple(h.tokens.tolist()): h.score for h in found if len(h.tokens) < 2} == pytest.approx(every)
    wide = Transformer(7, 3, d_model=8, num_heads=2, d_ff=11, num_layers=1)
    with pytest.raises(ValueError, match="end: expected a token below target_vocab=3, got 5"):
        greedy_search(wide, source, start=0, end=5, max_length=5)


def test_scores_are_computed_in_float32_at_least():
    model = model_of(SEEDS[0]).bfloat16()
    tokens, score = beam_search(model, SOURCE, max_length=1, beam=1, length_penalty=0, **OPTIONS)[0][0]
    with torch.no_grad():
        logits = model(SOURCE[:1], torch.tensor([[START]]))[0, 0].float()
    token = int(tokens[0]) if len(tokens) else END
    assert score == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-5)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_no_gradient_is_recorded(search):
    model, seen = model_of(SEEDS[0]), []
    model.decoder.register_forward_hook(lambda decoder, args, output: seen.append(output.requires_grad))
    search(model, SOURCE, max_length=3, **OPTIONS)
    assert seen
    assert not any(seen)


@pytest.mark.parametrize(("search", "steps"), [(greedy_search, 1), (beam_search, 1)])
def test_a_search_stops_when_all_have_ended(search, steps):
    model, calls = model_of(SEEDS[0], share_embeddings=False), []
    with torch.no_grad():
        for parameter in (model.output.weight, model.decoder.layers[-1].feed_forward_residual.norm.weight):
            parameter.zero_()
        model.decoder.layers[-1].feed_forward_residual.norm.bias.fill_(1)
        model.output.weight[END] = 9
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    options = {"beam": 1} if search is beam_search else {}
    search(model, SOURCE, max_length=9, **OPTIONS, **options)
    assert len(calls) == steps


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_tokens_come_back_as_int64(dtype):
    model = model_of(SEEDS[0])
    source = SOURCE.to(dtype)
    greedy = greedy_search(model, source, max_length=4, **OPTIONS)
    beams = beam_search(model, source, max_length=4, **OPTIONS)
    found = [*greedy, *(h.tokens for hypotheses in beams for h in hypotheses)]
    assert {tokens.dtype for tokens in found} == {torch.int64}
    assert str(greedy) == str(greedy_search(model, SOURCE, max_length=4, **OPTIONS))


def test_no_source_gives_no_target():
    none = SOURCE[:0]
    assert greedy_search(model_of(0), none, start=START, end=END, max_length=4) == []
    assert beam_search(model_of(0), none, start=START, end=END, max_length=4) == []


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_logits_that_are_no_numbers_are_an_error(search):
    model = model_of(SEEDS[0])
    with torch.no_grad():
        model.source_embedding.weight[4] = torch.nan
    with pytest.raises(ValueError, match="model: expected logits that are numbers, got NaN"):
        search(model, SOURCE, max_length=4, **OPTIONS)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_positions_that_end_too_early_are_refused_before_anything_is_written(search):
    model = model_of(SEEDS[0])
    model.positions = positions.Learned(6, 8).double()
    assert search(model, SOURCE, max_length=6, **OPTIONS)
    model.decoder.register_forward_pre_hook(lambda *_: pytest.fail("the decoder was called"))
    with pytest.raises(ValueError, match="max_length: expected at most the 6 positions that the model knows, got 7"):
        search(model, SOURCE, max_length=7, **OPTIONS)


@pytest.mark.parametrize("search", [greedy_search, beam_search])
def test_a_compiled_model_may_search(search):
    model = model_of(SEEDS[0])
    expected = search(model, SOURCE, max_length=4, **OPTIONS)
    compiled = torch.compile(model, backend="eager")
    assert str(search(compiled, SOURCE, max_length=4, **OPTIONS)) == str(expected)


def test_the_defaults_are_the_papers():
    defaults = {name: p.default for name, p in inspect.signature(beam_search).parameters.items()}
    assert (defaults["beam"], defaults["length_penalty"]) == (4, 0.6)
