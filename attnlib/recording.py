"""See what a model attends to, without changing its code."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from attnlib.multihead import MultiHeadAttention

__all__ = ["Record", "record_attention"]


class Record(Mapping[str, Tensor]):
    """The weights of each attention layer by its name in the model: ``record[name]`` is (B, H, L, S).

    A layer that was called more than once shows its last call; :meth:`calls` has all.
    """

    def __init__(self) -> None:
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
        """Return the weights of every call of the layer, first to last.

        Raises:
            KeyError: if there was none.
        """
        self[name]
        return tuple(self._calls[name])


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
    """Record the attention weights of every :class:`MultiHeadAttention` in ``model`` while the block runs.

    The weights are those that ``need_weights=True`` gives. They are computed beside the output, which stays the same.
    When the block ends, by an error too, the model is as it was before. Layers of Hugging Face's models are recorded
    as well, where ``attnlib.interop.huggingface`` computes their attention; a part of such a model that computes it by
    itself has no row in the record.

    Every call is recorded, from whatever thread. With activation checkpointing a backward pass calls the layers again:
    let it stand after the block, or these calls are recorded too. A subclass of :class:`MultiHeadAttention` is
    recorded where its ``forward`` calls that of the class. A compiled model runs as plain PyTorch inside the block;
    the block itself must not stand inside a compiled function.

    Raises:
        ValueError: if nothing in the model attends by attnlib: it holds no :class:`MultiHeadAttention`, and is none of
            Hugging Face's on this backend.
        TypeError: if it is not a module.
        RuntimeError: inside a compiled function.

    >>> import torch
    >>> from attnlib import MultiHeadAttention, record_attention
    >>> model = torch.nn.Sequential(MultiHeadAttention(num_heads=2, d_model=4))
    >>> with record_attention(model) as record:
    ...     _ = model(torch.randn(1, 3, 4))
    >>> record["0"].shape
    torch.Size([1, 2, 3, 3])
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(_INSIDE)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    names: dict[nn.Module, list[str]] = {}  # a shared layer has several
    for name, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, MultiHeadAttention) or any(is_of_kind(layer) for is_of_kind in _kinds):
            own = [part for part in name.split(".") if part != "_orig_mod"]  # which torch.compile puts in between
            names.setdefault(layer, []).append(".".join(own))
    if not names:
        raise ValueError(
            f"model: expected one that attends by attnlib, got {type(model).__name__}; a model of torch's does after "
            "interop.pytorch.replace_attention(model), one of Hugging Face's with attn_implementation='attnlib', "
            "unless it computes attention by itself"
        )
    record = Record()
    with _without_compiled_graphs(), ExitStack() as cleanup:
        for layer, layer_names in names.items():
            cleanup.enter_context(_shown(layer, _recorder(record, layer_names)))
        yield record


def _recorder(record: Record, names: list[str]) -> Callable[[Tensor], None]:
    def keep(weights: Tensor) -> None:
        for name in names:
            record._calls.setdefault(name, []).append(weights)

    return keep


_observing = Lock()  # two threads may begin to look at one layer at a time


@contextmanager
def _shown(layer: nn.Module, observer: Callable[[Tensor], None]) -> Iterator[None]:
    """Call ``observer`` with the weights of every call of the layer, (B, H, L, S), before dropout, detached."""
    with _observing:
        _observe(layer, (*_observers_of(layer), observer))
    try:
        yield
    finally:
        with _observing:
            _observe(layer, tuple(other for other in _observers_of(layer) if other is not observer))


# ---------------------------------------------------------------------------------------------------------------------
# Layers of other libraries that attend by attnlib: attnlib.interop says which they are, and shows their weights

_kinds: list[Callable[[nn.Module], bool]] = []
_guests: WeakKeyDictionary[nn.Module, tuple[Callable[[Tensor], None], ...]] = WeakKeyDictionary()


def add_kind(is_of_kind: Callable[[nn.Module], bool]) -> None:
    """From now on record the modules, too, of which ``is_of_kind`` says that they may attend."""
    _kinds.append(is_of_kind)


def is_watched(layer: nn.Module) -> bool:
    """Return whether somebody looks at a layer of another library."""
    return layer in _guests


def show(layer: nn.Module, weights: Tensor) -> None:
    """Show the weights (B, H, L, S) of one call of a layer to those who look at it."""
    for observer in _guests.get(layer, ()):
        observer(weights)


def _observers_of(layer: nn.Module) -> tuple[Callable[[Tensor], None], ...]:
    return layer._observers if isinstance(layer, MultiHeadAttention) else _guests.get(layer, ())


def _observe(layer: nn.Module, observers: tuple[Callable[[Tensor], None], ...]) -> None:
    if isinstance(layer, MultiHeadAttention):
        layer._observers = observers
    elif observers:
        _guests[layer] = observers
    else:
        _guests.pop(layer, None)


_open_blocks, _stance, _counting = 0, ExitStack(), Lock()


@contextmanager
def _without_compiled_graphs() -> Iterator[None]:
    """Run compiled models as plain PyTorch: a graph knows nothing of those who came to look after it was made.

    torch has one stance for all threads, so the first block that opens takes it, and the last that closes gives it up.
    """
    global _open_blocks
    with _counting:
        if not _open_blocks:
            try:
                _stance.enter_context(torch.compiler.set_stance("force_eager"))
            except RuntimeError as error:  # torch refuses it in the part of a compiled function that runs without graph
                raise RuntimeError(_INSIDE) from error
        _open_blocks += 1
    try:
        yield
    finally:
        with _counting:
            _open_blocks -= 1
            if not _open_blocks:
                _stance.close()


_INSIDE = "record_attention: expected outside of compiled functions; put the block round the call of the compiled one"
