"""Versions that come, go, and do not load, and what the server says of them."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref

import numpy as np
import pytest
import tensorflow as tf
from serving.conftest import save_toy
from tensorflow.python.eager import context
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2, prediction_log_pb2

from kbert.errors import InputError
from kbert.serving import versions
from kbert.serving.client import Client
from kbert.serving.models import Model
from kbert.serving.options import ServerOptions
from kbert.serving.server import ModelServer
from kbert.serving.store import ModelStore

WEIGHT = {"text": ["a"], "weight": np.float32([3])}
QUICK = ServerOptions(poll_seconds=0.05)


def copy_of(source, target):
    """Written beside it, then renamed, as an export does it."""
    partial = target.with_name(f".{target.name}")
    shutil.copytree(source, partial)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)


def write_warm_up(folder, *logs):
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())


def predict_log(signature, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "any"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def states(store, name="toy"):
    statuses = store.status(name).model_version_status
    names = get_model_status_pb2.ModelVersionStatus.State.Name
    return {status.version: (names(status.state), status.status.error_code) for status in statuses}


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def store(root, tmp_path):
    """Version 2 of "toy", loaded; a test polls by itself."""
    copy_of(root / "toy" / "2", tmp_path / "toy" / "2")
    store = ModelStore(tmp_path, ServerOptions(poll_seconds=1000))
    store.start()
    yield store
    store.stop()


def test_a_new_version_takes_over_and_the_old_one_ends_with_its_last_request(store, root, tmp_path):
    with store.lease("toy") as second:
        copy_of(root / "toy" / "10", tmp_path / "toy" / "10")
        store.poll()
        with store.lease("toy") as tenth:
            assert (second.model.version, tenth.model.version) == (2, 10)
        assert states(store) == {10: ("AVAILABLE", 0), 2: ("UNLOADING", 0)}
        arrays = {"text": np.array([b"a"], dtype=object), "weight": np.float32([3])}
        assert second.model.predict("serving_default", arrays)["product"].tolist() == [6.0]
    eventually(lambda: states(store) == {10: ("AVAILABLE", 0), 2: ("END", 0)})


def test_nothing_is_loaded_twice(store, monkeypatch):
    with store.lease("toy") as first:
        pass
    monkeypatch.setattr("kbert.serving.versions.load_model", None)
    store.poll()
    with store.lease("toy", 2) as second:
        assert second is first


def test_what_has_ended_is_no_longer_in_memory(store, root, tmp_path):
    with store.lease("toy") as loaded:
        model = weakref.ref(loaded.model)
    del loaded
    copy_of(root / "toy" / "10", tmp_path / "toy" / "10")
    gc.disable()
    try:
        store.poll()  # loads the new one, and lets the old one end
        assert model() is not None

        def is_gone():
            store.poll()
            return model() is None

        eventually(is_gone)
    finally:
        gc.enable()


class WithGradient(tf.Module):
    """A model as an exported BERT is one: one of its ops has a gradient of its own."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(tf.ones([7]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def scale(self, value):
        @tf.custom_gradient
        def scaled(x):
            y = x * tf.reduce_sum(self.weight)
            return y, lambda upstream, variables=None: (upstream * y, [tf.ones([7])])

        return {"scaled": scaled(value)}


def test_custom_gradients_keep_nothing_in_memory(tmp_path):
    """TensorFlow registers them for good, and with them the variables that they reach."""
    module = WithGradient()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.scale)
    functions = context.context().list_function_names
    gc.collect()
    before = set(functions())
    model = versions.load_model("scale", 1, tmp_path / "1")
    assert model.predict("serving_default", {"value": np.float32([2, 3])})["scaled"].tolist() == [14.0, 21.0]
    assert set(functions()) > before
    del model
    gc.collect()
    assert set(functions()) == before


