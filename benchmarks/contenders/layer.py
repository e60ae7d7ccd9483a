"""Self-attention with its four projections, (B, L, d_model) → (B, L, d_model).

All contenders read the same weights, and all add biases, as ``nn.MultiheadAttention`` does unless told otherwise.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnlib import MultiHeadAttention, masks
from benchmarks.contenders import OURS, Contender, seeded_normal, step


@dataclass(frozen=True)
class LayerProblem:
    """What all contenders compute.

    Attributes
    ----------
    layer: attnlib's own layer, whose projections the others share.
    x: (B, L, d_model).
    cotangent: (B, L, d_model), the gradient that comes back in training; None in inference.
    causal: whether a token sees only those before it.
    lengths: (B,) the length of each example, or None where there is no padding.
    need_weights: whether the weights (B, H, L, S) are wanted too.
    """

    layer: MultiHeadAttention
    x: Tensor
    cotangent: Tensor | None
    causal: bool
    lengths: Tensor | None
    need_weights: bool

    @property
    def projections(self) -> tuple[nn.Linear, ...]:
        return self.layer.wq, self.layer.wk, self.layer.wv, self.layer.fc

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.layer.parameters())

    @property
    def mask(self) -> masks.Mask | None:
        if self.lengths is not None:
            return masks.padding(self.lengths)
        return masks.causal() if self.causal else None

    def hidden(self) -> Tensor | None:
        """Return the mask as most others want it: bool, True where a query may *not* attend, or None."""
        L = self.x.shape[1]
        return None if self.mask is None else ~self.mask.dense(L, L, self.x.device)

    def split(self, x: Tensor) -> Tensor:
        """(B, L, H·d) → (B, H, L, d)."""
        return x.unflatten(-1, (self.layer.num_heads, -1)).transpose(1, 2)

    def contender(self, forward, parameters: list[Tensor] | None = None, **kwargs) -> Contender:
        """Return ``forward``, which maps nothing to a tuple of outputs, as a contender."""
        parameters = self.parameters if parameters is None else parameters
        return Contender(step(forward, [self.x], parameters, self.cotangent), **kwargs)


def problem(
    *,
    B: int,
    L: int,
    H: int,
    d_model: int,
    dtype: torch.dtype,
    device: torch.device,
    training: bool,
    mask: str = "none",
    need_weights: bool = False,
) -> LayerProblem:
    """Make a layer, its input, and its mask: ``none``, ``causal`` or ``padding``, with lengths from L/4 to L."""
    layer = MultiHeadAttention(H, d_model, dropout=0.0, projection_bias=True).to(device, dtype).train(training)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            size = 1 if parameter.dim() == 1 else d_model
            parameter.copy_(seeded_normal(*parameter.shape, dtype=dtype, device=device, seed=seed) / math.sqrt(size))
    x = seeded_normal(B, L, d_model, dtype=dtype, device=device, seed=100).requires_grad_(training)
    cotangent = seeded_normal(B, L, d_model, dtype=dtype, device=device, seed=101) if training else None
    lengths = torch.linspace(L // 4, L, B).long().to(device) if mask == "padding" else None
    return LayerProblem(layer, x, cotangent, mask == "causal", lengths, need_weights)


def attnlib(problem: LayerProblem) -> Contender:
    layer, x, mask = problem.layer, problem.x, problem.mask
    if problem.need_weights:
        return problem.contender(lambda: (layer(x, mask=mask, need_weights=True), layer.attn))
    return problem.contender(lambda: (layer(x, mask=mask),))


def torch_module(problem: LayerProblem, fast_path: bool = True) -> Contender:
    """Return ``nn.MultiheadAttention``, called as its documentation says."""
    layer, x, hidden = problem.layer, problem.x, problem.hidden()
    theirs = nn.MultiheadAttention(layer.d_model, layer.num_heads, batch_first=True, device=x.device, dtype=x.dtype)
    theirs.train(layer.training)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in problem.projections[:3]]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in problem.projections[:3]]))
        theirs.out_proj.weight.copy_(layer.fc.weight)
        theirs.out_proj.bias.copy_(layer.fc.bias)
    options = {"need_weights": problem.need_weights, "average_attn_weights": False}
    if problem.lengths is not None:
        options["key_padding_mask"] = hidden[:, 0, 0]  # (B, S)
    elif problem.causal:
        options |= {"attn_mask": hidden, "is_causal": True}

    def forward() -> tuple[Tensor, ...]:
        return tuple(y for y in theirs(x, x, x, **options) if y is not None)

    return problem.contender(
        forward,
        list(theirs.parameters()),
        note="fast path on" if fast_path and not layer.training else "",
        prepare=lambda: torch.backends.mha.set_fastpath_enabled(fast_path),
    )


def torch_module_without_fast_path(problem: LayerProblem) -> Contender:
    """The way that ``nn.MultiheadAttention`` takes without biases, with an odd number of heads, under autocast, …"""
    return torch_module(problem, fast_path=False)


def floor(problem: LayerProblem) -> Contender:
    """The arithmetic alone: the four projections, and SDPA on heads that lie ready in memory.

    In training, the gradients of the heads lie ready for the projections as well, so that nothing is ever rearranged.
    """
    x, cotangent, causal = problem.x, problem.cotangent, problem.causal
    wq, wk, wv, fc = problem.projections

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return fc(heads.transpose(1, 2).flatten(2))

    def project() -> list[Tensor]:
        return [wq(x), wk(x), wv(x)]

    heads = [problem.split(flat).detach().contiguous() for flat in project()]
    if cotangent is None:

        def forward() -> tuple[Tensor, ...]:
            project()
            return (attend(*heads),)

        return Contender(forward)

    heads = [head.requires_grad_() for head in heads]
    gradients = torch.autograd.grad(attend(*heads), heads, cotangent)  # (B, H, L, d)
    flat_gradients = [gradient.transpose(1, 2).flatten(2) for gradient in gradients]
    wanted = [x, *problem.parameters, *heads]

    def forward_and_backward() -> tuple[Tensor, ...]:
        flat = project()
        output = attend(*heads)
        gradients = torch.autograd.grad([output, *flat], wanted, [cotangent, *flat_gradients])
        return output.detach(), gradients[0]

    return Contender(forward_and_backward)


def textbook(problem: LayerProblem) -> Contender:
    """As it is written on paper: scores, mask, softmax, weighted sum."""
    x, hidden = problem.x, problem.hidden()
    wq, wk, wv, fc = problem.projections

    def forward() -> tuple[Tensor, ...]:
        query, key, value = (problem.split(projection(x)) for projection in (wq, wk, wv))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        heads = torch.softmax(scores, dim=-1) @ value
        return (fc(heads.transpose(1, 2).flatten(2)),)

    return problem.contender(forward)


def x_transformers(problem: LayerProblem) -> Contender:
    """x-transformers' ``Attention`` with ``flash=True``; it has no biases of its own, and is given the shared ones."""
    from x_transformers.x_transformers import Attention

    layer, x = problem.layer, problem.x
    theirs = Attention(
        dim=layer.d_model, dim_head=layer.d_k, heads=layer.num_heads, causal=problem.causal, flash=True
    ).train(layer.training)
    theirs.to_q, theirs.to_k, theirs.to_v, theirs.to_out = problem.projections
    return problem.contender(lambda: (theirs(x),))


