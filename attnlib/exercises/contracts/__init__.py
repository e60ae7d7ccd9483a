"""The exercises, by name: how an answer is called, and on which probes."""

from attnlib.exercises.contracts.attention import Attention
from attnlib.exercises.contracts.base import Contract
from attnlib.exercises.contracts.cache import KVCache
from attnlib.exercises.contracts.heads import GroupedHeads, MultiHead
from attnlib.exercises.contracts.layers import LayerNorm, LayerOfParts
from attnlib.exercises.contracts.masks import CausalMask, PaddingMask, SlidingWindow
from attnlib.exercises.contracts.positions import Rotary, Sinusoidal
from attnlib.exercises.contracts.softmax import OnlineSoftmax, Softmax, SoftmaxBackward
from attnlib.exercises.contracts.writing import GreedySearch

CONTRACTS: dict[str, Contract] = {
    contract.name: contract
    for contract in (
        Softmax(),
        Attention("attention"),
        Attention("attention_weights"),
        CausalMask(),
        PaddingMask(),
        SlidingWindow(),
        MultiHead(),
        GroupedHeads(),
        KVCache(),
        Rotary(),
        Sinusoidal(),
        OnlineSoftmax(),
        LayerNorm(),
        LayerOfParts("encoder_layer"),
        LayerOfParts("decoder_layer"),
        GreedySearch(),
        SoftmaxBackward(),
    )
}
