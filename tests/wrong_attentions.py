"""The catalogue of wrong attentions: each differs from :class:`Right` in one step, and has a name.

They are the bugs that learners write and published material has carried for years. A test suite that lets one of them
live does not test attention. ``WRONG`` maps each name to the implementation and to the check of
:mod:`tests.test_wrong_attentions` that kills it.
"""

import math

import torch
from torch import nn


class Right:
    """Attention written out plainly, step by step, so that a single step can be got wrong."""

    # --- one attention -----------------------------------------------------------------------------------------------

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        weights = self.weights(query, key, mask, bias, scale)
        return self.average(self.dropped(weights, dropout_p), self.repeated(value, query), query)

    def weights(self, query, key, mask=None, bias=None, scale=None):
        scores = self.scores(query, self.repeated(key, query), self.scale(query) if scale is None else scale)
        return self.softmax(self.masked(self.biased(scores, bias), mask), mask)

    def scale(self, query):
        return 1 / math.sqrt(query.shape[-1])

    def repeated(self, keys, query):
        return keys.repeat_interleave(query.shape[1] // keys.shape[1], dim=1)

    def scores(self, query, key, scale):
        return query @ key.mT * scale

    def biased(self, scores, bias):
        return scores if bias is None else scores + bias

    def masked(self, scores, mask):
        return scores if mask is None else scores.masked_fill(~mask, -math.inf)

    def softmax(self, scores, mask):
        return torch.softmax(scores, dim=-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)

    def dropped(self, weights, p):
        return nn.functional.dropout(weights, p)

    def average(self, weights, value, query):
        hidden = (weights == 0).all(-2)[..., None]  # 0·NaN is NaN: a value that no query reads is cleared
        return weights @ value.masked_fill(hidden, 0)

    # --- masks -------------------------------------------------------------------------------------------------------

    def causal(self, L, S):
        return torch.ones(L, S, dtype=torch.bool).tril(S - L)

    def sliding_window(self, size, L, S):
        distance = torch.arange(S - L, S)[:, None] - torch.arange(S)
        return distance.abs() < size

    def padding(self, lengths, L, S):
        return (torch.arange(S) < torch.tensor(lengths)[:, None])[:, None, None]

    # --- the module --------------------------------------------------------------------------------------------------

    def module(self, num_heads, d_model, d_k, d_v, num_kv_heads=None, dropout=0.0):
        return Module(self, num_heads, d_model, d_k, d_v, num_kv_heads or num_heads, dropout)

    def decode(self, module, x, sizes):
        """Feed ``x`` in chunks of these sizes, with a cache, causally; return all outputs."""
        start, keys, values, outputs = 0, None, None, []
        for size in sizes:
            queries, new_keys, new_values = module.project(*[x[:, start : start + size]] * 3)
            keys = new_keys if keys is None else torch.cat([keys, new_keys], dim=2)
            values = new_values if values is None else torch.cat([values, new_values], dim=2)
            start += size
            outputs.append(module.fc(self.merge(self.attention(queries, keys, values, self.causal(size, start)))))
        return torch.cat(outputs, dim=1)

    def split(self, x, heads):
        return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)

    def merge(self, heads):
        return heads.transpose(1, 2).flatten(2)

    def projected_out(self, module, heads):
        return module.fc(heads)

    def kept(self, weights, dropped):
        return weights

    def rate(self, module):
        return module.dropout if module.training else 0.0


class Module(nn.Module):
    """Multi-head attention whose every step is its implementation's."""

    def __init__(self, steps, num_heads, d_model, d_k, d_v, num_kv_heads, dropout):
        super().__init__()
        self.steps, self.num_heads, self.num_kv_heads, self.dropout = steps, num_heads, num_kv_heads, dropout
        self.wq = nn.Linear(d_model, num_heads * d_k, bias=False)
        self.wk = nn.Linear(d_model, num_kv_heads * d_k, bias=False)
        self.wv = nn.Linear(d_model, num_kv_heads * d_v, bias=False)
        self.fc = nn.Linear(num_heads * d_v, d_model, bias=False)
        self.attn = None

    def project(self, query, key, value):
        steps = self.steps
        return (
            steps.split(self.wq(query), self.num_heads),
            steps.split(self.wk(key), self.num_kv_heads),
            steps.split(self.wv(value), self.num_kv_heads),
        )

    def forward(self, query, key=None, value=None, mask=None, need_weights=False):
        steps = self.steps
        key = query if key is None else key
        queries, keys, values = self.project(query, key, key if value is None else value)
        weights = steps.weights(queries, keys, mask)
        dropped = steps.dropped(weights, steps.rate(self))
        if need_weights:
            self.attn = steps.kept(weights, dropped).detach()
        heads = steps.average(dropped, steps.repeated(values, queries), queries)
        return steps.projected_out(self, steps.merge(heads))


