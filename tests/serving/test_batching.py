"""The queue and its threads, with functions of numpy in the place of a model."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import pytest

from kbert.errors import InputError
from kbert.serving.batching import Batcher, Joining, Patience
from kbert.serving.calls import Code, ServingError, invalid
from kbert.serving.options import ServerOptions

PLAIN = Joining()


class Graph:
    """Counts characters, 3 texts a row; holds each call until it may go on, and knows what it was called with."""

    def __init__(self):
        self.calls = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, signature, inputs):
        self.calls.append((signature, {name: array.tolist() for name, array in inputs.items()}))
        self.entered.release()
        assert self.gate.wait(10)
        text = inputs["text"]
        if b"bad" in text.ravel().tolist():
            raise invalid("a bad text")
        if signature == "whole":
            return {"total": np.array(len(text))}
        lengths = np.vectorize(len, otypes=[np.int32])(text)
        if signature == "padded":
            marks = [[b"x"] * length + [b""] * (lengths.max() - length) for length in lengths]
            return {"mark_text": np.array(marks, dtype=object).reshape(len(text), -1), "mark_count": lengths}
        return {"length": lengths}


@contextmanager
def batcher_of(graph, **options):
    batches = []
    batcher = Batcher(graph, ServerOptions(**options), lambda *batch: batches.append(batch), "test")
    with ThreadPoolExecutor(50) as pool:

        def ask(*texts, signature="plain", joining=PLAIN, patience=None, **inputs):
            inputs = {"text": np.array(texts, dtype=object), **inputs}
            is_idle = len(graph.calls) < options.get("batch_threads", 1)
            future = pool.submit(batcher.ask, signature, inputs, joining, patience or Patience())
            end = time.monotonic() + 5
            # Those that are held come in the order of these calls: the first is computed, the others wait.
            while not (future.done() or graph.gate.is_set()):
                if is_idle and graph.entered.acquire(blocking=False):
                    break
                if not is_idle and any(waiting.inputs is inputs for waiting in list(batcher._queue)):
                    break
                assert time.monotonic() < end
                time.sleep(0.001)
            return future

        ask.batches = batches
        ask.batcher = batcher
        try:
            yield ask
        finally:
            graph.gate.set()
            batcher.close()


def rows(graph):
    return [inputs["text"] for _, inputs in graph.calls]


def test_what_comes_during_a_batch_is_the_next_one():
    graph = Graph()
    with batcher_of(graph) as ask:
        answers = [ask(b"one"), ask(b"three", b"four"), ask(b"eleven")]
        assert rows(graph) == [[b"one"]]
        graph.gate.set()
        assert [answer.result(5)["length"].tolist() for answer in answers] == [[3], [5, 4], [6]]
    assert rows(graph) == [[b"one"], [b"three", b"four", b"eleven"]]
    (first, second) = ask.batches
    assert (first[0], first[2], second[2]) == ("plain", 1, 3)
    assert len(second[1]) == 2
    assert min(*first[1], *second[1], first[3], second[3]) >= 0


def test_signatures_names_dtypes_and_trailing_shapes_are_not_mixed():
    graph = Graph()
    pairs = np.array([[b"a", b"bcd"]], dtype=object)
    with batcher_of(graph) as ask:
        held = ask(b"held")
        asked = [
            ask(b"a"),
            ask(b"b", signature="other"),
            ask(b"c", weight=np.float32([1])),
            ask(b"d", weight=np.float64([1])),
            ask(text=pairs),
            ask(b"e"),
            ask(b"f", signature="other"),
        ]
        graph.gate.set()
        wait([held, *asked], 5)
        assert asked[4].result()["length"].tolist() == [[1, 3]]
        assert asked[5].result()["length"].tolist() == [1]
    assert [(name, inputs["text"]) for name, inputs in graph.calls[1:]] == [
        ("plain", [b"a", b"e"]),
        ("other", [b"b", b"f"]),
        ("plain", [b"c"]),
        ("plain", [b"d"]),
        ("plain", [[b"a", b"bcd"]]),
    ]


def test_a_batch_has_no_more_rows_than_allowed():
    graph = Graph()
    with batcher_of(graph, max_batch_size=4) as ask:
        ask(b"held")
        asked = [ask(b"a", b"b"), ask(b"c"), ask(b"d", b"e"), ask(b"f", b"g", b"h", b"i", b"j"), ask(b"k")]
        graph.gate.set()
        assert [len(answer.result(5)["length"]) for answer in asked] == [2, 1, 2, 5, 1]
    # What does not fit any more goes before what has come later; what is larger than a batch goes alone.
    assert rows(graph)[1:] == [[b"a", b"b", b"c"], [b"d", b"e", b"k"], [b"f", b"g", b"h", b"i", b"j"]]


def test_a_batch_waits_for_others_no_longer_than_allowed():
    graph = Graph()
    graph.gate.set()
    with batcher_of(graph, batch_timeout_ms=300, max_batch_size=3) as ask:
        start = time.monotonic()
        first, second = ask(b"a"), ask(b"b")
        wait([first, second], 5)
        assert 0.29 < time.monotonic() - start < 2
        start = time.monotonic()
        wait([ask(b"c"), ask(b"d"), ask(b"e")], 5)  # full: nothing to wait for
        assert time.monotonic() - start < 0.25
    assert rows(graph) == [[b"a", b"b"], [b"c", b"d", b"e"]]


def test_one_that_is_wrong_does_no_harm_to_the_others():
    graph = Graph()
    with batcher_of(graph) as ask:
        ask(b"held")
        good, bad, other = ask(b"good"), ask(b"fine", b"bad"), ask(b"others")
        graph.gate.set()
        assert good.result(5)["length"].tolist() == [4]
        assert other.result(5)["length"].tolist() == [6]
        with pytest.raises(ServingError, match="a bad text"):
            bad.result(5)
    assert rows(graph)[1:] == [
        [b"good", b"fine", b"bad", b"others"],
        [b"good"],
        [b"fine", b"bad"],
        [b"others"],
    ]


def test_padding_for_other_requests_is_cut_off():
    graph, padded = Graph(), Joining({"mark_text": "mark_count"})
    with batcher_of(graph) as ask:
        ask(b"held")
        texts = [(b"", b"a"), (b"abc", b"de"), (b"",)]
        asked = [ask(*row, signature="padded", joining=padded) for row in texts]
        graph.gate.set()
        marks = [answer.result(5)["mark_text"] for answer in asked]
    assert len(graph.calls) == 2
    assert [array.shape for array in marks] == [(2, 1), (2, 3), (1, 0)]
    assert marks[1].tolist() == [[b"x", b"x", b"x"], [b"x", b"x", b""]]


def test_requests_that_cannot_be_joined_are_computed_alone():
    graph = Graph()
    with batcher_of(graph) as ask:
        ask(b"held")
        alone = [ask(b"a", joining=None), ask(b"b", joining=None), ask(), ask(b"c", b"d", weight=np.float32([1]))]
        whole = [ask(b"e", signature="whole"), ask(b"f", b"g", signature="whole")]
        graph.gate.set()
        wait([*alone, *whole], 5)
        assert [len(answer.result()["length"]) for answer in (alone[0], alone[1], alone[3])] == [1, 1, 2]
        # Seen to have no rows when they were joined for the first time, and not joined again.
        assert [answer.result()["total"].tolist() for answer in whole] == [1, 2]
        assert rows(graph)[5:] == [[b"e", b"f", b"g"], [b"e"], [b"f", b"g"]]
        more = [ask(b"h", b"i", signature="whole"), ask(b"j", signature="whole"), ask(b"k", signature="whole")]
        assert [answer.result(5)["total"].tolist() for answer in more] == [2, 1, 1]


def test_a_full_queue_refuses_at_once():
    graph = Graph()
    with batcher_of(graph, max_queue=3, max_batch_size=2) as ask:
        ask(b"held")
        taken = [ask(b"a", b"b"), ask(b"c")]
        start = time.monotonic()
        with pytest.raises(ServingError, match="3 rows wait already, of 3") as error:
            ask(b"d").result(1)
        assert time.monotonic() - start < 0.5
        assert error.value.code is Code.RESOURCE_EXHAUSTED
        graph.gate.set()
        assert [len(answer.result(5)["length"]) for answer in taken] == [2, 1]
        # An empty queue takes what it could never take otherwise.
        assert len(ask(*[b"x"] * 10).result(5)["length"]) == 10


def test_two_who_ask_in_turn_always_find_room():
    graph = Graph()
    graph.gate.set()
    with batcher_of(graph, max_queue=2, max_batch_size=2) as ask, ThreadPoolExecutor(2) as pool:

        def ask_in_turn(text: bytes) -> int:
            return sum(len(ask(text, text).result(5)["length"]) for _ in range(300))

        assert list(pool.map(ask_in_turn, (b"a", b"b"))) == [600, 600]


def test_what_nobody_waits_for_is_not_computed_and_takes_no_place():
    graph = Graph()
    cancels = []
    with batcher_of(graph, max_queue=2) as ask:
        ask(b"held")
        late = ask(b"late", patience=Patience(time.monotonic() + 0.05))
        gone = ask(b"gone", patience=Patience(tell_to_cancel=cancels.append))
        cancels[0]()
        with pytest.raises(ServingError) as error:
            gone.result(1)
        assert error.value.code is Code.CANCELLED
        with pytest.raises(ServingError) as error:
            late.result(1)
        assert error.value.code is Code.DEADLINE_EXCEEDED
        asked = [ask(b"a"), ask(b"b")]
        graph.gate.set()
        wait(asked, 5)
    assert rows(graph) == [[b"held"], [b"a", b"b"]]


def test_a_deadline_during_the_computation():
    graph = Graph()
    with batcher_of(graph) as ask:
        with pytest.raises(ServingError) as error:
            ask(b"a", patience=Patience(time.monotonic() + 0.05)).result(1)
        assert error.value.code is Code.DEADLINE_EXCEEDED
        graph.gate.set()
        assert ask(b"b").result(5)["length"].tolist() == [1]


def test_several_threads_compute_several_batches():
    graph = Graph()
    with batcher_of(graph, batch_threads=2) as ask:
        ask(b"a")
        ask(b"b")
        assert sorted(rows(graph)) == [[b"a"], [b"b"]]


def test_closing_computes_what_waits_and_ends_the_threads():
    graph = Graph()
    before = threading.active_count()
    with batcher_of(graph, batch_timeout_ms=5000) as ask:
        graph.gate.set()
        ask.batcher.close()
        with pytest.raises(ServingError) as error:
            ask(b"too late").result(1)
        assert error.value.code is Code.UNAVAILABLE
    graph = Graph()
    graph.gate.set()
    with batcher_of(graph, batch_timeout_ms=5000) as ask:
        waiting = ask(b"abc")
        ask.batcher.close()
        assert waiting.result(2)["length"].tolist() == [3]
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_options_out_of_range():
    for wrong in ({"max_batch_size": 0}, {"batch_timeout_ms": -1}, {"max_queue": 0}, {"poll_seconds": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ServerOptions(**wrong)
