"""Live comparison of pretraining with transformers; needs the extra `parity`."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")

from golden import write_pretraining  # noqa: E402
from pretraining.as_transformers import CONFIG, VOCABULARY, assert_learns_the_same  # noqa: E402

from kbert.checkpoints import huggingface  # noqa: E402
from kbert.checkpoints.checkpoint import Checkpoint  # noqa: E402
from kbert.config import TokenizerConfig  # noqa: E402
from kbert.pretraining.model import PretrainingModel  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("skip_padding", [True, False], ids=["real tokens", "padded rows"])
def test_a_batch_teaches_the_same(seed, skip_padding):
    assert write_pretraining.CONFIG == CONFIG
    assert_learns_the_same(write_pretraining.learnt(seed), skip_padding)


@pytest.mark.parametrize(("pairs", "name"), [("none", "BertForMaskedLM"), ("sop", "BertForPreTraining")])
def test_transformers_opens_what_was_pretrained(tmp_path, pairs, name):
    model = PretrainingModel.from_checkpoint(Checkpoint(CONFIG, TokenizerConfig(), VOCABULARY, {}), pairs)
    huggingface.write(tmp_path, model.checkpoint())
    theirs, report = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.architectures == [name]
    batch = write_pretraining.random_batch(np.random.default_rng(4))
    inputs = (batch["token_ids"], batch["padding_mask"], batch["segment_ids"])
    with torch.no_grad():
        output = theirs.eval()(*(torch.tensor(values).long() for values in inputs))
    ours = model(batch)
    scores = output.logits if pairs == "none" else output.prediction_logits
    np.testing.assert_allclose(ours["tokens"], scores.numpy()[batch["guessed"] == 1], atol=1e-5)
    if pairs == "sop":
        np.testing.assert_allclose(ours["pair_label"], output.seq_relationship_logits.numpy(), atol=1e-5)
