"""attnlib beside its peers: time and memory, on this machine, in one process.

``python -m benchmarks`` measures, ``benchmarks/results`` keeps what it found. From the bottom up:

==============  ======================================================================
``timing``      rounds in which each contender is timed once, and what they tell
``contenders``  each implementation, ready to be called on the same weights and inputs
``cases``       what is measured, at which sizes, against whom, with which target
``measure``     one case: equality first, then memory, then time
``neighbours``  what else the machine did meanwhile
``reasons``     why a target is missed, where it is
``report``      the results as JSON, as a table, as a figure
==============  ======================================================================
"""

import os

# Read when torch loads. A cache that grows while its memory is recorded would make torch write a warning.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
