"""What experiments found: stored once, with date, versions and machine, and read by the chapters."""

import json
from datetime import date
from pathlib import Path

from attnlib.lab import machine

FOLDER = Path(__file__).parent / "results"


def store(name: str, rows: dict[str, dict]) -> Path:
    """Write ``rows`` to ``results/<name>.json`` beside what they were measured on; return the path."""
    results = {
        "date": date.today().isoformat(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "rows": rows,
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def load(name: str) -> dict:
    """Return what :func:`store` wrote: ``date``, ``machine``, ``versions`` and ``rows``.

    Raises:
        FileNotFoundError: if nobody has stored such results; the message says how to.
    """
    path = FOLDER / f"{name}.json"
    if not path.exists():
        stored = ", ".join(sorted(found.stem for found in FOLDER.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no results called {name!r}; stored: {stored}. `make experiments` makes them")
    return json.loads(path.read_text("utf-8"))
