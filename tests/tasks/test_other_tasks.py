"""Tagging, answering, embedding and filling masks on raw strings: training, answers, folders, wrong inputs."""

from __future__ import annotations

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tasks.examples import ANSWERS, ENTITIES, QUESTIONS, TAGS, TEXTS

import kbert
from kbert.config import FillMaskConfig
from kbert.errors import InputError


@pytest.fixture
def masked_lm(steady_folder):
    keras.utils.set_random_seed(1)
    encoder = kbert.BertEncoder.from_preset(str(steady_folder))
    tokenizer = kbert.BertTokenizer.from_preset(str(steady_folder), parse_special_tokens=["[MASK]"])
    return kbert.BertMaskedLM(encoder, tokenizer, FillMaskConfig(top_k=3, max_length=16))


def same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(value, right[name], atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(value, right[name], err_msg=name)


# === Tagging ===


@pytest.mark.parametrize("head", ["dense", "crf"])
def test_a_tagger_learns_entities_and_keeps_them_in_its_folder(steady_folder, tmp_path, head):
    keras.utils.set_random_seed(1)
    model = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head=head, max_length=16)
    model.compile(learning_rate=0.02 if head == "dense" else 0.002)  # a CRF learns at a hundred times this rate
    model.fit(TEXTS, ENTITIES, batch_size=4, epochs=20 if head == "dense" else 60, verbose=0)
    history = model.fit(TEXTS, ENTITIES, batch_size=4, validation_data=(TEXTS, ENTITIES), verbose=0).history
    assert history["val_f1"][-1] == 1.0
    assert model.evaluate(TEXTS, ENTITIES, verbose=0)["f1"] == 1.0
    answers = model.predict(TEXTS[:4])
    assert answers["entity_text"].tolist() == [["film", ""], ["plot", "bad"], ["dull", ""], ["电影", ""]]
    assert answers["entity_count"].tolist() == [1, 2, 1, 1]
    model.save_to_preset(tmp_path / "tagger")
    same(kbert.BertTokenClassifier.from_preset(str(tmp_path / "tagger")).predict(TEXTS[:4]), answers)


@pytest.mark.parametrize("head", ["bilstm", "bilstm-crf"])
def test_a_bilstm_learns_and_is_kept(steady_folder, tmp_path, head):
    keras.utils.set_random_seed(1)
    model = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head=head, max_length=16)
    model.compile(learning_rate=0.002)
    losses = model.fit(TEXTS, ENTITIES, batch_size=4, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    model.save_to_preset(tmp_path / "tagger")
    same(kbert.BertTokenClassifier.from_preset(str(tmp_path / "tagger")).predict(TEXTS), model.predict(TEXTS))


def test_entities_anywhere_in_a_long_text(tagger, monkeypatch):
    """With logits that know the words: every one is found once, wherever the windows are cut."""
    words = {"film": "B-THING", "plot": "I-THING", "dull": "B-MOOD"}
    table = np.zeros((len(tagger.tokenizer.vocabulary), len(TAGS)), np.float32)
    table[:, 0] = 1
    for word, tag in words.items():
        table[tagger.tokenizer.token_to_id(word), TAGS.index(tag)] = 2
    random = np.random.default_rng(0)
    vocabulary = ["good", "the", "film", "film plot plot", "dull", "very", "goodly", "was"]
    texts = [" ".join(random.choice(vocabulary, n)) for n in (0, 1, 13, 14, 15, 300, 29)]
    found = tagger.predict(texts, engine=lambda features: table[features["token_ids"]])
    for row, text in enumerate(texts):
        expected = [match.span() for match in re.finditer("film( plot)*|dull", text)]
        count = found["entity_count"][row]
        spans = list(zip(found["entity_start"][row].tolist(), found["entity_end"][row].tolist(), strict=True))
        assert spans[:count] == expected
        assert found["entity_text"][row, :count].tolist() == [text[start:end] for start, end in expected]
        assert set(spans[count:]) <= {(-1, -1)}


@pytest.mark.parametrize("head", ["dense", "crf"])
def test_decoding_gives_the_best_tags_that_the_scheme_allows(steady_folder, head):
    model = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head=head, max_length=16)
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 4, len(TAGS))).astype(np.float32)
    transitions, start, end = np.zeros((5, 5)), np.zeros(5), np.zeros(5)
    if head == "crf":
        transitions, start, end = random.normal(size=(5, 5)), random.normal(size=5), random.normal(size=5)
        model.crf.set_weights([transitions, start, end])
    lengths = [4, 3, 1, 4, 2, 4]
    tags, _ = model._decode(tf.constant(logits), tf.sequence_mask(lengths, 4))
    for row, length in enumerate(lengths):
        scores = {}
        for path in itertools.product(range(5), repeat=length):
            names = ["O", *(TAGS[i] for i in path)]
            if any(b.startswith("I-") and a[2:] != b[2:] for a, b in itertools.pairwise(names)):
                continue
            scores[path] = start[path[0]] + end[path[-1]] + logits[row, range(length), path].sum()
            scores[path] += sum(transitions[pair] for pair in itertools.pairwise(path))
        assert tuple(tags.numpy()[row, :length]) == max(scores, key=scores.get)


