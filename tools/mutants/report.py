"""What a run found, as a table with uncertainties and a list."""

import math

from tools.mutants.changes import Change
from tools.mutants.session import Module

PAGE = """# What attnlib's tests notice

`make mutants` wrote this. It breaks a source of attnlib's core by one small step, a mutant, and runs the tests: a
mutant that fails one of them is killed. The others survive. Those that were judged stand in `survivors.toml`, each with
the reason why no test should hold it: it is equivalent, or costs time alone; the last column leaves them out.

A source is named by the beginning of its SHA-256; where not all of its mutants were tried, shares have 95 % intervals
(Wilson, 1927). Messages, annotations, protocols, and the numbers of `kernels/sizes`, which cost time alone, are left as
they are. The tests were mended with what survived of this very sample, so of mutants that were not tried somewhat more
survive.

{table}

Survivors that are not judged yet:

{new}
"""
Z = 1.96


def page(rows: str, new: list[Change]) -> str:
    """Return what is stored."""
    return PAGE.format(table=rows, new="\n".join(f"- `{change}`" for change in new) or "none.")


def entry(change: Change) -> str:
    """Return a survivor as the list of judged ones wants it, without the reason."""
    return "\n".join(["[[survivor]]", *(f"{field} = {value!r}" for field, value in change._asdict().items())])


def table(modules: list[Module], counted: list[tuple[Module, str]], known: set[Change]) -> str:
    """Return, for each module and for all, how many mutants there are, were tried, were killed, and were judged."""
    rows = [
        "| module | source | mutants | tried | killed | judged | killed of tried | killed of the rest |",
        "|---|---|--:|--:|--:|--:|---|---|",
    ]
    total = [0, 0, 0, 0]
    for module in modules:
        names = [name for owner, name in counted if owner is module]
        lived = [name for name in names if not module.results[name].is_killed]
        judged = sum(module.change(name) in known for name in lived)
        numbers = [module.count, len(names), len(names) - len(lived), judged]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        rows.append(f"| {module.name} | `{module.digest}` | {_row(*numbers)} |")
    return "\n".join([*rows, f"| **all** | | {_row(*total)} |"])


def _row(mutants: int, tried: int, killed: int, judged: int) -> str:
    shares = (share(killed, some, of_all=tried == mutants) for some in (tried, tried - judged))
    return " | ".join(map(str, (mutants, tried, killed, judged, *shares)))


def share(killed: int, tried: int, of_all: bool) -> str:
    """Return killed / tried in percent, with its interval where there are more to try."""
    if not tried:
        return ""
    p = killed / tried
    if of_all:
        return f"{100 * p:.1f} %"
    middle = (p + Z * Z / (2 * tried)) / (1 + Z * Z / tried)
    half = Z * math.sqrt(p * (1 - p) / tried + Z * Z / (4 * tried * tried)) / (1 + Z * Z / tried)
    return f"{100 * p:.1f} % ({100 * (middle - half):.1f} to {100 * (middle + half):.1f})"
