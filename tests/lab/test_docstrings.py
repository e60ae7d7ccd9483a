"""Docstrings as real summaries: read from source, cut at the right places; a pointer learns what there is to learn."""

from random import Random

import pytest
import torch

from attnlib.lab import docstrings, stored
from attnlib.lab.docstrings import Docstring

ROW = stored.load("summarisation")["rows"]["docstrings"]
FOUR = "One is here. Two is there. Three is not. Four is `x`."


@pytest.mark.parametrize(
    ("docstring", "count"),
    [
        (FOUR, 4),
        ("Sum.\n\nParameters\n----------\nx : array\n    It. And.", 1),
        ("Sum.\n\nArgs:\n    x: a number. Another.", 1),
        ("Sum it.\nThen. :param is no sentence.", 1 + 1),
        ("Sum it.\n\n:param x: a number. Another.", 1),
        ("Sum it.\n\n>>> f(1)\n2. Yes.", 1),
        ("Use e.g. the sum. It is, i.e. it was, 3.5 of all.", 2),
        ("Sum it.\n\n- One. Two.\n- Three.", 1),
        ("", 0),
    ],
)
def test_sentences_are_cut_where_prose_ends(docstring, count):
    found = docstrings.sentences(docstring)
    assert len(found) == count
    assert all(sentence in " ".join(docstring.split()) for sentence in found)


def test_a_package_is_read_and_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "some_package_of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.py").write_text(
        f'def f():\n    """{FOUR}"""\n\nclass C:\n    """{FOUR}"""\n    def g(self): "Short."'
    )
    (package / "b.py").write_text("def broken(:")
    (package / "test_c.py").write_text('def f():\n    """A is. B is. C is. D is."""')
    monkeypatch.syspath_prepend(tmp_path)
    [found] = docstrings.docstrings("some_package_of_ours")  # each text once
    assert found == Docstring(
        "some_package_of_ours.a.f", ("One is here.", "Two is there.", "Three is not.", "Four is `x`.")
    )
    with pytest.raises(ValueError, match="package: expected an installed package, got 'no_such_package'"):
        docstrings.docstrings("no_such_package")


def test_as_many_are_read_as_were_stored():
    assert len(docstrings.docstrings("sphinx")) == ROW["docstrings"]["sphinx"]


def some(count):
    """Docstrings whose summary says `sum`, and is neither the shortest nor the first."""
    random = Random(0)
    for number in range(count):
        others = [" ".join(random.choices(["tea", "cake", "milk", "salt"], k=random.randrange(1, 6))) for _ in range(4)]
        yield Docstring(
            f"f{number}", ("sum of tea and cake", *(f"{other} {place}" for place, other in enumerate(others)))
        )


def test_shuffling_keeps_the_place_of_the_summary():
    found = list(some(50))
    told, places = docstrings.shuffled(found, Random(1))
    assert len(set(places)) == 5
    for sentences, place, one in zip(told, places, found, strict=True):
        assert sentences[place] == one.sentences[0]
        assert sorted(sentences) == sorted(one.sentences)


@pytest.mark.parametrize("attends", [True, False])
def test_a_pointer_learns_which_word_a_summary_has(attends):
    found = list(some(60))
    model = docstrings.fit(found[:40], seed=0, attends=attends, steps=60).eval()
    told, places = docstrings.shuffled(found[40:], Random(1))
    log_p = model(told)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(20))
    assert (log_p.argmax(-1) == torch.tensor(places)).double().mean() > 0.9
    short = model([told[0][:3]])
    assert torch.allclose(short, model([told[0][:3], told[1]])[:1, :3], atol=1e-5)  # padding is not read


def test_sentences_attend_to_each_other_only_where_they_may():
    found = list(some(20))
    for attends in (True, False):
        model = docstrings.fit(found, seed=0, attends=attends, steps=3).eval()
        one, other = (model([["sum of tea", "tea 1", last]])[0] for last in ("cake 2", "milk of sum"))
        assert torch.allclose(one[0] - one[1], other[0] - other[1], atol=1e-6) is not attends


def test_rules_need_no_learning():
    common = Docstring(
        "a.b",
        tuple(
            f"The {word}" for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        ),
    )
    rules = docstrings.rules([common])
    assert rules["shortest"](["tea and cake", "tea", "milk tea"]) == 1
    # What is rare decides: counted alike, *the* would make "the cat" the nearest to all.
    assert rules["centroid"](["the cat", "the dog", "cat dog", "the bird"]) == 2


def test_what_is_stored_says_what_the_chapter_says():
    seeds = {name: ROW[name] for name in ("each alone", "attending")}
    assert all(len(values) == 3 for values in seeds.values())
    assert min(min(values) for values in seeds.values()) > ROW["shortest"][0] + 0.15
    assert ROW["shortest"][0] > ROW["random"][0] + 0.2
    assert sum(ROW["example"]["p"]) == pytest.approx(1, abs=1e-3)