def huggingface(problem: LayerProblem, implementation: str) -> Contender:
    """Hugging Face's BERT attention, which has no rotary positions, with the output projection that follows it."""
    layer, x = problem.layer, problem.x
    theirs = bert_attention(layer, implementation, problem.causal)
    mask = None
    if implementation == "eager" and problem.hidden() is not None:
        mask = torch.zeros((), dtype=x.dtype, device=x.device).where(~problem.hidden(), torch.finfo(x.dtype).min)
        mask = mask[(None,) * (4 - mask.dim())]  # (B|1, 1, L|1, S), added to the scores
    return problem.contender(lambda: (layer.fc(theirs(x, mask)[0]),))


def huggingface_eager(problem: LayerProblem) -> Contender:
    return huggingface(problem, "eager")


def huggingface_sdpa(problem: LayerProblem) -> Contender:
    return huggingface(problem, "sdpa")


def bert_attention(layer: MultiHeadAttention, implementation: str, causal: bool) -> nn.Module:
    """Return a ``BertSelfAttention`` with the projections of ``layer``."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertSelfAttention

    config = BertConfig(
        hidden_size=layer.d_model,
        num_attention_heads=layer.num_heads,
        attention_probs_dropout_prob=0.0,
        attn_implementation=implementation,
    )
    theirs = BertSelfAttention(config, is_causal=causal, layer_idx=0).train(layer.training)
    theirs.query, theirs.key, theirs.value = layer.wq, layer.wk, layer.wv
    return theirs


TORCH = "nn.MultiheadAttention"
TORCH_SLOW = "nn.MultiheadAttention, fast path off"
FLOOR = "floor"
EAGER = "Hugging Face, eager"
BUILDERS = {
    OURS: attnlib,
    TORCH: torch_module,
    TORCH_SLOW: torch_module_without_fast_path,
    FLOOR: floor,
    "textbook": textbook,
    "x-transformers": x_transformers,
    EAGER: huggingface_eager,
    "Hugging Face, sdpa": huggingface_sdpa,
}
