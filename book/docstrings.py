"""Turn the sections of attnlib's docstrings into the fields that Sphinx knows.

The package writes `name: what it is` under "Parameters", and sentences under "Returns" and "Raises". Napoleon would
take what follows the colon for a type, and look for a class named "(L".
"""

import re

FIELDS = {"Parameters": "param", "Attributes": "ivar", "Raises": "raises", "Returns": "returns", "Yields": "returns"}
ENTRY = re.compile(r"(?P<name>\*{0,2}\w[\w.]*(?:, \w+)*) ?: (?P<text>.*)")


def convert(app, what, name, item, options, lines):
    """Rewrite `lines` in place, as autodoc expects."""
    converted = []
    section = ""
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if _is_underline(after) and line and not line.startswith(" "):
            section = line
            converted += [""] if section in FIELDS else ["", f".. rubric:: {section}", ""]
            continue
        if _is_underline(line) and before == section:
            continue
        if section in FIELDS and _ends_fields(before, line):
            section = ""
        converted.append(_field(FIELDS[section], line, _is_underline(before)) if section in FIELDS else line)
    lines[:] = converted


def _ends_fields(before, line):
    """Text or an example that begins anew after an empty line is no longer part of the last field."""
    return not before.strip() and bool(line) and not line.startswith(" ") and not ENTRY.fullmatch(line)


def _is_underline(line):
    return bool(re.fullmatch(r"-{3,}", line.strip()))


def _field(kind, line, first):
    """One line of a section: the beginning of a field, or what continues the one before."""
    if kind == "returns":
        return f":returns: {line}" if first else f"    {line}".rstrip()
    entry = ENTRY.fullmatch(line)
    if entry:
        return f":{kind} {entry['name']}: {entry['text']}"
    return f"    {line}".rstrip()


def setup(app):
    app.connect("autodoc-process-docstring", convert)
