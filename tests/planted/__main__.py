"""Run attnlib's tests against each plant, and store which die where.

python -m tests.planted                                        # all: about an hour
python -m tests.planted mask-finite self-hidden                # these, and keep what is known of the others
python -m tests.planted mask-finite tests/kernels/test_online.py  # these, by these tests
"""

import sys
from functools import partial

from tqdm import tqdm

from tests.planted.catalogued import FURTHER, PLANTS
from tests.planted.killers import SUITE, find, stored
from tests.planted.page import PAGE, page

given = sys.argv[1:]
suite = [each for each in given if "/" in each] or SUITE
names = [each for each in given if each not in suite] or [*PLANTS, *FURTHER]
known = stored() if given else {}
find(names, suite, partial(tqdm, file=sys.__stderr__), known)
PAGE.write_text(page(), "utf-8")
for name in names:
    for place, each in enumerate(known[name]):
        if each["killer"] is None:
            print(f"no test notices {name}: {(PLANTS | FURTHER)[name][place]}")