def test_emoji_and_combining_marks_keep_their_offsets(tagger):
    tagger.compile(learning_rate=0.02)
    tagger.fit(TEXTS, ENTITIES, batch_size=4, epochs=20, verbose=0)
    text = "😀 good ﬁlm e\u0301 \U0001f468\u200d\U0001f469 good fi\u0301lm"
    found = tagger.predict([text])
    for i in range(found["entity_count"][0]):
        assert text[found["entity_start"][0, i] : found["entity_end"][0, i]] == found["entity_text"][0, i]


def test_labels_that_cannot_be_learnt_are_reported(tagger, caplog):
    tagger.compile()
    text = "good \u0000\u0001 film"
    tagger.fit([text], [[(5, 7, "MOOD"), (9, 12, "THING")]], epochs=1, verbose=0)
    assert "1 of 2 entities cannot be learnt" in caplog.text
    assert "1 of 2 entities begin or end inside of a word" in caplog.text


@pytest.mark.parametrize(
    ("y", "message"),
    [([], "equally many. Received: 1 and 0"), ([[(0, 4, "PLACE")]], "type 'PLACE'; the model knows MOOD, THING")],
)
def test_wrong_entities(tagger, y, message):
    with pytest.raises(InputError, match=message):
        tagger.fit(["good film"], y, verbose=0)


def test_a_tagger_has_no_class_weights_and_a_crf_no_other_loss(tagger, steady_folder):
    with pytest.raises(InputError, match="give sample_weight"):
        tagger.fit(TEXTS, ENTITIES, class_weight={0: 2.0}, verbose=0)
    crf = kbert.BertTokenClassifier.from_preset(str(steady_folder), TAGS, head="crf", max_length=16)
    crf.compile(loss=keras.losses.MeanSquaredError())
    with pytest.raises(InputError, match="a CRF has a loss of its own"):
        crf.fit(TEXTS, ENTITIES, verbose=0)


