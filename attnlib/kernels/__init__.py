"""The ways to compute attention. Each takes checked arguments; :func:`attnlib.kernels.choice.choose` is the choice.

=============  =====================================================================================
``explicit``   scores, softmax, weighted sum: where the weights are wanted, or a forward-mode derivative
``fused``      torch's ``scaled_dot_product_attention``: the weights are never stored
``blockwise``  only the pairs that a mask leaves open, block by block, on a CPU, as ``plan`` cuts them
``online``     one block of keys at a time: FlashAttention's algorithm, to be read
=============  =====================================================================================

A kernel's ``attend`` is a function ``(query, key, value, mask, bias, scale, dropout_p) -> (output, weights or None)``,
that of ``online`` gives ``(output, log-sum-exp)``. Its tensors are ``query`` (…, H, L, d_k), ``key`` (…, H_kv, S, d_k)
and ``value`` (…, H_kv, S, d_v). It gives zero output and zero gradient to a query that may attend to nothing. Masked
keys hold finite numbers when a kernel sees them.

A second derivative is right, or an error: ``explicit``, ``online`` and ``blockwise`` give it, the latter by the weights
of all open pairs; torch's kernel behind ``fused`` raises RuntimeError where it stores no weights.
"""

from attnlib.kernels.choice import explain

__all__ = ["explain"]
