"""For each image the text with the nearest direction."""

import math

import numpy as np
import torch
from torch.nn import functional as F

LABEL = "ex-modalities-nearest"
NAME = "nearest"

N, M, D = 5, 7, 3


def check(function):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        images, texts = generator.normal(size=(N, D)), generator.normal(size=(M, D))
        images, texts = (x * 10 ** generator.uniform(-2, 2, size=(len(x), 1)) for x in (images, texts))
        found = function(torch.tensor(images), torch.tensor(texts))
        assert isinstance(found, torch.Tensor), f"expected a tensor, got {type(found).__name__}"
        assert tuple(found.shape) == (N,), f"one text for each image: expected {(N,)}, got {tuple(found.shape)}"
        for place, image in enumerate(images):
            angles = [math.acos(image @ text / math.hypot(*image) / math.hypot(*text)) for text in texts]
            right = min(range(M), key=lambda text: angles[text])
            assert int(found[place]) == right, f"image {place}: expected text {right}, got {int(found[place])}"


def _wrong(*, images=F.normalize, texts=F.normalize, choose=lambda scores: scores.argmax(1)):
    return lambda one, other: choose(images(one) @ texts(other).T)


WRONG = {
    "dot products": _wrong(images=lambda x: x, texts=lambda x: x),
    "texts not divided by their length": _wrong(texts=lambda x: x),
    "the image for each text": _wrong(choose=lambda scores: scores.argmax(0)),
    "the farthest": _wrong(choose=lambda scores: scores.argmin(1)),
    "any of the two directions": _wrong(choose=lambda scores: scores.abs().argmax(1)),
    "divided by the sum": _wrong(texts=lambda x: x / x.sum(1, keepdim=True)),
    "divided by the square of the length": _wrong(texts=lambda x: x / (x**2).sum(1, keepdim=True)),
    "each number divided over the texts": _wrong(texts=lambda x: F.normalize(x, dim=0)),
    "all divided by one length": _wrong(texts=lambda x: x / x.norm()),
    "the nearest point": lambda images, texts: torch.cdist(images, texts).argmin(1),
    "the scores": _wrong(choose=lambda scores: scores.amax(1)),
}
