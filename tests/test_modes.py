"""In which mode torch is, asked in each of them; and what is answered where torch no longer tells."""

import importlib

import pytest
import torch

from attnlib import modes as of_modes
from attnlib.modes import autocast_is_on, forward_mode_is_on, is_plain, transform_is_active


def test_autocast_is_on_only_inside_of_it():
    assert not autocast_is_on("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast_is_on("cpu")
        assert not autocast_is_on("meta")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_tensors_are_plain_where_nothing_watches_what_is_done_with_them():
    x, plain, modes = torch.zeros(2), [], []

    def look(y):
        plain.append(is_plain(x, y))
        modes.append((transform_is_active(), forward_mode_is_on()))
        return y + 1

    look(x)
    look(torch.nn.Parameter(x))
    torch.func.vmap(look)(x)
    torch.func.grad(lambda y: look(y).sum())(x)
    torch.func.jvp(look, (x,), (x,))
    torch.jit.trace(look, (x,), check_trace=False)
    look(x)
    assert plain == [True, True, False, False, False, False, True]
    assert modes == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)] + [(False, False)] * 2
    assert not is_plain(torch.ones(2).as_subclass(type("Mine", (torch.Tensor,), {})))


def test_where_torch_no_longer_tells_nothing_is_plain(monkeypatch):
    """Then no element is read and no tensor cut: slower, and right."""
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    monkeypatch.delattr("torch.autograd.forward_ad._current_level")
    try:
        importlib.reload(of_modes)
        assert of_modes.transform_is_active()
        assert of_modes.forward_mode_is_on()
        assert not of_modes.is_plain(torch.zeros(1))
    finally:
        monkeypatch.undo()
        importlib.reload(of_modes)
    assert of_modes.is_plain(torch.zeros(1))
