"""Lay figures out: a drawing keeps its size, so that its letters are as large as the text's, and shrinks on a phone.

A drawing that names its panels (see `attnlib/lab/figures.py`) becomes an image for each. They stand in a row where
there is room, and below each other where there is none.
"""

import re
from pathlib import Path
from urllib.parse import unquote

SIZE = re.compile(r'(?<=<svg )(.*?)width="([\d.]+)pt" height="([\d.]+)pt" viewBox="([^"]*)"', re.DOTALL)
PANEL = re.compile(r'<view id="(?P<name>panel-\d+)" viewBox="(?P<box>[\d. ]+)"/>')
PIXELS = 96 / 72  # in a point


def lay_out_figures(page, folder):
    """Give each drawing its size, and each panel an image of its own. `folder` is where the page lies."""
    for image in page.select("img[src$='.svg']"):
        path = Path(folder, unquote(image["src"]))
        drawing = path.read_text("utf-8")
        size = SIZE.search(drawing)
        if not size:  # not a figure of a chapter
            continue
        panels = list(PANEL.finditer(drawing))
        if panels:
            _set_side_by_side(page, image, [_cut(path, drawing, panel) for panel in panels])
        else:
            _set_size(image, float(size[2]), float(size[3]))


def _cut(path, drawing, panel):
    """Write the part of a drawing that is one panel; return its file, width and height."""
    _, _, width, height = map(float, panel["box"].split())
    part = path.with_stem(f"{path.stem}-{panel['name']}")
    shape = rf'\g<1>width="{width:g}pt" height="{height:g}pt" viewBox="{panel["box"]}"'
    part.write_text(PANEL.sub("", SIZE.sub(shape, drawing, count=1)), "utf-8")
    return part.name, width, height


def _set_side_by_side(page, image, parts):
    # One picture for those who hear it: its words stand on the box, and the parts are silent.
    row = page.new_tag("div", attrs={"class": "panels", "role": "img", "aria-label": image["alt"]})
    for name, width, height in parts:
        part = page.new_tag("img", src=image["src"].rpartition("/")[0] + "/" + name, alt="")
        _set_size(part, width, height)
        row.append(part)
    image.replace_with(row)


def _set_size(image, width, height):
    image["width"], image["height"] = round(width * PIXELS), round(height * PIXELS)
    image["class"] = [*image.get("class", []), "drawing"]
