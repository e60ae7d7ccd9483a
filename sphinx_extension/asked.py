"""At a page's end, the questions that are answered by it: written on the page of questions, linked from both sides."""

from collections import defaultdict
from html import escape

from docutils import nodes
from sphinx import addnodes

QUESTIONS = "chapters/8_faq/faq"


def collect(app, env):
    """Read the questions once; return the pages whose list of them has changed, so that they are written again."""
    before, env.asked = getattr(env, "asked", {}), questions(env) if QUESTIONS in env.all_docs else {}
    return [page for page in {*before, *env.asked} & env.all_docs.keys() if before.get(page) != env.asked.get(page)]


def show_questions(app, page, template, context, doctree):
    asked = app.env.asked.get(page)
    if "body" not in context or not asked:
        return
    base = app.builder.get_relative_uri(page, QUESTIONS)
    links = "".join(f'<li><a href="{base}#{label}">{escape(title)}</a></li>' for label, title in asked)
    context["body"] += f'<nav class="asked" aria-labelledby="asked"><p id="asked">Often asked</p><ul>{links}</ul></nav>'


def questions(env):
    """For each page, the questions whose answers link to it, in their order: (label, title)."""
    labels = env.get_domain("std").anonlabels
    found = defaultdict(dict)
    for section in env.get_doctree(QUESTIONS).findall(nodes.section):
        title = section.next_node(nodes.title).astext()
        if not title.endswith("?"):
            continue
        for link in section.findall(addnodes.pending_xref):
            page = labels.get(link["reftarget"], ("",))[0]
            found[page][section["ids"][-1]] = title
    return {page: list(by_label.items()) for page, by_label in found.items()}


def setup(app):
    app.connect("env-updated", collect)
    app.connect("html-page-context", show_questions)
