"""Searches and sampling from prompts: against Hugging Face, against models without a cache, against all there is."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attnlib import masks
from attnlib.positions import Learned
from attnlib.transformer import LanguageModel, Transformer, beam_search, greedy_search, sample
from tests.transformer.peers import random_weights
from tests.transformer.test_language_model import D_MODEL, MOST, SIZES, kinds, peer_of
from tests.transformer.test_sampling import WRONG

VOCAB, END = 5, 1
PROMPTS = torch.tensor([[2, 3, 4, 2, 3], [0, 0, 4, 3, 2], [0, 0, 0, 0, 3]])
REAL = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
ALONE = [prompt[real.bool()] for prompt, real in zip(PROMPTS, REAL, strict=True)]
SEEDS = {"rotary": 1, "alibi": 1, "sinusoidal": 13, "learned": 15}  # of models whose texts differ, and end
SEARCHES = [greedy_search, beam_search, sample]


def model_of(seed=0, positions="rotary", **options):
    """A model whose texts vary: what attention brings outweighs the last token, which the output does not say again."""
    torch.manual_seed(seed)
    options = {**SIZES, "share_embeddings": False, **options}
    model = random_weights(LanguageModel(VOCAB, **options, positions=kinds().get(positions, positions)))
    with torch.no_grad():
        model.embedding.weight.mul_(0.1)
        for layer in model.stack.layers:
            layer.self_attention.wq.weight.mul_(3)
    return model


def log_p(model, tokens):
    """log P of each next token: the whole model, on one text without padding, without a cache."""
    with torch.no_grad():
        return model(torch.as_tensor(tokens)[None])[0, -1].log_softmax(-1)


def plain_greedy(model, prompt, max_length):
    tokens = prompt.tolist()
    for _ in range(max_length):
        token = int(log_p(model, tokens).argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens[len(prompt) :]


# ---------------------------------------------------------------------------------------------------------------------
# Left padding: each prompt as if it were alone


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("positions", kinds())
def test_prompts_padded_on_the_left_are_each_alone(positions, window):
    """Token for token, and in scores; the texts end at several lengths."""
    model = model_of(SEEDS[positions], positions, window=window, attention={"num_kv_heads": 1})
    greedy = greedy_search(model, PROMPTS, end=END, max_length=7, prompt_mask=REAL)
    expected = [plain_greedy(model, prompt, 7) for prompt in ALONE]
    assert [tokens.tolist() for tokens in greedy] == expected
    assert len({len(tokens) for tokens in expected}) > 1
    beams = beam_search(model, PROMPTS, end=END, max_length=5, beam=3, prompt_mask=REAL.bool())
    for found, prompt in zip(beams, ALONE, strict=True):
        alone = beam_search(model, prompt[None], end=END, max_length=5, beam=3)[0]
        assert [h.tokens.tolist() for h in found] == [h.tokens.tolist() for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-10)
        ended = found[0].tokens.tolist()
        ended += [END] * (len(ended) < 5)
        steps = [float(log_p(model, [*prompt.tolist(), *ended[:i]])[token]) for i, token in enumerate(ended)]
        assert found[0].score == pytest.approx(sum(steps) / ((5 + len(ended)) / 6) ** 0.6, abs=1e-10)


def test_what_stands_in_the_filling_changes_nothing():
    model = model_of(SEEDS["rotary"])
    other = PROMPTS.masked_fill(REAL == 0, 4)
    for search in SEARCHES:
        found = [search(model, some, max_length=4, prompt_mask=REAL, **options(search)) for some in (PROMPTS, other)]
        assert str(found[0]) == str(found[1])
    read, masked = (beam_search(model, other, max_length=2, **mask) for mask in ({}, {"prompt_mask": REAL}))
    assert read[1][0].score != pytest.approx(masked[1][0].score)


def options(search, seed=0):
    return {"generator": torch.Generator().manual_seed(seed)} if search is sample else {}


# ---------------------------------------------------------------------------------------------------------------------
# Hugging Face


@pytest.mark.parametrize(("positions", "seed"), [("learned", 35), ("rotary", 38), ("alibi", 10)])
def test_it_writes_what_hugging_face_writes(positions, seed):
    """Three prompts, two of them padded on the left: greedily, and with three beams, which are scored by the mean."""
    ours, theirs = peer_of(positions, seed)
    given = {"attention_mask": REAL, "eos_token_id": END, "pad_token_id": END, "do_sample": False}
    width = PROMPTS.shape[1]
    greedy = theirs.generate(PROMPTS, **given, max_new_tokens=9)[:, width:]
    found = greedy_search(ours, PROMPTS, end=END, max_length=9, prompt_mask=REAL)
    assert [tokens.tolist() for tokens in found] == [[t for t in row.tolist() if t != END] for row in greedy]
    several = {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True, "length_penalty": 1.0}
    returned = theirs.generate(
        PROMPTS, **given, **several, max_new_tokens=18, return_dict_in_generate=True, output_scores=True
    )
    beams = beam_search(
        ours, PROMPTS, end=END, max_length=18, beam=3, prompt_mask=REAL, length_penalty=lambda length: length
    )
    rows = [[t for t in row.tolist() if t != END] for row in returned.sequences[:, width:]]
    assert [h.tokens.tolist() for hypotheses in beams for h in hypotheses] == rows
    assert len({len(row) for row in rows}) >= 4
    scores = [h.score for hypotheses in beams for h in hypotheses]
    assert scores == pytest.approx(returned.sequences_scores.tolist(), rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Beams


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(2))
def test_a_beam_that_holds_everything_finds_the_best_of_all_continuations(seed, alpha):
    """Oracle: the probability of each of the continuations of up to two tokens that end, and of all that are cut."""
    model = model_of(seed)
    writable = [token for token in range(VOCAB) if token != END]
    every = [{} for _ in ALONE]
    for found, prompt in zip(every, ALONE, strict=True):
        for length in range(4):
            for tokens in itertools.product(writable, repeat=length):
                ended = [*tokens, END][:3]
                steps = [float(log_p(model, [*prompt.tolist(), *ended[:i]])[token]) for i, token in enumerate(ended)]
                found[tokens] = sum(steps) / ((5 + len(ended)) / 6) ** alpha
    beam = VOCAB * len(writable) ** 2  # all candidates of the last step
    beams = beam_search(model, PROMPTS, end=END, max_length=3, beam=beam, length_penalty=alpha, prompt_mask=REAL)
    for hypotheses, found in zip(beams, every, strict=True):
        ordered = sorted(found, key=found.get, reverse=True)[:beam]
        assert [tuple(h.tokens.tolist()) for h in hypotheses] == ordered
        assert [h.score for h in hypotheses] == pytest.approx([found[tokens] for tokens in ordered])


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_cut_is_ranked_with_what_has_ended_as_by_hugging_face(seed, most):
    """Lengths so short that some of the beams have ended, and some have not."""
    ours, theirs = peer_of("rotary", seed)
    given = {"num_beams": 4, "num_return_sequences": 4, "early_stopping": True, "length_penalty": 0.0}
    given |= {"attention_mask": REAL, "eos_token_id": END, "pad_token_id": END, "do_sample": False}
    returned = theirs.generate(PROMPTS, **given, max_new_tokens=most, return_dict_in_generate=True, output_scores=True)
    rows = [[t for t in row.tolist() if t != END] for row in returned.sequences[:, PROMPTS.shape[1] :]]
    beams = beam_search(ours, PROMPTS, end=END, max_length=most, beam=4, length_penalty=0, prompt_mask=REAL)
    assert [h.tokens.tolist() for hypotheses in beams for h in hypotheses] == rows
    scores = [h.score for hypotheses in beams for h in hypotheses]
    assert scores == pytest.approx(returned.sequences_scores.tolist(), rel=1e-5)


class Coin(nn.Module):
    """Writes 1 with probability 0.99 at each step, else the end, 0."""

    target_vocab = 2

    def begin(self, source, *, max_length):
        return _Flips(len(source))


class _Flips:
    def __init__(self, rows):
        self.logits = torch.tensor([0.01, 0.99]).log().expand(rows, 2)

    def append(self, tokens):
        pass

    def reorder(self, rows):
        self.logits = self.logits[rows]


def test_a_likely_text_that_is_cut_is_not_lost_to_an_unlikely_one_that_has_ended():
    found = beam_search(Coin(), torch.zeros(1, 1).long(), end=0, max_length=3, beam=4, length_penalty=0)[0]
    assert [h.tokens.tolist() for h in found] == [[1, 1, 1], [], [1], [1, 1]]
    scores = [3 * math.log(0.99), *(math.log(0.01) + n * math.log(0.99) for n in range(3))]
    assert [h.score for h in found] == pytest.approx(scores, rel=1e-5)


def test_without_an_end_all_beams_have_the_whole_length():
    found = beam_search(model_of(), PROMPTS, max_length=3, beam=2, length_penalty=0, prompt_mask=REAL)
    for hypotheses, prompt in zip(found, ALONE, strict=True):
        assert [len(h.tokens) for h in hypotheses] == [3, 3]
        tokens = prompt.tolist()
        total = 0.0
        for token in hypotheses[0].tokens.tolist():
            total += float(log_p(model_of(), tokens)[token])
            tokens.append(token)
        assert hypotheses[0].score == pytest.approx(total)


def test_a_penalty_may_be_a_function_of_the_length():
    model, lengths = model_of(8), []

    def wu(length):
        lengths.append(length)
        return ((5 + length) / 6) ** 0.6

    given = {"end": END, "max_length": 5, "beam": 3, "prompt_mask": REAL}
    assert str(beam_search(model, PROMPTS, **given, length_penalty=wu)) == str(beam_search(model, PROMPTS, **given))
    assert set(lengths) == {1, 2, 3, 4, 5}
    by_mean, by_sum = (beam_search(model, PROMPTS, **given, length_penalty=p) for p in (lambda n: n, lambda n: 1))
    long, short = (sum(len(hypotheses[0].tokens) for hypotheses in found) for found in (by_mean, by_sum))
    assert long > short


@pytest.mark.parametrize(
    ("penalty", "error", "message"),
    [
        (lambda length: 0.0, ValueError, "length_penalty: expected finite numbers above 0, got 0.0 of 1"),
        (lambda length: 2.5 - length, ValueError, "length_penalty: expected finite numbers above 0, got -0.5 of 3"),
        (lambda length: math.nan, ValueError, "length_penalty: expected finite numbers above 0, got nan of 1"),
        (lambda length: None, TypeError, "length_penalty: expected a function to numbers, got NoneType of 1"),
    ],
)
def test_a_function_that_is_no_penalty_is_refused(penalty, error, message):
    with pytest.raises(error, match=message):
        beam_search(model_of(), PROMPTS, max_length=4, length_penalty=penalty)


# ---------------------------------------------------------------------------------------------------------------------
# Sampling


def test_tokens_are_drawn_as_often_as_their_probability_says():
    """20,000 draws of two tokens: all pairs, from a prompt that is padded, at a temperature."""
    model, count, temperature = model_of(1), 20_000, 0.7
    drawn = sample(
        model, PROMPTS[1:2].expand(count, -1), max_length=2, temperature=temperature,
        prompt_mask=REAL[1:2].expand(count, -1), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    first = (log_p(model, ALONE[1]) / temperature).softmax(-1)
    second = torch.stack(
        [(log_p(model, [*ALONE[1].tolist(), token]) / temperature).softmax(-1) for token in range(VOCAB)]
    )
    pairs = torch.stack(drawn)
    counts = torch.bincount(pairs[:, 0] * VOCAB + pairs[:, 1], minlength=VOCAB**2).view(VOCAB, VOCAB)
    expected = first[:, None] * second * count
    assert (expected > 30).sum() > 8
    # Five standard deviations, and for what is rare a few draws more.
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 3).all()


@pytest.mark.parametrize(("cut", "left"), [({"top_k": 2}, 2), ({"top_p": 0.6}, None)])
def test_what_is_cut_is_never_drawn(cut, left):
    model = model_of(2)
    prompt = ALONE[0]
    drawn = sample(model, prompt.expand(500, -1), max_length=1, **cut, generator=torch.Generator().manual_seed(0))
    probabilities = log_p(model, prompt).exp().sort(descending=True)
    left = left or int((probabilities.values.cumsum(-1) < 0.6).sum()) + 1
    assert 1 < left < VOCAB
    assert {int(tokens) for tokens in drawn} == set(probabilities.indices[:left].tolist())


def test_one_of_the_likeliest_or_a_small_temperature_is_greedy():
    model = model_of(1)
    greedy = greedy_search(model, PROMPTS, end=END, max_length=6, prompt_mask=REAL)
    for how in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-4}, {"temperature": 1e-37}):
        assert str(sample(model, PROMPTS, end=END, max_length=6, prompt_mask=REAL, **how)) == str(greedy)


def test_a_generator_draws_the_same_again_and_leaves_torchs_own():
    model = model_of(1)
    state = torch.get_rng_state()
    one, two, other = (sample(model, PROMPTS, max_length=9, **options(sample, seed)) for seed in (0, 0, 1))
    assert str(one) == str(two) != str(other)
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(tokens) for tokens in one] == [9, 9, 9]
    sample(model, PROMPTS, max_length=1)
    assert not torch.equal(torch.get_rng_state(), state)


def test_an_encoder_decoder_is_sampled_by_the_same_code():
    torch.manual_seed(5)
    sizes = {"d_model": 8, "num_heads": 2, "d_ff": 11, "num_layers": 1, "share_embeddings": False}
    model = Transformer(VOCAB, **sizes).double().eval()
    source, mask, count = torch.tensor([[2, 3, 4, 0]]), masks.padding([3]), 4000
    drawn = sample(
        model, source.expand(count, -1), start=0, end=END, max_length=1, temperature=0.5, source_mask=mask,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    with torch.no_grad():
        expected = (model(source[:, :3], torch.tensor([[0]]))[0, -1] / 0.5).softmax(-1) * count
    counts = torch.bincount(torch.tensor([int(t) if len(t) else END for t in drawn]), minlength=VOCAB)
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 3).all()
    assert counts.max() < count


# ---------------------------------------------------------------------------------------------------------------------
# What is asked of a model


class Recording(nn.Module):
    """A model of nobody's that a search is to serve: it writes what it counts, and says what was asked of it."""

    target_vocab = 7

    def __init__(self):
        super().__init__()
        self.asked = []

    def begin(self, source, *, max_length, **reading):
        self.asked.append(("begin", tuple(source.shape), max_length, sorted(reading), self.training))
        return _Counts(self, source[:, -1])


