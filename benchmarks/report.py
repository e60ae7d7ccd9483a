"""Results as a JSON file, which everything else is drawn from, and as a table."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.contenders import OURS
from benchmarks.figure import draw
from benchmarks.reasons import REASONS, reason

HOW_TO_READ = (
    "Times are medians of one call. A ratio is attnlib's time divided by the other's, taken round by round: the "
    "median, with the quartiles in parentheses. Memory is the highest point above the inputs, the outputs included. "
    "Outputs, and in training gradients, were found equal before anything was timed. Masks, dense or not, are made off "
    "the clock."
)
HEAD = ("case", "mode", "dtype", "against", "attnlib", "the other", "ratio", "asked for", "memory: attnlib, the other")


def write(results: dict, folder: Path, name: str) -> None:
    """Write ``name``.json, .md and .svg into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    results = explained(results)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (folder / f"{name}.md").write_text(table(results), "utf-8")
    draw(results, folder / f"{name}.svg")


def read(path: Path) -> dict:
    """Read the results that :func:`write` wrote."""
    return json.loads(path.read_text("utf-8"))


def explained(results: dict, reasons: Mapping[str, str] = REASONS) -> dict:
    """Return the results with the reason beside each target that is missed."""
    results = json.loads(json.dumps(results))
    for case in results["cases"]:
        for other, entry in case["against"].items():
            entry["reason"] = reason(f"{case['key']} against {other}", reasons) if entry["reached"] is False else ""
        if case["memory"]:
            missed = case["memory"]["reached"] is False
            case["memory"]["reason"] = reason(f"{case['key']} memory", reasons) if missed else ""
    return results


def outcomes(results: dict) -> list[bool]:
    """Return for each target whether it is reached."""
    entries = [entry for case in results["cases"] for entry in [*case["against"].values(), case["memory"]]]
    return [entry["reached"] for entry in entries if entry and entry["reached"] is not None]


def table(results: dict) -> str:
    """Return the results as Markdown: what was measured on what, then a table for each section."""
    machine, reached = results["machine"], outcomes(results)
    lines = [
        "# attnlib beside its peers",
        "",
        f"{results['date']} · {machine.get('gpu') or machine['cpu']} · {machine['threads']} threads on "
        f"{machine['cores']} cores · {machine['memory_bytes'] / 2**30:.0f} GiB · "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        "",
        f"{sum(reached)} of {len(reached)} targets are reached. {HOW_TO_READ} While a case was timed, other programs "
        f"took at most {max((case['neighbours'] or 0) for case in results['cases']):.0%} of the processor.",
    ]
    for section in dict.fromkeys(case["section"] for case in results["cases"]):
        chosen = [case for case in results["cases"] if case["section"] == section]
        shared = dict(set.intersection(*(set(case["sizes"].items()) for case in chosen)))
        lines += ["", f"## {section}", ""]
        if shared:
            lines += [", ".join(f"{name} = {size}" for name, size in chosen[0]["sizes"].items() if name in shared), ""]
        lines += [_row(HEAD), _row(["---"] * len(HEAD))]
        lines += [_row(cells) for case in chosen for cells in _cells(case, shared)]
    return "\n".join(lines) + "\n"


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(case: dict, shared: dict[str, int]) -> Iterator[list[str]]:
    """Yield the lines of a case: one for each other contender, or one alone."""
    own = [f"{name} = {size}" for name, size in case["sizes"].items() if name not in shared]
    first = [", ".join([case["title"], *own]), case["mode"], case["dtype"]]
    ours = case["contenders"].get(OURS)
    mine = _seconds(ours) if ours else case["missing"].get(OURS, "")
    if case["memory"]:
        asked = f"≤ {_bytes(case['memory']['target_bytes'])}"
        peak = case["memory"]["peak_bytes"]
        yield [*first, "", mine, "", "", _verdict(asked, case["memory"]), "" if peak is None else _bytes(peak)]
    for other, entry in case["against"].items():
        theirs = case["contenders"].get(other)
        name = f"{other} ({theirs['note']})" if theirs and theirs["note"] else other
        yield [
            *first,
            name,
            mine,
            _seconds(theirs) if theirs else case["missing"].get(other, ""),
            _ratio(entry["ratio"]),
            _verdict(f"≤ {entry['target']:g}", entry) if entry["target"] is not None else "",
            ", ".join(_bytes(x["peak_bytes"]) for x in (ours, theirs) if x),
        ]
        first = [""] * len(first)


def _verdict(asked: str, entry: dict) -> str:
    if entry["reached"] is None:
        return asked
    if entry["reached"]:
        return f"{asked} ✓"
    ratio = entry.get("ratio")
    by = f" by {ratio['median'] / entry['target'] - 1:.1%}" if ratio else ""
    return f"{asked} **missed{by}**" + (f": {entry['reason']}" if entry.get("reason") else "")


def _ratio(ratio: dict[str, float] | None) -> str:
    return f"{ratio['median']:.3f} ({ratio['lower']:.3f}–{ratio['upper']:.3f})" if ratio else ""


def _seconds(contender: dict) -> str:
    seconds = contender["seconds"]["median"]
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _bytes(count: int) -> str:
    unit, size = next(
        (unit, size) for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if count >= size or size == 1e3
    )
    return f"{count / size:.3g} {unit}"
