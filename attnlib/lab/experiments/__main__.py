"""Run the experiments and store what they find: ``make experiments``, or ``python -m attnlib.lab.experiments``."""

import argparse
from collections.abc import Callable, Mapping

import torch
from tqdm import tqdm

from attnlib.lab import stored
from attnlib.lab.experiments import layers, question_answering, rivals, summarisation, translation, vision

EXPERIMENTS: dict[str, Mapping[str, Callable[[], dict]]] = {
    "layers": layers.ROWS,
    "question_answering": question_answering.ROWS,
    "rivals": rivals.ROWS,
    "summarisation": summarisation.ROWS,
    "translation": translation.ROWS,
    "vision": vision.ROWS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m attnlib.lab.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which to run. Default: all of {', '.join(EXPERIMENTS)}")
    names = parser.parse_args().names or list(EXPERIMENTS)
    if unknown := set(names) - set(EXPERIMENTS):
        parser.error(f"no experiment called {', '.join(sorted(unknown))}; there are: {', '.join(EXPERIMENTS)}")
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    for name in names:
        rows = {}
        bar = tqdm(EXPERIMENTS[name].items(), desc=name, unit="row")
        for key, row in bar:
            bar.set_postfix_str(key)
            rows[key] = row()
        print(f"Written to {stored.store(name, rows)}")


if __name__ == "__main__":
    main()
