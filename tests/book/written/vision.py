"""Patches joined to pictures."""

import torch

LABEL = "ex-vision-unpatch"
NAME = "unpatched"


def check(function):
    for across, side, B in ((3, 2, 5), (2, 3, 2), (1, 4, 3), (5, 1, 2)):
        images = torch.arange(B * (across * side) ** 2.0).reshape(B, across * side, across * side)
        tokens = [[_patch(image, row, column, side) for row, column in _places(across)] for image in images.tolist()]
        joined = function(torch.tensor(tokens), side)
        assert isinstance(joined, torch.Tensor), f"expected a tensor, got {type(joined).__name__}"
        assert joined.shape == images.shape, f"expected {tuple(images.shape)}, got {tuple(joined.shape)}"
        wrong = (joined != images).double().mean().item()
        which = "which index counts rows of patches, which rows inside one?"
        assert not wrong, f"{wrong:.0%} of the pixels stand elsewhere: {which}"


def _places(across):
    return [(row, column) for row in range(across) for column in range(across)]


def _patch(image, row, column, side):
    lines = image[row * side : (row + 1) * side]
    return [pixel for line in lines for pixel in line[column * side : (column + 1) * side]]


def _wrong(*, order=(0, 1, 3, 2, 4), inner=False, outer=False):
    """What the exercise wants, with the four axes in another order."""

    def unpatched(tokens, side):
        B, N, _ = tokens.shape
        across = round(N**0.5)
        sizes = (side, side, across, across) if inner else (across, across, side, side)
        squares = tokens.reshape(B, *sizes)
        squares = squares.mT if outer else squares
        return squares.permute(order).reshape(B, across * side, across * side)

    return unpatched


WRONG = {
    "viewed": _wrong(order=(0, 1, 2, 3, 4)),
    "columns of patches first": _wrong(order=(0, 2, 3, 1, 4)),
    "pictures turned at their diagonal": _wrong(order=(0, 2, 4, 1, 3)),
    "patches turned at their diagonal": _wrong(order=(0, 1, 4, 2, 3)),
    "rows inside a patch first": _wrong(order=(0, 3, 1, 4, 2)),
    "side and number exchanged": _wrong(inner=True),
    "each patch transposed": _wrong(outer=True),
    "the first picture for all": lambda tokens, side: _wrong()(tokens[:1].expand_as(tokens), side),
    "upside down": lambda tokens, side: _wrong()(tokens.flip(1), side).flip(2),
}
