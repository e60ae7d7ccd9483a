"""A mask function of Transformers, read as a Mask: the only door to the private names of its ``masking_utils``.

There, a mask is a function of (example, head, query, key), made by functions that return functions. Those that are
known are read by their names and by what they hold. What is not known, or not understood beside the others, becomes the
float mask that Transformers' own ``eager`` attention adds: right in all cases, only not faster.
"""

import operator
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import masking_utils

from attnlib import masks
from attnlib.interop.huggingface.carrier import StructuredMask
from attnlib.kernels.runs import moves_along
from attnlib.masks import Mask
from attnlib.modes import is_plain

__all__ = ["make_mask"]

CAUSAL, OPEN = "causal_mask_function", "bidirectional_mask_function"
AND, OR = "and_masks.<locals>.and_mask", "or_masks.<locals>.or_mask"
PACKED = "packed_sequence_mask_function.<locals>.inner_mask"
PLACED_ANEW = "remap_positions_for_packed_sequence.<locals>.inner_mask"
IMAGES = "blockwise_overlay.<locals>.inner_mask"
CHUNKS = "chunked_overlay.<locals>.inner_mask"
LOOK_BACK = "sliding_window_overlay.<locals>.inner_mask"
NEAR = "sliding_window_bidirectional_overlay.<locals>.inner_mask"


def make_mask(**given: Any) -> Tensor | None:
    """Return what a model of Transformers hands to its attention layers as ``attention_mask``.

    Args:
        given: what each mask function that is registered there is called with; see ``masking_utils.eager_mask``.

    Returns:
        A :class:`StructuredMask`; or a float mask (B, 1, L, S), 0 where a query may attend and the dtype's smallest
        number where not; or None, where all may attend to all.

    >>> from attnlib.interop.huggingface.masks import make_mask
    >>> from transformers.masking_utils import causal_mask_function
    >>> make_mask(batch_size=2, q_length=3, kv_length=3, mask_function=causal_mask_function).structure
    Causal()
    """
    function, skips = given["mask_function"], given.get("allow_is_bidirectional_skip", False)
    if _name(function) == OPEN and skips and given.get("attention_mask") is None:
        return None
    if _needs_numbers(given):
        return masking_utils.eager_mask(**given)
    try:
        keys = _Keys(given.get("kv_offset", 0), _keys_written(given))
        structure = _both(_read(function, keys), _padding(given.get("attention_mask"), keys))
    except _NotKnownError:
        return masking_utils.eager_mask(**given)
    if structure is None and skips:
        return None
    shape = given["batch_size"], 1, given["q_length"], given["kv_length"]
    numbers = partial(masking_utils.eager_mask, **given)
    return StructuredMask.of(structure, keys.number, numbers, shape, torch.device(given.get("device", "cpu")))


class _NotKnownError(Exception):
    """A mask function, or a combination of them, that is not read here."""


class _Keys(NamedTuple):
    """Which positions the keys have: ``number`` of them, from ``start`` on."""

    start: int
    number: int

    def of(self, row: Tensor, fill: int) -> Tensor:
        """Return of (B, positions) what belongs to the keys: (B, number); beyond its end, ``fill``."""
        missing = self.start + self.number - row.shape[-1]
        row = F.pad(row, (0, missing), value=fill) if missing > 0 else row
        return row[:, self.start : self.start + self.number]


def _needs_numbers(given: dict[str, Any]) -> bool:
    """Return whether the mask must be a tensor with numbers."""
    offset, padding = given.get("q_offset", 0), given.get("attention_mask")
    if not is_plain(*(x for x in (offset, padding) if isinstance(x, Tensor))):
        return True
    if torch.device(given.get("device", "cpu")).type == "meta" or (padding is not None and padding.dim() != 2):
        return True
    # A model that allows no shortcut works on the mask itself. For packed sequences and images nobody has one.
    names = set(_names(given["mask_function"]))
    if CAUSAL in names:
        return not (given.get("allow_is_causal_skip", True) or names & {PACKED, IMAGES})
    return not given.get("allow_is_bidirectional_skip", True)


def _keys_written(given: dict[str, Any]) -> int:
    """Return with how many keys the last query meets the last key, as in attnlib's masks.

    A cache of a fixed size has room for more: these are not written yet, and a causal mask closes them.
    """
    function, room = given["mask_function"], given["kv_length"]
    if _name(function) == OPEN:
        return room
    count = int(given.get("q_offset", 0)) + given["q_length"] - given.get("kv_offset", 0)
    is_causal = CAUSAL in map(_name, _parts(function))
    if not 0 < count <= room or (count < room and not is_causal):
        raise _NotKnownError
    return count


