"""A recall by attention that nobody trained."""

import math

import numpy as np
import torch

LABEL = "ex-recurrence-write"
NAME = "recalled"

B, N, NAMES, COUNT = 3, 7, 11, 5


def check(function):
    generator = np.random.default_rng(0)
    names = np.stack([generator.permutation(NAMES)[:N] for _ in range(B)])
    names[2, 5] = names[2, 1]  # one is read twice
    numbers = generator.integers(COUNT, size=(B, N))
    asked = names[np.arange(B), [4, 0, 1]][:, None]
    assert len({*numbers[0]}) < N, "two pairs hold the same number"
    for score in (0.0, 2.0, 5.0):
        given = *map(torch.tensor, (names, numbers, asked)), score, COUNT
        found = function(*given)
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert tuple(found.shape) == (B, COUNT), f"expected (B, count) = {(B, COUNT)}, got {tuple(found.shape)}"
        for b in range(B):
            powers = [math.exp(score if name == asked[b, 0] else 0.0) for name in names[b]]
            for number in range(COUNT):
                right = sum(power for power, said in zip(powers, numbers[b], strict=True) if said == number)
                case = f"example {b}, score {score}, number {number}: the weights of its pairs, added up"
                np.testing.assert_allclose(found[b, number].item(), right / sum(powers), rtol=1e-5, err_msg=case)


def _wrong(
    *,
    weigh=lambda scores: scores.softmax(-1),
    match=lambda names, asked: names == asked,
    collect=lambda p, numbers, weights: p.scatter_add(1, numbers, weights),
):
    """What the exercise wants, with one thing spoilt."""

    def recalled(names, numbers, asked, score, count):
        weights = weigh((score * match(names, asked)).double())
        return collect(torch.zeros(len(names), count, dtype=torch.float64), numbers, weights)

    return recalled


WRONG = {
    "no softmax": _wrong(weigh=lambda scores: scores),
    "divided, without powers": _wrong(weigh=lambda scores: scores / scores.sum(-1, keepdim=True).clamp(min=1e-9)),
    "powers, not divided": _wrong(weigh=lambda scores: scores.exp()),
    "a softmax over the examples": _wrong(weigh=lambda scores: scores.softmax(0)),
    "the likeliest takes all": _wrong(weigh=lambda scores: torch.eye(N, dtype=torch.float64)[scores.argmax(-1)]),
    "all other names match": _wrong(match=lambda names, asked: names != asked),
    "the first example's question for all": _wrong(match=lambda names, asked: names == asked[:1]),
    "a number that comes again is written over": _wrong(collect=lambda p, n, w: p.scatter(1, n, w)),
    "the largest weight of a number": _wrong(collect=lambda p, n, w: p.scatter_reduce(1, n, w, "amax")),
    "another softmax at the end": _wrong(collect=lambda p, n, w: p.scatter_add(1, n, w).softmax(-1)),
    "scores of the numbers": lambda names, numbers, asked, score, count: (
        (score * torch.nn.functional.one_hot(numbers, count) * (names == asked)[..., None]).sum(1).double().softmax(-1)
    ),
}
