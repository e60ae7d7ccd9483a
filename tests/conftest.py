"""Every test starts from the same seed; hypothesis draws the same examples on every machine."""

import pytest
import torch
from hypothesis import settings

from tests.oracles import PATHS

settings.register_profile("attnlib", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("attnlib")
torch.set_num_threads(1)  # small tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def _same_seed():
    torch.manual_seed(0)


@pytest.fixture(params=PATHS)
def compute(request):
    """Each way of computing."""
    return PATHS[request.param]


@pytest.fixture(params=[name for name in PATHS if name != "blockwise"])
def compute_in_a_graph(request):
    """Each way of computing that a compiled graph knows: nothing is cut into blocks there."""
    return PATHS[request.param]
