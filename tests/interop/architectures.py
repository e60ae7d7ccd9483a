"""The architectures of Transformers that attnlib's backend is tested on, from tiny random configurations.

This table is the tests' parameters, and what the book shows: what is not tested cannot stand there.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedModel,
)

B, LENGTH, NEW, VOCABULARY = 2, 11, 7, 61

# Sizes by the names that most configurations give them. What a configuration does not know it keeps, unused.
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 64, **SPECIAL,
}  # fmt: skip
TWO_STACKS = {
    "vocab_size": VOCABULARY, "d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "max_position_embeddings": 64,
    "decoder_start_token_id": 1, "forced_eos_token_id": None, **SPECIAL,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 24, "d_kv": 5, "d_ff": 20, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "decoder_start_token_id": 0, **SPECIAL,
}  # fmt: skip
IMAGE = {**TEXT, "image_size": 12, "patch_size": 4, "num_channels": 3}
SOUND = {
    **TEXT, "conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0, "layerdrop": 0.0,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
    "moe_num_experts": 4, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 2, "topk_group": 2, "moe_topk": 2,
    "moe_k": 2,
    "shared_expert_intermediate_size": 8,
}  # fmt: skip
LATENT = {  # keys of 6 + 4, values of 5
    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
    "num_key_value_heads": 4, "head_dim": 4,
}  # fmt: skip
WINDOW = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
VISION = {"vision_config": {**IMAGE, "model_type": "clip_vision_model"}}
CLIP = {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 8}


@dataclass(frozen=True)
class Kind:
    """What goes into a model, and what its configuration calls its sizes."""

    sizes: dict[str, Any]
    model: Any = AutoModel
    layers: int = 2


KINDS = {
    "decoder": Kind(TEXT, AutoModelForCausalLM),
    "encoder": Kind(TEXT),
    "encoder–decoder": Kind(TWO_STACKS, AutoModelForSeq2SeqLM, layers=6),
    "vision": Kind(IMAGE),
    "speech": Kind(SOUND),
    "vision and text": Kind({}, layers=4),
}


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        name: Transformers' ``model_type``.
        kind: a key of :data:`KINDS`.
        what: what its attention has beyond heads and a mask.
        layers: how many calls of attention one forward pass makes.
        sizes: instead of the kind's.
        options: of its configuration, beside the sizes.
        model: the class that makes it, instead of the kind's.
        shape: of its image, its video or its sound.
    """

    name: str
    kind: str
    what: str = ""
    layers: int | None = None
    sizes: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    shape: tuple[int, ...] | None = None

    def make(self, attn_implementation: str, **more: Any) -> PreTrainedModel:
        """Return the model with random weights, the same ones for each implementation, ready to be asked."""
        sizes = KINDS[self.kind].sizes if self.sizes is None else self.sizes
        config = AutoConfig.for_model(self.name, **{**sizes, **self.options, **more})
        make = (self.model or KINDS[self.kind].model).from_config
        torch.manual_seed(0)
        model = make(config, attn_implementation=attn_implementation).eval()
        for parameter in model.parameters():  # as they are made, they are so small that all logits are alike
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    def inputs(self) -> dict[str, torch.Tensor]:
        """Return what goes in: two examples, one of them padded where the model knows padding."""
        padded = torch.ones(B, LENGTH, dtype=torch.int64)
        tokens = torch.randint(3, VOCABULARY, (B, LENGTH))
        if self.kind == "decoder":
            padded[0, :3] = 0
            return {"input_ids": tokens, "attention_mask": padded}
        if self.kind == "encoder":
            padded[0, -3:] = 0
            return {"input_ids": tokens, "attention_mask": padded}
        if self.kind == "encoder–decoder":
            padded[0, -3:] = 0
            return {"input_ids": tokens, "attention_mask": padded, "decoder_input_ids": tokens[:, :NEW]}
        if self.kind == "vision and text":
            padded[0, -3:] = 0
            return {"input_ids": tokens, "attention_mask": padded, "pixel_values": torch.randn(B, 3, 12, 12)}
        if self.kind == "vision":
            return {"pixel_values": torch.randn(B, *(self.shape or (3, 12, 12)))}
        if self.shape is None:
            return {"input_values": torch.randn(B, 401)}
        sound = {"input_features": torch.randn(B, *self.shape)}
        if self.name == "moonshine":
            sound = {"input_values": sound["input_features"]}
        if self.model is AutoModelForSpeechSeq2Seq:
            return {**sound, "decoder_input_ids": tokens[:, :NEW]}
        return {"input_values": sound["input_features"]}

    @property
    def calls(self) -> int:
        """How many calls of attention one forward pass makes."""
        return KINDS[self.kind].layers if self.layers is None else self.layers