def test_removed_versions_and_models_are_unloaded(store, root, tmp_path):
    copy_of(root / "toy" / "10", tmp_path / "toy" / "10")
    copy_of(root / "sentiment" / "1", tmp_path / "sentiment" / "1")
    store.poll()
    assert states(store, "sentiment") == {1: ("AVAILABLE", 0)}
    shutil.rmtree(tmp_path / "toy" / "10")  # back to the one before
    store.poll()
    assert states(store) == {10: ("END", 0), 2: ("AVAILABLE", 0)}
    shutil.rmtree(tmp_path / "sentiment")
    store.poll()
    assert states(store, "sentiment") == {1: ("END", 0)}
    with pytest.raises(Exception, match="'sentiment' is not served"), store.lease("sentiment"):
        pass
    assert store.is_ready()
    copy_of(root / "sentiment" / "1", tmp_path / "sentiment" / "1")
    store.poll()
    assert states(store, "sentiment") == {1: ("AVAILABLE", 0)}


def test_a_folder_out_of_reach_is_no_reason_to_stop(store, tmp_path, caplog):
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    try:
        store.poll()
        assert states(store) == {2: ("AVAILABLE", 0)}
        assert "cannot be looked at" in caplog.text
    finally:
        tmp_path.with_name("elsewhere").rename(tmp_path)


def test_half_written_folders_are_left_alone(store, tmp_path):
    (tmp_path / "toy" / "12").mkdir()
    (tmp_path / "toy" / "12" / "variables").mkdir()
    (tmp_path / "toy" / "99999999999999999999").mkdir()
    (tmp_path / "toy" / "99999999999999999999" / "saved_model.pb").write_bytes(b"")
    store.poll()
    assert states(store) == {2: ("AVAILABLE", 0)}


def test_a_broken_version_leaves_the_old_one_in_place_and_is_tried_again_when_mended(
    store, root, tmp_path, monkeypatch, caplog
):
    broken = tmp_path / "toy" / "12"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a SavedModel")
    store.poll()
    assert states(store) == {12: ("END", 2), 2: ("AVAILABLE", 0)}
    (status,) = store.status("toy", 12).model_version_status
    assert f"{broken} does not load as a SavedModel" in status.status.error_message
    assert f"model 'toy' version 12 is not served: {broken} does not load" in caplog.text
    assert store.is_ready()
    with monkeypatch.context() as patch:
        patch.setattr("kbert.serving.versions.load_model", None)  # nothing has changed: not tried
        store.poll()
    shutil.rmtree(broken)
    copy_of(root / "toy" / "10", broken)
    store.poll()
    assert states(store) == {12: ("AVAILABLE", 0), 2: ("END", 0)}


def test_a_model_that_is_broken_from_the_start_does_not_count_as_ready(store, tmp_path):
    (tmp_path / "worse" / "1").mkdir(parents=True)
    (tmp_path / "worse" / "1" / "saved_model.pb").write_bytes(b"not a SavedModel")
    store.poll()
    assert not store.is_ready()
    with pytest.raises(Exception, match="'worse' is not served; its versions are {1: 'END'}"), store.lease("worse"):
        pass


def test_a_version_is_warmed_up_before_it_answers(store, root, tmp_path, monkeypatch):
    called = []
    run = Model.predict
    monkeypatch.setattr(
        Model, "predict", lambda model, name, inputs: called.append((model.version, name)) or run(model, name, inputs)
    )
    folder = tmp_path / "toy" / ".10"
    shutil.copytree(root / "toy" / "10", folder)
    write_warm_up(
        folder,
        predict_log("", text=["a"], weight=np.float32([1])),
        predict_log("one_output", text=["a", "b"]),
    )
    folder.rename(tmp_path / "toy" / "10")
    store.poll()
    assert called == [(10, "serving_default"), (10, "one_output")]
    assert states(store) == {10: ("AVAILABLE", 0), 2: ("END", 0)}


@pytest.mark.parametrize(
    ("logs", "code", "words"),
    [
        (
            [predict_log("one_output", text=["a"]), predict_log("check", number=np.int32([-1]))],
            3,
            "request 2 of .*posi",
        ),
        ([predict_log("nope", text=["a"])], 9, "request 1 of .*'nope'"),
        ([predict_log("read", path=["/no/such/file"])], 13, "/no/such/file"),
        ([b"\xff\xff"], 3, "no TFRecord file of PredictionLogs"),
        ([prediction_log_pb2.PredictionLog()], 12, "must be one of"),
    ],
)
def test_a_warm_up_request_that_fails_keeps_the_version_from_serving(store, root, tmp_path, logs, code, words):
    shutil.copytree(root / "toy" / "10", tmp_path / "toy" / ".10")
    write_warm_up(tmp_path / "toy" / ".10", *logs)
    (tmp_path / "toy" / ".10").rename(tmp_path / "toy" / "10")
    store.poll()
    assert states(store) == {10: ("END", code), 2: ("AVAILABLE", 0)}
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(store.status("toy", 10).model_version_status[0].status.error_message)


