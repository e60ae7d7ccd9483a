"""Handwritten digits, real scans that scikit-learn ships: split by who wrote them, alone or lost on a canvas.

The 1,797 scans stand in the order in which forms were filled in. Each form asks for the same digits in the same order,
0 to 9 three times and then a hundred others; a few are missing. So the labels alone tell where a form begins, and there
are 14. The data set's description counts 13 writers. It is assumed that one person filled in one form. Nobody wrote
down who: if one filled in two, they may stand on both sides of a split.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib.lab.tasks import Batch
from attnlib.masks import Mask
from attnlib.transformer import Encoder

try:
    from sklearn.datasets import load_digits
except ModuleNotFoundError as missing:
    raise ImportError("attnlib.lab.digits needs scikit-learn: pip install 'attnlib[lab]'") from missing

SIDE = 8  # pixels of a scan
MARGIN = 4  # pixels on the left of a list, where the tick stands
FORM = re.compile("0?1234567890123456")  # the beginning of a form: no other place counts up twice without a break
HELD_OUT = 4  # the last forms of the file are kept for tests: no random split, which would share writers


@dataclass(frozen=True)
class Scans:
    """Images (N, 8, 8) from 0 (paper) to 1 (ink), their labels (N,), and the form that each stands on (N,).

    >>> from attnlib.lab.digits import scans
    >>> everything = scans()
    >>> everything.images.shape, int(everything.forms.max()) + 1
    (torch.Size([1797, 8, 8]), 14)
    """

    images: Tensor
    labels: Tensor
    forms: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, kept: Tensor) -> "Scans":
        """Return some scans: those where a bool tensor (N,) is True, or those at some places."""
        return Scans(self.images[kept], self.labels[kept], self.forms[kept])

    @property
    def training(self) -> "Scans":
        """The scans of all forms but the last four."""
        return self.where(self.forms <= self.forms.max() - HELD_OUT)

    @property
    def held_out(self) -> "Scans":
        """The scans of the last four forms."""
        return self.where(self.forms > self.forms.max() - HELD_OUT)


@lru_cache(maxsize=1)
def scans() -> Scans:
    """Return all scans, in float64, in the order of the file."""
    found = load_digits()
    labels = "".join(map(str, found.target))
    begins = [match.start() for match in FORM.finditer(labels)]
    forms = np.searchsorted(begins, np.arange(len(labels)), side="right") - 1
    return Scans(torch.tensor(found.images) / 16, torch.tensor(found.target), torch.tensor(forms))


@dataclass(frozen=True)
class Alone:
    """One scan an image: what :func:`attnlib.lab.training.train` draws from.

    Attributes:
        training: the scans to train on.
        testing: the scans to test with.
        shift: how many pixels a training image is moved at most, in each direction.

    >>> import torch
    >>> from attnlib.lab.digits import Alone, scans
    >>> task = Alone(scans().training, scans().held_out)
    >>> batch = task.draw(5, torch.Generator().manual_seed(0))
    >>> batch.inputs[0].shape, batch.target.shape
    (torch.Size([5, 8, 8]), torch.Size([5, 1]))
    """

    training: Scans
    testing: Scans
    shift: int = 1

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return ``count`` training images, each moved at random."""
        rows = torch.randint(len(self.training), (count,), generator=generator)
        padded = F.pad(self.training.images[rows], [self.shift] * 4)
        down, right = torch.randint(2 * self.shift + 1, (2, count), generator=generator)
        images = padded[_window(down, right, SIDE)].to(torch.get_default_dtype())
        return Batch((images,), self.training.labels[rows, None])

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return all scans to test with, as they are, whatever the ``count``."""
        return [Batch((self.testing.images.to(torch.get_default_dtype()),), self.testing.labels[:, None])]


@dataclass(frozen=True)
class Lists:
    """Images of digits below each other, one of them ticked in the margin.

    Attributes:
        images: (B, size, size), a line every 8 pixels; the margin is 4 pixels wide.
        labels: (B, lines), the digit on each line.
        columns: (B, lines), the first pixel column of each digit.
        ticked: (B,), which line is asked.
    """

    images: Tensor
    labels: Tensor
    columns: Tensor
    ticked: Tensor

    @property
    def batch(self) -> Batch:
        """What a model reads and should say: the ticked digit."""
        return Batch((self.images,), self.labels.gather(1, self.ticked[:, None]))

    def on_digit(self, patch: int) -> Tensor:
        """Return the share of each patch that is filled by the digit of each line: (B, lines, patches).

        >>> import torch
        >>> from attnlib.lab.digits import Ticked, scans
        >>> drawn = Ticked(scans().training, scans().held_out).place(1, torch.Generator().manual_seed(0))
        >>> drawn.on_digit(4).sum(2)  # 8 by 8 pixels are four patches of 4 by 4
        tensor([[4., 4., 4.]])
        """
        B, lines = self.labels.shape
        boxes = torch.zeros(B * lines, *self.images.shape[1:])
        rows = SIDE * torch.arange(lines).expand(B, lines)
        boxes[_window(rows.flatten(), self.columns.flatten(), SIDE)] = 1
        return F.avg_pool2d(boxes[:, None], patch).view(B, lines, -1)


@dataclass(frozen=True)
class Ticked:
    """Digits on lines, at any place along the line, and a tick in the margin: name the digit on the ticked line.

    Attributes:
        training: the scans to train on.
        testing: the scans to test with.
        lines: how many digits an image has; the image is 8 times as high, and as wide.
        step: a digit begins at multiples of so many pixels.
        offset: by how many pixels all digits are moved to the right.

    >>> import torch
    >>> from attnlib.lab.digits import Ticked, scans
    >>> task = Ticked(scans().training, scans().held_out)
    >>> task.draw(5, torch.Generator().manual_seed(0)).inputs[0].shape
    torch.Size([5, 24, 24])
    """

    training: Scans
    testing: Scans
    lines: int = 3
    step: int = 4
    offset: int = 0

    @property
    def size(self) -> int:
        """The side of an image in pixels."""
        return SIDE * self.lines

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Return lists to train on."""
        return self.place(count, generator).batch

    def tests(self, count: int, generator: torch.Generator) -> list[Batch]:
        """Return lists made of the scans to test with."""
        return [self.place(count, generator, held_out=True).batch]

    def place(self, count: int, generator: torch.Generator, *, held_out: bool = False) -> Lists:
        """Return lists, and where everything stands on them."""
        source = self.testing if held_out else self.training
        rows = torch.randint(len(source), (count, self.lines), generator=generator)
        places = (self.size - MARGIN - SIDE - self.offset) // self.step + 1
        columns = self.step * torch.randint(places, (count, self.lines), generator=generator)
        columns = columns + MARGIN + self.offset
        ticked = torch.randint(self.lines, (count,), generator=generator)
        images = torch.zeros(count, self.size, self.size, dtype=source.images.dtype)
        for line in range(self.lines):
            top = torch.full((count,), SIDE * line)
            images[_window(top, columns[:, line], SIDE)] = source.images[rows[:, line]]
        images[_window(SIDE * ticked + 2, torch.zeros_like(ticked), MARGIN)] = 1
        return Lists(images.to(torch.get_default_dtype()), source.labels[rows], columns, ticked)


