"""Inventories of other projects, so that a build links names such as `torch.Tensor` without the network.

`inventories/<project>.txt` is the readable source. Its first line is the address of the project's documentation;
each other line is `domain:role  name  page`. A `$` at the end of the page stands for the name.
"""

import zlib
from pathlib import Path

SOURCES = Path(__file__).parent / "inventories"


def write_inventories(app, config):
    """Write each source in the format that intersphinx reads, and tell intersphinx where."""
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(SOURCES.glob("*.txt")):
        address, entries = read_source(source)
        target = folder / f"{source.stem}.inv"
        target.write_bytes(inventory(source.stem, entries))
        config.intersphinx_mapping[source.stem] = (address, str(target))


def read_source(source):
    lines = [line for line in source.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    return lines[0], [line.split() for line in lines[1:]]


def inventory(project, entries):
    """The bytes of a version 2 inventory: four lines of plain text, then compressed entries."""
    head = (
        f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    body = "".join(f"{name} {role} 1 {page} -\n" for role, name, page in entries)
    return head.encode() + zlib.compress(body.encode())


def setup(app):
    # Before intersphinx checks its mapping, at priority 800.
    app.connect("config-inited", write_inventories, priority=700)
