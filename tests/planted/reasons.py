"""Why some mistakes of the catalogue cannot be planted into attnlib."""

from attnlib.exercises import catalogue
from tests.planted.layers import PLANTS

TORCH = "attnlib has no layer norm of its own: its layers take torch's."
BEFORE = "Positions are added before queries, keys and values are made: no step sees only one."
LAST = "Where a token is chosen, the logits of the last place are the only ones there."
RESULT = "It is said of a result where nothing else explains it: no line of code makes it."

REASONS = {
    **{key: TORCH for key in catalogue if key.startswith("norm-") and key not in PLANTS},
    "positions-on-values-only": BEFORE,
    "positions-after-projection": BEFORE,
    "greedy-wrong-axis": LAST,
    "mask-too-open": RESULT,
    "mask-too-closed": RESULT,
    **{key: RESULT for key in catalogue if key.startswith("result-")},
}
