"""Long lists cut into requests: the joined answer is that of one request, whatever the widths."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from kbert.errors import InputError
from kbert.serving.batches import cut, join
from kbert.serving.client import Client
from kbert.serving.server import ModelServer


class Words(tf.Module):
    """Like a tagger: as many columns as the longest text of the request has words."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def words(self, text):
        words = tf.strings.split(text)
        lengths = tf.strings.length(words)
        return {
            "word": words.to_tensor(""),
            "length": lengths.to_tensor(-1),
            "half": tf.cast(lengths, tf.float32).to_tensor(0.0) / 2,
            "count": tf.cast(words.row_lengths(), tf.int32),
        }


TEXTS = ["a fine film", "dull", "", "one two three four", "漢字 かな", "x", "to be"]


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    module = Words()
    tf.saved_model.save(module, str(root / "words" / "1"), signatures=module.words)
    with ModelServer(root, grpc_port=0, rest_port=0) as server:
        yield {"grpc": f"127.0.0.1:{server.grpc_port}", "rest": f"http://127.0.0.1:{server.rest_port}"}


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize(("batch_size", "concurrency"), [(1, 1), (3, 1), (2, 4), (100, 2)])
def test_it_equals_one_request(targets, protocol, batch_size, concurrency):
    with Client(targets[protocol]) as client:
        whole = client.predict("words", {"text": TEXTS})
        assert whole["word"].shape == (7, 4)
        joined = client.predict_many("words", {"text": TEXTS}, batch_size, concurrency)
    assert list(joined) == list(whole)
    for name in whole:
        assert joined[name].dtype == whole[name].dtype
        assert joined[name].tolist() == whole[name].tolist()


def test_no_texts_at_all(targets):
    with Client(targets["grpc"]) as client:
        joined = client.predict_many("words", {"text": []})
    assert joined["word"].shape == (0, 0)
    assert joined["count"].shape == (0,)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"concurrency": 0}])
def test_wrong_settings(targets, wrong):
    with Client(targets["grpc"]) as client, pytest.raises(InputError, match=f"{next(iter(wrong))}.*0"):
        client.predict_many("words", {"text": TEXTS}, **wrong)


def test_requests_run_at_the_same_time_and_keep_their_order(targets, monkeypatch):
    together, most, lock = 0, 0, threading.Lock()
    with Client(targets["rest"]) as client:
        ask = client._predict

        def slow(model, signature_name, arrays):
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
            # The first requests take longest, so that they would come last if order were by arrival.
            time.sleep(0.05 * (len(arrays["text"][0]) % 3))
            answer = ask(model, signature_name, arrays)
            with lock:
                together -= 1
            return answer

        monkeypatch.setattr(client, "_predict", slow)
        joined = client.predict_many("words", {"text": TEXTS}, batch_size=1, concurrency=3)
    assert joined["word"][:, 0].tolist() == ["a", "dull", "", "one", "漢字", "x", "to"]
    assert 1 < most <= 3


def test_the_first_failure_ends_the_call(targets, monkeypatch):
    asked = []
    with Client(targets["grpc"]) as client:

        def fail(model, signature_name, arrays):
            asked.append(len(arrays["text"]))
            raise RuntimeError("broken")

        monkeypatch.setattr(client, "_predict", fail)
        with pytest.raises(RuntimeError, match="broken"):
            client.predict_many("words", {"text": TEXTS * 20}, batch_size=1, concurrency=1)
    assert len(asked) < 140


def test_cut():
    texts, weights = np.array(list("abcde"), object), np.arange(10.0).reshape(5, 2)
    parts = list(cut({"text": texts, "weight": weights}, 2))
    assert [part["text"].tolist() for part in parts] == [["a", "b"], ["c", "d"], ["e"]]
    assert parts[2]["weight"].tolist() == [[8.0, 9.0]]
    for wrong in ({"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.float32(1)}, {}):
        with pytest.raises(InputError, match="number of rows"):
            list(cut(wrong, 2))


def test_join_pads_every_dimension_by_its_type():
    answers = [
        {"a_bytes": np.array([[b"x"]], object), "b": np.ones((1, 1, 2), bool), "u": np.uint8([[7]])},
        {"a_bytes": np.array([[b"y", b"z"]], object), "b": np.ones((1, 2, 1), bool), "u": np.uint8([[8, 9]])},
    ]
    joined = join(answers)
    assert joined["a_bytes"].tolist() == [[b"x", b""], [b"y", b"z"]]
    assert joined["b"].tolist() == [[[True, True], [False, False]], [[True, False], [True, False]]]
    assert joined["u"].tolist() == [[7, 0], [8, 9]]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"b": np.zeros(1)}, "version"),
        ({"a": np.zeros((1, 2))}, "'a'"),
        ({"a": np.zeros(1, np.float32)}, "float32"),
        ({"a": np.float64(0)}, "'a'"),
    ],
)
def test_answers_that_cannot_be_joined(second, words):
    with pytest.raises(InputError, match=words):
        join([{"a": np.zeros(1)}, second])
