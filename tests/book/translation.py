"""Whether a translation keeps the numbers that the code computes: each <data> element, expression and text alike."""

from collections import Counter
from pathlib import Path

from babel.messages.pofile import read_po

from tests.book.prose import Bound, Paragraph, read


def problems_of_translation(catalogue: Path) -> list[str]:
    """The messages of a .po file whose translation loses, adds or changes a bound number."""
    with catalogue.open("rb") as file:
        messages = [message for message in read_po(file) if message.id and message.string]
    return [problem for message in messages if (problem := _difference(message.id, message.string))]


def _difference(original: str, translation: str) -> str | None:
    before, after = Counter(_bound(original)), Counter(_bound(translation))
    if before == after and not _mistakes(translation):
        return None
    return "\n".join(
        [
            f"a translation changes the numbers of: {original}",
            *(f"    it loses {_markup(bound)}" for bound in (before - after).elements()),
            *(f"    it adds {_markup(bound)}" for bound in (after - before).elements()),
            *(f"    {mistake}" for mistake in _mistakes(translation)),
        ]
    )


def _paragraphs(markdown: str) -> list[Paragraph]:
    return [part for part in read(markdown) if isinstance(part, Paragraph)]


def _bound(markdown: str) -> list[Bound]:
    return [piece for part in _paragraphs(markdown) for piece in part.pieces if isinstance(piece, Bound)]


def _mistakes(markdown: str) -> list[str]:
    return [mistake for part in _paragraphs(markdown) for mistake in part.mistakes]


def _markup(bound: Bound) -> str:
    return f'<data value="{bound.expression}">{bound.shown}</data>'