def rows(kind: str, *names: str, what: str = "", **more: Any) -> list[Architecture]:
    """Return a row for each name."""
    fields = {name: more.pop(name) for name in ("layers", "sizes", "model", "shape") if name in more}
    return [Architecture(name, kind, what, options=more, **fields) for name in names]


ARCHITECTURES = [
    *rows(
        "decoder", "llama", "qwen2", "qwen3", "gemma", "phi3", "olmo", "olmo2", "cohere", "starcoder2", "stablelm",
        "glm", "glm4", "ernie4_5", "helium", "smollm3", "arcee", "seed_oss", "nemotron", "hunyuan_v1_dense", "bitnet",
        "apertus", "nanochat", "hyperclovax", "jais2",
        what="grouped heads",
    ),
    *rows("decoder", "phi", "persimmon", what="rotary in part", num_key_value_heads=4, partial_rotary_factor=1.0),
    *rows("decoder", "gpt2", "gpt_neox", "opt", "biogpt"),
    *rows("decoder", "gpt_bigcode", what="one key head"),
    *rows("decoder", "granite", what="a scale of its own", attention_multiplier=0.3),
    *rows("decoder", "mistral", "ministral3", what="a window", sliding_window=5),
    *rows("decoder", "cohere2", "exaone4", "olmo3", "gemma3_text", "ministral", "cwm",
          what="a window in some layers", **WINDOW),
    *rows("decoder", "gemma2", what="a soft cap, a window", attn_logit_softcapping=0.9, **WINDOW),
    *rows("decoder", "vaultgemma", what="a soft cap, a window", attn_logit_softcapping=0.9, **WINDOW),
    *rows("decoder", "gpt_oss", what="sinks, a window, experts", **WINDOW, **EXPERTS),
    *rows("decoder", "gemma4_text", what="a window, keys shared between layers", **WINDOW, global_head_dim=12,
          vocab_size_per_layer_input=61, hidden_size_per_layer_input=8),
    *rows("decoder", "llama4_text", what="chunks, experts", **EXPERTS, attention_chunk_size=5,
          layer_types=["chunked_attention", "full_attention"], no_rope_layers=[1, 0]),
    *rows("decoder", "diffllama", what="two maps subtracted", layers=4),
    *rows("decoder", "doge", what="a mask with numbers"),
    *rows("decoder", "mixtral", "qwen2_moe", "qwen3_moe", "phimoe", "olmoe", "granitemoe", "granitemoeshared", "dots1",
          "ernie4_5_moe", "hunyuan_v1_moe", "flex_olmo", "jetmoe", "glm4_moe", "minimax_m2", what="experts", **EXPERTS),
    *rows("decoder", "afmoe", what="experts, a window", **EXPERTS, **WINDOW),
    *rows("decoder", "deepseek_v2", "deepseek_v3", what="latent keys, d_k ≠ d_v, experts", **{**EXPERTS, **LATENT},
          first_k_dense_replace=1),
    *rows("decoder", "youtu", what="latent keys, d_k ≠ d_v", **LATENT),
    *rows("decoder", "lfm2", what="beside convolutions", layers=1, layer_types=["conv", "full_attention"]),
    *rows("decoder", "lfm2_moe", what="beside convolutions, experts", layers=1, num_dense_layers=1,
          layer_types=["conv", "full_attention"], **EXPERTS),
    *rows("decoder", "qwen3_next", what="beside linear attention, experts", layers=1, linear_num_value_heads=4,
          linear_num_key_heads=2, linear_key_head_dim=6, linear_value_head_dim=6,
          layer_types=["linear_attention", "full_attention"], **EXPERTS),
    *rows("decoder", "minimax", what="beside linear attention, experts", layers=1, **EXPERTS),
    *rows(
        "encoder", "bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "albert", "distilbert",
        "roberta-prelayernorm", "xlm-roberta-xl", "data2vec-text", "esm", "eurobert", "splinter",
        "layoutlm", "nomic_bert", "jina_embeddings_v3", "bert-generation", "markuplm",
    ),
    *rows("encoder", "mobilebert", normalization_type="layer_norm"),
    *rows("encoder", "modernbert", what="a window on both sides in some layers", local_attention=4,
          global_attn_every_n_layers=2),
    *rows("encoder", "clip_text_model", what="causal"),
    *rows("encoder–decoder", "bart", "mbart", "pegasus", "marian", "blenderbot", "blenderbot-small", "m2m_100",
          "plbart"),
    *rows("encoder–decoder", "nllb-moe", what="experts"),
    *rows("encoder–decoder", "t5", "mt5", "umt5", what="a learned position bias, scale 1", sizes=T5),
    *rows("encoder–decoder", "switch_transformers", what="a learned position bias, experts", sizes=T5,
          num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_decoder_layers=2, num_experts=3),
    *rows("vision", "vit", "deit", "dinov2", "dinov2_with_registers", "vit_mae", "vit_msn", "ijepa",
          "siglip_vision_model", "clip_vision_model", "dpt", "aimv2_vision_model", "internvl_vision", "idefics3_vision",
          "chinese_clip_vision_model"),
    *rows("vision", "dinov3_vit", what="rotary in two directions", hidden_size=32),
    *rows("vision", "yolos", image_size=[12, 12]),
    *rows("vision", "beit", what="a learned position bias as the mask", use_relative_position_bias=True),
    *rows("vision", "swin", what="windows of an image, a learned bias as the mask", shape=(3, 16, 16), image_size=16,
          patch_size=2, embed_dim=8, sizes={}, depths=[2, 1], num_heads=[2, 4], window_size=4, layers=3),
    *rows("vision", "pixtral", what="images packed in one row"),
    *rows("vision", "videomae", what="video", shape=(4, 3, 12, 12), num_frames=4),
    *rows("vision", "vivit", what="video", shape=(4, 3, 12, 12), num_frames=4, tubelet_size=[2, 4, 4]),
    *rows("speech", "wav2vec2", "hubert", "unispeech", "unispeech-sat", "data2vec-audio", "sew"),
    *rows("speech", "wav2vec2-conformer", what="beside convolutions"),
    *rows("speech", "audio-spectrogram-transformer", shape=(20, 12), max_length=20, num_mel_bins=12, patch_size=4,
          frequency_stride=4, time_stride=4),
    *rows("speech", "whisper", what="encoder and decoder", layers=6, sizes=TWO_STACKS, model=AutoModelForSpeechSeq2Seq,
          shape=(8, 20), num_mel_bins=8, max_source_positions=10, max_target_positions=32, suppress_tokens=None,
          begin_suppress_tokens=None),
    *rows("speech", "speech_to_text", what="encoder and decoder", layers=6, sizes=TWO_STACKS,
          model=AutoModelForSpeechSeq2Seq, shape=(20, 8), input_feat_per_channel=8, input_channels=1, conv_channels=8,
          max_source_positions=32, max_target_positions=32),
    *rows("speech", "moonshine", what="encoder and decoder", layers=6, model=AutoModelForSpeechSeq2Seq, shape=(1999,),
          encoder_num_hidden_layers=2, decoder_num_hidden_layers=2, encoder_num_attention_heads=4,
          decoder_num_attention_heads=4, encoder_num_key_value_heads=4, decoder_num_key_value_heads=4,
          decoder_start_token_id=1),
    *rows("vision and text", "clip", "siglip", what="two towers", sizes=CLIP),
]  # fmt: skip
