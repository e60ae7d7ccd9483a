"""Compares figures as a reader sees them: nbval leaves images alone, and a wrong figure would pass."""

import base64
import io
from collections.abc import Iterable

import numpy as np
from nbformat import NotebookNode
from PIL import Image

IMAGE_TYPES = ("image/png", "image/jpeg")
# Root mean square of the difference, out of 255. A figure drawn again gives 0; a line moved by a thousandth
# of the axis, 2.3. A digit of a label is lost in the whole figure, so each tile is looked at as well.
WHOLE_FIGURE = 2.0
ONE_TILE = 12.0
TILE = 16


def images(outputs: Iterable[NotebookNode]) -> list[Image.Image]:
    """The images among the outputs of a cell, in order."""
    encoded = (
        output.data[kind] for output in outputs if "data" in output for kind in IMAGE_TYPES if kind in output.data
    )
    return [Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA") for image in encoded]


def difference(stored: list[Image.Image], drawn: list[Image.Image]) -> str | None:
    """What sets two lists of images apart, in words; None when a reader would see the same."""
    if len(stored) != len(drawn):
        return f"{len(stored)} images are stored, the code draws {len(drawn)}"
    for number, (before, after) in enumerate(zip(stored, drawn, strict=True), start=1):
        if before.size != after.size:
            return f"image {number} is stored {_size(before)}, the code draws it {_size(after)}"
        whole, tile = _distances(np.asarray(before, float), np.asarray(after, float))
        if whole > WHOLE_FIGURE or tile > ONE_TILE:
            return (
                f"image {number} is not the one that the code draws: the root mean square of the difference is "
                f"{whole:.2f} of 255 (at most {WHOLE_FIGURE}), in the worst tile {tile:.1f} (at most {ONE_TILE})"
            )
    return None


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height} pixels"


def _distances(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The root mean square of the difference: over the whole image, and in the tile where it is worst."""
    squares = ((before - after) ** 2).mean(axis=-1)
    height, width = (-(-length // TILE) * TILE for length in squares.shape)
    padded = np.pad(squares, [(0, height - squares.shape[0]), (0, width - squares.shape[1])])
    tiles = padded.reshape(height // TILE, TILE, width // TILE, TILE).mean(axis=(1, 3))
    return float(np.sqrt(squares.mean())), float(np.sqrt(tiles.max()))