WRONG = {}


def wrong(killed_by):
    """Enter a class in the catalogue, under its docstring, with the name of the check that kills it."""

    def enter(implementation):
        WRONG[implementation.__doc__] = (implementation(), killed_by)
        return implementation

    return enter


# ---------------------------------------------------------------------------------------------------------------------
# Scores and softmax


@wrong("output_by_hand")
class _(Right):
    """scores are not scaled"""

    def scale(self, query):
        return 1.0


@wrong("output_by_hand")
class _(Right):
    """scores are divided by d_k, not by its square root"""

    def scale(self, query):
        return 1 / query.shape[-1]


@wrong("output_by_hand")
class _(Right):
    """scores are multiplied with √d_k"""

    def scale(self, query):
        return math.sqrt(query.shape[-1])


@wrong("scale_of_each_head")
class _(Right):
    """scores are divided by √d_model, the width of all heads"""

    def scale(self, query):
        return 1 / math.sqrt(query.shape[1] * query.shape[-1])


@wrong("scale_is_an_argument")
class _(Right):
    """scale is ignored"""

    def scores(self, query, key, scale):
        return query @ key.mT * self.scale(query)


@wrong("rows_sum_to_one")
class _(Right):
    """softmax over the queries"""

    def softmax(self, scores, mask):
        return torch.softmax(scores, dim=-2).nan_to_num(0)


@wrong("heads_do_not_mix")
class _(Right):
    """softmax over the heads"""

    def softmax(self, scores, mask):
        return torch.softmax(scores, dim=1).nan_to_num(0)


@wrong("output_by_hand")
class _(Right):
    """softmax twice"""

    def softmax(self, scores, mask):
        return torch.softmax(super().softmax(scores, mask), dim=-1)


@wrong("output_by_hand")
class _(Right):
    """no softmax: scores divided by their sum"""

    def softmax(self, scores, mask):
        return scores.exp().log() / scores.exp().log().sum(-1, keepdim=True)


@wrong("large_scores_are_finite")
class _(Right):
    """softmax overflows: the largest score is not subtracted"""

    def softmax(self, scores, mask):
        powers = scores.exp()
        return powers / powers.sum(-1, keepdim=True).clamp(min=1e-300)


@wrong("bias_is_added_to_the_scores")
class _(Right):
    """bias is multiplied"""

    def biased(self, scores, bias):
        return scores if bias is None else scores * bias


@wrong("bias_is_added_to_the_scores")
class _(Right):
    """bias is ignored"""

    def biased(self, scores, bias):
        return scores


@wrong("bias_is_added_to_the_scores")
class _(Right):
    """bias is scaled with the scores"""

    def weights(self, query, key, mask=None, bias=None, scale=None):
        return super().weights(query, key, mask, None if bias is None else bias * self.scale(query), scale)


# ---------------------------------------------------------------------------------------------------------------------
# What is averaged


@wrong("output_by_hand")
class _(Right):
    """keys and values are swapped"""

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        return super().attention(query, value, key, mask, bias, scale, dropout_p)


@wrong("output_by_hand")
class _(Right):
    """weights are multiplied with the queries, not with the values"""

    def average(self, weights, value, query):
        return weights @ query[..., : value.shape[-2], :]


@wrong("output_by_hand")
class _(Right):
    """weights are transposed before the product"""

    def average(self, weights, value, query):
        return weights.mT @ value


@wrong("values_are_averaged_not_summed")
class _(Right):
    """values are summed, not averaged"""

    def average(self, weights, value, query):
        return weights @ value * value.shape[-2]


@wrong("hidden_numbers_change_nothing")
class _(Right):
    """a NaN in the padding leaks: zero times NaN"""

    def average(self, weights, value, query):
        return weights @ value


# ---------------------------------------------------------------------------------------------------------------------
# Masks


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """mask is inverted: True keeps away"""

    def masked(self, scores, mask):
        return scores if mask is None else scores.masked_fill(mask, -math.inf)


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """mask is ignored"""

    def masked(self, scores, mask):
        return scores


@wrong("rows_sum_to_one")
class _(Right):
    """mask after the softmax, without renormalising"""

    def masked(self, scores, mask):
        return scores

    def softmax(self, scores, mask):
        weights = torch.softmax(scores, dim=-1)
        return weights if mask is None else weights * mask


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """mask is added to the scores as 0 and 1"""

    def masked(self, scores, mask):
        return scores if mask is None else scores + mask


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """masked scores are set to 0, not to −∞"""

    def masked(self, scores, mask):
        return scores if mask is None else scores * mask


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """masked scores are set to −10, which large scores drown"""

    def masked(self, scores, mask):
        return scores if mask is None else scores.masked_fill(~mask, -10)