class _Counts:
    def __init__(self, model, last):
        self.model = model
        self._follow(last)

    def _follow(self, last):
        self.logits = 9.0 * F.one_hot((last + 1) % 7, 7) + torch.arange(7) / 7

    def append(self, tokens):
        self.model.asked.append(("append", tokens.tolist()))
        self._follow(tokens)

    def reorder(self, rows):
        self.model.asked.append(("reorder", rows.tolist()))
        self.logits = self.logits[rows]


def test_a_model_of_ones_own_is_searched():
    model = Recording()
    found = greedy_search(model, torch.tensor([[0, 3], [0, 1]]), end=6, max_length=4, prompt_mask=torch.ones(2, 2))
    assert [tokens.tolist() for tokens in found] == [[4, 5], [2, 3, 4, 5]]
    assert model.asked == [
        ("begin", (2, 2), 4, ["prompt_mask"], False), ("append", [4, 2]), ("append", [5, 3]), ("append", [6, 4]),
    ]  # fmt: skip
    assert model.training
    model = Recording()
    assert beam_search(model, torch.tensor([[3]]), max_length=3, beam=2)[0][0].tokens.tolist() == [4, 5, 6]
    assert model.asked[:2] == [("begin", (1, 1), 3, [], False), ("reorder", [0, 0])]
    assert [asked[0] for asked in model.asked[2:]] == ["reorder", "append"] * 2


