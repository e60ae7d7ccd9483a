"""What is asked for: of each exercise a stub to begin with, what it shall do, and the section of the book to read."""

from dataclasses import dataclass

from attnlib.exercises.sections import link


@dataclass(frozen=True)
class Task:
    """An exercise, as its writer reads it. ``str(task)`` says all of it.

    Attributes:
        stub: what to begin with; its body is left open.
        text: what it shall do.
        section: the label of the book's section.
        minutes: how long it takes somebody who has read that section, about.
    """

    stub: str
    text: str
    section: str
    minutes: int

    @property
    def link(self) -> str:
        """The address of the section on the book's site, from its root."""
        return link(self.section)

    def __str__(self) -> str:
        return f"{self.stub}\n\n{self.text} About {self.minutes} minutes. In the book: {self.link}"


def _task(head: str, text: str, section: str, minutes: int) -> Task:
    indent = "        " if head.startswith("class") else "    "
    return Task(f"{head}\n{indent}...", text, section, minutes)


TASKS = {
    "softmax": _task(
        "def softmax(scores):",
        "Scores (L, S) become weights (L, S), so that each row sums to 1: for any finite scores, and where some of"
        " a row are −∞.",
        "softmax",
        5,
    ),
    "attention": _task(
        "def attention(query, key, value, mask=None):",
        "query (L, d_k), key (S, d_k) and value (S, d_v) give (L, d_v), with the scale 1/√d_k. mask (L, S) is true"
        " where a query may attend. A row without a key gives 0, and gradients flow.",
        "steps",
        15,
    ),
    "attention_weights": _task(
        "def attention_weights(query, key, mask=None):",
        "The weights (L, S) of attention: query (L, d_k), key (S, d_k), the scale 1/√d_k. mask (L, S) is true "
        "where a query may attend. A row without a key is 0.",
        "steps",
        10,
    ),
    "causal_mask": _task(
        "def causal_mask(L, S):",
        "A mask (L, S), true where a query may attend: to its own key and to those before it. The last query "
        "stands at the last key.",
        "masks",
        5,
    ),
    "padding_mask": _task(
        "def padding_mask(lengths, S):",
        "lengths (B,) of B sequences that were filled up to S keys give a mask (B, S), (B, 1, S) or (B, 1, 1, S), "
        "true where a key is real.",
        "masks",
        5,
    ),
    "sliding_window": _task(
        "def sliding_window(size, L, S):",
        "A mask (L, S), true where query and key are less than size apart, |i − j| < size. The last query stands "
        "at the last key.",
        "masks",
        10,
    ),
    "multi_head": _task(
        "class multi_head(nn.Module):\n"
        "    def __init__(self, num_heads, d_model, d_k, d_v, dropout):\n"
        "        super().__init__()\n"
        "        ...\n\n"
        "    def forward(self, query, key=None, value=None, mask=None):",
        "Multi-head attention of tokens (B, L, d_model). d_k and d_v are those of each head. The linear layers are"
        " called wq, wk, wv and fc, without biases. In training, dropout acts on the weights.",
        "multi_head_attention",
        40,
    ),
    "grouped_heads": _task(
        "def grouped_heads(query, key, value, mask=None):",
        "query (B, H, L, d_k), key (B, H_kv, S, d_k) and value (B, H_kv, S, d_v) give (B, H, L, d_v): query head h"
        " reads the key head h // (H / H_kv).",
        "one_class-grouped",
        15,
    ),
    "kv_cache": _task(
        "def kv_cache(tokens, positions, wq, wk, wv):",
        "Causal attention with one head, token by token, each token projected once: tokens (L, d), of which token "
        "i gets row i of positions added, give (L, d). Or a class, made of positions, wq, wk and wv, whose "
        "step(token) returns one row.",
        "language-model-cache",
        30,
    ),
    "rotary": _task(
        "def rotary(x, offset=0):",
        "Turn the pairs of columns of x (L, d_k), a column of the first half with one of the second, by position ·"
        " 10000^(−2i/d_k). The first row stands at offset.",
        "positions",
        20,
    ),
    "sinusoidal": _task(
        "def sinusoidal(length, d_model):",
        "The positions (length, d_model) of *Attention Is All You Need*: sines in the even columns, cosines in the"
        " odd.",
        "positions",
        10,
    ),
    "online_softmax": _task(
        "def online_softmax(scores, values, block):",
        "softmax(scores)·values for scores (L, S) and values (S, d), of which block columns are looked at at a "
        "time: nothing of (L, S) is stored.",
        "fast_attention",
        30,
    ),
    "layer_norm": _task(
        "def layer_norm(x, gamma, beta, eps=1e-5):",
        "Each row of x (L, d) with the mean 0 and the variance 1, then times gamma (d,), plus beta (d,).",
        "one_layer",
        10,
    ),
    "encoder_layer": _task(
        "def encoder_layer(x, attend, feed_forward, norm1, norm2):",
        "The paper's layer, post-norm, of its parts: attend(x), feed_forward(x), norm1(x) and norm2(x).",
        "one_layer",
        10,
    ),
    "decoder_layer": _task(
        "def decoder_layer(x, memory, attend, cross, feed_forward, norm1, norm2, norm3):",
        "The paper's decoder layer, post-norm, of its parts: attend(x) is the causal self-attention, and cross(x, "
        "memory) asks the encoder's memory.",
        "encoder_decoder",
        15,
    ),
    "greedy_search": _task(
        "def greedy_search(model, start, end, max_length):",
        "The list of tokens that follow start, each the likeliest, up to the end token, which is left out, or "
        "max_length of them. model maps a LongTensor (1, T) to logits (1, T, vocab).",
        "encoder_decoder",
        20,
    ),
    "softmax_backward": _task(
        "def softmax_backward(weights, grad):",
        "From the weights (L, S) of a softmax and the gradient (L, S) that reaches them, the gradient (L, S) of "
        "the scores.",
        "gradients",
        15,
    ),
}
