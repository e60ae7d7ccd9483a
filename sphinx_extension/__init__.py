"""What Sphinx needs to make the site: one extension, named in `_config.yml`, of small parts.

place          under its title: part, page, what came before, what comes next
asked          at a page's end: the questions that it answers
search         search_scorer.js: which pages come first (Sphinx reads it)
inventories    where other projects document the names that docstrings mention, kept as text
mathematics    MathJax without a request to another host
figures        drawings in their size, panels side by side
pages          what is mended in each finished page: labels, folding, icons
"""

from . import asked, inventories, mathematics, pages, place


def setup(app):
    for part in (place, asked, inventories, mathematics, pages):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