def test_texts_of_weight_zero_teach_nothing(tagger):
    tagger.compile(keras.optimizers.SGD(0.1))
    before = [v.numpy() for v in tagger.trainable_variables]
    tagger.fit(TEXTS, ENTITIES, sample_weight=np.zeros(len(TEXTS)), verbose=0)
    for old, variable in zip(before, tagger.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


# === Answering ===


def test_an_answerer_learns_and_keeps_its_answers(answerer, tmp_path):
    answerer.compile(learning_rate=0.02)
    data = ((QUESTIONS, TEXTS), ANSWERS)
    history = answerer.fit(*data, batch_size=4, epochs=30, validation_data=data, verbose=0).history
    assert history["val_exact_match"][-1] == history["val_f1"][-1] == 1.0
    answers = answerer.predict((QUESTIONS[:4], TEXTS[:4]))
    assert answers["answer"].tolist() == ["film", "plot", "very", "电影"]
    for text, start, end, answer in zip(TEXTS, answers["start"], answers["end"], answers["answer"], strict=False):
        assert text[start:end] == answer
    assert ((answers["score"] > 0.5) & (answers["score"] <= 1)).all()
    answerer.save_to_preset(tmp_path / "answerer")
    same(
        kbert.BertQuestionAnswerer.from_preset(str(tmp_path / "answerer")).predict((QUESTIONS[:4], TEXTS[:4])), answers
    )


def test_the_best_span_by_hand(answerer):
    """Over all windows, begin and end in the context, at most `max_answer_length` tokens: against a plain search."""
    question, context = ["good bad"], ["the plot was not very dull , fine ! a good film"]
    features = {name: value.numpy() for name, value in answerer.features(question, context).items()}
    assert len(features["text_index"]) > 1
    logits = answerer._inference({k: features[k] for k in ("token_ids", "segment_ids", "padding_mask")}).numpy()
    best, z_begin, z_end = None, 0.0, 0.0
    for row, starts in enumerate(features["token_starts"]):
        places = np.flatnonzero(starts >= 0)
        z_begin += np.exp(logits[row, places, 0]).sum()
        z_end += np.exp(logits[row, places, 1]).sum()
        for i in places:
            for j in places[(places >= i) & (places < i + answerer.task.max_answer_length)]:
                value = logits[row, i, 0] + logits[row, j, 1]
                if best is None or value > best[0]:
                    best = value, starts[i], features["token_ends"][row, j]
    answers = answerer.predict((question, context))
    assert (answers["start"][0], answers["end"][0]) == best[1:]
    np.testing.assert_allclose(answers["score"][0], np.exp(best[0]) / z_begin / z_end, rtol=1e-5)


def test_questions_without_an_answer(steady_folder):
    keras.utils.set_random_seed(1)
    model = kbert.BertQuestionAnswerer.from_preset(str(steady_folder), max_length=16, no_answer=True)
    model.compile(learning_rate=0.02)
    y = [[], *ANSWERS[1:4]] * 4
    model.fit((QUESTIONS, TEXTS), y, batch_size=4, epochs=30, verbose=0)
    answers = model.predict((QUESTIONS[:4], TEXTS[:4]))
    assert answers["answer"].tolist() == ["", "plot", "very", "电影"]
    assert (answers["start"][0], answers["end"][0]) == (-1, -1)
    assert model.evaluate((QUESTIONS, TEXTS), y, verbose=0)["exact_match"] == 1.0


@pytest.mark.parametrize(
    ("expected", "f1"),
    [
        ([["我爱电影"], ["我"]], 6 / 7),  # CMRC 2018: characters, of which three in one piece are shared
        ([["我爱电影"], []], 6 / 7),
        ([["a very good film"], ["a"]], 2 / 5),  # SQuAD: words, and no articles
        ([["a very good film"], []], 2 / 5),
    ],
)
def test_the_language_of_the_answers_says_how_they_are_scored(answerer, expected, f1):
    found = "爱电影" if "我爱电影" in expected[0] else "film is"
    y = [[(text, 0) for text in row] for row in expected]
    metrics = answerer.score({"answer": np.array([found, ""], object)}, y)
    has_none = not all(expected)
    assert ("no_answer_f1" in metrics) == has_none
    assert metrics["f1"] == pytest.approx((f1 + has_none) / 2)


def test_an_empty_context_has_no_answer(answerer):
    answers = answerer.predict((["good", "bad"], ["", "a film"]))
    assert (answers["answer"][0], answers["start"][0], answers["end"][0], answers["score"][0]) == ("", -1, -1, 0.0)


@pytest.mark.parametrize(
    ("y", "message"),
    [([[("plot", 5)]], "question 0 has no 'plot' at character 5"), ([], "equally many. Received: 1 and 0")],
)
def test_wrong_answers(answerer, y, message):
    with pytest.raises(InputError, match=message):
        answerer.fit((["good"], ["good film"]), y, verbose=0)


def test_answers_that_cannot_be_learnt_are_reported(answerer, caplog):
    answerer.compile()
    answerer.fit((["good"] * 2, ["good film " * 9, "bad"]), [[("film good " * 8, 5)], [("nowhere", -1)]], verbose=0)
    assert "1 of 2 answers are longer than a window" in caplog.text


# === Embedding ===


def test_an_embedder_learns_scores(embedder, tmp_path):
    first, second = TEXTS[:4], [TEXTS[i] for i in (1, 2, 3, 0)]
    scores = [4.5, 0.5, 3.0, 1.0]
    model = kbert.BertTextEmbedder(
        embedder.encoder, embedder.tokenizer, kbert.EmbedConfig(max_length=16, score_scale=5)
    )
    model.compile(learning_rate=0.003)
    data = ((first, second), scores)
    history = model.fit(*data, epochs=40, validation_data=data, verbose=0).history
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    vectors = [model.predict(texts)["embedding"] for texts in (first, second)]
    np.testing.assert_allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-6)
    cosines = np.diag(kbert.similarity(*vectors))
    assert history["val_pearson"][-1] == pytest.approx(np.corrcoef(cosines, scores)[0, 1], abs=1e-5)
    np.testing.assert_allclose(history["val_loss"][-1], ((cosines - np.array(scores) / 5) ** 2).mean(), rtol=1e-4)
    model.save_to_preset(tmp_path / "embedder")
    same(kbert.BertTextEmbedder.from_preset(str(tmp_path / "embedder")).predict(first), {"embedding": vectors[0]})


