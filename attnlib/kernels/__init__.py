"""The ways to compute attention. Each takes checked arguments; :func:`attnlib.kernels.choice.choose` is the choice.

=============  =====================================================================================
``explicit``   scores, softmax, weighted sum: where the weights are wanted, or a forward-mode derivative
``fused``      torch's ``scaled_dot_product_attention``: the weights are never stored
``blockwise``  only the pairs that a mask leaves open, tile by tile, on a CPU, as ``plan`` cuts them
``online``     one block of keys at a time: FlashAttention's algorithm, to be read
=============  =====================================================================================

Each of these has an ``attend`` that keeps :class:`Kernel`. A second derivative is right, or an error: ``explicit``,
``online`` and ``blockwise`` give it, the latter by the weights of all open pairs; torch's kernel behind ``fused``
raises RuntimeError where it stores no weights.

Beside them, ``few_queries`` takes out the keys that nobody may attend to, and ``quarantine`` what is not finite.
"""

from attnlib.kernels.choice import explain
from attnlib.kernels.protocol import Kernel

__all__ = ["Kernel", "explain"]
