import numpy as np
import pytest
import torch

from attnlib import masks
from attnlib.checks import whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), np.array(3)])
def test_whole_numbers_of_any_kind_become_ints(value):
    assert whole_number("size", value) == 3
    assert type(whole_number("size", value)) is int


@pytest.mark.parametrize("value", [True, 3.0, "3", None, [3]])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(TypeError, match=f"size: expected a whole number, got {type(value).__name__}"):
        whole_number("size", value)


def test_a_number_that_is_too_small_is_refused():
    assert whole_number("size", 2, at_least=2) == 2
    with pytest.raises(ValueError, match="size: expected at least 2, got 1"):
        whole_number("size", 1, at_least=2)


def test_one_is_enough_unless_said_otherwise():
    assert whole_number("size", 1) == 1
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        whole_number("size", 0)


def test_a_symbolic_size_stays_open_under_export():
    class Window(torch.nn.Module):
        def forward(self, x):
            length = x.shape[0]
            return masks.sliding_window(length // 2).dense(length, length, "cpu")

    dynamic = {0: torch.export.Dim("L", min=4, max=64)}
    exported = torch.export.export(Window(), (torch.zeros(6),), dynamic_shapes=(dynamic,), strict=False)
    assert torch.equal(exported.module()(torch.zeros(11)), masks.sliding_window(5).dense(11, 11))


def test_open_sizes_pass_in_a_compiled_graph_and_are_still_checked():
    def room(x):
        return x.new_zeros(whole_number("size", x.shape[0], at_least=3))

    compiled = torch.compile(room, backend="eager", fullgraph=True, dynamic=True)
    for size in (5, 7):
        assert compiled(torch.zeros(size)).shape == (size,)
    program = torch.export.export(
        _Room(room), (torch.zeros(5),), dynamic_shapes=({0: torch.export.Dim("n", min=3)},), strict=True
    )
    assert program.module()(torch.zeros(7)).shape == (7,)


class _Room(torch.nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.room = forward

    def forward(self, x):
        return self.room(x)