def test_pairs_without_scores_are_told_from_the_rest_of_the_batch(embedder):
    first, second = TEXTS[:4], ["a good film", "the bad plot", "dull", "我爱 film"]
    embedder.compile(keras.optimizers.Adam(0.005))
    losses = embedder.fit((first, second), batch_size=4, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    found = kbert.similarity(embedder.predict(first)["embedding"], embedder.predict(second)["embedding"])
    assert found.argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_by_hand(steady_folder, pooling):
    model = kbert.BertTextEmbedder.from_preset(str(steady_folder), pooling=pooling, max_length=16)
    texts = ["good film", "the plot was not very dull , fine ! a"]
    features = model.features(texts)
    tokens, mask = model.encoder(features)["sequence_output"].numpy(), features["padding_mask"].numpy()[..., None]
    vectors = (tokens * mask).sum(1) / mask.sum(1) if pooling == "mean" else tokens[:, 0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict(texts)["embedding"], vectors, atol=1e-5)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([2.0], "from -1 to 1"),
        ([0.5, 1], "equally many"),
        (["high"], "a finite number for each pair"),
        ([np.nan], "a finite number for each pair"),
    ],
)
def test_wrong_scores(embedder, scores, message):
    with pytest.raises(InputError, match=message):
        embedder.fit((["good"], ["bad"]), scores, verbose=0)


def test_scores_beyond_the_scale_are_evaluated_but_not_learnt(embedder):
    """Correlations need no scale; the loss goes on beyond it."""
    pairs, scores = (TEXTS[:4], TEXTS[1:4] + TEXTS[:1]), [4.5, -2.0, 0.5, 3.0]
    embedder.compile()
    metrics = embedder.evaluate(pairs, scores, verbose=0)
    cosines = embedder.answers_to_score(pairs)["cosine"]
    assert metrics["pearson"] == pytest.approx(np.corrcoef(cosines, scores)[0, 1], abs=1e-5)
    assert metrics["loss"] == pytest.approx(((cosines - np.array(scores)) ** 2).mean(), rel=1e-4)
    with pytest.raises(InputError, match="scores go from -1 to 1, which is `score_scale`. Received: 4.5"):
        embedder.fit(pairs, scores, verbose=0)
    with pytest.raises(InputError, match="a finite number for each pair"):
        embedder.evaluate(pairs, [*scores[:3], np.inf], verbose=0)