@pytest.mark.parametrize("search", SEARCHES)
def test_each_token_is_projected_once_and_the_prompt_in_one_call(search):
    model, calls = model_of(share_embeddings=True), []
    model.stack.layers[0].self_attention.wk.register_forward_hook(lambda layer, args, out: calls.append(args[0].shape))
    outputs = []
    model.stack.register_forward_hook(lambda stack, args, out: outputs.append(out.requires_grad))
    search(model, PROMPTS, max_length=4, prompt_mask=REAL, **options(search))
    rows = len(PROMPTS) * (4 if search is beam_search else 1)
    assert [tuple(shape[:2]) for shape in calls] == [tuple(PROMPTS.shape), (rows, 1), (rows, 1), (rows, 1)]
    assert not any(outputs)


@pytest.mark.parametrize("search", SEARCHES)
def test_nothing_is_dropped_and_each_module_is_left_in_its_mode(search):
    model = model_of(dropout=0.5)
    expected = search(model, PROMPTS, max_length=4, **options(search))
    model.train()
    model.stack.eval()
    modes = [module.training for module in model.modules()]
    assert str(search(model, PROMPTS, max_length=4, **options(search))) == str(expected)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("search", SEARCHES)
def test_a_compiled_model_may_write(search):
    model = model_of()
    expected = search(model, PROMPTS, max_length=4, **options(search))
    compiled = torch.compile(model, backend="eager")
    assert str(search(compiled, PROMPTS, max_length=4, **options(search))) == str(expected)


