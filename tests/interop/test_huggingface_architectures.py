"""Every architecture of the table: outputs, gradients, weights and generated tokens are those of eager."""

import pytest
import torch

pytest.importorskip("transformers")

from attnlib import record_attention
from attnlib.interop import huggingface
from tests.interop.architectures import ARCHITECTURES, LENGTH, rows

huggingface.register()

CLOSE = 4e-5  # the largest difference over the root of the mean square, in float32


def difference(found, expected):
    """Return the largest difference, over the size that the numbers have."""
    return ((found - expected).abs().max() / expected.square().mean().sqrt()).item()


def answer(output, inputs):
    """Return the numbers of a model's answer at the tokens that are no padding."""
    numbers = output.logits if "logits" in output else output[0]
    padding = inputs.get("attention_mask")
    is_per_token = padding is not None and numbers.shape[1] == LENGTH
    return numbers[padding.bool()] if is_per_token else numbers


def gradients(model, inputs):
    """Return the answer, and the gradient of each parameter for a loss that weighs each number differently."""
    model.zero_grad()
    torch.manual_seed(1)  # for a model that masks at random
    found = answer(model(**inputs), inputs)
    found.mul(torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
    return found.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.numel()}


def attentions(output):
    """Return all weights that a model gives by itself."""
    given = [x for key, value in output.items() if "attentions" in key and value is not None for x in value]
    # Layers of linear attention give something else by this name: a state (B, H, d_k, d_v).
    return [x for x in given if x is not None and x.shape[-2:] != (6, 6)]


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.name)
def test_outputs_gradients_and_weights_are_those_of_eager(row):
    inputs = row.inputs()
    model = row.make("eager")
    expected, expected_gradients = gradients(model, inputs)
    with torch.no_grad():
        torch.manual_seed(1)
        theirs = attentions(model(**inputs, output_attentions=True))

    model.set_attn_implementation("attnlib")
    found, found_gradients = gradients(model, inputs)
    assert difference(found, expected) <= CLOSE
    assert found_gradients.keys() == expected_gradients.keys()
    size = torch.cat([g.flatten() for g in expected_gradients.values()]).square().mean().sqrt()
    for name, gradient in expected_gradients.items():
        assert (found_gradients[name] - gradient).abs().max() <= 40 * CLOSE * max(size, gradient.abs().max()), name

    with torch.no_grad():
        torch.manual_seed(1)
        plain = answer(model(**inputs), inputs)
        with record_attention(model) as record:
            torch.manual_seed(1)
            assert torch.equal(answer(model(**inputs), inputs), plain)
    shown = [weights for name in record for weights in record.calls(name)]
    assert len(shown) == row.calls
    for weights in theirs:  # in another order, where there are several stacks
        assert any(x.shape == weights.shape and same_where_not_padding(x, weights) for x in shown)


def same_where_not_padding(weights, eager):
    """Return whether weights are the same in all rows in which a query may attend to something."""
    is_dead = (weights == 0).all(-1, keepdim=True)  # eager gives its keys equal weights there
    return torch.allclose(weights, eager.masked_fill(is_dead, 0), atol=1e-5)


WRITERS = [row for row in ARCHITECTURES if row.kind in ("decoder", "encoder–decoder") or row.name == "whisper"]


@pytest.mark.parametrize("row", WRITERS, ids=lambda row: row.name)
@torch.no_grad()
def test_generated_tokens_are_those_of_eager(row):
    inputs = row.inputs()
    model = row.make("eager")
    if not model.can_generate():
        pytest.skip("it does not generate")
    inputs.pop("decoder_input_ids", None)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    expected = model.generate(**inputs, **options)
    model.set_attn_implementation("attnlib")
    assert torch.equal(model.generate(**inputs, **options), expected)


# ---------------------------------------------------------------------------------------------------------------------
# Models that compute attention by themselves: an error, or what eager gives; never something else

ITSELF = [
    *rows("decoder", "bloom", "xglm", "gpt_neox_japanese", "trocr", "rembert", "megatron-bert", "mpt", "ctrl"),
    *rows("decoder", "codegen", n_embd=24, n_head=4, n_layer=2, rotary_dim=4, n_ctx=64),
    *rows("encoder", "mpnet", "roformer", "nystromformer", "convbert", "tapas", "canine", "ibert", "longformer"),
    *rows("encoder", "luke", entity_vocab_size=7, entity_emb_size=8),
    *rows("encoder", "big_bird", "visual_bert", "deberta", "deberta-v2", "flaubert", "mra", "yoso"),
    *rows("encoder–decoder", "led", "bigbird_pegasus", "mvp", "fsmt"),
    *rows("vision", "vitdet"),
    *rows("speech", "wavlm"),
]
CLEAR = "attn_implementation: this model computes with its mask itself"


@pytest.mark.parametrize("row", ITSELF, ids=lambda row: row.name)
@torch.no_grad()
def test_a_model_that_attends_by_itself_raises_or_gives_what_eager_gives(row):
    inputs = row.inputs()
    expected = answer(row.make("eager")(**inputs), inputs)
    model = row.make("attnlib")
    try:
        found = answer(model(**inputs), inputs)
    except RuntimeError as error:
        assert CLEAR in str(error)  # noqa: PT017
    else:
        assert difference(found, expected) <= CLOSE


@pytest.mark.parametrize("name", ["bloom", "mpnet", "xglm"])
def test_the_error_of_a_model_that_adds_its_mask_names_the_way_out(name):
    row = next(row for row in ITSELF if row.name == name)
    with pytest.raises(RuntimeError, match=f'{CLEAR}.* use attn_implementation="eager"'):
        row.make("attnlib")(**row.inputs())
