"""The multiplications of attention with a causal window."""

LABEL = "ex-cost-write"
NAME = "windowed"


def check(function):
    for n, d, w in ((7, 3, 2), (5, 2, 5), (3, 11, 7), (13, 5, 1), (1, 7, 3)):
        right = 0
        for i in range(n):
            for j in range(n):
                if j <= i and i - j < w:
                    right += d + d  # a score is a dot product of d terms; a value has d entries, each times a weight
        found = function(n, d, w)
        assert found is not None, "nothing was returned"
        assert found == right, f"n = {n}, d = {d}, w = {w}: counted pair by pair {right}, got {found}"


def _sum(keys, each=2):
    return lambda n, d, w: each * d * sum(keys(i, n, w) for i in range(n))


WRONG = {
    "the first tokens have a full window": _sum(lambda i, n, w: w),
    "not itself": _sum(lambda i, n, w: min(i, w)),
    "one token too many": _sum(lambda i, n, w: min(i + 1, w + 1)),
    "the window on both sides": _sum(lambda i, n, w: min(i + 1, w) + min(n - i, w) - 1),
    "causal, without a window": _sum(lambda i, n, w: i + 1),
    "all pairs": lambda n, d, w: 2 * n * n * d,
    "half of all pairs": lambda n, d, w: n * n * d,
    "the scores only": _sum(lambda i, n, w: min(i + 1, w), each=1),
    "FLOPs, not multiplications": _sum(lambda i, n, w: min(i + 1, w), each=4),
}
