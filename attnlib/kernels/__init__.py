"""The ways to compute attention. Each takes checked arguments; :mod:`attnlib.functional` chooses among them.

A kernel is a function ``(query, key, value, mask, bias, scale, dropout_p) -> (output, weights or None)`` over
``query`` (…, H, L, d_k), ``key`` (…, H_kv, S, d_k) and ``value`` (…, H_kv, S, d_v). It gives zero output and zero
gradient to a query that may attend to nothing. Masked keys hold finite numbers when a kernel sees them.
"""
