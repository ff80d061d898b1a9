"""A BiLSTM and a CRF in TensorFlow's C++ loader, as TF Serving runs them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kbert.export.cpp_loader import run_in_cpp_loader
from kbert.modeling.bilstm import BiLSTM
from kbert.modeling.crf import CRF, viterbi


def test_a_bilstm_and_a_crf_run_there(tmp_path):
    bilstm, crf = BiLSTM(2), CRF(4)
    bilstm.build((None, None, 3))
    crf.build()
    random = np.random.default_rng(0)
    weights = [*bilstm.weights, *crf.weights]
    for weight in weights:
        weight.assign(random.normal(size=weight.shape))
    module = tf.Module()
    module.vars = [weight.value for weight in weights]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")], autograph=False)
    def serve(text):
        letters = tf.strings.unicode_decode(text, "UTF-8")  # a ragged row of code points for each text
        codes, mask = letters.to_tensor(), tf.sequence_mask(letters.row_lengths(), dtype=tf.int32)
        x = tf.sin(tf.cast(codes, tf.float32)[:, :, None] * [1.0, 2.0, 3.0])
        emissions = bilstm(x, mask)
        labels, score = viterbi(emissions, mask, crf.transitions, crf.start, crf.end)
        return {"labels": labels, "score": score, "marginals": crf.marginals(emissions, mask)}

    module.serve = serve
    texts = ["a short one", "", "another, longer one"]
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": serve})
    there = run_in_cpp_loader(tmp_path, {"text": texts})
    for name, here in serve(tf.constant(texts)).items():
        np.testing.assert_allclose(there[name], here, atol=1e-5)
    assert len(set(there["labels"].ravel())) > 1
