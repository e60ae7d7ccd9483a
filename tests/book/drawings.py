"""Compares figures as a reader sees them: nbval compares text, and an SVG drawn on another processor differs in digits.

A drawing is taken apart into what it says (elements, glyphs, kinds of lines), which must be the same, and its numbers:
places, which may differ by less than the eye sees, and colours, widths and sizes, which may hardly differ at all.
"""

import base64
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from nbformat import NotebookNode
from PIL import Image

SVG = "image/svg+xml"
PIXELS = ("image/png", "image/jpeg")
# A line moved by a thousandth of a panel's axis moves by 0.15 points or more.
A_PLACE = 0.1  # points
A_SIZE = 1e-3
A_COLOUR = 4  # of 255: neighbours in a map of colours differ by as much

PLACES = {"d", "x", "y", "x1", "y1", "x2", "y2", "points", "transform", "viewBox", "width", "height"}
# Matplotlib makes an id from what it names, so that it changes with the last digit.
MADE_ID = re.compile(r"(?<![\w-])[A-Za-z]\w*?_?[0-9a-f]{10}(?![\w-])")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?")
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
PICTURE = re.compile(r"data:image/png;base64,\s*(?P<pixels>[A-Za-z0-9+/=\s]+)")


def drawings(outputs: Iterable[NotebookNode]) -> list[str]:
    """The drawings among the outputs of a cell, in order."""
    return [output.data[SVG] for output in outputs if SVG in output.get("data", {})]


def pictures(outputs: Iterable[NotebookNode]) -> list[str]:
    """The images among the outputs of a cell that are stored as pixels, which no figure of the book is."""
    return [output.data[kind] for output in outputs for kind in PIXELS if kind in output.get("data", {})]


def difference(stored: list[str], drawn: list[str]) -> str | None:
    """What sets two lists of drawings apart, in words; None when a reader would see the same."""
    if len(stored) != len(drawn):
        return f"{len(stored)} figures are stored, the code draws {len(drawn)}"
    for number, (before, after) in enumerate(zip(stored, drawn, strict=True), start=1):
        differs = _difference(before, after)
        if differs:
            return f"figure {number} is not the one that the code draws: {differs}"
    return None


def _difference(before: str, after: str) -> str | None:
    left, right = list(_marks(before)), list(_marks(after))
    for one, other in zip(left, right, strict=False):
        if one.says != other.says:
            return f"{one} is stored, the code draws {other}"
        for limit, kind in ((A_PLACE, "places"), (A_SIZE, "sizes"), (A_COLOUR, "colours")):
            gap = _gap(getattr(one, kind), getattr(other, kind))
            if gap > limit:
                return f"the {kind} of {one} differ by {gap:.3g}, more than {limit}"
    return None if len(left) == len(right) else f"it has {len(left)} elements, the code draws {len(right)}"


def _gap(before: np.ndarray, after: np.ndarray) -> float:
    if before.shape != after.shape:
        return np.inf
    return float(np.abs(before - after).max(initial=0))


@dataclass
class Mark:
    """One element of a drawing."""

    says: str  # all of it but its numbers
    places: np.ndarray
    sizes: np.ndarray
    colours: np.ndarray

    def __str__(self) -> str:
        return self.says if len(self.says) < 200 else f"{self.says[:200]} …"


def _marks(drawing: str) -> Iterator[Mark]:
    order: dict[str, str] = {}
    for element in ElementTree.fromstring(drawing).iter():
        says, places, sizes, colours = [_local(element.tag), (element.text or "").strip()], [], [], []
        for name, value in sorted(element.attrib.items()):
            found = PICTURE.match(value)
            if found:
                colours += _pixels(found["pixels"])
                value = "pixels"
            value = MADE_ID.sub(lambda made: order.setdefault(made[0], f"id{len(order)}"), value)
            colours += [int(found[0][i : i + 2], 16) for found in COLOUR.finditer(value) for i in (1, 3, 5)]
            value = COLOUR.sub("#", value)
            if _local(name) in PLACES:
                # The size of letters is a factor in a transform, where a little is a lot.
                sizes += [float(factor) for pair in re.findall(r"scale\(([^)]*)\)", value) for factor in pair.split()]
                places += map(float, NUMBER.findall(value))
                value = NUMBER.sub("·", value)
            elif _local(name) == "style":
                sizes += map(float, NUMBER.findall(value))
                value = NUMBER.sub("·", value)
            says.append(f"{_local(name)}={value}")
        yield Mark(" ".join(says), np.array(places), np.array(sizes), np.array(colours))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _pixels(encoded: str) -> list[int]:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return [image.width, image.height, *image.convert("RGBA").tobytes()]


# Its shape


@dataclass
class Shape:
    """What a drawing's style is judged by; lengths in points."""

    width: float
    panels: list[float]  # how wide each is
    smallest_letters: float
    colours: list[str]
    has_background: bool


def shape_of(drawing: str) -> Shape:
    root = ElementTree.fromstring(drawing)
    width = float(root.get("width").removesuffix("pt"))
    views = [float(view.get("viewBox").split()[2]) for view in root.iter() if _local(view.tag) == "view"]
    # Matplotlib draws a letter a hundred points high and scales it.
    letters = [float(scale) * 100 for scale in re.findall(r'transform="[^"]*scale\((\d[\d.]*) -', drawing)]
    background = next((group for group in root.iter() if group.get("id") == "patch_1"), None)
    styles = "" if background is None else " ".join(part.get("style", "") for part in background.iter())
    return Shape(
        width=width,
        panels=views or [width],
        smallest_letters=min(letters, default=100),
        colours=sorted(set(COLOUR.findall(drawing)) | set(_colours_of_pixels(drawing))),
        has_background="fill: #" in styles,
    )


def _colours_of_pixels(drawing: str) -> Iterator[str]:
    for found in PICTURE.finditer(drawing):
        with Image.open(io.BytesIO(base64.b64decode(found["pixels"]))) as image:
            rgba = np.asarray(image.convert("RGBA")).reshape(-1, 4)
        for red, green, blue in np.unique(rgba[rgba[:, 3] > 0, :3], axis=0):
            yield f"#{red:02x}{green:02x}{blue:02x}"