def test_similarity_of_nothing_is_nothing():
    assert kbert.similarity([[0, 0], [3, 4]], [[6, 8]]).tolist() == [[0], [pytest.approx(1)]]


# === Masks ===


def test_masks_are_filled_with_the_likeliest_tokens(masked_lm, tmp_path):
    texts = ["good [MASK] was [MASK]", "no mask", "[MASK]"]
    answers = masked_lm.predict(texts)
    features = masked_lm.features(texts)
    probabilities = keras.ops.softmax(masked_lm(features)).numpy()
    rows, columns = np.nonzero(features["token_ids"].numpy() == masked_lm.tokenizer.mask_id)
    assert answers["token"].shape == (3, 2, 3)
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        best = probabilities[row, column].argsort()[::-1][:3]
        place = (0, 1, 0)[n]
        assert answers["token"][row, place].tolist() == [masked_lm.tokenizer.vocabulary[i] for i in best]
        np.testing.assert_allclose(answers["score"][row, place], probabilities[row, column][best], rtol=1e-4)
    assert answers["token"][1].tolist() == [[""] * 3] * 2
    assert [len(row["token"]) for row in masked_lm.answer_rows(answers)] == [2, 0, 1]
    masked_lm.save_to_preset(tmp_path / "lm")
    same(kbert.BertMaskedLM.from_preset(str(tmp_path / "lm")).predict(texts), answers)


def test_an_encoder_fills_no_masks(steady_folder, masked_lm):
    with pytest.raises(InputError, match="no masked-LM head"):
        kbert.BertMaskedLM.from_preset(str(steady_folder))
    with pytest.raises(InputError, match="not trained by `fit`"):
        masked_lm.fit(["good"], ["film"], verbose=0)


# === Several labels, and numbers ===


def test_any_number_of_labels(steady_folder, tmp_path):
    keras.utils.set_random_seed(1)
    model = kbert.BertTextClassifier.from_preset(
        str(steady_folder), ["film", "mood", "zh"], problem="multi_label", max_length=16
    )
    labels = [["film"], ["mood", "film"], ["mood"], ["film", "zh"]] * 4
    model.compile(learning_rate=0.01)
    model.fit(TEXTS, labels, batch_size=4, epochs=30, verbose=0)
    answers = model.predict(TEXTS[:4])
    assert answers["labels"].tolist() == [["film", "", ""], ["film", "mood", ""], ["mood", "", ""], ["film", "zh", ""]]
    assert model.evaluate(TEXTS, labels, verbose=0)["exact_match"] == 1.0
    one_hot = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1]] * 4)
    assert model.evaluate(TEXTS, one_hot, verbose=0) == model.evaluate(TEXTS, labels, verbose=0)
    model.save_to_preset(tmp_path / "many")
    same(kbert.BertTextClassifier.from_preset(str(tmp_path / "many")).predict(TEXTS[:4]), answers)
    with pytest.raises(InputError, match="label 'sad'; the model knows film, mood, zh"):
        model.fit(TEXTS[:1], [["sad"]], verbose=0)


def test_a_number_for_a_text(steady_folder, tmp_path):
    keras.utils.set_random_seed(1)
    model = kbert.BertTextClassifier.from_preset(str(steady_folder), problem="regression", max_length=16)
    values = [0.5, -1.0, 2.0, 1.0] * 4
    model.compile(learning_rate=0.01)
    model.fit(TEXTS, values, batch_size=4, epochs=30, verbose=0)
    measured = model.evaluate(TEXTS, values, verbose=0)
    found = model.predict(TEXTS)["value"]
    np.testing.assert_allclose(measured["loss"], ((found - values) ** 2).mean(), rtol=1e-4)
    assert min(measured["pearson"], measured["spearman"]) > 0.9
    model.save_to_preset(tmp_path / "number")
    same(kbert.BertTextClassifier.from_preset(str(tmp_path / "number")).predict(TEXTS), {"value": found})
    with pytest.raises(InputError, match="a number for each text"):
        model.fit(TEXTS[:1], ["much"], verbose=0)