@wrong("masked_keys_weigh_nothing")
class _(Right):
    """the smallest positive number is filled in, not the most negative"""

    def masked(self, scores, mask):
        return scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).tiny)


@wrong("dead_rows_are_zero")
class _(Right):
    """a query with nothing to attend to attends to everything: the finite fill cancels"""

    def masked(self, scores, mask):
        return scores if mask is None else scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


@wrong("dead_rows_are_zero")
class _(Right):
    """a query with nothing to attend to becomes NaN"""

    def softmax(self, scores, mask):
        return torch.softmax(scores, dim=-1)


@wrong("dead_rows_give_no_gradient")
class _(Right):
    """a dead query's output is zero and its gradient NaN"""

    def masked(self, scores, mask):
        return scores if mask is None else scores - (~mask).log().neg().clamp(max=0) - torch.where(mask, 0.0, math.inf)

    def softmax(self, scores, mask):
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        return (powers / powers.sum(-1, keepdim=True)).nan_to_num(0)


@wrong("causal_aligns_the_last_query_with_the_last_key")
class _(Right):
    """causal aligns the first query with the first key"""

    def causal(self, L, S):
        return torch.ones(L, S, dtype=torch.bool).tril()


@wrong("causal_sees_itself_and_nothing_later")
class _(Right):
    """causal is strict: a token does not see itself"""

    def causal(self, L, S):
        return torch.ones(L, S, dtype=torch.bool).tril(S - L - 1)


@wrong("causal_sees_itself_and_nothing_later")
class _(Right):
    """causal sees one token of the future"""

    def causal(self, L, S):
        return torch.ones(L, S, dtype=torch.bool).tril(S - L + 1)


@wrong("causal_sees_itself_and_nothing_later")
class _(Right):
    """causal is transposed: a token sees the future only"""

    def causal(self, L, S):
        return torch.ones(L, S, dtype=torch.bool).triu(S - L)


@wrong("a_window_is_narrower_than_its_size")
class _(Right):
    """a sliding window holds one more on each side: ≤ for <"""

    def sliding_window(self, size, L, S):
        return super().sliding_window(size + 1, L, S)


@wrong("a_window_is_narrower_than_its_size")
class _(Right):
    """a sliding window looks back only"""

    def sliding_window(self, size, L, S):
        return super().sliding_window(size, L, S) & self.causal(L, S)


@wrong("padding_closes_keys")
class _(Right):
    """padding closes rows, not columns"""

    def padding(self, lengths, L, S):
        return super().padding(lengths, L, S).mT.expand(-1, 1, S, S)[..., :L, :]


@wrong("padding_closes_keys")
class _(Right):
    """padding is on the left"""

    def padding(self, lengths, L, S):
        return super().padding(lengths, L, S).flip(-1)


@wrong("padding_closes_keys")
class _(Right):
    """padding hides the last real token too"""

    def padding(self, lengths, L, S):
        return super().padding([length - 1 for length in lengths], L, S)


@wrong("padding_of_each_example_is_its_own")
class _(Right):
    """a (B, S) mask is read as (L, S)"""

    def padding(self, lengths, L, S):
        rows = super().padding(lengths, L, S)[:, 0, 0]
        return rows if len(lengths) == L else super().padding(lengths, L, S)


@wrong("padding_of_each_example_is_its_own")
class _(Right):
    """the first example's padding serves all"""

    def padding(self, lengths, L, S):
        return super().padding(lengths[:1] * len(lengths), L, S)


# ---------------------------------------------------------------------------------------------------------------------
# Heads


@wrong("module_by_loops")
class _(Right):
    """heads are split by view, without the transpose"""

    def split(self, x, heads):
        return x.reshape(len(x), heads, x.shape[1], -1)


@wrong("module_by_loops")
class _(Right):
    """heads are merged by view, without the transpose"""

    def merge(self, heads):
        return heads.reshape(len(heads), heads.shape[2], -1)


@wrong("module_by_loops")
class _(Right):
    """heads are interleaved: head h takes every H-th column"""

    def split(self, x, heads):
        return x.reshape(*x.shape[:2], -1, heads).permute(0, 3, 1, 2)


@wrong("module_by_loops")
class _(Right):
    """heads are averaged and repeated, not concatenated"""

    def merge(self, heads):
        return super().merge(heads.mean(1, keepdim=True).expand_as(heads))


