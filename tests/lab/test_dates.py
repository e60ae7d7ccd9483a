"""Dates and amounts in two languages: judged by Babel's own patterns and by reading the text back."""

import re
from datetime import date

import pytest
from babel.dates import format_date, format_skeleton
from cn2an import cn2an, transform

from attnlib.lab import dates
from attnlib.lab.dates import LONG, PARTS, TRAINED, UNSEEN, draw, example, pair, text_of, vocabularies

DAYS = [date(2021, 3, 3), date(1900, 12, 31), date(2000, 2, 29), date(2099, 11, 10), date(1987, 10, 20)]
AMOUNTS = [300, 1_005, 1_050, 10_000, 120_000, 101_010, 3_210_000, 20_000_000, 10_010_001, 99_999_999, 19_131_517]
VALUES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
SMALL = dict(zip("one two three four five six seven eight nine ten".split(), range(1, 11), strict=True))  # noqa: SIM905
SMALL |= {"eleven": 11, "twelve": 12, "thirteen": 13, "fifteen": 15, "eighteen": 18, "twenty": 20, "thirty": 30}
SMALL |= {"fourteen": 14, "sixteen": 16, "seventeen": 17, "nineteen": 19, "forty": 40, "fifty": 50, "eighty": 80}
SMALL |= {"sixty": 60, "seventy": 70, "ninety": 90}


def number_of(words):
    """Read an English number, by hand."""
    total, group = 0, 0
    for word in words:
        if word in SMALL:
            group += SMALL[word]
        elif word == "hundred":
            group *= 100
        elif word != "and":
            total, group = total + group * VALUES[word], 0
    return total + group


def numeral_of(found):
    return found.source.split("，")[-1].removesuffix("元")


@pytest.mark.parametrize("day", DAYS)
def test_chinese_dates_are_babels_own(day):
    patterns = [
        format_date(day, "full", locale="zh"),
        *(format_skeleton(s, day, locale="zh") for s in ("yMMMEd", "yMEd")),
    ]
    for form, wanted in zip(TRAINED[:3], patterns, strict=True):
        assert example(day, 300, form).source == wanted + "，三百元"
    assert example(day, 300, TRAINED[3]).source == day.isoformat() + "，三百元"


@pytest.mark.parametrize("day", DAYS)
def test_a_date_in_numerals_reads_back(day):
    written = example(day, 300, TRAINED[4]).source.split("，")[0]
    assert not re.search(r"[\d零]", written)
    assert transform(written) == f"{day.year}年{day.month}月{day.day}日"


@pytest.mark.parametrize("day", DAYS)
def test_english_dates_are_babels_without_the_comma(day):
    text = text_of(example(day, 300).target)
    assert text == format_date(day, "full", locale="en_GB").replace(",", "") + ": three hundred yuan"


@pytest.mark.parametrize("amount", AMOUNTS)
def test_amounts_read_back_in_both_languages(amount):
    found = example(DAYS[0], amount)
    colon = found.target.index(":")
    assert cn2an(numeral_of(found), "normal") == amount
    assert number_of(found.target[colon + 1 : -1]) == amount
    assert found.target[-1] == "yuan"


def test_a_date_without_a_weekday_says_none():
    for form in (*TRAINED, *UNSEEN):
        found = example(DAYS[0], 300, form)
        assert ("Wednesday" in found.target) == ("周" in form or "星期" in form) == ("weekday" in found.parts)


