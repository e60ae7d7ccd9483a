"""Why a target is missed, in words, where one is: written by hand, printed with the results.

A key is a pattern for ``<case> against <other>``, as in ``small-* against nn.MultiheadAttention*``, or for
``<case> memory``. The first that fits counts.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

REASONS: dict[str, str] = {
    "layer-*-64-* against nn.MultiheadAttention*": (
        "32 short rows: nearly all of the time goes into the same four projections, so that little is left to save."
    ),
    "layer-causal-*-training-float32 against nn.MultiheadAttention": (
        "by less than the quartiles are apart; the four projections and their gradients are the same work."
    ),
    "layer-causal-*-inference-float32 against nn.MultiheadAttention, fast path off": (
        "by less than the quartiles are apart; it is the same work."
    ),
    "layer-causal-*-bfloat16 against Hugging Face, eager": (
        "eager rounds scores and weights to bfloat16: measured, its outputs are off by 3.1e-3, those of torch's kernel "
        "by 1.9e-3 (relative, B = 16, L = 128). Half precision is to be at least as exact as torch's own."
    ),
    "weights-* against nn.MultiheadAttention*": (
        "with weights, both compute the same two products and one softmax over stored scores, by the same routines: in "
        "a profile at L = 2048 three quarters of either. Most of the rest is projections: torch's module makes "
        "queries, keys and values by one product, ours by three."
    ),
    "small-* against nn.MultiheadAttention*": (
        "this is the price of calls: four projections, each a module that may carry hooks, and checks that name what "
        "is wrong, against one product for queries, keys and values, and in the fast path one call of C++ for all."
    ),
    "decoding-window-* against torch by hand": (
        "by hand nothing is checked, and no number is looked at to see that it is finite."
    ),
    "decoding-left-padding-* against torch by hand": (
        "the same for each prompt; and the mask of keys is made anew at each step, which by hand is sliced."
    ),
    "window-* against FlexAttention, compiled": (
        "of our time about 80 % is torch's kernel, on blocks of 64 queries. The rest is joining their outputs, and "
        "looking for numbers that are not finite, which FlexAttention does not do."
    ),
    "alibi-* against attnlib, the bias as a tensor": (
        "only the reading of the bias is saved; the gradients of queries, keys and values are the same work."
    ),
    "alibi-* against SDPA, dense mask": (
        "the bias of each block of queries adds about a fifth to what the window takes without one."
    ),
    "documents-* against SDPA, dense mask": (
        "one causal call of torch's for each document, by hand, takes as long: small calls are slower for each pair."
    ),
    "padded-* against SDPA, *": (
        "62 % of the pairs are open, and each of them is computed. What can be saved beyond that is the reading of the "
        "mask."
    ),
}


def reason(line: str, reasons: Mapping[str, str] = REASONS) -> str:
    """Return the reason for a line of the results, or nothing.

    >>> reason("small-inference-float32 against floor", {"small-* against *": "Python itself."})
    'Python itself.'
    """
    return next((text for pattern, text in reasons.items() if fnmatchcase(line, pattern)), "")
