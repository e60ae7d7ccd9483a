"""Digits on a canvas of cells, and questions in words about what stands beside one of them.

Different digits, scans of :mod:`attnlib.lab.digits`, stand in the nine cells A1 to C3 of a canvas. A question has two
tokens. *left of*, *seven* asks which digit stands left of the seven; *where is*, *seven* asks for its cell; *what is
in*, *B2* for the digit in a cell. The answer may be none: where the cell is empty, or there is no cell. Scans are held
out by form, and four pairs of a digit and a side are never asked in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlib.lab.digits import SIDE, Scans, check_images
from attnlib.lab.tasks import Batch
from attnlib.lab.words import Vocabulary

ACROSS = 3  # cells in a row, and rows
SIZE = ACROSS * SIDE  # pixels
DIGITS = 6  # on a canvas that is tested with: on nine cells two of six are always neighbours
EMPTY = -1  # what stands in a cell without a digit, or beyond the canvas
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CELLS = tuple(f"{column}{row}" for row in "123" for column in "ABC")
SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}  # rows down, columns right
NONE = 10  # answers below it are digits, those above it cells
ANSWERS = (*"0123456789", "none", *CELLS)
NOTHING_THERE = 0.2  # the share of questions about a side that are answered with none
NEVER_ASKED = ((7, 0), (4, 1), (2, 2), (9, 3))  # pairs of a digit and a side that are kept from training

BESIDE, WHERE, WHAT = range(3)  # the kinds of questions
QUESTIONS = (
    *((side, number) for number in NUMBERS for side in SIDES),
    *(("where is", number) for number in NUMBERS),
    *(("what is in", cell) for cell in CELLS),
)
FIRST = (0, 40, 50)  # the place of the first question of each kind
VOCABULARY = Vocabulary(word for question in QUESTIONS for word in question)


def as_tokens(questions: Sequence[Sequence[str]]) -> Tensor:
    """Return the tokens of questions, (B, 2).

    Raises:
        ValueError: if a word is not in the vocabulary; the message names it.

    >>> from attnlib.lab.canvas import as_tokens
    >>> as_tokens([["left of", "seven"]]).shape
    torch.Size([1, 2])
    """
    return torch.tensor([VOCABULARY.encode(words) for words in questions])


TOKENS = as_tokens(QUESTIONS)


def neighbours(labels: Tensor) -> Tensor:
    """Return what stands on each side of each cell: labels (B, cells) → (B, cells, sides); EMPTY beyond the canvas.

    >>> import torch
    >>> from attnlib.lab.canvas import neighbours
    >>> neighbours(torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]]))[0, 4].tolist()  # left, right, above, below
    [4, 6, 2, 8]
    """
    edged = F.pad(labels.view(-1, ACROSS, ACROSS), [1] * 4, value=EMPTY)
    moved = (edged[:, 1 + down : 1 + down + ACROSS, 1 + right : 1 + right + ACROSS] for down, right in SIDES.values())
    return torch.stack([looked_at.flatten(1) for looked_at in moved], dim=2)


@dataclass(frozen=True)
class Canvases:
    """Canvases with a question each.

    Attributes:
        images: (B, 24, 24), from 0 (paper) to 1 (ink).
        labels: (B, 9), the digit in each cell, or EMPTY.
        cell: (B,), the cell of the digit that the question names; of a question about a cell, that cell.
        asked: (B,), which of ``QUESTIONS`` is asked.
        answer: (B,), which of ``ANSWERS`` is right.
    """

    images: Tensor
    labels: Tensor
    cell: Tensor
    asked: Tensor
    answer: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def words(self) -> Tensor:
        """The tokens of the questions, (B, 2)."""
        return TOKENS[self.asked]

    @property
    def answer_cell(self) -> Tensor:
        """The cell that a question about a side asks for, (B,), or EMPTY beyond the canvas."""
        cells = torch.arange(ACROSS**2)[None]
        return neighbours(cells)[0, self.cell, self.asked % len(SIDES)]

    @property
    def batch(self) -> Batch:
        """What a model reads and should say."""
        return Batch((self.images, self.words), self.answer[:, None])

    def where(self, kept: Tensor) -> "Canvases":
        """Return some: those where a bool tensor (B,) is True, or those at some places."""
        return Canvases(*(getattr(self, field.name)[kept] for field in fields(self)))


@dataclass(frozen=True)
class Asked:
    """The task: canvases and questions, what :func:`attnlib.lab.training.train` draws from.

    Training canvases have one to six digits, each number as often as another.

    Attributes:
        training: the scans to train on; each is moved by a pixel at most, in each direction.
        testing: the scans to test with, as they are.
        easy: the share of training questions that ask where a digit is, or what is in a cell, half of them each.

    >>> import torch
    >>> from attnlib.lab.canvas import Asked
    >>> from attnlib.lab.digits import scans
    >>> task = Asked(scans().training, scans().held_out)
    >>> (images, words), target = task.draw(5, torch.Generator().manual_seed(0))
    >>> images.shape, words.shape, target.shape
    (torch.Size([5, 24, 24]), torch.Size([5, 2]), torch.Size([5, 1]))
    """

    training: Scans
    testing: Scans
    easy: float = 0.5

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return canvases with questions of all kinds, from scans to train on."""
        labels = arranged(count, 1, generator)
        canvases = ask(labels, self.show(labels, generator), generator)
        occupied = labels != EMPTY
        each = round(count * self.easy / 2)
        cell = canvases.cell.clone()
        asked, answer = canvases.asked.clone(), canvases.answer.clone()
        where, what = slice(each), slice(each, 2 * each)
        cell[where] = (occupied * torch.rand(occupied.shape, generator=generator)).argmax(1)[where]
        cell[what] = torch.randint(ACROSS**2, (count,), generator=generator)[what]
        there = labels.gather(1, cell[:, None])[:, 0]
        asked[where], answer[where] = FIRST[WHERE] + there[where], NONE + 1 + cell[where]
        asked[what], answer[what] = FIRST[WHAT] + cell[what], there.where(there != EMPTY, NONE)[what]
        return Canvases(canvases.images, labels, cell, asked, answer).batch

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return canvases of the scans to test with, and questions about a side that are asked in training, too."""
        return [self.place(count, generator).batch]

    def place(self, count: int, generator: torch.Generator, *, never_asked: bool = False) -> Canvases:
        """Return canvases of six held-out scans, each with a question about a side.

        Args:
            count: B, how many.
            generator: where chance comes from.
            never_asked: whether to ask only what is never asked in training; else only what is.
        """
        labels = arranged(2 * count, DIGITS, generator)
        labels = labels[may_ask(labels, never_asked=never_asked).flatten(1).any(1)][:count]
        return ask(labels, self.show(labels, generator, held_out=True), generator, never_asked=never_asked)

    def show(self, labels: Tensor, generator: torch.Generator, *, held_out: bool = False) -> Tensor:
        """Return images (B, 24, 24) of the digits in cells, labels (B, 9), each of a scan drawn at random."""
        source = self.testing if held_out else self.training
        order, counts = source.labels.argsort(stable=True), source.labels.bincount(minlength=10)
        lot = torch.rand(labels.shape, generator=generator)
        digit = labels.clamp(min=0)
        rows = order[(counts.cumsum(0) - counts)[digit] + (lot * counts[digit]).long()]
        tiles = source.images[rows] * (labels != EMPTY)[:, :, None, None]
        if not held_out:
            down, right = torch.randint(3, (2, *labels.shape, 1, 1), generator=generator)
            inside = torch.arange(SIDE)
            b, c = torch.arange(len(labels))[:, None, None, None], torch.arange(ACROSS**2)[:, None, None]
            tiles = F.pad(tiles, [1] * 4)[b, c, down + inside[:, None], right + inside]
        images = F.fold(tiles.flatten(2).mT, (SIZE, SIZE), SIDE, stride=SIDE)[:, 0]
        return images.to(torch.get_default_dtype())


def arranged(count: int, fewest: int, generator: torch.Generator) -> Tensor:
    """Return labels (B, 9) of canvases: some different digits, at least ``fewest`` and at most six, in some cells."""
    digits = torch.rand(count, 10, generator=generator).argsort(1)[:, :DIGITS]
    cells = torch.rand(count, ACROSS**2, generator=generator).argsort(1)[:, :DIGITS]
    number = torch.randint(fewest, DIGITS + 1, (count, 1), generator=generator)
    digits = digits.masked_fill(torch.arange(DIGITS) >= number, EMPTY)
    return torch.full((count, ACROSS**2), EMPTY).scatter(1, cells, digits)


def may_ask(labels: Tensor, *, never_asked: bool) -> Tensor:
    """Return which digits and sides a question may name, bool (B, cells, sides): never asked in training, or asked."""
    kept = torch.zeros(11, len(SIDES), dtype=torch.bool)  # the last row: an empty cell
    for digit, side in NEVER_ASKED:
        kept[digit, side] = True
    return (kept[labels] == never_asked) & (labels != EMPTY)[:, :, None]


def ask(labels: Tensor, images: Tensor, generator: torch.Generator, *, never_asked: bool = False) -> Canvases:
    """Return canvases with a question about a side of a digit that is there.

    A fifth of the questions, drawn by lot, is to have the answer none; so have all on canvases without two neighbours,
    and none where everything that may be asked has a neighbour.
    """
    beside = neighbours(labels)  # (B, cells, sides)
    may = may_ask(labels, never_asked=never_asked)
    nothing = torch.rand(len(labels), 1, 1, generator=generator) < NOTHING_THERE
    wanted = may & ((beside == EMPTY) == nothing)
    may = wanted.where(wanted.flatten(1).any(1)[:, None, None], may)
    chosen = (may * torch.rand(may.shape, generator=generator)).flatten(1).argmax(1)
    cell, side = chosen // len(SIDES), chosen % len(SIDES)
    of_image = torch.arange(len(labels))
    there = beside[of_image, cell, side]
    asked = len(SIDES) * labels[of_image, cell] + side
    return Canvases(images, labels, cell, asked, there.where(there != EMPTY, NONE))


def check_inputs(images: Tensor, words: Tensor) -> None:
    """Check that images are canvases, and that there is a question of two tokens for each.

    >>> import torch
    >>> from attnlib.lab.canvas import as_tokens, check_inputs
    >>> check_inputs(torch.zeros(2, 24, 24), as_tokens([["left of", "seven"]]))
    Traceback (most recent call last):
    ValueError: words: expected (2, 2), a question for each image, got (1, 2)
    """
    check_images(images, SIZE)
    if words.shape != (len(images), 2):
        raise ValueError(f"words: expected ({len(images)}, 2), a question for each image, got {tuple(words.shape)}")
