"""See what a model attends to, without changing its code."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from attnlib.multihead import MultiHeadAttention

__all__ = ["Record", "record_attention"]


class Record(Mapping):
    """The weights of each attention layer by its name in the model: ``record[name]`` is (B, H, L, S).

    A layer that was called more than once shows its last call; :meth:`calls` has all.
    """

    def __init__(self):
        self._calls: dict[str, list[Tensor]] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._calls:
            raise KeyError(f"no weights for {name!r}; recorded: {', '.join(map(repr, self._calls)) or 'none'}")
        return self._calls[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def calls(self, name: str) -> tuple[Tensor, ...]:
        """Return the weights of every call of the layer, first to last; KeyError if there was none."""
        self[name]
        return tuple(self._calls[name])


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
    """Record the attention weights of every :class:`MultiHeadAttention` in ``model`` while the block runs.

    The layers compute their weights as if called with ``need_weights=True``; outputs stay the same, to the dtype's
    tolerance. When the block ends, by an error too, the model is as it was before.

    Raises
    ------
    ValueError: if the model holds no :class:`MultiHeadAttention`.
    TypeError: if it is no module.

    >>> import torch
    >>> model = nn.Sequential(MultiHeadAttention(num_heads=2, d_model=4))
    >>> with record_attention(model) as record:
    ...     _ = model(torch.randn(1, 3, 4))
    >>> record["0"].shape
    torch.Size([1, 2, 3, 3])
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    names: dict[MultiHeadAttention, list[str]] = {}  # a shared layer has several
    for name, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, MultiHeadAttention):
            names.setdefault(layer, []).append(name.removeprefix("_orig_mod."))
    if not names:
        raise ValueError(f"model: expected a model with a MultiHeadAttention, got {type(model).__name__} without one")
    record = Record()
    with ExitStack() as cleanup:
        # A compiled graph does not look at hooks again: it runs as plain PyTorch meanwhile.
        cleanup.enter_context(torch.compiler.set_stance("force_eager"))
        for layer, layer_names in names.items():
            cleanup.callback(setattr, layer, "attn", layer.attn)
            before = layer.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)
            after = layer.register_forward_hook(_keep_weights(record, layer_names))
            cleanup.callback(before.remove)
            cleanup.callback(after.remove)
        yield record


def _ask_for_weights(layer, args, kwargs):
    return args, {**kwargs, "need_weights": True}


def _keep_weights(record: Record, names: list[str]):
    def hook(layer, args, output):
        for name in names:
            record._calls.setdefault(name, []).append(layer.attn)

    return hook
