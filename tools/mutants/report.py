"""What a run found, as a table with uncertainties and a list."""

import math

from tools.mutants.changes import Change
from tools.mutants.session import Module

PAGE = """# What attnlib's tests notice

`make mutants` wrote this. It breaks a source of attnlib's core by one small step, a mutant, and runs the tests: a
mutant that fails one of them is killed. A source is named by the beginning of its SHA-256; where not all of its mutants
were tried, the share has its 95 % interval (Wilson, 1927). Messages, annotations, protocols, and the numbers of
`kernels/sizes`, which cost time alone, are left as they are.

{table}

Of the survivors, {known} were judged: `survivors.toml` says of each why no test should hold it. Not judged yet:

{new}
"""
Z = 1.96


def page(rows: str, known: set[Change], new: list[Change]) -> str:
    """Return what is stored."""
    return PAGE.format(table=rows, known=len(known), new="\n".join(f"- `{change}`" for change in new) or "none.")


def entry(change: Change) -> str:
    """Return a survivor as the list of judged ones wants it, without the reason."""
    return "\n".join(["[[survivor]]", *(f"{field} = {value!r}" for field, value in change._asdict().items())])


def table(modules: list[Module], counted: list[tuple[Module, str]]) -> str:
    """Return, for each module and for all, how many mutants there are, were tried, and were killed."""
    rows = ["| module | source | mutants | tried | killed | share |", "|---|---|--:|--:|--:|---|"]
    total = [0, 0, 0]
    for module in modules:
        names = [name for owner, name in counted if owner is module]
        numbers = [module.count, len(names), sum(module.results[name].is_killed for name in names)]
        total = [a + b for a, b in zip(total, numbers, strict=True)]
        rows.append(f"| {module.name} | {module.digest} | {_row(*numbers)} |")
    return "\n".join([*rows, f"| **all** | | {_row(*total)} |"])


def _row(mutants: int, tried: int, killed: int) -> str:
    return f"{mutants} | {tried} | {killed} | {share(killed, tried, of_all=tried == mutants)}"


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
