"""The page of the book that says which test kills which mistake: made of what is stored.

python -m tests.planted.page
"""

import re

from attnlib.exercises import catalogue
from tests.planted.catalogued import FURTHER, PARTS, PLANTS
from tests.planted.killers import stored
from tests.planted.plant import ROOT
from tests.planted.reasons import REASONS

PAGE = ROOT / "chapters" / "reference" / "what_the_tests_kill.md"

BEGINNING = """(what_the_tests_kill)=
# What the tests kill

How many tests a package has says nothing: a thousand may pass that would pass as well if the code were wrong. What says something is which mistakes they notice. So each mistake of the catalogue behind {{ref}}`museum_of_bugs` was *planted* into `attnlib`: a line or two of the real code were replaced by the wrong ones, and `attnlib`'s own tests were run. At least one has to fail; then the mistake *dies* by it.

Of the {catalogued} mistakes of the catalogue {planted} can be made in `attnlib`. Some have several homes, because the same step is computed in several ways: with the weights stored, in blocks, one query at a time. With {further} more, which only `attnlib` can make, these are {plants} plants, and all die. `make test` plants each again, and runs the test that is named here; `python -m tests.planted` finds such tests: of each file it asks the ten quickest that run the changed lines, and all others if these notice nothing.

A row says the mistake, with a link to where it is explained, the module it was planted in, and a test by which it dies, in words and with its file; then in how many more files of tests it was noticed.
"""  # noqa: E501

FURTHER_TITLE = """## What only attnlib has

No exercise asks for these arguments, so they are not in the catalogue.
"""

MUTANTS = """## Small changes that nobody thought of

A catalogue holds what people get wrong. What nobody thinks of is tried by *mutation*: a tool (cosmic-ray) changes one small thing in the core of `attnlib`, a sign, a comparison, a number, a line left out, and runs the tests that run this line. There are `{mutants}` such mutants; of `{tried}` drawn by lot `{killed}` died. Each of the other `{judged}` was judged one by one, and its reason is written down: it computes the same, costs time alone, or shows only on a device that was not there. `make mutants` does it again.
"""  # noqa: E501

REASONS_TITLE = """## What cannot be planted

"""


def page() -> str:
    """Return the page as Markdown."""
    plants = sum(map(len, (PLANTS | FURTHER).values()))
    counts = {"catalogued": len(catalogue), "planted": len(PLANTS), "further": len(FURTHER), "plants": plants}
    parts = [BEGINNING.format(**counts)]
    for heading, names in PARTS.items():
        parts.append(f"## {heading}\n\n{_table(names)}")
    parts.append(f"{FURTHER_TITLE}\n{_table(FURTHER)}")
    parts.append(MUTANTS.format(**_mutants()))
    reasons: dict[str, list[str]] = {}
    for key, reason in REASONS.items():
        reasons.setdefault(reason, []).append(_linked(key))
    parts.append(REASONS_TITLE + "\n".join(f"- {' · '.join(of)}. {reason}" for reason, of in reasons.items()) + "\n")
    return "\n".join(parts)


def _mutants() -> dict[str, int]:
    """Return the sums of the last run of ``make mutants``, as its report has them."""
    lines = (ROOT / "tests" / "mutants" / "README.md").read_text("utf-8").splitlines()
    [of_all] = [line for line in lines if line.startswith("| **all** |")]
    names = ("mutants", "tried", "killed", "judged")
    return dict(zip(names, map(int, re.findall(r"\| (\d+) (?=\|)", of_all)), strict=True))


def _table(names) -> str:
    rows = ["| mistake | planted in | dies by |", "|---|---|---|"]
    for name in names:
        for place, (plant, found) in enumerate(zip((PLANTS | FURTHER)[name], stored()[name], strict=True)):
            mistake = "" if place else _linked(name)
            rows.append(f"| {mistake} | `{plant.module}` | {_named(found['killer'], len(found['files']) - 1)} |")
    return "\n".join(["```{dropdown} Which dies by which test", *rows, "```\n"])  # folded: the page is long


def _linked(name: str) -> str:
    if name not in catalogue:
        return name
    return f"{{ref}}`{catalogue[name].title} <{catalogue[name].section}>`"


def _named(killer: str | None, others: int) -> str:
    if killer is None:
        return "–"
    file, _, test = killer.partition("::")
    words = test.partition("[")[0].removeprefix("test_").replace("_", " ")
    more = f" and {others} more" if others else ""
    return f"`{words}` (`{file.removeprefix('tests/')}`{more})"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
