"""The page at the root of the site: it leads to the book's first page, at once and without a script."""

from pathlib import Path

PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={start}">
<link rel="canonical" href="{start}">
<link rel="icon" href="_static/logo.svg">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p><a href="{start}">Open the book</a></p>
</main>
</body>
</html>
"""


def write_front_page(app, failure):
    if failure or app.builder.format != "html":
        return
    start = app.builder.get_target_uri(app.config.root_doc)
    page = PAGE.format(language=app.config.language, title=app.config.html_title, start=start)
    (Path(app.outdir) / "index.html").write_text(page, "utf-8")


def setup(app):
    # After sphinx_external_toc, which writes a bare redirect.
    app.connect("build-finished", write_front_page, priority=900)
