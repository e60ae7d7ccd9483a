"""Canvases of digits and the questions about them: the answers, the split, what is drawn."""

import pytest
import torch

from attnlib.lab import canvas
from attnlib.lab.canvas import ANSWERS, CELLS, EMPTY, NEVER_ASKED, NONE, NUMBERS, QUESTIONS, SIDES, VOCABULARY, Asked
from attnlib.lab.digits import scans

pytestmark = pytest.mark.usefixtures("in_float64")

STEPS = {"left of": -1, "right of": 1, "above": -3, "below": 3}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def task(**how):
    return Asked(scans().training, scans().held_out, **how)


def tiles(image):
    """The nine cells of an image, cut by slices."""
    return [image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] for row in range(3) for column in range(3)]


def looked_up(labels, opener, word):
    """The answer to a question, by names of cells."""
    there = {cell: digit for cell, digit in zip(CELLS, labels, strict=True) if digit != EMPTY}
    if opener == "what is in":
        return str(there.get(word, "none"))
    (at,) = (cell for cell, digit in there.items() if NUMBERS[digit] == word)
    if opener == "where is":
        return at
    column, row = "ABC".index(at[0]), int(at[1])
    right, down = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[opener]
    if not 0 <= column + right < 3:
        return "none"
    return str(there.get(f"{'ABC'[column + right]}{row + down}", "none"))


def test_a_canvas_that_was_read_by_eye():
    labels = torch.tensor([[7, 2, EMPTY, 0, EMPTY, 5, EMPTY, 9, 1]])
    beside = canvas.neighbours(labels)[0].tolist()
    assert list(SIDES) == ["left of", "right of", "above", "below"]
    assert beside[0] == [EMPTY, 2, EMPTY, 0]
    assert beside[2] == [2, EMPTY, EMPTY, 5]
    assert beside[4] == [0, 5, 2, 9]
    assert beside[8] == [9, EMPTY, 5, EMPTY]


@pytest.mark.parametrize("never_asked", [False, True])
def test_tests_have_six_digits_and_the_answer_that_stands_there(never_asked):
    canvases = task().place(500, generator(), never_asked=never_asked)
    asked = set()
    for labels, words, answer in zip(canvases.labels.tolist(), canvases.words, canvases.answer, strict=True):
        assert len({digit for digit in labels if digit != EMPTY}) == 6
        assert labels.count(EMPTY) == 3
        opener, number = VOCABULARY.decode(words)
        assert looked_up(labels, opener, number) == ANSWERS[answer]
        asked.add((NUMBERS.index(number), list(SIDES).index(opener)))
    assert (asked <= set(NEVER_ASKED)) == never_asked
    assert bool(asked & set(NEVER_ASKED)) == never_asked


def test_a_fifth_is_answered_with_none():
    canvases = task().place(4_000, generator())
    assert (canvases.answer == NONE).double().mean().item() == pytest.approx(0.2, abs=0.02)
    _, answer = task(easy=0.0).draw(4_000, generator())
    assert (answer == NONE).double().mean().item() == pytest.approx(0.47, abs=0.03)


def test_training_asks_all_kinds_and_never_what_is_kept(monkeypatch):
    seen = {}

    def show(self, labels, generator, held_out=False):
        seen["labels"], seen["held out"] = labels, held_out
        return torch.zeros(len(labels), 24, 24)

    monkeypatch.setattr(Asked, "show", show)
    (_, words), answer = task(easy=0.5).draw(800, generator())
    assert seen["held out"] is False
    assert {len([d for d in labels if d != EMPTY]) for labels in seen["labels"].tolist()} == {1, 2, 3, 4, 5, 6}
    kinds = {}
    for labels, tokens, right in zip(seen["labels"].tolist(), words, answer[:, 0], strict=True):
        opener, word = VOCABULARY.decode(tokens)
        assert looked_up(labels, opener, word) == ANSWERS[right]
        kind = opener if opener in ("where is", "what is in") else "beside"
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind == "beside":
            assert (NUMBERS.index(word), list(SIDES).index(opener)) not in NEVER_ASKED
    assert kinds == {"where is": 200, "what is in": 200, "beside": 400}


def test_cells_hold_scans_of_the_right_digit_and_of_the_right_split():
    canvases = task().place(20, generator())
    kept = scans().held_out
    for image, labels in zip(canvases.images, canvases.labels.tolist(), strict=True):
        for tile, digit in zip(tiles(image), labels, strict=True):
            same = kept.labels[(kept.images == tile).all(-1).all(-1)].tolist()
            assert same == [digit] if digit != EMPTY else not tile.any()


def test_training_scans_are_moved_by_a_pixel_at_most():
    labels = torch.tensor([[3, EMPTY, 8, 1, 2, EMPTY, 0, 9, 7]]).repeat(5, 1)
    source, moves = scans().training, set()
    for image in task().show(labels, generator()):
        for tile, digit in zip(tiles(image), labels[0].tolist(), strict=True):
            if digit == EMPTY:
                assert not tile.any()
                continue
            of_digit = torch.nn.functional.pad(source.images[source.labels == digit], [1] * 4)
            found = [
                (down, right)
                for down in range(3)
                for right in range(3)
                if (of_digit[:, down : down + 8, right : right + 8] == tile).all(-1).all(-1).any()
            ]
            assert found
            moves.update(found)
    assert len(moves) == 9


def test_the_cell_of_the_answer():
    canvases = task().place(300, generator(3))
    for cell, asked, place in zip(canvases.cell.tolist(), canvases.asked, canvases.answer_cell.tolist(), strict=True):
        step = STEPS[QUESTIONS[asked][0]]
        inside = 0 <= cell + step < 9 and (abs(step) == 3 or cell // 3 == (cell + step) // 3)
        assert place == (cell + step if inside else EMPTY)


def test_the_same_seed_draws_the_same_and_another_does_not():
    (first, again, other) = (task().draw(7, generator(seed)).inputs[0] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_bad_input_is_said():
    with pytest.raises(ValueError, match="got 'beside'"):
        canvas.as_tokens([["beside", "seven"]])
    words = canvas.as_tokens([["left of", "seven"]])
    with pytest.raises(ValueError, match=r"images: expected \(B, 24, 24\), got \(1, 24, 32\)"):
        canvas.check_inputs(torch.zeros(1, 24, 32), words)
    with pytest.raises(ValueError, match=r"words: expected \(3, 2\), a question for each image, got \(1, 2\)"):
        canvas.check_inputs(torch.zeros(3, 24, 24), words)
