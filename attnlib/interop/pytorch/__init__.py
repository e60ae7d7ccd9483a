"""To and from ``torch.nn``: layers, masks, whole models, and FlexAttention's block masks.

=======================================  ==========================================================
to convert                               call
=======================================  ==========================================================
a layer, either way                      :func:`from_torch`, :func:`to_torch`
its masks, where True means *keep away*  :func:`from_masks`, :func:`to_attn_mask`,
                                         :func:`to_key_padding_mask`
every layer of somebody's model          :func:`replace_attention`
a mask for FlexAttention                 :func:`block_mask`
=======================================  ==========================================================
"""

from attnlib.interop.pytorch.flex import block_mask
from attnlib.interop.pytorch.layers import from_torch, to_torch
from attnlib.interop.pytorch.masks import from_masks, to_attn_mask, to_key_padding_mask
from attnlib.interop.pytorch.replace import Report, TorchMultiHeadAttention, replace_attention

__all__ = [
    "Report",
    "TorchMultiHeadAttention",
    "block_mask",
    "from_masks",
    "from_torch",
    "replace_attention",
    "to_attn_mask",
    "to_key_padding_mask",
    "to_torch",
]