@wrong("module_by_loops")
class _(Right):
    """the output projection is forgotten"""

    def projected_out(self, module, heads):
        return heads[..., : module.fc.out_features]


@wrong("grouped_heads_read_their_own_group")
class _(Right):
    """grouped heads are tiled, not repeated: h mod H_kv"""

    def repeated(self, keys, query):
        return keys.repeat(1, query.shape[1] // keys.shape[1], 1, 1)


@wrong("grouped_heads_read_their_own_group")
class _(Right):
    """all heads read the first group"""

    def repeated(self, keys, query):
        return keys[:, :1].expand(-1, query.shape[1], -1, -1) if keys.shape[1] < query.shape[1] else keys


@wrong("heads_do_not_mix")
class _(Right):
    """heads leak: the scores are averaged over them"""

    def scores(self, query, key, scale):
        scores = super().scores(query, key, scale)
        return scores.mean(1, keepdim=True).expand_as(scores)


@wrong("examples_do_not_mix")
class _(Right):
    """examples leak: the weights are averaged over the batch"""

    def softmax(self, scores, mask):
        weights = super().softmax(scores, mask)
        return weights.mean(0, keepdim=True).expand_as(weights)


# ---------------------------------------------------------------------------------------------------------------------
# Dropout, weights, cache


@wrong("dropout_drops_weights")
class _(Right):
    """dropout on the scores: dropped keys score 0"""

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        scores = self.scores(query, self.repeated(key, query), self.scale(query))
        scores = nn.functional.dropout(self.biased(scores, bias), dropout_p)
        weights = self.softmax(self.masked(scores, mask), mask)
        return self.average(weights, self.repeated(value, query), query)


@wrong("dropout_drops_weights")
class _(Right):
    """dropout without scaling up the kept"""

    def dropped(self, weights, p):
        return nn.functional.dropout(weights, p) * (1 - p)


@wrong("dropout_leaves_the_output_whole")
class _(Right):
    """dropout on the output"""

    def attention(self, query, key, value, mask=None, bias=None, scale=None, dropout_p=0.0):
        return nn.functional.dropout(super().attention(query, key, value, mask, bias, scale), dropout_p)


@wrong("dropout_drops_weights")
class _(Right):
    """dropout keeps with probability p"""

    def dropped(self, weights, p):
        return nn.functional.dropout(weights, 1 - p) if p else weights


@wrong("dropout_is_off_in_evaluation")
class _(Right):
    """dropout is left on in evaluation"""

    def rate(self, module):
        return module.dropout


@wrong("dropout_is_on_in_training")
class _(Right):
    """dropout is never on"""

    def rate(self, module):
        return 0.0


@wrong("weights_are_per_head_and_before_dropout")
class _(Right):
    """weights are reported after dropout"""

    def kept(self, weights, dropped):
        return dropped


@wrong("weights_are_per_head_and_before_dropout")
class _(Right):
    """weights are reported as the mean of the heads"""

    def kept(self, weights, dropped):
        return weights.mean(1)


@wrong("decoding_equals_the_whole")
class _(Right):
    """causal restarts at each chunk: positions are not counted from the cache"""

    def decode(self, module, x, sizes):
        class TopLeft(Right):
            def causal(self, L, S):
                return torch.ones(L, S, dtype=torch.bool).tril()

        return TopLeft().decode(module, x, sizes)


@wrong("decoding_equals_the_whole")
class _(Right):
    """the cache keeps the last chunk only"""

    def decode(self, module, x, sizes):
        chunks = x.split(list(sizes), dim=1)
        return torch.cat([module(chunk, mask=self.causal(*[chunk.shape[1]] * 2)) for chunk in chunks], dim=1)


@wrong("decoding_equals_the_whole")
class _(Right):
    """queries are cached in place of keys"""

    def decode(self, module, x, sizes):
        module.wk.weight = nn.Parameter(module.wq.weight[: len(module.wk.weight)])
        return super().decode(module, x, sizes)


@wrong("decoding_equals_the_whole")
class _(Right):
    """new keys are put before the old ones"""

    def decode(self, module, x, sizes):
        start, keys, values, outputs = 0, None, None, []
        for size in sizes:
            queries, new_keys, new_values = module.project(*[x[:, start : start + size]] * 3)
            keys = new_keys if keys is None else torch.cat([new_keys, keys], dim=2)
            values = new_values if values is None else torch.cat([new_values, values], dim=2)
            start += size
            outputs.append(module.fc(self.merge(self.attention(queries, keys, values, self.causal(size, start)))))
        return torch.cat(outputs, dim=1)