def _read(function: Callable, keys: _Keys) -> Mask | None:
    """Return a mask function as a Mask; None if it opens everything."""
    name, holds = _name(function), _holds(function)
    if name == CAUSAL:
        return masks.causal()
    if name == OPEN:
        return None
    if name == LOOK_BACK:  # alone, it leaves open what comes after the query
        return _window(holds["sliding_window"]) | ~masks.causal()
    if name == NEAR:  # the distance may be the window's size, too
        return _window(holds["sliding_window"] + 1)
    if name == CHUNKS:
        return _chunks(holds["chunk_size"], holds["left_padding"], keys)
    if name == IMAGES:
        ids = keys.of(holds["block_sequence_ids"], fill=-1)
        return masks.documents(ids) & masks.keys(ids >= 0)
    if name == AND:
        return _all_of(_parts(function), keys)
    if name == OR:
        read = [_read(part, keys) for part in holds["mask_functions"]]
        known = [mask for mask in read if mask is not None]
        return reduce(operator.or_, known) if len(known) == len(read) else None
    raise _NotKnownError


def _all_of(parts: list[Callable], keys: _Keys) -> Mask | None:
    names = [_name(part) for part in parts]
    found: Mask | None = None
    for part, name in zip(parts, names, strict=True):
        if name == LOOK_BACK and CAUSAL in names:
            read: Mask | None = _window(_holds(part)["sliding_window"])
        elif name == PACKED:
            ids = _holds(part)["packed_sequence_mask"]
            if keys != (0, ids.shape[-1]):
                raise _NotKnownError
            read = masks.documents(_one_row_if_alike(ids))
        elif name == PLACED_ANEW:
            # Inside a sequence positions are counted from its start: distances stay as they are.
            read = _read(_holds(part)["mask_function"], keys)
            if PACKED not in names or not (read is None or moves_along(read)):
                raise _NotKnownError
        else:
            read = _read(part, keys)
        found = _both(found, read)
    return found


def _window(size: int) -> Mask:
    if size < 1:  # of layers that a configuration does not have; Transformers makes their mask all the same
        raise _NotKnownError
    return masks.sliding_window(size)


def _chunks(size: int, left_padding: Tensor, keys: _Keys) -> Mask:
    """Return the mask of chunks that are counted from where each example begins."""
    positions = torch.arange(keys.start, keys.start + keys.number, device=left_padding.device)
    return masks.documents(_one_row_if_alike((positions - left_padding[:, None]) // size))


def _padding(attention_mask: Tensor | None, keys: _Keys) -> Mask | None:
    """Return the mask of (B, positions), true where a token is real; None if all are."""
    if attention_mask is None:
        return None
    real = keys.of(attention_mask.bool(), fill=False)
    return None if bool(real.all()) else masks.keys(real)


def _both(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return right if left is None else left
    return left & right


def _one_row_if_alike(ids: Tensor) -> Tensor:
    """Return (S,) of (B, S) ids that are the same in all examples: then these are planned as one."""
    return ids[0] if torch.equal(ids, ids[:1].expand_as(ids)) else ids


# ---------------------------------------------------------------------------------------------------------------------
# What a mask function is made of


def _name(function: Callable) -> str:
    """Return the name of one of Transformers' own mask functions; of another, nothing."""
    own = getattr(function, "__module__", None) == masking_utils.__name__
    return getattr(function, "__qualname__", "") if own else ""


def _holds(function: Any) -> dict[str, Any]:
    """Return what a function that was made by another one holds, by name."""
    cells = getattr(function, "__closure__", None) or ()
    names = function.__code__.co_freevars if cells else ()
    return {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}


def _parts(function: Callable) -> list[Callable]:
    """Return the functions all of which must open a pair, also where they stand in a conjunction of conjunctions."""
    if _name(function) != AND:
        return [function]
    return [part for inner in _holds(function)["mask_functions"] for part in _parts(inner)]


def _names(function: Callable) -> Iterator[str]:
    """Yield the names of a mask function and of all that it is made of."""
    yield _name(function)
    holds = _holds(function)
    for inner in (*holds.get("mask_functions", ()), *filter(callable, [holds.get("mask_function")])):
        yield from _names(inner)
