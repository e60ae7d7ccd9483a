"""Mend each finished page: what the theme leaves unlabelled, unfolded or heavier than it need be.

Each function takes the parsed page and has one reason. They run on the files, after every other extension.
"""

import re
from pathlib import Path

from bs4 import BeautifulSoup

from .figures import lay_out_figures

# Glyphs are drawn by CSS from a font that the page loads anyway; the theme's script holds 1.5 MB of icons.
UNUSED_SCRIPTS = ("scripts/fontawesome.js",)
# Search runs on search.html; other pages only send the reader there.
SEARCH_SCRIPTS = ("searchtools.js", "language_data.js", "searchindex.js")
CODE = re.compile(r"<pre\b.*?</pre>", re.DOTALL)
KEPT = "<pre></pre>"
# Ids that extensions repeat within a page; nothing links to them.
REPEATED_IDS = ("exercise-content", "solution-content", "proof-content")


def mend_pages(app, failure):
    if failure or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*.html")):
        if "_static" not in path.parts:
            path.write_text(mended(path.read_text("utf-8"), path.parent), "utf-8")


def mended(text, folder):
    # Coloured code is most of a page's elements, and nothing in it is mended: it is not parsed.
    code = []
    page = BeautifulSoup(CODE.sub(lambda match: code.append(match[0]) or KEPT, text), "html.parser")
    for mend in MENDS:
        mend(page)
    lay_out_figures(page, folder)
    blocks = iter(code)
    return re.sub(re.escape(KEPT), lambda match: next(blocks), str(page))


def drop_unused_scripts(page):
    unused = UNUSED_SCRIPTS if page.select_one("#search-results") else UNUSED_SCRIPTS + SEARCH_SCRIPTS
    for script in page.select("script[src]"):
        if script["src"].split("?")[0].endswith(unused):
            script.decompose()


def hide_icons_from_readers(page):
    for icon in page.select(".fa-solid"):
        icon["aria-hidden"] = "true"
        icon.attrs.pop("title", None)


def name_buttons(page):
    """Give buttons the name that they show as a tooltip, when they have no other."""
    for button in page.select("button[title]"):
        button.attrs.setdefault("aria-label", button["title"])


def make_sidebar_a_landmark(page):
    for sidebar in page.select("#pst-primary-sidebar"):
        sidebar["role"] = "complementary"
        sidebar["aria-label"] = "The book"


def keep_one_logo(page):
    """The theme writes the logo twice, for light and dark; ours is drawn for both."""
    for logo in page.select("img.logo__image.only-dark"):
        logo.decompose()
    for logo in page.select("img.logo__image"):
        logo["class"] = ["logo__image"]


def name_folds_by_their_text(page):
    """A label would hide from screen readers what the summary says."""
    for summary in page.select("details > summary[aria-label]"):
        del summary["aria-label"]


def fold_dropdowns(page):
    """Make admonitions of class `dropdown` native folds, which need no script and open by keyboard."""
    for box in page.select("div.admonition.dropdown"):
        title = box.find("p", class_="admonition-title", recursive=False)
        box.name, title.name = "details", "summary"
        box.insert(0, title.extract())


def unlink_folded_titles(page):
    """A link inside a summary is a control inside a control: keep its words, the exercise is right above."""
    for link in page.select("details > summary a"):
        link.unwrap()


def drop_repeated_ids(page):
    for repeated in REPEATED_IDS:
        for section in page.select(f"section#{repeated}"):
            section.name = "div"
            del section["id"]


def mend_citation_lists(page):
    """docutils gives its list of citations roles that do not fit; a bibliography is read as plain paragraphs."""
    for item in page.select('.citation-list, .citation[role="doc-biblioentry"]'):
        del item["role"]


def mend_signatures(page):
    """Parameters on lines of their own come as a list of descriptions of nothing."""
    for lines in page.select("dt.sig dl"):
        lines.name = "span"
        lines["class"] = ["sig-lines"]
        for line in lines.find_all("dd", recursive=False):
            line.name = "span"


def mend_data_frames(page):
    """An empty corner of a table is no heading."""
    for corner in page.select("table th"):
        if not corner.get_text(strip=True) and not corner.find("img"):
            corner.name = "td"


MENDS = (
    drop_unused_scripts,
    hide_icons_from_readers,
    name_buttons,
    make_sidebar_a_landmark,
    keep_one_logo,
    name_folds_by_their_text,
    fold_dropdowns,
    unlink_folded_titles,
    drop_repeated_ids,
    mend_citation_lists,
    mend_signatures,
    mend_data_frames,
)


def setup(app):
    app.connect("build-finished", mend_pages, priority=800)
