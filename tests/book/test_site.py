"""The built site, page by page: alone, legible, light, reachable by everyone. `make test` builds it first."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.book import site
from tests.book.served import serving
from tests.book.site import FRONT, SITE, Visit

PAGES = site.pages()
# Every page in both colour schemes and by both ways to open it; scheme and way do not touch each other.
WIDE_PANEL = '<img src="../_static/logo.svg" alt="" style="width: 30rem">'
TOKEN = '<span class="k">def</span>'
PALE_TOKEN = '<span class="k" style="color: #ccc">def</span>'
HIDDEN_TOKEN = PALE_TOKEN.replace("<span", "<span hidden")
DIM = 'style="background: #777"'
WAYS = [("light", "served"), ("dark", "from a file")]
EVERY_PAGE = pytest.mark.parametrize("path", [pytest.param(SITE / page, id=page) for page in [FRONT, *PAGES]])


def test_the_site_is_built():
    assert (SITE / FRONT).is_file(), "There is no site to test. Build it with: make book"
    assert len(PAGES) > 10


# Without a browser -------------------------------------------------------------------------------------------


@EVERY_PAGE
def test_links_lead_somewhere(path):
    assert site.leads_nowhere(path) == []


@EVERY_PAGE
def test_images_have_alternative_text(path):
    assert site.leaves_images_unsaid(path) == []


@EVERY_PAGE
def test_pages_name_no_other_host_to_load_from(path):
    assert site.names_other_hosts(path) == []


def test_each_function_and_class_of_the_api_leads_to_its_source():
    page = site.parsed(SITE / "chapters/reference/api.html")
    names = page.select("dl.py.function > dt, dl.py.class > dt")
    assert len(names) > 50
    assert [name["id"] for name in names if not name.select("a[href*='_modules/'] > .viewcode-link")] == []


# In a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browser():
    program = site.chromium()
    if not program:
        how = "No Chromium found. Debian: apt-get install chromium; others: name its path in CHROMIUM."
        pytest.fail(how) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(how)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=site.QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address():
    with serving(SITE) as address:
        yield address


@pytest.fixture(scope="module", params=[(page, *way) for page in PAGES for way in WAYS], ids=", ".join)
def visit(request, browser, address):
    page, scheme, way = request.param
    visit = Visit(browser, f"{address}{page}" if way == "served" else (SITE / page).as_uri(), scheme)
    visit.name, visit.way = page, way
    yield visit
    visit.close()


def test_pages_follow_the_colour_scheme(visit):
    assert visit.page.evaluate("document.documentElement.dataset.theme") == visit.scheme


def test_pages_ask_nothing_of_other_hosts(visit):
    assert site.asks_other_hosts(visit) == []


def test_pages_render_their_mathematics(visit):
    assert site.shows_raw_mathematics(visit) == []


def test_pages_are_light(visit):
    """`pytest -rP` shows what each page weighs."""
    if visit.way != "served":
        return  # nothing is transferred
    print(f"{visit.name}: {visit.transferred:,} bytes")
    assert site.too_heavy(visit) == []


def test_pages_are_accessible(visit):
    assert site.is_inaccessible(visit) == []


def test_pages_do_not_scroll_sideways_on_a_phone(visit):
    assert site.scrolls_sideways(visit) == []


def test_pages_show_equations_whole_on_a_phone(visit):
    if visit.way == "served":  # the colours change no width
        assert site.cuts_equations(visit) == []


def test_pages_show_code_whole_on_a_desktop(visit):
    if visit.way == "served":
        assert site.cuts_code(visit) == []
        assert site.breaks_rows_of_panels(visit) == []


def test_pages_are_reached_by_keyboard(visit):
    # The colours and the way of loading change nothing here, and this is the longest walk.
    if visit.way == "served":
        assert site.is_unreachable(visit) == []


def test_pages_complain_of_nothing(visit):
    assert site.complains(visit) == []


@pytest.mark.parametrize("way", ["served", "from a file"])
def test_search_finds_a_term(browser, address, way):
    root = address if way == "served" else f"{SITE.as_uri()}/"
    visit = Visit(browser, f"{root}search.html?q=softmax")
    visit.page.locator("#search-results li a").first.click()
    visit.page.wait_for_url("**/chapters/**")
    assert site.complains(visit) == []
    visit.close()


@pytest.mark.parametrize("way", ["served", "from a file"])
def test_the_front_leads_to_the_first_page(browser, address, way):
    visit = Visit(browser, address if way == "served" else (SITE / FRONT).as_uri())
    visit.page.wait_for_url("**/chapters/index.html")
    assert site.complains(visit) == []
    visit.close()


# Each guard sees what it is there for ------------------------------------------------------------------------


@pytest.fixture
def spoil(tmp_path):
    """Make a copy of a page with `more` put at the end of its text; return its path."""
    return lambda more, name="site": _spoiled(tmp_path / name, more)


def _spoiled(copy: Path, more: str) -> Path:
    page = copy / "chapters" / "index.html"
    page.parent.mkdir(parents=True)
    for entry in [*SITE.iterdir(), *(SITE / "chapters").iterdir()]:
        link = copy / entry.relative_to(SITE)
        if link not in (page, page.parent):
            link.symlink_to(entry)
    text = (SITE / "chapters" / "index.html").read_text("utf-8")
    page.write_text(text.replace("</article>", f"{more}</article>", 1), "utf-8")
    return page


@pytest.mark.parametrize("guard", [site.leads_nowhere, site.names_other_hosts, site.leaves_images_unsaid])
def test_a_copy_with_nothing_spoiled_passes(guard, spoil):
    assert guard(spoil("")) == []


@pytest.mark.parametrize(
    ("guard", "more"),
    [
        (site.leads_nowhere, '<a href="no_such_page.html">a page</a>'),
        (site.leads_nowhere, '<a href="#no-such-anchor">an anchor</a>'),
        (site.leads_nowhere, '<img src="no_such_image.png" alt="A mask.">'),
        (site.leads_nowhere, '<a href="../../../README.md">a file that is not published</a>'),
        (site.names_other_hosts, '<img loading="lazy" src="https://example.org/mask.png" alt="A mask.">'),
        (site.names_other_hosts, '<link rel="preconnect" href="//example.org">'),
        (site.leaves_images_unsaid, '<img src="../_static/logo.svg">'),
        (site.leaves_images_unsaid, '<img src="../_static/logo.svg" alt="placeholder">'),
        (site.leaves_images_unsaid, '<div role="img"><img src="../_static/logo.svg" alt=""></div>'),
        (site.leaves_images_unsaid, '<img src="../_static/logo.svg" alt="../_static/logo.svg">'),
    ],
)
def test_a_spoiled_text_is_seen(guard, more, spoil):
    assert guard(spoil(more)) != []


@pytest.mark.parametrize(
    ("guard", "more"),
    [
        (site.asks_other_hosts, '<img src="http://example.invalid/pixel.png" alt="A pixel.">'),
        (site.complains, '<script>console.error("spoiled")</script>'),
        (site.complains, "<script>throw new Error('spoiled')</script>"),
        (site.complains, '<script src="no_such_script.js"></script>'),
        (site.shows_raw_mathematics, r'<p class="mathjax_ignore">\(\sqrt{d_k}\)</p>'),
        (site.shows_raw_mathematics, r'<div class="math mathjax_ignore">x</div>'),
        (site.shows_raw_mathematics, r'<mjx-container><mjx-merror data-mjx-error="x"></mjx-merror></mjx-container>'),
        (site.scrolls_sideways, '<div style="width: 400px">wide</div>'),
        (site.scrolls_sideways, f'<p style="white-space: nowrap">{"wide " * 40}</p>'),
        (site.cuts_equations, rf'<div class="math">\[a {"+ b" * 30}\]</div>'),
        (site.breaks_rows_of_panels, f'<div class="panels" aria-label="Two.">{WIDE_PANEL * 2}</div>'),
        (site.cuts_code, f'<div class="cell"><pre style="white-space: pre">{"x" * 120}</pre></div>'),
        (site.is_inaccessible, "<button></button>"),
        (site.is_inaccessible, '<p style="color: #bbb; background: #fff">pale</p>'),
        (site.is_inaccessible, f'<div class="highlight"><pre>{TOKEN}{PALE_TOKEN}</pre></div>'),
        (site.is_inaccessible, f'<div class="highlight"><pre>{TOKEN}</pre><pre {DIM}>{TOKEN}</pre></div>'),
        (site.is_inaccessible, f'<div class="highlight"><pre>{HIDDEN_TOKEN}{PALE_TOKEN}</pre></div>'),
        (site.is_inaccessible, "<details><summary>A fold</summary><button></button></details>"),
        (site.is_unreachable, '<a href="#" tabindex="-1">a link</a>'),
        (site.is_unreachable, '<div onclick="this.remove()">a button</div>'),
        (site.is_unreachable, '<details><summary onkeydown="event.preventDefault()">A fold</summary>x</details>'),
    ],
)
def test_a_spoiled_page_is_seen(guard, more, spoil, browser):
    visit = Visit(browser, spoil(more).as_uri())
    problems = guard(visit)
    visit.close()
    assert problems != []


def test_a_page_that_is_pale_in_the_dark_alone_is_seen(spoil, browser):
    pale = '<style>html[data-theme="dark"] .pale { color: #333 }</style><p class="pale">pale</p>'
    for scheme, seen in (("light", False), ("dark", True)):
        visit = Visit(browser, spoil(pale, scheme).as_uri(), scheme)
        assert bool(site.is_inaccessible(visit)) == seen
        visit.close()


def test_a_heavy_page_is_seen(spoil, browser):
    noise = os.urandom(site.MOST_BYTES).hex()
    with serving(spoil(f"<!-- {noise} -->").parents[1]) as address:
        visit = Visit(browser, f"{address}chapters/index.html")
        problems = site.too_heavy(visit)
        visit.close()
    assert problems != []


def test_a_number_shows_its_code_within_the_screen(spoil, browser):
    """The expression behind a number appears on hovering, and never makes the page scroll."""
    number = f'<data value="{"weights[1, 0] + " * 20}0">0.67</data>'
    visit = Visit(browser, spoil(f'<p>{number}</p><p style="text-align: right">{number}</p>').as_uri())
    for left_or_right in visit.page.locator("data").all():
        left_or_right.hover()
        assert left_or_right.evaluate("number => getComputedStyle(number, '::after').content").startswith('"weights')
        assert site.scrolls_sideways(visit) == []
    visit.close()
