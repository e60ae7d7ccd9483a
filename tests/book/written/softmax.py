"""A softmax with a temperature that may be zero."""

import numpy as np

LABEL = "ex-softmax-write"
NAME = "softmax_at"


def check(function):
    generator = np.random.default_rng(0)
    rows = generator.normal(scale=3, size=(2, 3, 5))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # the numbers tell, not the warnings
        for temperature in (1.0, 0.5, 7.0):
            right = np.array([[_by_hand(row, temperature) for row in table] for table in rows])
            _agrees(function(rows.copy(), temperature), right, f"temperature {temperature}")
        _agrees(function(rows + 1000, 2.0), function(rows, 2.0), "scores + 1000")
        _agrees(function(np.array([[900.0, 901.0], [0.0, 1.0]]), 1.0), [_by_hand([0, 1], 1.0)] * 2, "rows far apart")
        hard = [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
        ties = np.array([[1.0, 3.0, 2.0], [2.0, 1.0, 2.0]])
        _agrees(function(ties, 0), hard, "temperature 0, with a tie")
        _agrees(function(ties, 1e-3), hard, "temperature 0.001")
        _agrees(function(ties * 1e300, 1e-30), hard, "scores that overflow when they are divided")


def _by_hand(row, temperature):
    powers = [float(np.exp(score / temperature)) for score in row]
    return [power / sum(powers) for power in powers]


def _agrees(weights, right, where):
    assert isinstance(weights, np.ndarray), f"expected an array, got {type(weights).__name__}"
    np.testing.assert_allclose(weights, right, rtol=1e-7, atol=1e-12, err_msg=where)


def _from_powers(powers):
    return powers / powers.sum(axis=-1, keepdims=True)


def _no_shift(scores, temperature):
    return _from_powers(np.exp(scores / temperature)) if temperature else _right(scores, 0)


def _right(scores, temperature):
    below = scores - scores.max(axis=-1, keepdims=True)
    return _from_powers(np.exp(below / temperature) if temperature else (below == 0) * 1.0)


def _one_winner(scores, temperature):
    return _right(scores, temperature) if temperature else np.eye(scores.shape[-1])[scores.argmax(-1)]


def _divided_first(scores, temperature):
    return _right(scores / temperature, 1.0) if temperature else _right(scores, 0)


def _one_maximum(scores, temperature):
    return _from_powers(np.exp((scores - scores.max()) / temperature)) if temperature else _right(scores, 0)


WRONG = {
    "nothing subtracted": _no_shift,
    "one maximum for all rows": _one_maximum,
    "over the first axis": lambda scores, temperature: _right(scores.swapaxes(0, -1), temperature).swapaxes(0, -1),
    "multiplied by the temperature": lambda scores, temperature: _right(scores * temperature, 1.0),
    "the temperature left out": lambda scores, temperature: _right(scores, 1.0),
    "zero divides": lambda scores, temperature: _from_powers(
        np.exp((scores - scores.max(-1, keepdims=True)) / np.float64(temperature))
    ),
    "a tie has one winner": _one_winner,
    "divided before the shift": _divided_first,
}
