"""Transformers never asks the network, and says nothing but errors. Set before any test imports it."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
