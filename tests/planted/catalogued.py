"""All plants: of each mistake of the catalogue that can happen in attnlib, and of what only attnlib has."""

from tests.planted import blocks, cache, conduct, further, heads, layers, masks, positions, scores, softmax, writing
from tests.planted.plant import Plant

#: The mistakes of the catalogue, by the part of attention that they are about.
PARTS: dict[str, dict[str, list[Plant]]] = {
    "Scores": scores.PLANTS,
    "Softmax": softmax.PLANTS,
    "Masks": masks.PLANTS,
    "Heads and dropout": heads.PLANTS,
    "The cache": cache.PLANTS,
    "Positions": positions.PLANTS,
    "Block by block": blocks.PLANTS,
    "Layers": layers.PLANTS,
    "Writing": writing.PLANTS,
    "Conduct": conduct.PLANTS,
}
PLANTS: dict[str, list[Plant]] = {key: plants for part in PARTS.values() for key, plants in part.items()}
FURTHER: dict[str, list[Plant]] = further.PLANTS
