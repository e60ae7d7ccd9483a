"""The model of "Attention Is All You Need" (Vaswani et al., 2017), a decoder-only one, their layers, how they write.

>>> import torch
>>> from attnlib.transformer import Transformer
>>> model = Transformer(13, d_model=8, num_heads=2, d_ff=32, num_layers=1)
>>> source, target = torch.randint(13, (3, 7)), torch.randint(13, (3, 5))
>>> model(source, target).shape
torch.Size([3, 5, 13])
"""

from attnlib.transformer.decoding import Hypothesis, beam_search, greedy_search, sample
from attnlib.transformer.feed_forward import FeedForward, GatedFeedForward
from attnlib.transformer.inputs import LayerCache
from attnlib.transformer.language_model import LanguageModel
from attnlib.transformer.layers import DecoderLayer, EncoderLayer, Residual
from attnlib.transformer.model import Decoder, Encoder, Transformer
from attnlib.transformer.protocol import Decoding, GenerativeModel
from attnlib.transformer.sampling import warp_logits
from attnlib.transformer.schedule import warmup_schedule

__all__ = [
    "Decoder",
    "DecoderLayer",
    "Decoding",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "GatedFeedForward",
    "GenerativeModel",
    "Hypothesis",
    "LanguageModel",
    "LayerCache",
    "Residual",
    "Transformer",
    "beam_search",
    "greedy_search",
    "sample",
    "warmup_schedule",
    "warp_logits",
]
