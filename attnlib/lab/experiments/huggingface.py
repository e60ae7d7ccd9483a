"""What the chapter on Hugging Face has no minute for: five seeds of a vision transformer that learns one person's hand.

Transformers' ``ViTForImageClassification``, on attnlib, learns digits from ten forms. Then it is tuned on the first
thirty digits of a form that it has not seen, and asked about the rest of that form; four times, from four forms. Beside
it stand the model before tuning, the same one trained from scratch on the thirty, and the nearest of the thirty in
pixels. Parameters are rounded after each step, so that all of it is the same on every processor.
"""

import os
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a download, and nothing shall wait for one

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from attnlib.interop import huggingface
from attnlib.lab.digits import Scans, scans
from attnlib.lab.training import Descent, float64

SEEDS = range(5)
OWN = 30  # digits at the beginning of a form: 0 to 9, three times, where none is missing
BATCH = 64
LEARN: dict[str, Any] = {"steps": 400, "rate": 6e-3}
TUNE: dict[str, Any] = {"steps": 60, "rate": 1e-3}
FROM_SCRATCH: dict[str, Any] = {"steps": 120, "rate": 6e-3}


def make(seed: int) -> ViTForImageClassification:
    """Return the untrained model: 16 patches of 2 by 2 pixels and a class token, two layers of four heads.

    >>> from attnlib.lab.experiments.huggingface import make
    >>> make(seed=0).config._attn_implementation
    'attnlib'
    """
    huggingface.register()
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10, "initializer_range": 0.1,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "attnlib",
    }  # fmt: skip
    return ViTForImageClassification(ViTConfig(**options))


def fit(
    model: ViTForImageClassification, images: Tensor, labels: Tensor, seed: int, *, steps: int, rate: float
) -> ViTForImageClassification:
    """Train the model on images (N, 1, 8, 8); return it, ready to be asked.

    >>> import torch
    >>> from attnlib.lab.experiments.huggingface import fit, make
    >>> from attnlib.lab.training import float64
    >>> with float64():
    ...     _ = fit(make(seed=0), torch.zeros(3, 1, 8, 8), torch.tensor([1, 2, 3]), 0, steps=2, rate=1e-3)
    """
    generator = torch.Generator().manual_seed(seed)
    descent = Descent(model.train(), steps=steps, rate=rate, warmup=20, fall_to_zero=True, decimals=5)
    for _ in range(steps):
        some = torch.randint(len(labels), (BATCH,), generator=generator)
        logits = model(pixel_values=images[some]).logits
        descent.step(F.cross_entropy(logits, labels[some]))
    return model.eval()


@torch.no_grad()
def right(model: ViTForImageClassification, images: Tensor, labels: Tensor) -> int:
    """Return how many images the model names right."""
    return int((model(pixel_values=images).logits.argmax(-1) == labels).sum())


def forms() -> list[tuple[Tensor, ...]]:
    """Return, of each form held out, the first thirty images and their labels, and the other images and theirs."""
    held_out = scans().held_out

    def parts(form: Scans) -> tuple[Tensor, ...]:
        images, labels = form.images[:, None], form.labels
        return images[:OWN], labels[:OWN], images[OWN:], labels[OWN:]

    return [parts(held_out.where(held_out.forms == form)) for form in held_out.forms.unique()]


@float64()
def row(seed: int) -> dict[str, list[int]]:
    """Return how many digits of each form are named right, and of how many."""
    everybody = scans().training
    learnt = fit(make(seed), everybody.images[:, None], everybody.labels, seed, **LEARN)
    found: dict[str, list[int]] = {"of": [], "before": [], "tuned": [], "from scratch": [], "nearest": []}
    for own, own_labels, rest, labels in forms():
        nearest = own_labels[torch.cdist(rest.flatten(1), own.flatten(1)).argmin(1)]
        tuned = fit(deepcopy(learnt), own, own_labels, seed, **TUNE)
        alone = fit(make(100 + seed), own, own_labels, seed, **FROM_SCRATCH)
        found["of"].append(len(labels))
        found["before"].append(right(learnt, rest, labels))
        found["tuned"].append(right(tuned, rest, labels))
        found["from scratch"].append(right(alone, rest, labels))
        found["nearest"].append(int((nearest == labels).sum()))
    return found


ROWS: dict[str, Callable[[], dict[str, list[int]]]] = {f"seed {seed}": partial(row, seed) for seed in SEEDS}
