"""Run the experiments and store what they find: ``make experiments``, or ``python -m attnlib.lab.experiments``."""

import argparse
import pkgutil
from importlib import import_module

import torch
from tqdm import tqdm

from attnlib.lab import experiments, stored

NAMES = sorted({module.name for module in pkgutil.iter_modules(experiments.__path__)} - {"__main__"})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m attnlib.lab.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which to run. Default: all of {', '.join(NAMES)}")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no experiment called {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    for name in names:
        rows = {}
        module = import_module(f"attnlib.lab.experiments.{name}")
        bar = tqdm(module.ROWS.items(), desc=name, unit="row")
        for key, row in bar:
            bar.set_postfix_str(key)
            rows[key] = row()
        print(f"Written to {stored.store(name, rows)}")


if __name__ == "__main__":
    main()