def test_origins_of_one_example_by_hand():
    found = example(date(2021, 10, 13), 12_340_000, "{Y}年{M}月{D}日周{w}")
    assert found.source == "二〇二一年十月十三日周三，一千二百三十四万元"
    words = {word: "".join(found.source[i] for i in o) for word, o in zip(found.target, found.origins, strict=True)}
    assert words == {
        **{"Wednesday": "三", "13": "十三", "October": "十", "2": "二", "0": "〇", "1": "一", ":": "，"},
        **{"twelve": "一二", "million": "", "three": "三", "hundred": "", "and": "", "forty": "四"},
        **{"thousand": "", "yuan": "元"},
    }
    assert [o for o, part in zip(found.origins, found.parts, strict=True) if part == "year"] == [(0,), (1,), (2,), (3,)]
    assert found.origins[0] == (11,)  # of two 三 the weekday's,
    assert found.origins[10] == (17,)  # and the amount's
    assert found.parts == ["weekday", "day", "month", *["year"] * 4, "", *["amount"] * 8]


@pytest.mark.parametrize("form", [*TRAINED, *UNSEEN])
def test_changing_what_a_word_comes_from_changes_the_word(form):
    """The alignment is not only plausible: of two examples that differ in one part, only that part's words differ."""
    first = example(date(2021, 3, 4), 4_210_000, form)
    others = {
        "year": (date(2010, 3, 4), 4_210_000),
        "month": (date(2021, 6, 4), 4_210_000),
        "day": (date(2021, 3, 5), 4_210_000),
        "amount": (date(2021, 3, 4), 7_350_000),
    }
    for part, (day, amount) in others.items():
        other = example(day, amount, form)
        assert len(other.source) == len(first.source)
        changed = {place for place, (a, b) in enumerate(zip(first.source, other.source, strict=True)) if a != b}
        allowed = {
            place for of, o in zip(first.parts, first.origins, strict=True) if of in (part, "weekday") for place in o
        }
        assert changed
        assert changed <= allowed
        differ = {of for of, a, b in zip(first.parts, first.target, other.target, strict=False) if a != b}
        assert part in differ
        assert differ <= {part, "weekday"}


def test_digits_of_an_amount_come_from_characters_of_the_same_value():
    values = dict(zip("一二三四五六七八九十", range(1, 11), strict=True))
    for found in draw(300, seed=5, digits=LONG):
        for word, origin in zip(found.target, found.origins, strict=True):
            if word in SMALL:
                digits = [values[found.source[place]] % 10 or 1 for place in origin]
                assert "".join(map(str, digits)) == str(SMALL[word]).rstrip("0")


def test_held_out_days_and_amounts_are_never_trained_on():
    def names(examples):
        return {" ".join(e.target[-99 : e.target.index(":")][-6:]) for e in examples}, {numeral_of(e) for e in examples}

    trained, kept = draw(5_000, seed=0), draw(300, seed=1, held_out=True)
    assert len({e.source for e in kept}) > 290
    for of_training, of_tests in zip(names(trained), names(kept), strict=True):
        assert not of_training & of_tests


def test_forms_and_digits_are_drawn_as_asked():
    found = draw(1_000, seed=0)
    forms = [sum(mark in e.source for e in found) for mark in ("星", "/", "-", "〇")]
    assert min(forms) > 90
    lengths = [len(str(cn2an(numeral_of(e), "normal")).rstrip("0")) for e in found]
    assert set(lengths) == {1, 2, 3, 4}
    assert all(100 <= cn2an(numeral_of(e), "normal") < 10**8 for e in found)
    assert any(len(str(cn2an(numeral_of(e), "normal")).rstrip("0")) == 8 for e in draw(50, seed=0, digits=LONG))
    assert all("周" in e.source for e in draw(20, seed=0, forms=UNSEEN))


def test_everything_that_is_drawn_is_in_the_vocabularies():
    languages = vocabularies()
    for digits in (dates.ROUND, LONG):
        for found in draw(2_000, seed=7, forms=(*TRAINED, *UNSEEN), digits=digits):
            source, target = pair(found, languages)
            assert languages[0].decode(source) == list(found.source)
            assert languages[1].decode(target) == found.target
            assert len(found.target) == len(found.origins) == len(found.parts)
            assert {*found.parts} - {""} <= {*PARTS}
    with pytest.raises(ValueError, match="亿"):
        languages[0].encode("三亿元")