def test_warm_up_files_that_are_none_or_too_long(store, root, tmp_path):
    shutil.copytree(root / "toy" / "10", tmp_path / "toy" / ".10")
    write_warm_up(tmp_path / "toy" / ".10", *[predict_log("total", value=np.float32([1]))] * 1001)
    (tmp_path / "toy" / ".10").rename(tmp_path / "toy" / "10")
    store.poll()
    assert "more than 1000" in store.status("toy", 10).model_version_status[0].status.error_message
    (tmp_path / "toy" / "10" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"not a TFRecord")
    store.poll()
    assert "no TFRecord" in store.status("toy", 10).model_version_status[0].status.error_message
    with pytest.raises(InputError, match="no TFRecord"):
        ModelStore(tmp_path).start()


def test_states_on_the_way(root, tmp_path, monkeypatch):
    """LOADING while it loads, with the old one answering; by both protocols."""
    copy_of(root / "toy" / "2", tmp_path / "toy" / "2")
    with ModelServer(tmp_path, 0, 0, options=QUICK) as server:
        go_on, load = threading.Event(), versions.load_model

        def slow(*arguments):
            assert go_on.wait(20)
            return load(*arguments)

        monkeypatch.setattr(versions, "load_model", slow)
        targets = [f"127.0.0.1:{server.grpc_port}", f"http://127.0.0.1:{server.rest_port}"]
        with Client(targets[0]) as by_grpc, Client(targets[1]) as by_rest:
            copy_of(root / "toy" / "10", tmp_path / "toy" / "10")
            eventually(lambda: 10 in by_grpc.status("toy"))
            for client in (by_grpc, by_rest):
                assert client.status("toy") == {10: "LOADING", 2: "AVAILABLE"}
                assert client.predict("toy", WEIGHT)["product"].tolist() == [6.0]
            go_on.set()
            eventually(lambda: by_grpc.status("toy") == {10: "AVAILABLE", 2: "END"})
            for client in (by_grpc, by_rest):
                assert client.predict("toy", WEIGHT)["product"].tolist() == [30.0]


def test_versions_change_under_load_without_a_failure(tmp_path):
    """Each answer comes from a whole version; the versions never go back."""
    save_toy(tmp_path / "toy" / "1", factor=1.0)
    failures, products, stop = [], [[] for _ in range(6)], threading.Event()

    def ask(number, target):
        with Client(target) as client:
            while not stop.is_set():
                try:
                    products[number].append(
                        client.predict("toy", {"text": ["a"], "weight": np.float32([1])})["product"]
                    )
                except Exception as error:
                    failures.append(error)

    with ModelServer(tmp_path, 0, 0, options=QUICK) as server, Client(f"127.0.0.1:{server.grpc_port}") as client:
        targets = [f"127.0.0.1:{server.grpc_port}", f"http://127.0.0.1:{server.rest_port}"] * 3
        threads = [threading.Thread(target=ask, args=item) for item in enumerate(targets)]
        for thread in threads:
            thread.start()
        for version in (2, 3):
            save_toy(tmp_path / f".{version}", factor=float(version))
            (tmp_path / f".{version}").rename(tmp_path / "toy" / str(version))
            eventually(lambda version=version: client.status("toy").get(version) == "AVAILABLE", 60)
        eventually(lambda: client.status("toy") == {3: "AVAILABLE", 2: "END", 1: "END"})
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    for found in products:
        values = np.concatenate(found)
        assert set(values) <= {1.0, 2.0, 3.0}
        assert (np.diff(values) >= 0).all()
    assert {value for found in products for value in np.concatenate(found)} == {1.0, 2.0, 3.0}
