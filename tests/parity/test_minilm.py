"""Live comparison with transformers and PyTorch on the MiniLM weights; needs the extra `parity` and SST-2."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.checkpoints.checkpoint import expand, read_tensor
from kbert.checkpoints.huggingface_names import ENCODER_RULES, HEAD_RULES
from kbert.data.readers import read_texts
from kbert.modeling.encoder import named_weights

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SENTENCES = 256


@pytest.fixture(scope="module")
def sentences(real_data):
    return read_texts(real_data("sst2/dev.tsv")).texts[:SENTENCES]


@pytest.fixture(scope="module")
def tokenizer(minilm_folder):
    return transformers.AutoTokenizer.from_pretrained(minilm_folder)


@pytest.fixture(scope="module")
def reference(minilm_folder):
    return transformers.AutoModelForSequenceClassification.from_pretrained(minilm_folder, num_labels=2).eval()


@pytest.fixture(scope="module", params=[True, False], ids=["real tokens", "padded rows"])
def model(request, minilm_folder, reference):
    model = kbert.BertTextClassifier.from_preset(str(minilm_folder), ["a", "b"], skip_padding=request.param)
    model.head.dense.kernel.assign(reference.classifier.weight.detach().numpy().T)
    model.head.dense.bias.assign(reference.classifier.bias.detach().numpy())
    return model


def difference(model, reference, tokenizer, texts):
    """Greatest differences of real tokens' vectors and of pooled vectors."""
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = reference.bert(**batch)
    features = model.features(texts)
    np.testing.assert_array_equal(features["token_ids"], batch["input_ids"])
    outputs = model.encoder(features)
    real = batch["attention_mask"].numpy().astype(bool)
    sequence = np.abs(outputs["sequence_output"].numpy() - expected.last_hidden_state.numpy())[real].max()
    return sequence, np.abs(outputs["pooled_output"].numpy() - expected.pooler_output.numpy()).max()


@pytest.mark.parametrize("batch_size", [32, 1], ids=["padded", "unpadded"])
def test_hidden_states(model, reference, tokenizer, sentences, batch_size):
    groups = [sentences[i : i + batch_size] for i in range(0, SENTENCES, batch_size)]
    sequence, pooled = np.max([difference(model, reference, tokenizer, group) for group in groups], axis=0)
    print(f"\nhidden states {sequence:.2e}, pooled {pooled:.2e}")
    assert sequence <= 1e-5
    assert pooled <= 1e-5


def test_loss_and_the_gradient_of_every_weight(model, reference, tokenizer, sentences):
    texts = sentences[:32]
    labels = np.arange(32) % 2
    reference.zero_grad()
    output = reference(**tokenizer(texts, padding=True, return_tensors="pt"), labels=torch.tensor(labels))
    output.loss.backward()
    foreign = {name.removeprefix("bert."): p.grad.numpy() for name, p in reference.named_parameters()}
    with tf.GradientTape() as tape:
        loss = model.default_loss()(labels, model(model.features(texts), training=False))
    assert float(loss) == pytest.approx(float(output.loss.detach()), rel=1e-4)
    weights = {**named_weights(model.encoder), **model.head_weights()}
    gradients = dict(zip(weights, tape.gradient(loss, [v.value for v in weights.values()]), strict=True))
    worst = 0.0
    for rule in expand(ENCODER_RULES + HEAD_RULES, 6):
        if rule.name not in gradients:
            continue
        expected = read_tensor(rule, foreign)
        got = tf.convert_to_tensor(gradients[rule.name]).numpy()
        worst = max(worst, np.linalg.norm(got - expected) / np.linalg.norm(expected))
    print(f"\nworst relative error of a gradient {worst:.2e}")
    assert worst <= 1e-4


def test_transformers_opens_what_kbert_saves(model, sentences, tmp_path):
    model.save_to_preset(tmp_path / "saved")
    opened, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    batch = tokenizer(sentences[:20], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = opened.eval()(**batch).logits.numpy()
    np.testing.assert_allclose(model(model.features(sentences[:20])).numpy(), logits, atol=1e-5)
    assert opened.config.id2label == {0: "a", 1: "b"}
