"""How many layers it takes until every token has heard of every other."""

from collections import deque

import numpy as np
import torch

LABEL = "ex-paths-write"
NAME = "layers_needed"

N = 11


def check(function):
    for name, reads in _graphs().items():
        right = max(_farthest(reads, i) for i in range(len(reads)))
        found = function(torch.tensor(reads))
        assert found is not None, "nothing was returned"
        assert found == right, f"{name}: expected {right}, got {found}"


def _graphs():
    """Graphs in which each token reads itself: rings, stars, windows, some that never come together, some by lot."""
    ahead = np.arange(N) - np.arange(N)[:, None]
    ring = (ahead % N) < 2
    hub = np.eye(N, dtype=bool)
    hub[0], hub[:, 0] = True, True
    islands = np.eye(N, dtype=bool)
    islands[:5, :5], islands[5:, 5:] = True, True
    graphs = {"all read all": np.ones((N, N), bool), "a ring": ring, "a hub": hub, "a window": abs(ahead) < 3}
    graphs |= {"only the past": ahead <= 0, "two islands": islands, "two tokens": np.ones((2, 2), bool)}
    generator = np.random.default_rng(0)
    for seed in range(5):
        graphs[f"graph {seed}"] = ring | (generator.random((N, N)) < 0.05)
    return graphs


def _farthest(reads, start):
    """The longest of all shortest ways by which something reaches a token, layer by layer."""
    steps, waiting = {start: 0}, deque([start])
    while waiting:
        reader = waiting.popleft()
        for read in np.flatnonzero(reads[reader]).tolist():
            if read not in steps:
                steps[read] = steps[reader] + 1
                waiting.append(read)
    return max(steps.values()) if len(steps) == len(reads) else np.inf


def _right(reads, *, last=False, never=np.inf, more=0, whole=lambda heard: heard.all()):
    step = reads.double()
    heard, layers = step > 0, 1
    while not whole(heard[-1:] if last else heard):
        further = step @ heard.double() > 0
        if further.equal(heard):
            return never
        heard, layers = further, layers + 1
    return layers + more


def _squared(reads):
    """Each step looks twice as far."""
    heard, layers = reads, 1
    while not heard.all():
        further = heard.double() @ heard.double() > 0
        if further.equal(heard):
            return np.inf
        heard, layers = further, layers + 1
    return layers


WRONG = {
    "one layer too few": lambda reads: _right(reads, more=-1),
    "one layer too many": lambda reads: _right(reads, more=1),
    "the last token only": lambda reads: _right(reads, last=True),
    "of the first token only": lambda reads: _right(reads, whole=lambda heard: heard[:, 0].all()),
    "until one has heard of all": lambda reads: _right(reads, whole=lambda heard: heard.all(1).any()),
    "arrows go both ways": lambda reads: _right(reads | reads.T),
    "never is told by zero": lambda reads: _right(reads, never=0),
    "never is told by the number of tokens": lambda reads: _right(reads, never=len(reads)),
    "always one less than tokens": lambda reads: len(reads) - 1,
    "doublings are counted": _squared,
}