def _window(rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the index of a square in each image (B, side, side); its first pixels are at ``rows`` and ``columns``."""
    offsets = torch.arange(side)
    images = torch.arange(len(rows))[:, None, None]
    return images, rows[:, None, None] + offsets[:, None], columns[:, None, None] + offsets


class VisionTransformer(nn.Module):
    """Patches as tokens, and one token more that reads them (Dosovitskiy et al., 2021).

    Args:
        size: the side of the images in pixels.
        patch: the side of a patch in pixels.
        mean: name the digit from the mean of the patches' tokens instead of from the class token.
        sizes: those of :class:`attnlib.transformer.Encoder`.

    >>> import torch
    >>> from attnlib.lab.digits import VisionTransformer
    >>> model = VisionTransformer(8, 2, num_layers=1, d_model=8, num_heads=2, d_ff=16)
    >>> model(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 1, 10])
    """

    def __init__(self, size: int, patch: int, *, d_model: int, mean: bool = False, **sizes: Any):
        super().__init__()
        self.size, self.patch, self.mean = size, patch, mean
        self.project = nn.Linear(patch**2, d_model)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.positions = nn.Parameter(0.5 * torch.randn(1 + (size // patch) ** 2, d_model))
        self.encoder = Encoder(d_model=d_model, **sizes)
        self.output = nn.Linear(d_model, 10)

    def forward(self, images: Tensor, mask: Mask | Tensor | None = None) -> Tensor:
        """Images (B, size, size) → logits (B, 1, 10).

        Args:
            images: from 0 (paper) to 1 (ink).
            mask: which tokens may attend to which; the class token is token 0.

        Raises:
            ValueError: if the images have another size, or pixels are no numbers.
        """
        check_images(images, self.size)
        patches = F.unfold(images[:, None], self.patch, stride=self.patch).mT  # (B, N, patch²)
        x = self.project(3 * patches)  # times 3: ink then weighs as much as positions
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = self.encoder(x + self.positions, mask)
        return self.output(x[:, 1:].mean(1, keepdim=True) if self.mean else x[:, :1])


def check_images(images: Tensor, size: int) -> None:
    """Check that images are (B, size, size) and that every pixel is a number from 0 to 1.

    >>> import torch
    >>> from attnlib.lab.digits import check_images
    >>> check_images(torch.zeros(3, 8, 9), 8)
    Traceback (most recent call last):
    ValueError: images: expected (B, 8, 8), got (3, 8, 9)
    """
    if images.dim() != 3 or images.shape[1:] != (size, size):
        raise ValueError(f"images: expected (B, {size}, {size}), got {tuple(images.shape)}")
    if not bool(((images >= 0) & (images <= 1)).all()):
        wrong = images[~((images >= 0) & (images <= 1))][0].item()
        raise ValueError(f"images: expected pixels from 0 (paper) to 1 (ink), got {wrong:g}")


class ConvNet(nn.Module):
    """Three convolutions over 3 by 3 pixels, the largest response anywhere, a linear map: no attention.

    Args:
        width: the channels of the widest layer.

    >>> import torch
    >>> from attnlib.lab.digits import ConvNet
    >>> ConvNet(8)(torch.zeros(3, 24, 24)).shape
    torch.Size([3, 1, 10])
    """

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width // 2, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.output = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, size, size) → logits (B, 1, 10)."""
        return self.output(self.body(images[:, None]).amax((2, 3)))[:, None]
