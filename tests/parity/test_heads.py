"""Live comparison of the heads with transformers, on tiny random models; needs the extra `parity`."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from kbert.checkpoints.checkpoint import (
    expand,
    masked_lm_shapes,
    read_tensors,
    span_shapes,
    tagger_shapes,
    tensor_shapes,
)
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES, OPTIONAL, foreign_tensors
from kbert.modeling.encoder import BertEncoder, load_tensors, named_weights
from kbert.modeling.heads import MaskedLMHead, SpanHead, TokenHead

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
B, T, C = 5, 7, 3
MASK = (np.arange(T) < np.array([7, 1, 4, 2, 6])[:, None]).astype("int32")


def token_logits(encoder, head, outputs):
    return head(outputs["sequence_output"], MASK)


def masked_lm_logits(encoder, head, outputs):
    return head(outputs["sequence_output"], encoder.embeddings.word.embeddings)


# Architecture of transformers -> our head, its weights, its logits, and transformers' logits.
HEADS = {
    "BertForTokenClassification": (
        lambda config: TokenHead(config, C),
        lambda config: tagger_shapes(config, C),
        token_logits,
        lambda output: output.logits,
    ),
    "BertForQuestionAnswering": (
        SpanHead,
        span_shapes,
        token_logits,
        lambda output: torch.stack([output.start_logits, output.end_logits], dim=-1),
    ),
    "BertForMaskedLM": (MaskedLMHead, masked_lm_shapes, masked_lm_logits, lambda output: output.logits),
}


@pytest.fixture(params=HEADS)
def architecture(request):
    return request.param


@pytest.fixture
def inputs(tiny_config):
    random = np.random.default_rng(1)
    return {
        "token_ids": random.integers(0, tiny_config.vocabulary_size, (B, T)).astype("int32"),
        "segment_ids": random.integers(0, 2, (B, T)).astype("int32"),
        "padding_mask": MASK,
    }


def foreign_config(config, architecture):
    return transformers.BertConfig(
        architectures=[architecture],
        vocab_size=config.vocabulary_size,
        hidden_size=config.hidden_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.intermediate_dim,
        max_position_embeddings=config.max_sequence_length,
        num_labels=2 if architecture == "BertForQuestionAnswering" else C,
    )


def compare(config, inputs, architecture, tensors, model):
    """Ours with these tensors against theirs, on real tokens."""
    make, _, logits, foreign_logits = HEADS[architecture]
    encoder, head = BertEncoder(config), make(config)
    head.build()
    load_tensors(encoder, tensors)
    for name, weight in named_weights(head).items():
        weight.assign(tensors[name])
    batch = dict(
        zip(("input_ids", "token_type_ids", "attention_mask"), map(torch.tensor, inputs.values()), strict=True)
    )
    with torch.no_grad():
        theirs = foreign_logits(model.eval()(**batch)).numpy()
    ours = logits(encoder, head, encoder(inputs)).numpy()
    assert theirs[MASK == 1].std(axis=0).min() > 0.05  # tokens differ
    np.testing.assert_allclose(ours[MASK == 1], theirs[MASK == 1], atol=1e-5)


def test_transformers_opens_what_kbert_writes(tiny_config, inputs, architecture, tmp_path):
    shapes = tensor_shapes(tiny_config) | HEADS[architecture][1](tiny_config)
    random = np.random.default_rng(2)
    tensors = {
        name: (0.2 * random.normal(size=shape) + name.endswith("gamma")).astype("float32")
        for name, shape in shapes.items()
    }
    safetensors.numpy.save_file(
        foreign_tensors(tensors, tiny_config, architecture), tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    foreign_config(tiny_config, architecture).save_pretrained(tmp_path)
    model, report = getattr(transformers, architecture).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(tiny_config, inputs, architecture, tensors, model)


def test_kbert_reads_what_transformers_writes(tiny_config, inputs, architecture, tmp_path):
    torch.manual_seed(0)
    model = getattr(transformers, architecture)(foreign_config(tiny_config, architecture))
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.2)
    model.save_pretrained(tmp_path)
    stored = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    names = {name.removeprefix("bert."): tensor for name, tensor in stored.items()}
    shapes = tensor_shapes(tiny_config) | HEADS[architecture][1](tiny_config)
    rules = list(expand(ENCODER_RULES + HEAD_RULES, tiny_config.num_layers))
    tensors = read_tensors(rules, names, shapes, "here", OPTIONAL)
    read = {name for rule in rules if rule.name in tensors for name in rule.foreign}
    assert names.keys() - read == set()
    compare(tiny_config, inputs, architecture, tensors, model)
