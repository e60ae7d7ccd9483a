"""Number a chapter by its part: 2.3 is the third chapter of the second part.

Sphinx numbers every list of chapters from 1, or all of them in one row. Neither says which part a chapter is in,
and figures take their numbers from chapters. So the numbers of Sphinx, 1 to n in each part, get the part's before them.
Parts are counted as the contents list them, so that a part which is not written yet leaves no hole.
"""

from sphinx import addnodes
from sphinx.environment.collectors.toctree import TocTreeCollector

from .place import places


def number_by_part(collector, env):
    """Stand in for `TocTreeCollector.assign_section_numbers`; return the pages whose numbers changed."""
    before = env.toc_secnumbers
    env.toc_secnumbers = {}
    for page, (part, _, chapter, _) in places(env).items():
        _number_page(env, page, (part, chapter))
    return [page for page, numbers in env.toc_secnumbers.items() if numbers != before.get(page)]


def _number_page(env, page, number):
    # Only the title has a number: sections such as "The question" come back in every chapter.
    title, *sections = [paragraph[0] for paragraph in env.tocs[page].findall(addnodes.compact_paragraph)]
    title["secnumber"] = env.titles[page]["secnumber"] = number
    env.toc_secnumbers[page] = {section["anchorname"]: () for section in sections} | {"": number}


def setup(app):
    # sphinx_external_toc brings a collector of its own, derived from Sphinx's.
    for collector in [TocTreeCollector, *TocTreeCollector.__subclasses__()]:
        collector.assign_section_numbers = number_by_part
