"""MathJax as a part of the site.

The package sphinx-mathjax-offline carries MathJax, but as an extension it would copy all 15 MB of it.
Only what a page can ask for is copied: the program, its fonts, the TeX packages it loads on demand.
"""

import importlib.util
import shutil
from pathlib import Path

NEEDED = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def installed_mathjax():
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    return Path(package.origin).parent / "static" / "mathjax"


def copy_mathjax(app, failure):
    if failure or app.builder.format != "html":
        return
    source, target = installed_mathjax(), Path(app.outdir) / "_static" / "mathjax"
    for part in NEEDED:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy(source / part, target / part)


def setup(app):
    app.connect("build-finished", copy_mathjax)
