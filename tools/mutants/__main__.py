"""Break attnlib's core one small step at a time, and name the steps that no test notices.

    make mutants                                    # the whole core, some hours; stopped, it goes on where it was
    make mutants SAMPLE=500                         # as many of them, drawn once and for all
    make mutants MODULES="masks kernels/plan"       # these modules

Sessions of cosmic-ray lie in _build/mutants, one a module and version of its source: `cr-html` and `cr-report` read
them, and a mutant that is killed is not run again. A survivor is, once the tests have changed. What survives is held
against tests/mutants/survivors.toml, where each is judged once. A run over the whole core writes README.md beside it.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tools.mutants import report
from tools.mutants.session import JUDGED, ROOT, SESSIONS, Module, core, judged, tried
from tools.mutants.trials import Bench, digest

# Where a test of the core may stand. The other folders test what is built on it.
TESTS = ("tests/test_*.py", "tests/kernels/test_*.py", "tests/transformer/test_*.py")
OTHERS = ("benchmarks", "package", "plot", "readme")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="as masks or kernels/plan; default: the whole core")
    parser.add_argument("--sample", type=int, help="how many mutants; default: all")
    asked = parser.parse_args()
    files = sorted(path for pattern in TESTS for path in ROOT.glob(pattern))
    files = [path for path in files if path.stem.removeprefix("test_") not in OTHERS]
    files += [ROOT / "attnlib" / f"{name}.py" for name in core()]  # their examples
    with ExitStack() as stack:
        bench = Bench(ROOT, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        bench.profile(files, SESSIONS / "tests")
        modules = [Module(name, stack) for name in asked.modules or core()]
        counted = tried(modules, asked.sample, bench, digest([*ROOT.glob("tests/*.py"), *files]))
        survivors = {module.change(name) for module, name in counted if not module.results[name].is_killed}
        rows = report.table(modules, counted, judged())
    new = sorted(survivors - judged())
    print(rows, f"{len(survivors)} survive; {len(new)} of them are not judged.", *map(report.entry, new), sep="\n\n")
    if not asked.modules:
        (JUDGED.parent / "README.md").write_text(report.page(rows, new), "utf-8")


if __name__ == "__main__":
    main()
