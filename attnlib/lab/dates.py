"""Translation in small: a date and an amount of money, from Chinese characters to English words.

Weekdays and English dates are those of Unicode's CLDR, by Babel; Chinese numerals those of ``cn2an``, English ones
those of ``num2words``: both languages are right without our knowing them. Each English word knows from which characters
it comes.
"""

import random
import re
import zlib
from collections.abc import Sequence
from datetime import date
from itertools import chain
from string import Formatter
from typing import NamedTuple

from attnlib.lab.words import Pair, Vocabulary

try:
    from babel.dates import format_date
    from cn2an import an2cn
    from num2words import num2words
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.dates needs babel, cn2an and num2words: pip install 'attnlib[lab]'") from missing

__all__ = [
    "LONG",
    "PARTS",
    "ROUND",
    "TRAINED",
    "UNSEEN",
    "Example",
    "draw",
    "example",
    "pair",
    "text_of",
    "vocabularies",
]

PARTS = ("weekday", "day", "month", "year", "amount")  # as they follow each other in English
# How a date is written in Chinese: digits (y, m, d; mm and dd have two) or numerals (Y, M, D), and the weekday (w).
TRAINED = ("{y}年{m}月{d}日星期{w}", "{y}年{m}月{d}日周{w}", "{y}/{m}/{d}周{w}", "{y}-{mm}-{dd}", "{Y}年{M}月{D}日")
UNSEEN = ("{Y}年{M}月{D}日周{w}", "周{w}{y}年{m}月{d}日")
PART_OF = {"y": "year", "m": "month", "d": "day", "w": "weekday"}  # by a field's first letter
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)
ROUND, LONG = range(1, 5), range(5, 9)  # how many digits of an amount may be other than a nought at its end
TEENS = frozenset(num2words(n) for n in range(11, 20))
OF_ONE_DIGIT = frozenset(num2words(n) for n in (*range(1, 11), *range(20, 100, 10)))


class Example(NamedTuple):
    """A source, its target, and how they belong together.

    Attributes:
        source: the Chinese text; a character is a token.
        target: the English words; of the year, each digit is one.
        origins: for each English word the places of the characters that it comes from. None for *hundred*, *thousand*,
            *million* and *and*: these follow from the numeral as a whole.
        parts: for each English word one of :data:`PARTS`; the colon belongs to none, and has "".
    """

    source: str
    target: list[str]
    origins: list[tuple[int, ...]]
    parts: list[str]


def example(day: date, amount: int, form: str = TRAINED[0]) -> Example:
    """Return a day and an amount of money in both languages.

    Args:
        day: with a weekday in English if ``form`` has one.
        amount: of yuan, from 1 to 99,999,999.
        form: how the date is written, as in :data:`TRAINED`.

    >>> from datetime import date
    >>> from attnlib.lab.dates import example, text_of
    >>> found = example(date(2021, 3, 3), 3_210_000)
    >>> found.source
    '2021年3月3日星期三，三百二十一万元'
    >>> text_of(found.target)
    'Wednesday 3 March 2021: three million two hundred and ten thousand yuan'
    >>> found.target[2], [found.source[place] for place in found.origins[2]]
    ('March', ['3'])
    """
    source, places = _chinese_date(day, form)
    weekday, number, month, year = re.findall(r"\w+", format_date(day, "full", locale="en_GB"))
    target = [number, month, *year]
    origins = [places["day"], places["month"], *((place,) for place in places["year"])]
    parts = ["day", "month", *["year"] * len(year)]
    if "weekday" in places:
        target, origins, parts = [weekday, *target], [places["weekday"], *origins], ["weekday", *parts]
    comma = len(source)
    numeral, words = an2cn(amount), re.findall(r"[a-z]+", num2words(amount))
    source += f"，{numeral}元"
    target += [":", *words, "yuan"]
    origins += [(comma,), *_origins(words, numeral, comma + 1), (len(source) - 1,)]
    parts += ["", *["amount"] * (len(words) + 1)]
    return Example(source, target, origins, parts)


