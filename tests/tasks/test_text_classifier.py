"""The classifier on raw strings: training, answers, folders, and inputs that do not fit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.data.readers import read_texts
from kbert.errors import InputError
from kbert.training import steps as training_steps
from kbert.training.replicas import check_compiled

LABELS = ["negative", "positive"]


@pytest.fixture
def model(steady_folder):
    keras.utils.set_random_seed(3)
    return kbert.BertTextClassifier.from_preset(str(steady_folder), LABELS, max_length=16)


@pytest.fixture(scope="module")
def reviews(review_files):
    return tuple(map(read_texts, review_files))


def test_it_learns_from_raw_strings(model, reviews):
    train, dev = reviews
    model.compile(learning_rate=0.005)
    history = model.fit(train.texts, train.labels, batch_size=4, epochs=30, verbose=0).history
    assert history["loss"][-1] < 0.3 < 0.6 < history["loss"][0]
    assert model.evaluate(dev.texts, dev.labels, verbose=0)["accuracy"] == 1.0
    answers = model.predict(dev.texts)
    assert answers["label"].tolist() == dev.labels
    np.testing.assert_allclose(answers["score"], answers["probabilities"].max(1))
    np.testing.assert_allclose(answers["probabilities"].sum(1), 1, atol=1e-6)


def test_predict_keeps_the_order_of_the_texts(model):
    texts = ["good " * n for n in (3, 9, 1, 5, 7, 2)]
    together = model.predict(texts, batch_size=2)["probabilities"]
    alone = np.concatenate([model.predict([text])["probabilities"] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert len({tuple(row) for row in together.round(5).tolist()}) == len(texts)


def test_evaluate_equals_the_formula(model, reviews):
    _, dev = reviews
    model.compile()
    measured = model.evaluate(dev.texts, dev.labels, batch_size=3, verbose=0)
    probabilities = model.predict(dev.texts)["probabilities"]
    numbers = [LABELS.index(label) for label in dev.labels]
    assert measured["loss"] == pytest.approx(-np.log(probabilities[range(len(numbers)), numbers]).mean(), rel=1e-5)
    assert measured["accuracy"] == pytest.approx(np.mean(probabilities.argmax(1) == numbers))


def test_a_dataset_of_strings_trains_too(model, reviews):
    train, _ = reviews
    dataset = tf.data.Dataset.from_tensor_slices((train.texts, train.labels)).batch(5)
    model.compile(learning_rate=0.01)
    model.fit(dataset, epochs=14, verbose=0, validation_data=dataset)
    numbers = tf.data.Dataset.from_tensor_slices((train.texts, [LABELS.index(y) for y in train.labels])).batch(5)
    by_string, by_number = (model.evaluate(data, verbose=0) for data in (dataset, numbers))
    assert by_string == by_number
    assert by_string["accuracy"] > 0.9


def test_pairs(steady_folder):
    keras.utils.set_random_seed(0)
    model = kbert.BertTextClassifier.from_preset(str(steady_folder), ["same", "other"], pair=True, max_length=16)
    first = ["good film", "bad plot", "我爱", "dull", "fine"] * 3
    second = ["good film", "fine film", "我爱", "very good", "fine"] * 3
    labels = ["same" if a == b else "other" for a, b in zip(first, second, strict=True)]
    model.compile(learning_rate=0.01)
    model.fit((first, second), labels, batch_size=4, epochs=15, verbose=0)
    assert model.predict((first, second))["label"].tolist() == labels
    by_name = model.predict({"text": first, "text_pair": second})
    assert by_name["label"].tolist() == labels


def test_a_saved_folder_answers_the_same(model, tmp_path):
    texts = ["good film!", "我不爱电影", "", "un ##known ☃ words"]
    model.save_to_preset(tmp_path / "saved")
    again = kbert.BertTextClassifier.from_preset(str(tmp_path / "saved"))
    assert again.task == model.task
    np.testing.assert_array_equal(model.predict(texts)["probabilities"], again.predict(texts)["probabilities"])


def test_other_labels_give_a_fresh_head_on_the_same_encoder(model, tmp_path):
    model.save_to_preset(tmp_path / "saved")
    other = kbert.BertTextClassifier.from_preset(str(tmp_path / "saved"), ["a", "b", "c"])
    features = model.features(["good film"])
    np.testing.assert_array_equal(model.encoder(features)["pooled_output"], other.encoder(features)["pooled_output"])
    assert other(features).shape == (1, 3)


def test_the_same_labels_in_another_order_keep_the_head(model, tmp_path):
    model.save_to_preset(tmp_path / "saved")
    turned = kbert.BertTextClassifier.from_preset(str(tmp_path / "saved"), LABELS[::-1])
    texts = ["good film", "dull"]
    np.testing.assert_allclose(
        turned.predict(texts)["probabilities"][:, ::-1], model.predict(texts)["probabilities"], atol=1e-6
    )


def test_predict_takes_a_dataset(model):
    texts = ["good film", "dull", "我爱电影"]
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(2)
    np.testing.assert_array_equal(model.predict(dataset)["probabilities"], model.predict(texts)["probabilities"])


def test_mixed_float16_keeps_its_scaled_loss(tiny_folder, reviews):
    train, _ = reviews
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = kbert.BertTextClassifier.from_preset(str(tiny_folder), LABELS, max_length=16)
        model.compile(learning_rate=0.01)
        assert model.optimizer.built  # a first step on several devices is too late
        model.fit(train.texts, train.labels, batch_size=4, epochs=1, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert np.isfinite(model.predict(train.texts)["score"]).all()


def test_a_run_continued_at_a_step_sees_the_rest_of_the_examples(model, reviews):
    """Step numbers that the callbacks see: the stopped epoch is finished first, then whole epochs follow."""
    train, _ = reviews
    seen = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append("step")

        def on_epoch_end(self, epoch, logs=None):
            seen.append(epoch)

    model.compile()
    model.fit(train.texts, train.labels, batch_size=4, epochs=3, initial_step=7, verbose=0, callbacks=[Count()])
    assert len(train) == 19  # 5 steps an epoch
    assert seen == ["step"] * 3 + [1] + ["step"] * 5 + [2]


def test_the_learning_rate_follows_the_steps_of_the_fit(model, reviews):
    train, _ = reviews
    rates = []

    class Rate(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    model.compile(learning_rate=1.0, warmup_rate=0.2)
    for _ in range(2):  # each fit is a run of its own
        rates.clear()
        model.fit(train.texts, train.labels, batch_size=4, epochs=2, verbose=0, callbacks=[Rate()])
        np.testing.assert_allclose(rates, [0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125], atol=1e-6)


def test_a_second_fit_traces_no_graph(model, reviews, monkeypatch):
    train, _ = reviews
    traced = []
    step = training_steps.train_step
    monkeypatch.setattr(training_steps, "train_step", lambda *arguments: traced.append(1) or step(*arguments))
    model.compile(learning_rate=0.01)
    for epochs in (2, 1, 3):
        model.fit(train.texts, train.labels, batch_size=4, epochs=epochs, verbose=0)
        assert model.optimizer.iterations.numpy() == 5 * epochs
    first = len(traced)
    model.fit(train.texts, train.labels, batch_size=7, verbose=0)
    assert len(traced) == first == 1
    model.fit(train.texts, train.labels, batch_size=2, gradient_accumulation_steps=2, verbose=0)
    assert len(traced) == 2


# === Inputs that do not fit ===


def test_a_preset_without_a_head_needs_labels(tiny_folder):
    with pytest.raises(InputError, match="pass labels="):
        kbert.BertTextClassifier.from_preset(str(tiny_folder))


def test_a_length_over_the_position_table(tiny_folder):
    with pytest.raises(InputError, match="max_length must be at most 29"):
        kbert.BertTextClassifier.from_preset(str(tiny_folder), LABELS, max_length=30)


@pytest.mark.parametrize("labels", [["one"], ["a", "b", "a"]])
def test_labels_that_make_no_classifier(tiny_folder, labels):
    with pytest.raises(InputError, match="label"):
        kbert.BertTextClassifier.from_preset(str(tiny_folder), labels)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("good", ["positive"], "not one str"),
        ([], [], "no texts"),
        (["good", 3], ["positive", "negative"], "text 1 must be a str. Received: 3"),
        (["good"], ["neutral"], "'neutral'; the model knows negative, positive"),
        (["good"], [2], "class 2; the model has 2 classes"),
        (["good", "bad"], ["positive"], "equally many. Received: 2 and 1"),
        ((["good"], ["bad"]), ["positive"], "this model reads single texts"),
    ],
)
def test_wrong_x_and_y(model, x, y, message):
    with pytest.raises(InputError, match=message):
        model.fit(x, y, verbose=0)


def test_a_dataset_with_an_unknown_label(model):
    dataset = tf.data.Dataset.from_tensors((["good"], ["neutral"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a label that the model lacks"):
        model.fit(dataset, verbose=0)


def test_a_dataset_without_labels(model):
    with pytest.raises(InputError, match="must give"):
        model.fit(tf.data.Dataset.from_tensors(["good"]), verbose=0)


def test_a_dataset_cannot_be_continued(model):
    with pytest.raises(InputError, match="initial_step and sample_weight need"):
        model.fit(tf.data.Dataset.from_tensors((["good"], ["positive"])), initial_step=1, verbose=0)


def test_a_dataset_of_unknown_size(model):
    dataset = tf.data.Dataset.from_tensors((["good"], ["positive"])).filter(lambda x, y: True)
    with pytest.raises(InputError, match="assert_cardinality"):
        model.fit(dataset, verbose=0)


# === Weights of examples, accumulation, several devices ===


def test_training_uses_dropout_and_evaluation_none(tiny_folder, reviews):
    train, _ = reviews
    model = kbert.BertTextClassifier.from_preset(str(tiny_folder), LABELS, max_length=16)
    model.compile(learning_rate=1e-9)
    once, again = (model.evaluate(train.texts, train.labels, verbose=0)["loss"] for _ in range(2))
    trained = [model.fit(train.texts, train.labels, verbose=0).history["loss"][0] for _ in range(2)]
    assert once == pytest.approx(again, rel=1e-6)
    assert len({round(loss, 4) for loss in (once, *trained)}) == 3


def test_the_reported_loss_is_the_weighted_mean(model, reviews):
    train, _ = reviews
    model.compile(keras.optimizers.SGD(0.0))
    numbers = np.array([LABELS.index(label) for label in train.labels])
    probabilities = model.predict(train.texts)["probabilities"]
    sample = np.arange(1, len(numbers) + 1) / 10
    weights = sample * np.where(numbers == 1, 3, 1)
    expected = -(weights * np.log(probabilities[range(len(numbers)), numbers])).sum() / weights.sum()
    fit = {"batch_size": 4, "class_weight": {"positive": 3}, "sample_weight": sample, "verbose": 0}
    for steps in (1, 3):
        history = model.fit(train.texts, train.labels, gradient_accumulation_steps=steps, **fit).history
        assert history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_accumulated_batches_are_one_large_batch(steady_folder, reviews):
    train, _ = reviews
    dataset = tf.data.Dataset.from_tensor_slices((train.texts, train.labels))
    whole = dataset.batch(6)
    parts = dataset.batch(2, drop_remainder=False)
    for data, sizes in (
        ((train.texts, train.labels), ({"batch_size": 6}, {"batch_size": 2})),
        ((whole, parts), ({}, {})),
    ):
        weights = []
        for i, steps in enumerate((1, 3)):
            keras.utils.set_random_seed(3)
            model = kbert.BertTextClassifier.from_preset(str(steady_folder), LABELS, max_length=16)
            model.compile(keras.optimizers.SGD(0.1))
            x = data if isinstance(data[0], list) else (data[i],)
            history = model.fit(*x, epochs=2, gradient_accumulation_steps=steps, verbose=0, **sizes[i])
            assert history.params["steps"] == 4
            weights.append(model.get_weights())
        for left, right in zip(*weights, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_weight": {"neutral": 2}}, "class_weight names class 'neutral'; the model knows negative, positive"),
        ({"class_weight": {0: -1.0}}, "class_weight must be finite and 0 or more. Received: -1.0"),
        ({"sample_weight": [1.0]}, r"sample_weight must have shape \(2,\). Received: \(1,\)"),
        ({"sample_weight": [1.0, float("nan")]}, "sample_weight must be finite and 0 or more. Received: nan"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be 1 or more. Received: 0"),
    ],
)
def test_weights_and_sizes_that_make_no_run(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model.fit(["good", "bad"], ["positive", "negative"], verbose=0, **arguments)


def test_sample_weight_beside_a_dataset(model):
    with pytest.raises(InputError, match="gives sample_weight as the third"):
        model.fit(tf.data.Dataset.from_tensors((["good"], ["positive"])), sample_weight=[1.0], verbose=0)


def test_a_loss_beside_the_items_is_refused(model):
    model.encoder.pooler.kernel.regularizer = keras.regularizers.L2(0.1)
    with pytest.raises(InputError, match="losses from add_loss or regularizers are not counted"):
        model.fit(["good"], ["positive"], verbose=0)


def test_what_several_devices_cannot_keep(model):
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1.0))
    with pytest.raises(InputError, match="global_clipnorm of SGD works on each replica alone"):
        check_compiled(model)
    model.compile(steps_per_execution=2)
    with pytest.raises(InputError, match="steps_per_execution must be 1 on several devices"):
        check_compiled(model)
