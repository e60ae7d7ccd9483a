"""Build the site into _build/html; a warning is an error.

Every build starts from nothing, and is skipped when nothing it reads has changed. Sphinx's own cache would keep pages
of removed chapters and would not repeat the warnings of unchanged ones.
"""

import hashlib
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
SITE = BUILD / "html"
INPUTS = (
    "_config.yml",
    "_toc.yml",
    "requirements.txt",
    "sphinx_extension",
    "chapters",
    "attnlib",
    "benchmarks/results",
    "tools/build_book.py",
)


def main() -> int:
    started = time.monotonic()
    BUILD.mkdir(exist_ok=True)
    for left_behind in BUILD.glob("site-*/"):  # by a build that was killed
        shutil.rmtree(left_behind, ignore_errors=True)
    fingerprint = fingerprint_of(ROOT)
    stamp = BUILD / "site.sha256"
    if (SITE / "index.html").is_file() and stamp.is_file() and stamp.read_text() == fingerprint:
        print("The site is up to date.")
        return announce()
    print("Building the site …", flush=True)
    stamp.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="site-", dir=BUILD) as workshop:
        warnings = build(ROOT, Path(workshop))
        replace(SITE, Path(workshop) / "html")
    if warnings:
        print(f"\nWarnings, each of which is an error ({len(warnings)}):", file=sys.stderr)
        print(*warnings, sep="\n", file=sys.stderr)
        return 1
    stamp.write_text(fingerprint)
    print(f"Built in {time.monotonic() - started:.0f} s.")
    return announce()


def announce() -> int:
    print(f"Open {SITE / 'index.html'} in a browser, or run: make serve")
    return 0


def replace(old: Path, new: Path) -> None:
    """Put the new site where the old one was; nobody sees a half-built one, not even after a failure."""
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)


def fingerprint_of(source: Path) -> str:
    """A digest of the names and contents of everything that a build reads."""
    digest = hashlib.sha256()
    for name in INPUTS:
        for path in sorted([source / name, *(source / name).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts:
                digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build(source: Path, target: Path) -> list[str]:
    """Build the book in `source` into `target`/html; return the warnings."""
    # Imported here: an unchanged site needs none of Sphinx.
    from jupyter_book.config import get_final_config
    from sphinx.application import Sphinx
    from sphinx.util.console import nocolor
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    overrides = {"latex_individualpages": False, "external_toc_path": str(source / "_toc.yml")}
    config, _ = get_final_config(user_yaml=source / "_config.yml", cli_config=overrides, sourcedir=source)
    nocolor()
    warnings = io.StringIO()
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=source,
            confdir=None,
            outdir=target / "html",
            doctreedir=target / "doctrees",
            buildername="html",
            confoverrides=config,
            status=None,
            warning=warnings,
            freshenv=True,
            keep_going=True,
        )
        app.build()
    return warnings.getvalue().splitlines()


if __name__ == "__main__":
    sys.exit(main())
