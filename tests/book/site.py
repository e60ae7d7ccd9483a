"""What a page of the site must keep: guards, each of which returns the problems that it sees.

A guard takes a `Visit`, a page opened in a browser, or the path of a page, when its text is enough.
"""

import os
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe_playwright_python
from bs4 import BeautifulSoup

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
MOST_BYTES = 1_500_000
OWN = ("file://", "http://127.0.0.1:", "data:", "blob:")
FRONT = "index.html"  # leads on at once; every other page is one to read
# The package's source, a page a module, all made alike: one stands for them.
SOURCES, A_SOURCE = "_modules/", "_modules/attnlib/biases.html"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pages() -> list[str]:
    """The pages to read, as paths in the site; none if it is not built."""
    found = (path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    read = (page for page in found if not page.startswith(("_static", SOURCES)) or page == A_SOURCE)
    return sorted(page for page in read if page != FRONT)


def chromium() -> str | None:
    """The Chromium of this machine: the one named by CHROMIUM, else the first known name on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


class Visit:
    """A page opened in a context of its own, so that nothing is cached, with what it asked for and complained of."""

    def __init__(self, browser, address: str, scheme: str = "light"):
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.transferred = 0
        self.scheme = scheme
        self.context = browser.new_context(viewport=DESKTOP, color_scheme=scheme, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", self._miss)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        network = self.context.new_cdp_session(self.page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", self._weigh)
        self.page.goto(address)
        self.settle()

    def _hear(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def _miss(self, request):
        # A page that leads on drops what it was still loading.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"{request.failure}: {request.url}")

    def _weigh(self, event):
        self.transferred += int(event["encodedDataLength"])

    def settle(self):
        """Wait until the mathematics and the fonts are there."""
        # A function that is waited for, unlike one that is evaluated, survives a page that leads on to another.
        ready = "async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; return true; }"
        self.page.wait_for_function(ready)

    def resize(self, viewport):
        if self.page.viewport_size != viewport:
            self.page.set_viewport_size(viewport)

    def open_folds(self):
        self.page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")

    def close(self):
        self.context.close()


# In a browser ------------------------------------------------------------------------------------------------


def asks_other_hosts(visit: Visit) -> list[str]:
    return [url for url in visit.asked if not url.startswith(OWN)]


def complains(visit: Visit) -> list[str]:
    return visit.complaints


def too_heavy(visit: Visit) -> list[str]:
    """Everything that was transferred for the page, compressed as it came."""
    heavy = visit.transferred > MOST_BYTES
    return [f"{visit.transferred:,} bytes, more than {MOST_BYTES:,}"] if heavy else []


def shows_raw_mathematics(visit: Visit) -> list[str]:
    return visit.page.evaluate(
        r"""() => {
            const problems = [];
            for (const formula of document.querySelectorAll(".math"))
                if (!formula.querySelector("mjx-container")) problems.push("not rendered: " + formula.textContent);
            for (const error of document.querySelectorAll("mjx-merror"))
                problems.push("error: " + (error.getAttribute("data-mjx-error") ?? error.textContent));
            for (const text of document.querySelectorAll("mjx-assistive-mml mtext"))
                if (text.textContent.startsWith("\\")) problems.push("unknown command: " + text.textContent);
            const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            while (walker.nextNode()) {
                const text = walker.currentNode;
                if (text.parentElement.closest("pre, code, script, style, noscript, mjx-container, .math")) continue;
                if (/\\\(|\\\[|\$\$|\\begin\{|\\frac|\\sqrt/.test(text.data)) problems.push("raw TeX: " + text.data);
            }
            return problems;
        }"""
    )


@cache
def axe() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


def is_inaccessible(visit: Visit) -> list[str]:
    """What axe-core finds, with every fold open."""
    visit.resize(DESKTOP)
    visit.open_folds()
    visit.page.evaluate(f"window.axe || (() => {{ {axe()} }})()")
    _mark_repeated_tokens(visit.page)
    visit.page.evaluate("axe.configure({rules: [{id: 'color-contrast', selector: ':not([data-repeated])'}]})")
    options = {"resultTypes": ["violations"], "preload": False}
    if visit.scheme == "dark":  # it changes colours alone, and the light page is asked everything
        options["runOnly"] = ["color-contrast", "link-in-text-block"]
    found = visit.page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{rule['id']}: {node['html'][:200]}: {node.get('failureSummary', '')}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def _mark_repeated_tokens(page) -> None:
    """Mark the tokens of code that look as another one does, on the same grounds.

    A page has thousands of tokens in a dozen colours, and their contrast would take nearly all of axe's time.
    """
    page.evaluate(
        """() => {
            const looks = new Map();
            const look = element => {
                if (element === null) return "";
                if (!looks.has(element)) {
                    const {color, backgroundColor, backgroundImage, opacity, filter, mixBlendMode, textShadow,
                           fontSize, fontWeight} = getComputedStyle(element);
                    looks.set(element, [look(element.parentElement), color, backgroundColor, backgroundImage, opacity,
                        filter, mixBlendMode, textShadow, fontSize, fontWeight].join(";"));
                }
                return looks.get(element);
            };
            const seen = new Set();
            for (const token of document.querySelectorAll("pre span")) {
                // One that shows no text cannot stand for another.
                const says = [...token.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
                const shown = token.checkVisibility({visibilityProperty: true, opacityProperty: true});
                if (!says || !shown) continue;
                token.toggleAttribute("data-repeated", seen.has(look(token)));
                seen.add(look(token));
            }
        }"""
    )


def scrolls_sideways(visit: Visit) -> list[str]:
    """What sticks out of a phone's screen, if it makes the page scroll."""
    visit.open_folds()
    visit.resize(PHONE)
    return visit.page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            const boxed = element => {
                for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
                    if (getComputedStyle(box).overflowX !== "visible") return true;
                return getComputedStyle(element).position === "fixed";
            };
            const wide = [...document.body.querySelectorAll("*")].filter(
                element => element.getBoundingClientRect().right > width + 1 && !boxed(element));
            return wide.slice(-3).map(element => "too wide: " + element.outerHTML.slice(0, 200))
                .concat("the page is " + document.documentElement.scrollWidth + " px wide");
        }"""
    )


def cuts_equations(visit: Visit) -> list[str]:
    """Equations that a phone does not show whole."""
    visit.open_folds()
    visit.resize(PHONE)
    return visit.page.evaluate(
        """async () => {
            // Equations are fitted when the window tells of its new size, before the next frame but one.
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            return [...document.querySelectorAll("mjx-container[display=true]")]
                .filter(equation => equation.scrollWidth > equation.clientWidth)
                .map(equation => `${equation.scrollWidth} px in ${equation.clientWidth}: `
                    + equation.querySelector("mjx-assistive-mml")?.textContent.trim().slice(0, 120));
        }"""
    )


def cuts_code(visit: Visit) -> list[str]:
    """Code and what it prints, where it does not fit its box on a desktop, in open folds too."""
    visit.resize(DESKTOP)
    visit.open_folds()
    return visit.page.evaluate(
        """() => [...document.querySelectorAll(".cell pre, div.highlight-python pre")]
            .filter(code => code.scrollWidth > code.clientWidth)
            .map(code => `${code.scrollWidth} px in ${code.clientWidth}: ` + code.textContent.slice(0, 120))"""
    )


def breaks_rows_of_panels(visit: Visit) -> list[str]:
    """Figures whose panels do not stand in one row on a desktop."""
    visit.resize(DESKTOP)
    visit.open_folds()
    return visit.page.evaluate(
        """() => [...document.querySelectorAll(".panels")]
            .filter(row => new Set([...row.children].map(panel => panel.offsetTop)).size > 1)
            .map(row => row.getAttribute("aria-label").slice(0, 120))"""
    )


def is_unreachable(visit: Visit) -> list[str]:
    """Folds that Enter does not open, and controls where the Tab key never comes."""
    visit.resize(DESKTOP)
    return _stuck_folds(visit.page) + _skipped_controls(visit.page)


def _stuck_folds(page) -> list[str]:
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = false)")
    # Handles, not locators: a locator looks for its element, and all before it, anew each time that it is used.
    folds = page.query_selector_all("details > summary:visible")
    for summary in folds:
        summary.focus()
        page.keyboard.press("Enter")
    return [
        f"does not open: {summary.inner_text()}"
        for summary in folds
        if not summary.evaluate("summary => summary.parentElement.open")
    ]


def _skipped_controls(page) -> list[str]:
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    controls = page.evaluate_handle(
        """() => [...document.querySelectorAll(
            "a[href], button, input, select, textarea, summary, [onclick], [role=button], [role=link]"
        )].filter(control => control.checkVisibility({visibilityProperty: true}) && !control.disabled)"""
    )
    page.evaluate(
        """() => {
            document.activeElement?.blur();
            window.getSelection().removeAllRanges();
            window.reached = new Set();
            document.addEventListener("focusin", event => reached.add(event.target));
        }"""
    )
    # Elements that only scroll are stops too, and so are the buttons of a player, which no selector sees.
    stops = page.evaluate(
        "() => document.querySelectorAll('[tabindex=\"0\"]').length + 8 * document.querySelectorAll('audio').length"
    )
    for _ in range(controls.evaluate("controls => controls.length") + stops + 2):
        page.keyboard.press("Tab")
    return controls.evaluate(
        "controls => controls.filter(control => !reached.has(control)).map(control => control.outerHTML.slice(0, 200))"
    )


# In the text of a page ---------------------------------------------------------------------------------------


@cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@cache
def anchors(path: Path) -> set[str]:
    return {element.get("id") or element.get("name") for element in parsed(path).select("[id], a[name]")}


def leads_nowhere(path: Path) -> list[str]:
    """Links and sources inside the site without a file, or with an anchor that the page does not have."""
    return [f"broken link: {target}" for target in sorted(targets(path)) if not _exists(path, target)]


def targets(path: Path) -> set[str]:
    named = {element.get("href") or element.get("src") for element in parsed(path).select("[href], [src]")}
    return {target for target in named if target and not urlsplit(target).scheme}


def _exists(path: Path, target: str) -> bool:
    parts = urlsplit(target)
    # By the path's text, not resolved: the site may lie behind a link.
    aim = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
    site = next(parent for parent in path.parents if (parent / "_static").is_dir())
    if not aim.is_file() or not aim.is_relative_to(site):  # a file beside the site is not published with it
        return False
    # Resolved, so that a page to which many copies of the site link is read once.
    return not parts.fragment or aim.suffix != ".html" or unquote(parts.fragment) in anchors(aim.resolve())


def names_other_hosts(path: Path) -> list[str]:
    """What a page would load from elsewhere sooner or later: a lazy image is not asked for at once."""
    loads = parsed(path).select("img, script, iframe, source, video, audio, embed, object, link:not([rel=canonical])")
    found = (element.get(name, "") for element in loads for name in ("src", "href", "srcset", "data"))
    return [f"another host: {url}" for url in found if url.startswith(("http:", "https:", "//"))]


def leaves_images_unsaid(path: Path) -> list[str]:
    """Images without alternative text, or with the name of their file for one; the panels of a figure share one."""
    images = parsed(path).select('img, [role="img"]')
    images = [image for image in images if not image.find_parent(attrs={"role": "img"})]
    return [
        f"no alternative text: {image}"
        for image in images
        if not _says_something(image.get("alt") or image.get("aria-label", ""))
    ]


def _says_something(text: str) -> bool:
    is_file_name = text.lower().endswith((".png", ".svg", ".jpg", ".jpeg", ".gif")) or "/" in text.split(" ")[0]
    is_placeholder = text.strip().lower() in ("todo", "tbd", "placeholder", "image", "figure", "picture", "alt text")
    return bool(text.strip()) and not is_file_name and not is_placeholder