@pytest.mark.parametrize("search", SEARCHES)
def test_no_prompts_give_no_texts(search):
    assert search(model_of(), PROMPTS[:0], max_length=4) == []
    assert search(model_of(), PROMPTS[:0], max_length=4, prompt_mask=REAL[:0]) == []


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_a_mask_that_closes_nothing_is_none(dtype):
    model = model_of()
    calls = []
    model.stack.register_forward_pre_hook(lambda stack, args: calls.append(args[1]))
    found = greedy_search(model, PROMPTS, max_length=2, prompt_mask=torch.ones(3, 5, dtype=dtype))
    assert str(found) == str(greedy_search(model, PROMPTS, max_length=2))
    assert {type(mask).__name__ for mask in calls} == {"Causal"}


def test_learned_positions_last_for_the_longest_real_prompt():
    """23 positions, 5 tokens read: 18 more are read, and the last that is written is not."""
    model = model_of(positions=Learned(MOST, D_MODEL))
    assert [len(tokens) for tokens in greedy_search(model, PROMPTS, max_length=19)] == [19] * 3
    model.stack.register_forward_pre_hook(lambda *_: pytest.fail("the stack was called"))
    message = "max_length: expected at most 19 new tokens after a prompt of 5, since the model knows 23 .*got 20"
    with pytest.raises(ValueError, match=message):
        greedy_search(model, PROMPTS, max_length=20)
    model = model_of(positions=Learned(MOST, D_MODEL))
    assert greedy_search(model, PROMPTS[1:], max_length=21, prompt_mask=REAL[1:])
    with pytest.raises(ValueError, match="at most 21 new tokens after a prompt of 3"):
        greedy_search(model, PROMPTS[1:], max_length=22, prompt_mask=REAL[1:])


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": PROMPTS[0]}, ValueError, r"source: expected \(B, L\) with L of at least 1, got \(5,\)"),
        ({"source": PROMPTS[:, :0]}, ValueError, "source: expected .* with L of at least 1, got "),
        ({"source": PROMPTS == 2}, TypeError, "source: expected tokens as int64 or int32, got torch.bool"),
        ({"source": PROMPTS.tolist()}, TypeError, "source: expected a tensor, got list"),
        ({"source": PROMPTS + 1}, ValueError, "source: expected tokens from 0 to 4, got 5"),
        ({"end": VOCAB}, ValueError, "end: expected a token below target_vocab=5, got 5"),
        ({"max_length": 0}, ValueError, "max_length: expected at least 1, got 0"),
        ({"max_length": 2.5}, TypeError, "max_length: expected a whole number"),
        ({"start": 0}, TypeError, "unexpected keyword argument 'start'"),
        ({"source_mask": masks.causal()}, TypeError, "unexpected keyword argument 'source_mask'"),
        ({"prompt_mask": REAL.flip(1)}, ValueError, r"filling on the left, .* \[1, 1, 1, 0, 0\] for prompt 1; pad on "),
        (
            {"prompt_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [0, 0, 0, 0, 1]])},
            ValueError,
            r"prompt_mask: expected the filling on the left, .* got \[1, 1, 0, 1, 1\] for prompt 1",
        ),
        ({"prompt_mask": REAL * 0 + torch.tensor([[1], [0], [1]])}, ValueError, "in each prompt, got none in prompt 1"),
        ({"prompt_mask": REAL * 2}, ValueError, "prompt_mask: expected numbers that are 0 or 1, got others"),
        ({"prompt_mask": REAL.float()}, TypeError, "prompt_mask: expected bools, or whole .* got torch.float32"),
        ({"prompt_mask": REAL[:2]}, ValueError, r"prompt_mask: expected source's shape \(3, 5\), got \(2, 5\)"),
        ({"prompt_mask": [1]}, TypeError, "prompt_mask: expected a tensor, got list"),
        ({"prompt_mask": REAL.to("meta")}, ValueError, "prompt_mask: expected source's device cpu, got meta"),
    ],
)
def test_what_does_not_fit_is_refused(search, arguments, error, message):
    model = model_of()
    model.stack.register_forward_pre_hook(lambda *_: pytest.fail("the stack was called"))
    given = {"source": PROMPTS, "max_length": 4, **arguments}
    with pytest.raises(error, match=message):
        search(model, given.pop("source"), **given)


def test_the_other_kinds_arguments_are_refused():
    model = Transformer(VOCAB, d_model=8, num_heads=2, d_ff=11, num_layers=1)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'start'"):
        greedy_search(model, PROMPTS, max_length=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'prompt_mask'"):
        greedy_search(model, PROMPTS, start=0, max_length=3, prompt_mask=REAL)


@pytest.mark.parametrize(
    ("arguments", "error", "message"), [*WRONG, ({"generator": 0}, TypeError, "generator: expected a")]
)
def test_what_cannot_be_drawn_is_refused(arguments, error, message):
    model = model_of()
    model.stack.register_forward_pre_hook(lambda *_: pytest.fail("the stack was called"))
    with pytest.raises(error, match=message):
        sample(model, PROMPTS, max_length=4, **arguments)


@pytest.mark.parametrize(
    ("search", "wrong"), [*((search, math.nan) for search in SEARCHES), (beam_search, math.inf), (sample, math.inf)]
)
def test_logits_that_are_no_numbers_are_an_error(search, wrong):
    model = model_of()
    with torch.no_grad():
        model.output.weight[2] = wrong
    with pytest.raises(ValueError, match="model: expected logits that are numbers, got NaN"):
        search(model, PROMPTS, max_length=4, **options(search))