def _chinese_date(day: date, form: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return a date in Chinese, and where its parts stand in it."""
    fields = {
        "y": str(day.year),
        "m": str(day.month),
        "d": str(day.day),
        "mm": f"{day.month:02}",
        "dd": f"{day.day:02}",
        "Y": an2cn(day.year, "direct").replace("零", "〇"),
        "M": an2cn(day.month),
        "D": an2cn(day.day),
        "w": format_date(day, "EEEEE", locale="zh"),
    }
    text, places = "", {}
    for between, field, *_ in Formatter().parse(form):
        text += between
        if field:
            places[PART_OF[field[0].lower()]] = tuple(range(len(text), len(text) + len(fields[field])))
            text += fields[field]
    return text, places


def _origins(words: list[str], numeral: str, offset: int) -> list[tuple[int, ...]]:
    """Return for each word of a number the characters that it comes from: digits keep their order."""
    digits = (
        place + offset for place, c in enumerate(numeral) if c in "一二三四五六七八九" or (c == "十" and not place)
    )
    return [tuple(next(digits) for _ in range((word in OF_ONE_DIGIT) + 2 * (word in TEENS))) for word in words]


def draw(
    count: int, seed: int, *, held_out: bool = False, forms: Sequence[str] = TRAINED, digits: Sequence[int] = ROUND
) -> list[Example]:
    """Return examples by lot: each form as often as another, and each number of digits before some are held out.

    There are few amounts of one digit, so that their share of those held out is what chance made it: a third of the
    tests, a quarter of the training.

    Args:
        count: how many.
        seed: of the lot.
        held_out: draw from days and amounts that are kept for tests, about a tenth of each; else from the others.
        forms: how dates are written.
        digits: how many digits an amount has before the noughts at its end.

    >>> from attnlib.lab.dates import draw
    >>> draw(2, seed=0) == draw(2, seed=0) != draw(2, seed=1)
    True
    """
    lot = random.Random(seed)
    found: list[Example] = []
    while len(found) < count:
        day = date.fromordinal(lot.randint(FIRST.toordinal(), LAST.toordinal()))
        size = lot.choice(digits)
        amount = lot.randrange(10 ** (size - 1), 10**size)
        amount *= 10 ** lot.randint(max(0, 3 - size), 8 - size)
        if _is_held_out(day.isoformat()) == _is_held_out(str(amount)) == held_out:
            found.append(example(day, amount, lot.choice(forms)))
    return found


def _is_held_out(name: str) -> bool:
    """Return of a day or an amount whether it is kept for tests: about one in ten, by a checksum of its name."""
    return zlib.crc32(name.encode()) % 10 == 0


def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    """Return the characters of the Chinese side and the words of the English side: all there are up to 99,999,999.

    >>> from attnlib.lab.dates import vocabularies
    >>> [len(vocabulary) for vocabulary in vocabularies()]
    [37, 86]
    """
    days = [date(2000 + month, month, day) for month in range(1, 13) for day in range(1, 29)]
    days += [date(1987 + n, 1, 29 + n) for n in range(3)]
    amounts = [*range(1, 100), 1_101, 1_010_000]
    examples = [example(day, amounts[0], form) for day in days for form in TRAINED]
    examples += [example(days[0], amount) for amount in amounts]
    return (
        Vocabulary(chain.from_iterable(found.source for found in examples)),
        Vocabulary(chain.from_iterable(found.target for found in examples)),
    )


def pair(found: Example, languages: tuple[Vocabulary, Vocabulary]) -> Pair:
    """Return the tokens of source and target."""
    return languages[0].encode(found.source), languages[1].encode(found.target)


def text_of(words: Sequence[str]) -> str:
    """Return English words as they are written: the digits of a year together, the colon without a space."""
    return re.sub(r"(?<=\b\d) (?=\d\b)", "", " ".join(words)).replace(" :", ":")
