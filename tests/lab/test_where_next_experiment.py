"""The experiment of the chapter on what to keep: its task, its memories, what the chapter claims, a row again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attnlib.cache import KVCache
from attnlib.lab import stored
from attnlib.lab.experiments import where_next as experiment
from attnlib.lab.experiments.where_next import KINDS, Decay, Delta, Latent, Linear, Newest, Twice, Window
from attnlib.lab.models import count_parameters
from attnlib.lab.recall import NAMES, NUMBERS

pytestmark = pytest.mark.usefixtures("in_float64")

FOUND = stored.load("where_next")["rows"]


def recalled(name, n):
    return [seed["pairs"][str(n)] for seed in FOUND[f"recall, {name}"]["seeds"]]


def answered(name, which):
    return [seed["taken away"][which] for seed in FOUND[f"twice, {name}"]["seeds"]]


def test_what_is_kept_is_what_the_models_keep():
    latent, gru = KINDS["latent"].look(), KINDS["GRU"].look()
    assert KINDS["latent"].keeps(5) == 5 * latent.down.out_features
    assert KINDS["GRU"].keeps(5) == gru.net.hidden_size
    for size in (8, 32):
        window = KINDS[f"window of {size}"].look()
        assert window.size == size
        assert KINDS[f"window of {size}"].keeps(64) == size * (window.wk.out_features + window.wv.out_features)
    newest = KINDS["newest"].look()
    assert KINDS["newest"].keeps(7) == 7 * (newest.wk.out_features + newest.wv.out_features)


@pytest.fixture
def read():
    """The asked token, and five pairs."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, 1, 32, generator=generator), torch.randn(3, 5, 32, generator=generator)


# The task


@pytest.mark.parametrize("n", [1, 2, 7, NAMES])
def test_the_answer_is_the_last_number_of_the_asked_name(n):
    (names, numbers, asked), answer = Twice(range(n, n + 1)).draw(50, torch.Generator().manual_seed(3))
    assert names.shape == numbers.shape == (50, 2 * n)
    assert 0 <= numbers.min() <= numbers.max() < NUMBERS
    for some, theirs, (who,), (right,) in zip(*(x.tolist() for x in (names, numbers, asked, answer)), strict=True):
        pairs = list(zip(some, theirs, strict=True))
        assert dict(pairs)[who] == right  # a dict keeps the last
        assert dict(reversed(pairs))[who] != right  # the first is another number
        assert set(some[:n]) == set(some[n:])
        assert len(set(some)) == n


def test_the_second_reading_has_an_order_of_its_own():
    (names, _, _), _ = Twice(range(8, 9)).draw(200, torch.Generator().manual_seed(3))
    same = (names[:, :8] == names[:, 8:]).double().mean().item()
    assert same == pytest.approx(1 / 8, abs=0.04)


@pytest.mark.parametrize("names", [range(0, 3), range(60, NAMES + 2), range(3, 3)])
def test_names_that_there_are_not_are_refused(names):
    with pytest.raises(ValueError, match=f"names: expected a range inside 1 to {NAMES}"):
        Twice(names)


# The memories


