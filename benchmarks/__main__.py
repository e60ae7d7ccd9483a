"""Measure attnlib beside its peers and write the results: ``make bench``, or ``.venv/bin/python -m benchmarks``.

--quick            a minute instead of ten: small sizes, few rounds, nothing compiled
--only 'window-*'  the cases whose key fits
--redraw           no measurement: the table and the figure anew from the stored results
"""

import argparse
import sys
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from tqdm import tqdm

from attnlib.lab import machine
from benchmarks import report
from benchmarks.cases import Case, cases
from benchmarks.measure import Unequal, measure
from benchmarks.timing import Budget

RESULTS = Path(__file__).parent / "results"
FULL, QUICK = Budget(seconds=1.0, least=5, most=501), Budget(seconds=0.15, least=3, most=25)


def main() -> int:
    options = parse()
    if options.redraw:
        for stored in RESULTS.glob("*.json"):
            report.write(report.read(stored), RESULTS, stored.stem)
        return 0
    chosen = [case for case in cases(quick=options.quick) if fnmatchcase(case.key, options.only or "*")]
    if not chosen:
        sys.exit(f"No case fits {options.only}. There are: {' '.join(case.key for case in cases(quick=options.quick))}")
    # A part of the results, or hasty ones, must not take the place of all of them.
    folder = options.out or (None if options.only or options.quick else RESULTS)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        results = run(chosen, torch.device(device), QUICK if options.quick else FULL)
        print(report.table(report.explained(results)))
        if folder:
            report.write(results, folder, device)
            print(f"Written to {folder}/{device}.json, .md and .svg")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="PATTERN", help="measure the cases whose key fits, as in a shell")
    parser.add_argument("--quick", action="store_true", help="measure small cases for a short time")
    parser.add_argument("--out", type=Path, help="the folder to write to; none with --only and --quick unless given")
    parser.add_argument("--redraw", action="store_true", help="write table and figure from the stored results")
    return parser.parse_args()


def run(chosen: list[Case], device: torch.device, budget: Budget) -> dict:
    """Measure the cases one after the other; a contender that does not compute the same ends everything."""
    measured = []
    bar = tqdm(chosen, desc=device.type, unit="case")
    for case in bar:
        bar.set_postfix_str(case.key)
        try:
            measured.append(measure(case, device, budget))
        except Unequal as difference:
            bar.close()
            sys.exit(f"Not equal, so nothing is timed. {difference}")
    return {
        "date": date.today().isoformat(),
        "machine": machine.describe(device),
        "versions": machine.versions("transformers", "x-transformers"),
        "cases": measured,
    }


if __name__ == "__main__":
    sys.exit(main())
