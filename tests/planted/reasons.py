"""Why some mistakes of the catalogue cannot be planted into attnlib."""

TORCH = "attnlib has no layer norm of its own: its layers take torch's."

REASONS = {
    "norm-over-tokens": TORCH,
    "norm-over-all": TORCH,
    "norm-unbiased": TORCH,
    "norm-eps-outside": TORCH,
    "norm-eps-missing": TORCH,
    "norm-not-centred": TORCH,
    "norm-variance": TORCH,
    "norm-not-divided": TORCH,
    "norm-gamma": TORCH,
    "norm-gamma-beta-exchanged": TORCH,
    "positions-on-values-only": "Positions are added before queries, keys and values are made: no step sees only one.",
}
