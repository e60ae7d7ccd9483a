"""How fast rotary positions turn, so that a model reads longer texts than it was trained on.

Pair i of n pairs of columns turns base^(−i/n) radians a position. Fast pairs tell neighbours apart; slow ones have seen
only a part of their round in training, and a longer text would turn them to angles that are new to the model. So each
rule divides the speed of the slowest pairs by a factor, and leaves the fastest as they are.

Arguments have the names of Hugging Face's ``rope_parameters``. Of these, ``rope_type`` says which rule,
``rope_theta`` is the Rotary's ``base``, and ``attention_factor``, where there is one, its own; the others are the
rule's:

>>> from attnlib.positions import Llama3, Rotary
>>> rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
...         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
>>> rule = Llama3(**{name: value for name, value in rope.items() if name not in ("rope_type", "rope_theta")})
>>> Rotary(128, base=rope["rope_theta"], scaling=rule).scaling.factor
8.0
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from attnlib.checks import positive_number

__all__ = ["NTK", "Llama3", "Scaling", "YaRN"]

Array = TypeVar("Array", np.ndarray, Tensor)


class Scaling:
    """A rule for the speeds: what :class:`attnlib.positions.Rotary` takes as ``scaling``, beside a number.

    One of your own is a class with one method, :meth:`speeds`. The Rotary keeps a copy.

    >>> from attnlib.positions import Rotary
    >>> from attnlib.rope_scaling import Scaling
    >>> class SlowestStands(Scaling):
    ...     def speeds(self, pairs, base):
    ...         n = pairs.shape[0]
    ...         return base ** (-pairs / n) * (pairs < n - 1)
    >>> Rotary(64, scaling=SlowestStands()).d_k
    64
    """

    @property
    def attention_factor(self) -> float:
        """What queries and keys are multiplied with as they are turned."""
        return 1.0

    def speeds(self, pairs: Array, base: float) -> Array:
        """Return the radians a position of each of the n pairs, (n,).

        Args:
            pairs: 0, 1, …, n − 1, in float64: an array of NumPy on a CPU, else a tensor, since a copy of numbers to a
                GPU would wait for it. So a rule is made of what both have: operators and ``clip``.
            base: the slowest pair turns at nearly 1/base, before the rule.
        """
        raise NotImplementedError(f"scaling: expected a rule with a method speeds(pairs, base), got {self!r}")


@dataclass(frozen=True)
class NTK(Scaling):
    """A larger base, so that the slowest pair turns ``factor`` times as slowly and the fastest as before.

    ``bloc97`` on Reddit, 2023; Peng et al. (2024), section 3.1::

        speed[i] = (base·factor^(n/(n − 1)))^(−i/n)        of n pairs

    Hugging Face's ``"dynamic"`` is this with a factor that grows with the text. Here it stays: keys are turned before
    they are cached, so a factor that changes in the middle of a text would leave those of the past turned by the old
    one. Give that of the longest text.

    Attributes:
        factor: how much longer texts are than in training.

    Raises:
        ValueError: if ``factor`` is not finite and above 0.
        TypeError: if it is not a number.

    >>> from attnlib.positions import NTK, Rotary
    >>> Rotary(64, scaling=NTK(factor=4.0))
    Rotary(d_k=64, base=10000.0, scaling=NTK(factor=4.0), layout='half-split')
    """

    factor: float

    def __post_init__(self) -> None:
        positive_number("factor", self.factor)

    def speeds(self, pairs: Array, base: float) -> Array:
        n = pairs.shape[0]
        return (base * self.factor ** (n / max(n - 1, 1))) ** (-pairs / n)


@dataclass(frozen=True)
class YaRN(Scaling):
    """Slow pairs turn ``factor`` times as slowly, fast ones as before, and scores grow a little.

    Peng et al. (2024), sections 3.2 and 3.4, as in the authors' code, where the pairs between slow and fast are
    interpolated by their number::

        speed[i]         = base^(−i/n)·(1 − r[i] + r[i]/factor)
        r[i]             = (i − low)/(high − low), within [0, 1]
        low, high        = the pairs that turn beta_fast, beta_slow times in training's length
        attention_factor = 0.1·ln(factor) + 1, for queries and for keys

    Where a configuration has an ``attention_factor`` of its own, :class:`attnlib.positions.Rotary` takes it. DeepSeek's
    ``mscale`` and ``mscale_all_dim`` make one, too: (0.1·mscale·ln(factor) + 1)/(0.1·mscale_all_dim·ln(factor) + 1).

    Attributes:
        factor: how much longer texts are than in training.
        original_max_position_embeddings: the length of texts in training.
        beta_fast: pairs that turn so often are fast.
        beta_slow: pairs that turn so seldom are slow.
        truncate: widen ``low`` and ``high`` to whole numbers; GPT-OSS does not.

    Raises:
        ValueError: if a number is not finite and above 0, ``beta_fast`` is below ``beta_slow``, or the base of the
            Rotary is 1 or less.
        TypeError: if one is not a number.

    >>> from attnlib.positions import Rotary, YaRN
    >>> yarn = YaRN(factor=16.0, original_max_position_embeddings=4096)
    >>> Rotary(64, scaling=yarn).scaling.attention_factor
    1.2772588722239782
    """

    factor: float
    original_max_position_embeddings: float
    _: KW_ONLY
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        for name in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"):
            positive_number(name, getattr(self, name))
        if self.beta_fast < self.beta_slow:
            raise ValueError(f"beta_fast: expected at least beta_slow={self.beta_slow}, got {self.beta_fast}")

    @property
    def attention_factor(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def speeds(self, pairs: Array, base: float) -> Array:
        if base <= 1:
            raise ValueError(f"base: expected more than 1 beside YaRN, got {base}")
        n = pairs.shape[0]
        low, high = self._turning(self.beta_fast, n, base), self._turning(self.beta_slow, n, base)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * n - 1)  # columns, not pairs, in the authors' code
        slow = ((pairs - low) / (high - low or 0.001)).clip(0, 1)
        return base ** (-pairs / n) * (1 - slow + slow / self.factor)

    def _turning(self, rounds: float, n: int, base: float) -> float:
        """Return which pair turns so many rounds within the length of training: base^(−i/n)·length = 2π·rounds."""
        return n * math.log(self.original_max_position_embeddings / (2 * math.pi * rounds)) / math.log(base)


@dataclass(frozen=True)
class Llama3(Scaling):
    """Slow pairs turn ``factor`` times as slowly, fast ones as before: Llama 3.1 and later.

    Meta's code; Grattafiori et al. (2024) describe the training::

        speed[i] = base^(−i/n)·(k[i] + (1 − k[i])/factor)
        k[i]     = (rounds[i] − low_freq_factor)/(high_freq_factor − low_freq_factor), within [0, 1]
        rounds   = how often the pair turns within the length of training

    Attributes:
        factor: how much longer texts are than in training.
        low_freq_factor: pairs that turn so seldom are slow.
        high_freq_factor: pairs that turn so often are fast.
        original_max_position_embeddings: the length of texts in training.

    Raises:
        ValueError: if a number is not finite and above 0, or ``high_freq_factor`` is not above ``low_freq_factor``.
        TypeError: if one is not a number.

    >>> from attnlib.positions import Llama3, Rotary
    >>> Rotary(128, base=500_000.0, scaling=Llama3(factor=32.0)).d_k  # Llama 3.2
    128
    """

    factor: float
    _: KW_ONLY
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: float = 8192

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"):
            positive_number(name, getattr(self, name))
        if self.high_freq_factor <= self.low_freq_factor:
            wanted = f"more than low_freq_factor={self.low_freq_factor}"
            raise ValueError(f"high_freq_factor: expected {wanted}, got {self.high_freq_factor}")

    def speeds(self, pairs: Array, base: float) -> Array:
        speeds = base ** (-pairs / pairs.shape[0])
        rounds = speeds * (self.original_max_position_embeddings / (2 * math.pi))
        kept = ((rounds - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clip(0, 1)
        return speeds * (kept + (1 - kept) / self.factor)
