"""Number a chapter by its part: 2.3 is the third chapter of the second part.

Sphinx numbers every list of chapters from 1, or all of them in one row. Neither says which part a chapter is in,
and figures take their numbers from chapters. So the numbers of Sphinx, 1 to n in each part, get the part's before them.
A part has the number of its folder, `2_algorithm`.
"""

import re

from sphinx import addnodes
from sphinx.environment.collectors.toctree import TocTreeCollector


def number_by_part(collector, env):
    """Stand in for `TocTreeCollector.assign_section_numbers`; return the pages whose numbers changed."""
    before = env.toc_secnumbers
    env.toc_secnumbers = {}
    root = env.get_doctree(env.config.root_doc)
    for tree in root.findall(addnodes.toctree):
        if tree.get("numbered"):
            for chapter, (_, page) in enumerate(tree["entries"], start=1):
                _number_page(env, page, (part_of(page), chapter))
    return [page for page, numbers in env.toc_secnumbers.items() if numbers != before.get(page)]


def part_of(page):
    """The number of a chapter's part.

    >>> part_of("chapters/6_tools/paper")
    6
    """
    return int(re.search(r"/(\d+)_[^/]*/[^/]*$", page)[1])


def _number_page(env, page, number):
    # Only the title has a number: sections such as "The question" come back in every chapter.
    title, *sections = [paragraph[0] for paragraph in env.tocs[page].findall(addnodes.compact_paragraph)]
    title["secnumber"] = env.titles[page]["secnumber"] = number
    env.toc_secnumbers[page] = {section["anchorname"]: () for section in sections} | {"": number}


def setup(app):
    # sphinx_external_toc brings a collector of its own, derived from Sphinx's.
    for collector in [TocTreeCollector, *TocTreeCollector.__subclasses__()]:
        collector.assign_section_numbers = number_by_part
