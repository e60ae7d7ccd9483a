"""A bound number survives translation: on the page that Sphinx builds, and in the catalogue that a translator edits."""

from pathlib import Path

import nbformat
import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import write_po
from bs4 import BeautifulSoup
from sphinx.cmd.build import build_main

from tests.book.translation import problems_of_translation

ENGLISH = 'The verb takes <data value="weights[1, 0]">0.67</data> of its answer from *cats*.'
CHINESE = '动词的回答有 <data value="weights[1, 0]">0.67</data> 来自 *cats*。'
FORMULA = 'A half is <data value="half">$\\tfrac{1}{2}$</data>.'
FORMULA_CHINESE = '一半是 <data value="half">$\\tfrac{1}{2}$</data>。'


def catalogue(messages: dict[str, str]) -> Catalog:
    translated = Catalog(locale="zh_CN")
    for original, translation in messages.items():
        translated.add(original, translation)
    return translated


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A notebook of two sentences, translated by Sphinx as the book would be."""
    folder = tmp_path_factory.mktemp("translated")
    settings = 'extensions = ["myst_nb"]\nnb_execution_mode = "off"\nmyst_enable_extensions = ["dollarmath"]\n'
    settings += 'language = "zh_CN"\nlocale_dirs = ["locale"]\ngettext_compact = False\n'
    (folder / "conf.py").write_text(settings, "utf-8")
    cells = [nbformat.v4.new_markdown_cell(f"# Title\n\n{ENGLISH}\n\n{FORMULA}")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "index.ipynb")
    messages = folder / "locale" / "zh_CN" / "LC_MESSAGES"
    messages.mkdir(parents=True)
    with (messages / "index.mo").open("wb") as file:
        write_mo(file, catalogue({ENGLISH: CHINESE, FORMULA: FORMULA_CHINESE}))
    assert build_main(["-q", "-W", "-b", "html", str(folder), str(folder / "site")]) == 0
    return BeautifulSoup((folder / "site" / "index.html").read_text("utf-8"), "html.parser")


def test_a_translated_sentence_shows_its_number(page):
    sentence = page.find("data", value="weights[1, 0]").parent
    assert sentence.get_text() == "动词的回答有 0.67 来自 cats。"
    assert sentence.find("data").get_text() == "0.67"


def test_a_translated_sentence_shows_its_formula(page):
    formula = page.find("data", value="half")
    assert r"\tfrac{1}{2}" in formula.get_text()
    assert formula.parent.get_text().startswith("一半是")


@pytest.mark.parametrize(
    ("translation", "complaint"),
    [
        (CHINESE, None),
        ("", None),  # not translated yet: the page shows the original
        (CHINESE.replace("0.67", "0.76"), 'it adds <data value="weights[1, 0]">0.76</data>'),
        (CHINESE.replace("[1, 0]", "[0, 1]"), 'it loses <data value="weights[1, 0]">0.67</data>'),
        ("动词的回答有 0.67 来自 *cats*。", 'it loses <data value="weights[1, 0]">0.67</data>'),
        (CHINESE + CHINESE, 'it adds <data value="weights[1, 0]">0.67</data>'),
        (CHINESE.replace("</data>", ""), "is never closed"),
    ],
)
def test_a_translation_that_changes_a_number_is_caught(tmp_path: Path, translation, complaint):
    path = tmp_path / "chapter.po"
    with path.open("wb") as file:
        write_po(file, catalogue({ENGLISH: translation}))
    told = "\n".join(problems_of_translation(path))
    assert (complaint in told) if complaint else not told
