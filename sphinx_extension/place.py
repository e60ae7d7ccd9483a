"""A page's place in the whole, under its title: which part, which page of it, what came before, what it leads to."""

from html import escape

from sphinx import addnodes


def show_place(app, page, template, context, doctree):
    place = places(app.env).get(page)
    if place is None or "body" not in context:
        return
    part, caption, number, count = place
    words = [f"<span>Part {part} · {escape(caption)}, page {number} of {count}</span>"]
    for relation, word in (("prev", "Before"), ("next", "Next")):
        other = context.get(relation)
        if other:
            words.append(f'<span>{word}: <a href="{escape(other["link"])}">{other["title"]}</a></span>')
    line = f'<nav class="place" aria-label="Place in the book">{"".join(words)}</nav>'
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def places(env):
    """For each page of a numbered part: (part, its caption, the page's number in it, how many it has)."""
    trees = env.get_doctree(env.config.root_doc).findall(addnodes.toctree)
    parts = [tree for tree in trees if tree.get("numbered")]
    return {
        page: (part, tree["caption"], number, len(tree["entries"]))
        for part, tree in enumerate(parts, start=1)
        for number, (_, page) in enumerate(tree["entries"], start=1)
    }


def setup(app):
    app.connect("html-page-context", show_place)