def heads_of(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("heads", [1, 4])
def test_the_delta_rule_at_once_is_the_delta_rule_pair_by_pair(read, heads):
    asked, pairs = read
    torch.manual_seed(0)
    memory = Delta(heads, F.silu)
    outputs = []
    for b in range(3):
        per_head = []
        for h in range(heads):
            part = slice(h * 32 // heads, (h + 1) * 32 // heads)
            S = torch.zeros(32 // heads, 32 // heads)
            for pair in pairs[b]:
                key = F.silu(memory.wk(pair)[part])
                key, value = key / key.norm(), memory.wv(pair)[part]
                S = S + torch.outer(key, value - S.T @ key)
            query = F.silu(memory.wq(asked[b, 0])[part])
            per_head.append(S.T @ (query / query.norm()))
        outputs.append(memory.fc(torch.cat(per_head)))
    torch.testing.assert_close(memory(asked, pairs)[:, 0], torch.stack(outputs), rtol=0, atol=1e-12)


def test_after_the_delta_rule_a_key_finds_its_last_value():
    key, value = torch.randn(2, 1, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    key[..., 3, :] = 2 * key[..., 1, :]
    torch.testing.assert_close(Delta().found(key[..., 1:2, :], key, value), value[..., 3:, :])
    both = Linear().found(key[..., 1:2, :].abs(), key.abs(), value)
    assert (both - value[..., 3:, :]).norm() > 0.1


@pytest.mark.parametrize("heads", [1, 4])
def test_linear_attention_weighs_each_pair_by_its_kernel(read, heads):
    asked, pairs = read
    memory = Linear(heads)
    query, key = (heads_of(F.elu(w(x)) + 1, heads) for w, x in ((memory.wq, asked), (memory.wk, pairs)))
    weights = (query[:, :, :, None] * key[:, :, None]).sum(-1)  # (B, H, 1, n)
    weights = weights / weights.sum(-1, keepdim=True)
    expected = (weights[..., None] * heads_of(memory.wv(pairs), heads)[:, :, None]).sum(3)
    torch.testing.assert_close(memory(asked, pairs), memory.fc(expected.transpose(1, 2).flatten(2)), rtol=1e-5, atol=0)


def test_products_are_of_neighbours_in_a_ring():
    x = torch.randn(5, generator=torch.Generator().manual_seed(0))
    parts = [max(number, 0) for number in [*x.tolist(), *(-x).tolist()]]
    expected = [part * parts[place - 1] for place, part in enumerate(parts)]
    torch.testing.assert_close(experiment.products(x), torch.tensor(expected))


def test_what_fades_fades_with_each_later_pair():
    memory = Decay()
    nn.init.zeros_(memory.keep)
    assert memory.factor().item() == 0.5
    query, key, value = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 3, 2), torch.eye(3)[None, None]
    expected = torch.tensor([1.0, 2.0, 4.0]) / 7
    torch.testing.assert_close(memory.found(query, key, value)[0, 0, 0], expected, rtol=1e-5, atol=0)


def test_a_window_reads_the_last_pairs_and_no_other(read):
    asked, pairs = read
    window = Window(2)
    before, within = pairs.clone(), pairs.clone()
    before[:, :3] += 1
    within[:, 3] += 1
    assert window(asked, before).equal(window(asked, pairs))
    assert not window(asked, within).equal(window(asked, pairs))


def test_the_newest_wins_where_keys_are_the_same(read):
    asked, pairs = read
    newest = Newest().eval()
    plain = experiment.MultiHeadAttention(1, 32, dropout=0.0)
    plain.load_state_dict({name: value for name, value in newest.state_dict().items() if name != "slope"})
    with torch.no_grad():
        newest.slope.fill_(0.0)
        torch.testing.assert_close(newest(asked, pairs), plain(asked, pairs))
        newest.slope.fill_(1e3)
        torch.testing.assert_close(newest(asked, pairs), newest(asked, pairs[:, -1:]))


def test_a_latent_is_all_that_is_read_of_a_pair(read):
    asked, pairs = read
    latent = Latent(8)
    unseen = torch.linalg.svd(latent.down.weight.detach()).Vh[8:]  # what `down` maps to zero
    torch.testing.assert_close(latent(asked, pairs + unseen.sum(0)), latent(asked, pairs), rtol=0, atol=1e-12)
    assert not torch.allclose(latent(asked, pairs + 1), latent(asked, pairs))


@pytest.mark.parametrize("name", ["attention", "grouped keys"])
def test_what_is_kept_is_what_a_cache_holds(name, read):
    _, pairs = read
    cache = KVCache()
    KINDS[name].look()(pairs, cache=cache)
    assert 3 * KINDS[name].keeps(5) == cache.key.numel() + cache.value.numel()


@pytest.mark.parametrize(
    ("name", "heads", "features", "norm"),
    [
        ("linear, 4 heads", 4, 8, 1),
        ("linear", 1, 32, 1),
        ("linear, products", 1, 64, 1),
        ("decay", 1, 32, 1),
        ("delta, 4 heads", 4, 8, 0),
        ("delta", 1, 32, 0),
        ("delta, products", 1, 64, 0),
    ],
)
def test_a_matrix_has_the_size_that_is_stated(name, heads, features, norm, read):
    seen = []
    look = KINDS[name].look()
    found, look.found = look.found, lambda *x: seen.append([y.shape for y in x]) or found(*x)
    look(*read)
    ((_, key, value),) = seen
    assert (key[1], key[-1]) == (heads, features)
    assert key[1] * key[-1] * (value[-1] + norm) == KINDS[name].keeps(5) == KINDS[name].keeps(50)


# What is taken away


class Reader(nn.Module):
    """Knows all pairs, and answers the last number of a name or the first."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, names, numbers, asked):
        answers = []
        for some, theirs, (who,) in zip(names.tolist(), numbers.tolist(), asked.tolist(), strict=True):
            pairs = list(zip(some, theirs, strict=True))
            answers.append([dict(pairs if self.last else reversed(pairs))[who]])
        return F.one_hot(torch.tensor(answers), NUMBERS)


def test_what_is_taken_away_is_what_the_name_says():
    last, first = ({"last": 1, "first": 0, "other": 0}, {"last": 0, "first": 1, "other": 0})
    taken = experiment.taken_away(Reader(last=True), 100)
    assert taken == {"none": last, "last": first, "first": last, "another": last}
    taken = experiment.taken_away(Reader(last=False), 100)
    assert taken == {"none": first, "last": first, "first": last, "another": first}


# What is stored, and claimed


def test_every_row_is_stored_with_every_seed_and_of_one_size():
    assert list(FOUND) == list(experiment.ROWS)
    for name, row in FOUND.items():
        assert [seed["seed"] for seed in row["seeds"]] == [0, 1, 2]
        kind = KINDS[name.partition(", ")[2]]
        assert row["parameters"] == count_parameters(kind.make())
        assert 6_500 < row["parameters"] <= 8_225


def test_softmax_finds_all_and_keeps_all():
    for name in ("attention", "grouped keys"):
        assert min(recalled(name, 64)) > 0.99
    assert min(recalled("latent", 64)) > 0.9


def test_a_larger_matrix_finds_more():
    for rule in ("linear", "delta"):
        few, some, many = (recalled(f"{rule}{which}", 64) for which in (", 4 heads", "", ", products"))
        assert max(few) < min(some)
        assert max(some) < 0.65
        assert min(many) > 0.9


def test_a_window_finds_what_lies_in_it():
    for size in (8, 32):
        inside = size / 64
        assert recalled(f"window of {size}", 64) == pytest.approx(3 * [inside + (1 - inside) / NUMBERS], abs=0.05)


def test_the_delta_rule_answers_the_last_and_sums_do_not():
    for name in ("delta", "delta, products", "newest"):
        assert min(answers["last"] for answers in answered(name, "none")) > 0.95
        assert min(answers["first"] for answers in answered(name, "last")) > 0.9
        assert min(answers["last"] for answers in answered(name, "another")) > 0.95
    for name in ("attention", "linear", "linear, products"):
        assert max(answers["last"] for answers in answered(name, "none")) < 0.56
        assert min(answers["first"] for answers in answered(name, "none")) > 0.4
    assert max(answers["last"] for answers in answered("GRU", "none")) < 0.3


# Again


def test_a_run_depends_on_its_seed_alone_and_leaves_the_default_dtype():
    torch.set_default_dtype(torch.float32)
    first, again, other = (experiment.twice("linear", seed, steps=20) for seed in (0, 0, 1))
    assert first == again
    assert first["names"] != other["names"]
    assert torch.get_default_dtype() == torch.float32


def test_a_row_comes_out_again():
    again, before = experiment.twice("delta", 1), FOUND["twice, delta"]["seeds"][1]
    assert again["names"] == pytest.approx(before["names"], abs=0.02)
    for which, answers in again["taken away"].items():
        assert answers == pytest.approx(before["taken away"][which], abs=0.02)
